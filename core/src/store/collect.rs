//! Taking entries out: tombstones and husks that nobody needs any more, and what was deleted while this node was away.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::census::CLUSTER_KEY;
use super::{Books, Changes, Kinds, Place, RECENT, SLOTS, SLOTS_AT_ONCE, Slot, State, Store, floor_space, state};
use crate::name;
use crate::record::Record;
use crate::version::{Hlc, Version};

/// What [`Store::collect`] found in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Graves {
    /// Entries looked at.
    pub(crate) looked_at: usize,
    /// The oldest tombstone that stays.
    pub(crate) oldest: Option<Hlc>,
}

impl Store {
    /// Whether there is nothing at all in here.
    pub(crate) fn is_empty(&self) -> bool {
        self.totals.entries == 0
    }

    /// Grows with each entry that is written, freed or taken out: unchanged, nothing was.
    pub(crate) const fn changes(&self) -> u64 {
        self.totals.changes.count
    }

    /// The slots in which entries have changed since [`changes`](Self::changes) was `since`, if that is known.
    pub(crate) fn changed(&self, since: u64) -> Option<impl Iterator<Item = u16>> {
        let Changes { count, slots } = &self.totals.changes;
        let is_known = count - since <= RECENT as u64;
        is_known.then(|| (since..*count).map(|at| slots[(at % RECENT as u64) as usize]))
    }

    /// Tombstones and husks.
    pub(crate) fn graves(&self) -> u64 {
        self.totals.tombstones + self.totals.husks
    }

    /// Takes out the tombstones and husks of `slot` that are stable: nothing older of their keys can arrive any more.
    /// Tells `collected` of each. Digest and key count do not change.
    pub(crate) fn collect(
        &mut self,
        slot: u16,
        is_stable: impl Fn(Version) -> bool,
        mut collected: impl FnMut(&Record<'_>),
    ) -> Graves {
        let mut found = Graves::default();
        self.settle(slot);
        if self.kinds[usize::from(slot)].graves == 0 {
            return found;
        }
        let (_, cut) = self.digest();
        self.remove(slot, |record| {
            found.looked_at += 1;
            if record.value.is_some() {
                return false;
            }
            // A husk that still counts at the cut would be missed in the digest.
            let goes = is_stable(record.version) && record.deadline.is_none_or(|deadline| deadline <= cut);
            if goes {
                collected(record);
            } else if record.deadline.is_none() {
                let hlc = record.version.hlc;
                found.oldest = Some(found.oldest.map_or(hlc, |oldest| oldest.min(hlc)));
            }
            goes
        });
        found
    }

    /// The first slot from `slot` on that holds something to collect or, if it `folds`, a counter; [`SLOTS`] if none.
    pub(crate) fn next_to_collect(&self, slot: u16, folds: bool) -> u16 {
        let is_of_interest = |kinds: &Kinds| kinds.graves > 0 || (folds && kinds.counters > 0);
        let (mut from, group) = (usize::from(slot), usize::from(SLOTS_AT_ONCE));
        while from < self.kinds.len() {
            let end = (from / group + 1) * group;
            if self.crowds[from / group] > 0
                && let Some(at) = self.kinds[from..end].iter().position(is_of_interest)
            {
                return (from + at) as u16;
            }
            from = end;
        }
        SLOTS
    }

    /// Takes the entry of `key` out.
    pub(crate) fn take_out(&mut self, key: &[u8]) {
        let place = self.place(key);
        self.settle(place.slot);
        let was = self.remove_at(place, key);
        if name::is_element(key) {
            if let Some(was) = was {
                self.note_element(place, key, (Some(was), None), Hlc::ZERO);
            }
            return;
        }
        floor_space(key).filter(|_| was.is_some()).inspect(|space| self.floors.lift(*space));
        self.tally_key(key);
    }

    /// Takes an entry out, which the index still has if it is an element; what it was.
    pub(super) fn remove_at(&mut self, place: Place, key: &[u8]) -> Option<State> {
        let Place { slot, hash } = place;
        let Self { slots, kinds, crowds, origins, census, totals, .. } = self;
        let index = usize::from(slot);
        let Slot { table, digest, .. } = &mut slots[index];
        let (entry, shrunk_bytes) = table.remove(hash, key)?;
        let mut books = Books::of(slot, digest, (kinds, crowds), census, totals);
        let record = origins.record(&entry);
        books.leave(&record, &entry);
        books.totals.table_bytes -= shrunk_bytes;
        Some(state(&record))
    }

    /// Shows `visit` all entries of `slot`, in no order that means anything.
    pub(crate) fn visit(&self, slot: u16, mut visit: impl FnMut(&Record<'_>)) {
        let table = &self.slots[usize::from(slot)].table;
        let entries = table.iter().filter(|entry| self.stands(slot, entry));
        entries.for_each(|entry| visit(&self.origins.record(entry)));
    }

    /// Appends the names of the keys in `slot`, tombstones and husks included: see [`key_name`].
    pub(crate) fn key_names(&self, slot: u16, names: &mut Vec<u64>) {
        let table = &self.slots[usize::from(slot)].table;
        let entries = table.iter().filter(|entry| self.stands(slot, entry));
        names.extend(entries.map(|entry| key_name(entry.key())));
    }

    fn remove(&mut self, slot: u16, mut goes: impl FnMut(&Record<'_>) -> bool) {
        let Self { slots, kinds, crowds, origins, census, totals, .. } = self;
        let index = usize::from(slot);
        let Slot { table, digest, .. } = &mut slots[index];
        let mut books = Books::of(slot, digest, (kinds, crowds), census, totals);
        let mut elements = Vec::new();
        let shrunk_bytes = table.retain(|entry| {
            let record = origins.record(entry);
            if !goes(&record) {
                return true;
            }
            books.leave(&record, entry);
            if name::is_element(record.key) {
                elements.push((entry.hash(), record.key.to_vec(), state(&record)));
            }
            false
        });
        books.totals.table_bytes -= shrunk_bytes;
        for (hash, stored, was) in elements {
            self.note_element(Place { slot, hash }, &stored, (Some(was), None), Hlc::ZERO);
        }
    }
}

/// What stands for a key when two nodes compare which keys they hold: 64 bits of a hash that all nodes share. Two keys
/// of one slot with one name would only keep an obsolete entry from being noticed.
pub(crate) fn key_name(key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(CLUSTER_KEY[0], CLUSTER_KEY[1]);
    hasher.write(key);
    hasher.finish()
}
