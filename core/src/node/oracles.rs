//! For tests and the simulation's oracles: what a node holds, read without changing it; and what no input can bring
//! about.

use crate::conflicts::Conflict;
use crate::counter::Part;
use crate::gauges::{self, Gauges};
use crate::name::{Kind, Name};
use crate::node::{Node, PEER_CONNECTIONS_SPARE};
use crate::record::Record;
use crate::repl::{Activity, Scrubbed};
use crate::replica::Exposure;
use crate::store::{SLOTS, slot_of};
use crate::tail::{Pos, Tail};
use crate::time::WallMs;
use crate::version::{Hlc, OriginId, Version};
use crate::watchers::WATCHERS_MAX;

impl Node {
    /// The entry of `key`, tombstones and expired ones included.
    #[must_use]
    pub fn peek(&self, key: &[u8]) -> Option<Record<'_>> {
        self.replica.store.get(key)
    }

    /// Up to where the first keyspace was flushed, if it was: of no key of it does an entry of that version or an older
    /// one stand.
    #[must_use]
    pub fn flushed(&self) -> Option<Version> {
        self.replica.store.floor_over(&[])
    }

    /// Grows with each entry that is written, freed or taken out. While it stays, so does what [`peek`](Self::peek)
    /// says of any key.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.replica.store.changes()
    }

    /// The slots of the keys of which [`peek`](Self::peek) may say something else now than when
    /// [`changes`](Self::changes) said `since`; none: any may.
    #[must_use]
    pub fn changed(&self, since: u64) -> Option<impl Iterator<Item = u16>> {
        self.replica.store.changed(since)
    }

    /// The slot that `key` belongs to, on every node.
    #[must_use]
    pub fn slot_of(key: &[u8]) -> u16 {
        slot_of(key)
    }

    /// What a field of a hash of the first keyspace is stored as.
    #[must_use]
    pub fn field_name(key: &[u8], field: &[u8]) -> Vec<u8> {
        Name::field(0, key, field).stored().into_owned()
    }

    /// The field that is stored as `name`, if that is one.
    #[must_use]
    pub fn field_of(name: &[u8]) -> Option<&[u8]> {
        Name::parse(name).filter(|name| name.kind == Kind::Field).map(|name| name.element)
    }

    /// Fields that the hash `key` of the first keyspace is said to have at `wall`.
    #[must_use]
    pub fn fields(&self, key: &[u8], wall: WallMs) -> u64 {
        self.replica.store.elements(key, wall).map_or(0, |elements| elements.fields)
    }

    /// Visits every entry, tombstones and expired ones included, in an order that depends on the seed.
    pub fn entries(&self, visit: &mut dyn FnMut(&Record<'_>)) {
        for slot in (0..SLOTS).filter(|slot| self.replica.store.slot_newest(*slot) > Hlc::ZERO) {
            self.replica.store.walk(slot, None, usize::MAX, &mut |record| {
                visit(record);
                true
            });
        }
    }

    /// The digest over live data, and the cut it was taken at: see the documentation of `STATS`.
    #[must_use]
    pub fn digest(&self) -> (u128, WallMs) {
        self.replica.store.digest()
    }

    /// Visits the names of the members that keep this node from forgetting deletes.
    pub fn blocked_by(&self, visit: &mut dyn FnMut(&str)) {
        for (name, _) in self.repl.blockers(&self.config, &self.replica) {
            visit(name);
        }
    }

    /// Runs whose deletes may stay because their member was forgotten and only a part of what they wrote is here.
    #[must_use]
    pub fn partial_runs(&self) -> Vec<OriginId> {
        self.repl.may_return_with_more(&self.replica).map(|(origin, _)| origin).collect()
    }

    /// The last change of the seat of the member with this name, and whether that took it away.
    #[must_use]
    pub fn seat(&self, name: &str) -> Option<(Version, bool)> {
        self.repl.seat(name)
    }

    /// A name of the roster, the seal among it: another one whenever a seat is given or lost.
    #[must_use]
    pub fn roster(&self) -> u64 {
        self.repl.roster_hash()
    }

    /// Whether the member with this name has greeted, and the link with it stands.
    #[must_use]
    pub fn is_linked_with(&self, name: &str) -> bool {
        self.repl.is_linked_with(name)
    }

    /// The run that this node takes for the member with this name, another one.
    #[must_use]
    pub fn run_of(&self, name: &str) -> Option<OriginId> {
        self.repl.run_of(name)
    }

    /// Whether this run named no peers, and has met nobody yet.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.replica.exposure == Exposure::Alone
    }

    /// Whether this run has found its cluster, and peers may see what it writes; or has none to find.
    #[must_use]
    pub fn is_established(&self) -> bool {
        matches!(self.replica.exposure, Exposure::Alone | Exposure::Exposed)
    }

    /// Whether this run was told that it was forgotten, and is on its way back.
    #[must_use]
    pub fn is_returning(&self) -> bool {
        self.replica.is_returning()
    }

    /// Whether this run has given up its seat, and is out of its cluster.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.repl.has_left() == Some(Ok(()))
    }

    /// Whether this run has given up its seat, though others may not know it yet.
    #[must_use]
    pub fn gave_up_seat(&self) -> bool {
        self.repl.gave_up_seat()
    }

    /// Tombstones and husks held.
    #[must_use]
    pub fn graves(&self) -> u64 {
        self.replica.store.graves()
    }

    /// The origin of what this node writes now; a run takes another one at most once, before anybody saw the first.
    #[must_use]
    pub fn origin(&self) -> OriginId {
        self.replica.own()
    }

    /// Whether nobody may see what `origin` wrote.
    #[must_use]
    pub fn is_hidden(&self, origin: OriginId) -> bool {
        self.replica.is_hidden(origin)
    }

    /// Visits the accounts: an origin, up to where everything of it is held, and where the newest is that is held.
    pub fn accounts(&self, visit: &mut dyn FnMut(OriginId, Hlc, Hlc)) {
        for origin in self.replica.origins.iter() {
            visit(origin.id, origin.frontier, origin.held);
        }
    }

    /// What the clock that stamps writes last read.
    #[must_use]
    pub fn reading(&self) -> Hlc {
        self.replica.clock()
    }

    /// Visits the stamps in the tail, oldest first: what peers may be fed from here. Only what came behind `since`,
    /// which is 0 or what an earlier call gave; gives the tail's end.
    pub fn fed(&self, since: u64, visit: &mut dyn FnMut(Version)) -> u64 {
        let tail = &self.replica.tail;
        let mut at = tail.start().max(Pos(since));
        while at < tail.end() {
            let head = tail.head(at);
            visit(head.stamp);
            at = Tail::skip(at, head.bytes);
        }
        tail.end().0
    }

    /// Whether this run has caught up since it began, or waits for nobody any more with whom it would.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.repl.has_arrived()
    }

    /// Whether this node says of some peer that it catches up with it.
    #[must_use]
    pub fn catches_up(&self) -> bool {
        self.repl.catches_up(&self.replica)
    }

    /// The length of the ledger of retired origins and a hash of it, as peers are told.
    #[must_use]
    pub fn retired_mark(&self) -> (u32, u64) {
        let mark = self.replica.mark();
        (mark.len, mark.hash)
    }

    /// Visits the ledger behind its first `len` entries: each origin, and where its records end.
    pub fn retired(&self, len: u32, visit: &mut dyn FnMut(OriginId, Hlc)) {
        for entry in self.replica.origins.retired().since(len) {
            visit(entry.origin, entry.last);
        }
    }

    /// Whether `part` is folded once all members have the entry of its run in the ledger.
    #[must_use]
    pub fn folds(&self, part: &Part) -> bool {
        let entry = self.replica.origins.retired().folds_under(self.repl.parted(), part.origin);
        entry.is_some_and(|entry| part.since > entry.after)
    }

    /// Parts of counters that were folded so far.
    #[must_use]
    pub fn parts_folded(&self) -> u64 {
        self.repl.parts_folded()
    }

    /// Visits the conflicts listed, newest first, each with its number, which grows with each that is found; until
    /// `visit` answers false.
    pub fn conflicts(&self, visit: &mut dyn FnMut(u64, &Conflict<'_>) -> bool) {
        self.replica.ledger.iter().all(|(number, conflict)| visit(number, &conflict));
    }

    /// What replication has done.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.repl.activity(&self.replica)
    }

    /// What scrubbing has done.
    #[must_use]
    pub fn scrubbed(&self) -> Scrubbed {
        self.repl.scrub.done()
    }

    /// Rots the entry of `key`: nothing is left of it, or `left`. Nothing that a running node does.
    pub fn rot(&mut self, key: &[u8], left: Option<&Record<'_>>) {
        self.replica.store.take_out(key);
        if let Some(left) = left {
            let merged = self.replica.store.merge(left);
            assert!(merged.is_ok(), "there is room for what was there before");
        }
    }

    /// Whether as much waits for its disk as may: writes are refused, and nothing is taken from peers.
    #[must_use]
    pub fn is_disk_behind(&self) -> bool {
        self.replica.is_disk_behind()
    }

    /// What is bounded, and by how much.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let clients = (self.conns.len(), self.config.limits.clients_max + PEER_CONNECTIONS_SPARE);
        let waiters = (self.waiters.len(), self.conns.len());
        let crowded = (self.conns.crowded(), self.conns.len());
        let watchers = (self.pubsub.watchers.len(), WATCHERS_MAX);
        Gauges { clients, crowded, waiters, watchers, ..gauges::of(&self.config, &self.replica, &self.repl) }
    }
}
