//! What clusters of many nodes cost and how fast they are: measured, not judged.
//!
//! The nodes have the timers of production and name one member when they start. They find each other, each takes a
//! write (who never wrote is in no frontier), they stand idle, one takes another write, and then they are cut into two
//! halves for a minute in which both go on writing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::World;
use crate::plan::{Ask, Fault, Item, Plan, Setting, key_text, size};
use crate::trace::Watch;

/// When every node has taken its first write.
const FIRST_S: u64 = 10;

/// The window in which the cluster is idle: long after it has settled, and many heartbeats.
const IDLE_S: (u64, u64) = (20, 40);

/// When the one write comes.
const WRITE_S: u64 = 45;

/// The cut.
const CUT_S: (u64, u64) = (50, 110);

/// Writes of each half during the cut.
const WRITES: u64 = 100;

/// Keys that all of this is written to.
const KEYS: u64 = 10;

/// Bytes of their values, more or less.
const PAD_BYTES: u64 = 100;

/// Until when the halves must have come together.
const END_S: u64 = 170;

/// What was measured, in microseconds and in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// How many nodes.
    pub nodes: u64,
    /// From the start until every node has a link each way with every other.
    pub meshed_us: Option<u64>,
    /// Links of the node that has most of them.
    pub links: usize,
    /// Sent by the node that sends most while all are idle, each second.
    pub idle_bytes_per_s: u64,
    /// And in how many writes to its sockets.
    pub idle_writes_per_s: u64,
    /// The most common of these writes: a heartbeat.
    pub heartbeat_bytes: u64,
    /// From a client's command until every node holds what it wrote.
    pub written_us: Option<u64>,
    /// From the end of the cut until every node holds everything.
    pub converged_us: Option<u64>,
}

/// What nodes handed to their sockets.
#[derive(Debug, Default)]
pub(super) struct Meter {
    is_on: bool,
    /// By node: writes and bytes.
    sent: BTreeMap<u64, (u64, u64)>,
    /// By size: how many writes.
    sizes: BTreeMap<u64, u64>,
}

impl Meter {
    pub(super) fn note(&mut self, node: u64, bytes: u64) {
        if self.is_on {
            let sent = self.sent.entry(node).or_default();
            *sent = (sent.0 + 1, sent.1 + bytes);
            *self.sizes.entry(bytes).or_default() += 1;
        }
    }
}

/// Measures a cluster of so many nodes.
#[must_use]
pub fn measure(nodes: u64) -> Scale {
    let plan = plan(nodes);
    let mut world = World::new(&plan, Watch::Hash);
    world.start();
    let meshed_us = world.run_until(FIRST_S, &|world: &World| world.links().all(|links| links == links_max(nodes)));
    world.pass_until(IDLE_S.0);
    world.meter.is_on = true;
    world.pass_until(IDLE_S.1);
    let meter = std::mem::take(&mut world.meter);
    let window_s = IDLE_S.1 - IDLE_S.0;
    let links = world.links().max().unwrap_or(0);
    world.pass_until(WRITE_S);
    let written_us = world.run_until(CUT_S.0, &|world: &World| world.is_everywhere(0));
    world.pass_until(CUT_S.1);
    let converged_us = world.run_until(END_S, &|world: &World| (0..KEYS).all(|key| world.is_everywhere(key)));
    let since = |at_us: Option<u64>, s: u64| at_us.map(|at_us| at_us - s * 1_000_000);
    Scale {
        nodes,
        meshed_us,
        links,
        idle_bytes_per_s: meter.sent.values().map(|sent| sent.1).max().unwrap_or(0) / window_s,
        idle_writes_per_s: meter.sent.values().map(|sent| sent.0).max().unwrap_or(0) / window_s,
        heartbeat_bytes: meter.sizes.iter().max_by_key(|(_, count)| **count).map_or(0, |(bytes, _)| *bytes),
        written_us: since(written_us, WRITE_S),
        converged_us: since(converged_us, CUT_S.1),
    }
}

fn plan(nodes: u64) -> Plan {
    let set = |client, key, token| Item::Ask { client, ask: Ask::Set { key, token, pad: PAD_BYTES, ttl_ms: 0 } };
    let cut_ms = (CUT_S.1 - CUT_S.0) * 1_000;
    let half = Fault::Partition { side: (1 << (nodes / 2)) - 1, ms: cut_ms };
    let mut items = vec![(WRITE_S * 1_000_000, set(0, 0, 0)), (CUT_S.0 * 1_000_000, Item::Fault(half))];
    items.extend((0..nodes).map(|node| (FIRST_S * 1_000_000, set(node, 1, 1 + node))));
    for write in 0..2 * WRITES {
        let at_us = CUT_S.0 * 1_000_000 + (write + 1) * cut_ms * 1_000 / (2 * WRITES + 2);
        // The halves have keys of their own.
        let client = if write.is_multiple_of(2) { 0 } else { nodes - 1 };
        items.push((at_us, set(client, 2 + write % (KEYS - 2), 1_000 + write)));
    }
    let setting = Setting {
        topology: 1,
        keys: KEYS,
        load_ms: 2 * END_S * 1_000,
        ring_bytes: 1 << 20,
        bandwidth_bytes_per_s: 100 << 20,
        ..Setting::calm(nodes)
    };
    Plan { seed: nodes, setting, items }.sorted()
}

fn links_max(nodes: u64) -> usize {
    2 * (size(nodes) - 1)
}

impl World {
    /// Runs until something is so, and tells when that was; `None` if it is not by the end.
    fn run_until(&mut self, end_s: u64, is_so: &dyn Fn(&Self) -> bool) -> Option<u64> {
        while !is_so(self) {
            self.step_before(end_s).then_some(())?;
        }
        Some(self.now_us)
    }

    fn pass_until(&mut self, end_s: u64) {
        while self.step_before(end_s) {}
    }

    /// Lets one more thing happen, unless that is only to happen after `end_s`.
    fn step_before(&mut self, end_s: u64) -> bool {
        if self.heap.peek().is_none_or(|Reverse(event)| event.at_us > end_s * 1_000_000) {
            return false;
        }
        self.step()
    }

    fn links(&self) -> impl Iterator<Item = usize> {
        self.processes.iter().map(|process| process.host.turn().node().gauges().links.0)
    }

    /// Whether all nodes hold the same of a key.
    fn is_everywhere(&self, key: u64) -> bool {
        let text = key_text(key);
        let mut held = self.processes.iter().map(|process| {
            let record = process.host.turn().node().peek(text.as_bytes());
            record.map(|record| record.version)
        });
        let first = held.next().flatten();
        first.is_some() && held.all(|version| version == first)
    }
}
