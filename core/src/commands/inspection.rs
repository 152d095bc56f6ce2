//! What Redis clients ask and say of a server that has none of it, or only one answer; and what a value takes.

use super::arguments::{check_key, exactly, nothing, number};
use super::{FAST, FIRST_ARGUMENT, LOADING, Manual, NO_KEYS, READ, Verb, WRITE};
use crate::command::{AboutObject, Command, Reply};
use crate::config::Limits;
use crate::counter;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 8] = [
    Manual {
        verb: Verb::ReadOnly,
        name: "READONLY",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_no_cluster,
        usage: "READONLY",
        summary: "Of Redis Cluster, which this is not: an error",
        detail: "Every node is read from and written to.",
        example: "READONLY",
    },
    Manual {
        verb: Verb::ReadWrite,
        name: "READWRITE",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_no_cluster,
        usage: "READWRITE",
        summary: "Of Redis Cluster, which this is not: an error",
        detail: "Every node is read from and written to.",
        example: "READWRITE",
    },
    Manual {
        verb: Verb::Role,
        name: "ROLE",
        aliases: &[],
        arity: 1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_role,
        usage: "ROLE",
        summary: "Tell the role of this node, which takes writes as all do",
        detail: "Answers `master`, 0 and no replicas. PEERS shows the other nodes.",
        example: "ROLE",
    },
    Manual {
        verb: Verb::SwapDb,
        name: "SWAPDB",
        aliases: &[],
        arity: 3,
        flags: WRITE,
        keys: NO_KEYS,
        parse: parse_swap_db,
        usage: "SWAPDB number number",
        summary: "Not here: nodes could not agree on it",
        detail: "A key that another node writes at the same time would belong to one database there and to another\n\
                 here.",
        example: "SWAPDB 0 1",
    },
    Manual {
        verb: Verb::Object,
        name: "OBJECT",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: FIRST_ARGUMENT,
        parse: parse_object,
        usage: "OBJECT ENCODING key | IDLETIME key | REFCOUNT key | FREQ key",
        summary: "Tell how Redis would hold a value",
        detail: "ENCODING answers `int`, `embstr` or `raw`, by what the value is; IDLETIME the seconds since it was\n\
                 written; REFCOUNT 1. How often a key is used is not counted: FREQ is an error.",
        example: "OBJECT ENCODING age",
    },
    Manual {
        verb: Verb::Memory,
        name: "MEMORY",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: FIRST_ARGUMENT,
        parse: parse_memory,
        usage: "MEMORY USAGE key [SAMPLES count]",
        summary: "Tell how many bytes a key takes in memory",
        detail: "With its value, version and place in the table; STATS tells what all take together.",
        example: "MEMORY USAGE name",
    },
    Manual {
        verb: Verb::Script,
        name: "SCRIPT",
        aliases: &[],
        arity: -2,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_script,
        usage: "SCRIPT FLUSH [ASYNC | SYNC] | EXISTS sha1 [sha1 ...]",
        summary: "Forget scripts, of which there are none",
        detail: "Libraries say so in their tests.",
        example: "SCRIPT FLUSH",
    },
    Manual {
        verb: Verb::Function,
        name: "FUNCTION",
        aliases: &[],
        arity: -2,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_function,
        usage: "FUNCTION FLUSH [ASYNC | SYNC]",
        summary: "Forget functions, of which there are none",
        detail: "Libraries say so in their tests.",
        example: "FUNCTION FLUSH",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_no_cluster<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words)?;
    Err(Reply::Error("This instance has cluster support disabled"))
}

fn parse_role<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::Role)
}

fn parse_swap_db<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [_, _] = exactly(verb, words)?;
    Err(Reply::Error("SWAPDB is not supported: what other nodes write meanwhile would be in one database or the other"))
}

fn parse_object<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let subs = [
        ("ENCODING", AboutObject::Encoding),
        ("FREQ", AboutObject::Frequency),
        ("IDLETIME", AboutObject::IdleTime),
        ("REFCOUNT", AboutObject::References),
    ];
    let named = subs.into_iter().find(|(name, _)| sub.eq_ignore_ascii_case(name.as_bytes()));
    let (_, told) = named.ok_or(Reply::UnknownSubcommand { verb, sub })?;
    let [key] = exactly(verb, words)?;
    check_key(key, limits)?;
    Ok(Command::Object { key, told })
}

fn parse_memory<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    if !sub.eq_ignore_ascii_case(b"USAGE") {
        return Err(Reply::UnknownSubcommand { verb, sub });
    }
    let key = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    check_key(key, limits)?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => {}
        (Some(option), Some(count), None) if option.eq_ignore_ascii_case(b"SAMPLES") => {
            counter::integer(count).ok_or(Reply::NotInteger(verb))?;
            number(count).ok_or(Reply::Syntax(verb))?;
        }
        _ => return Err(Reply::Syntax(verb)),
    }
    Ok(Command::MemoryUsage { key })
}

fn parse_script<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    if sub.eq_ignore_ascii_case(b"EXISTS") && words.into_iter().next().is_some() {
        return Ok(Command::ScriptsExist { count: words.count() });
    }
    flush(verb, sub, words, "SCRIPT FLUSH only support SYNC|ASYNC option")
}

fn parse_function<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    flush(verb, sub, words, "FUNCTION FLUSH only supports SYNC|ASYNC option")
}

fn flush<'a>(verb: Verb, sub: &'a [u8], mut words: Words<'a>, refusal: &'static str) -> Parsed<'a> {
    if !sub.eq_ignore_ascii_case(b"FLUSH") {
        return Err(Reply::UnknownSubcommand { verb, sub });
    }
    let is_way = |way: &[u8]| way.eq_ignore_ascii_case(b"SYNC") || way.eq_ignore_ascii_case(b"ASYNC");
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::NoScripts),
        (Some(way), None) if is_way(way) => Ok(Command::NoScripts),
        _ => Err(Reply::Error(refusal)),
    }
}
