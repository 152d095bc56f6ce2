//! Makes a failing plan small: delta debugging (Zeller and Hildebrandt, 2002) over its items, and simpler numbers.
//!
//! A smaller plan is taken when it still shows the [same kind](Kind) of defect. What is tried, over and over until
//! nothing more helps (`passes.rs`): plans without what comes after the failure, without all items of a verb, without a
//! node; a calmer setting; plans without a run of items, the runs ever shorter; fewer clients, keys and counters;
//! smaller numbers; shorter pauses between items, and rounder times. No plan is tried twice.
//!
//! The same plan and budget of replays give the same result, unless the caller breaks it off.

mod parts;
mod passes;

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::trace::{Trace, Watch};
use crate::trial::Defect;
#[cfg(doc)]
use crate::trial::Kind;

/// Replays that are enough for nearly every plan.
pub const REPLAYS_MAX: u64 = 2_000;

/// What became of a plan.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest plan that was found to fail.
    pub plan: Plan,
    /// How it fails.
    pub defect: Defect,
    /// Plans that were run.
    pub replays: u64,
}

/// What bounds the search.
pub struct Budget<'a> {
    /// Plans run at most.
    pub replays_max: u64,
    /// Asked before each run with the smallest plan so far and the number of runs: whether to go on. The caller owns
    /// the clock.
    pub goes_on: &'a mut dyn FnMut(&Plan, u64) -> bool,
}

/// Makes `plan` smaller, of which `run` says `defect`; it answers for another plan only with a defect of the same kind.
pub fn shrink(plan: &Plan, defect: Defect, run: &dyn Fn(&Plan) -> Option<Defect>, budget: Budget<'_>) -> Shrunk {
    let mut search =
        Search { best: plan.clone(), defect, run, budget, replays: 0, over: false, tried: BTreeSet::new() };
    while !search.over && search.round() {}
    Shrunk { plan: search.best, defect: search.defect, replays: search.replays }
}

/// The plan to be smaller than, and what was tried.
struct Search<'r, 'b> {
    best: Plan,
    defect: Defect,
    run: &'r dyn Fn(&Plan) -> Option<Defect>,
    budget: Budget<'b>,
    replays: u64,
    over: bool,
    /// Hashes of plans that do not fail in this way.
    tried: BTreeSet<u128>,
}

impl Search<'_, '_> {
    /// Every pass once; whether any helped.
    fn round(&mut self) -> bool {
        let before = self.best.clone();
        self.drop_the_future();
        self.drop_verbs();
        self.drop_nodes();
        self.calm();
        self.drop_items();
        self.name_less();
        self.simplify_items();
        self.close_gaps();
        self.round_times();
        self.best != before
    }

    /// Takes `plan` if it fails in the same way; whether it did.
    fn take(&mut self, plan: Plan) -> bool {
        if self.over || plan == self.best || !parts::is_sound(&plan) {
            return false;
        }
        let mut text = Trace::new(Watch::Hash);
        text.bytes(plan.to_string().as_bytes());
        if !self.tried.insert(text.hash()) {
            return false;
        }
        self.over = self.replays >= self.budget.replays_max || !(self.budget.goes_on)(&self.best, self.replays);
        if self.over {
            return false;
        }
        self.replays += 1;
        let Some(defect) = (self.run)(&plan) else { return false };
        self.best = plan;
        self.defect = defect;
        true
    }

    /// Changes a copy of the best plan and tries it.
    fn with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.clone();
        change(&mut plan);
        self.take(plan)
    }
}
