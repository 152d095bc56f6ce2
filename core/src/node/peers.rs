//! What a driver tells of a node's place among its peers while it runs.

use super::Node;
use crate::boundary::Effects;
use crate::config::PeerAuth;
use crate::repl::Context;
use crate::time::Now;

impl Node {
    /// Tells where this node serves clients (`host:port`), if not where its peers reach it. Its peers are told, and
    /// `STATS` of theirs has it. To be called before the first turn.
    pub fn serves_clients_at(&mut self, address: String) {
        self.repl.clients_at = address;
    }

    /// Takes other secrets of the cluster, from now on. Links whose sides have proven to know one that is none any
    /// more end, and stand again once both sides have proven another. False: they are as they were, or this node was
    /// started without one, or is to go on without; nothing has changed.
    pub fn change_secrets(&mut self, now: Now, to: PeerAuth, effects: &mut Effects) -> bool {
        let Self { config, replica, repl, .. } = self;
        if !config.peer_auth.is_other_secret(&to) {
            return false;
        }
        config.peer_auth = to;
        repl.end_unproven(now, &mut Context { config, replica, effects });
        self.settle(effects);
        true
    }
}
