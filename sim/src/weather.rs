//! Faults that come in rows: links that flap, restarts one after the other, clocks that jump back and forth, and what
//! wears a cluster down meanwhile: thin links, wrong bits, intruders. Each row is made of faults of its own, so that a
//! plan is shrunk to those that matter.

use crate::intruder;
use crate::plan::{Fault, Item, Setting};
use crate::rng::Rng;

/// Draws a row of faults: milliseconds since the start, and what happens then.
type Class = fn(&Setting, &mut Rng) -> Vec<(u64, Fault)>;

/// Classes of weather, each on in one of four plans that have any.
const CLASSES: [Class; 8] = [flaps, storm, rolling, swizzle, to_and_fro, thin, garbled, intruders];

/// Most faults in a row.
const ROW_MAX: u64 = 12;

/// In half of the plans the faults of some of these classes are added to all others.
pub(crate) fn draw_weather(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if rng.chance(1, 2) {
        return;
    }
    for class in CLASSES {
        if rng.chance(1, 4) {
            let faults = class(setting, rng);
            items.extend(faults.into_iter().map(|(at_ms, fault)| (at_ms * 1_000, Item::Fault(fault))));
        }
    }
}

/// A link, one way or both, or all links of a node, go down and up again and again.
fn flaps(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (from, to) = two(setting, rng);
    let (down_ms, up_ms) = (rng.log_range(1, 2 * setting.silence_ms), rng.log_range(1, 2 * setting.silence_ms));
    let (first_ms, mode) = (rng.below(setting.load_ms), rng.below(3));
    let row = (0..rng.range(2, ROW_MAX)).map(|round| first_ms + round * (down_ms + up_ms));
    row.map(|at_ms| match mode {
        0 => (at_ms, Fault::Cut { from, to, ms: down_ms }),
        1 => (at_ms, Fault::Partition { side: 1 << from, ms: down_ms }),
        _ => (at_ms, Fault::Stall { from, to, ms: down_ms }),
    })
    .collect()
}

/// One node, or any of them, is killed again as soon as it has come up.
fn storm(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (one, all) = (rng.below(setting.nodes), rng.chance(1, 2));
    let gap_ms = rng.log_range(1, 2 * setting.silence_ms);
    let mut at_ms = rng.below(setting.load_ms);
    let mut faults = Vec::new();
    for _ in 0..rng.range(2, ROW_MAX) {
        let node = if all { rng.below(setting.nodes) } else { one };
        let (ms, silent) = (rng.log_range(1, gap_ms), rng.chance(1, 3));
        faults.push((at_ms, Fault::Kill { node, ms, silent, alone: false }));
        at_ms += ms + rng.below(gap_ms + 1);
    }
    faults
}

/// All nodes are restarted one after the other, as for an upgrade.
fn rolling(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (first_ms, ms) = (rng.below(setting.load_ms), rng.log_range(1, setting.silence_ms));
    // Before the one before is back, and long after.
    let gap_ms = rng.log_range(ms.div_ceil(2), 4 * setting.silence_ms);
    let row = (0..setting.nodes).map(|node| (first_ms + node * gap_ms, node));
    row.map(|(at_ms, node)| (at_ms, Fault::Kill { node, ms, silent: false, alone: false })).collect()
}

/// A node's links go one by one and come back in another order (FoundationDB's swizzle).
fn swizzle(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (from, first_ms) = (rng.below(setting.nodes), rng.below(setting.load_ms));
    let (mut at_ms, mut faults) = (first_ms, Vec::new());
    for to in (0..setting.nodes).filter(|to| *to != from) {
        at_ms += rng.below(setting.heartbeat_ms + 1);
        let ms = rng.log_range(setting.heartbeat_ms, 4 * setting.silence_ms);
        let (from, to) = if rng.chance(1, 2) { (from, to) } else { (to, from) };
        faults.push((at_ms, Fault::Cut { from, to, ms }));
    }
    faults
}

/// A wall clock jumps there and back.
fn to_and_fro(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let node = rng.below(setting.nodes);
    let step_ms = rng.log_range(1, setting.clock_ahead_ms_max / 2).cast_signed();
    let gap_ms = rng.log_range(1, setting.silence_ms);
    let first_ms = rng.below(setting.load_ms);
    let row = (0..rng.range(2, ROW_MAX)).map(|round| (first_ms + round * gap_ms, round.is_multiple_of(2)));
    row.map(|(at_ms, there)| {
        let step_ms = if there { step_ms } else { -step_ms };
        (at_ms, Fault::Clock { node, step_ms, drift_ppm: 0 })
    })
    .collect()
}

/// A link has less bandwidth: a full window takes no longer than half of a silence.
fn thin(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (from, to) = two(setting, rng);
    let us = rng.log_range(10, 500 * setting.silence_ms / (setting.window_bytes / 1_024 + 1));
    let ms = rng.log_range(setting.heartbeat_ms, setting.load_ms);
    vec![(rng.below(setting.load_ms), Fault::Thin { from, to, ms, us })]
}

fn garbled(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let row = 0..rng.range(1, ROW_MAX);
    row.map(|_| {
        let (from, to) = two(setting, rng);
        (rng.below(setting.load_ms), Fault::Garble { from, to })
    })
    .collect()
}

fn intruders(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let row = 0..rng.range(1, ROW_MAX);
    row.map(|_| {
        let (node, kind) = (rng.below(setting.nodes), rng.below(intruder::KINDS));
        let (bytes, ms) = (rng.log_range(1, 16 << 10), rng.log_range(1, setting.load_ms));
        (rng.below(setting.load_ms), Fault::Intrude { node, kind, bytes, ms })
    })
    .collect()
}

/// Two nodes; the same twice where there is one.
fn two(setting: &Setting, rng: &mut Rng) -> (u64, u64) {
    let from = rng.below(setting.nodes);
    (from, (from + 1 + rng.below(setting.nodes.max(2) - 1)) % setting.nodes)
}
