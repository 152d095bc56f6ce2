//! Many merges at once: what each of them looks at is far apart in memory, and waiting for one after the other takes
//! most of their time.

use std::cell::Cell;
use std::hint::black_box;

use super::entry::Entry;
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
    /// Reads what the merges of these keys are going to read, each step for all of them before the next, so that the
    /// processor waits for all at once, and keeps where they belong. Means nothing but time.
    pub(crate) fn warm(&mut self, keys: &[impl AsRef<[u8]>]) {
        (self.warmed.count, self.warmed.next) = (0, Cell::new(0));
        let keys = keys.iter().take(WARM_KEYS).map(AsRef::as_ref).filter(|key| !key.is_empty());
        for key in keys {
            let place = self.find_place(key);
            let Warmed { kept, count, .. } = &mut self.warmed;
            kept[*count] = Kept::new(key, place);
            *count += 1;
        }
        // A processor waits for as many reads as are within its next few hundred instructions: hashing is not among
        // them, and neither is anything else that can be done before or behind.
        let slot = |kept: &Kept| &self.slots[usize::from(kept.place.slot)];
        let kept = &self.warmed.kept[..self.warmed.count];
        let mut read = 0;
        kept.iter().for_each(|kept| read ^= slot(kept).newest.0);
        kept.iter().for_each(|kept| read ^= u64::from(slot(kept).table.is_taken(kept.place.hash)));
        black_box(read);
        let mut entries = [None; WARM_KEYS];
        for (entry, kept) in entries.iter_mut().zip(kept) {
            *entry = slot(kept).table.find_any(kept.place.hash);
        }
        touch(entries.iter().flatten().copied());
    }
}

/// Reads where each entry begins, and then where each ends.
pub(super) fn touch<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) {
    let mut read = 0;
    entries.clone().for_each(|entry| read ^= entry.parts().hlc.0);
    for entry in entries {
        read ^= u64::from(entry.parts().value.and_then(<[u8]>::last).copied().unwrap_or(0));
    }
    // What is read and not used would not be read.
    black_box(read);
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
