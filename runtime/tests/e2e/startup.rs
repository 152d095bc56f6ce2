//! How the program begins: what it takes, what it refuses and in which words.

use std::net::TcpListener;
use std::process::Output;

use crate::harness::{Node, PATIENCE, binary, free_port, shared_machine};

/// Runs a command line that must not come to a node, and returns how it ended.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = binary();
    command.args(arguments).envs(environment.iter().copied());
    command.output().expect("the binary starts")
}

fn check_refused(arguments: &[&str], exit_code: i32, mentions: &[&str]) {
    check_output(refused(arguments, &[]), exit_code, mentions);
}

fn check_output(output: Output, exit_code: i32, mentions: &[&str]) {
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit_code), "{told}");
    assert!(output.stdout.is_empty());
    assert_eq!(told.lines().filter(|line| line.starts_with("simple-kv: ")).count(), 1, "{told}");
    assert!(!told.contains("panicked") && !told.contains("backtrace"), "{told}");
    for mention in mentions {
        assert!(told.contains(mention), "{told:?} does not mention {mention:?}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let _machine = shared_machine();
    check_refused(&["port"], 2, &["'port'", "number"]);
    check_refused(&["65536"], 2, &["65536"]);
    check_refused(&["8080", "localhost"], 2, &["'localhost'", "host:port"]);
    check_refused(&["8080", "localhost:1,,localhost:2"], 2, &["host:port"]);
    check_refused(&["--max-client", "5"], 2, &["--max-clients"]);
    check_refused(&["--ring-size", "much"], 2, &["64MiB"]);
    check_refused(&["--ring-size", "65GiB"], 2, &["at most 68719476736 bytes"]);
    check_refused(&["--max-value-size", "512MiB"], 2, &["at most 536870911 bytes"]);
    check_refused(&["--name", &"n".repeat(256)], 2, &["1 to 255"]);
    check_refused(&["--cluster", "two words"], 2, &["1 to 255"]);
    check_refused(&["--log-level", "loud"], 2, &["loud", "debug"]);
    check_refused(&["--listen", "example.org"], 2, &["IP address"]);
    check_output(refused(&[], &[("SIMPLE_KV_LOG_FORMAT", "xml")]), 2, &["xml", "json"]);
}

#[test]
fn an_open_door_must_be_asked_for() {
    let _machine = shared_machine();
    for address in ["0.0.0.0", "::", "192.0.2.1"] {
        check_refused(&["--listen", address, "0"], 2, &[address, "--allow-unauthenticated"]);
    }
    let node = Node::start(&["0", "--listen", "0.0.0.0", "--allow-unauthenticated"]);
    assert!(node.address.ip().is_unspecified());
    let advertised = node.logged("starting", PATIENCE)["advertise"].as_str().unwrap().to_owned();
    assert!(advertised.ends_with(&format!(":{}", node.port())) && !advertised.starts_with("0.0.0.0"), "{advertised}");
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let _machine = shared_machine();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    check_refused(&[&port], 1, &["127.0.0.1", &port, "in use"]);
}

#[test]
fn an_address_of_another_machine_is_one_line_and_exit_code_1() {
    let _machine = shared_machine();
    check_refused(&["0", "--listen", "192.0.2.1", "--allow-unauthenticated"], 1, &["192.0.2.1", "no such address"]);
}

#[test]
fn help_and_version_are_no_failures() {
    let _machine = shared_machine();
    for (flag, mention) in [("--help", "simple-kv 8081 localhost:8080"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = refused(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(mention));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn flags_win_over_the_environment() {
    let _machine = shared_machine();
    let mut command = binary();
    command.args(["0", "--name", "given"]).env("SIMPLE_KV_NAME", "inherited").env("SIMPLE_KV_ADVERTISE", "localhost:1");
    let node = Node::spawn(command);
    let starting = node.logged("starting", PATIENCE);
    assert_eq!(starting["name"], "given");
    assert_eq!(starting["advertise"], "localhost:1");
}

#[test]
fn a_peer_that_is_not_there_stops_nothing() {
    let _machine = shared_machine();
    let nobody = free_port();
    let node = Node::join(0, &[nobody], &[]);
    assert_eq!(node.client().ask("PING"), "PONG");
}

#[test]
fn a_name_that_nobody_knows_stops_nothing() {
    let _machine = shared_machine();
    let node = Node::start(&["0", "no-such-host.invalid:8080", "--allow-unauthenticated"]);
    assert_eq!(node.client().ask("PING"), "PONG");
}
