//! Connections above the limit for clients: they are let in to see whether a peer calls, and are not remembered.

use kv_core::{Action, Close, Config, ConnId, Effects, Event, Limits, Mono, Node, Now, Timers, WallMs};

const CLIENTS_MAX: usize = 2;

/// The first connection that is one too many.
const LATE: ConnId = ConnId(2);

fn at(ms: u64) -> Now {
    Now { mono: Mono(0).plus_ms(ms), wall: WallMs(1_700_000_000_000 + ms) }
}

/// A node that has all the clients that it takes.
fn full() -> Node {
    let config = Config {
        limits: Limits { clients_max: CLIENTS_MAX, ..Limits::default() },
        ..Config::new([1, 2, 3, 4], "a", "a:1")
    };
    let mut node = Node::new(config, at(0));
    for conn in [ConnId(0), ConnId(1)] {
        assert!(handle(&mut node, at(0), Event::Opened { conn }).is_empty());
    }
    node
}

/// The connections that it ends for want of room.
fn handle(node: &mut Node, now: Now, event: Event) -> Vec<ConnId> {
    let mut effects = Effects::default();
    node.handle(now, event, &mut effects);
    let crowded = |action: &Action| match *action {
        Action::Close { conn, why: Close::Crowded } => Some(conn),
        _ => None,
    };
    effects.actions.iter().filter_map(crowded).collect()
}

#[test]
fn one_that_has_gone_leaves_nothing() {
    let mut node = full();
    for _ in 0..1_000 {
        assert!(handle(&mut node, at(0), Event::Opened { conn: LATE }).is_empty());
        assert_eq!(node.gauges().crowded, (1, 3));
        handle(&mut node, at(0), Event::Closed { conn: LATE });
        assert_eq!(node.gauges().crowded, (0, 2));
    }
    // A client is turned away at once.
    handle(&mut node, at(0), Event::Opened { conn: LATE });
    let mut effects = Effects::default();
    node.receive(at(0), LATE, b"GET k\n", &mut Vec::new(), &mut effects);
    assert!(effects.actions.iter().any(|action| matches!(action, Action::Close { why: Close::Crowded, .. })));
    assert_eq!(node.gauges().crowded, (0, 2));
}

#[test]
fn one_that_says_nothing_is_ended_when_its_own_time_is_up() {
    let mut node = full();
    let silence_ms = Timers::default().silence_ms;
    handle(&mut node, at(0), Event::Opened { conn: LATE });
    handle(&mut node, at(1), Event::Closed { conn: LATE });
    handle(&mut node, at(silence_ms / 2), Event::Opened { conn: LATE });
    assert!(handle(&mut node, at(silence_ms), Event::Tick).is_empty(), "that was another of the same name");
    assert!(handle(&mut node, at(silence_ms + silence_ms / 2 - 1), Event::Tick).is_empty());
    assert_eq!(handle(&mut node, at(silence_ms + silence_ms / 2), Event::Tick), [LATE]);
    assert_eq!(node.gauges().crowded, (0, 2));
}

#[test]
fn one_that_is_a_peers_stays() {
    let mut node = full();
    handle(&mut node, at(0), Event::Opened { conn: LATE });
    node.receive(at(0), LATE, b"\x93skv\r\n\x1a\n", &mut Vec::new(), &mut Effects::default());
    assert_eq!(node.gauges().links.0, 1);
    assert_eq!(node.gauges().crowded, (0, 2));
    assert!(handle(&mut node, at(Timers::default().silence_ms), Event::Tick).is_empty());
}
