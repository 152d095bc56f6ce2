//! The same plans over a transport that we did not write. `SIM_TURMOIL_SEEDS=n` runs n of them instead of the usual
//! forty.

use std::collections::BTreeMap;
use std::process::Command;

use sim::plan::{Ask, Item, Setting};
use sim::{Engine, Plan, Watch, swarm};

/// They take some five seconds on one slow core.
const SEEDS: u64 = 40;

/// Enough for every kind of fault.
const DETERMINISM_SEEDS: u64 = 12;

/// Between two commands of a plan without faults: longer than a write takes to reach every node, so that nothing that
/// follows depends on an engine's latencies.
const GAP_US: u64 = 30_000;

#[test]
fn drawn_plans_pass() {
    let count = std::env::var("SIM_TURMOIL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let failures: Vec<String> = (0..count)
        .filter_map(|seed| {
            let failure = Engine::Turmoil.run(&swarm::draw(seed), Watch::Hash).verdict.err()?;
            Some(format!("{failure}\n  replay: cargo run -p sim --release -- --engine turmoil --seed {seed} --trace"))
        })
        .collect();
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn without_faults_both_engines_end_in_the_same_data() {
    for seed in 0..10 {
        let plan = calm(seed);
        let [world, turmoil] = [Engine::World, Engine::Turmoil].map(|engine| engine.run(&plan, Watch::Hash));
        assert_eq!((&world.verdict, &turmoil.verdict), (&Ok(()), &Ok(())), "seed {seed}");
        assert_eq!(world.data, turmoil.data, "seed {seed}");
        let mut last = BTreeMap::new();
        for (_, item) in &plan.items {
            match item {
                Item::Ask { ask: Ask::Set { key, token, .. }, .. } => last.insert(*key, *token),
                Item::Ask { ask: Ask::Del { key }, .. } => last.remove(key),
                Item::Ask { ask: Ask::Flush, .. } => {
                    last.clear();
                    None
                }
                Item::Ask { ask: Ask::Drop { hash }, .. } => {
                    last.retain(|key, _| plan.setting.hash_of(*key) != Some(*hash));
                    None
                }
                _ => None,
            };
        }
        assert_eq!(world.data, last, "seed {seed}: and it is what was written last");
        assert_eq!(world.stats.answers, turmoil.stats.answers, "seed {seed}");
    }
}

#[test]
fn the_same_plan_twice_has_the_same_trace() {
    for seed in 0..DETERMINISM_SEEDS {
        let plan = swarm::draw(seed);
        let (first, again) = (Engine::Turmoil.run(&plan, Watch::Hash), Engine::Turmoil.run(&plan, Watch::Tail));
        assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(first.stats, again.stats, "seed {seed}");
    }
}

#[test]
fn another_process_has_the_same_trace() {
    let range = format!("0..{DETERMINISM_SEEDS}");
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--engine", "turmoil", "--hash-only", "--seeds", &range])
        .output()
        .expect("the binary runs");
    let lines = String::from_utf8(output.stdout).expect("text");
    assert_eq!(lines.lines().count() as u64, DETERMINISM_SEEDS);
    for (seed, line) in lines.lines().enumerate() {
        let outcome = Engine::Turmoil.run(&swarm::draw(seed as u64), Watch::Hash);
        assert!(line.ends_with(&format!("{:032x}", outcome.trace_hash)), "seed {seed}: {line}");
    }
}

/// The commands of a drawn plan, one after the other, in a cluster in which nothing goes wrong.
fn calm(seed: u64) -> Plan {
    let drawn = swarm::draw(seed);
    let Setting { nodes, clients, keys, counters, chunking, .. } = drawn.setting;
    let mut setting = Setting { clients, keys, counters, chunking, ..Setting::calm(nodes) };
    let asks = drawn.items.into_iter().filter_map(|(_, item)| match item {
        Item::Ask { client, ask: Ask::Set { key, token, pad, .. } } => {
            Some(Item::Ask { client, ask: Ask::Set { key, token, pad, ttl_ms: 0 } })
        }
        // Who waits writes later than the plan says.
        Item::Ask { ask: Ask::Wait { .. } | Ask::WaitFor { .. } | Ask::Leave | Ask::Forget { .. }, .. } => None,
        Item::Ask { .. } => Some(item),
        Item::Hangup { .. } | Item::Deaf { .. } | Item::Move { .. } | Item::Fault(_) => None,
    });
    // The first second is for the nodes to find each other.
    let items: Vec<_> = (1_000_000..).step_by(usize::try_from(GAP_US).expect("fits")).zip(asks).collect();
    setting.load_ms = items.last().map_or(0, |(at_us, _)| at_us / 1_000) + 100;
    Plan { seed, setting, items }
}
