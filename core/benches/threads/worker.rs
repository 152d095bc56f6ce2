//! A thread with a node and clients of its own, and what it hands to the other one.
//!
//! A turn is as a driver's: what there is of some clients is read and handed in, then what they are answered goes out,
//! over sockets. What it asks of the other thread goes there as one message a turn, before the thread's own work, and
//! comes back with the replies. A queue of the standard library carries it, without locks, and without calls of the
//! system as long as neither side sleeps. Messages and buffers are used again. Each client has a session on either
//! node, as its rights are looked up where its requests are run.
//!
//! The clients' ends of the sockets are served by the same thread, between its turns, and that is not measured: see
//! [`Clock`].
//!
//! What a node would have to find out is known here, in favour of threads: which sockets have something, that all
//! requests are of one length, and so are all replies. Only the owner of a key parses a request of it.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::mem;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};

use super::CLIENTS;
use super::link::{Clock, Content, Link, Message, Pieces};
use super::requests::Dialect::Array;
use super::tape::{Kind, Tape, key_of, owner, put_request};

/// Sessions from there on are of clients of the other thread.
const VISITORS_FROM: u32 = CLIENTS as u32;

/// Inputs that a node gets ready for at once.
const EXPECTED_MAX: usize = 32;

const START: WallMs = WallMs(1_700_000_000_000);

/// What a thread does with what its clients ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has a node, which has all keys that its clients ask for.
    Node,
    /// It has a node with the keys of this thread; requests for others are the other thread's.
    Owner(usize),
    /// It has no node, and hands all of it to the other thread.
    Helper,
}

/// What is measured.
pub(crate) struct Job<'a> {
    pub(crate) tape: &'a Tape,
    pub(crate) depth: usize,
    /// Those of the thread, and how many of them it looks after in a turn.
    pub(crate) clients: usize,
    pub(crate) at_once: usize,
    pub(crate) batches: Arc<Batches>,
    pub(crate) checks_all: bool,
}

/// Batches of the tape, for whoever has a client that is ready.
pub(crate) struct Batches {
    next: AtomicUsize,
    end: usize,
}

/// What a thread did for its own clients.
pub(crate) struct Outcome {
    pub(crate) ops: usize,
    /// Those of them that the other thread carried out.
    pub(crate) crossed: usize,
    /// By its clock, until nobody needed it any longer.
    pub(crate) took: Duration,
}

/// The two ends of a connection.
struct Socket {
    client: TcpStream,
    node: TcpStream,
}

#[derive(Clone, Copy, Default)]
struct Client {
    /// Which of the tape it has asked for.
    batch: usize,
    /// By request: whether the other thread has it. Not 0 until its replies are back.
    crossed: u128,
    /// Replies are under way to the client's end.
    is_answered: bool,
}

/// A node and its clients. What crossing adds is in functions of their own, so that a profile tells it.
pub(crate) struct Worker {
    role: Role,
    turn: Turn,
    born: Instant,
    clock: Clock,
    link: Option<Link>,
    clients: Vec<Client>,
    sockets: Vec<Socket>,
    /// Those that have all their replies.
    ready: VecDeque<u32>,
    /// Whose requests are read in this turn, and what they are.
    input: Pieces,
    /// What of them is of this thread's keys.
    own: Pieces,
    /// What the other thread asks for in this turn.
    served: Vec<Message>,
    merged: Vec<u8>,
    /// What a client reads.
    read: Vec<u8>,
}

/// How far a job has got.
struct Progress<'a> {
    job: Job<'a>,
    all_are_asked: bool,
    unanswered: usize,
    ops: usize,
    crossed: usize,
}

impl Batches {
    pub(crate) const fn new(from: usize, end: usize) -> Self {
        Self { next: AtomicUsize::new(from), end }
    }

    fn take(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.end).then_some(number)
    }
}

impl Worker {
    /// With these keys in its node.
    pub(crate) fn new(role: Role, keys: &[u32], link: Option<Link>) -> Self {
        let born = Instant::now();
        let mut turn = Turn::new(Config::new([1; 4], "a", "a:1".to_owned()), now(born));
        for conn in (0..2 * CLIENTS as u32).map(ConnId) {
            turn.event(Event::Opened { conn });
            turn.input(conn, Array.greeting());
            take_output(&mut turn, conn, |_| {});
        }
        let mut request = Vec::new();
        for number in keys {
            request.clear();
            put_request(Kind::Set, *number, 0, &mut request);
            turn.begin(now(born));
            turn.input(ConnId(0), &request);
            take_output(&mut turn, ConnId(0), |reply| assert_eq!(reply, Array.ok(), "it is written"));
        }
        while turn.next_ready().is_some() {}
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let sockets = (0..CLIENTS).map(|_| Socket::new(&listener)).collect();
        Self {
            role,
            turn,
            born,
            clock: Clock::start(),
            link,
            clients: vec![Client::default(); CLIENTS],
            sockets,
            ready: VecDeque::new(),
            input: Pieces::default(),
            own: Pieces::default(),
            served: Vec::new(),
            merged: Vec::new(),
            read: Vec::new(),
        }
    }

    /// Plays what it gets of the tape, then serves the other thread until it is done, too. `start` is when both are
    /// here.
    pub(crate) fn run(&mut self, job: Job<'_>, start: impl FnOnce()) -> Outcome {
        self.read.resize(job.depth * job.tape.reply_bytes, 0);
        self.ready.extend(0..job.clients as u32);
        let all_are_asked = job.clients == 0;
        let mut progress = Progress { job, all_are_asked, unanswered: 0, ops: 0, crossed: 0 };
        if let Some(link) = &mut self.link {
            link.other_is_done = false;
            link.show(0);
        }
        start();
        self.clock = Clock::start();
        let mut is_done = false;
        while !is_done || self.link.as_ref().is_some_and(|link| !link.other_is_done) {
            self.listen(&mut progress);
            self.play_clients(&mut progress);
            self.take_turn(&mut progress);
            if !is_done && progress.all_are_asked && progress.unanswered == 0 {
                is_done = true;
                self.link.iter().for_each(|link| link.send(&self.clock, Content::Done));
            }
        }
        let took = self.clock.now();
        self.link.iter().for_each(|link| link.show_waiting());
        self.play_clients(&mut progress);
        self.ready.clear();
        Outcome { ops: progress.ops, crossed: progress.crossed, took }
    }

    /// Takes what the other thread has sent, and waits for it, if there is nothing else to do.
    #[inline(never)]
    fn listen(&mut self, progress: &mut Progress<'_>) {
        let Some(mut link) = self.link.take() else { return };
        link.keep_pace(&mut self.clock);
        let mut may_wait = self.ready.is_empty() || progress.all_are_asked;
        while !link.other_is_done || progress.unanswered > 0 {
            let Some(content) = link.receive(&mut self.clock, may_wait) else { break };
            may_wait = false;
            match content {
                Content::Requests(message) => self.served.push(message),
                Content::Replies(mut message) => {
                    self.merge(&message, progress);
                    message.requests.clear();
                    message.replies.clear();
                    link.spare.push(message);
                }
                Content::Done => link.other_is_done = true,
            }
        }
        self.link = Some(link);
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
        self.ready.push_back(number);
        progress.unanswered -= 1;
    }

    /// At the clients' ends, outside of the clock: those that were answered read that, and some that are ready send
    /// their next batch off the tape, if there is one.
    fn play_clients(&mut self, progress: &mut Progress<'_>) {
        let Self { clock, clients, sockets, ready, input, read, .. } = self;
        let Progress { job: Job { tape, depth, batches, checks_all, at_once, .. }, .. } = progress;
        clock.stand_still(|| {
            input.clear();
            for number in &*ready {
                let (client, socket) = (&mut clients[*number as usize], &sockets[*number as usize]);
                if mem::take(&mut client.is_answered) {
                    (&socket.client).read_exact(read).expect("all is answered");
                    tape.check(tape.batch(client.batch, *depth), read, *checks_all);
                }
            }
            while !progress.all_are_asked
                && input.ends.len() < *at_once
                && let Some(number) = ready.pop_front()
            {
                if let Some(batch) = batches.take() {
                    clients[number as usize].batch = batch;
                    let requests = tape.batch(batch, *depth);
                    (&sockets[number as usize].client).write_all(requests).expect("the node reads");
                    input.bytes.resize(input.bytes.len() + requests.len(), 0);
                    input.end(number);
                    progress.unanswered += 1;
                    progress.ops += *depth;
                } else {
                    ready.push_front(number);
                    progress.all_are_asked = true;
                }
            }
        });
    }

    #[inline(never)]
    fn take_turn(&mut self, progress: &mut Progress<'_>) {
        self.input.rooms().for_each(|(number, room)| self.sockets[number as usize].read(room));
        match self.role {
            Role::Node => {}
            Role::Owner(number) => self.split(number, progress),
            Role::Helper => return self.hand_over(progress),
        }
        let own = if self.role == Role::Node { &self.input } else { &self.own };
        let visitors = self.served.iter().flat_map(|message| message.requests.iter());
        let inputs = own.iter().chain(visitors.map(|(number, bytes)| (VISITORS_FROM + number, bytes)));
        self.turn.begin(now(self.born));
        hand_in(&mut self.turn, inputs.map(|(number, bytes)| (ConnId(number), bytes)));
        self.turn.settle();
        for mut message in self.served.drain(..) {
            for (number, _) in &message.requests.ends {
                let conn = ConnId(VISITORS_FROM + number);
                take_output(&mut self.turn, conn, |replies| message.replies.extend_from_slice(replies));
            }
            self.link.iter().for_each(|link| link.send(&self.clock, Content::Replies(mem::take(&mut message))));
        }
        while let Some(conn) = self.turn.next_ready() {
            // Visitors were answered; and others wait for what the other thread has.
            if self.clients.get(conn.0 as usize).is_some_and(|client| client.crossed == 0) {
                take_output(&mut self.turn, conn, |replies| self.sockets[conn.0 as usize].answer(replies));
                self.answered(conn.0, progress);
            }
        }
    }

    /// Parts what is this thread's from what is the other's, and sends it that.
    #[inline(never)]
    fn split(&mut self, own_number: usize, progress: &mut Progress<'_>) {
        let link = self.link.as_mut().expect("there is an owner of what is not its own");
        let mut message = link.spare.pop().unwrap_or_default();
        self.own.clear();
        let mut sides = [&mut self.own, &mut message.requests];
        for (number, batch) in self.input.iter() {
            let mut crossed: u128 = 0;
            for (at, request) in batch.chunks_exact(progress.job.tape.request_bytes).enumerate() {
                let side = usize::from(owner(key_of(request)) != own_number);
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
            link.send(&self.clock, Content::Requests(message));
        }
    }

    /// All that was read, to the thread that has the node.
    #[inline(never)]
    fn hand_over(&mut self, progress: &mut Progress<'_>) {
        let depth = progress.job.depth;
        if self.input.ends.is_empty() {
            return;
        }
        for (number, _) in &self.input.ends {
            self.clients[*number as usize].crossed = u128::MAX >> (u128::BITS as usize - depth);
            progress.crossed += depth;
        }
        let link = self.link.as_mut().expect("there is a node");
        let mut message = link.spare.pop().unwrap_or_default();
        mem::swap(&mut message.requests, &mut self.input);
        link.send(&self.clock, Content::Requests(message));
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
