//! Plans written by hand, each named after the anomaly that it guards against.

use sim::{Ask, Item, Mark, Outcome, Plan, Stats, Watch, world};

/// Runs a plan given as text over the calm cluster of three nodes, with commands added; it must pass.
#[track_caller]
fn check(text: &str, asks: impl IntoIterator<Item = (u64, u64, Ask)>) -> Stats {
    check_all(text, asks).stats
}

/// The same, with all that came of it.
#[track_caller]
fn check_all(text: &str, asks: impl IntoIterator<Item = (u64, u64, Ask)>) -> Outcome {
    let mut plan: Plan = text.parse().expect("a plan");
    plan.items.extend(asks.into_iter().map(|(at_ms, client, ask)| (at_ms * 1_000, Item::Ask { client, ask })));
    let plan = plan.sorted();
    let outcome = world::run(&plan, Watch::Tail);
    if let Err(failure) = outcome.verdict {
        let events = outcome.tail.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
        let path = std::env::temp_dir().join(format!("failed-{:032x}.plan", outcome.trace_hash));
        std::fs::write(&path, plan.to_string()).expect("the plan is written");
        let path = path.display();
        panic!("{events}\n{failure}\n  replay: cargo run -p sim --release -- --plan {path} --trace");
    }
    assert_eq!(
        outcome.stats.answers,
        plan.items.iter().filter(|(_, item)| matches!(item, Item::Ask { .. })).count() as u64
    );
    outcome
}

/// `count` writes by `client`, one every `every_ms`, over `keys` keys.
fn sets(client: u64, from_ms: u64, every_ms: u64, count: u64, keys: u64, pad: u64) -> Vec<(u64, u64, Ask)> {
    (0..count)
        .map(|index| {
            let token = client * 10_000 + from_ms + index;
            (from_ms + index * every_ms, client, Ask::Set { key: index % keys, token, pad, ttl_ms: 0 })
        })
        .collect()
}

#[test]
fn a_delete_during_a_partition_is_not_undone() {
    let stats = check(
        "1000000 partition side=4 ms=3000\n1500000 del client=0 key=0\n\
         1600000 get client=2 key=0\n4800000 get client=2 key=0",
        sets(2, 100, 100, 4, 4, 8),
    );
    assert_eq!(stats.lost, 0);
}

#[test]
fn a_ring_that_wrapped_while_the_peer_was_cut_off_is_made_good_by_a_sweep() {
    check("ring_bytes 256\n500000 partition side=4 ms=3500", sets(0, 100, 20, 200, 4, 20));
}

#[test]
fn a_sweep_cut_in_the_middle_goes_on() {
    let resets = (0..30).map(|index| {
        format!("{} reset from=2 to=0\n{} reset from=2 to=1\n", 2_600_000 + index * 60_000, 2_610_000 + index * 60_000)
    });
    let text = format!(
        "ring_bytes 512\nkeys 60\nbandwidth_bytes_per_s 40000\nwindow_bytes 1024\nredial_ms_min 10\nredial_ms_max 50\n\
         200000 partition side=4 ms=2400\n{}",
        resets.collect::<String>()
    );
    check(&text, sets(0, 300, 10, 120, 60, 400));
}

#[test]
fn a_dead_runs_records_on_different_holders_reach_everybody() {
    let stats = check(
        "survivors 6\n500000 cut from=0 to=2 ms=60\n\
         600000 cut from=0 to=1 ms=4000\n505000 set client=0 key=0 token=1 pad=0 ttl_ms=0\n\
         620000 set client=0 key=1 token=2 pad=0 ttl_ms=0\n630000 kill node=0 ms=60000 silent=1 alone=0",
        [],
    );
    assert_eq!(stats.runs, 3);
}

#[test]
fn what_a_dead_node_wrote_is_relayed_and_needs_no_sweep() {
    // All of it is in the ring of the one that heard it: to walk a whole store for that would cost clients dear.
    let text = "survivors 3\n1000000 cut from=2 to=1 ms=4000\n1000000 cut from=1 to=2 ms=4000\n\
                2000000 kill node=2 ms=60000 silent=1 alone=0";
    let outcome = check_all(text, sets(2, 1_200, 20, 20, 4, 20));
    assert_eq!(outcome.stats.lost, 0);
    let (relayed, sweeps) = (outcome.marks.of(Mark::Relayed), outcome.marks.of(Mark::SweepEnded));
    assert!(relayed > 0 && sweeps == 0, "{relayed} turns with relayed records, {sweeps} sweeps");
}

#[test]
fn what_two_members_took_with_them_holds_up_no_collection() {
    // One of them has stated that it has what nobody else has; what is deleted after both are back waits for no word
    // of that run.
    let stats = check(
        "heartbeat_ms 100\nsilence_ms 500\nredial_ms_max 100\nrelay_ms 2000\ncollect_ms 200\n\
         560000 del client=0 key=2\n900000 cut from=2 to=0 ms=420\n\
         1000000 set client=2 key=0 token=9 pad=0 ttl_ms=0\n1200000 kill node=1 ms=200 silent=1 alone=0\n\
         1200000 kill node=2 ms=1500 silent=1 alone=0\n3000000 del client=0 key=1",
        sets(0, 500, 10, 4, 4, 0),
    );
    assert_eq!(stats.lost, 1);
}

#[test]
fn what_a_member_adds_after_it_was_forgotten_counts_once() {
    let add = |(at_ms, client, amount)| (at_ms, client, Ask::Add { counter: 0, amount });
    let before = (0..5).flat_map(|at| [(500 + 10 * at, 2, 7), (500 + 10 * at, 0, 100)]);
    let after = (0..5).map(|at| (6_000 + 10 * at, 2, 1));
    let stats = check(
        "counters 1\nload_ms 12000\nheartbeat_ms 100\nsilence_ms 500\nredial_ms_max 100\nrelay_ms 200\n\
         orphan_ms 300\ncollect_ms 200\n1000000 partition side=4 ms=9000\n2500000 forget client=0 node=2",
        before.chain(after).map(add),
    );
    assert_eq!((stats.added, stats.retired), (15, 1));
}

#[test]
fn what_a_fresh_run_wrote_below_a_forgotten_delete_is_written_anew() {
    // The delete is forgotten by one, remembered by another, which is stopped and cut off meanwhile, and no ring has it
    // any more; a run that begins with a clock that is behind writes the key before it meets anybody.
    let stats = check(
        "heartbeat_ms 100\nsilence_ms 500\nredial_ms_min 10\nredial_ms_max 50\ndial_retry_ms 20\nrelay_ms 300\n\
         orphan_ms 300\ncollect_ms 500\nring_bytes 512\n400000 del client=0 key=0\n1200000 del client=0 key=1\n\
         1300000 clock node=2 step_ms=-1400 drift_ppm=0\n1320000 partition side=2 ms=350\n\
         1450000 pause node=1 ms=500\n1550000 cut from=0 to=2 ms=150\n1550000 cut from=2 to=0 ms=150\n\
         1560000 kill node=2 ms=1 silent=0 alone=0\n1600000 set client=2 key=1 token=9 pad=0 ttl_ms=0\n\
         1670000 cut from=0 to=1 ms=1500\n1670000 cut from=1 to=0 ms=1500",
        [sets(0, 300, 10, 4, 4, 0), sets(0, 1_250, 1, 20, 1, 30)].concat(),
    );
    assert_eq!((stats.lost, stats.refusals), (0, 0));
}

#[test]
fn a_run_whose_successor_is_down_is_fenced_all_the_same() {
    // It has written nothing yet, so no ledger tells that it is over.
    let stats = check(
        "heartbeat_ms 100\nsilence_ms 500\nredial_ms_min 10\nredial_ms_max 50\n\
         500000 get client=2 key=0\n1000000 supersede node=2 ms=3000\n\
         3900000 kill node=2 ms=60000 silent=0 alone=0\n4500000 set client=2 key=1 token=9 pad=0 ttl_ms=0",
        sets(0, 100, 10, 4, 4, 0),
    );
    assert_eq!(stats.refusals, 1, "others know that another run has taken its place");
}

#[test]
fn a_joiner_on_a_flapping_link_gets_there() {
    let flaps = (0..40).map(|index| format!("{} partition side=4 ms=60\n", 1_100_000 + index * 90_000));
    let text = format!(
        "ring_bytes 512\nkeys 60\nbandwidth_bytes_per_s 100000\nredial_ms_min 10\nredial_ms_max 50\n\
         1000000 kill node=2 ms=50 silent=0 alone=0\n{}",
        flaps.collect::<String>()
    );
    check(&text, sets(0, 100, 10, 80, 60, 300));
}

#[test]
fn a_clock_two_minutes_ahead_infects_nobody() {
    let asks = [sets(0, 500, 100, 20, 4, 0), sets(2, 1_500, 100, 20, 4, 0)].concat();
    let stats = check("1000000 clock node=2 step_ms=120000 drift_ppm=0", asks);
    assert!(stats.refusals > 0, "who is ahead of everybody refuses writes");
}

#[test]
fn a_peer_whose_words_come_late_is_not_taken_for_one_whose_clock_is_behind() {
    let stats = check(
        "nodes 2\nclients 1\nload_ms 5000\nheartbeat_ms 100\nsilence_ms 1800\nclock_ahead_ms_max 500\n\
         latency_us_min 1000\nlatency_us_mean 0\n1000000 slow from=1 to=0 ms=3000 factor=1000",
        sets(0, 100, 100, 40, 4, 8),
    );
    assert_eq!(stats.refusals, 0);
}

#[test]
fn a_thawed_old_run_does_not_speak_for_its_member() {
    let asks = [sets(0, 100, 50, 60, 4, 0), sets(1, 120, 50, 60, 4, 0)].concat();
    let stats = check("1500000 supersede node=2 ms=1500", asks);
    assert_eq!(stats.runs, 4);
}

#[test]
fn a_node_restarted_without_peers_is_found_again() {
    check("1000000 kill node=0 ms=500 silent=0 alone=1", sets(1, 100, 50, 60, 4, 0));
}

#[test]
fn three_fresh_nodes_that_name_each_other_found_a_cluster() {
    let asks = [sets(0, 0, 1, 30, 2, 0), sets(1, 0, 1, 30, 2, 0), sets(2, 0, 1, 30, 2, 0)].concat();
    check("keys 2\nskew_ms 20\n1 partition side=1 ms=1200\n2 partition side=2 ms=2500", asks);
}

#[test]
fn a_one_way_cut_is_got_round_through_a_third() {
    check("500000 cut from=0 to=2 ms=4400\n4700000 get client=2 key=0", sets(0, 600, 50, 40, 4, 0));
}

#[test]
fn every_node_killed_at_once_starts_over() {
    let stats = check(
        "2000000 kill node=0 ms=300 silent=0 alone=0\n2000001 kill node=1 ms=200 silent=0 alone=0\n\
         2000002 kill node=2 ms=100 silent=1 alone=0",
        [sets(0, 100, 50, 20, 4, 0), sets(1, 3_000, 50, 20, 4, 0)].concat(),
    );
    assert_eq!(stats.lost, 4);
}

#[test]
fn who_waits_through_a_partition_is_told_the_truth() {
    check(
        "1000000 partition side=1 ms=2000\n1100000 set client=0 key=0 token=1 pad=0 ttl_ms=0\n\
         1100100 wait client=0 copies=1 ms=300\n1100200 wait client=0 copies=2 ms=0\n1100300 get client=0 key=0",
        [],
    );
}

#[test]
fn who_waits_for_a_token_from_beyond_a_partition_reads_what_it_names() {
    check(
        "1000000 partition side=1 ms=2000\n1100000 set client=0 key=0 token=1 pad=0 ttl_ms=0\n\
         1100100 token client=0\n1200000 waitfor client=2 from=0 ms=300\n1200100 waitfor client=2 from=0 ms=0\n\
         1200200 get client=2 key=0",
        sets(0, 100, 10, 20, 4, 8),
    );
}

#[test]
fn an_expired_key_is_expired_everywhere() {
    let text: String = (0..3)
        .map(|client| {
            format!(
                "{0} get client={client} key=0\n{1} get client={client} key=0\n",
                600_000 + client,
                1_400_000 + client
            )
        })
        .collect();
    check(&text, [(300, 0, Ask::Set { key: 0, token: 9, pad: 3, ttl_ms: 1_000 })]);
}

#[test]
fn what_memories_lost_comes_back_from_others() {
    let text: String = (0..8)
        .map(|at| format!("{} rot node={} key={}\n", 2_000_000 + at * 100_000, at / 4, at % 4))
        .chain((0..3).map(|client| format!("4900000 get client={client} key=1\n")))
        .collect();
    let stats = check(&text, sets(0, 100, 100, 12, 4, 20));
    assert_eq!((stats.rotted, stats.repaired, stats.lost), (8, 8, 0));
}

#[test]
fn what_a_memory_lost_under_steady_writes_comes_back() {
    let asks = [sets(1, 100, 5, 900, 3, 20), sets(2, 103, 7, 600, 3, 20)].concat();
    let stats = check("keys 40\n90000 set client=0 key=39 token=1 pad=9 ttl_ms=0\n1000000 rot node=1 key=39", asks);
    assert_eq!((stats.rotted, stats.repaired), (1, 1));
}

#[test]
fn a_delete_that_a_memory_lost_while_a_node_was_away_does_not_undo_itself() {
    let stats = check(
        "500000 partition side=4 ms=3000\n1000000 del client=0 key=0\n1500000 rot node=1 key=0\n\
         4000000 set client=0 key=1 token=7 pad=0 ttl_ms=0\n4900000 get client=1 key=0\n4900000 get client=2 key=0",
        sets(2, 100, 50, 4, 4, 8),
    );
    assert_eq!((stats.rotted, stats.lost), (1, 0));
}

#[test]
fn what_is_deleted_while_scrub_looks_at_it_stays_deleted() {
    // Deletes are collected while entries elsewhere are lost and put back, with clocks apart and a node that flaps.
    let rots: String =
        (0..40).map(|at| format!("{} rot node={} key={}\n", 300_000 + at * 110_000, at % 3, at % 8)).collect();
    let flaps: String = (0..10).map(|at| format!("{} reset from=0 to=1\n", 400_000 + at * 400_000)).collect();
    let dels = (0..60).map(|at| (250 + at * 75, at % 3, Ask::Del { key: (at * 5) % 8 }));
    let asks: Vec<_> = sets(0, 100, 20, 230, 8, 8).into_iter().chain(sets(1, 111, 45, 100, 8, 8)).chain(dels).collect();
    let stats = check(&format!("keys 8\ncollect_ms 50\nheartbeat_ms 50\nskew_ms 20\n{rots}{flaps}"), asks);
    assert!(stats.collected > 20 && stats.rotted > 20, "{stats}");
}
