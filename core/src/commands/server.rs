//! The connection and the server.

use super::arguments::{check_pattern, exactly, integer, keys, keyspace, nothing};
use super::clients;
use super::{ADMIN, ALL, FAST, LOADING, Manual, NO_KEYS, NONE, Verb};
use crate::command::{AboutCommands, Command, Credentials, Reply};
use crate::config::Limits;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 17] = [
    Manual {
        verb: Verb::Ping,
        name: "PING",
        aliases: &[],
        arity: -1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_ping,
        usage: "PING [message]",
        summary: "Ask whether the node answers",
        detail: "Answers `PONG`, or the message.",
        example: "PING",
    },
    Manual {
        verb: Verb::Help,
        name: "HELP",
        aliases: &[],
        arity: -1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_help,
        usage: "HELP [command]",
        summary: "Show the commands, or more about one",
        detail: "Without a command: all of them, one a line.",
        example: "HELP SET",
    },
    Manual {
        verb: Verb::Quit,
        name: "QUIT",
        aliases: &["EXIT", "BYE"],
        arity: 1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_quit,
        usage: "QUIT",
        summary: "Close the connection",
        detail: "Answers `OK` and closes the connection. EXIT, BYE and Ctrl-D at the start of a line close it too.",
        example: "QUIT",
    },
    Manual {
        verb: Verb::Echo,
        name: "ECHO",
        aliases: &[],
        arity: 2,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_echo,
        usage: "ECHO message",
        summary: "Answer a message",
        detail: "Answers what it was given.",
        example: "ECHO hello",
    },
    Manual {
        verb: Verb::Select,
        name: "SELECT",
        aliases: &[],
        arity: 2,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_select,
        usage: "SELECT number",
        summary: "Choose one of 16 keyspaces",
        detail: "0 to 15; a connection begins with 0. A key of one has nothing to do with that of another.",
        example: "SELECT 1",
    },
    Manual {
        verb: Verb::Time,
        name: "TIME",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_time,
        usage: "TIME",
        summary: "Tell the time of this node",
        detail: "Answers the seconds since 1970, and the microseconds of the running one.",
        example: "TIME",
    },
    Manual {
        verb: Verb::Hello,
        name: "HELLO",
        aliases: &[],
        arity: -1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_hello,
        usage: "HELLO [protocol [AUTH username password] [SETNAME name]]",
        summary: "Choose the version of the Redis protocol and describe the server",
        detail: "The protocol is 2 or 3; on a line of text it stays what it is.",
        example: "HELLO 3",
    },
    Manual {
        verb: Verb::Reset,
        name: "RESET",
        aliases: &[],
        arity: 1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_reset,
        usage: "RESET",
        summary: "Make the connection as new",
        detail: "Answers `RESET`. The protocol is version 2 again, and the connection has no name.",
        example: "RESET",
    },
    Manual {
        verb: Verb::Client,
        name: "CLIENT",
        aliases: &[],
        arity: -2,
        flags: LOADING,
        keys: NO_KEYS,
        parse: clients::parse,
        usage: "CLIENT ID | INFO | LIST | KILL ... | GETNAME | SETNAME name | PAUSE ms [WRITE | ALL] | ...",
        summary: "Name this connection, and list or end connections",
        detail: "`CLIENT ID` answers a number that no other connection of this node ever has. LIST [TYPE type]\n\
                 [ID id ...] shows the clients of this node, one a line, and INFO this one. KILL ends some: \
                 `KILL ip:port`,\n\
                 or each of ID, ADDR, LADDR, TYPE (NORMAL, PUBSUB, MASTER, REPLICA), USER and SKIPME with what is\n\
                 meant. PAUSE puts off what clients of this node ask for, or only what writes, until the time has\n\
                 passed or UNPAUSE; what comes from other nodes is taken. REPLY ON, OFF and SKIP tell which replies\n\
                 are wanted. SETINFO takes LIB-NAME and LIB-VER. NO-EVICT, NO-TOUCH, TRACKING OFF, GETREDIR and\n\
                 TRACKINGINFO are there for libraries that use them.",
        example: "CLIENT SETNAME worker",
    },
    Manual {
        verb: Verb::Command,
        name: "COMMAND",
        aliases: &[],
        arity: -1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_command,
        usage: "COMMAND [COUNT | LIST | INFO [command ...] | DOCS [command ...] | GETKEYS command ...]",
        summary: "Describe the commands, as Redis clients ask for it",
        detail: "HELP is for people.",
        example: "COMMAND COUNT",
    },
    Manual {
        verb: Verb::Config,
        name: "CONFIG",
        aliases: &[],
        arity: -2,
        flags: ADMIN,
        keys: NO_KEYS,
        parse: parse_config,
        usage: "CONFIG GET pattern [pattern ...] | SET name value [name value ...] | RESETSTAT",
        summary: "Show settings by the names that Redis has for them",
        detail: "Those that this node has, and its options, by their own names where Redis has none. SET changes\n\
                 appendfsync, auto-aof-rewrite-percentage, forget-after, http-host, loglevel, maxclients,\n\
                 notify-keyspace-events and proto-max-bulk-len, until the node is told to read its configuration\n\
                 again; the others are given when it is started, and SET takes for them what they are.\n\
                 RESETSTAT has the counts of INFO begin anew.",
        example: "CONFIG GET max*",
    },
    Manual {
        verb: Verb::Info,
        name: "INFO",
        aliases: &[],
        arity: -1,
        flags: LOADING,
        keys: NO_KEYS,
        parse: parse_info,
        usage: "INFO [section ...]",
        summary: "Describe the node, as Redis clients ask for it",
        detail: "Sections: server, clients, memory, persistence, stats, replication, cluster,\n\
                 keyspace. STATS tells more.",
        example: "INFO server",
    },
    Manual {
        verb: Verb::Multi,
        name: "MULTI",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_transaction,
        usage: "MULTI",
        summary: "Put off the commands that follow, to run them all at once",
        detail: "Each of them answers `QUEUED`; EXEC runs them, DISCARD does not. Nobody else is served between two\n\
                 of them on this node; other nodes take their writes one after the other.",
        example: "MULTI",
    },
    Manual {
        verb: Verb::Exec,
        name: "EXEC",
        aliases: &[],
        arity: 1,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_transaction,
        usage: "EXEC",
        summary: "Run what was put off since MULTI",
        detail: "Answers what each of the commands answers, also if that is an error. Nothing is run if one of them\n\
                 was unknown or had too few words or too many, or if a key that is watched has changed: then the\n\
                 answer is `(none)`.",
        example: "EXEC",
    },
    Manual {
        verb: Verb::Discard,
        name: "DISCARD",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_transaction,
        usage: "DISCARD",
        summary: "Forget what was put off since MULTI",
        detail: "Answers `OK`. Nothing is watched any more.",
        example: "DISCARD",
    },
    Manual {
        verb: Verb::Watch,
        name: "WATCH",
        aliases: &[],
        arity: -2,
        flags: FAST,
        keys: ALL,
        parse: parse_watch,
        usage: "WATCH key [key ...]",
        summary: "Have the next EXEC run nothing if a key has changed by then",
        detail: "Whoever changed it, on whatever node, as this node knows it.",
        example: "WATCH balance",
    },
    Manual {
        verb: Verb::Unwatch,
        name: "UNWATCH",
        aliases: &[],
        arity: 1,
        flags: FAST,
        keys: NO_KEYS,
        parse: parse_transaction,
        usage: "UNWATCH",
        summary: "Watch nothing any more",
        detail: "Answers `OK`.",
        example: "UNWATCH",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

fn parse_ping<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let message = words.next();
    nothing(verb, words)?;
    Ok(message.map_or(Command::Ping, |message| Command::Echo { message }))
}

fn parse_help<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let Some(name) = words.next() else { return Ok(Command::Help { topic: None }) };
    nothing(verb, words)?;
    let topic = Manual::named(name).ok_or(Reply::UnknownCommand { name, rest: Words::InPlace(&[]) })?;
    Ok(Command::Help { topic: Some(topic.verb) })
}

fn parse_quit<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::Quit)
}

fn parse_echo<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [message] = exactly(verb, words)?;
    Ok(Command::Echo { message })
}

fn parse_select<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [number] = exactly(verb, words)?;
    Ok(Command::Select { space: keyspace(verb, number)? })
}

fn parse_time<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::Time)
}

fn parse_hello<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let Some(version) = words.next() else { return Ok(Command::Hello { version: None, name: None, login: None }) };
    let version = match integer(verb, version) {
        Ok(version @ 2..=3) => Some(version == 3),
        Ok(_) => return Err(Reply::NoProtocol),
        Err(_) => return Err(Reply::Error("Protocol version is not an integer or out of range")),
    };
    let (mut name, mut login) = (None, None);
    while let Some(option) = words.next() {
        let wrong = Reply::ErrorAt("Syntax error in HELLO option '", option, "'");
        if option.eq_ignore_ascii_case(b"AUTH") {
            let (user, password) = words.next().zip(words.next()).ok_or(wrong)?;
            login = Some(Credentials { user, password });
        } else if option.eq_ignore_ascii_case(b"SETNAME") {
            name = Some(check_name(words.next().ok_or(wrong)?)?);
        } else {
            return Err(wrong);
        }
    }
    Ok(Command::Hello { version, name, login })
}

fn parse_reset<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words).map(|()| Command::Reset)
}

/// Longest name of a connection.
const NAME_BYTES_MAX: usize = 256;

/// A name that a list of clients can show.
pub(super) fn check_name<'a>(name: &'a [u8]) -> Result<&'a [u8], Reply<'a>> {
    let is_shown = name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    let refusal = "Client names cannot contain spaces, newlines or special characters.";
    if is_shown { Ok(name) } else { Err(Reply::Error(refusal)) }
}

fn parse_transaction<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words)?;
    Ok(match verb {
        Verb::Multi => Command::Multi,
        Verb::Exec => Command::Exec,
        Verb::Discard => Command::Discard,
        _ => Command::Unwatch,
    })
}

fn parse_watch<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Watch { keys: keys(verb, words, limits)? })
}

fn parse_command<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let Some(sub) = words.next() else { return Ok(Command::Commands(AboutCommands::All)) };
    let is = |name: &[u8]| sub.eq_ignore_ascii_case(name);
    let is_last = words.into_iter().next().is_none();
    Ok(Command::Commands(match sub {
        _ if is(b"COUNT") => nothing(verb, words).map(|()| AboutCommands::Count)?,
        _ if is(b"LIST") => nothing(verb, words).map(|()| AboutCommands::List)?,
        _ if is(b"INFO") && is_last => AboutCommands::All,
        _ if is(b"INFO") => AboutCommands::Info(words),
        _ if is(b"GETKEYS") && words.into_iter().nth(1).is_none() => return Err(Reply::Usage { verb, hint: false }),
        _ if is(b"GETKEYS") => AboutCommands::Keys(words),
        _ if is(b"DOCS") && is_last => AboutCommands::AllDocs,
        _ if is(b"DOCS") => AboutCommands::Docs(words),
        _ => return Err(Reply::UnknownSubcommand { verb, sub }),
    }))
}

fn parse_config<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let is = |name: &[u8]| sub.eq_ignore_ascii_case(name);
    if is(b"RESETSTAT") {
        return nothing(verb, words).map(|()| Command::ResetStat);
    }
    if is(b"REWRITE") {
        nothing(verb, words)?;
        let refusal =
            "The file of options is not written here: change it by hand, and send SIGHUP to have it read again";
        return Err(Reply::Error(refusal));
    }
    if is(b"SET") {
        let count = words.into_iter().count();
        let is_pairs = count > 0 && count.is_multiple_of(2);
        return is_pairs.then_some(Command::ConfigSet { settings: words }).ok_or(Reply::Usage { verb, hint: false });
    }
    if !is(b"GET") {
        return Err(Reply::UnknownSubcommand { verb, sub });
    }
    if words.into_iter().next().is_none() {
        return Err(Reply::Usage { verb, hint: false });
    }
    words.into_iter().try_for_each(check_pattern)?;
    Ok(Command::ConfigGet { patterns: words })
}

fn parse_info<'a>(_: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    Ok(Command::Info { sections: words })
}
