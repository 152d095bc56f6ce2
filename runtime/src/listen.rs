//! The listening sockets: binding them, and taking what waits in them without ever spinning.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kv_core::Mono;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, info, warn};

use crate::failure::Failure;

/// Connections that may wait to be accepted: a thousand clients that reconnect in the same moment find room, and the
/// system cuts it down to its own limit.
const BACKLOG: i32 = 4096;
/// Accepted in one turn; the rest wait for the next, so that a storm of connects does not hold up those that stand.
const ACCEPTS_PER_TURN: usize = 256;
/// How long nothing is accepted once the process or the system has no descriptor left.
const FULL_PAUSE_MS: u64 = 100;

/// The listening sockets of a node, all on one port.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<TcpListener>,
    /// Connections may wait. Sockets are edge-triggered, so this is remembered until `accept` would block.
    waiting: bool,
    /// No descriptors are left; nothing is accepted before this time.
    paused_until: Option<Mono>,
}

impl Listeners {
    /// Binds `address`, or both loopback addresses if there is none, to `port`; 0 means any free port. Without IPv6
    /// the second loopback address is left out: it is there so that `localhost` works whatever it resolves to.
    pub(crate) fn bind(address: Option<IpAddr>, port: u16) -> Result<Self, Failure> {
        let first = SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
        let listener = listen(first).map_err(|error| Failure::Listen(first, error))?;
        let bound = listener.local_addr().map_err(|error| Failure::Listen(first, error))?;
        let mut sockets = vec![listener];
        if address.is_none() {
            let second = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), bound.port());
            match listen(second) {
                Ok(listener) => sockets.push(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    warn!(address = %second, "the port is in use there: 'localhost' may lead to another process");
                }
                Err(error) => debug!(address = %second, %error, "not listening"),
            }
        }
        Ok(Self { sockets, waiting: true, paused_until: None })
    }

    /// Takes sockets that listen already.
    pub(crate) fn inherited(sockets: Vec<std::net::TcpListener>) -> Result<Self, Failure> {
        let taken =
            |socket: std::net::TcpListener| socket.set_nonblocking(true).map(|()| TcpListener::from_std(socket));
        let sockets: io::Result<Vec<_>> = sockets.into_iter().map(taken).collect();
        let sockets = sockets.map_err(|error| Failure::System("use a socket that was handed in", error))?;
        Ok(Self { sockets, waiting: true, paused_until: None })
    }

    /// The first address, with the port that it was given.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }

    /// Registers all under `token` and says where who comes in: `what`.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token, what: &str) -> io::Result<()> {
        for socket in &mut self.sockets {
            registry.register(socket, token, Interest::READABLE)?;
            info!(address = %socket.local_addr()?, "{what}");
        }
        Ok(())
    }

    /// Notes that connections wait.
    pub(crate) const fn noticed(&mut self) {
        self.waiting = true;
    }

    /// Hands each waiting connection to `take`, as many as a turn allows.
    pub(crate) fn accept(&mut self, now: Mono, mut take: impl FnMut(TcpStream)) {
        if !self.waiting || self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let mut left = ACCEPTS_PER_TURN;
        for socket in &self.sockets {
            loop {
                if left == 0 {
                    return;
                }
                left -= 1;
                match socket.accept() {
                    Ok((stream, _)) => take(stream),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_full(&error) => {
                        warn!(%error, "no new connections for a moment; close some, or raise the limit of open files");
                        self.paused_until = Some(now.plus_ms(FULL_PAUSE_MS));
                        return;
                    }
                    // The client was gone before it was accepted: its error, not the listener's.
                    Err(error) => debug!(%error, "a connection was lost before it was accepted"),
                }
            }
        }
        self.waiting = false;
    }

    /// When `accept` should be called again at the latest.
    pub(crate) fn deadline(&self, now: Mono) -> Option<Mono> {
        self.waiting.then(|| self.paused_until.unwrap_or(now))
    }

    /// Takes no more connections: the system refuses them from now on.
    pub(crate) fn close(&mut self) {
        self.sockets.clear();
        self.waiting = false;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A node that restarts gets its port back although connections of its last run are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if let IpAddr::V6(ip) = address.ip() {
        // `::` means every address of the machine, IPv4 included; anything else only itself.
        socket.set_only_v6(!ip.is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Whether accepting failed for want of descriptors or memory, so that trying again at once would spin.
fn is_full(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let full = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| full.iter().any(|errno| errno.raw_os_error() == code))
}
