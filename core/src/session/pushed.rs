//! What a client is told unasked, until it is sent.

/// Messages in the client's dialect, one behind the other. Nothing before the first: most clients are told nothing.
#[derive(Debug, Default)]
pub(crate) struct Pushed(Option<Box<Messages>>);

#[derive(Debug, Default)]
struct Messages {
    bytes: Vec<u8>,
    /// So many of them have gone.
    sent: usize,
    /// A part of a message has gone: nothing else may come before the rest of it.
    is_cut: bool,
    /// Some of it tells of writes of this node, which may not be on the disk yet.
    tells_writes: bool,
}

/// Capacity that is kept when all has gone.
const KEPT_BYTES: usize = 64 << 10;

impl Pushed {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |messages| messages.len())
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.as_ref().is_some_and(|messages| messages.is_cut)
    }

    pub(crate) fn tells_writes(&self) -> bool {
        self.0.as_ref().is_some_and(|messages| messages.tells_writes)
    }

    /// The next message tells of a write of this node.
    pub(crate) fn note_write(&mut self) {
        self.0.get_or_insert_default().tells_writes = true;
    }

    /// Where the next message is appended, a whole one.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.0.get_or_insert_default().bytes
    }

    /// Moves at most `limit` bytes to `out`.
    pub(crate) fn send(&mut self, limit: usize, out: &mut Vec<u8>) {
        if let Some(messages) = &mut self.0 {
            messages.send(limit, out);
        }
    }

    /// Moves all of it to `out`.
    pub(crate) fn send_all(&mut self, out: &mut Vec<u8>) {
        self.send(usize::MAX, out);
    }
}

impl Messages {
    const fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn send(&mut self, limit: usize, out: &mut Vec<u8>) {
        let count = limit.min(self.len());
        out.extend_from_slice(&self.bytes[self.sent..self.sent + count]);
        self.sent += count;
        self.is_cut = self.len() > 0;
        if self.len() == 0 {
            self.clear();
        } else if self.sent >= self.len() {
            // Not each time: what is left may be many megabytes.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        (self.sent, self.is_cut, self.tells_writes) = (0, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_parts_is_whole() {
        let (mut pushed, mut out, mut expected) = (Pushed::default(), Vec::new(), Vec::new());
        for (length, limit) in [(10, 3), (0, 3), (5, 0), (5, 9), (100, 60), (0, 60), (7, 7), (7, 6), (0, 1)] {
            pushed.end().extend((0..length).map(|at| at as u8));
            expected.extend((0..length).map(|at| at as u8));
            pushed.send(limit, &mut out);
            assert_eq!(out.len() + pushed.len(), expected.len());
            assert_eq!(pushed.is_cut(), !pushed.is_empty());
        }
        assert_eq!(out, expected);
        pushed.end().extend([1; 100_000]);
        pushed.send_all(&mut out);
        assert!(pushed.is_empty() && !pushed.is_cut() && out.len() == expected.len() + 100_000);
        assert!(pushed.0.as_ref().unwrap().bytes.capacity() <= KEPT_BYTES);
    }
}
