//! Messages to those who have subscribed: what clients say, here or on other nodes, and what becomes of keys.

use super::Server;
use crate::boundary::{Action, Close, ConnId, Effects};
use crate::command::{AboutMessages, Command, Push, Reply};
use crate::commands::Verb;
use crate::connections::Connections;
use crate::execute::matches;
use crate::name::{Kind, Name};
use crate::pause::Pause;
use crate::pubsub::{Change, Changed, PubSub, Topic};
use crate::session::{Client, Replies};
use crate::waiters::Waiters;
use crate::wire::Answer;
use crate::wire::words::Words;

/// How many times the replies past which a client is not read further may wait for a subscriber that does not read.
const UNREAD_OUTPUTS_MAX: usize = 8;

/// Who hears of messages, and what ends with a client that does not read them.
pub(crate) struct Audience<'a> {
    pub(crate) pubsub: &'a mut PubSub,
    pub(crate) conns: &'a mut Connections,
    pub(crate) waiters: &'a mut Waiters,
    pub(crate) pause: &'a mut Pause,
    /// Of one client.
    pub(crate) output_bytes_max: usize,
    /// It is told of writes of this node.
    pub(crate) of_writes: bool,
    pub(crate) effects: &'a mut Effects,
}

impl Audience<'_> {
    /// Tells all who have subscribed; `own` is the client whose command is being run. How many were told.
    pub(crate) fn tell(&mut self, channel: &[u8], message: &[u8], mut own: Option<(ConnId, &mut Client)>) -> u64 {
        let (mut told, mut slow) = (0, Vec::new());
        for (conn, pattern) in self.pubsub.audience(channel) {
            let client = match &mut own {
                Some((own, client)) if *own == conn => &mut **client,
                _ => match self.conns.session_mut(conn) {
                    Some(session) => &mut session.client,
                    None => continue,
                },
            };
            told += 1;
            if client.pushed.len() >= UNREAD_OUTPUTS_MAX * self.output_bytes_max {
                slow.push(conn);
                continue;
            }
            if client.pushed.is_empty() {
                self.effects.actions.push(Action::Wake { conn });
            }
            if self.of_writes {
                client.pushed.note_write();
            }
            client.dialect.emit(&Reply::Push(Push::Message { pattern, channel, message }), client.pushed.end());
        }
        slow.dedup();
        for conn in slow {
            // It may have subscribed by several patterns.
            if self.conns.forget(conn).is_some() {
                tracing::warn!(?conn, "a subscriber that does not read its messages is disconnected");
                self.waiters.forget(conn);
                self.pause.forget(conn);
                self.pubsub.forget(conn);
                self.effects.actions.push(Action::Close { conn, why: Close::Unread });
            }
        }
        told
    }

    /// Tells what has become of keys, by a command, or none if peers or time brought it about. What happens to several
    /// elements of a key, one after the other, is told once.
    pub(crate) fn notify(&mut self, changes: &[Change], verb: Option<Verb>, mut own: Option<(ConnId, &mut Client)>) {
        let notices = self.pubsub.notices;
        let mut before = None;
        for Change { name, what } in changes {
            // Of what is no key nothing is told: Redis tells nothing of a flush either.
            let Some(Name { space, kind, key, .. }) = Name::parse(name).filter(|name| name.kind != Kind::Floor) else {
                continue;
            };
            for (class, event) in events(kind, *what, verb).into_iter().flatten() {
                let is_again = kind != Kind::Key && before == Some((space, key, event));
                before = Some((space, key, event));
                if !notices.has(class) || is_again {
                    continue;
                }
                if notices.has(b'K') {
                    let channel = [format!("__keyspace@{space}__:").as_bytes(), key].concat();
                    self.tell(&channel, event.as_bytes(), own.as_mut().map(|(conn, client)| (*conn, &mut **client)));
                }
                if notices.has(b'E') {
                    let channel = format!("__keyevent@{space}__:{event}");
                    self.tell(channel.as_bytes(), key, own.as_mut().map(|(conn, client)| (*conn, &mut **client)));
                }
            }
        }
    }
}

/// The classes and names of what has happened to a key, or to an element of one, as Redis has them.
fn events(kind: Kind, what: Changed, verb: Option<Verb>) -> [Option<(u8, &'static str)>; 2] {
    let one = |class, event| [Some((class, event)), None];
    match (what, verb) {
        (Changed::Expired, _) => one(b'x', "expired"),
        (Changed::Expiry { expires }, _) => one(b'g', if expires { "expire" } else { "persist" }),
        (Changed::Set { .. }, Some(Verb::Rename | Verb::RenameNx)) => one(b'g', "rename_to"),
        (Changed::Set { .. }, Some(Verb::Move)) => one(b'g', "move_to"),
        (Changed::Set { .. }, Some(Verb::Copy)) => one(b'g', "copy_to"),
        (Changed::Set { .. }, Some(Verb::Persist)) => one(b'g', "persist"),
        (Changed::Set { .. }, Some(Verb::Expire | Verb::PExpire | Verb::ExpireAt | Verb::PExpireAt)) => {
            one(b'g', "expire")
        }
        (what, verb) => match kind {
            Kind::Field => one(b'h', of_field(what, verb)),
            Kind::Member => one(b's', of_member(what, verb)),
            Kind::Key | Kind::Floor => of_key(what, verb),
        },
    }
}

fn of_key(what: Changed, verb: Option<Verb>) -> [Option<(u8, &'static str)>; 2] {
    let one = |class, event| [Some((class, event)), None];
    match (what, verb) {
        (Changed::Added, _) => one(b'$', "incrby"),
        (Changed::Deleted, Some(Verb::Rename | Verb::RenameNx)) => one(b'g', "rename_from"),
        (Changed::Deleted, Some(Verb::Move)) => one(b'g', "move_from"),
        (Changed::Deleted, _) => one(b'g', "del"),
        (Changed::Set { .. }, Some(Verb::Append)) => one(b'$', "append"),
        (Changed::Set { .. }, Some(Verb::SetRange)) => one(b'$', "setrange"),
        (Changed::Set { .. }, Some(Verb::IncrByFloat)) => one(b'$', "incrbyfloat"),
        (Changed::Set { expires }, Some(Verb::GetEx)) => one(b'g', if expires { "expire" } else { "persist" }),
        (Changed::Set { expires }, _) => [Some((b'$', "set")), expires.then_some((b'g', "expire"))],
        // Told above.
        (Changed::Expired | Changed::Expiry { .. }, _) => [None, None],
    }
}

fn of_field(what: Changed, verb: Option<Verb>) -> &'static str {
    match (what, verb) {
        (Changed::Deleted, _) => "hdel",
        (Changed::Added, _) => "hincrby",
        (_, Some(Verb::HIncrByFloat)) => "hincrbyfloat",
        (_, Some(Verb::HExpire | Verb::HPExpire | Verb::HExpireAt | Verb::HPExpireAt)) => "hexpire",
        (_, Some(Verb::HPersist)) => "hpersist",
        (_, _) => "hset",
    }
}

fn of_member(what: Changed, verb: Option<Verb>) -> &'static str {
    match (what, verb) {
        (Changed::Deleted, Some(Verb::SPop)) => "spop",
        (Changed::Deleted, _) => "srem",
        (_, Some(Verb::SInterStore)) => "sinterstore",
        (_, Some(Verb::SUnionStore)) => "sunionstore",
        (_, Some(Verb::SDiffStore)) => "sdiffstore",
        (_, _) => "sadd",
    }
}

impl Server<'_, '_> {
    fn audience(&mut self) -> Audience<'_> {
        Audience {
            pubsub: self.pubsub,
            conns: self.conns,
            waiters: self.waiters,
            pause: self.pause,
            output_bytes_max: self.config.limits.output_bytes_max,
            of_writes: false,
            effects: self.effects,
        }
    }

    pub(super) fn messages(&mut self, command: &Command<'_>, client: &mut Client, answer: &mut Answer<'_>) {
        match *command {
            Command::Subscribe { topic, names } => self.subscribe(topic, names, &mut confirmed(client, answer)),
            Command::Unsubscribe { topic, names } => self.unsubscribe(topic, names, &mut confirmed(client, answer)),
            Command::Publish { channel, message } => {
                let conn = self.conn;
                let told = self.audience().tell(channel, message, Some((conn, client)));
                self.repl.publish(channel, message, self.effects);
                answer.say(&Reply::Count(told));
            }
            Command::PubSub(about) => self.tell_subscriptions(about, answer),
            _ => {}
        }
    }

    /// Tells what a command has done to keys.
    pub(super) fn notify(&mut self, client: &mut Client) {
        let mut changes = self.replica.take_changes();
        if changes.is_empty() {
            return;
        }
        let (conn, verb) = (self.conn, client.verb);
        // The new name is written before the old one is deleted, so that no failure in between loses the value.
        if matches!(verb, Some(Verb::Rename | Verb::RenameNx | Verb::Move)) {
            changes.reverse();
        }
        Audience { of_writes: true, ..self.audience() }.notify(&changes, verb, Some((conn, client)));
    }

    fn subscribe(&mut self, topic: Topic, names: Words<'_>, answer: &mut Answer<'_>) {
        let kind = if topic == Topic::Channel { "subscribe" } else { "psubscribe" };
        for name in names {
            if !self.pubsub.subscribe(self.conn, topic, name, self.config.limits.request_bytes_max) {
                return answer.say(&Reply::Error("too much is subscribed to"));
            }
            self.confirm(kind, Some(name), answer);
        }
    }

    fn unsubscribe(&mut self, topic: Topic, names: Words<'_>, answer: &mut Answer<'_>) {
        let kind = if topic == Topic::Channel { "unsubscribe" } else { "punsubscribe" };
        for name in names {
            self.pubsub.unsubscribe(self.conn, topic, name);
            self.confirm(kind, Some(name), answer);
        }
        if names.into_iter().next().is_some() {
            return;
        }
        let all = self.pubsub.names_of(self.conn, topic);
        if all.is_empty() {
            return self.confirm(kind, None, answer);
        }
        for name in all {
            self.pubsub.unsubscribe(self.conn, topic, &name);
            self.confirm(kind, Some(&name), answer);
        }
    }

    fn confirm(&self, kind: &'static str, name: Option<&[u8]>, answer: &mut Answer<'_>) {
        let (channels, patterns) = self.pubsub.counts_of(self.conn);
        answer.say(&Reply::Push(Push::Subscribed { kind, name, count: (channels + patterns) as u64 }));
    }

    fn tell_subscriptions(&self, about: AboutMessages<'_>, answer: &mut Answer<'_>) {
        match about {
            AboutMessages::Patterns => answer.say(&Reply::Number(self.pubsub.counts().1 as i128)),
            AboutMessages::Subscribers(channels) => {
                // Not a map, in either version.
                answer.say(&Reply::Array(2 * channels.into_iter().count()));
                for channel in channels {
                    answer.say(&Reply::Value(channel));
                    answer.say(&Reply::Number(self.pubsub.subscribers_of(channel) as i128));
                }
            }
            AboutMessages::Channels { pattern } => {
                let is_asked = |name: &&[u8]| pattern.is_none_or(|pattern| matches(pattern, name));
                let channels: Vec<&[u8]> = self.pubsub.channels().filter(is_asked).collect();
                answer.say(&Reply::Array(channels.len()));
                channels.iter().for_each(|channel| answer.say(&Reply::Value(channel)));
            }
        }
    }
}

/// Where subscriptions are confirmed: by whoever wants no replies as messages are, which it wants.
fn confirmed<'a>(client: &'a mut Client, answer: &'a mut Answer<'_>) -> Answer<'a> {
    let out = if client.replies == Replies::All { &mut *answer.out } else { client.pushed.end() };
    Answer { dialect: answer.dialect, out }
}

/// Whether a client that has subscribed can give `command` by version 2 of the protocol, where it could not tell
/// another reply from a message.
pub(super) const fn is_heard(command: &Command<'_>) -> bool {
    matches!(command, Command::Subscribe { .. } | Command::Unsubscribe { .. } | Command::Quit | Command::Reset)
}
