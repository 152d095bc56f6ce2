//! Runs that ended leave the frontier, and what they wrote stays.

use kv_core::OriginId;

use crate::harness::Cluster;

/// What each of three names at its start.
pub(crate) const PEERS: [&[&str]; 3] = [&[], &["a:1"], &["a:1"]];

/// Lets time pass in steps in which everybody speaks.
pub(crate) fn pass(cluster: &mut Cluster, ms: u64) {
    for _ in 0..ms / 100 {
        cluster.pass(100);
        cluster.settle();
    }
}

/// By node: the origins that it keeps accounts of, and how many it has retired.
pub(crate) fn origins(cluster: &Cluster) -> Vec<(Vec<OriginId>, u32)> {
    let look = |turn: &kv_core::Turn| {
        let mut accounts = Vec::new();
        turn.node().accounts(&mut |origin, _, _| accounts.push(origin));
        (accounts, turn.node().retired_mark().0)
    };
    cluster.turns.iter().map(look).collect()
}

/// Restarts `rounds` times, each time one of three that has written something, and looks whether that run is retired.
fn check(rounds: u32) -> Cluster {
    let mut cluster = Cluster::of_three();
    for round in 0..rounds {
        let node = round as usize % 3;
        assert_eq!(cluster.ask(node, &format!("SET k{round} {round}")), "OK");
        pass(&mut cluster, 600);
        cluster.restart(node, PEERS[node]);
        // To be dialed again, swept and heard of.
        pass(&mut cluster, 6_000);
        let mut current: Vec<OriginId> = cluster.turns.iter().map(|turn| turn.node().origin()).collect();
        current.sort_unstable();
        for (node, (accounts, retired)) in origins(&cluster).into_iter().enumerate() {
            assert!(
                accounts.iter().all(|account| current.contains(account)),
                "round {round}: {node} has {accounts:x?}"
            );
            assert_eq!(retired, round + 1, "round {round}: {node}");
        }
    }
    cluster
}

#[test]
fn frontiers_do_not_grow_with_restarts() {
    let mut cluster = check(50);
    for node in 0..3 {
        for round in 0..50 {
            assert_eq!(cluster.ask(node, &format!("GET k{round}")), format!("{round}"));
        }
        let stats = cluster.ask(node, "STATS");
        assert!(stats.contains("\"retired\":50,"), "{stats}");
    }
    // A few heartbeats of all: the same as those of a cluster that never restarted, but for the names.
    let before = cluster.sent_bytes;
    pass(&mut cluster, 5_000);
    let mut fresh = Cluster::of_three();
    for node in 0..3 {
        assert_eq!(fresh.ask(node, "SET k v"), "OK");
    }
    pass(&mut fresh, 6_000);
    let fresh_before = fresh.sent_bytes;
    pass(&mut fresh, 5_000);
    let (sent, fresh_sent) = (cluster.sent_bytes - before, fresh.sent_bytes - fresh_before);
    assert!(sent <= fresh_sent + fresh_sent / 10, "{sent} bytes, {fresh_sent} of a fresh one");
}

#[test]
fn what_a_retired_run_wrote_is_told_and_waited_for_as_before() {
    let mut cluster = Cluster::of_three();
    assert_eq!(cluster.ask(1, "SET k old"), "OK");
    let token = cluster.ask(1, "TOKEN");
    let of_more = format!("{}ffffffffffffffff", &token[..token.len() - 16]);
    pass(&mut cluster, 600);
    cluster.restart(1, PEERS[1]);
    pass(&mut cluster, 6_000);
    assert!(origins(&cluster).iter().all(|(_, retired)| *retired == 1));
    for node in 0..3 {
        assert_eq!(cluster.ask(node, &format!("WAITFOR {token} 1")), "OK");
        let why = cluster.ask(node, "WHY k");
        assert!(why.contains("\"node\":\"bb\"") && why.contains("\"not_yet\":[]"), "{why}");
    }
    assert_eq!(cluster.ask(2, &format!("WAITFOR {of_more} 1")), "");
    // Deletes are forgotten as ever, also those of what a retired run wrote.
    assert_eq!(cluster.ask(0, "DEL k"), "OK");
    pass(&mut cluster, 6_000);
    let stats = cluster.ask(0, "STATS");
    assert!(stats.contains("\"tombstones\":0") && stats.contains("\"collected\":1"), "{stats}");
}

#[test]
fn one_that_is_away_keeps_runs_from_being_retired_and_catches_up_later() {
    let mut cluster = Cluster::of_three();
    for node in 0..3 {
        assert_eq!(cluster.ask(node, &format!("SET k{node} old")), "OK");
    }
    pass(&mut cluster, 600);
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.restart(1, PEERS[1]);
    pass(&mut cluster, 6_000);
    assert_eq!(cluster.ask(1, "SET k1 new"), "OK");
    pass(&mut cluster, 2_000);
    assert!(origins(&cluster).iter().all(|(_, retired)| *retired == 0));
    cluster.heal();
    pass(&mut cluster, 9_000);
    for (accounts, retired) in origins(&cluster) {
        assert_eq!((accounts.len(), retired), (3, 1));
    }
    assert_eq!(cluster.ask(2, "GET k1"), "new");
}

#[test]
fn who_may_still_hear_of_a_run_that_ended_is_named_while_deletes_wait_for_that() {
    let mut cluster = Cluster::of_three();
    assert_eq!(cluster.ask(1, "SET k old"), "OK");
    pass(&mut cluster, 600);
    // The first is linked with both; they cannot tell whether somebody still brings the other what that run wrote.
    cluster.cut(1, 2);
    cluster.restart(1, PEERS[1]);
    pass(&mut cluster, 6_000);
    assert_eq!(cluster.ask(0, "DEL k"), "OK");
    pass(&mut cluster, 6_000);
    let stats = cluster.ask(0, "STATS");
    let blocker =
        |name| format!("{{\"node\":\"{name}\",\"why\":\"may still hear of a run that ended\",\"release\":null}}");
    let blockers = format!("\"gc_blocked_by\":[{},{}]", blocker("bb"), blocker("ccc"));
    assert!(stats.contains("\"tombstones\":1") && stats.contains(&blockers), "{stats}");
    cluster.heal();
    pass(&mut cluster, 9_000);
    let stats = cluster.ask(0, "STATS");
    assert!(stats.contains("\"tombstones\":0") && stats.contains("\"gc_blocked_by\":[]"), "{stats}");
}

#[test]
fn a_member_that_comes_later_takes_the_ledger_with_its_sweep() {
    let mut cluster = check(4);
    // All that it is sent was written by runs that are retired, and by nobody who streams.
    cluster.restart(2, PEERS[2]);
    pass(&mut cluster, 6_000);
    for round in 0..4 {
        assert_eq!(cluster.ask(2, &format!("GET k{round}")), format!("{round}"));
    }
    let (accounts, retired) = &origins(&cluster)[2];
    assert!(accounts.len() <= 1 && *retired == 4, "{accounts:x?} {retired}");
}
