//! The hash table of one slot.

use hashbrown::HashTable;

use super::collections::ELEMENT;
use super::entry::Entry;
use super::warm::{WARM_KEYS, touch};

/// Entries by the 32 bits of their hash.
#[derive(Default)]
pub(super) struct Table(HashTable<Entry>);

impl Table {
    pub(super) fn find(&self, hash: u32, key: &[u8]) -> Option<&Entry> {
        self.0.find(spread(hash), |entry| entry.hash() == hash && entry.key() == key)
    }

    /// Some entry of this hash, if there is one: where a lookup begins.
    pub(super) fn find_any(&self, hash: u32) -> Option<&Entry> {
        self.0.find(spread(hash), |entry| entry.hash() == hash)
    }

    pub(super) fn find_mut(&mut self, hash: u32, key: &[u8]) -> Option<&mut Entry> {
        self.0.find_mut(spread(hash), |entry| entry.hash() == hash && entry.key() == key)
    }

    /// Adds an entry whose key is not there yet; the bytes by which the table has grown for it.
    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        debug_assert!(self.find(entry.hash(), entry.key()).is_none(), "a key has one entry");
        let before = self.0.allocation_size();
        self.0.insert_unique(spread(entry.hash()), entry, |entry| spread(entry.hash()));
        self.0.allocation_size() - before
    }

    /// Takes out the entries that `keep` refuses, in no order that means anything, and gives back what the table no
    /// longer needs; the bytes by which it has shrunk.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) -> usize {
        self.0.retain(|entry| keep(entry));
        self.shrink()
    }

    /// As [`retain`](Self::retain), of the entries that `goes` says so of; gives them.
    pub(super) fn extract(&mut self, mut goes: impl FnMut(&Entry) -> bool) -> (Vec<Entry>, usize) {
        let gone = self.0.extract_if(|entry| goes(entry)).collect();
        (gone, self.shrink())
    }

    /// Takes out all entries, without a look at any; and the bytes that the table itself had.
    pub(super) fn take(&mut self) -> (impl Iterator<Item = Entry> + Send + Sync + use<>, usize) {
        let table = std::mem::take(&mut self.0);
        let bytes = table.allocation_size();
        (table.into_iter(), bytes)
    }

    /// Takes out the entry of `key`, as [`retain`](Self::retain) does; the entry, and the bytes by which the table has
    /// shrunk.
    pub(super) fn remove(&mut self, hash: u32, key: &[u8]) -> Option<(Entry, usize)> {
        let found = self.0.find_entry(spread(hash), |entry| entry.hash() == hash && entry.key() == key);
        let (entry, _) = found.ok()?.remove();
        Some((entry, self.shrink()))
    }

    fn shrink(&mut self) -> usize {
        let before = self.0.allocation_size();
        // Not at every entry: a table that hovers around a size would be built anew again and again.
        if self.0.is_empty() || self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len(), |entry| spread(entry.hash()));
        }
        before - self.0.allocation_size()
    }

    /// The entries of this hash, of which there is hardly ever more than one.
    pub(super) fn of_hash(&self, hash: u32) -> impl Iterator<Item = &Entry> + Clone {
        self.0.iter_hash(spread(hash)).filter(move |entry| entry.hash() == hash)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All entries, in no order that means anything.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// Visits entries in the order of their hash, from the first hash greater than `after`, and those of one hash
    /// always in one go; see [`Store::walk`](super::Store::walk). Touches the allocations of few others.
    pub(super) fn walk(&self, after: Option<u32>, max: usize, visit: &mut dyn FnMut(&Entry) -> bool) -> Option<u32> {
        let ahead = |entry: &&Entry| after.is_none_or(|after| entry.hash() > after);
        self.walk_ahead(ahead, max, visit)
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
        let is_within = |hash: u32| hash <= upto && after.is_none_or(|after| hash > after);
        let ahead = |entry: &&Entry| entry.hash() & ELEMENT == 0 && is_within(entry.hash());
        self.walk_ahead(ahead, max, &mut |entry| {
            visit(entry);
            true
        })
    }

    fn walk_ahead(
        &self,
        ahead: impl Fn(&&Entry) -> bool,
        max: usize,
        visit: &mut dyn FnMut(&Entry) -> bool,
    ) -> Option<u32> {
        if self.0.is_empty() {
            return None;
        }
        let greatest = self.greatest_within(max.max(1), &ahead);
        let mut more = false;
        let mut chosen = Vec::with_capacity(max.min(self.0.len()));
        for entry in self.0.iter().filter(&ahead) {
            if entry.hash() <= greatest {
                chosen.push(entry);
            } else {
                more = true;
            }
        }
        // By key within a hash, so that the order does not tell the table's history.
        chosen.sort_unstable_by(|a, b| a.hash().cmp(&b.hash()).then_with(|| a.key().cmp(b.key())));
        let mut last = None;
        let mut stop = false;
        for chosen in chosen.chunks(WARM_KEYS) {
            touch(chosen.iter().copied());
            for entry in chosen {
                if stop && last != Some(entry.hash()) {
                    return last;
                }
                last = Some(entry.hash());
                stop |= !visit(entry);
            }
        }
        last.filter(|_| stop || more)
    }

    /// The `max`-th smallest hash among those ahead, or the greatest there can be. Scratch is bounded by `max`, so that
    /// a slot which somebody filled on purpose costs a walk time, not memory.
    fn greatest_within(&self, max: usize, ahead: impl Fn(&&Entry) -> bool) -> u32 {
        if self.0.len() <= max {
            return u32::MAX;
        }
        let scratch = 2 * max;
        let mut smallest = Vec::with_capacity(scratch.min(self.0.len()));
        for entry in self.0.iter().filter(ahead) {
            if smallest.len() == scratch {
                smallest.select_nth_unstable(max - 1);
                smallest.truncate(max);
            }
            smallest.push(entry.hash());
        }
        if smallest.len() <= max {
            return u32::MAX;
        }
        *smallest.select_nth_unstable(max - 1).1
    }
}

/// The 64 bits that hashbrown wants: it takes the bucket from the low ones and a tag from the top 7. Twice the same 32
/// serve both; bucket and tag share bits only from 2^25 buckets in one slot on.
fn spread(hash: u32) -> u64 {
    let hash = u64::from(hash);
    hash << 32 | hash
}

#[cfg(test)]
mod tests {
    use super::super::entry::Parts;
    use super::*;
    use crate::version::Hlc;

    fn table(entries: &[(u32, &str)]) -> Table {
        let mut table = Table::default();
        for (hash, key) in entries {
            let parts = Parts {
                hlc: Hlc(1),
                origin: 0,
                deadline: None,
                key: key.as_bytes(),
                value: Some(b"v"),
                is_counter: false,
            };
            table.insert(Entry::new(*hash, &parts));
        }
        table
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
        let table = table(&[(9, "f"), (3, "b"), (u32::MAX, "h"), (3, "c"), (0, "a"), (9, "g"), (3, "d"), (5, "e")]);
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
