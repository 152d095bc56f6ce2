//! Whether a run has arrived: whether it has got, since it began, what its peers held.
//!
//! What was written while a member was away it gets from the others, and until it has, clients had better ask those. So
//! a run waits for a link each way with whomever it knows of, and then for what each peer that it pulls from held when
//! that link came. That is a fixed goal: what is written meanwhile would move it for ever. The link on which the peer
//! pulls counts, too: without it what this run takes would be nowhere else, and be lost if it is stopped at once.
//!
//! A peer that has yet to find its cluster may hold more than it states, and counts as one that has yet to come.
//!
//! **An absent peer is not waited for long.** Of two hosts either is to serve when the other is lost, also if it was
//! started afterwards; and a peer whose clock is too far ahead to be listened to is as good as absent. So links are
//! waited for from the start for as long as a peer that is up takes to come, whatever it was busy with: a redial, a
//! link that was dead and not noticed yet. A link that is lost before all has come over it is waited for as long again,
//! as what is here is half of something.
//!
//! **It happens once in a run.** Who has arrived serves on when it is cut off, and when it is linked again after that:
//! both sides of a partition lack what the other wrote, and if both turned their clients away for it, nobody would be
//! left to serve them. For the same reason who comes only after it was waited for changes nothing.

use std::collections::BTreeMap;

use crate::boundary::ConnId;
use crate::config::Timers;
use crate::origins::Claims;
use crate::repl::link::{Link, Peer, Role};
use crate::repl::members::{DialState, Target};
use crate::repl::{Context, Replication};
use crate::replica::{Exposure, Replica};
use crate::retired::Mark;
use crate::time::{Mono, Now};

/// How many times the silence that ends a link peers are waited for: more than a dead link takes to be noticed, and the
/// longest wait before a peer is dialed again, one after the other.
const GRACE_SILENCES: u64 = 3;

/// How many heartbeats after a peer has found its cluster all that it holds is stated: where it has a disk, that has to
/// be there first.
const STATED_HEARTBEATS: u64 = 2;

/// How far a run is on its way.
#[derive(Debug)]
pub(super) enum Arrival {
    UnderWay {
        /// Until when links are waited for that do not stand; none: it has not begun to.
        until: Option<Mono>,
        /// By link: what is to come over it.
        goals: BTreeMap<ConnId, Goal>,
    },
    Over,
}

/// What is to come over a link.
#[derive(Debug)]
pub(super) enum Goal {
    /// The peer has yet to find its cluster, or has just done so, then: it may hold more than it states.
    Unstated(Option<Mono>),
    /// What the peer held when its link came.
    Held { frontier: Claims, retired: Mark },
    /// Nothing more.
    Met,
}

/// What an arriving run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited<'a> {
    /// A link each way with this one.
    Link { with: &'a str },
    /// What this one held when its link came.
    Records { of: &'a str },
}

impl Default for Arrival {
    fn default() -> Self {
        Self::UnderWay { until: None, goals: BTreeMap::new() }
    }
}

impl Goal {
    fn held_by(peer: &Peer) -> Self {
        Self::Held { frontier: peer.frontier.clone(), retired: peer.retired }
    }

    /// The peer has stated where it stands.
    fn state(&mut self, now: Mono, peer: &Peer, timers: &Timers) {
        if let Self::Unstated(since) = self
            && peer.established
        {
            let since = *since.get_or_insert(now);
            if now.ms_since(since) >= STATED_HEARTBEATS * timers.heartbeat_ms {
                *self = Self::held_by(peer);
            }
        }
    }

    /// Looks whether all has come.
    fn look(&mut self, replica: &Replica) {
        let Self::Held { frontier, retired } = self else { return };
        let is_here = |(origin, hlc): &(_, _)| replica.origins.frontier(*origin) >= *hlc;
        // Of two ledgers the greater stays, and what is only in the other is stated by frontiers again.
        if *retired <= replica.mark() && frontier.iter().all(is_here) {
            *self = Self::Met;
        }
    }
}

impl Replication {
    /// Looks how far this run has come.
    pub(super) fn check_arrival(&mut self, now: Now, cx: &Context<'_>) {
        let Arrival::UnderWay { until, goals } = &mut self.arrival else { return };
        until.get_or_insert_with(|| now.mono.plus_ms(GRACE_SILENCES * cx.config.timers.silence_ms));
        goals.values_mut().for_each(|goal| goal.look(cx.replica));
        let is_alone = goals.is_empty();
        if self.awaits(now).is_none() && !self.is_joining(now, cx.replica) {
            if !is_alone {
                tracing::info!("caught up with the peers that are linked");
            }
            self.arrival = Arrival::Over;
        }
    }

    /// The peer of a link has stated where it stands.
    pub(super) fn note_arrived(&mut self, now: Now, conn: ConnId, cx: &Context<'_>) {
        self.check_arrival(now, cx);
        let Some((_, peer)) = self.links.get(&conn).and_then(Link::source) else { return };
        let Arrival::UnderWay { goals, .. } = &mut self.arrival else { return };
        let begin = || if peer.established { Goal::held_by(peer) } else { Goal::Unstated(None) };
        let goal = goals.entry(conn).or_insert_with(begin);
        goal.state(now.mono, peer, &cx.config.timers);
        goal.look(cx.replica);
    }

    /// A link is gone.
    pub(super) fn note_departed(&mut self, now: Now, conn: ConnId, cx: &Context<'_>) {
        let Arrival::UnderWay { until, goals } = &mut self.arrival else { return };
        if let Some(Goal::Held { .. }) = goals.remove(&conn) {
            *until = Some(now.mono.plus_ms(GRACE_SILENCES * cx.config.timers.silence_ms));
        }
    }

    /// Whether it will never wait again.
    pub(crate) const fn has_arrived(&self) -> bool {
        matches!(self.arrival, Arrival::Over)
    }

    /// What this run waits for before it has caught up, if it does.
    pub(crate) fn awaits(&self, now: Now) -> Option<Awaited<'_>> {
        let Arrival::UnderWay { until, goals } = &self.arrival else { return None };
        let unmet = goals.iter().find(|(_, goal)| matches!(goal, Goal::Held { .. }));
        if let Some((conn, _)) = unmet {
            return Some(Awaited::Records { of: self.links.get(conn).and_then(Link::name).unwrap_or("?") });
        }
        let waits = until.is_none_or(|until| now.mono < until);
        self.missing(goals).filter(|_| waits).map(|with| Awaited::Link { with })
    }

    /// Whether this run has yet to find its cluster, or its way back into it, and somebody may help it to.
    pub(crate) fn is_joining(&self, now: Now, replica: &Replica) -> bool {
        let is_linked = || self.links.values().any(|link| link.source().is_some());
        matches!(replica.exposure, Exposure::Hidden | Exposure::Returning(_))
            && (is_linked() || self.awaits(now).is_some())
    }

    /// One with whom a link should stand each way, and does not, or who has not said yet what it holds.
    fn missing(&self, goals: &BTreeMap<ConnId, Goal>) -> Option<&str> {
        let lacks = |name: &str| !self.has_come(name, goals);
        let seats = self.roster.members().filter(|name| *name != self.own_name && lacks(name));
        let leads_nowhere = |target: &&Target| {
            let lacks_member = |name: &str| name != self.own_name && lacks(name);
            target.state != DialState::Own && target.member.as_deref().is_none_or(lacks_member)
        };
        let targets = self.members.targets().iter().filter(leads_nowhere);
        targets.map(|target| target.member.as_deref().unwrap_or(&target.address)).chain(seats).next()
    }

    fn has_come(&self, name: &str, goals: &BTreeMap<ConnId, Goal>) -> bool {
        let links = || self.links.values().filter(|link| link.name() == Some(name));
        let is_source = |link: &Link| {
            let has_stated = !matches!(goals.get(&link.conn), None | Some(Goal::Unstated(_)));
            link.source().is_some() && has_stated
        };
        let is_fed = |link: &Link| matches!(&link.role, Role::Feed(feed) if feed.is_on());
        links().any(is_source) && links().any(is_fed)
    }
}
