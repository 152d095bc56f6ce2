//! Messages that nothing keeps: what a client says on a channel goes to the peers that are linked, once at the most.
//!
//! They go with the frames that a link has staged, and not with the stream: who is behind in that is told at once, and
//! who does not read loses messages, which are counted.

use crate::boundary::Effects;
use crate::repl::frames::Stop;
use crate::repl::{Replication, Role};
use crate::wire::said;

/// What a link may have staged for another message to be sent on it: what comes together between two turns.
const STAGED_BYTES_MAX: usize = 256 << 10;

/// A channel, and what was said on it.
pub(crate) type Message = (Box<[u8]>, Box<[u8]>);

/// What was said, and what was not.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// By peers, and not told to anybody here yet.
    heard: Vec<Message>,
    /// Messages that were not sent to a peer, as it was behind.
    dropped: u64,
}

impl Replication {
    /// Sends a message to all peers that are linked and are not behind.
    pub(crate) fn publish(&mut self, channel: &[u8], message: &[u8], effects: &mut Effects) {
        for link in self.links.values_mut() {
            // Two nodes share two links: the one on which records go, too.
            if link.peer.is_none() || !matches!(link.role, Role::Feed(_)) {
                continue;
            }
            if link.staged.len() > STAGED_BYTES_MAX {
                self.said.dropped += 1;
                continue;
            }
            said::emit_said(said::Said { channel, message }, link.staged.out());
        }
        self.wake_staged(effects);
    }

    /// A peer says something.
    pub(super) fn hear(&mut self, said: said::Said<'_>) -> Result<(), Stop> {
        self.said.heard.push((said.channel.into(), said.message.into()));
        Ok(())
    }

    /// What peers have said since this was last called.
    pub(crate) fn take_said(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.said.heard)
    }

    /// How many messages were not sent to a peer, as it was behind.
    pub(crate) fn unsaid(&self) -> u64 {
        self.said.dropped
    }
}
