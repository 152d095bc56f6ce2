//! A client that speaks HTTP/1.1: from bytes as they arrive to requests, and from replies to responses.
//!
//! A connection speaks it from its first byte to its last, or not at all. Answers depend on the bytes only, never on
//! how they were split into reads.

mod batch;
mod chunked;
pub(crate) mod events;
mod head;
mod kv;
mod list;
mod login;
mod metrics;
mod ops;
mod page;
mod response;
mod routes;
mod text;
mod watch;

use memchr::memchr;

use crate::acl::Fingerprint;
use crate::config::Limits;
use crate::server::Server;
use crate::session::Client;
use crate::wire::Dialect;
use crate::wire::telnet::IAC;
use chunked::Chunked;
use head::{Framing, Head, Method, Persistence};
use response::{Fault, Response};
use routes::Route;

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What a request line begins with, of those that a connection is known by. The last is how HTTP/2 begins.
const METHODS: [&[u8]; 10] =
    [b"GET ", b"HEAD ", b"PUT ", b"DELETE ", b"POST ", b"PATCH ", b"OPTIONS ", b"TRACE ", b"CONNECT ", b"PRI "];

/// Those that are commands too.
const COMMANDS: [&[u8]; 2] = [METHODS[0], METHODS[3]];

/// What a connection speaks, by how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// More bytes will tell.
    Unclear,
    Http,
    Other,
}

/// Tells by the first bytes of a connection what it speaks: HTTP, if its first line is a request line of that.
pub(crate) fn sniff(limits: &Limits, bytes: &[u8]) -> Sniffed {
    let window = &bytes[..bytes.len().min(head_bytes_max(limits))];
    let begins = |method: &&&[u8]| {
        let length = method.len().min(window.len());
        window[..length] == method[..length]
    };
    let Some(method) = METHODS.iter().find(begins) else { return Sniffed::Other };
    match memchr(b'\n', window) {
        Some(at) if is_request_line(&window[..at]) => Sniffed::Http,
        Some(_) => Sniffed::Other,
        // A telnet client waits for an answer to these.
        None if window.iter().any(|byte| *byte == IAC || *byte == 0) => Sniffed::Other,
        None if window.len() < head_bytes_max(limits) => Sniffed::Unclear,
        None if COMMANDS.contains(method) => Sniffed::Other,
        None => Sniffed::Http,
    }
}

/// Whether it is three words, the last of which is a version of HTTP.
fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(_), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return false;
    };
    let is_version = version.strip_prefix(b"HTTP/").is_some_and(
        |number| matches!(number, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit()),
    );
    is_version && !target.is_empty() && target.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..0xf0))
}

/// Whether a request is for a head, however broken the rest of it is: nothing but one may answer that.
fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}

/// Nor is a head longer than a line may be.
fn head_bytes_max(limits: &Limits) -> usize {
    HEAD_BYTES_MAX.min(limits.line_bytes_max)
}

/// The state of one client.
#[derive(Debug)]
pub(crate) struct HttpSession {
    state: State,
    pub(crate) client: Client,
    /// What came of the attempt to log in that a request waited for.
    pub(crate) verdict: Option<(Fingerprint, bool)>,
    /// Replies, before they are answers.
    packed: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// A head comes. The first `scanned` bytes have no end of one; a line begins at `line`.
    Head {
        scanned: usize,
        line: usize,
    },
    /// A body of that length comes.
    Body {
        request: Box<Request>,
        length: usize,
    },
    Chunked {
        request: Box<Request>,
        chunked: Chunked,
    },
    /// The answer to the last request has no end.
    Watching,
    /// Nothing more is answered.
    Left,
}

impl State {
    const START: Self = Self::Head { scanned: 0, line: 0 };
}

/// What is asked for.
#[derive(Debug)]
struct Request {
    head: Head,
    route: Route,
}

impl Default for HttpSession {
    fn default() -> Self {
        let client = Client { dialect: Dialect::Packed, ..Client::default() };
        Self { state: State::START, client, verdict: None, packed: Vec::new() }
    }
}

/// Capacity that is kept between requests.
const KEPT_BYTES: usize = 64 << 10;

impl HttpSession {
    /// Carries out every complete request in `bytes`, appends the responses to `out` and returns the bytes used. It
    /// stops early at an incomplete one, and before the next once `out` has reached its limit, or if it has to be found
    /// out who asks.
    pub(crate) fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, server: &mut Server<'_, '_>) -> usize {
        let mut used = 0;
        while out.len() < server.config.limits.output_bytes_max && !server.waiters.is_waiting(server.conn) {
            match self.step(&bytes[used..], out, server) {
                0 => break,
                taken => used += taken,
            }
        }
        used
    }

    /// Whether the connection is to end.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self.state, State::Left)
    }

    fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>, server: &mut Server<'_, '_>) -> usize {
        let limits = &server.config.limits;
        match &mut self.state {
            State::Left | State::Watching => bytes.len(),
            State::Head { scanned, line } => {
                let window = &bytes[..bytes.len().min(head_bytes_max(limits))];
                match scan_head(window, scanned, line) {
                    Ok(Scan::Blank(used)) => {
                        self.state = State::START;
                        used
                    }
                    Ok(Scan::End(end)) => {
                        // Nothing of it is taken before it is known who asks.
                        if self.take_head(&window[..end], out, server) { end } else { 0 }
                    }
                    Ok(Scan::Incomplete) if window.len() < head_bytes_max(limits) => 0,
                    Ok(Scan::Incomplete) => {
                        let is_target = *line == 0;
                        let fault = if is_target {
                            Fault::new(414, "the target of the request is too long")
                        } else {
                            Fault::new(431, "the head of the request is too long")
                        };
                        self.end_broken(&fault, is_head(bytes), out);
                        bytes.len()
                    }
                    Err(fault) => {
                        self.end_broken(&fault, is_head(bytes), out);
                        bytes.len()
                    }
                }
            }
            State::Body { length, .. } => {
                let length = *length;
                if bytes.len() < length {
                    return 0;
                }
                if let State::Body { request, .. } = std::mem::replace(&mut self.state, State::START) {
                    self.run(&request, &bytes[..length], out, server);
                }
                length
            }
            State::Chunked { chunked, request } => {
                let is_head = request.head.method == Method::Head;
                let taken = chunked.take(bytes, limits.value_bytes_max);
                let is_whole = chunked.is_whole();
                match taken {
                    Ok(used) => {
                        if is_whole
                            && let State::Chunked { request, chunked } =
                                std::mem::replace(&mut self.state, State::START)
                        {
                            self.run(&request, &chunked.body, out, server);
                        }
                        used
                    }
                    Err(fault) => {
                        self.end_broken(&fault, is_head, out);
                        bytes.len()
                    }
                }
            }
        }
    }

    /// Takes a head. False: it is to be taken again, once it is known who asks.
    fn take_head(&mut self, bytes: &[u8], out: &mut Vec<u8>, server: &mut Server<'_, '_>) -> bool {
        let mut head = match head::parse(bytes, server.config) {
            Ok(head) => head,
            Err(fault) => {
                self.end_broken(&fault, is_head(bytes), out);
                return true;
            }
        };
        let is_head = head.method == Method::Head;
        let limits = &server.config.limits;
        let is_too_large = matches!(head.framing, Framing::Length(length) if length > limits.value_bytes_max as u64);
        let route = match head.strange.take() {
            Some(fault) => Err(fault),
            None => routes::route(&head, limits),
        };
        let route = route
            .and_then(|route| if is_too_large { Err(Fault::too_large(limits.value_bytes_max)) } else { Ok(route) });
        let route = match route {
            Ok(route) => {
                let verdict = self.verdict.take();
                match login::admit(&head.authorization, &route, verdict, &mut self.client, server) {
                    Some(admitted) => admitted.map(|()| route),
                    None => return false,
                }
            }
            Err(fault) => Err(fault),
        };
        match route {
            Ok(route) => {
                let expects = head.expects_continue && head.framing != Framing::Length(0);
                let (framing, request) = (head.framing, Box::new(Request { head, route }));
                if expects {
                    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                match framing {
                    Framing::Length(0) => {
                        self.state = State::START;
                        self.run(&request, b"", out, server);
                    }
                    // No more than the limit of values, as was just seen.
                    Framing::Length(length) => self.state = State::Body { request, length: length as usize },
                    Framing::Chunked => self.state = State::Chunked { request, chunked: Chunked::default() },
                }
            }
            // Its body is not waited for.
            Err(fault) if head.framing != Framing::Length(0) => self.end_broken(&fault, is_head, out),
            Err(fault) => {
                Response { out, is_head, persistence: head.persistence }.fail(&fault);
                self.state = if head.persistence == Persistence::Ends { State::Left } else { State::START };
            }
        }
        true
    }

    fn end_broken(&mut self, fault: &Fault, is_head: bool, out: &mut Vec<u8>) {
        Response { out, is_head, persistence: Persistence::Ends }.fail(fault);
        self.state = State::Left;
    }

    fn run(&mut self, request: &Request, body: &[u8], out: &mut Vec<u8>, server: &mut Server<'_, '_>) {
        let Request { head, route } = request;
        let persistence = head.persistence;
        let response = &mut Response { out, is_head: head.method == Method::Head, persistence };
        let (client, packed) = (&mut self.client, &mut self.packed);
        routes::answer(head, route, body, &mut Desk { server, client, packed }, response);
        if self.packed.capacity() > KEPT_BYTES {
            self.packed = Vec::new();
        }
        if server.pubsub.watchers.is_watcher(server.conn) {
            self.state = State::Watching;
        } else if persistence == Persistence::Ends {
            self.state = State::Left;
        }
    }
}

/// Where requests are carried out.
struct Desk<'a, 's, 'e> {
    server: &'a mut Server<'s, 'e>,
    client: &'a mut Client,
    packed: &'a mut Vec<u8>,
}

enum Scan {
    /// Empty lines come before the head.
    Blank(usize),
    End(usize),
    Incomplete,
}

/// Looks for the end of a head. Lines end with CR LF and nothing else: who is less strict reads other requests.
fn scan_head(window: &[u8], scanned: &mut usize, line: &mut usize) -> Result<Scan, Fault> {
    while let Some(at) = memchr(b'\n', &window[*scanned..]).map(|at| *scanned + at) {
        if at == *line || window[at - 1] != b'\r' {
            return Err(Fault::bad("a line of the head does not end with CR LF"));
        }
        let is_empty = at - 1 == *line;
        if is_empty {
            return Ok(if *line == 0 { Scan::Blank(at + 1) } else { Scan::End(at + 1) });
        }
        (*scanned, *line) = (at + 1, at + 1);
    }
    *scanned = window.len();
    Ok(Scan::Incomplete)
}
