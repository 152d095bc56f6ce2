//! The requests with which some input begins, found before the first of them is run: what all of them look for can
//! then be asked of memory at once, and nothing is read twice.

use memchr::{memchr, memchr2, memchr3};

use super::resp;
use super::telnet::IAC;
use super::words::{Span, Words};
use crate::config::Limits;

/// Most requests: as many as memory is asked for at once.
pub(crate) const REQUESTS_MAX: usize = crate::store::WARM_KEYS;

/// Most arguments of one of them. What has more is no pipeline of small requests, and gains nothing.
const ARGS_MAX: usize = 8;

/// How far lines are looked for: what is found is to be still in the processor's cache when it is run, and input that
/// comes again because it is incomplete is not to be searched in vain again and again.
const LINES_BYTES_MAX: usize = 16 << 10;

/// Whole requests that stand one behind the other at the beginning of some input.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    requests: Vec<Request>,
    /// The arguments of all of them. Places are counted from the first byte of the request that they are of.
    args: Vec<Span>,
    /// The next to be run.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    bytes: usize,
    /// Where its arguments are among all; none of a line, which is yet to be cut into words.
    args: Option<(usize, usize)>,
}

/// The next of them, with how many bytes it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    Request(Words<'a>, usize),
    /// Without its LF.
    Line(&'a [u8], usize),
}

impl Ahead {
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.args.clear();
        self.next = 0;
    }

    pub(crate) fn has_several(&self) -> bool {
        self.requests.len() > 1
    }

    /// Finds at most `max` of the arrays of bulk strings that `bytes` begin with, as long as nothing about them is out
    /// of the ordinary; how many bytes they have.
    pub(crate) fn find_requests(&mut self, limits: &Limits, bytes: &[u8], max: usize) -> usize {
        self.clear();
        let mut used = 0;
        while self.requests.len() < max {
            let from = self.args.len();
            let Some(length) = self.find_request(limits, &bytes[used..]) else { break };
            self.requests.push(Request { bytes: length, args: Some((from, self.args.len())) });
            used += length;
        }
        used
    }

    fn find_request(&mut self, limits: &Limits, bytes: &[u8]) -> Option<usize> {
        let (count, mut at) = head(b'*', bytes)?;
        if !(1..=ARGS_MAX).contains(&count) {
            return None;
        }
        for _ in 0..count {
            let (length, head_bytes) = head(b'$', bytes.get(at..)?)?;
            let from = at + head_bytes;
            let to = from.checked_add(length)?;
            if bytes.get(to..)?.first_chunk()? != b"\r\n" || !resp::may_have(limits, length, to) {
                return None;
            }
            self.args.push(Span { from, to });
            at = to + 2;
        }
        Some(at)
    }

    /// Finds at most `max` of the lines that `bytes` begin with, as long as nothing in them is of telnet or of the
    /// Redis protocol; how many bytes they have.
    pub(crate) fn find_lines(
        &mut self,
        limits: &Limits,
        bytes: &[u8],
        max: usize,
        is_special: impl Fn(u8) -> bool,
    ) -> usize {
        self.clear();
        let window = &bytes[..bytes.len().min(LINES_BYTES_MAX)];
        let mut used = 0;
        while self.requests.len() < max {
            let line = &window[used..];
            let Some(end) = memchr3(b'\n', 0, IAC, line).filter(|end| line[*end] == b'\n') else { break };
            if end >= limits.line_bytes_max || is_special(line[0]) {
                break;
            }
            self.requests.push(Request { bytes: end + 1, args: None });
            used += end + 1;
        }
        used
    }

    /// The second words of the requests in `bytes`, where they were found, as many as there is room for. Those mostly
    /// are keys: good for nothing but to get ready for them. How many there are.
    pub(crate) fn keys<'a>(&self, bytes: &'a [u8], keys: &mut [&'a [u8]]) -> usize {
        let mut from = 0;
        for (request, key) in self.requests.iter().zip(keys) {
            *key = match request.args {
                Some((first, end)) if end - first > 1 => {
                    let Span { from: key_from, to } = self.args[first + 1];
                    &bytes[from + key_from..from + to]
                }
                Some(_) => &[],
                None => second_word(&bytes[from..from + request.bytes - 1]),
            };
            from += request.bytes;
        }
        self.requests.len()
    }

    /// The next request, with which `bytes` begin.
    #[inline]
    pub(crate) fn next<'a>(&'a mut self, bytes: &'a [u8]) -> Option<Found<'a>> {
        let request = self.requests.get(self.next)?;
        self.next += 1;
        Some(match request.args {
            Some((first, end)) => Found::Request(Words::Spans { bytes, spans: &self.args[first..end] }, request.bytes),
            None => Found::Line(&bytes[..request.bytes - 1], request.bytes),
        })
    }
}

/// The number behind `kind`, with which `bytes` begin, and the length of that line.
#[inline]
fn head(kind: u8, bytes: &[u8]) -> Option<(usize, usize)> {
    resp::small_head(kind, bytes).or_else(|| {
        let (number, length) = resp::head(bytes.strip_prefix(&[kind])?).ok()??;
        Some((usize::try_from(number).ok()?, 1 + length))
    })
}

fn second_word(line: &[u8]) -> &[u8] {
    let Some(blank) = memchr(b' ', line) else { return &[] };
    let word = &line[blank + 1..];
    &word[..memchr2(b' ', b'\r', word).unwrap_or(word.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8], of_lines: bool, limits: &Limits) -> (Vec<String>, usize) {
        let mut ahead = Ahead::default();
        let is_special = |first: u8| first == b'*';
        let used = match of_lines {
            true => ahead.find_lines(limits, bytes, REQUESTS_MAX, is_special),
            false => ahead.find_requests(limits, bytes, REQUESTS_MAX),
        };
        let mut keys = [&[][..]; REQUESTS_MAX];
        let count = ahead.keys(bytes, &mut keys);
        let (mut said, mut from) = (Vec::new(), 0);
        for key in &keys[..count] {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (request, length) = match ahead.next(&bytes[from..]).unwrap() {
                Found::Request(words, length) => (words.map(text).collect::<Vec<_>>().join("|"), length),
                Found::Line(line, length) => (text(line), length),
            };
            said.push(format!("{request} {}", text(key)));
            from += length;
        }
        assert!(ahead.next(&[]).is_none());
        assert_eq!(from, used);
        (said, used)
    }

    #[test]
    fn whole_requests_are_found() {
        let limits = Limits { value_bytes_max: 9, line_bytes_max: 9, ..Limits::default() };
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n";
        for end in [
            &b""[..],
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r",
            b"*2\r\n$3\r\nGET\r\n$1\r\naa\n",
            b"*0\r\n",
            b"*-1\r\n",
            &[&b"*9\r\n"[..], &b"$1\r\na\r\n".repeat(9)].concat(),
            b"*1\r\n$10\r\naaaaaaaaaa\r\n",
            b"*1\r\n$18446744073709551615\r\n",
            b"*1\r\n$-1\r\n",
            b"PING\r\n",
        ] {
            let (said, used) = found(&[whole, end].concat(), false, &limits);
            assert_eq!((said.join(","), used), ("GET|a a,PING ".to_owned(), whole.len()), "{}", end.escape_ascii());
        }
        let many = whole.repeat(REQUESTS_MAX);
        assert_eq!(found(&many, false, &limits).1, whole.len() * REQUESTS_MAX / 2);
        let short = Limits { request_bytes_max: 19, ..Limits::default() };
        assert_eq!(found(whole, false, &short).1, 0);
    }

    #[test]
    fn whole_lines_are_found() {
        let limits = Limits { line_bytes_max: 20, ..Limits::default() };
        let whole = b"SET a 1\nGET  b\r\n\nGET c\r\n";
        for end in [
            &b""[..],
            b"GET d",
            b"GET \0d\nGET e\n",
            b"GET \xff\xf4\nGET e\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET as-long-as-may-be\nGET e\n",
        ] {
            let (said, used) = found(&[whole, end].concat(), true, &limits);
            let lines = "SET a 1 a,GET  b\r , ,GET c\r c".to_owned();
            assert_eq!((said.join(","), used), (lines, whole.len()), "{}", end.escape_ascii());
        }
        assert_eq!(found(&b"GET k\n".repeat(100), true, &limits).1, 6 * REQUESTS_MAX);
        let long = ["SET k ", &"v".repeat(LINES_BYTES_MAX), "\n"].concat();
        assert_eq!(found(long.as_bytes(), true, &Limits::default()).1, 0);
    }
}
