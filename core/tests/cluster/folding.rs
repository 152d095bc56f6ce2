//! What ended runs added to counters is folded, and adds up as before.

use kv_core::{Counter, Turn};

use crate::harness::Cluster;
use crate::retire::{PEERS, origins, pass};

/// The parts and folds of the counter `c` with each node.
fn cells(cluster: &Cluster) -> Vec<(usize, usize)> {
    let look = |turn: &Turn| {
        let record = turn.node().peek(b"c").expect("the counter is there");
        let counter = Counter::of(&record);
        (counter.parts.len(), counter.folds.len())
    };
    cluster.turns.iter().map(look).collect()
}

fn digests(cluster: &mut Cluster) -> Vec<String> {
    let digest = |stats: String| stats.split("\"digest\":\"").nth(1).map(|rest| rest[..32].to_owned());
    let digests: Vec<_> = (0..3).filter_map(|node| digest(cluster.ask(node, "STATS"))).collect();
    assert_eq!(digests.len(), 3);
    digests
}

#[test]
fn a_counter_does_not_grow_with_restarts() {
    let mut cluster = Cluster::of_three();
    for round in 0..50 {
        let node = round % 3;
        assert_eq!(cluster.ask(node, "INCRBY c 3"), format!("{}", 3 * (round + 1)));
        pass(&mut cluster, 600);
        cluster.restart(node, PEERS[node]);
        pass(&mut cluster, 6_000);
        for node in 0..3 {
            assert_eq!(cluster.ask(node, "GET c"), format!("{}", 3 * (round + 1)), "round {round}: {node}");
        }
        let all = digests(&mut cluster);
        assert!(all.iter().all(|digest| *digest == all[0]), "round {round}: {all:?}");
    }
    assert_eq!(cells(&cluster), [(0, 1); 3]);
    let why = cluster.ask(0, "WHY c");
    assert!(why.contains("\"state\":\"counter\"") && why.contains("\"held_by\":[\"bb\",\"ccc\"]"), "{why}");
    let stats = cluster.ask(0, "STATS");
    assert!(stats.contains("\"found\":0,\"repaired\":0"), "{stats}");
    // What is added from now on is added to that, and a reset leaves nothing of it.
    assert_eq!(cluster.ask(1, "INCR c"), "151");
    pass(&mut cluster, 600);
    assert_eq!((cluster.ask(2, "GET c"), cells(&cluster)), ("151".to_owned(), vec![(1, 1); 3]));
    assert_eq!(cluster.ask(2, "SET c 7"), "OK");
    pass(&mut cluster, 600);
    for node in 0..3 {
        assert_eq!(cluster.ask(node, "INCR c"), format!("{}", 8 + node));
        pass(&mut cluster, 600);
    }
    assert_eq!(cells(&cluster), [(3, 0); 3]);
}

/// Four, of which the first two and the last two will be told to forget each other.
const PAIRS: [(&str, &[&str]); 4] = [("a", &[]), ("bb", &["a:1"]), ("ccc", &["a:1"]), ("dddd", &["ccc:1"])];

fn of_two_pairs() -> Cluster {
    let mut cluster = Cluster::new(&PAIRS);
    pass(&mut cluster, 2_000);
    cluster
}

fn add(cluster: &mut Cluster, node: usize, key: &str, amount: i64) {
    let told = cluster.ask(node, &format!("INCRBY {key} {amount}"));
    assert!(told.parse::<i64>().is_ok(), "{told}");
    pass(cluster, 600);
}

fn part(cluster: &mut Cluster) {
    for (near, far) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        cluster.cut(near, far);
    }
    pass(cluster, 2_000);
}

/// Two sides that both know a run which has ended, and of which neither has retired it.
fn parted_after_a_restart() -> Cluster {
    let mut cluster = of_two_pairs();
    add(&mut cluster, 1, "c", 100);
    // Nobody can say that it ended: these two cannot reach each other.
    cluster.cut(0, 3);
    cluster.restart(1, PAIRS[1].1);
    pass(&mut cluster, 6_000);
    part(&mut cluster);
    cluster
}

fn forget(cluster: &mut Cluster, node: usize, names: &[&str]) {
    for name in names {
        assert_eq!(cluster.ask(node, &format!("FORGET {name}")), "OK");
    }
    pass(cluster, 9_000);
}

/// One of each pair meets one of the other: two of a side would each bring what only their side has.
fn meet(cluster: &mut Cluster) {
    cluster.heal();
    for (gone, other) in [(1, 0), (1, 2), (1, 3), (3, 0), (3, 2)] {
        cluster.cut(gone, other);
    }
    pass(cluster, 30_000);
}

/// Each side has folded common runs, and some of its own. Whoever comes back brings what only its side had, once.
#[test]
fn what_two_sides_folded_apart_adds_up_when_they_meet() {
    let mut cluster = of_two_pairs();
    // Known to all, and folded by all.
    for (node, (_, peers)) in PAIRS.iter().enumerate() {
        add(&mut cluster, node, "c", 1);
        cluster.restart(node, peers);
        pass(&mut cluster, 6_000);
    }
    assert_eq!(cells(&cluster), [(0, 1); 4]);
    // Of runs that go on, and end on one side only.
    for node in 0..4 {
        add(&mut cluster, node, "c", 1);
    }
    part(&mut cluster);
    forget(&mut cluster, 0, &["ccc", "dddd"]);
    forget(&mut cluster, 2, &["a", "bb"]);
    for (stays, restarts, peers) in [(0, 1, ["a:1", "ccc:1"]), (3, 2, ["dddd:1", "a:1"])] {
        add(&mut cluster, restarts, if restarts == 1 { "one" } else { "other" }, 1);
        for _ in 0..3 {
            add(&mut cluster, stays, "c", 1);
            add(&mut cluster, restarts, "c", 1);
            cluster.restart(restarts, &peers);
            pass(&mut cluster, 6_000);
        }
    }
    // What was begun before the two parted stays as it is.
    assert_eq!(cells(&cluster), [(4, 2); 4]);
    meet(&mut cluster);
    for node in [0, 2] {
        let counts = ["c", "one", "other"].map(|key| cluster.ask(node, &format!("GET {key}")));
        assert_eq!(counts, ["20", "1", "1"], "{node}: {:?}", cells(&cluster));
    }
}

/// A run that ended before the two sides parted, and is retired only then, by each for itself.
#[test]
fn what_was_known_to_both_sides_counts_once() {
    let mut cluster = parted_after_a_restart();
    forget(&mut cluster, 0, &["ccc", "dddd"]);
    forget(&mut cluster, 2, &["a", "bb"]);
    let retired: Vec<u32> = origins(&cluster).iter().map(|(_, retired)| *retired).collect();
    assert!(retired.iter().all(|retired| *retired > 0), "{retired:?}");
    meet(&mut cluster);
    assert_eq!([0, 2].map(|node| cluster.ask(node, "GET c")), ["100", "100"]);
}

/// The last entry of an era has come to one side only when the two part.
#[test]
fn an_era_of_which_one_side_has_more_counts_once() {
    for step in 1..60 {
        let mut cluster = of_two_pairs();
        for (node, (_, peers)) in PAIRS.iter().enumerate() {
            add(&mut cluster, node, "c", 10);
            cluster.restart(node, peers);
            pass(&mut cluster, 6_000);
        }
        add(&mut cluster, 1, "c", 1);
        cluster.restart(1, PAIRS[1].1);
        pass(&mut cluster, step * 100);
        cluster.passes = [(0, 2), (0, 3), (1, 2), (1, 3)].map(|(from, to)| (from, to, 0)).to_vec();
        pass(&mut cluster, 1_000);
        cluster.passes.clear();
        part(&mut cluster);
        let retired: Vec<u32> = origins(&cluster).iter().map(|(_, retired)| *retired).collect();
        if retired[0] == retired[2] {
            continue;
        }
        assert_eq!(retired, [5, 5, 4, 4], "{step}");
        // The fourth is away, so the third retires nothing.
        cluster.cut(2, 3);
        forget(&mut cluster, 0, &["ccc", "dddd"]);
        forget(&mut cluster, 2, &["a", "bb"]);
        meet(&mut cluster);
        assert_eq!([0, 2].map(|node| cluster.ask(node, "GET c")), ["41", "41"]);
        return;
    }
    panic!("no moment at which one side has more");
}

/// One side has folded a run of which the other has more.
#[test]
fn what_only_the_other_side_had_of_a_run_is_not_lost() {
    let mut cluster = of_two_pairs();
    add(&mut cluster, 3, "c", 100);
    part(&mut cluster);
    add(&mut cluster, 3, "c", 7);
    assert_eq!(cluster.ask(2, "GET c"), "107");
    // The third stays alone with what the fourth had added last.
    cluster.heal();
    for (one, other) in [(0, 2), (1, 2), (3, 2)] {
        cluster.cut(one, other);
    }
    cluster.restart(3, &["a:1"]);
    pass(&mut cluster, 6_000);
    assert_eq!(cluster.ask(3, "GET c"), "100");
    forget(&mut cluster, 0, &["ccc"]);
    forget(&mut cluster, 2, &["a", "bb", "dddd"]);
    meet(&mut cluster);
    assert_eq!([0, 2].map(|node| cluster.ask(node, "GET c")), ["107", "107"]);
}

/// What one side has deleted and forgotten the other has folded meanwhile.
#[test]
fn what_a_side_deleted_stays_deleted_when_it_comes_back() {
    let mut cluster = parted_after_a_restart();
    forget(&mut cluster, 2, &["a", "bb"]);
    forget(&mut cluster, 0, &["ccc", "dddd"]);
    assert_eq!(cluster.ask(2, "DEL c"), "OK");
    pass(&mut cluster, 9_000);
    assert!(cluster.turns[2].node().peek(b"c").is_none(), "collected");
    meet(&mut cluster);
    assert_eq!([0, 2].map(|node| cluster.ask(node, "GET c")), ["Key not found"; 2]);
}

/// A sweep brings a newcomer folds and is cut before it tells the end; then all who had the ledger lose their memory.
#[test]
fn folds_of_which_nobody_has_the_ledger_are_let_go() {
    for names_the_newcomer in [false, true] {
        let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["a:1"])]);
        cluster.cut(0, 2);
        cluster.cut(1, 2);
        pass(&mut cluster, 2_000);
        let pad = "x".repeat(1_000);
        for key in 0..300 {
            assert_eq!(cluster.ask(1, &format!("INCRBY c{key} 5")), "5");
            assert_eq!(cluster.ask(1, &format!("SET k{key} {pad}")), "OK");
        }
        pass(&mut cluster, 1_000);
        cluster.restart(1, &["a:1"]);
        pass(&mut cluster, 9_000);
        cluster.heal();
        cluster.cut(1, 2);
        cluster.passes = vec![(0, 2, 60_000)];
        pass(&mut cluster, 1_500);
        cluster.passes.clear();
        cluster.cut(0, 2);
        let folds = |cluster: &Cluster| {
            let record = |key| cluster.turns[2].node().peek(format!("c{key}").as_bytes());
            (0..300).filter_map(record).filter(|record| !Counter::of(record).folds.is_empty()).count()
        };
        assert!((1..300).contains(&folds(&cluster)) && origins(&cluster)[2].1 == 0);
        for (node, alone) in [(0, &[][..]), (1, &["a:1"][..])] {
            cluster.restart(node, if names_the_newcomer { &["ccc:1"] } else { alone });
        }
        cluster.heal();
        pass(&mut cluster, 40_000);
        assert_eq!(folds(&cluster), 0);
        let all = digests(&mut cluster);
        assert!(all.iter().all(|digest| *digest == all[0]), "{all:?}");
        for key in 0..300 {
            let sums = [0, 1, 2].map(|node| cluster.ask(node, &format!("GET c{key}")));
            assert!(sums == ["5"; 3] || sums == ["Key not found"; 3], "{key}: {sums:?}");
        }
    }
}
