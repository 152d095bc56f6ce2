//! When a run may show what it wrote (PROTOCOL.md rule 13).
//!
//! A run that begins without memory may stamp its first writes below what the cluster has forgotten since. So it keeps
//! them to itself until an established member has greeted it, and writes anew, under an origin that nobody has seen,
//! what turns out to be stamped too low. Clients are served meanwhile.
//!
//! That a run names no peers does not make it the first of its cluster: it may be a member restarted by itself, found
//! again by those who know it. So it is *alone* until somebody comes, and then begins as any other. (Taken for
//! established, it showed writes stamped below deletes that its cluster had forgotten:
//! `sim/regressions/restarted-without-naming-a-peer`.) Somebody has come once a peer is listened to, though its roster
//! may not have been taken yet: its clock seemed far ahead when it told that, and what it sends now is its cluster's.
//! (Still alone when the link was lost, this run collected a delete that it had been sent, and was then sent the value:
//! `sim/regressions/alone-with-deletes-of-a-cluster-whose-roster-was-not-listened-to`.)

use crate::boundary::Close;
use crate::origins::{Claims, Swept};
use crate::repl::intake::ask_stream;
use crate::repl::leave::Leave;
use crate::repl::link::{Link, Peer, Role};
use crate::repl::members::DialState;
use crate::repl::orphans::Orphans;
use crate::repl::roster::{Roster, newest_decision};
use crate::repl::walk::Walk;
use crate::repl::{Context, Replication};
use crate::replica::{Exposure, Refused, Replica, Return};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId};
use crate::wire::lists::{Decision, RosterView};

/// How many times the silence that ends a link a member that comes back waits for those who decided that it must; and a
/// newcomer for somebody who has all of what its cluster holds.
const HOME_SILENCES: u64 = 10;

/// What was learnt on the way to being established.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The decision by which this node comes back, if it does.
    told: Option<Told>,
    /// The clock when peers were first let see what this run writes; zero until then.
    pub(super) established: Hlc,
    /// What was here when this node had come back, until all members hold that. What it had written before may have
    /// lost to some of it.
    pub(super) returned: Option<Claims>,
    /// When somebody was last linked from whom this node may yet get all of what its cluster holds.
    lacking: Option<Mono>,
    /// When an established member was last linked, or this node began to come back.
    homeless: Option<Mono>,
}

/// A decision by which a node comes back.
#[derive(Debug)]
struct Told {
    decision: Decision,
    /// The member that told of it, and when.
    by: String,
    at: Mono,
}

/// The walk that writes hidden records anew.
#[derive(Debug, Default)]
pub(super) struct Reissue(Walk);

impl Progress {
    /// Begins as that of a run that has its old memory.
    pub(super) fn recover(&mut self, now: Mono, established: Hlc, told: Option<(Decision, String)>) {
        self.established = established;
        self.told = told.map(|(decision, by)| Told { decision, by, at: now });
    }
}

impl Replication {
    /// The decision by which this node is coming back, and who told of it.
    pub(crate) fn told_to_return(&self) -> Option<(Decision, &str)> {
        self.progress.told.as_ref().map(|told| (told.decision, told.by.as_str()))
    }

    /// A peer that is listened to has stated where it stands; if it is established and its roster was taken in before,
    /// its clock `reads` that.
    pub(super) fn meet(&mut self, now: Now, reads: Option<Hlc>, cx: &mut Context<'_>) {
        if cx.replica.exposure == Exposure::Alone {
            cx.replica.lift_floors();
            cx.replica.exposure = Exposure::Hidden;
        }
        let Some(peer_clock) = reads else { return };
        // Who was forgotten needs more than a clock.
        if cx.replica.exposure == Exposure::Exposed || cx.replica.is_returning() {
            return;
        }
        // Where nothing was ever forgotten, as that roster tells, no stamp is too low.
        let forgotten = if self.roster.is_sealed() { peer_clock } else { Hlc::ZERO };
        cx.replica.clock.observe(peer_clock);
        // Nobody is to come back to it before it has caught up.
        cx.replica.is_whole = false;
        self.progress.lacking = Some(now.mono);
        self.expose(now, forgotten, cx);
    }

    /// Nobody established may be left: then those who are fresh found the cluster.
    pub(super) fn check_exposure(&mut self, now: Now, cx: &mut Context<'_>) {
        let tried = self.members.targets().iter().all(|target| {
            let greeted = |conn| self.links.get(&conn).is_some_and(|link| link.peer.as_ref().is_some_and(is_stated));
            match target.state {
                DialState::Own => true,
                DialState::Linked(conn) => greeted(conn),
                DialState::Waiting(_) | DialState::Dialing => target.tried || self.is_linked(target.member.as_deref()),
            }
        });
        let waits = match cx.replica.exposure {
            // Who is established and not listened to, as its clock seems far ahead, is there all the same.
            Exposure::Hidden => !self.is_linked_with_established() && !self.is_linked_with_founder(cx),
            // Once there is somebody to come back to, only their sweep ends it: what it has dropped already is claimed.
            Exposure::Returning(Return::Unswept) => {
                let is_first = |peer: &Peer| peer.established || peer.name < cx.config.name;
                let waits_for_other = self.links.values().filter_map(|link| link.peer.as_ref()).any(is_first);
                self.is_homeless(now, cx) && self.intake.is_idle() && !waits_for_other
            }
            Exposure::Alone | Exposure::Returning(Return::Reissuing) | Exposure::Exposed => false,
        };
        // Whoever was linked once and is cut off may have founded one with others since.
        let is_fresh = |peer: &Peer| peer.stated && !peer.established;
        if waits && tried && self.links.values().filter_map(|link| link.peer.as_ref()).any(is_fresh) {
            // Of those whose roster it has heard, deletes may have been forgotten up to now.
            let forgotten = if self.roster.is_sealed() { cx.replica.clock() } else { Hlc::ZERO };
            self.expose(now, forgotten, cx);
        }
    }

    /// Shows what was written; anew, where it is stamped at or below what may have been `forgotten`.
    fn expose(&mut self, now: Now, forgotten: Hlc, cx: &mut Context<'_>) {
        let fresh = OriginId(self.rand.next_u64() | 1);
        let reissue = cx.replica.expose(now.mono, forgotten, fresh);
        if reissue {
            self.name_own(cx);
            self.reissue = Reissue::default();
        }
        tracing::info!(reissue, "established: peers may see what this node writes");
        self.exposed(now, cx);
    }

    /// What this run writes from now on it writes under an origin that nobody has heard of: it is this node's.
    fn name_own(&mut self, cx: &Context<'_>) {
        let own = std::iter::once((cx.replica.own(), cx.config.name.as_str()));
        self.writers.learn(own, |origin| cx.replica.uses(origin));
    }

    /// Peers may see what this run writes, and it has a say in the roster.
    fn exposed(&mut self, now: Now, cx: &mut Context<'_>) {
        if self.progress.told.take().is_some() {
            cx.replica.is_whole = true;
            let mut claims = Claims::default();
            claims.raise_all(cx.replica.exposed());
            self.progress.returned = Some(claims);
        }
        self.progress.established = cx.replica.stamp(now).hlc;
        // Only now it has a say in who is away.
        self.members.miss_from(now.mono);
        self.rewind_feeds(cx.replica);
        self.intake.restart_dropped(&mut self.links, cx.replica);
        self.seat_all(now, cx);
        self.soon(now.mono);
    }

    /// The log says by now that peers may see what this run writes: they are shown it.
    pub(crate) fn show(&mut self, now: Now, replica: &mut Replica) {
        replica.show();
        self.rewind_feeds(replica);
        self.soon(now.mono);
    }

    fn rewind_feeds(&mut self, replica: &Replica) {
        for link in self.links.values_mut() {
            if let Role::Feed(feed) = &mut link.role {
                feed.rewind(&replica.tail);
            }
        }
    }

    /// The cluster went on without this run, which is told so. It comes back as a new one: it takes up the cluster's
    /// roster, has a sweep tell it what is obsolete, and then writes anew what only it has; all from those who made
    /// the decision it was `told` of, as others may know neither what was deleted nor that this node is to come back.
    pub(super) fn come_back(&mut self, now: Now, (decision, by): (Decision, &str), cx: &mut Context<'_>) {
        let told = Told { decision, by: by.to_owned(), at: now.mono };
        tracing::warn!(
            "this node was forgotten by its cluster: it comes back as a new run, drops what was deleted meanwhile, and \
             writes anew what only it has"
        );
        let conns: Vec<_> = self.links.keys().copied().collect();
        for conn in conns {
            self.close(now, conn, Close::Replaced, cx);
        }
        self.run = OriginId(self.rand.next_u64() | 1);
        self.incarnation = now.wall.0.max(self.incarnation + 1);
        self.roster = Roster::default();
        self.intake.reset();
        self.collector.abort();
        self.orphans = Orphans::default();
        self.progress = Progress { told: Some(told), ..Progress::default() };
        // What was synced before is said by a ledger and a frontier that are given up: once it is back, nobody could
        // cover that, and who waits to takes nothing newer.
        // (`sim/regressions/what-was-synced-before-it-came-back-was-stated-by-a-ledger-it-had-given-up`)
        self.durable = None;
        cx.replica.is_whole = false;
        if cx.replica.refused == Some(Refused::Left) {
            // What it holds is nobody's but its own as yet: it has to come back before it can leave.
            self.leave = Leave::No;
            cx.replica.refused = None;
        }
        cx.replica.forgotten(now.mono, self.run);
        self.name_own(cx);
        self.members.dial_soon(now.mono);
        self.soon(now.mono);
    }

    /// The sweep that a member which was forgotten waited for is whole.
    pub(super) fn on_home_swept(&mut self, now: Now, swept: &Swept, cx: &mut Context<'_>) {
        let fresh = OriginId(self.rand.next_u64() | 1);
        cx.replica.returned(now.mono, swept, fresh);
        self.name_own(cx);
        self.reissue = Reissue::default();
        self.soon(now.mono);
    }

    /// Writes some more of what is hidden anew. True while there is more.
    pub(super) fn step_reissue(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let was_returning = cx.replica.is_returning();
        let more = self.reissue.step(now, cx.replica);
        if was_returning && !cx.replica.is_returning() {
            tracing::info!("back in the cluster: peers may see what this node holds");
            self.exposed(now, cx);
        }
        more
    }

    /// Whether the member that states this roster may say what this node comes back to: who told it of the decision, or
    /// knows of it or of a newer one. If nobody does for long, anybody may.
    pub(super) fn leads_home(&self, now: Now, by: Option<(&str, &RosterView<'_>)>, cx: &Context<'_>) -> bool {
        let Some(told) = &self.progress.told else { return true };
        let knows = |roster: &RosterView<'_>| newest_decision(roster.iter()) >= Some(told.decision);
        by.is_some_and(|(name, roster)| name == told.by || knows(roster))
            || now.mono.ms_since(told.at) >= HOME_SILENCES * cx.config.timers.silence_ms
    }

    /// Notes from whom a member that comes back may hear what is obsolete.
    pub(super) fn look_for_home(&mut self, now: Now, cx: &Context<'_>) {
        let home = (!self.leads_home(now, None, cx)).then(|| self.roster.hash());
        let waited = std::mem::replace(&mut self.intake.home, home).is_some() && home.is_none();
        if waited && cx.replica.is_returning() {
            // Rosters that were not listened to are told again.
            let untaken = |link: &&mut Link| link.peer.as_ref().is_some_and(|peer| peer.stated && !peer.took_roster);
            self.links.values_mut().filter(untaken).for_each(|link| ask_stream(link, cx.replica, true));
        }
    }

    /// Looks whether this node has caught up with somebody who had, or whether nobody is left who has.
    pub(super) fn look_for_lacks(&mut self, now: Now, cx: &mut Context<'_>) {
        if cx.replica.is_whole || cx.replica.is_returning() {
            return;
        }
        let peers = self.links.values().filter_map(|link| link.peer.as_ref());
        let mut whole = peers.filter(|peer| peer.established && peer.whole).peekable();
        if whole.peek().is_some() {
            self.progress.lacking = Some(now.mono);
        }
        let waits = |since| now.mono.ms_since(since) < HOME_SILENCES * cx.config.timers.silence_ms;
        let waited = !self.progress.lacking.is_some_and(waits);
        cx.replica.is_whole = waited || whole.any(|peer| peer.vouch.has_stood());
    }

    /// Whether there is nobody to come back to, and has not been for long: who was established may be started again.
    fn is_homeless(&mut self, now: Now, cx: &Context<'_>) -> bool {
        let is_home = self.is_linked_with_established();
        let since = *self.progress.homeless.get_or_insert(now.mono);
        if is_home {
            self.progress.homeless = Some(now.mono);
        }
        !is_home
            && now.mono.ms_since(since) >= HOME_SILENCES * cx.config.timers.silence_ms
            && self.leads_home(now, None, cx)
    }

    fn is_linked_with_established(&self) -> bool {
        self.links.values().filter_map(|link| link.peer.as_ref()).any(|peer| peer.established)
    }

    /// Whether another one founds the cluster: of those who are fresh the one whose name comes first. If each did, they
    /// would give each other seats that have nothing in common, as if they had come up apart.
    fn is_linked_with_founder(&self, cx: &Context<'_>) -> bool {
        let founds = |peer: &&Peer| !peer.stated || (!peer.established && peer.whole);
        let mut peers = self.links.values().filter_map(|link| link.peer.as_ref()).filter(founds);
        peers.any(|peer| peer.name < cx.config.name)
    }

    fn is_linked(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.links.values().any(|link| link.name() == Some(name)))
    }
}

impl Reissue {
    /// Writes some more of what is hidden anew. True while there is more.
    fn step(&mut self, now: Now, replica: &mut Replica) -> bool {
        if !replica.is_reissuing() {
            return false;
        }
        let hidden = self.0.step(&replica.store, |_| false, |record| replica.is_to_reissue(record));
        for key in hidden {
            replica.reissue(now, &key);
        }
        if self.0.is_done() {
            replica.end_reissue();
            return false;
        }
        true
    }
}

fn is_stated(peer: &Peer) -> bool {
    peer.stated
}
