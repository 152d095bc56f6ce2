//! Sights: the [marks](crate::marks) that are seen in what runs hold and in what they say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{Activity, Close, Counter, Node, Now, Version};

use super::versions::Entry;
use super::{Judge, RunId, SessionId, Standing};
use crate::marks::Mark;
use crate::plan::size;

/// A stamp so far ahead of a clock is what only a broken clock leaves behind.
const BEHIND_MS: u64 = 1_000;

/// What a frame begins with before its contents: length and checksum.
const HEADER_BYTES: usize = 8;

/// What is remembered of a run to see what comes about in it.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// What it had done by the end of its last turn.
    activity: Activity,
    is_returning: bool,
    is_established: bool,
    /// By node that it has dialed: how often it reached it, and when last.
    links: BTreeMap<u64, (u64, u64)>,
    /// By counter, as last seen.
    sums: Vec<Sum>,
}

/// A counter in a run.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    base: Option<Version>,
    /// This run has a part in it.
    is_added_to: bool,
    folds: usize,
}

impl Sight {
    pub(super) const fn is_established(&self) -> bool {
        self.is_established
    }
}

impl Judge {
    /// A dial of this run has reached a node.
    pub fn linked(&mut self, run: RunId, to: u64) {
        let at_us = self.at_us;
        let link = self.run_mut(run).sight.links.entry(to).or_default();
        *link = (link.0 + 1, at_us);
    }

    /// A run ends a connection.
    pub fn closes(&mut self, why: Close) {
        match why {
            Close::Clock => self.marks.saw(Mark::PeerRefusedForClock),
            Close::Replaced => self.marks.saw(Mark::LinkReplaced),
            Close::Quit
            | Close::Refused
            | Close::Crowded
            | Close::Malformed
            | Close::Silent
            | Close::Lagged
            | Close::Disk
            | Close::Killed
            | Close::PeersOnly
            | Close::Unread
            | Close::Outdated
            | Close::Stranger(_) => {}
        }
    }

    /// A client has lost its connection, or ended it, with `waiting` commands that it had no reply to.
    pub fn unheard(&mut self, session: SessionId, waiting: u64) {
        // What the node has not answered, it may not even have read.
        if self.sessions[size(session.0)].asked.len() < size(waiting) {
            self.marks.saw(Mark::CommittedUnheard);
        }
    }

    /// Looks at what a node says of itself at the end of its turn.
    pub(crate) fn look_at_activity(&mut self, run: RunId, node: &Node) {
        let is_returning = node.is_returning();
        if std::mem::replace(&mut self.run_mut(run).sight.is_returning, is_returning) && !is_returning {
            self.marks.saw(Mark::CameHome);
        }
        self.run_mut(run).sight.is_established = node.is_established() && !node.is_alone();
        let now = node.activity();
        let before = std::mem::replace(&mut self.run_mut(run).sight.activity, now);
        if now == before {
            return;
        }
        let (sweeps, swept) = (now.sweeps, before.sweeps);
        let news = [
            (Mark::SweepEnded, sweeps.ended > swept.ended),
            (Mark::SweepCut, sweeps.cut > swept.cut),
            (Mark::SweepResumed, sweeps.resumed > swept.resumed),
            (Mark::SweptAgain, sweeps.begun > swept.begun && sweeps.resumed == swept.resumed && swept.ended > 0),
            (Mark::SweepDropped, sweeps.dropped > swept.dropped),
            (Mark::Relayed, now.relayed > before.relayed),
            (Mark::RelayedBeaten, now.relayed_beaten > before.relayed_beaten),
            (Mark::OrphanAnnounced, now.announced > before.announced),
            (Mark::WalkAborted, now.walks_aborted > before.walks_aborted),
            (Mark::RosterSealed, now.is_sealed && !before.is_sealed),
            (Mark::RunFenced, now.is_fenced && !before.is_fenced),
        ];
        news.iter().filter(|(_, is_new)| *is_new).for_each(|(mark, _)| self.marks.saw(*mark));
    }

    /// Looks at what a connection holds at the end of a turn: bytes of input that were not taken. `waits`: its client
    /// waits for something, or it is ending.
    pub(crate) fn look_at_rest(&mut self, is_client: bool, input: usize, (reads, waits): (bool, bool)) {
        if is_client {
            if !reads && !waits {
                self.marks.saw(Mark::ReplyHeldBack);
            }
        } else if input > 0 {
            if input < HEADER_BYTES {
                self.marks.saw(Mark::HeaderSplit);
            }
            if input > size(self.plan.setting.window_bytes) {
                self.marks.saw(Mark::FrameOverWindow);
            }
        }
    }

    /// A run takes up `entry`; what it held before still stands. `is_command`: for a client of its own.
    pub(super) fn see_entry(
        &mut self,
        run: RunId,
        key: u64,
        entry: Entry,
        (node, now): (&Node, Now),
        is_command: bool,
    ) {
        let old = self.run(run).entries[size(key)];
        let has_expired = |of: &Entry| of.deadline.is_some_and(|deadline| deadline <= now.wall);
        let own = self.origins.get(&entry.version.origin) == Some(&run);
        let (is_flush, is_drop) = (self.flushes.contains(&entry.version), self.drops.contains(&entry.version));
        if own && is_command {
            self.written_us.insert(entry.version, self.at_us);
            let state = self.run(run);
            let is_ahead = |newest: &Version| newest.hlc.ms() > now.wall.0 + BEHIND_MS;
            let seen = [
                (Mark::ConcurrentWrites, !is_flush && !is_drop && self.is_behind(run, key)),
                (Mark::FlushBehindSeen, is_flush && self.is_behind(run, key)),
                (Mark::DropBehindSeen, is_drop && self.is_behind(run, key)),
                (Mark::WroteBehindSeen, state.newest.as_ref().is_some_and(is_ahead)),
                (Mark::WroteAlone, self.plan.setting.nodes > 1 && node.is_alone()),
                (Mark::WroteInSweep, node.activity().is_swept()),
                (Mark::ExpiredOverwritten, old.as_ref().is_some_and(has_expired)),
            ];
            seen.iter().filter(|(_, is_so)| *is_so).for_each(|(mark, _)| self.marks.saw(*mark));
        } else if !own {
            if has_expired(&entry) {
                self.marks.saw(Mark::ArrivedExpired);
            }
            if self.is_late_stream(run, entry.version, node) {
                self.marks.saw(Mark::CaughtUpByStream);
            }
            if let Some(old) = old {
                self.see_merge(old, entry);
                if has_expired(&old) {
                    self.marks.saw(Mark::UpdateMetExpired);
                }
            }
        }
    }

    fn see_merge(&mut self, old: Entry, new: Entry) {
        let is_delete = |of: Entry| of.token.is_none() && of.deadline.is_none();
        if is_delete(new) && old.token.is_some() {
            self.marks.saw(Mark::DeleteBeatValue);
        }
        if is_delete(old) && new.token.is_some() {
            self.marks.saw(Mark::ValueBeatDelete);
        }
        let (old, new) = (old.version, new.version);
        if old.origin != new.origin && old.hlc.ms() == new.hlc.ms() {
            self.marks.saw(if old.hlc == new.hlc { Mark::TieByOrigin } else { Mark::TieByCounter });
        }
    }

    /// Whether another member holds something newer of `key` than this run.
    fn is_behind(&self, run: RunId, key: u64) -> bool {
        let version = |of: &super::Run| of.entries[size(key)].map(|entry| entry.version);
        let (mine, node) = (version(self.run(run)), self.run(run).node);
        let others = self.runs.iter().filter(|other| other.standing == Standing::Current && other.node != node);
        others.filter_map(version).max() > mine
    }

    /// Whether a record came over a stream that was written before the link to its writer stood again.
    fn is_late_stream(&self, run: RunId, version: Version, node: &Node) -> bool {
        let Some(writer) = self.origins.get(&version.origin) else { return false };
        let state = self.run(run);
        let link = state.sight.links.get(&self.run(*writer).node);
        let written_us = self.written_us.get(&version);
        let is_late = |linked_us| written_us.is_some_and(|written_us| *written_us < linked_us);
        // No sweep is under way, nor has one come to its end in this turn.
        let is_swept = || node.activity().is_swept() || node.activity().sweeps != state.sight.activity.sweeps;
        link.is_some_and(|(times, linked_us)| *times > 1 && is_late(*linked_us)) && !is_swept()
    }

    /// A run has collected something.
    pub(super) fn see_collected(&mut self, run: RunId) {
        self.marks.saw(Mark::GraveCollected);
        let mut others = self.runs.iter().enumerate().filter(|(at, _)| *at as u64 != run.0).map(|(_, other)| other);
        if others.any(|other| other.standing == Standing::Current && other.sight.activity.is_swept()) {
            self.marks.saw(Mark::CollectedInSweep);
        }
    }

    /// A run is no more.
    pub(super) fn see_stop(&mut self, run: RunId) {
        if self.run(run).standing == Standing::Current && self.run(run).sight.activity.is_swept() {
            self.marks.saw(Mark::KilledInSweep);
        }
    }

    /// Looks at a counter as a run has it; `has_folded`: it has folded parts in this step itself.
    pub(super) fn see_counter(&mut self, run: RunId, counter: u64, state: &Counter<'_>, has_folded: bool) {
        let own = self.run(run).origin;
        let now = Sum {
            base: state.base.as_ref().map(|base| base.version),
            is_added_to: state.parts.iter().any(|part| part.origin == own),
            folds: state.folds.len(),
        };
        let count = self.counters.stored.len();
        let sums = &mut self.run_mut(run).sight.sums;
        sums.resize(count, Sum::default());
        let before = std::mem::replace(&mut sums[size(counter)], now);
        if now.folds > before.folds && !has_folded {
            self.marks.saw(Mark::FoldTakenOver);
        }
        let is_anothers = now.base > before.base && now.base.is_some_and(|base| base.origin != own);
        if is_anothers && before.is_added_to && !now.is_added_to {
            self.marks.saw(Mark::ResetMetAdds);
        }
        if is_anothers && before.is_added_to {
            let is_of = |wide: &BTreeSet<Version>| now.base.is_some_and(|base| wide.contains(&base));
            let seen = [(Mark::FlushMetAdds, is_of(&self.flushes)), (Mark::DropMetAdds, is_of(&self.drops))];
            seen.iter().filter(|(_, is_so)| *is_so).for_each(|(mark, _)| self.marks.saw(*mark));
        }
    }

    /// `old` accounts of earlier runs of a member are with some node, and records without a claim if `is_orphaned`,
    /// while the member begins another run.
    pub fn begins_beside(&mut self, old: usize, is_orphaned: bool) {
        if old > 1 {
            self.marks.saw(Mark::ThreeRunsKnown);
        }
        if is_orphaned {
            self.marks.saw(Mark::BackBesideOrphans);
        }
    }

    /// The earlier runs of `node` that `of` keeps an account of, and whether it holds records of them that it cannot
    /// claim.
    #[must_use]
    pub fn accounts_of(&self, node: u64, of: &Node) -> (usize, bool) {
        let (mut count, mut is_orphaned) = (0, false);
        of.accounts(&mut |origin, frontier, held| {
            let is_its = self.origins.get(&origin).is_some_and(|run| self.run(*run).node == node);
            count += usize::from(is_its);
            is_orphaned |= is_its && held > frontier;
        });
        (count, is_orphaned)
    }
}
