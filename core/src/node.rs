//! A node: the entry points, and nothing but dispatch.

use std::collections::VecDeque;

use crate::boundary::{Action, AddrId, Close, ConnId, Effects, Event};
use crate::command::{Command, Reply};
use crate::config::Config;
use crate::conflicts::Conflict;
use crate::counter::Part;
use crate::execute::{Flow, execute};
use crate::gauges::{self, Gauges};
use crate::rand::Rand;
use crate::record::Record;
use crate::repl::{Activity, Context, LINKS_MAX, Replication, Scrubbed};
use crate::replica::{Exposure, Replica};
use crate::session::ClientSession;
use crate::stats::{self, Counters};
use crate::store::SLOTS;
use crate::tail::Tail;
use crate::time::{Mono, Now, WallMs};
use crate::version::{Hlc, OriginId, Version};
use crate::waiters::{Asker, Filled, Waiters, Wanted};
use crate::why;
use crate::wire::line;
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
    config: Config,
    replica: Replica,
    repl: Replication,
    conns: Vec<Option<Conn>>,
    /// Those let in above the limit for clients, oldest first; some may have gone.
    crowded: VecDeque<(Mono, ConnId)>,
    counters: Counters,
    waiters: Waiters,
    cluster_tag: u32,
}

/// What a connection turned out to be.
#[derive(Debug)]
enum Conn {
    /// Its first bytes will say. `crowded`: there is room for a peer only.
    Unknown {
        crowded: bool,
    },
    Client(ClientSession),
    Link,
}

impl Node {
    /// A node at its start, with nothing in it.
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
        Self {
            cluster_tag: cluster_tag(&config.cluster),
            config,
            replica,
            repl,
            conns: Vec::new(),
            crowded: VecDeque::new(),
            counters: Counters::default(),
            waiters: Waiters::default(),
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
        let Self { config, replica, repl, conns, counters, waiters, cluster_tag, .. } = self;
        let Some(state) = conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return bytes.len() };
        if let Conn::Unknown { crowded } = *state {
            let peer = bytes.starts_with(&PREAMBLE);
            if !peer && PREAMBLE.starts_with(bytes) {
                return 0;
            }
            let cx = &mut Context { config, replica, effects };
            if peer && repl.accepted(now, conn, cx) {
                *state = Conn::Link;
                counters.clients -= 1;
            } else if peer || crowded {
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Crowded });
                return bytes.len();
            } else {
                *state = Conn::Client(ClientSession::default());
            }
        }
        let used = match state {
            Conn::Client(session) => {
                let mut wrote = session.wrote;
                let used = session.receive(&config.limits, bytes, reply, &mut |command, out| {
                    counters.commands += 1;
                    let records = replica.own_records();
                    let flow = execute(command, replica, now, out);
                    if replica.own_records() != records {
                        wrote = Some(Version { hlc: replica.own_last(), origin: replica.own() });
                    }
                    match flow {
                        Flow::Stats => stats::emit_stats(now, config, replica, repl, counters, out),
                        Flow::Peers => stats::emit_peers(now, config, replica, repl, out),
                        Flow::Forget => {
                            forget(now, command, repl, &mut Context { config, replica, effects }, out);
                        }
                        Flow::Leave => {
                            let Err(why) = repl.leave(now, &mut Context { config, replica, effects }) else {
                                waiters.wait(now, conn, Wanted::Leave, 0, replica);
                                return Flow::Blocked;
                            };
                            line::emit(&Reply::NotLeft(why), out);
                        }
                        Flow::Wait(waiting) => {
                            let asker = Asker { now, conn, wrote, cluster_tag: *cluster_tag };
                            return asker.run(waiting, replica, repl, waiters, out);
                        }
                        Flow::Why | Flow::Conflicts => why::emit(now, command, replica, repl, out),
                        flow @ (Flow::Continue | Flow::Blocked | Flow::Quit) => return flow,
                    }
                    Flow::Continue
                });
                session.wrote = wrote;
                if session.has_left() {
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
            Event::Tick => {
                self.close_crowded(now, effects);
                let Self { config, replica, repl, .. } = self;
                repl.tick(now, &mut Context { config, replica, effects });
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
        let deadline = self.repl.deadline();
        Some(self.waiters.deadline().map_or(deadline, |waiter| waiter.min(deadline)))
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
        unsent >= self.config.limits.output_bytes_max
            && !matches!(self.conns.get(conn.0 as usize), Some(Some(Conn::Link)))
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
        while let Some((opened, conn)) = self.crowded.front().copied()
            && now.mono.ms_since(opened) >= self.config.timers.silence_ms
        {
            self.crowded.pop_front();
            if matches!(self.conns.get(conn.0 as usize), Some(Some(Conn::Unknown { crowded: true }))) {
                self.forget(conn);
                effects.actions.push(Action::Close { conn, why: Close::Crowded });
            }
        }
    }

    fn opened(&mut self, now: Now, conn: ConnId, effects: &mut Effects) {
        let clients_max = self.config.limits.clients_max;
        if self.counters.clients >= clients_max + PEER_CONNECTIONS_SPARE {
            effects.actions.push(Action::Close { conn, why: Close::Crowded });
            return;
        }
        let crowded = self.counters.clients >= clients_max;
        if crowded {
            self.crowded.push_back((now.mono, conn));
        }
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
        if !matches!(state, Conn::Link) {
            self.counters.clients -= 1;
        }
        Some(state)
    }

    /// What every entry point ends with: links that were closed are forgotten, and those with news are woken.
    fn settle(&mut self, effects: &mut Effects) {
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

/// Carries out `FORGET`.
fn forget(now: Now, command: &Command<'_>, repl: &mut Replication, cx: &mut Context<'_>, out: &mut Vec<u8>) {
    let Command::Forget { member } = *command else { return };
    let reply = match repl.forget_member(now, member, cx) {
        Ok(()) => Reply::Ok,
        Err(why) => Reply::NotForgotten { member, why },
    };
    line::emit(&reply, out);
}

/// For tests and the simulation's oracles: what a node holds, read without changing it; and what no input can bring
/// about.
impl Node {
    /// The entry of `key`, tombstones and expired ones included.
    #[must_use]
    pub fn peek(&self, key: &[u8]) -> Option<Record<'_>> {
        self.replica.store.get(key)
    }

    /// Grows with each entry that is written, freed or taken out. While it stays, so does what [`peek`](Self::peek)
    /// says of any key.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.replica.store.changes()
    }

    /// Whether what [`peek`](Self::peek) says of `key` may have changed since [`changes`](Self::changes) said `since`.
    #[must_use]
    pub fn may_have_changed(&self, key: &[u8], since: u64) -> bool {
        self.replica.store.may_have_changed(key, since)
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

    /// Visits the stamps in the tail, oldest first: what peers may be fed from here.
    pub fn fed(&self, visit: &mut dyn FnMut(Version)) {
        let tail = &self.replica.tail;
        let mut at = tail.start();
        while at < tail.end() {
            let head = tail.head(at);
            visit(head.stamp);
            at = Tail::skip(at, head.bytes);
        }
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

    /// What is bounded, and by how much.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let clients = (self.counters.clients, self.config.limits.clients_max + PEER_CONNECTIONS_SPARE);
        let waiters = (self.waiters.len(), self.counters.clients);
        Gauges { clients, waiters, ..gauges::of(&self.config, &self.replica, &self.repl) }
    }
}
