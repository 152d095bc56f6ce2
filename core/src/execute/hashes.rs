//! Hashes.

use super::elements::{draw, is_of_type};
use super::value;
use crate::command::{Bounded, OfHash, Reply, Shown};
use crate::name::Kind;
use crate::replica::{Holds, Refused, Replica, field_name};
use crate::time::Now;
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
            let name = field_name(key, field);
            let is_new = replica.get(now, &name).is_none();
            let written = if is_new { replica.set(now, &name, value, None) } else { replica.may_write() };
            answer.say(&written.map_or_else(Reply::Refused, |()| Reply::Number(is_new.into())));
        }
        OfHash::Read { key, field } => {
            answer.say(&replica.get(now, &field_name(key, field)).map_or(Reply::NotFound, value));
        }
        OfHash::ReadSome { key, fields, bytes_max } => read_some(now, key, (fields, bytes_max), replica, answer),
        OfHash::List { key, shown } => list(now, key, shown, replica, answer),
        OfHash::Delete { key, mut fields } => {
            let mut deleted = 0;
            let outcome = fields.try_for_each(|field| {
                replica.delete(now, &field_name(key, field)).map(|there| deleted += u64::from(there))
            });
            answer.say(&outcome.map_or_else(Reply::Refused, |()| Reply::Count(deleted)));
        }
        OfHash::Count { key } => answer.say(&Reply::Count(fields(key, replica))),
        OfHash::Exists { key, field } => {
            answer.say(&Reply::Number(replica.get(now, &field_name(key, field)).is_some().into()));
        }
        OfHash::Length { key, field } => {
            let length = replica.get(now, &field_name(key, field)).map_or(0, |live| live.value.bytes());
            answer.say(&Reply::Count(length as u64));
        }
        OfHash::Add { key, field, amount } => {
            let added = replica.add(now, &field_name(key, field), amount);
            answer.say(&added.map_or_else(Reply::FieldNotAdded, |sum| Reply::Number(sum.into())));
        }
        OfHash::Draw { key, count: None, .. } => {
            let drawn = replica.draw_element(key, Kind::Field);
            answer.say(&drawn.as_deref().map_or(Reply::NotFound, Reply::Value));
        }
        OfHash::Draw { key, count: Some(count), has_values } => {
            let all = fields(key, replica);
            let Some(drawn) = draw(key, Kind::Field, all, count, replica) else {
                return answer.say(&Reply::Error("value is out of range"));
            };
            say_drawn(now, key, (&drawn, has_values), replica, answer);
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
        | OfHash::Draw { key, .. } => key,
    }
}

fn fields(key: &[u8], replica: &Replica) -> u64 {
    replica.elements(key).map_or(0, |elements| elements.fields)
}

/// How many of them are new.
fn write(now: Now, key: &[u8], mut pairs: Words<'_>, replica: &mut Replica) -> Result<u64, Refused> {
    let mut added = 0;
    while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
        let name = field_name(key, field);
        added += u64::from(replica.get(now, &name).is_none());
        replica.set(now, &name, value, None)?;
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
        answer.say(&replica.get(now, &field_name(key, field)).map_or(Reply::NotFound, value));
        // One field may be named a million times.
        if answer.out.len() - from > bytes_max {
            answer.out.truncate(from);
            return answer.say(&Reply::TooLong { what: Bounded::Reply, bytes_max });
        }
    }
}

fn list(now: Now, key: &[u8], shown: Shown, replica: &Replica, answer: &mut Answer<'_>) {
    let count = usize::try_from(fields(key, replica)).unwrap_or(usize::MAX);
    answer.say(&if shown == Shown::Both { Reply::Map(count) } else { Reply::Array(count) });
    replica.store.walk_elements(key, Kind::Field, None, usize::MAX, &mut |field, record| {
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
    (drawn, has_values): (&[Vec<u8>], bool),
    replica: &Replica,
    answer: &mut Answer<'_>,
) {
    // In version 3 of the protocol each field stands in a pair with its value.
    let in_pairs = answer.dialect == Dialect::Resp { is_3: true };
    let parts = if has_values && !in_pairs { 2 } else { 1 };
    answer.say(&Reply::Array(parts * drawn.len()));
    for field in drawn {
        if has_values && in_pairs {
            answer.say(&Reply::Array(2));
        }
        answer.say(&Reply::Value(field));
        if has_values {
            answer.say(&replica.get(now, &field_name(key, field)).map_or(Reply::NotFound, value));
        }
    }
}
