//! The oracles: they see every step of every node, and hold it against what a converging store may do.
//!
//! The judge knows the plan and the true time. Engines feed it through [`Host`](crate::host::Host), and besides say
//! when a node stops ([`Judge::stopped`]), what clients send ([`Judge::open_session`], [`Judge::asked`]), and when to
//! compare nodes ([`Judge::compare_digests`], [`Judge::disagreement`]). The first failure stays; an engine stops at it.
//!
//! What a node holds is read with `Node::peek` after each input, so that a reply is checked against the state that it
//! was given from, whatever was pipelined with it: `sessions.rs` replays the answered commands on the state before
//! them and `versions.rs` compares the result with the state after them. A session stays with one run, and a run's
//! state never goes back, so reading one's own writes and reading monotonically need no check of their own.

mod admission;
mod agreement;
mod burials;
mod conflicts;
mod copies;
mod counts;
mod durability;
mod leaving;
mod messages;
mod relays;
mod retirement;
mod rot;
mod seats;
mod sessions;
mod sights;
mod versions;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{Gauges, Hlc, LINK_WINDOW_BYTES, Limits, Node, Now, OriginId, Scrubbed, Version, WallMs};

use crate::marks::{Mark, Marks};
use crate::outcome::{Failure, Oracle, Stats};
use crate::plan::{Ask, Fault, Item, Plan, hash_text, size};

pub use admission::Hearsay;
use burials::Burials;
use counts::Counts;
use durability::{Logged, Platter};
pub use messages::Audience;
use relays::Fed;
use retirement::Log;
use seats::Forgot;
use sessions::Session;
pub use sessions::{Reply, SessionId};
use sights::Sight;
use versions::{Entry, Written};
use waits::Told;

/// The wall clock's true reading when a run starts, in milliseconds since the Unix epoch: some day in 2023.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// What a record adds to its value: key, version, lengths, checksum and frame, generously.
const RECORD_BYTES: u64 = 128;

/// Longest line that STATS or a refusal takes.
const LINE_SLACK_BYTES: usize = 16 << 10;

/// A run of a node, numbered over all nodes in the order of their starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// The oracles, with all they remember.
#[derive(Debug)]
pub struct Judge {
    plan: Plan,
    at_us: u64,
    failure: Option<Failure>,
    /// Counted here and by the engine.
    pub stats: Stats,
    /// Seen here and by the engine.
    pub marks: Marks,
    keys: Names,
    counters: Names,
    counts: Counts,
    tokens: BTreeMap<u64, Token>,
    /// Messages: by token, the node that was to pass them on, and how long they are.
    said: BTreeMap<u64, (u64, u64)>,
    runs: Vec<Run>,
    origins: BTreeMap<OriginId, RunId>,
    sessions: Vec<Session>,
    /// How often digests were compared.
    samples: u64,
    /// Replies of commands that were looked at.
    replies: u64,
    /// By client: the node that it speaks to.
    homes: Vec<u64>,
    /// Every version ever seen anywhere, and what it carries.
    versions: BTreeMap<Version, Written>,
    /// By version: what its writer held of the key when it wrote it.
    overwritten: BTreeMap<Version, Version>,
    /// By version: when its client was told of it.
    written_us: BTreeMap<Version, u64>,
    /// By key: the newest version that a run holds which is neither stopped nor superseded.
    held: Vec<Option<Version>>,
    /// By node: the least and greatest that its clock was ahead of the true time.
    leads_ms: Vec<(i64, i64)>,
    /// By node.
    platters: Vec<Platter>,
    burials: Burials,
    /// Every ledger of retired origins ever seen.
    logs: Vec<Log>,
    /// By node: whether the cluster may have been told to forget it, or it came back because others were. What it then
    /// writes anew may be anybody's.
    forgotten: Vec<bool>,
    /// By node: who said that it is forgotten, since a run of it last started or was given a seat.
    forgot: Vec<Vec<Forgot>>,
    /// The versions of flushes: each of them deletes all keys.
    flushes: BTreeSet<Version>,
    /// The versions of deletes of hashes: each of them deletes all fields of one.
    drops: BTreeSet<Version>,
    /// What scrubbing may find where memories lost something.
    findable: u64,
    /// What members that were forgotten while they were up held of runs that were then retired, and who retired those
    /// never had.
    strays: BTreeSet<Version>,
    /// How often a member was forgotten, or gave up its seat.
    gone: u64,
    /// By node: whether it was ever asked to leave.
    leaves: Vec<bool>,
    /// Tokens that clients were told, in order.
    told: Vec<Told>,
    pad_max: u64,
    /// Of keys and values in the plan, with what a record adds to them.
    written_bytes: u64,
    /// The longest that the plan lets a process stand still.
    pause_ms_max: u64,
    /// The longest that anything is under way on a path that the plan slows down.
    /// (`sim/regressions/a-clock-told-by-a-path-slower-than-the-bound`)
    slow_ms_max: u64,
}

/// Keys, and which of them belong to a slot.
#[derive(Debug)]
struct Names {
    /// As nodes store them.
    stored: Vec<Vec<u8>>,
    by_slot: BTreeMap<u16, Vec<u64>>,
}

impl Names {
    fn new(names: impl Iterator<Item = Vec<u8>>) -> Self {
        let stored: Vec<_> = names.collect();
        let mut by_slot: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, name) in (0..).zip(&stored) {
            by_slot.entry(Node::slot_of(name)).or_default().push(key);
        }
        Self { stored, by_slot }
    }

    /// Those whose entries may have changed in `node` since it said so of its changes, and `others`, in order; all if
    /// it has said nothing.
    fn changed(&self, node: &Node, since: Option<u64>, others: impl Iterator<Item = u64>) -> Vec<u64> {
        let Some(slots) = since.and_then(|since| node.changed(since)) else {
            return (0..self.stored.len() as u64).collect();
        };
        let mut keys: Vec<_> =
            slots.filter_map(|slot| self.by_slot.get(&slot)).flatten().copied().chain(others).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// What the plan says of a value.
#[derive(Clone, Copy, Debug)]
struct Token {
    key: u64,
    pad: u64,
    /// The node that its client spoke to when it wrote it.
    home: u64,
}

/// What is known of one run.
#[derive(Debug)]
struct Run {
    node: u64,
    standing: Standing,
    /// Another run of its node was up when it started.
    is_second: bool,
    /// It has given up its seat.
    is_unseated: bool,
    /// A name of its roster, and who has a seat by it, by node.
    roster: u64,
    seats: Vec<bool>,
    /// As much waits for its disk as may.
    is_disk_behind: bool,
    origin: OriginId,
    /// What [`Node::changes`] and [`Node::is_alone`] said when its entries were last looked at.
    looked: Option<(u64, bool)>,
    /// Up to where it had been flushed then, and whether it was alone.
    flushed: Option<Version>,
    was_alone: bool,
    /// By hash: what stood under its own name then.
    covers: Vec<Option<Version>>,
    /// By key: what it held when last looked at. A flush counts as a delete of each key.
    entries: Vec<Option<Entry>>,
    /// The greatest version seen in it.
    newest: Option<Version>,
    /// The greatest reading that its frontier ever covered.
    claimed: Hlc,
    /// The greatest reading of its wall clock.
    wall_max: WallMs,
    /// What was below the tombstones that it has taken out.
    buried: BTreeSet<Version>,
    /// The number of the newest conflict that it listed when last looked at.
    conflicts: u64,
    /// The most bytes that its list of them has taken.
    conflict_bytes: usize,
    /// By key: the newest that its memory lost.
    rotten: BTreeMap<u64, Version>,
    /// What scrubbing had done when last looked at.
    scrubbed: Scrubbed,
    /// Its ledger of retired origins when last looked at: its length and its hash.
    retired: (u32, u64),
    sight: Sight,
    fed: Fed,
    logged: Logged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The newest run of its node.
    Current,
    /// A newer run of its node has started; this one may not know yet.
    Superseded,
    /// It has left its cluster, and is only to be stopped.
    Left,
    Stopped,
}

impl Judge {
    /// Before anything has happened.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let sets = plan.items.iter().filter_map(|(_, item)| match *item {
            Item::Ask { client, ask: Ask::Set { key, token, pad, .. } } => {
                Some((token, Token { key, pad, home: plan.setting.home(client) }))
            }
            _ => None,
        });
        let tokens: BTreeMap<_, _> = sets.collect();
        let factors = plan.items.iter().filter_map(|(_, item)| match *item {
            Item::Fault(Fault::Slow { factor, .. }) => Some(factor),
            _ => None,
        });
        // A draw from the tail of an exponential distribution may be longer; so rarely that no plan has shown it.
        let latency_us_max = plan.setting.latency_us_min + 5 * plan.setting.latency_us_mean;
        let pauses = plan.items.iter().filter_map(|(_, item)| match *item {
            Item::Fault(Fault::Pause { ms, .. } | Fault::Supersede { ms, .. }) => Some(ms),
            _ => None,
        });
        Self {
            pause_ms_max: pauses.max().unwrap_or(0),
            slow_ms_max: factors.max().unwrap_or(0) * latency_us_max / 1_000,
            at_us: 0,
            failure: None,
            stats: Stats::default(),
            marks: Marks::default(),
            counters: Names::new((0..plan.setting.counters).map(|counter| plan.setting.counter_name(counter))),
            counts: Counts::default(),
            keys: Names::new((0..plan.setting.keys).map(|key| plan.setting.key_name(key))),
            pad_max: tokens.values().map(|token| token.pad).max().unwrap_or(0),
            written_bytes: plan.items.len() as u64 * RECORD_BYTES + tokens.values().map(|token| token.pad).sum::<u64>(),
            tokens,
            said: BTreeMap::new(),
            runs: Vec::new(),
            origins: BTreeMap::new(),
            sessions: Vec::new(),
            samples: 0,
            replies: 0,
            homes: (0..plan.setting.clients).map(|client| plan.setting.home(client)).collect(),
            told: Vec::new(),
            versions: BTreeMap::new(),
            overwritten: BTreeMap::new(),
            written_us: BTreeMap::new(),
            held: vec![None; size(plan.setting.keys)],
            platters: (0..plan.setting.nodes).map(|_| Platter::new(size(plan.setting.keys))).collect(),
            burials: Burials::default(),
            logs: Vec::new(),
            forgotten: vec![plan.setting.absence_ms > 0; size(plan.setting.nodes)],
            forgot: vec![Vec::new(); size(plan.setting.nodes)],
            flushes: BTreeSet::new(),
            drops: BTreeSet::new(),
            findable: 0,
            strays: BTreeSet::new(),
            gone: 0,
            leaves: vec![false; size(plan.setting.nodes)],
            leads_ms: vec![(0, 0); size(plan.setting.nodes)],
            plan: plan.clone(),
        }
    }

    /// The plan that is run.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Moves the true time on.
    pub const fn at(&mut self, at_us: u64) {
        self.at_us = at_us;
    }

    /// The true wall clock.
    #[must_use]
    pub const fn true_wall_ms(&self) -> u64 {
        EPOCH_MS + self.at_us / 1_000
    }

    /// The first failure.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Notes a failure, unless there was one.
    pub fn fail(&mut self, oracle: Oracle, detail: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(Failure { oracle, at_us: self.at_us, detail: detail() });
        }
    }

    /// The name of the run that starts next.
    #[must_use]
    pub const fn next_run(&self) -> RunId {
        RunId(self.runs.len() as u64)
    }

    /// A run started. An older one of the same node that did not stop is superseded. `is_loading`: it has files to read
    /// first, and is looked at once it has ([`Judge::loaded`]).
    pub fn booted(&mut self, run: RunId, node: u64, (state, is_loading): (&Node, bool), now: Now) {
        assert_eq!(run, self.next_run(), "runs are numbered in order");
        let is_second = self.is_up(node);
        for old in self.runs.iter_mut().filter(|old| old.node == node && old.standing == Standing::Current) {
            old.standing = Standing::Superseded;
        }
        self.runs.push(Run {
            node,
            standing: Standing::Current,
            is_second,
            is_unseated: false,
            roster: 0,
            seats: vec![false; size(self.plan.setting.nodes)],
            is_disk_behind: false,
            origin: OriginId(0),
            looked: None,
            flushed: None,
            covers: vec![None; size(self.plan.setting.hashes)],
            was_alone: false,
            entries: vec![None; self.keys.stored.len()],
            newest: None,
            claimed: Hlc::ZERO,
            wall_max: now.wall,
            buried: BTreeSet::new(),
            conflicts: 0,
            conflict_bytes: 0,
            rotten: BTreeMap::new(),
            scrubbed: Scrubbed::default(),
            retired: (0, 0),
            sight: Sight::default(),
            fed: Fed::new(is_loading),
            logged: Logged::new(is_loading),
        });
        self.forgot[size(node)].clear();
        self.count_boot();
        self.stats.runs += 1;
        self.recount();
        self.observe(run, state, now, None);
        if !is_loading {
            self.see_others(run, false);
        }
    }

    /// A run and its memory are gone; `crash`: and what its disk has not synced.
    pub fn stopped(&mut self, run: RunId, crash: bool) {
        self.see_stop(run);
        self.stop_restoring(run);
        if self.plan.setting.durable > 0 {
            self.put_down(run, crash);
        }
        self.run_mut(run).standing = Standing::Stopped;
        self.recount();
    }

    /// Whether a newer run of the same node has started.
    #[must_use]
    pub fn is_superseded(&self, run: RunId) -> bool {
        self.run(run).standing == Standing::Superseded
    }

    /// Whether a run has left its cluster.
    #[must_use]
    pub fn has_left(&self, run: RunId) -> bool {
        self.run(run).standing == Standing::Left
    }

    /// How many runs have left their cluster and are still up.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.runs.iter().filter(|run| run.standing == Standing::Left).count() as u64
    }

    /// Looks at a node after something was done with it; `replies` are those of that step.
    pub fn observe(&mut self, run: RunId, node: &Node, now: Now, replies: Option<(SessionId, Vec<Reply>)>) {
        self.look_at_clock(run, now);
        if self.run(run).logged.is_loading {
            if let Some((session, replies)) = replies {
                self.check_loading(run, session, &replies);
            }
            return;
        }
        self.run_mut(run).is_disk_behind = node.is_disk_behind();
        // From here on its member has lost its seat, also if it is killed before it has left, or superseded: what runs
        // in its stead is told so.
        if node.gave_up_seat() && !std::mem::replace(&mut self.run_mut(run).is_unseated, true) {
            self.gone += 1;
        }
        if node.has_left() && self.run(run).standing == Standing::Current {
            self.run_mut(run).standing = Standing::Left;
            self.marks.saw(Mark::LeaveEnded);
            let node = size(self.run(run).node);
            self.platters[node].owe_nothing();
            self.look_at_heritage(run);
            self.recount();
        }
        if node.is_returning() {
            let member = size(self.run(run).node);
            self.forgotten[member] = true;
            // The roster is sealed when there is something to collect, be it of a counter.
            let is_grave = |written: &Written| written.token.is_none() || written.deadline.is_some();
            let forgets = || {
                let deletes = !self.drops.is_empty() || self.versions.values().any(is_grave);
                deletes || !self.counters.stored.is_empty()
            };
            if self.gone == 0 && self.plan.setting.absence_ms == 0 && !forgets() {
                self.fail(Oracle::Lww, || format!("run {} comes back, and there is nothing to forget", run.0));
            }
        }
        self.look_at_return(run, node);
        self.look_at_origin(run, node.origin());
        self.look_at_ledger(run, node);
        let (session, replies) = replies.map_or((None, Vec::new()), |(session, replies)| (Some(session), replies));
        let expected = self.replay(run, session, now, &replies);
        let newest_before = self.run(run).newest;
        // Since when changes are to be looked for; none: everywhere.
        let since = self.run(run).looked.filter(|(_, was_alone)| *was_alone == node.is_alone()).map(|looked| looked.0);
        let since = since.filter(|_| node.flushed() == self.run(run).flushed);
        self.run_mut(run).looked = Some((node.changes(), node.is_alone()));
        let is_news = !replies.is_empty() || since != Some(node.changes());
        if is_news {
            self.look_at_entries(run, node, now, since, &expected);
        }
        self.look_at_relays(run, node);
        self.look_at_seats(run, node);
        self.note_roster(run, node);
        if is_news {
            self.look_at_counts(run, node, now, since, &replies);
            let state = self.run_mut(run);
            (state.flushed, state.was_alone) = (node.flushed(), node.is_alone());
            for (hash, cover) in (0..).zip(&mut state.covers) {
                *cover = node.peek(hash_text(hash).as_bytes()).map(|record| record.version);
            }
        }
        self.look_at_restoring(run, node, &replies);
        if let Some(session) = session {
            self.replies += replies.len() as u64;
            self.note_told(run, session, &replies, newest_before);
            self.look_at_waits(run, session, &replies, newest_before);
        }
    }

    /// Holds a node's gauges against their limits.
    pub fn gauges(&mut self, run: RunId, gauges: &Gauges) {
        let most = &mut self.run_mut(run).conflict_bytes;
        *most = (*most).max(gauges.conflict_bytes.0);
        // And the one record with which it gets there.
        let most = |name: &str, limit: usize| match name {
            "disk_queue_bytes" => limit + size(self.pad_max),
            _ => limit,
        };
        let named = gauges.named();
        let over = named.iter().find(|(name, (now, limit))| *now > most(name, *limit));
        if let Some((name, (now, limit))) = over {
            self.fail(Oracle::Limits, || format!("run {}: {name} is {now}, its limit {limit}", run.0));
        }
    }

    /// Holds what a connection's buffers hold (input not taken, output not sent) against their limits.
    pub fn held(&mut self, run: RunId, is_client: bool, (input, output): (usize, usize)) {
        let limits = Limits::default();
        let read = size(self.plan.setting.window_bytes);
        let (input_max, output_max) = if is_client {
            // One value, or all those that lost.
            let answer = size(self.pad_max).max(self.run(run).conflict_bytes) + LINE_SLACK_BYTES;
            (limits.line_bytes_max + read, size(self.plan.setting.output_bytes_max) + answer)
        } else {
            // A frame holds one record of a plan or a bounded run of them; twice the window is room for one more.
            (2 * LINK_WINDOW_BYTES + read, 2 * LINK_WINDOW_BYTES)
        };
        if input > input_max || output > output_max {
            self.fail(Oracle::Limits, || {
                format!("run {}: a connection holds {input} in, {output} out; {input_max}, {output_max} at most", run.0)
            });
        }
    }

    /// How far clocks were apart at any time, at most: what guards on clocks may hold things up for.
    #[must_use]
    pub fn spread_ms(&self) -> u64 {
        let least = self.leads_ms.iter().map(|lead| lead.0).min().unwrap_or(0);
        let most = self.leads_ms.iter().map(|lead| lead.1).max().unwrap_or(0);
        most.abs_diff(least)
    }

    /// Bytes of keys and values in the plan, with what a record adds to them.
    #[must_use]
    pub const fn bytes_written(&self) -> u64 {
        self.written_bytes
    }

    fn look_at_clock(&mut self, run: RunId, now: Now) {
        let lead = now.wall.0.cast_signed() - self.true_wall_ms().cast_signed();
        let run = self.run_mut(run);
        run.wall_max = run.wall_max.max(now.wall);
        let node = size(run.node);
        let leads = &mut self.leads_ms[node];
        *leads = (leads.0.min(lead), leads.1.max(lead));
    }

    /// Whether the plan gave this run a reason to refuse writes.
    fn may_refuse(&self, run: RunId) -> bool {
        // A node refuses when what it would stamp is too far ahead of its peers: its clock is, or it was and went back,
        // or it took in what others stamped. A quarter of the bound is for what a peer's clock is misjudged by while
        // its words are under way; what a paused process then reads is as old as the pause is long.
        let bound_ms = self.plan.setting.clock_ahead_ms_max;
        // What waits behind all else, in a window and before it, is as old as that takes to pass.
        let setting = &self.plan.setting;
        let waiting_bytes = setting.window_bytes + self.written_bytes;
        let carry_ms = waiting_bytes * 1_000 / setting.bandwidth_bytes_per_s.max(1);
        let apart_ms = self.spread_ms() + self.pause_ms_max + carry_ms + self.slow_ms_max;
        let leaves = self.leaves[size(self.run(run).node)];
        let behind = self.run(run).is_disk_behind;
        let troubled = self.is_troubled(self.run(run).node) || self.is_restoring(self.run(run).node) || behind;
        self.run(run).standing == Standing::Superseded || leaves || troubled || apart_ms > bound_ms - bound_ms / 4
    }

    /// Whether this version deletes more than one key.
    fn is_wide(&self, version: Version) -> bool {
        self.flushes.contains(&version) || self.drops.contains(&version)
    }

    fn run(&self, run: RunId) -> &Run {
        &self.runs[size(run.0)]
    }

    fn run_mut(&mut self, run: RunId) -> &mut Run {
        &mut self.runs[size(run.0)]
    }
}
