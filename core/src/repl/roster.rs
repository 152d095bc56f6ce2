//! The roster: who must have seen a delete before it may be forgotten (PROTOCOL.md rule 17).
//!
//! It is explicit and replicated. A member gets its seat when it greets, and loses it by `FORGET`, by `LEAVE`, or after
//! the absence that an operator configured; never because somebody merely cannot reach it. Each seat is a register of
//! its own, so rosters merge like everything else. It keeps the stamp of the last loss: of two changes the one that
//! knows of the later loss wins, and of those that know of the same the later. So whoever hears of a seat hears of the
//! loss that it follows, and a seat that was given by who did not know of a loss does not undo it.
//!
//! A seat is a member's, by name, and what takes it away is about more than the run that is named with it: who forgets
//! a member may never have met its run, or only an earlier one. And who joins through members that were forgotten has
//! no seat at all with those who forgot them. So whoever comes as *established*, while here its name has no seat, was
//! established by members who did not know what was decided here, and lacks deletes that were forgotten since: it is
//! told that it was forgotten, and comes back. A run without old memory is not established before a member greets it,
//! and that member gives it a seat first and tells the others at once; where nobody has ever lost a seat, nobody is
//! suspected of knowing less. What a run knew when it was established counts, and not what it greeted with, which may
//! be from before: if it hears of a loss of its name that it had not heard of then, it comes back, though it has been
//! given a seat again since. (`sim/regressions/given-a-seat-again-by-a-greeting-from-before-it-was-established`)
//!
//! Where each of two sides was told to forget members of the other, all of one side come back. One rule orders sides:
//! the one whose roster knows of the newest decision, whoever that is about, stands; and a member that comes back takes
//! up the roster of those only who know of what it was told, or of something newer. (As long as each two compared what
//! they had decided about one another, three could each come back to another, and to nobody:
//! `sim/regressions/each-of-three-came-back-to-another`.)
//!
//! Two clusters that grew apart may meet without anybody having lost a seat. As long as neither has forgotten any
//! delete they become one. So before its first collection a cluster *seals* its roster, with a seat that was nobody's
//! and is lost: nothing is collected before all members have stated that they have it, and from then on whoever is
//! established and has no seat comes back. (As long as each member went by what it had itself collected, one that had
//! not yet gave a seat to those whom another could not take in: `sim/regressions/seated-by-who-had-not-collected-yet`.)
//!
//! The newer decision must reach whom it concerns. Who was forgotten and turned away may be the only one with a way to
//! the other, which dropped the address along with the seat; so it is listened to, and if its decision is the newer one
//! it answers with that on the very link on which it was turned away.
//!
//! A newcomer may meet both sides at once, and be given a seat by each before it has heard of what divides them. If it
//! hears that somebody whom it took for a member had lost a seat before it was given its own, it holds what those who
//! forgot may have deleted and collected before they reckoned with it: it comes back to them. Who had a seat when it
//! was decided needs no such thing: nothing was collected without its word. But that must have been the word of this
//! run: one that was established later has the seat of an earlier one, and none of its memory. It comes back, too.
//! (`sim/regressions/restarted-beside-one-that-was-forgotten-and-took-up-with-it-first`; the decision's stamp and the
//! run's own clock tell which was first, so while clocks differ by more than lies between the two, scrub is the net.)
//!
//! A seat is a name's, and so a cluster may have a seat for a member whose newest run was established by strangers. But
//! rosters of one cluster have seats in common, given by one and the same change. Two that have none are two sides, and
//! the one that knows of the newest decision is not given up; a seal counts only where neither has lost any other.
//!
//! (To tell only the run that is named was not enough: `sim/regressions/forgotten-by-a-member-that-had-never-met-it`
//! and `joined-through-members-that-were-forgotten` ended in different data on two nodes. So did, for the others,
//! `two-clusters-that-never-met`, `established-by-strangers-in-a-member-s-name`,
//! `forgotten-by-each-other-and-only-one-knows-the-way` and
//! `a-newcomer-between-one-that-was-forgotten-and-one-that-forgot-it`.)

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::version::{OriginId, Version};
use crate::wire::lists::{Decision, SeatView};
use crate::wire::peer::SEATS_MAX;

/// What is forgotten by name only: nobody has met its run, or there is none.
pub(crate) const NO_RUN: OriginId = OriginId(u64::MAX);

/// A member's seat, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Of the last change.
    pub(crate) version: Version,
    /// The run that lost the seat; `None`: the member has it.
    pub(crate) gone: Option<OriginId>,
    /// When the name lost its seat last, as far as whoever changed it knew: of a seat that is lost, its version.
    pub(crate) lost: Option<Version>,
}

impl Seat {
    /// What a member is given that has `lost` its last one, if it had any.
    pub(crate) const fn given(version: Version, lost: Option<Version>) -> Self {
        Self { version, gone: None, lost }
    }

    /// What is left when `run` has lost it.
    pub(crate) const fn lost(version: Version, run: OriginId) -> Self {
        Self { version, gone: Some(run), lost: Some(version) }
    }

    /// Which of two changes stands: a seat that was given by who did not know of a loss does not undo it.
    const fn order(&self) -> (Option<Version>, Version) {
        (self.lost, self.version)
    }
}

/// Whose seat the seal is: no member's name is empty.
const NOBODY: &str = "";

/// The newest decision that a roster knows of: of two sides, the one that knows of the newer stands.
pub(crate) fn newest_decision<'a>(seats: impl Iterator<Item = SeatView<'a>>) -> Option<Decision> {
    let decision = |seat: SeatView<'a>| Some(Decision { about_somebody: seat.name != NOBODY, version: seat.lost? });
    seats.filter_map(decision).max()
}

#[derive(Clone, Debug)]
pub(crate) struct Roster {
    seats: BTreeMap<String, Seat>,
    hash: u64,
    parted: (u32, bool),
}

impl Default for Roster {
    fn default() -> Self {
        let seats = BTreeMap::new();
        Self { hash: hash(&seats), parted: parted(&seats), seats }
    }
}

fn hash(seats: &BTreeMap<String, Seat>) -> u64 {
    let mut hasher = SipHasher13::new();
    for (name, seat) in seats {
        hasher.write(&(name.len() as u64).to_le_bytes());
        hasher.write(name.as_bytes());
        let lost = seat.lost.map_or([0; 2], |lost| [lost.hlc.0, lost.origin.0]);
        let words = [seat.version.hlc.0, seat.version.origin.0, seat.gone.map_or(0, |run| run.0)];
        for word in words.into_iter().chain(lost) {
            hasher.write(&word.to_le_bytes());
        }
    }
    hasher.finish()
}

fn parted(seats: &BTreeMap<String, Seat>) -> (u32, bool) {
    let mut lost = seats.iter().filter(|(name, seat)| seat.gone.is_some() && *name != NOBODY).peekable();
    let is_any = lost.peek().is_some();
    let mut hasher = SipHasher13::new();
    for (name, seat) in lost {
        hasher.write(&(name.len() as u64).to_le_bytes());
        hasher.write(name.as_bytes());
        hasher.write(&seat.version.hlc.0.to_le_bytes());
        hasher.write(&seat.version.origin.0.to_le_bytes());
    }
    ((hasher.finish() as u32).max(1), is_any)
}

impl Roster {
    /// Equal for equal rosters on all nodes.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// A name of those who have lost their seat, never 0; and whether there are any.
    pub(crate) const fn parted(&self) -> (u32, bool) {
        self.parted
    }

    /// Who has a seat, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = &str> {
        self.seats.iter().filter(|(_, seat)| seat.gone.is_none()).map(|(name, _)| name.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.seats.get(name).is_some_and(|seat| seat.gone.is_none())
    }

    /// When `name` was given its seat, if it has one.
    pub(crate) fn seated(&self, name: &str) -> Option<Version> {
        self.seats.get(name).filter(|seat| seat.gone.is_none()).map(|seat| seat.version)
    }

    /// Whether `name` had a seat once, and has none now.
    pub(crate) fn has_lost(&self, name: &str) -> bool {
        self.seats.get(name).is_some_and(|seat| seat.gone.is_some())
    }

    /// When `name` lost its last seat, whether or not it was given another since.
    pub(crate) fn lost(&self, name: &str) -> Option<Version> {
        self.seats.get(name)?.lost
    }

    /// The decision by which this run of `name` comes back, if it has lost the seat that it goes by: it is the one that
    /// was meant, or it is `established` by members who do not know that. As seen by `own`, who has a seat.
    pub(crate) fn forgotten(&self, own: &str, name: &str, run: OriginId, established: bool) -> Option<Decision> {
        let is_forgotten = match self.seats.get(name) {
            Some(Seat { gone: None, .. }) => false,
            Some(Seat { gone: Some(gone), .. }) => *gone == run || established,
            // It may have joined through members that were forgotten here.
            None => established && self.has(own),
        };
        newest_decision(self.iter()).filter(|_| is_forgotten)
    }

    /// Whether this and another roster are of clusters that came up apart: they have no seat in common.
    pub(crate) fn is_apart<'a>(&self, mut other: impl Iterator<Item = SeatView<'a>>) -> bool {
        let is_common = |seat: SeatView<'_>| self.seats.get(seat.name).is_some_and(|held| held.version == seat.version);
        !self.seats.is_empty() && !other.any(is_common)
    }

    /// Notes that from now on deletes may be forgotten under this roster.
    pub(crate) fn seal(&mut self, version: Version) {
        self.merge(NOBODY, Seat::lost(version, NO_RUN));
    }

    /// Whether deletes may have been forgotten under this roster.
    pub(crate) fn is_sealed(&self) -> bool {
        self.seats.contains_key(NOBODY)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// All seats, as they travel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeatView<'_>> + Clone {
        self.seats.iter().map(|(name, seat)| SeatView { name, version: seat.version, gone: seat.gone, lost: seat.lost })
    }

    /// How many seats there are, those that were lost among them.
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// Takes in a change; false if it is no news. The roster is bounded: of those who have gone, the last are kept, and
    /// the seal.
    pub(crate) fn merge(&mut self, name: &str, seat: Seat) -> bool {
        if self.seats.get(name).is_some_and(|held| held.order() >= seat.order()) {
            return false;
        }
        self.seats.insert(name.to_owned(), seat);
        let dropped = self.drop_first();
        (self.hash, self.parted) = (hash(&self.seats), parted(&self.seats));
        dropped.is_none_or(|dropped| dropped != name)
    }

    /// Makes room if there are too many seats; gives the name of the one that went.
    fn drop_first(&mut self) -> Option<String> {
        if self.seats.len() <= SEATS_MAX {
            return None;
        }
        let gone = self.seats.iter().filter(|(name, seat)| seat.gone.is_some() && *name != NOBODY);
        let members = || self.seats.iter().find(|(name, _)| *name != NOBODY);
        let first = gone.min_by_key(|(_, seat)| seat.version).or_else(members);
        let first = first.map(|(name, _)| name.clone())?;
        self.seats.remove(&first);
        Some(first)
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
                let lost = (hlc % 3 == 0).then_some(Version { hlc: Hlc(hlc / 2), ..version });
                let is_lost = hlc % 2 == 0;
                let seat = if is_lost { Seat::lost(version, OriginId(hlc)) } else { Seat::given(version, lost) };
                roster.merge(&format!("n{name}"), seat);
            };
            let (mut one, mut other) = (Roster::default(), Roster::default());
            (0..changes.len()).for_each(|at| merge(&mut one, at));
            let turn = if changes.is_empty() { 0 } else { order.index(changes.len()) };
            (turn..changes.len()).chain(0..turn).rev().for_each(|at| merge(&mut other, at));
            prop_assert_eq!(one.hash(), other.hash());
            prop_assert!(one.iter().eq(other.iter()));
        }
    }

    fn decided(version: Version) -> Option<Decision> {
        Some(Decision { about_somebody: true, version })
    }

    #[test]
    fn a_seat_that_is_gone_is_so_for_its_run_and_for_whoever_is_established_without_it() {
        let mut roster = Roster::default();
        let version = Version { hlc: Hlc(1), origin: OriginId(1) };
        roster.merge("n1", Seat::lost(version, OriginId(7)));
        let told = |roster: &Roster, run, established| roster.forgotten("n0", "n1", OriginId(run), established);
        assert_eq!([told(&roster, 7, true), told(&roster, 7, false), told(&roster, 8, true)], [decided(version); 3]);
        assert_eq!(told(&roster, 8, false), None);
        let later = Version { hlc: Hlc(2), ..version };
        roster.merge("n1", Seat::given(later, Some(version)));
        assert_eq!(told(&roster, 7, true), None);
    }

    #[test]
    fn a_seat_that_was_given_by_who_did_not_know_of_a_loss_does_not_undo_it() {
        let mut roster = Roster::default();
        let version = |hlc| Version { hlc: Hlc(hlc), origin: OriginId(1) };
        assert!(roster.merge("n1", Seat::lost(version(5), OriginId(7))));
        assert!(!roster.merge("n1", Seat::given(version(6), None)));
        assert!(!roster.merge("n1", Seat::given(version(7), Some(version(4)))));
        assert!(roster.has_lost("n1") && roster.lost("n1") == Some(version(5)));
        assert!(roster.merge("n1", Seat::given(version(6), Some(version(5)))));
        assert_eq!((roster.seated("n1"), roster.lost("n1")), (Some(version(6)), Some(version(5))));
        // The seat is given again; that it was lost is known as before.
        assert_eq!(newest_decision(roster.iter()), decided(version(5)));
    }

    #[test]
    fn who_was_never_heard_of_may_have_joined_through_those_who_were_forgotten() {
        let mut roster = Roster::default();
        let version = |hlc| Version { hlc: Hlc(hlc), origin: OriginId(1) };
        let told = |roster: &Roster, established| roster.forgotten("n0", "n1", OriginId(9), established);
        roster.merge("n0", Seat::given(version(1), None));
        assert_eq!(told(&roster, true), None, "nobody was forgotten");
        roster.merge("n2", Seat::lost(version(2), OriginId(3)));
        assert_eq!((told(&roster, true), told(&roster, false)), (decided(version(2)), None));
        roster.merge("n0", Seat::lost(version(3), OriginId(4)));
        assert_eq!(told(&roster, true), None, "who has no seat has no say");
    }

    #[test]
    fn a_full_roster_forgets_who_went_first() {
        let mut roster = Roster::default();
        for at in 1..=SEATS_MAX as u64 + 1 {
            let version = Version { hlc: Hlc(at), origin: OriginId(1) };
            let seat = if at > 3 { Seat::lost(version, OriginId(at)) } else { Seat::given(version, None) };
            roster.merge(&format!("n{at}"), seat);
        }
        assert_eq!(roster.iter().count(), SEATS_MAX);
        assert!(roster.has("n1") && roster.has("n3"));
        assert_eq!(roster.forgotten("n9", "n4", OriginId(4), true), None);
        assert!(roster.forgotten("n9", "n5", OriginId(5), false).is_some());
        let first = Version { hlc: Hlc(1), origin: OriginId(1) };
        assert!(!roster.merge("n0", Seat::lost(first, OriginId(9))));
    }
}
