//! The walk that moves the cut and frees values whose deadline passed long ago.
//!
//! That a key with a deadline reads as absent is the reader's doing. This walk is for what must not depend on
//! anybody reading: counts, digest and memory.

use super::Store;
use super::census::Walk;
use crate::record::Record;
use crate::time::WallMs;

/// How long after its deadline a value is freed, in milliseconds: the bound on the clocks of a cluster. By then the
/// deadline has passed by every clock that is listened to, so nobody can still read what a peer could no longer send.
const CLOCK_BOUND_MS: u64 = 60_000;

/// Work of one step: a slot is 1, and so is each entry looked at. At some 60 ns for an entry that is not in the
/// processor's cache, a step is a quarter of a millisecond. The slot in hand is always finished, so one that somebody
/// filled on purpose takes one longer step.
const STEP_WORK_MAX: usize = 4_096;

impl Store {
    /// Moves the digest's cut towards `wall` and frees values whose deadline passed long ago, a bounded step.
    /// True while more is to be done now. Does nothing before [`Store::next_expiry`]; the cut never goes back.
    pub(crate) fn expire(&mut self, wall: WallMs) -> bool {
        let mut walk = self.census.walk_at(wall);
        let mut work = 0;
        while let Some(step) = walk
            && work < STEP_WORK_MAX
        {
            work += 1 + self.expire_slot(step);
            walk = self.census.advance(step);
        }
        self.next_expiry() <= wall
    }

    /// The wall time from which on [`Store::expire`] has something to do. O(1).
    pub(crate) fn next_expiry(&self) -> WallMs {
        self.census.next()
    }

    /// Moves the slot at the walk's cursor to the walk's cut; how many entries that took a look at.
    fn expire_slot(&mut self, walk: Walk) -> usize {
        let slot = &mut self.slots[usize::from(walk.cursor)];
        if slot.due > walk.to {
            return 0;
        }
        slot.due = NEVER;
        for entry in slot.table.iter_mut() {
            let record = self.origins.record(entry);
            if record.deadline.is_none() {
                continue;
            }
            if self.census.crosses(walk, &record) {
                self.census.cross(&mut slot.digest, &record);
            }
            let due = due(&record, walk.to);
            if due > walk.to {
                slot.due = slot.due.min(due);
                continue;
            }
            let before = entry.allocation_bytes();
            entry.free_value();
            self.totals.entry_bytes -= before - entry.allocation_bytes();
            self.totals.husks += 1;
            self.graves[usize::from(walk.cursor)] += 1;
        }
        slot.table.len()
    }
}

/// No deadline in sight.
pub(super) const NEVER: WallMs = WallMs(u64::MAX);

/// The next cut at which the walk has something to do about an entry that was counted at `cut`.
pub(super) fn due(record: &Record<'_>, cut: WallMs) -> WallMs {
    match record.deadline {
        Some(deadline) if deadline > cut => deadline,
        Some(deadline) if record.value.is_some() => deadline.plus_ms(CLOCK_BOUND_MS),
        _ => NEVER,
    }
}
