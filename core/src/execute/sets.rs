//! Sets.

use std::collections::BTreeSet;

use super::elements::{ELEMENT_TOO_LONG, draw, is_of_type};
use crate::command::{Combine, OfSet, Reply};
use crate::name::Kind;
use crate::replica::{Holds, Refused, Replica};
use crate::store::ELEMENT_BYTES_MAX;
use crate::time::Now;
use crate::wire::Answer;
use crate::wire::words::Words;

pub(super) fn run(now: Now, command: &OfSet<'_>, replica: &mut Replica, answer: &mut Answer<'_>) {
    if let Some(key) = key_of(command)
        && !is_of_type(now, key, Holds::Set, replica, answer)
    {
        return;
    }
    match *command {
        OfSet::Add { key, members } => {
            let deadline = replica.elements(now, key).and_then(|elements| elements.deadline);
            let added = counted(members, |member| replica.add_member(now, key, member, deadline));
            answer.say(&added.map_or_else(Reply::Refused, Reply::Count));
        }
        OfSet::Remove { key, members } => {
            let removed = counted(members, |member| replica.remove_member(now, key, member));
            answer.say(&removed.map_or_else(Reply::Refused, Reply::Count));
        }
        OfSet::Has { key, member } => answer.say(&Reply::Number(replica.has_member(now, key, member).into())),
        OfSet::HasSome { key, members } => {
            answer.say(&Reply::Array(members.into_iter().count()));
            members.for_each(|member| answer.say(&Reply::Number(replica.has_member(now, key, member).into())));
        }
        OfSet::List { key } => say_all(true, &replica.members_of(now, key), answer),
        OfSet::Count { key } => answer.say(&Reply::Count(members(now, key, replica))),
        OfSet::Pop { key, count: None } => {
            let drawn = replica.draw_element(now, key, Kind::Member);
            pop(now, key, drawn.as_slice(), replica, answer, |drawn, answer| {
                answer.say(&drawn.first().map_or(Reply::NotFound, |member| Reply::Value(member)));
            });
        }
        OfSet::Pop { key, count: Some(count) } => {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let drawn = draw((now, key), Kind::Member, members(now, key, replica), count, replica).unwrap_or_default();
            pop(now, key, &drawn, replica, answer, |drawn, answer| say_all(true, drawn, answer));
        }
        OfSet::Draw { key, count: None } => {
            let drawn = replica.draw_element(now, key, Kind::Member);
            answer.say(&drawn.as_deref().map_or(Reply::NotFound, Reply::Value));
        }
        OfSet::Draw { key, count: Some(count) } => {
            match draw((now, key), Kind::Member, members(now, key, replica), count, replica) {
                Some(drawn) => say_all(false, &drawn, answer),
                None => answer.say(&Reply::Error("value is out of range")),
            }
        }
        OfSet::Move { key, name, member } => {
            if replica.holds(now, key) == Holds::Nothing {
                return answer.say(&replica.may_write().map_or_else(Reply::Refused, |()| Reply::Number(0)));
            }
            if is_of_type(now, name, Holds::Set, replica, answer) {
                let moved = move_member(now, (key, name), member, replica);
                answer.say(&moved.map_or_else(Reply::Refused, |moved| Reply::Number(moved.into())));
            }
        }
        OfSet::Combine { how, keys, into } => {
            if keys.into_iter().any(|key| !is_of_type(now, key, Holds::Set, replica, answer)) {
                return;
            }
            let members = combine(now, how, keys, replica);
            match into {
                None => say_all(true, &members, answer),
                Some(into) if members.iter().any(|member| into.len() + member.len() > ELEMENT_BYTES_MAX) => {
                    answer.say(&ELEMENT_TOO_LONG);
                }
                Some(into) => {
                    let stored = store(now, into, &members, replica);
                    answer.say(&stored.map_or_else(Reply::Refused, |()| Reply::Count(members.len() as u64)));
                }
            }
        }
        OfSet::CountCommon { keys, limit } => {
            if keys.into_iter().all(|key| is_of_type(now, key, Holds::Set, replica, answer)) {
                let count = combine(now, Combine::Intersection, keys, replica).len() as u64;
                answer.say(&Reply::Count(if limit > 0 { count.min(limit) } else { count }));
            }
        }
    }
}

/// The key that has to hold a set, or nothing, if it is one.
const fn key_of<'a>(command: &OfSet<'a>) -> Option<&'a [u8]> {
    match *command {
        OfSet::Add { key, .. }
        | OfSet::Remove { key, .. }
        | OfSet::Has { key, .. }
        | OfSet::HasSome { key, .. }
        | OfSet::List { key }
        | OfSet::Count { key }
        | OfSet::Pop { key, .. }
        | OfSet::Draw { key, .. }
        | OfSet::Move { key, .. } => Some(key),
        OfSet::Combine { .. } | OfSet::CountCommon { .. } => None,
    }
}

fn members(now: Now, key: &[u8], replica: &Replica) -> u64 {
    replica.elements(now, key).map_or(0, |elements| elements.members)
}

/// For how many of them `act` says so.
fn counted(mut members: Words<'_>, mut act: impl FnMut(&[u8]) -> Result<bool, Refused>) -> Result<u64, Refused> {
    let mut count = 0;
    members.try_for_each(|member| act(member).map(|counts| count += u64::from(counts)))?;
    Ok(count)
}

fn say_all(is_set: bool, members: &[Vec<u8>], answer: &mut Answer<'_>) {
    answer.say(&if is_set { Reply::Set(members.len()) } else { Reply::Array(members.len()) });
    members.iter().for_each(|member| answer.say(&Reply::Value(member)));
}

/// Removes what was drawn, and says it.
fn pop(
    now: Now,
    key: &[u8],
    drawn: &[Vec<u8>],
    replica: &mut Replica,
    answer: &mut Answer<'_>,
    say: impl FnOnce(&[Vec<u8>], &mut Answer<'_>),
) {
    let may_write = replica.may_write();
    let removed = drawn.iter().try_for_each(|member| replica.remove_member(now, key, member).map(|_was_there| ()));
    match may_write.and(removed) {
        Ok(()) => say(drawn, answer),
        Err(refused) => answer.say(&Reply::Refused(refused)),
    }
}

fn move_member(now: Now, (key, name): (&[u8], &[u8]), member: &[u8], replica: &mut Replica) -> Result<bool, Refused> {
    replica.may_write()?;
    if !replica.has_member(now, key, member) || key == name {
        return Ok(replica.has_member(now, key, member));
    }
    let deadline = replica.elements(now, name).and_then(|elements| elements.deadline);
    replica.remove_member(now, key, member)?;
    replica.add_member(now, name, member, deadline)?;
    Ok(true)
}

/// The members of all sets together, in no order that means anything, but the same each time.
fn combine(now: Now, how: Combine, keys: Words<'_>, replica: &Replica) -> Vec<Vec<u8>> {
    let all: Vec<&[u8]> = keys.collect();
    let Some((first, rest)) = all.split_first() else { return Vec::new() };
    match how {
        Combine::Union => {
            let members: BTreeSet<Vec<u8>> = all.iter().flat_map(|key| replica.members_of(now, key)).collect();
            members.into_iter().collect()
        }
        Combine::Difference => {
            let mut left = replica.members_of(now, first);
            left.retain(|member| !rest.iter().any(|key| replica.has_member(now, key, member)));
            left
        }
        Combine::Intersection => {
            // What is in all is in the smallest.
            let smallest = all.iter().min_by_key(|key| members(now, key, replica)).unwrap_or(first);
            let mut left = replica.members_of(now, smallest);
            left.retain(|member| all.iter().all(|key| replica.has_member(now, key, member)));
            left
        }
    }
}

/// Puts a set of `members` in the place of what is there.
fn store(now: Now, into: &[u8], members: &[Vec<u8>], replica: &mut Replica) -> Result<(), Refused> {
    if members.is_empty() {
        return replica.delete(now, into).map(|_existed| ());
    }
    replica.clear(now, into)?;
    members.iter().try_for_each(|member| replica.add_member(now, into, member, None).map(|_is_new| ()))
}
