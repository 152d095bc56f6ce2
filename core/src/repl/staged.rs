//! Frames of a link that wait to be sent.

/// Bytes that leave in order; what was sent is dropped once all of it has gone.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    sent: usize,
}

/// Capacity that an emptied stage keeps; a value of many megabytes is not held by the link that once carried it.
const STAGED_CAPACITY_BYTES: usize = 128 << 10;

impl Staged {
    /// Where frames are appended.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves at most `limit` bytes to `out`.
    pub(crate) fn drain_to(&mut self, limit: usize, out: &mut Vec<u8>) {
        let count = limit.min(self.len());
        out.extend_from_slice(&self.bytes[self.sent..self.sent + count]);
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            if self.bytes.capacity() > STAGED_CAPACITY_BYTES {
                self.bytes = Vec::new();
            }
        }
    }
}
