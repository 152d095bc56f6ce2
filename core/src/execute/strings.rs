//! Strings.

use super::value;
use crate::command::{Bounded, Condition, Expires, NO_FLOAT, Reply, Write};
use crate::decimal::Decimal;
use crate::replica::{Live, Refused, Replica, Shown};
use crate::time::{Now, WallMs};
use crate::wire::Answer;
use crate::wire::words::Words;

/// What stands, as text that does not borrow from the store.
pub(super) fn text(live: &Live<'_>) -> Vec<u8> {
    live.value.to_text()
}

impl Expires {
    /// The deadline of what is written now, in the place of what had the deadline `before`.
    pub(super) fn deadline(self, now: Now, before: Option<WallMs>) -> Option<WallMs> {
        match self {
            Self::Never => None,
            Self::Kept => before,
            Self::In { ms } => Some(now.wall.plus_ms(ms)),
            Self::At(at) => Some(at),
        }
    }
}

#[inline]
pub(super) fn get(now: Now, key: &[u8], replica: &Replica, answer: &mut Answer<'_>) {
    match replica.get(now, key) {
        Some(Live { value: Shown::Bytes(bytes), .. }) => answer.value(bytes),
        other => answer.say(&other.map_or(Reply::NotFound, value)),
    }
}

/// Puts `bytes` in the place of what stands, or deletes it if that would be over already.
pub(super) fn put(
    now: Now,
    key: &[u8],
    bytes: &[u8],
    deadline: Option<WallMs>,
    replica: &mut Replica,
) -> Result<(), Refused> {
    if deadline.is_some_and(|deadline| deadline <= now.wall) {
        return replica.delete(now, key).map(|_existed| ());
    }
    replica.set(now, key, bytes, deadline)
}

pub(super) fn set(now: Now, write: &Write<'_>, replica: &mut Replica, answer: &mut Answer<'_>) {
    let from = answer.out.len();
    let reply = match try_set(now, write, replica, answer) {
        Ok(_) if write.answers_old => return,
        Ok(true) => Reply::Ok,
        Ok(false) => Reply::NotFound,
        Err(refused) => Reply::Refused(refused),
    };
    answer.out.truncate(from);
    answer.say(&reply);
}

pub(super) fn set_nx(now: Now, write: &Write<'_>, replica: &mut Replica, answer: &mut Answer<'_>) {
    let written = try_set(now, write, replica, answer);
    answer.say(&written.map_or_else(Reply::Refused, |written| Reply::Number(written.into())));
}

/// Whether it was written. What stood there is answered if that is asked for.
fn try_set(now: Now, write: &Write<'_>, replica: &mut Replica, answer: &mut Answer<'_>) -> Result<bool, Refused> {
    let Write { key, value: bytes, expires, condition, answers_old } = *write;
    let mut before = None;
    if answers_old || condition.is_some() || expires == Expires::Kept {
        let live = replica.get(now, key);
        let (is_there, deadline) = (replica.is_there(now, key), live.and_then(|live| live.deadline));
        before = deadline;
        if answers_old {
            answer.say(&live.map_or(Reply::NotFound, value));
        }
        if condition.is_some_and(|condition| (condition == Condition::Present) != is_there) {
            return replica.may_write().map(|()| false);
        }
    }
    put(now, key, bytes, expires.deadline(now, before), replica).map(|()| true)
}

pub(super) fn get_del(now: Now, key: &[u8], replica: &mut Replica, answer: &mut Answer<'_>) {
    let from = answer.out.len();
    answer.say(&replica.get(now, key).map_or(Reply::NotFound, value));
    if let Err(refused) = replica.delete(now, key) {
        answer.out.truncate(from);
        answer.say(&Reply::Refused(refused));
    }
}

pub(super) fn get_ex(now: Now, key: &[u8], expires: Expires, replica: &mut Replica, answer: &mut Answer<'_>) {
    let from = answer.out.len();
    let Some(live) = replica.get(now, key) else { return answer.say(&Reply::NotFound) };
    answer.say(&value(live));
    let deadline = expires.deadline(now, live.deadline);
    if deadline == live.deadline {
        return;
    }
    let bytes = text(&live);
    if let Err(refused) = put(now, key, &bytes, deadline, replica) {
        answer.out.truncate(from);
        answer.say(&Reply::Refused(refused));
    }
}

pub(super) fn mget(now: Now, keys: Words<'_>, bytes_max: usize, replica: &Replica, answer: &mut Answer<'_>) {
    let from = answer.out.len();
    answer.say(&Reply::Array(keys.into_iter().count()));
    for key in keys {
        let live = replica.get(now, key).filter(|_| replica.elements(now, key).is_none());
        answer.say(&live.map_or(Reply::NotFound, value));
        // One key may be named a million times.
        if answer.out.len() - from > bytes_max {
            answer.out.truncate(from);
            return answer.say(&Reply::TooLong { what: Bounded::Reply, bytes_max });
        }
    }
}

pub(super) fn mset(now: Now, pairs: Words<'_>, if_absent: bool, replica: &mut Replica, answer: &mut Answer<'_>) {
    let mut keys = pairs.step_by(2);
    if if_absent && keys.any(|key| replica.is_there(now, key)) {
        return answer.say(&replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0)));
    }
    let mut rest = pairs;
    while let (Some(key), Some(bytes)) = (rest.next(), rest.next()) {
        if let Err(refused) = replica.set(now, key, bytes, None) {
            return answer.say(&Reply::Refused(refused));
        }
    }
    answer.say(if if_absent { &Reply::Number(1) } else { &Reply::Ok });
}

pub(super) fn append(
    now: Now,
    key: &[u8],
    (more, bytes_max): (&[u8], usize),
    replica: &mut Replica,
    answer: &mut Answer<'_>,
) {
    let live = replica.get(now, key);
    if live.map_or(0, |live| live.value.bytes()) + more.len() > bytes_max {
        return answer.say(&Reply::TooLong { what: Bounded::Value, bytes_max });
    }
    let deadline = live.and_then(|live| live.deadline);
    let mut bytes = live.as_ref().map(text).unwrap_or_default();
    bytes.extend_from_slice(more);
    answer.say(&write_whole(now, key, &bytes, deadline, replica));
}

pub(super) fn set_range(
    now: Now,
    key: &[u8],
    (offset, part): (usize, &[u8]),
    replica: &mut Replica,
    answer: &mut Answer<'_>,
) {
    let live = replica.get(now, key);
    let deadline = live.and_then(|live| live.deadline);
    let mut bytes = live.as_ref().map(text).unwrap_or_default();
    if part.is_empty() {
        return answer.say(&Reply::Count(bytes.len() as u64));
    }
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
    answer.say(&write_whole(now, key, &bytes, deadline, replica));
}

pub(super) fn add_float(
    now: Now,
    key: &[u8],
    (amount, bytes_max): (&[u8], usize),
    replica: &mut Replica,
    answer: &mut Answer<'_>,
) {
    let live = replica.get(now, key);
    let deadline = live.and_then(|live| live.deadline);
    let sum = match float_sum(live.as_ref(), (amount, bytes_max), NO_FLOAT) {
        Ok(sum) => sum,
        Err(reply) => return answer.say(&reply),
    };
    let written = replica.set(now, key, &sum, deadline);
    answer.say(&written.map_or_else(Reply::Refused, |()| Reply::Value(&sum)));
}

/// What is there and `amount` together; `no_float` is told if what is there is no number.
pub(super) fn float_sum(
    live: Option<&Live<'_>>,
    (amount, bytes_max): (&[u8], usize),
    no_float: &'static str,
) -> Result<Vec<u8>, Reply<'static>> {
    let before = live.map_or_else(|| b"0".to_vec(), text);
    let before = Decimal::parse(&before).ok_or(Reply::Error(no_float))?;
    let amount = Decimal::parse(amount).ok_or(Reply::Error(NO_FLOAT))?;
    let sum = before.plus(amount).ok_or(Reply::Error("increment would produce NaN or Infinity"))?.text();
    if sum.len() > bytes_max {
        return Err(Reply::TooLong { what: Bounded::Value, bytes_max });
    }
    Ok(sum)
}

fn write_whole(now: Now, key: &[u8], bytes: &[u8], deadline: Option<WallMs>, replica: &mut Replica) -> Reply<'static> {
    replica.set(now, key, bytes, deadline).map_or_else(Reply::Refused, |()| Reply::Count(bytes.len() as u64))
}

pub(super) fn get_range(now: Now, key: &[u8], (start, end): (i64, i64), replica: &Replica, answer: &mut Answer<'_>) {
    let Some(live) = replica.get(now, key) else { return answer.say(&Reply::Value(b"")) };
    let number;
    let bytes = match live.value {
        Shown::Bytes(bytes) => bytes,
        Shown::Number(_) => {
            number = text(&live);
            &number
        }
    };
    let length = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return answer.say(&Reply::Value(b""));
    }
    let from_start = |place: i64| if place < 0 { place.saturating_add(length).max(0) } else { place };
    let (first, last) = (from_start(start), from_start(end).min(length - 1));
    let part = if first > last { &[][..] } else { &bytes[first as usize..=last as usize] };
    answer.say(&Reply::Value(part));
}
