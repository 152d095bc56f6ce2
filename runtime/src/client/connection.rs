//! One connection to a server.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use memchr::memchr;

use super::resp::{self, Head, Value, head};
use super::shown::plain;
use super::stream::Stream;
use crate::tls::client::ClientTls;

/// Longest answer that is taken: more than the longest value that a server holds.
const REPLY_BYTES_MAX: usize = 1 << 30;
/// Longest line: errors and numbers are shorter.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How deep lists may be in lists. COMMAND DOCS of Redis has about ten.
const DEPTH_MAX: usize = 32;
/// What each answer in a list counts for besides its bytes.
const ITEM_BYTES: usize = size_of::<Value>();
/// What is made room for at once, whatever a server announces.
const AHEAD_ITEMS_MAX: usize = 1_024;
/// What one read takes at the most.
const READ_BYTES: usize = 64 << 10;
/// How often it is looked whether a wait was interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// How much is shown of what a server says that is no answer.
const SHOWN_BYTES_MAX: usize = 200;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Between two answers, or in one.
    Closed,
    System(io::Error),
    /// Nothing came for so long.
    Silent(Duration),
    /// Ctrl-C.
    Interrupted,
    /// It said this, and does not speak the protocol.
    Garbage(String),
    /// It said this, and wants no connection.
    Refused(String),
    /// An answer is longer, or deeper in itself, than is taken.
    TooMuch,
}

/// Asks a server, and takes its answers.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    /// What was read, and from where on it was not taken.
    buffer: Vec<u8>,
    at: usize,
    /// What one answer may take.
    bytes_max: usize,
    interrupted: Option<Arc<AtomicBool>>,
}

impl Connection {
    /// Connects to `host:port` at the first of its addresses that accepts, by TLS if `tls` is given. `within` is for
    /// all of it, the lookup of the name too.
    pub(crate) fn connect(server: &str, tls: Option<&ClientTls>, within: Duration) -> io::Result<Self> {
        let stream = Stream::connect(server, tls, within)?;
        Ok(Self { stream, buffer: Vec::new(), at: 0, bytes_max: REPLY_BYTES_MAX, interrupted: None })
    }

    pub(crate) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// Takes no longer answers from now on; answers what the limit was.
    pub(crate) const fn limit(&mut self, bytes_max: usize) -> usize {
        std::mem::replace(&mut self.bytes_max, bytes_max)
    }

    /// Waits end when the flag is set.
    pub(crate) fn with_interrupt(self, flag: Arc<AtomicBool>) -> Self {
        Self { interrupted: Some(flag), ..self }
    }

    /// Sends a request, and takes the answer to it. What is said unasked meanwhile is left out.
    pub(crate) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W], within: Duration) -> Result<Value, Lost> {
        self.send(words, Some(within))?;
        loop {
            match self.answer(Some(within))? {
                Value::Push(_) => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Sends a request.
    pub(crate) fn send<W: AsRef<[u8]>>(&mut self, words: &[W], within: Option<Duration>) -> Result<(), Lost> {
        let mut out = Vec::new();
        resp::emit(words, &mut out);
        let mut wait = Wait::new(within);
        let mut rest = &out[..];
        self.stream.set_write_timeout(LOOK)?;
        loop {
            let written = match rest {
                [] => self.stream.flush().map(|()| None),
                _ => self.stream.write(rest).map(Some),
            };
            match written {
                Ok(None) => return Ok(()),
                Ok(Some(0)) => return Err(Lost::Closed),
                Ok(Some(count)) => {
                    rest = &rest[count..];
                    wait = Wait::new(within);
                }
                Err(error) => self.may_wait(&wait, error)?,
            }
        }
    }

    /// The next answer, or what is said unasked. `within`: how long nothing may come; none: any time.
    pub(crate) fn answer(&mut self, within: Option<Duration>) -> Result<Value, Lost> {
        // What was taken goes, but for the rest that has not been.
        self.buffer.drain(..self.at);
        self.at = 0;
        let mut budget = self.bytes_max;
        self.value(within, DEPTH_MAX, &mut budget)
    }

    /// Whether the server has closed it, while nothing is asked. What it says unasked stays to be read.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.at == self.buffer.len() && self.stream.has_ended()
    }

    fn value(&mut self, within: Option<Duration>, depth: usize, budget: &mut usize) -> Result<Value, Lost> {
        let line = self.line(within, budget)?;
        spend(budget, ITEM_BYTES)?;
        match head(&line) {
            Some(Head::Null) => Ok(Value::Null),
            Some(Head::Simple(text)) => Ok(Value::Simple(text.to_vec())),
            Some(Head::Error(text)) => Ok(Value::Error(text.to_vec())),
            Some(Head::Integer(number)) => Ok(Value::Integer(number)),
            Some(Head::Boolean(is_so)) => Ok(Value::Boolean(is_so)),
            Some(Head::Double(text)) => Ok(Value::Double(text.to_vec())),
            Some(Head::BigNumber(text)) => Ok(Value::BigNumber(text.to_vec())),
            Some(Head::Blob(length)) => self.blob(length, within, budget).map(Value::Blob),
            Some(Head::BlobError(length)) => self.blob(length, within, budget).map(Value::Error),
            Some(Head::Verbatim(length)) => {
                let mut text = self.blob(length, within, budget)?;
                // Three letters and a colon say what kind of text it is.
                text.drain(..text.len().min(4));
                Ok(Value::Verbatim(text))
            }
            Some(Head::Array(count)) => self.list(count, within, depth, budget).map(Value::Array),
            Some(Head::Set(count)) => self.list(count, within, depth, budget).map(Value::Set),
            Some(Head::Push(count)) => self.list(count, within, depth, budget).map(Value::Push),
            Some(Head::Map(count)) => self.map(count, within, depth, budget).map(Value::Map),
            Some(Head::Attribute(count)) => {
                self.map(count, within, depth, budget)?;
                self.value(within, depth.checked_sub(1).ok_or(Lost::TooMuch)?, budget)
            }
            None if resp::is_crowded(&line) => Err(Lost::Refused(shown(&line))),
            None => Err(Lost::Garbage(shown(&line))),
        }
    }

    fn list(
        &mut self,
        count: usize,
        within: Option<Duration>,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Vec<Value>, Lost> {
        let depth = depth.checked_sub(1).ok_or(Lost::TooMuch)?;
        let mut items = Vec::with_capacity(count.min(AHEAD_ITEMS_MAX));
        for _ in 0..count {
            items.push(self.value(within, depth, budget)?);
        }
        Ok(items)
    }

    fn map(
        &mut self,
        count: usize,
        within: Option<Duration>,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Vec<(Value, Value)>, Lost> {
        let depth = depth.checked_sub(1).ok_or(Lost::TooMuch)?;
        let mut pairs = Vec::with_capacity(count.min(AHEAD_ITEMS_MAX));
        for _ in 0..count {
            pairs.push((self.value(within, depth, budget)?, self.value(within, depth, budget)?));
        }
        Ok(pairs)
    }

    /// A line, without its end.
    fn line(&mut self, within: Option<Duration>, budget: &mut usize) -> Result<Vec<u8>, Lost> {
        let mut looked = 0;
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = memchr(b'\n', &rest[looked..]) {
                let line = rest[..looked + end].to_vec();
                self.at += looked + end + 1;
                spend(budget, line.len())?;
                return Ok(line.strip_suffix(b"\r").map_or_else(|| line.clone(), <[u8]>::to_vec));
            }
            looked = rest.len();
            if looked > LINE_BYTES_MAX {
                let said = shown(&rest[..SHOWN_BYTES_MAX]);
                return Err(if head(rest).is_some() { Lost::TooMuch } else { Lost::Garbage(said) });
            }
            self.read(within)?;
        }
    }

    /// So many bytes, and the end of the line behind them.
    fn blob(&mut self, length: usize, within: Option<Duration>, budget: &mut usize) -> Result<Vec<u8>, Lost> {
        spend(budget, length)?;
        let mut blob = Vec::with_capacity(length.min(READ_BYTES));
        while blob.len() < length {
            if self.at == self.buffer.len() {
                self.read(within)?;
            }
            let come = &self.buffer[self.at..];
            let taken = come.len().min(length - blob.len());
            blob.extend_from_slice(&come[..taken]);
            self.at += taken;
        }
        match self.line(within, &mut LINE_BYTES_MAX.clone())? {
            end if end.is_empty() => Ok(blob),
            more => Err(Lost::Garbage(shown(&more))),
        }
    }

    /// Reads what there is, once something is.
    fn read(&mut self, within: Option<Duration>) -> Result<(), Lost> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        let had = self.buffer.len();
        self.buffer.resize(had + READ_BYTES, 0);
        let got = self.read_into(had, within);
        self.buffer.truncate(had + *got.as_ref().unwrap_or(&0));
        got.map(|_| ())
    }

    fn read_into(&mut self, from: usize, within: Option<Duration>) -> Result<usize, Lost> {
        let wait = Wait::new(within);
        loop {
            self.stream.set_read_timeout(wait.step())?;
            match self.stream.read(&mut self.buffer[from..]) {
                Ok(0) => return Err(Lost::Closed),
                Ok(count) => return Ok(count),
                Err(error) => self.may_wait(&wait, error)?,
            }
        }
    }

    /// Whether to try again what failed with `error`.
    fn may_wait(&self, wait: &Wait, error: io::Error) -> Result<(), Lost> {
        if self.interrupted.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Lost::Interrupted);
        }
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => wait.check(),
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(error.into()),
        }
    }
}

/// How long something may still take.
struct Wait {
    within: Option<Duration>,
    begin: Instant,
}

impl Wait {
    fn new(within: Option<Duration>) -> Self {
        Self { within, begin: Instant::now() }
    }

    /// How long to wait before the next look; never 0, which the system takes for ever.
    fn step(&self) -> Duration {
        let left = self.within.map_or(LOOK, |within| within.saturating_sub(self.begin.elapsed()));
        left.clamp(Duration::from_millis(1), LOOK)
    }

    fn check(&self) -> Result<(), Lost> {
        match self.within {
            Some(within) if self.begin.elapsed() >= within => Err(Lost::Silent(within)),
            _ => Ok(()),
        }
    }
}

fn spend(budget: &mut usize, bytes: usize) -> Result<(), Lost> {
    *budget = budget.checked_sub(bytes).ok_or(Lost::TooMuch)?;
    Ok(())
}

/// The beginning of what a server said, as text for a terminal.
fn shown(bytes: &[u8]) -> String {
    plain(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])
}

/// Connects to the first address of a name that accepts. A name server that hangs holds up nobody for longer than
/// `within`: the lookup then goes on in a thread of its own, to no end.
pub(super) fn connect(server: &str, within: Duration) -> io::Result<TcpStream> {
    let begin = Instant::now();
    let (tell, told) = mpsc::channel();
    let name = server.to_owned();
    thread::Builder::new().name("lookup".into()).spawn(move || {
        // Fails only when nobody waits any more.
        let _ = tell.send(name.to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>));
    })?;
    let addresses = told.recv_timeout(within).map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("its name was not found within {} s", tenths(within)))
    })??;
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        let left = within.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::Closed
            }
            _ => Self::System(error),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed the connection"),
            Self::System(error) => write!(f, "cannot be reached any more: {error}"),
            Self::Silent(silence) => write!(f, "does not answer within {} s", tenths(*silence)),
            Self::Interrupted => f.write_str("was not waited for"),
            Self::Garbage(said) => write!(f, "does not speak the protocol of Redis; it says: {said}"),
            Self::Refused(said) => write!(f, "refuses the connection: {said}"),
            Self::TooMuch => f.write_str("gives a longer answer than is taken"),
        }
    }
}

/// Seconds, to a tenth.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// What is taken of a server that sends `pieces`, with no more than `bytes_max` for an answer, and closes.
    fn taken(pieces: &[&[u8]], bytes_max: usize) -> Result<Value, Lost> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let mut connection = Connection::connect(&server, None, SOON).unwrap().with_bytes_max(bytes_max);
        let (mut stream, _) = listener.accept().unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let sender = thread::spawn(move || {
            for piece in pieces {
                // The client has left if it wants no more.
                let _ = stream.write_all(&piece);
            }
        });
        let taken = connection.answer(Some(SOON));
        drop(connection);
        sender.join().unwrap();
        taken
    }

    #[test]
    fn answers_of_every_kind_are_taken_however_they_come() {
        let stream = b"*12\r\n+OK\r\n:5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n,1.5\r\n=7\r\ntxt:a\nb\r\n\
            %1\r\n+k\r\n~1\r\n:1\r\n\
            |1\r\n+a\r\n+b\r\n!5\r\nERR x\r\n*0\r\n";
        let text = |text: &str| Value::Simple(text.into());
        let expected = Value::Array(vec![
            text("OK"),
            Value::Integer(5),
            Value::Blob(b"a\r\n".to_vec()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Boolean(true),
            Value::Double(b"1.5".to_vec()),
            Value::Verbatim(b"a\nb".to_vec()),
            Value::Map(vec![(text("k"), Value::Set(vec![Value::Integer(1)]))]),
            Value::Error(b"ERR x".to_vec()),
            Value::Array(Vec::new()),
        ]);
        assert_eq!(taken(&[stream], REPLY_BYTES_MAX).unwrap(), expected);
        let each: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(taken(&each, REPLY_BYTES_MAX).unwrap(), expected);
    }

    #[test]
    fn what_is_no_answer_or_too_much_of_one_is_told() {
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 2);
        let long = vec![b'+'; LINE_BYTES_MAX + 2];
        for (stream, bytes_max, says) in [
            (&b"HTTP/1.1 400 Bad\x1b[2J Request\r\n"[..], 1_000, r"it says: HTTP/1.1 400 Bad\x1b[2J Request"),
            (b"$2\r\nabc\r\n", 1_000, "does not speak the protocol"),
            (b"Error: too many connections\r\n", 1_000, "refuses the connection: Error: too many"),
            (b"*99999999999\r\n:1\r\n", 1_000, "closed the connection"),
            (b"$2147483647\r\n", 1_000, "longer answer"),
            (b"$1000000000\r\nabc", REPLY_BYTES_MAX, "closed the connection"),
            (&b":1\r\n".repeat(9_999)[..], 1_000, ""),
            (&[&b"*9999\r\n"[..], &b":1\r\n".repeat(9_999)[..]].concat(), 1_000, "longer answer"),
            (&deep, REPLY_BYTES_MAX, "longer answer"),
            (&long, REPLY_BYTES_MAX, "longer answer"),
            (b"", 1_000, "closed the connection"),
        ] {
            let got = taken(&[stream], bytes_max).map_or_else(|lost| lost.to_string(), |_| String::new());
            assert!(got.contains(says) && got.is_empty() == says.is_empty(), "{got:?} does not say {says:?}");
        }
    }

    #[test]
    fn a_wait_ends_when_it_is_time_and_when_it_is_interrupted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let flag = Arc::new(AtomicBool::new(false));
        let mut connection = Connection::connect(&server, None, SOON).unwrap().with_interrupt(Arc::clone(&flag));
        assert!(matches!(connection.answer(Some(Duration::from_millis(5))), Err(Lost::Silent(_))));
        assert!(!connection.is_closed());
        flag.store(true, Ordering::Relaxed);
        assert!(matches!(connection.answer(None), Err(Lost::Interrupted)));
        drop(listener);
    }
}
