//! A link: one connection between two members. The side that dialed pulls, the side that accepted feeds.

use crate::boundary::{AddrId, ConnId};
use crate::config::Timers;
use crate::connections::Ends;
use crate::origins::{Claims, Origins};
use crate::repl::auth::Auth;
use crate::repl::collect::Vouch;
use crate::repl::durable::Stated;
use crate::repl::feed::Feed;
use crate::repl::say::Messages;
use crate::repl::scrub::{Serving, Suspicion};
use crate::repl::staged::Staged;
use crate::replica::Replica;
use crate::retired::Mark;
use crate::store::Root;
use crate::time::{Mono, Now, WallMs};
use crate::version::{Hlc, OriginId};
use crate::wire::peer::{Clocks, Status};

/// One connection between two members.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    pub(crate) role: Role,
    /// Who is at the other end, once it has said so.
    pub(crate) peer: Option<Peer>,
    /// What the sides have proven to each other.
    pub(super) auth: Auth,
    /// Where its ends are, if the driver knows.
    pub(super) ends: Option<Ends>,
    /// What is said until the sides have proven themselves; it goes first.
    pub(super) opening: Staged,
    /// Frames that wait to be sent.
    pub(crate) staged: Staged,
    /// The beginning of a frame, out of chunks that were whole.
    pub(super) unsealed: Vec<u8>,
    pub(super) messages: Messages,
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
    /// The version of the protocol that is spoken with it.
    pub(crate) protocol: u16,
    pub(crate) run: OriginId,
    /// Of what it writes now.
    pub(crate) origin: OriginId,
    pub(crate) established: bool,
    /// Its clocks as last stated, and how far its wall clock was ahead of ours then, by its quickest statement.
    pub(crate) clocks: Clocks,
    pub(crate) ahead_ms: i64,
    pub(crate) quickest: Reading,
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
    /// The hash of the newest roster in which it was seen to have a seat.
    pub(crate) seated_under: u64,
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
            auth: Auth::Open,
            ends: None,
            opening: Staged::default(),
            unsealed: Vec::new(),
            staged: Staged::default(),
            messages: Messages::default(),
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

    /// Whether something waits to be sent besides records.
    pub(super) fn has_frames(&self) -> bool {
        !self.opening.is_empty() || !self.staged.is_empty() || !self.messages.is_empty()
    }

    /// Bytes that wait to be sent besides records.
    pub(super) fn staged_bytes(&self) -> usize {
        self.opening.len() + self.staged.len() + self.messages.len()
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
        self.quickest = self.quickest.or_quicker(Reading { wall: clocks.wall, at: now.mono }, self.clocks.wall);
        self.clocks = clocks;
        self.ahead_ms = ms_ahead(self.quickest.wall_at(now.mono), now.wall);
    }
}

/// A peer's wall clock as a statement told it, and when that came.
///
/// A statement that had to wait, behind a backlog or because this process stood still, makes its sender's clock look
/// behind by as long. So of those that came over a link the one counts that was under way for the shortest time: the
/// one by which the clock reads most now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) wall: WallMs,
    pub(crate) at: Mono,
}

/// A peer's clock that goes on from an old reading is taken to lose one part in so many: more than any does that is
/// slewed (chrony's take up to one in twelve), so that none is believed ahead by what it no longer is.
const SLOWEST_PART: u64 = 8;

impl Reading {
    /// This one or `stated`, the next behind the statement that told `before`.
    fn or_quicker(self, stated: Self, before: WallMs) -> Self {
        // A link keeps the order of statements: a later one that tells less is of a clock that was set back.
        let was_set_back = stated.wall < before;
        if was_set_back || stated.wall >= self.wall_at(stated.at) { stated } else { self }
    }

    /// What the clock reads at `now`, at least.
    fn wall_at(self, now: Mono) -> WallMs {
        let passed_ms = now.ms_since(self.at);
        self.wall.plus_ms(passed_ms - passed_ms.div_ceil(SLOWEST_PART))
    }
}

/// How far a peer's wall clock that reads `wall` is ahead of ours, in milliseconds; negative when it is behind.
fn ms_ahead(wall: WallMs, ours: WallMs) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(wall.0).saturating_sub(signed(ours.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By how many milliseconds a clock is ahead of one that reads when each of these statements came, after the last
    /// of them: when it came, and what it told, in milliseconds.
    fn ahead_after(statements: &[(u64, u64)]) -> i64 {
        let mut readings =
            statements.iter().map(|(at_ms, wall)| Reading { wall: WallMs(*wall), at: Mono(at_ms * 1_000) });
        let first = readings.next().expect("a statement");
        let (quickest, last) =
            readings.fold((first, first), |(quickest, last), stated| (quickest.or_quicker(stated, last.wall), stated));
        ms_ahead(quickest.wall_at(last.at), WallMs(last.at.0 / 1_000))
    }

    #[test]
    fn a_statement_that_came_late_does_not_make_a_clock_look_as_far_behind() {
        assert_eq!(ahead_after(&[(5_000, 5_000)]), 0);
        assert_eq!(ahead_after(&[(5_000, 5_000), (6_000, 6_000), (14_000, 7_000)]), -1_000, "an eighth of 8 s");
        assert_eq!(ahead_after(&[(5_000, 5_000), (45_000, 6_000), (85_000, 7_000)]), -10_000);
        // The first one was late too.
        assert_eq!(ahead_after(&[(50_000, 5_000), (51_000, 51_000), (91_000, 52_000)]), -5_000);
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        assert_eq!(ahead_after(&[(5_000, 5_000), (6_000, 66_000)]), 60_000);
        assert_eq!(ahead_after(&[(5_000, 65_000), (6_000, 6_000)]), 0);
        assert_eq!(ahead_after(&[(70_000, 130_000), (71_000, 71_000), (72_000, 12_000), (73_000, 13_000)]), -60_000);
    }

    #[test]
    fn a_clock_that_is_slewed_is_believed_where_it_is() {
        let slewed = (0..=600).map(|n| (1_000 * n, 60_000 + 900 * n)).collect::<Vec<_>>();
        assert_eq!(ahead_after(&slewed), 0);
    }

    #[test]
    fn a_clock_that_was_set_back_by_less_than_passed_between_two_statements_is_found_out_in_time() {
        // By three of four seconds.
        let after = |more: u64| {
            let since = (0..=more).map(|n| (9_000 + 1_000 * n, 6_000 + 1_000 * n));
            ahead_after(&std::iter::once((5_000, 5_000)).chain(since).collect::<Vec<_>>())
        };
        assert_eq!((after(0), after(8), after(20), after(100)), (-500, -1_500, -3_000, -3_000));
    }
}
