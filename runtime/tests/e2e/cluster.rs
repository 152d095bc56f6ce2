//! Three processes started as the README starts them, through freezes, kills and restarts.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Client, Node, PATIENCE, eventually, free_port, quiet_machine};

/// A write is everywhere within this.
const CONVERGED_WITHIN: Duration = Duration::from_secs(1);
/// Half of all writes are everywhere within this.
const MEDIAN_LATENCY_MAX: Duration = Duration::from_millis(50);
/// No answer takes longer, whatever happens to the others. A shared machine can take the processor away for a while.
const ANSWER_MAX: Duration = Duration::from_millis(250);
/// The digest's cut moves every ten seconds: two nodes stand at the same one soon after.
const SAME_CUT_WITHIN: Duration = Duration::from_secs(15);

/// `simple-kv P1`, `simple-kv P2 localhost:P1`, `simple-kv P3 localhost:P1`, linked each to each.
pub(crate) fn mesh(flags: &[&str]) -> Vec<Node> {
    let first = free_port();
    let nodes = vec![
        Node::join(first, &[], flags),
        Node::join(free_port(), &[first], flags),
        Node::join(free_port(), &[first], flags),
    ];
    wait_for_links(&nodes, 2);
    nodes
}

/// Waits until every node sees `count` peers that are up and says so by what a write does: it reaches all.
fn wait_for_links(nodes: &[Node], count: usize) {
    for (index, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        eventually("links are up", PATIENCE, || {
            let stats = client.stats();
            let peers = stats["peers"].as_array().map_or(0, Vec::len);
            if peers == count { Ok(()) } else { Err(format!("node {index} says {}", stats["peers"])) }
        });
        let key = format!("linked-{index}");
        client.set(&key, "yes");
        expect_everywhere(nodes, &key, "yes", PATIENCE);
    }
}

pub(crate) fn expect_everywhere(nodes: &[Node], key: &str, value: &str, within: Duration) {
    for (index, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        eventually("a write is everywhere", within, || {
            let found = client.ask(&format!("GET {key}"));
            if found == value { Ok(()) } else { Err(format!("node {index} has {found:?} under {key}")) }
        });
    }
}

/// Waits until all nodes have the same digest at the same cut.
pub(crate) fn expect_equal_digests(nodes: &[Node]) {
    let mut clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    eventually("digests are equal", SAME_CUT_WITHIN + CONVERGED_WITHIN, || {
        let seen: Vec<(Value, Value, Value)> = clients
            .iter_mut()
            .map(Client::stats)
            .map(|stats| (stats["digest_at"].clone(), stats["digest"].clone(), stats["keys"].clone()))
            .collect();
        let is_equal = seen.iter().all(|one| *one == seen[0]) && !seen[0].1.is_null();
        if is_equal { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// Times from a write on one node until both others have it, in order.
fn replication_latencies(nodes: &[Node], writer: usize, count: usize) -> Vec<Duration> {
    let mut clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    let mut latencies: Vec<Duration> = (0..count)
        .map(|round| {
            let (key, value) = (format!("timed-{writer}"), format!("round-{round}"));
            let begin = Instant::now();
            clients[writer].set(&key, &value);
            let question = format!("GET {key}");
            for client in &mut clients {
                while client.ask(&question) != value {
                    assert!(begin.elapsed() < PATIENCE, "a write is not everywhere");
                }
            }
            begin.elapsed()
        })
        .collect();
    latencies.sort();
    latencies
}

/// Writes through `client` for `how_long` and returns the keys' count and the slowest answer.
fn write_for(client: &mut Client, prefix: &str, value: &str, how_long: Duration) -> (usize, Duration) {
    let begin = Instant::now();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while begin.elapsed() < how_long {
        slowest = slowest.max(client.time(&format!("SET {prefix}-{count} {value}")));
        count += 1;
    }
    (count, slowest)
}

#[test]
fn three_nodes_close_the_mesh_and_hold_the_same() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    for (index, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        for number in 0..100 {
            client.set(&format!("from-{index}-{number}"), &format!("value-{number}"));
        }
        assert_eq!(client.ask(&format!("DEL from-{index}-0")), "OK");
    }
    for index in 0..nodes.len() {
        expect_everywhere(&nodes, &format!("from-{index}-99"), "value-99", CONVERGED_WITHIN);
        expect_everywhere(&nodes, &format!("from-{index}-0"), "Key not found", CONVERGED_WITHIN);
    }
    expect_equal_digests(&nodes);
}

#[test]
fn concurrent_writes_to_one_key_end_the_same_everywhere() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    let mut clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    for round in 0..200 {
        for client in &mut clients {
            client.send(format!("SET contended {round}\n").as_bytes());
        }
        for client in &mut clients {
            assert_eq!(client.line(), "OK");
        }
    }
    expect_everywhere(&nodes, "contended", "199", CONVERGED_WITHIN);
    expect_equal_digests(&nodes);
}

#[test]
fn a_write_is_everywhere_within_fifty_milliseconds_at_the_median() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    for writer in 0..nodes.len() {
        let latencies = replication_latencies(&nodes, writer, 200);
        let median = latencies[latencies.len() / 2];
        println!("node {writer}: median {median:?}, slowest {:?}", latencies[latencies.len() - 1]);
        assert!(median < MEDIAN_LATENCY_MAX, "node {writer}: median {median:?}");
    }
}

#[test]
fn a_frozen_node_delays_nobody_and_catches_up() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    check_freeze(&nodes, "small", Duration::from_secs(3));
}

#[test]
fn a_frozen_node_catches_up_on_more_than_the_ring_holds() {
    let _machine = quiet_machine();
    let nodes = mesh(&["--ring-size", "256KiB"]);
    let before: Vec<u64> = nodes.iter().map(Node::resident_bytes).collect();
    let value = "v".repeat(4096);
    let written = check_freeze(&nodes, &value, Duration::from_secs(3)) as u64 * (4096 + 128);
    for (node, before) in nodes.iter().zip(before) {
        // What was written, the tables for it, and nothing that grows with the time of the freeze.
        let grown = node.resident_bytes().saturating_sub(before);
        assert!(grown < written * 3 / 2 + (32 << 20), "grew by {grown} bytes for {written} written");
    }
}

/// Freezes the third node while the others are written to; returns how many keys they took.
fn check_freeze(nodes: &[Node], value: &str, how_long: Duration) -> usize {
    let mut clients: Vec<Client> = nodes[..2].iter().map(Node::client).collect();
    nodes[2].signal(Signal::STOP);
    let mut counts = Vec::new();
    for (index, client) in clients.iter_mut().enumerate() {
        let (count, slowest) = write_for(client, &format!("frozen-{index}"), value, how_long / 2);
        println!("node {index}: {count} writes, slowest {slowest:?}");
        assert!(slowest < ANSWER_MAX, "node {index} took {slowest:?} while another was frozen");
        counts.push(count);
    }
    for (index, count) in counts.iter().enumerate() {
        expect_everywhere(&nodes[..2], &format!("frozen-{index}-{}", count - 1), value, CONVERGED_WITHIN);
    }
    nodes[2].signal(Signal::CONT);
    for (index, count) in counts.iter().enumerate() {
        for number in [0, count / 2, count - 1] {
            expect_everywhere(nodes, &format!("frozen-{index}-{number}"), value, PATIENCE);
        }
    }
    nodes[2].client().set("thawed", "yes");
    expect_everywhere(nodes, "thawed", "yes", PATIENCE);
    expect_equal_digests(nodes);
    counts.iter().sum()
}

#[test]
fn a_killed_node_is_refilled_when_it_names_a_peer() {
    check_restart(2, |nodes| Node::join(nodes[2].port(), &[nodes[0].port()], &[]));
}

#[test]
fn a_killed_node_is_found_again_when_it_names_nobody() {
    check_restart(2, |nodes| Node::join(nodes[2].port(), &[], &[]));
}

#[test]
fn the_node_that_all_others_named_is_found_again() {
    check_restart(0, |nodes| Node::join(nodes[0].port(), &[], &[]));
}

fn check_restart(victim: usize, restart: impl Fn(&[Node]) -> Node) {
    let _machine = quiet_machine();
    let mut nodes = mesh(&[]);
    for (index, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        for number in 0..500 {
            client.set(&format!("kept-{index}-{number}"), "value");
        }
        client.ask(&format!("DEL kept-{index}-0"));
    }
    for index in 0..3 {
        expect_everywhere(&nodes, &format!("kept-{index}-499"), "value", CONVERGED_WITHIN);
        expect_everywhere(&nodes, &format!("kept-{index}-0"), "Key not found", CONVERGED_WITHIN);
    }
    nodes[victim].kill();
    let survivor = usize::from(victim == 0);
    let mut client = nodes[survivor].client();
    let (_, slowest) = write_for(&mut client, "meanwhile", "value", Duration::from_millis(500));
    assert!(slowest < ANSWER_MAX, "took {slowest:?} while another was dead");
    client.ask("DEL kept-1-1");
    nodes[victim] = restart(&nodes);
    for (key, value) in [("kept-0-499", "value"), ("kept-2-499", "value"), ("meanwhile-0", "value")] {
        expect_everywhere(&nodes, key, value, PATIENCE);
    }
    expect_everywhere(&nodes, "kept-1-1", "Key not found", PATIENCE);
    nodes[victim].client().set("returned", "yes");
    expect_everywhere(&nodes, "returned", "yes", PATIENCE);
    expect_equal_digests(&nodes);
}
