//! A node and its disk: when it says where it stands, what of that counts, and when a snapshot is due.

use crate::boundary::Effects;
use crate::config::{Config, DiskConfig};
use crate::disk::frames::{FORMAT, Header, MarkOf, Standing, emit_mark};
use crate::disk::load_failure::LoadFailure;
use crate::disk::log::{Health, Opening};
use crate::disk::recovery::{ReadAt, Recovery};
use crate::disk::saver::Saver;
use crate::disk::{DiskError, DiskWork, Durable, FileId, FileKind, Lane, Told};
use crate::node::Node;
use crate::rand::Rand;
use crate::repl::{Context, Replication, Stated};
use crate::replica::{Exposure, Replica};
use crate::time::{Mono, Now, WallMs};
use crate::version::{Hlc, OriginId};
use crate::wire::{lists, peer, retired};

/// Which part of the bound on clocks a ceiling lies above the clock: a restart moves the clock by at most that much.
const CEILING_SHARE: u64 = 16;

/// Which part of that, once the clock is ahead of the wall's: who is started again and again soon waits as long as it
/// takes to start, and does not run away from its peers.
const AHEAD_SHARE: u64 = 16;

/// What a node with a disk keeps besides its log.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) saver: Saver,
    /// Set while the data directory is read.
    pub(crate) recovery: Option<Recovery>,
    /// Where the node stood at that position of the log, which a sync under way covers.
    captured: Option<(u64, Stated)>,
    /// When to look next whether anything has changed that is not logged.
    look: Mono,
    stood: Option<Stood>,
    /// Where in the log stands that peers may see what this run writes, until that is synced.
    shown: Option<u64>,
    /// Up to where the log is to be synced before this run does anything: what it stamps and says must be above what
    /// every earlier run did, also if it ends before its first second is over.
    opening: Option<u64>,
    /// Some of what was read may be with the system only, as it was never synced, until what the log opens with is.
    is_unproven: bool,
    /// The disk failed before that was: a crash may take back what was read, so peers see none of it before a snapshot
    /// has it.
    /// (`sim/regressions/a-sync-failed-again-at-a-start-and-a-crash-took-back-what-peers-had-seen`)
    pub(crate) is_withheld: bool,
    /// Up to where it is to be synced at once: a ceiling is near.
    rising: Option<u64>,
    marks: u64,
    ceiling: Hlc,
    /// What was read of it.
    resumed: Hlc,
    wall: WallMs,
    salts: Rand,
    /// What could not be read at the start, until this node has from others what it lost.
    pub(crate) damage: Damage,
}

/// What could not be read at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Places, and bytes there.
    pub(crate) places: u64,
    pub(crate) bytes: u64,
}

/// How the log goes on that was read.
#[derive(Debug)]
pub(crate) struct Resumed {
    /// The segment that is begun.
    pub(crate) number: u32,
    /// Of the one before it counts so much, ...
    pub(crate) prev_bytes: u64,
    /// ... though so much was read.
    pub(crate) read_bytes: u64,
    /// Segments of which nobody knows that they were synced.
    pub(crate) unsynced: Vec<u32>,
    /// Segments that never began, which those that follow take the places of.
    pub(crate) useless: Vec<u32>,
    /// What was read behind `prev_bytes`, whole frames: after a sync that failed the system shows what the disk does
    /// not have, and a run that has ended cannot tell.
    pub(crate) copy: Vec<u8>,
    /// It is damaged: what is there is written anew, whole, before anything counts.
    pub(crate) is_damaged: bool,
}

/// What a change of makes a mark due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stood {
    exposure: Exposure,
    own: OriginId,
    hidden: (usize, usize),
    whole: bool,
    incarnation: u64,
    told: Told,
}

impl Keeper {
    pub(crate) fn new(seed: [u64; 4], disk: &DiskConfig) -> Self {
        Self {
            saver: Saver::default(),
            recovery: Some(Recovery::new(&[], disk.strict)),
            captured: None,
            look: Mono(0),
            stood: None,
            shown: None,
            opening: None,
            is_unproven: false,
            is_withheld: false,
            rising: None,
            marks: 0,
            ceiling: Hlc::ZERO,
            resumed: Hlc::ZERO,
            wall: WallMs(0),
            // Salts are drawn apart: what a node does otherwise does not depend on having a disk.
            salts: Rand::new(seed.map(|word| !word)),
            damage: Damage::default(),
        }
    }

    fn salt(&mut self) -> u64 {
        draw_salt(&mut self.salts)
    }
}

/// A salt is never 0, as what was not written is.
fn draw_salt(salts: &mut Rand) -> u64 {
    salts.next_u64() | 1
}

impl Node {
    /// The data directory has these files, each with its length in bytes. To be called before the first turn of a node
    /// with a [disk](Config::disk), also if there are none; then, while [`next_read`](Self::next_read) asks for
    /// something, that is to be read and [handed in](Self::loaded).
    pub fn begin_load(&mut self, now: Now, files: &[(FileId, u64)]) {
        let Some(keeper) = &mut self.keeper else { return };
        let strict = self.config.disk.as_ref().is_some_and(|disk| disk.strict);
        let mut recovery = Recovery::new(files, strict);
        // What was collected of a key that is read again is not known.
        self.replica.collected.note_elsewhere(Hlc(u64::MAX));
        recovery.start(&mut self.replica);
        keeper.recovery = Some(recovery);
        self.end_load(now);
    }

    /// What of the data directory is to be read next.
    #[must_use]
    pub fn next_read(&self) -> Option<ReadAt> {
        self.keeper.as_ref()?.recovery.as_ref()?.next_read()
    }

    /// Takes in what was read: fewer bytes than asked for if the file ends there.
    pub fn loaded(&mut self, now: Now, read: Result<&[u8], DiskError>) {
        let Some(recovery) = self.keeper.as_mut().and_then(|keeper| keeper.recovery.as_mut()) else { return };
        recovery.loaded(now, read, (&self.config, &mut self.replica));
        self.end_load(now);
    }

    /// Bytes of the data directory that were read, and how many there are; none once the node runs, which is when the
    /// log that it has begun is on the disk.
    #[must_use]
    pub fn load_progress(&self) -> Option<(u64, u64)> {
        let keeper = self.keeper.as_ref()?;
        let opening = keeper.opening.map(|_| (1, 1));
        keeper.recovery.as_ref().map_or(opening, |recovery| Some(recovery.progress()))
    }

    /// While the node is loading, or has yet to begin its log: how much was read, in percent.
    pub(crate) fn loading(&self) -> Option<u64> {
        self.load_progress().map(|(done, all)| (100 * done).checked_div(all).unwrap_or(100))
    }

    /// Places of the data directory that could not be read, until this node has from others what it lost.
    #[must_use]
    pub fn damage(&self) -> u64 {
        self.keeper.as_ref().map_or(0, |keeper| keeper.damage.places)
    }

    /// Whether the disk works again after it failed, and lacks what was taken in meanwhile: a snapshot is to bring it.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.replica.log.as_ref().is_some_and(|log| log.health() == Health::Gap)
    }

    /// Whether peers are kept away, as what was read at the start may not be on the disk, which has failed since.
    pub(crate) fn is_withheld(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.is_withheld)
    }

    /// Why the node must not run on that data directory, if so.
    #[must_use]
    pub fn load_failure(&self) -> Option<&LoadFailure> {
        self.keeper.as_ref()?.recovery.as_ref()?.failure.as_ref()
    }

    fn end_load(&mut self, now: Now) {
        let Some(keeper) = &mut self.keeper else { return };
        if let Some(recovery) = keeper.recovery.take_if(|recovery| recovery.is_done()) {
            recovery.finish(now, keeper, &self.config, (&mut self.replica, &mut self.repl));
        }
    }

    /// Bytes of frames that were logged, and how many of them count as written for a reply: those that are synced where
    /// replies wait for that, and all others.
    pub(crate) fn logged(&self) -> (u64, u64) {
        let Some(log) = &self.replica.log else { return (0, 0) };
        let (appended, synced) = log.positions();
        (appended, if log.is_always() { synced } else { appended })
    }

    /// Swaps out what a lane of the disk is to do; true if there is something. To be called once all input of a turn
    /// was taken, before the replies go out, and again at its end.
    pub fn take_disk(&mut self, now: Now, lane: Lane, work: &mut DiskWork) -> bool {
        work.clear();
        let Some(keeper) = &mut self.keeper else { return false };
        if keeper.recovery.is_some() {
            return false;
        }
        match lane {
            Lane::Log => {
                let Self { config, replica, repl, .. } = self;
                keeper.plan(now, config, replica, repl);
                replica.log.as_mut().is_some_and(|log| log.take(work))
            }
            Lane::Snapshot => {
                let Self { replica, repl, .. } = self;
                keeper.step(replica, repl);
                keeper.saver.clear_away(now.mono);
                keeper.saver.take(work)
            }
        }
    }

    /// The node is about to stop, and takes nothing more. To be called before its log is taken for the last time.
    pub(crate) fn end_log(&mut self) {
        let is_begun = self.keeper.as_ref().is_some_and(|keeper| keeper.recovery.is_none() && keeper.opening.is_none());
        if let Some(log) = self.replica.log.as_mut().filter(|_| is_begun) {
            log.end();
        }
    }

    /// So many more operations of a lane were carried out.
    pub(crate) fn disk_done(&mut self, now: Now, lane: Lane, ops: u32, effects: &mut Effects) {
        let was_behind = self.replica.is_disk_behind();
        let Some(keeper) = &mut self.keeper else { return };
        let Some(log) = &mut self.replica.log else { return };
        match lane {
            Lane::Log => {
                let was = log.health();
                let grew = log.done(now.mono, ops);
                if matches!(was, Health::Trying { .. }) && log.health() == Health::Gap {
                    tracing::info!("the disk takes writes again; a snapshot is written before anything is counted on");
                }
                let (synced, is_whole) = (log.positions().1, log.health() == Health::Whole);
                keeper.opening.take_if(|upto| *upto <= synced);
                keeper.rising.take_if(|upto| *upto <= synced);
                // What was written anew in place of what nobody may see has to be there, too.
                if is_whole && keeper.shown.take_if(|upto| *upto <= synced).is_some() {
                    self.repl.show(now, &mut self.replica);
                }
                if grew && is_whole {
                    keeper.count_on(now, &mut self.replica, &mut self.repl);
                }
                let Self { config, replica, repl, .. } = self;
                repl.answer_asked(now, &mut Context { config, replica, effects });
                self.waiters.stir();
            }
            Lane::Snapshot => {
                if let Some((number, bytes)) = keeper.saver.done(ops) {
                    log.saved(number);
                    if log.health() == Health::Whole && std::mem::take(&mut keeper.is_withheld) {
                        tracing::info!("what was read is on the disk: peers are met again");
                    }
                    // Nothing is counted on during a gap: where it stands is synced once more.
                    self.replica.mark_due = true;
                    tracing::info!(bytes, "a snapshot is whole");
                }
            }
        }
        if was_behind && !self.replica.is_disk_behind() {
            tracing::info!("the disk has caught up: writes are taken again");
            self.repl.take_again(now, &self.replica);
        }
    }

    /// An operation of a lane failed.
    pub(crate) fn disk_failed(&mut self, now: Now, lane: Lane, error: DiskError) {
        let Some(keeper) = &mut self.keeper else { return };
        let Some(log) = &mut self.replica.log else { return };
        match lane {
            Lane::Log => {
                if !matches!(log.health(), Health::Trying { .. }) {
                    tracing::error!(?error, "the disk failed: no writes are taken until it works again");
                }
                log.failed(now.mono, error);
                (keeper.captured, keeper.shown) = (None, None);
                if keeper.is_unproven && keeper.opening.is_some() {
                    tracing::error!("what was read may not be on the disk: peers are kept away until it is");
                    keeper.is_withheld = true;
                }
                (keeper.opening, keeper.rising) = (None, None);
                keeper.saver.give_up();
            }
            Lane::Snapshot => {
                let what = match keeper.saver.failed(now.mono, error) {
                    true => "no snapshot could be written; the log is kept, and it is tried again",
                    false => "a file that is not needed any more could not be removed; it is tried again",
                };
                tracing::error!(?error, "{what}");
            }
        }
    }

    /// When the disk wants a turn.
    pub(crate) fn disk_deadline(&self) -> Option<Mono> {
        let keeper = self.keeper.as_ref().filter(|_| self.loading().is_none())?;
        let log = self.replica.log.as_ref().and_then(|log| log.deadline());
        let saver = keeper.saver.has_work().then_some(Mono(0));
        let wants = || keeper.saver.has_useless() || keeper.wants_snapshot(&self.config, &self.replica);
        let retry = keeper.saver.retry().filter(|_| wants());
        [log, saver, retry].into_iter().flatten().min()
    }
}

impl Keeper {
    /// What is left to do at the end of a turn.
    fn plan(&mut self, now: Now, config: &Config, replica: &mut Replica, repl: &mut Replication) {
        self.wall = now.wall;
        let Self { salts, .. } = self;
        let Some(log) = replica.log.as_mut().filter(|log| !log.is_ended()) else { return };
        if log.retry(now.mono, || draw_salt(salts)) {
            self.mark_all(config, replica, repl);
            if let Some(log) = &mut replica.log {
                log.sync();
            }
            return;
        }
        // A segment that is being tried is followed by none before it is known to be there.
        if matches!(log.health(), Health::Failed { .. } | Health::Trying { .. }) {
            return;
        }
        let is_full = log.is_full();
        if self.wants_snapshot(config, replica) && self.saver.may_begin(now.mono) {
            self.begin_snapshot(config, replica, repl);
        } else if is_full {
            let salt = self.salt();
            if let Some(log) = &mut replica.log {
                log.rotate(salt);
            }
            self.mark_all(config, replica, repl);
        } else if self.is_near_ceiling(config, replica) {
            self.mark(config, replica, repl);
            self.rising = replica.log.as_ref().map(|log| log.positions().0);
        } else if replica.mark_due && !replica.is_disk_behind() || self.stood != Some(stood(replica, repl)) {
            self.mark(config, replica, repl);
        }
        let Some(log) = &mut replica.log else { return };
        let synced = log.positions().1;
        let is_wanted = [self.shown, self.rising].into_iter().flatten().any(|upto| upto > synced);
        let syncs = log.plan_sync(now.mono, is_wanted);
        let (upto, is_behind) = (log.positions().0, log.is_behind());
        let is_whole = log.health() == Health::Whole;
        // Who comes back claims something else in a moment.
        if replica.is_returning() {
            self.captured = None;
            return;
        }
        if self.captured.is_some() || !is_whole {
            return;
        }
        if syncs {
            self.captured = Some((upto, repl.stated(replica)));
        } else if !is_behind && now.mono >= self.look {
            // Which runs have settled is no matter of the log.
            self.look = now.mono.plus_ms(config.timers.heartbeat_ms);
            self.captured = Some((upto, repl.stated(replica)));
            self.count_on(now, replica, repl);
        }
    }

    /// A sync is done: what was captured before it counts from now on.
    fn count_on(&mut self, now: Now, replica: &mut Replica, repl: &mut Replication) {
        let Some(synced) = replica.log.as_ref().map(|log| log.positions().1) else { return };
        let Some((_, stated)) = self.captured.take_if(|(upto, _)| *upto <= synced) else { return };
        replica.durable = Some(Durable { claims: stated.known.claims.clone(), retired: stated.retired });
        repl.state_durable(now, stated);
    }

    fn wants_snapshot(&self, config: &Config, replica: &Replica) -> bool {
        let (Some(log), Some(disk)) = (&replica.log, &config.disk) else { return false };
        let last_bytes = self.saver.whole.map_or(0, |(_, bytes)| bytes);
        let ratio = u64::from(disk.snapshot_ratio_percent);
        let outgrown = log.since_snapshot > (last_bytes / 100).saturating_mul(ratio).max(disk.snapshot_bytes_min);
        // None is begun before the log is written to again.
        let is_taken = matches!(log.health(), Health::Whole | Health::Gap);
        is_taken && !self.saver.is_under_way() && (self.saver.is_asked || log.health() == Health::Gap || outgrown)
    }

    fn begin_snapshot(&mut self, config: &Config, replica: &mut Replica, repl: &Replication) {
        let (salt, part_salt) = (self.salt(), self.salt());
        let Some(log) = &mut replica.log else { return };
        let first = self.saver.whole.map_or(1, |(number, _)| number);
        log.rotate(salt);
        let number = log.segment();
        log.saving();
        self.saver.old.extend((first..number).map(FileId::log));
        self.saver.old.sort_unstable();
        self.saver.old.dedup();
        self.mark_all(config, replica, repl);
        let mut standing = Vec::new();
        lists::emit_writers(repl.writers.since(0), &mut standing);
        self.emit_standing(&mut Told::default(), config, replica, repl, true, &mut standing);
        let header = Header {
            format: FORMAT,
            kind: FileKind::Snapshot,
            number,
            salt: part_salt,
            prev_bytes: 0,
            has_gap: false,
            is_restored: false,
            cluster: &config.cluster,
            name: &config.name,
        };
        self.saver.begin(&header, &standing);
    }

    /// Writes some more of the snapshot under way.
    fn step(&mut self, replica: &Replica, repl: &Replication) {
        let Self { saver, marks, ceiling, .. } = self;
        let Some((appended, synced)) = replica.log.as_ref().map(|log| log.positions()) else { return };
        let number = *marks;
        saver.step(&replica.store, appended, |out| {
            emit_all(&mut Told::default(), (number, *ceiling), replica, repl, false, out);
        });
        saver.finish(synced);
    }

    /// Whether what is stamped may soon be above what the log says.
    fn is_near_ceiling(&self, config: &Config, replica: &Replica) -> bool {
        let is_near = replica.clock().ms() + self.lead_ms(config, replica) / 2 > self.ceiling.ms();
        is_near && replica.log.as_ref().is_some_and(|log| log.is_behind())
    }

    /// How far a ceiling lies above the clock.
    fn lead_ms(&self, config: &Config, replica: &Replica) -> u64 {
        let lead_ms = config.timers.clock_ahead_ms_max / CEILING_SHARE;
        // Ahead by its own last ceiling, and not by what peers have stamped since.
        let clock_ms = replica.clock().ms();
        let is_ahead = clock_ms > self.wall.0 && clock_ms < self.resumed.ms() + lead_ms;
        if is_ahead { lead_ms.div_ceil(AHEAD_SHARE) } else { lead_ms }
    }

    /// Says in the log where the node stands, by what the segment was not told yet.
    fn mark(&mut self, config: &Config, replica: &mut Replica, repl: &Replication) {
        let Some(mut log) = replica.log.take() else { return };
        let mut told = log.told;
        log.emit(|out| self.emit_standing(&mut told, config, replica, repl, true, out));
        log.told = told;
        replica.log = Some(log);
        replica.mark_due = false;
        self.stood = Some(stood(replica, repl));
        if replica.is_unmarked && replica.reissued.is_empty() && self.shown.is_none() {
            self.shown = replica.log.as_ref().map(|log| log.positions().0);
        }
    }

    /// Says all of it.
    fn mark_all(&mut self, config: &Config, replica: &mut Replica, repl: &Replication) {
        if let Some(log) = &mut replica.log {
            log.told = Told::default();
            log.emit(|out| lists::emit_writers(repl.writers.since(0), out));
        }
        self.mark(config, replica, repl);
        if let Some(log) = &mut replica.log {
            log.begun();
        }
    }

    fn emit_standing(
        &mut self,
        told: &mut Told,
        config: &Config,
        replica: &Replica,
        repl: &Replication,
        claims: bool,
        out: &mut Vec<u8>,
    ) {
        self.marks += 1;
        let ceiling_ms = replica.clock().ms() + self.lead_ms(config, replica);
        self.ceiling = self.ceiling.max(Hlc::at(WallMs(ceiling_ms)));
        emit_all(told, (self.marks, self.ceiling), replica, repl, claims, out);
    }

    /// The directory has been read: goes on in a segment of its own.
    pub(crate) fn open(&mut self, resumed: Resumed, config: &Config, replica: &mut Replica, repl: &Replication) {
        let Resumed { number, prev_bytes, read_bytes, unsynced, useless, copy, is_damaged } = resumed;
        let salt = self.salt();
        self.is_unproven = !copy.is_empty() || !unsynced.is_empty();
        if let Some(log) = &mut replica.log {
            log.resume((&unsynced, &useless), read_bytes, &Opening { number, salt, prev_bytes, has_gap: false });
            log.push_all(&copy);
            if is_damaged {
                log.doubt();
            }
        }
        self.mark_all(config, replica, repl);
        if let Some(log) = &mut replica.log {
            log.name();
            self.opening = Some(log.positions().0);
        }
    }

    /// What was read of marks: those that follow are later.
    pub(crate) fn resume_marks(&mut self, wall: WallMs, number: u64, ceiling: Hlc) {
        self.wall = wall;
        self.marks = self.marks.max(number);
        self.ceiling = self.ceiling.max(ceiling);
        self.resumed = ceiling;
    }
}

/// Appends where the node stands, by what `told` lacks.
fn emit_all(
    told: &mut Told,
    (number, ceiling): (u64, Hlc),
    replica: &Replica,
    repl: &Replication,
    claims: bool,
    out: &mut Vec<u8>,
) {
    let roster = repl.roster();
    if told.roster != roster.hash() {
        lists::emit_roster(roster.iter(), out);
    }
    let ledger = replica.origins.retired();
    let from = if ledger.continues(told.ledger) { told.ledger.len } else { 0 };
    for from in (from..ledger.len()).step_by(retired::ENTRIES_MAX) {
        peer::emit_retired(from, ledger.since(from), out);
    }
    *told = Told { roster: roster.hash(), ledger: ledger.mark() };
    let standing = match replica.exposure {
        Exposure::Alone | Exposure::Hidden => Standing::Unshown,
        Exposure::Returning(_) => Standing::Returning { told: repl.told_to_return(), restored: replica.is_restored },
        Exposure::Exposed => {
            let anew = (!replica.reissued.is_empty()).then(|| replica.own());
            Standing::Shown { established: repl.established(), anew }
        }
    };
    let mark = MarkOf {
        number,
        incarnation: repl.incarnation(),
        ceiling,
        standing,
        whole: replica.is_whole,
        roster: roster.hash(),
        ledger: ledger.mark(),
        reaped: (replica.reaped.retired, &replica.reaped.claims),
    };
    let frontier = replica.origins.iter().map(|origin| (origin.id, origin.frontier));
    let frontier = frontier.filter(|(_, hlc)| *hlc > Hlc::ZERO);
    emit_mark(&mark, &replica.hidden(), claims.then_some(frontier), out);
}

fn stood(replica: &Replica, repl: &Replication) -> Stood {
    Stood {
        exposure: replica.exposure,
        own: replica.own(),
        hidden: (replica.earlier.len(), replica.reissued.len()),
        whole: replica.is_whole,
        incarnation: repl.incarnation(),
        told: Told { roster: repl.roster().hash(), ledger: replica.origins.retired().mark() },
    }
}
