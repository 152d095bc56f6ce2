//! TLS, for clients and between nodes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certs::{Authority, Signed};
use crate::cluster::{expect_equal_digests, expect_everywhere};
use crate::harness::{Node, PATIENCE, binary, eventually, free_port, quiet_machine, shared_machine};

/// What a node may grow by while one client does not read: output of the core, what TLS and buffers add, slack.
const UNREAD_BYTES_MAX: u64 = 24 << 20;

/// A client by TLS.
struct Secure {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Secure {
    fn connect(node: &Node, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(node.address).expect("the node accepts");
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
        Self { stream: BufReader::new(StreamOwned::new(connection, socket)) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the node takes it");
    }

    fn try_ask(&mut self, command: &str) -> std::io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\n").as_bytes())?;
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn ask(&mut self, command: &str) -> String {
        self.try_ask(command).expect("an answer")
    }

    fn expect(&mut self, bytes: &[u8]) {
        let mut heard = vec![0; bytes.len()];
        self.stream.read_exact(&mut heard).expect("an answer");
        assert!(heard == bytes, "{:?}", String::from_utf8_lossy(&heard[..heard.len().min(200)]));
    }

    /// The certificate that the node has shown.
    fn shown(&self) -> Vec<u8> {
        self.stream.get_ref().conn.peer_certificates().expect("a handshake")[0].to_vec()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn flags(signed: &Signed) -> Vec<&str> {
    vec!["--tls-cert", text(&signed.cert), "--tls-key", text(&signed.key)]
}

/// A node that takes TLS, with more flags.
fn start(signed: &Signed, more: &[&str]) -> Node {
    Node::start(&[&["0"], &flags(signed)[..], more].concat())
}

#[test]
fn every_dialect_comes_by_tls_beside_plain_text() {
    let _machine = shared_machine();
    let authority = Authority::new("dialects");
    let (signed, config) = (authority.sign_local("node"), authority.client(None));
    let node = start(&signed, &[]);
    let mut lines = Secure::connect(&node, &config);
    assert_eq!(lines.ask("SET name Alice"), "OK");
    let mut redis = Secure::connect(&node, &config);
    redis.send(b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n");
    redis.expect(b"$5\r\nAlice\r\n");
    assert_eq!(node.client().ask("GET name"), "Alice", "plain text as before");
    assert_eq!(lines.ask("GET name"), "Alice");
    assert_eq!(lines.stream.get_ref().conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    for (origin, status) in [("", 200), ("https://localhost", 200), ("https://elsewhere.example", 403)] {
        let mut http = Secure::connect(&node, &config);
        let port = node.port();
        let origin = match origin {
            "" => String::new(),
            "https://localhost" => format!("Origin: {origin}:{port}\r\n"),
            other => format!("Origin: {other}\r\n"),
        };
        let head = format!("GET /v1/kv/name HTTP/1.1\r\nHost: localhost:{port}\r\n{origin}Connection: close\r\n\r\n");
        http.send(head.as_bytes());
        let mut answer = String::new();
        // It ends as TLS ends: nobody in between can cut it short unseen.
        http.stream.read_to_string(&mut answer).expect("an answer, and its end");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.ends_with("\r\n\r\nAlice"), status == 200, "{answer}");
    }
    assert_eq!(lines.ask("QUIT"), "OK");
    assert_eq!(lines.stream.read(&mut [0]).expect("the end, said by TLS"), 0);
}

#[test]
fn ten_megabytes_go_both_ways() {
    let _machine = shared_machine();
    let authority = Authority::new("large");
    let node = start(&authority.sign_local("node"), &[]);
    let value: Vec<u8> = (0..10_u32 << 20).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut client = Secure::connect(&node, &authority.client(None));
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes());
    client.send(&value);
    client.send(b"\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    client.expect(b"+OK\r\n");
    client.expect(format!("${}\r\n", value.len()).as_bytes());
    client.expect(&value);
    client.expect(b"\r\n");
}

#[test]
fn what_one_record_or_one_read_holds_is_answered_without_another_edge() {
    let _machine = shared_machine();
    let authority = Authority::new("edges");
    let node = start(&authority.sign_local("node"), &[]);
    let config = authority.client(None);
    let mut client = Secure::connect(&node, &config);
    // One record.
    client.send(&b"PING\n".repeat(3_000));
    client.expect(&b"PONG\n".repeat(3_000));
    // Far more than one read, and than a turn's share of reads, all there at once, in small records.
    let rounds = 40;
    for _ in 0..rounds {
        for _ in 0..100 {
            client.stream.get_mut().conn.writer().write_all(&b"PING\n".repeat(100)).unwrap();
            let stream = client.stream.get_mut();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock).expect("the node reads");
            }
        }
    }
    client.expect(&b"PONG\n".repeat(rounds * 10_000));
    // The last of it with the end.
    client.send(&b"PING\n".repeat(3_000));
    client.stream.get_mut().conn.send_close_notify();
    client.stream.get_mut().flush().expect("the node reads");
    client.stream.get_ref().sock.shutdown(Shutdown::Write).expect("a socket");
    client.expect(&b"PONG\n".repeat(3_000));
    assert_eq!(client.stream.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn who_does_not_read_is_not_read_and_goes_on_later() {
    let _machine = quiet_machine();
    let authority = Authority::new("unread");
    let node = start(&authority.sign_local("node"), &[]);
    let large = "v".repeat(64 << 10);
    node.client().set("large", &large);
    let mut other = Secure::connect(&node, &authority.client(None));
    let mut client = Secure::connect(&node, &authority.client(None));
    client.ask("PING");
    let before = node.resident_bytes();
    // One record whose answers are a hundred times what a connection may hold.
    client.send(&b"GET large\n".repeat(1_600));
    let commands = |other: &mut Secure| -> u64 {
        let stats: serde_json::Value = serde_json::from_str(&other.ask("STATS")).expect("JSON");
        stats["commands"].as_u64().expect("a number")
    };
    // It is asked again and again until nothing happens but the asking.
    eventually("the node leaves off", PATIENCE, || {
        let first = commands(&mut other);
        for _ in 0..50 {
            other.ask("PING");
        }
        let done = commands(&mut other) - first;
        if done == 51 && first > 20 { Ok(()) } else { Err(format!("{done} commands")) }
    });
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < UNREAD_BYTES_MAX, "grew by {grown} bytes");
    let answer = format!("{large}\n");
    for _ in 0..1_600 {
        client.expect(answer.as_bytes());
    }
    assert_eq!(client.ask("PING"), "PONG");
}

#[test]
fn with_tls_required_plain_text_is_told_so() {
    let _machine = shared_machine();
    let authority = Authority::new("required");
    let node = start(&authority.sign_local("node"), &["--tls", "required"]);
    for (said, told) in
        [("SET a 1\n", "Error: "), ("*1\r\n$4\r\nPING\r\n", "-ERR "), ("GET / HTTP/1.1\r\n\r\n", "Error: ")]
    {
        let mut plain = TcpStream::connect(node.address).expect("the node accepts");
        plain.set_read_timeout(Some(PATIENCE)).expect("a socket");
        plain.write_all(said.as_bytes()).expect("the node reads");
        let mut answer = String::new();
        plain.read_to_string(&mut answer).expect("an answer, and the end");
        assert!(answer.starts_with(told) && answer.contains("TLS") && answer.lines().count() == 1, "{answer:?}");
    }
    let mut client = Secure::connect(&node, &authority.client(None));
    assert_eq!(client.ask("GET a"), "Key not found", "nothing was done");
}

#[test]
fn links_are_plain_on_an_address_of_their_own_though_clients_must_come_by_tls() {
    let _machine = shared_machine();
    let authority = Authority::new("doors");
    let signed = authority.sign_local("node");
    let (one, two) = (free_port(), free_port());
    let node = |own: u16, peers: &[u16]| {
        let listen = format!("--peer-listen=127.0.0.1:{own}");
        Node::join(free_port(), peers, &[&flags(&signed)[..], &["--tls", "required", &listen]].concat())
    };
    let nodes = [node(one, &[]), node(two, &[one])];
    let mut clients = nodes.each_ref().map(|node| Secure::connect(node, &authority.client(None)));
    assert_eq!(clients[0].ask("SET key value"), "OK");
    eventually("the other node has it", PATIENCE, || match clients[1].ask("GET key") {
        said if said == "value" => Ok(()),
        said => Err(said),
    });
}

#[test]
fn clients_show_certificates_where_they_must() {
    let _machine = shared_machine();
    let authority = Authority::new("clients");
    let others = Authority::new("strangers");
    let signed = authority.sign_local("node");
    let ca = authority.ca();
    let (own, strange) = (authority.sign("alice", &[]), others.sign("mallory", &[]));
    let [none, own, strange] = [None, Some(&own), Some(&strange)].map(|shown| authority.client(shown));
    let is_let_in =
        |node: &Node, config| Secure::connect(node, config).try_ask("PING").is_ok_and(|said| said == "PONG");
    let node = start(&signed, &["--tls-client-ca", text(&ca)]);
    assert_eq!([&none, &own, &strange].map(|config| is_let_in(&node, config)), [false, true, false]);
    let node = start(&signed, &["--tls-client-ca", text(&ca), "--tls-client-auth", "optional"]);
    assert_eq!([&none, &own, &strange].map(|config| is_let_in(&node, config)), [true, true, false]);
    assert_eq!(node.client().ask("PING"), "PONG", "and nobody has to come by TLS");
}

#[test]
fn files_of_no_use_are_refused_at_the_start() {
    let _machine = shared_machine();
    let authority = Authority::new("files");
    let (signed, other) = (authority.sign_local("node"), authority.sign_local("other"));
    let folder = signed.cert.parent().expect("a folder").to_owned();
    let (open, empty) = (folder.join("open.key"), folder.join("empty.pem"));
    std::fs::copy(&signed.key, &open).expect("a file");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a file");
    std::fs::write(&empty, "nothing\n").expect("a file");
    let (cert, key) = (text(&signed.cert), text(&signed.key));
    for (flags, code, told) in [
        (vec!["--tls-cert", cert, "--tls-key", text(&open)], 1, "chmod o="),
        (vec!["--tls-cert", cert, "--tls-key", text(&other.key)], 1, "is not its key"),
        (vec!["--tls-cert", text(&empty), "--tls-key", key], 1, "no certificate in it"),
        (vec!["--tls-cert", cert, "--tls-key", text(&empty)], 1, "empty.pem: "),
        (vec!["--tls-cert", "/nowhere", "--tls-key", key], 1, "/nowhere: "),
        (vec!["--tls-cert", cert], 2, "--tls-key"),
        (vec!["--tls-cert", cert, "--tls-key", key, "--tls-peers"], 2, "--tls-peer-ca"),
        (vec!["--tls", "sometimes"], 2, "required"),
        (vec!["localhost:1", "--tls-cert", cert, "--tls-key", key, "--tls", "required"], 2, "--peer-listen"),
    ] {
        let output = binary().arg("0").args(&flags).output().expect("the binary starts");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains(told) && said.lines().count() == 1, "{flags:?}: {said}");
    }
}

#[test]
fn certificates_are_read_again_on_sighup_and_a_broken_file_changes_nothing() {
    let _machine = shared_machine();
    let authority = Authority::new("reload");
    let config = authority.client(None);
    let signed = authority.sign_local("node");
    let node = start(&signed, &[]);
    let mut standing = Secure::connect(&node, &config);
    assert_eq!(standing.ask("PING"), "PONG");
    let first = standing.shown();
    let shown = || {
        let mut client = Secure::connect(&node, &config);
        assert_eq!(client.ask("PING"), "PONG");
        client.shown()
    };
    assert_eq!(shown(), first);
    std::fs::write(&signed.cert, "-----BEGIN CERTIFICATE-----\nbroken\n").expect("a file");
    node.signal(Signal::HUP);
    let said = eventually("the broken file is told of", PATIENCE, || node.log_line("certificates stay as they were"));
    assert!(said.contains(text(&signed.cert)), "{said}");
    assert_eq!(shown(), first, "nothing has changed");
    authority.sign_local("node");
    node.signal(Signal::HUP);
    eventually(
        "the new one is shown",
        PATIENCE,
        || if shown() == first { Err("the old one".to_owned()) } else { Ok(()) },
    );
    assert_eq!(standing.ask("PING"), "PONG", "who was there stays");
    assert_eq!(standing.shown(), first);
}

#[test]
fn garbage_after_the_first_bytes_ends_one_connection_only() {
    let _machine = shared_machine();
    let authority = Authority::new("garbage");
    let node = start(&authority.sign_local("node"), &[]);
    let mut client = Secure::connect(&node, &authority.client(None));
    client.ask("SET precious value");
    let before = node.descriptors();
    for length in [1, 3, 5, 6, 100, 5_000, 100_000] {
        for fill in [0x00, 0x03, 0x16, 0x41, 0xff] {
            let mut bytes = vec![fill; length];
            bytes.splice(..length.min(2), [0x16, 0x03].into_iter().take(length.min(2)));
            let mut stream = TcpStream::connect(node.address).expect("the node accepts");
            // It may be closed before the last byte.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer);
            assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
            assert!(answer.len() < 100, "at most an alert");
            assert_eq!(client.ask("GET precious"), "value");
        }
    }
    eventually("all are closed", PATIENCE, || match node.descriptors() {
        now if now == before => Ok(()),
        now => Err(format!("{now} descriptors, {before} before")),
    });
}

/// A node on `port` whose links are by TLS.
fn join(port: u16, peers: &[u16], signed: &Signed, ca: &Path) -> Node {
    Node::join(port, peers, &[&flags(signed)[..], &["--tls-peers", "--tls-peer-ca", text(ca)]].concat())
}

#[test]
fn nodes_that_show_each_other_certificates_converge() {
    let _machine = quiet_machine();
    let authority = Authority::new("peers");
    let ports = [free_port(), free_port(), free_port()];
    let nodes: Vec<Node> = (0..3)
        .map(|at| {
            let peers: Vec<u16> = ports[..at].iter().copied().take(1).collect();
            join(ports[at], &peers, &authority.sign_local(&format!("node-{at}")), &authority.ca())
        })
        .collect();
    for (at, node) in nodes.iter().enumerate() {
        let key = format!("of-{at}");
        eventually("it is a member", PATIENCE, || match node.client().ask(&format!("SET {key} yes")).as_str() {
            "OK" => Ok(()),
            other => Err(other.to_owned()),
        });
        expect_everywhere(&nodes, &key, "yes", PATIENCE);
    }
    // One that stands still is not fed more than sockets hold, and is fed the rest later.
    nodes[2].stop();
    let before = nodes[0].resident_bytes();
    let value = "v".repeat(512 << 10);
    let mut client = nodes[0].client();
    for number in 0..80 {
        client.set(&format!("large-{}", number % 4), &value);
    }
    expect_everywhere(&nodes[..2], "large-3", &value, PATIENCE);
    let grown = nodes[0].resident_bytes().saturating_sub(before);
    // The ring holds what was written last, all of it here.
    assert!(grown < UNREAD_BYTES_MAX + (64 << 20), "grew by {grown} bytes");
    nodes[2].signal(Signal::CONT);
    expect_everywhere(&nodes, "large-3", &value, PATIENCE);
    expect_equal_digests(&nodes);
}

#[test]
fn a_node_without_a_certificate_of_the_cluster_is_refused_and_told_of() {
    let _machine = shared_machine();
    let (authority, strangers) = (Authority::new("cluster"), Authority::new("intruders"));
    let node = join(free_port(), &[], &authority.sign_local("node"), &authority.ca());
    node.client().set("secret", "value");
    // It trusts the cluster's authority, and has a certificate of another.
    let intruder = join(free_port(), &[node.port()], &strangers.sign_local("intruder"), &authority.ca());
    let said = eventually("the node says so", PATIENCE, || node.log_line("no link by TLS with a node"));
    assert!(said.contains("127.0.0.1:") && said.contains("UnknownIssuer"), "{said}");
    let said = eventually("the other one too", PATIENCE, || intruder.log_line("no link by TLS with a node"));
    assert!(said.contains(&node.port().to_string()), "{said}");
    // It has one of the cluster's, and does not trust that authority.
    let stranger = join(free_port(), &[node.port()], &authority.sign_local("stranger"), &strangers.ca());
    let said = eventually("it says so", PATIENCE, || stranger.log_line("cannot reach a peer"));
    assert!(said.contains("UnknownIssuer") && said.contains(&node.port().to_string()), "{said}");
    // One that knows nothing of TLS.
    let plain = Node::join(free_port(), &[node.port()], &[]);
    let said = eventually("the node says so", PATIENCE, || node.log_line("a peer's greeting is turned away"));
    assert!(said.contains("links come by TLS here"), "{said}");
    let said = eventually("it is told", PATIENCE, || plain.log_line("turned away"));
    assert!(said.contains("--tls-peers"), "{said}");
    // Of a client's certificate nobody becomes a node; and whoever has none is a client as before.
    for outsider in [&intruder, &stranger, &plain] {
        assert_eq!(outsider.client().ask("GET secret"), "Key not found");
    }
    assert!(node.client().stats()["peers"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn a_load_comes_by_tls() {
    let _machine = shared_machine();
    let (authority, strangers) = (Authority::new("load"), Authority::new("unknown"));
    let node = start(&authority.sign_local("node"), &["--tls", "required"]);
    let server = format!("localhost:{}", node.port());
    let bench = |ca: &Path, more: &[&str]| {
        let mut command = binary();
        command.args(["bench", &server, "--tls", "--tls-ca", text(ca)]).args(more).output().expect("the binary starts")
    };
    for depth in ["1", "100"] {
        let output = bench(&authority.ca(), &["-n", "3000", "-P", depth, "--keys", "100", "-d", "10KiB", "--json"]);
        let told = String::from_utf8(output.stdout).expect("text");
        let loads: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(loads.len(), 2, "{told}{}", String::from_utf8_lossy(&output.stderr));
        for load in loads {
            assert_eq!((&load["succeeded"], &load["tls"]), (&3_000.into(), &true.into()), "{load}");
            assert_eq!(load["absent"], 0, "{load}");
        }
    }
    let output = bench(&strangers.ca(), &["-n", "1"]);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("UnknownIssuer") && told.lines().count() == 1, "{told}");
}

#[test]
fn a_stopping_node_sends_what_it_has_sealed_and_ends_as_tls_ends() {
    let _machine = shared_machine();
    let authority = Authority::new("stopping");
    let mut node = start(&authority.sign_local("node"), &[]);
    let mut client = Secure::connect(&node, &authority.client(None));
    assert_eq!(client.ask("PING"), "PONG");
    client.send(&b"PING\n".repeat(4_000));
    node.signal(Signal::TERM);
    client.expect(&b"PONG\n".repeat(4_000));
    assert_eq!(client.stream.read(&mut [0]).expect("the end, said by TLS"), 0);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}
