//! How a node stops: what it has been given it finishes, and leaves what it wrote with its peers.

use std::io;

use clap::Args;
use kv_core::Mono;
use tracing::{info, warn};

use super::Server;

/// How long clients may take to take their last replies. Service managers wait 10 s and more before they kill.
const REPLIES_MS: u64 = 2_000;
/// How much of that may be spent on reading: clients that never stop sending are cut off here.
const READ_MS: u64 = 500;
/// How long a snapshot may take that alone has what the disk missed while it failed.
const SNAPSHOT_MS: u64 = 4_000;
/// Longer than that is likelier a slip of the hand than a wish.
const TIMEOUT_S_MAX: u64 = 3_600;

/// The options about stopping.
#[derive(Args, Clone, Debug)]
pub(crate) struct DrainOptions {
    /// How long a node that is stopped waits until the peers it is linked with have all that it wrote; 0: not at all
    #[arg(long, value_name = "SECONDS", env = "SIMPLE_KV_DRAIN_TIMEOUT", default_value_t = 10)]
    #[arg(value_parser = parse_timeout)]
    pub(crate) drain_timeout: u64,
}

fn parse_timeout(text: &str) -> Result<u64, String> {
    let wrong = || format!("give a number of seconds from 0 to {TIMEOUT_S_MAX}");
    text.parse().ok().filter(|seconds| *seconds <= TIMEOUT_S_MAX).ok_or_else(wrong)
}

impl Server {
    /// Answers what was received before the signal, and has peers take what was written here, each for a bounded time.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        info!("stopping; a second signal stops at once");
        let begin = self.clocks.now().mono;
        let (read_until, until) = (begin.plus_ms(READ_MS), begin.plus_ms(REPLIES_MS));
        self.notifier.stopping();
        self.listeners.close();
        // What lies in the sockets was received too: one look at all of them, and on while one has more than a share.
        self.wait(Some(begin))?;
        while self.connections.has_unread() && self.clocks.now().mono < read_until {
            self.wait(Some(begin))?;
        }
        self.connections.close_input(&self.turn);
        while self.connections.has_unsent(&self.turn) && self.clocks.now().mono < until {
            self.wait(Some(until))?;
        }
        // They are to go to another node now, and not when peers have been waited for.
        self.connections.close_clients(&mut self.turn);
        self.flush_to_peers()?;
        self.save_unsaved()?;
        self.connections.close_all();
        Ok(())
    }

    /// Waits until the linked peers have what was written here.
    fn flush_to_peers(&mut self) -> io::Result<()> {
        let until = self.now_plus(self.drain_timeout_ms);
        while !self.turn.node().is_flushed() && self.clocks.now().mono < until {
            self.wait(Some(until))?;
        }
        // Whose link was lost meanwhile may have come again.
        self.of_peers = None;
        let peers = self.turn.node().unacknowledged().join(", ");
        if peers.is_empty() {
            return Ok(());
        }
        match self.data {
            Some(_) => warn!(peers, "these do not have all that was written here: they get it once this node is back"),
            None => warn!(peers, "these do not have all that was written here, and this node keeps nothing"),
        }
        Ok(())
    }

    /// Waits until the disk has what it missed while it failed.
    fn save_unsaved(&mut self) -> io::Result<()> {
        let until = self.now_plus(SNAPSHOT_MS);
        while self.turn.node().is_unsaved() && self.clocks.now().mono < until {
            self.wait(Some(until))?;
        }
        if self.turn.node().is_unsaved() {
            warn!("what was written while the disk failed is not on it");
        }
        Ok(())
    }

    fn now_plus(&self, ms: u64) -> Mono {
        self.clocks.now().mono.plus_ms(ms)
    }
}
