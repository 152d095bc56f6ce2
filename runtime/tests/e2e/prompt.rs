//! What people have at the prompt: `ping` and `status`, and what mistyped commands, shells and manuals get.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Node, PATIENCE, binary, eventually, free_port, shared_machine, terminal};

/// What a tool prints, and how it ends.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = binary().args(arguments).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// A server that answers whoever comes with these bytes, and then reads on.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // Who has left wants no answer.
                let _ = stream.write_all(answer);
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

#[test]
fn a_ping_tells_by_its_exit_code_who_answers() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let address = node.address.to_string();
    for (flags, says) in [(&[][..], "answers after"), (&["--ready"], "is ready after")] {
        let (code, out, err) = run(&[&["ping", address.as_str()], flags].concat());
        assert_eq!((code, err.as_str(), out.lines().count()), (Some(0), "", 1), "{out}");
        assert!(out.starts_with(&format!("{address} {says}")), "{out}");
    }
    let nobody = format!("127.0.0.1:{}", free_port());
    let silent = server(b"").to_string();
    let refusing = server(b"-ERR max number of clients reached\r\n").to_string();
    let locked = server(b"-NOAUTH Authentication required.\r\n").to_string();
    let strange = server(b"220 mail \x1b[2J ready\r\n").to_string();
    let starting =
        server(b"HTTP/1.1 503 x\r\nContent-Length: 41\r\n\r\n{\"ready\":false,\"reasons\":[{\"text\":\"so\"}]}");
    let starting = starting.to_string();
    for (arguments, expected, says) in [
        (&["ping", &nobody][..], 1, "nobody listens there"),
        (&["ping", &nobody, "--ready"], 1, "nobody listens there"),
        (&["ping", &silent, "--timeout", "0.1"], 1, "does not answer within 0.1 s"),
        (&["ping", &refusing], 1, "max number of clients"),
        (&["ping", &locked], 0, "wants a password"),
        (&["ping", &strange], 1, r"it says: 220 mail \x1b[2J ready"),
        (&["ping", &strange, "--ready", "--timeout", "0.3"], 1, ""),
        (&["ping", &starting, "--ready"], 1, "is not ready: so"),
        (&["ping", "nowhere"], 2, "host:port"),
        (&["ping", &address, "--timeout", "never"], 2, "seconds"),
    ] {
        let (code, out, err) = run(arguments);
        let said = out + &err;
        assert_eq!((code, said.lines().count()), (Some(expected), 1), "{arguments:?}: {said}");
        assert!(said.contains(says) && !said.contains('\x1b'), "{arguments:?}: {said}");
    }
}

#[test]
fn a_node_that_loads_or_stands_still_is_not_ready() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let address = node.address.to_string();
    node.stop();
    for flags in [&[][..], &["--ready"]] {
        let (code, _, err) = run(&[&["ping", address.as_str(), "--timeout", "0.2"], flags].concat());
        assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    }
    node.signal(Signal::CONT);
    // A peer that nobody can reach: it is waited for a moment.
    let nobody = free_port();
    let alone = Node::join(free_port(), &[nobody], &[]);
    let address = alone.address.to_string();
    let (code, _, err) = run(&["ping", &address, "--ready"]);
    let says = format!(
        "is not ready: it has not joined its cluster yet; it waits a moment for localhost:{nobody} to be linked\n"
    );
    assert!(code == Some(1) && err.ends_with(&says), "{err}");
    let out = eventually("a node without its peer is ready", PATIENCE, || match run(&["ping", &address, "--ready"]) {
        (Some(0), out, _) => Ok(out),
        (_, _, err) => Err(err),
    });
    assert!(out.contains("is ready after"), "{out}");
}

/// Three nodes, linked with each other.
fn three() -> [Node; 3] {
    let ports = [free_port(), free_port(), free_port()];
    let nodes = ports.map(|port| {
        let others: Vec<u16> = ports.iter().copied().filter(|other| *other != port).collect();
        Node::join(port, &others, &[])
    });
    for node in &nodes {
        let mut client = node.client();
        eventually("all are linked", PATIENCE, || {
            let peers = client.stats()["peers"].clone();
            let up = peers.as_array().expect("a list").iter().filter(|peer| peer["state"] == "up").count();
            if up == 2 { Ok(()) } else { Err(peers.to_string()) }
        });
    }
    nodes
}

#[test]
fn a_status_is_of_all_members_and_says_what_is_wrong() {
    let _machine = shared_machine();
    let mut nodes = three();
    nodes[1].client().set("key", "value");
    let address = nodes[0].address.to_string();
    let text = eventually("all is well", PATIENCE, || match run(&["status", &address]) {
        (Some(0), out, _) if out.contains("hold the same data") => Ok(out),
        (code, out, err) => Err(format!("{code:?} {out} {err}")),
    });
    for node in &nodes {
        let name = node.address.to_string();
        let row = text.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{name}: {text}"));
        assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), [&name, "up", "1"], "{text}");
    }
    assert!(text.lines().last() == Some("All 3 members are up and hold the same data."), "{text}");
    assert!(!text.contains('\x1b'), "no colour where there is no terminal");

    let told = json(&["status", &address, "--json"], 0);
    assert_eq!((&told["well"], told["members"].as_array().unwrap().len()), (&Value::Bool(true), 3));
    let names: Vec<&str> =
        told["members"].as_array().unwrap().iter().filter_map(|one| one["stats"]["node"].as_str()).collect();
    assert!(nodes.iter().all(|node| names.contains(&node.address.to_string().as_str())), "{names:?}");

    let gone = nodes[2].address.to_string();
    nodes[2].kill();
    nodes[0].client().ask("DEL key");
    let out = eventually("the loss is told", PATIENCE, || match run(&["status", &address]) {
        (Some(1), out, _) if out.contains("what ends that: FORGET") => Ok(out),
        (code, out, err) => Err(format!("{code:?} {out} {err}")),
    });
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("Something is wrong (2 of 3 members answer): "), "{out}");
    assert!(
        last.contains(&format!("{gone} cannot be connected to")) && last.contains(&format!("{gone} is down for")),
        "{out}"
    );
    let told = json(&["status", &address, "--json"], 1);
    assert_eq!((&told["well"], told["problems"].as_array().map(Vec::is_empty)), (&false.into(), Some(false)));
}

/// The JSON that a tool prints, which ends with `code`.
fn json(arguments: &[&str], code: i32) -> Value {
    let (got, out, err) = run(arguments);
    assert_eq!((got, err.as_str(), out.lines().count()), (Some(code), "", 1), "{out}");
    serde_json::from_str(&out).expect("JSON")
}

#[test]
fn a_status_of_who_answers_nothing_says_so_in_time() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    node.stop();
    let stopped = node.address.to_string();
    let silent = server(b"").to_string();
    let nobody = format!("127.0.0.1:{}", free_port());
    let evil = server(b"*2147483647\r\n").to_string();
    let locked = server(b"-NOAUTH Authentication required.\r\n").to_string();
    for (address, says) in [
        (&stopped, "does not answer within 0.2 s"),
        (&silent, "does not answer within 0.2 s"),
        (&nobody, "refused"),
        (&evil, "does not answer within 0.2 s"),
        (&locked, "wants a password"),
    ] {
        let (code, out, _) = run(&["status", address, "--timeout", "0.2"]);
        let last = out.lines().last().unwrap_or_default();
        assert!(code == Some(1) && last.starts_with("Something is wrong (0 of 1") && last.contains(says), "{out}");
    }
    node.signal(Signal::CONT);
}

#[test]
fn a_status_is_shown_anew_until_it_is_interrupted() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let address = node.address.to_string();
    let mut child = binary()
        .args(["status", &address, "--watch", "0.05", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut keys = || {
        let line = lines.next().expect("a line").expect("a line");
        serde_json::from_str::<Value>(&line).expect("JSON")["members"][0]["stats"]["keys"].as_u64()
    };
    assert_eq!(keys(), Some(0));
    node.client().set("key", "value");
    eventually("the write is shown", PATIENCE, || if keys() == Some(1) { Ok(()) } else { Err("not yet".to_owned()) });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0), "all was well at the end");
}

#[test]
fn a_terminal_has_colours_unless_they_are_not_wanted() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let address = node.address.to_string();
    for (flags, no_color, expected) in [
        (&[][..], "", true),
        (&[], "1", false),
        (&["--color", "always"], "1", true),
        (&["--color", "never"], "", false),
    ] {
        let (mut controller, terminal) = terminal();
        let mut command = binary();
        command.args(["status", &address]).args(flags).env("NO_COLOR", no_color).env("TERM", "xterm");
        let mut child = command.stdout(Stdio::from(terminal)).spawn().unwrap();
        drop(command);
        let mut shown = Vec::new();
        // Once nobody holds the terminal any more, reading ends with an error.
        let _ = controller.read_to_end(&mut shown);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("The one member is up."), "{shown}");
        assert_eq!(shown.contains("\x1b[32m"), expected, "{flags:?} {no_color:?}");
    }
}

#[test]
fn a_mistyped_command_is_told_with_the_one_that_was_meant() {
    let (code, out, err) = run(&["stauts"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let says = "simple-kv: 'stauts' is neither a port nor a command; did you mean 'simple-kv status'?";
    assert_eq!(err, format!("{says}; try 'simple-kv --help'\n"));
}

#[test]
fn shells_and_manuals_get_what_they_want() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(["status", "data-dir", "watch"].iter().all(|word| out.contains(word)), "{shell}");
    }
    assert_eq!(run(&["completions", "dos"]).0, Some(2));
    let (code, out, _) = run(&["man"]);
    assert!(code == Some(0) && out.contains(".TH simple-kv 1") && out.contains("data\\-dir"), "{out}");
    let dir = std::env::temp_dir().join(format!("simple-kv-man-{}", std::process::id()));
    let (code, out, err) = run(&["man", dir.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
    for page in ["simple-kv.1", "simple-kv-status.1", "simple-kv-bench.1"] {
        assert!(std::fs::read_to_string(dir.join(page)).unwrap().contains(".SH SYNOPSIS"), "{page}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
