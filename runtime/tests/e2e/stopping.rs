//! How the program ends.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Client, Node, PATIENCE, eventually, shared_machine};

/// A value that a line can carry, large enough that a few of them fill any socket.
const VALUE_BYTES: usize = 256 << 10;

/// A client that has asked for far more than sockets hold and reads none of it. The node holds its output by the time
/// that this returns.
fn deaf_client(node: &Node) -> Client {
    node.client().set("large", &"v".repeat(VALUE_BYTES));
    let mut client = node.client();
    client.send(&b"GET large\n".repeat(200));
    let mut other = node.client();
    eventually("the node has taken the first of them", PATIENCE, || {
        let commands = other.stats()["commands"].as_u64().unwrap_or(0);
        if commands > 5 { Ok(()) } else { Err(format!("{commands} commands")) }
    });
    client
}

#[test]
fn either_signal_stops_an_idle_node_with_exit_code_0() {
    let _machine = shared_machine();
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(&["0"]);
        let begin = Instant::now();
        node.signal(signal);
        assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
        assert!(begin.elapsed() < Duration::from_secs(1), "took {:?}", begin.elapsed());
    }
}

#[test]
fn what_was_received_is_answered_before_it_stops() {
    let _machine = shared_machine();
    const COMMANDS: usize = 4_000;
    let mut node = Node::start(&["0"]);
    let mut client = node.client();
    // On loopback it lies in the node's socket as soon as it was written.
    client.send(&b"PING\n".repeat(COMMANDS));
    node.signal(Signal::TERM);
    for number in 0..COMMANDS {
        assert_eq!(client.try_line().as_deref(), Ok("PONG"), "answer {number}");
    }
    assert!(client.try_line().is_err(), "the connection ends after the last answer");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn a_stopping_node_takes_no_more_connections() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let _deaf = deaf_client(&node);
    node.signal(Signal::TERM);
    node.logged("stopping; a second signal stops at once", PATIENCE);
    eventually("connections are refused", Duration::from_secs(1), || match Client::try_connect(node.address) {
        Err(_) => Ok(()),
        Ok(_) => Err("one was accepted".to_owned()),
    });
}

#[test]
fn a_client_that_does_not_read_cannot_keep_it_from_stopping() {
    let _machine = shared_machine();
    let mut node = Node::start(&["0"]);
    let _deaf = deaf_client(&node);
    let begin = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(4), "took {:?}", begin.elapsed());
}

#[test]
fn a_client_that_never_stops_sending_cannot_keep_it_from_stopping() {
    let _machine = shared_machine();
    let mut node = Node::start(&["0"]);
    let mut client = node.client();
    let mut replies = client.socket().try_clone().unwrap();
    let sender = std::thread::spawn(move || while client.socket().write_all(&b"PING\n".repeat(1_000)).is_ok() {});
    let reader = std::thread::spawn(move || std::io::copy(&mut replies, &mut std::io::sink()));
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    sender.join().unwrap();
    let _ = reader.join().unwrap();
}

#[test]
fn the_second_signal_stops_at_once() {
    let _machine = shared_machine();
    let mut node = Node::start(&["0"]);
    let _deaf = deaf_client(&node);
    let begin = Instant::now();
    node.signal(Signal::TERM);
    node.logged("stopping; a second signal stops at once", PATIENCE);
    node.signal(Signal::INT);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(1), "took {:?}", begin.elapsed());
}
