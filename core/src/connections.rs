//! The connections of a node, and what is known of each.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::boundary::{ConnId, Door};
use crate::command::Command;
use crate::http::HttpSession;
use crate::server::Server;
use crate::session::{Client, ClientSession};
use crate::time::Mono;
use crate::wire::ahead::Ahead;

/// All connections that stand.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// By their names.
    seats: Vec<Option<Seat>>,
    /// Those let in above the limit for clients that have not said what they are, by when they were opened.
    crowded: BTreeSet<(Mono, ConnId)>,
    /// Those on which somebody has yet to log in, by when they have to.
    strangers: BTreeSet<(Mono, ConnId)>,
    /// How many are no peer's.
    clients: usize,
    /// How many there ever were.
    accepted: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Seat {
    /// No other connection that this run accepts ever has it.
    pub(crate) id: u64,
    pub(crate) opened: Mono,
    /// When it last said something.
    pub(crate) heard: Mono,
    pub(crate) ends: Option<Ends>,
    /// When somebody has to have logged in; or [`NEVER`].
    login_until: Mono,
    /// It must not turn out to be a peer's.
    pub(crate) bars_peer: bool,
    pub(crate) door: Door,
    pub(crate) state: Conn,
}

// With 10,000 idle connections every word is 80 KB.
const _: () = assert!(size_of::<Option<Seat>>() <= 88);

/// Nobody has to log in.
const NEVER: Mono = Mono(u64::MAX);

/// Where a connection comes from, and where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    remote: Address,
    local: Address,
}

/// An address in little more than half of what a [`SocketAddr`] takes: every connection has two. One of version 4 is
/// mapped into version 6, and comes back as what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    ip: [u8; 16],
    port: u16,
}

impl Address {
    fn new(from: SocketAddr) -> Self {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: from.port() }
    }

    fn get(self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

impl Ends {
    pub(crate) fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        Self { remote: Address::new(remote), local: Address::new(local) }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote.get()
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local.get()
    }

    /// Whether it comes from this machine, by an address that no other can use.
    pub(crate) fn is_local(&self) -> bool {
        self.remote().ip().is_loopback()
    }
}

/// What a connection turned out to be.
#[derive(Debug)]
pub(crate) enum Conn {
    /// Its first bytes will say. `crowded`: there is room for a peer only.
    Unknown {
        crowded: bool,
    },
    /// None while a command of it is run.
    Client(Option<Session>),
    Link,
}

/// The state of a client, by what it speaks.
#[derive(Debug)]
pub(crate) enum Session {
    /// Lines, or the Redis protocol.
    Text(Box<ClientSession>),
    Http(Box<HttpSession>),
}

impl Session {
    pub(crate) fn client(&self) -> &Client {
        match self {
            Self::Text(session) => &session.client,
            Self::Http(session) => &session.client,
        }
    }

    fn client_mut(&mut self) -> &mut Client {
        match self {
            Self::Text(session) => &mut session.client,
            Self::Http(session) => &mut session.client,
        }
    }

    /// Takes bytes, as [`Node::receive`](crate::Node::receive) does, of which so much is known `ahead`; how many, and
    /// whether the connection is to end.
    pub(crate) fn receive(
        &mut self,
        (bytes, ahead): (&[u8], &mut Ahead),
        reply: &mut Vec<u8>,
        server: &mut Server<'_, '_>,
    ) -> (usize, bool) {
        match self {
            Self::Text(session) => {
                let limits = &server.config.limits;
                if session.client.pushed.tells_writes() {
                    server.replica.note_unsynced_told();
                }
                let mut run =
                    |command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>| server.run(command, client, out);
                let used = session.receive(limits, (bytes, ahead), reply, &mut run);
                (used, session.has_left())
            }
            Self::Http(session) => {
                let used = session.receive(bytes, reply, server);
                (used, session.has_left())
            }
        }
    }
}

impl Connections {
    /// See [`Turn::reserve`](crate::Turn::reserve).
    pub(crate) fn reserve(&mut self, count: usize) {
        self.seats.reserve_exact(count);
    }

    /// A connection that was accepted, and is `crowded` if there is room for a peer only.
    pub(crate) fn accept(&mut self, now: Mono, conn: ConnId, is_crowded: bool) {
        self.crowded.extend(is_crowded.then_some((now, conn)));
        self.accepted += 1;
        self.clients += 1;
        self.insert(now, conn, self.accepted, Conn::Unknown { crowded: is_crowded });
    }

    /// A connection that this node asked for.
    pub(crate) fn insert_link(&mut self, now: Mono, conn: ConnId) {
        self.insert(now, conn, 0, Conn::Link);
    }

    fn insert(&mut self, now: Mono, conn: ConnId, id: u64, state: Conn) {
        let index = conn.0 as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        let (ends, login_until, bars_peer, door) = (None, NEVER, false, Door::Any);
        self.seats[index] = Some(Seat { id, opened: now, heard: now, ends, login_until, bars_peer, door, state });
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&Seat> {
        self.seats.get(conn.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Seat> {
        self.seats.get_mut(conn.0 as usize)?.as_mut()
    }

    /// It turned out to be a peer's.
    pub(crate) fn becomes_link(&mut self, conn: ConnId) {
        let Some(seat) = self.seats.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        if let Conn::Unknown { crowded: true } = seat.state {
            self.crowded.remove(&(seat.opened, conn));
        }
        seat.state = Conn::Link;
        self.clients -= 1;
        self.expects_login(conn, None);
    }

    /// The client at `conn`, if it is one that does not speak HTTP and no command of it is being run.
    pub(crate) fn session_mut(&mut self, conn: ConnId) -> Option<&mut ClientSession> {
        match &mut self.get_mut(conn)?.state {
            Conn::Client(Some(Session::Text(session))) => Some(session),
            Conn::Client(_) | Conn::Unknown { .. } | Conn::Link => None,
        }
    }

    /// Takes out the client at `conn` while commands of it are run.
    pub(crate) fn take_session(&mut self, conn: ConnId) -> Option<Session> {
        match &mut self.get_mut(conn)?.state {
            Conn::Client(session) => session.take(),
            Conn::Unknown { .. } | Conn::Link => None,
        }
    }

    /// Puts back what was taken out, unless the connection has gone.
    pub(crate) fn put_back(&mut self, conn: ConnId, session: Session) {
        if let Some(seat) = self.get_mut(conn) {
            seat.state = Conn::Client(Some(session));
        }
    }

    /// Somebody has to have logged in by then; none: that is over.
    pub(crate) fn expects_login(&mut self, conn: ConnId, until: Option<Mono>) {
        let Some(seat) = self.seats.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        let until = until.unwrap_or(NEVER);
        let before = std::mem::replace(&mut seat.login_until, until);
        if before != NEVER {
            self.strangers.remove(&(before, conn));
        }
        if until != NEVER {
            self.strangers.insert((until, conn));
        }
    }

    pub(crate) fn awaits_login(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|seat| seat.login_until != NEVER)
    }

    /// Who of those has to log in first, and until when.
    pub(crate) fn first_stranger(&self) -> Option<(Mono, ConnId)> {
        self.strangers.first().copied()
    }

    /// All clients no command of which is being run.
    pub(crate) fn clients_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Client)> {
        let seats = self.seats.iter_mut().enumerate();
        seats.filter_map(|(index, seat)| match &mut seat.as_mut()?.state {
            Conn::Client(Some(session)) => Some((ConnId(u32::try_from(index).ok()?), session.client_mut())),
            Conn::Client(None) | Conn::Unknown { .. } | Conn::Link => None,
        })
    }

    /// Forgets a connection; what it was.
    pub(crate) fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        self.expects_login(conn, None);
        let Seat { state, opened, .. } = self.seats.get_mut(conn.0 as usize)?.take()?;
        if let Conn::Unknown { crowded: true } = state {
            self.crowded.remove(&(opened, conn));
        }
        if !matches!(state, Conn::Link) {
            self.clients -= 1;
        }
        Some(state)
    }

    /// Those that are no peer's, by their names.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ConnId, &Seat)> {
        let seats = self.seats.iter().enumerate();
        let seats = seats.filter_map(|(index, seat)| Some((ConnId(u32::try_from(index).ok()?), seat.as_ref()?)));
        seats.filter(|(_, seat)| !matches!(seat.state, Conn::Link))
    }

    /// How many are no peer's.
    pub(crate) fn len(&self) -> usize {
        self.clients
    }

    /// How many were accepted since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many have yet to say that they are a peer's.
    pub(crate) fn crowded(&self) -> usize {
        self.crowded.len()
    }

    /// The one of those that has stood longest, and since when.
    pub(crate) fn first_crowded(&self) -> Option<(Mono, ConnId)> {
        self.crowded.first().copied()
    }
}
