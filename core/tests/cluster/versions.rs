//! Nodes of releases that follow each other are one cluster while it is upgraded; others turn each other away.

use kv_core::{ClusterSecret, PeerAuth, Protocol};

use crate::harness::Cluster;

/// By node: those that it names.
const PEERS: [&[&str]; 2] = [&[], &["a:1"]];

const fn speaks(oldest: u16, newest: u16) -> Protocol {
    Protocol { oldest, newest }
}

/// Two nodes, started anew with these versions.
fn two(protocols: [Protocol; 2], peer_auth: &PeerAuth) -> Cluster {
    let mut cluster = Cluster::guarded(&[("a", PEERS[0]), ("bb", PEERS[1])], peer_auth);
    for (node, protocol) in protocols.into_iter().enumerate() {
        start(&mut cluster, node, protocol);
    }
    wait(&mut cluster);
    cluster
}

fn start(cluster: &mut Cluster, node: usize, protocol: Protocol) {
    cluster.protocols[node] = protocol;
    cluster.restart(node, PEERS[node]);
}

fn wait(cluster: &mut Cluster) {
    for _ in 0..50 {
        cluster.pass(100);
        cluster.settle();
    }
}

fn all_auths() -> [PeerAuth; 2] {
    let secret = ClusterSecret::new(b"the secret of the cluster").expect("long enough");
    [PeerAuth::Anybody, PeerAuth::Secret { first: secret, second: None }]
}

#[test]
fn two_that_share_a_version_speak_the_newest_of_them() {
    for auth in &all_auths() {
        for (ours, theirs, spoken) in [
            (speaks(4, 4), speaks(4, 4), 4),
            (speaks(4, 4), speaks(3, 4), 4),
            (speaks(4, 5), speaks(3, 4), 4),
            (speaks(3, 4), speaks(3, 4), 4),
            (speaks(3, 3), speaks(3, 4), 3),
            (speaks(3, 4), speaks(3, 3), 3),
        ] {
            let mut cluster = two([ours, theirs], auth);
            assert_eq!(cluster.ask(0, "SET k v"), "OK");
            assert_eq!(cluster.ask(1, "GET k"), "v");
            for node in [0, 1] {
                let stats = cluster.ask(node, "STATS");
                assert!(stats.contains(&format!("\"protocol\":{spoken}")), "{ours:?} {theirs:?}: {stats}");
            }
        }
    }
}

#[test]
fn two_that_share_none_turn_each_other_away_until_one_of_them_is_upgraded() {
    for auth in &all_auths() {
        for (ours, theirs) in [(speaks(4, 4), speaks(3, 3)), (speaks(3, 3), speaks(4, 5)), (speaks(4, 4), speaks(7, 9))]
        {
            let mut cluster = two([ours, theirs], auth);
            assert_eq!(cluster.ask(0, "SET k v"), "OK");
            wait(&mut cluster);
            assert_eq!(cluster.ask(1, "GET k"), "Key not found");
            let peers = cluster.ask(1, "PEERS");
            assert!(peers.starts_with("a:1 down name=? "), "{peers}");
            assert!(peers.contains("no common protocol version: run releases that follow each other"), "{peers}");
            let stats = cluster.ask(0, "STATS");
            assert!(!stats.contains("\"peers_refused\":0,") && stats.contains("no common protocol version"), "{stats}");
            assert_eq!(cluster.ask(0, "PEERS"), "No peers");

            start(&mut cluster, 1, speaks(3, 4));
            wait(&mut cluster);
            assert_eq!(cluster.ask(1, "GET k"), "v");
            assert!(cluster.ask(1, "PEERS").starts_with("a:1 up name=a "));
        }
    }
}

/// Version 3 has none.
#[test]
fn messages_go_to_those_alone_with_whom_a_version_is_spoken_that_has_them() {
    for (spoken, theirs) in [(3, speaks(3, 3)), (4, speaks(3, 4))] {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut cluster = two([speaks(3, 4), theirs], &PeerAuth::Anybody);
            let client = cluster.open_client(to);
            cluster.hand_in_from(to, client, b"SUBSCRIBE news\n");
            cluster.settle();
            let heard = if spoken < 4 { "0" } else { "0\nmessage news hello" };
            assert_eq!(cluster.ask(from, "PUBLISH news hello"), heard);
            // It cost nobody the link.
            assert!(cluster.ask(1, "PEERS").starts_with("a:1 up name=a "));
        }
    }
}
