//! What goes from one thread to the other and back, and the clocks by which it is told when.
//!
//! The clients' ends of the sockets are served by the same thread, between its turns, and that is not measured. So a
//! thread has a clock of its own ([`Clock`]), which stands still then and is put forward to when a message was sent, as
//! in a simulation: it tells what a thread does that has a core to itself, and what it waits for the other one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use std::{hint, mem, thread};

use super::CLIENTS;

/// Messages under way to a thread: what each client asks for is in one at the most, so there is always room.
const PARCELS_MAX: usize = CLIENTS + 1;

/// Some hundred microseconds. Whoever waits longer lets others have the core: the other thread may have none.
const SPINS_MAX: u32 = 10_000;

/// By how much the clock of a thread may be ahead of the other's where a turn begins, in nanoseconds.
const AHEAD_MAX: u64 = 5_000;

/// What stands in place of the time of a thread that has nothing to do.
const WAITS: u64 = u64::MAX;

/// The time that a thread would have taken, had it a core to itself and clients on another machine.
pub(crate) struct Clock {
    begun: Instant,
    /// What it lags behind: work at the clients' ends, and waiting for the other thread while that does such work.
    stood_still: Duration,
    /// What it was put forward, as the other thread had to be waited for.
    put_forward: Duration,
}

/// To the other thread and back.
pub(crate) struct Link {
    to: SyncSender<Parcel>,
    from: Receiver<Parcel>,
    /// What came, but was sent later than now by this thread's clock.
    next: Option<Parcel>,
    pub(crate) spare: Vec<Message>,
    /// In nanoseconds, where the clocks of this thread and of the other one stand.
    own_clock: Arc<AtomicU64>,
    other_clock: Arc<AtomicU64>,
    pub(crate) other_is_done: bool,
}

struct Parcel {
    sent: Duration,
    content: Content,
}

pub(crate) enum Content {
    Requests(Message),
    Replies(Message),
    /// No requests follow.
    Done,
}

#[derive(Default)]
pub(crate) struct Message {
    pub(crate) requests: Pieces,
    /// In the same order.
    pub(crate) replies: Vec<u8>,
}

/// Bytes of several clients, and where those of each end.
#[derive(Default)]
pub(crate) struct Pieces {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<(u32, usize)>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now(), stood_still: Duration::ZERO, put_forward: Duration::ZERO }
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed() + self.put_forward - self.stood_still
    }

    pub(crate) fn stand_still<T>(&mut self, during: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = during();
        self.stood_still += since.elapsed();
        result
    }

    pub(crate) fn put_forward(&mut self, to: Duration) {
        self.put_forward += to.saturating_sub(self.now());
    }
}

impl Link {
    pub(crate) fn pair() -> [Self; 2] {
        let (to_first, at_first) = sync_channel(PARCELS_MAX);
        let (to_second, at_second) = sync_channel(PARCELS_MAX);
        let clocks = [0; 2].map(|_| Arc::new(AtomicU64::new(0)));
        let [first, second] = [[0, 1], [1, 0]].map(|order| order.map(|of| Arc::clone(&clocks[of])));
        [(to_second, at_first, first), (to_first, at_second, second)].map(|(to, from, [own_clock, other_clock])| Self {
            to,
            from,
            next: None,
            spare: Vec::new(),
            own_clock,
            other_clock,
            other_is_done: false,
        })
    }

    pub(crate) fn send(&self, clock: &Clock, content: Content) {
        self.to.send(Parcel { sent: clock.now(), content }).expect("the other thread is there");
    }

    /// The next one that was sent by now, or, if it may, that will be.
    pub(crate) fn receive(&mut self, clock: &mut Clock, may_wait: bool) -> Option<Content> {
        if self.next.is_none() {
            self.next = self.arrived();
        }
        if self.next.is_none() && may_wait {
            self.show_waiting();
            self.next = Some(clock.stand_still(|| spin(|| self.arrived())));
        }
        let parcel = self.next.take_if(|parcel| may_wait || parcel.sent <= clock.now())?;
        clock.put_forward(parcel.sent);
        Some(parcel.content)
    }

    fn arrived(&self) -> Option<Parcel> {
        match self.from.try_recv() {
            Ok(parcel) => Some(parcel),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the other thread is there"),
        }
    }

    /// The other thread need not let this one catch up.
    pub(crate) fn show_waiting(&self) {
        self.show(WAITS);
    }

    pub(crate) fn show(&self, clock: u64) {
        self.own_clock.store(clock, Ordering::Relaxed);
    }

    /// Lets the other thread catch up, which was at its clients' ends.
    pub(crate) fn keep_pace(&self, clock: &mut Clock) {
        let now = clock.now().as_nanos() as u64;
        self.show(now);
        let is_ahead = || now > self.other_clock.load(Ordering::Relaxed).saturating_add(AHEAD_MAX);
        if is_ahead() {
            clock.stand_still(|| spin(|| (!is_ahead()).then_some(())));
        }
    }
}

impl Drop for Link {
    /// The other thread waits for this one no longer, and finds out that it has gone.
    fn drop(&mut self) {
        self.show_waiting();
    }
}

fn spin<T>(mut until: impl FnMut() -> Option<T>) -> T {
    let mut spins = 0;
    loop {
        if let Some(found) = until() {
            return found;
        }
        if spins < SPINS_MAX {
            hint::spin_loop();
        } else {
            thread::yield_now();
        }
        spins += 1;
    }
}

impl Pieces {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// What was appended is of this client.
    pub(crate) fn end(&mut self, number: u32) {
        let end = self.bytes.len();
        if self.ends.last().map_or(0, |(_, before)| *before) < end {
            self.ends.push((number, end));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> + Clone {
        let mut from = 0;
        self.ends.iter().map(move |(number, end)| (*number, &self.bytes[mem::replace(&mut from, *end)..*end]))
    }

    /// To be written to.
    pub(crate) fn rooms(&mut self) -> impl Iterator<Item = (u32, &mut [u8])> {
        let (mut rest, mut from) = (self.bytes.as_mut_slice(), 0);
        self.ends.iter().map(move |(number, end)| {
            let count = end - mem::replace(&mut from, *end);
            (*number, rest.split_off_mut(..count).expect("ends are within the bytes"))
        })
    }
}
