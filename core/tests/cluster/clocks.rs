//! Clocks that are wrong: whom a node reads, and when it takes writes.

use crate::harness::Cluster;

/// So far ahead a clock may be, in milliseconds.
const BOUND_MS: i64 = 60_000;

/// How many bounds a node's stamps may be ahead of its clock.
const STAMP_BOUNDS: i64 = 10;

impl Cluster {
    /// Lets everybody state their clocks, and hear what is stated.
    fn look_at_clocks(&mut self) {
        for _ in 0..4 {
            self.pass(500);
            self.settle();
        }
    }

    fn peers_ahead(&mut self, node: usize) -> usize {
        self.ask(node, "PEERS").matches("clock ahead").count()
    }
}

#[test]
fn a_node_ahead_of_most_refuses_writes_until_its_clock_is_right() {
    let mut cluster = Cluster::of_three();
    for (skew_ms, takes_writes) in
        [(BOUND_MS, true), (BOUND_MS + 1, false), (3 * BOUND_MS, false), (0, true), (-3 * BOUND_MS, true)]
    {
        cluster.skew(2, skew_ms);
        cluster.look_at_clocks();
        let answer = cluster.ask(2, "SET k v");
        match takes_writes {
            true => assert_eq!(answer, "OK", "{skew_ms}"),
            false => {
                assert!(answer.starts_with(&format!("Error: this node's clock is {skew_ms} ms ahead")), "{answer}")
            }
        }
        let stats = cluster.ask(2, "STATS");
        assert!(stats.contains(&format!("\"clock_ms_ahead\":{skew_ms},\"conn")), "{skew_ms} {stats}");
        assert_eq!([0, 1].map(|node| cluster.ask(node, "SET k w")), ["OK", "OK"], "{skew_ms}");
    }
}

#[test]
fn one_bad_clock_beside_a_node_is_not_taken_for_its_own() {
    let mut cluster = Cluster::of_three();
    // Of an even number the lower is the median: a node must be ahead of more than half to be taken for wrong.
    for (skew_ms, ahead_ms) in [(-2 * BOUND_MS, 0), (2 * BOUND_MS, -2 * BOUND_MS)] {
        cluster.skew(1, skew_ms);
        cluster.look_at_clocks();
        assert_eq!([0, 2].map(|node| cluster.ask(node, "SET k v")), ["OK", "OK"]);
        let stats = cluster.ask(0, "STATS");
        assert!(stats.contains(&format!("\"clock_ms_ahead\":{ahead_ms},\"conn")), "{stats}");
    }
}

#[test]
fn who_is_ahead_of_two_of_three_is_wrong_and_who_is_ahead_of_one_is_not() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["a:1"]), ("dddd", &["a:1"])]);
    cluster.look_at_clocks();
    [0, 1].into_iter().for_each(|node| cluster.skew(node, 2 * BOUND_MS));
    cluster.look_at_clocks();
    assert_eq!([0, 1, 2, 3].map(|node| cluster.ask(node, "SET k v") == "OK"), [false, false, true, true]);
    cluster.skew(1, 0);
    cluster.skew(0, 0);
    cluster.skew(3, -2 * BOUND_MS);
    cluster.look_at_clocks();
    assert_eq!([0, 1, 2, 3].map(|node| cluster.ask(node, "SET k v")), ["OK"; 4]);
}

#[test]
fn who_is_ahead_is_not_read_and_what_was_missed_comes_when_clocks_agree() {
    let mut cluster = Cluster::of_three();
    cluster.skew(2, -BOUND_MS);
    cluster.look_at_clocks();
    cluster.write(b"SET within yes\n");
    assert_eq!((cluster.ask(2, "GET within"), cluster.peers_ahead(2)), ("yes".to_owned(), 0));
    cluster.skew(2, -BOUND_MS - 1);
    cluster.look_at_clocks();
    for round in 0..5 {
        cluster.write(format!("SET beyond {round}\n").as_bytes());
        assert_eq!((cluster.ask(2, "GET beyond"), cluster.peers_ahead(2)), ("Key not found".to_owned(), 2));
        cluster.look_at_clocks();
    }
    assert_eq!(cluster.ask(2, "SET mine yes"), "OK");
    assert_eq!([0, 1].map(|node| cluster.ask(node, "GET mine")), ["yes", "yes"], "others go on reading it");
    cluster.skew(2, 0);
    cluster.look_at_clocks();
    assert_eq!((cluster.ask(2, "GET beyond"), cluster.peers_ahead(2)), ("4".to_owned(), 0));
}

#[test]
fn stamps_of_a_clock_that_was_far_ahead_once_are_not_passed_on() {
    // How far its stamps are ahead when the others hear of it, whether it takes writes then, and whether it is read.
    let stamps_ms = BOUND_MS * STAMP_BOUNDS;
    for (ahead_ms, takes_writes, is_read) in [
        (stamps_ms, true, true),
        (stamps_ms + 1, false, true),
        (stamps_ms + BOUND_MS, false, true),
        (stamps_ms + BOUND_MS + 1, false, false),
    ] {
        let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
        cluster.cut(0, 1);
        cluster.settle();
        cluster.skew(0, ahead_ms);
        assert_eq!(cluster.ask(0, "SET ahead yes"), "OK");
        cluster.skew(0, 0);
        assert_eq!(cluster.ask(0, "SET ahead still"), "OK", "nobody is there to disbelieve it");
        cluster.heal();
        // Wall clocks stand still meanwhile, so that its stamps stay as far ahead.
        for round in 1..=10 {
            [0, 1].into_iter().for_each(|node| cluster.skew(node, -500 * round));
            cluster.pass(500);
            cluster.settle();
        }
        assert_eq!(cluster.ask(0, "SET k v") == "OK", takes_writes, "{ahead_ms}");
        assert_eq!(cluster.peers_ahead(1) == 0, is_read, "{ahead_ms}");
        let seen = cluster.ask(1, "GET ahead");
        assert_eq!(seen, if is_read { "still" } else { "Key not found" }, "{ahead_ms}");
    }
}
