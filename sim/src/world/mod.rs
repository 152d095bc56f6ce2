//! The world engine: a heap of events over real nodes, and nothing else. No threads, no async, no clock.
//!
//! Time jumps from event to event. A process has a turn when bytes, a connection or a deadline reach it, never else, so
//! that a node whose deadline hides work stands still and is found out. Streams are in `net.rs`, their events in
//! `wire.rs`, processes in `process.rs`, their disks in `disks.rs`, the plan's items and the heal in
//! `faults.rs`, clients in `clients.rs`, who is
//! neither in `intruders.rs`, and in `tell.rs` what is told of them.

mod clients;
mod disks;
mod faults;
mod intruders;
mod net;
mod process;
pub mod scale;
mod tell;
mod wire;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use kv_core::{AddrId, ConnId, Lane, WallMs};

use crate::disk::Disk;
use crate::judge::{EPOCH_MS, Judge, SessionId};
use crate::outcome::{Oracle, Outcome};
use crate::plan::{Plan, size};
use crate::quiet::{self, Counts, Quiet};
use crate::trace::{Trace, Watch};
use clients::Seat;
use net::{Net, Side, StreamId};
use process::Process;
use scale::Meter;

/// Events after which a run is broken off as a livelock: a hundred times what a long one takes.
const EVENTS_MAX: u64 = 20_000_000;

/// Runs `plan` and judges it.
#[must_use]
pub fn run(plan: &Plan, watch: Watch) -> Outcome {
    let mut world = World::new(plan, watch);
    world.start();
    while world.judge.failure().is_none() && !world.over && world.step() {
        if world.events > EVENTS_MAX {
            world.judge.fail(Oracle::Liveness, || format!("{EVENTS_MAX} events and no end"));
        }
    }
    world.judge.stats.simulated_ms = world.now_us / 1_000;
    let (hash, (tail, story)) = (world.trace.hash(), world.trace.into_parts());
    Outcome {
        verdict: world.judge.failure().cloned().map_or(Ok(()), Err),
        trace_hash: hash,
        stats: world.judge.stats,
        marks: world.judge.marks,
        data: world.judge.data(),
        tail,
        story,
    }
}

struct World {
    judge: Judge,
    trace: Trace,
    now_us: u64,
    heap: BinaryHeap<Reverse<Scheduled>>,
    /// Orders events of one instant as they were scheduled.
    ties: u64,
    events: u64,
    net: Net,
    /// All that ever ran, by run.
    processes: Vec<Process>,
    /// By node.
    machines: Vec<Machine>,
    /// By node.
    disks: Vec<Option<Disk>>,
    seats: Vec<Seat>,
    healed: bool,
    quiet: Quiet,
    sends: u64,
    meter: Meter,
    /// For the connections of the process at whose end of turn the world is.
    open: Vec<ConnId>,
    /// The plan's items in the order in which they happen, and the tie of the first.
    items: (Vec<usize>, u64),
    over: bool,
}

/// A machine: what outlives a process.
#[derive(Clone, Copy, Debug)]
struct Machine {
    /// The process that accepts connections.
    process: Option<usize>,
    /// A machine that is down does not even refuse.
    is_up: bool,
    /// Its newest run named no peers though the plan's setting has some.
    is_alone: bool,
    /// Its directory was made of a backup: alone it would begin a cluster of its own.
    is_restored: bool,
    offset_ms: i64,
    drift_ppm: i64,
    /// When the drift began.
    since_us: u64,
}

#[derive(Debug)]
struct Scheduled {
    at_us: u64,
    /// No two have the same.
    tie: u64,
    what: What,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.tie).cmp(&(other.at_us, other.tie))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// An event. Streams are named with their serial, because the event may come after their end.
#[derive(Clone, Copy, Debug)]
enum What {
    /// By its place in the order of items.
    Item(usize),
    Heal,
    /// The survivors are compared.
    Sample,
    Wake {
        process: usize,
    },
    Arrive {
        stream: StreamId,
        serial: u64,
        side: Side,
    },
    Read {
        stream: StreamId,
        serial: u64,
        side: Side,
    },
    Writable {
        stream: StreamId,
        serial: u64,
        side: Side,
    },
    Connect {
        dialer: Dialer,
        from: u64,
        to: u64,
        attempt: u32,
    },
    Connected {
        stream: StreamId,
        serial: u64,
        dialer: Dialer,
    },
    DialFailed {
        dialer: Dialer,
    },
    Accept {
        stream: StreamId,
        serial: u64,
    },
    Uncut {
        from: u64,
        to: u64,
    },
    Unstall {
        from: u64,
        to: u64,
    },
    Unslow {
        from: u64,
        to: u64,
        factor: u64,
    },
    Unthin {
        from: u64,
        to: u64,
        us: u64,
    },
    /// An intruder goes.
    Depart {
        stream: StreamId,
        serial: u64,
    },
    Thaw {
        process: usize,
    },
    Restart {
        node: u64,
        alone: bool,
    },
    /// An operation ends that a disk carries out for its `run`.
    Worked {
        node: u64,
        run: u64,
        lane: Lane,
    },
    /// A process hears of its disk.
    Hear {
        process: usize,
        lane: Lane,
    },
    /// A process reads on in its files.
    Load {
        process: usize,
    },
    Look {
        client: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Dialer {
    Process { process: usize, addr: u32 },
    Client { client: u64, session: SessionId },
}

impl World {
    fn new(plan: &Plan, watch: Watch) -> Self {
        let setting = &plan.setting;
        let machine = |node| Machine {
            process: None,
            is_up: true,
            is_alone: false,
            is_restored: false,
            offset_ms: plan.skew_ms(node, 0),
            drift_ppm: 0,
            since_us: 0,
        };
        Self {
            judge: Judge::new(plan),
            trace: Trace::new(watch),
            now_us: 0,
            heap: BinaryHeap::new(),
            ties: 0,
            events: 0,
            net: Net::new(plan.seed, setting),
            processes: Vec::new(),
            machines: (0..setting.nodes).map(machine).collect(),
            disks: disks::disks(plan),
            seats: (0..setting.clients).map(Seat::new).collect(),
            healed: false,
            quiet: Quiet::default(),
            sends: 0,
            meter: Meter::default(),
            open: Vec::new(),
            items: (Vec::new(), 0),
            over: false,
        }
    }

    fn start(&mut self) {
        if let Some(story) = self.trace.story() {
            story.begin(&self.judge.plan().setting);
        }
        for node in 0..self.judge.plan().setting.nodes {
            self.boot(node, false);
        }
        self.schedule_items();
        self.schedule(self.judge.plan().setting.load_ms * 1_000, What::Heal);
        self.schedule(self.sample_us(), What::Sample);
    }

    /// Lets the next thing happen; false if nothing will any more.
    fn step(&mut self) -> bool {
        let Some(Reverse(event)) = self.heap.pop() else { return false };
        self.now_us = event.at_us;
        self.judge.at(event.at_us);
        self.happen(event.what);
        self.events += 1;
        true
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Item(at) => self.item_at(at),
            What::Heal => self.heal(),
            What::Sample => self.sample(),
            What::Wake { process } => self.wake(process),
            What::Arrive { stream, serial, side } => self.arrive(stream, serial, side),
            What::Read { stream, serial, side } => self.read(stream, serial, side),
            What::Writable { stream, serial, side } => self.writable(stream, serial, side),
            What::Connect { dialer, from, to, attempt } => self.connect(dialer, from, to, attempt),
            What::Connected { stream, serial, dialer } => self.connected(stream, serial, dialer),
            What::DialFailed { dialer } => self.dial_failed(dialer),
            What::Accept { stream, serial } => self.accept(stream, serial),
            What::Thaw { process } => self.thaw(process),
            What::Look { client } => self.look(client),
            What::Worked { node, run, lane } => self.worked(node, run, lane),
            What::Hear { process, lane } => self.hear(process, lane),
            What::Load { process } => self.go_on_loading(process),
            What::Depart { stream, serial } => self.depart(stream, serial),
            _ if self.healed => {}
            What::Uncut { from, to } => {
                self.net.path(from, to).cuts -= 1;
                self.release(from, to);
            }
            What::Unstall { from, to } => {
                self.net.path(from, to).stalls -= 1;
                self.release(from, to);
            }
            What::Unslow { from, to, factor } => self.net.path(from, to).slow -= factor,
            What::Unthin { from, to, us } => self.net.path(from, to).thin -= us,
            What::Restart { node, alone } => self.restart(node, alone),
        }
    }

    /// Only the next item is in the heap at a time, with a tie of those that all were given at the start.
    fn schedule_items(&mut self) {
        let items = &self.judge.plan().items;
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|index| items[*index].0);
        let count = order.len() as u64;
        self.items = (order, self.ties + 1);
        self.ties += count;
        self.schedule_item(0);
    }

    fn schedule_item(&mut self, at: usize) {
        let (order, first_tie) = &self.items;
        let Some(index) = order.get(at).copied() else { return };
        let (at_us, tie) = (self.judge.plan().items[index].0, first_tie + index as u64);
        self.heap.push(Reverse(Scheduled { at_us, tie, what: What::Item(at) }));
    }

    fn item_at(&mut self, at: usize) {
        self.schedule_item(at + 1);
        self.item(self.items.0[at]);
    }

    fn schedule(&mut self, at_us: u64, what: What) {
        self.ties += 1;
        self.heap.push(Reverse(Scheduled { at_us: at_us.max(self.now_us), tie: self.ties, what }));
    }

    fn after_ms(&mut self, ms: u64, what: What) {
        self.schedule(self.now_us + ms * 1_000, what);
    }

    /// Between two samples: often enough to see every heartbeat's effect.
    fn sample_us(&self) -> u64 {
        (self.judge.plan().setting.heartbeat_ms * 500).max(1_000)
    }

    fn wall(&self, node: u64) -> WallMs {
        wall_at(&self.machines, node, self.now_us)
    }

    /// Compares digests always, and after the heal whether the survivors agree.
    fn sample(&mut self) {
        let current: Vec<usize> = self.machines.iter().filter_map(|machine| machine.process).collect();
        let nodes: Vec<_> = current
            .iter()
            .map(|index| (self.processes[*index].host.run, self.processes[*index].host.turn().node()))
            .collect();
        self.judge.compare_digests(&nodes);
        if self.healed {
            let walls: Vec<_> = current.iter().map(|index| self.wall(self.processes[*index].host.node)).collect();
            let difference = self.judge.disagreement(&nodes, &walls);
            if let Some(story) = self.trace.story() {
                story.sampled(self.now_us, difference.as_deref());
            }
            let streams = self.net.streams.iter().flatten().count() as u64;
            let counts = Counts { sends: self.sends, streams, rosters: quiet::rosters(&nodes) };
            let bound_us = quiet::bound_us(&self.judge);
            self.over = self.quiet.sample(&mut self.judge, self.now_us, counts, bound_us, difference);
            if self.over {
                self.judge.check_walks(&nodes);
            }
        }
        self.schedule(self.now_us + self.sample_us(), What::Sample);
    }
}

impl Dialer {
    const fn addr(self) -> Option<AddrId> {
        match self {
            Self::Process { addr, .. } => Some(AddrId(addr)),
            Self::Client { .. } => None,
        }
    }
}

/// What a machine's wall clock shows.
fn wall_at(machines: &[Machine], node: u64, now_us: u64) -> WallMs {
    let Machine { offset_ms, drift_ppm, since_us, .. } = machines[size(node)];
    let drift_ms = drift_ppm * (now_us - since_us).cast_signed() / 1_000_000_000;
    WallMs((EPOCH_MS + now_us / 1_000).saturating_add_signed(offset_ms + drift_ms))
}
