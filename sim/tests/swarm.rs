//! Drawn plans in bulk. `SIM_SEEDS=n` runs n of them instead of the usual thousand.

use std::thread;

use sim::{Tally, Watch, swarm, world};

/// A thousand took half a minute on two slow cores; the count is fixed so that results can be repeated.
const SEEDS: u64 = 1_000;

/// Runs every second seed, from `first`; what failed, and which marks fired.
fn run_half(first: u64, count: u64) -> (Vec<String>, Tally) {
    let (mut failures, mut tally) = (Vec::new(), Tally::default());
    for seed in (first..count).step_by(2) {
        let outcome = world::run(&swarm::draw(seed), Watch::Hash);
        tally.add(&outcome.marks);
        if let Err(failure) = outcome.verdict {
            failures.push(format!("{failure}\n  replay: cargo run -p sim --release -- --seed {seed} --trace"));
        }
    }
    (failures, tally)
}

/// All seeds pass, and between them they have met every situation that a batch of this size must meet.
#[test]
fn seeds_pass_and_meet_what_they_are_for() {
    let count = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    // Two threads share the work of two cores.
    let ((mut failures, mut tally), (more, other)) = thread::scope(|scope| {
        let odd = scope.spawn(|| run_half(1, count));
        (run_half(0, count), odd.join().expect("a run does not panic"))
    });
    failures.extend(more);
    tally.merge(&other);
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
    let missing: Vec<String> =
        tally.missing().iter().map(|mark| format!("{}: {}", mark.name(), mark.meaning())).collect();
    assert!(missing.is_empty(), "never in {count} seeds:\n{}", missing.join("\n"));
}
