//! Orphans: records of a run that nobody can stream any more, left on some nodes by sweeps that did not come to their
//! end (PROTOCOL.md rule 12). Frontiers are equal while data differs, so nobody would ever ask for them; whoever holds
//! some announces them again in its own stream.

use crate::counter::Counter;
use crate::record::Record;
use crate::repl::intake::Intake;
use crate::repl::link::Peer;
use crate::repl::walk::Walk;
use crate::repl::{Context, Links, Members};
use crate::replica::{Exposure, Replica};
use crate::time::Now;
use crate::version::{Hlc, OriginId, Version};

/// What is being announced, if anything is.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    round: Option<Round>,
    /// Records announced so far.
    announced: u64,
}

/// The announcing of what one origin left behind.
#[derive(Debug)]
struct Round {
    origin: OriginId,
    above: Hlc,
    upto: Hlc,
    walk: Walk,
}

impl Orphans {
    /// Records announced so far.
    pub(super) const fn announced(&self) -> u64 {
        self.announced
    }

    /// Announces some more. True while there is more.
    pub(super) fn step(
        &mut self,
        now: Now,
        links: &Links,
        members: &Members,
        intake: &Intake,
        cx: &mut Context<'_>,
    ) -> bool {
        if matches!(cx.replica.exposure, Exposure::Alone | Exposure::Hidden) || cx.replica.is_reissuing() {
            return false;
        }
        if self.round.is_none() {
            self.round = next(now, links, members, intake, cx);
        }
        let Some(round) = &mut self.round else { return false };
        if round.step(now, cx.replica, &mut self.announced) {
            return true;
        }
        cx.replica.origins.announce(round.origin, round.upto);
        self.round = None;
        true
    }
}

/// An origin with unclaimed records that no link and no peer can bring.
fn next(now: Now, links: &Links, members: &Members, intake: &Intake, cx: &Context<'_>) -> Option<Round> {
    let sources = || links.values().filter_map(|link| link.source());
    // Of what a peer has retired and this node has not, a sweep from that peer brings the rest.
    let lacks_retired = |peer: &Peer| peer.retired.len > cx.replica.origins.retired().len();
    if !intake.is_idle() || sources().any(|(_, peer)| lacks_retired(peer)) {
        return None;
    }
    let orphaned = cx.replica.origins.iter().find(|origin| {
        let left_behind = origin.swept > origin.frontier && origin.swept > origin.announced;
        let silent = members.has_ended(origin.id) || now.mono.ms_since(origin.progress) >= cx.config.timers.orphan_ms;
        left_behind
            && silent
            && !sources().any(|(_, peer)| peer.origin == origin.id || peer.frontier.of(origin.id) > origin.frontier)
    })?;
    tracing::info!(origin = %orphaned.id, "announcing what a run that ended left behind");
    Some(Round { origin: orphaned.id, above: orphaned.frontier, upto: orphaned.swept, walk: Walk::default() })
}

impl Round {
    /// Counts what it announces. True while there is more.
    fn step(&mut self, now: Now, replica: &mut Replica, announced: &mut u64) -> bool {
        let Self { origin, above, upto, walk } = self;
        let is_left_behind =
            |version: Version| version.origin == *origin && version.hlc > *above && version.hlc <= *upto;
        let orphaned = |record: &Record<'_>| match record.is_counter {
            true => Counter::of(record).versions().any(is_left_behind),
            false => is_left_behind(record.version),
        };
        for key in walk.step(&replica.store, |slot| replica.store.slot_newest(slot) <= *above, orphaned) {
            replica.announce(now, &key);
            *announced += 1;
        }
        !walk.is_done()
    }
}
