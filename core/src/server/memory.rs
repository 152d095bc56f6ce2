//! What is refused once all memory is taken that may be.
//!
//! It is what may make the data grow. Reads, deletes, expiries and flushes go on, and so does what other nodes have
//! written: a node that left that out would never again have the data that they have. All of these take some memory,
//! too, which is why the machine is to have more than the limit.

use super::Server;
use crate::command::{Command, Reply};
use crate::session::{Client, Watched};

impl Server<'_, '_> {
    /// Whether as much memory is taken as may be.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let max = self.config.limits.memory_bytes_max;
        max > 0 && self.loading.is_none() && self.replica.memory_bytes() >= max
    }

    /// Whether nothing more is to be done for a command: there is no memory for it, which its client is told then, or
    /// that was all it asked. What is run as one was looked at before the first of it.
    pub(super) fn is_settled_by_memory(&self, command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>) -> bool {
        let is_asked = matches!(command, Command::Queued);
        if client.is_inside || !self.is_out_of_memory() {
            return is_asked;
        }
        let aborts = matches!(command, Command::Exec);
        let may_grow = match &client.transaction {
            Some(transaction) if aborts => transaction.may_grow(),
            _ => client.verb.is_some_and(|verb| verb.may_grow()),
        };
        // What is denied is told so.
        if !may_grow || matches!(command, Command::Denied(_)) {
            return is_asked;
        }
        if aborts {
            (client.transaction, client.watched) = (None, Watched::default());
        }
        client.dialect.emit(&Reply::OutOfMemory { aborts }, out);
        true
    }
}
