//! What the engine and the tasks inside turmoil share between steps: the judge, the trace, processes, clients.

use std::net::IpAddr;
use std::task::Waker;

use kv_core::{Mono, Now, WallMs};

use crate::host::Host;
use crate::judge::{EPOCH_MS, Judge, RunId, SessionId};
use crate::plan::{Plan, size};
use crate::trace::{Trace, Watch};
use crate::workload::Client;

/// What a run's monotonic clock shows at its start, so that a node cannot take it for the time since then.
const MONO_START_US: u64 = 7_000_000;

pub(super) struct Shared {
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    /// By node.
    pub(super) machines: Vec<Machine>,
    /// By client.
    pub(super) seats: Vec<Seat>,
    /// Wakes the clients' task.
    pub(super) crowd: Option<Waker>,
    /// By node.
    pub(super) addresses: Vec<IpAddr>,
    /// Writes of nodes to each other.
    pub(super) sends: u64,
    /// Connections that stood so far: random draws are keyed by it.
    pub(super) serials: u64,
}

/// A machine: what outlives a process.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) process: Option<Process>,
    /// Its newest run named no peers though the plan's setting has some.
    pub(super) is_alone: bool,
    pub(super) clock: Clock,
    /// Wakes its pump.
    pub(super) pump: Option<Waker>,
}

/// A run of a node. Its connections are its pump's.
pub(super) struct Process {
    pub(super) host: Host,
    pub(super) is_paused: bool,
    pub(super) booted_us: u64,
    /// Since when it has been running.
    pub(super) running_us: u64,
    /// Connections that stand.
    pub(super) open: u64,
}

/// A wall clock beside the true one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) offset_ms: i64,
    pub(super) drift_ppm: i64,
    /// When the drift began.
    pub(super) since_us: u64,
}

/// A client, and how its connection stands.
pub(super) struct Seat {
    pub(super) client: Client,
    /// While it connects or is connected.
    pub(super) session: Option<SessionId>,
    /// The session whose connection is being made: what a node that accepts one accepts.
    pub(super) knocks: Option<SessionId>,
    /// The run that accepted the connection, and when.
    pub(super) holder: Option<(RunId, u64)>,
    pub(super) deaf_until_us: u64,
}

impl Shared {
    pub(super) fn new(plan: &Plan, watch: Watch) -> Self {
        let setting = &plan.setting;
        let clock = |node| Clock { offset_ms: plan.skew_ms(node, 0), ..Clock::default() };
        Self {
            judge: Judge::new(plan),
            trace: Trace::new(watch),
            machines: (0..setting.nodes).map(|node| Machine { clock: clock(node), ..Machine::default() }).collect(),
            seats: (0..setting.clients).map(Seat::new).collect(),
            crowd: None,
            addresses: Vec::new(),
            sends: 0,
            serials: 0,
        }
    }

    /// Starts a run of `node`; its pump finds it here.
    pub(super) fn boot(&mut self, node: u64, alone: bool, now_us: u64) {
        self.machines[size(node)].is_alone = alone;
        let all_alone =
            self.machines.iter().enumerate().map(|(node, machine)| u64::from(machine.is_alone) << node).sum();
        let alone = alone && self.judge.plan().survivors_meet(all_alone);
        let machine = &mut self.machines[size(node)];
        machine.is_alone = alone;
        let now = Now { mono: Mono(MONO_START_US), wall: machine.clock.wall(now_us) };
        let host = Host::boot(&mut self.judge, node, alone, now, None);
        let run = host.run.0;
        self.trace.note(now_us, &[1, node, run], || format!("n{node} starts run {run}"));
        machine.process = Some(Process { host, is_paused: false, booted_us: now_us, running_us: now_us, open: 0 });
    }

    pub(super) fn wake_crowd(&mut self) {
        if let Some(waker) = self.crowd.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_pump(&mut self, node: u64) {
        if let Some(waker) = self.machines[size(node)].pump.take() {
            waker.wake();
        }
    }
}

impl Machine {
    /// The clocks of its process at `now_us`.
    pub(super) fn now(&self, now_us: u64) -> Option<Now> {
        Some(Now { mono: self.process.as_ref()?.mono(now_us), wall: self.clock.wall(now_us) })
    }
}

impl Process {
    pub(super) const fn mono(&self, now_us: u64) -> Mono {
        Mono(MONO_START_US + now_us - self.booted_us)
    }
}

impl Clock {
    pub(super) fn wall(&self, now_us: u64) -> WallMs {
        let drift_ms = self.drift_ppm * (now_us - self.since_us).cast_signed() / 1_000_000_000;
        WallMs((EPOCH_MS + now_us / 1_000).saturating_add_signed(self.offset_ms + drift_ms))
    }

    /// Jumps by `step_ms` and drifts from now on.
    pub(super) fn set(&mut self, now_us: u64, step_ms: i64, drift_ppm: i64) {
        let lead_ms = self.wall(now_us).0.cast_signed() - (EPOCH_MS + now_us / 1_000).cast_signed();
        *self = Self { offset_ms: lead_ms + step_ms, drift_ppm, since_us: now_us };
    }
}

impl Seat {
    const fn new(number: u64) -> Self {
        Self { client: Client::new(number), session: None, knocks: None, holder: None, deaf_until_us: 0 }
    }

    /// The connection has gone, or never came about, or the client ends it.
    pub(super) fn lost(&mut self, judge: &mut Judge) {
        self.session = None;
        self.holder = None;
        self.client.closed(judge);
    }
}

/// The true time inside a task: the same for all machines but for the part of a step that each has behind it.
pub(super) fn now_us() -> u64 {
    let elapsed = ::turmoil::sim_elapsed().expect("only asked on a simulated machine");
    u64::try_from(elapsed.as_micros()).expect("a run ends within an age")
}
