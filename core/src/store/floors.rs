//! Floors: a keyspace that was flushed has a version up to which everything in it is gone, for ever.
//!
//! A floor is an entry like any other, under a name of its own, so it is streamed, swept, logged and compared as a
//! value is; what it does follows from its version alone. A record that is not newer loses to it, as it would to a
//! delete of that version; and an entry that it beats goes without a trace, as nothing older can ever take its place
//! again. A counter is joined with it as with such a delete: what was added since stays.
//!
//! What goes goes at once, with exact sums: those of the keyspace begin anew. The entries themselves are another
//! matter. Where nothing in a slot is newer, which is everywhere when a client flushes, none of them is looked at: if
//! all that the slot has is of the keyspace its table is put aside, and otherwise the slot is stale. What is of that
//! keyspace in a stale slot is there for nobody, until the slot is settled: when something is to change in it, or in
//! steps. What was put aside is freed in steps, too. Slots with something newer, as a flush of another node may find
//! them, are gone through at once.

use std::collections::VecDeque;

use super::census::Census;
use super::entry::Entry;
use super::expiry::NEVER;
use super::{Books, Kinds, SLOTS, SLOTS_AT_ONCE, Slot, Store};
use crate::counter::Counter;
use crate::name::{self, Kind, Name, SPACES};
use crate::record::Record;
use crate::version::{Hlc, OriginId, Version};

/// Entries whose memory is given back in one step: some 100 microseconds of the clients' time.
const STEP_ENTRIES: usize = 1_024;

/// Below every version.
pub(super) const NONE: Version = Version { hlc: Hlc::ZERO, origin: OriginId(0) };

/// What may be in a slot that has more than keyspaces can tell: it is always walked.
const ALL_SPACES: u16 = u16::MAX;

#[derive(Debug)]
pub(super) struct Floors {
    /// By keyspace; [`NONE`] where there is none.
    versions: [Version; SPACES as usize],
}

/// Entries that are gone, and still take memory.
#[derive(Default)]
pub(super) struct Dead(VecDeque<Box<dyn Iterator<Item = Entry> + Send + Sync>>);

/// Slots in which there are entries that a floor has beaten.
pub(super) struct Stale {
    /// By slot: bits of the keyspaces of which nothing in it is left.
    spaces: Box<[u16]>,
    /// Slots with such bits, none of which is before `first`.
    count: usize,
    first: usize,
}

impl Stale {
    pub(super) fn new() -> Self {
        Self { spaces: vec![0; usize::from(SLOTS)].into_boxed_slice(), count: 0, first: 0 }
    }

    fn add(&mut self, slot: u16, space: u8) {
        let spaces = &mut self.spaces[usize::from(slot)];
        self.count += usize::from(*spaces == 0);
        self.first = self.first.min(usize::from(slot));
        *spaces |= 1 << space;
    }

    /// The bits of `slot`.
    pub(super) fn of(&self, slot: u16) -> u16 {
        self.spaces[usize::from(slot)]
    }

    /// The bits of `slot`, which has none any more.
    fn take(&mut self, slot: u16) -> u16 {
        let spaces = std::mem::take(&mut self.spaces[usize::from(slot)]);
        self.count -= usize::from(spaces != 0);
        spaces
    }

    /// The first that is left.
    fn next(&mut self) -> Option<u16> {
        if self.count == 0 {
            self.first = 0;
            return None;
        }
        while self.spaces[self.first] == 0 {
            self.first += 1;
        }
        Some(self.first as u16)
    }
}

impl Floors {
    pub(super) const fn new() -> Self {
        Self { versions: [NONE; SPACES as usize] }
    }

    /// Up to where what is stored as `name` is gone; [`NONE`] if nothing is.
    #[inline]
    pub(super) fn over(&self, name: &[u8]) -> Version {
        match Name::parse(name) {
            Some(Name { kind: Kind::Floor, .. }) | None => NONE,
            Some(name) => self.versions[usize::from(name.space)],
        }
    }

    /// The entry of a floor goes.
    pub(super) const fn lift(&mut self, space: u8) {
        self.versions[space as usize] = NONE;
    }
}

/// The bits of the keyspaces that what is stored as `name` may be of.
#[inline]
pub(super) fn spaces_of(name: &[u8]) -> u16 {
    match Name::parse(name) {
        Some(Name { kind: Kind::Floor, .. }) | None => ALL_SPACES,
        Some(Name { space, .. }) => 1 << space,
    }
}

/// Whether what is stored as `name` is of one of these keyspaces, given as bits.
pub(super) fn is_of(spaces: u16, name: &[u8]) -> bool {
    spaces != 0 && Name::parse(name).is_some_and(|name| spaces >> name.space & 1 == 1 && name.kind != Kind::Floor)
}

/// The keyspace whose floor is stored as `name`, if that is one.
#[inline]
pub(crate) fn floor_space(name: &[u8]) -> Option<u8> {
    Name::parse(name).filter(|name| name.kind == Kind::Floor).map(|name| name.space)
}

impl Store {
    /// Up to where what is stored as `name` was flushed, if its keyspace was.
    pub(crate) fn floor_over(&self, name: &[u8]) -> Option<Version> {
        Some(self.floors.over(name)).filter(|floor| *floor > NONE)
    }

    /// The greatest floor of all keyspaces.
    pub(crate) fn highest_floor(&self) -> Option<Version> {
        self.floors.versions.iter().copied().max().filter(|floor| *floor > NONE)
    }

    /// The floor of `space` is at `floor` now: takes out all that it beats.
    #[cold]
    pub(super) fn sink(&mut self, space: u8, floor: Version) {
        self.floors.versions[usize::from(space)] = floor;
        self.census.clear(space);
        for slot in 0..SLOTS {
            let index = usize::from(slot);
            if self.spaces[index] >> space & 1 == 0 {
                continue;
            }
            if self.slots[index].newest >= floor.hlc {
                self.sift(slot, space, floor);
            } else if self.spaces[index] == 1 << space {
                self.put_aside(slot);
            } else {
                self.totals.changes.note(slot);
                self.stale.add(slot, space);
            }
        }
    }

    /// Takes everything out of `slot`, which counts nowhere else any more.
    fn put_aside(&mut self, slot: u16) {
        let index = usize::from(slot);
        self.forget_collections(slot, self.spaces[index]);
        let Self { slots, kinds, crowds, totals, spaces, stale, dead, .. } = self;
        let Slot { table, digest, due, .. } = &mut slots[index];
        let Kinds { graves, counters, husks } = std::mem::take(&mut kinds[index]);
        crowds[index / usize::from(SLOTS_AT_ONCE)] -= graves + counters;
        totals.tombstones -= u64::from(graves - husks);
        totals.husks -= u64::from(husks);
        totals.counters -= u64::from(counters);
        totals.entries -= table.len() as u64;
        totals.changes.note(slot);
        (spaces[index], *digest, *due) = (0, 0, NEVER);
        stale.take(slot);
        let (gone, table_bytes) = table.take();
        totals.table_bytes -= table_bytes;
        dead.0.push_back(Box::new(gone));
    }

    /// Takes out of `slot` what is of `space` and beaten; what is not counts again.
    fn sift(&mut self, slot: u16, space: u8, floor: Version) {
        self.settle(slot);
        self.forget_collections(slot, 1 << space);
        let (mut counters, mut elements) = (Vec::new(), Vec::new());
        self.extract(slot, &mut |record, census| {
            let is_its = Name::parse(record.key).is_some_and(|name| name.space == space && name.kind != Kind::Floor);
            let goes = is_its && !record.is_counter && record.version <= floor;
            if is_its && !goes {
                census.count(slot, record);
                elements.extend(name::is_element(record.key).then(|| record.key.to_vec()));
            }
            if is_its && record.is_counter {
                counters.push(record.key.to_vec());
            }
            goes
        });
        elements.iter().for_each(|name| self.index_again(self.place(name), name));
        counters.iter().for_each(|name| self.lower(name, floor));
    }

    /// Takes out of `slot` what is of keyspaces that were flushed since it was last looked at.
    #[inline]
    pub(super) fn settle(&mut self, slot: u16) {
        if self.is_stale() {
            let spaces = self.stale.take(slot);
            if spaces != 0 {
                self.forget_collections(slot, spaces);
                self.extract(slot, &mut |record, _| is_of(spaces, record.key));
            }
        }
    }

    /// Whether any slot has what was flushed.
    pub(super) const fn is_stale(&self) -> bool {
        self.stale.count > 0
    }

    /// Whether an entry of `slot` is there, and not only yet to be taken out.
    #[inline]
    pub(super) fn stands(&self, slot: u16, entry: &Entry) -> bool {
        !self.is_stale() || !is_of(self.stale.spaces[usize::from(slot)], entry.key())
    }

    /// Takes out of `slot` the entries that `goes` says so of, which count nowhere else any more.
    fn extract(&mut self, slot: u16, goes: &mut dyn FnMut(&Record<'_>, &mut Census) -> bool) {
        let Self { slots, kinds, crowds, origins, census, totals, dead, .. } = self;
        let index = usize::from(slot);
        let Slot { table, digest, .. } = &mut slots[index];
        let mut books = Books::of(slot, digest, (kinds, crowds), census, totals);
        let (gone, shrunk_bytes) = table.extract(|entry| {
            let record = origins.record(entry);
            let goes = goes(&record, books.census);
            if goes {
                books.leave_slot(&record, entry);
                // Until it is given back.
                books.totals.entry_bytes += entry.allocation_bytes();
            }
            goes
        });
        totals.table_bytes -= shrunk_bytes;
        if !gone.is_empty() {
            dead.0.push_back(Box::new(gone.into_iter()));
        }
    }

    /// Joins the counter that is stored as `name` with a floor.
    fn lower(&mut self, name: &[u8], floor: Version) {
        let place = self.place(name);
        let Some(stands) = self.get_at(place, name) else { return };
        // A copy: the entry that the counter borrows from is overwritten.
        let cell = stands.value.map(<[u8]>::to_vec);
        let stands = Record { key: name, value: cell.as_deref(), ..stands };
        let mut counter = Counter::of(&stands);
        counter.join(Counter::below(floor), |_| None);
        if let Some(cover) = self.cover(name) {
            counter.reset(cover);
        }
        if counter.is_below(floor) || counter == Counter::default() {
            return self.take_out(name);
        }
        let mut text = Vec::new();
        if let Some(record) = counter.record(name, &mut text).filter(|record| *record != stands) {
            // Without room for one more origin it stays as it is, until something comes that it is joined with.
            let _ = self.put_at(place, &record);
        }
    }

    /// Takes out what was flushed, and gives back its memory, a bounded step. True while there is more.
    pub(crate) fn free_dead(&mut self) -> bool {
        let mut left = STEP_ENTRIES;
        while left > 0
            && let Some(slot) = self.stale.next()
        {
            left = left.saturating_sub(1 + self.slots[usize::from(slot)].table.len());
            self.settle(slot);
        }
        let Self { dead: Dead(dead), totals, .. } = self;
        while left > 0
            && let Some(entries) = dead.front_mut()
        {
            for entry in entries.take(left) {
                totals.entry_bytes -= entry.allocation_bytes();
                left -= 1;
            }
            if left > 0 {
                dead.pop_front();
            }
        }
        !dead.is_empty() || self.is_stale()
    }
}

#[cfg(test)]
mod tests;
