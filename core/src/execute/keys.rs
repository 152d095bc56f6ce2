//! Keys, and when they expire.

use super::matches;
use super::strings::{put, text};
use crate::command::{Expires, OnExpiry, Reply, Scan, TimeLeft};
use crate::record::Record;
use crate::replica::{Holds, Refused, Replica};
use crate::store::{Elements, SLOTS};
use crate::time::{Now, WallMs};
use crate::wire::Answer;

pub(super) fn ttl(now: Now, key: &[u8], told: TimeLeft, replica: &Replica) -> Reply<'static> {
    if replica.elements(key).is_some() {
        return Reply::Ttl(None);
    }
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
    if replica.elements(key).is_some() {
        return Reply::Error("a hash or a set does not expire here");
    }
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
    let is_string = replica.elements(key).is_none();
    let Some(live) = replica.get(now, key).filter(|live| live.deadline.is_some() && is_string) else {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    };
    let bytes = text(&live);
    replica.set(now, key, &bytes, None).map_or_else(Reply::Refused, |()| Reply::Number(1))
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
    let moved = write_as(now, key, name, replica).and_then(|_written| replica.delete(now, key));
    moved.map_or_else(Reply::Refused, |_| if if_absent { Reply::Number(1) } else { Reply::Ok })
}

pub(super) fn copy(now: Now, (key, name): (&[u8], &[u8]), replaces: bool, replica: &mut Replica) -> Reply<'static> {
    if key == name {
        return Reply::Error("source and destination objects are the same");
    }
    if !replica.is_there(now, key) || (!replaces && replica.is_there(now, name)) {
        return replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0));
    }
    write_as(now, key, name, replica).map_or_else(Reply::Refused, |()| Reply::Number(1))
}

/// Writes what is under `key` in the place of what is under `name`.
fn write_as(now: Now, key: &[u8], name: &[u8], replica: &mut Replica) -> Result<(), Refused> {
    if replica.elements(key).is_some() {
        replica.delete(now, name)?;
        return replica.copy_elements(now, key, name);
    }
    let Some(live) = replica.get(now, key) else { return Ok(()) };
    let (bytes, deadline) = (text(&live), live.deadline);
    replica.set(now, name, &bytes, deadline)
}

pub(super) fn list(now: Now, pattern: &[u8], replica: &Replica, answer: &mut Answer<'_>) {
    // Counted first: the number stands before them.
    let mut count = 0;
    let is_listed = |key: &[u8], of: Result<&Record<'_>, Elements>| matches(pattern, key) && replica.is_found(now, of);
    (0..SLOTS).for_each(|slot| replica.store.visit_keys(slot, &mut |key, of| count += usize::from(is_listed(key, of))));
    answer.say(&Reply::Array(count));
    for slot in 0..SLOTS {
        replica.store.visit_keys(slot, &mut |key, of| {
            if is_listed(key, of) {
                answer.say(&Reply::Value(key));
            }
        });
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
        after = replica.store.walk_keys(slot, after, at_once, &mut |key, of| {
            looked_at += 1;
            let kind = of.as_ref().err().map_or(Holds::String, Holds::of);
            let matches = scan.pattern.is_none_or(|pattern| matches(pattern, key));
            if matches && is_asked(kind) && replica.is_found(now, of) {
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
