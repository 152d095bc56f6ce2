//! How far a soak has come, as kept in its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::marks::Tally;
use crate::outcome::Stats;
use crate::trial::Trial;

/// Failures that are kept; the others are only counted. A build that fails everywhere needs no more.
const FAILURES_KEPT_MAX: usize = 200;

/// Failures of one kind that are shrunk.
const SHRUNK_OF_A_KIND_MAX: usize = 4;

/// Slowest seeds that are listed.
const SLOWEST_MAX: usize = 5;

/// How far a soak has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of the program that ran it.
    pub build: String,
    /// The first seed.
    pub from: u64,
    /// How long it has run.
    pub elapsed_ms: u64,
    /// The same, times the threads that it had.
    pub core_ms: u64,
    /// How long plans were shrunk, over all threads.
    pub shrink_ms: u64,
    /// How far it has come with each source.
    pub lanes: BTreeMap<Source, Lane>,
    /// Of all runs.
    pub stats: Stats,
    /// Of the runs of drawn plans on the world engine.
    pub tally: Tally,
    /// Seeds that were run twice and compared.
    pub compared: u64,
    /// Seeds that failed.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Found>,
    /// The seeds that took longest, the slowest first.
    pub slowest: Vec<Slow>,
}

/// How far a soak has come with one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The first seed that nobody has begun.
    pub next: u64,
    /// Seeds before it that are not finished.
    pub unfinished: BTreeSet<u64>,
    /// Those of them that a thread is at.
    #[serde(skip)]
    running: BTreeSet<u64>,
    /// Seeds that were run.
    pub seeds: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long they took.
    pub busy_ms: u64,
    /// Simulated time.
    pub simulated_ms: u64,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What drew its plan.
    pub source: Source,
    /// Its seed.
    pub seed: u64,
    /// The kind of its defect.
    pub kind: String,
    /// What was seen.
    pub detail: String,
    /// Items of its plan.
    pub items: usize,
    /// Whether it is to be shrunk.
    pub shrinks: bool,
    /// What it was shrunk to.
    pub least: Option<Least>,
}

/// A plan that was shrunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Least {
    /// Items that are left.
    pub items: usize,
    /// Nodes that are left.
    pub nodes: u64,
    /// Plans that were run for it.
    pub replays: u64,
    /// How long that took.
    pub ms: u64,
}

/// A seed that took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slow {
    /// How long its run took.
    pub ms: u64,
    /// What drew its plan.
    pub source: Source,
    /// Its seed.
    pub seed: u64,
}

impl State {
    /// Before anything has been run.
    #[must_use]
    pub fn new(build: String, from: u64) -> Self {
        let lanes = Source::ALL.map(|source| (source, Lane { next: from, ..Lane::default() }));
        Self { build, from, lanes: lanes.into(), ..Self::default() }
    }

    /// The state in the file at `path`, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the state into the file at `path`. Whatever happens meanwhile, the old or the new one is there.
    ///
    /// # Errors
    ///
    /// The old one is there.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    }

    /// The next seed to run: of the source, `shares` of the time being those of turmoil and of stories in percent,
    /// that has had the least of its share.
    pub fn claim(&mut self, shares: [(Source, u64); 2]) -> (Source, u64) {
        let busy_ms = |state: &Self, source| state.lanes.get(&source).map_or(0, |lane| lane.busy_ms);
        let all_ms: u64 = self.lanes.values().map(|lane| lane.busy_ms).sum();
        let owed = shares.iter().find(|(source, percent)| busy_ms(self, *source) * 100 < percent * all_ms);
        // With the whole of the time for it there is nobody to be behind of.
        let whole = shares.iter().find(|(_, percent)| *percent >= 100);
        let source = owed.or(whole).map_or(Source::World, |(source, _)| *source);
        let lane = self.lane(source);
        let seed = lane.unfinished.difference(&lane.running).next().copied();
        let seed = seed.unwrap_or_else(|| {
            lane.next += 1;
            lane.next - 1
        });
        lane.unfinished.insert(seed);
        lane.running.insert(seed);
        (source, seed)
    }

    /// Takes what a run came to, and how long it took; whether it was still waited for.
    pub fn finish(&mut self, source: Source, seed: u64, trial: &Trial, ms: u64) -> bool {
        let lane = self.lane(source);
        lane.running.remove(&seed);
        if !lane.unfinished.remove(&seed) {
            return false;
        }
        lane.seeds += 1;
        lane.busy_ms += ms;
        if let Some(outcome) = &trial.outcome {
            lane.simulated_ms += outcome.stats.simulated_ms;
            self.stats.add(&outcome.stats);
            if source == Source::World {
                self.tally.add(&outcome.marks);
            }
        }
        self.slowest.push(Slow { ms, source, seed });
        self.slowest.sort_unstable_by(|a, b| b.cmp(a));
        self.slowest.truncate(SLOWEST_MAX);
        true
    }

    /// Counts a failure, and keeps it if there is room: then it is to be shrunk or not.
    pub fn fail(&mut self, mut found: Found, shrinks_max: usize) -> Option<bool> {
        self.failed += 1;
        self.lane(found.source).failed += 1;
        if self.failures.len() >= FAILURES_KEPT_MAX {
            return None;
        }
        let (all, alike) = self
            .failures
            .iter()
            .filter(|other| other.shrinks)
            .fold((0, 0), |(all, alike), other| (all + 1, alike + usize::from(other.kind == found.kind)));
        found.shrinks = found.shrinks && all < shrinks_max && alike < SHRUNK_OF_A_KIND_MAX;
        let shrinks = found.shrinks;
        self.failures.push(found);
        Some(shrinks)
    }

    /// A failure was shrunk.
    pub fn shrunk(&mut self, source: Source, seed: u64, least: Least) {
        self.shrink_ms += least.ms;
        if let Some(found) = self.failures.iter_mut().find(|found| (found.source, found.seed) == (source, seed)) {
            found.least = Some(least);
        }
    }

    /// Seeds that were run.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        self.lanes.values().map(|lane| lane.seeds).sum()
    }

    fn lane(&mut self, source: Source) -> &mut Lane {
        self.lanes.entry(source).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: [(Source, u64); 2] = [(Source::Turmoil, 25), (Source::Story, 0)];

    #[test]
    fn each_source_has_its_share_of_the_time() {
        let mut state = State::new(String::new(), 5);
        let trial = Trial { outcome: None, defect: None };
        for _ in 0..100 {
            let (source, seed) = state.claim(SHARES);
            assert!(state.finish(source, seed, &trial, if source == Source::Turmoil { 10 } else { 1 }));
        }
        let [world, turmoil, story] = Source::ALL.map(|source| state.lanes[&source].clone());
        assert!(turmoil.busy_ms.abs_diff((turmoil.busy_ms + world.busy_ms) / 4) <= 10, "{state:?}");
        assert_eq!((world.seeds + turmoil.seeds, world.next, story.next), (100, 5 + world.seeds, 5));
    }

    #[test]
    fn what_was_not_finished_comes_again() {
        let mut state = State::new(String::new(), 0);
        let claims = [(); 3].map(|()| state.claim(SHARES));
        assert_eq!(claims, [0, 1, 2].map(|seed| (Source::World, seed)));
        state.finish(Source::World, 1, &Trial { outcome: None, defect: None }, 0);
        let text = serde_json::to_string(&state).expect("text");
        let mut state: State = serde_json::from_str(&text).expect("the same");
        assert_eq!([(); 3].map(|()| state.claim(SHARES).1), [0, 2, 3]);
    }

    #[test]
    fn few_failures_of_a_kind_are_shrunk_and_few_of_all() {
        let mut state = State::new(String::new(), 0);
        let mut fail = |seed, kind: &str| {
            let (kind, detail) = (kind.to_owned(), String::new());
            let found = Found { source: Source::World, seed, kind, detail, items: 9, shrinks: true, least: None };
            state.fail(found, 6)
        };
        let shrinks: Vec<_> = (0..10).map(|seed| fail(seed, if seed < 5 { "a" } else { "b" })).collect();
        let yes = |yes| Some(yes);
        assert_eq!(shrinks, [true, true, true, true, false, true, true, false, false, false].map(yes));
        assert_eq!((10..1_000).filter_map(|seed| fail(seed, "c")).count(), FAILURES_KEPT_MAX - 10);
        assert_eq!(state.failed, 1_000);
    }
}
