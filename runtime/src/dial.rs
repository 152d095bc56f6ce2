//! Connecting to peers without ever making a client wait: names are looked up on threads, connects do not block.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::vec::IntoIter;

use kv_core::{AddrId, Mono};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, Waker};
use rustls::{ClientConfig, ClientConnection};
use slab::Slab;
use tracing::{debug, info, warn};

use crate::tls::{self, HANDSHAKE_MS};

/// How long one address may take to answer. Within a data centre it takes under a millisecond, around the world a
/// third of a second; one lost first packet is sent again after a second, which the next dial covers as well.
const CONNECT_MS: u64 = 1_000;
/// A lookup needs little stack; the default would reserve 2 MiB for each.
const LOOKUP_STACK_BYTES: usize = 256 << 10;
/// Addresses remembered as warned about. Past it all are forgotten, and warned about once more.
const WARNED_MAX: usize = 1_024;

/// The dials under way.
#[derive(Debug)]
pub(crate) struct Dialer {
    attempts: Slab<Attempt>,
    /// Tokens of attempts begin here.
    tokens_from: usize,
    answers_in: Sender<Answer>,
    answers: Receiver<Answer>,
    waker: Arc<Waker>,
    outcomes: Vec<Outcome>,
    /// Those that the log called unreachable and that have not answered since: said once, not at every dial.
    warned: BTreeSet<AddrId>,
}

/// How a dial ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Connected, by TLS if that was asked for; the stream is registered under a token of the dialer.
    Connected(AddrId, TcpStream, Option<Box<ClientConnection>>),
    /// No address of it answered.
    Failed(AddrId),
}

/// One connect that waits for its answer, or a handshake.
#[derive(Debug)]
struct Attempt {
    target: Target,
    stream: TcpStream,
    /// The handshake, once the other side has accepted.
    tls: Option<Box<ClientConnection>>,
    until: Mono,
}

/// Whom to reach, and what is left to try.
#[derive(Debug)]
struct Target {
    addr: AddrId,
    text: String,
    rest: IntoIter<SocketAddr>,
    /// If it is reached by TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// What a lookup found.
#[derive(Debug)]
struct Answer {
    addr: AddrId,
    text: String,
    found: io::Result<Vec<SocketAddr>>,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Tokens from `tokens_from` up are the dialer's; `waker` wakes the loop when a lookup has an answer.
    pub(crate) fn new(tokens_from: usize, waker: Arc<Waker>) -> Self {
        let (answers_in, answers) = channel();
        Self {
            attempts: Slab::new(),
            tokens_from,
            answers_in,
            answers,
            waker,
            outcomes: Vec::new(),
            warned: BTreeSet::new(),
        }
    }

    /// Starts to reach `text` (`host:port`), by TLS if there is a way to. Numeric addresses need no lookup.
    pub(crate) fn dial(
        &mut self,
        registry: &Registry,
        now: Mono,
        addr: AddrId,
        text: &str,
        tls: Option<Arc<ClientConfig>>,
    ) {
        let text = text.to_owned();
        if let Ok(address) = text.parse::<SocketAddr>() {
            let target = Target { addr, text, rest: vec![address].into_iter(), tls };
            return self.connect(registry, now, target, io::ErrorKind::NotFound.into());
        }
        let (answers, waker, name) = (self.answers_in.clone(), Arc::clone(&self.waker), text.clone());
        // A thread for each name: a name server that hangs delays neither the clients nor the other names. The node
        // has at most one dial to an address under way, and its book is bounded.
        let spawned = thread::Builder::new().name("lookup".into()).stack_size(LOOKUP_STACK_BYTES).spawn(move || {
            let found = name.to_socket_addrs().map(Iterator::collect);
            // Both fail only when the loop has ended.
            let _ = answers.send(Answer { addr, text: name, found, tls });
            let _ = waker.wake();
        });
        if let Err(error) = spawned {
            self.fail(addr, &text, &error);
        }
    }

    /// Goes on with the names that were looked up.
    pub(crate) fn looked_up(&mut self, registry: &Registry, now: Mono) {
        while let Ok(Answer { addr, text, found, tls }) = self.answers.try_recv() {
            match found {
                Ok(addresses) => {
                    let target = Target { addr, text, rest: addresses.into_iter(), tls };
                    self.connect(registry, now, target, io::Error::other("the name has no address"));
                }
                Err(error) => self.fail(addr, &text, &error),
            }
        }
    }

    /// Goes on with the attempt whose socket an event named.
    pub(crate) fn noticed(&mut self, registry: &Registry, now: Mono, token: Token) {
        let Some(key) = token.0.checked_sub(self.tokens_from) else { return };
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        match attempt.go_on(now) {
            Ok(false) => {}
            Ok(true) => {
                let Attempt { target, stream, tls, .. } = self.attempts.remove(key);
                if self.warned.remove(&target.addr) {
                    info!(peer = target.text, "reached at last");
                }
                self.outcomes.push(Outcome::Connected(target.addr, stream, tls));
            }
            Err(error) => {
                let target = self.attempts.remove(key).target;
                self.connect(registry, now, target, error);
            }
        }
    }

    /// Gives up on addresses that took too long and goes on with the next. The attempts are as many as there are
    /// peers out of reach: few enough to look at each.
    pub(crate) fn expire(&mut self, registry: &Registry, now: Mono) {
        while let Some(key) = self.attempts.iter().find(|(_, attempt)| attempt.until <= now).map(|(key, _)| key) {
            let target = self.attempts.remove(key).target;
            self.connect(registry, now, target, io::ErrorKind::TimedOut.into());
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.attempts.iter().map(|(_, attempt)| attempt.until).min()
    }

    /// A dial that ended.
    pub(crate) fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop()
    }

    /// Tries what is left of `target`; `last` is why the address before did not do.
    fn connect(&mut self, registry: &Registry, now: Mono, mut target: Target, mut last: io::Error) {
        let entry = self.attempts.vacant_entry();
        let token = Token(self.tokens_from + entry.key());
        for address in target.rest.by_ref() {
            let begun = TcpStream::connect(address).and_then(|mut stream| {
                registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    entry.insert(Attempt { target, stream, tls: None, until: now.plus_ms(CONNECT_MS) });
                    return;
                }
                Err(error) => last = error,
            }
        }
        self.fail(target.addr, &target.text, &last);
    }

    fn fail(&mut self, addr: AddrId, text: &str, error: &io::Error) {
        if self.warned.len() >= WARNED_MAX {
            self.warned.clear();
        }
        if self.warned.insert(addr) {
            warn!(peer = text, %error, "cannot reach a peer; trying again until it answers");
        } else {
            debug!(peer = text, %error, "cannot reach a peer");
        }
        self.outcomes.push(Outcome::Failed(addr));
    }
}

impl Attempt {
    /// Goes on as far as the socket lets it; whether it has succeeded.
    fn go_on(&mut self, now: Mono) -> io::Result<bool> {
        if self.tls.is_none() {
            if !connected(&self.stream)? {
                return Ok(false);
            }
            let Some(config) = &self.target.tls else { return Ok(true) };
            let name = tls::server_name(&self.target.text)?;
            let begun = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
            self.until = now.plus_ms(HANDSHAKE_MS);
            self.tls = Some(Box::new(begun));
        }
        let Self { stream, tls: Some(tls), .. } = self else { return Ok(true) };
        while tls.is_handshaking() {
            match tls.complete_io(stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(io::Error::new(error.kind(), format!("by TLS: {error}"))),
            }
        }
        Ok(true)
    }
}

/// Whether the connect has succeeded; false while it is under way.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // On loopback a connect to a port that nobody listens on can be given that very port as its own, and then
        // meets itself.
        Ok(peer) if stream.local_addr()? == peer => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::*;

    const WAKE: Token = Token(0);
    const TOKENS_FROM: usize = 100;
    const START: Mono = Mono(0);

    /// Dials `text` and turns a loop until there is an outcome. Time stands still, or jumps past all deadlines.
    fn outcome_of(text: &str, time_passes: bool) -> Outcome {
        let mut poll = Poll::new().unwrap();
        let mut dialer = Dialer::new(TOKENS_FROM, Arc::new(Waker::new(poll.registry(), WAKE).unwrap()));
        let mut events = Events::with_capacity(8);
        dialer.dial(poll.registry(), START, AddrId(7), text, None);
        loop {
            if let Some(outcome) = dialer.take_outcome() {
                assert_eq!(dialer.deadline(), None, "nothing is left under way");
                return outcome;
            }
            poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                match event.token() {
                    WAKE => dialer.looked_up(poll.registry(), START),
                    token => dialer.noticed(poll.registry(), START, token),
                }
            }
            if time_passes && let Some(deadline) = dialer.deadline() {
                dialer.expire(poll.registry(), deadline);
            }
        }
    }

    #[test]
    fn names_and_numbers_are_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Where `localhost` is `::1` first, its refusal leads to the next address.
        for host in ["127.0.0.1", "localhost"] {
            let outcome = outcome_of(&format!("{host}:{port}"), false);
            let Outcome::Connected(AddrId(7), stream, None) = outcome else { panic!("{host}: {outcome:?}") };
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        }
    }

    #[test]
    fn refusals_and_unknown_names_fail() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let port = address.port();
        for text in
            [address.to_string(), format!("localhost:{port}"), format!("no-such-host.invalid:{port}"), "".into()]
        {
            assert!(matches!(outcome_of(&text, false), Outcome::Failed(AddrId(7))), "{text}");
        }
    }

    #[test]
    fn silence_fails_after_a_while() {
        // A listener whose queue is full drops what comes: the other side's silence.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
        silent.bind(&any.into()).unwrap();
        silent.listen(0).unwrap();
        let address = silent.local_addr().unwrap().as_socket().unwrap();
        let _queued: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(matches!(outcome_of(&address.to_string(), true), Outcome::Failed(AddrId(7))));
    }
}
