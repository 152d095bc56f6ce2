//! A link: one connection between two members. The side that dialed pulls, the side that accepted feeds.

use crate::boundary::{AddrId, ConnId};
use crate::config::Timers;
use crate::origins::{Claims, Origins};
use crate::repl::collect::Vouch;
use crate::repl::durable::Stated;
use crate::repl::feed::Feed;
use crate::repl::scrub::{Serving, Suspicion};
use crate::repl::staged::Staged;
use crate::replica::Replica;
use crate::retired::Mark;
use crate::store::Root;
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId};
use crate::wire::peer::{Clocks, Status};

/// One connection between two members.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    pub(crate) role: Role,
    /// Who is at the other end, once it has said so.
    pub(crate) peer: Option<Peer>,
    /// Frames that wait to be sent.
    pub(crate) staged: Staged,
    /// What the peer asked in order to compare its data with ours.
    pub(crate) serving: Serving,
    /// When the connection stood.
    opened: Mono,
    /// When anything was last received.
    pub(crate) heard: Mono,
    /// When the next heartbeat is due.
    pub(crate) status_at: Mono,
    /// A hash of what the last heartbeat on it stated; 0: the next states everything.
    pub(crate) stated: u64,
    /// The number of the newest statement of what is on the disk that the other side was told.
    pub(crate) told_durable: u64,
    /// It has asked how far this node has come, and is answered once that is on the disk.
    pub(crate) asked: bool,
    /// The number of the newest writer's name that the other side was told.
    pub(crate) named: u64,
    /// The driver was told, or found, that there is nothing to send; it must be woken when there is.
    pub(crate) asleep: bool,
}

/// What this side does on a link.
#[derive(Debug)]
pub(crate) enum Role {
    /// Accepted: sends its tail, and sweeps when asked.
    Feed(Feed),
    /// Dialed: takes what the other side sends.
    Pull(Pull),
}

/// The pulling side's state.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) addr: AddrId,
    pub(crate) stage: PullStage,
    /// Origins that the feeder was asked for besides its own, ordered.
    pub(crate) relays: Vec<OriginId>,
    /// The number under which the stream was last asked for.
    pub(crate) last_ask: u32,
    /// Since the stream began, records of it were dropped because of a sweep: asking for it again may bring them. What
    /// else is missing the feeder has from a sweep of its own, and not in its tail.
    pub(crate) dropped: bool,
    /// Records are missing that asking again did not bring.
    pub(crate) gap: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullStage {
    /// Nothing was asked for: no greeting yet, or the peer's clock is too far ahead to be listened to.
    Held,
    /// The stream was asked for under this number; what comes before it begins is of an earlier one.
    Asked(u32),
    Streaming,
}

/// What the other side of a link said of itself.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) run: OriginId,
    /// Of what it writes now.
    pub(crate) origin: OriginId,
    pub(crate) established: bool,
    /// Its clocks as last stated, and how far its wall clock was ahead of ours then.
    pub(crate) clocks: Clocks,
    pub(crate) ahead_ms: i64,
    /// Its frontier as last stated, without what is in its ledger.
    pub(crate) frontier: Claims,
    /// Its ledger as last stated.
    pub(crate) retired: Mark,
    /// Origins that it has settled, and the newest record of each that it holds, as last stated.
    pub(crate) settled: Claims,
    /// Those of them in whose place it has found another run.
    pub(crate) replaced: Claims,
    /// The first entry of its ledger that this node does not cover, if it was told one.
    pub(crate) foretold: Option<(OriginId, Hlc)>,
    /// All of its tail that the link carries came before that statement.
    pub(crate) drained: bool,
    /// It was asked to leave its cluster.
    pub(crate) leaves: bool,
    /// It knows that this node was asked to leave.
    pub(crate) knows_leaving: bool,
    /// It holds what its cluster held when it became a member.
    pub(crate) whole: bool,
    /// It has sent at least one statement: it did not turn us away.
    pub(crate) stated: bool,
    /// The hash of its roster as last stated, and that of ours that it was last told.
    pub(crate) roster: u64,
    pub(crate) told_roster: u64,
    /// Its roster was taken in; one that came while its clock seemed too far ahead was not.
    pub(crate) took_roster: bool,
    /// It has a disk: for collection counts only what it states to be there; and what it stated last.
    pub(crate) is_durable: bool,
    pub(crate) durable: Option<Stated>,
    /// What of its statements counts for collection.
    pub(crate) vouch: Vouch,
    /// The root of its data as last stated, and what such roots have shown.
    pub(crate) root: Option<Root>,
    pub(crate) suspicion: Suspicion,
}

/// How many times the silence that ends a link a greeting may take.
const GREETING_SILENCES: u64 = 2;

impl Link {
    /// The stream that was asked for last begins.
    pub(super) fn begin_pull(&mut self, id: u32) {
        let Role::Pull(pull) = &mut self.role else { return };
        if pull.stage == PullStage::Asked(id) {
            pull.stage = PullStage::Streaming;
            if let Some(peer) = &mut self.peer {
                // What it stated so far was of the stream before.
                peer.drained = false;
            }
        }
    }

    pub(crate) fn new(conn: ConnId, role: Role, now: Mono) -> Self {
        Self {
            conn,
            role,
            peer: None,
            staged: Staged::default(),
            serving: Serving::default(),
            opened: now,
            heard: now,
            status_at: now,
            stated: 0,
            told_durable: 0,
            asked: false,
            named: 0,
            asleep: true,
        }
    }

    /// When the link ends if nothing more is heard. Who has not greeted yet has some time for it, however busy it
    /// seems.
    pub(crate) fn expires(&self, timers: &Timers) -> Mono {
        match self.peer {
            Some(_) => self.heard.plus_ms(timers.silence_ms),
            None => self.opened.plus_ms(GREETING_SILENCES * timers.silence_ms),
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| peer.name.as_str())
    }

    /// Whether the peer waits for something of the tail, of the sweep it asked for, or of what it lacks.
    pub(crate) fn has_more_to_feed(&self, replica: &Replica) -> bool {
        self.serving.has_more() || matches!(&self.role, Role::Feed(feed) if feed.is_on() && !feed.is_drained(replica))
    }

    /// The peer, if it is one this node pulls from and that has stated its frontier.
    pub(crate) fn source(&self) -> Option<(&Pull, &Peer)> {
        match (&self.role, &self.peer) {
            (Role::Pull(pull), Some(peer)) if peer.stated && pull.stage != PullStage::Held => Some((pull, peer)),
            _ => None,
        }
    }
}

impl Peer {
    /// Takes in a statement.
    pub(crate) fn update(&mut self, now: Now, status: &Status<'_>) {
        self.origin = status.origin;
        self.established = status.established;
        self.drained = status.drained;
        self.leaves = status.leaves;
        self.knows_leaving = status.knows_leaving;
        self.whole = status.whole;
        self.stated = true;
        self.roster = status.roster;
        self.root = Some(status.root);
        self.set_clocks(now, status.clocks);
        status.frontier.read_into(&mut self.frontier);
        self.retired = status.retired;
        status.settled.read_into(&mut self.settled);
        status.replaced.read_into(&mut self.replaced);
        self.vouch_again();
    }

    /// Up to where it holds `origin`, as last stated; of what is retired, as far as its ledger is a beginning of ours.
    pub(crate) fn holds(&self, origin: OriginId, origins: &Origins) -> Hlc {
        let stated = self.frontier.of(origin);
        match origins.retired().continues(self.retired) {
            true => stated.max(origins.retired().last_within(self.retired.len, origin)),
            false => stated,
        }
    }

    /// Whether it has retired what this node does not cover.
    pub(crate) fn has_retired_more(&self, origins: &Origins) -> bool {
        self.foretold.is_some_and(|(origin, last)| last > origins.frontier(origin))
    }

    /// Takes in that nothing has changed since its last statement but its clocks.
    pub(crate) fn stands_by(&mut self, now: Now, clocks: Clocks) {
        self.set_clocks(now, clocks);
        self.vouch_again();
    }

    pub(crate) fn set_clocks(&mut self, now: Now, clocks: Clocks) {
        self.clocks = clocks;
        self.ahead_ms = ms_ahead(clocks, now);
    }
}

/// How far the stated wall clock is ahead of ours, in milliseconds; negative when it is behind.
pub(crate) fn ms_ahead(clocks: Clocks, now: Now) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(clocks.wall.0).saturating_sub(signed(now.wall.0))
}
