//! Marks: that a dangerous situation came about, seen from outside while it was ("sometimes" assertions).
//!
//! An oracle says what must never be; a mark says what must be now and then, or the oracles have looked at nothing.
//! Each run counts how often each mark fired ([`Marks`]); a batch counts in how many of its runs it did ([`Tally`]),
//! and fails if one never has ([`Tally::missing`]). Marks see and do not touch: no trace depends on them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A batch of so many runs must have every mark of [`Class::Common`].
pub const COMMON_RUNS: u64 = 1_000;

/// A batch of so many must have those of [`Class::Rare`], too.
pub const RARE_RUNS: u64 = 10_000;

/// A situation that is dangerous to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is told in one sentence in `TABLE`")]
pub enum Mark {
    ConcurrentWrites,
    TieByCounter,
    TieByOrigin,
    DeleteBeatValue,
    ValueBeatDelete,
    WroteBehindSeen,
    WroteAlone,
    WroteInSweep,
    ConflictListed,
    NewestLost,
    TookAnotherOrigin,
    ClockSteppedBack,
    PeerRefusedForClock,
    WriteRefusedForClock,
    ClocksApartAtHeal,
    ArrivedExpired,
    UpdateMetExpired,
    ExpiredOverwritten,
    GraveCollected,
    CollectedInSweep,
    WalkAborted,
    RosterSealed,
    CaughtUpByStream,
    SweepEnded,
    SweepCut,
    SweepResumed,
    SweptAgain,
    SweepDropped,
    KilledInSweep,
    Relayed,
    RelayedBeaten,
    RelayedRoundCut,
    OrphanAnnounced,
    BackBesideOrphans,
    ThreeRunsKnown,
    CameHome,
    SupersededThawed,
    RunFenced,
    OriginRetired,
    LedgersForked,
    LeaveEnded,
    LeaveWhileCut,
    ForgotOneUp,
    LinkReplaced,
    HalfOpenNoticed,
    OneWayNoticed,
    WindowFull,
    HeaderSplit,
    FrameOverWindow,
    DialUnanswered,
    PausedPastSilence,
    TwoDown,
    AllDown,
    CoreSmaller,
    RestartedAlone,
    PartsFolded,
    FoldTakenOver,
    ResetMetAdds,
    EndedUnderAdds,
    ScrubRepaired,
    WaitHeld,
    WaitTimedOut,
    WaitCountedTheDead,
    WaitForHeld,
    WaitForTimedOut,
    CommittedUnheard,
    ReplyHeldBack,
    MovedWithToken,
    WrongBitNoticed,
    IntruderTurnedAway,
    OtherVersionTurnedAway,
    OlderVersionSpoken,
    UnsyncedLost,
    StoppedInSnapshot,
    SnapshotLoaded,
    DamageFound,
    DiskFailed,
    WriteRefusedForQueue,
    RefusedWhileLoading,
    Restored,
    RestoredRefused,
    RestoredAgain,
    RestoredTookNewer,
    RestoredDropped,
    LostWithCopy,
    RolledBack,
    HeardAfar,
    FlushBehindSeen,
    FlushLeftNewer,
    FlushMetAdds,
    FlushRead,
    DropBehindSeen,
    DropLeftNewer,
    DropMetAdds,
    DropRead,
}

/// How large a batch must be for a mark to be required of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// [`COMMON_RUNS`]; it fires in ten of them at least.
    Common,
    /// [`RARE_RUNS`]; it fires in ten of them at least.
    Rare,
}

/// A mark, its name, when it is required, and when it fires.
type Row = (Mark, &'static str, Class, &'static str);

const COUNT: usize = TABLE.len();

/// All marks, in the order of their numbers.
const TABLE: [Row; 95] = {
    use Class::{Common, Rare};
    use Mark as M;
    [
        (
            M::ConcurrentWrites,
            "concurrent-writes",
            Common,
            "a client wrote a key of which another node held something newer",
        ),
        (
            M::TieByCounter,
            "tie-by-counter",
            Common,
            "two nodes wrote a key in one millisecond: the counter told which won",
        ),
        (M::TieByOrigin, "tie-by-origin", Common, "two nodes wrote a key under one stamp: the origin told which won"),
        (M::DeleteBeatValue, "delete-beat-value", Common, "a delete came from another node and took a value's place"),
        (M::ValueBeatDelete, "value-beat-delete", Common, "a value came from another node and took a delete's place"),
        (
            M::WroteBehindSeen,
            "wrote-behind-seen",
            Common,
            "a node wrote while its clock was over 1 s behind a stamp it had",
        ),
        (M::WroteAlone, "wrote-alone", Common, "a node of several wrote while it had met nobody and named nobody"),
        (M::WroteInSweep, "wrote-in-sweep", Common, "a node wrote for a client while it was being swept"),
        (M::ConflictListed, "conflict-listed", Common, "a node listed a conflict"),
        (M::NewestLost, "newest-lost", Common, "the newest of a key went down with its last holder"),
        (
            M::TookAnotherOrigin,
            "took-another-origin",
            Common,
            "a run took another origin for what nobody had seen of it",
        ),
        (M::ClockSteppedBack, "clock-stepped-back", Common, "the clock of a running node was set back"),
        (
            M::PeerRefusedForClock,
            "peer-refused-for-clock",
            Common,
            "a link was closed: the peer's clock was too far ahead",
        ),
        (
            M::WriteRefusedForClock,
            "write-refused-for-clock",
            Common,
            "a client was refused: its node's clock was too far ahead",
        ),
        (
            M::ClocksApartAtHeal,
            "clocks-apart-at-heal",
            Common,
            "clocks were further apart than peers bear when all was healed",
        ),
        (M::ArrivedExpired, "arrived-expired", Common, "a value reached a node after its deadline"),
        (
            M::UpdateMetExpired,
            "update-met-expired",
            Common,
            "a write of another node took the place of what had expired here",
        ),
        (M::ExpiredOverwritten, "expired-overwritten", Common, "a client wrote over what had expired"),
        (M::GraveCollected, "grave-collected", Common, "a tombstone or husk was collected"),
        (M::CollectedInSweep, "collected-in-sweep", Common, "one was collected while another member was being swept"),
        (M::WalkAborted, "walk-aborted", Common, "collection was broken off because the roster changed"),
        (M::RosterSealed, "roster-sealed", Common, "a node had a sealed roster"),
        (
            M::CaughtUpByStream,
            "caught-up-by-stream",
            Common,
            "what was written while a link was down came without a sweep",
        ),
        (M::SweepEnded, "sweep-ended", Common, "a sweep came to its end"),
        (M::SweepCut, "sweep-cut", Common, "a sweep was cut"),
        (M::SweepResumed, "sweep-resumed", Common, "a sweep went on where it had been cut"),
        (M::SweptAgain, "swept-again", Common, "a run that had been swept needed it again: a ring had gone round"),
        (M::SweepDropped, "sweep-dropped", Common, "a sweep had a node drop what was deleted and forgotten meanwhile"),
        (M::KilledInSweep, "killed-in-sweep", Common, "a process was killed while it was being swept"),
        (M::Relayed, "relayed", Common, "a record reached a node over a third one's stream"),
        (M::RelayedBeaten, "relayed-beaten", Common, "one that lost to what stood there did"),
        (M::RelayedRoundCut, "relayed-round-cut", Common, "one did while a path to that node was cut one way only"),
        (M::OrphanAnnounced, "orphan-announced", Common, "a node announced what a run that ended had left behind"),
        (
            M::BackBesideOrphans,
            "back-beside-orphans",
            Common,
            "a member came back while others held unclaimed records of it",
        ),
        (M::ThreeRunsKnown, "three-runs-known", Common, "a member began its third run, and a node still knew two"),
        (M::CameHome, "came-home", Common, "a member that others had forgotten was back"),
        (M::SupersededThawed, "superseded-thawed", Common, "a process went on whose member had a newer run"),
        (M::RunFenced, "run-fenced", Common, "a run was told that a newer one had taken its place"),
        (M::OriginRetired, "origin-retired", Common, "a run that ended was retired"),
        (M::LedgersForked, "ledgers-forked", Rare, "nodes whose ledgers had come up apart were there"),
        (M::LeaveEnded, "leave-ended", Common, "a member left"),
        (M::LeaveWhileCut, "leave-while-cut", Common, "a member was asked to leave that could not reach all others"),
        (M::ForgotOneUp, "forgot-one-up", Common, "a member was forgotten that was up"),
        (M::LinkReplaced, "link-replaced", Common, "a link gave way to a newer one"),
        (
            M::HalfOpenNoticed,
            "half-open-noticed",
            Common,
            "a connection that carried nothing any more was closed for silence",
        ),
        (M::OneWayNoticed, "one-way-noticed", Common, "one of which a single direction was cut was closed for silence"),
        (M::WindowFull, "window-full", Common, "a node met a full socket"),
        (M::HeaderSplit, "header-split", Common, "a frame was read in parts, the first within its header"),
        (M::FrameOverWindow, "frame-over-window", Common, "a frame was longer than what a socket holds"),
        (M::DialUnanswered, "dial-unanswered", Common, "a dial was given up that nobody had answered"),
        (
            M::PausedPastSilence,
            "paused-past-silence",
            Common,
            "a process stood still for longer than peers bear, and went on",
        ),
        (M::TwoDown, "two-down", Common, "two nodes were down at once"),
        (M::AllDown, "all-down", Common, "all nodes of several were down at once"),
        (M::CoreSmaller, "core-smaller", Common, "some nodes never came back"),
        (M::RestartedAlone, "restarted-alone", Common, "a node started anew without naming its peers"),
        (M::PartsFolded, "parts-folded", Common, "what ended runs had added was folded"),
        (M::FoldTakenOver, "fold-taken-over", Common, "a fold reached a node that had not made it"),
        (M::ResetMetAdds, "reset-met-adds", Common, "a counter's reset came to a node that had added meanwhile"),
        (M::EndedUnderAdds, "ended-under-adds", Common, "a counter ended by its deadline while a node went on adding"),
        (M::ScrubRepaired, "scrub-repaired", Common, "scrubbing put back what a memory had lost"),
        (M::WaitHeld, "wait-held", Common, "WAIT was answered late, with as many as asked for"),
        (M::WaitTimedOut, "wait-timed-out", Common, "WAIT was answered with fewer than asked for"),
        (M::WaitCountedTheDead, "wait-counted-the-dead", Rare, "WAIT counted a run that had stopped"),
        (M::WaitForHeld, "waitfor-held", Common, "WAITFOR waited, and what it waited for came"),
        (M::WaitForTimedOut, "waitfor-timed-out", Common, "WAITFOR gave up"),
        (
            M::CommittedUnheard,
            "committed-unheard",
            Common,
            "a client lost its connection between a write and its reply",
        ),
        (M::ReplyHeldBack, "reply-held-back", Common, "a client's commands waited because it did not read its replies"),
        (
            M::MovedWithToken,
            "moved-with-token",
            Common,
            "a client went to another node and waited there for its own token",
        ),
        (M::WrongBitNoticed, "wrong-bit-noticed", Common, "a link was closed for bytes that no peer sends"),
        (M::IntruderTurnedAway, "intruder-turned-away", Common, "a node closed on who was no member and no client"),
        (
            M::OtherVersionTurnedAway,
            "other-version-turned-away",
            Common,
            "a node turned a member away that spoke no version of the protocol that it did",
        ),
        (
            M::OlderVersionSpoken,
            "older-version-spoken",
            Common,
            "two members were linked by an older version of the protocol than one of them spoke",
        ),
        (
            M::UnsyncedLost,
            "unsynced-lost",
            Common,
            "a machine lost its power, and its disk some of what was not synced",
        ),
        (M::StoppedInSnapshot, "stopped-in-snapshot", Common, "a run ended while it was writing a snapshot"),
        (M::SnapshotLoaded, "snapshot-loaded", Common, "a run began with a snapshot"),
        (M::DamageFound, "damage-found", Common, "a run found damage in its files"),
        (M::DiskFailed, "disk-failed", Common, "a run was told that its disk could not do what it was to"),
        (
            M::WriteRefusedForQueue,
            "write-refused-for-queue",
            Common,
            "a node refused a write because as much waited for its disk as may",
        ),
        (
            M::RefusedWhileLoading,
            "refused-while-loading",
            Common,
            "a client was refused because its node was still reading its files",
        ),
        (M::Restored, "restored", Common, "a node had read a backup that was restored"),
        (
            M::RestoredRefused,
            "restored-refused",
            Common,
            "a client was refused: its node was restored and had yet to hear from its cluster",
        ),
        (M::RestoredAgain, "restored-again", Common, "a run of a node that was restored ended before it was a member"),
        (
            M::RestoredTookNewer,
            "restored-took-newer",
            Common,
            "a node that was restored took a newer value in than its backup had",
        ),
        (
            M::RestoredDropped,
            "restored-dropped",
            Rare,
            "one had in its backup what was deleted since and forgotten, and dropped it",
        ),
        (
            M::LostWithCopy,
            "lost-with-copy",
            Common,
            "what only one node had since its files were copied was lost when they were put back",
        ),
        (M::RolledBack, "rolled-back", Common, "a node began with its files of an earlier time, and was told nothing"),
        (M::HeardAfar, "heard-afar", Common, "a message was heard on another node than it was said on"),
        (
            M::FlushBehindSeen,
            "flush-behind-seen",
            Common,
            "a client flushed where something was not known yet that another node held",
        ),
        (M::FlushLeftNewer, "flush-left-newer", Common, "a flush came to a node that held something newer"),
        (M::FlushMetAdds, "flush-met-adds", Common, "a flush came to a node that had added to a counter"),
        (M::FlushRead, "flush-read", Common, "a run began with a flush that its disk had"),
        (
            M::DropBehindSeen,
            "drop-behind-seen",
            Common,
            "a client deleted a hash of which something was not known yet that another node held",
        ),
        (M::DropLeftNewer, "drop-left-newer", Common, "the delete of a hash came to a node that held a newer field"),
        (M::DropMetAdds, "drop-met-adds", Common, "the delete of a hash came to a node that had added to a field"),
        (M::DropRead, "drop-read", Common, "a run began with the delete of a hash that its disk had"),
    ]
};

const _: () = {
    let mut at = 0;
    while at < COUNT {
        assert!(TABLE[at].0 as usize == at, "the table is in the order of the marks");
        at += 1;
    }
    assert!(Mark::DropRead as usize + 1 == COUNT, "every mark is in the table");
};

impl Mark {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// When it is required.
    #[must_use]
    pub const fn class(self) -> Class {
        TABLE[self as usize].2
    }

    /// When it fires.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        TABLE[self as usize].3
    }
}

/// How often each mark fired in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks([u32; COUNT]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Marks {
    /// It has come about once more.
    pub const fn saw(&mut self, mark: Mark) {
        let count = &mut self.0[mark as usize];
        *count = count.saturating_add(1);
    }

    /// How often it fired.
    #[must_use]
    pub const fn of(&self, mark: Mark) -> u32 {
        self.0[mark as usize]
    }
}

/// The marks of a batch of runs. [`Display`](fmt::Display) is a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Runs in the batch.
    pub runs: u64,
    /// By mark: in how many runs it fired, and how often in all of them.
    fired: Vec<(u64, u64)>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { runs: 0, fired: vec![(0, 0); COUNT] }
    }
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, marks: &Marks) {
        self.runs += 1;
        for (fired, count) in self.fired.iter_mut().zip(marks.0) {
            fired.0 += u64::from(count > 0);
            fired.1 += u64::from(count);
        }
    }

    /// Adds another batch.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        for (fired, more) in self.fired.iter_mut().zip(&other.fired) {
            fired.0 += more.0;
            fired.1 += more.1;
        }
    }

    /// In how many runs it fired, and how often in all of them.
    #[must_use]
    pub fn of(&self, mark: Mark) -> (u64, u64) {
        self.fired[mark as usize]
    }

    /// Marks that a batch of this size must have and has not.
    #[must_use]
    pub fn missing(&self) -> Vec<Mark> {
        let is_due = |mark: &Mark| match mark.class() {
            Class::Common => self.runs >= COMMON_RUNS,
            Class::Rare => self.runs >= RARE_RUNS,
        };
        Mark::all().filter(is_due).filter(|mark| self.of(*mark).0 == 0).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>8} {:>10}  of {} runs", "mark", "runs", "times", self.runs)?;
        for mark in Mark::all() {
            let (runs, times) = self.of(mark);
            writeln!(f, "{:<24} {runs:>8} {times:>10}  {}", mark.name(), mark.meaning())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_misses_what_it_is_large_enough_for() {
        let mut marks = Marks::default();
        Mark::all().filter(|mark| *mark != Mark::AllDown && mark.class() == Class::Common).for_each(|m| marks.saw(m));
        let mut tally = Tally::default();
        tally.add(&marks);
        assert_eq!(tally.missing(), []);
        for _ in 1..COMMON_RUNS {
            tally.add(&marks);
        }
        assert_eq!(tally.missing(), [Mark::AllDown]);
        let half = tally.clone();
        (1..10).for_each(|_| tally.merge(&half));
        assert_eq!(tally.of(Mark::TwoDown), (RARE_RUNS, RARE_RUNS));
        assert!(tally.missing().contains(&Mark::AllDown) && tally.missing().contains(&Mark::LedgersForked));
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = Mark::all().map(Mark::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COUNT);
    }
}
