//! A peer that says anything, on a connection the node accepted and on one it dialed.

use std::collections::BTreeMap;

use kv_core::{AddrId, ClusterSecret, Config, ConnId, Event, Now, PeerAuth, Turn, next_frame};

use crate::driver::{Outside, PREAMBLE, START, config, settle};

/// No frame that a node with small limits sends is longer.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A client that is served whatever the peer does.
const CLIENT: ConnId = ConnId(0);

/// What a byte of the input asks for by its low three bits.
const FRAME_TO_ACCEPTED: u8 = 0;
const FRAME_TO_DIALED: u8 = 1;
const RAW_TO_ACCEPTED: u8 = 2;
const RAW_TO_DIALED: u8 = 3;
const WAIT: u8 = 4;
const STEP_WALL: u8 = 5;
const CLIENT_WRITES: u8 = 6;

/// `input` is a list of steps: what to do, and its argument. Frames and raw bytes have a length (u16) before them;
/// a frame's prefix is added here, so its length and checksum are right. Bit 3 of a step delivers in two pieces.
///
/// The same is said to a node whose peers have to prove that they know a secret, which nothing here does.
pub fn check(input: &[u8]) {
    run(input, false);
    run(input, true);
}

fn run(input: &[u8], is_guarded: bool) {
    let mut bench = Bench::new(is_guarded);
    let mut steps = Steps(input);
    while let Some(step) = steps.byte() {
        let cut = step & 8 != 0;
        match step & 7 {
            FRAME_TO_ACCEPTED => bench.deliver(Side::Accepted, &framed(steps.counted()), cut),
            FRAME_TO_DIALED => bench.deliver(Side::Dialed, &framed(steps.counted()), cut),
            RAW_TO_ACCEPTED => bench.deliver(Side::Accepted, steps.counted(), cut),
            RAW_TO_DIALED => bench.deliver(Side::Dialed, steps.counted(), cut),
            WAIT => bench.wait(u64::from(steps.byte().unwrap_or(1)).pow(2)),
            STEP_WALL => {
                let seconds = i64::from(steps.byte().unwrap_or(0) as i8);
                bench.outside.now.wall.0 = bench.outside.now.wall.0.saturating_add_signed(seconds * 1_000);
            }
            CLIENT_WRITES => bench.client(steps.byte().unwrap_or(0)),
            _ => bench.reopen(steps.byte().unwrap_or(0)),
        }
        bench.settle();
    }
    bench.client(0);
    if is_guarded {
        bench.let_nobody_in();
    }
}

/// `body` with a frame's length and checksum.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32;
    let mut frame = (length | (length % 31) << 27).to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// What a peer says first.
fn greeting(now: Now, run: u64, is_guarded: bool) -> Vec<u8> {
    // It speaks version 4.
    let mut body = vec![1, 4, 0, 4, 0, is_guarded.into()];
    body.extend_from_slice(if is_guarded { &[7; 32] } else { &[] });
    for word in [run, run, now.wall.0, now.wall.0 << 16] {
        body.extend_from_slice(&word.to_le_bytes());
    }
    // Established; with a disk, if its run is odd.
    body.extend([1, (run % 2) as u8]);
    for text in ["default", "peer", "peer:1"] {
        body.push(text.len() as u8);
        body.extend_from_slice(text.as_bytes());
    }
    let mut bytes = PREAMBLE.to_vec();
    bytes.extend_from_slice(&framed(&body));
    bytes
}

struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn counted(&mut self) -> &'a [u8] {
        let count = u16::from_le_bytes([self.byte().unwrap_or(0), self.byte().unwrap_or(0)]);
        let (bytes, rest) = self.0.split_at(usize::from(count).min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Accepted,
    Dialed,
}

/// A node with a client and the two connections of one peer.
struct Bench {
    turn: Turn,
    outside: Network,
    writes: u32,
    is_guarded: bool,
}

/// What the node meets.
struct Network {
    now: Now,
    accepted: Option<ConnId>,
    dialed: Option<ConnId>,
    /// A dial of this one has just been answered: it is to be greeted.
    fresh: Option<ConnId>,
    conns: u32,
    /// What came on each link and is no whole frame yet.
    links: BTreeMap<ConnId, Vec<u8>>,
    client: Vec<u8>,
}

impl Bench {
    fn new(is_guarded: bool) -> Self {
        let mut config = config("node", &["peer:1"]);
        if is_guarded {
            let first = ClusterSecret::new(b"a secret that no input knows").expect("long enough");
            config = Config { peer_auth: PeerAuth::Secret { first, second: None }, ..config };
        }
        let mut turn = Turn::new(config, START);
        turn.event(Event::Opened { conn: CLIENT });
        let outside = Network {
            now: START,
            accepted: None,
            dialed: None,
            fresh: None,
            conns: 1,
            links: BTreeMap::new(),
            client: Vec::new(),
        };
        let mut bench = Self { turn, outside, writes: 0, is_guarded };
        bench.settle();
        bench.open(true, 100);
        bench.settle();
        bench
    }

    /// Lets the node come to rest and looks at all its limits.
    fn settle(&mut self) {
        settle(&mut self.turn, self.outside.now, &mut self.outside);
        while let Some(conn) = self.outside.fresh.take() {
            self.turn.input(conn, &greeting(self.outside.now, 100, self.is_guarded));
            settle(&mut self.turn, self.outside.now, &mut self.outside);
        }
        let gauges = self.turn.node().gauges();
        for (what, (held, most)) in [
            ("ring bytes", gauges.ring_bytes),
            ("addresses", gauges.addresses),
            ("origins", gauges.origins),
            ("retired", gauges.retired),
            ("links", gauges.links),
            ("staged bytes", gauges.staged_bytes),
            ("conflicts", gauges.conflicts),
            ("conflict bytes", gauges.conflict_bytes),
            ("writers", gauges.writers),
        ] {
            assert!(held <= most, "{what}: {held} of {most}");
        }
    }

    fn deliver(&mut self, side: Side, bytes: &[u8], cut: bool) {
        if side == Side::Accepted && self.outside.accepted.is_none() {
            self.open(true, 100);
        }
        let conn = if side == Side::Accepted { self.outside.accepted } else { self.outside.dialed };
        let Some(conn) = conn else { return };
        let (first, second) = bytes.split_at(if cut { bytes.len() / 2 } else { bytes.len() });
        self.turn.begin(self.outside.now);
        self.turn.input(conn, first);
        if cut {
            self.settle();
            self.turn.input(conn, second);
        }
    }

    fn wait(&mut self, ms: u64) {
        let now = &mut self.outside.now;
        *now = Now { mono: now.mono.plus_ms(ms), wall: now.wall.plus_ms(ms) };
    }

    /// Ends a connection and, if it is the accepted one, opens it anew, as the same run or another.
    fn reopen(&mut self, how: u8) {
        let side = if how & 1 == 0 { &mut self.outside.accepted } else { &mut self.outside.dialed };
        if let Some(conn) = side.take() {
            self.turn.event(Event::Closed { conn });
            self.outside.links.remove(&conn);
        }
        if how & 1 == 0 {
            self.open(how & 2 == 0, 100 + u64::from(how >> 2));
        }
    }

    fn open(&mut self, greets: bool, run: u64) {
        let conn = self.outside.name();
        self.outside.accepted = Some(conn);
        self.turn.begin(self.outside.now);
        self.turn.event(Event::Opened { conn });
        if greets {
            self.outside.links.insert(conn, Vec::new());
            self.turn.input(conn, &greeting(self.outside.now, run, self.is_guarded));
        }
    }

    /// No peer was met, and none has a name.
    fn let_nobody_in(&mut self) {
        self.outside.client.clear();
        self.turn.begin(self.outside.now);
        self.turn.input(CLIENT, b"PEERS\n");
        self.settle();
        let reply = String::from_utf8_lossy(&self.outside.client).into_owned();
        assert!(reply.starts_with("peer:1 ") && reply.contains(" name=? ") && reply.lines().count() == 1, "{reply:?}");
    }

    /// A client is served, and reads what it wrote.
    fn client(&mut self, which: u8) {
        self.writes += 1;
        let (key, value) = (which & 7, self.writes);
        let also = ["", "STATS\n", "PEERS\n", "DEL k1 k2\n"][usize::from(which >> 3 & 3)];
        let typed = format!("{also}SET k{key} {value}\nGET k{key}\nPING\n");
        self.outside.client.clear();
        self.turn.begin(self.outside.now);
        self.turn.input(CLIENT, typed.as_bytes());
        self.settle();
        let reply = String::from_utf8_lossy(&self.outside.client).into_owned();
        let written = format!("OK\n{value}\nPONG\n");
        assert!(reply.ends_with(&written) || refuses(&reply), "{typed:?} was answered {reply:?}");
    }
}

/// A node whose clock is too far ahead, or that has a successor, says so.
fn refuses(reply: &str) -> bool {
    reply.contains("Error: ") && reply.ends_with("PONG\n")
}

impl Network {
    fn name(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns - 1)
    }
}

impl Outside for Network {
    fn sent(&mut self, conn: ConnId, bytes: &[u8]) {
        if conn == CLIENT {
            self.client.extend_from_slice(bytes);
            return;
        }
        let Some(held) = self.links.get_mut(&conn) else { return };
        held.extend_from_slice(bytes);
        if held.starts_with(PREAMBLE) {
            held.drain(..PREAMBLE.len());
        }
        while let Some(body) = next_frame(held, BODY_BYTES_MAX).expect("a node sends whole frames") {
            let count = body.len() + 8;
            held.drain(..count);
        }
    }

    fn ended(&mut self, conn: ConnId) {
        assert!(conn != CLIENT, "a client is not sent away for what a peer does");
        self.links.remove(&conn);
        for side in [&mut self.accepted, &mut self.dialed, &mut self.fresh] {
            side.take_if(|held| *held == conn);
        }
    }

    fn dial(&mut self, _: AddrId) -> Option<ConnId> {
        if self.dialed.is_some() {
            return None;
        }
        let conn = self.name();
        self.links.insert(conn, Vec::new());
        (self.dialed, self.fresh) = (Some(conn), Some(conn));
        Some(conn)
    }
}
