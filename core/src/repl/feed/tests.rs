use super::*;
use crate::origins::tests::{claims, entry};
use crate::record::{self, next_frame};
use crate::replica::Exposure;
use crate::time::{Mono, Now, WallMs};
use crate::version::Version;
use crate::wire::peer::{Frame, parse};

const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
const WHOLE: usize = 1 << 30;

/// A node with peers to feed, whose tail holds so much.
fn replica(ring_bytes: usize) -> Replica {
    let mut replica = Replica::new(OriginId(1), [1, 2], ring_bytes, Exposure::Exposed, NOW.mono);
    replica.keep_tail();
    replica
}

fn set(replica: &mut Replica, key: &str, value_bytes: usize) {
    assert_eq!(replica.set(NOW, key.as_bytes(), &vec![b'v'; value_bytes], None), Ok(()));
}

/// Takes a record of the stream of `origin`.
fn take(replica: &mut Replica, key: &str, (origin, prev, hlc): (u64, u64, u64), value_bytes: usize) {
    let stamp = Version { hlc: Hlc(hlc), origin: OriginId(origin) };
    let value = vec![b'v'; value_bytes];
    let (key, value) = (key.as_bytes(), Some(&value[..]));
    let record = Record { key, value, is_counter: false, deadline: None, version: stamp };
    let framed = Framed { stamp, prev: Some(Hlc(prev)), seen: Hlc::ZERO, record };
    let mut bytes = Vec::new();
    encode(&framed, &mut bytes);
    assert!(replica.stream(NOW.mono, &framed, Hlc(prev), &bytes).is_ok());
}

/// What is in the frames: the keys of records, and the rest by name.
fn told(bytes: &[u8]) -> Vec<String> {
    let (mut rest, mut told) = (bytes, Vec::new());
    while let Some(body) = next_frame(rest, WHOLE).expect("frames") {
        rest = &rest[record::PREFIX_BYTES + body.len()..];
        if body[0] & record::KIND_RECORD != 0 {
            let record = record::decode(body).expect("a record").record;
            told.push(String::from_utf8_lossy(record.key).into_owned());
            continue;
        }
        told.push(match parse(body).expect("a frame") {
            Frame::PullBegin { id } => format!("pull {id}"),
            Frame::SweepRetired { entries, .. } => format!("retired {}+{}", entries.from, entries.iter().count()),
            Frame::SweepBegin { reconciles, claims, .. } => {
                format!("begin {} {}", reconciles != 0, claims.iter().count())
            }
            Frame::SweepHeld { slots, names, .. } => format!("held {}..{}: {}", slots.0, slots.1, names.len()),
            Frame::SweepStep { place, .. } => format!("step {}", place.slot),
            Frame::SweepEnd { .. } => "end".to_owned(),
            Frame::StatusAsk => "ask".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    assert!(rest.is_empty(), "all of it is whole frames");
    told
}

fn drain(staged: &mut Staged) -> Vec<String> {
    let mut bytes = Vec::new();
    staged.drain_to(usize::MAX, &mut bytes);
    told(&bytes)
}

fn pull(feed: &mut Feed, replica: &Replica, restart: bool, known: &[(u64, u64)], relays: &[u64]) {
    let mut out = Vec::new();
    let (known, relays) = (claims(known), relays.iter().map(|origin| OriginId(*origin)));
    peer::emit_pull((7, restart), known.iter().copied(), relays, &mut out);
    let body = next_frame(&out, WHOLE).expect("a frame").expect("all of it");
    let Some(Frame::Pull(pull)) = parse(body) else { panic!("a pull") };
    let mut staged = Staged::default();
    feed.pull(replica, &pull, &mut staged);
    assert_eq!(drain(&mut staged), ["pull 7"]);
}

/// A feed whose peer has asked for all of the stream.
fn pulled(replica: &Replica) -> Feed {
    let mut feed = Feed::new();
    pull(&mut feed, replica, true, &[], &[]);
    feed
}

/// What `feed` streams within `limit`.
fn streamed(feed: &mut Feed, replica: &Replica, limit: usize) -> Vec<u8> {
    let mut out = Vec::new();
    feed.stream(replica, limit, &mut out);
    out
}

type Resumed<'a> = (Place, u64, Mark, &'a Claims);

/// The peer asks for a sweep; what is told at once.
fn sweep(
    feed: &mut Feed,
    replica: &Replica,
    stored: bool,
    (mark, known): (Mark, &[(u64, u64)]),
    resume: Option<Resumed<'_>>,
) -> Vec<String> {
    let mut out = Vec::new();
    peer::emit_sweep_ask((3, stored), (mark, &claims(known)), resume, &mut out);
    let body = next_frame(&out, WHOLE).expect("a frame").expect("all of it");
    let Some(Frame::SweepAsk(ask)) = parse(body) else { panic!("a question") };
    let mut staged = Staged::default();
    feed.sweep(replica, &ask, true, &mut staged);
    drain(&mut staged)
}

/// What a sweep brings to who holds `known`.
fn swept(replica: &Replica, stored: bool, known: &[(u64, u64)]) -> Vec<String> {
    let mut feed = Feed::new();
    let mut told = sweep(&mut feed, replica, stored, (Mark::default(), known), None);
    let mut staged = Staged::default();
    for _ in 0..usize::from(SLOTS) / STEP_SLOTS_MAX {
        feed.step_sweep(replica, &mut staged);
        let more = drain(&mut staged);
        assert_eq!(more.last().is_some_and(|last| last == "end"), feed.sweep.is_none());
        told.extend(more);
    }
    told.retain(|frame| !frame.starts_with("step"));
    told
}

#[test]
fn a_stream_brings_what_was_asked_for_and_is_not_known() {
    let mut replica = replica(1 << 12);
    take(&mut replica, "a", (9, 0, 5), 1);
    set(&mut replica, "b", 1);
    let first = replica.own_last().0;
    set(&mut replica, "c", 1);
    let check = |known: &[(u64, u64)], relays: &[u64], keys: &[&str]| {
        let mut feed = Feed::new();
        pull(&mut feed, &replica, true, known, relays);
        assert!(!feed.has_streamed(&replica.tail));
        assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), keys);
        assert!(feed.has_streamed(&replica.tail) && feed.is_drained(&replica));
    };
    check(&[], &[], &["b", "c"]);
    check(&[(1, first)], &[], &["c"]);
    check(&[], &[9], &["a", "b", "c"]);
    check(&[(9, 5)], &[9], &["b", "c"]);
    check(&[(9, 4), (1, first)], &[9], &["a", "c"]);
    replica.exposure = Exposure::Hidden;
    assert!(streamed(&mut pulled(&replica), &replica, WHOLE).is_empty());
}

#[test]
fn what_was_hidden_comes_once_the_stream_goes_back() {
    let mut replica = replica(1 << 12);
    replica.exposure = Exposure::Hidden;
    set(&mut replica, "a", 1);
    let mut feed = Feed::new();
    feed.rewind(&replica.tail);
    assert!(!feed.is_on());
    pull(&mut feed, &replica, true, &[], &[]);
    feed.pass_over(&replica);
    assert!(feed.has_streamed(&replica.tail));
    replica.exposure = Exposure::Exposed;
    assert!(streamed(&mut feed, &replica, WHOLE).is_empty());
    feed.rewind(&replica.tail);
    assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), ["a"]);
    feed.rewind(&replica.tail);
    assert!(streamed(&mut feed, &replica, WHOLE).is_empty(), "it was sent");
}

#[test]
fn a_record_is_cut_only_at_the_beginning_of_a_turn() {
    let mut replica = replica(1 << 12);
    (0..3).for_each(|n| set(&mut replica, &format!("k{n}"), 100));
    let whole = streamed(&mut pulled(&replica), &replica, WHOLE);
    let bytes = replica.tail.head(replica.tail.start()).bytes;
    let two = bytes + replica.tail.head(Tail::skip(replica.tail.start(), bytes)).bytes;
    for (limit, end) in [(bytes, bytes), (bytes + 1, bytes), (two - 1, bytes), (two, two), (two + 5, two)] {
        let mut feed = pulled(&replica);
        assert_eq!(streamed(&mut feed, &replica, limit), whole[..end], "{limit}");
        assert!(!feed.is_within_record());
    }
    let mut feed = pulled(&replica);
    assert!(streamed(&mut feed, &replica, 0).is_empty() && !feed.is_within_record());
    let mut out = streamed(&mut feed, &replica, bytes - 5);
    assert_eq!((out.len(), feed.is_within_record()), (bytes - 5, true));
    assert!(!feed.has_streamed(&replica.tail) && streamed(&mut feed, &replica, WHOLE).is_empty());
    for (limit, count, within) in [(3, 3, true), (100, 2, false), (100, 0, false)] {
        let before = out.len();
        assert_eq!(feed.finish_record(&replica.tail, limit, &mut out), Ok(()));
        assert_eq!((out.len() - before, feed.is_within_record()), (count, within));
    }
    feed.stream(&replica, WHOLE, &mut out);
    assert_eq!(out, whole);
}

#[test]
fn what_others_wrote_is_passed_and_what_stands_between_is_sent() {
    let mut replica = replica(1 << 14);
    let mut feed = pulled(&replica);
    for hlc in 10..14 {
        let prev = if hlc == 10 { 0 } else { hlc - 1 };
        take(&mut replica, &format!("theirs{hlc}"), (9, prev, hlc), 10);
    }
    feed.pass_over(&replica);
    assert!(feed.has_streamed(&replica.tail), "nobody is woken for that");
    (0..3).for_each(|n| set(&mut replica, &format!("mine{n}"), 10));
    take(&mut replica, "theirs14", (9, 13, 14), 10);
    set(&mut replica, "mine3", 10);
    let mine = ["mine0", "mine1", "mine2", "mine3"];
    assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), mine);
    assert!(feed.has_streamed(&replica.tail));
    feed.rewind(&replica.tail);
    assert!(streamed(&mut feed, &replica, WHOLE).is_empty(), "all of it was sent");
    // Whoever holds some of it is sent the rest.
    let mut feed = Feed::new();
    let second = replica.store.get(b"mine1").expect("it is there").version.hlc.0;
    pull(&mut feed, &replica, true, &[(1, second)], &[]);
    assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), mine[2..]);
    pull(&mut feed, &replica, false, &[], &[9]);
    let theirs = ["theirs10", "theirs11", "theirs12", "theirs13", "theirs14"];
    assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), theirs);
}

#[test]
fn a_stream_that_is_asked_for_anew_goes_on_from_there_once_a_cut_record_is_whole() {
    let mut replica = replica(1 << 12);
    (0..2).for_each(|n| set(&mut replica, &format!("k{n}"), 100));
    let mut feed = pulled(&replica);
    let mut out = streamed(&mut feed, &replica, 10);
    pull(&mut feed, &replica, true, &[], &[]);
    assert_eq!(feed.finish_record(&replica.tail, WHOLE, &mut out), Ok(()));
    feed.stream(&replica, WHOLE, &mut out);
    assert_eq!(told(&out), ["k0", "k0", "k1"]);
}

#[test]
fn who_lags_behind_the_ring_within_a_record_cannot_go_on() {
    let mut replica = replica(500);
    set(&mut replica, "a", 100);
    let mut feed = pulled(&replica);
    let mut out = streamed(&mut feed, &replica, 10);
    (0..5).for_each(|_| set(&mut replica, "b", 100));
    assert_eq!(feed.finish_record(&replica.tail, WHOLE, &mut out), Err(Lagged));
}

#[test]
fn one_turn_looks_through_some_of_the_tail_only() {
    let mut replica = replica(4 << 20);
    (0..15).for_each(|n| take(&mut replica, "a", (9, n, n + 1), 100 << 10));
    set(&mut replica, "b", 1);
    let mut feed = pulled(&replica);
    assert!(streamed(&mut feed, &replica, WHOLE).is_empty() && !feed.has_streamed(&replica.tail));
    assert_eq!(told(&streamed(&mut feed, &replica, WHOLE)), ["b"]);
}

#[test]
fn a_peer_is_told_once_that_its_stream_is_at_the_end() {
    let mut replica = replica(1 << 12);
    set(&mut replica, "a", 1);
    let mut feed = pulled(&replica);
    assert!(!feed.take_owed_status(&replica.tail));
    streamed(&mut feed, &replica, WHOLE);
    assert!(feed.take_owed_status(&replica.tail) && !feed.take_owed_status(&replica.tail));
    feed.owe_status();
    assert!(feed.take_owed_status(&replica.tail));
}

#[test]
fn a_sweep_brings_what_is_not_known_and_says_so_in_steps() {
    let mut replica = replica(1 << 12);
    take(&mut replica, "a", (9, 0, 5), 1);
    take(&mut replica, "b", (9, 5, 6), 1);
    assert_eq!(swept(&replica, false, &[(9, 6)]), ["begin false 1", "end"]);
    assert_eq!(swept(&replica, false, &[(9, 5)]), ["begin false 1", "b", "end"]);
    assert_eq!(swept(&replica, true, &[]).len(), 4);
    let mut feed = pulled(&replica);
    streamed(&mut feed, &replica, WHOLE);
    sweep(&mut feed, &replica, false, (Mark::default(), &[]), None);
    assert!(!feed.is_drained(&replica) && feed.has_streamed(&replica.tail));
    // As long as something is hidden it does not go on, and nobody waits for that.
    replica.exposure = Exposure::Hidden;
    let mut staged = Staged::default();
    feed.step_sweep(&replica, &mut staged);
    assert!(staged.is_empty() && feed.is_drained(&replica));
    replica.exposure = Exposure::Exposed;
    feed.step_sweep(&replica, &mut staged);
    assert_eq!(drain(&mut staged).last().map(String::as_str), Some("step 1024"));
}

#[test]
fn a_sweep_stages_little_at_a_time() {
    let mut replica = replica(1 << 10);
    (1..4_097).for_each(|n| take(&mut replica, &format!("k{n}"), (9, n - 1, n), 400));
    let mut feed = Feed::new();
    sweep(&mut feed, &replica, false, (Mark::default(), &[]), None);
    let (mut staged, mut records, mut turns) = (Staged::default(), 0, 0);
    while feed.sweep.is_some() {
        feed.step_sweep(&replica, &mut staged);
        let bytes = staged.len();
        assert!(bytes < SWEEP_STAGED_BYTES + 600 && turns < 100, "{bytes} in turn {turns}");
        if bytes >= SWEEP_STAGED_BYTES {
            feed.step_sweep(&replica, &mut staged);
            assert_eq!(staged.len(), bytes, "it goes on when some of it was sent");
        }
        records += drain(&mut staged).iter().filter(|frame| frame.starts_with('k')).count();
        turns += 1;
    }
    assert_eq!(records, 4_096);
}

#[test]
fn a_step_of_a_sweep_looks_at_some_entries_only() {
    let mut replica = replica(1 << 10);
    let keys = (0_u32..).map(|n| format!("k{n}")).filter(|key| crate::store::slot_of(key.as_bytes()) < 64);
    (1..).zip(keys.take(1_500)).for_each(|(n, key)| take(&mut replica, &key, (9, n - 1, n), 1));
    // All of it is known, and looked at nevertheless.
    let mut feed = Feed::new();
    sweep(&mut feed, &replica, false, (Mark::default(), &[]), None);
    feed.sweep.as_mut().expect("it has begun").known.claims = claims(&[(9, 1_500)]);
    let mut staged = Staged::default();
    feed.step_sweep(&replica, &mut staged);
    let step = drain(&mut staged);
    assert!(step.len() == 1 && step[0] != "step 1024" && step[0] != "step 0", "{step:?}");
    feed.step_sweep(&replica, &mut staged);
    assert_ne!(drain(&mut staged), step);
}

#[test]
fn a_sweep_that_reconciles_names_every_key() {
    let mut replica = replica(1 << 12);
    (1..101).for_each(|n| take(&mut replica, &format!("k{n}"), (9, n - 1, n), 1));
    replica.reaped.claims.raise(OriginId(8), Hlc(5));
    // Who has nothing stored, or nothing of what was collected since, has nothing to drop.
    assert_eq!(swept(&replica, false, &[(9, 100)]), ["begin false 1", "end"]);
    assert_eq!(swept(&replica, true, &[(9, 100), (8, 5)]), ["begin false 1", "end"]);
    let told = swept(&replica, true, &[(9, 100)]);
    let mut slot = 0;
    let mut keys = 0;
    for frame in told.iter().filter_map(|frame| frame.strip_prefix("held ")) {
        let (slots, count) = frame.split_once(": ").expect("slots and a count");
        let (from, to) = slots.split_once("..").expect("a range");
        assert_eq!(from.parse::<u16>(), Ok(slot));
        slot = to.parse().expect("a slot");
        keys += count.parse::<usize>().expect("a count");
    }
    assert_eq!((told[0].as_str(), told.len(), slot, keys), ("begin true 1", 18, SLOTS, 100));
}

#[test]
fn keys_are_named_of_whole_slots_only() {
    let mut replica = replica(1 << 12);
    let keys = (0_u32..).map(|n| format!("k{n}")).filter(|key| crate::store::slot_of(key.as_bytes()) == 5);
    (1..).zip(keys.take(3)).for_each(|(n, key)| take(&mut replica, &key, (9, n - 1, n), 70 << 10));
    replica.reaped.claims.raise(OriginId(8), Hlc(5));
    let mut feed = Feed::new();
    sweep(&mut feed, &replica, true, (Mark::default(), &[]), None);
    let mut staged = Staged::default();
    let held = (0..3).map(|_| {
        feed.step_sweep(&replica, &mut staged);
        drain(&mut staged).into_iter().find(|frame| frame.starts_with("held"))
    });
    assert_eq!(held.collect::<Vec<_>>(), [Some("held 0..5: 0".to_owned()), None, None]);
}

#[test]
fn what_was_collected_has_a_name() {
    let mut replica = replica(1 << 12);
    let name = |replica: &Replica, known: &[(u64, u64)]| {
        name_of_reaped(replica, &Known { claims: claims(known), ..Known::default() }, true)
    };
    assert_eq!(name(&replica, &[]), 0);
    let mut names = Vec::new();
    for hlc in 1..50 {
        replica.reaped.claims.raise(OriginId(8), Hlc(hlc));
        names.push(name(&replica, &[]));
        assert_eq!((name(&replica, &[(7, 9)]), name(&replica, &[(8, hlc)])), (names[names.len() - 1], 0));
    }
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == 49 && names[0] > 1);
}

#[test]
fn a_counter_is_swept_whole_or_not_at_all() {
    let mut replica = replica(1 << 12);
    let part = |origin: u64, hlc: u64| crate::counter::Part {
        origin: OriginId(origin),
        hlc: Hlc(hlc),
        since: Hlc(hlc),
        total: 1,
    };
    let counter = Counter { parts: vec![part(8, 5), part(9, 6)], ..Counter::default() };
    let mut cell = Vec::new();
    assert!(replica.store.merge(&counter.record(b"c", &mut cell).unwrap()).is_ok());
    let record = replica.store.get(b"c").expect("it was merged");
    let swept = |known: &[(u64, u64)], reconciles: bool| {
        let (known, mut staged) = (Known { claims: claims(known), ..Known::default() }, Staged::default());
        sweep_counter(&replica, &record, (&known, reconciles), &mut staged);
        drain(&mut staged).len()
    };
    assert_eq!((swept(&[], false), swept(&[(8, 5)], false), swept(&[(9, 6)], false)), (1, 1, 1));
    assert_eq!((swept(&[(8, 5), (9, 6)], false), swept(&[(8, 5), (9, 6)], true)), (0, 1));
}

#[test]
fn what_is_folded_is_swept_to_who_has_less_of_the_ledger() {
    let replica = replica(1 << 12);
    let (oldest, newest) =
        (Version { hlc: Hlc(3), origin: OriginId(20) }, Version { hlc: Hlc(4), origin: OriginId(20) });
    let fold = crate::counter::Fold { era: Mark { len: 1, hash: 1 }, number: 2, total: 5, oldest, newest };
    let counter = Counter { folds: vec![fold], ..Counter::default() };
    let mut cell = Vec::new();
    let record = counter.record(b"c", &mut cell).expect("a fold is in it");
    for (retired, count) in [(1, 1), (2, 0)] {
        let (known, mut staged) = (Known { retired, ..Known::default() }, Staged::default());
        sweep_counter(&replica, &record, (&known, false), &mut staged);
        assert_eq!(drain(&mut staged).len(), count);
    }
}

#[test]
fn of_a_ledger_is_told_what_is_lacking_up_to_what_is_claimed() {
    let mut replica = replica(1 << 12);
    (20..23).for_each(|origin| assert!(replica.retire(entry(origin, 9))));
    let mut staged = Staged::default();
    tell_retired(3, 1, Mark { len: 2, hash: 1 }, &replica, &mut staged);
    tell_retired(3, 3, replica.mark(), &replica, &mut staged);
    assert_eq!(drain(&mut staged), ["retired 1+1"]);
    assert_eq!(swept(&replica, false, &[])[..2], ["retired 0+3", "begin false 0"]);
}

#[test]
fn slots_are_passed_over_in_which_nothing_can_be_lacking() {
    let mut replica = replica(1 << 12);
    replica.origins.claim(OriginId(8), Hlc(50), NOW.mono);
    replica.origins.claim(OriginId(9), Hlc(60), NOW.mono);
    let threshold = |replica: &Replica, known: &[(u64, u64)]| {
        sweep_threshold(replica, &Known { claims: claims(known), ..Known::default() })
    };
    assert_eq!(threshold(&replica, &[(8, 50), (9, 60)]), Hlc(u64::MAX));
    assert_eq!(threshold(&replica, &[(8, 50), (9, 55)]), Hlc(55));
    assert_eq!(threshold(&replica, &[(8, 70), (9, 60)]), Hlc(u64::MAX));
    assert_eq!(threshold(&replica, &[(8, 40)]), Hlc::ZERO);
    assert!(replica.retire(entry(20, 9)));
    assert_eq!(threshold(&replica, &[(8, 50), (9, 60)]), Hlc::ZERO);
    assert_eq!(threshold(&replica, &[(8, 50), (9, 60), (20, 9)]), Hlc(u64::MAX));
}

#[test]
fn a_sweep_is_taken_up_where_it_was_if_what_it_claimed_is_covered() {
    let mut replica = replica(1 << 12);
    take(&mut replica, "a", (9, 0, 5), 1);
    take(&mut replica, "b", (9, 5, 6), 1);
    let place = Place { slot: 5_000, after: None };
    let check = |replica: &Replica, claimed: &[(u64, u64)], reconciles: u64, retired: Mark, slot: u16| {
        let mut feed = pulled(replica);
        let claimed = claims(claimed);
        sweep(&mut feed, replica, true, (Mark::default(), &[]), Some((place, reconciles, retired, &claimed)));
        assert_eq!(feed.sweep.as_ref().map(|sweep| sweep.place.slot), Some(slot), "{claimed:?}");
        // Beside a new one the stream goes on from here.
        assert_eq!(feed.has_streamed(&replica.tail), slot == 0);
    };
    check(&replica, &[(9, 5)], 0, Mark::default(), 5_000);
    check(&replica, &[(9, 6)], 0, Mark::default(), 5_000);
    check(&replica, &[(9, 7)], 0, Mark::default(), 0);
    check(&replica, &[(7, 1)], 0, Mark::default(), 0);
    check(&replica, &[(9, 5)], 1, Mark::default(), 0);
    check(&replica, &[(9, 5)], 0, Mark { len: 1, hash: 1 }, 0);
    assert!(replica.retire(entry(20, 9)));
    check(&replica, &[(9, 5), (20, 9)], 0, replica.mark(), 5_000);
    let mut feed = pulled(&replica);
    let known = (replica.mark(), &[(9, 6)][..]);
    assert_eq!(sweep(&mut feed, &replica, false, known, None), ["begin false 1"]);
    let fork = (Mark { len: 1, hash: 1 }, &[(9, 6)][..]);
    assert_eq!(sweep(&mut feed, &replica, false, fork, None), ["retired 0+1", "begin false 1"]);
}
