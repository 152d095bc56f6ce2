//! The event loop: one thread, edge-triggered, dumb. It moves readiness to the parts and turns the [`Turn`]. If there
//! are to be others, they help with sockets, and with nothing else.

mod drain;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kv_core::{ConnId, Door, Event, Mono, Now, Turn};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook_mio::v1_0::Signals;
use tracing::info;

use crate::access::AccessWorker;
use crate::clock::Clocks;
use crate::connections::{Connections, Transport};
use crate::dial::{Dialer, Outcome};
use crate::directory::DataDirectory;
use crate::disk::Disk;
use crate::failure::Failure;
use crate::helpers::Helpers;
use crate::listen::Listeners;
use crate::load::{Loader, Loading};
use crate::notify::Notifier;
use crate::reload::Reload;
use crate::stderr::Stderr;
use crate::tls::{self, Session, Tls};
pub(crate) use drain::DrainOptions;

const LISTENERS: Token = Token(0);
const SIGNALS: Token = Token(1);
/// Some thread has something to tell: a name was looked up, the disk did something, a password was tried.
const THREADS: Token = Token(2);
const PEER_LISTENERS: Token = Token(3);
/// Connections count from here, ...
const CONNECTIONS_FROM: usize = 16;
/// ... and dials from here, far past what a `ConnId` can name on 64 bits and past any table of descriptors on 32.
const DIALS_FROM: usize = usize::MAX / 2;

/// Events taken from the system at once; more wait for the next turn, which then comes at once.
const EVENTS_PER_TURN: usize = 1_024;
/// Connections for which room is reserved at the most: some 14 MB of addresses, of which only what is used becomes
/// memory. Tables that grow as they fill leave behind what they were, and the allocator holds that for a while: 200
/// bytes for each of 10,000 connections.
const ROOM_MAX: usize = 1 << 16;
/// Connections besides those of clients: peers, and who is turned away.
const ROOM_SPARE: usize = 256;
/// How long the disk may take for what it was given last before the end.
const SYNC_MAX: Duration = Duration::from_secs(5);
/// Exit code of a node that was told to stop twice.
const EXIT_HURRIED: i32 = 1;

/// A node with everything that connects it to the world.
pub(crate) struct Server {
    poll: Poll,
    events: Events,
    clocks: Clocks,
    turn: Turn,
    listeners: Listeners,
    /// Those for peers, if they have an address of their own.
    of_peers: Option<Listeners>,
    connections: Connections,
    dialer: Dialer,
    tls: Tls,
    signals: Signals,
    waker: Arc<Waker>,
    access: AccessWorker,
    data: Option<Data>,
    reload: Reload,
    notifier: Notifier,
    drain_timeout_ms: u64,
    stopping: bool,
}

/// What a durable node has besides.
struct Data {
    directory: DataDirectory,
    disk: Disk,
    loader: Option<Loader>,
}

impl Server {
    /// Serves what `listeners` take, and those that are for peers alone, if there are any, until one of the [`signals`]
    /// says stop. `clocks` are those that the turn's node was started with, `users` is the file of its users, if it has
    /// one, `reload` has what it was told, and `drain` says how it stops.
    pub(crate) fn new(
        mut turn: Turn,
        clocks: Clocks,
        (mut listeners, mut of_peers): (Listeners, Option<Listeners>),
        tls: Tls,
        (mut signals, users): (Signals, Option<PathBuf>),
        (reload, drain): (Reload, &DrainOptions),
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        listeners.register(poll.registry(), LISTENERS, "listening")?;
        if let Some(listeners) = &mut of_peers {
            listeners.register(poll.registry(), PEER_LISTENERS, "listening for peers")?;
        }
        let waker = Arc::new(Waker::new(poll.registry(), THREADS)?);
        let dialer = Dialer::new(DIALS_FROM, Arc::clone(&waker));
        let access = AccessWorker::start(users, Arc::clone(&waker))?;
        let room = turn.node().settings().clients_max.saturating_add(ROOM_SPARE).min(ROOM_MAX);
        turn.reserve(room);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            clocks,
            turn,
            listeners,
            of_peers,
            connections: Connections::new(room),
            dialer,
            tls,
            signals,
            waker,
            access,
            data: None,
            reload,
            notifier: Notifier::from_env(),
            drain_timeout_ms: 1_000 * drain.drain_timeout,
            stopping: false,
        })
    }

    /// Has so many threads help with sockets.
    pub(crate) fn help(&mut self, threads: usize) -> Result<(), Failure> {
        let helpers = Helpers::start(threads, self.poll.registry(), &self.waker);
        let failed = |error| Failure::System("start the threads that --threads asks for", error);
        self.connections.let_help(helpers.map_err(failed)?);
        Ok(())
    }

    /// Keeps the data in `directory`. What stands there is loaded in the first turns; progress is shown on `terminal`,
    /// if there is one.
    pub(crate) fn load(&mut self, directory: DataDirectory, terminal: Option<Stderr>) -> Result<(), Failure> {
        let started = Disk::start(directory.path(), &self.waker);
        let disk = started.map_err(|error| Failure::System("start the threads of the disk", error))?;
        let loader = Some(Loader::start(&directory, terminal, &mut self.turn, self.clocks.now().mono)?);
        self.data = Some(Data { directory, disk, loader });
        Ok(())
    }

    /// Serves until a signal says stop, then sends what is still to be sent.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let failed = |error| Failure::System("wait for events", error);
        // Turns once before it waits: the node may have peers to dial.
        self.turn(self.clocks.now());
        self.check_loaded()?;
        while !self.stopping {
            self.wait(None).map_err(failed)?;
            self.check_loaded()?;
        }
        self.drain().map_err(failed)?;
        if let Some(Data { disk, .. }) = self.data.take() {
            self.turn.end_log();
            disk.finish(&mut self.turn, SYNC_MAX);
        }
        info!("stopped");
        Ok(())
    }

    /// Fails if what the data directory holds must not be served.
    fn check_loaded(&self) -> Result<(), Failure> {
        match (&self.data, self.turn.node().load_failure()) {
            (Some(data), Some(why)) => Err(Failure::Load(data.directory.path().to_owned(), why.to_string())),
            _ => Ok(()),
        }
    }

    /// Waits for events, a deadline or `until`, and makes a turn of what there is.
    fn wait(&mut self, until: Option<Mono>) -> io::Result<()> {
        let now = self.clocks.now().mono;
        let deadlines = [
            until,
            self.turn_deadline(now),
            self.listeners.deadline(now),
            self.of_peers.as_ref().and_then(|listeners| listeners.deadline(now)),
            self.connections.deadline(now),
            self.dialer.deadline(),
            self.notifier.deadline(),
            self.data.as_ref().and_then(|data| data.loader.as_ref()).map(|_| now),
        ];
        let deadlines = deadlines.into_iter().flatten().min();
        let timeout = match self.connections.let_sleep() {
            true => deadlines.map(|deadline| poll_timeout(now, deadline)),
            false => Some(Duration::ZERO),
        };
        let polled = self.poll.poll(&mut self.events, timeout);
        self.connections.is_awake();
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let now = self.clocks.now();
        self.turn(now);
        Ok(())
    }

    /// When the next turn must begin for what the node has to do.
    fn turn_deadline(&self, now: Mono) -> Option<Mono> {
        let deadline = self.turn.deadline();
        let rests = self.data.as_ref().is_some_and(|data| data.disk.is_resting());
        // What the node wants now may be to hand over what the disk does not take yet: it says when it does.
        if rests && deadline == self.turn.node().deadline() { deadline.max(Some(now.plus_ms(1))) } else { deadline }
    }

    fn turn(&mut self, now: Now) {
        self.turn.begin(now);
        self.notice(now.mono);
        // What a node that has read its files begins its log with is on the disk in a moment: until then nobody is let
        // in, so that nobody is told to try again.
        let node = self.turn.node();
        if node.load_progress().is_none() || node.next_read().is_some() {
            self.accept(now.mono);
        }
        self.connections.take_done(&mut self.turn);
        self.connections.read(&mut self.turn, self.tls.meeting(now.mono));
        self.dialer.expire(self.poll.registry(), now.mono);
        self.tell_outcomes();
        self.load_some();
        self.turn.settle();
        // The disk works while the replies are written.
        self.hand_over();
        while let Some(conn) = self.turn.next_ready() {
            self.connections.flush(&mut self.turn, conn, now.mono);
        }
        self.connections.end(&mut self.turn, now.mono);
        self.dial(now.mono);
        self.hand_over();
        self.reload.follow(&self.turn);
        self.notifier.turned(now, &self.turn);
    }

    /// Loads for a few milliseconds, if not all is loaded.
    fn load_some(&mut self) {
        if let Some(Data { loader, .. }) = &mut self.data
            && let Some(loading) = loader
            && loading.go_on(&mut self.turn, &self.clocks) == Loading::Over
        {
            *loader = None;
        }
    }

    fn hand_over(&mut self) {
        self.access.hand_over(&mut self.turn);
        if let Some(data) = &mut self.data {
            data.disk.hand_over(&mut self.turn);
        }
    }

    /// Hands each event to the part that it is for.
    fn notice(&mut self, now: Mono) {
        if let Some(data) = &mut self.data {
            data.disk.tell(&mut self.turn);
        }
        self.access.tell(&mut self.turn);
        for event in &self.events {
            match event.token() {
                LISTENERS => self.listeners.noticed(),
                PEER_LISTENERS => self.of_peers.iter_mut().for_each(Listeners::noticed),
                SIGNALS => {
                    for signal in self.signals.pending() {
                        match signal {
                            SIGHUP => {
                                self.notifier.reloading();
                                self.tls.reload();
                                self.turn.reload_users();
                                self.reload.reload(&mut self.turn, &self.access);
                                self.notifier.reloaded();
                            }
                            _ => {
                                // Whoever asks in this very turn is told.
                                self.turn.drain();
                                self.stopping = true;
                            }
                        }
                    }
                }
                // The disk and the thread of the users are asked in every turn.
                THREADS => self.dialer.looked_up(self.poll.registry(), now),
                token if token.0 >= DIALS_FROM => self.dialer.noticed(self.poll.registry(), now, token),
                token => {
                    if let Some(conn) = conn_of(token) {
                        self.connections.noticed(&mut self.turn, conn, event);
                    }
                }
            }
        }
        self.events.clear();
    }

    fn accept(&mut self, now: Mono) {
        let Self { listeners, of_peers, connections, poll, turn, tls, .. } = self;
        let guards_peers = tls.door().is_some_and(tls::Door::guards_peers);
        let mut take = |stream: TcpStream, door| {
            let register = |stream: &mut TcpStream, conn| {
                poll.registry().register(stream, token_of(conn), Interest::READABLE | Interest::WRITABLE)
            };
            let ends = stream.peer_addr().and_then(|remote| Ok((remote, stream.local_addr()?)));
            // Links that are not by TLS are plain where they have an address of their own, whatever clients must be.
            let is_plain = tls.door().is_none() || (door == Door::Peers && !guards_peers);
            let transport = if is_plain { Transport::Plain } else { Transport::Unknown };
            if let Some(conn) = connections.add(stream, transport, register) {
                turn.event(Event::Opened { conn });
                turn.came_by(conn, door);
                turn.allow_peer(conn, !guards_peers);
                if let Ok((remote, local)) = ends {
                    turn.introduce(conn, remote, local);
                }
            }
        };
        let door = if of_peers.is_some() { Door::Clients } else { Door::Any };
        listeners.accept(now, |stream| take(stream, door));
        if let Some(listeners) = of_peers {
            listeners.accept(now, |stream| take(stream, Door::Peers));
        }
    }

    /// Dials whom the node asked for. Last in the turn, so that whatever led to it is served.
    fn dial(&mut self, now: Mono) {
        while let Some(addr) = self.turn.take_dial() {
            match self.turn.node().address(addr) {
                Some(text) => self.dialer.dial(self.poll.registry(), now, addr, text, self.tls.dial().cloned()),
                None => self.turn.event(Event::DialFailed { addr }),
            }
            self.tell_outcomes();
        }
    }

    fn tell_outcomes(&mut self) {
        while let Some(outcome) = self.dialer.take_outcome() {
            let Self { connections, poll, turn, .. } = self;
            match outcome {
                Outcome::Failed(addr) => turn.event(Event::DialFailed { addr }),
                Outcome::Connected(addr, stream, tls) => {
                    // Registering again arms the edges again: nothing that was noticed under the old token is lost.
                    let register = |stream: &mut TcpStream, conn| {
                        poll.registry().reregister(stream, token_of(conn), Interest::READABLE | Interest::WRITABLE)
                    };
                    let peer = turn.node().address(addr).unwrap_or_default();
                    let transport =
                        tls.map_or(Transport::Plain, |tls| Transport::Tls(Box::new(Session::dialed(*tls, peer))));
                    let ends = stream.peer_addr().and_then(|remote| Ok((remote, stream.local_addr()?)));
                    match connections.add(stream, transport, register) {
                        Some(conn) => {
                            turn.event(Event::Dialed { conn, addr });
                            if let Ok((remote, local)) = ends {
                                turn.introduce(conn, remote, local);
                            }
                        }
                        None => turn.event(Event::DialFailed { addr }),
                    }
                }
            }
        }
    }
}

/// SIGTERM and SIGINT, to stop, and SIGHUP, to read the options again, as events. The second of those that stop ends
/// the process from inside the handler, so that it works whatever the loop is doing. (SIGPIPE needs nothing: Rust's
/// runtime ignores it from the start.) To be called before anybody can see that the node is there: a signal that comes
/// earlier kills the process instead of stopping the node.
pub(crate) fn signals() -> io::Result<Signals> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Handlers run in this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(signal, EXIT_HURRIED, Arc::clone(&told))?;
        flag::register(signal, Arc::clone(&told))?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

const fn token_of(conn: ConnId) -> Token {
    Token(CONNECTIONS_FROM + conn.0 as usize)
}

fn conn_of(token: Token) -> Option<ConnId> {
    u32::try_from(token.0.checked_sub(CONNECTIONS_FROM)?).ok().map(ConnId)
}

/// Time from `now` to `deadline` in whole milliseconds, which is what the system counts in. Rounded up: rounded down,
/// the last fraction of a millisecond would be spent spinning.
fn poll_timeout(now: Mono, deadline: Mono) -> Duration {
    Duration::from_millis(deadline.0.saturating_sub(now.0).div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_never_shorter_than_asked() {
        for (now, deadline, ms) in [(0, 0, 0), (0, 1, 1), (0, 1_000, 1), (0, 1_001, 2), (5_000, 1_000, 0)] {
            assert_eq!(poll_timeout(Mono(now), Mono(deadline)), Duration::from_millis(ms));
        }
    }

    #[test]
    fn tokens_and_connections_correspond() {
        for conn in [0, 1, 10_000, u32::MAX] {
            assert_eq!(conn_of(token_of(ConnId(conn))), Some(ConnId(conn)));
            assert!(token_of(ConnId(conn)).0 < DIALS_FROM || usize::BITS < 64);
        }
        assert_eq!(conn_of(THREADS), None);
    }
}
