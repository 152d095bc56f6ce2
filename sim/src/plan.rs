//! A plan: everything that happens to a cluster, as data with times.
//!
//! A seed draws one (see [`swarm`](crate::swarm)), a person may write one, both engines run it. Each fault carries its
//! own end, so that a plan with any item left out is still a plan. Random detail that a plan does not spell out
//! (latencies, chunk sizes) is drawn by [`keyed`] from `seed` and from what it is for.
//!
//! The run has three phases: *load* until `load_ms`, in which the items happen; *heal*, one instant in which cuts end,
//! clocks come back, the paused resume and the killed restart, for the nodes in `survivors`, while all others stop for
//! ever; and *quiet*, until the survivors agree or the bound computed from this plan has passed.

use std::io::Write;

use kv_core::{ClusterSecret, Config, DiskConfig, Fsync, Limits, Node, PeerAuth, Protocol, Timers};

use crate::rng::{keyed, scale};

/// Most nodes in a plan: node sets are bits of a `u64`, and a full mesh of eight is big enough to find what three do
/// not.
pub const NODES_MAX: u64 = 8;

/// What happens, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the random detail; that the same seed may have drawn the rest does not matter.
    pub seed: u64,
    /// The cluster, its network, its sizes.
    pub setting: Setting,
    /// In order of time: microseconds since the start, and what happens then.
    pub items: Vec<(u64, Item)>,
}

/// The cluster, its network, its sizes. All numbers, so that text and tests can name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Nodes, named `n0`, `n1`, …
    pub nodes: u64,
    /// Clients; client `c` speaks to node `c % nodes` until it moves.
    pub clients: u64,
    /// Keys, named `k0`, `k1`, …
    pub keys: u64,
    /// Counters, named `c0`, `c1`, …
    pub counters: u64,
    /// Hashes, named `h0`, `h1`, …: if there are any, key number `k` is the field `k<k>` of hash `k % hashes`, and so
    /// is a counter.
    pub hashes: u64,
    /// Which peers a node names on its command line, see [`Setting::peers`]: 0 all others, 1 `n0`, 2 the one before it,
    /// 3 the one after it, in a ring.
    pub topology: u64,
    /// Length of the load phase.
    pub load_ms: u64,
    /// Bit `n`: node `n` is healed when the load ends. The others stop for ever then.
    pub survivors: u64,
    /// [`Limits::ring_bytes`].
    pub ring_bytes: u64,
    /// [`Limits::output_bytes_max`].
    pub output_bytes_max: u64,
    /// [`Limits::collect_slots_max`].
    pub collect_slots_max: u64,
    /// [`Timers::heartbeat_ms`].
    pub heartbeat_ms: u64,
    /// [`Timers::silence_ms`].
    pub silence_ms: u64,
    /// [`Timers::redial_ms_min`].
    pub redial_ms_min: u64,
    /// [`Timers::redial_ms_max`].
    pub redial_ms_max: u64,
    /// [`Timers::relay_ms`].
    pub relay_ms: u64,
    /// [`Timers::orphan_ms`].
    pub orphan_ms: u64,
    /// [`Timers::collect_ms`].
    pub collect_ms: u64,
    /// [`Timers::absence_ms`].
    pub absence_ms: u64,
    /// [`Timers::clock_ahead_ms_max`].
    pub clock_ahead_ms_max: u64,
    /// Shortest time from one machine to another.
    pub latency_us_min: u64,
    /// What is added to it on average.
    pub latency_us_mean: u64,
    /// Of each direction of each connection.
    pub bandwidth_bytes_per_s: u64,
    /// Bytes that a sender may have under way or unread before its socket is full.
    pub window_bytes: u64,
    /// How a receiver's reads cut the stream: 0 as much as there is, 1 at random, 2 byte by byte.
    pub chunking: u64,
    /// After how long a dial that nobody answers is tried again by the system; it gives up after seven times that.
    pub dial_retry_ms: u64,
    /// Nodes' clocks start within this of the true time, either way, and come back to within it at the heal.
    pub skew_ms: u64,
    /// 1: the quiet phase lasts to its bound even when the survivors agree sooner.
    pub linger: u64,
    /// Whether nodes have disks: 0 no, else when they are synced, see [`Setting::fsync`].
    pub durable: u64,
    /// [`DiskConfig::segment_bytes`] and [`DiskConfig::snapshot_bytes_min`].
    pub segment_bytes: u64,
    /// [`DiskConfig::queue_bytes_max`].
    pub queue_bytes_max: u64,
    /// [`DiskConfig::snapshot_ratio_percent`].
    pub snapshot_ratio_percent: u64,
    /// What a sync takes on average.
    pub sync_us_mean: u64,
    /// What a read takes while a node loads; 0: a node has loaded when it starts.
    pub load_us: u64,
    /// Whether peers prove to know a secret: 0 no, 1 yes, 2 the secret is being changed: each run but the first of a
    /// node is started with the new one besides, or not yet.
    pub secrets: u64,
    /// Which versions of the protocol runs speak: 0 those of this release; 1 each that one, some the one before or the
    /// one after it besides; 2 each the one before, some that of this release besides; 3 some nodes begin with the one
    /// before alone, and the others with that of this release alone, which is what all speak once they were restarted.
    pub protocols: u64,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field is named by its unit or its type; what needs a word has it on its variant")]
pub enum Item {
    /// A client sends a command, connecting first if it has no connection.
    Ask { client: u64, ask: Ask },
    /// A client ends its connection without waiting for replies.
    Hangup { client: u64 },
    /// A client does not read what it is sent.
    Deaf { client: u64, ms: u64 },
    /// A client ends its connection and speaks to `node` from now on.
    Move { client: u64, node: u64 },
    /// Something breaks.
    Fault(Fault),
}

/// A command of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field is named by its unit or its type; what needs a word has it on its variant")]
pub enum Ask {
    /// Sets `key` to a value that no other item writes: [`value`] of `token` and `pad`. `ttl_ms` 0: for ever.
    Set {
        key: u64,
        token: u64,
        pad: u64,
        ttl_ms: u64,
    },
    Get {
        key: u64,
    },
    Del {
        key: u64,
    },
    Ttl {
        key: u64,
    },
    /// Waits until `copies` other nodes hold what its connection wrote last; `ms` 0: for ever.
    Wait {
        copies: u64,
        ms: u64,
    },
    /// Asks for a token of what its connection wrote last.
    Token,
    /// Waits for the newest token that client `from` was told; `ms` 0: for ever.
    WaitFor {
        from: u64,
        ms: u64,
    },
    /// Who wrote it, and who holds it.
    Why {
        key: u64,
    },
    /// What lost to concurrent writes.
    Conflicts,
    /// Adds to a counter.
    Add {
        counter: u64,
        amount: i64,
    },
    /// Sets a counter, for ever if `ttl_ms` is 0.
    Start {
        counter: u64,
        at: u64,
        ttl_ms: u64,
    },
    /// Deletes a counter.
    Clear {
        counter: u64,
    },
    /// Reads a counter.
    Sum {
        counter: u64,
    },
    /// Deletes all keys and counters.
    Flush,
    /// Deletes a hash.
    Drop {
        hash: u64,
    },
    Ping,
    Stats,
    /// Subscribes to [`CHANNEL`].
    Subscribe,
    /// Says on it what no other item says: the [`value`] of `token` and `pad`.
    Publish {
        token: u64,
        pad: u64,
    },
    /// Has the cluster forget `node`, which may be up.
    Forget {
        node: u64,
    },
    /// Has its node leave the cluster.
    Leave,
}

/// Something that breaks. `ms` is how long; whatever lasts ends with the load at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field is named by its unit or its type; what needs a word has it on its variant")]
pub enum Fault {
    /// Nothing passes between the nodes in the set `side` and those outside, in either direction.
    Partition { side: u64, ms: u64 },
    /// Nothing passes from `from` to `to`; what was sent is sent again after the cut.
    Cut { from: u64, to: u64, ms: u64 },
    /// What `from` sends to `to` stands still and then goes on.
    Stall { from: u64, to: u64, ms: u64 },
    /// Everything from `from` to `to` takes `factor` times as long.
    Slow { from: u64, to: u64, ms: u64, factor: u64 },
    /// Every KiB from `from` to `to` takes `us` longer on its link: a thin pipe, that is no slower for a byte.
    Thin { from: u64, to: u64, ms: u64, us: u64 },
    /// One bit of what `from` sends to `to` next, on each of their connections, arrives wrong.
    Garble { from: u64, to: u64 },
    /// Somebody who is no member and no client connects to `node`, sends some `bytes` of what `kind` says and stays for
    /// `ms`: see [`intruder`](crate::intruder).
    Intrude { node: u64, kind: u64, bytes: u64, ms: u64 },
    /// All connections between two nodes are reset; each end hears of it.
    Reset { from: u64, to: u64 },
    /// All connections between two nodes lose everything from now on, and neither end hears of it.
    HalfOpen { from: u64, to: u64 },
    /// The process and its memory are gone; a new run starts after `ms`. With `silent` the machine went with it: no
    /// peer hears of it, and dials are not even refused. `alone`: it restarts without peers on its command line.
    Kill { node: u64, ms: u64, silent: bool, alone: bool },
    /// The process stands still; its sockets stay.
    Pause { node: u64, ms: u64 },
    /// The process stands still, a new run of the same member starts at once, and after `ms` the old one goes on.
    Supersede { node: u64, ms: u64 },
    /// The wall clock jumps by `step_ms` and from then on runs `drift_ppm` too fast.
    Clock { node: u64, step_ms: i64, drift_ppm: i64 },
    /// The memory of a process loses what it holds of `key`, and nobody notices.
    Rot { node: u64, key: u64 },
    /// The machine loses its power, and its disk what was not synced; it starts again after `ms`.
    Crash { node: u64, ms: u64 },
    /// There is no room on a disk.
    DiskFull { node: u64, ms: u64 },
    /// A disk fails at most that it is asked to do, and what it had in hand may be there in part: `kind` 0 writing, 1
    /// syncing, 2 reading.
    DiskFail { node: u64, kind: u64, ms: u64 },
    /// A disk takes `us` longer for each sync, and now and then for a write.
    DiskSlow { node: u64, ms: u64, us: u64 },
    /// A bit turns in what a disk has, and stays wrong; which one depends on `bit`.
    Flip { node: u64, bit: u64 },
    /// A backup of a node's data directory is taken, as `simple-kv backup` takes it, and a copy of all its files.
    Backup { node: u64 },
    /// The process ends, its directory gives way to the newest backup of it, as `simple-kv restore` makes one of that,
    /// and the node starts on it after `ms`. Nothing happens if there is no backup.
    Restore { node: u64, ms: u64 },
    /// The same with the copy of all files, which is put back by hand: the node is told nothing of it.
    Rollback { node: u64, ms: u64 },
}

impl Setting {
    /// A calm cluster with the timers of production: what a hand-written plan starts from.
    #[must_use]
    pub fn calm(nodes: u64) -> Self {
        let timers = Timers::default();
        Self {
            nodes,
            clients: nodes,
            keys: 4,
            counters: 0,
            hashes: 0,
            topology: 0,
            load_ms: 5_000,
            survivors: (1 << nodes) - 1,
            ring_bytes: 64 << 10,
            output_bytes_max: 64 << 10,
            collect_slots_max: 1_024,
            heartbeat_ms: timers.heartbeat_ms,
            silence_ms: timers.silence_ms,
            redial_ms_min: timers.redial_ms_min,
            redial_ms_max: timers.redial_ms_max,
            relay_ms: timers.relay_ms,
            orphan_ms: timers.orphan_ms,
            collect_ms: timers.collect_ms,
            absence_ms: timers.absence_ms,
            clock_ahead_ms_max: timers.clock_ahead_ms_max,
            latency_us_min: 200,
            latency_us_mean: 300,
            bandwidth_bytes_per_s: 10 << 20,
            window_bytes: 64 << 10,
            chunking: 0,
            dial_retry_ms: 1_000,
            skew_ms: 0,
            linger: 0,
            durable: 0,
            segment_bytes: 4 << 10,
            queue_bytes_max: 256 << 20,
            snapshot_ratio_percent: 100,
            sync_us_mean: 500,
            load_us: 0,
            secrets: 0,
            protocols: 0,
        }
    }

    /// When nodes' disks are synced; `None`: they have none.
    #[must_use]
    pub const fn fsync(&self) -> Option<Fsync> {
        match self.durable {
            0 => None,
            1 => Some(Fsync::Always),
            2 => Some(Fsync::EverySec),
            _ => Some(Fsync::No),
        }
    }

    /// The peers that `node` names on its command line, as node numbers.
    #[must_use]
    pub fn peers(&self, node: u64) -> Vec<u64> {
        match self.topology {
            0 => (0..self.nodes).filter(|peer| *peer != node).collect(),
            1 => (node != 0).then_some(0).into_iter().collect(),
            2 => node.checked_sub(1).into_iter().collect(),
            _ => (self.nodes > 1).then_some((node + 1) % self.nodes).into_iter().collect(),
        }
    }

    /// The hash that key or counter `number` is a field of, if they are fields.
    #[must_use]
    pub const fn hash_of(&self, number: u64) -> Option<u64> {
        number.checked_rem(self.hashes)
    }

    /// What nodes store key number `key` as.
    #[must_use]
    pub fn key_name(&self, key: u64) -> Vec<u8> {
        self.stored(key, key_text(key))
    }

    /// What nodes store counter number `counter` as.
    #[must_use]
    pub fn counter_name(&self, counter: u64) -> Vec<u8> {
        self.stored(counter, counter_text(counter))
    }

    fn stored(&self, number: u64, text: String) -> Vec<u8> {
        match self.hash_of(number) {
            Some(hash) => Node::field_name(hash_text(hash).as_bytes(), text.as_bytes()),
            None => text.into_bytes(),
        }
    }

    /// The node that `client` speaks to at first.
    #[must_use]
    pub const fn home(&self, client: u64) -> u64 {
        client % self.nodes
    }

    /// Whether every survivor is reached from every other over who names whom on its command line, when the nodes in
    /// `alone` name nobody. If not, no protocol brings them together. Of those that leave, see
    /// [`Plan::survivors_meet`].
    #[must_use]
    pub fn survivors_meet(&self, alone: u64) -> bool {
        let is_in = |set: u64, node: u64| (set >> node) & 1 == 1;
        let names = |node: u64, peer: u64| !is_in(alone, node) && self.peers(node).contains(&peer);
        let mut reached = self.survivors & self.survivors.wrapping_neg();
        for _ in 0..self.nodes {
            for (node, peer) in (0..self.nodes).flat_map(|node| (0..self.nodes).map(move |peer| (node, peer))) {
                let both_survive = is_in(self.survivors, node) && is_in(self.survivors, peer);
                if both_survive && is_in(reached, peer) && (names(node, peer) || names(peer, node)) {
                    reached |= 1 << node;
                }
            }
        }
        reached == self.survivors
    }

    /// The numbers by name, for text.
    pub(crate) fn fields(&mut self) -> [(&'static str, &mut u64); 36] {
        [
            ("nodes", &mut self.nodes),
            ("clients", &mut self.clients),
            ("keys", &mut self.keys),
            ("counters", &mut self.counters),
            ("hashes", &mut self.hashes),
            ("topology", &mut self.topology),
            ("load_ms", &mut self.load_ms),
            ("survivors", &mut self.survivors),
            ("ring_bytes", &mut self.ring_bytes),
            ("output_bytes_max", &mut self.output_bytes_max),
            ("collect_slots_max", &mut self.collect_slots_max),
            ("heartbeat_ms", &mut self.heartbeat_ms),
            ("silence_ms", &mut self.silence_ms),
            ("redial_ms_min", &mut self.redial_ms_min),
            ("redial_ms_max", &mut self.redial_ms_max),
            ("relay_ms", &mut self.relay_ms),
            ("orphan_ms", &mut self.orphan_ms),
            ("collect_ms", &mut self.collect_ms),
            ("absence_ms", &mut self.absence_ms),
            ("clock_ahead_ms_max", &mut self.clock_ahead_ms_max),
            ("latency_us_min", &mut self.latency_us_min),
            ("latency_us_mean", &mut self.latency_us_mean),
            ("bandwidth_bytes_per_s", &mut self.bandwidth_bytes_per_s),
            ("window_bytes", &mut self.window_bytes),
            ("chunking", &mut self.chunking),
            ("dial_retry_ms", &mut self.dial_retry_ms),
            ("skew_ms", &mut self.skew_ms),
            ("linger", &mut self.linger),
            ("durable", &mut self.durable),
            ("segment_bytes", &mut self.segment_bytes),
            ("queue_bytes_max", &mut self.queue_bytes_max),
            ("snapshot_ratio_percent", &mut self.snapshot_ratio_percent),
            ("sync_us_mean", &mut self.sync_us_mean),
            ("load_us", &mut self.load_us),
            ("secrets", &mut self.secrets),
            ("protocols", &mut self.protocols),
        ]
    }
}

impl Plan {
    /// What run number `run` (over all nodes, never reused) of `node` is started with.
    #[must_use]
    pub fn config(&self, node: u64, run: u64, alone: bool) -> Config {
        let setting = &self.setting;
        let peers = if alone { Vec::new() } else { setting.peers(node).into_iter().map(address).collect() };
        let seed = [0, 1, 2, 3].map(|word| keyed(self.seed, &[0x5eed, node, run, word]));
        Config {
            cluster: "sim".to_owned(),
            peers,
            peer_auth: self.peer_auth(node, run),
            protocol: self.protocol(node, run),
            limits: Limits {
                ring_bytes: size(setting.ring_bytes),
                output_bytes_max: size(setting.output_bytes_max),
                collect_slots_max: size(setting.collect_slots_max),
                ..Limits::default()
            },
            timers: Timers {
                heartbeat_ms: setting.heartbeat_ms,
                silence_ms: setting.silence_ms,
                redial_ms_min: setting.redial_ms_min,
                redial_ms_max: setting.redial_ms_max,
                relay_ms: setting.relay_ms,
                orphan_ms: setting.orphan_ms,
                collect_ms: setting.collect_ms,
                absence_ms: setting.absence_ms,
                clock_ahead_ms_max: setting.clock_ahead_ms_max,
            },
            disk: setting.fsync().map(|fsync| DiskConfig {
                fsync,
                segment_bytes: setting.segment_bytes,
                snapshot_bytes_min: setting.segment_bytes,
                snapshot_ratio_percent: u32::try_from(setting.snapshot_ratio_percent).unwrap_or(u32::MAX),
                queue_bytes_max: setting.queue_bytes_max,
                strict: false,
            }),
            ..Config::new(seed, format!("n{node}"), address(node))
        }
    }

    /// The versions that a run speaks, see [`Setting::protocols`].
    #[must_use]
    pub fn protocol(&self, node: u64, run: u64) -> Protocol {
        let current = Protocol::default();
        let (before, after) = (current.oldest - 1, current.newest + 1);
        let draw = keyed(self.seed, &[0x9407, node, run]) % 3;
        match (self.setting.protocols, draw) {
            (1, 0) => Protocol { oldest: before, ..current },
            (1, 1) => Protocol { newest: after, ..current },
            (2, 0) => Protocol { oldest: before, ..current },
            (2, _) => Protocol { oldest: before, newest: before },
            (3, _) if run < self.setting.nodes && (self.seed >> node) & 1 == 1 => {
                Protocol { oldest: before, newest: before }
            }
            _ => current,
        }
    }

    /// Whether a run, when all is healed, has to give way to one that speaks with everybody.
    #[must_use]
    pub fn is_outdated(&self, node: u64, run: u64) -> bool {
        self.setting.protocols == 3 && self.protocol(node, run) != Protocol::default()
    }

    /// Whom a run takes for a peer. All of a plan know one secret, whatever else they know.
    fn peer_auth(&self, node: u64, run: u64) -> PeerAuth {
        let secret = |text: &[u8]| ClusterSecret::new(text).expect("long enough");
        let (old, new) = (secret(b"the secret that all nodes know"), secret(b"the secret that they will know"));
        let draw = if run < self.setting.nodes { 0 } else { keyed(self.seed, &[0x5ec, node, run]) % 3 };
        match (self.setting.secrets, draw) {
            (0, _) => PeerAuth::Anybody,
            (1, _) | (_, 0) => PeerAuth::Secret { first: old, second: None },
            (_, 1) => PeerAuth::Secret { first: old, second: Some(new) },
            (_, _) => PeerAuth::Secret { first: new, second: Some(old) },
        }
    }

    /// Whether the survivors find each other when the nodes in `alone` name nobody, as
    /// [`Setting::survivors_meet`] says: whichever of those that are asked to leave do so, for nobody finds the others
    /// through who has left.
    #[must_use]
    pub fn survivors_meet(&self, alone: u64) -> bool {
        let leavers = self.items.iter().filter_map(|(_, item)| match *item {
            Item::Ask { client, ask: Ask::Leave } => Some(1 << self.setting.home(client)),
            _ => None,
        });
        let leavers = leavers.fold(0, |set, node: u64| set | node);
        let mut gone = leavers;
        loop {
            let stay = Setting { survivors: self.setting.survivors & !gone, ..self.setting };
            if !stay.survivors_meet(alone) {
                return false;
            }
            if gone == 0 {
                return true;
            }
            gone = (gone - 1) & leavers;
        }
    }

    /// What a clock is off by when nothing is wrong with it; `when` tells the start from the heal.
    #[must_use]
    pub fn skew_ms(&self, node: u64, when: u64) -> i64 {
        let skew = self.setting.skew_ms;
        let draw = scale(keyed(self.seed, &[0xc10c, node, when]), 2 * skew + 1);
        draw.cast_signed() - skew.cast_signed()
    }

    /// Entries that rot.
    #[must_use]
    pub fn rots(&self) -> u64 {
        self.items.iter().filter(|(_, item)| matches!(item, Item::Fault(Fault::Rot { .. }))).count() as u64
    }

    /// Puts the items in order of time; equal times keep their order.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.items.sort_by_key(|(at_us, _)| *at_us);
        self
    }
}

/// Where `node` is reached, as its peers write it.
#[must_use]
pub fn address(node: u64) -> String {
    format!("n{node}:1")
}

/// The node at `address`, if it is one of `nodes`.
#[must_use]
pub fn node_at(address: &str, nodes: u64) -> Option<u64> {
    let node = address.strip_prefix('n')?.strip_suffix(":1")?.parse().ok()?;
    (node < nodes).then_some(node)
}

/// The text of key number `key`; those of a wide space of keys are long, too.
#[must_use]
pub fn key_text(key: u64) -> String {
    /// Beyond any key that is not of a wide space.
    const LONG_FROM: u64 = 100;
    format!("k{key}{}", if key < LONG_FROM { String::new() } else { "-".repeat(size(key)) })
}

/// The text of counter number `counter`.
#[must_use]
pub fn counter_text(counter: u64) -> String {
    format!("c{counter}")
}

/// The text of hash number `hash`.
#[must_use]
pub fn hash_text(hash: u64) -> String {
    format!("h{hash}")
}

/// The channel of all messages.
pub const CHANNEL: &str = "news";

/// The value that names its write: the token, then `pad` bytes that depend on it.
#[must_use]
pub fn value(token: u64, pad: u64) -> String {
    let fill = b'a' + u8::try_from(token % 26).expect("a letter");
    // A `t`, twenty digits at most, a dot.
    let mut text = Vec::with_capacity(22 + size(pad));
    write!(text, "t{token}.").expect("a list takes all");
    text.resize(text.len() + size(pad), fill);
    String::from_utf8(text).expect("ASCII")
}

/// Whether `bytes` are the [`value`] of a write.
#[must_use]
pub fn is_value(bytes: &[u8], token: u64, pad: u64) -> bool {
    let Some((head, fill)) = bytes.len().checked_sub(size(pad)).map(|at| bytes.split_at(at)) else { return false };
    // A `t`, the digits and a dot: no more of them than it takes.
    let digits = size(u64::from(token.checked_ilog10().unwrap_or(0))) + 1;
    let is_named = head.len() == digits + 2 && head.ends_with(b".") && token_of(head) == Some(token);
    is_named && fill.iter().all(|byte| u64::from(*byte) == u64::from(b'a') + token % 26)
}

/// The token in a value, if it looks like one.
#[must_use]
pub fn token_of(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"t")?;
    let end = digits.iter().position(|byte| *byte == b'.')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// A number of the plan as a size in memory.
pub(crate) fn size(number: u64) -> usize {
    usize::try_from(number).expect("sizes in a plan fit the memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each node names the one after it, or all the first.
    #[test]
    fn who_leaves_leads_nobody_to_the_others() {
        let plan: Plan = "nodes 3\nclients 3\ntopology 3\nsurvivors 7\n9 leave client=1".parse().expect("a plan");
        assert!(plan.survivors_meet(0), "n2 names n0");
        assert!(plan.survivors_meet(1 << 0) && plan.survivors_meet(1 << 1), "it still does");
        assert!(plan.setting.survivors_meet(1 << 2) && !plan.survivors_meet(1 << 2), "only n1 is named by n0");
        let chain: Plan = "nodes 3\nclients 3\ntopology 1\nsurvivors 7\n9 leave client=0".parse().expect("a plan");
        assert!(!chain.survivors_meet(0), "all name who leaves");
    }

    #[test]
    fn none_of_those_that_are_asked_to_leave_need_do_so() {
        let text = "nodes 3\nclients 3\ntopology 0\nsurvivors 7\n9 leave client=1\n9 leave client=2";
        let plan: Plan = text.parse().expect("a plan");
        assert!(plan.survivors_meet(0b001) && plan.survivors_meet(0b010));
        assert!(!plan.survivors_meet(0b011), "n2 may leave, and n1 stay");
    }

    #[test]
    fn a_value_is_told_from_all_others() {
        for (token, pad) in [(0, 0), (7, 3), (10, 0), (1_000, 40), (u64::MAX, 1)] {
            let text = value(token, pad);
            assert!(is_value(text.as_bytes(), token, pad), "{text}");
            assert!(!is_value(text.as_bytes(), token, pad + 1) && !is_value(text.as_bytes(), token ^ 1, pad));
            assert!(!is_value(format!("{text}x").as_bytes(), token, pad));
            assert!(!is_value(format!("{text}x").as_bytes(), token, pad + 1));
            assert!(!is_value(text.replacen('t', "t0", 1).as_bytes(), token, pad));
        }
        assert!(!is_value(b"", 0, 0) && !is_value(b"", 0, 9) && !is_value(b"t+7.", 7, 0) && is_value(b"t7.", 7, 0));
    }
}
