//! Hashes.

use super::arguments::{check_element, check_key, check_value, exactly, integer, nothing, only_key, scan_options};
use super::{FIRST, FREE_FAST, Manual, READ, READ_FAST, Verb, WRITE_FAST};
use crate::command::{Command, NO_FLOAT, OfHash, Reply, Shown};
use crate::config::Limits;
use crate::decimal::Decimal;
use crate::name::Kind;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 16] = [
    Manual {
        verb: Verb::HSet,
        name: "HSET",
        aliases: &[],
        arity: -4,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_write,
        usage: "HSET key field value [field value ...]",
        summary: "Write fields of a hash",
        detail: "Answers how many of them are new. Each field merges on its own, as keys do: of two nodes that write\n\
                 one at the same time one wins, and different fields do not meet. DEL deletes all of the hash, a SET\n\
                 puts a string in its place; what others write to a field at the same time and is newer stays. A key\n\
                 and a field together have at most 65,516 bytes. What is written gets the expiry that the hash has.",
        example: "HSET user name Ann age 7",
    },
    Manual {
        verb: Verb::HMSet,
        name: "HMSET",
        aliases: &[],
        arity: -4,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_write,
        usage: "HMSET key field value [field value ...]",
        summary: "Write fields of a hash",
        detail: "As HSET; answers `OK`.",
        example: "HMSET user name Ann age 7",
    },
    Manual {
        verb: Verb::HSetNx,
        name: "HSETNX",
        aliases: &[],
        arity: 4,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_write_new,
        usage: "HSETNX key field value",
        summary: "Write a field of a hash if it is absent",
        detail: "Answers 1 if it was, as this node knows it, else 0.",
        example: "HSETNX user name Ann",
    },
    Manual {
        verb: Verb::HGet,
        name: "HGET",
        aliases: &[],
        arity: 3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HGET key field",
        summary: "Read a field of a hash",
        detail: "Answers the value, or `Key not found`.",
        example: "HGET user name",
    },
    Manual {
        verb: Verb::HMGet,
        name: "HMGET",
        aliases: &[],
        arity: -3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read_some,
        usage: "HMGET key field [field ...]",
        summary: "Read several fields of a hash",
        detail: "Answers the value of each, in this order.",
        example: "HMGET user name age",
    },
    Manual {
        verb: Verb::HGetAll,
        name: "HGETALL",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: FIRST,
        parse: parse_list,
        usage: "HGETALL key",
        summary: "Read all fields of a hash",
        detail: "Answers each field and then its value.",
        example: "HGETALL user",
    },
    Manual {
        verb: Verb::HKeys,
        name: "HKEYS",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: FIRST,
        parse: parse_list,
        usage: "HKEYS key",
        summary: "List the fields of a hash",
        detail: "In no order that means anything.",
        example: "HKEYS user",
    },
    Manual {
        verb: Verb::HVals,
        name: "HVALS",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: FIRST,
        parse: parse_list,
        usage: "HVALS key",
        summary: "List the values of a hash",
        detail: "In the order of HKEYS.",
        example: "HVALS user",
    },
    Manual {
        verb: Verb::HDel,
        name: "HDEL",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_delete,
        usage: "HDEL key field [field ...]",
        summary: "Delete fields of a hash",
        detail: "Answers how many there were. With its last field a hash is gone.",
        example: "HDEL user age",
    },
    Manual {
        verb: Verb::HLen,
        name: "HLEN",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_count,
        usage: "HLEN key",
        summary: "Count the fields of a hash",
        detail: "0 if there is none.",
        example: "HLEN user",
    },
    Manual {
        verb: Verb::HExists,
        name: "HEXISTS",
        aliases: &[],
        arity: 3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HEXISTS key field",
        summary: "Tell whether a hash has a field",
        detail: "Answers 1 or 0.",
        example: "HEXISTS user name",
    },
    Manual {
        verb: Verb::HStrLen,
        name: "HSTRLEN",
        aliases: &[],
        arity: 3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_read,
        usage: "HSTRLEN key field",
        summary: "Tell the length of a field's value",
        detail: "In bytes; 0 if there is none.",
        example: "HSTRLEN user name",
    },
    Manual {
        verb: Verb::HIncrBy,
        name: "HINCRBY",
        aliases: &[],
        arity: 4,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add,
        usage: "HINCRBY key field amount",
        summary: "Add an amount to the number in a field",
        detail: "Answers the sum, as this node knows it. What several nodes add at the same time adds up, as with\n\
                 INCRBY.",
        example: "HINCRBY user visits 1",
    },
    Manual {
        verb: Verb::HIncrByFloat,
        name: "HINCRBYFLOAT",
        aliases: &[],
        arity: 4,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add_float,
        usage: "HINCRBYFLOAT key field amount",
        summary: "Add an amount with a fraction to the number in a field",
        detail: "As INCRBYFLOAT: the sum is exact, and of what two nodes add at the same time one wins.",
        example: "HINCRBYFLOAT user balance -0.25",
    },
    Manual {
        verb: Verb::HRandField,
        name: "HRANDFIELD",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: FIRST,
        parse: parse_draw,
        usage: "HRANDFIELD key [count [WITHVALUES]]",
        summary: "Draw fields of a hash by chance",
        detail: "One, or so many different ones; if the count is negative, so many that may be the same.",
        example: "HRANDFIELD user 2",
    },
    Manual {
        verb: Verb::HScan,
        name: "HSCAN",
        aliases: &[],
        arity: -3,
        flags: READ,
        keys: FIRST,
        parse: parse_element_scan,
        usage: "HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        summary: "List the fields of a hash in steps",
        detail: "Begin with cursor 0 and go on with the one that is answered, until it is 0 again. What is there all\n\
                 the while is listed, with its value unless those are not wanted.",
        example: "HSCAN user 0",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_write<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let key = words.next().ok_or(usage)?;
    let (pairs, mut rest) = (words, words);
    check_key(key, limits)?;
    let mut is_empty = true;
    while let Some(field) = rest.next() {
        check_element(key, field)?;
        check_value(rest.next().ok_or(usage)?, limits)?;
        is_empty = false;
    }
    if is_empty { Err(usage) } else { Ok(Command::Hash(OfHash::Write { key, pairs, counts: verb == Verb::HSet })) }
}

fn parse_write_new<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, field, value] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_element(key, field)?;
    check_value(value, limits)?;
    Ok(Command::Hash(OfHash::WriteNew { key, field, value }))
}

fn parse_read<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, field] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_element(key, field)?;
    Ok(Command::Hash(match verb {
        Verb::HExists => OfHash::Exists { key, field },
        Verb::HStrLen => OfHash::Length { key, field },
        _ => OfHash::Read { key, field },
    }))
}

fn parse_read_some<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, fields) = key_and_elements(verb, words, limits)?;
    Ok(Command::Hash(OfHash::ReadSome { key, fields, bytes_max: limits.request_bytes_max }))
}

fn parse_delete<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, fields) = key_and_elements(verb, words, limits)?;
    Ok(Command::Hash(OfHash::Delete { key, fields }))
}

fn parse_list<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let shown = match verb {
        Verb::HKeys => Shown::Fields,
        Verb::HVals => Shown::Values,
        _ => Shown::Both,
    };
    Ok(Command::Hash(OfHash::List { key: only_key(verb, words, limits)?, shown }))
}

fn parse_count<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Hash(OfHash::Count { key: only_key(verb, words, limits)? }))
}

fn parse_add<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, field, amount] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_element(key, field)?;
    Ok(Command::Hash(OfHash::Add { key, field, amount: integer(verb, amount)? }))
}

fn parse_add_float<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, field, amount] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_element(key, field)?;
    // Unlike INCRBYFLOAT this looks at the amount before it looks at the key.
    if Decimal::parse(amount).ok_or(Reply::Error(NO_FLOAT))? == Decimal::Infinite {
        return Err(Reply::Error("value is NaN or Infinity"));
    }
    Ok(Command::Hash(OfHash::AddFloat { key, field, amount, bytes_max: limits.value_bytes_max }))
}

fn parse_draw<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let key = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    check_key(key, limits)?;
    let Some(count) = words.next() else {
        return Ok(Command::Hash(OfHash::Draw { key, count: None, has_values: false }));
    };
    let count = integer(verb, count)?;
    let option = words.next();
    if option.is_some_and(|option| !option.eq_ignore_ascii_case(b"WITHVALUES")) {
        return Err(Reply::Syntax(verb));
    }
    nothing(verb, words).map_err(|_| Reply::Syntax(verb))?;
    Ok(Command::Hash(OfHash::Draw { key, count: Some(count), has_values: option.is_some() }))
}

pub(super) fn parse_element_scan<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let key = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    check_key(key, limits)?;
    let kind = if verb == Verb::HScan { Kind::Field } else { Kind::Member };
    Ok(Command::ScanElements { key, scan: scan_options(verb, words, false)?, kind })
}

/// A key and at least one field or member of it, and nothing else.
pub(super) fn key_and_elements<'a>(
    verb: Verb,
    mut words: Words<'a>,
    limits: &Limits,
) -> Result<(&'a [u8], Words<'a>), Reply<'a>> {
    let usage = Reply::Usage { verb, hint: false };
    let key = words.next().ok_or(usage)?;
    check_key(key, limits)?;
    if words.into_iter().next().is_none() {
        return Err(usage);
    }
    // All of them before anything is done with the first.
    words.into_iter().try_for_each(|element| check_element(key, element))?;
    Ok((key, words))
}
