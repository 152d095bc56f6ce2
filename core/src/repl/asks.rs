//! Asking peers how far they have come, for clients that wait to hear it.
//!
//! Heartbeats tell it too, but only now and then. A question goes behind all that the stream has to bring, on the same
//! link, so that its answer speaks of that. One is under way on a link at most, and none while nobody waits.

use std::collections::BTreeMap;

use crate::origins::Claims;
use crate::repl::collect::pulled_from;
use crate::repl::link::Peer;
use crate::repl::{Context, Replication, Role};
use crate::replica::Replica;
use crate::version::{Hlc, Version};

/// Where a feeding link stands in asking its peer how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// The last question, if there was one, was asked when our stream stood here. It was answered; what the answer
    /// did not cover, a heartbeat will: the peer takes it from elsewhere, or later.
    No { asked: Hlc },
    /// To be asked as soon as our stream has been sent up to there.
    Wanted { upto: Hlc },
    /// Asked when our stream stood here, and not answered.
    UnderWay { asked: Hlc },
}

impl Asking {
    pub(super) const NEVER: Self = Self::No { asked: Hlc::ZERO };

    /// Somebody wants to know whether the peer holds our stream up to `upto`. What is under way already is waited for.
    pub(super) fn want(&mut self, upto: Hlc) {
        if matches!(self, Self::No { asked } if *asked < upto) {
            *self = Self::Wanted { upto };
        }
    }

    /// Whether a question waits to be asked.
    pub(super) const fn is_wanted(&self) -> bool {
        matches!(self, Self::Wanted { .. })
    }

    /// Our stream has been sent up to `sent`. True if the question goes out now, behind that.
    pub(super) fn begin(&mut self, sent: Hlc) -> bool {
        let is_due = matches!(self, Self::Wanted { upto } if *upto <= sent);
        if is_due {
            *self = Self::UnderWay { asked: sent };
        }
        is_due
    }

    /// The peer has answered. False if it was not asked.
    pub(super) fn end(&mut self) -> bool {
        let Self::UnderWay { asked } = *self else { return false };
        *self = Self::No { asked };
        true
    }
}

impl Replication {
    /// How far each linked member is known to have this run's stream, greatest first. What this node had written before
    /// it came back may have lost to what others wrote; so who does not hold all that was here then is left out.
    /// (`sim/regressions/what-had-lost-when-its-writer-came-back-was-said-to-be-with-who-had-never-heard-of-it`)
    pub(crate) fn copies(&self, replica: &Replica) -> Vec<Hlc> {
        let mut by_name: BTreeMap<&str, Hlc> = BTreeMap::new();
        let peers = self.links.values().filter_map(|link| link.peer.as_ref());
        for peer in peers.filter(|peer| peer.stated && self.holds_returned(peer, replica)) {
            let held = by_name.entry(&peer.name).or_default();
            *held = (*held).max(peer.holds(replica.own(), &replica.origins));
        }
        let mut copies: Vec<Hlc> = by_name.into_values().collect();
        copies.sort_unstable_by(|one, other| other.cmp(one));
        copies
    }

    /// Whether all who take what this node writes from itself hold all of it.
    pub(crate) fn is_flushed(&self, replica: &Replica) -> bool {
        let fed = self.links.values().filter(|link| matches!(link.role, Role::Feed(_)));
        let mut fed = fed.filter_map(|link| link.peer.as_ref());
        let own = Version { hlc: replica.own_last(), origin: replica.own() };
        // What they may not see yet they cannot hold.
        let has_written = own.hlc > Hlc::ZERO || replica.is_reissuing();
        let is_shown = !has_written || !replica.hides_any();
        fed.all(|peer| is_shown && self.holds(&peer.name, own, &replica.origins))
    }

    /// Members that are not known to hold all that this node wrote.
    pub(crate) fn unacknowledged(&self, replica: &Replica) -> impl Iterator<Item = &str> {
        let own = Version { hlc: replica.own_last(), origin: replica.own() };
        let holds =
            move |name: &str| self.held.get(name).is_some_and(|held| held.origin == own.origin && held.hlc >= own.hlc);
        let names = self.members.iter().map(|(name, _)| name);
        names.filter(move |name| own.hlc > Hlc::ZERO && !holds(name))
    }

    fn holds_returned(&self, peer: &Peer, replica: &Replica) -> bool {
        let holds = |claims: &Claims| claims.iter().all(|(origin, hlc)| peer.holds(*origin, &replica.origins) >= *hlc);
        self.progress.returned.as_ref().is_none_or(holds)
    }

    /// Looks whether all members hold what was here when this node had come back.
    pub(super) fn settle_returned(&mut self, cx: &Context<'_>) {
        if self.progress.returned.is_none() {
            return;
        }
        let mut others = self.roster.members().filter(|name| *name != cx.config.name);
        let peer = |name: &str| pulled_from(&self.links, name).and_then(|link| link.peer.as_ref());
        if others.all(|name| peer(name).is_some_and(|peer| self.holds_returned(peer, cx.replica))) {
            self.progress.returned = None;
        }
    }

    /// Has those asked who are not known to hold this run's stream up to `upto`.
    pub(crate) fn ask_statuses(&mut self, upto: Hlc, replica: &Replica) {
        for link in self.links.values_mut() {
            let (Role::Feed(feed), Some(peer)) = (&mut link.role, &link.peer) else { continue };
            if peer.holds(replica.own(), &replica.origins) < upto {
                feed.asking.want(upto);
                feed.ask(replica, &mut link.staged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_is_under_way_and_none_is_asked_twice() {
        let mut asking = Asking::NEVER;
        assert!(!asking.begin(Hlc(5)) && !asking.end());
        asking.want(Hlc::ZERO);
        assert_eq!(asking, Asking::NEVER, "what nothing was written for is not asked");
        asking.want(Hlc(4));
        assert!(!asking.begin(Hlc(3)), "it goes behind what is asked for");
        assert!(asking.begin(Hlc(5)));
        asking.want(Hlc(9));
        assert!(!asking.begin(Hlc(9)), "one is under way");
        assert!(asking.end());
        assert!(!asking.end(), "it was answered once");
        asking.want(Hlc(5));
        assert!(!asking.begin(Hlc(9)), "it was asked for that");
        asking.want(Hlc(6));
        assert!(asking.begin(Hlc(9)));
    }
}
