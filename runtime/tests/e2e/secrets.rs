//! Peers that share a secret and have a port of their own, as processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::cluster::expect_everywhere;
use crate::harness::{Client, Node, PATIENCE, binary, eventually, free_port, shared_machine};

/// A file that is gone when the test is over.
struct SecretFile(PathBuf);

impl SecretFile {
    /// As `simple-kv secret > FILE` makes it.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("simple-kv-e2e-{name}-{}", std::process::id()));
        let made = binary().arg("secret").output().expect("the binary runs");
        assert!(made.status.success() && made.stdout.len() == 65, "{made:?}");
        fs::write(&path, made.stdout).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a file of ours");
        Self(path)
    }

    fn flag(&self) -> String {
        format!("--cluster-secret-file={}", self.0.display())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A node whose peers come by a port of their own.
fn guarded(secret: &SecretFile, peer_port: u16, peers: &[u16]) -> Node {
    let listen = format!("--peer-listen=127.0.0.1:{peer_port}");
    Node::join(free_port(), peers, &[&secret.flag(), &listen])
}

fn expect_turned_away(node: &Node, why: &str) {
    let mut client = node.client();
    eventually("the node says why", PATIENCE, || {
        let stats = client.stats();
        let said = stats["peers"][0]["turned_away"].as_str().unwrap_or_default();
        if said.contains(why) { Ok(()) } else { Err(format!("{}", stats["peers"])) }
    });
}

#[test]
fn nodes_that_share_a_secret_meet_on_a_port_of_their_own() {
    let _machine = shared_machine();
    let (ours, other) = (SecretFile::new("ours"), SecretFile::new("other"));
    let (one, two) = (free_port(), free_port());
    let nodes = [guarded(&ours, one, &[]), guarded(&ours, two, &[one])];
    nodes[0].client().set("key", "value");
    expect_everywhere(&nodes, "key", "value", PATIENCE);
    let address = nodes[1].logged("listening for peers", PATIENCE)["address"].as_str().map(str::to_owned);
    assert_eq!(address, Some(format!("127.0.0.1:{two}")));
    // Clients have nothing to do there, ...
    let mut client = Client::connect(([127, 0, 0, 1], one).into());
    client.send(b"GET key\n");
    assert_eq!(client.line(), "Error: this port is for the other nodes of the cluster; connect to the one for clients");
    assert!(client.try_line().is_err());
    // ... nor peers where clients are served, nor anybody who does not know the secret.
    expect_turned_away(&guarded(&ours, free_port(), &[nodes[0].port()]), "this port is for clients only");
    let stranger = guarded(&other, free_port(), &[one]);
    expect_turned_away(&stranger, "the secrets of the two nodes differ");
    expect_turned_away(&Node::join(free_port(), &[one], &[]), "this cluster has a secret");
    assert_eq!(stranger.client().ask("GET key"), "Key not found");
    let line = nodes[0].log_line("a peer's greeting is turned away").expect("it is told");
    assert!(line.contains(r#""from":"127.0.0.1:"#), "{line}");
    let stats = nodes[0].client().stats();
    assert!(stats["peers"].as_array().is_some_and(|peers| peers.len() == 1), "{stats}");
    assert!(stats["peers_refused"].as_u64().is_some_and(|count| count >= 3), "{stats}");
}

#[test]
fn a_status_asks_members_where_their_clients_are_served() {
    let _machine = shared_machine();
    let secret = SecretFile::new("status");
    let (one, two) = (free_port(), free_port());
    let nodes = [guarded(&secret, one, &[]), guarded(&secret, two, &[one])];
    let status = |node: &Node| {
        let output = binary().args(["status", &node.address.to_string()]).output().expect("the binary starts");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    for node in &nodes {
        eventually("all is well", PATIENCE, || match status(node) {
            (Some(0), said) if said.contains("All 2 members are up and hold the same data.") => Ok(()),
            (_, said) => Err(said),
        });
    }
    assert_eq!(nodes[0].client().stats()["peers"][0]["clients_at"], nodes[1].address.to_string());
    // One that says that it serves clients where another one does is no second answer of that one.
    let listen = format!("--peer-listen=127.0.0.1:{}", free_port());
    let says = format!("--advertise-clients={}", nodes[0].address);
    let hidden = Node::join(free_port(), &[one], &[&secret.flag(), &listen, &says, "--name=hidden"]);
    let problem = format!("hidden cannot be asked from here: at {} 127.0.0.1:{one} answers", nodes[0].address);
    eventually("it is told", PATIENCE, || match status(&nodes[1]) {
        (Some(1), said) if said.contains(&problem) && said.contains("(2 of 3 members answer)") => Ok(()),
        (_, said) => Err(said),
    });
    assert_eq!(hidden.client().ask("PING"), "PONG");
}

#[test]
fn without_a_secret_a_node_with_peers_elsewhere_does_not_start() {
    let _machine = shared_machine();
    for (arguments, what) in [
        (&["0", "10.0.0.6:8080"][..], "peer 10.0.0.6:8080"),
        (&["0", "--peer-listen", "0.0.0.0:0"], "--peer-listen 0.0.0.0:0"),
        (&["0", "--advertise", "db.example:8080"], "--advertise db.example:8080"),
    ] {
        let ended = binary().args(arguments).output().expect("the binary runs");
        let said = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(what) && said.contains("--cluster-secret-file"), "{said}");
    }
}
