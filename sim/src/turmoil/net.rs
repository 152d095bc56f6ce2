//! What is broken on the network, and how turmoil is brought to break it so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ::turmoil::Sim;
use ::turmoil::net::TcpStream;

use super::wire::Flows;
use crate::plan::size;

/// The machine on which the clients are, to turmoil.
pub(super) const CROWD: &str = "clients";

/// State of the network between nodes. Counters, because faults overlap.
#[derive(Debug)]
pub(super) struct Net {
    nodes: u64,
    /// By `from * nodes + to`.
    cuts: Vec<u64>,
    stalls: Vec<u64>,
    /// Machines that do not even refuse.
    pub(super) down: Vec<bool>,
    /// What turmoil was told last, by `a * nodes + b` with `a < b`.
    told: Vec<Path>,
    /// Every connection between nodes that stood once.
    ties: Vec<Tie>,
    /// Sockets that went dark and were closed since. They stay until the end of the run, because turmoil would tell the
    /// other side.
    pub(super) morgue: Rc<RefCell<Vec<TcpStream>>>,
    pub(super) flows: Flows,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stands,
    /// Both sides are to find it ended.
    Reset,
    /// Nothing passes any more, and nobody hears of it.
    Dark,
    /// It stands, and a bit of what is written next arrives wrong.
    Garbled,
}

#[derive(Debug)]
struct Tie {
    nodes: [u64; 2],
    fate: Rc<Cell<Fate>>,
}

/// How two nodes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Open,
    /// What is sent stands still and then goes on. turmoil has no direction for it.
    Held,
    /// What this node sends to the other is lost.
    CutFrom(u64),
    CutBoth,
}

impl Net {
    pub(super) fn new(nodes: u64) -> Self {
        let pairs = size(nodes * nodes);
        Self {
            nodes,
            cuts: vec![0; pairs],
            stalls: vec![0; pairs],
            down: vec![false; size(nodes)],
            told: vec![Path::Open; pairs],
            ties: Vec::new(),
            morgue: Rc::default(),
            flows: Flows::new(),
        }
    }

    /// A connection between two nodes stands; its fate.
    pub(super) fn tie(&mut self, nodes: [u64; 2]) -> Rc<Cell<Fate>> {
        // The engine holds one end of each fate, its connection the other.
        self.ties.retain(|tie| Rc::strong_count(&tie.fate) > 1);
        let fate = Rc::new(Cell::new(Fate::Stands));
        self.ties.push(Tie { nodes, fate: Rc::clone(&fate) });
        fate
    }

    /// The fate of a connection that no fault meets.
    pub(super) fn untied() -> Rc<Cell<Fate>> {
        Rc::new(Cell::new(Fate::Stands))
    }

    /// Decides the fate of all connections between two nodes.
    pub(super) fn doom(&self, from: u64, to: u64, fate: Fate) {
        for tie in &self.ties {
            if (tie.nodes == [from, to] || tie.nodes == [to, from]) && tie.fate.get() == Fate::Stands {
                tie.fate.set(fate);
            }
        }
    }

    /// Something of what two nodes tell each other next arrives wrong.
    pub(super) fn garble(&self, from: u64, to: u64) {
        self.doom(from, to, Fate::Garbled);
    }

    /// Whether a dial from one node to another, or from the clients, has no answer, not even a refusal.
    pub(super) fn is_silent(&self, from: Option<u64>, to: u64) -> bool {
        let is_cut = |from: u64| self.cut(from, to) > 0 || self.cut(to, from) > 0;
        self.down[size(to)] || from.is_some_and(is_cut)
    }

    pub(super) fn cut_more(&mut self, from: u64, to: u64) {
        let index = self.index(from, to);
        self.cuts[index] += 1;
    }

    pub(super) fn cut_less(&mut self, from: u64, to: u64) {
        let index = self.index(from, to);
        self.cuts[index] -= 1;
    }

    pub(super) fn stall_more(&mut self, from: u64, to: u64) {
        let index = self.index(from, to);
        self.stalls[index] += 1;
    }

    pub(super) fn stall_less(&mut self, from: u64, to: u64) {
        let index = self.index(from, to);
        self.stalls[index] -= 1;
    }

    /// All cuts and stalls end.
    pub(super) fn heal(&mut self) {
        self.cuts.fill(0);
        self.stalls.fill(0);
    }

    /// Tells turmoil what has changed since it was told last.
    pub(super) fn tell(&mut self, sim: &Sim<'_>) {
        for (a, b) in (0..self.nodes).flat_map(|b| (0..b).map(move |a| (a, b))) {
            let (path, index) = (self.path(a, b), self.index(a, b));
            if std::mem::replace(&mut self.told[index], path) == path {
                continue;
            }
            let (a, b) = (name(a), name(b));
            // From the open state, so that nothing that was held stays held for ever: turmoil does not combine the two.
            sim.release(&*a, &*b);
            match path {
                Path::Open => {}
                Path::Held => sim.hold(&*a, &*b),
                Path::CutFrom(from) if name(from) == a => sim.partition_oneway(&*a, &*b),
                Path::CutFrom(_) => sim.partition_oneway(&*b, &*a),
                Path::CutBoth => sim.partition(&*a, &*b),
            }
        }
    }

    /// Takes a machine off the network, its clients included, or puts it back.
    pub(super) fn set_down(&mut self, sim: &Sim<'_>, node: u64, down: bool) {
        if std::mem::replace(&mut self.down[size(node)], down) == down {
            return;
        }
        if down {
            sim.partition(&*name(node), CROWD);
        } else {
            sim.release(&*name(node), CROWD);
        }
        self.tell(sim);
    }

    fn path(&self, a: u64, b: u64) -> Path {
        let is_off = self.down[size(a)] || self.down[size(b)];
        match (self.cut(a, b) > 0, self.cut(b, a) > 0) {
            _ if is_off => Path::CutBoth,
            (true, true) => Path::CutBoth,
            (true, false) => Path::CutFrom(a),
            (false, true) => Path::CutFrom(b),
            (false, false) if self.stalls[self.index(a, b)] + self.stalls[self.index(b, a)] > 0 => Path::Held,
            (false, false) => Path::Open,
        }
    }

    fn cut(&self, from: u64, to: u64) -> u64 {
        self.cuts[self.index(from, to)]
    }

    fn index(&self, from: u64, to: u64) -> usize {
        size(from * self.nodes + to)
    }
}

/// A node's name to turmoil.
pub(super) fn name(node: u64) -> String {
    format!("n{node}")
}
