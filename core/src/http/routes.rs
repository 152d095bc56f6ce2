//! The paths, and the methods that each has.

use percent_encoding::percent_decode_str;

use super::head::{Head, Method};
use super::list::{self, LIMIT, LIMIT_MAX, PREFIX_BYTES_MAX, Page};
use super::response::{Fault, Response};
use super::watch::{self, Watch};
use super::{Desk, batch, kv, metrics, ops, page, text};
use crate::command::{Command, EXPIRES_IN_MS_MAX, Expires};
use crate::commands::Verb;
use crate::config::Limits;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Read { key: Vec<u8> },
    Write { key: Vec<u8>, expires: Expires },
    Delete { key: Vec<u8> },
    List(Page),
    Batch,
    Watch(Watch),
    Why { key: Vec<u8> },
    Page,
    Health,
    Ready,
    Cluster,
    Metrics,
    OpenApi,
}

/// What `head` asks for.
pub(super) fn route(head: &Head, limits: &Limits) -> Result<Route, Fault> {
    let (path, query) = head.target.split_once('?').map_or((&*head.target, ""), |(path, query)| (path, query));
    let mut query = Query::parse(query)?;
    let route = if let Some(key) = path.strip_prefix("/v1/kv/") {
        key_route(head.method, key_of(key, limits)?, &mut query)?
    } else if let Some(key) = path.strip_prefix("/v1/why/") {
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Fault::not_allowed("GET, HEAD"));
        }
        Route::Why { key: key_of(key, limits)? }
    } else {
        plain_route(head.method, path, &mut query)?
    };
    query.end()?;
    Ok(route)
}

fn plain_route(method: Method, path: &str, query: &mut Query<'_>) -> Result<Route, Fault> {
    let is_read = matches!(method, Method::Get | Method::Head);
    match path {
        "/v1/batch" if method == Method::Post => return Ok(Route::Batch),
        "/v1/batch" => return Err(Fault::not_allowed("POST")),
        "/" | "/v1/kv" | "/v1/watch" | "/healthz" | "/readyz" | "/metrics" | "/v1/cluster" | "/v1/openapi.json"
            if !is_read =>
        {
            return Err(Fault::not_allowed("GET, HEAD"));
        }
        _ => {}
    }
    Ok(match path {
        "/v1/kv" => Route::List(page(query)?),
        "/v1/watch" => Route::Watch(watch(query)?),
        "/" => Route::Page,
        "/healthz" => Route::Health,
        "/readyz" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/v1/openapi.json" => Route::OpenApi,
        "/v1/cluster" => Route::Cluster,
        _ => return Err(Fault::new(404, "there is no such path")),
    })
}

fn page(query: &mut Query<'_>) -> Result<Page, Fault> {
    let mut number = |name: &str, or: u64| query.take(name).map_or(Some(or), |digits| text::number(&digits));
    let limit = number("limit", LIMIT).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let limit = limit.ok_or_else(|| Fault::bad("limit is a number from 1 to 1000"))?;
    let cursor = number("cursor", 0).ok_or_else(|| Fault::bad("cursor is what the page before told"))?;
    Ok(Page { prefix: prefix(query)?, limit, cursor })
}

fn prefix(query: &mut Query<'_>) -> Result<Vec<u8>, Fault> {
    let prefix = query.take("prefix").unwrap_or_default();
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(Fault::bad("the prefix is longer than 512 bytes"));
    }
    Ok(prefix)
}

fn watch(query: &mut Query<'_>) -> Result<Watch, Fault> {
    let with_values = match query.take("values").as_deref() {
        None | Some(b"false") => false,
        Some(b"true") => true,
        Some(_) => return Err(Fault::bad("values is true or false")),
    };
    Ok(Watch { prefix: prefix(query)?, with_values, last_id: query.take("last_event_id") })
}

fn key_of(text: &str, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let key = decode(text)?;
    if key.len() > limits.key_bytes_max {
        let detail = format!("the key is longer than {} bytes; nothing was changed", limits.key_bytes_max);
        return Err(Fault::new(414, &detail));
    }
    Ok(key)
}

fn key_route(method: Method, key: Vec<u8>, query: &mut Query<'_>) -> Result<Route, Fault> {
    Ok(match method {
        Method::Get | Method::Head => Route::Read { key },
        Method::Put => {
            let expires = query.take("ttl").map_or(Ok(Expires::Never), |ttl| expires(&ttl))?;
            Route::Write { key, expires }
        }
        Method::Delete => Route::Delete { key },
        Method::Post | Method::Other => return Err(Fault::not_allowed("GET, HEAD, PUT, DELETE")),
    })
}

/// Seconds, or with a unit behind them: `60`, `60s`, `1500ms`.
fn expires(ttl: &[u8]) -> Result<Expires, Fault> {
    let (digits, unit_ms) = match (ttl.strip_suffix(b"ms"), ttl.strip_suffix(b"s")) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1_000),
        (None, None) => (ttl, 1_000),
    };
    let number = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    let ms = number.and_then(|number| number.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit_ms));
    let ms = ms.filter(|ms| (1..=EXPIRES_IN_MS_MAX).contains(ms));
    ms.map(|ms| Expires::In { ms }).ok_or_else(|| {
        Fault::bad("ttl is a number of seconds from 1 on, or one with its unit: 60, 60s, 1500ms; nothing was changed")
    })
}

/// Carries out what is asked for.
pub(super) fn answer(
    head: &Head,
    route: &Route,
    body: &[u8],
    desk: &mut Desk<'_, '_, '_>,
    response: &mut Response<'_>,
) {
    match route {
        Route::Read { key } => kv::read(head, key, desk, response),
        Route::Write { key, expires } => kv::write(head, key, (body, *expires), desk, response),
        Route::Delete { key } => kv::delete(head, key, desk, response),
        Route::List(page) => list::list(page, desk, response),
        Route::Batch => batch::run(body, desk, response),
        Route::Watch(wanted) => watch::watch(head, wanted, desk, response),
        Route::Why { key } => ops::why(key, desk, response),
        Route::Page => page::page(response),
        Route::Health => ops::health(response),
        Route::Ready => ops::ready(desk, response),
        Route::Metrics => match desk.allow(Verb::Info, &Command::DbSize) {
            Ok(()) => metrics::metrics(desk, response),
            Err(fault) => response.fail(&fault),
        },
        Route::OpenApi => ops::open_api(response),
        Route::Cluster => ops::cluster(desk, response),
    }
}

/// The bytes that `text` stands for: `%2F` for `/`, and so on.
fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    let mut escapes = text.as_bytes().split(|byte| *byte == b'%').skip(1);
    if !escapes.all(|digits| matches!(digits, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())) {
        return Err(Fault::bad("a % stands without two hexadecimal digits behind it; nothing was changed"));
    }
    Ok(percent_decode_str(text).collect())
}

/// Most parameters of a query: no path has more.
const PARAMETERS_MAX: usize = 8;

/// What follows the `?`.
struct Query<'a>(Vec<(&'a str, Vec<u8>)>);

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Self, Fault> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        if pairs.clone().count() > PARAMETERS_MAX {
            return Err(Fault::bad("the query has too many parameters"));
        }
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(name, value)| Ok((name, decode(value)?))).collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(at).1)
    }

    /// What nobody took is misspelt, or is there twice.
    fn end(self) -> Result<(), Fault> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(32).collect();
                Err(Fault::bad(&format!("the parameter {shown} means nothing here, or is there twice")))
            }
        }
    }
}
