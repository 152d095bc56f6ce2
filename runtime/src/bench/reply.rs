//! Where answers end and what they say, taken as they come, in pieces of any size. What a value holds is not kept, so
//! no answer, however long, takes memory.

use memchr::memchr;

use super::options::Protocol;
use super::workload::Request;
use crate::client::{Head, head, is_crowded};

/// Most that is kept of a line: more than the lines that matter have, and enough of an error to tell what it is.
const LINE_BYTES_MAX: usize = 512;

/// An answer, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Done,
    /// There is no such key.
    Absent,
    /// An error, by its text.
    Refused(&'a [u8]),
}

/// It is no answer to what was asked, or in another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

/// Reads the answers of one connection.
#[derive(Debug)]
pub(crate) struct Replies {
    protocol: Protocol,
    state: State,
    /// What has come of a line that has not ended, or the text of the last error.
    line: Vec<u8>,
    /// Whether any answer has come.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    InLine,
    /// So many bytes of a value are to come, with those that end it.
    InValue(usize),
}

/// What a line is.
enum Line {
    Done,
    Absent,
    Refused,
    /// A value follows, that takes so many bytes with what ends it.
    Value(usize),
}

impl Replies {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self { protocol, state: State::Between, line: Vec::new(), answered: false }
    }

    /// Whether a server that says `line`, unasked, turns the connection away.
    pub(crate) fn turns_away(&self, line: &[u8]) -> bool {
        !self.answered && (is_crowded(line) || matches!(meaning(self.protocol, Request::Ping, line), Ok(Line::Refused)))
    }

    /// Takes from `bytes` up to the end of the next answer, to `request`; none if it is not there yet.
    pub(crate) fn next(&mut self, request: Request, bytes: &mut &[u8]) -> Result<Option<Reply<'_>>, Garbage> {
        if let State::InValue(left) = self.state {
            return self.skip(left, bytes);
        }
        if self.state == State::Between {
            self.line.clear();
        }
        let Some(end) = memchr(b'\n', bytes) else {
            if !bytes.is_empty() {
                self.state = State::InLine;
                keep(&mut self.line, bytes);
                *bytes = &[];
            }
            return Ok(None);
        };
        let (mut line, rest) = (&bytes[..end], &bytes[end + 1..]);
        *bytes = rest;
        if self.state == State::InLine {
            keep(&mut self.line, line);
            line = &self.line;
        }
        self.state = State::Between;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_first = !std::mem::replace(&mut self.answered, true);
        let meant = match is_first && is_crowded(line) {
            true => Line::Refused,
            false => meaning(self.protocol, request, line)?,
        };
        match meant {
            Line::Done => Ok(Some(Reply::Done)),
            Line::Absent => Ok(Some(Reply::Absent)),
            Line::Value(length) => self.skip(length, bytes),
            Line::Refused => {
                self.line = line[..line.len().min(LINE_BYTES_MAX)].to_vec();
                Ok(Some(Reply::Refused(self.line.strip_prefix(b"-").unwrap_or(&self.line))))
            }
        }
    }

    /// Takes what is left of a value.
    fn skip(&mut self, left: usize, bytes: &mut &[u8]) -> Result<Option<Reply<'_>>, Garbage> {
        if bytes.len() < left {
            self.state = State::InValue(left - bytes.len());
            *bytes = &[];
            return Ok(None);
        }
        self.state = State::Between;
        let (value, rest) = bytes.split_at(left);
        *bytes = rest;
        if value.ends_with(b"\n") { Ok(Some(Reply::Done)) } else { Err(Garbage) }
    }
}

/// Appends as much as is kept of a line.
fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = LINE_BYTES_MAX.saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn meaning(protocol: Protocol, request: Request, line: &[u8]) -> Result<Line, Garbage> {
    match protocol {
        Protocol::Resp => match (request, head(line)) {
            (_, Some(Head::Error(_))) => Ok(Line::Refused),
            (Request::Set, Some(Head::Simple(b"OK"))) | (Request::Ping, Some(Head::Simple(b"PONG"))) => Ok(Line::Done),
            (Request::Incr, Some(Head::Integer(_))) => Ok(Line::Done),
            (Request::Get, Some(Head::Null)) => Ok(Line::Absent),
            (Request::Get, Some(Head::Blob(length))) => value(Some(length), b"\r\n"),
            _ => Err(Garbage),
        },
        Protocol::Telnet => match request {
            _ if line.starts_with(b"Error: ") || line.starts_with(b"Usage: ") => Ok(Line::Refused),
            Request::Get if line == b"Key not found" => Ok(Line::Absent),
            // Whatever it is.
            Request::Get => Ok(Line::Done),
            Request::Set if line == b"OK" => Ok(Line::Done),
            Request::Ping if line == b"PONG" => Ok(Line::Done),
            Request::Incr if !line.is_empty() && line.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') => {
                Ok(Line::Done)
            }
            _ => Err(Garbage),
        },
        Protocol::Memcached => match request {
            _ if ["ERROR", "CLIENT_ERROR", "SERVER_ERROR", "NOT_FOUND"].iter().any(|word| begins(line, word)) => {
                Ok(Line::Refused)
            }
            Request::Get if line == b"END" => Ok(Line::Absent),
            Request::Get if begins(line, "VALUE") => {
                let length = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                value(std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()), b"\r\nEND\r\n")
            }
            Request::Set if line == b"STORED" => Ok(Line::Done),
            Request::Ping if begins(line, "VERSION") => Ok(Line::Done),
            Request::Incr if !line.is_empty() && line.iter().all(u8::is_ascii_digit) => Ok(Line::Done),
            _ => Err(Garbage),
        },
    }
}

fn begins(line: &[u8], word: &str) -> bool {
    line.split(|byte| *byte == b' ').next() == Some(word.as_bytes())
}

/// A value of that length follows, and then `end`.
fn value(length: Option<usize>, end: &[u8]) -> Result<Line, Garbage> {
    length.and_then(|length| length.checked_add(end.len())).map(Line::Value).ok_or(Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `stream`, cut into pieces that end at `cuts`.
    fn read(
        protocol: Protocol,
        requests: &[Request],
        stream: &[u8],
        cuts: &[usize],
    ) -> Result<(Vec<String>, usize), Garbage> {
        let mut replies = Replies::new(protocol);
        let (mut said, mut from) = (Vec::new(), 0);
        for to in cuts.iter().copied().chain([stream.len()]) {
            let mut bytes = &stream[from..to];
            from = to;
            while let Some(request) = requests.get(said.len()) {
                match replies.next(*request, &mut bytes)? {
                    None => break,
                    Some(Reply::Done) => said.push("done".to_owned()),
                    Some(Reply::Absent) => said.push("absent".to_owned()),
                    Some(Reply::Refused(text)) => said.push(String::from_utf8_lossy(text).into_owned()),
                }
            }
            if said.len() < requests.len() {
                assert!(bytes.is_empty(), "what is not taken is lost: {bytes:?}");
            }
        }
        Ok((said, replies.line.capacity()))
    }

    #[test]
    fn answers_end_where_they_end_however_they_are_cut() {
        use Request::{Get, Incr, Ping, Set};
        let requests = [Set, Get, Get, Get, Get, Incr, Ping, Set, Get];
        let said = ["done", "done", "done", "absent", "absent", "done", "done", "ERR no", "done"];
        let resp =
            b"+OK\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n_\r\n:-12\r\n+PONG\r\n-ERR no\r\n$12\r\nmore\r\n\r\nthan\r\n";
        check(Protocol::Resp, &requests, resp, &said);
        let requests = [Set, Get, Get, Incr, Ping, Set, Set, Get];
        let said = ["done", "done", "absent", "done", "done", "Error: no", "Usage: so", "done"];
        let telnet = b"OK\nvalue\nKey not found\n-12\nPONG\r\nError: no\r\nUsage: so\n\n";
        check(Protocol::Telnet, &requests, telnet, &said);
        let requests = [Set, Get, Get, Get, Incr, Ping, Set, Incr];
        let said = ["done", "done", "absent", "done", "done", "done", "SERVER_ERROR no room", "NOT_FOUND"];
        let memcached =
            b"STORED\r\nVALUE k 0 5\r\na\r\nbc\r\nEND\r\nEND\r\nVALUE k 0 0\r\n\r\nEND\r\n12\r\nVERSION 1.6\r\n\
            SERVER_ERROR no room\r\nNOT_FOUND\r\n";
        check(Protocol::Memcached, &requests, memcached, &said);
    }

    fn check(protocol: Protocol, requests: &[Request], stream: &[u8], said: &[&str]) {
        for one in 0..=stream.len() {
            for two in one..=stream.len() {
                let (got, _) = read(protocol, requests, stream, &[one, two]).unwrap();
                assert_eq!(got, said, "cut at {one} and {two}");
            }
            let (got, _) = read(protocol, requests, &stream[..one], &[]).unwrap();
            assert!(got.len() < said.len() || one == stream.len(), "all of it after {one} bytes");
        }
        let each: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(read(protocol, requests, stream, &each).unwrap().0, said);
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (request, bytes) in [
            (Request::Set, &b"\r\n"[..]),
            (Request::Set, b"HTTP/1.1 400 Bad Request\r\n"),
            (Request::Set, b"+QUEUED\r\n"),
            (Request::Set, b":1\r\n"),
            (Request::Get, b"+OK\r\n"),
            (Request::Get, b"$x\r\n"),
            (Request::Get, b"$-2\r\n"),
            (Request::Get, b"$1\r\nabc"),
            (Request::Get, b"$18446744073709551615\r\n"),
            (Request::Incr, b"$1\r\n1\r\n"),
        ] {
            assert_eq!(read(Protocol::Resp, &[request], bytes, &[]), Err(Garbage), "{bytes:?}");
        }
        for (request, bytes) in [(Request::Set, &b"+OK\r\n"[..]), (Request::Ping, b"OK\n"), (Request::Incr, b"value\n")]
        {
            assert_eq!(read(Protocol::Telnet, &[request], bytes, &[]), Err(Garbage), "{bytes:?}");
        }
        for (request, bytes) in [
            (Request::Set, &b"NOT_STORED\r\n"[..]),
            (Request::Get, b"VALUE k 0 x\r\n"),
            (Request::Get, b"VALUES k 0 1\r\n"),
        ] {
            assert_eq!(read(Protocol::Memcached, &[request], bytes, &[]), Err(Garbage), "{bytes:?}");
        }
    }

    #[test]
    fn a_node_that_is_full_refuses_in_any_protocol() {
        let crowded = b"Error: too many connections\n";
        for protocol in [Protocol::Resp, Protocol::Telnet, Protocol::Memcached] {
            for request in [Request::Set, Request::Get, Request::Incr, Request::Ping] {
                check(protocol, &[request], crowded, &["Error: too many connections"]);
            }
            assert!(Replies::new(protocol).turns_away(crowded));
        }
        let later = [&b"+OK\r\n"[..], crowded].concat();
        assert_eq!(read(Protocol::Resp, &[Request::Set, Request::Set], &later, &[]), Err(Garbage));
        let mut replies = Replies::new(Protocol::Resp);
        assert!(replies.turns_away(b"-ERR max number of clients reached\r\n") && !replies.turns_away(b"+OK\r\n"));
        replies.next(Request::Set, &mut &b"+OK\r\n"[..]).unwrap();
        assert!(!replies.turns_away(crowded));
    }

    #[test]
    fn no_answer_takes_memory() {
        let long = [&b"x".repeat(1 << 20)[..], b"\n"].concat();
        let cuts: Vec<usize> = (0..long.len()).step_by(1_000).collect();
        let (said, kept) = read(Protocol::Telnet, &[Request::Get], &long, &cuts).unwrap();
        assert_eq!(said, ["done"]);
        assert!(kept <= 2 * LINE_BYTES_MAX, "{kept} bytes are kept");
        let refused = [b"-ERR ", &long[..]].concat();
        for cuts in [&cuts[..], &[]] {
            let (said, kept) = read(Protocol::Resp, &[Request::Set], &refused, cuts).unwrap();
            assert!(said[0].len() < LINE_BYTES_MAX && said[0].starts_with("ERR xxx"), "{said:?}");
            assert!(kept <= 2 * LINE_BYTES_MAX, "{kept} bytes are kept");
        }
    }
}
