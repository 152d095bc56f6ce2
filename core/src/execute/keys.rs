//! Keys, and when they expire.

use super::matches;
use super::strings::{put, text};
use crate::command::{AboutObject, Copy, Expires, OnExpiry, Reply, Scan, TimeLeft};
use crate::counter;
use crate::record::Record;
use crate::replica::{Replica, Shown};
use crate::store::{SLOTS, floor_space};
use crate::time::{Now, WallMs};
use crate::wire::Answer;

pub(super) fn ttl(now: Now, key: &[u8], told: TimeLeft, replica: &Replica) -> Reply<'static> {
    let Some(live) = replica.get(now, key) else { return Reply::NoTtl };
    Reply::Ttl(live.deadline.map(|deadline| {
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
    let Some(live) = replica.get(now, key) else {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    };
    let (before, after) = (live.deadline, expires.deadline(now, live.deadline));
    let at = |deadline: Option<WallMs>| deadline.map_or(u64::MAX, |deadline| deadline.0);
    let is_off = (on.if_none && before.is_some())
        || (on.if_some && before.is_none())
        || (on.if_later && at(after) <= at(before))
        || (on.if_earlier && at(after) >= at(before));
    if is_off {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    let bytes = text(&live);
    put(now, key, &bytes, after, replica).map_or_else(Reply::Refused, |()| Reply::Number(1))
}

pub(super) fn persist(now: Now, key: &[u8], replica: &mut Replica) -> Reply<'static> {
    let Some(live) = replica.get(now, key).filter(|live| live.deadline.is_some()) else {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    };
    let bytes = text(&live);
    replica.set(now, key, &bytes, None).map_or_else(Reply::Refused, |()| Reply::Number(1))
}

pub(super) fn rename(now: Now, (key, name): (&[u8], &[u8]), if_absent: bool, replica: &mut Replica) -> Reply<'static> {
    let Some(live) = replica.get(now, key) else { return Reply::Error("no such key") };
    if if_absent && replica.get(now, name).is_some() {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    if key == name {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Ok);
    }
    let (bytes, deadline) = (text(&live), live.deadline);
    let moved = replica.set(now, name, &bytes, deadline).and_then(|()| replica.delete(now, key));
    moved.map_or_else(Reply::Refused, |_| if if_absent { Reply::Number(1) } else { Reply::Ok })
}

pub(super) fn copy(now: Now, copy: &Copy<'_>, replica: &mut Replica) -> Reply<'static> {
    let Copy { key, name, space, replaces, moves } = *copy;
    let (home, space) = (replica.space, space.unwrap_or(replica.space));
    if key == name && space == home {
        return Reply::Error("source and destination objects are the same");
    }
    let live = replica.get(now, key).map(|live| (text(&live), live.deadline));
    replica.space = space;
    let is_free = replaces || replica.get(now, name).is_none();
    let copied = match live.filter(|_| is_free) {
        Some((bytes, deadline)) => replica.set(now, name, &bytes, deadline).map(|()| true),
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
    let live = replica.get(now, key);
    let Some((live, record)) = live.zip(replica.entry(key)) else { return Reply::NotFound };
    match told {
        AboutObject::Encoding => Reply::Value(match live.value {
            Shown::Number(_) => b"int",
            Shown::Bytes(bytes) if counter::integer(bytes).is_some() => b"int",
            Shown::Bytes(bytes) if bytes.len() <= EMBEDDED_BYTES_MAX => b"embstr",
            Shown::Bytes(_) => b"raw",
        }),
        AboutObject::IdleTime => Reply::Count(now.wall.0.saturating_sub(record.version.hlc.ms()) / 1_000),
        AboutObject::References => Reply::Number(1),
        AboutObject::Frequency => Reply::Error(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ),
    }
}

pub(super) fn memory_usage(now: Now, key: &[u8], replica: &Replica) -> Reply<'static> {
    let is_there = replica.get(now, key).is_some();
    let bytes = replica.store.bytes_of(&replica.name(key)).filter(|_| is_there);
    bytes.map_or(Reply::NotFound, |bytes| Reply::Count(bytes as u64))
}

/// Longest value that Redis holds beside its header.
const EMBEDDED_BYTES_MAX: usize = 44;

pub(super) fn list(now: Now, pattern: &[u8], replica: &Replica, answer: &mut Answer<'_>) {
    // Counted first: the number stands before them.
    let mut count = 0;
    let listed = |record: &Record<'_>, list: &mut dyn FnMut(&[u8])| {
        if let Some(key) = replica.key_of(record.key)
            && matches(pattern, key)
            && replica.is_live(now, record)
        {
            list(key);
        }
    };
    (0..SLOTS).for_each(|slot| replica.store.visit(slot, |record| listed(record, &mut |_| count += 1)));
    answer.say(&Reply::Array(count));
    for slot in 0..SLOTS {
        replica.store.visit(slot, |record| listed(record, &mut |key| answer.say(&Reply::Value(key))));
    }
}

/// Where a walk over all keys stands: a slot, and behind which place in it. 0 is the start, and the end.
fn cursor_of(slot: u16, after: Option<u32>) -> u64 {
    u64::from(slot) << 33 | after.map_or(0, |after| u64::from(after) + 1)
}

pub(super) fn scan(now: Now, scan: &Scan<'_>, replica: &Replica, answer: &mut Answer<'_>) {
    let mut slot = u16::try_from(scan.cursor >> 33).unwrap_or(SLOTS).min(SLOTS);
    let mut after = u32::try_from((scan.cursor & ((1 << 33) - 1)).wrapping_sub(1)).ok();
    let kind_fits = scan.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(b"string"));
    let (mut found, mut looked_at) = (Vec::new(), 0);
    // To pass all slots of a store with little in it takes less than a millisecond.
    while slot < SLOTS && looked_at < scan.count {
        let at_once = usize::try_from(scan.count - looked_at).unwrap_or(usize::MAX);
        after = replica.store.walk(slot, after, at_once, &mut |record| {
            // Of floors there are a few, which a client would ask once more for.
            looked_at += u64::from(floor_space(record.key).is_none());
            let fits = |key: &&[u8]| kind_fits && scan.pattern.is_none_or(|pattern| matches(pattern, key));
            if let Some(key) = replica.key_of(record.key).filter(fits)
                && replica.is_live(now, record)
            {
                found.push(key.to_vec());
            }
            looked_at < scan.count
        });
        slot += u16::from(after.is_none());
    }
    let cursor = if slot == SLOTS { 0 } else { cursor_of(slot, after) };
    answer.say(&Reply::Array(2));
    answer.say(&Reply::Value(itoa::Buffer::new().format(cursor).as_bytes()));
    answer.say(&Reply::Array(found.len()));
    found.iter().for_each(|key| answer.say(&Reply::Value(key)));
}
