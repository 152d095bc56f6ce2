//! Many connections, and more than there are descriptors for.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Client, Node, PATIENCE, eventually, quiet_machine};

/// As many as a node takes by default.
const IDLE_CONNECTIONS: u64 = 10_000;
/// Descriptors that the test itself needs.
const OWN_DESCRIPTORS: u64 = 200;

/// Raises this process's limit of open files as far as it goes, and returns it.
fn raised_descriptor_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_idle_connections() {
    let _machine = quiet_machine();
    let count = IDLE_CONNECTIONS.min(raised_descriptor_limit() - OWN_DESCRIPTORS);
    if count < IDLE_CONNECTIONS {
        println!("the hard limit of open files allows only {count} connections");
    }
    let node = Node::start(&["0"]);
    let begin = Instant::now();
    let mut clients: Vec<Client> = (0..count).map(|_| node.client()).collect();
    // The last one being served means that all before it were accepted.
    let middle = clients.len() / 2;
    assert_eq!(clients.last_mut().unwrap().ask("PING"), "PONG");
    println!("{count} connections in {:?}, {} KiB", begin.elapsed(), node.resident_bytes() / 1024);
    for index in [0, middle, clients.len() - 1] {
        let took = clients[index].time("PING");
        assert!(took < Duration::from_millis(100), "connection {index} waited for {took:?}");
    }
    assert_eq!(clients[0].stats()["connections"].as_u64(), Some(count));
    let before = node.cpu_ticks();
    assert!(fastest_of(&mut clients[middle], 1_000) < Duration::from_millis(5));
    println!("{} hundredths of a second of processor for 1,000 commands", node.cpu_ticks() - before);
}

fn fastest_of(client: &mut Client, rounds: usize) -> Duration {
    (0..rounds).map(|_| client.time("PING")).min().unwrap()
}

#[test]
fn one_client_too_many_is_told_so() {
    let _machine = quiet_machine();
    let node = Node::start(&["0", "--max-clients", "3"]);
    let mut clients: Vec<Client> = (0..3).map(|_| node.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("PING"), "PONG");
    }
    let mut refused = node.client();
    refused.send(b"PING\n");
    let told = refused.try_line();
    assert!(told.as_ref().is_ok_and(|line| line != "PONG"), "{told:?}");
    assert!(refused.try_line().is_err(), "the connection ends");
    drop(clients.pop());
    eventually("there is room again", PATIENCE, || match node.client().ask("PING").as_str() {
        "PONG" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(clients[0].ask("PING"), "PONG");
}

#[test]
fn without_descriptors_it_waits_instead_of_spinning() {
    let _machine = quiet_machine();
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", "ulimit -n 64; exec \"$0\" 0"]).arg(env!("CARGO_BIN_EXE_simple-kv"));
    let node = Node::spawn(command);
    // All connect: those that the process cannot take wait in the system's queue.
    let mut streams: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(node.address).unwrap()).collect();
    node.logged("no new connections for a moment; close some, or raise the limit of open files", PATIENCE);

    let (before, begin) = (node.cpu_ticks(), Instant::now());
    eventually("half a second passes", PATIENCE, || {
        if begin.elapsed() > Duration::from_millis(500) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let spent = node.cpu_ticks() - before;
    assert!(spent < 10, "{spent} hundredths of a second of processor in half a second of waiting");

    // The newest is served once the others have gone.
    let last = streams.pop().unwrap();
    let mut client = Client::over(last);
    drop(streams);
    assert_eq!(client.ask("PING"), "PONG");
}
