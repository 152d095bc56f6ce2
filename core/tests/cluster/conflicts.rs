//! Conflicts are counted by the two who wrote, and only for writes that had not seen each other.

use crate::harness::Cluster;

/// Runs `rounds` of (node, command); within a round nobody hears of what the others do. Then each node's count.
fn check(rounds: &[&[(usize, &str)]], expected: [u64; 3]) {
    let mut cluster = Cluster::of_three();
    for round in rounds {
        for (node, command) in *round {
            cluster.hand_in(*node, format!("{command}\n").as_bytes());
        }
        cluster.settle();
    }
    let counts: Vec<u64> = (0..3).map(|node| conflicts(&mut cluster, node)).collect();
    assert_eq!(counts, expected, "after {rounds:?}");
}

fn conflicts(cluster: &mut Cluster, node: usize) -> u64 {
    cluster.replies.clear();
    cluster.hand_in(node, b"STATS\n");
    cluster.settle();
    let stats = String::from_utf8(cluster.replies.clone()).expect("STATS is text");
    let (_, count) = stats.trim_end().split_once("\"conflicts\":").expect("STATS tells of conflicts");
    count.trim_end_matches('}').parse().expect("a number")
}

#[test]
fn writes_that_saw_each_other_are_none() {
    check(&[&[(0, "SET k a")], &[(1, "SET k b")], &[(2, "DEL k")], &[(0, "SET k c")]], [0, 0, 0]);
}

#[test]
fn both_writers_count_and_the_bystander_does_not() {
    check(&[&[(0, "SET k a"), (1, "SET k b")]], [1, 1, 0]);
    check(&[&[(0, "SET k a"), (1, "SET k b")], &[(2, "SET k c")]], [1, 1, 0]);
}

#[test]
fn a_delete_and_a_write_may_conflict_and_other_keys_do_not() {
    check(&[&[(0, "SET k a")], &[(1, "DEL k"), (2, "SET k b")]], [0, 1, 1]);
    check(&[&[(0, "SET k a"), (1, "SET l b"), (2, "SET m c")]], [0, 0, 0]);
}

#[test]
fn an_overwrite_of_a_concurrent_value_is_not_counted_again() {
    check(&[&[(0, "SET k a"), (1, "SET k b")], &[(0, "SET k c")], &[(1, "SET k d")]], [1, 1, 0]);
}
