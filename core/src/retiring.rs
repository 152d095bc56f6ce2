//! What retired origins are to a node's data: sweeps that bring some, and what was taken out of theirs.

use crate::counter::Fold;
use crate::origins::{Claims, Known, Origin, Origins, Swept};
use crate::replica::Replica;
use crate::retired::{Entry, Folds, Mark, Retired};
use crate::store::OriginsFull;
use crate::time::Mono;
use crate::version::{Hlc, OriginId, Version};
use crate::wire::peer::ClaimsView;

/// What was taken out: tombstones and husks.
#[derive(Debug, Default)]
pub(crate) struct Reaped {
    /// By origin: the newest. Of one that is retired only what comes behind its entry.
    pub(crate) claims: Claims,
    /// Of retired origins up to this number of the ledger something was, perhaps of all.
    pub(crate) retired: u32,
}

impl Reaped {
    /// Whether anything was.
    pub(crate) fn is_any(&self) -> bool {
        self.retired > 0 || self.claims.iter().next().is_some()
    }

    /// Notes that `version` was taken out.
    pub(crate) fn note(&mut self, version: Version, retired: &Retired) {
        match retired.number_of(version.origin) {
            Some(number) if version.hlc <= retired.last_of(version.origin) => self.retired = self.retired.max(number),
            Some(_) | None => self.claims.raise(version.origin, version.hlc),
        }
    }

    /// Whether who holds `known` may still have some of it.
    pub(crate) fn lacking<'a>(
        &'a self,
        known: &'a Known,
        retired: &'a Retired,
    ) -> (bool, impl Iterator<Item = &'a (OriginId, Hlc)>) {
        let claims = self.claims.iter().filter(|(origin, hlc)| *hlc > known.of(*origin, retired));
        (self.retired > known.retired, claims)
    }

    /// Notes that `origin` is retired.
    fn retire(&mut self, origin: OriginId, retired: &Retired) {
        let hlc = self.claims.of(origin);
        if hlc > Hlc::ZERO && hlc <= retired.last_of(origin) {
            self.claims.remove(origin);
            self.retired = self.retired.max(retired.number_of(origin).unwrap_or(0));
        }
    }

    /// `gone` is this node's ledger no more, `stands` is.
    fn lapse(&mut self, gone: &Retired, stands: &Retired) {
        let reaped = gone.since(0).take(std::mem::take(&mut self.retired) as usize);
        for Entry { origin, last, .. } in reaped {
            self.note(Version { hlc: last, origin }, stands);
        }
    }
}

/// What comes at the end of a sweep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepEnd<'a> {
    pub(crate) clock: Hlc,
    pub(crate) reaped_retired: u32,
    pub(crate) reaped: ClaimsView<'a>,
}

impl Replica {
    /// This node's ledger, as peers may see it.
    pub(crate) fn mark(&self) -> Mark {
        if self.is_returning() { Mark::default() } else { self.origins.retired().mark() }
    }

    /// Whether `origin` belongs into the frontier that peers are told.
    pub(crate) fn states(&self, origin: &Origin) -> bool {
        let is_news = origin.frontier > self.origins.retired().last_of(origin.id);
        (is_news || self.is_own(origin.id)) && origin.frontier > Hlc::ZERO && !self.is_hidden(origin.id)
    }

    /// Whether there is an account of `origin`, or an entry.
    pub(crate) fn uses(&self, origin: OriginId) -> bool {
        self.origins.find(origin).is_some() || self.store.has_written(origin)
    }

    /// Takes `entry`, which is held, into the ledger. False if it was there, if there is no room, or if it cannot be.
    ///
    /// That is a claim, and so what is written next is newer (PROTOCOL.md rule 6): of a run with orphans it may be up
    /// to a record that only another member has ever held, and that has lost since to what was deleted and forgotten.
    /// (`sim/regressions/retired-up-to-what-only-another-member-had-held`)
    pub(crate) fn retire(&mut self, entry: Entry) -> bool {
        let keeps = self.is_own(entry.origin);
        if keeps && entry.parted != 0 {
            // This run is up. If it is over, those who know that tell it so.
            return false;
        }
        let is_news = self.origins.retire(entry, keeps);
        if is_news {
            self.clock.observe(entry.last);
            self.reaped.retire(entry.origin, self.origins.retired());
        }
        is_news
    }

    /// Whether all that is in `fold` is held: it adds nothing to what the ledger says.
    pub(crate) fn covers_fold(&self, fold: &Fold) -> bool {
        self.origins.retired().holds(fold.era, fold.number)
    }

    /// Whether the sender of a sweep has told all that is in `fold`.
    pub(crate) fn is_foretold(&self, fold: &Fold) -> bool {
        self.foretold.as_ref().is_some_and(|ledger| ledger.holds(fold.era, fold.number))
    }

    /// Whether the sender of the sweep under way holds all that is in `fold`.
    pub(crate) fn is_claimed_fold(&self, fold: &Fold) -> bool {
        let is_one_log = !self.is_returning() && self.covers_fold(fold);
        fold.number <= self.swept_len && (is_one_log || self.is_foretold(fold))
    }

    /// Closes the accounts that say nothing, but for this run's own and those that are `kept`.
    pub(crate) fn close_empty(&mut self, kept: impl Fn(&Origin) -> bool) {
        let Self { origins, own, reissued, .. } = self;
        origins.close_empty(|account| account.id == *own || reissued.contains(&account.id) || kept(account));
    }

    /// Gives all that are retired accounts again. False if there is no room.
    pub(crate) fn lapse(&mut self, now: Mono) -> bool {
        let gone = self.origins.retired().since(0).collect::<Vec<_>>();
        if !self.origins.lapse(now) {
            return false;
        }
        for entry in gone.into_iter().take(std::mem::take(&mut self.reaped.retired) as usize) {
            self.reaped.claims.raise(entry.origin, entry.last);
        }
        true
    }

    /// Notes that a record of `version` is held. Whether one as new was, by the account of its origin: a sweep that was
    /// cut, or another's announcement, may have brought it.
    #[inline]
    pub(crate) fn hold(&mut self, now: Mono, version: Version) -> Result<bool, OriginsFull> {
        self.clock.observe(version.hlc);
        match self.origins.hold_of_account(version.origin, version.hlc) {
            Some(was_held) => Ok(was_held),
            None => self.hold_first(now, version).map(|()| false),
        }
    }

    /// As [`hold`](Self::hold), of an origin that has no account.
    #[cold]
    fn hold_first(&mut self, now: Mono, version: Version) -> Result<(), OriginsFull> {
        let Version { hlc, origin } = version;
        // A sweep may claim more origins that are retired than there is room for accounts.
        if hlc > self.origins.frontier(origin) && self.sweeping.as_ref().is_some_and(|claims| hlc <= claims.of(origin))
        {
            self.origins.hold_unfinished(origin, hlc, now);
            return Ok(());
        }
        self.origins.hold(origin, hlc, now).then_some(()).ok_or(OriginsFull)
    }

    /// A sweep with these claims begins: until its end, streams continue from what it will have brought.
    pub(crate) fn begin_sweep(&mut self, now: Mono, swept: &Swept) -> Result<(), OriginsFull> {
        // Where the ledgers fork, what the other one has retired gets accounts here.
        let told: &[_] = if self.forks(swept) { &swept.told } else { &[] };
        let told = told.iter().map(|entry| (entry.origin, entry.last));
        for (origin, hlc) in swept.frontier.iter().copied().chain(told) {
            if hlc > self.origins.frontier(origin) {
                self.origins.open(origin, now).ok_or(OriginsFull)?;
            }
        }
        self.swept_len = swept.mark.len;
        if !swept.told.is_empty() {
            let ledger = swept.ledger(self.origins.retired());
            // What a sweep that was cut has brought may be folded by more of the log than this one tells.
            if !self.foretold.as_ref().is_some_and(|foretold| foretold.continues(ledger.mark())) {
                let forks = self.foretold.as_ref().is_some_and(|foretold| !ledger.continues(foretold.mark()));
                if let Some(strays) = self.strays.as_mut().filter(|_| forks) {
                    strays.unforetold = true;
                }
                self.foretold = Some(ledger);
            }
        }
        let mut claims = swept.known().claims;
        claims.raise_all(self.origins.iter().map(|origin| (origin.id, origin.frontier)));
        self.sweeping = Some(claims);
        Ok(())
    }

    /// The sweep is whole: everything that it and the streams beside it brought is claimed, and what is written next is
    /// newer than anything that the sender ever knew.
    pub(crate) fn end_sweep(&mut self, now: Mono, swept: &Swept, end: &SweepEnd<'_>) {
        self.note_elsewhere(swept, end);
        self.mark_due = true;
        if let Some(claims) = self.sweeping.take() {
            for (_, hlc) in claims.iter() {
                self.clock.observe(*hlc);
            }
            // A member that comes back takes up the claims and nothing else: see `take_up`.
            if !self.is_returning() {
                self.adopt(swept);
                // One that was cut may have told more.
                let retired = self.origins.retired();
                if self.foretold.as_ref().is_none_or(|foretold| retired.continues(foretold.mark())) {
                    self.foretold = None;
                    self.strays.take_if(|strays| !strays.unforetold);
                }
                for (origin, hlc) in claims.iter() {
                    self.origins.claim(*origin, *hlc, now);
                }
            }
            self.clock.observe(end.clock);
        }
        for (origin, hlc) in end.reaped.iter() {
            self.reaped.note(Version { hlc, origin }, self.origins.retired());
        }
        if self.is_returning() {
            return;
        }
        if self.forks(swept) {
            let reaped = swept.told.iter().take(end.reaped_retired.saturating_sub(swept.from) as usize);
            for Entry { origin, last, .. } in reaped {
                self.reaped.note(Version { hlc: *last, origin: *origin }, self.origins.retired());
            }
        } else {
            // Perhaps more than is retired here: it was taken out all the same.
            self.reaped.retired = self.reaped.retired.max(end.reaped_retired);
        }
    }

    /// Notes what the sender of a sweep has collected and this node never held; before it claims that.
    fn note_elsewhere(&mut self, swept: &Swept, end: &SweepEnd<'_>) {
        let told = swept.told.iter().take(end.reaped_retired.saturating_sub(swept.from) as usize);
        for (origin, hlc) in told.map(|entry| (entry.origin, entry.last)).chain(end.reaped.iter()) {
            if hlc > self.origins.frontier(origin) {
                self.collected.note_elsewhere(hlc);
            }
        }
    }

    /// A member that was forgotten takes up what the cluster knows, and lets go of what it itself claimed.
    pub(crate) fn take_up(&mut self, now: Mono, swept: &Swept) {
        let gone = self.origins.clear();
        self.mark_due = true;
        self.adopt(swept);
        self.foretold = None;
        for (origin, hlc) in swept.frontier.iter() {
            self.origins.claim(*origin, *hlc, now);
        }
        self.reaped.lapse(&gone, self.origins.retired());
        // What it has taken out, and the cluster never knew, nobody has to drop on its word.
        let mut known = Claims::default();
        known.raise_all(self.origins.iter().map(|origin| (origin.id, origin.frontier)));
        self.reaped.claims.lower_to(&known);
        // What the sender has taken out of these it has said in terms of its ledger, which was not this node's yet.
        self.reaped.retired = self.origins.retired().len();
    }

    /// Retires what the sender of a sweep has retired.
    fn adopt(&mut self, swept: &Swept) {
        if self.forks(swept) {
            return;
        }
        let has = (self.origins.retired().len() - swept.from) as usize;
        for entry in swept.told.iter().skip(has) {
            if !self.retire(*entry) {
                break;
            }
        }
    }

    /// Whether the ledger of a sweep's sender and this node's are not one, or not to become one.
    fn forks(&self, swept: &Swept) -> bool {
        let retired = self.origins.retired();
        let is_given_up = swept.mark > retired.mark() && swept.mark < self.bound_for;
        is_given_up || retired.len() < swept.from || !retired.agrees(swept.from, &swept.told)
    }
}

/// What the ledger says of an origin that is folded, or will say once the sweep is whole whose sender `foretold` it.
pub(crate) fn entry_of(origins: &Origins, foretold: Option<&Retired>, origin: OriginId) -> Option<Folds> {
    origins.retired().folds(origin).or_else(|| foretold?.folds(origin))
}
