//! TLS on one connection: bytes of its socket in, plain bytes out, and the other way round.
//!
//! Nothing is left inside: what was taken is decrypted and handed on at once, but for the start of a record whose
//! end has not come. So a connection with nothing in its socket has nothing to be read. On the way out at most
//! [`SEALED_BYTES_MAX`] wait for the socket; more is not taken until they have gone, so that what is not read stays
//! where the core counts it.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use kv_core::Mono;
use rustls::server::{AcceptedAlert, Acceptor};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::{Door, PEER_ALPN};

/// What waits sealed for a socket, besides what a record adds: as much as one write of a client that reads takes.
const SEALED_BYTES_MAX: usize = 64 << 10;

/// TLS on a connection.
pub(crate) struct Session {
    state: State,
    /// If the other side came as a node, or was dialed as one: what it is called in the log.
    peer: Option<Box<str>>,
    /// When a handshake that is not over is given up.
    until: Option<Mono>,
}

enum State {
    /// The first message, which says how it is met, has not wholly come.
    Unmet(Acceptor),
    Stands(Connection),
    /// It came to nothing; what is left to say about that.
    Failed(Option<AcceptedAlert>),
}

/// Takes plain bytes.
type Sink<'a> = dyn FnMut(&[u8]) + 'a;

/// Whether the first message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Not,
    /// Now, and a client's.
    AsClient,
    /// Now, and a node's: nothing more comes of this connection unless it shows a certificate of one.
    AsPeer,
    /// Before.
    Before,
}

/// What is known after bytes were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More may come.
    Open,
    /// The other side has said that it sends no more.
    Ended,
}

/// Why a connection is of no use any more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    pub(crate) why: rustls::Error,
    /// If the other side came as a node, or was dialed as one: what it is called.
    pub(crate) peer: Option<Box<str>>,
}

impl Session {
    /// With somebody who came in, and who has until `until` for the handshake.
    pub(crate) fn met(until: Mono) -> Self {
        Self { state: State::Unmet(Acceptor::default()), peer: None, until: Some(until) }
    }

    /// With the node `peer` that was dialed; its certificate was found good.
    pub(crate) fn dialed(mut connection: ClientConnection, peer: &str) -> Self {
        connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
        Self { state: State::Stands(connection.into()), peer: Some(peer.into()), until: None }
    }

    /// When the handshake is given up, unless it is over.
    pub(crate) const fn until(&self) -> Option<Mono> {
        self.until
    }

    /// Takes of `bytes` what belongs to the first message. Nothing is [taken](Self::take) before that has come.
    pub(crate) fn meet(&mut self, door: &Door, bytes: &mut &[u8]) -> Result<Met, Broken> {
        let State::Unmet(acceptor) = &mut self.state else { return Ok(Met::Before) };
        match meet(acceptor, door, bytes) {
            Ok(None) => Ok(Met::Not),
            Ok(Some((mut connection, is_peer))) => {
                connection.set_buffer_limit(Some(SEALED_BYTES_MAX));
                self.state = State::Stands(connection.into());
                Ok(if is_peer { Met::AsPeer } else { Met::AsClient })
            }
            Err((why, alert)) => {
                self.state = State::Failed(alert);
                Err(Broken { why, peer: None })
            }
        }
    }

    /// Says what the other side, which came as a node, is called in the log.
    pub(crate) fn call_peer(&mut self, name: String) {
        self.peer = Some(name.into());
    }

    /// Takes what was read, and hands on what it says: nothing until the handshake is over. After an error
    /// [`part`](Self::part) tells the other side why.
    pub(crate) fn take(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Taken, Broken> {
        let State::Stands(connection) = &mut self.state else { return Ok(Taken::Ended) };
        let taken = decrypt(connection, bytes, sink).map_err(|why| Broken { why, peer: self.peer.clone() })?;
        if !connection.is_handshaking() {
            self.until = None;
        }
        Ok(taken)
    }

    /// Whether anything is ready for the socket.
    pub(crate) fn holds_sealed(&self) -> bool {
        match &self.state {
            State::Unmet(_) | State::Failed(_) => false,
            State::Stands(connection) => connection.wants_write(),
        }
    }

    /// Seals the beginning of `plain`, and returns how much; 0 while something else is to be sent before.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Stands(connection) if !connection.is_handshaking() => connection.writer().write(plain),
            State::Unmet(_) | State::Stands(_) | State::Failed(_) => Ok(0),
        }
    }

    /// Writes some of what is sealed.
    pub(crate) fn write_to(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        match &mut self.state {
            State::Unmet(_) | State::Failed(_) => Ok(0),
            State::Stands(connection) => connection.write_tls(socket),
        }
    }

    /// Says that nothing more comes, or what was wrong, as far as the socket takes it.
    pub(crate) fn part(mut self, socket: &mut dyn Write) {
        match &mut self.state {
            State::Unmet(_) => {}
            State::Stands(connection) => {
                connection.send_close_notify();
                while connection.wants_write() && connection.write_tls(socket).is_ok_and(|count| count > 0) {}
            }
            State::Failed(alert) => {
                // Whoever does not take it is not told.
                let _ = alert.as_mut().map(|alert| alert.write_all(socket));
            }
        }
    }
}

/// Why there is nothing in common, and what is left to say about that.
type Unmet = (rustls::Error, Option<AcceptedAlert>);

/// Takes bytes of the first message, until it is whole: then the connection, and whether it is a node's. What lies
/// behind the message is in the connection by then, or left in `bytes`.
fn meet(acceptor: &mut Acceptor, door: &Door, bytes: &mut &[u8]) -> Result<Option<(ServerConnection, bool)>, Unmet> {
    while !bytes.is_empty() {
        if !acceptor.read_tls(bytes).is_ok_and(|count| count > 0) {
            return Err((rustls::Error::General("the first message is too long".to_owned()), None));
        }
        let alerted = |(error, alert)| (error, Some(alert));
        let Some(accepted) = acceptor.accept().map_err(alerted)? else { continue };
        let names_peer = accepted.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == PEER_ALPN));
        let peers = door.peers.as_ref().filter(|_| names_peer);
        let is_peer = peers.is_some();
        let config = Arc::clone(peers.unwrap_or(&door.clients));
        let connection = accepted.into_connection(config).map_err(alerted)?;
        return Ok(Some((connection, is_peer)));
    }
    Ok(None)
}

/// Decrypts all of `bytes` and what has come before.
fn decrypt(connection: &mut Connection, mut bytes: &[u8], sink: &mut Sink<'_>) -> Result<Taken, rustls::Error> {
    loop {
        let processed = connection.process_new_packets();
        // Also before an error: what is taken depends on the bytes only, never on how they were split into reads.
        hand_on(connection, sink);
        if processed?.peer_has_closed() {
            return Ok(Taken::Ended);
        }
        if bytes.is_empty() {
            return Ok(Taken::Open);
        }
        if !connection.read_tls(&mut bytes).is_ok_and(|count| count > 0) {
            return Err(rustls::Error::General("a message is too long".to_owned()));
        }
    }
}

fn hand_on(connection: &mut Connection, sink: &mut Sink<'_>) {
    let mut reader = connection.reader();
    // It says by an error that there is nothing, for now or for ever.
    while let Ok(plain @ [_, ..]) = reader.fill_buf() {
        let count = plain.len();
        sink(plain);
        reader.consume(count);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state: _, peer, until } = self;
        f.debug_struct("Session").field("peer", peer).field("until", until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
