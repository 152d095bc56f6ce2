//! Every story of two steps; `sim explore` tells longer ones.

use sim::explore::Scope;
use sim::{Watch, world};

/// Stories of so many steps: over a thousand, which take some ten seconds.
const STEPS: usize = 2;

#[test]
fn every_short_story_ends_well() {
    let mut failures = Vec::new();
    for steps in 1..=STEPS {
        Scope { nodes: 3, steps, verbs: Vec::new() }.stories(&mut |story| {
            if let Err(failure) = world::run(&story.plan(0), Watch::Hash).verdict {
                failures.push(format!("{story}\n  {failure}"));
            }
            true
        });
    }
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} stories failed; `sim explore --depth {STEPS}` writes them down as plans\n{}",
        failures.join("\n")
    );
}
