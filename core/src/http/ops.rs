//! What operators and their tools ask.

use super::Desk;
use super::response::{Fault, JSON, Response};
use crate::command::Command;
use crate::commands::Verb;
use crate::json::Json;
use crate::wire::packed::Packed;

/// All paths, in the words of OpenAPI.
const OPEN_API: &[u8] = include_bytes!("openapi.json");

pub(super) fn open_api(response: &mut Response<'_>) {
    response.send(200, &[], JSON, OPEN_API);
}

/// Answered by whoever still turns its loop.
pub(super) fn health(response: &mut Response<'_>) {
    response.send(200, &[("Cache-Control", "no-store")], JSON, b"{\"status\":\"ok\"}\n");
}

/// Whether clients are to be sent here, and if not, why.
pub(super) fn ready(desk: &Desk<'_, '_, '_>, response: &mut Response<'_>) {
    let reasons = desk.server.overview().reasons();
    let mut text = String::new();
    let mut json = Json::new(&mut text);
    json.open('{');
    json.literal("ready", if reasons.is_empty() { "true" } else { "false" });
    json.key("reasons");
    json.open('[');
    for reason in &reasons {
        json.item();
        json.open('{');
        json.string("why", reason.why.word());
        json.string("text", &reason.text);
        json.close('}');
    }
    json.close(']');
    json.close('}');
    text.push('\n');
    let mut fields = vec![("Cache-Control", "no-store")];
    fields.extend((!reasons.is_empty()).then_some(("Retry-After", "1")));
    response.send(if reasons.is_empty() { 200 } else { 503 }, &fields, JSON, text.as_bytes());
}

/// What `STATS` tells.
pub(super) fn cluster(desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    match desk.ask(Verb::Stats, &Command::Stats) {
        Ok(Packed::Value(text)) => response.send(200, &[("Cache-Control", "no-store")], JSON, text),
        Ok(_) => response.fail(&Fault::new(503, "there is nothing to tell")),
        Err(fault) => response.fail(&fault),
    }
}

/// What `WHY` tells.
pub(super) fn why(key: &[u8], desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    match desk.ask(Verb::Why, &Command::Why { key }) {
        Ok(Packed::Value(text)) => response.send(200, &[("Cache-Control", "no-store")], JSON, text),
        Ok(_) => response.fail(&Fault::new(404, "nothing is known of the key")),
        Err(fault) => response.fail(&fault),
    }
}
