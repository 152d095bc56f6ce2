//! What every dialect means: commands in, replies out. A dialect only parses and emits; behaviour never differs by it.
use crate::help::Verb;
use crate::replica::Refused;
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
    Ping,
    Stats,
    Peers,
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
    /// Not a number of conflicts that may be asked for.
    BadConflicts,
    BadWords(WordsError),
    /// The client speaks HTTP; the connection ends.
    Http,
    Refused(Refused),
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
