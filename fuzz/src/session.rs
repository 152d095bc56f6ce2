//! A client's session with one node, against a map.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use kv_core::{ConnId, Event, Now, Turn};

use crate::driver::{Replies, START, config, settle};

const CLIENT: ConnId = ConnId(0);

/// The bound on clocks that step back, in milliseconds: a value that expired longer ago than this has been freed.
const BACK_MS_MAX: u64 = 60_000;

#[derive(Arbitrary, Debug)]
enum Step {
    Set {
        key: Text,
        value: Text,
        expiry: Option<Expiry>,
    },
    Get {
        key: Text,
    },
    Del {
        keys: [Text; 2],
        more: bool,
    },
    Ttl {
        key: Text,
    },
    /// Sends the commands so far, in pieces of this size.
    Flush {
        piece: u8,
    },
    Wait {
        ms: u16,
    },
    WaitLong {
        s: u16,
    },
    /// The wall clock steps back.
    Back {
        ms: u16,
    },
}

#[derive(Arbitrary, Debug)]
enum Expiry {
    Seconds(u8),
    Millis(u16),
}

/// A word, and how it is written down.
#[derive(Arbitrary, Debug)]
struct Text {
    word: Word,
    quotes: Quotes,
}

#[derive(Arbitrary, Debug)]
enum Word {
    /// One of a few, so that steps meet.
    Common(u8),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Quotes {
    Double,
    Single,
    /// Where the word allows it.
    None,
}

/// What the node must hold.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>);

/// `input` is a list of steps, as `arbitrary` reads one.
pub fn check(input: &[u8]) {
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut turn = Turn::new(config("a", &[]), START);
    turn.event(Event::Opened { conn: CLIENT });
    let mut model = Model::default();
    let (mut now, mut newest) = (START, START.wall.0);
    let (mut typed, mut expected) = (Vec::new(), Vec::new());
    for step in &steps {
        if matches!(step, Step::Flush { .. } | Step::Wait { .. } | Step::WaitLong { .. } | Step::Back { .. }) {
            let piece = if let Step::Flush { piece } = step { usize::from(*piece) } else { 0 };
            flush(&mut turn, now, &mut typed, piece, &mut expected);
        }
        match step {
            Step::Wait { ms } => now = later(now, u64::from(*ms)),
            Step::WaitLong { s } => now = later(now, u64::from(*s) * 1_000),
            Step::Back { ms } => now.wall.0 = (now.wall.0 - u64::from(*ms)).max(newest - BACK_MS_MAX),
            Step::Flush { .. } => {}
            Step::Set { .. } | Step::Get { .. } | Step::Del { .. } | Step::Ttl { .. } => {
                model.run(step, now.wall.0, &mut typed, &mut expected);
            }
        }
        newest = newest.max(now.wall.0);
    }
    flush(&mut turn, now, &mut typed, 0, &mut expected);
    model.compare(&turn, now.wall.0);
}

fn later(now: Now, ms: u64) -> Now {
    Now { mono: now.mono.plus_ms(ms), wall: now.wall.plus_ms(ms) }
}

fn flush(turn: &mut Turn, now: Now, typed: &mut Vec<u8>, piece: usize, expected: &mut Vec<u8>) {
    let mut replies = Replies::default();
    for bytes in typed.chunks(if piece == 0 { usize::MAX } else { piece }) {
        turn.begin(now);
        turn.input(CLIENT, bytes);
        settle(turn, now, &mut replies);
    }
    settle(turn, now, &mut replies);
    assert!(!replies.ended, "nobody quits here");
    assert_eq!(
        replies.bytes.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "after {}",
        typed.escape_ascii()
    );
    typed.clear();
    expected.clear();
}

impl Model {
    /// Types the command of `step`, and what it must be answered.
    fn run(&mut self, step: &Step, wall: u64, typed: &mut Vec<u8>, expected: &mut Vec<u8>) {
        match step {
            Step::Set { key, value, expiry } => {
                typed.extend_from_slice(b"SET ");
                key.type_out(typed);
                typed.push(b' ');
                value.type_out(typed);
                let ms = match expiry {
                    None => None,
                    Some(Expiry::Seconds(s)) => {
                        let s = u64::from(*s).max(1);
                        typed.extend_from_slice(format!(" EX {s}").as_bytes());
                        Some(s * 1_000)
                    }
                    Some(Expiry::Millis(ms)) => {
                        let ms = u64::from(*ms).max(1);
                        typed.extend_from_slice(format!(" px {ms}").as_bytes());
                        Some(ms)
                    }
                };
                self.0.insert(key.bytes(), (value.bytes(), ms.map(|ms| wall + ms)));
                expected.extend_from_slice(b"OK\n");
            }
            Step::Get { key } => {
                typed.extend_from_slice(b"get ");
                key.type_out(typed);
                expected.extend_from_slice(self.get(&key.bytes(), wall).map_or(b"Key not found", |live| &live.0));
                expected.push(b'\n');
            }
            Step::Del { keys, more } => {
                typed.extend_from_slice(b"Del");
                for key in &keys[..1 + usize::from(*more)] {
                    typed.push(b' ');
                    key.type_out(typed);
                    // What is not seen is not deleted, and comes back if the clock steps back.
                    if self.get(&key.bytes(), wall).is_some() {
                        self.0.remove(&key.bytes());
                    }
                }
                expected.extend_from_slice(b"OK\n");
            }
            Step::Ttl { key } => {
                typed.extend_from_slice(b"TTL ");
                key.type_out(typed);
                let text = match self.get(&key.bytes(), wall) {
                    None => "Key not found".to_owned(),
                    Some((_, None)) => "-1".to_owned(),
                    Some((_, Some(deadline))) => ((deadline - wall + 500) / 1_000).to_string(),
                };
                expected.extend_from_slice(text.as_bytes());
                expected.push(b'\n');
            }
            Step::Flush { .. } | Step::Wait { .. } | Step::WaitLong { .. } | Step::Back { .. } => return,
        }
        typed.extend_from_slice(b"\r\n");
    }

    fn get(&self, key: &[u8], wall: u64) -> Option<&(Vec<u8>, Option<u64>)> {
        self.0.get(key).filter(|(_, deadline)| deadline.is_none_or(|deadline| deadline > wall))
    }

    /// The node holds what lives, and nothing else that does.
    fn compare(&self, turn: &Turn, wall: u64) {
        let mut held = BTreeMap::new();
        turn.node().entries(&mut |record| {
            let deadline = record.deadline.map(|deadline| deadline.0);
            if let Some(value) = record.value
                && deadline.is_none_or(|deadline| deadline > wall)
            {
                held.insert(record.key.to_vec(), (value.to_vec(), deadline));
            }
        });
        let live: BTreeMap<_, _> = self
            .0
            .iter()
            .filter(|(key, _)| self.get(key, wall).is_some())
            .map(|(k, v)| (stored(k), v.clone()))
            .collect();
        assert_eq!(held, live);
    }
}

/// What a key is stored as: its own name, unless it begins as other names do.
fn stored(key: &[u8]) -> Vec<u8> {
    if key.first() == Some(&0xff) { [&[0xff, 0], key].concat() } else { key.to_vec() }
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match &self.word {
            Word::Common(which) => vec![b'k', b'0' + which % 6],
            // Within all limits, also where each byte is typed as four.
            Word::Any(bytes) => bytes[..bytes.len().min(40)].to_vec(),
        }
    }

    fn type_out(&self, typed: &mut Vec<u8>) {
        let bytes = self.bytes();
        let plain = |byte: &u8| matches!(byte, b'!' | b'#'..=b'&' | b'('..=b'~');
        let printable = |byte: &u8| matches!(byte, b' '..=b'~');
        match self.quotes {
            Quotes::None if !bytes.is_empty() && bytes.iter().all(plain) => typed.extend_from_slice(&bytes),
            Quotes::Single if bytes.iter().all(printable) => {
                typed.push(b'\'');
                for byte in bytes {
                    if matches!(byte, b'\'' | b'\\') {
                        typed.push(b'\\');
                    }
                    typed.push(byte);
                }
                typed.push(b'\'');
            }
            Quotes::Double | Quotes::Single | Quotes::None => {
                typed.push(b'"');
                for byte in bytes {
                    match byte {
                        b'"' | b'\\' => typed.extend_from_slice(&[b'\\', byte]),
                        b'\n' => typed.extend_from_slice(b"\\n"),
                        b' '..=b'~' => typed.push(byte),
                        _ => typed.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                    }
                }
                typed.push(b'"');
            }
        }
    }
}
