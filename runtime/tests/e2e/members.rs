//! Members that come and go, the deletes that wait for them, and counters that count through it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{expect_equal_digests, expect_everywhere, mesh};
use crate::harness::{Client, Node, PATIENCE, eventually, shared_machine};

/// With all members up, what a delete takes is back within this.
const COLLECTED_WITHIN: Duration = Duration::from_secs(10);

/// Waits until no node has a tombstone.
fn expect_no_tombstones(nodes: &[Node], within: Duration) {
    let mut clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    eventually("deletes are forgotten", within, || {
        let left: Vec<Value> = clients.iter_mut().map(|client| client.stats()["tombstones"].clone()).collect();
        if left.iter().all(|count| *count == 0) { Ok(()) } else { Err(format!("tombstones: {left:?}")) }
    });
}

/// The names of the members that `client`'s node says deletes wait for.
fn blockers(client: &mut Client) -> Vec<(String, String)> {
    let stats = client.stats();
    let blockers = stats["gc_blocked_by"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    blockers.iter().map(|blocker| (text(&blocker["node"]), text(&blocker["release"]))).collect()
}

#[test]
fn deletes_are_forgotten_once_all_have_seen_them() {
    let _machine = shared_machine();
    let nodes = mesh(&[]);
    let mut client = nodes[0].client();
    let empty = client.stats()["memory_bytes"].as_u64().expect("a number");
    for key in 0..5_000 {
        client.send(format!("SET gone-{key} {key}\nDEL gone-{key}\n").as_bytes());
    }
    (0..10_000).for_each(|_| assert_eq!(client.line(), "OK"));
    expect_no_tombstones(&nodes, COLLECTED_WITHIN);
    let stats = client.stats();
    assert_eq!((&stats["oldest_tombstone_ms"], &stats["gc_blocked_by"]), (&Value::from(0), &Value::Array(vec![])));
    // The ring of newest records stays, as do the slots' tables, and the table of a megabyte by which deletes that are
    // forgotten are told from losses.
    let grown = stats["memory_bytes"].as_u64().expect("a number").saturating_sub(empty);
    assert!(grown < (1 << 20) + 5_000 * 100, "{grown} bytes more than before");
    expect_everywhere(&nodes, "gone-4999", "Key not found", Duration::from_secs(1));
}

#[test]
fn an_absent_member_holds_deletes_up_until_it_is_forgotten() {
    let _machine = shared_machine();
    let nodes = mesh(&[]);
    let mut client = nodes[0].client();
    client.set("kept", "yes");
    client.set("dropped", "yes");
    expect_everywhere(&nodes, "dropped", "yes", PATIENCE);
    nodes[2].signal(Signal::STOP);
    assert_eq!(client.ask("DEL dropped"), "OK");
    let (name, release) = eventually("who holds deletes up is named", PATIENCE, || {
        let blockers = blockers(&mut client);
        blockers.first().filter(|(_, release)| !release.is_empty()).cloned().ok_or(format!("{blockers:?}"))
    });
    assert_eq!(release, format!("FORGET {name}"));
    assert!(client.ask(&format!("FORGET {name}-x")).contains("is no member's name"));
    let own = client.stats()["node"].as_str().expect("a name").to_owned();
    assert!(client.ask(&format!("FORGET {own}")).contains("is this node itself"));
    let other = nodes[1].client().stats()["node"].as_str().expect("a name").to_owned();
    assert!(client.ask(&format!("FORGET {other}")).contains("is up"));
    assert_eq!(client.stats()["tombstones"], 1);
    assert_eq!(client.ask(&release), "OK");
    expect_no_tombstones(&nodes[..2], COLLECTED_WITHIN);
    // It still holds the value, and is told.
    nodes[2].signal(Signal::CONT);
    nodes[2].logged("back in the cluster: peers may see what this node holds", PATIENCE);
    expect_everywhere(&nodes, "dropped", "Key not found", PATIENCE);
    expect_everywhere(&nodes, "kept", "yes", PATIENCE);
    nodes[2].client().set("after", "yes");
    expect_everywhere(&nodes, "after", "yes", PATIENCE);
    expect_equal_digests(&nodes);
}

#[test]
fn an_absence_as_long_as_was_configured_is_the_end_of_membership() {
    let _machine = shared_machine();
    let mut nodes = mesh(&["--forget-after", "5"]);
    let mut client = nodes[0].client();
    client.set("dropped", "yes");
    nodes[2].kill();
    nodes.truncate(2);
    assert_eq!(client.ask("DEL dropped"), "OK");
    expect_no_tombstones(&nodes, PATIENCE);
}

#[test]
fn a_member_that_leaves_takes_nothing_with_it() {
    let _machine = shared_machine();
    let mut nodes = mesh(&[]);
    let mut leaver = nodes[2].client();
    for key in 0..1_000 {
        leaver.send(format!("SET left-{key} {key}\n").as_bytes());
    }
    (0..1_000).for_each(|_| assert_eq!(leaver.line(), "OK"));
    assert_eq!(leaver.ask("LEAVE"), "OK");
    assert!(leaver.ask("SET late write").starts_with("Error:"));
    nodes[2].kill();
    nodes.truncate(2);
    expect_everywhere(&nodes, "left-999", "999", Duration::from_secs(1));
    assert_eq!(nodes[0].client().stats()["keys"], nodes[1].client().stats()["keys"]);
    // Nobody waits for it.
    assert_eq!(nodes[0].client().ask("DEL left-0"), "OK");
    expect_no_tombstones(&nodes, COLLECTED_WITHIN);
    // Alone with a peer that is gone, the last one cannot leave.
    nodes[1].kill();
    let mut last = nodes[0].client();
    eventually("the last one stays", PATIENCE, || {
        let answer = last.ask("LEAVE");
        if answer.starts_with("Error: no other node") { Ok(()) } else { Err(answer) }
    });
    last.set("still", "here");
}

#[test]
fn counters_add_up_through_freezes() {
    const ROUNDS: i64 = 3_000;
    let _machine = shared_machine();
    let nodes = mesh(&[]);
    let mut clients: Vec<Client> = nodes.iter().map(Node::client).collect();
    clients[0].set("hits", "100");
    expect_everywhere(&nodes, "hits", "100", PATIENCE);
    let begin = Instant::now();
    nodes[2].signal(Signal::STOP);
    for round in 0..ROUNDS {
        let command = if round % 3 == 2 { "DECRBY hits 2\n" } else { "INCR hits\n" };
        clients.iter_mut().for_each(|client| client.send(command.as_bytes()));
    }
    for client in &mut clients[..2] {
        (0..ROUNDS).for_each(|_| assert!(client.line().parse::<i64>().is_ok()));
    }
    // A link that was thought alive is not: what is frozen is noticed, and caught up with.
    eventually("the freeze is noticed", PATIENCE, || {
        let stats = clients[0].stats();
        let down = stats["peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer["state"] != "up"));
        if down { Ok(()) } else { Err(format!("{}, {:?}", stats["peers"], begin.elapsed())) }
    });
    nodes[2].signal(Signal::CONT);
    (0..ROUNDS).for_each(|_| assert!(clients[2].line().parse::<i64>().is_ok()));
    // Each three rounds add and take away the same.
    expect_everywhere(&nodes, "hits", "100", PATIENCE);
    for (client, amount) in clients.iter_mut().zip([7, 11, 13]) {
        client.ask(&format!("INCRBY hits {amount}"));
    }
    expect_everywhere(&nodes, "hits", "131", PATIENCE);
    assert_eq!(clients[1].ask("DEL hits"), "OK");
    expect_everywhere(&nodes, "hits", "Key not found", PATIENCE);
    assert_eq!(clients[2].ask("INCR hits"), "1");
    expect_everywhere(&nodes, "hits", "1", PATIENCE);
    expect_equal_digests(&nodes);
}

#[test]
fn counters_add_up_through_kills_and_what_ended_runs_added_is_folded() {
    const ROUNDS: u64 = 4;
    let _machine = shared_machine();
    let mut nodes = mesh(&[]);
    let mut sum = 0;
    for round in 0..ROUNDS {
        let victim = 1 + (round % 2) as usize;
        let mut client = nodes[victim].client();
        for _ in 0..100 {
            client.ask("INCRBY hits 3");
        }
        assert_eq!(client.ask("WAIT 2 5000"), "2");
        nodes[victim].kill();
        nodes[victim] = Node::join(nodes[victim].port(), &[nodes[0].port()], &[]);
        // At once: it may not have found its cluster yet.
        nodes[victim].client().ask("INCR hits");
        sum += 301;
        expect_everywhere(&nodes, "hits", &sum.to_string(), PATIENCE);
    }
    let mut client = nodes[0].client();
    eventually("what ended runs added is folded", PATIENCE, || {
        let stats = client.stats();
        let folded = stats["folded"].as_u64().is_some_and(|folded| folded >= ROUNDS);
        if folded { Ok(()) } else { Err(format!("{} of {} retired", stats["folded"], stats["retired"])) }
    });
    expect_everywhere(&nodes, "hits", &sum.to_string(), PATIENCE);
    expect_equal_digests(&nodes);
}
