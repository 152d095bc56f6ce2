use super::*;

const NOW: Mono = Mono(7);
const LATER: Mono = Mono(9);

const fn id(id: u64) -> OriginId {
    OriginId(id)
}

pub(crate) const fn entry(origin: u64, last: u64) -> Entry {
    Entry { origin: OriginId(origin), last: Hlc(last), parted: 0, after: Hlc::ZERO }
}

/// What is said of an origin: up to where it is claimed, held, swept and announced, and when it was supplied last.
fn said(origins: &Origins, origin: u64) -> Option<[u64; 5]> {
    let Origin { frontier, held, swept, announced, progress, .. } = origins.find(id(origin))?;
    Some([frontier.0, held.0, swept.0, announced.0, progress.0])
}

pub(crate) fn claims(list: &[(u64, u64)]) -> Claims {
    let mut claims = Claims::default();
    list.iter().for_each(|(origin, hlc)| claims.raise(id(*origin), Hlc(*hlc)));
    claims
}

#[test]
fn there_is_room_for_so_many_and_always_for_a_runs_own() {
    let most = (ORIGINS_MAX - OWN_ORIGINS_MAX) as u64;
    let mut origins = Origins::default();
    for origin in 1..=most {
        assert!(origins.open(id(origin), NOW).is_some());
    }
    assert!(origins.open(id(most + 1), NOW).is_none());
    assert!(!origins.claim(id(most + 1), Hlc(1), NOW) && !origins.hold(id(most + 1), Hlc(1), NOW));
    assert!(!origins.has_heard_of(id(most + 1)) && origins.has_heard_of(id(most)));
    assert!(origins.open(id(most), NOW).is_some() && origins.hold(id(1), Hlc(1), NOW), "those that are there");
    origins.open_own(id(most + 1), NOW);
    origins.open_own(id(most + 2), NOW);
    assert_eq!((origins.len(), origins.iter().count()), (ORIGINS_MAX, ORIGINS_MAX));
}

#[test]
fn an_account_is_found_whatever_came_or_went_since_it_was_last_asked_for() {
    let mut origins = Origins::default();
    assert!(origins.claim(id(5), Hlc(50), NOW) && origins.claim(id(3), Hlc(30), NOW));
    assert!(origins.claim(id(5), Hlc(51), NOW) && origins.claim(id(1), Hlc(10), NOW));
    assert_eq!([1, 3, 5].map(|origin| origins.frontier(id(origin)).0), [10, 30, 51]);
    assert!(origins.claim(id(5), Hlc(52), NOW));
    origins.remove(id(1));
    assert_eq!([1, 3, 5].map(|origin| origins.frontier(id(origin)).0), [0, 30, 52]);
    assert_eq!([(5, 53), (5, 53), (3, 29)].map(|(origin, hlc)| origins.hold_of_account(id(origin), Hlc(hlc))), {
        [Some(false), Some(true), Some(true)]
    });
    assert_eq!((origins.hold_of_account(id(1), Hlc(1)), said(&origins, 1)), (None, None));
    assert_eq!(said(&origins, 5), Some([52, 53, 0, 0, 7]));
    origins.remove(id(3));
    origins.remove(id(5));
    assert_eq!((origins.hold_of_account(id(5), Hlc(60)), origins.len()), (None, 0));
}

#[test]
fn what_is_held_of_an_origin_only_grows() {
    let mut origins = Origins::default();
    assert!(origins.claim(id(1), Hlc(10), NOW));
    assert_eq!(said(&origins, 1), Some([10, 10, 0, 0, 7]));
    assert!(!origins.claim(id(1), Hlc(10), LATER) && !origins.claim(id(1), Hlc(9), LATER));
    assert_eq!(said(&origins, 1), Some([10, 10, 0, 0, 7]));
    assert!(origins.hold(id(1), Hlc(12), LATER) && origins.hold(id(1), Hlc(11), LATER));
    assert_eq!(said(&origins, 1), Some([10, 12, 0, 0, 7]));
    assert!(origins.claim(id(1), Hlc(11), LATER));
    assert_eq!(said(&origins, 1), Some([11, 12, 0, 0, 9]));
    for hlc in [12, 11] {
        origins.sweep(id(1), Hlc(hlc));
        origins.announce(id(1), Hlc(hlc + 1));
    }
    origins.touch(id(1), Mono(20));
    assert_eq!(said(&origins, 1), Some([11, 12, 12, 13, 20]));
    assert_eq!((origins.frontier(id(1)), origins.frontier(id(2))), (Hlc(11), Hlc::ZERO));
    origins.remove(id(1));
    assert_eq!(origins.len(), 0);
}

#[test]
fn what_an_unfinished_sweep_brought_takes_half_of_the_room() {
    let mut origins = Origins::default();
    for origin in 1..=UNFINISHED_MAX as u64 + 1 {
        origins.hold_unfinished(id(origin), Hlc(5), NOW);
    }
    origins.hold_unfinished(id(1), Hlc(6), NOW);
    origins.hold_unfinished(id(1), Hlc(4), NOW);
    assert_eq!(origins.len(), UNFINISHED_MAX);
    assert_eq!(said(&origins, 1), Some([0, 6, 0, 0, 7]));
}

#[test]
fn who_is_retired_keeps_an_account_only_for_more_than_the_ledger_says() {
    let mut origins = Origins::default();
    for (origin, frontier, held) in [(1, 10, 10), (2, 10, 12), (3, 10, 10), (4, 8, 9)] {
        assert!(origins.claim(id(origin), Hlc(frontier), NOW) && origins.hold(id(origin), Hlc(held), NOW));
        assert!(origins.retire(entry(origin, 10), origin == 3));
    }
    assert!(origins.retire(entry(5, 10), false), "one that was never heard of");
    let expected = [None, Some([10, 12, 0, 0, 7]), Some([10, 10, 0, 0, 7]), None, None];
    assert_eq!([1, 2, 3, 4, 5].map(|origin| said(&origins, origin)), expected);
    assert!((1..=5).all(|origin| origins.frontier(id(origin)) == Hlc(10) && origins.has_heard_of(id(origin))));
    assert!(!origins.retire(entry(1, 10), false) && origins.retired().len() == 5, "it says that already");
    // What the ledger says needs no account, and what is beyond it does.
    assert!(origins.hold(id(1), Hlc(10), NOW) && !origins.claim(id(1), Hlc(10), NOW));
    assert_eq!(said(&origins, 1), None);
    assert!(origins.hold(id(1), Hlc(11), NOW));
    assert_eq!(said(&origins, 1), Some([10, 11, 0, 0, 7]));
}

#[test]
fn accounts_that_say_nothing_are_closed() {
    let mut origins = Origins::default();
    origins.open(id(1), NOW);
    origins.open(id(2), NOW);
    assert!(
        origins.claim(id(3), Hlc(1), NOW) && origins.claim(id(4), Hlc(10), NOW) && origins.hold(id(5), Hlc(11), NOW)
    );
    assert!(origins.retire(entry(4, 10), true) && origins.retire(entry(5, 10), true));
    origins.close_empty(|origin| origin.id == id(2));
    assert_eq!(origins.iter().map(|origin| origin.id.0).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!((origins.clear().len(), origins.len(), origins.retired().len()), (2, 0, 0));
}

#[test]
fn a_ledger_lapses_if_there_is_room_for_all_that_it_says() {
    // One of the retired has an account; the other two need one each.
    let with_accounts = |count: usize| {
        let mut origins = Origins::default();
        assert!((1..=count as u64).all(|origin| origins.claim(id(origin), Hlc(10), NOW)));
        assert!(origins.retire(entry(1, 10), true));
        assert!([1_u64 << 40, 1 << 41].into_iter().all(|origin| origins.retire(entry(origin, 20), false)));
        origins
    };
    let most = ORIGINS_MAX - OWN_ORIGINS_MAX - 2;
    for count in [1, most] {
        let mut origins = with_accounts(count);
        assert!(origins.lapse(LATER));
        assert_eq!((origins.len(), origins.retired().len()), (count + 2, 0));
        assert_eq!(said(&origins, 1 << 40), Some([20, 20, 0, 0, 9]));
        assert_eq!(said(&origins, 1), Some([10, 10, 0, 0, 7]));
    }
    let mut origins = with_accounts(most + 1);
    assert!(!origins.lapse(LATER));
    assert_eq!((origins.len(), origins.retired().len()), (most + 1, 3));
}

#[test]
fn claims_are_raised_lowered_and_taken_back() {
    let mut all = claims(&[(3, 30), (1, 10), (3, 20), (2, 0)]);
    assert!(all.iter().eq(&[(id(1), Hlc(10)), (id(2), Hlc(0)), (id(3), Hlc(30))]));
    assert_eq!((all.of(id(3)), all.of(id(2)), all.of(id(4))), (Hlc(30), Hlc::ZERO, Hlc::ZERO));
    assert_eq!((all.get(id(3)), all.get(id(2)), all.get(id(4))), (Some(Hlc(30)), Some(Hlc::ZERO), None));
    all.raise_all([(id(4), Hlc(4)), (id(1), Hlc(9)), (id(3), Hlc(31)), (id(4), Hlc(5))].into_iter());
    assert_eq!(all, claims(&[(1, 10), (2, 0), (3, 31), (4, 5)]));
    all.lower_to(&claims(&[(1, 8), (3, 40), (5, 5)]));
    assert_eq!(all, claims(&[(1, 8), (3, 31)]));
    all.remove(id(1));
    assert_eq!(all, claims(&[(3, 31)]));
    all.clear();
    assert_eq!(all, Claims::default());
}

#[test]
fn a_known_ledger_counts_up_to_its_length() {
    let mut own = Retired::default();
    assert!(own.append(entry(1, 10)) && own.append(entry(2, 20)));
    let known = Known { claims: claims(&[(1, 5), (3, 30)]), retired: 1 };
    assert_eq!([1, 2, 3, 4].map(|origin| known.of(id(origin), &own)), [10, 0, 30, 0].map(Hlc));
    let covers = |hlc, origin| known.covers(Version { hlc: Hlc(hlc), origin: id(origin) }, &own);
    assert!(covers(10, 1) && covers(30, 3));
    assert!(!covers(11, 1) && !covers(1, 2) && !covers(31, 3));
    let nobody = Version { hlc: Hlc(1), origin: id(1) };
    let fold = |number| Fold { era: Mark { len: 1, hash: 1 }, number, total: 0, oldest: nobody, newest: nobody };
    assert!(known.covers_fold(&fold(1)) && !known.covers_fold(&fold(2)));
}

#[test]
fn what_a_sender_told_of_its_ledger_is_known_behind_what_was_there() {
    let mut own = Retired::default();
    assert!(own.append(entry(1, 10)) && own.append(entry(2, 20)));
    let told = vec![entry(3, 30), entry(4, 40)];
    let swept = Swept { frontier: claims(&[(4, 41), (5, 50)]), mark: Mark::default(), from: 1, told };
    assert_eq!(swept.known(), Known { claims: claims(&[(3, 30), (4, 41), (5, 50)]), retired: 1 });
    assert_eq!(swept.ledger(&own).since(0).collect::<Vec<_>>(), [entry(1, 10), entry(3, 30), entry(4, 40)]);
}
