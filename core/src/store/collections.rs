//! Hashes and sets: their fields and members, which are entries of their own, and the key that they are of.
//!
//! **Cover.** What stands under the plain name of a key, be it a value, a tombstone or a husk, *covers* all elements of
//! that key that are no newer: they are taken out when it is merged, and what comes later of them loses. So the store
//! never holds an element at or below its cover, and a `DEL` of a hash is one record, whatever the hash has. Of a field
//! that was added to, the cover counts as a tombstone of its version would, and what it leaves is joined as if that
//! stood. Of a counter under the plain name only the base covers, as the version of a counter may go back.
//!
//! Merging in any order ends the same: an element stands in the end if it is the greatest of its name and above the
//! greatest of its key. Once a cover is collected, nothing older can arrive (PROTOCOL.md rule 17).
//!
//! **Index.** Of each key that has elements: how many live, and where they are, in the order of their hashes. It
//! follows from the entries, and is never stored or sent. It takes some 12 bytes an element, and 150 a key.

use std::collections::{BTreeMap, BTreeSet};

use siphasher::sip::SipHasher13;

use super::entry::Entry;
use super::table::Table;
use super::{KEY_BYTES_MAX, Place, Store, hash_of};
use crate::counter::Counter;
use crate::name::{self, Kind, Name};
use crate::record::Record;
use crate::version::{Hlc, OriginId, Version};

/// A bit of the hash that entries of elements have and others have not: a walk over keys passes them without touching
/// them. It is neither of those by which a table of less than 2^24 buckets chooses one, nor of its tags.
pub(super) const ELEMENT: u32 = 1 << 24;

/// The keys of a slot that have elements, by their hash.
pub(super) type Index = BTreeMap<(u32, Box<[u8]>), Collection>;

/// What a key has of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    /// Fields that live.
    pub(crate) fields: u64,
    /// Members that live.
    pub(crate) members: u64,
    /// No element is newer.
    pub(crate) newest: Hlc,
    /// Grows when any of them changes.
    pub(crate) changed: u64,
}

/// What a walk over keys shows: a plain name, and what stands under it, or what it has of elements if any live.
pub(crate) type VisitKey<'a> = dyn FnMut(&[u8], Result<&Record<'_>, Elements>) + 'a;

#[derive(Debug, Default)]
pub(super) struct Collection {
    /// Of each entry that lives: the hash of its element, and, in the lower half, its own.
    live: BTreeSet<u64>,
    /// The hashes of tombstones.
    dead: BTreeSet<u32>,
    fields: u64,
    members: u64,
    newest: Hlc,
    changed: u64,
}

/// Longest key with one of its elements, in bytes: both are in the name, with 4 bytes before and 16 behind them.
pub(crate) const ELEMENT_BYTES_MAX: usize = KEY_BYTES_MAX - 20;

/// Up to how many entries one of them is drawn by counting: each is as likely as any other. Of more it is the next
/// behind a hash that is drawn, which is less fair, and takes no longer the more there are.
const COUNTED_MAX: usize = 512;

impl Collection {
    fn lives(&self) -> bool {
        self.fields + self.members > 0
    }

    fn elements(&self) -> Elements {
        let Self { fields, members, newest, changed, .. } = *self;
        Elements { fields, members, newest, changed }
    }

    /// What it takes, about: the nodes of the sets are two thirds full.
    fn bytes(&self, key: &[u8]) -> usize {
        let parts = self.live.len() * size_of::<u64>() + self.dead.len() * size_of::<u32>();
        parts + parts / 2 + size_of::<Self>() + size_of::<(u32, Box<[u8]>)>() + key.len()
    }

    /// The hashes of all entries.
    fn hashes(&self) -> impl Iterator<Item = u32> {
        self.live.iter().map(|hashes| *hashes as u32).chain(self.dead.iter().copied())
    }
}

impl Store {
    /// What `key`, the plain name of one, has of elements, if it has any that live.
    #[inline]
    pub(crate) fn elements(&self, key: &[u8]) -> Option<Elements> {
        if self.totals.indexed == 0 {
            return None;
        }
        let collection = self.collection(key)?;
        collection.lives().then(|| collection.elements())
    }

    /// When any element of `key` was changed last; 0 if it has none, not even tombstones.
    pub(crate) fn elements_changed(&self, key: &[u8]) -> u64 {
        if self.totals.indexed == 0 { 0 } else { self.collection(key).map_or(0, |collection| collection.changed) }
    }

    /// What the newest element of `key` is stamped at the most.
    pub(crate) fn newest_element(&self, key: &[u8]) -> Hlc {
        if self.totals.indexed == 0 { Hlc::ZERO } else { self.collection(key).map_or(Hlc::ZERO, |found| found.newest) }
    }

    /// Visits the elements of `key` of this kind that live, by their hash, from the first hash greater than `after`,
    /// those of one hash always in one call, each once however often it was added. Ends once `max` were visited, and
    /// every one of that same hash was; returns the last hash visited then: go on after it. `None`: that is all.
    pub(crate) fn walk_elements(
        &self,
        key: &[u8],
        kind: Kind,
        after: Option<u32>,
        max: usize,
        visit: &mut dyn FnMut(&[u8], &Record<'_>),
    ) -> Option<u32> {
        let (place, collection) = (self.place(key), self.collection(key)?);
        let table = &self.slots[usize::from(place.slot)].table;
        let from = after.map_or(0, |after| (u64::from(after) + 1) << 32);
        let (mut visited, mut last, mut same) = (0, None, Vec::new());
        for hashes in collection.live.range(from..) {
            let hash = (hashes >> 32) as u32;
            if last != Some(hash) {
                visited += self.visit_same(&mut same, visit);
                if visited >= max.max(1) {
                    return last;
                }
                last = Some(hash);
            }
            same.extend(lives_of(table, *hashes as u32, key).filter(|entry| kind_of(entry.key()) == Some(kind)));
        }
        self.visit_same(&mut same, visit);
        None
    }

    /// Appends the names under which the member is in the set of `key`.
    pub(crate) fn dots(&self, key: &[u8], member: &[u8]) -> Vec<Vec<u8>> {
        let Some(collection) = self.collection(key) else { return Vec::new() };
        let part = part_of(key, member);
        let hash = hash_of(&self.hasher, &part, true);
        let table = &self.slots[usize::from(self.place(key).slot)].table;
        let from = u64::from(hash) << 32;
        let mut dots = Vec::new();
        for hashes in collection.live.range(from..=from | u64::from(u32::MAX)) {
            let found = lives_of(table, *hashes as u32, key).filter(|entry| name::place_part(entry.key()) == part);
            dots.extend(found.map(|entry| entry.key().to_vec()));
        }
        dots.sort_unstable();
        dots.dedup();
        dots
    }

    /// An element of `key` of this kind that lives, as `chance` would have it.
    pub(crate) fn draw_element(&self, key: &[u8], kind: Kind, chance: u64) -> Option<Vec<u8>> {
        let collection = self.collection(key)?;
        let (after, nth) = if collection.live.len() <= COUNTED_MAX {
            let count = if kind == Kind::Field { collection.fields } else { collection.members };
            (None, ((u128::from(chance) * u128::from(count)) >> 64) as u64)
        } else {
            (((chance as u32) | ELEMENT).checked_sub(1), 0)
        };
        let mut drawn = None;
        for after in [after, None] {
            let (mut at, mut place, wanted) = (0, after, usize::try_from(nth).unwrap_or(usize::MAX));
            loop {
                place = self.walk_elements(key, kind, place, wanted.saturating_add(1), &mut |element, _| {
                    if at == nth && drawn.is_none() {
                        drawn = Some(element.to_vec());
                    }
                    at += 1;
                });
                if drawn.is_some() {
                    return drawn;
                }
                if place.is_none() {
                    break;
                }
            }
        }
        None
    }

    /// Visits the keys of `slot`, plain names, by their hash, as [`walk`](Self::walk) does: each with what stands under
    /// that name, or with what it has of elements if any live.
    pub(crate) fn walk_keys(&self, slot: u16, after: Option<u32>, max: usize, visit: &mut VisitKey<'_>) -> Option<u32> {
        let (table, max) = (&self.slots[usize::from(slot)].table, max.max(1));
        if self.totals.indexed == 0 {
            return table.walk(after, max, &mut |entry| {
                visit(entry.key(), Ok(&self.origins.record(entry)));
                true
            });
        }
        let index = &self.indexes[usize::from(slot)];
        let behind = |upto: u32| {
            let ahead =
                after.map_or(Some(0), |after| after.checked_add(1)).map(|from| index.range((from, Box::default())..));
            ahead.into_iter().flatten().take_while(move |((hash, _), _)| *hash <= upto)
        };
        // No more of them than wanted, but for those of one hash.
        let upto = behind(u32::MAX).nth(max - 1).map_or(u32::MAX, |((hash, _), _)| *hash);
        let last = table.walk_keys(after, upto, max, &mut |entry| {
            if !collection_in(index, entry.hash(), entry.key()).is_some_and(Collection::lives) {
                visit(entry.key(), Ok(&self.origins.record(entry)));
            }
        });
        let upto = last.unwrap_or(upto);
        behind(upto).filter(|(_, of)| of.lives()).for_each(|((_, key), of)| visit(key, Err(of.elements())));
        (last.is_some() || upto < u32::MAX).then_some(upto)
    }

    /// Visits the keys of `slot` as [`walk_keys`](Self::walk_keys) does, in no order that means anything.
    pub(crate) fn visit_keys(&self, slot: u16, visit: &mut VisitKey<'_>) {
        let (table, index) = (&self.slots[usize::from(slot)].table, &self.indexes[usize::from(slot)]);
        for entry in table.iter().filter(|entry| entry.hash() & ELEMENT == 0) {
            if index.is_empty() || !collection_in(index, entry.hash(), entry.key()).is_some_and(Collection::lives) {
                visit(entry.key(), Ok(&self.origins.record(entry)));
            }
        }
        index.iter().filter(|(_, of)| of.lives()).for_each(|((_, key), of)| visit(key, Err(of.elements())));
    }

    /// The version at or below which elements with this name lose, if there is one.
    pub(crate) fn cover(&self, stored: &[u8]) -> Option<Version> {
        let key = name::owner(stored)?;
        self.get(&key).as_ref().and_then(covers)
    }

    /// Whether `record` is an element that loses to what stands under its key.
    pub(crate) fn is_covered(&self, record: &Record<'_>) -> bool {
        self.cover(record.key).is_some_and(|cover| record.version <= cover)
    }

    /// The elements that `record`, of a plain key, takes something of once it stands: their hashes and names.
    pub(crate) fn covered_by(&self, record: &Record<'_>) -> Vec<(u32, Vec<u8>)> {
        let mut covered = Vec::new();
        let (place, Some(cover)) = (self.place(record.key), covers(record)) else { return covered };
        let Some(collection) = self.collection(record.key) else { return covered };
        let table = &self.slots[usize::from(place.slot)].table;
        let mut hashes: Vec<u32> = collection.hashes().collect();
        hashes.sort_unstable();
        hashes.dedup();
        for hash in hashes {
            let of_key = table.of_hash(hash).filter(|entry| name::owner(entry.key()).as_deref() == Some(record.key));
            let records = of_key.map(|entry| self.origins.record(entry));
            let loses = records.filter(|record| record.is_counter || record.version <= cover);
            covered.extend(loses.map(|record| (hash, record.key.to_vec())));
        }
        covered
    }

    /// `key` is the plain name of a key, and something new stands under it: takes out of its elements what that covers.
    /// The index is begun anew with what is left, which mostly is nothing.
    pub(super) fn take_covered(&mut self, key: &[u8], meet: &mut dyn FnMut(&Record<'_>)) {
        let Some(record) = self.get(key) else { return };
        let (covered, cover, place) = (self.covered_by(&record), covers(&record), self.place(key));
        let Some(cover) = cover.filter(|_| !covered.is_empty()) else { return };
        let Some(collection) = self.indexes[usize::from(place.slot)].remove(&(place.hash, Box::from(key))) else {
            return;
        };
        self.totals.indexed -= 1;
        self.totals.collections -= u64::from(collection.lives());
        self.totals.index_bytes -= collection.bytes(key);
        let table = &self.slots[usize::from(place.slot)].table;
        let mut left = BTreeMap::new();
        if collection.newest >= cover.hlc {
            for hash in collection.hashes() {
                let of_key = table.of_hash(hash).filter(|entry| name::owner(entry.key()).as_deref() == Some(key));
                left.extend(of_key.map(|entry| (entry.key().to_vec(), (hash, entry.has_value()))));
            }
        }
        for (hash, stored) in covered {
            left.remove(&stored);
            let place = Place { slot: place.slot, hash };
            let Some(stands) = self.get_at(place, &stored) else { continue };
            if !stands.is_counter {
                meet(&stands);
                self.remove_at(place, &stored);
                continue;
            }
            let (cell, mut text) = (stands.value.map(<[u8]>::to_vec), Vec::new());
            let mut counter = Counter::of(&Record { key: &stored, value: cell.as_deref(), ..stands });
            counter.reset(cover);
            self.remove_at(place, &stored);
            if let Some(rest) = counter.record(&stored, &mut text) {
                let put = self.put_at(place, &rest);
                debug_assert!(put.is_ok(), "its origins were those of an entry");
            }
        }
        for (stored, (hash, lives)) in left {
            let hlc = self.get(&stored).map_or(Hlc::ZERO, |record| record.version.hlc);
            self.note_element(Place { slot: place.slot, hash }, &stored, None, Some(lives), hlc);
        }
    }

    /// The entry of an element was changed, put in or taken out: whether it lived before, and does now.
    pub(super) fn note_element(&mut self, place: Place, stored: &[u8], was: Option<bool>, is: Option<bool>, hlc: Hlc) {
        let Some(key) = name::owner(stored) else { return };
        let (key_hash, element) = (self.place(&key).hash, element_hash(&self.hasher, place.hash, stored));
        let table = &self.slots[usize::from(place.slot)].table;
        let is_other = |entry: &&Entry| entry.key() != stored && name::owner(entry.key()).as_deref() == Some(&*key);
        let changed = self.totals.changes.count;
        let index = &mut self.indexes[usize::from(place.slot)];
        if collection_in(index, key_hash, &key).is_none() {
            index.insert((key_hash, Box::from(&*key)), Collection::default());
            self.totals.indexed += 1;
        } else {
            let bytes = collection_in(index, key_hash, &key).map_or(0, |of| of.bytes(&key));
            self.totals.index_bytes -= bytes;
        }
        let hasher = self.hasher;
        let mut found = index.range_mut((key_hash, Box::default())..);
        let Some((_, collection)) = found.find(|((_, name), _)| **name == *key) else { return };
        let lived = collection.lives();
        let own = u64::from(element) << 32 | u64::from(place.hash);
        let mut others = table.of_hash(place.hash).filter(is_other);
        let is_same = |entry: &Entry| element_hash(&hasher, place.hash, entry.key()) == element;
        if was != is {
            let has_live = others.clone().any(|entry| entry.has_value() && is_same(entry));
            let has_dead = others.any(|entry| !entry.has_value());
            let is_only = kind_of(stored) == Some(Kind::Field) || {
                let part = name::place_part(stored);
                let from = u64::from(element) << 32;
                let dots = collection.live.range(from..=from | u64::from(u32::MAX));
                let mut dots = dots.flat_map(|hashes| lives_of(table, *hashes as u32, &key));
                !dots.any(|entry| entry.key() != stored && name::place_part(entry.key()) == part)
            };
            let count =
                if kind_of(stored) == Some(Kind::Field) { &mut collection.fields } else { &mut collection.members };
            if was == Some(true) && is_only {
                *count -= 1;
            }
            if is == Some(true) && is_only {
                *count += 1;
            }
            match was {
                Some(true) if !has_live => drop(collection.live.remove(&own)),
                Some(false) if !has_dead => drop(collection.dead.remove(&place.hash)),
                _ => {}
            }
            match is {
                Some(true) => drop(collection.live.insert(own)),
                Some(false) => drop(collection.dead.insert(place.hash)),
                None => {}
            }
        }
        collection.newest = collection.newest.max(hlc);
        collection.changed = changed;
        self.totals.collections = self.totals.collections + u64::from(collection.lives()) - u64::from(lived);
        if collection.live.is_empty() && collection.dead.is_empty() {
            index.remove(&(key_hash, Box::from(&*key)));
            self.totals.indexed -= 1;
        } else {
            self.totals.index_bytes += collection.bytes(&key);
        }
    }

    fn collection(&self, key: &[u8]) -> Option<&Collection> {
        let Place { slot, hash } = self.place(key);
        collection_in(&self.indexes[usize::from(slot)], hash, key)
    }

    /// Visits what has one hash, in the order of its name, and each member once; how many those were.
    fn visit_same(&self, same: &mut Vec<&Entry>, visit: &mut dyn FnMut(&[u8], &Record<'_>)) -> usize {
        same.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        same.dedup_by(|one, other| name::place_part(one.key()) == name::place_part(other.key()));
        for entry in same.iter() {
            let record = self.origins.record(entry);
            if let Some(Name { element, .. }) = Name::parse(record.key) {
                visit(element, &record);
            }
        }
        let visited = same.len();
        same.clear();
        visited
    }
}

/// What is taken out by what stands under the plain name of a key.
fn covers(record: &Record<'_>) -> Option<Version> {
    if record.is_counter { Counter::of(record).base.map(|base| base.version) } else { Some(record.version) }
}

fn collection_in<'a>(index: &'a Index, hash: u32, key: &[u8]) -> Option<&'a Collection> {
    let of_hash = index.range((hash, Box::default())..).take_while(|((other, _), _)| *other == hash);
    of_hash.into_iter().find(|((_, name), _)| **name == *key).map(|(_, collection)| collection)
}

/// The entries of elements of `key` that live and have this hash.
fn lives_of<'a>(table: &'a Table, hash: u32, key: &[u8]) -> impl Iterator<Item = &'a Entry> {
    table.of_hash(hash).filter(move |entry| entry.has_value() && name::owner(entry.key()).as_deref() == Some(key))
}

fn kind_of(stored: &[u8]) -> Option<Kind> {
    Name::parse(stored).map(|name| name.kind)
}

/// The hash of an element, whose entry has `hash`: of a member it is one, however often that was added.
fn element_hash(hasher: &SipHasher13, hash: u32, stored: &[u8]) -> u32 {
    let part = name::place_part(stored);
    if part.len() == stored.len() { hash } else { hash_of(hasher, part, true) }
}

/// The name of a member in the set of `key` without the version by which it was added.
fn part_of(key: &[u8], member: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    let Some(Name { space, key, .. }) = Name::parse(key) else { return stored };
    let dot = Some(Version { hlc: Hlc::ZERO, origin: OriginId(0) });
    Name { space, kind: Kind::Member, key, element: member, dot }.put(&mut stored);
    let part_bytes = name::place_part(&stored).len();
    stored.truncate(part_bytes);
    stored
}

#[cfg(test)]
mod tests;
