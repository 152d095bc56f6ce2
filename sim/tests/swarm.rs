//! Drawn plans in bulk. `SIM_SEEDS=n` runs n of them instead of the usual thousand.

use sim::{Watch, swarm, world};

/// A thousand took half a minute on two slow cores; the count is fixed so that results can be repeated.
const SEEDS: u64 = 1_000;

/// Runs every second seed, from `first`: two tests share the work of two cores.
fn run_half(first: u64) {
    let count = std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let failures: Vec<String> = (first..count)
        .step_by(2)
        .filter_map(|seed| {
            let failure = world::run(&swarm::draw(seed), Watch::Hash).verdict.err()?;
            Some(format!("{failure}\n  replay: cargo run -p sim --release -- --seed {seed} --trace"))
        })
        .collect();
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn even_seeds_pass() {
    run_half(0);
}

#[test]
fn odd_seeds_pass() {
    run_half(1);
}
