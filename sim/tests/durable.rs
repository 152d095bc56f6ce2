//! Plans written by hand about disks, each named after what must not happen.

use sim::{Ask, Fault, Item, Mark, Outcome, Plan, Watch, world};

/// Runs a plan given as text over the calm cluster of three nodes with disks, with items added; it must pass.
#[track_caller]
fn check(text: &str, items: impl IntoIterator<Item = (u64, Item)>) -> Outcome {
    let mut plan: Plan = text.parse().expect("a plan");
    plan.items.extend(items.into_iter().map(|(at_ms, item)| (at_ms * 1_000, item)));
    let outcome = world::run(&plan.clone().sorted(), Watch::Tail);
    if let Err(failure) = outcome.verdict {
        let events = outcome.tail.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!("{events}\n{failure}\n{}", plan.sorted());
    }
    outcome
}

/// `count` writes by each client, one every `every_ms`, to keys of its own.
fn sets(from_ms: u64, every_ms: u64, count: u64) -> impl Iterator<Item = (u64, Item)> {
    (0..3 * count).map(move |index| {
        let (client, token) = (index % 3, index + 1);
        let ask = Ask::Set { key: 3 * (index % 4) + client, token, pad: 40, ttl_ms: 0 };
        (from_ms + index / 3 * every_ms, Item::Ask { client, ask })
    })
}

/// All machines lose their power at once.
fn outage(at_ms: u64, ms: u64) -> impl Iterator<Item = (u64, Item)> {
    (0..3).map(move |node| (at_ms, Item::Fault(Fault::Crash { node, ms })))
}

#[test]
fn an_outage_takes_back_nothing_that_was_acknowledged() {
    for seed in 0..20 {
        let text = format!("seed {seed}\nkeys 12\ncounters 1\ndurable 1\nload_ms 4000");
        let add = |at_ms| (at_ms, Item::Ask { client: 1, ask: Ask::Add { counter: 0, amount: 7 } });
        let outcome = check(&text, sets(200, 40, 60).chain([500, 900, 1_500].map(add)).chain(outage(2_003, 300)));
        assert_eq!(outcome.stats.lost, 0, "seed {seed}");
        assert_eq!(outcome.data.len(), 12, "seed {seed}");
    }
}

#[test]
fn what_one_disk_had_not_synced_the_others_have() {
    for seed in 0..20 {
        let text = format!("seed {seed}\nkeys 12\ndurable 2\nload_ms 4000\n2003000 crash node=1 ms=300");
        let outcome = check(&text, sets(200, 40, 60));
        assert_eq!(outcome.stats.lost, 0, "seed {seed}");
    }
}

#[test]
fn under_everysec_an_outage_takes_back_no_more_than_a_second() {
    for seed in 0..20 {
        let text = format!("seed {seed}\nkeys 12\ndurable 2\nload_ms 6000");
        let outcome = check(&text, sets(200, 40, 12).chain(sets(2_900, 40, 5)).chain(outage(3_103, 300)));
        assert_eq!(outcome.data.len(), 12, "seed {seed}: what was written two seconds before is there");
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    for fsync in 1..=3 {
        let text = format!("keys 12\ndurable {fsync}\nload_ms 4000\nsync_us_mean 100");
        let kills = (0..3).map(|node| (2_500, Item::Fault(Fault::Kill { node, ms: 300, silent: false, alone: false })));
        let outcome = check(&text, sets(200, 40, 50).chain(kills));
        assert_eq!((outcome.stats.lost, outcome.data.len()), (0, 12), "fsync {fsync}");
    }
}

#[test]
fn a_run_ends_anywhere_in_a_snapshot() {
    let (mut loaded, mut stopped) = (0, 0);
    for seed in 0..20 {
        let text = format!(
            "seed {seed}\nkeys 12\ndurable 1\nload_ms 8000\nsegment_bytes 1500\nsnapshot_ratio_percent 10\n\
             load_us 300\nsync_us_mean 5000"
        );
        let crashes = (0..12).map(|round| {
            let (node, ms) = (round % 3, 100 + 10 * round);
            let at_ms = 1_000 + 500 * round + 7 * seed;
            let fault = match round % 4 {
                0 => Fault::Kill { node, ms, silent: false, alone: false },
                _ => Fault::Crash { node, ms },
            };
            (at_ms, Item::Fault(fault))
        });
        let outcome = check(&text, sets(200, 20, 300).chain(crashes));
        assert_eq!(outcome.stats.lost, 0, "seed {seed}");
        loaded += outcome.marks.of(Mark::SnapshotLoaded);
        stopped += outcome.marks.of(Mark::StoppedInSnapshot);
    }
    assert!(loaded > 50 && stopped > 0, "{loaded} snapshots were read, {stopped} runs ended in one");
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    for seed in 0..10 {
        let text = format!("seed {seed}\nkeys 12\ndurable 1\nload_ms 9000\n1000000 disk_full node=0 ms=2000");
        let outcome = check(&text, sets(200, 40, 60).chain(sets(6_000, 40, 10)).chain(outage(8_003, 300)));
        assert!(outcome.stats.refusals > 10, "seed {seed}: {}", outcome.stats);
        assert_eq!((outcome.stats.lost, outcome.data.len()), (0, 12), "seed {seed}");
    }
}

#[test]
fn nothing_is_counted_on_that_a_failed_sync_gave_up() {
    for seed in 0..20 {
        for fsync in 1..=3 {
            let text = format!(
                "seed {seed}\nkeys 12\ndurable {fsync}\nload_ms 9000\n1000000 disk_fail node=0 kind=1 ms=900\n\
                 1300000 disk_fail node=1 kind=1 ms=100\n2500000 disk_fail node=2 kind=0 ms=300"
            );
            let outcome = check(&text, sets(200, 40, 100).chain(outage(6_003, 300)));
            assert!(fsync == 3 || outcome.marks.of(Mark::DiskFailed) > 0, "seed {seed}, fsync {fsync}");
        }
    }
}

#[test]
fn a_turned_bit_is_noticed_and_made_good_by_the_others() {
    let mut found = 0;
    for seed in 0..40 {
        let flips = (0..5).map(|bit| (2_000, Item::Fault(Fault::Flip { node: 1, bit: bit * 31 + seed })));
        let text = format!("seed {seed}\nkeys 12\ndurable 1\nload_ms 5000\n2100000 crash node=1 ms=300");
        let outcome = check(&text, sets(200, 40, 40).chain(flips));
        assert_eq!((outcome.stats.lost, outcome.data.len()), (0, 12), "seed {seed}");
        found += outcome.marks.of(Mark::DamageFound);
    }
    assert!(found > 30, "{found} of 40");
}

#[test]
fn what_cannot_be_read_is_noticed_and_made_good_by_the_others() {
    let mut found = 0;
    for seed in 0..20 {
        let text = format!(
            "seed {seed}\nkeys 12\ndurable 2\nload_ms 5000\n2000000 disk_fail node=1 kind=2 ms=1000\n\
             2100000 kill node=1 ms=300 silent=0 alone=0"
        );
        let outcome = check(&text, sets(200, 40, 40));
        assert_eq!((outcome.stats.lost, outcome.data.len()), (0, 12), "seed {seed}");
        found += outcome.marks.of(Mark::DamageFound);
    }
    assert!(found > 0, "{found}");
}

#[test]
fn clients_are_told_that_a_node_loads() {
    let asks = (0..200).map(|round| (2_000 + 10 * round, Item::Ask { client: 0, ask: Ask::Get { key: 0 } }));
    let text = "keys 12\ndurable 1\nload_ms 5000\nload_us 50000\n2000000 kill node=0 ms=10 silent=0 alone=0";
    let outcome = check(text, sets(200, 20, 60).chain(asks));
    assert!(outcome.marks.of(Mark::RefusedWhileLoading) > 0);
}

#[test]
fn a_delete_that_was_forgotten_stays_so_over_an_outage() {
    for seed in 0..20 {
        let text = format!(
            "seed {seed}\nkeys 12\ndurable {}\nload_ms 9000\nheartbeat_ms 100\ncollect_ms 100\nsegment_bytes 1500\n\
             snapshot_ratio_percent 30",
            1 + seed % 2
        );
        let deletes = (0..12).map(|key| (3_000 + key, Item::Ask { client: key % 3, ask: Ask::Del { key } }));
        let outcome = check(&text, sets(200, 40, 30).chain(deletes).chain(outage(6_003 + 10 * seed, 300)));
        assert_eq!(outcome.data.len(), 0, "seed {seed}");
        assert!(outcome.stats.collected > 0, "seed {seed}: {}", outcome.stats);
    }
}

#[test]
fn a_restored_node_takes_no_writes_before_it_has_caught_up_and_brings_nothing_back() {
    for seed in 0..20 {
        let text = format!(
            "seed {seed}\nkeys 12\ncounters 1\ndurable {}\nload_ms 14000\nheartbeat_ms 100\ncollect_ms 100\n\
             2000000 backup node=1\n6000000 halfopen from=1 to=0\n6000000 halfopen from=1 to=2\n\
             6000000 partition side=2 ms=1500\n6100000 restore node=1 ms=200",
            1 + seed % 3
        );
        // Deleted and forgotten since the backup; what is written last the node has by itself, and loses.
        let deletes = (0..11).map(|key| (3_000 + key, Item::Ask { client: key % 3, ask: Ask::Del { key } }));
        let set = |at_ms, token| (at_ms, Item::Ask { client: 1, ask: Ask::Set { key: 11, token, pad: 0, ttl_ms: 0 } });
        let add = |at_ms| (at_ms, Item::Ask { client: 1, ask: Ask::Add { counter: 0, amount: 7 } });
        let by_itself = [set(6_050, 1_001), set(7_000, 1_002), set(13_000, 1_003)];
        let outcome = check(&text, sets(200, 40, 30).chain(deletes).chain(by_itself).chain([1_000, 5_000].map(add)));
        assert_eq!(outcome.data, [(11, 1_003)].into(), "seed {seed}");
        let marks = [Mark::Restored, Mark::RestoredRefused, Mark::RestoredDropped, Mark::LostWithCopy];
        assert!(marks.iter().all(|mark| outcome.marks.of(*mark) > 0), "seed {seed}");
    }
}

#[test]
fn files_of_an_earlier_time_roll_nobody_back() {
    for seed in 0..20 {
        let text = format!(
            "seed {seed}\nkeys 12\ncounters 1\ndurable {}\nload_ms 9000\nheartbeat_ms 100\ncollect_ms 100\n\
             2000000 backup node=1\n6000000 rollback node=1 ms=200",
            1 + seed % 3
        );
        let deletes = (0..11).map(|key| (3_000 + key, Item::Ask { client: key % 3, ask: Ask::Del { key } }));
        let add = |at_ms| (at_ms, Item::Ask { client: 1, ask: Ask::Add { counter: 0, amount: 7 } });
        let last = Item::Ask { client: 2, ask: Ask::Set { key: 11, token: 1_001, pad: 0, ttl_ms: 0 } };
        let items = sets(200, 40, 30).chain(deletes).chain([(5_000, last)]).chain([1_000, 5_100, 7_000].map(add));
        let outcome = check(&text, items);
        assert_eq!(outcome.data, [(11, 1_001)].into(), "seed {seed}");
        assert!(outcome.marks.of(Mark::RolledBack) > 0, "seed {seed}");
    }
}
