//! `sim speed`: how fast the engines are, for plans of one size.

use std::time::Instant;

use clap::Parser;
use sim::{Engine, Stats, Watch, swarm};

/// Measures how many plans of 5 nodes, 30 seconds, 600 commands and a dozen faults one core runs in a minute.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many plans each engine runs; the turmoil engine a tenth.
    #[arg(long, default_value_t = 2_000)]
    plans: u64,
    /// Only this engine.
    #[arg(long)]
    engine: Option<Engine>,
}

/// Prints a line for each engine; whether all plans passed.
pub(crate) fn run(args: &Args) -> bool {
    println!(
        "| engine | plans | a minute, one core | simulated time over real | cluster-years a core in 8 h | \
         turns a plan |\n|---|---|---|---|---|---|"
    );
    let runs = [(Engine::World, args.plans), (Engine::Turmoil, args.plans.div_ceil(10))];
    let wanted = runs.into_iter().filter(|(engine, _)| args.engine.is_none_or(|only| only == *engine));
    wanted.fold(true, |all, (engine, plans)| measure(engine, plans) && all)
}

fn measure(engine: Engine, plans: u64) -> bool {
    let (mut total, mut failures) = (Stats::default(), 0);
    let start = Instant::now();
    for seed in 0..plans {
        let plan = swarm::typical(seed);
        let outcome = engine.run(&plan, Watch::Hash);
        total.add(&outcome.stats);
        if let Err(failure) = outcome.verdict {
            failures += 1;
            println!("{plan}\nplan {seed} FAILED {failure}");
        }
    }
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let ratio = total.simulated_ms / elapsed_ms;
    // 8 hours of a year's 8,766, in hundredths.
    let years = ratio * 800 / 8_766;
    println!(
        "| {} | {plans} | {} | {ratio} | {}.{:02} | {} |",
        engine.name(),
        plans * 60_000 / elapsed_ms,
        years / 100,
        years % 100,
        total.turns / plans.max(1),
    );
    failures == 0
}
