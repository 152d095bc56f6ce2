//! Counters.

use super::arguments::{check_key, exactly, integer, only_key};
use super::{FIRST, Manual, Verb, WRITE_FAST};
use crate::command::{Command, NO_FLOAT, Reply};
use crate::config::Limits;
use crate::decimal::Decimal;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 5] = [
    Manual {
        verb: Verb::Incr,
        name: "INCR",
        aliases: &[],
        arity: 2,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_step,
        usage: "INCR key",
        summary: "Add 1 to the number of a key",
        detail: "Answers the sum, as this node knows it; an absent key counts from 0. What several nodes add at the \
                 same\n\
                 time adds up. SET and DEL reset the number; an expiry stays what it was. An error, and no change, \
                 if\n\
                 the value is no whole number or the sum would not fit 64 bits.",
        example: "INCR visits",
    },
    Manual {
        verb: Verb::Decr,
        name: "DECR",
        aliases: &[],
        arity: 2,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_step,
        usage: "DECR key",
        summary: "Take 1 from the number of a key",
        detail: "Answers what is left, as this node knows it. As INCR, the other way.",
        example: "DECR seats",
    },
    Manual {
        verb: Verb::IncrBy,
        name: "INCRBY",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add,
        usage: "INCRBY key amount",
        summary: "Add an amount to the number of a key",
        detail: "Answers the sum, as this node knows it. The amount is a whole number of 64 bits, negative to take \
                 away.\n\
                 HELP INCR tells the rest.",
        example: "INCRBY visits 10",
    },
    Manual {
        verb: Verb::DecrBy,
        name: "DECRBY",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add,
        usage: "DECRBY key amount",
        summary: "Take an amount from the number of a key",
        detail: "Answers what is left, as this node knows it. As INCRBY, the other way.",
        example: "DECRBY seats 4",
    },
    Manual {
        verb: Verb::IncrByFloat,
        name: "INCRBYFLOAT",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add_float,
        usage: "INCRBYFLOAT key amount",
        summary: "Add an amount with a fraction to the number of a key",
        detail: "Answers the sum, exact, to 17 places behind the point; an absent key counts from 0. It writes the \
                 sum\n\
                 as SET does, and keeps the expiry: of what two nodes add at the same time one wins. INCRBY counts\n\
                 whole numbers, and those add up.",
        example: "INCRBYFLOAT balance -0.25",
    },
];

fn parse_step<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<Command<'a>, Reply<'a>> {
    let amount = if verb == Verb::Incr { 1 } else { -1 };
    Ok(Command::Add { key: only_key(verb, words, limits)?, amount })
}

fn parse_add<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<Command<'a>, Reply<'a>> {
    let [key, amount] = exactly(verb, words)?;
    check_key(key, limits)?;
    let amount = integer(verb, amount)?;
    let amount = if verb == Verb::DecrBy { amount.checked_neg() } else { Some(amount) };
    Ok(Command::Add { key, amount: amount.ok_or(Reply::Error("decrement would overflow"))? })
}

fn parse_add_float<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<Command<'a>, Reply<'a>> {
    let [key, amount] = exactly(verb, words)?;
    check_key(key, limits)?;
    Decimal::parse(amount).ok_or(Reply::Error(NO_FLOAT))?;
    Ok(Command::AddFloat { key, amount, bytes_max: limits.value_bytes_max })
}
