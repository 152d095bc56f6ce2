//! What is counted at the cut: the digest by which two nodes compare their data, and the number of keys.
//!
//! A counter counts as what it adds up to at T: who folded what, and who added it, is not in the sums.
//!
//! Any other entry counts at a cut T when it is no tombstone and has no deadline, or one after T. A *husk*, whose value
//! was freed, counts as its value would: two nodes that compare at one T must not differ by who has freed already.
//!
//! Moving the cut takes a walk over all slots in steps. In the middle of it, slots before the cursor are at the new
//! cut, the others at the old one. What a slot lost by being moved is kept as `late`, so that the sums at the old cut
//! stay exact at every moment.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::SLOTS;
use crate::counter::{Count, Counter};
use crate::name;
use crate::record::Record;
use crate::time::WallMs;

/// Milliseconds between cuts: short enough that expired keys leave the counts soon, long enough that the walk over
/// all slots is nothing, and a whole divisor of a minute, so that all nodes cut at the same times.
pub(super) const CUT_STEP_MS: u64 = 10_000;

/// The same on all nodes until clusters have a secret. Until then it keeps nobody from computing records whose sums
/// cancel out; it only keeps the sums apart from other uses of the hash.
pub(super) const CLUSTER_KEY: [u64; 2] = [0x5369_6d70_6c65_2d4b, 0x565f_6469_6765_7374];

pub(super) struct Census {
    /// The cut that the answers are for.
    done: WallMs,
    walk: Option<Walk>,
    /// The sum over all slots, each at its own cut.
    standing: Tally,
    /// What counts at `done`, but no longer in a slot that the walk has moved. Empty without a walk.
    late: Tally,
}

/// A walk that moves the cut.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// The cut when it is done.
    pub(super) to: WallMs,
    /// The next slot to move; all before it are at `to`.
    pub(super) cursor: u16,
}

#[derive(Default)]
struct Tally {
    /// Sum of fingerprints mod 2^128: any order gives the same, and what leaves is subtracted.
    digest: u128,
    keys: u64,
}

/// Which sum an entry is in.
enum Book {
    Standing,
    Late,
    Closed,
}

impl Census {
    pub(super) fn new() -> Self {
        Self { done: WallMs(0), walk: None, standing: Tally::default(), late: Tally::default() }
    }

    pub(super) fn keys(&self) -> u64 {
        self.standing.keys + self.late.keys
    }

    pub(super) fn digest(&self) -> (u128, WallMs) {
        (self.standing.digest.wrapping_add(self.late.digest), self.done)
    }

    /// The cut of every slot; none while it is being moved.
    pub(super) fn settled_cut(&self) -> Option<WallMs> {
        self.walk.is_none().then_some(self.done)
    }

    /// The cut that a slot's own sum is for.
    pub(super) fn cut(&self, slot: u16) -> WallMs {
        self.walk.filter(|walk| slot < walk.cursor).map_or(self.done, |walk| walk.to)
    }

    /// Counts a record that takes its place in `slot`, whose own sum is `sum`.
    pub(super) fn enter(&mut self, slot: u16, sum: &mut u128, record: &Record<'_>) {
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(self.cut(slot), record));
            let keys = keys_of(record);
            cut.inspect(|print| self.standing.add(*print, keys, Some(sum)));
            if self.cut(slot) != self.done {
                done.inspect(|print| self.late.add(*print, keys, None));
                cut.inspect(|print| self.late.remove(*print, keys, None));
            }
            return;
        }
        match self.book(slot, record) {
            Book::Standing => self.standing.add(fingerprint(record), keys_of(record), Some(sum)),
            Book::Late => self.late.add(fingerprint(record), keys_of(record), None),
            Book::Closed => {}
        }
    }

    /// Takes out a record that is about to lose its place.
    pub(super) fn leave(&mut self, slot: u16, sum: &mut u128, record: &Record<'_>) {
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(self.cut(slot), record));
            let keys = keys_of(record);
            cut.inspect(|print| self.standing.remove(*print, keys, Some(sum)));
            if self.cut(slot) != self.done {
                cut.inspect(|print| self.late.add(*print, keys, None));
                done.inspect(|print| self.late.remove(*print, keys, None));
            }
            return;
        }
        match self.book(slot, record) {
            Book::Standing => self.standing.remove(fingerprint(record), keys_of(record), Some(sum)),
            Book::Late => self.late.remove(fingerprint(record), keys_of(record), None),
            Book::Closed => {}
        }
    }

    fn book(&self, slot: u16, record: &Record<'_>) -> Book {
        if is_tombstone(record) {
            Book::Closed
        } else if is_after(record.deadline, self.cut(slot)) {
            Book::Standing
        } else if is_after(record.deadline, self.done) {
            Book::Late
        } else {
            Book::Closed
        }
    }

    /// From when on the cut wants to be moved. One that has begun goes on only while the wall has reached its end, so
    /// a clock that jumped ahead and came back leaves it waiting.
    pub(super) fn next(&self) -> WallMs {
        self.walk.map_or(self.done.plus_ms(CUT_STEP_MS), |walk| walk.to)
    }

    /// The walk under way, begun now if it is time.
    pub(super) fn walk_at(&mut self, wall: WallMs) -> Option<Walk> {
        if wall < self.next() {
            return None;
        }
        let to = WallMs(wall.0 - wall.0 % CUT_STEP_MS);
        Some(*self.walk.get_or_insert(Walk { to, cursor: 0 }))
    }

    /// Whether the walk's slot in hand, not past its cursor yet, has to move this entry.
    pub(super) fn crosses(&self, walk: Walk, record: &Record<'_>) -> bool {
        !is_tombstone(record) && is_after(record.deadline, self.done) && !is_after(record.deadline, walk.to)
    }

    /// Moves an entry that [crosses](Self::crosses).
    pub(super) fn cross(&mut self, walk: Walk, sum: &mut u128, record: &Record<'_>) {
        let keys = keys_of(record);
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(walk.to, record));
            done.inspect(|print| self.standing.remove(*print, keys, Some(sum)));
            done.inspect(|print| self.late.add(*print, keys, None));
            cut.inspect(|print| self.standing.add(*print, keys, Some(sum)));
            cut.inspect(|print| self.late.remove(*print, keys, None));
            return;
        }
        let fingerprint = fingerprint(record);
        self.standing.remove(fingerprint, keys, Some(sum));
        self.late.add(fingerprint, keys, None);
    }

    /// All that crosses in the walk's next `slots` was moved. After the last slot the cut is the walk's.
    pub(super) fn advance(&mut self, walk: Walk, slots: u16) -> Option<Walk> {
        let cursor = walk.cursor + slots;
        self.walk = (cursor < SLOTS).then_some(Walk { cursor, ..walk });
        if self.walk.is_none() {
            self.done = walk.to;
            self.late = Tally::default();
        }
        self.walk
    }
}

impl Tally {
    fn add(&mut self, fingerprint: u128, keys: u64, slot: Option<&mut u128>) {
        self.keys += keys;
        for sum in slot.into_iter().chain([&mut self.digest]) {
            *sum = sum.wrapping_add(fingerprint);
        }
    }

    fn remove(&mut self, fingerprint: u128, keys: u64, slot: Option<&mut u128>) {
        self.keys -= keys;
        for sum in slot.into_iter().chain([&mut self.digest]) {
            *sum = sum.wrapping_sub(fingerprint);
        }
    }
}

/// How many keys it stands for: what a key has of elements is counted where they are found.
fn keys_of(record: &Record<'_>) -> u64 {
    u64::from(!name::is_element(record.key))
}

/// Without a value and without a deadline; with one it is a husk.
pub(super) fn is_tombstone(record: &Record<'_>) -> bool {
    record.value.is_none() && record.deadline.is_none()
}

/// What `record` adds to the digest at `cut`; 0 if it does not count.
pub(super) fn contribution(cut: WallMs, record: &Record<'_>) -> u128 {
    if record.is_counter {
        return print_at(cut, record).unwrap_or(0);
    }
    let counts = !is_tombstone(record) && is_after(record.deadline, cut);
    if counts { fingerprint(record) } else { 0 }
}

fn is_after(deadline: Option<WallMs>, cut: WallMs) -> bool {
    deadline.is_none_or(|deadline| deadline > cut)
}

/// The fingerprint of a counter at `cut`, if there is anything to count: of its key, and what is added of its base, the
/// deadline and the sum.
fn print_at(cut: WallMs, record: &Record<'_>) -> Option<u128> {
    let counter = Counter::of(record);
    let Count::Number(sum) = counter.count_at(cut) else { return None };
    let mut hasher = SipHasher13::new_with_keys(CLUSTER_KEY[0], !CLUSTER_KEY[1]);
    let base = counter.base_at(cut).map_or((0, 0), |base| (base.hlc.0, base.origin.0));
    hasher.write(&base.0.to_le_bytes());
    hasher.write(&base.1.to_le_bytes());
    hasher.write(&counter.deadline_at(cut).map_or(0, |deadline| deadline.0).to_le_bytes());
    hasher.write(&sum.to_le_bytes());
    hasher.write(record.key);
    Some(hasher.finish128().as_u128())
}

/// SipHash-1-3 with 128 bits of (hlc, origin, deadline, key). The value is not in it: the version names it.
pub(super) fn fingerprint(record: &Record<'_>) -> u128 {
    let mut fixed = [0; 32];
    fixed[..8].copy_from_slice(&record.version.hlc.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&record.version.origin.0.to_le_bytes());
    if let Some(deadline) = record.deadline {
        fixed[16..24].copy_from_slice(&deadline.0.to_le_bytes());
        fixed[24] = 1;
    }
    let mut hasher = SipHasher13::new_with_keys(CLUSTER_KEY[0], CLUSTER_KEY[1]);
    hasher.write(&fixed);
    hasher.write(record.key);
    hasher.finish128().as_u128()
}
