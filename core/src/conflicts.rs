//! The ledger of conflicts: what lost to a write made without knowledge of it (PROTOCOL.md rule 23).
//!
//! Merging keeps one of two concurrent writes. The two runs that wrote them can know that they were concurrent; each
//! keeps what was lost here for a while, so that a person can look at it and write it again. What a sweep brings tells
//! nothing of what its writer had seen, and is not listed.

use std::collections::BTreeMap;

use crate::name::owner;
use crate::record::Record;
use crate::time::{Mono, WallMs};
use crate::version::{OriginId, Version};

/// Conflicts listed at once: more than a person looks through, and what `CONFLICTS` answers at most.
pub(crate) const CONFLICTS_MAX: usize = 1_024;

/// What the ledger takes in all, keys and values included: nothing beside the data, whoever provokes conflicts.
pub(crate) const LEDGER_BYTES_MAX: usize = 1 << 20;

/// Longest value that is kept; of a longer one the size is. A few of those would push everything else out.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// How long a conflict stays listed. A day: who works by day finds in the morning what a partition at night has cost.
const AGE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// A write that lost to another one, neither of which had seen the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The key of both.
    pub key: &'a [u8],
    /// The write that lost.
    pub lost: Version,
    /// Its value. `None`: it was a delete, its value had expired and was freed, or is too long to be kept.
    pub value: Option<&'a [u8]>,
    /// The length of its value, kept or not.
    pub value_bytes: Option<usize>,
    /// From when on its value would have read as absent.
    pub deadline: Option<WallMs>,
    /// The write that it lost to.
    pub won: Version,
    /// The length of that one's value; `None` if it was a delete, or freed.
    pub won_bytes: Option<usize>,
}

/// The newest conflicts of this run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By the number each was given when it was found.
    entries: BTreeMap<u64, Entry>,
    /// Numbers by the write that won and the run that lost to it; a version tells its key.
    numbers: BTreeMap<(Version, OriginId), u64>,
    /// Found since the start, listed or not.
    found: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    found: Mono,
    key: Box<[u8]>,
    lost: Version,
    value: Option<Box<[u8]>>,
    value_bytes: Option<usize>,
    deadline: Option<WallMs>,
    won: Version,
    won_bytes: Option<usize>,
}

impl Ledger {
    /// Takes in that `lost` gave way to `won`, which has the same key, or that of the element which `lost` is. A later
    /// write of a run takes the place of an earlier one of it that lost to the same: its writer had overwritten that
    /// one itself.
    pub(crate) fn note(&mut self, now: Mono, lost: &Record<'_>, won: &Record<'_>) {
        debug_assert!(lost.version < won.version, "the greater of two versions of a key wins");
        debug_assert!(lost.key == won.key || owner(lost.key).as_deref() == Some(won.key), "of one key");
        self.found += 1;
        if let Some(number) = self.numbers.get(&(won.version, lost.version.origin)).copied() {
            if self.entries.get(&number).is_some_and(|listed| listed.lost >= lost.version) {
                return;
            }
            self.remove(number);
        }
        let kept = lost.value.filter(|value| value.len() <= VALUE_BYTES_MAX);
        let entry = Entry {
            found: now,
            key: lost.key.into(),
            lost: lost.version,
            value: kept.map(Into::into),
            value_bytes: lost.value.map(<[u8]>::len),
            deadline: lost.deadline,
            won: won.version,
            won_bytes: won.value.map(<[u8]>::len),
        };
        self.bytes += entry.bytes();
        self.numbers.insert(entry.pair(), self.found);
        self.entries.insert(self.found, entry);
        while self.entries.len() > CONFLICTS_MAX || self.bytes > LEDGER_BYTES_MAX {
            self.remove_oldest();
        }
    }

    /// Drops what was found too long ago. O(1) while there is nothing to drop.
    pub(crate) fn age(&mut self, now: Mono) {
        while self.entries.first_key_value().is_some_and(|(_, entry)| now.ms_since(entry.found) >= AGE_MS_MAX) {
            self.remove_oldest();
        }
    }

    /// The conflicts listed, newest first, each with its number: a later one has a greater one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Conflict<'_>)> {
        self.entries.iter().rev().map(|(number, entry)| (*number, entry.view()))
    }

    /// Conflicts listed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Conflicts found since the start, listed or not.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// What the ledger takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove_oldest(&mut self) {
        if let Some((oldest, _)) = self.entries.first_key_value() {
            self.remove(*oldest);
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.bytes -= entry.bytes();
            self.numbers.remove(&entry.pair());
        }
        debug_assert!(self.entries.len() == self.numbers.len(), "each entry has its number");
    }
}

impl Entry {
    fn pair(&self) -> (Version, OriginId) {
        (self.won, self.lost.origin)
    }

    /// In both maps, key and value included.
    fn bytes(&self) -> usize {
        let numbered = size_of::<(u64, Self)>() + size_of::<((Version, OriginId), u64)>();
        numbered + self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    fn view(&self) -> Conflict<'_> {
        let Self { lost, value_bytes, deadline, won, won_bytes, .. } = *self;
        Conflict { key: &self.key, lost, value: self.value.as_deref(), value_bytes, deadline, won, won_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Hlc;

    const MINE: u64 = 1;
    const THEIRS: u64 = 2;

    fn record<'a>(key: &'a [u8], value: Option<&'a [u8]>, hlc: u64, origin: u64) -> Record<'a> {
        Record {
            key,
            value,
            is_counter: false,
            deadline: None,
            version: Version { hlc: Hlc(hlc), origin: OriginId(origin) },
        }
    }

    /// Notes that a value of `bytes` under `key`, written at `hlc`, lost to one at `won`.
    fn note(ledger: &mut Ledger, now: Mono, key: &[u8], (hlc, won): (u64, u64), bytes: usize) {
        let value = vec![b'v'; bytes];
        ledger.note(now, &record(key, Some(&value), hlc, THEIRS), &record(key, None, won, MINE));
    }

    fn listed(ledger: &Ledger) -> Vec<u64> {
        ledger.iter().map(|(_, conflict)| conflict.lost.hlc.0).collect()
    }

    #[test]
    fn the_newest_comes_first_and_holds_both_sides() {
        let mut ledger = Ledger::default();
        note(&mut ledger, Mono(0), b"k", (5, 9), 3);
        ledger.note(Mono(1), &record(b"l", None, 6, MINE), &record(b"l", Some(b"new"), 7, THEIRS));
        assert_eq!(listed(&ledger), [6, 5]);
        let views: Vec<_> = ledger.iter().map(|(_, conflict)| conflict).collect();
        assert_eq!((views[0].value, views[0].value_bytes, views[0].won_bytes), (None, None, Some(3)));
        assert_eq!((views[1].value, views[1].value_bytes, views[1].won_bytes), (Some(&b"vvv"[..]), Some(3), None));
        assert_eq!((views[1].key, views[1].won.hlc), (&b"k"[..], Hlc(9)));
    }

    #[test]
    fn one_run_loses_to_one_write_once() {
        let mut ledger = Ledger::default();
        for hlc in [5, 6, 5, 6] {
            note(&mut ledger, Mono(0), b"k", (hlc, 9), 3);
        }
        assert_eq!((listed(&ledger), ledger.found()), (vec![6], 4));
        let bytes = ledger.bytes();
        let of = |key: &[u8], bytes| {
            let mut ledger = Ledger::default();
            note(&mut ledger, Mono(0), key, (5, 9), bytes);
            ledger.bytes()
        };
        assert_eq!((of(b"k", 3), of(b"key", 3), of(b"k", 7)), (bytes, bytes + 2, bytes + 4));
        assert!(of(b"", 0) > size_of::<Entry>() + size_of::<(Version, OriginId)>());
        note(&mut ledger, Mono(0), b"k", (7, 9), 3);
        assert_eq!((listed(&ledger), ledger.bytes()), (vec![7], bytes));
        note(&mut ledger, Mono(0), b"k", (8, 10), 3);
        assert_eq!(listed(&ledger), [8, 7]);
    }

    #[test]
    fn the_oldest_give_way_to_the_number_and_to_the_bytes() {
        let mut ledger = Ledger::default();
        for at in 1..=CONFLICTS_MAX as u64 + 10 {
            note(&mut ledger, Mono(0), b"k", (at, 10_000 + at), 1);
        }
        assert_eq!((ledger.len(), listed(&ledger).last()), (CONFLICTS_MAX, Some(&11)));
        for at in 0..100 {
            note(&mut ledger, Mono(0), b"k", (2_000 + at, 20_000 + at), VALUE_BYTES_MAX);
            assert!(ledger.bytes() <= LEDGER_BYTES_MAX);
        }
        assert_eq!((ledger.len(), ledger.numbers.len()), (15, 15), "so many of the longest fit");
    }

    #[test]
    fn of_a_longer_value_the_size_is_kept() {
        let mut ledger = Ledger::default();
        note(&mut ledger, Mono(0), b"k", (5, 9), VALUE_BYTES_MAX);
        note(&mut ledger, Mono(0), b"k", (6, 10), VALUE_BYTES_MAX + 1);
        let views: Vec<_> =
            ledger.iter().map(|(_, conflict)| (conflict.value.is_some(), conflict.value_bytes)).collect();
        assert_eq!(views, [(false, Some(VALUE_BYTES_MAX + 1)), (true, Some(VALUE_BYTES_MAX))]);
        assert!(ledger.bytes() < VALUE_BYTES_MAX + 1_000);
    }

    #[test]
    fn a_conflict_ages_out_after_a_day() {
        let mut ledger = Ledger::default();
        note(&mut ledger, Mono(0), b"k", (5, 9), 3);
        note(&mut ledger, Mono(0).plus_ms(1), b"k", (6, 10), 3);
        ledger.age(Mono(0).plus_ms(AGE_MS_MAX - 1));
        assert_eq!(listed(&ledger), [6, 5]);
        ledger.age(Mono(0).plus_ms(AGE_MS_MAX));
        assert_eq!(listed(&ledger), [6]);
        ledger.age(Mono(0).plus_ms(AGE_MS_MAX + 1));
        assert_eq!((ledger.len(), ledger.bytes(), ledger.found()), (0, 0, 2));
    }

    #[test]
    fn the_ledger_may_be_full_to_the_last_byte() {
        let mut ledger = Ledger::default();
        let filled = |ledger: &mut Ledger, last: usize| {
            *ledger = Ledger::default();
            for at in 0..15 {
                note(ledger, Mono(0), b"k", (at, 20_000 + at), VALUE_BYTES_MAX);
            }
            note(ledger, Mono(0), b"k", (99, 30_000), last);
            (ledger.bytes(), ledger.len())
        };
        let (bytes, _) = filled(&mut ledger, 0);
        let room = LEDGER_BYTES_MAX - bytes;
        assert_eq!(filled(&mut ledger, room), (LEDGER_BYTES_MAX, 16));
        assert_eq!(filled(&mut ledger, room + 1).1, 15);
    }
}
