//! The tools that talk to nodes, by TLS.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::certs::{Authority, Signed};
use crate::harness::{Node, PATIENCE, binary, eventually, free_port, shared_machine};

/// How a tool ends, and what it says on stdout and stderr.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = binary().args(arguments).output().expect("the binary starts");
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn start(signed: &Signed, more: &[&str]) -> Node {
    let flags = ["0", "--tls", "required", "--tls-cert", text(&signed.cert), "--tls-key", text(&signed.key)];
    Node::start(&[&flags, more].concat())
}

/// Each tool, what follows the server, and what it says if all is well.
const TOOLS: [(&str, &[&str], &str); 4] = [
    ("ping", &[], "answers after"),
    ("ping", &["--ready"], "is ready after"),
    ("status", &[], "The one member is up."),
    ("cli", &["PING"], "PONG"),
];

#[test]
fn every_tool_comes_by_tls_and_to_nobody_but_who_was_meant() {
    let _machine = shared_machine();
    let (authority, strangers) = (Authority::new("tools"), Authority::new("tools-strangers"));
    let node = start(&authority.sign("node", &["localhost"]), &[]);
    let (by_name, by_address) = (format!("localhost:{}", node.port()), format!("127.0.0.1:{}", node.port()));
    let (ca, strange) = (authority.ca(), strangers.ca());
    let (tls, by_strangers) = (["--tls", "--tls-ca", text(&ca)], ["--tls", "--tls-ca", text(&strange)]);
    for (tool, rest, says) in TOOLS {
        let ends = |flags: &[&str], server: &str| run(&[&[tool], flags, &[server], rest].concat());
        let (code, said) = ends(&tls, &by_name);
        assert!(code == Some(0) && said.contains(says), "{tool}: {said}");
        let (code, said) = ends(&[&tls[..], &["--tls-name", "localhost"]].concat(), &by_address);
        assert!(code == Some(0) && said.contains(says), "{tool}: {said}");
        for (flags, server, problem) in [
            (&by_strangers[..], &by_name, "of no authority in --tls-ca; give the file of the one that it is of"),
            (&tls, &by_address, "for another host; connect to the one that it is for, or give --tls-name"),
            (&[&tls[..], &["--tls-name", "else.example"]].concat(), &by_name, "for another host"),
            (&[], &by_name, ""),
        ] {
            let (code, said) = ends(flags, server);
            assert!(code == Some(1) && said.contains(problem) && !said.contains(says), "{tool} {flags:?}: {said}");
        }
        for (flags, missing) in
            [(&["--tls"][..], "--tls-ca"), (&tls[1..], "--tls"), (&["--tls-name", "localhost"], "--tls")]
        {
            let (code, said) = ends(flags, &by_name);
            assert!(code == Some(2) && said.contains(missing), "{tool} {flags:?}: {said}");
        }
    }
    let (_, said) = run(&["ping", &by_name]);
    assert!(said.contains("takes TLS only"), "{said}");
    let plain = Node::start(&["0"]);
    let (code, said) = run(&[&["ping", "--timeout", "0.5"], &tls[..], &[&plain.address.to_string()]].concat());
    assert!(code == Some(1) && said.contains("leave out --tls") && said.lines().count() == 1, "{said}");
}

#[test]
fn many_commands_and_long_values_go_over_one_connection() {
    let _machine = shared_machine();
    let authority = Authority::new("tools-long");
    let node = start(&authority.sign_local("node"), &[]);
    let (server, ca) = (node.address.to_string(), authority.ca());
    let mut child = binary()
        .args(["cli", "--tls", "--tls-ca", text(&ca), &server])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Longer than what TLS takes at once, and than sockets hold.
    let value = "v".repeat(900 << 10);
    let asked = format!("SET long {value}\n{}GET long\n", "INCR count\n".repeat(20));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(asked.as_bytes()).expect("it reads");
    drop(stdin);
    let Output { status, stdout, .. } = child.wait_with_output().expect("it ends");
    let counts: String = (1..=20).map(|count| format!("{count}\n")).collect();
    assert!(status.success() && stdout == format!("OK\n{counts}{value}\n").as_bytes(), "{} bytes", stdout.len());
    // All of it came over one connection, besides the one that asks.
    let (_, said) = run(&["cli", "--tls", "--tls-ca", text(&ca), &server, "INFO", "stats"]);
    assert!(said.contains("total_connections_received:2"), "{said}");
}

#[test]
fn tools_show_certificates_where_they_must() {
    let _machine = shared_machine();
    let (authority, strangers) = (Authority::new("tools-shown"), Authority::new("tools-unknown"));
    let ca = authority.ca();
    let node = start(&authority.sign_local("node"), &["--tls-client-ca", text(&ca)]);
    let server = node.address.to_string();
    let (own, strange) = (authority.sign("alice", &[]), strangers.sign("mallory", &[]));
    for (tool, rest, says) in TOOLS {
        let ends = |shown: Option<&Signed>| {
            let mut arguments = vec![tool, "--tls", "--tls-ca", text(&ca)];
            arguments.extend(shown.iter().flat_map(|one| ["--tls-cert", text(&one.cert), "--tls-key", text(&one.key)]));
            run(&[&arguments[..], &[&server], rest].concat())
        };
        let (code, said) = ends(Some(&own));
        assert!(code == Some(0) && said.contains(says), "{tool}: {said}");
        for shown in [None, Some(&strange)] {
            let (code, said) = ends(shown);
            assert!(code == Some(1) && !said.contains(says), "{tool}: {said}");
        }
    }
    let (code, said) = run(&["ping", "--tls", "--tls-ca", text(&ca), "--tls-cert", text(&own.cert), &server]);
    assert!(code == Some(2) && said.contains("--tls-key"), "{said}");
}

#[test]
fn a_status_asks_all_members_by_tls() {
    let _machine = shared_machine();
    let authority = Authority::new("tools-status");
    let ca = authority.ca();
    let ports = [free_port(), free_port()];
    let node = |at: usize, peers: &[u16]| {
        let signed = authority.sign_local(&format!("node-{at}"));
        let own = ["--tls", "required", "--tls-cert", text(&signed.cert), "--tls-key", text(&signed.key)];
        Node::join(ports[at], peers, &[&own[..], &["--tls-peers", "--tls-peer-ca", text(&ca)]].concat())
    };
    let nodes = [node(0, &[]), node(1, &ports[..1])];
    let server = nodes[0].address.to_string();
    eventually("all is well", PATIENCE, || match run(&["status", "--tls", "--tls-ca", text(&ca), &server]) {
        (Some(0), said) if said.contains("All 2 members are up") => Ok(()),
        (_, said) => Err(said),
    });
}
