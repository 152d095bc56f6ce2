//! What a stream between two nodes carries, in words: frames are put together again from the packets they came in.

use kv_core::{Node, Version, decode, next_frame, tell_frame};

use super::event::{bounded, printable};
use crate::plan::token_of;

/// First byte of the eight that a peer's stream begins with.
const PREAMBLE_FIRST: u8 = 0x93;
const PREAMBLE_BYTES: usize = 8;

/// Bytes of a frame's length and checksum.
const PREFIX_BYTES: usize = 8;

/// How a frame is told behind which frames come in chunks; and what stands before those.
const PROOF: &str = "proof";
const CHUNK_HEAD_BYTES: usize = 18;

/// A record's largest body and more.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Characters of one frame.
const FRAME_CHARS_MAX: usize = 160;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: Vec<u8>,
    /// What came of the next chunk, once both sides have proven that they know a secret.
    chunks: Vec<u8>,
    is_sealed: bool,
    has_begun: bool,
    /// What came is no frame; nothing behind it can be read.
    is_lost: bool,
}

/// What a packet completed.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) frames: Vec<String>,
    /// Of its records.
    pub(super) keys: Vec<String>,
    /// It carries nothing but heartbeats.
    pub(super) is_heartbeat: bool,
}

impl Frames {
    /// Takes the next packet; `name` names versions.
    pub(super) fn take(&mut self, bytes: &[u8], name: &dyn Fn(Version) -> String) -> Told {
        let mut told = Told::default();
        self.add(bytes);
        if !self.has_begun {
            self.has_begun = true;
            if self.rest.first() == Some(&PREAMBLE_FIRST) {
                self.rest.drain(..PREAMBLE_BYTES.min(self.rest.len()));
            }
        }
        let mut used = 0;
        while !self.is_lost {
            match next_frame(&self.rest[used..], BODY_BYTES_MAX) {
                Ok(Some(body)) => {
                    used += PREFIX_BYTES + body.len();
                    told.frames.push(bounded(&tell(body, &mut told.keys, name), FRAME_CHARS_MAX));
                    if told.frames.last().is_some_and(|frame| frame.starts_with(PROOF)) {
                        let behind = self.rest.split_off(used);
                        self.is_sealed = true;
                        self.add(&behind);
                    }
                }
                Ok(None) => break,
                Err(_) => self.is_lost = true,
            }
        }
        self.rest.drain(..used);
        if self.is_lost {
            self.rest.clear();
            told.frames.push("no frame".to_owned());
        } else if !self.rest.is_empty() || told.frames.is_empty() {
            told.frames.push("part of a frame".to_owned());
        }
        told.is_heartbeat = told.frames.iter().all(|frame| frame == "alive" || frame.starts_with("status "));
        told
    }
}

impl Frames {
    fn add(&mut self, bytes: &[u8]) {
        if !self.is_sealed {
            return self.rest.extend_from_slice(bytes);
        }
        self.chunks.extend_from_slice(bytes);
        while let Some((length, _)) = self.chunks.split_first_chunk::<2>() {
            let end = CHUNK_HEAD_BYTES + usize::from(u16::from_le_bytes(*length));
            let Some(frames) = self.chunks.get(CHUNK_HEAD_BYTES..end) else { break };
            self.rest.extend_from_slice(frames);
            self.chunks.drain(..end);
        }
    }
}

fn tell(body: &[u8], keys: &mut Vec<String>, name: &dyn Fn(Version) -> String) -> String {
    if let Some(text) = tell_frame(body) {
        return text;
    }
    let Ok(framed) = decode(body) else { return "unreadable frame".to_owned() };
    let record = framed.record;
    let key = printable(Node::field_of(record.key).unwrap_or(record.key), 40);
    let kind = match framed.prev {
        None => "swept",
        Some(_) if framed.stamp != record.version => "announced",
        Some(_) => "record",
    };
    let value = match record.value {
        None => format!("{key} deleted"),
        Some(_) if record.is_counter => format!("{key} counter"),
        Some(value) => format!("{key}={}", value_text(value)),
    };
    let ends = if record.deadline.is_some() { ", with a deadline" } else { "" };
    if !keys.contains(&key) {
        keys.push(key);
    }
    format!("{kind} {value} {}{ends}", name(record.version))
}

/// A value by its token, if it has one.
pub(super) fn value_text(value: &[u8]) -> String {
    token_of(value).map_or_else(|| printable(value, 40), |token| format!("t{token}"))
}
