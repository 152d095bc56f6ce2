//! What a node is reached through, so that it can be cut off: lets connections through to it, or ends them.

use std::collections::BTreeMap;
use std::io::{self, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a node on this machine may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Where the node listens, once it does.
    node: Option<SocketAddr>,
    is_cut: bool,
    next: u64,
    /// Both ends of each connection that is let through.
    open: BTreeMap<u64, [TcpStream; 2]>,
}

impl Proxy {
    /// Listens on a free port of loopback. The thread that does lives as long as the process.
    pub(super) fn open() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let proxy = Self { address: listener.local_addr()?, gate: Arc::default() };
        let gate = Arc::clone(&proxy.gate);
        thread::Builder::new().name("proxy".into()).spawn(move || {
            // One that cannot be let through is closed, and dialed again by whoever wants it.
            listener.incoming().map_while(Result::ok).for_each(|stream| drop(admit(&gate, stream)));
        })?;
        Ok(proxy)
    }

    pub(super) fn lead_to(&self, node: SocketAddr) {
        lock(&self.gate).node = Some(node);
    }

    /// Ends what is open, and lets nobody through from now on.
    pub(super) fn cut(&self) {
        let mut gate = lock(&self.gate);
        gate.is_cut = true;
        for stream in std::mem::take(&mut gate.open).into_values().flatten() {
            // It has ended if it cannot be ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn heal(&self) {
        lock(&self.gate).is_cut = false;
    }
}

/// Lets a connection through, unless the gate is shut. It stays locked until the connection is listed, so that none
/// slips by a cut.
fn admit(gate: &Arc<Mutex<Gate>>, from: TcpStream) -> io::Result<()> {
    let mut state = lock(gate);
    let Some(node) = state.node.filter(|_| !state.is_cut) else { return Ok(()) };
    let to = TcpStream::connect_timeout(&node, CONNECT_WITHIN)?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let number = state.next;
    state.next += 1;
    let pairs = [(from.try_clone()?, to.try_clone()?), (to.try_clone()?, from.try_clone()?)];
    state.open.insert(number, [from, to]);
    for (mut from, mut to) in pairs {
        let gate = Arc::clone(gate);
        thread::Builder::new().name("proxy".into()).spawn(move || {
            // Either way it is over, in both directions: the other thread ends with it.
            let _ = copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            lock(&gate).open.remove(&number);
        })?;
    }
    Ok(())
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    // Nothing panics between two changes that belong together.
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_cut_ends_what_is_open_and_a_heal_lets_others_through() {
        let node = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::open().unwrap();
        proxy.lead_to(node.local_addr().unwrap());
        let mut client = TcpStream::connect(proxy.address).unwrap();
        client.write_all(b"a").unwrap();
        let (mut served, _) = node.accept().unwrap();
        let mut byte = [0];
        served.read_exact(&mut byte).unwrap();
        served.write_all(b"b").unwrap();
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"b");
        proxy.cut();
        assert!(matches!(client.read(&mut byte), Ok(0) | Err(_)), "what was open has ended");
        let mut turned_away = TcpStream::connect(proxy.address).unwrap();
        assert!(matches!(turned_away.read(&mut byte), Ok(0) | Err(_)), "and nobody else is let through");
        proxy.heal();
        let mut client = TcpStream::connect(proxy.address).unwrap();
        client.write_all(b"c").unwrap();
        let (mut served, _) = node.accept().unwrap();
        served.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"c");
    }
}
