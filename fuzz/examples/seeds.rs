//! Writes the seeds that are made from real traffic: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! Two nodes talk; what one of them is sent becomes the steps of a `peer` input, and the records in it become `record`
//! inputs. The greetings are left out: the target greets by itself.

use std::fs;
use std::path::Path;

use kv_core::{AddrId, ConnId, Event, Now, Turn, next_frame};
use kv_fuzz::driver::{Outside, PREAMBLE, START, config, settle};

const CLIENT: ConnId = ConnId(0);
const LINK: ConnId = ConnId(1);
const FRAME_TO_ACCEPTED: u8 = 0;
const FRAME_TO_DIALED: u8 = 1;

/// One side: what it has sent over the link and the other has not taken.
#[derive(Default)]
struct Side {
    sent: Vec<u8>,
    dials: bool,
}

impl Outside for Side {
    fn sent(&mut self, conn: ConnId, bytes: &[u8]) {
        if conn == LINK {
            self.sent.extend_from_slice(bytes);
        }
    }

    fn ended(&mut self, _: ConnId) {}

    fn dial(&mut self, _: AddrId) -> Option<ConnId> {
        std::mem::take(&mut self.dials).then_some(LINK)
    }
}

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    conversation(&seeds, "stream", false, 5);
    conversation(&seeds, "sweep", true, 5);
    conversation(&seeds, "scrub", true, 12);
}

/// A node pulls from another, which was written to before (then only a sweep brings all of it) or only while it pulls.
/// After five rounds, if there are more, it loses an entry.
fn conversation(seeds: &Path, name: &str, before: bool, rounds: u32) {
    let mut now = START;
    let mut feeder = Turn::new(config("feeder", &[]), now);
    let mut puller = Turn::new(config("puller", &["feeder:1"]), now);
    let (mut feeds, mut pulls) = (Side::default(), Side { sent: Vec::new(), dials: true });
    feeder.event(Event::Opened { conn: CLIENT });
    feeder.event(Event::Opened { conn: LINK });
    let (mut to_accepted, mut to_dialed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round == 5 {
            puller.rot(b"k3", None);
        }
        if (before && round < 5) || round == 3 {
            feeder.begin(now);
            feeder.input(CLIENT, b"SET k1 one\nSET k2 two EX 100\nDEL k1\nSET k3 three\nSET k2 again\n");
        }
        for _ in 0..10 {
            settle(&mut puller, now, &mut pulls);
            settle(&mut feeder, now, &mut feeds);
            feeder.input(LINK, &pulls.sent);
            puller.input(LINK, &feeds.sent);
            record(&mut pulls.sent, FRAME_TO_ACCEPTED, &mut to_accepted, None);
            record(&mut feeds.sent, FRAME_TO_DIALED, &mut to_dialed, Some((seeds, name)));
        }
        now = Now { mono: now.mono.plus_ms(501), wall: now.wall.plus_ms(501) };
        for steps in [&mut to_accepted, &mut to_dialed] {
            // 22^2 ms, then a client.
            steps.extend_from_slice(&[4, 22, 6, 1]);
        }
    }
    fs::write(seeds.join(format!("peer/{name}-to-accepted")), &to_accepted).expect("a seed is written");
    fs::write(seeds.join(format!("peer/{name}-to-dialed")), &to_dialed).expect("a seed is written");
    to_accepted.extend_from_slice(&to_dialed);
    fs::write(seeds.join(format!("peer/{name}-to-both")), &to_accepted).expect("a seed is written");
}

/// Makes steps of what was sent, and seeds of the records in it.
fn record(sent: &mut Vec<u8>, step: u8, steps: &mut Vec<u8>, seeds: Option<(&Path, &str)>) {
    let mut bytes = &sent[..];
    if let Some(rest) = bytes.strip_prefix(PREAMBLE) {
        bytes = rest;
    }
    while let Ok(Some(body)) = next_frame(bytes, 1 << 20) {
        bytes = &bytes[8 + body.len()..];
        if body[0] == 1 {
            continue;
        }
        steps.push(step);
        steps.extend_from_slice(&(body.len() as u16).to_le_bytes());
        steps.extend_from_slice(body);
        if let Some((seeds, name)) = seeds
            && body[0] & 0x80 != 0
        {
            fs::write(seeds.join(format!("record/{name}-{:02x}-{}", body[0], body.len())), body)
                .expect("a seed is written");
        }
    }
    assert!(bytes.is_empty(), "a node at rest has sent whole frames");
    sent.clear();
}
