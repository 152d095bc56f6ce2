//! What the world tells its story: nothing here changes the world, and nothing is done when nobody listens.

use kv_core::{ConnId, Event};

use super::World;
use super::net::{Packet, Side, Stream, StreamId};
use super::process::{Cause, Process};
use crate::timeline::What;
use crate::timeline::story::{Hold, Sending};

impl World {
    /// A packet is sent towards `side`.
    pub(super) fn tell_sent(&mut self, stream: StreamId, side: Side, packet: &Packet) {
        let Some(story) = self.trace.story() else { return };
        let Some(state) = self.net.get(stream).filter(|stream| stream.session.is_none()) else { return };
        let bytes = if let Packet::Bytes(bytes) = packet { Some(bytes.as_slice()) } else { None };
        let [from, to] = [state.nodes[1 - side], state.nodes[side]];
        story.sent(self.now_us, Sending { way: (state.serial, side), from, to, bytes });
    }

    pub(super) fn tell_under_way(&mut self, way: (u64, Side), due_us: Option<u64>) {
        if let Some(story) = self.trace.story() {
            story.under_way(way, due_us);
        }
    }

    /// What has come to the end of its way towards `side` may not arrive yet.
    pub(super) fn tell_held_back(&mut self, serial: u64, side: Side, nodes: [u64; 2]) {
        let Some(story) = self.trace.story() else { return };
        let hold = if self.net.path(nodes[1 - side], nodes[side]).cuts > 0 { Hold::Cut } else { Hold::Stall };
        story.held(self.now_us, (serial, side), hold);
    }

    /// What a client sends, or reads.
    pub(super) fn tell_said(&mut self, client: u64, replies: bool, bytes: &[u8]) {
        if let Some(story) = self.trace.story() {
            story.said(self.now_us, (client, self.judge.plan().setting.home(client)), replies, bytes);
        }
    }

    /// A run's keys may have changed.
    pub(super) fn tell_held(&mut self, index: usize) {
        let Some(story) = self.trace.story() else { return };
        let host = &self.processes[index].host;
        let wall = super::wall_at(&self.machines, host.node, self.now_us);
        story.look(self.now_us, (host.run.0, host.node), host.turn().node(), wall);
    }
}

/// Why a run has a turn. What it reads is told when it is sent.
pub(super) fn turn(streams: &[Option<Stream>], process: &Process, cause: Cause<'_>) -> What {
    let run = process.host.run.0;
    let from = |conn: ConnId| match process.conns.get(conn.0 as usize).copied().flatten() {
        Some(end) => other_end(streams, end),
        None => format!("{conn:?}"),
    };
    match cause {
        Cause::Deadline | Cause::Load | Cause::Event(Event::Tick) => What::Turn { run, why: "wakes".to_owned() },
        Cause::Bytes { conn, bytes } => {
            What::Turn { run, why: format!("takes {} bytes from {}", bytes.len(), from(conn)) }
        }
        Cause::Writable { conn } => What::Turn { run, why: format!("may write to {} again", from(conn)) },
        Cause::Opened { conn, .. } | Cause::Event(Event::Opened { conn }) => {
            What::Link { run, text: format!("accepts {}", from(conn)) }
        }
        Cause::Event(Event::Dialed { conn, .. }) => What::Link { run, text: format!("has reached {}", from(conn)) },
        Cause::Event(Event::DialFailed { addr }) => {
            let address = process.host.turn().node().address(addr).unwrap_or("who was forgotten");
            What::Link { run, text: format!("fails to reach {address}") }
        }
        Cause::Event(Event::DiskDone { lane, ops }) => What::Turn { run, why: format!("wakes: {lane:?} {ops} done") },
        Cause::Event(Event::DiskFailed { lane, error }) => {
            What::Turn { run, why: format!("hears that its disk fails: {lane:?} {error:?}") }
        }
        Cause::Event(Event::Closed { conn }) => What::Link { run, text: format!("finds {conn:?} closed") },
    }
}

/// Who holds the other end of a stream.
pub(super) fn other_end(streams: &[Option<Stream>], (stream, side): (StreamId, Side)) -> String {
    match streams.get(stream).and_then(Option::as_ref) {
        Some(stream) if stream.session.is_some() => "a client".to_owned(),
        Some(stream) => format!("n{} on stream {}", stream.nodes[1 - side], stream.serial),
        None => "nobody".to_owned(),
    }
}
