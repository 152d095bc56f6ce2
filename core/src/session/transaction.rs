//! Commands that are put off, and then run at once: `MULTI` to `EXEC`.

use std::collections::BTreeMap;

use crate::command::{Command, Reply};
use crate::config::Limits;
use crate::version::Version;
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

/// The keys that one client watches, and what stood there when they were to be watched.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    keys: BTreeMap<Box<[u8]>, Option<Standing>>,
    /// Of all keys together.
    bytes: usize,
}

/// What stands at a key that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: Option<Version>,
    /// A reader finds it.
    pub(crate) is_live: bool,
    /// Of a counter: what others have added may be older than the newest that stands.
    pub(crate) sum: Option<i128>,
    /// When a field or a member of it was changed last; 0 if it has none.
    pub(crate) elements: u64,
}

/// Bytes that a watched key takes, besides itself.
const WATCHED_BYTES: usize = 80;

impl Watched {
    /// Watches `key` from now on, unless all of them would come to more than `bytes_max`; whether they do not.
    pub(crate) fn watch(&mut self, key: &[u8], bytes_max: usize, stands: impl FnOnce() -> Option<Standing>) -> bool {
        if self.keys.contains_key(key) {
            return true;
        }
        self.bytes += key.len() + WATCHED_BYTES;
        if self.bytes > bytes_max {
            self.bytes -= key.len() + WATCHED_BYTES;
            return false;
        }
        self.keys.insert(key.into(), stands());
        true
    }

    /// Whether anything has changed.
    pub(crate) fn has_changed(&self, mut stands: impl FnMut(&[u8]) -> Option<Standing>) -> bool {
        self.keys.iter().any(|(key, stood)| stands(key) != *stood)
    }
}

impl Transaction {
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

    /// Gives the words of each, in order, to `run`.
    pub(crate) fn for_each(&self, mut run: impl FnMut(Words<'_>)) {
        let (mut rest, mut incoming) = (&self.requests[..], Incoming::default());
        // A word of a line may be longer than a value: all of them are read.
        let bytes_max = self.requests.len();
        let limits = Limits { value_bytes_max: bytes_max, request_bytes_max: bytes_max, ..Limits::default() };
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

/// Whether its reply may come later.
pub(crate) const fn may_wait(command: &Command<'_>) -> bool {
    matches!(command, Command::Wait { .. } | Command::WaitFor { .. } | Command::Leave)
}
