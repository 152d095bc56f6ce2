//! What a client is told unasked, until it is sent.

/// Messages in the client's dialect, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    bytes: Vec<u8>,
    /// A part of a message was sent, and `bytes` begin with the rest of it: nothing else may come before that.
    is_cut: bool,
}

impl Pushed {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Where the next message is appended, a whole one.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Moves at most `limit` bytes to `out`.
    pub(crate) fn send(&mut self, limit: usize, out: &mut Vec<u8>) {
        out.extend(self.bytes.drain(..limit.min(self.bytes.len())));
        self.is_cut = !self.bytes.is_empty();
    }

    /// Moves all of it to `out`.
    pub(crate) fn send_all(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.bytes);
        self.is_cut = false;
    }
}
