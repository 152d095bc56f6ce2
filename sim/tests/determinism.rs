//! The same plan, the same trace: in one process, in another, and (see the CI script) in another profile.

use std::process::Command;

use sim::{Watch, swarm, world};

const SEEDS: u64 = 20;

#[test]
fn the_same_plan_twice_has_the_same_trace() {
    for seed in 0..SEEDS {
        let plan = swarm::draw(seed);
        let (first, again) = (world::run(&plan, Watch::Hash), world::run(&plan, Watch::Tail));
        assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(first.stats, again.stats, "seed {seed}");
        assert!(first.tail.is_empty() && !again.tail.is_empty());
    }
}

#[test]
fn another_process_has_the_same_trace() {
    let run = || {
        let range = format!("0..{SEEDS}");
        let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--hash-only", "--seeds", &range]).output();
        String::from_utf8(output.expect("the binary runs").stdout).expect("text")
    };
    let lines = run();
    assert_eq!(lines.lines().count() as u64, SEEDS);
    assert_eq!(lines, run());
    for (seed, line) in lines.lines().enumerate() {
        let outcome = world::run(&swarm::draw(seed as u64), Watch::Hash);
        assert!(line.ends_with(&format!("{:032x}", outcome.trace_hash)), "seed {seed}: {line}");
    }
}

#[test]
fn a_plan_read_from_its_text_has_the_same_trace() {
    let plan = swarm::draw(3);
    let read = plan.to_string().parse().expect("a plan");
    assert_eq!(world::run(&plan, Watch::Hash).trace_hash, world::run(&read, Watch::Hash).trace_hash);
}
