//! Threads that read and write sockets for the event loop, which alone knows what stands on them and what it means.
//!
//! What crosses is a [`Batch`] of jobs: some sockets to be read, and room for what they say, or some to be written to,
//! and what they are sent. It goes to one helper and comes back with what became of each job; the loop goes on
//! meanwhile, and helpers keep nothing. Batches are used again, and go through queues of the standard library. There
//! are locks only for who sleeps, which both sides do after they have looked for more for a while; but who loses its
//! core in the few instructions that put a batch into a queue keeps the other side waiting at its end.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use std::{hint, mem, process, thread};

use kv_core::ConnId;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Registry, Waker};
use tracing::warn;

use crate::connections::{receive, send};

/// Jobs of a batch: few, so that what is done is soon told, and enough that telling it costs little.
const BATCH_JOBS_MAX: usize = 4;
/// Jobs that wait for a helper at the most. The loop does itself what is more.
const WAITING_JOBS_MAX: usize = 64 * BATCH_JOBS_MAX;
/// Batches that the queue to a helper has room for: more than may wait there.
const QUEUE_BATCHES: usize = 2 * WAITING_JOBS_MAX;
/// And the one back, for each helper: what 4,000 clients have in a turn. Where it is full a helper waits.
const DONE_BATCHES: usize = 1_024;
/// Batches of each task that are kept to be used again: for some 1,000 clients at once. What is more is made and
/// dropped.
const SPARE_BATCHES_MAX: usize = 256;
/// Room of a batch for what is read, and what must be left of it for a job to be done.
const ROOM_BYTES: usize = 16 << 10;
const ROOM_BYTES_MIN: usize = ROOM_BYTES / 4;
/// How long a helper looks for work before it sleeps. To wake it costs the loop as much as a write does.
const LOOKS_FOR: Duration = Duration::from_micros(50);
/// In how many turns on end the loop looks for what comes back before it sleeps: a helper may have lost its core.
const LOOKS_MAX: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Read,
    Write,
}

/// Sockets that a helper reads or writes to, one after the other.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) task: Task,
    pub(crate) jobs: Vec<Job>,
    /// What is to be written, or room for what is read.
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) conn: ConnId,
    /// Tells the connection from those that had its number before, or have it by now.
    pub(crate) serial: u32,
    pub(crate) outcome: Outcome,
    stream: Arc<TcpStream>,
    /// Where its bytes end. They begin where those of the job before end.
    upto: usize,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was no room left.
    NotDone,
    /// So many bytes were read or written. `all`: the socket had no more, or there were no more to be written.
    Moved {
        count: usize,
        all: bool,
    },
    WouldBlock,
    Failed,
}

/// The helpers, as the loop has them.
#[derive(Debug)]
pub(crate) struct Helpers {
    helpers: Vec<Helper>,
    /// Those that are being filled, by task.
    open: [Option<Batch>; 2],
    spare: [Vec<Batch>; 2],
    done: Receiver<Batch>,
    /// What was found there before it was asked for.
    next: Option<Batch>,
    bell: Arc<Bell>,
    /// Where sockets are registered.
    registry: Registry,
    /// Batches that did not come back yet.
    under_way: usize,
    /// Turns since the last one that did.
    looks: u32,
}

#[derive(Debug)]
struct Helper {
    queue: SyncSender<Batch>,
    given_jobs: usize,
    done_jobs: Arc<AtomicUsize>,
}

/// Ends the process if the thread panics: the clients whose sockets it has would wait for ever.
struct EndTogether;

/// Wakes the loop, if it says that it sleeps.
#[derive(Debug)]
struct Bell {
    sleeps: AtomicBool,
    waker: Arc<Waker>,
}

/// What a helper works with.
#[derive(Debug)]
pub(crate) struct Hands {
    queue: Receiver<Batch>,
    done: SyncSender<Batch>,
    done_jobs: Arc<AtomicUsize>,
    bell: Arc<Bell>,
}

impl Helpers {
    /// Starts so many threads. Sockets are registered with `registry`, and by `waker` the loop is woken.
    pub(crate) fn start(count: usize, registry: &Registry, waker: &Arc<Waker>) -> io::Result<Self> {
        let (helpers, hands) = Self::by_hand(count, registry.try_clone()?, waker);
        for (number, hands) in hands.into_iter().enumerate() {
            let work = move || {
                let _end = EndTogether;
                while hands.wait().is_some_and(|batch| hands.work(batch)) {}
            };
            thread::Builder::new().name(format!("sockets-{number}")).spawn(work)?;
        }
        Ok(helpers)
    }

    /// Without threads: with what they would work with.
    pub(crate) fn by_hand(count: usize, registry: Registry, waker: &Arc<Waker>) -> (Self, Vec<Hands>) {
        let bell = Arc::new(Bell { sleeps: AtomicBool::new(false), waker: Arc::clone(waker) });
        let (tell, done) = sync_channel(count * DONE_BATCHES);
        let pair = |_| {
            let (give, queue) = sync_channel(QUEUE_BATCHES);
            let done_jobs = Arc::new(AtomicUsize::new(0));
            let helper = Helper { queue: give, given_jobs: 0, done_jobs: Arc::clone(&done_jobs) };
            (helper, Hands { queue, done: tell.clone(), done_jobs, bell: Arc::clone(&bell) })
        };
        let (helpers, hands) = (0..count).map(pair).unzip();
        let (open, spare) = Default::default();
        let helpers = Self { helpers, open, spare, done, next: None, bell, registry, under_way: 0, looks: 0 };
        (helpers, hands)
    }

    /// Whether one of them would soon come to another job.
    pub(crate) fn have_room(&self) -> bool {
        self.helpers.iter().any(|helper| helper.waiting_jobs() < WAITING_JOBS_MAX)
    }

    /// Has a socket read: when others are, too, or after [`hand_over`](Self::hand_over).
    pub(crate) fn read(&mut self, conn: ConnId, serial: u32, stream: &Arc<TcpStream>) {
        self.add(Task::Read, conn, serial, stream, &[]);
    }

    /// Has these bytes written, likewise.
    pub(crate) fn write(&mut self, conn: ConnId, serial: u32, stream: &Arc<TcpStream>, bytes: &[u8]) {
        self.add(Task::Write, conn, serial, stream, bytes);
    }

    fn add(&mut self, task: Task, conn: ConnId, serial: u32, stream: &Arc<TcpStream>, bytes: &[u8]) {
        let spare = &mut self.spare[task as usize];
        let batch = self.open[task as usize].get_or_insert_with(|| spare.pop().unwrap_or_else(|| Batch::new(task)));
        if task == Task::Write {
            batch.bytes.extend_from_slice(bytes);
        }
        let (stream, upto) = (Arc::clone(stream), batch.bytes.len());
        batch.jobs.push(Job { conn, serial, outcome: Outcome::NotDone, stream, upto });
        if batch.jobs.len() == BATCH_JOBS_MAX {
            self.hand_over(task);
        }
    }

    /// Hands over what waits for others of the same task.
    pub(crate) fn hand_over(&mut self, task: Task) {
        let Some(batch) = self.open[task as usize].take() else { return };
        let helper = self.helpers.iter_mut().min_by_key(|helper| helper.waiting_jobs()).expect("there is a helper");
        helper.given_jobs = helper.given_jobs.wrapping_add(batch.jobs.len());
        helper.queue.send(batch).expect("helpers work as long as there is a loop");
        self.under_way += 1;
    }

    /// The next batch that came back.
    pub(crate) fn take_done(&mut self) -> Option<Batch> {
        let batch = self.next.take().or_else(|| self.done.try_recv().ok())?;
        self.under_way -= 1;
        self.looks = 0;
        Some(batch)
    }

    /// Takes a batch for others.
    pub(crate) fn give_back(&mut self, mut batch: Batch) {
        batch.jobs.clear();
        if batch.task == Task::Write {
            batch.bytes.clear();
            batch.bytes.shrink_to(BATCH_JOBS_MAX * ROOM_BYTES);
        }
        let spare = &mut self.spare[batch.task as usize];
        if spare.len() < SPARE_BATCHES_MAX {
            spare.push(batch);
        }
    }

    /// Has the loop told nothing more of a socket that is closed while they have it. They keep its descriptor open, and
    /// its number is soon another's.
    pub(crate) fn hear_no_more_of(&self, stream: &TcpStream) {
        if let Err(error) = self.registry.deregister(&mut SourceFd(&stream.as_raw_fd())) {
            warn!(%error, "cannot leave off hearing of a closed socket");
        }
    }

    /// Whether anything did not come back yet.
    pub(crate) const fn are_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Whether the loop may sleep. If so, it is woken when anything comes back, until it says that it
    /// [is awake](Self::is_awake).
    pub(crate) fn let_sleep(&mut self) -> bool {
        if !self.are_busy() {
            return true;
        }
        self.looks += 1;
        if self.looks <= LOOKS_MAX {
            return false;
        }
        self.bell.sleeps.store(true, Ordering::Relaxed);
        // Either the helper that was done just now sees this, or it is seen here that it was: see `Bell::ring`.
        fence(Ordering::SeqCst);
        self.next = self.next.take().or_else(|| self.done.try_recv().ok());
        self.next.is_none()
    }

    pub(crate) fn is_awake(&self) {
        self.bell.sleeps.store(false, Ordering::Relaxed);
    }
}

impl Helper {
    fn waiting_jobs(&self) -> usize {
        self.given_jobs.wrapping_sub(self.done_jobs.load(Ordering::Relaxed))
    }
}

impl Drop for EndTogether {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

impl Bell {
    /// To be called after what it rings for is there.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeps.load(Ordering::Relaxed)
            && self.sleeps.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            warn!(%error, "cannot wake the event loop; it goes on when anything else happens");
        }
    }
}

impl Hands {
    /// The next batch; none if there is no loop any more.
    fn wait(&self) -> Option<Batch> {
        let since = Instant::now();
        while since.elapsed() < LOOKS_FOR {
            match self.queue.try_recv() {
                Ok(batch) => return Some(batch),
                Err(TryRecvError::Empty) => hint::spin_loop(),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        self.queue.recv().ok()
    }

    /// The next batch, if there is one.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Option<Batch> {
        self.queue.try_recv().ok()
    }

    /// Does a batch. False if there is no loop any more.
    pub(crate) fn work(&self, mut batch: Batch) -> bool {
        batch.work();
        let jobs = batch.jobs.len();
        let is_taken = self.done.send(batch).is_ok();
        self.done_jobs.fetch_add(jobs, Ordering::Relaxed);
        self.bell.ring();
        is_taken
    }
}

impl Batch {
    fn new(task: Task) -> Self {
        let bytes = match task {
            Task::Read => vec![0; ROOM_BYTES],
            Task::Write => Vec::new(),
        };
        Self { task, jobs: Vec::with_capacity(BATCH_JOBS_MAX), bytes }
    }

    /// Each job with what was read, or was to be written.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&Job, &[u8])> {
        let mut from = 0;
        self.jobs.iter().map(move |job| (job, &self.bytes[mem::replace(&mut from, job.upto)..job.upto]))
    }

    fn work(&mut self) {
        let mut from = 0;
        for job in &mut self.jobs {
            (job.upto, job.outcome) = match self.task {
                Task::Read => read(&job.stream, &mut self.bytes, from),
                Task::Write => (job.upto, attempt(job.upto - from, || send(&job.stream, &self.bytes[from..job.upto]))),
            };
            from = job.upto;
        }
    }
}

/// Reads once into `bytes` after the first `from`; where that ends.
fn read(stream: &TcpStream, bytes: &mut [u8], from: usize) -> (usize, Outcome) {
    let room = &mut bytes[from..];
    if room.len() < ROOM_BYTES_MIN {
        return (from, Outcome::NotDone);
    }
    match attempt(room.len(), || receive(stream, room)) {
        // What fills the room may be followed by more.
        Outcome::Moved { count, all } => (from + count, Outcome::Moved { count, all: !all }),
        outcome => (from, outcome),
    }
}

/// Moves up to `len` bytes.
fn attempt(len: usize, mut once: impl FnMut() -> io::Result<usize>) -> Outcome {
    loop {
        return match once() {
            Ok(count) => Outcome::Moved { count, all: count == len },
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Outcome::WouldBlock,
            Err(_) => Outcome::Failed,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{self, TcpListener};

    use mio::{Events, Poll, Token};

    use super::*;

    struct Bench {
        poll: Poll,
        helpers: Helpers,
        hands: Hands,
        stream: Arc<TcpStream>,
        client: net::TcpStream,
    }

    impl Bench {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
            let (helpers, mut hands) = Helpers::by_hand(1, poll.registry().try_clone().unwrap(), &waker);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let stream = Arc::new(TcpStream::from_std(stream));
            Self { poll, helpers, hands: hands.remove(0), stream, client }
        }

        /// Hands over something to write.
        fn write(&mut self, bytes: &[u8]) {
            self.helpers.write(ConnId(0), 1, &self.stream, bytes);
            self.helpers.hand_over(Task::Write);
        }

        fn work(&self) {
            assert!(self.hands.work(self.hands.take().expect("something was handed over")));
        }

        /// Looks for as many turns as it does before it sleeps.
        fn tire(&mut self) {
            for _ in 0..LOOKS_MAX {
                assert!(!self.helpers.let_sleep(), "they may be done in a moment");
            }
        }

        /// Whether the loop is woken if it sleeps now.
        fn is_woken(&mut self) -> bool {
            let mut events = Events::with_capacity(1);
            self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            self.helpers.is_awake();
            !events.is_empty()
        }
    }

    #[test]
    fn a_loop_that_sleeps_is_woken_by_what_comes_back() {
        let mut bench = Bench::new();
        assert!(bench.helpers.let_sleep(), "nothing is under way");
        for _ in 0..3 {
            bench.write(b"one");
            bench.tire();
            assert!(bench.helpers.let_sleep());
            bench.work();
            assert!(bench.is_woken());
            let batch = bench.helpers.take_done().expect("it came back");
            let outcomes = batch.pieces().map(|(job, bytes)| (job.conn, job.serial, job.outcome, bytes));
            let expected = [(ConnId(0), 1, Outcome::Moved { count: 3, all: true }, &b"one"[..])];
            assert_eq!(outcomes.collect::<Vec<_>>(), expected);
            bench.helpers.give_back(batch);
            assert!(bench.helpers.let_sleep() && !bench.helpers.are_busy());
            let mut read = [0; 3];
            bench.client.read_exact(&mut read).unwrap();
            assert_eq!(&read, b"one");
        }
    }

    #[test]
    fn what_came_back_before_the_loop_sleeps_keeps_it_awake_and_wakes_it_no_more() {
        let mut bench = Bench::new();
        bench.write(b"one");
        bench.write(b"two");
        bench.tire();
        bench.work();
        assert!(!bench.helpers.let_sleep(), "it is found at the last look");
        assert!(!bench.is_woken());
        assert!(bench.helpers.take_done().is_some());
        // It looks as long for the other one, and while it is awake nothing has to wake it.
        bench.tire();
        bench.work();
        assert!(!bench.is_woken());
        assert!(bench.helpers.take_done().is_some() && bench.helpers.take_done().is_none());
        assert!(bench.helpers.let_sleep());
    }

    #[test]
    fn several_that_come_back_ring_once() {
        let mut bench = Bench::new();
        bench.write(b"one");
        bench.write(b"two");
        bench.tire();
        assert!(bench.helpers.let_sleep());
        bench.work();
        assert!(bench.is_woken());
        bench.work();
        assert!(!bench.is_woken());
        assert!(bench.helpers.take_done().is_some() && bench.helpers.take_done().is_some());
    }

    #[test]
    fn what_does_not_fit_a_batch_is_not_done() {
        let mut bench = Bench::new();
        let count = ROOM_BYTES - ROOM_BYTES_MIN + 1;
        bench.client.write_all(&vec![7; count]).unwrap();
        while !matches!(bench.stream.peek(&mut [0; ROOM_BYTES]), Ok(arrived) if arrived == count) {
            thread::yield_now();
        }
        bench.helpers.read(ConnId(0), 1, &bench.stream);
        bench.helpers.read(ConnId(1), 2, &bench.stream);
        bench.helpers.hand_over(Task::Read);
        bench.work();
        let batch = bench.helpers.take_done().expect("it came back");
        let counts = batch.pieces().map(|(job, bytes)| (job.outcome, bytes.len()));
        let expected = [(Outcome::Moved { count, all: true }, count), (Outcome::NotDone, 0)];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_more_batches_are_kept_than_are_of_use() {
        let mut bench = Bench::new();
        for _ in 0..2 * SPARE_BATCHES_MAX {
            bench.helpers.give_back(Batch::new(Task::Write));
        }
        assert_eq!(bench.helpers.spare[Task::Write as usize].len(), SPARE_BATCHES_MAX);
    }
}
