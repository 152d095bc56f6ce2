//! Clients that are told to wait for a while: `CLIENT PAUSE`.

use std::collections::BTreeSet;

use crate::boundary::{Action, ConnId, Effects};
use crate::time::{Mono, Now};

/// Whose commands are put off, and until when.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    until: Option<Mono>,
    /// Those of commands that read, too.
    is_of_all: bool,
    /// Whose next command is put off.
    held: BTreeSet<ConnId>,
}

impl Pause {
    /// Puts off what comes from now on, for so long; the longer and the stricter of two pauses counts.
    pub(crate) fn begin(&mut self, now: Now, ms: u64, is_of_all: bool) {
        let until = now.mono.plus_ms(ms);
        self.is_of_all = is_of_all || (self.is_of_all && self.is_on(now));
        self.until = self.until.max(Some(until));
    }

    /// When it ends.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.until
    }

    /// Whether a command is put off that writes, or one that does not.
    pub(crate) fn puts_off(&self, now: Now, writes: impl FnOnce() -> bool) -> bool {
        self.is_on(now) && (self.is_of_all || writes())
    }

    /// The next command of `conn` is put off.
    pub(crate) fn hold(&mut self, conn: ConnId) {
        self.held.insert(conn);
    }

    /// Whether it is.
    pub(crate) fn holds(&self, conn: ConnId) -> bool {
        !self.held.is_empty() && self.held.contains(&conn)
    }

    /// Forgets a connection that has gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.held.remove(&conn);
    }

    /// Ends it if its time has come.
    pub(crate) fn expire(&mut self, now: Now, effects: &mut Effects) {
        if self.until.is_some() && !self.is_on(now) {
            self.end(effects);
        }
    }

    /// Lets everybody go on.
    pub(crate) fn end(&mut self, effects: &mut Effects) {
        let held = std::mem::take(self).held;
        effects.actions.extend(held.into_iter().map(|conn| Action::Wake { conn }));
    }

    fn is_on(&self, now: Now) -> bool {
        self.until.is_some_and(|until| until > now.mono)
    }
}
