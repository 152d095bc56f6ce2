//! Hashes.

use super::elements::{DRAWN_TOO_LONG, draw, is_of_type, is_too_long};
use super::strings::float_sum;
use super::{fields, value};
use crate::command::{Bounded, OfHash, Reply, Shown};
use crate::name::Kind;
use crate::replica::{Holds, Refused, Replica};
use crate::time::{Now, WallMs};
use crate::wire::words::Words;
use crate::wire::{Answer, Dialect};

pub(super) fn run(now: Now, command: &OfHash<'_>, replica: &mut Replica, answer: &mut Answer<'_>) {
    if !is_of_type(now, key_of(command), Holds::Hash, replica, answer) {
        return;
    }
    match *command {
        OfHash::Write { key, pairs, counts } => {
            let written = write(now, key, pairs, replica);
            let said = |added| if counts { Reply::Count(added) } else { Reply::Ok };
            answer.say(&written.map_or_else(Reply::Refused, said));
        }
        OfHash::WriteNew { key, field, value } => {
            let (name, deadline) = (replica.field_name(key, field), deadline(now, key, replica));
            let is_new = replica.get_stored(now, &name).is_none();
            let written = if is_new { replica.write(now, &name, Some(value), deadline) } else { replica.may_write() };
            answer.say(&written.map_or_else(Reply::Refused, |()| Reply::Number(is_new.into())));
        }
        OfHash::Read { key, field } => {
            answer.say(&replica.get_stored(now, &replica.field_name(key, field)).map_or(Reply::NotFound, value));
        }
        OfHash::ReadSome { key, fields, bytes_max } => read_some(now, key, (fields, bytes_max), replica, answer),
        OfHash::List { key, shown } => list(now, key, shown, replica, answer),
        OfHash::Delete { key, mut fields } => {
            let mut deleted = 0;
            let outcome = replica.may_write().and_then(|()| {
                fields.try_for_each(|field| delete(now, key, field, replica).map(|there| deleted += u64::from(there)))
            });
            answer.say(&outcome.map_or_else(Reply::Refused, |()| Reply::Count(deleted)));
        }
        OfHash::Count { key } => answer.say(&Reply::Count(count(now, key, replica))),
        OfHash::Exists { key, field } => {
            answer.say(&Reply::Number(replica.get_stored(now, &replica.field_name(key, field)).is_some().into()));
        }
        OfHash::Length { key, field } => {
            let length = replica.get_stored(now, &replica.field_name(key, field)).map_or(0, |live| live.value.bytes());
            answer.say(&Reply::Count(length as u64));
        }
        OfHash::Add { key, field, amount } => {
            let (name, deadline) = (replica.field_name(key, field), deadline(now, key, replica));
            let added = replica.add_stored(now, &name, amount, deadline);
            answer.say(&added.map_or_else(Reply::FieldNotAdded, |sum| Reply::Number(sum.into())));
        }
        OfHash::AddFloat { key, field, amount, bytes_max } => {
            let name = replica.field_name(key, field);
            let live = replica.get_stored(now, &name);
            let deadline = live.map_or_else(|| deadline(now, key, replica), |live| live.deadline);
            match float_sum(live.as_ref(), (amount, bytes_max), "hash value is not a float") {
                Ok(sum) => {
                    let written = replica.write(now, &name, Some(&sum), deadline);
                    answer.say(&written.map_or_else(Reply::Refused, |()| Reply::Value(&sum)));
                }
                Err(reply) => answer.say(&reply),
            }
        }
        OfHash::Expire { key, fields, expires, on } => {
            fields::expire(now, key, fields, (expires, on), replica, answer);
        }
        OfHash::Persist { key, fields } => fields::persist(now, key, fields, replica, answer),
        OfHash::TimesLeft { key, fields, told } => fields::times_left(now, key, fields, told, replica, answer),
        OfHash::Draw { key, count: None, .. } => {
            let drawn = replica.draw_element(now, key, Kind::Field);
            answer.say(&drawn.as_deref().map_or(Reply::NotFound, Reply::Value));
        }
        OfHash::Draw { key, count: Some(count), has_values } => {
            let all = self::count(now, key, replica);
            let Some(drawn) = draw((now, key), Kind::Field, all, count, replica) else {
                return answer.say(&Reply::Error("value is out of range"));
            };
            let from = answer.out.len();
            say_drawn(now, key, (&drawn, has_values, count < 0), replica, answer);
            // One value may be drawn again and again.
            if count < 0 && is_too_long(answer.out.len() - from) {
                answer.out.truncate(from);
                answer.say(&DRAWN_TOO_LONG);
            }
        }
    }
}

const fn key_of<'a>(command: &OfHash<'a>) -> &'a [u8] {
    match *command {
        OfHash::Write { key, .. }
        | OfHash::WriteNew { key, .. }
        | OfHash::Read { key, .. }
        | OfHash::ReadSome { key, .. }
        | OfHash::List { key, .. }
        | OfHash::Delete { key, .. }
        | OfHash::Count { key }
        | OfHash::Exists { key, .. }
        | OfHash::Length { key, .. }
        | OfHash::Add { key, .. }
        | OfHash::AddFloat { key, .. }
        | OfHash::Expire { key, .. }
        | OfHash::Persist { key, .. }
        | OfHash::TimesLeft { key, .. }
        | OfHash::Draw { key, .. } => key,
    }
}

fn count(now: Now, key: &[u8], replica: &Replica) -> u64 {
    replica.elements(now, key).map_or(0, |elements| elements.fields)
}

/// When a field ends that is written now: with its hash.
fn deadline(now: Now, key: &[u8], replica: &Replica) -> Option<WallMs> {
    replica.elements(now, key).and_then(|elements| elements.deadline)
}

/// Whether there was one.
fn delete(now: Now, key: &[u8], field: &[u8], replica: &mut Replica) -> Result<bool, Refused> {
    let name = replica.field_name(key, field);
    let is_there = replica.get_stored(now, &name).is_some();
    if is_there {
        replica.write(now, &name, None, None)?;
    }
    Ok(is_there)
}

/// How many of them are new.
fn write(now: Now, key: &[u8], mut pairs: Words<'_>, replica: &mut Replica) -> Result<u64, Refused> {
    let (mut added, deadline) = (0, deadline(now, key, replica));
    while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
        let name = replica.field_name(key, field);
        added += u64::from(replica.get_stored(now, &name).is_none());
        replica.write(now, &name, Some(value), deadline)?;
    }
    Ok(added)
}

fn read_some(
    now: Now,
    key: &[u8],
    (fields, bytes_max): (Words<'_>, usize),
    replica: &Replica,
    answer: &mut Answer<'_>,
) {
    let from = answer.out.len();
    answer.say(&Reply::Array(fields.into_iter().count()));
    for field in fields {
        answer.say(&replica.get_stored(now, &replica.field_name(key, field)).map_or(Reply::NotFound, value));
        // One field may be named a million times.
        if answer.out.len() - from > bytes_max {
            answer.out.truncate(from);
            return answer.say(&Reply::TooLong { what: Bounded::Reply, bytes_max });
        }
    }
}

fn list(now: Now, key: &[u8], shown: Shown, replica: &Replica, answer: &mut Answer<'_>) {
    let count = usize::try_from(count(now, key, replica)).unwrap_or(usize::MAX);
    answer.say(&if shown == Shown::Both { Reply::Map(count) } else { Reply::Array(count) });
    replica.walk_elements((now, key), Kind::Field, None, usize::MAX, &mut |field, record| {
        if shown != Shown::Values {
            answer.say(&Reply::Value(field));
        }
        if shown != Shown::Fields {
            answer.say(&replica.read(now, record).map_or(Reply::NotFound, value));
        }
    });
}

fn say_drawn(
    now: Now,
    key: &[u8],
    (drawn, has_values, is_bounded): (&[Vec<u8>], bool, bool),
    replica: &Replica,
    answer: &mut Answer<'_>,
) {
    // In version 3 of the protocol each field stands in a pair with its value.
    let in_pairs = answer.dialect == Dialect::Resp { is_3: true };
    let parts = if has_values && !in_pairs { 2 } else { 1 };
    let from = answer.out.len();
    answer.say(&Reply::Array(parts * drawn.len()));
    for field in drawn {
        if is_bounded && is_too_long(answer.out.len() - from) {
            return;
        }
        if has_values && in_pairs {
            answer.say(&Reply::Array(2));
        }
        answer.say(&Reply::Value(field));
        if has_values {
            answer.say(&replica.get_stored(now, &replica.field_name(key, field)).map_or(Reply::NotFound, value));
        }
    }
}
