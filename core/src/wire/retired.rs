//! What peers tell each other of the ledger of retired origins.

use crate::retired::{Entry, Mark, RETIRED_MAX};
use crate::version::{Hlc, Version};
use crate::wire::num::{Bytes, put_varint};

/// Entries in one frame: 112 KiB.
pub(crate) const ENTRIES_MAX: usize = 4_096;

const ENTRY_BYTES: usize = 28;

/// Entries of a ledger in a frame, whole and in the ledger's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntriesView<'a> {
    /// How many entries come before them.
    pub(crate) from: u32,
    count: usize,
    bytes: &'a [u8],
}

impl EntriesView<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| {
            let Version { hlc, origin } = bytes.version()?;
            Some(Entry { origin, last: hlc, parted: bytes.u32()?, after: Hlc(bytes.u64()?) })
        })
    }
}

pub(crate) fn put_mark(out: &mut Vec<u8>, mark: Mark) {
    out.extend_from_slice(&mark.len.to_le_bytes());
    out.extend_from_slice(&mark.hash.to_le_bytes());
}

/// Of `entries`, which begin behind the first `from`, as many as one frame takes.
pub(crate) fn put_entries(out: &mut Vec<u8>, from: u32, entries: impl ExactSizeIterator<Item = Entry>) {
    let count = entries.len().min(ENTRIES_MAX);
    out.extend_from_slice(&from.to_le_bytes());
    put_varint(out, count as u64);
    for Entry { origin, last, parted, after } in entries.take(count) {
        out.extend_from_slice(&last.0.to_le_bytes());
        out.extend_from_slice(&origin.0.to_le_bytes());
        out.extend_from_slice(&parted.to_le_bytes());
        out.extend_from_slice(&after.0.to_le_bytes());
    }
}

impl<'a> Bytes<'a> {
    pub(crate) fn mark(&mut self) -> Option<Mark> {
        let mark = Mark { len: self.u32()?, hash: self.u64()? };
        ((mark.len as usize) <= RETIRED_MAX && (mark.len == 0) == (mark.hash == 0)).then_some(mark)
    }

    pub(super) fn entries(&mut self) -> Option<EntriesView<'a>> {
        let from = self.u32()?;
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= ENTRIES_MAX)?;
        let view = EntriesView { from, count, bytes: self.take(count * ENTRY_BYTES)? };
        let is_within = from as usize + count <= RETIRED_MAX;
        let is_named = view.iter().all(|entry| entry.origin.0 != 0 && entry.last != Hlc::ZERO);
        (is_within && is_named).then_some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::OriginId;

    fn entries(count: u64) -> Vec<Entry> {
        let entry =
            |at| Entry { origin: OriginId(at ^ 0x55), last: Hlc(at), parted: at as u32 % 3, after: Hlc(at / 2) };
        (1..=count).map(entry).filter(|entry| entry.origin.0 != 0).collect()
    }

    #[test]
    fn entries_come_back_as_many_as_fit() {
        for count in [0, 3, ENTRIES_MAX as u64 + 9] {
            let entries = entries(count);
            let mut out = Vec::new();
            put_entries(&mut out, 7, entries.iter().copied());
            let view = Bytes(&out).entries().expect("they were just written");
            let fit = &entries[..entries.len().min(ENTRIES_MAX)];
            assert_eq!((view.from, view.iter().collect::<Vec<_>>()), (7, fit.to_vec()));
            assert_eq!(Bytes(&out[..out.len() - 1]).entries(), None);
        }
    }

    #[test]
    fn what_no_ledger_has_is_refused() {
        let check = |from: u32, entry: (u64, u64)| {
            let mut out = Vec::new();
            let entry = Entry { origin: OriginId(entry.0), last: Hlc(entry.1), parted: 7, after: Hlc::ZERO };
            put_entries(&mut out, from, [entry].into_iter());
            Bytes(&out).entries().is_some()
        };
        let most = RETIRED_MAX as u32;
        assert!(check(0, (1, 1)) && check(most - 1, (1, 1)));
        assert!(!check(0, (0, 1)) && !check(0, (1, 0)) && !check(most, (1, 1)) && !check(u32::MAX, (1, 1)));
    }

    #[test]
    fn marks_come_back_and_the_empty_ledger_has_one() {
        let check = |mark| {
            let mut out = Vec::new();
            put_mark(&mut out, mark);
            Bytes(&out).mark() == Some(mark)
        };
        assert!(check(Mark::default()) && check(Mark { len: RETIRED_MAX as u32, hash: 1 }));
        assert!(!check(Mark { len: 0, hash: 1 }) && !check(Mark { len: 1, hash: 0 }));
        assert!(!check(Mark { len: RETIRED_MAX as u32 + 1, hash: 1 }));
    }
}
