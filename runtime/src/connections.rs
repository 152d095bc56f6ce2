//! Standing connections: moving bytes between their sockets and the turn.
//!
//! Sockets are registered once, edge-triggered, for both directions. What an edge said is remembered here until a
//! read or write shows that it no longer holds. A slab key, and with it a connection's number and token, may be used
//! again while an old queue entry still names it: the worst that follows is one read or write that would block. No
//! event does: nothing is told of a socket that was closed.

mod helped;
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::iter;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{ConnId, Event, Mono, Turn};
use mio::net::TcpStream;
use rustix::net::{self, RecvFlags, SendFlags};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};
use tracing::debug;

use crate::helpers::{Helpers, Task};
use crate::tls::{Broken, Meeting, Session};

/// One read. Large enough that a pipelining client is served by one system call a turn; shared by all connections.
const SCRATCH_BYTES: usize = 64 << 10;
/// How much of it is read before what is there is handed in: several connections that say little are read one behind
/// the other, so that the node can get ready for all of them at once.
const SCRATCH_BATCH_BYTES: usize = SCRATCH_BYTES / 4;
/// What one connection may be read in one turn before the others have theirs.
const READ_SHARE_BYTES: usize = 4 * SCRATCH_BYTES;
/// How long a connection that is being closed may take to accept its last replies.
const LINGER_MS: u64 = 5_000;
/// Connections whose TLS handshake goes on in one turn. A signature with a long RSA key takes a millisecond or two, and
/// everybody else waits for it.
const HANDSHAKES_PER_TURN: usize = 8;
/// A connection on which nothing moved for this long is probed; most gateways forget one after two minutes or more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which a connection is lost: two minutes after the other side vanished.
const KEEPALIVE_PROBES: u32 = 4;

/// All standing connections. A connection's number is its key in the slab.
#[derive(Debug)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
    scratch: Box<[u8]>,
    /// What is in it that was not handed in yet: of whom, and where it ends. It begins where that before it ends.
    batch: Vec<(ConnId, usize)>,
    /// Those to read next: an edge came, or their share of the last turn was used up, or they were held back.
    reads: VecDeque<ConnId>,
    /// Those that ended in this turn, or on which TLS may have something to say; looked at again once its replies have
    /// gone.
    again: Vec<ConnId>,
    /// Those being closed with replies unsent, oldest first.
    lingering: VecDeque<(Mono, ConnId)>,
    /// Those that began a TLS handshake, oldest first, by when it is given up: it may be over.
    handshakes: VecDeque<(Mono, ConnId)>,
    /// When a handshake that began as the last refused peer was told of would have been given up.
    refusal_told: Option<Mono>,
    /// No more input of clients: the node is stopping.
    input_closed: bool,
    /// If there are more threads than one.
    helpers: Option<Helpers>,
    /// In this turn helpers have their part.
    is_shared: bool,
    next_serial: u32,
}

#[derive(Debug)]
struct Connection {
    /// Helpers have it, too, as long as they read or write.
    stream: Arc<TcpStream>,
    /// See [`Job::serial`](crate::helpers::Job::serial).
    serial: u32,
    is_read_by_helper: bool,
    is_written_by_helper: bool,
    /// Helpers have too little room for what it sends: the loop reads it next.
    is_for_loop: bool,
    transport: Transport,
    read: ReadSide,
    /// In `reads`.
    queued: bool,
    /// The other side closed its half, or more: a short read does not mean that the socket is drained.
    hung_up: bool,
    /// Neither direction works any more.
    broken: bool,
    /// False from a write that did not take all until the next edge.
    writable: bool,
    /// When it is closed whether or not its last replies have gone.
    linger_until: Option<Mono>,
}

/// What lies between a socket and the turn.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain,
    /// The first byte will say.
    Unknown,
    Tls(Box<Session>),
}

/// What is known of a socket's incoming half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadSide {
    /// Nothing to read until the next edge.
    Drained,
    /// There may be something to read.
    Ready,
    /// All was read and the other side sends no more.
    Ended,
}

impl Connections {
    /// With room reserved for so many.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            slab: Slab::with_capacity(room),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            batch: Vec::new(),
            reads: VecDeque::new(),
            again: Vec::new(),
            lingering: VecDeque::new(),
            handshakes: VecDeque::new(),
            refusal_told: None,
            input_closed: false,
            helpers: None,
            is_shared: false,
            next_serial: 0,
        }
    }

    /// Has these help from now on.
    pub(crate) fn let_help(&mut self, helpers: Helpers) {
        self.helpers = Some(helpers);
    }

    /// Takes a connected stream and what lies before it. `register` gets it with its number before it is kept; if that
    /// fails it is dropped.
    pub(crate) fn add(
        &mut self,
        mut stream: TcpStream,
        transport: Transport,
        register: impl FnOnce(&mut TcpStream, ConnId) -> io::Result<()>,
    ) -> Option<ConnId> {
        let entry = self.slab.vacant_entry();
        let conn = ConnId(u32::try_from(entry.key()).ok()?);
        if let Err(error) = tune(&stream).and_then(|()| register(&mut stream, conn)) {
            debug!(%error, "a connection was lost before it was served");
            return None;
        }
        if matches!(transport, Transport::Tls(_)) {
            // The end of its handshake may be left to send.
            self.again.push(conn);
        }
        self.next_serial = self.next_serial.wrapping_add(1);
        entry.insert(Connection {
            stream: Arc::new(stream),
            serial: self.next_serial,
            is_read_by_helper: false,
            is_written_by_helper: false,
            is_for_loop: false,
            transport,
            read: ReadSide::Drained,
            queued: false,
            hung_up: false,
            broken: false,
            writable: true,
            linger_until: None,
        });
        Some(conn)
    }

    /// Remembers what an event said.
    pub(crate) fn noticed(&mut self, turn: &mut Turn, conn: ConnId, event: &mio::event::Event) {
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return };
        connection.hung_up |= event.is_read_closed();
        connection.broken |= event.is_error() || event.is_write_closed();
        if event.is_writable() {
            connection.writable = true;
            turn.writable(conn);
            if connection.holds_sealed() {
                self.again.push(conn);
            }
        }
        let is_news = event.is_readable() || connection.hung_up || connection.broken;
        if is_news && connection.read != ReadSide::Ended {
            connection.read = ReadSide::Ready;
            self.queue_read(conn);
        } else if connection.broken {
            self.again.push(conn);
        }
    }

    /// Reads every connection that has something, each its share. `meeting` is how TLS is met, if it is.
    pub(crate) fn read(&mut self, turn: &mut Turn, meeting: Option<Meeting<'_>>) {
        let mut handshakes_left = HANDSHAKES_PER_TURN;
        for _ in 0..self.reads.len() {
            let Some(conn) = self.reads.pop_front() else { break };
            let Some(connection) = self.slab.get_mut(conn.0 as usize) else { continue };
            if connection.may_shake_hands() {
                if handshakes_left == 0 {
                    self.reads.push_back(conn);
                    continue;
                }
                handshakes_left -= 1;
            }
            connection.queued = false;
            if connection.is_read_by_helper {
                // An old entry. Read from two sides at once, what it sends would lose its order.
                continue;
            }
            if self.leave_reading(turn, conn) || self.read_into_batch(turn, conn) {
                continue;
            }
            self.hand_in(turn);
            self.read_one(turn, conn, meeting);
        }
        self.hand_over(Task::Read);
        self.hand_in(turn);
    }

    /// Reads of `conn` what fits behind what is there. False if it is not of those that say little, or nothing can be
    /// said of it but by [`read_one`](Self::read_one).
    fn read_into_batch(&mut self, turn: &mut Turn, conn: ConnId) -> bool {
        if self.batch.last().is_some_and(|(_, upto)| *upto > SCRATCH_BATCH_BYTES) {
            self.hand_in(turn);
        }
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return true };
        connection.is_for_loop = false;
        let is_plain = matches!(connection.transport, Transport::Plain);
        if self.input_closed || !is_plain || connection.hung_up || connection.broken || !turn.wants_read(conn) {
            return false;
        }
        let from = self.batch.last().map_or(0, |(_, upto)| *upto);
        let room = &mut self.scratch[from..];
        match receive(&connection.stream, room) {
            Ok(count) if 0 < count && count < room.len() => {
                // Drained: what arrives from now on is a new edge, so no read is spent on `WouldBlock`.
                connection.read = ReadSide::Drained;
                self.batch.push((conn, from + count));
                true
            }
            Ok(count @ 1..) => {
                self.batch.push((conn, from + count));
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.read = ReadSide::Drained;
                true
            }
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                // It is told once.
                self.lose(turn, conn);
                true
            }
            // It ends, which is told again; or it was not read.
            Ok(0) | Err(_) => false,
        }
    }

    /// Hands in what was read of several connections.
    fn hand_in(&mut self, turn: &mut Turn) {
        if let [_, _, ..] = *self.batch {
            turn.expect(pieces(&self.batch, &self.scratch));
        }
        for (conn, piece) in pieces(&self.batch, &self.scratch) {
            turn.input(conn, piece);
        }
        self.batch.clear();
    }

    /// Reads `conn` its share.
    fn read_one(&mut self, turn: &mut Turn, conn: ConnId, meeting: Option<Meeting<'_>>) {
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return };
        let is_news = matches!(connection.transport, Transport::Unknown);
        let after = connection.read_share(turn, conn, &mut self.scratch, self.input_closed, meeting);
        if let Transport::Tls(session) = &connection.transport {
            self.again.push(conn);
            self.handshakes.extend(session.until().filter(|_| is_news).map(|until| (until, conn)));
        }
        match after {
            AfterRead::Wait => {}
            AfterRead::Again => {
                connection.is_for_loop = true;
                self.queue_read(conn);
            }
            AfterRead::Ended => self.again.push(conn),
            AfterRead::Lost => self.lose(turn, conn),
            AfterRead::Broken(broken) => {
                self.tell_broken(conn, &broken, meeting);
                self.lose(turn, conn);
            }
        }
    }

    /// Writes what `conn` has to send, ends it if it is time, and lets it be read again if it was held back.
    pub(crate) fn flush(&mut self, turn: &mut Turn, conn: ConnId, now: Mono) {
        // What a helper writes to is looked at again when that came back.
        let is_written = |connections: &Self| {
            connections.slab.get(conn.0 as usize).is_none_or(|connection| connection.is_written_by_helper)
        };
        if self.helpers.is_some() && (is_written(self) || self.leave_writing(turn, conn)) {
            return;
        }
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return };
        if !connection.write(turn, conn) {
            self.lose(turn, conn);
        } else if turn.finished(conn).is_some_and(|why| !why.flushes() || !connection.holds_sealed()) {
            self.close(conn);
            turn.gone(conn);
        } else if turn.is_closing(conn) {
            if connection.linger_until.is_none() {
                let until = now.plus_ms(LINGER_MS);
                connection.linger_until = Some(until);
                self.lingering.push_back((until, conn));
            }
        } else if connection.read == ReadSide::Ended && (connection.broken || !connection.has_unsent(turn, conn)) {
            self.lose(turn, conn);
        } else if connection.read == ReadSide::Ready && turn.wants_read(conn) {
            self.queue_read(conn);
        }
    }

    /// Ends those that sent all they will send and have their replies, and those that linger or shake hands for too
    /// long. Called after the turn's replies were written.
    pub(crate) fn end(&mut self, turn: &mut Turn, now: Mono) {
        while let Some(conn) = self.again.pop() {
            self.flush(turn, conn, now);
        }
        self.hand_over(Task::Write);
        while let Some(&(until, conn)) = self.lingering.front()
            && until <= now
        {
            self.lingering.pop_front();
            if self.slab.get(conn.0 as usize).is_some_and(|connection| connection.linger_until == Some(until)) {
                self.lose(turn, conn);
            }
        }
        while let Some(&(until, conn)) = self.handshakes.front()
            && until <= now
        {
            self.handshakes.pop_front();
            if self.slab.get(conn.0 as usize).and_then(Connection::handshake_until) == Some(until) {
                debug!("a TLS handshake took too long");
                self.lose(turn, conn);
            }
        }
    }

    /// When [`end`](Self::end) has something to do, or now if there is something to read.
    pub(crate) fn deadline(&self, now: Mono) -> Option<Mono> {
        if !self.reads.is_empty() {
            return Some(now);
        }
        [&self.lingering, &self.handshakes].into_iter().filter_map(VecDeque::front).map(|&(until, _)| until).min()
    }

    /// Whether any connection may have input that can be taken now.
    pub(crate) fn has_unread(&self) -> bool {
        !self.reads.is_empty() || self.helpers.as_ref().is_some_and(Helpers::are_busy)
    }

    /// Reads nothing more of clients: what was received by now is all that is answered. Peers go on.
    pub(crate) fn close_input(&mut self, turn: &Turn) {
        self.input_closed = true;
        self.reads.retain(|conn| turn.is_link(*conn));
    }

    /// Whether any client has output that did not go out yet.
    pub(crate) fn has_unsent(&self, turn: &Turn) -> bool {
        self.clients(turn).any(|(conn, connection)| connection.has_unsent(turn, conn))
    }

    /// Says to every client that nothing more comes, but for those who wait for other nodes.
    pub(crate) fn close_clients(&mut self, turn: &mut Turn) {
        let idle = self.clients(turn).map(|(conn, _)| conn).filter(|conn| !turn.node().is_waiting(*conn));
        for conn in idle.collect::<Vec<_>>() {
            self.lose(turn, conn);
        }
    }

    fn clients<'a>(&'a self, turn: &'a Turn) -> impl Iterator<Item = (ConnId, &'a Connection)> {
        let all = self.slab.iter().filter_map(|(key, connection)| Some((ConnId(u32::try_from(key).ok()?), connection)));
        all.filter(|(conn, _)| !turn.is_link(*conn))
    }

    /// Says to every client that nothing more comes.
    pub(crate) fn close_all(&mut self) {
        for connection in self.slab.drain() {
            connection.close();
        }
    }

    /// Closes the socket. False if there is none any more.
    fn close(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.slab.try_remove(conn.0 as usize) else { return false };
        if connection.is_read_by_helper || connection.is_written_by_helper {
            self.helpers.iter().for_each(|helpers| helpers.hear_no_more_of(&connection.stream));
        }
        connection.close();
        true
    }

    fn queue_read(&mut self, conn: ConnId) {
        if let Some(connection) = self.slab.get_mut(conn.0 as usize)
            && !(connection.queued || connection.is_read_by_helper)
        {
            connection.queued = true;
            self.reads.push_back(conn);
        }
    }

    /// Forgets a connection that ended by itself and tells the node.
    fn lose(&mut self, turn: &mut Turn, conn: ConnId) {
        if self.close(conn) {
            turn.event(Event::Closed { conn });
        }
    }
}

/// Whose each part of `scratch` is.
fn pieces<'a>(batch: &'a [(ConnId, usize)], scratch: &'a [u8]) -> impl Iterator<Item = (ConnId, &'a [u8])> {
    let ends_before = iter::once(0).chain(batch.iter().map(|(_, upto)| *upto));
    batch.iter().zip(ends_before).map(|((conn, upto), from)| (*conn, &scratch[from..*upto]))
}

/// Reads without the C library: its calls can be cancelled, which in a process with several threads has its price each
/// time.
pub(crate) fn receive(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    Ok(net::recv(stream, room, RecvFlags::empty())?.1)
}

/// Writes as [`receive`] reads. There is no signal if the other side has gone: Rust's runtime ignores it.
pub(crate) fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(net::send(stream, bytes, SendFlags::empty())?)
}

/// What to do about a connection that was read.
enum AfterRead {
    /// Nothing before its next edge, or before it is let on by [`Connections::flush`].
    Wait,
    /// More may be there: read it in the next turn.
    Again,
    /// The other side sends no more; it may still wait for replies.
    Ended,
    /// It is gone.
    Lost,
    /// It is of no use any more, for what TLS says.
    Broken(Broken),
}

impl Connection {
    fn read_share(
        &mut self,
        turn: &mut Turn,
        conn: ConnId,
        scratch: &mut [u8],
        input_closed: bool,
        meeting: Option<Meeting<'_>>,
    ) -> AfterRead {
        let mut share = READ_SHARE_BYTES;
        while share > 0 {
            if (input_closed && !turn.is_link(conn)) || !turn.wants_read(conn) {
                // It stays ready: no edge will tell again what the last one told.
                return if self.broken { AfterRead::Lost } else { AfterRead::Wait };
            }
            match receive(&self.stream, scratch) {
                Ok(0) => {
                    self.read = ReadSide::Ended;
                    return AfterRead::Ended;
                }
                Ok(count) => {
                    if matches!(self.transport, Transport::Plain) {
                        turn.input(conn, &scratch[..count]);
                    } else if let Some(after) = self.unseal(turn, conn, &scratch[..count], meeting) {
                        return after;
                    }
                    share = share.saturating_sub(count);
                    if count < scratch.len() && !self.hung_up && !self.broken {
                        // Drained: what arrives from now on is a new edge, so no read is spent on `WouldBlock`.
                        self.read = ReadSide::Drained;
                        return AfterRead::Wait;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.read = ReadSide::Drained;
                    return AfterRead::Wait;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return AfterRead::Lost,
            }
        }
        AfterRead::Again
    }

    /// Writes until there is nothing to write or the socket is full. False if the connection is gone.
    fn write(&mut self, turn: &mut Turn, conn: ConnId) -> bool {
        if matches!(self.transport, Transport::Tls(_)) {
            return self.write_sealed(turn, conn);
        }
        while self.writable {
            let output = turn.output(conn);
            if output.is_empty() {
                break;
            }
            match send(&self.stream, output) {
                Ok(count) => {
                    self.writable = count == output.len();
                    turn.sent(conn, count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether there is output that did not go out yet.
    fn has_unsent(&self, turn: &Turn, conn: ConnId) -> bool {
        turn.held(conn).1 > 0 || self.holds_sealed()
    }

    /// Closes the socket; what was written still arrives.
    fn close(self) {
        if let Transport::Tls(session) = self.transport {
            session.part(&mut &*self.stream);
        }
        // Closing with unread input would send a reset, which may overtake the last replies; this orders them first.
        // It fails if the other side was faster.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Sets what every connection needs: replies leave at once, and a vanished other side is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
