//! What happens on the network: dials, arrivals, reads, closes.

use kv_core::Event;

use super::net::{End, Packet, Side, StreamId};
use super::process::Cause;
use super::{Dialer, What, World};
use crate::marks::Mark;
use crate::plan::size;

/// Attempts of a system to connect, each twice as long after the last, before it gives up.
const DIAL_ATTEMPTS: u32 = 3;

/// Between two reads of what has arrived already.
const READ_GAP_US: u64 = 10;

/// After a cut: until the sender sends again what was lost in it.
const RESEND_US: u64 = 2_000;

impl World {
    /// A request to connect reaches a machine, or does not.
    pub(super) fn connect(&mut self, dialer: Dialer, from: u64, to: u64, attempt: u32) {
        if !self.still_dials(dialer) {
            return;
        }
        let lost = from != to && (self.net.is_held(from, to) || self.net.is_held(to, from));
        if lost || !self.machines[size(to)].is_up {
            let wait_ms = self.judge.plan().setting.dial_retry_ms << attempt;
            let next = if attempt + 1 < DIAL_ATTEMPTS {
                What::Connect { dialer, from, to, attempt: attempt + 1 }
            } else {
                self.judge.marks.saw(Mark::DialUnanswered);
                What::DialFailed { dialer }
            };
            return self.after_ms(wait_ms, next);
        }
        let latency = self.net.latency_us(to, from, &[self.now_us, 1]);
        let Some(process) = self.machines[size(to)].process else {
            return self.schedule(self.now_us + latency, What::DialFailed { dialer });
        };
        let (near, session) = match dialer {
            Dialer::Process { .. } => (End::Dialing, None),
            Dialer::Client { client, session } => (End::Client { client }, Some(session)),
        };
        let stream = self.net.open([near, End::Backlog { process }], [from, to], session);
        let serial = self.net.get(stream).map_or(0, |stream| stream.serial);
        if let Dialer::Client { client, session } = dialer {
            self.seats[size(client)].connected(self.now_us, stream, session);
        }
        self.accept(stream, serial);
        self.schedule(self.now_us + latency, What::Connected { stream, serial, dialer });
    }

    /// The process takes a connection that the system has accepted for it.
    pub(super) fn accept(&mut self, stream: StreamId, serial: u64) {
        let Some(End::Backlog { process }) = self.net.current(stream, serial).map(|stream| stream.ends[1]) else {
            return;
        };
        if self.processes[process].is_paused {
            self.processes[process].late.push(What::Accept { stream, serial });
            return;
        }
        let session = self.net.get(stream).and_then(|stream| stream.session);
        let conn = self.name(process, stream, 1);
        self.turn(process, Cause::Opened { conn, session });
    }

    /// The dialer hears that its connection stands.
    pub(super) fn connected(&mut self, stream: StreamId, serial: u64, dialer: Dialer) {
        let Some(nodes) = self.net.current(stream, serial).map(|stream| stream.nodes) else { return };
        match dialer {
            Dialer::Client { client, .. } => self.flush_client(client),
            Dialer::Process { process, addr } => {
                let again = What::Connected { stream, serial, dialer };
                if !self.processes[process].is_alive {
                    return self.leave(stream, 0, false);
                }
                if self.processes[process].is_paused {
                    return self.processes[process].late.push(again);
                }
                if self.net.is_held(nodes[1], nodes[0]) {
                    return self.after_ms(20, again);
                }
                self.judge.linked(self.processes[process].host.run, nodes[1]);
                let conn = self.name(process, stream, 0);
                self.turn(process, Cause::Event(Event::Dialed { conn, addr: kv_core::AddrId(addr) }));
            }
        }
    }

    pub(super) fn dial_failed(&mut self, dialer: Dialer) {
        if !self.still_dials(dialer) {
            return;
        }
        match dialer {
            Dialer::Client { client, .. } => self.seats[size(client)].lost(&mut self.judge),
            Dialer::Process { process, .. } => {
                if self.processes[process].is_paused {
                    return self.processes[process].late.push(What::DialFailed { dialer });
                }
                if let Some(addr) = dialer.addr() {
                    self.turn(process, Cause::Event(Event::DialFailed { addr }));
                }
            }
        }
    }

    fn still_dials(&self, dialer: Dialer) -> bool {
        match dialer {
            Dialer::Process { process, .. } => self.processes[process].is_alive,
            Dialer::Client { client, session } => self.seats[size(client)].session == Some(session),
        }
    }

    /// Sends towards `side`.
    pub(super) fn send(&mut self, stream: StreamId, side: Side, packet: Packet) {
        let (serial, nodes) = self.net.get(stream).map_or((0, [0, 0]), |stream| (stream.serial, stream.nodes));
        // A client may read late what it was sent long ago.
        self.sends += u64::from(nodes[0] != nodes[1]);
        self.tell_sent(stream, side, &packet);
        self.overhear(stream, side, &packet);
        let due_us = self.net.send(self.now_us, stream, side, packet);
        self.tell_under_way((serial, side), due_us);
        if let Some(at_us) = due_us {
            self.schedule(at_us, What::Arrive { stream, serial, side });
        }
    }

    /// The holder of an end lets go of it; `silent`: and the other side hears nothing.
    pub(super) fn leave(&mut self, stream: StreamId, side: Side, silent: bool) {
        if let Some(state) = self.net.get(stream) {
            state.ends[side] = End::Gone;
            if !silent {
                self.send(stream, 1 - side, Packet::Fin);
            }
            self.net.reap(stream);
        }
    }

    /// What has come to the end of its way is there to be read.
    pub(super) fn arrive(&mut self, stream: StreamId, serial: u64, side: Side) {
        let Some(nodes) = self.net.current(stream, serial).map(|stream| stream.nodes) else { return };
        if self.net.is_held(nodes[1 - side], nodes[side]) {
            return self.tell_held_back(serial, side, nodes);
        }
        let now_us = self.now_us;
        let Some(state) = self.net.get(stream).filter(|stream| !stream.dark) else { return };
        let is_gone = state.ends[side] == End::Gone;
        let (count, refused) = self.net.land(now_us, stream, side);
        if let Some(story) = self.trace.story() {
            story.arrived(now_us, (serial, side), (nodes[1 - side], nodes[side]), count, is_gone);
        }
        if is_gone {
            // Nobody holds this end any more: its machine says so, if it runs.
            if refused && self.machines[size(nodes[side])].is_up {
                self.send(stream, 1 - side, Packet::Fin);
            }
            return;
        }
        self.plan_read(stream, side);
    }

    pub(super) fn plan_read(&mut self, stream: StreamId, side: Side) {
        let at_us = self.now_us + READ_GAP_US;
        let Some(state) = self.net.get(stream) else { return };
        let way = &mut state.ways[side];
        if way.reading || (way.unread.is_empty() && !way.ended) {
            return;
        }
        way.reading = true;
        let serial = state.serial;
        self.schedule(at_us, What::Read { stream, serial, side });
    }

    /// The holder of an end reads some of what has arrived.
    pub(super) fn read(&mut self, stream: StreamId, serial: u64, side: Side) {
        let Some(state) = self.net.current(stream, serial) else { return };
        state.ways[side].reading = false;
        let (end, is_empty, ended) = (state.ends[side], state.ways[side].unread.is_empty(), state.ways[side].ended);
        match end {
            End::Process { process, conn } => {
                let owner = &self.processes[process];
                if owner.is_paused {
                    return;
                }
                let wants = owner.host.wants_read(conn);
                if ended && (is_empty || !wants) {
                    // Either all was read, or a write would be answered with a reset.
                    self.processes[process].conns[conn.0 as usize] = None;
                    self.leave(stream, side, false);
                    return self.turn(process, Cause::Event(Event::Closed { conn }));
                }
                if wants && !is_empty {
                    let bytes = self.take_unread(stream, side);
                    self.turn(process, Cause::Bytes { conn, bytes: &bytes });
                    self.net.reuse(bytes);
                }
            }
            End::Intruder { reads: false } => {}
            End::Intruder { .. } if is_empty => self.leave(stream, side, false),
            End::Intruder { .. } => {
                let bytes = self.take_unread(stream, side);
                self.net.reuse(bytes);
                self.plan_read(stream, side);
            }
            End::Client { client } if self.seats[size(client)].is_deaf(self.now_us) => {}
            End::Client { client } if is_empty => {
                self.seats[size(client)].lost(&mut self.judge);
                self.leave(stream, side, false);
            }
            End::Client { client } => {
                let bytes = self.take_unread(stream, side);
                self.client_reads(client, &bytes);
                self.net.reuse(bytes);
                self.plan_read(stream, side);
            }
            End::Backlog { .. } | End::Dialing | End::Gone => {}
        }
    }

    fn take_unread(&mut self, stream: StreamId, side: Side) -> Vec<u8> {
        let count = self.net.chunk(stream, side);
        let latency = READ_GAP_US;
        let mut bytes = self.net.buffer();
        let Some(state) = self.net.get(stream) else { return bytes };
        let (serial, nodes) = (state.serial, state.nodes);
        let way = &mut state.ways[side];
        let (front, back) = way.unread.as_slices();
        let first = count.min(front.len());
        bytes.extend_from_slice(&front[..first]);
        bytes.extend_from_slice(&back[..count - first]);
        way.unread.drain(..count);
        way.open -= count;
        if way.full && !way.freed {
            way.freed = true;
            let back_us = self.net.latency_us(nodes[side], nodes[1 - side], &[serial, side as u64, self.now_us]);
            self.schedule(self.now_us + latency + back_us, What::Writable { stream, serial, side: 1 - side });
        }
        bytes
    }

    /// A sender that met a full window may go on.
    pub(super) fn writable(&mut self, stream: StreamId, serial: u64, side: Side) {
        let Some(state) = self.net.current(stream, serial) else { return };
        let end = state.ends[side];
        let is_late = matches!(end, End::Process { process, .. } if self.processes[process].is_paused);
        if !is_late {
            state.ways[1 - side].full = false;
            state.ways[1 - side].freed = false;
        }
        match end {
            End::Process { process, .. } if self.processes[process].is_paused => {
                self.processes[process].late.push(What::Writable { stream, serial, side });
            }
            End::Process { process, conn } => self.turn(process, Cause::Writable { conn }),
            End::Client { client } => self.flush_client(client),
            _ => {}
        }
    }

    /// A path is free again, or for longer than before: what waits on it goes on.
    pub(super) fn release(&mut self, from: u64, to: u64) {
        if self.net.is_held(from, to) {
            return;
        }
        for stream in 0..self.net.streams.len() {
            let Some(state) = self.net.get(stream) else { continue };
            let (serial, nodes) = (state.serial, state.nodes);
            for side in [0, 1] {
                let waits = self.net.get(stream).is_some_and(|state| !state.ways[side].packets.is_empty());
                if waits && nodes[1 - side] == from && nodes[side] == to {
                    self.schedule(self.now_us + RESEND_US, What::Arrive { stream, serial, side });
                }
            }
        }
    }
}
