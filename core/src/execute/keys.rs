//! Keys, and when they expire.

use super::elements::ELEMENT_TOO_LONG;
use super::matches;
use super::strings::{put, text};
use crate::command::{AboutObject, Copy, Expires, OnExpiry, Reply, Scan, TimeLeft};
use crate::counter;
use crate::name::Kind;
use crate::record::Record;
use crate::replica::{Holds, Refused, Replica, Shown};
use crate::store::{Elements, SLOTS, floor_space};
use crate::time::{Now, WallMs};
use crate::wire::Answer;

pub(super) fn ttl(now: Now, key: &[u8], told: TimeLeft, replica: &Replica) -> Reply<'static> {
    if !replica.is_there(now, key) {
        return Reply::NoTtl;
    }
    Reply::Ttl(replica.deadline(now, key).map(|deadline| {
        let left_ms = deadline.0.saturating_sub(now.wall.0);
        match told {
            TimeLeft::Seconds => left_ms.saturating_add(500) / 1_000,
            TimeLeft::Millis => left_ms,
            TimeLeft::AtSeconds => deadline.0.saturating_add(500) / 1_000,
            TimeLeft::AtMillis => deadline.0,
        }
    }))
}

pub(super) fn expire(now: Now, key: &[u8], expires: Expires, on: OnExpiry, replica: &mut Replica) -> Reply<'static> {
    let before = replica.deadline(now, key);
    let after = expires.deadline(now, before);
    if !replica.is_there(now, key) || !on.allows(before, after) {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    end_at(now, key, after, replica).map_or_else(Reply::Refused, |()| Reply::Number(1))
}

pub(super) fn persist(now: Now, key: &[u8], replica: &mut Replica) -> Reply<'static> {
    if replica.deadline(now, key).is_none() {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    end_at(now, key, None, replica).map_or_else(Reply::Refused, |()| Reply::Number(1))
}

impl OnExpiry {
    /// Whether a deadline may be changed so.
    pub(super) fn allows(self, before: Option<WallMs>, after: Option<WallMs>) -> bool {
        let at = |deadline: Option<WallMs>| deadline.map_or(u64::MAX, |deadline| deadline.0);
        !((self.if_none && before.is_some())
            || (self.if_some && before.is_none())
            || (self.if_later && at(after) <= at(before))
            || (self.if_earlier && at(after) >= at(before)))
    }
}

/// Writes what is under `key` anew, to end then; or deletes it if that would be over already.
fn end_at(now: Now, key: &[u8], deadline: Option<WallMs>, replica: &mut Replica) -> Result<(), Refused> {
    if replica.elements(now, key).is_none() {
        let bytes = replica.get(now, key).as_ref().map(text).unwrap_or_default();
        return put(now, key, &bytes, deadline, replica);
    }
    if deadline.is_some_and(|deadline| deadline <= now.wall) {
        return replica.delete(now, key).map(|_existed| ());
    }
    replica.expire_elements(now, key, deadline)
}

pub(super) fn rename(now: Now, (key, name): (&[u8], &[u8]), if_absent: bool, replica: &mut Replica) -> Reply<'static> {
    if !replica.is_there(now, key) {
        return Reply::Error("no such key");
    }
    if if_absent && replica.is_there(now, name) {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    if key == name {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Ok);
    }
    let Some(content) = replica.content(now, key) else { return Reply::Error("no such key") };
    if !content.fits(name) {
        return ELEMENT_TOO_LONG;
    }
    let moved = replica.put_content(now, name, &content).and_then(|()| replica.delete(now, key));
    moved.map_or_else(Reply::Refused, |_| if if_absent { Reply::Number(1) } else { Reply::Ok })
}

pub(super) fn copy(now: Now, copy: &Copy<'_>, replica: &mut Replica) -> Reply<'static> {
    let Copy { key, name, space, replaces, moves } = *copy;
    let (home, space) = (replica.space, space.unwrap_or(replica.space));
    if key == name && space == home {
        return Reply::Error("source and destination objects are the same");
    }
    let content = replica.content(now, key);
    if content.as_ref().is_some_and(|content| !content.fits(name)) {
        return ELEMENT_TOO_LONG;
    }
    replica.space = space;
    let is_free = replaces || !replica.is_there(now, name);
    let copied = match content.filter(|_| is_free) {
        Some(content) => replica.put_content(now, name, &content).map(|()| true),
        None => replica.may_write().map(|()| false),
    };
    replica.space = home;
    let moved = copied.and_then(|copied| if copied && moves { replica.delete(now, key) } else { Ok(copied) });
    moved.map_or_else(Reply::Refused, |done| Reply::Number(done.into()))
}

pub(super) fn flush(now: Now, all: bool, replica: &mut Replica) -> Reply<'static> {
    if !replica.may_flush() {
        return Reply::NotJoined;
    }
    let only = (!all).then_some(replica.space);
    replica.flush(now, only).map_or_else(Reply::Refused, |()| Reply::Ok)
}

pub(super) fn object(now: Now, key: &[u8], told: AboutObject, replica: &Replica) -> Reply<'static> {
    let elements = replica.elements(now, key);
    let live = replica.get(now, key).zip(replica.entry(key));
    let newest = elements.map(|elements| elements.newest).or(live.map(|(_, record)| record.version.hlc));
    let Some(newest) = newest else { return Reply::NotFound };
    match told {
        AboutObject::Encoding => Reply::Value(match live.filter(|_| elements.is_none()).map(|(live, _)| live.value) {
            None => elements_encoding(now, key, replica),
            Some(Shown::Number(_)) => b"int",
            Some(Shown::Bytes(bytes)) if counter::integer(bytes).is_some() => b"int",
            Some(Shown::Bytes(bytes)) if bytes.len() <= EMBEDDED_BYTES_MAX => b"embstr",
            Some(Shown::Bytes(_)) => b"raw",
        }),
        AboutObject::IdleTime => Reply::Count(now.wall.0.saturating_sub(newest.ms()) / 1_000),
        AboutObject::References => Reply::Number(1),
        AboutObject::Frequency => Reply::Error(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ),
    }
}

/// How Redis would hold a hash or a set, as its settings are.
fn elements_encoding(now: Now, key: &[u8], replica: &Replica) -> &'static [u8] {
    let is_hash = replica.holds(now, key) == Holds::Hash;
    let (kind, max, packed): (_, _, &[u8]) =
        if is_hash { (Kind::Field, PACKED_FIELDS_MAX, b"listpack") } else { (Kind::Member, INTEGERS_MAX, b"intset") };
    let (mut count, mut fits) = (0, true);
    let rest = replica.walk_elements((now, key), kind, None, max + 1, &mut |element, record| {
        count += 1;
        let value_bytes = replica.read(now, record).map_or(0, |live| live.value.bytes());
        fits &= match is_hash {
            true => element.len().max(value_bytes) <= PACKED_BYTES_MAX,
            false => counter::integer(element).is_some(),
        };
    });
    if fits && count <= max && rest.is_none() { packed } else { b"hashtable" }
}

/// Most fields of a packed hash, their longest name and value, and most members of a packed set, which are integers.
const PACKED_FIELDS_MAX: usize = 128;
const PACKED_BYTES_MAX: usize = 64;
const INTEGERS_MAX: usize = 512;

pub(super) fn memory_usage(now: Now, key: &[u8], replica: &Replica) -> Reply<'static> {
    if !replica.is_there(now, key) {
        return Reply::NotFound;
    }
    let name = replica.name(key);
    let bytes = replica.store.bytes_of(&name).unwrap_or(0) + replica.store.bytes_of_elements(&name);
    Reply::Count(bytes as u64)
}

/// Longest value that Redis holds beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;

pub(super) fn list(now: Now, pattern: &[u8], replica: &Replica, answer: &mut Answer<'_>) {
    // Counted first: the number stands before them.
    let mut count = 0;
    let listed = |name: &[u8], of: Result<&Record<'_>, Elements>, list: &mut dyn FnMut(&[u8])| {
        if let Some(key) = replica.key_of(name)
            && matches(pattern, key)
            && replica.is_found(now, of)
        {
            list(key);
        }
    };
    for slot in 0..SLOTS {
        replica.store.visit_keys((slot, now.wall), &mut |name, of| listed(name, of, &mut |_| count += 1));
    }
    answer.say(&Reply::Array(count));
    for slot in 0..SLOTS {
        let mut say = |key: &[u8]| answer.say(&Reply::Value(key));
        replica.store.visit_keys((slot, now.wall), &mut |name, of| listed(name, of, &mut say));
    }
}

/// Where a walk over all keys stands: a slot, and behind which place in it. 0 is the start, and the end.
fn cursor_of(slot: u16, after: Option<u32>) -> u64 {
    u64::from(slot) << 33 | after.map_or(0, |after| u64::from(after) + 1)
}

pub(super) fn scan(now: Now, scan: &Scan<'_>, replica: &Replica, answer: &mut Answer<'_>) {
    let mut slot = u16::try_from(scan.cursor >> 33).unwrap_or(SLOTS).min(SLOTS);
    let mut after = u32::try_from((scan.cursor & ((1 << 33) - 1)).wrapping_sub(1)).ok();
    let is_asked = |kind: Holds| scan.kind.is_none_or(|asked| asked.eq_ignore_ascii_case(kind.name().as_bytes()));
    let (mut found, mut looked_at) = (Vec::new(), 0);
    // To pass all slots of a store with little in it takes less than a millisecond.
    while slot < SLOTS && looked_at < scan.count {
        let at_once = usize::try_from(scan.count - looked_at).unwrap_or(usize::MAX);
        after = replica.store.walk_keys((slot, now.wall), after, at_once, &mut |name, of| {
            // Of floors there are a few, which a client would ask once more for.
            looked_at += u64::from(floor_space(name).is_none());
            let kind = of.as_ref().err().map_or(Holds::String, Holds::of);
            let fits = |key: &&[u8]| is_asked(kind) && scan.pattern.is_none_or(|pattern| matches(pattern, key));
            if let Some(key) = replica.key_of(name).filter(fits)
                && replica.is_found(now, of)
            {
                found.push(key.to_vec());
            }
        });
        slot += u16::from(after.is_none());
    }
    let cursor = if slot == SLOTS { 0 } else { cursor_of(slot, after) };
    answer.say(&Reply::Array(2));
    answer.say(&Reply::Value(itoa::Buffer::new().format(cursor).as_bytes()));
    answer.say(&Reply::Array(found.len()));
    found.iter().for_each(|key| answer.say(&Reply::Value(key)));
}
