//! Reading a data directory at the start: the newest whole snapshot, then the log behind it.
//!
//! A record of the log is taken as it was when it came, in the same order: what continues its origin's stream moves the
//! frontier (PROTOCOL.md rule 1), and marks say what sweeps have added to that. So without damage a node stands
//! afterwards where it stood, at the last record that is on the disk. Behind damage no mark adds anything, so what is
//! claimed is what was read; the rest is held, and catching up with the others brings what is missing.
//!
//! The bytes are not trusted: they are checked as those of a peer are, and any bytes lead to some end.

use std::collections::VecDeque;

use crate::config::Config;
use crate::disk::frames::{self, FileFrame};
use crate::disk::keep::{Keeper, Resumed};
use crate::disk::learnt::Learnt;
use crate::disk::load_failure::LoadFailure;
use crate::disk::records::warm_for;
use crate::disk::scan::{BEGINNING_BYTES_MAX, Beginning, Piece, Scan, Unreadable, beginning, is_begun, is_headless};
use crate::disk::{DiskError, FileId, FileKind};
use crate::repl::Replication;
use crate::replica::Replica;
use crate::store::WARM_KEYS;
use crate::time::{Mono, Now};
use crate::wire::peer::emit;

/// What is read at once.
const READ_BYTES: u32 = 1 << 20;

/// What is given up at once where the disk cannot be read, and what is taken to stand there: nothing that a crash
/// leaves.
const UNREADABLE_BYTES: u32 = 4 << 10;
const UNREADABLE: u8 = 0xff;

/// What a driver is to read for a node that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAt {
    /// From which file.
    pub file: FileId,
    /// From which byte on.
    pub at: u64,
    /// How many. Fewer, if the file ends before.
    pub bytes: u32,
}

impl ReadAt {
    /// Whether the same place is asked for once more, in smaller pieces, if it cannot be read.
    #[must_use]
    pub const fn is_tried_again(&self) -> bool {
        self.bytes > UNREADABLE_BYTES
    }
}

/// A directory that is being read.
#[derive(Debug)]
pub(crate) struct Recovery {
    strict: bool,
    /// Files that were found: what is there besides what is read is old.
    found: Vec<(FileId, u64)>,
    /// What is to be read, with its length: the snapshot and the segments behind it.
    files: Vec<Source>,
    /// The first whose header has not been read; then the one that is being read.
    at: usize,
    stage: Stage,
    scan: Option<Scan>,
    /// Where the next read begins, and whether what is there could not be read in one piece.
    place: u64,
    careful_until: u64,
    done_bytes: u64,
    /// How much of the file at hand is known to have been on the disk.
    synced_bytes: u64,
    tear: Option<Tear>,
    /// Frames of it of which that is not known, and where each ends: in the file, and here.
    unproven: Vec<u8>,
    unproven_ends: VecDeque<(u64, usize)>,
    pub(crate) failure: Option<LoadFailure>,
    state: Learnt,
}

/// A hole in the last segment: what was appended there got lost with the machine's power, and with it counts nothing
/// that is behind it; unless something there says that the place had been synced.
#[derive(Debug)]
struct Tear {
    at: u64,
    bytes: u64,
    /// How to go on behind it, should it be damage.
    scan: Scan,
    place: u64,
    done_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Which snapshot can be read at all.
    Snapshots,
    Headers,
    Blocks,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    file: FileId,
    bytes: u64,
    /// Its salt, and where its blocks begin; none if its header is no more.
    begin: Option<(u64, u64)>,
    prev_bytes: u64,
    has_gap: bool,
    is_restored: bool,
    /// Its beginning could not be read; it may be there all the same.
    is_unread: bool,
    /// Its beginning was written as long as one is, whatever became of it.
    is_begun: bool,
    /// Its first sector never got to the disk.
    is_headless: bool,
}

impl Recovery {
    /// Reads these files, each with its length.
    pub(crate) fn new(found: &[(FileId, u64)], strict: bool) -> Self {
        let mut found = found.to_vec();
        found.sort_unstable();
        let mut snapshots: Vec<_> = found.iter().filter(|(file, _)| file.kind == FileKind::Snapshot).copied().collect();
        snapshots.reverse();
        let stage = if snapshots.is_empty() { Stage::Headers } else { Stage::Snapshots };
        let mut recovery = Self {
            strict,
            found,
            files: snapshots.into_iter().map(Source::new).collect(),
            at: 0,
            stage,
            scan: None,
            place: 0,
            careful_until: 0,
            done_bytes: 0,
            synced_bytes: 0,
            tear: None,
            unproven: Vec::new(),
            unproven_ends: VecDeque::new(),
            failure: None,
            state: Learnt::default(),
        };
        if stage == Stage::Headers {
            recovery.list_log(None);
        }
        recovery
    }

    /// What is to be read next; none once all was, or if the node must not start.
    pub(crate) fn next_read(&self) -> Option<ReadAt> {
        let source = self.files.get(self.at).filter(|_| self.failure.is_none())?;
        let bytes = match self.stage {
            Stage::Snapshots | Stage::Headers => BEGINNING_BYTES_MAX as u32,
            Stage::Blocks if self.place < self.careful_until => UNREADABLE_BYTES,
            Stage::Blocks => READ_BYTES,
            Stage::Done => return None,
        };
        let left = self.limit(self.at).saturating_sub(self.place);
        Some(ReadAt { file: source.file, at: self.place, bytes: bytes.min(u32::try_from(left).unwrap_or(bytes)) })
    }

    /// Bytes that were read, and how many there are.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let all = self.files.iter().map(|source| source.bytes).sum();
        (self.done_bytes.min(all), all)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done && self.failure.is_none()
    }

    /// Up to where a file counts: what its successor says, if it has one that says something.
    fn limit(&self, at: usize) -> u64 {
        let Some(source) = self.files.get(at) else { return 0 };
        let next = self.files.get(at + 1).filter(|next| next.file.number == source.file.number + 1);
        match next.filter(|next| next.begin.is_some() && source.file.kind == FileKind::Log) {
            Some(next) if self.stage == Stage::Blocks => source.bytes.min(next.prev_bytes),
            Some(_) | None => source.bytes,
        }
    }

    /// Goes on to the segments, from the one with which the snapshot `from` begins.
    fn list_log(&mut self, from: Option<u32>) {
        let log = self.found.iter().filter(|(file, _)| file.kind == FileKind::Log);
        let log = log.filter(|(file, _)| from.is_none_or(|from| file.number >= from)).copied();
        self.files.extend(log.map(Source::new));
        self.stage = Stage::Headers;
        self.skip_to_blocks();
    }

    fn skip_to_blocks(&mut self) {
        if self.stage == Stage::Headers && self.at == self.files.len() {
            (self.stage, self.at) = (Stage::Blocks, 0);
            // Then the one before it is the last.
            while self.files.pop_if(|source| source.is_nothing()).is_some() {}
        }
    }

    /// Takes in what was read, or that it could not be.
    pub(crate) fn loaded(
        &mut self,
        now: Now,
        read: Result<&[u8], DiskError>,
        (config, replica): (&Config, &mut Replica),
    ) {
        match self.stage {
            Stage::Snapshots | Stage::Headers => {
                if let Some(source) = self.files.get_mut(self.at) {
                    source.is_unread = read.is_err();
                }
                self.take_header(read.unwrap_or_default(), config);
            }
            Stage::Blocks => self.take_bytes(now.mono, read, replica),
            Stage::Done => {}
        }
        // What cannot be read, or has nothing in it, is passed over here.
        while self.failure.is_none() && self.stage == Stage::Blocks && !self.begin_file(replica) {}
    }

    /// What to do if there is nothing to read at all.
    pub(crate) fn start(&mut self, replica: &mut Replica) {
        self.skip_to_blocks();
        while self.stage == Stage::Blocks && !self.begin_file(replica) {}
    }

    fn take_header(&mut self, bytes: &[u8], config: &Config) {
        let Some(source) = self.files.get_mut(self.at) else { return };
        let file = source.file;
        let mut is_whole = true;
        match beginning(bytes) {
            // Another file, whose blocks the system has given again, or who copied it has.
            Ok(Beginning { header, .. }) if (header.kind, header.number) != (file.kind, file.number) => {}
            Ok(Beginning { header, bytes: begin, is_whole: whole }) => {
                is_whole = whole;
                if header.cluster != config.cluster {
                    self.failure = Some(LoadFailure::Cluster(header.cluster.to_owned()));
                } else if header.name != config.name && !header.is_restored {
                    self.failure = Some(LoadFailure::Name(header.name.to_owned()));
                }
                source.begin = Some((header.salt, begin as u64));
                source.prev_bytes = header.prev_bytes;
                (source.has_gap, source.is_restored) = (header.has_gap, header.is_restored);
            }
            Err(Unreadable::Format(format)) => self.failure = Some(LoadFailure::Format(file, format)),
            Err(Unreadable::NoHeader) => {
                source.is_begun = is_begun(bytes, config);
                source.is_headless = !source.is_unread && is_headless(bytes);
            }
        }
        if !is_whole {
            // The other copy says it all.
            self.damage_at(file, 0, 0);
        }
        match (self.stage, self.files[self.at].begin) {
            (Stage::Snapshots, Some(_)) => {
                self.files = vec![self.files[self.at]];
                self.at = 1;
                self.list_log(Some(file.number));
            }
            (Stage::Snapshots, None) => {
                self.damage_at(file, 0, self.files[self.at].bytes);
                self.at += 1;
                if self.at == self.files.len() {
                    self.files.clear();
                    self.at = 0;
                    self.list_log(None);
                }
            }
            _ => {
                self.at += 1;
                self.skip_to_blocks();
            }
        }
    }

    /// Begins to read the file at hand, if it was not begun yet. False if it was passed over.
    fn begin_file(&mut self, replica: &mut Replica) -> bool {
        if self.scan.is_some() {
            return true;
        }
        let Some(source) = self.files.get(self.at).copied() else {
            self.stage = Stage::Done;
            return true;
        };
        let before = self.at.checked_sub(1).map(|at| self.files[at].file);
        let follows = match before {
            Some(before) if before.kind == FileKind::Log => before.number + 1 == source.file.number,
            Some(before) => before.number == source.file.number,
            // What is before the first segment is in a snapshot.
            None => source.file.kind == FileKind::Snapshot || source.file.number == 1,
        };
        self.state.has_gap |= source.has_gap;
        if !follows || source.has_gap {
            // What is missing may have been anything.
            self.lose();
        }
        if !follows {
            self.damage_at(source.file, 0, 0);
        }
        self.state.is_restored |= source.is_restored;
        let limit = self.limit(self.at);
        let Some((salt, begin)) = source.begin.filter(|(_, begin)| *begin <= limit) else {
            // The last segment may have been cut before its first sync.
            let is_last = self.at + 1 == self.files.len();
            if limit > 0
                && !(is_last && source.is_headless)
                && (!is_last || source.is_unread || source.is_begun || source.bytes > BEGINNING_BYTES_MAX as u64)
            {
                self.damage_at(source.file, 0, limit);
                self.lose();
            } else if (source.is_begun || source.is_unread) && !is_last {
                // It counts for nothing, but it is not as it was written.
                self.damage_at(source.file, 0, 0);
            } else if is_last {
                self.state.torn_bytes += source.bytes;
            }
            self.done_bytes += source.bytes;
            self.at += 1;
            return false;
        };
        if source.file.kind == FileKind::Log && self.is_short(self.at) {
            self.damage_at(source.file, source.bytes, 0);
        }
        self.scan = Some(Scan::new(salt, begin));
        self.unproven.clear();
        self.unproven_ends.clear();
        (self.place, self.careful_until, self.synced_bytes) = (begin, 0, 0);
        self.state.ended = false;
        if begin == limit {
            self.end_file(Mono(0), replica);
            return false;
        }
        true
    }

    /// Whether a file is shorter than it was when its successor was begun.
    fn is_short(&self, at: usize) -> bool {
        let (source, next) = (self.files[at], self.files.get(at + 1));
        next.is_some_and(|next| next.begin.is_some() && !next.has_gap && next.prev_bytes > source.bytes)
    }

    fn take_bytes(&mut self, now: Mono, read: Result<&[u8], DiskError>, replica: &mut Replica) {
        let Some(asked) = self.next_read() else { return };
        let nothing;
        let bytes = match read {
            Ok(bytes) => &bytes[..bytes.len().min(asked.bytes as usize)],
            Err(_) if asked.is_tried_again() => {
                self.careful_until = self.place + u64::from(asked.bytes);
                return;
            }
            Err(_) => {
                nothing = vec![UNREADABLE; asked.bytes as usize];
                &nothing
            }
        };
        let is_end = bytes.len() < asked.bytes as usize;
        self.place += bytes.len() as u64;
        self.done_bytes += bytes.len() as u64;
        if let Some(scan) = &mut self.scan {
            scan.push(bytes);
        }
        let goes_back = self.take_pieces(now, replica);
        if !goes_back && (is_end || self.place >= self.limit(self.at)) {
            self.end_file(now, replica);
        }
    }

    /// Takes what stands in what was read. True if something is to be read again from an earlier place on.
    fn take_pieces(&mut self, now: Mono, replica: &mut Replica) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let file = self.files[self.at].file;
        let mut warm = 0;
        let is_last = self.at + 1 == self.files.len() && file.kind == FileKind::Log;
        let place = self.place;
        loop {
            if warm == 0 {
                warm = WARM_KEYS;
                warm_for(&scan, replica);
            }
            warm -= 1;
            match scan.next() {
                Piece::Body(body) => {
                    if let Some(FileFrame::Synced { bytes }) = frames::parse(body) {
                        self.prove(bytes);
                        if let Some(tear) = self.tear.take_if(|tear| tear.at < bytes) {
                            let is_at_end = scan.is_ended() && tear.place == place;
                            scan = self.go_back(file, tear);
                            if is_at_end {
                                scan.end();
                            }
                        }
                        continue;
                    }
                    if self.tear.is_some() {
                        continue;
                    }
                    if self.state.take_frame(now, file, body, replica).is_none() {
                        self.damage_at(file, self.place, 0);
                        self.lose();
                    } else if is_last {
                        emit(body[0], &mut self.unproven, |out| out.extend_from_slice(&body[1..]));
                        self.unproven_ends.push_back((scan.place(), self.unproven.len()));
                    }
                }
                Piece::Damage { .. } | Piece::Torn { .. } if self.tear.is_some() => {}
                Piece::Damage { at, bytes } => {
                    if is_last && at >= self.synced_bytes && scan.has_hole(at, bytes) {
                        let (place, done_bytes) = (self.place, self.done_bytes);
                        self.tear = Some(Tear { at, bytes, scan: scan.clone(), place, done_bytes });
                        continue;
                    }
                    self.damage_at(file, at, bytes);
                    self.lose();
                }
                Piece::Torn { at, bytes } if is_last => {
                    tell_torn(file, at, bytes);
                    self.state.torn_bytes += bytes;
                }
                Piece::Torn { at, bytes } => {
                    self.damage_at(file, at, bytes);
                    self.lose();
                }
                Piece::Wanted | Piece::End => break,
            }
        }
        self.scan = Some(scan);
        self.place < place
    }

    /// So much of the file at hand is known to have been on the disk.
    fn prove(&mut self, bytes: u64) {
        self.synced_bytes = bytes.max(self.synced_bytes);
        let mut proven = 0;
        while let Some((_, end)) = self.unproven_ends.pop_front_if(|(place, _)| *place <= bytes) {
            proven = end;
        }
        self.unproven.drain(..proven);
        self.unproven_ends.iter_mut().for_each(|(_, end)| *end -= proven);
    }

    /// What seemed to be the torn end of a segment had been synced: it is damage, and what is behind it counts.
    fn go_back(&mut self, file: FileId, tear: Tear) -> Scan {
        (self.place, self.done_bytes) = (tear.place, tear.done_bytes);
        self.damage_at(file, tear.at, tear.bytes);
        self.lose();
        tear.scan
    }

    /// The file at hand was read.
    fn end_file(&mut self, now: Mono, replica: &mut Replica) {
        // What the scan still held says what it was.
        if let Some(scan) = &mut self.scan {
            scan.end();
        }
        if self.take_pieces(now, replica) {
            return;
        }
        self.scan = None;
        let source = self.files[self.at];
        if let Some(Tear { at, .. }) = self.tear.take() {
            let bytes = self.limit(self.at) - at;
            tell_torn(source.file, at, bytes);
            self.state.torn_bytes += bytes;
        }
        if source.file.kind == FileKind::Snapshot && !self.state.ended {
            self.damage_at(source.file, source.bytes, 0);
            self.lose();
        }
        if source.file.kind == FileKind::Snapshot && self.state.is_damaged {
            // All that the snapshot was to hold may be missing.
            replica.origins.restore(std::iter::empty());
        }
        self.at += 1;
        self.place = 0;
    }

    fn damage_at(&mut self, file: FileId, at: u64, bytes: u64) {
        tracing::error!(%file, at, bytes, "damage: what stood there is lost here, and is taken from the peers again");
        self.state.damage.places += 1;
        self.state.damage.bytes += bytes;
        if self.strict {
            self.failure = Some(LoadFailure::Damaged(file, at));
        }
    }

    /// Something is missing from here on.
    fn lose(&mut self) {
        self.state.is_damaged = true;
    }

    /// All was read: the node stands where it stood, and writes to a segment of its own from now on.
    pub(crate) fn finish(
        self,
        now: Now,
        keeper: &mut Keeper,
        config: &Config,
        (replica, repl): (&mut Replica, &mut Replication),
    ) {
        let Self { found, files, state, synced_bytes, unproven, .. } = self;
        let log =
            found.iter().filter(|(file, _)| file.kind == FileKind::Log).map(|(file, bytes)| (file.number, *bytes));
        let used_log = files.iter().filter(|source| source.file.kind == FileKind::Log);
        let used_last = used_log.map(|source| source.file.number).max();
        let last = used_last.or(log.map(|(number, _)| number).max());
        let may_be_there = |source: &&Source| source.begin.is_some() || source.is_unread;
        let read_bytes = files.last().filter(|source| source.file.kind == FileKind::Log).filter(may_be_there);
        let is_read = read_bytes.is_some_and(|source| source.begin.is_some());
        let read_bytes = read_bytes.map_or(0, |source| source.bytes - state.torn_bytes.min(source.bytes));
        // After damage it is not said in other words what was read: it would seem whole.
        let copies = !state.is_damaged;
        let prev_bytes = if copies && is_read { synced_bytes.min(read_bytes) } else { read_bytes };
        let gaps = files.windows(2).filter(|pair| pair[1].has_gap && pair[0].file.kind == FileKind::Log);
        let gaps = gaps.map(|pair| pair[0].file.number);
        let unsynced = gaps.chain(last.filter(|_| !copies)).collect();
        let copy = if copies { unproven } else { Vec::new() };
        let used = |file: &FileId| files.iter().any(|source| source.file == *file);
        keeper.saver.whole = files
            .first()
            .filter(|source| source.file.kind == FileKind::Snapshot)
            .map(|source| (source.file.number, source.bytes));
        keeper.saver.old = found.iter().map(|(file, _)| *file).filter(|file| !used(file)).collect();
        keeper.damage = state.damage;
        let since = files.iter().filter(|source| source.file.kind == FileKind::Log).map(|source| source.bytes).sum();
        if let Some(log) = &mut replica.log {
            log.since_snapshot = since;
        }
        replica.restore(now, &state, config, repl);
        if let Some(stood) = &state.mark {
            keeper.resume_marks(now.wall, stood.number, stood.ceiling);
        }
        let (records, damaged, torn) = (state.records, state.damage.places, state.torn_bytes);
        tracing::info!(records, damaged, torn_bytes = torn, "the data directory was read");
        // The next one takes the place of a segment that never began.
        let number = last.map_or(1, |number| number + 1).max(keeper.saver.whole.map_or(1, |(number, _)| number));
        // Nor is there to be anything where the log goes on behind it.
        // (`sim/regressions/a-segment-that-never-began-stood-where-the-next-but-one-was-to-begin`)
        let is_in_the_way = |file: &FileId| file.kind == FileKind::Log && file.number >= number;
        let useless = keeper.saver.old.iter().filter(|file| is_in_the_way(file) && file.number > number);
        let useless = useless.map(|file| file.number).collect();
        keeper.saver.old.retain(|file| *file != FileId::part(number) && !is_in_the_way(file));
        keeper.saver.remove_parts();
        let is_damaged = state.is_damaged;
        let resumed = Resumed { number, prev_bytes, read_bytes, unsynced, useless, copy, is_damaged };
        keeper.open(resumed, config, replica, repl);
        replica.lift_floors_unless_seen();
    }
}

fn tell_torn(file: FileId, at: u64, bytes: u64) {
    tracing::warn!(%file, at, bytes, "the log was cut while it was written; its torn end is left out");
}

impl Source {
    /// A segment that has not even a beginning: the disk was full, or the process ended, when it was to begin.
    fn is_nothing(&self) -> bool {
        let is_cut = !self.is_unread && !self.is_begun && self.bytes <= BEGINNING_BYTES_MAX as u64;
        self.file.kind == FileKind::Log && self.begin.is_none() && (self.bytes == 0 || self.is_headless || is_cut)
    }

    fn new((file, bytes): (FileId, u64)) -> Self {
        Self {
            file,
            bytes,
            begin: None,
            prev_bytes: 0,
            has_gap: false,
            is_restored: false,
            is_unread: false,
            is_begun: false,
            is_headless: false,
        }
    }
}
