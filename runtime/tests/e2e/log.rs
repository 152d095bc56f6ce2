//! Log lines: shape and colour.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Client, Node, PATIENCE, binary, eventually, free_port, quiet_machine, shared_machine, terminal};

const ESCAPE: char = '\x1b';

/// What a node prints on a terminal from its start to its end.
fn printed_on_a_terminal(environment: &[(&str, &str)]) -> String {
    let (mut controller, terminal) = terminal();
    let mut command = binary();
    command.arg("0").envs(environment.iter().copied()).stderr(Stdio::from(terminal));
    let mut child = command.spawn().unwrap();
    // The command holds the terminal too: once it and the child are gone, reading ends.
    drop(command);
    let mut printed = String::new();
    let mut told = false;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = controller.read(&mut buffer) {
        printed.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !told && printed.contains("listening") {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            told = true;
        }
    }
    eventually("the process ends", PATIENCE, || match child.try_wait().unwrap() {
        Some(_) => Ok(()),
        None => Err("it still runs".to_owned()),
    });
    printed
}

#[test]
fn a_terminal_has_colours_unless_no_color_is_set() {
    let _machine = shared_machine();
    for colour in [&[][..], &[("NO_COLOR", "1"), ("SIMPLE_KV_COLOR", "always")]] {
        assert!(printed_on_a_terminal(colour).contains(ESCAPE), "{colour:?}");
    }
    let never = [("SIMPLE_KV_COLOR", "never")];
    for no_colour in [&[("NO_COLOR", "1")][..], &never, &[("SIMPLE_KV_LOG_FORMAT", "json")]] {
        let printed = printed_on_a_terminal(no_colour);
        assert!(!printed.contains(ESCAPE), "{printed:?}");
    }
}

#[test]
fn json_lines_are_json_and_the_level_holds() {
    let _machine = shared_machine();
    let mut node = Node::start(&["0"]);
    node.signal(Signal::TERM);
    node.exit_status(PATIENCE);
    let stopped = node.logged("stopped", PATIENCE);
    assert!(stopped.is_object());

    // Without log lines, its first sign of life is that it accepts.
    let port = free_port();
    let mut quiet = binary();
    quiet.args([&port.to_string(), "--log-level", "error"]).stderr(Stdio::piped());
    let mut child = quiet.spawn().unwrap();
    eventually("the node accepts", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut printed = String::new();
    child.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(printed, "");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    /// Connections, each of which is worth a line.
    const REFUSED: usize = 1_500;
    let _machine = quiet_machine();
    let port = free_port();
    let mut command = binary();
    command.args([&port.to_string(), "--log-level", "debug"]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Held and not read: far more is logged than a pipe takes.
    let mut unread = child.stderr.take().unwrap();
    let address = ([127, 0, 0, 1], port).into();
    eventually("the node accepts", PATIENCE, || Client::try_connect(address).map(drop));
    for _ in 0..REFUSED {
        let mut stream = TcpStream::connect(address).unwrap();
        // The node may close it before it has all.
        let _ = stream.write_all(&[&b"\x93skv\r\n\x1a\n"[..], &[0xff; 40]].concat());
    }
    let mut client = Client::connect(address);
    client.send(b"PING\n");
    let answer = client.try_line();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = eventually("the process ends", PATIENCE, || match child.try_wait().unwrap() {
        Some(status) => Ok(status),
        None => Err("it still runs".to_owned()),
    });
    let mut printed = String::new();
    unread.read_to_string(&mut printed).unwrap();
    assert_eq!(answer.as_deref(), Ok("PONG"));
    assert_eq!(ended.code(), Some(0));
    // Else the pipe was never full, and this has shown nothing.
    let lines = printed.lines().count();
    assert!(printed.contains("listening") && (100..REFUSED).contains(&lines), "{lines} lines");
}
