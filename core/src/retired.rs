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
//!
//! So nothing is lost where members disagree: an entry is only ever taken by who covers it. What the agreement is for
//! is that an entry's number means the same to all.

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
    entries: Vec<Entry>,
    /// By origin: the number of its newest entry.
    numbers: BTreeMap<OriginId, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    origin: OriginId,
    /// The stamp of its newest record.
    last: Hlc,
    /// Of all entries up to this one.
    hash: u64,
}

impl Retired {
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= RETIRED_MAX
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { len: self.len(), hash: self.entries.last().map_or(0, |entry| entry.hash) }
    }

    /// Whether this is the ledger that `mark` names, or continues it.
    pub(crate) fn continues(&self, mark: Mark) -> bool {
        match mark.len.checked_sub(1) {
            None => mark.hash == 0,
            Some(at) => self.entries.get(at as usize).is_some_and(|entry| entry.hash == mark.hash),
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
            Some(number) if number <= len => self.entries[number as usize - 1].last,
            // Of an origin with two entries the older one may count; that is rare enough to go without an index.
            Some(_) if self.numbers.len() < self.entries.len() => {
                let within = self.entries.iter().take(len as usize).rev();
                within.into_iter().find(|entry| entry.origin == origin).map_or(Hlc::ZERO, |entry| entry.last)
            }
            Some(_) | None => Hlc::ZERO,
        }
    }

    /// Appends an entry. False if there is no room, or if the origin is retired up to there.
    pub(crate) fn append(&mut self, origin: OriginId, last: Hlc) -> bool {
        if self.is_full() || last <= self.last_of(origin) {
            return false;
        }
        let mut hasher = SipHasher13::new();
        for word in [self.mark().hash, origin.0, last.0] {
            hasher.write(&word.to_le_bytes());
        }
        // 0 is the hash of the empty ledger.
        self.entries.push(Entry { origin, last, hash: hasher.finish() | 1 });
        self.numbers.insert(origin, self.len());
        true
    }

    /// The entries behind the first `len`.
    pub(crate) fn since(&self, len: u32) -> impl ExactSizeIterator<Item = (OriginId, Hlc)> + Clone + '_ {
        let from = (len as usize).min(self.entries.len());
        self.entries[from..].iter().map(|entry| (entry.origin, entry.last))
    }

    /// Whether this ledger and one that has `entries` behind its first `len`, which both have, can be one log.
    pub(crate) fn agrees(&self, len: u32, entries: &[(OriginId, Hlc)]) -> bool {
        self.since(len).zip(entries).all(|(mine, theirs)| mine == *theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(entries: &[(u64, u64)]) -> Retired {
        let mut retired = Retired::default();
        for (origin, last) in entries {
            assert!(retired.append(OriginId(*origin), Hlc(*last)));
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
        assert_eq!(one.since(1).collect::<Vec<_>>(), [(OriginId(3), Hlc(20))]);
        assert_eq!(one.since(9).len(), 0);
    }

    #[test]
    fn a_ledger_continues_its_beginnings_and_no_other() {
        let (short, long, other) = (ledger(&[(1, 5)]), ledger(&[(1, 5), (2, 6)]), ledger(&[(1, 6)]));
        assert!(long.continues(short.mark()) && long.continues(long.mark()) && long.continues(Mark::default()));
        assert!(!short.continues(long.mark()) && !long.continues(other.mark()));
        assert!(!long.continues(Mark { len: 0, hash: 9 }));
        assert!(short.agrees(0, &[(OriginId(1), Hlc(5)), (OriginId(2), Hlc(6))]));
        assert!(long.agrees(1, &[(OriginId(2), Hlc(6)), (OriginId(9), Hlc(6))]) && long.agrees(0, &[]));
        assert!(!long.agrees(1, &[(OriginId(2), Hlc(7))]));
    }

    #[test]
    fn who_goes_on_gets_another_entry() {
        let mut retired = ledger(&[(1, 5), (2, 6)]);
        assert!(!retired.append(OriginId(1), Hlc(5)));
        assert!(retired.append(OriginId(1), Hlc(8)));
        assert_eq!((retired.number_of(OriginId(1)), retired.last_of(OriginId(1))), (Some(3), Hlc(8)));
        assert_eq!(retired.last_within(2, OriginId(1)), Hlc(5));
        assert_eq!(retired.last_within(0, OriginId(1)), Hlc::ZERO);
    }

    #[test]
    fn a_full_ledger_stays_as_it_is() {
        let mut retired = Retired::default();
        for origin in 1..=RETIRED_MAX as u64 {
            assert!(retired.append(OriginId(origin), Hlc(1)));
        }
        let mark = retired.mark();
        assert!(retired.is_full() && !retired.append(OriginId(u64::MAX), Hlc(1)));
        assert_eq!((retired.mark(), retired.len() as usize), (mark, RETIRED_MAX));
    }
}
