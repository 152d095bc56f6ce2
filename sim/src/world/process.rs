//! Processes: a run of a node, its turns, its stops.

use kv_core::{Close, ConnId, Event, Mono, Now};

use super::net::{End, Packet, Side, StreamId};
use super::{Dialer, What, World, tell};
use crate::host::Host;
use crate::judge::SessionId;
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{node_at, size};
use crate::timeline::What as Told;

/// Turns of one process in one millisecond past which it spins: ten times what byte-by-byte input brings about.
const TURNS_PER_MS_MAX: u64 = 4_000;

/// A write travels in segments, as on Ethernet, so that a slow path shows signs of life before all has come.
const SEGMENT_BYTES: usize = 1_448;

/// What a run's monotonic clock shows at its start, so that a node cannot take it for the time since then.
const MONO_START_US: u64 = 7_000_000;

pub(super) struct Process {
    pub(super) host: Host,
    pub(super) is_alive: bool,
    pub(super) is_paused: bool,
    /// Its connections by name.
    pub(super) conns: Vec<Option<(StreamId, Side)>>,
    /// What happened to it while it stood still.
    pub(super) late: Vec<What>,
    pub(super) booted_us: u64,
    /// Since when it has been running.
    pub(super) running_us: u64,
    /// Since when it has stood still, if it does.
    paused_us: u64,
    wake_us: Option<u64>,
    /// A millisecond, and its turns.
    pace: (u64, u64),
}

/// What a turn is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    Deadline,
    Bytes {
        conn: ConnId,
        bytes: &'a [u8],
    },
    Opened {
        conn: ConnId,
        session: Option<SessionId>,
    },
    Event(Event),
    Writable {
        conn: ConnId,
    },
    /// It reads its files.
    Load,
}

impl World {
    /// Starts a run of `node`. That it is to be `alone` is ignored if it would leave the survivors, or those of them
    /// that do not leave, in groups of which no one names another: no protocol brings those together; and of a node
    /// that was restored, which would begin a cluster of its own.
    pub(super) fn boot(&mut self, node: u64, alone: bool) {
        let alone = alone && !self.machines[size(node)].is_restored;
        self.machines[size(node)].is_alone = alone;
        let alone = alone && self.judge.plan().survivors_meet(self.alone());
        self.machines[size(node)].is_alone = alone;
        self.look_at_boot(node);
        let index = self.processes.len();
        let now = Now { mono: Mono(MONO_START_US), wall: self.wall(node) };
        let files = self.disks[size(node)].as_ref().map(crate::disk::Disk::list);
        let host = Host::boot(&mut self.judge, node, alone, now, files.as_deref());
        self.trace.note(self.now_us, &[1, node, index as u64], || Told::Started { run: index as u64 }.on(node));
        self.processes.push(Process {
            host,
            is_alive: true,
            is_paused: false,
            conns: Vec::new(),
            late: Vec::new(),
            booted_us: self.now_us,
            running_us: self.now_us,
            paused_us: 0,
            wake_us: None,
            pace: (0, 0),
        });
        let machine = &mut self.machines[size(node)];
        machine.is_up = true;
        machine.process = Some(index);
        self.turn(index, Cause::Load);
    }

    /// The nodes that named no peers when they last started.
    fn alone(&self) -> u64 {
        self.machines.iter().enumerate().map(|(node, machine)| u64::from(machine.is_alone) << node).sum()
    }

    pub(super) fn restart(&mut self, node: u64, alone: bool) {
        if self.machines[size(node)].process.is_none() {
            self.boot(node, alone);
        }
    }

    /// Ends a run and its memory. `silent`: its machine ends with it, and its peers hear nothing.
    pub(super) fn stop(&mut self, index: usize, silent: bool) {
        let node = self.processes[index].host.node;
        self.trace.note(self.now_us, &[2, index as u64, u64::from(silent)], || {
            Told::Stopped { run: index as u64, silent }.on(node)
        });
        let process = &mut self.processes[index];
        process.is_alive = false;
        let run = process.host.run;
        let conns = std::mem::take(&mut process.conns);
        self.judge.stopped(run, silent);
        self.stop_disk(node, silent);
        let machine = &mut self.machines[size(node)];
        if machine.process == Some(index) {
            machine.process = None;
            machine.is_up = !silent;
        }
        self.look_at_stop();
        for (stream, side) in conns.into_iter().flatten() {
            self.leave(stream, side, silent);
        }
        // Connections that the system had accepted, or was making, for it.
        for stream in 0..self.net.streams.len() {
            for side in [0, 1] {
                let is_its = self.net.get(stream).is_some_and(|s| s.ends[side] == End::Backlog { process: index });
                if is_its {
                    self.leave(stream, side, silent);
                }
            }
        }
    }

    pub(super) fn pause(&mut self, index: usize) {
        let node = self.processes[index].host.node;
        self.trace.note(self.now_us, &[3, index as u64], || Told::Paused { run: index as u64 }.on(node));
        let process = &mut self.processes[index];
        // Who stands still already goes on doing so.
        process.paused_us = if process.is_paused { process.paused_us } else { self.now_us };
        process.is_paused = true;
    }

    pub(super) fn thaw(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if !process.is_alive || !process.is_paused {
            return;
        }
        process.is_paused = false;
        if self.now_us - process.paused_us > 1_000 * self.judge.plan().setting.silence_ms {
            self.judge.marks.saw(Mark::PausedPastSilence);
        }
        if self.judge.is_superseded(process.host.run) {
            self.judge.marks.saw(Mark::SupersededThawed);
        }
        process.running_us = self.now_us;
        let (node, late) = (process.host.node, std::mem::take(&mut process.late));
        self.trace.note(self.now_us, &[4, index as u64], || Told::Thawed { run: index as u64 }.on(node));
        for what in late {
            self.schedule(self.now_us, what);
        }
        self.turn(index, Cause::Deadline);
    }

    pub(super) fn wake(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.wake_us != Some(self.now_us) {
            return;
        }
        process.wake_us = None;
        if process.is_alive && !process.is_paused {
            let due = process.host.deadline().is_some_and(|at| at <= mono(process, self.now_us));
            if due { self.turn(index, Cause::Deadline) } else { self.plan_wake(index) }
        }
    }

    /// One turn, in the order of `runtime`.
    pub(super) fn turn(&mut self, index: usize, cause: Cause<'_>) {
        let process = &mut self.processes[index];
        debug_assert!(process.is_alive && !process.is_paused, "only what runs has turns");
        let (node, mono) = (process.host.node, mono(process, self.now_us));
        let now = Now { mono, wall: self.wall(node) };
        self.note_turn(index, now, cause);
        let host = &mut self.processes[index].host;
        host.begin(now);
        match cause {
            Cause::Deadline => {}
            Cause::Bytes { conn, bytes } => host.input(&mut self.judge, conn, bytes),
            Cause::Opened { conn, session } => host.opened(&mut self.judge, conn, session),
            Cause::Event(event) => host.event(&mut self.judge, event),
            Cause::Writable { conn } => host.writable(conn),
            Cause::Load => self.load(index),
        }
        self.processes[index].host.settle(&mut self.judge);
        self.hand_over(index);
        while let Some((addr, text)) = self.processes[index].host.take_dial() {
            self.dial(index, addr.0, &text);
        }
        while let Some(conn) = self.processes[index].host.next_ready() {
            self.write(index, conn);
        }
        self.hand_over(index);
        self.end_turn(index);
    }

    fn note_turn(&mut self, index: usize, now: Now, cause: Cause<'_>) {
        self.judge.stats.turns += 1;
        let process = &mut self.processes[index];
        let ms = self.now_us / 1_000;
        process.pace = if process.pace.0 == ms { (ms, process.pace.1 + 1) } else { (ms, 1) };
        if process.pace.1 > TURNS_PER_MS_MAX {
            self.judge.fail(Oracle::Liveness, || format!("run {index} spins: {TURNS_PER_MS_MAX} turns in 1 ms"));
        }
        let words = match cause {
            Cause::Deadline => [10, 0],
            Cause::Bytes { conn, .. } => [11, u64::from(conn.0)],
            Cause::Opened { conn, .. } => [12, u64::from(conn.0)],
            Cause::Event(Event::Dialed { conn, addr }) => [13, u64::from(conn.0) << 32 | u64::from(addr.0)],
            Cause::Event(Event::DialFailed { addr }) => [14, u64::from(addr.0)],
            Cause::Event(Event::Closed { conn } | Event::Opened { conn }) => [15, u64::from(conn.0)],
            Cause::Event(Event::Tick) => [16, 0],
            Cause::Event(Event::DiskDone { lane, ops }) => [18, (lane as u64) << 32 | u64::from(ops)],
            Cause::Event(Event::DiskFailed { lane, error }) => [19, (lane as u64) << 32 | error as u64],
            Cause::Writable { conn } => [17, u64::from(conn.0)],
            // A run without a disk just starts.
            Cause::Load => [10, 0],
        };
        let node = process.host.node;
        let words = [index as u64, words[0], words[1], now.wall.0];
        let (streams, process) = (&self.net.streams, &self.processes[index]);
        self.trace.note(self.now_us, &words, || tell::turn(streams, process, cause).on(node));
        if let Cause::Bytes { bytes, .. } = cause {
            self.judge.stats.bytes += bytes.len() as u64;
            self.trace.bytes(bytes);
        }
    }

    /// Writes what `conn` has until there is none or the window is full, and closes it if it is finished.
    fn write(&mut self, index: usize, conn: ConnId) {
        let Some((stream, side)) = self.conn(index, conn) else { return };
        loop {
            let room = self.net.room(stream, 1 - side);
            let host = &mut self.processes[index].host;
            let output = host.output(&mut self.judge, conn);
            if output.is_empty() {
                break;
            }
            if room == 0 {
                if let Some(stream) = self.net.get(stream) {
                    stream.ways[1 - side].full = true;
                    self.judge.marks.saw(Mark::WindowFull);
                }
                break;
            }
            let mut bytes = self.net.buffer();
            bytes.extend_from_slice(&output[..output.len().min(room).min(SEGMENT_BYTES)]);
            let count = bytes.len();
            self.trace.hash_words(self.now_us, &[20, index as u64, u64::from(conn.0), count as u64]);
            self.meter.note(self.processes[index].host.node, count as u64);
            self.send(stream, 1 - side, Packet::Bytes(bytes));
            self.processes[index].host.sent(&mut self.judge, conn, count);
        }
        if let Some(why) = self.processes[index].host.finished(conn) {
            let node = self.processes[index].host.node;
            self.trace.note(self.now_us, &[21, index as u64, u64::from(conn.0), why.number()], || {
                let text = format!("closes {}: {why:?}", tell::other_end(&self.net.streams, (stream, side)));
                Told::Link { run: index as u64, text }.on(node)
            });
            self.look_at_close(stream, side, why);
            self.processes[index].conns[conn.0 as usize] = None;
            self.processes[index].host.gone(conn);
            self.leave(stream, side, false);
        }
    }

    fn end_turn(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let open = process.conns.iter().enumerate().filter(|(_, end)| end.is_some());
        let mut conns = std::mem::take(&mut self.open);
        conns.extend(open.map(|(conn, _)| ConnId(u32::try_from(conn).expect("few connections"))));
        let relayed = self.judge.marks.of(Mark::Relayed);
        process.host.end(&mut self.judge, conns.iter().copied());
        if self.judge.marks.of(Mark::Relayed) > relayed {
            self.look_at_relay(index);
        }
        let process = &self.processes[index];
        let due = process.host.deadline().is_some_and(|at| at <= mono(process, self.now_us)) || self.is_syncing(index);
        for conn in conns.drain(..) {
            let Some((stream, side)) = self.conn(index, conn) else { continue };
            let Some(ways) = self.net.get(stream).map(|stream| &stream.ways) else { continue };
            let process = &self.processes[index];
            let unsent = process.host.turn().held(conn).1;
            if unsent > 0 && !ways[1 - side].full && !due {
                self.judge
                    .fail(Oracle::Liveness, || format!("run {index}: the deadline hides {unsent} bytes to {conn:?}"));
            }
            let way = &ways[side];
            if (!way.unread.is_empty() || way.ended) && !way.reading && process.host.wants_read(conn) {
                self.plan_read(stream, side);
            }
        }
        self.open = conns;
        self.tell_held(index);
        self.plan_wake(index);
    }

    fn plan_wake(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let Some(deadline) = process.host.deadline() else { return };
        // At least a microsecond passes between two turns, as on any machine.
        let at_us = (deadline.0.saturating_sub(MONO_START_US) + process.booted_us).max(self.now_us + 1);
        if process.wake_us.is_none_or(|wake_us| at_us < wake_us) {
            process.wake_us = Some(at_us);
            self.schedule(at_us, What::Wake { process: index });
        }
    }

    fn dial(&mut self, index: usize, addr: u32, text: &str) {
        let (from, nodes) = (self.processes[index].host.node, self.judge.plan().setting.nodes);
        let dialer = Dialer::Process { process: index, addr };
        self.trace.note(self.now_us, &[22, index as u64, u64::from(addr)], || {
            Told::Link { run: index as u64, text: format!("dials {text}") }.on(from)
        });
        match node_at(text, nodes) {
            Some(to) => {
                let latency = self.net.latency_us(from, to, &[index as u64, u64::from(addr), self.now_us]);
                self.schedule(self.now_us + latency, What::Connect { dialer, from, to, attempt: 0 });
            }
            None => self.after_ms(1, What::DialFailed { dialer }),
        }
    }

    /// Gives a connection of a process the lowest free name.
    pub(super) fn name(&mut self, index: usize, stream: StreamId, side: Side) -> ConnId {
        let conns = &mut self.processes[index].conns;
        let free = conns.iter().position(Option::is_none).unwrap_or(conns.len());
        if free == conns.len() {
            conns.push(None);
        }
        conns[free] = Some((stream, side));
        let conn = ConnId(u32::try_from(free).expect("few connections"));
        if let Some(stream) = self.net.get(stream) {
            stream.ends[side] = End::Process { process: index, conn };
        }
        conn
    }

    fn conn(&self, index: usize, conn: ConnId) -> Option<(StreamId, Side)> {
        self.processes[index].conns.get(conn.0 as usize).copied().flatten()
    }

    /// Looks at who still knows earlier runs of `node`, of which another is about to start.
    fn look_at_boot(&mut self, node: u64) {
        if self.machines[size(node)].is_alone {
            self.judge.marks.saw(Mark::RestartedAlone);
        }
        for process in self.machines.iter().filter_map(|machine| machine.process) {
            let host = &self.processes[process].host;
            let (old, is_orphaned) = self.judge.accounts_of(node, host.turn().node());
            if host.node != node {
                self.judge.begins_beside(old, is_orphaned);
            }
        }
    }

    /// Looks at who is left after a stop, unless it is for ever.
    fn look_at_stop(&mut self) {
        let down = self.machines.iter().filter(|machine| machine.process.is_none()).count();
        if self.healed || down < 2 {
            return;
        }
        self.judge.marks.saw(Mark::TwoDown);
        if down == self.machines.len() {
            self.judge.marks.saw(Mark::AllDown);
        }
    }

    /// Looks at a connection that a process ends.
    fn look_at_close(&mut self, stream: StreamId, side: Side, why: Close) {
        self.judge.closes(why);
        let Some(state) = self.net.get(stream) else { return };
        let (nodes, dark, end, is_garbled) = (state.nodes, state.dark, state.ends[1 - side], state.is_garbled);
        let this = state.ends[side];
        match (this, end) {
            (_, End::Intruder { .. }) => self.judge.marks.saw(Mark::IntruderTurnedAway),
            (End::Process { process, .. }, End::Process { process: other, .. }) if why == Close::Refused => {
                let run = |process: usize| self.processes[process].host.run;
                self.judge.turns_away(run(process), run(other));
            }
            _ => {}
        }
        if why == Close::Malformed && nodes[0] != nodes[1] {
            self.judge.marks.saw(Mark::WrongBitNoticed);
            if !is_garbled {
                let (here, there) = (nodes[side], nodes[1 - side]);
                self.judge.fail(Oracle::Session, || format!("n{here} took what n{there} sent for malformed"));
            }
        }
        let (here, there) = (nodes[side], nodes[1 - side]);
        if why == Close::Silent && dark {
            self.judge.marks.saw(Mark::HalfOpenNoticed);
        }
        if why == Close::Silent && self.net.is_held(here, there) != self.net.is_held(there, here) {
            self.judge.marks.saw(Mark::OneWayNoticed);
        }
    }

    /// Looks at the paths to a node that was just brought something by a third.
    fn look_at_relay(&mut self, index: usize) {
        let here = self.processes[index].host.node;
        let nodes = 0..self.machines.len() as u64;
        if nodes.into_iter().any(|there| self.net.is_held(here, there) != self.net.is_held(there, here)) {
            self.judge.marks.saw(Mark::RelayedRoundCut);
        }
    }
}

const fn mono(process: &Process, now_us: u64) -> Mono {
    Mono(MONO_START_US + now_us - process.booted_us)
}
