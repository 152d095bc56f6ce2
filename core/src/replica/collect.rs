//! Taking out what no member needs any more: deletes, and what ended runs added to counters.

use super::{Exposure, Replica};
use crate::origins::{Known, Origin};
use crate::store::{Folding, Graves, SLOTS, key_name};
use crate::version::{Hlc, Version};

impl Replica {
    /// Takes out of `slot` what is without a value and `stable` covers; counts it. Of what nobody
    /// has seen the log says so: read again it would be written anew, and take what others wrote meanwhile.
    pub(crate) fn collect(&mut self, slot: u16, stable: &Known, count: &mut u64) -> Graves {
        let Self { store, reaped, collected, origins, mark_due, log, exposure, .. } = self;
        let is_unshown = matches!(exposure, Exposure::Alone | Exposure::Hidden);
        let is_stable = |version: Version| stable.covers(version, origins.retired());
        store.collect(slot, is_stable, |record| {
            let version = record.version;
            reaped.note(version, origins.retired());
            collected.note(key_name(record.key), version.hlc, record.is_counter);
            *mark_due = true;
            if is_unshown && let Some(log) = log {
                log.emit_gone(record.key);
            }
            *count += 1;
        })
    }

    /// Folds what ended runs, of which `stable` says that all members hold everything, added to the counters of `slot`,
    /// while those have `parted` who had when the runs were retired.
    pub(crate) fn fold(&mut self, slot: u16, stable: &Known, parted: u32) -> Folding {
        let Self { store, origins, .. } = self;
        let retired = origins.retired();
        store.fold(slot, |part| {
            let is_stable = part.hlc <= retired.last_within(stable.retired, part.origin);
            let entry = retired.folds_under(parted, part.origin)?;
            (is_stable && entry.number <= stable.retired && part.since > entry.after).then_some(entry)
        })
    }

    /// Whether anything is here that others wrote.
    pub(crate) fn holds_others(&self) -> bool {
        let is_of_others = |origin: &Origin| !self.is_own(origin.id) && origin.held > Hlc::ZERO;
        self.origins.iter().any(is_of_others) || self.origins.retired().len() > 0
    }

    /// Takes all deletes out of who is alone until now, or has nothing of others and has been seen by none: nobody has
    /// what they deleted. Written anew, the delete of a hash would take the fields that others have written since.
    /// (`sim/regressions/who-was-alone-deleted-a-hash-that-others-wrote-to`)
    pub(crate) fn forget_deletes(&mut self) {
        let mut all = Known::default();
        all.claims.raise_all(self.origins.iter().map(|account| (account.id, account.held.max(account.frontier))));
        let mut slot = self.store.next_to_collect(0, false);
        while slot < SLOTS {
            self.collect(slot, &all, &mut 0);
            slot = self.store.next_to_collect(slot + 1, false);
        }
    }
}
