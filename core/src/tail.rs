//! The tail: the newest records in the order in which they came, as encoded bytes in a bounded ring.
//!
//! Every link is a cursor into it, so a write is encoded once whatever the number of peers, and a slow or dead peer
//! costs a cursor, never a queue. Positions count bytes ever appended; what lies before [`Tail::start`] is gone.

use crate::record::{HEAD_BYTES, PREFIX_BYTES, checked_length, head_stamp, length_of};
use crate::version::{Hlc, OriginId, Version};

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

/// The newest records, as far back as they are of one origin and each is newer than the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Where it begins, which may be gone.
    pub(crate) from: Pos,
    pub(crate) origin: OriginId,
    /// The stamp of the newest.
    pub(crate) last: Hlc,
}

#[derive(Debug)]
pub(crate) struct Tail {
    /// Nothing until the first record: a node that never had a peer pays nothing. Then as long as what was written to:
    /// all of it zeroed first would be one long turn.
    ring: Vec<u8>,
    capacity_bytes: usize,
    start: Pos,
    end: Pos,
    /// The last position that stands at the beginning of the ring: no more than `end`, and less than the capacity
    /// before it.
    lap: Pos,
    run: Run,
}

impl Tail {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        let run = Run { from: Pos(0), origin: OriginId(0), last: Hlc::ZERO };
        Self { ring: Vec::new(), capacity_bytes, start: Pos(0), end: Pos(0), lap: Pos(0), run }
    }

    /// Oldest position still held.
    pub(crate) fn start(&self) -> Pos {
        self.start
    }

    /// Where the next record will begin.
    pub(crate) fn end(&self) -> Pos {
        self.end
    }

    /// What the tail ends with.
    pub(crate) fn run(&self) -> Run {
        self.run
    }

    /// Bytes held and the most that will be.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        ((self.end.0 - self.start.0) as usize, self.capacity_bytes)
    }

    /// Memory taken: what was written to at least once. The system gives the rest of the ring only then.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.ring.len()
    }

    /// Appends one encoded record and drops the oldest to make room. One that is larger than the ring leaves it empty:
    /// those who follow see a gap, and catch up by a sweep.
    pub(crate) fn append(&mut self, record: &[u8]) {
        self.note_run(head_stamp(record.first_chunk().expect("a record has a head")));
        if record.len() > self.capacity_bytes {
            self.end.0 += record.len() as u64;
            (self.start, self.lap) = (self.end, self.end);
            return;
        }
        if self.ring.is_empty() {
            self.ring = Vec::with_capacity(self.capacity_bytes);
        }
        while self.bytes().0 + record.len() > self.capacity_bytes {
            let oldest = self.record_bytes(self.start);
            self.start.0 += oldest as u64;
        }
        let at = self.index(self.end);
        let room = self.capacity_bytes - at;
        if record.len() < room {
            self.put(at, record);
        } else {
            let (first, rest) = record.split_at(room);
            self.put(at, first);
            self.put(0, rest);
            self.lap.0 += self.capacity_bytes as u64;
        }
        self.end.0 += record.len() as u64;
        debug_assert!(self.start <= self.end && self.bytes().0 <= self.capacity_bytes, "the ring holds what it may");
    }

    fn note_run(&mut self, stamp: Version) {
        if stamp.origin != self.run.origin || stamp.hlc <= self.run.last {
            (self.run.from, self.run.origin) = (self.end, stamp.origin);
        }
        self.run.last = stamp.hlc;
    }

    /// Writes over what stands from there on, and goes on behind it.
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let (over, behind) = bytes.split_at(bytes.len().min(self.ring.len() - at));
        self.ring[at..at + over.len()].copy_from_slice(over);
        self.ring.extend_from_slice(behind);
    }

    /// Drops every record.
    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// The record that begins at `at`, which lies in `start..end` at a record's beginning.
    pub(crate) fn head(&self, at: Pos) -> Head {
        debug_assert!(self.start <= at && at < self.end, "a cursor stands on a record");
        let head: [u8; HEAD_BYTES] = self.chunk(at);
        let [l0, l1, l2, l3, ..] = head;
        Head { stamp: head_stamp(&head), bytes: PREFIX_BYTES + length_of([l0, l1, l2, l3]) }
    }

    /// As many of the records from `at` on, where one begins, as take at most `room` bytes: how many bytes they have,
    /// and the stamp of the last. None if not even one does.
    pub(crate) fn within(&self, at: Pos, room: usize) -> Option<(usize, Version)> {
        let (mut behind, mut last) = (at, None);
        while behind < self.end {
            let next = Self::skip(behind, self.record_bytes(behind));
            if (next.0 - at.0) as usize > room {
                break;
            }
            (behind, last) = (next, Some(behind));
        }
        last.map(|last| ((behind.0 - at.0) as usize, self.head(last).stamp))
    }

    /// Appends `count` bytes from `at` on to `out` and returns the position behind them.
    pub(crate) fn copy_out(&self, at: Pos, count: usize, out: &mut Vec<u8>) -> Pos {
        debug_assert!(self.start <= at && at.0 + count as u64 <= self.end.0, "what is copied is held");
        let from = self.index(at);
        let first = count.min(self.capacity_bytes - from);
        out.extend_from_slice(&self.ring[from..from + first]);
        if first < count {
            out.extend_from_slice(&self.ring[..count - first]);
        }
        Pos(at.0 + count as u64)
    }

    /// The position `count` bytes behind `at`.
    pub(crate) fn skip(at: Pos, count: usize) -> Pos {
        Pos(at.0 + count as u64)
    }

    fn record_bytes(&self, at: Pos) -> usize {
        let length = self.chunk(at);
        debug_assert!(checked_length(length).is_some(), "the ring holds frames as they were written");
        PREFIX_BYTES + length_of(length)
    }

    #[inline]
    fn chunk<const COUNT: usize>(&self, at: Pos) -> [u8; COUNT] {
        let behind = &self.ring[self.index(at)..];
        behind.first_chunk().copied().unwrap_or_else(|| {
            let mut chunk = [0; COUNT];
            let (first, rest) = chunk.split_at_mut(behind.len());
            first.copy_from_slice(behind);
            rest.copy_from_slice(&self.ring[..rest.len()]);
            chunk
        })
    }

    #[inline]
    fn index(&self, at: Pos) -> usize {
        let lap = if at >= self.lap { self.lap.0 } else { self.lap.0 - self.capacity_bytes as u64 };
        (at.0 - lap) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::record::{Framed, Record, encode};
    use crate::version::{Hlc, OriginId};

    fn record(origin: u64, hlc: u64, value_bytes: usize) -> Vec<u8> {
        let version = Version { hlc: Hlc(hlc), origin: OriginId(origin) };
        let value = vec![hlc as u8; value_bytes];
        let record = Record { key: b"k", value: Some(&value), is_counter: false, deadline: None, version };
        let mut bytes = Vec::new();
        encode(&Framed { stamp: version, prev: Some(Hlc(hlc - 1)), seen: Hlc::ZERO, record }, &mut bytes);
        bytes
    }

    /// A record of some origin: whether its stamp is no newer than the one before it, and the bytes of its value.
    fn writes() -> impl Strategy<Value = Vec<(u64, bool, usize)>> {
        let sizes = prop_oneof![9 => 0_usize..300, 1 => 400_usize..600];
        proptest::collection::vec((1_u64..3, proptest::bool::weighted(0.1), sizes), 1..60)
    }

    proptest! {
        #[test]
        fn the_ring_holds_the_newest_records_whole(
            writes in writes(),
            rooms in proptest::collection::vec(0_usize..700, 3),
        ) {
            let mut tail = Tail::new(500);
            let mut model: VecDeque<(Version, Vec<u8>)> = VecDeque::new();
            let (mut hlc, mut appended, mut run) = (1_u64, 0_u64, (0, OriginId(0), Hlc::ZERO));
            for (origin, is_old, size) in writes {
                hlc += u64::from(!is_old);
                let stamp = Version { hlc: Hlc(hlc), origin: OriginId(origin) };
                let bytes = record(origin, hlc, size);
                tail.append(&bytes);
                let goes_on = run.1 == stamp.origin && run.2 < stamp.hlc;
                run = (if goes_on { run.0 } else { appended }, stamp.origin, stamp.hlc);
                appended += bytes.len() as u64;
                model.push_back((stamp, bytes));
                while model.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 500 {
                    model.pop_front();
                }
                let Run { from, origin, last } = tail.run();
                prop_assert_eq!((from.0, origin, last), run);
                let mut at = tail.start();
                for (skipped, (stamp, bytes)) in model.iter().enumerate() {
                    for room in &rooms {
                        let mut fits = 0;
                        let lengths = model.iter().skip(skipped).map(|(stamp, bytes)| {
                            fits += bytes.len();
                            (fits, *stamp)
                        });
                        prop_assert_eq!(tail.within(at, *room), lengths.take_while(|(fits, _)| fits <= room).last());
                    }
                    let head = tail.head(at);
                    prop_assert_eq!(head.stamp, *stamp);
                    let mut copy = Vec::new();
                    at = tail.copy_out(at, head.bytes, &mut copy);
                    prop_assert_eq!(&copy, bytes);
                }
                prop_assert_eq!(at, tail.end());
                let most = usize::try_from(appended).unwrap_or(usize::MAX).min(500);
                prop_assert!((tail.bytes().0..=most).contains(&tail.memory_bytes()));
            }
        }
    }

    #[test]
    fn a_record_larger_than_the_ring_empties_it() {
        let mut tail = Tail::new(100);
        tail.append(&record(1, 1, 10));
        tail.append(&record(1, 2, 200));
        assert_eq!(tail.start(), tail.end());
        tail.append(&record(1, 3, 10));
        assert_eq!(tail.head(tail.start()).stamp.hlc, Hlc(3));
    }
}
