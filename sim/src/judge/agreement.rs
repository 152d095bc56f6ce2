//! Agreement: what nodes hold, compared with each other.

use std::collections::BTreeMap;

use kv_core::{Count, Counter, Node, Record, Version, WallMs};

use super::versions::Entry;
use super::{Judge, RunId, Standing};
use crate::outcome::Oracle;
use crate::plan::{hash_text, key_text};

/// Samples until everything that nodes hold is looked at, changed or not: should a change not be counted as one, it
/// shows then.
const FULL_LOOK_SAMPLES: u64 = 16;

/// What the floor of the first keyspace is stored as.
const FLOOR: &[u8] = b"\xff\x10";

/// How far the cut of a digest may be behind the latest clock: cuts are 10 s apart, and take a walk.
const CUT_MS_MAX: u64 = 15_000;

impl Judge {
    /// Two nodes' digests at one cut must be equal exactly when their live data at that cut is.
    pub fn compare_digests(&mut self, nodes: &[(RunId, &Node)]) {
        self.samples += 1;
        if self.samples.is_multiple_of(FULL_LOOK_SAMPLES) {
            for (run, _) in nodes {
                self.run_mut(*run).looked = None;
            }
        }
        let mut nodes = self.members(nodes);
        nodes.retain(|(run, _)| !self.run(*run).logged.is_loading);
        // Who was found to be the same as an earlier one need not be held against the others again.
        let mut kinds: Vec<&(RunId, &Node)> = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let (right_run, right) = node;
            let (right_digest, cut) = right.digest();
            let mut is_another = true;
            for (left_run, left) in &kinds {
                let (left_digest, left_cut) = left.digest();
                if cut != left_cut {
                    continue;
                }
                let same = self.live_at(*left_run, cut).eq(self.live_at(*right_run, cut))
                    && self.counters_at(left, cut).eq(self.counters_at(right, cut))
                    && left.flushed() == right.flushed();
                if same != (left_digest == right_digest) {
                    let (left, right) = (left_run.0, right_run.0);
                    self.fail(Oracle::Digest, || {
                        format!(
                            "runs {left} and {right} have {left_digest:032x} and {right_digest:032x} at {cut}, and \
                             their data is {}",
                            if same { "the same" } else { "not the same" }
                        )
                    });
                }
                if same {
                    is_another = false;
                    break;
                }
            }
            if is_another {
                kinds.push(node);
            }
        }
    }

    /// The first difference between nodes that should be equal; `None` when they agree, digests included. `walls` are
    /// their wall clocks.
    #[must_use]
    pub fn disagreement(&self, nodes: &[(RunId, &Node)], walls: &[WallMs]) -> Option<String> {
        let nodes = &self.members(nodes)[..];
        let latest = walls.iter().max().copied().unwrap_or(WallMs(0));
        if let Some((run, _)) = nodes.iter().find(|(run, _)| self.run(*run).logged.is_loading) {
            return Some(format!("run {} has not loaded yet", run.0));
        }
        let (first, rest) = nodes.split_first()?;
        if self.is_left_alone(nodes) {
            return None;
        }
        for (key, held) in self.held.iter().copied().enumerate() {
            let name = key_text(key as u64);
            for (run, _) in nodes {
                let entry = self.run(*run).entries[key];
                if entry.map(|entry| entry.version) >= held {
                    continue;
                }
                let gone = entry.is_none_or(|entry| entry.token.is_none()) && self.is_forgotten(key as u64, held);
                let is_no_loss = self.is_lost_for_good(key as u64, [entry, None], held, latest)
                    || self.is_lost_delete(key as u64, entry, held);
                if !gone && !is_no_loss {
                    return Some(format!("{name}: run {} has {entry:?}, {held:?} was held", run.0));
                }
            }
            let left = self.run(first.0).entries[key];
            for (run, _) in rest {
                let right = self.run(*run).entries[key];
                if left == right {
                    continue;
                }
                // One may have forgotten a delete that the other still remembers.
                if [left, right].iter().flatten().all(|entry| entry.token.is_none()) {
                    continue;
                }
                let newest = [left, right].iter().flatten().map(|entry| entry.version).max();
                if self.is_lost_for_good(key as u64, [left, right], newest, latest) {
                    continue;
                }
                let is_over = |entry: Entry| entry.deadline.is_some_and(|deadline| deadline <= latest);
                // What a memory lost of a value whose deadline has passed nobody looks for: what is there is freed.
                // (`sim/regressions/what-a-memory-lost-had-expired-and-something-older-came`)
                let expired = left.zip(right).is_some_and(|(left, right)| match left.version == right.version {
                    true => is_over(left) || is_over(right),
                    false => self.is_rotten(key as u64) && is_over(left) && is_over(right),
                });
                if !expired {
                    return Some(format!("{name}: run {} has {left:?}, run {} has {right:?}", first.0.0, run.0));
                }
            }
        }
        let digest = first.1.digest();
        if digest.1.plus_ms(CUT_MS_MAX) <= latest {
            return Some(format!("digests: their cut is {}, and it is {latest}", digest.1));
        }
        let other = rest.iter().find(|(_, node)| node.digest() != digest);
        if let Some((run, node)) = other {
            return Some(format!("digests: run {} {digest:x?}, run {} {:x?}", first.0.0, run.0, node.digest()));
        }
        let miscounted = self.miscounted(nodes, latest);
        miscounted
            .or_else(|| self.unrest(nodes))
            .or_else(|| self.unretired(nodes))
            .or_else(|| self.unfolded(nodes))
            .or_else(|| {
                let behind = nodes.iter().find(|(_, node)| node.catches_up());
                behind.map(|(run, _)| format!("run {}: it says that it catches up, and has everything", run.0))
            })
            .or_else(|| {
                let unready = nodes.iter().find(|(_, node)| !node.has_arrived());
                unready.map(|(run, _)| format!("run {}: it is not ready, and has everything", run.0))
            })
    }

    /// Whether one of two entries is missing because a memory lost it, after the deadline of `newest`, which it was:
    /// that counts for nobody any more, and nobody puts it back.
    fn is_lost_for_good(&self, key: u64, entries: [Option<Entry>; 2], newest: Option<Version>, latest: WallMs) -> bool {
        if !entries.contains(&None) || !self.is_rotten(key) {
            return false;
        }
        let written = newest.and_then(|newest| self.versions.get(&newest));
        written.is_some_and(|written| written.deadline.is_some_and(|deadline| deadline <= latest))
    }

    /// Whether there is an older delete of `key`, or nothing, where a memory lost `held`, a newer one: its own, or that
    /// of a peer which brought this one all that it claims but what it had lost, so that nobody else sends that either.
    /// Nobody puts it back: no delete counts in a digest, so scrubbing has nothing to look for, and readers see the
    /// same. Who still has it collects it, but not while it waits for members that are away: then it shows. Should the
    /// older one let in a value that `held` would have beaten, that does count, and scrubbing brings `held` from who
    /// has it: what is still a value in the end is told as ever. A run that had `held`, and has it no more for another
    /// reason, counts as having collected it.
    /// (`sim/regressions/an-older-delete-where-a-memory-lost-the-newer-one`, `nothing-where-a-memory-lost-a-delete`,
    /// `nothing-where-the-memory-of-who-swept-lost-a-delete`)
    fn is_lost_delete(&self, key: u64, entry: Option<Entry>, held: Option<Version>) -> bool {
        let is_delete = |held: &Version| {
            let written = self.versions.get(held);
            self.is_wide(*held) || written.is_some_and(|of| of.token.is_none() && of.deadline.is_none())
        };
        let was_lost = held.is_some_and(|held| is_delete(&held) && self.has_rotted(key, held));
        was_lost && entry.is_none_or(|entry| entry.token.is_none() && entry.deadline.is_none())
    }

    /// Those that have not left their cluster.
    fn members<'a>(&self, nodes: &[(RunId, &'a Node)]) -> Vec<(RunId, &'a Node)> {
        nodes.iter().filter(|(run, _)| !self.has_left(*run)).copied().collect()
    }

    /// What the first run that did not stop holds: by key, the token of its value.
    #[must_use]
    pub fn data(&self) -> BTreeMap<u64, u64> {
        let run = self.runs.iter().find(|run| run.standing == Standing::Current);
        let entries = run.into_iter().flat_map(|run| run.entries.iter().zip(0..));
        entries.filter_map(|(entry, key)| Some((key, entry.as_ref()?.token?))).collect()
    }

    /// Fails if a walk over all that a node holds visits what is not of the plan, or leaves out what is. For the end of
    /// a run: it looks at every slot.
    pub fn check_walks(&mut self, nodes: &[(RunId, &Node)]) {
        let wrong =
            |(run, node): &(RunId, &Node)| self.stranger(*run, node).or_else(|| self.miscounted_hash(*run, node));
        if let Some(stranger) = nodes.iter().find_map(wrong) {
            self.fail(Oracle::Convergence, || stranger);
        }
    }

    /// A hash that says to have more or fewer fields than it has.
    fn miscounted_hash(&self, run: RunId, node: &Node) -> Option<String> {
        let wall = self.run(run).wall_max;
        let setting = &self.plan.setting;
        let lives = |name: &&Vec<u8>| {
            let record = node.peek(name);
            record.is_some_and(|record| match record.is_counter {
                true => matches!(Counter::of(&record).count_at(wall), Count::Number(_)),
                false => record.value.is_some() && record.deadline.is_none_or(|deadline| deadline > wall),
            })
        };
        (0..setting.hashes).find_map(|hash| {
            let of = |names: &super::Names| {
                let all = (0..).zip(&names.stored);
                all.filter(|(number, _)| self.is_in(*number, hash)).map(|(_, name)| name).filter(lives).count() as u64
            };
            let (said, count) = (node.fields(hash_text(hash).as_bytes(), wall), of(&self.keys) + of(&self.counters));
            (said != count).then(|| format!("run {}: h{hash} has {count} fields, and says {said}", run.0))
        })
    }

    /// An entry that is not of the plan, or a key that the walk over all entries leaves out.
    fn stranger(&self, run: RunId, node: &Node) -> Option<String> {
        let (mut count, mut unknown) = (0, None);
        node.entries(&mut |record| {
            if record.key == FLOOR && Some(record.version) == node.flushed() {
                return;
            }
            if self.counters.stored.iter().any(|name| name == record.key) || self.is_cover(record) {
                return;
            }
            count += 1;
            if !self.keys.stored.iter().any(|key| key == record.key) {
                unknown = Some(format!("run {}: {record:?} is of no key of the plan", run.0));
            }
        });
        let held = self.run(run).entries.iter().flatten();
        let held = held.filter(|entry| !self.is_wide(entry.version)).count();
        unknown.or_else(|| (count != held).then(|| format!("run {}: a walk visits {count} entries of {held}", run.0)))
    }

    /// What the delete of a hash is remembered by.
    fn is_cover(&self, record: &Record<'_>) -> bool {
        let is_hash = (0..self.plan.setting.hashes).any(|hash| hash_text(hash).as_bytes() == record.key);
        is_hash && record.value.is_none() && record.deadline.is_none()
    }

    /// Live data of a run at `cut`, in the order of the keys: what names it. A value that a run has freed already,
    /// because by its own clock the deadline is long past, counts until the cut gets there.
    fn live_at(&self, run: RunId, cut: WallMs) -> impl Iterator<Item = (usize, Version, Option<WallMs>)> + '_ {
        let entries = self.run(run).entries.iter().enumerate();
        entries.filter_map(move |(key, entry)| {
            let entry = (*entry)?;
            let is_tombstone = entry.token.is_none() && entry.deadline.is_none();
            let is_live = !is_tombstone && entry.deadline.is_none_or(|deadline| deadline > cut);
            is_live.then_some((key, entry.version, entry.deadline))
        })
    }
}
