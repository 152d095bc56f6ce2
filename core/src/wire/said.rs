//! The frame of a message: what a client said on a channel. Nothing keeps it.

use crate::store::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::wire::num::{Bytes, put_varint};
use crate::wire::peer::{KIND_SAID, emit};

/// What was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) channel: &'a [u8],
    pub(crate) message: &'a [u8],
}

pub(super) fn parse<'a>(bytes: &mut Bytes<'a>) -> Option<Said<'a>> {
    Some(Said { channel: bytes.counted(KEY_BYTES_MAX)?, message: bytes.counted(VALUE_BYTES_MAX)? })
}

pub(crate) fn emit_said(said: Said<'_>, out: &mut Vec<u8>) {
    emit(KIND_SAID, out, |out| {
        for part in [said.channel, said.message] {
            put_varint(out, part.len() as u64);
            out.extend_from_slice(part);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer;

    #[test]
    fn what_is_said_comes_back() {
        for said in [Said { channel: b"news", message: b"hello" }, Said { channel: b"", message: b"" }] {
            let mut frame = Vec::new();
            emit_said(said, &mut frame);
            let body = crate::next_frame(&frame, 100).expect("a frame").expect("a whole one");
            assert_eq!(peer::parse(body), Some(peer::Frame::Said(said)));
            assert_eq!(peer::parse(&body[..body.len() - 1]), None);
        }
    }
}
