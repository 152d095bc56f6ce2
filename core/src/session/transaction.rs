//! Commands that are put off, and then run at once: `MULTI` to `EXEC`.

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

/// A key, and what stood there when it was to be watched: its version, and whether it was there for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) key: Box<[u8]>,
    pub(crate) stood: Option<(Version, bool)>,
}

impl Transaction {
    /// Puts off the command that `words` spell, if it may be; the answer to that.
    pub(crate) fn put_off(
        &mut self,
        command: &Command<'_>,
        words: Words<'_>,
        limits: &Limits,
    ) -> Result<(), Reply<'static>> {
        if may_wait(command) {
            self.is_broken = true;
            return Err(Reply::Error("Command not allowed inside a transaction"));
        }
        let from = self.requests.len();
        push_request(words, &mut self.requests);
        if self.requests.len() > limits.request_bytes_max {
            self.requests.truncate(from);
            self.is_broken = true;
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
    pub(crate) fn for_each(&self, limits: &Limits, mut run: impl FnMut(Words<'_>)) {
        let (mut rest, mut incoming) = (&self.requests[..], Incoming::default());
        while let Next::Request(used) = incoming.next(limits, rest) {
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
const fn may_wait(command: &Command<'_>) -> bool {
    matches!(command, Command::Wait { .. } | Command::WaitFor { .. } | Command::Leave)
}
