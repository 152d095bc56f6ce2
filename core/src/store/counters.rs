//! How counters merge: what stands and what comes are joined, and the whole is written back.

use super::entry::Entry;
use super::expiry::next_due;
use super::{Books, Merged, OriginsFull, Place, Slot, Store, parts, slot_of};
use crate::counter::Counter;
use crate::record::Record;
use crate::version::Version;

impl Store {
    /// As [`merge`](Self::merge), for a counter. Of what `is_known` nothing is taken: it was merged before, and what is
    /// not here any more of it was deleted and collected since.
    pub(crate) fn merge_counter(
        &mut self,
        record: &Record<'_>,
        is_known: impl Fn(Version) -> bool,
    ) -> Result<Merged, OriginsFull> {
        let mut news = Counter::of(record);
        news.leave_out(is_known);
        self.join_at(self.place(record.key), record, news)
    }

    /// Takes the entry of `key` out.
    pub(crate) fn take_out(&mut self, key: &[u8]) {
        self.remove(slot_of(key), |record| record.key == key);
    }

    /// Merges `news`, which is what `record` says or a part of it, with the entry that stands, if there is one.
    pub(super) fn join_at(
        &mut self,
        place: Place,
        record: &Record<'_>,
        news: Counter<'_>,
    ) -> Result<Merged, OriginsFull> {
        let stands = self.get_at(place, record.key);
        let mut whole = stands.as_ref().map(Counter::of).unwrap_or_default();
        whole.join(news);
        // A copy: the entry that the counter borrows from is overwritten.
        let (mut text, mut copy) = (Vec::new(), Vec::new());
        let over = stands.map(|stands| stands.version);
        let Some(joined) = whole.record(record.key, &mut text).filter(|joined| stands.as_ref() != Some(joined)) else {
            return Ok(over.map_or(Merged::Same, |to| Merged::Lost { to }));
        };
        let value = joined.value.map(|value| {
            copy.extend_from_slice(value);
            &*copy
        });
        let (is_counter, deadline, version) = (joined.is_counter, joined.deadline, joined.version);
        let joined = Record { key: record.key, value, is_counter, deadline, version };
        self.put_at(place, &joined)?;
        let slot = &mut self.slots[usize::from(place.slot)];
        slot.newest = slot.newest.max(record.version.hlc);
        Ok(Merged::Won { over })
    }

    /// Puts `record` in the place of whatever stands there.
    fn put_at(&mut self, place: Place, record: &Record<'_>) -> Result<(), OriginsFull> {
        let Self { slots, graves, origins, census, totals, .. } = self;
        let parts = parts(record, origins.intern(record.version.origin)?);
        let Slot { table, digest, due, .. } = &mut slots[usize::from(place.slot)];
        let graves = &mut graves[usize::from(place.slot)];
        let mut books = Books { slot: place.slot, digest, graves, census, totals };
        match table.find_mut(place.hash, record.key) {
            Some(entry) => {
                books.leave(&origins.record(entry), entry);
                entry.overwrite(&parts);
                books.enter(record, entry);
            }
            None => {
                let entry = Entry::new(place.hash, &parts);
                books.enter(record, &entry);
                books.totals.table_bytes += table.insert(entry);
            }
        }
        *due = (*due).min(next_due(record, books.census.cut(place.slot)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::counter::{Base, BaseValue, Count, Part};
    use crate::time::WallMs;
    use crate::version::{Hlc, OriginId};

    /// Some 300 seconds, so that cuts and the freeing of what has ended come in between.
    const WALL_MS_MAX: u64 = 300_000;

    /// What a record says is a matter of its version alone, as in a cluster.
    fn base(hlc: u64) -> Base<'static> {
        let (version, deadline) = (Version { hlc: at(hlc), origin: OriginId(1 + hlc % 3) }, hlc % 4);
        let deadline = (deadline > 1).then(|| WallMs(hlc * 10_000 + deadline * 17_000));
        let value = match hlc % 5 {
            0 => BaseValue::Nothing,
            1 => BaseValue::Text(b"text"),
            _ => BaseValue::Integer(hlc as i64 * 1_000),
        };
        Base { version, deadline, value }
    }

    /// The part of `origin` when it added for the `hlc`-th time: it began anew at every third.
    fn part(origin: u64, hlc: u64) -> Part {
        Part { origin: OriginId(origin), hlc: at(hlc), since: at(hlc - hlc % 3), total: i128::from(hlc % 3 + 1) }
    }

    fn at(hlc: u64) -> Hlc {
        Hlc::at(WallMs(hlc * 10_000))
    }

    /// A write, or an increment of what its writer saw.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        base: u64,
        added: Option<(u64, u64)>,
    }

    impl Step {
        fn merge_into(self, store: &mut Store) {
            let mut counter = Counter { base: (self.base > 0).then(|| base(self.base)), parts: Vec::new() };
            if let Some((origin, hlc)) = self.added {
                let part = part(origin, hlc);
                let seen = counter.base.is_none_or(|base| base.version < Version { hlc: part.since, ..part.version() });
                counter.parts.extend(seen.then_some(part));
            }
            let mut text = Vec::new();
            if let Some(record) = counter.record(b"key", &mut text) {
                let mut bytes = Vec::new();
                let framed = crate::Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record };
                crate::encode(&framed, &mut bytes);
                let body = crate::next_frame(&bytes, 1 << 16).unwrap().unwrap();
                store.merge(&crate::decode(body).unwrap().record).unwrap();
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..20_u64, proptest::option::of((1..4_u64, 3..25_u64)));
        proptest::collection::vec(step.prop_map(|(base, added)| Step { base, added }), 1..12)
    }

    fn expire_at(store: &mut Store, wall: u64) {
        while store.expire(WallMs(wall)) {}
    }

    fn count(store: &Store, wall: u64) -> Count {
        store.get(b"key").as_ref().map(Counter::of).unwrap_or_default().count_at(WallMs(wall))
    }

    proptest! {
        #[test]
        fn every_order_adds_up_to_the_same(steps in steps(), order in any::<u64>(), expire in 0..WALL_MS_MAX) {
            let mut shuffled: Vec<(u64, Step)> = steps
                .iter()
                .enumerate()
                .map(|(at, step)| (order.wrapping_mul(at as u64 * 2 + 1).rotate_left(at as u32), *step))
                .collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let (mut one, mut other) = (Store::new([1, 2]), Store::new([3, 4]));
            for step in &steps {
                step.merge_into(&mut one);
            }
            for (at, (_, step)) in shuffled.iter().enumerate() {
                // Again and again, and with the base ended in between.
                step.merge_into(&mut other);
                if at == steps.len() / 2 {
                    expire_at(&mut other, expire);
                }
                shuffled[..at].iter().for_each(|(_, step)| step.merge_into(&mut other));
            }
            for wall in [expire, expire + 30_000, WALL_MS_MAX * 2] {
                expire_at(&mut one, wall);
                expire_at(&mut other, wall);
                prop_assert_eq!(count(&one, wall), count(&other, wall));
                let live = |store: &Store| (store.digest(), store.keys());
                prop_assert_eq!(live(&one), live(&other));
            }
        }

        #[test]
        fn what_is_freed_was_not_read(steps in steps(), wall in 0..WALL_MS_MAX) {
            let mut store = Store::new([1, 2]);
            steps.iter().for_each(|step| step.merge_into(&mut store));
            let before = count(&store, wall);
            expire_at(&mut store, wall);
            prop_assert_eq!(count(&store, wall), before);
        }
    }
}
