//! Hashes and sets on several nodes: what is written apart comes together, however it gets there.

use std::collections::BTreeSet;

use crate::harness::Cluster;
use crate::retire::{PEERS, pass};

/// Until cut links are made again and what was missed is there.
const WITHIN_MS: u64 = 20_000;

/// What all nodes answer, which is the same and has been mended by nobody.
#[track_caller]
fn all(cluster: &mut Cluster, command: &str) -> String {
    let mut answer = |node| {
        let answer = cluster.ask(node, command);
        let mut lines: Vec<&str> = answer.lines().collect();
        if command.starts_with("SMEMBERS") {
            lines.sort_unstable();
        }
        lines.join(" ")
    };
    let mut answers: Vec<String> = (0..3).map(&mut answer).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{command}: {answers:?}");
    let digests: Vec<_> = cluster.turns.iter().map(|turn| turn.node().digest()).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    for turn in &cluster.turns {
        assert_eq!(turn.node().scrubbed().found, 0);
    }
    answers.swap_remove(0)
}

/// Three nodes, of which the first two hear each other and not the third.
fn apart(cluster: &mut Cluster) {
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    pass(cluster, 1_000);
}

fn together(cluster: &mut Cluster) {
    cluster.heal();
    pass(cluster, WITHIN_MS);
}

#[test]
fn fields_that_are_written_apart_come_together() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "HSET user name Ann age 7");
    cluster.ask(1, "HINCRBY user visits 1");
    pass(&mut cluster, 500);
    apart(&mut cluster);
    cluster.ask(0, "HSET user town Rome name Bob");
    cluster.ask(0, "HINCRBY user visits 10");
    pass(&mut cluster, 500);
    cluster.ask(2, "HSET user street Main");
    cluster.ask(2, "HDEL user age");
    cluster.ask(2, "HINCRBY user visits 100");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "HMGET user name age town street visits"), "Bob Key not found Rome Main 111");
    assert_eq!(all(&mut cluster, "HLEN user"), "4");
    assert_eq!(all(&mut cluster, "DBSIZE"), "1");
}

#[test]
fn what_is_added_while_it_is_removed_elsewhere_stays() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "SADD tags red blue green");
    pass(&mut cluster, 500);
    apart(&mut cluster);
    // Added again before and after it is removed elsewhere.
    cluster.ask(0, "SADD tags red");
    pass(&mut cluster, 500);
    cluster.ask(2, "SREM tags red blue green");
    pass(&mut cluster, 500);
    cluster.ask(1, "SADD tags blue black");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "SMEMBERS tags"), "black blue red");
    // Who sees them removes them.
    cluster.ask(2, "SREM tags red blue");
    pass(&mut cluster, 500);
    assert_eq!(all(&mut cluster, "SMEMBERS tags"), "black");
    assert_eq!(all(&mut cluster, "SCARD tags"), "1");
}

#[test]
fn a_deleted_hash_keeps_what_was_written_later_elsewhere_and_nothing_else() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "HSET user name Ann age 7");
    cluster.ask(1, "HINCRBY user visits 5");
    pass(&mut cluster, 500);
    apart(&mut cluster);
    cluster.ask(2, "HSET user early 1");
    cluster.ask(2, "HINCRBY user visits 1");
    pass(&mut cluster, 500);
    cluster.ask(0, "DEL user");
    pass(&mut cluster, 500);
    cluster.ask(2, "HSET user late 1");
    cluster.ask(2, "HINCRBY user fresh 3");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "HMGET user name age visits early late fresh").matches("Key not found").count(), 4);
    assert_eq!(all(&mut cluster, "HMGET user late fresh"), "1 3");
    // The delete is forgotten, and nothing comes back.
    pass(&mut cluster, 120_000);
    assert_eq!(all(&mut cluster, "HLEN user"), "2");
    for turn in &cluster.turns {
        assert_eq!(turn.node().graves(), 0);
    }
    cluster.ask(1, "HINCRBY user visits 2");
    pass(&mut cluster, 500);
    assert_eq!(all(&mut cluster, "HGET user visits"), "2");
}

#[test]
fn a_string_and_a_hash_at_once_are_one_thing_everywhere() {
    for (first, last, kind) in [("SET k text", "HSET k f v", "hash"), ("HSET k f v", "SET k text", "string")] {
        let mut cluster = Cluster::of_three();
        apart(&mut cluster);
        cluster.ask(0, first);
        pass(&mut cluster, 500);
        cluster.ask(2, last);
        together(&mut cluster);
        assert_eq!(all(&mut cluster, "TYPE k"), kind);
        assert_eq!(all(&mut cluster, "KEYS *"), "k");
        cluster.ask(1, "DEL k");
        pass(&mut cluster, 500);
        assert_eq!(all(&mut cluster, "EXISTS k"), "0");
    }
}

#[test]
fn a_sweep_brings_what_stands_and_drops_what_was_deleted_meanwhile() {
    let mut cluster = Cluster::of_three();
    for field in 0..500 {
        cluster.ask(0, &format!("HSET big f{field} {field:040}"));
        cluster.ask(1, &format!("SADD set m{}", field % 100));
    }
    cluster.ask(0, "HSET gone a 1 b 2");
    pass(&mut cluster, 1_000);
    apart(&mut cluster);
    cluster.ask(1, "DEL gone");
    // More than the ring holds.
    for field in 0..1_500 {
        cluster.ask(0, &format!("HSET big f{} {:060}", field % 400, field));
    }
    cluster.ask(0, "SREM set m7 m8");
    cluster.ask(2, "SADD set m7");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "HLEN big"), "500");
    assert_eq!(all(&mut cluster, "HGET big f100"), format!("{:060}", 1_300));
    assert_eq!(all(&mut cluster, "SMISMEMBER set m6 m7 m8"), "1 1 0");
    assert_eq!(all(&mut cluster, "EXISTS gone"), "0");
    // One that comes back with nothing gets all of it.
    cluster.restart(2, PEERS[2]);
    pass(&mut cluster, WITHIN_MS);
    assert_eq!(all(&mut cluster, "HLEN big"), "500");
    assert_eq!(all(&mut cluster, "SCARD set"), "99");
    assert_eq!(all(&mut cluster, "DBSIZE"), "2");
}

#[test]
fn what_is_written_before_the_cluster_is_met_is_written_anew_with_its_key() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "SET k text");
    cluster.ask(0, "HSET other old 1");
    // Something is forgotten, so what is stamped too low must not be shown.
    cluster.ask(0, "SET forgotten 1");
    cluster.ask(0, "DEL forgotten");
    pass(&mut cluster, 20_000);
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    cluster.restart(2, PEERS[2]);
    // The others' clocks are ahead of all that it writes, so they get all of that under later stamps.
    cluster.ask(0, "SET now 1");
    cluster.skew(2, -5_000);
    for command in
        ["SET k gone", "DEL k", "HSET k f 1 g 2", "HINCRBY k n 3", "SET other x", "DEL other", "SADD other m"]
    {
        cluster.ask(2, command);
    }
    let own = cluster.turns[2].node().origin();
    cluster.skew(2, 0);
    together(&mut cluster);
    assert_ne!(cluster.turns[2].node().origin(), own, "it writes as another");
    assert_eq!(all(&mut cluster, "HMGET k f g n"), "1 2 3");
    assert_eq!(all(&mut cluster, "TYPE k"), "hash");
    assert_eq!(all(&mut cluster, "TYPE other"), "set");
    assert_eq!(all(&mut cluster, "SMEMBERS other"), "m");
}

/// Numbers that a seed gives, one after the other (SplitMix64).
struct Draw {
    state: u64,
    /// Keys expire, are flushed, and are moved to another keyspace.
    ends: bool,
}

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A command on one of few keys, which holds a set if its name says so, and now and then something else.
    fn command(&mut self, step: u64) -> String {
        let key = ["h", "i", "s", "t"][self.below(4) as usize];
        let (field, other) = (self.below(4), self.below(4));
        if self.ends && self.below(5) == 0 {
            return match self.below(12) {
                0 => "FLUSHDB".to_owned(),
                1 => format!("MOVE {key} 5"),
                2 => format!("COPY {key} {key} DB 5 REPLACE"),
                3 | 4 => format!("SELECT {}", 5 * self.below(2)),
                5 => format!("PERSIST {key}"),
                6 => format!("HPERSIST {key} FIELDS 2 f{field} n{other}"),
                7 => format!("HPEXPIRE {key} {} FIELDS 2 f{field} n{other}", 1 + self.below(15_000)),
                _ => format!("PEXPIRE {key} {}", 1 + self.below(15_000)),
            };
        }
        match self.below(16) {
            0 => format!("DEL {key}"),
            1 => format!("SET {key} {step}"),
            2 => format!("RENAME {key} {}", ["h", "i", "s", "t"][self.below(4) as usize]),
            3 => format!("SMOVE {key} t m{field}"),
            4..7 if key < "s" => format!("HDEL {key} f{field} f{other}"),
            7..10 if key < "s" => format!("HINCRBY {key} n{field} {}", step + 1),
            _ if key < "s" => format!("HSET {key} f{field} {step} f{other} x{step}"),
            4..9 => format!("SREM {key} m{field} m{other}"),
            _ => format!("SADD {key} m{field} m{other}"),
        }
    }
}

/// All that a node shows of a key, in any order.
fn shown(cluster: &mut Cluster, node: usize, key: &str) -> Vec<String> {
    let kind = cluster.ask(node, &format!("TYPE {key}"));
    let (list, count) = match &*kind {
        "hash" => (format!("HGETALL {key}"), format!("HLEN {key}")),
        "set" => (format!("SMEMBERS {key}"), format!("SCARD {key}")),
        "string" => return vec![cluster.ask(node, &format!("GET {key}"))],
        _ => return Vec::new(),
    };
    let (list, count) = (cluster.ask(node, &list), cluster.ask(node, &count));
    let parts: Vec<&str> = list.lines().collect();
    let width = if kind == "hash" { 2 } else { 1 };
    let shown: BTreeSet<String> = parts.chunks(width).map(|part| part.join(" ")).collect();
    assert_eq!(count, shown.len().to_string(), "{key} of {node}: {list}");
    let left = cluster.ask(node, &format!("PTTL {key}"));
    shown.into_iter().chain([left]).collect()
}

/// All nodes show the same of all keys.
#[track_caller]
fn agree(cluster: &mut Cluster, seed: u64) {
    for space in [0, 5] {
        (0..3).for_each(|node| drop(cluster.ask(node, &format!("SELECT {space}"))));
        for key in ["h", "i", "s", "t"] {
            let first = shown(cluster, 0, key);
            for node in 1..3 {
                assert_eq!(shown(cluster, node, key), first, "seed {seed}: {key} of {node} in {space}");
            }
        }
    }
}

/// Whatever three nodes do with few keys, cut off from each other and not, and started again with nothing: in the end
/// they show the same.
#[test]
fn whatever_is_done_apart_ends_the_same_everywhere() {
    for seed in 0..150 {
        let (mut draw, mut cluster) = (Draw { state: seed, ends: seed % 2 == 1 }, Cluster::of_three());
        let restarts = seed % 3 == 0;
        for step in 0..80 {
            let (node, other) = (draw.below(3) as usize, draw.below(3) as usize);
            match draw.below(24) {
                0 | 1 if node != other => cluster.cut(node, other),
                2 | 3 => cluster.heal(),
                4 if restarts => cluster.restart(node, PEERS[node]),
                5 => pass(&mut cluster, 3_000),
                _ => {
                    let command = draw.command(step);
                    cluster.ask(node, &command);
                }
            }
            let ms = draw.below(300);
            pass(&mut cluster, ms);
        }
        together(&mut cluster);
        agree(&mut cluster, seed);
        // What has expired is freed a minute later, and then forgotten.
        pass(&mut cluster, if draw.ends { 6 * WITHIN_MS } else { 2 * WITHIN_MS });
        agree(&mut cluster, seed);
        // The cut of a digest moves by and by.
        let digests =
            |cluster: &Cluster| -> BTreeSet<_> { cluster.turns.iter().map(|turn| turn.node().digest()).collect() };
        for _ in 0..20 {
            if digests(&cluster).len() > 1 {
                pass(&mut cluster, 100);
            }
        }
        assert_eq!(digests(&cluster).len(), 1, "seed {seed}");
        let found: u64 = cluster.turns.iter().map(|turn| turn.node().scrubbed().found).sum();
        assert!(restarts || found == 0, "seed {seed}: {found} found by scrubbing");
        let graves: u64 = cluster.turns.iter().map(|turn| turn.node().graves()).sum();
        assert_eq!(graves, 0, "seed {seed}: all that was deleted is forgotten");
    }
}

#[test]
fn a_hash_expires_everywhere_with_what_is_written_to_it_later() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "HSET user name Ann age 7");
    cluster.ask(0, "SADD tags red blue");
    cluster.ask(1, "EXPIRE user 20");
    cluster.ask(1, "EXPIRE tags 20");
    pass(&mut cluster, 500);
    cluster.ask(2, "HSET user town Rome");
    cluster.ask(2, "HINCRBY user visits 3");
    cluster.ask(0, "SADD tags green red");
    pass(&mut cluster, 500);
    assert_eq!(all(&mut cluster, "PTTL user"), all(&mut cluster, "PTTL tags"));
    assert_eq!(all(&mut cluster, "HMGET user name town visits"), "Ann Rome 3");
    assert_eq!((all(&mut cluster, "HLEN user"), all(&mut cluster, "SCARD tags")), ("4".to_owned(), "3".to_owned()));
    pass(&mut cluster, 20_000);
    assert_eq!(all(&mut cluster, "EXISTS user tags"), "0");
    assert_eq!(all(&mut cluster, "HMGET user name town visits").matches("Key not found").count(), 3);
    assert_eq!(all(&mut cluster, "SMEMBERS tags"), "(none)");
    pass(&mut cluster, 10_000);
    assert_eq!(all(&mut cluster, "DBSIZE"), "0");
    pass(&mut cluster, 120_000);
    assert!(cluster.turns.iter().all(|turn| turn.node().graves() == 0));
}

#[test]
fn of_an_expiry_and_a_write_at_the_same_time_each_element_has_one() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "HSET user name Ann age 7 town Rome");
    cluster.ask(0, "SADD tags red blue green");
    pass(&mut cluster, 500);
    apart(&mut cluster);
    cluster.ask(2, "HSET user name Bob");
    cluster.ask(2, "SREM tags red");
    cluster.ask(2, "SADD tags black");
    pass(&mut cluster, 500);
    cluster.ask(0, "EXPIRE user 30");
    cluster.ask(0, "EXPIRE tags 30");
    pass(&mut cluster, 500);
    cluster.ask(2, "HDEL user age");
    cluster.ask(2, "SREM tags blue");
    together(&mut cluster);
    // What was written after the expiry has none, and neither has what was added and not seen.
    assert_eq!(all(&mut cluster, "HMGET user name town"), "Ann Rome");
    assert_eq!(all(&mut cluster, "SMEMBERS tags"), "black green red");
    assert_eq!(all(&mut cluster, "TTL tags"), "-1");
    pass(&mut cluster, 15_000);
    assert_eq!(all(&mut cluster, "EXISTS user"), "0");
    assert_eq!(all(&mut cluster, "SMEMBERS tags"), "black");
    assert_eq!(all(&mut cluster, "SCARD tags"), "1");
}

#[test]
fn persisting_on_one_node_and_expiring_on_another_leaves_one_of_both_to_each_element() {
    let mut cluster = Cluster::of_three();
    cluster.ask(0, "HSET user name Ann age 7");
    cluster.ask(0, "EXPIRE user 25");
    pass(&mut cluster, 500);
    apart(&mut cluster);
    cluster.ask(0, "PERSIST user");
    pass(&mut cluster, 500);
    cluster.ask(2, "PEXPIRE user 10000");
    pass(&mut cluster, 500);
    cluster.ask(1, "HSET user name Bob");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "HGETALL user"), "name Bob");
    assert_eq!(all(&mut cluster, "TTL user"), "-1");
}

#[test]
fn a_flush_takes_the_elements_of_its_keyspace_everywhere() {
    let mut cluster = Cluster::of_three();
    for space in [0, 5] {
        cluster.ask(0, &format!("SELECT {space}"));
        cluster.ask(0, "HSET h f 1");
        cluster.ask(0, "HINCRBY h n 5");
        cluster.ask(0, "SADD s a b");
    }
    (0..3).for_each(|node| drop(cluster.ask(node, "SELECT 5")));
    pass(&mut cluster, 500);
    apart(&mut cluster);
    cluster.ask(2, "HSET h early 1");
    pass(&mut cluster, 500);
    cluster.ask(0, "FLUSHDB");
    assert_eq!(cluster.ask(0, "DBSIZE"), "0");
    pass(&mut cluster, 500);
    cluster.ask(2, "HINCRBY h n 1");
    cluster.ask(2, "HSET h late 1");
    together(&mut cluster);
    assert_eq!(all(&mut cluster, "HMGET h f early late"), "Key not found Key not found 1");
    assert_eq!((all(&mut cluster, "EXISTS s"), all(&mut cluster, "DBSIZE")), ("0".to_owned(), "1".to_owned()));
    (0..3).for_each(|node| drop(cluster.ask(node, "SELECT 0")));
    assert_eq!((all(&mut cluster, "HMGET h f n"), all(&mut cluster, "DBSIZE")), ("1 5".to_owned(), "2".to_owned()));
    cluster.restart(1, PEERS[1]);
    pass(&mut cluster, WITHIN_MS);
    assert_eq!(all(&mut cluster, "SMEMBERS s"), "a b");
}
