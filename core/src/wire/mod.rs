//! What travels: the dialects of clients and the frames of peers. A file for each format, `parse` beside `emit`.

pub(crate) mod ahead;
pub(crate) mod denied;
pub(crate) mod hello;
pub(crate) mod line;
pub(crate) mod lists;
pub(crate) mod num;
pub(crate) mod packed;
pub(crate) mod peer;
pub(crate) mod proof;
pub(crate) mod resp;
pub(crate) mod retired;
pub(crate) mod said;
pub(crate) mod scrub;
pub(crate) mod telnet;
pub(crate) mod token;
pub(crate) mod told;
pub(crate) mod words;

use crate::command::Reply;

/// How a client talks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Lines of text.
    #[default]
    Line,
    /// The Redis protocol, version 3 or 2.
    Resp { is_3: bool },
    /// Packed, for a session that looks at replies before it answers: that of HTTP.
    Packed,
}

/// Where the replies to one client go.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) out: &'a mut Vec<u8>,
}

impl Answer<'_> {
    /// Appends a reply.
    pub(crate) fn say(&mut self, reply: &Reply<'_>) {
        self.dialect.emit(reply, self.out);
    }

    /// As [`say`](Self::say), of a [value](Reply::Value), which most answers are.
    #[inline]
    pub(crate) fn value(&mut self, value: &[u8]) {
        match self.dialect {
            Dialect::Resp { .. } => resp::push_bulk(value, self.out),
            _ => self.say(&Reply::Value(value)),
        }
    }

    /// Appends one reply that is the text which `put` appends, a line or some.
    pub(crate) fn text(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let from = self.out.len();
        put(self.out);
        match self.dialect {
            Dialect::Line => {}
            Dialect::Resp { .. } => resp::wrap_text(from, self.out),
            Dialect::Packed => packed::wrap_text(from, self.out),
        }
    }

    /// Appends one reply that is a text of lines, each of which ends with CR LF, or with LF.
    pub(crate) fn document(&mut self, text: &str) {
        match self.dialect {
            Dialect::Resp { .. } | Dialect::Packed => self.say(&Reply::Value(text.as_bytes())),
            // One reply ends with one end of a line, whatever is in it.
            Dialect::Line => self.say(&Reply::Value(text.replace("\r\n", "\n").trim_end_matches('\n').as_bytes())),
        }
    }
}

impl Dialect {
    /// Appends `reply`.
    pub(crate) fn emit(self, reply: &Reply<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Line => line::emit(reply, out),
            Self::Resp { is_3 } => resp::emit(reply, is_3, out),
            Self::Packed => packed::emit(reply, out),
        }
    }
}
