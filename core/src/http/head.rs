//! The head of a request: what it asks for, how its body comes, and whether it may have been sent by a web page.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::login::Authorization;
use super::response::Fault;
use crate::config::Config;

/// Fields of one head. Browsers send some twenty.
const FIELDS_MAX: usize = 100;

/// Longest target of a request. A longer key is one for a batch.
const TARGET_BYTES_MAX: usize = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Put,
    Delete,
    Post,
    /// Known, and allowed nowhere here.
    Other,
}

/// How the body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    Stays,
    /// Which a client of version 1.0 wants to be told.
    StaysIfSaid,
    Ends,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    /// The path and the query.
    pub(super) target: Box<str>,
    pub(super) framing: Framing,
    pub(super) persistence: Persistence,
    pub(super) expects_continue: bool,
    pub(super) if_match: Option<Box<[u8]>>,
    pub(super) if_none_match: Option<Box<[u8]>>,
    /// The last event that the client heard of a stream.
    pub(super) last_event_id: Option<Box<[u8]>>,
    /// Who asks, as it says itself.
    pub(super) authorization: Authorization,
    /// It is of version 1.0, which has no chunks.
    pub(super) is_old: bool,
    /// It may come from a web page of somebody else, is for another host, or brings a part of a value: it is answered
    /// so.
    pub(super) strange: Option<Fault>,
}

/// What the fields say.
#[derive(Debug, Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    expects_continue: bool,
    is_part: bool,
    if_match: Option<Box<[u8]>>,
    if_none_match: Option<Box<[u8]>>,
    last_event_id: Option<Box<[u8]>>,
    authorization: Authorization,
}

/// Reads a whole head. What is wrong with it leaves unknown where the next request begins: the connection ends.
pub(super) fn parse(bytes: &[u8], config: &Config) -> Result<Head, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Fault::bad("the head of the request is incomplete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault::new(431, "the request has more than 100 header fields"));
        }
        Err(httparse::Error::Version) => return Err(Fault::new(505, "HTTP/1.1 and HTTP/1.0 are spoken here")),
        Err(_) => return Err(Fault::bad("the head of the request is not as HTTP has it")),
    }
    let (Some(name), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Fault::bad("the request line is incomplete"));
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Fault::new(414, "the target of the request is longer than 8192 bytes"));
    }
    let method = method(name)?;
    let is_old = minor == 0;
    let mut said = read_fields(request.headers, is_old)?;
    let (authority, target) = split_target(target)?;
    if said.host.is_none() && !is_old {
        return Err(Fault::bad("the request has no Host"));
    }
    let persistence = match (is_old, said.closes, said.keeps) {
        (_, true, _) | (true, false, false) => Persistence::Ends,
        (false, false, _) => Persistence::Stays,
        (true, false, true) => Persistence::StaysIfSaid,
    };
    let framing = if said.is_chunked { Framing::Chunked } else { Framing::Length(said.length.unwrap_or(0)) };
    let host = authority.map(str::as_bytes).or(said.host);
    let part = || Fault::bad("a value is written as a whole, and the request has a Content-Range; nothing was changed");
    let is_part = said.is_part && method == Method::Put;
    let strange = strange(host, said.origin, config).or_else(|| is_part.then(part));
    Ok(Head {
        method,
        target: target.into(),
        framing,
        persistence,
        expects_continue: said.expects_continue && !is_old,
        if_match: said.if_match.take(),
        if_none_match: said.if_none_match.take(),
        last_event_id: said.last_event_id.take(),
        authorization: std::mem::take(&mut said.authorization),
        is_old,
        strange,
    })
}

fn method(name: &str) -> Result<Method, Fault> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "POST" => Method::Post,
        "OPTIONS" | "PATCH" | "TRACE" | "CONNECT" => Method::Other,
        _ => return Err(Fault::new(501, "that method is not known here")),
    })
}

/// Where two parties could read a length differently, one of them would take a part of this request for the next.
fn read_fields<'a>(headers: &[httparse::Header<'a>], is_old: bool) -> Result<Fields<'a>, Fault> {
    let mut said = Fields::default();
    let mut has_encoding = false;
    for httparse::Header { name, value } in headers {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("host") {
            if said.host.replace(value).is_some() {
                return Err(Fault::bad("the request has more than one Host"));
            }
        } else if is("origin") {
            // Of several none is trusted.
            said.origin = Some(if said.origin.is_some() { b"" } else { value });
        } else if is("content-length") {
            if said.length.replace(length(value)?).is_some() {
                return Err(Fault::bad("the request has more than one Content-Length"));
            }
        } else if is("transfer-encoding") {
            if has_encoding || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::new(501, "the only transfer coding here is chunked"));
            }
            (has_encoding, said.is_chunked) = (true, true);
        } else if is("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                said.closes |= option.eq_ignore_ascii_case(b"close");
                said.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Fault::new(417, "nothing but 100-continue can be expected"));
            }
            said.expects_continue = true;
        } else if is("content-range") {
            said.is_part = true;
        } else if is("if-match") {
            join(&mut said.if_match, value);
        } else if is("if-none-match") {
            join(&mut said.if_none_match, value);
        } else if is("authorization") {
            said.authorization.take(value);
        } else if is("last-event-id") {
            join(&mut said.last_event_id, value);
        }
    }
    if said.is_chunked && (said.length.is_some() || is_old) {
        return Err(Fault::bad("a request has a Content-Length, or in HTTP/1.1 a Transfer-Encoding, and not both"));
    }
    Ok(said)
}

/// A field that is there more than once is one list.
fn join(list: &mut Option<Box<[u8]>>, value: &[u8]) {
    *list = Some(match list.take() {
        Some(before) => [&before, &b", "[..], value].concat().into(),
        None => value.into(),
    });
}

fn length(value: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Fault::bad("the Content-Length is no length"))
}

/// The authority of a target in absolute form, and the path with the query.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Fault> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let scheme_bytes = "http://".len();
    let is_absolute = target.get(..scheme_bytes).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    if !is_absolute {
        return Err(Fault::bad("the target of the request is no path"));
    }
    let rest = &target[scheme_bytes..];
    match rest.find('/') {
        Some(at) => Ok((Some(&rest[..at]), &rest[at..])),
        None => Err(Fault::bad("the target of the request has no path")),
    }
}

/// A web page can have the browser of whoever reads it send requests to hosts that only that browser reaches, and read
/// the answers if it has its own name point there. The browser says then whose name it was, and whose page.
fn strange(host: Option<&[u8]>, origin: Option<&[u8]>, config: &Config) -> Option<Fault> {
    if let Some(host) = host
        && !is_own_host(host, config)
    {
        return Some(Fault::new(
            421,
            "this node does not go by that Host; nothing was changed; use its address or name, or start it with \
             --http-host NAME",
        ));
    }
    let is_same = |origin: &[u8]| {
        let named = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
        named.zip(host).is_some_and(|(named, host)| named.eq_ignore_ascii_case(host))
    };
    if origin.is_some_and(|origin| !is_same(origin)) {
        return Some(Fault::new(403, "a page of another origin asked for this; nothing was changed"));
    }
    None
}

/// Names that only the owner of this machine or of this network can have given: a page has a name of its own.
fn is_own_host(host: &[u8], config: &Config) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let Some(name) = host_of(host) else { return false };
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let own = [config.name.as_str(), &config.advertise].into_iter().filter_map(host_of);
    let given = config.http_hosts.iter().map(String::as_str);
    name.parse::<Ipv4Addr>().is_ok()
        || own.chain(given).chain(["localhost"]).any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
}

/// A host without the port behind it; none if that is no port.
fn host_of(text: &str) -> Option<&str> {
    let at = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(at);
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port.then_some(host)
}
