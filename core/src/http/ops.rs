//! What operators and their tools ask.

use super::Desk;
use super::response::{Fault, JSON, Response};
use crate::command::{Command, Reply};
use crate::commands::Verb;
use crate::json::Json;
use crate::replica::Exposure;
use crate::wire::packed::{self, Packed};

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
pub(super) fn ready(desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    let reasons = reasons(desk);
    let mut text = String::new();
    let mut json = Json::new(&mut text);
    json.open('{');
    json.literal("ready", if reasons.is_empty() { "true" } else { "false" });
    json.strings("reasons", reasons.iter().map(String::as_str));
    json.close('}');
    text.push('\n');
    let mut fields = vec![("Cache-Control", "no-store")];
    fields.extend((!reasons.is_empty()).then_some(("Retry-After", "1")));
    response.send(if reasons.is_empty() { 200 } else { 503 }, &fields, JSON, text.as_bytes());
}

pub(super) fn reasons(desk: &mut Desk<'_, '_, '_>) -> Vec<String> {
    let server = &mut *desk.server;
    if let Some(percent) = server.loading {
        return vec![format!("it is loading its data, {percent} % of which is read")];
    }
    let mut reasons = Vec::new();
    server.replica.look_at_disk();
    if let Err(refused) = server.replica.may_write() {
        desk.packed.clear();
        packed::emit(&Reply::Refused(refused), desk.packed);
        if let Some((Packed::Refused { text, .. }, _)) = packed::parse(desk.packed) {
            reasons.push(text.to_owned());
        }
    }
    if server.disk.as_ref().is_some_and(|keeper| keeper.is_withheld) {
        reasons.push("it withholds from peers what its disk may not have".to_owned());
    }
    if matches!(server.replica.exposure, Exposure::Hidden | Exposure::Returning(_)) {
        reasons.push("it has not joined its cluster yet".to_owned());
    }
    reasons
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
