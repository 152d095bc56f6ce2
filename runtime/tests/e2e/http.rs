//! HTTP over real sockets, beside the other dialects on the same port.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Node, PATIENCE, shared_machine};

/// What is answered to one request on a connection of its own, head and body.
fn ask(node: &Node, line: &str, fields: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(node.address).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let port = node.port();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the node reads");
    stream.write_all(body).expect("the node reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer, and the end");
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(at + 4);
    (String::from_utf8(answer).expect("a head is text"), body)
}

#[test]
fn a_value_of_megabytes_goes_in_and_comes_out_beside_the_other_dialects() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let value: Vec<u8> = (0..10 << 20).map(|at: u32| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let (head, _) = ask(&node, "PUT /v1/kv/big%20one?ttl=100", "Expect: 100-continue\r\n", &value);
    assert!(head.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{head}");
    let (head, body) = ask(&node, "GET /v1/kv/big%20one", "", b"");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body == value, "it comes back as it went in");
    let mut client = node.client();
    assert_eq!(client.ask("TTL \"big one\""), "100");
    client.set("small", "1");
    assert_eq!(ask(&node, "GET /v1/kv/small", "", b"").1, b"1");
    let (head, _) = ask(&node, "PUT /v1/kv/small", "If-None-Match: *\r\n", b"2");
    assert!(head.starts_with("HTTP/1.1 412 "), "{head}");
    assert_eq!(client.ask("GET small"), "1");
}

#[test]
fn what_is_answered_with_fsync_always_is_there_after_a_crash() {
    let _machine = shared_machine();
    let directory = std::env::temp_dir().join(format!("simple-kv-http-{}", std::process::id()));
    let place = directory.to_str().expect("a path of text");
    let flags = ["0", "--name", "n", "--data-dir", place, "--fsync", "always"];
    let mut node = Node::start(&flags);
    let (head, _) = ask(&node, "PUT /v1/kv/k", "", b"v");
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    node.kill();
    let node = Node::start(&flags);
    crate::harness::eventually("the data is loaded", PATIENCE, || match ask(&node, "GET /v1/kv/k", "", b"") {
        (head, body) if head.starts_with("HTTP/1.1 200 ") && body == b"v" => Ok(()),
        (head, _) => Err(head),
    });
    drop(node);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_host_that_is_given_is_answered_and_another_is_not() {
    let _machine = shared_machine();
    let node = Node::start(&["0", "--http-host", "kv.example,store.example"]);
    for (host, status) in [("kv.example", "404"), ("STORE.example:80", "404"), ("other.example", "421")] {
        let mut stream = TcpStream::connect(node.address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let text = format!("GET /v1/kv/k HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("the node reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
}
