//! Exhaustive exploration in small: every story of a few steps that a small cluster can live through.
//!
//! [`swarm`](crate::swarm) draws long plans at random; here short ones are listed without a gap, because rules about
//! who is waited for and what may be forgotten break in the one order of events that nobody thought of. A *story* is a
//! sequence of [`Step`]s, each followed by a [`Gap`]: time for everything to settle (links are missed and found again,
//! statements are exchanged, deletes are collected), or so little that only a part of it happened. It becomes a
//! [`Plan`](crate::Plan) of real nodes with timers of milliseconds, which the usual oracles judge.
//!
//! It begins with a cluster that is at rest, and `k0` written by `n0` on all nodes; `k1` was never written. So the keys
//! are two different ones, and all nodes but `n0` are alike: they are named in the order in which they first act.
//! Steps that do nothing are left out, as far as `scene.rs` can tell: it follows who is up, who reaches whom, and who
//! holds what.
//!
//! One case is known by name and not mended by the rules: where nodes that all began without memory meet each other
//! while every member that is older is cut off or stands still, they found a cluster of their own, and may forget
//! deletes that the older ones never saw. `cut n1; pause n0; pause n1; twin n2; settle; set k0 at n2; heal; settle;
//! del k0 at n2; settle; join; settle` is such a story; no shorter one was met.
//!
//! How long a rush is, how big the ring is and what the network does in detail is drawn from the story itself and a
//! number of the caller's, so that a story always has the same plan, and another number tells all of them anew.

mod scene;
mod story;

pub use scene::{Gap, Step};
pub use story::Story;

use std::collections::BTreeSet;

use crate::rng::Rng;
use scene::Scene;

/// Keys of a story.
pub const KEYS: u64 = 2;

/// Which stories there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Nodes of the cluster at its start; one more may join.
    pub nodes: u64,
    /// Steps of a story.
    pub steps: usize,
    /// The [verbs](Step::verb) of its steps; if there are none, all.
    pub verbs: Vec<String>,
}

impl Scope {
    /// Visits every story of exactly so many steps, until `visit` answers false.
    pub fn stories(&self, visit: &mut dyn FnMut(&Story) -> bool) -> bool {
        let mut story = Story { nodes: self.nodes, steps: Vec::new() };
        self.extend(&Scene::new(self.nodes), &mut story, visit)
    }

    /// How many that are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut count = 0;
        self.stories(&mut |_| {
            count += 1;
            true
        });
        count
    }

    /// A story of that many steps at random; shorter if nothing more can happen. Each kind of step that can come is as
    /// likely as another, whatever the number of nodes and keys that it can be about.
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> Story {
        let mut story = Story { nodes: self.nodes, steps: Vec::new() };
        let mut scene = Scene::new(self.nodes);
        while story.steps.len() < self.steps {
            let before = story.steps.last().copied();
            let next = scene.steps().into_iter().filter(|step| self.has(*step));
            let next: Vec<_> = next.filter_map(|step| Some((step, scene.after(step, before)?))).collect();
            let verbs: BTreeSet<_> = next.iter().map(|(step, _)| step.verb()).collect();
            let verbs: Vec<_> = verbs.into_iter().collect();
            if verbs.is_empty() {
                break;
            }
            let verb = rng.pick(&verbs);
            let next: Vec<_> = next.iter().filter(|(step, _)| step.verb() == verb).collect();
            let (step, after) = rng.pick(&next);
            let gap = rng.pick(&[Gap::Rush, Gap::Settle]);
            scene = after.passed(gap);
            story.steps.push((*step, gap));
        }
        story
    }

    fn has(&self, step: Step) -> bool {
        self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == step.verb())
    }

    fn extend(&self, scene: &Scene, story: &mut Story, visit: &mut dyn FnMut(&Story) -> bool) -> bool {
        if story.steps.len() == self.steps {
            return visit(story);
        }
        for step in scene.steps().into_iter().filter(|step| self.has(*step)) {
            let Some(after) = scene.after(step, story.steps.last().copied()) else { continue };
            for gap in [Gap::Rush, Gap::Settle] {
                story.steps.push((step, gap));
                let goes_on = self.extend(&after.passed(gap), story, visit);
                story.steps.pop();
                if !goes_on {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_story_is_told_twice_and_each_has_its_plan() {
        let scope = Scope { nodes: 3, steps: 2, verbs: Vec::new() };
        let (mut texts, mut plans) = (BTreeSet::new(), BTreeSet::new());
        scope.stories(&mut |story| {
            assert!(texts.insert(story.to_string()), "{story} twice");
            let plan = story.plan(0);
            assert_eq!(plan.to_string().parse().as_ref(), Ok(&plan), "{story}");
            plans.insert(plan.to_string())
        });
        assert_eq!((texts.len() as u64, plans.len()), (scope.count(), texts.len()));
    }

    #[test]
    fn the_story_of_a_member_that_is_forgotten_while_it_is_cut_off_is_among_them() {
        let wanted = "cut n1; settle; del k0 at n0; rush; forget n1 at n0; settle";
        let mut found = false;
        Scope { nodes: 3, steps: 3, verbs: Vec::new() }.stories(&mut |story| {
            found |= story.to_string() == wanted;
            !found
        });
        assert!(found);
    }
}
