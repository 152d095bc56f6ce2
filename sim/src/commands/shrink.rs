//! `sim shrink`: the smallest plan that fails as a given one does.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::ProgressBar;
use sim::shrink::{Budget, REPLAYS_MAX, shrink};
use sim::soak::replay_command;
use sim::{Engine, swarm, trial};

/// Makes a failing plan small: it leaves out and simplifies whatever the failure does not need.
#[derive(Debug, Parser)]
#[command(after_help = "Ctrl-C ends the search with what was found so far.")]
pub(crate) struct Args {
    /// The file of the plan.
    #[arg(long, value_name = "FILE", required_unless_present = "seed", conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// The seed of the plan.
    #[arg(long)]
    seed: Option<u64>,
    /// What runs it: world or turmoil.
    #[arg(long, default_value = "world", value_name = "NAME")]
    engine: Engine,
    /// Where the smallest plan is put; beside the plan, if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How long to search.
    #[arg(long, default_value_t = 300, value_name = "S")]
    seconds: u64,
    /// How many plans to run.
    #[arg(long, default_value_t = REPLAYS_MAX, value_name = "N")]
    replays: u64,
}

/// Shrinks it.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let plan = match (&args.plan, args.seed) {
        (Some(path), _) => crate::read_plan(path)?,
        (None, seed) => swarm::draw(seed.unwrap_or_default()),
    };
    let seed_path = || PathBuf::from(format!("{}-{}", args.engine.name(), plan.seed));
    let out =
        args.out.clone().unwrap_or_else(|| args.plan.clone().unwrap_or_else(seed_path).with_extension("min.plan"));
    let defect = trial::run(args.engine, &plan).defect.ok_or("the plan passes: there is nothing to shrink")?;
    println!("FAILED {defect}");
    let (start, stop, kind) = (Instant::now(), super::stop_flag()?, defect.kind.clone());
    let limit = Duration::from_secs(args.seconds);
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let shrunk = shrink(
        &plan,
        defect,
        &|plan| trial::look_for(&kind, args.engine, plan),
        Budget {
            replays_max: args.replays,
            goes_on: &mut |best, replays| {
                bar.set_message(format!("{} items after {replays} replays", best.items.len()));
                bar.tick();
                start.elapsed() < limit && !stop.load(Ordering::Relaxed)
            },
        },
    );
    bar.finish_and_clear();
    let (least, defect) = (&shrunk.plan, &shrunk.defect);
    std::fs::write(&out, format!("# {defect}\n{least}")).map_err(|error| format!("{}: {error}", out.display()))?;
    println!(
        "{} items on {} nodes shrunk to {} on {} in {} replays and {:.1} s\nFAILED {defect}",
        plan.items.len(),
        plan.setting.nodes,
        least.items.len(),
        least.setting.nodes,
        shrunk.replays,
        start.elapsed().as_secs_f64()
    );
    for (at_us, item) in &least.items {
        println!("  {}.{:06} {item}", at_us / 1_000_000, at_us % 1_000_000);
    }
    println!("replay: {}", replay_command(args.engine, &out));
    Ok(())
}
