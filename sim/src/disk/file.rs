//! One file of a simulated disk: what a process reads of it, and what a machine that has lost its power still has.
//!
//! Files are only appended to, so what was written is one run of bytes of which a beginning is *settled*: a sync has
//! dealt with it. What is settled is on the platter, but for the places that a failed sync says nothing of any more.

use std::ops::Range;

use crate::plan::size;
use crate::rng::{keyed, scale};

/// What a disk writes at once, whole or not at all: of one kind of disk and of the other.
const BLOCK_BYTES: [usize; 2] = [512, 4_096];

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// As a process reads it.
    bytes: Vec<u8>,
    /// So many of them a sync has dealt with.
    settled: usize,
    /// What a failed sync gave up of that: read from memory as long as the machine is up, and not on the platter.
    given_up: Vec<Range<usize>>,
    /// What a sync has put on the platter as it was written.
    sound: usize,
    /// What follows was left behind by a crash, cut off or given up: no sync makes it what was written.
    is_spoiled: bool,
    /// How much of it was appended first: what it begins with, without its blocks.
    head: usize,
}

impl File {
    /// A copy of `bytes`, on the platter.
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        file.append(bytes);
        file.sync();
        file
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn head(&self) -> u64 {
        self.head as u64
    }

    /// What a process reads from `at` on, at most `count` bytes.
    pub(super) fn read(&self, at: u64, count: u32) -> &[u8] {
        let from = usize::try_from(at).map_or(self.bytes.len(), |at| at.min(self.bytes.len()));
        &self.bytes[from..(from + count as usize).min(self.bytes.len())]
    }

    /// What a process reads of all of it.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.head = bytes.len();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Some of what was to be appended is: nobody can count on it.
    pub(super) fn append_part(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.is_spoiled = true;
    }

    /// A sync that works: all is on the platter, but for what an earlier one gave up. The system has long taken that
    /// for written.
    pub(super) fn sync(&mut self) {
        self.settled = self.bytes.len();
        if !self.is_spoiled {
            self.sound = self.settled;
        }
    }

    /// A sync that fails: of the blocks that were to be written some were, and all count as written from now on.
    pub(super) fn fail_sync(&mut self, draw: u64) {
        let block = block_bytes(draw);
        for (number, blocks) in blocks(self.settled..self.bytes.len(), block).enumerate() {
            if !is_on(draw, number) {
                self.given_up.push(blocks);
            }
        }
        self.settled = self.bytes.len();
        self.is_spoiled = true;
    }

    /// The machine loses its power: what is not settled is lost, or a drawn part of it is there.
    pub(super) fn crash(&mut self, draw: u64) {
        let unsettled = self.settled..self.bytes.len();
        if !unsettled.is_empty() {
            self.is_spoiled = true;
        }
        match draw % 4 {
            0 => self.bytes.truncate(self.settled),
            // Torn anywhere.
            1 => {
                let kept = scale(keyed(draw, &[1]), unsettled.len() as u64 + 1);
                self.bytes.truncate(self.settled + size(kept));
            }
            // Blocks in any order: the length is there, or ends with the last block that is.
            2 => {
                let mut end = self.settled;
                for (number, block) in blocks(unsettled, block_bytes(draw)).enumerate() {
                    if is_on(draw, number) {
                        end = block.end;
                    } else {
                        self.bytes[block].fill(0);
                    }
                }
                if draw & 4 == 0 {
                    self.bytes.truncate(end);
                }
            }
            _ => {}
        }
        for lost in std::mem::take(&mut self.given_up) {
            // A crash may have cut the file before it.
            let lost = lost.start.min(self.bytes.len())..lost.end.min(self.bytes.len());
            self.bytes[lost].fill(0);
        }
        self.settled = self.bytes.len();
    }

    /// A bit turns in what is on the platter as it was written.
    pub(super) fn flip(&mut self, bit: u64) {
        if let Some(byte) = self.bytes[..self.sound].get_mut(size(bit / 8)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// How many bytes are on the platter, as far as anybody can know.
    pub(super) const fn settled(&self) -> usize {
        self.settled
    }

    /// How many bytes are on the platter as they were written, whatever happened since.
    pub(super) const fn sound(&self) -> usize {
        self.sound
    }
}

fn block_bytes(draw: u64) -> usize {
    BLOCK_BYTES[usize::from(draw & 8 == 0)]
}

/// Whether block `number` of a write that was not finished is on the platter.
fn is_on(draw: u64, number: usize) -> bool {
    keyed(draw, &[2, number as u64]) & 1 == 0
}

/// The parts of `range` in each block that it touches.
fn blocks(range: Range<usize>, block: usize) -> impl Iterator<Item = Range<usize>> {
    let first = range.start / block;
    let last = if range.is_empty() { first } else { (range.end - 1) / block + 1 };
    (first..last).map(move |number| (number * block).max(range.start)..((number + 1) * block).min(range.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Synced bytes, and unsynced ones behind them.
    fn file(synced: usize, unsynced: usize) -> File {
        let mut file = File::default();
        file.append(&vec![1; synced]);
        file.sync();
        file.append(&vec![2; unsynced]);
        file
    }

    #[test]
    fn a_crash_keeps_what_was_synced() {
        let mut kept = [0, 0, 0];
        for draw in 0..200 {
            let mut file = file(700, 9_000);
            file.crash(keyed(draw, &[]));
            assert!(file.bytes[..700].iter().all(|byte| *byte == 1));
            let zeros = file.bytes[700..].iter().filter(|byte| **byte == 0).count();
            kept[0] += usize::from(file.len() == 700);
            kept[1] += usize::from(file.len() > 700 && file.len() < 9_700 && zeros == 0);
            kept[2] += usize::from(zeros > 0);
        }
        assert!(kept.iter().all(|times| *times > 10), "lost, torn, out of order: {kept:?}");
    }

    #[test]
    fn blocks_are_cut_where_those_of_the_disk_are() {
        let parts: Vec<_> = blocks(700..1_300, 512).collect();
        assert_eq!(parts, [700..1_024, 1_024..1_300]);
        assert_eq!(blocks(512..512, 512).count(), 0);
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_read_until_the_machine_goes() {
        let mut zeros = 0;
        for draw in 0..50 {
            let mut file = file(100, 5_000);
            file.fail_sync(keyed(draw, &[]));
            // The system takes all for written: the next sync has nothing to do, and says that all is well.
            file.sync();
            assert_eq!(file.read(0, u32::MAX), [vec![1; 100], vec![2; 5_000]].concat());
            file.crash(keyed(draw, &[9]));
            assert_eq!(file.len(), 5_100);
            zeros += file.bytes.iter().filter(|byte| **byte == 0).count();
        }
        assert!(zeros > 5_000, "{zeros}");
    }

    #[test]
    fn a_bit_turns_in_what_was_synced() {
        let mut file = file(10, 10);
        file.flip(8 * 9 + 1);
        file.flip(8 * 10);
        assert_eq!(file.bytes, [vec![1; 9], vec![3], vec![2; 10]].concat());
    }

    #[test]
    fn a_read_ends_with_the_file() {
        let file = file(10, 10);
        assert_eq!(file.read(15, 100), [2; 5]);
        assert!(file.read(20, 100).is_empty());
        assert!(file.read(99, 100).is_empty());
    }
}
