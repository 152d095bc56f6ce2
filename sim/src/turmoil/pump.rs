//! The pump of a node: one task that moves bytes between turmoil's sockets and the node's turn, in the order of
//! `runtime`.
//!
//! It polls everything by hand, in a fixed order; nothing is selected at random. It has a turn when bytes, a connection
//! or a deadline have come, never else.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::turmoil::net::TcpStream;
use kv_core::{AddrId, ConnId, Event};
use tokio::time::{Instant, Sleep, sleep};

use super::net::{Fate, Net};
use super::shared::{Process, Shared, now_us};
use super::wire::{Conn, Dial, Door, PEER_PORT, dial};
use crate::judge::{Judge, SessionId};
use crate::outcome::Oracle;
use crate::plan::{node_at, size};
use crate::trace::Trace;

/// Turns of one process in one instant past which it spins: ten times what byte-by-byte input brings about.
const TURNS_AT_ONCE_MAX: u64 = 4_000;

/// How long it takes to learn that a name is nobody's.
const UNKNOWN_NAME: Duration = Duration::from_millis(1);

/// Runs the pump of the run of `node` that the engine has started.
pub(super) async fn run(shared: Rc<RefCell<Shared>>, net: Rc<RefCell<Net>>, node: u64) -> ::turmoil::Result {
    let (clients, window) = {
        let shared = shared.borrow();
        let setting = &shared.judge.plan().setting;
        (setting.clients, size(setting.window_bytes))
    };
    let mut doors = vec![Door::open(None).await?];
    for client in 0..clients {
        doors.push(Door::open(Some(client)).await?);
    }
    let mut pump = Pump {
        node,
        net,
        doors,
        conns: Vec::new(),
        dials: Vec::new(),
        alarm: Box::pin(sleep(Duration::ZERO)),
        scratch: vec![0; window],
        pace: (0, 0),
        started: false,
    };
    match poll_fn(|cx| pump.poll(&mut shared.borrow_mut(), cx)).await {}
}

struct Pump {
    node: u64,
    net: Rc<RefCell<Net>>,
    doors: Vec<Door>,
    /// By name.
    conns: Vec<Option<Conn>>,
    dials: Vec<(AddrId, Option<u64>, Dial)>,
    /// Rings at the node's deadline.
    alarm: Pin<Box<Sleep>>,
    scratch: Vec<u8>,
    /// An instant, and the turns in it.
    pace: (u64, u64),
    /// It has had its first turn, which a node may need to dial.
    started: bool,
}

/// What a turn is about.
enum News {
    Writable(ConnId),
    Accepted(TcpStream, From),
    Bytes(ConnId, Vec<u8>),
    Ended(ConnId),
    Dialed(AddrId, Option<u64>, TcpStream),
    DialFailed(AddrId),
}

/// Who is at the other end of an accepted connection.
enum From {
    Client(u64, SessionId),
    Node(u64),
}

/// What a turn works on, but for the pump.
struct Bench<'a> {
    judge: &'a mut Judge,
    trace: &'a mut Trace,
    sends: &'a mut u64,
    serials: &'a mut u64,
    process: &'a mut Process,
    at_us: u64,
}

impl Pump {
    fn poll(&mut self, shared: &mut Shared, cx: &mut Context<'_>) -> Poll<Infallible> {
        shared.machines[size(self.node)].pump = Some(cx.waker().clone());
        loop {
            let at_us = now_us();
            shared.judge.at(at_us);
            let is_running =
                shared.machines[size(self.node)].process.as_ref().is_some_and(|process| !process.is_paused);
            if !is_running || shared.judge.failure().is_some() {
                return Poll::Pending;
            }
            let news = self.gather(shared, cx);
            if (!news.is_empty() || !self.started || self.is_due(shared, at_us)) && self.keeps_pace(shared, at_us) {
                self.started = true;
                self.turn(shared, at_us, news);
                continue;
            }
            if self.set_alarm(shared, at_us, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Everything that has happened since the last turn.
    fn gather(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Vec<News> {
        let mut news = Vec::new();
        for (index, slot) in self.conns.iter_mut().enumerate() {
            let Some(conn) = slot else { continue };
            if conn.fate.get() == Fate::Reset {
                news.push(News::Ended(name(index)));
            } else if conn.full && conn.poll_writable(cx) {
                news.push(News::Writable(name(index)));
            }
        }
        for door in &mut self.doors {
            while let Poll::Ready(Ok((stream, address))) = door.poll(cx) {
                let from = match door.client {
                    Some(client) => {
                        // A client that has moved may have knocked here before.
                        let knocks = shared.seats[size(client)].knocks;
                        let knocks = knocks.filter(|session| shared.judge.is_with(*session) == self.node);
                        knocks.map(|session| From::Client(client, session))
                    }
                    None => {
                        let from = shared.addresses.iter().position(|known| *known == address.ip());
                        from.map(|node| From::Node(node as u64))
                    }
                };
                news.extend(from.map(|from| News::Accepted(stream, from)));
            }
        }
        let Some(process) = &shared.machines[size(self.node)].process else { return news };
        for (index, slot) in self.conns.iter_mut().enumerate() {
            let (conn, Some(end)) = (name(index), slot) else { continue };
            if end.fate.get() == Fate::Reset || !process.host.wants_read(conn) {
                continue;
            }
            match end.poll_read(cx, &mut self.scratch) {
                Poll::Ready(Ok(0) | Err(_)) => news.push(News::Ended(conn)),
                Poll::Ready(Ok(count)) => news.push(News::Bytes(conn, self.scratch[..count].to_vec())),
                Poll::Pending => {}
            }
        }
        self.dials.retain_mut(|(addr, to, dial)| match dial.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(stream) => {
                news.push(stream.map_or(News::DialFailed(*addr), |stream| News::Dialed(*addr, *to, stream)));
                false
            }
        });
        news
    }

    /// One turn, in the order of `runtime`.
    fn turn(&mut self, shared: &mut Shared, at_us: u64, news: Vec<News>) {
        let Shared { judge, trace, sends, serials, addresses, machines, seats, .. } = shared;
        let machine = &mut machines[size(self.node)];
        let Some(now) = machine.now(at_us) else { return };
        let Some(process) = &mut machine.process else { return };
        for item in &news {
            if let News::Accepted(_, From::Client(client, _)) = item {
                seats[size(*client)].holder = Some((process.host.run, at_us));
            }
        }
        let mut bench = Bench { judge, trace, sends, serials, process, at_us };
        bench.note([10, news.len() as u64, now.wall.0], || format!("turn with {} news", news.len()));
        bench.judge.stats.turns += 1;
        bench.process.host.begin(now);
        for item in news {
            self.tell(&mut bench, item);
        }
        bench.process.host.settle(bench.judge);
        while let Some(conn) = bench.process.host.next_ready() {
            self.flush(&mut bench, conn);
        }
        while let Some((addr, text)) = bench.process.host.take_dial() {
            self.dial(&mut bench, addresses, addr, &text);
        }
        self.end_turn(&mut bench);
    }

    fn tell(&mut self, bench: &mut Bench<'_>, news: News) {
        match news {
            News::Writable(conn) => bench.process.host.writable(conn),
            News::Accepted(stream, from) => {
                let (from, session) = match from {
                    From::Client(_, session) => (None, Some(session)),
                    From::Node(node) => (Some(node), None),
                };
                let conn = self.keep(bench, stream, from);
                bench.note([12, u64::from(conn.0), from.unwrap_or(u64::MAX)], || {
                    format!("accepts {conn:?} of {from:?} {session:?}")
                });
                bench.process.host.opened(bench.judge, conn, session);
            }
            News::Bytes(conn, bytes) => {
                bench.note([11, u64::from(conn.0), bytes.len() as u64], || {
                    format!("reads {} bytes of {conn:?}: {}", bytes.len(), bytes.escape_ascii())
                });
                bench.trace.bytes(&bytes);
                bench.judge.stats.bytes += bytes.len() as u64;
                bench.process.host.input(bench.judge, conn, &bytes);
            }
            News::Ended(conn) => self.lose(bench, conn),
            News::Dialed(addr, to, stream) => {
                let conn = self.keep(bench, stream, to);
                bench.note([13, u64::from(conn.0), u64::from(addr.0)], || format!("reaches {to:?} as {conn:?}"));
                bench.process.host.event(bench.judge, Event::Dialed { conn, addr });
            }
            News::DialFailed(addr) => {
                bench.note([14, u64::from(addr.0), 0], || format!("does not reach {addr:?}"));
                bench.process.host.event(bench.judge, Event::DialFailed { addr });
            }
        }
    }

    /// Writes what `conn` has until there is none or the socket is full, and closes it if it is finished.
    fn flush(&mut self, bench: &mut Bench<'_>, conn: ConnId) {
        let Some(end) = self.conns.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return };
        while !end.full {
            let output = bench.process.host.output(bench.judge, conn);
            if output.is_empty() {
                break;
            }
            match end.write(output) {
                Ok(Some(count)) => {
                    // A client may read late what it was sent long ago.
                    *bench.sends += u64::from(!bench.process.host.is_client(conn));
                    bench.note([20, u64::from(conn.0), count as u64], || format!("sends {count} bytes to {conn:?}"));
                    bench.process.host.sent(bench.judge, conn, count);
                }
                Ok(None) => break,
                Err(_) => return self.lose(bench, conn),
            }
        }
        if let Some(why) = bench.process.host.finished(conn) {
            bench.note([21, u64::from(conn.0), why.number()], || format!("closes {conn:?}: {why:?}"));
            self.conns[conn.0 as usize] = None;
            bench.judge.closes(why);
            bench.process.host.gone(conn);
        }
    }

    fn dial(&mut self, bench: &mut Bench<'_>, addresses: &[IpAddr], addr: AddrId, text: &str) {
        bench.note([22, u64::from(addr.0), 0], || format!("dials {text}"));
        let setting = &bench.judge.plan().setting;
        let to = node_at(text, setting.nodes);
        let dial = match to {
            Some(to) => {
                let at = (addresses[size(to)], PEER_PORT);
                dial(Rc::clone(&self.net), setting.dial_retry_ms, Some(self.node), to, at)
            }
            None => Box::pin(async {
                sleep(UNKNOWN_NAME).await;
                None
            }),
        };
        self.dials.push((addr, to, dial));
    }

    fn end_turn(&self, bench: &mut Bench<'_>) {
        let open = || self.conns.iter().enumerate().filter_map(|(index, end)| Some((name(index), end.as_ref()?)));
        bench.process.open = open().count() as u64;
        bench.process.host.end(bench.judge, open().map(|(conn, _)| conn));
        let due = bench.process.host.deadline().is_some_and(|at| at <= bench.process.mono(bench.at_us));
        for (conn, end) in open() {
            let unsent = bench.process.host.turn().held(conn).1;
            if unsent > 0 && !end.full && !due {
                let run = bench.process.host.run.0;
                bench
                    .judge
                    .fail(Oracle::Liveness, || format!("run {run}: the deadline hides {unsent} bytes to {conn:?}"));
            }
        }
    }

    /// Gives a connection the lowest free name; `peer` is the node at its other end, if it is not a client.
    fn keep(&mut self, bench: &mut Bench<'_>, stream: TcpStream, peer: Option<u64>) -> ConnId {
        let net = &mut *self.net.borrow_mut();
        let fate = peer.map_or_else(Net::untied, |peer| net.tie([self.node, peer]));
        let conn = Conn::new(net, stream, fate, bench.judge.plan(), *bench.serials);
        *bench.serials += 1;
        let free = self.conns.iter().position(Option::is_none).unwrap_or(self.conns.len());
        if free == self.conns.len() {
            self.conns.push(None);
        }
        self.conns[free] = Some(conn);
        name(free)
    }

    /// A connection that ended by itself.
    fn lose(&mut self, bench: &mut Bench<'_>, conn: ConnId) {
        if self.conns.get_mut(conn.0 as usize).and_then(Option::take).is_some() {
            bench.note([15, u64::from(conn.0), 0], || format!("finds {conn:?} ended"));
            bench.process.host.event(bench.judge, Event::Closed { conn });
        }
    }

    fn is_due(&self, shared: &Shared, at_us: u64) -> bool {
        let process = shared.machines[size(self.node)].process.as_ref();
        process.is_some_and(|process| process.host.deadline().is_some_and(|at| at <= process.mono(at_us)))
    }

    /// Counts turns; false once they are so many that the process spins.
    fn keeps_pace(&mut self, shared: &mut Shared, at_us: u64) -> bool {
        self.pace = if self.pace.0 == at_us { (at_us, self.pace.1 + 1) } else { (at_us, 1) };
        let spins = self.pace.1 > TURNS_AT_ONCE_MAX;
        if spins {
            let node = self.node;
            shared.judge.fail(Oracle::Liveness, || format!("n{node} spins: {TURNS_AT_ONCE_MAX} turns at once"));
        }
        !spins
    }

    /// Ready if the deadline passed while the alarm was set.
    fn set_alarm(&mut self, shared: &Shared, at_us: u64, cx: &mut Context<'_>) -> Poll<()> {
        let process = shared.machines[size(self.node)].process.as_ref();
        let Some((process, deadline)) = process.and_then(|process| Some((process, process.host.deadline()?))) else {
            return Poll::Pending;
        };
        // turmoil's clock has whole milliseconds.
        let wait_ms = deadline.0.saturating_sub(process.mono(at_us).0).div_ceil(1_000).max(1);
        self.alarm.as_mut().reset(Instant::now() + Duration::from_millis(wait_ms));
        self.alarm.as_mut().poll(cx)
    }
}

impl Bench<'_> {
    fn note(&mut self, words: [u64; 3], text: impl FnOnce() -> String) {
        let (node, run) = (self.process.host.node, self.process.host.run.0);
        self.trace.note(self.at_us, &[run, words[0], words[1], words[2]], || format!("n{node} run {run} {}", text()));
    }
}

fn name(index: usize) -> ConnId {
    ConnId(u32::try_from(index).expect("few connections"))
}
