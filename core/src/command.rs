//! What every dialect means: commands in, replies out. A dialect only parses and emits; behaviour never differs by it.
mod access;
mod collections;

use crate::acl::{Denied, RuleError};
use crate::adding::NotAdded;
use crate::commands::Verb;
use crate::name::Kind;
use crate::pubsub::Topic;
use crate::repl::{NotForgotten, NotLeft};
use crate::replica::Refused;
use crate::session::Replies;
use crate::time::WallMs;
use crate::wire::peer::MEMBERS_MAX;
use crate::wire::token::Token;
use crate::wire::words::{Words, WordsError};
pub(crate) use access::{AboutUsers, Credentials};
pub(crate) use collections::{Combine, OfHash, OfSet, Shown};

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
    Copy(Copy<'a>),
    RandomKey,
    /// Takes everything out of the client's keyspace, or of all of them.
    Flush {
        all: bool,
    },
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
    /// `amount` is a number with a fraction, or infinite.
    AddFloat {
        key: &'a [u8],
        amount: &'a [u8],
        /// What the value may come to.
        bytes_max: usize,
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
    /// Chooses the keyspace of the commands that follow.
    Select {
        space: u8,
    },
    Time,
    /// Chooses version 3 of the Redis protocol, or 2.
    Hello {
        version: Option<bool>,
        name: Option<&'a [u8]>,
        login: Option<Credentials<'a>>,
    },
    /// Says who the client is: the default user if no other.
    Auth {
        user: Option<&'a [u8]>,
        password: &'a [u8],
    },
    Acl(AboutUsers<'a>),
    /// What its client may not do. It is noted, and not done.
    Denied(Denied<'a>),
    /// Whether there is memory for what is put off; nothing is answered if so.
    Queued,
    /// What a server without replicas says of itself.
    Role,
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
    /// Names and values in turn, at least one of each.
    ConfigSet {
        settings: Words<'a>,
    },
    ResetStat,
    Object {
        key: &'a [u8],
        told: AboutObject,
    },
    MemoryUsage {
        key: &'a [u8],
    },
    /// Of scripts and functions, of which there are none: lets go of all.
    NoScripts,
    /// Whether there are these scripts.
    ScriptsExist {
        count: usize,
    },
    Info {
        sections: Words<'a>,
    },
    /// At least one name.
    Subscribe {
        topic: Topic,
        names: Words<'a>,
    },
    /// No names: all.
    Unsubscribe {
        topic: Topic,
        names: Words<'a>,
    },
    Publish {
        channel: &'a [u8],
        message: &'a [u8],
    },
    PubSub(AboutMessages<'a>),
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
            | Self::AddFloat { key, .. }
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
                | Self::Select { .. }
                | Self::Hello { .. }
                | Self::Reset
                | Self::Auth { .. }
                | Self::Denied(_)
                | Self::Role
                | Self::NoScripts
                | Self::ScriptsExist { .. }
                | Self::Client(_)
                | Self::Commands(_)
                | Self::Info { .. }
        )
    }
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

/// A value that is to stand somewhere else, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy<'a> {
    pub(crate) key: &'a [u8],
    /// The other key.
    pub(crate) name: &'a [u8],
    /// The keyspace of the other; none: that of the client.
    pub(crate) space: Option<u8>,
    pub(crate) replaces: bool,
    /// It is not to stay where it was.
    pub(crate) moves: bool,
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
    /// Of fields, their values are listed, too.
    pub(crate) has_values: bool,
}

/// What is asked of connections, or said of the own one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AboutClient<'a> {
    Id,
    GetName,
    SetName(&'a [u8]),
    /// Of the library, or its version.
    SetInfo {
        is_version: bool,
        value: &'a [u8],
    },
    Info,
    List {
        kind: Option<ClientKind>,
        /// If any are given: of no others.
        ids: Option<Words<'a>>,
    },
    Kill(Kill<'a>),
    /// The one that comes from there.
    KillOne {
        remote: &'a [u8],
    },
    Replies(Replies),
    Pause {
        ms: u64,
        is_of_all: bool,
    },
    Unpause,
    /// To whom invalidations go: to nobody.
    Redirect,
    TrackingInfo,
    /// What makes no difference here.
    Noted,
}

/// Which connections are ended: those of which all is so that is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kill<'a> {
    pub(crate) id: Option<u64>,
    pub(crate) kind: Option<ClientKind>,
    pub(crate) remote: Option<&'a [u8]>,
    pub(crate) local: Option<&'a [u8]>,
    pub(crate) user: Option<&'a [u8]>,
    /// Also that of who asks.
    pub(crate) is_of_own: bool,
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKind {
    Normal,
    /// Replicas and what they replicate are none here.
    Replica,
    /// It has subscribed to something.
    PubSub,
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
    /// Which of these words are keys.
    Keys(Words<'a>),
}

/// What is asked of those who are told messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AboutMessages<'a> {
    Channels {
        pattern: Option<&'a [u8]>,
    },
    /// Of each of these channels.
    Subscribers(Words<'a>),
    Patterns,
}

/// What a client is told of what it has subscribed to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Push<'a> {
    /// It has, or has not any more, to `name`, and to so many channels and patterns altogether.
    Subscribed {
        kind: &'static str,
        name: Option<&'a [u8]>,
        count: u64,
    },
    Message {
        pattern: Option<&'a [u8]>,
        channel: &'a [u8],
        message: &'a [u8],
    },
    /// The answer to `PING` in between.
    Pong {
        message: &'a [u8],
    },
}

/// What is asked of a value, besides what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AboutObject {
    Encoding,
    Frequency,
    IdleTime,
    References,
}

/// Longest time to live: 4,459 years. Versions hold 48 bits of milliseconds, so a sane wall clock stays far below half
/// of them, and this half on top of it still fits.
pub(crate) const EXPIRES_IN_MS_MAX: u64 = 1 << 47;

/// Most copies that can be waited for: a cluster has no more members.
pub(crate) const WAIT_COPIES_MAX: u64 = MEMBERS_MAX as u64;

/// Longest wait with an end: a day. Whoever means longer than that means for ever.
pub(crate) const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Said of what is to be a number with a fraction and is none.
pub(crate) const NO_FLOAT: &str = "value is not a valid float";

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
    Push(Push<'a>),
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
    /// The same, of these words.
    Misused {
        verb: Verb,
        hint: bool,
        words: Words<'a>,
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
    /// Not while it has subscribed to something.
    HearsOnly(Verb),
    /// The same as [`Error`](Self::Error), with what the client said in the middle.
    ErrorAt(&'static str, &'a [u8], &'static str),
    NoProtocol,
    /// There is no such user, or it has another password.
    WrongPassword,
    /// As many logins as may be are being computed.
    LoginsBusy,
    Denied(Denied<'a>),
    /// A rule of a user is none.
    BadRule {
        rule: &'a [u8],
        why: RuleError,
    },
    /// The file of users was not read, or not written.
    AclFile(&'a str),
    /// A setting that is there stays as it is.
    NotSettable {
        name: &'a [u8],
        why: &'static str,
    },
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
    /// Clients are to wait, and this one cannot.
    Paused,
    /// As much memory is taken as may be, and it might become more.
    OutOfMemory {
        /// A transaction is given up for it.
        aborts: bool,
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
