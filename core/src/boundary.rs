//! The whole boundary of the core on one screen: what a driver tells a node and what a node asks of its driver.
//!
//! Control is small `Copy` values; data is bytes, borrowed in and appended to buffers that the caller owns.

use crate::acl::JobId;
use crate::disk::{DiskError, Lane};

/// A connection, named by the driver. A small dense number, used again only after the connection has gone: the
/// driver said [`Event::Closed`], or it carried out [`Action::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// An address in the node's book; [`Node::address`](crate::Node::address) tells its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrId(pub u32);

/// What a connection that was accepted may be, by where it came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// A client's or a peer's: its first bytes say.
    #[default]
    Any,
    /// A client's only: peers have an address of their own.
    Clients,
    /// A peer's only.
    Peers,
}

/// What happened. Each is taken at any time and in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted.
    Opened {
        /// Its name from now on.
        conn: ConnId,
    },
    /// A connection that [`Action::Dial`] asked for stands.
    Dialed {
        /// Its name from now on.
        conn: ConnId,
        /// Whom it reached.
        addr: AddrId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Whom it did not reach.
        addr: AddrId,
    },
    /// The other side, or the system, ended a connection. Not said of one the node itself closed.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// So many more operations of a lane of the disk were carried out, in their order.
    DiskDone {
        /// Of which.
        lane: Lane,
        /// How many, since the last time that this was said.
        ops: u32,
    },
    /// The next operation of a lane, behind those that are done, could not be carried out, nor was any behind it; what
    /// was asked for before [`DiskOp::Resume`](crate::DiskOp::Resume) is dropped.
    DiskFailed {
        /// Of which.
        lane: Lane,
        /// Why.
        error: DiskError,
    },
    /// [`Node::deadline`](crate::Node::deadline) has passed.
    Tick,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to an address; answered by [`Event::Dialed`] or [`Event::DialFailed`].
    Dial {
        /// Whom to reach.
        addr: AddrId,
    },
    /// [`Node::fill`](crate::Node::fill) has bytes for this connection.
    Wake {
        /// Which one.
        conn: ConnId,
    },
    /// Carry out [`Turn::job`](crate::Turn::job) aside, and answer with [`Turn::job_done`](crate::Turn::job_done).
    Job {
        /// Which one.
        job: JobId,
    },
    /// End a connection. The node has forgotten it already and wants no `Closed` for it.
    Close {
        /// Which one.
        conn: ConnId,
        /// Why; says too whether what is unsent still goes out.
        why: Close,
    },
}

/// Why a node ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client asked. What is unsent goes out first.
    Quit,
    /// The connection was told why it cannot stay. What is unsent goes out first.
    Refused,
    /// A client came to where only peers are served. The driver says so and closes.
    PeersOnly,
    /// There are as many clients as may be. The driver says so and closes.
    Crowded,
    /// Bytes that no peer of ours sends: a bad checksum, length, or frame.
    Malformed,
    /// Nothing was heard for too long.
    Silent,
    /// A newer connection took its place.
    Replaced,
    /// The peer fell out of the ring in the middle of a record.
    Lagged,
    /// The peer's clock is too far ahead to be listened to.
    Clock,
    /// What its last replies were to say did not get to the disk.
    Disk,
    /// Another client asked for it.
    Killed,
    /// It does not read the messages that it has subscribed to.
    Unread,
    /// Nobody has logged in on it in time.
    Stranger(Tongue),
    /// What its sides have proven to know is no secret of the cluster any more.
    Outdated,
}

/// What a connection speaks, for the last that it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// Lines of text, or nothing yet.
    Line,
    /// The Redis protocol.
    Resp,
    /// HTTP.
    Http,
}

impl Close {
    /// A number for each reason, for traces.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Quit => 0,
            Self::Refused => 1,
            Self::Crowded => 2,
            Self::Malformed => 3,
            Self::Silent => 4,
            Self::Replaced => 5,
            Self::Lagged => 6,
            Self::Clock => 7,
            Self::Disk => 8,
            Self::Killed => 9,
            Self::Unread => 10,
            Self::PeersOnly => 11,
            Self::Stranger(_) => 12,
            Self::Outdated => 13,
        }
    }

    /// Whether the driver sends what is unsent before it closes.
    #[must_use]
    pub const fn flushes(self) -> bool {
        matches!(self, Self::Quit | Self::Refused | Self::PeersOnly | Self::Crowded | Self::Stranger(_))
    }

    /// What the driver sends last of all.
    #[must_use]
    pub const fn parting(self) -> &'static [u8] {
        match self {
            Self::Crowded => b"Error: too many connections; this one is closed, try again later\n",
            Self::PeersOnly => {
                b"Error: this port is for the other nodes of the cluster; connect to the one for clients\n"
            }
            Self::Stranger(Tongue::Line) => {
                b"Error: nobody has logged in here in time, and before more was sent; this connection is closed\n"
            }
            Self::Stranger(Tongue::Resp) => b"-NOAUTH nobody has logged in here in time, and before more was sent\r\n",
            Self::Stranger(Tongue::Http) => {
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            }
            Self::Quit
            | Self::Refused
            | Self::Malformed
            | Self::Silent
            | Self::Replaced
            | Self::Lagged
            | Self::Clock
            | Self::Disk
            | Self::Killed
            | Self::Unread
            | Self::Outdated => b"",
        }
    }
}

/// What one turn asks for. The driver owns it and clears it each turn; its capacity stays.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they came up.
    pub actions: Vec<Action>,
}

const _: () = assert!(size_of::<Event>() <= 16 && size_of::<Action>() <= 16);
