//! A driver's turn without the operating system: the buffers of every connection and the one order that matters.
//!
//! `runtime` and `sim` both drive a [`Turn`], so the order in which input is taken, replies leave and links are fed is
//! the same in both, and is tested by both. One turn of a driver:
//!
//! 1. [`begin`](Turn::begin) with one reading of the clocks;
//! 2. [`input`](Turn::input) for what was read from each connection that [wants](Turn::wants_read) reading, which it
//!    may be told to [`expect`](Turn::expect) before, and [`event`](Turn::event) for what else happened;
//! 3. [`settle`](Turn::settle), which ticks the node if its deadline has passed;
//! 4. carry out [`take_dial`](Turn::take_dial);
//! 5. for each [`next_ready`](Turn::next_ready) connection: write [`output`](Turn::output), say how much with
//!    [`sent`](Turn::sent), until there is none or the socket is full; then close it if
//!    [`finished`](Turn::finished).
//!
//! Any other order is legal too; this is the one in which replies of a turn leave with one write a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::acl::{Job, JobDone, JobId};
use crate::boundary::{Action, AddrId, Close, ConnId, Door, Effects, Event, Tongue};
use crate::config::{Config, PeerAuth};
use crate::disk::{DiskError, DiskWork, FileId, Lane};
use crate::node::Node;
use crate::record::Record;
use crate::settings::{LogLevel, Settings};
use crate::time::{Mono, Now};

/// Unsent bytes up to which a link is filled: what one write takes, so that a slow peer holds a small copy and its
/// cursor, not a queue.
pub const LINK_WINDOW_BYTES: usize = 256 << 10;

/// What one connection may send in one turn before the others have theirs.
const TURN_SHARE_BYTES: u32 = LINK_WINDOW_BYTES as u32;

/// Capacity that an empty buffer may keep: a busy connection's next turn needs no allocation, and a value of many
/// megabytes is not held for ever by the connection that once read it.
const IDLE_CAPACITY_BYTES: usize = 64 << 10;

/// A node with the buffers of its connections.
#[derive(Debug)]
pub struct Turn {
    node: Node,
    now: Now,
    effects: Effects,
    conns: Vec<Option<Buffers>>,
    ready: VecDeque<ConnId>,
    /// Those whose share of this turn is used up: first in the next.
    later: VecDeque<ConnId>,
    dials: VecDeque<AddrId>,
    jobs: VecDeque<JobId>,
    /// Those with replies that wait for the disk.
    gated: Vec<ConnId>,
    /// Counts turns, and begins again with 0: no more is wrong then than that a connection that stood still so long
    /// sends a turn later.
    number: u32,
}

#[derive(Debug, Default)]
struct Buffers {
    /// Input that the node did not take yet: the start of a command or frame, or whole ones behind a full `out`.
    rest: Vec<u8>,
    /// Output; the first `sent` bytes have gone.
    out: Vec<u8>,
    sent: usize,
    /// What went out in the turn numbered `share_turn`.
    share: u32,
    share_turn: u32,
    /// The node has more for this connection than `out` holds.
    more: bool,
    /// Whole commands may stand in `rest`: the node stopped because `out` was full, or because the client waits.
    blocked: bool,
    queued: bool,
    closing: Option<Close>,
    /// None before the first: most connections never wait for the disk.
    gates: Option<Box<Gates>>,
}

// With 10,000 idle connections every word is 80 KB.
const _: () = assert!(size_of::<Option<Buffers>>() <= 80);

/// Output from there on waits until the log is synced up to that position; both only grow.
#[derive(Debug, Default)]
struct Gates(VecDeque<(usize, u64)>);

impl Turn {
    /// A node at its start; see [`Node::new`].
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            node: Node::new(config, now),
            now,
            effects: Effects::default(),
            conns: Vec::new(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            dials: VecDeque::new(),
            jobs: VecDeque::new(),
            gated: Vec::new(),
            number: 0,
        }
    }

    /// Reserves room for the state of so many connections. Nothing depends on it but that nothing moves until there are
    /// more. Memory is taken as they come, where the operating system gives it when it is first written to.
    pub fn reserve(&mut self, connections: usize) {
        self.conns.reserve_exact(connections);
        self.node.reserve(connections);
    }

    /// The node inside.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// For tests and the simulation: see [`Node::rot`].
    pub fn rot(&mut self, key: &[u8], left: Option<&Record<'_>>) {
        self.node.rot(key, left);
    }

    /// Starts a turn at `now`.
    pub fn begin(&mut self, now: Now) {
        self.now = now;
        self.number = self.number.wrapping_add(1);
        while let Some(conn) = self.later.pop_front() {
            if let Some(buffers) = self.buffers(conn) {
                buffers.queued = false;
                self.queue(conn);
            }
        }
    }

    /// Whether `conn` should be read: it stands, nothing ends it, and the node takes what it sends.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        self.conns
            .get(conn.0 as usize)
            .and_then(Option::as_ref)
            .is_some_and(|buffers| !buffers.blocked && buffers.closing.is_none())
    }

    /// Gets ready for input that is handed in next, in this order; see [`Node::expect`].
    pub fn expect<'b>(&mut self, inputs: impl Iterator<Item = (ConnId, &'b [u8])>) {
        let Self { node, conns, .. } = self;
        let takes_at_once = |(conn, _): &(ConnId, &[u8])| {
            let buffers = conns.get(conn.0 as usize).and_then(Option::as_ref);
            buffers.is_some_and(|buffers| buffers.rest.is_empty() && !buffers.blocked)
        };
        node.expect(inputs.filter(takes_at_once));
    }

    /// Hands in bytes read from `conn`.
    pub fn input(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        if buffers.closing.is_some() {
            return;
        }
        if buffers.rest.is_empty() && !buffers.blocked {
            buffers.compact();
            let (from, before) = (buffers.out.len(), self.node.logged().0);
            let used = self.node.receive(self.now, conn, bytes, &mut buffers.out, &mut self.effects);
            buffers.rest.extend_from_slice(&bytes[used..]);
            buffers.blocked =
                used < bytes.len() && self.node.is_full(conn, buffers.out.len()) || self.node.is_waiting(conn);
            self.gate(conn, from, before);
        } else {
            buffers.rest.extend_from_slice(bytes);
            if !buffers.blocked {
                self.receive_rest(conn);
            }
        }
        self.end_overfull(conn);
        self.queue_if_unsent(conn);
        self.perform();
    }

    /// Ends a connection that sends too much before it has logged in.
    fn end_overfull(&mut self, conn: ConnId) {
        let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        if self.node.is_overfull(conn, buffers.rest.len()) {
            self.node.handle(self.now, Event::Closed { conn }, &mut self.effects);
            self.effects.actions.push(Action::Close { conn, why: Close::Stranger(Tongue::Line) });
        }
    }

    /// Tells the node what happened.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Opened { conn } | Event::Dialed { conn, .. } => {
                let index = conn.0 as usize;
                if self.conns.len() <= index {
                    self.conns.resize_with(index + 1, || None);
                }
                debug_assert!(self.conns[index].is_none(), "a connection's name is used again only after it has gone");
                self.conns[index] = Some(Buffers::default());
            }
            Event::Closed { conn } => {
                let buffers = self.conns.get_mut(conn.0 as usize).and_then(Option::take);
                // The name may soon be another's.
                self.gated.retain(|gated| *gated != conn);
                if buffers.is_some_and(|buffers| buffers.closing.is_some()) {
                    return;
                }
            }
            Event::DiskFailed { lane: Lane::Log, .. } => self.close_gated(),
            Event::DialFailed { .. } | Event::Tick | Event::DiskDone { .. } | Event::DiskFailed { .. } => {}
        }
        self.node.handle(self.now, event, &mut self.effects);
        self.perform();
        if matches!(event, Event::DiskDone { lane: Lane::Log, .. }) {
            self.open_gates();
        }
    }

    /// Tells the node where a connection comes from; see [`Node::introduce`].
    pub fn introduce(&mut self, conn: ConnId, remote: SocketAddr, local: SocketAddr) {
        self.node.introduce(conn, remote, local);
    }

    /// Tells the node whether a connection may turn out to be a peer's; see [`Node::allow_peer`].
    pub fn allow_peer(&mut self, conn: ConnId, allowed: bool) {
        self.node.allow_peer(conn, allowed);
    }

    /// Tells the node what a connection may be; see [`Node::came_by`].
    pub fn came_by(&mut self, conn: ConnId, door: Door) {
        self.node.came_by(conn, door);
    }

    /// Tells the node where it serves clients; see [`Node::serves_clients_at`].
    pub fn serves_clients_at(&mut self, address: String) {
        self.node.serves_clients_at(address);
    }

    /// Has the node take other secrets of the cluster; see [`Node::change_secrets`].
    pub fn change_secrets(&mut self, to: PeerAuth) -> bool {
        let is_changed = self.node.change_secrets(self.now, to, &mut self.effects);
        self.perform();
        is_changed
    }

    /// Has the node take other settings; see [`Node::reconfigure`].
    pub fn reconfigure(&mut self, settings: &Settings) {
        self.node.reconfigure(settings);
        // What waited for the disk may not have to.
        self.open_gates();
    }

    /// Tells the node what it was started with; see [`Node::started_with`].
    pub fn started_with(&mut self, log_level: LogLevel, options: Vec<(String, String)>) {
        self.node.started_with(log_level, options);
    }

    /// Tells the node which files its data directory has; see [`Node::begin_load`].
    pub fn begin_load(&mut self, files: &[(FileId, u64)]) {
        self.node.begin_load(self.now, files);
    }

    /// Hands in what [`Node::next_read`] asked for; see [`Node::loaded`].
    pub fn loaded(&mut self, read: Result<&[u8], DiskError>) {
        self.node.loaded(self.now, read);
    }

    /// Swaps out what a lane of the disk is to do; see [`Node::take_disk`]. To be called after
    /// [`settle`](Self::settle), before output is written, and at the end of the turn.
    pub fn take_disk(&mut self, lane: Lane, work: &mut DiskWork) -> bool {
        self.node.take_disk(self.now, lane, work)
    }

    /// Whether `conn` is a peer's.
    #[must_use]
    pub fn is_link(&self, conn: ConnId) -> bool {
        self.node.is_link(conn)
    }

    /// The driver is about to stop: see [`Node::drain`].
    pub fn drain(&mut self) {
        self.node.drain(&mut self.effects);
        self.perform();
    }

    /// The driver is about to stop, and takes the log for the last time: it is to end such that a start has the least
    /// to do. No input follows.
    pub fn end_log(&mut self) {
        self.node.end_log();
    }

    /// What the node has appended to the output of `conn` since it was `from` bytes long waits for the disk, if it says
    /// something that is not there: where the log stood `before`.
    fn gate(&mut self, conn: ConnId, from: usize, before: u64) {
        let (logged, counted) = self.node.logged();
        let waits = self.node.take_unsynced_read() || logged > before;
        if !waits || logged <= counted || self.node.is_link(conn) {
            return;
        }
        let Some(buffers) = self.buffers(conn) else { return };
        if buffers.out.len() > from {
            let Gates(gates) = &mut **buffers.gates.get_or_insert_default();
            let was_open = gates.is_empty();
            if gates.back().is_none_or(|(_, upto)| *upto < logged) {
                gates.push_back((from, logged));
            }
            if was_open {
                self.gated.push(conn);
            }
        }
    }

    /// Lets go out what is on the disk by now.
    fn open_gates(&mut self) {
        let (_, counted) = self.node.logged();
        let gated = std::mem::take(&mut self.gated);
        for conn in gated {
            let Some(Gates(gates)) = self.buffers(conn).and_then(|buffers| buffers.gates.as_deref_mut()) else {
                continue;
            };
            while gates.pop_front_if(|(_, upto)| *upto <= counted).is_some() {}
            if !gates.is_empty() {
                self.gated.push(conn);
            }
            self.queue_if_unsent(conn);
        }
    }

    /// Ends the connections whose replies wait for what did not get to the disk: nobody knows what became of it.
    fn close_gated(&mut self) {
        for conn in std::mem::take(&mut self.gated) {
            let Some(buffers) = self.buffers(conn).filter(|buffers| buffers.first_gate().is_some()) else { continue };
            buffers.closing = Some(Close::Disk);
            self.node.handle(self.now, Event::Closed { conn }, &mut self.effects);
            self.queue(conn);
        }
    }

    /// Ticks the node if its deadline has passed; whether it had.
    pub fn settle(&mut self) -> bool {
        let is_due = self.node.deadline().is_some_and(|deadline| deadline <= self.now.mono);
        if is_due {
            self.event(Event::Tick);
        }
        is_due
    }

    /// The next address to dial.
    pub fn take_dial(&mut self) -> Option<AddrId> {
        self.dials.pop_front()
    }

    /// The next thing to do aside. The driver looks up [what it is](Self::job), does it without holding up its turns,
    /// one after the other, and says [what came of it](Self::job_done).
    pub fn take_job(&mut self) -> Option<JobId> {
        self.jobs.pop_front()
    }

    /// What is to be done; see [`Node::job`].
    #[must_use]
    pub fn job(&self, job: JobId) -> Option<Job<'_>> {
        self.node.job(job)
    }

    /// Tells the node what came of a job.
    pub fn job_done(&mut self, job: JobId, done: &JobDone<'_>) {
        self.node.job_done(self.now, job, done, &mut self.effects);
        self.perform();
    }

    /// Gives the default user a password; see [`Node::lock`].
    pub fn lock(&mut self, hash: &str) -> bool {
        self.node.lock(hash)
    }

    /// Takes the users of a file; see [`Node::load_users`].
    pub fn load_users(&mut self, text: &[u8]) -> Result<(), String> {
        self.node.load_users(text)
    }

    /// Has the file of users read again, if there is one.
    pub fn reload_users(&mut self) {
        self.node.reload_users(&mut self.effects);
        self.perform();
    }

    /// The next connection with something to send or to end.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        let conn = self.ready.pop_front()?;
        if let Some(buffers) = self.buffers(conn) {
            buffers.queued = false;
        }
        Some(conn)
    }

    /// What is to be written to `conn` now; empty when there is nothing, or when its share of this turn is used up.
    pub fn output(&mut self, conn: ConnId) -> &[u8] {
        let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return &[] };
        if buffers.share_turn != self.number {
            (buffers.share, buffers.share_turn) = (0, self.number);
        }
        if buffers.share >= TURN_SHARE_BYTES {
            if !buffers.queued {
                buffers.queued = true;
                self.later.push_back(conn);
            }
            return &[];
        }
        let unsent = buffers.out.len() - buffers.sent;
        if buffers.more && unsent < LINK_WINDOW_BYTES && buffers.closing.is_none() {
            buffers.compact();
            let limit = LINK_WINDOW_BYTES - unsent;
            let from = buffers.out.len();
            buffers.more = self.node.fill(self.now, conn, limit, &mut buffers.out, &mut self.effects);
            if buffers.more && buffers.out.len() < limit / 2 {
                // A bounded step found little; the next one is for the next turn, when the others have had theirs.
                buffers.share = TURN_SHARE_BYTES;
                if buffers.out.is_empty() && !buffers.queued {
                    buffers.queued = true;
                    self.later.push_back(conn);
                }
            }
            let logged = self.node.logged().0;
            self.gate(conn, from, logged);
            self.perform();
            self.resume(conn);
        }
        let Some(buffers) = self.conns.get(conn.0 as usize).and_then(Option::as_ref) else { return &[] };
        let end = buffers.first_gate().unwrap_or(buffers.out.len());
        &buffers.out[buffers.sent..end]
    }

    /// Notes that the first `count` bytes of [`output`](Self::output) were written. Once all have gone, input that
    /// waited for room is taken and the connection may have output again.
    pub fn sent(&mut self, conn: ConnId, count: usize) {
        let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        buffers.sent += count;
        buffers.share = buffers.share.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        debug_assert!(buffers.sent <= buffers.out.len(), "no more is sent than there was");
        if buffers.sent < buffers.out.len() {
            return;
        }
        buffers.compact();
        if buffers.blocked {
            self.receive_rest(conn);
            self.perform();
        }
    }

    /// Queues `conn` again: its socket takes bytes once more.
    pub fn writable(&mut self, conn: ConnId) {
        self.queue_if_unsent(conn);
    }

    /// Whether `conn` is to be closed now. The driver closes the socket and then calls [`gone`](Self::gone).
    #[must_use]
    pub fn finished(&self, conn: ConnId) -> Option<Close> {
        let buffers = self.conns.get(conn.0 as usize)?.as_ref()?;
        let why = buffers.closing?;
        (!why.flushes() || buffers.sent == buffers.out.len()).then_some(why)
    }

    /// Whether the node has ended `conn` and only its last replies keep it; a driver bounds how long it waits for them.
    #[must_use]
    pub fn is_closing(&self, conn: ConnId) -> bool {
        self.conns.get(conn.0 as usize).and_then(Option::as_ref).is_some_and(|buffers| buffers.closing.is_some())
    }

    /// Forgets a connection that the driver has closed because it was [`finished`](Self::finished).
    pub fn gone(&mut self, conn: ConnId) {
        if let Some(slot) = self.conns.get_mut(conn.0 as usize) {
            *slot = None;
        }
        self.gated.retain(|gated| *gated != conn);
    }

    /// When the next turn must begin at the latest, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        if self.ready.is_empty() && self.later.is_empty() { self.node.deadline() } else { Some(self.now.mono) }
    }

    /// Output that was not sent, with what waits for the disk.
    #[must_use]
    pub fn unsent(&self, conn: ConnId) -> &[u8] {
        self.conns.get(conn.0 as usize).and_then(Option::as_ref).map_or(&[], |buffers| &buffers.out[buffers.sent..])
    }

    /// Bytes held in the buffers of `conn`: input not taken, output not sent.
    #[must_use]
    pub fn held(&self, conn: ConnId) -> (usize, usize) {
        self.conns
            .get(conn.0 as usize)
            .and_then(Option::as_ref)
            .map_or((0, 0), |buffers| (buffers.rest.len(), buffers.out.len() - buffers.sent))
    }

    fn buffers(&mut self, conn: ConnId) -> Option<&mut Buffers> {
        self.conns.get_mut(conn.0 as usize)?.as_mut()
    }

    fn receive_rest(&mut self, conn: ConnId) {
        let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        if buffers.closing.is_some() {
            return;
        }
        buffers.compact();
        let (from, before) = (buffers.out.len(), self.node.logged().0);
        let used = self.node.receive(self.now, conn, &buffers.rest, &mut buffers.out, &mut self.effects);
        buffers.rest.drain(..used);
        buffers.blocked =
            !buffers.rest.is_empty() && self.node.is_full(conn, buffers.out.len()) || self.node.is_waiting(conn);
        if buffers.rest.is_empty() && buffers.rest.capacity() > IDLE_CAPACITY_BYTES {
            buffers.rest = Vec::new();
        }
        self.gate(conn, from, before);
    }

    /// Takes the input that was kept while a client waited, once it has its late reply.
    fn resume(&mut self, conn: ConnId) {
        let answered = |buffers: &mut Buffers| buffers.blocked && !buffers.more;
        if self.buffers(conn).is_some_and(answered) && !self.node.is_waiting(conn) {
            self.receive_rest(conn);
            self.perform();
        }
    }

    /// Carries out what needs no operating system and keeps the rest for the driver.
    fn perform(&mut self) {
        let mut actions = std::mem::take(&mut self.effects.actions);
        for action in actions.drain(..) {
            match action {
                Action::Dial { addr } => self.dials.push_back(addr),
                Action::Job { job } => self.jobs.push_back(job),
                Action::Wake { conn } => {
                    if let Some(buffers) = self.buffers(conn) {
                        buffers.more = true;
                        if self.node.is_link(conn) { self.queue_first(conn) } else { self.queue(conn) }
                    }
                }
                Action::Close { conn, why } => {
                    if let Some(buffers) = self.buffers(conn) {
                        buffers.closing = Some(why);
                        buffers.out.extend_from_slice(why.parting());
                        self.queue(conn);
                    }
                }
            }
        }
        self.effects.actions = actions;
    }

    fn queue_if_unsent(&mut self, conn: ConnId) {
        if self.buffers(conn).is_some_and(|buffers| buffers.sent < buffers.out.len() || buffers.more) {
            self.queue(conn);
        }
    }

    /// Queues a link before the clients: by the time that a client hears that its write was taken, the kernel has it
    /// for the peers, and the end of this process alone does not lose it.
    fn queue_first(&mut self, conn: ConnId) {
        if let Some(buffers) = self.buffers(conn)
            && !buffers.queued
        {
            buffers.queued = true;
            self.ready.push_front(conn);
        }
    }

    fn queue(&mut self, conn: ConnId) {
        if let Some(buffers) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut)
            && !buffers.queued
        {
            buffers.queued = true;
            self.ready.push_back(conn);
        }
    }
}

impl Buffers {
    /// Where output begins that waits for the disk.
    #[inline]
    fn first_gate(&self) -> Option<usize> {
        self.gates.as_ref()?.0.front().map(|(from, _)| *from)
    }

    /// Drops what was sent, and capacity that an idle connection does not need.
    fn compact(&mut self) {
        if self.sent == self.out.len() {
            self.out.clear();
            if self.out.capacity() > IDLE_CAPACITY_BYTES && !self.more {
                self.out = Vec::new();
            }
        } else if self.sent > 0 {
            self.out.drain(..self.sent);
            let gates = self.gates.iter_mut().flat_map(|gates| &mut gates.0);
            gates.for_each(|(from, _)| *from -= self.sent);
        }
        self.sent = 0;
    }
}
