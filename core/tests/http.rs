//! HTTP requests to a whole node, and the bytes that it answers.

use std::collections::BTreeSet;

use kv_core::{Config, ConnId, Event, Limits, Mono, NotReady, Now, Settings, Turn, WallMs};
use serde_json::Value;

const CLIENT: ConnId = ConnId(1);

struct Session {
    turn: Turn,
    ms: u64,
}

/// What one connection was answered, and whether it was ended.
#[derive(Debug, PartialEq, Eq)]
struct Answered {
    text: String,
    ended: bool,
}

impl Session {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let config = Config {
            http_hosts: vec!["store.example".to_owned()],
            limits,
            ..Config::new([1, 2, 3, 4], "a", "kv-1.example:1")
        };
        let mut turn = Turn::new(config, at(0));
        turn.begin(at(0));
        turn.settle();
        Self { turn, ms: 0 }
    }

    /// What a new connection is answered to bytes in pieces of that size; 0: in one.
    fn send_in(&mut self, bytes: &[u8], piece: usize) -> Answered {
        self.turn.begin(at(self.ms));
        self.turn.event(Event::Opened { conn: CLIENT });
        let mut answered = Answered { text: String::new(), ended: false };
        for part in bytes.chunks(if piece == 0 { bytes.len() } else { piece }) {
            if answered.ended {
                break;
            }
            self.turn.begin(at(self.ms));
            self.turn.input(CLIENT, part);
            self.turn.settle();
            loop {
                let output = self.turn.output(CLIENT).to_vec();
                if output.is_empty() {
                    break;
                }
                answered.text.push_str(&String::from_utf8_lossy(&output));
                self.turn.sent(CLIENT, output.len());
            }
            answered.ended = self.turn.finished(CLIENT).is_some();
        }
        if answered.ended {
            self.turn.gone(CLIENT);
        } else {
            self.turn.event(Event::Closed { conn: CLIENT });
        }
        answered
    }

    fn send(&mut self, text: &str) -> Answered {
        self.send_in(text.as_bytes(), 0)
    }

    /// What is answered to a request line with these fields and a body.
    fn ask(&mut self, line: &str, fields: &[&str], body: &str) -> String {
        let answered = self.request(line, fields, body);
        assert!(!answered.ended, "{line}: {answered:?}");
        answered.text
    }

    fn request(&mut self, line: &str, fields: &[&str], body: &str) -> Answered {
        let mut text = format!("{line} HTTP/1.1\r\nHost: localhost:8080\r\n");
        for field in fields {
            text.push_str(&format!("{field}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send(&format!("{text}\r\n{body}"))
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: WallMs(1_700_000_000_000 + ms) }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_value_goes_in_and_comes_out() {
    let mut session = Session::new();
    let put = session.ask("PUT /v1/kv/a%2Fb%00?ttl=60", &[], "Hello\r\n\0");
    assert_eq!(status(&put), 201, "{put}");
    let etag = field(&put, "ETag").expect("a version").to_owned();
    session.ms += 500;
    let got = session.ask("GET /v1/kv/a/b%00", &[], "");
    assert_eq!(
        got,
        format!(
            "HTTP/1.1 200 OK\r\nETag: {etag}\r\nCache-Control: no-cache\r\nSimple-KV-TTL-Ms: 59500\r\n\
             Content-Type: application/octet-stream\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 8\r\n\r\n\
             Hello\r\n\0"
        )
    );
    let head = session.ask("HEAD /v1/kv/a/b%00", &[], "");
    assert_eq!(head, got[..got.len() - 8]);
    assert_eq!(status(&session.ask("PUT /v1/kv/a/b%00", &[], "x")), 204);
    assert_eq!(field(&session.ask("GET /v1/kv/a/b%00", &[], ""), "Simple-KV-TTL-Ms"), None);
    assert_eq!(session.ask("DELETE /v1/kv/a/b%00", &[], ""), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(status(&session.ask("DELETE /v1/kv/a/b%00", &[], "")), 404);
    assert_eq!(
        session.ask("GET /v1/kv/a/b%00", &[], ""),
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Length: 88\r\n\r\n\
         {\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"the key is not there\"}\n"
    );
}

#[test]
fn a_time_to_live_ends() {
    let mut session = Session::new();
    for (ttl, ms) in [("2", 2_000), ("2s", 2_000), ("1500ms", 1_500)] {
        assert_eq!(status(&session.ask(&format!("PUT /v1/kv/k?ttl={ttl}"), &[], "v")), 201, "{ttl}");
        session.ms += ms - 1;
        assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 200, "{ttl}");
        session.ms += 1;
        assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 404, "{ttl}");
    }
    for ttl in ["", "0", "-1", "1.5", "1h", "99999999999999999999", "140737488356"] {
        assert_eq!(status(&session.ask(&format!("DELETE /v1/kv/k?ttl={ttl}"), &[], "")), 400, "{ttl}");
        let put = session.send(&format!("PUT /v1/kv/k?ttl={ttl} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(status(&put.text), 400, "{ttl}");
    }
}

#[test]
fn conditions_are_kept() {
    let mut session = Session::new();
    assert_eq!(status(&session.ask("PUT /v1/kv/k", &["If-Match: *"], "v")), 412);
    let put = session.ask("PUT /v1/kv/k", &["If-None-Match: *"], "v");
    let first = field(&put, "ETag").expect("a version").to_owned();
    assert_eq!(status(&put), 201);
    assert_eq!(status(&session.ask("PUT /v1/kv/k", &["If-None-Match: *"], "w")), 412);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[&format!("If-None-Match: \"x\", W/{first}")], "")), 304);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &["If-None-Match: \"x\""], "")), 200);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &["If-Match: \"x\""], "")), 412);
    assert_eq!(status(&session.ask("PUT /v1/kv/k", &[&format!("If-Match: {first}")], "w")), 204);
    assert_eq!(status(&session.ask("PUT /v1/kv/k", &[&format!("If-Match: {first}")], "x")), 412);
    assert_eq!(status(&session.ask("DELETE /v1/kv/k", &[&format!("If-Match: {first}")], "")), 412);
    assert!(session.ask("GET /v1/kv/k", &[], "").ends_with("\r\n\r\nw"));
    assert_eq!(status(&session.ask("DELETE /v1/kv/k", &["If-Match: *"], "")), 204);
}

#[test]
fn it_is_the_same_data_in_every_dialect() {
    let mut session = Session::new();
    assert_eq!(session.send("SET n 41\nINCR n\n").text, "OK\n42\n");
    let got = session.ask("GET /v1/kv/n", &[], "");
    assert!(got.ends_with("\r\n\r\n42"), "{got}");
    let before = field(&got, "ETag").map(str::to_owned);
    assert_eq!(session.send("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n").text, ":43\r\n");
    assert_ne!(field(&session.ask("GET /v1/kv/n", &[], ""), "ETag").map(str::to_owned), before);
    session.ask("PUT /v1/kv/n", &[], "text");
    assert_eq!(session.send("GET n\n").text, "text\n");
}

#[test]
fn a_hash_is_not_a_value() {
    let mut session = Session::new();
    session.send("HSET h f v\nSADD s m\n");
    for key in ["h", "s"] {
        let refused = session.ask(&format!("GET /v1/kv/{key}"), &[], "");
        assert!(status(&refused) == 409 && refused.contains("the key holds something else"), "{refused}");
        assert_eq!(status(&session.request(&format!("HEAD /v1/kv/{key}"), &[], "").text), 409);
        let batch = format!("{{\"ops\":[{{\"op\":\"get\",\"key\":\"{key}\"}}]}}");
        let told = session.ask("POST /v1/batch", &[], &batch);
        assert!(told.contains("\"status\":409"), "{told}");
    }
    assert_eq!(status(&session.ask("PUT /v1/kv/h", &["If-None-Match: *"], "text")), 412);
    assert_eq!(status(&session.ask("PUT /v1/kv/h", &["If-Match: *"], "text")), 204);
    assert_eq!(status(&session.ask("DELETE /v1/kv/s", &[], "")), 204);
    assert_eq!(session.send("GET h\nSCARD s\n").text, "text\n0\n");
}

#[test]
fn it_has_the_first_keyspace_whatever_its_keys_begin_with() {
    let mut session = Session::new();
    assert_eq!(session.send("SELECT 1\nSET k one\n").text, "OK\nOK\n");
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 404);
    let created = session.ask("PUT /v1/kv/k", &["If-None-Match: *"], "zero");
    assert_eq!(status(&created), 201, "{created}");
    // That is what the key of the other keyspace is stored as.
    assert_eq!(status(&session.ask("GET /v1/kv/%FF%01k", &[], "")), 404);
    let created = session.ask("PUT /v1/kv/%FF%01k", &["If-None-Match: *"], "odd");
    let etag = field(&created, "ETag").map(str::to_owned);
    assert_eq!((status(&created), etag.is_some()), (201, true), "{created}");
    let got = session.ask("GET /v1/kv/%FF%01k", &[], "");
    assert!(got.ends_with("\r\n\r\nodd") && field(&got, "ETag").map(str::to_owned) == etag, "{got}");
    let listed = session.ask("GET /v1/kv?limit=1000", &[], "");
    assert!(listed.contains("{\"keys\":[{\"key\":\"k\"},{\"key_base64\":\"/wFr\"}],"), "{listed}");
    assert_eq!(status(&session.ask("DELETE /v1/kv/%FF%01k", &["If-Match: *"], "")), 204);
    assert_eq!(session.send("GET k\nSELECT 1\nGET k\n").text, "zero\nOK\none\n");
    assert_eq!(session.send("SET k none\nFLUSHALL\n").text, "OK\nOK\n");
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 404);
}

/// Requests behind each other, with bodies of every kind.
const PIPELINE: &str = "\r\nPUT /v1/kv/a HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 3\r\n\r\none\
    PUT /v1/kv/b HTTP/1.1\r\nHost: 10.0.0.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n\
    3 ;x=y\r\ntwo\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
    GET /v1/kv/a HTTP/1.1\r\nHost: STORE.example.\r\nOrigin: http://store.EXAMPLE.\r\n\r\n\
    GET http://kv-1.example:9/v1/kv/b HTTP/1.1\r\nHost: other.example\r\n\r\n\
    GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n\
    POST /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n\
    GET /v1/kv/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
    GET /v1/kv/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
    GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn requests_follow_each_other_whatever_the_reads() {
    // The first line of a connection says what it is: an empty one is a line of text.
    let pipeline = PIPELINE.trim_start();
    let whole = Session::new().send(pipeline);
    assert!(whole.ended);
    let statuses: Vec<_> = whole.text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["201", "100", "201", "200", "200", "404", "405", "200", "200"], "{}", whole.text);
    assert!(whole.text.contains("\r\n\r\ntwo0123456789HTTP/1.1 404"), "{}", whole.text);
    assert!(whole.text.contains("\r\nAllow: GET, HEAD, PUT, DELETE\r\n"), "{}", whole.text);
    assert!(whole.text.contains("\r\nConnection: keep-alive\r\n"), "{}", whole.text);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(Session::new().send_in(pipeline.as_bytes(), piece), whole, "in pieces of {piece}");
    }
    let twice = format!("{pipeline}{PIPELINE}");
    assert_eq!(Session::new().send(&twice), whole, "nothing is answered after the end");
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    let long = "x".repeat(9_000);
    let head = |rest: &str| format!("PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\n{rest}");
    let many: String = (0..101).map(|at| format!("x{at}: y\r\n")).collect();
    for (text, expected) in [
        ("GET /v1/kv/k HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET /v1/kv/k HTTP/1.1\r\n\r\n".to_owned(), 400),
        (head("Host: a\r\n\r\n"), 400),
        (head("Content-Length: 1\r\nContent-Length: 1\r\n\r\nv"), 400),
        (head("Content-Length: 1, 1\r\n\r\nv"), 400),
        (head("Content-Length: +1\r\n\r\nv"), 400),
        (head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (head("Content-Length : 1\r\n\r\nv"), 400),
        (head("x: y\r\n z\r\n\r\n"), 400),
        (head("x: y\rz: z\r\n\r\n"), 400),
        (head("Content-Length: 1\r\r\n\r\nv"), 400),
        (head("Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
        (head("Transfer-Encoding: chunked\r\n\r\nx\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1\nv"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1\r\r\nv\r\n0\r\n\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1;a\rb\r\nv\r\n0\r\n\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1\x0c\r\nv\r\n0\r\n\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1 x\r\nv\r\n0\r\n\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1\r\nv\r\n0\r\nx: a\rb\r\n\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\n1\r\nvv\r\n"), 400),
        (head("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), 413),
        (head("Content-Length: 67108865\r\nExpect: 100-continue\r\n\r\n"), 413),
        (head("Expect: a miracle\r\n\r\n"), 417),
        (head(&format!("{many}\r\n")), 431),
        (head(&format!("x: {}", "y".repeat(17_000))), 431),
        (format!("GET /v1/kv/{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("PUT /v1/kv/{long}{long}"), 414),
        ("GET /v1/kv/k HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nSET k v\r\n\r\n".to_owned(), 404),
    ] {
        let answered = Session::new().send(&text);
        assert!(answered.ended, "{text}: {answered:?}");
        assert_eq!(status(&answered.text), expected, "{text}: {answered:?}");
        assert_eq!(field(&answered.text, "Connection"), Some("close"));
        assert_eq!(answered.text.matches("\nHTTP/1.1 ").count(), 0, "{text}: {answered:?}");
        assert_eq!(Session::new().send_in(text.as_bytes(), 5), answered, "in pieces: {text}");
    }
    // A method that is not known makes no HTTP connection, and none is known of one that is.
    let text = "GET /v1/kv/k HTTP/1.1\r\nHost: a\r\n\r\nBREW /pot HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(Session::new().send(text).text.contains("HTTP/1.1 501 "));
}

#[test]
fn a_head_is_answered_without_a_body_also_when_it_has_one_that_is_not_read() {
    let answered = Session::new().send("HEAD /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
    assert!(answered.ended && status(&answered.text) == 404 && answered.text.ends_with("\r\n\r\n"), "{answered:?}");
}

#[test]
fn a_part_of_a_value_is_not_taken_for_the_whole() {
    let mut session = Session::new();
    session.ask("PUT /v1/kv/k", &[], "whole");
    let part = "PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nContent-Range: bytes 2-4/5\r\nContent-Length: 3\r\n\r\nole";
    assert_eq!(status(&session.send(part).text), 400);
    let got = session.ask("GET /v1/kv/k", &["Content-Range: bytes 2-4/5", "Range: bytes=2-4"], "");
    assert!(status(&got) == 200 && got.ends_with("\r\n\r\nwhole"), "{got}");
}

#[test]
fn a_percent_sign_has_two_digits_behind_it() {
    let mut session = Session::new();
    for line in [
        "PUT /v1/kv/%zz",
        "PUT /v1/kv/a%",
        "GET /v1/kv/a%2",
        "GET /v1/kv/%%41",
        "GET /v1/kv?prefix=%4g",
        "DELETE /v1/kv/%+1",
    ] {
        let told = session.ask(line, &[], "");
        assert!(status(&told) == 400 && told.contains("two hexadecimal digits"), "{line}: {told}");
    }
    assert_eq!(status(&session.ask("PUT /v1/kv/%25zz", &[], "v")), 201);
    assert_eq!(session.send("GET %zz\n").text, "v\n");
    assert_eq!(status(&session.ask("PUT /v1/kv/%FF%ff%00..%2F./", &[], "v")), 201);
    assert_eq!(session.send("GET \"\\xff\\xff\\x00.././\"\n").text, "v\n");
}

#[test]
fn a_pause_is_told_at_once() {
    let mut session = Session::new();
    session.ask("PUT /v1/kv/k", &[], "v");
    assert_eq!(session.send("CLIENT PAUSE 100 WRITE\n").text, "OK\n");
    for line in ["PUT /v1/kv/k", "DELETE /v1/kv/k"] {
        let told = session.ask(line, &[], "");
        assert!(status(&told) == 503 && field(&told, "Retry-After") == Some("1"), "{line}: {told}");
        assert!(told.contains("are paused; nothing was changed"), "{told}");
    }
    let batch = r#"{"ops":[{"op":"get","key":"k"},{"op":"put","key":"k","value":"w"}]}"#;
    assert_eq!(status(&session.ask("POST /v1/batch", &[], batch)), 503);
    assert_eq!(status(&session.ask("POST /v1/batch", &[], r#"{"ops":[{"op":"get","key":"k"}]}"#)), 200);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 200);
    assert_eq!(session.send("CLIENT PAUSE 100\n").text, "OK\n");
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 503);
    assert_eq!(status(&session.ask("GET /healthz", &[], "")), 200);
    session.ms += 100;
    session.turn.begin(at(session.ms));
    session.turn.settle();
    assert_eq!(status(&session.ask("PUT /v1/kv/k", &[], "w")), 204);
}

#[test]
fn a_page_of_somebody_else_is_turned_away() {
    for (fields, expected) in [
        ("Host: evil.example", 421),
        ("Host: localhost.evil.example", 421),
        ("Host: 127.0.0.1.evil.example", 421),
        ("Host: ", 421),
        ("Host: localhost:http", 421),
        ("Host: [::1", 421),
        ("Host: localhost\r\nOrigin: http://evil.example", 403),
        ("Host: localhost:8080\r\nOrigin: http://localhost:8081", 403),
        ("Host: localhost\r\nOrigin: null", 403),
        ("Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost", 403),
        ("Host: localhost:8080\r\nOrigin: http://localhost:8080", 404),
        ("Host: a\r\nOrigin: https://a", 404),
        ("Host: [::1]:8080", 404),
    ] {
        let answered = Session::new().send(&format!("GET /v1/kv/k HTTP/1.1\r\n{fields}\r\n\r\n"));
        assert_eq!(status(&answered.text), expected, "{fields}: {answered:?}");
        assert!(!answered.text.contains("Access-Control"), "{answered:?}");
    }
}

#[test]
fn keys_are_listed_a_page_at_a_time() {
    let mut session = Session::new();
    let lines: String = (0..250).map(|at| format!("SET a*{at} v\n")).collect();
    session.send(&format!("{lines}SET ab v\nSET \"a*\\xff\" v\nDEL a*7\n"));
    let (mut cursor, mut found, mut pages) = ("0".to_owned(), 0, 0);
    loop {
        let page = session.ask(&format!("GET /v1/kv?prefix=a%2A&limit=40&cursor={cursor}"), &[], "");
        assert_eq!(status(&page), 200, "{page}");
        let count = page.matches("{\"key").count() - 1;
        assert!(count <= 40 && !page.contains("\"ab\"") && !page.contains("\"a*7\""), "{page}");
        (found, pages) = (found + count, pages + 1);
        let (_, after) = page.split_once("\"cursor\":").expect("a cursor");
        match after.trim_end().trim_end_matches('}') {
            "null" => break,
            quoted => cursor = quoted.trim_matches('"').to_owned(),
        }
    }
    assert_eq!(found, 250);
    assert!(pages >= 7, "{pages}");
    let odd = session.ask("GET /v1/kv?prefix=a*%ff", &[], "");
    assert!(odd.contains("\r\n\r\n{\"keys\":[{\"key_base64\":\"YSr/\"}],\"cursor\":"), "{odd}");
    assert!(session.ask("GET /v1/kv?prefix=zz", &[], "").ends_with("{\"keys\":[],\"cursor\":null}\n"));
    // A short page does not cost more steps than a long one.
    assert!(!session.ask("GET /v1/kv?prefix=zz&limit=1", &[], "").ends_with("\"cursor\":null}\n"));
    let long = "x".repeat(513);
    for query in
        ["limit=0", "limit=1001", "limit=x", "cursor=", "limit=1&limit=1", "other=1", &format!("prefix={long}")]
    {
        assert_eq!(status(&session.ask(&format!("GET /v1/kv?{query}"), &[], "")), 400, "{query}");
    }
}

#[test]
fn a_batch_is_carried_out_in_order_or_not_at_all() {
    let mut session = Session::new();
    let body = r#"{"ops":[{"op":"put","key":"a","value":"x\n"},{"op":"get","key":"a"},{"op":"delete","key":"a"},
        {"op":"get","key":"a"},{"op":"put","key_base64":"/w==","value_base64":"AP8=","ttl_ms":5},
        {"op":"get","key_base64":"/w=="},{"op":"delete","key":"none"}]}"#;
    let answer = session.ask("POST /v1/batch", &[], body);
    assert_eq!(status(&answer), 200, "{answer}");
    let (_, told) = answer.split_once("\r\n\r\n").expect("a body");
    let told = told.split('{').skip(2).map(|one| one.split("\"etag\"").next().unwrap_or(one));
    let told: Vec<_> = told.collect();
    assert!(told[0].starts_with("\"status\":204"), "{told:?}");
    assert!(told[1].starts_with("\"value\":\"x\\n\""), "{told:?}");
    assert!(told[2].starts_with("\"status\":204") && told[3].starts_with("\"status\":404"), "{told:?}");
    assert!(told[5].starts_with("\"value_base64\":\"AP8=\"") && told[6].starts_with("\"status\":404"), "{told:?}");
    let many =
        format!("{{\"ops\":[{}{{\"op\":\"get\",\"key\":\"k\"}}]}}", "{\"op\":\"get\",\"key\":\"k\"},".repeat(1_000));
    for wrong in [
        "",
        "{}",
        "[]",
        r#"{"ops":[{"op":"put","key":"w","value":"v"},{"op":"put","key":"w"}]}"#,
        r#"{"ops":[{"op":"put","key":"w","value":"v"},{"op":"get"}]}"#,
        r#"{"ops":[{"op":"put","key":"w","value":"v"},{"op":"get","key":"w","value":"v"}]}"#,
        r#"{"ops":[{"op":"put","key":"w","value":"v","ttl_ms":0}]}"#,
        r#"{"ops":[{"op":"put","key":"w","value_base64":"?"}]}"#,
        r#"{"ops":[{"op":"put","key":"w","value":"v","more":1}]}"#,
        &many,
    ] {
        assert_eq!(status(&session.ask("POST /v1/batch", &[], wrong)), 400, "{wrong}");
    }
    assert_eq!(status(&session.ask("GET /v1/kv/w", &[], "")), 404);
}

#[test]
fn an_answer_to_a_batch_is_not_many_times_as_long_as_what_it_tells() {
    let mut session = Session::new();
    for wrong in [r#"{"ops":[{"op":"@"}]}"#, r#"{"ops":[{"@":1}]}"#, r#"{"@":1}"#, r#"{"ops":"@"}"#] {
        let told = session.ask("POST /v1/batch", &[], &wrong.replace('@', &"\x7f".repeat(100_000)));
        assert!(status(&told) == 400 && told.len() < 2_000, "{wrong}: {} bytes", told.len());
    }
    for value in ["\x01".repeat(30_000), "\x7f".repeat(30_000), "\u{85}".repeat(15_000), "\r\n\t\"\\".repeat(6_000)] {
        session.ask("PUT /v1/kv/k", &[], &value);
        let told = session.ask("POST /v1/batch", &[], r#"{"ops":[{"op":"get","key":"k"}]}"#);
        assert!(status(&told) == 200 && told.len() < 61_000, "{} bytes", told.len());
    }
    session.ask("PUT /v1/kv/%01", &[], "");
    assert!(session.ask("GET /v1/kv?prefix=%01", &[], "").contains("[{\"key_base64\":\"AQ==\"}]"));
}

#[test]
fn values_of_a_batch_are_no_longer_together_than_one_may_be() {
    let mut session = Session::with(Limits { value_bytes_max: 100, ..Limits::default() });
    session.ask("PUT /v1/kv/k", &[], &"v".repeat(40));
    let get = r#"{"op":"get","key":"k"}"#;
    let answer = session.ask("POST /v1/batch", &[], &format!("{{\"ops\":[{get},{get},{get}]}}"));
    assert_eq!(answer.matches("\"status\":200").count(), 2, "{answer}");
    assert_eq!(answer.matches("\"status\":413").count(), 1, "{answer}");
}

#[test]
fn without_memory_what_may_grow_is_refused_and_all_else_goes_on() {
    let mut session = Session::new();
    session.ask("PUT /v1/kv/k", &[], "v");
    session.turn.reconfigure(&Settings { memory_bytes_max: 1, ..session.turn.node().settings() });
    let refused = session.ask("PUT /v1/kv/k", &[], "w");
    assert!(refused.starts_with("HTTP/1.1 507 Insufficient Storage\r\n"), "{refused}");
    assert_eq!(field(&refused, "Content-Type"), Some("application/problem+json"));
    assert!(refused.contains("nothing was written"), "{refused}");
    assert!(session.ask("GET /v1/kv/k", &[], "").ends_with("\r\n\r\nv"));
    // All of a batch, or nothing.
    let puts = r#"{"ops":[{"op":"delete","key":"k"},{"op":"put","key":"l","value":"v"}]}"#;
    assert_eq!(status(&session.ask("POST /v1/batch", &[], puts)), 507);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 200);
    let others = r#"{"ops":[{"op":"get","key":"k"},{"op":"delete","key":"k"}]}"#;
    assert_eq!(session.ask("POST /v1/batch", &[], others).matches("\"status\":20").count(), 2);
    assert_eq!(status(&session.ask("GET /v1/kv/k", &[], "")), 404);
    assert!(session.ask("GET /metrics", &[], "").contains("simplekv_bound{of=\"memory_bytes\"} 1"));
}

#[test]
fn operators_are_told_how_it_is() {
    let mut session = Session::new();
    assert!(session.ask("GET /healthz", &[], "").ends_with("\r\n\r\n{\"status\":\"ok\"}\n"));
    assert!(session.ask("GET /readyz", &[], "").ends_with("\r\n\r\n{\"ready\":true,\"reasons\":[]}\n"));
    let metrics = session.ask("GET /metrics", &[], "");
    assert!(metrics.contains("simplekv_ready 1") && metrics.contains("simplekv_not_ready{reason=\"draining\"} 0"));
    session.turn.drain();
    let unready = session.ask("GET /readyz", &[], "");
    let told = r#"{"ready":false,"reasons":[{"why":"draining","text":"it is being stopped"}]}"#;
    assert!(status(&unready) == 503 && unready.ends_with(&format!("\r\n\r\n{told}\n")), "{unready}");
    let metrics = session.ask("GET /metrics", &[], "");
    assert!(metrics.contains("simplekv_ready 0") && metrics.contains("simplekv_not_ready{reason=\"draining\"} 1"));
    let cluster = session.ask("GET /v1/cluster", &[], "");
    assert!(status(&cluster) == 200 && cluster.contains("\r\n\r\n{\"node\":\"a\",\"origin\":"), "{cluster}");
    for path in ["/healthz", "/readyz", "/metrics", "/v1/cluster", "/v1/kv", "/v1/watch", "/v1/why/k", "/"] {
        assert_eq!(field(&session.ask(&format!("PUT {path}"), &[], ""), "Allow"), Some("GET, HEAD"), "{path}");
    }
    assert_eq!(field(&session.ask("GET /v1/batch", &[], ""), "Allow"), Some("POST"));
}

#[test]
fn no_more_is_held_than_has_come() {
    let mut session = Session::new();
    session.turn.event(Event::Opened { conn: CLIENT });
    session.turn.input(CLIENT, b"PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\nabc");
    assert_eq!(session.turn.held(CLIENT), (3, 0));
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let mut session = Session::new();
    session.ask("PUT /v1/kv/a", &[], "1");
    session.ask("PUT /v1/kv/b", &[], "2");
    session.ask("DELETE /v1/kv/b", &[], "");
    let answer = session.ask("GET /metrics", &[], "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let mut families = BTreeSet::new();
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => assert!(families.insert(name) && !help.is_empty(), "{line}"),
            ["#", "TYPE", name, kind] => assert!(families.contains(name) && ["counter", "gauge"].contains(&kind)),
            [sample, figure] => {
                let name = sample.split_once('{').map_or(sample, |(name, _)| name);
                assert!(name.starts_with("simplekv_") && families.contains(name), "{line}");
                assert!(figure.parse::<f64>().is_ok(), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    let figures = [
        "simplekv_keys 1",
        "simplekv_conflicts_total 0",
        "simplekv_commands_total 3",
        "simplekv_ready 1",
        "simplekv_bound{of=\"clients\"} 10000",
    ];
    for figure in figures {
        assert!(body.lines().any(|line| line.trim_end_matches(".0") == figure), "{figure} is not in {body}");
    }
}

#[test]
fn what_is_wrong_with_a_request_for_a_head_is_told_in_a_head() {
    let long = format!("X: {}\r\n", "x".repeat(70_000));
    for wrong in ["Content-Length: 1\r\nContent-Length: 1\r\n", "Host: b\r\n", "no field\r\n", "X: \n", &long] {
        let answered = Session::new().send(&format!("HEAD /v1/kv/k HTTP/1.1\r\nHost: a\r\n{wrong}\r\n"));
        assert!(answered.ended && [400, 431].contains(&status(&answered.text)), "{wrong}: {answered:?}");
        assert!(answered.text.ends_with("\r\n\r\n"), "{wrong}: {answered:?}");
    }
}

/// Requests, among them one for each answer that is described.
const ASKED: [(&str, &[&str], &str); 42] = [
    ("PUT /v1/kv/{a}", &[], "1"),
    ("PUT /v1/kv/{a}?ttl=60s", &[], "2"),
    ("PUT /v1/kv/{a}?ttl=never", &[], "2"),
    ("PUT /v1/kv/{a}", &["If-None-Match: *"], "3"),
    ("GET /v1/kv/{a}", &[], ""),
    ("GET /v1/kv/{a}", &["If-None-Match: *"], ""),
    ("GET /v1/kv/{a}", &["If-Match: \"1-1\""], ""),
    ("GET /v1/kv/{b}", &[], ""),
    ("HEAD /v1/kv/{a}", &[], ""),
    ("HEAD /v1/kv/{a}", &["If-None-Match: *"], ""),
    ("HEAD /v1/kv/{a}", &["If-Match: \"1-1\""], ""),
    ("HEAD /v1/kv/{b}", &[], ""),
    ("GET /v1/kv/{hash}", &[], ""),
    ("HEAD /v1/kv/{hash}", &[], ""),
    ("GET /v1/kv", &[], ""),
    ("GET /v1/kv?prefix=a&limit=1", &[], ""),
    ("GET /v1/kv?limit=0", &[], ""),
    ("HEAD /v1/kv", &[], ""),
    ("GET /v1/watch?prefix=a", &["Last-Event-ID: x"], ""),
    ("GET /v1/watch?values=maybe", &[], ""),
    ("HEAD /v1/watch", &[], ""),
    ("DELETE /v1/kv/{a}", &["If-Match: \"1-1\""], ""),
    ("DELETE /v1/kv/{a}", &[], ""),
    ("DELETE /v1/kv/{a}", &[], ""),
    (
        "POST /v1/batch",
        &[],
        concat!(
            r#"{"ops":[{"op":"put","key":"a","value":"1","ttl_ms":9},"#,
            r#"{"op":"get","key":"a"},{"op":"delete","key_base64":"/w=="}]}"#
        ),
    ),
    ("POST /v1/batch", &[], "{}"),
    ("GET /", &[], ""),
    ("HEAD /", &[], ""),
    ("GET /v1/why/{a}", &[], ""),
    ("GET /v1/why/{none}", &[], ""),
    ("HEAD /v1/why/{a}", &[], ""),
    ("HEAD /v1/why/{none}", &[], ""),
    ("GET /v1/cluster", &[], ""),
    ("HEAD /v1/cluster", &[], ""),
    ("GET /v1/openapi.json", &[], ""),
    ("HEAD /v1/openapi.json", &[], ""),
    ("GET /healthz", &[], ""),
    ("HEAD /healthz", &[], ""),
    ("GET /readyz", &[], ""),
    ("HEAD /readyz", &[], ""),
    ("GET /metrics", &[], ""),
    ("HEAD /metrics", &[], ""),
];

#[test]
fn the_description_is_what_is_answered() {
    let mut session = Session::new();
    let text = session.ask("GET /v1/openapi.json", &[], "");
    let described: Value = serde_json::from_str(text.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
    let mut unseen = BTreeSet::new();
    for (path, item) in described["paths"].as_object().expect("paths") {
        let methods: Vec<_> = item.as_object().expect("methods").keys().filter(|name| *name != "parameters").collect();
        for method in &methods {
            let statuses = item[*method]["responses"].as_object().expect("responses").keys();
            unseen.extend(statuses.map(|status| format!("{} {path} {status}", method.to_uppercase())));
        }
        // All others are turned away, and told of these.
        let refused = session.request(&other(&methods, path), &[], "").text;
        assert_eq!(status(&refused), 405, "{path}: {refused}");
        let mut allowed: Vec<_> =
            field(&refused, "Allow").expect("methods").split(", ").map(str::to_lowercase).collect();
        allowed.sort();
        assert_eq!(allowed.iter().collect::<Vec<_>>(), methods, "{path}");
    }
    session.send("HSET hash field value\n");
    for (line, fields, body) in ASKED {
        let (method, target) = line.split_once(' ').expect("a target");
        let path = target.split('?').next().unwrap_or_default();
        let path = match path.rsplit_once('/') {
            Some((before, key)) if key.starts_with('{') => &format!("{before}/{{key}}"),
            _ => path,
        };
        let answer = session.request(&line.replace(['{', '}'], ""), fields, body).text;
        let responses = &described["paths"][path][method.to_lowercase()]["responses"];
        let name = status(&answer).to_string();
        let response = responses.get(&name).unwrap_or_else(|| panic!("{line} is answered {answer}"));
        unseen.remove(&format!("{method} {path} {name}"));
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let Some(contents) = response.get("content").and_then(Value::as_object) else {
            assert_eq!(body, "", "{line}");
            continue;
        };
        let kind = field(&answer, "Content-Type").and_then(|kind| kind.split(';').next()).expect("a type");
        let schema = &contents.get(kind).unwrap_or_else(|| panic!("{line} is answered {kind}"))["schema"];
        if kind.ends_with("json") {
            let found = serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}"));
            if let Err(wrong) = fits(&found, schema, &described) {
                panic!("{line}: {wrong} in {body}");
            }
        }
        for (name, _) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let may_lack = name == "Simple-KV-TTL-Ms";
            assert!(may_lack || field(&answer, name).is_some(), "{line}: no {name} in {answer}");
        }
    }
    unseen.retain(|described| !described.ends_with(" default"));
    assert_eq!(unseen, BTreeSet::from(["GET /readyz 503".to_owned()]), "it is ready");
    session.turn.drain();
    let answer = session.ask("GET /readyz", &[], "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(status(head) == 503 && field(head, "Retry-After") == Some("1"), "{head}");
    let schema = &described["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"];
    assert_eq!(fits(&serde_json::from_str(body).expect("JSON"), schema, &described), Ok(()));
    let words = described["components"]["schemas"]["NotReady"]["properties"]["why"]["enum"].as_array().expect("words");
    assert!(NotReady::ALL.iter().map(|why| why.word()).eq(words.iter().filter_map(Value::as_str)));
}

/// A request that none of the `methods` of a path is for.
fn other(methods: &[&String], path: &str) -> String {
    let other = ["put", "post"].into_iter().find(|other| !methods.iter().any(|method| *method == other));
    format!("{} {}", other.expect("one that it has not").to_uppercase(), path.replace("{key}", "k"))
}

/// Whether a value is as a schema has it, or what is wrong.
fn fits(value: &Value, schema: &Value, described: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/")) {
        return fits(value, &described["components"]["schemas"][name], described);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    let is_one = kinds.is_null() || kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.contains(&kind.into()));
    let is_listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    if !is_one || !is_listed {
        return Err(format!("{value} is not of {schema}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], described)?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        value.get(name).ok_or_else(|| format!("{name} is lacking"))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => fits(member, schema, described)?,
            None if schema["additionalProperties"] == false => return Err(format!("{name} is not described")),
            None => {}
        }
    }
    Ok(())
}
