//! When fields of a hash expire, each by itself, as in Redis 7.4.

use super::arguments::{check_element, check_key, integer};
use super::keys::deadline;
use super::{FIRST, FREE_FAST, Manual, READ_FAST, Verb, WRITE_FAST};
use crate::command::{Command, OfHash, OnExpiry, Reply, TimeLeft};
use crate::config::Limits;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 9] = [
    Manual {
        verb: Verb::HExpire,
        name: "HEXPIRE",
        aliases: &[],
        arity: -6,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "HEXPIRE key seconds [NX | XX | GT | LT] FIELDS count field [field ...]",
        summary: "Have fields of a hash expire after some seconds",
        detail: "Answers for each field 1 if it does now, 0 if the option forbids it, 2 if that time has passed\n\
                 and it is deleted, and -2 if there is none. It writes the field anew, as EXPIRE does a key. A\n\
                 hash expires with the last of its fields.",
        example: "HEXPIRE user 600 FIELDS 1 token",
    },
    Manual {
        verb: Verb::HPExpire,
        name: "HPEXPIRE",
        aliases: &[],
        arity: -6,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS count field [field ...]",
        summary: "Have fields of a hash expire after some milliseconds",
        detail: "As HEXPIRE.",
        example: "HPEXPIRE user 1500 FIELDS 1 token",
    },
    Manual {
        verb: Verb::HExpireAt,
        name: "HEXPIREAT",
        aliases: &[],
        arity: -6,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "HEXPIREAT key time [NX | XX | GT | LT] FIELDS count field [field ...]",
        summary: "Have fields of a hash expire at a time, in seconds since 1970",
        detail: "As HEXPIRE.",
        example: "HEXPIREAT user 1893456000 FIELDS 1 token",
    },
    Manual {
        verb: Verb::HPExpireAt,
        name: "HPEXPIREAT",
        aliases: &[],
        arity: -6,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "HPEXPIREAT key time [NX | XX | GT | LT] FIELDS count field [field ...]",
        summary: "Have fields of a hash expire at a time, in milliseconds since 1970",
        detail: "As HEXPIRE.",
        example: "HPEXPIREAT user 1893456000000 FIELDS 1 token",
    },
    Manual {
        verb: Verb::HPersist,
        name: "HPERSIST",
        aliases: &[],
        arity: -5,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HPERSIST key FIELDS count field [field ...]",
        summary: "Have fields of a hash never expire",
        detail: "Answers for each field 1 if it would have expired, -1 if not, and -2 if there is none.",
        example: "HPERSIST user FIELDS 1 token",
    },
    Manual {
        verb: Verb::HTtl,
        name: "HTTL",
        aliases: &[],
        arity: -5,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HTTL key FIELDS count field [field ...]",
        summary: "Tell the seconds until fields of a hash expire",
        detail: "Answers -1 for a field that never expires, and -2 if there is none.",
        example: "HTTL user FIELDS 1 token",
    },
    Manual {
        verb: Verb::HPTtl,
        name: "HPTTL",
        aliases: &[],
        arity: -5,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HPTTL key FIELDS count field [field ...]",
        summary: "Tell the milliseconds until fields of a hash expire",
        detail: "As HTTL.",
        example: "HPTTL user FIELDS 1 token",
    },
    Manual {
        verb: Verb::HExpireTime,
        name: "HEXPIRETIME",
        aliases: &[],
        arity: -5,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HEXPIRETIME key FIELDS count field [field ...]",
        summary: "Tell the time at which fields of a hash expire, in seconds since 1970",
        detail: "As HTTL.",
        example: "HEXPIRETIME user FIELDS 1 token",
    },
    Manual {
        verb: Verb::HPExpireTime,
        name: "HPEXPIRETIME",
        aliases: &[],
        arity: -5,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HPEXPIRETIME key FIELDS count field [field ...]",
        summary: "Tell the time at which fields of a hash expire, in milliseconds since 1970",
        detail: "As HTTL.",
        example: "HPEXPIRETIME user FIELDS 1 token",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_expire<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let (Some(key), Some(time)) = (words.next(), words.next()) else { return Err(usage) };
    if words.into_iter().nth(2).is_none() {
        return Err(usage);
    }
    check_key(key, limits)?;
    let number = integer(verb, time)?;
    if number < 0 {
        return Err(Reply::Error("invalid expire time, must be >= 0"));
    }
    let expires = deadline(verb, number)?;
    let (mut on, mut rest) = (OnExpiry::default(), words);
    if rest.next().is_some_and(|option| on.take(option)) {
        words = rest;
    }
    let fields = fields(key, words, "Parameter `numFields` should be greater than 0")?;
    Ok(Command::Hash(OfHash::Expire { key, fields, expires, on }))
}

fn parse_read<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let key = words.next().ok_or(usage)?;
    if words.into_iter().nth(2).is_none() {
        return Err(usage);
    }
    check_key(key, limits)?;
    let fields = fields(key, words, "Number of fields must be a positive integer")?;
    Ok(Command::Hash(match verb {
        Verb::HPersist => OfHash::Persist { key, fields },
        Verb::HPTtl => OfHash::TimesLeft { key, fields, told: TimeLeft::Millis },
        Verb::HExpireTime => OfHash::TimesLeft { key, fields, told: TimeLeft::AtSeconds },
        Verb::HPExpireTime => OfHash::TimesLeft { key, fields, told: TimeLeft::AtMillis },
        _ => OfHash::TimesLeft { key, fields, told: TimeLeft::Seconds },
    }))
}

/// `FIELDS`, how many, and so many fields of `key`.
fn fields<'a>(key: &[u8], mut words: Words<'a>, no_count: &'static str) -> Result<Words<'a>, Reply<'a>> {
    let missing = Reply::Error("Mandatory argument FIELDS is missing or not at the right position");
    words.next().filter(|word| word.eq_ignore_ascii_case(b"FIELDS")).ok_or(missing)?;
    let count = words.next().and_then(crate::counter::integer).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0).ok_or(Reply::Error(no_count))?;
    if words.into_iter().count() != count {
        return Err(Reply::Error("The `numfields` parameter must match the number of arguments"));
    }
    // All of them before anything is done with the first.
    words.into_iter().try_for_each(|field| check_element(key, field))?;
    Ok(words)
}
