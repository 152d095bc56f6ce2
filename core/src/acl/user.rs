//! A user: the rules that made it, and what they come to.

use std::fmt::Write as _;

use super::phc;
use crate::commands::{UnitSet, category, units, units_named};
use crate::execute::matches_within;

/// Longest name of a user, and longest password.
pub(crate) const NAME_BYTES_MAX: usize = 128;
pub(crate) const PASSWORD_BYTES_MAX: usize = 512;

/// Passwords of one user: one, and the next one while clients change over, and some to spare. A login may try them all.
pub(crate) const HASHES_MAX: usize = 8;

/// Patterns of one user for keys, and as many for channels: each key of a command is held against all of them.
const PATTERNS_MAX: usize = 256;

/// Longest of those.
const PATTERN_BYTES_MAX: usize = 512;

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Box<str>,
    pub(crate) is_on: bool,
    /// Any password will do, or none.
    pub(crate) is_open: bool,
    /// Its passwords, hashed.
    pub(crate) hashes: Vec<Box<str>>,
    commands: Commands,
    keys: Vec<KeyPattern>,
    channels: Vec<Box<[u8]>>,
}

/// The commands that a user may give.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commands {
    units: UnitSet,
    /// All were given before `rules`, which came to that.
    begins_with_all: bool,
    rules: Vec<Box<str>>,
}

/// Keys that a user may use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    pattern: Box<[u8]>,
    needs: Needs,
}

/// What is done to a key; as a right, what may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

/// Why a rule is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleError {
    Syntax,
    Unknown,
    KeysAfterAll,
    ChannelsAfterAll,
    NotHashed,
    NoSuchPassword,
    BadPassword,
    TooMany,
    TooLong,
    Selector,
}

impl RuleError {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Syntax => "Syntax error",
            Self::Unknown => "Unknown command or category name in ACL",
            Self::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            Self::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Self::NotHashed => {
                "The password hash must be an argon2id hash of at most 256 MiB and 10 passes, as ACL GETUSER shows them"
            }
            Self::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            Self::BadPassword => "A password has 1 to 512 bytes",
            Self::TooMany => "A user has at most 8 passwords, 256 key patterns and 256 channel patterns",
            Self::TooLong => "A pattern has at most 512 bytes",
            Self::Selector => "Selectors are not supported here; give the rights to a user of its own",
        }
    }
}

impl Needs {
    pub(crate) const NOTHING: Self = Self { reads: false, writes: false };
    pub(crate) const READ: Self = Self { reads: true, writes: false };
    pub(crate) const WRITE: Self = Self { reads: false, writes: true };
    pub(crate) const BOTH: Self = Self { reads: true, writes: true };

    const fn covers(self, other: Self) -> bool {
        (self.reads || !other.reads) && (self.writes || !other.writes)
    }
}

impl User {
    /// One that may do nothing, until rules say more.
    pub(crate) fn new(name: &str) -> Self {
        let commands = Commands { units: UnitSet::default(), begins_with_all: false, rules: Vec::new() };
        let (hashes, keys, channels) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), is_on: false, is_open: false, hashes, commands, keys, channels }
    }

    /// The one that everybody is who has not logged in as another, as long as nobody locks the door.
    pub(crate) fn default_user() -> Self {
        let mut user = Self::new(super::DEFAULT);
        (user.is_on, user.is_open) = (true, true);
        user.give_everything();
        user
    }

    pub(crate) fn give_everything(&mut self) {
        self.keys = vec![KeyPattern { pattern: (*b"*").into(), needs: Needs::BOTH }];
        self.channels = vec![(*b"*").into()];
        self.commands = Commands { units: UnitSet::ALL, begins_with_all: true, rules: Vec::new() };
    }

    /// Whether nothing of what it does has to be looked at.
    pub(crate) fn is_free(&self) -> bool {
        self.commands.units == UnitSet::ALL && self.has_all_keys() && self.has_all_channels()
    }

    pub(crate) fn has_all_keys(&self) -> bool {
        self.keys.iter().any(|key| *key.pattern == *b"*" && key.needs == Needs::BOTH)
    }

    pub(crate) fn has_all_channels(&self) -> bool {
        self.channels.iter().any(|pattern| **pattern == *b"*")
    }

    pub(crate) fn may_run(&self, unit: usize) -> bool {
        self.commands.units.has(unit)
    }

    pub(crate) fn may_use(&self, key: &[u8], needs: Needs) -> bool {
        self.keys.iter().any(|with| with.needs.covers(needs) && is_match(&with.pattern, key))
    }

    /// Whether it may read whatever begins with `prefix`, as one of its patterns says plainly.
    pub(crate) fn may_read_below(&self, prefix: &[u8]) -> bool {
        self.keys.iter().filter(|with| with.needs.reads).any(|with| {
            let Some((b'*', literal)) = with.pattern.split_last() else { return false };
            !literal.iter().any(|byte| b"*?[]\\".contains(byte)) && prefix.starts_with(literal)
        })
    }

    pub(crate) fn may_hear(&self, channel: &[u8]) -> bool {
        self.channels.iter().any(|pattern| is_match(pattern, channel))
    }

    /// Whether it may subscribe to a pattern: to those that it was given, letter by letter, as in Redis.
    pub(crate) fn may_hear_all(&self, pattern: &[u8]) -> bool {
        self.has_all_channels() || self.channels.iter().any(|own| **own == *pattern)
    }

    /// Applies one rule. Those that have a password in them are no business of this: it has to be hashed first.
    pub(crate) fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        let is = |name: &str| rule.eq_ignore_ascii_case(name.as_bytes());
        match rule {
            _ if is("on") => self.is_on = true,
            _ if is("off") => self.is_on = false,
            _ if is("nopass") => (self.is_open, self.hashes) = (true, Vec::new()),
            _ if is("resetpass") => (self.is_open, self.hashes) = (false, Vec::new()),
            _ if is("allkeys") => self.give_keys(b"*", Needs::BOTH)?,
            _ if is("resetkeys") => self.keys.clear(),
            _ if is("allchannels") => self.give_channels(b"*")?,
            _ if is("resetchannels") => self.channels.clear(),
            _ if is("allcommands") => self.commands.begin(true),
            _ if is("nocommands") => self.commands.begin(false),
            _ if is("reset") => *self = Self::new(&self.name),
            // Nothing is ever restored from a payload, and there are no selectors.
            _ if is("sanitize-payload") || is("skip-sanitize-payload") || is("clearselectors") => {}
            [b'~', pattern @ ..] => self.give_keys(pattern, Needs::BOTH)?,
            [b'%', rest @ ..] => {
                let at = rest.iter().position(|byte| *byte == b'~').ok_or(RuleError::Syntax)?;
                let mut needs = Needs::NOTHING;
                for letter in &rest[..at] {
                    match letter.to_ascii_uppercase() {
                        b'R' if !needs.reads => needs.reads = true,
                        b'W' if !needs.writes => needs.writes = true,
                        _ => return Err(RuleError::Syntax),
                    }
                }
                if needs == Needs::NOTHING {
                    return Err(RuleError::Syntax);
                }
                self.give_keys(&rest[at + 1..], needs)?;
            }
            [b'&', pattern @ ..] => self.give_channels(pattern)?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => self.commands.change_category(*sign == b'+', name)?,
            [sign @ (b'+' | b'-'), name @ ..] => self.commands.change(*sign == b'+', name)?,
            [b'#', hash @ ..] => self.give_hash(hash)?,
            [b'!', hash @ ..] => {
                let at = self.hashes.iter().position(|own| own.as_bytes() == hash);
                self.hashes.remove(at.ok_or(RuleError::NoSuchPassword)?);
            }
            [b'(', ..] => return Err(RuleError::Selector),
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn give_hash(&mut self, hash: &[u8]) -> Result<(), RuleError> {
        let hash = phc::checked(hash).ok_or(RuleError::NotHashed)?;
        if !self.hashes.iter().any(|own| **own == *hash) {
            if self.hashes.len() >= HASHES_MAX {
                return Err(RuleError::TooMany);
            }
            self.hashes.push(hash.into());
        }
        self.is_open = false;
        Ok(())
    }

    fn give_keys(&mut self, pattern: &[u8], needs: Needs) -> Result<(), RuleError> {
        if self.has_all_keys() {
            return if pattern == b"*" { Ok(()) } else { Err(RuleError::KeysAfterAll) };
        }
        check_pattern(pattern)?;
        if pattern == b"*" && needs == Needs::BOTH {
            self.keys.clear();
        }
        let pattern: Box<[u8]> = pattern.into();
        if let Some(own) = self.keys.iter_mut().find(|own| own.pattern == pattern) {
            own.needs = Needs { reads: own.needs.reads || needs.reads, writes: own.needs.writes || needs.writes };
            return Ok(());
        }
        if self.keys.len() >= PATTERNS_MAX {
            return Err(RuleError::TooMany);
        }
        self.keys.push(KeyPattern { pattern, needs });
        Ok(())
    }

    fn give_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.has_all_channels() {
            return if pattern == b"*" { Ok(()) } else { Err(RuleError::ChannelsAfterAll) };
        }
        check_pattern(pattern)?;
        if pattern == b"*" {
            self.channels.clear();
        }
        let pattern: Box<[u8]> = pattern.into();
        if !self.channels.contains(&pattern) {
            if self.channels.len() >= PATTERNS_MAX {
                return Err(RuleError::TooMany);
            }
            self.channels.push(pattern);
        }
        Ok(())
    }

    /// The flags that `ACL GETUSER` shows.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static str> {
        [Some(if self.is_on { "on" } else { "off" }), self.is_open.then_some("nopass")].into_iter().flatten()
    }

    /// The rules that come to its commands, ...
    pub(crate) fn commands(&self) -> String {
        let mut text = String::from(if self.commands.begins_with_all { "+@all" } else { "-@all" });
        for rule in &self.commands.rules {
            text.push(' ');
            text.push_str(rule);
        }
        text
    }

    /// ... to its keys, ...
    pub(crate) fn keys(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for KeyPattern { pattern, needs } in &self.keys {
            let kind: &[u8] = match needs {
                Needs { reads: true, writes: false } => b"%R~",
                Needs { reads: false, writes: true } => b"%W~",
                _ => b"~",
            };
            push_word(&[kind, pattern], &mut text);
        }
        text
    }

    /// ... and to its channels.
    pub(crate) fn channels(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.channels.iter().for_each(|pattern| push_word(&[b"&", pattern], &mut text));
        text
    }

    /// The line of it in an ACL file, without its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut text = format!("user {}", self.name);
        for word in self.flags() {
            // Writing to a string cannot fail.
            let _ = write!(text, " {word}");
        }
        self.hashes.iter().for_each(|hash| text.push_str(&format!(" #{hash}")));
        let mut line = text.into_bytes();
        for part in [self.keys(), if self.has_all_channels() { Vec::new() } else { b"resetchannels".to_vec() }] {
            push_word(&[&part], &mut line);
        }
        push_word(&[&self.channels()], &mut line);
        push_word(&[self.commands().as_bytes()], &mut line);
        line
    }
}

impl Commands {
    fn begin(&mut self, with_all: bool) {
        let units = if with_all { UnitSet::ALL } else { UnitSet::default() };
        *self = Self { units, begins_with_all: with_all, rules: Vec::new() };
    }

    fn change_category(&mut self, gives: bool, name: &[u8]) -> Result<(), RuleError> {
        if name.eq_ignore_ascii_case(b"all") {
            self.begin(gives);
            return Ok(());
        }
        let category = category(name).ok_or(RuleError::Unknown)?;
        for (at, unit) in units().iter().enumerate() {
            if unit.categories & category != 0 {
                self.units.put(at, gives);
            }
        }
        self.note(gives, &format!("@{}", shown(name)), false);
        Ok(())
    }

    fn change(&mut self, gives: bool, name: &[u8]) -> Result<(), RuleError> {
        let named = units_named(name).ok_or(RuleError::Unknown)?;
        let unit = units()[named.start].name();
        named.for_each(|at| self.units.put(at, gives));
        self.note(gives, &unit, true);
        Ok(())
    }

    /// Keeps a rule, and none before it that it makes void: of the same name, or of a part of the same command.
    fn note(&mut self, gives: bool, name: &str, is_command: bool) {
        self.rules.retain(|rule| match rule[1..].strip_prefix(name) {
            Some(rest) => !(rest.is_empty() || is_command && rest.starts_with('|')),
            None => true,
        });
        self.rules.push(format!("{}{name}", if gives { '+' } else { '-' }).into());
    }
}

/// No line of a file can have what ends a word or the line.
fn check_pattern(pattern: &[u8]) -> Result<(), RuleError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(RuleError::TooLong);
    }
    let is_word = !pattern.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    if is_word { Ok(()) } else { Err(RuleError::Syntax) }
}

/// What a pattern may take for a key is bounded: who may write `*a*a*a*` gets it, and a long key that would have
/// everybody wait is not matched.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    if pattern == b"*" {
        return true;
    }
    let mut steps = 1_024 + 16 * (pattern.len() + text.len()) as u64;
    matches_within(pattern, text, &mut steps) == Some(true)
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// Appends a word of these parts, behind a space if it is not the first; none if they are empty.
fn push_word(parts: &[&[u8]], text: &mut Vec<u8>) {
    if parts.iter().all(|part| part.is_empty()) {
        return;
    }
    if !text.is_empty() {
        text.push(b' ');
    }
    parts.iter().for_each(|part| text.extend_from_slice(part));
}

#[cfg(test)]
mod tests;
