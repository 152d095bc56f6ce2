//! A soak: seeds without end, on all cores, with a position that another process goes on from.
//!
//! This is the one part of the crate with threads, files and a clock. Each thread claims a seed, runs its plan and
//! reports it; the state (`state.rs`) is put on disk every few seconds. A seed that fails has its plan kept in
//! the directory, and shrunk beside it. A run that does not come back is a failure too: its thread is given up.

mod source;
mod state;
mod summary;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::shrink::{self, Budget, Shrunk};
use crate::trace::{Trace, Watch};
use crate::trial::{self, Defect};
pub use source::{Source, replay_command};
pub use state::{Found, Lane, Least, Slow, State};
pub use summary::{Summary, line, passed};

/// Between two looks at the time, the signals and the threads.
const LOOK: Duration = Duration::from_millis(200);

/// Between two states on disk.
const SAVE: Duration = Duration::from_secs(5);

/// After that long a run is given up: a hundred times what a slow one takes.
const STUCK: Duration = Duration::from_secs(300);

/// How long threads may take to come to an end before they are left behind.
const FAREWELL: Duration = Duration::from_secs(60);

/// Longest that one plan is shrunk.
const SHRINK: Duration = Duration::from_secs(60);

/// One seed of so many is run twice, and the traces compared.
const COMPARED_EVERY: u64 = 256;

/// What to run, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state, plans and summary are put.
    pub dir: PathBuf,
    /// Threads.
    pub cores: u64,
    /// When to stop.
    pub length: Duration,
    /// Seeds after which to stop.
    pub seeds_max: u64,
    /// Of the time, for turmoil and for stories.
    pub shares: [(Source, u64); 2],
    /// Failures that are shrunk.
    pub shrinks_max: usize,
}

/// What is told while a soak runs.
#[derive(Debug)]
pub enum News<'a> {
    /// A seed failed.
    Failed(&'a str),
    /// How far it is, now and then.
    At(&'a State),
}

/// What the threads share.
struct Shared {
    config: Config,
    state: Mutex<State>,
    /// Since when a seed is run.
    running: Mutex<BTreeMap<(Source, u64), Instant>>,
    claims: AtomicU64,
    stop: Arc<AtomicBool>,
}

/// What a thread says.
enum Word {
    Failed(String),
    /// It has come to an end, or a file could not be written.
    Done(Result<(), String>),
}

/// Runs seeds from where `state` stands until the time is over, `stop` is set, or enough were run, and returns where it
/// stands then, which is also on disk.
///
/// # Errors
///
/// A file cannot be written. What was on disk before is there.
pub fn run(
    config: &Config,
    state: State,
    stop: &Arc<AtomicBool>,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<State, String> {
    let start = Instant::now();
    let (elapsed_ms, core_ms) = (state.elapsed_ms, state.core_ms);
    let path = config.dir.join("state.json");
    let shared = Arc::new(Shared {
        config: config.clone(),
        state: Mutex::new(state),
        running: Mutex::default(),
        claims: AtomicU64::new(0),
        stop: Arc::clone(stop),
    });
    let (words, heard) = mpsc::channel();
    for _ in 0..config.cores {
        spawn(&shared, &words);
    }
    let (mut saved, mut ends_by, mut result) = (start, None, Ok(()));
    let mut threads = config.cores;
    while threads > 0 {
        match next_word(&heard) {
            Some(Word::Failed(text)) => tell(News::Failed(&text)),
            Some(Word::Done(end)) => {
                threads -= 1;
                if end.is_err() {
                    stop.store(true, Ordering::Relaxed);
                    result = result.and(end);
                }
            }
            None => {}
        }
        let now = Instant::now();
        for text in shared.give_up_stuck(now)? {
            tell(News::Failed(&text));
            spawn(&shared, &words);
        }
        let ran = now - start;
        if ran >= config.length {
            stop.store(true, Ordering::Relaxed);
        }
        if stop.load(Ordering::Relaxed) && now >= *ends_by.get_or_insert(now + FAREWELL) {
            break;
        }
        let copy = {
            let mut state = shared.state();
            state.elapsed_ms = elapsed_ms + millis(ran);
            state.core_ms = core_ms + millis(ran) * config.cores;
            state.clone()
        };
        if now - saved >= SAVE {
            saved = now;
            save(&copy, &path)?;
        }
        tell(News::At(&copy));
    }
    let state = shared.state().clone();
    save(&state, &path)?;
    result.map(|()| state)
}

/// Names the program that runs: what it is made of, hashed. Any other build may draw and judge other plans.
///
/// # Errors
///
/// Its file cannot be read.
pub fn build() -> Result<String, String> {
    let path = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut hash = Trace::new(Watch::Hash);
    hash.bytes(&fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    Ok(format!("{:032x}", hash.hash()))
}

fn spawn(shared: &Arc<Shared>, words: &Sender<Word>) {
    let (shared, words) = (Arc::clone(shared), words.clone());
    thread::spawn(move || {
        // Nobody listens any more once the soak is over.
        if let Some(end) = shared.work(&words).transpose() {
            let _ = words.send(Word::Done(end));
        }
    });
}

fn next_word(heard: &Receiver<Word>) -> Option<Word> {
    heard.recv_timeout(LOOK).ok()
}

fn save(state: &State, path: &Path) -> Result<(), String> {
    state.save(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    /// Runs seeds until it is time to stop; none if it was given up, and another thread runs in its stead.
    fn work(&self, words: &Sender<Word>) -> Result<Option<()>, String> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.claims.fetch_add(1, Ordering::Relaxed) >= self.config.seeds_max {
                break;
            }
            let (source, seed) = self.state().claim(self.config.shares);
            let start = Instant::now();
            self.running().insert((source, seed), start);
            let plan = source.plan(seed);
            let twice = seed.is_multiple_of(COMPARED_EVERY);
            let run = if twice { trial::run_twice } else { trial::run };
            let trial = run(source.engine(), &plan);
            let ms = millis(start.elapsed()) / (1 + u64::from(twice));
            self.running().remove(&(source, seed));
            {
                let mut state = self.state();
                if !state.finish(source, seed, &trial, ms) {
                    return Ok(None);
                }
                state.compared += u64::from(twice);
            }
            if let Some(defect) = trial.defect {
                self.failed(source, seed, &plan, defect, words)?;
            }
        }
        Ok(Some(()))
    }

    fn failed(
        &self,
        source: Source,
        seed: u64,
        plan: &Plan,
        defect: Defect,
        words: &Sender<Word>,
    ) -> Result<(), String> {
        let Some(shrinks) = self.keep(source, seed, plan, &defect.kind.to_string(), &defect.to_string(), true)? else {
            return Ok(());
        };
        let _ = words.send(Word::Failed(format!("{} {seed} FAILED {defect}", source.name())));
        if !shrinks {
            return Ok(());
        }
        let (start, kind, engine) = (Instant::now(), defect.kind.clone(), source.engine());
        let shrunk = shrink::shrink(
            plan,
            defect,
            &|plan| trial::look_for(&kind, engine, plan),
            Budget {
                replays_max: shrink::REPLAYS_MAX,
                goes_on: &mut |_, _| start.elapsed() < SHRINK && !self.stop.load(Ordering::Relaxed),
            },
        );
        let Shrunk { plan: least, defect, replays } = shrunk;
        let name = format!("{}-{seed}.min.plan", source.name());
        self.write(&name, &format!("# {defect}\n{least}"))?;
        let ms = millis(start.elapsed());
        let least = Least { items: least.items.len(), nodes: least.setting.nodes, replays, ms };
        let path = self.config.dir.join(name);
        let _ = words.send(Word::Failed(format!(
            "{} {seed} shrunk from {} items to {}: {}",
            source.name(),
            plan.items.len(),
            least.items,
            replay_command(engine, &path)
        )));
        self.state().shrunk(source, seed, least);
        Ok(())
    }

    /// Keeps a failing plan and what was seen, if there is room: then whether it is to be shrunk.
    fn keep(
        &self,
        source: Source,
        seed: u64,
        plan: &Plan,
        kind: &str,
        detail: &str,
        shrinks: bool,
    ) -> Result<Option<bool>, String> {
        let (kind, items) = (kind.to_owned(), plan.items.len());
        let found = Found { source, seed, kind, detail: detail.to_owned(), items, shrinks, least: None };
        let Some(shrinks) = self.state().fail(found, self.config.shrinks_max) else { return Ok(None) };
        let name = format!("{}-{seed}.plan", source.name());
        let replay = replay_command(source.engine(), &self.config.dir.join(&name));
        self.write(&name, &plan.to_string())?;
        self.write(&format!("{}-{seed}.txt", source.name()), &format!("{detail}\n\nreplay: {replay}\n"))?;
        Ok(Some(shrinks))
    }

    /// Counts runs that do not come back as failures, and tells of them.
    fn give_up_stuck(&self, now: Instant) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        let stuck: Vec<_> = {
            let mut running = self.running();
            let stuck = running.iter().filter(|(_, since)| now.saturating_duration_since(**since) > STUCK);
            let stuck: Vec<_> = stuck.map(|(name, _)| *name).collect();
            running.retain(|name, _| !stuck.contains(name));
            stuck
        };
        for (source, seed) in stuck {
            let trial = trial::Trial { outcome: None, defect: None };
            if !self.state().finish(source, seed, &trial, millis(STUCK)) {
                continue;
            }
            let detail = format!("stuck: the run takes longer than {} s", STUCK.as_secs());
            self.keep(source, seed, &source.plan(seed), "stuck", &detail, false)?;
            texts.push(format!("{} {seed} FAILED {detail}", source.name()));
        }
        Ok(texts)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.config.dir.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A thread that panicked with the state in its hands is a defect of the soak; the numbers are whole still.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<(Source, u64), Instant>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Ask, Item};
    use crate::swarm;

    #[test]
    fn a_failure_leaves_its_plan_what_was_seen_and_the_plan_shrunk() {
        let dir = std::env::temp_dir().join(format!("sim-soak-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let config = Config {
            dir: dir.clone(),
            cores: 1,
            length: STUCK,
            seeds_max: 1,
            shares: [(Source::Turmoil, 0), (Source::Story, 0)],
            shrinks_max: 1,
        };
        let shared = Shared {
            config,
            state: Mutex::new(State::new(String::new(), 0)),
            running: Mutex::default(),
            claims: AtomicU64::new(0),
            stop: Arc::default(),
        };
        // A deadline that no node takes: a plan that fails on any build.
        let ask = Ask::Set { key: 0, token: 1_000_000, pad: 0, ttl_ms: u64::MAX / 2 };
        let mut plan = swarm::draw(7);
        plan.items.push((100_000, Item::Ask { client: 0, ask }));
        let plan = plan.sorted();
        let defect = trial::run(Source::World.engine(), &plan).defect.expect("it fails");
        let (words, heard) = mpsc::channel();
        shared.failed(Source::World, 7, &plan, defect.clone(), &words).expect("files are written");
        // One is shrunk at most.
        shared.failed(Source::World, 8, &plan, defect.clone(), &words).expect("files are written");
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("it is kept");
        assert_eq!(read("world-7.plan").parse().as_ref(), Ok(&plan));
        assert!(read("world-7.txt").starts_with(&defect.to_string()) && read("world-8.txt").contains("world-8.plan"));
        let least: Plan = read("world-7.min.plan").parse().expect("a plan");
        assert_eq!((least.items.len(), dir.join("world-8.min.plan").exists()), (1, false));
        let state = shared.state();
        assert_eq!((state.failed, passed(&state), heard.try_iter().count()), (2, false, 3));
        let summary = Summary { state: &state, dir: &dir }.to_string();
        assert!(summary.contains("| world | 7 | Availability |") && summary.contains("| 1 on 1 nodes |"), "{summary}");
        fs::remove_dir_all(&dir).expect("it is removed");
    }

    #[test]
    fn a_run_that_does_not_come_back_is_given_up_once() {
        let dir = std::env::temp_dir().join(format!("sim-stuck-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let mut state = State::new(String::new(), 0);
        let shares = [(Source::Turmoil, 0), (Source::Story, 0)];
        let (source, seed) = state.claim(shares);
        let start = Instant::now();
        let shared = Shared {
            config: Config { dir: dir.clone(), cores: 1, length: STUCK, seeds_max: 1, shares, shrinks_max: 1 },
            state: Mutex::new(state),
            running: Mutex::new(BTreeMap::from([((source, seed), start)])),
            claims: AtomicU64::new(0),
            stop: Arc::default(),
        };
        assert_eq!(shared.give_up_stuck(start + STUCK), Ok(Vec::new()));
        let later = start + 2 * STUCK;
        assert_eq!(shared.give_up_stuck(later).map(|texts| texts.len()), Ok(1));
        assert_eq!(shared.give_up_stuck(later), Ok(Vec::new()));
        let trial = trial::Trial { outcome: None, defect: None };
        let mut state = shared.state();
        assert!(!state.finish(source, seed, &trial, 0), "nobody waits for it");
        assert_eq!((state.failed, state.seeds()), (1, 1));
        fs::remove_dir_all(&dir).expect("it is removed");
    }
}
