//! The connections of a node, and what is known of each.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::boundary::{ConnId, Door};
use crate::http::HttpSession;
use crate::server::Server;
use crate::session::ClientSession;
use crate::time::Mono;

/// All connections that stand.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// By their names.
    seats: Vec<Option<Seat>>,
    /// Those let in above the limit for clients that have not said what they are, by when they were opened.
    crowded: BTreeSet<(Mono, ConnId)>,
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
    pub(crate) door: Door,
    pub(crate) state: Conn,
}

/// Where a connection comes from, and where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Ends {
    /// Whether it comes from this machine, by an address that no other can use.
    pub(crate) fn is_local(&self) -> bool {
        self.remote.ip().to_canonical().is_loopback()
    }
}

/// What a connection turned out to be.
#[derive(Debug)]
pub(crate) enum Conn {
    /// Its first bytes will say. `crowded`: there is room for a peer only; when it was opened.
    Unknown {
        crowded: Option<Mono>,
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
    /// Takes bytes, as [`Node::receive`](crate::Node::receive) does; how many, and whether the connection is to end.
    pub(crate) fn receive(&mut self, bytes: &[u8], reply: &mut Vec<u8>, server: &mut Server<'_, '_>) -> (usize, bool) {
        match self {
            Self::Text(session) => {
                let limits = &server.config.limits;
                if session.client.pushed.tells_writes() {
                    server.replica.note_unsynced_told();
                }
                let used =
                    session.receive(limits, bytes, reply, &mut |command, client, out| server.run(command, client, out));
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
    /// A connection that was accepted, and is `crowded` if there is room for a peer only.
    pub(crate) fn accept(&mut self, now: Mono, conn: ConnId, is_crowded: bool) {
        let crowded = is_crowded.then_some(now);
        self.crowded.extend(crowded.map(|opened| (opened, conn)));
        self.accepted += 1;
        self.clients += 1;
        self.insert(now, conn, self.accepted, Conn::Unknown { crowded });
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
        self.seats[index] = Some(Seat { id, opened: now, heard: now, ends: None, door: Door::Any, state });
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
        if let Conn::Unknown { crowded: Some(opened) } = seat.state {
            self.crowded.remove(&(opened, conn));
        }
        seat.state = Conn::Link;
        self.clients -= 1;
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

    /// Forgets a connection; what it was.
    pub(crate) fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        let state = self.seats.get_mut(conn.0 as usize)?.take()?.state;
        if let Conn::Unknown { crowded: Some(opened) } = state {
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
