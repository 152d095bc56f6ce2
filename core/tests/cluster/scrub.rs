//! What one node lost comes back from another; what was deleted does not; and what that costs on the wire.

use kv_core::{Record, Scrubbed, Version};
use xxhash_rust::xxh3::xxh3_64;

use crate::harness::Cluster;

const HEARTBEAT_MS: u64 = 500;

/// Heartbeats within which a difference must be gone: two in which it is suspected, a rest, and the cut of the digests
/// may be moved in between.
const HEARTBEATS_MAX: u64 = 40;

/// An entry, kept to be put back later.
struct Kept {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    is_counter: bool,
    version: Version,
}

fn keep(cluster: &Cluster, node: usize, key: &str) -> Kept {
    let record = cluster.turns[node].node().peek(key.as_bytes()).expect("the key is there");
    let Record { key, value, is_counter, version, .. } = record;
    Kept { key: key.to_vec(), value: value.map(<[u8]>::to_vec), is_counter, version }
}

/// Has `node` hold `kept` in place of what it holds.
fn age(cluster: &mut Cluster, node: usize, kept: &Kept) {
    let Kept { key, value, is_counter, version } = kept;
    let (value, is_counter, version) = (value.as_deref(), *is_counter, *version);
    cluster.turns[node].rot(key, Some(&Record { key, value, is_counter, deadline: None, version }));
}

fn lose(cluster: &mut Cluster, node: usize, key: &str) {
    cluster.turns[node].rot(key.as_bytes(), None);
}

fn beat(cluster: &mut Cluster, heartbeats: u64) {
    for _ in 0..heartbeats {
        cluster.pass(HEARTBEAT_MS);
        cluster.settle();
    }
}

fn scrubbed(cluster: &Cluster, node: usize) -> Scrubbed {
    cluster.turns[node].node().scrubbed()
}

fn agree(cluster: &Cluster) -> bool {
    let digests: Vec<_> = cluster.turns.iter().map(|turn| turn.node().digest()).collect();
    digests.windows(2).all(|pair| pair[0] == pair[1])
}

/// Lets heartbeats pass until all agree; how many that took.
#[track_caller]
fn mend(cluster: &mut Cluster) -> u64 {
    assert!(!agree(cluster), "there is something to mend");
    for heartbeat in 1..=HEARTBEATS_MAX {
        beat(cluster, 1);
        if agree(cluster) {
            return heartbeat;
        }
    }
    panic!(
        "nothing was mended: {:?}",
        (0..cluster.turns.len()).map(|node| scrubbed(cluster, node)).collect::<Vec<_>>()
    );
}

/// Three nodes after `commands` at the first, then rot, then the same answers to `asks` on all of them.
#[track_caller]
fn check(commands: &str, rot: impl FnOnce(&mut Cluster), repaired: [u64; 3], asks: &[(&str, &str)]) {
    let mut cluster = Cluster::of_three();
    cluster.write(commands.as_bytes());
    beat(&mut cluster, 4);
    rot(&mut cluster);
    mend(&mut cluster);
    for (node, repaired) in repaired.into_iter().enumerate() {
        let scrubbed = scrubbed(&cluster, node);
        assert_eq!((scrubbed.found, scrubbed.repaired), (repaired, repaired), "node {node}: {scrubbed:?}");
        for (ask, answer) in asks {
            assert_eq!(&cluster.ask(node, ask), answer, "node {node}: {ask}");
        }
    }
}

#[test]
fn a_lost_value_comes_back() {
    check("SET k one\n", |cluster| lose(cluster, 1, "k"), [0, 1, 0], &[("GET k", "one")]);
    // Also to its writer, and with a deadline.
    check("SET k one EX 1000\n", |cluster| lose(cluster, 0, "k"), [1, 0, 0], &[("GET k", "one")]);
    // One copy is left.
    let rot = |cluster: &mut Cluster| (0..2).for_each(|node| lose(cluster, node, "k"));
    check("SET k one\n", rot, [1, 1, 0], &[("GET k", "one")]);
}

#[test]
fn many_lost_values_come_back() {
    let commands: String = (0..300).map(|at| format!("SET k{at} v\n")).collect();
    let rot = |cluster: &mut Cluster| (0..300).for_each(|at| lose(cluster, 2, &format!("k{at}")));
    let mut cluster = Cluster::of_three();
    cluster.write(commands.as_bytes());
    beat(&mut cluster, 4);
    rot(&mut cluster);
    beat(&mut cluster, 200);
    assert!(agree(&cluster), "{:?}", scrubbed(&cluster, 2));
    assert_eq!(scrubbed(&cluster, 2).repaired, 300);
}

#[test]
fn a_slot_of_many_pages_is_gone_through() {
    let keys = (0..).map(|at| format!("k{at}"));
    let slot = |key: &String| xxh3_64(key.as_bytes()) % 16_384;
    let keys: Vec<String> = keys.filter(|key| slot(key) == 7).take(1_300).collect();
    let mut cluster = Cluster::of_three();
    for key in &keys {
        cluster.write(format!("SET {key} v\n").as_bytes());
    }
    keys.iter().step_by(100).for_each(|key| lose(&mut cluster, 0, key));
    mend(&mut cluster);
    assert_eq!((scrubbed(&cluster, 0).rounds, scrubbed(&cluster, 0).repaired), (1, 13));
}

#[test]
fn a_value_that_went_back_to_an_older_one_goes_on() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k one\n");
    let old = keep(&cluster, 1, "k");
    cluster.write(b"SET k two\n");
    age(&mut cluster, 1, &old);
    mend(&mut cluster);
    assert_eq!((cluster.ask(0, "GET k"), cluster.ask(1, "GET k")), ("two".to_owned(), "two".to_owned()));
    assert_eq!((scrubbed(&cluster, 1).repaired, scrubbed(&cluster, 0).found), (1, 0));
}

#[test]
fn a_delete_that_was_lost_comes_back() {
    let mut cluster = Cluster::of_three();
    // A node that nobody reaches keeps the tombstone from being collected.
    cluster.cut(2, 0);
    cluster.cut(2, 1);
    cluster.write(b"SET k one\n");
    let old = keep(&cluster, 1, "k");
    cluster.write(b"DEL k\n");
    age(&mut cluster, 1, &old);
    assert_eq!(cluster.ask(1, "GET k"), "one");
    beat(&mut cluster, HEARTBEATS_MAX);
    assert_eq!(cluster.ask(1, "GET k"), "Key not found");
    assert_eq!((scrubbed(&cluster, 1).repaired, scrubbed(&cluster, 0).found), (1, 0));
}

#[test]
fn what_a_counter_lost_comes_back() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET n 5\n");
    assert_eq!(cluster.ask(0, "INCR n"), "6");
    let old = keep(&cluster, 2, "n");
    assert_eq!(cluster.ask(1, "INCRBY n 10"), "16");
    beat(&mut cluster, 2);
    age(&mut cluster, 2, &old);
    assert_eq!(cluster.ask(2, "GET n"), "6");
    mend(&mut cluster);
    assert_eq!(cluster.ask(2, "GET n"), "16");
    lose(&mut cluster, 2, "n");
    mend(&mut cluster);
    assert_eq!((cluster.ask(2, "GET n"), cluster.ask(0, "INCR n")), ("16".to_owned(), "17".to_owned()));
    assert_eq!((scrubbed(&cluster, 2).repaired, scrubbed(&cluster, 0).found, scrubbed(&cluster, 1).found), (2, 0, 0));
}

#[test]
fn what_was_deleted_and_forgotten_is_named_and_does_not_come_back() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k one\nSET other one\n");
    let old = keep(&cluster, 1, "k");
    cluster.write(b"DEL k\n");
    beat(&mut cluster, 60);
    assert!(cluster.turns.iter().all(|turn| turn.node().peek(b"k").is_none()), "the delete is forgotten");
    // A disk that was thought lost, say.
    age(&mut cluster, 1, &old);
    beat(&mut cluster, 100);
    for node in [0, 2] {
        assert_eq!(cluster.ask(node, "GET k"), "Key not found");
        let Scrubbed { found, repaired, unrepairable, .. } = scrubbed(&cluster, node);
        assert_eq!((found, repaired, unrepairable), (1, 0, 1), "it is counted once");
        assert!(cluster.ask(node, "STATS").contains("\"found\":1,\"repaired\":0,\"unrepairable\":1}"));
    }
    assert_eq!(cluster.ask(1, "GET k"), "one", "and nothing is taken out");
    assert_eq!(cluster.ask(1, "DEL k"), "OK");
    beat(&mut cluster, 4);
    assert!(agree(&cluster));
    // What is newer than the delete was not deleted by it.
    cluster.write(b"SET k two\n");
    lose(&mut cluster, 2, "k");
    mend(&mut cluster);
    assert_eq!(cluster.ask(2, "GET k"), "two");
}

#[test]
fn one_version_that_says_two_things_is_named() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET k one EX 100\n");
    let old = keep(&cluster, 1, "k");
    age(&mut cluster, 1, &old);
    beat(&mut cluster, HEARTBEATS_MAX);
    assert!(!agree(&cluster));
    let unclear: Vec<u64> = (0..3).map(|node| scrubbed(&cluster, node).unrepairable).collect();
    assert_eq!(unclear, [1, 1, 1]);
}

#[test]
fn a_healthy_cluster_finds_nothing_while_it_is_written_to() {
    let mut cluster = Cluster::of_three();
    for ms in 0..30_000_u64 {
        // Two write, and what one of them has written is under way when it beats.
        cluster.hand_in(0, format!("SET k{} {ms}\nDEL k{}\n", ms % 97, ms * 7 % 97).as_bytes());
        cluster.settle();
        cluster.hand_in(1, format!("SET k{} {ms} PX 300\nINCR n\n", ms % 101).as_bytes());
        cluster.pass(1);
    }
    for node in 0..3 {
        let Scrubbed { compared, found, .. } = scrubbed(&cluster, node);
        assert!(compared > 30 && found == 0, "node {node}: {:?}", scrubbed(&cluster, node));
    }
}

#[test]
fn what_is_lost_under_steady_writes_comes_back() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET lost value\n");
    beat(&mut cluster, 4);
    lose(&mut cluster, 1, "lost");
    for ms in 0..60_000_u64 {
        cluster.hand_in(0, format!("SET k{} {ms}\n", ms % 97).as_bytes());
        cluster.settle();
        cluster.hand_in(1, format!("SET k{} {ms}\n", ms % 101).as_bytes());
        cluster.pass(1);
        if cluster.turns[1].node().peek(b"lost").is_some() {
            return;
        }
    }
    panic!("it has not come back: {:?}", scrubbed(&cluster, 1));
}

/// Keys in the store of which one differs.
const KEYS: u64 = 1_000_000;

/// What finding and mending it may cost, both ways and everything included that heartbeats do not cost anyway.
const BYTES_MAX: usize = 16 << 10;

#[test]
fn one_differing_key_among_a_million_costs_little() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    beat(&mut cluster, 4);
    let mut commands = String::new();
    for from in (0..KEYS).step_by(1_000) {
        commands.clear();
        (from..from + 1_000).for_each(|at| commands.push_str(&format!("SET key:{at:012} value:{at:08}\n")));
        cluster.hand_in(0, commands.as_bytes());
    }
    cluster.settle();
    beat(&mut cluster, 10);
    assert_eq!(cluster.ask(1, "GET key:000000999999"), "value:00999999");
    assert!(agree(&cluster));
    let before = cluster.sent_bytes;
    beat(&mut cluster, 10);
    let idle_bytes = cluster.sent_bytes - before;
    lose(&mut cluster, 1, "key:000000123456");
    let before = cluster.sent_bytes;
    let heartbeats = mend(&mut cluster);
    beat(&mut cluster, 20);
    let bytes = cluster.sent_bytes - before - idle_bytes * (heartbeats as usize + 20) / 10;
    assert_eq!(scrubbed(&cluster, 1).repaired, 1);
    assert!(bytes < BYTES_MAX, "{bytes} bytes, {heartbeats} heartbeats; ten idle ones take {idle_bytes}");
}

#[test]
fn what_a_sweep_brought_is_compared_too() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    cluster.write(b"SET k one\n");
    beat(&mut cluster, 4);
    lose(&mut cluster, 1, "k");
    mend(&mut cluster);
    assert_eq!(cluster.ask(1, "GET k"), "one");
}
