//! The encoding of records.

use kv_core::{Framed, Hlc, OriginId, Record, Version, decode, encode, next_frame};

use super::requests::{KEY_BYTES, value};
use super::{Keys, RECORDS, Started};

/// Length and checksum, in front of every frame.
const PREFIX_BYTES: usize = 8;

/// Longer than any record here.
const BODY_BYTES_MAX: usize = 1 << 10;

/// Keys and values become records.
pub(crate) fn encode_each() -> Started {
    let mut frames = Vec::new();
    let round = move |entries: &[u8]| {
        frames.clear();
        encode_all(entries, &mut frames);
        assert!(frames.len() > entries.len(), "each is encoded");
    };
    Started { supply: Box::new(entries()), round: Box::new(round) }
}

/// Records are read.
pub(crate) fn decode_each() -> Started {
    let mut entries = entries();
    let supply = move || {
        let mut frames = Vec::new();
        encode_all(&entries(), &mut frames);
        frames
    };
    let round = |frames: &[u8]| {
        let (mut rest, mut count) = (frames, 0);
        while let Ok(Some(body)) = next_frame(rest, BODY_BYTES_MAX) {
            let framed = std::hint::black_box(decode(body)).expect("what was encoded decodes");
            count += u32::from(framed.record.key.len() == KEY_BYTES);
            rest = &rest[PREFIX_BYTES + body.len()..];
        }
        assert_eq!(count, RECORDS, "each is read");
    };
    Started { supply: Box::new(supply), round: Box::new(round) }
}

/// Makes the keys and values of a round.
fn entries() -> impl FnMut() -> Vec<u8> {
    let (mut keys, mut number) = (Keys::new(), 0);
    move || {
        let entry = |_| {
            number += 1;
            [keys.next(), value(number)].concat()
        };
        (0..RECORDS).flat_map(entry).collect()
    }
}

/// As a node does that has peers: each record names the one before it, and the one that it takes the place of.
fn encode_all(entries: &[u8], frames: &mut Vec<u8>) {
    let mut last = Hlc(1_700_000_000_000 << 16);
    for entry in entries.chunks_exact(entries.len() / RECORDS as usize) {
        let (key, value) = entry.split_at(KEY_BYTES);
        let (prev, seen) = (Some(last), Hlc(last.0 - (1_000 << 16)));
        last = Hlc(last.0 + 1);
        let version = Version { hlc: last, origin: OriginId(1) };
        let record = Record { key, value: Some(value), is_counter: false, deadline: None, version };
        encode(&Framed { stamp: version, prev, seen, record }, frames);
    }
}
