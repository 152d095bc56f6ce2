//! Writing a snapshot: a walk over the store in bounded steps, while writes go on.
//!
//! It has the number of a segment that begins with it, and so with that segment and those behind it is all there is.
//! What is written meanwhile may be in it or not; so it counts once the log is synced that it has taken from, as it
//! says at its end which runs are retired, and thereby that all of theirs is held. It is written aside, synced and then
//! renamed, and only when the new name is on the disk are older files removed: at every moment there is a whole one, or
//! none was ever needed.

use std::collections::VecDeque;

use crate::disk::frames::{BLOCK_HEAD_BYTES, Header, block_head, emit_end};
use crate::disk::log::{RETRY_MS, begin_file};
use crate::disk::{DiskError, DiskOp, DiskWork, FileId, FileKind};
use crate::record::{Framed, encode};
use crate::store::{SLOTS, Store};
use crate::time::Mono;
use crate::version::Hlc;

/// What one step writes at the most, and entries it looks at: some 100 microseconds of the clients' time.
const STEP_BYTES: usize = 64 << 10;
const STEP_ENTRIES: usize = 512;

/// Bytes that wait for the disk, at the most.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// Bytes after which what was written is synced, so that the last sync is no storm.
const SYNC_BYTES: u64 = 16 << 20;

/// Snapshots of one node.
#[derive(Debug)]
pub(crate) struct Saver {
    under_way: Option<Part>,
    work: DiskWork,
    /// The operations that are not done.
    flights: VecDeque<Flight>,
    ahead_bytes: usize,
    /// After an operation failed, when the next may begin, and how long the one after that has to wait.
    retry: Option<Mono>,
    retry_ms: u64,
    error: Option<DiskError>,
    /// The newest whole snapshot, its length, and files that are older.
    pub(crate) whole: Option<(u32, u64)>,
    pub(crate) old: Vec<FileId>,
    /// Files that are of no use any more and could not be removed.
    useless: Vec<FileId>,
    /// Somebody asked for one.
    pub(crate) is_asked: bool,
    pub(crate) saved: u64,
}

/// What an operation that was handed over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Append { bytes: u32 },
    Remove(FileId),
    Other,
}

/// A snapshot under way.
#[derive(Debug)]
struct Part {
    number: u32,
    /// Somebody had asked for it.
    is_asked: bool,
    salt: u64,
    bytes: u64,
    unsynced: u64,
    slot: u16,
    after: Option<u32>,
    records: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Walking,
    /// All is queued but its name, which it gets once the log is synced up to there.
    Written {
        upto: u64,
    },
    /// Once all that is queued is done it has its name for good.
    Ending,
}

impl Default for Saver {
    fn default() -> Self {
        Self {
            under_way: None,
            work: DiskWork::default(),
            flights: VecDeque::new(),
            ahead_bytes: 0,
            retry: None,
            retry_ms: RETRY_MS.0,
            error: None,
            whole: None,
            old: Vec::new(),
            useless: Vec::new(),
            is_asked: false,
            saved: 0,
        }
    }
}

impl Saver {
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Removes what runs that ended had begun to write.
    pub(crate) fn remove_parts(&mut self) {
        for file in self.old.extract_if(.., |file| file.kind == FileKind::Part).collect::<Vec<_>>() {
            self.remove(file);
        }
    }

    fn remove(&mut self, file: FileId) {
        self.queue(DiskOp::Remove { file }, Flight::Remove(file));
    }

    /// Whether one may begin: none is under way, and the last failure is some time ago.
    pub(crate) fn may_begin(&self, now: Mono) -> bool {
        self.under_way.is_none() && self.flights.is_empty() && self.retry.is_none_or(|retry| retry <= now)
    }

    /// Begins the snapshot that `header` describes. Its first block is `standing`: where the node stands.
    pub(crate) fn begin(&mut self, header: &Header<'_>, standing: &[u8]) {
        if self.retry.take().is_some() {
            self.queue(DiskOp::Resume, Flight::Other);
        }
        let is_asked = std::mem::take(&mut self.is_asked);
        let (number, salt) = (header.number, header.salt);
        // One that was left, and could not be removed before, is not written to.
        if self.useless.extract_if(.., |file| *file == FileId::part(number)).count() > 0 {
            self.remove(FileId::part(number));
        }
        let from = self.work.data.len();
        begin_file(header, &mut self.work.data);
        let bytes = (self.work.data.len() - from) as u64;
        let part = Part {
            number,
            is_asked,
            salt,
            bytes,
            unsynced: bytes,
            slot: 0,
            after: None,
            records: 0,
            stage: Stage::Walking,
        };
        self.under_way = Some(part);
        self.queue_append(from);
        self.block(|out| out.extend_from_slice(standing));
    }

    /// Writes some more. At its end, when so much had been `logged`, `standing` says where the node stands.
    pub(crate) fn step(&mut self, store: &Store, logged: u64, standing: impl FnOnce(&mut Vec<u8>)) {
        if !self.has_work() {
            return;
        }
        let Some(mut part) = self.under_way.take() else { return };
        let (mut entries, mut records) = (STEP_ENTRIES, 0);
        let mut frames = Vec::new();
        while part.slot < SLOTS && entries > 0 && frames.len() < STEP_BYTES {
            if store.slot_newest(part.slot) == Hlc::ZERO {
                part.slot += 1;
                continue;
            }
            let last = store.walk(part.slot, part.after, entries, &mut |record| {
                entries = entries.saturating_sub(1);
                records += 1;
                encode(&Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record: *record }, &mut frames);
                frames.len() < STEP_BYTES
            });
            part.after = last;
            part.slot += u16::from(last.is_none());
        }
        part.records += records;
        let is_done = part.slot == SLOTS;
        if is_done {
            standing(&mut frames);
            emit_end(part.records, &mut frames);
            part.stage = Stage::Written { upto: logged };
        }
        let number = part.number;
        self.under_way = Some(part);
        if !frames.is_empty() {
            self.block(|out| out.extend_from_slice(&frames));
        }
        if is_done {
            self.queue(DiskOp::Sync { file: FileId::part(number) }, Flight::Other);
        }
    }

    /// The log is synced up to there: what is written gets its name if that is enough.
    pub(crate) fn finish(&mut self, synced: u64) {
        let Some(part) = &mut self.under_way else { return };
        if let Stage::Written { upto } = part.stage
            && upto <= synced
        {
            part.stage = Stage::Ending;
            let number = part.number;
            self.queue(DiskOp::Finish { file: FileId::snapshot(number) }, Flight::Other);
            self.queue(DiskOp::SyncDir, Flight::Other);
        }
    }

    /// Whether [`step`](Self::step) would do something now.
    pub(crate) fn has_work(&self) -> bool {
        let is_walking = self.under_way.as_ref().is_some_and(|part| part.stage == Stage::Walking);
        is_walking && self.ahead_bytes < AHEAD_BYTES_MAX
    }

    fn block(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(part) = &mut self.under_way else { return };
        let data = &mut self.work.data;
        let from = data.len();
        data.extend_from_slice(&[0; BLOCK_HEAD_BYTES]);
        put(data);
        let length = data.len() - from - BLOCK_HEAD_BYTES;
        let head = block_head(part.salt, length as u32, part.bytes);
        data[from..from + BLOCK_HEAD_BYTES].copy_from_slice(&head);
        let bytes = (data.len() - from) as u64;
        part.bytes += bytes;
        part.unsynced += bytes;
        let syncs = part.unsynced >= SYNC_BYTES;
        if syncs {
            part.unsynced = 0;
        }
        let file = FileId::part(part.number);
        self.queue_append(from);
        if syncs {
            self.queue(DiskOp::Sync { file }, Flight::Other);
        }
    }

    fn queue_append(&mut self, from: usize) {
        let bytes = (self.work.data.len() - from) as u32;
        let Some(part) = &self.under_way else { return };
        self.ahead_bytes += bytes as usize;
        self.queue(DiskOp::Append { file: FileId::part(part.number), bytes }, Flight::Append { bytes });
    }

    fn queue(&mut self, op: DiskOp, flight: Flight) {
        self.work.ops.push(op);
        self.flights.push_back(flight);
    }

    /// Swaps what is queued out.
    pub(crate) fn take(&mut self, work: &mut DiskWork) -> bool {
        work.clear();
        std::mem::swap(&mut self.work, work);
        !work.is_empty()
    }

    /// So many operations were carried out. If with them a snapshot is whole, its number and length: what is older is
    /// being removed.
    pub(crate) fn done(&mut self, ops: u32) -> Option<(u32, u64)> {
        for _ in 0..ops {
            if let Some(Flight::Append { bytes }) = self.flights.pop_front() {
                self.ahead_bytes -= bytes as usize;
            }
        }
        if self.flights.is_empty() && self.under_way.is_none() && self.useless.is_empty() && self.retry.is_none() {
            // What could not be removed is.
            self.error = None;
        }
        let is_ending = self.under_way.as_ref().is_some_and(|part| part.stage == Stage::Ending);
        if !is_ending || !self.flights.is_empty() {
            return None;
        }
        let part = self.under_way.take()?;
        self.saved += 1;
        (self.error, self.retry_ms) = (None, RETRY_MS.0);
        let before = self.whole.replace((part.number, part.bytes));
        self.old.extend(before.map(|(number, _)| FileId::snapshot(number)));
        let old = std::mem::take(&mut self.old);
        for file in old {
            if file.number < part.number {
                self.remove(file);
            } else {
                self.old.push(file);
            }
        }
        self.whole
    }

    /// What the log was to hold beside the snapshot under way is not there: another one will be begun.
    pub(crate) fn give_up(&mut self) {
        if let Some(part) = self.under_way.take_if(|part| part.stage != Stage::Ending) {
            self.is_asked |= part.is_asked;
            self.remove(FileId::part(part.number));
        }
    }

    /// An operation failed: there is no new snapshot, and the old files stay. True if it was more than a file that
    /// could not be removed.
    pub(crate) fn failed(&mut self, now: Mono, error: DiskError) -> bool {
        self.error = Some(error);
        // What is cleared away at once after a failure is no try of its own.
        if self.retry.is_none_or(|retry| retry <= now) {
            self.retry = Some(now.plus_ms(self.retry_ms));
            self.retry_ms = (2 * self.retry_ms).min(RETRY_MS.1);
        }
        self.work.clear();
        self.ahead_bytes = 0;
        let mut flights = std::mem::take(&mut self.flights);
        let failed = flights.pop_front();
        let removes = flights.iter().filter_map(|flight| match flight {
            Flight::Remove(file) => Some(*file),
            Flight::Append { .. } | Flight::Other => None,
        });
        self.useless.extend(removes);
        if let Some(part) = self.under_way.take() {
            self.is_asked |= part.is_asked;
            self.useless.push(FileId::part(part.number));
            if part.stage == Stage::Ending {
                // It may have its name already; the next one makes it superfluous.
                self.old.push(FileId::snapshot(part.number));
            }
        }
        let Some(Flight::Remove(file)) = failed else {
            // What there is of it takes room that others may need.
            self.queue(DiskOp::Resume, Flight::Other);
            self.remove_useless();
            return true;
        };
        // Behind all others, which may well be removed.
        self.useless.push(file);
        false
    }

    /// Removes what could not be removed before, if it is time to try that again.
    pub(crate) fn clear_away(&mut self, now: Mono) {
        if self.useless.is_empty() || !self.may_begin(now) {
            return;
        }
        if self.retry.take().is_some() {
            self.queue(DiskOp::Resume, Flight::Other);
        }
        self.remove_useless();
    }

    fn remove_useless(&mut self) {
        for file in std::mem::take(&mut self.useless) {
            self.remove(file);
        }
    }

    /// Whether something could not be removed.
    pub(crate) fn has_useless(&self) -> bool {
        !self.useless.is_empty()
    }

    pub(crate) fn error(&self) -> Option<DiskError> {
        self.error
    }

    /// When to try again, if that is all that is waited for.
    pub(crate) fn retry(&self) -> Option<Mono> {
        self.retry.filter(|_| self.under_way.is_none() && self.flights.is_empty())
    }
}
