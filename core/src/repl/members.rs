//! Who the members are, where they are reached, and when they are dialed.
//!
//! A member is known by name and by its newest run; a newer run fences the older. Which is the newer is told by the
//! address and not by a clock: whoever answers where another run answered before has taken its place. An address comes
//! from the command line or from a peer's word; each leads to a member, more than one may lead to the same.

use std::collections::{BTreeMap, VecDeque};

use crate::boundary::{AddrId, ConnId};
use crate::config::Timers;
use crate::rand::Rand;
use crate::time::Mono;
use crate::version::OriginId;
use crate::wire::peer::MEMBERS_MAX;

/// An address that only peers named, and that nobody could reach for this long, is forgotten. A day: longer than any
/// repair that ends with the same machine at the same address.
const UNREACHED_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) run: OriginId,
    pub(crate) incarnation: u64,
    /// The address it gave itself.
    pub(crate) advertise: String,
    /// Where it serves clients, if not there and if it says so.
    pub(crate) clients_at: Option<String>,
    /// When it greeted last, or was last seen linked.
    pub(crate) met: Mono,
}

/// A place to dial.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: AddrId,
    pub(crate) address: String,
    /// From the command line, and so never forgotten.
    named: bool,
    /// Whom it led to, or leads to by a peer's word.
    pub(crate) member: Option<String>,
    /// Who answered last.
    answered: Option<Answered>,
    pub(crate) state: DialState,
    /// Why the last dial that was answered came to nothing, if it did.
    pub(crate) turned_away: Option<String>,
    backoff_ms: u64,
    /// The link over it was not turned away, or the last one was not.
    let_in: bool,
    /// A dial of it has come to an end, one way or the other.
    pub(crate) tried: bool,
    reached: Mono,
}

#[derive(Debug)]
struct Answered {
    name: String,
    run: OriginId,
    /// As which it writes.
    origin: OriginId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialState {
    /// To be dialed from then on.
    Waiting(Mono),
    Dialing,
    Linked(ConnId),
    /// It is our own.
    Own,
}

/// What a greeting means for the member it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the member's run now, if it was not already.
    Admitted,
    /// Another run of the member is linked; nothing changed. `later`: this one claims to have begun after it.
    Rivalled { later: bool },
    /// The run has ended: another one answers at its address.
    Fenced,
    /// There is no room for another member.
    Full,
}

/// Runs remembered as ended.
pub(crate) const ENDED_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Members {
    members: BTreeMap<String, Member>,
    targets: Vec<Target>,
    next_id: u32,
    /// Runs whose address another run has answered since, and as what they wrote, oldest first.
    ended: VecDeque<OriginId>,
}

impl Members {
    pub(crate) fn new(named: &[String], now: Mono) -> Self {
        let mut members = Self::default();
        for address in named {
            members.add(address, true, None, now);
        }
        members
    }

    /// Members met.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Runs remembered as ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.len()
    }

    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    pub(crate) fn target(&self, id: AddrId) -> Option<&Target> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// Members met, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Member)> + Clone {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// Takes in who greeted, over a dial to `dialed` or unasked. `linked`: a link over which this node pulls from the
    /// run that was known stands.
    pub(crate) fn admit(
        &mut self,
        name: &str,
        greeted: Member,
        dialed: Option<AddrId>,
        linked: bool,
        now: Mono,
    ) -> Admission {
        if self.ended.contains(&greeted.run) {
            return Admission::Fenced;
        }
        if let Some(target) = dialed.and_then(|id| self.target_mut(id)) {
            let run = greeted.run;
            let before = target.answered.take_if(|before| before.run != run);
            target.answered.get_or_insert_with(|| Answered { name: name.to_owned(), run, origin: run });
            // An address that led to another member before says nothing: one name may stand for many machines.
            if let Some(before) = before.filter(|before| before.name == name) {
                self.end(before.run);
                if before.origin != before.run {
                    self.end(before.origin);
                }
            }
        }
        if let Some(known) = self.members.get(name) {
            if known.run != greeted.run && linked && !self.ended.contains(&known.run) {
                return Admission::Rivalled { later: greeted.incarnation > known.incarnation };
            }
        } else if self.members.len() >= MEMBERS_MAX && !self.forget_longest_gone() {
            return Admission::Full;
        }
        self.learn(name, &greeted.advertise, now);
        self.members.insert(name.to_owned(), greeted);
        Admission::Admitted
    }

    /// `run` says as which origin it writes.
    pub(crate) fn writes_as(&mut self, run: OriginId, origin: OriginId) {
        let is_anothers = |of: &Answered| of.run != run && (of.run == origin || of.origin == origin);
        if self.targets.iter().filter_map(|target| target.answered.as_ref()).any(is_anothers) {
            return;
        }
        let answered = self.targets.iter_mut().filter_map(|target| target.answered.as_mut());
        answered.filter(|answered| answered.run == run).for_each(|answered| answered.origin = origin);
    }

    /// Whether another run has taken the place of this one, or of the one that wrote as this.
    pub(crate) fn has_ended(&self, run: OriginId) -> bool {
        self.ended.contains(&run)
    }

    /// Makes room: forgets the member that greeted longest ago of those this node does not pull from. False if there is
    /// none.
    fn forget_longest_gone(&mut self) -> bool {
        let is_linked = |name: &str| {
            let leads_to = |target: &&Target| target.member.as_deref() == Some(name);
            self.targets.iter().filter(leads_to).any(|target| matches!(target.state, DialState::Linked(_)))
        };
        let gone = self.members.iter().filter(|(name, _)| !is_linked(name)).min_by_key(|(_, member)| member.met);
        let Some(name) = gone.map(|(name, _)| name.clone()) else { return false };
        self.members.remove(&name);
        self.targets.retain(|target| target.named || target.member.as_ref() != Some(&name));
        true
    }

    fn end(&mut self, run: OriginId) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(run);
    }

    /// Takes in a peer's word that `name` is reached at `address`.
    pub(crate) fn learn(&mut self, name: &str, address: &str, now: Mono) {
        match self.targets.iter_mut().find(|target| target.address == address) {
            Some(target) if target.member.is_none() => target.member = Some(name.to_owned()),
            Some(_) => {}
            None => self.add(address, false, Some(name.to_owned()), now),
        }
    }

    /// The next address whose time has come and that leads to nobody who is `linked` already.
    pub(crate) fn next_dial(&mut self, now: Mono, linked: impl Fn(&str) -> bool) -> Option<AddrId> {
        let due = |target: &Target| match target.state {
            DialState::Waiting(at) => at <= now && !target.member.as_deref().is_some_and(&linked),
            DialState::Dialing | DialState::Linked(_) | DialState::Own => false,
        };
        let target = self.targets.iter_mut().find(|target| due(target))?;
        target.state = DialState::Dialing;
        Some(target.id)
    }

    pub(crate) fn dialed(&mut self, id: AddrId, conn: ConnId) -> bool {
        let Some(target) = self.target_mut(id) else { return false };
        target.state = DialState::Linked(conn);
        target.let_in = false;
        true
    }

    /// The link over `id` stands: it led to `name`.
    pub(crate) fn greeted(&mut self, id: AddrId, name: &str, now: Mono) {
        if let Some(target) = self.target_mut(id) {
            target.member = Some(name.to_owned());
            target.tried = true;
            target.let_in = true;
            target.turned_away = None;
            target.reached = now;
        }
    }

    /// Whoever answers at an address turned this node away, or was turned away; true if that is news.
    pub(crate) fn turned_away(&mut self, id: AddrId, why: &str) -> bool {
        let Some(target) = self.target_mut(id) else { return false };
        let is_news = target.turned_away.as_deref() != Some(why);
        if is_news {
            target.turned_away = Some(why.to_owned());
        }
        is_news
    }

    /// Why `name` turned this node away when it was dialed last, or was turned away, if that was so.
    pub(crate) fn turned_away_by(&self, name: &str) -> Option<&str> {
        let leads_to = |target: &&Target| target.member.as_deref() == Some(name);
        self.targets.iter().filter(leads_to).find_map(|target| target.turned_away.as_deref())
    }

    /// The address is our own.
    pub(crate) fn is_own(&mut self, id: AddrId) {
        if let Some(target) = self.target_mut(id) {
            target.state = DialState::Own;
            target.tried = true;
        }
    }

    /// A dial failed, or the link over it ended: it is dialed again after a while, later each time, with jitter so that
    /// those who lost the same peer do not come back in step.
    pub(crate) fn lost(&mut self, id: AddrId, timers: &Timers, rand: &mut Rand, now: Mono) {
        let Some(at) = self.targets.iter().position(|target| target.id == id) else { return };
        let target = &mut self.targets[at];
        target.tried = true;
        if target.state == DialState::Own {
            return;
        }
        // Only a link that stood for a while ends the backing off: one that is turned away again and again does not.
        let stood_ms = now.ms_since(target.reached);
        if matches!(target.state, DialState::Linked(_)) && target.let_in && stood_ms >= timers.redial_ms_max {
            target.backoff_ms = timers.redial_ms_min;
        }
        let half = target.backoff_ms / 2;
        target.state = DialState::Waiting(now.plus_ms(half + rand.below(half + 1)));
        target.backoff_ms = timers.redial_ms_after(target.backoff_ms);
        if !target.named && now.ms_since(target.reached) > UNREACHED_MS_MAX {
            self.targets.swap_remove(at);
        }
    }

    /// All that wait are dialed at once: who was turned away is welcome now.
    pub(crate) fn dial_soon(&mut self, now: Mono) {
        for target in &mut self.targets {
            if let DialState::Waiting(_) = target.state {
                target.state = DialState::Waiting(now);
            }
            target.tried = false;
        }
    }

    /// The run of `name` that greeted last.
    pub(crate) fn run_of(&self, name: &str) -> Option<OriginId> {
        self.members.get(name).map(|member| member.run)
    }

    /// A link with `name` stands.
    pub(crate) fn seen(&mut self, name: &str, now: Mono) {
        if let Some(member) = self.members.get_mut(name) {
            member.met = now;
        }
    }

    /// All are missed from now on only.
    pub(crate) fn miss_from(&mut self, now: Mono) {
        self.members.values_mut().for_each(|member| member.met = now);
    }

    /// Whether no link with `name` stood for `ms`; one that this node never met is not gone.
    pub(crate) fn is_gone(&self, name: &str, ms: u64, now: Mono) -> bool {
        self.members.get(name).is_some_and(|member| now.ms_since(member.met) >= ms)
    }

    /// Forgets a member: it is not dialed any more, but for an address of the command line.
    pub(crate) fn forget(&mut self, name: &str) {
        self.members.remove(name);
        let leads_to = |target: &Target| target.member.as_deref() == Some(name);
        self.targets.retain(|target| {
            target.named || !leads_to(target) || matches!(target.state, DialState::Linked(_) | DialState::Dialing)
        });
    }

    /// When the next dial is due.
    pub(crate) fn deadline(&self, linked: impl Fn(&str) -> bool) -> Option<Mono> {
        let due = |target: &Target| match target.state {
            DialState::Waiting(at) if !target.member.as_deref().is_some_and(&linked) => Some(at),
            DialState::Waiting(_) | DialState::Dialing | DialState::Linked(_) | DialState::Own => None,
        };
        self.targets.iter().filter_map(due).min()
    }

    fn add(&mut self, address: &str, named: bool, member: Option<String>, now: Mono) {
        let held = self.targets.iter().any(|target| target.address == address);
        if held || (!named && self.targets.len() >= MEMBERS_MAX) {
            return;
        }
        self.targets.push(Target {
            id: AddrId(self.next_id),
            address: address.to_owned(),
            named,
            member,
            answered: None,
            state: DialState::Waiting(now),
            turned_away: None,
            backoff_ms: 0,
            let_in: false,
            tried: false,
            reached: now,
        });
        self.next_id += 1;
    }

    fn target_mut(&mut self, id: AddrId) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(run: u64, incarnation: u64) -> Member {
        Member { run: OriginId(run), incarnation, advertise: "b:1".into(), clients_at: None, met: Mono(0) }
    }

    #[test]
    fn whoever_answers_at_an_address_fences_who_answered_before() {
        let mut members = Members::new(&["b:1".into()], Mono(0));
        let at = members.next_dial(Mono(0), |_| false);
        let mut admit =
            |run, incarnation, dialed, linked| members.admit("b", member(run, incarnation), dialed, linked, Mono(0));
        assert_eq!(admit(1, 10, at, false), Admission::Admitted);
        assert_eq!(admit(2, 11, None, true), Admission::Rivalled { later: true });
        assert_eq!(admit(2, 9, None, true), Admission::Rivalled { later: false });
        assert_eq!(admit(2, 9, at, true), Admission::Admitted);
        assert_eq!(admit(1, 10, None, true), Admission::Fenced);
        assert_eq!(admit(1, 10, None, false), Admission::Fenced);
        assert_eq!(admit(2, 9, None, true), Admission::Admitted);
        // The next one may come by itself before its address is dialed.
        assert_eq!(admit(3, 12, None, false), Admission::Admitted);
        assert_eq!(admit(3, 12, at, true), Admission::Admitted);
        assert_eq!(admit(2, 9, None, false), Admission::Fenced);
    }

    #[test]
    fn who_says_that_it_writes_as_another_ends_nobody() {
        let mut members = Members::new(&["b:1".into(), "c:1".into()], Mono(0));
        let (b, c) = (members.next_dial(Mono(0), |_| false), members.next_dial(Mono(0), |_| false));
        assert_eq!(members.admit("b", member(1, 10), b, false, Mono(0)), Admission::Admitted);
        assert_eq!(members.admit("c", member(5, 10), c, false, Mono(0)), Admission::Admitted);
        members.writes_as(OriginId(5), OriginId(1));
        assert_eq!(members.admit("c", member(6, 11), c, false, Mono(0)), Admission::Admitted);
        assert!(members.has_ended(OriginId(5)) && !members.has_ended(OriginId(1)));
    }

    #[test]
    fn what_a_run_wrote_as_ends_with_it() {
        let mut members = Members::new(&["b:1".into()], Mono(0));
        let at = members.next_dial(Mono(0), |_| false);
        assert_eq!(members.admit("b", member(1, 10), at, false, Mono(0)), Admission::Admitted);
        members.writes_as(OriginId(1), OriginId(7));
        assert_eq!(members.admit("b", member(2, 11), None, false, Mono(0)), Admission::Admitted);
        assert!(!members.has_ended(OriginId(7)));
        assert_eq!(members.admit("b", member(2, 11), at, false, Mono(0)), Admission::Admitted);
        assert!([1, 7].into_iter().all(|origin| members.has_ended(OriginId(origin))));
        assert!(!members.has_ended(OriginId(2)));
    }

    #[test]
    fn an_address_that_leads_to_one_member_and_then_another_fences_neither() {
        let mut members = Members::new(&["any:1".into()], Mono(0));
        let any = members.next_dial(Mono(0), |_| false);
        assert_eq!(members.admit("b", member(1, 10), any, false, Mono(0)), Admission::Admitted);
        assert_eq!(members.admit("c", member(2, 10), any, false, Mono(0)), Admission::Admitted);
        assert_eq!(members.admit("b", member(1, 10), any, false, Mono(0)), Admission::Admitted);
    }

    #[test]
    fn a_full_book_forgets_who_greeted_longest_ago() {
        let mut members = Members::default();
        for at in 0..=MEMBERS_MAX as u64 {
            let member = Member { met: Mono(at), advertise: format!("{at}:1"), ..member(at + 1, 1) };
            assert_eq!(members.admit(&at.to_string(), member, None, false, Mono(at)), Admission::Admitted);
        }
        assert_eq!(members.iter().count(), MEMBERS_MAX);
        assert!(members.iter().all(|(name, _)| name != "0"));
        assert!(members.targets().len() <= MEMBERS_MAX);
    }

    #[test]
    fn two_nodes_of_one_name_at_two_addresses_do_not_fence_each_other() {
        let mut members = Members::new(&["b:1".into(), "b:2".into()], Mono(0));
        let one = members.next_dial(Mono(0), |_| false);
        let two = members.next_dial(Mono(0), |_| false);
        assert_eq!(members.admit("b", member(1, 10), one, false, Mono(0)), Admission::Admitted);
        assert_eq!(members.admit("b", member(2, 11), two, true, Mono(0)), Admission::Rivalled { later: true });
        assert_eq!(members.admit("b", member(1, 10), one, true, Mono(0)), Admission::Admitted);
    }

    #[test]
    fn an_address_is_dialed_once_and_again_only_later() {
        let timers = Timers::default();
        let mut rand = Rand::new([1; 4]);
        let mut members = Members::new(&["a:1".into(), "a:1".into()], Mono(0));
        let id = members.next_dial(Mono(0), |_| false).unwrap();
        assert_eq!(members.next_dial(Mono(0), |_| false), None);
        members.lost(id, &timers, &mut rand, Mono(0));
        members.lost(id, &timers, &mut rand, Mono(0));
        let DialState::Waiting(at) = members.target(id).unwrap().state else { panic!("it waits") };
        assert!(at > Mono(0) && at <= Mono(0).plus_ms(timers.redial_ms_min));
        assert_eq!(members.deadline(|_| false), Some(at));
        assert_eq!(members.next_dial(at, |_| false), Some(id));
    }

    #[test]
    fn who_is_turned_away_again_and_again_comes_less_and_less_often() {
        let timers = Timers::default();
        let mut rand = Rand::new([1; 4]);
        let mut members = Members::new(&["a:1".into()], Mono(0));
        let mut now = Mono(0);
        let mut wait_ms = 0;
        for _ in 0..20 {
            let id = members.next_dial(now, |_| false).unwrap();
            assert!(members.dialed(id, ConnId(1)));
            members.lost(id, &timers, &mut rand, now);
            let DialState::Waiting(at) = members.target(id).unwrap().state else { panic!("it waits") };
            (wait_ms, now) = (at.ms_since(now), at);
        }
        assert!(wait_ms >= timers.redial_ms_max / 2, "it waits {wait_ms} ms");
    }

    #[test]
    fn the_first_wait_is_the_longest_if_no_longer_one_is_wanted() {
        let timers = Timers { redial_ms_min: 100, redial_ms_max: 20, ..Timers::default() };
        let mut rand = Rand::new([1; 4]);
        let mut members = Members::new(&["a:1".into()], Mono(0));
        let mut now = Mono(0);
        for _ in 0..20 {
            let id = members.next_dial(now, |_| false).unwrap();
            members.lost(id, &timers, &mut rand, now);
            let DialState::Waiting(at) = members.target(id).unwrap().state else { panic!("it waits") };
            assert!(at.ms_since(now) <= 100);
            now = at;
        }
        assert_eq!([0, 50, 60, u64::MAX].map(|redial_ms| timers.redial_ms_after(redial_ms)), [100; 4]);
        assert_eq!([0, 60, 1_500].map(|redial_ms| Timers::default().redial_ms_after(redial_ms)), [100, 120, 2_000]);
    }

    #[test]
    fn a_member_linked_over_one_address_is_not_dialed_over_another() {
        let mut members = Members::default();
        members.learn("b", "b:1", Mono(0));
        assert_eq!(members.next_dial(Mono(0), |name| name == "b"), None);
        assert_eq!(members.deadline(|name| name == "b"), None);
        assert!(members.next_dial(Mono(0), |_| false).is_some());
    }
}
