//! Floors: a keyspace that was flushed has a version up to which everything in it is gone, for ever.
//!
//! A floor is an entry like any other, under a name of its own, so it is streamed, swept, logged and compared as a
//! value is; what it does follows from its version alone. A record that is not newer loses to it, as it would to a
//! delete of that version; and an entry that it beats goes without a trace, as nothing older can ever take its place
//! again. A counter is joined with it as with such a delete: what was added since stays.
//!
//! What goes goes at once, with exact sums, and its memory afterwards, in steps. A slot that holds nothing but older
//! keys of the one keyspace is not even looked at: its sums are known, and its table is put aside, so five million keys
//! of a keyspace that is alone are gone in some 10 ms. All other slots are walked: those with counters, with keys of
//! other keyspaces or with newer ones, and those that the walk of the census under way has moved. Where that is all of
//! them, it takes longer by two orders of magnitude, and clients wait.

use std::collections::VecDeque;

use super::entry::Entry;
use super::expiry::NEVER;
use super::{Books, Kinds, SLOTS, SLOTS_AT_ONCE, Slot, Store};
use crate::counter::Counter;
use crate::name::{Kind, Name, SPACES};
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
    /// Bits of the keyspaces that anything was ever taken of.
    used: u16,
}

/// Entries that are gone, and still take memory.
#[derive(Default)]
pub(super) struct Dead(VecDeque<Box<dyn Iterator<Item = Entry> + Send + Sync>>);

impl Floors {
    pub(super) const fn new() -> Self {
        Self { versions: [NONE; SPACES as usize], used: 1 }
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

    /// Something of that name enters a slot; the bits of the keyspaces that it may be of.
    #[inline]
    pub(super) fn note(&mut self, name: &[u8]) -> u16 {
        let Some(Name { space, kind, .. }) = Name::parse(name) else { return ALL_SPACES };
        self.used |= 1 << space;
        if kind == Kind::Floor { ALL_SPACES } else { 1 << space }
    }
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

    /// Whether anything was ever taken of a keyspace; of the first one that is always so.
    pub(crate) fn has_used(&self, space: u8) -> bool {
        self.floors.used >> space & 1 == 1
    }

    /// The floor of `space` is at `floor` now: takes out all that it beats.
    pub(super) fn sink(&mut self, space: u8, floor: Version) {
        self.floors.versions[usize::from(space)] = floor;
        for slot in 0..SLOTS {
            let spaces = self.spaces[usize::from(slot)];
            if spaces >> space & 1 == 0 {
                continue;
            }
            if spaces == 1 << space && self.is_below(slot, floor) {
                self.put_aside(slot, space);
            } else {
                self.sift(slot, space, floor);
            }
        }
    }

    /// Whether the floor beats all that is in `slot`, and what counts of it is known without a look.
    fn is_below(&self, slot: u16, floor: Version) -> bool {
        let (_, done) = self.digest();
        let index = usize::from(slot);
        // What was moved by the walk under way may count still.
        let is_settled = self.census.cut(slot) == done;
        is_settled && self.kinds[index].counters == 0 && self.slots[index].newest < floor.hlc
    }

    /// Takes everything out of `slot`, all of which is of `space`.
    fn put_aside(&mut self, slot: u16, space: u8) {
        let index = usize::from(slot);
        let Self { slots, kinds, crowds, census, totals, spaces, dead, .. } = self;
        let Slot { table, digest, due, .. } = &mut slots[index];
        let Kinds { graves, counters, husks, keys } = std::mem::take(&mut kinds[index]);
        debug_assert!(counters == 0, "counters are joined one by one");
        crowds[index / usize::from(SLOTS_AT_ONCE)] -= graves;
        totals.tombstones -= u64::from(graves - husks);
        totals.husks -= u64::from(husks);
        totals.entries -= table.len() as u64;
        totals.changes.note(slot);
        census.forget(space, std::mem::take(digest), keys);
        spaces[index] = 0;
        *due = NEVER;
        let (gone, table_bytes) = table.take();
        totals.table_bytes -= table_bytes;
        dead.0.push_back(Box::new(gone));
    }

    /// Takes out of `slot` what is of `space` and beaten.
    fn sift(&mut self, slot: u16, space: u8, floor: Version) {
        let mut counters = Vec::new();
        let Self { slots, kinds, crowds, origins, census, totals, dead, .. } = self;
        let index = usize::from(slot);
        let Slot { table, digest, .. } = &mut slots[index];
        let crowd = &mut crowds[index / usize::from(SLOTS_AT_ONCE)];
        let mut books = Books { slot, digest, kinds: &mut kinds[index], crowd, census, totals };
        let (gone, shrunk_bytes) = table.extract(|entry| {
            let record = origins.record(entry);
            let name = Name::parse(record.key).filter(|name| name.space == space && name.kind != Kind::Floor);
            if name.is_some() && record.is_counter {
                counters.push(record.key.to_vec());
                return false;
            }
            let goes = name.is_some() && record.version <= floor;
            if goes {
                books.leave(&record, entry);
                // Until it is given back.
                books.totals.entry_bytes += entry.allocation_bytes();
            }
            goes
        });
        totals.table_bytes -= shrunk_bytes;
        if !gone.is_empty() {
            dead.0.push_back(Box::new(gone.into_iter()));
        }
        counters.iter().for_each(|name| self.lower(name, floor));
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
        if counter.is_below(floor) {
            return self.take_out(name);
        }
        let mut text = Vec::new();
        if let Some(record) = counter.record(name, &mut text).filter(|record| *record != stands) {
            // Without room for one more origin it stays as it is, until something comes that it is joined with.
            let _ = self.put_at(place, &record);
        }
    }

    /// Gives back the memory of what was flushed, a bounded step. True while there is more.
    pub(crate) fn free_dead(&mut self) -> bool {
        let Self { dead: Dead(dead), totals, .. } = self;
        let mut left = STEP_ENTRIES;
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
        !dead.is_empty()
    }
}

#[cfg(test)]
mod tests;
