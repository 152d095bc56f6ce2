//! The loop of one thread that asks and listens.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};

use super::connection::{Broken, Connection, Pending, Server};
use super::options::BenchOptions;
use super::pace::Pace;
use super::reply::Reply;
use super::workload::Workload;

/// Longest latency that is told apart: two days, more than the longest load.
const LATENCY_NS_MAX: u64 = 2 * 86_400_000_000_000;

/// Latencies are told to a thousandth.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How long what is under way at the end may still be answered.
const DRAIN: Duration = Duration::from_secs(5);

/// A server that answers nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How often that is looked at, and whether another thread failed, at least.
const LOOK_NS: u64 = 500_000_000;

/// A request that is due sooner is waited for awake: the system would wake us later than that.
const AWAKE_NS: u64 = 1_500_000;

/// What one read takes at the most.
const READ_BYTES: usize = 64 << 10;

/// How many requests that were never sent are recorded one by one; of more, some stand for the others.
const UNSENT_RECORDS_MAX: u64 = 100_000;

/// When a load is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// That many requests were answered; all of them count.
    Answered(u64),
    /// `measured` after the warm-up. Of a closed load that counts which is answered after the warm-up, or not at all;
    /// of an open one that which is due after it.
    Passed { warm_up: Duration, measured: Duration },
}

/// What the threads of a load share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Answers that have come so far.
    pub(crate) answered: AtomicU64,
    /// One of them failed, so the others need not go on.
    pub(crate) failed: AtomicBool,
}

/// What came of a load. Each request that counts is one of `succeeded`, `refused`, `unanswered` and `unsent`.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: u64,
    /// Of these, reads of keys that are not there.
    pub(crate) absent: u64,
    pub(crate) refused: u64,
    /// Of those that succeeded, the ones that were answered after the end, which make no rate.
    pub(crate) late: u64,
    /// What the first refusal said, also one that does not count.
    pub(crate) first_refusal: Option<String>,
    /// Not answered until some time after the end.
    pub(crate) unanswered: u64,
    /// Due, and not sent before the end, because those before them were not answered.
    pub(crate) unsent: u64,
    /// From the end of the warm-up to the end; that is the last answer if requests are counted, and not time.
    pub(crate) took: Duration,
    /// Of those that succeeded, in nanoseconds; and of those that were not answered or sent, how long they waited.
    pub(crate) latencies: Histogram<u64>,
    /// Share of a core that asking took; of several threads that of the busiest.
    pub(crate) busy: f64,
}

impl Outcome {
    pub(crate) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("bounds in order");
        Self {
            succeeded: 0,
            absent: 0,
            late: 0,
            refused: 0,
            first_refusal: None,
            unanswered: 0,
            unsent: 0,
            took: Duration::ZERO,
            latencies,
            busy: 0.0,
        }
    }

    /// That of several threads together.
    pub(crate) fn all(outcomes: Vec<Self>) -> Self {
        outcomes.into_iter().fold(Self::new(), |mut sum, one| {
            sum.succeeded += one.succeeded;
            sum.absent += one.absent;
            sum.late += one.late;
            sum.refused += one.refused;
            sum.first_refusal = sum.first_refusal.or(one.first_refusal);
            sum.unanswered += one.unanswered;
            sum.unsent += one.unsent;
            sum.took = sum.took.max(one.took);
            sum.latencies.add(one.latencies).expect("the same bounds");
            sum.busy = sum.busy.max(one.busy);
            sum
        })
    }

    /// Counts an answer that came at `now_ns`, `is_late` if that is after the end.
    fn count(&mut self, pending: Pending, reply: Reply<'_>, now_ns: u64, is_late: bool) {
        match reply {
            Reply::Done | Reply::Absent => {
                self.succeeded += 1;
                self.absent += u64::from(reply == Reply::Absent);
                self.late += u64::from(is_late);
                self.latencies.saturating_record(now_ns.saturating_sub(pending.since_ns));
            }
            Reply::Refused(_) => self.refused += 1,
        }
    }

    /// Keeps what the first refusal says: it may be why nothing else is answered.
    fn note(&mut self, reply: Reply<'_>) {
        if let Reply::Refused(text) = reply {
            self.first_refusal.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
        }
    }
}

/// A load of one thread.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    shared: &'a Shared,
    begin: Instant,
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    workload: Workload,
    /// Most requests under way on each connection.
    depth: usize,
    pace: Pace,
    /// How many requests are to be asked.
    limit: u64,
    /// From the end of the warm-up to the end of all.
    measured: Range<u64>,
    /// Requests that were taken up.
    asked: u64,
    /// Those that are not answered.
    under_way: usize,
    /// The connection that the next request of an open load is tried on first.
    turn: usize,
    /// Connections that requests of an open load were just put on.
    touched: Vec<usize>,
    /// When the last answer came.
    last_ns: u64,
    /// [`SILENCE_MAX`], but for a test.
    silence_max: Duration,
    /// When anything came last, or something was asked while nothing was under way.
    heard_ns: u64,
    /// It is over, and nothing is asked any more.
    draining: bool,
    outcome: Outcome,
}

impl<'a> Driver<'a> {
    pub(crate) fn connect(
        server: &Server,
        options: &BenchOptions,
        connections: usize,
        workload: Workload,
        until: Until,
        shared: &'a Shared,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connected = Vec::with_capacity(connections);
        for number in 0..connections {
            let mut connection = Connection::connect(server, options.protocol)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut connection.stream, Token(number), interest)?;
            connected.push(connection);
        }
        let (limit, measured) = match until {
            // Without an end, but that of the requests.
            Until::Answered(count) => (count, 0..u64::MAX),
            Until::Passed { warm_up, measured } => {
                (u64::MAX, warm_up.as_nanos() as u64..(warm_up + measured).as_nanos() as u64)
            }
        };
        Ok(Self {
            shared,
            begin: Instant::now(),
            poll,
            connections: connected,
            buffer: vec![0; READ_BYTES],
            workload,
            depth: options.pipeline,
            pace: Pace::Closed,
            limit,
            measured,
            asked: 0,
            under_way: 0,
            turn: 0,
            touched: Vec::new(),
            silence_max: SILENCE_MAX,
            heard_ns: 0,
            last_ns: 0,
            draining: false,
            outcome: Outcome::new(),
        })
    }

    pub(crate) fn with_depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    pub(crate) fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Asks and listens until it is over; times count from `begin`. What stops it before is told with the first refusal
    /// until then, which may be the reason.
    pub(crate) fn run(mut self, begin: Instant) -> Result<Outcome, (Broken, Option<String>)> {
        self.begin = begin;
        let done = self.ask_and_listen();
        match done {
            Ok(()) => Ok(self.outcome),
            Err(broken) => {
                self.shared.failed.store(true, Ordering::Relaxed);
                if matches!(broken, Broken::Closed) {
                    self.hear_out();
                }
                Err((broken, self.outcome.first_refusal))
            }
        }
    }

    /// Reads once more what each connection has: who closes one may have said why, and that is not read yet if sending
    /// failed first.
    fn hear_out(&mut self) {
        let Self { connections, buffer, outcome, .. } = self;
        for connection in connections {
            // Those that are of no use any more are passed over.
            let Ok(count) = connection.read(buffer) else { continue };
            if let Err(Broken::Refused(said)) = connection.take(&buffer[..count], |_, reply| outcome.note(reply)) {
                outcome.first_refusal.get_or_insert(said);
            }
        }
    }

    fn ask_and_listen(&mut self) -> Result<(), Broken> {
        let busy_before = thread_time();
        let mut events = Events::with_capacity(1_024);
        let from_ns = self.now_ns();
        self.heard_ns = from_ns;
        if self.pace == Pace::Closed {
            for number in 0..self.connections.len() {
                self.ask_on(number, from_ns)?;
            }
        }
        let mut now_ns = from_ns;
        while !self.is_over(now_ns) && !self.shared.failed.load(Ordering::Relaxed) {
            self.ask_due(now_ns)?;
            self.turn(&mut events, self.timeout(now_ns))?;
            now_ns = self.now_ns();
            if self.under_way > 0 && now_ns.saturating_sub(self.heard_ns) > self.silence_max.as_nanos() as u64 {
                return Err(Broken::Silent(self.silence_max));
            }
        }
        let busy = thread_time().saturating_sub(busy_before);
        self.outcome.busy = busy.as_secs_f64() / Duration::from_nanos(now_ns - from_ns).as_secs_f64().max(1e-9);
        self.drain(&mut events)
    }

    /// Waits for what is under way, for a while, and counts what was not answered or sent.
    fn drain(&mut self, events: &mut Events) -> Result<(), Broken> {
        // What became due since the last look.
        self.ask_due(self.measured.end)?;
        self.draining = true;
        let until_ns = self.now_ns() + DRAIN.as_nanos() as u64;
        while self.under_way > 0 && self.now_ns() < until_ns && !self.shared.failed.load(Ordering::Relaxed) {
            self.turn(events, Duration::from_millis(10))?;
        }
        let now_ns = self.now_ns();
        for pending in self.connections.iter().flat_map(Connection::under_way) {
            if counts(self.pace, &self.measured, *pending, now_ns) {
                self.outcome.unanswered += 1;
                self.outcome.latencies.saturating_record(now_ns.saturating_sub(pending.since_ns));
            }
        }
        let mut end_ns = self.last_ns;
        if self.measured.end < u64::MAX {
            self.record_unsent();
            end_ns = self.measured.end;
        }
        self.outcome.took = Duration::from_nanos(end_ns.saturating_sub(self.measured.start));
        Ok(())
    }

    /// What was due and is not sent has waited until the end, at least.
    fn record_unsent(&mut self) {
        let [begin, end] = [self.measured.start, self.measured.end].map(|ns| self.pace.due_before(ns));
        let first = self.asked.max(begin);
        self.outcome.unsent = end.saturating_sub(first);
        let step = (self.outcome.unsent / UNSENT_RECORDS_MAX).max(1);
        let mut number = first;
        while number < end {
            let count = step.min(end - number);
            let waited_ns = self.measured.end - self.pace.due_ns(number).unwrap_or(self.measured.end);
            self.outcome.latencies.saturating_record_n(waited_ns, count);
            number += count;
        }
    }

    /// Waits for the sockets, takes in what they have, and asks again what there is room for on those of a closed load.
    fn turn(&mut self, events: &mut Events, timeout: Duration) -> Result<(), Broken> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in events.iter() {
            let Token(number) = event.token();
            if event.is_writable() {
                self.connections[number].flush()?;
            }
            let ended = event.is_read_closed() || event.is_error();
            if event.is_readable() || ended {
                let now_ns = self.receive(number, ended)?;
                if self.pace == Pace::Closed && !self.draining {
                    self.ask_on(number, now_ns)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what has come; to the very end if it has one. Returns the time.
    fn receive(&mut self, number: usize, ended: bool) -> Result<u64, Broken> {
        loop {
            let Self { connections, buffer, pace, measured, outcome, .. } = self;
            let count = connections[number].read(buffer)?;
            let now_ns = nanoseconds(self.begin);
            let mut answered = 0;
            connections[number].take(&buffer[..count], |pending, reply| {
                answered += 1;
                outcome.note(reply);
                if counts(*pace, measured, pending, now_ns) {
                    outcome.count(pending, reply, now_ns, now_ns >= measured.end);
                }
            })?;
            if count > 0 {
                self.heard_ns = now_ns;
            }
            if answered > 0 {
                self.last_ns = now_ns;
                self.under_way -= answered;
                self.shared.answered.fetch_add(answered as u64, Ordering::Relaxed);
            }
            // A read that had room left has taken all there was.
            if count == 0 || (count < READ_BYTES && !ended) {
                return Ok(now_ns);
            }
        }
    }

    /// Takes up as many requests as there is room for on a connection of a closed load.
    fn ask_on(&mut self, number: usize, now_ns: u64) -> Result<(), Broken> {
        let left = self.limit.saturating_sub(self.asked);
        let connection = &mut self.connections[number];
        let count = left.min(self.depth.saturating_sub(connection.under_way().len()) as u64);
        for _ in 0..count {
            connection.ask(now_ns, |out| self.workload.put(out));
        }
        self.asked += count;
        self.under_way += count as usize;
        connection.flush()
    }

    /// Takes up what is due of an open load, as far as there is room for it: the connections take turns.
    fn ask_due(&mut self, now_ns: u64) -> Result<(), Broken> {
        while let Some(due_ns) = self.next_due_ns().filter(|due_ns| *due_ns <= now_ns) {
            while self.connections[self.turn].under_way().len() >= self.depth {
                self.turn = (self.turn + 1) % self.connections.len();
            }
            if !self.connections[self.turn].has_unsent() {
                self.touched.push(self.turn);
            }
            self.connections[self.turn].ask(due_ns, |out| self.workload.put(out));
            self.turn = (self.turn + 1) % self.connections.len();
            if self.under_way == 0 {
                self.heard_ns = now_ns;
            }
            self.asked += 1;
            self.under_way += 1;
        }
        self.touched.iter().try_for_each(|number| self.connections[*number].flush())?;
        self.touched.clear();
        Ok(())
    }

    /// When the next request of an open load is due, if there is room for it.
    fn next_due_ns(&self) -> Option<u64> {
        let has_room = self.under_way < self.connections.len() * self.depth && self.asked < self.limit;
        self.pace.due_ns(self.asked).filter(|due_ns| has_room && *due_ns < self.measured.end)
    }

    /// How long nothing is to be done unless a socket has something.
    fn timeout(&self, now_ns: u64) -> Duration {
        let end_ns = self.measured.end.min(now_ns + LOOK_NS);
        match self.next_due_ns() {
            Some(due_ns) if due_ns < now_ns + AWAKE_NS => Duration::ZERO,
            Some(due_ns) => Duration::from_nanos(end_ns.min(due_ns - AWAKE_NS).saturating_sub(now_ns)),
            None => Duration::from_nanos(end_ns.saturating_sub(now_ns)),
        }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.measured.end || (self.asked >= self.limit && self.under_way == 0)
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.begin)
    }
}

/// Whether a request counts that is answered, or given up, at `now_ns`. Of an open load that does not depend on the
/// answer, or what a stall in the warm-up holds up would be measured after it.
fn counts(pace: Pace, measured: &Range<u64>, pending: Pending, now_ns: u64) -> bool {
    let at_ns = match pace {
        Pace::Closed => now_ns,
        Pace::Open { .. } => pending.since_ns,
    };
    at_ns >= measured.start
}

fn nanoseconds(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}

/// Processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    use super::super::tests::options;
    use super::super::workload::Operation;
    use super::*;

    fn plain(address: SocketAddr) -> Server {
        Server { address, tls: None }
    }

    #[test]
    fn who_never_answers_is_given_up() {
        // The system accepts for it.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        for rate in [None, Some(1_000.0)] {
            let (options, shared) = (options(&[]), Shared::default());
            let workload = Workload::new(&options, Operation::Get, 0);
            let server = mute.local_addr().unwrap();
            let driver = Driver::connect(&plain(server), &options, 2, workload, Until::Answered(10), &shared).unwrap();
            let driver = Driver { silence_max: Duration::from_millis(20), ..driver.with_pace(Pace::of(rate, 0, 1)) };
            let given_up = driver.run(Instant::now());
            assert!(matches!(given_up, Err((Broken::Silent(_), None))), "{given_up:?}");
            assert!(shared.failed.load(Ordering::Relaxed), "the other threads are told");
        }
    }

    #[test]
    fn what_a_closed_connection_said_is_heard() {
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        for asks in [true, false] {
            let (options, shared) = (options(&[]), Shared::default());
            let workload = Workload::new(&options, Operation::Get, 0);
            let server = full.local_addr().unwrap();
            let mut driver =
                Driver::connect(&plain(server), &options, 1, workload, Until::Answered(1), &shared).unwrap();
            if asks {
                driver.ask_on(0, 0).unwrap();
            }
            full.accept().unwrap().0.write_all(b"-ERR full\r\n").unwrap();
            while driver.connections[0].stream.peek(&mut [0]).is_err() {
                std::thread::yield_now();
            }
            driver.hear_out();
            assert_eq!(driver.outcome.first_refusal.as_deref(), Some("ERR full"));
        }
    }

    #[test]
    fn of_much_that_was_not_sent_some_stands_for_the_rest() {
        let (options, shared) = (options(&[]), Shared::default());
        let workload = Workload::new(&options, Operation::Get, 0);
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let until = Until::Passed { warm_up: Duration::ZERO, measured: Duration::from_secs(86_400) };
        let driver =
            Driver::connect(&plain(mute.local_addr().unwrap()), &options, 1, workload, until, &shared).unwrap();
        let mut driver = driver.with_pace(Pace::of(Some(1e8), 0, 1));
        driver.asked = 7;
        driver.record_unsent();
        let Outcome { unsent, latencies, .. } = driver.outcome;
        assert_eq!((unsent, latencies.len()), (8_640_000_000_000 - 7, 8_640_000_000_000 - 7));
        let half = latencies.value_at_quantile(0.5) as f64 / 1e9;
        assert!((half / 43_200.0 - 1.0).abs() < 2e-3, "{half} s");
    }
}
