//! A node in turns as its driver makes them, each of which is timed.

use std::time::{Duration, Instant};

use kv_core::{AddrId, Config, ConnId, DiskOp, DiskWork, Event, Lane, Mono, Now, Turn, WallMs};

/// What the driver reads at once, and of one connection in one turn.
const READ_BYTES: usize = 64 << 10;
pub(crate) const READ_SHARE_BYTES: usize = 4 * READ_BYTES;

/// Capacity that the driver's buffers of the disk keep.
const KEPT_BYTES: usize = 256 << 10;

/// What passes between a turn and the next one if that is due at once, and nothing else is said.
pub(crate) const TURN_US: u64 = 100;

/// The longest that a node sleeps.
const SLEEP_US: u64 = 1_000_000;

const LANES: [Lane; 2] = [Lane::Log, Lane::Snapshot];

/// What the wall clock shows when all begins.
pub(crate) const START: WallMs = WallMs(1_700_000_000_000);

/// A node, its clock, and a disk that has done by the next turn what it was asked for.
pub(crate) struct Machine {
    pub(crate) turn: Turn,
    us: u64,
    /// What passes between a turn and the next one if that is due at once.
    pub(crate) turn_us: u64,
    /// What happened since the last turn.
    events: Vec<Event>,
    work: DiskWork,
    /// Operations that the disk has carried out, by lane.
    done: [u32; 2],
    /// Snapshots that got their name, and files that were removed.
    pub(crate) finished: u32,
    pub(crate) removed: u32,
    /// Whom it wants to reach.
    pub(crate) dials: Vec<AddrId>,
    /// Nanoseconds that each turn has taken.
    turns: Vec<u32>,
}

impl Machine {
    /// A node at its start, `us` microseconds after all began, with nobody connected.
    pub(crate) fn new(config: Config, us: u64) -> Self {
        let mut machine = Self {
            turn: Turn::new(config, now(us)),
            us,
            turn_us: TURN_US,
            events: Vec::new(),
            work: DiskWork::default(),
            done: [0; 2],
            finished: 0,
            removed: 0,
            dials: Vec::new(),
            turns: Vec::new(),
        };
        machine.turn.begin(now(us));
        machine.turn.begin_load(&[]);
        machine
    }

    /// Microseconds since all began.
    pub(crate) const fn us(&self) -> u64 {
        self.us
    }

    /// Lets time pass.
    pub(crate) fn pass_us(&mut self, us: u64) {
        self.us += us;
    }

    /// Lets time pass until the node wants a turn.
    pub(crate) fn sleep(&mut self) {
        let latest = self.us + SLEEP_US;
        let due = self.turn.deadline().map_or(latest, |deadline| deadline.0.min(latest));
        self.us = due.max(self.us + self.turn_us);
    }

    /// Tells the node something in its next turn.
    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A turn in which this was read; `hear` is given what is written. What passes while it listens is not the node's.
    pub(crate) fn turn(&mut self, input: &[(ConnId, &[u8])], hear: &mut dyn FnMut(ConnId, &[u8])) {
        let now = now(self.us);
        let (begun, mut aside) = (Instant::now(), Duration::ZERO);
        self.turn.begin(now);
        for (lane, done) in LANES.into_iter().zip(&mut self.done) {
            if *done > 0 {
                self.turn.event(Event::DiskDone { lane, ops: std::mem::take(done) });
            }
        }
        self.events.drain(..).for_each(|event| self.turn.event(event));
        for (conn, bytes) in input {
            for piece in bytes.chunks(READ_BYTES) {
                assert!(self.turn.wants_read(*conn), "nobody is held back");
                self.turn.input(*conn, piece);
            }
        }
        self.turn.settle();
        self.hand_over(&mut aside);
        while let Some(conn) = self.turn.next_ready() {
            loop {
                let bytes = self.turn.output(conn);
                let count = bytes.len();
                if count == 0 {
                    break;
                }
                let heard = Instant::now();
                hear(conn, bytes);
                aside += heard.elapsed();
                self.turn.sent(conn, count);
            }
            assert_eq!(self.turn.finished(conn), None, "nobody is turned away");
        }
        while let Some(addr) = self.turn.take_dial() {
            self.dials.push(addr);
        }
        self.hand_over(&mut aside);
        let nanos = (begun.elapsed() - aside).as_nanos();
        self.turns.push(u32::try_from(nanos).unwrap_or(u32::MAX));
    }

    /// Turns in which nothing is read.
    pub(crate) fn idle_turn(&mut self) {
        self.turn(&[], &mut |_, _| panic!("nobody asked"));
    }

    /// Goes on for so long with nothing to read.
    pub(crate) fn rest_ms(&mut self, ms: u64) {
        let until = self.us + 1_000 * ms;
        while self.us < until {
            self.sleep();
            self.us = self.us.min(until);
            self.idle_turn();
        }
    }

    /// What `conn` is answered, in a turn.
    pub(crate) fn ask(&mut self, conn: ConnId, request: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        self.turn(&[(conn, request)], &mut |_, bytes| answer.extend_from_slice(bytes));
        answer
    }

    /// What the turns since this was last called have taken.
    pub(crate) fn take_turns(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.turns)
    }

    /// The disk's threads take over what is for them.
    fn hand_over(&mut self, aside: &mut Duration) {
        for (at, lane) in LANES.into_iter().enumerate() {
            if !self.turn.take_disk(lane, &mut self.work) {
                continue;
            }
            let begun = Instant::now();
            let mut appended = 0;
            for op in &self.work.ops {
                match op {
                    DiskOp::Append { bytes, .. } => appended += *bytes as usize,
                    DiskOp::Finish { .. } => self.finished += u32::from(lane == Lane::Snapshot),
                    DiskOp::Remove { .. } => self.removed += 1,
                    DiskOp::Sync { .. } | DiskOp::SyncDir | DiskOp::Resume => {}
                }
            }
            assert_eq!(appended, self.work.data.len(), "all bytes belong to an operation");
            self.done[at] += self.work.ops.len() as u32;
            self.work.clear();
            if self.work.data.capacity() > KEPT_BYTES {
                self.work = DiskWork::default();
            }
            *aside += begun.elapsed();
        }
    }
}

fn now(us: u64) -> Now {
    Now { mono: Mono(us), wall: START.plus_ms(us / 1_000) }
}
