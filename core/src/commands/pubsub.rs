//! Messages.

use super::arguments::{check_key, check_pattern, check_value, exactly, nothing};
use super::{Manual, NO_KEYS, Verb};
use crate::command::{AboutMessages, Command, Reply};
use crate::config::Limits;
use crate::pubsub::Topic;
use crate::wire::words::Words;

/// They may be given where nothing else is.
const PUBSUB: &[&str] = &["pubsub", "noscript"];
const PUBLISH: &[&str] = &["pubsub", "fast"];

pub(super) static MANUALS: [Manual; 6] = [
    Manual {
        verb: Verb::Subscribe,
        name: "SUBSCRIBE",
        aliases: &[],
        arity: -2,
        flags: PUBSUB,
        keys: NO_KEYS,
        parse: parse_subscribe,
        usage: "SUBSCRIBE channel [channel ...]",
        summary: "Be told what is said on channels, by this node and by others",
        detail: "Each message is a line `message`, the channel and what was said. Nothing keeps a message: it reaches\n\
                 who has subscribed by then, once at the most. A client that does not read is disconnected.\n\
                 `CONFIG SET notify-keyspace-events KEA` has this node say what becomes of keys, on the channels\n\
                 `__keyspace@0__:key` and `__keyevent@0__:event`.",
        example: "SUBSCRIBE news",
    },
    Manual {
        verb: Verb::Unsubscribe,
        name: "UNSUBSCRIBE",
        aliases: &[],
        arity: -1,
        flags: PUBSUB,
        keys: NO_KEYS,
        parse: parse_unsubscribe,
        usage: "UNSUBSCRIBE [channel ...]",
        summary: "Be told no more what is said on channels",
        detail: "Without a channel: on none of them.",
        example: "UNSUBSCRIBE news",
    },
    Manual {
        verb: Verb::PSubscribe,
        name: "PSUBSCRIBE",
        aliases: &[],
        arity: -2,
        flags: PUBSUB,
        keys: NO_KEYS,
        parse: parse_subscribe,
        usage: "PSUBSCRIBE pattern [pattern ...]",
        summary: "Be told what is said on the channels that match",
        detail: "Each message is a line `pmessage`, the pattern, the channel and what was said. Patterns are those of \
                 KEYS.",
        example: "PSUBSCRIBE news.*",
    },
    Manual {
        verb: Verb::PUnsubscribe,
        name: "PUNSUBSCRIBE",
        aliases: &[],
        arity: -1,
        flags: PUBSUB,
        keys: NO_KEYS,
        parse: parse_unsubscribe,
        usage: "PUNSUBSCRIBE [pattern ...]",
        summary: "Be told no more what is said on the channels that match",
        detail: "Without a pattern: by none of them.",
        example: "PUNSUBSCRIBE news.*",
    },
    Manual {
        verb: Verb::Publish,
        name: "PUBLISH",
        aliases: &[],
        arity: 3,
        flags: PUBLISH,
        keys: NO_KEYS,
        parse: parse_publish,
        usage: "PUBLISH channel message",
        summary: "Say something on a channel, on all nodes",
        detail: "Answers how many clients of this node are told; those of the nodes that are linked to it are told,\n\
                 too. Who is cut off, or far behind, is not.",
        example: "PUBLISH news hello",
    },
    Manual {
        verb: Verb::PubSub,
        name: "PUBSUB",
        aliases: &[],
        arity: -2,
        flags: PUBLISH,
        keys: NO_KEYS,
        parse: parse_about,
        usage: "PUBSUB CHANNELS [pattern] | NUMSUB [channel ...] | NUMPAT",
        summary: "Tell what clients of this node have subscribed to",
        detail: "CHANNELS lists channels, NUMSUB tells how many have subscribed to each, NUMPAT how many\n\
                 patterns there are.",
        example: "PUBSUB CHANNELS",
    },
];

type Parsed<'a> = Result<Command<'a>, Reply<'a>>;

const fn topic(verb: Verb) -> Topic {
    if matches!(verb, Verb::PSubscribe | Verb::PUnsubscribe) { Topic::Pattern } else { Topic::Channel }
}

fn parse_subscribe<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    if words.into_iter().next().is_none() {
        return Err(Reply::Usage { verb, hint: false });
    }
    let topic = topic(verb);
    words.into_iter().try_for_each(|name| match topic {
        Topic::Channel => check_key(name, limits),
        Topic::Pattern => check_pattern(name),
    })?;
    Ok(Command::Subscribe { topic, names: words })
}

fn parse_unsubscribe<'a>(verb: Verb, words: Words<'a>, _: &Limits) -> Parsed<'a> {
    Ok(Command::Unsubscribe { topic: topic(verb), names: words })
}

fn parse_publish<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Parsed<'a> {
    let [channel, message] = exactly(verb, words)?;
    check_key(channel, limits)?;
    check_value(message, limits)?;
    Ok(Command::Publish { channel, message })
}

fn parse_about<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Parsed<'a> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let is = |name: &[u8]| sub.eq_ignore_ascii_case(name);
    if is(b"NUMPAT") {
        return nothing(verb, words).map(|()| Command::PubSub(AboutMessages::Patterns));
    }
    if is(b"NUMSUB") {
        return Ok(Command::PubSub(AboutMessages::Subscribers(words)));
    }
    if !is(b"CHANNELS") {
        return Err(Reply::UnknownSubcommand { verb, sub });
    }
    let pattern = words.next();
    nothing(verb, words)?;
    pattern.map_or(Ok(()), check_pattern)?;
    Ok(Command::PubSub(AboutMessages::Channels { pattern }))
}
