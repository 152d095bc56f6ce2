//! What a story's steps are, and which of them do something where it stands.

use std::fmt;

use super::KEYS;

/// Something that happens. A node and a key are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are numbers of nodes and keys")]
pub enum Step {
    /// A client sets a key.
    Set { key: u64, node: u64 },
    /// A client deletes a key.
    Del { key: u64, node: u64 },
    /// Nothing passes between a node and all others any more.
    Cut { node: u64 },
    /// All cuts end.
    Heal,
    /// A process and its memory are gone.
    Kill { node: u64 },
    /// A new run starts where one was killed, or has left.
    Restart { node: u64 },
    /// A process stands still.
    Pause { node: u64 },
    /// A process stands still, and a new run of its member starts.
    Twin { node: u64 },
    /// What stood still goes on.
    Thaw { node: u64 },
    /// A client of `at` has the cluster forget `node`.
    Forget { node: u64, at: u64 },
    /// A client has its node leave.
    Leave { node: u64 },
    /// One more node comes.
    Join,
}

/// How much time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// As much as it takes to send something, or a few heartbeats.
    Rush,
    /// Enough for everything that follows to have followed.
    Settle,
}

/// Where a story stands, as far as it is needed to tell which steps do something. It errs on the side of steps that
/// may do something.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    actors: Vec<Actor>,
    /// Stamps the writes.
    writes: u64,
    /// Of the nodes that are alike: how many have acted.
    named: u64,
}

#[derive(Clone, Copy, Debug)]
struct Actor {
    stand: Stand,
    is_cut: bool,
    /// An older run of it stands still.
    has_twin: bool,
    /// By key: when what it holds was written, and whether it can be deleted.
    keys: [(u64, bool); KEYS as usize],
    /// The nodes whose links it has lost, as bits.
    missed: u64,
    /// The nodes that it knows to be forgotten.
    forgot: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It has not joined yet.
    Absent,
    Up,
    Paused,
    Down,
    Leaving,
    Left,
}

impl Scene {
    pub(super) fn new(nodes: u64) -> Self {
        let actor = Actor {
            stand: Stand::Up,
            is_cut: false,
            has_twin: false,
            keys: [(1, true), (0, false)],
            missed: 0,
            forgot: 0,
        };
        let mut actors = vec![actor; usize::try_from(nodes).expect("few nodes")];
        actors.push(Actor { stand: Stand::Absent, keys: [(0, false); KEYS as usize], ..actor });
        Self { actors, writes: 1, named: 1 }
    }

    /// The number of the node that may join.
    fn joiner(&self) -> u64 {
        self.actors.len() as u64 - 1
    }

    /// All steps that there are.
    pub(super) fn steps(&self) -> Vec<Step> {
        let nodes = 0..self.actors.len() as u64;
        let mut steps = vec![Step::Heal, Step::Join];
        for node in nodes.clone() {
            steps.extend((0..KEYS).flat_map(|key| [Step::Set { key, node }, Step::Del { key, node }]));
            steps.extend([Step::Cut { node }, Step::Kill { node }, Step::Restart { node }, Step::Pause { node }]);
            steps.extend([Step::Twin { node }, Step::Thaw { node }, Step::Leave { node }]);
            steps.extend(nodes.clone().map(|at| Step::Forget { node, at }));
        }
        steps
    }

    /// What is after `step`; `None` if it does nothing, or if another story differs from this one in names only.
    pub(super) fn after(&self, step: Step, before: Option<(Step, Gap)>) -> Option<Self> {
        let mut scene = self.clone();
        for node in step.nodes() {
            // Nodes that are alike act in the order of their names.
            if node > scene.named && node != scene.joiner() {
                return None;
            }
            if node == scene.named && node != scene.joiner() {
                scene.named += 1;
            }
        }
        scene.act(step, before).then_some(scene)
    }

    /// What is after some time.
    pub(super) fn passed(&self, gap: Gap) -> Self {
        let mut scene = self.clone();
        let nodes = 0..self.actors.len();
        for (one, other) in nodes.clone().flat_map(|one| nodes.clone().map(move |other| (one, other))) {
            if !self.meet(one, other) {
                let is_noticed = gap == Gap::Settle || matches!(self.actors[other].stand, Stand::Down | Stand::Left);
                scene.actors[one].missed |= u64::from(is_noticed) << other;
                continue;
            }
            scene.actors[one].missed &= !(1 << other);
            let Actor { keys, forgot, .. } = self.actors[other];
            let actor = &mut scene.actors[one];
            for (held, theirs) in actor.keys.iter_mut().zip(keys) {
                *held = (*held).max(theirs);
            }
            actor.forgot = (actor.forgot | forgot) & !(1 << one) & !(1 << other);
        }
        for (one, actor) in scene.actors.iter_mut().enumerate() {
            let is_linked = nodes.clone().any(|other| other != one && self.meet(one, other));
            if actor.stand == Stand::Leaving && gap == Gap::Settle && is_linked {
                actor.stand = Stand::Left;
            }
        }
        scene
    }

    /// Whether `node` is still there, or will be, in the end.
    pub(super) fn survives(&self, node: u64) -> bool {
        matches!(self.actor(node).stand, Stand::Up | Stand::Paused | Stand::Leaving)
    }

    /// Carries out a step; false if it does nothing.
    fn act(&mut self, step: Step, before: Option<(Step, Gap)>) -> bool {
        let rushed = before.filter(|(_, gap)| *gap == Gap::Rush).map(|(step, _)| step);
        match step {
            Step::Set { key, node } => {
                // Overwritten at once by the same client: the first was as good as not written.
                let again = rushed == Some(step);
                self.is_up(node) && !again && self.write(key, node, true)
            }
            Step::Del { key, node } => self.is_up(node) && self.may_hold(key, node) && self.write(key, node, false),
            Step::Cut { node } => {
                let apart = self.actors.iter().filter(|actor| actor.is_cut).count();
                let present = self.actors.iter().filter(|actor| actor.is_running()).count();
                let actor = self.actor_mut(node);
                // The last but one cut leaves the last node alone too.
                actor.is_running() && !std::mem::replace(&mut actor.is_cut, true) && apart + 2 <= present
            }
            Step::Heal => {
                let any = self.actors.iter().any(|actor| actor.is_cut);
                self.actors.iter_mut().for_each(|actor| actor.is_cut = false);
                any && !matches!(rushed, Some(Step::Cut { .. }))
            }
            Step::Kill { node } => {
                let is_up = self.is_up(node);
                let actor = self.actor_mut(node);
                (actor.stand, actor.keys) = (Stand::Down, [(0, false); KEYS as usize]);
                is_up
            }
            Step::Restart { node } => {
                let actor = self.actor_mut(node);
                let is_down = matches!(actor.stand, Stand::Down | Stand::Left);
                actor.restart();
                is_down
            }
            Step::Pause { node } => {
                let can = self.is_up(node) && !self.actor(node).has_twin;
                self.actor_mut(node).stand = Stand::Paused;
                can
            }
            Step::Twin { node } => {
                let can = self.is_up(node) && !self.actor(node).has_twin;
                self.actor_mut(node).restart();
                self.actor_mut(node).has_twin = true;
                can
            }
            Step::Thaw { node } => {
                let actor = self.actor_mut(node);
                let was_paused = actor.stand == Stand::Paused;
                if was_paused {
                    actor.stand = Stand::Up;
                }
                let blink = rushed == Some(Step::Pause { node });
                (std::mem::take(&mut actor.has_twin) || was_paused) && !blink
            }
            Step::Forget { node, at } => {
                let can = node != at && self.is_up(at) && self.actor(at).forgot >> node & 1 == 0;
                let known = self.actor(node).stand != Stand::Absent && self.actor(node).stand != Stand::Left;
                let missed = self.actor(at).missed >> node & 1 == 1 && !self.meet_nodes(node, at);
                self.actor_mut(at).forgot |= 1 << node;
                can && known && missed
            }
            Step::Leave { node } => {
                let others = self.actors.iter().enumerate();
                let mut others = others.filter(|(other, actor)| *other as u64 != node && actor.is_running());
                let missed = self.actor(node).missed;
                let is_linked = others.any(|(other, _)| missed >> other & 1 == 0);
                let can = self.is_up(node) && is_linked;
                self.actor_mut(node).stand = Stand::Leaving;
                can
            }
            Step::Join => {
                let joiner = self.joiner();
                let actor = self.actor_mut(joiner);
                let can = actor.stand == Stand::Absent;
                actor.stand = Stand::Up;
                can
            }
        }
    }

    fn write(&mut self, key: u64, node: u64, is_live: bool) -> bool {
        self.writes += 1;
        let stamp = self.writes;
        self.actor_mut(node).keys[usize::try_from(key).expect("few keys")] = (stamp, is_live);
        true
    }

    /// Who comes back after it was forgotten may write anew what it has, and then it is the newest.
    fn may_hold(&self, key: u64, node: u64) -> bool {
        let key = usize::try_from(key).expect("few keys");
        let any_forgot = self.actors.iter().any(|actor| actor.forgot != 0);
        self.actor(node).keys[key].1 || (any_forgot && self.actors.iter().any(|actor| actor.keys[key].1))
    }

    fn is_up(&self, node: u64) -> bool {
        self.actor(node).stand == Stand::Up
    }

    fn meet_nodes(&self, one: u64, other: u64) -> bool {
        self.meet(usize::try_from(one).expect("few nodes"), usize::try_from(other).expect("few nodes"))
    }

    /// Whether two nodes reach each other.
    fn meet(&self, one: usize, other: usize) -> bool {
        let both = [self.actors[one], self.actors[other]];
        one == other || both.iter().all(|actor| matches!(actor.stand, Stand::Up | Stand::Leaving) && !actor.is_cut)
    }

    fn actor(&self, node: u64) -> &Actor {
        &self.actors[usize::try_from(node).expect("few nodes")]
    }

    fn actor_mut(&mut self, node: u64) -> &mut Actor {
        &mut self.actors[usize::try_from(node).expect("few nodes")]
    }
}

impl Actor {
    fn is_running(&self) -> bool {
        matches!(self.stand, Stand::Up | Stand::Paused | Stand::Leaving)
    }

    fn restart(&mut self) {
        *self = Self { stand: Stand::Up, keys: [(0, false); KEYS as usize], missed: 0, forgot: 0, ..*self };
    }
}

impl Step {
    /// What happens, in a word.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Set { .. } => "set",
            Self::Del { .. } => "del",
            Self::Cut { .. } => "cut",
            Self::Heal => "heal",
            Self::Kill { .. } => "kill",
            Self::Restart { .. } => "restart",
            Self::Pause { .. } => "pause",
            Self::Twin { .. } => "twin",
            Self::Thaw { .. } => "thaw",
            Self::Forget { .. } => "forget",
            Self::Leave { .. } => "leave",
            Self::Join => "join",
        }
    }

    /// The nodes that act, or are acted on.
    fn nodes(self) -> impl Iterator<Item = u64> {
        let (one, other) = match self {
            Self::Set { node, .. }
            | Self::Del { node, .. }
            | Self::Cut { node }
            | Self::Kill { node }
            | Self::Restart { node }
            | Self::Pause { node }
            | Self::Twin { node }
            | Self::Thaw { node }
            | Self::Leave { node } => (Some(node), None),
            Self::Forget { node, at } => (Some(node), Some(at)),
            Self::Heal | Self::Join => (None, None),
        };
        one.into_iter().chain(other)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.verb();
        match *self {
            Self::Set { key, node } | Self::Del { key, node } => write!(f, "{verb} k{key} at n{node}"),
            Self::Forget { node, at } => write!(f, "{verb} n{node} at n{at}"),
            Self::Cut { node }
            | Self::Kill { node }
            | Self::Restart { node }
            | Self::Pause { node }
            | Self::Twin { node }
            | Self::Thaw { node }
            | Self::Leave { node } => write!(f, "{verb} n{node}"),
            Self::Heal | Self::Join => f.write_str(verb),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rush => "rush",
            Self::Settle => "settle",
        })
    }
}
