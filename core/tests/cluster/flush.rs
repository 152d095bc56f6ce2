//! Flushing keyspaces in a cluster.

use kv_core::Record;
use proptest::prelude::*;

use crate::harness::{Cluster, START};

fn all_agree(cluster: &mut Cluster) {
    let digests = |cluster: &Cluster| cluster.turns.iter().map(|turn| turn.node().digest()).collect::<Vec<_>>();
    // They are of one cut for most of the time.
    let mut agreed = 0;
    for step in 0..400 {
        cluster.settle();
        let digests = digests(cluster);
        agreed = if digests.iter().all(|digest| *digest == digests[0]) { agreed + 1 } else { 0 };
        cluster.pass(100);
        if step > 200 && agreed > 20 {
            break;
        }
    }
    cluster.settle();
    assert!(agreed > 20, "{:?}", digests(cluster));
    for node in 0..cluster.turns.len() {
        let stats = cluster.ask(node, "STATS");
        assert!(stats.contains("\"found\":0"), "nothing was left to scrubbing: {stats}");
    }
}

fn answers(cluster: &mut Cluster, command: &str) -> Vec<String> {
    (0..cluster.turns.len()).map(|node| cluster.ask(node, command)).collect()
}

#[test]
fn all_nodes_hear_of_a_flush() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k 1\nINCRBY n 5\nSET t x EX 100\nDEL t\nSELECT 2\nSET k 2\nSELECT 0\n");
    assert_eq!(cluster.ask(1, "FLUSHDB"), "OK");
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["0"; 3]);
    assert_eq!(answers(&mut cluster, "SELECT 2"), ["OK"; 3]);
    assert_eq!(answers(&mut cluster, "GET k"), ["2"; 3]);
    assert_eq!(cluster.ask(2, "FLUSHALL"), "OK");
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["0"; 3]);
    assert_eq!(cluster.ask(0, "SET k 3"), "OK");
    assert_eq!(answers(&mut cluster, "GET k"), ["3"; 3]);
    all_agree(&mut cluster);
    assert!(answers(&mut cluster, "STATS").iter().all(|stats| stats.contains("\"tombstones\":0")));
}

#[test]
fn flushing_all_takes_what_only_others_know_of() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    cluster.hand_in(1, b"SELECT 5\nSET k 1\n");
    cluster.settle();
    cluster.pass(10);
    assert_eq!(cluster.ask(0, "FLUSHALL"), "OK");
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!(answers(&mut cluster, "SELECT 5"), ["OK"; 3]);
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["0"; 3]);
}

#[test]
fn of_what_is_written_at_the_same_time_that_stays_which_is_newer() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k old\nSET l old\nINCRBY n 5\nINCRBY m 5\n");
    cluster.hand_in(1, b"SET k before\nINCR n\n");
    cluster.pass(10);
    cluster.hand_in(0, b"FLUSHALL\n");
    cluster.pass(10);
    cluster.hand_in(2, b"SET l after\nINCR m\n");
    cluster.settle();
    for (key, value) in [("k", "Key not found"), ("l", "after"), ("n", "Key not found"), ("m", "1")] {
        assert_eq!(answers(&mut cluster, &format!("GET {key}")), [value; 3], "{key}");
    }
    all_agree(&mut cluster);
}

#[test]
fn a_flush_during_a_partition_comes_through_afterwards() {
    let mut cluster = Cluster::of_three();
    let lines: String = (0..2_000).map(|key| format!("SET key:{key} {:064}\n", 0)).collect();
    cluster.write(lines.as_bytes());
    cluster.write(b"INCRBY n 5\n");
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.hand_in(2, b"SET late 1\nINCR n\nINCR own\n");
    cluster.settle();
    cluster.pass(100);
    cluster.hand_in(0, b"FLUSHALL\n");
    cluster.settle();
    cluster.pass(100);
    cluster.hand_in(2, b"SET later 2\nINCR own\n");
    // So much that the tail has lost the flush.
    for _ in 0..20 {
        let lines: String = (0..100).map(|key| format!("SET new:{key} {:064}\n", 1)).collect();
        cluster.hand_in(1, lines.as_bytes());
        cluster.settle();
        cluster.pass(100);
    }
    assert_eq!(cluster.ask(2, "DBSIZE"), "2004");
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["101"; 3]);
    assert_eq!(answers(&mut cluster, "GET later"), ["2"; 3]);
}

#[test]
fn who_joins_is_told_of_it() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k 1\nFLUSHALL\nSET l 2\n");
    cluster.restart(2, &["a:1"]);
    all_agree(&mut cluster);
    assert_eq!(answers(&mut cluster, "KEYS *"), ["l"; 3]);
}

#[test]
fn who_was_alone_flushed_what_it_had_and_nothing_else() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &[]), ("ccc", &["a:1", "bb:1"])]);
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.hand_in(0, b"SET of-a 1\n");
    cluster.pass(10);
    cluster.hand_in(1, b"SET of-b 1\nFLUSHALL\nSET of-b:2 1\nINCR n\n");
    cluster.settle();
    assert_eq!(cluster.ask(1, "DBSIZE"), "2");
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!(answers(&mut cluster, "DBSIZE"), ["3"; 3]);
    assert_eq!(answers(&mut cluster, "GET of-a"), ["1"; 3]);
}

#[test]
fn who_has_not_joined_does_not_flush() {
    let mut cluster = Cluster::new(&[("a", &["bb:1"]), ("bb", &["a:1"])]);
    cluster.cut(0, 1);
    assert_eq!(cluster.ask(0, "SET k v"), "OK");
    let answer = cluster.ask(0, "FLUSHALL");
    assert!(answer.starts_with("Error: this node has not joined its cluster yet"), "{answer}");
    assert_eq!(cluster.ask(0, "GET k"), "v");
    cluster.heal();
    all_agree(&mut cluster);
    assert_eq!((cluster.ask(0, "FLUSHALL"), cluster.ask(1, "GET k")), ("OK".to_owned(), "Key not found".to_owned()));
}

/// What happens, on one of three nodes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(usize, u8),
    Add(usize, u8),
    Del(usize, u8),
    Flush(usize),
    /// Nobody hears of this one, or it of anybody.
    Cut(usize),
    Heal,
    Restart(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..3_usize;
    let step = prop_oneof![
        6 => (node(), 0..6_u8).prop_map(|(node, key)| Step::Set(node, key)),
        4 => (node(), 0..3_u8).prop_map(|(node, key)| Step::Add(node, key)),
        2 => (node(), 0..6_u8).prop_map(|(node, key)| Step::Del(node, key)),
        3 => node().prop_map(Step::Flush),
        1 => node().prop_map(Step::Cut),
        1 => Just(Step::Heal),
        1 => node().prop_map(Step::Restart),
        3 => (1..2_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// By node: the others.
const OTHERS: [&[&str]; 3] = [&["bb:1", "ccc:1"], &["a:1", "ccc:1"], &["a:1", "bb:1"]];

/// The floor of the first keyspace, as it is stored.
const FLOOR: &[u8] = b"\xff\x10";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn all_agree_whatever_was_flushed_meanwhile(steps in steps()) {
        let mut cluster = Cluster::of_three();
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Set(node, key) => cluster.hand_in(node, format!("SET k{key} v{number}\n").as_bytes()),
                Step::Add(node, key) => cluster.hand_in(node, format!("INCR n{key}\n").as_bytes()),
                Step::Del(node, key) => cluster.hand_in(node, format!("DEL k{key} n{key}\n").as_bytes()),
                Step::Flush(node) => cluster.hand_in(node, b"FLUSHALL\n"),
                Step::Cut(node) => (0..3).filter(|other| *other != node).for_each(|other| cluster.cut(node, other)),
                Step::Heal => cluster.heal(),
                Step::Restart(node) => cluster.restart(node, OTHERS[node]),
                Step::Pass(ms) => {
                    for _ in 0..ms / 100 {
                        cluster.settle();
                        cluster.pass(100);
                    }
                }
            }
            // Now and then the next comes before anybody has heard of this one.
            if number % 3 > 0 {
                cluster.settle();
            }
            cluster.pass(1);
        }
        cluster.heal();
        all_agree(&mut cluster);
        let keys: Vec<String> = answers(&mut cluster, "DBSIZE");
        prop_assert!(keys.iter().all(|count| *count == keys[0]), "{:?}", keys);
        for turn in &cluster.turns {
            let node = turn.node();
            let floor = node.peek(FLOOR).map(|floor| floor.version);
            prop_assert!(floor.is_none_or(|floor| floor.hlc.ms() >= START.wall.0));
            let is_right = |record: &Record<'_>| record.key == FLOOR || Some(record.version) > floor;
            node.entries(&mut |record| assert!(is_right(record), "{record:?}"));
        }
    }
}
