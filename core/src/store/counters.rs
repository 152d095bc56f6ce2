//! How counters merge: what stands and what comes are joined, and the whole is written back.

use super::entry::Entry;
use super::expiry::next_due;
use super::{Books, Merged, OriginsFull, Place, Slot, Store, parts, state};
use crate::counter::{Counter, Part};
use crate::name;
use crate::record::Record;
use crate::retired::Folds;
use crate::version::OriginId;

/// What [`Store::fold`] did in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folding {
    /// Entries looked at.
    pub(crate) looked_at: usize,
    /// Parts that were folded.
    pub(crate) folded: usize,
    /// Some that could be cannot be yet.
    pub(crate) left: bool,
}

impl Store {
    /// As [`merge`](Self::merge), for `news`, which is what `record` says of a counter or a part of it; `entry` tells
    /// what the ledger says of an origin.
    pub(crate) fn merge_counter(
        &mut self,
        record: &Record<'_>,
        news: Counter<'_>,
        entry: impl Fn(OriginId) -> Option<Folds>,
    ) -> Result<Merged, OriginsFull> {
        self.join_at(self.place(record.key), record, news, entry)
    }

    /// Folds what `foldable` names an entry of the ledger for in the counters of `slot`. Neither the digest nor what
    /// anybody reads changes.
    pub(crate) fn fold(&mut self, slot: u16, foldable: impl Fn(&Part) -> Option<Folds>) -> Folding {
        let mut folding = Folding::default();
        self.settle(slot);
        if self.kinds[usize::from(slot)].counters == 0 {
            return folding;
        }
        let mut keys = Vec::new();
        for entry in self.slots[usize::from(slot)].table.iter() {
            folding.looked_at += 1;
            let record = self.origins.record(entry);
            if record.is_counter && Counter::of(&record).parts.iter().any(|part| foldable(part).is_some()) {
                keys.push(record.key.to_vec());
            }
        }
        for key in keys {
            let place = self.place(&key);
            let Some(record) = self.get_at(place, &key) else { continue };
            // A copy: the entry that the record borrows from is overwritten.
            let cell = record.value.map(<[u8]>::to_vec);
            let record = Record { key: &key, value: cell.as_deref(), ..record };
            let mut folded = Counter::of(&record);
            let parts: Vec<_> = folded.parts.iter().filter_map(|part| Some((part.origin, foldable(part)?))).collect();
            let count = folded.fold(&foldable);
            let entry = |origin| parts.iter().find(|(of, _)| *of == origin).map(|(_, folds)| *folds);
            match self.join_at(place, &record, folded, entry) {
                Ok(Merged::Won { .. }) => folding.folded += count,
                // Its base may still end; or there is no room for an origin, and it stays as it is.
                Ok(Merged::Lost { .. } | Merged::Same) | Err(OriginsFull) => folding.left = true,
            }
        }
        folding
    }

    /// Merges `news`, which is what `record` says or a part of it, with the entry that stands, if there is one.
    /// A [floor](super::floors) counts as a delete of its version, and no entry is left of that alone.
    pub(super) fn join_at(
        &mut self,
        place: Place,
        record: &Record<'_>,
        news: Counter<'_>,
        entry: impl Fn(OriginId) -> Option<Folds>,
    ) -> Result<Merged, OriginsFull> {
        self.settle(place.slot);
        let (stands, floor) = (self.get_at(place, record.key), self.floor_over(record.key));
        let cover = self.cover(record.key);
        let mut whole = stands.as_ref().map(Counter::of).unwrap_or_default();
        whole.join(news, entry);
        if let Some(floor) = floor {
            whole.join(Counter::below(floor), |_| None);
            if stands.is_none() && whole.is_below(floor) {
                return Ok(Merged::Lost { to: floor });
            }
        }
        if let Some(cover) = cover {
            whole.reset(cover);
        }
        // A copy: the entry that the counter borrows from is overwritten.
        let (mut text, mut copy) = (Vec::new(), Vec::new());
        let over = stands.map(|stands| stands.version);
        let Some(joined) = whole.record(record.key, &mut text).filter(|joined| stands.as_ref() != Some(joined)) else {
            return Ok(over.or(cover).map_or(Merged::Same, |to| Merged::Lost { to }));
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
        if self.totals.indexed > 0 && !name::is_element(record.key) {
            self.take_covered(record.key, &mut |_| {});
        }
        Ok(Merged::Won { over })
    }

    /// Puts `record` in the place of whatever stands there.
    pub(super) fn put_at(&mut self, place: Place, record: &Record<'_>) -> Result<(), OriginsFull> {
        let Self { slots, kinds, crowds, spaces, dues, origins, census, totals, .. } = self;
        let parts = parts(record, origins.intern(record.version.origin)?);
        let Slot { table, digest, due, .. } = &mut slots[usize::from(place.slot)];
        let mut books = Books::of(place.slot, digest, (kinds, crowds), census, totals);
        let mut was = None;
        match table.find_mut(place.hash, record.key) {
            Some(entry) => {
                let stands = origins.record(entry);
                was = Some(state(&stands));
                books.leave(&stands, entry);
                entry.overwrite(&parts);
                books.enter(record, entry);
            }
            None => {
                let entry = Entry::new(place.hash, &parts);
                spaces[usize::from(place.slot)] |= super::floors::spaces_of(record.key);
                books.enter(record, &entry);
                books.totals.table_bytes += table.insert(entry);
            }
        }
        let next = next_due(record, books.census.cut(place.slot));
        *due = (*due).min(next);
        dues.note(place.slot, next);
        if name::is_element(record.key) {
            self.note_element(place, record.key, (was, Some(state(record))), record.version.hlc);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::counter::{Base, BaseValue, Count, Part};
    use crate::retired::Mark;
    use crate::store::slot_of;
    use crate::store::tests::shuffled;
    use crate::time::WallMs;
    use crate::version::{Hlc, OriginId, Version};

    /// Some 300 seconds, so that cuts and the freeing of what has ended come in between.
    const WALL_MS_MAX: u64 = 300_000;

    /// In a slot that a walk is through with after its first step, and not after its last.
    /// Of one of the first slots, which a walk has moved after one step.
    const KEY: &[u8] = b"visits";

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
            let mut counter = Counter { base: (self.base > 0).then(|| base(self.base)), ..Counter::default() };
            if let Some((origin, hlc)) = self.added {
                let part = part(origin, hlc);
                let seen = counter.base.is_none_or(|base| base.version < Version { hlc: part.since, ..part.version() });
                counter.parts.extend(seen.then_some(part));
            }
            let mut text = Vec::new();
            if let Some(record) = counter.record(KEY, &mut text) {
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
        store.get(KEY).as_ref().map(Counter::of).unwrap_or_default().count_at(WallMs(wall))
    }

    /// What the ledger says: the runs 2 and 1 were retired in one era, and 3 in another.
    fn entry(origin: OriginId) -> Option<Folds> {
        let number = [2, 1, 3][usize::try_from(origin.0).ok()?.checked_sub(1)?];
        Some(Folds { era: Mark { len: if number < 3 { 1 } else { 3 }, hash: 7 }, number, after: Hlc::ZERO })
    }

    /// Folds all parts of runs with numbers up to `number`, which is right once no older base can come any more.
    fn fold(store: &mut Store, number: u32) -> Folding {
        let foldable = |part: &Part| entry(part.origin).filter(|entry| entry.number <= number);
        store.fold(slot_of(KEY), foldable)
    }

    /// Merges what `from` has into `to`, as a sweep does.
    fn sweep(from: &Store, to: &mut Store) {
        if let Some(record) = from.get(KEY) {
            to.merge_counter(&record, Counter::of(&record), entry).unwrap();
        }
    }

    proptest! {
        #[test]
        fn what_is_folded_adds_up_and_is_reset_as_before(
            (steps, later) in (steps(), steps()),
            (number, more) in (0..4_u32, 0..4_u32),
            wall in 0..WALL_MS_MAX,
        ) {
            // All that comes later was stamped after what is folded; parts that go on are of runs that have not ended.
            let goes_on = |origin| entry(OriginId(origin)).is_some_and(|entry| entry.number > number);
            let is_later = |step: &Step| step.added.is_none_or(|(origin, _)| goes_on(origin));
            let later = later.into_iter().map(|Step { base, added }| {
                let base = if base > 0 { base + 25 } else { 0 };
                Step { base, added: added.map(|(origin, hlc)| (origin, hlc + 27)) }
            });
            let later: Vec<Step> = later.filter(is_later).collect();
            let (mut plain, mut whole) = (Store::new([1, 2]), Store::new([9, 10]));
            let (mut folded, mut fresh) = (Store::new([3, 4]), Store::new([5, 6]));
            for store in [&mut plain, &mut whole, &mut folded] {
                steps.iter().for_each(|step| step.merge_into(store));
                expire_at(store, wall);
            }
            fold(&mut folded, number.min(more));
            fold(&mut folded, number);
            let digests = |stores: [&Store; 3]| stores.map(|store| (store.digest(), store.keys()));
            expire_at(&mut fresh, wall);
            sweep(&folded, &mut fresh);
            prop_assert_eq!(digests([&plain, &folded, &fresh]), [(plain.digest(), plain.keys()); 3]);
            prop_assert_eq!(count(&folded, wall), count(&plain, wall));
            // One that has not folded meets them all, in every order, and what is written next.
            let mut met = Store::new([7, 8]);
            expire_at(&mut met, wall);
            for (at, step) in later.iter().enumerate() {
                if at == later.len() / 2 {
                    [&plain, &folded, &fresh, &plain].into_iter().for_each(|store| sweep(store, &mut met));
                }
                let all = [&mut plain, &mut whole, &mut folded, &mut fresh, &mut met];
                all.into_iter().for_each(|store| step.merge_into(store));
            }
            [&fresh, &plain].into_iter().for_each(|store| sweep(store, &mut met));
            sweep(&plain, &mut folded);
            sweep(&folded, &mut plain);
            for wall in [wall, wall + 30_000, WALL_MS_MAX * 4] {
                for store in [&mut plain, &mut whole, &mut folded, &mut fresh, &mut met] {
                    expire_at(store, wall);
                }
                prop_assert_eq!([&plain, &folded, &met].map(|store| count(store, wall)), [count(&whole, wall); 3]);
                prop_assert_eq!(digests([&folded, &fresh, &met]), [(whole.digest(), whole.keys()); 3]);
            }
        }

        #[test]
        fn the_sums_at_the_last_cut_are_exact_until_the_walk_is_over(
            (steps, later) in (steps(), steps()),
            ahead in 10_000..WALL_MS_MAX,
        ) {
            let (mut moving, mut still) = (Store::new([1, 2]), Store::new([3, 4]));
            for store in [&mut moving, &mut still] {
                steps.iter().for_each(|step| step.merge_into(store));
            }
            // Its clock jumps ahead, and comes back when the walk has passed the key and not all slots.
            prop_assert!(moving.expire(WallMs(ahead)) && moving.census.cut(slot_of(KEY)) > moving.digest().1);
            let totals = |store: &Store| (store.digest(), store.keys());
            for step in &later {
                prop_assert_eq!(totals(&moving), totals(&still));
                [&mut moving, &mut still].into_iter().for_each(|store| step.merge_into(store));
            }
            prop_assert_eq!(totals(&moving), totals(&still));
        }

        #[test]
        fn every_order_adds_up_to_the_same(steps in steps(), order in any::<u64>(), expire in 0..WALL_MS_MAX) {
            let shuffled = shuffled(&steps, order);
            let (mut one, mut other) = (Store::new([1, 2]), Store::new([3, 4]));
            for step in &steps {
                step.merge_into(&mut one);
            }
            for (at, step) in shuffled.iter().enumerate() {
                // Again and again, and with the base ended in between.
                step.merge_into(&mut other);
                if at == steps.len() / 2 {
                    expire_at(&mut other, expire);
                }
                shuffled[..at].iter().for_each(|step| step.merge_into(&mut other));
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
