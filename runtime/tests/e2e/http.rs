//! HTTP over real sockets, beside the other dialects on the same port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Node, PATIENCE, eventually, free_port, shared_machine};

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
    eventually("the data is loaded", PATIENCE, || match ask(&node, "GET /v1/kv/k", "", b"") {
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

/// A stream of `/v1/watch`.
struct Watch {
    reader: BufReader<TcpStream>,
    last_id: String,
}

impl Watch {
    /// Watches a node, from behind the event with that id if one is given.
    fn open(node: &Node, query: &str, last_id: &str) -> Self {
        let mut stream = TcpStream::connect(node.address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let field = if last_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_id}\r\n") };
        let head = format!("GET /v1/watch?{query} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        stream.write_all(head.as_bytes()).expect("the node reads");
        let mut watch = Self { reader: BufReader::new(stream), last_id: String::new() };
        assert_eq!(watch.line(), "HTTP/1.1 200 OK");
        while !watch.line().is_empty() {}
        // By then the node notes what changes.
        while watch.last_id.is_empty() {
            watch.step();
        }
        watch
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the node goes on");
        assert!(line.ends_with('\n'), "the stream has ended: {line:?}");
        line.trim_end().to_owned()
    }

    /// Reads a line; the name and the data, if an event ends with it. Lengths of chunks are no lines of events.
    fn step(&mut self) -> Option<(String, String)> {
        let line = self.line();
        if let Some(id) = line.strip_prefix("id: ") {
            self.last_id = id.to_owned();
        }
        let name = line.strip_prefix("event: ")?.to_owned();
        self.last_id = self.line().strip_prefix("id: ").expect("an id").to_owned();
        let data: Value = serde_json::from_str(self.line().strip_prefix("data: ").expect("data")).expect("JSON");
        let about = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        Some((name, format!("{}{}={}", about("key"), about("why"), about("value"))))
    }

    /// Reads up to the next event, which is to be this one.
    fn expect(&mut self, name: &str, about: &str) {
        let begin = Instant::now();
        loop {
            if let Some((found, told)) = self.step() {
                assert_eq!((found.as_str(), told.as_str()), (name, about));
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "nothing but beats where {name} {about} was to come");
        }
    }
}

#[test]
fn who_watches_one_node_hears_of_what_is_written_on_others_through_crashes_of_them() {
    let _machine = shared_machine();
    let ports = [free_port(), free_port(), free_port()];
    let start = |at: usize| {
        let others: Vec<u16> = (0..3).filter(|other| *other != at).map(|other| ports[other]).collect();
        Node::join(ports[at], &others, &["--name", ["one", "two", "three"][at]])
    };
    let mut nodes: Vec<Node> = (0..3).map(start).collect();
    let joined = |nodes: &[Node]| {
        for node in nodes {
            eventually("all are linked", PATIENCE, || {
                let stats = node.client().stats();
                let up = stats["peers"].as_array().into_iter().flatten().filter(|peer| peer["state"] == "up").count();
                if up == 2 { Ok(()) } else { Err(stats.to_string()) }
            });
        }
    };
    joined(&nodes);
    let mut watch = Watch::open(&nodes[0], "prefix=k&values=true", "");
    nodes[1].client().set("k1", "by-two");
    watch.expect("put", "k1=by-two");
    nodes[2].client().set("other", "x");
    assert_eq!(ask(&nodes[2], "PUT /v1/kv/k2", "", b"by three").0.split(' ').nth(1), Some("201"));
    watch.expect("put", "k2=by three");
    // Who writes is gone, and comes back without memory.
    nodes[1].kill();
    nodes[2].client().set("k3", "meanwhile");
    watch.expect("put", "k3=meanwhile");
    nodes[1] = start(1);
    joined(&nodes);
    let is_at = |node: &Node, key: &str, value: &str| {
        eventually("it is here", PATIENCE, || match node.client().ask(&format!("GET {key}")) {
            found if found == value => Ok(()),
            other => Err(other),
        });
    };
    is_at(&nodes[1], "k1", "by-two");
    assert_eq!(nodes[1].client().ask("DEL k1"), "OK");
    watch.expect("delete", "k1=");
    // Who watches is cut off, and comes back.
    let last_id = watch.last_id.clone();
    drop(watch);
    nodes[1].client().set("k4", "unheard");
    is_at(&nodes[0], "k4", "unheard");
    let mut watch = Watch::open(&nodes[0], "prefix=k&values=true", &last_id);
    watch.expect("put", "k4=unheard");
    // The node that is watched is another run, which cannot know what was missed.
    let last_id = watch.last_id.clone();
    nodes[0].kill();
    nodes[0] = start(0);
    joined(&nodes);
    let mut watch = Watch::open(&nodes[0], "prefix=k&values=true", &last_id);
    watch.expect("reset", "unknown id=");
    nodes[2].client().set("k5", "after");
    watch.expect("put", "k5=after");
    nodes[2].client().ask("FLUSHDB");
    watch.expect("reset", "flush=");
}
