//! What this node holds of every origin: the frontier it claims, and the newest record it has at all.

use crate::time::Mono;
use crate::version::{Hlc, OriginId};

/// Origins that a node keeps account of. A frontier is sent with every heartbeat; 4,096 are 96 KiB, and thirty nodes
/// restarted once a week need three years to get there.
pub(crate) const ORIGINS_MAX: usize = 4_096;

/// Of these, kept for a run's own: the one it began with, and the one under which it writes anew.
const OWN_ORIGINS_MAX: usize = 2;

/// One origin's account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) id: OriginId,
    /// Everything the origin wrote up to here is held, or was superseded by something held.
    pub(crate) frontier: Hlc,
    /// The newest record of it that was ever held, claimed or not. Never below `frontier`.
    pub(crate) held: Hlc,
    /// The newest record of it that a sweep brought above `frontier`; what an unfinished sweep leaves behind.
    pub(crate) swept: Hlc,
    /// Unclaimed records up to here were announced again by this node.
    pub(crate) announced: Hlc,
    /// When `frontier` last grew, or the origin was first heard of.
    pub(crate) progress: Mono,
}

/// The accounts, ordered by id: what is sent does not depend on when an origin was first heard of.
#[derive(Debug, Default)]
pub(crate) struct Origins(Vec<Origin>);

impl Origins {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Origin> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The frontier of `id`; zero for an origin never heard of.
    pub(crate) fn frontier(&self, id: OriginId) -> Hlc {
        self.find(id).map_or(Hlc::ZERO, |origin| origin.frontier)
    }

    pub(crate) fn find(&self, id: OriginId) -> Option<&Origin> {
        self.index(id).ok().map(|at| &self.0[at])
    }

    /// The account of `id`, opened now if there was none. `None` when there are too many.
    pub(crate) fn open(&mut self, id: OriginId, now: Mono) -> Option<&mut Origin> {
        self.open_below(ORIGINS_MAX - OWN_ORIGINS_MAX, id, now)
    }

    /// Opens the account of an origin of this node's own, for which there is always room.
    pub(crate) fn open_own(&mut self, id: OriginId, now: Mono) {
        let opened = self.open_below(ORIGINS_MAX, id, now);
        debug_assert!(opened.is_some(), "a run has no more origins than there is room for");
    }

    fn open_below(&mut self, origins_max: usize, id: OriginId, now: Mono) -> Option<&mut Origin> {
        let at = match self.index(id) {
            Ok(at) => at,
            Err(_) if self.0.len() >= origins_max => return None,
            Err(at) => {
                let zero = Hlc::ZERO;
                let fresh = Origin { id, frontier: zero, held: zero, swept: zero, announced: zero, progress: now };
                self.0.insert(at, fresh);
                at
            }
        };
        Some(&mut self.0[at])
    }

    /// Claims everything of `id` up to `hlc`. True if that is news.
    pub(crate) fn claim(&mut self, id: OriginId, hlc: Hlc, now: Mono) -> bool {
        let Some(origin) = self.open(id, now) else { return false };
        if hlc <= origin.frontier {
            return false;
        }
        origin.frontier = hlc;
        origin.held = origin.held.max(hlc);
        origin.progress = now;
        true
    }

    /// Notes that a record of `id` at `hlc` is held. False when there is no room for its origin.
    pub(crate) fn hold(&mut self, id: OriginId, hlc: Hlc, now: Mono) -> bool {
        match self.open(id, now) {
            Some(origin) => {
                origin.held = origin.held.max(hlc);
                true
            }
            None => false,
        }
    }

    /// Notes that `id` is being supplied, though nothing of it can be claimed yet.
    pub(crate) fn touch(&mut self, id: OriginId, now: Mono) {
        if let Ok(at) = self.index(id) {
            self.0[at].progress = now;
        }
    }

    /// Notes that a sweep brought a record of `id` at `hlc`.
    pub(crate) fn sweep(&mut self, id: OriginId, hlc: Hlc) {
        if let Ok(at) = self.index(id) {
            self.0[at].swept = self.0[at].swept.max(hlc);
        }
    }

    /// Notes that the unclaimed records of `id` up to `hlc` were announced.
    pub(crate) fn announce(&mut self, id: OriginId, hlc: Hlc) {
        if let Ok(at) = self.index(id) {
            self.0[at].announced = self.0[at].announced.max(hlc);
        }
    }

    /// Forgets an origin that nobody else ever heard of.
    pub(crate) fn remove(&mut self, id: OriginId) {
        if let Ok(at) = self.index(id) {
            self.0.remove(at);
        }
    }

    fn index(&self, id: OriginId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |origin| origin.id)
    }
}

/// A vector of claims (`origin -> hlc`), ordered by origin: a frontier frozen, or heard from a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims(Vec<(OriginId, Hlc)>);

impl Claims {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (OriginId, Hlc)> {
        self.0.iter()
    }

    /// The claim on `id`; zero where there is none.
    pub(crate) fn of(&self, id: OriginId) -> Hlc {
        self.0.binary_search_by_key(&id, |(origin, _)| *origin).map_or(Hlc::ZERO, |at| self.0[at].1)
    }

    /// Takes the claim on `id` back.
    pub(crate) fn remove(&mut self, id: OriginId) {
        self.0.retain(|(origin, _)| *origin != id);
    }

    /// Lowers each claim to what `other` claims too.
    pub(crate) fn lower_to(&mut self, other: &Self) {
        self.0.retain_mut(|(origin, hlc)| {
            *hlc = (*hlc).min(other.of(*origin));
            *hlc > Hlc::ZERO
        });
    }

    /// Whether everything that `other` claims is claimed here too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.lacking(other).next().is_none()
    }

    /// What `other` claims and this does not.
    pub(crate) fn lacking<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a (OriginId, Hlc)> {
        other.iter().filter(|(origin, hlc)| *hlc > self.of(*origin))
    }

    /// Raises the claim on `id` to at least `hlc`.
    pub(crate) fn raise(&mut self, id: OriginId, hlc: Hlc) {
        match self.0.binary_search_by_key(&id, |(origin, _)| *origin) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(hlc),
            Err(at) => self.0.insert(at, (id, hlc)),
        }
    }
}
