use super::*;
use crate::boundary::AddrId;
use crate::origins::tests::{claims, entry};
use crate::record::{Record, next_frame};
use crate::repl::collect::Vouch;
use crate::repl::link::Reading;
use crate::repl::scrub::Suspicion;
use crate::retired::{Entry, Retired};
use crate::time::WallMs;
use crate::version::Version;
use crate::wire::peer::{Clocks, Frame, parse};

const NOW: Mono = Mono(0);
const PLACE: Place = Place { slot: 5, after: None };

fn replica() -> Replica {
    Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW)
}

/// Number 7, over link 1, of the run 9.
fn sweep() -> Sweep {
    Sweep {
        conn: ConnId(1),
        id: 7,
        run: OriginId(9),
        asked: NOW,
        mark: Mark::default(),
        known: Claims::default(),
        swept: Swept::default(),
        claims: Known::default(),
        told: Swept::default(),
        reconciles: 0,
        place: SWEEP_START,
        obsolete: Obsolete::default(),
    }
}

fn with(sweep: SweepIn) -> Intake {
    Intake { sweep, ..Intake::default() }
}

/// Reads what `emit` writes.
fn read<T>(emit: impl FnOnce(&mut Vec<u8>), take: impl FnOnce(Frame<'_>) -> T) -> T {
    let mut out = Vec::new();
    emit(&mut out);
    let body = next_frame(&out, 1 << 20).expect("a frame").expect("all of it");
    take(parse(body).expect("a frame that is read"))
}

/// The sender of sweep `id` over `conn` begins; whether that was taken.
fn begin(intake: &mut Intake, (conn, id): (u32, u32), reconciles: u64, mark: Mark, replica: &mut Replica) -> bool {
    let emit = |out: &mut Vec<u8>| peer::emit_sweep_begin(id, reconciles, mark, &claims(&[(9, 50)]), out);
    read(emit, |frame| {
        let Frame::SweepBegin { id, reconciles, retired, claims } = frame else { panic!("a beginning") };
        intake.begin(ConnId(conn), id, (reconciles, retired, &claims), replica, NOW)
    })
}

fn foretell(intake: &mut Intake, (conn, id): (u32, u32), from: u32, entries: &[Entry]) -> bool {
    let emit = |out: &mut Vec<u8>| peer::emit_sweep_retired(id, from, entries.iter().copied(), out);
    read(emit, |frame| {
        let Frame::SweepRetired { id, entries } = frame else { panic!("some of a ledger") };
        intake.foretell(ConnId(conn), id, &entries)
    })
}

fn end(intake: &mut Intake, (conn, id): (u32, u32), replica: &mut Replica) -> Option<Swept> {
    let emit = |out: &mut Vec<u8>| peer::emit_sweep_end(id, Hlc(60), (0, &Claims::default()), out);
    read(emit, |frame| {
        let Frame::SweepEnd { id, clock, reaped_retired, reaped } = frame else { panic!("an end") };
        intake.end(ConnId(conn), id, &SweepEnd { clock, reaped_retired, reaped }, replica, NOW)
    })
}

fn reconcile(intake: &mut Intake, (conn, id): (u32, u32), replica: &mut Replica) {
    let emit = |out: &mut Vec<u8>| peer::emit_sweep_held(id, (0, SLOTS), &[], out);
    read(emit, |frame| {
        let Frame::SweepHeld { id, slots, names } = frame else { panic!("what the sender holds") };
        intake.reconcile(ConnId(conn), id, (slots, &names), replica);
    });
}

/// What stands of the sweep, and where.
fn stage(intake: &Intake) -> (&'static str, u16) {
    match &intake.sweep {
        SweepIn::Idle => ("idle", 0),
        SweepIn::Asked(sweep) => ("asked", sweep.place.slot),
        SweepIn::Running(sweep) => ("running", sweep.place.slot),
        SweepIn::Cut(sweep) => ("cut", sweep.place.slot),
    }
}

#[test]
fn what_another_link_or_an_earlier_sweep_says_is_not_of_this_one() {
    for other in [(2, 7), (1, 6)] {
        let mut replica = replica();
        let mut intake = with(SweepIn::Asked(sweep()));
        assert!(foretell(&mut intake, other, 0, &[entry(20, 9)]) && intake.foretold().count() == 0);
        assert!(begin(&mut intake, other, 0, Mark::default(), &mut replica));
        assert_eq!(stage(&intake), ("asked", 0), "{other:?}");
        assert!(begin(&mut intake, (1, 7), 0, Mark::default(), &mut replica));
        intake.step(ConnId(other.0), other.1, PLACE);
        assert_eq!((end(&mut intake, other, &mut replica), stage(&intake)), (None, ("running", 0)), "{other:?}");
        let version = Version { hlc: Hlc(40), origin: OriginId(9) };
        let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
        assert!(replica.take(NOW, &record, None).is_ok());
        reconcile(&mut intake, other, &mut replica);
        assert!(replica.store.get(b"k").is_some(), "{other:?}");
        reconcile(&mut intake, (1, 7), &mut replica);
        assert!(replica.store.get(b"k").is_some(), "it goes at the end");
        intake.step(ConnId(1), 7, PLACE);
        assert_eq!(stage(&intake), ("running", 5));
        assert!(end(&mut intake, (1, 7), &mut replica).is_some() && replica.store.get(b"k").is_none());
        let sweeps = Sweeps { begun: 1, ended: 1, dropped: 1, ..Sweeps::default() };
        assert_eq!((intake.sweeps(), stage(&intake)), (sweeps, ("idle", 0)));
    }
}

#[test]
fn only_records_over_its_link_are_of_a_sweep() {
    let intake = with(SweepIn::Running(sweep()));
    assert!(intake.claims_swept(ConnId(2)).is_none() && !intake.is_swept_by(ConnId(2)));
    assert_eq!(intake.claims_swept(ConnId(1)).map(|(_, reconciles)| reconciles), Some(false));
    assert!(intake.is_swept_by(ConnId(1)) && with(SweepIn::Asked(sweep())).is_swept_by(ConnId(1)));
    let intake = with(SweepIn::Running(Sweep { reconciles: 3, ..sweep() }));
    assert_eq!(intake.claims_swept(ConnId(1)).map(|(_, reconciles)| reconciles), Some(true));
    assert!(with(SweepIn::Asked(sweep())).claims_swept(ConnId(1)).is_none());
}

#[test]
fn a_sweep_is_taken_up_again_where_it_was_only_if_it_claims_the_same() {
    let swept = Swept { frontier: claims(&[(9, 50)]), ..Swept::default() };
    let check = |swept: &Swept, reconciles: u64, place: u16| {
        let before = Sweep { place: PLACE, swept: swept.clone(), reconciles: 3, ..sweep() };
        let mut intake = with(SweepIn::Asked(before));
        assert!(begin(&mut intake, (1, 7), reconciles, Mark::default(), &mut replica()));
        assert_eq!(stage(&intake), ("running", place));
        assert_eq!((intake.sweeps().begun, intake.sweeps().resumed), (1, u64::from(place > 0)));
    };
    check(&swept, 3, 5);
    check(&swept, 4, 0);
    check(&Swept::default(), 3, 0);
}

#[test]
fn a_sweep_begins_only_once_all_of_the_ledger_was_told() {
    // How much this node said that it has, what it is told from there on, and how long the ledger is.
    let check = |said: u32, from: u32, told: &[Entry], len: u32| {
        let mark = Mark { len: said, hash: u64::from(said) };
        let mut intake = with(SweepIn::Asked(Sweep { mark, ..sweep() }));
        let mut replica = replica();
        (20..22).for_each(|origin| assert!(replica.retire(entry(origin, 9))));
        assert!(told.is_empty() || foretell(&mut intake, (1, 7), from, told));
        begin(&mut intake, (1, 7), 0, Mark { len, hash: u64::from(len) }, &mut replica)
    };
    let all = [entry(20, 9), entry(21, 9), entry(22, 9)];
    assert!(check(0, 0, &[], 0) && check(0, 0, &all, 3) && check(2, 2, &all[2..], 3) && check(2, 2, &[], 2));
    assert!(check(2, 0, &all, 3), "the ledger that it has is another one");
    assert!(!check(0, 0, &all[..2], 3), "one is missing");
    assert!(!check(0, 0, &[], 2) && !check(1, 2, &all[2..], 3), "the beginning is missing");
}

#[test]
fn a_ledger_is_told_in_order() {
    let mut intake = with(SweepIn::Asked(sweep()));
    assert!(foretell(&mut intake, (1, 7), 2, &[entry(22, 9), entry(23, 9)]));
    assert!(foretell(&mut intake, (1, 7), 4, &[entry(24, 9)]));
    assert_eq!(intake.foretold().map(|(origin, _)| origin.0).collect::<Vec<_>>(), [22, 23, 24]);
    assert!(!foretell(&mut intake, (1, 7), 6, &[entry(26, 9)]));
}

#[test]
fn a_sweep_whose_link_breaks_is_cut_and_no_other() {
    let at = |place| Sweep { place, ..sweep() };
    let check = |sweep: SweepIn, conn: u32, after: (&str, u16), cut: u64| {
        let mut intake = with(sweep);
        intake.closed(ConnId(conn), &mut replica());
        assert_eq!((stage(&intake), intake.sweeps().cut), (after, cut));
    };
    check(SweepIn::Running(at(PLACE)), 1, ("cut", 5), 1);
    check(SweepIn::Running(at(PLACE)), 2, ("running", 5), 0);
    check(SweepIn::Asked(at(PLACE)), 1, ("cut", 5), 0);
    check(SweepIn::Asked(at(PLACE)), 2, ("asked", 5), 0);
    check(SweepIn::Asked(at(SWEEP_START)), 1, ("idle", 0), 0);
    check(SweepIn::Asked(at(SWEEP_START)), 2, ("asked", 0), 0);
    let mut intake = with(SweepIn::Running(sweep()));
    intake.reset();
    assert_eq!((stage(&intake), intake.sweeps().cut), (("idle", 0), 1));
}

#[test]
fn nobody_waits_for_long_for_a_sweep_to_begin() {
    let timers = Timers { silence_ms: 100, ..Timers::default() };
    let mut intake = with(SweepIn::Asked(sweep()));
    assert_eq!(intake.give_up_unanswered(&timers, NOW.plus_ms(999)), None);
    assert_eq!(intake.give_up_unanswered(&timers, NOW.plus_ms(1_000)), Some(ConnId(1)));
    assert_eq!(with(SweepIn::Running(sweep())).give_up_unanswered(&timers, NOW.plus_ms(1_000)), None);
    // Nor is it asked first again to go on with what was cut.
    let mut intake = with(SweepIn::Asked(Sweep { place: PLACE, ..sweep() }));
    assert_eq!(intake.give_up_unanswered(&timers, NOW.plus_ms(1_000)), Some(ConnId(1)));
    intake.closed(ConnId(1), &mut replica());
    assert_eq!((stage(&intake).0, intake.cut_run()), ("idle", None));
}

#[test]
fn what_is_held_is_told_as_far_as_the_other_lacks_it() {
    let ledger = |origins: &[u64]| {
        let entries: Vec<_> = origins.iter().map(|origin| entry(*origin, 9)).collect();
        Retired::default().extended(0, &entries).mark()
    };
    let mut replica = replica();
    (20..23).for_each(|origin| assert!(replica.retire(entry(origin, 9))));
    replica.origins.claim(OriginId(5), Hlc(50), NOW);
    assert!(replica.origins.open(OriginId(6), NOW).is_some());
    let whole = [(5, 50), (20, 9), (21, 9), (22, 9)];
    let check = |theirs: Mark, mark: Mark, known: &[(u64, u64)]| {
        assert_eq!(known_to(&replica, theirs), (mark, claims(known)), "{theirs:?}");
    };
    check(Mark::default(), Mark::default(), &whole);
    check(ledger(&[20, 21]), ledger(&[20, 21]), &[(5, 50), (22, 9)]);
    // A longer one may continue this one; another of the same length or less is another.
    check(ledger(&[20, 21, 22, 23]), ledger(&[20, 21, 22]), &[(5, 50)]);
    check(ledger(&[20, 21, 24]), Mark::default(), &whole);
    check(ledger(&[24]), Mark::default(), &whole);
}

/// A link to the member whose run is `conn`, which has stated `frontier` and streams.
fn link(conn: u32, frontier: &[(u64, u64)]) -> Link {
    let pull = Pull {
        addr: AddrId(conn),
        stage: PullStage::Streaming,
        relays: Vec::new(),
        last_ask: 0,
        dropped: false,
        gap: false,
    };
    let now = crate::time::Now { mono: NOW, wall: WallMs(0) };
    let mut link = Link::new(ConnId(conn), Role::Pull(pull), now.mono);
    let run = OriginId(u64::from(conn));
    link.peer = Some(Peer {
        name: conn.to_string(),
        run,
        protocol: 4,
        origin: run,
        established: true,
        clocks: Clocks { wall: now.wall, hlc: Hlc::ZERO },
        ahead_ms: 0,
        quickest: Reading { wall: now.wall, at: now.mono },
        frontier: claims(frontier),
        retired: Mark::default(),
        settled: Claims::default(),
        replaced: Claims::default(),
        foretold: None,
        drained: true,
        leaves: false,
        knows_leaving: false,
        whole: true,
        stated: true,
        roster: 4,
        told_roster: 0,
        seated_under: 0,
        took_roster: true,
        is_durable: false,
        durable: None,
        vouch: Vouch::default(),
        root: None,
        suspicion: Suspicion::default(),
    });
    link
}

fn links(of: Vec<Link>) -> Links {
    let mut links = Links::default();
    of.into_iter().for_each(|link| links.insert(link.conn, link));
    links
}

fn peer_of(link: &mut Link) -> &mut Peer {
    link.peer.as_mut().expect("it has greeted")
}

fn pull_of(link: &mut Link) -> &mut Pull {
    let Role::Pull(pull) = &mut link.role else { panic!("it was dialed") };
    pull
}

/// Whether the stream of `link` was asked for anew.
fn was_asked(link: &mut Link) -> bool {
    pull_of(link).stage != PullStage::Streaming
}

/// Whom the origin 50 is taken from that nobody is linked with, by how much of it the peers 2 and 3 hold.
fn relayed_by(held: [u64; 2], relayed: Option<u32>, now: Mono) -> Vec<u32> {
    let mut replica = replica();
    replica.origins.claim(OriginId(50), Hlc(30), NOW);
    let mut links = links(vec![link(2, &[(50, held[0])]), link(3, &[(50, held[1])])]);
    for link in links.values_mut().filter(|link| Some(link.conn.0) == relayed) {
        pull_of(link).relays.push(OriginId(50));
    }
    Intake::default().plan_relays(&mut links, &replica, &Timers::default(), now);
    links.values_mut().filter(|link| !link_relays(link).is_empty()).map(|link| link.conn.0).collect()
}

fn link_relays(link: &Link) -> &[OriginId] {
    let Role::Pull(pull) = &link.role else { panic!("it was dialed") };
    &pull.relays
}

#[test]
fn what_nobody_brings_is_relayed_by_whoever_has_most_of_it() {
    let (soon, late) = (NOW.plus_ms(10), NOW.plus_ms(Timers::default().relay_ms));
    assert_eq!(relayed_by([40, 50], None, soon), [0_u32; 0], "it may still come");
    assert_eq!(relayed_by([30, 20], None, late), [0_u32; 0], "nobody has more of it");
    assert_eq!(relayed_by([40, 50], None, late), [3]);
    assert_eq!(relayed_by([50, 40], None, late), [2]);
    // Who relays it goes on as long as it comes.
    assert_eq!(relayed_by([40, 50], Some(2), soon), [2]);
    assert_eq!(relayed_by([50, 40], Some(3), soon), [3]);
    assert_eq!(relayed_by([40, 50], Some(2), late), [3]);
    // One that has no more than this node keeps nobody from bringing it.
    assert_eq!(relayed_by([30, 50], Some(2), late), [3]);
    assert_eq!(relayed_by([30, 30], Some(2), late), [2]);
}

#[test]
fn what_is_linked_with_is_not_relayed() {
    let late = NOW.plus_ms(Timers::default().relay_ms);
    let mut replica = replica();
    for origin in [2, 3] {
        assert!(replica.origins.open(OriginId(origin), NOW).is_some());
    }
    // What a peer says of this run, of itself, and of another that is linked with.
    let mut links = links(vec![link(2, &[(1, 9), (2, 9), (3, 9)]), link(3, &[(3, 9)])]);
    Intake::default().plan_relays(&mut links, &replica, &Timers::default(), late);
    assert!(links.values().all(|link| link_relays(link).is_empty()));
    links.remove(&ConnId(3));
    Intake::default().plan_relays(&mut links, &replica, &Timers::default(), late);
    assert_eq!(links.values().map(link_relays).collect::<Vec<_>>(), [[OriginId(3)]]);
}

#[test]
fn a_stream_in_which_a_record_is_missing_is_asked_for_again_if_some_of_it_was_dropped() {
    let replica = replica();
    let mut link = link(2, &[(2, 20)]);
    missed(&mut link, &replica, OriginId(50), Hlc(40));
    assert_eq!(peer_of(&mut link).frontier, claims(&[(2, 20)]));
    assert!(pull_of(&mut link).gap && !was_asked(&mut link));
    missed(&mut link, &replica, OriginId(2), Hlc(40));
    assert_eq!(peer_of(&mut link).frontier, claims(&[(2, 40)]), "it has what comes before that, at least");
    pull_of(&mut link).dropped = true;
    missed(&mut link, &replica, OriginId(2), Hlc(40));
    assert!(was_asked(&mut link) && !pull_of(&mut link).gap);
}

#[test]
fn what_a_drained_stream_has_not_brought_takes_a_sweep() {
    // What of 2 and of the relayed 50 the peer holds; what it is like; whether there is a gap then.
    let check = |frontier: &[(u64, u64)], like: &dyn Fn(&mut Link), gap: bool| {
        let mut replica = replica();
        replica.origins.claim(OriginId(2), Hlc(20), NOW);
        let mut link = link(2, frontier);
        pull_of(&mut link).relays.push(OriginId(50));
        like(&mut link);
        restart_behind(&mut link, &replica);
        assert_eq!(pull_of(&mut link).gap, gap, "{frontier:?}");
        was_asked(&mut link)
    };
    assert!(!check(&[(2, 21)], &|_| {}, true));
    assert!(!check(&[(50, 1)], &|_| {}, true));
    assert!(!check(&[(2, 20), (60, 5)], &|_| {}, false));
    assert!(!check(&[(2, 20)], &|link| peer_of(link).foretold = Some((OriginId(60), Hlc(5))), true));
    assert!(!check(&[(2, 21)], &|link| peer_of(link).drained = false, false));
    assert!(!check(&[(2, 21)], &|link| peer_of(link).stated = false, false));
    assert!(check(&[(2, 21)], &|link| pull_of(link).stage = PullStage::Asked(0), false));
    assert!(check(&[(2, 21)], &|link| pull_of(link).dropped = true, false));
}

#[test]
fn a_sweep_is_asked_of_whoever_closes_most_gaps() {
    let choose_after = |cut: Option<u64>, one: &[(u64, u64)], other: &[(u64, u64)], gaps: [bool; 2]| {
        let mut replica = replica();
        replica.origins.claim(OriginId(50), Hlc(30), NOW);
        replica.origins.claim(OriginId(70), Hlc(5), NOW);
        replica.origins.claim(OriginId(71), Hlc(5), NOW);
        let (mut one, mut other) = (link(2, one), link(3, other));
        (pull_of(&mut one).gap, pull_of(&mut other).gap) = (gaps[0], gaps[1]);
        choose_sender(&links(vec![one, other]), &replica, cut.map(OriginId)).map(|conn| conn.0)
    };
    let choose = |one: &[(u64, u64)], other: &[(u64, u64)], gaps| choose_after(None, one, other, gaps);
    assert_eq!(choose(&[(50, 40)], &[(50, 30)], [false, false]), None);
    assert_eq!(choose(&[(50, 30)], &[(50, 30)], [true, true]), None);
    assert_eq!(choose(&[(50, 40)], &[(50, 50)], [true, false]), Some(3));
    assert_eq!(choose(&[(50, 50)], &[(50, 40)], [true, true]), Some(2));
    assert_eq!(choose(&[(50, 50)], &[(50, 50)], [false, true]), Some(3));
    assert_eq!(choose(&[(50, 50), (60, 5)], &[(50, 50), (61, 5), (62, 5)], [true, true]), Some(3));
    // What this node covers says nothing for a peer.
    assert_eq!(choose(&[(50, 40)], &[(50, 30), (70, 5), (71, 5)], [true, true]), Some(2));
    assert_eq!(choose(&[(50, 40)], &[(50, 20), (51, 0)], [true, true]), Some(2));
    // Whose sweep was cut goes on, also if its stream has been asked for again, as long as it has something.
    assert_eq!(choose_after(Some(2), &[(50, 40)], &[(50, 50)], [false, true]), Some(2));
    assert_eq!(choose_after(Some(2), &[(50, 30)], &[(50, 50)], [true, true]), Some(3));
    assert_eq!(choose_after(Some(2), &[(50, 40)], &[(50, 30)], [false, false]), None);
    assert_eq!(choose_after(Some(9), &[(50, 40)], &[(50, 50)], [true, true]), Some(3));
}

#[test]
fn who_comes_back_asks_whoever_has_a_say_and_knows_most() {
    let mut replica = replica();
    let choose = |replica: &Replica, like: &dyn Fn(&mut Link), roster: Option<u64>| {
        let mut other = link(3, &[(50, 1), (51, 1)]);
        like(&mut other);
        choose_home(&links(vec![link(2, &[(50, 1)]), other]), replica, roster).map(|conn| conn.0)
    };
    assert_eq!(choose(&replica, &|_| {}, None), None, "it does not come back");
    replica.exposure = Exposure::Returning(Return::Unswept);
    assert_eq!(choose(&replica, &|_| {}, None), Some(3));
    assert_eq!(choose(&replica, &|_| {}, Some(4)), Some(3));
    assert_eq!(choose(&replica, &|_| {}, Some(5)), None);
    assert_eq!(choose(&replica, &|link| peer_of(link).established = false, None), Some(2));
    assert_eq!(choose(&replica, &|link| peer_of(link).took_roster = false, None), Some(2));
    assert_eq!(choose(&replica, &|link| peer_of(link).whole = false, None), Some(3));
    assert_eq!(choose(&replica, &|link| peer_of(link).whole = false, Some(4)), Some(2));
    assert_eq!(choose(&replica, &|link| peer_of(link).roster = 5, Some(4)), Some(2));
    let knows_less = |link: &mut Link| {
        peer_of(link).frontier.clear();
        peer_of(link).retired = Mark { len: 3, hash: 1 };
    };
    assert_eq!(choose(&replica, &knows_less, None), Some(3));
}

#[test]
fn a_sweep_that_was_cut_is_taken_up_with_the_same_run_only() {
    for (run, place) in [(2, 5), (9, 0)] {
        let cut = Sweep { run: OriginId(run), place: PLACE, ..sweep() };
        let mut intake = with(SweepIn::Cut(cut));
        let mut links = links(vec![link(2, &[(50, 1)])]);
        intake.ask_sweep(ConnId(2), &mut links, &replica(), NOW);
        assert_eq!(stage(&intake), ("asked", place));
    }
}

#[test]
fn what_a_sweep_finds_obsolete_goes_once_it_is_whole_and_stays_if_it_is_cut() {
    for (run, kept) in [(9, false), (2, true)] {
        let mut replica = replica();
        replica.origins.claim(OriginId(9), Hlc(40), NOW);
        let version = Version { hlc: Hlc(40), origin: OriginId(9) };
        let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
        assert!(replica.take(NOW, &record, None).is_ok());
        let mut intake = with(SweepIn::Asked(sweep()));
        assert!(begin(&mut intake, (1, 7), 3, Mark::default(), &mut replica));
        reconcile(&mut intake, (1, 7), &mut replica);
        intake.step(ConnId(1), 7, PLACE);
        intake.closed(ConnId(1), &mut replica);
        assert!(replica.store.get(b"k").is_some(), "all others who know that it was deleted may be gone");
        // The same run goes on where it was, and does not say it again; another begins anew.
        let mut link = link(2, &[(50, 1)]);
        peer_of(&mut link).run = OriginId(run);
        intake.ask_sweep(ConnId(2), &mut links(vec![link]), &replica, NOW);
        assert!(begin(&mut intake, (2, 1), 3, Mark::default(), &mut replica));
        assert!(end(&mut intake, (2, 1), &mut replica).is_some());
        assert_eq!(replica.store.get(b"k").is_some(), kept, "run {run}");
    }
}

#[test]
fn who_asks_for_a_sweep_says_whether_it_holds_anything() {
    let mut replica = replica();
    for stored in [false, true] {
        let mut links = links(vec![link(2, &[(50, 1)])]);
        Intake::default().ask_sweep(ConnId(2), &mut links, &replica, NOW);
        let staged = &mut links.get_mut(&ConnId(2)).expect("a link").staged;
        read(
            |out| staged.drain_to(usize::MAX, out),
            |frame| {
                let Frame::SweepAsk(ask) = frame else { panic!("a question") };
                assert_eq!(ask.stored, stored);
            },
        );
        let version = Version { hlc: Hlc(40), origin: OriginId(9) };
        let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
        assert!(replica.take(NOW, &record, None).is_ok());
    }
}

#[test]
fn what_a_sweep_had_dropped_is_asked_for_again() {
    let (mut one, other, mut held) = (link(2, &[]), link(3, &[]), link(4, &[]));
    pull_of(&mut one).dropped = true;
    (pull_of(&mut held).dropped, pull_of(&mut held).stage) = (true, PullStage::Held);
    let mut links = links(vec![one, other, held]);
    Intake::default().restart_dropped(&mut links, &replica());
    let stages: Vec<_> = links.values_mut().map(|link| pull_of(link).stage).collect();
    assert_eq!(stages, [PullStage::Asked(1), PullStage::Streaming, PullStage::Held]);
}
