//! What a node cannot get from its writer it gets through a third, however busy that one is.

use crate::harness::Cluster;

/// A second of relaying is allowed to begin, and another for the rest.
const WITHIN_MS: u64 = 2_000;

/// The last of three is cut off from the first, whose old write the middle one has from a sweep and so not in its tail.
/// Writes at the middle one, `per_ms` of them, keep its stream moving.
fn check(per_ms: u64) {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["bb:1"])]);
    cluster.cut(0, 2);
    cluster.hand_in(0, b"SET old value\n");
    for ms in 0..WITHIN_MS {
        for at in 0..per_ms {
            cluster.hand_in(1, format!("SET new{at} {ms}\n").as_bytes());
        }
        cluster.settle();
        cluster.pass(1);
        if cluster.turns[2].node().peek(b"old").is_some() {
            return;
        }
    }
    panic!("at {per_ms} writes a millisecond the old write has not come within {WITHIN_MS} ms");
}

#[test]
fn a_gap_is_closed_beside_a_stream_that_never_rests() {
    [0, 1, 3].into_iter().for_each(check);
}
