//! The golden scripts of the line dialect against a whole node, driven as every driver does.

#[path = "scripts/runner.rs"]
mod runner;

use kv_core::{Config, ConnId, Event, Limits, Mono, Now, Turn, WallMs};
use runner::Subject;

/// A node with one client.
struct Client {
    turn: Turn,
    conn: ConnId,
    now: Now,
    closed: bool,
}

impl Client {
    fn open(limits: &Limits) -> Self {
        let config = Config { limits: limits.clone(), ..Config::new([1, 2, 3, 4], "one", "localhost:8080") };
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut turn = Turn::new(config, now);
        let conn = ConnId(0);
        turn.event(Event::Opened { conn });
        Self { turn, conn, now, closed: false }
    }
}

impl Subject for Client {
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        if self.closed {
            return output;
        }
        self.turn.begin(self.now);
        self.turn.input(self.conn, bytes);
        self.turn.settle();
        while let Some(conn) = self.turn.next_ready() {
            loop {
                let sent = self.turn.output(conn).len();
                if sent == 0 {
                    break;
                }
                output.extend_from_slice(self.turn.output(conn));
                self.turn.sent(conn, sent);
            }
            if self.turn.finished(conn).is_some() {
                self.turn.gone(conn);
                self.closed = true;
            }
        }
        output
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn reopen(&mut self) {
        assert!(self.closed, "a script has one connection at a time");
        self.conn.0 += 1;
        self.turn.event(Event::Opened { conn: self.conn });
        self.closed = false;
    }

    fn wait_ms(&mut self, ms: u64) -> Vec<u8> {
        self.now = Now { mono: self.now.mono.plus_ms(ms), wall: self.now.wall.plus_ms(ms) };
        self.send(b"")
    }
}

#[test]
fn golden_scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are there") {
        let path = entry.expect("a folder can be listed").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let script = std::fs::read_to_string(&path).expect("a script is text");
            runner::check(&path.display().to_string(), &script, Client::open);
            scripts += 1;
        }
    }
    assert!(scripts > 0, "no script was found");
}
