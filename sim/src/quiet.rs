//! The quiet phase, the same for both engines: until when the survivors must agree, and what they may say once they do.

use kv_core::{Fsync, Node};

use crate::judge::{Judge, RunId};
use crate::outcome::Oracle;
use crate::plan::{Fault, Item, Setting};

/// After a disk's trouble: the longest that a node waits before it tries again, and a snapshot.
const RECOVERY_MS: u64 = 20_000;

/// Syncs that what is done in the cluster may have to wait for, one after the other.
const SYNCS: u64 = 8;

/// Where the survivors stand in agreeing.
#[derive(Debug, Default)]
pub struct Quiet {
    /// Since when they agree.
    agreed_us: Option<u64>,
    /// When they last did.
    agreed_last_us: u64,
    /// What was sent until they agreed.
    sends_when_agreed: u64,
    /// Their rosters, and when one of them last changed while they still had time.
    rosters: u64,
    seated_us: u64,
    /// They had no more when last looked at.
    was_late: bool,
}

/// What a sample counts.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// What was sent so far.
    pub sends: u64,
    /// The connections that stand.
    pub streams: u64,
    /// A name of the survivors' rosters, see [`rosters`].
    pub rosters: u64,
}

impl Quiet {
    /// Takes a sample: `difference` is what the survivors disagree in, `bound_us` the time that they have from the heal
    /// on. True when the run is over.
    ///
    /// Under a roster that changed shortly before that time has passed, as by a seal for what was freed just then,
    /// nobody has stated anything yet: what waits for that has a time of its own.
    /// (`sim/regressions/a-roster-was-sealed-just-before-the-end`)
    pub fn sample(
        &mut self,
        judge: &mut Judge,
        now_us: u64,
        counts: Counts,
        bound_us: u64,
        difference: Option<String>,
    ) -> bool {
        let setting = &judge.plan().setting;
        let (heartbeat_us, load_us, lingers) =
            (setting.heartbeat_ms * 1_000, setting.load_ms * 1_000, setting.linger == 1);
        let is_late = now_us > load_us + bound_us;
        // Also since the last look before that time.
        if !std::mem::replace(&mut self.was_late, is_late) && self.rosters != counts.rosters {
            (self.rosters, self.seated_us) = (counts.rosters, now_us);
        }
        // At a new cut of the digests nodes differ for a moment.
        let is_apart = self.agreed_last_us == 0 || now_us > self.agreed_last_us + 6 * heartbeat_us;
        if difference.is_none() {
            self.agreed_last_us = now_us;
            if self.agreed_us.is_none() {
                self.agreed_us = Some(now_us);
                self.sends_when_agreed = counts.sends;
                if is_apart {
                    judge.stats.converged_ms = (now_us - load_us) / 1_000;
                }
            }
            // Long enough for whatever is still under way to show.
            let agreed_us = now_us - self.agreed_us.unwrap_or(now_us);
            let over = is_late || (!lingers && agreed_us >= 3 * heartbeat_us);
            if over {
                self.check_idle(judge, agreed_us, counts);
            }
            return over;
        }
        self.agreed_us = None;
        if is_late && is_apart && now_us > self.seated_us + statements_us(setting) {
            judge.fail(Oracle::Convergence, || difference.unwrap_or_default());
        }
        false
    }

    /// Nodes that agree have little to say: heartbeats, and what answers them. Who has left tells each who dials it so,
    /// as often as it is dialed. (`sim/regressions/who-has-left-is-dialed-for-ever`)
    fn check_idle(&self, judge: &mut Judge, agreed_us: u64, Counts { sends, streams, .. }: Counts) {
        let setting = &judge.plan().setting;
        let beats = agreed_us / (setting.heartbeat_ms * 1_000) + 2;
        let redials = agreed_us / (longest_redial_ms(setting) * 500) + 2;
        let dialed = judge.left() * (setting.nodes - 1);
        // A sweep that brings nothing may be under way when they agree.
        let swept = judge.bytes_written() * setting.nodes / 1_000;
        let (sent, limit) = (sends - self.sends_when_agreed, 64 + swept + 8 * (beats * streams + redials * dialed));
        if sent > limit {
            judge.fail(Oracle::Liveness, || format!("{sent} sends in {beats} heartbeats without work, not {limit}"));
        }
    }
}

/// From the heal until the survivors must agree.
#[must_use]
pub fn bound_us(judge: &Judge) -> u64 {
    let setting = &judge.plan().setting;
    // To notice dead links, dial again, be refused or not answered, and settle whose records are whose.
    let links_ms =
        setting.silence_ms + longest_redial_ms(setting) + 8 * setting.dial_retry_ms + 10 * setting.heartbeat_ms;
    let origins_ms = setting.relay_ms + setting.orphan_ms + 3 * setting.collect_ms;
    // Everything from everybody once, by a slow path.
    let bytes = judge.bytes_written() * setting.nodes * setting.nodes;
    let carry_ms = bytes * 1_000 / setting.bandwidth_bytes_per_s.max(1);
    // Clocks: what was stamped ahead waits for the others; digests move their cut every 10 s.
    let clocks_ms = 2 * judge.spread_ms() + 11_000;
    // What was lost is looked for again and again, the later the less was found.
    let rests_ms = if judge.plan().rots() > 0 { 150 * setting.heartbeat_ms } else { 0 };
    1_000 * (rests_ms + disks_ms(judge) + 3 * (links_ms + origins_ms) + trips_ms(setting) + carry_ms + clocks_ms)
}

/// A name of the rosters of these nodes, in this order.
#[must_use]
pub fn rosters(nodes: &[(RunId, &Node)]) -> u64 {
    nodes.iter().fold(0, |name: u64, (_, node)| name.rotate_left(7) ^ node.roster())
}

/// Until everybody has stated to everybody what it has under a new roster, and that it is on its disk, and what waited
/// for it is done.
const fn statements_us(setting: &Setting) -> u64 {
    let beats_ms = 10 * setting.heartbeat_ms + 3 * setting.collect_ms;
    1_000 * (beats_ms + trips_ms(setting) + SYNCS * sync_ms(setting, 0))
}

/// A hundred round trips.
const fn trips_ms(setting: &Setting) -> u64 {
    (setting.latency_us_min + 5 * setting.latency_us_mean) / 5
}

/// Until a sync that has to wait for another is done, if a slow disk adds `slow_us`, and how far apart syncs are.
const fn sync_ms(setting: &Setting, slow_us: u64) -> u64 {
    let every_ms = match setting.fsync() {
        None => return 0,
        Some(Fsync::Always) => 0,
        Some(Fsync::EverySec) => 1_000,
        Some(Fsync::No) => 30_000,
    };
    (4 * setting.sync_us_mean + slow_us) / 1_000 + every_ms
}

/// What disks may hold things up for: deletes are forgotten once they are synced everywhere, and a disk that failed is
/// left alone for a while.
fn disks_ms(judge: &Judge) -> u64 {
    let setting = &judge.plan().setting;
    if setting.durable == 0 {
        return 0;
    }
    let faults = || judge.plan().items.iter().map(|(_, item)| item);
    let slow_us = faults().filter_map(|item| match *item {
        Item::Fault(Fault::DiskSlow { us, .. }) => Some(us),
        _ => None,
    });
    let fails = faults().any(|item| matches!(item, Item::Fault(Fault::DiskFull { .. } | Fault::DiskFail { .. })));
    SYNCS * sync_ms(setting, slow_us.max().unwrap_or(0)) + setting.load_us + if fails { RECOVERY_MS } else { 0 }
}

/// The longest wait of a node before it dials a peer again.
fn longest_redial_ms(setting: &Setting) -> u64 {
    setting.redial_ms_max.max(setting.redial_ms_min).max(1)
}
