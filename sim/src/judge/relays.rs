//! Relays: what a stream brought, a node can pass on.
//!
//! Where a frontier grows and no sweep was under way and no run was retired, a stream did it. Then the record up to
//! which it grew must stand in the tail, whether it won its merge or lost it: who is fed from here, because its writer
//! is dead or out of reach, would find a hole otherwise, and would have to be swept to get over it. Looked at only
//! while the ring has room for one more record, so that nothing can have been dropped to make room.

use kv_core::{Hlc, Node, OriginId, Version};

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
}

impl Judge {
    /// Looks at what a node took in, and whether others can have it from there.
    pub(super) fn look_at_relays(&mut self, run: RunId, node: &Node) {
        let mut frontier = Vec::new();
        node.accounts(&mut |origin, upto, _| frontier.push((origin, upto)));
        let (ledger, is_swept) = (node.retired_mark(), node.catches_up() || node.is_returning());
        let fed = Fed { frontier, ledger, is_swept };
        let before = std::mem::replace(&mut self.run_mut(run).fed, fed);
        let now = &self.run(run).fed;
        if before.frontier == now.frontier || before.is_swept || now.is_swept || before.ledger != now.ledger {
            return;
        }
        let (held, limit) = node.gauges().ring_bytes;
        if held + RECORD_BYTES_MAX + size(self.pad_max) > limit {
            return;
        }
        let was = |origin: OriginId| {
            let at = before.frontier.binary_search_by_key(&origin, |(origin, _)| *origin);
            at.map_or(Hlc::ZERO, |at| before.frontier[at].1)
        };
        let is_news =
            |(origin, upto): &&(OriginId, Hlc)| *upto > was(*origin) && self.origins.get(origin) != Some(&run);
        let mut lacks: Vec<Version> =
            now.frontier.iter().filter(is_news).map(|(origin, upto)| Version { hlc: *upto, origin: *origin }).collect();
        if lacks.is_empty() {
            return;
        }
        // An account that was opened again begins where the ledger ends.
        node.retired(0, &mut |origin, last| lacks.retain(|news| news.origin != origin || news.hlc > last));
        node.fed(&mut |stamp| lacks.retain(|news| *news != stamp));
        if let Some(news) = lacks.first() {
            self.fail(Oracle::Relay, || format!("run {}: took {news:?} of a stream, and cannot pass it on", run.0));
        }
    }
}
