//! How far behind this node's own stream a peer is, told from the frontier that the peer states.

use std::collections::VecDeque;

use crate::replica::Replica;
use crate::time::WallMs;
use crate::version::{Hlc, OriginId};

/// Marks kept: one a heartbeat while there are writes, so some four minutes' worth. An older lag is told as at least
/// that.
pub(crate) const MARKS_MAX: usize = 512;

/// Where this node's own stream stood at each heartbeat.
#[derive(Debug)]
pub(crate) struct Marks {
    origin: OriginId,
    marks: VecDeque<(Hlc, u64)>,
}

/// A distance behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) records: u64,
    pub(crate) ms: u64,
}

impl Marks {
    pub(crate) fn new(origin: OriginId) -> Self {
        Self { origin, marks: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whose stream.
    pub(crate) fn origin(&self) -> OriginId {
        self.origin
    }

    /// Notes where the stream stands.
    pub(crate) fn mark(&mut self, replica: &Replica) {
        if self.origin != replica.own() {
            *self = Self::new(replica.own());
        }
        let mark = (replica.own_last(), replica.own_records());
        if self.marks.back() == Some(&mark) || mark.0 == Hlc::ZERO {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    /// The distance of a peer that holds this node's stream up to `held`. Records are exact at a heartbeat, and at most
    /// those of one heartbeat too many between two.
    pub(crate) fn lag(&self, replica: &Replica, held: Hlc, wall: WallMs) -> Lag {
        let last = replica.own_last();
        if held >= last {
            return Lag::default();
        }
        let known = self.marks.partition_point(|(hlc, _)| *hlc <= held);
        let records = match known.checked_sub(1) {
            Some(at) => self.marks[at].1,
            None if held == Hlc::ZERO => 0,
            None => self.marks.front().map_or(0, |(_, records)| *records),
        };
        // The first heartbeat at which the stream stood beyond what is held.
        let since = self.marks.get(known).map_or(last, |(hlc, _)| *hlc);
        Lag { records: replica.own_records() - records, ms: wall.0.saturating_sub(since.ms()) }
    }
}
