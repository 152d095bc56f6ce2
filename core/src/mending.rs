//! What scrubbing may add, and when (PROTOCOL.md rules 2 and 22).
//!
//! **What is missing.** A frontier says: everything the origin wrote up to here is held, or was superseded by something
//! held, or by something that was collected. So an entry that a peer has, that this node's frontier covers, and of whose
//! key this node holds something older, is missing for certain, whatever is under way at that moment; no quiet is
//! needed to tell, nor an age. What the frontier does not cover is still to come by stream, sweep or envelope, and is
//! none of our business.
//!
//! If this node holds *nothing* of the key, it may have collected a tombstone that beat the entry. In a cluster that
//! keeps the rules no peer shows such an entry: a tombstone is collected only after every linked member has stated that
//! it has seen it, and what a peer lists comes behind its statement on the same link. But scrubbing is there for the day
//! on which something did not keep the rules, and on that day a peer's leftover looks like our loss. So an entry is put
//! back only where no collected tombstone can have beaten it: it is newer than all that was collected under its hash
//! ([`Collected`](crate::collected::Collected)). All else is *unclear*: named to the operator and left alone. Any later
//! `SET` or `DEL` of the key is newer than both, and ends the difference.
//!
//! If something older of the key is held, it came after whatever was collected of it, as the newest of its key, by the
//! ordinary ways; then the newer entry of the peer takes its place as ever. A tombstone is always an addition.
//!
//! Tombstones that this node lacks and holds nothing under are no loss: it may have collected them. So are values whose
//! deadline has passed at the cut: they count for nobody.
//!
//! **Counters** are compared by what they add to the digest. If all that a peer's cell is made of is covered, and joining
//! it would change that, a part is missing. A cell with news in it says nothing until the news have come.

use crate::counter::Counter;
use crate::record::Record;
use crate::replica::Replica;
use crate::store::{Listed, What, key_name};
use crate::time::Now;
use crate::version::Version;

/// What an entry of a peer is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It lacks nothing.
    None,
    /// It lacks this, or has to see it whole to tell.
    Missing,
    /// It lacks this, and may have deleted it.
    Unclear,
}

impl Replica {
    /// What the entry that a peer lists is to this node, which lists `mine` under its name.
    pub(crate) fn lacks(&self, theirs: &Listed, mine: Option<&Listed>) -> Lack {
        match (theirs.what, mine) {
            (What::Counter { print }, Some(Listed { what: What::Counter { print: own }, .. })) if print == *own => {
                Lack::None
            }
            (What::Counter { print: 0 }, None) | (What::Tombstone, None) => Lack::None,
            // Whoever is joined has to be seen whole.
            (What::Counter { .. }, _) | (_, Some(Listed { what: What::Counter { .. }, .. })) => Lack::Missing,
            (What::Value { .. } | What::Tombstone, _) if !self.covers(theirs.version) => Lack::None,
            (What::Value { .. } | What::Tombstone, Some(mine)) if theirs.version > mine.version => Lack::Missing,
            // One version that says two things: which is right cannot be told.
            (What::Value { .. } | What::Tombstone, Some(mine)) if theirs.version == mine.version => {
                if theirs.what == mine.what { Lack::None } else { Lack::Unclear }
            }
            (What::Value { .. } | What::Tombstone, Some(_)) => Lack::None,
            (What::Value { deadline }, None) => {
                let (_, cut) = self.store.digest();
                if deadline.is_some_and(|deadline| deadline <= cut) {
                    Lack::None
                } else if theirs.may_be_deleted(&self.collected) {
                    Lack::Unclear
                } else {
                    Lack::Missing
                }
            }
        }
    }

    /// Puts back what is missing of `record`, which a peer has; what it was to this node. It was covered, so neither
    /// the clock nor any account moves, and nobody waits for it in a stream.
    pub(crate) fn mend(&mut self, now: Now, record: &Record<'_>) -> Lack {
        let lack = self.lacks_of(record);
        if lack == Lack::Missing {
            // As one part is told from another by the join alone: what the frontier says of them proved wrong.
            let merged = if record.is_counter { self.store.merge(record) } else { self.take(now.mono, record, None) };
            debug_assert!(merged.is_ok(), "what is covered is of an origin that has an account");
        }
        lack
    }

    /// What `record`, which a peer has, is to this node.
    fn lacks_of(&self, record: &Record<'_>) -> Lack {
        let mine = self.store.get(record.key);
        if !record.is_counter && !mine.is_some_and(|mine| mine.is_counter) {
            return self.lacks(&self.store.listed(record), mine.map(|mine| self.store.listed(&mine)).as_ref());
        }
        let mut joined = mine.as_ref().map(Counter::of).unwrap_or_default();
        let theirs = Counter::of(record);
        if !theirs.versions().all(|version| self.covers(version)) {
            return Lack::None;
        }
        // What deleted a part was newer than its first increment.
        let since = theirs.parts.iter().map(|part| Version { hlc: part.since, ..part.version() });
        let first = since.chain(theirs.base.iter().map(|base| base.version)).map(|version| version.hlc).min();
        joined.join(theirs);
        let mut text = Vec::new();
        let after = joined.record(record.key, &mut text).map_or(0, |joined| self.store.print(&joined));
        if after == mine.map_or(0, |mine| self.store.print(&mine)) {
            return Lack::None;
        }
        let name = key_name(record.key);
        let may_be_deleted = first.is_some_and(|first| self.collected.may_have_deleted(name, first));
        if mine.is_none() && may_be_deleted { Lack::Unclear } else { Lack::Missing }
    }
}
