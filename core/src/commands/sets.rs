//! Sets.

use super::arguments::{check_element, check_key, exactly, integer, keys, nothing, only_key};
use super::hashes::{key_and_elements, parse_element_scan};
use super::{ALL, BOTH, FIRST, FREE_FAST, KeyWords, Manual, READ, READ_FAST, Verb, WRITE, WRITE_FAST};
use crate::command::{Combine, Command, OfSet, Reply};
use crate::config::Limits;
use crate::wire::words::Words;

/// Behind the number of them.
const COUNTED: KeyWords = KeyWords { first: 2, last: 2, step: 1 };

pub(super) static MANUALS: [Manual; 17] = [
    Manual {
        verb: Verb::SAdd,
        name: "SADD",
        aliases: &[],
        arity: -3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_add,
        usage: "SADD key member [member ...]",
        summary: "Add members to a set",
        detail: "Answers how many are new. Of an add and a remove on two nodes that did not see each other the add\n\
                 wins. To add a member again takes two small records where there are other nodes. A key and a member\n\
                 together have at most 65,516 bytes. What is added gets the expiry that the set has.",
        example: "SADD tags red blue",
    },
    Manual {
        verb: Verb::SRem,
        name: "SREM",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_remove,
        usage: "SREM key member [member ...]",
        summary: "Remove members of a set",
        detail: "Answers how many there were. With its last member a set is gone.",
        example: "SREM tags red",
    },
    Manual {
        verb: Verb::SIsMember,
        name: "SISMEMBER",
        aliases: &[],
        arity: 3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_has,
        usage: "SISMEMBER key member",
        summary: "Tell whether a set has a member",
        detail: "Answers 1 or 0.",
        example: "SISMEMBER tags red",
    },
    Manual {
        verb: Verb::SMIsMember,
        name: "SMISMEMBER",
        aliases: &[],
        arity: -3,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_has_some,
        usage: "SMISMEMBER key member [member ...]",
        summary: "Tell of several members whether a set has them",
        detail: "Answers 1 or 0 for each.",
        example: "SMISMEMBER tags red blue",
    },
    Manual {
        verb: Verb::SMembers,
        name: "SMEMBERS",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: FIRST,
        parse: parse_list,
        usage: "SMEMBERS key",
        summary: "List the members of a set",
        detail: "In no order that means anything.",
        example: "SMEMBERS tags",
    },
    Manual {
        verb: Verb::SCard,
        name: "SCARD",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_list,
        usage: "SCARD key",
        summary: "Count the members of a set",
        detail: "0 if there is none.",
        example: "SCARD tags",
    },
    Manual {
        verb: Verb::SPop,
        name: "SPOP",
        aliases: &[],
        arity: -2,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_pop,
        usage: "SPOP key [count]",
        summary: "Remove members of a set by chance",
        detail: "Answers them. Two nodes may pop the same at the same time.",
        example: "SPOP tags",
    },
    Manual {
        verb: Verb::SRandMember,
        name: "SRANDMEMBER",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: FIRST,
        parse: parse_draw,
        usage: "SRANDMEMBER key [count]",
        summary: "Draw members of a set by chance",
        detail: "One, or so many different ones; if the count is negative, so many that may be the same.",
        example: "SRANDMEMBER tags 2",
    },
    Manual {
        verb: Verb::SMove,
        name: "SMOVE",
        aliases: &[],
        arity: 4,
        flags: WRITE_FAST,
        keys: BOTH,
        parse: parse_move,
        usage: "SMOVE key other member",
        summary: "Move a member to another set",
        detail: "Answers 1 if it was there, else 0.",
        example: "SMOVE tags old red",
    },
    Manual {
        verb: Verb::SInter,
        name: "SINTER",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: ALL,
        parse: parse_combine,
        usage: "SINTER key [key ...]",
        summary: "List the members that all sets have",
        detail: "In no order that means anything.",
        example: "SINTER tags old",
    },
    Manual {
        verb: Verb::SInterStore,
        name: "SINTERSTORE",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: ALL,
        parse: parse_combine,
        usage: "SINTERSTORE into key [key ...]",
        summary: "Store the members that all sets have",
        detail: "Answers how many there are. What was stored before under that key is gone.",
        example: "SINTERSTORE both tags old",
    },
    Manual {
        verb: Verb::SInterCard,
        name: "SINTERCARD",
        aliases: &[],
        arity: -3,
        flags: READ,
        keys: COUNTED,
        parse: parse_count_common,
        usage: "SINTERCARD count key [key ...] [LIMIT limit]",
        summary: "Count the members that all sets have",
        detail: "`count` is the number of keys.",
        example: "SINTERCARD 2 tags old",
    },
    Manual {
        verb: Verb::SUnion,
        name: "SUNION",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: ALL,
        parse: parse_combine,
        usage: "SUNION key [key ...]",
        summary: "List the members of any of the sets",
        detail: "Each once, in no order that means anything.",
        example: "SUNION tags old",
    },
    Manual {
        verb: Verb::SUnionStore,
        name: "SUNIONSTORE",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: ALL,
        parse: parse_combine,
        usage: "SUNIONSTORE into key [key ...]",
        summary: "Store the members of any of the sets",
        detail: "As SINTERSTORE.",
        example: "SUNIONSTORE all tags old",
    },
    Manual {
        verb: Verb::SDiff,
        name: "SDIFF",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: ALL,
        parse: parse_combine,
        usage: "SDIFF key [key ...]",
        summary: "List what the first set has and the others have not",
        detail: "In no order that means anything.",
        example: "SDIFF tags old",
    },
    Manual {
        verb: Verb::SDiffStore,
        name: "SDIFFSTORE",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: ALL,
        parse: parse_combine,
        usage: "SDIFFSTORE into key [key ...]",
        summary: "Store what the first set has and the others have not",
        detail: "As SINTERSTORE.",
        example: "SDIFFSTORE new tags old",
    },
    Manual {
        verb: Verb::SScan,
        name: "SSCAN",
        aliases: &[],
        arity: -3,
        flags: READ,
        keys: FIRST,
        parse: parse_element_scan,
        usage: "SSCAN key cursor [MATCH pattern] [COUNT count]",
        summary: "List the members of a set in steps",
        detail: "As HSCAN.",
        example: "SSCAN tags 0",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_add<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, members) = key_and_elements(verb, words, limits)?;
    Ok(Command::SetOf(OfSet::Add { key, members }))
}

fn parse_remove<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, members) = key_and_elements(verb, words, limits)?;
    Ok(Command::SetOf(OfSet::Remove { key, members }))
}

fn parse_has_some<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, members) = key_and_elements(verb, words, limits)?;
    Ok(Command::SetOf(OfSet::HasSome { key, members }))
}

fn parse_has<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, member] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_element(key, member)?;
    Ok(Command::SetOf(OfSet::Has { key, member }))
}

fn parse_list<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let key = only_key(verb, words, limits)?;
    Ok(Command::SetOf(if verb == Verb::SCard { OfSet::Count { key } } else { OfSet::List { key } }))
}

fn parse_pop<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, count) = key_and_word(verb, words, limits)?;
    let positive = |word| integer(verb, word).ok().and_then(|count| u64::try_from(count).ok());
    let bad = Reply::Error("value is out of range, must be positive");
    let count = count.map(|count| positive(count).ok_or(bad)).transpose()?;
    Ok(Command::SetOf(OfSet::Pop { key, count }))
}

fn parse_draw<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (key, count) = key_and_word(verb, words, limits)?;
    let count = count.map(|count| integer(verb, count)).transpose()?;
    Ok(Command::SetOf(OfSet::Draw { key, count }))
}

/// A key, and one word or none behind it.
fn key_and_word<'a>(
    verb: Verb,
    mut words: Words<'a>,
    limits: &Limits,
) -> Result<(&'a [u8], Option<&'a [u8]>), Reply<'a>> {
    let key = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    check_key(key, limits)?;
    let word = words.next();
    nothing(verb, words).map_err(|_| Reply::Syntax(verb))?;
    Ok((key, word))
}

fn parse_move<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, name, member] = exactly(verb, words)?;
    for key in [key, name] {
        check_key(key, limits)?;
        check_element(key, member)?;
    }
    Ok(Command::SetOf(OfSet::Move { key, name, member }))
}

fn parse_combine<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let how = match verb {
        Verb::SInter | Verb::SInterStore => Combine::Intersection,
        Verb::SUnion | Verb::SUnionStore => Combine::Union,
        _ => Combine::Difference,
    };
    let mut into = None;
    if matches!(verb, Verb::SInterStore | Verb::SUnionStore | Verb::SDiffStore) {
        into = Some(words.next().ok_or(Reply::Usage { verb, hint: false })?);
        into.map_or(Ok(()), |into| check_key(into, limits))?;
    }
    Ok(Command::SetOf(OfSet::Combine { how, keys: keys(verb, words, limits)?, into }))
}

fn parse_count_common<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let (count, after) = (words.next().ok_or(usage)?, words);
    if words.next().is_none() {
        return Err(usage);
    }
    let none = Reply::Error("numkeys should be greater than 0");
    let count = integer(verb, count).ok().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or(none)?;
    if after.into_iter().count() < count {
        return Err(Reply::Error("Number of keys can't be greater than number of args"));
    }
    let (keys, mut rest) = after.split(count);
    keys.into_iter().try_for_each(|key| check_key(key, limits))?;
    let mut limit = 0;
    while let Some(option) = rest.next() {
        let value = rest.next().filter(|_| option.eq_ignore_ascii_case(b"LIMIT")).ok_or(Reply::Syntax(verb))?;
        let negative = Reply::Error("LIMIT can't be negative");
        limit = integer(verb, value).ok().and_then(|limit| u64::try_from(limit).ok()).ok_or(negative)?;
    }
    Ok(Command::SetOf(OfSet::CountCommon { keys, limit }))
}
