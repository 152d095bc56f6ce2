//! What a sweep finds obsolete: what its sender knew, and holds no more, because it was deleted and that is forgotten.
//!
//! It goes when the sweep is whole, and not before. Up to then only the sender knows of the delete. If this node let go
//! of an entry on the word of one who dies before it is done, it would go on claiming what it neither holds nor knows
//! to be deleted: whoever else has that entry, or gets it out of this node's tail, keeps it, no sweep is due between
//! the two, and scrubbing finds that they differ.
//! (`sim/regressions/dropped-on-the-word-of-who-died-before-it-was-done`, and `-and-handed-on-by-the-tail`)

use crate::origins::Known;
use crate::replica::Replica;
use crate::store::key_name;
use crate::wire::peer::NamesView;

/// What the keys that wait for the end of a sweep may take: some 13,000 of 16 bytes, which are taken out in a few
/// milliseconds then. What comes above that goes at once: should the sweep be cut, and all who knew of the deletes be
/// gone, it is left to scrubbing.
const OBSOLETE_BYTES_MAX: usize = 512 << 10;

/// What a key takes besides its own bytes.
const KEY_BYTES: usize = size_of::<Box<[u8]>>() + size_of::<usize>();

/// The keys of what a sweep under way has found obsolete.
#[derive(Debug, Default)]
pub(crate) struct Obsolete {
    keys: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Obsolete {
    /// False if there is no room.
    fn add(&mut self, key: &[u8]) -> bool {
        let bytes = self.bytes + KEY_BYTES + key.len();
        let has_room = bytes <= OBSOLETE_BYTES_MAX;
        if has_room {
            self.keys.push(key.into());
            self.bytes = bytes;
        }
        has_room
    }
}

impl Replica {
    /// Notes what of `slot` the sender of a sweep knew (`claims`) and no longer holds under any version. What finds no
    /// room goes at once; how many entries.
    pub(crate) fn reconcile(
        &mut self,
        slot: u16,
        claims: &Known,
        held: &NamesView<'_>,
        obsolete: &mut Obsolete,
    ) -> usize {
        let Self { store, origins, .. } = self;
        let mut found = Vec::new();
        store.visit(slot, |record| {
            // Of a counter any part may be known.
            let is_known = record.is_counter || claims.covers(record.version, origins.retired());
            if is_known && !held.contains(key_name(record.key)) {
                found.push(record.key.to_vec());
            }
        });
        // Which find room must not depend on the table's history.
        found.sort_unstable();
        found.retain(|key| !obsolete.add(key));
        found.iter().filter(|key| self.let_go_of(key, claims)).count()
    }

    /// The sweep is whole: takes out what it has found obsolete and nobody has written since; how many entries.
    pub(crate) fn let_go(&mut self, obsolete: Obsolete, claims: &Known) -> usize {
        obsolete.keys.iter().filter(|key| self.let_go_of(key, claims)).count()
    }

    /// Whether nothing is left of `key` once what `claims` cover of it is gone, and something was.
    fn let_go_of(&mut self, key: &[u8], claims: &Known) -> bool {
        let Some(stands) = self.store.get(key) else { return false };
        if stands.is_counter {
            self.strip_counter(key, claims);
            return self.store.get(key).is_none();
        }
        let goes = claims.covers(stands.version, self.origins.retired());
        if goes {
            // All that is older of this key is deleted, too.
            // (`sim/regressions/came-back-after-a-sweep-had-let-go-of-the-delete`)
            self.collected.note(key_name(key), stands.version.hlc, false);
            self.store.take_out(key);
            self.log_replaced(key);
            self.feed_change(key);
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, next_frame};
    use crate::replica::Exposure;
    use crate::store::SLOTS;
    use crate::time::Mono;
    use crate::version::{Hlc, OriginId, Version};
    use crate::wire::peer::{Frame, emit_sweep_held, parse};

    fn put(replica: &mut Replica, key: &[u8], hlc: u64) {
        let version = Version { hlc: Hlc(hlc), origin: OriginId(9) };
        let record = Record { key, value: Some(b"v"), is_counter: false, deadline: None, version };
        assert!(replica.take(Mono(0), &record, None).is_ok());
    }

    #[test]
    fn what_is_obsolete_goes_at_the_end_as_far_as_there_is_room_to_note_it() {
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, Mono(0));
        let long = |n: u8| vec![n; OBSOLETE_BYTES_MAX / 8];
        (0..10).for_each(|n| put(&mut replica, &long(n), 40));
        put(&mut replica, b"new", 60);
        put(&mut replica, b"held", 40);
        let mut claims = Known::default();
        claims.claims.raise(OriginId(9), Hlc(50));
        let mut frame = Vec::new();
        emit_sweep_held(1, (0, SLOTS), &[key_name(b"held")], &mut frame);
        let body = next_frame(&frame, 1 << 10).expect("a frame").expect("all of it");
        let Some(Frame::SweepHeld { names, .. }) = parse(body) else { panic!("what a sender holds") };
        replica.feed.keep();
        let mut obsolete = Obsolete::default();
        let at_once: usize = (0..SLOTS).map(|slot| replica.reconcile(slot, &claims, &names, &mut obsolete)).sum();
        assert_eq!((at_once, obsolete.keys.len(), replica.store.keys()), (3, 7, 9));
        // One of them is written anew before the sweep ends.
        let again = obsolete.keys[0].clone();
        put(&mut replica, &again, 70);
        assert_eq!((replica.let_go(obsolete, &claims), replica.store.keys()), (6, 3));
        assert!([&again[..], b"new", b"held"].iter().all(|key| replica.store.get(key).is_some()));
        assert_eq!(replica.feed.len(), 3 + 1 + 6, "who watches hears of each");
    }
}
