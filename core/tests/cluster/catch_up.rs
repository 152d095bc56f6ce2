//! What catching up costs on the wire.

use crate::harness::Cluster;

/// Writes that a peer misses: more than the ring of 64 KiB holds.
const MISSED: usize = 1_000;
/// What a record has besides its key and value: length, checksum, kind, stamp and the length of its key.
const RECORD_OVERHEAD_BYTES: usize = 26;
/// Greetings, heartbeats and the sweep's own frames.
const FRAMES_BYTES_MAX: usize = 4 << 10;
/// Dials begin again within this.
const WITHIN_MS: u64 = 20_000;

/// Bytes between two nodes, both ways, until one holds what it missed in a store of `keys` others.
fn bytes_to_catch_up(keys: usize) -> usize {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    cluster.settle();
    for first in (0..keys).step_by(100) {
        let lines: String = (first..first + 100).map(|key| format!("SET key:{key:012} {:064}\n", 0)).collect();
        cluster.write(lines.as_bytes());
    }
    cluster.cut(0, 1);
    let last = keys - 1;
    for missed in 0..MISSED {
        let key = last - (MISSED - 1 - missed) * (keys / MISSED);
        cluster.write(format!("SET key:{key:012} {:064}\n", 1).as_bytes());
    }
    cluster.heal();
    cluster.sent_bytes = 0;
    let newest = cluster.turns[0].node().peek(format!("key:{last:012}").as_bytes()).map(|record| record.version);
    for _ in 0..WITHIN_MS / 100 {
        cluster.settle();
        cluster.pass(100);
        let held = cluster.turns[1].node().peek(format!("key:{last:012}").as_bytes()).map(|record| record.version);
        if held == newest {
            cluster.settle();
            return cluster.sent_bytes;
        }
    }
    panic!("it has not caught up within {WITHIN_MS} ms");
}

#[test]
fn at_most_twice_what_was_missed_is_sent() {
    let record_bytes = 16 + 64 + RECORD_OVERHEAD_BYTES;
    let sent_bytes = bytes_to_catch_up(20_000);
    let limit_bytes = 2 * MISSED * record_bytes + FRAMES_BYTES_MAX;
    assert!(sent_bytes <= limit_bytes, "{sent_bytes} bytes were sent, the records have {}", MISSED * record_bytes);
}
