//! Many merges at once: what each of them looks at is far apart in memory, and waiting for one after the other takes
//! most of their time.

use std::cell::Cell;

use super::entry::Entry;
use super::prefetch::prefetch;
use super::{Place, Store};
use crate::short::pack_long;

/// Keys whose lookups wait for memory beside each other: more than a processor has under way at a time.
pub(crate) const WARM_KEYS: usize = 32;

/// Where keys that were warmed belong. Their commands come in the same order and ask for it again, some more than once:
/// comparing the keys takes less than hashing them.
pub(super) struct Warmed {
    kept: [Kept; WARM_KEYS],
    count: usize,
    /// The one behind the last that was asked for.
    next: Cell<usize>,
}

#[derive(Clone, Copy)]
struct Kept {
    /// The key; longer ones than can be packed are kept as one of no bytes, and not found.
    packed: [u64; 3],
    bytes: u8,
    place: Place,
}

impl Warmed {
    pub(super) const fn new() -> Self {
        let kept = Kept { packed: [0; 3], bytes: 0, place: Place { slot: 0, hash: 0 } };
        Self { kept: [kept; WARM_KEYS], count: 0, next: Cell::new(0) }
    }

    /// Where `key` belongs, if it is the one behind that which was asked for last, or that one.
    #[inline]
    pub(super) fn place(&self, key: &[u8]) -> Option<Place> {
        let next = self.next.get();
        let kept = &self.kept[..self.count];
        let Some(packed) = pack_long(key).filter(|_| !key.is_empty()) else {
            self.next.set(next + usize::from(kept.get(next).is_some_and(|kept| kept.bytes == 0)));
            return None;
        };
        let is = |kept: &Kept| kept.packed == packed && usize::from(kept.bytes) == key.len();
        if kept.get(next).is_some_and(is) {
            self.next.set(next + 1);
            return Some(kept[next].place);
        }
        let last = kept.get(next.checked_sub(1)?)?;
        is(last).then_some(last.place)
    }
}

impl Kept {
    #[inline]
    fn new(key: &[u8], place: Place) -> Self {
        match pack_long(key) {
            Some(packed) => Self { packed, bytes: key.len() as u8, place },
            None => Self { packed: [0; 3], bytes: 0, place },
        }
    }
}

impl Store {
    /// Asks memory for what commands and merges of these keys are going to read, each step for all of them before the
    /// next, which needs what the one before has asked for; and keeps where they belong. Means nothing but time.
    pub(crate) fn warm(&mut self, keys: &[impl AsRef<[u8]>]) {
        (self.warmed.count, self.warmed.next) = (0, Cell::new(0));
        let keys = keys.iter().take(WARM_KEYS).map(AsRef::as_ref).filter(|key| !key.is_empty());
        for key in keys {
            let place = self.find_place(key);
            prefetch(&raw const self.slots[usize::from(place.slot)]);
            let Warmed { kept, count, .. } = &mut self.warmed;
            kept[*count] = Kept::new(key, place);
            *count += 1;
        }
        let places = || self.warmed.kept[..self.warmed.count].iter().map(|kept| kept.place);
        let table = |place: Place| &self.slots[usize::from(place.slot)].table;
        places().for_each(|place| table(place).prefetch(place.hash));
        places().filter_map(|place| table(place).find_any(place.hash)).for_each(Entry::prefetch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::short::LONG_BYTES;

    #[test]
    fn a_warmed_key_belongs_where_it_did() {
        let (mut store, cold) = (Store::new([1, 2]), Store::new([1, 2]));
        let of = |store: &Store, key: &[u8]| {
            let Place { slot, hash } = store.place(key);
            (slot, hash)
        };
        let long = [b'k'; LONG_BYTES + 1];
        let keys: [&[u8]; 8] = [b"a", b"", &long[1..], &long, b"b", b"b", b"ab", b"\xff\x20\x01\0h"];
        for warmed in [&keys[..], &keys[4..6], &[]] {
            store.warm(warmed);
            assert_eq!(store.warmed.count, warmed.iter().filter(|key| !key.is_empty()).count());
            // In their order, each twice; some left out; any way at all.
            let asked = keys.iter().chain(&keys).chain(keys.iter().step_by(3)).chain(keys.iter().rev());
            for key in asked.flat_map(|key| [key, key]) {
                assert_eq!(of(&store, key), of(&cold, key), "{key:?}");
            }
        }
        store.warm(&keys[..1]);
        assert!(store.warmed.place(b"a").is_some() && store.warmed.place(b"b").is_none());
        // What cannot be kept is passed.
        store.warm(&[&b"a"[..], &long, b"", b"b"]);
        for (key, is_kept) in [(&b"a"[..], true), (&long, false), (b"b", true), (b"b", true), (b"a", false)] {
            assert_eq!(store.warmed.place(key).is_some(), is_kept, "{key:?}");
        }
    }
}
