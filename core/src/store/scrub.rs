//! What two nodes compare when their digests differ: a tree of sums over the slots, and what is in a slot.
//!
//! The tree has a root, [`FANOUT`] groups and [`FANOUT`] slots in each. Only the slots' own sums are kept, on each
//! write; those above are added up when somebody asks, which takes a look at as many cache lines as there are slots.
//! Sums travel as their lower 64 bits: a sum of lower halves is the lower half of the sum.

use super::census::{contribution, is_tombstone};
use super::{SLOTS, Store, key_name};
use crate::record::Record;
use crate::time::WallMs;
use crate::version::Version;

/// Children of a node of the tree. Two levels of 128 reach every slot: one difference costs two answers of 1 KiB. A
/// smaller fan-out would save half of that, and take more round trips.
pub(crate) const FANOUT: usize = 128;

const _: () = assert!(FANOUT * FANOUT == SLOTS as usize, "two levels reach every slot");

/// Most entries of a slot that can be compared: five times a slot's share of fifty million keys. One that somebody
/// filled on purpose is left out, because each look at it would take as long as it is full.
const SLOT_ENTRIES_MAX: usize = 16_384;

/// The root of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) sum: u64,
    /// Roots of different cuts are not compared.
    pub(crate) cut: WallMs,
}

/// An entry, as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// See [`key_name`].
    pub(crate) name: u64,
    pub(crate) version: Version,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Tombstone,
    /// A value, freed or not.
    Value {
        deadline: Option<WallMs>,
    },
    /// What the counter adds to the digest: its version is that of one of its parts.
    Counter {
        print: u64,
    },
}

impl Store {
    /// The sum over all slots, and its cut. O(1).
    pub(crate) fn root(&self) -> Root {
        let (digest, cut) = self.digest();
        Root { sum: digest as u64, cut }
    }

    /// The cut of every slot; none while it is being moved, or slots still sum up what was flushed.
    pub(crate) fn settled_cut(&self) -> Option<WallMs> {
        self.census.settled_cut().filter(|_| !self.is_stale())
    }

    /// The sum of each group of slots.
    pub(crate) fn group_sums(&self) -> [u64; FANOUT] {
        std::array::from_fn(|group| {
            let slots = &self.slots[group * FANOUT..(group + 1) * FANOUT];
            slots.iter().fold(0, |sum: u64, slot| sum.wrapping_add(slot.digest as u64))
        })
    }

    /// The sum of each slot of a group.
    pub(crate) fn slot_sums(&self, group: usize) -> [u64; FANOUT] {
        std::array::from_fn(|at| self.slots[group * FANOUT + at].digest as u64)
    }

    /// The entries of `slot` ordered by name, from the first name greater than `after`, at most `max`, and whether
    /// there are more. `None`: there are too many in this slot.
    pub(crate) fn list(&self, slot: u16, after: Option<u64>, max: usize) -> Option<(Vec<Listed>, bool)> {
        let table = &self.slots[usize::from(slot)].table;
        if table.len() > SLOT_ENTRIES_MAX {
            return None;
        }
        let mut list = Vec::with_capacity(table.len());
        for entry in table.iter().filter(|entry| self.stands(slot, entry)) {
            let listed = self.listed(&self.origins.record(entry));
            if after.is_none_or(|after| listed.name > after) {
                list.push(listed);
            }
        }
        list.sort_unstable_by_key(|listed| (listed.name, listed.version));
        let more = list.len() > max;
        list.truncate(max);
        Some((list, more))
    }

    /// Shows `visit` the entries of `slot` whose name is one of `names`, which are sorted, in the order of their names;
    /// until it answers false.
    pub(crate) fn visit_named(&self, slot: u16, names: &[u64], visit: &mut dyn FnMut(u64, &Record<'_>) -> bool) {
        let table = &self.slots[usize::from(slot)].table;
        let entries = table.iter().filter(|entry| self.stands(slot, entry));
        let named = entries.map(|entry| (key_name(entry.key()), entry));
        let mut named: Vec<_> = named.filter(|(name, _)| names.binary_search(name).is_ok()).collect();
        named.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.key().cmp(other.1.key())));
        let _ = named.into_iter().all(|(name, entry)| visit(name, &self.origins.record(entry)));
    }

    /// What `record` adds to the digest when it stands; 0 if it does not count.
    pub(crate) fn print(&self, record: &Record<'_>) -> u64 {
        let (_, cut) = self.digest();
        contribution(cut, record) as u64
    }

    /// As it is compared.
    pub(crate) fn listed(&self, record: &Record<'_>) -> Listed {
        let what = if record.is_counter {
            What::Counter { print: self.print(record) }
        } else if is_tombstone(record) {
            What::Tombstone
        } else {
            What::Value { deadline: record.deadline }
        };
        Listed { name: key_name(record.key), version: record.version, what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::slot_of;
    use crate::version::{Hlc, OriginId};

    fn record<'a>(key: &'a [u8], hlc: u64, value: Option<&'a [u8]>, deadline: Option<u64>) -> Record<'a> {
        let version = Version { hlc: Hlc(hlc), origin: OriginId(1 + hlc % 3) };
        Record { key, value, is_counter: false, deadline: deadline.map(WallMs), version }
    }

    /// Numbers whose bytes, the most significant first, are those of a key, and of nothing else that has a name.
    fn numbers() -> std::ops::Range<u16> {
        0..0xff00
    }

    fn store(writes: &[(u16, u64, bool)], hash_key: [u64; 2]) -> Store {
        let mut store = Store::new(hash_key);
        for (key, hlc, lives) in writes {
            let value = lives.then_some(&b"v"[..]);
            let deadline = (hlc % 5 == 0 && *lives).then_some(hlc * 1_000);
            store.merge(&record(&key.to_be_bytes(), *hlc, value, deadline)).unwrap();
        }
        store
    }

    proptest! {
        #[test]
        fn the_tree_adds_up_and_shows_where_two_stores_differ(
            writes in proptest::collection::vec((numbers(), 1_u64..100_000, any::<bool>()), 0..200),
            wall in 0_u64..100_000_000,
            odd in numbers(),
        ) {
            let (mut one, mut other) = (store(&writes, [1, 2]), store(&writes, [3, 4]));
            for store in [&mut one, &mut other] {
                while store.expire(WallMs(wall)) {}
                let total = store.group_sums().iter().fold(0_u64, |sum, group| sum.wrapping_add(*group));
                prop_assert_eq!(total, store.root().sum);
            }
            prop_assert_eq!(one.root(), other.root());
            let key = odd.to_be_bytes();
            one.merge(&record(&key, 200_000, Some(b"odd"), None)).unwrap();
            let slot = usize::from(slot_of(&key));
            let differ = |mine: &[u64], theirs: &[u64]| -> Vec<usize> {
                (0..FANOUT).filter(|at| mine[*at] != theirs[*at]).collect()
            };
            prop_assert_eq!(differ(&one.group_sums(), &other.group_sums()), [slot / FANOUT]);
            let group = slot / FANOUT;
            prop_assert_eq!(differ(&one.slot_sums(group), &other.slot_sums(group)), [slot % FANOUT]);
        }

        #[test]
        fn pages_of_a_slot_hold_every_entry_once(count in 0_u32..60, max in 1_usize..20) {
            let mut store = Store::new([5, 6]);
            let keys = (0_u32..).map(|at| at.to_be_bytes().to_vec()).filter(|key| slot_of(key) == 7);
            let mut keys: Vec<Vec<u8>> = keys.take(count as usize).collect();
            keys.iter().for_each(|key| assert!(store.merge(&record(key, 9, Some(b"v"), None)).is_ok()));
            let (mut after, mut listed) = (None, Vec::new());
            loop {
                let (page, more) = store.list(7, after, max).unwrap();
                prop_assert!(page.len() <= max);
                listed.extend(page.iter().map(|entry| entry.name));
                after = listed.last().copied();
                if !more {
                    break;
                }
            }
            keys.sort_by_key(|key| key_name(key));
            prop_assert_eq!(&listed, &keys.iter().map(|key| key_name(key)).collect::<Vec<_>>());
            let mut visited = Vec::new();
            store.visit_named(7, &listed, &mut |name, record| {
                visited.push(record.key.to_vec());
                name == key_name(record.key)
            });
            prop_assert_eq!(visited, keys);
        }
    }
}
