//! One entry of a slot's table: 8 bytes in the table, everything else in one allocation.
//!
//! The 8 bytes are the 19 bits of the key's hash, then 45 bits of the address: addresses have 48 bits, and the lowest 3
//! are 0. The allocation, in the machine's byte order, aligned to 8:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | the hlc of the version |
//! | 8 | 8 | [`Shape`], by bits: 15 origin's index, 1 counter, 17 key length, 1 no value, 1 deadline, 29 value length |
//! | 16 | 8 | the deadline; absent when the shape has none |
//! | 16 or 24 | | the key, then the value |
//!
//! No capacity is stored: what was allocated is a function of the lengths alone ([`allocation_bytes`]).
//!
//! Besides [`prefetch`](super::prefetch), which has nothing to keep, this is the only module of the core with `unsafe`
//! code. Its invariants:
//! 1. [`Entry::at`] comes from `alloc` with [`layout`] of the shape written at byte 8, and this entry alone owns it.
//! 2. The header, the key and the value of that shape are initialized; what lies behind them is never read.
//! 3. Shape and content change only under `&mut self`, and never leave the class that was allocated.
#![expect(unsafe_code, reason = "a thin handle to header, key and value in one allocation has no safe equal")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::num::NonZeroU64;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::slice;

use super::prefetch::prefetch;
use super::{KEY_BYTES_MAX, ORIGINS_MAX, VALUE_BYTES_MAX};
use crate::time::WallMs;
use crate::version::Hlc;

const HEADER_BYTES: usize = 16;
const DEADLINE_BYTES: usize = 8;

/// That of the words that are read in place. 16 would be one more bit of the hash, and every other class of small
/// entries.
const ALIGNMENT: usize = 8;

/// Bytes that memory gives at a time.
const LINE_BYTES: usize = 64;

/// Bits of a key's hash, which is less than `1 << HASH_BITS`.
pub(super) const HASH_BITS: u32 = 19;

/// Bits of an address without those that are always 0.
const ADDRESS_BITS: u32 = 64 - HASH_BITS;

const _: () = assert!(ADDRESS_BITS + ALIGNMENT.ilog2() == 48, "an address has its place beside the hash");

const _: () = assert!(ORIGINS_MAX.is_power_of_two() && ORIGINS_MAX <= 1 << 15, "an index has 15 bits in the header");

/// A key's entry, with its hash beside the address, so that a table grows, and a walk chooses, without touching an
/// allocation.
pub(super) struct Entry(NonZeroU64);

const _: () = assert!(size_of::<Option<Entry>>() == 8);

/// What an entry holds, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) hlc: Hlc,
    /// Index into the store's table of origins.
    pub(super) origin: u16,
    pub(super) deadline: Option<WallMs>,
    /// At most [`KEY_BYTES_MAX`].
    pub(super) key: &'a [u8],
    /// At most [`VALUE_BYTES_MAX`].
    pub(super) value: Option<&'a [u8]>,
    pub(super) is_counter: bool,
}

impl Entry {
    /// Panics when key or value is too long: whoever decodes or accepts a record checks first.
    pub(super) fn new(hash: u32, parts: &Parts<'_>) -> Self {
        let shape = Shape::of(parts);
        let layout = layout(shape);
        // SAFETY: the size of a layout is at least that of the header, so not 0.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: `at` was just allocated for `shape`, and `parts` cannot point into it.
        unsafe { write(at, shape, parts) };
        let address = at.as_ptr().expose_provenance() as u64;
        assert!(address < 1 << 48, "user space is below 2^48 on all systems that this runs on");
        debug_assert!(hash < 1 << HASH_BITS, "a hash has {HASH_BITS} bits");
        let word = NonZeroU64::new((u64::from(hash) << ADDRESS_BITS) | (address / ALIGNMENT as u64));
        Self(word.expect("no allocation is at 0"))
    }

    #[inline]
    pub(super) fn hash(&self) -> u32 {
        (self.0.get() >> ADDRESS_BITS) as u32
    }

    #[inline]
    fn at(&self) -> NonNull<u8> {
        let address = (self.0.get() << HASH_BITS) >> (HASH_BITS - ALIGNMENT.ilog2());
        // SAFETY: this is the address that `new` was given by `alloc`, which is never 0.
        unsafe { NonNull::new_unchecked(with_exposed_provenance_mut(address as usize)) }
    }

    /// Asks memory for the first two lines: what says where everything lies, the key, and most of a small value.
    #[inline]
    pub(super) fn prefetch(&self) {
        let at = self.at().as_ptr();
        prefetch(at);
        prefetch(at.wrapping_add(LINE_BYTES));
    }

    pub(super) fn key(&self) -> &[u8] {
        let shape = self.shape();
        self.bytes(shape.key_at(), shape.key_bytes)
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        let shape = self.shape();
        let key_at = shape.key_at();
        Parts {
            hlc: Hlc(self.word(0)),
            origin: shape.origin,
            deadline: shape.has_deadline.then(|| WallMs(self.word(HEADER_BYTES))),
            key: self.bytes(key_at, shape.key_bytes),
            value: shape.has_value.then(|| self.bytes(key_at + shape.key_bytes, shape.value_bytes)),
            is_counter: shape.is_counter,
        }
    }

    pub(super) fn has_value(&self) -> bool {
        self.shape().has_value
    }

    /// Replaces everything but the key, in place when the class of the allocation stays; by how many bytes that grows.
    #[inline]
    pub(super) fn overwrite(&mut self, parts: &Parts<'_>) -> isize {
        debug_assert!(self.key() == parts.key, "an entry keeps its key");
        let shape = Shape::of(parts);
        let is_as_long = shape.bytes() == self.shape().bytes();
        let grown = if is_as_long { 0 } else { shape.allocation_bytes() as isize - self.allocation_bytes() as isize };
        if grown == 0 {
            // SAFETY: this entry owns an allocation of this very class (1). `parts` borrows from elsewhere: nothing
            // can borrow from this entry during `&mut self`.
            unsafe { write(self.at(), shape, parts) };
        } else {
            *self = Self::new(self.hash(), parts);
        }
        grown
    }

    /// Gives the memory of the value back; version, deadline and key stay.
    pub(super) fn free_value(&mut self) {
        *self = Self::new(self.hash(), &Parts { value: None, is_counter: false, ..self.parts() });
    }

    /// What this entry costs outside of the table.
    pub(super) fn allocation_bytes(&self) -> usize {
        self.shape().allocation_bytes()
    }

    fn shape(&self) -> Shape {
        Shape::unpack(self.word(8))
    }

    /// The word at `offset`, which is that of a header word, or of the deadline of an entry that has one.
    fn word(&self, offset: usize) -> u64 {
        debug_assert!(offset < HEADER_BYTES || (offset == HEADER_BYTES && self.shape().has_deadline));
        // SAFETY: these offsets are within the allocation and initialized (2); all are multiples of 8 from a start
        // that is aligned to 8.
        unsafe { self.at().add(offset).cast::<u64>().read() }
    }

    /// A range that the shape gives for the key or the value.
    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        debug_assert!(offset + length <= self.shape().bytes());
        // SAFETY: the range is within the allocation and initialized (2), and stays as it is while `self` is
        // borrowed (3).
        unsafe { slice::from_raw_parts(self.at().add(offset).as_ptr(), length) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = layout(self.shape());
        // SAFETY: allocated with this layout, and owned (1).
        unsafe { dealloc(self.at().as_ptr(), layout) };
    }
}

/// Writes header, key and value.
///
/// # Safety
/// `at` must own an allocation of the class of `shape`, which is the shape of `parts`; `parts` must not point into it.
unsafe fn write(at: NonNull<u8>, shape: Shape, parts: &Parts<'_>) {
    let value = parts.value.unwrap_or_default();
    let key_at = shape.key_at();
    // SAFETY: all offsets and lengths are those of `shape`, whose bytes the allocation holds; the words are aligned.
    unsafe {
        at.cast::<u64>().write(parts.hlc.0);
        at.add(8).cast::<u64>().write(shape.pack());
        if let Some(deadline) = parts.deadline {
            at.add(HEADER_BYTES).cast::<u64>().write(deadline.0);
        }
        at.add(key_at).copy_from_nonoverlapping(NonNull::from_ref(parts.key).cast(), parts.key.len());
        at.add(key_at + parts.key.len()).copy_from_nonoverlapping(NonNull::from_ref(value).cast(), value.len());
    }
}

/// The header's second word: all that says where things lie.
#[derive(Clone, Copy)]
struct Shape {
    origin: u16,
    is_counter: bool,
    key_bytes: usize,
    has_value: bool,
    has_deadline: bool,
    value_bytes: usize,
}

impl Shape {
    fn of(parts: &Parts<'_>) -> Self {
        let value_bytes = parts.value.map_or(0, <[u8]>::len);
        assert!(parts.key.len() <= KEY_BYTES_MAX, "a key is at most {KEY_BYTES_MAX} bytes");
        assert!(value_bytes <= VALUE_BYTES_MAX, "a value is at most {VALUE_BYTES_MAX} bytes");
        Self {
            origin: parts.origin,
            is_counter: parts.is_counter,
            key_bytes: parts.key.len(),
            has_value: parts.value.is_some(),
            has_deadline: parts.deadline.is_some(),
            value_bytes,
        }
    }

    const fn pack(self) -> u64 {
        self.origin as u64
            | (self.is_counter as u64) << 15
            | (self.key_bytes as u64) << 16
            | (!self.has_value as u64) << 33
            | (self.has_deadline as u64) << 34
            | (self.value_bytes as u64) << 35
    }

    const fn unpack(word: u64) -> Self {
        Self {
            origin: word as u16 & (ORIGINS_MAX - 1) as u16,
            is_counter: word >> 15 & 1 == 1,
            key_bytes: (word >> 16 & 0x1_ffff) as usize,
            has_value: word >> 33 & 1 == 0,
            has_deadline: word >> 34 & 1 == 1,
            value_bytes: (word >> 35) as usize,
        }
    }

    const fn key_at(self) -> usize {
        HEADER_BYTES + if self.has_deadline { DEADLINE_BYTES } else { 0 }
    }

    const fn bytes(self) -> usize {
        self.key_at() + self.key_bytes + self.value_bytes
    }

    const fn allocation_bytes(self) -> usize {
        allocation_bytes(self.bytes())
    }
}

/// The size class of `bytes`: multiples of 8 up to 64, then four classes per doubling. These are those of jemalloc as
/// this tree has it built, so nothing is lost by asking for a whole class. Under another allocator at most a fifth is.
pub(super) const fn allocation_bytes(bytes: usize) -> usize {
    let step = if bytes <= 64 { 8 } else { bytes.next_power_of_two() / 8 };
    bytes.next_multiple_of(step)
}

// A key of 16 bytes and a value of 8 or 64 fill their class to the last byte: the cases that the layout was measured
// with.
const _: () = assert!(allocation_bytes(HEADER_BYTES + 16 + 8) == 40 && allocation_bytes(HEADER_BYTES + 16 + 64) == 96);

fn layout(shape: Shape) -> Layout {
    Layout::from_size_align(shape.allocation_bytes(), ALIGNMENT).expect("the longest entry is far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri is some thousand times slower.
    const VALUE_BYTES_LARGE: usize = if cfg!(miri) { 5_000 } else { 3 << 20 };

    fn parts<'a>(key: &'a [u8], value: Option<&'a [u8]>, deadline: Option<u64>) -> Parts<'a> {
        Parts { hlc: Hlc(u64::MAX - 7), origin: 16_383, deadline: deadline.map(WallMs), key, value, is_counter: false }
    }

    fn address(entry: &Entry) -> *const u8 {
        entry.key().as_ptr()
    }

    #[test]
    fn what_goes_in_comes_out_at_every_boundary() {
        for key_bytes in [0, 1, 16, 112, 113, KEY_BYTES_MAX] {
            for value_bytes in [None, Some(0), Some(1), Some(64), Some(129), Some(VALUE_BYTES_LARGE)] {
                for deadline in [None, Some(0), Some(u64::MAX)] {
                    let key = vec![0xa5; key_bytes];
                    let value = value_bytes.map(|bytes| vec![0x5a; bytes]);
                    let parts = parts(&key, value.as_deref(), deadline);
                    let entry = Entry::new(0x7_beef, &parts);
                    assert_eq!(entry.parts(), parts);
                    assert_eq!((entry.hash(), entry.key()), (0x7_beef, &key[..]));
                }
            }
        }
    }

    #[test]
    fn the_longest_lengths_fit_the_header() {
        let shape = Shape {
            origin: (ORIGINS_MAX - 1) as u16,
            is_counter: true,
            key_bytes: KEY_BYTES_MAX,
            has_value: true,
            has_deadline: true,
            value_bytes: VALUE_BYTES_MAX,
        };
        let back = Shape::unpack(shape.pack());
        assert_eq!((back.origin, back.key_bytes, back.value_bytes), (16_383, KEY_BYTES_MAX, VALUE_BYTES_MAX));
        assert!(back.is_counter && back.has_value && back.has_deadline);
    }

    #[test]
    #[should_panic(expected = "a key is at most 65538 bytes")]
    fn a_longer_key_is_a_programmer_error() {
        Entry::new(0, &parts(&[0; KEY_BYTES_MAX + 1], None, None));
    }

    #[test]
    fn classes_are_those_of_jemalloc() {
        let classes = |bytes: &[usize]| bytes.iter().map(|&bytes| allocation_bytes(bytes)).collect::<Vec<_>>();
        assert_eq!(classes(&[16, 17, 39, 41, 63, 64]), [16, 24, 40, 48, 64, 64]);
        assert_eq!(classes(&[65, 80, 81, 97, 127, 128]), [80, 80, 96, 112, 128, 128]);
        assert_eq!(classes(&[129, 161, 224, 225, 257, 500, 513]), [160, 192, 224, 256, 320, 512, 640]);
        assert_eq!(classes(&[4_097, 16_385]), [5_120, 20_480]);
    }

    #[test]
    fn an_overwrite_within_the_class_stays_in_place() {
        let mut entry = Entry::new(1, &parts(b"key", Some(&[1; 64]), None));
        let before = address(&entry);
        entry.overwrite(&parts(b"key", Some(&[2; 77]), None));
        assert_eq!(address(&entry), before);
        assert_eq!(entry.parts(), parts(b"key", Some(&[2; 77]), None));
        entry.overwrite(&parts(b"key", Some(&[3; 65]), Some(9)));
        assert_eq!(address(&entry), before.wrapping_add(8), "only the key made room for the deadline");
        assert_eq!(entry.parts(), parts(b"key", Some(&[3; 65]), Some(9)));
    }

    #[test]
    fn an_overwrite_of_another_class_moves() {
        let mut entry = Entry::new(1, &parts(b"key", Some(&[1; 64]), None));
        for value in [Some(&[7; 500][..]), None, Some(&[]), Some(&[9; 10_000])] {
            entry.overwrite(&parts(b"key", value, Some(4)));
            assert_eq!(entry.parts(), parts(b"key", value, Some(4)));
        }
        assert_eq!(entry.hash(), 1);
    }

    #[test]
    fn a_freed_value_leaves_the_rest() {
        for value in [&[][..], &[1; 300]] {
            let mut entry = Entry::new(1, &parts(b"key", Some(value), Some(4)));
            entry.free_value();
            assert_eq!(entry.parts(), parts(b"key", None, Some(4)));
            assert_eq!(entry.allocation_bytes(), 32);
        }
    }
}
