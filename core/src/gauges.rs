//! Gauges: what of a node is bounded, and by how much.

use crate::config::Config;
use crate::conflicts::{CONFLICTS_MAX, LEDGER_BYTES_MAX};
use crate::feed;
use crate::origins::ORIGINS_MAX;
use crate::repl::{ENDED_MAX, LINKS_MAX, MARKS_MAX, Replication, STAGED_BYTES_MAX, UNCLEAR_MAX};
use crate::replica::{HOME_MAX, Replica};
use crate::retired::RETIRED_MAX;
use crate::store;
use crate::wire::peer::{MEMBERS_MAX, SEATS_MAX};

/// How far the answer to one frame may go past what a link may have staged.
const STAGED_OVERSHOOT_BYTES: usize = 256 << 10;

/// How far what waits for the disk may go past its limit: by the command, the record or the step of a sweep with which
/// it gets there, and by what the node has to say itself of where it stands.
const QUEUE_OVERSHOOT_BYTES: u64 = 256 << 10;

/// Sizes that must stay within their limits at every step; each pair is (now, limit).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Bytes in the tail ring.
    pub ring_bytes: (usize, usize),
    /// Addresses in the book.
    pub addresses: (usize, usize),
    /// Origins known.
    pub origins: (usize, usize),
    /// Origins in the ledger of those that have ended.
    pub retired: (usize, usize),
    /// Links, both ways.
    pub links: (usize, usize),
    /// Bytes waiting inside the node for the link that has most of them.
    pub staged_bytes: (usize, usize),
    /// Conflicts listed.
    pub conflicts: (usize, usize),
    /// Bytes that the list of conflicts takes.
    pub conflict_bytes: (usize, usize),
    /// Origins whose members' names are known.
    pub writers: (usize, usize),
    /// Origins of which entries are stored.
    pub stored_origins: (usize, usize),
    /// Members met.
    pub members: (usize, usize),
    /// Members of which is known how much of this run's stream they hold.
    pub holders: (usize, usize),
    /// Runs remembered as ended.
    pub ended: (usize, usize),
    /// Seats of the roster, those that were lost among them.
    pub seats: (usize, usize),
    /// Places of this run's stream by which the lag of peers is told.
    pub lag_marks: (usize, usize),
    /// Entries of which scrubbing cannot tell whether they were lost or deleted.
    pub unclear: (usize, usize),
    /// Versions that a member that comes back need not write anew.
    pub home: (usize, usize),
    /// Connections that are no links.
    pub clients: (usize, usize),
    /// Connections above the limit for clients, of those connected.
    pub crowded: (usize, usize),
    /// Clients that wait, of those connected.
    pub waiters: (usize, usize),
    /// Those who watch keys.
    pub watchers: (usize, usize),
    /// Changes that are kept for them.
    pub watched_changes: (usize, usize),
    /// What those take.
    pub watched_bytes: (usize, usize),
    /// Bytes that wait for the disk.
    pub disk_queue_bytes: (usize, usize),
}

impl Gauges {
    /// All of them, by name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, (usize, usize)); 24] {
        let Self { ring_bytes, addresses, origins, retired, links, staged_bytes, conflicts, conflict_bytes, .. } =
            *self;
        let Self { writers, stored_origins, members, holders, ended, seats, lag_marks, unclear, home, .. } = *self;
        let Self { clients, crowded, waiters, watchers, watched_changes, watched_bytes, disk_queue_bytes, .. } = *self;
        [
            ("ring_bytes", ring_bytes),
            ("addresses", addresses),
            ("origins", origins),
            ("retired", retired),
            ("links", links),
            ("staged_bytes", staged_bytes),
            ("conflicts", conflicts),
            ("conflict_bytes", conflict_bytes),
            ("writers", writers),
            ("stored_origins", stored_origins),
            ("members", members),
            ("holders", holders),
            ("ended", ended),
            ("seats", seats),
            ("lag_marks", lag_marks),
            ("unclear", unclear),
            ("home", home),
            ("clients", clients),
            ("crowded", crowded),
            ("waiters", waiters),
            ("watchers", watchers),
            ("watched_changes", watched_changes),
            ("watched_bytes", watched_bytes),
            ("disk_queue_bytes", disk_queue_bytes),
        ]
    }
}

/// What is bounded below the node's connections.
pub(crate) fn of(config: &Config, replica: &Replica, repl: &Replication) -> Gauges {
    Gauges {
        ring_bytes: replica.tail.bytes(),
        addresses: (repl.members.targets().len(), MEMBERS_MAX + config.peers.len()),
        origins: (replica.origins.len(), ORIGINS_MAX),
        retired: (replica.origins.retired().len() as usize, RETIRED_MAX),
        links: (repl.links.len(), LINKS_MAX),
        staged_bytes: (repl.staged_bytes(), STAGED_OVERSHOOT_BYTES + STAGED_BYTES_MAX),
        conflicts: (replica.ledger.len(), CONFLICTS_MAX),
        conflict_bytes: (replica.ledger.bytes(), LEDGER_BYTES_MAX),
        writers: (repl.writers.len(), ORIGINS_MAX),
        stored_origins: (replica.store.origins_held(), store::ORIGINS_MAX),
        members: (repl.members.len(), MEMBERS_MAX),
        holders: (repl.holders(), MEMBERS_MAX),
        ended: (repl.members.ended(), ENDED_MAX),
        seats: (repl.seats(), SEATS_MAX),
        lag_marks: (repl.marks.len(), MARKS_MAX),
        unclear: (repl.scrub.unclear(), UNCLEAR_MAX),
        home: (replica.home_len(), HOME_MAX),
        watched_changes: (replica.feed.len(), feed::CHANGES_MAX),
        watched_bytes: (replica.feed.bytes(), feed::BYTES_MAX),
        disk_queue_bytes: replica.log.as_ref().map_or((0, 0), |log| {
            let (bytes, max) = log.queue();
            (bytes as usize, max.saturating_add(QUEUE_OVERSHOOT_BYTES) as usize)
        }),
        ..Gauges::default()
    }
}
