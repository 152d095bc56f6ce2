//! Relays: what a stream brought, a node can pass on.
//!
//! Where a frontier grows and no sweep was under way and no run was retired, a stream did it. Then the record up to
//! which it grew must stand in the tail, whether it won its merge or lost it: who is fed from here, because its writer
//! is dead or out of reach, would find a hole otherwise, and would have to be swept to get over it. Looked at only
//! while the ring has room for one more record, so that nothing can have been dropped to make room.

use kv_core::{Hlc, Node, OriginId, Version};

use super::versions::Written;
use super::{Judge, RunId};
use crate::outcome::Oracle;
use crate::plan::size;

/// What a record takes besides its value and its counter's parts, at most.
const RECORD_BYTES_MAX: usize = 256;

/// What a run looked like when last looked at.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// The frontier, in the order of origins.
    frontier: Vec<(OriginId, Hlc)>,
    /// The length of its ledger, and its hash.
    ledger: (u32, u64),
    /// A sweep was asked for or under way, or its member was coming back.
    is_swept: bool,
    /// Where its tail ended when the frontier was last looked through.
    tail: u64,
}

impl Fed {
    /// `is_loading`: what its files say that it claims comes by no stream.
    pub(super) fn new(is_loading: bool) -> Self {
        Self { is_swept: is_loading, ..Self::default() }
    }

    /// Whether the frontier and the ledger of `node` are still these.
    fn is_of(&self, node: &Node, ledger: (u32, u64)) -> bool {
        let (mut count, mut same) = (0, self.ledger == ledger);
        node.accounts(&mut |origin, upto, _| {
            same &= self.frontier.get(count) == Some(&(origin, upto));
            count += 1;
        });
        same && count == self.frontier.len()
    }

    fn of(&self, origin: OriginId) -> Hlc {
        let at = self.frontier.binary_search_by_key(&origin, |(origin, _)| *origin);
        at.map_or(Hlc::ZERO, |at| self.frontier[at].1)
    }
}

impl Judge {
    /// Of whatever a run claims, it holds the key as it was written or newer; or that was deleted and forgotten.
    fn check_claims(&mut self, run: RunId, before: &Fed) {
        let lacks = |version: &Version, written: &Written| {
            let held = self.run(run).entries[size(written.key)].map(|entry| entry.version);
            held < Some(*version)
                && !self.is_forgotten(written.key, Some(*version))
                && !self.is_rotten(written.key)
                && !self.is_lost_for_all(written.key, *version)
                // Its run was retired by who never had that, while who has it was forgotten.
                && !self.strays.contains(version)
        };
        let of_run = &self.run(run).fed.frontier;
        let news = of_run.iter().filter(|(origin, upto)| *upto > before.of(*origin));
        let lacking = news.filter_map(|(origin, upto)| {
            let from = Version { hlc: before.of(*origin), origin: OriginId(u64::MAX) };
            let mut claimed = self.versions.range(from..=Version { hlc: *upto, origin: OriginId(u64::MAX) });
            claimed.find(|(version, written)| version.origin == *origin && lacks(version, written))
        });
        let lacking = lacking.map(|(version, written)| (*version, *written)).next();
        if let Some((version, written)) = lacking {
            let held = self.run(run).entries[size(written.key)];
            self.fail(Oracle::Durability, || {
                format!("run {}: claims {version:?} of k{}, and has {held:?}", run.0, written.key)
            });
        }
    }

    /// Looks at what a node took in, and whether others can have it from there.
    pub(super) fn look_at_relays(&mut self, run: RunId, node: &Node) {
        let (ledger, is_swept) = (node.retired_mark(), node.catches_up() || node.is_returning());
        let fed = &mut self.run_mut(run).fed;
        if fed.is_of(node, ledger) {
            fed.is_swept = is_swept;
            return;
        }
        let mut frontier = Vec::with_capacity(fed.frontier.len() + 1);
        node.accounts(&mut |origin, upto, _| frontier.push((origin, upto)));
        let fed = Fed { frontier, ledger, is_swept, tail: fed.tail };
        let before = std::mem::replace(&mut self.run_mut(run).fed, fed);
        self.look_at_claims(run, node);
        if before.frontier == self.run(run).fed.frontier {
            return;
        }
        if !node.is_returning() {
            self.check_claims(run, &before);
        }
        let now = &self.run(run).fed;
        if before.is_swept || now.is_swept || before.ledger != now.ledger {
            return;
        }
        let (held, limit) = node.gauges().ring_bytes;
        if held + RECORD_BYTES_MAX + size(self.pad_max) > limit {
            return;
        }
        let is_news =
            |(origin, upto): &&(OriginId, Hlc)| *upto > before.of(*origin) && self.origins.get(origin) != Some(&run);
        let mut lacks: Vec<Version> =
            now.frontier.iter().filter(is_news).map(|(origin, upto)| Version { hlc: *upto, origin: *origin }).collect();
        if lacks.is_empty() {
            return;
        }
        // An account that was opened again begins where the ledger ends.
        node.retired(0, &mut |origin, last| lacks.retain(|news| news.origin != origin || news.hlc > last));
        // Mostly it is what came last.
        let tail = node.fed(before.tail, &mut |stamp| lacks.retain(|news| *news != stamp));
        self.run_mut(run).fed.tail = tail;
        if !lacks.is_empty() {
            node.fed(0, &mut |stamp| lacks.retain(|news| *news != stamp));
        }
        if let Some(news) = lacks.first() {
            self.fail(Oracle::Relay, || format!("run {}: took {news:?} of a stream, and cannot pass it on", run.0));
        }
    }
}
