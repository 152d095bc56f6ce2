//! Any bytes from a client, in any pieces.

use kv_core::{ConnId, Event, Turn};

use crate::driver::{LIMITS, PREAMBLE, Replies, START, config, settle};

/// The longest reply (`HELP`, `COMMAND`, what describes HTTP, the page), with room to spare.
const REPLY_BYTES_MAX: usize = 64 << 10;

const CLIENT: ConnId = ConnId(0);

/// The first byte of `input` says how many of the next are sizes of pieces (taken in turn, 0 means all that is left);
/// the rest is what the client sends. The replies must be those to the same bytes in one piece.
pub fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let count = usize::from(*count % 16).min(rest.len());
    let (sizes, bytes) = rest.split_at(count);
    if bytes.starts_with(PREAMBLE) {
        // No client: the target `peer` has these.
        return;
    }
    replies_in(bytes, sizes);
}

/// What a client is answered to `bytes`, which must be the same in pieces of these sizes.
pub(crate) fn replies_in(bytes: &[u8], sizes: &[u8]) -> Replies {
    let whole = replies(bytes, &[]);
    let split = replies(bytes, sizes);
    assert_eq!(whole.ended, split.ended, "whether the node hangs up depends on the splits");
    assert_eq!(
        whole.bytes.escape_ascii().to_string(),
        split.bytes.escape_ascii().to_string(),
        "replies depend on the splits"
    );
    whole
}

fn replies(mut bytes: &[u8], sizes: &[u8]) -> Replies {
    let mut turn = Turn::new(config("a", &[]), START);
    let mut replies = Replies::default();
    // It stamps its own seat first, whatever the pieces: tokens are stamps.
    settle(&mut turn, START, &mut replies);
    turn.begin(START);
    turn.event(Event::Opened { conn: CLIENT });
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() && !replies.ended {
        let size = sizes.next().map_or(0, |size| usize::from(*size));
        let (piece, rest) = bytes.split_at(if size == 0 { bytes.len() } else { size.min(bytes.len()) });
        bytes = rest;
        if turn.node().is_waiting(CLIENT) {
            // For a node that will never come, or longer than this runs.
            break;
        }
        assert!(turn.wants_read(CLIENT), "a client that reads its replies is read");
        turn.begin(START);
        turn.input(CLIENT, piece);
        assert!(turn.held(CLIENT).1 <= LIMITS.output_bytes_max + REPLY_BYTES_MAX, "output is bounded");
        settle(&mut turn, START, &mut replies);
        let waits = turn.node().is_waiting(CLIENT);
        assert!(waits || turn.held(CLIENT).0 <= LIMITS.request_bytes_max, "no more than a request is held back");
    }
    replies
}
