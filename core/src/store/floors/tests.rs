//! Floors against a model, in which each is a delete of every key of its keyspace.

use proptest::prelude::*;

use super::super::Merged;
use super::*;
use crate::counter::{Base, BaseValue, Part};
use crate::store::slot_of;
use crate::store::tests::shuffled;
use crate::time::WallMs;

/// Cuts and the freeing of what has ended come in between.
const WALL_MS_MAX: u64 = 300_000;

const KEYS: [&[u8]; 3] = [b"count", b"text", b"other"];

/// A record; what it says is a matter of its version and its key alone, as in a cluster.
#[derive(Clone, Copy, Debug)]
enum Step {
    Floor {
        space: u8,
        hlc: u64,
    },
    Write {
        space: u8,
        key: usize,
        hlc: u64,
    },
    /// What an origin has added, to what it had seen.
    Add {
        space: u8,
        key: usize,
        base: u64,
        origin: u64,
        hlc: u64,
    },
}

fn at(hlc: u64) -> Hlc {
    Hlc::at(WallMs(hlc * 10_000))
}

fn base(hlc: u64) -> Base<'static> {
    let deadline = (hlc % 4 > 1).then(|| WallMs(hlc * 10_000 + hlc % 4 * 17_000));
    let value = match hlc % 5 {
        0 => BaseValue::Nothing,
        1 => BaseValue::Text(b"text"),
        _ => BaseValue::Integer(hlc as i64 * 1_000),
    };
    // A delete has no deadline.
    let deadline = deadline.filter(|_| value != BaseValue::Nothing);
    Base { version: Version { hlc: at(hlc), origin: OriginId(1 + hlc % 3) }, deadline, value }
}

impl Step {
    fn space(self) -> u8 {
        match self {
            Self::Floor { space, .. } | Self::Write { space, .. } | Self::Add { space, .. } => space,
        }
    }

    fn name(self) -> Vec<u8> {
        match self {
            Self::Floor { space, .. } => Name::floor(space).stored().into_owned(),
            Self::Write { space, key, .. } | Self::Add { space, key, .. } => {
                Name::key(space, KEYS[key]).stored().into_owned()
            }
        }
    }

    /// What it says of its key.
    fn counter(self) -> Counter<'static> {
        match self {
            Self::Floor { hlc, .. } => Counter::below(Version { hlc: at(hlc), origin: OriginId(9) }),
            Self::Write { hlc, .. } => Counter { base: Some(base(hlc)), ..Counter::default() },
            Self::Add { base: seen, origin, hlc, .. } => {
                let part = Part { origin: OriginId(origin), hlc: at(hlc), since: at(hlc - hlc % 3), total: 1 };
                let base = (seen > 0).then(|| base(seen)).filter(|base| base.version < part.oldest());
                Counter { base, parts: vec![part], ..Counter::default() }
            }
        }
    }

    fn merge_into(self, store: &mut Store) -> Merged {
        let (name, counter, mut text) = (self.name(), self.counter(), Vec::new());
        let record = counter.record(&name, &mut text).expect("it says something");
        let value = if matches!(self, Self::Floor { .. }) { Some(&b""[..]) } else { record.value };
        store.merge(&Record { value, ..record }).expect("there is room")
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0..3_u8, 0..KEYS.len());
    let step = prop_oneof![
        1 => (0..3_u8, 1..25_u64).prop_map(|(space, hlc)| Step::Floor { space, hlc }),
        3 => (key(), 1..25_u64).prop_map(|((space, key), hlc)| Step::Write { space, key, hlc }),
        3 => (key(), 0..20_u64, 1..4_u64, 3..25_u64)
            .prop_map(|((space, key), base, origin, hlc)| Step::Add { space, key, base, origin, hlc }),
    ];
    proptest::collection::vec(step, 1..24)
}

fn expire(store: &mut Store, wall: u64) {
    while store.expire(WallMs(wall)) {}
}

/// Everything that is counted is what is counted of the same entries in another store.
fn check(store: &mut Store) {
    let mut again = Store::new([7, 8]);
    expire(&mut again, store.digest().1.0);
    for slot in 0..SLOTS {
        store.visit(slot, |record| assert!(again.merge(record).is_ok()));
    }
    let counted = |store: &Store| {
        let kinds = |kind: fn(&Kinds) -> u32| store.kinds.iter().map(kind).sum::<u32>();
        let totals = &store.totals;
        let all = [totals.entries, totals.tombstones, totals.husks, totals.counters, totals.entry_bytes as u64];
        let slots: Vec<u128> = store.slots.iter().map(|slot| slot.digest).collect();
        let kinds = [kinds(|of| of.graves), kinds(|of| of.husks), kinds(|of| of.counters)];
        let crowds: u32 = store.crowds.iter().sum();
        let keys: Vec<u64> = (0..SPACES).map(|space| store.keys_in(space)).collect();
        (store.digest(), keys, all, kinds, crowds, slots)
    };
    // What is there, and how much of it, does not wait for what was flushed to be taken out.
    let seen = |store: &Store| (0..SPACES).map(|space| store.keys_in(space)).collect::<Vec<_>>();
    assert_eq!((store.digest(), seen(store)), (again.digest(), seen(&again)));
    while store.free_dead() {}
    assert_eq!(counted(store), counted(&again));
    assert_eq!(store.is_empty(), store.totals.entries == 0);
}

proptest! {
    #[test]
    fn every_order_ends_as_with_a_delete_of_each_key(
        steps in steps(),
        order in any::<u64>(),
        (wall, twice) in (0..WALL_MS_MAX, any::<bool>()),
    ) {
        let shuffled = shuffled(&steps, order);
        let (mut one, mut other) = (Store::new([1, 2]), Store::new([3, 4]));
        steps.iter().for_each(|step| { step.merge_into(&mut one); });
        for (at, step) in shuffled.iter().enumerate() {
            step.merge_into(&mut other);
            if twice {
                shuffled[..at].iter().for_each(|step| { step.merge_into(&mut other); });
            }
        }
        for (space, key) in (0..3_u8).flat_map(|space| (0..KEYS.len()).map(move |key| (space, key))) {
            let name = Step::Write { space, key, hlc: 1 }.name();
            let mut model = Counter::default();
            steps.iter().filter(|step| step.name() == name).for_each(|step| model.join(step.counter(), |_| None));
            let floors = steps.iter().filter(|step| step.space() == space && matches!(step, Step::Floor { .. }));
            let floor = floors.filter_map(|step| step.counter().base).map(|base| base.version).max();
            prop_assert_eq!(one.floor_over(&name), floor);
            if let Some(floor) = floor {
                model.join(Counter::below(floor), |_| None);
                model = Some(model).filter(|model| !model.is_below(floor)).unwrap_or_default();
            }
            let mut text = Vec::new();
            let expected = model.record(&name, &mut text);
            prop_assert_eq!(one.get(&name), expected);
            prop_assert_eq!(other.get(&name), expected);
        }
        for wall in [wall, wall + 30_000, WALL_MS_MAX * 2] {
            for store in [&mut one, &mut other] {
                expire(store, wall);
                check(store);
            }
            prop_assert_eq!((one.digest(), one.keys()), (other.digest(), other.keys()));
        }
    }

    #[test]
    fn sums_stay_exact_in_the_middle_of_a_walk(
        (before, after) in (steps(), steps()),
        ahead in 10_000..WALL_MS_MAX,
    ) {
        let (mut moving, mut still) = (Store::new([1, 2]), Store::new([3, 4]));
        for store in [&mut moving, &mut still] {
            before.iter().for_each(|step| { step.merge_into(store); });
        }
        // Its clock jumps ahead, and comes back when the walk has passed some slots and not others.
        prop_assert!(moving.expire(WallMs(ahead)));
        for step in &after {
            for store in [&mut moving, &mut still] {
                step.merge_into(store);
            }
            prop_assert_eq!((moving.digest(), moving.keys()), (still.digest(), still.keys()));
        }
        expire(&mut moving, ahead);
        check(&mut moving);
    }
}

#[test]
fn a_flush_takes_all_keys_and_gives_their_memory_back_in_steps() {
    for others in [0, 100_u32] {
        let mut store = Store::new([1, 2]);
        let put = |store: &mut Store, space: u8, key: u32, hlc: u64| {
            let (key, version) = (key.to_le_bytes(), Version { hlc: Hlc(hlc), origin: OriginId(1 + hlc % 3) });
            let name = Name::key(space, &key).stored();
            let value = (!hlc.is_multiple_of(7)).then_some(&b"value"[..]);
            let deadline = value.and(hlc.is_multiple_of(5).then_some(WallMs(20_000)));
            store.merge(&Record { key: &name, value, is_counter: false, deadline, version }).expect("there is room")
        };
        let empty = store.memory_bytes();
        (0..50_000).for_each(|key| assert!(matches!(put(&mut store, 0, key, 1 + u64::from(key)), Merged::Won { .. })));
        (0..others).for_each(|key| assert!(matches!(put(&mut store, 3, key, 1), Merged::Won { .. })));
        expire(&mut store, 30_000);
        let full = store.memory_bytes();
        Step::Floor { space: 0, hlc: 10 }.merge_into(&mut store);
        let digest = store.digest();
        assert_eq!((store.keys_in(0), store.keys_in(3)), (0, others.into()));
        assert!(store.memory_bytes() > full / 2, "to give it back takes time");
        let mut steps = 0;
        while store.free_dead() {
            steps += 1;
        }
        assert!(steps >= 50_000 / STEP_ENTRIES - 1, "{steps} steps");
        assert_eq!(store.digest(), digest);
        assert!(store.memory_bytes() < empty + u64::from(others) * 300 + 1_000);
        check(&mut store);
        // Whatever comes late loses; what is newer does not.
        assert!(matches!(put(&mut store, 0, 7, 9), Merged::Lost { .. }) && store.keys_in(0) == 0);
        put(&mut store, 0, 7, at(11).0 + 1);
        assert_eq!(store.keys_in(0), 1);
        check(&mut store);
    }
}

#[test]
fn a_floor_that_is_taken_out_holds_nothing_down() {
    let mut store = Store::new([1, 2]);
    let floor = Step::Floor { space: 1, hlc: 9 };
    let write = Step::Write { space: 1, key: 0, hlc: 7 };
    floor.merge_into(&mut store);
    assert!(matches!(write.merge_into(&mut store), Merged::Lost { .. }));
    store.take_out(&floor.name());
    assert_eq!((store.floor_over(&write.name()), store.highest_floor()), (None, None));
    assert_eq!(write.merge_into(&mut store), Merged::Won { over: None });
}

#[test]
fn all_floors_come_first() {
    assert!((0..SPACES).all(|space| slot_of(&Name::floor(space).stored()) == 0));
}

#[test]
fn what_was_flushed_stays_gone_when_its_floor_is_lifted_or_another_takes_its_place() {
    let mut store = Store::new([1, 2]);
    let write = |space, hlc| Step::Write { space, key: 1, hlc };
    let value = |store: &Store, space| store.get(&write(space, 1).name()).map(|record| record.version.hlc);
    // Beside a key of another keyspace, so that its slot is not put aside.
    for step in [write(1, 6), write(2, 6), Step::Floor { space: 1, hlc: 9 }] {
        step.merge_into(&mut store);
    }
    assert!(store.is_stale() && store.settled_cut().is_none());
    store.take_out(&Step::Floor { space: 1, hlc: 9 }.name());
    assert!(store.is_stale());
    assert_eq!((value(&store, 1), value(&store, 2)), (None, Some(at(6))));
    check(&mut store);
    assert!(!store.is_stale() && store.settled_cut().is_some());
    // Now something older may come, until there is a floor again, and a higher one.
    assert_eq!(write(1, 5).merge_into(&mut store), Merged::Won { over: None });
    assert_eq!(value(&store, 1), Some(at(5)));
    Step::Floor { space: 1, hlc: 7 }.merge_into(&mut store);
    assert_eq!(write(1, 8).merge_into(&mut store), Merged::Won { over: None });
    Step::Floor { space: 1, hlc: 7 }.merge_into(&mut store);
    assert_eq!(value(&store, 1), Some(at(8)));
    Step::Floor { space: 1, hlc: 9 }.merge_into(&mut store);
    assert!(matches!(Step::Floor { space: 1, hlc: 7 }.merge_into(&mut store), Merged::Lost { .. }));
    assert_eq!((value(&store, 1), value(&store, 2)), (None, Some(at(6))));
    assert!(matches!(write(1, 8).merge_into(&mut store), Merged::Lost { .. }));
    check(&mut store);
    assert_eq!((value(&store, 1), value(&store, 2)), (None, Some(at(6))));
}
