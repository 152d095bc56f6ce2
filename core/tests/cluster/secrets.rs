//! Peers that prove to each other that they know the secret of their cluster, and those who do not and try.

use kv_core::{
    ClusterSecret, Config, ConnId, Door, Event, Framed, Hlc, Mono, Now, OriginId, PeerAuth, Record, Turn, Version,
    WallMs, encode, next_frame,
};

use crate::harness::{Cluster, START, config};

const PREAMBLE: &[u8] = b"\x93skv\r\n\x1a\n";
const SECRET: &str = "what only the nodes of this cluster know";
const OTHER: &str = "what the nodes of another cluster know";

/// Of a chunk: what stands before its frames.
const CHUNK_HEAD_BYTES: usize = 18;

const CLIENT: ConnId = ConnId(0);
const LINK: ConnId = ConnId(1);

/// Kinds of frames.
const GREETING: u8 = 1;
const REFUSED: u8 = 2;
const PROOF: u8 = 25;

fn secret(text: &str) -> ClusterSecret {
    ClusterSecret::new(text.as_bytes()).expect("long enough")
}

fn knows(first: &str) -> PeerAuth {
    PeerAuth::Secret { first: secret(first), second: None }
}

fn knows_both(first: &str, second: &str) -> PeerAuth {
    PeerAuth::Secret { first: secret(first), second: Some(secret(second)) }
}

/// What becomes of bytes on their way.
type Interfere = fn(&[u8]) -> Vec<u8>;

/// A node with a client and some data.
fn node(name: &str, peers: &[&str], peer_auth: PeerAuth) -> Turn {
    run_of(name, peers, peer_auth, 1)
}

fn run_of(name: &str, peers: &[&str], peer_auth: PeerAuth, run: u64) -> Turn {
    let seed = [run, 2, 3, name.len() as u64];
    let mut turn = Turn::new(Config { seed, peer_auth, ..config(name, peers) }, START);
    turn.event(Event::Opened { conn: CLIENT });
    turn.input(CLIENT, format!("SET {name} value-of-{name}\n").as_bytes());
    turn
}

/// Two nodes, the first of which dials the second, and what they said over the wire between them.
struct Wire {
    sides: [Turn; 2],
    said: [Vec<u8>; 2],
    /// By side: it has ended the connection.
    ended: [bool; 2],
    now: Now,
}

impl Wire {
    /// They are connected and have said nothing.
    fn new(dialer: Turn, accepter: Turn) -> Self {
        let mut wire = Self { sides: [dialer, accepter], said: Default::default(), ended: [false; 2], now: START };
        wire.connect();
        wire
    }

    fn connect(&mut self) {
        let [dialer, accepter] = &mut self.sides;
        dialer.begin(self.now);
        dialer.settle();
        let addr = dialer.take_dial().expect("it dials");
        dialer.event(Event::Dialed { conn: LINK, addr });
        accepter.begin(self.now);
        accepter.event(Event::Opened { conn: LINK });
    }

    /// What a side has to say on the link.
    fn speak(&mut self, side: usize) -> Vec<u8> {
        let mut said = Vec::new();
        let turn = &mut self.sides[side];
        turn.begin(self.now);
        turn.settle();
        while let Some(conn) = turn.next_ready() {
            loop {
                let bytes = turn.output(conn).to_vec();
                if bytes.is_empty() {
                    break;
                }
                turn.sent(conn, bytes.len());
                if conn == LINK {
                    said.extend_from_slice(&bytes);
                }
            }
            if turn.finished(conn).is_some() {
                turn.gone(conn);
                self.ended[side] |= conn == LINK;
            }
        }
        self.said[side].extend_from_slice(&said);
        said
    }

    fn hear(&mut self, side: usize, bytes: &[u8]) {
        if !self.ended[side] {
            self.sides[side].begin(self.now);
            self.sides[side].input(LINK, bytes);
        }
    }

    /// Both say what they have to say, as `tamper` lets it pass: what a side sent, and how often either has.
    fn talk(&mut self, mut tamper: impl FnMut(usize, usize, Vec<u8>) -> Vec<u8>) {
        for turn in 0..20 {
            for side in [0, 1] {
                let said = self.speak(side);
                let passed = tamper(side, turn, said);
                if !passed.is_empty() {
                    self.hear(1 - side, &passed);
                }
            }
            for side in [0, 1] {
                if self.ended[side] && !self.ended[1 - side] {
                    self.sides[1 - side].event(Event::Closed { conn: LINK });
                    self.ended[1 - side] = true;
                }
            }
        }
    }

    /// Nobody interferes.
    fn pass(&mut self) {
        self.talk(|_, _, said| said);
    }

    fn ask(&mut self, side: usize, command: &str) -> String {
        ask(&mut self.sides[side], command)
    }

    /// Whether either side has taken the other for a peer, or anything from it.
    fn is_taken_in(&mut self, side: usize) -> bool {
        let other = ["bb", "a"][side];
        let peers = self.ask(side, "PEERS");
        // Only who was let in has a name.
        peers.contains(&format!("name={other} ")) || self.ask(side, &format!("GET {other}")) != "Key not found"
    }

    fn is_anybody_taken_in(&mut self) -> bool {
        self.is_taken_in(0) || self.is_taken_in(1)
    }

    fn refused(&mut self, side: usize) -> bool {
        !self.ask(side, "STATS").contains("\"peers_refused\":0,")
    }
}

fn ask(turn: &mut Turn, command: &str) -> String {
    turn.input(CLIENT, format!("{command}\n").as_bytes());
    let reply = turn.output(CLIENT).to_vec();
    turn.sent(CLIENT, reply.len());
    String::from_utf8(reply).expect("text").trim_start_matches("OK\n").trim_end().to_owned()
}

/// Two that share the secret.
fn friends() -> Wire {
    Wire::new(node("a", &["bb:1"], knows(SECRET)), node("bb", &[], knows(SECRET)))
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short frame");
    let mut frame = (length | (length % 31) << 27).to_le_bytes().to_vec();
    frame.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Makes something else of the first frame in `said`, with a checksum that is right, if it is of `kind`.
fn retouch(kind: u8, said: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (preamble, rest) = said.split_at(if said.starts_with(PREAMBLE) { PREAMBLE.len() } else { 0 });
    match next_frame(rest, 1 << 20) {
        Ok(Some(body)) if body[0] == kind => {
            let mut changed = body.to_vec();
            change(&mut changed);
            [preamble, &framed(&changed), &rest[8 + body.len()..]].concat()
        }
        _ => said.to_vec(),
    }
}

/// A record that would win over all that is there.
fn forged_record() -> Vec<u8> {
    let version = Version { hlc: Hlc((START.wall.0 + 1) << 16), origin: OriginId(99) };
    let record = Record { key: b"a", value: Some(b"forged"), is_counter: false, deadline: None, version };
    let mut frame = Vec::new();
    encode(&Framed { stamp: version, prev: Some(Hlc(0)), seen: Hlc::ZERO, record }, &mut frame);
    frame
}

#[test]
fn who_knows_the_secret_is_let_in_and_does_not_tell_it() {
    let mut wire = friends();
    wire.pass();
    assert_eq!(wire.ask(0, "GET bb"), "value-of-bb");
    assert!(wire.ask(0, "PEERS").starts_with("bb:1 up name=bb "));
    assert!(wire.ask(0, "STATS").contains("\"protocol\":5"));
    for said in &wire.said {
        assert!(!holds(said, SECRET.as_bytes()) && !said.is_empty());
    }
}

#[test]
fn who_knows_another_secret_learns_nothing_and_both_are_told_why() {
    let mut wire = Wire::new(node("a", &["bb:1"], knows(OTHER)), node("bb", &["cc:1"], knows(SECRET)));
    wire.pass();
    assert!(!wire.is_anybody_taken_in() && wire.ended == [true; 2]);
    for said in &wire.said {
        assert!(!holds(said, b"value-of") && !holds(said, b"cc:1"));
    }
    let peers = wire.ask(0, "PEERS");
    assert!(
        peers.starts_with("bb:1 ") && peers.contains("turned_away=\"the secrets of the two nodes differ"),
        "{peers}"
    );
    let stats = wire.ask(1, "STATS");
    assert!(
        stats.contains("\"peers_refused\":1,\"peers_refused_last\":\"the secrets of the two nodes differ"),
        "{stats}"
    );
    assert!(holds(&wire.said[1], b"the secrets of the two nodes differ"));
    // Who was turned away is given no proof that guesses could be tried on.
    assert!(next_frame(&wire.said[1][PREAMBLE.len()..], 1 << 20).unwrap().is_some_and(|body| body[0] == GREETING));
    let greeting = next_frame(&wire.said[1][PREAMBLE.len()..], 1 << 20).unwrap().unwrap().len();
    let next = next_frame(&wire.said[1][PREAMBLE.len() + 8 + greeting..], 1 << 20).unwrap().unwrap();
    assert_eq!(next[0], REFUSED);
}

#[test]
fn who_has_no_secret_and_who_has_one_turn_each_other_away() {
    for (dialer, accepter, why) in [
        (PeerAuth::Anybody, knows(SECRET), "this cluster has a secret"),
        (knows(SECRET), PeerAuth::Anybody, "this node has no cluster secret"),
        (knows(SECRET), PeerAuth::Loopback, "without a cluster secret this node takes peers on its own machine only"),
    ] {
        let mut wire = Wire::new(node("a", &["bb:1"], dialer), node("bb", &[], accepter));
        wire.pass();
        assert!(!wire.is_anybody_taken_in() && wire.ended == [true; 2] && wire.refused(1));
        let peers = wire.ask(0, "PEERS");
        assert!(peers.contains(why), "{peers}");
    }
}

#[test]
fn a_secret_is_changed_node_by_node_and_no_link_is_refused() {
    let steps = [knows(OTHER), knows_both(SECRET, OTHER), knows(SECRET)];
    // Or more carefully: the new one is told first only once all know it.
    let careful = [knows(OTHER), knows_both(OTHER, SECRET), knows_both(SECRET, OTHER), knows(SECRET)];
    for steps in [&steps[..], &careful] {
        let names = [("a", &["bb:1", "ccc:1"][..]), ("bb", &["a:1", "ccc:1"]), ("ccc", &["a:1", "bb:1"])];
        let mut cluster = Cluster::guarded(&names, &steps[0]);
        let settle = |cluster: &mut Cluster| {
            for _ in 0..30 {
                cluster.settle();
                cluster.pass(100);
            }
            cluster.settle();
        };
        settle(&mut cluster);
        for step in &steps[1..] {
            for (node, (_, peers)) in names.iter().enumerate() {
                cluster.peer_auth[node] = step.clone();
                cluster.restart(node, peers);
                settle(&mut cluster);
                for other in 0..3 {
                    let (peers, stats) = (cluster.ask(other, "PEERS"), cluster.ask(other, "STATS"));
                    assert_eq!(peers.matches(" up name=").count(), 2, "node {other}: {peers}");
                    assert!(!peers.contains("turned_away") && stats.contains("\"peers_refused\":0,"), "{peers}{stats}");
                }
            }
        }
        assert_eq!(cluster.ask(0, "SET key value"), "OK");
        cluster.settle();
        assert_eq!(cluster.ask(2, "GET key"), "value");
    }
}

#[test]
fn a_secret_is_changed_while_nodes_run_and_who_keeps_the_old_one_is_out() {
    let names = [("a", &["bb:1", "ccc:1"][..]), ("bb", &["a:1", "ccc:1"]), ("ccc", &["a:1", "bb:1"])];
    let mut cluster = Cluster::guarded(&names, &knows(OTHER));
    let up = |cluster: &mut Cluster| {
        for _ in 0..30 {
            cluster.settle();
            cluster.pass(100);
        }
        cluster.settle();
        [0, 1, 2].map(|node| cluster.ask(node, "PEERS").matches(" up name=").count())
    };
    assert_eq!(up(&mut cluster), [2, 2, 2]);
    let both = knows_both(SECRET, OTHER);
    for (node, to, linked) in [
        (0, &both, [2, 2, 2]),
        (1, &both, [2, 2, 2]),
        // The third has not changed: the first takes it no more, ...
        (0, &knows(SECRET), [1, 2, 1]),
        // ... and then nobody does, ...
        (1, &knows(SECRET), [1, 1, 0]),
        // ... until it has.
        (2, &knows(SECRET), [2, 2, 2]),
    ] {
        assert!(cluster.change_secrets(node, to));
        assert_eq!(up(&mut cluster), linked, "node {node} to {to:?}");
    }
    assert!(cluster.ask(1, "STATS").contains("\"peers_refused_last\":\"the secrets of the two nodes differ"));
    // What is no change, and what would open or close the door altogether, is none.
    for to in [&knows(SECRET), &PeerAuth::Anybody, &PeerAuth::Loopback] {
        assert!(!cluster.change_secrets(0, to));
    }
    assert_eq!(up(&mut cluster), [2, 2, 2]);
}

/// In the middle, each byte of the two greetings and the two proofs, with a checksum that is right: nonces, names,
/// addresses, runs, the name of the cluster, the versions of the protocol.
#[test]
fn nothing_of_the_handshake_can_be_changed_on_its_way() {
    let mut tried = 0;
    for (side, kind) in [(0, GREETING), (1, GREETING), (0, PROOF), (1, PROOF)] {
        for at in 1.. {
            let mut is_done = true;
            let mut wire = friends();
            wire.talk(|from, _, said| {
                let change = |body: &mut Vec<u8>| {
                    if let Some(byte) = body.get_mut(at) {
                        *byte ^= 1;
                        is_done = false;
                    }
                };
                if from == side { retouch(kind, &said, change) } else { said }
            });
            if is_done {
                break;
            }
            tried += 1;
            assert!(!wire.is_taken_in(1 - side), "byte {at} of {side}'s frame {kind}");
            assert!(kind == PROOF || !wire.is_taken_in(side), "byte {at} of {side}'s frame {kind}");
        }
    }
    assert!(tried > 200, "{tried}");
}

/// Longer greetings too: a later version may say more, and what is not understood is sworn to as well.
#[test]
fn no_older_version_can_be_forced_on_two_that_speak_a_later_one() {
    for side in [0, 1] {
        let mut wire = friends();
        let later = |body: &mut Vec<u8>| {
            body[3..5].copy_from_slice(&9_u16.to_le_bytes());
            body.extend_from_slice(b"more");
        };
        wire.talk(|from, _, said| if from == side { retouch(GREETING, &said, later) } else { said });
        assert!(!wire.is_anybody_taken_in());
    }
}

#[test]
fn who_speaks_no_version_of_ours_is_told_so() {
    for side in [0, 1] {
        let mut wire = friends();
        let later = |body: &mut Vec<u8>| {
            body.truncate(5);
            body[1..3].copy_from_slice(&8_u16.to_le_bytes());
            body[3..5].copy_from_slice(&9_u16.to_le_bytes());
        };
        wire.talk(|from, _, said| if from == side { retouch(GREETING, &said, later) } else { said });
        assert!(!wire.is_anybody_taken_in() && wire.ended == [true; 2]);
        assert!(holds(&wire.said[1 - side], b"no common protocol version"));
        let peers = wire.ask(0, "PEERS");
        assert!(peers.contains("turned_away=\"no common protocol version"), "{peers}");
    }
}

#[test]
fn a_node_that_is_sent_back_what_it_says_lets_nobody_in() {
    // By whom it dials.
    let mut wire = friends();
    for _ in 0..10 {
        let said = wire.speak(0);
        wire.hear(0, &said);
    }
    assert!(!wire.is_taken_in(0) && wire.ended[0] && wire.ask(0, "PEERS").contains("turned_away="));
    // By who comes to it, with a greeting of somebody who knows the secret.
    let mut wire = friends();
    let greeting = wire.speak(0);
    wire.hear(1, &greeting);
    for _ in 0..10 {
        let said = wire.speak(1);
        wire.hear(1, &said);
    }
    assert!(!wire.is_taken_in(1) && wire.ended[1]);
}

/// The challenge that a node gives on one connection is put to it, or to another node, on another one.
#[test]
fn a_challenge_is_answered_for_its_own_connection_only() {
    // `bb` has greeted somebody who came to it: `a` is made to answer that when it dials.
    let (mut wire, mut other) = (friends(), friends());
    let greeting = wire.speak(0);
    let stray = retouch(GREETING, &other.speak(0), |body| body[6] ^= 1);
    wire.hear(1, &stray);
    let challenge = wire.speak(1);
    wire.hear(0, &challenge);
    let proof = wire.speak(0);
    assert!(!proof.is_empty(), "it cannot know yet");
    wire.hear(1, &proof);
    let answer = wire.speak(1);
    wire.hear(0, &answer);
    wire.pass();
    assert!(!wire.is_anybody_taken_in() && wire.ended[1], "the two greetings are not of one connection");
    assert!(holds(&answer, b"the secrets of the two nodes differ") && !holds(&greeting, &challenge));
    // A third node's proof that it knows the secret, for a connection with `a`, is no proof for one with `bb`.
    let mut far = Wire::new(node("ccc", &["a:1"], knows(SECRET)), node("a", &[], knows(SECRET)));
    let mut near = friends();
    let greeting = far.speak(0);
    far.hear(1, &greeting);
    near.hear(1, &greeting);
    let challenge = far.speak(1);
    far.hear(0, &challenge);
    let proof = far.speak(0);
    near.speak(1);
    near.hear(1, &proof);
    assert!(near.ask(1, "PEERS") == "No peers");
    near.speak(1);
    assert!(near.ended[1]);
}

#[test]
fn what_was_captured_opens_nothing_another_time() {
    let mut wire = friends();
    wire.pass();
    let [dialers, accepters] = wire.said.clone();
    // To the same run, on another connection.
    wire.ended = [false; 2];
    for side in [0, 1] {
        wire.sides[side].event(Event::Closed { conn: LINK });
    }
    assert_eq!(wire.ask(1, "SET later value"), "");
    wire.now = Now { mono: Mono(5_000_000), wall: WallMs(START.wall.0 + 5_000) };
    wire.sides[0].begin(wire.now);
    wire.connect();
    wire.speak(0);
    wire.speak(1);
    wire.hear(1, &dialers);
    assert!(wire.ask(1, "PEERS").starts_with("a:1 down "), "{}", wire.ask(1, "PEERS"));
    let told = wire.speak(1);
    assert!(wire.ended[1] && !holds(&told, b"later"));
    wire.hear(0, &accepters);
    assert!(wire.ask(0, "PEERS").contains(" down ") || wire.ask(0, "PEERS").contains(" greeting "));
    wire.speak(0);
    assert!(wire.ended[0]);
    // To later runs.
    for side in [0, 1] {
        let again = |name, peers| run_of(name, peers, knows(SECRET), 7);
        let mut wire = Wire::new(again("a", &["bb:1"]), again("bb", &[]));
        wire.speak(0);
        wire.hear(side, if side == 0 { &accepters } else { &dialers });
        wire.speak(side);
        assert!(!wire.is_taken_in(side) && wire.ended[side]);
    }
}

/// Without a proof nobody can end a run, or make it come back as if it had been forgotten.
#[test]
fn only_a_peer_is_believed_that_a_run_is_over() {
    let fenced = |reason: &[u8]| {
        let mut body = vec![REFUSED];
        body.extend_from_slice(reason);
        body.extend_from_slice(&77_u64.to_le_bytes());
        body.extend_from_slice(b"\x02bb\x02no");
        [PREAMBLE, &framed(&body)].concat()
    };
    let forgotten = [&[2][..], &(u64::MAX >> 1).to_le_bytes(), &5_u64.to_le_bytes()].concat();
    for (reason, peer_auth, is_believed) in [
        (&[1][..], knows(SECRET), false),
        (&forgotten, knows(SECRET), false),
        (&[1], PeerAuth::Loopback, false),
        (&[1], PeerAuth::Anybody, true),
    ] {
        let mut wire = Wire::new(node("a", &["bb:1"], peer_auth), node("bb", &[], knows(SECRET)));
        let origin = |stats: String| stats.split("\"origin\":").nth(1).map(|rest| rest[..18].to_owned());
        let before = origin(wire.ask(0, "STATS"));
        wire.speak(0);
        wire.hear(0, &fenced(reason));
        wire.speak(0);
        assert!(wire.ended[0]);
        assert_eq!(wire.ask(0, "SET k v").is_empty(), !is_believed);
        assert_eq!(origin(wire.ask(0, "STATS")), before);
    }
}

#[test]
fn nothing_is_injected_changed_left_out_or_repeated_behind_the_handshake() {
    let mut wire = friends();
    wire.pass();
    let kinds: [(&str, Interfere); 6] = [
        ("nothing", |said| said.to_vec()),
        ("changed", |said| {
            let mut changed = said.to_vec();
            *changed.last_mut().expect("something was said") ^= 1;
            changed
        }),
        ("repeated", |said| [said, said].concat()),
        ("injected", |said| [&forged_record(), said].concat()),
        ("injected as a chunk", |said| {
            let record = forged_record();
            let mut chunk = u16::try_from(record.len()).expect("a short one").to_le_bytes().to_vec();
            chunk.resize(CHUNK_HEAD_BYTES, 7);
            [&chunk, &record, said].concat()
        }),
        ("left out", |_| Vec::new()),
    ];
    for (what, interfere) in kinds {
        let mut wire = friends();
        wire.pass();
        assert_eq!(wire.ask(1, "SET a changed"), "");
        let said = wire.speak(1);
        assert!(holds(&said, b"changed"), "it is signed, and not hidden");
        wire.hear(0, &interfere(&said));
        if what == "left out" {
            assert_eq!(wire.ask(1, "SET other value"), "");
            let said = wire.speak(1);
            wire.hear(0, &said);
        }
        let (is_there, ends) = match what {
            "nothing" => ("changed", false),
            // Once, and then it is over.
            "repeated" => ("changed", true),
            _ => ("value-of-a", true),
        };
        wire.speak(0);
        assert_eq!((wire.ask(0, "GET a").as_str(), wire.ended[0]), (is_there, ends), "{what}");
        assert_eq!(wire.ask(0, "GET other"), "Key not found");
    }
}

/// However it is cut: a value of many chunks, and chunks that come byte by byte.
#[test]
fn what_is_long_arrives_in_pieces_of_any_size() {
    let value = "v".repeat(40_000);
    for piece in [1, 7, 5_000, 50_000] {
        let mut wire = friends();
        wire.pass();
        assert_eq!(wire.ask(1, &format!("SET long {value}")), "");
        assert_eq!(wire.ask(1, "SET behind it"), "");
        for _ in 0..5 {
            for side in [0, 1] {
                for bytes in wire.speak(side).chunks(piece) {
                    wire.hear(1 - side, bytes);
                }
            }
        }
        assert!(wire.ask(0, "GET long") == value, "in pieces of {piece}");
        assert_eq!(wire.ask(0, "GET behind"), "it");
        assert!(!wire.ended[0] && !wire.ended[1]);
    }
}

#[test]
fn without_a_secret_only_who_is_on_this_machine_is_a_peer() {
    for (from, is_local) in [
        (Some("127.0.0.1:9"), true),
        (Some("[::1]:9"), true),
        (Some("[::ffff:127.0.0.1]:9"), true),
        (Some("127.8.8.8:9"), true),
        (Some("10.0.0.1:9"), false),
        (Some("[fe80::1]:9"), false),
        (None, false),
    ] {
        // Who accepts knows it of whom it accepts, and who dials of whom it reached.
        for side in [0, 1] {
            let auth = |of: usize| if of == side { PeerAuth::Loopback } else { PeerAuth::Anybody };
            let mut wire = Wire::new(node("a", &["bb:1"], auth(0)), node("bb", &[], auth(1)));
            if let Some(from) = from {
                let ends = (from.parse().expect("an address"), "127.0.0.1:1".parse().expect("an address"));
                wire.sides[side].introduce(LINK, ends.0, ends.1);
            }
            wire.pass();
            assert_eq!(wire.is_taken_in(side), is_local, "{from:?}");
            let why = "without a cluster secret this node takes peers on its own machine only";
            let peers = wire.ask(0, "PEERS");
            assert_eq!(peers.contains(why), !is_local, "{peers}");
            assert_eq!(wire.ask(1, "STATS").contains(why), !is_local && side == 1);
        }
    }
}

#[test]
fn clients_and_peers_that_come_by_each_other_s_door_are_told_so() {
    let mut wire = friends();
    wire.sides[1].came_by(LINK, Door::Clients);
    wire.pass();
    assert!(!wire.is_anybody_taken_in() && wire.ended == [true; 2] && wire.refused(1));
    let peers = wire.ask(0, "PEERS");
    assert!(peers.contains("this port is for clients only"), "{peers}");
    let mut wire = friends();
    wire.sides[1].came_by(LINK, Door::Peers);
    wire.pass();
    assert!(wire.is_taken_in(0) && wire.is_taken_in(1));
    for said in ["GET a\n", "*1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut wire = friends();
        wire.sides[1].came_by(LINK, Door::Peers);
        wire.hear(1, said.as_bytes());
        let told = wire.speak(1);
        assert!(wire.ended[1] && told.starts_with(b"Error: this port is for the other nodes of the cluster"));
    }
}
