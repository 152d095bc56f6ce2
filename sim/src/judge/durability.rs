//! Durability: what a node with a disk still has when it comes back.
//!
//! By node and key there is a *floor*: the version that its disk must bring back, that or a newer one. It rises with
//! what clients were told under `always`, and with every sync that was carried out: whatever a run held when it last
//! handed over its log is in that. What a process has written counts as well when the process alone ends. It is gone
//! when the node takes the key out, and when a bit turns on its disk: then the node has to say so instead.

use std::collections::{BTreeSet, VecDeque};

use kv_core::{DiskOp, DiskWork, FileId, Fsync, Hlc, Lane, Node, Now, Version};

use super::copies::{Copy, Restoring};
use super::sessions::Reply;
use super::{Judge, RunId, SessionId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{Ask, Fault, Item, size};

/// How long after a disk's trouble a node may still refuse writes and hold replies back: the longest it waits before it
/// tries again, and a snapshot.
const RECOVERY_US: u64 = 20_000_000;

/// What is lost by a crash under `everysec` at most, without what the sync takes.
const WINDOW_US: u64 = 1_000_000;

/// Turns and ticks until a sync is begun.
const SLACK_US: u64 = 200_000;

/// What is known of a node's disk.
#[derive(Debug, Default)]
pub(super) struct Platter {
    /// By key.
    pub(super) floors: Vec<Option<Version>>,
    /// By key: what a process had written when it ended, until the machine does too.
    written: Vec<Option<Version>>,
    /// By key: what may have been damaged since the node was last started, that or something older.
    pub(super) lost: Vec<Option<Version>>,
    /// Some of that was damaged while a run was reading, which may have had it by then.
    is_losing: bool,
    /// How a file begins was damaged since: what is written behind that is not read again either.
    is_headless: bool,
    /// A sync has failed since a run was last able to write anew what it could not count on.
    is_unsure: bool,
    /// The greatest stamp of what runs of this member wrote and somebody has seen, and of what runs before
    /// the newest did.
    stamped: Hlc,
    stamped_before: Hlc,
    /// The greatest stamp that is on it, and with it a ceiling that no later run stamps below. What was stamped since,
    /// by a clock that was carried ahead just then, a crash may take back.
    stamped_there: Hlc,
    /// A bit has turned, or could not be read: the disk owes nothing that it had then.
    is_damaged: bool,
    /// A crash may have left anything behind what was synced.
    has_crashed: bool,
    /// When its last trouble ends.
    trouble_us: u64,
    /// What the newest copies of it have.
    pub(super) copy: Copy,
    /// Its node was restored.
    pub(super) restoring: Option<Restoring>,
    pub(super) was_restored: bool,
}

/// What is known of what a run has handed to its disk.
#[derive(Debug, Default)]
pub(super) struct Logged {
    /// It has not read all of its files yet.
    pub(super) is_loading: bool,
    /// What it holds now it has read.
    pub(super) is_fresh: bool,
    /// Operations of the log's lane that were handed over, and those that are done.
    handed: u64,
    done: u64,
    /// It was told that the disk failed: what was handed over before is anybody's guess from then on.
    pub(super) has_failed: bool,
    /// Files with something unsynced.
    dirty: BTreeSet<FileId>,
    /// Files that were begun, and whether one of them has no synced name.
    begun: BTreeSet<FileId>,
    is_unnamed: bool,
    /// What it held when it last handed something over.
    held: Vec<Option<Version>>,
    /// The newest of its own among that.
    stamp: Hlc,
    covers: VecDeque<Cover>,
    /// The newest that was written and is done.
    pub(super) written: Vec<Option<Version>>,
    written_stamp: Hlc,
    /// What clients were told under `everysec`, and when.
    pub(super) promises: VecDeque<(u64, u64, Version)>,
}

/// Once so many operations are done, this is written, or synced.
#[derive(Debug)]
struct Cover {
    op: u64,
    is_synced: bool,
    held: Vec<Option<Version>>,
    stamp: Hlc,
}

impl Platter {
    pub(super) fn new(keys: usize) -> Self {
        Self { floors: vec![None; keys], written: vec![None; keys], lost: vec![None; keys], ..Self::default() }
    }
}

impl Platter {
    /// What is to come back of a key.
    pub(super) fn floor(&self, key: usize) -> Option<Version> {
        self.floors[key].max(self.written[key])
    }

    /// What the node's runs have written is nothing to those that come: there are others in its place.
    pub(super) const fn forget_stamps(&mut self) {
        (self.stamped, self.stamped_before, self.stamped_there) = (Hlc::ZERO, Hlc::ZERO, Hlc::ZERO);
    }

    /// Nothing has to come back.
    pub(super) fn owe_nothing(&mut self) {
        self.floors.fill(None);
        self.written.fill(None);
    }
}

impl Logged {
    pub(super) fn new(is_loading: bool) -> Self {
        Self { is_loading, ..Self::default() }
    }
}

impl Judge {
    /// A run hands work to its disk. All that it holds is in what it has handed over by now.
    pub fn handed(&mut self, run: RunId, lane: Lane, work: &DiskWork) {
        if lane != Lane::Log {
            return;
        }
        let state = self.run_mut(run);
        let now: Vec<_> = state.entries.iter().map(|entry| entry.map(|entry| entry.version)).collect();
        let own = now.iter().flatten().filter(|version| version.origin == state.origin);
        let stamp = own.map(|version| version.hlc).max().unwrap_or(Hlc::ZERO);
        let logged = &mut state.logged;
        let last = work.ops.iter().rposition(|op| matches!(op, DiskOp::Append { .. }));
        for (index, op) in work.ops.iter().enumerate() {
            logged.handed += 1;
            match op {
                DiskOp::Append { file, .. } => {
                    logged.dirty.insert(*file);
                    logged.is_unnamed |= logged.begun.insert(*file);
                }
                DiskOp::Sync { file } => {
                    logged.dirty.remove(file);
                }
                DiskOp::SyncDir => logged.is_unnamed = false,
                DiskOp::Finish { file } => {
                    logged.begun.insert(*file);
                    logged.is_unnamed = true;
                }
                DiskOp::Remove { .. } | DiskOp::Resume => {}
            }
            let syncs = matches!(op, DiskOp::Sync { .. } | DiskOp::SyncDir);
            if syncs && logged.dirty.is_empty() && !logged.is_unnamed {
                let is_all = last.is_none_or(|last| last < index);
                let held = if is_all { now.clone() } else { logged.held.clone() };
                let stamp = if is_all { stamp } else { logged.stamp };
                logged.covers.push_back(Cover { op: logged.handed, is_synced: true, held, stamp });
            }
        }
        if now != logged.held {
            logged.covers.push_back(Cover { op: logged.handed, is_synced: false, held: now.clone(), stamp });
        }
        (logged.held, logged.stamp) = (now, stamp);
    }

    /// So many operations of the log's lane were carried out.
    pub fn carried_out(&mut self, run: RunId, lane: Lane, ops: u32) {
        if lane != Lane::Log || self.run(run).logged.has_failed {
            return;
        }
        let logged = &mut self.run_mut(run).logged;
        logged.done += u64::from(ops);
        let done = logged.done;
        while let Some(cover) = self.run_mut(run).logged.covers.pop_front_if(|cover| cover.op <= done) {
            match cover.is_synced {
                true => {
                    self.raise(run, &cover.held);
                    let platter = &mut self.platters[size(self.runs[size(run.0)].node)];
                    platter.stamped_there = platter.stamped_there.max(cover.stamp);
                }
                false => {
                    let logged = &mut self.run_mut(run).logged;
                    (logged.written, logged.written_stamp) = (cover.held, cover.stamp);
                }
            }
        }
    }

    /// The disk has failed to carry something out.
    pub fn disk_failed(&mut self, run: RunId, lane: Lane) {
        self.marks.saw(Mark::DiskFailed);
        if lane == Lane::Log {
            let node = size(self.run(run).node);
            self.platters[node].is_unsure = true;
            self.run_mut(run).logged.has_failed = true;
        }
    }

    /// Something is wrong with a disk until then.
    pub fn troubled(&mut self, node: u64, until_us: u64) {
        let platter = &mut self.platters[size(node)];
        platter.trouble_us = platter.trouble_us.max(until_us + RECOVERY_US);
    }

    /// All trouble is over.
    pub fn healed(&mut self) {
        let (at_us, survivors) = (self.at_us, self.plan.setting.survivors);
        let comes_back = |node: usize| (survivors >> node) & 1 == 1;
        for (node, platter) in self.platters.iter_mut().enumerate() {
            platter.trouble_us = platter.trouble_us.min(at_us + RECOVERY_US);
            if !comes_back(node) {
                platter.owe_nothing();
            }
        }
        for run in self.runs.iter_mut().filter(|run| !comes_back(size(run.node))) {
            run.logged.promises.clear();
        }
        // What only a machine had that never comes back is held by nobody.
        self.recount();
    }

    /// Whether a node may refuse writes, or hold replies back, because of its disk.
    #[must_use]
    pub fn is_troubled(&self, node: u64) -> bool {
        self.at_us < self.platters[size(node)].trouble_us
    }

    /// A bit has turned on a node's disk, maybe in how a file begins; or something there cannot be read.
    pub fn damaged(&mut self, node: u64, is_beginning: bool) {
        let platter = &mut self.platters[size(node)];
        platter.is_headless |= is_beginning;
        platter.owe_nothing();
        platter.is_damaged = true;
        // Who is reading may have it, and has not been looked at yet: what the runs before it had.
        let runs = self.runs.iter().filter(|run| run.node == node);
        platter.is_losing |= runs.clone().next_back().is_some_and(|run| run.logged.is_loading);
        for run in runs {
            let held = run.entries.iter().map(|entry| entry.map(|entry| entry.version));
            platter.lost.iter_mut().zip(held).for_each(|(lost, held)| *lost = held.max(*lost));
        }
        self.keep_none(node);
        self.recount();
    }

    /// A run has taken a key out: its disk need not bring back what was there.
    pub(super) fn owe_nothing_of(&mut self, run: RunId, key: u64) {
        let node = size(self.run(run).node);
        let platter = &mut self.platters[node];
        (platter.floors[size(key)], platter.written[size(key)]) = (None, None);
        self.run_mut(run).logged.promises.retain(|(_, of, _)| *of != key);
    }

    /// Whether a run goes on with what another one left on the disk of their node.
    pub(super) fn is_with_disk(&self, run: RunId, other: RunId) -> bool {
        self.plan.setting.durable > 0 && self.run(run).node == self.run(other).node
    }

    /// Whether a node that has stopped may come back with what its disk has.
    pub(super) fn comes_back(&self, node: u64) -> bool {
        let load_us = 1_000 * self.plan.setting.load_ms;
        self.at_us < load_us || (self.plan.setting.survivors >> node) & 1 == 1
    }

    /// A node has asked for what no node may ask of its disk.
    pub fn misused(&mut self, node: u64, what: &str) {
        self.fail(Oracle::Durability, || format!("n{node}: {what}"));
    }

    /// A run ends whose node has a disk; `crash`: and its machine with it.
    pub(super) fn put_down(&mut self, run: RunId, crash: bool) {
        let node = size(self.run(run).node);
        self.platters[node].has_crashed |= crash;
        if crash {
            self.platters[node].written.fill(None);
        }
        let state = self.run_mut(run);
        if state.logged.is_loading {
            return;
        }
        let written = std::mem::take(&mut state.logged.written);
        let has_failed = state.logged.has_failed;
        if !crash && !has_failed {
            let floors = self.platters[node].floors.clone();
            self.raise(run, &written);
            let stamp = self.run(run).logged.written_stamp;
            let platter = &mut self.platters[node];
            platter.written = std::mem::replace(&mut platter.floors, floors);
            platter.stamped_there = platter.stamped_there.max(stamp);
        }
        let late_us = self.window_us(node as u64);
        let state = self.run(run);
        let is_short = |(at_us, key, version): &&(u64, u64, Version)| {
            let held = state.entries[size(*key)].map(|entry| entry.version);
            at_us + late_us < self.at_us
                && self.platters[node].floor(size(*key)) < Some(*version)
                && held >= Some(*version)
        };
        let is_member = state.standing == Standing::Current;
        let short = state.logged.promises.iter().find(is_short).copied().filter(|_| is_member);
        if let Some((at_us, key, version)) = short
            && !state.logged.has_failed
            && !self.platters[node].is_damaged
        {
            self.fail(Oracle::Durability, || {
                format!("run {}: k{key} was acknowledged as {version:?} at {at_us} us, and is not synced yet", run.0)
            });
        }
    }

    /// Whether a version is with nobody any more, nor has anything taken its place there, nor is it on a disk that has
    /// to have it: its writer has lost it, and nobody can know that it ever was.
    pub(super) fn is_lost_for_all(&self, key: u64, version: Version) -> bool {
        self.plan.setting.durable > 0 && self.is_with_nobody(key, version)
    }

    /// The same, though nobody has a disk.
    pub(super) fn is_with_nobody(&self, key: u64, version: Version) -> bool {
        let has_it = |held: Version| held == version || self.buries(key, held, version);
        let mut current = self.runs.iter().filter(|run| run.standing == Standing::Current);
        !current.any(|run| run.entries[size(key)].is_some_and(|entry| has_it(entry.version)))
            && !self.platters.iter().any(|platter| platter.floor(size(key)).is_some_and(has_it))
    }

    /// What a crash under `everysec` may take back.
    fn window_us(&self, node: u64) -> u64 {
        let slow_us = self.plan.items.iter().filter_map(|(_, item)| match *item {
            Item::Fault(Fault::DiskSlow { node: of, us, .. }) if of == node => Some(us),
            _ => None,
        });
        // Two syncs, of which the one has to wait for the other, each with what ends a segment and begins the next.
        let sync_us = 4 * self.plan.setting.sync_us_mean + slow_us.max().unwrap_or(0);
        // And values that fill a segment each, so that all of it comes with every one of them.
        // (`sim/regressions/each-value-began-a-segment-on-a-slow-disk`)
        let fills = |token: &&super::Token| 2 * token.pad >= self.plan.setting.segment_bytes;
        let segments = self.tokens.values().filter(fills).count() as u64;
        WINDOW_US + SLACK_US + (10 + 3 * segments) * sync_us + 1_000 * self.pause_ms_max
    }

    /// A run has read its files; `read` bits of those have turned, or `read` places were not read at all. `damage`:
    /// what it says of that.
    pub fn loaded(&mut self, run: RunId, state: &Node, now: Now, (read, damage): (u64, u64)) {
        let logged = &mut self.run_mut(run).logged;
        (logged.is_loading, logged.is_fresh) = (false, true);
        self.observe(run, state, now, None);
        self.run_mut(run).logged.is_fresh = false;
        if damage > 0 {
            self.marks.saw(Mark::DamageFound);
            // Whatever was there is missing, and may be found missing.
            self.findable += self.versions.len() as u64 + self.plan.setting.counters;
        }
        let node = size(self.run(run).node);
        let platter = &mut self.platters[node];
        platter.stamped_before = platter.stamped.min(platter.stamped_there);
        let platter = &self.platters[node];
        let is_sound = !platter.is_damaged && !platter.has_crashed && platter.trouble_us == 0;
        if read > 0 && damage == 0 {
            self.fail(Oracle::Durability, || format!("run {}: {read} bits were wrong, and it does not say so", run.0));
        }
        if damage > 0 && is_sound {
            self.fail(Oracle::Durability, || format!("run {}: it finds damage, and nothing was wrong", run.0));
        }
        // What was read of a damaged disk is written anew by a snapshot only.
        let is_unsure = std::mem::take(&mut self.platters[node].is_unsure);
        self.run_mut(run).logged.has_failed |= is_unsure && damage > 0;
        let platter = &mut self.platters[node];
        if !std::mem::take(&mut platter.is_losing) {
            platter.lost.fill(None);
            platter.is_headless = false;
        }
        for key in 0..self.platters[node].floors.len() {
            let floor = self.platters[node].floor(key);
            let held = self.run(run).entries[key];
            // Who comes back lets go of flushes, of which its cluster tells it; what they had taken stays gone.
            let is_flush = floor.is_some_and(|floor| self.flushes.contains(&floor));
            if state.is_returning() && is_flush && held.is_none_or(|held| held.token.is_none()) {
                self.owe_nothing_of(run, key as u64);
                continue;
            }
            if held.map(|entry| entry.version) < floor && !self.is_forgotten(key as u64, floor) {
                self.fail(Oracle::Durability, || {
                    format!("run {}: k{key} is {held:?} after a restart, and its disk had {floor:?}", run.0)
                });
            }
        }
        self.platters[node].written.fill(None);
        self.recount();
        self.see_others(run, state.is_returning());
    }

    /// Replies are on their way out: what they say a crash does not take back, or not for long.
    pub(super) fn note_told(
        &mut self,
        run: RunId,
        session: SessionId,
        replies: &[Reply],
        newest_before: Option<Version>,
    ) {
        if self.plan.setting.durable == 0 {
            return;
        }
        let is_written = |key: u64| {
            let writes = |ask: &Ask| matches!(ask, Ask::Set { key: k, .. } | Ask::Del { key: k } if *k == key);
            replies.iter().any(|(ask, _)| writes(ask))
        };
        let state = self.run(run);
        let told = replies.iter().map(|(ask, line)| match *ask {
            Ask::Set { key, .. } | Ask::Del { key } if line == "OK" => {
                let entry = state.entries[size(key)]?;
                let is_new = entry.version.origin == state.origin && Some(entry.version) > newest_before;
                is_new.then_some((key, entry.version))
            }
            // Reads go on while the disk fails, of what is in memory alone.
            Ask::Get { key } if !state.logged.has_failed && !is_written(key) && !line.starts_with("Error:") => {
                // What others wrote they have.
                let entry = state.entries[size(key)].filter(|entry| entry.version.origin == state.origin)?;
                Some((key, entry.version))
            }
            _ => None,
        });
        let first = self.replies - replies.len() as u64;
        let told: Vec<_> = (first..).zip(told).collect();
        self.sessions[size(session.0)].unsent.extend(told);
    }

    /// So many lines have left.
    pub(crate) fn told(&mut self, run: RunId, session: SessionId, lines: usize) {
        let replies = self.leave(session, lines);
        let node = size(self.run(run).node);
        for _ in 0..replies {
            let Some((reply, told)) = self.sessions[size(session.0)].unsent.pop_front() else { return };
            if self.plan.setting.fsync() == Some(Fsync::Always) && !self.platters[node].is_headless {
                self.keep_added(reply);
            }
            let Some((key, version)) = told else { continue };
            self.see_stamp(version, None);
            match self.plan.setting.fsync() {
                Some(Fsync::Always) => {
                    let held = self.run(run).entries[size(key)].map(|entry| entry.version);
                    let Platter { floors, lost, is_headless, .. } = &mut self.platters[node];
                    let floor = &mut floors[size(key)];
                    if held >= Some(version) && lost[size(key)] < Some(version) && !*is_headless {
                        *floor = (*floor).max(Some(version));
                    }
                }
                Some(Fsync::EverySec) => {
                    let at_us = self.at_us;
                    self.run_mut(run).logged.promises.push_back((at_us, key, version));
                }
                Some(Fsync::No) | None => {}
            }
        }
    }

    /// A member's versions go up, over all its runs.
    pub(super) fn check_stamp(&mut self, run: RunId, key: u64, version: Version) {
        let node = size(self.run(run).node);
        let Platter { stamped_before, is_damaged, .. } = self.platters[node];
        if version.hlc <= stamped_before && self.plan.setting.durable > 0 && !is_damaged {
            self.fail(Oracle::Hlc, || {
                format!("run {}: wrote k{key} as {version:?} after its member had written at {stamped_before}", run.0)
            });
        }
    }

    /// A version is seen: by a client, or by another member.
    pub(super) fn see_stamp(&mut self, version: Version, by: Option<RunId>) {
        let Some(writer) = self.origins.get(&version.origin).map(|run| self.run(*run).node) else { return };
        if by.is_none_or(|run| self.run(run).node != writer) {
            let stamped = &mut self.platters[size(writer)].stamped;
            *stamped = version.hlc.max(*stamped);
        }
    }

    /// What a run held is on its disk, but for what it has taken out since.
    fn raise(&mut self, run: RunId, held: &[Option<Version>]) {
        let state = &self.runs[size(run.0)];
        if state.standing != Standing::Current || !self.comes_back(state.node) {
            return;
        }
        let Platter { floors, lost, is_headless, .. } = &mut self.platters[size(state.node)];
        if *is_headless {
            return;
        }
        for (((floor, lost), held), entry) in floors.iter_mut().zip(lost).zip(held).zip(&state.entries) {
            if entry.map(|entry| entry.version) >= *held && *lost < *held {
                *floor = (*floor).max(*held);
            }
        }
    }
}
