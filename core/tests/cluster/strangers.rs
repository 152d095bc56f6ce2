//! Nodes of two clusters that reach each other by mistake.

use kv_core::{ConnId, Event, Mono, Now, Turn, WallMs};

use crate::harness::{START, config};

/// A node that knows another member of its cluster, and has data.
fn node(name: &str, cluster: &str, peers: &[&str]) -> Turn {
    seeded(config(name, peers).seed, name, cluster, peers)
}

fn seeded(seed: [u64; 4], name: &str, cluster: &str, peers: &[&str]) -> Turn {
    let mut config = config(name, peers);
    config.seed = seed;
    config.cluster = cluster.to_owned();
    let mut turn = Turn::new(config, START);
    let client = ConnId(0);
    turn.event(Event::Opened { conn: client });
    turn.input(client, b"SET secret value\n");
    turn
}

/// What two nodes say to each other over `link`, the name on both sides, and whether one of them ended it.
fn meet(dialer: &mut Turn, acceptor: &mut Turn, link: ConnId, now: Now) -> ([Vec<u8>; 2], bool) {
    dialer.begin(now);
    dialer.settle();
    let addr = dialer.take_dial().expect("it dials");
    dialer.event(Event::Dialed { conn: link, addr });
    acceptor.begin(now);
    acceptor.event(Event::Opened { conn: link });
    let mut said = [Vec::new(), Vec::new()];
    let mut ended = false;
    for _ in 0..20 {
        for side in [0, 1] {
            let (from, to) = if side == 0 { (&mut *dialer, &mut *acceptor) } else { (&mut *acceptor, &mut *dialer) };
            from.begin(now);
            from.settle();
            while let Some(conn) = from.next_ready() {
                while !from.output(conn).is_empty() {
                    let bytes = from.output(conn).to_vec();
                    from.sent(conn, bytes.len());
                    if conn == link {
                        to.input(link, &bytes);
                        said[side].extend_from_slice(&bytes);
                    }
                }
                if conn == link && from.finished(conn).is_some() {
                    from.gone(conn);
                    to.event(Event::Closed { conn });
                    ended = true;
                }
            }
        }
    }
    (said, ended)
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

fn peers(turn: &mut Turn) -> String {
    let client = ConnId(0);
    turn.input(client, b"PEERS\n");
    let mut text = Vec::new();
    while let Some(conn) = turn.next_ready() {
        let bytes = turn.output(conn).to_vec();
        turn.sent(conn, bytes.len());
        if conn == client {
            text.extend_from_slice(&bytes);
        }
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn clusters_of_two_names_give_each_other_nothing() {
    let mut one = node("a", "one", &["bb:1"]);
    let mut two = node("bb", "two", &[]);
    let mut now = START;
    for round in 0..3 {
        let ([from_one, from_two], ended) = meet(&mut one, &mut two, ConnId(1), now);
        assert!(ended, "strangers part");
        for (name, said) in [("one", &from_one), ("two", &from_two)] {
            assert!(holds(said, name), "{name} says of which cluster it is");
            assert!(!holds(said, "secret"), "{name} shows no data");
        }
        assert!(holds(&from_two, "another cluster"), "round {round}: who is turned away is told why");
        now = Now { mono: Mono(now.mono.0 + 5_000_000), wall: WallMs(now.wall.0 + 5_000) };
    }
    assert_eq!(peers(&mut two), "No peers\n", "a stranger is not remembered");
    assert!(peers(&mut one).starts_with("bb:1 down name=? "), "and dialed less and less often: {}", peers(&mut one));
}

#[test]
fn members_are_named_only_to_members() {
    // The first has met somebody whose address a stranger must not learn.
    for (cluster, learns) in [("one", true), ("two", false)] {
        let mut member = node("third", "one", &["a:1"]);
        let mut first = node("a", "one", &[]);
        let ([said, _], ended) = meet(&mut member, &mut first, ConnId(1), START);
        assert!(holds(&said, "third:1") && !ended);
        let mut other = node("bb", cluster, &["a:1"]);
        let ([_, told], ended) = meet(&mut other, &mut first, ConnId(2), START);
        assert_eq!((holds(&told, "third:1"), ended), (learns, !learns), "{cluster}");
    }
}

/// A name that is not a member's any more is still spoken for on a link that stands.
#[test]
fn names_that_come_and_go_do_not_fill_the_table_of_what_is_held() {
    let mut first = node("a", "one", &[]);
    let mut now = START;
    let mut stays = seeded([1; 4], "0", "one", &["a:1"]);
    let (_, ended) = meet(&mut stays, &mut first, ConnId(1), now);
    assert!(!ended);
    for at in 0..300 {
        now = Now { mono: now.mono.plus_ms(1), wall: now.wall.plus_ms(1) };
        let mut comes = seeded([2, 2, 2, at], &format!("n{at}"), "one", &["a:1"]);
        let (_, ended) = meet(&mut comes, &mut first, ConnId(2), now);
        assert!(!ended);
        first.event(Event::Closed { conn: ConnId(2) });
        let (held, most) = first.node().gauges().holders;
        assert!(held <= most && held >= (at as usize).min(most / 2), "{held} of {most}");
    }
    // All members that there is room for have come since this one, and it has something new to state.
    now = Now { mono: now.mono.plus_ms(1_000), wall: now.wall.plus_ms(1_000) };
    stays.begin(now);
    stays.input(ConnId(0), b"SET other value\n");
    stays.settle();
    first.begin(now);
    let before = first.node().gauges();
    while let Some(conn) = stays.next_ready() {
        let bytes = stays.output(conn).to_vec();
        stays.sent(conn, bytes.len());
        if conn == ConnId(1) {
            first.input(conn, &bytes);
        }
    }
    let after = first.node().gauges();
    assert_eq!((before.links.0, after.links.0), (1, 1), "its link stands");
    assert!(after.holders.0 <= after.holders.1, "{:?}", after.holders);
}
