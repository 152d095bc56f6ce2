//! One connection: requests that are under way on it, and bytes that are to be sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConnection;

use super::options::Protocol;
use super::reply::{Garbage, Replies, Reply};
use super::workload::Request;
use crate::tls::client::{ClientTls, explained};

/// How long a server has for accepting a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How much is shown of what a server says that is no answer.
const SHOWN_BYTES_MAX: usize = 200;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(crate) enum Broken {
    Closed,
    System(io::Error),
    /// It said this instead of an answer to what was asked.
    Garbage(String),
    /// It said this, and wants no connection.
    Refused(String),
    /// It said this, and nothing was asked.
    Unasked(String),
    /// Nothing was answered for so long, and something was asked.
    Silent(Duration),
}

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How it is reached by TLS, if it is, and what it is called there (`host:port`).
    pub(crate) tls: Option<(ClientTls, String)>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    replies: Replies,
    out: Vec<u8>,
    /// How much of `out` was sent.
    sent: usize,
    /// Oldest first, as they are answered.
    under_way: VecDeque<Pending>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request,
    /// The time from which it is measured.
    pub(crate) since_ns: u64,
}

impl Connection {
    pub(crate) fn connect(server: &Server, protocol: Protocol) -> io::Result<Self> {
        let mut stream = std::net::TcpStream::connect_timeout(&server.address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        let shaken = server.tls.as_ref().map(|(tls, name)| tls.shake_hands(name, &mut stream, CONNECT_WITHIN));
        let tls = shaken.transpose()?.map(Box::new);
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            tls,
            replies: Replies::new(protocol),
            out: Vec::new(),
            sent: 0,
            under_way: VecDeque::new(),
        })
    }

    pub(crate) fn under_way(&self) -> &VecDeque<Pending> {
        &self.under_way
    }

    /// Whether anything is left to send, besides what TLS has taken.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Takes a request up, which `put` writes, to be measured from `since_ns` on.
    pub(crate) fn ask(&mut self, since_ns: u64, put: impl FnOnce(&mut Vec<u8>) -> Request) {
        let request = put(&mut self.out);
        self.under_way.push_back(Pending { request, since_ns });
    }

    /// Sends as much as goes.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while self.has_unsent() || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            let written = match &mut self.tls {
                None => self.stream.write(&self.out[self.sent..]),
                Some(tls) if tls.wants_write() => match tls.write_tls(&mut self.stream) {
                    Ok(1..) => continue,
                    written => written,
                },
                Some(tls) => tls.writer().write(&self.out[self.sent..]),
            };
            match written {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        // What was sent goes once it is more than what is left, so that moving the rest costs less than sending did.
        if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Reads once into `buffer`, by TLS as much as there is room for, and returns how much; 0 if nothing is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        if let Some(tls) = &mut self.tls {
            return read_by_tls(tls, &mut self.stream, buffer);
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes in what was read, and shows each answer that is whole by then with its request.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut took: impl FnMut(Pending, Reply<'_>)) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let come = bytes;
            let Some(pending) = self.under_way.front().copied() else {
                return Err(match self.replies.turns_away(come) {
                    true => Broken::Refused(shown(come.strip_prefix(b"-").unwrap_or(come))),
                    false => Broken::Unasked(shown(come)),
                });
            };
            match self.replies.next(pending.request, &mut bytes) {
                Ok(None) => break,
                Ok(Some(reply)) => took(pending, reply),
                Err(Garbage) => return Err(Broken::Garbage(shown(come))),
            }
            self.under_way.pop_front();
        }
        Ok(())
    }
}

/// Reads as much as there is, or there is room for; 0 if nothing is there.
fn read_by_tls(tls: &mut ClientConnection, stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Broken> {
    let mut count = 0;
    while count < buffer.len() {
        match tls.reader().read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => {
                count += more;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // It has ended in the middle.
            Err(_) => break,
        }
        match tls.read_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        tls.process_new_packets().map_err(|error| Broken::System(explained(&error)))?;
    }
    if count == 0 { Err(Broken::Closed) } else { Ok(count) }
}

/// The beginning of what a server said, as text.
fn shown(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]).trim_end().to_owned()
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::System(error),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed a connection"),
            Self::System(error) => write!(f, "cannot be reached any more: {error}"),
            Self::Garbage(said) => {
                write!(f, "gives no answer to what it is asked, or in another protocol than --protocol says: ")?;
                write!(f, "{}", said.escape_debug())
            }
            Self::Refused(said) => write!(f, "refused a connection: {}", said.escape_debug()),
            Self::Unasked(said) => write!(f, "said what nobody asked for: {}", said.escape_debug()),
            Self::Silent(silence) => write!(f, "has answered nothing for {} s", silence.as_secs()),
        }
    }
}
