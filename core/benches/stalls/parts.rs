//! What big things there are to do.

use std::collections::{BTreeMap, VecDeque};

use kv_core::{Config, ConnId, DiskConfig, Event, Limits, PeerAuth};

use super::machine::{Machine, READ_SHARE_BYTES, START, TURN_US};
use super::requests::Dialect::Array;
use super::requests::{key, value};

/// Clients, and the writes that each has sent whenever it is read.
const CLIENTS: u32 = 50;
const DEPTH: u32 = 16;

/// Whoever asks for something once.
const OPERATOR: ConnId = ConnId(CLIENTS);

/// Connections from there on are of peers.
const LINKS_FROM: u32 = CLIENTS + 1;

/// What passes between turns of a node that is busy.
const BUSY_US: u64 = 1_000;

/// What passes between turns that are so long that what is done besides clients is as much as it may be.
const LONG_TURN_US: u64 = 10_000;

/// Within which something must be over.
const PATIENCE_US: u64 = 600_000_000;

/// For how long the node is watched after that.
const AFTER_MS: u64 = 2_000;

/// How much there is of everything.
pub(crate) struct Sizes {
    load_keys: u32,
    expiring_keys: u32,
    large_bytes: usize,
    large_rounds: u32,
    fill_keys: u32,
    snapshot_keys: u32,
}

impl Sizes {
    pub(crate) const FULL: Self = Self {
        load_keys: 10_000_000,
        expiring_keys: 1_000_000,
        large_bytes: 100_000_000,
        large_rounds: 5,
        fill_keys: 5_000_000,
        snapshot_keys: 5_000_000,
    };

    /// To see that it would work.
    pub(crate) const SMALL: Self = Self {
        load_keys: 20_000,
        expiring_keys: 20_000,
        large_bytes: 1_000_000,
        large_rounds: 1,
        fill_keys: 20_000,
        snapshot_keys: 20_000,
    };
}

/// Something big.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Sizes) -> Vec<Section>,
}

/// Turns in which something was done, in nanoseconds.
pub(crate) struct Section {
    pub(crate) what: String,
    pub(crate) turns: Vec<u32>,
}

pub(crate) const ALL: [Part; 5] = [
    Part { name: "load", run: load },
    Part { name: "expiry", run: expiry },
    Part { name: "large", run: large },
    Part { name: "fill", run: fill },
    Part { name: "snapshot", run: snapshot },
];

fn load(sizes: &Sizes) -> Vec<Section> {
    let mut machine = with_clients(config("a"));
    write(&mut machine, sizes.load_keys, None);
    vec![section(format!("{} keys are loaded", grouped(sizes.load_keys as usize)), &mut machine)]
}

/// Of a node that does nothing else, and of one whose turns are long: what has expired has a share of those.
fn expiry(sizes: &Sizes) -> Vec<Section> {
    [(TURN_US, ""), (LONG_TURN_US, ", of a busy node")].map(|(turn_us, of)| expiry_of(sizes, turn_us, of)).into()
}

fn expiry_of(sizes: &Sizes, turn_us: u64, of: &str) -> Section {
    let mut machine = with_clients(config("a"));
    let deadline_ms = u64::from(sizes.expiring_keys / (CLIENTS * DEPTH)) * BUSY_US / 1_000 + 10_000;
    write(&mut machine, sizes.expiring_keys, Some(START.0 + deadline_ms));
    machine.rest_ms(deadline_ms - machine.us() / 1_000 - 1);
    assert_eq!(keys(&mut machine), u64::from(sizes.expiring_keys), "none has expired yet");
    machine.take_turns();
    machine.turn_us = turn_us;
    wait(&mut machine, |machine| machine.turn.node().graves() > 0);
    wait(&mut machine, |machine| machine.turn.node().graves() == 0);
    assert_eq!(keys(&mut machine), 0, "all have expired");
    machine.rest_ms(AFTER_MS);
    machine.turn.node().entries(&mut |record| panic!("{} is held", record.key.escape_ascii()));
    let count = grouped(sizes.expiring_keys as usize);
    section(format!("{count} keys expire at once, until nothing of them is held{of}"), &mut machine)
}

fn large(sizes: &Sizes) -> Vec<Section> {
    let limits = Limits { value_bytes_max: 128 << 20, ..Limits::default() };
    let mut machine = with_clients(Config { limits, ..config("a") });
    let mut set = Vec::new();
    Array.put(&[b"SET", b"large", &vec![b'v'; sizes.large_bytes]], &mut set);
    let (mut delete, mut overwrite) = (Vec::new(), Vec::new());
    Array.put(&[b"DEL", b"large"], &mut delete);
    Array.put(&[b"SET", b"large", b"small"], &mut overwrite);
    let mut sections: [Vec<u32>; 3] = Default::default();
    machine.take_turns();
    for _ in 0..sizes.large_rounds {
        // The second time over the first.
        (0..2).for_each(|_| send(&mut machine, &set));
        sections[0].extend(machine.take_turns());
        assert_eq!(machine.ask(OPERATOR, &delete), b":1\r\n");
        machine.rest_ms(AFTER_MS);
        sections[1].extend(machine.take_turns());
        send(&mut machine, &set);
        sections[0].extend(machine.take_turns());
        assert_eq!(machine.ask(OPERATOR, &overwrite), Array.ok());
        machine.rest_ms(AFTER_MS);
        sections[2].extend(machine.take_turns());
    }
    let (size, rounds) = (sizes.large_bytes / 1_000_000, sizes.large_rounds);
    let told = [
        format!("a value of {size} MB is written, {} times", 3 * rounds),
        format!("it is deleted, {rounds} times"),
        format!("it is overwritten by a small one, {rounds} times"),
    ];
    told.into_iter().zip(sections).map(|(what, turns)| Section { what, turns }).collect()
}

fn fill(sizes: &Sizes) -> Vec<Section> {
    let mut first = with_clients(config("a"));
    write(&mut first, sizes.fill_keys, None);
    first.take_turns();
    let second = Config { peers: vec!["a:1".to_owned()], ..config("b") };
    let second = Machine::new(Config { seed: [2; 4], ..second }, first.us());
    let mut pair = Pair { machines: [first, second], wires: BTreeMap::new(), next_link: LINKS_FROM };
    let began = pair.machines[0].us();
    let has_all = |pair: &Pair| pair.machines[0].turn.node().digest() == pair.machines[1].turn.node().digest();
    while !has_all(&pair) {
        pair.turn();
        assert!(pair.machines[0].us() < began + PATIENCE_US, "the new node is filled");
    }
    let until = pair.machines[0].us() + 1_000 * AFTER_MS;
    while pair.machines[0].us() < until {
        pair.turn();
    }
    assert!(has_all(&pair) && pair.machines[1].turn.node().has_arrived(), "it has all, and knows it");
    let [mut first, mut second] = pair.machines;
    let count = grouped(sizes.fill_keys as usize);
    vec![
        section(format!("a new peer is filled with {count} keys: the one that has them"), &mut first),
        section(format!("a new peer is filled with {count} keys: the new one"), &mut second),
    ]
}

fn snapshot(sizes: &Sizes) -> Vec<Section> {
    let mut machine = with_clients(Config { disk: Some(DiskConfig::default()), ..config("a") });
    write(&mut machine, sizes.snapshot_keys, None);
    // One may be under way by itself.
    machine.rest_ms(AFTER_MS);
    while is_saving(&mut machine) {
        machine.rest_ms(AFTER_MS);
    }
    let mut save = Vec::new();
    Array.put(&[b"SAVE"], &mut save);
    (machine.finished, machine.removed) = (0, 0);
    machine.take_turns();
    assert_eq!(machine.ask(OPERATOR, &save), Array.ok());
    wait(&mut machine, |machine| machine.finished == 1);
    machine.rest_ms(AFTER_MS);
    assert!(machine.removed > 0, "what was logged before is removed");
    let count = grouped(sizes.snapshot_keys as usize);
    vec![section(format!("a snapshot of {count} keys is saved, and the log before it removed"), &mut machine)]
}

fn section(what: String, machine: &mut Machine) -> Section {
    Section { what, turns: machine.take_turns() }
}

fn config(name: &str) -> Config {
    Config { peer_auth: PeerAuth::Anybody, ..Config::new([1; 4], name, format!("{name}:1")) }
}

/// A node with everybody connected but peers.
fn with_clients(config: Config) -> Machine {
    let mut machine = Machine::new(config, 0);
    (0..=OPERATOR.0).for_each(|conn| machine.event(Event::Opened { conn: ConnId(conn) }));
    machine.rest_ms(1);
    machine
}

/// All clients write, until there are so many keys, which expire at `deadline` if there is one.
fn write(machine: &mut Machine, keys: u32, deadline: Option<u64>) {
    assert!(keys.is_multiple_of(CLIENTS * DEPTH), "each client writes as many");
    let (answer, until) = (Array.ok().repeat(DEPTH as usize), deadline.unwrap_or(0).to_string());
    let mut said: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS as usize];
    let mut numbers = 0..keys;
    while !numbers.is_empty() {
        for said in &mut said {
            said.clear();
            for number in numbers.by_ref().take(DEPTH as usize) {
                let (key, value) = (key(number), value(number.into()));
                let words: [&[u8]; 5] = [b"SET", &key, &value, b"PXAT", until.as_bytes()];
                Array.put(if deadline.is_some() { &words } else { &words[..3] }, said);
            }
        }
        let input: Vec<(ConnId, &[u8])> = (0..).map(ConnId).zip(said.iter().map(Vec::as_slice)).collect();
        let mut answered = 0;
        machine.pass_us(BUSY_US);
        machine.turn(&input, &mut |_, bytes| {
            assert!(bytes == answer, "each write is taken: {}", bytes.escape_ascii());
            answered += 1;
        });
        assert_eq!(answered, CLIENTS, "each is answered");
    }
}

/// One client says something long, and is answered at its end.
fn send(machine: &mut Machine, request: &[u8]) {
    let mut answer = Vec::new();
    for piece in request.chunks(READ_SHARE_BYTES) {
        assert!(answer.is_empty(), "it is not answered before all was said");
        machine.pass_us(BUSY_US);
        answer = machine.ask(OPERATOR, piece);
    }
    assert_eq!(answer, Array.ok());
}

/// Nothing is asked until something is so.
fn wait(machine: &mut Machine, is_so: impl Fn(&Machine) -> bool) {
    let until = machine.us() + PATIENCE_US;
    while !is_so(machine) {
        machine.sleep();
        machine.idle_turn();
        assert!(machine.us() < until, "it is over in time");
    }
}

fn keys(machine: &mut Machine) -> u64 {
    let mut request = Vec::new();
    Array.put(&[b"DBSIZE"], &mut request);
    let answer = String::from_utf8(machine.ask(OPERATOR, &request)).expect("it is text");
    answer.trim_start_matches(':').trim_end().parse().expect("it is a number")
}

fn is_saving(machine: &mut Machine) -> bool {
    let mut request = Vec::new();
    Array.put(&[b"STATS"], &mut request);
    let answer = String::from_utf8(machine.ask(OPERATOR, &request)).expect("it is text");
    let says = |what: &str| answer.contains(&format!("\"saving\":{what}"));
    assert!(says("true") || says("false"), "it says so: {answer}");
    says("true")
}

/// Two nodes with wires between them. A connection has the same number on both sides.
struct Pair {
    machines: [Machine; 2],
    /// By receiver and connection: what is on its way.
    wires: BTreeMap<(usize, ConnId), VecDeque<u8>>,
    next_link: u32,
}

impl Pair {
    /// A turn of each.
    fn turn(&mut self) {
        for node in 0..2 {
            let Self { machines, wires, next_link } = self;
            let mut read: Vec<(ConnId, Vec<u8>)> = Vec::new();
            for ((_, conn), wire) in wires.range_mut((node, ConnId(0))..=(node, ConnId(u32::MAX))) {
                let count = wire.len().min(READ_SHARE_BYTES);
                if count > 0 {
                    read.push((*conn, wire.drain(..count).collect()));
                }
            }
            let input: Vec<(ConnId, &[u8])> = read.iter().map(|(conn, bytes)| (*conn, bytes.as_slice())).collect();
            machines[node].pass_us(BUSY_US);
            machines[node].turn(&input, &mut |conn, bytes| wires.entry((1 - node, conn)).or_default().extend(bytes));
            for addr in std::mem::take(&mut machines[node].dials) {
                let conn = ConnId(*next_link);
                *next_link += 1;
                machines[node].event(Event::Dialed { conn, addr });
                machines[1 - node].event(Event::Opened { conn });
            }
        }
    }
}

/// With commas.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
