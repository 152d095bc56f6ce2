//! Descents and answers, without nodes around them.

use super::*;
use crate::record::{PREFIX_BYTES, Record, next_frame};
use crate::repl::staged::Staged;
use crate::replica::Exposure;
use crate::store::What;
use crate::version::{Hlc, OriginId};
use crate::wire::peer::{Frame, parse};
use crate::wire::scrub::{About, Ask};

const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

fn replica() -> Replica {
    let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW.mono);
    while replica.store.expire(NOW.wall) {}
    replica
}

/// The frames that were staged, as text.
fn frames(staged: &mut Staged) -> Vec<String> {
    let mut bytes = Vec::new();
    staged.drain_to(usize::MAX, &mut bytes);
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some(body) = next_frame(rest, 1 << 30).expect("whole frames") {
        rest = &rest[PREFIX_BYTES + body.len()..];
        let Some(Frame::Scrub(frame)) = parse(body) else { panic!("a frame about scrubbing") };
        frames.push(match frame {
            Scrub::Sums { id, sums } => format!("sums {id}: {}", sums.iter().filter(|sum| *sum != 0).count()),
            Scrub::List { id, more, list } => format!("list {id}: {} {more}", list.iter().count()),
            Scrub::Record { id, body } => {
                let record = record::decode(body).expect("a record").record;
                format!("record {id}: {}", record.key.escape_ascii())
            }
            Scrub::Keys { id, keys } => format!("keys {id}: {}", keys.iter().count()),
            Scrub::End { id } => format!("end {id}"),
            Scrub::Ask(_) => panic!("an answer"),
        });
    }
    frames
}

/// What is answered when `about` is asked by frame.
#[track_caller]
fn answer(serving: &mut Serving, replica: &Replica, id: u32, names: Option<&[u64]>, about: About<'_>) -> Vec<String> {
    let mut staged = Staged::default();
    let cut = replica.store.root().cut;
    match (about, names) {
        (About::Records { slot, .. } | About::Keys { slot, .. }, Some(names)) => {
            let whole = matches!(about, About::Records { .. });
            let mut out = Vec::new();
            scrub::emit_names_ask(id, cut, (slot, whole), names, &mut out);
            let body = next_frame(&out, 1 << 20).unwrap().unwrap();
            let Some(Frame::Scrub(Scrub::Ask(ask))) = parse(body) else { panic!("a question") };
            serving.take(&ask, replica, &mut staged);
        }
        _ => serving.take(&Ask { id, cut, about }, replica, &mut staged),
    }
    while serving.has_more() {
        serving.step(replica, &mut staged);
    }
    frames(&mut staged)
}

/// Any question about names: its names are given beside it.
fn named(slot: u16, whole: bool, read: &mut Vec<u8>) -> About<'_> {
    read.clear();
    scrub::emit_names_ask(0, NOW.wall, (slot, whole), &[], read);
    match parse(next_frame(read, 1 << 10).unwrap().unwrap()) {
        Some(Frame::Scrub(Scrub::Ask(Ask { about, .. }))) => about,
        _ => panic!("a question"),
    }
}

#[test]
fn questions_are_answered_until_there_are_too_many() {
    let mut replica = replica();
    replica.set(NOW, b"k", b"v", None).unwrap();
    let slot = (0..SLOTS).find(|slot| replica.store.list(*slot, None, 1).is_some_and(|(list, _)| !list.is_empty()));
    let (slot, name, mut serving, mut read) = (slot.unwrap(), key_name(b"k"), Serving::default(), Vec::new());
    assert_eq!(answer(&mut serving, &replica, 1, None, About::Groups), ["sums 1: 1"]);
    let group = (usize::from(slot) / FANOUT) as u8;
    assert_eq!(answer(&mut serving, &replica, 2, None, About::Slots { group }), ["sums 2: 1"]);
    assert_eq!(answer(&mut serving, &replica, 3, None, About::List { slot, after: None }), ["list 3: 1 false"]);
    let after = Some(name);
    assert_eq!(answer(&mut serving, &replica, 4, None, About::List { slot, after }), ["list 4: 0 false"]);
    let names = [name.min(7), name.max(7)];
    let about = named(slot, true, &mut read);
    assert_eq!(answer(&mut serving, &replica, 5, Some(&names), about), ["record 5: k", "end 5"]);
    let about = named(slot, false, &mut read);
    assert_eq!(answer(&mut serving, &replica, 6, Some(&names), about), ["keys 6: 1"]);
    let answered =
        (7..100).take_while(|id| answer(&mut serving, &replica, *id, None, About::Groups)[0].starts_with("s"));
    assert_eq!(answered.count(), 58, "sixty-four in all");
    assert_eq!(answer(&mut serving, &replica, 5, None, About::Groups), ["end 5"]);
    serving.refill();
    assert_eq!(answer(&mut serving, &replica, 5, None, About::Groups), ["sums 5: 1"]);
}

#[test]
fn nothing_is_told_of_another_cut_or_of_what_is_hidden() {
    let (mut serving, mut staged) = (Serving::default(), Staged::default());
    let other_cut = Ask { id: 1, cut: WallMs(5), about: About::Groups };
    serving.take(&other_cut, &replica(), &mut staged);
    assert_eq!(frames(&mut staged), ["end 1"]);
    let hidden = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Hidden, NOW.mono);
    assert_eq!(answer(&mut serving, &hidden, 2, None, About::Groups), ["end 2"]);
}

#[test]
fn large_records_are_staged_one_by_one() {
    let mut replica = replica();
    let value = vec![b'v'; 60 << 10];
    // Keys of one slot.
    let mut read = Vec::new();
    let keys = (0..).map(|at| format!("k{at}").into_bytes());
    let keys: Vec<Vec<u8>> = keys.filter(|key| crate::store::slot_of(key) == 77).take(3).collect();
    keys.iter().for_each(|key| replica.set(NOW, key, &value, None).unwrap());
    let mut names: Vec<u64> = keys.iter().map(|key| key_name(key)).collect();
    names.sort_unstable();
    let (mut serving, mut staged, mut most) = (Serving::default(), Staged::default(), 0);
    let mut out = Vec::new();
    scrub::emit_names_ask(9, replica.store.root().cut, (77, true), &names, &mut out);
    let Some(Frame::Scrub(Scrub::Ask(ask))) = parse(next_frame(&out, 1 << 10).unwrap().unwrap()) else { panic!() };
    serving.take(&ask, &replica, &mut staged);
    let mut all = Vec::new();
    while serving.has_more() {
        serving.step(&replica, &mut staged);
        most = most.max(staged.len());
        all.extend(frames(&mut staged));
    }
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(most < 3 * value.len(), "{most} bytes at a time");
    assert_eq!(all.iter().filter(|frame| frame.starts_with("record 9: k")).count(), 3);
    assert!(answer(&mut serving, &replica, 1, Some(&[]), named(77, true, &mut read)) == ["end 1"]);
}

#[test]
fn every_difference_has_its_turn() {
    let mine = [7; FANOUT];
    let mut theirs = mine;
    (0..FANOUT).step_by(4).for_each(|at| theirs[at] = 8);
    let mut next_slot = 0;
    let mut looked_at = BTreeSet::new();
    for _ in 0..FANOUT * FANOUT {
        let mut descent = Descent::new(ConnId(0), WallMs(0), Mono(0));
        descent.take_groups(&mine, theirs.into_iter(), next_slot);
        assert_eq!(descent.groups.len(), GROUPS_MAX);
        let group = descent.groups.pop().unwrap();
        descent.take_slots(group, &mine, theirs.into_iter(), next_slot);
        assert_eq!((descent.slots.len(), descent.slots_left), (SLOTS_MAX, 0));
        while let Some((slot, behind)) = descent.next_slot() {
            looked_at.insert(slot);
            next_slot = behind;
        }
    }
    assert_eq!(looked_at.len(), (FANOUT / 4) * (FANOUT / 4));
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let mut replica = replica();
    let version = Version { hlc: Hlc::at(WallMs(5)), origin: OriginId(9) };
    let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
    let mut scrubber = Scrubber { descent: Some(Descent::new(ConnId(0), WallMs(0), Mono(0))), ..Scrubber::default() };
    replica.origins.claim(OriginId(9), version.hlc, NOW.mono);
    scrubber.take_record(NOW, &record, &mut replica);
    assert_eq!((replica.store.get(b"k"), scrubber.done()), (None, Scrubbed::default()));
    let listed = replica.store.listed(&record);
    assert_eq!(listed.what, What::Value { deadline: None });
    let slot = (0..SLOTS).next().unwrap();
    scrubber.take_list(NOW.wall, (slot, false), [listed].into_iter(), &replica);
    scrubber.take_record(NOW, &record, &mut replica);
    assert_eq!(replica.store.get(b"k"), Some(record));
    assert_eq!((scrubber.done().found, scrubber.done().repaired), (1, 1));
}
