//! A story, and the plan that it becomes.

use std::fmt;

use super::scene::Scene;
use super::{Gap, KEYS, Step};
use crate::plan::{Ask, Fault, Item, Plan, Setting};
use crate::rng::{keyed, scale};

/// When the first step comes: the nodes have found each other, and `k0` is everywhere.
const START_MS: u64 = 150;

/// When `k0` is written.
const FIRST_WRITE_MS: u64 = 60;

const HEARTBEAT_MS: u64 = 20;

/// A dead link is missed, another peer relays, what a dead run left is announced, everybody states what it holds, and
/// then deletes are collected.
const SETTLE_MS: u64 = 250;

/// Longest rush: silence that ends a link is not yet noticed.
const RUSH_MS_MAX: u64 = 64;

/// Steps, each with the time after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Of the cluster at its start.
    pub nodes: u64,
    /// In order.
    pub steps: Vec<(Step, Gap)>,
}

impl Story {
    /// The story as a plan; `round` and the story itself draw the details.
    #[must_use]
    pub fn plan(&self, round: u64) -> Plan {
        let words: Vec<u64> = self.to_string().bytes().map(u64::from).collect();
        let seed = keyed(round, &words);
        let mut at_ms = vec![START_MS];
        for (index, (_, gap)) in self.steps.iter().enumerate() {
            let ms = match gap {
                Gap::Rush => rush_ms(seed, index as u64),
                Gap::Settle => SETTLE_MS,
            };
            at_ms.push(at_ms.last().copied().unwrap_or(START_MS) + ms);
        }
        let end_ms = at_ms.last().copied().unwrap_or(START_MS);
        let first = Ask::Set { key: 0, token: 1, pad: 0, ttl_ms: 0 };
        let mut items = vec![(FIRST_WRITE_MS * 1_000, Item::Ask { client: 0, ask: first })];
        let joins = self.steps.iter().position(|(step, _)| *step == Step::Join);
        let setting = self.setting(seed, joins.is_some(), end_ms);
        if let Some(join) = joins {
            // It is there from the moment of the join on.
            let (node, ms) = (self.nodes, at_ms[join]);
            items.push((0, Item::Fault(Fault::Kill { node, ms, silent: false, alone: false })));
        }
        for index in 0..self.steps.len() {
            items.extend(self.item(index, &at_ms, &setting).map(|item| (at_ms[index] * 1_000, item)));
        }
        Plan { seed, setting, items }.sorted()
    }

    fn setting(&self, seed: u64, joins: bool, load_ms: u64) -> Setting {
        let nodes = self.nodes + u64::from(joins);
        let mut scene = Scene::new(self.nodes);
        let mut before = None;
        for (step, gap) in &self.steps {
            let after = scene.after(*step, before);
            scene = after.expect("a story is made of steps that do something").passed(*gap);
            before = Some((*step, *gap));
        }
        let survivors = (0..nodes).filter(|node| scene.survives(*node)).map(|node| 1 << node).sum();
        Setting {
            // One for writing, and one for leaving, which may take long.
            clients: 2 * nodes,
            keys: KEYS,
            load_ms,
            survivors,
            // Either everything is streamed, or what was missed for a moment has to be swept.
            ring_bytes: if keyed(seed, &[2]).is_multiple_of(2) { 64 << 10 } else { 128 },
            heartbeat_ms: HEARTBEAT_MS,
            silence_ms: 72,
            redial_ms_min: 4,
            redial_ms_max: 40,
            relay_ms: 40,
            orphan_ms: 120,
            collect_ms: 10,
            clock_ahead_ms_max: 10_000,
            dial_retry_ms: 40,
            ..Setting::calm(nodes)
        }
    }

    /// What a step is in a plan, if it is not the end of an earlier one; `at_ms` is when each comes, and the end.
    fn item(&self, index: usize, at_ms: &[u64], setting: &Setting) -> Option<Item> {
        let until = |ends: &dyn Fn(Step) -> bool| {
            let mut later = self.steps.iter().zip(at_ms).skip(index + 1);
            let end = later.find(|((step, _), _)| ends(*step)).map(|(_, at_ms)| at_ms).or(at_ms.last());
            end.copied().unwrap_or(START_MS) - at_ms[index]
        };
        let ask = |client, ask| Some(Item::Ask { client, ask });
        let fault = match self.steps[index].0 {
            Step::Set { key, node } => {
                return ask(node, Ask::Set { key, token: 10 + index as u64, pad: 0, ttl_ms: 0 });
            }
            Step::Del { key, node } => return ask(node, Ask::Del { key }),
            Step::Forget { node, at } => return ask(at, Ask::Forget { node }),
            Step::Leave { node } => return ask(setting.nodes + node, Ask::Leave),
            Step::Heal | Step::Thaw { .. } | Step::Join => return None,
            Step::Cut { node } => Fault::Partition { side: 1 << node, ms: until(&|step| step == Step::Heal) },
            Step::Kill { node } => {
                let ms = until(&|step| step == Step::Restart { node });
                Fault::Kill { node, ms, silent: false, alone: false }
            }
            // Where one was killed it is the end of that; who has left is stopped first.
            Step::Restart { node } => Fault::Kill { node, ms: 1, silent: false, alone: false },
            Step::Pause { node } => Fault::Pause { node, ms: until(&|step| step == Step::Thaw { node }) },
            Step::Twin { node } => Fault::Supersede { node, ms: until(&|step| step == Step::Thaw { node }) },
        };
        Some(Item::Fault(fault))
    }
}

/// From a single flight of a packet to a few heartbeats, each order of magnitude as often.
fn rush_ms(seed: u64, index: u64) -> u64 {
    let most = 1 << scale(keyed(seed, &[3, index]), u64::from(RUSH_MS_MAX.ilog2()) + 1);
    1 + scale(keyed(seed, &[4, index]), most)
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (step, gap)) in self.steps.iter().enumerate() {
            let before = if index > 0 { "; " } else { "" };
            write!(f, "{before}{step}; {gap}")?;
        }
        Ok(())
    }
}
