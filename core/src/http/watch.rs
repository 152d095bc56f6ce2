//! `GET /v1/watch`: changes of keys, as they come.

use super::Desk;
use super::head::Head;
use super::response::{Fault, Response};
use crate::acl::Denied;
use crate::command::Command;
use crate::commands::Verb;
use crate::watchers::Wish;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) prefix: Vec<u8>,
    pub(super) with_values: bool,
    /// Of the last event that was heard, for clients that cannot give the field.
    pub(super) last_id: Option<Vec<u8>>,
}

/// Answers with a stream, to which the node appends from now on; see [`Watchers`](crate::watchers::Watchers).
pub(super) fn watch(head: &Head, watch: &Watch, desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    if let Some(percent) = desk.server.loading {
        let detail = format!("it is loading its data, {percent} % of which is read; try again later");
        return response.fail(&Fault::new(503, &detail));
    }
    let may_read = desk.client.access.user().is_some_and(|user| user.may_read_below(&watch.prefix));
    let allowed = desk.allow(Verb::Get, &Command::DbSize);
    let allowed = allowed.and_then(|()| if may_read { Ok(()) } else { desk.deny(Denied::Key(&watch.prefix)) });
    if let Err(fault) = allowed {
        return response.fail(&fault);
    }
    let fields = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];
    if response.is_head {
        return response.begin_stream(&fields, "text/event-stream", !head.is_old);
    }
    let Watch { prefix, with_values, last_id } = watch;
    let wish = Wish { prefix: prefix.clone(), with_values: *with_values, is_chunked: !head.is_old };
    // Who is cut off gives the field, and the target as it was.
    let last_id = head.last_event_id.as_deref().or(last_id.as_deref());
    let server = &mut *desk.server;
    let (now, conn, at) = (server.now.mono, server.conn, (&mut server.replica.feed, &mut *server.effects));
    if server.pubsub.watchers.watch(now, conn, wish, last_id, at) {
        response.begin_stream(&fields, "text/event-stream", !head.is_old);
    } else {
        response.fail(&Fault::new(503, "as many watch as may at once; try again later"));
    }
}
