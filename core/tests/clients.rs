//! Several clients of one node: what each says of the others, and does to them.

use kv_core::{Close, Config, ConnId, Event, Limits, Mono, Now, Timers, Turn, WallMs};

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
        let config = Config {
            seed: [1, 2, 3, 4],
            name: "a".to_owned(),
            cluster: "default".to_owned(),
            advertise: "a:1".to_owned(),
            peers: Vec::new(),
            limits: Limits::default(),
            timers: Timers::default(),
            disk: None,
        };
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
               multi=-1 multi-mem=0 cmd=client|list user=default redir=-1 resp=3 lib-name= lib-ver=1.2";
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
