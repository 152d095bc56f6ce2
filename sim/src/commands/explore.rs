//! `sim explore`: all stories up to some length, the short ones first.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sim::explore::{Scope, Story};
use sim::rng::Rng;
use sim::{Outcome, Stats, Watch, world};

/// Failed stories that are told; the others are only counted.
const FAILURES_TOLD_MAX: u64 = 20;

/// Runs every story of a few steps that a small cluster can live through.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Most steps of a story.
    #[arg(long)]
    depth: usize,
    /// Nodes at the start; one more may join.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=6))]
    nodes: u64,
    /// Least steps of a story.
    #[arg(long, default_value_t = 1)]
    from: usize,
    /// Run this many stories of just that many steps, drawn at random.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["every", "offset", "list"])]
    sample: u64,
    /// Only these steps, by their first words.
    #[arg(long, value_delimiter = ',', value_name = "WORD,WORD")]
    verbs: Vec<String>,
    /// Draws the details of every story anew.
    #[arg(long, default_value_t = 0)]
    round: u64,
    /// Run only every so manieth story.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Which of those to begin with, to share the work.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Where the plans of stories that fail are put.
    #[arg(long, default_value_os_t = std::env::temp_dir(), value_name = "DIR")]
    failures: PathBuf,
    /// Only list the stories.
    #[arg(long)]
    list: bool,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
}

/// What came of the stories so far.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    failures: u64,
    total: Stats,
}

/// Runs them; whether all passed.
pub(crate) fn run(args: &Args) -> Result<bool, String> {
    let (start, mut tally) = (Instant::now(), Tally::default());
    let from = if args.sample > 0 { args.depth } else { args.from };
    for steps in from..=args.depth {
        let scope = Scope { nodes: args.nodes, steps, verbs: args.verbs.clone() };
        if args.list {
            scope.stories(&mut |story| {
                println!("{story}");
                true
            });
            continue;
        }
        let count = if args.sample > 0 { args.sample } else { scope.count().div_ceil(args.every) };
        let bar = ProgressBar::new(count);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
            bar.set_style(style);
        }
        let mut error = None;
        let mut take = |story: &Story| {
            error = tally.run(args, story, &bar).err();
            error.is_none() && !(args.fail_fast && tally.failures > 0)
        };
        if args.sample > 0 {
            let mut rng = Rng::new(args.round, count);
            let _ = (0..count).all(|_| take(&scope.draw(&mut rng)));
        } else {
            let mut index = 0;
            scope.stories(&mut |story| {
                index += 1;
                index % args.every != args.offset % args.every || take(story)
            });
        }
        bar.finish_and_clear();
        if let Some(error) = error {
            return Err(error);
        }
        let (Tally { count, failures, .. }, seconds) = (&tally, start.elapsed().as_secs());
        println!("up to {steps} steps: {count} stories, {failures} failed, {seconds} s");
    }
    if !args.list {
        println!("{}", tally.total);
    }
    Ok(tally.failures == 0)
}

impl Tally {
    fn run(&mut self, args: &Args, story: &Story, bar: &ProgressBar) -> Result<(), String> {
        let outcome = world::run(&story.plan(args.round), Watch::Hash);
        self.total.add(&outcome.stats);
        self.count += 1;
        bar.inc(1);
        if outcome.verdict.is_ok() {
            return Ok(());
        }
        self.failures += 1;
        bar.set_message(format!("{} failed", self.failures));
        if self.failures > FAILURES_TOLD_MAX { Ok(()) } else { bar.suspend(|| tell(args, story, &outcome)) }
    }
}

/// Prints a failure, and how to replay it.
fn tell(args: &Args, story: &Story, outcome: &Outcome) -> Result<(), String> {
    let Err(failure) = &outcome.verdict else { return Ok(()) };
    let path = args.failures.join(format!("story-{:032x}.plan", outcome.trace_hash));
    let text = format!("# {story}\n{}", story.plan(args.round));
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{story}\n  FAILED {failure}\n  replay: cargo run -p sim --release -- --plan {} --trace", path.display());
    Ok(())
}
