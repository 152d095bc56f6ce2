//! What is said on one node is heard on the others, and so is what becomes of keys there.

use crate::harness::Cluster;

#[test]
fn what_is_said_on_one_node_is_heard_on_all_that_are_linked_once() {
    let mut cluster = Cluster::of_three();
    for node in [1, 2] {
        let client = cluster.open_client(node);
        cluster.replies.clear();
        cluster.hand_in_from(node, client, b"SUBSCRIBE news\n");
        cluster.settle();
        assert_eq!(cluster.replies, b"subscribe news 1\n");
    }
    assert_eq!(cluster.ask(0, "PUBLISH news hello"), "0\nmessage news hello\nmessage news hello");
    assert_eq!(cluster.ask(2, "PUBLISH news again"), "1\nmessage news again\nmessage news again");
    // Nothing keeps what is said: who is cut off never hears it.
    cluster.cut(0, 1);
    cluster.cut(0, 2);
    assert_eq!(cluster.ask(0, "PUBLISH news lost"), "0");
    cluster.heal();
    cluster.replies.clear();
    for _ in 0..50 {
        cluster.pass(100);
        cluster.settle();
    }
    assert_eq!(cluster.replies, b"");
    assert_eq!(cluster.ask(0, "PUBLISH news back"), "0\nmessage news back\nmessage news back");
}

#[test]
fn what_becomes_of_keys_on_one_node_is_told_on_those_that_want_it() {
    let mut cluster = Cluster::of_three();
    let client = cluster.open_client(1);
    cluster.hand_in_from(1, client, b"CONFIG SET notify-keyspace-events Eg$x\nSUBSCRIBE __keyevent@0__:set\n");
    cluster.hand_in_from(1, client, b"PSUBSCRIBE __keyevent@0__:[dei]*\n");
    cluster.settle();
    let pattern = "pmessage __keyevent@0__:[dei]* __keyevent@0__";
    for (command, answer) in [
        ("SET k v", "OK\nmessage __keyevent@0__:set k".to_owned()),
        ("SET k v EX 5", format!("OK\nmessage __keyevent@0__:set k\n{pattern}:expire k")),
        ("INCR n", format!("1\n{pattern}:incrby n")),
        ("DEL n", format!("OK\n{pattern}:del n")),
    ] {
        assert_eq!(cluster.ask(0, command), answer, "{command}");
    }
    cluster.replies.clear();
    for _ in 0..200 {
        cluster.pass(100);
        cluster.settle();
    }
    assert_eq!(String::from_utf8_lossy(&cluster.replies), format!("{pattern}:expired k\n"));
    cluster.hand_in_from(1, client, b"CONFIG SET notify-keyspace-events Egxhs\nPSUBSCRIBE *:h* *:s*\n");
    cluster.settle();
    let told = |events: &[(&str, char, &str)]| -> String {
        let told = events.iter().map(|(event, first, key)| {
            format!("\npmessage __keyevent@0__:{event} {key}").replacen(
                "__keyevent@0__:",
                &format!("*:{first}* __keyevent@0__:"),
                1,
            )
        });
        told.collect()
    };
    for (command, answer) in [
        ("HSET h a 1 b 2", "2".to_owned() + &told(&[("hset", 'h', "h")])),
        ("HINCRBY h n 1", "1".to_owned() + &told(&[("hincrby", 'h', "h")])),
        ("HDEL h a b", "2".to_owned() + &told(&[("hdel", 'h', "h")])),
        ("SADD s a b", "2".to_owned() + &told(&[("sadd", 's', "s")])),
        // It takes another record, and one that takes out the first.
        ("SADD s a b", "0".to_owned()),
        ("SREM s b", "1".to_owned() + &told(&[("srem", 's', "s")])),
        ("SREM s a", "1".to_owned() + &told(&[("srem", 's', "s")]) + &format!("\n{pattern}:del s")),
        ("PEXPIRE h 5000", format!("1{}", told(&[("hset", 'h', "h")]))),
    ] {
        assert_eq!(cluster.ask(0, command), answer, "{command}");
    }
    cluster.replies.clear();
    for _ in 0..200 {
        cluster.pass(100);
        cluster.settle();
    }
    assert_eq!(String::from_utf8_lossy(&cluster.replies), format!("{pattern}:expired h\n"));
}

#[test]
fn records_go_on_however_much_is_said() {
    let mut cluster = Cluster::of_three();
    let (speaker, writer, reader) = (cluster.open_client(0), cluster.open_client(0), cluster.open_client(1));
    let lines = format!("PUBLISH news {}\n", "x".repeat(50 << 10)).repeat(10);
    for round in 0..20_u32 {
        cluster.hand_in_from(0, speaker, lines.as_bytes());
        cluster.hand_in_from(0, writer, format!("SET k{round} v{round}\n").as_bytes());
        (0..3).for_each(|node| cluster.turn(node));
        // What was written three rounds ago is there, though more is said in each turn than can be sent.
        if let Some(before) = round.checked_sub(3) {
            cluster.replies.clear();
            cluster.hand_in_from(1, reader, format!("GET k{before}\n").as_bytes());
            cluster.turn(1);
            assert_eq!(String::from_utf8_lossy(&cluster.replies), format!("v{before}\n"), "in round {round}");
        }
    }
    let info = cluster.ask(0, "INFO stats");
    assert!(!info.contains("pubsub_dropped:0\n"), "more is said than can be sent: {info}");
}

#[test]
fn a_peer_that_is_behind_is_told_no_more_than_there_is_room_for() {
    let mut cluster = Cluster::of_three();
    let client = cluster.open_client(1);
    cluster.hand_in_from(1, client, b"SUBSCRIBE news\n");
    cluster.settle();
    cluster.replies.clear();
    let message = "x".repeat(100 << 10);
    let lines = format!("PUBLISH news {message}\n").repeat(20);
    cluster.hand_in(0, lines.as_bytes());
    cluster.settle();
    let heard = String::from_utf8_lossy(&cluster.replies).matches("message news x").count();
    let info = cluster.ask(0, "INFO stats");
    let dropped = info.lines().find_map(|line| line.strip_prefix("pubsub_dropped:")).expect("a count");
    let dropped: usize = dropped.parse().expect("a number");
    // Both peers are as far behind: each is a drop of its own.
    assert!(heard > 0 && dropped > 0 && heard + dropped / 2 == 20, "{heard} heard, {dropped} dropped");
}
