//! The Redis serialization protocol, versions 2 and 3: what Redis clients speak.
//!
//! A request is an array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or a line of words as in the line dialect.
//! The lengths that it states are only waited for: nothing is allocated for them. What breaks the protocol is answered
//! with one error, and the connection ends, as nobody knows where the next request would begin.

use memchr::memchr;

use crate::adding::NotAdded;
use crate::command::{Bounded, Push, Reply};
use crate::config::Limits;
use crate::disk::DiskError;
use crate::replica::Refused;
use crate::wire::words::{Span, Words};
use crate::wire::{denied, line};

/// Longest line that states a length, its end included.
const HEAD_BYTES_MAX: usize = 32;

/// Where the request stands that comes in. Places are counted from its first byte.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// The arguments that are there.
    args: Vec<Span>,
    /// How many there will be; none if that is not known yet.
    wanted: Option<usize>,
    /// Up to where all was read; of a line of words, up to where its end is not.
    at: usize,
    /// How many bytes there must be for it to be worth looking again.
    need: usize,
}

/// What stands next in the input of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// More input is needed.
    Incomplete,
    /// Nothing to be run, of so many bytes.
    Nothing(usize),
    /// A request of so many bytes, whose words [`Incoming::words`] has.
    Request(usize),
    /// A line, without its end, and how many bytes it takes.
    Line(&'a [u8], usize),
    Broken(Broken),
}

/// How the protocol was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The number of arguments.
    Count,
    /// The length of an argument.
    Length,
    /// Another byte where an argument was to begin.
    NoBulk(u8),
    /// An argument is followed by something else than the end of its line.
    NoEnd,
    /// A line of words has no end.
    Inline,
    /// A quote in a line of words is not closed.
    Quotes,
    /// All arguments together are too long.
    Request,
    /// The number of arguments, ...
    StrangerCount,
    /// ... or the length of one, for somebody who has not logged in.
    StrangerLength,
}

impl Broken {
    /// The same, done by somebody who has not logged in and has less room.
    pub(crate) const fn of_stranger(self) -> Self {
        match self {
            Self::Count => Self::StrangerCount,
            Self::Length | Self::Request => Self::StrangerLength,
            other => other,
        }
    }
}

impl Incoming {
    /// What `bytes` begin with, which are handed in again, with more behind them, as long as it is incomplete.
    pub(crate) fn next<'a>(&mut self, limits: &Limits, bytes: &'a [u8]) -> Next<'a> {
        if bytes.len() < self.need || bytes.is_empty() {
            return Next::Incomplete;
        }
        if self.wanted.is_none() && bytes[0] != b'*' {
            return self.next_line(limits, bytes);
        }
        let next = match self.read(limits, bytes) {
            Ok(next) => next,
            Err(broken) => Next::Broken(broken),
        };
        if next != Next::Incomplete {
            (self.wanted, self.at, self.need) = (None, 0, 0);
        }
        next
    }

    /// The words of the request that was just found in `bytes`.
    pub(crate) fn words<'a>(&'a self, bytes: &'a [u8]) -> Words<'a> {
        Words::Spans { bytes, spans: &self.args }
    }

    fn read<'a>(&mut self, limits: &Limits, bytes: &'a [u8]) -> Result<Next<'a>, Broken> {
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            None => {
                let Some((count, length)) = head(&bytes[1..]).map_err(|()| Broken::Count)? else {
                    return Ok(Next::Incomplete);
                };
                let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
                    return Ok(Next::Nothing(1 + length));
                };
                if count > limits.args_max {
                    return Err(Broken::Count);
                }
                self.args.clear();
                self.at = 1 + length;
                *self.wanted.insert(count)
            }
        };
        while self.args.len() < wanted {
            let Some(first) = bytes.get(self.at) else { return Ok(Next::Incomplete) };
            if *first != b'$' {
                return Err(Broken::NoBulk(*first));
            }
            let from = self.at + 1;
            let Some((bytes_wanted, length)) = head(&bytes[from..]).map_err(|()| Broken::Length)? else {
                return Ok(Next::Incomplete);
            };
            let bytes_wanted = usize::try_from(bytes_wanted).map_err(|_| Broken::Length)?;
            if !may_be_as_long(limits, bytes_wanted) {
                return Err(Broken::Length);
            }
            let from = from + length;
            let to = from + bytes_wanted;
            if to + 2 > limits.request_bytes_max {
                return Err(Broken::Request);
            }
            let Some(end) = bytes.get(to..to + 2) else {
                self.need = to + 2;
                return Ok(Next::Incomplete);
            };
            if end != b"\r\n" {
                return Err(Broken::NoEnd);
            }
            self.args.push(Span { from, to });
            self.at = to + 2;
        }
        Ok(Next::Request(self.at))
    }

    fn next_line<'a>(&mut self, limits: &Limits, bytes: &'a [u8]) -> Next<'a> {
        let window = &bytes[..bytes.len().min(limits.line_bytes_max)];
        let from = std::mem::take(&mut self.at);
        match memchr(b'\n', &window[from..]) {
            Some(more) => {
                let line = &window[..from + more];
                Next::Line(line.strip_suffix(b"\r").unwrap_or(line), line.len() + 1)
            }
            None if window.len() == limits.line_bytes_max => Next::Broken(Broken::Inline),
            None => {
                self.at = window.len();
                Next::Incomplete
            }
        }
    }
}

/// Whether an argument may have so many bytes. One that is a little too long for a value is told so, as on a line, and
/// costs no connection.
fn may_be_as_long(limits: &Limits, bytes: usize) -> bool {
    bytes <= limits.value_bytes_max.max(limits.line_bytes_max)
}

/// Whether a request may have an argument of so many bytes that ends there.
pub(super) fn may_have(limits: &Limits, bytes: usize, to: usize) -> bool {
    may_be_as_long(limits, bytes) && to + 2 <= limits.request_bytes_max
}

/// As [`head`], of a number of one digit or two, as most are, that follows `kind`, which is counted; none if there is
/// anything else.
#[inline]
pub(super) fn small_head(kind: u8, bytes: &[u8]) -> Option<(usize, usize)> {
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    match *bytes {
        [first, a, b'\r', b'\n', ..] if first == kind && digit(a) < 10 => Some((usize::from(digit(a)), 4)),
        [first, a, b, b'\r', b'\n', ..] if first == kind && digit(a) < 10 && digit(b) < 10 => {
            Some((usize::from(digit(a)) * 10 + usize::from(digit(b)), 5))
        }
        _ => None,
    }
}

/// The number at the start of `bytes` and the length of its line, the end included; none if its end is yet to come.
pub(super) fn head(bytes: &[u8]) -> Result<Option<(i64, usize)>, ()> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(length) = memchr(b'\r', window) else {
        return if window.len() == HEAD_BYTES_MAX { Err(()) } else { Ok(None) };
    };
    match bytes.get(length + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(()),
    }
    let number = std::str::from_utf8(&window[..length]).ok().and_then(|digits| digits.parse().ok()).ok_or(())?;
    Ok(Some((number, length + 2)))
}

/// Appends the request that has these words.
pub(crate) fn push_request(words: Words<'_>, out: &mut Vec<u8>) {
    push_number(b'*', words.into_iter().count() as u64, out);
    words.for_each(|word| push_bulk(word, out));
}

/// Appends `reply` as version 2 or 3 has it.
pub(crate) fn emit(reply: &Reply<'_>, is_3: bool, out: &mut Vec<u8>) {
    match *reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Pong => out.extend_from_slice(b"+PONG\r\n"),
        Reply::Status(text) => push_line(b'+', text.as_bytes(), out),
        Reply::Value(value) => push_bulk(value, out),
        Reply::Sum(number) => push_bulk(itoa::Buffer::new().format(number).as_bytes(), out),
        Reply::NotFound if is_3 => out.extend_from_slice(b"_\r\n"),
        Reply::NotFound => out.extend_from_slice(b"$-1\r\n"),
        Reply::Deleted(count) | Reply::Count(count) => push_number(b':', count, out),
        Reply::Number(number) => push_line(b':', itoa::Buffer::new().format(number).as_bytes(), out),
        Reply::NoArray if is_3 => out.extend_from_slice(b"_\r\n"),
        Reply::NoArray => out.extend_from_slice(b"*-1\r\n"),
        Reply::Array(length) => push_number(b'*', length as u64, out),
        Reply::Map(pairs) if is_3 => push_number(b'%', pairs as u64, out),
        Reply::Map(pairs) => push_number(b'*', 2 * pairs as u64, out),
        Reply::Set(length) => push_number(if is_3 { b'~' } else { b'*' }, length as u64, out),
        Reply::Ttl(Some(left)) => push_number(b':', left, out),
        Reply::Ttl(None) => out.extend_from_slice(b":-1\r\n"),
        Reply::NoTtl => out.extend_from_slice(b":-2\r\n"),
        Reply::Push(push) => emit_push(&push, is_3, out),
        Reply::Token(_) | Reply::Help { .. } => {
            let from = out.len();
            line::emit(reply, out);
            wrap_text(from, out);
        }
        _ => emit_error(reply, out),
    }
}

/// Appends what is told unasked: by version 2 an array as any other.
fn emit_push(push: &Push<'_>, is_3: bool, out: &mut Vec<u8>) {
    let kind = if is_3 { b'>' } else { b'*' };
    match *push {
        Push::Subscribed { kind: what, name, count } => {
            push_number(kind, 3, out);
            push_bulk(what.as_bytes(), out);
            emit(&name.map_or(Reply::NotFound, Reply::Value), is_3, out);
            push_number(b':', count, out);
        }
        Push::Message { pattern, channel, message } => {
            push_number(kind, if pattern.is_some() { 4 } else { 3 }, out);
            push_bulk(if pattern.is_some() { b"pmessage" } else { b"message" }, out);
            pattern.into_iter().chain([channel, message]).for_each(|word| push_bulk(word, out));
        }
        Push::Pong { message } => {
            push_number(b'*', 2, out);
            push_bulk(b"pong", out);
            push_bulk(message, out);
        }
    }
}

/// Makes the text that was appended from there on, a line or some, one reply.
pub(crate) fn wrap_text(from: usize, out: &mut Vec<u8>) {
    let text = out.split_off(from);
    push_bulk(text.strip_suffix(b"\n").unwrap_or(&text), out);
}

/// Appends what is said of a broken protocol.
pub(crate) fn emit_broken(broken: Broken, out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR Protocol error: ");
    match broken {
        Broken::Count => out.extend_from_slice(b"invalid multibulk length"),
        Broken::Length => out.extend_from_slice(b"invalid bulk length"),
        Broken::NoBulk(byte) => {
            out.extend_from_slice(b"expected '$', got '");
            out.extend(byte.escape_ascii());
            out.push(b'\'');
        }
        Broken::NoEnd => out.extend_from_slice(b"a bulk string does not end with CR LF"),
        Broken::Inline => out.extend_from_slice(b"too big inline request"),
        Broken::Quotes => out.extend_from_slice(b"unbalanced quotes in request"),
        Broken::StrangerCount => out.extend_from_slice(b"unauthenticated multibulk length"),
        Broken::StrangerLength => out.extend_from_slice(b"unauthenticated bulk length"),
        Broken::Request => out.extend_from_slice(b"too big request"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Where Redis has an error of its own for it, clients know that one; the others are told as in the line dialect.
fn emit_error(reply: &Reply<'_>, out: &mut Vec<u8>) {
    if let Reply::FieldNotAdded(why @ (NotAdded::Overflow | NotAdded::Refused(_))) = *reply {
        return emit_error(&Reply::NotAdded(why), out);
    }
    if let Reply::Denied(denied) = reply {
        out.push(b'-');
        denied::emit_code(denied, out);
        return out.extend_from_slice(b"\r\n");
    }
    out.push(b'-');
    out.extend_from_slice(code(reply));
    match reply {
        Reply::Misused { verb, words, .. } => {
            let mut words = *words;
            out.extend_from_slice(b"wrong number of arguments for '");
            let name = words.next().unwrap_or_default();
            out.extend(name.iter().map(u8::to_ascii_lowercase));
            if let Some(sub) = words.next().filter(|_| verb.has_subcommands()) {
                out.push(b'|');
                push_shown(&sub.to_ascii_lowercase(), out);
            }
            out.extend_from_slice(b"' command");
        }
        Reply::HearsOnly(verb) => {
            out.extend_from_slice(b"Can't execute '");
            out.extend(verb.manual().name.bytes().map(|byte| byte.to_ascii_lowercase()));
            out.extend_from_slice(
                b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            );
        }
        Reply::ErrorAt(before, word, after) => {
            out.extend_from_slice(before.as_bytes());
            push_shown(word, out);
            out.extend_from_slice(after.as_bytes());
        }
        Reply::UnsupportedOption { option, .. } => {
            out.extend_from_slice(b"Unsupported option ");
            push_shown(option, out);
        }
        Reply::UnknownSubcommand { verb, sub } => {
            out.extend_from_slice(b"unknown subcommand '");
            push_shown(sub, out);
            out.extend_from_slice(b"'. Try ");
            out.extend_from_slice(verb.manual().name.as_bytes());
            out.extend_from_slice(b" HELP.");
        }
        Reply::BadRule { rule, why } => {
            out.extend_from_slice(b"Error in ACL SETUSER modifier '");
            push_shown(rule, out);
            out.extend_from_slice(b"': ");
            out.extend_from_slice(why.text().as_bytes());
        }
        Reply::AclFile(why) => push_shown(why.as_bytes(), out),
        Reply::WrongPassword => out.extend_from_slice(b"invalid username-password pair or user is disabled."),
        Reply::NotSettable { name, why } => {
            out.extend_from_slice(b"CONFIG SET failed (possibly related to argument '");
            push_shown(name, out);
            out.extend_from_slice(b"') - ");
            out.extend_from_slice(why.as_bytes());
        }
        Reply::Aborted => out.extend_from_slice(b"Transaction discarded because of previous errors."),
        Reply::NoProtocol => out.extend_from_slice(b"unsupported protocol version"),
        Reply::Syntax(_) => out.extend_from_slice(b"syntax error"),
        Reply::NotInteger(_) | Reply::BadExpiry { is_integer: false, .. } | Reply::NotAdded(NotAdded::NoNumber) => {
            out.extend_from_slice(b"value is not an integer or out of range");
        }
        Reply::WrongType => {
            out.extend_from_slice(b"Operation against a key holding the wrong kind of value");
        }
        Reply::FieldNotAdded(NotAdded::NoNumber) => out.extend_from_slice(b"hash value is not an integer"),
        Reply::NotAdded(NotAdded::Overflow) => out.extend_from_slice(b"increment or decrement would overflow"),
        Reply::BadExpiry { verb, .. } => {
            out.extend_from_slice(b"invalid expire time in '");
            out.extend(verb.manual().name.bytes().map(|byte| byte.to_ascii_lowercase()));
            out.extend_from_slice(b"' command");
        }
        Reply::TooLong { what: Bounded::Value, .. } => {
            out.extend_from_slice(b"string exceeds maximum allowed size (proto-max-bulk-len)");
        }
        Reply::UnknownCommand { name, rest } => emit_unknown(name, *rest, out),
        Reply::Error(text) => out.extend_from_slice(text.as_bytes()),
        Reply::OutOfMemory { aborts } => {
            out.extend_from_slice(if *aborts { b"Transaction discarded because of: OOM " } else { b"" });
            out.extend_from_slice(b"command not allowed when used memory > 'maxmemory'.");
        }
        _ => {
            let from = out.len();
            line::emit(reply, out);
            out.pop();
            if out[from..].starts_with(b"Error: ") {
                out.drain(from..from + b"Error: ".len());
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What kind of error it is, as Redis names it.
const fn code(reply: &Reply<'_>) -> &'static [u8] {
    match reply {
        Reply::LoginsBusy => b"TRYAGAIN ",
        Reply::Loading { .. } => b"LOADING ",
        Reply::NoProtocol => b"NOPROTO ",
        Reply::Aborted | Reply::OutOfMemory { aborts: true } => b"EXECABORT ",
        Reply::OutOfMemory { aborts: false } => b"OOM ",
        Reply::WrongPassword => b"WRONGPASS ",
        Reply::WrongType => b"WRONGTYPE ",
        Reply::Refused(Refused::Disk(DiskError::Full | DiskError::Write | DiskError::Read | DiskError::Sync))
        | Reply::Refused(Refused::DiskBehind)
        | Reply::NotAdded(NotAdded::Refused(Refused::Disk(_) | Refused::DiskBehind)) => b"MISCONF ",
        // Clients that have other nodes go to one.
        Reply::Refused(_) | Reply::NotAdded(NotAdded::Refused(_)) => b"READONLY ",
        _ => b"ERR ",
    }
}

/// Bytes of an unknown command and of its arguments that are repeated.
const ECHO_BYTES_MAX: usize = 128;

fn emit_unknown(name: &[u8], rest: Words<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"unknown command '");
    push_shown(name, out);
    out.extend_from_slice(b"', with args beginning with: ");
    let from = out.len();
    for word in rest {
        if out.len() - from >= ECHO_BYTES_MAX {
            break;
        }
        out.push(b'\'');
        push_shown(word, out);
        out.extend_from_slice(b"' ");
    }
}

/// The beginning of what a client said. What is no text would end the line.
fn push_shown(word: &[u8], out: &mut Vec<u8>) {
    let shown = word.iter().take(ECHO_BYTES_MAX);
    out.extend(shown.map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }));
}

pub(super) fn push_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + HEAD_BYTES_MAX);
    push_number(b'$', bytes.len() as u64, out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn push_number(kind: u8, number: u64, out: &mut Vec<u8>) {
    let digit = |digit: u64| b'0' + digit as u8;
    match number {
        0..10 => out.extend_from_slice(&[kind, digit(number), b'\r', b'\n']),
        10..100 => out.extend_from_slice(&[kind, digit(number / 10), digit(number % 10), b'\r', b'\n']),
        _ => push_line(kind, itoa::Buffer::new().format(number).as_bytes(), out),
    }
}

fn push_line(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}
