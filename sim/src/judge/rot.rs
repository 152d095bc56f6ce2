//! Rot: entries that memories lost, and what scrubbing makes of it.

use kv_core::{Node, Scrubbed, Version};

use super::{Judge, Run, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::size;

impl Judge {
    /// The memory of a run has lost what it held of `key`.
    pub fn rotted(&mut self, run: RunId, key: u64) {
        let state = self.run_mut(run);
        let Some(lost) = state.entries[size(key)].take() else { return };
        let newest = state.rotten.entry(key).or_insert(lost.version);
        *newest = lost.version.max(*newest);
        self.owe_nothing_of(run, key);
        self.stats.rotted += 1;
        let behind = |run: &&Run| {
            let held = run.entries[size(key)].map(|entry| entry.version);
            run.standing == Standing::Current && held < Some(lost.version)
        };
        let losers = self.runs.iter().filter(behind).count().max(1) as u64;
        let written = self.versions.range(..=lost.version).filter(|(_, written)| written.key == key).count() as u64;
        self.findable += written * losers;
        self.recount();
    }

    /// Whether any memory has lost something of `key`. A sweep from who lost it does not bring it, and has who rejoins
    /// drop it.
    pub(super) fn is_rotten(&self, key: u64) -> bool {
        self.runs.iter().any(|run| run.rotten.contains_key(&key))
    }

    /// Whether a memory has lost this version of `key`, or a newer one.
    pub(super) fn has_rotted(&self, key: u64, version: Version) -> bool {
        self.runs.iter().any(|run| run.rotten.get(&key).is_some_and(|lost| *lost >= version))
    }

    /// Looks at what scrubbing has found. Where nothing rots there is nothing to be found. What is lost is found with
    /// who holds anything of the key, and that one may still be on its way to what was lost, by a slow link: so
    /// whatever was written of the key up to that may be found in its turn.
    /// (`sim/regressions/rot-of-what-was-still-on-its-way-to-who-repairs-it`) And who had not got there yet may get
    /// there by a sweep from the one that lost it: then two lack it, and what is older is found with each of them.
    /// (`sim/regressions/swept-by-who-had-lost-a-delete-and-what-it-had-deleted-was-found-again`) What a member held
    /// that was forgotten while it was up, of a run that was retired by who never had that, is covered by the ledger
    /// when the member comes back, and is found, too.
    /// (`sim/regressions/forgotten-while-it-was-up-by-one-that-had-part-of-what-it-wrote`)
    pub fn scrubbed(&mut self, run: RunId, scrubbed: Scrubbed) {
        let (before, findable) = (self.run(run).scrubbed, self.findable + self.strays.len() as u64);
        if before == scrubbed {
            return;
        }
        self.stats.descents += scrubbed.rounds - before.rounds;
        self.stats.repaired += scrubbed.repaired - before.repaired;
        self.run_mut(run).scrubbed = scrubbed;
        if scrubbed.repaired > before.repaired {
            self.marks.saw(Mark::ScrubRepaired);
        }
        if scrubbed.found > findable {
            let rots = self.stats.rotted;
            self.fail(Oracle::Scrub, || {
                format!("run {}: {scrubbed:?}, with {findable} to be found where {rots} entries were lost", run.0)
            });
        }
    }

    /// Whether a node lacks what its memory lost, and has said that it cannot tell that from what was deleted.
    pub(super) fn is_left_alone(&self, nodes: &[(RunId, &Node)]) -> bool {
        nodes.iter().any(|(run, node)| {
            let mut entries = self.run(*run).entries.iter().zip(0..);
            node.scrubbed().unrepairable > 0 && entries.any(|(entry, key)| entry.is_none() && self.is_rotten(key))
        })
    }
}
