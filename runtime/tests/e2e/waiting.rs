//! Waiting for other nodes, over real sockets: soon, truthfully, and without harm to anybody else.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::SockRef;

use crate::cluster::mesh;
use crate::harness::{Node, PATIENCE, eventually, free_port, quiet_machine, shared_machine};

/// Half of all waits for one copy are over within this.
const MEDIAN_WAIT_MAX: Duration = Duration::from_millis(5);

/// What a node may grow by while clients wait: room for the buffers of a few of them.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// More than the system buffers for one connection.
const FLOOD_BYTES_MAX: usize = 256 << 20;

#[test]
fn a_copy_is_waited_for_no_longer_than_it_takes() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    for node in &nodes {
        let mut client = node.client();
        let mut waits: Vec<Duration> = (0..200)
            .map(|round| {
                client.set("waited", &round.to_string());
                let begin = Instant::now();
                let copies: u32 = client.ask("WAIT 1 5000").parse().expect("a number");
                assert!((1..=2).contains(&copies), "{copies}");
                begin.elapsed()
            })
            .collect();
        waits.sort();
        println!("median {:?}, slowest {:?}", waits[100], waits[199]);
        assert!(waits[100] < MEDIAN_WAIT_MAX, "{waits:?}");
        client.set("waited", "for-all");
        assert_eq!(client.ask("WAIT 2 20000"), "2");
    }
}

#[test]
fn what_a_token_names_is_read_on_every_node() {
    let _machine = shared_machine();
    let nodes = mesh(&[]);
    let mut clients: Vec<_> = nodes.iter().map(Node::client).collect();
    for round in 0..300 {
        let (writer, reader) = (round % 3, (round + 1 + round / 3 % 2) % 3);
        clients[writer].set("named", &round.to_string());
        let token = clients[writer].ask("TOKEN");
        assert_eq!(clients[reader].ask(&format!("WAITFOR {token} 20000")), "OK");
        assert_eq!(clients[reader].ask("GET named"), round.to_string());
    }
    let unheard = "0000000000000001-0000000000000001";
    let cluster = clients[0].ask("TOKEN")[..8].to_owned();
    let begin = Instant::now();
    assert!(clients[0].ask(&format!("WAITFOR {cluster}-{unheard} 100")).starts_with("Error: that write is not here"));
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert!(clients[0].ask(&format!("WAITFOR 00000000-{unheard} 0")).contains("another cluster"));
}

#[test]
fn a_frozen_node_is_not_counted_before_it_goes_on() {
    let _machine = quiet_machine();
    let nodes = mesh(&[]);
    let mut client = nodes[0].client();
    nodes[2].signal(Signal::STOP);
    client.set("frozen", "yes");
    let begin = Instant::now();
    assert_eq!(client.ask("WAIT 2 300"), "1");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(800), "{took:?}");
    client.send(b"WAIT 2 0\nGET frozen\n");
    nodes[2].signal(Signal::CONT);
    assert_eq!((client.line(), client.line()), ("2".to_owned(), "yes".to_owned()));
}

#[test]
fn who_sends_no_more_is_answered_all_the_same() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.write_all(b"SET a 1\nWAIT 1 100\nGET a\nQUIT\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    assert_eq!(output, "OK\n0\n1\nOK\n");
}

#[test]
fn who_leaves_while_waiting_is_forgotten() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut client = node.client();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut waiting = node.client();
            waiting.send(b"PING\nWAIT 1 0\n");
            assert_eq!(waiting.line(), "PONG");
            waiting
        })
        .collect();
    assert_eq!(client.stats()["connections"], 21);
    for mut gone in waiting {
        // Gone without a farewell, as when its process is killed with something left to read.
        SockRef::from(&*gone.socket()).set_linger(Some(Duration::ZERO)).unwrap();
    }
    eventually("they are forgotten", PATIENCE, || match client.stats()["connections"].as_u64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?} connections")),
    });
}

#[test]
fn who_waits_is_not_read_without_bound() {
    let _machine = quiet_machine();
    let node = Node::start(&["0"]);
    let before = node.resident_bytes();
    let mut flood = node.client();
    flood.send(b"WAIT 1 0\n");
    let socket = flood.socket();
    socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let chunk = b"SET flood a-value-of-some-bytes\n".repeat(2_048);
    let mut sent = 0;
    while sent < FLOOD_BYTES_MAX {
        match socket.write(&chunk) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the connection ended: {error}"),
        }
    }
    assert!(sent < FLOOD_BYTES_MAX, "the node goes on reading");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "it grew by {grown} bytes while {sent} were sent");
    assert_eq!(node.client().ask("GET flood"), "Key not found");
}

#[test]
fn clusters_of_two_names_turn_each_other_away() {
    let _machine = shared_machine();
    let port = free_port();
    let red = Node::join(port, &[], &["--cluster", "red"]);
    red.client().set("colour", "red");
    let blue = Node::join(free_port(), &[port], &["--cluster", "blue"]);
    blue.client().set("taste", "sweet");
    let says = "another cluster: give both nodes the same --cluster, or do not name one as a peer of the other";
    for (node, ours, theirs) in [(&red, "red", "blue"), (&blue, "blue", "red")] {
        let line = node.logged(says, PATIENCE);
        assert_eq!((line["ours"].as_str(), line["theirs"].as_str()), (Some(ours), Some(theirs)));
    }
    assert_eq!(red.client().ask("PEERS"), "No peers");
    assert_eq!(red.client().ask("GET taste"), "Key not found");
    assert_eq!(blue.client().ask("GET colour"), "Key not found");
    // What is of one name still comes together.
    let second = Node::join(free_port(), &[port], &["--cluster", "red"]);
    let mut client = second.client();
    eventually("the second red one has it", PATIENCE, || match client.ask("GET colour") {
        colour if colour == "red" => Ok(()),
        other => Err(other),
    });
}
