//! Messages that nothing keeps: what a client says on a channel goes to the peers that are linked, once at the most.
//!
//! They go beside the stream, a share of each: who is behind in that is told soon, however many there are of them
//! records go on, and who does not read loses messages, which are counted.

use std::collections::VecDeque;

use crate::boundary::{Close, ConnId, Effects};
use crate::repl::frames::Stop;
use crate::repl::link::Peer;
use crate::repl::staged::Staged;
use crate::repl::{Replication, Role};
use crate::wire::hello::MESSAGES_SINCE;
use crate::wire::said;

/// What may wait on a link for another message to be sent on it: what comes together between two turns.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// What goes at once, but for one message that is longer.
const SHARE_BYTES: usize = 64 << 10;

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

/// The messages that wait to be sent on one link.
#[derive(Debug, Default)]
pub(super) struct Messages {
    frames: Staged,
    /// The length of each frame.
    lengths: VecDeque<usize>,
    /// Some have gone, and no record since.
    had_share: bool,
}

impl Messages {
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether records are next, if there are any.
    pub(super) fn had_share(&self) -> bool {
        self.had_share
    }

    /// Records have had their share.
    pub(super) fn end_share(&mut self) {
        self.had_share = false;
    }

    /// Moves a share of them to what is sent next, whole frames.
    pub(super) fn stage(&mut self, staged: &mut Staged) {
        let mut moved = 0;
        while let Some(length) = self.lengths.pop_front_if(|length| moved == 0 || moved + *length <= SHARE_BYTES) {
            self.frames.drain_to(length, staged.out());
            moved += length;
            self.had_share = true;
        }
    }

    fn push(&mut self, frame: &[u8]) {
        self.frames.out().extend_from_slice(frame);
        self.lengths.push_back(frame.len());
    }
}

impl Peer {
    /// Whether messages are a part of what is spoken with it.
    const fn has_messages(&self) -> bool {
        self.protocol >= MESSAGES_SINCE
    }
}

impl Replication {
    /// Sends a message to all peers that are linked and are not behind.
    pub(crate) fn publish(&mut self, channel: &[u8], message: &[u8], effects: &mut Effects) {
        let mut frame = Vec::new();
        for link in self.links.values_mut() {
            // Two nodes share two links: the one on which records go, too.
            if !link.peer.as_ref().is_some_and(Peer::has_messages) || !matches!(link.role, Role::Feed(_)) {
                continue;
            }
            if link.messages.len() > WAITING_BYTES_MAX {
                self.said.dropped += 1;
                continue;
            }
            if frame.is_empty() {
                said::emit_said(said::Said { channel, message }, &mut frame);
            }
            link.messages.push(&frame);
        }
        self.wake_staged(effects);
    }

    /// A peer says something.
    pub(super) fn hear(&mut self, conn: ConnId, said: said::Said<'_>) -> Result<(), Stop> {
        let peer = self.links.get(&conn).and_then(|link| link.peer.as_ref());
        if !peer.is_some_and(Peer::has_messages) {
            return Err(Stop::Close(Close::Malformed));
        }
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
