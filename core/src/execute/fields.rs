//! When fields of hashes expire.

use crate::command::{Expires, OnExpiry, Reply, TimeLeft};
use crate::replica::{Refused, Replica};
use crate::time::{Now, WallMs};
use crate::wire::Answer;
use crate::wire::words::Words;

/// There is no such field; it never expires; it is not changed; it is; it is deleted.
const ABSENT: i128 = -2;
const ENDLESS: i128 = -1;
const KEPT: i128 = 0;
const CHANGED: i128 = 1;
const DELETED: i128 = 2;

pub(super) fn expire(
    now: Now,
    key: &[u8],
    fields: Words<'_>,
    (expires, on): (Expires, OnExpiry),
    replica: &mut Replica,
    answer: &mut Answer<'_>,
) {
    let expired = each(fields, replica, |field, replica| {
        let name = replica.field_name(key, field);
        let Some(live) = replica.get_stored(now, &name) else { return Ok(ABSENT) };
        let (value, deadline) = (live.value.to_text(), expires.deadline(now, live.deadline));
        if !on.allows(live.deadline, deadline) {
            return Ok(KEPT);
        }
        if deadline.is_some_and(|deadline| deadline <= now.wall) {
            return replica.write(now, &name, None, None).map(|()| DELETED);
        }
        replica.write(now, &name, Some(&value), deadline).map(|()| CHANGED)
    });
    say(expired, answer);
}

pub(super) fn persist(now: Now, key: &[u8], fields: Words<'_>, replica: &mut Replica, answer: &mut Answer<'_>) {
    let persisted = each(fields, replica, |field, replica| {
        let name = replica.field_name(key, field);
        let Some(live) = replica.get_stored(now, &name) else { return Ok(ABSENT) };
        if live.deadline.is_none() {
            return Ok(ENDLESS);
        }
        let value = live.value.to_text();
        replica.write(now, &name, Some(&value), None).map(|()| CHANGED)
    });
    say(persisted, answer);
}

pub(super) fn times_left(
    now: Now,
    key: &[u8],
    fields: Words<'_>,
    told: TimeLeft,
    replica: &Replica,
    answer: &mut Answer<'_>,
) {
    answer.say(&Reply::Array(fields.into_iter().count()));
    for field in fields {
        let live = replica.get_stored(now, &replica.field_name(key, field));
        let left = live.map_or(ABSENT, |live| live.deadline.map_or(ENDLESS, |deadline| left(now, deadline, told)));
        answer.say(&Reply::Number(left));
    }
}

/// Seconds that have begun are told in whole, as Redis does here, and not of keys.
fn left(now: Now, deadline: WallMs, told: TimeLeft) -> i128 {
    let left_ms = deadline.0.saturating_sub(now.wall.0);
    i128::from(match told {
        TimeLeft::Seconds => left_ms.div_ceil(1_000),
        TimeLeft::Millis => left_ms,
        TimeLeft::AtSeconds => deadline.0.div_ceil(1_000),
        TimeLeft::AtMillis => deadline.0,
    })
}

/// What `act` answers for each field; nothing is done where nothing may be written.
fn each(
    mut fields: Words<'_>,
    replica: &mut Replica,
    mut act: impl FnMut(&[u8], &mut Replica) -> Result<i128, Refused>,
) -> Result<Vec<i128>, Refused> {
    replica.may_write()?;
    let mut answers = Vec::new();
    fields.try_for_each(|field| act(field, replica).map(|answer| answers.push(answer)))?;
    Ok(answers)
}

fn say(answers: Result<Vec<i128>, Refused>, answer: &mut Answer<'_>) {
    match answers {
        Ok(answers) => {
            answer.say(&Reply::Array(answers.len()));
            answers.into_iter().for_each(|one| answer.say(&Reply::Number(one)));
        }
        Err(refused) => answer.say(&Reply::Refused(refused)),
    }
}
