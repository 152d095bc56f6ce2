//! What a node with a disk has after its process or its machine has ended.

mod harness;

use harness::{Machine, Peer, QUEUE_BYTES_MAX};
use kv_core::{ConnId, DiskError, Event, FileId, FileKind, Fsync, Lane, Settings};

#[test]
fn what_was_written_is_there_again() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\nSET b 2\nDEL a\nINCRBY n 5\nSET t x EX 100\nINCR n\n"), "OK\nOK\nOK\n5\nOK\n6\n");
    for _ in 0..3 {
        node = node.restarted();
        assert_eq!(node.ask("GET a\nGET b\nGET n\nTTL t\n"), "Key not found\n2\n6\n100\n");
    }
    assert_eq!(node.ask("INCR n\nSET b 3\n"), "7\nOK\n");
    node = node.restarted();
    assert_eq!(node.ask("GET b\nGET n\n"), "3\n7\n");
}

#[test]
fn hashes_and_sets_are_there_again() {
    let mut node = Machine::new(Fsync::EverySec);
    node.ask("HSET h a 1 b 2\nHINCRBY h n 5\nHDEL h b\nSADD s x y\nSREM s y\nHSET gone a 1\nDEL gone\nSADD gone z\n");
    node.ask("SET text 1\nDEL text\nHSET text f v\nHSET over f v\nSET over text\n");
    for _ in 0..3 {
        node = node.restarted();
        assert_eq!(node.ask("HMGET h a b n\nHLEN h\n"), "1\nKey not found\n5\n2\n");
        assert_eq!(node.ask("SMEMBERS s\nSMEMBERS gone\nHGET text f\nGET over\n"), "x\nz\nv\ntext\n");
        assert_eq!(node.ask("DBSIZE\n"), "5\n");
    }
    // Through a snapshot, too.
    for round in 0..3_000 {
        node.ask(&format!("HSET big f{} {round:0100}\n", round % 100));
        if round % 100 == 0 {
            node.wait(100);
        }
    }
    assert_eq!(node.files.count(FileKind::Snapshot), 1);
    node.ask("HDEL h a\nDEL gone\n");
    node = node.restarted();
    assert_eq!(node.ask("HLEN big\nHKEYS h\nEXISTS gone\nSCARD s\n"), "100\nn\n0\n1\n");
}

#[test]
fn when_hashes_and_sets_expire_is_there_again_and_what_was_flushed_is_not() {
    let mut node = Machine::new(Fsync::EverySec);
    node.ask("HSET h a 1\nEXPIRE h 100\nHINCRBY h n 5\nSADD s x y\nEXPIRE s 3\nHSET p f 1\nEXPIRE p 3\nPERSIST p\n");
    node.ask("SELECT 2\nHSET gone f 1\nHINCRBY gone n 1\nSADD too m\nFLUSHDB\nHSET here f 2\nSELECT 0\n");
    for seconds in [100, 99, 98] {
        node = node.restarted();
        assert_eq!(node.ask("TTL h\nHMGET h a n\nTTL p\n"), format!("{seconds}\n1\n5\n-1\n"));
        assert_eq!(node.ask("SELECT 2\nKEYS *\nDBSIZE\nHGET here f\n"), "OK\nhere\n1\n2\n");
        node.wait(1_000);
    }
    assert_eq!(node.ask("SELECT 0\nEXISTS s\nHLEN p\n"), "OK\n0\n1\n");
    node.wait(10_000);
    node = node.restarted();
    node.wait(1_000);
    assert_eq!(node.ask("EXISTS s\nDBSIZE\n"), "0\n2\n");
    node.wait(100_000);
    node = node.restarted();
    node.wait(1_000);
    assert_eq!(node.ask("EXISTS h\nDBSIZE\nHGET p f\n"), "0\n1\n1\n");
}

#[test]
fn under_always_a_reply_says_what_is_on_the_disk() {
    let mut node = Machine::new(Fsync::Always);
    node.holds = true;
    assert_eq!(node.ask("SET a 1\n"), "");
    assert_eq!(node.ask("PING\n"), "", "replies keep their order");
    node.holds = false;
    node.wait(10);
    assert_eq!(node.answers(), "OK\nPONG\n");
    node = node.crashed();
    assert_eq!(node.ask("GET a\n"), "1\n");
}

#[test]
fn when_replies_wait_for_the_disk_can_be_changed() {
    let mut node = Machine::new(Fsync::EverySec);
    node.holds = true;
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    assert_eq!(node.ask("CONFIG SET appendfsync always\n"), "OK\n");
    assert_eq!(node.ask("SET b 1\n"), "");
    node.holds = false;
    // One sync was under way, and another follows it.
    node.wait(20);
    assert_eq!(node.answers(), "OK\n");
    node = node.crashed();
    assert_eq!(node.ask("GET a\nGET b\n"), "1\n1\n");
    // A run begins as it was configured.
    node.holds = true;
    assert_eq!(node.ask("SET c 1\nCONFIG GET appendfsync\n"), "OK\nappendfsync\neverysec\n");
    assert_eq!(node.ask("CONFIG SET appendfsync always\n"), "OK\n");
    assert_eq!(node.ask("SET d 1\n"), "");
    // What waits need not any more.
    let settings = node.turn.node().settings();
    node.turn.reconfigure(&Settings { fsync: Fsync::No, ..settings });
    node.wait(0);
    assert_eq!(node.answers(), "OK\n");
    assert_eq!(node.ask("SET e 1\n"), "OK\n");
}

#[test]
fn every_second_the_disk_is_synced() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    // The first write after so long comes near the ceiling of the clock, which is synced at once.
    assert_eq!(node.ask("SET near 1\n"), "OK\n");
    assert_eq!(node.ask("SET b 1\n"), "OK\n");
    node = node.crashed();
    assert_eq!(node.ask("GET a\nGET b\n"), "1\nKey not found\n");
}

#[test]
fn a_snapshot_takes_the_place_of_the_log() {
    let mut node = Machine::new(Fsync::EverySec);
    for round in 0..60 {
        for key in 0..10 {
            assert_eq!(
                node.ask(&format!("SET key-{key} {round}-{}\nINCR n{key}\n", "x".repeat(50))),
                format!("OK\n{}\n", round + 1)
            );
        }
        node.wait(100);
    }
    assert_eq!(node.files.count(FileKind::Snapshot), 1);
    assert!(node.files.count(FileKind::Log) < 4, "{:?}", node.files.0.keys());
    let stats = node.ask("STATS\n");
    for _ in 0..2 {
        node = node.restarted();
        let expected: String = (0..10).map(|_| format!("59-{}\n60\n", "x".repeat(50))).collect();
        let asked: String = (0..10).map(|key| format!("GET key-{key}\nGET n{key}\n")).collect();
        assert_eq!(node.ask(&asked), expected, "{stats}");
    }
}

#[test]
fn a_failed_disk_refuses_writes_and_recovers() {
    let mut node = Machine::new(Fsync::Always);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.fails = Some(DiskError::Full);
    assert_eq!(node.ask("SET b 2\n"), "", "nobody knows what became of it");
    node.reconnect();
    assert!(node.ask("SET c 3\n").starts_with("Error: the disk is full; nothing was written"));
    assert_eq!(node.ask("GET a\n"), "1\n");
    assert!(node.ask("STATS\n").contains(r#""not_ready":["disk"]"#));
    node.wait(3_000);
    assert!(node.ask("SET c 3\n").starts_with("Error: the disk is full; nothing was written"));
    node.fails = None;
    node.wait(10_000);
    assert_eq!(node.ask("SET d 4\n"), "OK\n");
    node.wait(1_000);
    let stats = node.ask("STATS\n");
    assert!(stats.contains(r#""state":"whole""#) && stats.contains(r#""not_ready":[]"#), "{stats}");
    node = node.crashed();
    assert_eq!(node.ask("GET a\nGET d\n"), "1\n4\n");
}

#[test]
fn what_may_not_be_on_a_disk_that_fails_at_the_start_is_for_clients_only() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    let mut node = node.restarted_failing(DiskError::Sync);
    assert_eq!(node.ask("GET a\n"), "1\n");
    let stats = node.ask("STATS\n");
    assert!(stats.contains(r#""withholds":true"#) && stats.contains(r#""not_ready":["disk""#), "{stats}");
    let mut peer = Peer::new(&node);
    peer.meet(&mut node, 5_000);
    assert_eq!(peer.ask("GET a\n"), "Key not found\n");
    node.fails = None;
    peer.meet(&mut node, 40_000);
    assert!(node.ask("STATS\n").contains(r#""withholds":false"#));
    assert_eq!(peer.ask("GET a\n"), "1\n");
}

#[test]
fn a_cut_log_is_read_up_to_there() {
    let mut node = Machine::new(Fsync::EverySec);
    for key in 0..20 {
        assert_eq!(node.ask(&format!("SET k{key} v\n")), "OK\n");
    }
    let files = node.files.clone();
    let last = *files.0.keys().max().expect("there is a segment");
    let bytes = files.0[&last].bytes.len();
    for kept in 0..bytes {
        let mut cut = files.clone();
        cut.0.get_mut(&last).expect("it is there").bytes.truncate(kept);
        let mut again = Machine::start(Fsync::EverySec, cut, 7, 5_000);
        assert!(again.turn.node().load_failure().is_none());
        let stats = again.ask("STATS\n");
        assert!(stats.contains(r#""damaged_places":0"#), "cut to {kept} of {bytes}: {stats}");
    }
}

#[test]
fn a_wrong_bit_is_told_and_costs_little() {
    let mut node = Machine::new(Fsync::EverySec);
    for key in 0..20 {
        assert_eq!(node.ask(&format!("SET k{key} v\n")), "OK\n");
    }
    let node = node.restarted();
    let files = node.files;
    let first = *files.0.keys().min().expect("there is a segment");
    let bytes = files.0[&first].bytes.len();
    for bit in 0..bytes * 8 {
        let mut flipped = files.clone();
        flipped.0.get_mut(&first).expect("it is there").bytes[bit / 8] ^= 1 << (bit % 8);
        let mut again = Machine::start(Fsync::EverySec, flipped, 7, 5_000);
        if again.turn.node().load_failure().is_some() {
            continue;
        }
        let stats = again.ask("STATS\n");
        let keys: String = (0..20).map(|key| format!("GET k{key}\n")).collect();
        let there = again.ask(&keys).lines().filter(|line| *line == "v").count();
        let is_told = !stats.contains(r#""damaged_places":0"#);
        assert!(there >= 19 && (is_told || there == 20), "bit {bit}: {there} {stats}");
    }
}

#[test]
fn under_always_the_last_replies_of_who_quits_wait_for_the_disk() {
    let mut node = Machine::new(Fsync::Always);
    node.holds = true;
    assert_eq!(node.ask("SET a 1\nQUIT\n"), "");
    node.holds = false;
    node.wait(10);
    assert!(node.answers().starts_with("OK\n"));
    node.reconnect();
    // Nor do they go out if the disk fails.
    node.fails = Some(DiskError::Write);
    assert_eq!(node.ask("SET a 2\nQUIT\n"), "");
    node.reconnect();
    assert!(node.ask("SET a 3\n").starts_with("Error: the disk failed"));
}

#[test]
fn under_always_a_token_names_what_is_on_the_disk() {
    let mut node = Machine::new(Fsync::Always);
    node.holds = true;
    assert_eq!(node.ask("SET a 1\n"), "");
    let other = ConnId(1);
    node.turn.event(Event::Opened { conn: other });
    node.turn.input(other, b"TOKEN\n");
    assert_eq!(node.turn.output(other), b"");
}

#[test]
fn a_snapshot_from_before_the_disk_failed_does_not_fill_the_gap() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.holds_lane = Some(Lane::Snapshot);
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(1_100);
    node.fails = Some(DiskError::Full);
    assert_eq!(node.ask("SET b 2\n"), "OK\n");
    node.fails = None;
    node.wait(1_000);
    assert!(node.ask("STATS\n").contains(r#""state":"recovering""#));
    node.holds_lane = None;
    node.wait(2_500);
    assert!(node.ask("STATS\n").contains(r#""state":"whole""#));
    node = node.crashed();
    assert_eq!(node.ask("GET a\nGET b\n"), "1\n2\n");
}

#[test]
fn a_snapshot_is_whole_once_the_log_is_synced_that_it_has_taken_from() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.holds_lane = Some(Lane::Log);
    assert_eq!(node.ask("SET b 2\nSAVE\n"), "OK\nOK\n");
    node.wait(3_000);
    assert_eq!(node.files.count(FileKind::Snapshot), 0);
    node.holds_lane = None;
    node.wait(100);
    assert_eq!(node.files.count(FileKind::Snapshot), 1);
}

#[test]
fn a_segment_that_could_not_be_created_is_no_damage() {
    let mut node = Machine::new(Fsync::EverySec);
    for key in 0..20 {
        assert_eq!(node.ask(&format!("SET k{key} {}\n", "v".repeat(60))), "OK\n");
    }
    node.wait(1_100);
    // A snapshot begins a segment.
    node.holds_lane = Some(Lane::Snapshot);
    node.fails = Some(DiskError::Full);
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    assert!(node.ask("STATS\n").contains(r#""state":"full""#));
    node.fails = None;
    node.wait(2_000);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    let logs: Vec<_> = node.files.0.keys().filter(|file| file.kind == FileKind::Log).map(|file| file.number).collect();
    node.wait(1_100);
    node = node.crashed();
    assert_eq!(node.ask("GET k0\nGET a\n"), format!("{}\n1\n", "v".repeat(60)));
    assert!(node.ask("STATS\n").contains(r#""damaged_places":0"#), "{logs:?}");
}

#[test]
fn peers_see_what_was_written_once_the_log_says_that_they_may() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.holds_lane = Some(Lane::Log);
    let mut peer = Peer::new(&node);
    peer.meet(&mut node, 3_000);
    assert_eq!(peer.ask("GET a\n"), "Key not found\n");
    node.holds_lane = None;
    peer.meet(&mut node, 3_000);
    assert_eq!(peer.ask("GET a\n"), "1\n", "{} {}", node.ask("PEERS\nSTATS\n"), peer.ask("PEERS\nSTATS\n"));
}

#[test]
fn a_file_that_begins_as_another_is_none() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node = node.restarted();
    assert_eq!(node.ask("SET a 2\n"), "OK\n");
    node.wait(1_100);
    // What the system gives for the blocks of a lost file may be those of one that was removed.
    let old = node.files.0[&FileId::log(1)].clone();
    let last = *node.files.0.keys().max().expect("there is a segment");
    node.files.0.insert(FileId::log(last.number + 1), old);
    let mut again = Machine::start(Fsync::EverySec, node.files, 7, 5_000);
    assert_eq!(again.ask("GET a\n"), "2\n");
}

#[test]
fn every_run_has_an_origin_of_its_own_and_what_nobody_saw_stays_hidden() {
    let mut node = Machine::new(Fsync::EverySec);
    let number = |node: &mut Machine, name: &str| {
        let stats = node.ask("STATS\n");
        let from = stats.split(&format!("\"{name}\":")).nth(1).expect("it is told").to_owned();
        from.split(',').next().expect("split gives one").to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    for run in 0..300 {
        assert_eq!(node.ask(&format!("INCR n\nSET k{run} 1\n")), format!("{}\nOK\n", run + 1));
        let is_new = seen.insert(number(&mut node, "origin"));
        assert_eq!(is_new, run <= 250, "run {run}");
        node = node.restarted();
        node.wait(500);
    }
    assert_eq!(number(&mut node, "origins"), "251");
    assert_eq!(node.ask("GET n\nGET k0\nGET k299\n"), "300\n1\n1\n");
    let mut peer = Peer::new(&node);
    peer.meet(&mut node, 3_000);
    assert_eq!(peer.ask("GET n\nGET k0\nGET k299\n"), "300\n1\n1\n");
}

#[test]
fn what_waits_for_a_disk_that_hangs_is_bounded_and_goes_on_by_itself() {
    let mut node = Machine::new(Fsync::EverySec);
    let mut peer = Peer::new(&node);
    peer.is_found = true;
    peer.meet(&mut node, 3_000);
    node.holds_lane = Some(Lane::Log);
    let value = "v".repeat(1_000);
    let mut taken = 0;
    while node.ask(&format!("SET k{taken} {value}\n")) == "OK\n" {
        taken += 1;
        assert!(taken * 1_000 < QUEUE_BYTES_MAX, "some write is refused");
    }
    let refused = node.ask("SET k v\nDEL k0\nINCR n\n");
    assert_eq!(refused.matches("Error: the disk does not keep up").count(), 3, "{refused}");
    assert_eq!(node.ask("GET k0\nGET k\n"), format!("{value}\nKey not found\n"), "reads go on");
    assert!(node.ask("STATS\n").contains(r#""refuses":true"#));
    // What a peer writes meanwhile is not taken, however long it lasts.
    for key in 0..200 {
        assert_eq!(peer.ask(&format!("SET p{key} {value}\n")), "OK\n");
        peer.meet(&mut node, 20);
    }
    peer.meet(&mut node, 10_000);
    let (bytes, _) = node.turn.node().gauges().disk_queue_bytes;
    assert!(bytes < QUEUE_BYTES_MAX + 10_000, "{bytes}");
    assert_eq!(node.ask("GET p199\n"), "Key not found\n");
    node.holds_lane = None;
    peer.meet(&mut node, 3_000);
    assert_eq!(node.ask("GET p0\nGET p199\nSET k v\n"), format!("{value}\n{value}\nOK\n"));
    node.wait(1_100);
    node = node.crashed();
    assert_eq!(node.ask(&format!("GET k{}\nGET p199\nGET k\n", taken - 1)), format!("{value}\n{value}\nv\n"));
}

#[test]
fn a_snapshot_that_failed_is_tried_again_ever_less_often_and_not_forgotten() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.fails_snapshot = Some(DiskError::Full);
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(60_000);
    assert!(node.ask("STATS\n").contains(r#""save_failed":true"#));
    // After 0.5, 1, 2, 4, 8, 16 and 16 seconds, each time to write and to remove what there is of it.
    assert!((12..=18).contains(&node.failures), "{}", node.failures);
    node.fails_snapshot = None;
    node.wait(17_000);
    assert_eq!((node.files.count(FileKind::Snapshot), node.files.count(FileKind::Part)), (1, 0));
    let stats = node.ask("STATS\n");
    assert!(stats.contains(r#""save_failed":false"#) && stats.contains(r#""snapshots":1"#), "{stats}");
}

#[test]
fn a_snapshot_that_failed_does_not_count_the_log_anew() {
    let mut node = Machine::new(Fsync::EverySec);
    node.fails_snapshot = Some(DiskError::Write);
    let value = "v".repeat(300);
    for key in 0..20 {
        assert_eq!(node.ask(&format!("SET k{key} {value}\n")), "OK\n");
        node.wait(100);
    }
    node.wait(2_000);
    assert!(node.failures > 0);
    node.fails_snapshot = None;
    node.wait(17_000);
    assert_eq!(node.files.count(FileKind::Snapshot), 1);
}

#[test]
fn what_could_not_be_removed_is_removed_later() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.fails_removing = true;
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(5_000);
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(20_000);
    assert!(node.files.count(FileKind::Snapshot) == 2 && node.files.count(FileKind::Log) > 1);
    node.fails_removing = false;
    node.wait(17_000);
    assert_eq!((node.files.count(FileKind::Snapshot), node.files.count(FileKind::Log)), (1, 1));
    assert!(node.ask("STATS\n").contains(r#""save_failed":false"#));
}

/// A node that has synced something, then written more that is not synced: its files, the segment, and where that
/// begins.
fn with_unsynced_end() -> (Machine, FileId, usize) {
    let mut node = Machine::new(Fsync::EverySec);
    for key in 0..5 {
        assert_eq!(node.ask(&format!("SET k{key} {}\n", "v".repeat(100))), "OK\n");
    }
    node.wait(1_100);
    for key in 5..11 {
        assert_eq!(node.ask(&format!("SET k{key} {}\n", "v".repeat(100))), "OK\n");
    }
    let last = *node.files.0.keys().max().expect("there is a segment");
    let synced = node.files.0[&last].synced;
    assert!(node.files.0[&last].bytes.len() > synced + 600, "some sectors of it are not synced");
    (node, last, synced)
}

#[test]
fn who_has_stopped_in_order_writes_nothing_anew() {
    let newest_bytes = |node: &Machine| node.files.0.values().next_back().expect("a segment").bytes.len();
    let least = newest_bytes(&Machine::new(Fsync::EverySec).restarted());
    for stops in [false, true] {
        let mut node = Machine::new(Fsync::EverySec);
        let value = "v".repeat(100);
        for key in 0..3 {
            assert_eq!(node.ask(&format!("SET k{key} {value}\n")), "OK\n");
        }
        if stops {
            node.turn.end_log();
            node.end_turn();
        }
        let mut again = node.restarted();
        assert_eq!(again.files.count(FileKind::Snapshot), 0);
        assert_eq!(newest_bytes(&again) > least + 100, !stops, "{} and {least}", newest_bytes(&again));
        for _ in 0..3 {
            assert_eq!(again.ask("GET k2\n"), format!("{value}\n"));
            again.turn.end_log();
            again.end_turn();
            again = again.crashed();
        }
        assert!(again.ask("STATS\n").contains(r#""damaged_places":0"#));
    }
}

#[test]
fn what_a_power_cut_left_in_any_order_is_a_torn_end() {
    let (mut node, last, synced) = with_unsynced_end();
    let bytes = node.files.0[&last].bytes.clone();
    for sector in (synced / 512)..bytes.len().div_ceil(512) {
        let mut holed = node.files.clone();
        let hole = synced.max(512 * sector)..bytes.len().min(512 * (sector + 1));
        holed.0.get_mut(&last).expect("it is there").bytes[hole.clone()].fill(0);
        let mut again = Machine::start(Fsync::EverySec, holed, 7, 5_000);
        assert!(again.turn.node().load_failure().is_none(), "{hole:?}");
        let stats = again.ask("STATS\n");
        assert!(stats.contains(r#""damaged_places":0"#), "{hole:?}: {stats}");
        assert_eq!(again.ask("GET k4\n"), format!("{}\n", "v".repeat(100)));
        // Nor is it one to whoever starts later.
        let mut later = again.restarted();
        assert!(later.ask("STATS\n").contains(r#""damaged_places":0"#), "{hole:?}");
    }
    // What is known to have been synced is damaged.
    assert_eq!(node.ask("GET k10\n"), format!("{}\n", "v".repeat(100)));
    let mut holed = node.files.clone();
    holed.0.get_mut(&last).expect("it is there").bytes[512..1_024].fill(0);
    assert!(synced > 1_024, "{synced}");
    let mut again = Machine::start(Fsync::EverySec, holed, 7, 5_000);
    assert!(!again.ask("STATS\n").contains(r#""damaged_places":0"#));
    assert_eq!(again.ask("GET k10\n"), format!("{}\n", "v".repeat(100)), "what is behind it counts");
}

#[test]
fn what_an_earlier_run_could_not_sync_is_written_anew_before_it_counts() {
    let (node, last, synced) = with_unsynced_end();
    // A sync has failed, and the process ended before the node could say so: what the system shows is not on the disk,
    // and no sync of that file will bring it there.
    let mut again = node.restarted();
    let file = again.files.0.get_mut(&last).expect("it is there");
    file.bytes[synced..].fill(0);
    let mut later = again.crashed();
    assert!(later.ask("STATS\n").contains(r#""damaged_places":0"#));
    let asked: String = (0..11).map(|key| format!("GET k{key}\n")).collect();
    assert_eq!(later.ask(&asked), format!("{}\n", "v".repeat(100)).repeat(11));
}

#[test]
fn beside_a_peer_whose_clock_is_ahead_the_disk_is_synced_once_a_second() {
    let syncs = |ahead_ms: u64| {
        let mut node = Machine::new(Fsync::EverySec);
        let mut peer = Peer::new(&node);
        (peer.is_found, peer.ahead_ms) = (true, ahead_ms);
        peer.meet(&mut node, 10_000);
        let (before, segment) = (node.syncs, node.files.0.keys().next_back().copied());
        for key in 0..300 {
            assert_eq!(peer.ask(&format!("SET k{} 1\n", key % 3)), "OK\n");
            peer.meet(&mut node, 10);
        }
        let ended = node.files.0.keys().next_back().copied().zip(segment).map(|(now, then)| now.number - then.number);
        node.syncs - before - ended.expect("there are segments")
    };
    let even = syncs(0);
    assert!(syncs(500) <= even + 3, "{even}, and {}", syncs(500));
}

#[test]
fn a_snapshot_whose_name_could_not_be_synced_is_removed_by_the_next() {
    let mut node = Machine::new(Fsync::EverySec);
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    node.wait(1_100);
    node.fails_names = true;
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(100);
    node.fails_names = false;
    node.wait(60_000);
    assert_eq!(node.ask("SAVE\n"), "OK\n");
    node.wait(10_000);
    assert!(node.ask("STATS\n").contains(r#""state":"whole""#));
    let files: Vec<_> = node.files.0.keys().collect();
    assert_eq!(node.files.count(FileKind::Snapshot), 1, "{files:?}");
}

/// A node that starts on files whose log has something unsynced at its end, `cut` bytes of which are not there; and
/// behind it, maybe, what a retry leaves that could create the next segment and write nothing to it on a full disk.
fn started_behind_a_tail(cut: usize, is_followed: bool) -> Machine {
    let mut node = Machine::new(Fsync::EverySec);
    node.wait(3_000);
    assert_eq!(node.ask("SET z 1\n"), "OK\n");
    assert_eq!(node.ask("SET a 1\n"), "OK\n");
    let mut files = node.files.clone();
    let last = *files.0.keys().next_back().expect("there is a segment");
    let content = files.0.get_mut(&last).expect("it is there");
    assert!(content.synced < content.bytes.len() - cut);
    content.bytes.truncate(content.bytes.len() - cut);
    if is_followed {
        files.0.insert(FileId::log(last.number + 1), Default::default());
    }
    Machine::start(Fsync::EverySec, files, 7, node.ms + 100)
}

#[test]
fn what_was_not_synced_before_an_empty_segment_is_on_the_disk_soon() {
    for is_followed in [false, true] {
        let mut node = started_behind_a_tail(0, is_followed);
        assert_eq!(node.ask("GET a\n"), "1\n");
        assert_eq!(node.ask("SET b 1\n"), "OK\n");
        node.wait(60_000);
        node = node.crashed();
        assert_eq!(node.ask("GET b\nGET a\n"), "1\n1\n", "followed: {is_followed}");
    }
}

#[test]
fn an_end_that_a_full_disk_cut_is_no_damage_before_an_empty_segment() {
    for is_followed in [false, true] {
        let mut node = started_behind_a_tail(3, is_followed);
        assert!(node.ask("STATS\n").contains(r#""damaged_places":0"#), "followed: {is_followed}");
    }
}

#[test]
fn a_transaction_is_taken_whole_or_not_though_the_disk_falls_behind() {
    let mut machine = Machine::new(Fsync::EverySec);
    machine.holds = true;
    let value = "v".repeat(QUEUE_BYTES_MAX / 2);
    let sets: String = (0..4).map(|key| format!("SET key{key} {value}\n")).collect();
    let answer = machine.ask(&format!("MULTI\n{sets}EXEC\nSET more v\n"));
    let replies: Vec<&str> = answer.lines().skip(5).collect();
    assert_eq!(replies[..4], ["OK"; 4], "{answer}");
    assert!(replies[4].starts_with("Error: the disk does not keep up"), "{answer}");
}

#[test]
fn a_batch_is_taken_whole_or_not_though_the_disk_falls_behind() {
    let mut machine = Machine::new(Fsync::EverySec);
    machine.holds = true;
    let value = "v".repeat(QUEUE_BYTES_MAX / 2);
    let puts: Vec<_> = (0..4).map(|at| format!(r#"{{"op":"put","key":"key{at}","value":"{value}"}}"#)).collect();
    let body = format!(r#"{{"ops":[{}]}}"#, puts.join(","));
    let length = body.len();
    let answer =
        machine.ask(&format!("POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"));
    assert_eq!(answer.matches(r#"{"status":204}"#).count(), 4, "{answer}");
    let answer = machine.ask("PUT /v1/kv/more HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the disk does not keep up"), "{answer}");
}

#[test]
fn under_always_keys_that_are_listed_are_on_the_disk() {
    let reader = ConnId(1);
    let keys = ["KEYS *", "SCAN 0", "RANDOMKEY"];
    let written = keys.iter().map(|command| ("SET k v", *command));
    let fields = keys.iter().chain(&["HKEYS k", "HSCAN k 0"]).map(|command| ("HSET k k v", *command));
    let members = keys.iter().chain(&["SMEMBERS k", "SRANDMEMBER k", "SUNION k"]).map(|command| ("SADD k k", *command));
    for (write, command) in written.chain(fields).chain(members) {
        let mut node = Machine::new(Fsync::Always);
        node.turn.event(Event::Opened { conn: reader });
        node.holds = true;
        assert_eq!(node.ask(&format!("{write}\n")), "", "it waits");
        node.turn.input(reader, format!("{command}\n").as_bytes());
        assert_eq!(node.turn.output(reader), b"", "{command} waits, too");
        node.holds = false;
        node.wait(10);
        let answer = String::from_utf8_lossy(node.turn.output(reader)).into_owned();
        assert!(answer.lines().any(|line| line == "k"), "{command}: {answer}");
    }
}

#[test]
fn under_always_what_was_flushed_is_missed_once_the_disk_knows() {
    let reader = ConnId(1);
    for command in ["GET k", "EXISTS k", "DBSIZE", "SCAN 0"] {
        let mut node = Machine::new(Fsync::Always);
        node.turn.event(Event::Opened { conn: reader });
        assert_eq!(node.ask("SET k v\n"), "OK\n");
        node.holds = true;
        assert_eq!(node.ask("FLUSHDB\n"), "", "it waits");
        node.turn.input(reader, format!("{command}\n").as_bytes());
        assert_eq!(node.turn.output(reader), b"", "{command} waits, too");
        node.holds = false;
        node.wait(10);
        assert!(!node.turn.output(reader).is_empty(), "{command}");
        let count = node.turn.output(reader).len();
        node.turn.sent(reader, count);
        node.turn.input(reader, b"GET k\n");
        assert_eq!(node.turn.output(reader), b"Key not found\n", "and then nothing waits any more");
    }
}

#[test]
fn under_always_a_write_that_is_told_of_is_on_the_disk() {
    let reader = ConnId(1);
    let mut node = Machine::new(Fsync::Always);
    node.turn.event(Event::Opened { conn: reader });
    node.turn.input(reader, b"CONFIG SET notify-keyspace-events KEA\nSUBSCRIBE __keyspace@0__:k other\n");
    while let count @ 1.. = node.turn.output(reader).len() {
        node.turn.sent(reader, count);
    }
    node.holds = true;
    assert_eq!(node.ask("SET k v\n"), "", "it waits");
    assert_eq!(node.turn.output(reader), b"", "what it does to the key waits, too");
    node.holds = false;
    node.wait(10);
    let told = node.turn.output(reader).to_vec();
    assert_eq!(String::from_utf8_lossy(&told), "message __keyspace@0__:k set\n");
    node.turn.sent(reader, told.len());
    node.holds = true;
    assert_eq!(node.ask("SET j v\nPUBLISH other x\n"), "OK\n", "the answer of before");
    assert_eq!(node.turn.output(reader), b"message other x\n", "what is only said waits for nothing");
}

#[test]
fn under_always_a_transaction_says_what_is_on_the_disk() {
    let (other, mut node) = (ConnId(1), Machine::new(Fsync::Always));
    node.turn.event(Event::Opened { conn: other });
    assert_eq!(node.ask("WATCH k\nMULTI\nGET k\n"), "OK\nOK\nQUEUED\n");
    node.holds = true;
    node.turn.input(other, b"MULTI\nSET k v\nEXEC\n");
    assert_eq!(node.turn.output(other), b"");
    assert_eq!(node.ask("EXEC\n"), "", "that it fails tells of what is not there yet");
    node.holds = false;
    node.wait(10);
    assert_eq!(node.turn.output(other), b"OK\nQUEUED\nOK\n");
    assert_eq!(node.answers(), "(none)\n");
}

#[test]
fn what_was_flushed_stays_gone() {
    for snapshot in [false, true] {
        let mut node = Machine::new(Fsync::EverySec);
        let lines: String = (0..40).map(|key| format!("SET key-{key} {}\n", "x".repeat(50))).collect();
        assert_eq!(node.ask(&lines), "OK\n".repeat(40));
        let commands = "INCRBY n 5\nSELECT 7\nSET k v\nSELECT 0\nFLUSHDB\nINCR n\nSET a b\n";
        assert_eq!(node.ask(commands), "5\nOK\nOK\nOK\nOK\n1\nOK\n");
        if snapshot {
            assert_eq!(node.ask("SAVE\n"), "OK\n");
            node.wait(1_000);
        }
        for _ in 0..3 {
            node = node.restarted();
            assert_eq!(node.ask("DBSIZE\nGET n\nGET a\n"), "2\n1\nb\n");
            assert_eq!(node.ask("SELECT 7\nGET k\nSELECT 0\n"), "OK\nv\nOK\n");
        }
    }
}
