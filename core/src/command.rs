//! What every dialect means: commands in, replies out. A dialect only parses and emits; behaviour never differs by it.
use crate::adding::NotAdded;
use crate::commands::Verb;
use crate::name::Kind;
use crate::repl::{NotForgotten, NotLeft};
use crate::replica::Refused;
use crate::time::WallMs;
use crate::wire::peer::MEMBERS_MAX;
use crate::wire::token::Token;
use crate::wire::words::{Words, WordsError};

/// What a client asks for. Limits have been checked: carrying it out fails only for a reason that the data has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    Get {
        key: &'a [u8],
    },
    Set(Write<'a>),
    /// As `Set`; answers whether it was written.
    SetNx(Write<'a>),
    GetDel {
        key: &'a [u8],
    },
    GetEx {
        key: &'a [u8],
        expires: Expires,
    },
    /// At least one key.
    MGet {
        keys: Words<'a>,
        /// What the reply may come to.
        bytes_max: usize,
    },
    /// Keys and values in turn, at least one of each.
    MSet {
        pairs: Words<'a>,
        /// Only if none of the keys is there; then it is answered whether they were written.
        if_absent: bool,
    },
    Append {
        key: &'a [u8],
        value: &'a [u8],
        /// What it may come to.
        bytes_max: usize,
    },
    StrLen {
        key: &'a [u8],
    },
    /// Both places are in it, and count from the end if they are negative.
    GetRange {
        key: &'a [u8],
        start: i64,
        end: i64,
    },
    /// The end of it is within the limit of values.
    SetRange {
        key: &'a [u8],
        offset: usize,
        value: &'a [u8],
    },
    /// At least one key.
    Del {
        keys: Words<'a>,
    },
    Ttl {
        key: &'a [u8],
        told: TimeLeft,
    },
    Expire {
        key: &'a [u8],
        expires: Expires,
        on: OnExpiry,
    },
    Persist {
        key: &'a [u8],
    },
    /// At least one key.
    Exists {
        keys: Words<'a>,
    },
    Type {
        key: &'a [u8],
    },
    Rename {
        key: &'a [u8],
        name: &'a [u8],
        if_absent: bool,
    },
    Copy {
        key: &'a [u8],
        name: &'a [u8],
        replaces: bool,
    },
    RandomKey,
    Keys {
        pattern: &'a [u8],
    },
    Scan(Scan<'a>),
    Hash(OfHash<'a>),
    SetOf(OfSet<'a>),
    /// A step of listing fields or members.
    ScanElements {
        key: &'a [u8],
        scan: Scan<'a>,
        kind: Kind,
    },
    DbSize,
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
    Echo {
        message: &'a [u8],
    },
    /// Chooses the only database.
    Select,
    Time,
    /// Chooses version 3 of the Redis protocol, or 2.
    Hello {
        version: Option<bool>,
        name: Option<&'a [u8]>,
    },
    Reset,
    Client(AboutClient<'a>),
    /// What follows is run at once later.
    Multi,
    /// Runs what was put off, unless something that is watched has changed.
    Exec,
    Discard,
    /// At least one key.
    Watch {
        keys: Words<'a>,
    },
    Unwatch,
    Commands(AboutCommands<'a>),
    ConfigGet {
        patterns: Words<'a>,
    },
    ResetStat,
    Info {
        sections: Words<'a>,
    },
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

impl<'a> Command<'a> {
    /// The key that has to hold a string, or nothing.
    pub(crate) const fn string_key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Get { key }
            | Self::GetDel { key }
            | Self::GetEx { key, .. }
            | Self::Append { key, .. }
            | Self::StrLen { key }
            | Self::GetRange { key, .. }
            | Self::SetRange { key, .. }
            | Self::Add { key, .. }
            | Self::Set(Write { key, answers_old: true, .. }) => Some(key),
            _ => None,
        }
    }

    /// Whether it is run also while data is loaded: it is about the connection, or tells of what is going on.
    pub(crate) const fn is_run_while_loading(&self) -> bool {
        matches!(
            self,
            Self::Quit
                | Self::Help { .. }
                | Self::Select
                | Self::Hello { .. }
                | Self::Reset
                | Self::Client(_)
                | Self::Commands(_)
                | Self::Info { .. }
        )
    }
}

/// What is asked of a hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfHash<'a> {
    /// Fields and values in turn, at least one of each.
    Write {
        key: &'a [u8],
        pairs: Words<'a>,
        /// How many are new is answered.
        counts: bool,
    },
    WriteNew {
        key: &'a [u8],
        field: &'a [u8],
        value: &'a [u8],
    },
    Read {
        key: &'a [u8],
        field: &'a [u8],
    },
    /// At least one field.
    ReadSome {
        key: &'a [u8],
        fields: Words<'a>,
        /// What the reply may come to.
        bytes_max: usize,
    },
    List {
        key: &'a [u8],
        shown: Shown,
    },
    /// At least one field.
    Delete {
        key: &'a [u8],
        fields: Words<'a>,
    },
    Count {
        key: &'a [u8],
    },
    Exists {
        key: &'a [u8],
        field: &'a [u8],
    },
    Length {
        key: &'a [u8],
        field: &'a [u8],
    },
    Add {
        key: &'a [u8],
        field: &'a [u8],
        amount: i64,
    },
    Draw {
        key: &'a [u8],
        count: Option<i64>,
        has_values: bool,
    },
}

/// What is shown of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Fields,
    Values,
    Both,
}

/// What is asked of sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OfSet<'a> {
    /// At least one member.
    Add {
        key: &'a [u8],
        members: Words<'a>,
    },
    /// At least one member.
    Remove {
        key: &'a [u8],
        members: Words<'a>,
    },
    Has {
        key: &'a [u8],
        member: &'a [u8],
    },
    /// At least one member.
    HasSome {
        key: &'a [u8],
        members: Words<'a>,
    },
    List {
        key: &'a [u8],
    },
    Count {
        key: &'a [u8],
    },
    Pop {
        key: &'a [u8],
        count: Option<u64>,
    },
    Draw {
        key: &'a [u8],
        count: Option<i64>,
    },
    Move {
        key: &'a [u8],
        name: &'a [u8],
        member: &'a [u8],
    },
    /// At least one key; the result is answered, or stored.
    Combine {
        how: Combine,
        keys: Words<'a>,
        into: Option<&'a [u8]>,
    },
    /// How many are in all of these, at least one; at most `limit`, if not 0.
    CountCommon {
        keys: Words<'a>,
        limit: u64,
    },
}

/// How sets are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Intersection,
    Union,
    /// The first without the others.
    Difference,
}

/// A value that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) expires: Expires,
    pub(crate) condition: Option<Condition>,
    /// What stood there is answered.
    pub(crate) answers_old: bool,
}

/// When what is written expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expires {
    Never,
    /// As it does.
    Kept,
    /// At most [`EXPIRES_IN_MS_MAX`].
    In {
        ms: u64,
    },
    At(WallMs),
}

/// What a write depends on, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Absent,
    Present,
}

/// On what a new expiry depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnExpiry {
    pub(crate) if_none: bool,
    pub(crate) if_some: bool,
    /// None is later than all others.
    pub(crate) if_later: bool,
    pub(crate) if_earlier: bool,
}

/// How it is told when a key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeLeft {
    Seconds,
    Millis,
    /// Since 1970.
    AtSeconds,
    AtMillis,
}

/// A step of listing keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    /// 0, or as the step before answered it; anything else leads anywhere.
    pub(crate) cursor: u64,
    pub(crate) pattern: Option<&'a [u8]>,
    /// Keys to look at.
    pub(crate) count: u64,
    pub(crate) kind: Option<&'a [u8]>,
}

/// What is asked of the own connection, or said of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AboutClient<'a> {
    Id,
    GetName,
    SetName(&'a [u8]),
    /// What makes no difference here.
    Noted,
}

/// What is asked of the commands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AboutCommands<'a> {
    All,
    Count,
    List,
    Info(Words<'a>),
    AllDocs,
    Docs(Words<'a>),
}

/// Longest time to live: 4,459 years. Versions hold 48 bits of milliseconds, so a sane wall clock stays far below half
/// of them, and this half on top of it still fits.
pub(crate) const EXPIRES_IN_MS_MAX: u64 = 1 << 47;

/// Most copies that can be waited for: a cluster has no more members.
pub(crate) const WAIT_COPIES_MAX: u64 = MEMBERS_MAX as u64;

/// Longest wait with an end: a day. Whoever means longer than that means for ever.
pub(crate) const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What a client is told. After every one from [`Usage`](Self::Usage) on, nothing has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    Ok,
    Value(&'a [u8]),
    NotFound,
    /// One word that is no data.
    Status(&'static str),
    /// What is left until a key expires, or when it does; none: it never does.
    Ttl(Option<u64>),
    /// There is no such key.
    NoTtl,
    /// So many keys.
    Deleted(u64),
    Count(u64),
    Number(i128),
    /// The value of a counter.
    Sum(i128),
    /// No list.
    NoArray,
    /// So many answers follow, ...
    Array(usize),
    /// ... in pairs, ...
    Map(usize),
    /// ... in no order.
    Set(usize),
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
    /// Its options are not.
    Syntax(Verb),
    UnsupportedOption {
        verb: Verb,
        option: &'a [u8],
    },
    UnknownCommand {
        name: &'a [u8],
        rest: Words<'a>,
    },
    UnknownSubcommand {
        verb: Verb,
        sub: &'a [u8],
    },
    /// What was put off is not run, because of what is wrong with some of it.
    Aborted,
    /// Said so by Redis too.
    Error(&'static str),
    NoProtocol,
    TooLong {
        what: Bounded,
        bytes_max: usize,
    },
    /// Out of range, or no time at all.
    BadExpiry {
        verb: Verb,
        option: &'static str,
        unit_ms: u64,
        is_integer: bool,
    },
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
    /// Not an integer of 64 bits.
    NotInteger(Verb),
    NotAdded(NotAdded),
    /// A field is not a number that can be added to, or what it would come to is not.
    FieldNotAdded(NotAdded),
    /// The key holds something else.
    WrongType,
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
    Pattern,
    Reply,
    /// A key and a field or a member of it.
    Element,
}
