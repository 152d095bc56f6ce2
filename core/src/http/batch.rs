//! Some operations in one request, carried out one behind the other with nothing of others in between.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::Desk;
use super::kv::etag;
use super::response::{Fault, JSON, Response};
use super::text::{Text, taken};
use crate::command::{Command, EXPIRES_IN_MS_MAX, Expires, Write};
use crate::commands::Verb;
use crate::json::Json;
use crate::wire::packed::{Packed, parse};
use crate::wire::words::{Span, Words};

/// Most operations of one batch.
const OPERATIONS_MAX: usize = 1_000;

/// Of what is wrong with a batch no more is told than a person reads.
const ERROR_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    ops: Operations,
}

struct Operations(Vec<Operation>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Kind,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl_ms: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Get,
    Put,
    Delete,
}

/// One that can be carried out.
enum Step {
    Get { key: Vec<u8> },
    Put { key: Vec<u8>, value: Vec<u8>, expires: Expires },
    Delete { key: Vec<u8> },
}

impl<'de> Deserialize<'de> for Operations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Bounded)
    }
}

/// Takes no more operations than a batch may have: a few bytes of JSON may stand for each.
struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Operations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Operations, A::Error> {
        let mut operations = Vec::new();
        while let Some(operation) = list.next_element()? {
            if operations.len() == OPERATIONS_MAX {
                return Err(A::Error::custom("a batch has at most 1000 operations"));
            }
            operations.push(operation);
        }
        Ok(Operations(operations))
    }
}

pub(super) fn run(body: &[u8], desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    match steps(body, desk.server.config.limits.key_bytes_max) {
        Ok(steps) => {
            let writes = steps.iter().any(|step| !matches!(step, Step::Get { .. }));
            let grows = steps.iter().any(|step| matches!(step, Step::Put { .. }));
            let room = if grows { desk.check_memory() } else { Ok(()) };
            match room.and_then(|()| desk.as_one(writes, |desk| carry_out(&steps, desk))) {
                Ok(text) => response.send(200, &[], JSON, text.as_bytes()),
                Err(fault) => response.fail(&fault),
            }
        }
        Err(detail) => response.fail(&Fault::bad(&format!("{detail}; nothing was changed"))),
    }
}

/// All of them are read before the first is carried out.
fn steps(body: &[u8], key_bytes_max: usize) -> Result<Vec<Step>, String> {
    let batch: Batch = serde_json::from_slice(body).map_err(|error| no_batch(&error.to_string()))?;
    let steps = batch.ops.0.into_iter().enumerate();
    steps
        .map(|(at, operation)| operation.step(key_bytes_max).map_err(|wrong| format!("operation {at} {wrong}")))
        .collect()
}

/// What is told of a body that is no batch. An error may name what was sent instead, however long that is.
fn no_batch(error: &str) -> String {
    match error.char_indices().nth(ERROR_CHARS_MAX) {
        Some((at, _)) => format!("the body is no batch: {} ...", &error[..at]),
        None => format!("the body is no batch: {error}"),
    }
}

impl Operation {
    fn step(self, key_bytes_max: usize) -> Result<Step, &'static str> {
        let key = taken(self.key, self.key_base64).ok_or("needs key, or key_base64")?;
        if key.len() > key_bytes_max {
            return Err("has a key that is too long");
        }
        let has_value = self.value.is_some() || self.value_base64.is_some();
        if self.op != Kind::Put && (has_value || self.ttl_ms.is_some()) {
            return Err("has what only put has");
        }
        Ok(match self.op {
            Kind::Get => Step::Get { key },
            Kind::Delete => Step::Delete { key },
            Kind::Put => {
                let value = taken(self.value, self.value_base64).ok_or("needs value, or value_base64")?;
                let expires = match self.ttl_ms {
                    None => Expires::Never,
                    Some(ms) if (1..=EXPIRES_IN_MS_MAX).contains(&ms) => Expires::In { ms },
                    Some(_) => return Err("has a ttl_ms that is no time to live"),
                };
                Step::Put { key, value, expires }
            }
        })
    }
}

fn carry_out(steps: &[Step], desk: &mut Desk<'_, '_, '_>) -> String {
    let bytes_max = desk.server.config.limits.value_bytes_max;
    let mut text = String::new();
    let mut told = 0;
    let mut json = Json::new(&mut text);
    json.open('{');
    json.key("results");
    json.open('[');
    for step in steps {
        json.item();
        json.open('{');
        let outcome = match step {
            Step::Get { key } => get(key, bytes_max, &mut told, desk, &mut json),
            Step::Put { key, value, expires } => {
                let write = Write { key, value, expires: *expires, condition: None, answers_old: false };
                desk.ask(Verb::Set, &Command::Set(write)).map(|_| 204)
            }
            Step::Delete { key } => {
                let span = [Span { from: 0, to: key.len() }];
                let deleted = desk.ask(Verb::Del, &Command::Del { keys: Words::Spans { bytes: key, spans: &span } });
                deleted.map(|packed| if packed == Packed::Number(0) { 404 } else { 204 })
            }
        };
        match outcome {
            Ok(status) => json.number("status", status),
            Err(fault) => {
                json.number("status", fault.status.into());
                json.string("detail", &fault.detail);
            }
        }
        json.close('}');
    }
    json.close(']');
    json.close('}');
    text.push('\n');
    text
}

/// One key may be named a thousand times: all values together are no longer than one may be.
fn get(
    key: &[u8],
    bytes_max: usize,
    told: &mut usize,
    desk: &mut Desk<'_, '_, '_>,
    json: &mut Json<'_>,
) -> Result<u64, Fault> {
    if !matches!(desk.ask(Verb::Get, &Command::Get { key })?, Packed::Value(_)) {
        return Ok(404);
    }
    let etag = desk.live(key).map(|standing| etag(&standing));
    let Some((Packed::Value(value), _)) = parse(desk.packed) else { return Ok(404) };
    if value.len() > bytes_max.saturating_sub(*told) {
        return Err(Fault::new(413, "the values of this batch are longer together than one may be"));
    }
    *told += value.len();
    Text::of(value).put("value", json);
    json.string_or_null("etag", etag.as_deref());
    Ok(200)
}
