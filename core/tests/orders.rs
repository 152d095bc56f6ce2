//! Any order of calls is legal: events and bytes for connections and addresses that may or may not exist.
//!
//! Nothing may panic. For a driver that uses the name of a connection again only after it has gone, two things hold
//! besides. After a `Wake`, `fill` gives bytes or says that there are more. And once the driver has followed every
//! `Wake` and every deadline that has passed, nothing is left to be sent.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kv_core::{Action, AddrId, Config, ConnId, Effects, Event, Limits, Mono, Node, Now, PeerAuth, WallMs};
use proptest::prelude::*;

/// Names that are drawn: so few that calls meet.
const CONNS: u32 = 6;
const ADDRS: u32 = 4;

/// A node at rest has nothing to do; one that is busy for so long at one moment will be for ever.
const STEPS_MAX: u32 = 10_000;

#[derive(Clone, Debug)]
enum Call {
    Opened(u32),
    Dialed(u32, u32),
    DialFailed(u32),
    Closed(u32),
    Tick,
    /// Bytes from a client, from a talk between two nodes, or any.
    Client(u32, usize),
    Peer(u32, usize),
    Bytes(u32, Vec<u8>),
    Fill(u32, usize),
    Wait(u64),
    Wall(i64),
    /// Does what a driver does until there is nothing more to do.
    Rest,
}

fn calls() -> impl Strategy<Value = Call> {
    let conn = || 0..CONNS;
    prop_oneof![
        3 => conn().prop_map(Call::Opened),
        3 => (conn(), 0..ADDRS).prop_map(|(conn, addr)| Call::Dialed(conn, addr)),
        1 => (0..ADDRS).prop_map(Call::DialFailed),
        2 => conn().prop_map(Call::Closed),
        2 => Just(Call::Tick),
        3 => (conn(), any::<usize>()).prop_map(|(conn, which)| Call::Client(conn, which)),
        9 => (conn(), any::<usize>()).prop_map(|(conn, which)| Call::Peer(conn, which)),
        1 => (conn(), proptest::collection::vec(any::<u8>(), 0..30)).prop_map(|(conn, bytes)| Call::Bytes(conn, bytes)),
        3 => (conn(), 0_usize..300).prop_map(|(conn, limit)| Call::Fill(conn, limit)),
        2 => (0_u64..3_000).prop_map(Call::Wait),
        1 => (-100_000_i64..100_000).prop_map(Call::Wall),
        2 => Just(Call::Rest),
    ]
}

const CLIENT_LINES: [&[u8]; 12] = [
    b"SET k v\n",
    b"SET k w EX 1\nGET k\n",
    b"DEL k\n",
    b"FLUSHALL\nSELECT 3\nSET k v\nFLUSHDB\n",
    b"STATS\nPEERS\n",
    b"QUIT\n",
    b"SET \"a",
    b"SET k v\nWAIT 1 0\nQUIT\n",
    b"WAIT 1 700\nSET k v\n",
    b"SET k v\nWAIT 2 1\nWAIT 1 90\nTOKEN\n",
    b"WAITFOR 1a4311e5-00000000000000ff-0000000000000001 600\nGET k\n",
    b"WAITFOR 1a4311e5-00000000000000ff-0000000000000001 0\n",
];

fn config(seed: u64, name: &str, peers: &[&str]) -> Config {
    Config {
        peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
        peer_auth: PeerAuth::Anybody,
        limits: Limits { ring_bytes: 1 << 10, clients_max: 2, output_bytes_max: 1 << 10, ..Limits::default() },
        ..Config::new([seed, 2, 3, 4], name, format!("{name}:1"))
    }
}

const START: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// What each of two nodes says to the other over one link, in pieces as they were sent.
fn talk() -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    for run in 0..2 {
        let mut feeder = Node::new(config(10 + run, "b", &[]), START);
        let mut puller = Node::new(config(20 + run, "c", &["b:1"]), START);
        let mut effects = Effects::default();
        let (client, link) = (ConnId(1), ConnId(0));
        feeder.handle(START, Event::Opened { conn: client }, &mut effects);
        feeder.receive(START, client, b"SET k 1\nSET l 2 EX 9\nDEL k\n", &mut Vec::new(), &mut effects);
        feeder.handle(START, Event::Opened { conn: link }, &mut effects);
        puller.handle(START, Event::Tick, &mut effects);
        puller.handle(START, Event::Dialed { conn: link, addr: AddrId(0) }, &mut effects);
        let mut now = START;
        let mut held = [Vec::new(), Vec::new()];
        for round in 0..80 {
            if round % 10 == 9 {
                feeder.receive(now, client, b"SET m 1\nSET n 2\nWAIT 1 90\n", &mut Vec::new(), &mut effects);
                now = Now { mono: now.mono.plus_ms(500), wall: now.wall.plus_ms(500) };
                feeder.handle(now, Event::Tick, &mut effects);
                puller.handle(now, Event::Tick, &mut effects);
            }
            feeder.fill(now, client, usize::MAX >> 1, &mut Vec::new(), &mut effects);
            for (from, to) in [(1, 0), (0, 1)] {
                let mut bytes = Vec::new();
                let (sender, taker) = if from == 0 { (&mut feeder, &mut puller) } else { (&mut puller, &mut feeder) };
                sender.fill(now, link, usize::MAX >> 1, &mut bytes, &mut effects);
                held[to].extend_from_slice(&bytes);
                let mut reply = Vec::new();
                let used = taker.receive(now, link, &held[to], &mut reply, &mut effects);
                held[to].drain(..used);
                if !bytes.is_empty() {
                    said.push(bytes);
                }
            }
        }
    }
    assert!(said.len() > 16, "two nodes have much to say: {}", said.len());
    said
}

/// A driver that makes any call, and remembers what a driver must.
struct Driver {
    node: Node,
    now: Now,
    effects: Effects,
    woken: BTreeSet<ConnId>,
    /// Connections that stand.
    open: BTreeSet<ConnId>,
    /// Whether a name is used again only after its connection has gone.
    orderly: bool,
    /// Input that the node did not take, by connection.
    rests: Vec<Vec<u8>>,
}

impl Driver {
    fn new(peers: &[&str], orderly: bool) -> Self {
        Self {
            node: Node::new(config(1, "a", peers), START),
            now: START,
            effects: Effects::default(),
            woken: BTreeSet::new(),
            open: BTreeSet::new(),
            orderly,
            rests: vec![Vec::new(); CONNS as usize],
        }
    }

    fn make(&mut self, call: &Call, talk: &[Vec<u8>]) {
        match call {
            Call::Opened(conn) => self.handle(Event::Opened { conn: ConnId(*conn) }),
            Call::Dialed(conn, addr) => self.handle(Event::Dialed { conn: ConnId(*conn), addr: AddrId(*addr) }),
            Call::DialFailed(addr) => self.handle(Event::DialFailed { addr: AddrId(*addr) }),
            Call::Closed(conn) => self.handle(Event::Closed { conn: ConnId(*conn) }),
            Call::Tick => self.handle(Event::Tick),
            Call::Client(conn, which) => self.receive(*conn, CLIENT_LINES[which % CLIENT_LINES.len()]),
            // Early pieces (greetings) more often than late ones.
            Call::Peer(conn, which) => self.receive(*conn, &talk[which % talk.len() % (which / 64 % talk.len() + 1)]),
            Call::Bytes(conn, bytes) => self.receive(*conn, bytes),
            Call::Fill(conn, limit) => {
                self.fill(ConnId(*conn), *limit);
            }
            Call::Wait(ms) => self.now = Now { mono: self.now.mono.plus_ms(*ms), wall: self.now.wall.plus_ms(*ms) },
            Call::Wall(ms) => self.now.wall.0 = self.now.wall.0.saturating_add_signed(*ms),
            Call::Rest => self.rest(),
        }
        for (name, (held, most)) in self.node.gauges().named() {
            assert!(held <= most, "{name}: {held} of {most}");
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Opened { conn } | Event::Dialed { conn, .. } if !self.open.insert(conn) && self.orderly => return,
            Event::Closed { conn } => self.gone(conn),
            Event::Opened { .. }
            | Event::Dialed { .. }
            | Event::DialFailed { .. }
            | Event::DiskDone { .. }
            | Event::DiskFailed { .. }
            | Event::Tick => {}
        }
        self.node.handle(self.now, event, &mut self.effects);
        self.note();
    }

    fn receive(&mut self, conn: u32, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rests[conn as usize]);
        rest.extend_from_slice(bytes);
        let mut reply = Vec::new();
        let used = self.node.receive(self.now, ConnId(conn), &rest, &mut reply, &mut self.effects);
        assert!(used <= rest.len(), "no more is used than there was");
        rest.drain(..used);
        self.rests[conn as usize] = rest;
        self.note();
    }

    /// True while there is more.
    fn fill(&mut self, conn: ConnId, limit: usize) -> bool {
        let mut out = Vec::new();
        let more = self.node.fill(self.now, conn, limit, &mut out, &mut self.effects);
        assert!(out.len() <= limit, "fill keeps its limit");
        // A link that ends within `fill` has nothing to give.
        let ends = |action: &Action| matches!(action, Action::Close { conn: ended, .. } if *ended == conn);
        if self.woken.remove(&conn) && self.orderly && !self.effects.actions.iter().any(ends) {
            assert!(more || !out.is_empty(), "{conn:?} was woken for nothing");
        }
        if more {
            self.woken.insert(conn);
        }
        self.note();
        more
    }

    fn gone(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.woken.remove(&conn);
        self.rests[conn.0 as usize].clear();
    }

    fn note(&mut self) {
        let mut closed = Vec::new();
        for action in self.effects.actions.drain(..) {
            match action {
                Action::Wake { conn } => {
                    self.woken.insert(conn);
                }
                Action::Close { conn, .. } => closed.push(conn),
                // Its commands are of no password.
                Action::Job { .. } => {}
                Action::Dial { addr } => assert!(self.node.address(addr).is_some(), "what is dialed has an address"),
            }
        }
        closed.into_iter().for_each(|conn| self.gone(conn));
    }

    fn rest(&mut self) {
        for _ in 0..STEPS_MAX {
            if let Some(conn) = self.woken.first().copied() {
                self.fill(conn, 1 << 10);
            } else if self.node.deadline().is_some_and(|deadline| deadline <= self.now.mono) {
                self.handle(Event::Tick);
            } else {
                for conn in (0..CONNS).map(ConnId) {
                    let mut out = Vec::new();
                    let more = self.node.fill(self.now, conn, 1 << 10, &mut out, &mut self.effects);
                    assert!(!more && out.is_empty() || !self.orderly, "{conn:?} had output that nobody was woken for");
                    self.note();
                }
                return;
            }
        }
        panic!("the node never comes to rest");
    }
}

fn check(calls: &[Call], alone: bool, orderly: bool) {
    static TALK: LazyLock<Vec<Vec<u8>>> = LazyLock::new(talk);
    let mut driver = Driver::new(if alone { &[] } else { &["b:1", "c:1"] }, orderly);
    for call in calls {
        driver.make(call, &TALK);
    }
    driver.rest();
}

/// A client writes while the peer that is fed has all it may see, and the node is not established.
#[test]
fn nobody_is_woken_for_what_is_hidden() {
    check(
        &[
            Call::Opened(0),
            Call::Peer(0, 13_094_151_642_866_471_491),
            Call::Peer(0, 2_466_631_938_955_943_839),
            Call::Rest,
            Call::Opened(2),
            Call::Client(2, 13_663_182_479_659_798_360),
        ],
        false,
        true,
    );
}

#[test]
fn nobody_is_woken_for_what_is_hidden_either() {
    check(
        &[
            Call::Opened(0),
            Call::Opened(2),
            Call::Peer(2, 9_367_514_346_758_636_332),
            Call::Peer(2, 10_871_164_891_291_277_663),
            Call::Rest,
            Call::Opened(3),
            Call::Client(3, 1_151_632_112_996_880_488),
        ],
        false,
        true,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_is_legal(calls in proptest::collection::vec(calls(), 0..80), alone in any::<bool>()) {
        check(&calls, alone, true);
    }

    #[test]
    fn a_name_used_twice_is_no_reason_to_panic(calls in proptest::collection::vec(calls(), 0..80)) {
        check(&calls, false, false);
    }
}
