//! Keys, and when they expire.

use super::arguments::{check_key, check_pattern, exactly, integer, keys, keyspace, nothing, only_key, scan_options};
use super::{ALL, BOTH, FIRST, FREE, FREE_FAST, Manual, NO_KEYS, READ, READ_FAST, Verb, WRITE, WRITE_FAST};
use crate::command::{Command, Copy, EXPIRES_IN_MS_MAX, Expires, OnExpiry, Reply, TimeLeft};
use crate::config::Limits;
use crate::time::WallMs;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 23] = [
    Manual {
        verb: Verb::Del,
        name: "DEL",
        aliases: &["DELETE", "UNLINK"],
        arity: -2,
        flags: FREE,
        keys: ALL,
        parse: parse_del,
        usage: "DEL key [key ...]",
        summary: "Delete keys",
        detail: "Answers `OK`, also for keys that do not exist. DELETE and UNLINK are the same.",
        example: "DEL name age",
    },
    Manual {
        verb: Verb::Ttl,
        name: "TTL",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_ttl,
        usage: "TTL key",
        summary: "Tell the seconds until a key expires",
        detail: "Answers the seconds left, rounded; `-1` if the key never expires; `Key not found` if there is none.",
        example: "TTL greeting",
    },
    Manual {
        verb: Verb::PTtl,
        name: "PTTL",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_ttl,
        usage: "PTTL key",
        summary: "Tell the milliseconds until a key expires",
        detail: "As TTL, in milliseconds.",
        example: "PTTL greeting",
    },
    Manual {
        verb: Verb::ExpireTime,
        name: "EXPIRETIME",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_ttl,
        usage: "EXPIRETIME key",
        summary: "Tell the time at which a key expires, in seconds since 1970",
        detail: "As TTL.",
        example: "EXPIRETIME greeting",
    },
    Manual {
        verb: Verb::PExpireTime,
        name: "PEXPIRETIME",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_ttl,
        usage: "PEXPIRETIME key",
        summary: "Tell the time at which a key expires, in milliseconds since 1970",
        detail: "As TTL.",
        example: "PEXPIRETIME greeting",
    },
    Manual {
        verb: Verb::Expire,
        name: "EXPIRE",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "EXPIRE key seconds [NX | XX | GT | LT]",
        summary: "Have a key expire after some seconds",
        detail: "Answers 1 if it does now, 0 if there is no such key or the option forbids it: NX wants\n\
                 that it never expired, XX that it did, GT that it expires later than before,\n\
                 LT earlier. A time that has passed deletes the key. It writes the value\n\
                 anew, so of a SET at the same time on another node one wins; what other nodes add to a number at\n\
                 the same time may\n\
                 be lost. Of a hash or a set it writes each field or member anew, so it takes as long as\n\
                 there are many.",
        example: "EXPIRE session 600",
    },
    Manual {
        verb: Verb::PExpire,
        name: "PEXPIRE",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "PEXPIRE key milliseconds [NX | XX | GT | LT]",
        summary: "Have a key expire after some milliseconds",
        detail: "As EXPIRE.",
        example: "PEXPIRE session 600000",
    },
    Manual {
        verb: Verb::ExpireAt,
        name: "EXPIREAT",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "EXPIREAT key time [NX | XX | GT | LT]",
        summary: "Have a key expire at a time, in seconds since 1970",
        detail: "As EXPIRE.",
        example: "EXPIREAT session 1893456000",
    },
    Manual {
        verb: Verb::PExpireAt,
        name: "PEXPIREAT",
        aliases: &[],
        arity: -3,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_expire,
        usage: "PEXPIREAT key time [NX | XX | GT | LT]",
        summary: "Have a key expire at a time, in milliseconds since 1970",
        detail: "As EXPIRE.",
        example: "PEXPIREAT session 1893456000000",
    },
    Manual {
        verb: Verb::Persist,
        name: "PERSIST",
        aliases: &[],
        arity: 2,
        flags: FREE_FAST,
        keys: FIRST,
        parse: parse_persist,
        usage: "PERSIST key",
        summary: "Have a key never expire",
        detail: "Answers 1 if it did before, else 0. It writes the value anew, as EXPIRE does.",
        example: "PERSIST session",
    },
    Manual {
        verb: Verb::Exists,
        name: "EXISTS",
        aliases: &[],
        arity: -2,
        flags: READ_FAST,
        keys: ALL,
        parse: parse_exists,
        usage: "EXISTS key [key ...]",
        summary: "Count how many of some keys there are",
        detail: "One that is named twice counts twice.",
        example: "EXISTS name age",
    },
    Manual {
        verb: Verb::Touch,
        name: "TOUCH",
        aliases: &[],
        arity: -2,
        flags: READ_FAST,
        keys: ALL,
        parse: parse_exists,
        usage: "TOUCH key [key ...]",
        summary: "Count how many of some keys there are",
        detail: "As EXISTS: nothing is evicted by when it was used last.",
        example: "TOUCH name",
    },
    Manual {
        verb: Verb::Type,
        name: "TYPE",
        aliases: &[],
        arity: 2,
        flags: READ_FAST,
        keys: FIRST,
        parse: parse_type,
        usage: "TYPE key",
        summary: "Tell the type of a value",
        detail: "Answers `string`, or `none` if there is no such key.",
        example: "TYPE name",
    },
    Manual {
        verb: Verb::Rename,
        name: "RENAME",
        aliases: &[],
        arity: 3,
        flags: WRITE,
        keys: BOTH,
        parse: parse_rename,
        usage: "RENAME key name",
        summary: "Give a value another key",
        detail: "Answers `OK`. What stood there is replaced. It is a write and a delete: other nodes see them one\n\
                 after the other.",
        example: "RENAME draft final",
    },
    Manual {
        verb: Verb::RenameNx,
        name: "RENAMENX",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: BOTH,
        parse: parse_rename,
        usage: "RENAMENX key name",
        summary: "Give a value another key if that is absent",
        detail: "Answers 1 if it did, 0 if the other key is there. As RENAME.",
        example: "RENAMENX draft final",
    },
    Manual {
        verb: Verb::Copy,
        name: "COPY",
        aliases: &[],
        arity: -3,
        flags: WRITE,
        keys: BOTH,
        parse: parse_copy,
        usage: "COPY key name [DB number] [REPLACE]",
        summary: "Copy a value to another key",
        detail: "Answers 1 if it was copied, 0 if not: there is nothing to copy or, without REPLACE, something in\n\
                 its place. With DB the other key is in that keyspace.",
        example: "COPY name backup",
    },
    Manual {
        verb: Verb::Move,
        name: "MOVE",
        aliases: &[],
        arity: 3,
        flags: WRITE_FAST,
        keys: FIRST,
        parse: parse_move,
        usage: "MOVE key number",
        summary: "Give a value to the same key of another keyspace",
        detail: "Answers 1 if it did, 0 if there is nothing to move, or something in its place. As RENAME.",
        example: "MOVE name 1",
    },
    Manual {
        verb: Verb::RandomKey,
        name: "RANDOMKEY",
        aliases: &[],
        arity: 1,
        flags: READ,
        keys: NO_KEYS,
        parse: parse_random_key,
        usage: "RANDOMKEY",
        summary: "Name some key",
        detail: "Not each is as likely as any other.",
        example: "RANDOMKEY",
    },
    Manual {
        verb: Verb::FlushDb,
        name: "FLUSHDB",
        aliases: &[],
        arity: -1,
        flags: FREE,
        keys: NO_KEYS,
        parse: parse_flush,
        usage: "FLUSHDB [ASYNC | SYNC]",
        summary: "Delete all keys of this keyspace, on all nodes",
        detail: "Answers `OK` once all keys of it are gone here. Of what other nodes write at the same time that\n\
                 stays which is newer. ASYNC and SYNC make no difference.",
        example: "FLUSHDB",
    },
    Manual {
        verb: Verb::FlushAll,
        name: "FLUSHALL",
        aliases: &[],
        arity: -1,
        flags: FREE,
        keys: NO_KEYS,
        parse: parse_flush,
        usage: "FLUSHALL [ASYNC | SYNC]",
        summary: "Delete all keys of all keyspaces, on all nodes",
        detail: "As FLUSHDB, of each of the 16 keyspaces, also of those in which only other nodes have written.",
        example: "FLUSHALL",
    },
    Manual {
        verb: Verb::Keys,
        name: "KEYS",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: NO_KEYS,
        parse: parse_keys,
        usage: "KEYS pattern",
        summary: "List the keys that match a pattern",
        detail: "`*` matches anything, `?` one byte, `[a-c]` one of some, `[^a]` one that is not,\n\
                 a backslash takes the next as it is.\n\
                 It looks at all keys at once, and everybody waits: SCAN does not.",
        example: "KEYS user:*",
    },
    Manual {
        verb: Verb::Scan,
        name: "SCAN",
        aliases: &[],
        arity: -2,
        flags: READ,
        keys: NO_KEYS,
        parse: parse_scan,
        usage: "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]",
        summary: "List keys, some at a time",
        detail: "Answers the next cursor and some keys. Begin with cursor 0, and go on until it is\n\
                 0 again. What is there all the while is listed, once or more often.",
        example: "SCAN 0 MATCH user:* COUNT 100",
    },
    Manual {
        verb: Verb::DbSize,
        name: "DBSIZE",
        aliases: &[],
        arity: 1,
        flags: READ_FAST,
        keys: NO_KEYS,
        parse: parse_db_size,
        usage: "DBSIZE",
        summary: "Count the keys",
        detail: "`keys` of STATS.",
        example: "DBSIZE",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_del<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Del { keys: keys(verb, words, limits)? })
}

fn parse_ttl<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let key = only_key(verb, words, limits)?;
    let told = match verb {
        Verb::Ttl => TimeLeft::Seconds,
        Verb::PTtl => TimeLeft::Millis,
        Verb::ExpireTime => TimeLeft::AtSeconds,
        _ => TimeLeft::AtMillis,
    };
    Ok(Command::Ttl { key, told })
}

fn parse_expire<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let usage = Reply::Usage { verb, hint: false };
    let (Some(key), Some(time)) = (words.next(), words.next()) else { return Err(usage) };
    check_key(key, limits)?;
    let mut on = OnExpiry::default();
    for option in words {
        if !on.take(option) {
            return Err(Reply::UnsupportedOption { verb, option });
        }
    }
    if on.if_none && (on.if_some || on.if_later || on.if_earlier) {
        return Err(Reply::Error("NX and XX, GT or LT options at the same time are not compatible"));
    }
    if on.if_later && on.if_earlier {
        return Err(Reply::Error("GT and LT options at the same time are not compatible"));
    }
    let expires = deadline(verb, integer(verb, time)?)?;
    Ok(Command::Expire { key, expires, on })
}

/// When what a command has expire does so, which says it by this number.
pub(super) fn deadline<'a>(verb: Verb, number: i64) -> Result<Expires, Reply<'a>> {
    let (unit_ms, is_point) = match verb {
        Verb::Expire | Verb::HExpire => (1_000, false),
        Verb::PExpire | Verb::HPExpire => (1, false),
        Verb::ExpireAt | Verb::HExpireAt => (1_000, true),
        _ => (1, true),
    };
    let bound_ms = i64::try_from(EXPIRES_IN_MS_MAX).unwrap_or(i64::MAX);
    let ms = number.checked_mul(unit_ms).filter(|ms| *ms <= bound_ms);
    let ms = ms.ok_or(Reply::BadExpiry {
        verb,
        option: verb.manual().name,
        unit_ms: unit_ms.unsigned_abs(),
        is_integer: true,
    })?;
    // What has passed deletes.
    let past = u64::try_from(ms).unwrap_or(0);
    Ok(if is_point { Expires::At(WallMs(past)) } else { Expires::In { ms: past } })
}

impl OnExpiry {
    /// Whether this is one of the options.
    pub(super) fn take(&mut self, option: &[u8]) -> bool {
        let options = [
            (&b"NX"[..], &mut self.if_none),
            (b"XX", &mut self.if_some),
            (b"GT", &mut self.if_later),
            (b"LT", &mut self.if_earlier),
        ];
        let found = options.into_iter().find(|(name, _)| option.eq_ignore_ascii_case(name));
        found.map(|(_, is_on)| *is_on = true).is_some()
    }
}

fn parse_persist<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Persist { key: only_key(verb, words, limits)? })
}

fn parse_exists<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Exists { keys: keys(verb, words, limits)? })
}

fn parse_type<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Type { key: only_key(verb, words, limits)? })
}

fn parse_rename<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, name] = exactly(verb, words)?;
    check_key(key, limits)?;
    check_key(name, limits)?;
    Ok(Command::Rename { key, name, if_absent: verb == Verb::RenameNx })
}

fn parse_copy<'a>(verb: Verb, mut words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let (Some(key), Some(name)) = (words.next(), words.next()) else { return Err(Reply::Usage { verb, hint: false }) };
    check_key(key, limits)?;
    check_key(name, limits)?;
    let mut copy = Copy { key, name, space: None, replaces: false, moves: false };
    while let Some(option) = words.next() {
        if option.eq_ignore_ascii_case(b"REPLACE") {
            copy.replaces = true;
        } else if option.eq_ignore_ascii_case(b"DB") {
            let database = words.next().ok_or(Reply::Syntax(verb))?;
            copy.space = Some(keyspace(verb, database)?);
        } else {
            return Err(Reply::Syntax(verb));
        }
    }
    Ok(Command::Copy(copy))
}

fn parse_move<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [key, database] = exactly(verb, words)?;
    check_key(key, limits)?;
    let space = Some(keyspace(verb, database)?);
    Ok(Command::Copy(Copy { key, name: key, space, replaces: false, moves: true }))
}

fn parse_random_key<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::RandomKey)
}

fn parse_flush<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let how = words.next();
    let is_known = |how: &[u8]| how.eq_ignore_ascii_case(b"ASYNC") || how.eq_ignore_ascii_case(b"SYNC");
    if !how.is_none_or(is_known) || words.next().is_some() {
        return Err(Reply::Syntax(verb));
    }
    Ok(Command::Flush { all: verb == Verb::FlushAll })
}

fn parse_keys<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [pattern] = exactly(verb, words)?;
    check_pattern(pattern)?;
    Ok(Command::Keys { pattern })
}

fn parse_scan<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    scan_options(verb, words, true).map(Command::Scan)
}

fn parse_db_size<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::DbSize)
}
