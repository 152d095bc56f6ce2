//! Waiting for others: no earlier than it is true, no later than it is known, and in order.

use kv_core::{ConnId, Event};

use crate::harness::{CLIENT, Cluster};

/// What the client of `node` is told when it sends `commands`, without any time passing.
fn ask(cluster: &mut Cluster, node: usize, commands: &str) -> String {
    cluster.replies.clear();
    cluster.hand_in(node, commands.as_bytes());
    cluster.settle();
    String::from_utf8(cluster.replies.clone()).expect("replies are text")
}

/// What comes when `ms` have passed.
fn later(cluster: &mut Cluster, ms: u64) -> String {
    cluster.replies.clear();
    cluster.pass(ms);
    cluster.settle();
    String::from_utf8(cluster.replies.clone()).expect("replies are text")
}

fn token(cluster: &mut Cluster, node: usize) -> String {
    let reply = ask(cluster, node, "TOKEN\n");
    assert_eq!(reply.len(), 8 + 16 + 16 + 3, "a token: {reply}");
    reply.trim_end().to_owned()
}

#[test]
fn a_write_is_counted_as_soon_as_others_hold_it() {
    let mut cluster = Cluster::of_three();
    assert_eq!(ask(&mut cluster, 0, "SET k v\nWAIT 2 0\nGET k\n"), "OK\n2\nv\n");
    assert_eq!(ask(&mut cluster, 1, "DEL k\nWAIT 2 10\n"), "OK\n2\n");
    assert_eq!(ask(&mut cluster, 1, "SET k 1\n"), "OK\n");
    // In another turn than the write, when all has been sent.
    assert_eq!(ask(&mut cluster, 1, "WAIT 2 0\n"), "2\n");
    // Again, without anything new.
    assert_eq!(ask(&mut cluster, 1, "WAIT 2 0\nWAIT 0 0\n"), "2\n2\n");
}

#[test]
fn who_wrote_nothing_counts_linked_nodes() {
    let mut cluster = Cluster::of_three();
    assert_eq!(ask(&mut cluster, 2, "WAIT 0 0\nGET k\nDEL k\nWAIT 1 0\n"), "2\nKey not found\nOK\n2\n");
    cluster.cut(0, 2);
    assert_eq!(ask(&mut cluster, 2, "WAIT 0 0\n"), "1\n");
}

#[test]
fn a_wait_for_more_than_there_are_ends_with_its_time() {
    let mut cluster = Cluster::of_three();
    assert_eq!(ask(&mut cluster, 0, "SET k v\nWAIT 3 40\nPING\n"), "OK\n");
    assert_eq!(later(&mut cluster, 39), "");
    assert_eq!(later(&mut cluster, 1), "2\nPONG\n");
}

#[test]
fn who_is_cut_off_is_not_counted_and_late_copies_are() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    assert_eq!(ask(&mut cluster, 0, "SET k v\nWAIT 2 30\n"), "OK\n");
    assert_eq!(later(&mut cluster, 30), "1\n");
    assert_eq!(ask(&mut cluster, 0, "WAIT 2 0\nGET k\n"), "");
    cluster.heal();
    let replies: String = (0..40).map(|_| later(&mut cluster, 100)).collect();
    assert_eq!(replies, "2\nv\n");
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let mut cluster = Cluster::of_three();
    assert_eq!(ask(&mut cluster, 0, "SET k v\nWAIT 3 0\nSET k w\n"), "OK\n");
    assert!(!cluster.turns[0].wants_read(CLIENT), "who waits is not read");
    assert!(cluster.turns[0].node().is_waiting(CLIENT));
    cluster.turns[0].event(Event::Closed { conn: CLIENT });
    assert!(!cluster.turns[0].node().is_waiting(CLIENT));
    cluster.turns[0].event(Event::Opened { conn: CLIENT });
    assert_eq!(ask(&mut cluster, 0, "GET k\n"), "v\n");
    assert!((0..40).all(|_| later(&mut cluster, 500).is_empty()), "nobody is answered late");
}

#[test]
fn a_token_is_waited_for_on_every_node() {
    let mut cluster = Cluster::of_three();
    let nothing = token(&mut cluster, 0);
    assert_eq!(ask(&mut cluster, 2, &format!("WAITFOR {nothing} 0\n")), "OK\n");
    assert_eq!(ask(&mut cluster, 0, "SET k v\n"), "OK\n");
    let written = token(&mut cluster, 0);
    assert_ne!(written, nothing);
    assert_eq!(ask(&mut cluster, 2, &format!("WAITFOR {written} 0\nGET k\n")), "OK\nv\n");
    assert_eq!(ask(&mut cluster, 0, &format!("WAITFOR {written} 0\n")), "OK\n");
    assert_eq!(token(&mut cluster, 0), written, "who wrote nothing since names the same");
}

#[test]
fn a_token_from_beyond_a_cut_is_waited_for() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 2);
    cluster.cut(1, 2);
    ask(&mut cluster, 0, "SET k old\nSET k new\n");
    let written = token(&mut cluster, 0);
    let command = format!("WAITFOR {written} 50\nGET k\n");
    assert_eq!(ask(&mut cluster, 2, &command), "");
    assert_eq!(later(&mut cluster, 49), "");
    let late = later(&mut cluster, 1);
    assert!(late.starts_with("Error: ") && late.contains("not here yet") && late.ends_with("\nKey not found\n"));
    assert_eq!(ask(&mut cluster, 2, &format!("WAITFOR {written} 0\nGET k\n")), "");
    cluster.heal();
    let replies: String = (0..40).map(|_| later(&mut cluster, 100)).collect();
    assert_eq!(replies, "OK\nnew\n");
}

#[test]
fn a_token_of_another_cluster_is_turned_down_at_once() {
    let mut cluster = Cluster::of_three();
    ask(&mut cluster, 0, "SET k v\n");
    let written = token(&mut cluster, 0);
    let foreign = format!("00000000{}", &written[8..]);
    assert!(ask(&mut cluster, 0, &format!("WAITFOR {foreign} 0\n")).contains("another cluster"));
}

#[test]
fn many_clients_wait_at_once() {
    let mut cluster = Cluster::of_three();
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    let clients: Vec<ConnId> = (0..50).map(|_| cluster.open_client(0)).collect();
    for (at, client) in clients.iter().enumerate() {
        let ms = if at % 2 == 0 { 0 } else { 20 + at };
        cluster.hand_in_from(0, *client, format!("SET k{at} v\nWAIT {} {ms}\n", 1 + at % 3).as_bytes());
    }
    assert_eq!(later(&mut cluster, 10), "OK\n".repeat(50));
    assert_eq!(later(&mut cluster, 60), "0\n".repeat(25));
    cluster.heal();
    let replies: String = (0..40).map(|_| later(&mut cluster, 100)).collect();
    // Of the 25 without a limit, one third asked for three copies and waits on.
    let waiting = clients.iter().filter(|client| cluster.turns[0].node().is_waiting(**client)).count();
    assert_eq!((replies.len(), waiting), (2 * (25 - waiting), 8));
}

#[test]
fn a_node_that_has_not_joined_names_no_write_and_counts_nobody() {
    // Nobody answers at the only address that it knows.
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"]), ("ccc", &["a:1"])]);
    cluster.cut(0, 1);
    cluster.cut(1, 2);
    // The others have forgotten a delete: what is stamped below that may be one of those that it deleted.
    ask(&mut cluster, 0, "SET gone v\nDEL gone\n");
    live(&mut cluster);
    assert!(token(&mut cluster, 1).ends_with("-0000000000000000"), "nothing was written");
    assert_eq!(ask(&mut cluster, 1, "SET k early\n"), "OK\n");
    assert!(ask(&mut cluster, 1, "TOKEN\n").starts_with("Error: this node has not joined"));
    assert_eq!(ask(&mut cluster, 1, "WAIT 0 0\n"), "0\n");
    // The others write later by the clock: what was written before is stamped anew.
    cluster.pass(50);
    ask(&mut cluster, 0, "SET other v\n");
    let first = cluster.turns[1].node().origin();
    assert_eq!(ask(&mut cluster, 1, "WAIT 2 0\n"), "");
    cluster.heal();
    let replies: String = (0..40).map(|_| later(&mut cluster, 100)).collect();
    assert_eq!(replies, "2\n");
    assert_ne!(cluster.turns[1].node().origin(), first, "it wrote anew");
    let written = token(&mut cluster, 1);
    assert_eq!(ask(&mut cluster, 0, &format!("WAITFOR {written} 0\nGET k\n")), "OK\nearly\n");
}

/// Ten seconds of it.
fn live(cluster: &mut Cluster) {
    for _ in 0..100 {
        cluster.pass(100);
        cluster.settle();
    }
}

#[test]
fn who_is_alone_names_its_writes_and_collects_its_deletes() {
    let mut cluster = Cluster::new(&[("a", &[]), ("bb", &["a:1"])]);
    cluster.cut(0, 1);
    assert_eq!(ask(&mut cluster, 0, "SET k v\nSET other v\nDEL other\n"), "OK\nOK\nOK\n");
    let written = token(&mut cluster, 0);
    live(&mut cluster);
    assert_eq!(cluster.turns[0].node().graves(), 0);
    let first = cluster.turns[0].node().origin();
    // The other one is as fresh: what was written before they met stands.
    cluster.heal();
    live(&mut cluster);
    assert_eq!(cluster.turns[0].node().origin(), first);
    assert_eq!(ask(&mut cluster, 1, &format!("WAITFOR {written} 0\nGET k\nGET other\n")), "OK\nv\nKey not found\n");
}

#[test]
fn nobody_is_asked_while_nobody_waits() {
    let mut cluster = Cluster::of_three();
    ask(&mut cluster, 0, "SET k v\n");
    let quiet = cluster.sent_bytes;
    assert_eq!(ask(&mut cluster, 0, "WAIT 2 0\n"), "2\n");
    let asked = cluster.sent_bytes;
    assert!(asked > quiet, "it took asking");
    assert_eq!(ask(&mut cluster, 0, "WAIT 2 0\nGET k\n"), "2\nv\n");
    assert_eq!(cluster.sent_bytes, asked, "what is known is not asked again");
    ask(&mut cluster, 0, "WAIT 3 0\n");
    assert_eq!(cluster.sent_bytes, asked, "nor is what nobody can know");
}

#[test]
fn who_watches_a_number_sees_what_was_added_elsewhere_before() {
    let mut cluster = Cluster::of_three();
    cluster.write(b"SET n 0\n");
    cluster.hand_in(1, b"INCR n\n");
    cluster.pass(50);
    // The newest of the number is what is added here, and it stays so.
    cluster.hand_in(0, b"INCR n\nWATCH n\n");
    cluster.settle();
    assert_eq!(cluster.ask(0, "GET n"), "2");
    assert_eq!(cluster.ask(0, "MULTI\nSET n 5\nEXEC"), "OK\nQUEUED\n(none)");
    assert_eq!(cluster.ask(0, "GET n"), "2");
}
