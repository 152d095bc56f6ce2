//! What every dialect means: commands in, replies out. A dialect only parses and emits; behaviour never differs by it.
use crate::adding::NotAdded;
use crate::help::Verb;
use crate::repl::{NotForgotten, NotLeft};
use crate::replica::Refused;
use crate::wire::peer::MEMBERS_MAX;
use crate::wire::token::Token;
use crate::wire::words::{Words, WordsError};

/// What a client asks for. Limits have been checked: carrying it out fails only for a reason that the data has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    Get {
        key: &'a [u8],
    },
    /// `expires_in_ms` is 1 to [`EXPIRES_IN_MS_MAX`]; none: the key never expires.
    Set {
        key: &'a [u8],
        value: &'a [u8],
        expires_in_ms: Option<u64>,
    },
    /// At least one key.
    Del {
        keys: Words<'a>,
    },
    Ttl {
        key: &'a [u8],
    },
    /// `amount` is negative to take away.
    Add {
        key: &'a [u8],
        amount: i64,
    },
    /// Until so many other nodes hold what this connection wrote last; at most `ms`, if not 0.
    Wait {
        copies: u64,
        ms: u64,
    },
    Token,
    /// Until this node holds what the token names; at most `ms`, if not 0.
    WaitFor {
        token: Token,
        ms: u64,
    },
    Ping,
    Stats,
    Peers,
    /// Begins a snapshot.
    Save,
    /// Takes this node out of its cluster.
    Leave,
    /// Takes a member off the roster.
    Forget {
        member: &'a str,
    },
    Why {
        key: &'a [u8],
    },
    /// `count` is 1 to [`CONFLICTS_MAX`](crate::conflicts::CONFLICTS_MAX).
    Conflicts {
        count: usize,
    },
    /// One command, or the list of all.
    Help {
        topic: Option<Verb>,
    },
    Quit,
}

/// Longest time to live: 4,459 years. Versions hold 48 bits of milliseconds, so a sane wall clock stays far below half
/// of them, and this half on top of it still fits.
pub(crate) const EXPIRES_IN_MS_MAX: u64 = 1 << 47;

/// Most copies that can be waited for: a cluster has no more members.
pub(crate) const WAIT_COPIES_MAX: u64 = MEMBERS_MAX as u64;

/// Longest wait with an end: a day. Whoever means longer than that means for ever.
pub(crate) const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What a client is told. After every one from [`Usage`](Self::Usage) on, nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Ok,
    Value(&'a [u8]),
    NotFound,
    /// None: the key has no deadline.
    Ttl {
        left_ms: Option<u64>,
    },
    /// So many other nodes.
    Count(u64),
    Number(i128),
    Token(Token),
    Pong,
    Help {
        topic: Option<Verb>,
    },
    /// Too few or too many words; `hint` when quotes may be what is missing.
    Usage {
        verb: Verb,
        hint: bool,
    },
    UnknownCommand(&'a [u8]),
    TooLong {
        what: Bounded,
        bytes_max: usize,
    },
    BadExpiry(ExpiryUnit),
    /// No number of copies, or no time, that can be waited for.
    BadCopies,
    BadWait(Verb),
    BadToken,
    /// The token is of another cluster.
    ForeignToken,
    /// What the token names did not come in time.
    NotHere,
    /// What was written may yet get another stamp: it cannot be named before the node has met the others.
    NotJoined,
    /// The disk failed before it had what was written, and no snapshot has it yet.
    NotOnDisk,
    /// Not a number of conflicts that may be asked for.
    BadConflicts,
    BadWords(WordsError),
    /// The client speaks HTTP; the connection ends.
    Http,
    Refused(Refused),
    /// The data directory is being read; how much of it has been.
    Loading {
        percent: u64,
    },
    /// Not an amount that can be added.
    BadAmount(Verb),
    NotAdded(NotAdded),
    NotLeft(NotLeft),
    /// All data is in memory.
    NoDisk,
    NotForgotten {
        member: &'a str,
        why: NotForgotten,
    },
}

/// What has a greatest length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounded {
    Key,
    Value,
    Line,
}

/// How a time to live was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpiryUnit {
    Seconds,
    Millis,
}

impl ExpiryUnit {
    pub(crate) const fn ms(self) -> u64 {
        match self {
            Self::Seconds => 1_000,
            Self::Millis => 1,
        }
    }
}
