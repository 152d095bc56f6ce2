//! Copies of data directories that are put back: backups, and all files by hand.
//!
//! Of what was copied the disk has to bring back all that it had to bring back then, and nothing else: what a node had
//! by itself since, be it acknowledged under `always`, is lost on purpose. A node that was restored is a new member of
//! its cluster: until it has heard what changed, from one of those who were up, it takes no writes; what it writes then
//! is no older than what it has taken in, and owes nothing to what earlier runs of its name had written.

use std::collections::BTreeSet;

use kv_core::{Node, Version};

use super::sessions::Reply;
use super::{Judge, RunId, Standing};
use crate::disk::Copied;
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{Ask, size};

/// What the copies of a node's directory have.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    /// By key: what whoever starts on it has to find.
    floors: Vec<Option<Version>>,
    /// Replies of which a disk had what they said was added.
    kept: BTreeSet<u64>,
}

/// A node was restored and has not taken its place again.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// It had, and its disk may have lost that: it may hear of what changed once more, or need not.
    is_again: bool,
    /// The runs that were up when the node had read its files, or began since.
    others: Vec<Other>,
}

/// What somebody was whom a restored node may hear of what changed.
#[derive(Clone, Debug)]
struct Other {
    run: RunId,
    /// Who is not may begin a cluster with it: then nothing was forgotten that they had not both seen.
    is_established: bool,
    /// By key: what was shown to others than its writer. The rest comes when it is.
    held: Vec<Option<Version>>,
}

impl Judge {
    /// The files of a node are copied.
    pub fn copied(&mut self, node: u64) {
        let platter = &self.platters[size(node)];
        let mut floors: Vec<_> = (0..platter.floors.len()).map(|key| platter.floor(key)).collect();
        let run = self.runs.iter().rfind(|run| run.node == node && run.standing == Standing::Current);
        if let Some(run) = run.filter(|run| !run.logged.is_loading && !run.logged.has_failed) {
            for (((floor, written), lost), entry) in
                floors.iter_mut().zip(&run.logged.written).zip(&platter.lost).zip(&run.entries)
            {
                if entry.map(|entry| entry.version) >= *written && lost < written {
                    *floor = (*floor).max(*written);
                }
            }
        }
        let kept = self.kept(node);
        self.platters[size(node)].copy = Copy { floors, kept };
    }

    /// The directory of a node has given way to what was copied last.
    pub fn put_back(&mut self, node: u64, what: Copied) {
        let Copy { floors, kept } = self.platters[size(node)].copy.clone();
        let is_restored = what == Copied::Backup;
        // Where it names nobody it is the first of a cluster that begins with what it has.
        let is_member = is_restored && !self.plan.setting.peers(node).is_empty();
        let platter = &mut self.platters[size(node)];
        platter.owe_nothing();
        platter.floors = floors;
        platter.forget_stamps();
        (platter.was_restored, platter.restoring) = (is_member, is_member.then(Restoring::default));
        self.keep_only(node, &kept);
        for run in self.runs.iter_mut().filter(|run| run.node == node) {
            run.logged.promises.clear();
        }
        if is_restored {
            self.forgotten[size(node)] = true;
            self.gone += 1;
        }
        if !is_restored {
            self.marks.saw(Mark::RolledBack);
        }
        let lost = self.stats.lost;
        self.recount();
        if self.stats.lost > lost {
            self.marks.saw(Mark::LostWithCopy);
        }
    }

    /// Whether a node was restored, and has not taken its place in its cluster yet.
    #[must_use]
    pub fn is_restoring(&self, node: u64) -> bool {
        self.platters[size(node)].restoring.is_some()
    }

    /// A run holds all that it begins with.
    pub(super) fn see_others(&mut self, run: RunId, is_returning: bool) {
        let node = self.run(run).node;
        let platter = &mut self.platters[size(node)];
        if platter.was_restored && is_returning && platter.restoring.is_none() {
            platter.restoring = Some(Restoring { is_again: true, others: Vec::new() });
            return;
        }
        if self.is_restoring(node) {
            self.marks.saw(Mark::Restored);
            let is_up = |other: &super::Run| other.standing == Standing::Current && !other.logged.is_loading;
            let others = self.runs.iter().zip(0..).filter(|(other, _)| other.node != node && is_up(other));
            let others = others.map(|(_, number)| self.other(RunId(number))).collect();
            self.platters[size(node)].restoring = Some(Restoring { is_again: false, others });
        }
        let other = self.other(run);
        for (_, platter) in (0..).zip(&mut self.platters).filter(|(of, _)| *of != node) {
            if let Some(restoring) = &mut platter.restoring {
                restoring.others.push(other.clone());
            }
        }
    }

    /// What `run` is to who was restored.
    fn other(&self, run: RunId) -> Other {
        let state = self.run(run);
        let is_shown = |key: usize, version: &Version| {
            let writer = self.origins.get(&version.origin).map(|by| self.run(*by).node);
            let has_it = |of: &super::Run| of.entries[key].is_some_and(|entry| entry.version == *version);
            self.runs.iter().any(|of| Some(of.node) != writer && has_it(of))
        };
        let held = state.entries.iter().map(|entry| entry.map(|entry| entry.version)).enumerate();
        let held = held.map(|(key, version)| version.filter(|version| is_shown(key, version))).collect();
        Other { run, is_established: state.sight.is_established(), held }
    }

    /// A run of a node that was restored: it takes writes once it has caught up with somebody, and not before.
    pub(super) fn look_at_restoring(&mut self, run: RunId, state: &Node, replies: &[Reply]) {
        let node = self.run(run).node;
        let Some(restoring) = &self.platters[size(node)].restoring else { return };
        let took = replies.iter().any(|(ask, line)| match ask {
            Ask::Set { .. } | Ask::Start { .. } => line == "OK",
            Ask::Add { .. } => !line.starts_with("Error:"),
            _ => false,
        });
        if replies.iter().any(|(_, line)| line.starts_with("Error: this node was restored")) {
            self.marks.saw(Mark::RestoredRefused);
        }
        if !took && state.is_returning() {
            return;
        }
        let lacks = |key: usize, theirs: Option<Version>| {
            let mine = self.run(run).entries[key].map(|entry| entry.version);
            mine < theirs && !self.is_forgotten(key as u64, theirs) && !self.is_rotten(key as u64)
        };
        // A hash that was deleted since, of which a sweep had told a part: the stream that goes on tells of the delete.
        // (`sim/regressions/a-hash-was-deleted-while-who-was-restored-was-told-of-it`)
        let is_dropped = |other: RunId, key: usize| {
            self.run(other).entries[key].is_some_and(|entry| self.drops.contains(&entry.version))
        };
        let first_lack = |other: &Other| {
            let held = &other.held;
            (0..held.len()).find(|key| lacks(*key, held[*key]) && !is_dropped(other.run, *key))
        };
        let has_heard = |other: &Other| !other.is_established || first_lack(other).is_none();
        if !restoring.is_again && !restoring.others.iter().any(has_heard) {
            let others: Vec<_> = restoring.others.iter().map(|other| (other.run.0, first_lack(other))).collect();
            let why = format!("run {}: it was restored, took its place, and lacks what others had: {others:?}", run.0);
            self.fail(Oracle::Durability, || why);
        }
        self.platters[size(node)].restoring = None;
    }

    /// A run ends.
    pub(super) fn stop_restoring(&mut self, run: RunId) {
        if self.is_restoring(self.run(run).node) && !self.run(run).logged.is_loading {
            self.marks.saw(Mark::RestoredAgain);
        }
    }
}
