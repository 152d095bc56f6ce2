//! A node: the entry points, and nothing but dispatch.

mod oracles;

use std::collections::BTreeSet;

use crate::boundary::{Action, AddrId, Close, ConnId, Effects, Event};
use crate::config::Config;
use crate::disk::{Keeper, Log};
use crate::http::{self, HttpSession, Sniffed};
use crate::rand::Rand;
use crate::repl::{Context, LINKS_MAX, Replication};
use crate::replica::{Exposure, Replica};
use crate::runner::Runner;
use crate::session::{self, ClientSession};
use crate::stats::Counters;
use crate::store::WARM_KEYS;
use crate::time::{Mono, Now};
use crate::version::OriginId;
use crate::waiters::{Filled, Waiters};
use crate::wire::peer::PREAMBLE;
use crate::wire::token::cluster_tag;

/// Connections above the limit for clients that are let in far enough to see whether a peer is calling.
const PEER_CONNECTIONS_SPARE: usize = LINKS_MAX;

/// A node of the cluster as a pure state machine.
///
/// A driver calls [`receive`](Self::receive) with the bytes of a connection, [`handle`](Self::handle) with what else
/// happened, and [`fill`](Self::fill) when an [`Action::Wake`] said that a connection has something to send. Any order
/// of calls is legal. Each takes a [`Now`]; its `mono` never goes back. [`Turn`](crate::Turn) holds the buffers of a
/// driver and the order of a turn.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) replica: Replica,
    pub(crate) repl: Replication,
    conns: Vec<Option<Conn>>,
    /// Those let in above the limit for clients that have not said what they are, by when they were opened.
    crowded: BTreeSet<(Mono, ConnId)>,
    counters: Counters,
    pub(crate) waiters: Waiters,
    cluster_tag: u32,
    /// None without a disk.
    pub(crate) keeper: Option<Box<Keeper>>,
}

/// What a connection turned out to be.
#[derive(Debug)]
enum Conn {
    /// Its first bytes will say. `crowded`: there is room for a peer only; when it was opened.
    Unknown {
        crowded: Option<Mono>,
    },
    Client(Box<ClientSession>),
    Http(Box<HttpSession>),
    Link,
}

impl Conn {
    /// Takes bytes of a client, as [`Node::receive`] does; how many, and whether the connection is to end.
    fn receive(&mut self, bytes: &[u8], reply: &mut Vec<u8>, runner: &mut Runner<'_>) -> (usize, bool) {
        match self {
            Self::Client(session) => {
                let limits = &runner.config.limits;
                let used =
                    session.receive(limits, bytes, reply, &mut |command, client, out| runner.run(command, client, out));
                (used, session.has_left())
            }
            Self::Http(session) => {
                let used = session.receive(bytes, reply, runner);
                (used, session.has_left())
            }
            Self::Unknown { .. } | Self::Link => (bytes.len(), false),
        }
    }
}

impl Node {
    /// A node at its start, with nothing in it. One with a [disk](Config::disk) is loading until what
    /// [`begin_load`](Self::begin_load) was given is read.
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        let mut rand = Rand::new(config.seed);
        let run = OriginId(rand.next_u64() | 1);
        let hash_key = [rand.next_u64(), rand.next_u64()];
        // Who names peers asks them first what time it is there; who names none asks whoever comes.
        let exposure = if config.peers.is_empty() { Exposure::Alone } else { Exposure::Hidden };
        let mut replica = Replica::new(run, hash_key, config.limits.ring_bytes, exposure, now.mono);
        if !config.peers.is_empty() {
            replica.keep_tail();
        }
        let repl = Replication::new(&config, run, rand, now);
        let keeper = config.disk.as_ref().map(|disk| {
            replica.log = Some(Box::new(Log::new(&config, disk, now.mono)));
            Box::new(Keeper::new(config.seed, disk))
        });
        Self {
            cluster_tag: cluster_tag(&config.cluster),
            config,
            replica,
            repl,
            conns: Vec::new(),
            crowded: BTreeSet::new(),
            counters: Counters::default(),
            waiters: Waiters::default(),
            keeper,
        }
    }

    /// Runs every complete command or frame in `bytes`, appends replies to `reply`, returns the bytes used. It stops
    /// early at an incomplete command, once `reply` [is full](Self::is_full), or when the client
    /// [waits](Self::is_waiting): the caller keeps the rest and calls again with more, after the output has drained,
    /// or after [`fill`](Self::fill) has given the late reply.
    pub fn receive(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> usize {
        let mut used = 0;
        loop {
            let (ahead, all) = (self.warm_for(conn, &bytes[used..]), bytes.len() - used);
            let taken = self.receive_some(now, conn, &bytes[used..used + ahead], reply, effects);
            used += taken;
            if taken < ahead && ahead < all {
                // What seemed to be lines may be one request.
                return used + self.receive_some(now, conn, &bytes[used..], reply, effects);
            }
            if taken < ahead || used == bytes.len() {
                return used;
            }
        }
    }

    /// Gets ready for the commands with which the input of a client begins; how many bytes those are.
    fn warm_for(&self, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(Some(Conn::Client(_))) = self.conns.get(conn.0 as usize) else { return bytes.len() };
        let mut keys = [&[][..]; WARM_KEYS];
        let (count, used) = session::peek(bytes, &mut keys);
        // A single one would wait just as long.
        if count > 1 {
            self.replica.store.warm(&keys[..count]);
        }
        used
    }

    fn receive_some(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> usize {
        let (loading, is_withheld) = (self.loading(), self.is_withheld());
        let Self { config, replica, repl, conns, crowded: late, counters, waiters, cluster_tag, keeper } = self;
        let Some(state) = conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return bytes.len() };
        if let Conn::Unknown { crowded } = *state {
            let peer = bytes.starts_with(&PREAMBLE);
            if !peer && PREAMBLE.starts_with(bytes) {
                return 0;
            }
            let cx = &mut Context { config, replica, effects };
            if peer && (loading.is_some() || is_withheld) {
                // It dials again.
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Refused });
                return bytes.len();
            }
            if peer && repl.accepted(now, conn, cx) {
                *state = Conn::Link;
                counters.clients -= 1;
                if let Some(opened) = crowded {
                    late.remove(&(opened, conn));
                }
            } else if peer || crowded.is_some() {
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Crowded });
                return bytes.len();
            } else {
                *state = match http::sniff(&config.limits, bytes) {
                    Sniffed::Unclear => return 0,
                    Sniffed::Http => Conn::Http(Box::default()),
                    Sniffed::Other => Conn::Client(Box::default()),
                };
            }
        }
        let used = match state {
            Conn::Client(_) | Conn::Http(_) => {
                let keeper = keeper.as_deref_mut();
                let cluster_tag = *cluster_tag;
                let mut runner = Runner {
                    now,
                    conn,
                    loading,
                    cluster_tag,
                    config,
                    replica,
                    repl,
                    counters,
                    waiters,
                    keeper,
                    effects: &mut *effects,
                };
                let (used, has_left) = state.receive(bytes, reply, &mut runner);
                if has_left {
                    self.forget(conn);
                    effects.actions.push(Action::Close { conn, why: Close::Quit });
                }
                used
            }
            Conn::Link => {
                waiters.stir();
                repl.receive(now, conn, bytes, reply, &mut Context { config, replica, effects })
            }
            Conn::Unknown { .. } => 0,
        };
        self.settle(effects);
        used
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::Opened { conn } => {
                self.closed(now, conn, effects);
                self.opened(now, conn, effects);
            }
            Event::Closed { conn } => self.closed(now, conn, effects),
            Event::Dialed { conn, addr } => {
                self.closed(now, conn, effects);
                self.insert(conn, Conn::Link);
                let Self { config, replica, repl, .. } = self;
                repl.dialed(now, conn, addr, &mut Context { config, replica, effects });
            }
            Event::DialFailed { addr } => {
                let Self { config, replica, repl, .. } = self;
                repl.dial_failed(now, addr, &Context { config, replica, effects });
            }
            Event::DiskDone { lane, ops } => self.disk_done(now, lane, ops, effects),
            Event::DiskFailed { lane, error } => self.disk_failed(now, lane, error),
            Event::Tick => {
                self.close_crowded(now, effects);
                if self.loading().is_some() {
                    return;
                }
                if !self.is_withheld() {
                    let Self { config, replica, repl, .. } = self;
                    repl.tick(now, &mut Context { config, replica, effects });
                }
                self.waiters.stir();
                self.waiters.expire(now, &self.replica, &self.repl, effects);
            }
        }
        self.settle(effects);
    }

    /// Appends at most `limit` bytes of what waits for `conn` to `out`; true while more remains.
    pub fn fill(&mut self, now: Now, conn: ConnId, limit: usize, out: &mut Vec<u8>, effects: &mut Effects) -> bool {
        if let Some(Some(Conn::Client(session))) = self.conns.get_mut(conn.0 as usize) {
            let filled = self.waiters.fill(conn, limit, out);
            if filled == Filled::Wholly {
                session.resume();
            }
            return filled == Filled::Partly;
        }
        let Self { config, replica, repl, .. } = self;
        let more = repl.fill(now, conn, limit, out, &mut Context { config, replica, effects });
        self.settle(effects);
        more
    }

    /// When [`Event::Tick`] is wanted; never hides queued output.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        if self.loading().is_some() {
            return None;
        }
        let repl = (!self.is_withheld()).then(|| self.repl.deadline());
        [repl, self.waiters.deadline(), self.disk_deadline()].into_iter().flatten().min()
    }

    /// Whether `conn` is a peer's.
    pub(crate) fn is_link(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(conn.0 as usize), Some(Some(Conn::Link)))
    }

    /// Whether something of this run was read that is not on the disk, where replies wait for that.
    pub(crate) fn take_unsynced_read(&self) -> bool {
        self.replica.unsynced_read.take()
    }

    /// Whether the client at `conn` waits for something: until [`fill`](Self::fill) has given it its late reply, no
    /// other command of it is run.
    #[must_use]
    pub fn is_waiting(&self, conn: ConnId) -> bool {
        self.waiters.is_waiting(conn)
    }

    /// Whether so many unsent bytes stop `conn` from being read. They never stop a link: what is said on it bounds
    /// itself, and a peer whose statements wait behind a long answer would be taken for dead.
    #[must_use]
    pub fn is_full(&self, conn: ConnId, unsent: usize) -> bool {
        unsent >= self.config.limits.output_bytes_max && !self.is_link(conn)
    }

    /// The text (`host:port`) of an address in the book.
    #[must_use]
    pub fn address(&self, addr: AddrId) -> Option<&str> {
        self.repl.members.target(addr).map(|target| target.address.as_str())
    }

    /// Forgets a connection; also one whose name a driver uses again without a word.
    fn closed(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        if matches!(self.forget(conn), Some(Conn::Link)) {
            let Self { config, replica, repl, .. } = self;
            repl.closed(now, conn, &mut Context { config, replica, effects });
        }
    }

    /// Ends connections above the limit for clients that have not said in time that they are a peer's.
    fn close_crowded(&mut self, now: Now, effects: &mut Effects) {
        while let Some((opened, conn)) = self.crowded.first().copied()
            && now.mono.ms_since(opened) >= self.config.timers.silence_ms
        {
            self.forget(conn);
            effects.actions.push(Action::Close { conn, why: Close::Crowded });
        }
    }

    fn opened(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        let clients_max = self.config.limits.clients_max;
        if self.counters.clients >= clients_max + PEER_CONNECTIONS_SPARE {
            effects.actions.push(Action::Close { conn, why: Close::Crowded });
            return;
        }
        let crowded = (self.counters.clients >= clients_max).then_some(now.mono);
        self.crowded.extend(crowded.map(|opened| (opened, conn)));
        self.insert(conn, Conn::Unknown { crowded });
        self.counters.clients += 1;
    }

    fn insert(&mut self, conn: ConnId, state: Conn) {
        let index = conn.0 as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(state);
    }

    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        let state = self.conns.get_mut(conn.0 as usize)?.take()?;
        self.waiters.forget(conn);
        if let Conn::Unknown { crowded: Some(opened) } = state {
            self.crowded.remove(&(opened, conn));
        }
        if !matches!(state, Conn::Link) {
            self.counters.clients -= 1;
        }
        Some(state)
    }

    /// What every entry point ends with: links that were closed are forgotten, and those with news are woken.
    pub(crate) fn settle(&mut self, effects: &mut Effects) {
        for at in 0..effects.actions.len() {
            if let Action::Close { conn, .. } = effects.actions[at] {
                self.forget(conn);
            }
        }
        self.waiters.look(&self.replica, &mut self.repl, effects);
        let Self { config, replica, repl, .. } = self;
        repl.wake_fed(&mut Context { config, replica, effects });
    }
}
