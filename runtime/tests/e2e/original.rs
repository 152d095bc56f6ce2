//! What users of the original know must work as they know it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::harness::{Node, shared_machine};

/// Sends `input` in one go, says that no more comes, and returns everything that came back.
fn session(node: &Node, input: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.write_all(input).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    output
}

const TYPED: &[u8] = b"SET name Alice\nSET age 25\nGET name\nGET age\nDEL age\nGET age\n";
const PRINTED: &str = "OK\nOK\nAlice\n25\nOK\nKey not found\n";

#[test]
fn the_session_of_the_originals_readme() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    assert_eq!(session(&node, TYPED), PRINTED);
}

#[test]
fn the_same_session_line_by_line() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut client = node.client();
    for (typed, printed) in std::str::from_utf8(TYPED).unwrap().lines().zip(PRINTED.lines()) {
        assert_eq!(client.ask(typed), printed);
    }
}

#[test]
fn the_same_session_in_every_size_of_piece() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    for size in 1..TYPED.len() {
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in TYPED.chunks(size) {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let mut output = String::new();
        stream.read_to_string(&mut output).unwrap();
        assert_eq!(output, PRINTED, "in pieces of {size}");
    }
}

#[test]
fn localhost_works_whatever_it_resolves_to() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let addresses = ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), node.port()));
    for address in addresses {
        // A machine without IPv6 has no second address to listen on.
        if address.is_ipv6() && std::net::TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        let mut client = crate::harness::Client::connect(address);
        assert_eq!(client.ask("PING"), "PONG");
    }
}

#[test]
fn quit_ends_the_connection_after_the_replies() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.write_all(b"SET a 1\nGET a\nQUIT\n").unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    assert!(output.starts_with("OK\n1\n"), "{output:?}");
}
