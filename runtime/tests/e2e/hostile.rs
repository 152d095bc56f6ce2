//! Whoever sends garbage, or never reads, harms nobody else.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Node, PATIENCE, eventually, look_again, quiet_machine, shared_machine};

/// What a node may grow by while one client misbehaves: its output and input, as many copies as buffers grow by, and
/// the allocator's slack.
const MISBEHAVIOUR_BYTES_MAX: u64 = 24 << 20;
/// No other client waits longer for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// What a node that dials says first, as far as it says it unasked.
fn greeting_of_a_dialing_node() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap().to_string();
    let _dialer = Node::start(&["0", &peer]);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut greeting = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        greeting.extend_from_slice(&buffer[..count]);
        if greeting.len() > 64 << 10 {
            break;
        }
    }
    assert!(!greeting.is_empty(), "a node that dials speaks first");
    greeting
}

/// Sends `bytes` and looks away; whether the node closes the connection is its own affair.
fn throw(node: &Node, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The node may well have closed it before the last byte.
    let _ = stream.write_all(bytes);
    stream
}

/// Bytes without a pattern, the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
    .collect()
}

/// Throws each at the node, whole and cut short, and looks whether a well-behaved client is still served.
fn check_garbage(node: &Node, thrown: impl Iterator<Item = Vec<u8>>) {
    let mut client = node.client();
    client.set("precious", "value");
    let before = node.resident_bytes();
    let mut open = Vec::new();
    for (round, bytes) in thrown.enumerate() {
        let stream = throw(node, &bytes);
        match round % 3 {
            0 => drop(stream),
            1 => {
                let _ = stream.shutdown(Shutdown::Write);
                open.push(stream);
            }
            _ => open.push(stream),
        }
        assert_eq!(client.ask("GET precious"), "value", "after throw {round}");
    }
    drop(open);
    assert_eq!(node.client().ask("PING"), "PONG");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < MISBEHAVIOUR_BYTES_MAX, "grew by {grown} bytes");
}

#[test]
fn random_bytes_on_the_port() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    check_garbage(&node, (1..200).map(|seed| noise(seed, 1 << (seed % 16))));
}

#[test]
fn half_a_greeting_and_junk_after_one() {
    let _machine = shared_machine();
    let greeting = greeting_of_a_dialing_node();
    let node = Node::start(&["0"]);
    let cuts = (1..=greeting.len()).step_by(greeting.len().div_ceil(64));
    check_garbage(&node, cuts.clone().map(|cut| greeting[..cut].to_vec()));
    check_garbage(&node, cuts.map(|cut| [&greeting[..cut], &noise(cut as u64, 4096)].concat()));
}

#[test]
fn every_byte_of_a_greeting_broken() {
    let _machine = shared_machine();
    let greeting = greeting_of_a_dialing_node();
    let node = Node::start(&["0"]);
    check_garbage(
        &node,
        (0..greeting.len().min(128)).map(|index| {
            let mut broken = greeting.clone();
            broken[index] ^= 0x5a;
            broken
        }),
    );
}

#[test]
fn a_length_of_a_gibibyte() {
    let _machine = shared_machine();
    let greeting = greeting_of_a_dialing_node();
    let node = Node::start(&["0"]);
    let gibibyte = 1_u32 << 30;
    // The same length in every shape that a frame could have: both byte orders, four and eight bytes, and a varint.
    let lengths: [&[u8]; 5] = [
        &gibibyte.to_le_bytes(),
        &gibibyte.to_be_bytes(),
        &u64::from(gibibyte).to_le_bytes(),
        &u64::from(gibibyte).to_be_bytes(),
        &[0x80, 0x80, 0x80, 0x80, 0x04],
    ];
    let junk = noise(1, 256 << 10);
    let thrown = lengths.iter().flat_map(|length| {
        [[&greeting, *length, &junk].concat(), [&greeting[..greeting.len() / 2], *length, &junk].concat()]
    });
    check_garbage(&node, thrown);
}

#[test]
fn a_line_without_an_end() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    check_garbage(&node, (0..3).map(|_| [&b"SET endless "[..], &vec![b'x'; 8 << 20]].concat()));
}

#[test]
fn a_client_that_never_reads() {
    let _machine = quiet_machine();
    let node = Node::start(&["0"]);
    let mut other = node.client();
    other.set("large", &"v".repeat(512 << 10));
    assert_eq!(other.ask("GET large").len(), 512 << 10);
    let before = node.resident_bytes();
    let mut deaf = node.client();
    let sent = send_until_refused(&mut deaf, &b"GET large\n".repeat(1_000));
    println!("the node took {sent} bytes of commands");
    for _ in 0..100 {
        let took = other.time("PING");
        assert!(took < ANSWER_MAX, "another client waited for {took:?}");
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < MISBEHAVIOUR_BYTES_MAX, "grew by {grown} bytes");

    // It has second thoughts: what it asked for is still answered, in order and whole.
    deaf.socket().set_nonblocking(false).unwrap();
    for _ in 0..100 {
        assert_eq!(deaf.line().len(), 512 << 10);
    }
}

/// Pipelines `commands` again and again until the node has read none of it for a while; returns the bytes sent.
fn send_until_refused(client: &mut Client, commands: &[u8]) -> usize {
    client.socket().set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut refused_for = 0;
    while refused_for < 100 {
        // From where it stopped, so that no command is cut.
        match client.socket().write(&commands[sent % commands.len()..]) {
            Ok(count) => {
                sent += count;
                refused_for = 0;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused_for += 1;
                look_again();
            }
        }
        assert!(sent < 256 << 20, "the node reads without end from a client that reads nothing");
    }
    sent
}

#[test]
fn a_client_that_leaves_with_replies_unread() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut other = node.client();
    other.set("large", &"v".repeat(512 << 10));
    let connections = |other: &mut Client| other.stats()["connections"].as_u64().unwrap();
    let before = connections(&mut other);
    for _ in 0..50 {
        node.client().send(&b"GET large\n".repeat(100));
    }
    eventually("all of them are forgotten", PATIENCE, || {
        let now = connections(&mut other);
        if now == before { Ok(()) } else { Err(format!("{now} connections, {before} before")) }
    });
    assert_eq!(other.ask("PING"), "PONG");
}

#[test]
fn a_client_that_quits_and_does_not_take_its_replies() {
    let _machine = quiet_machine();
    let node = Node::start(&["0"]);
    let mut other = node.client();
    other.set("large", &"v".repeat(100 << 10));
    let before = node.descriptors();
    let mut full = client_with_small_window(&node);
    let until_full = answered_without_reading(&mut full, &mut other, usize::MAX);
    // A few replies less: the sockets are full, the node holds the rest and still reads, so it reads the QUIT.
    let mut quits = client_with_small_window(&node);
    answered_without_reading(&mut quits, &mut other, until_full.saturating_sub(5));
    quits.send(b"QUIT\n");
    drop(full);
    eventually("both are closed", PATIENCE, || {
        let now = node.descriptors();
        if now == before { Ok(()) } else { Err(format!("{now} descriptors, {before} before")) }
    });
}

/// Asks for `large` up to `count` times, one by one, and reads nothing; returns how many were answered before the node
/// took no more.
fn answered_without_reading(client: &mut Client, other: &mut Client, count: usize) -> usize {
    /// Looks, each a round trip of another client, after which a command that was not answered will not be.
    const LOOKS_MAX: usize = 1_000;
    for answered in 0..count {
        let before = commands(other);
        client.send(b"GET large\n");
        // One more than the looks themselves, each of which is a command.
        if !(1..=LOOKS_MAX as u64).any(|looks| commands(other) > before + looks) {
            return answered;
        }
    }
    count
}

fn commands(client: &mut Client) -> u64 {
    client.stats()["commands"].as_u64().unwrap()
}

/// A client whose socket takes only a few kilobytes that it does not read.
fn client_with_small_window(node: &Node) -> Client {
    let socket = Socket::new(Domain::for_address(node.address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&node.address.into()).unwrap();
    Client::over(socket.into())
}

#[test]
fn a_flood_of_writes_under_a_limit_of_memory() {
    /// Of data, and what the process may have beside it: buffers of connections, tables that grow, and slack.
    const LIMIT_BYTES: u64 = 32 << 20;
    const BESIDE_BYTES_MAX: u64 = 16 << 20;
    let _machine = quiet_machine();
    let node = Node::start(&["0", "--maxmemory", "32MiB"]);
    let before = node.resident_bytes();
    let value = "v".repeat(1 << 10);
    // Four times the limit, by connections that send far ahead of what they read.
    let writers = (0..8).map(|writer| {
        let (mut client, value) = (node.client(), value.clone());
        std::thread::spawn(move || {
            let mut refused = 0;
            for round in 0..16 {
                let sets = (0..1_000).map(|key| format!("SET {writer}:{round}:{key} {value}\n"));
                client.send(sets.collect::<String>().as_bytes());
                refused += (0..1_000).filter(|_| client.line().starts_with("Error")).count();
            }
            refused
        })
    });
    let writers: Vec<_> = writers.collect();
    let refused: usize = writers.into_iter().map(|writer| writer.join().expect("all is answered")).sum();
    let stats = node.client().stats();
    let (keys, data) = (stats["keys"].as_u64().unwrap(), stats["memory_bytes"].as_u64().unwrap());
    let grown = node.resident_bytes().saturating_sub(before);
    println!("{refused} of 128,000 writes refused, {keys} keys, {data} bytes of data, grown by {grown} bytes");
    assert!(refused > 64_000 && keys + refused as u64 == 128_000, "{refused} refused, {keys} keys");
    assert!(grown < LIMIT_BYTES + BESIDE_BYTES_MAX, "grown by {grown} bytes");
    // Reads go on, and what is deleted makes room.
    let mut client = node.client();
    assert_eq!(client.ask("GET 0:0:0"), value);
    client.ask("FLUSHALL");
    eventually("there is room again", PATIENCE, || match client.ask("SET again value") {
        said if said == "OK" => Ok(()),
        said => Err(said),
    });
}
