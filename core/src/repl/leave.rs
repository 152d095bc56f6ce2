//! `LEAVE`: a member goes on purpose. It takes no more writes, waits until all whom it is linked with hold everything
//! that it held then, gives up its seat, and is gone for the others once they know. What other members write meanwhile
//! is theirs to hand on; only what nobody else streams must be with everybody whenever it came.

use crate::boundary::Close;
use crate::repl::collect::pulled_from;
use crate::repl::link::{Link, Peer, Role};
use crate::repl::{Context, Replication};
use crate::replica::{Exposure, Refused};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId};

/// How long peers may take to hold everything: a gigabyte over a fast network, and longer than anybody watches.
const DRAIN_MS_MAX: u64 = 60_000;

/// How many heartbeats peers may take to hear that the seat is free. Who misses it hears it from the others.
const TOLD_HEARTBEATS_MAX: u64 = 4;

/// How far leaving has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Leave {
    #[default]
    No,
    /// No writes are taken; peers have yet to hold all that is here.
    Draining { until: Mono },
    /// The seat is free; peers have yet to hear it.
    Telling { until: Mono },
    /// Nobody is linked any more.
    Done,
}

impl Leave {
    /// Whether the seat is given up.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Telling { .. } | Self::Done)
    }
}

/// Why a member does not leave. It takes writes as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLeft {
    /// No other member is linked that could take over.
    Alone,
    /// It has not found its cluster yet, or was forgotten by it.
    NotJoined,
    /// A newer run has its place.
    Fenced,
    /// The others did not come to hold everything in time.
    NotDrained,
    /// All other members leave too, and somebody has to stay.
    Last,
}

impl Replication {
    /// Begins to leave; [`has_left`](Self::has_left) tells when that has come to an end.
    pub(crate) fn leave(&mut self, now: Now, cx: &mut Context<'_>) -> Result<(), NotLeft> {
        if self.leave != Leave::No {
            return Ok(());
        }
        if cx.replica.refused == Some(Refused::Fenced) {
            return Err(NotLeft::Fenced);
        }
        if cx.replica.exposure == Exposure::Alone {
            return Err(NotLeft::Alone);
        }
        if cx.replica.hides_any() {
            return Err(NotLeft::NotJoined);
        }
        if !self.links.values().filter_map(|link| link.peer.as_ref()).any(stays) {
            return Err(NotLeft::Alone);
        }
        tracing::info!("leaving the cluster: no more writes are taken, and what is here goes to the others");
        cx.replica.refused = Some(Refused::Left);
        self.stays = NotLeft::NotDrained;
        self.leave = Leave::Draining { until: now.mono.plus_ms(DRAIN_MS_MAX) };
        self.links.values_mut().for_each(|link| link.status_at = now.mono);
        self.held_at_leave.clear();
        self.held_at_leave.raise_all(cx.replica.exposed());
        self.soon(now.mono);
        Ok(())
    }

    /// How leaving ended; `None` while it goes on.
    pub(crate) fn has_left(&self) -> Option<Result<(), NotLeft>> {
        match self.leave {
            Leave::No => Some(Err(self.stays)),
            Leave::Draining { .. } | Leave::Telling { .. } => None,
            Leave::Done => Some(Ok(())),
        }
    }

    /// Whether this run has no seat any more because it leaves.
    pub(crate) const fn gave_up_seat(&self) -> bool {
        self.leave.is_over()
    }

    /// Whether this run is out of its cluster for good, and dials nobody.
    pub(super) fn is_out(&self, cx: &Context<'_>) -> bool {
        self.leave == Leave::Done || cx.replica.refused == Some(Refused::Fenced)
    }

    /// Looks whether the next step of leaving can be made.
    pub(super) fn step_leave(&mut self, now: Now, cx: &mut Context<'_>) {
        match self.leave {
            Leave::No | Leave::Done => {}
            Leave::Draining { .. } if self.is_drained(cx) => {
                tracing::info!("everything that is here is with the others: the seat is given up");
                self.unseat(now, &cx.config.name, self.run, cx.replica);
                let told_ms = TOLD_HEARTBEATS_MAX * cx.config.timers.heartbeat_ms;
                self.leave = Leave::Telling { until: now.mono.plus_ms(told_ms) };
                for link in self.links.values_mut() {
                    link.status_at = now.mono;
                }
            }
            Leave::Draining { .. } if self.is_last(cx) => {
                tracing::warn!("all others leave too: this node stays, and takes writes again");
                self.stay(now, NotLeft::Last, cx);
            }
            Leave::Draining { until } if until <= now.mono => {
                tracing::warn!("the others did not take everything in time: this node stays, and takes writes again");
                self.stay(now, NotLeft::NotDrained, cx);
            }
            Leave::Draining { .. } => {}
            Leave::Telling { until } => {
                let hash = self.roster.hash();
                let told = self.links.values().filter_map(|link| link.peer.as_ref()).all(|peer| peer.roster == hash);
                if told || until <= now.mono {
                    self.leave = Leave::Done;
                    let conns: Vec<_> = self.links.keys().copied().collect();
                    for conn in conns {
                        self.close(now, conn, Close::Replaced, cx);
                    }
                    tracing::info!("left the cluster: this process may be stopped");
                }
            }
        }
    }

    /// Gives up leaving.
    fn stay(&mut self, now: Now, why: NotLeft, cx: &mut Context<'_>) {
        self.stays = why;
        self.leave = Leave::No;
        cx.replica.refused = None;
        self.guard_clocks(now, cx);
        // Somebody may wait for one that stays.
        self.links.values_mut().for_each(|link| link.status_at = now.mono);
    }

    /// Whether it is this node that has to stay: all other members leave, so each would wait for another to stay, and
    /// meanwhile nobody takes writes, nor says of ended runs what collection waits for. Of those members the first
    /// stays. One that is away may come back and take over. (`sim/regressions/all-members-were-asked-to-leave`)
    fn is_last(&self, cx: &Context<'_>) -> bool {
        let own = &cx.config.name;
        let mut others = self.roster.members().filter(|name| *name != own);
        others.all(|name| {
            let peer = pulled_from(&self.links, name).and_then(|link| link.peer.as_ref());
            name > own.as_str() && peer.is_some_and(|peer| peer.stated && peer.leaves)
        })
    }

    /// Whether every linked peer holds all that it has to, and one of them stays.
    fn is_drained(&self, cx: &Context<'_>) -> bool {
        let mut pulled = self.links.values().filter(|link| matches!(link.role, Role::Pull(_)));
        let takes_over = pulled.clone().filter_map(|link| link.peer.as_ref()).any(takes_over);
        let is_streamed =
            |origin: OriginId| self.links.values().filter_map(Link::source).any(|(_, peer)| peer.origin == origin);
        let owed = |(origin, hlc): (OriginId, Hlc)| match is_streamed(origin) {
            true => (origin, hlc.min(self.held_at_leave.of(origin))),
            false => (origin, hlc),
        };
        let holds_all = |link: &Link| {
            let peer = link.peer.as_ref().filter(|peer| peer.stated);
            peer.is_some_and(|peer| {
                let mut owed = cx.replica.exposed().map(owed);
                owed.all(|(origin, hlc)| peer.holds(origin, &cx.replica.origins) >= hlc)
            })
        };
        takes_over && pulled.all(holds_all)
    }
}

fn stays(peer: &Peer) -> bool {
    peer.stated && peer.established && !peer.leaves
}

/// Whether what is handed to this peer is in a member's hands. Two that leave at once would leave it to each other; so
/// it has to have said that it stays when it knew that this node leaves. Of two, not both can have said that.
fn takes_over(peer: &Peer) -> bool {
    stays(peer) && peer.knows_leaving
}
