//! `sim soak`: seeds for as long as one likes, on all cores.

use std::fs::{self, File, TryLockError};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use sim::soak::{self, Config, News, Source, State, Summary};

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(60);

/// Runs seeds on all cores for some time; keeps and shrinks the plans that fail; goes on where it was stopped.
#[derive(Debug, Parser)]
#[command(
    after_help = "The directory holds state.json, summary.md and, for each failing seed, its plan, what was seen \
                        and the plan shrunk. Started again with the same directory, the soak goes on with the next \
                        seed. Ctrl-C ends it as the end of the time does."
)]
pub(crate) struct Args {
    /// How long.
    #[arg(long, default_value_t = 60, value_name = "M")]
    minutes: u64,
    /// Threads; all that the machine has, if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    cores: Option<u64>,
    /// Where state, plans and summary are put.
    #[arg(long, default_value = "target/soak", value_name = "DIR")]
    dir: PathBuf,
    /// The first seed of a new soak.
    #[arg(long, value_name = "SEED")]
    from: Option<u64>,
    /// How much of the time goes to the turmoil engine.
    #[arg(long, default_value_t = 5, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=100))]
    turmoil: u64,
    /// How much of the time goes to stories of a few steps drawn at random.
    #[arg(long, default_value_t = 2, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=100))]
    stories: u64,
    /// Stop after so many seeds, if the time is not over before.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "N")]
    seeds_max: u64,
    /// How many failing plans are shrunk at most, each for a minute at most.
    #[arg(long, default_value_t = 12, value_name = "N")]
    shrinks_max: usize,
}

/// Runs it; whether nothing has failed, now or before.
pub(crate) fn run(args: &Args) -> Result<bool, String> {
    let at = |error: String| format!("{}: {error}", args.dir.display());
    fs::create_dir_all(&args.dir).map_err(|error| at(error.to_string()))?;
    let lock = File::create(args.dir.join("lock")).map_err(|error| at(error.to_string()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(at("another soak is running there".to_owned())),
        Err(TryLockError::Error(error)) => return Err(at(error.to_string())),
    }
    let state = begin(args).map_err(at)?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let config = Config {
        dir: args.dir.clone(),
        cores: args.cores.unwrap_or(cores),
        length: Duration::from_secs(args.minutes.saturating_mul(60)),
        seeds_max: args.seeds_max,
        shares: [(Source::Turmoil, args.turmoil), (Source::Story, args.stories)],
        shrinks_max: args.shrinks_max,
    };
    let stop = super::stop_flag()?;
    let state = soak::run(&config, state, &stop, &mut teller(config.length))?;
    let summary = Summary { state: &state, dir: &args.dir }.to_string();
    let path = args.dir.join("summary.md");
    fs::write(&path, &summary).map_err(|error| format!("{}: {error}", path.display()))?;
    print!("{summary}");
    Ok(soak::passed(&state))
}

/// The state that the directory holds, or a new one.
fn begin(args: &Args) -> Result<State, String> {
    let build = soak::build()?;
    let Some(state) = State::load(&args.dir.join("state.json")).map_err(|error| format!("state.json: {error}"))? else {
        return Ok(State::new(build, args.from.unwrap_or(0)));
    };
    if state.build != build {
        return Err(
            "this soak was begun by another build, whose seeds may stand for other plans; name another --dir, \
                    or remove this one"
                .to_owned(),
        );
    }
    if args.from.is_some_and(|from| from != state.from) {
        return Err(format!("this soak was begun from seed {}; --from is for new ones", state.from));
    }
    Ok(state)
}

/// Shows how far it is: as a bar on a terminal, otherwise as a line a minute.
fn teller(length: Duration) -> impl FnMut(News<'_>) {
    let is_terminal = std::io::stderr().is_terminal();
    let bar = if is_terminal { ProgressBar::new(length.as_secs()) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {elapsed} of {len} s; {msg}") {
        bar.set_style(style);
    }
    let start = Instant::now();
    let mut told = start;
    move |news| match news {
        News::Failed(text) if is_terminal => bar.suspend(|| println!("{text}")),
        News::Failed(text) => println!("{text}"),
        News::At(state) if is_terminal => {
            bar.set_position(start.elapsed().as_secs().min(length.as_secs()));
            bar.set_message(soak::line(state));
        }
        News::At(state) => {
            if told.elapsed() >= LINE {
                told = Instant::now();
                println!("{} min: {}", start.elapsed().as_secs() / 60, soak::line(state));
            }
        }
    }
}
