//! A node: the entry points, and nothing but dispatch.

mod access;
mod draining;
mod oracles;
mod peers;

use std::net::SocketAddr;

use crate::acl::{Acl, STRANGER_MS_MAX};
use crate::boundary::{Action, AddrId, Close, ConnId, Door, Effects, Event};
use crate::config::Config;
use crate::connections::{Conn, Connections, Ends, Session};
use crate::disk::{Keeper, Log};
use crate::http::{self, Sniffed};
use crate::name::Name;
use crate::pause::Pause;
use crate::pubsub::PubSub;
use crate::rand::Rand;
use crate::repl::{CLIENTS_ONLY, Context, LINKS_MAX, Replication, TLS_ONLY};
use crate::replica::{Exposure, Replica};
use crate::server::{Audience, Server};
use crate::session::ClientSession;
use crate::settings::{LogLevel, Settings};
use crate::stats::Counters;
use crate::store::WARM_KEYS;
use crate::time::{Mono, Now};
use crate::version::OriginId;
use crate::waiters::{Filled, Waiters};
use crate::wire::ahead::{Ahead, REQUESTS_MAX};
use crate::wire::peer::PREAMBLE;
use crate::wire::token::cluster_tag;

/// Connections above the limit for clients that are let in far enough to see whether a peer is calling.
const PEER_CONNECTIONS_SPARE: usize = LINKS_MAX;

/// No connection: whoever acts is none.
const NOBODY: ConnId = ConnId(u32::MAX);

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
    conns: Connections,
    /// What is known of the input that is taken.
    ahead: Ahead,
    acl: Acl,
    pause: Pause,
    pubsub: PubSub,
    counters: Counters,
    pub(crate) waiters: Waiters,
    cluster_tag: u32,
    /// What clients have set, until it is in `config`.
    changed: Option<Settings>,
    log_level: LogLevel,
    /// What was given at the start that is not in `config`, for those who ask.
    options: Vec<(String, String)>,
    /// None without a disk.
    pub(crate) keeper: Option<Box<Keeper>>,
    is_draining: bool,
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
            acl: Acl::new(config.seed),
            config,
            replica,
            repl,
            conns: Connections::default(),
            ahead: Ahead::default(),
            pause: Pause::default(),
            pubsub: PubSub::new(run),
            counters: Counters::new(now.mono),
            waiters: Waiters::default(),
            changed: None,
            log_level: LogLevel::default(),
            options: Vec::new(),
            keeper,
            is_draining: false,
        }
    }

    /// See [`Turn::reserve`](crate::Turn::reserve).
    pub(crate) fn reserve(&mut self, connections: usize) {
        self.conns.reserve(connections);
    }

    /// Takes other settings, from now on. What has changed is logged.
    pub fn reconfigure(&mut self, settings: &Settings) {
        let stood = self.settings();
        for (setting, from, to) in stood.differing(settings) {
            tracing::info!(setting, from, to, "changed");
        }
        settings.apply(&mut self.config);
        self.log_level = settings.log_level;
        if let (Some(log), Some(disk)) = (&mut self.replica.log, &self.config.disk) {
            log.set_fsync(disk.fsync);
        }
    }

    /// What can change while the node runs, as it is now.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings::of(&self.config, self.log_level)
    }

    /// What the driver is to log: clients may have changed it.
    #[must_use]
    pub const fn log_level(&self) -> LogLevel {
        self.log_level
    }

    /// What else the node was started with: what its driver logs, and options by names that no setting has, which
    /// `CONFIG GET` shows.
    pub fn started_with(&mut self, log_level: LogLevel, options: Vec<(String, String)>) {
        (self.log_level, self.options) = (log_level, options);
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
            let rest = &bytes[used..];
            let known = self.look_ahead(conn, rest);
            let piece = if known == 0 { rest } else { &rest[..known] };
            let taken = self.receive_some(now, conn, piece, reply, effects);
            used += taken;
            if taken < piece.len() || used == bytes.len() {
                return used;
            }
        }
    }

    /// Gets ready for input that is handed in next, in this order, of connections that have handed in nothing that is
    /// not taken yet: what it looks for is asked of memory at once. Means nothing but time.
    pub fn expect<'b>(&mut self, inputs: impl Iterator<Item = (ConnId, &'b [u8])>) {
        let Self { config, replica, conns, ahead, .. } = self;
        let mut keys = [&[][..]; WARM_KEYS];
        let mut count = 0;
        for (conn, bytes) in inputs.take(WARM_KEYS) {
            // Several requests get ready for themselves.
            if let Some(Conn::Client(Some(Session::Text(session)))) = conns.get(conn).map(|seat| &seat.state)
                && session.client.space == 0
                && session.look_ahead(&config.limits, bytes, ahead, 1) == bytes.len()
            {
                count += ahead.keys(bytes, &mut keys[count..]);
            }
        }
        ahead.clear();
        // A single one would wait just as long.
        if count > 1 {
            replica.store.warm(&keys[..count]);
        }
    }

    /// Finds the requests with which the input of a client begins, and gets ready for them; how many bytes those are.
    fn look_ahead(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let Self { config, replica, conns, ahead, .. } = self;
        let Some(Conn::Client(Some(Session::Text(session)))) = conns.get(conn).map(|seat| &seat.state) else {
            ahead.clear();
            return 0;
        };
        let known = session.look_ahead(&config.limits, bytes, ahead, REQUESTS_MAX);
        // A single one would wait just as long.
        if ahead.has_several() {
            let mut keys = [&[][..]; WARM_KEYS];
            let count = ahead.keys(bytes, &mut keys);
            match session.client.space {
                0 => replica.store.warm(&keys[..count]),
                space => replica.store.warm(&keys.map(|key| Name::key(space, key).stored())[..count]),
            }
        }
        known
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
        let Self { config, replica, repl, conns, acl, .. } = self;
        let Some(seat) = conns.get_mut(conn) else { return bytes.len() };
        seat.heard = now.mono;
        if let Conn::Unknown { crowded } = seat.state {
            let peer = bytes.starts_with(&PREAMBLE);
            if !peer && PREAMBLE.starts_with(bytes) {
                return 0;
            }
            if peer && seat.bars_peer {
                repl.turn_off(now, (TLS_ONLY, seat.ends), &Context { config, replica, effects }, reply);
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Refused });
                return bytes.len();
            }
            if peer && (loading.is_some() || is_withheld) {
                // It dials again.
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Refused });
                return bytes.len();
            }
            if let Some(why) = wrong_door(seat.door, peer) {
                if peer {
                    repl.turn_off(now, (CLIENTS_ONLY, seat.ends), &Context { config, replica, effects }, reply);
                }
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why });
                return bytes.len();
            }
            if peer && repl.accepted(now, (conn, seat.ends), &Context { config, replica, effects }) {
                conns.becomes_link(conn);
            } else if peer || crowded {
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Crowded });
                return bytes.len();
            } else {
                seat.state = match http::sniff(&config.limits, bytes) {
                    Sniffed::Unclear => return 0,
                    Sniffed::Http => Conn::Client(Some(Session::Http(Box::default()))),
                    Sniffed::Other => {
                        Conn::Client(Some(Session::Text(Box::new(ClientSession::of(acl.newcomers().clone())))))
                    }
                };
                // The door may have been locked since it came.
                if acl.newcomers().is_stranger() && !conns.awaits_login(conn) {
                    conns.expects_login(conn, Some(now.mono.plus_ms(STRANGER_MS_MAX)));
                }
            }
        }
        let used = if let Some(mut session) = conns.take_session(conn) {
            // It is given back at once: what it has room for stays.
            let mut ahead = std::mem::take(&mut self.ahead);
            let (used, has_left) = session.receive((bytes, &mut ahead), reply, &mut self.server(now, conn, effects));
            self.ahead = ahead;
            if has_left {
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Quit });
            } else {
                self.conns.put_back(conn, session);
            }
            used
        } else if self.is_link(conn) {
            self.receive_frames(now, (conn, bytes), reply, effects)
        } else {
            0
        };
        if let Some(settings) = self.changed.take() {
            self.reconfigure(&settings);
        }
        self.settle(effects);
        used
    }

    /// What carries out commands of `conn`.
    fn server<'a, 'e>(&'a mut self, now: Now, conn: ConnId, effects: &'e mut Effects) -> Server<'a, 'e> {
        let loading = self.loading();
        let Self { config, replica, repl, conns, acl, pause, pubsub, counters, waiters, .. } = self;
        let Self { changed, log_level, options, cluster_tag, keeper, is_draining, .. } = self;
        let (disk, cluster_tag) = (keeper.as_deref_mut(), *cluster_tag);
        Server {
            now,
            conn,
            config,
            changed,
            log_level: *log_level,
            options,
            replica,
            repl,
            conns,
            acl,
            pause,
            pubsub,
            counters,
            waiters,
            disk,
            loading,
            is_draining: *is_draining,
            cluster_tag,
            effects,
        }
    }

    fn receive_frames(
        &mut self,
        now: Now,
        (conn, bytes): (ConnId, &[u8]),
        reply: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> usize {
        let Self { config, replica, repl, waiters, .. } = self;
        waiters.stir();
        let used = repl.receive(now, conn, bytes, reply, &mut Context { config, replica, effects });
        self.tell_subscribers(effects);
        used
    }

    /// Tells those who have subscribed what peers said, and what has become of keys by what they wrote, or by time.
    fn tell_subscribers(&mut self, effects: &mut Effects) {
        let (said, changes) = (self.repl.take_said(), self.replica.take_changes());
        if said.is_empty() && changes.is_empty() {
            return;
        }
        let Self { config, conns, pause, pubsub, waiters, .. } = self;
        let output_bytes_max = config.limits.output_bytes_max;
        let mut audience = Audience { pubsub, conns, waiters, pause, output_bytes_max, of_writes: false, effects };
        for (channel, message) in said {
            audience.tell(&channel, &message, None);
        }
        audience.notify(&changes, None, None);
    }

    /// Tells where a connection that was [opened](Event::Opened) or [dialed](Event::Dialed) comes from, and where it
    /// arrived: `CLIENT LIST` shows it, and without a secret only who is on this machine may be a peer. A driver that
    /// does not know says nothing, before anything else that it says of the connection.
    pub fn introduce(&mut self, conn: ConnId, remote: SocketAddr, local: SocketAddr) {
        if let Some(seat) = self.conns.get_mut(conn) {
            let ends = Ends::new(remote, local);
            seat.ends = Some(ends);
            self.repl.introduce(conn, ends);
        }
    }

    /// Tells what a connection that was [opened](Event::Opened) may be; not said, it may be anything.
    pub fn came_by(&mut self, conn: ConnId, door: Door) {
        if let Some(seat) = self.conns.get_mut(conn) {
            seat.door = door;
        }
    }

    /// Tells whether a connection that was [opened](Event::Opened) may turn out to be a peer's: until told otherwise,
    /// it may. If it may not, a peer is told so and turned away.
    pub fn allow_peer(&mut self, conn: ConnId, allowed: bool) {
        if let Some(seat) = self.conns.get_mut(conn) {
            seat.bars_peer = !allowed;
        }
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
                self.conns.insert_link(now.mono, conn);
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
                self.pause.expire(now, effects);
                self.acl.tick(now.mono, effects);
                self.server(now, NOBODY, effects).close_strangers();
                self.counters.sample(now.mono);
                if self.loading().is_some() {
                    return;
                }
                if !self.is_withheld() {
                    let Self { config, replica, repl, .. } = self;
                    repl.tick(now, &mut Context { config, replica, effects });
                }
                self.tell_subscribers(effects);
                self.pubsub.watchers.tick(now.mono, &mut self.replica.feed, effects);
                self.waiters.stir();
                self.waiters.expire(now, &self.replica, &self.repl, effects);
            }
        }
        self.settle(effects);
    }

    /// Appends at most `limit` bytes of what waits for `conn` to `out`; true while more remains.
    pub fn fill(&mut self, now: Now, conn: ConnId, limit: usize, out: &mut Vec<u8>, effects: &mut Effects) -> bool {
        if let Some(session) = self.conns.session_mut(conn) {
            let end = out.len() + limit;
            if session.client.pushed.tells_writes() {
                self.replica.note_unsynced_told();
            }
            if session.client.pushed.is_cut() {
                session.client.pushed.send(limit, out);
                if session.client.pushed.is_cut() {
                    return true;
                }
            }
            let from = out.len();
            let filled = self.waiters.fill(conn, end - from, out);
            if session.is_muted() {
                out.truncate(from);
            }
            let is_released = session.is_put_off() && !self.pause.holds(conn);
            if filled == Filled::Wholly || is_released {
                session.resume();
            }
            if filled == Filled::Nothing && !is_released {
                session.client.pushed.send(end - from, out);
            }
            return filled == Filled::Partly || !session.client.pushed.is_empty();
        }
        let Self { config, replica, repl, pubsub, .. } = self;
        if let Some(more) = pubsub.watchers.fill(now, conn, limit, replica, out) {
            return more;
        }
        let more = repl.fill(now, conn, limit, out, &mut Context { config, replica, effects });
        self.settle(effects);
        more
    }

    /// When [`Event::Tick`] is wanted; never hides queued output.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let logins = [self.acl.deadline(), self.conns.first_stranger().map(|(until, _)| until)];
        if self.loading().is_some() {
            return logins.into_iter().flatten().min();
        }
        let repl = (!self.is_withheld()).then(|| self.repl.deadline());
        let others =
            [self.waiters.deadline(), self.pause.deadline(), self.pubsub.watchers.deadline(), self.disk_deadline()];
        others.into_iter().chain([repl]).chain(logins).flatten().min()
    }

    /// Whether `conn` is a peer's.
    pub(crate) fn is_link(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(conn).map(|seat| &seat.state), Some(Conn::Link))
    }

    /// Whether something of this run was read that is not on the disk, where replies wait for that.
    pub(crate) fn take_unsynced_read(&self) -> bool {
        self.replica.unsynced_read.take() || self.replica.is_flush_unsynced()
    }

    /// Whether the client at `conn` waits for something: until [`fill`](Self::fill) has given it its late reply, or
    /// let it go on, no other command of it is run.
    #[must_use]
    pub fn is_waiting(&self, conn: ConnId) -> bool {
        self.waiters.is_waiting(conn) || self.pause.holds(conn)
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
        while let Some((opened, conn)) = self.conns.first_crowded()
            && now.mono.ms_since(opened) >= self.config.timers.silence_ms
        {
            self.forget(conn);
            effects.actions.push(Action::Close { conn, why: Close::Crowded });
        }
    }

    fn opened(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        let (clients, clients_max) = (self.conns.len(), self.config.limits.clients_max);
        if clients >= clients_max + PEER_CONNECTIONS_SPARE {
            self.counters.rejected += 1;
            effects.actions.push(Action::Close { conn, why: Close::Crowded });
            return;
        }
        self.conns.accept(now.mono, conn, clients >= clients_max);
        if self.acl.newcomers().is_stranger() {
            self.conns.expects_login(conn, Some(now.mono.plus_ms(STRANGER_MS_MAX)));
        }
    }

    fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        self.waiters.forget(conn);
        self.pause.forget(conn);
        self.pubsub.forget(conn);
        self.conns.forget(conn)
    }

    /// What every entry point ends with: links that were closed are forgotten, and those with news are woken.
    pub(crate) fn settle(&mut self, effects: &mut Effects) {
        for at in 0..effects.actions.len() {
            if let Action::Close { conn, .. } = effects.actions[at] {
                self.forget(conn);
            }
        }
        self.waiters.look(&self.replica, &mut self.repl, effects);
        if self.replica.feed.take_news() {
            self.pubsub.watchers.wake(effects);
        }
        let Self { config, replica, repl, .. } = self;
        if self.is_draining {
            repl.ask_statuses(replica.own_last(), replica);
        }
        repl.wake_fed(&mut Context { config, replica, effects });
    }
}

/// Why a connection that came in by `door` is to end at once, if it is.
const fn wrong_door(door: Door, is_peer: bool) -> Option<Close> {
    match (door, is_peer) {
        (Door::Any, _) | (Door::Clients, false) | (Door::Peers, true) => None,
        (Door::Clients, true) => Some(Close::Refused),
        (Door::Peers, false) => Some(Close::PeersOnly),
    }
}
