//! Elements against a model that knows all records ever written, and merges none.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::counter::{Base, BaseValue, Count, Part};
use crate::rand::Rand;
use crate::store::{Merged, SLOTS};
use crate::time::WallMs;

const WALL_MS_MAX: u64 = 300_000;

/// A record of a cluster, of which everything follows from its version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    stored: Vec<u8>,
    value: Option<Vec<u8>>,
    is_counter: bool,
    deadline: Option<WallMs>,
    version: Version,
}

impl Written {
    fn record(&self) -> Record<'_> {
        let Self { stored, value, is_counter, deadline, version } = self;
        let (is_counter, deadline, version) = (*is_counter, *deadline, *version);
        Record { key: stored, value: value.as_deref(), is_counter, deadline, version }
    }

    fn merge_into(&self, store: &mut Store) {
        store.merge(&self.record()).expect("few origins");
    }
}

fn version(hlc: u64, origin: u64) -> Version {
    Version { hlc: Hlc::at(WallMs(hlc * 10_000)), origin: OriginId(origin) }
}

fn stored(space: u8, kind: Kind, key: &[u8], element: &[u8], dot: Option<Version>) -> Vec<u8> {
    let mut stored = Vec::new();
    Name { space, kind, key, element, dot }.put(&mut stored);
    stored
}

/// The keyspace that is flushed.
const FLUSHED: u8 = 3;

/// What is written in that step by that origin, the older of which it may have seen.
fn written(hlc: u64, origin: u64) -> Written {
    let mut rand = Rand::new([hlc, origin, 0, 0]);
    let (space, key): (u8, &[u8]) = match rand.below(4) {
        0 => (0, b"other"),
        1 => (FLUSHED, b"k"),
        _ => (0, b"k"),
    };
    let version = version(hlc, origin);
    let ends = (rand.below(3) == 0).then(|| WallMs(rand.below(WALL_MS_MAX)));
    let plain = |value: Option<&[u8]>, deadline| Written {
        stored: Name::key(space, key).stored().into_owned(),
        value: value.map(<[u8]>::to_vec),
        is_counter: false,
        deadline,
        version,
    };
    let element = |stored, value: Option<Vec<u8>>, is_counter: bool| {
        let deadline = ends.filter(|_| value.is_some() && !is_counter);
        Written { stored, value, is_counter, deadline, version }
    };
    match rand.below(18) {
        0 => plain(None, None),
        1 => plain(Some(b"text"), None),
        2 => plain(Some(b"ends"), Some(WallMs(rand.below(WALL_MS_MAX)))),
        3..6 => {
            let field = [b'f', rand.below(3) as u8];
            let value = (rand.below(3) > 0).then(|| vec![hlc as u8; 3]);
            element(stored(space, Kind::Field, key, &field, None), value, false)
        }
        6..9 => {
            let member = [b'm', rand.below(2) as u8];
            element(stored(space, Kind::Member, key, &member, Some(version)), Some(Vec::new()), false)
        }
        9..12 => {
            // Removes what somebody added before, if there is something, or has it end.
            let adds = (1..hlc).rev().map(|before| written(before, 1 + before % 3));
            let is_add = |add: &Written| kind_of(&add.stored) == Some(Kind::Member) && add.value.is_some();
            let value = (rand.below(3) == 0).then(Vec::new);
            match adds.into_iter().take(9).find(is_add) {
                Some(add) => element(add.stored, value, false),
                None => element(stored(space, Kind::Field, key, b"none", None), None, false),
            }
        }
        12 => Written {
            stored: Name::floor(FLUSHED).stored().into_owned(),
            value: Some(Vec::new()),
            is_counter: false,
            deadline: None,
            version,
        },
        13 => element(stored(space, Kind::Field, key, b"count", None), Some(hlc.to_string().into_bytes()), false),
        _ => {
            // A run begins anew at every fourth, and never earlier than before.
            let since = (hlc - hlc % 4).max(1);
            let part = Part {
                origin: OriginId(origin),
                hlc: version.hlc,
                since: self::version(since, origin).hlc,
                total: i128::from(hlc),
            };
            let base = Base { version: self::version(since - 1, 2), deadline: None, value: BaseValue::Integer(7) };
            let base = (since > 1 && rand.below(3) == 0).then_some(base);
            let mut cell = Vec::new();
            Counter { base, parts: vec![part], ..Counter::default() }.put_cell(&mut cell);
            element(stored(space, Kind::Field, key, b"count", None), Some(cell), true)
        }
    }
}

fn steps(from: u64) -> impl Strategy<Value = Vec<Written>> {
    let step = (from..from + 25, 1..4_u64).prop_map(|(hlc, origin)| written(hlc, origin));
    proptest::collection::vec(step, 0..40)
}

/// What must stand of `records` in the end, without values that may have been freed.
fn expected<'a>(records: impl Iterator<Item = &'a Written> + Clone) -> BTreeMap<Vec<u8>, Written> {
    let mut stands: BTreeMap<Vec<u8>, Written> = BTreeMap::new();
    let mut names: Vec<&Vec<u8>> = records.clone().map(|record| &record.stored).collect();
    names.sort_unstable();
    names.dedup();
    let newest = |stored: &[u8]| {
        let own = records.clone().filter(|record| record.stored == stored);
        own.map(|record| record.version).max()
    };
    for stored in names {
        let owner = name::owner(stored);
        let cover = owner.as_deref().and_then(newest);
        let is_floor = *stored == *Name::floor(FLUSHED).stored();
        let is_flushed = name::space(stored) == FLUSHED && !is_floor;
        let floor = newest(&Name::floor(FLUSHED).stored()).filter(|_| is_flushed);
        let own = records.clone().filter(|record| record.stored == *stored);
        let mut whole = Counter::default();
        let texts: Vec<Record<'_>> = own.map(Written::record).collect();
        let is_counter = texts.iter().any(|record| record.is_counter);
        let mut text = Vec::new();
        let left = if is_counter {
            texts.iter().for_each(|record| whole.join(Counter::of(record), |_| None));
            if let Some(floor) = floor {
                whole.join(Counter::below(floor), |_| None);
            }
            let is_below = floor.is_some_and(|floor| whole.is_below(floor));
            if let Some(cover) = cover {
                whole.reset(cover);
            }
            whole.record(stored, &mut text).filter(|_| !is_below)
        } else {
            let newest = texts.into_iter().max_by_key(|record| record.version);
            newest.filter(|record| Some(record.version) > cover.max(floor))
        };
        if let Some(Record { value, is_counter, deadline, version, .. }) = left {
            let value = value.filter(|_| deadline.is_none()).map(<[u8]>::to_vec);
            stands.insert(stored.clone(), Written { stored: stored.clone(), value, is_counter, deadline, version });
        }
    }
    stands
}

/// What stands, without values that may have been freed.
fn dump(store: &Store) -> BTreeMap<Vec<u8>, Written> {
    let mut dump = BTreeMap::new();
    for slot in 0..SLOTS {
        store.visit(slot, |record| {
            let Record { key, value, is_counter, deadline, version } = *record;
            let value = value.filter(|_| deadline.is_none()).map(<[u8]>::to_vec);
            let written = Written { stored: key.to_vec(), value, is_counter, deadline, version };
            dump.insert(key.to_vec(), written);
        });
    }
    dump
}

/// What lives, whatever else stands.
fn lives(store: &Store) -> BTreeMap<Vec<u8>, (Option<Vec<u8>>, Count)> {
    let all = dump(store).into_iter().filter(|(_, written)| written.value.is_some());
    all.map(|(stored, written)| {
        let count = Counter::of(&written.record()).count_at(WallMs(0));
        (stored, (written.value.filter(|_| !written.is_counter), count))
    })
    .collect()
}

/// All entries as they are.
fn entries(store: &Store) -> Vec<Written> {
    let mut entries = Vec::new();
    for slot in 0..SLOTS {
        store.visit(slot, |record| {
            let Record { key, value, is_counter, deadline, version } = *record;
            let (stored, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
            entries.push(Written { stored, value, is_counter, deadline, version });
        });
    }
    entries
}

/// Whether a reader finds this.
fn is_read(written: &Written, wall: WallMs) -> bool {
    let record = written.record();
    match record.is_counter {
        true => Counter::of(&record).count_at(wall) != Count::Absent,
        false => record.value.is_some() && record.deadline.is_none_or(|deadline| deadline > wall),
    }
}

/// Recomputes from nothing what the index says.
fn check_index(store: &Store) {
    let entries = entries(store);
    let mut keys: Vec<Vec<u8>> =
        entries.iter().filter_map(|entry| name::owner(&entry.stored).map(|key| key.into_owned())).collect();
    keys.sort_unstable();
    keys.dedup();
    let stale: Vec<Vec<u8>> = (0..SLOTS)
        .flat_map(|slot| store.indexes[usize::from(slot)].keys().map(move |(_, key)| (slot, key.to_vec())))
        .filter(|(slot, key)| store.is_flushed(*slot, key))
        .map(|(_, key)| key)
        .collect();
    assert_eq!(store.totals.indexed as usize - stale.len(), keys.len());
    assert_eq!(store.indexes.iter().map(|index| index.len()).sum::<usize>() - stale.len(), keys.len());
    let mut bytes: usize = 0;
    for key in &keys {
        let collection = store.collection(key).expect("it has elements");
        bytes += collection.bytes(key);
        let own = entries.iter().filter(|of| name::owner(&of.stored).as_deref() == Some(key));
        let (live, dead): (Vec<&Written>, Vec<_>) = own.partition(|of| of.value.is_some());
        let hashes = |of: &Written| {
            (element_hash(&store.hasher, store.place(&of.stored).hash, &of.stored), store.place(&of.stored).hash)
        };
        let live_hashes: BTreeSet<u64> =
            live.iter().map(|of| hashes(of)).map(|(of, own)| u64::from(of) << 32 | u64::from(own)).collect();
        assert_eq!(collection.live, live_hashes);
        assert_eq!(collection.dead, dead.iter().map(|of| hashes(of).1).collect());
        let ends: BTreeSet<WallMs> = live.iter().filter_map(|of| of.deadline).collect();
        let walls = ends.iter().flat_map(|end| [WallMs(end.0 - 1), *end]).chain([WallMs(0), WallMs(WALL_MS_MAX * 9)]);
        for wall in walls {
            check_at(store, key, &live, wall);
        }
    }
    if stale.is_empty() {
        assert_eq!(store.totals.index_bytes, bytes);
    }
    let Some(cut) = store.census.settled_cut() else { return };
    for space in [0, FLUSHED] {
        let counts = |of: &&Written| contribution(cut, &of.record()) != 0;
        let mut counted: BTreeSet<Vec<u8>> =
            keys.iter().filter(|key| store.elements(key, cut).is_some()).cloned().collect();
        let plain = entries.iter().filter(|of| Name::parse(&of.stored).is_some_and(|name| name.kind == Kind::Key));
        counted.extend(plain.filter(counts).map(|of| of.stored.clone()));
        counted.retain(|key| name::space(key) == space);
        assert_eq!(store.keys_in(space), counted.len() as u64, "{counted:?} in {space}");
    }
}

/// What is read of `key`, whose entries with a value are these, at that time.
fn check_at(store: &Store, key: &[u8], live: &[&Written], wall: WallMs) {
    let read: Vec<&&Written> = live.iter().filter(|of| is_read(of, wall)).collect();
    let elements = store.elements(key, wall);
    assert_eq!(elements.is_some(), !read.is_empty(), "{key:?} at {wall:?}");
    let is_endless = |of: &Written| state(&of.record()) == Some(NEVER);
    let mut last: BTreeMap<&[u8], Option<WallMs>> = BTreeMap::new();
    for of in &read {
        let end = if is_endless(of) { None } else { of.deadline };
        let longest = last.entry(name::place_part(&of.stored)).or_insert(end);
        *longest = longest.zip(end).map(|(one, other)| one.max(other));
    }
    let deadline = last.values().copied().reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other)));
    assert_eq!(elements.map(|of| of.deadline), deadline, "{key:?} at {wall:?}");
    for kind in [Kind::Field, Kind::Member] {
        let of_kind = read.iter().filter(|of| kind_of(&of.stored) == Some(kind));
        let parts: BTreeSet<&[u8]> = of_kind.map(|of| name::place_part(&of.stored)).collect();
        let count = elements.map_or(0, |of| if kind == Kind::Field { of.fields } else { of.members });
        assert_eq!(count, parts.len() as u64);
        let (mut walked, mut after) = (Vec::new(), None);
        loop {
            after = store.walk_elements(key, (kind, wall), after, 2, &mut |element, record| {
                walked.push((element.to_vec(), record.key.to_vec(), record.deadline))
            });
            if after.is_none() {
                break;
            }
        }
        assert_eq!(walked.len(), parts.len());
        assert!(walked.iter().all(|(_, stored, _)| parts.contains(name::place_part(stored))));
        for (member, stored, deadline) in walked.iter().filter(|_| kind == Kind::Member) {
            let is_dot = |of: &&&&Written| name::place_part(&of.stored) == name::place_part(stored);
            let mut dots: Vec<_> = read.iter().filter(is_dot).map(|of| of.stored.clone()).collect();
            dots.sort_unstable();
            assert_eq!(store.dots(key, member, wall), dots);
            assert_eq!(*deadline, last[name::place_part(stored)]);
        }
    }
}

/// Orders `steps` anew, each of them once or more often.
fn shuffled(steps: &[Written], order: u64) -> Vec<Written> {
    let mut rand = Rand::new([order, 0, 0, 0]);
    let mut shuffled: Vec<Written> = Vec::new();
    for step in steps {
        for _ in 0..=rand.below(2) {
            shuffled.insert(rand.below(shuffled.len() as u64 + 1) as usize, step.clone());
        }
    }
    shuffled
}

fn expire(store: &mut Store, wall: u64) {
    while store.expire(WallMs(wall)) {}
}

fn collect(store: &mut Store) {
    (0..SLOTS).for_each(|slot| {
        store.collect(slot, |_| true, |_| {});
    });
}

proptest! {
    #[test]
    fn every_order_ends_in_what_the_greatest_versions_say(
        (steps, later) in (steps(1), steps(60)),
        order in any::<u64>(),
        wall in 0..WALL_MS_MAX,
    ) {
        let (mut one, mut other) = (Store::new([1, 2]), Store::new([3, 4]));
        for step in &steps {
            step.merge_into(&mut one);
            check_index(&one);
        }
        let again = shuffled(&steps, order);
        for (at, step) in again.iter().enumerate() {
            step.merge_into(&mut other);
            if at == again.len() / 2 {
                expire(&mut other, wall);
            }
        }
        check_index(&other);
        let model = expected(steps.iter());
        prop_assert_eq!(&dump(&one), &model);
        prop_assert_eq!(&dump(&other), &model);
        // All of it is stable: nothing older can come any more.
        expire(&mut one, wall);
        expire(&mut other, wall);
        prop_assert_eq!((one.digest(), one.keys()), (other.digest(), other.keys()));
        check_index(&one);
        check_index(&other);
        collect(&mut other);
        check_index(&other);
        prop_assert_eq!((one.digest(), one.keys()), (other.digest(), other.keys()));
        for (one_step, other_step) in later.iter().zip(&shuffled(&later, !order)) {
            one_step.merge_into(&mut one);
            other_step.merge_into(&mut other);
        }
        later.iter().for_each(|step| [&mut one, &mut other].into_iter().for_each(|store| step.merge_into(store)));
        shuffled(&later, order).iter().for_each(|step| step.merge_into(&mut other));
        for store in [&mut one, &mut other] {
            expire(store, WALL_MS_MAX * 3);
            collect(store);
            check_index(store);
        }
        prop_assert_eq!(lives(&one), lives(&other));
        prop_assert_eq!((one.digest(), one.keys()), (other.digest(), other.keys()));
    }
}

#[test]
fn what_a_key_has_goes_with_it_and_what_comes_late_loses() {
    let mut store = Store::new([1, 2]);
    let field = |at: u32, hlc| Written {
        stored: stored(0, Kind::Field, b"k", &at.to_le_bytes(), None),
        value: Some(b"v".to_vec()),
        is_counter: false,
        deadline: None,
        version: version(hlc, 1),
    };
    (0..1_000).for_each(|at| field(at, 5).merge_into(&mut store));
    field(7, 9).merge_into(&mut store);
    assert_eq!((store.keys(), store.elements(b"k", WallMs(0)).map(|of| of.fields)), (1, Some(1_000)));
    let mut met = 0;
    let tombstone = Written { stored: b"k".to_vec(), value: None, ..field(0, 8) };
    let merged = store.merge_meeting(&tombstone.record(), &mut |_| met += 1);
    assert_eq!((merged, met), (Ok(Merged::Won { over: None }), 999));
    assert_eq!((store.keys(), store.elements(b"k", WallMs(0)).map(|of| of.fields)), (1, Some(1)));
    assert!(store.is_covered(&field(3, 5).record()) && !store.is_covered(&field(3, 9).record()));
    let late = field(3, 6);
    let merged = store.merge_meeting(&late.record(), &mut |stands| met += usize::from(stands.key == b"k"));
    assert_eq!((merged, met), (Ok(Merged::Lost { to: version(8, 1) }), 1_000));
    let mut fresh = Store::new([1, 2]);
    tombstone.merge_into(&mut fresh);
    field(7, 9).merge_into(&mut fresh);
    // A table may stay twice as big as it would have grown.
    assert!(store.memory_bytes() - fresh.memory_bytes() < 200, "what was taken out gives its memory back");
}

#[test]
fn a_number_is_counted_as_long_as_it_is_read() {
    let ends = WallMs(100_000);
    let number = |field: &[u8], since: u64| {
        let base = Base { version: version(1, 1), deadline: Some(ends), value: BaseValue::Integer(7) };
        let part =
            Part { origin: OriginId(since), hlc: Hlc::at(WallMs(since)), since: Hlc::at(WallMs(since)), total: 1 };
        let mut cell = Vec::new();
        Counter { base: Some(base), parts: vec![part], ..Counter::default() }.put_cell(&mut cell);
        let stored = stored(0, Kind::Field, b"k", field, None);
        Written { stored, value: Some(cell), is_counter: true, deadline: Some(ends), version: part.version() }
    };
    let mut store = Store::new([1, 2]);
    number(b"ends", 20_000).merge_into(&mut store);
    let found = |store: &Store, wall| store.elements(b"k", WallMs(wall)).map(|of| (of.fields, of.deadline));
    assert_eq!((found(&store, 99_999), found(&store, 100_000)), (Some((1, Some(ends))), None));
    // One whose clock was ahead has added to what had ended there.
    number(b"goes on", 100_001).merge_into(&mut store);
    check_index(&store);
    assert_eq!((found(&store, 99_999), found(&store, 100_000)), (Some((2, None)), Some((1, None))));
    number(b"goes on", 20_000).merge_into(&mut store);
    for wall in [90_000, 110_000, 200_000, 300_000] {
        expire(&mut store, wall);
        check_index(&store);
        assert_eq!(store.keys(), 1, "{wall}");
    }
    assert_eq!((found(&store, 99_999), store.husks()), (Some((1, None)), 1));
    let tombstone = stored(0, Kind::Field, b"k", b"goes on", None);
    let version = version(30, 1);
    Written { stored: tombstone, value: None, is_counter: false, deadline: None, version }.merge_into(&mut store);
    check_index(&store);
    assert_eq!((found(&store, 0), store.keys()), (None, 0));
}

#[test]
fn a_drawn_element_is_any_of_them() {
    for count in [1_u32, 20, 2_000] {
        let mut store = Store::new([1, 2]);
        for at in 0..count {
            let stored = stored(0, Kind::Member, b"k", &at.to_le_bytes(), Some(version(5, 1)));
            Written { stored, value: Some(Vec::new()), is_counter: false, deadline: None, version: version(5, 1) }
                .merge_into(&mut store);
        }
        let mut rand = Rand::new([9; 4]);
        let draws = 30 * u64::from(count);
        let drawn: BTreeSet<_> = (0..draws)
            .map(|_| store.draw_element(b"k", (Kind::Member, WallMs(0)), rand.next_u64()).expect("one"))
            .collect();
        assert!(drawn.len() * 10 > count as usize * 8, "{} of {count}", drawn.len());
        assert_eq!(store.draw_element(b"k", (Kind::Field, WallMs(0)), 1), None);
    }
}

#[test]
fn members_whose_names_share_a_hash_are_visited_once_each() {
    let mut store = Store::new([1, 2]);
    let count = 5_000_u32;
    let mut hashes = BTreeSet::new();
    for at in 0..count {
        let stored = stored(0, Kind::Member, b"k", &at.to_le_bytes(), Some(version(5, 1)));
        hashes.insert(store.place(&stored).hash);
        Written { stored, value: Some(Vec::new()), is_counter: false, deadline: None, version: version(5, 1) }
            .merge_into(&mut store);
    }
    assert!(hashes.len() < count as usize, "some share one");
    let (mut visited, mut after) = (Vec::new(), None);
    loop {
        after = store.walk_elements(b"k", (Kind::Member, WallMs(0)), after, 7, &mut |member, _| {
            visited.push(u32::from_le_bytes(member.try_into().unwrap()));
        });
        if after.is_none() {
            break;
        }
    }
    visited.sort_unstable();
    assert_eq!(visited, (0..count).collect::<Vec<_>>());
}

#[test]
fn keys_are_walked_beside_their_elements() {
    let mut store = Store::new([1, 2]);
    let slot = store.place(b"k").slot;
    let in_slot = |at: u32| -> Option<Vec<u8>> {
        let key = at.to_le_bytes().to_vec();
        // What begins otherwise is stored as it is.
        (key[0] != 0xff && slot_of(&key) == slot).then_some(key)
    };
    let keys: Vec<Vec<u8>> = (0..).filter_map(in_slot).take(30).collect();
    for (at, key) in keys.iter().enumerate() {
        let plain = Written {
            stored: key.clone(),
            value: Some(b"v".to_vec()),
            is_counter: false,
            deadline: None,
            version: version(1, 1),
        };
        if at % 2 == 0 {
            plain.merge_into(&mut store);
        }
        for element in 0..at as u8 % 5 {
            let stored = stored(0, Kind::Field, key, &[element], None);
            Written { stored, version: version(2, 1), ..plain.clone() }.merge_into(&mut store);
        }
    }
    for max in [1, 3, 100] {
        let (mut after, mut walked, mut calls) = (None, Vec::new(), 0);
        loop {
            calls += 1;
            after = store.walk_keys((slot, WallMs(0)), after, max, &mut |key, of| {
                walked.push((key.to_vec(), of.err().map_or(0, |of| of.fields)))
            });
            if after.is_none() {
                break;
            }
        }
        walked.sort_unstable();
        let mut wanted: Vec<_> = keys.iter().enumerate().map(|(at, key)| (key.clone(), at as u64 % 5)).collect();
        wanted.retain(|(key, fields)| *fields > 0 || store.get(key).is_some());
        wanted.sort_unstable();
        assert_eq!(walked, wanted, "{max} at once");
        assert!(calls > 1 || max == 100);
    }
}
