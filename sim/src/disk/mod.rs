//! A simulated disk: what a machine keeps of the files of its node, however it ends.
//!
//! It carries out the same operations in the same two lanes as `runtime`'s, each after a time of its own, and tells
//! what became of them. A process that ends leaves all that was written; a machine that ends loses what was not
//! synced, or keeps some of it ([`Disk::stop`]). Every draw is keyed by what it is about: the node, the file or the
//! lane, and how much had come before.

mod copies;
mod directory;
mod file;

use std::collections::{BTreeSet, VecDeque};

use kv_core::{DiskError, DiskOp, DiskWork, FileId, FileKind, Lane};

use crate::plan::size;
use crate::rng::{delay_us, keyed, scale};
pub use copies::Copied;
use copies::Copies;
use directory::Directory;
use file::File;

/// Streams of draws.
const TIME: u64 = 1;
const FAIL: u64 = 2;
const PART: u64 = 3;
const CRASH: u64 = 4;
const NAMES: u64 = 5;
const LATE: u64 = 6;
const COPY: u64 = 7;

/// What an operation without syncing takes on average.
const WRITE_US_MEAN: u64 = 20;

/// The disk of one machine.
#[derive(Debug)]
pub struct Disk {
    seed: u64,
    sync_us_mean: u64,
    /// All that ever were; what no name leads to is gone.
    files: Vec<File>,
    directory: Directory,
    lanes: [Queue; 2],
    /// Files that this run of the node has made.
    made: BTreeSet<FileId>,
    /// Counts runs: what was under way for an earlier one is told to nobody.
    run: u64,
    trouble: Trouble,
    /// Bits that have turned, with their files, and those of them that were read since the last start.
    flips: Vec<(usize, u64)>,
    flips_read: u64,
    /// Places that were given up as unreadable since then.
    unread: u64,
    /// What it was asked for though no node may.
    misuse: Option<String>,
    copies: Copies,
}

/// The work of a lane.
#[derive(Debug, Default)]
struct Queue {
    ops: VecDeque<(DiskOp, Vec<u8>)>,
    /// An operation is under way: the first.
    is_busy: bool,
    /// One has failed, and nobody has resumed since.
    is_stopped: bool,
    /// Carried out, and yet to be told.
    untold: u32,
    failed: Option<DiskError>,
    /// Begun since the machine was built.
    count: u64,
    /// Ended since then.
    ended: u64,
    /// Each time that the run which is up asked for something: when it did, the number of the last operation, and when
    /// that one ended.
    asked: Vec<(u64, u64, Option<u64>)>,
}

/// Until when what goes wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    full_us: u64,
    write_us: u64,
    sync_us: u64,
    read_us: u64,
    slow_us: u64,
    /// How much longer a sync takes while it is slow.
    extra_us: u64,
}

/// What fails, see [`Disk::fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Writing, creating, renaming, removing.
    Write,
    /// Syncing.
    Sync,
    /// Reading.
    Read,
}

/// What a lane tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many operations are done.
    Done(u32),
    /// The next one failed.
    Failed(DiskError),
}

impl Disk {
    /// The empty disk of `node`, on which a sync takes `sync_us_mean` on average.
    #[must_use]
    pub fn new(seed: u64, node: u64, sync_us_mean: u64) -> Self {
        Self {
            seed: keyed(seed, &[0xd15c, node]),
            sync_us_mean,
            files: Vec::new(),
            directory: Directory::default(),
            lanes: [Queue::default(), Queue::default()],
            made: BTreeSet::new(),
            run: 0,
            trouble: Trouble::default(),
            flips: Vec::new(),
            flips_read: 0,
            unread: 0,
            misuse: None,
            copies: Copies::default(),
        }
    }

    /// The name of the run that it works for: what was begun for another one is not to be told.
    #[must_use]
    pub const fn run(&self) -> u64 {
        self.run
    }

    /// Puts work, of one operation at least, behind what the lane has to do.
    pub fn push(&mut self, lane: Lane, work: &DiskWork, now_us: u64) {
        let mut data = work.data.as_slice();
        for op in &work.ops {
            let bytes = if let DiskOp::Append { bytes, .. } = op { *bytes as usize } else { 0 };
            let Some((head, rest)) = data.split_at_checked(bytes) else {
                self.misuse = Some(format!("{op:?} comes with {} bytes", data.len()));
                return;
            };
            data = rest;
            self.lanes[lane as usize].ops.push_back((*op, head.to_vec()));
        }
        if !data.is_empty() {
            self.misuse = Some(format!("{} bytes come with no operation", data.len()));
        }
        let queue = &mut self.lanes[lane as usize];
        queue.asked.push((now_us, queue.ended + queue.ops.len() as u64, None));
    }

    /// When a lane had done all that it had been asked for by `at_us`; `None`: it has yet to.
    #[must_use]
    pub fn caught_up_us(&self, lane: Lane, at_us: u64) -> Option<u64> {
        let asked = &self.lanes[lane as usize].asked;
        let later = asked.partition_point(|(asked_us, ..)| *asked_us <= at_us);
        asked[..later].last().map_or(Some(0), |(.., done_us)| *done_us)
    }

    /// Begins the next operation of a lane, unless one is under way; returns when it ends.
    pub fn begin(&mut self, lane: Lane, now_us: u64) -> Option<u64> {
        let queue = &mut self.lanes[lane as usize];
        let (op, _) = queue.ops.front().filter(|_| !queue.is_busy)?;
        queue.is_busy = true;
        queue.count += 1;
        let draw = keyed(self.seed, &[TIME, lane as u64, queue.count]);
        let is_slow = now_us < self.trouble.slow_us;
        let us = match op {
            DiskOp::Resume => 0,
            DiskOp::Sync { .. } | DiskOp::SyncDir => {
                delay_us(draw, self.sync_us_mean) + if is_slow { self.trouble.extra_us } else { 0 }
            }
            DiskOp::Append { bytes, .. } => {
                // A write waits for the disk, too, once the system has as much unwritten as it likes.
                let stalls = is_slow && draw.is_multiple_of(16);
                let stall_us = if stalls { self.trouble.extra_us } else { 0 };
                delay_us(draw, WRITE_US_MEAN) + u64::from(*bytes) / 256 + stall_us
            }
            DiskOp::Finish { .. } | DiskOp::Remove { .. } => delay_us(draw, WRITE_US_MEAN),
        };
        Some(now_us + us.max(1))
    }

    /// Ends the operation of a lane that is under way. Whether there is something [to tell](Self::tell) now; some of
    /// what is done is told with what comes next.
    pub fn end(&mut self, lane: Lane, now_us: u64) -> bool {
        let queue = &mut self.lanes[lane as usize];
        if !std::mem::take(&mut queue.is_busy) {
            return false;
        }
        let Some((op, data)) = queue.ops.pop_front() else { return false };
        queue.ended += 1;
        let waiting = queue.asked.partition_point(|(.., done_us)| done_us.is_some());
        for (.., done_us) in queue.asked[waiting..].iter_mut().take_while(|(_, last, _)| *last <= queue.ended) {
            *done_us = Some(now_us);
        }
        let (count, more) = (queue.count, !queue.ops.is_empty());
        queue.is_stopped &= op != DiskOp::Resume;
        if queue.is_stopped {
            return false;
        }
        let result = self.carry_out(op, &data, keyed(self.seed, &[FAIL, lane as u64, count]), now_us);
        let is_late = more && result.is_ok() && keyed(self.seed, &[LATE, lane as u64, count]) & 1 == 0;
        let queue = &mut self.lanes[lane as usize];
        queue.untold += u32::from(result.is_ok());
        queue.is_stopped = result.is_err();
        queue.failed = result.err();
        !is_late
    }

    /// What there is to tell of a lane next.
    pub fn tell(&mut self, lane: Lane) -> Option<Told> {
        let queue = &mut self.lanes[lane as usize];
        let done = std::mem::take(&mut queue.untold);
        if done > 0 { Some(Told::Done(done)) } else { queue.failed.take().map(Told::Failed) }
    }

    /// Whether a lane has nothing to do, and nothing to tell.
    #[must_use]
    pub fn is_idle(&self, lane: Lane) -> bool {
        let queue = &self.lanes[lane as usize];
        queue.ops.is_empty() && queue.untold == 0 && queue.failed.is_none()
    }

    fn carry_out(&mut self, op: DiskOp, data: &[u8], draw: u64, now_us: u64) -> Result<(), DiskError> {
        // Now and then one gets through.
        let fails = |until_us: u64| now_us < until_us && !draw.is_multiple_of(8);
        let (full, write) = (fails(self.trouble.full_us), fails(self.trouble.write_us));
        let sync = fails(self.trouble.sync_us);
        let writes = if write { Err(DiskError::Write) } else { Ok(()) };
        match op {
            DiskOp::Append { file, .. } => {
                let error = if full { Err(DiskError::Full) } else { writes };
                self.append(file, data, error, draw)
            }
            DiskOp::Sync { file } => {
                // The other lane may have removed it meanwhile.
                let Some(inode) = self.directory.of(file) else { return Ok(()) };
                if sync {
                    self.files[inode].fail_sync(draw);
                    return Err(DiskError::Sync);
                }
                self.files[inode].sync();
                Ok(())
            }
            DiskOp::SyncDir if sync => Err(DiskError::Sync),
            DiskOp::SyncDir => {
                self.directory.sync();
                Ok(())
            }
            DiskOp::Finish { file } => {
                writes?;
                let part = FileId::part(file.number);
                if self.directory.of(part).is_none() {
                    self.misuse = Some(format!("{file} is finished, and there is no part of it"));
                }
                self.directory.rename(part, file);
                self.made.insert(file);
                Ok(())
            }
            DiskOp::Remove { file } => {
                writes?;
                self.directory.remove(file);
                Ok(())
            }
            DiskOp::Resume => Ok(()),
        }
    }

    /// Appends; with an error, part of it.
    fn append(&mut self, file: FileId, data: &[u8], result: Result<(), DiskError>, draw: u64) -> Result<(), DiskError> {
        // Where creating the file fails there is none.
        if result.is_err() && !self.made.contains(&file) && draw & 1 == 0 {
            return result;
        }
        let inode = match self.directory.of(file) {
            Some(inode) => {
                if !self.made.contains(&file) {
                    self.misuse = Some(format!("{file} is written by a run that did not make it"));
                }
                inode
            }
            None => {
                self.files.push(File::default());
                self.directory.create(file, self.files.len() - 1);
                self.made.insert(file);
                self.files.len() - 1
            }
        };
        match result {
            Ok(()) => self.files[inode].append(data),
            Err(_) => {
                let part = self.part(data.len(), draw);
                self.files[inode].append_part(&data[..part]);
            }
        }
        result
    }

    fn part(&self, bytes: usize, draw: u64) -> usize {
        size(scale(keyed(self.seed, &[PART, draw]), bytes as u64 + 1))
    }

    /// The process ends, and what it had asked for with it; of what it was writing a part is there. `crash`: the
    /// machine ends with it.
    pub fn stop(&mut self, crash: bool) {
        self.run += 1;
        for lane in [Lane::Log, Lane::Snapshot] {
            let queue = std::mem::take(&mut self.lanes[lane as usize]);
            (self.lanes[lane as usize].count, self.lanes[lane as usize].ended) = (queue.count, queue.ended);
            if let Some((DiskOp::Append { file, .. }, data)) = queue.ops.front()
                && queue.is_busy
                && !queue.is_stopped
            {
                let draw = keyed(self.seed, &[PART, lane as u64, queue.count]);
                // As if it had failed; nobody hears of it.
                let _unheard = self.append(*file, data, Err(DiskError::Write), draw);
            }
        }
        self.made.clear();
        (self.flips_read, self.unread) = (0, 0);
        if crash {
            self.lose_power();
        }
    }

    /// Bytes that no sync has dealt with, and whether a snapshot is being written.
    #[must_use]
    pub fn under_way(&self) -> (u64, bool) {
        let unsettled = |(_, inode): (FileId, usize)| self.files[inode].len() - self.files[inode].settled();
        let bytes: usize = self.directory.names().map(unsettled).sum();
        (bytes as u64, self.directory.names().any(|(file, _)| file.kind == FileKind::Part))
    }

    fn lose_power(&mut self) {
        let counts = self.lanes.each_ref().map(|lane| lane.count);
        self.directory.crash(keyed(self.seed, &[NAMES, counts[0], counts[1]]));
        for (file, inode) in self.directory.names() {
            let state = &mut self.files[inode];
            let words = [CRASH, file.kind as u64, file.number.into(), state.len() as u64, state.settled() as u64];
            state.crash(keyed(self.seed, &words));
        }
    }

    /// What stands in the directory, in order.
    #[must_use]
    pub fn list(&self) -> Vec<(FileId, u64)> {
        self.directory.names().map(|(file, inode)| (file, self.files[inode].len() as u64)).collect()
    }

    /// At most `count` bytes of a file from `at` on.
    ///
    /// # Errors
    ///
    /// If the disk cannot read them, now.
    pub fn read(&mut self, file: FileId, at: u64, count: u32, now_us: u64) -> Result<&[u8], DiskError> {
        let Some(inode) = self.directory.of(file).filter(|inode| at < self.files[*inode].len() as u64) else {
            return Ok(&[]);
        };
        let draw = keyed(self.seed, &[FAIL, file.kind as u64, file.number.into(), at]);
        if now_us < self.trouble.read_us && draw.is_multiple_of(2) {
            return Err(DiskError::Read);
        }
        // What is read with the beginning of a file is looked at when its blocks are, if they count.
        let read = at..at + if at == 0 { self.files[inode].head() } else { u64::from(count) };
        let flips = self.flips.iter().filter(|(of, place)| *of == inode && read.contains(&(place / 8)));
        self.flips_read += flips.count() as u64;
        Ok(self.files[inode].read(at, count))
    }

    /// The node could not read a place, and does not try it again.
    pub const fn give_up(&mut self) {
        self.unread += 1;
    }

    /// How many of the bits that were read since the node started have turned, and how many places it gave up.
    #[must_use]
    pub const fn wrong_reads(&self) -> u64 {
        self.flips_read + self.unread
    }

    /// A bit turns on the platter, in one of the node's files, by `draw`; returns the file, and which of its
    /// bits.
    pub fn flip(&mut self, draw: u64) -> Option<(FileId, u64)> {
        let is_whole = |file: &FileId| file.kind != FileKind::Part;
        let files: Vec<_> = self.directory.names().filter(|(file, _)| is_whole(file)).collect();
        let total: u64 = files.iter().map(|(_, inode)| self.files[*inode].sound() as u64).sum();
        let mut at = scale(keyed(draw, &[1]), total);
        for (file, inode) in files {
            let sound = self.files[inode].sound() as u64;
            if at < sound {
                let bit = 8 * at + draw % 8;
                self.files[inode].flip(bit);
                // A bit that turns twice is as it was.
                match self.flips.iter().position(|flip| *flip == (inode, bit)) {
                    Some(before) => drop(self.flips.remove(before)),
                    None => self.flips.push((inode, bit)),
                }
                return Some((file, bit));
            }
            at -= sound;
        }
        None
    }

    /// There is no room until then.
    pub fn fill(&mut self, until_us: u64) {
        self.trouble.full_us = self.trouble.full_us.max(until_us);
    }

    /// Something fails until then, mostly.
    pub fn fail(&mut self, what: Failing, until_us: u64) {
        let end_us = match what {
            Failing::Write => &mut self.trouble.write_us,
            Failing::Sync => &mut self.trouble.sync_us,
            Failing::Read => &mut self.trouble.read_us,
        };
        *end_us = until_us.max(*end_us);
    }

    /// Syncs take longer until then.
    pub fn slow(&mut self, extra_us: u64, until_us: u64) {
        self.trouble.slow_us = self.trouble.slow_us.max(until_us);
        self.trouble.extra_us = extra_us;
    }

    /// Nothing is wrong with it any more.
    pub const fn heal(&mut self) {
        self.trouble = Trouble { full_us: 0, write_us: 0, sync_us: 0, read_us: 0, slow_us: 0, extra_us: 0 };
    }

    /// What it was asked for though no node may.
    pub const fn take_misuse(&mut self) -> Option<String> {
        self.misuse.take()
    }
}

#[cfg(test)]
mod tests;
