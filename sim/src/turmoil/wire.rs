//! Dials and connections as turmoil has them, made to behave like a system's.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::turmoil::net::{TcpListener, TcpStream};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::net::{Fate, Net};
use crate::plan::{Plan, Setting, size};
use crate::rng::{keyed, scale};

/// The port for peers; client `c` has its own behind it, so that who accepts knows whose connection it is.
pub(super) const PEER_PORT: u16 = 1;

/// Attempts of a system to connect, each twice as long after the last, before it gives up.
const DIAL_ATTEMPTS: u32 = 3;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Conn {
    /// Taken only by `drop`.
    stream: Option<TcpStream>,
    pub(super) fate: Rc<Cell<Fate>>,
    morgue: Rc<RefCell<Vec<TcpStream>>>,
    cuts: Cuts,
    /// What it sends, and what it receives.
    flows: [Rc<Flow>; 2],
    /// The socket took no more; cleared when it does.
    pub(super) full: bool,
}

/// One direction of a connection, known to both its ends. turmoil bounds what is under way by writes of any size;
/// systems do it by bytes.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes sent and not read. What was lost in a cut stays.
    open: Cell<usize>,
    /// Wakes the sender that waits for room.
    sender: RefCell<Option<Waker>>,
}

/// All flows that stand, by the sender's address and the receiver's.
pub(super) type Flows = BTreeMap<(SocketAddr, SocketAddr), Weak<Flow>>;

/// How a receiver's reads cut the stream. turmoil hands over each write as it was made.
#[derive(Debug)]
struct Cuts {
    seed: u64,
    /// [`Setting::chunking`].
    chunking: u64,
    /// [`Setting::window_bytes`].
    window: usize,
    serial: u64,
    reads: u64,
}

/// A dial under way; `None` when it comes to nothing.
pub(super) type Dial = Pin<Box<dyn Future<Output = Option<TcpStream>>>>;

/// A connection to be accepted, and from where.
type Accept = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>>>>;

/// A listener, and the next connection it accepts.
pub(super) struct Door {
    /// Whose it is; `None` for peers.
    pub(super) client: Option<u64>,
    listener: Rc<TcpListener>,
    accept: Accept,
}

impl Conn {
    /// `fate` is what becomes of it; `serial` names it.
    pub(super) fn new(net: &mut Net, stream: TcpStream, fate: Rc<Cell<Fate>>, plan: &Plan, serial: u64) -> Self {
        let (local, peer) = (stream.local_addr(), stream.peer_addr());
        let (local, peer) = local.and_then(|local| Ok((local, peer?))).expect("a simulated socket knows both ends");
        let cuts = Cuts::new(plan.seed, &plan.setting, serial);
        let flows = [(local, peer), (peer, local)].map(|ends| flow(&mut net.flows, ends));
        Self { stream: Some(stream), fate, morgue: Rc::clone(&net.morgue), cuts, flows, full: false }
    }

    /// Reads once into `scratch`, as much as the plan's chunking gives; 0 at the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.fate.get() == Fate::Dark {
            return Poll::Pending;
        }
        let stream = self.stream.as_mut().expect("there until it is dropped");
        let (limit, mut filled) = (self.cuts.limit().min(scratch.len()), 0);
        while filled < limit {
            let mut buf = ReadBuf::new(&mut scratch[filled..limit]);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => break,
                Poll::Ready(Ok(())) => filled += buf.filled().len(),
                // What came before an error is told first; the error comes again.
                _ if filled > 0 => break,
                other => return other.map_ok(|()| 0),
            }
        }
        self.cuts.reads += 1;
        let flow = &self.flows[1];
        flow.open.set(flow.open.get() - filled);
        if filled > 0
            && let Some(sender) = flow.sender.take()
        {
            sender.wake();
        }
        Poll::Ready(Ok(filled))
    }

    /// Writes some of `bytes`; `None` when the socket is full.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let count = bytes.len().min(self.room());
        if count == 0 {
            self.full = true;
            return Ok(None);
        }
        let stream = self.stream.as_ref().expect("there until it is dropped");
        let sent = match self.fate.get() {
            // What goes into the dark fills the window as well.
            Fate::Dark => Ok(count),
            Fate::Garbled => {
                self.fate.set(Fate::Stands);
                let mut wrong = bytes[..count].to_vec();
                wrong[count / 2] ^= 1;
                stream.try_write(&wrong)
            }
            Fate::Stands | Fate::Reset => stream.try_write(&bytes[..count]),
        };
        match sent {
            Ok(count) => {
                let open = &self.flows[0].open;
                open.set(open.get() + count);
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.full = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a full socket takes bytes again.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        if self.fate.get() == Fate::Dark {
            return false;
        }
        let stream = self.stream.as_ref().expect("there until it is dropped");
        // An error is for the write that follows.
        let is_writable = pin!(stream.writable()).poll(cx).is_ready();
        if self.room() == 0 {
            *self.flows[0].sender.borrow_mut() = Some(cx.waker().clone());
            return false;
        }
        self.full &= !is_writable;
        is_writable
    }

    fn room(&self) -> usize {
        self.cuts.window.saturating_sub(self.flows[0].open.get())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.fate.get() == Fate::Dark {
            self.morgue.borrow_mut().extend(self.stream.take());
        }
    }
}

impl Cuts {
    fn new(seed: u64, setting: &Setting, serial: u64) -> Self {
        Self { seed, chunking: setting.chunking, window: size(setting.window_bytes), serial, reads: 0 }
    }

    /// The most that the next read takes.
    fn limit(&self) -> usize {
        /// Bytes at the start of a stream that come one by one; after them reads are short.
        const SINGLE_READS: u64 = 96;
        let draw = keyed(self.seed, &[0xc4, self.serial, self.reads]);
        match self.chunking {
            0 => self.window,
            2 if self.reads < SINGLE_READS => 1,
            _ if draw.is_multiple_of(3) => self.window,
            _ => 1 + size(scale(draw, 64)),
        }
    }
}

fn flow(flows: &mut Flows, ends: (SocketAddr, SocketAddr)) -> Rc<Flow> {
    if let Some(flow) = flows.get(&ends).and_then(Weak::upgrade) {
        return flow;
    }
    flows.retain(|_, flow| flow.strong_count() > 0);
    let flow = Rc::default();
    flows.insert(ends, Rc::downgrade(&flow));
    flow
}

impl Door {
    pub(super) async fn open(client: Option<u64>) -> io::Result<Self> {
        let listener = Rc::new(TcpListener::bind(("0.0.0.0", port(client))).await?);
        Ok(Self { client, accept: accept(Rc::clone(&listener)), listener })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let polled = self.accept.as_mut().poll(cx);
        if polled.is_ready() {
            self.accept = accept(Rc::clone(&self.listener));
        }
        polled
    }
}

fn accept(listener: Rc<TcpListener>) -> Accept {
    Box::pin(async move { listener.accept().await })
}

/// The port at which a node expects a client, or its peers.
pub(super) fn port(client: Option<u64>) -> u16 {
    client.map_or(PEER_PORT, |client| 100 + u16::try_from(client).expect("few clients"))
}

/// Connects as a system does: a dial that nobody answers is tried again, with the waits of the plan. turmoil would
/// refuse at once what goes into a cut.
pub(super) fn dial(net: Rc<RefCell<Net>>, retry_ms: u64, from: Option<u64>, to: u64, at: (IpAddr, u16)) -> Dial {
    Box::pin(async move {
        for attempt in 0..DIAL_ATTEMPTS {
            let (began, wait) = (Instant::now(), Duration::from_millis(retry_ms << attempt));
            if !net.borrow().is_silent(from, to) {
                match timeout(wait, TcpStream::connect(at)).await {
                    Ok(Ok(stream)) => return Some(stream),
                    Ok(Err(_)) if !net.borrow().is_silent(from, to) => return None,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            sleep_until(began + wait).await;
        }
        None
    })
}
