//! The roster: who must have seen a delete before it may be forgotten (PROTOCOL.md rule 17).
//!
//! It is explicit and replicated. A member gets its seat when it greets, and loses it by `FORGET`, by `LEAVE`, or after
//! the absence that an operator configured; never because somebody merely cannot reach it. Each seat is a register of
//! its own in which the later change wins, so rosters merge like everything else.
//!
//! A seat is a member's, by name, and what it is taken from is more than the run that is named with it: who forgets a
//! member may never have met its run, or an earlier one. So whoever comes as *established*, while here its seat is
//! known to be gone, was established by those who did not know that, and lacks the deletes that were forgotten since:
//! it is told so, and comes back. A run without old memory is not established before a member greets it, and that
//! member gives it a seat anew. (A plan in which a member that had been restarted forgot one that it had never met was
//! the counterexample to telling only the run that is named.)

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::version::{OriginId, Version};
use crate::wire::peer::{SEATS_MAX, SeatView};

/// A member's seat, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Of the last change.
    pub(crate) version: Version,
    /// The run that lost the seat; `None`: the member has it.
    pub(crate) gone: Option<OriginId>,
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    seats: BTreeMap<String, Seat>,
}

impl Roster {
    /// Equal for equal rosters on all nodes.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        for (name, seat) in &self.seats {
            hasher.write(&(name.len() as u64).to_le_bytes());
            hasher.write(name.as_bytes());
            for word in [seat.version.hlc.0, seat.version.origin.0, seat.gone.map_or(0, |run| run.0)] {
                hasher.write(&word.to_le_bytes());
            }
        }
        hasher.finish()
    }

    /// Who has a seat, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = &str> {
        self.seats.iter().filter(|(_, seat)| seat.gone.is_none()).map(|(name, _)| name.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.seats.get(name).is_some_and(|seat| seat.gone.is_none())
    }

    /// When `name` lost its seat, whichever run of it that was.
    pub(crate) fn gone(&self, name: &str) -> Option<Version> {
        self.seats.get(name).filter(|seat| seat.gone.is_some()).map(|seat| seat.version)
    }

    /// When this run of `name` lost the seat that it goes by: it is the one that was meant, or it is `established` by
    /// members who do not know that the seat is gone.
    pub(crate) fn forgotten(&self, name: &str, run: OriginId, established: bool) -> Option<Version> {
        let is_meant = |seat: &&Seat| seat.gone.is_some_and(|gone| gone == run || established);
        self.seats.get(name).filter(is_meant).map(|seat| seat.version)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// All seats, as they travel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeatView<'_>> + Clone {
        self.seats.iter().map(|(name, seat)| SeatView { name, version: seat.version, gone: seat.gone })
    }

    /// Takes in a change; false if it is no news. The roster is bounded: of those who have gone, the last are kept.
    pub(crate) fn merge(&mut self, name: &str, seat: Seat) -> bool {
        if self.seats.get(name).is_some_and(|held| held.version >= seat.version) {
            return false;
        }
        self.seats.insert(name.to_owned(), seat);
        if self.seats.len() <= SEATS_MAX {
            return true;
        }
        let gone = self.seats.iter().filter(|(_, seat)| seat.gone.is_some());
        let first = gone.min_by_key(|(_, seat)| seat.version).or_else(|| self.seats.iter().next());
        let Some(first) = first.map(|(name, _)| name.clone()) else { return true };
        self.seats.remove(&first);
        first != name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::Hlc;

    proptest! {
        #[test]
        fn any_order_of_changes_makes_the_same_roster(
            changes in proptest::collection::vec((0_u8..6, 1_u64..50, 1_u64..4), 0..40),
            order in any::<prop::sample::Index>(),
        ) {
            let merge = |roster: &mut Roster, at: usize| {
                let (name, hlc, origin) = changes[at];
                let version = Version { hlc: Hlc(hlc), origin: OriginId(origin) };
                // What one version says is one thing.
                let gone = (hlc % 2 == 0).then_some(OriginId(hlc));
                roster.merge(&format!("n{name}"), Seat { version, gone });
            };
            let (mut one, mut other) = (Roster::default(), Roster::default());
            (0..changes.len()).for_each(|at| merge(&mut one, at));
            let turn = if changes.is_empty() { 0 } else { order.index(changes.len()) };
            (turn..changes.len()).chain(0..turn).rev().for_each(|at| merge(&mut other, at));
            prop_assert_eq!(one.hash(), other.hash());
            prop_assert!(one.iter().eq(other.iter()));
        }
    }

    #[test]
    fn a_seat_that_is_gone_is_so_for_its_run_and_for_whoever_is_established_without_it() {
        let mut roster = Roster::default();
        let version = Version { hlc: Hlc(1), origin: OriginId(1) };
        roster.merge("n1", Seat { version, gone: Some(OriginId(7)) });
        let told = |run, established| roster.forgotten("n1", OriginId(run), established) == Some(version);
        assert!(told(7, true) && told(7, false) && told(8, true) && !told(8, false));
        assert_eq!(roster.gone("n1"), Some(version));
        roster.merge("n1", Seat { version: Version { hlc: Hlc(2), ..version }, gone: None });
        assert_eq!(roster.forgotten("n1", OriginId(7), true).or(roster.gone("n1")), None);
    }

    #[test]
    fn a_full_roster_forgets_who_went_first() {
        let mut roster = Roster::default();
        for at in 1..=SEATS_MAX as u64 + 1 {
            let version = Version { hlc: Hlc(at), origin: OriginId(1) };
            roster.merge(&format!("n{at}"), Seat { version, gone: (at > 3).then_some(OriginId(at)) });
        }
        assert_eq!(roster.iter().count(), SEATS_MAX);
        assert!(roster.has("n1") && roster.has("n3"));
        assert_eq!(roster.forgotten("n4", OriginId(4), true), None);
        assert!(roster.forgotten("n5", OriginId(5), false).is_some());
        assert!(
            !roster
                .merge("n0", Seat { version: Version { hlc: Hlc(1), origin: OriginId(1) }, gone: Some(OriginId(9)) })
        );
    }
}
