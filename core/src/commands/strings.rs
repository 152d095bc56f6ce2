//! Strings.

use super::arguments::{Unit, check_key, check_length, check_value, exactly, integer, keys, only_key, pairs};
use super::{ALL, FIRST, FREE_FAST, Manual, PAIRS, READ, READ_FAST, Verb, WRITE, WRITE_FAST};
use crate::command::{Bounded, Command, Condition, Expires, Reply, Write};
use crate::config::Limits;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 15] = [
    Manual {
        verb: Verb::Get,
        name: "GET",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_get,
        usage: "GET key",
        summary: "Read the value of a key",
        detail: "Answers the value, or `Key not found` if the key is absent, deleted or expired.",
        example: "GET name",
    },
    Manual {
        verb: Verb::Set,
        name: "SET",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: FIRST,
        parse: parse_set,
        usage: "SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT time | PXAT time | KEEPTTL]",
        summary: "Write the value of a key, with an expiry if wanted",
        detail: "Answers `OK`. Without an expiry the key never expires, whatever it had before; KEEPTTL keeps\n\
                 that. EXAT and PXAT take a point in time, in seconds and milliseconds since 1970. NX writes\n\
                 only if the key is absent, XX only if it is there, as this node knows it: two nodes may both\n\
                 find it absent. GET answers the value before.\n\
                 A key or value with spaces is put in quotes. Within double quotes \\n \\r \\t \\b \\a \
                 \\\" \\\\ and \\xHH\n\
                 (two hex digits) stand for the bytes they name; within single quotes \\' and \\\\ do.",
        example: "SET greeting \"hello world\" EX 60",
    },
    Manual {
        verb: Verb::SetNx,
        name: "SETNX",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_set_nx,
        usage: "SETNX key value",
        summary: "Write the value of a key that is absent",
        detail: "Answers 1 if it was written, 0 if there was one. As SET with NX.",
        example: "SETNX greeting hello",
    },
    Manual {
        verb: Verb::SetEx,
        name: "SETEX",
        aliases: &[],
        arity: 4,
        flags: WRITE,
        keys: FIRST,
        parse: parse_set_ex,
        usage: "SETEX key seconds value",
        summary: "Write the value of a key with an expiry in seconds",
        detail: "As SET with EX.",
        example: "SETEX greeting 60 hello",
    },
    Manual {
        verb: Verb::PSetEx,
        name: "PSETEX",
        aliases: &[],
        arity: 4,
        flags: WRITE,
        keys: FIRST,
        parse: parse_set_ex,
        usage: "PSETEX key milliseconds value",
        summary: "Write the value of a key with an expiry in milliseconds",
        detail: "As SET with PX.",
        example: "PSETEX greeting 60000 hello",
    },
    Manual {
        verb: Verb::GetSet,
        name: "GETSET",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_get_set,
        usage: "GETSET key value",
        summary: "Write the value of a key and read the one before",
        detail: "As SET with GET.",
        example: "GETSET name Ann",
    },
    Manual {
        verb: Verb::GetDel,
        name: "GETDEL",
        aliases: &[],
        arity: 2,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_get_del,
        usage: "GETDEL key",
        summary: "Read the value of a key and delete it",
        detail: "Answers as GET.",
        example: "GETDEL name",
    },
    Manual {
        verb: Verb::GetEx,
        name: "GETEX",
        aliases: &[],
        arity: -2,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_get_ex,
        usage: "GETEX key [EX seconds | PX milliseconds | EXAT time | PXAT time | PERSIST]",
        summary: "Read the value of a key and change its expiry",
        detail: "Answers as GET. PERSIST takes the expiry away. HELP EXPIRE tells what that does to a number.",
        example: "GETEX session EX 600",
    },
    Manual {
        verb: Verb::MGet,
        name: "MGET",
        aliases: &[],
        arity: -2,
        flags: READ_FAST,
        keys: ALL,
        parse: parse_mget,
        usage: "MGET key [key ...]",
        summary: "Read the values of several keys",
        detail: "One answer for each key, as of GET.",
        example: "MGET name age",
    },
    Manual {
        verb: Verb::MSet,
        name: "MSET",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: PAIRS,
        parse: parse_mset,
        usage: "MSET key value [key value ...]",
        summary: "Write the values of several keys",
        detail: "Answers `OK`. None of them expires. All are written at once on this node; others see them one\n\
                 after the other.",
        example: "MSET name Ann age 7",
    },
    Manual {
        verb: Verb::MSetNx,
        name: "MSETNX",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: PAIRS,
        parse: parse_mset,
        usage: "MSETNX key value [key value ...]",
        summary: "Write the values of several keys if all are absent",
        detail: "Answers 1 if they were written, 0 if there was one of them, as this node knows it. Then nothing\n\
                 is written.",
        example: "MSETNX name Ann age 7",
    },
    Manual {
        verb: Verb::Append,
        name: "APPEND",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_append,
        usage: "APPEND key value",
        summary: "Add to the end of a value",
        detail: "Answers its length. The expiry stays. Writes the whole value: of two nodes that append at once\n\
                 one wins.",
        example: "APPEND log more",
    },
    Manual {
        verb: Verb::StrLen,
        name: "STRLEN",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_strlen,
        usage: "STRLEN key",
        summary: "Tell the length of a value",
        detail: "In bytes; 0 if there is none.",
        example: "STRLEN name",
    },
    Manual {
        verb: Verb::GetRange,
        name: "GETRANGE",
        aliases: &["SUBSTR"],
        arity: 4,
        flags: READ,
        keys: FIRST,
        parse: parse_get_range,
        usage: "GETRANGE key start end",
        summary: "Read a part of a value",
        detail: "From byte `start` to byte `end`, both in it; negative ones count from the end, -1 being the last.",
        example: "GETRANGE name 0 2",
    },
    Manual {
        verb: Verb::SetRange,
        name: "SETRANGE",
        aliases: &[],
        arity: 4,
        flags: WRITE,
        keys: FIRST,
        parse: parse_set_range,
        usage: "SETRANGE key offset value",
        summary: "Write over a part of a value",
        detail: "Answers its length. What lies between the end and the offset is filled with zero bytes. The\n\
                 expiry stays.",
        example: "SETRANGE name 1 nn",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_get<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Get { key: only_key(verb, words, limits)? })
}

fn parse_set<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (Some(key), Some(value)) = (words.next(), words.next()) else { return Err(Reply::Usage { verb, hint: false }) };
    let mut write = Write { key, value, expires: Expires::Never, condition: None, answers_old: false };
    let mut timed = None;
    while let Some(option) = words.next() {
        let condition = if option.eq_ignore_ascii_case(b"NX") {
            Some(Condition::Absent)
        } else if option.eq_ignore_ascii_case(b"XX") {
            Some(Condition::Present)
        } else {
            None
        };
        if condition.is_some() && write.condition.is_none() {
            write.condition = condition;
        } else if option.eq_ignore_ascii_case(b"GET") {
            write.answers_old = true;
        } else if write.expires != Expires::Never || timed.is_some() {
            return Err(Reply::Syntax(verb));
        } else if option.eq_ignore_ascii_case(b"KEEPTTL") {
            write.expires = Expires::Kept;
        } else {
            // What is no option may be the rest of a value with spaces.
            let (Some((unit, name)), Some(time)) = (Unit::named(option), words.next()) else {
                return Err(Reply::Syntax(verb));
            };
            timed = Some((unit, name, time));
        }
    }
    // The options are looked at before the time, as in Redis.
    if let Some((unit, name, time)) = timed {
        write.expires = unit.expires(verb, name, time)?;
    }
    check_write(write, limits).map(Command::Set)
}

fn parse_set_nx<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, value] = exactly(verb, words)?;
    let condition = Some(Condition::Absent);
    let write = Write { key, value, expires: Expires::Never, condition, answers_old: false };
    check_write(write, limits).map(Command::SetNx)
}

fn parse_set_ex<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, time, value] = exactly(verb, words)?;
    let unit = if verb == Verb::SetEx { Unit::Seconds } else { Unit::Millis };
    let expires = unit.expires(verb, verb.manual().name, time)?;
    let write = Write { key, value, expires, condition: None, answers_old: false };
    check_write(write, limits).map(Command::Set)
}

fn parse_get_set<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, value] = exactly(verb, words)?;
    check_write(Write { key, value, expires: Expires::Never, condition: None, answers_old: true }, limits)
        .map(Command::Set)
}

fn check_write<'a>(write: Write<'a>, limits: &Limits) -> Result<Write<'a>, Reply<'a>> {
    check_key(write.key, limits)?;
    check_value(write.value, limits)?;
    Ok(write)
}

fn parse_get_del<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::GetDel { key: only_key(verb, words, limits)? })
}

fn parse_get_ex<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let key = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    check_key(key, limits)?;
    let Some(option) = words.next() else { return Ok(Command::GetEx { key, expires: Expires::Kept }) };
    let expires = match (Unit::named(option), words.next(), words.next()) {
        (Some((unit, name)), Some(time), None) => unit.expires(verb, name, time)?,
        (None, None, None) if option.eq_ignore_ascii_case(b"PERSIST") => Expires::Never,
        _ => return Err(Reply::Syntax(verb)),
    };
    Ok(Command::GetEx { key, expires })
}

fn parse_mget<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::MGet { keys: keys(verb, words, limits)?, bytes_max: limits.request_bytes_max })
}

fn parse_mset<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::MSet { pairs: pairs(verb, words, limits)?, if_absent: verb == Verb::MSetNx })
}

fn parse_append<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, value] = exactly(verb, words)?;
    check_key(key, limits)?;
    Ok(Command::Append { key, value, bytes_max: limits.value_bytes_max })
}

fn parse_strlen<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::StrLen { key: only_key(verb, words, limits)? })
}

fn parse_get_range<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, start, end] = exactly(verb, words)?;
    check_key(key, limits)?;
    Ok(Command::GetRange { key, start: integer(verb, start)?, end: integer(verb, end)? })
}

fn parse_set_range<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, offset, value] = exactly(verb, words)?;
    check_key(key, limits)?;
    let offset = usize::try_from(integer(verb, offset)?).map_err(|_| Reply::Error("offset is out of range"))?;
    let end = if value.is_empty() { 0 } else { offset.saturating_add(value.len()) };
    check_length(Bounded::Value, end, limits.value_bytes_max)?;
    Ok(Command::SetRange { key, offset, value })
}
