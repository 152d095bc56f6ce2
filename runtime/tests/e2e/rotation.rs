//! Secrets that change while nodes run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::cluster::expect_everywhere;
use crate::harness::{Client, Node, PATIENCE, binary, eventually, free_port, shared_machine};

const OLD: &str = "the secret that was good until today";
const NEW: &str = "the secret that is good from today on";

/// A file that one user may read, gone when the test is over.
struct PrivateFile(PathBuf);

impl PrivateFile {
    fn new(name: &str, text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("simple-kv-rotation-{name}-{}", std::process::id())));
        file.put(text, 0o600);
        file
    }

    fn put(&self, text: &str, mode: u32) {
        fs::write(&self.0, text).expect("a file");
        fs::set_permissions(&self.0, Permissions::from_mode(mode)).expect("a file of ours");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// How often a line says `part` in a node's log.
fn told(node: &Node, part: &str) -> usize {
    node.log().iter().filter(|line| line.to_string().contains(part)).count()
}

/// Has a node read its files again, and waits until it says `part` once more.
fn reload(node: &Node, part: &str) {
    let before = told(node, part);
    node.signal(Signal::HUP);
    eventually(part, PATIENCE, || if told(node, part) > before { Ok(()) } else { Err(format!("{:?}", node.log())) });
}

const CHANGED: &str = "the secrets of the cluster are others from now on";

/// The states of the links that a node dials.
fn links(node: &Node) -> Vec<String> {
    let stats = node.client().stats();
    let peers = stats["peers"].as_array().expect("a list");
    peers.iter().map(|peer| peer["state"].as_str().expect("text").to_owned()).collect()
}

fn expect_up(nodes: &[&Node], count: usize) {
    for node in nodes {
        eventually("the links stand", PATIENCE, || match links(node) {
            states if states.iter().filter(|state| *state == "up").count() == count => Ok(()),
            states => Err(format!("{states:?}")),
        });
    }
}

#[test]
fn a_cluster_changes_its_secret_without_a_restart_and_who_keeps_the_old_one_is_out() {
    let _machine = shared_machine();
    let both = format!("{NEW}\n{OLD}\n");
    let files = ["a", "b", "c"].map(|name| PrivateFile::new(name, OLD));
    let ports = [free_port(), free_port(), free_port()];
    let nodes = [0, 1, 2].map(|at| {
        // By the addresses that they call themselves: no member is dialed at two, and no link replaced by another.
        let others = ports.iter().filter(|port| **port != ports[at]).map(|port| format!("127.0.0.1:{port}"));
        let others: Vec<String> = others.collect();
        Node::start(&[&ports[at].to_string(), &others.join(","), "--cluster-secret-file", files[at].path()])
    });
    let [a, b, c] = &nodes;
    expect_up(&[a, b, c], 2);
    let lost = || [a, b, c].map(|node| told(node, "peer lost"));
    let before = lost();
    // Both are good: no link ends.
    for (node, file) in [(a, &files[0]), (b, &files[1])] {
        file.put(&both, 0o600);
        reload(node, CHANGED);
        assert_eq!(node.logged(CHANGED, PATIENCE)["links_ended"], 0);
    }
    // A mistake changes nothing.
    files[0].put("short", 0o600);
    reload(a, "the secrets of the cluster stay as they were");
    a.client().set("both", "are-good");
    expect_everywhere(&nodes, "both", "are-good", PATIENCE);
    assert_eq!(lost(), before, "no link has ended");
    // The old one is good no more with the first, and still with the second: its own links with that stand again.
    files[0].put(NEW, 0o600);
    reload(a, CHANGED);
    expect_up(&[a], 1);
    expect_up(&[b], 2);
    a.client().set("old", "is-leaving");
    expect_everywhere(&nodes[..2], "old", "is-leaving", PATIENCE);
    files[1].put(NEW, 0o600);
    reload(b, CHANGED);
    expect_up(&[a, b], 1);
    // Whoever has not changed is out, and is told so.
    let turned_away = eventually("it is told", PATIENCE, || c.log_line("turned away"));
    assert!(turned_away.contains("the secrets of the two nodes differ"), "{turned_away}");
    eventually("its links have ended", PATIENCE, || match links(c) {
        states if states.iter().all(|state| state != "up") => Ok(()),
        states => Err(format!("{states:?}")),
    });
    b.client().set("new", "is-good-alone");
    expect_everywhere(&nodes[..2], "new", "is-good-alone", PATIENCE);
    assert_eq!(c.client().ask("GET new"), "Key not found");
    // It changes at last, and is let in; a second look at the same file changes nothing.
    files[2].put(NEW, 0o600);
    reload(c, CHANGED);
    expect_up(&[a, b, c], 2);
    expect_everywhere(&nodes, "new", "is-good-alone", PATIENCE);
    let before = told(c, CHANGED);
    reload(c, "read the options again");
    expect_up(&[a, b, c], 2);
    assert_eq!(told(c, CHANGED), before);
}

#[test]
fn the_password_changes_without_a_restart_and_who_is_logged_in_stays() {
    let _machine = shared_machine();
    let file = PrivateFile::new("password", "old");
    let node = Node::start(&["0", "--password-file", file.path()]);
    let logs_in = |password: &str| {
        let mut client = Client::connect(node.address);
        client.ask(&format!("AUTH {password}"))
    };
    let mut standing = node.client();
    assert_eq!((standing.ask("AUTH old"), logs_in("new").starts_with("Error")), ("OK".to_owned(), true));
    for (text, mode) in [("new", 0o644), ("", 0o600)] {
        file.put(text, mode);
        reload(&node, "the password stays as it was");
        assert_eq!(logs_in("old"), "OK");
    }
    file.put("new", 0o600);
    reload(&node, "read the password again");
    assert_eq!(logs_in("new"), "OK");
    assert!(logs_in("old").starts_with("Error"), "it is no password any more");
    assert_eq!(standing.ask("SET k v"), "OK");
}

#[test]
fn a_credential_of_systemd_is_private_though_its_group_may_read_it() {
    let _machine = shared_machine();
    let directory = std::env::temp_dir().join(format!("simple-kv-credentials-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    let path = directory.join("password");
    let check = |mode: u32, credentials: &str| {
        fs::write(&path, "secret").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a file of ours");
        let mut command = binary();
        command.args(["0", "--check-config", "--password-file"]).arg(&path).env("CREDENTIALS_DIRECTORY", credentials);
        let output = command.output().expect("the binary starts");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        fs::remove_file(&path).expect("a file of ours");
        (output.status.code(), said)
    };
    let own = directory.to_str().expect("text");
    assert_eq!(check(0o440, own), (Some(0), "ok\n".to_owned()));
    for (mode, credentials) in [(0o440, "/run"), (0o440, ""), (0o444, own), (0o460, own)] {
        let (code, said) = check(mode, credentials);
        assert!(code == Some(1) && said.contains("chmod 600"), "{mode:o} {credentials}: {said}");
    }
    fs::remove_dir(&directory).expect("a directory of ours");
}
