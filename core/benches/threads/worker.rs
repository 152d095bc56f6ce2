//! A thread with a node and clients of its own, and what it hands to the other one.
//!
//! A turn is as a driver's: what there is of all clients is read and handed in, then what they are answered goes out,
//! over sockets. What it asks of the other thread goes there as one message a turn, before the thread's own work, and
//! comes back with the replies. A queue of the standard library carries it, without locks, and without calls of the
//! system as long as neither side sleeps. Messages and buffers are used again. Each client has a session on either
//! node, as its rights are looked up where its requests are run.
//!
//! The clients' ends of the sockets are served by the same thread, between its turns, and that is not measured: so
//! what is measured is what a thread does that has a core to itself.
//!
//! What a node would have to find out is known here, in favour of threads: which sockets have something, that all
//! requests are of one length, and so are all replies. Only the owner of a key parses a request of it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use std::{hint, mem, thread};

use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use rayon::slice::{ParallelSlice as _, ParallelSliceMut as _};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::requests::Dialect::Array;
use super::tape::{Kind, Tape, key_of, owner};

/// Clients of all threads together.
const CLIENTS: u32 = 50;

/// Sessions from there on are of clients of the other thread.
const VISITORS_FROM: u32 = CLIENTS;

/// Requests that a client sends ahead at the most: one for each bit of [`Client::crossed`].
pub(crate) const DEPTH_MAX: usize = 128;

/// Sockets that a thread reads or writes before it looks for more.
const SOCKETS_AT_ONCE: usize = 4;

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
    /// Requests of a thread, in whole batches. It plays its share of the tape, again and again.
    pub(crate) ops: usize,
    pub(crate) checks_all: bool,
}

/// What a thread did for its own clients.
pub(crate) struct Outcome {
    pub(crate) ops: usize,
    /// Those of them that the other thread carried out.
    pub(crate) crossed: usize,
    /// The time that it took, less that of the clients' ends.
    pub(crate) took: Duration,
    /// That of it in which there was nothing to do but to wait for the other thread.
    pub(crate) waited: Duration,
}

/// The two ends of a connection.
struct Socket {
    client: TcpStream,
    node: TcpStream,
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
    /// Replies are under way to the client's end.
    is_answered: bool,
}

/// A node and its clients. What crossing adds is in functions of their own, so that a profile tells it.
pub(crate) struct Worker {
    turn: Turn,
    number: usize,
    threads: usize,
    born: Instant,
    clients: Vec<Client>,
    sockets: Vec<Socket>,
    /// Reads and writes some of the sockets, and does nothing else.
    helper: Option<ThreadPool>,
    /// Those that have all their replies.
    ready: Vec<u32>,
    /// Whose requests are read in this turn, and where in `input` they end.
    asked: Vec<(u32, usize)>,
    input: Vec<u8>,
    /// What of them is of this thread's keys.
    own: Pieces,
    /// What the other thread asks for in this turn.
    served: Vec<Message>,
    merged: Vec<u8>,
    /// What goes out with the helper.
    output: Pieces,
    /// What a client reads.
    read: Vec<u8>,
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
    /// A node with its part of so many keys, and whether it has a helper.
    pub(crate) fn new(number: usize, threads: usize, is_helped: bool, keys: u32) -> Self {
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let clients = vec![Client::default(); CLIENTS as usize / threads];
        let sockets = clients.iter().map(|_| Socket::new(&listener)).collect();
        let pool = || {
            ThreadPoolBuilder::new()
                .thread_name(|_| "socket-helper".to_owned())
                .num_threads(2)
                .use_current_thread()
                .build()
        };
        let helper = is_helped.then(|| pool().expect("a thread can be started"));
        Self {
            turn,
            number,
            threads,
            born,
            clients,
            sockets,
            helper,
            ready: Vec::new(),
            asked: Vec::new(),
            input: Vec::new(),
            own: Pieces::default(),
            served: Vec::new(),
            merged: Vec::new(),
            output: Pieces::default(),
            read: Vec::new(),
        }
    }

    /// Plays the thread's share of the tape, then serves the other thread until it is done, too.
    pub(crate) fn run(&mut self, job: &Job<'_>, mut link: Option<Link>) -> Outcome {
        let share = job.tape.share(self.number, self.threads, job.depth);
        let ops = job.ops;
        let mut progress = Progress { job, share, at: 0, unasked: ops, unanswered: ops, crossed: 0 };
        self.input.resize(self.clients.len() * job.depth * job.tape.request_bytes, 0);
        self.read.resize(job.depth * job.tape.reply_bytes, 0);
        self.ready.extend(0..self.clients.len() as u32);
        let (begun, mut aside, mut waited, mut took) = (Instant::now(), Duration::ZERO, Duration::ZERO, None);
        while progress.unanswered > 0 || link.as_ref().is_some_and(|link| !link.other_is_done) {
            if let Some(link) = &mut link {
                waited += self.listen(link, &mut progress);
            }
            aside += self.play_clients(&mut progress);
            self.take_turn(link.as_mut(), &mut progress);
            if progress.unanswered == 0 && took.is_none() {
                took = Some((begun.elapsed() - aside, waited));
                link.iter().for_each(|link| link.send(Parcel::Done));
            }
        }
        self.play_clients(&mut progress);
        let (took, waited) = took.expect("all is answered");
        Outcome { ops, crossed: progress.crossed, took, waited }
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
            let socket = &self.sockets[*number as usize];
            if crossed.count_ones() as usize == depth {
                socket.answer(theirs);
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
                socket.answer(merged);
            }
            self.answered(*number, progress);
        }
    }

    fn answered(&mut self, number: u32, progress: &mut Progress<'_>) {
        self.clients[number as usize].is_answered = true;
        self.ready.push(number);
        progress.unanswered -= progress.job.depth;
    }

    /// At the clients' ends: those that were answered read that, and those that are ready send their next batch off the
    /// tape, if there is one. How long that took.
    fn play_clients(&mut self, progress: &mut Progress<'_>) -> Duration {
        let since = Instant::now();
        let Progress { job: Job { tape, depth, checks_all, .. }, share, .. } = *progress;
        let batch_bytes = depth * tape.request_bytes;
        self.asked.clear();
        for number in self.ready.drain(..) {
            let (client, socket) = (&mut self.clients[number as usize], &self.sockets[number as usize]);
            if mem::take(&mut client.is_answered) {
                (&socket.client).read_exact(&mut self.read).expect("all is answered");
                tape.check(&share[client.at..][..batch_bytes], &self.read, *checks_all);
            }
            if progress.unasked > 0 {
                client.at = progress.at;
                (&socket.client).write_all(&share[client.at..][..batch_bytes]).expect("the node reads");
                progress.at = (client.at + batch_bytes) % share.len();
                progress.unasked -= depth;
                self.asked.push((number, batch_bytes * (self.asked.len() + 1)));
            }
        }
        since.elapsed()
    }

    #[inline(never)]
    fn take_turn(&mut self, mut link: Option<&mut Link>, progress: &mut Progress<'_>) {
        self.turn.begin(now(self.born));
        self.read(progress.job);
        let own = if let Some(link) = &mut link {
            self.split(link, progress);
            pieces(&self.own.bytes, &self.own.ends)
        } else {
            pieces(&self.input, &self.asked)
        };
        let visitors = self.served.iter().flat_map(|message| pieces(&message.requests.bytes, &message.requests.ends));
        let visitors = visitors.map(|(number, bytes)| (VISITORS_FROM + number, bytes));
        hand_in(&mut self.turn, own.chain(visitors).map(|(number, bytes)| (ConnId(number), bytes)));
        self.turn.settle();
        while let Some(conn) = self.turn.next_ready() {
            // What visitors are answered is taken below; and others wait for what the other thread has.
            if self.clients.get(conn.0 as usize).is_none_or(|client| client.crossed != 0) {
                continue;
            }
            let (socket, output) = (&self.sockets[conn.0 as usize], &mut self.output);
            if self.helper.is_some() {
                take_output(&mut self.turn, conn, |replies| output.bytes.extend_from_slice(replies));
                output.end(conn.0);
            } else {
                take_output(&mut self.turn, conn, |replies| socket.answer(replies));
            }
            self.answered(conn.0, progress);
        }
        if let Some(helper) = &self.helper {
            let Self { output, sockets, .. } = self;
            let replies = output.bytes.par_chunks(progress.job.depth * progress.job.tape.reply_bytes);
            let answer = |(replies, (number, _)): (&[u8], &(u32, usize))| sockets[*number as usize].answer(replies);
            helper.install(|| replies.zip(&output.ends).with_max_len(SOCKETS_AT_ONCE).for_each(answer));
            output.clear();
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

    /// Reads what the clients of this turn have sent.
    fn read(&mut self, job: &Job<'_>) {
        let Self { asked, input, sockets, helper, .. } = self;
        let batch_bytes = job.depth * job.tape.request_bytes;
        let input = &mut input[..asked.len() * batch_bytes];
        let read = |(room, (number, _)): (&mut [u8], &(u32, usize))| sockets[*number as usize].read(room);
        match helper {
            Some(helper) => {
                let rooms = input.par_chunks_mut(batch_bytes).zip(asked.par_iter());
                helper.install(|| rooms.with_max_len(SOCKETS_AT_ONCE).for_each(read));
            }
            None => input.chunks_mut(batch_bytes).zip(asked.iter()).for_each(read),
        }
    }

    /// Parts what is this thread's from what is the other's, and sends it that.
    #[inline(never)]
    fn split(&mut self, link: &mut Link, progress: &mut Progress<'_>) {
        let mut message = link.spare.pop().unwrap_or_default();
        self.own.clear();
        let mut sides = [&mut self.own, &mut message.requests];
        for (number, batch) in pieces(&self.input, &self.asked) {
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

impl Socket {
    fn new(listener: &TcpListener) -> Self {
        let address = listener.local_addr().expect("it listens");
        let client = TcpStream::connect(address).expect("somebody listens");
        let (node, _) = listener.accept().expect("somebody connects");
        [&client, &node].into_iter().for_each(|end| end.set_nodelay(true).expect("it is a socket"));
        Self { client, node }
    }

    fn read(&self, room: &mut [u8]) {
        (&self.node).read_exact(room).expect("what was sent is there");
    }

    fn answer(&self, replies: &[u8]) {
        (&self.node).write_all(replies).expect("there is room for all replies");
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
