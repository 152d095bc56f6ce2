//! `simple-kv bench`: what it counts is what was asked and answered, and what it cannot measure it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Node, PATIENCE, binary, eventually, free_port, quiet_machine, shared_machine, terminal};

/// Runs a load to its end.
fn bench(server: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.args(["bench", &server.to_string()]).args(arguments);
    command.output().expect("the binary starts")
}

/// What a load with `--json` told, that went well.
fn measured(server: SocketAddr, arguments: &[&str]) -> Vec<Value> {
    let output = bench(server, &[arguments, &["--json"]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.as_str()), (Some(0), ""), "{arguments:?}");
    lines(&output)
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn check_failed(output: &Output, mentions: &[&str]) {
    let told = std::str::from_utf8(&output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    for mention in mentions {
        assert!(told.contains(mention), "{told:?} does not mention {mention:?}");
    }
}

/// A server of one connection that answers each line, of which number it is, as `answer` says, or closes.
fn server(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // The first that connects only looks whether anybody listens.
        for stream in listener.incoming().skip(1).map_while(Result::ok) {
            let mut lines = BufReader::new(stream);
            let mut line = String::new();
            let mut number = 0;
            while matches!(lines.read_line(&mut line), Ok(1..)) {
                match answer(number).map(|answer| lines.get_mut().write_all(answer.as_bytes())) {
                    Some(Ok(())) => number += 1,
                    _ => break,
                }
            }
        }
    });
    address
}

#[test]
fn every_request_is_counted_in_either_protocol() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let mut client = node.client();
    let mut asked = 0;
    for protocol in ["resp", "telnet"] {
        for (requests, more) in [(500, &["-P", "4"][..]), (7, &["-c", "20"]), (300, &["--threads", "3", "-P", "64"])] {
            let count = requests.to_string();
            let arguments = ["--protocol", protocol, "-n", &count, "--keys", "40", "-c", "3", "-d", "1KiB"];
            let arguments = match more {
                ["-c", _] => {
                    arguments.iter().filter(|word| !["-c", "3"].contains(*word)).chain(more).copied().collect()
                }
                _ => [&arguments, more].concat(),
            };
            let told = measured(node.address, &[&arguments[..], &["--ops", "set,get,mixed,incr,ping"]].concat());
            let operations: Vec<&str> = told.iter().map(|line| line["operation"].as_str().unwrap()).collect();
            assert_eq!(operations, ["set", "get", "mixed", "incr", "ping"]);
            for line in &told {
                assert_eq!(line["protocol"], protocol);
                assert_eq!(
                    (&line["succeeded"], &line["refused"], &line["absent"]),
                    (&requests.into(), &0.into(), &0.into())
                );
                assert_eq!((&line["unanswered"], &line["unsent"]), (&0.into(), &0.into()));
                let rate = line["succeeded"].as_f64().unwrap() / line["seconds"].as_f64().unwrap();
                assert!((line["per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9, "{line}");
                let latencies =
                    ["p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| line["latency_us"][name].as_f64());
                assert!(latencies[0] > Some(0.0) && latencies.is_sorted(), "{line}");
            }
            asked += requests;
            // What it says was added was, once.
            let sum: i64 =
                (0..40).filter_map(|key| client.ask(&format!("GET counter:{key:012}")).parse::<i64>().ok()).sum();
            assert_eq!(sum, asked);
        }
    }
    for key in [0, 39] {
        assert_eq!(client.ask(&format!("GET key:{key:012}")), "x".repeat(1_024));
    }
    assert_eq!(client.ask("GET key:000000000040"), "Key not found");
}

#[test]
fn a_time_is_kept_and_a_rate_is() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let arguments = ["--seconds", "0.3", "--warm-up", "0.1", "--keys", "10", "--ops", "get"];
    let told = &measured(node.address, &arguments)[0];
    assert!(told["succeeded"].as_u64() > Some(0) && told["seconds"].as_f64() >= Some(0.3), "{told}");
    assert_eq!((&told["warm_up_seconds"], &told["asked_seconds"]), (&0.1.into(), &0.3.into()));

    let told = &measured(node.address, &["-n", "100", "--rate", "500", "--keys", "10", "--ops", "get"])[0];
    assert_eq!(told["succeeded"], 100);
    // The last is due after 99 of 500 parts of a second.
    assert!(told["seconds"].as_f64() >= Some(0.198), "{told}");

    // Those of the warm-up do not count.
    let told = &measured(node.address, &[&arguments[..], &["--rate", "1000"]].concat())[0];
    assert_eq!(counted(told), 300, "{told}");
}

/// How many requests count.
fn counted(told: &Value) -> u64 {
    ["succeeded", "refused", "unanswered", "unsent"].map(|name| told[name].as_u64().unwrap()).iter().sum()
}

/// A server of lines whose first answer comes after `stall`, and the others at once.
fn stalling(stall: Duration) -> SocketAddr {
    server(move |number| {
        let begin = Instant::now();
        while number == 0 && begin.elapsed() < stall {
            thread::yield_now();
        }
        Some("PONG\n".to_owned())
    })
}

#[test]
fn what_was_due_in_the_warm_up_does_not_count() {
    let _machine = quiet_machine();
    let arguments = ["--protocol", "telnet", "--ops", "ping", "-c", "1", "--rate", "1000"];
    let arguments = [&arguments[..], &["--warm-up", "0.2", "--seconds", "0.2"]].concat();
    // The stall ends when half of that is measured which was due after the warm-up.
    let told = &measured(stalling(Duration::from_millis(300)), &arguments)[0];
    assert_eq!((counted(told), told["succeeded"].as_u64() > Some(0)), (200, true), "{told}");
    assert!(told["per_second"].as_f64() <= Some(1_000.0), "{told}");
    // Here it lasts beyond the end.
    let told = &measured(stalling(Duration::from_millis(600)), &arguments)[0];
    assert_eq!((&told["succeeded"], &told["unsent"]), (&0.into(), &200.into()), "{told}");
}

#[test]
fn a_stall_at_the_end_does_not_stretch_the_time() {
    let _machine = quiet_machine();
    let arguments = ["--protocol", "telnet", "--ops", "ping", "-c", "1", "--warm-up", "0", "--seconds", "0.2"];
    let told = &measured(stalling(Duration::from_millis(400)), &arguments)[0];
    assert_eq!([&told["succeeded"], &told["late"]], [1, 1], "{told}");
    assert_eq!([&told["seconds"], &told["per_second"]], [0.2, 0.0], "{told}");
    assert!(told["latency_us"]["max"].as_f64() >= Some(399_000.0), "{told}");
}

#[test]
fn an_open_load_sees_whom_a_stall_held_up() {
    const STALL: Duration = Duration::from_millis(200);
    let _machine = quiet_machine();
    let arguments = ["--protocol", "telnet", "--ops", "ping", "-c", "1", "-n", "20"];
    let closed = &measured(stalling(STALL), &arguments)[0]["latency_us"];
    assert!(closed["max"].as_f64() >= Some(199_000.0) && closed["p50"].as_f64() < Some(50_000.0), "{closed}");
    // Each 10 ms one is due, and each but the last has to wait.
    let open = &measured(stalling(STALL), &[&arguments[..], &["--rate", "100"]].concat())[0]["latency_us"];
    assert!(open["max"].as_f64() >= Some(199_000.0) && open["p50"].as_f64() >= Some(99_000.0), "{open}");
}

#[test]
fn what_cannot_be_sent_in_time_is_counted() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let arguments =
        ["--rate", "10000000", "-c", "1", "--seconds", "0.2", "--warm-up", "0", "--ops", "ping", "--threads", "2"];
    let told = &measured(node.address, &arguments)[0];
    let [succeeded, unsent] = ["succeeded", "unsent"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(succeeded + unsent, 2_000_000, "{told}");
    // Most of them waited until the end.
    assert!(succeeded > 0 && told["latency_us"]["p50"].as_f64() > Some(50_000.0), "{told}");
}

#[test]
fn refusals_are_no_successes() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    node.client().set("counter:000000000000", "word");
    for (protocol, says) in [("resp", "not an integer"), ("telnet", "Error: ")] {
        let arguments = ["--protocol", protocol, "--ops", "incr,get", "--keys", "2", "-n", "200", "--no-fill"];
        let output = bench(node.address, &[&arguments[..], &["--json"]].concat());
        check_failed(&output, &["refused", "incr", says]);
        let told = lines(&output);
        let [succeeded, refused] = ["succeeded", "refused"].map(|name| told[0][name].as_u64().unwrap());
        assert!(succeeded + refused == 200 && succeeded > 0 && refused > 0, "{}", told[0]);
        assert!(told[0]["first_refusal"].as_str().unwrap().contains(says), "{}", told[0]);
        let rate = succeeded as f64 / told[0]["seconds"].as_f64().unwrap();
        assert!((told[0]["per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9, "{}", told[0]);
        // The others are measured all the same. Nothing is there to get.
        assert_eq!(
            (&told[1]["succeeded"], &told[1]["absent"], &told[1]["refused"]),
            (&200.into(), &200.into(), &0.into())
        );
        let table = bench(node.address, &arguments);
        let rows = String::from_utf8(table.stdout).unwrap();
        let row: Vec<&str> = rows.lines().find(|row| row.starts_with("incr")).unwrap().split_whitespace().collect();
        assert_eq!(row[2].parse::<u64>().unwrap() + row[4].parse::<u64>().unwrap(), 200, "{rows}");
    }
    let full = server(|_| Some("Error: no room\n".to_owned()));
    let output = bench(full, &["--protocol", "telnet", "--keys", "3", "-c", "1"]);
    check_failed(&output, &["refused to set a key", "nothing was measured", "no room"]);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_server_that_cannot_be_measured_is_told_of() {
    let _machine = shared_machine();
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    check_failed(&bench(nobody, &[]), &["cannot connect", "nobody listens"]);
    let arguments = ["--protocol", "telnet", "--ops", "ping", "-c", "1", "-n", "9"];
    let redis = server(|_| Some("+PONG\r\n".to_owned()));
    check_failed(&bench(redis, &arguments), &["another protocol", "--protocol", ": +PONG"]);
    let talks = server(|_| Some("PONG\nPONG\n".to_owned()));
    check_failed(&bench(talks, &arguments), &["nobody asked for", "PONG"]);
    // In the warm-up, too.
    for arguments in [&arguments[..], &["--protocol", "telnet", "--ops", "ping", "-c", "1"]] {
        let crowded = server(|number| (number == 0).then(|| "Error: no room\n".to_owned()));
        check_failed(&bench(crowded, arguments), &["closed a connection", "refused a request: Error: no room"]);
    }
    let node = Node::start(&["0", "--max-clients", "3"]);
    for arguments in [&["-c", "5"][..], &["-c", "5", "--no-fill"], &["-c", "5", "--no-fill", "--rate", "1000"]] {
        for protocol in ["resp", "telnet"] {
            let output = bench(node.address, &[arguments, &["--protocol", protocol]].concat());
            check_failed(&output, &["refused a", ": Error: too many connections"]);
        }
    }
    for (arguments, mention) in [
        (&["--requests", "5", "--seconds", "1"][..], "cannot be used with"),
        (&["--connections", "0"], "1 to 50000"),
        (&["--value-size", "1GiB"], "too large"),
        (&["--rate", "NaN"], "0.1 to 100000000"),
        (&["--ops", "steal"], "steal"),
        (&["-P", "1000", "-d", "64MiB"], "3200004 MiB of memory, and 1 GiB is the most; lower --connections"),
        (&["-c", "50000", "-P", "50000", "-d", "1"], "1 GiB is the most"),
    ] {
        let output = bench(nobody, arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains(mention), "{told}");
    }
}

#[test]
fn a_server_that_dies_midway_ends_a_load() {
    let _machine = shared_machine();
    for threads in ["1", "2"] {
        let mut node = Node::start(&["0"]);
        let mut command = binary();
        command.args(["bench", &node.address.to_string(), "--no-fill", "--seconds", "600", "--threads", threads]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut client = node.client();
        eventually("the load has begun", PATIENCE, || match client.stats()["keys"].as_u64() {
            Some(100..) => Ok(()),
            keys => Err(format!("{keys:?} keys")),
        });
        node.kill();
        let output = child.wait_with_output().unwrap();
        check_failed(&output, &[&node.address.to_string(), "closed a connection", "not shown"]);
    }
}

#[test]
fn who_never_answers_is_waited_for_a_while() {
    let _machine = shared_machine();
    let mute = server(|number| Some(if number < 3 { "PONG\n" } else { "" }.to_owned()));
    let arguments = ["--protocol", "telnet", "--ops", "ping", "-c", "1", "--seconds", "0.1", "--warm-up", "0"];
    let output = bench(mute, &[&arguments[..], &["--json"]].concat());
    check_failed(&output, &["did not answer 1 requests of ping"]);
    let told = &lines(&output)[0];
    assert_eq!((&told["succeeded"], &told["unanswered"]), (&3.into(), &1.into()));
    // However long that was.
    assert_eq!(told["seconds"], 0.1, "{told}");
    // It counts by how long it has waited.
    assert!(told["latency_us"]["max"].as_f64() > Some(4_000_000.0), "{told}");
}

#[test]
fn a_terminal_has_a_bar_and_a_program_has_none() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    for (more, has_bar) in [(&[][..], true), (&["--json"], false)] {
        let (mut controller, terminal) = terminal();
        let mut command = binary();
        command.args(["bench", &node.address.to_string(), "--ops", "ping", "--seconds", "0.5"]).args(more);
        let mut child =
            command.env("TERM", "xterm").stdout(Stdio::null()).stderr(Stdio::from(terminal)).spawn().unwrap();
        drop(command);
        let mut printed = Vec::new();
        // It ends with an error once nobody holds the other end.
        let _ = controller.read_to_end(&mut printed);
        assert!(child.wait().unwrap().success());
        let printed = String::from_utf8_lossy(&printed);
        assert_eq!(printed.contains("ping") && printed.contains('%'), has_bar, "{printed:?}");
        assert!(has_bar || printed.is_empty(), "{printed:?}");
    }
}
