//! Clients and their connections. They sit beside their node: the network's faults do not touch them.

use super::net::{End, Packet, StreamId};
use super::{Dialer, What, World};
use crate::judge::{Judge, SessionId};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{Ask, size};
use crate::workload::Client;

/// How long a client waits for a reply, at least, while its node runs: an age beside the microseconds it takes, and
/// longer than anything that a plan does to a client's own connection byte by byte.
const PATIENCE_US: u64 = 1_500_000;

/// Between two looks at whether a client waits too long.
const LOOK_MS: u64 = 500;

/// A client and the connection it holds.
#[derive(Debug)]
pub(super) struct Seat {
    client: Client,
    /// While it connects or is connected.
    pub(super) session: Option<SessionId>,
    stream: Option<StreamId>,
    /// Since when its connection stands.
    connected_us: u64,
    deaf_until_us: u64,
    looks: bool,
}

impl Seat {
    pub(super) const fn new(number: u64) -> Self {
        Self {
            client: Client::new(number),
            session: None,
            stream: None,
            connected_us: 0,
            deaf_until_us: 0,
            looks: false,
        }
    }

    pub(super) fn connected(&mut self, now_us: u64, stream: StreamId, session: SessionId) {
        debug_assert_eq!(self.session, Some(session), "a client holds one connection");
        self.stream = Some(stream);
        self.connected_us = now_us;
    }

    /// The connection has gone, or never came about.
    pub(super) fn lost(&mut self, judge: &mut Judge) {
        self.session = None;
        self.stream = None;
        self.client.closed(judge);
    }

    pub(super) const fn is_deaf(&self, now_us: u64) -> bool {
        now_us < self.deaf_until_us
    }
}

impl World {
    pub(super) fn client_asks(&mut self, client: u64, ask: Ask) {
        let home = self.judge.home(client);
        if ask == Ask::Leave && (0..self.machines.len() as u64).any(|node| self.net.is_held(home, node)) {
            self.judge.marks.saw(Mark::LeaveWhileCut);
        }
        let seat = &mut self.seats[size(client)];
        if let Some(session) = seat.client.ask(&mut self.judge, self.now_us, ask) {
            seat.session = Some(session);
            if let Some(story) = self.trace.story() {
                story.hung_up(client);
            }
            let dialer = Dialer::Client { client, session };
            self.schedule(self.now_us + 1, What::Connect { dialer, from: home, to: home, attempt: 0 });
        }
        let seat = &mut self.seats[size(client)];
        if !seat.looks {
            seat.looks = true;
            self.after_ms(LOOK_MS, What::Look { client });
        }
        self.flush_client(client);
    }

    pub(super) fn client_hangs_up(&mut self, client: u64) {
        let stream = self.seats[size(client)].stream;
        self.seats[size(client)].lost(&mut self.judge);
        if let Some(stream) = stream {
            self.leave(stream, 0, false);
        }
    }

    pub(super) fn client_goes_deaf(&mut self, client: u64, ms: u64) {
        let until_us = self.now_us + ms * 1_000;
        let seat = &mut self.seats[size(client)];
        seat.deaf_until_us = seat.deaf_until_us.max(until_us);
        self.after_ms(ms, What::Look { client });
    }

    pub(super) fn client_reads(&mut self, client: u64, bytes: &[u8]) {
        self.trace.hash_words(self.now_us, &[30, client, bytes.len() as u64]);
        self.trace.bytes(bytes);
        self.tell_said(client, true, bytes);
        self.seats[size(client)].client.received(self.now_us, bytes);
    }

    /// Sends what a client has to send, as far as there is room.
    pub(super) fn flush_client(&mut self, client: u64) {
        let Some(stream) = self.seats[size(client)].stream else { return };
        let room = self.net.room(stream, 1);
        let out = self.seats[size(client)].client.out();
        let count = out.len().min(room);
        let has_more = out.len() > count;
        let mut bytes = self.net.buffer();
        bytes.extend(out.drain(..count));
        if has_more && let Some(state) = self.net.get(stream) {
            state.ways[1].full = true;
        }
        if !bytes.is_empty() {
            self.tell_said(client, false, &bytes);
            self.send(stream, 1, Packet::Bytes(bytes));
        } else {
            self.net.reuse(bytes);
        }
    }

    /// Looks whether a client reads again, and whether it waits for longer than a running node may let it.
    pub(super) fn look(&mut self, client: u64) {
        let home = self.judge.home(client);
        let seat = &mut self.seats[size(client)];
        seat.looks = false;
        if let Some(stream) = seat.stream
            && !seat.is_deaf(self.now_us)
        {
            self.plan_read(stream, 0);
        }
        let seat = &mut self.seats[size(client)];
        let Some(waits_us) = seat.client.waits_us(self.now_us) else { return };
        // A connection to a run that has ended is not heard of before its machine runs again.
        let end = seat.stream.and_then(|stream| self.net.get(stream)).map(|stream| stream.ends[1]);
        let running_us = self.machines[size(home)]
            .process
            .filter(|process| matches!(end, Some(End::Process { process: holder, .. }) if holder == *process))
            .map(|process| &self.processes[process])
            .filter(|process| !process.is_paused)
            .map_or(0, |process| self.now_us - process.running_us);
        let hears_us = self.now_us.saturating_sub(seat.deaf_until_us.max(seat.connected_us));
        let session = seat.session;
        let may_wait =
            session.is_some_and(|session| self.judge.may_wait_for_ever(session)) || self.judge.is_troubled(home);
        let since_us = self.now_us - waits_us.min(running_us).min(hears_us);
        let caught_up_us = self.caught_up_us(home, since_us);
        let is_late = caught_up_us.is_some_and(|caught_up_us| self.now_us - since_us.max(caught_up_us) > PATIENCE_US);
        if !may_wait && is_late {
            self.judge.fail(Oracle::Availability, || format!("client {client} waits for {waits_us} us, {session:?}"));
        }
        if waits_us > 2 * PATIENCE_US {
            return self.client_hangs_up(client);
        }
        self.seats[size(client)].looks = true;
        self.after_ms(LOOK_MS, What::Look { client });
    }
}
