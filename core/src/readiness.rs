//! Whether clients are to be sent to a node, and why not.
//!
//! A node that is not ready answers all the same whatever it can: this is for load balancers, and for whoever restarts
//! nodes one by one. Its memory being full (`maxmemory`) is no reason: all members hold the same, so all would turn
//! their clients away at once, though they answer reads.

use std::fmt;

use crate::config::Config;
use crate::disk::{DiskError, Keeper};
use crate::repl::{Awaited, Replication};
use crate::replica::{Refused, Replica};
use crate::time::Now;

/// Why clients are not to be sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotReady {
    /// It reads its data.
    Loading,
    /// It is about to be stopped.
    Draining,
    /// Its disk failed, is full, or does not keep up: writes are refused.
    Disk,
    /// Its clock is too far from its peers'.
    Clock,
    /// It has not found its cluster yet, or its way back into it.
    Joining,
    /// It has yet to hear from its peers what it missed.
    CatchingUp,
    /// It was restored from a backup, and takes no writes before it has heard what its cluster has changed since.
    Restored,
    /// It was asked to leave its cluster.
    Left,
    /// A newer run has its place.
    Fenced,
}

impl NotReady {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Loading,
        Self::Draining,
        Self::Disk,
        Self::Clock,
        Self::Joining,
        Self::CatchingUp,
        Self::Restored,
        Self::Left,
        Self::Fenced,
    ];

    /// A word for programs; it stays.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::Joining => "joining",
            Self::CatchingUp => "catching-up",
            Self::Restored => "restored",
            Self::Left => "left",
            Self::Fenced => "fenced",
        }
    }

    fn because(self, text: impl Into<String>) -> Reason {
        Reason { why: self, text: text.into() }
    }
}

/// One reason, and more of it for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which.
    pub why: NotReady,
    /// A sentence about the node, without a name.
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// All of a node that says how it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overview<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) replica: &'a Replica,
    pub(crate) repl: &'a Replication,
    pub(crate) keeper: Option<&'a Keeper>,
    /// How much of the data is loaded, in percent, unless all is.
    pub(crate) loading: Option<u64>,
    pub(crate) is_draining: bool,
}

impl Overview<'_> {
    /// Why clients are not to be sent here; empty: they are.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.is_draining {
            reasons.push(NotReady::Draining.because("it is being stopped"));
        }
        if let Some(percent) = self.loading {
            // Of all else it does not know yet.
            let text = format!("it is loading its data, {percent} % of which is read");
            reasons.push(NotReady::Loading.because(text));
            return reasons;
        }
        let Self { replica, repl, .. } = self;
        let disk = replica.log.as_ref().and_then(|log| log.refusal());
        let restored = replica.is_restored.then_some(Refused::Restored);
        reasons.extend([replica.refused, disk, restored].into_iter().flatten().map(refused));
        if self.keeper.is_some_and(|keeper| keeper.is_withheld) {
            reasons.push(NotReady::Disk.because("it withholds from its peers what its disk may not have"));
        }
        if let Some(ms) = repl.outvoted_ms_behind(self.config.timers.clock_ahead_ms_max) {
            let text = format!("its clock is {ms} ms behind its peers', so that it does not listen to them");
            reasons.push(NotReady::Clock.because(text));
        }
        if repl.is_joining(self.now, replica) {
            reasons.push(NotReady::Joining.because("it has not joined its cluster yet"));
        }
        let text = match repl.awaits(self.now) {
            Some(Awaited::Records { of }) => format!("it has yet to get what {of} held when they were linked"),
            Some(Awaited::Link { with }) => format!("it waits a moment for {with} to be linked"),
            None => return reasons,
        };
        reasons.push(NotReady::CatchingUp.because(text));
        reasons
    }
}

/// Why no writes are taken.
fn refused(refused: Refused) -> Reason {
    match refused {
        Refused::ClockAhead { ms } => {
            NotReady::Clock.because(format!("its clock is {ms} ms ahead of its peers', so that it takes no writes"))
        }
        Refused::Fenced => NotReady::Fenced.because("a newer run of it has taken its place"),
        Refused::Left => NotReady::Left.because("it was asked to leave its cluster"),
        Refused::Restored => NotReady::Restored
            .because("it was restored from a backup, and has yet to hear what its cluster has changed since"),
        Refused::Disk(DiskError::Full) => NotReady::Disk.because("its disk is full, so that it takes no writes"),
        Refused::Disk(DiskError::Write | DiskError::Read | DiskError::Sync) => {
            NotReady::Disk.because("its disk failed, so that it takes no writes")
        }
        Refused::DiskBehind => NotReady::Disk.because("as much waits for its disk as may, so that it takes no writes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<&str> = NotReady::ALL.iter().map(|why| why.word()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        assert!(NotReady::ALL.is_sorted());
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), NotReady::ALL.len());
    }
}
