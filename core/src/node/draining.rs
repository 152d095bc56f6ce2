//! A node that is about to be stopped: clients are to go elsewhere, and peers are to have what it wrote.

use super::Node;
use crate::boundary::Effects;
use crate::readiness::{Overview, Reason};
use crate::time::Now;

impl Node {
    /// The driver is about to stop: the node is not [ready](Self::not_ready) any more, and has its peers asked how far
    /// they have come.
    pub fn drain(&mut self, effects: &mut Effects) {
        self.is_draining = true;
        self.settle(effects);
    }

    /// Whether every linked peer that takes from this node what it writes is known to hold all of that; also if there
    /// is none. While it [drains](Self::drain), peers are asked.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.repl.is_flushed(&self.replica)
    }

    /// Members that are not known to hold all that this node wrote, linked or not.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<&str> {
        self.repl.unacknowledged(&self.replica).collect()
    }

    /// Why clients are not to be sent here; empty: they are.
    #[must_use]
    pub fn not_ready(&self, now: Now) -> Vec<Reason> {
        self.overview(now).reasons()
    }

    fn overview(&self, now: Now) -> Overview<'_> {
        let Self { config, replica, repl, keeper, is_draining, .. } = self;
        let (keeper, loading, is_draining) = (keeper.as_deref(), self.loading(), *is_draining);
        Overview { now, config, replica, repl, keeper, loading, is_draining }
    }
}
