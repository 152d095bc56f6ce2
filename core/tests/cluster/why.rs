//! `WHY` names the writer of a key, also one that was never met, and who holds the key.

use crate::harness::Cluster;

/// Two heartbeats: everybody has said what it holds.
const HEARD_MS: u64 = 1_000;

/// Lets time pass in steps in which everybody speaks.
fn pass(cluster: &mut Cluster, ms: u64) {
    for _ in 0..ms / 100 {
        cluster.pass(100);
        cluster.settle();
    }
}

/// Asks `node` for the `WHY` of `key` and holds it against parts of it.
#[track_caller]
fn check(cluster: &mut Cluster, node: usize, key: &str, parts: &[&str]) {
    let why = cluster.ask(node, &format!("WHY {key}"));
    for part in parts {
        assert!(why.contains(part), "{part} in {why}");
    }
}

#[test]
fn who_wrote_it_and_who_holds_it_is_told_everywhere() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k value\nSET gone soon\n");
    check(&mut cluster, 0, "k", &["\"held_by\":[]", "\"not_yet\":[\"bb\",\"ccc\"]"]);
    pass(&mut cluster, HEARD_MS);
    let value =
        ["\"state\":\"value\",\"value_bytes\":5,\"node\":\"a\"", "\"not_yet\":[]", ":22.000Z\",\"ttl_ms\":null"];
    for (node, held_by) in ["[\"bb\",\"ccc\"]", "[\"a\",\"ccc\"]", "[\"a\",\"bb\"]"].into_iter().enumerate() {
        check(&mut cluster, node, "k", &value);
        check(&mut cluster, node, "k", &[&format!("\"held_by\":{held_by}")]);
    }
    assert_eq!(cluster.ask(1, "DEL gone"), "OK");
    for node in 0..3 {
        check(&mut cluster, node, "gone", &["\"state\":\"deleted\",\"value_bytes\":null,\"node\":\"bb\""]);
    }
}

#[test]
fn who_cannot_be_heard_is_not_said_to_hold_it() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.write(b"SET k value\n");
    pass(&mut cluster, HEARD_MS);
    check(&mut cluster, 0, "k", &["\"held_by\":[\"bb\"],\"not_yet\":[\"ccc\"]"]);
}

#[test]
fn a_writer_that_was_never_met_is_named() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["bb:1"])]);
    cluster.cut(0, 2);
    pass(&mut cluster, 500);
    cluster.write(b"SET k value\n");
    pass(&mut cluster, 3 * HEARD_MS);
    check(&mut cluster, 2, "k", &["\"node\":\"a\"", "\"held_by\":[\"bb\"],\"not_yet\":[]"]);
}
