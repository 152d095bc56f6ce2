//! What somebody sends who is no member and no client: garbage of several kinds. None of it may change what a node
//! holds, and no node may stop, stand still or grow beyond its limits for it.

use kv_core::{
    AddrId, ClusterSecret, Config, ConnId, Event, Framed, Hlc, Mono, Now, OriginId, PeerAuth, Record, Turn, Version,
    WallMs, encode,
};

use crate::judge::EPOCH_MS;
use crate::plan::{Plan, size};
use crate::rng::{keyed, scale};

/// Kinds of intruders.
pub const KINDS: u64 = 8;

/// Kinds that would be let in where peers have nothing to prove.
pub const KINDS_WITHOUT_SECRET: [u64; 3] = [8, 9, 10];

/// Steps of a conversation between two nodes that are about to stand still.
const STEPS: usize = 8;

/// First bytes of a peer's connection.
pub(crate) const PREAMBLE: &[u8] = b"\x93skv\r\n\x1a\n";

/// Words of lines that ask for much and write nothing.
const WORDS: [&[u8]; 16] = [
    b"GET",
    b"SETT",
    b"k0",
    b"\"",
    b"'",
    b"\\x00",
    b"\xff\xfe",
    b"HELP",
    b"TTL",
    b"POST / HTTP/1.1",
    b"Host:",
    b"*3",
    b"$-1",
    b"STATS",
    b"WHY",
    b"\r",
];

/// What an intruder does.
#[derive(Debug)]
pub struct Intruder {
    /// What it sends.
    pub bytes: Vec<u8>,
    /// Whether it reads what it is sent.
    pub reads: bool,
}

/// An intruder of `kind` that comes at `at_us` and sends about `count` bytes: 0 bytes at random; 1 lines of words; 2 a
/// line without an end; 3 a peer's preamble and then bytes at random; 4 that and records in frames that are right; 5 a
/// whole greeting of a node of another cluster, and records; 6 the beginning of such a greeting; 7 nothing; 8 what a
/// node of the cluster says that knows another secret, and records; 9 what a member said when it was let in another
/// time; 10 that, and then records.
#[must_use]
pub fn draw(plan: &Plan, kind: u64, count: usize, at_us: u64) -> Intruder {
    let draw = |of: &[u64]| keyed(plan.seed, &[&[0x17d, at_us, kind], of].concat());
    let random = |count: usize| (0..count as u64).map(|at| draw(&[1, at]).to_le_bytes()[0]);
    let mut bytes = match kind {
        0 => random(count).collect(),
        1 => lines(count, &|at| draw(&[2, at])),
        2 => vec![b'x'; count],
        3 => PREAMBLE.iter().copied().chain(random(count)).collect(),
        4 => [PREAMBLE, &records(plan, count, draw(&[3]))].concat(),
        5 => [greeting(plan, draw(&[4])), records(plan, count, draw(&[3]))].concat(),
        6 => greeting(plan, draw(&[4])),
        8 => [captured(plan, draw(&[4]), false), records(plan, count, draw(&[3]))].concat(),
        9 => captured(plan, draw(&[4]), true),
        10 => [captured(plan, draw(&[4]), true), records(plan, count, draw(&[3]))].concat(),
        _ => Vec::new(),
    };
    if kind == 6 {
        bytes.truncate(size(scale(draw(&[5]), bytes.len() as u64)));
    }
    Intruder { bytes, reads: draw(&[6]).is_multiple_of(2) }
}

fn lines(count: usize, draw: &dyn Fn(u64) -> u64) -> Vec<u8> {
    let mut text = Vec::new();
    for at in 0.. {
        if text.len() >= count {
            break;
        }
        text.extend_from_slice(WORDS[size(scale(draw(at), WORDS.len() as u64))]);
        text.push(if draw(at).is_multiple_of(3) { b'\n' } else { b' ' });
    }
    text
}

/// Records of somebody unknown, each of which would win over all that was written.
fn records(plan: &Plan, count: usize, draw: u64) -> Vec<u8> {
    let mut frames = Vec::new();
    for at in 0.. {
        if frames.len() >= count {
            break;
        }
        let key = plan.setting.key_name(at % plan.setting.keys);
        let version = Version { hlc: Hlc(((EPOCH_MS + 1_000_000) << 16) + at), origin: OriginId(draw | 1) };
        let value = (draw ^ at).is_multiple_of(2).then_some(&b"an intruder's"[..]);
        let record = Record { key: &key, value, is_counter: false, deadline: None, version };
        encode(&Framed { stamp: version, prev: None, seen: Hlc::ZERO, record }, &mut frames);
    }
    frames
}

/// What a node of another cluster says first.
fn greeting(plan: &Plan, draw: u64) -> Vec<u8> {
    let now = Now { mono: Mono(1), wall: WallMs(EPOCH_MS) };
    let config = plan.config(0, draw, false);
    let mut turn = Turn::new(Config { cluster: "elsewhere".to_owned(), name: "x".to_owned(), ..config }, now);
    turn.begin(now);
    turn.settle();
    let addr = turn.take_dial().unwrap_or(AddrId(0));
    let conn = ConnId(0);
    turn.event(Event::Dialed { conn, addr });
    turn.output(conn).to_vec()
}

/// All that a node says that dials another one: a member, whom it is let in by, or one that knows another secret.
fn captured(plan: &Plan, draw: u64, knows: bool) -> Vec<u8> {
    let now = Now { mono: Mono(1), wall: WallMs(EPOCH_MS) };
    let member = |node| plan.config(node, draw, false);
    let other = ClusterSecret::new(b"a secret that nobody else knows").expect("long enough");
    let name = |name: &str| (name.to_owned(), format!("{name}:1"));
    let (dialer, accepter) = (draw % plan.setting.nodes, (draw + 1) % plan.setting.nodes);
    let (mine, address) = if knows { name(&format!("n{dialer}")) } else { name("x") };
    let peer_auth = match knows {
        true => member(dialer).peer_auth,
        false => PeerAuth::Secret { first: other, second: None },
    };
    let config = Config { name: mine, advertise: address, peer_auth, peers: vec!["n0:1".to_owned()], ..member(dialer) };
    let theirs = Config { name: "another".to_owned(), peers: Vec::new(), ..member(accepter) };
    let mut sides = [Turn::new(config, now), Turn::new(theirs, now)];
    let conn = ConnId(0);
    for side in &mut sides {
        side.begin(now);
        side.settle();
    }
    let addr = sides[0].take_dial().unwrap_or(AddrId(0));
    sides[0].event(Event::Dialed { conn, addr });
    sides[1].event(Event::Opened { conn });
    let mut said = Vec::new();
    for step in 0..STEPS {
        let bytes = sides[step % 2].output(conn).to_vec();
        sides[step % 2].sent(conn, bytes.len());
        sides[(step + 1) % 2].input(conn, &bytes);
        if step % 2 == 0 {
            said.extend_from_slice(&bytes);
        }
    }
    said
}
