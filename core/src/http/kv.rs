//! One key: its value as a body, its version as the ETag.

use super::Desk;
use super::head::Head;
use super::response::{Fault, Response};
use crate::acl::Denied;
use crate::command::{Command, Expires, Reply, Write};
use crate::commands::Verb;
use crate::name::Name;
use crate::session::Standing;
use crate::time::Now;
use crate::wire::packed::{Packed, Why, emit, parse};
use crate::wire::words::{Span, Words};

const BYTES: &str = "application/octet-stream";

/// What tells how long a key still lives.
const TTL_FIELD: &str = "Simple-KV-TTL-Ms";

pub(super) fn read(head: &Head, key: &[u8], desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    let is_there = match desk.ask(Verb::Get, &Command::Get { key }) {
        Ok(packed) => matches!(packed, Packed::Value(_)),
        Err(fault) => return response.fail(&fault),
    };
    let Some(standing) = desk.live(key).filter(|_| is_there) else { return response.fail(&not_found()) };
    let etag = etag(&standing);
    if let Some(fault) = refused_by_match(head, Some(&etag)) {
        return response.fail(&fault);
    }
    let left = ttl_ms(desk.server.now, &standing).map(|left| left.to_string());
    let mut fields = vec![("ETag", etag.as_str()), ("Cache-Control", "no-cache")];
    fields.extend(left.as_deref().map(|left| (TTL_FIELD, left)));
    if head.if_none_match.as_deref().is_some_and(|list| names(list, Some(&etag))) {
        return response.send_empty(304, &fields);
    }
    if let Some((Packed::Value(value), _)) = parse(desk.packed) {
        response.send(200, &fields, BYTES, value);
    }
}

pub(super) fn write(
    head: &Head,
    key: &[u8],
    (value, expires): (&[u8], Expires),
    desk: &mut Desk<'_, '_, '_>,
    response: &mut Response<'_>,
) {
    let write = Command::Set(Write { key, value, expires, condition: None, answers_old: false });
    let before = match desk.allow(Verb::Set, &write).and_then(|()| desk.condition(head, key)) {
        Ok(before) => before,
        Err(fault) => return response.fail(&fault),
    };
    if let Err(fault) = desk.ask(Verb::Set, &write) {
        return response.fail(&fault);
    }
    let etag = desk.live(key).map(|standing| etag(&standing)).unwrap_or_default();
    let fields = [("ETag", etag.as_str())];
    match before {
        Some(_) => response.send_empty(204, &fields),
        None => response.send(201, &fields, BYTES, b""),
    }
}

pub(super) fn delete(head: &Head, key: &[u8], desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    let span = [Span { from: 0, to: key.len() }];
    let delete = Command::Del { keys: Words::Spans { bytes: key, spans: &span } };
    if let Err(fault) = desk.allow(Verb::Del, &delete).and_then(|()| desk.condition(head, key)) {
        return response.fail(&fault);
    }
    match desk.ask(Verb::Del, &delete) {
        Ok(Packed::Number(0)) => response.fail(&not_found()),
        Ok(_) => response.send_empty(204, &[]),
        Err(fault) => response.fail(&fault),
    }
}

impl Desk<'_, '_, '_> {
    /// Has one command carried out; what it answers first.
    pub(super) fn ask(&mut self, verb: Verb, command: &Command<'_>) -> Result<Packed<'_>, Fault> {
        self.allow(verb, command)?;
        self.packed.clear();
        self.server.run(command, self.client, self.packed);
        self.outcome()
    }

    /// Fails if the client may not give that command.
    pub(super) fn allow(&mut self, verb: Verb, command: &Command<'_>) -> Result<(), Fault> {
        self.client.verb = Some(verb);
        self.client.access.denies_command(verb, command).map_or(Ok(()), |denied| self.deny(denied))
    }

    /// Notes what the client may not do.
    pub(super) fn deny(&mut self, denied: Denied<'_>) -> Result<(), Fault> {
        self.packed.clear();
        self.server.run(&Command::Denied(denied), self.client, self.packed);
        self.outcome().map(|_| ())
    }

    /// Has some commands carried out as one: clients are paused or the disk is full before the first, or for none.
    pub(super) fn as_one<T>(&mut self, writes: bool, run: impl FnOnce(&mut Self) -> T) -> Result<T, Fault> {
        let server = &mut *self.server;
        if server.pause.puts_off(server.now, || writes) {
            self.packed.clear();
            emit(&Reply::Paused, self.packed);
            self.outcome()?;
        }
        self.server.replica.look_at_disk();
        self.client.is_inside = true;
        let ran = run(self);
        self.client.is_inside = false;
        Ok(ran)
    }

    /// Fails if there is no memory for what may make the data grow.
    pub(super) fn check_memory(&mut self) -> Result<(), Fault> {
        if !self.server.is_out_of_memory() {
            return Ok(());
        }
        self.packed.clear();
        emit(&Reply::OutOfMemory { aborts: true }, self.packed);
        self.outcome().map(|_| ())
    }

    /// What was answered first.
    fn outcome(&self) -> Result<Packed<'_>, Fault> {
        match parse(self.packed) {
            Some((Packed::Refused { why, text }, _)) => {
                let status = match why {
                    Why::Node => 503,
                    Why::Memory => 507,
                    Why::Key => 414,
                    Why::Size => 413,
                    Why::Type => 409,
                    Why::Right => 403,
                    Why::Asked => 400,
                };
                Err(Fault::new(status, text))
            }
            Some((packed, _)) => Ok(packed),
            None => Ok(Packed::Nothing),
        }
    }

    /// What is there for a reader.
    pub(super) fn live(&self, key: &[u8]) -> Option<Standing> {
        let name = Name::key(self.client.space, key).stored();
        self.server.replica.standing(self.server.now, &name).filter(|standing| standing.is_live)
    }

    /// What a write finds, if it is to be carried out as this node knows things.
    fn condition(&self, head: &Head, key: &[u8]) -> Result<Option<Standing>, Fault> {
        // What is not loaded yet meets no condition; the command says so.
        if self.server.loading.is_some() {
            return Ok(None);
        }
        let live = self.live(key);
        let etag = live.as_ref().map(etag);
        if let Some(fault) = refused_by_match(head, etag.as_deref()) {
            return Err(fault);
        }
        if head.if_none_match.as_deref().is_some_and(|list| names(list, etag.as_deref())) {
            return Err(Fault::new(412, "the key is there, and If-None-Match names it; nothing was changed"));
        }
        Ok(live)
    }
}

fn not_found() -> Fault {
    Fault::new(404, "the key is not there")
}

fn refused_by_match(head: &Head, etag: Option<&str>) -> Option<Fault> {
    let list = head.if_match.as_deref()?;
    let fault = || Fault::new(412, "what is there is not what If-Match names; nothing was changed");
    (!names_strongly(list, etag)).then(fault)
}

/// How a version is told. A counter changes also by what is older than the newest that it has.
pub(super) fn etag(standing: &Standing) -> String {
    let Standing { version, sum, elements: (changed, count), .. } = *standing;
    match (version, sum) {
        // A hash or a set has no version of its own: this tells whether it is another on this node.
        _ if count > 0 => format!("\"elements-{changed:x}-{count}\""),
        (Some(version), Some(sum)) => format!("\"{:x}-{}-{sum}\"", version.hlc.0, version.origin),
        (Some(version), None) => format!("\"{:x}-{}\"", version.hlc.0, version.origin),
        (None, _) => String::new(),
    }
}

fn ttl_ms(now: Now, standing: &Standing) -> Option<u64> {
    standing.deadline.map(|deadline| deadline.0.saturating_sub(now.wall.0))
}

/// Whether a list of ETags names this one, or `*` any. No ETag here has a comma in it.
fn names(list: &[u8], etag: Option<&str>) -> bool {
    let Some(etag) = etag else { return false };
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == etag.as_bytes())
}

fn names_strongly(list: &[u8], etag: Option<&str>) -> bool {
    let Some(etag) = etag else { return false };
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| one == b"*" || one == etag.as_bytes())
}
