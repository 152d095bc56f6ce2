//! What a turn is told to expect means nothing but time: whatever is said and whatever comes, replies are the same.

use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};
use proptest::prelude::*;

const CONNS: u32 = 4;

const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// Reads of a connection: requests of both kinds, several at once, parts of one, and such as have no key.
const READS: [&[u8]; 14] = [
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nb\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*2\r\n$3\r\nGET\r\n$40\r\na-key-that-is-longer-than-those-one-keeps\r\n",
    b"*3\r\n$3\r\nSET\r\n$40\r\na-key-that-is-longer-than-those-one-keeps\r\n$1\r\n3\r\n",
    b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\n",
    b"a\r\n",
    b"GET a\r\n",
    b"SET b 4\r\nGET b\r\n",
    b"DEL b\r\n",
];

type Reads = Vec<(u32, usize)>;

fn reads() -> impl Strategy<Value = Reads> {
    prop::collection::vec((0..CONNS, 0..READS.len()), 0..8)
}

fn pieces(reads: &Reads) -> impl Iterator<Item = (ConnId, &'static [u8])> {
    reads.iter().map(|(conn, which)| (ConnId(*conn), READS[*which]))
}

fn started() -> Turn {
    let mut turn = Turn::new(Config::new([1, 2, 3, 4], "a", "a:1".to_owned()), NOW);
    (0..CONNS).for_each(|conn| turn.event(Event::Opened { conn: ConnId(conn) }));
    turn
}

/// What everybody hears after these reads.
fn heard(turn: &mut Turn, reads: &Reads) -> Vec<Vec<u8>> {
    pieces(reads).for_each(|(conn, bytes)| turn.input(conn, bytes));
    let take = |conn| {
        let output = turn.output(ConnId(conn)).to_vec();
        turn.sent(ConnId(conn), output.len());
        output
    };
    (0..CONNS).map(take).collect()
}

proptest! {
    #[test]
    fn what_is_expected_means_nothing_but_time(
        turns in prop::collection::vec((reads(), prop::option::of(reads())), 1..20),
    ) {
        let (mut told, mut untold) = (started(), started());
        for (reads, lie) in &turns {
            told.begin(NOW);
            untold.begin(NOW);
            told.expect(pieces(lie.as_ref().unwrap_or(reads)));
            prop_assert_eq!(heard(&mut told, reads), heard(&mut untold, reads));
        }
    }
}
