//! What is remembered of deletes that were forgotten: enough to tell, of a value that this node lacks, that none of
//! them can have deleted it; and of most, that one of them has.
//!
//! By hash of the key, the newest tombstone or husk that was taken out of a key with that hash, and the key's name.
//! Keys share hashes, so the answer may be "it may have been deleted" where it was not, and never the other way round.
//! That it *was* deleted is said only of the key that was named.

use crate::counter::Base;
use crate::store::Listed;
use crate::version::{Hlc, Version};

/// Hashes that are told apart: a megabyte once something was collected, and at a million keys sixteen that share
/// one. Twice as many would halve the values that cannot be told from deleted ones, where keys are deleted all the
/// time.
const BUCKETS: usize = 1 << 16;

/// The newest of what was taken out.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// By the upper bits of the key's name, in pages that come as they are needed; empty until something was collected.
    newest: Vec<Option<Box<Page>>>,
    /// Up to here others have collected what this node never held.
    elsewhere: Hlc,
}

/// Hashes that are next to each other.
type Page = [Newest; PAGE];

const PAGE: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    hlc: Hlc,
    /// Of the key it was, if it beats all that is older of that key; else 0.
    name: u64,
}

impl Collected {
    /// Something of the key with this name was taken out. Of a counter it may have been a part only.
    pub(crate) fn note(&mut self, name: u64, hlc: Hlc, is_counter: bool) {
        if self.newest.is_empty() {
            self.newest.resize_with(BUCKETS / PAGE, || None);
        }
        let bucket = bucket(name);
        let page = self.newest[bucket / PAGE].get_or_insert_with(|| Box::new([Newest::default(); PAGE]));
        let newest = &mut page[bucket % PAGE];
        if hlc > newest.hlc {
            *newest = Newest { hlc, name: if is_counter { 0 } else { name } };
        }
    }

    /// Others have collected up to `hlc` what this node never held.
    pub(crate) fn note_elsewhere(&mut self, hlc: Hlc) {
        self.elsewhere = self.elsewhere.max(hlc);
    }

    /// Whether what was written at `hlc` under the key with this name may have been deleted, and that forgotten.
    pub(crate) fn may_have_deleted(&self, name: u64, hlc: Hlc) -> bool {
        // A tombstone of the same reading may have the greater origin.
        let here = self.newest(name).is_some_and(|newest| hlc <= newest.hlc);
        here || hlc <= self.elsewhere
    }

    /// Whether what was written at `hlc` under the key with this name, and is no counter, was deleted here, whatever
    /// this node holds of its writer.
    pub(crate) fn has_deleted(&self, name: u64, hlc: Hlc) -> bool {
        let newest = self.newest(name);
        newest.is_some_and(|newest| newest.name == name && hlc < newest.hlc)
    }

    /// Whether this base, which was held once, was reset, and that forgotten. One that is gone because its deadline had
    /// passed, perhaps by a clock far ahead, was not: what was added to it still ends with it.
    pub(crate) fn may_have_reset(&self, name: u64, base: &Base<'_>) -> bool {
        let Version { hlc, .. } = base.version;
        // What is collected of such a base is the base.
        self.may_have_deleted(name, if base.deadline.is_some() { Hlc(hlc.0 + 1) } else { hlc })
    }

    /// What it comes to, once something was collected.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.newest.len() * size_of::<Page>()
    }

    fn newest(&self, name: u64) -> Option<&Newest> {
        let bucket = bucket(name);
        self.newest.get(bucket / PAGE)?.as_ref().map(|page| &page[bucket % PAGE])
    }
}

impl Listed {
    /// Whether this may have been deleted here.
    pub(crate) fn may_be_deleted(&self, collected: &Collected) -> bool {
        collected.may_have_deleted(self.name, self.version.hlc)
    }
}

fn bucket(name: u64) -> usize {
    (name >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_than_every_delete_of_its_hash_was_not_deleted() {
        let mut collected = Collected::default();
        let (name, other) = (7 << 48, 8 << 48);
        assert!(!collected.may_have_deleted(name, Hlc(1)) && collected.memory_bytes() == 0);
        collected.note(name | 5, Hlc(20), false);
        collected.note(name, Hlc(10), false);
        assert_eq!(collected.memory_bytes(), BUCKETS * 16);
        assert!(collected.may_have_deleted(name, Hlc(20)));
        assert!(!collected.may_have_deleted(name, Hlc(21)) && !collected.may_have_deleted(other, Hlc(1)));
        collected.note_elsewhere(Hlc(30));
        collected.note_elsewhere(Hlc(25));
        assert!(collected.may_have_deleted(other, Hlc(30)) && !collected.may_have_deleted(other, Hlc(31)));
    }

    #[test]
    fn what_is_older_than_the_delete_of_its_own_key_was_deleted() {
        let mut collected = Collected::default();
        let (name, other) = (7 << 48, 7 << 48 | 5);
        assert!(!collected.has_deleted(name, Hlc(1)));
        collected.note(name, Hlc(20), false);
        assert_eq!([19, 20].map(|hlc| collected.has_deleted(name, Hlc(hlc))), [true, false]);
        assert!(!collected.has_deleted(other, Hlc(1)));
        collected.note(name, Hlc(25), true);
        assert!(!collected.has_deleted(name, Hlc(19)), "of a counter it may have been a part");
        collected.note(other, Hlc(30), false);
        assert!(collected.has_deleted(other, Hlc(29)) && !collected.has_deleted(name, Hlc(19)));
    }
}
