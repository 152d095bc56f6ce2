//! Burials: what was deleted and then forgotten must stay away.
//!
//! A version that took another one's place, on any node, *buries* it, and all that the other had buried. Once a run has
//! taken a tombstone out, what that tombstone buried may never come back to this run, and may be with nobody in the
//! end, as long as a run lives that took it out: deletes that only lost memories held are lost. A value that no node
//! ever saw the tombstone take the place of is another matter: who wrote it had not seen the delete either, and after
//! the delete has been forgotten nothing is left to tell which was first.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{Node, Now, Version};

use super::versions::Entry;
use super::{Judge, Run, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::size;

/// How long after its deadline a value is freed.
const CLOCK_BOUND_MS: u64 = 60_000;

/// What is known of graves.
#[derive(Debug, Default)]
pub(super) struct Burials {
    /// By key and version: everything of the key that it has been seen to bury. A flush is of every key, and buries
    /// something else of each.
    under: BTreeMap<(u64, Version), BTreeSet<Version>>,
    /// By key: the newest version that a run has taken out.
    newest: BTreeMap<u64, Version>,
}

impl Judge {
    /// In some run, `new` took the place of `old` of `key`. A flush itself may come again where it was forgotten: who
    /// comes back to a cluster is told of its flushes anew. What it took may not.
    /// (`sim/regressions/who-came-back-was-told-of-an-older-flush-first`,
    /// `what-a-flush-had-taken-of-one-key-was-another-ones`)
    pub(super) fn bury(&mut self, key: u64, old: Version, new: Version) {
        let below = self.burials.under.get(&(key, old)).cloned().unwrap_or_default();
        let is_flush = self.flushes.contains(&old);
        let under = self.burials.under.entry((key, new)).or_default();
        under.extend(below);
        if !is_flush {
            under.insert(old);
        }
    }

    /// Whether `new` has been seen to take the place of `old`, or of what had.
    pub(super) fn buries(&self, key: u64, new: Version, old: Version) -> bool {
        self.burials.under.get(&(key, new)).is_some_and(|under| under.contains(&old))
    }

    /// A run no longer has `old` of `key`, nor anything else of it.
    pub(super) fn take_out(&mut self, run: RunId, key: u64, old: Entry, now: Now) {
        // It may have been freed in the same step.
        let is_husk = old.deadline.is_some_and(|deadline| deadline.plus_ms(CLOCK_BOUND_MS) <= now.wall);
        let is_grave = old.token.is_none() || is_husk;
        // What was away may have to drop values that were deleted meanwhile.
        // So do those whose deadline has passed, of which another clock thought so earlier.
        let has_ended = old.deadline.is_some_and(|deadline| deadline <= now.wall);
        let is_older = |newest: Version| newest > old.version || (has_ended && newest == old.version);
        let deleted = self.burials.newest.get(&key).copied().is_some_and(is_older);
        if !is_grave && !deleted && self.is_rotten(key) {
            return self.rotted(run, key);
        }
        if !is_grave && self.is_restoring(self.run(run).node) {
            self.marks.saw(Mark::RestoredDropped);
        }
        if !is_grave && !deleted {
            self.fail(Oracle::Lww, || format!("run {}: k{key} is gone; it was {old:?}", run.0));
        }
        if is_grave {
            let newest = self.burials.newest.entry(key).or_insert(old.version);
            *newest = (*newest).max(old.version);
            let buried = self.burials.under.get(&(key, old.version)).cloned().unwrap_or_default();
            self.run_mut(run).buried.extend(buried);
            self.stats.collected += 1;
            self.see_collected(run);
        }
        self.run_mut(run).entries[size(key)] = None;
        self.owe_nothing_of(run, key);
        let held = &mut self.held[size(key)];
        if *held == Some(old.version) || deleted {
            *held = None;
        }
    }

    /// A run has a version that it did not have before.
    pub(super) fn check_grave(&mut self, run: RunId, key: u64, version: Version) {
        if self.run(run).buried.contains(&version) {
            self.fail(Oracle::Resurrection, || {
                format!("run {}: k{key} is {version:?} again, after what deleted it was forgotten", run.0)
            });
        }
    }

    /// Whether some run has taken out what is at least as new.
    pub(super) fn is_forgotten(&self, key: u64, version: Option<Version>) -> bool {
        version.is_some_and(|version| self.burials.newest.get(&key).is_some_and(|newest| *newest >= version))
    }

    /// In the end: what is back from the dead, or not forgotten though nothing stands against it.
    pub(super) fn unrest(&self, nodes: &[(RunId, &Node)]) -> Option<String> {
        for (run, node) in nodes {
            // Mostly it is what the first one has, which was looked at.
            let first = nodes.first().filter(|(first, _)| first != run).map(|(first, _)| &self.run(*first).entries);
            for (key, entry) in self.run(*run).entries.iter().enumerate() {
                if first.is_some_and(|first| first[key] == *entry) {
                    continue;
                }
                let forgets = |run: &&Run| run.standing == Standing::Current;
                // A memory lost what had deleted it, this one's or that of who swept it since: so it looked like a loss
                // while a peer was still to be told of the delete, or the delete was claimed and never came. If it
                // lives, the digests differ, which is told as ever.
                // (`sim/regressions/what-a-memory-had-lost-the-delete-of-*`)
                let lost = self.runs.iter().filter_map(|run| run.rotten.get(&(key as u64))).max();
                let is_back = |entry: &&Entry| {
                    let mut runs = self.runs.iter().filter(forgets);
                    let is_excused = entry.deadline.is_some() && lost.is_some_and(|lost| *lost > entry.version);
                    entry.token.is_some() && !is_excused && runs.any(|run| run.buried.contains(&entry.version))
                };
                if let Some(entry) = entry.as_ref().filter(is_back) {
                    return Some(format!("run {}: k{key} is {entry:?}, which was deleted and forgotten", run.0));
                }
            }
            let mut waits_for = Vec::new();
            node.blocked_by(&mut |name| waits_for.push(name.to_owned()));
            let is_up = |name: &&String| {
                let current = self.runs.iter().filter(|run| run.standing == Standing::Current);
                current.map(|run| format!("n{}", run.node)).any(|up| up == **name)
            };
            if let Some(name) = waits_for.iter().find(is_up) {
                return Some(format!("run {}: collection waits for {name}, which is up", run.0));
            }
            if let Some(name) = waits_for.iter().find(|name| self.is_forgotten_by(*run, name)) {
                return Some(format!("run {}: collection waits for {name}, which it has forgotten", run.0));
            }
            // Who is alone and names others has yet to find those who may still hold what it deletes.
            if waits_for.is_empty() && node.graves() > 0 && node.is_established() && self.overdue(node) > 0 {
                return Some(format!(
                    "run {}: {} deletes are not collected, and nobody is waited for",
                    run.0,
                    node.graves()
                ));
            }
        }
        None
    }

    /// Deletes that a node should have collected by now, if nobody is waited for: all but values that were freed just
    /// now, a minute after their deadline (`sim/regressions/a-value-was-freed-just-before-the-end`), and what a member
    /// wrote that was forgotten while it was held in part: that waits for it.
    /// (`sim/regressions/a-delete-was-all-that-came-of-who-was-forgotten`)
    fn overdue(&self, node: &Node) -> usize {
        let setting = &self.plan.setting;
        // A disk may have to be synced first, once a second at the least.
        let sync_ms = if setting.durable > 0 { 2_000 + 10 * setting.sync_us_mean / 1_000 } else { 0 };
        let slack_ms = CLOCK_BOUND_MS + 3 * setting.collect_ms + self.spread_ms() + sync_ms;
        let since_ms = self.true_wall_ms().saturating_sub(slack_ms);
        let partial = node.partial_runs();
        let mut count = 0;
        node.entries(&mut |record| {
            let is_fresh = record.deadline.is_some_and(|deadline| deadline.0 > since_ms);
            let may_come = partial.contains(&record.version.origin);
            count += usize::from(record.value.is_none() && !is_fresh && !may_come);
        });
        count
    }

    /// Whether a run of `node` has not stopped.
    pub(super) fn is_up(&self, node: u64) -> bool {
        self.runs.iter().any(|run| run.node == node && run.standing != Standing::Stopped)
    }
}
