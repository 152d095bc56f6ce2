//! `CLIENT`: what is asked of connections.

use super::Verb;
use super::arguments::{exactly, nothing, number};
use super::server::check_name;
use crate::command::{AboutClient, ClientKind, Command, Kill, Reply, WAIT_MS_MAX};
use crate::config::Limits;
use crate::counter;
use crate::session::Replies;
use crate::wire::words::Words;

type Parsed<'a> = Result<AboutClient<'a>, Reply<'a>>;

pub(super) fn parse<'a>(verb: Verb, mut words: Words<'a>, _: &Limits) -> Result<Command<'a>, Reply<'a>> {
    let sub = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let is = |name: &str| sub.eq_ignore_ascii_case(name.as_bytes());
    let plain = [
        ("ID", AboutClient::Id),
        ("INFO", AboutClient::Info),
        ("GETNAME", AboutClient::GetName),
        ("UNPAUSE", AboutClient::Unpause),
        ("GETREDIR", AboutClient::Redirect),
        ("TRACKINGINFO", AboutClient::TrackingInfo),
    ];
    if let Some((_, about)) = plain.into_iter().find(|(name, _)| is(name)) {
        return nothing(verb, words).map(|()| Command::Client(about));
    }
    let about = match sub {
        _ if is("SETNAME") => {
            let [name] = exactly(verb, words)?;
            check_name(name).map(AboutClient::SetName)
        }
        _ if is("SETINFO") => parse_info(verb, words),
        _ if is("LIST") => parse_list(verb, words),
        _ if is("KILL") => parse_kill(verb, words),
        _ if is("PAUSE") => parse_pause(verb, words),
        _ if is("REPLY") => {
            let replies = [("ON", Replies::All), ("OFF", Replies::None), ("SKIP", Replies::SkipsNext)];
            switch(verb, words, &replies).map(AboutClient::Replies)
        }
        _ if is("NO-EVICT") || is("NO-TOUCH") => {
            switch(verb, words, &[("ON", ()), ("OFF", ())]).map(|()| AboutClient::Noted)
        }
        // Nothing is tracked.
        _ if is("TRACKING") => switch(verb, words, &[("OFF", ())]).map(|()| AboutClient::Noted),
        _ => Err(Reply::UnknownSubcommand { verb, sub }),
    };
    about.map(Command::Client)
}

/// One word of some.
fn switch<'a, T: Copy>(verb: Verb, words: Words<'a>, positions: &[(&str, T)]) -> Result<T, Reply<'a>> {
    let [word] = exactly(verb, words)?;
    let named = positions.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, position)| *position).ok_or(Reply::Syntax(verb))
}

fn parse_info<'a>(verb: Verb, words: Words<'a>) -> Parsed<'a> {
    let [attribute, value] = exactly(verb, words)?;
    let is_version = attribute.eq_ignore_ascii_case(b"LIB-VER");
    if !is_version && !attribute.eq_ignore_ascii_case(b"LIB-NAME") {
        return Err(Reply::ErrorAt("Unrecognized option '", attribute, "'"));
    }
    check_name(value)?;
    Ok(AboutClient::SetInfo { is_version, value })
}

fn parse_list<'a>(verb: Verb, mut words: Words<'a>) -> Parsed<'a> {
    let Some(option) = words.next() else { return Ok(AboutClient::List { kind: None, ids: None }) };
    if option.eq_ignore_ascii_case(b"ID") && words.into_iter().next().is_some() {
        let is_id = |word: &[u8]| counter::integer(word).is_some();
        let are_ids = words.into_iter().all(is_id);
        return if are_ids {
            Ok(AboutClient::List { kind: None, ids: Some(words) })
        } else {
            Err(Reply::Error("Invalid client ID"))
        };
    }
    match (words.next(), words.next()) {
        (Some(kind), None) if option.eq_ignore_ascii_case(b"TYPE") => {
            Ok(AboutClient::List { kind: Some(parse_kind(kind)?), ids: None })
        }
        _ => Err(Reply::Syntax(verb)),
    }
}

fn parse_kind<'a>(word: &'a [u8]) -> Result<ClientKind, Reply<'a>> {
    let kinds = [
        ("normal", ClientKind::Normal),
        ("pubsub", ClientKind::PubSub),
        ("master", ClientKind::Replica),
        ("replica", ClientKind::Replica),
        ("slave", ClientKind::Replica),
    ];
    let named = kinds.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, kind)| kind).ok_or(Reply::ErrorAt("Unknown client type '", word, "'"))
}

fn parse_kill<'a>(verb: Verb, mut words: Words<'a>) -> Parsed<'a> {
    let first = words.into_iter().next().ok_or(Reply::Usage { verb, hint: false })?;
    if words.into_iter().nth(1).is_none() {
        return Ok(AboutClient::KillOne { remote: first });
    }
    let mut kill = Kill::default();
    while let Some(option) = words.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let value = words.next().ok_or(Reply::Syntax(verb))?;
        if is(b"ID") {
            let id = number(value).filter(|id| *id > 0);
            kill.id = Some(id.ok_or(Reply::Error("client-id should be greater than 0"))?);
        } else if is(b"TYPE") {
            kill.kind = Some(parse_kind(value)?);
        } else if is(b"ADDR") {
            kill.remote = Some(value);
        } else if is(b"LADDR") {
            kill.local = Some(value);
        } else if is(b"USER") {
            kill.user = Some(value);
        } else if is(b"SKIPME") {
            kill.is_of_own = value.eq_ignore_ascii_case(b"no");
            if !kill.is_of_own && !value.eq_ignore_ascii_case(b"yes") {
                return Err(Reply::Syntax(verb));
            }
        } else {
            return Err(Reply::Syntax(verb));
        }
    }
    Ok(AboutClient::Kill(kill))
}

fn parse_pause<'a>(verb: Verb, mut words: Words<'a>) -> Parsed<'a> {
    let ms = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let is_of_all = match words.next() {
        None => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"ALL") => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"WRITE") => false,
        Some(_) => return Err(Reply::Error("CLIENT PAUSE mode must be WRITE or ALL")),
    };
    nothing(verb, words)?;
    let ms = counter::integer(ms).ok_or(Reply::Error("timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Reply::Error("timeout is negative"))?;
    Ok(AboutClient::Pause { ms: ms.min(WAIT_MS_MAX), is_of_all })
}
