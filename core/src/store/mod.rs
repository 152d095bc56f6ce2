//! The store: 16,384 slots of entries, merged by version.
//!
//! Every record ever merged leaves the greatest version of its key here, deletions included: a *tombstone* stays, so
//! that an older value which arrives late still loses. A value with a deadline becomes a *husk* a while after it: key,
//! version and deadline stay, the value's memory is freed. Tombstones and husks go when the caller knows that nothing
//! older can arrive any more ([`Store::collect`]).
//!
//! Pure and ordered: which slot, which order within it and which digest follow from the records alone, but for the
//! order within a slot, which follows from the seed as well.

use std::cmp::Ordering;
use std::fmt;

use siphasher::sip::SipHasher13;
use xxhash_rust::xxh3::xxh3_64;

use crate::counter::Counter;
use crate::name;
use crate::record::Record;
use crate::time::WallMs;
use crate::version::{Hlc, Version};

mod census;
mod collect;
mod collections;
mod counters;
mod entry;
mod expiry;
mod floors;
mod origins;
mod prefetch;
mod scrub;
mod table;
#[cfg(test)]
mod tests;
mod warm;

use census::{Census, is_tombstone, never_ends};
pub(crate) use collect::{Graves, key_name};
use collections::{ELEMENT, Index, State, state};
pub(crate) use collections::{ELEMENT_BYTES_MAX, Elements};
pub(crate) use counters::Folding;
use entry::{Entry, HASH_BITS, Parts};
use expiry::{Dues, NEVER, next_due};
pub(crate) use floors::floor_space;
use floors::{Dead, Floors, Stale};
use origins::Origins;
pub(crate) use scrub::{FANOUT, Listed, Root, What};
use table::Table;
pub(crate) use warm::WARM_KEYS;
use warm::Warmed;

/// Slots the keyspace is cut into, by a hash that all nodes share.
pub const SLOTS: u16 = 16_384;

/// Longest name, in bytes, inclusive: the longest key, and what spells its keyspace. An entry's header has 17 bits for
/// it, and longer keys are values in the wrong place.
pub(crate) const KEY_BYTES_MAX: usize = (1 << 16) + 2;

/// Longest value, in bytes: an entry's header has 29 bits left for it.
pub(crate) const VALUE_BYTES_MAX: usize = (1 << 29) - 1;

/// Most origins a store may hold records of at a time: 30 nodes that restart daily take a year and a half to get here,
/// if of each run something stays for so long. An entry's header has room for twice as many; but whoever gets here
/// restarts in a loop, and a table without end would only hide it.
pub(crate) const ORIGINS_MAX: usize = 16_384;

/// What a merge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The record is the newest of its key now; what it took the place of.
    Won { over: Option<Version> },
    /// A newer one stands.
    Lost { to: Version },
    /// It stood already.
    Same,
}

/// The number of origins whose records a store may hold is bounded; this one would be one too many.
/// The store is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OriginsFull;

pub(crate) struct Store {
    /// Keyed with this node's secret.
    hasher: SipHasher13,
    slots: Box<[Slot]>,
    kinds: Box<[Kinds]>,
    /// By slot: where the elements of keys are.
    indexes: Box<[Index]>,
    /// By [`SLOTS_AT_ONCE`] slots: what of all kinds is in them.
    crowds: Box<[u32]>,
    /// By slot: bits of the keyspaces that something in it may be of.
    spaces: Box<[u16]>,
    warmed: Warmed,
    stale: Stale,
    floors: Floors,
    dead: Dead,
    dues: Dues,
    origins: Origins,
    census: Census,
    totals: Totals,
}

/// Slots that a walk passes together where none has what it looks for.
const SLOTS_AT_ONCE: u16 = 32;

const _: () = assert!(SLOTS.is_multiple_of(SLOTS_AT_ONCE));

/// What walks look for in a slot.
#[derive(Clone, Copy, Default)]
struct Kinds {
    /// Entries without a value, for [`Store::collect`].
    graves: u32,
    /// Those that were added to, for [`Store::fold`].
    counters: u32,
    /// Of the graves those with a deadline.
    husks: u32,
}

/// One cache line, so that a sweep that skips a slot touches just that.
#[repr(align(64))]
struct Slot {
    table: Table,
    /// Sum of the fingerprints that count at [`Census::cut`] of this slot.
    digest: u128,
    /// The greatest hlc ever merged, winner or not.
    newest: Hlc,
    /// No cut before this one has anything to move or free here. May be too early, never too late.
    due: WallMs,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// Sums over all entries that are not a matter of the cut.
#[derive(Default)]
struct Totals {
    entries: u64,
    tombstones: u64,
    husks: u64,
    counters: u64,
    /// Keys that have elements, tombstones or not.
    indexed: u64,
    entry_bytes: usize,
    table_bytes: usize,
    index_bytes: usize,
    changes: Changes,
}

/// How often entries were written, freed or taken out, and in which slots that was last.
#[derive(Debug, Default)]
struct Changes {
    count: u64,
    slots: [u16; RECENT],
}

/// Changes whose slots are known: more than one turn makes, mostly.
const RECENT: usize = 16;

/// Where a key belongs.
#[derive(Clone, Copy)]
struct Place {
    slot: u16,
    /// The top [`HASH_BITS`] of the key's keyed hash. It alone orders a slot: for a walk it is the full hash.
    hash: u32,
}

impl Store {
    /// `hash_key` is this node's secret: who does not know it cannot make lookups slow.
    pub(crate) fn new(hash_key: [u64; 2]) -> Self {
        Self {
            hasher: SipHasher13::new_with_keys(hash_key[0], hash_key[1]),
            slots: (0..SLOTS).map(|_| Slot::new()).collect(),
            kinds: vec![Kinds::default(); usize::from(SLOTS)].into_boxed_slice(),
            indexes: (0..SLOTS).map(|_| Index::new()).collect(),
            crowds: vec![0; usize::from(SLOTS / SLOTS_AT_ONCE)].into_boxed_slice(),
            spaces: vec![0; usize::from(SLOTS)].into_boxed_slice(),
            warmed: Warmed::new(),
            stale: Stale::new(),
            floors: Floors::new(),
            dead: Dead::default(),
            dues: Dues::new(),
            origins: Origins::default(),
            census: Census::new(),
            totals: Totals::default(),
        }
    }

    /// The entry of `key`, tombstones, husks and expired ones included.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Record<'_>> {
        self.get_at(self.place(key), key)
    }

    /// What the entry of `key` takes, with its place in the table; the allocator's own overhead is not in it.
    pub(crate) fn bytes_of(&self, key: &[u8]) -> Option<usize> {
        let Place { slot, hash } = self.place(key);
        let entry = self.slots[usize::from(slot)].table.find(hash, key).filter(|entry| self.stands(slot, entry))?;
        Some(entry.allocation_bytes() + size_of::<Entry>())
    }

    /// Keeps the greater version, unless a [floor](floors) is greater still; a floor takes out what it beats.
    /// Commutative, associative and idempotent. Panics when key or value is longer than [`KEY_BYTES_MAX`] and
    /// [`VALUE_BYTES_MAX`]: a decoder checks first.
    ///
    /// A record without a value but with a deadline is a husk that another node freed, and merges as what it was; when
    /// the value of that version stands here it stays, and when it comes later it is taken in. Neither is a win.
    pub(crate) fn merge(&mut self, record: &Record<'_>) -> Result<Merged, OriginsFull> {
        self.merge_meeting(record, &mut |_| {})
    }

    /// As [`merge`](Self::merge). `meet` is shown the entry of another version that stands, before it may be replaced.
    #[inline]
    pub(crate) fn merge_meeting(
        &mut self,
        record: &Record<'_>,
        meet: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Merged, OriginsFull> {
        let merged = self.merge_at(self.place(record.key), record, meet)?;
        if let (Some(space), Merged::Won { .. }) = (floor_space(record.key), merged) {
            self.sink(space, record.version);
        }
        Ok(merged)
    }

    /// Greatest hlc ever merged into the slot, winner or not.
    pub(crate) fn slot_newest(&self, slot: u16) -> Hlc {
        self.slots[usize::from(slot)].newest
    }

    /// Visits the entries of `slot` in the order of their full hash, from the first hash greater than `after`, those
    /// of one hash always in one call. Ends once `visit` has answered false or `max` entries were visited, and every
    /// entry of that same hash was; returns the last hash visited then: go on after it. `None`: the slot is done.
    /// Touches few entries that it does not visit.
    pub(crate) fn walk(
        &self,
        slot: u16,
        after: Option<u32>,
        max: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Option<u32> {
        let table = &self.slots[usize::from(slot)].table;
        table.walk(after, max, &mut |entry| !self.stands(slot, entry) || visit(&self.origins.record(entry)))
    }

    /// Keys whose values live by the cut of [`Store::digest`], or any of their elements.
    pub(crate) fn keys(&self) -> u64 {
        self.census.keys()
    }

    /// As [`keys`](Self::keys), of one keyspace.
    pub(crate) fn keys_in(&self, space: u8) -> u64 {
        self.census.keys_in(space)
    }

    /// Those of them that have a deadline; a hash or set, whose parts have theirs, is not among them.
    pub(crate) fn expiring_in(&self, space: u8) -> u64 {
        self.census.expiring_in(space)
    }

    /// Deletions remembered. Husks are not among them.
    pub(crate) fn tombstones(&self) -> u64 {
        self.totals.tombstones
    }

    /// What entries, tables and slots take; the allocator's own overhead is not in it. O(1).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let of_slots = size_of_val(&*self.slots) + size_of_val(&*self.kinds) + size_of_val(&*self.indexes);
        let fixed_bytes = of_slots + 2 * size_of_val(&*self.spaces);
        (self.totals.entry_bytes + self.totals.table_bytes + self.totals.index_bytes + fixed_bytes) as u64
    }

    /// The sum mod 2^128 of a hash of (key, version, deadline) over all values that live by the cut, and the cut.
    /// Equal at the same cut means equal data. O(1), exact at every moment.
    pub(crate) fn digest(&self) -> (u128, WallMs) {
        self.census.digest()
    }

    #[inline]
    fn place(&self, key: &[u8]) -> Place {
        self.warmed.place(key).unwrap_or_else(|| self.find_place(key))
    }

    fn find_place(&self, key: &[u8]) -> Place {
        Place { slot: slot_of(key), hash: hash_of(&self.hasher, key, name::is_element(key)) }
    }

    #[inline]
    fn get_at(&self, place: Place, key: &[u8]) -> Option<Record<'_>> {
        let entry = self.slots[usize::from(place.slot)].table.find(place.hash, key)?;
        self.stands(place.slot, entry).then(|| self.origins.record(entry))
    }

    /// Entries that were added to.
    pub(crate) fn counters(&self) -> u64 {
        self.totals.counters
    }

    /// Values freed a while after their deadline.
    pub(crate) fn husks(&self) -> u64 {
        self.totals.husks
    }

    fn merge_at(
        &mut self,
        place: Place,
        record: &Record<'_>,
        meet: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Merged, OriginsFull> {
        self.settle(place.slot);
        let is_element = name::is_element(record.key);
        if is_element && let Some(answer) = self.meet_cover(place, record, meet) {
            return answer;
        }
        let Self { slots, kinds, crowds, spaces, floors, dues, origins, census, totals, .. } = self;
        let Slot { table, digest, newest, due } = &mut slots[usize::from(place.slot)];
        let mut was = None;
        let merged = match table.find_mut(place.hash, record.key) {
            Some(entry) => {
                let stands = origins.record(entry);
                let over = stands.version;
                if is_element {
                    was = Some(state(&stands));
                }
                if record.is_counter || (stands.is_counter && record.version <= over) {
                    return self.join_at(place, record, Counter::of(record), |_| None);
                }
                match record.version.cmp(&over) {
                    Ordering::Less => {
                        meet(&stands);
                        Merged::Lost { to: over }
                    }
                    Ordering::Equal if !refills(record, &stands) => Merged::Same,
                    order => {
                        let parts = parts(record, origins.intern(record.version.origin)?);
                        if order == Ordering::Greater {
                            meet(&stands);
                        }
                        if never_ends(&stands) && never_ends(record) {
                            // All that is counted stays as it is, but for the sums.
                            *digest = digest.wrapping_add(census.exchange(&stands, record));
                            totals.overwrite(place.slot, entry, &parts);
                        } else {
                            let mut books = Books::of(place.slot, digest, (kinds, crowds), census, totals);
                            books.leave(&stands, entry);
                            entry.overwrite(&parts);
                            books.enter(record, entry);
                        }
                        if order == Ordering::Equal { Merged::Same } else { Merged::Won { over: Some(over) } }
                    }
                }
            }
            None if record.is_counter && floors.over(record.key) > floors::NONE => {
                return self.join_at(place, record, Counter::of(record), |_| None);
            }
            None if record.version <= floors.over(record.key) => Merged::Lost { to: floors.over(record.key) },
            None => {
                let entry = Entry::new(place.hash, &parts(record, origins.intern(record.version.origin)?));
                spaces[usize::from(place.slot)] |= floors::spaces_of(record.key);
                let mut books = Books::of(place.slot, digest, (kinds, crowds), census, totals);
                books.enter(record, &entry);
                books.totals.table_bytes += table.insert(entry);
                Merged::Won { over: None }
            }
        };
        *newest = (*newest).max(record.version.hlc);
        if record.deadline.is_some() {
            let next = next_due(record, census.cut(place.slot));
            *due = (*due).min(next);
            dues.note_merged(place.slot, next);
        }
        if is_element {
            // One that stood before may have got its value back.
            if matches!(merged, Merged::Won { .. }) || (merged == Merged::Same && was == Some(None)) {
                self.note_merged(place, record, was);
            }
        } else if totals.indexed > 0 && matches!(merged, Merged::Won { .. }) {
            self.take_covered(record.key, meet);
        }
        Ok(merged)
    }

    /// Tells the index what stands of an element, which was something else.
    fn note_merged(&mut self, place: Place, record: &Record<'_>, was: Option<State>) {
        let is = self.get_at(place, record.key).map(|stands| state(&stands));
        if was != is || is.flatten().is_some() {
            self.note_element(place, record.key, (was, is), record.version.hlc);
        }
    }

    /// What becomes of an element that is not merged as others are, because of what stands under its key.
    fn meet_cover(
        &mut self,
        place: Place,
        record: &Record<'_>,
        meet: &mut dyn FnMut(&Record<'_>),
    ) -> Option<Result<Merged, OriginsFull>> {
        if record.is_counter {
            return Some(self.join_at(place, record, Counter::of(record), |_| None));
        }
        let key = name::owner(record.key)?;
        let cover = self.cover(record.key).filter(|cover| record.version <= *cover)?;
        let slot = &mut self.slots[usize::from(place.slot)];
        slot.newest = slot.newest.max(record.version.hlc);
        if let Some(stands) = self.get(&key).filter(|stands| stands.version == cover && record.version < cover) {
            meet(&stands);
        }
        Some(Ok(Merged::Lost { to: cover }))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("keys", &self.keys())
            .field("tombstones", &self.tombstones())
            .field("husks", &self.totals.husks)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

/// What is counted of a slot, and of all of them.
struct Books<'a> {
    slot: u16,
    digest: &'a mut u128,
    kinds: &'a mut Kinds,
    crowd: &'a mut u32,
    census: &'a mut Census,
    totals: &'a mut Totals,
}

impl<'a> Books<'a> {
    /// Those of `slot`, of which `digest` is the sum.
    fn of(
        slot: u16,
        digest: &'a mut u128,
        (kinds, crowds): (&'a mut [Kinds], &'a mut [u32]),
        census: &'a mut Census,
        totals: &'a mut Totals,
    ) -> Self {
        let kinds = &mut kinds[usize::from(slot)];
        let crowd = &mut crowds[usize::from(slot / SLOTS_AT_ONCE)];
        Self { slot, digest, kinds, crowd, census, totals }
    }

    #[inline]
    fn enter(&mut self, record: &Record<'_>, entry: &Entry) {
        self.totals.enter(record, entry);
        self.totals.changes.note(self.slot);
        self.kinds.graves += u32::from(record.value.is_none());
        self.kinds.husks += u32::from(is_husk(record));
        self.kinds.counters += u32::from(record.is_counter);
        *self.crowd += u32::from(record.value.is_none()) + u32::from(record.is_counter);
        self.census.enter(self.slot, self.digest, record);
    }

    #[inline]
    fn leave(&mut self, record: &Record<'_>, entry: &Entry) {
        let own = self.census.count_out(self.slot, record);
        self.leave_with(own, record, entry);
    }

    /// What counts nowhere but in its slot any more leaves that.
    fn leave_slot(&mut self, record: &Record<'_>, entry: &Entry) {
        let own = self.census.in_slot(self.slot, record);
        self.leave_with(own, record, entry);
    }

    /// `own`: what it is in the slot's own sum.
    #[inline]
    fn leave_with(&mut self, own: u128, record: &Record<'_>, entry: &Entry) {
        self.totals.leave(record, entry);
        self.totals.changes.note(self.slot);
        self.kinds.graves -= u32::from(record.value.is_none());
        self.kinds.husks -= u32::from(is_husk(record));
        self.kinds.counters -= u32::from(record.is_counter);
        *self.crowd -= u32::from(record.value.is_none()) + u32::from(record.is_counter);
        *self.digest = self.digest.wrapping_sub(own);
    }
}

impl Slot {
    fn new() -> Self {
        Self { table: Table::default(), digest: 0, newest: Hlc::ZERO, due: NEVER }
    }
}

impl Totals {
    fn enter(&mut self, record: &Record<'_>, entry: &Entry) {
        *self.without_value(record) += u64::from(record.value.is_none());
        self.counters += u64::from(record.is_counter);
        self.entries += 1;
        self.entry_bytes += entry.allocation_bytes();
    }

    fn leave(&mut self, record: &Record<'_>, entry: &Entry) {
        *self.without_value(record) -= u64::from(record.value.is_none());
        self.counters -= u64::from(record.is_counter);
        self.entries -= 1;
        self.entry_bytes -= entry.allocation_bytes();
    }

    /// Overwrites an entry of `slot` of which all that is counted here stays as it is, but for its bytes.
    #[inline]
    fn overwrite(&mut self, slot: u16, entry: &mut Entry, parts: &Parts<'_>) {
        self.changes.note(slot);
        self.entry_bytes = self.entry_bytes.wrapping_add_signed(entry.overwrite(parts));
    }

    fn without_value(&mut self, record: &Record<'_>) -> &mut u64 {
        if is_tombstone(record) { &mut self.tombstones } else { &mut self.husks }
    }
}

impl Changes {
    #[inline]
    const fn note(&mut self, slot: u16) {
        self.slots[(self.count % RECENT as u64) as usize] = slot;
        self.count += 1;
    }
}

/// What has nothing that says where it belongs, as the floors of keyspaces, is in the first slot, and walks come to it
/// first.
const XXH3_OF_NOTHING: u64 = 0x2d06_8005_38d3_94c2;

/// XXH3: the same on every node and for ever, whatever the machine, and some 3 ns. It is no secret, so whoever
/// picks keys can fill one slot. What that costs: the slot is one big table again, which grows in one long step (some
/// 10 ms a million keys) and expires in one. What it does not cost: lookups stay as fast up to half a million keys or
/// so, as within a slot the keyed hash places the keys, and behind that slow down in proportion; other slots do not
/// notice.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    ((xxh3_64(name::slot_part(key)) ^ XXH3_OF_NOTHING) % u64::from(SLOTS)) as u16
}

/// The top of a keyed hash, but for the bit that tells elements from others.
fn hash_of(hasher: &SipHasher13, stored: &[u8], is_element: bool) -> u32 {
    let hash = (hasher.hash(stored) >> (64 - HASH_BITS)) as u32;
    if is_element { hash | ELEMENT } else { hash & !ELEMENT }
}

fn is_husk(record: &Record<'_>) -> bool {
    record.value.is_none() && !is_tombstone(record)
}

/// Whether `record`, of the version that stands, brings the value back that was freed here.
fn refills(record: &Record<'_>, stands: &Record<'_>) -> bool {
    stands.value.is_none() && record.value.is_some() && stands.deadline.is_some() && stands.deadline == record.deadline
}

fn parts<'a>(record: &Record<'a>, origin: u16) -> Parts<'a> {
    let Record { key, value, is_counter, deadline, version } = *record;
    Parts { hlc: version.hlc, origin, deadline, key, value, is_counter }
}
