//! What bytes come and go by: a socket that blocks for as long as its time-outs let it, with TLS on it or without.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;

use super::connection::connect;
use crate::tls::client::{ClientTls, explained};

#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Connects to `host:port`, by TLS if `tls` is given. `within` is for all of it.
    pub(super) fn connect(server: &str, tls: Option<&ClientTls>, within: Duration) -> io::Result<Self> {
        let begin = Instant::now();
        let mut socket = connect(server, within)?;
        socket.set_nodelay(true)?;
        let shaken = tls.map(|tls| tls.shake_hands(server, &mut socket, within.saturating_sub(begin.elapsed())));
        let tls = shaken.transpose()?.map(Box::new);
        Ok(Self { socket, tls })
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// How long one read may wait.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))
    }

    /// How long one write may wait.
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(timeout))
    }

    /// Whether the other side has ended it, and nothing is left to read. Does not wait.
    pub(super) fn has_ended(&mut self) -> bool {
        let looked = self.socket.set_nonblocking(true).and_then(|()| match &mut self.tls {
            None => self.socket.peek(&mut [0]),
            // What comes without being asked for, as tickets, is no end.
            Some(tls) => fill(tls, &mut self.socket).map(usize::from),
        });
        let is_there = match looked {
            Ok(count) => count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.socket.set_nonblocking(false).is_err() || !is_there
    }
}

/// Reads records until there is something to read in them; false if the end came before.
fn fill(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<bool> {
    loop {
        let state = tls.process_new_packets().map_err(|error| explained(&error))?;
        if state.plaintext_bytes_to_read() > 0 {
            return Ok(true);
        }
        if state.peer_has_closed() || tls.read_tls(socket)? == 0 {
            return Ok(false);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        match fill(tls, &mut self.socket)? {
            true => tls.reader().read(buffer),
            false => Ok(0),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What TLS has taken goes first, so that it never has more than one write of it.
        self.flush()?;
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => tls.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            if tls.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
