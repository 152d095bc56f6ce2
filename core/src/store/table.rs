//! The hash table of one slot: its entries in the order of their hashes, with gaps.
//!
//! Linear probing that keeps the order (Amble and Knuth, "Ordered hash tables", 1974; here with homes that ascend with
//! the hash). An entry's home is where its hash is among all hashes; it stands there or behind, with no gap between. So
//! a lookup reads on from the home, mostly within a cache line or two; a walk by hash reads place after place; and a
//! table may be seven eighths full, and grows by a quarter or less.

use super::collections::ELEMENT;
use super::entry::{Entry, HASH_BITS, allocation_bytes};
use super::prefetch::prefetch;
use super::warm::WARM_KEYS;

/// Entries by their hash.
///
/// 1. Hashes do not descend from place to place.
/// 2. No entry stands before its home, and no place from there to where it stands is empty.
#[derive(Default)]
pub(super) struct Table {
    places: Box<[Option<Entry>]>,
    /// Places that are homes; those behind them are for what is crowded out of the last ones.
    homes: u32,
    len: u32,
}

/// Places by which a table grows at the least.
const MORE_MIN: usize = 4;

impl Table {
    #[inline]
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<&Entry> {
        self.places[self.place_of(hash, key)?].as_ref()
    }

    #[inline]
    pub(super) fn find_mut(&mut self, hash: u32, key: &[u8]) -> Option<&mut Entry> {
        let place = self.place_of(hash, key)?;
        self.places[place].as_mut()
    }

    /// Some entry of this hash, if there is one: where a lookup begins.
    #[inline]
    pub(super) fn find_any(&self, hash: u32) -> Option<&Entry> {
        self.of_hash(hash).next()
    }

    /// Asks memory for the place at which a lookup of this hash begins.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        if let Some(place) = self.places.get(home(hash, self.homes)) {
            prefetch(&raw const *place);
        }
    }

    /// The entries of this hash, of which there is hardly ever more than one.
    #[inline]
    pub(super) fn of_hash(&self, hash: u32) -> impl Iterator<Item = &Entry> + Clone {
        let crowd = self.behind(home(hash, self.homes)).iter().map_while(Option::as_ref);
        crowd.skip_while(move |entry| entry.hash() < hash).take_while(move |entry| entry.hash() == hash)
    }

    /// Adds an entry whose key is not there yet; the bytes by which the table has grown for it.
    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        debug_assert!(self.find(entry.hash(), entry.key()).is_none(), "a key has one entry");
        let before = self.bytes();
        if self.len() >= self.places.len() - self.places.len() / 8 {
            self.grow();
        }
        let mut left = self.put(entry);
        while let Some(entry) = left {
            self.grow();
            left = self.put(entry);
        }
        self.len += 1;
        self.bytes() - before
    }

    /// Takes out the entries that `keep` refuses, in no order that means anything, and gives back what the table no
    /// longer needs; the bytes by which it has shrunk.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) -> usize {
        self.extract(|entry| !keep(entry)).1
    }

    /// As [`retain`](Self::retain), of the entries that `goes` says so of; gives them.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&Entry) -> bool) -> (Vec<Entry>, usize) {
        let gone: Vec<Entry> = self.places.iter_mut().filter_map(|place| place.take_if(|entry| goes(entry))).collect();
        if gone.is_empty() {
            return (gone, 0);
        }
        self.len -= gone.len() as u32;
        let mut next = 0;
        for place in 0..self.places.len() {
            if let Some(entry) = self.places[place].take() {
                let to = home(entry.hash(), self.homes).max(next);
                self.places[to] = Some(entry);
                next = to + 1;
            }
        }
        (gone, self.shrink())
    }

    /// Takes out all entries, without a look at any; and the bytes that the table itself had.
    pub(super) fn take(&mut self) -> (impl Iterator<Item = Entry> + Send + Sync + use<>, usize) {
        let bytes = self.bytes();
        (std::mem::take(self).places.into_iter().flatten(), bytes)
    }

    /// Takes out the entry of `key`, as [`retain`](Self::retain) does; the entry, and the bytes by which the table has
    /// shrunk.
    pub(super) fn remove(&mut self, hash: u32, key: &[u8]) -> Option<(Entry, usize)> {
        let place = self.place_of(hash, key)?;
        let entry = self.places[place].take()?;
        self.len -= 1;
        let follows = |(at, behind): &(usize, &Option<Entry>)| {
            behind.as_ref().is_some_and(|entry| home(entry.hash(), self.homes) <= place + at)
        };
        let followers = self.places[place + 1..].iter().enumerate().take_while(follows).count();
        self.places[place..=place + followers].rotate_left(1);
        Some((entry, self.shrink()))
    }

    /// All entries, in the order of their hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// All entries, in the order of their hashes. Memory is asked for some of them at a time.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.places.chunks_mut(WARM_KEYS).flat_map(|some| {
            some.iter().flatten().for_each(Entry::prefetch);
            some.iter_mut().flatten()
        })
    }

    /// Visits entries in the order of their hash, from the first hash greater than `after`, and those of one hash
    /// always in one go; see [`Store::walk`](super::Store::walk). Touches the allocations of few others.
    pub(super) fn walk(&self, after: Option<u32>, max: usize, visit: &mut dyn FnMut(&Entry) -> bool) -> Option<u32> {
        self.walk_ahead(self.ahead(after), max, visit)
    }

    /// As [`walk`](Self::walk), of entries that are no elements, up to the hash `upto`. `None`: there are no more up to
    /// there.
    pub(super) fn walk_keys(
        &self,
        after: Option<u32>,
        upto: u32,
        max: usize,
        visit: &mut dyn FnMut(&Entry),
    ) -> Option<u32> {
        let ahead = self.ahead(after).take_while(|entry| entry.hash() <= upto);
        self.walk_ahead(ahead.filter(|entry| entry.hash() & ELEMENT == 0), max, &mut |entry| {
            visit(entry);
            true
        })
    }

    fn walk_ahead<'a>(
        &'a self,
        ahead: impl Iterator<Item = &'a Entry>,
        max: usize,
        visit: &mut dyn FnMut(&Entry) -> bool,
    ) -> Option<u32> {
        let (mut ahead, mut left) = (ahead.peekable(), max.max(1));
        let mut chosen: Vec<&Entry> = Vec::with_capacity(WARM_KEYS.min(left));
        loop {
            chosen.clear();
            while let Some(entry) = ahead.next_if(|next| {
                chosen.len() < WARM_KEYS.min(left) || chosen.last().is_some_and(|last| last.hash() == next.hash())
            }) {
                chosen.push(entry);
            }
            // By key within a hash, so that the order does not tell the table's history.
            for same in chosen.chunk_by_mut(|one, next| one.hash() == next.hash()).filter(|same| same.len() > 1) {
                same.sort_unstable_by(|one, other| one.key().cmp(other.key()));
            }
            chosen.iter().for_each(|entry| entry.prefetch());
            for same in chosen.chunk_by(|one, next| one.hash() == next.hash()) {
                let mut stop = false;
                same.iter().for_each(|entry| stop |= !visit(entry));
                if stop {
                    return Some(same[0].hash());
                }
            }
            left = left.saturating_sub(chosen.len());
            ahead.peek()?;
            if left == 0 {
                return chosen.last().map(|last| last.hash());
            }
        }
    }

    fn ahead(&self, after: Option<u32>) -> impl Iterator<Item = &Entry> {
        let from = after.map_or(0, |after| home(after, self.homes));
        self.behind(from).iter().flatten().skip_while(move |entry| after.is_some_and(|after| entry.hash() <= after))
    }

    /// The places from this one on.
    #[inline]
    fn behind(&self, place: usize) -> &[Option<Entry>] {
        self.places.get(place..).unwrap_or_default()
    }

    #[inline]
    fn place_of(&self, hash: u32, key: &[u8]) -> Option<usize> {
        let from = home(hash, self.homes);
        for (at, entry) in self.behind(from).iter().map_while(Option::as_ref).enumerate() {
            if entry.hash() >= hash {
                if entry.hash() > hash {
                    return None;
                }
                if entry.key() == key {
                    return Some(from + at);
                }
            }
        }
        None
    }

    /// Puts an entry where it belongs, and those that it crowds out one place on; gives it back if there is no room.
    fn put(&mut self, entry: Entry) -> Option<Entry> {
        let hash = entry.hash();
        let is_before = |place: &&Option<Entry>| place.as_ref().is_some_and(|stands| stands.hash() <= hash);
        let from = home(hash, self.homes);
        let at = from + self.behind(from).iter().take_while(is_before).count();
        let Some(crowded_out) = self.behind(at).iter().position(Option::is_none) else { return Some(entry) };
        self.places[at..=at + crowded_out].rotate_right(1);
        self.places[at] = Some(entry);
        None
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    #[cold]
    fn grow(&mut self) {
        self.resize(self.places.len() + MORE_MIN.max(self.places.len() / 8));
    }

    /// The bytes by which the table has shrunk.
    fn shrink(&mut self) -> usize {
        let before = self.bytes();
        // Not at every entry: a table that hovers around a size would be built anew again and again.
        if self.len == 0 {
            *self = Self::default();
        } else if self.len() < self.places.len() / 4 {
            self.resize(2 * self.len());
        }
        before - self.bytes()
    }

    /// Builds the table anew with this many places, or as many more as are needed.
    fn resize(&mut self, places: usize) {
        let mut count = class_of(places);
        while !self.fits(count) {
            count = class_of(count + MORE_MIN.max(count / 8));
        }
        let mut places: Box<[Option<Entry>]> = (0..count).map(|_| None).collect();
        self.homes = homes_of(count);
        let mut next = 0;
        for entry in std::mem::take(&mut self.places).into_iter().flatten() {
            let to = home(entry.hash(), self.homes).max(next);
            places[to] = Some(entry);
            next = to + 1;
        }
        self.places = places;
    }

    /// Whether the entries have room in so many places.
    fn fits(&self, places: usize) -> bool {
        let homes = homes_of(places);
        self.iter().fold(0, |next, entry| home(entry.hash(), homes).max(next) + 1) <= places
    }
}

/// Where among the homes an entry belongs.
#[inline]
fn home(hash: u32, homes: u32) -> usize {
    ((u64::from(hash) * u64::from(homes)) >> HASH_BITS) as usize
}

/// How many of so many places are homes. The others are enough for what is crowded out of a table that is nearly as
/// full as it may be; where they are not, it grows a little earlier.
fn homes_of(places: usize) -> u32 {
    (places - (places / 32).max(2)) as u32
}

/// So many places, and those that the allocator would add without being asked.
fn class_of(places: usize) -> usize {
    allocation_bytes(places.max(MORE_MIN) * size_of::<Option<Entry>>()) / size_of::<Option<Entry>>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::entry::Parts;
    use super::super::{Store, slot_of};
    use super::*;
    use crate::version::Hlc;

    const HASH_MAX: u32 = (1 << HASH_BITS) - 1;

    fn entry(hash: u32, key: &[u8]) -> Entry {
        let parts = Parts { hlc: Hlc(1), origin: 0, deadline: None, key, value: Some(b"v"), is_counter: false };
        Entry::new(hash, &parts)
    }

    fn table(entries: &[(u32, &str)]) -> Table {
        let mut table = Table::default();
        for (hash, key) in entries {
            table.insert(entry(*hash, key.as_bytes()));
        }
        table
    }

    /// How many places a lookup reads for the entry that is farthest from its home.
    fn reads(table: &Table) -> usize {
        let reads =
            |(place, entry): (usize, &Option<Entry>)| Some(1 + place - home(entry.as_ref()?.hash(), table.homes));
        table.places.iter().enumerate().filter_map(reads).max().unwrap_or(0)
    }

    #[test]
    fn keys_that_somebody_chose_without_this_nodes_secret_are_spread_as_all_others() {
        /// Chosen keys; and how many places a lookup of one of them reads at most.
        const CHOSEN: usize = 512;
        const READS_MAX: usize = 40;
        let (theirs, ours) = (Store::new([1, 2]), Store::new([3, 4]));
        let keys = || (0_u32..).map(|number| format!("{number:07}"));
        let placed = |store: &Store, keys: &[String]| {
            let hashes = keys.iter().map(|key| store.place(key.as_bytes()).hash);
            table(&hashes.zip(keys.iter().map(String::as_str)).collect::<Vec<_>>())
        };
        // All that have the same home in a table of this size, under a secret that is not this node's.
        let is_chosen = |key: &String| theirs.place(key.as_bytes()).hash <= HASH_MAX / 1_024;
        let chosen: Vec<String> = keys().filter(is_chosen).take(CHOSEN).collect();
        assert!(reads(&placed(&theirs, &chosen)) >= CHOSEN / 2, "who knows the secret makes lookups slow");
        assert!(reads(&placed(&ours, &chosen)) <= READS_MAX);
        // All of one slot, which is no secret: its table is long, and lookups are what they are.
        let of_slot: Vec<String> = keys().filter(|key| slot_of(key.as_bytes()) == 0).take(CHOSEN / 4).collect();
        assert!(reads(&placed(&ours, &of_slot)) <= READS_MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u8),
        Remove(u32, u8),
        Extract(u32, u32),
    }

    /// Hashes that are crowded at both ends, and some that are anywhere.
    fn hashes() -> impl Strategy<Value = u32> {
        prop_oneof![0..40_u32, HASH_MAX - 40..=HASH_MAX, 0..=HASH_MAX]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (hashes(), 0..3_u8).prop_map(|(hash, key)| Step::Insert(hash, key)),
            6 => (hashes(), 0..3_u8).prop_map(|(hash, key)| Step::Remove(hash, key)),
            1 => (0..5_u32, 1..5_u32).prop_map(|(rest, of)| Step::Extract(rest, of)),
        ]
    }

    /// What the type says of its places, and that what it counts is so.
    fn check(table: &Table) {
        let mut last = None;
        let mut len = 0;
        for (place, stands) in table.places.iter().enumerate() {
            let Some(entry) = stands else { continue };
            let home = home(entry.hash(), table.homes);
            assert!(home <= place, "stands before its home");
            assert!(table.places[home..place].iter().all(Option::is_some), "a gap before it");
            assert!(last <= Some(entry.hash()), "hashes descend");
            last = Some(entry.hash());
            len += 1;
        }
        assert_eq!(table.len(), len);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_holds_what_a_set_would(steps in proptest::collection::vec(steps(), 1..600)) {
            let (mut table, mut model, mut bytes) = (Table::default(), BTreeSet::new(), 0);
            for step in steps {
                match step {
                    Step::Insert(hash, key) => {
                        if model.insert((hash, key)) {
                            bytes += table.insert(entry(hash, &[key]));
                        }
                    }
                    Step::Remove(hash, key) => {
                        let removed = table.remove(hash, &[key]);
                        prop_assert_eq!(removed.is_some(), model.remove(&(hash, key)));
                        bytes -= removed.map_or(0, |(_, shrunk_bytes)| shrunk_bytes);
                    }
                    Step::Extract(rest, of) => {
                        let (gone, shrunk_bytes) = table.extract(|entry| entry.hash() % of == rest);
                        prop_assert!(gone.iter().all(|entry| entry.hash() % of == rest));
                        let before = model.len();
                        model.retain(|(hash, _)| hash % of != rest);
                        prop_assert_eq!(gone.len(), before - model.len());
                        bytes -= shrunk_bytes;
                    }
                }
                check(&table);
                prop_assert_eq!(table.bytes(), bytes);
            }
            for (hash, key) in &model {
                prop_assert!(table.find(*hash, &[*key]).is_some() && table.find_mut(*hash, &[*key]).is_some());
                prop_assert!(table.find(*hash, &[9]).is_none());
            }
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                after = table.walk(after, 7, &mut |entry| {
                    seen.push((entry.hash(), entry.key()[0]));
                    true
                });
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn it_is_nearly_full_before_it_grows() {
        let (mut table, mut order) = (Table::default(), 1_u32);
        let mut wasted = 0;
        for count in 1..=20_000_usize {
            order = order.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
            table.insert(entry(order >> (32 - HASH_BITS), &count.to_le_bytes()));
            if count >= 100 {
                wasted = wasted.max(100 * (table.places.len() - count) / count);
            }
        }
        check(&table);
        assert!(wasted <= 60, "{wasted} % more places than entries");
    }

    /// What each call of a whole walk visits; `stop_at` answers false.
    fn walks(table: &Table, max: usize, stop_at: &str) -> Vec<String> {
        let mut calls = Vec::new();
        let mut after = None;
        loop {
            let mut visited = String::new();
            after = table.walk(after, max, &mut |entry| {
                let key = str::from_utf8(entry.key()).unwrap();
                visited += key;
                key != stop_at
            });
            calls.push(visited);
            if after.is_none() {
                return calls;
            }
        }
    }

    #[test]
    fn entries_of_one_hash_are_found_by_key() {
        let mut table = table(&[(7, "a"), (7, "b"), (8, "c")]);
        assert_eq!(table.find(7, b"b").unwrap().key(), b"b");
        assert_eq!(table.find_mut(7, b"a").unwrap().key(), b"a");
        assert!(table.find(7, b"c").is_none());
        assert!(table.find(8, b"a").is_none());
    }

    #[test]
    fn a_walk_goes_by_hash_and_keeps_one_hash_together() {
        let table = table(&[(9, "f"), (3, "b"), (HASH_MAX, "h"), (3, "c"), (0, "a"), (9, "g"), (3, "d"), (5, "e")]);
        assert_eq!(walks(&table, 100, ""), ["abcdefgh"]);
        assert_eq!(walks(&table, 8, ""), ["abcdefgh"]);
        assert_eq!(walks(&table, 3, ""), ["abcd", "efg", "h"]);
        assert_eq!(walks(&table, 1, ""), ["a", "bcd", "e", "fg", "h"]);
        assert_eq!(walks(&table, 0, ""), ["a", "bcd", "e", "fg", "h"]);
        assert_eq!(walks(&table, 100, "b"), ["abcd", "efgh"]);
        assert_eq!(walks(&table, 2, "e"), ["abcd", "e", "fg", "h"]);
        assert_eq!(walks(&table, 100, "h"), ["abcdefgh", ""], "who stops at the end is told where");
        assert_eq!(walks(&Table::default(), 100, ""), [""]);
    }
}
