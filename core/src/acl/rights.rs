//! What a connection may do: looked up once a command, for all but those who may do everything.

use std::sync::Arc;

use super::user::{Needs, User};
use super::{DEFAULT, STRANGER_ARGS_MAX};
use crate::command::{Command, Reply, Write};
use crate::commands::{Unit, Verb, is_misspelt, unit_of, units};
use crate::pubsub::Topic;
use crate::wire::words::Words;

/// Who a connection is. The default is a stranger, who may log in and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Nothing of what it does has to be looked at.
    is_free: bool,
    user: Option<Arc<User>>,
}

/// Why a command is not run. Nothing has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Denied<'a> {
    /// Nobody has logged in.
    Stranger,
    /// The same, of `HELLO` without a password.
    StrangerHello,
    Command(&'static Unit),
    Key(&'a [u8]),
    Channel(&'a [u8]),
}

impl Access {
    pub(crate) fn of(user: &Arc<User>) -> Self {
        Self { is_free: user.is_free(), user: Some(Arc::clone(user)) }
    }

    #[inline]
    pub(crate) const fn is_free(&self) -> bool {
        self.is_free
    }

    pub(crate) const fn is_stranger(&self) -> bool {
        self.user.is_none()
    }

    pub(crate) const fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// Whose name is shown: a stranger's is that of the default user, as in Redis.
    pub(crate) fn name(&self) -> &str {
        self.user.as_ref().map_or(DEFAULT, |user| &user.name)
    }

    /// Why the command that `words` spell is not run; none if it is, or if it is none and its error is told.
    pub(crate) fn denies<'a>(
        &self,
        verb: Option<Verb>,
        parsed: &Result<Command<'a>, Reply<'a>>,
        words: Words<'a>,
    ) -> Option<Denied<'a>> {
        let Some(user) = &self.user else {
            let is_short = words.into_iter().nth(STRANGER_ARGS_MAX).is_none();
            return (!is_short || !verb.is_some_and(is_for_strangers)).then_some(Denied::Stranger);
        };
        let is_told = parsed.as_ref().err().is_some_and(|reply| is_misspelt(reply, words));
        verb.filter(|_| !is_told).and_then(|verb| denies(user, verb, parsed.as_ref().ok(), words))
    }

    /// The same, of a command that was not spelt in words.
    pub(crate) fn denies_command<'a>(&self, verb: Verb, command: &Command<'a>) -> Option<Denied<'a>> {
        if self.is_free {
            return None;
        }
        let Some(user) = &self.user else { return Some(Denied::Stranger) };
        let unit = unit_of(verb, Words::InPlace(b""));
        if !user.may_run(unit) {
            return Some(Denied::Command(&units()[unit]));
        }
        match *command {
            Command::Get { key } | Command::Why { key } | Command::Set(Write { key, .. }) => {
                (!user.may_use(key, needs(verb, 0, Some(command)))).then_some(Denied::Key(key))
            }
            Command::Del { mut keys } => keys.find(|key| !user.may_use(key, Needs::WRITE)).map(Denied::Key),
            _ => None,
        }
    }
}

/// Commands that make somebody of a stranger, or end it. Everybody may give them.
const fn is_for_strangers(verb: Verb) -> bool {
    matches!(verb, Verb::Auth | Verb::Hello | Verb::Quit | Verb::Reset)
}

/// Why `user` may not give the command that `words` spell.
pub(super) fn denies<'a>(
    user: &User,
    verb: Verb,
    command: Option<&Command<'a>>,
    words: Words<'a>,
) -> Option<Denied<'a>> {
    if is_for_strangers(verb) {
        return None;
    }
    let unit = unit_of(verb, words);
    if !user.may_run(unit) {
        return Some(Denied::Command(&units()[unit]));
    }
    // It tells of any keys.
    if verb == Verb::Conflicts && !user.has_all_keys() {
        return Some(Denied::Key(b"*"));
    }
    if !user.has_all_keys() {
        for (at, key) in keys_of(verb, words).enumerate() {
            if !user.may_use(key, needs(verb, at, command)) {
                return Some(Denied::Key(key));
            }
        }
    }
    match command {
        Some(Command::Subscribe { topic: Topic::Channel, names }) => {
            names.into_iter().find(|name| !user.may_hear(name)).map(Denied::Channel)
        }
        Some(Command::Subscribe { topic: Topic::Pattern, names }) => {
            names.into_iter().find(|name| !user.may_hear_all(name)).map(Denied::Channel)
        }
        Some(Command::Publish { channel, .. }) => (!user.may_hear(channel)).then_some(Denied::Channel(channel)),
        _ => None,
    }
}

/// Those of `words` that are keys.
fn keys_of<'a>(verb: Verb, words: Words<'a>) -> impl Iterator<Item = &'a [u8]> {
    // The table has only the first of what is counted.
    let counted = (verb == Verb::SInterCard).then(|| {
        let count = words.into_iter().nth(1).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        words.into_iter().skip(2).take(count.unwrap_or(usize::MAX))
    });
    let by_table = verb.manual().keys.of(words).filter(|_| counted.is_none());
    counted.into_iter().flatten().chain(by_table.into_iter().flatten())
}

/// What a command does to its key number `at`, as Redis has it: nothing where only its presence or its size is told.
fn needs(verb: Verb, at: usize, command: Option<&Command<'_>>) -> Needs {
    match verb {
        Verb::Exists | Verb::Touch | Verb::Type | Verb::Object | Verb::Memory | Verb::Watch => Needs::NOTHING,
        Verb::Ttl | Verb::PTtl | Verb::ExpireTime | Verb::PExpireTime | Verb::StrLen => Needs::NOTHING,
        Verb::HLen | Verb::HStrLen | Verb::HExists | Verb::SCard | Verb::SIsMember | Verb::SMIsMember => Needs::NOTHING,
        Verb::Incr | Verb::Decr | Verb::IncrBy | Verb::DecrBy | Verb::IncrByFloat => Needs::BOTH,
        Verb::GetSet | Verb::GetDel | Verb::GetEx | Verb::HIncrBy | Verb::HIncrByFloat | Verb::SPop => Needs::BOTH,
        Verb::Move => Needs::BOTH,
        Verb::Rename | Verb::RenameNx | Verb::SMove if at == 0 => Needs::BOTH,
        Verb::Copy if at == 0 => Needs::READ,
        Verb::SInterStore | Verb::SUnionStore | Verb::SDiffStore if at > 0 => Needs::READ,
        Verb::Set if matches!(command, Some(Command::Set(Write { answers_old: true, .. }))) => Needs::BOTH,
        _ if verb.manual().flags.contains(&"write") => Needs::WRITE,
        _ => Needs::READ,
    }
}

impl Denied<'_> {
    /// What `ACL LOG` calls the reason, and what it was about.
    pub(crate) fn logged(&self) -> Option<(&'static str, String)> {
        let shown = |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(super::log::OBJECT_BYTES_MAX)]).into();
        match self {
            // Of everybody who looks in there would be a line.
            Self::Stranger | Self::StrangerHello => None,
            Self::Command(unit) => Some(("command", unit.name())),
            Self::Key(key) => Some(("key", shown(key))),
            Self::Channel(channel) => Some(("channel", shown(channel))),
        }
    }
}
