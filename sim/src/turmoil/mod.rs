//! The turmoil engine: the same plan, hosts and judge over a simulated TCP that we did not write.
//!
//! Each node is a machine of turmoil's with one task, its `pump`; all clients share one machine more (`crowd`). The
//! engine makes steps of a millisecond and lets the plan's items happen between them. What a plan asks for and turmoil
//! does otherwise:
//!
//! | plan | here |
//! |---|---|
//! | partition, cut | what is sent is lost for good: that stream stands still until an end gives it up |
//! | stall | held in both directions; nothing while the same two are cut |
//! | slow | both directions, and only what comes on top of the shortest latency |
//! | reset | both ends are closed by their pumps |
//! | half-open | both pumps stop moving its bytes, and its sockets stay to the end of the run |
//! | kill, silent | the machine is cut off first, for turmoil says farewell; put back at its restart |
//! | pause | the pump does nothing; its sockets stay |
//! | supersede | the old run ends instead of going on later: a machine has one program |
//! | clock | a clock in the engine beside turmoil's time |
//! | dials | what is sent into a cut is refused at once by turmoil; the pump waits and tries again as a system would |
//! | chunking | the pumps cut their reads; turmoil hands over each write as it was made |
//! | latency | in whole milliseconds, up to five times the mean |
//! | window | counted by the pumps: turmoil bounds what is under way by writes of any size |
//! | bandwidth, thin | any |
//! | garble | what either writes next |
//! | intrude | none: who accepts knows whose port is whose |
//! | disks | none: a node starts with nothing, and a crash is a silent kill |
//!
//! Deterministic: one thread, one generator (turmoil's, seeded), a fixed epoch, all polling in a fixed order.

mod crowd;
mod faults;
mod net;
mod pump;
mod shared;
mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ::turmoil::{Builder, Sim};
use tokio::task::JoinError;

use crate::judge::{EPOCH_MS, RunId};
use crate::outcome::{Oracle, Outcome};
use crate::plan::{Plan, Setting, size};
use crate::quiet::{self, Counts, Quiet};
use crate::rng::keyed;
use crate::trace::Watch;
use net::{CROWD, Net, name};
use shared::Shared;

/// Length of a step: the finest that turmoil measures time in, and twice that for clusters with the timers of
/// production, in which nothing depends on a millisecond. Every step polls every machine, whether anything happens
/// there or not.
const fn tick_ms(setting: &Setting) -> u64 {
    if setting.heartbeat_ms < 400 { 1 } else { 2 }
}

/// Segments in flight on a connection, and dials that wait at a machine: past it turmoil panics, and a paused node with
/// every other node and client dialing it meets a tenth of it.
const TCP_CAPACITY: usize = 1_024;

/// Longest latency, whatever slows a link: what is under way at the heal is through soon after it.
const LATENCY_MS_MAX: u64 = 2_000;

/// How long a client waits for a reply, at least, while its node runs.
const PATIENCE_US: u64 = 1_500_000;

/// Between two looks at whether a client waits too long.
const LOOK_US: u64 = 500_000;

/// Runs `plan` and judges it.
#[must_use]
pub fn run(plan: &Plan, watch: Watch) -> Outcome {
    let mut plan = plan.clone();
    plan.setting.durable = 0;
    let mut engine = Engine::new(&plan, watch);
    while engine.shared.borrow().judge.failure().is_none() && !engine.over {
        engine.happen();
        engine.step();
        engine.look();
    }
    let Engine { sim, shared, now_us, .. } = engine;
    drop(sim);
    let shared = Rc::into_inner(shared).expect("the machines are gone").into_inner();
    let mut stats = shared.judge.stats;
    stats.simulated_ms = now_us / 1_000;
    let (hash, (tail, story)) = (shared.trace.hash(), shared.trace.into_parts());
    Outcome {
        verdict: shared.judge.failure().cloned().map_or(Ok(()), Err),
        trace_hash: hash,
        stats,
        marks: shared.judge.marks,
        data: shared.judge.data(),
        tail,
        story,
    }
}

struct Engine<'a> {
    plan: &'a Plan,
    sim: Sim<'static>,
    shared: Rc<RefCell<Shared>>,
    net: Rc<RefCell<Net>>,
    now_us: u64,
    /// The next of the plan's items.
    next_item: usize,
    /// What ends when, in order; the second number orders what is due at once.
    later: BTreeMap<(u64, u64), Later>,
    /// By `from * nodes + to`.
    slow: Vec<u64>,
    healed: bool,
    quiet: Quiet,
    next_sample_us: u64,
    next_look_us: u64,
    over: bool,
}

/// What is to happen later.
#[derive(Clone, Copy, Debug)]
enum Later {
    Uncut {
        from: u64,
        to: u64,
    },
    Unstall {
        from: u64,
        to: u64,
    },
    Unslow {
        from: u64,
        to: u64,
        factor: u64,
    },
    Thaw {
        node: u64,
        run: RunId,
    },
    Restart {
        node: u64,
        alone: bool,
    },
    /// A client listens again.
    Hear,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan, watch: Watch) -> Self {
        let setting = &plan.setting;
        let (min_ms, spread_ms) = latency_ms(setting);
        let mut sim = Builder::new()
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS))
            .rng_seed(keyed(plan.seed, &[0x7e9]))
            .tick_duration(Duration::from_millis(tick_ms(setting)))
            .simulation_duration(Duration::MAX)
            .tcp_capacity(TCP_CAPACITY)
            .min_message_latency(Duration::from_millis(min_ms))
            .max_message_latency(Duration::from_millis(min_ms + spread_ms))
            .enable_random_order()
            .build();
        let mut shared = Shared::new(plan, watch);
        let net = Rc::new(RefCell::new(Net::new(setting.nodes)));
        shared.addresses = (0..setting.nodes).map(|node| sim.lookup(name(node))).collect();
        for node in 0..setting.nodes {
            shared.boot(node, false, 0);
        }
        let shared = Rc::new(RefCell::new(shared));
        for node in 0..setting.nodes {
            let (shared, net) = (Rc::clone(&shared), Rc::clone(&net));
            sim.host(name(node), move || pump::run(Rc::clone(&shared), Rc::clone(&net), node));
        }
        sim.client(CROWD, crowd::run(Rc::clone(&shared), Rc::clone(&net)));
        for node in 0..setting.nodes {
            sim.set_link_latency(CROWD, name(node), Duration::ZERO);
        }
        Self {
            plan,
            sim,
            shared,
            net,
            now_us: 0,
            next_item: 0,
            later: BTreeMap::new(),
            slow: vec![0; size(setting.nodes * setting.nodes)],
            healed: false,
            quiet: Quiet::default(),
            next_sample_us: 0,
            next_look_us: 0,
            over: false,
        }
    }

    /// Everything that is due.
    fn happen(&mut self) {
        self.shared.borrow_mut().judge.at(self.now_us);
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now_us) {
            let later = entry.remove();
            self.happen_late(later);
        }
        if !self.healed && self.now_us >= self.plan.setting.load_ms * 1_000 {
            self.heal();
        }
        while let Some((at_us, _)) = self.plan.items.get(self.next_item)
            && *at_us <= self.now_us
        {
            self.next_item += 1;
            self.item(self.next_item - 1);
        }
    }

    fn happen_late(&mut self, later: Later) {
        match later {
            Later::Hear => self.shared.borrow_mut().wake_crowd(),
            _ if self.healed => {}
            Later::Thaw { node, run } => self.thaw(node, Some(run)),
            Later::Uncut { from, to } => {
                self.net.borrow_mut().cut_less(from, to);
                self.tell_net();
            }
            Later::Unstall { from, to } => {
                self.net.borrow_mut().stall_less(from, to);
                self.tell_net();
            }
            Later::Unslow { from, to, factor } => {
                self.slow[size(from * self.plan.setting.nodes + to)] -= factor;
                self.set_latency(from, to);
            }
            Later::Restart { node, alone } => self.restart(node, alone),
        }
    }

    fn after_ms(&mut self, ms: u64, later: Later) {
        let at_us = self.now_us + ms * 1_000;
        let tie = self.later.range((at_us, 0)..=(at_us, u64::MAX)).next_back().map_or(0, |((_, tie), _)| tie + 1);
        self.later.insert((at_us, tie), later);
    }

    /// Lets turmoil run for a tick. A task's end is reported by it, and a task of ours ends only by a panic: it goes on
    /// here, as it does in the other engine.
    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            match error.downcast::<JoinError>() {
                Ok(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Ok(error) => panic!("a machine stopped: {error}"),
                Err(error) => panic!("a machine stopped: {error}"),
            }
        }
        self.now_us += tick_ms(&self.plan.setting) * 1_000;
    }

    /// Compares digests, survivors and clients' patience, each at its time.
    fn look(&mut self) {
        self.shared.borrow_mut().judge.at(self.now_us);
        if self.now_us >= self.next_sample_us {
            self.next_sample_us += (self.plan.setting.heartbeat_ms * 500).max(1_000);
            self.sample();
        }
        if self.now_us >= self.next_look_us {
            self.next_look_us += LOOK_US;
            for client in 0..self.plan.setting.clients {
                self.look_at_client(client);
            }
        }
    }

    fn sample(&mut self) {
        let shared = &mut *self.shared.borrow_mut();
        let current = shared.machines.iter().filter_map(|machine| Some((machine, machine.process.as_ref()?)));
        let nodes: Vec<_> =
            current.clone().map(|(_, process)| (process.host.run, process.host.turn().node())).collect();
        shared.judge.compare_digests(&nodes);
        if self.healed {
            let walls: Vec<_> = current.clone().map(|(machine, _)| machine.clock.wall(self.now_us)).collect();
            let difference = shared.judge.disagreement(&nodes, &walls);
            let streams = current.map(|(_, process)| process.open).sum();
            let counts = Counts { sends: shared.sends, streams, rosters: quiet::rosters(&nodes) };
            // Streams that stand still after a cut are noticed once more; a message takes a step at least.
            let bound_us = quiet::bound_us(&shared.judge)
                + 1_000 * (self.plan.setting.silence_ms + 200 * tick_ms(&self.plan.setting));
            self.over = self.quiet.sample(&mut shared.judge, self.now_us, counts, bound_us, difference);
            if self.over {
                shared.judge.check_walks(&nodes);
            }
        }
    }

    /// Whether a client waits for longer than a running node may let it.
    fn look_at_client(&self, client: u64) {
        let shared = &mut *self.shared.borrow_mut();
        let seat = &shared.seats[size(client)];
        let Some(waits_us) = seat.client.waits_us(self.now_us) else { return };
        // A connection to a run that has ended is not heard of before its machine runs again.
        let process = shared.machines[size(shared.judge.home(client))].process.as_ref();
        let held = process.filter(|process| !process.is_paused).zip(seat.holder);
        let held = held.filter(|(process, (run, _))| *run == process.host.run);
        let running_us = held.map_or(0, |(process, (_, since_us))| self.now_us - since_us.max(process.running_us));
        let hears_us = self.now_us.saturating_sub(seat.deaf_until_us);
        let session = seat.session;
        let may_wait = session.is_some_and(|session| shared.judge.may_wait_for_ever(session));
        if !may_wait && waits_us.min(running_us).min(hears_us) > PATIENCE_US {
            shared.judge.fail(Oracle::Availability, || format!("client {client} waits for {waits_us} us, {session:?}"));
        }
        if waits_us > 2 * PATIENCE_US {
            shared.seats[size(client)].lost(&mut shared.judge);
            shared.wake_crowd();
        }
    }

    fn note(&self, words: &[u64], text: impl FnOnce() -> String) {
        self.shared.borrow_mut().trace.note(self.now_us, words, text);
    }
}

/// The shortest latency, and what may come on top of it: turmoil draws that from an exponential with a mean of a fifth.
fn latency_ms(setting: &Setting) -> (u64, u64) {
    (setting.latency_us_min / 1_000, (setting.latency_us_mean * 5).div_ceil(1_000))
}
