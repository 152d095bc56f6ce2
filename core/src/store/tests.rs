//! The store against its contracts: the laws of merging, a model with its counts recomputed from nothing after every
//! step, and walks that are resumed while the slot changes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::census::fingerprint;
use super::*;
use crate::name::SPACES;
use crate::version::OriginId;

/// Long enough that both the cut and the freeing pass, short enough that deadlines meet.
const WALL_MS_MAX: u64 = 200_000;

/// A write as a test draws it; what was written follows from its name, as it does in a cluster.
#[derive(Clone, Copy, Debug)]
struct Write {
    key: u8,
    hlc: u64,
    origin: u64,
    /// Another node had freed the value before it sent the record, if it has a deadline.
    freed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    version: Version,
    deadline: Option<WallMs>,
    value: Option<Vec<u8>>,
}

type Dump = BTreeMap<Vec<u8>, Held>;

impl Write {
    fn key(&self) -> Vec<u8> {
        vec![self.key; usize::from(self.key)]
    }

    fn held(&self) -> Held {
        let mut rand = crate::rand::Rand::new([self.key.into(), self.hlc, self.origin, 0]);
        let value = vec![self.hlc as u8; rand.below(200) as usize];
        let version = Version { hlc: Hlc(self.hlc), origin: OriginId(self.origin) };
        match rand.below(4) {
            0 => Held { version, deadline: None, value: None },
            1 => Held { version, deadline: None, value: Some(value) },
            _ => {
                let deadline = Some(WallMs(rand.below(WALL_MS_MAX)));
                Held { version, deadline, value: Some(value).filter(|_| !self.freed) }
            }
        }
    }

    /// Few slots, far apart, so that a walk's steps end between them, and few hashes, so that they collide.
    fn place(&self) -> Place {
        Place { slot: u16::from(self.key % 4) * 5_000, hash: u32::from(self.key % 6) }
    }

    fn merge_into(&self, store: &mut Store) -> Result<Merged, OriginsFull> {
        let (key, held) = (self.key(), self.held());
        let stood = store.get_at(self.place(), &key).map(|stands| (stands.version, stands.value.map(<[u8]>::to_vec)));
        let mut met = None;
        let merged = store.merge_at(self.place(), &held.record(&key), &mut |stands| {
            met = Some((stands.version, stands.value.map(<[u8]>::to_vec)));
        })?;
        assert_eq!(met, stood.filter(|(version, _)| *version != held.version), "whole, and once");
        Ok(merged)
    }
}

impl Held {
    fn record<'a>(&'a self, key: &'a [u8]) -> Record<'a> {
        Record { key, value: self.value.as_deref(), is_counter: false, deadline: self.deadline, version: self.version }
    }
}

fn write() -> impl Strategy<Value = Write> {
    (0..24_u8, 1..12_u64, 1..4_u64, any::<bool>()).prop_map(|(key, hlc, origin, freed)| Write {
        key,
        hlc,
        origin,
        freed,
    })
}

fn dump(store: &Store) -> Dump {
    let mut dump = Dump::new();
    for slot in 0..SLOTS {
        let done = store.walk(slot, None, usize::MAX, &mut |record| {
            let held =
                Held { version: record.version, deadline: record.deadline, value: record.value.map(<[u8]>::to_vec) };
            dump.insert(record.key.to_vec(), held).is_none()
        });
        assert_eq!(done, None, "a key has one entry");
    }
    dump
}

/// The same in another order, which `order` says.
pub(super) fn shuffled<T: Copy>(steps: &[T], order: u64) -> Vec<T> {
    let place = |at: usize| order.wrapping_mul(at as u64 * 2 + 1).rotate_left(at as u32);
    let mut placed: Vec<(u64, T)> = steps.iter().enumerate().map(|(at, step)| (place(at), *step)).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, step)| step).collect()
}

/// Recomputes from nothing all that the store keeps count of.
fn check(store: &Store) {
    let (mut digest, mut keys, mut expiring, mut tombstones, mut husks, mut entries) = (0_u128, 0, 0, 0, 0, 0);
    let mut crowds = [0; (SLOTS / SLOTS_AT_ONCE) as usize];
    for slot in 0..SLOTS {
        let (mut own, mut graves, mut counters, mut own_husks) = (0_u128, 0, 0, 0);
        store.walk(slot, None, usize::MAX, &mut |record| {
            let tombstone = record.value.is_none() && record.deadline.is_none();
            let counts_at = |cut| !tombstone && record.deadline.is_none_or(|deadline| deadline > cut);
            if counts_at(store.census.cut(slot)) {
                own = own.wrapping_add(fingerprint(record));
            }
            if counts_at(store.digest().1) {
                digest = digest.wrapping_add(fingerprint(record));
                keys += 1;
                expiring += u64::from(record.deadline.is_some());
            }
            tombstones += u64::from(tombstone);
            graves += u32::from(record.value.is_none());
            counters += u32::from(record.is_counter);
            husks += u64::from(record.value.is_none() && !tombstone);
            own_husks += u32::from(record.value.is_none() && !tombstone);
            entries += 1;
            assert!(record.version.hlc <= store.slot_newest(slot));
            true
        });
        assert_eq!(store.slots[usize::from(slot)].digest, own, "slot {slot}");
        let kinds = store.kinds[usize::from(slot)];
        assert_eq!((kinds.graves, kinds.counters), (graves, counters), "slot {slot}");
        assert_eq!(kinds.husks, own_husks, "slot {slot}");
        crowds[usize::from(slot / SLOTS_AT_ONCE)] += graves + counters;
        store.check_due(slot);
    }
    assert_eq!(*store.crowds, crowds);
    assert_eq!(store.totals.entries, entries);
    assert_eq!(store.digest().0, digest);
    assert_eq!((store.keys(), store.tombstones(), store.totals.husks), (keys, tombstones, husks));
    assert_eq!((0..SPACES).map(|space| store.expiring_in(space)).sum::<u64>(), expiring);
}

/// Takes out what has no value and is no newer than `stable`, here and there: nothing else may change.
fn collect_from_model(store: &mut Store, model: &mut Dump, stable: Hlc) -> Result<(), TestCaseError> {
    let digest = store.digest();
    let (mut taken, mut oldest) = (Vec::new(), None);
    for slot in 0..SLOTS {
        let graves = store.collect(slot, |version| version.hlc <= stable, |record| taken.push(record.version));
        oldest = oldest.into_iter().chain(graves.oldest).min();
    }
    let goes = |held: &Held| {
        let counts = held.deadline.is_some_and(|deadline| deadline > digest.1);
        held.value.is_none() && held.version.hlc <= stable && !counts
    };
    let mut expected: Vec<Version> = model.values().filter(|held| goes(held)).map(|held| held.version).collect();
    model.retain(|_, held| !goes(held));
    expected.sort_unstable();
    taken.sort_unstable();
    prop_assert_eq!(taken, expected);
    let tombstones = model.values().filter(|held| held.value.is_none() && held.deadline.is_none());
    prop_assert_eq!(oldest, tombstones.map(|held| held.version.hlc).min());
    prop_assert_eq!(store.digest(), digest);
    prop_assert_eq!(dump(store), model.clone());
    Ok(())
}

#[test]
fn what_was_taken_out_gives_its_memory_back() {
    let mut store = Store::new([3, 4]);
    let empty = store.memory_bytes();
    for key in 0..50_000_u32 {
        put(&mut store, &key.to_be_bytes(), 1, None);
    }
    for key in 0..50_000_u32 {
        let version = Version { hlc: Hlc(2), origin: OriginId(1) };
        store
            .merge(&Record { key: &key.to_be_bytes(), value: None, is_counter: false, deadline: None, version })
            .unwrap();
    }
    assert_eq!((store.tombstones(), store.keys()), (50_000, 0));
    for slot in 0..SLOTS {
        store.collect(slot, |_| true, |_| {});
    }
    assert_eq!((store.tombstones(), store.memory_bytes()), (0, empty));
    assert!(store.is_empty());
}

#[test]
fn what_is_taken_out_by_its_key_leaves_the_rest() {
    let mut store = Store::new([3, 4]);
    for key in 0..100_u8 {
        put(&mut store, &[key], u64::from(key), None);
    }
    let keeps = |record: &Record<'_>| record.key[0].is_multiple_of(2) || record.version.hlc > Hlc(50);
    let mut gone = Vec::new();
    (0..SLOTS).for_each(|slot| store.visit(slot, |record| gone.extend((!keeps(record)).then(|| record.key.to_vec()))));
    gone.iter().for_each(|key| store.take_out(key));
    store.take_out(b"another");
    assert_eq!((gone.len(), store.keys()), (25, 75));
    let mut names = Vec::new();
    (0..SLOTS).for_each(|slot| store.key_names(slot, &mut names));
    names.sort_unstable();
    let mut expected: Vec<u64> = dump(&store).keys().map(|key| key_name(key)).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    check(&store);
}

#[test]
fn a_step_in_which_much_expires_or_is_freed_takes_a_quarter_of_the_entries() {
    let mut store = Store::new([3, 4]);
    for key in 0..100_000_u32 {
        put(&mut store, &key.to_be_bytes(), 1, Some(15_000));
    }
    let steps = |store: &mut Store, wall| 1 + (0..).take_while(|_| store.expire(WallMs(wall))).count();
    let expired = steps(&mut store, 20_000);
    assert!((98..110).contains(&expired), "{expired} steps of some 1,000 entries each");
    assert_eq!((store.keys(), store.husks()), (0, 0));
    let freed = steps(&mut store, 80_000);
    assert!((98..110).contains(&freed), "{freed} steps of some 1,000 entries each");
    assert_eq!(store.husks(), 100_000);
}

fn merge_all<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Store {
    let mut store = Store::new([1, 2]);
    for write in writes {
        write.merge_into(&mut store).unwrap();
    }
    store
}

/// What must not depend on the order of merging.
fn state(store: &Store) -> (Dump, (u128, WallMs), u64, u64, Vec<Hlc>) {
    let newest = (0..4).map(|index| store.slot_newest(index * 5_000)).collect();
    (dump(store), store.digest(), store.keys(), store.tombstones(), newest)
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        (writes, shuffled) in prop::collection::vec(write(), 0..40)
            .prop_flat_map(|writes| (Just(writes.clone()), Just(writes).prop_shuffle()))
    ) {
        let once = merge_all(&writes);
        check(&once);
        prop_assert_eq!(state(&once), state(&merge_all(&shuffled)));
        prop_assert_eq!(state(&once), state(&merge_all(writes.iter().chain(&shuffled))));
    }

    #[test]
    fn every_step_agrees_with_the_model(
        steps in prop::collection::vec(prop_oneof![
            3 => write().prop_map(Ok),
            2 => (0..WALL_MS_MAX + 100_000).prop_map(Err),
        ], 0..60),
        stable in proptest::option::of(0_u64..6),
    ) {
        let mut store = Store::new([1, 2]);
        let mut model = Dump::new();
        let mut wall_greatest = 0;
        for step in steps {
            let cut = store.digest().1;
            match step {
                Ok(write) => {
                    let expected = merge_into_model(&mut model, &write);
                    prop_assert_eq!(write.merge_into(&mut store), Ok(expected));
                    prop_assert_eq!(store.digest().1, cut);
                }
                Err(wall) => {
                    store.expire(WallMs(wall));
                    wall_greatest = wall_greatest.max(wall);
                    prop_assert!(cut <= store.digest().1 && store.digest().1.0 <= wall_greatest);
                }
            }
            check(&store);
            follow_freed(&mut model, &dump(&store), wall_greatest);
            prop_assert_eq!(&dump(&store), &model);
            if let Some(stable) = stable {
                collect_from_model(&mut store, &mut model, Hlc(stable))?;
                check(&store);
            }
        }
        settle(&mut store, wall_greatest + 10_000);
        check(&store);
        let long_ago = |held: &Held| held.deadline.is_some_and(|at| at.0 + 60_000 <= store.digest().1.0);
        prop_assert!(dump(&store).values().all(|held| held.value.is_none() || !long_ago(held)));
    }

    #[test]
    fn a_walk_resumed_under_change_visits_every_key_once(
        before in prop::collection::vec(0..200_u8, 0..100),
        between in prop::collection::vec(prop::collection::vec((0..=255_u8, 1..9_u64), 0..12), 0..40),
        max in 1..20_usize,
        stop_every in 1..10_usize,
    ) {
        let mut store = Store::new([1, 2]);
        let put = |store: &mut Store, key: u8, hlc: u64| {
            let write = Write { key, hlc, origin: 1, freed: false };
            let place = Place { slot: 7, hash: u32::from(key).wrapping_mul(0x9e37_79b9) >> 26 };
            store.merge_at(place, &write.held().record(&[key]), &mut |_| {}).unwrap();
        };
        for key in &before {
            put(&mut store, *key, 1);
        }
        let mut visits = BTreeMap::<u8, usize>::new();
        let mut after = None;
        let mut between = between.iter();
        loop {
            let mut visited = 0;
            let next = store.walk(7, after, max, &mut |record| {
                *visits.entry(record.key[0]).or_default() += 1;
                visited += 1;
                visited % stop_every != 0
            });
            prop_assert!(next.is_none() || next > after);
            after = next;
            if after.is_none() {
                break;
            }
            for (key, hlc) in between.next().into_iter().flatten() {
                put(&mut store, *key, *hlc);
            }
        }
        prop_assert!(before.iter().all(|key| visits.contains_key(key)));
        prop_assert!(visits.values().all(|times| *times == 1));
    }
}

fn merge_into_model(model: &mut Dump, write: &Write) -> Merged {
    let new = write.held();
    let Some(stands) = model.get_mut(&write.key()) else {
        model.insert(write.key(), new);
        return Merged::Won { over: None };
    };
    let over = stands.version;
    if new.version < over {
        return Merged::Lost { to: over };
    }
    if new.version == over {
        stands.value = stands.value.take().or(new.value);
        return Merged::Same;
    }
    *stands = new;
    Merged::Won { over: Some(over) }
}

/// Lets the model lose the values that the store was allowed to free and did.
fn follow_freed(model: &mut Dump, dump: &Dump, wall_greatest: u64) {
    for (key, held) in model {
        let may_free = held.deadline.is_some_and(|deadline| deadline.0 + 60_000 <= wall_greatest);
        if may_free && dump[key].value.is_none() {
            held.value = None;
        }
    }
}

/// Walks until nothing is left to do, once for what is late in coming and once more for what that left.
fn settle(store: &mut Store, wall: u64) {
    for wall in [wall, wall + 10_000] {
        while store.expire(WallMs(wall)) {}
        assert!(store.next_expiry() > WallMs(wall));
    }
}

fn put(store: &mut Store, key: &[u8], hlc: u64, deadline: Option<u64>) -> Merged {
    let version = Version { hlc: Hlc(hlc), origin: OriginId(1) };
    store
        .merge(&Record { key, value: Some(&[7; 100]), is_counter: false, deadline: deadline.map(WallMs), version })
        .unwrap()
}

#[test]
fn many_keys_are_found_again_and_cost_what_they_hold() {
    let mut store = Store::new([3, 4]);
    let empty = store.memory_bytes();
    for key in 0..50_000_u32 {
        assert_eq!(put(&mut store, &key.to_be_bytes(), 1, None), Merged::Won { over: None });
    }
    assert!((0..50_000_u32).all(|key| store.get(&key.to_be_bytes()).is_some()));
    assert!(store.get(b"none").is_none());
    assert_eq!((empty, store.keys()), ((1 << 20) + 36 * (1 << 14) + (1 << 16), 50_000));
    assert!(store.memory_bytes() > empty + 50_000 * (128 + 8));
    check(&store);
}

#[test]
fn the_digest_depends_neither_on_the_node_nor_on_its_secret() {
    let (mut here, mut there) = (Store::new([1, 2]), Store::new([3, 4]));
    for key in 0..100_u8 {
        put(&mut here, &[key], 1, None);
        put(&mut there, &[99 - key], 1, None);
    }
    assert_eq!(here.digest(), there.digest());
    put(&mut there, &[5], 2, None);
    assert_ne!(here.digest(), there.digest());
    // Pinned: nodes of different builds compare these.
    assert_eq!((slot_of(b"123456789"), slot_of(b"")), (10_557, 0));
    let version = Version { hlc: Hlc(1), origin: OriginId(2) };
    let record = Record { key: b"key", value: Some(b"value"), is_counter: false, deadline: Some(WallMs(3)), version };
    assert_eq!(fingerprint(&record), 57_570_240_213_994_431_700_458_309_906_531_609_966);
    let record = Record { key: &[b'k'; 200], ..record };
    assert_eq!(fingerprint(&record), 263_894_464_768_355_612_109_234_053_467_590_999_903);
}

#[test]
fn the_cut_moves_in_bounded_steps_and_never_back() {
    let mut store = Store::new([1, 2]);
    for key in 0..10_000_u32 {
        put(&mut store, &key.to_be_bytes(), 1, Some(15_000));
    }
    let full = store.digest().0;
    assert!(!store.expire(WallMs(9_999)), "no cut yet");
    assert_eq!(store.next_expiry(), WallMs(10_000));
    let steps = |store: &mut Store, wall| 1 + (0..).take_while(|_| store.expire(WallMs(wall))).count();
    assert!(steps(&mut store, 10_500) >= 4, "16,384 slots are more than one step");
    assert_eq!((store.digest(), store.keys()), ((full, WallMs(10_000)), 10_000));

    assert!(store.expire(WallMs(20_000)));
    assert_eq!((store.digest(), store.keys()), ((full, WallMs(10_000)), 10_000), "exact in the middle");
    assert!(!store.expire(WallMs(19_999)), "waits for a clock that went back");
    steps(&mut store, 29_999);
    assert_eq!((store.digest(), store.keys()), ((0, WallMs(20_000)), 0));
    assert_eq!(store.get(&0_u32.to_be_bytes()).unwrap().value, Some(&[7; 100][..]), "kept until no clock can read it");
    assert!(!store.expire(WallMs(0)));

    let before = store.memory_bytes();
    assert!(steps(&mut store, 100_000_000) > 4, "a jump is one walk, and not one step");
    assert_eq!(store.digest(), (0, WallMs(100_000_000)));
    assert_eq!(before - store.memory_bytes(), 10_000 * (128 - 32), "values were freed");
    assert_eq!((store.totals.husks, store.tombstones()), (10_000, 0));
    check(&store);
}

#[test]
fn merges_beside_the_walks_cursor_are_counted_once() {
    let mut store = Store::new([1, 2]);
    // Some that expire around the end of the first step, so that the walk looks into slots there.
    for slot in 4_000..4_100 {
        let write = Write { key: 200, hlc: 1, origin: 1, freed: false };
        let held = Held { deadline: Some(WallMs(50_000)), ..write.held() };
        store.merge_at(Place { slot, hash: 0 }, &held.record(b"other"), &mut |_| {}).unwrap();
    }
    assert!(store.expire(WallMs(100_000)));
    let cursor = (0..SLOTS).find(|slot| store.census.cut(*slot) == WallMs(0)).unwrap();
    for (slot, key) in [cursor - 1, cursor, cursor + 1].into_iter().zip(0_u64..) {
        for (hlc, deadline) in [(1, 50_000), (2, 150_000), (3, 60_000)] {
            let version = Version { hlc: Hlc(hlc), origin: OriginId(1) };
            let key = [key as u8];
            let record =
                Record { key: &key, value: Some(b"v"), is_counter: false, deadline: Some(WallMs(deadline)), version };
            store.merge_at(Place { slot, hash: 0 }, &record, &mut |_| {}).unwrap();
            check(&store);
        }
    }
    assert_eq!(store.keys(), 103);
    settle(&mut store, 100_000);
    check(&store);
    assert_eq!(store.keys(), 0);
}

#[test]
fn a_husk_wins_and_loses_as_its_value_did() {
    let mut store = Store::new([1, 2]);
    put(&mut store, b"key", 5, Some(1_000));
    settle(&mut store, 200_000);
    let version = Version { hlc: Hlc(5), origin: OriginId(1) };
    let husk = Record { key: b"key", value: None, is_counter: false, deadline: Some(WallMs(1_000)), version };
    assert_eq!(store.get(b"key"), Some(husk));
    assert_eq!(put(&mut store, b"key", 4, None), Merged::Lost { to: version });
    assert_eq!(store.merge(&husk), Ok(Merged::Same));
    assert_eq!(put(&mut store, b"key", 5, Some(1_000)), Merged::Same);
    assert!(store.get(b"key").unwrap().value.is_some(), "a value that comes late is taken in");
    settle(&mut store, 300_000);
    assert_eq!(store.get(b"key"), Some(husk));
    assert_eq!(put(&mut store, b"key", 6, None), Merged::Won { over: Some(version) });
    assert_eq!((store.totals.husks, store.keys()), (0, 1));
    check(&store);
}

#[test]
fn one_origin_too_many_changes_nothing() {
    let mut store = Store::new([1, 2]);
    let record = |key, hlc, origin| Record {
        key,
        value: None,
        is_counter: false,
        deadline: None,
        version: Version { hlc: Hlc(hlc), origin: OriginId(origin) },
    };
    for origin in 1..=ORIGINS_MAX as u64 {
        store.merge(&record(b"a", origin, origin)).unwrap();
    }
    let before = (store.slot_newest(slot_of(b"a")), store.memory_bytes());
    for key in [b"a", b"b"] {
        assert_eq!(store.merge(&record(key, u64::MAX, u64::MAX)), Err(OriginsFull));
    }
    assert_eq!((store.slot_newest(slot_of(b"a")), store.memory_bytes()), before);
    assert_eq!((store.get(b"b"), store.tombstones()), (None, 1));
    assert!(matches!(store.merge(&record(b"a", 1, u64::MAX)), Ok(Merged::Lost { .. })), "what loses needs no name");
    assert!(matches!(store.merge(&record(b"a", u64::MAX, 1)), Ok(Merged::Won { .. })));
}

#[test]
fn an_overwrite_of_the_same_class_stays_in_place() {
    let mut store = Store::new([1, 2]);
    put(&mut store, b"key", 1, None);
    let before = store.get(b"key").unwrap().key.as_ptr();
    put(&mut store, b"key", 2, None);
    assert_eq!(store.get(b"key").unwrap().key.as_ptr(), before);
}

/// Runs without end write under a few keys; the names of those that are overwritten are used again.
#[test]
fn origins_of_which_nothing_is_left_make_room() {
    const KEYS: u64 = 50;
    let mut store = Store::new([1, 2]);
    let write = |store: &mut Store, key: u64, origin: u64| {
        let version = Version { hlc: Hlc(origin), origin: OriginId(origin) };
        let key = format!("k{key}");
        let record = Record { key: key.as_bytes(), value: Some(b"v"), is_counter: false, deadline: None, version };
        store.merge(&record)
    };
    // One that stays, from before.
    write(&mut store, KEYS, 1).unwrap();
    let runs = 4 * ORIGINS_MAX as u64;
    for origin in 2..=runs {
        write(&mut store, origin % KEYS, origin).expect("there is room");
        // A step now and then: most writes come between two looks, some within one.
        if origin % 7 == 0 {
            store.free_origins();
        }
    }
    while store.free_origins() {}
    for key in 0..=KEYS {
        let newest =
            if key == KEYS { 1 } else { (runs - KEYS + 1..=runs).find(|origin| origin % KEYS == key).unwrap() };
        let held = store.get(format!("k{key}").as_bytes()).unwrap();
        assert_eq!(held.version, Version { hlc: Hlc(newest), origin: OriginId(newest) });
    }
    assert!(store.has_written(OriginId(1)) && !store.has_written(OriginId(2)));
}

/// With all names in use a look frees none, and does not start over at once.
#[test]
fn origins_in_use_keep_their_names() {
    let mut store = Store::new([1, 2]);
    let write = |store: &mut Store, origin: u64| {
        let version = Version { hlc: Hlc(origin), origin: OriginId(origin) };
        let key = origin.to_be_bytes();
        store.merge(&Record { key: &key, value: None, is_counter: false, deadline: None, version })
    };
    for origin in 1..=ORIGINS_MAX as u64 {
        write(&mut store, origin).unwrap();
    }
    let mut steps = 0;
    while store.free_origins() {
        steps += 1;
    }
    assert!(steps > 0 && !store.free_origins());
    assert_eq!(write(&mut store, u64::MAX), Err(OriginsFull));
    for origin in 1..=ORIGINS_MAX as u64 {
        assert_eq!(store.get(&origin.to_be_bytes()).unwrap().version.origin, OriginId(origin));
    }
}
