//! Connections that TLS is, or may be, spoken on.

use std::io::{ErrorKind, Write};

use kv_core::{ConnId, Mono, Turn};
use mio::net::TcpStream;
use tracing::{debug, warn};

use super::{AfterRead, Connection, Connections, ReadSide, Transport};
use crate::tls::{Broken, Meeting, Met, Session, Taken};

/// What TLS begins with: a record of a handshake. No dialect begins so, and the first byte alone decides, so that it
/// does not matter how the others are split into reads.
const HANDSHAKE_RECORD: u8 = 0x16;
/// What clients of the Redis protocol begin with; they take lines for errors that begin in their way.
const REDIS_REQUEST: u8 = b'*';
/// How long after a peer was refused for its TLS no other is told of: whoever likes can cause it.
const REFUSAL_QUIET_MS: u64 = 10_000;

impl Connections {
    /// Says why TLS came to nothing, where somebody who looks after nodes is to know.
    pub(super) fn tell_broken(&mut self, conn: ConnId, broken: &Broken, meeting: Option<Meeting<'_>>) {
        let is_told = |until: Mono| self.refusal_told.is_none_or(|told| told.plus_ms(REFUSAL_QUIET_MS) <= until);
        match (meeting, &broken.peer) {
            (Some(Meeting { until, .. }), Some(peer)) if is_told(until) => {
                self.refusal_told = Some(until);
                warn!(
                    peer,
                    error = %broken.why,
                    "no link by TLS with a node: see that each has a certificate of the other's --tls-peer-ca"
                );
            }
            _ => debug!(conn = conn.0, error = %broken.why, "TLS came to nothing"),
        }
    }
}

impl Connection {
    /// Whether reading it may cost as much as a handshake does.
    pub(super) fn may_shake_hands(&self) -> bool {
        match &self.transport {
            Transport::Plain => false,
            Transport::Unknown => true,
            Transport::Tls(session) => session.until().is_some(),
        }
    }

    /// When its handshake is given up, if one is under way.
    pub(super) fn handshake_until(&self) -> Option<Mono> {
        match &self.transport {
            Transport::Plain | Transport::Unknown => None,
            Transport::Tls(session) => session.until(),
        }
    }

    /// Whether anything that TLS has taken is to be written to the socket.
    pub(super) fn holds_sealed(&self) -> bool {
        matches!(&self.transport, Transport::Tls(session) if session.holds_sealed())
    }

    /// Takes what was read. Some: it is not read any more.
    pub(super) fn unseal(
        &mut self,
        turn: &mut Turn,
        conn: ConnId,
        mut bytes: &[u8],
        meeting: Option<Meeting<'_>>,
    ) -> Option<AfterRead> {
        // As long as a node runs it does not leave off TLS.
        let Some(Meeting { door, until }) = meeting else { return Some(AfterRead::Lost) };
        if matches!(self.transport, Transport::Unknown) {
            if bytes.first() != Some(&HANDSHAKE_RECORD) {
                if door.is_required() {
                    refuse_plain(&self.stream, bytes);
                    return Some(AfterRead::Lost);
                }
                self.transport = Transport::Plain;
                turn.input(conn, bytes);
                return None;
            }
            self.transport = Transport::Tls(Box::new(Session::met(until)));
        }
        let Transport::Tls(session) = &mut self.transport else { return None };
        match session.meet(door, &mut bytes) {
            Ok(Met::Not) => return None,
            // Nothing that it says is handed on before its certificate was found good.
            Ok(Met::AsPeer) => {
                session
                    .call_peer(self.stream.peer_addr().map_or_else(|error| error.to_string(), |from| from.to_string()));
                turn.allow_peer(conn, true);
            }
            Ok(Met::AsClient | Met::Before) => {}
            Err(broken) => return Some(AfterRead::Broken(broken)),
        }
        match session.take(bytes, &mut |plain| turn.input(conn, plain)) {
            Ok(Taken::Open) => None,
            Ok(Taken::Ended) => {
                self.read = ReadSide::Ended;
                Some(AfterRead::Ended)
            }
            Err(broken) => Some(AfterRead::Broken(broken)),
        }
    }

    /// Writes until there is nothing to write or the socket is full. False if the connection is gone.
    pub(super) fn write_sealed(&mut self, turn: &mut Turn, conn: ConnId) -> bool {
        let Transport::Tls(session) = &mut self.transport else { return true };
        while self.writable {
            if session.holds_sealed() {
                match session.write_to(&mut &*self.stream) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return false,
                }
                continue;
            }
            if session.until().is_some() {
                break;
            }
            match session.seal(turn.output(conn)) {
                Ok(0) => break,
                Ok(count) => turn.sent(conn, count),
                Err(_) => return false,
            }
        }
        true
    }
}

/// Says to somebody who came as plain text that this is not taken.
fn refuse_plain(mut stream: &TcpStream, bytes: &[u8]) {
    let (prefix, end) = if bytes.first() == Some(&REDIS_REQUEST) { ("-ERR", "\r\n") } else { ("Error:", "\n") };
    let line = format!("{prefix} this port takes TLS only, and nothing was done; connect by TLS{end}");
    // Whoever does not take it is not told.
    let _ = stream.write(line.as_bytes());
}
