//! Adding to counters.

use crate::counter::{Base, Count, Counter, Fold, Part};
use crate::origins::Known;
use crate::pubsub::Changed;
use crate::record::Record;
use crate::replica::{Refused, Replica};
use crate::retiring::entry_of;
use crate::store::OriginsFull;
use crate::time::{Now, WallMs};
use crate::version::{Hlc, Version};

/// Why nothing was added. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    Refused(Refused),
    /// The value is no integer.
    NoNumber,
    /// The result would be out of the range of 64 bits.
    Overflow,
}

impl Replica {
    /// Adds `amount` to the integer of the client's `key`, an absent one being 0; the sum as this node knows it.
    pub(crate) fn add(&mut self, now: Now, key: &[u8], amount: i64) -> Result<i64, NotAdded> {
        self.add_stored(now, &self.name(key), amount, None)
    }

    /// As [`add`](Self::add), to what is stored as `key`. What is begun so gets the `deadline`, and then is a value: of
    /// two that begin it at the same time one wins.
    pub(crate) fn add_stored(
        &mut self,
        now: Now,
        key: &[u8],
        amount: i64,
        deadline: Option<WallMs>,
    ) -> Result<i64, NotAdded> {
        self.may_write().map_err(NotAdded::Refused)?;
        if self.is_reissuing() {
            // So a part of this run says that nothing stands beside it that is yet to be written anew.
            self.reissue(now, key);
        }
        let counter = self.store.get(key).as_ref().map(Counter::of).unwrap_or_default();
        let count = counter.count_at(now.wall);
        let before = match count {
            Count::Absent => 0,
            Count::Number(count) => count,
            Count::NoNumber => return Err(NotAdded::NoNumber),
        };
        let sum = before.checked_add(i128::from(amount)).and_then(|sum| i64::try_from(sum).ok());
        let sum = sum.ok_or(NotAdded::Overflow)?;
        if deadline.is_some() && count == Count::Absent {
            let version = Version { hlc: Hlc::ZERO, origin: self.own() };
            let (mut text, is_counter) = (itoa::Buffer::new(), false);
            let value = Some(text.format(sum).as_bytes());
            self.stamp_and_take(now, &Record { key, value, is_counter, deadline, version });
        } else {
            self.put_part(now, key, i128::from(amount), false);
        }
        self.note_change(key, Changed::Added);
        Ok(sum)
    }

    /// Writes anew what of the counter at `key` peers must not see as it stands. A base that is written anew is newer
    /// than what others have added meanwhile, and resets that.
    pub(crate) fn reissue_counter(&mut self, now: Now, key: &[u8]) {
        let Some(record) = self.store.get(key) else { return };
        // A copy: the entry that the record borrows from is taken out.
        let cell = record.value.map(<[u8]>::to_vec);
        let mut counter = Counter::of(&Record { key, value: cell.as_deref(), ..record });
        // What a cluster that this node returns to knew the beginning of, and has no more, it has reset.
        let was_reset = |oldest: Version| self.is_returning() && self.covers(oldest);
        let parts = counter.parts.iter().filter(|part| self.is_to_rewrite(part.version()));
        let parts = parts.map(|part| (part.oldest(), part.total));
        let folds = counter.folds.iter().filter(|fold| self.is_to_unfold(fold));
        let hidden = parts.chain(folds.map(|fold| (fold.oldest, fold.total)));
        let hidden = hidden.filter(|(oldest, _)| !was_reset(*oldest)).map(|(_, total)| total);
        let amount = hidden.reduce(i128::wrapping_add);
        counter.parts.retain(|part| !self.is_to_rewrite(part.version()));
        counter.folds.retain(|fold| !self.is_to_unfold(fold));
        let base = counter.base.take_if(|base| self.is_to_rewrite(base.version));
        if let (Some(base), Some(_)) = (base, amount) {
            // Newer than all that stands, which it resets.
            counter = Counter { base: Some(Base { version: self.stamp(now), ..base }), ..Counter::default() };
        }
        self.put_counter(key, &counter);
        match (amount, base) {
            (Some(amount), _) => self.put_part(now, key, amount, true),
            (None, Some(_)) => {
                let anew = Counter { base, ..Counter::default() };
                anew.record(key, &mut Vec::new()).inspect(|record| self.stamp_and_take(now, record));
            }
            (None, None) => self.log_replaced(key),
        }
    }

    /// The cluster that this node returns to, and which knows what `claims` say, holds the key as `record` says, and
    /// one of the two is a counter. What the cluster knew and has no more, it has reset. What of a part, or of a fold,
    /// only this node knows is kept as this run's, which adds up to the same.
    pub(crate) fn meet_counter(&mut self, now: Now, record: &Record<'_>, claims: &Known) -> Result<(), OriginsFull> {
        let key = record.key;
        let own = self.own();
        let mut theirs = Counter::of(record);
        theirs.folds.retain(|fold| self.is_claimed_fold(fold));
        let retired = self.origins.retired();
        let is_claimed = |version: Version| claims.covers(version, retired);
        let stands = self.store.get(key);
        let text = stands.as_ref().and_then(|stands| stands.value).map(<[u8]>::to_vec);
        let stands = stands.map(|stands| Record { key, value: text.as_deref(), ..stands });
        let mut counter = stands.as_ref().map(Counter::of).unwrap_or_default();
        let mut surplus: Option<i128> = None;
        counter.parts.retain(|mine| {
            if mine.origin == own {
                return true;
            }
            let more = match theirs.parts.iter().find(|part| part.origin == mine.origin) {
                Some(part) if part.hlc >= mine.hlc => None,
                Some(part) if part.since == mine.since => Some(mine.total.wrapping_sub(part.total)),
                Some(_) | None => (!is_claimed(mine.oldest())).then_some(mine.total),
            };
            surplus = more.map(|more| surplus.unwrap_or(0).wrapping_add(more)).or(surplus);
            false
        });
        for fold in std::mem::take(&mut counter.folds) {
            if self.is_claimed_fold(&fold) {
                continue;
            }
            // Of what is folded on one side alone the other knows nothing.
            surplus = Some(surplus.unwrap_or(0).wrapping_add(fold.total));
        }
        let newest = theirs.base.map(|base| base.version);
        counter.base.take_if(|base| newest >= Some(base.version) || is_claimed(base.version));
        for version in theirs.versions() {
            self.hold(now.mono, version)?;
            self.note_home(version, claims);
        }
        // All that is left here is this run's own.
        counter.join(theirs, |_| None);
        self.put_counter(key, &counter);
        match surplus {
            Some(surplus) => self.put_part(now, key, surplus, true),
            None => self.log_replaced(key),
        }
        Ok(())
    }

    /// The cluster knows what `claims` say, and holds the counter in `record`. What it knew of the key and has no more,
    /// it has reset, and forgotten that: lets go of it.
    pub(crate) fn forgo_reset(&mut self, record: &Record<'_>, claims: &Known) {
        let Some(stands) = self.store.get(record.key) else { return };
        let cell = stands.value.map(<[u8]>::to_vec);
        let mut mine = Counter::of(&Record { key: record.key, value: cell.as_deref(), ..stands });
        let theirs = Counter::of(record);
        let is_claimed = |version: Version| claims.covers(version, self.origins.retired());
        let entry = |origin| entry_of(&self.origins, self.foretold.as_ref(), origin);
        let is_folded =
            |part: &Part| entry(part.origin).is_some_and(|entry| theirs.folds.iter().any(|fold| fold.has(part, entry)));
        let is_reset = |part: &Part| {
            let is_there = theirs.parts.iter().any(|of| of.origin == part.origin);
            is_claimed(part.version()) && !is_there && !is_folded(part)
        };
        let is_fold_reset = |fold: &Fold| {
            let is_in = |part: &Part| entry(part.origin).is_some_and(|entry| fold.has(part, entry));
            let is_there = theirs.folds.iter().any(|of| of.era == fold.era) || theirs.parts.iter().any(is_in);
            self.is_claimed_fold(fold) && !is_there
        };
        let before = mine.parts.len() + mine.folds.len();
        mine.parts.retain(|part| !is_reset(part));
        mine.folds.retain(|fold| !is_fold_reset(fold));
        let newest = theirs.base.map(|base| base.version);
        let base = mine.base.take_if(|base| is_claimed(base.version) && newest < Some(base.version));
        if base.is_some() || mine.parts.len() + mine.folds.len() < before {
            self.replace_counter(record.key, &mine);
        }
    }

    /// Leaves out of the counter at `key` what the cluster knows, which has the key no more.
    pub(crate) fn strip_counter(&mut self, key: &[u8], claims: &Known) {
        let Some(stands) = self.store.get(key) else { return };
        let cell = stands.value.map(<[u8]>::to_vec);
        let mut counter = Counter::of(&Record { key, value: cell.as_deref(), ..stands });
        let is_known = |version: Version| claims.covers(version, self.origins.retired());
        counter.leave_out(is_known);
        counter.base.take_if(|base| is_known(base.version));
        counter.folds.retain(|fold| !self.is_claimed_fold(fold));
        self.replace_counter(key, &counter);
    }

    /// Lets go of what is folded in the counter at `key` and no ledger here tells of.
    pub(crate) fn drop_strays(&mut self, key: &[u8]) {
        let Some(stands) = self.store.get(key) else { return };
        let cell = stands.value.map(<[u8]>::to_vec);
        let mut counter = Counter::of(&Record { key, value: cell.as_deref(), ..stands });
        counter.folds.retain(|fold| self.covers_fold(fold));
        self.replace_counter(key, &counter);
    }

    /// Puts `counter` in the place of what stands, which a merge would only add to.
    fn replace_counter(&mut self, key: &[u8], counter: &Counter<'_>) {
        self.put_counter(key, counter);
        self.log_replaced(key);
    }

    /// As [`replace_counter`](Self::replace_counter), unlogged.
    pub(crate) fn put_counter(&mut self, key: &[u8], counter: &Counter<'_>) {
        self.store.take_out(key);
        if let Some(rest) = counter.record(key, &mut Vec::new()) {
            let merged = self.store.merge(&rest);
            debug_assert!(merged.is_ok(), "its origins were those of an entry");
        }
        self.feed_change(key);
    }

    /// Adds `amount` to this run's part of a counter. If it is `in_place` of what was taken out unlogged, one frame
    /// tells the log of both: a crash leaves the one or the other.
    /// (`sim/regressions/a-write-was-cut-between-what-was-hidden-and-what-took-its-place`)
    pub(crate) fn put_part(&mut self, now: Now, key: &[u8], amount: i128, in_place: bool) {
        let Version { hlc, origin } = self.stamp(now);
        let counter = self.store.get(key).as_ref().map(Counter::of).unwrap_or_default();
        let (since, total) = counter.part_at(now.wall, origin).map_or((hlc, 0), |part| (part.since, part.total));
        let part = Part { origin, hlc, since, total: total.wrapping_add(amount) };
        let mut cell = Vec::new();
        let version = part.version();
        let written = Counter { base: counter.base, parts: vec![part], ..Counter::default() };
        let deadline = written.base.and_then(|base| base.deadline);
        written.put_cell(&mut cell);
        self.take_stamped(now, &Record { key, value: Some(&cell), is_counter: true, deadline, version }, in_place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::BaseValue;
    use crate::record::{decode, next_frame};
    use crate::replica::{Exposure, Return};
    use crate::retired::Entry;
    use crate::store::{SLOTS, key_name};
    use crate::time::{Mono, WallMs};
    use crate::version::{Hlc, OriginId};

    #[test]
    fn what_this_run_adds_is_not_folded_whatever_it_is_told() {
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, now.mono);
        assert_eq!(replica.add(now, b"c", 5), Ok(5));
        let entry = |origin, last| Entry { origin: OriginId(origin), last, parted: 7, after: Hlc::ZERO };
        assert!(!replica.retire(entry(1, replica.own_last())));
        assert!(replica.retire(entry(2, Hlc(9))));
        let stable = Known { retired: 2, ..Known::default() };
        let folded: usize = (0..SLOTS).map(|slot| replica.fold(slot, &stable, 7).folded).sum();
        assert_eq!((folded, replica.add(now, b"c", 5)), (0, Ok(10)));
    }

    #[test]
    fn what_is_added_to_a_base_that_was_deleted_and_collected_does_not_bring_it_back() {
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let passes = Some(now.wall.plus_ms(1));
        // The base's stamp and deadline, what was collected of the key, and what is read then.
        let check = |base: u64, deadline: Option<WallMs>, collected: Option<u64>, count: i128| {
            let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, now.mono);
            replica.origins.claim(OriginId(9), Hlc(100), now.mono);
            collected.inspect(|hlc| replica.collected.note(key_name(b"c"), Hlc(*hlc), true));
            let version = Version { hlc: Hlc(base), origin: OriginId(9) };
            let base = Some(Base { version, deadline, value: BaseValue::Integer(5) });
            let part = Part { origin: OriginId(8), hlc: Hlc(120), since: Hlc(120), total: 1 };
            let mut cell = Vec::new();
            Counter { base, parts: vec![part], ..Counter::default() }.put_cell(&mut cell);
            let record = Record { key: b"c", value: Some(&cell), is_counter: true, deadline, version: part.version() };
            assert!(replica.take(now.mono, &record, None).is_ok());
            let taken = replica.store.get(b"c").expect("it was taken");
            assert_eq!(Counter::of(&taken).count_at(now.wall), Count::Number(count), "{base:?}, {collected:?}");
        };
        check(50, None, Some(60), 1);
        check(50, None, Some(50), 1);
        check(50, passes, Some(60), 1);
        check(50, passes, Some(50), 6);
        check(50, None, Some(49), 6);
        check(50, None, None, 6);
        check(101, None, Some(150), 6);
    }

    const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
    const FIVE: BaseValue<'_> = BaseValue::Integer(5);

    fn version(origin: u64, hlc: u64) -> Version {
        Version { hlc: Hlc(hlc), origin: OriginId(origin) }
    }

    fn base(origin: u64, hlc: u64) -> Option<Base<'static>> {
        Some(Base { version: version(origin, hlc), deadline: None, value: FIVE })
    }

    fn part(origin: u64, since: u64, hlc: u64, total: i128) -> Part {
        Part { origin: OriginId(origin), hlc: Hlc(hlc), since: Hlc(since), total }
    }

    /// What is folded of the entries of one era, up to a number of the ledger.
    fn fold(replica: &Replica, origin: u64, number: u32, total: i128) -> Fold {
        let era = replica.origins.retired().folds(OriginId(origin)).expect("it is in the ledger").era;
        Fold { era, number, total, oldest: version(origin, 3), newest: version(origin, 4) }
    }

    /// A node whose ledger has 21 and 22 in one era, and 23 in the next.
    fn with_ledger() -> Replica {
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW.mono);
        for (origin, parted) in [(21, 7), (22, 7), (23, 8)] {
            assert!(replica.retire(Entry { origin: OriginId(origin), last: Hlc(9), parted, after: Hlc::ZERO }));
        }
        replica.swept_len = 2;
        replica
    }

    fn known(claims: &[(u64, u64)]) -> Known {
        let mut known = Known::default();
        known.claims.raise_all(claims.iter().map(|(origin, hlc)| (OriginId(*origin), Hlc(*hlc))));
        known
    }

    /// Has `meet` happen to a node that holds `mine`; what stands then.
    fn after(
        replica: &mut Replica,
        mine: &Counter<'_>,
        theirs: &Counter<'_>,
        meet: impl FnOnce(&mut Replica, &Record<'_>),
    ) -> (Option<Version>, Vec<Fold>, Vec<Part>) {
        replica.replace_counter(b"c", mine);
        let mut text = Vec::new();
        meet(replica, &theirs.record(b"c", &mut text).expect("there is something in it"));
        let stands = replica.store.get(b"c").as_ref().map(Counter::of).unwrap_or_default();
        (stands.base.map(|base| base.version), stands.folds.clone(), stands.parts)
    }

    #[test]
    fn what_a_cluster_has_reset_and_forgotten_goes() {
        let forgo = |mine: &Counter<'_>, theirs: &Counter<'_>, claims: &[(u64, u64)]| {
            let claims = known(claims);
            after(&mut with_ledger(), mine, theirs, |replica, record| replica.forgo_reset(record, &claims))
        };
        let replica = with_ledger();
        let folds = |folds: &[Fold]| Counter { folds: folds.to_vec(), ..Counter::default() };
        let [five, six, seven, eight] = [5, 6, 7, 8].map(|origin| part(origin, 50, 60, 1));
        // A part that is known, and neither there nor in what is folded there.
        assert_eq!(forgo(&parts(&[five]), &parts(&[six]), &[(5, 60)]).2, []);
        assert_eq!(forgo(&parts(&[five]), &parts(&[six]), &[(5, 59)]).2, [five]);
        assert_eq!(forgo(&parts(&[five]), &parts(&[five]), &[(5, 60)]).2, [five]);
        let retired = part(22, 3, 4, 1);
        assert_eq!(forgo(&parts(&[retired]), &folds(&[fold(&replica, 21, 2, 1)]), &[(22, 9)]).2, [retired]);
        assert_eq!(forgo(&parts(&[retired]), &folds(&[fold(&replica, 21, 1, 1)]), &[(22, 9)]).2, []);
        // What is folded, and known, and there neither folded nor as it was.
        let (first, next) = (fold(&replica, 21, 2, 1), fold(&replica, 23, 3, 1));
        assert_eq!(forgo(&folds(&[first]), &parts(&[six]), &[]).1, []);
        assert_eq!(forgo(&folds(&[first]), &folds(&[next]), &[]).1, []);
        assert_eq!(forgo(&folds(&[first]), &folds(&[fold(&replica, 21, 1, 1)]), &[]).1, [first]);
        assert_eq!(forgo(&folds(&[first]), &parts(&[retired]), &[]).1, [first]);
        assert_eq!(forgo(&folds(&[next]), &parts(&[six]), &[]).1, [next]);
        // Of several, that one alone.
        let mine = Counter { folds: vec![first], parts: vec![five, six], ..Counter::default() };
        assert_eq!(forgo(&mine, &folds(&[first]), &[(5, 60)]), (None, vec![first], vec![six]));
        let mine = Counter { folds: vec![first], parts: vec![five], ..Counter::default() };
        assert_eq!(forgo(&mine, &folds(&[first]), &[(5, 60)]), (None, vec![first], vec![]));
        let mut both = vec![first, next];
        both.sort_unstable();
        let mine = Counter { folds: both.clone(), parts: vec![five, six, seven, eight], ..Counter::default() };
        assert_eq!(forgo(&mine, &folds(&[first]), &[(5, 60)]), (None, both, vec![six, seven, eight]));
        // A base that is known, and older than theirs or gone.
        let based = |origin, hlc, parts: &[Part]| Counter { base: base(origin, hlc), ..self::parts(parts) };
        assert_eq!(forgo(&based(5, 40, &[six]), &parts(&[six]), &[(5, 40)]).0, None);
        assert_eq!(forgo(&based(5, 40, &[six]), &parts(&[six]), &[(5, 39)]).0, Some(version(5, 40)));
        assert_eq!(forgo(&based(5, 40, &[six]), &based(5, 40, &[]), &[(5, 40)]).0, Some(version(5, 40)));
        assert_eq!(forgo(&based(5, 40, &[six]), &based(5, 39, &[]), &[(5, 40)]).0, None);
    }

    #[test]
    fn who_comes_back_keeps_what_only_it_knows() {
        let meet = |mine: &Counter<'_>, theirs: &Counter<'_>, claims: &[(u64, u64)]| {
            let mut replica = with_ledger();
            replica.exposure = Exposure::Returning(Return::Unswept);
            let claims = known(claims);
            after(&mut replica, mine, theirs, |replica, record| {
                assert!(replica.meet_counter(NOW, record, &claims).is_ok());
            })
        };
        let own = |stands: &[Part]| stands.iter().find(|part| part.origin == OriginId(1)).map(|part| part.total);
        let six = part(6, 50, 60, 1);
        // Of a part that they have the beginning of, the rest; of one that began otherwise, all unless they knew it.
        let (mine, earlier, other) = (part(5, 50, 60, 9), part(5, 50, 55, 4), part(5, 45, 55, 4));
        assert_eq!(own(&meet(&parts(&[mine]), &parts(&[earlier]), &[(5, 55)]).2), Some(5));
        assert_eq!(own(&meet(&parts(&[mine]), &parts(&[other]), &[(5, 55)]).2), None);
        assert_eq!(own(&meet(&parts(&[mine]), &parts(&[other]), &[(5, 49)]).2), Some(9));
        assert_eq!(own(&meet(&parts(&[mine]), &parts(&[mine]), &[]).2), None);
        // A base that they do not know stays, if it is the newest; one that they knew, and have no more, is reset.
        let based = |hlc, parts: &[Part]| Counter { base: base(5, hlc), ..self::parts(parts) };
        assert_eq!(meet(&based(40, &[]), &parts(&[six]), &[(5, 40)]).0, None);
        assert_eq!(meet(&based(40, &[]), &parts(&[six]), &[(5, 39)]).0, Some(version(5, 40)));
        assert_eq!(meet(&based(40, &[]), &based(30, &[six]), &[(5, 30)]).0, Some(version(5, 40)));
    }

    #[test]
    fn what_is_added_tells_what_it_counts_on() {
        let mut replica = with_ledger();
        replica.keep_tail();
        assert_eq!(replica.set(NOW, b"c", b"5", None), Ok(()));
        let at = replica.tail.end();
        assert_eq!(replica.add(NOW, b"c", 1), Ok(6));
        let mut out = Vec::new();
        replica.tail.copy_out(at, replica.tail.head(at).bytes, &mut out);
        let body = next_frame(&out, 1 << 10).expect("a frame").expect("all of it");
        let record = decode(body).expect("a record").record;
        assert_eq!(Counter::of(&record).count_at(NOW.wall), Count::Number(6));
    }

    #[test]
    fn what_was_hidden_of_a_counter_is_written_anew() {
        let mut replica = with_ledger();
        replica.reissued = vec![OriginId(9)];
        let mine = Counter { base: base(9, 40), parts: vec![part(6, 50, 60, 1)], ..Counter::default() };
        replica.replace_counter(b"c", &mine);
        replica.reissue_counter(NOW, b"c");
        let stands = replica.store.get(b"c").expect("a counter");
        assert_eq!(Counter::of(&stands).base.map(|base| (base.version.origin, base.value)), Some((OriginId(1), FIVE)));
    }

    #[test]
    fn of_a_counter_that_is_gone_elsewhere_what_was_known_there_goes() {
        let mut replica = with_ledger();
        let (first, next) = (fold(&replica, 21, 2, 1), fold(&replica, 23, 3, 1));
        let mut folds = vec![first, next];
        folds.sort_unstable();
        let (five, six) = (part(5, 50, 60, 1), part(6, 50, 60, 1));
        let mine = Counter { base: base(8, 1), folds, parts: vec![five, six] };
        let strip = |replica: &mut Replica, _: &Record<'_>| replica.strip_counter(b"c", &known(&[(5, 60), (8, 1)]));
        assert_eq!(after(&mut replica, &mine, &parts(&[six]), strip), (None, vec![next], vec![six]));
    }

    fn parts(parts: &[Part]) -> Counter<'static> {
        Counter { parts: parts.to_vec(), ..Counter::default() }
    }
}
