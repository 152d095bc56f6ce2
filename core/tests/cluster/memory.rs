//! A node that has taken all the memory that it may, in a cluster of others that have not.

use crate::harness::Cluster;

fn answers(cluster: &mut Cluster, command: &str) -> Vec<String> {
    (0..cluster.turns.len()).map(|node| cluster.ask(node, command)).collect()
}

#[test]
fn a_node_past_its_limit_takes_what_others_write_and_passes_on_what_it_deletes() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k 1\nSET d 1\n");
    assert_eq!(cluster.ask(1, "CONFIG SET maxmemory 1"), "OK");
    assert!(cluster.ask(1, "SET k 2").contains("maxmemory"));
    assert_eq!(cluster.ask(1, "DEL d"), "OK");
    assert_eq!(cluster.ask(0, "SET k 3"), "OK");
    // By the stream, and, as it was away for longer than the ring lasts, by a sweep.
    cluster.cut(0, 1);
    cluster.cut(1, 2);
    let value = "v".repeat(1_000);
    let missed: String = (0..300).map(|key| format!("SET missed:{key} {value}\nINCR n\nHSET h f{key} v\n")).collect();
    cluster.write(missed.as_bytes());
    for _ in 0..50 {
        cluster.pass(100);
        cluster.settle();
    }
    assert_eq!(cluster.ask(1, "DBSIZE"), "1");
    cluster.heal();
    for _ in 0..200 {
        cluster.settle();
        cluster.pass(100);
    }
    cluster.settle();
    assert_eq!(answers(&mut cluster, "GET k"), ["3"; 3]);
    assert_eq!(answers(&mut cluster, "GET n"), ["300"; 3]);
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["303"; 3]);
    let digests: Vec<_> = cluster.turns.iter().map(|turn| turn.node().digest()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    assert!(cluster.ask(1, "SET k 4").contains("maxmemory"), "it is still past its limit");
}
