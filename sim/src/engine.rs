//! Which engine runs a plan.

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::trace::Watch;
use crate::{turmoil, world};

/// An engine. Outcomes of both mean the same; trace hashes are each engine's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Our own: for volume, and for every fault.
    #[default]
    World,
    /// Over the simulated network of the `turmoil` crate: for a transport that we did not write.
    Turmoil,
}

impl Engine {
    /// Runs `plan` and judges it.
    #[must_use]
    pub fn run(self, plan: &Plan, watch: Watch) -> Outcome {
        match self {
            Self::World => world::run(plan, watch),
            Self::Turmoil => turmoil::run(plan, watch),
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Turmoil => "turmoil",
        }
    }
}

impl std::str::FromStr for Engine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::World, Self::Turmoil].into_iter().find(|engine| engine.name() == text).ok_or("world or turmoil")
    }
}
