//! Retiring runs that have ended: when that may be said of one, who says it, and how the others hear of it. What the
//! ledger is, and why one member may append to it, is told in [`retired`](crate::retired).
//!
//! A run may leave *orphans*, records above every frontier, which those who have them announce in envelopes (see
//! [`orphans`](crate::repl::orphans)). Nobody has heard of anything behind them, so once everybody has everybody's, all
//! have all of that run: it is retired up to the newest that any member holds. That takes two rounds: each member has
//! stated that it has announced what it had, and what this node then held each has stated to hold too. Who was not
//! among them takes a sweep from who has that entry. (Until then neither such an account nor a tombstone among the
//! orphans ever went: `sim/regressions/a-delete-that-a-dead-run-left-behind`.) A run that was forgotten while it was up
//! may hold more below that, which nobody else has ever had: should its member come back, scrub brings it.

use crate::boundary::{Close, ConnId};
use crate::counter::Counter;
use crate::origins::{Claims, Origin};
use crate::record::Record;
use crate::repl::clocks::is_credible;
use crate::repl::collect::pulled_from;
use crate::repl::frames::Stop;
use crate::repl::leave::Leave;
use crate::repl::link::{Link, Peer, Role};
use crate::repl::staged::Staged;
use crate::repl::{Context, Replication};
use crate::replica::{Refused, Replica};
use crate::retired::{Entry, Mark};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId};
use crate::wire::peer;
use crate::wire::retired::EntriesView;

/// How many times the silence that ends a link a node waits for who has the ledger that it gave its own up for.
const BOUND_SILENCES: u64 = 10;

/// What this node knows to have ended.
#[derive(Debug)]
pub(super) struct Retirement {
    settled: Vec<OriginId>,
    /// Those of them in whose place this node has found another run.
    replaced: Vec<OriginId>,
    /// When to look again.
    next: Mono,
    /// When a peer last had the ledger that this node gave its own up for.
    bound: Mono,
    /// That nothing more can be retired was said in the log.
    told_full: bool,
    /// The run with orphans that is about to be retired.
    closing: Option<Closing>,
    /// Who had lost their seats when all members had last stated that, and a stamp above all of theirs then.
    parted: Option<(u32, Hlc)>,
}

/// A run with orphans, which all members have announced.
#[derive(Debug)]
struct Closing {
    origin: OriginId,
    /// Under which roster and with which ledger that was stated.
    roster: u64,
    mark: Mark,
    /// What is to be with every member before it is retired: what this node held when all had stated that.
    upto: Claims,
}

impl Retirement {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            settled: Vec::new(),
            replaced: Vec::new(),
            next: now,
            bound: now,
            told_full: false,
            closing: None,
            parted: None,
        }
    }

    /// Origins that no member has a link with, as of the last look.
    pub(super) fn settled(&self) -> &[OriginId] {
        &self.settled
    }

    /// Those of them that are over for good.
    pub(super) fn replaced(&self) -> &[OriginId] {
        &self.replaced
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
        self.look_for_parted(cx);
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
        let settled = self.retirement.settled.iter();
        let agreed: Vec<_> = settled.filter_map(|id| Some((*id, self.agreed(*id, cx)?))).collect();
        let (mut agreed, mut orphaned): (Vec<_>, Vec<_>) =
            agreed.into_iter().partition(|(origin, held)| *held == cx.replica.origins.frontier(*origin));
        // Of a run that was forgotten and comes back with all of it, what lies between would be taken for deleted.
        orphaned.retain(|(origin, _)| !self.may_return(*origin));
        agreed.extend(self.close_orphaned(&orphaned, cx));
        for (origin, last) in &agreed {
            let (origin, last, (parted, after)) = (*origin, *last, self.folding(*origin));
            if cx.replica.retire(Entry { origin, last, parted, after }) {
                tracing::info!(%origin, "a run that ended is known everywhere, and retired");
            }
        }
        if !agreed.is_empty() {
            for link in self.links.values_mut() {
                link.status_at = now.mono;
            }
        }
    }

    /// Notes from when on nobody hears of what is written here but those who have a seat: all have stated so.
    fn look_for_parted(&mut self, cx: &Context<'_>) {
        let (parted, is_any) = self.roster.parted();
        if let Some(after) = cx.replica.origins.retired().after(parted) {
            // Said by who appended before.
            self.retirement.parted = Some((parted, after));
        }
        if self.retirement.parted.is_some_and(|(of, _)| of == parted) {
            return;
        }
        let hash = self.roster.hash();
        let stated = self.others(cx).map(|peer| peer.filter(|peer| peer.roster == hash).map(|peer| peer.clocks.hlc));
        let newest = stated.collect::<Option<Vec<_>>>().map(|all| all.into_iter().max().unwrap_or(Hlc::ZERO));
        let after = newest.map(|newest| if is_any { newest.max(cx.replica.clock()) } else { Hlc::ZERO });
        self.retirement.parted = after.map(|after| (parted, after));
    }

    /// Under what name what `origin` added is folded, and what of it: nothing unless some member has found another run
    /// in its place, and that is a member now. Else it may come back with more than the cluster has of it.
    fn folding(&self, origin: OriginId) -> (u32, Hlc) {
        let is_over = self.is_over(origin) && !self.may_return(origin);
        self.retirement.parted.filter(|_| is_over).unwrap_or((0, Hlc::ZERO))
    }

    /// Whether some member has found another run in the place of the one that wrote as `origin`.
    fn is_over(&self, origin: OriginId) -> bool {
        let mut peers = self.links.values().filter_map(|link| link.peer.as_ref());
        self.members.has_ended(origin) || peers.any(|peer| peer.replaced.get(origin).is_some())
    }

    /// Whether the member that wrote as `origin` was forgotten. If another run of it was found since, that one has on
    /// its disk what this one wrote, and may come back with it.
    /// (`sim/regressions/a-run-was-closed-at-a-part-of-it-as-its-member-had-been-found-and-forgotten`)
    fn may_return(&self, origin: OriginId) -> bool {
        self.writers.name(origin).is_some_and(|name| self.roster.has_lost(name))
    }

    /// Members that were forgotten while more of what they wrote was held than what it all stands on: what was deleted
    /// of that stays until they come back.
    pub(crate) fn may_return_with_more<'a>(
        &'a self,
        replica: &'a Replica,
    ) -> impl Iterator<Item = (OriginId, &'a str)> {
        let accounts = replica.origins.iter().filter(|account| account.held > account.frontier);
        let partial = accounts.filter(|account| !replica.is_own(account.id) && self.may_return(account.id));
        partial.filter_map(|account| Some((account.id, self.writers.name(account.id)?)))
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
        self.retirement.replaced.clear();
        if cx.replica.sweeping.is_none() {
            let links = &self.links;
            let is_heard_of = |account: &Origin| {
                let mut peers = links.values().filter_map(|link| link.peer.as_ref());
                peers.any(|peer| peer.frontier.of(account.id).max(peer.settled.of(account.id)) > account.frontier)
            };
            cx.replica.close_empty(is_heard_of);
        }
        let has_a_say = !cx.replica.hides_any()
            && !cx.replica.refused.is_some_and(Refused::is_for_good)
            && self.roster.has(&cx.config.name);
        let mut others = self.roster.members().filter(|name| *name != cx.config.name);
        if !has_a_say || !others.all(|name| pulled_from(&self.links, name).is_some_and(|link| link.source().is_some()))
        {
            return;
        }
        // A run that had to write anew never writes again as it did at first.
        let is_linked =
            |origin| self.links.values().filter_map(|link| link.peer.as_ref()).any(|peer| peer.origin == origin);
        let accounts = cx.replica.origins.iter().map(|origin| origin.id);
        let ended = accounts.filter(|origin| is_settled(*origin, cx.replica) && !is_linked(*origin));
        self.retirement.settled.extend(ended);
        let Retirement { settled, replaced, .. } = &mut self.retirement;
        replaced.extend(settled.iter().filter(|origin| self.members.has_ended(**origin)));
    }

    /// The newest record of an origin that any member holds, if all have said of it what this node says; and nothing
    /// that their clocks do not allow, as retiring it moves this node's.
    fn agreed(&self, origin: OriginId, cx: &Context<'_>) -> Option<Hlc> {
        let (roster, mark) = (self.roster.hash(), cx.replica.mark());
        let bound_ms = cx.config.timers.clock_ahead_ms_max;
        let account = cx.replica.origins.find(origin)?;
        let held = |peer: &Peer| {
            let agrees = peer.roster == roster
                && peer.retired == mark
                && peer.holds(origin, &cx.replica.origins) == account.frontier;
            peer.settled.get(origin).filter(|held| agrees && is_credible(peer, *held, bound_ms))
        };
        self.others(cx).try_fold(account.held, |newest, peer| Some(newest.max(held(peer?)?)))
    }

    /// The peers of all other members, if they are linked.
    fn others<'a>(&'a self, cx: &'a Context<'_>) -> impl Iterator<Item = Option<&'a Peer>> {
        let others = self.roster.members().filter(|name| *name != cx.config.name);
        others.map(|name| pulled_from(&self.links, name).and_then(Link::source).map(|(_, peer)| peer))
    }

    /// One of the `orphaned` runs of which every member holds by now what any of them has announced.
    fn close_orphaned(&mut self, orphaned: &[(OriginId, Hlc)], cx: &Context<'_>) -> Option<(OriginId, Hlc)> {
        let (roster, mark) = (self.roster.hash(), cx.replica.mark());
        let stands = |closing: &Closing| (closing.roster, closing.mark) == (roster, mark);
        let closing = self.retirement.closing.take().filter(stands);
        let origins = &cx.replica.origins;
        let known = |closing: Closing| Some((*orphaned.iter().find(|(origin, _)| *origin == closing.origin)?, closing));
        if let Some((agreed, closing)) = closing.and_then(known) {
            let holds_all = |peer: &Peer| closing.upto.iter().all(|(origin, hlc)| peer.holds(*origin, origins) >= *hlc);
            if self.others(cx).all(|peer| peer.is_some_and(holds_all)) {
                return Some(agreed);
            }
            self.retirement.closing = Some(closing);
            return None;
        }
        let (origin, _) = *orphaned.first()?;
        let is_covered = |peer: &Peer| peer.frontier.iter().all(|(origin, hlc)| origins.frontier(*origin) >= *hlc);
        if self.others(cx).all(|peer| peer.is_some_and(is_covered)) {
            let mut upto = Claims::default();
            upto.raise_all(cx.replica.exposed());
            self.retirement.closing = Some(Closing { origin, roster, mark, upto });
        }
        None
    }

    /// A peer has told some of its ledger: takes in what this node covers of it.
    pub(super) fn on_retired(
        &mut self,
        now: Now,
        conn: ConnId,
        view: &EntriesView<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let answering = self.links.values().filter(|link| matches!(link.role, Role::Pull(_)));
        let answering: Vec<_> = answering.filter_map(|link| link.peer.as_ref()).map(|peer| peer.origin).collect();
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
        for entry in news {
            if entry.parted != 0 && answering.contains(&entry.origin) {
                tracing::warn!(origin = %entry.origin, "a run that answers at its address was said to be over");
                break;
            }
            if entry.last > cx.replica.origins.frontier(entry.origin) {
                peer.foretold = Some((entry.origin, entry.last));
                break;
            }
            if !cx.replica.retire(entry) {
                break;
            }
        }
        if peer.foretold.is_none() && cx.replica.mark().len > view.from {
            ask_retired(link, cx.replica);
        }
        self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
        Ok(())
    }

    /// Lets go of folds that a sweep brought which was cut, of entries that nobody linked has: as long as the ledger is
    /// with somebody, a sweep brings both again. True while there is more.
    pub(super) fn step_strays(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let len = cx.replica.origins.retired().len();
        let is_told = || self.links.values().filter_map(|link| link.peer.as_ref()).any(|peer| peer.retired.len > len);
        let waits = |since: Mono| {
            let under_way = cx.replica.sweeping.is_some() || self.intake.drops_streams() || cx.replica.is_returning();
            under_way || now.mono.ms_since(since) < cx.config.timers.orphan_ms || is_told()
        };
        if cx.replica.strays.is_none_or(|strays| waits(strays.since)) {
            self.strays = None;
            return false;
        }
        // It is not to be taken up again behind what goes now, nor are its folds to come back behind the walk, with
        // what others announce.
        self.intake.reset();
        cx.replica.foretold = None;
        if let Some(strays) = &mut cx.replica.strays {
            strays.unforetold = true;
        }
        let walk = self.strays.get_or_insert_default();
        let has_strays = |record: &Record<'_>| {
            record.is_counter && Counter::of(record).folds.iter().any(|fold| !cx.replica.covers_fold(fold))
        };
        let keys = walk.step(&cx.replica.store, |_| false, has_strays);
        let more = !walk.is_done();
        keys.iter().for_each(|key| cx.replica.drop_strays(key));
        if !more {
            (self.strays, cx.replica.strays) = (None, None);
        }
        more
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

/// Whether this node has an account of `origin`, claims or has announced all that it holds of it, and writes otherwise.
pub(super) fn is_settled(origin: OriginId, replica: &Replica) -> bool {
    let Some(account) = replica.origins.find(origin) else { return false };
    let is_announced = account.swept <= account.frontier.max(account.announced);
    // All that there is behind its entry in the ledger may be orphans that this node never held.
    is_announced && replica.sweeping.is_none() && !replica.is_own(origin) && !replica.is_hidden(origin)
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
