//! What this node holds of every origin: the frontier it claims, and the newest record it has at all.

use crate::counter::Fold;
use crate::retired::{Entry, Mark, Retired};
use crate::time::Mono;
use crate::version::{Hlc, OriginId, Version};

/// Origins that a node keeps account of. A frontier is sent with every heartbeat; 4,096 are 64 KiB, and so many runs
/// that cannot be [retired](crate::retired) thirty nodes have in three years of weekly restarts.
pub(crate) const ORIGINS_MAX: usize = 4_096;

/// Of these, taken at most for retired origins of which an unfinished sweep has brought something.
const UNFINISHED_MAX: usize = ORIGINS_MAX / 2;

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

/// The accounts, and the ledger of those that need none any more.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Ordered by id: what is sent does not depend on when an origin was first heard of.
    accounts: Vec<Origin>,
    /// Where an account was that was looked for before; records of one origin come in runs.
    recent: usize,
    /// All that it says is covered. An origin in it has an account only if there is more of it than that, or if it is
    /// this node's own.
    retired: Retired,
}

impl Origins {
    /// The accounts.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Origin> {
        self.accounts.iter()
    }

    /// Each of these claims, with the account of its origin.
    pub(crate) fn beside<'a>(
        &'a self,
        claims: &'a Claims,
    ) -> impl Iterator<Item = (&'a (OriginId, Hlc), Option<&'a Origin>)> {
        // Both are ordered by origin.
        let mut rest = &self.accounts[..];
        claims.iter().map(move |claim| {
            while let [first, behind @ ..] = rest
                && first.id < claim.0
            {
                rest = behind;
            }
            (claim, rest.first().filter(|account| account.id == claim.0))
        })
    }

    /// How many accounts there are.
    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn retired(&self) -> &Retired {
        &self.retired
    }

    /// The frontier of `id`; zero for an origin never heard of.
    pub(crate) fn frontier(&self, id: OriginId) -> Hlc {
        self.find(id).map_or_else(|| self.retired.last_of(id), |origin| origin.frontier)
    }

    /// The account of `id`.
    pub(crate) fn find(&self, id: OriginId) -> Option<&Origin> {
        self.index(id).ok().map(|at| &self.accounts[at])
    }

    /// Whether anything was ever heard of `id`.
    pub(crate) fn has_heard_of(&self, id: OriginId) -> bool {
        self.find(id).is_some() || self.retired.number_of(id).is_some()
    }

    /// The account of `id`, opened now if there was none. `None` when there are too many.
    #[inline]
    pub(crate) fn open(&mut self, id: OriginId, now: Mono) -> Option<&mut Origin> {
        match self.index(id) {
            Ok(at) => {
                self.recent = at;
                Some(&mut self.accounts[at])
            }
            Err(_) => self.open_below(ORIGINS_MAX - OWN_ORIGINS_MAX, id, now),
        }
    }

    /// Opens the account of an origin of this node's own, for which there is always room.
    pub(crate) fn open_own(&mut self, id: OriginId, now: Mono) {
        let opened = self.open_below(ORIGINS_MAX, id, now);
        debug_assert!(opened.is_some(), "a run has no more origins than there is room for");
    }

    fn open_below(&mut self, origins_max: usize, id: OriginId, now: Mono) -> Option<&mut Origin> {
        let at = match self.index(id) {
            Ok(at) => at,
            Err(_) if self.accounts.len() >= origins_max => return None,
            Err(at) => {
                let (frontier, zero) = (self.retired.last_of(id), Hlc::ZERO);
                let fresh = Origin { id, frontier, held: frontier, swept: zero, announced: zero, progress: now };
                self.accounts.insert(at, fresh);
                at
            }
        };
        self.recent = at;
        Some(&mut self.accounts[at])
    }

    /// Claims everything of `id` up to `hlc`. True if that is news.
    #[inline]
    pub(crate) fn claim(&mut self, id: OriginId, hlc: Hlc, now: Mono) -> bool {
        let Ok(at) = self.index(id) else { return self.claim_first(id, hlc, now) };
        let account = &mut self.accounts[at];
        if hlc <= account.frontier {
            return false;
        }
        self.recent = at;
        account.frontier = hlc;
        account.held = account.held.max(hlc);
        account.progress = now;
        true
    }

    /// As [`claim`](Self::claim), of an origin that has no account.
    #[cold]
    fn claim_first(&mut self, id: OriginId, hlc: Hlc, now: Mono) -> bool {
        hlc > self.retired.last_of(id) && self.open(id, now).is_some() && self.claim(id, hlc, now)
    }

    /// As [`hold`](Self::hold), if there is an account of `id`: whether a record as new was held before.
    #[inline]
    pub(crate) fn hold_of_account(&mut self, id: OriginId, hlc: Hlc) -> Option<bool> {
        let at = self.index(id).ok()?;
        self.recent = at;
        let account = &mut self.accounts[at];
        let was_held = hlc <= account.held;
        if !was_held && hlc > self.retired.last_of(id) {
            account.held = hlc;
        }
        Some(was_held)
    }

    /// Notes that a record of `id` at `hlc` is held. False when there is no room for its origin.
    pub(crate) fn hold(&mut self, id: OriginId, hlc: Hlc, now: Mono) -> bool {
        if hlc <= self.retired.last_of(id) {
            return true;
        }
        self.open(id, now).is_some_and(|origin| {
            origin.held = origin.held.max(hlc);
            true
        })
    }

    /// As [`hold`](Self::hold), for an origin that will be retired at the end of the sweep that brings the record. One
    /// that there is no room for is not found should the sweep be cut, and nobody else have it.
    pub(crate) fn hold_unfinished(&mut self, id: OriginId, hlc: Hlc, now: Mono) {
        if let Some(origin) = self.open_below(UNFINISHED_MAX, id, now) {
            origin.held = origin.held.max(hlc);
        }
    }

    /// Appends `entry` to the ledger: of its origin everything is held up to there, and nothing comes behind it. Its
    /// account goes, unless it says more, or `keeps` it. False if the ledger has no room.
    pub(crate) fn retire(&mut self, entry: Entry, keeps: bool) -> bool {
        let Entry { origin: id, last, .. } = entry;
        if !self.retired.append(entry) {
            return false;
        }
        if let Ok(at) = self.index(id) {
            let account = &mut self.accounts[at];
            (account.frontier, account.held) = (account.frontier.max(last), account.held.max(last));
            if account.held == last && !keeps {
                self.accounts.remove(at);
            }
        }
        debug_assert!(self.frontier(id) >= last, "the ledger holds what is covered");
        true
    }

    /// Gives all that are retired accounts again, with an empty ledger. False, and nothing is changed, if there is no
    /// room.
    pub(crate) fn lapse(&mut self, now: Mono) -> bool {
        let lacking = self.retired.since(0).filter(|entry| self.find(entry.origin).is_none());
        if self.len() + lacking.count() > ORIGINS_MAX - OWN_ORIGINS_MAX {
            return false;
        }
        let retired = self.retired.since(0).map(|entry| entry.origin).collect::<Vec<_>>();
        for id in retired {
            let opened = self.open(id, now);
            debug_assert!(opened.is_some(), "there is room");
        }
        self.retired = Retired::default();
        true
    }

    /// Closes the accounts that say nothing: of what was only heard of, and of what is retired, unless they are `kept`.
    pub(crate) fn close_empty(&mut self, kept: impl Fn(&Origin) -> bool) {
        let retired = &self.retired;
        self.accounts.retain(|account| account.held > retired.last_of(account.id) || kept(account));
    }

    /// Claims exactly this.
    pub(crate) fn restore(&mut self, claims: impl Iterator<Item = (OriginId, Hlc)>) {
        for account in &mut self.accounts {
            account.frontier = self.retired.last_of(account.id);
        }
        for (id, hlc) in claims {
            let Some(account) = self.open(id, Mono(0)) else { continue };
            account.frontier = account.frontier.max(hlc);
            account.held = account.held.max(hlc);
        }
    }

    /// Of these nothing newer than this is held.
    pub(crate) fn hold_only(&mut self, newest: &Claims) {
        for account in &mut self.accounts {
            let held = newest.get(account.id).unwrap_or(account.held);
            account.held = account.frontier.max(held);
        }
    }

    /// What was read and is not claimed may be with nobody else: once its run has ended it is announced, as what a
    /// sweep has brought that was cut.
    pub(crate) fn sweep_unclaimed(&mut self) {
        for account in self.accounts.iter_mut().filter(|account| account.held > account.frontier) {
            account.swept = account.held;
        }
    }

    /// Claims no more than this.
    pub(crate) fn lower(&mut self, claims: &Claims) {
        for account in &mut self.accounts {
            let most = claims.of(account.id).max(self.retired.last_of(account.id));
            account.frontier = account.frontier.min(most);
        }
    }

    /// Claims nothing of these.
    pub(crate) fn disclaim(&mut self, ids: &[OriginId]) {
        for id in ids {
            if let Ok(at) = self.index(*id) {
                self.accounts[at].frontier = Hlc::ZERO;
            }
        }
    }

    /// Has this ledger, which covers what it says if nothing `is_lost`.
    pub(crate) fn restore_ledger(&mut self, retired: Retired, is_lost: bool) {
        self.retired = retired;
        for account in self.accounts.iter_mut().filter(|_| !is_lost) {
            account.frontier = account.frontier.max(self.retired.last_of(account.id));
            account.held = account.held.max(account.frontier);
        }
    }

    /// Forgets all accounts and the ledger, which is given back.
    pub(crate) fn clear(&mut self) -> Retired {
        std::mem::take(self).retired
    }

    /// Notes that `id` is being supplied, though nothing of it can be claimed yet.
    pub(crate) fn touch(&mut self, id: OriginId, now: Mono) {
        if let Ok(at) = self.index(id) {
            self.accounts[at].progress = now;
        }
    }

    /// Notes that a sweep brought a record of `id` at `hlc`.
    pub(crate) fn sweep(&mut self, id: OriginId, hlc: Hlc) {
        if let Ok(at) = self.index(id) {
            self.accounts[at].swept = self.accounts[at].swept.max(hlc);
        }
    }

    /// Notes that the unclaimed records of `id` up to `hlc` were announced.
    pub(crate) fn announce(&mut self, id: OriginId, hlc: Hlc) {
        if let Ok(at) = self.index(id) {
            self.accounts[at].announced = self.accounts[at].announced.max(hlc);
        }
    }

    /// Forgets an origin that nobody else ever heard of.
    pub(crate) fn remove(&mut self, id: OriginId) {
        if let Ok(at) = self.index(id) {
            self.accounts.remove(at);
        }
    }

    #[inline]
    fn index(&self, id: OriginId) -> Result<usize, usize> {
        match self.accounts.get(self.recent) {
            Some(account) if account.id == id => Ok(self.recent),
            Some(_) | None => self.search(id),
        }
    }

    #[inline(never)]
    fn search(&self, id: OriginId) -> Result<usize, usize> {
        self.accounts.binary_search_by_key(&id, |origin| origin.id)
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
        self.get(id).unwrap_or(Hlc::ZERO)
    }

    /// The claim on `id`, which may be one of zero.
    pub(crate) fn get(&self, id: OriginId) -> Option<Hlc> {
        self.0.binary_search_by_key(&id, |(origin, _)| *origin).ok().map(|at| self.0[at].1)
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

    /// Raises the claim on `id` to at least `hlc`.
    pub(crate) fn raise(&mut self, id: OriginId, hlc: Hlc) {
        match self.0.binary_search_by_key(&id, |(origin, _)| *origin) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(hlc),
            Err(at) => self.0.insert(at, (id, hlc)),
        }
    }

    /// Raises many claims at once.
    pub(crate) fn raise_all(&mut self, claims: impl Iterator<Item = (OriginId, Hlc)>) {
        self.0.extend(claims);
        // The greatest of each origin comes first, and stays.
        self.0.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        self.0.dedup_by_key(|(origin, _)| *origin);
    }
}

/// What somebody holds: claims on origins, and how much of the ledger, which is the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) claims: Claims,
    /// As many entries of the ledger.
    pub(crate) retired: u32,
}

impl Known {
    /// The claim on `id`, by this node's ledger.
    pub(crate) fn of(&self, id: OriginId, retired: &Retired) -> Hlc {
        self.claims.of(id).max(retired.last_within(self.retired, id))
    }

    pub(crate) fn covers(&self, version: Version, retired: &Retired) -> bool {
        version.hlc <= self.of(version.origin, retired)
    }

    /// Whether all that is in a fold of this node's ledger is held.
    pub(crate) fn covers_fold(&self, fold: &Fold) -> bool {
        fold.number <= self.retired
    }
}

/// What the sender of a sweep claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Its frontier when the sweep began.
    pub(crate) frontier: Claims,
    /// Its ledger then.
    pub(crate) mark: Mark,
    /// How many of that ledger's entries the asker has, or will not hear of, and those behind them.
    pub(crate) from: u32,
    pub(crate) told: Vec<Entry>,
}

impl Swept {
    /// All of it in one.
    pub(crate) fn known(&self) -> Known {
        let mut known = Known { claims: self.frontier.clone(), retired: self.from };
        known.claims.raise_all(self.told.iter().map(|entry| (entry.origin, entry.last)));
        known
    }

    /// The sender's ledger, where `own` has the beginning that it did not tell.
    pub(crate) fn ledger(&self, own: &Retired) -> Retired {
        own.extended(self.from, &self.told)
    }
}

#[cfg(test)]
pub(crate) mod tests;
