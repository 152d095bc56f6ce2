//! Retiring runs that have ended: when that may be said of one, who says it, and how the others hear of it. What the
//! ledger is, and why one member may append to it, is told in [`retired`](crate::retired).

use crate::boundary::{Close, ConnId};
use crate::origins::Origin;
use crate::repl::collect::pulled_from;
use crate::repl::frames::Stop;
use crate::repl::leave::Leave;
use crate::repl::link::{Link, Peer};
use crate::repl::staged::Staged;
use crate::repl::{Context, Replication};
use crate::replica::{Exposure, Refused, Replica};
use crate::retired::Mark;
use crate::time::{Mono, Now};
use crate::version::OriginId;
use crate::wire::peer;
use crate::wire::retired::EntriesView;

/// How many times the silence that ends a link a node waits for who has the ledger that it gave its own up for.
const BOUND_SILENCES: u64 = 10;

/// What this node knows to have ended.
#[derive(Debug)]
pub(super) struct Retirement {
    settled: Vec<OriginId>,
    /// When to look again.
    next: Mono,
    /// When a peer last had the ledger that this node gave its own up for.
    bound: Mono,
    /// That nothing more can be retired was said in the log.
    told_full: bool,
}

impl Retirement {
    pub(super) fn new(now: Mono) -> Self {
        Self { settled: Vec::new(), next: now, bound: now, told_full: false }
    }

    /// Origins that no member has a link with, as of the last look.
    pub(super) fn settled(&self) -> &[OriginId] {
        &self.settled
    }
}

impl Replication {
    /// Looks which runs have ended, and retires those of which all members say so.
    pub(super) fn step_retirement(&mut self, now: Now, cx: &mut Context<'_>) {
        if now.mono < self.retirement.next {
            return;
        }
        self.retirement.next = now.mono.plus_ms(cx.config.timers.heartbeat_ms);
        self.look_for_bound(now, cx);
        self.look_for_ended(cx);
        if self.retirement.settled.is_empty() || self.leave != Leave::No {
            return;
        }
        if self.roster.members().next() != Some(&cx.config.name) {
            return;
        }
        if cx.replica.origins.retired().is_full() {
            if !std::mem::replace(&mut self.retirement.told_full, true) {
                tracing::warn!(
                    "the ledger of ended runs is full: from now on each restart of a member costs an account"
                );
            }
            return;
        }
        let agreed: Vec<OriginId> =
            self.retirement.settled.iter().copied().filter(|id| self.is_agreed(*id, cx)).collect();
        for origin in &agreed {
            let last = cx.replica.origins.frontier(*origin);
            if cx.replica.retire(*origin, last) {
                tracing::info!(%origin, "a run that ended is known everywhere, and retired");
            }
        }
        if !agreed.is_empty() {
            for link in self.links.values_mut() {
                link.status_at = now.mono;
            }
        }
    }

    /// Gives up waiting for a ledger that nobody has any more.
    fn look_for_bound(&mut self, now: Now, cx: &mut Context<'_>) {
        let bound = cx.replica.bound_for;
        if self.links.values().filter_map(|link| link.peer.as_ref()).any(|peer| peer.retired >= bound) {
            self.retirement.bound = now.mono;
        }
        if now.mono.ms_since(self.retirement.bound) >= BOUND_SILENCES * cx.config.timers.silence_ms {
            cx.replica.bound_for = Mark::default();
        }
    }

    /// Which origins have ended, as far as this node can see: it is linked with all members, by dials of its own, so
    /// with whoever answers at their addresses; and none of them, nor anybody else, writes as that origin.
    fn look_for_ended(&mut self, cx: &mut Context<'_>) {
        self.retirement.settled.clear();
        if cx.replica.sweeping.is_none() {
            let links = &self.links;
            let is_heard_of = |account: &Origin| {
                let mut peers = links.values().filter_map(|link| link.peer.as_ref());
                peers.any(|peer| peer.frontier.of(account.id) > account.frontier)
            };
            cx.replica.close_empty(is_heard_of);
        }
        let has_a_say = cx.replica.exposure == Exposure::Exposed
            && !cx.replica.is_reissuing()
            && !cx.replica.refused.is_some_and(Refused::is_for_good)
            && self.roster.has(&cx.config.name);
        let mut others = self.roster.members().filter(|name| *name != cx.config.name);
        if !has_a_say || !others.all(|name| pulled_from(&self.links, name).is_some_and(|link| link.source().is_some()))
        {
            return;
        }
        let writes_as = |peer: &Peer, origin: OriginId| peer.origin == origin || peer.run == origin;
        let is_linked =
            |origin| self.links.values().filter_map(|link| link.peer.as_ref()).any(|peer| writes_as(peer, origin));
        let accounts = cx.replica.origins.iter().map(|origin| origin.id);
        let ended = accounts.filter(|origin| is_settled(*origin, cx.replica) && !is_linked(*origin));
        self.retirement.settled.extend(ended);
    }

    /// Whether all members have said of an origin what this node says.
    fn is_agreed(&self, origin: OriginId, cx: &Context<'_>) -> bool {
        let (roster, mark, last) = (self.roster.hash(), cx.replica.mark(), cx.replica.origins.frontier(origin));
        let agrees = |peer: &Peer| {
            peer.roster == roster
                && peer.retired == mark
                && peer.frontier.of(origin) == last
                && peer.settled.binary_search(&origin).is_ok()
        };
        let mut others = self.roster.members().filter(|name| *name != cx.config.name);
        others.all(|name| pulled_from(&self.links, name).and_then(Link::source).is_some_and(|(_, peer)| agrees(peer)))
    }

    /// A peer has told some of its ledger: takes in what this node covers of it.
    pub(super) fn on_retired(
        &mut self,
        now: Now,
        conn: ConnId,
        view: &EntriesView<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let Some(peer) = &mut link.peer else { return Err(Stop::Close(Close::Malformed)) };
        if cx.replica.is_returning() {
            return Ok(());
        }
        let told: Vec<_> = view.iter().collect();
        let retired = cx.replica.origins.retired();
        let Some(has) = retired.len().checked_sub(view.from) else { return Ok(()) };
        let forks = !retired.agrees(view.from, &told) || (view.from == 0 && told.len() < retired.len() as usize);
        if forks {
            let theirs = peer.retired;
            return if theirs > retired.mark() { self.lapse(now, theirs, cx) } else { Ok(()) };
        }
        peer.foretold = None;
        let news = told.into_iter().skip(has as usize);
        for (origin, last) in news {
            if last > cx.replica.origins.frontier(origin) {
                peer.foretold = Some((origin, last));
                break;
            }
            if !cx.replica.retire(origin, last) {
                break;
            }
        }
        if peer.foretold.is_none() && cx.replica.mark().len > view.from {
            ask_retired(link, cx.replica);
        }
        self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
        Ok(())
    }

    /// This node's ledger is of another cluster, whose members have come together with those of a greater one.
    fn lapse(&mut self, now: Now, theirs: Mark, cx: &mut Context<'_>) -> Result<(), Stop> {
        if !cx.replica.lapse(now.mono) {
            tracing::error!("two clusters with long histories have met: they cannot be made one");
            return Err(Stop::Close(Close::Refused));
        }
        cx.replica.bound_for = theirs;
        self.retirement.bound = now.mono;
        tracing::info!("the ledger of ended runs gives way to that of a cluster met");
        // What peers were told was in terms of it.
        let conns: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in conns {
            self.close(now, conn, Close::Replaced, cx);
        }
        self.intake.reset();
        self.collector.abort();
        self.soon(now.mono);
        Err(Stop::Closed)
    }
}

/// Whether this node holds nothing of `origin` but what it claims of it, has an account of it, and does not write so.
pub(super) fn is_settled(origin: OriginId, replica: &Replica) -> bool {
    let Some(account) = replica.origins.find(origin) else { return false };
    let is_whole = account.held == account.frontier && replica.sweeping.is_none();
    is_whole && replica.states(account) && !replica.is_own(origin)
}

/// Asks the peer, if this node pulls from it, for what its ledger has and this one has not.
pub(super) fn ask_retired(link: &mut Link, replica: &Replica) {
    let (Some(_), Some(peer)) = (link.source(), &link.peer) else { return };
    let mine = replica.mark();
    let has_more = peer.retired > mine && peer.retired >= replica.bound_for && !peer.has_retired_more(&replica.origins);
    if has_more && !replica.is_returning() {
        peer::emit_retired_ask(mine, link.staged.out());
    }
}

/// Tells some of the ledger: behind what the peer has, or all if that is another one.
pub(super) fn tell_retired(theirs: Mark, replica: &Replica, staged: &mut Staged) {
    let retired = replica.origins.retired();
    let from = if retired.continues(theirs) { theirs.len } else { 0 };
    if from < replica.mark().len {
        peer::emit_retired(from, retired.since(from), staged.out());
    }
}
