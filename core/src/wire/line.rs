//! The telnet line dialect: what a person types, and the replies the README of the original shows.
//!
//! A reply is text that ends with a newline; a value is as it was written, whatever bytes it has.

use crate::adding::NotAdded;
use crate::command::{Bounded, EXPIRES_IN_MS_MAX, Push, Reply, WAIT_COPIES_MAX, WAIT_MS_MAX};
use crate::commands::{Verb, manuals, nearest};
use crate::conflicts::CONFLICTS_MAX;
use crate::disk::DiskError;
use crate::repl::{NotForgotten, NotLeft};
use crate::replica::Refused;
use crate::wire::words::{WORDS_MAX, Words, WordsError};
use crate::wire::{denied, token};

/// First words of lines that only HTTP has: the methods that are no command here, and the header that follows the
/// request line in what browsers send.
const HTTP_FIRST_WORDS: [&[u8]; 8] = [b"POST", b"PUT", b"PATCH", b"OPTIONS", b"HEAD", b"CONNECT", b"TRACE", b"Host:"];

/// Whether `line`, before anything is unquoted, is one that an HTTP client sends and nobody types: it starts with one
/// of [`HTTP_FIRST_WORDS`], or is a request line of three words, as in `GET / HTTP/1.1`. `GET /x` is a command.
pub(crate) fn is_http(line: &[u8]) -> bool {
    let mut words = Words::InPlace(line);
    let Some(name) = words.next() else { return false };
    if HTTP_FIRST_WORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) {
        return true;
    }
    if !(line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")) {
        return false;
    }
    // A value or key of that spelling: no HTTP client has these methods, and a browser that a page told to use them
    // asks first, with OPTIONS.
    let is_ours = name.eq_ignore_ascii_case(b"SET") || name.eq_ignore_ascii_case(b"DEL");
    !is_ours && words.nth(1).is_some() && words.next().is_none()
}

/// Appends `reply` to `out`.
pub(crate) fn emit(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match *reply {
        Reply::Ok => out.extend_from_slice(b"OK"),
        Reply::Value(value) => out.extend_from_slice(value),
        Reply::NotFound => out.extend_from_slice(b"Key not found"),
        Reply::NoTtl => out.extend_from_slice(b"Key not found"),
        Reply::Ttl(None) => out.extend_from_slice(b"-1"),
        Reply::Ttl(Some(left)) => push_number(out, left),
        Reply::Status(text) => push_all(out, &[text]),
        Reply::Deleted(_) => out.extend_from_slice(b"OK"),
        Reply::Count(count) => push_number(out, count),
        Reply::NoArray | Reply::Array(0) | Reply::Map(0) | Reply::Set(0) => out.extend_from_slice(b"(none)"),
        // Each answer of it is on a line of its own.
        Reply::Array(_) | Reply::Map(_) | Reply::Set(_) => return,
        Reply::Number(number) | Reply::Sum(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes())
        }
        Reply::Push(push) => emit_push(&push, out),
        Reply::Token(token) => token::emit(&token, out),
        Reply::Pong => out.extend_from_slice(b"PONG"),
        Reply::Help { topic } => emit_help(topic, out),
        Reply::Usage { verb, hint } | Reply::Misused { verb, hint, .. } => {
            push_all(out, &["Usage: ", verb.manual().usage]);
            if hint {
                out.extend_from_slice(b"   (a value with spaces needs quotes: SET key \"a b\")");
            }
        }
        Reply::Syntax(verb) => {
            push_all(out, &["Usage: ", verb.manual().usage, "   (a value with spaces needs quotes: SET key \"a b\")"])
        }
        Reply::UnknownCommand { name, .. } => emit_unknown(name, out),
        Reply::UnsupportedOption { verb, option: word } | Reply::UnknownSubcommand { verb, sub: word } => {
            push_all(out, &["Error: ", verb.manual().name, " has nothing that is called "]);
            push_shown(word, out);
            push_all(out, &["; nothing was changed; HELP ", verb.manual().name, " tells what it has"]);
        }
        Reply::Aborted => {
            out.extend_from_slice(b"Error: some of the commands since MULTI were wrong; nothing was changed");
        }
        Reply::Error(text) => push_all(out, &["Error: ", text, "; nothing was changed"]),
        Reply::ErrorAt(before, word, after) => {
            push_all(out, &["Error: ", before]);
            push_shown(word, out);
            push_all(out, &[after, "; nothing was changed"]);
        }
        Reply::HearsOnly(verb) => {
            push_all(out, &["Error: ", verb.manual().name, " has to wait until nothing is subscribed to"]);
        }
        Reply::WrongPassword => {
            out.extend_from_slice(b"Error: there is no such user, or the password is another; nothing was changed");
        }
        Reply::LoginsBusy => out
            .extend_from_slice(b"Error: too many logins are being checked; nothing was changed; try again in a moment"),
        Reply::Denied(denied) => denied::emit_sentence(&denied, out),
        Reply::BadRule { rule, why } => {
            out.extend_from_slice(b"Error: ");
            push_shown(rule, out);
            push_all(out, &[" is no rule of a user: ", why.text(), "; nothing was changed"]);
        }
        Reply::AclFile(why) => push_all(out, &["Error: ", why, "; nothing was changed"]),
        Reply::NotSettable { name, why } => {
            out.extend_from_slice(b"Error: ");
            push_shown(name, out);
            push_all(out, &[" stays as it is: ", why, "; nothing was changed"]);
        }
        Reply::NoProtocol => {
            out.extend_from_slice(b"Error: the Redis protocol has the versions 2 and 3 here; nothing was changed");
        }
        Reply::TooLong { what, bytes_max } => {
            push_all(out, &["Error: the ", bounded_name(what), " is longer than "]);
            push_number(out, bytes_max as u64);
            out.extend_from_slice(b" bytes; nothing was changed");
        }
        Reply::BadExpiry { option, unit_ms, .. } => {
            let unit = if unit_ms == 1 { "milliseconds" } else { "seconds" };
            push_all(out, &["Error: ", option, " takes a whole number of ", unit, " from 1 to "]);
            push_number(out, EXPIRES_IN_MS_MAX / unit_ms);
            out.extend_from_slice(b"; nothing was changed");
        }
        _ => emit_error(reply, out),
    }
    out.push(b'\n');
}

/// One line for what is told unasked: its kind, the names, and what was said.
fn emit_push(push: &Push<'_>, out: &mut Vec<u8>) {
    match *push {
        Push::Subscribed { kind, name, count } => {
            push_all(out, &[kind, " "]);
            out.extend_from_slice(name.unwrap_or(b"(none)"));
            out.push(b' ');
            push_number(out, count);
        }
        Push::Message { pattern, channel, message } => {
            let kind = if pattern.is_some() { "pmessage" } else { "message" };
            out.extend_from_slice(kind.as_bytes());
            for word in pattern.into_iter().chain([channel, message]) {
                out.push(b' ');
                out.extend_from_slice(word);
            }
        }
        Push::Pong { message } => out.extend_from_slice(message),
    }
}

/// What is told of what was not done.
fn emit_error(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match *reply {
        Reply::BadCopies | Reply::BadWait(_) | Reply::BadToken => emit_bad_wait(reply, out),
        Reply::ForeignToken => out.extend_from_slice(
            b"Error: that token is of another cluster; nothing was changed; ask a node of this one for a TOKEN",
        ),
        Reply::NotHere => out.extend_from_slice(
            b"Error: that write is not here yet; nothing was changed; wait again, or see by PEERS what is cut off",
        ),
        Reply::NotJoined => out.extend_from_slice(
            b"Error: this node has not joined its cluster yet, and what was written here has no final name; \
              nothing was changed; try again once PEERS shows a peer that is up",
        ),
        Reply::NotOnDisk => out.extend_from_slice(
            b"Error: the disk failed before it had what was written here last; nothing was changed; ask again once \
              STATS says that the disk is whole",
        ),
        Reply::BadConflicts => {
            out.extend_from_slice(b"Error: CONFLICTS takes a whole number from 1 to ");
            push_number(out, CONFLICTS_MAX as u64);
            out.extend_from_slice(b"; nothing was changed");
        }
        Reply::BadWords(WordsError::Unclosed) => {
            out.extend_from_slice(b"Error: a quote is not closed; nothing was changed");
        }
        Reply::BadWords(WordsError::Glued) => {
            out.extend_from_slice(b"Error: a space must follow a closing quote; nothing was changed");
        }
        Reply::BadWords(WordsError::TooMany) => {
            out.extend_from_slice(b"Error: the line has more than ");
            push_number(out, WORDS_MAX as u64);
            out.extend_from_slice(b" words; nothing was changed");
        }
        Reply::Http => out.extend_from_slice(
            b"Error: HTTP is spoken here from the first byte of a connection on; this one is closed",
        ),
        Reply::Refused(refused) => emit_refused(refused, out),
        Reply::Loading { percent } => {
            out.extend_from_slice(b"Error: this node is loading its data, ");
            push_number(out, percent);
            out.extend_from_slice(b" % so far; nothing was changed; try again in a moment");
        }
        Reply::Paused => {
            out.extend_from_slice(
                b"Error: clients of this node are paused; nothing was changed; try again in a moment",
            );
        }
        Reply::OutOfMemory { .. } => out.extend_from_slice(
            b"Error: this node has taken all the memory that it may (maxmemory); nothing was written; delete \
              something, or give it more by CONFIG SET maxmemory",
        ),
        Reply::NotInteger(verb) => {
            push_all(out, &["Error: ", verb.manual().name, " takes a whole number of 64 bits; nothing was changed"])
        }
        Reply::NotAdded(NotAdded::Refused(refused)) => emit_refused(refused, out),
        Reply::NotAdded(NotAdded::NoNumber) => out.extend_from_slice(
            b"Error: the value is no whole number of 64 bits; nothing was changed; SET it to one, or DEL it, to count",
        ),
        Reply::WrongType => out.extend_from_slice(
            b"Error: the key holds something else; nothing was changed; TYPE tells what, and DEL deletes it",
        ),
        Reply::FieldNotAdded(NotAdded::NoNumber) => out.extend_from_slice(
            b"Error: the field is no whole number of 64 bits; nothing was changed; HSET it to one to count",
        ),
        Reply::FieldNotAdded(why) => emit_error(&Reply::NotAdded(why), out),
        Reply::NotAdded(NotAdded::Overflow) => {
            out.extend_from_slice(b"Error: the result would not fit a whole number of 64 bits; nothing was changed")
        }
        Reply::NoDisk => out.extend_from_slice(
            b"Error: this node has no disk, all its data is in memory; nothing was saved; start it with --data-dir DIR",
        ),
        Reply::NotLeft(why) => push_all(out, &["Error: ", not_left(why)]),
        Reply::NotForgotten { member, why } => emit_not_forgotten(member, why, out),
        _ => {}
    }
}

/// Why a write was not taken, and what is to be done about it.
fn emit_refused(refused: Refused, out: &mut Vec<u8>) {
    let text: &[u8] = match refused {
        Refused::ClockAhead { ms } => {
            out.extend_from_slice(b"Error: this node's clock is ");
            push_number(out, ms);
            b" ms ahead of its peers; nothing was written; fix the clock or write to another node"
        }
        Refused::Fenced => {
            b"Error: a newer run of this node has taken its place; nothing was written; write to another node"
        }
        Refused::Left => {
            b"Error: this node has left its cluster; nothing was written; write to another node, or restart this one"
        }
        Refused::Restored => {
            b"Error: this node was restored from a backup and has yet to hear what its cluster has changed since; \
              nothing was written; write to another node, or start this one without peers if there are none"
        }
        Refused::Disk(DiskError::Full) => {
            b"Error: the disk is full; nothing was written; free some space and this node takes writes again by \
              itself, or write to another node"
        }
        Refused::DiskBehind => {
            b"Error: the disk does not keep up, and as much waits for it as may; nothing was written; try again in a \
              moment: this node takes writes again by itself once the disk has caught up"
        }
        Refused::Disk(DiskError::Write | DiskError::Read | DiskError::Sync) => {
            b"Error: the disk failed; nothing was written; this node goes on trying it, its log says more; write to \
              another node"
        }
    };
    out.extend_from_slice(text);
}

fn emit_help(topic: Option<Verb>, out: &mut Vec<u8>) {
    if let Some(verb) = topic {
        let manual = verb.manual();
        push_all(out, &["Usage: ", manual.usage, "\n", manual.summary, ".\n", manual.detail]);
        push_all(out, &["\nExample: ", manual.example]);
        return;
    }
    for manual in manuals() {
        out.extend_from_slice(manual.name.as_bytes());
        // The longest name has twelve letters.
        out.extend_from_slice(&b"              "[manual.name.len()..]);
        push_all(out, &[manual.summary, "\n"]);
    }
    out.extend_from_slice(b"HELP and the name of a command tells more.");
}

const fn not_left(why: NotLeft) -> &'static str {
    match why {
        NotLeft::Alone => "no other node is linked that could take over; nothing was changed; see PEERS",
        NotLeft::NotJoined => "this node has not found its cluster yet; nothing was changed; try again later",
        NotLeft::Fenced => "a newer run of this node has taken its place; nothing was changed; this one may be stopped",
        NotLeft::Last => "all other nodes were asked to leave, too; this node stays and takes writes; see PEERS",
        NotLeft::NotDrained => {
            "the others did not take over everything in time; this node stays and takes writes; see PEERS and try again"
        }
    }
}

fn emit_not_forgotten(member: &str, why: NotForgotten, out: &mut Vec<u8>) {
    push_all(out, &["Error: "]);
    push_shown(member.as_bytes(), out);
    let text = match why {
        NotForgotten::Unknown => " is no member's name; nothing was changed; STATS and PEERS name the members",
        NotForgotten::Own => " is this node itself; nothing was changed; LEAVE takes it out of its cluster",
        NotForgotten::Up => " is up; nothing was changed; stop it first, or run LEAVE on it",
        NotForgotten::NotJoined => " was not forgotten: this node has not found its cluster yet; try again later",
    };
    push_all(out, &[text]);
}

fn emit_bad_wait(reply: &Reply<'_>, out: &mut Vec<u8>) {
    match reply {
        Reply::BadWait(verb) => {
            push_all(out, &["Error: ", verb.manual().name, " takes a whole number of milliseconds from 0 to "]);
            push_number(out, WAIT_MS_MAX);
            out.extend_from_slice(b", 0 for no limit");
        }
        Reply::BadCopies => {
            out.extend_from_slice(b"Error: WAIT takes a whole number of nodes from 0 to ");
            push_number(out, WAIT_COPIES_MAX);
        }
        _ => out.extend_from_slice(b"Error: that is no token; give one as TOKEN answered it"),
    }
    out.extend_from_slice(b"; nothing was changed");
}

/// Bytes of an unknown command that are repeated to the user: enough to recognise it.
const ECHO_BYTES_MAX: usize = 32;

fn emit_unknown(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Unknown command: ");
    if name.is_empty() {
        out.extend_from_slice(b"\"\"");
    }
    for byte in name.iter().take(ECHO_BYTES_MAX) {
        match byte {
            b'!'..=b'~' => out.push(byte.to_ascii_uppercase()),
            // A terminal obeys control bytes, and what was typed in quotes may hold any.
            _ => out.extend(byte.escape_ascii()),
        }
    }
    if name.len() > ECHO_BYTES_MAX {
        out.extend_from_slice(b"...");
    }
    if let Some(nearest) = nearest(name) {
        push_all(out, &[" (did you mean ", nearest, "?)"]);
    }
}

const fn bounded_name(what: Bounded) -> &'static str {
    match what {
        Bounded::Key => "key",
        Bounded::Value => "value",
        Bounded::Line => "line",
        Bounded::Pattern => "pattern",
        Bounded::Reply => "reply",
        Bounded::Element => "key with the field or member",
    }
}

fn push_all(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// The beginning of what a client said, as a terminal can show it.
fn push_shown(word: &[u8], out: &mut Vec<u8>) {
    out.extend(word.iter().take(ECHO_BYTES_MAX).flat_map(|byte| byte.escape_ascii()));
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replies that no golden script can bring about.
    #[test]
    fn a_refused_write_says_why_and_what_to_do() {
        let check = |refused, text: &str| {
            let mut out = Vec::new();
            emit(&Reply::Refused(refused), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        };
        check(
            Refused::ClockAhead { ms: 61_000 },
            "Error: this node's clock is 61000 ms ahead of its peers; nothing was written; \
             fix the clock or write to another node\n",
        );
        check(
            Refused::Fenced,
            "Error: a newer run of this node has taken its place; nothing was written; write to another node\n",
        );
    }
}
