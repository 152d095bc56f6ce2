//! The guard against bad clocks. It is on the link, not on the record: a peer too far ahead is not read, so that
//! nothing of it is skipped and one bad clock infects nobody; a node that is itself ahead of most refuses client
//! writes. The roster counts as read: its seats carry stamps (`sim/regressions/a-roster-told-by-a-clock-far-ahead` had
//! a newcomer stamp its first write by them, and turn away the members whose clocks were right).

use std::collections::BTreeMap;

use crate::boundary::{Close, ConnId};
use crate::repl::link::{Link, Peer, PullStage, Role};
use crate::repl::{Context, LINKS_MAX, Replication, intake};
use crate::replica::Refused;
use crate::time::Now;
use crate::version::Hlc;

/// How many bounds a stamp may be ahead of its sender's stated wall clock. Who admits a peer one bound ahead stamps
/// what it writes next above that peer's stamps, and hands on what that peer admitted; ten such steps are no
/// cluster's. More is the trace of a clock that was far ahead once: it would move everybody else's for good.
const STAMP_BOUNDS: u64 = 10;

impl Replication {
    /// Looks at what all peers state: whom to read, and whether this node may take client writes.
    pub(super) fn guard_clocks(&mut self, now: Now, cx: &mut Context<'_>) {
        let bound_ms = cx.config.timers.clock_ahead_ms_max;
        self.clock_ms_ahead = self.median_ahead_ms();
        let ms = u64::try_from(self.clock_ms_ahead).unwrap_or(0);
        // Stamps that no peer would believe are no better than a clock that none does.
        let stamps_ms = ms.saturating_add(cx.replica.clock().ms().saturating_sub(now.wall.0));
        let alone = self.links.values().all(|link| link.peer.is_none());
        let unbelievable = !alone && stamps_ms > bound_ms.saturating_mul(STAMP_BOUNDS);
        if !cx.replica.refused.is_some_and(Refused::is_for_good) {
            let refused = (ms > bound_ms || unbelievable).then_some(Refused::ClockAhead { ms: ms.max(stamps_ms) });
            if refused.is_some() != cx.replica.refused.is_some() {
                match refused {
                    Some(_) => {
                        tracing::error!(ms, "this node's clock is ahead of its peers': client writes are refused")
                    }
                    None => tracing::info!("this node's clock agrees with its peers' again: client writes are taken"),
                }
            }
            cx.replica.refused = refused;
        }
        let ahead = |peer: &Peer| is_ahead(peer, bound_ms);
        let mut bad: Vec<ConnId> = Vec::new();
        for link in self.links.values_mut() {
            let Some(peer) = &link.peer else { continue };
            let (ahead, stated) = (ahead(peer), peer.stated);
            let Role::Pull(pull) = &mut link.role else { continue };
            match pull.stage {
                PullStage::Held if stated && !ahead => intake::ask_stream(link, cx.replica, true),
                PullStage::Asked(_) | PullStage::Streaming if ahead => bad.push(link.conn),
                PullStage::Held | PullStage::Asked(_) | PullStage::Streaming => {}
            }
        }
        for conn in bad {
            if let Some(name) = self.links.get(&conn).and_then(Link::name) {
                tracing::warn!(
                    peer = name,
                    "its clock is too far ahead of this node's: it is not read until that ends"
                );
            }
            self.close(now, conn, Close::Clock, cx);
        }
    }

    /// How far this node's clock is behind, if that is past the bound and it is this clock that is wrong: most clocks
    /// of those that are linked, with this one, say so. Of two nobody knows which is right, and one is to serve: as
    /// the one that is ahead takes no writes, it is the other.
    pub(crate) fn outvoted_ms_behind(&self, bound_ms: u64) -> Option<u64> {
        let peers = self.links.values().filter_map(|link| link.peer.as_ref());
        let ahead: BTreeMap<&str, i64> = peers.map(|peer| (peer.name.as_str(), peer.ahead_ms)).collect();
        let behind = ahead.values().filter_map(|ms| u64::try_from(*ms).ok()).filter(|ms| *ms > bound_ms);
        (2 * behind.clone().count() > ahead.len() + 1).then(|| behind.min().unwrap_or(0))
    }

    /// Whether a link is not read because its peer's clock is too far ahead.
    pub(crate) fn is_held_for_clock(&self, link: &Link, bound_ms: u64) -> bool {
        link.peer.as_ref().is_some_and(|peer| is_ahead(peer, bound_ms))
    }

    /// How far this node's clock is ahead of the median peer's.
    fn median_ahead_ms(&self) -> i64 {
        let mut readings = [0; LINKS_MAX];
        let mut count = 0;
        for peer in self.links.values().filter_map(|link| link.peer.as_ref()) {
            readings[count] = -peer.ahead_ms;
            count += 1;
        }
        let Some(last) = count.checked_sub(1) else { return 0 };
        let ahead = &mut readings[..count];
        ahead.sort_unstable();
        ahead[last / 2]
    }
}

/// Whether a peer's clocks are too far ahead of ours to listen to it.
pub(super) fn is_ahead(peer: &Peer, bound_ms: u64) -> bool {
    peer.ahead_ms > i64::try_from(bound_ms).unwrap_or(i64::MAX) || !is_credible(peer, peer.clocks.hlc, bound_ms)
}

/// Whether a stamp from `peer` is one that it can have by its own clock, or by those it admits.
pub(super) fn is_credible(peer: &Peer, hlc: Hlc, bound_ms: u64) -> bool {
    // One bound more than a node's own writes may be ahead: what it wrote just before it noticed stays readable.
    hlc.ms() <= peer.clocks.wall.plus_ms(bound_ms.saturating_mul(STAMP_BOUNDS + 1)).0
}
