//! A thread with a node and clients of its own, and what it hands to the other one.
//!
//! A turn is as a driver's: what there is of all clients is handed in, then what they are answered goes out. What it
//! asks of the other thread goes there as one message a turn, before the thread's own work, and comes back with the
//! replies. A queue of the standard library carries it, without locks, and without calls of the system as long as
//! neither side sleeps. Messages and buffers are used again. Each client has a session on either node, as its rights
//! are looked up where its requests are run.
//!
//! What a node would have to find out is known here, in favour of threads: all requests are of one length, and so are
//! all replies. Only the owner of a key parses a request of it.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use std::{hint, mem, thread};

use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};

use super::requests::Dialect::Array;
use super::tape::{Kind, Tape, key_of, owner};

/// Clients of all threads together.
const CLIENTS: u32 = 50;

/// Sessions from there on are of clients of the other thread.
const VISITORS_FROM: u32 = CLIENTS;

/// Requests that a client sends ahead at the most: one for each bit of [`Client::crossed`].
pub(crate) const DEPTH_MAX: usize = 128;

/// Inputs that a node gets ready for at once.
const EXPECTED_MAX: usize = 32;

/// Messages under way to a thread: what each client asks for is in one at the most, so there is always room.
const PARCELS_MAX: usize = CLIENTS as usize + 1;

/// Some hundred microseconds. Whoever waits longer lets others have the core: the other thread may have none.
const SPINS_MAX: u32 = 10_000;

const START: WallMs = WallMs(1_700_000_000_000);

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) tape: &'a Tape,
    pub(crate) depth: usize,
    /// How often a thread plays its share of the tape.
    pub(crate) passes: usize,
    pub(crate) checks_all: bool,
}

/// What a thread did for its own clients.
pub(crate) struct Outcome {
    pub(crate) ops: usize,
    /// Those of them that the other thread carried out.
    pub(crate) crossed: usize,
    /// The time that it took, less that in which there was nothing to do but to wait for the other thread.
    pub(crate) busy: Duration,
    pub(crate) waited: Duration,
}

/// To the other thread and back.
pub(crate) struct Link {
    to: SyncSender<Parcel>,
    from: Receiver<Parcel>,
    spare: Vec<Message>,
    other_is_done: bool,
}

enum Parcel {
    Requests(Message),
    Replies(Message),
    /// No requests follow.
    Done,
}

#[derive(Default)]
struct Message {
    requests: Pieces,
    /// In the same order.
    replies: Vec<u8>,
}

/// Bytes of several clients, and where those of each end.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<(u32, usize)>,
}

#[derive(Clone, Copy, Default)]
struct Client {
    /// Where its batch stands on the tape.
    at: usize,
    /// By request: whether the other thread has it. Not 0 until its replies are back.
    crossed: u128,
}

/// A node and its clients. What crossing adds is in functions of their own, so that a profile tells it.
pub(crate) struct Worker {
    turn: Turn,
    number: usize,
    threads: usize,
    born: Instant,
    clients: Vec<Client>,
    /// Those that have all their replies.
    ready: Vec<u32>,
    /// Where on the tape the batches of this turn end, and whose they are.
    asked: Vec<(u32, usize)>,
    /// What of them is of this thread's keys.
    own: Pieces,
    /// What the other thread asks for in this turn.
    served: Vec<Message>,
    merged: Vec<u8>,
}

/// How far a job has got.
struct Progress<'a> {
    job: &'a Job<'a>,
    share: &'a [u8],
    at: usize,
    unasked: usize,
    unanswered: usize,
    crossed: usize,
}

impl Link {
    pub(crate) fn pair() -> [Self; 2] {
        let (to_first, at_first) = sync_channel(PARCELS_MAX);
        let (to_second, at_second) = sync_channel(PARCELS_MAX);
        [(to_second, at_first), (to_first, at_second)].map(|(to, from)| {
            let spare = Vec::new();
            Self { to, from, spare, other_is_done: false }
        })
    }

    fn send(&self, parcel: Parcel) {
        self.to.send(parcel).expect("the other thread is there");
    }

    #[inline(never)]
    fn wait(&self) -> Result<Parcel, TryRecvError> {
        let mut spins = 0;
        loop {
            match self.from.try_recv() {
                Err(TryRecvError::Empty) if spins < SPINS_MAX => hint::spin_loop(),
                Err(TryRecvError::Empty) => thread::yield_now(),
                found => return found,
            }
            spins += 1;
        }
    }
}

impl Worker {
    /// A node with its part of so many keys.
    pub(crate) fn new(number: usize, threads: usize, keys: u32) -> Self {
        let born = Instant::now();
        let mut turn = Turn::new(Config::new([number as u64; 4], "a", "a:1".to_owned()), now(born));
        for conn in (0..2 * CLIENTS).map(ConnId) {
            turn.event(Event::Opened { conn });
            turn.input(conn, Array.greeting());
            take_output(&mut turn, conn, |_| {});
        }
        let numbers: Vec<u32> = (0..keys).collect();
        let tape = Tape::new(Kind::Set, &numbers, 0);
        for request in tape.share(0, 1, 1).chunks_exact(tape.request_bytes) {
            if threads == 1 || owner(key_of(request)) == number {
                turn.begin(now(born));
                turn.input(ConnId(0), request);
                take_output(&mut turn, ConnId(0), |reply| tape.check(request, reply, true));
            }
        }
        while turn.next_ready().is_some() {}
        let clients = vec![Client::default(); CLIENTS as usize / threads];
        let (ready, asked, served, merged) = Default::default();
        Self { turn, number, threads, born, clients, ready, asked, own: Pieces::default(), served, merged }
    }

    /// Plays the thread's share of the tape, then serves the other thread until it is done, too.
    pub(crate) fn run(&mut self, job: &Job<'_>, mut link: Option<Link>) -> Outcome {
        let share = job.tape.share(self.number, self.threads, job.depth);
        let ops = job.passes * share.len() / job.tape.request_bytes;
        let mut progress = Progress { job, share, at: 0, unasked: ops, unanswered: ops, crossed: 0 };
        let (begun, mut waited, mut busy) = (Instant::now(), Duration::ZERO, None);
        self.ready.extend(0..self.clients.len() as u32);
        while progress.unanswered > 0 || link.as_ref().is_some_and(|link| !link.other_is_done) {
            if let Some(link) = &mut link {
                waited += self.listen(link, &mut progress);
            }
            self.take_turn(link.as_mut(), &mut progress);
            if progress.unanswered == 0 && busy.is_none() {
                busy = Some((begun.elapsed() - waited, waited));
                link.iter().for_each(|link| link.send(Parcel::Done));
            }
        }
        self.ready.clear();
        let (busy, waited) = busy.expect("all is answered");
        Outcome { ops, crossed: progress.crossed, busy, waited }
    }

    /// Takes what the other thread has sent; for how long it had to be waited for, as there was nothing else to do.
    #[inline(never)]
    fn listen(&mut self, link: &mut Link, progress: &mut Progress<'_>) -> Duration {
        let (mut parcel, mut waited) = (link.from.try_recv(), Duration::ZERO);
        if matches!(parcel, Err(TryRecvError::Empty)) && (progress.unasked == 0 || self.ready.is_empty()) {
            let since = Instant::now();
            parcel = link.wait();
            waited = since.elapsed();
        }
        while let Ok(taken) = parcel {
            match taken {
                Parcel::Requests(message) => self.served.push(message),
                Parcel::Replies(mut message) => {
                    self.merge(&message, progress);
                    message.requests.clear();
                    message.replies.clear();
                    link.spare.push(message);
                }
                Parcel::Done => link.other_is_done = true,
            }
            parcel = link.from.try_recv();
        }
        assert!(link.other_is_done || matches!(parcel, Err(TryRecvError::Empty)), "the other thread is there");
        waited
    }

    /// The replies of clients, put together of both threads'.
    #[inline(never)]
    fn merge(&mut self, message: &Message, progress: &mut Progress<'_>) {
        let (depth, reply_bytes) = (progress.job.depth, progress.job.tape.reply_bytes);
        let mut rest = message.replies.as_slice();
        for (number, _) in &message.requests.ends {
            let client = &mut self.clients[*number as usize];
            let crossed = mem::take(&mut client.crossed);
            let theirs = rest.split_off(..crossed.count_ones() as usize * reply_bytes).expect("all is answered");
            if crossed.count_ones() as usize == depth {
                progress.answered(client.at, theirs);
            } else {
                let merged = &mut self.merged;
                merged.clear();
                take_output(&mut self.turn, ConnId(*number), |ours| {
                    let mut sides = [ours, theirs];
                    for at in 0..depth {
                        let side = &mut sides[(crossed >> at) as usize & 1];
                        merged.extend_from_slice(side.split_off(..reply_bytes).expect("each is answered"));
                    }
                });
                progress.answered(client.at, merged);
            }
            self.ready.push(*number);
        }
    }

    #[inline(never)]
    fn take_turn(&mut self, mut link: Option<&mut Link>, progress: &mut Progress<'_>) {
        self.turn.begin(now(self.born));
        let asked = self.ask(progress);
        let own = if let Some(link) = &mut link {
            self.split(asked, link, progress);
            pieces(&self.own.bytes, &self.own.ends)
        } else {
            pieces(asked, &self.asked)
        };
        let visitors = self.served.iter().flat_map(|message| pieces(&message.requests.bytes, &message.requests.ends));
        let visitors = visitors.map(|(number, bytes)| (VISITORS_FROM + number, bytes));
        hand_in(&mut self.turn, own.chain(visitors).map(|(number, bytes)| (ConnId(number), bytes)));
        self.turn.settle();
        while let Some(conn) = self.turn.next_ready() {
            // What visitors are answered is taken below; and others wait for what the other thread has.
            let client = self.clients.get(conn.0 as usize).filter(|client| client.crossed == 0);
            if let Some(client) = client {
                take_output(&mut self.turn, conn, |replies| progress.answered(client.at, replies));
                self.ready.push(conn.0);
            }
        }
        for mut message in self.served.drain(..) {
            for (number, _) in &message.requests.ends {
                let conn = ConnId(VISITORS_FROM + number);
                take_output(&mut self.turn, conn, |replies| message.replies.extend_from_slice(replies));
            }
            if let Some(link) = &link {
                link.send(Parcel::Replies(message));
            }
        }
    }

    /// Takes the next batch off the tape for each client that is ready; all that was taken.
    fn ask<'a>(&mut self, progress: &mut Progress<'a>) -> &'a [u8] {
        let Progress { job, share, at: from, .. } = *progress;
        self.asked.clear();
        while progress.unasked > 0
            && progress.at < share.len()
            && let Some(number) = self.ready.pop()
        {
            self.clients[number as usize] = Client { at: progress.at, crossed: 0 };
            progress.at += job.depth * job.tape.request_bytes;
            progress.unasked -= job.depth;
            self.asked.push((number, progress.at - from));
        }
        let asked = &share[from..progress.at];
        progress.at %= share.len();
        asked
    }

    /// Parts what is this thread's from what is the other's, and sends it that.
    #[inline(never)]
    fn split(&mut self, asked: &[u8], link: &mut Link, progress: &mut Progress<'_>) {
        let mut message = link.spare.pop().unwrap_or_default();
        self.own.clear();
        let mut sides = [&mut self.own, &mut message.requests];
        for (number, batch) in pieces(asked, &self.asked) {
            let mut crossed: u128 = 0;
            for (at, request) in batch.chunks_exact(progress.job.tape.request_bytes).enumerate() {
                let side = usize::from(owner(key_of(request)) != self.number);
                crossed |= (side as u128) << at;
                sides[side].bytes.extend_from_slice(request);
            }
            self.clients[number as usize].crossed = crossed;
            progress.crossed += crossed.count_ones() as usize;
            sides.iter_mut().for_each(|side| side.end(number));
        }
        if message.requests.ends.is_empty() {
            link.spare.push(message);
        } else {
            link.send(Parcel::Requests(message));
        }
    }
}

impl Pieces {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// What was appended is of this client.
    fn end(&mut self, number: u32) {
        let end = self.bytes.len();
        if self.ends.last().map_or(0, |(_, before)| *before) < end {
            self.ends.push((number, end));
        }
    }
}

impl Progress<'_> {
    /// The batch that begins there on the tape has these replies.
    fn answered(&mut self, at: usize, replies: &[u8]) {
        let Job { tape, depth, checks_all, .. } = *self.job;
        tape.check(&self.share[at..][..depth * tape.request_bytes], replies, checks_all);
        self.unanswered -= depth;
    }
}

fn pieces<'a>(bytes: &'a [u8], ends: &'a [(u32, usize)]) -> impl Iterator<Item = (u32, &'a [u8])> + Clone {
    let mut from = 0;
    ends.iter().map(move |(number, end)| (*number, &bytes[mem::replace(&mut from, *end)..*end]))
}

fn hand_in<'b>(turn: &mut Turn, mut inputs: impl Iterator<Item = (ConnId, &'b [u8])> + Clone) {
    while inputs.clone().next().is_some() {
        turn.expect(inputs.clone().take(EXPECTED_MAX));
        inputs.by_ref().take(EXPECTED_MAX).for_each(|(conn, bytes)| turn.input(conn, bytes));
    }
}

fn take_output(turn: &mut Turn, conn: ConnId, take: impl FnOnce(&[u8])) {
    let bytes = turn.output(conn);
    let count = bytes.len();
    take(bytes);
    turn.sent(conn, count);
}

fn now(born: Instant) -> Now {
    let us = born.elapsed().as_micros() as u64;
    Now { mono: Mono(us), wall: START.plus_ms(us / 1_000) }
}
