//! The commands: one table that feeds the parsers, `HELP`, `COMMAND`, the usage lines and the nearest name to a
//! mistyped one, in every dialect.

mod acl;
mod arguments;
mod clients;
mod cluster;
mod counters;
mod fields;
mod hashes;
mod inspection;
mod keys;
mod names;
mod pubsub;
mod server;
mod sets;
mod strings;
mod units;

use crate::command::{Command, Reply};
use crate::config::Limits;
use crate::wire::words::Words;
pub(crate) use units::{
    CATEGORIES, Unit, UnitSet, categories_of, category, category_names, unit_of, units, units_named,
};

/// A command without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Set,
    SetNx,
    SetEx,
    PSetEx,
    GetSet,
    GetDel,
    GetEx,
    MGet,
    MSet,
    MSetNx,
    Append,
    StrLen,
    GetRange,
    SetRange,
    Del,
    Ttl,
    PTtl,
    ExpireTime,
    PExpireTime,
    Expire,
    PExpire,
    ExpireAt,
    PExpireAt,
    Persist,
    Exists,
    Touch,
    Type,
    Rename,
    RenameNx,
    Copy,
    Move,
    FlushDb,
    FlushAll,
    RandomKey,
    Keys,
    Scan,
    DbSize,
    Incr,
    Decr,
    IncrBy,
    DecrBy,
    IncrByFloat,
    HSet,
    HMSet,
    HSetNx,
    HGet,
    HMGet,
    HGetAll,
    HKeys,
    HVals,
    HDel,
    HLen,
    HExists,
    HStrLen,
    HIncrBy,
    HIncrByFloat,
    HRandField,
    HScan,
    HExpire,
    HPExpire,
    HExpireAt,
    HPExpireAt,
    HPersist,
    HTtl,
    HPTtl,
    HExpireTime,
    HPExpireTime,
    SAdd,
    SRem,
    SIsMember,
    SMIsMember,
    SMembers,
    SCard,
    SPop,
    SRandMember,
    SMove,
    SInter,
    SInterStore,
    SInterCard,
    SUnion,
    SUnionStore,
    SDiff,
    SDiffStore,
    SScan,
    Wait,
    Token,
    WaitFor,
    Stats,
    Peers,
    Forget,
    Leave,
    Save,
    Why,
    Conflicts,
    Ping,
    Help,
    Quit,
    Echo,
    Select,
    Time,
    Hello,
    Auth,
    ReadOnly,
    ReadWrite,
    Role,
    SwapDb,
    Object,
    Memory,
    Script,
    Function,
    Subscribe,
    Unsubscribe,
    PSubscribe,
    PUnsubscribe,
    Publish,
    PubSub,
    Reset,
    Client,
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Command,
    Config,
    Info,
    Acl,
}

/// What is known of one command. Texts of several lines end without a newline.
#[derive(Debug)]
pub(crate) struct Manual {
    pub(crate) verb: Verb,
    pub(crate) name: &'static str,
    aliases: &'static [&'static str],
    /// How many words it takes, its name among them; negative: at least so many.
    pub(crate) arity: i8,
    /// As `COMMAND` names them.
    pub(crate) flags: &'static [&'static str],
    pub(crate) keys: KeyWords,
    parse: for<'a> fn(Verb, Words<'a>, &Limits) -> Result<Command<'a>, Reply<'a>>,
    pub(crate) usage: &'static str,
    /// One line, for the list.
    pub(crate) summary: &'static str,
    pub(crate) detail: &'static str,
    pub(crate) example: &'static str,
}

/// Which words of a command are keys: the first, the last (negative: counted from the end), and the step between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyWords {
    pub(crate) first: i8,
    pub(crate) last: i8,
    pub(crate) step: i8,
}

const NO_KEYS: KeyWords = KeyWords { first: 0, last: 0, step: 0 };
const FIRST: KeyWords = KeyWords { first: 1, last: 1, step: 1 };
const BOTH: KeyWords = KeyWords { first: 1, last: 2, step: 1 };
const PAIRS: KeyWords = KeyWords { first: 1, last: -1, step: 2 };
const ALL: KeyWords = KeyWords { first: 1, last: -1, step: 1 };

/// Behind the name of a subcommand.
const FIRST_ARGUMENT: KeyWords = KeyWords { first: 2, last: 2, step: 1 };

const NONE: &[&str] = &[];
const FAST: &[&str] = &["fast"];
const READ: &[&str] = &["readonly"];
const READ_FAST: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
/// Of what is run also when all memory is taken that may be. As in Redis, but for what moves a value: the mark that is
/// left where it was may stay for as long as a member is away.
const FREE: &[&str] = &["write"];
const FREE_FAST: &[&str] = &["write", "fast"];
const ADMIN: &[&str] = &["admin"];
/// Answered also while data is loaded.
const LOADING: &[&str] = &["loading", "stale"];

/// All commands, in the order of the list.
pub(crate) fn manuals() -> impl Iterator<Item = &'static Manual> {
    let groups: [&[Manual]; 11] = [
        &strings::MANUALS,
        &keys::MANUALS,
        &counters::MANUALS,
        &hashes::MANUALS,
        &fields::MANUALS,
        &sets::MANUALS,
        &cluster::MANUALS,
        &server::MANUALS,
        &inspection::MANUALS,
        &pubsub::MANUALS,
        &acl::MANUALS,
    ];
    groups.into_iter().flatten()
}

/// What was asked for, and the command or the reply to words that spell none.
pub(crate) type Parsed<'a> = (Option<Verb>, Result<Command<'a>, Reply<'a>>);

/// The command that `words` spell, or the reply to words that spell none. None: no words, no reply.
#[inline(always)]
pub(crate) fn parse<'a>(words: Words<'a>, limits: &Limits) -> Option<Parsed<'a>> {
    let mut rest = words;
    let name = rest.next()?;
    let Some(manual) = Manual::named(name) else { return Some((None, Err(Reply::UnknownCommand { name, rest }))) };
    let verb = manual.verb;
    let asks_for_help = || {
        let mut words = rest;
        words.next().is_some_and(|sub| sub.eq_ignore_ascii_case(b"HELP")) && words.next().is_none()
    };
    let mut parsed = if verb.has_subcommands() && asks_for_help() {
        Ok(Command::Help { topic: Some(verb) })
    } else {
        (manual.parse)(verb, rest, limits)
    };
    if let Err(Reply::Usage { verb, hint }) = parsed {
        parsed = Err(Reply::Misused { verb, hint, words });
    }
    Some((Some(verb), parsed))
}

/// Whether `reply` says that `words` spell no command, or too few or too many words for one.
pub(crate) fn is_misspelt(reply: &Reply<'_>, words: Words<'_>) -> bool {
    match reply {
        Reply::UnknownCommand { .. } | Reply::UnknownSubcommand { .. } => true,
        Reply::Misused { verb, .. } => {
            let (arity, count) = (verb.manual().arity, words.count());
            let least = usize::from(arity.unsigned_abs());
            count < least || (arity > 0 && count > least) || verb.has_subcommands()
        }
        _ => false,
    }
}

impl Verb {
    pub(crate) fn manual(self) -> &'static Manual {
        manuals().find(|manual| manual.verb == self).unwrap_or(&strings::MANUALS[0])
    }

    /// The group in which Redis lists it.
    pub(crate) fn group(self) -> &'static str {
        let is_in = |manuals: &[Manual]| manuals.iter().any(|manual| manual.verb == self);
        match self {
            Self::Multi | Self::Exec | Self::Discard | Self::Watch | Self::Unwatch => "transactions",
            Self::Ping | Self::Echo | Self::Select | Self::Hello | Self::Auth | Self::Reset | Self::Client => {
                "connection"
            }
            Self::Quit => "connection",
            Self::ReadOnly | Self::ReadWrite => "cluster",
            Self::Script | Self::Function => "scripting",
            Self::Object | Self::Wait | Self::WaitFor | Self::Token | Self::Why | Self::Conflicts => "generic",
            _ if is_in(&strings::MANUALS) || is_in(&counters::MANUALS) => "string",
            Self::DbSize => "server",
            _ if is_in(&hashes::MANUALS) || is_in(&fields::MANUALS) => "hash",
            _ if is_in(&sets::MANUALS) => "set",
            _ if is_in(&pubsub::MANUALS) => "pubsub",
            _ if is_in(&keys::MANUALS) => "generic",
            _ => "server",
        }
    }

    /// Whether it may make the data grow.
    pub(crate) fn may_grow(self) -> bool {
        self.manual().flags.contains(&"denyoom")
    }

    /// Whether its first argument says what is wanted of it.
    pub(crate) const fn has_subcommands(self) -> bool {
        matches!(
            self,
            Self::Acl
                | Self::Client
                | Self::Command
                | Self::Config
                | Self::Object
                | Self::Memory
                | Self::Script
                | Self::Function
                | Self::PubSub
        )
    }
}

impl Manual {
    /// The command of that name, in any case.
    pub(crate) fn named(word: &[u8]) -> Option<&'static Self> {
        names::find(word)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

impl KeyWords {
    /// Those of `words`, which begin with the name of the command, that are keys. None: it takes none.
    pub(crate) fn of<'a>(self, words: Words<'a>) -> Option<impl Iterator<Item = &'a [u8]>> {
        let count = words.into_iter().count();
        let first = usize::try_from(self.first).ok().filter(|first| *first > 0)?;
        let last = match usize::try_from(self.last) {
            Ok(last) => last,
            Err(_) => count.saturating_sub(usize::from(self.last.unsigned_abs())),
        };
        let step = usize::from(self.step.unsigned_abs()).max(1);
        Some(words.skip(first).take((last + 1).saturating_sub(first)).step_by(step))
    }
}

/// The command that was likely meant by `word`, which names none.
pub(crate) fn nearest(word: &[u8]) -> Option<&'static str> {
    // Every three letters are two edits from some name, and aliases would draw in the commands of other stores
    // (EXISTS, TYPE): one edit for those.
    let name_edits_max = if word.len() > 3 { 2 } else { 1 };
    manuals()
        .flat_map(|manual| {
            let aliases = manual.aliases.iter().map(|alias| (*alias, 1));
            std::iter::once((manual.name, name_edits_max)).chain(aliases)
        })
        .filter_map(|(name, edits_max)| {
            let edits = edit_distance(word, name.as_bytes())?;
            (edits <= edits_max).then_some((edits, name))
        })
        .min_by_key(|(edits, name)| {
            // Who mistypes begins right, mostly.
            let begins_alike = word.first().is_some_and(|first| first.eq_ignore_ascii_case(&name.as_bytes()[0]));
            // Of two that are as near it is the one of the same letters.
            (*edits, !begins_alike, letters(word) != letters(name.as_bytes()))
        })
        .map(|(_, name)| name)
}

/// The letters of a name or a word that is near one, in any order.
fn letters(word: &[u8]) -> Vec<u8> {
    let mut letters = word.to_ascii_uppercase();
    letters.sort_unstable();
    letters
}

/// Longest name plus two: what is longer is further away than anything that is suggested.
const WORD_BYTES_MAX: usize = 14;

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
    fn each_command_is_found_by_its_names_and_shows_itself() {
        let mut names = std::collections::BTreeSet::new();
        for manual in manuals() {
            assert!(manual.usage.starts_with(manual.name) && manual.example.starts_with(manual.name), "{manual:?}");
            assert_eq!(manual.verb.manual().name, manual.name);
            for name in manual.names() {
                assert!(names.insert(name), "{name} is there twice");
                assert_eq!(Manual::named(name.to_lowercase().as_bytes()).map(|found| found.name), Some(manual.name));
                assert!(name.len() + 2 <= WORD_BYTES_MAX, "{name}");
            }
        }
    }

    #[test]
    fn each_command_takes_as_many_words_as_its_table_says() {
        for manual in manuals() {
            let few = "x ".repeat(usize::from(manual.arity.unsigned_abs()) - 1);
            let is_usage = |text: &str| {
                let parsed = parse(Words::InPlace(text.as_bytes()), &Limits::default());
                matches!(parsed, Some((_, Err(Reply::Misused { .. }))))
            };
            assert!(!is_usage(&format!("{} {few}", manual.name)), "{}", manual.name);
            if manual.arity.abs() > 1 {
                assert!(is_usage(&format!("{} {}", manual.name, &few[2..])), "{} with fewer words", manual.name);
            }
            if manual.arity > 0 {
                assert!(is_usage(&format!("{} {few} x", manual.name)), "{} with more words", manual.name);
            }
        }
    }

    #[test]
    fn each_command_that_its_table_says_so_of_is_run_while_data_is_loaded() {
        for manual in manuals() {
            let parsed = parse(Words::InPlace(manual.example.as_bytes()), &Limits::default());
            let is_run = matches!(parsed, Some((_, Ok(command))) if command.is_run_while_loading());
            assert_eq!(is_run, manual.flags == LOADING, "{}", manual.name);
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
            ("EXIST", "EXISTS"),
            ("PEER", "PEERS"),
            ("HWY", "WHY"),
            ("CONFLICT", "CONFLICTS"),
        ] {
            assert_eq!(nearest(word.as_bytes()), Some(name), "{word}");
        }
        for word in ["", "X", "FOO", "ZREVRANGE", "\u{1f980}", "GETGETGETGET"] {
            assert_eq!(nearest(word.as_bytes()), None, "{word}");
        }
    }
}
