//! Data that outlives the process.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::{Client, Node, PATIENCE, binary, eventually, shared_machine};

/// A data directory of a test's own, removed with it.
pub(crate) struct Data(PathBuf);

impl Data {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("durable-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.to_str().expect("a path that is text")
    }

    /// Starts the node of this directory, and waits until it has loaded what is there.
    fn start(&self, flags: &[&str]) -> Node {
        let node = Node::start(&[&["0", "--name", "n", "--data-dir", self.text()], flags].concat());
        node.logged("loaded", PATIENCE);
        node
    }

    /// The same, of a node whose replies wait for the disk.
    fn start_always(&self) -> Node {
        self.start(&["--fsync", "always"])
    }

    /// The same, which does not start if anything is damaged.
    fn start_strict(&self) -> Node {
        self.start(&["--fsync", "always", "--strict-recovery"])
    }

    /// The same, with twenty records, `k0` and so on, of the value that is returned, each in a block of its own.
    fn start_with_records(&self) -> (Node, String) {
        let node = self.start_always();
        let value = "v".repeat(1_000);
        for number in 0..20 {
            node.client().set(&format!("k{number}"), &value);
        }
        (node, value)
    }

    /// Its newest file of a kind that is longer than the beginning that every file has.
    fn newest(&self, kind: &str) -> PathBuf {
        const BEGINNING_BYTES: u64 = 300;
        let entries = fs::read_dir(&self.0).expect("it is there").map(|entry| entry.expect("it is there").path());
        let long = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.len() > BEGINNING_BYTES);
        let of_kind = entries.filter(|path| path.extension().is_some_and(|extension| extension == kind));
        of_kind.filter(long).max().expect("a file")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes `count` keys ahead and waits for all of the replies.
fn write(client: &mut Client, round: usize, count: usize) {
    let commands: String = (0..count).map(|number| format!("SET k{round}-{number} v{round}-{number}\n")).collect();
    client.send(commands.as_bytes());
    for number in 0..count {
        assert_eq!(client.line(), "OK", "{number}");
    }
}

/// How many of those keys are there, from the first on.
fn held(client: &mut Client, round: usize, count: usize) -> usize {
    let commands: String = (0..count).map(|number| format!("GET k{round}-{number}\n")).collect();
    client.send(commands.as_bytes());
    let replies: Vec<String> = (0..count).map(|_| client.line()).collect();
    let held = (0..count).take_while(|number| replies[*number] == format!("v{round}-{number}")).count();
    assert!(replies[held..].iter().all(|reply| reply == "Key not found"), "a prefix of what was written: {replies:?}");
    held
}

/// What a node says that does not start in `path`.
fn refused(path: &str, flags: &[&str], mentions: &[&str]) {
    let arguments = [&["0", "--data-dir", path], flags].concat();
    let output = binary().args(arguments).output().expect("the binary starts");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap_or_default();
    for mention in mentions {
        assert!(last.contains(mention), "{last:?} does not mention {mention:?}");
    }
}

#[test]
fn the_directory_is_made_for_its_owner_and_kept_by_one_process() {
    let _machine = shared_machine();
    let data = Data::new();
    let mut node = data.start(&[]);
    assert_eq!(fs::metadata(&data.0).unwrap().permissions().mode() & 0o777, 0o700);
    refused(data.text(), &["--name", "n"], &[data.text(), "another process has it", "--data-dir"]);
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    drop(data.start(&[]));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let _machine = shared_machine();
    let data = Data::new();
    refused(&format!("{}/deep", data.text()), &["--name", "n"], &[data.text(), "cannot create it", "No such file"]);
    fs::write(&data.0, "not a directory").unwrap();
    refused(data.text(), &["--name", "n"], &[data.text(), "Not a directory"]);
    fs::remove_file(&data.0).unwrap();
}

#[test]
fn what_was_acknowledged_outlives_the_process() {
    let _machine = shared_machine();
    let data = Data::new();
    for round in 0..5 {
        let mut node = data.start_always();
        for before in 0..round {
            assert_eq!(held(&mut node.client(), before, 500), 500, "after {before} of {round}");
        }
        assert_eq!(node.client().ask("GET deleted"), "Key not found");
        write(&mut node.client(), round, 500);
        node.client().set("deleted", "no");
        assert_eq!(node.client().ask("DEL deleted"), "OK");
        node.kill();
    }
}

/// Writes ever greater numbers to a few keys of its own, from `first` on, until the connection ends, and says which of
/// them were acknowledged.
fn write_until_killed(mut client: Client, writer: usize, first: u64, told: &Sender<(usize, u64)>) {
    for number in first.. {
        let key = usize::try_from(number).expect("it is small") % KEYS;
        let command = format!("SET w{writer}-{key} {number}\n");
        let sent = client.socket().write_all(command.as_bytes());
        match sent.map_err(|error| error.to_string()).and_then(|()| client.try_line()) {
            Ok(reply) if reply == "OK" => told.send((writer * KEYS + key, number)).expect("the test listens"),
            Ok(reply) => panic!("{reply}"),
            Err(_) => return,
        }
    }
}

/// Keys of a writer, and writers.
const KEYS: usize = 8;
const WRITERS: usize = 4;

#[test]
fn a_hundred_kills_under_load_take_nothing_that_was_acknowledged() {
    const ROUNDS: u64 = 100;
    let _machine = shared_machine();
    let data = Data::new();
    let mut acknowledged = vec![0; WRITERS * KEYS];
    for round in 0..ROUNDS {
        let mut node = data.start_strict();
        let mut client = node.client();
        for (index, newest) in acknowledged.iter().enumerate().filter(|(_, newest)| **newest > 0) {
            let held = client.ask(&format!("GET w{}-{}", index / KEYS, index % KEYS));
            // What was on its way when the process ended may be there.
            let is_there = held.parse().is_ok_and(|held: u64| held >= *newest);
            assert!(is_there, "round {round}: key {index} is {held}, and {newest} was acknowledged");
        }
        let (told, heard) = channel();
        let first = round * 1_000_000 + 1;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, told) = (node.client(), told.clone());
                thread::spawn(move || write_until_killed(client, writer, first, &told))
            })
            .collect();
        drop(told);
        // More or less, so that the node is killed at any point of its work.
        for _ in 0..=(round * 7) % 31 {
            let (index, number) = heard.recv_timeout(PATIENCE).expect("some write is acknowledged");
            acknowledged[index] = number;
        }
        node.kill();
        heard.iter().for_each(|(index, number)| acknowledged[index] = number);
        writers.into_iter().for_each(|writer| writer.join().expect("a writer ends with the connection"));
    }
}

#[test]
fn a_node_that_is_stopped_loses_nothing() {
    let _machine = shared_machine();
    for policy in ["everysec", "no"] {
        let data = Data::new();
        let mut node = data.start(&["--fsync", policy]);
        write(&mut node.client(), 0, 2_000);
        node.signal(Signal::TERM);
        assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
        assert_eq!(held(&mut data.start(&["--fsync", policy]).client(), 0, 2_000), 2_000);
    }
}

#[test]
fn a_log_that_was_cut_is_read_up_to_there() {
    let _machine = shared_machine();
    let data = Data::new();
    let mut node = data.start_always();
    // Taken in one turn, and so written as one.
    write(&mut node.client(), 0, 10);
    node.kill();
    let log = data.newest("log");
    let last = fs::read(&log).unwrap().windows(4).rposition(|bytes| bytes == b"v0-9").expect("the last value");
    OpenOptions::new().write(true).open(log).unwrap().set_len(last as u64 + 2).unwrap();
    let mut node = data.start_strict();
    node.logged("the log was cut while it was written; its torn end is left out", PATIENCE);
    for _ in 0..3 {
        let mut client = node.client();
        assert_eq!(held(&mut client, 0, 10), 9);
        assert_eq!(client.stats()["disk"]["damaged_places"], 0);
        let (code, printed, told) = tool(&["check", data.text()]);
        assert_eq!(code, Some(0), "{printed}{told}");
        // What was cut off once is no damage to whoever starts later.
        node.kill();
        node = data.start_strict();
    }
}

/// Turns one byte in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_told_and_costs_no_more_than_it_hit() {
    let _machine = shared_machine();
    let data = Data::new();
    let (mut node, value) = data.start_with_records();
    node.kill();
    let log = data.newest("log");
    damage(&log);
    let name = log.file_name().unwrap().to_str().unwrap();
    refused(data.text(), &["--name", "n", "--strict-recovery"], &[name, "damaged at byte", "--strict-recovery"]);

    let node = data.start(&[]);
    let told = node.logged("damage: what stood there is lost here, and is taken from the peers again", PATIENCE);
    assert_eq!(told["file"], name);
    let mut client = node.client();
    let held = (0..20).filter(|number| client.ask(&format!("GET k{number}")) == value).count();
    assert_eq!(held, 19);
    assert_eq!(client.stats()["disk"]["damaged_places"], 1);
}

#[test]
fn a_directory_of_another_node_is_not_taken() {
    let _machine = shared_machine();
    let data = Data::new();
    let mut node = data.start(&[]);
    node.client().set("k", "v");
    node.signal(Signal::TERM);
    node.exit_status(PATIENCE);
    refused(data.text(), &["--name", "other"], &["--name n"]);
    refused(data.text(), &["--name", "n", "--cluster", "other"], &["--cluster default"]);
}

/// Waits until the node of a full disk answers a write with `reply`.
fn eventually_answers(address: SocketAddr, reply: &str) {
    eventually(reply, PATIENCE, || {
        let mut client = Client::connect(address);
        client.send(b"SET k v\n");
        match client.try_line() {
            Ok(line) if line.starts_with(reply) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_full_disk_stops_writes_alone_and_for_as_long_as_it_is_full() {
    let _machine = shared_machine();
    for policy in ["always", "everysec"] {
        let data = Data::new();
        let mut node = data.start(&["--fsync", policy]);
        write(&mut node.client(), 0, 100);
        // No file may grow: what a disk without room answers.
        let limit = |bytes| Rlimit { current: bytes, maximum: None };
        prlimit(Some(node.pid()), Resource::Fsize, limit(Some(0))).expect("a child of ours");
        eventually_answers(node.address, "Error");
        assert_eq!(held(&mut node.client(), 0, 100), 100, "reads go on");
        assert_ne!(node.client().stats()["disk"]["state"], "whole");

        prlimit(Some(node.pid()), Resource::Fsize, limit(None)).expect("a child of ours");
        eventually_answers(node.address, "OK");
        write(&mut node.client(), 1, 100);
        eventually("all is on the disk again", PATIENCE, || match node.client().stats()["disk"]["state"].as_str() {
            Some("whole") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        node.signal(Signal::TERM);
        assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
        let node = data.start(&["--strict-recovery"]);
        for round in 0..2 {
            assert_eq!(held(&mut node.client(), round, 100), 100, "{policy}, round {round}");
        }
    }
}

/// Runs a tool, and returns its exit code, what it printed and what it complained of.
fn tool(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = binary().args(arguments).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_directory_is_checked_whether_or_not_its_node_runs() {
    let _machine = shared_machine();
    let data = Data::new();
    let (mut node, _) = data.start_with_records();
    node.client().ask("DEL k0");
    for runs in [true, false] {
        let (code, printed, told) = tool(&["check", data.text()]);
        assert_eq!(code, Some(0), "{runs}: {printed}{told}");
        assert!(printed.contains("21 records, 1 of them tombstones, 0 damaged places"), "{printed}");
        if runs {
            node.kill();
        }
    }
    let log = data.newest("log");
    damage(&log);
    let (code, printed, told) = tool(&["check", data.text()]);
    assert_eq!(code, Some(1), "{printed}{told}");
    assert!(printed.contains(log.file_name().unwrap().to_str().unwrap()), "{printed}");
    assert!(printed.contains("damaged at byte") && printed.contains("20 records"), "{printed}");
    assert!(told.contains("is damaged"), "{told}");
    let (code, _, told) = tool(&["check", &format!("{}/nowhere", data.text())]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(tool(&["check"]).0, Some(2));
}

#[test]
fn a_backup_of_a_running_node_is_restored() {
    let _machine = shared_machine();
    let (data, restored, again) = (Data::new(), Data::new(), Data::new());
    let file = format!("{}.backup", data.text());
    let _ = fs::remove_file(&file);
    {
        let node = data.start_always();
        write(&mut node.client(), 0, 500);
        assert_eq!(node.client().ask("INCRBY sum 7"), "7");
        node.client().ask("DEL k0-0");
        let (code, printed, told) = tool(&["backup", data.text(), &file]);
        assert_eq!(code, Some(0), "{printed}{told}");
        write(&mut node.client(), 1, 10);
        let (code, _, told) = tool(&["backup", data.text(), &file]);
        assert!(code == Some(1) && told.contains("exists"), "nothing is overwritten: {told}");
    }
    let (code, printed, told) = tool(&["restore", &file, restored.text()]);
    assert_eq!(code, Some(0), "{printed}{told}");
    let (code, _, told) = tool(&["restore", &file, data.text()]);
    assert!(code == Some(2) && told.contains("has data in it"), "{told}");
    {
        let node = restored.start(&["--strict-recovery"]);
        let mut client = node.client();
        assert_eq!(client.ask("GET k0-0"), "Key not found");
        assert_eq!(client.ask("GET k0-499"), "v0-499");
        assert_eq!(client.ask("GET sum"), "7");
        assert_eq!(held(&mut client, 1, 10), 0);
        client.set("k0-0", "new");
        assert_eq!(client.ask("GET k0-0"), "new");
    }
    damage(Path::new(&file));
    let (code, _, told) = tool(&["restore", &file, again.text()]);
    assert!(code == Some(1) && told.contains("nothing was restored"), "{told}");
    let left: Vec<_> = fs::read_dir(&again.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    fs::remove_file(&file).unwrap();
}

#[test]
fn a_dump_is_for_people_and_for_programs() {
    let _machine = shared_machine();
    let data = Data::new();
    {
        let node = data.start_always();
        let mut client = node.client();
        client.set("name", "Alice");
        assert_eq!(client.ask(r#"SET raw "\xff""#), "OK");
        assert_eq!(client.ask("INCRBY sum 7"), "7");
        assert_eq!(client.ask("DEL name"), "OK");
    }
    let (code, printed, told) = tool(&["dump", data.text()]);
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<&str> = printed.lines().collect();
    let expected = ["set \"name\" \"Alice\"", "set \"raw\" \"\\xff\"", "count \"sum\" 7", "delete \"name\""];
    assert_eq!(lines.len(), expected.len(), "{printed}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with("0000000001.log") && line.contains(expected), "{line}: {expected}");
    }
    let (_, printed, _) = tool(&["dump", data.text(), "--json"]);
    let lines: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["key"], &lines[0]["value"]), (&"name".into(), &"Alice".into()));
    assert_eq!((&lines[1]["value_hex"], &lines[2]["count"]), (&"ff".into(), &"7".into()));
    assert!(lines[3]["value"].is_null() && lines.len() == 4, "{printed}");
}

#[test]
fn what_was_written_before_the_disk_was_full_counts_although_no_snapshot_has_room() {
    let _machine = shared_machine();
    for policy in ["always", "everysec"] {
        let data = Data::new();
        let mut node = data.start(&["--fsync", policy]);
        write(&mut node.client(), 0, 100);
        eventually("the log has it", PATIENCE, || {
            let log = fs::read(data.0.join("0000000001.log")).map_err(|error| error.to_string())?;
            let last = log.windows(5).any(|bytes| bytes == b"v0-99");
            last.then_some(()).ok_or_else(|| format!("{} bytes", log.len()))
        });
        let limit = |bytes| Rlimit { current: Some(bytes), maximum: None };
        prlimit(Some(node.pid()), Resource::Fsize, limit(0)).expect("a child of ours");
        eventually_answers(node.address, "Error");
        // Room for the beginning of a segment, and not for what a snapshot would have.
        prlimit(Some(node.pid()), Resource::Fsize, limit(2_000)).expect("a child of ours");
        eventually_answers(node.address, "OK");
        assert_eq!(node.client().stats()["disk"]["state"], "recovering");
        node.kill();
        let node = data.start(&["--strict-recovery"]);
        assert_eq!(held(&mut node.client(), 0, 100), 100, "{policy}");
    }
}
