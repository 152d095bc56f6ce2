//! Versions: who wrote what, in which order, and what each run holds of it.

use std::collections::BTreeMap;

use kv_core::{Node, Now, OriginId, Record, Version, WallMs};

use super::sessions::{Expected, Write};
use super::{Judge, Run, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{hash_text, is_value, size, token_of};

/// What a run holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: Version,
    /// Of its value; `None` is a tombstone, or a value freed after its deadline.
    pub(super) token: Option<u64>,
    pub(super) deadline: Option<WallMs>,
}

/// What a version carries, whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: u64,
    pub(super) token: Option<u64>,
    pub(super) deadline: Option<WallMs>,
}

/// A delete of that version.
const fn deleted(version: Version) -> Record<'static> {
    Record { key: b"", value: None, is_counter: false, deadline: None, version }
}

impl Judge {
    /// Learns a run's origin.
    pub(super) fn look_at_origin(&mut self, run: RunId, origin: OriginId) {
        if self.run(run).origin == origin {
            return;
        }
        if std::mem::replace(&mut self.run_mut(run).origin, origin) != OriginId(0) {
            self.marks.saw(Mark::TookAnotherOrigin);
        }
        let owner = self.origins.insert(origin, run);
        // What nobody has been shown is gone on with, where a disk has kept it.
        if let Some(owner) = owner.filter(|owner| !self.is_with_disk(run, *owner)) {
            self.fail(Oracle::Hlc, || format!("run {} writes as {origin}, as run {} did", run.0, owner.0));
        }
    }

    /// Compares what a run holds with what it held, and with what the commands of this step must have made of it.
    pub(super) fn look_at_entries(
        &mut self,
        run: RunId,
        node: &Node,
        now: Now,
        since: Option<u64>,
        expected: &BTreeMap<u64, Expected>,
    ) {
        let newest_before = self.run(run).newest;
        let flushed = node.flushed();
        let is_flushed = flushed != self.run(run).flushed;
        if is_flushed {
            self.look_at_flush(run, node, flushed);
        }
        let changed = self.keys.changed(node, since, expected.keys().copied());
        self.look_at_drops(run, node, &changed);
        for key in changed {
            let record = node.peek(&self.keys.stored[size(key)]);
            let cover = self.cover(node, key);
            let is_dropped = cover.is_some() && cover != self.last_cover(run, key);
            let (flushed, is_news) = (flushed.max(cover), is_flushed || is_dropped);
            let old = self.run(run).entries[size(key)];
            let stands = |version: &Version| match old {
                Some(old) => old.version == *version || (is_news && old.version < *version),
                None => is_news,
            };
            let record = record.or_else(|| flushed.filter(stands).map(deleted));
            let want = expected.get(&key).copied().filter(|want| want.write != Write::None);
            if let Some(record) = record.filter(|record| record.value.is_some() && Some(record.version) < flushed) {
                self.fail(Oracle::Lww, || format!("run {}: k{key} is {record:?}, below {flushed:?}", run.0));
            }
            let Some(record) = record else {
                if want.is_some_and(|want| want.write == Write::Done && want.token.is_some()) {
                    self.fail(Oracle::Lww, || format!("run {}: k{key} is gone; it was {old:?}, {want:?}", run.0));
                }
                if let Some(old) = old {
                    self.take_out(run, key, old, now);
                }
                continue;
            };
            if old.is_some_and(|old| old.version == record.version) {
                self.check_unchanged(run, key, &record, now, want);
                continue;
            }
            if let Some(old) = old.filter(|old| record.version < old.version) {
                self.fail(Oracle::Lww, || format!("run {}: k{key} went back to {record:?} from {old:?}", run.0));
            }
            let entry =
                Entry { version: record.version, token: record.value.and_then(token_of), deadline: record.deadline };
            let is_known = self.versions.contains_key(&record.version);
            self.check_new(run, key, &record, entry);
            if !self.run(run).logged.is_fresh {
                self.check_writer(run, key, entry, want, newest_before, is_known);
            }
            self.see_entry(run, key, entry, (node, now), want.is_some());
            self.take_entry(run, key, entry);
        }
    }

    /// The keyspace was flushed up to `flushed` since a run was last looked at: for good, unless the run is alone, or
    /// comes back to a cluster.
    fn look_at_flush(&mut self, run: RunId, node: &Node, flushed: Option<Version>) {
        self.flushes.extend(flushed);
        let state = self.run(run);
        let before = state.flushed;
        if flushed < before && !state.was_alone && !node.is_returning() {
            self.fail(Oracle::Lww, || format!("run {}: it was flushed up to {before:?}, now {flushed:?}", run.0));
        }
        let state = self.run(run);
        if before.is_none() && state.logged.is_fresh {
            self.marks.saw(Mark::FlushRead);
        } else if state.entries.iter().flatten().any(|entry| entry.token.is_some() && Some(entry.version) > flushed) {
            self.marks.saw(Mark::FlushLeftNewer);
        }
    }

    /// Hashes of these keys that were deleted since a run was last looked at.
    fn look_at_drops(&mut self, run: RunId, node: &Node, keys: &[u64]) {
        for key in keys {
            let cover = self.cover(node, *key);
            let Some(version) = cover.filter(|_| cover != self.last_cover(run, *key)) else { continue };
            self.drops.insert(version);
            let is_kept = |entry: Entry| entry.token.is_some() && entry.version > version;
            let state = self.run(run);
            if state.entries[size(*key)].is_some_and(is_kept) {
                self.marks.saw(Mark::DropLeftNewer);
            }
            if self.run(run).logged.is_fresh {
                self.marks.saw(Mark::DropRead);
            }
        }
    }

    /// What stands under the name of the hash that this key or counter is a field of: it covers what is no newer.
    pub(super) fn cover(&self, node: &Node, number: u64) -> Option<Version> {
        let hash = self.plan.setting.hash_of(number)?;
        node.peek(hash_text(hash).as_bytes()).map(|record| record.version)
    }

    /// The same when the run was last looked at.
    fn last_cover(&self, run: RunId, key: u64) -> Option<Version> {
        self.plan.setting.hash_of(key).and_then(|hash| self.run(run).covers[size(hash)])
    }

    /// Whether this key or counter is a field of `hash`.
    pub(super) fn is_in(&self, number: u64, hash: u64) -> bool {
        self.plan.setting.hash_of(number) == Some(hash)
    }

    fn check_unchanged(&mut self, run: RunId, key: u64, record: &Record<'_>, now: Now, want: Option<Expected>) {
        let Some(old) = self.run(run).entries[size(key)] else { return };
        if want.is_some_and(|want| want.write == Write::Done) {
            self.fail(Oracle::Session, || format!("run {}: acknowledged, yet k{key} is still {old:?}", run.0));
        }
        let token = record.value.and_then(token_of);
        let freed = token.is_none() && old.deadline.is_some_and(|deadline| deadline <= now.wall);
        // Who lost track of what it holds is sent all of a value that it has freed.
        let filled = old.token.is_none()
            && old.deadline.is_some()
            && self.versions.get(&record.version).is_some_and(|written| written.token == token);
        if token != old.token && !freed && !filled {
            self.fail(Oracle::Lww, || format!("run {}: k{key} is {record:?} and was {old:?}", run.0));
        }
        self.run_mut(run).entries[size(key)] = Some(Entry { token, ..old });
    }

    /// A record that is new to this run: it must be what its writer wrote.
    fn check_new(&mut self, run: RunId, key: u64, record: &Record<'_>, entry: Entry) {
        let Entry { version, token, deadline } = entry;
        let Some(writer) = self.origins.get(&version.origin).copied() else {
            self.fail(Oracle::Lww, || format!("run {}: k{key} is {version:?} of an unknown origin", run.0));
            return;
        };
        if let Some(bytes) = record.value {
            let known = token.and_then(|token| Some((token, *self.tokens.get(&token)?)));
            let writer = self.run(writer).node;
            let right = known.is_some_and(|(token, from)| {
                from.key == key
                    && (from.home == writer || self.forgotten[size(writer)])
                    && is_value(bytes, token, from.pad)
            });
            if !right {
                self.fail(Oracle::Lww, || format!("run {}: k{key} is {record:?}, which nobody wrote so", run.0));
            }
        }
        if !self.is_wide(version) {
            self.check_written(run, version, Written { key, token, deadline });
        }
        let setting = &self.plan.setting;
        // A peer may be ahead by the bound, and what it brings by eleven more; what it last said of its clock may be as
        // old as a silence that is still borne.
        let slack_ms = 11 * setting.clock_ahead_ms_max + setting.silence_ms + 2 * setting.heartbeat_ms;
        let member = self.run(run).node;
        let walls = self.runs.iter().filter(|other| other.node == member).map(|other| other.wall_max.0);
        let limit = walls.max().unwrap_or(0) + setting.clock_ahead_ms_max + slack_ms;
        if version.hlc.ms() > limit {
            self.fail(Oracle::ClockGuard, || {
                format!(
                    "run {}: k{key} is stamped {}, {} ms too far ahead",
                    run.0,
                    version.hlc,
                    version.hlc.ms() - limit
                )
            });
        }
    }

    /// Whoever holds a version, it says the same.
    fn check_written(&mut self, run: RunId, version: Version, written: Written) {
        let Written { key, token, deadline } = written;
        let first = *self.versions.entry(version).or_insert(written);
        // A sweep may bring the tombstone that a node made of a value after its deadline.
        let freed = first.key == key && token.is_none() && first.deadline.is_some();
        // Who writes a value anew after its deadline may free it in the same step; others are sent all of it.
        let whole = first == Written { token: None, ..written } && deadline.is_some();
        if whole {
            self.versions.insert(version, written);
        }
        if first != written && !freed && !whole {
            self.fail(Oracle::Lww, || format!("run {}: {version:?} is {written:?} and was {first:?}", run.0));
        }
    }

    /// A version of this run's own: there was a command for it, and it is greater than all that the run has seen.
    fn check_writer(
        &mut self,
        run: RunId,
        key: u64,
        entry: Entry,
        want: Option<Expected>,
        newest_before: Option<Version>,
        is_known: bool,
    ) {
        // A delete that was collected here may come back from who still holds it, to be collected again.
        let is_grave = is_known && entry.token.is_none() && entry.deadline.is_none();
        // What a member that came back once wrote may come back to it, from those who knew it.
        let returns = self.forgotten[size(self.run(run).node)] && entry.version.origin != self.run(run).origin;
        // Nor does what its memory lost.
        let is_back = self.run(run).rotten.get(&key).is_some_and(|lost| entry.version <= *lost);
        let own = self.origins.get(&entry.version.origin) == Some(&run) && !returns && !is_back && !is_grave;
        if own && newest_before.is_some_and(|newest| entry.version <= newest) {
            self.fail(Oracle::Hlc, || {
                format!("run {}: wrote k{key} as {:?} after it had seen {newest_before:?}", run.0, entry.version)
            });
        }
        if own && want.is_some() {
            self.check_stamp(run, key, entry.version);
        }
        let claimed = self.run(run).claimed;
        if own && entry.version.hlc <= claimed {
            self.fail(Oracle::Hlc, || {
                format!("run {}: wrote k{key} as {:?} after it had claimed all up to {claimed}", run.0, entry.version)
            });
        }
        let old = self.run(run).entries[size(key)];
        if own && let Some(old) = old {
            self.overwritten.insert(entry.version, old.version);
        }
        // What the run wrote under an earlier origin, which nobody has seen, it may write anew.
        let came_back = self.forgotten[size(self.run(run).node)];
        // Who comes back may have to delete again what only it knows to be deleted.
        let reissued = old.map_or(came_back && entry.token.is_none(), |old| {
            let (token, deadline, origin) = (entry.token, entry.deadline, old.version.origin);
            // With a disk it goes on with what an earlier run left.
            let is_by = |by: &RunId| *by == run || self.is_with_disk(run, *by);
            let was_own = origin != self.run(run).origin && self.origins.get(&origin).is_some_and(is_by);
            // Its deadline may have passed meanwhile, and its value be freed in the same step; a delete has none.
            let is_freed = token.is_none() && deadline.is_some();
            (was_own || came_back) && old.deadline == deadline && (old.token == token || is_freed)
        });
        match want {
            None if own && !reissued && !self.is_untold(run, key, entry, old) => {
                self.fail(Oracle::Lww, || format!("run {}: wrote k{key} {entry:?} over {old:?} for no client", run.0));
            }
            // A delete of nothing may have left the key to an entry that came in the same step.
            Some(want)
                if (!own || want.token != entry.token || want.deadline != entry.deadline)
                    && (want.write == Write::Done || own) =>
            {
                self.fail(Oracle::Session, || {
                    format!("run {}: k{key} is {entry:?} after its client was told of {want:?}", run.0)
                });
            }
            _ => {}
        }
    }

    /// Whether `entry` deletes once more what a run has deleted, as some other claims to know of that, and holds what
    /// it deleted, or did until yet another had deleted it once more.
    fn is_untold(&self, run: RunId, key: u64, entry: Entry, old: Option<Entry>) -> bool {
        let Some(deleted) = old.filter(|old| old.token.is_none() && entry.token.is_none()) else { return false };
        let held = |other: &Run| {
            other.entries[size(key)].is_some_and(|held| match held.token {
                Some(_) => held.version < deleted.version,
                None => held.version > deleted.version && held.deadline.is_none(),
            })
        };
        let others = self.runs.iter().enumerate().filter(|(at, _)| *at != size(run.0)).map(|(_, other)| other);
        others.filter(|other| held(other)).any(|other| other.claimed >= deleted.version.hlc)
    }

    /// Remembers up to where a run claims to hold what others wrote. What was deleted and forgotten is covered by such
    /// a claim, though the run may never have seen it: what it writes next must be newer than that, too.
    pub(super) fn look_at_claims(&mut self, run: RunId, node: &Node) {
        let mut claimed = self.run(run).claimed;
        node.accounts(&mut |_, frontier, _| claimed = claimed.max(frontier));
        let reading = node.reading();
        if reading < claimed {
            self.fail(Oracle::Hlc, || format!("run {}: its clock reads {reading}, and it claims {claimed}", run.0));
        }
        node.retired(0, &mut |_, last| claimed = claimed.max(last));
        self.run_mut(run).claimed = claimed;
    }

    fn take_entry(&mut self, run: RunId, key: u64, entry: Entry) {
        let state = self.run(run);
        if !state.logged.is_fresh && state.entries[size(key)].is_some() && self.is_restoring(state.node) {
            self.marks.saw(Mark::RestoredTookNewer);
        }
        self.see_stamp(entry.version, Some(run));
        self.check_grave(run, key, entry.version);
        if let Some(old) = self.run(run).entries[size(key)] {
            self.bury(key, old.version, entry.version);
        }
        let state = self.run_mut(run);
        state.entries[size(key)] = Some(entry);
        state.newest = state.newest.max(Some(entry.version));
        if state.standing == Standing::Current {
            let held = &mut self.held[size(key)];
            *held = (*held).max(Some(entry.version));
        }
    }

    /// After a run has left: counts what only it held as lost, and forgets to ask for it.
    pub(super) fn recount(&mut self) {
        for (index, held) in self.held.iter_mut().enumerate() {
            let current = self.runs.iter().filter(|run| run.standing == Standing::Current);
            let newest = current.filter_map(|run| Some(run.entries[index]?.version)).max();
            // What a disk has comes back with its node.
            let newest = self.platters.iter().map(|platter| platter.floor(index)).max().flatten().max(newest);
            if newest < *held {
                self.stats.lost += 1;
                self.marks.saw(Mark::NewestLost);
                *held = newest;
            }
        }
    }
}
