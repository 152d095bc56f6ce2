//! Retirement: the ledgers of runs that ended.
//!
//! Every ledger that a node comes up with is kept as a log. A node's ledger must be a beginning of one of them or go on
//! from the end of one. Clusters that came up apart, or whose halves were told to forget each other, have logs of their
//! own; others do not.
//!
//! A run that stood still while a newer run of its node took its place may append once more when it goes on, by what
//! members had stated before. As long as only runs like that have what they appended, nobody acts upon it.
//! (`sim/regressions/who-stood-still-retired-once-more-by-what-was-stated-before`)
//!
//! Members retire what all of those say that have a seat with them. Who has none is not asked, whatever it holds; nor
//! is a process whose member's place another process has with them, for both are up. That takes nothing away: an entry
//! says up to where the others have all of a run. Who comes back writes anew what it has behind that, and a run that
//! goes on gets an account on top of its entry.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{Hlc, Node, OriginId, Version};

use super::versions::Entry;
use super::{Judge, Run, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::size;

/// A ledger, as far as any node has had it.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<(OriginId, Hlc)>,
    /// The hash by length.
    hashes: BTreeMap<u32, u64>,
}

impl Judge {
    /// Looks at a node's ledger, if it is another than before.
    pub(super) fn look_at_ledger(&mut self, run: RunId, node: &Node) {
        let mark = node.retired_mark();
        if self.run(run).retired == mark {
            return;
        }
        self.run_mut(run).retired = mark;
        let is_known = |log: &Log| log.hashes.get(&mark.0) == Some(&mark.1);
        if mark.0 == 0 || self.logs.iter().any(is_known) {
            return;
        }
        let mut entries = Vec::new();
        node.retired(0, &mut |origin, last| entries.push((origin, last)));
        self.forget_lost(run);
        let common = |log: &Log| log.entries.iter().zip(&entries).take_while(|(one, other)| one == other).count();
        let longest = self.logs.iter().enumerate().map(|(at, log)| (common(log), at)).max();
        match longest {
            Some((count, at)) if count == self.logs[at].entries.len() || count == entries.len() => {
                let log = &mut self.logs[at];
                log.hashes.insert(mark.0, mark.1);
                let news = entries.split_off(log.entries.len().min(entries.len()));
                log.entries.extend(&news);
                self.check_retired(run, node, &news);
            }
            Some((common, _)) if common > 0 && self.is_superseded(run) => {
                self.check_retired(run, node, &entries[common..])
            }
            _ => {
                let common = longest.map_or(0, |(count, _)| count);
                if common > 0 && !self.forgotten.iter().any(|forgotten| *forgotten) {
                    self.fail(Oracle::Retirement, || {
                        format!("run {}: its ledger {entries:?} goes with another one's for {common} entries", run.0)
                    });
                }
                if longest.is_some() {
                    self.stats.forked += 1;
                    self.marks.saw(Mark::LedgersForked);
                }
                self.check_retired(run, node, &entries[common..]);
                self.logs.push(Log { entries, hashes: BTreeMap::from([mark]) });
            }
        }
    }

    /// What only runs had retired whose memory is gone, or that are over, nobody else has acted upon; what comes after
    /// it may be another.
    fn forget_lost(&mut self, but: RunId) {
        let has_say = |run: &Run| !matches!(run.standing, Standing::Stopped | Standing::Superseded);
        let runs = self.runs.iter().enumerate().filter(|(at, run)| *at as u64 != but.0 && has_say(run));
        let held: Vec<(u32, u64)> = runs.map(|(_, run)| run.retired).collect();
        for log in &mut self.logs {
            let is_of_it = |mark: &&(u32, u64)| log.hashes.get(&mark.0) == Some(&mark.1);
            let len = held.iter().filter(is_of_it).map(|mark| mark.0).max().unwrap_or(0);
            log.entries.truncate(len as usize);
            log.hashes.retain(|known, _| *known <= len);
        }
        self.logs.retain(|log| !log.entries.is_empty());
    }

    /// What a run has retired must have ended, and nobody who was asked may hold more of it.
    fn check_retired(&mut self, by: RunId, state: &Node, news: &[(OriginId, Hlc)]) {
        for (origin, last) in news {
            self.stats.retired += 1;
            self.marks.saw(Mark::OriginRetired);
            let Some(writer) = self.origins.get(origin).copied() else {
                self.fail(Oracle::Retirement, || format!("run {}: retired {origin}, which nobody writes as", by.0));
                continue;
            };
            let is_asked = |run: RunId| self.run(run).standing == Standing::Current && self.is_asked(by, state, run);
            let node = size(self.run(writer).node);
            let is_out = self.forgotten[node] || self.leaves[node];
            let is_up = self.run(writer).origin == *origin && is_asked(writer);
            let is_behind = |entry: &&Entry| entry.version.origin == *origin && entry.version.hlc > *last;
            let holds = |run: &RunId| self.run(*run).entries.iter().flatten().any(|entry| is_behind(&entry));
            let mut holders = (0..self.runs.len() as u64).map(RunId).filter(holds);
            let holder = holders.find(|run| is_asked(*run)).map(|run| self.run(run).node);
            if is_up && !is_out {
                self.fail(Oracle::Retirement, || {
                    format!("run {}: retired {origin} of run {}, which is up", by.0, writer.0)
                });
            }
            if let Some(node) = holder.filter(|_| !is_out) {
                self.fail(Oracle::Retirement, || {
                    format!("run {}: retired {origin} at {last}, and n{node} holds what comes behind", by.0)
                });
            }
            self.note_strays(by, *origin, *last);
        }
    }

    /// Whether a run, as long as it is up, has a say in what `by` retires, which is in this `state`.
    ///
    /// A member that was told to be forgotten, or gave up its seat, has none until it has a seat again.
    /// (`sim/regressions/retired-by-those-who-forgot-the-one-that-had-more-of-it`) A seat that `by` was given word of,
    /// or gave, and that its disk had not synced when the machine crashed, it does not know of.
    /// (`sim/regressions/retired-by-who-lost-the-seat-of-one-that-had-left-and-come-again`) So it is with a seat of
    /// which nobody is left that knew. (`sim/regressions/retired-by-those-who-were-never-told-of-a-seat`)
    /// Of two processes of a member that are up at once, the one has that was met first, for as long as the link with
    /// it stands. (`sim/regressions/retired-though-up-by-those-who-know-another-process-of-its-member`)
    fn is_asked(&self, by: RunId, state: &Node, run: RunId) -> bool {
        let Run { node, is_second, .. } = *self.run(run);
        let name = format!("n{node}");
        let is_seated = state.seat(&name).is_some_and(|(_, is_lost)| !is_lost);
        let taken = if self.run(by).node == node {
            Some(by)
        } else {
            state.run_of(&name).and_then(|taken| self.origins.get(&taken).copied())
        };
        let is_displaced = is_second && taken.is_some_and(|taken| taken != run);
        let had_no_seat = self.forgotten[size(node)] || self.runs.iter().any(|of| of.node == node && of.is_unseated);
        (is_seated || !(had_no_seat || self.is_seat_lost(node))) && !is_displaced
    }

    /// A run has retired `origin` up to `last`, which is the newest that it and all others with a seat hold. If its
    /// member was forgotten while it was up, they may never have had all of it below that: what only members hold that
    /// were forgotten.
    fn note_strays(&mut self, by: RunId, origin: OriginId, last: Hlc) {
        let holders =
            self.runs.iter().filter(|run| run.standing == Standing::Current && self.forgotten[size(run.node)]);
        let strays = holders.flat_map(|run| run.entries.iter().zip(0..)).filter_map(|(entry, key)| {
            let version = entry.as_ref()?.version;
            let is_claimed = version.origin == origin && version.hlc <= last;
            let held = self.run(by).entries[size(key)].map(|held| held.version);
            (is_claimed && held < Some(version) && !self.is_forgotten(key, Some(version))).then_some(version)
        });
        let strays: Vec<Version> = strays.collect();
        self.strays.extend(strays);
    }

    /// An account that a node keeps of a run that has ended, though all members are up and hold the same of it.
    pub(super) fn unretired(&self, nodes: &[(RunId, &Node)]) -> Option<String> {
        // Who was forgotten has no say until somebody takes it in again, and here nobody is left for that. It shows no
        // ledger meanwhile, and has no roster that could say whom it waits for. So it is with a run that has yet to
        // find its cluster: a member may have died when it had told it of some records, and not yet of its roster. Two
        // such runs found a cluster. (`sim/regressions/died-before-it-told-its-roster-to-who-had-begun-to-read-it`)
        if matches!(nodes, [(_, node)] if !node.is_established()) {
            return None;
        }
        let mut is_blocked = false;
        for (_, node) in nodes {
            node.blocked_by(&mut |_| is_blocked = true);
        }
        if is_blocked {
            return None;
        }
        let marks: Vec<_> = nodes.iter().map(|(_, node)| node.retired_mark()).collect();
        if marks.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("ledgers of retired runs: {marks:?}"));
        }
        // Of whom only a part is held anywhere the rest may come back.
        let mut partly: BTreeSet<OriginId> = BTreeSet::new();
        for (_, node) in nodes {
            node.accounts(&mut |origin, frontier, held| {
                let writer = self.origins.get(&origin).map(|run| size(self.run(*run).node));
                let is_gone = writer.is_some_and(|node| self.forgotten[node] || self.leaves[node]);
                partly.extend((frontier < held && is_gone).then_some(origin));
            });
        }
        for (run, node) in nodes {
            let mut kept = None;
            node.accounts(&mut |origin, frontier, held| {
                let writes = nodes.iter().any(|(other, _)| self.run(*other).origin == origin);
                if !writes && !node.is_hidden(origin) && !partly.contains(&origin) {
                    kept = Some((origin, frontier, held));
                }
            });
            if let Some((origin, frontier, held)) = kept {
                return Some(format!(
                    "run {}: {origin} has ended at {frontier}, {held} is held, and not retired",
                    run.0
                ));
            }
        }
        None
    }
}
