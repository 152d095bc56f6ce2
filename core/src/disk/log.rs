//! The log: what is taken in goes out as blocks of the newest segment, and is synced by the policy asked for.

use std::collections::VecDeque;

use crate::config::{Config, DiskConfig};
use crate::disk::frames::{BLOCK_HEAD_BYTES, FORMAT, Header, MAGIC, block_head, emit_header, emit_synced};
use crate::disk::{DiskError, DiskOp, DiskWork, FileId, FileKind, Fsync};
use crate::record::{PREFIX_BYTES, next_frame};
use crate::replica::Refused;
use crate::retired::Mark as LedgerMark;
use crate::time::Mono;
use crate::version::Hlc;

/// Frames of one block, but for a longer single one: what damage to a head costs.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// Unsynced bytes that make a sync due at once: what a crash loses and a sync has to write is bounded by it.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;

/// How often the disk is synced by [`Fsync::EverySec`] and by [`Fsync::No`].
const EVERY_SEC_MS: u64 = 1_000;
const SELDOM_MS: u64 = 30_000;

/// How long a disk that failed is left alone: doubles from the first to the last.
pub(crate) const RETRY_MS: (u64, u64) = (500, 16_000);

/// Whether what is written gets to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It does.
    Whole,
    /// The disk failed, and is tried again at that time; nothing is written.
    Failed { error: DiskError, retry: Mono },
    /// It is being tried.
    Trying { error: DiskError },
    /// It does again; but what was not written meanwhile only the next snapshot has.
    Gap,
}

impl Health {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Failed { error: DiskError::Full, .. } | Self::Trying { error: DiskError::Full } => "full",
            Self::Failed { .. } | Self::Trying { .. } => "failed",
            Self::Gap => "recovering",
        }
    }
}

/// A segment, and a length of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    segment: u32,
    bytes: u64,
}

/// What an operation that was handed over means once it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Nothing,
    /// All is written up to there, these bytes the last of it.
    Written {
        place: Place,
        bytes: u64,
    },
    /// All is synced up to this position of the log, which is there in a segment.
    Synced {
        upto: u64,
        place: Place,
        own: Hlc,
    },
}

/// What the newest file was told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) roster: u64,
    pub(crate) ledger: LedgerMark,
}

/// The newest segment, and the queue of what is to be written.
#[derive(Debug)]
pub(crate) struct Log {
    fsync: Fsync,
    segment_bytes_max: u64,
    cluster: String,
    name: String,
    segment: u32,
    /// The greatest number of a segment that may stand in the way.
    useless_to: u32,
    /// The segment has yet to get its name.
    is_part: bool,
    salt: u64,
    /// Length of the segment, with what is queued; and how much of that is its beginning.
    bytes: u64,
    beginning_bytes: u64,
    /// Up to where all was written, and synced.
    written_to: Place,
    synced_to: Place,
    /// How much of the segment it says itself to be synced.
    stated_bytes: u64,
    work: DiskWork,
    /// How much of the queued bytes has no operation yet.
    loose: usize,
    /// Where in the queue the head of the open block is.
    head: Option<usize>,
    /// Bytes of frames ever taken in, and how many of them are synced.
    appended: u64,
    synced: u64,
    /// Up to where a sync is under way.
    syncing: Option<u64>,
    synced_at: Mono,
    flights: VecDeque<Flight>,
    /// Bytes handed over that the disk does not have yet; and whether, with what is queued, they have been too many
    /// since they were few.
    waiting: u64,
    queue_bytes_max: u64,
    is_behind_max: bool,
    /// The newest record of this run's stream that was taken in, and the newest that is synced.
    own: Hlc,
    own_synced: Hlc,
    health: Health,
    retry_ms: u64,
    pub(crate) told: Told,
    /// Bytes in segments that the newest whole snapshot is not in, and how many of them the one under way is.
    pub(crate) since_snapshot: u64,
    before_snapshot: u64,
    /// Behind which place a segment is being tried.
    tried: Option<Place>,
    /// The newest segment before which something was not written.
    gap: u32,
    /// Records of this run's stream behind the first and up to the second were not on the disk when it failed, and are
    /// in no snapshot yet.
    unsure: Option<(Hlc, Hlc)>,
    /// Nothing follows.
    is_ended: bool,
}

/// How a segment begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) number: u32,
    pub(crate) salt: u64,
    /// The length up to which the segment before counts.
    pub(crate) prev_bytes: u64,
    pub(crate) has_gap: bool,
}

impl Log {
    pub(crate) fn new(config: &Config, disk: &DiskConfig, now: Mono) -> Self {
        Self {
            fsync: disk.fsync,
            segment_bytes_max: disk.segment_bytes,
            cluster: config.cluster.clone(),
            name: config.name.clone(),
            segment: 0,
            useless_to: 0,
            is_part: false,
            salt: 0,
            bytes: 0,
            beginning_bytes: 0,
            written_to: Place::default(),
            synced_to: Place::default(),
            stated_bytes: 0,
            work: DiskWork::default(),
            loose: 0,
            head: None,
            appended: 0,
            synced: 0,
            syncing: None,
            synced_at: now,
            flights: VecDeque::new(),
            waiting: 0,
            queue_bytes_max: disk.queue_bytes_max,
            is_behind_max: false,
            own: Hlc::ZERO,
            own_synced: Hlc::ZERO,
            health: Health::Whole,
            retry_ms: RETRY_MS.0,
            told: Told::default(),
            since_snapshot: 0,
            before_snapshot: 0,
            tried: None,
            gap: 0,
            unsure: None,
            is_ended: false,
        }
    }

    /// Begins the first segment of a run. What earlier runs have written and not synced to `unsynced` may be with the
    /// system only, but nothing says that it is lost. What is `useless` is in the way. The segment before was
    /// `read_bytes` long.
    pub(crate) fn resume(&mut self, (unsynced, useless): (&[u32], &[u32]), read_bytes: u64, opening: &Opening) {
        for number in unsynced {
            self.push_op(DiskOp::Sync { file: FileId::log(*number) }, Flight::Nothing);
        }
        for number in useless {
            self.push_op(DiskOp::Remove { file: FileId::log(*number) }, Flight::Nothing);
        }
        // That may fail, too.
        // (`sim/regressions/a-segment-that-never-began-could-not-be-removed-at-first`)
        self.useless_to = useless.iter().copied().max().unwrap_or(0);
        // If the beginning fails, all that was read counts.
        let before = Place { segment: opening.number - 1, bytes: read_bytes };
        (self.written_to, self.synced_to) = (before, before);
        self.push_op(DiskOp::Remove { file: FileId::part(opening.number) }, Flight::Nothing);
        self.is_part = true;
        self.open(opening);
    }

    /// The beginning of a run is whole: it is synced, and then gets its name, so that it is there as a whole or not at
    /// all.
    pub(crate) fn name(&mut self) {
        self.seal();
        self.push_op(DiskOp::Sync { file: self.file() }, Flight::Nothing);
        self.is_part = false;
        self.push_op(DiskOp::Finish { file: self.file() }, Flight::Nothing);
        let flight = Flight::Synced { upto: self.appended, place: self.place(), own: self.own };
        self.push_op(DiskOp::SyncDir, flight);
        self.syncing = Some(self.appended);
    }

    fn file(&self) -> FileId {
        if self.is_part { FileId::part(self.segment) } else { FileId::log(self.segment) }
    }

    /// Begins a segment. Its first block is to say where the node stands.
    pub(crate) fn open(&mut self, opening: &Opening) {
        self.seal();
        let Opening { number, salt, prev_bytes, has_gap } = *opening;
        let header = Header {
            format: FORMAT,
            kind: FileKind::Log,
            number,
            salt,
            prev_bytes,
            has_gap,
            is_restored: false,
            cluster: &self.cluster,
            name: &self.name,
        };
        (self.segment, self.salt, self.bytes, self.stated_bytes) = (number, salt, 0, 0);
        self.told = Told::default();
        let from = self.work.data.len();
        begin_file(&header, &mut self.work.data);
        self.loose += self.work.data.len() - from;
        self.queue_append();
        if !self.is_part {
            self.push_op(DiskOp::SyncDir, Flight::Nothing);
        }
    }

    /// Goes on in another segment.
    pub(crate) fn rotate(&mut self, salt: u64) {
        self.seal();
        let prev_bytes = self.bytes;
        self.queue_sync();
        self.open(&Opening { number: self.segment + 1, salt, prev_bytes, has_gap: false });
    }

    /// Takes in a record of this run's stream.
    pub(crate) fn push_own(&mut self, stamp: Hlc, frame: &[u8]) {
        self.own = stamp;
        self.push(frame);
    }

    /// The newest record of this run's stream that is synced.
    pub(crate) fn own_synced(&self) -> Hlc {
        self.own_synced
    }

    /// Takes in whole frames.
    pub(crate) fn push(&mut self, frames: &[u8]) {
        self.append(frames.len(), |data| data.extend_from_slice(frames));
    }

    /// Takes in as many frames as there are, in blocks of their usual length.
    pub(crate) fn push_all(&mut self, frames: &[u8]) {
        let mut rest = frames;
        while let Ok(Some(body)) = next_frame(rest, usize::MAX) {
            let (frame, behind) = rest.split_at(PREFIX_BYTES + body.len());
            self.push(frame);
            rest = behind;
        }
    }

    /// Takes in the frame that `emit` appends.
    pub(crate) fn emit(&mut self, emit: impl FnOnce(&mut Vec<u8>)) {
        self.append(0, emit);
    }

    fn append(&mut self, bytes: usize, put: impl FnOnce(&mut Vec<u8>)) {
        if matches!(self.health, Health::Failed { .. }) {
            return;
        }
        let data = &mut self.work.data;
        if self.head.is_some_and(|head| data.len() + bytes > head + BLOCK_HEAD_BYTES + BLOCK_BYTES_MAX) {
            self.close_block();
        }
        let data = &mut self.work.data;
        if self.head.is_none() {
            self.head = Some(data.len());
            data.extend_from_slice(&[0; BLOCK_HEAD_BYTES]);
            if self.synced_to.segment == self.segment && self.synced_to.bytes > self.stated_bytes {
                // Whoever finds a hole before that place knows that it is no end that a crash has torn.
                self.stated_bytes = self.synced_to.bytes;
                emit_synced(self.stated_bytes, data);
            }
            self.loose += data.len() - self.head.unwrap_or(data.len());
        }
        let from = data.len();
        put(data);
        let bytes = data.len() - from;
        self.loose += bytes;
        self.appended += bytes as u64;
        self.look_at_queue();
    }

    /// Bytes that wait for the disk, and how many may.
    pub(crate) fn queue(&self) -> (u64, u64) {
        (self.waiting + self.loose as u64, self.queue_bytes_max)
    }

    fn look_at_queue(&mut self) {
        let (bytes, max) = self.queue();
        self.is_behind_max = bytes >= if self.is_behind_max { max.div_ceil(2).max(1) } else { max };
    }

    /// Fills in the head of the open block.
    fn close_block(&mut self) {
        let Some(head) = self.head.take() else { return };
        let data = &mut self.work.data;
        let length = data.len() - head - BLOCK_HEAD_BYTES;
        let place = self.bytes + (head - (data.len() - self.loose)) as u64;
        data[head..head + BLOCK_HEAD_BYTES].copy_from_slice(&block_head(self.salt, length as u32, place));
    }

    /// Ends the open block and queues what has been taken in.
    fn seal(&mut self) {
        self.close_block();
        self.queue_append();
    }

    fn queue_append(&mut self) {
        if self.loose > 0 {
            let bytes = std::mem::take(&mut self.loose);
            self.bytes += bytes as u64;
            self.since_snapshot += bytes as u64;
            self.waiting += bytes as u64;
            let op = DiskOp::Append { file: self.file(), bytes: bytes as u32 };
            // What has no name counts for nothing.
            let place = if self.is_part { self.written_to } else { self.place() };
            self.push_op(op, Flight::Written { place, bytes: bytes as u64 });
        }
    }

    fn queue_sync(&mut self) {
        let flight = Flight::Synced { upto: self.appended, place: self.place(), own: self.own };
        self.push_op(DiskOp::Sync { file: FileId::log(self.segment) }, flight);
    }

    /// Where what is queued ends.
    fn place(&self) -> Place {
        Place { segment: self.segment, bytes: self.bytes }
    }

    fn push_op(&mut self, op: DiskOp, flight: Flight) {
        self.work.ops.push(op);
        self.flights.push_back(flight);
    }

    /// Whether what is queued wants a sync behind it now, or somebody does; true if one was queued.
    pub(crate) fn plan_sync(&mut self, now: Mono, is_wanted: bool) -> bool {
        if matches!(self.health, Health::Failed { .. }) || self.syncing.is_some() || self.appended == self.synced {
            return false;
        }
        if !is_wanted && self.sync_due().is_some_and(|due| due > now) {
            return false;
        }
        self.sync();
        true
    }

    /// Queues a sync of all that has been taken in.
    pub(crate) fn sync(&mut self) {
        self.seal();
        self.queue_sync();
        self.syncing = Some(self.appended);
    }

    /// Queues a sync of all that has been taken in, and behind it that there was one: a start cannot know that
    /// otherwise, and would write the end of the log anew. Nothing is taken in after it.
    pub(crate) fn end(&mut self) {
        if self.is_part || !matches!(self.health, Health::Whole | Health::Gap) {
            return;
        }
        self.sync();
        let bytes = self.bytes;
        self.emit(|out| emit_synced(bytes, out));
        self.seal();
        self.is_ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Another policy, from now on: also for what is not synced yet.
    pub(crate) fn set_fsync(&mut self, fsync: Fsync) {
        self.fsync = fsync;
    }

    /// When what is not synced is to be; none: at once.
    fn sync_due(&self) -> Option<Mono> {
        let every_ms = match self.fsync {
            Fsync::Always => return None,
            Fsync::EverySec => EVERY_SEC_MS,
            Fsync::No => SELDOM_MS,
        };
        (self.appended - self.synced < UNSYNCED_BYTES_MAX).then(|| self.synced_at.plus_ms(every_ms))
    }

    /// When there is something to do by itself.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        match self.health {
            Health::Failed { retry, .. } => Some(retry),
            _ if self.syncing.is_some() || self.appended == self.synced => None,
            Health::Whole | Health::Gap | Health::Trying { .. } => Some(self.sync_due().unwrap_or(Mono(0))),
        }
    }

    /// Swaps what is queued out.
    pub(crate) fn take(&mut self, work: &mut DiskWork) -> bool {
        self.seal();
        work.clear();
        std::mem::swap(&mut self.work, work);
        !work.is_empty()
    }

    /// So many operations were carried out. True if more is synced now.
    pub(crate) fn done(&mut self, now: Mono, ops: u32) -> bool {
        let mut grew = false;
        for _ in 0..ops {
            let (upto, place, own) = match self.flights.pop_front() {
                Some(Flight::Synced { upto, place, own }) => (upto, place, own),
                Some(Flight::Written { place, bytes }) => {
                    self.written_to = place;
                    self.waiting -= bytes;
                    self.look_at_queue();
                    continue;
                }
                Some(Flight::Nothing) | None => continue,
            };
            grew |= upto > self.synced;
            self.synced = self.synced.max(upto);
            self.synced_to = place;
            (self.synced_at, self.own_synced) = (now, own);
            if self.syncing.is_some_and(|syncing| syncing <= upto) {
                self.syncing = None;
            }
            if matches!(self.health, Health::Trying { .. }) {
                (self.health, self.tried) = (Health::Gap, None);
            }
        }
        grew
    }

    /// An operation failed: what was not synced is not on the disk, and nothing more is written until it is tried
    /// again.
    pub(crate) fn failed(&mut self, now: Mono, error: DiskError) {
        self.health = Health::Failed { error, retry: now.plus_ms(self.retry_ms) };
        self.retry_ms = (2 * self.retry_ms).min(RETRY_MS.1);
        self.flights.clear();
        self.work.clear();
        (self.loose, self.head, self.syncing) = (0, None, None);
        (self.waiting, self.is_behind_max) = (0, false);
        let from = self.unsure.map_or(self.own_synced, |(from, _)| from);
        self.unsure = (from < self.own).then_some((from, self.own));
        // Whoever waited for it has been turned away.
        self.synced = self.appended;
    }

    /// Begins a segment of its own after a failure, if it is time to try. Its first block is to say where the node
    /// stands, and a sync is to follow.
    pub(crate) fn retry(&mut self, now: Mono, salt: impl FnOnce() -> u64) -> bool {
        let Health::Failed { error, retry } = self.health else { return false };
        if retry > now {
            return false;
        }
        // What could be written counts although it was not synced, as long as syncing did not fail: it is read if it is
        // there. What was begun behind it, or tried before, is of no use.
        let counted = if error == DiskError::Sync { self.synced_to } else { self.written_to };
        let before = *self.tried.get_or_insert(counted);
        let number = before.segment + 1;
        self.health = Health::Trying { error };
        self.gap = number;
        self.push_op(DiskOp::Resume, Flight::Nothing);
        self.is_part = false;
        self.push_op(DiskOp::Remove { file: FileId::part(number) }, Flight::Nothing);
        for useless in number..=self.segment.max(number).max(self.useless_to) {
            self.push_op(DiskOp::Remove { file: FileId::log(useless) }, Flight::Nothing);
        }
        self.open(&Opening { number, salt: salt(), prev_bytes: before.bytes, has_gap: true });
        true
    }

    /// A snapshot begins with the newest segment, which was just begun.
    pub(crate) fn saving(&mut self) {
        self.before_snapshot = self.since_snapshot - self.bytes;
    }

    /// A snapshot is whole: of segments before `number` nothing is needed. One that was begun before the disk failed
    /// may lack what was not written then.
    pub(crate) fn saved(&mut self, number: u32) {
        self.since_snapshot -= std::mem::take(&mut self.before_snapshot);
        if self.health == Health::Gap && number > self.gap {
            (self.health, self.unsure) = (Health::Whole, None);
            self.retry_ms = RETRY_MS.0;
        }
    }

    /// What was read is damaged, and a sync of it may have failed before: only the next snapshot has it for sure.
    pub(crate) fn doubt(&mut self) {
        (self.health, self.gap) = (Health::Gap, self.segment);
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Why clients' writes are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Refused> {
        match self.health {
            Health::Failed { error, .. } | Health::Trying { error } => Some(Refused::Disk(error)),
            Health::Whole | Health::Gap => self.is_behind_max.then_some(Refused::DiskBehind),
        }
    }

    /// Whether as much waits for the disk as may: nothing is taken that is not this node's own.
    pub(crate) fn is_behind_max(&self) -> bool {
        self.is_behind_max
    }

    /// The number of the newest segment.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// All that the newest segment begins with was taken in.
    pub(crate) fn begun(&mut self) {
        self.beginning_bytes = self.bytes + self.loose as u64;
    }

    /// Whether the newest segment is as long as one may be, whatever it begins with.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes + self.loose as u64 >= self.beginning_bytes + self.segment_bytes_max
    }

    /// Whether this record of this run's stream may yet be lost, though nothing waits for it any more.
    pub(crate) fn is_unsure(&self, stamp: Hlc) -> bool {
        self.unsure.is_some_and(|(from, to)| from < stamp && stamp <= to)
    }

    /// Whether replies wait until what they say is synced.
    pub(crate) fn is_always(&self) -> bool {
        self.fsync == Fsync::Always
    }

    /// Whether anything is not synced.
    pub(crate) fn is_behind(&self) -> bool {
        self.appended > self.synced
    }

    /// Bytes of frames taken in so far, and how many of those are synced.
    pub(crate) fn positions(&self) -> (u64, u64) {
        (self.appended, self.synced)
    }
}

/// Appends what a file begins with.
pub(crate) fn begin_file(header: &Header<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    emit_header(header, out);
    emit_header(header, out);
}
