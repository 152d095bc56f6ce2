//! Durability: what a node asks of a disk, what it is told, and what stands in its files (PROTOCOL.md rules 18, 24 to
//! 26).
//!
//! The log and the snapshot hold the same records as the wire, and recovery is merging them. A node never touches a
//! file: it hands its driver [`DiskOp`]s with their bytes, in two lanes, and is told how many of them have been carried
//! out ([`Event::DiskDone`](crate::Event::DiskDone)) or that one could not be
//! ([`Event::DiskFailed`](crate::Event::DiskFailed)). What to append when, when to sync, when to begin a snapshot and
//! which files have become superfluous is all decided here, so the driver's disk and the simulation's are dumb and the
//! same.
//!
//! A data directory has *segments* of the log, numbered without gaps from the oldest that is still needed, and one
//! whole snapshot, which has the number of the first segment that is not in it. Each start of a node begins a segment
//! of its own; no file is ever changed but by appending, and none is appended to by two runs.

mod frames;
mod hooks;
mod keep;
mod learnt;
mod load_failure;
mod log;
mod records;
mod recovery;
mod replay;
mod saver;
mod scan;
mod stood;
mod tools;

use std::fmt;

use crate::origins::Claims;
use crate::replica::Replica;
use crate::retired::Mark;
use crate::version::{Hlc, OriginId};
pub(crate) use keep::Keeper;
pub use load_failure::LoadFailure;
pub(crate) use log::{Log, Told};
pub use recovery::ReadAt;
pub use tools::{Backup, Item, Says, Scanner};

/// The greatest number of a file that is taken for a node's: no node ever gets there, and there are numbers behind it.
const NUMBER_MAX: u32 = u32::MAX / 2;

/// A file of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// What it holds.
    pub kind: FileKind,
    /// Its number, from 1.
    pub number: u32,
}

/// What a file of the data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A segment of the log.
    Log,
    /// All that was held when the segment of the same number began, and perhaps some of what came later.
    Snapshot,
    /// A snapshot that is being written.
    Part,
}

/// Two queues of work, carried out beside each other so that a snapshot's writing and syncing does not hold up the
/// log. Within a lane the operations are carried out one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The log.
    Log,
    /// The snapshot, and what is removed once it is whole.
    Snapshot,
}

/// What a driver does with the files of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Append the next so many bytes of the lane's data to a file. The first time it is named the file is created, and
    /// must not have been there.
    Append {
        /// To which.
        file: FileId,
        /// How many.
        bytes: u32,
    },
    /// Have all that was appended to the file on the disk, and the file's length (`fdatasync`). One that is not there
    /// is no failure: the other lane may have removed it.
    Sync {
        /// Which.
        file: FileId,
    },
    /// Have the names of the directory on the disk: what was created, renamed and removed so far.
    SyncDir,
    /// The part of this file's number is whole: give it this name, under which it may be appended to.
    Finish {
        /// Which.
        file: FileId,
    },
    /// Remove a file; one that is not there is no failure.
    Remove {
        /// Which.
        file: FileId,
    },
    /// The node has heard that an operation failed: carry out again what follows.
    Resume,
}

/// Why an operation could not be carried out. Until [`DiskOp::Resume`] the lane carries out, and tells, nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room (`ENOSPC`, `EDQUOT`).
    Full,
    /// Writing, creating, renaming or removing failed. What was appended may be there in part.
    Write,
    /// Reading failed.
    Read,
    /// Syncing failed: nothing that was not synced before may be counted on, and it must not be tried again.
    Sync,
}

/// The work of one lane, in order: operations, and the bytes of those that append.
#[derive(Debug, Default)]
pub struct DiskWork {
    /// What is to be done.
    pub ops: Vec<DiskOp>,
    /// What [`DiskOp::Append`] appends, one after the other.
    pub data: Vec<u8>,
}

/// When a write counts as taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// A reply waits until what it says is on the disk.
    Always,
    /// The disk is synced once a second; a crash of the machine loses what came since.
    #[default]
    EverySec,
    /// The system writes when it wants to; the disk is synced twice a minute, so that deletes can be forgotten.
    No,
}

impl Fsync {
    /// As it is asked for.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySec => "everysec",
            Self::No => "no",
        }
    }
}

impl FileId {
    /// A segment of the log.
    #[must_use]
    pub const fn log(number: u32) -> Self {
        Self { kind: FileKind::Log, number }
    }

    /// A whole snapshot.
    #[must_use]
    pub const fn snapshot(number: u32) -> Self {
        Self { kind: FileKind::Snapshot, number }
    }

    /// A snapshot under way.
    #[must_use]
    pub const fn part(number: u32) -> Self {
        Self { kind: FileKind::Part, number }
    }

    /// The file with this name; `None` if it is none of a node's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (number, kind) = match name.split_once('.')? {
            (number, "log") => (number, FileKind::Log),
            (number, "snapshot") => (number, FileKind::Snapshot),
            (number, "part") => (number, FileKind::Part),
            _ => return None,
        };
        let file = Self { kind, number: number.parse().ok()? };
        ((1..=NUMBER_MAX).contains(&file.number) && file.to_string() == name).then_some(file)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FileKind::Log => "log",
            FileKind::Snapshot => "snapshot",
            FileKind::Part => "part",
        };
        write!(f, "{:010}.{kind}", self.number)
    }
}

impl DiskWork {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Forgets it all; the capacity stays.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.data.clear();
    }
}

/// What of a node's frontier and ledger a crash cannot take back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    pub(crate) claims: Claims,
    pub(crate) retired: Mark,
}

impl Replica {
    /// Up to where a crash cannot take back what is held of `origin`.
    pub(crate) fn durable_frontier(&self, origin: OriginId) -> Hlc {
        let held = self.origins.frontier(origin);
        let Some(durable) = &self.durable else { return held };
        let retired = self.origins.retired().last_within(self.durable_retired(), origin);
        held.min(durable.claims.of(origin).max(retired))
    }

    /// How many entries of the ledger it cannot take back.
    pub(crate) fn durable_retired(&self) -> u32 {
        match &self.durable {
            None => self.mark().len,
            Some(durable) if self.origins.retired().continues(durable.retired) => {
                durable.retired.len.min(self.mark().len)
            }
            Some(_) => 0,
        }
    }
}

const _: () = assert!(size_of::<DiskOp>() <= 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for file in [FileId::log(1), FileId::snapshot(77), FileId::part(NUMBER_MAX)] {
            assert_eq!(FileId::parse(&file.to_string()), Some(file));
        }
        for name in [
            "",
            "1.log",
            "0000000001.txt",
            "0000000000.log",
            "+000000001.log",
            "0000000001.log.bak",
            "node",
            "4294967295.log",
        ] {
            assert_eq!(FileId::parse(name), None, "{name}");
        }
    }
}
