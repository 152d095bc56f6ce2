//! What a watcher is told: server-sent events (WHATWG HTML, section 9.2).

use std::fmt::Write as _;

use super::kv::etag;
use super::text::{self, Text};
use crate::feed::{Noted, What};
use crate::json::Json;
use crate::name::Name;
use crate::replica::{Holds, Live, Replica, Shown};
use crate::session::Standing;
use crate::time::{Now, WallMs};
use crate::version::{OriginId, Version};
use crate::watchers::Wish;

/// Longest value that is told. Who wants a longer one asks for it.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// How soon a client that was cut off is to come back, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Why a watcher has to read anew what it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The event it has heard of last is none of this run.
    Unknown,
    /// What came since is not kept any more.
    Behind,
    /// All that was there has been deleted at once; what is newer stays.
    Flush,
}

impl Why {
    const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown id",
            Self::Behind => "behind",
            Self::Flush => "flush",
        }
    }
}

/// The number in the id of an event; none if it is not of `run`.
pub(crate) fn number_of(id: &[u8], run: OriginId) -> Option<u64> {
    let at = id.iter().position(|byte| *byte == b'-')?;
    let (of, digits) = (&id[..at], &id[at + 1..]);
    // The last number would have none behind it.
    text::number(digits).filter(|number| of == run.to_string().as_bytes() && *number < u64::MAX)
}

/// What a stream begins with: so who is cut off before the first event knows where it stood.
pub(crate) fn opening(run: OriginId, number: u64) -> String {
    format!("retry: {RETRY_MS}\nid: {run}-{number}\n\n")
}

/// A comment, with the id up to which there was nothing to tell.
pub(crate) fn put_beat(run: OriginId, number: u64, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(out, ":\nid: {run}-{number}\n\n");
}

pub(crate) fn put_reset(why: Why, run: OriginId, number: u64, out: &mut String) {
    put_event("reset", run, number, out, |json| json.string("why", why.name()));
}

/// Appends the event of a change, if the watcher wants it.
pub(crate) fn put(
    now: Now,
    noted: &Noted,
    (run, number): (OriginId, u64),
    wish: &Wish,
    replica: &Replica,
    out: &mut String,
) {
    let key = match (noted.what, Name::parse(&noted.name)) {
        (What::Flushed, _) => return put_reset(Why::Flush, run, number, out),
        (_, Some(Name { key, .. })) if key.starts_with(&wish.prefix) => key,
        _ => return,
    };
    match Event::of(now, noted, replica) {
        Event::Put { etag, deadline, live } => put_event("put", run, number, out, |json| {
            Text::of(key).put("key", json);
            json.string("etag", &etag);
            json.number_or_null("expires_at_ms", deadline.map(|deadline| deadline.0));
            if let Some(live) = live {
                json.number("value_bytes", live.value.bytes() as u64);
                if wish.with_values {
                    put_value(live.value, json);
                }
            }
        }),
        Event::Elements(holds) => put_event("put", run, number, out, |json| {
            Text::of(key).put("key", json);
            json.string("type", holds.name());
        }),
        Event::Gone { name, version } => put_event(name, run, number, out, |json| {
            Text::of(key).put("key", json);
            let version = version.map(|Version { hlc, origin }| format!("{:x}-{origin}", hlc.0));
            json.string_or_null("version", version.as_deref());
        }),
    }
}

fn put_value(value: Shown<'_>, json: &mut Json<'_>) {
    match value {
        Shown::Bytes(bytes) if bytes.len() <= VALUE_BYTES_MAX => Text::of(bytes).put("value", json),
        Shown::Bytes(_) => {}
        Shown::Number(number) => json.string("value", itoa::Buffer::new().format(number)),
    }
}

fn put_event(name: &str, run: OriginId, number: u64, out: &mut String, data: impl FnOnce(&mut Json<'_>)) {
    // Writing to a string cannot fail.
    let _ = write!(out, "event: {name}\nid: {run}-{number}\ndata: ");
    let mut json = Json::new(out);
    json.open('{');
    data(&mut json);
    json.close('}');
    out.push_str("\n\n");
}

/// A change, as it is told.
enum Event<'a> {
    /// `live` unless something newer stands by now: then that is told, too.
    Put {
        etag: String,
        deadline: Option<WallMs>,
        live: Option<Live<'a>>,
    },
    /// The key is a hash or a set, of which something has changed.
    Elements(Holds),
    Gone {
        name: &'static str,
        version: Option<Version>,
    },
}

impl<'a> Event<'a> {
    fn of(now: Now, noted: &Noted, replica: &'a Replica) -> Self {
        let stands = replica.store.get(&noted.name);
        // What is newer than a value or a delete is there, whichever came first.
        if let Some(elements) = replica.store.elements(&noted.name, now.wall) {
            return Self::Elements(Holds::of(&elements));
        }
        match noted.what {
            What::Put { version, deadline } if deadline.is_some_and(|deadline| deadline <= now.wall) => {
                Self::Gone { name: "expire", version: Some(version) }
            }
            What::Put { version, deadline } => {
                let same = stands.filter(|stands| stands.version == version && !stands.is_counter);
                let live = same.and_then(|record| replica.read(now, &record));
                let version = Some(version);
                let standing = Standing { version, is_live: true, sum: None, deadline, elements: (0, 0) };
                Self::Put { etag: etag(&standing), deadline, live }
            }
            What::Deleted { version } => Self::Gone { name: "delete", version },
            What::Unread | What::Flushed => {
                let live = stands.and_then(|record| replica.read(now, &record));
                match (live, replica.standing(now, &noted.name)) {
                    (Some(live), Some(standing)) => {
                        Self::Put { etag: etag(&standing), deadline: live.deadline, live: Some(live) }
                    }
                    // A value that was freed keeps its deadline; a delete has none.
                    _ => {
                        let name =
                            if stands.is_some_and(|stands| stands.deadline.is_some()) { "expire" } else { "delete" };
                        Self::Gone { name, version: stands.map(|stands| stands.version) }
                    }
                }
            }
        }
    }
}
