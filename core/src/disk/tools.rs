//! A data directory without a node: for who checks, copies or prints one.

use crate::disk::FileKind;
use crate::disk::frames::{BLOCK_HEAD_BYTES, FORMAT, FileFrame, Header, block_head, emit_end, parse};
use crate::disk::log::begin_file;
use crate::disk::scan::{BEGINNING_BYTES_MAX, Piece, Scan, Unreadable, beginning};
use crate::record::{self, Framed, Record, begin_frame, end_frame};
use crate::wire::peer;

/// Frames of one block of a backup.
const BLOCK_BYTES: usize = 64 << 10;

/// What stands next in a file of a data directory, or in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// How the file begins.
    Header {
        /// Whose it is.
        cluster: &'a str,
        /// The member's name.
        name: &'a str,
        /// Whether the file has a snapshot, or a backup, and no log.
        is_snapshot: bool,
        /// Whether it is a backup, which is nobody's memory.
        is_backup: bool,
        /// Whether both copies of the header are as they were written.
        is_whole: bool,
        /// Of a segment: the length up to which the one before it counts. What is behind that was never counted on.
        prev_bytes: u64,
        /// Of a segment: a disk failed between the two, and what was to be written then was not.
        has_gap: bool,
    },
    /// A frame.
    Frame {
        /// Its body, as it stands.
        body: &'a [u8],
        /// What it says.
        says: Says<'a>,
    },
    /// So many bytes from there on are nothing that a node has written.
    Damage {
        /// Where.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// So many bytes at the end of the file are cut. Of the newest segment this is nothing out of the ordinary.
    Torn {
        /// Where.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// The file has no header of a node's file.
    NoFile,
    /// The file was written by a newer build, in this format.
    Newer(u16),
    /// More has to be pushed.
    Wanted,
    /// It was read to its end.
    End,
}

/// What a frame of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says<'a> {
    /// A record was taken.
    Record(Framed<'a>),
    /// An entry was put in the place of another: the key, and what stands now.
    Replaced(&'a [u8], Option<Record<'a>>),
    /// Where the node stood.
    Standing,
    /// A snapshot ends.
    End,
}

/// Reads one file, whatever is in it.
#[derive(Debug, Default)]
pub struct Scanner {
    first: Vec<u8>,
    scan: Option<Scan>,
    ended: bool,
    done: bool,
}

impl Scanner {
    /// Reads a file from its first byte on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what follows in the file.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.scan {
            Some(scan) => scan.push(bytes),
            None => self.first.extend_from_slice(bytes),
        }
    }

    /// Nothing follows.
    pub fn end(&mut self) {
        self.ended = true;
        if let Some(scan) = &mut self.scan {
            scan.end();
        }
    }

    /// What stands next.
    pub fn next_item(&mut self) -> Item<'_> {
        if self.done {
            return Item::End;
        }
        if self.scan.is_none() {
            return self.begin();
        }
        let Some(scan) = &mut self.scan else { return Item::End };
        match scan.next() {
            Piece::Body(body) => match says(body) {
                Some(says) => Item::Frame { body, says },
                None => Item::Damage { at: 0, bytes: body.len() as u64 },
            },
            Piece::Damage { at, bytes } => Item::Damage { at, bytes },
            Piece::Torn { at, bytes } => Item::Torn { at, bytes },
            Piece::Wanted => Item::Wanted,
            Piece::End => Item::End,
        }
    }

    fn begin(&mut self) -> Item<'_> {
        if self.first.len() < BEGINNING_BYTES_MAX && !self.ended {
            return Item::Wanted;
        }
        match beginning(&self.first) {
            Ok(begin) if begin.bytes <= self.first.len() => {
                let mut scan = Scan::new(begin.header.salt, begin.bytes as u64);
                scan.push(&self.first[begin.bytes..]);
                if self.ended {
                    scan.end();
                }
                self.scan = Some(scan);
                let Header { cluster, name, kind, prev_bytes, has_gap, is_restored: is_backup, .. } = begin.header;
                let is_snapshot = kind != FileKind::Log;
                let is_whole = begin.is_whole;
                Item::Header { cluster, name, is_snapshot, is_backup, is_whole, prev_bytes, has_gap }
            }
            other => {
                self.done = true;
                match other {
                    _ if self.first.is_empty() => Item::End,
                    Err(Unreadable::Format(format)) => Item::Newer(format),
                    Ok(_) => Item::Torn { at: 0, bytes: self.first.len() as u64 },
                    Err(Unreadable::NoHeader) => Item::NoFile,
                }
            }
        }
    }
}

fn says(body: &[u8]) -> Option<Says<'_>> {
    if body.first()? & record::KIND_RECORD != 0 {
        return record::decode(body).ok().map(Says::Record);
    }
    match parse(body) {
        Some(FileFrame::Replaced { key, stands }) => Some(Says::Replaced(key, stands)),
        Some(FileFrame::Mark(_) | FileFrame::Synced { .. }) => Some(Says::Standing),
        Some(FileFrame::End { .. }) => Some(Says::End),
        Some(FileFrame::Header(_)) => None,
        None => peer::parse(body).map(|_| Says::Standing),
    }
}

/// Writes a backup: one file with all that a data directory says, in its order. A node reads it as a snapshot, and
/// takes it for nobody's memory.
#[derive(Debug)]
pub struct Backup {
    cluster: String,
    name: String,
    salt: u64,
    has_gap: bool,
    place: u64,
    /// Frames of the block that is not whole yet.
    block: Vec<u8>,
    out: Vec<u8>,
    records: u64,
}

impl Backup {
    /// Begins a backup of the directory of a node. `salt` is drawn at random, and not 0.
    #[must_use]
    pub fn new(salt: u64, cluster: &str, name: &str) -> Self {
        let (cluster, name) = (cluster.to_owned(), name.to_owned());
        let mut backup =
            Self { cluster, name, salt, has_gap: false, place: 0, block: Vec::new(), out: Vec::new(), records: 0 };
        backup.out = backup.beginning();
        backup.place = backup.out.len() as u64;
        backup
    }

    /// Something is missing that the directory was to have: whoever is restored claims nothing of what it has, and is
    /// brought the rest. The [beginning](Self::beginning) says so.
    pub const fn lose(&mut self) {
        self.has_gap = true;
    }

    /// What the file begins with. Once all was put in, this is to be written over what stands there.
    #[must_use]
    pub fn beginning(&self) -> Vec<u8> {
        let header = Header {
            format: FORMAT,
            kind: FileKind::Snapshot,
            number: 1,
            salt: self.salt,
            prev_bytes: 0,
            has_gap: self.has_gap,
            is_restored: true,
            cluster: &self.cluster,
            name: &self.name,
        };
        let mut out = Vec::new();
        begin_file(&header, &mut out);
        out
    }

    /// Puts the body of a frame in, as a [`Scanner`] gave it.
    pub fn push(&mut self, body: &[u8]) {
        let start = begin_frame(&mut self.block);
        self.block.extend_from_slice(body);
        end_frame(&mut self.block, start);
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.close();
        }
    }

    /// The directory has no snapshot: what comes is its log.
    pub fn begin_log(&mut self) {
        emit_end(0, &mut self.block);
    }

    /// All was put in.
    pub fn finish(&mut self) {
        emit_end(self.records, &mut self.block);
        self.close();
    }

    /// What is to be written next, for whoever writes it; it is forgotten here.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn close(&mut self) {
        self.out.extend_from_slice(&block_head(self.salt, self.block.len() as u32, self.place));
        self.out.extend_from_slice(&self.block);
        self.place += (BLOCK_HEAD_BYTES + self.block.len()) as u64;
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_says_that_something_is_missing_once_all_was_put_in() {
        let mut backup = Backup::new(7, "red", "a");
        backup.begin_log();
        let mut bytes = backup.take();
        backup.lose();
        backup.finish();
        bytes.extend(backup.take());
        let beginning = backup.beginning();
        for is_written_over in [false, true] {
            if is_written_over {
                bytes[..beginning.len()].copy_from_slice(&beginning);
            }
            let mut scanner = Scanner::new();
            scanner.push(&bytes);
            scanner.end();
            let Item::Header { name, is_backup, is_whole, has_gap, .. } = scanner.next_item() else {
                panic!("a header")
            };
            assert_eq!((name, is_backup, is_whole, has_gap), ("a", true, true, is_written_over));
            while let Item::Frame { says, .. } = scanner.next_item() {
                assert_eq!(says, Says::End);
            }
            assert_eq!(scanner.next_item(), Item::End);
        }
    }
}
