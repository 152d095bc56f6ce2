//! Sockets that a service manager listens on and hands to the node as it starts it (`sd_listen_fds(3)`): whoever
//! connects while the node is restarted waits in its queue and is not refused.
//!
//! Those that are called `peers` (`FileDescriptorName=` of a socket unit) are for peers alone, all others are for
//! clients, and for peers if there are none of those.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::cli::Options;
use crate::failure::Failure;

/// What sockets for peers alone are called.
const PEERS: &str = "peers";

/// The sockets that were handed in.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) clients: Vec<TcpListener>,
    pub(crate) peers: Vec<TcpListener>,
}

impl Inherited {
    /// Takes what the environment says is there. To be called before the process has opened anything, or begun a
    /// thread: it takes the variables out, so that nobody takes the sockets twice.
    pub(crate) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed_in = ListenFd::from_env();
        let mut inherited = Self::default();
        for at in 0..handed_in.len() {
            let failed = |error| Failure::System("use a socket that was handed in (LISTEN_FDS)", error);
            let name = names.next();
            let Some(listener) = handed_in.take_tcp_listener(at).map_err(failed)? else { continue };
            let kind = if name == Some(PEERS) { &mut inherited.peers } else { &mut inherited.clients };
            kind.push(listener);
        }
        // The first is the one by which others are told to come.
        for kind in [&mut inherited.clients, &mut inherited.peers] {
            kind.sort_by_cached_key(|listener| listener.local_addr().is_ok_and(|address| is_local(&address)));
        }
        Ok(inherited)
    }

    /// Has the options say what these sockets are, so that whatever is asked of addresses is asked of theirs.
    pub(crate) fn apply(&self, options: &mut Options) -> Result<(), Failure> {
        if let Some(address) = most_open(&self.clients)? {
            (options.listen, options.port) = (Some(address.ip()), address.port());
        }
        if let Some(address) = most_open(&self.peers)? {
            options.peer.peer_listen = Some(address);
        }
        Ok(())
    }
}

/// The address that most can reach.
fn most_open(listeners: &[TcpListener]) -> Result<Option<SocketAddr>, Failure> {
    let addresses: Result<Vec<SocketAddr>, _> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses.map_err(|error| Failure::System("read the address of a socket", error))?;
    Ok(addresses.into_iter().min_by_key(is_local))
}

fn is_local(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
