//! What a node is told at its start.

use crate::disk::Fsync;
use crate::wire::proof::ClusterSecret;

/// Everything a node depends on besides its input. All durations are in milliseconds, all sizes in bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// All randomness: fresh from the operating system at every start, fixed in a simulation.
    pub seed: [u64; 4],
    /// The member's name: the same at every start of this node, different from every other node's.
    pub name: String,
    /// The cluster's name, the same on all of its nodes: no link stands between clusters of different names.
    pub cluster: String,
    /// `host:port` at which the other nodes reach this one.
    pub advertise: String,
    /// Addresses (`host:port`) of peers named by the operator. None: a cluster of its own until others come.
    pub peers: Vec<String>,
    /// Whom it takes for a peer.
    pub peer_auth: PeerAuth,
    /// What it speaks with peers.
    pub protocol: Protocol,
    /// Names besides its own by which HTTP clients reach this node: what they call a host by another is turned away.
    pub http_hosts: Vec<String>,
    /// Limits, with defaults that suit production; a simulation shrinks them.
    pub limits: Limits,
    /// Timers, with defaults that suit production; a simulation shortens them.
    pub timers: Timers,
    /// What it does with a disk; none: all data is in memory only.
    pub disk: Option<DiskConfig>,
}

impl Config {
    /// Of a node that names no peers, takes those on its own machine for peers, has no disk, and the limits and timers
    /// of production.
    #[must_use]
    pub fn new(seed: [u64; 4], name: impl Into<String>, advertise: impl Into<String>) -> Self {
        Self {
            seed,
            name: name.into(),
            cluster: "default".to_owned(),
            advertise: advertise.into(),
            peers: Vec::new(),
            peer_auth: PeerAuth::Loopback,
            protocol: Protocol::default(),
            http_hosts: Vec::new(),
            limits: Limits::default(),
            timers: Timers::default(),
            disk: None,
        }
    }
}

/// The versions of the protocol between nodes that a node speaks, by default those of this release.
///
/// Releases that follow each other share one, so that nodes of both are one cluster while it is upgraded. Two nodes
/// speak the newest version that both do; if there is none, they turn each other away. A simulation plays the releases
/// before and after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The first.
    pub oldest: u16,
    /// The last.
    pub newest: u16,
}

impl Protocol {
    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, theirs: Self) -> Option<u16> {
        let newest = self.newest.min(theirs.newest);
        (newest >= self.oldest.max(theirs.oldest)).then_some(newest)
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self { oldest: 4, newest: 5 }
    }
}

/// Whom a node takes for a peer.
#[derive(Clone, Debug)]
pub enum PeerAuth {
    /// Whoever proves to know one of these, as this node does in turn. There are two while they change, node by node.
    Secret {
        /// The one that all will have.
        first: ClusterSecret,
        /// The one that some still have, or the other way round.
        second: Option<ClusterSecret>,
    },
    /// Without a secret: whoever is on the same machine.
    Loopback,
    /// Without a secret: everybody.
    Anybody,
}

/// Bounds on what a node keeps and takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The tail of newest records that peers are fed from. A peer further behind catches up by a sweep.
    pub ring_bytes: usize,
    /// Longest key.
    pub key_bytes_max: usize,
    /// Longest value; by the line dialect no more than a line holds.
    pub value_bytes_max: usize,
    /// Longest command line, its end included.
    pub line_bytes_max: usize,
    /// Longest request of a Redis client, all of its arguments together.
    pub request_bytes_max: usize,
    /// Most arguments of one request of a Redis client.
    pub args_max: usize,
    /// Unsent replies past which a client is not read further.
    pub output_bytes_max: usize,
    /// Client connections at once.
    pub clients_max: usize,
    /// Memory past which clients' writes are refused that may make the data grow; 0: none. What `STATS`
    /// calls `memory_bytes` is what counts.
    pub memory_bytes_max: u64,
    /// Slots with something in them that the collector looks at in one step: some 100 microseconds of clients' time.
    pub collect_slots_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A minute of 10,000 writes a second of 100 bytes: longer than a restart or a switch's reboot takes.
            ring_bytes: 64 << 20,
            // The header of an entry has 17 bits for it; longer keys are values in the wrong place.
            key_bytes_max: 64 << 10,
            // One value is copied in one go; at 64 MiB that is some 10 ms.
            value_bytes_max: 64 << 20,
            // What a person or a script sends as one line; a bigger value wants a dialect with lengths.
            line_bytes_max: 1 << 20,
            // A value of the greatest length and its like: what one client can have the node hold for it.
            request_bytes_max: 128 << 20,
            // What Redis allows, too.
            args_max: 1 << 20,
            // Enough to keep a fast link busy, small enough that 10,000 clients who do not read cannot fill the memory.
            output_bytes_max: 1 << 20,
            // The number Redis users know; the rest of the usual 65,536 descriptors is for peers and files.
            clients_max: 10_000,
            memory_bytes_max: 0,
            collect_slots_max: 1_024,
        }
    }
}

/// How a node uses its disk.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// When a write counts as taken.
    pub fsync: Fsync,
    /// Length at which a segment of the log is followed by the next.
    pub segment_bytes: u64,
    /// How much log there may be for a snapshot, in percent of the last one's length, ...
    pub snapshot_ratio_percent: u32,
    /// ... and for how much of it none is begun unasked, however little was in the last one.
    pub snapshot_bytes_min: u64,
    /// What may wait for the disk: past it, client writes are refused and nothing is taken from peers, until it has
    /// come down to half of that.
    pub queue_bytes_max: u64,
    /// A node that finds damage at its start is not to start.
    pub strict: bool,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            // Some seconds of a busy node's writes.
            segment_bytes: 64 << 20,
            // The number Redis users know: a start reads at most about twice what there is.
            snapshot_ratio_percent: 100,
            // A second or two of a start. A busy node with little data would write a snapshot every second otherwise.
            snapshot_bytes_min: 256 << 20,
            // A second or two of a disk at its full speed, and what a disk that hangs costs of the memory.
            queue_bytes_max: 256 << 20,
            strict: false,
        }
    }
}

/// Periods and time-outs.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Between heartbeats on a link.
    pub heartbeat_ms: u64,
    /// A link on which nothing was received for this long is dead.
    pub silence_ms: u64,
    /// First wait before a peer is dialed again; doubles up to `redial_ms_max`, with jitter.
    pub redial_ms_min: u64,
    /// Longest wait before a peer is dialed again; less than `redial_ms_min` counts as that.
    pub redial_ms_max: u64,
    /// An origin whose own link made no progress for this long is taken from another peer that has more of it.
    pub relay_ms: u64,
    /// An origin that nobody reached for this long is treated as ended: its unclaimed records are announced again.
    pub orphan_ms: u64,
    /// Between two looks for deletes that every member has seen.
    pub collect_ms: u64,
    /// A member that this node had no link with for this long loses its seat, as by `FORGET`; 0: never.
    pub absence_ms: u64,
    /// A peer whose wall clock is further ahead than this is not read.
    pub clock_ahead_ms_max: u64,
}

impl Timers {
    /// How long a peer is waited for before it is dialed again that was waited for this long before.
    pub(crate) fn redial_ms_after(&self, redial_ms: u64) -> u64 {
        redial_ms.saturating_mul(2).clamp(self.redial_ms_min, self.redial_ms_max.max(self.redial_ms_min))
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat_ms: 500,
            // Three heartbeats missed, and still noticed within two seconds.
            silence_ms: 1_800,
            redial_ms_min: 100,
            redial_ms_max: 2_000,
            relay_ms: 1_000,
            orphan_ms: 3_000,
            // Deletes are back within a few heartbeats, and a walk over the slots that have some is nothing beside it.
            collect_ms: 1_000,
            absence_ms: 0,
            clock_ahead_ms_max: 60_000,
        }
    }
}
