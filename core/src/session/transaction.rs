//! Commands that are put off, and then run at once: `MULTI` to `EXEC`.

use std::collections::BTreeMap;

use crate::command::{AboutUsers, Command, Reply};
use crate::commands::Manual;
use crate::config::Limits;
use crate::time::WallMs;
use crate::version::{Hlc, Version};
use crate::wire::resp::{Incoming, Next, push_request};
use crate::wire::words::Words;

/// What one client has put off.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Requests of the Redis protocol, in whatever dialect they came.
    requests: Vec<u8>,
    count: usize,
    /// One of them was wrong: none is run.
    is_broken: bool,
}

/// The keys that one client watches, by what they are stored as, and what stood there when they were to be watched.
#[derive(Debug, Default)]
pub(crate) struct Watched(Option<Box<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    keys: BTreeMap<Box<[u8]>, Stood>,
    /// Of all keys together.
    bytes: usize,
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: Option<Version>,
    /// A reader finds it.
    pub(crate) is_live: bool,
    /// Of a counter: what others have added may be older than the newest that stands.
    pub(crate) sum: Option<i128>,
    pub(crate) deadline: Option<WallMs>,
    /// When a field or a member of it was written or removed last, and how many there are.
    pub(crate) elements: (u64, u64),
}

/// How a watched key stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stood {
    pub(crate) standing: Option<Standing>,
    /// Up to where its keyspace was flushed.
    pub(crate) floor: Option<Version>,
    /// The newest that ever came into its slot.
    pub(crate) newest: Hlc,
}

impl Stood {
    /// Whether the key was written since it stood so. A flush leaves nothing of what was written before it: then the
    /// slot tells whether anything was.
    fn has_changed(&self, now: &Self) -> bool {
        match (self.standing, now.standing) {
            // What no reader found is collected or flushed sooner or later.
            (None | Some(Standing { is_live: false, .. }), None) => {
                self.floor != now.floor && self.newest != now.newest
            }
            (stood, stands) => stood != stands,
        }
    }
}

/// Bytes that a watched key takes, besides itself.
const WATCHED_BYTES: usize = 144;

impl Watched {
    /// Watches `key` from now on, unless all of them would come to more than `bytes_max`; whether they do not.
    pub(crate) fn watch(&mut self, key: &[u8], bytes_max: usize, stands: impl FnOnce() -> Stood) -> bool {
        let Keys { keys, bytes } = &mut **self.0.get_or_insert_default();
        if keys.contains_key(key) {
            return true;
        }
        *bytes += key.len() + WATCHED_BYTES;
        if *bytes > bytes_max {
            *bytes -= key.len() + WATCHED_BYTES;
            return false;
        }
        keys.insert(key.into(), stands());
        true
    }

    /// Whether anything has changed.
    pub(crate) fn has_changed(&self, mut stands: impl FnMut(&[u8]) -> Stood) -> bool {
        let mut keys = self.0.iter().flat_map(|watched| &watched.keys);
        keys.any(|(key, stood)| stood.has_changed(&stands(key)))
    }
}

impl Transaction {
    /// Nothing but the command that `words` spell.
    pub(crate) fn of(words: Words<'_>) -> Self {
        let mut requests = Vec::new();
        push_request(words, &mut requests);
        Self { requests, count: 1, is_broken: false }
    }

    /// Puts off the command that `words` spell; the answer to that if there is no room.
    pub(crate) fn put_off(&mut self, words: Words<'_>, limits: &Limits) -> Result<(), Reply<'static>> {
        let from = self.requests.len();
        push_request(words, &mut self.requests);
        if self.requests.len() > limits.request_bytes_max {
            self.requests.truncate(from);
            return Err(Reply::Error("the transaction is too big"));
        }
        self.count += 1;
        Ok(())
    }

    /// Whether any of them may make the data grow.
    pub(crate) fn may_grow(&self) -> bool {
        let mut may_grow = false;
        self.for_each(|mut words| {
            let manual = words.next().and_then(Manual::named);
            may_grow |= manual.is_some_and(|manual| manual.verb.may_grow());
        });
        may_grow
    }

    /// Notes that something was wrong.
    pub(crate) fn spoil(&mut self) {
        self.is_broken = true;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// How many commands were put off.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.requests.len()
    }

    /// Gives the words of each, in order, to `run`.
    pub(crate) fn for_each(&self, mut run: impl FnMut(Words<'_>)) {
        let (mut rest, mut incoming) = (&self.requests[..], Incoming::default());
        // A word of a line may be longer than a value: all of them are read.
        let bytes_max = self.requests.len();
        let limits = Limits { value_bytes_max: bytes_max, request_bytes_max: bytes_max + 2, ..Limits::default() };
        while let Next::Request(used) = incoming.next(&limits, rest) {
            run(incoming.words(&rest[..used]));
            rest = &rest[used..];
        }
    }
}

/// Whether a command is about the transaction itself, or ends the connection: it is run at once.
pub(crate) const fn is_run_at_once(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::Multi | Command::Exec | Command::Discard | Command::Watch { .. } | Command::Quit | Command::Reset
    )
}

/// Whether a transaction may not have it: its reply may come later, or Redis refuses it there.
pub(crate) const fn is_by_itself(command: &Command<'_>) -> bool {
    match command {
        // What a password is may take a moment to find out.
        Command::Auth { .. } | Command::Acl(AboutUsers::Set { .. } | AboutUsers::Load | AboutUsers::Save) => true,
        Command::Hello { login, .. } => login.is_some(),
        Command::WaitFor { .. } | Command::Leave | Command::Save => true,
        _ => false,
    }
}
