//! Who is let in: members that share a version of the protocol with the node, and nobody else; and what strangers are
//! told.

use kv_core::{FrameError, Node, next_frame, tell_frame};

use super::{Judge, RunId};
use crate::intruder::PREAMBLE;
use crate::marks::Mark;
use crate::outcome::Oracle;

/// Longest frame that a stranger is told: a greeting has some 850 bytes at the most.
const TOLD_BYTES_MAX: usize = 1 << 10;

/// What somebody was told who began as a peer does, and is none, as far as it was not looked at.
#[derive(Debug)]
pub struct Hearsay(Vec<u8>);

impl Hearsay {
    /// Of somebody who said `bytes`, if peers begin so.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(PREAMBLE).then(|| Self(Vec::new()))
    }
}

impl Judge {
    /// Looks whom a node takes for a peer.
    pub(crate) fn look_at_peers(&mut self, run: RunId, node: &Node) {
        if self.plan.setting.protocols == 0 {
            return;
        }
        let (own, nodes) = (self.run(run).node, 0..self.plan.setting.nodes);
        let ours = self.plan.protocol(own, run.0);
        for other in nodes.filter(|other| *other != own) {
            let name = format!("n{other}");
            let peer = node.run_of(&name).filter(|_| node.is_linked_with(&name));
            let Some(peer) = peer.and_then(|origin| self.origins.get(&origin).copied()) else { continue };
            match ours.common(self.plan.protocol(other, peer.0)) {
                None => self.fail(Oracle::Admission, || {
                    format!("run {} has run {} for a peer, and they share no version of the protocol", run.0, peer.0)
                }),
                Some(version) if version < ours.newest => self.marks.saw(Mark::OlderVersionSpoken),
                Some(_) => {}
            }
        }
    }

    /// A run ends a link with another one, which it has turned away.
    pub fn turns_away(&mut self, run: RunId, other: RunId) {
        let protocol = |run: RunId| self.plan.protocol(self.run(run).node, run.0);
        if protocol(run).common(protocol(other)).is_none() {
            self.marks.saw(Mark::OtherVersionTurnedAway);
        }
    }

    /// A node sends `bytes` to somebody who began as a peer does, and is none. That is who it is, and why it turns the
    /// other one away, and no more.
    pub fn tells_stranger(&mut self, node: u64, told: &mut Hearsay, bytes: &[u8]) {
        told.0.extend_from_slice(bytes);
        let mut rest = &told.0[..];
        if let Some(behind) = rest.strip_prefix(PREAMBLE) {
            rest = behind;
        } else if PREAMBLE.starts_with(rest) {
            return;
        }
        while self.failure.is_none() {
            let frame = match next_frame(rest, TOLD_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some(body)) => {
                    rest = &rest[FRAME_HEAD_BYTES + body.len()..];
                    tell_frame(body)
                }
                Err(FrameError::TooLong | FrameError::Checksum | FrameError::Malformed) => None,
            };
            let introduces = |text: &String| ["greeting", "proof", "refusal"].iter().any(|kind| text.starts_with(kind));
            if !frame.as_ref().is_some_and(introduces) {
                self.fail(Oracle::Admission, || match frame {
                    Some(frame) => format!("n{node} tells a stranger: {frame}"),
                    None => format!("n{node} tells a stranger what is sealed for a peer, a record or no frame"),
                });
            }
        }
    }
}

/// What a frame begins with before its contents: length and checksum.
const FRAME_HEAD_BYTES: usize = 8;
