//! Runs seeds or plans: `sim --seed 7`, `sim --seeds 0..1000`, `sim --plan sim/regressions/x.plan`.

mod commands;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sim::timeline::{self, Options};
use sim::{Engine, Outcome, Plan, PlanError, Stats, Tally, Watch, swarm};

/// Deterministic simulation of a Simple-KV cluster.
#[derive(Debug, Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  sim --seed 7            replay one seed: its configuration, verdict and trace hash\n  \
                        sim --seed 7 --trace    with every event\n  \
                        sim --seed 7 --timeline 7.html   as a page for a browser\n  \
                        sim --seeds 0..100000   a range, with seeds per minute\n  \
                        sim --seeds 1..21 --hash-only   one line a seed, to compare machines and profiles\n  \
                        sim explore --depth 3   every story of up to three steps\n  \
                        sim soak --minutes 60   all cores for an hour; failing plans are kept and shrunk\n  \
                        sim shrink --seed 7     what of a failing plan the failure needs"
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The seed to replay.
    #[arg(long, conflicts_with_all = ["seeds", "plan"])]
    seed: Option<u64>,
    /// A range of seeds to run, the end left out.
    #[arg(long, value_parser = parse_range, value_name = "A..B", conflicts_with = "plan")]
    seeds: Option<Range<u64>>,
    /// A file with a plan to run.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// What runs the plans: world or turmoil.
    #[arg(long, default_value = "world", value_name = "NAME")]
    engine: Engine,
    /// Print every event.
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// Write the run as one HTML page: nodes as lanes, messages, faults, versions of a key. World engine only.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "trace", "hash_only"])]
    timeline: Option<PathBuf>,
    /// The key that the page shows first, such as k0 or c1; by default the one that failed, or the busiest.
    #[arg(long, value_name = "KEY", requires = "timeline")]
    key: Option<String>,
    /// Print nothing but seed, verdict and trace hash.
    #[arg(long, conflicts_with = "trace")]
    hash_only: bool,
    /// Stop a range at its first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Print in how many runs of a range each mark fired.
    #[arg(long, requires = "seeds", conflicts_with = "hash_only")]
    marks: bool,
    /// Fail a range of a thousand seeds or more in which a mark never fired; those that are rare are required of ten
    /// thousand.
    #[arg(long, requires = "seeds")]
    require_marks: bool,
    /// Print the plan too.
    #[arg(long, conflicts_with_all = ["seeds", "hash_only"])]
    print_plan: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explore(commands::explore::Args),
    Scale(commands::scale::Args),
    Shrink(commands::shrink::Args),
    Soak(commands::soak::Args),
    Speed(commands::speed::Args),
}

/// The product's own. Runs are short and allocate all the time, and it is the quicker one at that.
#[global_allocator]
static ALLOCATOR: kv_allocator::Allocator = kv_allocator::ALLOCATOR;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, String> {
    match &args.command {
        Some(Command::Explore(args)) => return commands::explore::run(args),
        Some(Command::Scale(args)) => return Ok(commands::scale::run(args)),
        Some(Command::Shrink(args)) => return commands::shrink::run(args).map(|()| true),
        Some(Command::Soak(args)) => return commands::soak::run(args),
        Some(Command::Speed(args)) => return Ok(commands::speed::run(args)),
        None => {}
    }
    match (&args.seeds, args.seed, &args.plan) {
        (Some(seeds), _, _) => Ok(run_range(args, seeds.clone())),
        (None, Some(seed), _) => run_one(args, &swarm::draw(seed)),
        (None, None, Some(path)) => read_plan(path).and_then(|plan| run_one(args, &plan)),
        (None, None, None) => Err("one of --seed, --seeds and --plan is needed; see --help".to_owned()),
    }
}

/// The plan in the file at `path`.
fn read_plan(path: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| text.parse().map_err(|error: PlanError| error.to_string()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs one plan and tells all about it; whether it passed.
fn run_one(args: &Args, plan: &Plan) -> Result<bool, String> {
    if args.hash_only {
        return Ok(report_hash(plan.seed, &args.engine.run(plan, Watch::Hash)));
    }
    if args.timeline.is_some() && args.engine != Engine::World {
        return Err("--timeline is of the world engine".to_owned());
    }
    let text = plan.to_string();
    let lines = if args.print_plan { usize::MAX } else { text.lines().take_while(|line| !line.contains('=')).count() };
    for line in text.lines().take(lines) {
        println!("{line}");
    }
    println!("items {}", plan.items.len());
    let watch = match &args.timeline {
        Some(_) => Watch::Record,
        None if args.trace => Watch::Print,
        None => Watch::Hash,
    };
    let outcome = args.engine.run(plan, watch);
    println!("{}", outcome.stats);
    println!("trace {:032x}", outcome.trace_hash);
    match &outcome.verdict {
        Ok(()) => println!("passed"),
        Err(failure) => println!("FAILED {failure}"),
    }
    if let Some(path) = &args.timeline {
        write_timeline(args, plan, &outcome, path)?;
    }
    Ok(outcome.verdict.is_ok())
}

fn write_timeline(args: &Args, plan: &Plan, outcome: &Outcome, path: &Path) -> Result<(), String> {
    let replay = match &args.plan {
        Some(plan) => format!("cargo run -p sim --release -- --plan {} --trace", plan.display()),
        None => replay_command(args.engine, plan.seed),
    };
    if let Some(key) = &args.key
        && !timeline::key_names(&plan.setting).contains(key)
    {
        return Err(format!("{key}: no key of this plan"));
    }
    let page = timeline::page(plan, outcome, &Options { replay: &replay, key: args.key.as_deref() });
    std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("timeline {}", path.display());
    Ok(())
}

/// Runs a range of seeds; whether all passed.
fn run_range(args: &Args, seeds: Range<u64>) -> bool {
    let bar = if args.hash_only { ProgressBar::hidden() } else { ProgressBar::new(seeds.end - seeds.start) };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    let (start, mut failures, mut count) = (Instant::now(), 0_u64, 0_u64);
    let (mut total, mut tally) = (Stats::default(), Tally::default());
    for seed in seeds {
        let outcome = args.engine.run(&swarm::draw(seed), Watch::Hash);
        total.add(&outcome.stats);
        tally.add(&outcome.marks);
        count += 1;
        if args.hash_only {
            failures += u64::from(!report_hash(seed, &outcome));
        } else if let Err(failure) = &outcome.verdict {
            failures += 1;
            bar.suspend(|| println!("seed {seed} FAILED {failure}\n  replay: {}", replay_command(args.engine, seed)));
        }
        if failures > 0 && args.fail_fast {
            break;
        }
        bar.inc(1);
        if count.is_multiple_of(64) {
            bar.set_message(format!("{failures} failed"));
        }
    }
    bar.finish_and_clear();
    if !args.hash_only {
        let rate = u128::from(count) * 60_000 / start.elapsed().as_millis().max(1);
        println!("{count} seeds, {failures} failed, {rate} a minute\n{total}");
    }
    if args.marks {
        print!("{tally}");
    }
    let missing = if args.require_marks { tally.missing() } else { Vec::new() };
    for mark in &missing {
        println!("mark {} never fired: {}", mark.name(), mark.meaning());
    }
    failures == 0 && missing.is_empty()
}

fn report_hash(seed: u64, outcome: &Outcome) -> bool {
    let verdict = if outcome.verdict.is_ok() { "passed" } else { "FAILED" };
    println!("{seed} {verdict} {:032x}", outcome.trace_hash);
    outcome.verdict.is_ok()
}

fn replay_command(engine: Engine, seed: u64) -> String {
    let engine = if engine == Engine::default() { String::new() } else { format!(" --engine {}", engine.name()) };
    format!("cargo run -p sim --release --{engine} --seed {seed} --trace")
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("a range is written A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let range = number(start)?..number(end)?;
    if range.is_empty() { Err("the range is empty".to_owned()) } else { Ok(range) }
}
