use proptest::prelude::*;

use super::*;

const fn version(hlc: u64, origin: u64) -> Version {
    Version { hlc: Hlc(hlc), origin: OriginId(origin) }
}

const fn part(origin: u64, since: u64, hlc: u64, total: i128) -> Part {
    Part { origin: OriginId(origin), hlc: Hlc(hlc), since: Hlc(since), total }
}

const fn fold(era: u32, number: u32, oldest: Version, newest: Version) -> Fold {
    Fold { era: Mark { len: era, hash: 70 + era as u64 }, number, total: 4, oldest, newest }
}

/// A counter that has everything once, and some of it twice.
fn whole() -> Counter<'static> {
    Counter {
        base: Some(Base { version: version(10, 2), deadline: Some(WallMs(99)), value: BaseValue::Integer(5) }),
        folds: vec![fold(1, 2, version(11, 2), version(12, 3)), fold(3, 4, version(10, 3), version(13, 1))],
        parts: vec![part(4, 13, 14, 6), part(5, 15, 15, -1)],
    }
}

fn cell(counter: &Counter<'_>) -> Vec<u8> {
    let mut cell = Vec::new();
    counter.put_cell(&mut cell);
    cell
}

#[test]
fn a_cell_comes_back() {
    let deadline = Some(WallMs(99));
    assert_eq!(parse(&cell(&whole()), deadline), Some(whole()));
    for total in [0, 1, -1, 63, 64, -64, -65, i128::MAX, i128::MIN, i128::from(i64::MIN), 1 << 126] {
        let counter = Counter { parts: vec![part(1, 2, u64::MAX, total)], ..Counter::default() };
        assert_eq!(parse(&cell(&counter), None), Some(counter));
    }
    for integer in [0, -1, i64::MAX, i64::MIN] {
        let base = whole().base.map(|base| Base { value: BaseValue::Integer(integer), ..base });
        assert_eq!(parse(&cell(&Counter { base, ..whole() }), deadline), Some(Counter { base, ..whole() }));
    }
    // What cannot be added to is not told along with what was added.
    let base = |value| whole().base.map(|base| Base { value, ..base });
    let text = Counter { base: base(BaseValue::Text(b"text")), ..whole() };
    assert_eq!(parse(&cell(&text), deadline), Some(Counter { base: base(BaseValue::Nothing), ..whole() }));
}

#[test]
fn a_cell_with_a_field_that_is_not_whole_is_none() {
    let whole = cell(&whole());
    let parts: Vec<usize> = (1..=whole.len()).filter(|cut| parse(&whole[..*cut], None).is_some()).collect();
    let part_bytes = 8 + 8 + 1 + 1;
    assert_eq!(parts, [2, 1, 0].map(|lacking| whole.len() - lacking * part_bytes));
    let flags = |flags: u8| parse(&[&[flags], &[0; 16][..]].concat(), None).is_some();
    assert_eq!([1, 2, 3, 4, 8, 16].map(flags), [true, false, false, false, false, false]);
    let counted = |count: u8, folds: usize| {
        let cell = [&[HAS_FOLDS, count], &vec![0; folds * FOLD_BYTES_MIN][..]].concat();
        parse(&cell, None).map(|counter| counter.folds.len())
    };
    assert_eq!([counted(2, 2), counted(0, 0), counted(3, 2), counted(255, 2)], [Some(2), None, None, None]);
    // An increment before the beginning of time.
    let began = |before: u8| parse(&[&[0][..], &[1; 8], &[3, 0, 0, 0, 0, 0, 0, 0, before, 0]].concat(), None).is_some();
    assert!(began(3) && !began(4));
}

#[test]
fn an_integer_beyond_128_bits_is_none() {
    let take = |last: u8| take_integer(&mut Bytes(&[&[0xff; 18][..], &[last]].concat()));
    assert_eq!([3, 4, 0x83].map(take), [Some(i128::MIN), None, None]);
}

/// Whether a peer may send `whole` after `change`, with the version of its newest part.
fn is_sent(deadline: Option<u64>, change: impl FnOnce(&mut Counter<'_>)) -> bool {
    let mut counter = whole();
    change(&mut counter);
    is_cell(&cell(&counter), deadline.map(WallMs), counter.newest().unwrap_or(version(10, 2)))
}

#[test]
fn a_cell_is_whole_with_or_without_what_it_may_lack() {
    assert!(is_sent(None, |_| {}) && is_sent(Some(99), |_| {}));
    assert!(is_sent(None, |counter| counter.base = None));
    assert!(is_sent(None, |counter| counter.folds.clear()) && is_sent(None, |counter| counter.parts.clear()));
    assert!(is_sent(None, |counter| counter.parts[0].since = Hlc(11)));
    assert!(is_sent(None, |counter| counter.folds[0].number = 1), "the era's first entry alone");
    assert!(is_sent(None, |counter| counter.folds[0].number = RETIRED_MAX as u32));
    assert!(is_sent(None, |counter| counter.folds[0].newest = counter.folds[0].oldest));
}

#[test]
fn a_cell_that_no_counter_has_is_refused() {
    type Change = fn(&mut Counter<'_>);
    assert!(!is_cell(&cell(&whole()), None, version(15, 4)), "another version than its newest part's");
    assert!(!is_sent(Some(99), |counter| counter.base = None), "a deadline of no base");
    let changes: [(&str, Change); 19] = [
        ("nothing was added", |counter| *counter = Counter { base: counter.base, ..Counter::default() }),
        ("a base of nobody", |counter| counter.base.as_mut().unwrap().version = version(10, 0)),
        ("parts out of order", |counter| counter.parts.reverse()),
        ("two parts of one origin", |counter| counter.parts[0].origin = OriginId(5)),
        ("a part of nobody", |counter| counter.parts[0].origin = OriginId(0)),
        ("a part that began with the base", |counter| counter.parts[0] = part(2, 10, 14, 6)),
        ("a part that began before the base", |counter| counter.parts[0].since = Hlc(9)),
        ("a part that never began", |counter| {
            counter.base = None;
            counter.parts[0].since = Hlc::ZERO;
        }),
        ("folds out of order", |counter| counter.folds.reverse()),
        ("two folds of one era", |counter| counter.folds[1].era = counter.folds[0].era),
        ("a fold that began with the base", |counter| counter.folds[0].oldest = version(10, 2)),
        ("a fold of no era", |counter| counter.folds[0].era.len = 0),
        ("an era without a hash", |counter| counter.folds[0].era.hash = 0),
        ("a fold that ends before its era", |counter| counter.folds[1].number = 2),
        ("a fold of more than a ledger has", |counter| counter.folds[0].number = RETIRED_MAX as u32 + 1),
        ("a fold that nobody began", |counter| counter.folds[0].oldest.origin = OriginId(0)),
        ("a fold that nobody ended", |counter| counter.folds[0].newest = version(12, 0)),
        ("a fold that ends before it began", |counter| counter.folds[0].newest = version(11, 1)),
        ("a fold that never began", |counter| {
            counter.base = None;
            counter.folds[0].oldest.hlc = Hlc::ZERO;
        }),
    ];
    for (what, change) in changes {
        assert!(!is_sent(None, change), "{what}");
    }
}

#[test]
fn an_integer_is_written_in_one_way() {
    for (text, expected) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("+1", None),
        ("01", None),
        (" 1", None),
        ("1 ", None),
        ("1x", None),
        ("000000000000000000001", None),
    ] {
        assert_eq!(integer(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn of_one_base_what_is_known_better_stays() {
    let of = |value| Counter {
        base: Some(Base { version: version(10, 2), deadline: Some(WallMs(99)), value }),
        ..Counter::default()
    };
    let values = [BaseValue::Nothing, BaseValue::Integer(5), BaseValue::Text(b"text")];
    for (less, more) in [(0, 1), (0, 2), (1, 2), (1, 1)] {
        for (mine, theirs) in [(less, more), (more, less)] {
            let mut counter = of(values[mine]);
            counter.join(of(values[theirs]), |_| None);
            assert_eq!(counter, of(values[more]));
        }
    }
}

#[test]
fn the_newer_base_and_the_later_part_stay_and_older_parts_are_reset() {
    let base = |hlc| Some(Base { version: version(hlc, 2), deadline: None, value: BaseValue::Integer(1) });
    let with = |hlc, parts: &[Part]| Counter { base: base(hlc), parts: parts.to_vec(), ..Counter::default() };
    let (one, other) = (with(10, &[part(4, 13, 14, 6), part(5, 30, 31, 7)]), with(20, &[part(5, 30, 40, 8)]));
    for (mine, theirs) in [(&one, &other), (&other, &one)] {
        let mut counter = mine.clone();
        counter.join(theirs.clone(), |_| None);
        assert_eq!(counter, with(20, &[part(5, 30, 40, 8)]));
    }
}

#[test]
fn what_was_begun_up_to_the_reading_of_its_entry_is_not_folded() {
    let folds = Folds { era: Mark { len: 1, hash: 71 }, number: 2, after: Hlc(20) };
    let mut counter = Counter { parts: vec![part(4, 20, 29, 6), part(5, 21, 28, 7)], ..Counter::default() };
    assert_eq!(counter.fold(|_| Some(folds)), 1);
    assert_eq!((&counter.parts[..], counter.folds.len()), (&[part(4, 20, 29, 6)][..], 1));
    let of = counter.folds[0];
    assert_eq!((of.total, of.oldest, of.newest, of.name()), (7, version(21, 5), version(28, 5), (71, 2)));
    assert!(of.has(&part(5, 21, 28, 7), folds) && !of.has(&part(4, 20, 29, 6), folds));
    assert!(!of.has(&part(6, 21, 28, 7), Folds { number: 3, ..folds }), "of a later entry");
    assert!(!of.has(&part(6, 21, 28, 7), Folds { era: Mark { len: 1, hash: 72 }, ..folds }), "of another era");
    // It is not added again when it comes once more, and what is not folded stays.
    counter.join(Counter { parts: vec![part(5, 21, 28, 7)], ..Counter::default() }, |_| Some(folds));
    assert_eq!((&counter.parts[..], &counter.folds[..]), (&[part(4, 20, 29, 6)][..], &[of][..]));
}

#[test]
fn what_is_known_is_left_out_and_the_base_stays() {
    let mut counter = whole();
    counter.leave_out(|version| version.origin != OriginId(4));
    assert_eq!(counter, Counter { parts: vec![part(4, 13, 14, 6)], ..whole() });
    assert!(counter.versions().eq([version(10, 2), version(14, 4)]));
}

#[test]
fn a_base_ends_at_its_deadline_and_with_it_what_began_before() {
    let base = Base { version: version(10, 2), deadline: Some(WallMs(50)), value: BaseValue::Integer(5) };
    let (before, after) = (Hlc(Hlc::at(WallMs(50)).0 - 1), Hlc::at(WallMs(50)));
    let began = |origin, since| Part { origin: OriginId(origin), hlc: after, since, total: 100 };
    let (old, new) = (began(4, before), began(5, after));
    let folded = |since: Hlc, era| fold(era, 9, Version { hlc: since, origin: OriginId(1) }, version(u64::MAX, 1));
    let folds = vec![folded(before, 1), folded(after, 2)];
    let mut counter = Counter { base: Some(base), folds, parts: vec![old, new] };
    let (early, late) = (WallMs(49), WallMs(50));
    assert_eq!((counter.count_at(early), counter.count_at(late)), (Count::Number(213), Count::Number(104)));
    assert_eq!((counter.deadline_at(early), counter.deadline_at(late)), (Some(WallMs(50)), None));
    assert_eq!((counter.base_at(early), counter.base_at(late)), (Some(base.version), None));
    assert_eq!((counter.part_at(early, old.origin), counter.part_at(late, old.origin)), (Some(&old), None));
    assert_eq!(counter.part_at(late, new.origin), Some(&new));
    assert_eq!(counter.part_at(late, OriginId(6)), None);
    assert!(counter.holds_ended());
    counter.end_base();
    assert!(!counter.holds_ended());
    assert_eq!(counter.base, Some(Base { value: BaseValue::Nothing, ..base }));
    assert_eq!((&counter.parts[..], counter.folds.len(), counter.folds[0].oldest.hlc), (&[new][..], 1, after));
    assert_eq!(counter.count_at(late), Count::Number(104));
    // A part or a fold that ends is enough.
    for (parts, folds) in [(vec![old], vec![]), (vec![], vec![folded(before, 1)])] {
        assert!(Counter { base: counter.base, folds, parts }.holds_ended());
    }
}

#[test]
fn a_key_with_nothing_added_reads_as_its_base() {
    let of = |value, deadline| {
        let base = Base { version: version(10, 2), deadline, value };
        Counter { base: Some(base), ..Counter::default() }.count_at(WallMs(50))
    };
    assert_eq!(of(BaseValue::Nothing, None), Count::Absent);
    assert_eq!(of(BaseValue::Text(b"text"), None), Count::NoNumber);
    assert_eq!(of(BaseValue::Integer(-3), None), Count::Number(-3));
    assert_eq!(of(BaseValue::Integer(-3), Some(WallMs(50))), Count::Absent);
    assert_eq!(Counter::default().count_at(WallMs(50)), Count::Absent);
    assert!(!Counter::default().is_added_to_at(WallMs(50)) && whole().is_added_to_at(WallMs(50)));
}

proptest! {
    #[test]
    fn any_cell_is_taken_calmly(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(counter) = parse(&bytes, None) {
            let again = cell(&counter);
            prop_assert_eq!(parse(&again, None), Some(counter));
        }
    }
}
