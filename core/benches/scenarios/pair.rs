//! Two nodes that are linked with each other.

use kv_core::{ConnId, Event, Now, Turn};

use super::clients::{Clients, LINKS_FROM, START, ask, fill, started, writes};
use super::requests::{Dialect, KEY_BYTES, value};
use super::{KEYS, Started};

/// One read of a driver.
const READ_BYTES: usize = 64 << 10;

/// What passes between two turns in which there was nothing to do.
const PAUSE_MS: u64 = 10;

/// Turns within which a node must have all that another has.
const TURNS_MAX: u32 = 10_000;

/// Two nodes in one memory. A connection between them has the same number on both sides.
pub(crate) struct Pair {
    turns: [Turn; 2],
    now: Now,
    next_link: u32,
    /// The seed of the second: each time that it starts it is another run.
    seed: u64,
}

impl Pair {
    /// Clients of the first write 16 keys each, and the second is sent these, but does nothing with them.
    pub(crate) fn set_and_feed() -> Started {
        let (mut clients, _, _) = Self::writing();
        let round = move |input: &[u8]| {
            clients.round(input);
            assert!(clients.fed.len() > input.len(), "what is written is sent");
        };
        Started { supply: Box::new(writes(Dialect::Line, 16)), round: Box::new(round) }
    }

    /// The second is given what the first sends of what its clients write.
    pub(crate) fn merge() -> Started {
        let (mut clients, mut peer, now) = Self::writing();
        let mut lines = writes(Dialect::Line, 16);
        clients.round(&lines());
        let link = clients.feed.expect("what is written is sent");
        let mut first = Some(clients.fed.clone());
        let supply = move || {
            first.take().unwrap_or_else(|| {
                clients.round(&lines());
                clients.fed.clone()
            })
        };
        let round = move |frames: &[u8]| {
            peer.begin(now);
            for piece in frames.chunks(READ_BYTES) {
                peer.input(link, piece);
            }
            peer.settle();
            while let Some(conn) = peer.next_ready() {
                while let count @ 1.. = peer.output(conn).len() {
                    peer.sent(conn, count);
                }
                assert_eq!(peer.finished(conn), None, "the link stands");
            }
            // The last record ends with its key and value.
            let (value, key) = (value(0).len(), KEY_BYTES);
            let (rest, value) = frames.split_at(frames.len() - value);
            let held = peer.node().peek(&rest[rest.len() - key..]).and_then(|record| record.value);
            assert!(held == Some(value), "the last record is taken");
        };
        Started { supply: Box::new(supply), round: Box::new(round) }
    }

    /// The second starts again with nothing, and is filled by the first.
    pub(crate) fn sweep() -> Started {
        let mut pair = Self::new();
        Started { supply: Box::new(Vec::new), round: Box::new(move |_| pair.join()) }
    }

    /// The clients of the first, and the second.
    fn writing() -> (Clients, Turn, Now) {
        let Self { turns: [first, second], now, .. } = Self::new();
        (Clients::writing(first, now, Dialect::Line, 16), second, now)
    }

    /// Two that hold all keys, and have nothing to say to each other.
    fn new() -> Self {
        let mut first = started("a", &[], 1, START);
        fill(&mut first);
        let second = started("b", &["a:1"], 2, START);
        let mut pair = Self { turns: [first, second], now: START, next_link: LINKS_FROM, seed: 2 };
        pair.join();
        for _ in 0..100 {
            pair.pause();
            pair.settle();
        }
        pair
    }

    /// Starts the second again, and lets both go on until it has all that the first has.
    fn join(&mut self) {
        self.seed += 1;
        self.turns[0].begin(self.now);
        for conn in (LINKS_FROM..self.next_link).map(ConnId) {
            self.turns[0].event(Event::Closed { conn });
        }
        self.next_link = LINKS_FROM;
        self.turns[1] = started("b", &["a:1"], self.seed, self.now);
        let keys = format!("{KEYS}\n");
        for _ in 0..TURNS_MAX {
            self.settle();
            if ask(&mut self.turns[1], b"DBSIZE\n") == keys.as_bytes() {
                return;
            }
            self.pause();
        }
        panic!("a node was not filled: {}", ask(&mut self.turns[1], b"STATS\n").escape_ascii());
    }

    /// Lets time pass.
    fn pause(&mut self) {
        self.now = Now { mono: self.now.mono.plus_ms(PAUSE_MS), wall: self.now.wall.plus_ms(PAUSE_MS) };
    }

    /// Turns until neither has anything to do.
    fn settle(&mut self) {
        (0..2).for_each(|node| self.turns[node].begin(self.now));
        while self.turns.iter().any(|turn| turn.deadline().is_some_and(|due| due <= self.now.mono)) {
            (0..2).for_each(|node| self.turn(node));
        }
    }

    /// A turn of one node, in which the other is given what it sends.
    fn turn(&mut self, node: usize) {
        let [first, second] = &mut self.turns;
        let (near, far) = if node == 0 { (first, second) } else { (second, first) };
        near.begin(self.now);
        far.begin(self.now);
        near.settle();
        while let Some(conn) = near.next_ready() {
            loop {
                let bytes = near.output(conn);
                let count = bytes.len();
                if count == 0 {
                    break;
                }
                bytes.chunks(READ_BYTES).for_each(|piece| far.input(conn, piece));
                near.sent(conn, count);
            }
            if near.finished(conn).is_some() {
                near.gone(conn);
                far.event(Event::Closed { conn });
            }
        }
        while let Some(addr) = near.take_dial() {
            let conn = ConnId(self.next_link);
            self.next_link += 1;
            far.event(Event::Opened { conn });
            near.event(Event::Dialed { conn, addr });
        }
    }
}
