//! The node and its cluster.

use super::arguments::{exactly, nothing, number, only_key};
use super::{ADMIN, FIRST, Manual, NO_KEYS, NONE, READ, Verb};
use crate::command::{Command, Reply, WAIT_COPIES_MAX, WAIT_MS_MAX};
use crate::config::Limits;
use crate::conflicts::CONFLICTS_MAX;
use crate::wire::token;
use crate::wire::words::Words;

pub(super) static MANUALS: [Manual; 10] = [
    Manual {
        verb: Verb::Wait,
        name: "WAIT",
        aliases: &[],
        arity: 3,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_wait,
        usage: "WAIT nodes milliseconds",
        summary: "Wait until other nodes hold what this connection wrote",
        detail: "Answers how many other nodes hold the last write of this connection and all before it: as soon as \
                 they are\n\
                 as many as asked for, or when the time has passed; 0 milliseconds: no time limit. A connection \
                 that\n\
                 wrote nothing is told how many nodes are linked. Commands behind it are run after it.",
        example: "WAIT 1 500",
    },
    Manual {
        verb: Verb::Token,
        name: "TOKEN",
        aliases: &[],
        arity: 1,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_word,
        usage: "TOKEN",
        summary: "Name what this connection wrote, for WAITFOR on another node",
        detail: "Answers one word that names the last write of this connection; if it wrote nothing, the newest one \
                 of\n\
                 this node.",
        example: "TOKEN",
    },
    Manual {
        verb: Verb::WaitFor,
        name: "WAITFOR",
        aliases: &[],
        arity: 3,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_wait_for,
        usage: "WAITFOR token milliseconds",
        summary: "Wait until this node holds what a token names",
        detail: "Answers `OK` as soon as this node holds the write that TOKEN named, on whatever node, and all that \
                 the\n\
                 same node wrote before it: what is read here from then on is not older. An error when the time \
                 has\n\
                 passed; 0 milliseconds: no time limit. Commands behind it are run after it.",
        example: "WAITFOR 1a2b3c4d-0123456789abcdef-018bcfe568000000 500",
    },
    Manual {
        verb: Verb::Stats,
        name: "STATS",
        aliases: &[],
        arity: 1,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_word,
        usage: "STATS",
        summary: "Show the state of this node as one line of JSON",
        detail: "  node            the name of this member\n\
                 \x20 origin          this run of the node: the author of what it writes\n\
                 \x20 keys            live values; those whose deadline passed before digest_at are not counted\n\
                 \x20 tombstones      deletions that are remembered, until every member has seen them\n\
                 \x20 oldest_tombstone_ms  age of the oldest of them\n\
                 \x20 expired         values freed a while after their deadline; their keys and versions stay as \
                 long as\n\
                 \x20                 tombstones do\n\
                 \x20 collected       deletions and expired keys that were taken out since the start\n\
                 \x20 folded          what ended runs had added to a counter and is now part of one number, since the \
                 start\n\
                 \x20 gc_blocked_by   who keeps deletions from being forgotten, and what ends that\n\
                 \x20 origins         runs of nodes that every heartbeat names\n\
                 \x20 retired         runs that ended and are known everywhere; no more than retired_max\n\
                 \x20 memory_bytes    memory that the data takes\n\
                 \x20 memory_bytes_max  from where on writes that may make it grow are refused; 0: nowhere\n\
                 \x20 digest          a sum over the live data\n\
                 \x20 digest_at       the time, in ms, at which the digest takes keys to expire: two nodes with the \
                 same\n\
                 \x20                 digest_at have equal digests exactly when their live data is equal\n\
                 \x20 peers           address of each, where it serves clients (clients_at; null: there, or it does \
                 not say), its\n\
                 \x20                 name, and its state: `up`, `catching up` (this node is being sent what it \
                 lacks),\n\
                 \x20                 `greeting`, `clock ahead`, `down` or `unreachable, but reaches this node`;\n\
                 \x20                 lag_records: how far it is behind this node; lag_ms: how long the oldest write \
                 it\n\
                 \x20                 lacks has waited (at the precision of a heartbeat); clock_ms_ahead: how far \
                 its\n\
                 \x20                 clock is ahead of this node's; turned_away: why whoever answers there turned \
                 this\n\
                 \x20                 node away, or was turned away; protocol: the version that is spoken with it\n\
                 \x20 peers_refused   nodes that came by themselves and were turned away, and why the last one was\n\
                 \x20 clock_ms_ahead  how far the clock of this node is ahead of its peers'\n\
                 \x20 not_ready       why clients are not to be sent here, as /readyz tells it; empty: they are\n\
                 \x20 connections     clients connected now\n\
                 \x20 commands        commands run since the start\n\
                 \x20 conflicts       writes that met another one made without knowledge of it\n\
                 \x20 conflicts_kept  of these, what CONFLICTS still lists\n\
                 \x20 scrub           the comparison of this node's data with each peer's: compared: how often; \
                 rounds: how\n\
                 \x20                 often a difference lasted and was looked into; found: entries that were \
                 missing here;\n\
                 \x20                 repaired: those that were put back; unrepairable: those that may have been \
                 deleted\n\
                 \x20                 here, and were left alone: the log names them\n\
                 \x20 disk            null without --data-dir; state: `whole`, `full` or `failed` while writes are\n\
                 \x20                 refused, `recovering` until a new snapshot is there; unsynced_bytes: written\n\
                 \x20                 since the last sync; log_bytes: since the last snapshot, which has\n\
                 \x20                 snapshot_bytes; damaged_places, damaged_bytes: what could not be read at the\n\
                 \x20                 start",
        example: "STATS",
    },
    Manual {
        verb: Verb::Peers,
        name: "PEERS",
        aliases: &[],
        arity: 1,
        flags: NONE,
        keys: NO_KEYS,
        parse: parse_word,
        usage: "PEERS",
        summary: "Show the other nodes and how far they are behind",
        detail: "One line for each peer. turned_away says why whoever answers at its address turned this node away, \
                 or was\nturned away.",
        example: "PEERS",
    },
    Manual {
        verb: Verb::Forget,
        name: "FORGET",
        aliases: &[],
        arity: 2,
        flags: ADMIN,
        keys: NO_KEYS,
        parse: parse_forget,
        usage: "FORGET node",
        summary: "Stop waiting for a node that is gone",
        detail: "Deletes are remembered until every member has seen them; `gc_blocked_by` in `STATS` names those who \
                 keep\n\
                 the others from forgetting. Answers `OK` once the member of that name has no seat any more; others\n\
                 learn of it within a heartbeat. Should the same process come back, it is told so, drops what\n\
                 was deleted meanwhile and keeps what only it ever had. A node that is up cannot be forgotten.",
        example: "FORGET node-c:8080",
    },
    Manual {
        verb: Verb::Leave,
        name: "LEAVE",
        aliases: &[],
        arity: 1,
        flags: ADMIN,
        keys: NO_KEYS,
        parse: parse_word,
        usage: "LEAVE",
        summary: "Take this node out of its cluster before it is stopped for good",
        detail: "It takes no more writes, waits until all nodes that it is linked with hold everything it holds, and\n\
                 gives up its seat. Then it answers `OK`, and may be stopped; started again, it joins as a new node.\n\
                 If the others do not hold everything within a minute it stays, takes writes again, and says so.\n\
                 So does one of them at once if all nodes are asked to leave.",
        example: "LEAVE",
    },
    Manual {
        verb: Verb::Save,
        name: "SAVE",
        aliases: &[],
        arity: 1,
        flags: ADMIN,
        keys: NO_KEYS,
        parse: parse_word,
        usage: "SAVE",
        summary: "Write a snapshot of all data to the disk now",
        detail: "Answers once it has begun; STATS shows when it is whole. A node does this by itself, too,\n\
                 whenever its log has outgrown its data. It needs a node with --data-dir.",
        example: "SAVE",
    },
    Manual {
        verb: Verb::Why,
        name: "WHY",
        aliases: &[],
        arity: 2,
        flags: READ,
        keys: FIRST,
        parse: parse_why,
        usage: "WHY key",
        summary: "Show who wrote a key, and when, and which nodes hold it, as one line of JSON",
        detail: "Also of a key that was deleted or has expired; `Key not found` if this node knows nothing of it.\n\
                 \x20 key          as CONFLICTS shows keys and values\n\
                 \x20 state        `value`, `deleted` or `expired`\n\
                 \x20 value_bytes  the length of the value; null if there is none to read\n\
                 \x20 node         the member that wrote it or deleted it; null if it was never heard of\n\
                 \x20 origin       the run of that member: the `origin` of its STATS then\n\
                 \x20 hlc          the writer's hybrid logical clock, milliseconds and counter: the greater wins\n\
                 \x20 time         its milliseconds as a date, in UTC\n\
                 \x20 ttl_ms       milliseconds until it expires; null if it never does\n\
                 \x20 held_by      the other members that hold it, as they said with their last heartbeat\n\
                 \x20 not_yet      the other members that lack it or are not heard",
        example: "WHY name",
    },
    Manual {
        verb: Verb::Conflicts,
        name: "CONFLICTS",
        aliases: &[],
        arity: -1,
        flags: READ,
        keys: NO_KEYS,
        parse: parse_conflicts,
        usage: "CONFLICTS [count]",
        summary: "Show what lost to a concurrent write, as one line of JSON",
        detail: "An array, newest first, of 10 or of as many as are asked for, up to 1024. Each tells the key, what\n\
                 was lost, and what won over it, both with their writer and time as in WHY. A value is null if a\n\
                 delete was lost, if it has expired since, or if it has more than 64 KiB. Listed are conflicts of\n\
                 this node's own writes, for a day, the newest 1024 and 1 MiB.\n\
                 Once its JSON is decoded, a key or value stands as it does within double quotes in a command: to\n\
                 write it again, put it between them.",
        example: "CONFLICTS 100",
    },
];

/// Conflicts that are shown when no number is given: what fits a screen.
const CONFLICTS_DEFAULT: usize = 10;

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

/// A command that takes nothing.
fn parse_word<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    nothing(verb, words)?;
    Ok(match verb {
        Verb::Token => Command::Token,
        Verb::Peers => Command::Peers,
        Verb::Leave => Command::Leave,
        Verb::Save => Command::Save,
        _ => Command::Stats,
    })
}

fn parse_wait<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [copies, ms] = exactly(verb, words)?;
    let copies = number(copies).filter(|copies| *copies <= WAIT_COPIES_MAX).ok_or(Reply::BadCopies)?;
    Ok(Command::Wait { copies, ms: parse_wait_ms(verb, ms)? })
}

fn parse_wait_for<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [word, ms] = exactly(verb, words)?;
    let token = token::parse(word).ok_or(Reply::BadToken)?;
    Ok(Command::WaitFor { token, ms: parse_wait_ms(verb, ms)? })
}

fn parse_wait_ms<'a>(verb: Verb, digits: &[u8]) -> Result<u64, Reply<'a>> {
    number(digits).filter(|ms| *ms <= WAIT_MS_MAX).ok_or(Reply::BadWait(verb))
}

fn parse_forget<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let [member] = exactly(verb, words)?;
    // Members' names are text; what is none names nobody.
    let member = str::from_utf8(member).map_err(|_| Reply::Usage { verb, hint: false })?;
    Ok(Command::Forget { member })
}

fn parse_why<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    Ok(Command::Why { key: only_key(verb, words, limits)? })
}

fn parse_conflicts<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let Some(word) = words.next() else { return Ok(Command::Conflicts { count: CONFLICTS_DEFAULT }) };
    nothing(verb, words)?;
    let count = number(word).and_then(|number| usize::try_from(number).ok());
    let count = count.filter(|count| (1..=CONFLICTS_MAX).contains(count));
    Ok(Command::Conflicts { count: count.ok_or(Reply::BadConflicts)? })
}
