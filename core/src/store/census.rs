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

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::SLOTS;
use crate::counter::{Count, Counter};
use crate::name::{Kind, Name, SPACES};
use crate::record::Record;
use crate::time::WallMs;
use crate::version::Version;

/// Milliseconds between cuts: short enough that expired keys leave the counts soon, long enough that the walk over
/// all slots is nothing, and a whole divisor of a minute, so that all nodes cut at the same times.
pub(super) const CUT_STEP_MS: u64 = 10_000;

/// The same on all nodes: it keeps what is summed up apart from other uses of the hash.
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

/// Sums by keyspace; the last is that of what is of no keyspace, but its floor.
#[derive(Default)]
struct Tally {
    /// Sums of fingerprints mod 2^128: any order gives the same, and what leaves is subtracted.
    digests: [u128; SPACES as usize + 1],
    /// What is no key, but only of one, or of a keyspace, is not counted.
    keys: [u64; SPACES as usize + 1],
    /// Keys with a deadline of their own.
    expiring: [u64; SPACES as usize + 1],
}

/// What one record adds to the sums.
#[derive(Clone, Copy)]
struct Print {
    fingerprint: u128,
    expires: bool,
}

/// Where a record is counted.
#[derive(Clone, Copy)]
struct Belongs {
    space: usize,
    is_key: bool,
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
        (0..SPACES).map(|space| self.keys_in(space)).sum()
    }

    pub(super) fn keys_in(&self, space: u8) -> u64 {
        let space = usize::from(space);
        self.standing.keys[space] + self.late.keys[space]
    }

    pub(super) fn expiring_in(&self, space: u8) -> u64 {
        let space = usize::from(space);
        self.standing.expiring[space] + self.late.expiring[space]
    }

    pub(super) fn digest(&self) -> (u128, WallMs) {
        let digests = self.standing.digests.iter().chain(&self.late.digests);
        (digests.fold(0, |sum: u128, digest| sum.wrapping_add(*digest)), self.done)
    }

    /// The cut that the answers are for.
    pub(super) fn done(&self) -> WallMs {
        self.done
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
        *sum = sum.wrapping_add(self.count(slot, record));
    }

    /// Counts a record of `slot`, but not in the slot's own sum; what it is there.
    pub(super) fn count(&mut self, slot: u16, record: &Record<'_>) -> u128 {
        let belongs = Belongs::of(record);
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(self.cut(slot), record));
            cut.inspect(|print| self.standing.add(*print, belongs));
            if self.cut(slot) != self.done {
                done.inspect(|print| self.late.add(*print, belongs));
                cut.inspect(|print| self.late.remove(*print, belongs));
            }
            return cut.map_or(0, |print| print.fingerprint);
        }
        match self.book(slot, record) {
            Book::Standing => {
                let print = Print::of(record);
                self.standing.add(print, belongs);
                return print.fingerprint;
            }
            Book::Late => self.late.add(Print::of(record), belongs),
            Book::Closed => {}
        }
        0
    }

    /// Takes out a record of `slot` that is about to lose its place, but not of the slot's own sum; what it is there.
    pub(super) fn count_out(&mut self, slot: u16, record: &Record<'_>) -> u128 {
        let belongs = Belongs::of(record);
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(self.cut(slot), record));
            cut.inspect(|print| self.standing.remove(*print, belongs));
            if self.cut(slot) != self.done {
                cut.inspect(|print| self.late.add(*print, belongs));
                done.inspect(|print| self.late.remove(*print, belongs));
            }
            return cut.map_or(0, |print| print.fingerprint);
        }
        match self.book(slot, record) {
            Book::Standing => {
                let print = Print::of(record);
                self.standing.remove(print, belongs);
                return print.fingerprint;
            }
            Book::Late => self.late.remove(Print::of(record), belongs),
            Book::Closed => {}
        }
        0
    }

    /// Has `record` counted in the place of `stands`, of the same key; both are values without a deadline. What changes
    /// in the sum of their slot.
    pub(super) fn exchange(&mut self, stands: &Record<'_>, record: &Record<'_>) -> u128 {
        debug_assert!(never_ends(stands) && never_ends(record) && stands.key == record.key);
        let key = xxh3_64(record.key);
        let change = fingerprint_of(key, record).wrapping_sub(fingerprint_of(key, stands));
        let digest = &mut self.standing.digests[Belongs::of(record).space];
        *digest = digest.wrapping_add(change);
        change
    }

    /// Counts a key of which only elements stand, in the sum at the slots' cuts and in that of what is late: whether it
    /// was counted, and is now.
    pub(super) fn count_key(&mut self, space: u8, standing: (bool, bool), late: (bool, bool)) {
        let space = usize::from(space);
        for (tally, (was, is)) in [(&mut self.standing, standing), (&mut self.late, late)] {
            tally.keys[space] = tally.keys[space] - u64::from(was) + u64::from(is);
        }
    }

    /// What a record of `slot` is in the slot's own sum.
    pub(super) fn in_slot(&self, slot: u16, record: &Record<'_>) -> u128 {
        contribution(self.cut(slot), record)
    }

    /// Nothing of a keyspace counts any more.
    pub(super) fn clear(&mut self, space: u8) {
        for tally in [&mut self.standing, &mut self.late] {
            let space = usize::from(space);
            (tally.digests[space], tally.keys[space], tally.expiring[space]) = (0, 0, 0);
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

    /// Moves an entry that [crosses](Self::crosses), of a slot whose own sum is `sum`.
    pub(super) fn cross(&mut self, walk: Walk, sum: &mut u128, record: &Record<'_>) {
        let belongs = Belongs::of(record);
        *sum = sum.wrapping_sub(contribution(self.done, record)).wrapping_add(contribution(walk.to, record));
        if record.is_counter {
            let (done, cut) = (print_at(self.done, record), print_at(walk.to, record));
            done.inspect(|print| self.standing.remove(*print, belongs));
            done.inspect(|print| self.late.add(*print, belongs));
            cut.inspect(|print| self.standing.add(*print, belongs));
            cut.inspect(|print| self.late.remove(*print, belongs));
            return;
        }
        let print = Print::of(record);
        self.standing.remove(print, belongs);
        self.late.add(print, belongs);
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
    fn add(&mut self, print: Print, belongs: Belongs) {
        let digest = &mut self.digests[belongs.space];
        *digest = digest.wrapping_add(print.fingerprint);
        self.keys[belongs.space] += u64::from(belongs.is_key);
        self.expiring[belongs.space] += u64::from(belongs.is_key && print.expires);
    }

    fn remove(&mut self, print: Print, belongs: Belongs) {
        let digest = &mut self.digests[belongs.space];
        *digest = digest.wrapping_sub(print.fingerprint);
        self.keys[belongs.space] -= u64::from(belongs.is_key);
        self.expiring[belongs.space] -= u64::from(belongs.is_key && print.expires);
    }
}

impl Print {
    /// Of anything but a counter.
    fn of(record: &Record<'_>) -> Self {
        Self { fingerprint: fingerprint(record), expires: record.deadline.is_some() }
    }
}

impl Belongs {
    fn of(record: &Record<'_>) -> Self {
        match Name::parse(record.key) {
            Some(Name { kind: Kind::Floor, .. }) | None => Self { space: usize::from(SPACES), is_key: false },
            Some(Name { space, kind, .. }) => Self { space: usize::from(space), is_key: kind == Kind::Key },
        }
    }
}

/// A value that counts at every cut, as most do.
pub(super) fn never_ends(record: &Record<'_>) -> bool {
    record.value.is_some() && record.deadline.is_none() && !record.is_counter
}

/// Without a value and without a deadline; with one it is a husk.
pub(super) fn is_tombstone(record: &Record<'_>) -> bool {
    record.value.is_none() && record.deadline.is_none()
}

/// What `record` adds to the digest at `cut`; 0 if it does not count.
pub(super) fn contribution(cut: WallMs, record: &Record<'_>) -> u128 {
    if record.is_counter {
        return print_at(cut, record).map_or(0, |print| print.fingerprint);
    }
    let counts = !is_tombstone(record) && is_after(record.deadline, cut);
    if counts { fingerprint(record) } else { 0 }
}

fn is_after(deadline: Option<WallMs>, cut: WallMs) -> bool {
    deadline.is_none_or(|deadline| deadline > cut)
}

/// The fingerprint of a counter at `cut`, if there is anything to count: of its key, and what is added of its base, the
/// deadline and the sum.
fn print_at(cut: WallMs, record: &Record<'_>) -> Option<Print> {
    let counter = Counter::of(record);
    let Count::Number(sum) = counter.count_at(cut) else { return None };
    let base = counter.base_at(cut).map_or((0, 0), |base| (base.hlc.0, base.origin.0));
    let deadline = counter.deadline_at(cut);
    let mut fixed = [0; 48];
    fixed[..8].copy_from_slice(&base.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&base.1.to_le_bytes());
    fixed[16..24].copy_from_slice(&deadline.map_or(0, |deadline| deadline.0).to_le_bytes());
    fixed[24..40].copy_from_slice(&sum.to_le_bytes());
    fixed[40..].copy_from_slice(&xxh3_64(record.key).to_le_bytes());
    Some(Print { fingerprint: xxh3_128_with_seed(&fixed, CLUSTER_KEY[1]), expires: deadline.is_some() })
}

/// XXH3 with 128 bits of (hlc, origin, deadline, XXH3 with 64 bits of the key). The value is not in it: the version
/// names it.
///
/// XXH3 tells accidents apart, and that is what it is for: whoever writes to a cluster chooses keys, but neither the
/// stamps nor what gets lost, and who could make records of any stamp can do worse than hide them. So 64 bits of the
/// key do: no two records share a stamp but by accident. A counter has no stamp, and of two whose keys somebody chose
/// to share that hash the sums could change places unseen; he could as well have set them.
pub(super) fn fingerprint(record: &Record<'_>) -> u128 {
    fingerprint_of(xxh3_64(record.key), record)
}

/// The fingerprint of `record`, of whose key this is the hash: what takes the place of something else takes it from the
/// sums under the same key.
#[inline]
fn fingerprint_of(key: u64, record: &Record<'_>) -> u128 {
    let Version { hlc, origin } = record.version;
    let deadline = record.deadline.map_or(u64::MAX, |deadline| deadline.0);
    let mut fixed = [0; 32];
    fixed[..8].copy_from_slice(&hlc.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&origin.0.to_le_bytes());
    fixed[16..24].copy_from_slice(&deadline.to_le_bytes());
    fixed[24..].copy_from_slice(&key.to_le_bytes());
    xxh3_128_with_seed(&fixed, CLUSTER_KEY[0])
}
