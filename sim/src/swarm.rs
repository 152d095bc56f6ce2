//! From a seed to a plan: swarm testing (Groce et al., 2012). Each class of fault is on in half of the plans, and each
//! size and time is drawn anew, mostly tiny: few keys, rings that hold a handful of records, timers of milliseconds.

use crate::durable::{draw_copies, draw_durable};
use crate::intruder;
use crate::plan::{Ask, Fault, Item, NODES_MAX, Plan, Setting};
use crate::rng::Rng;
use crate::stories::{draw_broken_sweep, draw_heavy, draw_parting, draw_story};
use crate::weather::draw_weather;

/// Streams of draws, so that a change in one part does not change the others' plans.
const SETTING: u64 = 1;
const WORK: u64 = 2;
const FAULTS: u64 = 3;
const STORY: u64 = 4;
const ROSTER: u64 = 5;
const WAITS: u64 = 6;
const COUNTS: u64 = 7;
const ROT: u64 = 8;
const WEATHER: u64 = 9;
const MOVES: u64 = 10;
const WIDTH: u64 = 11;
const SWEEP: u64 = 20;
const HEAVY: u64 = 40;
const PARTING: u64 = 41;
const DISKS: u64 = 50;
const COPIES: u64 = 51;
const FLUSHES: u64 = 52;
const MESSAGES: u64 = 60;
const HASHES: u64 = 70;
const SECRETS: u64 = 80;
const PROTOCOLS: u64 = 81;

/// Most commands in a plan: enough for any interleaving, few enough for thousands of plans a minute.
const ASKS_MAX: u64 = 400;

/// Most commands that wait, or are about waiting, in a plan.
const WAITS_MAX: u64 = 60;

/// Most commands about counters in a plan.
const COUNTS_MAX: u64 = 150;

/// Most messages in a plan.
const MESSAGES_MAX: u64 = 60;

/// Most big values in a plan, and their size: more than a window and a ring, less than what a link holds for a frame.
const BIG_VALUES_MAX: u64 = 12;
const BIG_BYTES_MAX: u64 = 20_000;

/// Longest wait with an end: well below what a client bears.
const WAIT_MS_MAX: u64 = 400;

/// Classes of faults, each on with probability one half.
const CLASSES: u64 = 10;

/// The plan of `seed`.
#[must_use]
pub fn draw(seed: u64) -> Plan {
    let mut setting = draw_setting(&mut Rng::new(seed, SETTING));
    let mut width = Rng::new(seed, WIDTH);
    if width.chance(1, 40) {
        setting.keys = width.range(110, 220);
    }
    if width.chance(1, 2) {
        setting.collect_slots_max = width.range(1, 4);
    }
    let story = draw_broken_sweep(&mut setting, &mut Rng::new(seed, SWEEP))
        .or_else(|| draw_story(&mut setting, &mut Rng::new(seed, STORY)))
        .or_else(|| draw_heavy(&mut setting, &mut Rng::new(seed, HEAVY)))
        .or_else(|| draw_parting(&mut setting, &mut Rng::new(seed, PARTING)));
    let mut items = story.unwrap_or_else(|| draw_mixed(seed, &setting));
    draw_counts(&mut setting, &mut Rng::new(seed, COUNTS), &mut items);
    draw_forgets(&mut setting, &mut Rng::new(seed, ROSTER), &mut items);
    draw_rot(&setting, &mut Rng::new(seed, ROT), &mut items);
    draw_weather(&setting, &mut Rng::new(seed, WEATHER), &mut items);
    draw_moves(&setting, &mut Rng::new(seed, MOVES), &mut items);
    draw_big_values(&mut width, &mut items);
    draw_durable(&mut setting, &mut Rng::new(seed, DISKS), &mut items);
    draw_copies(&setting, &mut Rng::new(seed, COPIES), &mut items);
    draw_messages(&setting, &mut Rng::new(seed, MESSAGES), &mut items);
    draw_flushes(&setting, &mut Rng::new(seed, FLUSHES), &mut items);
    draw_hashes(&mut setting, &mut Rng::new(seed, HASHES), &mut items);
    draw_secrets(&mut setting, &mut Rng::new(seed, SECRETS), &mut items);
    draw_protocols(&mut setting, &mut Rng::new(seed, PROTOCOLS), &mut items);
    Plan { seed, setting, items }.sorted()
}

/// A plan of a size that others state their speed for: 5 nodes with the timers of production, 30 seconds, 600 commands
/// and a dozen faults of all classes.
#[must_use]
pub fn typical(seed: u64) -> Plan {
    let setting = Setting { keys: 64, load_ms: 30_000, ..Setting::calm(5) };
    let (mut work, mut faults) = (Rng::new(seed, WORK), Rng::new(seed, FAULTS));
    let mut items: Vec<_> = (1..=600)
        .map(|token| {
            let (at_us, client) = (work.below(setting.load_ms * 1_000), work.below(setting.clients));
            let key = work.below(setting.keys);
            let ask = match work.below(10) {
                0 => Ask::Del { key },
                1..5 => Ask::Get { key },
                _ => Ask::Set { key, token, pad: work.below(65), ttl_ms: 0 },
            };
            (at_us, Item::Ask { client, ask })
        })
        .collect();
    for _ in 0..12 {
        let class = faults.below(CLASSES);
        let fault = draw_fault(&setting, &mut faults, class, setting.clock_ahead_ms_max / 2);
        items.push((faults.below(setting.load_ms * 1_000), Item::Fault(fault)));
    }
    Plan { seed, setting, items }.sorted()
}

/// Clients at work, and whatever may go wrong.
fn draw_mixed(seed: u64, setting: &Setting) -> Vec<(u64, Item)> {
    let mut items = draw_work(setting, &mut Rng::new(seed, WORK));
    draw_waits(setting, &mut Rng::new(seed, WAITS), &mut items);
    let mut rng = Rng::new(seed, FAULTS);
    // One plan in ten has no fault at all.
    if !rng.chance(1, 10) {
        draw_faults(setting, &mut rng, &mut items);
    }
    items
}

/// Keyspaces are flushed, and nobody is alone, comes back or loses entries meanwhile: those lift floors, or never had
/// them, which the judge knows nothing of.
fn draw_flushes(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    let lifts = |item: &Item| {
        matches!(
            item,
            Item::Ask { ask: Ask::Forget { .. } | Ask::Leave, .. }
                | Item::Fault(
                    Fault::Rot { .. }
                        | Fault::Kill { alone: true, .. }
                        | Fault::Restore { .. }
                        | Fault::Rollback { .. }
                        | Fault::Flip { .. }
                )
        )
    };
    let is_met = setting.nodes > 1 && matches!(setting.topology, 0 | 3) && setting.absence_ms == 0;
    if !is_met || !rng.chance(2, 5) {
        return;
    }
    items.retain(|(_, item)| !lifts(item));
    for _ in 0..rng.range(1, 6) {
        let client = rng.below(setting.clients);
        items.push((rng.below(setting.load_ms * 1_000), Item::Ask { client, ask: Ask::Flush }));
    }
}

/// In one plan of five keys and counters are fields of hashes, which have no deadlines; some hashes are deleted.
fn draw_hashes(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if !rng.chance(1, 5) {
        return;
    }
    setting.hashes = rng.range(1, 4);
    for (_, item) in items.iter_mut() {
        let Item::Ask { ask, .. } = item else { continue };
        match ask {
            Ask::Set { ttl_ms, .. } | Ask::Start { ttl_ms, .. } => *ttl_ms = 0,
            Ask::Ttl { key } | Ask::Why { key } => *ask = Ask::Get { key: *key },
            _ => {}
        }
    }
    for _ in 0..rng.below(8) {
        let (client, hash) = (rng.below(setting.clients), rng.below(setting.hashes));
        items.push((rng.below(setting.load_ms * 1_000), Item::Ask { client, ask: Ask::Drop { hash } }));
    }
}

/// In half of the plans peers prove to know a secret, which is changed in some; and those who do not know it try.
fn draw_secrets(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    setting.secrets = rng.pick(&[0, 0, 0, 1, 1, 2]);
    if setting.secrets == 0 || rng.chance(1, 2) {
        return;
    }
    for _ in 0..rng.range(1, 8) {
        let (node, kind) = (rng.below(setting.nodes), rng.pick(&intruder::KINDS_WITHOUT_SECRET));
        let (bytes, ms) = (rng.log_range(1, 4 << 10), rng.log_range(1, setting.load_ms));
        items.push((rng.below(setting.load_ms * 1_000), Item::Fault(Fault::Intrude { node, kind, bytes, ms })));
    }
}

/// In a quarter of the plans nodes are of different releases, and in most of these they are upgraded, one after the
/// other.
fn draw_protocols(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if setting.nodes < 2 || !rng.chance(1, 4) {
        return;
    }
    setting.protocols = rng.range(1, 3);
    if rng.chance(1, 4) {
        return;
    }
    let (first_ms, gap_ms) = (rng.below(setting.load_ms), rng.log_range(1, setting.load_ms));
    for node in 0..setting.nodes {
        let (at_ms, ms) = (first_ms + node * gap_ms, rng.log_range(1, setting.silence_ms));
        items.push((at_ms * 1_000, Item::Fault(Fault::Kill { node, ms, silent: false, alone: false })));
    }
}

/// In one plan of ten memories lose entries. In all others there is nothing for scrubbing to find.
fn draw_rot(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if !rng.chance(1, 10) {
        return;
    }
    for _ in 0..rng.range(1, 6) {
        let (node, key) = (rng.below(setting.nodes), rng.below(setting.keys));
        items.push((rng.below(setting.load_ms * 1_000), Item::Fault(Fault::Rot { node, key })));
    }
}

/// Members lose their seats: while others cannot reach them, when they are up, and when they have stopped for ever.
fn draw_forgets(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    let forget = |client, node| Item::Ask { client, ask: Ask::Forget { node } };
    if rng.chance(1, 3) {
        for _ in 0..rng.range(1, 4) {
            let (client, node) = (rng.below(setting.clients), rng.below(setting.nodes));
            items.push((rng.below(setting.load_ms * 1_000), forget(client, node)));
        }
    }
    if rng.chance(1, 6) {
        let client = rng.below(setting.clients);
        let at_ms = rng.below(setting.load_ms);
        items.push((at_ms * 1_000, Item::Ask { client, ask: Ask::Leave }));
        let (node, ms) = (setting.home(client), rng.log_range(1, setting.load_ms));
        // Nobody finds the others through who has left.
        let rest = Setting { survivors: setting.survivors & !(1 << node), ..*setting };
        if !rest.survivors_meet(0) {
            setting.topology = 0;
        }
        if rng.chance(1, 2) {
            let at_ms = at_ms + rng.log_range(1, 10 * setting.heartbeat_ms);
            items.push((at_ms * 1_000, Item::Fault(Fault::Kill { node, ms, silent: false, alone: false })));
        }
    }
    if rng.chance(1, 12) {
        setting.absence_ms = setting.silence_ms * rng.range(1, 6);
    }
    if rng.chance(1, 4) {
        return;
    }
    let is_survivor = |node: &u64| (setting.survivors >> node) & 1 == 1;
    for node in (0..setting.nodes).filter(|node| !is_survivor(node)) {
        let client = (0..setting.nodes).find(is_survivor).unwrap_or(0);
        // The first may come before it is noticed that the node is gone.
        for round in 0..3 {
            let at_ms = setting.load_ms + (1 + 2 * round) * (setting.silence_ms + setting.redial_ms_max);
            items.push((at_ms * 1_000, forget(client, node)));
        }
    }
}

fn draw_setting(rng: &mut Rng) -> Setting {
    let nodes = rng.pick(&[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, NODES_MAX]);
    let calm = Setting::calm(nodes);
    // Tenths of production's timers, mostly one.
    let tenths = rng.pick(&[1, 1, 1, 1, 2, 5, 10]);
    let load_ms = rng.log_range(300, 2_000) * tenths;
    let everyone = (1 << nodes) - 1;
    // In a third of the plans some nodes never come back; one at least does.
    let survivors = if rng.chance(1, 3) { rng.range(1, everyone) } else { everyone };
    Setting {
        nodes,
        clients: nodes * rng.pick(&[1, 1, 2, 3]),
        keys: rng.pick(&[1, 2, 2, 3, 4, 8, 8, 40]),
        counters: 0,
        // Survivors of a chain that has lost a link cannot know each other.
        topology: if survivors == everyone { rng.pick(&[0, 0, 1, 1, 2, 3]) } else { 0 },
        load_ms,
        survivors,
        ring_bytes: if rng.chance(1, 6) { 64 << 10 } else { rng.log_range(256, 4_096) },
        output_bytes_max: if rng.chance(1, 2) { 64 << 10 } else { rng.log_range(64, 1_024) },
        heartbeat_ms: calm.heartbeat_ms * tenths / 10,
        silence_ms: calm.silence_ms * tenths / 10,
        redial_ms_min: calm.redial_ms_min * tenths / 10,
        redial_ms_max: calm.redial_ms_max * tenths / 10,
        relay_ms: calm.relay_ms * tenths / 10,
        orphan_ms: calm.orphan_ms * tenths / 10,
        collect_slots_max: calm.collect_slots_max,
        collect_ms: rng.pick(&[20, 100, 1_000]) * tenths / 10,
        absence_ms: 0,
        clock_ahead_ms_max: rng.pick(&[500, 1_000, 2_000]) * tenths,
        latency_us_min: rng.log_range(20, 2_000),
        latency_us_mean: rng.log_range(50, 1_000 * tenths),
        bandwidth_bytes_per_s: rng.log_range(32 << 10, 64 << 20),
        window_bytes: rng.log_range(512, 64 << 10),
        chunking: rng.pick(&[0, 0, 0, 1, 1, 2]),
        dial_retry_ms: 100 * tenths,
        skew_ms: rng.pick(&[0, 0, 1, 5, 20]),
        linger: u64::from(rng.chance(1, 8)),
        ..calm
    }
}

fn draw_work(setting: &Setting, rng: &mut Rng) -> Vec<(u64, Item)> {
    let asks = rng.log_range(8, ASKS_MAX);
    let (reads, deletes, ttls) = (rng.below(8), rng.pick(&[0, 2, 5, 10]), rng.pick(&[0, 0, 2, 8]));
    let hot = rng.pick(&[0, 5, 9]);
    let pad_max = rng.pick(&[0, 8, 40, 300]);
    let disturbed = rng.chance(1, 2);
    // Writes of two thirds of the plans come in bursts with pauses between them, in which links catch up.
    let bursts = rng.pick(&[0, 4, 10]);
    let mut items = Vec::new();
    for token in 1..=asks {
        let mut at_us = rng.below(setting.load_ms * 1_000);
        if let Some(length_us) = (setting.load_ms * 1_000).checked_div(bursts) {
            at_us = at_us / length_us * length_us + rng.below(length_us / 20 + 1);
        }
        let client = rng.below(setting.clients);
        let key = if rng.chance(hot, 10) { 0 } else { rng.below(setting.keys) };
        let ttl_ms = if rng.chance(ttls, 10) { rng.log_range(1, 2 * setting.load_ms) } else { 0 };
        let ask = match rng.below(20) {
            0 => rng.pick(&[Ask::Ping, Ask::Stats, Ask::Ttl { key }, Ask::Why { key }, Ask::Conflicts]),
            _ if rng.chance(reads, 10) => Ask::Get { key },
            _ if rng.chance(deletes, 20) => Ask::Del { key },
            _ => Ask::Set { key, token, pad: rng.below(pad_max + 1), ttl_ms },
        };
        items.push((at_us, Item::Ask { client, ask }));
        if disturbed && rng.chance(1, 30) {
            items.push((at_us + rng.below(3_000), Item::Hangup { client }));
        }
        if disturbed && rng.chance(1, 30) {
            items.push((at_us, Item::Deaf { client, ms: rng.log_range(1, setting.load_ms) }));
        }
    }
    items
}

/// In half of the plans some clients wait: behind a write of theirs for others to hold it, or at another node for it to
/// come there, and then read it.
fn draw_waits(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if rng.chance(1, 2) {
        return;
    }
    let (rarity, late_us) = (rng.range(1, 8), rng.log_range(1, 20_000));
    let mut waits = Vec::new();
    for (at_us, item) in items.iter() {
        let Item::Ask { client, ask: Ask::Set { key, .. } | Ask::Del { key } } = *item else { continue };
        if waits.len() as u64 >= WAITS_MAX || !rng.chance(1, rarity) {
            continue;
        }
        let ms = if rng.chance(1, 30) { 0 } else { rng.log_range(1, WAIT_MS_MAX) };
        let soon_us = at_us + rng.below(late_us);
        if rng.chance(1, 2) {
            let copies = rng.below(setting.nodes + 1);
            waits.push((soon_us, Item::Ask { client, ask: Ask::Wait { copies, ms } }));
            continue;
        }
        let (other, later_us) = (rng.below(setting.clients), soon_us + rng.below(late_us));
        waits.push((soon_us, Item::Ask { client, ask: Ask::Token }));
        waits.push((later_us, Item::Ask { client: other, ask: Ask::WaitFor { from: client, ms } }));
        waits.push((later_us, Item::Ask { client: other, ask: Ask::Get { key } }));
    }
    items.append(&mut waits);
}

/// In a quarter of the plans clients go from node to node: they hang up where they wrote, take a token with them or
/// not, and read elsewhere.
fn draw_moves(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if setting.nodes == 1 || !rng.chance(1, 4) {
        return;
    }
    let (rarity, late_us) = (rng.range(1, 12), rng.log_range(1, 20_000));
    // Who has its node leave stays there: it was drawn which node that is.
    let leavers: Vec<u64> = items
        .iter()
        .filter_map(|(_, item)| match item {
            Item::Ask { client, ask: Ask::Leave } => Some(*client),
            _ => None,
        })
        .collect();
    let mut moves = Vec::new();
    for (at_us, item) in items.iter() {
        let Item::Ask { client, ask: Ask::Set { key, .. } | Ask::Del { key } } = *item else { continue };
        if leavers.contains(&client) || moves.len() as u64 >= WAITS_MAX || !rng.chance(1, rarity) {
            continue;
        }
        let (node, soon_us) = (rng.below(setting.nodes), at_us + rng.below(late_us));
        let carries = rng.chance(1, 2);
        if carries {
            moves.push((*at_us, Item::Ask { client, ask: Ask::Token }));
        }
        moves.push((soon_us, Item::Move { client, node }));
        if carries {
            let ms = rng.log_range(1, WAIT_MS_MAX);
            moves.push((soon_us, Item::Ask { client, ask: Ask::WaitFor { from: client, ms } }));
        }
        moves.push((soon_us, Item::Ask { client, ask: Ask::Get { key } }));
    }
    items.append(&mut moves);
}

/// In one plan of sixteen some values are a hundred times as big as the others.
fn draw_big_values(rng: &mut Rng, items: &mut [(u64, Item)]) {
    if !rng.chance(1, 16) {
        return;
    }
    let mut left = rng.range(1, BIG_VALUES_MAX);
    for (_, item) in items.iter_mut() {
        if let Item::Ask { ask: Ask::Set { pad, .. }, .. } = item
            && left > 0
            && rng.chance(1, 8)
        {
            *pad = rng.log_range(1_000, BIG_BYTES_MAX);
            left -= 1;
        }
    }
}

/// In a quarter of the plans clients say something, and some of them listen.
fn draw_messages(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if !rng.chance(1, 4) {
        return;
    }
    let pad_max = rng.pick(&[0, 40, 300]);
    let draw_at = |rng: &mut Rng| (rng.below(setting.load_ms * 1_000), rng.below(setting.clients));
    for _ in 0..rng.log_range(1, 2 * setting.clients) {
        let (at_us, client) = draw_at(rng);
        items.push((at_us, Item::Ask { client, ask: Ask::Subscribe }));
    }
    for token in 1..=rng.log_range(4, MESSAGES_MAX) {
        let ((at_us, client), pad) = (draw_at(rng), rng.below(pad_max + 1));
        items.push((at_us, Item::Ask { client, ask: Ask::Publish { token, pad } }));
    }
}

/// In half of the plans clients count, on a few counters of which some are never reset.
fn draw_counts(setting: &mut Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    if rng.chance(1, 2) {
        return;
    }
    setting.counters = rng.range(1, 4);
    let (resets, ttls) = (rng.pick(&[0, 1, 4]), rng.pick(&[0, 0, 5]));
    for _ in 0..rng.log_range(4, COUNTS_MAX) {
        let (at_us, client) = (rng.below(setting.load_ms * 1_000), rng.below(setting.clients));
        let counter = rng.below(setting.counters);
        let ttl_ms = if rng.chance(ttls, 10) { rng.log_range(1, 2 * setting.load_ms) } else { 0 };
        let ask = match rng.below(20) {
            0 | 1 => Ask::Sum { counter },
            // The first is never reset, so its sum is known.
            draw if draw < 2 + resets && counter > 0 => match rng.chance(1, 2) {
                true => Ask::Clear { counter },
                false => Ask::Start { counter, at: rng.below(100), ttl_ms },
            },
            // What only grows is bounded by what was lost.
            _ if counter.is_multiple_of(2) => Ask::Add { counter, amount: rng.pick(&[1, 1, 1, 7, 1_000]) },
            _ => Ask::Add { counter, amount: rng.pick(&[1, 1, -1, 3, -5]) },
        };
        items.push((at_us, Item::Ask { client, ask }));
    }
}

fn draw_faults(setting: &Setting, rng: &mut Rng, items: &mut Vec<(u64, Item)>) {
    let classes: Vec<u64> = (0..CLASSES).filter(|_| rng.chance(1, 2)).collect();
    if classes.is_empty() {
        return;
    }
    // Some plans break clocks by more than the guard admits, most by less; and some by so much that no chain of clocks,
    // each within the bound of the next, could explain the stamps that a node without the guard would take over.
    let clock_ms = setting.clock_ahead_ms_max * rng.pick(&[1, 5, 5, 9, 30, 90, 250]) / 10;
    for _ in 0..rng.log_range(1, 24) {
        let class = rng.pick(&classes);
        let at_us = rng.below(setting.load_ms * 1_000);
        items.push((at_us, Item::Fault(draw_fault(setting, rng, class, clock_ms))));
    }
}

fn draw_fault(setting: &Setting, rng: &mut Rng, class: u64, clock_ms: u64) -> Fault {
    let node = rng.below(setting.nodes);
    let (from, to) = (node, (node + 1 + rng.below(setting.nodes.max(2) - 1)) % setting.nodes);
    // From what nobody notices to what everybody has given up on.
    let ms = rng.log_range(1, 3 * setting.silence_ms);
    match class {
        0 => Fault::Partition { side: 1 << node, ms },
        1 => Fault::Partition { side: rng.below(1 << setting.nodes), ms },
        2 => Fault::Cut { from, to, ms },
        3 => Fault::Stall { from, to, ms },
        4 => Fault::Slow { from, to, ms, factor: rng.log_range(2, 100) },
        5 => Fault::Reset { from, to },
        6 => Fault::HalfOpen { from, to },
        7 => Fault::Kill { node, ms, silent: rng.chance(1, 2), alone: rng.chance(1, 3) },
        8 if rng.chance(1, 4) => Fault::Supersede { node, ms },
        8 => Fault::Pause { node, ms },
        _ => {
            let step_ms = rng.below(2 * clock_ms + 1).cast_signed() - clock_ms.cast_signed();
            Fault::Clock { node, step_ms, drift_ppm: rng.pick(&[0, 0, 200, -200, 5_000, -5_000]) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_text() {
        for seed in 0..50 {
            let plan = draw(seed);
            assert_eq!(plan.to_string().parse::<Plan>().as_ref(), Ok(&plan));
        }
    }

    /// Whoever leaves: nobody is found through who has.
    #[test]
    fn survivors_find_each_other() {
        for seed in 0..4_000 {
            assert!(draw(seed).survivors_meet(0), "seed {seed}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = "seed 1\n5 set client=0 key=x".parse::<Plan>().expect_err("x is no number");
        assert_eq!(error.line, 2);
        assert!("5 dance".parse::<Plan>().is_err());
        assert!("nodes many".parse::<Plan>().is_err());
    }
}
