//! The tail: the newest records in the order in which they came, as encoded bytes in a bounded ring.
//!
//! Every link is a cursor into it, so a write is encoded once whatever the number of peers, and a slow or dead peer
//! costs a cursor, never a queue. Positions count bytes ever appended; what lies before [`Tail::start`] is gone.

use crate::record::{HEAD_BYTES, PREFIX_BYTES, checked_length, head_stamp};
use crate::version::Version;

/// A position in the tail: bytes appended before it since the node began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos(pub(crate) u64);

/// The head of the record at a position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) stamp: Version,
    /// The whole record, prefix included.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Tail {
    /// Empty until the first record: a node that never had a peer pays nothing.
    ring: Vec<u8>,
    capacity_bytes: usize,
    start: Pos,
    end: Pos,
}

impl Tail {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { ring: Vec::new(), capacity_bytes, start: Pos(0), end: Pos(0) }
    }

    /// Oldest position still held.
    pub(crate) fn start(&self) -> Pos {
        self.start
    }

    /// Where the next record will begin.
    pub(crate) fn end(&self) -> Pos {
        self.end
    }

    /// Bytes held and the most that will be.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        ((self.end.0 - self.start.0) as usize, self.capacity_bytes)
    }

    /// Memory taken: what was written to at least once. The system gives the rest of the ring only then.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring.len().min(usize::try_from(self.end.0).unwrap_or(usize::MAX))
    }

    /// Appends one encoded record and drops the oldest to make room. One that is larger than the ring leaves it empty:
    /// those who follow see a gap, and catch up by a sweep.
    pub(crate) fn append(&mut self, record: &[u8]) {
        debug_assert!(record.len() >= HEAD_BYTES, "a record has a head");
        if record.len() > self.capacity_bytes {
            self.end.0 += record.len() as u64;
            self.start = self.end;
            return;
        }
        if self.ring.is_empty() {
            self.ring = vec![0; self.capacity_bytes];
        }
        while self.bytes().0 + record.len() > self.capacity_bytes {
            let oldest = self.record_bytes(self.start);
            self.start.0 += oldest as u64;
        }
        let at = self.index(self.end);
        let first = record.len().min(self.capacity_bytes - at);
        self.ring[at..at + first].copy_from_slice(&record[..first]);
        self.ring[..record.len() - first].copy_from_slice(&record[first..]);
        self.end.0 += record.len() as u64;
        debug_assert!(self.start <= self.end && self.bytes().0 <= self.capacity_bytes, "the ring holds what it may");
    }

    /// Drops every record.
    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// The record that begins at `at`, which lies in `start..end` at a record's beginning.
    pub(crate) fn head(&self, at: Pos) -> Head {
        debug_assert!(self.start <= at && at < self.end, "a cursor stands on a record");
        let mut head = [0; HEAD_BYTES];
        self.copy(at, &mut head);
        Head { stamp: head_stamp(&head), bytes: self.record_bytes(at) }
    }

    /// Appends `count` bytes from `at` on to `out` and returns the position behind them.
    pub(crate) fn copy_out(&self, at: Pos, count: usize, out: &mut Vec<u8>) -> Pos {
        debug_assert!(self.start <= at && at.0 + count as u64 <= self.end.0, "what is copied is held");
        let from = self.index(at);
        let first = count.min(self.capacity_bytes - from);
        out.extend_from_slice(&self.ring[from..from + first]);
        out.extend_from_slice(&self.ring[..count - first]);
        Pos(at.0 + count as u64)
    }

    /// The position `count` bytes behind `at`.
    pub(crate) fn skip(at: Pos, count: usize) -> Pos {
        Pos(at.0 + count as u64)
    }

    fn record_bytes(&self, at: Pos) -> usize {
        let mut length = [0; 4];
        self.copy(at, &mut length);
        PREFIX_BYTES + checked_length(length).expect("the ring holds frames as they were written")
    }

    fn copy(&self, at: Pos, into: &mut [u8]) {
        let from = self.index(at);
        let first = into.len().min(self.capacity_bytes - from);
        into[..first].copy_from_slice(&self.ring[from..from + first]);
        let rest = into.len() - first;
        into[first..].copy_from_slice(&self.ring[..rest]);
    }

    fn index(&self, at: Pos) -> usize {
        (at.0 % self.capacity_bytes as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::record::{Framed, Record, encode};
    use crate::version::{Hlc, OriginId};

    fn record(hlc: u64, value_bytes: usize) -> Vec<u8> {
        let version = Version { hlc: Hlc(hlc), origin: OriginId(1) };
        let value = vec![hlc as u8; value_bytes];
        let record = Record { key: b"k", value: Some(&value), is_counter: false, deadline: None, version };
        let mut bytes = Vec::new();
        encode(&Framed { stamp: version, prev: Some(Hlc(hlc - 1)), seen: Hlc::ZERO, record }, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn the_ring_holds_the_newest_records_whole(sizes in proptest::collection::vec(0_usize..300, 1..60)) {
            let mut tail = Tail::new(500);
            let mut model: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            for (hlc, size) in (1_u64..).zip(sizes) {
                let bytes = record(hlc, size);
                tail.append(&bytes);
                model.push_back((hlc, bytes));
                while model.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 500 {
                    model.pop_front();
                }
                let mut at = tail.start();
                for (hlc, bytes) in &model {
                    let head = tail.head(at);
                    prop_assert_eq!(head.stamp.hlc, Hlc(*hlc));
                    let mut copy = Vec::new();
                    at = tail.copy_out(at, head.bytes, &mut copy);
                    prop_assert_eq!(&copy, bytes);
                }
                prop_assert_eq!(at, tail.end());
            }
        }
    }

    #[test]
    fn a_record_larger_than_the_ring_empties_it() {
        let mut tail = Tail::new(100);
        tail.append(&record(1, 10));
        tail.append(&record(2, 200));
        assert_eq!(tail.start(), tail.end());
        tail.append(&record(3, 10));
        assert_eq!(tail.head(tail.start()).stamp.hlc, Hlc(3));
    }
}
