//! What replication has done since the start, in numbers that nobody sees from outside.

use crate::repl::Replication;
use crate::replica::{Refused, Replica};

/// What a run has done so far to come to what others have, and to forget what nobody needs any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// What it asked for and was brought whole, slot by slot.
    pub sweeps: Sweeps,
    /// Records taken from a stream of another than their writer.
    pub relayed: u64,
    /// Those of them that lost to what stood here.
    pub relayed_beaten: u64,
    /// Records of runs that ended which this run announced again.
    pub announced: u64,
    /// Walks of collection that were broken off because the roster changed.
    pub walks_aborted: u64,
    /// Whether the roster under which deletes are collected is sealed.
    pub is_sealed: bool,
    /// Whether it was told that a newer run has taken its place.
    pub is_fenced: bool,
}

/// Sweeps that a run took part in as the one who asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweeps {
    /// Begun, those that went on where an earlier one was cut among them.
    pub begun: u64,
    /// Gone on with where an earlier one was cut.
    pub resumed: u64,
    /// Cut: the link broke, or this run began anew.
    pub cut: u64,
    /// Brought to their end.
    pub ended: u64,
    /// Entries dropped in them, because the sender knew them and holds them no longer.
    pub dropped: u64,
}

impl Activity {
    /// Whether a sweep is under way.
    #[must_use]
    pub const fn is_swept(&self) -> bool {
        self.sweeps.begun > self.sweeps.cut + self.sweeps.ended
    }
}

impl Replication {
    pub(crate) fn activity(&self, replica: &Replica) -> Activity {
        Activity {
            sweeps: self.intake.sweeps(),
            relayed: self.relayed,
            relayed_beaten: self.relayed_beaten,
            announced: self.orphans.announced(),
            walks_aborted: self.collector.aborted(),
            is_sealed: self.roster.is_sealed(),
            is_fenced: replica.refused == Some(Refused::Fenced),
        }
    }
}
