//! The frames of scrubbing: one question at a time, and its answer. What they are for is told in `repl/scrub/mod.rs`.

use crate::store::{FANOUT, Listed, What};
use crate::time::WallMs;
use crate::version::Version;
use crate::wire::num::{Bytes, put_varint};
use crate::wire::peer::{NamesView, emit, put_u32, put_u64, put_version};

/// Entries of a slot in one answer: at 25 bytes or 33 each, less than a full pipe of a slow link holds.
pub(crate) const LIST_ENTRIES_MAX: usize = 512;

/// Entries asked for by name at a time.
pub(crate) const NAMES_MAX: usize = 64;

/// Bytes of keys in one answer: a screen full of names, or one of the longest and no more.
pub(crate) const KEYS_BYTES_MAX: usize = 16 << 10;

/// Kinds of frames, from here to [`KIND_LAST`].
pub(crate) const KIND_FIRST: u8 = 32;
const KIND_ASK: u8 = KIND_FIRST;
const KIND_SUMS: u8 = 33;
const KIND_LIST: u8 = 34;
const KIND_RECORD: u8 = 35;
const KIND_KEYS: u8 = 36;
const KIND_END: u8 = 37;
pub(crate) const KIND_LAST: u8 = KIND_END;

const IS_VALUE: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const IS_COUNTER: u8 = 4;

/// A frame about scrubbing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scrub<'a> {
    Ask(Ask<'a>),
    /// The sums that were asked for.
    Sums {
        id: u32,
        sums: SumsView<'a>,
    },
    /// Entries of the slot that was asked for; `more`: there are others behind the last.
    List {
        id: u32,
        more: bool,
        list: ListView<'a>,
    },
    /// An entry that was asked for: the body of a record's frame.
    Record {
        id: u32,
        body: &'a [u8],
    },
    /// Keys that were asked for.
    Keys {
        id: u32,
        keys: KeysView<'a>,
    },
    /// There is no answer, or no more of it.
    End {
        id: u32,
    },
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    pub(crate) id: u32,
    /// The cut that sums and lists are wanted at.
    pub(crate) cut: WallMs,
    pub(crate) about: About<'a>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    /// The sums of all groups of slots.
    Groups,
    /// The sums of the slots of one group.
    Slots { group: u8 },
    /// What is in a slot, from the first name greater than `after`.
    List { slot: u16, after: Option<u64> },
    /// Entries of a slot, by name.
    Records { slot: u16, names: NamesView<'a> },
    /// The keys of entries of a slot, by name.
    Keys { slot: u16, names: NamesView<'a> },
}

/// One sum for each child of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SumsView<'a>(&'a [[u8; 8]; FANOUT]);

impl SumsView<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|sum| u64::from_le_bytes(*sum))
    }
}

/// Entries in a frame, whole and ordered by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl ListView<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Listed> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| listed(&mut bytes))
    }
}

/// Keys in a frame, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeysView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> KeysView<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.counted(KEYS_BYTES_MAX))
    }
}

/// Reads the fields of a frame of this kind; whatever is left in `bytes` belongs to nothing.
pub(super) fn parse<'a>(kind: u8, bytes: &mut Bytes<'a>) -> Option<Scrub<'a>> {
    let id = bytes.u32()?;
    Some(match kind {
        KIND_ASK => Scrub::Ask(Ask { id, cut: WallMs(bytes.u64()?), about: about(bytes)? }),
        KIND_SUMS => {
            let (sums, _) = bytes.take(FANOUT * 8)?.as_chunks::<8>();
            Scrub::Sums { id, sums: SumsView(sums.first_chunk()?) }
        }
        KIND_LIST => {
            let more = bytes.bool()?;
            Scrub::List { id, more, list: list(bytes)? }
        }
        KIND_RECORD => Scrub::Record { id, body: std::mem::take(&mut bytes.0) },
        KIND_KEYS => Scrub::Keys { id, keys: keys(bytes)? },
        KIND_END => Scrub::End { id },
        _ => return None,
    })
}

pub(crate) fn emit_groups_ask(id: u32, cut: WallMs, out: &mut Vec<u8>) {
    emit_ask(id, cut, 0, out, |_| {});
}

pub(crate) fn emit_slots_ask(id: u32, cut: WallMs, group: u8, out: &mut Vec<u8>) {
    emit_ask(id, cut, 1, out, |out| out.push(group));
}

pub(crate) fn emit_list_ask(id: u32, cut: WallMs, (slot, after): (u16, Option<u64>), out: &mut Vec<u8>) {
    emit_ask(id, cut, 2, out, |out| {
        out.extend_from_slice(&slot.to_le_bytes());
        out.push(after.is_some().into());
        put_u64(out, after.unwrap_or(0));
    });
}

/// `names` are sorted; `whole`: the records, else only their keys.
pub(crate) fn emit_names_ask(id: u32, cut: WallMs, (slot, whole): (u16, bool), names: &[u64], out: &mut Vec<u8>) {
    debug_assert!(names.is_sorted() && names.len() <= NAMES_MAX, "whoever reads them searches by halving");
    emit_ask(id, cut, if whole { 3 } else { 4 }, out, |out| {
        out.extend_from_slice(&slot.to_le_bytes());
        put_varint(out, names.len() as u64);
        names.iter().for_each(|name| put_u64(out, *name));
    });
}

pub(crate) fn emit_sums(id: u32, sums: &[u64; FANOUT], out: &mut Vec<u8>) {
    emit(KIND_SUMS, out, |out| {
        put_u32(out, id);
        sums.iter().for_each(|sum| put_u64(out, *sum));
    });
}

pub(crate) fn emit_list(id: u32, more: bool, list: &[Listed], out: &mut Vec<u8>) {
    debug_assert!(list.len() <= LIST_ENTRIES_MAX, "a list is cut to what one frame may hold");
    emit(KIND_LIST, out, |out| {
        put_u32(out, id);
        out.push(more.into());
        put_varint(out, list.len() as u64);
        for Listed { name, version, what } in list {
            put_u64(out, *name);
            put_version(out, *version);
            match what {
                What::Tombstone => out.push(0),
                What::Value { deadline: None } => out.push(IS_VALUE),
                What::Value { deadline: Some(deadline) } => {
                    out.push(IS_VALUE | HAS_DEADLINE);
                    put_u64(out, deadline.0);
                }
                What::Counter { print } => {
                    out.push(IS_COUNTER);
                    put_u64(out, *print);
                }
            }
        }
    });
}

/// `record` is the encoding of a record, its frame included.
pub(crate) fn emit_record(id: u32, record: &[u8], out: &mut Vec<u8>) {
    emit(KIND_RECORD, out, |out| {
        put_u32(out, id);
        out.extend_from_slice(&record[crate::record::PREFIX_BYTES..]);
    });
}

/// Those of `keys` that there is room for.
pub(crate) fn emit_keys(id: u32, keys: &[&[u8]], out: &mut Vec<u8>) {
    let mut room = KEYS_BYTES_MAX;
    let fits = |key: &&&[u8]| {
        let fits = key.len() <= room;
        room -= if fits { key.len() } else { 0 };
        fits
    };
    let keys: Vec<&[u8]> = keys.iter().filter(fits).copied().collect();
    emit(KIND_KEYS, out, |out| {
        put_u32(out, id);
        put_varint(out, keys.len() as u64);
        for key in keys {
            put_varint(out, key.len() as u64);
            out.extend_from_slice(key);
        }
    });
}

pub(crate) fn emit_end(id: u32, out: &mut Vec<u8>) {
    emit(KIND_END, out, |out| put_u32(out, id));
}

fn emit_ask(id: u32, cut: WallMs, about: u8, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    emit(KIND_ASK, out, |out| {
        put_u32(out, id);
        put_u64(out, cut.0);
        out.push(about);
        fields(out);
    });
}

fn about<'a>(bytes: &mut Bytes<'a>) -> Option<About<'a>> {
    Some(match bytes.u8()? {
        0 => About::Groups,
        1 => About::Slots { group: bytes.u8().filter(|group| usize::from(*group) < FANOUT)? },
        2 => {
            let slot = bytes.slot()?;
            let (has_after, after) = (bytes.bool()?, bytes.u64()?);
            About::List { slot, after: has_after.then_some(after) }
        }
        3 => About::Records { slot: bytes.slot()?, names: few_names(bytes)? },
        4 => About::Keys { slot: bytes.slot()?, names: few_names(bytes)? },
        _ => return None,
    })
}

fn few_names<'a>(bytes: &mut Bytes<'a>) -> Option<NamesView<'a>> {
    bytes.names().filter(|names| names.len() <= NAMES_MAX)
}

fn listed(bytes: &mut Bytes<'_>) -> Option<Listed> {
    let name = bytes.u64()?;
    let version: Version = bytes.version().filter(|version| version.origin.0 != 0)?;
    let what = match bytes.u8()? {
        0 => What::Tombstone,
        IS_VALUE => What::Value { deadline: None },
        flags if flags == IS_VALUE | HAS_DEADLINE => What::Value { deadline: Some(WallMs(bytes.u64()?)) },
        IS_COUNTER => What::Counter { print: bytes.u64()? },
        _ => return None,
    };
    Some(Listed { name, version, what })
}

fn list<'a>(bytes: &mut Bytes<'a>) -> Option<ListView<'a>> {
    let count = usize::try_from(bytes.varint()?).ok().filter(|count| *count <= LIST_ENTRIES_MAX)?;
    let (whole, mut last) = (bytes.0, 0);
    for _ in 0..count {
        let listed = listed(bytes).filter(|listed| listed.name >= last)?;
        last = listed.name;
    }
    Some(ListView { count, bytes: &whole[..whole.len() - bytes.0.len()] })
}

fn keys<'a>(bytes: &mut Bytes<'a>) -> Option<KeysView<'a>> {
    let count = usize::try_from(bytes.varint()?).ok().filter(|count| *count <= NAMES_MAX)?;
    let whole = bytes.0;
    for _ in 0..count {
        bytes.counted(KEYS_BYTES_MAX)?;
    }
    Some(KeysView { count, bytes: &whole[..whole.len() - bytes.0.len()] })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::next_frame;
    use crate::store::SLOTS;
    use crate::version::{Hlc, OriginId};
    use crate::wire::peer::{Frame, parse as parse_frame};

    /// What is read of what `write` writes.
    fn check(write: impl FnOnce(&mut Vec<u8>), right: impl FnOnce(Scrub<'_>) -> bool) -> bool {
        let mut out = Vec::new();
        write(&mut out);
        let body = next_frame(&out, 1 << 20).unwrap().unwrap();
        assert!((1..body.len()).all(|cut| parse_frame(&body[..cut]).is_none_or(|_| body[0] == KIND_RECORD)));
        match parse_frame(body) {
            Some(Frame::Scrub(scrub)) => right(scrub),
            _ => false,
        }
    }

    fn lists() -> impl Strategy<Value = Vec<Listed>> {
        let what = prop_oneof![
            Just(What::Tombstone),
            proptest::option::of(any::<u64>().prop_map(WallMs)).prop_map(|deadline| What::Value { deadline }),
            any::<u64>().prop_map(|print| What::Counter { print }),
        ];
        let listed = (any::<u64>(), any::<u64>(), 1_u64.., what).prop_map(|(name, hlc, origin, what)| Listed {
            name,
            version: Version { hlc: Hlc(hlc), origin: OriginId(origin) },
            what,
        });
        proptest::collection::vec(listed, 0..40).prop_map(|mut list| {
            list.sort_by_key(|listed| listed.name);
            list
        })
    }

    proptest! {
        #[test]
        fn questions_come_back(
            id in any::<u32>(),
            cut in any::<u64>().prop_map(WallMs),
            group in 0..128_u8,
            slot in 0..SLOTS,
            after in proptest::option::of(any::<u64>()),
            mut names in proptest::collection::vec(any::<u64>(), 0..NAMES_MAX),
        ) {
            names.sort_unstable();
            let is = |scrub: Scrub<'_>, about: About<'_>| scrub == Scrub::Ask(Ask { id, cut, about });
            assert!(check(|out| emit_groups_ask(id, cut, out), |scrub| is(scrub, About::Groups)));
            assert!(check(|out| emit_slots_ask(id, cut, group, out), |scrub| is(scrub, About::Slots { group })));
            let list = About::List { slot, after };
            assert!(check(|out| emit_list_ask(id, cut, (slot, after), out), |scrub| is(scrub, list)));
            for whole in [true, false] {
                assert!(check(|out| emit_names_ask(id, cut, (slot, whole), &names, out), |scrub| match scrub {
                    Scrub::Ask(Ask { about: About::Records { slot: at, names: read }, .. }) if whole => {
                        at == slot && read.iter().eq(names.iter().copied())
                    }
                    Scrub::Ask(Ask { about: About::Keys { slot: at, names: read }, .. }) if !whole => {
                        at == slot && read.iter().eq(names.iter().copied())
                    }
                    _ => false,
                }));
            }
        }

        #[test]
        fn answers_come_back(
            id in any::<u32>(),
            more in any::<bool>(),
            list in lists(),
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..NAMES_MAX),
            first in any::<u64>(),
        ) {
            let sums: [u64; FANOUT] = std::array::from_fn(|at| first.wrapping_mul(at as u64 + 1));
            assert!(check(|out| emit_sums(id, &sums, out), |scrub| {
                matches!(scrub, Scrub::Sums { id: read, sums: view } if read == id && view.iter().eq(sums))
            }));
            assert!(check(|out| emit_list(id, more, &list, out), |scrub| {
                matches!(scrub, Scrub::List { id: read, more: also, list: view }
                    if (read, also) == (id, more) && view.iter().eq(list.iter().copied()))
            }));
            let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            assert!(check(|out| emit_keys(id, &slices, out), |scrub| {
                matches!(scrub, Scrub::Keys { id: read, keys: view }
                    if read == id && view.iter().eq(slices.iter().copied()))
            }));
            assert!(check(|out| emit_end(id, out), |scrub| scrub == Scrub::End { id }));
            assert!(check(|out| emit_record(id, b"12345678body", out), |scrub| {
                scrub == Scrub::Record { id, body: b"body" }
            }));
        }

        #[test]
        fn any_body_is_taken_calmly(
            kind in KIND_FIRST..=KIND_LAST,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let body = [&[kind], &bytes[..]].concat();
            if let Some(Frame::Scrub(Scrub::List { list, .. })) = parse_frame(&body) {
                prop_assert!(list.iter().map(|listed| listed.name).is_sorted());
            }
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let names: Vec<u64> = (0..NAMES_MAX as u64).collect();
        let mut out = Vec::new();
        emit_names_ask(1, WallMs(0), (1, true), &names, &mut out);
        let mut body = next_frame(&out, 1 << 20).unwrap().unwrap().to_vec();
        assert!(parse_frame(&body).is_some());
        let count = body.iter().rposition(|byte| usize::from(*byte) == NAMES_MAX).filter(|at| *at < 20);
        body[count.expect("the count is there")] += 1;
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse_frame(&body), None);
        let long = vec![b'k'; KEYS_BYTES_MAX];
        assert!(check(
            |out| emit_keys(1, &[b"a", &long, b"b"], out),
            |scrub| { matches!(scrub, Scrub::Keys { keys, .. } if keys.iter().eq([b"a", b"b"].map(|key| &key[..]))) }
        ));
    }

    #[test]
    fn there_are_so_many_groups_and_slots_and_nothing_follows_a_list() {
        let is_read = |write: &dyn Fn(&mut Vec<u8>), more: &[u8]| {
            let mut out = Vec::new();
            write(&mut out);
            let body = next_frame(&out, 1 << 20).unwrap().unwrap();
            parse_frame(&[body, more].concat()).is_some()
        };
        let last = FANOUT as u8 - 1;
        assert!(is_read(&|out| emit_slots_ask(1, WallMs(0), last, out), &[]));
        assert!(!is_read(&|out| emit_slots_ask(1, WallMs(0), last + 1, out), &[]));
        assert!(is_read(&|out| emit_list_ask(1, WallMs(0), (SLOTS - 1, None), out), &[]));
        assert!(!is_read(&|out| emit_list_ask(1, WallMs(0), (SLOTS, None), out), &[]));
        for more in [&[][..], &[0]] {
            assert_eq!(is_read(&|out| emit_list(1, false, &[], out), more), more.is_empty());
            assert_eq!(is_read(&|out| emit_keys(1, &[b"key"], out), more), more.is_empty());
        }
    }
}
