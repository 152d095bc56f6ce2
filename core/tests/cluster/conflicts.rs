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
    let stats = cluster.ask(node, "STATS");
    let (_, count) = stats.split_once("\"conflicts\":").expect("STATS tells of conflicts");
    let end = count.find([',', '}']).expect("a number ends");
    count[..end].parse().expect("a number")
}

/// Runs `rounds` as [`check`] does; then what each node lists, newest first: key, what was lost and to what, each with
/// its writer's place.
fn check_kept(rounds: &[&[(usize, &str)]], expected: [&[&str]; 3]) -> Cluster {
    let mut cluster = Cluster::of_three();
    for round in rounds {
        for (node, command) in *round {
            cluster.hand_in(*node, format!("{command}\n").as_bytes());
        }
        cluster.settle();
    }
    let origins: Vec<_> = cluster.turns.iter().map(|turn| turn.node().origin()).collect();
    let place = |origin| origins.iter().position(|known| *known == origin).expect("the origin of one of us");
    for (node, expected) in expected.iter().enumerate() {
        let mut listed = Vec::new();
        cluster.turns[node].node().conflicts(&mut |_, conflict| {
            assert!(conflict.lost < conflict.won);
            let value = conflict.value.map_or("nothing".into(), |value| value.escape_ascii().to_string());
            let (key, lost, won) = (conflict.key.escape_ascii(), conflict.lost.origin, conflict.won.origin);
            let won_bytes = conflict.won_bytes.map_or("none".to_owned(), |bytes| bytes.to_string());
            listed.push(format!("{key}: {value} of {} to {won_bytes} bytes of {}", place(lost), place(won)));
            true
        });
        assert_eq!(listed, *expected, "node {node} after {rounds:?}");
    }
    cluster
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

#[test]
fn conflicts_are_told_as_json() {
    let rounds: &[&[(usize, &str)]] = &[&[(0, "SET j a"), (0, "SET k a"), (1, "SET k \"b\\x00\\\"\" PX 1500")]];
    let lost: &[&str] = &["k: b\\x00\\\" of 1 to 1 bytes of 0"];
    let mut cluster = check_kept(rounds, [lost, lost, &[]]);
    let [a, b, _] = [0, 1, 2].map(|node: usize| cluster.turns[node].node().origin());
    let told = |value: &str, ttl_ms: u64| {
        format!(
            "[{{\"key\":\"k\",\"lost\":{{\"value\":{value},\"value_bytes\":3,\"node\":\"bb\",\"origin\":\"{b}\",\
             \"hlc\":\"1700000002000.0\",\"time\":\"2023-11-14T22:13:22.000Z\",\"ttl_ms\":{ttl_ms}}},\
             \"won\":{{\"value_bytes\":1,\"node\":\"a\",\"origin\":\"{a}\",\"hlc\":\"1700000002000.1\",\
             \"time\":\"2023-11-14T22:13:22.000Z\"}}}}]"
        )
    };
    assert_eq!(cluster.ask(0, "CONFLICTS"), told(r#""b\\x00\\\"""#, 1_500));
    assert_eq!(cluster.ask(2, "CONFLICTS"), "[]");
    cluster.pass(1_500);
    assert_eq!(cluster.ask(1, "CONFLICTS 5"), told("null", 0));
    assert!(cluster.ask(0, "STATS").contains("\"conflicts\":1,\"conflicts_kept\":1"));
}

#[test]
fn as_many_are_told_as_are_asked_for() {
    let keys: Vec<String> = (0..20).map(|key| format!("SET k{key} v")).collect();
    let writes: Vec<(usize, &str)> =
        [0, 1].into_iter().flat_map(|node| keys.iter().map(move |key| (node, &**key))).collect();
    let mut cluster = Cluster::of_three();
    writes.iter().for_each(|(node, write)| cluster.hand_in(*node, format!("{write}\n").as_bytes()));
    cluster.settle();
    for (command, count) in [("CONFLICTS", 10), ("CONFLICTS 1", 1), ("CONFLICTS 15", 15), ("CONFLICTS 1024", 20)] {
        let told = cluster.ask(0, command);
        assert_eq!(told.matches("\"lost\":").count(), count, "{told}");
        assert!(told.starts_with("[{\"key\":\"k19\""), "{told}");
    }
}

#[test]
fn what_was_lost_is_listed_by_both_writers() {
    let lost: &[&str] = &["k: b-value of 1 to 1 bytes of 0"];
    // Whose clock has counted further wins within a millisecond.
    check_kept(&[&[(0, "SET j a"), (0, "SET k a"), (1, "SET k b-value")]], [lost, lost, &[]]);
    let lost: &[&str] = &["l: nothing of 1 to 4 bytes of 2"];
    check_kept(&[&[(0, "SET l a")], &[(1, "DEL l"), (2, "SET j c"), (2, "SET l last")]], [&[], lost, lost]);
    let lost: &[&str] = &["l: last of 2 to none bytes of 1"];
    check_kept(&[&[(0, "SET l a")], &[(2, "SET l last"), (1, "SET j c"), (1, "DEL l")]], [&[], lost, lost]);
    let lost: &[&str] = &["k: third of 1 to 1 bytes of 0", "l: x of 1 to 1 bytes of 0"];
    let writes = [(1, "SET l x"), (1, "SET k first"), (1, "SET k second"), (1, "SET k third")];
    let later = [(0, "SET 1 a"), (0, "SET 2 a"), (0, "SET 3 a"), (0, "SET 4 a"), (0, "SET l a"), (0, "SET k a")];
    // What the loser wrote over itself is not listed: at the winner the last takes the place of those before it.
    check_kept(&[&[writes.as_slice(), later.as_slice()].concat()], [lost, lost, &[]]);
    check_kept(&[&[(0, "SET k a")], &[(1, "SET k b")]], [&[], &[], &[]]);
}
