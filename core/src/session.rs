//! A client's connection: from bytes as they arrive to commands.
//!
//! It talks in lines of text until the first that begins with `*`, and in the Redis protocol from there on.
//!
//! A line ends with LF, CR LF or CR NUL. Telnet's own bytes may stand anywhere, also inside a line, and are not part
//! of it. Replies depend on the bytes only, never on how they were split into reads.

mod pushed;
mod transaction;

use memchr::memchr3;

use crate::acl::{Access, stranger_limits};
use crate::command::{Bounded, Command, Reply};
use crate::commands::{self, Verb};
use crate::config::Limits;
use crate::execute::Flow;
use crate::version::Version;
use crate::wire::ahead::{Ahead, Found};
use crate::wire::resp::{self, Broken, Incoming, Next};
use crate::wire::telnet::{IAC, Taken, Telnet};
use crate::wire::words::{Unquoted, Words, trim};
use crate::wire::{Dialect, line};
pub(crate) use pushed::Pushed;
pub(crate) use transaction::{Standing, Stood, Watched};
use transaction::{Transaction, is_by_itself, is_run_at_once};

/// What a request of the Redis protocol begins with.
const REQUEST: u8 = b'*';

/// What Ctrl-D sends.
const END_OF_TRANSMISSION: u8 = 0x04;

/// The state of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientSession {
    phase: Phase,
    telnet: Telnet,
    /// The data of an unfinished line that telnet bytes stood in; empty in every other phase than `Copied`.
    copied: Vec<u8>,
    unquoted: Unquoted,
    /// It speaks the Redis protocol by now.
    speaks_resp: bool,
    /// Of a request of that, which is not all there yet.
    incoming: Option<Box<Incoming>>,
    /// A command's reply is still to come, or it is put off; no other command is run before.
    waits: bool,
    /// The client does not want the reply that is still to come.
    is_muted: bool,
    /// What is run first of all once the client goes on.
    put_off: Option<Box<Transaction>>,
    pub(crate) client: Client,
}

// A class of the allocator; with 10,000 idle connections the next one is 320 KB.
const _: () = assert!(size_of::<ClientSession>() <= 160);

/// What commands know of the client that gives them.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) dialect: Dialect,
    pub(crate) access: Access,
    /// The newest write of this connection that was taken.
    pub(crate) wrote: Option<Version>,
    /// The keyspace that it has chosen.
    pub(crate) space: u8,
    pub(crate) called: Called,
    /// The last command.
    pub(crate) verb: Option<Verb>,
    pub(crate) replies: Replies,
    /// What it is told unasked, until it is sent.
    pub(crate) pushed: Pushed,
    /// What it has put off since `MULTI`.
    pub(crate) transaction: Option<Box<Transaction>>,
    /// What was put off is being run.
    pub(crate) is_inside: bool,
    pub(crate) watched: Watched,
}

/// What a client calls itself, its library, and the version of that; nothing if it has said none of it.
#[derive(Debug, Default)]
pub(crate) struct Called(Option<Box<[Box<[u8]>; 3]>>);

impl Called {
    pub(crate) fn name(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |called| &called[0])
    }

    pub(crate) fn set_name(&mut self, name: Box<[u8]>) {
        if !name.is_empty() || self.0.is_some() {
            self.0.get_or_insert_default()[0] = name;
        }
    }

    /// The library and its version.
    pub(crate) fn library(&self) -> [&[u8]; 2] {
        self.0.as_ref().map_or([&[], &[]], |called| [&called[1], &called[2]])
    }

    pub(crate) fn set_library(&mut self, is_version: bool, value: Box<[u8]>) {
        self.0.get_or_insert_default()[1 + usize::from(is_version)] = value;
    }
}

/// Which replies a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    #[default]
    All,
    None,
    /// All but that to this command and to the next.
    SkipsNext,
    /// All but that to this command.
    Skips,
}

/// Where the line stands that the next data byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// With the caller, at the start of what it hands in next; its end is not among the first `scanned` bytes.
    InPlace { scanned: u32 },
    /// In `copied`, because telnet bytes stood in it; never empty.
    Copied,
    /// It was too long and is dropped up to its end.
    Dropped { after_cr: bool },
    /// The client has left, or speaks HTTP. Further input means nothing.
    Left,
}

impl Default for Phase {
    fn default() -> Self {
        Self::LINE_START
    }
}

impl Phase {
    const LINE_START: Self = Self::InPlace { scanned: 0 };
}

impl Client {
    /// Goes on in that version of the Redis protocol. Lines of text stay lines.
    pub(crate) fn choose_protocol(&mut self, is_3: bool) {
        if self.dialect != Dialect::Line {
            self.dialect = Dialect::Resp { is_3 };
        }
    }
}

/// Carries out a command and appends the whole reply, `STATS` and `PEERS` included.
pub(crate) type Run<'r> = dyn FnMut(&Command<'_>, &mut Client, &mut Vec<u8>) -> Flow + 'r;

impl ClientSession {
    /// One of somebody.
    pub(crate) fn of(access: Access) -> Self {
        let client = Client { access, ..Client::default() };
        Self { client, ..Self::default() }
    }

    /// Finds at most `max` of the requests that `bytes`, which come next, begin with; how many bytes those have. 0:
    /// nothing is known of what comes.
    pub(crate) fn look_ahead(&self, limits: &Limits, bytes: &[u8], ahead: &mut Ahead, max: usize) -> usize {
        match self.incoming {
            // Within other limits.
            _ if self.client.access.is_stranger() => {
                ahead.clear();
                0
            }
            None if self.speaks_resp => ahead.find_requests(limits, bytes, max),
            None if self.phase == Phase::LINE_START && !self.telnet.is_inside() => {
                ahead.find_lines(limits, bytes, max, |first| matches!(first, REQUEST | END_OF_TRANSMISSION))
            }
            _ => {
                ahead.clear();
                0
            }
        }
    }

    /// Runs every complete line in `bytes`, appends the replies to `out` and returns the bytes used. It stops early at
    /// an incomplete line, and before the next line once `out` has reached its limit or a command waits. The caller
    /// hands in the rest again, with more bytes behind it, after the output has drained, or after [`resume`]. What was
    /// found by [`look_ahead`] stands in `ahead`.
    ///
    /// [`look_ahead`]: Self::look_ahead
    /// [`resume`]: Self::resume
    pub(crate) fn receive(
        &mut self,
        limits: &Limits,
        (bytes, ahead): (&[u8], &mut Ahead),
        out: &mut Vec<u8>,
        run: &mut Run<'_>,
    ) -> usize {
        let mut used = 0;
        // What was said before.
        self.client.pushed.send_all(out);
        if let Some(put_off) = self.put_off.take_if(|_| !self.waits) {
            put_off.for_each(|words| self.take_words(limits, words, out, run));
        }
        while out.len() < limits.output_bytes_max && !self.waits {
            let rest = &bytes[used..];
            if self.client.access.is_stranger() {
                ahead.clear();
            }
            let found = if self.has_left() { None } else { ahead.next(rest) };
            let taken = match found {
                Some(Found::Request(words, length)) => {
                    self.take_words(limits, words, out, run);
                    length
                }
                Some(Found::Line(line, length)) => {
                    self.run_line(limits, line, out, run);
                    length
                }
                None if self.client.access.is_free() => self.step(limits, rest, out, run),
                None => self.step_checked(limits, rest, out, run),
            };
            if taken == 0 {
                break;
            }
            used += taken;
        }
        self.push_told(out);
        debug_assert_eq!(self.copied.is_empty(), self.phase != Phase::Copied, "a line stands in one place");
        used
    }

    /// Whether the connection is to end: the client asked for it, or speaks HTTP.
    pub(crate) fn has_left(&self) -> bool {
        self.phase == Phase::Left
    }

    /// Appends what the client is told unasked by its own commands, unless that would stand before a reply.
    fn push_told(&mut self, out: &mut Vec<u8>) {
        if !self.waits {
            self.client.pushed.send_all(out);
        }
    }

    /// The command that waited has been answered, or the one that was put off is to be run.
    pub(crate) fn resume(&mut self) {
        (self.waits, self.is_muted) = (false, false);
    }

    /// Whether the client does not want the late reply.
    pub(crate) fn is_muted(&self) -> bool {
        self.is_muted
    }

    /// Whether the next command is put off.
    pub(crate) fn is_put_off(&self) -> bool {
        self.put_off.is_some()
    }

    /// The same as [`step`](Self::step), within the limits of somebody who has yet to log in.
    #[cold]
    fn step_checked(&mut self, limits: &Limits, bytes: &[u8], out: &mut Vec<u8>, run: &mut Run<'_>) -> usize {
        if self.client.access.is_stranger() {
            return self.step(&stranger_limits(limits), bytes, out, run);
        }
        self.step(limits, bytes, out, run)
    }

    /// Takes a line, a part of one, or a telnet byte; returns the bytes used. 0: more input is needed.
    fn step(&mut self, limits: &Limits, bytes: &[u8], out: &mut Vec<u8>, run: &mut Run<'_>) -> usize {
        let Some(first) = bytes.first() else { return 0 };
        if self.phase == Phase::Left {
            return bytes.len();
        }
        if self.speaks_resp {
            return self.step_request(limits, bytes, out, run);
        }
        if self.telnet.is_inside() {
            match self.telnet.take(*first, out) {
                Taken::Nothing => return 1,
                Taken::DataIac => {
                    self.take_data_iac(limits, out);
                    return 1;
                }
                Taken::Interrupt => {
                    self.start_line();
                    return 1;
                }
                Taken::NotTelnet => {}
            }
        }
        match self.phase {
            Phase::InPlace { scanned } => self.step_in_place(scanned as usize, limits, bytes, out, run),
            Phase::Copied => self.step_copied(limits, bytes, out, run),
            Phase::Dropped { after_cr } => self.step_dropped(after_cr, bytes),
            Phase::Left => bytes.len(),
        }
    }

    fn step_in_place(
        &mut self,
        scanned: usize,
        limits: &Limits,
        bytes: &[u8],
        out: &mut Vec<u8>,
        run: &mut Run<'_>,
    ) -> usize {
        debug_assert!(scanned <= bytes.len(), "the caller hands in again what was not used");
        match bytes[0] {
            END_OF_TRANSMISSION => {
                self.phase = Phase::Left;
                return 1;
            }
            REQUEST => {
                self.speaks_resp = true;
                self.client.dialect = Dialect::Resp { is_3: false };
                self.phase = Phase::LINE_START;
                return self.step_request(limits, bytes, out, run);
            }
            _ => {}
        }
        let window = &bytes[..bytes.len().min(limits.line_bytes_max)];
        match next_mark(window, scanned, false) {
            Some(Mark::LineEnd(at)) => {
                self.phase = Phase::LINE_START;
                self.run_line(limits, &window[..at], out, run);
                at + 1
            }
            Some(Mark::Telnet(at)) => {
                self.telnet.begin();
                if at == 0 {
                    self.phase = Phase::LINE_START;
                } else {
                    self.copied.extend_from_slice(&window[..at]);
                    self.phase = Phase::Copied;
                }
                at + 1
            }
            None if window.len() == limits.line_bytes_max => {
                self.drop_line(limits, ends_with_cr(window), out);
                window.len()
            }
            None => {
                self.phase = Phase::InPlace { scanned: u32::try_from(window.len()).unwrap_or(u32::MAX) };
                0
            }
        }
    }

    /// Takes a request of the Redis protocol.
    fn step_request(&mut self, limits: &Limits, bytes: &[u8], out: &mut Vec<u8>, run: &mut Run<'_>) -> usize {
        let mut incoming = self.incoming.take().unwrap_or_default();
        match incoming.next(limits, bytes) {
            Next::Incomplete => {
                self.incoming = Some(incoming);
                0
            }
            Next::Nothing(used) => used,
            Next::Request(used) => {
                self.take_words(limits, incoming.words(&bytes[..used]), out, run);
                used
            }
            Next::Line(line, _) if line::is_http(line) => {
                self.phase = Phase::Left;
                bytes.len()
            }
            Next::Line(line, used) => {
                let mut unquoted = std::mem::take(&mut self.unquoted);
                match unquoted.words(line) {
                    Ok(words) => self.take_words(limits, words, out, run),
                    Err(_) => self.end_broken(Broken::Quotes, out),
                }
                unquoted.trim();
                self.unquoted = unquoted;
                used
            }
            Next::Broken(broken) => {
                let broken = if self.client.access.is_stranger() { broken.of_stranger() } else { broken };
                self.end_broken(broken, out);
                bytes.len()
            }
        }
    }

    fn end_broken(&mut self, broken: Broken, out: &mut Vec<u8>) {
        resp::emit_broken(broken, out);
        self.phase = Phase::Left;
    }

    fn step_copied(&mut self, limits: &Limits, bytes: &[u8], out: &mut Vec<u8>, run: &mut Run<'_>) -> usize {
        let room = limits.line_bytes_max - self.copied.len();
        let window = &bytes[..bytes.len().min(room)];
        match next_mark(window, 0, ends_with_cr(&self.copied)) {
            Some(Mark::LineEnd(at)) => {
                self.copied.extend_from_slice(&window[..at]);
                let line = std::mem::take(&mut self.copied);
                self.phase = Phase::LINE_START;
                self.run_line(limits, &line, out, run);
                self.copied = line;
                self.empty_copied();
                at + 1
            }
            Some(Mark::Telnet(at)) => {
                self.copied.extend_from_slice(&window[..at]);
                self.telnet.begin();
                at + 1
            }
            None => {
                self.copied.extend_from_slice(window);
                self.drop_copied_if_full(limits, out);
                window.len()
            }
        }
    }

    fn step_dropped(&mut self, after_cr: bool, bytes: &[u8]) -> usize {
        match next_mark(bytes, 0, after_cr) {
            Some(Mark::LineEnd(at)) => {
                self.phase = Phase::LINE_START;
                at + 1
            }
            Some(Mark::Telnet(at)) => {
                self.telnet.begin();
                if at > 0 {
                    self.phase = Phase::Dropped { after_cr: ends_with_cr(&bytes[..at]) };
                }
                at + 1
            }
            None => {
                self.phase = Phase::Dropped { after_cr: ends_with_cr(bytes) };
                bytes.len()
            }
        }
    }

    /// A data byte of the value of IAC, which no buffer holds: doubled, it was taken as telnet.
    fn take_data_iac(&mut self, limits: &Limits, out: &mut Vec<u8>) {
        match self.phase {
            Phase::InPlace { .. } | Phase::Copied => {
                self.phase = Phase::Copied;
                self.copied.push(IAC);
                self.drop_copied_if_full(limits, out);
            }
            Phase::Dropped { .. } => self.phase = Phase::Dropped { after_cr: false },
            Phase::Left => {}
        }
    }

    /// Runs a line whose end is taken off but for the CR before it.
    fn run_line(&mut self, limits: &Limits, line: &[u8], out: &mut Vec<u8>, run: &mut Run<'_>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A web page can make the browser of anybody who reads it send a request to a port of their own machine or
        // network. The lines of its body would be run as commands, so nothing after the first line of HTTP is.
        if line::is_http(line) {
            line::emit(&Reply::Http, out);
            self.phase = Phase::Left;
            return;
        }
        let mut unquoted = std::mem::take(&mut self.unquoted);
        match unquoted.words(line) {
            Ok(words) => self.take_words(limits, words, out, run),
            Err(error) => line::emit(&Reply::BadWords(error), out),
        }
        unquoted.trim();
        self.unquoted = unquoted;
    }

    /// Runs the command that `words` spell, and leaves out the reply if the client does not want it.
    fn take_words(&mut self, limits: &Limits, words: Words<'_>, out: &mut Vec<u8>, run: &mut Run<'_>) {
        let from = out.len();
        self.run_words(limits, words, out, run);
        if self.client.replies == Replies::All || self.is_put_off() {
            return self.push_told(out);
        }
        out.truncate(from);
        self.is_muted = self.waits;
        self.client.replies = match self.client.replies {
            Replies::All | Replies::Skips => Replies::All,
            Replies::None => Replies::None,
            Replies::SkipsNext => Replies::Skips,
        };
        self.push_told(out);
    }

    /// Runs the command that `words` spell, or puts it off.
    fn run_words(&mut self, limits: &Limits, words: Words<'_>, out: &mut Vec<u8>, run: &mut Run<'_>) {
        let Some((verb, parsed)) = commands::parse(words, limits) else { return };
        self.client.verb = verb.or(self.client.verb);
        if !self.client.access.is_free()
            && let Some(denied) = self.client.access.denies(verb, &parsed, words)
        {
            if let Some(transaction) = &mut self.client.transaction {
                transaction.spoil();
            }
            run(&Command::Denied(denied), &mut self.client, out);
            return;
        }
        if self.client.transaction.is_some() && limits.memory_bytes_max > 0 && verb.is_some_and(Verb::may_grow) {
            let from = out.len();
            run(&Command::Queued, &mut self.client, out);
            if out.len() > from {
                return self.client.transaction.iter_mut().for_each(|transaction| transaction.spoil());
            }
        }
        if let Some(transaction) = &mut self.client.transaction
            && !parsed.as_ref().is_ok_and(is_run_at_once)
        {
            let put_off = match parsed {
                Ok(command) if is_by_itself(&command) => Err(Reply::Error("Command not allowed inside a transaction")),
                Err(reply) if commands::is_misspelt(&reply, words) => Err(reply),
                // What else is wrong with it is told in its place, as in Redis.
                Ok(_) | Err(_) => transaction.put_off(words, limits),
            };
            if put_off.is_err() {
                transaction.spoil();
            }
            return self.client.dialect.emit(&put_off.map_or_else(|reply| reply, |()| Reply::Status("QUEUED")), out);
        }
        // By reference: a command is long, and was copied often enough.
        match &parsed {
            Ok(command) => match run(command, &mut self.client, out) {
                Flow::Continue | Flow::Node | Flow::Wait(_) => {}
                Flow::Transaction => self.run_transaction(limits, out, run),
                Flow::Blocked => self.waits = true,
                Flow::PutOff => {
                    self.waits = true;
                    self.put_off = Some(Box::new(Transaction::of(words)));
                }
                Flow::Quit => self.phase = Phase::Left,
            },
            Err(reply) => self.client.dialect.emit(reply, out),
        }
    }

    /// Runs what was put off. Nothing of another connection is run in between.
    ///
    /// Whoever wants more replies at once than a request may be long loses the connection: all has been run by then.
    fn run_transaction(&mut self, limits: &Limits, out: &mut Vec<u8>, run: &mut Run<'_>) {
        let Some(transaction) = self.client.transaction.take() else { return };
        let bytes_max = out.len() + limits.request_bytes_max;
        self.client.dialect.emit(&Reply::Array(transaction.len()), out);
        self.client.is_inside = true;
        transaction.for_each(|words| {
            self.run_words(limits, words, out, run);
            if out.len() > bytes_max {
                out.truncate(bytes_max);
                self.phase = Phase::Left;
            }
        });
        self.client.is_inside = false;
    }

    fn drop_copied_if_full(&mut self, limits: &Limits, out: &mut Vec<u8>) {
        if self.copied.len() >= limits.line_bytes_max {
            let after_cr = ends_with_cr(&self.copied);
            self.empty_copied();
            self.drop_line(limits, after_cr, out);
        }
    }

    fn drop_line(&mut self, limits: &Limits, after_cr: bool, out: &mut Vec<u8>) {
        line::emit(&Reply::TooLong { what: Bounded::Line, bytes_max: limits.line_bytes_max }, out);
        self.phase = Phase::Dropped { after_cr };
    }

    fn start_line(&mut self) {
        self.empty_copied();
        self.phase = Phase::LINE_START;
    }

    fn empty_copied(&mut self) {
        self.copied.clear();
        trim(&mut self.copied);
    }
}

/// What ends a stretch of a line, and where its last byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    LineEnd(usize),
    Telnet(usize),
}

/// The first mark in `bytes` from `from` on; `after_cr` tells whether the data byte before `bytes` is a CR.
fn next_mark(bytes: &[u8], from: usize, after_cr: bool) -> Option<Mark> {
    let mut from = from;
    loop {
        let at = from + memchr3(b'\n', 0, IAC, &bytes[from..])?;
        match bytes[at] {
            b'\n' => return Some(Mark::LineEnd(at)),
            IAC => return Some(Mark::Telnet(at)),
            _ if if at == 0 { after_cr } else { bytes[at - 1] == b'\r' } => return Some(Mark::LineEnd(at)),
            _ => from = at + 1,
        }
    }
}

fn ends_with_cr(data: &[u8]) -> bool {
    data.last() == Some(&b'\r')
}

#[cfg(test)]
mod tests;
