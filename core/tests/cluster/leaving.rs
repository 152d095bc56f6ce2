//! Members that leave on purpose.

use crate::harness::Cluster;

fn live(cluster: &mut Cluster, seconds: u32) {
    for _ in 0..10 * seconds {
        cluster.pass(100);
        cluster.settle();
    }
}

#[test]
fn two_that_leave_at_once_do_not_leave_everything_to_each_other() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.hand_in(0, b"SET k v\nLEAVE\n");
    cluster.hand_in(1, b"SET other v\nLEAVE\n");
    live(&mut cluster, 10);
    let left = |cluster: &Cluster, node: usize| cluster.turns[node].node().has_left();
    assert!(!left(&cluster, 0) && !left(&cluster, 1), "nobody stays who has it");
    cluster.heal();
    live(&mut cluster, 10);
    assert!(left(&cluster, 0) && left(&cluster, 1));
    assert_eq!((cluster.ask(2, "GET k"), cluster.ask(2, "GET other")), ("v".to_owned(), "v".to_owned()));
}

#[test]
fn of_members_that_all_leave_at_once_the_first_stays_and_has_everything() {
    let mut cluster = Cluster::of_three();
    cluster.hand_in(0, b"SET k v\nLEAVE\n");
    cluster.hand_in(1, b"SET other v\nLEAVE\n");
    cluster.hand_in(2, b"SET third v\nLEAVE\n");
    live(&mut cluster, 10);
    let left = [0, 1, 2].map(|node: usize| cluster.turns[node].node().has_left());
    assert_eq!(left, [false, true, true]);
    let held = ["GET k", "GET other", "GET third"].map(|line| cluster.ask(0, line));
    assert_eq!(held, ["v", "v", "v"].map(str::to_owned));
    assert_eq!(cluster.ask(0, "SET k w"), "OK");
}

#[test]
fn steady_writes_of_others_do_not_keep_a_member_from_leaving() {
    let mut cluster = Cluster::of_three();
    cluster.hand_in(0, b"SET k v\nLEAVE\n");
    for at in 0..2_000 {
        cluster.pass(1);
        cluster.hand_in(1, format!("SET k{} v\n", at % 7).as_bytes());
        cluster.hand_in(2, format!("SET k{} v\n", at % 11).as_bytes());
        cluster.settle();
    }
    assert!(cluster.turns[0].node().has_left());
    assert_eq!(cluster.ask(2, "GET k"), "v");
}
