//! Any first bytes: of a client of any kind, of a peer, of nobody.

use kv_core::{ConnId, Event, Turn};

use crate::driver::{Replies, START, config, settle};

const STRANGER: ConnId = ConnId(0);
const CLIENT: ConnId = ConnId(1);

/// The first byte of `input` says how many of the next are sent first; then comes the rest. Whatever the node takes the
/// connection for, others are served.
pub fn check(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let (first, rest) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let mut turn = Turn::new(config("a", &[]), START);
    let mut told = Replies::default();
    turn.begin(START);
    turn.event(Event::Opened { conn: STRANGER });
    for piece in [first, rest] {
        if !piece.is_empty() && !told.ended && turn.wants_read(STRANGER) {
            turn.begin(START);
            turn.input(STRANGER, piece);
            settle(&mut turn, START, &mut told);
        }
    }
    let mut replies = Replies::default();
    turn.begin(START);
    turn.event(Event::Opened { conn: CLIENT });
    turn.input(CLIENT, b"PING\n");
    settle(&mut turn, START, &mut replies);
    let is_answered = replies.bytes.ends_with(b"PONG\n");
    assert!(is_answered, "a client is answered {:?}", replies.bytes.escape_ascii().to_string());
}
