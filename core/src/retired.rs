//! The ledger of retired origins: runs that ended, of which every member holds everything (PROTOCOL.md rule 14).
//!
//! It is a log: entry number n says up to where the records of an origin go. A node's ledger holds what that node
//! covers and nothing else, so an origin in it needs no account, and is left out of every frontier that is stated. What
//! a node never had is in neither. A member that comes later takes the entries along with a sweep, which covers them;
//! one that is behind by some entries takes each as soon as its own frontier has got there.
//!
//! **One member appends**: the first of the roster by name, and only while each member has stated, under this very
//! roster, this very ledger, the same frontier of that origin, and that it has settled it (holds nothing of it
//! unclaimed, is not linked with it, and has the newest runs of all members linked). A member that states a roster has
//! it, and never appends under an older one again; so what it stated is all that it ever appended, whoever comes first
//! in the newer roster goes on from there, and all ledgers of one cluster are beginnings of one log.
//!
//! - `LEAVE` and `FORGET` make a newer roster; the first of what is left goes on. One who was forgotten and went on
//!   alone is told so when it returns, keeps its ledger to itself, and takes up the cluster's with its sweep.
//! - Two clusters that have grown apart and meet, or two halves that were told to forget each other, have two logs. Of
//!   two of which neither is the beginning of the other the one with the greater [`Mark`] stays. The other *lapses*:
//!   its origins get accounts again, which lose nothing, and are retired once more.
//! - A run that all took for ended and that goes on has its account opened again on top of its entry, and gets another
//!   entry when it has come to rest; the newer one counts.
//! - A run that stood still while another took its place may go on, and append once more by what members had stated to
//!   it. It is told that it is over, and what it appended ends with it; whoever takes that up all the same has another
//!   log than the run that took its place, if that has appended since, and the lesser lapses as above.
//!   (`sim/regressions/who-stood-still-retired-once-more-by-what-was-stated-before`)
//!
//! So nothing is lost where members disagree: an entry is only ever taken by who covers it. What the agreement is for
//! is that an entry's number means the same to all.
//!
//! What retired runs added to a counter is *folded* into one number (see [`counter`](crate::counter)), an *era* at a
//! time: the entries that were appended while the same members had lost their seats, and as long as that is so. Who is
//! forgotten and returns compares what it has with what the cluster has, and nothing that was folded can be taken apart
//! again. So it must be known on both sides or on one alone:
//!
//! - What is folded of an era all members of that time have stated to have, whatever side they are on by now.
//! - Once somebody has lost a seat, only what was begun after all that are left had stated that is folded, which no
//!   other side has seen; what was begun before stays as it is.
//!
//! A run that may still be up somewhere, and come back with more of it than the cluster knows, is in no era: its parts
//! stay. One is in an era if another run of its member answers at its address; should it be up all the same, it is told
//! that it is over.

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::version::{Hlc, OriginId};

/// Most entries: thirty nodes restarted daily take six years to get there, and 65,536 are 4 MiB. From then on nothing
/// is retired any more, and runs that end keep their accounts.
pub(crate) const RETIRED_MAX: usize = 65_536;

/// Names a ledger, whole: how long it is, and what is in it. Of two that fork the greater stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) len: u32,
    pub(crate) hash: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Retired {
    entries: Vec<Numbered>,
    /// By origin: the number of its newest entry.
    numbers: BTreeMap<OriginId, u32>,
    /// The era of the newest entry that is in one.
    newest: Option<(u32, u32)>,
}

/// What is said of a run that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) origin: OriginId,
    /// The stamp of its newest record.
    pub(crate) last: Hlc,
    /// A name of who had lost their seats when it was retired; 0 if what it added to counters stays as it is.
    pub(crate) parted: u32,
    /// What it had begun to add up to here stays as it is, too.
    pub(crate) after: Hlc,
}

#[derive(Clone, Copy, Debug)]
struct Numbered {
    entry: Entry,
    /// Of all entries up to this one.
    hash: u64,
    /// The number of the first entry of its era; 0 if it is in none.
    era: u32,
}

/// Where in the ledger a run is that belongs to an era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Folds {
    /// The ledger up to the era's first entry: no other log has this era.
    pub(crate) era: Mark,
    /// The number of the run's entry.
    pub(crate) number: u32,
    /// What it began to add later than this is folded.
    pub(crate) after: Hlc,
}

impl Retired {
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= RETIRED_MAX
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { len: self.len(), hash: self.entries.last().map_or(0, |of| of.hash) }
    }

    /// Whether this is the ledger that `mark` names, or continues it.
    pub(crate) fn continues(&self, mark: Mark) -> bool {
        match mark.len.checked_sub(1) {
            None => mark.hash == 0,
            Some(at) => self.entries.get(at as usize).is_some_and(|of| of.hash == mark.hash),
        }
    }

    /// The number of the entry of `origin`, from 1 on; of the newest, if there are two.
    pub(crate) fn number_of(&self, origin: OriginId) -> Option<u32> {
        self.numbers.get(&origin).copied()
    }

    /// Up to where the records of `origin` go; zero if it is not retired.
    pub(crate) fn last_of(&self, origin: OriginId) -> Hlc {
        self.last_within(self.len(), origin)
    }

    /// As [`last_of`](Self::last_of), by the first `len` entries only.
    pub(crate) fn last_within(&self, len: u32, origin: OriginId) -> Hlc {
        match self.number_of(origin) {
            Some(number) if number <= len => self.entries[number as usize - 1].entry.last,
            // Of an origin with two entries the older one may count; that is rare enough to go without an index.
            Some(_) if self.numbers.len() < self.entries.len() => {
                let mut within = self.entries.iter().take(len as usize).rev().map(|of| of.entry);
                within.find(|entry| entry.origin == origin).map_or(Hlc::ZERO, |entry| entry.last)
            }
            Some(_) | None => Hlc::ZERO,
        }
    }

    /// Appends an entry. False if there is no room, or if the origin is retired up to there.
    pub(crate) fn append(&mut self, entry: Entry) -> bool {
        let Entry { origin, last, parted, after } = entry;
        if self.is_full() || last <= self.last_of(origin) {
            return false;
        }
        let mut hasher = SipHasher13::new();
        for word in [self.mark().hash, origin.0, last.0, parted.into(), after.0] {
            hasher.write(&word.to_le_bytes());
        }
        let before = self.newest.filter(|(of, _)| *of == parted);
        let era = if parted == 0 { 0 } else { before.map_or(self.len() + 1, |(_, era)| era) };
        if parted != 0 {
            self.newest = Some((parted, era));
        }
        // 0 is the hash of the empty ledger.
        self.entries.push(Numbered { entry, hash: hasher.finish() | 1, era });
        self.numbers.insert(origin, self.len());
        true
    }

    /// The entries behind the first `len`.
    pub(crate) fn since(&self, len: u32) -> impl ExactSizeIterator<Item = Entry> + Clone + '_ {
        let from = (len as usize).min(self.entries.len());
        self.entries[from..].iter().map(|of| of.entry)
    }

    /// Whether this ledger and one that has `entries` behind its first `len`, which both have, can be one log.
    pub(crate) fn agrees(&self, len: u32, entries: &[Entry]) -> bool {
        self.since(len).zip(entries).all(|(mine, theirs)| mine == *theirs)
    }

    /// Where `origin` is, if what it added to counters is folded.
    pub(crate) fn folds(&self, origin: OriginId) -> Option<Folds> {
        let number = self.number_of(origin)?;
        let Numbered { entry, era: first, .. } = self.entries[number as usize - 1];
        let at = first.checked_sub(1)?;
        Some(Folds { era: Mark { len: first, hash: self.entries[at as usize].hash }, number, after: entry.after })
    }

    /// As [`folds`](Self::folds), while those have lost their seats who had then.
    pub(crate) fn folds_under(&self, parted: u32, origin: OriginId) -> Option<Folds> {
        self.folds(origin).filter(|folds| self.entries[folds.number as usize - 1].entry.parted == parted)
    }

    /// What the entries of the newest era say that is folded of their runs, if those had `parted` then: what was begun
    /// later than this.
    pub(crate) fn after(&self, parted: u32) -> Option<Hlc> {
        let (_, era) = self.newest.filter(|(of, _)| *of == parted)?;
        Some(self.entries[era as usize - 1].entry.after)
    }

    /// Whether this ledger says all that was folded of an era up to a number.
    pub(crate) fn holds(&self, era: Mark, number: u32) -> bool {
        number <= self.len() && self.continues(era)
    }

    /// The ledger that has `entries` behind the first `len` of this one.
    pub(crate) fn extended(&self, len: u32, entries: &[Entry]) -> Self {
        let mut extended = Self::default();
        for entry in self.since(0).take(len as usize).chain(entries.iter().copied()) {
            extended.append(entry);
        }
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(origin: u64, last: u64, parted: u32) -> Entry {
        Entry { origin: OriginId(origin), last: Hlc(last), parted, after: Hlc::ZERO }
    }

    fn ledger(entries: &[(u64, u64)]) -> Retired {
        let mut retired = Retired::default();
        for (origin, last) in entries {
            assert!(retired.append(entry(*origin, *last, 1)));
        }
        retired
    }

    #[test]
    fn entries_are_numbered_from_one_and_named_by_their_order() {
        let (one, other) = (ledger(&[(7, 10), (3, 20)]), ledger(&[(3, 20), (7, 10)]));
        assert_eq!((one.number_of(OriginId(7)), one.number_of(OriginId(3)), one.number_of(OriginId(4))), {
            (Some(1), Some(2), None)
        });
        assert_eq!((one.last_of(OriginId(3)), one.last_of(OriginId(4))), (Hlc(20), Hlc::ZERO));
        assert_eq!((one.last_within(1, OriginId(7)), one.last_within(1, OriginId(3))), (Hlc(10), Hlc::ZERO));
        assert_ne!(one.mark(), other.mark());
        assert_eq!(one.since(1).collect::<Vec<_>>(), [entry(3, 20, 1)]);
        assert_eq!(one.since(9).len(), 0);
    }

    #[test]
    fn a_ledger_continues_its_beginnings_and_no_other() {
        let (short, long, other) = (ledger(&[(1, 5)]), ledger(&[(1, 5), (2, 6)]), ledger(&[(1, 6)]));
        assert!(long.continues(short.mark()) && long.continues(long.mark()) && long.continues(Mark::default()));
        assert!(!short.continues(long.mark()) && !long.continues(other.mark()));
        assert!(!long.continues(Mark { len: 0, hash: 9 }));
        assert!(short.agrees(0, &[entry(1, 5, 1), entry(2, 6, 1)]));
        assert!(long.agrees(1, &[entry(2, 6, 1), entry(9, 6, 1)]) && long.agrees(0, &[]));
        assert!(!long.agrees(1, &[entry(2, 7, 1)]));
    }

    #[test]
    fn who_goes_on_gets_another_entry() {
        let mut retired = ledger(&[(1, 5), (2, 6)]);
        assert!(!retired.append(entry(1, 5, 1)));
        assert!(retired.append(entry(1, 8, 1)));
        assert_eq!((retired.number_of(OriginId(1)), retired.last_of(OriginId(1))), (Some(3), Hlc(8)));
        assert_eq!(retired.last_within(2, OriginId(1)), Hlc(5));
        assert_eq!(retired.last_within(0, OriginId(1)), Hlc::ZERO);
    }

    #[test]
    fn a_full_ledger_stays_as_it_is() {
        let mut retired = Retired::default();
        for origin in 1..=RETIRED_MAX as u64 {
            assert!(retired.append(entry(origin, 1, 0)));
        }
        let mark = retired.mark();
        assert!(retired.is_full() && !retired.append(entry(u64::MAX, 1, 0)));
        assert_eq!((retired.mark(), retired.len() as usize), (mark, RETIRED_MAX));
    }

    #[test]
    fn an_era_is_what_was_retired_while_the_same_had_lost_their_seats() {
        let mut retired = Retired::default();
        for (origin, parted) in [(1, 7), (2, 7), (3, 8), (4, 0), (5, 8), (6, 7)] {
            assert!(retired.append(entry(origin, 10, parted)));
        }
        let era = |origin| retired.folds(OriginId(origin)).map(|folds| (folds.era.len, folds.number));
        assert_eq!([1, 2, 3, 4, 5, 6, 9].map(era), {
            [Some((1, 1)), Some((1, 2)), Some((3, 3)), None, Some((3, 5)), Some((6, 6)), None]
        });
        let (short, other) = (retired.extended(5, &[]), retired.extended(2, &[entry(5, 10, 8)]));
        let [five, six] = [5, 6].map(|origin| retired.folds(OriginId(origin)).unwrap());
        let holds = |ledger: &Retired, folds: Folds| ledger.holds(folds.era, folds.number);
        assert!(holds(&retired, six) && holds(&short, five) && !holds(&short, six));
        assert!(!holds(&other, five), "of another log");
        assert_eq!((retired.folds_under(8, OriginId(5)), retired.folds_under(7, OriginId(5))), (Some(five), None));
        // Who goes on may bring more than was folded.
        assert!(retired.append(entry(1, 11, 0)));
        assert_eq!(retired.folds(OriginId(1)), None);
    }
}
