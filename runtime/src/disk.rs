//! The disk, behind two threads: what the node has to say to it is handed over at the end of a turn, and what became of
//! it is told in a later one. The event loop itself writes and syncs nothing.
//!
//! Each [`Lane`] has a thread, so that the log does not wait for a snapshot. How much may wait is the node's to bound:
//! it counts what was not told as done.

mod files;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kv_core::{DiskOp, DiskWork, Event, Lane, Turn};
use mio::Waker;
use tracing::warn;

use crate::disk::files::{Files, Outcome};

/// Both lanes, in the order in which they are kept.
const LANES: [Lane; 2] = [Lane::Log, Lane::Snapshot];
/// Appends wait for no more of them when so much waits.
const BATCH_BYTES: usize = 1 << 20;
/// What the turns hand over is put together up to this, so that the thread writes it in one go; what is longer is worth
/// a write, and not another copy.
const CHUNK_BYTES: usize = 128 << 10;
/// Capacity that a buffer may keep. One turn may append a value of many megabytes, and that once a year.
const KEPT_BYTES: usize = 2 * CHUNK_BYTES;
/// Buffers that are kept for reuse: as many as fill between two writes of a busy node.
const KEPT_BUFFERS: usize = 16;
/// How long appends may wait for more of them when nobody waits for a sync. Without it the thread would be woken for
/// every turn, which costs more than the write; and of a node that is killed the system has all but this.
const GATHER_MAX: Duration = Duration::from_millis(5);
/// After a sync the log rests for this part of the time that it took, and takes nothing more: those who were answered
/// by it come back meanwhile and share the next one. Without it they would be two groups, each of which waits for the
/// sync of the other.
const REST_SHARE: u32 = 8;
/// And no longer than this.
const REST_MAX: Duration = Duration::from_millis(1);

/// The data directory as the event loop sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    lanes: [Arc<LaneQueue>; 2],
    bell: Arc<Bell>,
    /// Empty; what a turn hands over is swapped into it.
    work: DiskWork,
}

/// How the threads say that there is something to tell.
#[derive(Debug)]
struct Bell {
    /// There is.
    news: AtomicBool,
    /// The loop was woken for it and has not looked yet: once is enough.
    rung: AtomicBool,
    waker: Arc<Waker>,
}

/// What the loop and a thread share.
#[derive(Debug)]
struct LaneQueue {
    queue: Mutex<Queue>,
    arrived: Condvar,
    finished: Condvar,
    bell: Arc<Bell>,
    /// Whether appends wait for more.
    gathers: bool,
    rest: Rest,
}

/// See [`REST_SHARE`].
#[derive(Debug, Default)]
struct Rest {
    is_on: AtomicBool,
    /// The loop had something to hand over meanwhile, perhaps.
    holds_back: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<DiskWork>,
    /// Data of all that is waiting.
    waiting_bytes: usize,
    free: Vec<DiskWork>,
    thread: ThreadState,
    /// Somebody waits for what is queued, or it is much.
    urgent: bool,
    /// Not told yet.
    outcome: Outcome,
    /// Nothing more comes: the thread is to sync and to end.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ThreadState {
    /// It looks at the queue again by itself.
    #[default]
    Busy,
    /// It does so soon, and has to be woken if it is urgent.
    Gathers,
    /// It has to be woken.
    Idle,
    /// It has ended.
    Ended,
}

impl Disk {
    /// Starts the threads. `waker` is called when something is to be [told](Self::tell).
    pub(crate) fn start(directory: &Path, waker: &Arc<Waker>) -> io::Result<Self> {
        let bell = Bell { news: AtomicBool::new(false), rung: AtomicBool::new(false), waker: Arc::clone(waker) };
        let bell = Arc::new(bell);
        let start = |lane: Lane| {
            let queue = Arc::new(LaneQueue {
                queue: Mutex::default(),
                arrived: Condvar::new(),
                finished: Condvar::new(),
                bell: Arc::clone(&bell),
                gathers: lane == Lane::Log,
                rest: Rest::default(),
            });
            let (files, shared) = (Files::new(directory.to_owned())?, Arc::clone(&queue));
            let name = match lane {
                Lane::Log => "disk-log",
                Lane::Snapshot => "disk-snapshot",
            };
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _last_resort = AbortOnPanic;
                shared.work(files);
            })?;
            Ok::<_, io::Error>(queue)
        };
        let lanes = [start(LANES[0])?, start(LANES[1])?];
        Ok(Self { lanes, bell, work: DiskWork::default() })
    }

    /// Hands over what the turn has for the disk.
    pub(crate) fn hand_over(&mut self, turn: &mut Turn) {
        for (lane, queue) in LANES.into_iter().zip(&self.lanes) {
            if !queue.rest.holds_back() && turn.take_disk(lane, &mut self.work) {
                queue.push(&mut self.work);
            }
        }
    }

    /// Tells the turn what was done since.
    pub(crate) fn tell(&self, turn: &mut Turn) {
        if !self.bell.answer() {
            return;
        }
        for (lane, queue) in LANES.into_iter().zip(&self.lanes) {
            let Outcome { done_before, failed, done } = std::mem::take(&mut queue.lock().outcome);
            if done_before > 0 {
                turn.event(Event::DiskDone { lane, ops: done_before });
            }
            if let Some(error) = failed {
                turn.event(Event::DiskFailed { lane, error });
            }
            if done > 0 {
                turn.event(Event::DiskDone { lane, ops: done });
            }
        }
    }

    /// Whether something may have been held back that is handed over once the log has rested: the loop is woken then.
    pub(crate) fn is_resting(&self) -> bool {
        self.lanes[0].rest.is_on.load(Ordering::Relaxed)
    }

    /// Hands over what there is, and waits until the log has taken and synced everything, for `max` at the longest. A
    /// snapshot that is under way is given up: what there is of it is removed later.
    pub(crate) fn finish(mut self, turn: &mut Turn, max: Duration) {
        for (lane, queue) in LANES.into_iter().zip(&self.lanes) {
            if turn.take_disk(lane, &mut self.work) {
                queue.push(&mut self.work);
            }
        }
        self.stop(max);
    }

    fn stop(self, max: Duration) {
        for queue in &self.lanes {
            queue.lock().closed = true;
            queue.arrived.notify_one();
        }
        let log = &self.lanes[0];
        let waits = log.finished.wait_timeout_while(log.lock(), max, |queue| queue.thread != ThreadState::Ended);
        if waits.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            warn!("the disk did not take everything in time; what was written last may be lost");
        }
    }
}

/// A node that went on without its disk would acknowledge what is written nowhere.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

impl LaneQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `work`, and leaves an empty one in its place.
    fn push(&self, work: &mut DiskWork) {
        let appends = work.ops.iter().all(|op| matches!(op, DiskOp::Append { .. }));
        let mut queue = self.lock();
        queue.waiting_bytes += work.data.len();
        // Those who wait for a sync share it only if it comes in one piece.
        let together_max = if appends { CHUNK_BYTES } else { BATCH_BYTES };
        match queue.waiting.back_mut() {
            Some(last) if last.data.len() + work.data.len() <= together_max => {
                last.ops.extend_from_slice(&work.ops);
                last.data.extend_from_slice(&work.data);
                work.clear();
            }
            _ => {
                let empty = queue.free.pop().unwrap_or_default();
                queue.waiting.push_back(std::mem::replace(work, empty));
            }
        }
        queue.urgent |= !self.gathers || !appends || queue.waiting_bytes >= BATCH_BYTES;
        let wakes = match queue.thread {
            ThreadState::Idle => true,
            ThreadState::Gathers => queue.urgent,
            ThreadState::Busy | ThreadState::Ended => false,
        };
        if wakes {
            // By the one who wakes it: nobody has to do so again.
            queue.thread = ThreadState::Busy;
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// The thread.
    fn work(&self, mut files: Files) {
        let mut work = DiskWork::default();
        while self.next(&mut work) {
            let begin = Instant::now();
            let outcome = files.carry_out(&work);
            let synced = self.gathers && work.ops.iter().any(|op| matches!(op, DiskOp::Sync { .. }));
            let rest = (begin.elapsed() / REST_SHARE).min(REST_MAX);
            self.rest.is_on.store(synced, Ordering::Release);
            self.add(outcome, &work);
            if synced {
                self.rest(rest);
            }
        }
        if self.gathers {
            files.finish();
        }
        self.lock().thread = ThreadState::Ended;
        self.finished.notify_all();
    }

    fn rest(&self, time: Duration) {
        let open = |queue: &mut Queue| !queue.closed;
        drop(self.arrived.wait_timeout_while(self.lock(), time, open));
        self.rest.is_on.store(false, Ordering::SeqCst);
        if self.rest.holds_back.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Waits for the next batch and swaps it in; false at the end.
    fn next(&self, work: &mut DiskWork) -> bool {
        let mut queue = self.lock();
        if self.gathers && !queue.urgent && !queue.closed {
            queue.thread = ThreadState::Gathers;
            let patient = |queue: &mut Queue| !queue.urgent && !queue.closed;
            let waits = self.arrived.wait_timeout_while(queue, GATHER_MAX, patient);
            queue = waits.unwrap_or_else(PoisonError::into_inner).0;
            // All of it goes now.
            queue.urgent = !queue.waiting.is_empty();
        }
        while queue.waiting.is_empty() && !queue.closed {
            queue.thread = ThreadState::Idle;
            if queue.outcome != Outcome::default() {
                self.bell.ring();
            }
            let empty = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
            queue = self.arrived.wait_while(queue, empty).unwrap_or_else(PoisonError::into_inner);
        }
        queue.thread = ThreadState::Busy;
        let Some(next) = queue.waiting.pop_front() else { return false };
        queue.waiting_bytes -= next.data.len();
        queue.urgent &= !queue.waiting.is_empty();
        let mut used = std::mem::replace(work, next);
        used.clear();
        if queue.free.len() < KEPT_BUFFERS && used.data.capacity() <= KEPT_BYTES {
            queue.free.push(used);
        }
        true
    }

    /// Notes what became of `work`, and wakes the loop if somebody may wait for that.
    fn add(&self, outcome: Outcome, work: &DiskWork) {
        let waits = outcome.failed.is_some() || work.ops.iter().any(|op| !matches!(op, DiskOp::Append { .. }));
        self.lock().outcome.add(outcome);
        self.bell.news.store(true, Ordering::Release);
        if waits || !self.gathers {
            self.bell.ring();
        }
    }
}

impl Rest {
    /// Whether the log takes nothing now; the loop is woken when it does again. In this order: either this sees that it
    /// is over, or the end of it sees that something is held back.
    fn holds_back(&self) -> bool {
        if !self.is_on.load(Ordering::SeqCst) {
            return false;
        }
        self.holds_back.store(true, Ordering::SeqCst);
        self.is_on.load(Ordering::SeqCst)
    }
}

impl Bell {
    fn ring(&self) {
        self.news.store(true, Ordering::Release);
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails only when the loop has ended.
            let _ = self.waker.wake();
        }
    }

    /// Whether there is something to tell. In this order: who rings in between is heard now, or rings again.
    fn answer(&self) -> bool {
        self.rung.store(false, Ordering::Release);
        self.news.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{DiskError, FileId};
    use mio::{Events, Poll, Token};

    use super::*;
    use crate::directory::tests::TestDirectory;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Loop {
        poll: Poll,
        disk: Disk,
    }

    impl Loop {
        fn start(directory: &TestDirectory) -> Self {
            let poll = Poll::new().unwrap();
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
            Self { disk: Disk::start(directory.path(), &waker).unwrap(), poll }
        }

        fn push(&self, lane: usize, ops: &[DiskOp], data: &[u8]) {
            self.disk.lanes[lane].push(&mut DiskWork { ops: ops.to_vec(), data: data.to_vec() });
        }

        /// Waits until a lane has told of so many operations, or of a failure.
        fn told(&mut self, lane: usize, ops: u32) -> Outcome {
            let mut outcome = Outcome::default();
            let mut events = Events::with_capacity(4);
            while outcome.failed.is_none() && outcome.done < ops {
                self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
                assert!(!events.is_empty(), "{outcome:?} of {ops}");
                if self.disk.bell.answer() {
                    outcome.add(std::mem::take(&mut self.disk.lanes[lane].lock().outcome));
                }
            }
            outcome
        }
    }

    const FILE: FileId = FileId::log(1);

    const fn append(bytes: u32) -> DiskOp {
        DiskOp::Append { file: FILE, bytes }
    }

    #[test]
    fn the_loop_is_woken_for_what_was_done() {
        let directory = TestDirectory::new();
        let mut woken = Loop::start(&directory);
        for turn in 0..100_u32 {
            woken.push(0, &[append(4)], &turn.to_le_bytes());
            if turn % 10 == 9 {
                woken.push(0, &[DiskOp::Sync { file: FILE }], &[]);
                assert_eq!(woken.told(0, 11).done, 11);
            }
        }
        let written: Vec<u8> = (0..100_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(directory.read(FILE), written);
    }

    #[test]
    fn appends_are_told_although_nobody_waits_for_them() {
        let directory = TestDirectory::new();
        let mut woken = Loop::start(&directory);
        woken.push(0, &[append(2)], b"ab");
        woken.push(0, &[append(1)], b"c");
        assert_eq!(woken.told(0, 2), Outcome { done: 2, ..Outcome::default() });
        assert_eq!(directory.read(FILE), b"abc");
    }

    #[test]
    fn what_is_long_is_written_in_its_turn() {
        let directory = TestDirectory::new();
        let mut woken = Loop::start(&directory);
        let lengths = [10, CHUNK_BYTES, 1, CHUNK_BYTES / 2, CHUNK_BYTES, BATCH_BYTES, 7, 3 * BATCH_BYTES, 5];
        let mut all = Vec::new();
        for (number, bytes) in lengths.into_iter().enumerate() {
            let data = vec![number as u8; bytes];
            woken.push(0, &[append(bytes as u32)], &data);
            all.extend(data);
        }
        woken.push(0, &[DiskOp::Sync { file: FILE }], &[]);
        let ops = lengths.len() as u32 + 1;
        assert_eq!(woken.told(0, ops), Outcome { done: ops, ..Outcome::default() });
        assert_eq!(directory.read(FILE), all);
        let queue = woken.disk.lanes[0].lock();
        assert_eq!((queue.waiting.len(), queue.waiting_bytes), (0, 0));
        assert!(queue.free.iter().all(|free| free.data.capacity() <= KEPT_BYTES));
    }

    #[test]
    fn lanes_do_not_stop_each_other() {
        let directory = TestDirectory::new();
        let mut woken = Loop::start(&directory);
        woken.push(1, &[DiskOp::Finish { file: FileId::snapshot(7) }], &[]);
        assert_eq!(woken.told(1, 1).failed, Some(DiskError::Write));
        woken.push(0, &[append(1), DiskOp::SyncDir], b"x");
        assert_eq!(woken.told(0, 2).done, 2);
        woken.push(1, &[DiskOp::SyncDir], &[]);
        woken.push(1, &[DiskOp::Resume, DiskOp::SyncDir], &[]);
        assert_eq!(woken.told(1, 2).done, 2);
    }

    #[test]
    fn what_is_queued_at_the_end_is_written() {
        let directory = TestDirectory::new();
        let woken = Loop::start(&directory);
        for _ in 0..10 {
            woken.push(0, &[append(1 << 20)], &vec![b'x'; 1 << 20]);
        }
        woken.disk.stop(PATIENCE);
        assert_eq!(directory.read(FILE).len(), 10 << 20);
    }

    #[test]
    fn buffers_come_back() {
        let directory = TestDirectory::new();
        let mut woken = Loop::start(&directory);
        for _ in 0..100 {
            woken.push(0, &[append(3), DiskOp::Sync { file: FILE }], b"abc");
            woken.told(0, 2);
        }
        let queue = woken.disk.lanes[0].lock();
        assert!((1..=KEPT_BUFFERS).contains(&queue.free.len()) && queue.waiting.is_empty());
        assert!(queue.free.iter().all(|work| work.data.capacity() <= KEPT_BYTES));
    }
}
