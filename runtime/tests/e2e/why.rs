//! Who wrote what, and what was lost to a concurrent write, over real processes.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Client, Node, PATIENCE, eventually, free_port, quiet_machine};

/// A statement of what it holds comes from each member twice a second.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

fn named(name: &str, peers: &[u16]) -> Node {
    Node::join(free_port(), peers, &["--name", name])
}

/// The one line of JSON that answers `command`.
fn json(client: &mut Client, command: &str) -> Value {
    let line = client.ask(command);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command} was answered {line:?}: {error}"))
}

/// Waits until the `WHY` of `key` has these fields.
fn expect_why(node: &Node, key: &str, fields: &Value) {
    let mut client = node.client();
    eventually("WHY says so", PATIENCE.min(5 * HEARD_WITHIN), || {
        let line = client.ask(&format!("WHY {key}"));
        let why: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        let is_so = fields.as_object().expect("fields").iter().all(|(name, value)| why[name] == *value);
        if is_so { Ok(()) } else { Err(format!("{why}, and not {fields}")) }
    });
}

#[test]
fn who_wrote_a_key_is_told_by_who_never_met_the_writer() {
    let _machine = quiet_machine();
    let mut first = named("first", &[]);
    let second = named("second", &[first.port()]);
    expect_linked(&[&first, &second]);
    first.client().set("color", "blue");
    first.client().set("size", "small");
    assert_eq!(first.client().ask("DEL size"), "OK");
    let blue = json!({"state": "value", "value_bytes": 4, "node": "first", "held_by": ["first"], "not_yet": []});
    expect_why(&second, "color", &blue);
    first.kill();
    let third = named("third", &[second.port()]);
    let gone = json!({"state": "value", "node": "first", "held_by": ["second"], "not_yet": []});
    expect_why(&third, "color", &gone);
    expect_why(&third, "size", &json!({"state": "deleted", "value_bytes": null, "node": "first"}));
    expect_why(&second, "color", &json!({"held_by": ["third"], "not_yet": ["first"]}));
}

#[test]
fn what_a_concurrent_write_cost_is_listed_and_can_be_written_again() {
    let _machine = quiet_machine();
    let first = named("first", &[]);
    let second = named("second", &[first.port()]);
    expect_linked(&[&first, &second]);
    let mut clients = [first.client(), second.client()];
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "PONG"));
    // One stands still, and the other takes in all that came before: then it stands still too. Each is sent a write as
    // the first thing that it will find.
    first.stop();
    assert_eq!(clients[1].ask("PING"), "PONG");
    second.stop();
    clients[1].send(b"SET greeting \"two words\\x00\"\n");
    clients[0].send(b"SET greeting one\n");
    first.signal(Signal::CONT);
    assert_eq!(clients[0].line(), "OK");
    // Versions order by the millisecond, then by a count: within one millisecond either could win.
    let written_by = SystemTime::now() + Duration::from_millis(1);
    while SystemTime::now() <= written_by {
        std::thread::yield_now();
    }
    second.signal(Signal::CONT);
    assert_eq!(clients[1].line(), "OK");
    for client in &mut clients {
        eventually("both have noticed", PATIENCE, || {
            let stats = client.stats();
            let kept = (&stats["conflicts"], &stats["conflicts_kept"]);
            if kept == (&json!(1), &json!(1)) { Ok(()) } else { Err(format!("{kept:?}")) }
        });
    }
    let [one, two] = [0, 1].map(|client: usize| json(&mut clients[client], "CONFLICTS"));
    assert_eq!(one, two, "both writers tell the same");
    let (lost, won) = (&one[0]["lost"], &one[0]["won"]);
    assert_eq!((&one[0]["key"], one.as_array().map(Vec::len)), (&json!("greeting"), Some(1)));
    // The second came to its write later, so by the clocks of one machine it wins.
    assert_eq!((&lost["value"], &lost["node"], &lost["value_bytes"]), (&json!("one"), &json!("first"), &json!(3)));
    assert_eq!((&won["node"], &won["value_bytes"]), (&json!("second"), &json!(10)));
    let again = format!("SET greeting \"{}\"", lost["value"].as_str().expect("text"));
    assert_eq!(clients[1].ask(&again), "OK");
    assert_eq!(clients[1].ask("GET greeting"), "one");
    assert_eq!(json(&mut clients[1], "WHY greeting")["node"], "second");
}

fn expect_linked(nodes: &[&Node; 2]) {
    for node in nodes {
        let mut client = node.client();
        eventually("the link is up", PATIENCE, || {
            let stats = client.stats();
            if stats["peers"][0]["state"] == "up" { Ok(()) } else { Err(stats["peers"].to_string()) }
        });
    }
}
