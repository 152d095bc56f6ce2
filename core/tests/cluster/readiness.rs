//! Whether clients are to be sent to a node: while it catches up, while its clock is wrong, and while it is stopped.

use crate::harness::Cluster;

/// How long peers are waited for that do not come: three times the silence that ends a link.
const GRACE_MS: u64 = 3 * 1_800;

const KEYS: usize = 2_000;

const NONE: [&str; 0] = [];

impl Cluster {
    /// Lets so many milliseconds pass, in steps of 100.
    fn live(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.pass(100);
            self.settle();
        }
    }

    /// How many keys `node` holds.
    fn entries(&self, node: usize) -> usize {
        let mut count = 0;
        self.turns[node].node().entries(&mut |_| count += 1);
        count
    }

    /// Has `node` hold many keys, more than one turn hands to a peer.
    fn fill(&mut self, node: usize) {
        for at in 0..KEYS {
            self.hand_in(node, format!("SET key:{at} {}\n", "v".repeat(500)).as_bytes());
        }
        self.settle();
    }
}

#[test]
fn a_node_that_knows_of_nobody_is_ready_at_once() {
    let mut cluster = Cluster::new(&[("a", &[])]);
    cluster.settle();
    assert_eq!(cluster.not_ready(0), NONE);
}

#[test]
fn who_begins_is_ready_once_it_has_what_the_others_held() {
    let mut cluster = Cluster::of_three();
    cluster.fill(0);
    cluster.restart(2, &["a:1"]);
    let mut steps = 0;
    while cluster.not_ready(2) != NONE {
        assert!(cluster.not_ready(2).iter().all(|why| ["joining", "catching-up"].contains(why)));
        cluster.pass(1);
        (0..3).for_each(|node| cluster.turn(node));
        steps += 1;
        assert!(steps < 10_000, "{:?}", cluster.not_ready(2));
    }
    // It was not the whole of it in one turn.
    assert!(steps > 10, "{steps}");
    assert_eq!(cluster.entries(2), KEYS);
    let stats = cluster.ask(2, "STATS");
    assert!(stats.contains("\"not_ready\":[],"), "{stats}");
}

#[test]
fn the_first_who_comes_to_a_node_that_was_alone_waits_for_what_that_holds() {
    // It states nothing of it before it has founded a cluster with somebody.
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    cluster.fill(0);
    cluster.restart(1, &["a:1"]);
    for _ in 0..10_000 {
        if cluster.not_ready(1) == NONE {
            assert_eq!(cluster.entries(1), KEYS);
            return;
        }
        cluster.pass(1);
        (0..2).for_each(|node| cluster.turn(node));
    }
    panic!("{:?}", cluster.not_ready(1));
}

#[test]
fn what_is_written_meanwhile_keeps_nobody_from_being_ready() {
    let mut cluster = Cluster::of_three();
    cluster.restart(2, &["a:1"]);
    for at in 0..5_000 {
        cluster.hand_in(0, format!("SET k{at} v\n").as_bytes());
        cluster.hand_in(1, format!("SET l{at} v\n").as_bytes());
        cluster.pass(1);
        (0..3).for_each(|node| cluster.turn(node));
        if cluster.not_ready(2) == NONE {
            return;
        }
    }
    panic!("{:?}", cluster.not_ready(2));
}

#[test]
fn either_of_two_serves_when_the_other_is_lost() {
    for names in [&["bb:1"][..], &["bb:1", "gone:1"]] {
        let mut cluster = Cluster::new(&[("a", names), ("bb", &["a:1"]), ("gone", &[])]);
        cluster.cut(0, 1);
        cluster.cut(0, 2);
        cluster.settle();
        assert_eq!(cluster.not_ready(0), ["joining", "catching-up"]);
        cluster.live(GRACE_MS - 100);
        assert_eq!(cluster.not_ready(0), ["joining", "catching-up"]);
        cluster.live(100);
        assert_eq!(cluster.not_ready(0), NONE);
        assert_eq!(cluster.ask(0, "SET k v"), "OK");
        // Whoever comes later changes nothing: both may have written meanwhile, and somebody has to serve.
        assert_eq!(cluster.ask(1, "SET k w"), "OK");
        cluster.heal();
        for _ in 0..100 {
            cluster.live(100);
            assert!(!cluster.not_ready(0).contains(&"catching-up"));
        }
        assert_eq!([0, 1].map(|node| cluster.not_ready(node)), [NONE, NONE]);
    }
}

#[test]
fn links_that_stand_one_way_only_are_waited_for_too() {
    // Nobody would hear of what the newcomer takes.
    let mut cluster = Cluster::of_three();
    cluster.restart(2, &["a:1"]);
    let mut was_behind = false;
    for _ in 0..100 {
        cluster.pass(10);
        cluster.settle();
        let peers = cluster.ask(0, "PEERS");
        let is_heard = peers.lines().any(|line| line.contains("name=ccc") && line.contains(" up "));
        if !is_heard {
            assert_eq!(cluster.not_ready(2), ["catching-up"], "{peers}");
            was_behind = true;
        }
    }
    assert!(was_behind, "it was heard at once");
    cluster.live(3_000);
    assert_eq!(cluster.not_ready(2), NONE);
}

#[test]
fn a_link_that_is_lost_before_all_has_come_is_waited_for_again() {
    let mut cluster = Cluster::of_three();
    cluster.fill(0);
    cluster.restart(2, &["a:1"]);
    while cluster.entries(2) == 0 {
        cluster.pass(1);
        (0..3).for_each(|node| cluster.turn(node));
    }
    assert_eq!(cluster.not_ready(2).last(), Some(&"catching-up"));
    // Long after the start.
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.live(GRACE_MS - 100);
    assert_eq!(cluster.not_ready(2).last(), Some(&"catching-up"));
    cluster.live(200);
    assert_eq!(cluster.not_ready(2), NONE);
}

#[test]
fn who_was_ready_and_is_cut_off_stays_ready() {
    let mut cluster = Cluster::of_three();
    cluster.live(GRACE_MS);
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.fill(0);
    cluster.live(10_000);
    assert_eq!([0, 1, 2].map(|node| cluster.not_ready(node)), [NONE; 3]);
    cluster.heal();
    for _ in 0..1_000 {
        cluster.pass(10);
        (0..3).for_each(|node| cluster.turn(node));
        assert_eq!([0, 1, 2].map(|node| cluster.not_ready(node)), [NONE; 3]);
    }
}

#[test]
fn a_clock_that_most_say_is_wrong_makes_its_node_unready_and_no_other() {
    const PAST_MS: i64 = 60_001;
    let mut cluster = Cluster::of_three();
    cluster.live(GRACE_MS);
    for (skews, expected) in [
        ([0, 0, 60_000], [&NONE[..], &NONE, &NONE]),
        ([0, 0, PAST_MS], [&NONE, &NONE, &["clock"]]),
        ([0, 0, -60_000], [&NONE, &NONE, &NONE]),
        ([0, 0, -PAST_MS], [&NONE, &NONE, &["clock"]]),
        ([0, 0, 0], [&NONE, &NONE, &NONE]),
    ] {
        (0..3).for_each(|node| cluster.skew(node, skews[node]));
        cluster.live(3_000);
        let found = [0, 1, 2].map(|node| cluster.not_ready(node));
        assert_eq!(found.each_ref().map(|words| &words[..]), expected, "{skews:?}");
    }
    // Of two, one is to serve: the one that takes writes.
    let mut two = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    two.live(GRACE_MS);
    two.skew(1, PAST_MS);
    two.live(3_000);
    assert_eq!([two.not_ready(0), two.not_ready(1)], [vec![], vec!["clock"]]);
}

#[test]
fn who_is_drained_is_not_ready_and_knows_when_its_peers_have_everything() {
    let mut cluster = Cluster::of_three();
    cluster.live(GRACE_MS);
    assert!(cluster.turns[0].node().is_flushed(), "nothing was written");
    cluster.hand_in(0, b"SET k v\n");
    cluster.turns[0].drain();
    assert_eq!(cluster.not_ready(0), ["draining"]);
    // Its heartbeats are half a second apart, and nothing waits for one.
    for _ in 0..10 {
        cluster.turn(0);
        cluster.turn(1);
    }
    let node = cluster.turns[0].node();
    assert_eq!((node.is_flushed(), node.unacknowledged()), (false, vec!["ccc"]));
    cluster.settle();
    let node = cluster.turns[0].node();
    assert!(node.is_flushed() && node.unacknowledged().is_empty());
    assert_eq!(cluster.ask(2, "GET k"), "v");
    // Who is away is waited for by nobody, and named.
    cluster.cut(0, 1);
    cluster.hand_in(0, b"SET k w\n");
    cluster.settle();
    let node = cluster.turns[0].node();
    assert_eq!((node.is_flushed(), node.unacknowledged()), (true, vec!["bb"]));
}
