//! A node and its clients, in turns as a driver makes them.

use kv_core::{Config, ConnId, Event, Mono, Now, PeerAuth, Turn, WallMs};

use super::requests::{Dialect, key, value};
use super::{CLIENTS, KEYS, Keys, Started};

pub(crate) const START: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// Whoever prepares a node.
pub(crate) const OPERATOR: ConnId = ConnId(CLIENTS);

/// Connections from there on are of peers.
pub(crate) const LINKS_FROM: u32 = CLIENTS + 1;

/// A node with its clients. Time stands still while they speak, so that nothing but them gives it work.
pub(crate) struct Clients {
    turn: Turn,
    now: Now,
    /// What each is answered in a round.
    answer: Vec<u8>,
    /// What the peer was sent in the last round.
    pub(crate) fed: Vec<u8>,
    /// Over which link.
    pub(crate) feed: Option<ConnId>,
}

impl Clients {
    /// Each says the same word 16 times, and hears it as often: all that is done with it is to parse and to reply.
    pub(crate) fn echo(dialect: Dialect) -> Started {
        let word = b"a-word-to-repeat";
        let mut clients = Self::new(node(), START, dialect);
        (0..16).for_each(|_| dialect.put_answer(word, &mut clients.answer));
        let mut input = Vec::new();
        (0..16 * CLIENTS).for_each(|_| dialect.put(&[b"ECHO", word], &mut input));
        Started { supply: Box::new(move || input.clone()), round: Box::new(move |input| clients.round(input)) }
    }

    /// Each asks for `depth` keys.
    pub(crate) fn get(dialect: Dialect, depth: u32) -> Started {
        let mut clients = Self::new(node(), START, dialect);
        (0..depth).for_each(|_| dialect.put_answer(&value(0), &mut clients.answer));
        let mut keys = Keys::new();
        let supply = move || {
            let mut input = Vec::new();
            (0..depth * CLIENTS).for_each(|_| dialect.put(&[b"GET", &keys.next()], &mut input));
            input
        };
        Started { supply: Box::new(supply), round: Box::new(move |input| clients.round(input)) }
    }

    /// Each writes `depth` keys anew.
    pub(crate) fn set(dialect: Dialect, depth: u32) -> Started {
        let mut clients = Self::writing(node(), START, dialect, depth);
        let supply = writes(dialect, depth);
        Started { supply: Box::new(supply), round: Box::new(move |input| clients.round(input)) }
    }

    /// Clients of a node that will all write `depth` keys in each round.
    pub(crate) fn writing(turn: Turn, now: Now, dialect: Dialect, depth: u32) -> Self {
        let mut clients = Self::new(turn, now, dialect);
        clients.answer = dialect.ok().repeat(depth as usize);
        clients
    }

    fn new(mut turn: Turn, now: Now, dialect: Dialect) -> Self {
        turn.begin(now);
        for conn in (0..CLIENTS).map(ConnId) {
            turn.event(Event::Opened { conn });
            turn.input(conn, dialect.greeting());
        }
        let mut clients = Self { turn, now, answer: Vec::new(), fed: Vec::new(), feed: None };
        clients.flush(|_| {});
        clients
    }

    /// One turn in which each client is read once: an equal part of `input`.
    pub(crate) fn round(&mut self, input: &[u8]) {
        self.turn.begin(self.now);
        for (conn, piece) in (0..CLIENTS).zip(input.chunks_exact(input.len() / CLIENTS as usize)) {
            self.turn.input(ConnId(conn), piece);
        }
        let answer = std::mem::take(&mut self.answer);
        let mut answered = 0;
        self.flush(|bytes| {
            assert!(bytes == answer, "the answer is {}", bytes.escape_ascii());
            answered += 1;
        });
        assert_eq!(answered, CLIENTS, "each is answered, once");
        self.answer = answer;
    }

    /// The second half of a turn: `hear` is given what each client is sent.
    fn flush(&mut self, mut hear: impl FnMut(&[u8])) {
        self.fed.clear();
        self.turn.settle();
        while let Some(conn) = self.turn.next_ready() {
            loop {
                let bytes = self.turn.output(conn);
                let count = bytes.len();
                if count == 0 {
                    break;
                }
                if conn.0 < CLIENTS {
                    hear(bytes);
                } else {
                    assert_eq!(*self.feed.get_or_insert(conn), conn, "all that the peer is sent goes over one link");
                    self.fed.extend_from_slice(bytes);
                }
                self.turn.sent(conn, count);
            }
            assert_eq!(self.turn.finished(conn), None, "nobody is turned away");
        }
        assert_eq!(self.turn.take_dial(), None, "nobody is dialed");
    }
}

/// Makes the writes of one round after the other, each of a value that was never written before.
pub(crate) fn writes(dialect: Dialect, depth: u32) -> impl FnMut() -> Vec<u8> {
    let (mut keys, mut number) = (Keys::new(), 0);
    move || {
        let mut input = Vec::new();
        for _ in 0..depth * CLIENTS {
            number += 1;
            dialect.put(&[b"SET", &keys.next(), &value(number)], &mut input);
        }
        input
    }
}

/// A node by itself, with all keys in it.
fn node() -> Turn {
    let mut turn = started("a", &[], 1, START);
    fill(&mut turn);
    turn
}

/// A node at its start, with nobody but its operator connected.
pub(crate) fn started(name: &str, peers: &[&str], seed: u64, now: Now) -> Turn {
    let config = Config {
        peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
        peer_auth: PeerAuth::Anybody,
        ..Config::new([seed, 2, 3, 4], name, format!("{name}:1"))
    };
    let mut turn = Turn::new(config, now);
    turn.event(Event::Opened { conn: OPERATOR });
    turn
}

/// Writes every key.
pub(crate) fn fill(turn: &mut Turn) {
    let mut lines = Vec::new();
    (0..KEYS).for_each(|number| Dialect::Line.put(&[b"SET", &key(number), &value(0)], &mut lines));
    assert!(ask(turn, &lines) == Dialect::Line.ok().repeat(KEYS as usize), "every key is written");
}

/// What the operator is answered.
pub(crate) fn ask(turn: &mut Turn, lines: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    turn.input(OPERATOR, lines);
    loop {
        let bytes = turn.output(OPERATOR);
        let count = bytes.len();
        if count == 0 {
            return answer;
        }
        answer.extend_from_slice(bytes);
        turn.sent(OPERATOR, count);
    }
}
