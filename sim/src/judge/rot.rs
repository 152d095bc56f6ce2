//! Rot: entries that memories lost, and what scrubbing makes of it.

use kv_core::{Node, Scrubbed};

use super::{Judge, RunId};
use crate::outcome::Oracle;
use crate::plan::size;

impl Judge {
    /// The memory of a run has lost what it held of `key`.
    pub fn rotted(&mut self, run: RunId, key: u64) {
        let state = self.run_mut(run);
        let Some(lost) = state.entries[size(key)].take() else { return };
        state.rotten.insert(key, lost.version);
        state.rots += 1;
        self.stats.rotted += 1;
        self.recount();
    }

    /// Looks at what scrubbing has found. Where nothing rots there is nothing to be found; and where a delete is lost,
    /// what it had deleted may be found before it.
    pub fn scrubbed(&mut self, run: RunId, scrubbed: Scrubbed) {
        let (before, rots) = (self.run(run).scrubbed, self.run(run).rots);
        if before == scrubbed {
            return;
        }
        self.stats.descents += scrubbed.rounds - before.rounds;
        self.stats.repaired += scrubbed.repaired - before.repaired;
        self.run_mut(run).scrubbed = scrubbed;
        if scrubbed.found > 2 * rots {
            self.fail(Oracle::Scrub, || format!("run {}: {scrubbed:?}, and {rots} entries were lost", run.0));
        }
    }

    /// Whether a node lacks what its memory lost, and has said that it cannot tell that from what was deleted.
    pub(super) fn is_left_alone(&self, nodes: &[(RunId, &Node)]) -> bool {
        nodes.iter().any(|(run, node)| {
            let state = self.run(*run);
            let lacks = |key: &u64| state.entries[size(*key)].is_none();
            node.scrubbed().unrepairable > 0 && state.rotten.keys().any(lacks)
        })
    }
}
