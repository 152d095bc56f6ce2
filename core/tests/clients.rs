//! Several clients of one node: what each says of the others, and does to them.

use kv_core::{Close, Config, ConnId, Event, Limits, Mono, Now, Turn, WallMs};

const ANN: ConnId = ConnId(0);
const BOB: ConnId = ConnId(1);
const EVE: ConnId = ConnId(2);

/// A node and its clients.
struct Clients {
    turn: Turn,
    ms: u64,
}

impl Clients {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let config = Config { limits, ..Config::new([1, 2, 3, 4], "a", "a:1") };
        let mut clients = Self { turn: Turn::new(config, at(0)), ms: 0 };
        [ANN, BOB, EVE].into_iter().for_each(|conn| clients.open(conn));
        clients
    }

    fn open(&mut self, conn: ConnId) {
        self.turn.begin(at(self.ms));
        self.turn.event(Event::Opened { conn });
        let remote = format!("10.0.0.{}:700{}", conn.0 + 1, conn.0 + 1).parse().expect("an address");
        self.turn.introduce(conn, remote, "10.0.0.9:8080".parse().expect("an address"));
    }

    /// Sends a request of these words; what is answered at once.
    fn ask(&mut self, conn: ConnId, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let args: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        self.send(conn, format!("*{}\r\n{args}", words.len()).as_bytes())
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) -> String {
        self.turn.begin(at(self.ms));
        self.turn.input(conn, bytes);
        self.turn.settle();
        self.told(conn)
    }

    /// Lets time pass.
    fn wait(&mut self, ms: u64) {
        self.ms += ms;
        self.turn.begin(at(self.ms));
        self.turn.settle();
    }

    /// What there is for a client to read.
    fn told(&mut self, conn: ConnId) -> String {
        let mut told = Vec::new();
        loop {
            let output = self.turn.output(conn).to_vec();
            if output.is_empty() {
                return String::from_utf8_lossy(&told).replace("\r\n", "|");
            }
            told.extend_from_slice(&output);
            self.turn.sent(conn, output.len());
        }
    }

    /// Why a connection is to end, if it is.
    fn ended(&mut self, conn: ConnId) -> Option<Close> {
        let why = self.turn.finished(conn)?;
        self.turn.gone(conn);
        Some(why)
    }

    fn check(&mut self, conn: ConnId, cases: &[(&str, &str)]) {
        for (words, expected) in cases {
            assert_eq!(self.ask(conn, words), *expected, "{words}");
        }
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(0).plus_ms(ms), wall: WallMs(1_700_000_000_000 + ms) }
}

#[test]
fn clients_are_listed() {
    let mut clients = Clients::new();
    clients.check(
        ANN,
        &[
            ("CLIENT SETNAME ann", "+OK|"),
            ("CLIENT SETINFO LIB-VER 1.2", "+OK|"),
            ("HELLO 3 SETNAME ann", clients_hello()),
        ],
    );
    clients.check(BOB, &[("MULTI", "+OK|"), ("GET k", "+QUEUED|")]);
    clients.wait(5_000);
    clients.check(BOB, &[("GET k", "+QUEUED|")]);
    let list = clients.ask(ANN, "CLIENT LIST");
    let lines: Vec<&str> = list.lines().skip_while(|line| !line.contains("id=")).collect();
    let ann = "id=1 addr=10.0.0.1:7001 laddr=10.0.0.9:8080 fd=0 name=ann age=5 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 \
               omem=0 multi=-1 multi-mem=0 cmd=client|list user=default redir=-1 resp=3 lib-name= lib-ver=1.2";
    assert!(lines[0].ends_with(ann), "{list}");
    assert!(lines[1].contains("id=2 ") && lines[1].contains("flags=x") && lines[1].contains(" multi=2 "), "{list}");
    assert!(lines[2].contains("id=3 ") && lines[2].contains("idle=5") && lines[2].contains("cmd=NULL"), "{list}");
    assert!(clients.ask(EVE, "CLIENT INFO").contains("id=3 addr=10.0.0.3:7003"));
    for (words, count) in [("ID 1 3 99", 2), ("TYPE normal", 3), ("TYPE master", 0), ("TYPE pubsub", 0)] {
        assert_eq!(clients.ask(EVE, &format!("CLIENT LIST {words}")).matches("user=").count(), count, "{words}");
    }
    clients.check(
        EVE,
        &[
            ("CLIENT LIST ID x", "-ERR Invalid client ID|"),
            ("CLIENT LIST ID 0 -1", "$0||"),
            ("CLIENT LIST TYPE x", "-ERR Unknown client type 'x'|"),
            ("CLIENT LIST x", "-ERR syntax error|"),
            ("CLIENT GETREDIR", ":-1|"),
            ("CLIENT NO-TOUCH on", "+OK|"),
            ("CLIENT NO-EVICT x", "-ERR syntax error|"),
            ("CLIENT TRACKINGINFO", "*6|$5|flags|*1|$3|off|$8|redirect|:-1|$8|prefixes|*0|"),
        ],
    );
}

/// What `HELLO 3` answers to the first client.
const fn clients_hello() -> &'static str {
    "%7|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|\
     $7|modules|*0|"
}

#[test]
fn a_number_is_never_given_to_another_connection() {
    let mut clients = Clients::new();
    clients.check(BOB, &[("CLIENT ID", ":2|"), ("QUIT", "+OK|")]);
    assert_eq!(clients.ended(BOB), Some(Close::Quit));
    clients.open(BOB);
    clients.check(BOB, &[("CLIENT ID", ":4|")]);
    clients.turn.event(Event::Closed { conn: BOB });
    clients.open(BOB);
    clients.check(BOB, &[("CLIENT ID", ":5|")]);
}

#[test]
fn clients_are_ended_by_what_is_said_of_them() {
    for (words, answer, ended) in [
        ("CLIENT KILL ID 2", ":1|", Some(BOB)),
        ("CLIENT KILL ADDR 10.0.0.2:7002", ":1|", Some(BOB)),
        ("CLIENT KILL 10.0.0.2:7002", "+OK|", Some(BOB)),
        ("CLIENT KILL ID 2 ADDR 10.0.0.3:7003", ":0|", None),
        ("CLIENT KILL ID 1", ":0|", None),
        ("CLIENT KILL ID 1 SKIPME no", ":1|", Some(ANN)),
        ("CLIENT KILL 10.0.0.1:7001", "+OK|", Some(ANN)),
        ("CLIENT KILL LADDR 10.0.0.9:8080 TYPE normal USER default", ":2|", Some(EVE)),
        ("CLIENT KILL TYPE pubsub", ":0|", None),
        ("CLIENT KILL ID 99", ":0|", None),
        ("CLIENT KILL 10.0.0.2:1", "-ERR No such client|", None),
        ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0|", None),
        ("CLIENT KILL ID 2 SKIPME maybe", "-ERR syntax error|", None),
        ("CLIENT KILL ID 2 SKIPME", "-ERR syntax error|", None),
        ("CLIENT KILL USER eve", "-ERR No such user 'eve'|", None),
    ] {
        let mut clients = Clients::new();
        clients.check(ANN, &[(words, answer)]);
        let why = if ended == Some(ANN) { Close::Quit } else { Close::Killed };
        let all_are_meant = words.contains("LADDR");
        for conn in [ANN, BOB, EVE] {
            let is_meant = ended == Some(conn) || (all_are_meant && conn != ANN);
            assert_eq!(clients.ended(conn), is_meant.then_some(why), "{words}: {conn:?}");
        }
    }
}

#[test]
fn who_is_ended_is_not_listed_any_more_and_its_name_can_be_used_again() {
    let mut clients = Clients::new();
    clients.ask(BOB, "WAIT 1 0");
    clients.check(ANN, &[("PING", "+PONG|")]);
    let answer = clients.send(ANN, b"CLIENT KILL ID 2\r\nCLIENT LIST\r\n");
    assert!(answer.starts_with(":1|") && !answer.contains("id=2 "), "{answer}");
    assert_eq!(clients.ended(BOB), Some(Close::Killed));
    clients.open(BOB);
    clients.check(BOB, &[("PING", "+PONG|")]);
}

#[test]
fn a_client_gets_the_replies_that_it_wants() {
    let mut clients = Clients::new();
    clients.check(
        ANN,
        &[
            ("CLIENT REPLY SKIP", ""),
            ("SET k v", ""),
            ("GET k", "$1|v|"),
            ("CLIENT REPLY OFF", ""),
            ("SET k w", ""),
            ("NOTHING", ""),
            ("MULTI", ""),
            ("GET k", ""),
            ("EXEC", ""),
            ("WAIT 1 50", ""),
            ("INCR n", ""),
        ],
    );
    clients.wait(50);
    assert_eq!(clients.told(ANN), "");
    clients.check(ANN, &[("CLIENT REPLY ON", "+OK|"), ("GET k", "$1|w|"), ("GET n", "$1|1|")]);
    clients.check(ANN, &[("CLIENT REPLY x", "-ERR syntax error|"), ("WAIT 1 50", "")]);
    clients.wait(50);
    assert_eq!(clients.told(ANN), ":0|");
}

#[test]
fn a_pause_puts_off_what_is_asked_for() {
    let mut clients = Clients::new();
    clients.check(ANN, &[("CLIENT PAUSE 100", "+OK|")]);
    clients.check(BOB, &[("SET k v", "")]);
    assert_eq!(clients.send(EVE, b"*1\r\n$4\r\nPING\r\nPING\r\n"), "");
    clients.wait(99);
    assert_eq!((clients.told(BOB), clients.told(EVE)), (String::new(), String::new()));
    assert!(clients.ask(ANN, "CLIENT UNPAUSE").starts_with("+OK|"));
    assert_eq!((clients.told(BOB), clients.told(EVE)), ("+OK|".to_owned(), "+PONG|+PONG|".to_owned()));
    clients.check(ANN, &[("GET k", "$1|v|"), ("CLIENT PAUSE 100 WRITE", "+OK|"), ("GET k", "$1|v|")]);
    clients.check(BOB, &[("SET k w", "")]);
    clients.check(EVE, &[("MULTI", "+OK|"), ("SET k x", "+QUEUED|"), ("EXEC", "")]);
    clients.check(ANN, &[("GET k", "$1|v|")]);
    clients.wait(100);
    assert_eq!((clients.told(BOB), clients.told(EVE)), ("+OK|".to_owned(), "*1|+OK|".to_owned()));
    clients.check(ANN, &[("GET k", "$1|x|"), ("SET k y", "+OK|")]);
    clients.check(
        ANN,
        &[
            ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range|"),
            ("CLIENT PAUSE -1", "-ERR timeout is negative|"),
            ("CLIENT PAUSE 1 x", "-ERR CLIENT PAUSE mode must be WRITE or ALL|"),
        ],
    );
}

#[test]
fn who_leaves_during_a_pause_is_forgotten() {
    let mut clients = Clients::new();
    clients.check(ANN, &[("CLIENT PAUSE 100", "+OK|")]);
    clients.check(BOB, &[("SET k v", "")]);
    clients.turn.event(Event::Closed { conn: BOB });
    clients.wait(100);
    clients.open(BOB);
    clients.check(BOB, &[("GET k", "$-1|")]);
}

#[test]
fn who_has_subscribed_is_told_by_either_version_of_the_protocol_and_in_lines() {
    let mut clients = Clients::new();
    let context = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context|";
    clients.check(
        ANN,
        &[
            ("SUBSCRIBE news sport", "*3|$9|subscribe|$4|news|:1|*3|$9|subscribe|$5|sport|:2|"),
            ("PSUBSCRIBE n*", "*3|$10|psubscribe|$2|n*|:3|"),
            ("GET k", &format!("-ERR Can't execute 'get': {context}")),
            ("PUBLISH news x", &format!("-ERR Can't execute 'publish': {context}")),
            ("MULTI", &format!("-ERR Can't execute 'multi': {context}")),
            ("PING", "*2|$4|pong|$0||"),
            ("PING hi", "*2|$4|pong|$2|hi|"),
            ("NOTHING", "-ERR unknown command 'NOTHING', with args beginning with: |"),
        ],
    );
    assert!(clients.ask(BOB, "HELLO 3").starts_with('%'));
    clients.check(BOB, &[("SUBSCRIBE news", ">3|$9|subscribe|$4|news|:1|"), ("GET k", "_|"), ("PING", "+PONG|")]);
    assert_eq!(clients.send(EVE, b"SUBSCRIBE news\nPUBLISH news 'a b'\n"), "subscribe news 1\n4\nmessage news a b\n");
    let message = "*3|$7|message|$4|news|$3|a b|";
    assert_eq!(clients.told(ANN), format!("{message}*4|$8|pmessage|$2|n*|$4|news|$3|a b|"));
    assert_eq!(clients.told(BOB), message.replace('*', ">"));
    clients.check(BOB, &[("PUBLISH sport x", ":1|"), ("PUBLISH nothing x", ":1|"), ("PUBLISH other x", ":0|")]);
    clients.check(
        BOB,
        &[
            ("PUBSUB CHANNELS", "*2|$4|news|$5|sport|"),
            ("PUBSUB CHANNELS s*", "*1|$5|sport|"),
            ("PUBSUB NUMSUB news none", "*4|$4|news|:3|$4|none|:0|"),
            ("PUBSUB NUMPAT", ":1|"),
            ("PUBSUB x", "-ERR unknown subcommand 'x'. Try PUBSUB HELP.|"),
            ("PUBSUB NUMPAT x", "-ERR wrong number of arguments for 'pubsub|numpat' command|"),
            ("SUBSCRIBE", "-ERR wrong number of arguments for 'subscribe' command|"),
        ],
    );
    // What was said before comes before what ends it.
    let told = clients.ask(ANN, "UNSUBSCRIBE");
    let said = "*3|$7|message|$5|sport|$1|x|*4|$8|pmessage|$2|n*|$7|nothing|$1|x|";
    assert_eq!(told, format!("{said}*3|$11|unsubscribe|$4|news|:2|*3|$11|unsubscribe|$5|sport|:1|"));
    clients.check(
        ANN,
        &[
            ("PUNSUBSCRIBE n* none", "*3|$12|punsubscribe|$2|n*|:0|*3|$12|punsubscribe|$4|none|:0|"),
            ("PUNSUBSCRIBE", "*3|$12|punsubscribe|$-1|:0|"),
            ("GET k", "$-1|"),
            ("MULTI", "+OK|"),
            ("SUBSCRIBE q", "+QUEUED|"),
            ("GET k", "+QUEUED|"),
            ("EXEC", "*2|*3|$9|subscribe|$1|q|:1|$-1|"),
        ],
    );
    assert!(clients.ask(BOB, "CLIENT LIST TYPE pubsub").contains("id=1 "));
    assert!(clients.ask(BOB, "CLIENT LIST").contains("flags=P db=0 sub=1 psub=0"));
    clients.check(ANN, &[("RESET", "+RESET|"), ("GET k", "$-1|")]);
    clients.check(BOB, &[("PUBSUB CHANNELS q", "*0|"), ("PUBLISH news y", ":2|>3|$7|message|$4|news|$1|y|")]);
}

#[test]
fn who_has_gone_is_told_nothing() {
    let mut clients = Clients::new();
    clients.ask(ANN, "SUBSCRIBE news");
    clients.ask(EVE, "PSUBSCRIBE *");
    clients.turn.event(Event::Closed { conn: ANN });
    clients.check(BOB, &[("CLIENT KILL TYPE pubsub", ":1|"), ("PUBLISH news x", ":0|"), ("PUBSUB NUMPAT", ":0|")]);
    assert_eq!(clients.ended(EVE), Some(Close::Killed));
    clients.open(ANN);
    clients.check(BOB, &[("PUBLISH news x", ":0|")]);
    assert_eq!(clients.told(ANN), "");
}

#[test]
fn a_late_reply_stands_before_a_message_or_behind_it() {
    let mut clients = Clients::new();
    clients.ask(ANN, "HELLO 3");
    clients.check(ANN, &[("SUBSCRIBE news", ">3|$9|subscribe|$4|news|:1|"), ("WAIT 1 50", "")]);
    let said = "x".repeat(1_000_000);
    clients.check(BOB, &[(&format!("PUBLISH news {said}"), ":1|")]);
    // A part of the message is sent before the reply is there.
    let mut told = clients.turn.output(ANN).to_vec();
    clients.turn.sent(ANN, told.len());
    assert!(told.len() < said.len() && told.starts_with(b">3"), "{} bytes", told.len());
    clients.wait(50);
    while !told.ends_with(b":0\r\n") {
        clients.wait(0);
        let more = clients.told(ANN);
        assert!(!more.is_empty(), "after {} bytes", told.len());
        told.extend(more.replace('|', "\r\n").into_bytes());
    }
    let expected = format!(">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1000000\r\n{said}\r\n:0\r\n");
    assert!(told == expected.as_bytes(), "{} bytes of {}", told.len(), expected.len());
    clients.check(ANN, &[("PING", "+PONG|")]);
}

#[test]
fn who_wants_no_replies_is_told_of_subscriptions_and_messages() {
    let mut clients = Clients::new();
    clients.check(
        ANN,
        &[
            ("CLIENT REPLY SKIP", ""),
            ("SUBSCRIBE a", "*3|$9|subscribe|$1|a|:1|"),
            ("UNSUBSCRIBE", "*3|$11|unsubscribe|$1|a|:0|"),
            ("HELLO 3", clients_hello()),
            ("CLIENT REPLY OFF", ""),
        ],
    );
    let both = clients.send(ANN, b"SUBSCRIBE news sport\r\nWAIT 1 0\r\n");
    assert_eq!(both, ">3|$9|subscribe|$4|news|:1|>3|$9|subscribe|$5|sport|:2|");
    clients.check(BOB, &[("PUBLISH news x", ":1|")]);
    assert_eq!(clients.told(ANN), ">3|$7|message|$4|news|$1|x|");
}

#[test]
fn who_has_subscribed_can_leave() {
    let mut clients = Clients::new();
    clients.ask(ANN, "SUBSCRIBE news");
    clients.check(ANN, &[("QUIT", "+OK|")]);
    assert_eq!(clients.ended(ANN), Some(Close::Quit));
    clients.check(BOB, &[("PUBLISH news x", ":0|")]);
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected() {
    let mut clients = Clients::with(Limits { output_bytes_max: 1_000, ..Limits::default() });
    clients.ask(ANN, "SUBSCRIBE news");
    clients.ask(EVE, "SUBSCRIBE news");
    let message = format!("PUBLISH news {}", "x".repeat(500));
    let mut told = 0;
    while clients.ended(ANN).is_none() {
        told += 1;
        assert!(told < 100, "it is never disconnected");
        clients.check(BOB, &[(&message, ":2|")]);
        assert!(clients.told(EVE).contains("message"), "who reads is told");
    }
    assert!(told > 10, "after {told} messages");
    clients.check(BOB, &[("PUBLISH news x", ":1|")]);
    assert!(clients.ask(BOB, "CLIENT LIST").contains("id=3 "));
}

/// What is told by a pattern that all events match.
fn told(channel: &str, message: &str) -> String {
    format!("*4|$8|pmessage|$6|__key*|${}|{channel}|${}|{message}|", channel.len(), message.len())
}

fn both(key: &str, event: &str) -> String {
    told(&format!("__keyspace@0__:{key}"), event) + &told(&format!("__keyevent@0__:{event}"), key)
}

#[test]
fn what_becomes_of_hashes_and_sets_is_told() {
    let mut clients = Clients::new();
    clients.ask(ANN, "PSUBSCRIBE __key*");
    clients.check(BOB, &[("CONFIG SET notify-keyspace-events KEA", "+OK|")]);
    for (words, events) in [
        ("HSET h a 1 b 2 c 3", vec![("h", "hset")]),
        ("HSETNX h a 1", vec![]),
        ("HINCRBY h n 1", vec![("h", "hincrby")]),
        ("HINCRBYFLOAT h c 1", vec![("h", "hincrbyfloat")]),
        ("HEXPIRE h 100 FIELDS 2 a c", vec![("h", "hexpire")]),
        ("HPERSIST h FIELDS 3 a b c", vec![("h", "hpersist")]),
        ("HTTL h FIELDS 1 a", vec![]),
        ("HDEL h a b none", vec![("h", "hdel")]),
        ("SADD s a b", vec![("s", "sadd")]),
        ("SADD s a b", vec![]),
        ("SREM s a none", vec![("s", "srem")]),
        ("SPOP s", vec![("s", "spop"), ("s", "del")]),
        ("EXPIRE h 100", vec![("h", "expire")]),
        ("PERSIST h", vec![("h", "persist")]),
        ("COPY h i", vec![("i", "copy_to")]),
        ("RENAME h j", vec![("h", "rename_from"), ("j", "rename_to")]),
        ("RENAME i j", vec![("i", "rename_from"), ("j", "rename_to")]),
        ("HDEL j c n", vec![("j", "hdel"), ("j", "del")]),
        ("SADD s a b c", vec![("s", "sadd")]),
        ("EXPIRE s 100", vec![("s", "expire")]),
        ("PERSIST s", vec![("s", "persist")]),
        ("SMOVE s t a", vec![("s", "srem"), ("t", "sadd")]),
        ("SUNIONSTORE t s", vec![("t", "sunionstore")]),
        ("SINTERSTORE t s none", vec![("t", "del")]),
        ("DEL s t", vec![("s", "del")]),
        ("HSET h a 1 b 2", vec![("h", "hset")]),
        ("PEXPIRE h 100", vec![("h", "expire")]),
        ("SADD s a", vec![("s", "sadd")]),
        ("PEXPIRE s 100", vec![("s", "expire")]),
    ] {
        clients.ask(BOB, words);
        let expected: String = events.iter().map(|(key, event)| both(key, event)).collect();
        assert_eq!(clients.told(ANN), expected, "{words}");
    }
    (0..300).for_each(|_| clients.wait(100));
    let expired = clients.told(ANN);
    assert!(
        [both("h", "expired") + &both("s", "expired"), both("s", "expired") + &both("h", "expired")].contains(&expired)
    );
    clients.check(BOB, &[("DBSIZE", ":0|")]);
}

#[test]
fn what_becomes_of_keys_is_told_if_that_is_wanted() {
    let mut clients = Clients::new();
    clients.ask(ANN, "PSUBSCRIBE __key*");
    clients.check(BOB, &[("SET k v", "+OK|")]);
    assert_eq!(clients.told(ANN), "");
    let refusal = "-ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event \
                   class character. Use 'Ag$lshzxeKEtmdn'.|";
    clients.check(
        BOB,
        &[
            ("CONFIG SET notify-keyspace-events q", refusal),
            ("CONFIG SET notify-keyspace-events KEA", "+OK|"),
            ("CONFIG GET notify*", "*2|$22|notify-keyspace-events|$3|AKE|"),
            ("SET k v", "+OK|"),
        ],
    );
    assert_eq!(clients.told(ANN), both("k", "set"));
    for (words, events) in [
        ("SET k v EX 100", vec![("k", "set"), ("k", "expire")]),
        ("GET k", vec![]),
        ("SET k v NX", vec![]),
        ("APPEND k x", vec![("k", "append")]),
        ("SETRANGE k 0 x", vec![("k", "setrange")]),
        ("EXPIRE k 100", vec![("k", "expire")]),
        ("PERSIST k", vec![("k", "persist")]),
        ("GETEX k EX 100", vec![("k", "expire")]),
        ("GETEX k PERSIST", vec![("k", "persist")]),
        ("INCR n", vec![("n", "incrby")]),
        ("DECRBY n 5", vec![("n", "incrby")]),
        ("INCRBYFLOAT n 0.5", vec![("n", "incrbyfloat")]),
        ("MSET a 1 b 2", vec![("a", "set"), ("b", "set")]),
        ("RENAME a c", vec![("a", "rename_from"), ("c", "rename_to")]),
        ("COPY c d", vec![("d", "copy_to")]),
        ("DEL c d none", vec![("c", "del"), ("d", "del")]),
        ("GETDEL b", vec![("b", "del")]),
        ("EXPIRE k -1", vec![("k", "del")]),
        ("SET k v PX 100", vec![("k", "set"), ("k", "expire")]),
    ] {
        clients.ask(BOB, words);
        let expected: String = events.iter().map(|(key, event)| both(key, event)).collect();
        assert_eq!(clients.told(ANN), expected, "{words}");
    }
    (0..300).for_each(|_| clients.wait(100));
    assert_eq!(clients.told(ANN), both("k", "expired"));
    clients.check(BOB, &[("SELECT 3", "+OK|"), ("SET k v", "+OK|")]);
    let in_3 = |space: u8, event: &str| {
        told(&format!("__keyspace@{space}__:k"), event) + &told(&format!("__keyevent@{space}__:{event}"), "k")
    };
    assert_eq!(clients.told(ANN), in_3(3, "set"));
    clients.check(BOB, &[("MOVE k 2", ":1|")]);
    assert_eq!(clients.told(ANN), in_3(3, "move_from") + &in_3(2, "move_to"));
    clients.check(BOB, &[("SET k v", "+OK|"), ("COPY k k DB 4", ":1|")]);
    assert_eq!(clients.told(ANN), in_3(3, "set") + &in_3(4, "copy_to"));
    assert!(clients.ask(BOB, "CLIENT LIST").contains(" db=3 "));
    clients.check(BOB, &[("FLUSHDB", "+OK|"), ("FLUSHALL", "+OK|"), ("SELECT 0", "+OK|")]);
    assert_eq!(clients.told(ANN), "", "of a flush nothing is told, as in Redis");
    assert_eq!(clients.send(BOB, b"*2\r\n$4\r\nINCR\r\n$3\r\n\xff\x01k\r\n"), ":1|");
    let odd = clients.told(ANN);
    let (keyspace, keyevent) =
        ("|$18|__keyspace@0__:\u{fffd}\u{1}k|$6|incrby|", "|$21|__keyevent@0__:incrby|$3|\u{fffd}\u{1}k|");
    assert!(odd.contains(keyspace) && odd.contains(keyevent), "{odd}");
    clients.check(BOB, &[("CONFIG SET notify-keyspace-events Kg", "+OK|"), ("SET k v EX 100", "+OK|")]);
    assert_eq!(clients.told(ANN), told("__keyspace@0__:k", "expire"));
    clients.check(BOB, &[("MULTI", "+OK|"), ("DEL k", "+QUEUED|"), ("EXEC", "*1|:1|")]);
    assert_eq!(clients.told(ANN), told("__keyspace@0__:k", "del"));
    assert_eq!(clients.send(BOB, b"CONFIG SET notify-keyspace-events ''\r\n"), "+OK|");
    clients.check(BOB, &[("SET k v", "+OK|")]);
    assert_eq!(clients.told(ANN), "");
}

/// A node with 20,000 keys that have expired, and have yet to leave the counts; 20 steps of some 1,000 keys each.
fn with_expired() -> Clients {
    let mut clients = Clients::new();
    let writes: String = (0..20_000).map(|number| format!("SET k{number} v PX 1000\n")).collect();
    assert_eq!(clients.send(BOB, writes.as_bytes()), "OK\n".repeat(20_000));
    clients.wait(30_000);
    clients
}

/// In how many turns nothing of them is counted, with so much time between turns and `more` said in each.
fn turns_of_expiry(clients: &mut Clients, ms: u64, more: impl Fn(u64) -> String) -> u64 {
    let mut turns = 1;
    while turns < 100 && clients.turn.node().deadline().is_some_and(|due| due <= at(clients.ms + ms).mono) {
        clients.ms += ms;
        clients.send(BOB, more(turns).as_bytes());
        turns += 1;
    }
    turns
}

#[test]
fn what_has_expired_is_gone_within_turns_that_no_time_lies_between() {
    let mut clients = with_expired();
    let turns = turns_of_expiry(&mut clients, 0, |_| "PING\n".to_owned());
    assert_eq!(clients.send(BOB, b"DBSIZE\n"), "0\n");
    assert!((20..30).contains(&turns), "{turns} turns of some 1,000 keys each");
}

#[test]
fn a_busy_node_lets_go_of_more_in_each_turn_and_not_of_any_number() {
    // 2,000 keys in 2 ms less what there are slots, and half as many again at the most.
    for (ms, expected) in [(2, 13..=15), (3, 9..=11), (300, 9..=11)] {
        let mut clients = with_expired();
        let turns = turns_of_expiry(&mut clients, ms, |_| "GET k\n".repeat(1_000));
        assert_eq!(clients.send(BOB, b"DBSIZE\n"), "0\n");
        assert!(expected.contains(&turns), "{turns} turns, {ms} ms apart");
    }
}

#[test]
fn who_hears_of_each_key_hears_of_few_in_a_turn() {
    let mut clients = with_expired();
    clients.send(ANN, b"CONFIG SET notify-keyspace-events KEA\nSUBSCRIBE __keyevent@0__:expired\n");
    let turns = turns_of_expiry(&mut clients, 300, |_| "PING\n".to_owned());
    assert!((20..30).contains(&turns), "{turns} turns of some 1,000 keys each");
}

#[test]
fn as_much_is_let_go_of_as_is_written_that_expires() {
    let mut clients = with_expired();
    let turns = turns_of_expiry(&mut clients, 0, |turn| {
        (0..5_000).map(|number| format!("SET k{turn}:{number} v PX 100000\n")).collect()
    });
    assert!((3..=6).contains(&turns), "{turns} turns of some 10,000 keys each");
    assert_eq!(clients.send(BOB, b"DBSIZE\n"), format!("{}\n", 5_000 * (turns - 1)));
}

#[test]
fn what_expires_is_looked_at_when_the_cut_is_due() {
    let mut clients = Clients::new();
    clients.wait(9_700);
    while clients.turn.node().deadline().is_some_and(|due| due <= at(clients.ms).mono) {
        clients.wait(0);
    }
    assert_eq!(clients.turn.node().deadline(), Some(at(10_000).mono));
}
