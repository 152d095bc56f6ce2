//! Watching keys by HTTP: what becomes of them on any node is told, or that something was missed.

use std::collections::BTreeMap;

use kv_core::ConnId;
use serde_json::Value;

use crate::harness::{CLIENT, Cluster};

const HEAD: &str = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n\
    Content-Type: text/event-stream\r\nX-Content-Type-Options: nosniff\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An event, as it was told.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// A client that watches.
struct Stream {
    node: usize,
    conn: ConnId,
    /// The id that a browser would give when it comes back.
    last_id: String,
}

impl Stream {
    fn open(cluster: &mut Cluster, node: usize, query: &str, last_id: Option<&str>) -> Self {
        let conn = cluster.open_client(node);
        cluster.listener = Some((node, conn));
        cluster.heard.clear();
        let field = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /v1/watch?{query} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        cluster.hand_in_from(node, conn, request.as_bytes());
        cluster.settle();
        let head = String::from_utf8_lossy(&cluster.heard).into_owned();
        assert!(head.starts_with(HEAD), "{head}");
        cluster.heard.drain(..HEAD.len());
        Self { node, conn, last_id: String::new() }
    }

    /// What was told since this was last called.
    fn events(&mut self, cluster: &mut Cluster) -> Vec<Event> {
        assert_eq!(cluster.listener, Some((self.node, self.conn)));
        let text = chunks(&std::mem::take(&mut cluster.heard));
        let mut events = Vec::new();
        for block in text.split_terminator("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if let Some(id) = field("id") {
                self.last_id = id.to_owned();
            }
            if let Some(data) = field("data") {
                let name = field("event").expect("a name").to_owned();
                let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
                events.push(Event { name, id: self.last_id.clone(), data });
            }
        }
        events
    }

    /// Names and keys of what was told since.
    fn told(&mut self, cluster: &mut Cluster) -> Vec<String> {
        let events = self.events(cluster);
        events.iter().map(|event| format!("{} {}", event.name, event.data["key"].as_str().unwrap_or("-"))).collect()
    }
}

/// The text of whole chunks.
fn chunks(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let at = bytes.windows(2).position(|two| two == b"\r\n").expect("a length");
        let length = std::str::from_utf8(&bytes[..at]).expect("digits");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let body = &bytes[at + 2..at + 2 + length];
        text.push_str(std::str::from_utf8(body).expect("events are text"));
        assert_eq!(&bytes[at + 2 + length..at + 4 + length], b"\r\n");
        bytes = &bytes[at + 4 + length..];
    }
    text
}

fn run_for(cluster: &mut Cluster, ms: u64) {
    for _ in 0..ms / 100 {
        cluster.pass(100);
        cluster.settle();
    }
}

#[test]
fn a_change_is_told_in_these_bytes() {
    let mut cluster = Cluster::new(&[("a", &[])]);
    let mut stream = Stream::open(&mut cluster, 0, "prefix=a%2F&values=true", None);
    let opening = chunks(&cluster.heard);
    let id = opening.strip_prefix("retry: 1000\nid: ").and_then(|rest| rest.strip_suffix("\n\n")).expect(&opening);
    let (run, number) = id.split_once('-').expect("a run and a number");
    let number: u64 = number.parse().expect("a number");
    assert_eq!(run.len(), 16);
    cluster.heard.clear();
    cluster.write(b"SET b/x 1\nSET a/x \"hi\\n\"\nSET \"a/\\xff\" \"\\x00\" PX 5000\nDEL a/x\nINCRBY a/n 7\n");
    let text = chunks(&cluster.heard);
    let etags: Vec<&str> = text.split("\"etag\":").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    let version = text.split("\"version\":").nth(1).and_then(|rest| rest.split('}').next()).expect("a version");
    let [first, second, third] = etags[..] else { panic!("{text}") };
    let at = |offset| format!("{run}-{}", number + offset);
    assert_eq!(
        text,
        format!(
            "event: put\nid: {}\ndata: {{\"key\":\"a/x\",\"etag\":{first},\"expires_at_ms\":null}}\n\n\
             event: put\nid: {}\ndata: {{\"key_base64\":\"YS//\",\"etag\":{second},\"expires_at_ms\":1700000005000,\
             \"value_bytes\":1,\"value_base64\":\"AA==\"}}\n\n\
             event: delete\nid: {}\ndata: {{\"key\":\"a/x\",\"version\":{version}}}\n\n\
             event: put\nid: {}\ndata: {{\"key\":\"a/n\",\"etag\":{third},\"expires_at_ms\":null,\"value_bytes\":1,\
             \"value\":\"7\"}}\n\n",
            at(2),
            at(3),
            at(4),
            at(5)
        )
    );
    cluster.heard.clear();
    // It is what a reader gets, too.
    let reader = cluster.open_client(0);
    cluster.replies.clear();
    cluster.hand_in_from(0, reader, b"GET /v1/kv/a/n HTTP/1.1\r\nHost: a\r\n\r\n");
    cluster.settle();
    let etag = third[1..third.len() - 1].replace("\\\"", "\"");
    let got = String::from_utf8_lossy(&cluster.replies).into_owned();
    assert!(got.contains(&format!("\r\nETag: {etag}\r\n")), "{etag}: {got}");
    run_for(&mut cluster, 20_000);
    assert_eq!(stream.told(&mut cluster), ["expire -"]);
}

#[test]
fn of_a_hash_or_a_set_it_is_told_that_it_has_changed() {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "prefix=k&values=true", None);
    stream.events(&mut cluster);
    cluster.ask(0, "HSET k/h f v");
    cluster.ask(0, "HINCRBY k/h n 1");
    cluster.ask(0, "SADD k/s m");
    cluster.ask(0, "HDEL k/h f n");
    cluster.ask(0, "DEL k/s");
    cluster.settle();
    let text = chunks(&cluster.heard);
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("event") || line.starts_with("data")).collect();
    assert_eq!(told[..2], ["event: put", r#"data: {"key":"k/h","type":"hash"}"#], "{text}");
    assert!(told.contains(&r#"data: {"key":"k/s","type":"set"}"#), "{text}");
    let last = |key: &str| told.chunks(2).rfind(|event| event[1].contains(key)).map(|event| event[0]);
    assert_eq!([last("k/h"), last("k/s")], [Some("event: delete"); 2], "{text}");
    cluster.heard.clear();
    // What of it ends by itself, and what is newer than its delete.
    cluster.ask(0, "HSET k/h f v g v");
    cluster.ask(0, "HPEXPIRE k/h 1000 FIELDS 1 f");
    cluster.settle();
    cluster.heard.clear();
    run_for(&mut cluster, 20_000);
    assert!(chunks(&cluster.heard).contains(r#"data: {"key":"k/h","type":"hash"}"#), "{:?}", chunks(&cluster.heard));
    cluster.heard.clear();
    cluster.cut(0, 1);
    cluster.ask(0, "DEL k/h");
    cluster.ask(2, "HSET k/h f v");
    cluster.heal();
    run_for(&mut cluster, 20_000);
    let text = chunks(&cluster.heard);
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("data") && line.contains("k/h")).collect();
    assert_eq!(told.last(), Some(&r#"data: {"key":"k/h","type":"hash"}"#), "{text}");
}

#[test]
fn what_is_written_on_any_node_is_told_and_only_what_begins_so() {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "prefix=k", None);
    stream.events(&mut cluster);
    cluster.write(b"SET k1 v\nSET other v\nINCR k2\nDEL k1\nSELECT 1\nSET k3 v\nSELECT 0\nSET k4 v PX 2000\n");
    assert_eq!(stream.told(&mut cluster), ["put k1", "put k2", "delete k1", "put k4"]);
    cluster.hand_in(2, b"SET k5 v\n");
    cluster.settle();
    assert_eq!(stream.told(&mut cluster), ["put k5"]);
    run_for(&mut cluster, 14_000);
    assert_eq!(stream.told(&mut cluster), ["expire k4"]);
    cluster.write(b"SELECT 1\nFLUSHDB\n");
    assert_eq!(stream.told(&mut cluster), [""; 0]);
    cluster.write(b"SELECT 0\nFLUSHDB\nSET k6 v\n");
    assert_eq!(stream.told(&mut cluster), ["reset -", "put k6"]);
}

#[test]
fn who_comes_back_hears_of_what_came_meanwhile_or_that_it_has_to_read_anew() {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "prefix=k", None);
    stream.events(&mut cluster);
    cluster.write(b"SET k1 v\nSET k2 v\n");
    let events = stream.events(&mut cluster);
    cluster.turns[1].event(kv_core::Event::Closed { conn: stream.conn });
    cluster.write(b"SET k3 v\nSET x v\nSET k4 v\n");
    // From where it was, from before, and after some time.
    for (id, told) in [(&events[1].id, &["put k3", "put k4"][..]), (&events[0].id, &["put k2", "put k3", "put k4"])] {
        let mut stream = Stream::open(&mut cluster, 1, "prefix=k", Some(id));
        assert_eq!(stream.told(&mut cluster), told);
        cluster.turns[1].event(kv_core::Event::Closed { conn: stream.conn });
        run_for(&mut cluster, 25_000);
    }
    let mut stream = Stream::open(&mut cluster, 1, &format!("prefix=k&last_event_id={}", events[1].id), None);
    assert_eq!(stream.told(&mut cluster), ["put k3", "put k4"]);
    cluster.turns[1].event(kv_core::Event::Closed { conn: stream.conn });
    // What nobody wants for long is not kept.
    let (id, run) = (stream.last_id, events[1].id.split('-').next().expect("a run").to_owned());
    run_for(&mut cluster, 80_000);
    assert_eq!(cluster.turns[1].node().gauges().watched_changes.0, 0);
    let ahead = format!("{run}-99999");
    for id in [&*id, &ahead, &run, "x", "", &format!("{run}-18446744073709551615"), "0123456789abcdef-3"] {
        let mut stream = Stream::open(&mut cluster, 1, "", Some(id));
        assert_eq!(stream.told(&mut cluster), ["reset -"], "{id}");
        cluster.turns[1].event(kv_core::Event::Closed { conn: stream.conn });
    }
}

#[test]
fn who_reads_slowly_costs_nothing_and_is_told_what_it_missed() {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "", None);
    stream.events(&mut cluster);
    // Nothing of it is sent meanwhile: the turns of that node that write to its sockets come later.
    let long = "x".repeat(60_000);
    for round in 0..200 {
        cluster.hand_in_from(1, CLIENT, format!("SET {long}{round} v\n").as_bytes());
    }
    let (held, most) = cluster.turns[1].node().gauges().watched_bytes;
    assert!(held <= most && held > most / 2, "{held} of {most}");
    assert!(cluster.turns[1].held(stream.conn).1 < 1 << 20);
    cluster.settle();
    let events = stream.events(&mut cluster);
    assert_eq!((events[0].name.as_str(), &events[0].data["why"]), ("reset", &"behind".into()));
    cluster.write(b"SET k v\n");
    assert_eq!(stream.told(&mut cluster), ["put k"]);
}

#[test]
fn a_silent_stream_beats_and_values_that_are_long_are_left_out() {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "values=true&prefix=k", None);
    stream.events(&mut cluster);
    cluster.write(b"SET other v\n");
    let (before, mut beats) = (stream.last_id.clone(), 0);
    for _ in 0..450 {
        run_for(&mut cluster, 100);
        beats += chunks(&cluster.heard).matches(":\nid: ").count();
        stream.events(&mut cluster);
    }
    assert_eq!(beats, 3);
    assert_ne!(stream.last_id, before, "what it does not want moves it on, too");
    cluster.write(format!("SET k {}\n", "v".repeat(65_537)).as_bytes());
    // It is longer than the ring: a sweep brings it.
    run_for(&mut cluster, 2_000);
    let events = stream.events(&mut cluster);
    assert_eq!((&events[0].data["value"], &events[0].data["value_bytes"]), (&Value::Null, &65_537.into()));
    cluster.write(format!("SET k \"{}\"\n", "\\\"".repeat(65_536)).as_bytes());
    run_for(&mut cluster, 2_000);
    let events = stream.events(&mut cluster);
    assert_eq!(events.last().map(|event| event.data["value"].as_str().map(str::len)), Some(Some(65_536)));
}

#[test]
fn watchers_are_shown_counted_bounded_and_ended() {
    let mut cluster = Cluster::new(&[("a", &[])]);
    let stream = Stream::open(&mut cluster, 0, "", None);
    cluster.listener = None;
    let listed = cluster.ask(0, "CLIENT LIST TYPE pubsub");
    assert!(listed.contains(" flags=P ") && listed.contains(" cmd=http|watch "), "{listed}");
    for _ in 1..1_000 {
        let conn = cluster.open_client(0);
        cluster.hand_in_from(0, conn, b"GET /v1/watch HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut asked = |request: &str| {
        let conn = cluster.open_client(0);
        cluster.settle();
        cluster.replies.clear();
        cluster.hand_in_from(0, conn, format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        cluster.settle();
        String::from_utf8_lossy(&cluster.replies).into_owned()
    };
    let refused = asked("GET /v1/watch");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("as many watch as may"), "{refused}");
    assert!(asked("HEAD /v1/watch") == HEAD);
    assert!(asked("GET /metrics").contains("\nsimplekv_watchers 1000"));
    cluster.turns[0].event(kv_core::Event::Closed { conn: stream.conn });
    assert_eq!(cluster.turns[0].node().gauges().watchers.0, 999);
}

#[test]
fn an_old_client_gets_no_chunks_and_what_is_sent_behind_the_request_means_nothing() {
    let mut cluster = Cluster::new(&[("a", &[])]);
    let conn = cluster.open_client(0);
    cluster.listener = Some((0, conn));
    cluster.hand_in_from(0, conn, b"GET /v1/watch HTTP/1.0\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
    cluster.settle();
    cluster.write(b"SET k v\n");
    let text = String::from_utf8_lossy(&cluster.heard).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.ends_with("Content-Type: text/event-stream\r\nX-Content-Type-Options: nosniff"), "{head}");
    assert!(head.contains("\r\nConnection: close\r\n") && body.starts_with("retry: 1000\nid: "), "{text}");
    assert!(body.contains("\n\nevent: put\nid: ") && !body.contains("HTTP/1"), "{text}");
    assert!(cluster.turns[0].finished(conn).is_none());
}

/// What a client knows that keeps up by the stream, and reads anew when it is told to.
struct Mirror(BTreeMap<String, String>);

impl Mirror {
    fn read(cluster: &mut Cluster, node: usize) -> BTreeMap<String, String> {
        let keys = cluster.ask(node, "KEYS *");
        let keys: Vec<String> = keys.lines().filter(|key| *key != "(none)").map(str::to_owned).collect();
        keys.into_iter().map(|key| (key.clone(), cluster.ask(node, &format!("GET {key}")))).collect()
    }

    fn take(&mut self, events: &[Event], cluster: &mut Cluster, node: usize) {
        for event in events {
            let key = || event.data["key"].as_str().expect("a key").to_owned();
            match (event.name.as_str(), event.data["value"].as_str()) {
                ("put", Some(value)) => drop(self.0.insert(key(), value.to_owned())),
                // Something newer follows.
                ("put", None) => {}
                ("delete" | "expire", _) => drop(self.0.remove(&key())),
                ("reset", _) => self.0 = Self::read(cluster, node),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn whoever_follows_the_stream_knows_what_the_node_has() {
    for seed in 1..=12_u64 {
        follow(seed);
    }
}

/// Has nodes written to, cut off from each other and restarted, and holds a mirror of one against it.
fn follow(seed: u64) {
    let mut cluster = Cluster::of_three();
    let mut stream = Stream::open(&mut cluster, 1, "values=true", None);
    let mut mirror = Mirror(BTreeMap::new());
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut resets, mut cuts) = (0, 0);
    for round in 0..400 {
        let (node, key) = (draw(3) as usize, draw(12));
        let line = match draw(12) {
            0..4 => format!("SET k{key} v{round}\n"),
            4 => format!("SET k{key} v{round} PX {}\n", 100 + draw(3_000)),
            5 | 6 => format!("DEL k{key}\n"),
            7 | 8 => format!("INCR n{key}\n"),
            9 => format!("SET n{key} {round}\nPEXPIRE n{key} 900\nINCR n{key}\n"),
            10 => format!("DEL n{key}\n"),
            _ if draw(10) == 0 => "FLUSHDB\n".to_owned(),
            _ => format!("APPEND k{key} +\n"),
        };
        cluster.hand_in(node, line.as_bytes());
        match draw(40) {
            0 => (cluster.cut(1, 0), cluster.cut(1, 2), cuts += 1).0,
            1 | 2 => cluster.heal(),
            // What was written while it was cut off is more than the ring has.
            3 => (0..40).for_each(|at| cluster.hand_in(0, format!("SET f{at} {}\n", "y".repeat(2_000)).as_bytes())),
            4 => cluster.restart(2, &["a:1"]),
            5 => (0..40).for_each(|at| cluster.hand_in(2, format!("DEL f{at}\n").as_bytes())),
            _ => {}
        }
        cluster.settle();
        run_for(&mut cluster, 100 * draw(12));
        let events = stream.events(&mut cluster);
        resets += events.iter().filter(|event| event.name == "reset").count();
        mirror.take(&events, &mut cluster, 1);
    }
    cluster.heal();
    run_for(&mut cluster, 30_000);
    let events = stream.events(&mut cluster);
    mirror.take(&events, &mut cluster, 1);
    let there = Mirror::read(&mut cluster, 1);
    assert_eq!(mirror.0, there, "seed {seed}");
    assert!(there.len() > 5 && cuts > 0, "seed {seed}: {} keys, {cuts} cuts, {resets} resets", there.len());
}
