//! The commands by name, what `HELP` says of them, and the nearest name to a mistyped one.

/// A command without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Set,
    Del,
    Ttl,
    Incr,
    Decr,
    IncrBy,
    DecrBy,
    Wait,
    Token,
    WaitFor,
    Ping,
    Stats,
    Peers,
    Forget,
    Leave,
    Save,
    Why,
    Conflicts,
    Help,
    Quit,
}

/// What is known of one command. Texts of several lines end without a newline.
#[derive(Debug)]
pub(crate) struct Manual {
    verb: Verb,
    pub(crate) name: &'static str,
    aliases: &'static [&'static str],
    pub(crate) usage: &'static str,
    /// One line, for the list.
    pub(crate) summary: &'static str,
    pub(crate) detail: &'static str,
    pub(crate) example: &'static str,
}

/// In the order of [`Verb`], which is the order of the list.
pub(crate) static MANUAL: [Manual; 21] = [
    Manual {
        verb: Verb::Get,
        name: "GET",
        aliases: &[],
        usage: "GET key",
        summary: "Read the value of a key",
        detail: "Answers the value, or `Key not found` if the key is absent, deleted or expired.",
        example: "GET name",
    },
    Manual {
        verb: Verb::Set,
        name: "SET",
        aliases: &[],
        usage: "SET key value [EX seconds | PX milliseconds]",
        summary: "Write the value of a key, with an expiry if wanted",
        detail: "Answers `OK`. Without EX or PX the key never expires, whatever it had before.\n\
                 A key or value with spaces is put in quotes. Within double quotes \\n \\r \\t \\b \\a \
                 \\\" \\\\ and \\xHH\n\
                 (two hex digits) stand for the bytes they name; within single quotes \\' and \\\\ do.",
        example: "SET greeting \"hello world\" EX 60",
    },
    Manual {
        verb: Verb::Del,
        name: "DEL",
        aliases: &["DELETE"],
        usage: "DEL key [key ...]",
        summary: "Delete keys",
        detail: "Answers `OK`, also for keys that do not exist. DELETE is the same.",
        example: "DEL name age",
    },
    Manual {
        verb: Verb::Ttl,
        name: "TTL",
        aliases: &[],
        usage: "TTL key",
        summary: "Tell the seconds until a key expires",
        detail: "Answers the seconds left, rounded; `-1` if the key never expires; `Key not found` if there is none.",
        example: "TTL greeting",
    },
    Manual {
        verb: Verb::Incr,
        name: "INCR",
        aliases: &[],
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
        usage: "DECR key",
        summary: "Take 1 from the number of a key",
        detail: "Answers what is left, as this node knows it. As INCR, the other way.",
        example: "DECR seats",
    },
    Manual {
        verb: Verb::IncrBy,
        name: "INCRBY",
        aliases: &[],
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
        usage: "DECRBY key amount",
        summary: "Take an amount from the number of a key",
        detail: "Answers what is left, as this node knows it. As INCRBY, the other way.",
        example: "DECRBY seats 4",
    },
    Manual {
        verb: Verb::Wait,
        name: "WAIT",
        aliases: &[],
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
        verb: Verb::Ping,
        name: "PING",
        aliases: &[],
        usage: "PING",
        summary: "Ask whether the node answers",
        detail: "Answers `PONG`.",
        example: "PING",
    },
    Manual {
        verb: Verb::Stats,
        name: "STATS",
        aliases: &[],
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
                 \x20 digest          a sum over the live data\n\
                 \x20 digest_at       the time, in ms, at which the digest takes keys to expire: two nodes with the \
                 same\n\
                 \x20                 digest_at have equal digests exactly when their live data is equal\n\
                 \x20 peers           address, name and state of each: `up`, `catching up` (this node is being sent \
                 what it\n\
                 \x20                 lacks), `greeting`, `clock ahead`, `down` or `unreachable, but reaches \
                 this node`;\n\
                 \x20                 lag_records: how far it is behind this node; lag_ms: how long the oldest write \
                 it\n\
                 \x20                 lacks has waited (at the precision of a heartbeat); clock_ms_ahead: how far \
                 its\n\
                 \x20                 clock is ahead of this node's\n\
                 \x20 clock_ms_ahead  how far the clock of this node is ahead of its peers'\n\
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
        usage: "PEERS",
        summary: "Show the other nodes and how far they are behind",
        detail: "One line for each peer.",
        example: "PEERS",
    },
    Manual {
        verb: Verb::Forget,
        name: "FORGET",
        aliases: &[],
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
    Manual {
        verb: Verb::Help,
        name: "HELP",
        aliases: &[],
        usage: "HELP [command]",
        summary: "Show the commands, or more about one",
        detail: "Without a command: all of them, one a line.",
        example: "HELP SET",
    },
    Manual {
        verb: Verb::Quit,
        name: "QUIT",
        aliases: &["EXIT", "BYE"],
        usage: "QUIT",
        summary: "Close the connection",
        detail: "Answers `OK` and closes the connection. EXIT, BYE and Ctrl-D at the start of a line close it too.",
        example: "QUIT",
    },
];

impl Verb {
    /// The command of that name, in any case.
    pub(crate) fn named(word: &[u8]) -> Option<Self> {
        MANUAL
            .iter()
            .find(|manual| manual.names().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
            .map(|m| m.verb)
    }

    pub(crate) fn manual(self) -> &'static Manual {
        &MANUAL[self as usize]
    }
}

impl Manual {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// The command that was likely meant by `word`, which names none.
pub(crate) fn nearest(word: &[u8]) -> Option<&'static str> {
    // Every three letters are two edits from some name, and aliases would draw in the commands of other stores
    // (EXISTS, TYPE): one edit for those.
    let name_edits_max = if word.len() > 3 { 2 } else { 1 };
    MANUAL
        .iter()
        .flat_map(|manual| {
            let aliases = manual.aliases.iter().map(|alias| (*alias, 1));
            std::iter::once((manual.name, name_edits_max)).chain(aliases)
        })
        .filter_map(|(name, edits_max)| {
            let edits = edit_distance(word, name.as_bytes())?;
            (edits <= edits_max).then_some((edits, name))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Longest name plus two: what is longer is further away than anything that is suggested.
const WORD_BYTES_MAX: usize = 11;

/// Insertions, deletions, substitutions and swaps of neighbours that turn `word` into `name`, ignoring case
/// (optimal string alignment). None if `word` is too long to be near any name.
fn edit_distance(word: &[u8], name: &[u8]) -> Option<usize> {
    if word.len() > WORD_BYTES_MAX || name.len() > WORD_BYTES_MAX {
        return None;
    }
    let mut rows = [[0; WORD_BYTES_MAX + 1]; WORD_BYTES_MAX + 1];
    for (column, cell) in rows[0].iter_mut().enumerate() {
        *cell = column;
    }
    for row in 1..=word.len() {
        rows[row][0] = row;
        for column in 1..=name.len() {
            let same = |back_row: usize, back_column: usize| {
                word[row - back_row].eq_ignore_ascii_case(&name[column - back_column])
            };
            let kept_or_substituted = rows[row - 1][column - 1] + usize::from(!same(1, 1));
            let mut edits = kept_or_substituted.min(rows[row - 1][column] + 1).min(rows[row][column - 1] + 1);
            if row > 1 && column > 1 && same(1, 2) && same(2, 1) {
                edits = edits.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = edits;
        }
    }
    Some(rows[word.len()][name.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_is_in_the_order_of_the_verbs() {
        for (index, manual) in MANUAL.iter().enumerate() {
            assert_eq!(manual.verb as usize, index);
            assert_eq!(Verb::named(manual.name.to_lowercase().as_bytes()), Some(manual.verb));
            assert!(manual.usage.starts_with(manual.name) && manual.example.starts_with(manual.name));
            assert!(manual.names().all(|name| name.len() + 2 <= WORD_BYTES_MAX));
        }
    }

    #[test]
    fn a_mistyped_name_finds_the_command_and_another_word_none() {
        for (word, name) in [
            ("GTE", "GET"),
            ("get1", "GET"),
            ("STE", "SET"),
            ("SETT", "SET"),
            ("DLETE", "DELETE"),
            ("DELT", "DEL"),
            ("PNIG", "PING"),
            ("HLPE", "HELP"),
            ("STATUS", "STATS"),
            ("EXTI", "EXIT"),
            ("PEER", "PEERS"),
            ("HWY", "WHY"),
            ("CONFLICT", "CONFLICTS"),
        ] {
            assert_eq!(nearest(word.as_bytes()), Some(name), "{word}");
        }
        for word in ["", "X", "FOO", "EXISTS", "TYPE", "KEYS", "HGETALL", "\u{1f980}", "GETGETGETGET"] {
            assert_eq!(nearest(word.as_bytes()), None, "{word}");
        }
    }
}
