//! Records: the one thing that is written, replicated and merged, and its one encoding.
//!
//! ```text
//!  0  length   u32   of everything after the checksum: 27 bits, and above them that number modulo 31
//!  4  checksum u32   CRC-32C of everything after it
//!  8  kind     u8    0x80 and the flags below
//!  9  hlc      u64   the stamp: of the record itself, or of the envelope around it
//! 17  origin   u64
//! 25  [hlc - prev   varint]      CHAINED: prev is the hlc of the origin's record before this one
//!     [hlc, origin  u64, u64]    ENVELOPE: the version of the record inside
//!     [hlc - seen   varint]      SEEN: the hlc of the record that the writer saw this one take the place of
//!     [deadline     varint]      DEADLINE: milliseconds since the Unix epoch
//!     key length    varint, key, value to the end (absent with TOMBSTONE; a counter's cell with COUNTER)
//! ```
//!
//! All integers are little-endian; varints are LEB128. The length has a check of its own (a residue code, which any
//! single wrong bit breaks): the checksum is known only once all that the length promises has come, and a length that
//! is wrong and large would swallow whatever follows for minutes while the link looks alive. The tail ring and the wire
//! hold these same bytes, so a record is encoded once, by its writer, and relayed as it came.

use crate::counter;
use crate::name::{Kind, Name};
use crate::time::WallMs;
use crate::version::{Hlc, OriginId, Version};
use crate::wire::num::{Bytes, VARINT_BYTES_MAX};

/// Marks a frame's kind byte as a record's.
pub(crate) const KIND_RECORD: u8 = 0x80;
const TOMBSTONE: u8 = 1;
const DEADLINE: u8 = 2;
const CHAINED: u8 = 4;
const ENVELOPE: u8 = 8;
const SEEN: u8 = 16;
const COUNTER: u8 = 32;
const KIND_BITS: u8 = KIND_RECORD | TOMBSTONE | DEADLINE | CHAINED | ENVELOPE | SEEN | COUNTER;

/// Bits of a frame's length, and what the bits above them are a residue of: the greatest modulus of five bits that no
/// power of two is a multiple of.
const LENGTH_BITS: u32 = 27;
const RESIDUE: u32 = 31;

/// Length and checksum, in front of every frame.
pub(crate) const PREFIX_BYTES: usize = 8;

/// Up to the end of the stamp: what a filter needs to see of an encoded record.
pub(crate) const HEAD_BYTES: usize = PREFIX_BYTES + 17;

/// One write, borrowed from whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key, as it is stored: keys of other keyspaces than 0 are spelt out.
    pub key: &'a [u8],
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The value is the cell of a counter: its base and its parts.
    pub is_counter: bool,
    /// From this time on, by the reader's own wall clock, the key reads as absent.
    pub deadline: Option<WallMs>,
    /// The write's name; the greater wins a merge.
    pub version: Version,
}

/// A record as it travels: with its place in a stream, or without one in a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The place: whose stream, and where in it. An envelope's place is its announcer's; else the record's own version.
    pub stamp: Version,
    /// The stamp before this one in the same stream. `None`: not part of a stream, and can advance no frontier.
    pub prev: Option<Hlc>,
    /// The hlc of the record of the same key that its writer saw it take the place of; zero where there was none, or
    /// where nobody counts conflicts. Whoever holds a later one that this one beats knows the two to be concurrent.
    pub seen: Hlc,
    /// What is merged.
    pub record: Record<'a>,
}

/// Why bytes are no frame. Nothing was changed by reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length is beyond what any frame may have.
    TooLong,
    /// The checksum does not fit the bytes.
    Checksum,
    /// A field is missing, out of its range, or followed by bytes that belong to nothing.
    Malformed,
}

/// Appends the encoding of `framed` to `out`.
pub fn encode(framed: &Framed<'_>, out: &mut Vec<u8>) {
    let Framed { stamp, prev, seen, record } = framed;
    encode_at((*stamp, *prev, *seen), record, out);
}

/// As [`encode`], of a record with its place: the stamp, the one before it, and what the writer saw.
pub(crate) fn encode_at(place: (Version, Option<Hlc>, Hlc), record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    put::<PREFIX_BYTES>(place, record, out);
    end_frame(out, start);
}

/// Appends the body behind `PREFIX` bytes of zeros, at most [`PREFIX_BYTES`].
#[inline]
fn put<const PREFIX: usize>((stamp, prev, seen): (Version, Option<Hlc>, Hlc), record: &Record<'_>, out: &mut Vec<u8>) {
    let mut fields = Fields { bytes: [0; FIELDS_BYTES_MAX], len: PREFIX };
    let mut kind = KIND_RECORD;
    kind |= if record.value.is_none() { TOMBSTONE } else { 0 };
    kind |= if record.deadline.is_some() { DEADLINE } else { 0 };
    kind |= if prev.is_some() { CHAINED } else { 0 };
    kind |= if stamp == record.version { 0 } else { ENVELOPE };
    kind |= if seen == Hlc::ZERO { 0 } else { SEEN };
    kind |= if record.is_counter { COUNTER } else { 0 };
    fields.put([kind]);
    fields.put_version(stamp);
    if let Some(prev) = prev {
        debug_assert!(prev < stamp.hlc, "a stream's stamps strictly increase");
        fields.put_varint(stamp.hlc.0 - prev.0);
    }
    if kind & ENVELOPE != 0 {
        fields.put_version(record.version);
    }
    if kind & SEEN != 0 {
        debug_assert!(seen < stamp.hlc, "what was seen is older");
        fields.put_varint(stamp.hlc.0 - seen.0);
    }
    if let Some(deadline) = record.deadline {
        fields.put_varint(deadline.0);
    }
    fields.put_varint(record.key.len() as u64);
    let (fields, value) = (&fields.bytes[..fields.len], record.value.unwrap_or_default());
    out.reserve(fields.len() + record.key.len() + value.len());
    out.extend_from_slice(fields);
    out.extend_from_slice(record.key);
    out.extend_from_slice(value);
}

/// All that stands before a key, put together beside the buffer: each field by itself would look whether it has grown.
struct Fields {
    bytes: [u8; FIELDS_BYTES_MAX],
    len: usize,
}

/// The prefix, the kind, two versions and four varints.
const FIELDS_BYTES_MAX: usize = PREFIX_BYTES + 1 + 2 * 16 + 4 * VARINT_BYTES_MAX;

impl Fields {
    #[inline]
    fn put<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) {
        self.bytes[self.len..self.len + COUNT].copy_from_slice(&bytes);
        self.len += COUNT;
    }

    #[inline]
    fn put_version(&mut self, version: Version) {
        self.put(version.hlc.0.to_le_bytes());
        self.put(version.origin.0.to_le_bytes());
    }

    #[inline]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
    }
}

/// Appends the body of `record` as it stands, of no stream: what [`decode`] reads.
pub(crate) fn put_plain(record: &Record<'_>, out: &mut Vec<u8>) {
    put::<0>((record.version, None, Hlc::ZERO), record, out);
}

/// Reads the body of a record frame: what [`next_frame`] gave. The kind byte said that it is a record.
#[inline]
pub fn decode(body: &[u8]) -> Result<Framed<'_>, FrameError> {
    parse(body).ok_or(FrameError::Malformed)
}

/// As [`decode`]; none if it is malformed.
#[inline]
pub(crate) fn parse(body: &[u8]) -> Option<Framed<'_>> {
    let mut bytes = Bytes(body);
    let kind = bytes.u8()?;
    if kind & !KIND_BITS != 0 || kind & KIND_RECORD == 0 {
        return None;
    }
    let stamp = bytes.version().filter(is_named)?;
    let prev = match kind & CHAINED {
        0 => None,
        _ => Some(before(stamp.hlc, bytes.varint()?)?),
    };
    let version = match kind & ENVELOPE {
        0 => stamp,
        _ => bytes.version().filter(|inner| is_named(inner) && *inner != stamp)?,
    };
    let seen = match kind & SEEN {
        0 => Hlc::ZERO,
        _ => before(stamp.hlc, bytes.varint()?).filter(|seen| *seen != Hlc::ZERO)?,
    };
    let deadline = match kind & DEADLINE {
        0 => None,
        _ => Some(WallMs(bytes.varint()?)),
    };
    let key_bytes = usize::try_from(bytes.varint()?).ok()?;
    let key = bytes.take(key_bytes)?;
    let value = match kind & TOMBSTONE {
        0 => Some(bytes.0),
        _ if bytes.0.is_empty() => None,
        _ => return None,
    };
    let is_counter = kind & COUNTER != 0;
    if is_counter && !value.is_some_and(|cell| counter::is_cell(cell, deadline, version)) {
        return None;
    }
    let record = Record { key, value, is_counter, deadline, version };
    may_stand(&record).then_some(Framed { stamp, prev, seen, record })
}

/// Whether something can be called what `record` is called, and can be what the record says of it. All that a member
/// says is that it was added, by a write that is no newer than the one which says so: who removes it has seen that, and
/// who writes it anew keeps its name.
#[inline]
fn may_stand(record: &Record<'_>) -> bool {
    let Some(name) = Name::parse(record.key) else { return false };
    let Record { value, is_counter, deadline, version, .. } = *record;
    let is_added = |dot: Version| is_named(&dot) && dot.hlc != Hlc::ZERO && dot <= version;
    match name.kind {
        Kind::Key | Kind::Field => true,
        Kind::Floor => value == Some(b"") && deadline.is_none() && !is_counter,
        Kind::Member => !is_counter && value.is_none_or(<[u8]>::is_empty) && name.dot.is_some_and(is_added),
    }
}

/// Whether a version names its writer: 0 is no origin, and could be in nobody's frontier.
const fn is_named(version: &Version) -> bool {
    version.origin.0 != 0
}

/// The reading `delta` before `hlc`; a delta of zero, or one that reaches below zero, is none.
fn before(hlc: Hlc, delta: u64) -> Option<Hlc> {
    hlc.0.checked_sub(delta).map(Hlc).filter(|earlier| *earlier < hlc)
}

/// The stamp of an encoded record, from its first [`HEAD_BYTES`] bytes.
pub(crate) fn head_stamp(head: &[u8; HEAD_BYTES]) -> Version {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(word)
    };
    Version { hlc: Hlc(word(9)), origin: OriginId(word(17)) }
}

/// Leaves room for a frame's prefix; [`end_frame`] fills it in.
pub(crate) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    start
}

/// Writes the length and the checksum of the frame that began at `start`.
#[inline]
pub(crate) fn end_frame(out: &mut [u8], start: usize) {
    let (prefix, body) = out[start..].split_first_chunk_mut::<PREFIX_BYTES>().expect("there is room for the prefix");
    let length = body.len() as u32;
    debug_assert!(length < 1 << LENGTH_BITS, "keys and values have limits far below");
    let word = length | (length % RESIDUE) << LENGTH_BITS;
    *prefix = (u64::from(word) | u64::from(crc32c::crc32c(body)) << 32).to_le_bytes();
}

/// The length of a frame's body, from the first bytes of its prefix; `None` if they do not check.
#[inline]
pub(crate) fn checked_length(bytes: [u8; 4]) -> Option<usize> {
    let word = u32::from_le_bytes(bytes);
    let length = length_of(bytes);
    (word >> LENGTH_BITS == length as u32 % RESIDUE).then_some(length)
}

/// The length of a frame's body, from the first bytes of a prefix that was checked before.
#[inline]
pub(crate) const fn length_of(bytes: [u8; 4]) -> usize {
    (u32::from_le_bytes(bytes) & ((1 << LENGTH_BITS) - 1)) as usize
}

/// Whether the frame that `bytes` begin with is a record, by a byte that is not checked yet.
#[inline]
pub(crate) fn is_record(bytes: &[u8]) -> bool {
    bytes.get(PREFIX_BYTES).is_some_and(|kind| kind & KIND_RECORD != 0)
}

/// The body of the first frame in `bytes`, `None` while it is incomplete. Nothing is believed before the checksum
/// holds.
#[inline]
pub fn next_frame(bytes: &[u8], body_bytes_max: usize) -> Result<Option<&[u8]>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *prefix;
    let length = checked_length([l0, l1, l2, l3]).ok_or(FrameError::Checksum)?;
    if length > body_bytes_max {
        return Err(FrameError::TooLong);
    }
    if length == 0 {
        return Err(FrameError::Malformed);
    }
    let Some(body) = bytes[PREFIX_BYTES..].get(..length) else { return Ok(None) };
    if crc32c::crc32c(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum);
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions() -> impl Strategy<Value = Version> {
        (1_u64.., 1_u64..).prop_map(|(hlc, origin)| Version { hlc: Hlc(hlc), origin: OriginId(origin) })
    }

    #[test]
    fn of_a_name_that_nothing_is_called_or_a_floor_that_says_something_there_is_no_record() {
        let check = |key: &[u8], value: Option<&[u8]>, deadline: Option<WallMs>, is_right: bool| {
            let version = Version { hlc: Hlc(5), origin: OriginId(6) };
            let record = Record { key, value, is_counter: false, deadline, version };
            let mut body = Vec::new();
            put_plain(&record, &mut body);
            let expected = if is_right { Ok(record) } else { Err(FrameError::Malformed) };
            assert_eq!(decode(&body).map(|framed| framed.record), expected, "{key:?}");
        };
        check(b"\xff\x03k", Some(b"v"), None, true);
        check(b"\xff\x00\xff", None, None, true);
        check(b"\xff\x1f", Some(b""), None, true);
        for key in [&b"\xff"[..], b"\xff\x00k", b"\xff\x10k", b"\xff\x20k", b"\xff\x30\x01\x00kf", b"\xff\xf0"] {
            check(key, Some(b""), None, false);
        }
        check(b"\xff\x1f", Some(b"v"), None, false);
        check(b"\xff\x1f", None, None, false);
        check(b"\xff\x1f", Some(b""), Some(WallMs(9)), false);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            stamp in versions(),
            inner in proptest::option::of(versions()),
            back in proptest::option::of(1_u64..),
            key in proptest::collection::vec(any::<u8>(), 0..40)
                .prop_filter("what begins so is spelt", |key| key.first() != Some(&0xff)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            deadline in proptest::option::of(any::<u64>()),
            saw in proptest::option::of(1_u64..),
        ) {
            let record = Record {
                key: &key,
                value: value.as_deref(),
                is_counter: false,
                deadline: deadline.map(WallMs),
                version: inner.unwrap_or(stamp),
            };
            let prev = back.map(|back| Hlc(stamp.hlc.0 - back.min(stamp.hlc.0)));
            let seen = saw.map_or(Hlc::ZERO, |back| Hlc(stamp.hlc.0 - back.min(stamp.hlc.0)));
            let framed = Framed { stamp, prev, seen, record };
            let mut bytes = vec![7; 3];
            encode(&framed, &mut bytes);
            let bytes = &bytes[3..];
            let body = next_frame(bytes, 1 << 20).unwrap().unwrap();
            prop_assert_eq!(body.len() + PREFIX_BYTES, bytes.len());
            prop_assert_eq!(decode(body).unwrap(), framed);
            prop_assert_eq!(head_stamp(bytes.first_chunk().unwrap()), stamp);
            for cut in 0..bytes.len() {
                prop_assert_eq!(next_frame(&bytes[..cut], 1 << 20), Ok(None));
            }
        }

        #[test]
        fn any_flipped_bit_is_noticed(bit in 0_usize..(PREFIX_BYTES + 30) * 8) {
            let version = Version { hlc: Hlc(9), origin: OriginId(4) };
            let record = Record { key: b"key", value: Some(b"value"), is_counter: false, deadline: None, version };
            let mut bytes = Vec::new();
            encode(&Framed { stamp: version, prev: Some(Hlc(3)), seen: Hlc(2), record }, &mut bytes);
            prop_assume!(bit < bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(next_frame(&bytes, 1 << 20).is_err(), "at once, not when more has come");
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = next_frame(&bytes, 1 << 10);
        }
    }

    const STAMP: Version = Version { hlc: Hlc(9), origin: OriginId(4) };
    const INNER: Version = Version { hlc: Hlc(8), origin: OriginId(3) };

    fn body(framed: &Framed<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(framed, &mut bytes);
        bytes.split_off(PREFIX_BYTES)
    }

    #[test]
    fn what_no_writer_writes_is_malformed() {
        let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version: STAMP };
        let plain = Framed { stamp: STAMP, prev: None, seen: Hlc::ZERO, record };
        let chained = body(&Framed { prev: Some(Hlc(3)), ..plain });
        let enveloped = body(&Framed { record: Record { version: INNER, ..record }, ..plain });
        let saw = body(&Framed { seen: Hlc(2), ..plain });
        let deleted = body(&Framed { record: Record { value: None, ..record }, ..plain });
        let plain = body(&plain);
        // At each place, bytes that may stand there and bytes that may not.
        for (name, body, at, whole, broken) in [
            ("kind", &plain, 0, &[KIND_RECORD][..], &[0, KIND_RECORD | 64, 64][..]),
            ("origin", &plain, 9, &[4, 1, 255], &[0]),
            ("way back to prev", &chained, 17, &[6, 1, 9], &[0, 10]),
            ("inner hlc, of another origin", &enveloped, 17, &[8, 0, 9], &[]),
            ("inner origin", &enveloped, 25, &[3, 4], &[0]),
            ("way back to seen", &saw, 17, &[7, 1], &[0, 9, 10]),
            ("bytes of the key", &deleted, 17, &[1], &[0, 2]),
        ] {
            for (byte, is_whole) in whole.iter().map(|byte| (byte, true)).chain(broken.iter().map(|byte| (byte, false)))
            {
                let mut body = body.clone();
                body[at] = *byte;
                assert_eq!(decode(&body).is_ok(), is_whole, "{name} {byte}");
            }
        }
        let mut itself = enveloped;
        itself[17..33].copy_from_slice(&plain[1..17]);
        assert_eq!(decode(&itself), Err(FrameError::Malformed), "an envelope around the stamp's own record");
    }

    #[test]
    fn a_frame_may_have_as_much_as_its_reader_takes_and_no_more() {
        let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version: STAMP };
        let mut bytes = Vec::new();
        encode(&Framed { stamp: STAMP, prev: None, seen: Hlc::ZERO, record }, &mut bytes);
        let body_bytes = bytes.len() - PREFIX_BYTES;
        for (most, expected) in [
            (body_bytes + 1, Ok(Some(&bytes[PREFIX_BYTES..]))),
            (body_bytes, Ok(Some(&bytes[PREFIX_BYTES..]))),
            (body_bytes - 1, Err(FrameError::TooLong)),
            (1, Err(FrameError::TooLong)),
        ] {
            assert_eq!(next_frame(&bytes, most), expected, "{most}");
        }
    }
}
