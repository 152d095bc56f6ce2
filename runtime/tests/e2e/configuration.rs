//! Options from a file, and SIGHUP.

use std::path::PathBuf;
use std::process::Output;

use rustix::process::Signal;

use crate::harness::{Client, Node, PATIENCE, binary, eventually, shared_machine};

/// A file of options while a test runs.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let this = Self(std::env::temp_dir().join(format!("simple-kv-e2e-{name}-{}.toml", std::process::id())));
        this.put(text);
        this
    }

    fn put(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    binary().args(arguments).envs(environment.iter().copied()).output().expect("the binary starts")
}

/// What `CONFIG GET` says of one setting.
fn setting(client: &mut Client, name: &str) -> String {
    assert_eq!(client.ask(&format!("CONFIG GET {name}")), name);
    client.line()
}

#[test]
fn a_file_is_checked_and_printed_without_starting() {
    let _machine = shared_machine();
    let file = Written::new("check", "max-clients = 5\nlog_level = 'warn'\nport = 7\n");
    let output = run(&["--config", file.as_str(), "--check-config"], &[]);
    assert_eq!((output.status.code(), &output.stdout[..], &output.stderr[..]), (Some(0), &b"ok\n"[..], &b""[..]));

    let environment = [("SIMPLE_KV_CONFIG", file.as_str()), ("SIMPLE_KV_LOG_LEVEL", "debug")];
    let output = run(&["--print-config", "--cluster", "red"], &environment);
    let printed = String::from_utf8(output.stdout).unwrap();
    for line in [
        &format!("port = 7  # file {:?}, line 3", file.as_str()),
        &format!("max-clients = 5  # file {:?}, line 1", file.as_str()),
        "log-level = \"debug\"  # environment SIMPLE_KV_LOG_LEVEL",
        "cluster = \"red\"  # command line",
        "ring-size = \"64MiB\"  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    assert_eq!(output.status.code(), Some(0));

    for (text, flags, says) in [
        ("port = 1\nmax-client = 5", &[][..], ", line 2: there is no option 'max-client'; did you mean 'max-clients'?"),
        ("max-clients = 0", &[], ", line 1: invalid value '0' for '--max-clients <COUNT>': give a number from 1"),
        ("listen = '0.0.0.0'", &[], "--allow-unauthenticated"),
        ("fsync = 'always'", &[], "--data-dir"),
        ("", &["--data-dir", "/dev/null"], "/dev/null is not a directory"),
    ] {
        file.put(text);
        let output = run(&[&["--check-config", "--config", file.as_str()], flags].concat(), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_signal_has_the_file_read_again() {
    let _machine = shared_machine();
    let file = Written::new("reload", "port = 0\nmax-clients = 100\nlog-level = 'info'\ncluster = 'red'\n");
    let node = Node::start(&["--config", file.as_str(), "--forget-after", "60"]);
    let mut client = Client::connect(node.address);
    assert_eq!(setting(&mut client, "maxclients"), "100");
    assert_eq!(setting(&mut client, "cluster"), "red");
    assert_eq!(client.ask("CONFIG SET proto-max-bulk-len 1kb"), "OK");

    // What is above the file stays, what cannot change is named, and what a client set is as configured again.
    file.put("port = 0\nmax-clients = 200\nforget-after = 90\ncluster = 'blue'\nname = 'other'\n");
    node.signal(Signal::HUP);
    node.logged("read the options again", PATIENCE);
    assert_eq!(setting(&mut client, "maxclients"), "200");
    assert_eq!(setting(&mut client, "forget-after"), "60");
    assert_eq!(setting(&mut client, "cluster"), "red");
    assert_eq!(setting(&mut client, "proto-max-bulk-len"), (64 << 20).to_string());
    let changed: Vec<(String, String, String)> = node
        .log()
        .iter()
        .map(|line| line["fields"].clone())
        .filter(|fields| fields["message"] == "changed")
        .map(|fields| ["setting", "from", "to"].map(|name| fields[name].as_str().unwrap_or_default().to_owned()))
        .map(|[setting, from, to]| (setting, from, to))
        .collect();
    for expected in [("maxclients", "100", "200"), ("proto-max-bulk-len", "1024", "67108864")] {
        let (setting, from, to) = expected;
        assert!(changed.contains(&(setting.to_owned(), from.to_owned(), to.to_owned())), "{changed:?}");
    }
    assert_eq!(changed.len(), 3, "what a client sets is told, too: {changed:?}");
    let stays = node.logged("what was changed of these wants a restart; they stay as they were", PATIENCE);
    assert_eq!(stays["options"], "name, cluster");

    // A mistake, anywhere in it, changes nothing.
    file.put("max-clients = 300\nmax-value-size = 'much'\n");
    node.signal(Signal::HUP);
    let broken = node.logged("cannot read the options again; nothing was changed", PATIENCE);
    assert!(broken["why"].as_str().unwrap().contains(", line 2: "), "{broken}");
    assert_eq!(setting(&mut client, "maxclients"), "200");

    // From there on other lines are logged.
    file.put("max-clients = 400\nlog-level = 'error'\ncluster = 'red'\nport = 0\n");
    node.signal(Signal::HUP);
    eventually("the file is read", PATIENCE, || match setting(&mut client, "maxclients").as_str() {
        "400" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(client.ask("CONFIG SET maxclients 401"), "OK");
    assert_eq!(client.ask("CONFIG SET loglevel notice"), "OK");
    assert_eq!(client.ask("CONFIG SET maxclients 402"), "OK");
    eventually("the last change is logged", PATIENCE, || {
        let log = node.log();
        let last = log.last().map(|line| line["fields"]["to"].clone()).unwrap_or_default();
        (last == "402").then_some(()).ok_or(last.to_string())
    });
    assert!(node.log().iter().all(|line| line["fields"]["to"] != "401"));
}
