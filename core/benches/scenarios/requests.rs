//! What clients say, and what they are answered: keys of 16 bytes, values of 64.

use std::io::Write as _;

pub(crate) const KEY_BYTES: usize = 16;

/// How a request is put.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A line of text.
    Line,
    /// A line of text whose last word is in quotes, with an escape.
    Quoted,
    /// A line of a client that speaks the Redis protocol.
    Inline,
    /// A request of the Redis protocol.
    Array,
}

impl Dialect {
    /// What a client says first, so that it is known to speak so.
    pub(crate) const fn greeting(self) -> &'static [u8] {
        match self {
            Self::Line | Self::Quoted => b"PING\n",
            Self::Inline | Self::Array => b"*1\r\n$4\r\nPING\r\n",
        }
    }

    /// Appends a request of these words, the last of which starts with a letter.
    pub(crate) fn put(self, words: &[&[u8]], out: &mut Vec<u8>) {
        let (last, others) = words.split_last().expect("a request has words");
        match self {
            Self::Line | Self::Inline | Self::Quoted => {
                for word in others {
                    out.extend_from_slice(word);
                    out.push(b' ');
                }
                if self == Self::Quoted {
                    write!(out, "\"\\x{:02x}", last[0]).expect("a vector takes anything");
                    out.extend_from_slice(&last[1..]);
                    out.push(b'"');
                } else {
                    out.extend_from_slice(last);
                }
                out.extend_from_slice(if self == Self::Inline { b"\r\n" } else { b"\n" });
            }
            Self::Array => {
                write!(out, "*{}\r\n", words.len()).expect("a vector takes anything");
                words.iter().for_each(|word| self.put_answer(word, out));
            }
        }
    }

    /// Appends the answer that is `text`. The Redis protocol puts the words of requests in the same way.
    pub(crate) fn put_answer(self, text: &[u8], out: &mut Vec<u8>) {
        if matches!(self, Self::Inline | Self::Array) {
            write!(out, "${}\r\n", text.len()).expect("a vector takes anything");
        }
        out.extend_from_slice(text);
        out.extend_from_slice(self.line_end());
    }

    /// The answer to a write that was taken.
    pub(crate) const fn ok(self) -> &'static [u8] {
        match self {
            Self::Line | Self::Quoted => b"OK\n",
            Self::Inline | Self::Array => b"+OK\r\n",
        }
    }

    const fn line_end(self) -> &'static [u8] {
        match self {
            Self::Line | Self::Quoted => b"\n",
            Self::Inline | Self::Array => b"\r\n",
        }
    }
}

pub(crate) fn key(number: u32) -> Vec<u8> {
    numbered(*b"key:000000000000", number.into())
}

/// A value that no other `number` has.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut value = [b'0'; 64];
    value[0] = b'v';
    numbered(value, number)
}

/// `text` with a number at its end. Not by `format!`, which takes longer than what is measured.
fn numbered<const BYTES: usize>(mut text: [u8; BYTES], mut number: u64) -> Vec<u8> {
    for digit in text.iter_mut().rev() {
        if number == 0 {
            break;
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text.to_vec()
}
