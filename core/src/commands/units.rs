//! What users are given: commands and subcommands, each with the categories that it is in, computed from the table.

use std::sync::LazyLock;

use super::{Manual, Verb, counters, fields, hashes, keys, manuals, pubsub, sets, strings};
use crate::wire::words::Words;

/// A set of categories, a bit for each of [`CATEGORIES`].
pub(crate) type Categories = u32;

/// As rules have them, in the order of Redis; some are of commands that are not here.
pub(crate) const CATEGORIES: [&str; 21] = [
    "@keyspace",
    "@read",
    "@write",
    "@set",
    "@sortedset",
    "@list",
    "@hash",
    "@string",
    "@bitmap",
    "@hyperloglog",
    "@geo",
    "@stream",
    "@pubsub",
    "@admin",
    "@fast",
    "@slow",
    "@blocking",
    "@dangerous",
    "@connection",
    "@transaction",
    "@scripting",
];

const KEYSPACE: Categories = 1;
const READ: Categories = 1 << 1;
const WRITE: Categories = 1 << 2;
const SET: Categories = 1 << 3;
const HASH: Categories = 1 << 6;
const STRING: Categories = 1 << 7;
const PUBSUB: Categories = 1 << 12;
const ADMIN: Categories = 1 << 13;
const FAST: Categories = 1 << 14;
const SLOW: Categories = 1 << 15;
const BLOCKING: Categories = 1 << 16;
const DANGEROUS: Categories = 1 << 17;
const CONNECTION: Categories = 1 << 18;
const TRANSACTION: Categories = 1 << 19;
const SCRIPTING: Categories = 1 << 20;

/// What only operators do.
const OPERATE: Categories = ADMIN | DANGEROUS;

/// Room for units in a [`UnitSet`].
pub(crate) const UNITS_MAX: usize = 256;

/// A command, or a subcommand of one.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) verb: Verb,
    pub(crate) sub: Option<&'static str>,
    pub(crate) categories: Categories,
}

/// A set of units, by their places in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitSet([u64; UNITS_MAX / 64]);

/// All units, and where those of each command begin.
struct Table {
    units: Vec<Unit>,
    begins: [u8; UNITS_MAX],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let (mut list, mut begins) = (Vec::new(), [0; UNITS_MAX]);
    for manual in manuals() {
        let verb = manual.verb;
        begins[verb as usize] = list.len() as u8;
        list.push(Unit { verb, sub: None, categories: of_command(manual) });
        let subs = verb.subcommands().iter();
        list.extend(subs.map(|(sub, categories)| Unit { verb, sub: Some(*sub), categories: SLOW | categories }));
    }
    debug_assert!(list.len() <= UNITS_MAX, "there is a place for each");
    Table { units: list, begins }
});

/// All of them, those of a command side by side, itself first.
pub(crate) fn units() -> &'static [Unit] {
    &TABLE.units
}

/// The categories of a command as a whole.
pub(crate) fn categories_of(verb: Verb) -> Categories {
    TABLE.units[usize::from(TABLE.begins[verb as usize])].categories
}

/// The place of what `words`, which begin with a name of `verb`, ask for.
pub(crate) fn unit_of(verb: Verb, words: Words<'_>) -> usize {
    let command = usize::from(TABLE.begins[verb as usize]);
    if !verb.has_subcommands() {
        return command;
    }
    let Some(sub) = words.into_iter().nth(1) else { return command };
    let subs = verb.subcommands().iter();
    let at = subs.zip(1..).find(|((name, _), _)| sub.eq_ignore_ascii_case(name.as_bytes()));
    command + at.map_or(0, |(_, at)| at)
}

/// The places of what a rule names: `get`, `config`, which is all of it, or `config|get`.
pub(crate) fn units_named(name: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let manual = Manual::named(parts.next()?)?;
    let (begin, subs) = (usize::from(TABLE.begins[manual.verb as usize]), manual.verb.subcommands());
    let Some(sub) = parts.next() else { return Some(begin..begin + 1 + subs.len()) };
    let at = subs.iter().position(|(name, _)| sub.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(begin + 1 + at..begin + 2 + at)
}

/// The category of that name, in any case.
pub(crate) fn category(name: &[u8]) -> Option<Categories> {
    category_names().position(|known| name.eq_ignore_ascii_case(known.as_bytes())).map(|at| 1 << at)
}

/// All categories, in their order, without the sign of rules.
pub(crate) fn category_names() -> impl Iterator<Item = &'static str> {
    CATEGORIES.iter().map(|signed| signed.trim_start_matches('@'))
}

impl Unit {
    /// As rules and errors name it: `get`, `config|get`.
    pub(crate) fn name(&self) -> String {
        let command = self.verb.manual().name.to_ascii_lowercase();
        self.sub.map_or(command.clone(), |sub| format!("{command}|{sub}"))
    }
}

impl UnitSet {
    pub(crate) const ALL: Self = Self([u64::MAX; UNITS_MAX / 64]);

    pub(crate) const fn has(&self, unit: usize) -> bool {
        self.0[unit / 64] >> (unit % 64) & 1 == 1
    }

    pub(crate) fn put(&mut self, unit: usize, is_in: bool) {
        let (word, bit) = (&mut self.0[unit / 64], 1 << (unit % 64));
        if is_in { *word |= bit } else { *word &= !bit }
    }
}

/// Of a whole command.
fn of_command(manual: &Manual) -> Categories {
    let verb = manual.verb;
    let is_in = |manuals: &[Manual]| manuals.iter().any(|manual| manual.verb == verb);
    let mut categories = if manual.flags.contains(&"fast") { FAST } else { SLOW };
    for (flag, category) in [("readonly", READ), ("write", WRITE), ("admin", OPERATE), ("pubsub", PUBSUB)] {
        categories |= if manual.flags.contains(&flag) { category } else { 0 };
    }
    let groups = [
        (is_in(&strings::MANUALS) || is_in(&counters::MANUALS), STRING),
        (is_in(&hashes::MANUALS) || is_in(&fields::MANUALS), HASH),
        (is_in(&sets::MANUALS), SET),
        (is_in(&keys::MANUALS) || verb == Verb::Object, KEYSPACE),
        (is_in(&pubsub::MANUALS), PUBSUB),
    ];
    categories |= groups.into_iter().filter(|(is_in, _)| *is_in).fold(0, |all, (_, category)| all | category);
    categories
        | match verb {
            Verb::Keys | Verb::FlushDb | Verb::FlushAll | Verb::SwapDb | Verb::Info => DANGEROUS,
            // What they tell is of all keys, or of the machines.
            Verb::Stats | Verb::Peers | Verb::Conflicts => DANGEROUS,
            Verb::Role => OPERATE,
            Verb::Wait | Verb::WaitFor => BLOCKING | CONNECTION,
            Verb::Ping | Verb::Echo | Verb::Select | Verb::Hello | Verb::Auth | Verb::Quit | Verb::Reset => CONNECTION,
            Verb::Client | Verb::Command | Verb::ReadOnly | Verb::ReadWrite | Verb::Token | Verb::Help => CONNECTION,
            Verb::Multi | Verb::Exec | Verb::Discard | Verb::Watch | Verb::Unwatch => TRANSACTION,
            Verb::Script | Verb::Function => SCRIPTING,
            _ => 0,
        }
}

impl Verb {
    /// What its first argument may be, besides `HELP` in some dialects, and in which categories that is; all are slow.
    pub(super) const fn subcommands(self) -> &'static [(&'static str, Categories)] {
        match self {
            Self::Acl => &[
                ("cat", 0),
                ("deluser", OPERATE),
                ("dryrun", OPERATE),
                ("genpass", 0),
                ("getuser", OPERATE),
                ("help", 0),
                ("list", OPERATE),
                ("load", OPERATE),
                ("log", OPERATE),
                ("save", OPERATE),
                ("setuser", OPERATE),
                ("users", OPERATE),
                ("whoami", 0),
            ],
            Self::Client => &[
                ("getname", CONNECTION),
                ("getredir", CONNECTION),
                ("help", CONNECTION),
                ("id", CONNECTION),
                ("info", CONNECTION),
                ("kill", CONNECTION | OPERATE),
                ("list", CONNECTION | OPERATE),
                ("no-evict", CONNECTION | OPERATE),
                ("no-touch", CONNECTION),
                ("pause", CONNECTION | OPERATE),
                ("reply", CONNECTION),
                ("setinfo", CONNECTION),
                ("setname", CONNECTION),
                ("tracking", CONNECTION),
                ("trackinginfo", CONNECTION),
                ("unpause", CONNECTION | OPERATE),
            ],
            Self::Command => &[
                ("count", CONNECTION),
                ("docs", CONNECTION),
                ("getkeys", CONNECTION),
                ("help", CONNECTION),
                ("info", CONNECTION),
                ("list", CONNECTION),
            ],
            Self::Config => {
                &[("get", OPERATE), ("help", 0), ("resetstat", OPERATE), ("rewrite", OPERATE), ("set", OPERATE)]
            }
            Self::Object => &[
                ("encoding", KEYSPACE | READ),
                ("freq", KEYSPACE | READ),
                ("help", KEYSPACE),
                ("idletime", KEYSPACE | READ),
                ("refcount", KEYSPACE | READ),
            ],
            Self::Memory => &[("help", 0), ("usage", READ)],
            Self::Script => &[("exists", SCRIPTING), ("flush", SCRIPTING), ("help", SCRIPTING)],
            Self::Function => &[("flush", SCRIPTING | WRITE), ("help", SCRIPTING)],
            Self::PubSub => &[("channels", PUBSUB), ("help", 0), ("numpat", PUBSUB), ("numsub", PUBSUB)],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_category(name: &str) -> Vec<String> {
        let category = category(name.as_bytes()).expect("it is one");
        units().iter().filter(|unit| unit.categories & category != 0).map(Unit::name).collect()
    }

    #[test]
    fn each_unit_has_a_place_and_is_found_there() {
        assert!(units().len() <= UNITS_MAX && units().iter().all(|unit| (unit.verb as usize) < UNITS_MAX));
        for (at, unit) in units().iter().enumerate() {
            let line = unit.name().replace('|', " ");
            assert_eq!(unit_of(unit.verb, Words::InPlace(line.as_bytes())), at, "{line}");
            let named = units_named(unit.name().to_uppercase().as_bytes()).expect("it has a name");
            assert!(named.start == at && (unit.sub.is_none() || named.len() == 1), "{line}");
            assert!(unit.categories & (FAST | SLOW) != 0 && unit.categories & FAST == 0 || unit.categories & SLOW == 0);
            assert_eq!(unit.verb.has_subcommands(), !unit.verb.subcommands().is_empty(), "{line}");
        }
        for none in ["nothing", "config|nothing", "get|a", "config|get|a", "", "|"] {
            assert!(units_named(none.as_bytes()).is_none(), "{none}");
        }
    }

    #[test]
    fn categories_are_those_of_redis() {
        assert_eq!(in_category("transaction"), ["multi", "exec", "discard", "watch", "unwatch"]);
        for (name, has, has_not) in [
            ("read", "get hget smembers exists keys object|encoding why", "set incr flushall ping object|help"),
            ("write", "set incr hset sadd del flushall getdel", "get subscribe ping config|set"),
            ("dangerous", "keys flushall config|get acl|setuser client|list info", "get client|id acl|whoami auth"),
            ("admin", "config|set acl|load client|kill save forget leave", "acl|whoami client|setname flushall keys"),
            ("connection", "auth hello ping client|id command|count select wait", "get config|get"),
            ("pubsub", "subscribe publish pubsub|channels", "get"),
            ("keyspace", "del ttl scan flushall object|freq", "get hset ping"),
            ("hash", "hget hexpire", "get"),
            ("string", "get incr mset", "hget del"),
            ("set", "sadd sinter", "set"),
            ("blocking", "wait waitfor", "get"),
        ] {
            let all = in_category(name);
            has.split(' ').for_each(|unit| assert!(all.iter().any(|one| one == unit), "{unit} is in {name}"));
            has_not.split(' ').for_each(|unit| assert!(!all.iter().any(|one| one == unit), "{unit} is not in {name}"));
        }
    }
}
