//! The walk that moves the cut and frees values whose deadline passed long ago.
//!
//! That a key with a deadline reads as absent is the reader's doing. This walk is for what must not depend on
//! anybody reading: counts, digest and memory.

use std::collections::BTreeSet;

use super::census::Walk;
use super::entry::Entry;
use super::origins::Origins;
use super::{Kinds, Place, SLOTS, SLOTS_AT_ONCE, Store, Totals, parts, state};
use crate::counter::Counter;
use crate::name::{self, Stored};
use crate::record::Record;
use crate::time::WallMs;

/// How long after its deadline a value is freed, in milliseconds: the bound on the clocks of a cluster. By then the
/// deadline has passed by every clock that is listened to, so nobody can still read what a peer could no longer send.
const CLOCK_BOUND_MS: u64 = 60_000;

/// Work of one step at the least: a slot is 1, and so is each entry looked at. That takes 60 ns, and so a step a
/// quarter of a millisecond. The slot in hand is always finished, so one that somebody filled on purpose takes one
/// longer step.
const STEP_WORK: u64 = 4_096;

/// What is added for an entry that leaves the counts, or whose value is freed: that takes some 250 ns, on a machine
/// that does much else twice as long.
const CHANGED_WORK: usize = 3;

/// Work for each microsecond of the turn before: a quarter to a third of what can be done in one, on a machine that
/// does much else half. So what has expired gets a share of the time of a node that is busy, and what a step takes
/// itself is not what makes the next one larger.
const SHARE_WORK: u64 = 4;

/// Work of a step at the most, however long the turn before was: the machine may have been away. Some 3,000 entries
/// that change, which take a millisecond.
const SHARE_WORK_MAX: u64 = 3 * STEP_WORK;

/// Work for each write with a deadline that was merged since the step before: what it takes to have as many leave
/// the counts, and to free as many. So whoever writes faster than values expire has longer turns, and not ever more
/// that is held.
const MERGED_WORK: u64 = 2 * (1 + CHANGED_WORK as u64);

/// What is due when.
pub(super) struct Dues {
    /// By [`SLOTS_AT_ONCE`] slots: no cut before this one has anything to move or free in any of them. May be too
    /// early, and too late only of slots that the walk has yet to come to where it stands between them.
    firsts: Box<[WallMs]>,
    /// Writes with a deadline that were merged since the last step.
    merged: u64,
}

impl Dues {
    pub(super) fn new() -> Self {
        Self { firsts: vec![NEVER; usize::from(SLOTS / SLOTS_AT_ONCE)].into_boxed_slice(), merged: 0 }
    }

    /// Something is due in `slot`.
    pub(super) fn note(&mut self, slot: u16, due: WallMs) {
        let first = &mut self.firsts[usize::from(slot / SLOTS_AT_ONCE)];
        *first = (*first).min(due);
    }

    /// As [`note`](Self::note), of a write with a deadline.
    pub(super) fn note_merged(&mut self, slot: u16, due: WallMs) {
        self.merged += 1;
        self.note(slot, due);
    }

    /// Begins anew with the slots from this one on, the first of its group; what was noted of them.
    fn take(&mut self, slot: u16) -> WallMs {
        std::mem::replace(&mut self.firsts[usize::from(slot / SLOTS_AT_ONCE)], NEVER)
    }

    /// Work of a step that follows another one so many microseconds later, or that is the first of some.
    fn step_work(&mut self, turn_us: Option<u64>) -> usize {
        let merged = std::mem::take(&mut self.merged);
        // What was merged before the first is what it is about.
        let Some(turn_us) = turn_us else { return STEP_WORK as usize };
        let share = turn_us.saturating_mul(SHARE_WORK).clamp(STEP_WORK, SHARE_WORK_MAX);
        share.max(merged * MERGED_WORK) as usize
    }
}

impl Store {
    /// As [`expire_telling`](Self::expire_telling) with nobody to tell.
    #[cfg(test)]
    pub(crate) fn expire(&mut self, wall: WallMs) -> bool {
        self.expire_telling(wall, None, &mut |_, _| {})
    }

    /// Moves the digest's cut towards `wall` and frees values whose deadline passed long ago, a bounded step, which
    /// comes `turn_us` microseconds after the one before if that left more. True while more is to be done now. Does
    /// nothing before [`Store::next_expiry`]; the cut never goes back. `told` hears of the keys that leave the counts,
    /// and of those of which an element has ended: whether nothing is left.
    pub(crate) fn expire_telling(
        &mut self,
        wall: WallMs,
        turn_us: Option<u64>,
        told: &mut dyn FnMut(&[u8], bool),
    ) -> bool {
        let work_max = self.dues.step_work(turn_us);
        let mut walk = self.census.walk_at(wall);
        let mut work = 0;
        while let Some(step) = walk
            && work < work_max
        {
            let is_first = step.cursor.is_multiple_of(SLOTS_AT_ONCE);
            if is_first && work + usize::from(SLOTS_AT_ONCE) <= work_max {
                let due = self.dues.take(step.cursor);
                if due > step.to {
                    self.dues.note(step.cursor, due);
                    work += usize::from(SLOTS_AT_ONCE);
                    walk = self.census.advance(step, SLOTS_AT_ONCE);
                    continue;
                }
            }
            work += 1 + self.expire_slot(step, told);
            walk = self.census.advance(step, 1);
        }
        self.next_expiry() <= wall
    }

    /// The wall time from which on [`Store::expire_telling`] has something to do. O(1).
    pub(crate) fn next_expiry(&self) -> WallMs {
        self.census.next()
    }

    /// That the walk does not pass a slot in which something is due.
    #[cfg(test)]
    pub(super) fn check_due(&self, slot: u16) {
        let first = slot - slot % SLOTS_AT_ONCE;
        // The walk stands between them.
        let is_known = self.census.cut(first) == self.census.cut(first + SLOTS_AT_ONCE - 1);
        let due = self.dues.firsts[usize::from(slot / SLOTS_AT_ONCE)];
        assert!(!is_known || due <= self.slots[usize::from(slot)].due, "slot {slot}");
    }

    /// Moves the slot at the walk's cursor to the walk's cut; how much work that was, besides the slot.
    fn expire_slot(&mut self, walk: Walk, told: &mut dyn FnMut(&[u8], bool)) -> usize {
        self.settle(walk.cursor);
        let slot = &mut self.slots[usize::from(walk.cursor)];
        if slot.due > walk.to {
            self.dues.note(walk.cursor, slot.due);
            return 0;
        }
        slot.due = NEVER;
        let has_elements = !self.indexes[usize::from(walk.cursor)].is_empty();
        let (mut ended, mut crossed, mut changed) = (Vec::new(), BTreeSet::new(), 0);
        for entry in slot.table.iter_mut() {
            let record = self.origins.record(entry);
            if record.deadline.is_none() {
                continue;
            }
            let crosses = self.census.crosses(walk, &record);
            if crosses {
                changed += 1;
                self.census.cross(walk, &mut slot.digest, &record);
                let owner = has_elements.then(|| name::owner(record.key)).flatten();
                if owner.is_none() {
                    told(record.key, true);
                }
                if has_elements {
                    crossed.insert(owner.map_or_else(|| record.key.to_vec(), Stored::into_owned));
                }
            }
            let due = next_due(&record, walk.to);
            // What was counted at the old cut has to be told until the walk is over, which may take long where a clock
            // jumped ahead and came back: of a counter, or what becomes one, that takes its value. So this is left to
            // the next walk. (`sim/regressions/a-counter-freed-by-a-clock-that-came-back-was-added-to`)
            if due > walk.to || crosses {
                slot.due = slot.due.min(due);
                continue;
            }
            changed += 1;
            if has_elements && name::is_element(record.key) {
                // One by one, for the index.
                ended.push((entry.hash(), record.key.to_vec()));
                continue;
            }
            let crowd = &mut self.crowds[usize::from(walk.cursor / SLOTS_AT_ONCE)];
            let books = (&mut self.kinds[usize::from(walk.cursor)], crowd, &mut self.totals);
            end(entry, &mut self.origins, books, walk.cursor);
        }
        let (due, work) = (slot.due, slot.table.len() + CHANGED_WORK * changed);
        self.dues.note(walk.cursor, due);
        for (hash, stored) in ended {
            self.end_element(Place { slot: walk.cursor, hash }, &stored);
        }
        // With the last of its elements a key is gone.
        for key in &crossed {
            let is_gone = self.tally_key_at(key, walk.to);
            told(key, is_gone);
        }
        work
    }

    fn end_element(&mut self, place: Place, stored: &[u8]) {
        let Self { slots, kinds, crowds, origins, totals, .. } = self;
        let Some(entry) = slots[usize::from(place.slot)].table.find_mut(place.hash, stored) else { return };
        let was = state(&origins.record(entry));
        let crowd = &mut crowds[usize::from(place.slot / SLOTS_AT_ONCE)];
        end(entry, origins, (&mut kinds[usize::from(place.slot)], crowd, totals), place.slot);
        if !entry.has_value() {
            self.note_freed(place, stored, was);
        }
    }
}

/// Frees the value of an entry of `slot`, or lets a counter that goes on do so without its base.
fn end(
    entry: &mut Entry,
    origins: &mut Origins,
    (kinds, crowd, totals): (&mut Kinds, &mut u32, &mut Totals),
    slot: u16,
) {
    let (before, was_counter) = (entry.allocation_bytes(), origins.record(entry).is_counter);
    if !end_base(entry, origins) {
        entry.free_value();
        totals.husks += 1;
        kinds.graves += 1;
        kinds.husks += 1;
        totals.counters -= u64::from(was_counter);
        kinds.counters -= u32::from(was_counter);
        // A counter was counted already.
        *crowd += u32::from(!was_counter);
    }
    totals.entry_bytes -= before;
    totals.entry_bytes += entry.allocation_bytes();
    totals.changes.note(slot);
}

/// Lets a counter whose base has ended go on without it, or become the husk of its base if nothing goes on. False if it
/// is no counter that goes on.
fn end_base(entry: &mut Entry, origins: &mut Origins) -> bool {
    let record = origins.record(entry);
    if !record.is_counter {
        return false;
    }
    // A copy: the entry is overwritten.
    let (key, cell, mut text) = (record.key.to_vec(), record.value.map(<[u8]>::to_vec), Vec::new());
    let mut counter = Counter::of(&Record { value: cell.as_deref(), key: &key, ..record });
    counter.end_base();
    let Some(rest) = counter.record(&key, &mut text) else { return false };
    // Without room for one more origin it keeps what is no longer added.
    let Ok(origin) = origins.intern(rest.version.origin) else { return true };
    entry.overwrite(&parts(&rest, origin));
    rest.is_counter
}

/// No deadline in sight.
pub(super) const NEVER: WallMs = WallMs(u64::MAX);

/// The next cut at which the walk has something to do about an entry that was counted at `cut`.
pub(super) fn next_due(record: &Record<'_>, cut: WallMs) -> WallMs {
    match record.deadline {
        Some(deadline) if deadline > cut => deadline,
        Some(_) if record.is_counter && !Counter::of(record).holds_ended() => NEVER,
        Some(deadline) if record.value.is_some() => deadline.plus_ms(CLOCK_BOUND_MS),
        _ => NEVER,
    }
}
