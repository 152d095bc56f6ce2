//! Requests of the Redis protocol to a whole node, and the bytes that it answers.

use kv_core::{Config, ConnId, Event, Limits, LogLevel, Mono, Now, Settings, Turn, WallMs};

const CLIENT: ConnId = ConnId(1);

const MSET_USAGE: &str = "-ERR wrong number of arguments for 'mset' command";

struct Session {
    turn: Turn,
    ms: u64,
}

impl Session {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let now = at(0);
        let config = Config { limits, ..Config::new([1, 2, 3, 4], "a", "a:1") };
        let mut turn = Turn::new(config, now);
        turn.begin(now);
        turn.event(Event::Opened { conn: CLIENT });
        Self { turn, ms: 0 }
    }

    /// What is answered to bytes, as text.
    fn send(&mut self, bytes: &[u8]) -> String {
        self.ms += 1;
        self.turn.begin(at(self.ms));
        self.turn.input(CLIENT, bytes);
        self.turn.settle();
        let mut answer = Vec::new();
        loop {
            let output = self.turn.output(CLIENT).to_vec();
            if output.is_empty() {
                return String::from_utf8_lossy(&answer).into_owned();
            }
            answer.extend_from_slice(&output);
            self.turn.sent(CLIENT, output.len());
        }
    }

    fn wait(&mut self, ms: u64) {
        self.ms += ms;
        self.turn.begin(at(self.ms));
        self.turn.settle();
    }

    /// What is answered to a request of these words.
    fn ask(&mut self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        self.send(&request(&words))
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), wall: WallMs(1_700_000_000_000 + ms) }
}

fn request(words: &[&str]) -> Vec<u8> {
    let args: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{args}", words.len()).into_bytes()
}

fn check(session: &mut Session, cases: &[(&str, &str)]) {
    for (words, expected) in cases {
        // What separates a command and its subcommand in errors is no end of a line.
        let answer = session.ask(words).replace("'client|", "'client ").replace("'config|", "'config ");
        assert_eq!(answer, expected.replace('|', "\r\n"), "{words}");
    }
}

#[test]
fn strings_are_as_in_redis() {
    check(
        &mut Session::new(),
        &[
            ("GET k", "$-1|"),
            ("SET k v", "+OK|"),
            ("get k", "$1|v|"),
            ("SET k w NX", "$-1|"),
            ("SET n w XX", "$-1|"),
            ("SET k w XX GET", "$1|v|"),
            ("SET k w NX GET", "$1|w|"),
            ("SET new w GET", "$-1|"),
            ("SET k v EX 10 KEEPTTL", "-ERR syntax error|"),
            ("SET k v NX XX", "-ERR syntax error|"),
            ("SET k v EX", "-ERR syntax error|"),
            ("SET k v EX x no", "-ERR syntax error|"),
            ("GETEX k EX x no", "-ERR syntax error|"),
            ("SET k v EX x", "-ERR value is not an integer or out of range|"),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command|"),
            ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command|"),
            ("SET k", "-ERR wrong number of arguments for 'set' command|"),
            ("SET k v EX 100", "+OK|"),
            ("SET k w KEEPTTL", "+OK|"),
            ("TTL k", ":100|"),
            ("SET k w", "+OK|"),
            ("TTL k", ":-1|"),
            ("SETNX k v", ":0|"),
            ("SETNX other v", ":1|"),
            ("SETEX k 10 v", "+OK|"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command|"),
            ("PSETEX k 10000 v", "+OK|"),
            ("TTL k", ":10|"),
            ("GETSET k w", "$1|v|"),
            ("TTL k", ":-1|"),
            ("GETDEL k", "$1|w|"),
            ("GETDEL k", "$-1|"),
            ("MSET a 1 b 2", "+OK|"),
            ("MSET a", &format!("{MSET_USAGE}|")),
            ("MSET a 1 b", &format!("{MSET_USAGE}|")),
            ("MGET a none b", "*3|$1|1|$-1|$1|2|"),
            ("MSETNX a 5 c 5", ":0|"),
            ("MSETNX c 5 d 5", ":1|"),
            ("GETEX c EX 100", "$1|5|"),
            ("TTL c", ":100|"),
            ("GETEX c PERSIST", "$1|5|"),
            ("TTL c", ":-1|"),
            ("GETEX c EX", "-ERR syntax error|"),
            ("APPEND log one", ":3|"),
            ("APPEND log two", ":6|"),
            ("STRLEN log", ":6|"),
            ("STRLEN none", ":0|"),
            ("GETRANGE log 0 2", "$3|one|"),
            ("GETRANGE log -3 -1", "$3|two|"),
            ("GETRANGE log 4 100", "$2|wo|"),
            ("GETRANGE log 5 3", "$0||"),
            ("SUBSTR log -100 0", "$1|o|"),
            ("GETRANGE log -1 -100", "$0||"),
            ("SETRANGE log 1 NE", ":6|"),
            ("GET log", "$6|oNEtwo|"),
            ("SETRANGE gap 2 x", ":3|"),
            ("GET gap", "$3|\0\0x|"),
            ("SETRANGE gap -1 x", "-ERR offset is out of range|"),
            ("SETRANGE none 5 ", ":0|"),
        ],
    );
}

#[test]
fn numbers_are_as_in_redis() {
    check(
        &mut Session::new(),
        &[
            ("INCR n", ":1|"),
            ("INCRBY n 41", ":42|"),
            ("GET n", "$2|42|"),
            ("DECR n", ":41|"),
            ("DECRBY n 1", ":40|"),
            ("STRLEN n", ":2|"),
            ("APPEND n 0", ":3|"),
            ("INCR n", ":401|"),
            ("EXPIRE n 100", ":1|"),
            ("INCR n", ":402|"),
            ("TTL n", ":100|"),
            ("SET s text", "+OK|"),
            ("INCR s", "-ERR value is not an integer or out of range|"),
            ("INCRBY n x", "-ERR value is not an integer or out of range|"),
            ("SET big 9223372036854775807", "+OK|"),
            ("INCR big", "-ERR increment or decrement would overflow|"),
            ("TYPE n", "+string|"),
            ("INCRBYFLOAT f 10.50", "$4|10.5|"),
            ("INCRBYFLOAT f 0.1", "$4|10.6|"),
            ("EXPIRE f 100", ":1|"),
            ("INCRBYFLOAT f -5.0e1", "$5|-39.4|"),
            ("TTL f", ":100|"),
            ("INCRBYFLOAT n 0.5", "$5|402.5|"),
            ("INCR n", "-ERR value is not an integer or out of range|"),
            ("INCRBYFLOAT n 0.5", "$3|403|"),
            ("INCR n", ":404|"),
            ("INCRBYFLOAT s 1", "-ERR value is not a valid float|"),
            ("INCRBYFLOAT f x", "-ERR value is not a valid float|"),
            ("INCRBYFLOAT f nan", "-ERR value is not a valid float|"),
            ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity|"),
            ("INCRBYFLOAT f", "-ERR wrong number of arguments for 'incrbyfloat' command|"),
        ],
    );
}

#[test]
fn keys_are_as_in_redis() {
    check(
        &mut Session::new(),
        &[
            ("MSET a 1 b 2", "+OK|"),
            ("EXISTS a b a none", ":3|"),
            ("TOUCH a none", ":1|"),
            ("TYPE none", "+none|"),
            ("DBSIZE", ":2|"),
            ("TTL none", ":-2|"),
            ("EXPIRE none 10", ":0|"),
            ("EXPIRE a 10 XX", ":0|"),
            ("EXPIRE a 10 NX", ":1|"),
            ("EXPIRE a 5 GT", ":0|"),
            ("EXPIRE a 20 GT", ":1|"),
            ("EXPIRE a 5 LT", ":1|"),
            ("EXPIRE b 5 GT", ":0|"),
            ("EXPIRE b 5 LT", ":1|"),
            ("EXPIRE a 5 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible|"),
            ("EXPIRE a 5 GT LT", "-ERR GT and LT options at the same time are not compatible|"),
            ("EXPIRE a 5 AB", "-ERR Unsupported option AB|"),
            ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
            ("PERSIST a", ":1|"),
            ("PERSIST a", ":0|"),
            ("PEXPIREAT a 1800000000000", ":1|"),
            ("PEXPIRETIME a", ":1800000000000|"),
            ("EXPIRETIME a", ":1800000000|"),
            ("EXPIREAT a 1", ":1|"),
            ("GET a", "$-1|"),
            ("EXPIRE b -1", ":1|"),
            ("EXISTS b", ":0|"),
            ("RENAME none x", "-ERR no such key|"),
            ("SET x 1 EX 100", "+OK|"),
            ("RENAME x y", "+OK|"),
            ("TTL y", ":100|"),
            ("SET z 3", "+OK|"),
            ("RENAMENX y z", ":0|"),
            ("RENAMENX y y2", ":1|"),
            ("COPY y2 z", ":0|"),
            ("COPY y2 z REPLACE", ":1|"),
            ("COPY y2 y2", "-ERR source and destination objects are the same|"),
            ("GET z", "$1|1|"),
            ("KEYS z*", "*1|$1|z|"),
            ("KEYS none", "*0|"),
            ("DEL y2 none", ":1|"),
            ("UNLINK z", ":1|"),
            ("RANDOMKEY", "$-1|"),
            ("SET k v", "+OK|"),
            ("RANDOMKEY", "$1|k|"),
        ],
    );
}

#[test]
fn a_scan_finds_every_key_that_is_there_all_the_while() {
    let mut session = Session::new();
    for key in 0..1_000 {
        session.ask(&format!("SET key:{key} v"));
    }
    let (mut found, mut cursor, mut steps) = (std::collections::BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let answer = session.ask(&format!("SCAN {cursor} COUNT 7 MATCH key:*"));
        let mut lines = answer.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        cursor = lines.next().expect("a cursor").to_owned();
        found.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 1_000);
    assert!(steps > 100, "{steps} steps");
    check(
        &mut session,
        &[
            ("SCAN x", "-ERR invalid cursor|"),
            ("SCAN 0 COUNT 0", "-ERR syntax error|"),
            ("SCAN 0 COUNT", "-ERR syntax error|"),
            ("SCAN 18446744073709551615", "*2|$1|0|*0|"),
        ],
    );
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value|";

#[test]
fn hashes_are_as_in_redis() {
    let not_integer = "-ERR value is not an integer or out of range|";
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("HSET h a 1 b 2", ":2|"),
            ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command|"),
            ("HMSET h c", "-ERR wrong number of arguments for 'hmset' command|"),
            ("HMSET h a 3", "+OK|"),
            ("HGET h a", "$1|3|"),
            ("HGET h none", "$-1|"),
            ("HMGET h none b", "*2|$-1|$1|2|"),
            ("HMGET nothing b", "*1|$-1|"),
            ("HSETNX h a 4", ":0|"),
            ("HSETNX h c x", ":1|"),
            ("HDEL h b none", ":1|"),
            ("HGETALL nothing", "*0|"),
            ("HKEYS nothing", "*0|"),
            ("HINCRBY h a 2", ":5|"),
            ("HINCRBY h a x", not_integer),
            ("HINCRBY h c 1", "-ERR hash value is not an integer|"),
            ("HINCRBY h a 9223372036854775807", "-ERR increment or decrement would overflow|"),
            ("HGET h a", "$1|5|"),
            ("HSTRLEN h c", ":1|"),
            ("HSCAN h x", "-ERR invalid cursor|"),
            ("HSCAN h 0 TYPE x", "-ERR syntax error|"),
            ("HSCAN h 0 MATCH a", "*2|$1|0|*2|$1|a|$1|5|"),
            ("HSCAN h 99999999999", "*2|$1|0|*0|"),
            ("SSCAN h 0", WRONG_TYPE),
            ("HRANDFIELD nothing", "$-1|"),
            ("HRANDFIELD nothing 2", "*0|"),
            ("HRANDFIELD h 1 x", "-ERR syntax error|"),
            ("HRANDFIELD h -9223372036854775808", "-ERR value is out of range|"),
            ("HTTL h FIELDS 2 a none", "*2|:-1|:-2|"),
            ("HEXPIRE h 100 FIELDS 2 a none", "*2|:1|:-2|"),
            ("HEXPIRE h 100 NX FIELDS 1 a", "*1|:0|"),
            ("HTTL h FIELDS 1 a", "*1|:100|"),
            ("HPERSIST h FIELDS 3 a c none", "*3|:1|:-1|:-2|"),
            ("HEXPIRE nothing 100 FIELDS 1 a", "*1|:-2|"),
            ("HEXPIRE h 9223372036854775807 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command|"),
            ("HEXPIRE h 1 FIELDS 1", "-ERR wrong number of arguments for 'hexpire' command|"),
            ("HTTL h FIELDS 0 a", "-ERR Number of fields must be a positive integer|"),
            ("HSCAN h 0 COUNT 9 NOVALUES MATCH a", "*2|$1|0|*1|$1|a|"),
            ("HINCRBYFLOAT h c 1", "-ERR hash value is not a float|"),
            ("HINCRBYFLOAT h c inf", "-ERR value is NaN or Infinity|"),
            ("HINCRBYFLOAT h a 0.5", "$3|5.5|"),
            ("HINCRBYFLOAT h a -0.5", "$1|5|"),
            ("HDEL h c", ":1|"),
            ("HGETALL h", "*2|$1|a|$1|5|"),
            ("HRANDFIELD h 9 WITHVALUES", "*2|$1|a|$1|5|"),
            ("HRANDFIELD h -2", "*2|$1|a|$1|a|"),
            ("GET h", WRONG_TYPE),
            ("INCR h", WRONG_TYPE),
            ("APPEND h x", WRONG_TYPE),
            ("SADD h x", WRONG_TYPE),
            ("TYPE h", "+hash|"),
            ("TTL h", ":-1|"),
            ("SCAN 0 TYPE hash", "*2|$1|0|*1|$1|h|"),
            ("SCAN 0 TYPE string", "*2|$1|0|*0|"),
            ("SET s x", "+OK|"),
            ("HGET s x", WRONG_TYPE),
            ("HSET s x y", WRONG_TYPE),
            ("HGETALL s", WRONG_TYPE),
            ("WATCH h", "+OK|"),
            ("HSET h a 6", ":0|"),
            ("MULTI", "+OK|"),
            ("HLEN h", "+QUEUED|"),
            ("EXEC", "*-1|"),
            ("WATCH h", "+OK|"),
            ("MULTI", "+OK|"),
            ("HLEN h", "+QUEUED|"),
            ("EXEC", "*1|:1|"),
        ],
    );
    assert!(session.ask("HELLO 3").starts_with('%'));
    check(
        &mut session,
        &[
            ("HGETALL h", "%1|$1|a|$1|6|"),
            ("HRANDFIELD h 1 WITHVALUES", "*1|*2|$1|a|$1|6|"),
            ("HGET h none", "_|"),
            ("HKEYS h", "*1|$1|a|"),
        ],
    );
}

#[test]
fn sets_are_as_in_redis() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("SADD s a b a", ":2|"),
            ("SADD s", "-ERR wrong number of arguments for 'sadd' command|"),
            ("SISMEMBER s a", ":1|"),
            ("SMISMEMBER nothing a b", "*2|:0|:0|"),
            ("SREM s b none", ":1|"),
            ("SMEMBERS s", "*1|$1|a|"),
            ("SMEMBERS nothing", "*0|"),
            ("SPOP nothing", "$-1|"),
            ("SPOP nothing 1", "*0|"),
            ("SPOP s -1", "-ERR value is out of range, must be positive|"),
            ("SPOP s x", "-ERR value is out of range, must be positive|"),
            ("SRANDMEMBER s -3", "*3|$1|a|$1|a|$1|a|"),
            ("SRANDMEMBER s 3", "*1|$1|a|"),
            ("SRANDMEMBER s x", "-ERR value is not an integer or out of range|"),
            ("SINTERCARD 0 s", "-ERR numkeys should be greater than 0|"),
            ("SINTERCARD 2 s", "-ERR Number of keys can't be greater than number of args|"),
            ("SINTERCARD 1 s LIMIT -1", "-ERR LIMIT can't be negative|"),
            ("SINTERCARD 1 s LIMIT", "-ERR syntax error|"),
            ("SINTERCARD 1 s", ":1|"),
            ("SSCAN s 0", "*2|$1|0|*1|$1|a|"),
            ("SMOVE s t none", ":0|"),
            ("SMOVE s t a", ":1|"),
            ("EXISTS s t", ":1|"),
            ("SET x text", "+OK|"),
            ("SMOVE t x a", WRONG_TYPE),
            ("SUNION t x", WRONG_TYPE),
            ("SUNIONSTORE x t nothing", ":1|"),
            ("TYPE x", "+set|"),
            ("HGET x a", WRONG_TYPE),
            ("SDIFFSTORE x t t", ":0|"),
            ("EXISTS x", ":0|"),
            ("SPOP t 5", "*1|$1|a|"),
            ("DBSIZE", ":0|"),
        ],
    );
    session.ask("SADD s a");
    assert!(session.ask("HELLO 3").starts_with('%'));
    check(&mut session, &[("SMEMBERS s", "~1|$1|a|"), ("SRANDMEMBER s 1", "*1|$1|a|"), ("SPOP s 1", "~1|$1|a|")]);
}

#[test]
fn a_scan_of_elements_finds_each_that_is_there_all_the_while() {
    let mut session = Session::new();
    for element in 0..1_000 {
        session.ask(&format!("HSET h f{element} v{element}"));
        session.ask(&format!("SADD s f{element}"));
    }
    for (command, key) in [("HSCAN", "h"), ("SSCAN", "s")] {
        let (mut found, mut cursor, mut steps) = (std::collections::BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let answer = session.ask(&format!("{command} {key} {cursor} COUNT 20"));
            let mut lines = answer.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
            cursor = lines.next().expect("a cursor").to_owned();
            found.extend(lines.filter(|line| line.starts_with('f')).map(str::to_owned));
            steps += 1;
            session.ask(&format!("HDEL h later{steps}"));
            session.ask(&format!("HSET h later{steps} v"));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 1_000, "{command}");
        assert!((50..80).contains(&steps), "{steps} steps");
    }
    assert_eq!(session.ask("SPOP s 900").matches('f').count(), 900);
    assert_eq!(session.ask("SRANDMEMBER s 50").matches('f').count(), 50);
    assert_eq!(session.ask("SCARD s"), ":100\r\n");
}

#[test]
fn a_transaction_is_run_at_once_or_not_at_all() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("MULTI", "+OK|"),
            ("MULTI", "-ERR MULTI calls can not be nested|"),
            ("SET k v", "+QUEUED|"),
            ("INCR k", "+QUEUED|"),
            ("GET k", "+QUEUED|"),
            ("WATCH k", "-ERR WATCH inside MULTI is not allowed|"),
            ("EXEC", "*3|+OK|-ERR value is not an integer or out of range|$1|v|"),
            ("EXEC", "-ERR EXEC without MULTI|"),
            ("DISCARD", "-ERR DISCARD without MULTI|"),
            ("MULTI", "+OK|"),
            ("SAVE", "-ERR Command not allowed inside a transaction|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("MULTI", "+OK|"),
            ("SET k w", "+QUEUED|"),
            ("DISCARD", "+OK|"),
            ("GET k", "$1|v|"),
            ("MULTI", "+OK|"),
            ("SET k w", "+QUEUED|"),
            ("SET k", "-ERR wrong number of arguments for 'set' command|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("GET k", "$1|v|"),
            ("MULTI", "+OK|"),
            ("SET k v EX x", "+QUEUED|"),
            ("MSET k v k", "+QUEUED|"),
            ("GET k", "+QUEUED|"),
            ("EXEC", &format!("*3|{}|{}|$1|v|", "-ERR value is not an integer or out of range", MSET_USAGE)),
            ("MULTI", "+OK|"),
            ("HELP NONE", "-ERR unknown command 'NONE', with args beginning with: |"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("MULTI", "+OK|"),
            ("WAITFOR 1 0", "+QUEUED|"),
            ("WAIT 1 0", "+QUEUED|"),
            ("CLIENT KILL", "-ERR wrong number of arguments for 'client kill' command|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("MULTI", "+OK|"),
            ("SET k v", "+QUEUED|"),
            ("WAIT 1 0", "+QUEUED|"),
            ("EXEC", "*2|+OK|:0|"),
            ("MULTI", "+OK|"),
            ("EXEC", "*0|"),
            ("WATCH k other", "+OK|"),
            ("MULTI", "+OK|"),
            ("GET k", "+QUEUED|"),
            ("EXEC", "*1|$1|v|"),
            ("WATCH other", "+OK|"),
            ("SET other 1", "+OK|"),
            ("MULTI", "+OK|"),
            ("SET k w", "+QUEUED|"),
            ("EXEC", "*-1|"),
            ("GET k", "$1|v|"),
            ("WATCH other", "+OK|"),
            ("SET other 2", "+OK|"),
            ("UNWATCH", "+OK|"),
            ("MULTI", "+OK|"),
            ("SET k w", "+QUEUED|"),
            ("EXEC", "*1|+OK|"),
            ("SET short v PX 20", "+OK|"),
            ("WATCH short", "+OK|"),
        ],
    );
    session.ms += 100;
    check(&mut session, &[("MULTI", "+OK|"), ("GET short", "+QUEUED|"), ("EXEC", "*-1|"), ("RESET", "+RESET|")]);
    check(&mut session, &[("MULTI", "+OK|"), ("RESET", "+RESET|"), ("EXEC", "-ERR EXEC without MULTI|")]);
    let mut lines = Session::new();
    assert_eq!(lines.send(b"MULTI\nSET k 'a b'\nGET k\nEXEC\n"), "OK\nQUEUED\nQUEUED\nOK\na b\n");
}

#[test]
fn a_connection_chooses_its_protocol() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("PING", "+PONG|"),
            ("PING hi", "$2|hi|"),
            ("ECHO hi", "$2|hi|"),
            ("SELECT 0", "+OK|"),
            ("SELECT 16", "-ERR DB index is out of range|"),
            ("SELECT -1", "-ERR DB index is out of range|"),
            ("SELECT one", "-ERR value is not an integer or out of range|"),
            ("HELLO 4", "-NOPROTO unsupported protocol version|"),
            ("GET none", "$-1|"),
            ("CLIENT GETNAME", "$-1|"),
            ("CLIENT SETNAME me", "+OK|"),
            ("CLIENT GETNAME", "$2|me|"),
            ("CLIENT SETNAME a\tb", "-ERR Client names cannot contain spaces, newlines or special characters.|"),
            ("CLIENT SETNAME a\u{1b}[2J", "-ERR Client names cannot contain spaces, newlines or special characters.|"),
            ("CLIENT SETINFO LIB-NAME x", "+OK|"),
            ("CLIENT ID", ":1|"),
            ("CLIENT NOTHING", "-ERR unknown subcommand 'NOTHING'. Try CLIENT HELP.|"),
            ("UNLINK", "-ERR wrong number of arguments for 'unlink' command|"),
            ("Substr k", "-ERR wrong number of arguments for 'substr' command|"),
            ("CONFIG GET save", "*2|$4|save|$0||"),
            ("NOTHING a", "-ERR unknown command 'NOTHING', with args beginning with: 'a' |"),
        ],
    );
    assert_eq!(session.ask("CLIENT KILL"), "-ERR wrong number of arguments for 'client|kill' command\r\n");
    let hello = session.ask("HELLO 3");
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert!(hello.contains("$5\r\nproto\r\n:3\r\n"), "{hello}");
    check(&mut session, &[("GET none", "_|"), ("CONFIG GET none", "%0|"), ("RESET", "+RESET|"), ("GET none", "$-1|")]);
    assert!(session.ask("INFO server").contains("redis_version:7."));
    assert!(!session.ask("INFO server").contains("# Memory"));
    assert!(session.ask("COMMAND COUNT").starts_with(':'));
    assert!(session.ask("COMMAND INFO get none").starts_with("*2\r\n*10\r\n$3\r\nget\r\n:2\r\n"));
    let docs = session.ask("COMMAND DOCS get");
    assert!(docs.contains("summary") && docs.contains("$5\r\nusage\r\n$7\r\nGET key\r\n"), "{docs}");
    assert!(session.ask("STATS").starts_with('$'));
    assert!(session.ask("HELP GET").contains("Usage: GET key"));
}

#[test]
fn requests_come_in_any_pieces() {
    let bytes: Vec<u8> = ["SET k v", "GET k", "DEL k", "MGET k k", "PING"]
        .iter()
        .flat_map(|words| request(&words.split(' ').collect::<Vec<_>>()))
        .collect();
    let whole = Session::new().send(&bytes);
    assert_eq!(whole, "+OK\r\n$1\r\nv\r\n:1\r\n*2\r\n$-1\r\n$-1\r\n+PONG\r\n");
    for cut in 1..bytes.len() {
        let mut session = Session::new();
        assert_eq!(session.send(&bytes[..cut]) + &session.send(&bytes[cut..]), whole, "cut at {cut}");
    }
    let mut session = Session::new();
    let answer: String = bytes.chunks(1).map(|byte| session.send(byte)).collect();
    assert_eq!(answer, whole);
}

#[test]
fn a_line_is_a_request_too_once_the_protocol_is_spoken() {
    let mut session = Session::new();
    assert_eq!(session.send(b"PING\nPING\n*1\r\n$4\r\nPING\r\n"), "PONG\nPONG\n+PONG\r\n");
    let mut session = Session::new();
    assert_eq!(session.send(b"PING\r\n"), "PONG\n", "lines come first: it is telnet");
    assert_eq!(session.ask("PING"), "+PONG\r\n");
    assert_eq!(session.send(b"PING\r\n\r\nset k 'a b'\r\nGET k\n"), "+PONG\r\n+OK\r\n$3\r\na b\r\n");
    assert_eq!(session.send(b"PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n"), "+PONG\r\n".repeat(3), "one behind the other");
    let mixed = b"PING\nPING\r\n*1\r\n$4\r\nPING\r\nECHO 'a b'\r\n\n*1\r\n$4\r\nPING\r\n";
    let whole = session.send(mixed);
    assert_eq!(whole, "+PONG\r\n+PONG\r\n+PONG\r\n$3\r\na b\r\n+PONG\r\n");
    for cut in 1..mixed.len() {
        assert_eq!(session.send(&mixed[..cut]) + &session.send(&mixed[cut..]), whole, "cut at {cut}");
    }
    assert_eq!(mixed.chunks(1).map(|byte| session.send(byte)).collect::<String>(), whole);
    assert_eq!(session.send(b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n"), "+PONG\r\n");
    assert_eq!(session.send(b"GET \"k\r\n"), "-ERR Protocol error: unbalanced quotes in request\r\n");
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    for (bytes, error) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*1000000000\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$67108865\r\n", "invalid bulk length"),
        ("*1\r\n$2147483647\r\n", "invalid bulk length"),
        ("*1\r\n$4\r\nPINGxx", "a bulk string does not end with CR LF"),
        ("*1\r\n$99999999999999999999999999999999999", "invalid bulk length"),
    ] {
        let mut session = Session::new();
        let after = "*1\r\n$4\r\nPING\r\n";
        let answer = session.send(format!("{bytes}{after}").as_bytes());
        assert_eq!(answer, format!("-ERR Protocol error: {error}\r\n"), "{bytes}");
        assert_eq!(session.send(after.as_bytes()), "", "{bytes}");
    }
    // A web page can have a browser send this; it is not even answered.
    assert_eq!(Session::new().send(b"*1\r\n$4\r\nPING\r\nPOST / HTTP/1.1\r\n*1\r\n$4\r\nPING\r\n"), "+PONG\r\n");
}

#[test]
fn lengths_are_not_believed() {
    let mut session = Session::new();
    assert_eq!(session.send(b"*1048576\r\n$3\r\nDEL\r\n$67108864\r\nx"), "");
    let mut session = Session::new();
    let value = "v".repeat(10 << 20);
    let bytes = request(&["SET", "k", &value]);
    let answer: String = bytes.chunks(64 << 10).map(|piece| session.send(piece)).collect();
    assert_eq!(answer, "+OK\r\n");
    assert_eq!(session.ask("STRLEN k"), format!(":{}\r\n", value.len()));
}

#[test]
fn a_name_given_to_itself_stays_what_it_is() {
    check(
        &mut Session::new(),
        &[
            ("RENAME k k", "-ERR no such key|"),
            ("SET k v EX 100", "+OK|"),
            ("WATCH k", "+OK|"),
            ("RENAME k k", "+OK|"),
            ("RENAMENX k k", ":0|"),
            ("MULTI", "+OK|"),
            ("TTL k", "+QUEUED|"),
            ("EXEC", "*1|:100|"),
        ],
    );
}

/// A request may have words that are longer than a value may be.
#[test]
fn a_transaction_answers_each_of_its_commands_whatever_their_words_are() {
    let mut session = Session::with(Limits { value_bytes_max: 4, ..Limits::default() });
    assert_eq!(session.send(b"MULTI\nECHO long-words\nSET k v\nEXEC\n"), "OK\nQUEUED\nQUEUED\nlong-words\nOK\n");
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|";
    check(&mut session, &[("SET k longer", too_long), ("ECHO long-words", "$10|long-words|"), ("GET k", "$1|v|")]);
}

#[test]
fn what_one_request_is_answered_is_bounded() {
    let mut session = Session::with(Limits { request_bytes_max: 1_000, ..Limits::default() });
    let value = "v".repeat(500);
    check(
        &mut session,
        &[
            (&format!("SET k {value}"), "+OK|"),
            ("MGET k k k", "-ERR the reply is longer than 1000 bytes; nothing was changed|"),
            ("MGET k", &format!("*1|$500|{value}|")),
            ("MULTI", "+OK|"),
            ("GET k", "+QUEUED|"),
            ("GET k", "+QUEUED|"),
            ("GET k", "+QUEUED|"),
            ("SET k short", "+QUEUED|"),
        ],
    );
    let replies = session.ask("EXEC");
    assert!(replies.len() <= 2_000, "{} bytes", replies.len());
    assert_eq!(session.send(&request(&["PING"])), "", "the connection has ended");
}

#[test]
fn what_one_client_watches_is_bounded() {
    let mut session = Session::with(Limits { request_bytes_max: 1_200, ..Limits::default() });
    let keys: Vec<String> = (0..40).map(|key| format!("key:{key:0>16}")).collect();
    for (number, key) in keys.iter().enumerate() {
        let answer = session.ask(&format!("WATCH {key} {key}"));
        let expected = if number < 7 { "+OK\r\n" } else { "-ERR too much is watched\r\n" };
        assert_eq!(answer, expected, "{number}");
    }
    check(&mut session, &[("UNWATCH", "+OK|"), (&format!("WATCH {}", keys[11]), "+OK|")]);
}

#[test]
fn many_keys_are_watched_in_no_time() {
    let mut session = Session::new();
    let keys: Vec<String> = (0..200_000).map(|key| format!("key:{key}")).collect();
    assert_eq!(session.ask(&format!("WATCH {}", keys.join(" "))), "+OK\r\n");
}

#[test]
fn patterns_are_short() {
    let (fits, long) = ("*".repeat(1 << 10), "*".repeat(1_025));
    for command in ["KEYS", "SCAN 0 MATCH", "CONFIG GET"] {
        let mut session = Session::new();
        assert!(session.ask(&format!("{command} {fits}")).starts_with('*'), "{command}");
        let refused = session.ask(&format!("{command} {long}"));
        assert_eq!(refused, "-ERR the pattern is longer than 1024 bytes; nothing was changed\r\n", "{command}");
    }
}

#[test]
fn what_clients_ask_of_a_server_is_answered_as_in_redis() {
    let no_frequency = "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
                        when switching between policies at runtime LRU and LFU data will take some time to adjust.|";
    check(
        &mut Session::new(),
        &[
            ("AUTH default x", "+OK|"),
            ("AUTH eve x", "-WRONGPASS invalid username-password pair or user is disabled.|"),
            (
                "AUTH x",
                "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?|",
            ),
            ("AUTH a b c", "-ERR syntax error|"),
            ("HELLO 3 AUTH", "-ERR Syntax error in HELLO option 'AUTH'|"),
            ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'|"),
            ("HELLO 3 AUTH eve x", "-WRONGPASS invalid username-password pair or user is disabled.|"),
            ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'|"),
            ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'|"),
            ("GET none", "$-1|"),
            ("READONLY", "-ERR This instance has cluster support disabled|"),
            ("READWRITE", "-ERR This instance has cluster support disabled|"),
            ("ROLE", "*3|$6|master|:0|*0|"),
            ("SCRIPT FLUSH", "+OK|"),
            ("SCRIPT FLUSH async", "+OK|"),
            ("SCRIPT EXISTS a b", "*2|:0|:0|"),
            ("FUNCTION FLUSH SYNC", "+OK|"),
            ("MSET n 12 s text", "+OK|"),
            ("INCR count", ":1|"),
            (&format!("SET long {}", "x".repeat(45)), "+OK|"),
            ("OBJECT ENCODING n", "$3|int|"),
            ("OBJECT ENCODING count", "$3|int|"),
            ("OBJECT ENCODING s", "$6|embstr|"),
            ("OBJECT ENCODING long", "$3|raw|"),
            ("OBJECT ENCODING none", "$-1|"),
            ("OBJECT REFCOUNT s", ":1|"),
            ("OBJECT IDLETIME s", ":0|"),
            ("OBJECT FREQ s", no_frequency),
            ("OBJECT FREQ none", "$-1|"),
            ("OBJECT foo s", "-ERR unknown subcommand 'foo'. Try OBJECT HELP.|"),
            ("MEMORY USAGE none", "$-1|"),
            ("MEMORY USAGE s SAMPLES -1", "-ERR syntax error|"),
            ("MEMORY USAGE s foo 1", "-ERR syntax error|"),
            ("COMMAND GETKEYS GET a", "*1|$1|a|"),
            ("COMMAND GETKEYS MSET a 1 b 2", "*2|$1|a|$1|b|"),
            ("COMMAND GETKEYS OBJECT ENCODING a", "*1|$1|a|"),
            ("COMMAND GETKEYS DEL a b", "*2|$1|a|$1|b|"),
            ("COMMAND GETKEYS ECHO a", "-ERR The command has no key arguments|"),
            ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command|"),
            ("COMMAND GETKEYS foo a", "-ERR Invalid command specified|"),
            ("CONFIG SET save", "-ERR wrong number of arguments for 'config set' command|"),
            ("CONFIG SET maxmemory 0 TIMEOUT 0", "+OK|"),
            ("CONFIG SET foo bar", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'|"),
            (
                "CONFIG SET databases 99",
                "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config|",
            ),
            (
                "CONFIG SET timeout 0 timeout 0",
                "-ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter|",
            ),
            (
                "CONFIG REWRITE",
                "-ERR The file of options is not written here: change it by hand, and send SIGHUP to have it read \
                 again|",
            ),
        ],
    );
    let mut session = Session::new();
    assert_eq!(session.ask("SCRIPT FLUSH x"), "-ERR SCRIPT FLUSH only support SYNC|ASYNC option\r\n");
    assert_eq!(session.ask("FUNCTION FLUSH x"), "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option\r\n");
    session.ask("SET k value");
    let usage = session.ask("MEMORY USAGE k");
    let bytes: usize = usage.trim_end().trim_start_matches(':').parse().expect("a number of bytes");
    assert!((20..200).contains(&bytes), "{usage}");
    let docs = session.ask("COMMAND DOCS get expire multi client incrbyfloat hset hexpire sadd");
    for group in
        ["$6\r\nstring", "$4\r\nhash", "$3\r\nset", "$7\r\ngeneric", "$12\r\ntransactions", "$10\r\nconnection"]
    {
        assert!(docs.contains(group), "{group}: {docs}");
    }
    assert!(session.ask("OBJECT HELP").contains("Usage: OBJECT"));
}

#[test]
fn settings_change_while_the_node_runs_or_say_why_not() {
    let refused =
        |name: &str, why: &str| format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {why}|");
    let range = refused("maxclients", "argument must be between 1 and 1000000 inclusive");
    let mut session = Session::new();
    session.turn.started_with(LogLevel::Warn, vec![("port".to_owned(), "8080".to_owned())]);
    check(
        &mut session,
        &[
            ("CONFIG GET maxclients", "*2|$10|maxclients|$5|10000|"),
            ("CONFIG SET maxclients 0", &range),
            ("CONFIG SET maxclients 1000001", &range),
            ("CONFIG SET maxclients x", &refused("maxclients", "argument couldn't be parsed into an integer")),
            ("CONFIG SET MaxClients 5 forget-after 60", "+OK|"),
            ("CONFIG GET maxclients forget-after", "*4|$12|forget-after|$2|60|$10|maxclients|$1|5|"),
            // All or nothing.
            (
                "CONFIG SET maxclients 6 forget-after 1",
                &refused("forget-after", "argument must be 0, or between 5 and 3153600000 inclusive"),
            ),
            ("CONFIG SET maxclients 6 port 1", &refused("port", "can't set immutable config")),
            ("CONFIG SET maxclients 6 maxclients 7", &refused("maxclients", "duplicate parameter")),
            ("CONFIG SET maxclients 6 foo 7", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'|"),
            ("CONFIG GET maxclients", "*2|$10|maxclients|$1|5|"),
            ("CONFIG SET port 8080", "+OK|"),
            ("CONFIG GET port", "*2|$4|port|$4|8080|"),
            ("CONFIG GET loglevel", "*2|$8|loglevel|$7|warning|"),
            ("CONFIG SET loglevel DEBUG", "+OK|"),
            ("CONFIG GET loglevel", "*2|$8|loglevel|$5|debug|"),
            (
                "CONFIG SET loglevel loud",
                &refused(
                    "loglevel",
                    "argument(s) must be one of the following: debug, verbose, notice, warning, error, nothing",
                ),
            ),
            ("CONFIG SET http-host a.example,b.example", "+OK|"),
            ("CONFIG GET http-host", "*2|$9|http-host|$19|a.example,b.example|"),
            // There is no disk.
            ("CONFIG GET appendfsync", "*2|$11|appendfsync|$2|no|"),
            ("CONFIG SET appendfsync no", "+OK|"),
            ("CONFIG SET appendfsync always", &refused("appendfsync", "can't set immutable config")),
            ("CONFIG SET proto-max-bulk-len 64x", &refused("proto-max-bulk-len", "argument must be a memory value")),
            ("CONFIG SET proto-max-bulk-len 4", "+OK|"),
            ("SET k 12345", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|"),
            ("SET k 1234", "+OK|"),
            ("CONFIG SET proto-max-bulk-len 1kb", "+OK|"),
            ("SET k 12345", "+OK|"),
            ("CONFIG GET proto-max-bulk-len", "*2|$18|proto-max-bulk-len|$4|1024|"),
        ],
    );
    let settings = session.turn.node().settings();
    assert_eq!((settings.clients_max, settings.absence_ms, settings.log_level), (5, 60_000, LogLevel::Trace));
    // What was set by one command is told by the next, though both came at once.
    let both = session.send(
        b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$10\r\nmaxclients\r\n$1\r\n9\r\n\
          *3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$10\r\nmaxclients\r\n",
    );
    assert_eq!(both, "+OK\r\n*2\r\n$10\r\nmaxclients\r\n$1\r\n9\r\n");
    // A driver that reads its options again has the last word.
    session.turn.reconfigure(&Settings { clients_max: 70, ..settings });
    check(&mut session, &[("CONFIG GET maxclients", "*2|$10|maxclients|$2|70|")]);
    let all = session.ask("CONFIG GET *");
    let names: Vec<&str> = all.lines().skip(2).step_by(4).collect();
    assert!(names.is_sorted() && names.contains(&"maxmemory") && names.contains(&"port"), "{names:?}");
}

#[test]
fn counts_of_info_are_true_and_begin_anew_when_told_to() {
    let mut session = Session::new();
    (0..50).for_each(|_| drop(session.ask("PING")));
    session.ms += 2_000_000;
    session.ask("PING");
    let seen = session.ask("INFO stats");
    assert!(
        seen.contains("total_commands_processed:52\r\n") && seen.contains("total_connections_received:1\r\n"),
        "{seen}"
    );
    let server = session.ask("INFO server");
    assert!(server.contains("uptime_in_seconds:2\r\n"), "{server}");
    assert_eq!(session.ask("CONFIG RESETSTAT"), "+OK\r\n");
    let seen = session.ask("INFO stats");
    assert!(
        seen.contains("total_commands_processed:1\r\n") && seen.contains("total_connections_received:0\r\n"),
        "{seen}"
    );
}

#[test]
fn keyspaces_have_nothing_to_do_with_each_other() {
    let no_swap =
        "-ERR SWAPDB is not supported: what other nodes write meanwhile would be in one database or the other|";
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("SET k zero", "+OK|"),
            ("SELECT 15", "+OK|"),
            ("GET k", "$-1|"),
            ("DBSIZE", ":0|"),
            ("RANDOMKEY", "$-1|"),
            ("SET k fifteen EX 100", "+OK|"),
            ("INCRBY n 5", ":5|"),
            ("APPEND k !", ":8|"),
            ("MGET k n", "*2|$8|fifteen!|$1|5|"),
            ("TTL k", ":100|"),
            ("EXISTS k n", ":2|"),
            ("OBJECT ENCODING n", "$3|int|"),
            ("RENAME n m", "+OK|"),
            ("KEYS m*", "*1|$1|m|"),
            ("DEL m", ":1|"),
            ("RANDOMKEY", "$1|k|"),
            ("SCAN 0 COUNT 100", "*2|$1|0|*1|$1|k|"),
            ("DBSIZE", ":1|"),
            ("HELLO 3", HELLO_3),
            ("GET k", "$8|fifteen!|"),
            ("SELECT 0", "+OK|"),
            ("OBJECT ENCODING n", "_|"),
            ("MEMORY USAGE n", "_|"),
            ("GET k", "$4|zero|"),
            ("KEYS *", "*1|$1|k|"),
            ("SWAPDB 0 15", no_swap),
            ("SELECT 15", "+OK|"),
            ("RESET", "+RESET|"),
            ("GET k", "$4|zero|"),
        ],
    );
    let info = session.ask("INFO keyspace");
    assert!(info.contains("db0:keys=1,expires=0,avg_ttl=0\r\ndb15:keys=1,expires=1,avg_ttl=0\r\n"), "{info}");
    assert!(session.ask("CONFIG GET databases").ends_with("$2\r\n16\r\n"));
}

const HELLO_3: &str = "%7|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|\
                       $6|master|$7|modules|*0|";

#[test]
fn values_go_from_one_keyspace_to_another() {
    let mut session = Session::new();
    let same = "-ERR source and destination objects are the same|";
    check(
        &mut session,
        &[
            ("SET k v", "+OK|"),
            ("COPY k k", same),
            ("COPY k k DB 0", same),
            ("COPY k k DB 1", ":1|"),
            ("COPY k k DB 1", ":0|"),
            ("COPY k k DB 1 REPLACE", ":1|"),
            ("COPY k l DB 16", "-ERR DB index is out of range|"),
            ("MOVE k 1", ":0|"),
            ("MOVE none 2", ":0|"),
            ("MOVE k 2", ":1|"),
            ("GET k", "$-1|"),
            ("SELECT 2", "+OK|"),
            ("GET k", "$1|v|"),
            ("MOVE k 2", same),
            ("MOVE k x", "-ERR value is not an integer or out of range|"),
        ],
    );
}

#[test]
fn a_key_that_begins_like_a_name_is_a_key() {
    let mut session = Session::new();
    for key in [&b"\xff"[..], b"\xff\x10", b"\xff\x01k", b"\xff\xff"] {
        assert_eq!(session.send(&[b"*3\r\n$3\r\nSET\r\n", &bulk(key)[..], b"$1\r\nv\r\n"].concat()), "+OK\r\n");
        assert_eq!(session.send(&[b"*2\r\n$3\r\nGET\r\n", &bulk(key)[..]].concat()), "$1\r\nv\r\n");
    }
    check(&mut session, &[("DBSIZE", ":4|"), ("SELECT 1", "+OK|"), ("DBSIZE", ":0|"), ("GET k", "$-1|")]);
    let longest = vec![0xff; 64 << 10];
    assert_eq!(session.send(&[b"*2\r\n$4\r\nINCR\r\n", &bulk(&longest)[..]].concat()), ":1\r\n");
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn a_flush_takes_a_keyspace_or_all_of_them() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("MSET a 1 b 2", "+OK|"),
            ("INCR a", ":2|"),
            ("SELECT 3", "+OK|"),
            ("SET a 3", "+OK|"),
            ("FLUSHDB now", "-ERR syntax error|"),
            ("FLUSHALL ASYNC SYNC", "-ERR syntax error|"),
            ("FLUSHDB async", "+OK|"),
            ("DBSIZE", ":0|"),
            ("GET a", "$-1|"),
            ("INCR a", ":1|"),
            ("SELECT 0", "+OK|"),
            ("DBSIZE", ":2|"),
            ("FLUSHALL SYNC", "+OK|"),
            ("DBSIZE", ":0|"),
            ("KEYS *", "*0|"),
            ("SCAN 0", "*2|$1|0|*0|"),
            ("INCR a", ":1|"),
            ("SELECT 3", "+OK|"),
            ("GET a", "$-1|"),
        ],
    );
}

#[test]
fn choosing_and_flushing_wait_for_their_place_in_a_transaction() {
    let mut session = Session::new();
    check(
        &mut session,
        &[
            ("SET k v", "+OK|"),
            ("MULTI", "+OK|"),
            ("SELECT 1", "+QUEUED|"),
            ("SET k w", "+QUEUED|"),
            ("SELECT 0", "+QUEUED|"),
            ("FLUSHDB", "+QUEUED|"),
            ("SELECT 1", "+QUEUED|"),
            ("EXEC", "*5|+OK|+OK|+OK|+OK|+OK|"),
            ("GET k", "$1|w|"),
            ("WATCH k", "+OK|"),
            ("SELECT 0", "+OK|"),
            ("SET k other", "+OK|"),
            ("MULTI", "+OK|"),
            ("PING", "+QUEUED|"),
            ("EXEC", "*1|+PONG|"),
            ("WATCH k", "+OK|"),
            ("FLUSHALL", "+OK|"),
            ("MULTI", "+OK|"),
            ("PING", "+QUEUED|"),
            ("EXEC", "*-1|"),
            ("SET k v", "+OK|"),
            ("DEL k", ":1|"),
            ("WATCH k none", "+OK|"),
            ("FLUSHALL", "+OK|"),
            ("MULTI", "+OK|"),
            ("PING", "+QUEUED|"),
            ("EXEC", "*1|+PONG|"),
            ("WATCH none", "+OK|"),
            ("SET none v", "+OK|"),
            ("FLUSHALL", "+OK|"),
            ("MULTI", "+OK|"),
            ("PING", "+QUEUED|"),
            ("EXEC", "*-1|"),
        ],
    );
}

/// Whether `EXEC` runs after what is between it and `WATCH h`.
fn is_run(session: &mut Session, between: &[&str]) -> bool {
    check(session, &[("WATCH h", "+OK|")]);
    between.iter().for_each(|command| drop(session.ask(command)));
    check(session, &[("MULTI", "+OK|"), ("PING", "+QUEUED|")]);
    session.ask("EXEC") != "*-1\r\n"
}

#[test]
fn a_hash_that_is_watched_changes_with_each_of_its_fields() {
    let mut session = Session::new();
    for (before, between, runs) in [
        ("HSET h a 1", &[][..], true),
        ("HSET h a 1", &["HSET h b 2"], false),
        ("HSET h a 1", &["HSET h a 1"], false),
        ("HSET h a 1", &["HDEL h none", "HSETNX h a 2", "PERSIST h", "EXPIRE none 5"], true),
        ("HSET h a 1", &["EXPIRE h 100"], false),
        ("HSET h a 1", &["DEL h"], false),
        ("HSET h a 1", &["FLUSHDB"], false),
        ("HSET h a 1", &["FLUSHDB", "HSET h a 1"], false),
        ("HSET other a 1", &["HSET h a 1", "HDEL h a"], false),
        ("HSET other a 1", &["SADD h a", "FLUSHALL"], false),
        ("HSET other a 1", &["FLUSHALL", "HDEL h a"], true),
        ("SADD h a b", &["SREM h none", "SMEMBERS h"], true),
        ("SADD h a b", &["SREM h a"], false),
        ("SADD h a b", &["RENAME h g"], false),
    ] {
        session.ask("FLUSHALL");
        session.ask(before);
        assert_eq!(is_run(&mut session, between), runs, "{before}, {between:?}");
    }
    session.ask("FLUSHALL");
    session.ask("HSET h a 1");
    session.ask("PEXPIRE h 50");
    check(&mut session, &[("WATCH h", "+OK|")]);
    session.wait(100);
    check(&mut session, &[("MULTI", "+OK|"), ("PING", "+QUEUED|"), ("EXEC", "*-1|")]);
    // It is gone, and freed a minute later.
    check(&mut session, &[("WATCH h", "+OK|")]);
    (0..100).for_each(|_| session.wait(1_000));
    check(&mut session, &[("MULTI", "+OK|"), ("PING", "+QUEUED|"), ("EXEC", "*1|+PONG|")]);
}

#[test]
fn what_is_under_one_key_need_not_fit_under_another() {
    let mut session = Session::new();
    let (long, other) = ("f".repeat(40_000), "k".repeat(40_000));
    assert_eq!(session.ask(&format!("HSET h {long} v")), ":1\r\n");
    assert_eq!(session.ask(&format!("SADD s {long}")), ":1\r\n");
    for command in [
        format!("RENAME h {other}"),
        format!("RENAMENX s {other}"),
        format!("COPY h {other}"),
        format!("SUNIONSTORE {other} s"),
        format!("SINTERSTORE {other} s s"),
        format!("SDIFFSTORE {other} s"),
        format!("SMOVE s {other} {long}"),
    ] {
        assert!(session.ask(&command).starts_with("-ERR "), "{command:.20}");
    }
    assert_eq!(session.ask(&format!("EXISTS h s {other}")), ":2\r\n", "nothing was changed");
    assert_eq!(session.ask("RENAME h short"), "+OK\r\n");
}

#[test]
fn what_is_drawn_again_and_again_is_bounded() {
    let mut session = Session::new();
    let long = "v".repeat(60_000);
    session.ask(&format!("HSET h f {long}"));
    session.ask(&format!("SADD s {long}"));
    for command in ["HRANDFIELD h -131072 WITHVALUES", "SRANDMEMBER s -131072"] {
        assert!(session.ask(command).starts_with("-ERR "), "{command:.20}");
    }
    assert!(session.ask("HRANDFIELD h -131072").starts_with("*131072\r\n"));
    assert_eq!(session.ask("HRANDFIELD h -2 WITHVALUES").len(), 4 + 2 * (7 + 8 + 60_000 + 2));
}

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.|";

#[test]
fn past_maxmemory_only_what_may_grow_is_refused() {
    let mut session = Session::with(Limits { ring_bytes: 64 << 10, ..Limits::default() });
    let used = |session: &mut Session| -> u64 {
        let info = session.ask("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is told");
        line.parse().expect("a number")
    };
    check(
        &mut session,
        &[("HSET h f v g w", ":2|"), ("SADD s a b c", ":3|"), ("SET k v", "+OK|"), ("SET n 1", "+OK|")],
    );
    let before = used(&mut session);
    let value = "v".repeat(100_000);
    for key in 0..100 {
        assert_eq!(session.ask(&format!("SET big:{key} {value}")), "+OK\r\n");
    }
    let max = u64::midpoint(before, used(&mut session));
    assert_eq!(session.ask(&format!("CONFIG SET maxmemory {max}")), "+OK\r\n");
    let info = session.ask("INFO memory");
    assert!(info.contains(&format!("maxmemory:{max}\r\nmaxmemory_policy:noeviction\r\n")), "{info}");
    check(
        &mut session,
        &[
            ("SET k w", OOM),
            ("SETNX new v", OOM),
            ("MSET a 1 b 2", OOM),
            ("APPEND k w", OOM),
            ("SETRANGE k 5 w", OOM),
            ("GETSET k w", OOM),
            ("INCR n", OOM),
            ("INCRBYFLOAT n 1", OOM),
            ("HSET h i v", OOM),
            ("SADD s d", OOM),
            ("SUNIONSTORE t s", OOM),
            ("COPY k l", OOM),
            ("RENAME k l", OOM),
            ("SET k", "-ERR wrong number of arguments for 'set' command|"),
            ("GET k", "$1|v|"),
            ("EXISTS k new a l t", ":1|"),
            ("EXPIRE k 100", ":1|"),
            ("PERSIST k", ":1|"),
            ("GETEX k EX 100", "$1|v|"),
            ("HDEL h f", ":1|"),
            ("SREM s a", ":1|"),
            ("GETDEL n", "$1|1|"),
            ("DEL k", ":1|"),
            // What was put off and may grow breaks its transaction; another is run.
            ("MULTI", "+OK|"),
            ("SET k w", OOM),
            ("DEL s", "+QUEUED|"),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors.|"),
            ("EXISTS s", ":1|"),
            ("MULTI", "+OK|"),
            ("DEL s", "+QUEUED|"),
            ("EXEC", "*1|:1|"),
            ("CONFIG SET maxmemory 0", "+OK|"),
            ("MULTI", "+OK|"),
            ("SET k w", "+QUEUED|"),
        ],
    );
    assert_eq!(session.turn.node().settings().memory_bytes_max, 0);
    session.turn.reconfigure(&Settings { memory_bytes_max: max, ..session.turn.node().settings() });
    let discarded =
        "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.|";
    check(&mut session, &[("EXEC", discarded), ("EXEC", "-ERR EXEC without MULTI|"), ("EXISTS k", ":0|")]);
    // Deletes make room.
    for key in 0..60 {
        assert_eq!(session.ask(&format!("DEL big:{key}")), ":1\r\n");
    }
    assert!(used(&mut session) < max);
    check(&mut session, &[("SET k w", "+OK|"), ("MULTI", "+OK|"), ("INCR n", "+QUEUED|"), ("EXEC", "*1|:1|")]);
    // So does a flush.
    check(
        &mut session,
        &[("CONFIG SET maxmemory 1", "+OK|"), ("SET k v", OOM), ("FLUSHALL", "+OK|"), ("DBSIZE", ":0|")],
    );
}

#[test]
fn the_size_of_memory_has_the_units_of_redis() {
    check(
        &mut Session::new(),
        &[
            ("CONFIG GET maxmemory", "*2|$9|maxmemory|$1|0|"),
            ("CONFIG SET maxmemory 100mb", "+OK|"),
            ("CONFIG GET maxmemory", "*2|$9|maxmemory|$9|104857600|"),
            (
                "CONFIG SET maxmemory much",
                "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value|",
            ),
            ("COMMAND INFO set", "*1|*10|$3|set|:-3|*2|+write|+denyoom|:1|:1|:1|*3|+@write|+@string|+@slow|*0|*0|*0|"),
            (
                "COMMAND INFO getdel",
                "*1|*10|$6|getdel|:2|*2|+write|+fast|:1|:1|:1|*3|+@write|+@string|+@fast|*0|*0|*0|",
            ),
        ],
    );
}

#[test]
fn by_lines_it_is_a_sentence_that_no_memory_is_left() {
    let mut session = Session::with(Limits { memory_bytes_max: 1, ..Limits::default() });
    let said = session.send(b"SET k v\nGET k\nDEL k\nMULTI\nSET k v\nDISCARD\n");
    let oom = "Error: this node has taken all the memory that it may (maxmemory); nothing was written; \
               delete something, or give it more by CONFIG SET maxmemory\n";
    assert!(said.starts_with(&format!("{oom}Key not found\n")) && said.matches(oom).count() == 2, "{said}");
    assert!(session.send(b"STATS\n").contains("\"memory_bytes_max\":1,"));
}
