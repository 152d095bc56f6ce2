//! Replies packed one behind the other, for a session that looks at them before it answers, as that of HTTP does.
//!
//! Each is a tag, a length of four bytes, and so many bytes. Nothing of it leaves the node.

use super::line;
use crate::adding::NotAdded;
use crate::command::{Bounded, Reply};

/// What was replied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packed<'a> {
    /// Data, or a text.
    Value(&'a [u8]),
    /// There is none.
    Nothing,
    Number(i128),
    /// It was done.
    Done,
    /// So many follow.
    Array(usize),
    /// It was not done, and why.
    Refused {
        why: Why,
        text: &'a str,
    },
}

/// Of what kind the reason is why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The node cannot now.
    Node,
    /// It has no memory left for it.
    Memory,
    /// The key is too long, ...
    Key,
    /// ... or the value, or the reply would be.
    Size,
    /// The key holds something else.
    Type,
    /// Its client may not do that.
    Right,
    /// It makes no sense.
    Asked,
}

const VALUE: u8 = b'v';
const NOTHING: u8 = b'0';
const NUMBER: u8 = b'n';
const DONE: u8 = b'k';
const ARRAY: u8 = b'a';
const NODE: u8 = b'N';
const MEMORY: u8 = b'M';
const KEY: u8 = b'K';
const SIZE: u8 = b'S';
const TYPE: u8 = b'T';
const RIGHT: u8 = b'R';
const ASKED: u8 = b'A';

/// A tag and a length.
const HEAD_BYTES: usize = 5;

/// Appends `reply`.
pub(crate) fn emit(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match *reply {
        Reply::Value(value) => push(VALUE, value, out),
        Reply::Sum(number) => push(VALUE, itoa::Buffer::new().format(number).as_bytes(), out),
        Reply::Status(text) => push(VALUE, text.as_bytes(), out),
        Reply::NotFound | Reply::NoTtl | Reply::NoArray => push(NOTHING, b"", out),
        Reply::Ok | Reply::Pong => push(DONE, b"", out),
        Reply::Ttl(left) => push(NUMBER, &left.map_or(-1, i128::from).to_le_bytes(), out),
        Reply::Deleted(count) | Reply::Count(count) => push(NUMBER, &i128::from(count).to_le_bytes(), out),
        Reply::Number(number) => push(NUMBER, &number.to_le_bytes(), out),
        Reply::Array(count) | Reply::Set(count) => push(ARRAY, &(count as u64).to_le_bytes(), out),
        Reply::Map(pairs) => push(ARRAY, &(2 * pairs as u64).to_le_bytes(), out),
        Reply::Token(_) | Reply::Help { .. } => {
            let from = out.len();
            line::emit(reply, out);
            wrap_text(from, out);
        }
        _ => {
            let tag = match reply {
                Reply::Refused(_) | Reply::Loading { .. } | Reply::Paused => NODE,
                Reply::NotAdded(NotAdded::Refused(_)) | Reply::FieldNotAdded(NotAdded::Refused(_)) => NODE,
                Reply::OutOfMemory { .. } => MEMORY,
                Reply::TooLong { what: Bounded::Key | Bounded::Pattern, .. } => KEY,
                Reply::TooLong { .. } => SIZE,
                Reply::WrongType => TYPE,
                Reply::Denied(_) => RIGHT,
                _ => ASKED,
            };
            let mut text = Vec::new();
            line::emit(reply, &mut text);
            let said = text.strip_suffix(b"\n").unwrap_or(&text);
            push(tag, said.strip_prefix(b"Error: ").unwrap_or(said), out);
        }
    }
}

/// Makes the text that was appended from there on one reply.
pub(crate) fn wrap_text(from: usize, out: &mut Vec<u8>) {
    let text = out.split_off(from);
    push(VALUE, text.strip_suffix(b"\n").unwrap_or(&text), out);
}

/// The first reply, and what follows it; none if there is none.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Packed<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let (body, rest) = rest.split_at_checked(length as usize)?;
    let refused = |why| Some(Packed::Refused { why, text: std::str::from_utf8(body).ok()? });
    let packed = match head[0] {
        VALUE => Packed::Value(body),
        NOTHING => Packed::Nothing,
        NUMBER => Packed::Number(i128::from_le_bytes(body.try_into().ok()?)),
        DONE => Packed::Done,
        ARRAY => Packed::Array(usize::try_from(u64::from_le_bytes(body.try_into().ok()?)).ok()?),
        NODE => refused(Why::Node)?,
        MEMORY => refused(Why::Memory)?,
        KEY => refused(Why::Key)?,
        SIZE => refused(Why::Size)?,
        TYPE => refused(Why::Type)?,
        RIGHT => refused(Why::Right)?,
        ASKED => refused(Why::Asked)?,
        _ => return None,
    };
    Some((packed, rest))
}

fn push(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(body.len()).is_ok(), "no value is so long");
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Refused;

    #[test]
    fn replies_come_back_in_their_order() {
        let replies = [
            (Reply::Array(2), Packed::Array(2)),
            (Reply::Value(b"a\0\n"), Packed::Value(b"a\0\n")),
            (Reply::Sum(-7), Packed::Value(b"-7")),
            (Reply::NotFound, Packed::Nothing),
            (Reply::Ok, Packed::Done),
            (Reply::Ttl(None), Packed::Number(-1)),
            (Reply::Deleted(3), Packed::Number(3)),
            (
                Reply::TooLong { what: Bounded::Key, bytes_max: 9 },
                Packed::Refused { why: Why::Key, text: "the key is longer than 9 bytes; nothing was changed" },
            ),
        ];
        let mut bytes = Vec::new();
        replies.iter().for_each(|(reply, _)| emit(reply, &mut bytes));
        emit(&Reply::Refused(Refused::Fenced), &mut bytes);
        let mut rest = &bytes[..];
        for (_, expected) in replies {
            let (packed, after) = parse(rest).expect("one more");
            assert_eq!(packed, expected);
            rest = after;
        }
        let Some((Packed::Refused { why: Why::Node, .. }, b"")) = parse(rest) else { panic!("{rest:?}") };
        assert_eq!(parse(b""), None);
    }
}
