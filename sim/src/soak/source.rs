//! Where a soak's plans come from.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::explore::Scope;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::swarm;

/// The stream of draws of stories.
const STORIES: u64 = 0x5704;

/// Steps of a story: shorter ones are few enough for `sim explore` to run them all.
const STEPS: [u64; 2] = [4, 6];

/// A way to get a plan from a seed, and what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Drawn, for the engine of the same name.
    World,
    /// Drawn, for the other engine.
    Turmoil,
    /// A story of a few steps, for the world engine.
    Story,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::World, Self::Turmoil, Self::Story];

    /// The plan of `seed`.
    #[must_use]
    pub fn plan(self, seed: u64) -> Plan {
        if self != Self::Story {
            return swarm::draw(seed);
        }
        let mut rng = Rng::new(seed, STORIES);
        let (nodes, steps) = (rng.pick(&[2, 3, 3, 4]), rng.range(STEPS[0], STEPS[1]));
        let steps = usize::try_from(steps).expect("a few");
        Scope { nodes, steps, verbs: Vec::new() }.draw(&mut rng).plan(seed)
    }

    /// What runs it.
    #[must_use]
    pub const fn engine(self) -> Engine {
        match self {
            Self::World | Self::Story => Engine::World,
            Self::Turmoil => Engine::Turmoil,
        }
    }

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Turmoil => "turmoil",
            Self::Story => "story",
        }
    }
}

/// The command that replays the plan in the file at `path`.
#[must_use]
pub fn replay_command(engine: Engine, path: &Path) -> String {
    let engine = if engine == Engine::default() { String::new() } else { format!("--engine {} ", engine.name()) };
    format!("cargo run -p sim --release -- {engine}--plan {} --trace", path.display())
}
