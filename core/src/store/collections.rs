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
//! **Index.** Of each key that has elements: how many have a value and until when, and where they are, in the order of
//! their hashes. It follows from the entries, and is never stored or sent. It takes some 12 bytes an element, and 150 a
//! key.
//!
//! **Expiry.** Each element has a deadline of its own, or none, as a key has: who asks says what time it is, and what
//! lives then is all that has a value, without what has ended by then. A key is there as long as any of its elements.

use std::collections::{BTreeMap, BTreeSet};

use siphasher::sip::SipHasher13;

use super::census::{Census, contribution};
use super::entry::Entry;
use super::expiry::NEVER;
use super::origins::Origins;
use super::table::Table;
use super::{HASH_BITS, KEY_BYTES_MAX, Place, Store, floors, slot_of};
use crate::counter::Counter;
use crate::name::{self, Kind, Name};
use crate::record::Record;
use crate::time::WallMs;
use crate::version::{Hlc, OriginId, Version};

/// A bit of the hash that entries of elements have and others have not: a walk over keys passes them without touching
/// them. The lowest, so that both are spread alike.
pub(super) const ELEMENT: u32 = 1;

/// The keys of a slot that have elements, by their hash.
pub(super) type Index = BTreeMap<(u32, Box<[u8]>), Collection>;

/// What a key has of elements that live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    pub(crate) fields: u64,
    pub(crate) members: u64,
    /// When the last of them ends; none if any does not.
    pub(crate) deadline: Option<WallMs>,
    /// No element is newer.
    pub(crate) newest: Hlc,
    /// Grows when any of them is written or taken out.
    pub(crate) changed: u64,
}

/// What a walk over keys shows: a plain name, and what stands under it, or what it has of elements if any live.
pub(crate) type VisitKey<'a> = dyn FnMut(&[u8], Result<&Record<'_>, Elements>) + 'a;

/// What an entry of an element is for the index: until when it has a value ([`NEVER`]: for ever); none if it has none.
pub(super) type State = Option<WallMs>;

#[derive(Debug, Default)]
pub(super) struct Collection {
    /// Of each entry with a value: the [hash of its element](element_hash), and, in the lower half, its own.
    live: BTreeSet<u64>,
    /// The hashes of tombstones and husks.
    dead: BTreeSet<u32>,
    /// What has a value, and what of that ends some time.
    all: Counts,
    ending: Counts,
    /// By when they end.
    ends: BTreeMap<WallMs, Counts>,
    newest: Hlc,
    changed: u64,
    /// Whether the key is counted at the cut of its slot.
    is_counted: bool,
    /// It is counted at this cut, which the walk that is under way has moved its slot past.
    late: Option<WallMs>,
}

/// Numbers of fields and of members, each member once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    fields: u64,
    members: u64,
}

impl Counts {
    const fn of(self, kind: Kind) -> u64 {
        if matches!(kind, Kind::Field) { self.fields } else { self.members }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut u64 {
        if matches!(kind, Kind::Field) { &mut self.fields } else { &mut self.members }
    }

    const fn sum(self) -> u64 {
        self.fields + self.members
    }
}

/// Longest key with one of its elements, in bytes: both are in the name, with 4 bytes before and 16 behind them.
pub(crate) const ELEMENT_BYTES_MAX: usize = (1 << 16) - 20;

const _: () = assert!(ELEMENT_BYTES_MAX + 20 <= KEY_BYTES_MAX);

/// Up to how many entries one of them is drawn by counting: each is as likely as any other. Of more it is the next
/// behind a hash that is drawn, which is less fair, and takes no longer the more there are.
const COUNTED_MAX: usize = 512;

impl Collection {
    fn lives(&self, wall: WallMs) -> bool {
        self.all.sum() > self.ending.sum() || self.ends.last_key_value().is_some_and(|(end, _)| *end > wall)
    }

    /// How many live. What has ended gets here as long as its values are not freed.
    fn counts(&self, wall: WallMs) -> Counts {
        self.ends.range(..=wall).fold(self.all, |Counts { fields, members }, (_, ended)| Counts {
            fields: fields - ended.fields,
            members: members - ended.members,
        })
    }

    fn elements(&self, wall: WallMs) -> Elements {
        let Counts { fields, members } = self.counts(wall);
        let is_endless = self.all.sum() > self.ending.sum();
        let last = self.ends.last_key_value().map(|(end, _)| *end);
        let deadline = last.filter(|_| !is_endless);
        Elements { fields, members, deadline, newest: self.newest, changed: self.changed }
    }

    /// An element that had a value until `was` has one until `is`.
    fn count(&mut self, kind: Kind, was: State, is: State) {
        if was == is {
            return;
        }
        if let Some(end) = was {
            *self.all.of_mut(kind) -= 1;
            if end < NEVER {
                *self.ending.of_mut(kind) -= 1;
                let ends = self.ends.entry(end).or_default();
                *ends.of_mut(kind) -= 1;
                if ends.sum() == 0 {
                    self.ends.remove(&end);
                }
            }
        }
        if let Some(end) = is {
            *self.all.of_mut(kind) += 1;
            if end < NEVER {
                *self.ending.of_mut(kind) += 1;
                *self.ends.entry(end).or_default().of_mut(kind) += 1;
            }
        }
    }

    /// Counts the key among those of its keyspace, in a slot whose cut is `cut`, if it lives, and nothing else of its
    /// name `is_counted` at a cut already.
    fn tally(&mut self, (census, space): (&mut Census, u8), cut: WallMs, is_counted: impl Fn(WallMs) -> bool) {
        let done = census.done();
        let counts = |cut: WallMs| self.lives(cut) && !is_counted(cut);
        let (standing, was_late) = (counts(cut), self.late == Some(done));
        let late = cut != done && !standing && counts(done);
        census.count_key(space, (self.is_counted, standing), (was_late, late));
        (self.is_counted, self.late) = (standing, late.then_some(done));
    }

    /// What it takes, about: the nodes of the sets are two thirds full.
    fn bytes(&self, key: &[u8]) -> usize {
        let ends = self.ends.len() * size_of::<(WallMs, Counts)>();
        let parts = self.live.len() * size_of::<u64>() + self.dead.len() * size_of::<u32>() + ends;
        parts + parts / 2 + size_of::<Self>() + size_of::<(u32, Box<[u8]>)>() + key.len()
    }

    /// Until when the member that is stored as `stored` lives by the other entries that say so.
    fn longest_other(
        &self,
        (table, origins): (&Table, &Origins),
        (key, stored): (&[u8], &[u8]),
        element: u32,
    ) -> State {
        if kind_of(stored) != Some(Kind::Member) {
            return None;
        }
        let (part, from) = (name::place_part(stored), u64::from(element) << 32);
        let dots = self.live.range(from..=from | u64::from(u32::MAX));
        let dots = dots.flat_map(|hashes| table.of_hash(*hashes as u32).filter(|entry| is_of(entry.key(), key)));
        let others = dots.filter(|entry| entry.key() != stored && name::place_part(entry.key()) == part);
        others.filter_map(|entry| state(&origins.record(entry))).max()
    }

    /// The hashes of all entries.
    fn hashes(&self) -> impl Iterator<Item = u32> {
        self.live.iter().map(|hashes| *hashes as u32).chain(self.dead.iter().copied())
    }
}

impl Store {
    /// What `key`, the plain name of one, has of elements at `wall`, if any live then.
    #[inline]
    pub(crate) fn elements(&self, key: &[u8], wall: WallMs) -> Option<Elements> {
        if self.totals.indexed == 0 {
            return None;
        }
        let collection = self.collection(key)?;
        collection.lives(wall).then(|| collection.elements(wall))
    }

    /// When any element of `key` was written or taken out last; 0 if it has none, not even tombstones.
    pub(crate) fn elements_changed(&self, key: &[u8]) -> u64 {
        if self.totals.indexed == 0 { 0 } else { self.collection(key).map_or(0, |collection| collection.changed) }
    }

    /// What the newest element of `key` is stamped at the most.
    pub(crate) fn newest_element(&self, key: &[u8]) -> Hlc {
        if self.totals.indexed == 0 { Hlc::ZERO } else { self.collection(key).map_or(Hlc::ZERO, |found| found.newest) }
    }

    /// What the elements of `key` take, with their places in the table and the index.
    pub(crate) fn bytes_of_elements(&self, key: &[u8]) -> usize {
        let Some(collection) = self.collection(key) else { return 0 };
        let table = &self.slots[usize::from(self.place(key).slot)].table;
        let of_key = |hash| table.of_hash(hash).filter(|entry| is_of(entry.key(), key));
        let mut hashes: Vec<u32> = collection.hashes().collect();
        hashes.sort_unstable();
        hashes.dedup();
        let entries = hashes.into_iter().flat_map(of_key);
        entries.map(|entry| entry.allocation_bytes() + size_of::<Entry>()).sum::<usize>() + collection.bytes(key)
    }

    /// Visits the elements of `key` of this kind that live at `wall`, by their hash, from the first hash greater than
    /// `after`, those of one hash always in one call, each once however often it was added. Ends once `max` were
    /// visited, and every one of that same hash was; returns the last hash visited then: go on after it. `None`: that
    /// is all.
    pub(crate) fn walk_elements(
        &self,
        key: &[u8],
        (kind, wall): (Kind, WallMs),
        after: Option<u32>,
        max: usize,
        visit: &mut dyn FnMut(&[u8], &Record<'_>),
    ) -> Option<u32> {
        let (place, collection) = (self.place(key), self.collection(key)?);
        let table = &self.slots[usize::from(place.slot)].table;
        let from = u64::from(after.map_or(Some(0), |after| after.checked_add(1))?) << 32;
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
            let own = *hashes as u32;
            let found = self.lives_of(table, own, (key, wall));
            // Of two members that were added under names of one hash each is found under the hash of the other, too.
            let found = found.filter(|entry| element_hash(&self.hasher, own, entry.key()) == hash);
            same.extend(found.filter(|entry| kind_of(entry.key()) == Some(kind)));
        }
        self.visit_same(&mut same, visit);
        None
    }

    /// Visits the entries of elements of `key` that live at `wall`, a member as often as it was added, in the order of
    /// their names.
    pub(crate) fn visit_elements(&self, key: &[u8], wall: WallMs, visit: &mut dyn FnMut(&Record<'_>)) {
        if self.totals.indexed == 0 {
            return;
        }
        let Some(collection) = self.collection(key) else { return };
        let table = &self.slots[usize::from(self.place(key).slot)].table;
        let hashes: BTreeSet<u32> = collection.live.iter().map(|hashes| *hashes as u32).collect();
        let entries = hashes.into_iter().flat_map(|hash| self.lives_of(table, hash, (key, wall)));
        let mut entries: Vec<&Entry> = entries.collect();
        entries.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        entries.into_iter().for_each(|entry| visit(&self.origins.record(entry)));
    }

    /// Whether any key has elements, tombstones or not.
    #[inline]
    pub(crate) const fn has_elements(&self) -> bool {
        self.totals.indexed > 0
    }

    /// The names under which the member is in the set of `key` at `wall`.
    pub(crate) fn dots(&self, key: &[u8], member: &[u8], wall: WallMs) -> Vec<Vec<u8>> {
        let Some(collection) = self.collection(key) else { return Vec::new() };
        let part = part_of(key, member);
        let hash = member_hash(&self.hasher, &part);
        let table = &self.slots[usize::from(self.place(key).slot)].table;
        let from = u64::from(hash) << 32;
        let mut dots = Vec::new();
        for hashes in collection.live.range(from..=from | u64::from(u32::MAX)) {
            let found = self.lives_of(table, *hashes as u32, (key, wall));
            let found = found.filter(|entry| name::place_part(entry.key()) == part);
            dots.extend(found.map(|entry| entry.key().to_vec()));
        }
        dots.sort_unstable();
        dots.dedup();
        dots
    }

    /// An element of `key` of this kind that lives at `wall`, as `chance` would have it.
    pub(crate) fn draw_element(&self, key: &[u8], (kind, wall): (Kind, WallMs), chance: u64) -> Option<Vec<u8>> {
        let collection = self.collection(key)?;
        if collection.live.len() > COUNTED_MAX {
            return self.draw_behind((key, (kind, wall)), chance);
        }
        let count = collection.counts(wall).of(kind);
        let nth = (u128::from(chance) * u128::from(count)) >> 64;
        let (mut at, mut drawn) = (0, None);
        self.walk_elements(key, (kind, wall), None, usize::MAX, &mut |element, _| {
            if at == nth {
                drawn = Some(element.to_vec());
            }
            at += 1;
        });
        drawn
    }

    /// One of the elements that have the next hash from a drawn one on.
    fn draw_behind(&self, (key, of): (&[u8], (Kind, WallMs)), chance: u64) -> Option<Vec<u8>> {
        let bits = if of.0 == Kind::Member { u32::BITS } else { HASH_BITS };
        let hash = (chance >> (u64::BITS - bits)) as u32;
        for mut after in [hash.checked_sub(1), None] {
            loop {
                let mut same = Vec::new();
                after = self.walk_elements(key, of, after, 1, &mut |element, _| same.push(element.to_vec()));
                if !same.is_empty() {
                    let nth = (u64::from(chance as u32) * same.len() as u64) >> 32;
                    return Some(same.swap_remove(nth as usize));
                }
                if after.is_none() {
                    break;
                }
            }
        }
        None
    }

    /// Visits the keys of `slot`, plain names, by their hash, as [`walk`](Self::walk) does: each with what stands under
    /// that name, or with what it has of elements if any live at `wall`.
    pub(crate) fn walk_keys(
        &self,
        (slot, wall): (u16, WallMs),
        after: Option<u32>,
        max: usize,
        visit: &mut VisitKey<'_>,
    ) -> Option<u32> {
        let (table, max) = (&self.slots[usize::from(slot)].table, max.max(1));
        if self.totals.indexed == 0 {
            return table.walk(after, max, &mut |entry| {
                if self.stands(slot, entry) {
                    visit(entry.key(), Ok(&self.origins.record(entry)));
                }
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
        let last = table.walk_keys(after, upto, max, &mut |entry| self.visit_plain((slot, wall), entry, visit));
        let upto = last.unwrap_or(upto);
        behind(upto).for_each(|((_, key), of)| self.visit_collection((slot, wall), (key, of), visit));
        (last.is_some() || upto < u32::MAX).then_some(upto)
    }

    /// Visits the keys of `slot` as [`walk_keys`](Self::walk_keys) does, in no order that means anything.
    pub(crate) fn visit_keys(&self, (slot, wall): (u16, WallMs), visit: &mut VisitKey<'_>) {
        let (table, index) = (&self.slots[usize::from(slot)].table, &self.indexes[usize::from(slot)]);
        let plain = table.iter().filter(|entry| entry.hash() & ELEMENT == 0);
        plain.for_each(|entry| self.visit_plain((slot, wall), entry, visit));
        index.iter().for_each(|((_, key), of)| self.visit_collection((slot, wall), (key, of), visit));
    }

    /// Visits what stands under the name of a key, unless its elements are found instead.
    fn visit_plain(&self, (slot, wall): (u16, WallMs), entry: &Entry, visit: &mut VisitKey<'_>) {
        let index = &self.indexes[usize::from(slot)];
        let is_behind = || collection_in(index, entry.hash(), entry.key()).is_some_and(|of| of.lives(wall));
        if self.stands(slot, entry) && (index.is_empty() || !is_behind()) {
            visit(entry.key(), Ok(&self.origins.record(entry)));
        }
    }

    fn visit_collection(&self, (slot, wall): (u16, WallMs), (key, of): (&[u8], &Collection), visit: &mut VisitKey<'_>) {
        if of.lives(wall) && !self.is_flushed(slot, key) {
            visit(key, Err(of.elements(wall)));
        }
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
            let of_key = table.of_hash(hash).filter(|entry| is_of(entry.key(), record.key));
            let records = of_key.map(|entry| self.origins.record(entry));
            let loses = records.filter(|record| record.is_counter || record.version <= cover);
            covered.extend(loses.map(|record| (hash, record.key.to_vec())));
        }
        covered
    }

    /// `key` is the plain name of a key, and something new stands under it: takes out of its elements what that covers.
    /// The index is begun anew with what is left, which mostly is nothing.
    pub(super) fn take_covered(&mut self, key: &[u8], meet: &mut dyn FnMut(&Record<'_>)) {
        if self.indexes[usize::from(self.place(key).slot)].is_empty() {
            return;
        }
        let Some(record) = self.get(key) else { return };
        let (covered, cover, place) = (self.covered_by(&record), covers(&record), self.place(key));
        let Some(cover) = cover.filter(|_| !covered.is_empty()) else { return self.tally_key(key) };
        let Some(mut collection) = self.indexes[usize::from(place.slot)].remove(&(place.hash, Box::from(key))) else {
            return;
        };
        self.totals.indexed -= 1;
        self.totals.index_bytes -= collection.bytes(key);
        let (space, cut) = (name::space(key), self.census.cut(place.slot));
        collection.tally((&mut self.census, space), cut, |_| true);
        let table = &self.slots[usize::from(place.slot)].table;
        let mut left = BTreeMap::new();
        if collection.newest >= cover.hlc {
            for hash in collection.hashes() {
                let of_key = table.of_hash(hash).filter(|entry| is_of(entry.key(), key));
                left.extend(of_key.map(|entry| (entry.key().to_vec(), hash)));
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
        for (stored, hash) in left {
            self.index_again(Place { slot: place.slot, hash }, &stored);
        }
    }

    /// Takes an entry into the index that has lost it.
    pub(super) fn index_again(&mut self, place: Place, stored: &[u8]) {
        let stands = self.get_at(place, stored).map(|record| (state(&record), record.version.hlc));
        if let Some((is, hlc)) = stands {
            self.note_element(place, stored, (None, Some(is)), hlc);
        }
    }

    /// The entry of an element was changed, put in or taken out: what it was before, and what it is now.
    pub(super) fn note_element(
        &mut self,
        place: Place,
        stored: &[u8],
        (was, is): (Option<State>, Option<State>),
        hlc: Hlc,
    ) {
        let Some(key) = name::owner(stored) else { return };
        let (key_hash, element) = (self.place(&key).hash, element_hash(&self.hasher, place.hash, stored));
        let Self { slots, indexes, origins, hasher, totals, .. } = self;
        let table = &slots[usize::from(place.slot)].table;
        let index = &mut indexes[usize::from(place.slot)];
        let collection = match collection_in_mut(index, key_hash, &key) {
            Some(collection) => {
                totals.index_bytes -= collection.bytes(&key);
                collection
            }
            None => {
                totals.indexed += 1;
                index.entry((key_hash, Box::from(&*key))).or_default()
            }
        };
        let own = u64::from(element) << 32 | u64::from(place.hash);
        let others = || table.of_hash(place.hash).filter(|entry| entry.key() != stored && is_of(entry.key(), &key));
        let is_same = |entry: &Entry| element_hash(hasher, place.hash, entry.key()) == element;
        // Of a member that was added more than once the longest life counts.
        let longest = collection.longest_other((table, origins), (&key, stored), element);
        if was != is {
            let has_live = others().any(|entry| entry.has_value() && is_same(entry));
            let has_dead = others().any(|entry| !entry.has_value());
            match was {
                Some(Some(_)) if !has_live => drop(collection.live.remove(&own)),
                Some(None) if !has_dead => drop(collection.dead.remove(&place.hash)),
                _ => {}
            }
            match is {
                Some(Some(_)) => drop(collection.live.insert(own)),
                Some(None) => drop(collection.dead.insert(place.hash)),
                None => {}
            }
            let kind = kind_of(stored).unwrap_or(Kind::Field);
            collection.count(kind, was.flatten().max(longest), is.flatten().max(longest));
        }
        collection.newest = collection.newest.max(hlc);
        if was.flatten() != is.flatten() || is.flatten().is_some() {
            collection.changed = totals.changes.count;
        }
        let is_empty = collection.live.is_empty() && collection.dead.is_empty();
        totals.index_bytes += collection.bytes(&key);
        self.tally_key(&key);
        if is_empty
            && let Some(collection) = self.indexes[usize::from(place.slot)].remove(&(key_hash, Box::from(&*key)))
        {
            self.totals.index_bytes -= collection.bytes(&key);
            self.totals.indexed -= 1;
        }
    }

    /// The value of an element was freed, after its end: for who looks on nothing has changed.
    pub(super) fn note_freed(&mut self, place: Place, stored: &[u8], was: State) {
        let Some(key) = name::owner(stored) else { return };
        let changed = self.elements_changed(&key);
        self.note_element(place, stored, (Some(was), Some(None)), Hlc::ZERO);
        let hash = self.place(&key).hash;
        if let Some(collection) = collection_in_mut(&mut self.indexes[usize::from(place.slot)], hash, &key) {
            collection.changed = changed;
        }
    }

    /// Counts `key`, the plain name of one, if it has elements that live at the cut and is not counted otherwise.
    pub(super) fn tally_key(&mut self, key: &[u8]) {
        let cut = self.census.cut(self.place(key).slot);
        self.tally_key_at(key, cut);
    }

    /// As [`tally_key`](Self::tally_key), in a slot whose cut is about to be `cut`. True if it is not counted any more.
    pub(super) fn tally_key_at(&mut self, key: &[u8], cut: WallMs) -> bool {
        if self.totals.indexed == 0 {
            return false;
        }
        let Place { slot, hash } = self.place(key);
        let Self { slots, indexes, origins, census, .. } = self;
        let Some(collection) = collection_in_mut(&mut indexes[usize::from(slot)], hash, key) else { return false };
        let plain = slots[usize::from(slot)].table.find(hash, key).map(|entry| origins.record(entry));
        let was_counted = collection.is_counted;
        let is_counted = |cut| plain.as_ref().is_some_and(|plain| contribution(cut, plain) != 0);
        collection.tally((census, name::space(key)), cut, is_counted);
        was_counted && !collection.is_counted
    }

    /// Takes out of the index what is of keyspaces, given as bits, of which nothing is counted any more.
    pub(super) fn forget_collections(&mut self, slot: u16, spaces: u16) {
        let index = &mut self.indexes[usize::from(slot)];
        let totals = &mut self.totals;
        let gone = index.extract_if(.., |(_, key), _| floors::is_of(spaces, key));
        for ((_, key), collection) in gone {
            totals.indexed -= 1;
            totals.index_bytes -= collection.bytes(&key);
        }
    }

    /// Whether `key` of `slot`, a plain name, is of a keyspace that was flushed since the slot was last settled.
    fn is_flushed(&self, slot: u16, key: &[u8]) -> bool {
        self.is_stale() && floors::is_of(self.stale.of(slot), key)
    }

    fn collection(&self, key: &[u8]) -> Option<&Collection> {
        if self.indexes[usize::from(slot_of(key))].is_empty() {
            return None;
        }
        let Place { slot, hash } = self.place(key);
        collection_in(&self.indexes[usize::from(slot)], hash, key).filter(|_| !self.is_flushed(slot, key))
    }

    fn state_of(&self, entry: &Entry) -> State {
        state(&self.origins.record(entry))
    }

    /// The entries of elements of `key` that live at `wall` and have this hash.
    fn lives_of<'a>(
        &'a self,
        table: &'a Table,
        hash: u32,
        (key, wall): (&'a [u8], WallMs),
    ) -> impl Iterator<Item = &'a Entry> {
        let of_key = table.of_hash(hash).filter(move |entry| entry.has_value() && is_of(entry.key(), key));
        of_key.filter(move |entry| self.state_of(entry).is_some_and(|end| end > wall))
    }

    /// Visits what has one hash, in the order of its name, and each member once; how many those were.
    fn visit_same(&self, same: &mut Vec<&Entry>, visit: &mut dyn FnMut(&[u8], &Record<'_>)) -> usize {
        same.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        // Of those that say the same of one member the one that says so longest.
        same.dedup_by(|later, first| {
            let is_same = name::place_part(later.key()) == name::place_part(first.key());
            if is_same && self.state_of(later) > self.state_of(first) {
                std::mem::swap(later, first);
            }
            is_same
        });
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

/// What `record`, of an element, is for the index. Of a counter that goes on once its base has ended nothing ends.
pub(super) fn state(record: &Record<'_>) -> State {
    record.value?;
    let deadline = record.deadline.unwrap_or(NEVER);
    let goes_on = record.is_counter && record.deadline.is_some() && Counter::of(record).outlives_base();
    Some(if goes_on { NEVER } else { deadline })
}

fn collection_in<'a>(index: &'a Index, hash: u32, key: &[u8]) -> Option<&'a Collection> {
    let mut of_hash = index.range((hash, Box::default())..).take_while(|((other, _), _)| *other == hash);
    of_hash.find(|((_, name), _)| **name == *key).map(|(_, collection)| collection)
}

fn collection_in_mut<'a>(index: &'a mut Index, hash: u32, key: &[u8]) -> Option<&'a mut Collection> {
    let mut of_hash = index.range_mut((hash, Box::default())..).take_while(|((other, _), _)| *other == hash);
    of_hash.find(|((_, name), _)| **name == *key).map(|(_, collection)| collection)
}

/// Whether `stored` is the name of an element of `key`.
fn is_of(stored: &[u8], key: &[u8]) -> bool {
    name::owner(stored).as_deref() == Some(key)
}

fn kind_of(stored: &[u8]) -> Option<Kind> {
    Name::parse(stored).map(|name| name.kind)
}

/// The hash of an element, whose entry has `hash`: of a member it is one, however often that was added.
fn element_hash(hasher: &SipHasher13, hash: u32, stored: &[u8]) -> u32 {
    let part = name::place_part(stored);
    if part.len() == stored.len() { hash } else { member_hash(hasher, part) }
}

/// The hash of a member, by its name without the version by which it was added. It has no entry of its own, and so has
/// more bits than one of an entry: of a million members few share it.
fn member_hash(hasher: &SipHasher13, part: &[u8]) -> u32 {
    (hasher.hash(part) >> 32) as u32
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
