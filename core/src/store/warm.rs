//! Many merges at once: what each of them looks at is far apart in memory, and waiting for one after the other takes
//! most of their time.

use std::hint::black_box;

use super::entry::{Entry, Parts};
use super::{Place, Store};

/// Keys whose lookups wait for memory beside each other: more than a processor has under way at a time.
pub(crate) const WARM_KEYS: usize = 32;

impl Store {
    /// Reads what the merges of these keys are going to read, each step for all of them before the next, so that the
    /// processor waits for all at once. Changes nothing, and means nothing but time.
    pub(crate) fn warm(&self, keys: &[impl AsRef<[u8]>]) {
        let mut places = [Place { slot: 0, hash: 0 }; WARM_KEYS];
        let mut count = 0;
        let mut read = 0;
        for (place, key) in places.iter_mut().zip(keys) {
            *place = self.place(key.as_ref());
            let slot = usize::from(place.slot);
            read ^= self.slots[slot].newest.0 ^ u64::from(self.kinds[slot].graves);
            count += 1;
        }
        let mut entries = [None; WARM_KEYS];
        for (entry, place) in entries.iter_mut().zip(&places[..count]) {
            *entry = self.slots[usize::from(place.slot)].table.find_any(place.hash);
        }
        black_box(read);
        touch(entries.iter().flatten().copied());
    }
}

/// Reads where each entry begins and ends.
pub(super) fn touch<'a>(entries: impl Iterator<Item = &'a Entry>) {
    let mut read = 0;
    for entry in entries {
        let Parts { hlc, value, .. } = entry.parts();
        read ^= hlc.0 ^ u64::from(value.and_then(<[u8]>::last).copied().unwrap_or(0));
    }
    // What is read and not used would not be read.
    black_box(read);
}
