//! Plans that tell a story: rare turns of events, each of which a rule of the protocol is there for.

use crate::plan::{Ask, Fault, Item, Setting};
use crate::rng::Rng;

/// What chance alone seldom brings about, told on purpose in some plans.
pub(crate) fn draw_story(setting: &mut Setting, rng: &mut Rng) -> Option<Vec<(u64, Item)>> {
    if setting.nodes > 2 && rng.chance(1, 8) {
        return Some(draw_lost_heir(setting, rng));
    }
    if setting.nodes != 3 {
        return None;
    }
    match rng.below(16) {
        0 => Some(draw_inherited_grave(setting, rng)),
        1 => Some(draw_hasty_forget(setting, rng)),
        2 => Some(draw_walk_home(setting, rng)),
        _ => None,
    }
}

/// One node is cut off and forgotten, and what it holds is deleted and collected. Then the second one starts anew and
/// has all that it knows from the first, which dies; so when the third comes back, the second alone can tell it what
/// was deleted: it must know of graves that it never saw.
fn draw_inherited_grave(setting: &mut Setting, rng: &mut Rng) -> Vec<(u64, Item)> {
    setting.keys = rng.range(1, 8);
    setting.load_ms = setting.load_ms.max(20 * setting.silence_ms);
    let tenth_ms = setting.load_ms / 10;
    let away = rng.below(3);
    let (first, second) = ((away + 1) % 3, (away + 2) % 3);
    let mut items = Vec::new();
    for token in 1..=rng.range(4, 20) {
        let (key, client) = (rng.below(setting.keys), rng.below(3));
        let at_us = rng.below(tenth_ms * 1_000);
        items.push((at_us, Item::Ask { client, ask: Ask::Set { key, token, pad: rng.below(40), ttl_ms: 0 } }));
    }
    items.push((2 * tenth_ms * 1_000, Item::Fault(Fault::Partition { side: 1 << away, ms: 6 * tenth_ms })));
    items.push((4 * tenth_ms * 1_000, Item::Ask { client: first, ask: Ask::Forget { node: away } }));
    for key in 0..setting.keys {
        let at_us = 4 * tenth_ms * 1_000 + rng.below(tenth_ms * 100);
        items.push((at_us, Item::Ask { client: first, ask: Ask::Del { key } }));
    }
    for (at_ms, node, ms) in [(6 * tenth_ms, second, 1), (15 * tenth_ms / 2, first, 2 * tenth_ms)] {
        items.push((at_ms * 1_000, Item::Fault(Fault::Kill { node, ms, silent: rng.chance(1, 2), alone: false })));
    }
    items
}

/// A node is forgotten by one that cannot reach it, while the third still takes its writes, which are long under way.
/// What the first deletes, and the third has seen deleted, must not be collected by a roster that the third has not
/// heard of.
fn draw_hasty_forget(setting: &mut Setting, rng: &mut Rng) -> Vec<(u64, Item)> {
    setting.keys = rng.range(1, 3);
    setting.collect_ms = (setting.heartbeat_ms / 10).max(1);
    setting.latency_us_min = 20;
    setting.latency_us_mean = rng.log_range(50, 1_000);
    setting.bandwidth_bytes_per_s = 64 << 20;
    setting.window_bytes = 64 << 10;
    setting.load_ms = setting.load_ms.max(12 * setting.silence_ms);
    let away = rng.below(3);
    let (first, second) = ((away + 1) % 3, (away + 2) % 3);
    let mut items = Vec::new();
    let apart_ms = setting.load_ms;
    for (from, to) in [(first, away), (away, first)] {
        items.push((setting.load_ms * 100, Item::Fault(Fault::Cut { from, to, ms: apart_ms })));
    }
    // It takes some heartbeats from the one that is forgotten to the third.
    let late_us = setting.heartbeat_ms * 1_000 * rng.range(3, 12);
    let factor = late_us / (setting.latency_us_min + setting.latency_us_mean);
    items.push((
        setting.load_ms * 300,
        Item::Fault(Fault::Slow { from: away, to: second, ms: setting.load_ms, factor }),
    ));
    let at_us = setting.load_ms * 600;
    let mut token = 0;
    let mut set = |at_us, client, key| {
        token += 1;
        (at_us, Item::Ask { client, ask: Ask::Set { key, token, pad: 0, ttl_ms: 0 } })
    };
    for key in 0..setting.keys {
        items.push(set(at_us - 3 * late_us / 2, first, key));
    }
    for _ in 0..rng.range(20, 100) {
        items.push(set(at_us - rng.below(late_us), away, rng.below(setting.keys)));
    }
    for key in 0..setting.keys {
        items.push((at_us, Item::Ask { client: first, ask: Ask::Del { key } }));
    }
    let forgets_us = at_us + rng.below(late_us);
    items.push((forgets_us, Item::Ask { client: first, ask: Ask::Forget { node: away } }));
    items
}

/// A member that was forgotten comes back in the first moments of the first walk that collects: the one that it is
/// swept by has forgotten nothing yet, so the sweep tells nothing of what is gone. What such a walk took out further on
/// would stay with the one that came back. The sweep is long, and most graves that the walk comes to are too young.
fn draw_walk_home(setting: &mut Setting, rng: &mut Rng) -> Vec<(u64, Item)> {
    /// Keys with a grave that is old enough, those with one, and all.
    const OLD: u64 = 2;
    const GRAVES: u64 = 16;
    const KEYS: u64 = 40;
    setting.keys = KEYS;
    setting.topology = 0;
    setting.survivors = (1 << setting.nodes) - 1;
    setting.collect_slots_max = 1;
    setting.ring_bytes = 1 << 20;
    setting.latency_us_min = 20;
    setting.latency_us_mean = rng.log_range(20, 200);
    setting.bandwidth_bytes_per_s = rng.pick(&[8, 16, 32]) << 20;
    setting.window_bytes = 64 << 10;
    setting.chunking = 0;
    (setting.redial_ms_min, setting.redial_ms_max, setting.dial_retry_ms) = (5, 10, 5);
    let heartbeat_ms = setting.heartbeat_ms;
    let cut_ms = 6 * heartbeat_ms;
    // The roster is sealed when the first walk is due, and the second one is the first that takes anything out.
    setting.collect_ms = cut_ms + setting.silence_ms + 4 * heartbeat_ms;
    let (forgets_ms, walks_ms) = (setting.collect_ms + 2 * heartbeat_ms, 2 * setting.collect_ms);
    setting.load_ms = walks_ms + 20 * heartbeat_ms;
    let away = rng.below(3);
    let client = (away + 1) % 3;
    // The order of the walk is that of the keys' hashes: as good as any other.
    let mut items = Vec::new();
    for key in 0..KEYS {
        let pad = if key < GRAVES { 0 } else { rng.range(40_000, 60_000) };
        let ask = Ask::Set { key, token: key + 1, pad, ttl_ms: 0 };
        items.push((rng.below(cut_ms * 500), Item::Ask { client, ask }));
    }
    let back_ms = walks_ms - 8 + rng.below(20);
    items.push((cut_ms * 1_000, Item::Fault(Fault::Partition { side: 1 << away, ms: back_ms - cut_ms })));
    for key in 0..GRAVES {
        let at_us = match key < OLD {
            true => cut_ms * 1_000 + rng.below(setting.silence_ms * 1_000),
            false => walks_ms * 1_000 - rng.below(6_000),
        };
        items.push((at_us, Item::Ask { client, ask: Ask::Del { key } }));
    }
    items.push((forgets_ms * 1_000, Item::Ask { client, ask: Ask::Forget { node: away } }));
    items
}

/// Values that are large for the buffers of a link, and a node that is cut off from who writes them: when it is back,
/// there is more to send at once than a link may hold, and nobody who takes it fast.
pub(crate) fn draw_heavy(setting: &mut Setting, rng: &mut Rng) -> Option<Vec<(u64, Item)>> {
    if setting.nodes < 2 || !rng.chance(1, 40) {
        return None;
    }
    setting.keys = rng.range(8, 16);
    setting.ring_bytes = rng.pick(&[64 << 10, 1 << 20, 2 << 20]);
    setting.bandwidth_bytes_per_s = rng.log_range(512 << 10, 16 << 20);
    setting.window_bytes = 64 << 10;
    setting.chunking = 0;
    setting.load_ms = setting.load_ms.max(10 * setting.silence_ms);
    let node = rng.below(setting.nodes);
    let (from_ms, ms) = (setting.load_ms / 10, setting.load_ms / 2);
    let mut items = vec![(from_ms * 1_000, Item::Fault(Fault::Partition { side: 1 << node, ms }))];
    for token in 1..=rng.range(20, 40) {
        let at_us = from_ms * 1_000 + rng.below(ms * 1_000);
        let client = (node + 1 + rng.below(setting.nodes - 1)) % setting.nodes;
        let (key, pad) = (rng.below(setting.keys), rng.range(24 << 10, 60 << 10));
        items.push((at_us, Item::Ask { client, ask: Ask::Set { key, token, pad, ttl_ms: 0 } }));
        if rng.chance(1, 4) {
            let at_us = at_us + rng.below(ms * 1_000);
            items.push((at_us, Item::Ask { client: rng.below(setting.clients), ask: Ask::Get { key } }));
        }
    }
    // A client that asks for all of it and reads nothing.
    let (client, at_ms) = (rng.below(setting.clients), from_ms + ms);
    items.push((at_ms * 1_000, Item::Deaf { client, ms }));
    let gets = (0..2 * setting.keys).map(|at| Item::Ask { client, ask: Ask::Get { key: at % setting.keys } });
    items.extend(gets.map(|get| (at_ms * 1_000, get)));
    Some(items)
}

/// A node takes a burst of writes and is asked to leave at once, over links on which statements overtake records.
pub(crate) fn draw_parting(setting: &mut Setting, rng: &mut Rng) -> Option<Vec<(u64, Item)>> {
    if setting.nodes < 2 || !rng.chance(1, 40) {
        return None;
    }
    setting.keys = 40;
    setting.topology = 0;
    setting.bandwidth_bytes_per_s = thin(setting, rng);
    setting.load_ms = setting.load_ms.max(20 * setting.heartbeat_ms);
    let client = rng.below(setting.nodes);
    let at_ms = setting.load_ms / 3;
    let mut items = Vec::new();
    for token in 1..=rng.range(20, 60) {
        let at_us = at_ms * 1_000 + rng.below(1_000);
        let (key, pad) = (rng.below(setting.keys), rng.range(100, 300));
        items.push((at_us, Item::Ask { client, ask: Ask::Set { key, token, pad, ttl_ms: 0 } }));
    }
    items.push(((at_ms + 1) * 1_000, Item::Ask { client, ask: Ask::Leave }));
    Some(items)
}

/// A node writes on its own, more than its ring holds, and dies while the others begin to catch up: what it leaves
/// behind is with some and not with others, and nobody lives who could tell. Chance alone seldom gets so far.
fn draw_lost_heir(setting: &mut Setting, rng: &mut Rng) -> Vec<(u64, Item)> {
    setting.keys = 40;
    setting.ring_bytes = rng.log_range(256, 1_024);
    setting.bandwidth_bytes_per_s = rng.log_range(16 << 10, 512 << 10);
    setting.load_ms = setting.load_ms.max(20 * setting.heartbeat_ms);
    let node = rng.below(setting.nodes);
    let apart_ms = setting.load_ms / 2;
    let mut items = vec![(0, Item::Fault(Fault::Partition { side: 1 << node, ms: apart_ms }))];
    for token in 1..=rng.range(20, 80) {
        let at_us = rng.below(apart_ms * 1_000);
        // Most of the writes are the lonely node's.
        let client = if rng.chance(9, 10) { node } else { rng.below(setting.clients) };
        let (key, pad) = (rng.below(setting.keys), rng.below(300));
        items.push((at_us, Item::Ask { client, ask: Ask::Set { key, token, pad, ttl_ms: 0 } }));
    }
    let dies_ms = apart_ms + rng.log_range(1, 4 * setting.heartbeat_ms);
    let (ms, silent) = (rng.log_range(1, setting.load_ms), rng.chance(1, 2));
    items.push((dies_ms * 1_000, Item::Fault(Fault::Kill { node, ms, silent, alone: false })));
    if rng.chance(1, 2) {
        draw_late_writes(setting, rng, dies_ms, &mut items);
    }
    items
}

/// Those who are left write again while what was left behind is still being announced, one of them by a clock that is
/// behind: what it is told of was stamped later than it is for this node.
fn draw_late_writes(setting: &Setting, story: &mut Rng, from_ms: u64, items: &mut Vec<(u64, Item)>) {
    let (node, behind_ms) = (story.below(setting.nodes), story.log_range(1, setting.clock_ahead_ms_max));
    let step_ms = -behind_ms.cast_signed();
    items.push((0, Item::Fault(Fault::Clock { node, step_ms, drift_ppm: 0 })));
    let first = items.len() as u64;
    for token in first..first + story.range(4, 60) {
        let at_us = from_ms * 1_000 + story.below(setting.load_ms * 500);
        let (key, client) =
            (story.below(setting.keys), if story.chance(1, 2) { node } else { story.below(setting.clients) });
        items.push((at_us, Item::Ask { client, ask: Ask::Set { key, token, pad: story.below(40), ttl_ms: 0 } }));
    }
}

/// A node misses more than the others' rings hold, and the sweep that brings it is slow; while it is under way links
/// break and processes end, clients write and delete, and what was deleted before is collected.
pub(crate) fn draw_broken_sweep(setting: &mut Setting, rng: &mut Rng) -> Option<Vec<(u64, Item)>> {
    if setting.nodes < 2 || !rng.chance(1, 12) {
        return None;
    }
    setting.keys = rng.range(20, 40);
    setting.ring_bytes = rng.log_range(256, 1_024);
    setting.window_bytes = rng.log_range(512, 4_096);
    setting.bandwidth_bytes_per_s = thin(setting, rng);
    setting.load_ms = setting.load_ms.max(10 * setting.silence_ms);
    setting.collect_ms = rng.log_range(setting.heartbeat_ms, 4 * setting.silence_ms);
    let node = rng.below(setting.nodes);
    let other = |rng: &mut Rng| (node + 1 + rng.below(setting.nodes - 1)) % setting.nodes;
    // For longer than a link bears, or what was missed would wait in buffers. Who was cut off dials after a while, who
    // starts anew at once.
    let (from_ms, ms) = (setting.load_ms / 5, 2 * setting.silence_ms);
    let (away, late_ms) = match rng.chance(1, 2) {
        true => (Fault::Partition { side: 1 << node, ms }, setting.redial_ms_max),
        false => (Fault::Kill { node, ms, silent: false, alone: false }, 0),
    };
    let mut items = vec![(from_ms * 1_000, Item::Fault(away))];
    let begins_us = (from_ms + ms) * 1_000;
    let sweep_us = late_ms * 1_000 + setting.keys * 250 * 1_000_000 / setting.bandwidth_bytes_per_s;
    for token in 1..=rng.range(60, 160) {
        let key = rng.below(setting.keys);
        // Some before the cut, most in it, some while the sweep is under way.
        let (at_us, client) = match rng.below(8) {
            0 | 1 => (rng.below(from_ms * 1_000), other(rng)),
            2 | 3 => (begins_us + rng.below(sweep_us), rng.below(setting.nodes)),
            _ => (from_ms * 1_000 + rng.below(ms * 1_000), other(rng)),
        };
        let ask = match rng.below(5) {
            0 => Ask::Del { key },
            _ => Ask::Set { key, token, pad: rng.range(100, 300), ttl_ms: 0 },
        };
        items.push((at_us, Item::Ask { client, ask }));
    }
    for _ in 0..rng.range(2, 5) {
        let (at_us, ms) = (begins_us + rng.below(sweep_us), rng.log_range(1, 2 * setting.silence_ms));
        let victim = if rng.chance(1, 2) { node } else { other(rng) };
        // Whoever sends the sweep.
        let each = |fault: fn(u64, u64) -> Fault| {
            let others = (0..setting.nodes).filter(move |other| *other != node);
            others.map(move |other| (at_us, Item::Fault(fault(node, other))))
        };
        match rng.below(6) {
            0..3 => items.extend(each(|from, to| Fault::Reset { from, to })),
            3 => items.extend(each(|from, to| Fault::HalfOpen { from, to })),
            4 => items.push((at_us, Item::Fault(Fault::Partition { side: 1 << victim, ms }))),
            _ => {
                let silent = rng.chance(1, 2);
                items.push((at_us, Item::Fault(Fault::Kill { node: victim, ms, silent, alone: false })));
            }
        }
    }
    Some(items)
}

/// A bandwidth at which much takes long. A segment is through in a quarter of a silence: a thinner link looks dead
/// whenever one is on it.
fn thin(setting: &Setting, rng: &mut Rng) -> u64 {
    let least = 4 * 1_448 * 1_000 / setting.silence_ms;
    rng.log_range(least, 8 * least)
}
