//! Plans whose nodes have disks, with what goes wrong with those: machines that lose their power, one after the other
//! or all at once, disks that are full, slow, fail, or rot.

use crate::plan::{Ask, Fault, Item, Setting};
use crate::rng::Rng;

/// Draws a row of faults: milliseconds since the start, and what happens then.
type Class = fn(&Setting, &mut Rng) -> Vec<(u64, Fault)>;

/// Each on in half of the plans with disks.
const CLASSES: [Class; 6] = [crashes, outage, full, failing, slow, flips];

/// Most faults in a row.
const ROW_MAX: u64 = 6;

/// The longest that a sync takes on a slow disk.
const SLOW_US_MAX: u64 = 3_000_000;

/// In one plan of three nodes have disks, with segments of some records, so that they are ended and swept into
/// snapshots again and again.
pub(crate) fn draw_durable(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if !rng.chance(1, 3) {
        return;
    }
    setting.durable = rng.pick(&[1, 1, 1, 2, 2, 3]);
    // What a segment begins with says where the node stands, and takes some hundred bytes.
    setting.segment_bytes = rng.log_range(2 << 10, 16 << 10);
    setting.snapshot_ratio_percent = rng.pick(&[10, 50, 100, 300]);
    setting.sync_us_mean = rng.log_range(50, 20_000);
    setting.load_us = if rng.chance(1, 2) { rng.log_range(10, 5_000) } else { 0 };
    for class in CLASSES {
        if rng.chance(1, 2) {
            let faults = class(setting, rng);
            items.extend(
                faults.into_iter().map(|(at_ms, fault)| (at_ms * 1_000 + rng.below(1_000), Item::Fault(fault))),
            );
        }
    }
    if rng.chance(1, 3) {
        // Enough for some of the plan's values, or no sweep would ever get past one.
        let pads = items.iter().filter_map(|(_, item)| match item {
            Item::Ask { ask: Ask::Set { pad, .. }, .. } => Some(*pad),
            _ => None,
        });
        setting.queue_bytes_max = 4 * pads.max().unwrap_or(0) + rng.log_range(1 << 10, 32 << 10);
    }
}

/// One machine, or any of them, loses its power, or its process is killed, again and again.
fn crashes(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let (one, all) = (rng.below(setting.nodes), rng.chance(1, 2));
    let row = 0..rng.range(1, ROW_MAX);
    row.map(|_| {
        let node = if all { rng.below(setting.nodes) } else { one };
        let ms = rng.log_range(1, 2 * setting.silence_ms);
        let fault = match rng.chance(1, 4) {
            true => Fault::Kill { node, ms, silent: false, alone: rng.chance(1, 4) },
            false => Fault::Crash { node, ms },
        };
        (rng.below(setting.load_ms), fault)
    })
    .collect()
}

/// All machines lose their power at about the same time, once or twice: what no disk has is gone.
fn outage(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let apart_ms = rng.pick(&[1, 1, 5, setting.heartbeat_ms]);
    let mut faults = Vec::new();
    for _ in 0..rng.range(1, 2) {
        let at_ms = rng.below(setting.load_ms);
        for node in 0..setting.nodes {
            faults
                .push((at_ms + rng.below(apart_ms), Fault::Crash { node, ms: rng.log_range(10, setting.silence_ms) }));
        }
    }
    faults
}

fn full(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let row = 0..rng.range(1, 3);
    row.map(|_| {
        let (node, ms) = (rng.below(setting.nodes), rng.log_range(1, setting.load_ms));
        (rng.below(setting.load_ms), Fault::DiskFull { node, ms })
    })
    .collect()
}

fn failing(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let row = 0..rng.range(1, ROW_MAX);
    row.map(|_| {
        let (node, kind) = (rng.below(setting.nodes), rng.below(3));
        let ms = rng.log_range(1, 2 * setting.silence_ms);
        (rng.below(setting.load_ms), Fault::DiskFail { node, kind, ms })
    })
    .collect()
}

fn slow(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let row = 0..rng.range(1, 3);
    row.map(|_| {
        let (node, us) = (rng.below(setting.nodes), rng.log_range(1_000, SLOW_US_MAX));
        let ms = rng.log_range(1, setting.load_ms);
        (rng.below(setting.load_ms), Fault::DiskSlow { node, ms, us })
    })
    .collect()
}

/// Bits turn on one disk, or on any of them; mostly just before the node is started again and reads them.
fn flips(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let (one, all) = (rng.below(setting.nodes), rng.chance(1, 4));
    for _ in 0..rng.range(1, ROW_MAX) {
        let at_ms = rng.below(setting.load_ms);
        let node = if all { rng.below(setting.nodes) } else { one };
        faults.push((at_ms, Fault::Flip { node, bit: rng.next_u64() >> 32 }));
        if rng.chance(3, 4) {
            let ms = rng.log_range(1, setting.silence_ms);
            faults.push((at_ms + 1, Fault::Kill { node, ms, silent: rng.chance(1, 2), alone: false }));
        }
    }
    faults
}

/// In two of three plans with disks of which none rots the files of a node are copied and put back later, as a backup
/// or by hand, once or twice; often the next run ends soon, before the node has its place again.
///
/// No more than one node is put back: who is restored needs somebody that was not, and so does what all others are to
/// have of it.
pub(crate) fn draw_copies(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    let rots = |item: &Item| matches!(item, Item::Fault(Fault::Flip { .. } | Fault::DiskFail { kind: 2, .. }));
    let leaves = |item: &Item| matches!(item, Item::Ask { ask: Ask::Leave, .. });
    if setting.durable == 0 || items.iter().any(|(_, item)| rots(item) || leaves(item)) || !rng.chance(2, 3) {
        return;
    }
    let node = rng.below(setting.nodes);
    // Where nobody else is named it is the first of a cluster that begins with its backup.
    let others = setting.survivors & !(1 << node);
    let may_restore = setting.nodes == 1 || (others != 0 && !setting.peers(node).is_empty());
    let restores = may_restore && rng.chance(2, 3);
    let mut at_us = rng.below(setting.load_ms * 400);
    for _ in 0..rng.range(1, 2) {
        for _ in 0..rng.range(1, 3) {
            items.push((at_us, Item::Fault(Fault::Backup { node })));
            at_us += rng.log_range(1, setting.load_ms * 50);
        }
        // Old enough that what was deleted since may be forgotten, or as good as new.
        at_us += if rng.chance(2, 3) { rng.below(setting.load_ms * 500) } else { 0 };
        let ms = rng.log_range(1, 2 * setting.silence_ms);
        let back = if restores { Fault::Restore { node, ms } } else { Fault::Rollback { node, ms } };
        items.push((at_us, Item::Fault(back)));
        at_us += 1_000 * ms;
        if rng.chance(1, 2) {
            let soon_us = at_us + rng.log_range(1, 1_000 * setting.silence_ms);
            let ms = rng.log_range(1, setting.silence_ms);
            items.push((soon_us, Item::Fault(Fault::Crash { node, ms })));
        }
        at_us += rng.log_range(1, setting.load_ms * 100);
    }
}
