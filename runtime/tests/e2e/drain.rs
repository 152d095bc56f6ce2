//! A node that is stopped leaves what it wrote with its peers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Client, Node, PATIENCE, eventually, free_port, quiet_machine};

const STOPPING: &str = "stopping; a second signal stops at once";
/// What a peer says nothing for that is taken for dead.
const SILENCE: Duration = Duration::from_millis(1_800);

/// Two nodes without a disk, linked each way.
fn pair(flags: &[&str]) -> [Node; 2] {
    let first = free_port();
    let nodes = [Node::join(first, &[], flags), Node::join(free_port(), &[first], flags)];
    nodes.iter().for_each(Node::wait_until_ready);
    for (index, node) in nodes.iter().enumerate() {
        let mut client = node.client();
        client.set(&format!("linked-{index}"), "yes");
        assert_eq!(client.ask("WAIT 1 20000"), "1");
    }
    nodes
}

#[test]
fn what_clients_were_told_until_the_end_is_with_the_peer() {
    let _machine = quiet_machine();
    let [mut node, peer] = pair(&[]);
    let acknowledged = AtomicUsize::new(0);
    let counts: Vec<usize> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (mut connection, acknowledged) = (node.client(), &acknowledged);
                scope.spawn(move || {
                    let mut count = 0;
                    // Until the node ends the connection.
                    loop {
                        let sets = (count..count + 16).map(|at| format!("SET client-{client}-{at} v\n"));
                        if connection.socket().write_all(sets.collect::<String>().as_bytes()).is_err() {
                            return count;
                        }
                        for _ in 0..16 {
                            match connection.try_line().as_deref() {
                                Ok("OK") => count += 1,
                                Ok(other) => panic!("{other}"),
                                Err(_) => return count,
                            }
                        }
                        acknowledged.fetch_add(16, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        eventually("clients write", PATIENCE, || match acknowledged.load(Ordering::Relaxed) {
            2_000.. => Ok(()),
            count => Err(format!("{count} writes")),
        });
        node.signal(Signal::TERM);
        clients.into_iter().map(|client| client.join().expect("it is told nothing but OK")).collect()
    });
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    // At once: nothing is under way any more.
    let mut survivor = peer.client();
    for (client, count) in counts.into_iter().enumerate() {
        for at in 0..count {
            assert_eq!(survivor.ask(&format!("GET client-{client}-{at}")), "v", "{at} of {count}");
        }
    }
}

#[test]
fn a_peer_that_is_behind_is_waited_for() {
    const KEYS: usize = 400;
    let _machine = quiet_machine();
    let [mut node, peer] = pair(&[]);
    // More than sockets hold, and less than the ring.
    let value = "v".repeat(64 << 10);
    let sets: String = (0..KEYS).map(|at| format!("SET key-{at} {value}\n")).collect();
    let mut client = node.client();
    peer.stop();
    client.send(sets.as_bytes());
    (0..KEYS).for_each(|_| assert_eq!(client.line(), "OK"));
    node.signal(Signal::TERM);
    node.logged(STOPPING, PATIENCE);
    assert!(client.try_line().is_err(), "clients do not wait for that");
    peer.signal(Signal::CONT);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    let mut survivor = peer.client();
    for at in 0..KEYS {
        assert_eq!(survivor.ask(&format!("GET key-{at}")), value, "{at}");
    }
    node.logged("stopped", PATIENCE);
    assert!(node.log_line("do not have all that was written here").is_err());
}

#[test]
fn a_peer_that_stands_still_costs_no_more_than_the_time_for_it_and_is_named() {
    let _machine = quiet_machine();
    // Without it, a peer is given up with its link.
    for (seconds, least, most) in [
        (0, Duration::ZERO, Duration::from_millis(900)),
        (1, Duration::from_secs(1), SILENCE),
        (60, Duration::from_millis(500), Duration::from_secs(5)),
    ] {
        let [mut node, peer] = pair(&["--drain-timeout", &seconds.to_string()]);
        peer.stop();
        node.client().set("key", "value");
        let begin = Instant::now();
        node.signal(Signal::TERM);
        assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
        let took = begin.elapsed();
        assert!(least <= took && took < most, "{seconds} s: {took:?}");
        let warning =
            eventually("a warning", PATIENCE, || node.log_line("these do not have all that was written here"));
        assert!(warning.contains(&peer.address.to_string()) && warning.contains("keeps nothing"), "{warning}");
        peer.signal(Signal::CONT);
    }
}

#[test]
fn a_second_signal_ends_the_waiting_for_peers() {
    let _machine = quiet_machine();
    let [mut node, peer] = pair(&["--drain-timeout", "60"]);
    peer.stop();
    node.client().set("key", "value");
    node.signal(Signal::TERM);
    node.logged(STOPPING, PATIENCE);
    let begin = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(1));
    assert!(begin.elapsed() < SILENCE / 2, "took {:?}", begin.elapsed());
    peer.signal(Signal::CONT);
}

#[test]
fn who_has_nothing_to_leave_with_its_peers_does_not_wait() {
    let _machine = quiet_machine();
    let [mut node, peer] = pair(&[]);
    peer.stop();
    let begin = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    assert!(begin.elapsed() < SILENCE / 2, "took {:?}", begin.elapsed());
    peer.signal(Signal::CONT);
}

#[test]
fn who_waits_for_copies_is_answered_before_the_end() {
    let _machine = quiet_machine();
    let [mut node, peer] = pair(&[]);
    peer.stop();
    let mut client = node.client();
    client.send(b"SET key value\nWAIT 1 0\n");
    assert_eq!(client.line(), "OK");
    node.signal(Signal::TERM);
    node.logged(STOPPING, PATIENCE);
    peer.signal(Signal::CONT);
    assert_eq!(client.line(), "1");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn open_connections_are_told_at_once_that_the_node_is_not_ready() {
    let _machine = quiet_machine();
    let mut node = Node::start(&["0"]);
    // Somebody who never stops sending: there is time to ask in.
    let mut flood = node.client();
    let mut replies = flood.socket().try_clone().expect("a socket");
    let sender = thread::spawn(move || while flood.socket().write_all(&b"PING\n".repeat(1_000)).is_ok() {});
    let reader = thread::spawn(move || std::io::copy(&mut replies, &mut std::io::sink()));
    let mut open = TcpStream::connect(node.address).expect("the node listens");
    open.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert!(ready_over(&mut open).expect("an answer").starts_with("HTTP/1.1 200 "));
    node.signal(Signal::TERM);
    let told = loop {
        match ready_over(&mut open) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {}
            other => break other.expect("it is told before the end"),
        }
    };
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains(r#""why":"draining""#), "{told}");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    sender.join().expect("it ends");
    let _ = reader.join().expect("it ends");
}

/// What `/readyz` answers over a connection that stays.
fn ready_over(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Its body is one line, and the only one that ends with a brace.
    while !answer.ends_with(b"}\n") {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(String::from_utf8(answer).expect("text"))
}

#[test]
fn a_node_that_keeps_its_data_says_that_peers_get_it_later() {
    let _machine = quiet_machine();
    let data = crate::durable::Data::new();
    let first = free_port();
    let flags = ["--data-dir", data.text(), "--drain-timeout", "0"];
    let mut node = Node::join(first, &[], &flags);
    let peer = Node::join(free_port(), &[first], &[]);
    peer.wait_until_ready();
    let mut client: Client = node.client();
    client.set("early", "yes");
    assert_eq!(client.ask("WAIT 1 20000"), "1");
    peer.stop();
    client.set("late", "yes");
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    eventually("a warning", PATIENCE, || node.log_line("they get it once this node is back"));
    peer.signal(Signal::CONT);
    let node = Node::join(first, &[], &flags);
    eventually("the peer has it", PATIENCE, || match peer.client().ask("GET late").as_str() {
        "yes" => Ok(()),
        other => Err(other.to_owned()),
    });
    drop(node);
}
