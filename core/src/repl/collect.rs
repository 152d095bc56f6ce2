//! Collection: taking out tombstones and husks once every member has seen what they say (PROTOCOL.md rules 17, 18).
//!
//! A tombstone of version (h, o) is *stable* when every member of the roster has stated, under this very roster, a
//! frontier that covers it, and this node's own frontier covers all of each such statement. Whatever is older than the
//! tombstone then lies below this node's frontier, so no stream and no sweep brings it any more; and each member that
//! served it could only have sent it before its statement, over a link that keeps the order.
//!
//! That is so of members. A run that has ended may have left records on their way to one of them, who takes them after
//! it has made its statement, and hands them on to who has collected. So nothing is stable before every member has
//! stated too, of each run that ended, that nothing of it can come any more: the same list by which such runs are
//! retired. (`sim/regressions/what-a-dead-run-had-sent-came-after-the-statement`)
//!
//! What runs that ended had added to counters is *folded* on the same walk and under the same condition (see
//! [`counter`](crate::counter)), as far as all members have stated to have their entries of the ledger.
//!
//! Only statements of members that are linked at the moment count. One that is away holds collection up, by name, until
//! it comes back or an operator lets the cluster forget it.

use crate::origins::{Claims, Known, Origin};
use crate::repl::link::{Link, Role};
use crate::repl::roster::Roster;
use crate::repl::walk::STEP_ENTRIES_MAX;
use crate::repl::{Context, Links, Replication};
use crate::replica::{Exposure, Replica};
use crate::retired::Mark;
use crate::store::SLOTS;
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId, Version};

/// What a member stated, on its way to being counted on.
#[derive(Debug, Default)]
pub(crate) struct Vouch {
    pending: Option<Statement>,
    /// The newest statement that this node's own frontier covers.
    stands: Option<Statement>,
}

#[derive(Debug)]
struct Statement {
    /// The roster under which it was made.
    roster: u64,
    frontier: Claims,
    /// The ledger, which is left out of the frontier.
    retired: Mark,
    /// Runs that ended, of which nothing can come to it any more.
    settled: Claims,
}

/// Who holds up collection, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// No link to it stands.
    Away,
    /// It has not seen all deletes yet, or has another roster still.
    Behind,
    /// It has yet to state of a run that ended that nothing of it can come to it any more: it cannot reach all members,
    /// or has something of that run still to announce.
    Unsettled,
}

/// The walk over what may be collected.
#[derive(Debug)]
pub(super) struct Collector {
    round: Option<Round>,
    next: Mono,
    /// The oldest tombstone that the last walk left.
    oldest: Option<Hlc>,
    collected: u64,
    /// Walks that were broken off.
    aborted: u64,
    /// How many entries of the ledger were folded by the last whole walk that folded.
    folded: u32,
    /// When to walk for them again: something could not be folded yet.
    refold: Option<Mono>,
    /// Parts of counters that were folded.
    parts_folded: u64,
}

#[derive(Debug)]
struct Round {
    stable: Known,
    /// Who had lost their seats, by a name.
    parted: u32,
    slot: u16,
    oldest: Option<Hlc>,
    /// Whether it folds, too.
    folds: bool,
    /// Whether something could not be folded.
    left: bool,
    parts_folded: u64,
}

/// How long what could not be folded waits: until the deadline of a base has passed, mostly.
const REFOLD_MS: u64 = 10 * 60_000;

/// Entries that take as long to look at as one part does to fold.
const FOLDED_WEIGHT: usize = 16;

impl Vouch {
    /// Takes in a statement. One that is not covered yet is waited for: under steady writes the newest never is.
    pub(super) fn state(&mut self, roster: u64, frontier: &Claims, retired: Mark, settled: &Claims) {
        if self.pending.as_ref().is_none_or(|pending| pending.roster != roster) {
            let (frontier, settled) = (frontier.clone(), settled.clone());
            self.pending = Some(Statement { roster, frontier, retired, settled });
        }
    }

    /// Counts on what was stated, once this node's own frontier covers it.
    pub(super) fn settle(&mut self, replica: &Replica) {
        let covered = |said: &Statement| {
            replica.origins.retired().continues(said.retired)
                && said.retired.len <= replica.durable_retired()
                && said.frontier.iter().all(|(origin, hlc)| replica.durable_frontier(*origin) >= *hlc)
        };
        if self.pending.as_ref().is_some_and(covered) {
            self.stands = self.pending.take();
        }
    }

    /// Whether this node has covered any statement of the peer's.
    pub(super) fn has_stood(&self) -> bool {
        self.stands.is_some()
    }

    fn under(&self, roster: u64) -> Option<&Statement> {
        self.stands.as_ref().filter(|stands| stands.roster == roster)
    }
}

impl Statement {
    /// Whether nothing of these runs can come to it any more.
    fn has_settled(&self, ended: &[OriginId]) -> bool {
        ended.iter().all(|origin| self.settled.get(*origin).is_some())
    }
}

impl Collector {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            round: None,
            next: now,
            oldest: None,
            collected: 0,
            aborted: 0,
            folded: 0,
            refold: None,
            parts_folded: 0,
        }
    }

    /// Takes some more out. True while there is more to look at now.
    pub(super) fn step(
        &mut self,
        now: Now,
        (roster, links, settled): (&Roster, &Links, &[OriginId]),
        cx: &mut Context<'_>,
    ) -> bool {
        if self.round.is_none() {
            if now.mono < self.next {
                return false;
            }
            self.next = now.mono.plus_ms(cx.config.timers.collect_ms);
            let refolds = self.refold.is_some_and(|refold| refold <= now.mono);
            let has_graves = cx.replica.store.graves() > 0;
            if !has_graves && !refolds && !self.may_fold(cx.replica) {
                self.oldest = None;
                return false;
            }
            let stable = stable(roster, links, settled, cx).unwrap_or_default();
            let folds = stable.retired > if refolds { 0 } else { self.folded };
            if !has_graves && !folds {
                self.oldest = None;
                return false;
            }
            self.round = Some(Round {
                stable,
                parted: roster.parted().0,
                slot: 0,
                oldest: None,
                folds,
                left: false,
                parts_folded: 0,
            });
        }
        let Some(round) = &mut self.round else { return false };
        self.collected += round.step(cx.config.limits.collect_slots_max, cx.replica);
        if round.slot < SLOTS {
            return true;
        }
        self.oldest = round.oldest;
        self.parts_folded += round.parts_folded;
        if round.folds {
            self.folded = round.stable.retired;
            self.refold = round.left.then(|| now.mono.plus_ms(REFOLD_MS));
        }
        self.round = None;
        false
    }

    /// Whether there are entries of the ledger that no walk has folded, and something that they may be about.
    pub(super) fn may_fold(&self, replica: &Replica) -> bool {
        replica.store.counters() > 0 && replica.mark().len > self.folded
    }

    /// When the next walk is to begin; none while one is under way.
    pub(super) fn due(&self) -> Option<Mono> {
        self.round.is_none().then_some(self.next)
    }

    /// What is no longer so: a walk under way took it for granted.
    pub(super) fn abort(&mut self) {
        self.aborted += u64::from(self.round.take().is_some());
        self.folded = 0;
    }

    /// The oldest tombstone, as of the last walk.
    pub(super) fn oldest(&self) -> Option<Hlc> {
        self.oldest
    }

    /// Tombstones and husks taken out so far.
    pub(super) fn collected(&self) -> u64 {
        self.collected
    }

    /// Walks broken off so far.
    pub(super) const fn aborted(&self) -> u64 {
        self.aborted
    }

    /// Parts of counters folded so far.
    pub(super) fn parts_folded(&self) -> u64 {
        self.parts_folded
    }
}

impl Round {
    fn step(&mut self, slots_max: usize, replica: &mut Replica) -> u64 {
        let (mut slots, mut entries, mut count) = (slots_max, STEP_ENTRIES_MAX, 0);
        while slots > 0 && entries > 0 {
            self.slot = replica.store.next_to_collect(self.slot, self.folds);
            if self.slot == SLOTS {
                break;
            }
            slots -= 1;
            let graves = replica.collect(self.slot, &self.stable, &mut count);
            entries = entries.saturating_sub(graves.looked_at);
            if self.folds {
                let folding = replica.fold(self.slot, &self.stable, self.parted);
                entries = entries.saturating_sub(folding.looked_at + FOLDED_WEIGHT * folding.folded);
                self.parts_folded += folding.folded as u64;
                self.left |= folding.left;
            }
            self.oldest = self.oldest.into_iter().chain(graves.oldest).min();
            self.slot += 1;
        }
        count
    }
}

impl Replication {
    /// The oldest tombstone, as of the last walk over them.
    pub(crate) fn oldest_tombstone(&self) -> Option<Hlc> {
        self.collector.oldest()
    }

    /// Tombstones and husks taken out so far.
    pub(crate) fn collected(&self) -> u64 {
        self.collector.collected()
    }

    /// A name of those who have lost their seats.
    pub(crate) fn parted(&self) -> u32 {
        self.roster.parted().0
    }

    /// A name of the roster, equal for equal ones.
    pub(crate) const fn roster_hash(&self) -> u64 {
        self.roster.hash()
    }

    /// The last change of the seat of `name`, and whether that took it away.
    pub(crate) fn seat(&self, name: &str) -> Option<(Version, bool)> {
        let seat = self.roster.iter().find(|seat| seat.name == name)?;
        Some((seat.version, seat.gone.is_some()))
    }

    /// Whether a link with `name` stands.
    pub(crate) fn is_linked_with(&self, name: &str) -> bool {
        self.links.values().any(|link| link.name() == Some(name))
    }

    /// The run of `name` that greeted last.
    pub(crate) fn run_of(&self, name: &str) -> Option<OriginId> {
        self.members.run_of(name)
    }

    /// Parts of counters folded so far.
    pub(crate) fn parts_folded(&self) -> u64 {
        self.collector.parts_folded()
    }

    /// Members that hold up collection, by name.
    pub(crate) fn blockers<'a>(
        &'a self,
        config: &'a crate::config::Config,
        replica: &Replica,
    ) -> impl Iterator<Item = (&'a str, Blocked)> {
        let hash = self.roster.hash();
        let others = move || self.roster.members().filter(|name| *name != config.name);
        let vouched = move |name| pulled_from(&self.links, name).and_then(|link| link.vouched(hash));
        // While one is away nobody can state it: that one is to blame.
        let all_vouch = others().all(|name| vouched(name).is_some());
        let ended = if all_vouch { ended(&self.links, replica) } else { Vec::new() };
        others().filter_map(move |name| match (vouched(name), pulled_from(&self.links, name)) {
            (_, None) => Some((name, Blocked::Away)),
            (None, Some(_)) => Some((name, Blocked::Behind)),
            (Some(said), Some(_)) => (!said.has_settled(&ended)).then_some((name, Blocked::Unsettled)),
        })
    }
}

/// What every member of the roster has seen, and this node, which has `settled` these runs, has seen with each; `None`
/// while it cannot be told.
fn stable(roster: &Roster, links: &Links, settled: &[OriginId], cx: &Context<'_>) -> Option<Known> {
    let mut stable = Known { claims: Claims::default(), retired: cx.replica.durable_retired() };
    let own = cx.replica.origins.iter().map(|origin| (origin.id, cx.replica.durable_frontier(origin.id)));
    stable.claims.raise_all(own);
    match cx.replica.exposure {
        // Nobody has seen anything, nor will before this is no longer so.
        Exposure::Alone => {
            let is_own = |origin: &Origin| cx.replica.is_own(origin.id) || origin.held == Hlc::ZERO;
            debug_assert!(cx.replica.origins.iter().all(is_own), "who is alone holds nothing of others");
            debug_assert!(stable.retired == 0, "who is alone has no ledger");
            return links.is_empty().then_some(stable);
        }
        Exposure::Hidden => return None,
        Exposure::Returning(_) | Exposure::Exposed => {}
    }
    if cx.replica.is_reissuing() || !roster.has(&cx.config.name) || !roster.is_sealed() {
        return None;
    }
    let ended = ended(links, cx.replica);
    if !ended.iter().all(|origin| settled.contains(origin)) {
        return None;
    }
    let hash = roster.hash();
    for name in roster.members().filter(|name| *name != cx.config.name) {
        let vouched = pulled_from(links, name)?.vouched(hash)?;
        if !vouched.has_settled(&ended) {
            return None;
        }
        stable.claims.lower_to(&vouched.frontier);
        stable.retired = stable.retired.min(vouched.retired.len);
    }
    Some(stable)
}

/// Runs that have ended and are not retired, as far as this node can see.
fn ended(links: &Links, replica: &Replica) -> Vec<OriginId> {
    let writes = |origin| links.values().filter_map(|link| link.peer.as_ref()).any(|peer| peer.origin == origin);
    let accounts = replica.origins.iter().map(|account| account.id);
    accounts.filter(|origin| !replica.is_own(*origin) && !writes(*origin)).collect()
}

/// The link over which this node pulls from `name`: its statements come behind all that it was sent by it.
pub(super) fn pulled_from<'a>(links: &'a Links, name: &str) -> Option<&'a Link> {
    links.values().find(|link| matches!(link.role, Role::Pull(_)) && link.name() == Some(name))
}

impl Link {
    /// What the peer stated under this roster, and this node covers.
    fn vouched(&self, roster: u64) -> Option<&Statement> {
        self.peer.as_ref()?.vouch.under(roster)
    }
}
