//! What is answered: a status, fields and a body; what went wrong as `application/problem+json` (RFC 9457).

use super::head::Persistence;
use crate::json::Json;

/// Why a request is not carried out.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) detail: String,
    /// The methods that the path has, of those that are not allowed.
    allow: Option<&'static str>,
}

impl Fault {
    pub(super) fn new(status: u16, detail: &str) -> Self {
        Self { status, detail: detail.to_owned(), allow: None }
    }

    pub(super) fn bad(detail: &str) -> Self {
        Self::new(400, detail)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(413, &format!("the body is longer than {bytes_max} bytes; nothing was changed"))
    }

    pub(super) fn not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(405, "that path does not have this method") }
    }
}

/// How one logs in. A browser asks its user.
const CHALLENGE: &str = "Basic realm=\"Simple-KV\", charset=\"UTF-8\", Bearer realm=\"Simple-KV\"";

/// Where an answer goes.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Only the head of it is wanted.
    pub(super) is_head: bool,
    pub(super) persistence: Persistence,
}

pub(super) const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

impl Response<'_> {
    /// Answers with a body.
    pub(super) fn send(&mut self, status: u16, fields: &[(&str, &str)], kind: &str, body: &[u8]) {
        self.begin(status, fields);
        self.field("Content-Type", kind);
        self.field("X-Content-Type-Options", "nosniff");
        self.field("Content-Length", itoa::Buffer::new().format(body.len()));
        self.out.extend_from_slice(b"\r\n");
        if !self.is_head {
            self.out.extend_from_slice(body);
        }
    }

    /// Answers 204 or 304, which have no body.
    pub(super) fn send_empty(&mut self, status: u16, fields: &[(&str, &str)]) {
        debug_assert!(matches!(status, 204 | 304), "of others the length is told");
        self.begin(status, fields);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Answers 200 with the head of a body that has no end; what follows comes in chunks, if the client knows them.
    pub(super) fn begin_stream(&mut self, fields: &[(&str, &str)], kind: &str, is_chunked: bool) {
        self.begin(200, fields);
        self.field("Content-Type", kind);
        self.field("X-Content-Type-Options", "nosniff");
        if is_chunked {
            self.field("Transfer-Encoding", "chunked");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    pub(super) fn fail(&mut self, fault: &Fault) {
        let mut text = String::new();
        let mut json = Json::new(&mut text);
        json.open('{');
        json.string("type", "about:blank");
        json.string("title", title(fault.status));
        json.number("status", fault.status.into());
        json.string("detail", &fault.detail);
        json.close('}');
        text.push('\n');
        let mut fields = Vec::new();
        fields.extend(fault.allow.map(|methods| ("Allow", methods)));
        // Most of what a node cannot do now, it can after a moment.
        fields.extend((fault.status == 401).then_some(("WWW-Authenticate", CHALLENGE)));
        fields.extend((fault.status == 503).then_some(("Retry-After", "1")));
        self.send(fault.status, &fields, PROBLEM, text.as_bytes());
    }

    pub(super) fn begin(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.out.extend_from_slice(b"HTTP/1.1 ");
        self.out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(title(status).as_bytes());
        self.out.extend_from_slice(b"\r\n");
        match self.persistence {
            Persistence::Stays => {}
            Persistence::StaysIfSaid => self.field("Connection", "keep-alive"),
            Persistence::Ends => self.field("Connection", "close"),
        }
        fields.iter().for_each(|(name, value)| self.field(name, value));
    }

    pub(super) fn field(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }
}

const fn title(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Error",
    }
}
