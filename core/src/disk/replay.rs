//! What a recovering node makes of what it reads: records are taken as they were when they came, and at the end it
//! stands where it stood.

use crate::collected::Collected;
use crate::config::Config;
use crate::counter::{Counter, Part};
use crate::disk::Durable;
use crate::disk::learnt::Learnt;
use crate::disk::stood::{Stand, Stood};
use crate::origins::{Claims, Origin};
use crate::record::{Framed, Record};
use crate::repl::{Recovered, Replication, Roster};
use crate::replica::{Exposure, Replica, Return, Strays};
use crate::store::SLOTS;
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId, Version};

impl Replica {
    /// Takes a record of the log, as it was taken when it came.
    pub(super) fn replay(&mut self, now: Mono, framed: &Framed<'_>) -> Option<()> {
        let Version { hlc, origin } = framed.stamp;
        match framed.record.is_counter {
            // By the end of the snapshot before it the run may have been retired; it was not when this came.
            true => self.take_counter(now, &framed.record, framed.prev.map(|_| framed.stamp)).ok()?,
            false => self.take(now, &framed.record, None).ok()?,
        };
        self.clock.observe(hlc);
        let Some(prev) = framed.prev else { return Some(()) };
        if prev <= self.origins.frontier(origin) {
            self.origins.claim(origin, hlc, now);
        } else {
            self.origins.hold(origin, hlc, now);
        }
        Some(())
    }

    /// Puts `record` where nothing stands.
    pub(super) fn put(&mut self, now: Mono, record: &Record<'_>) -> Option<()> {
        if record.is_counter {
            for version in Counter::of(record).versions() {
                self.hold(now, version).ok()?;
            }
        } else {
            self.hold(now, record.version).ok()?;
        }
        self.store.merge(record).ok().map(|_| ())
    }

    /// What is lost may be of runs that were retired, which the ledger says are covered: the others tell it again, with
    /// what is missing. Who has no others keeps it, and with it what was folded.
    ///
    /// What was collected it forgets to have been told: it may take in, of who has not heard of that, what had been
    /// deleted, for that is not covered any more. Who has heard tells it by a sweep that reconciles.
    /// (`sim/regressions/what-was-deleted-came-to-a-damaged-disk-from-who-had-not-heard-and-stayed`)
    fn doubt_ledger(&mut self, now: Mono) {
        let retired: Vec<OriginId> = self.origins.retired().since(0).map(|entry| entry.origin).collect();
        if self.lapse(now) {
            self.origins.disclaim(&retired);
            let collected: Vec<OriginId> = self.reaped.claims.iter().map(|(origin, _)| *origin).collect();
            self.origins.disclaim(&collected);
        }
    }

    /// What hidden runs had added is in what was written anew: that it took the place of theirs may be what was lost,
    /// and it would count twice. Where not all was yet, or may be missing, a part of who wrote it anew says so.
    /// (`sim/regressions/rot-hit-the-frame-that-took-a-hidden-part-out-and-it-counted-twice`) A run that was killed
    /// before it had a new snapshot may have dropped it before, and have said on the log that it is hidden.
    /// (`sim/regressions/what-was-written-anew-counted-twice-after-a-second-start-behind-rot`)
    fn drop_rewritten(&mut self, stood: &Stood) {
        if stood.rewritten.is_empty() && stood.anew.is_empty() {
            return;
        }
        let is_left = |part: &Part, counter: &Counter<'_>| {
            let is_anew = |other: &Part| other.since > part.hlc && stood.anew.contains(&(other.origin, part.origin));
            stood.rewritten.contains(&part.origin) || counter.parts.iter().any(is_anew)
        };
        let mut keys = Vec::new();
        for slot in 0..SLOTS {
            self.store.visit(slot, |record| {
                if !record.is_counter {
                    return;
                }
                let counter = Counter::of(record);
                if counter.parts.iter().any(|part| is_left(part, &counter)) {
                    keys.push(record.key.to_vec());
                }
            });
        }
        for key in keys {
            let Some(stands) = self.store.get(&key) else { continue };
            let cell = stands.value.map(<[u8]>::to_vec);
            let counter = Counter::of(&Record { key: &key, value: cell.as_deref(), ..stands });
            let mut rest = counter.clone();
            rest.parts.retain(|part| !is_left(part, &counter));
            self.put_counter(&key, &rest);
        }
    }

    /// What was read of records that it let go of when it came back is held by it no more: stated, it would have runs
    /// retired once more, up to what nobody has, and what was folded of them by their first entry is folded no more by
    /// those who come later.
    /// (`sim/regressions/what-was-let-go-of-when-it-came-back-was-read-and-stated-as-held`)
    fn hold_what_stands(&mut self) {
        let unclaimed = self.origins.iter().filter(|account| account.held > account.frontier);
        let mut newest = Claims::default();
        newest.raise_all(unclaimed.map(|account| (account.id, account.frontier)));
        if newest.iter().next().is_none() {
            return;
        }
        let mut note = |version: Version| {
            if newest.get(version.origin).is_some() {
                newest.raise(version.origin, version.hlc);
            }
        };
        for slot in 0..SLOTS {
            self.store.visit(slot, |record| match record.is_counter {
                true => Counter::of(record).versions().for_each(&mut note),
                false => note(record.version),
            });
        }
        self.origins.hold_only(&newest);
    }

    /// Who holds something of others is not alone, whatever the rest of a damaged directory says.
    fn look_alone(&mut self) {
        let is_of_others = |origin: &Origin| !self.is_own(origin.id) && origin.held > Hlc::ZERO;
        let holds = self.origins.iter().any(is_of_others) || self.origins.retired().len() > 0;
        if holds && self.exposure == Exposure::Alone {
            self.exposure = Exposure::Hidden;
        }
    }

    /// What it has is a backup: its cluster has gone on since.
    fn return_restored(&mut self) {
        self.is_whole = false;
        self.is_restored = true;
        self.exposure = Exposure::Returning(Return::Unswept);
    }

    /// Stands where the node stood.
    pub(super) fn restore(&mut self, now: Now, state: &Learnt, config: &Config, repl: &mut Replication) {
        // What was collected is not remembered by key.
        self.collected = Collected::default();
        self.durable = Some(Durable::default());
        let Some(stood) = &state.mark else {
            // Of a backup this is one of a node that had not begun its log, or what was left of one.
            if state.is_restored && !config.peers.is_empty() {
                self.return_restored();
                return repl.recover(now, Recovered::default(), self);
            }
            return self.look_alone();
        };
        self.clock.observe(stood.ceiling);
        let retired = self.origins.retired().since(0).take(self.reaped.retired as usize).map(|entry| entry.last);
        let newest = self.reaped.claims.iter().map(|(_, hlc)| *hlc).chain(retired).max();
        self.collected.note_elsewhere(newest.unwrap_or(Hlc::ZERO));
        if state.has_folds {
            self.strays = Some(Strays { since: now.mono, unforetold: true });
        }
        if state.is_damaged {
            self.drop_rewritten(stood);
        }
        self.is_whole = stood.whole;
        let mut recovered = Recovered {
            incarnation: stood.incarnation,
            roster: state.roster.clone().unwrap_or_default(),
            established: Hlc::ZERO,
            told: None,
            writers: state.writers.clone(),
        };
        match &stood.standing {
            _ if state.is_restored && config.peers.is_empty() => {
                // The first of a cluster that begins with this.
                recovered.roster = Roster::default();
                recovered.established = self.clock.last();
                self.exposure = Exposure::Exposed;
            }
            Stand::Returning(..) | Stand::Shown(_) | Stand::Unshown if state.is_restored => {
                recovered.roster = Roster::default();
                self.return_restored();
            }
            // That it was shown since may be what was lost.
            Stand::Unshown if state.is_damaged => {
                self.doubt_ledger(now.mono);
                self.exposure = Exposure::Hidden;
            }
            Stand::Unshown => {
                self.keep_hidden(stood.hidden.iter().copied(), now.mono);
                self.look_alone();
            }
            Stand::Returning(told, restored) => {
                recovered.roster = Roster::default();
                if state.is_damaged {
                    self.doubt_ledger(now.mono);
                }
                recovered.told.clone_from(told);
                self.is_restored = *restored;
                self.is_whole = false;
                self.exposure = Exposure::Returning(Return::Unswept);
            }
            Stand::Shown(established) => {
                recovered.established = *established;
                (self.reissued, self.is_unmarked) = (stood.hidden.clone(), !stood.hidden.is_empty());
                // It may have lost that it must not write below something, or who the others are.
                let is_of_others = |origin: &Origin| {
                    let writer = state.writers.iter().find(|(of, _)| *of == origin.id);
                    origin.held > Hlc::ZERO && writer.is_none_or(|(_, name)| *name != config.name)
                };
                let others = recovered.roster.hash() != stood.roster
                    || recovered.roster.members().any(|name| name != config.name)
                    || !config.peers.is_empty()
                    || self.origins.iter().any(is_of_others);
                let hides = state.is_damaged && others && self.reissued.is_empty();
                self.exposure = if hides { Exposure::Hidden } else { Exposure::Exposed };
                if state.is_damaged && others {
                    self.doubt_ledger(now.mono);
                }
            }
        }
        if stood.came_back {
            self.hold_what_stands();
        }
        self.origins.sweep_unclaimed();
        repl.recover(now, recovered, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retired::Entry;
    use crate::time::WallMs;

    #[test]
    fn what_a_run_added_is_read_again_though_a_snapshot_knows_that_it_was_retired_since() {
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut replica = Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, now.mono);
        assert!(replica.retire(Entry { origin: OriginId(9), last: Hlc(50), parted: 7, after: Hlc::ZERO }));
        let part = Part { origin: OriginId(9), hlc: Hlc(50), since: Hlc(50), total: 3 };
        let counter = Counter { parts: vec![part], ..Counter::default() };
        let mut cell = Vec::new();
        let record = counter.record(b"c", &mut cell).expect("there is something in it");
        let framed = Framed { stamp: part.version(), prev: Some(Hlc::ZERO), seen: Hlc::ZERO, record };
        assert_eq!(replica.replay(now.mono, &framed), Some(()));
        assert_eq!(replica.store.get(b"c").as_ref().map(Counter::of), Some(counter));
    }
}
