//! Requests of HTTP, whole and broken: what comes back are whole responses, one for each request that was whole.

use arbitrary::Arbitrary;

use crate::line::replies_in;

const METHODS: [&str; 8] = ["GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "PATCH", "TRACE"];
const TARGETS: [&str; 18] = [
    "/v1/kv/k",
    "/v1/kv/k?ttl=9",
    "/v1/kv/%00%ff",
    "/v1/kv/",
    "/v1/kv",
    "/v1/kv?limit=2&prefix=k",
    "/v1/watch?prefix=k&values=true",
    "/v1/watch?last_event_id=1-1",
    "/",
    "/v1/why/k",
    "/v1/batch",
    "/v1/cluster",
    "/v1/openapi.json",
    "/metrics",
    "/healthz",
    "/readyz",
    "http://a/v1/kv/k",
    "*",
];
const FIELDS: [&str; 13] = [
    "If-Match: *",
    "If-None-Match: *",
    "If-Match: \"1-1\", W/\"2-2\"",
    "Expect: 100-continue",
    "Connection: close",
    "Connection: keep-alive",
    "Origin: http://a",
    "Origin: null",
    "Last-Event-ID: 1-1",
    "Range: bytes=0-1",
    "Accept: */*",
    "Host: b",
    "X: y",
];
/// Of a body that may not be there, or not be that long.
const LIES: [&str; 3] = ["Content-Length: 1", "Transfer-Encoding: chunked", "Content-Length: 99999999999999999999"];

/// What a client sends, and in which pieces.
#[derive(Arbitrary, Debug)]
pub struct Input {
    sizes: Vec<u8>,
    requests: Vec<Request>,
    rest: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Request {
    method: u8,
    target: u8,
    is_old: bool,
    fields: Vec<u8>,
    lie: Option<u8>,
    body: Body,
}

#[derive(Arbitrary, Debug)]
enum Body {
    None,
    Whole(Vec<u8>),
    Chunks(Vec<Vec<u8>>),
    Batch(Vec<(bool, u8)>),
}

/// Checks the responses.
pub fn check(input: &Input) {
    let mut bytes = Vec::new();
    input.requests.iter().for_each(|request| request.write(&mut bytes));
    let whole = input.requests.iter().take_while(|request| request.lie.is_none());
    let are_heads: Vec<_> =
        whole.map(|request| METHODS[usize::from(request.method) % METHODS.len()] == "HEAD").collect();
    bytes.extend_from_slice(&input.rest);
    if are_heads.is_empty() {
        return;
    }
    let replies = replies_in(&bytes, &input.sizes);
    let (mut rest, mut answered) = (&replies.bytes[..], 0);
    // What a broken request stands for is not known.
    while answered < are_heads.len() && !rest.is_empty() {
        let Some((status, behind)) = response(rest, are_heads[answered]) else { return };
        answered += usize::from(status >= 200);
        rest = behind;
    }
    let all = are_heads.len();
    assert!(answered == all || replies.ended, "{answered} of {all} are answered, and the node goes on");
}

impl Request {
    fn write(&self, out: &mut Vec<u8>) {
        let method = METHODS[usize::from(self.method) % METHODS.len()];
        let target = TARGETS[usize::from(self.target) % TARGETS.len()];
        let version = if self.is_old { "1.0" } else { "1.1" };
        let mut head = format!("{method} {target} HTTP/{version}\r\nHost: a\r\n");
        for field in &self.fields {
            head += FIELDS[usize::from(*field) % FIELDS.len()];
            head += "\r\n";
        }
        if let Some(lie) = self.lie {
            head += LIES[usize::from(lie) % LIES.len()];
            head += "\r\n";
        }
        let (field, body) = match &self.body {
            Body::None => (String::new(), Vec::new()),
            Body::Whole(body) => (format!("Content-Length: {}\r\n", body.len()), body.clone()),
            Body::Chunks(chunks) => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(chunks)),
            Body::Batch(steps) => {
                let body = batch(steps);
                (format!("Content-Length: {}\r\n", body.len()), body)
            }
        };
        out.extend_from_slice((head + &field + "\r\n").as_bytes());
        out.extend(body);
    }
}

fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn batch(steps: &[(bool, u8)]) -> Vec<u8> {
    let steps: Vec<String> = steps
        .iter()
        .map(|(puts, key)| match puts {
            true => format!("{{\"op\":\"put\",\"key\":\"k{key}\",\"value\":\"{key}\"}}"),
            false => format!("{{\"op\":\"get\",\"key\":\"k{key}\"}}"),
        })
        .collect();
    format!("{{\"ops\":[{}]}}", steps.join(",")).into_bytes()
}

/// The status of the response that `bytes` begin with, and what follows it; none if that one has no end.
fn response(bytes: &[u8], is_head: bool) -> Option<(u16, &[u8])> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = head.parse(bytes) else {
        panic!("no response begins with {}", bytes.escape_ascii())
    };
    let status = head.code.expect("a status");
    let is_stream = head.headers.iter().any(|field| field.value == b"text/event-stream");
    if is_stream && !is_head {
        let is_chunked = head.headers.iter().any(|field| field.name == "Transfer-Encoding");
        check_stream(&bytes[end..], is_chunked);
        return None;
    }
    let lengths: Vec<&[u8]> =
        head.headers.iter().filter(|field| field.name == "Content-Length").map(|field| field.value).collect();
    let has_body = !matches!(status, 100..200 | 204 | 304) && !is_stream;
    assert_eq!(lengths.len(), usize::from(has_body), "{}", bytes[..end].escape_ascii());
    let length = lengths.first().map(|digits| std::str::from_utf8(digits).expect("digits").parse().expect("a length"));
    let length: usize = if is_head { 0 } else { length.unwrap_or(0) };
    Some((status, bytes.get(end + length..).expect("all of its body")))
}

/// Holds a stream to whole chunks of whole events.
fn check_stream(mut bytes: &[u8], is_chunked: bool) {
    while !bytes.is_empty() {
        let mut text = bytes;
        let mut rest = &[][..];
        if is_chunked {
            let at = bytes.windows(2).position(|two| two == b"\r\n").expect("a line");
            let length =
                std::str::from_utf8(&bytes[..at]).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let end = at + 2 + length.expect("a length");
            (text, rest) = (&bytes[at + 2..end], bytes[end..].strip_prefix(b"\r\n").expect("the end of a chunk"));
        }
        assert!(text.ends_with(b"\n\n") && std::str::from_utf8(text).is_ok(), "{}", text.escape_ascii());
        bytes = rest;
    }
}
