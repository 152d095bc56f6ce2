//! Reading a file of a data directory: frames, one after the other, and where bytes are none.
//!
//! Nothing is believed before its checksum holds, nothing is allocated by what a length says, and whatever the bytes
//! are, every one of them is in a frame, in a head or in what is told as damaged.

use crate::config::Config;
use crate::disk::FileKind;
use crate::disk::frames::{BLOCK_HEAD_BYTES, FORMAT, FileFrame, Header, MAGIC, block_bytes, parse, stated_bytes};
use crate::disk::log::begin_file;
use crate::record::{PREFIX_BYTES, checked_length, next_frame};

/// Longest header frame: two names and some words.
const HEADER_BYTES_MAX: usize = 1 << 10;

/// What a file that has two copies of its header begins with, at most.
pub(crate) const BEGINNING_BYTES_MAX: usize = MAGIC.len() + 2 * (PREFIX_BYTES + HEADER_BYTES_MAX);

/// Longest frame: more than the longest key and value take.
const BODY_BYTES_MAX: usize = (1 << 27) - 1;

/// What stands next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The body of a whole frame.
    Body(&'a [u8]),
    /// So many bytes from there on are nothing.
    Damage { at: u64, bytes: u64 },
    /// So many bytes at the end are no whole block.
    Torn { at: u64, bytes: u64 },
    /// More has to be [pushed](Scan::push).
    Wanted,
    /// It was read to its end.
    End,
}

/// Why a file cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It does not begin as a node's files do, or both copies of its header are damaged.
    NoHeader,
    /// Another format, of a newer build.
    Format(u16),
}

/// What a disk writes at once, whole or not at all; bigger ones are a multiple of it.
const SECTOR_BYTES: usize = 512;

/// A file that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    salt: u64,
    /// What was pushed and not passed yet; its first byte is at `base` in the file.
    buffer: Vec<u8>,
    base: u64,
    /// How much of the buffer was passed.
    at: usize,
    /// What is left of the block that is being read.
    left: usize,
    /// What was found last is no head of a block, where one was to be.
    is_headless: bool,
    ended: bool,
}

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning<'a> {
    pub(crate) header: Header<'a>,
    /// Where its blocks begin.
    pub(crate) bytes: usize,
    /// All of it is as it was written.
    pub(crate) is_whole: bool,
}

/// How the file begins that begins with `bytes`.
pub(crate) fn beginning(bytes: &[u8]) -> Result<Beginning<'_>, Unreadable> {
    let copy = |from: usize| {
        let rest = bytes.get(from..)?;
        let body = next_frame(rest, HEADER_BYTES_MAX).ok()??;
        match parse(body)? {
            FileFrame::Header(header) => Some((from, header, PREFIX_BYTES + body.len())),
            FileFrame::Mark(_) | FileFrame::Replaced { .. } | FileFrame::End { .. } | FileFrame::Synced { .. } => None,
        }
    };
    let from = MAGIC.len();
    let found = (from..bytes.len().min(from + PREFIX_BYTES + HEADER_BYTES_MAX)).find_map(copy);
    let (at, header, copy_bytes) = found.ok_or(Unreadable::NoHeader)?;
    if header.format != FORMAT {
        return Err(Unreadable::Format(header.format));
    }
    let end = from + 2 * copy_bytes;
    // A file that was cut there was not damaged.
    let has_other = copy(from + copy_bytes).is_some() || bytes.len() < end;
    let is_whole = bytes.starts_with(&MAGIC) && at == from && has_other;
    Ok(Beginning { header, bytes: end, is_whole })
}

/// Whether a file that begins with `bytes` had a whole beginning once: one that was cut before its first sync is
/// shorter, or empty where the disk did not get to it.
pub(crate) fn is_begun(bytes: &[u8], config: &Config) -> bool {
    let mut whole = Vec::new();
    let header = Header {
        format: FORMAT,
        kind: FileKind::Log,
        number: 1,
        salt: 0,
        prev_bytes: 0,
        has_gap: false,
        is_restored: false,
        cluster: &config.cluster,
        name: &config.name,
    };
    begin_file(&header, &mut whole);
    bytes.get(..whole.len()).is_some_and(|begun| begun.iter().any(|byte| *byte != 0))
}

/// Whether the file that begins with `bytes` lacks its first sector: what was appended behind it got to the disk alone.
pub(crate) fn is_headless(bytes: &[u8]) -> bool {
    bytes.iter().take(SECTOR_BYTES).all(|byte| *byte == 0)
}

impl Scan {
    /// Reads the blocks of a file whose header has this salt. What is pushed begins at `base`, where blocks begin.
    pub(crate) fn new(salt: u64, base: u64) -> Self {
        Self { salt, buffer: Vec::new(), base, at: 0, left: 0, is_headless: false, ended: false }
    }

    /// Takes in what follows in the file.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.base += self.at as u64;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Nothing follows.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What stands next.
    pub(crate) fn next(&mut self) -> Piece<'_> {
        if self.left == 0 {
            let place = self.place();
            let rest = &self.buffer[self.at..];
            if rest.is_empty() {
                return if self.ended { Piece::End } else { Piece::Wanted };
            }
            let length = rest.first_chunk().and_then(|head| block_bytes(head, self.salt, place));
            let length = length.filter(|length| *length > 0);
            self.is_headless = length.is_none();
            let Some(length) = length else {
                if rest.len() < BLOCK_HEAD_BYTES && !self.ended {
                    return Piece::Wanted;
                }
                return self.skip_to_block();
            };
            self.at += BLOCK_HEAD_BYTES;
            self.left = length as usize;
        }
        self.next_of_block()
    }

    /// The bodies of the frames that follow and are here already. They are not checked: good for nothing but to get
    /// ready for what [`next`](Self::next) gives.
    pub(crate) fn peek(&self) -> impl Iterator<Item = &[u8]> {
        let (mut rest, mut left) = (&self.buffer[self.at..], self.left);
        std::iter::from_fn(move || {
            if left == 0 {
                let (head, behind) = rest.split_first_chunk()?;
                (rest, left) = (behind, stated_bytes(head) as usize);
            }
            let length = checked_length(*rest.first_chunk()?)?;
            let (frame, behind) = rest.split_at_checked(PREFIX_BYTES + length)?;
            left = left.checked_sub(frame.len())?;
            rest = behind;
            Some(&frame[PREFIX_BYTES..])
        })
    }

    /// Whether the disk does not have all of what was appended at `at`, where so many bytes were just found to be
    /// nothing: a sector that was never written reads as zeros to its end. Where a block was to begin only its head
    /// says so, for how far it went is not known.
    pub(crate) fn has_hole(&self, at: u64, bytes: u64) -> bool {
        let bytes = if self.is_headless { bytes.min(BLOCK_HEAD_BYTES as u64) } else { bytes };
        let Some(from) = at.checked_sub(self.base).map(|from| from as usize) else { return false };
        let first = (at as usize / SECTOR_BYTES) * SECTOR_BYTES;
        (first..at as usize + bytes as usize).step_by(SECTOR_BYTES).any(|sector| {
            let (begin, end) = (sector.max(at as usize), sector + SECTOR_BYTES);
            let place = |place: usize| (from + (place - at as usize)).min(self.buffer.len());
            let there = &self.buffer[place(begin)..place(end)];
            !there.is_empty() && there.iter().all(|byte| *byte == 0)
        })
    }

    /// Where what follows begins.
    pub(crate) fn place(&self) -> u64 {
        self.base + self.at as u64
    }

    fn next_of_block(&mut self) -> Piece<'_> {
        let place = self.place();
        let rest = &self.buffer[self.at..];
        let is_whole = rest.len() >= self.left;
        let block = &rest[..self.left.min(rest.len())];
        let stated = block.first_chunk::<4>().and_then(|length| checked_length(*length));
        let skipped = match next_frame(block, BODY_BYTES_MAX) {
            Ok(Some(body)) => {
                let bytes = PREFIX_BYTES + body.len();
                let from = self.at + PREFIX_BYTES;
                self.at += bytes;
                self.left -= bytes;
                return Piece::Body(&self.buffer[from..from + bytes - PREFIX_BYTES]);
            }
            Ok(None) if !is_whole && !self.ended => return Piece::Wanted,
            Ok(None) if !is_whole => {
                // The file ends within the block.
                let bytes = block.len() as u64;
                self.at = self.buffer.len();
                self.left = 0;
                // Between two frames of it nothing is torn: so it is left by whoever cuts a torn one off.
                return if bytes == 0 { Piece::End } else { Piece::Torn { at: place, bytes } };
            }
            // Of a record that is damaged the length may be whole: the next one is behind it.
            Err(_) | Ok(None) => match stated.map(|body| PREFIX_BYTES + body) {
                Some(bytes) if bytes <= self.left => bytes,
                Some(_) | None => self.left,
            },
        };
        // A block that is not all here yet is passed over when it is.
        if skipped > block.len() {
            if !self.ended {
                return Piece::Wanted;
            }
            self.at = self.buffer.len();
            self.left = 0;
            return Piece::Torn { at: place, bytes: (self.buffer.len() as u64 + self.base) - place };
        }
        self.at += skipped;
        self.left -= skipped;
        Piece::Damage { at: place, bytes: skipped as u64 }
    }

    /// Passes over what is no block, up to the next one.
    fn skip_to_block(&mut self) -> Piece<'_> {
        let at = self.place();
        let salt = self.salt.to_le_bytes();
        let found = memchr::memmem::find_iter(&self.buffer[self.at..], &salt).map(|from| self.at + from).find(|from| {
            let head = self.buffer[*from..].first_chunk();
            let length = head.and_then(|head| block_bytes(head, self.salt, self.base + *from as u64));
            length.is_some_and(|length| length > 0)
        });
        let end = self.buffer.len();
        match found {
            Some(from) => {
                self.at = from;
                Piece::Damage { at, bytes: self.place() - at }
            }
            None if self.ended => {
                self.at = end;
                Piece::Torn { at, bytes: self.place() - at }
            }
            None => {
                // A head may have begun.
                let from = end.saturating_sub(BLOCK_HEAD_BYTES - 1).max(self.at);
                if from == self.at {
                    return Piece::Wanted;
                }
                self.at = from;
                Piece::Damage { at, bytes: self.place() - at }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::frames::{block_head, emit_end, emit_header};

    const SALT: u64 = 0x1234_5678_9abc_def1;

    fn frames(numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        numbers.iter().for_each(|number| emit_end(*number, &mut out));
        out
    }

    /// A file of blocks, each with frames of these numbers.
    fn file(blocks: &[Vec<u64>], base: u64) -> Vec<u8> {
        let mut file = Vec::new();
        for numbers in blocks {
            let frames = frames(numbers);
            file.extend_from_slice(&block_head(SALT, frames.len() as u32, base + file.len() as u64));
            file.extend_from_slice(&frames);
        }
        file
    }

    /// What is found: numbers, and the bytes that are damaged and torn.
    fn read(bytes: &[u8], base: u64, chunk: usize) -> (Vec<u64>, u64, u64) {
        let mut scan = Scan::new(SALT, base);
        let (mut numbers, mut damaged, mut torn) = (Vec::new(), 0, 0);
        let mut chunks = bytes.chunks(chunk);
        loop {
            let peeked = scan.peek().next().map(<[u8]>::to_vec);
            assert!(scan.peek().count() <= bytes.len() / PREFIX_BYTES);
            match scan.next() {
                Piece::Body(body) if peeked.as_deref() != Some(body) => panic!("{peeked:?} was to come"),
                Piece::Body(body) => match parse(body) {
                    Some(FileFrame::End { records }) => numbers.push(records),
                    other => panic!("{other:?}"),
                },
                Piece::Damage { bytes, .. } => damaged += bytes,
                Piece::Torn { bytes, .. } => torn += bytes,
                Piece::Wanted => match chunks.next() {
                    Some(chunk) => scan.push(chunk),
                    None => scan.end(),
                },
                Piece::End => return (numbers, damaged, torn),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_comes(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 1..5), 0..8),
            base in 0_u64..1_000,
            chunk in 1_usize..200,
        ) {
            let bytes = file(&blocks, base);
            prop_assert_eq!(read(&bytes, base, chunk), (blocks.concat(), 0, 0));
        }

        #[test]
        fn a_cut_file_is_torn_and_what_is_before_is_read(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 1..5), 1..8),
            cut in any::<prop::sample::Index>(),
            chunk in 1_usize..200,
        ) {
            let bytes = file(&blocks, 0);
            let kept = cut.index(bytes.len());
            let (numbers, damaged, _) = read(&bytes[..kept], 0, chunk);
            prop_assert_eq!(damaged, 0);
            prop_assert!(blocks.concat().starts_with(&numbers));
        }

        #[test]
        fn a_flipped_bit_costs_a_record_or_a_block_and_is_told(
            blocks in proptest::collection::vec(proptest::collection::vec(0_u64..1_000, 1..5), 2..8),
            bit in any::<prop::sample::Index>(),
            chunk in 1_usize..200,
        ) {
            let mut bytes = file(&blocks, 7);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (numbers, damaged, torn) = read(&bytes, 7, chunk);
            prop_assert!(damaged + torn > 0);
            let longest = blocks.iter().map(Vec::len).max().unwrap_or(0);
            let all = blocks.concat();
            prop_assert!(numbers.len() + longest >= all.len(), "{} of {}", numbers.len(), all.len());
            // In order, and none that was not written.
            let mut rest = all.iter();
            prop_assert!(numbers.iter().all(|number| rest.any(|of| of == number)));
        }

        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), chunk in 1_usize..100) {
            let (_, damaged, torn) = read(&bytes, 0, chunk);
            prop_assert_eq!(damaged + torn, bytes.len() as u64);
            let _ = beginning(&bytes);
        }
    }

    #[test]
    fn of_two_headers_either_will_do() {
        let header_of = |name| Header {
            format: FORMAT,
            kind: FileKind::Log,
            number: 3,
            salt: SALT,
            prev_bytes: 5,
            has_gap: false,
            is_restored: true,
            cluster: "c",
            name,
        };
        let mut bytes = MAGIC.to_vec();
        emit_header(&header_of("n"), &mut bytes);
        let one = bytes.len() - MAGIC.len();
        emit_header(&header_of("n"), &mut bytes);
        let whole = Beginning { header: header_of("n"), bytes: bytes.len(), is_whole: true };
        assert_eq!(beginning(&bytes), Ok(whole));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert_eq!(beginning(&bytes), Ok(Beginning { is_whole: false, ..whole }), "{at}, of {one} twice");
        }
        assert_eq!(beginning(b"GET / HTTP/1.1"), Err(Unreadable::NoHeader));
        let mut newer = MAGIC.to_vec();
        emit_header(&Header { format: FORMAT + 1, ..header_of("n") }, &mut newer);
        assert_eq!(beginning(&newer), Err(Unreadable::Format(FORMAT + 1)));
    }
}
