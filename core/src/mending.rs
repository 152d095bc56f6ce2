//! What scrubbing may add, and when (PROTOCOL.md rules 2 and 22).
//!
//! **What is missing.** A frontier says: everything the origin wrote up to here is held, or was superseded by something
//! held, or by something that was collected. So an entry that a peer has, that this node's frontier covers, and of
//! whose key this node holds something older, is missing for certain, whatever is under way at that moment; no quiet is
//! needed to tell, nor an age. What the frontier does not cover is still to come by stream, sweep or envelope, and is
//! none of our business.
//!
//! If this node holds *nothing* of the key, it may have collected a tombstone that beat the entry. In a cluster that
//! keeps the rules no peer shows such an entry: a tombstone is collected only after every linked member has stated that
//! it has seen it, and what a peer lists comes behind its statement on the same link. But scrubbing is there for the
//! day on which something did not keep the rules, and on that day a peer's leftover looks like our loss. So an entry is
//! put back only where no collected tombstone can have beaten it: it is newer than all that was collected under its
//! hash ([`Collected`](crate::collected::Collected)). All else is *unclear*: named to the operator and left alone. Any
//! later
//! `SET` or `DEL` of the key is newer than both, and ends the difference.
//!
//! If something older of the key is held, it came after whatever was collected of it, as the newest of its key, by the
//! ordinary ways; then the newer entry of the peer takes its place as ever. A tombstone is always an addition.
//!
//! Tombstones that this node lacks and holds nothing under are no loss: it may have collected them. So are values whose
//! deadline has passed at the cut: they count for nobody. Nor is one unclear whose deadline has passed since: a clock
//! that was far ahead for a while had it collected early, here or where a sweep came from, nobody reads it any more,
//! and the next cut ends the difference. (`sim/regressions/a-value-that-ended-was-missed-until-the-next-cut`)
//!
//! **Counters** are compared by what they add to the digest. If all that a peer's cell is made of is covered, and
//! joining it would change that, a part is missing. A cell with news in it says nothing until the news have come.

use crate::counter::{Count, Counter, Part};
use crate::name::{Name, SPACES};
use crate::record::Record;
use crate::replica::Replica;
use crate::store::{Listed, What, floor_space, key_name};
use crate::time::{Now, WallMs};

/// What an entry of a peer is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It lacks nothing.
    None,
    /// It lacks this, or has to see it whole to tell.
    Missing,
    /// It lacks this, and may have deleted it.
    Unclear,
}

impl Replica {
    /// What the entry that a peer lists is to this node, which lists `mine` under its name.
    pub(crate) fn lacks(&self, wall: WallMs, theirs: &Listed, mine: Option<&Listed>) -> Lack {
        let is_floor = || (0..SPACES).any(|space| theirs.name == key_name(&Name::floor(space).stored()));
        // Its keyspace may have been flushed, which only its key tells.
        let may_be_flushed = || self.store.highest_floor().is_some_and(|floor| theirs.version <= floor);
        match self.compare(wall, theirs, mine) {
            Lack::Missing | Lack::Unclear if mine.is_none() && (may_be_flushed() || is_floor()) => Lack::Missing,
            lack => lack,
        }
    }

    /// As [`lacks`](Self::lacks), of what is not below a floor.
    fn compare(&self, wall: WallMs, theirs: &Listed, mine: Option<&Listed>) -> Lack {
        match (theirs.what, mine) {
            (What::Counter { print }, Some(Listed { what: What::Counter { print: own }, .. })) if print == *own => {
                Lack::None
            }
            (What::Counter { print: 0 }, None) | (What::Tombstone, None) => Lack::None,
            // Whoever is joined has to be seen whole.
            (What::Counter { .. }, _) | (_, Some(Listed { what: What::Counter { .. }, .. })) => Lack::Missing,
            (What::Value { .. } | What::Tombstone, _) if !self.covers(theirs.version) => Lack::None,
            (What::Value { .. } | What::Tombstone, Some(mine)) if theirs.version > mine.version => Lack::Missing,
            // One version that says two things: which is right cannot be told.
            (What::Value { .. } | What::Tombstone, Some(mine)) if theirs.version == mine.version => {
                if theirs.what == mine.what { Lack::None } else { Lack::Unclear }
            }
            (What::Value { .. } | What::Tombstone, Some(_)) => Lack::None,
            (What::Value { deadline }, None) => {
                let (_, cut) = self.store.digest();
                if deadline.is_some_and(|deadline| deadline <= cut) {
                    Lack::None
                } else if theirs.may_be_deleted(&self.collected) {
                    if deadline.is_some_and(|deadline| deadline <= wall) { Lack::None } else { Lack::Unclear }
                } else {
                    Lack::Missing
                }
            }
        }
    }

    /// Puts back what is missing of `record`, which a peer has; what it was to this node. It was covered, so neither
    /// the clock nor any account moves, and nobody waits for it in a stream.
    pub(crate) fn mend(&mut self, now: Now, record: &Record<'_>) -> Lack {
        let lack = self.lacks_of(now.wall, record);
        if lack == Lack::Missing {
            // As one part is told from another by the join alone: what the frontier says of them proved wrong.
            let merged = if record.is_counter {
                let Self { store, origins, .. } = self;
                let merged = store.merge_counter(record, Counter::of(record), |origin| origins.retired().folds(origin));
                self.feed_change(record.key);
                merged
            } else {
                self.take(now.mono, record, None)
            };
            debug_assert!(merged.is_ok(), "what is covered is of an origin that has an account");
            self.log_replaced(record.key);
        }
        lack
    }

    /// What `record`, which a peer has, is to this node.
    fn lacks_of(&self, wall: WallMs, record: &Record<'_>) -> Lack {
        let (mine, floor) = (self.store.get(record.key), self.store.floor_over(record.key));
        if !record.is_counter && (floor.is_some_and(|floor| record.version <= floor) || self.store.is_covered(record)) {
            // The peer has yet to hear of it.
            return Lack::None;
        }
        if !record.is_counter && !mine.is_some_and(|mine| mine.is_counter) {
            let mine = mine.map(|mine| self.store.listed(&mine));
            return match self.compare(wall, &self.store.listed(record), mine.as_ref()) {
                // Floors are not collected.
                Lack::Unclear if floor_space(record.key).is_some() && mine.is_none() => Lack::Missing,
                // What a list says does not tell what it is an element of.
                Lack::Missing if mine.is_none() && self.may_have_deleted(record.key, record.version.hlc) => {
                    let has_passed = record.deadline.is_some_and(|deadline| deadline <= wall);
                    if record.value.is_none() || has_passed { Lack::None } else { Lack::Unclear }
                }
                lack => lack,
            };
        }
        let mut joined = mine.as_ref().map(Counter::of).unwrap_or_default();
        let theirs = Counter::of(record);
        let is_covered = theirs.versions().all(|version| self.covers(version));
        if !is_covered || !theirs.folds.iter().all(|fold| self.covers_fold(fold)) {
            return Lack::None;
        }
        // What deleted a part was newer than its first increment.
        let oldest = theirs.parts.iter().map(Part::oldest).chain(theirs.folds.iter().map(|fold| fold.oldest));
        let first = oldest.chain(theirs.base.iter().map(|base| base.version)).map(|version| version.hlc).min();
        joined.join(theirs, |origin| self.origins.retired().folds(origin));
        floor.inspect(|floor| joined.join(Counter::below(*floor), |_| None));
        self.store.cover(record.key).inspect(|cover| joined.reset(*cover));
        let has_passed = joined.count_at(wall) == Count::Absent;
        let mut text = Vec::new();
        let after = joined.record(record.key, &mut text).map_or(0, |joined| self.store.print(&joined));
        if after == mine.map_or(0, |mine| self.store.print(&mine)) {
            return Lack::None;
        }
        let may_be_deleted = first.is_some_and(|first| self.may_have_deleted(record.key, first));
        match mine {
            None if may_be_deleted && has_passed => Lack::None,
            None if may_be_deleted => Lack::Unclear,
            None | Some(_) => Lack::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origins::Known;
    use crate::replica::Exposure;
    use crate::store::SLOTS;
    use crate::time::Mono;
    use crate::version::{Hlc, OriginId, Version};

    const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

    /// The frontier covers this much of origin 9.
    const COVERED: u64 = 100;

    fn record<'a>(hlc: u64, value: Option<&'a [u8]>, deadline: Option<WallMs>) -> Record<'a> {
        let version = Version { hlc: Hlc(hlc), origin: OriginId(9) };
        Record { key: b"key", value, is_counter: false, deadline, version }
    }

    fn replica(mine: Option<Record<'_>>) -> Replica {
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW.mono);
        while replica.store.expire(NOW.wall) {}
        replica.origins.claim(OriginId(9), Hlc(COVERED), NOW.mono);
        mine.inspect(|mine| assert!(replica.take(NOW.mono, mine, None).is_ok()));
        replica
    }

    #[track_caller]
    fn check(replica: &mut Replica, theirs: Record<'_>, lack: Lack) {
        let before = replica.store.get(b"key").map(|record| record.version);
        let listed = replica.store.listed(&theirs);
        let mine = replica.store.get(b"key").map(|mine| replica.store.listed(&mine));
        assert_eq!(replica.lacks(NOW.wall, &listed, mine.as_ref()), lack, "{theirs:?}");
        assert_eq!(replica.mend(NOW, &theirs), lack, "{theirs:?}");
        let after = replica.store.get(b"key").map(|record| record.version);
        assert_eq!(after, if lack == Lack::Missing { Some(theirs.version) } else { before }, "{theirs:?}");
        if lack == Lack::Missing {
            assert_eq!(replica.mend(NOW, &theirs), Lack::None, "it is there now");
        }
    }

    #[test]
    fn what_is_covered_and_not_here_is_missing() {
        let (live, passed) = (Some(NOW.wall.plus_ms(1)), Some(NOW.wall));
        check(&mut replica(None), record(50, Some(b"v"), None), Lack::Missing);
        check(&mut replica(None), record(COVERED, Some(b"v"), live), Lack::Missing);
        check(&mut replica(None), record(COVERED + 1, Some(b"v"), None), Lack::None);
        check(&mut replica(None), record(50, Some(b"v"), passed), Lack::None);
        check(&mut replica(None), record(50, None, None), Lack::None);
    }

    #[test]
    fn what_is_newer_than_what_is_here_is_missing() {
        let mine = || Some(record(40, Some(b"mine"), None));
        check(&mut replica(mine()), record(50, Some(b"v"), None), Lack::Missing);
        check(&mut replica(mine()), record(50, Some(b"v"), Some(NOW.wall)), Lack::Missing);
        check(&mut replica(mine()), record(50, None, None), Lack::Missing);
        check(&mut replica(mine()), record(30, Some(b"v"), None), Lack::None);
        check(&mut replica(mine()), record(40, Some(b"mine"), None), Lack::None);
        check(&mut replica(mine()), record(40, Some(b"mine"), Some(NOW.wall)), Lack::Unclear);
        check(&mut replica(mine()), record(COVERED + 1, None, None), Lack::None);
        check(&mut replica(Some(record(40, None, None))), record(50, Some(b"v"), None), Lack::Missing);
    }

    #[test]
    fn what_may_have_been_deleted_and_forgotten_stays_away() {
        let mut replica = replica(Some(record(60, None, None)));
        let mut stable = Known::default();
        stable.claims.raise(OriginId(9), Hlc(COVERED));
        let mut count = 0;
        for slot in 0..SLOTS {
            replica.collect(slot, &stable, &mut count);
        }
        assert_eq!((count, replica.store.get(b"key")), (1, None));
        check(&mut replica, record(50, Some(b"v"), None), Lack::Unclear);
        check(&mut replica, record(60, Some(b"v"), None), Lack::Unclear);
        check(&mut replica, record(61, Some(b"v"), None), Lack::Missing);
        // It counts at the cut, and for no reader any more.
        let (passed, live) = (NOW.wall.plus_ms(1), NOW.wall.plus_ms(2));
        for (deadline, lack) in [(passed, Lack::None), (live, Lack::Unclear)] {
            let listed = replica.store.listed(&record(50, Some(b"v"), Some(deadline)));
            assert_eq!(replica.lacks(passed, &listed, None), lack);
        }
        // What stands came after the delete.
        check(&mut replica, record(70, Some(b"v"), None), Lack::Missing);
    }

    /// A counter of these parts: origin, last stamp, first stamp, total.
    fn cell(parts: &[(u64, u64, u64, i128)]) -> Vec<u8> {
        let part = |(origin, hlc, since, total): &(u64, u64, u64, i128)| Part {
            origin: OriginId(*origin),
            hlc: Hlc(*hlc),
            since: Hlc(*since),
            total: *total,
        };
        let mut cell = Vec::new();
        Counter { parts: parts.iter().map(part).collect(), ..Counter::default() }.put_cell(&mut cell);
        cell
    }

    fn counter(hlc: u64, cell: &[u8]) -> Record<'_> {
        Record { is_counter: true, ..record(hlc, Some(cell), None) }
    }

    #[test]
    fn a_part_that_is_missing_is_joined_and_nothing_else() {
        let (one, more, news) = (cell(&[(9, 50, 40, 3)]), cell(&[(9, 60, 40, 5)]), cell(&[(9, 101, 40, 9)]));
        let sum = |replica: &Replica| {
            let record = replica.store.get(b"key").expect("it is there");
            Counter::of(&record).count_at(NOW.wall)
        };
        let mut replica = replica(None);
        replica.feed.keep();
        assert_eq!(replica.mend(NOW, &counter(50, &one)), Lack::Missing);
        assert_eq!(replica.feed.len(), 1, "who watches hears of it");
        assert_eq!(replica.mend(NOW, &counter(60, &more)), Lack::Missing);
        assert_eq!(replica.mend(NOW, &counter(50, &one)), Lack::None);
        assert_eq!(replica.mend(NOW, &counter(101, &news)), Lack::None, "it is on its way");
        assert_eq!(sum(&replica), Count::Number(5));
        // A reset that is missing takes what was added before it.
        assert_eq!(replica.mend(NOW, &record(70, Some(b"7"), None)), Lack::Missing);
        assert_eq!(sum(&replica), Count::Number(7));
        assert_eq!(replica.mend(NOW, &counter(60, &more)), Lack::None);
    }

    #[test]
    fn a_part_that_may_have_been_reset_stays_away() {
        let mut replica = replica(None);
        replica.collected.note(key_name(b"key"), Hlc(45), false);
        let (old, new) = (cell(&[(9, 50, 40, 3)]), cell(&[(9, 60, 46, 5)]));
        assert_eq!(replica.mend(NOW, &counter(50, &old)), Lack::Unclear);
        assert_eq!(replica.store.get(b"key"), None);
        assert_eq!(replica.mend(NOW, &counter(60, &new)), Lack::Missing);
    }

    #[test]
    fn what_was_flushed_is_neither_missing_nor_unclear_and_a_floor_is_missing() {
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, now.mono);
        let version = |hlc| Version { hlc: Hlc(hlc), origin: OriginId(9) };
        let floor = Name::floor(2).stored();
        let record =
            |key, hlc| Record { key, value: Some(b""), is_counter: false, deadline: None, version: version(hlc) };
        replica.origins.claim(OriginId(9), Hlc(100), now.mono);
        replica.collected.note_elsewhere(Hlc(60));
        let check = |replica: &Replica, record: &Record<'_>, lists: Lack, has: Lack| {
            let listed = replica.store.listed(record);
            assert_eq!((replica.lacks(now.wall, &listed, None), replica.lacks_of(now.wall, record)), (lists, has));
        };
        check(&replica, &record(&floor, 50), Lack::Missing, Lack::Missing);
        check(&replica, &record(&floor, 101), Lack::None, Lack::None);
        check(&replica, &record(b"\xff\x02k", 40), Lack::Unclear, Lack::Unclear);
        assert_eq!(replica.mend(now, &record(&floor, 50)), Lack::Missing);
        // What it is called tells more than its hash.
        check(&replica, &record(b"\xff\x02k", 40), Lack::Missing, Lack::None);
        check(&replica, &record(b"k", 40), Lack::Missing, Lack::Unclear);
        check(&replica, &record(b"\xff\x02k", 70), Lack::Missing, Lack::Missing);
        let part = Part { origin: OriginId(9), hlc: Hlc(45), since: Hlc(45), total: 1 };
        let counter = Counter { parts: vec![part], ..Counter::default() };
        let mut cell = Vec::new();
        let added = counter.record(b"\xff\x02n", &mut cell).expect("a counter");
        check(&replica, &added, Lack::Missing, Lack::None);
    }
}
