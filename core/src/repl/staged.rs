//! Frames of a link that wait to be sent.

/// Bytes that leave in order; what was sent is dropped once it is no less than what is left.
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
        } else if self.sent >= self.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_empty_does_not_grow() {
        let (mut staged, mut sent) = (Staged::default(), Vec::new());
        for turn in 0..1_000 {
            staged.out().extend([turn as u8; 100]);
            let count = if turn == 0 { 50 } else { 100 };
            staged.drain_to(count, &mut sent);
            assert!(staged.len() == 50 && staged.bytes.len() <= 300, "{} bytes in turn {turn}", staged.bytes.len());
        }
        staged.drain_to(usize::MAX, &mut sent);
        let expected: Vec<u8> = (0..1_000).flat_map(|turn| [turn as u8; 100]).collect();
        assert!(staged.is_empty() && sent == expected);
    }
}
