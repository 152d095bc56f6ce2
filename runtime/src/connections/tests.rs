//! Handshakes against a clock that tests turn, and helpers whose hands tests move, on real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use clap::Parser;
use kv_core::{Event, Mono, Now, Turn, WallMs};
use mio::{Events, Interest, Poll, Token, Waker};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cli::Options;
use crate::helpers::{Batch, Hands};
use crate::start;
use crate::tls::tests::door;
use crate::tls::{Door, HANDSHAKE_MS};

const WAKER: Token = Token(usize::MAX);

/// A node's connections, those of its clients, and the time.
struct Bench {
    poll: Poll,
    turn: Turn,
    connections: Connections,
    listener: TcpListener,
    door: Door,
    now: Mono,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| None)
    }

    /// With these helpers, and what they would work with.
    fn helped(count: usize) -> (Self, Vec<Hands>) {
        let mut hands = Vec::new();
        let bench = Self::with(|waker| {
            let (helpers, all) = Helpers::by_hand(count, waker);
            hands = all;
            Some(helpers)
        });
        (bench, hands)
    }

    fn with(helpers: impl FnOnce(&Arc<Waker>) -> Option<Helpers>) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let now = Mono(1_000_000);
        let options = Options::try_parse_from(["simple-kv"]).unwrap();
        let config = start::config(options, "127.0.0.1:8080".parse().unwrap()).unwrap();
        Self {
            poll,
            turn: Turn::new(config, Now { mono: now, wall: WallMs(1_700_000_000_000) }),
            connections: Connections::new(0, helpers(&waker)),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            door: door().0,
            now,
        }
    }

    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let register = |stream: &mut mio::net::TcpStream, conn: ConnId| {
            self.poll.registry().register(stream, Token(conn.0 as usize), interest)
        };
        let conn = self.connections.add(stream, Transport::Unknown, register).unwrap();
        self.turn.event(Event::Opened { conn });
        client
    }

    /// Turns once for what lies in the sockets.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        self.turn.begin(Now { mono: self.now, wall: WallMs(1_700_000_000_000 + self.now.0 / 1_000) });
        for event in events.iter().filter(|event| event.token() != WAKER) {
            self.connections.noticed(&mut self.turn, ConnId(event.token().0 as u32), event);
        }
        let meeting = Meeting { door: &self.door, until: self.now.plus_ms(HANDSHAKE_MS) };
        self.connections.take_done(&mut self.turn);
        self.connections.read(&mut self.turn, Some(meeting));
        while let Some(conn) = self.turn.next_ready() {
            self.connections.flush(&mut self.turn, conn, self.now);
        }
        self.connections.end(&mut self.turn, self.now);
    }

    fn count(&self) -> usize {
        self.connections.slab.len()
    }
}

#[test]
fn a_handshake_that_is_not_finished_is_given_up_and_nothing_else_is() {
    let mut bench = Bench::new();
    let [mut silent, mut slow, mut plain] = [(); 3].map(|()| bench.connect());
    slow.write_all(&[0x16]).unwrap();
    plain.write_all(b"PING\n").unwrap();
    bench.turn();
    let until = bench.now.plus_ms(HANDSHAKE_MS);
    assert_eq!(bench.connections.deadline(bench.now), Some(until));
    // A byte now and then does not help.
    for _ in 1..10 {
        bench.now = bench.now.plus_ms(HANDSHAKE_MS / 10);
        slow.write_all(&[3]).unwrap();
        bench.turn();
        assert_eq!(bench.count(), 3, "at {:?}", bench.now);
    }
    bench.now = until;
    bench.turn();
    assert_eq!((bench.count(), bench.connections.deadline(bench.now)), (2, None));
    slow.read_to_end(&mut Vec::new()).expect("it is closed, and nothing was broken");
    // Who says nothing yet, or has spoken plain text, is as before.
    silent.write_all(b"PING\n").unwrap();
    bench.turn();
    for client in [&mut silent, &mut plain] {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"PONG\n");
    }
}

#[test]
fn a_storm_of_handshakes_leaves_turns_for_the_others() {
    let mut bench = Bench::new();
    let mut standing = bench.connect();
    standing.write_all(b"PING\n").unwrap();
    bench.turn();
    let mut storm: Vec<TcpStream> = (0..5 * HANDSHAKES_PER_TURN).map(|_| bench.connect()).collect();
    for client in &mut storm {
        client.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
    }
    standing.write_all(b"PING\n").unwrap();
    for turns in 1..=5 {
        bench.turn();
        assert_eq!(bench.connections.handshakes.len(), turns * HANDSHAKES_PER_TURN);
        let is_due = bench.connections.deadline(bench.now) == Some(bench.now);
        assert_eq!(is_due, turns < 5, "the rest is not forgotten");
    }
    let mut answers = [0; 10];
    standing.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"PONG\nPONG\n");
}

#[test]
fn the_other_side_is_probed_and_given_up_after_two_minutes_of_silence() {
    let mut bench = Bench::new();
    let _client = bench.connect();
    let (_, connection) = bench.connections.slab.iter().next().expect("it was accepted");
    let socket = SockRef::from(&connection.stream);
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    let (idle, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
    assert_eq!(idle, Duration::from_secs(60));
    assert_eq!(idle + socket.tcp_keepalive_retries().unwrap() * interval, Duration::from_secs(120));
}

#[test]
fn what_many_say_in_one_turn_is_answered_to_whoever_said_it() {
    let mut bench = Bench::new();
    let mut clients: Vec<TcpStream> = (0..100).map(|_| bench.connect()).collect();
    // Little and much, in any order: some fill what is read at once, and some do not fit.
    let value = |number: usize| "v".repeat([1, 300, 20_000, 70_000][number % 4]);
    for (number, client) in clients.iter_mut().enumerate() {
        client.set_nonblocking(true).unwrap();
        let request = format!("SET key:{number} {number}{}\nGET key:{number}\n", value(number));
        client.write_all(request.as_bytes()).unwrap();
    }
    let mut answers = vec![Vec::new(); clients.len()];
    let whole = |number: usize| format!("OK\n{number}{}\n", value(number));
    for _ in 0..1_000 {
        bench.turn();
        for (client, answer) in clients.iter_mut().zip(&mut answers) {
            // It may be that there is nothing.
            let _ = client.read_to_end(answer);
        }
        if answers.iter().enumerate().all(|(number, answer)| answer.len() >= whole(number).len()) {
            break;
        }
    }
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(String::from_utf8_lossy(answer), whole(number), "client {number}");
    }
    // Half of them go, while others ask on.
    for number in (0..clients.len()).rev().step_by(2) {
        drop(clients.remove(number));
    }
    clients.iter_mut().for_each(|client| client.write_all(b"PING\n").unwrap());
    let mut answers = vec![Vec::new(); clients.len()];
    for _ in 0..1_000 {
        bench.turn();
        for (client, answer) in clients.iter_mut().zip(&mut answers) {
            let _ = client.read_to_end(answer);
        }
    }
    assert!(answers.iter().all(|answer| answer == b"PONG\n"), "{answers:?}");
    assert_eq!(bench.count(), clients.len());
}

/// A client that asks ahead, and takes its answers when it likes.
struct Asker {
    stream: TcpStream,
    number: usize,
    asked: usize,
    unsent: Vec<u8>,
    expected: Vec<u8>,
    answered: Vec<u8>,
}

impl Asker {
    fn new(bench: &mut Bench, number: usize) -> Self {
        let stream = bench.connect();
        stream.set_nonblocking(true).unwrap();
        Self { stream, number, asked: 0, unsent: Vec::new(), expected: Vec::new(), answered: Vec::new() }
    }

    fn ask(&mut self, length: usize) {
        let (number, asked) = (self.number, self.asked);
        let value = format!("{number}.{asked}.{}", "v".repeat(length));
        self.unsent.extend(format!("SET key:{number} {value}\nGET key:{number}\n").bytes());
        self.expected.extend(format!("OK\n{value}\n").bytes());
        self.asked += 1;
        self.send();
    }

    fn send(&mut self) {
        while let Ok(count @ 1..) = self.stream.write(&self.unsent) {
            self.unsent.drain(..count);
        }
    }

    fn take(&mut self, most: usize) {
        let mut room = vec![0; most];
        if let Ok(count) = self.stream.read(&mut room) {
            self.answered.extend_from_slice(&room[..count]);
        }
    }
}

/// What happens in a run of several clients and helpers.
#[derive(Clone, Debug)]
enum Step {
    Turn,
    Ask {
        client: usize,
        length: usize,
    },
    AllAsk,
    Take {
        client: usize,
        most: usize,
    },
    /// Goes away, and another one comes.
    Leave {
        client: usize,
    },
    /// Sends no more.
    EndInput {
        client: usize,
    },
    /// A helper begins with its next batch, and does it when it has been begun.
    Begin {
        hand: usize,
    },
    Finish {
        hand: usize,
    },
}

const ASKERS: usize = 10;
const HANDS: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let (client, hand) = (|| 0..ASKERS, || 0..HANDS);
    let length = prop_oneof![4 => 0..200_usize, 1 => 5_000..30_000_usize, 1 => 100_000..900_000_usize];
    prop_oneof![
        6 => Just(Step::Turn),
        4 => (client(), length).prop_map(|(client, length)| Step::Ask { client, length }),
        2 => Just(Step::AllAsk),
        2 => (client(), 1..200_000_usize).prop_map(|(client, most)| Step::Take { client, most }),
        1 => client().prop_map(|client| Step::Leave { client }),
        1 => client().prop_map(|client| Step::EndInput { client }),
        4 => hand().prop_map(|hand| Step::Begin { hand }),
        4 => hand().prop_map(|hand| Step::Finish { hand }),
    ]
}

/// Helpers and what they have begun with.
struct Helping {
    hands: Vec<Hands>,
    begun: Vec<VecDeque<Batch>>,
    jobs: usize,
}

impl Helping {
    fn begin(&mut self, hand: usize) {
        self.begun[hand].extend(self.hands[hand].take());
    }

    fn finish(&mut self, hand: usize) {
        if let Some(batch) = self.begun[hand].pop_front() {
            self.jobs += batch.jobs.len();
            assert!(self.hands[hand].work(batch));
        }
    }

    fn do_all(&mut self) {
        for hand in 0..self.hands.len() {
            while let Some(batch) = self.hands[hand].take() {
                self.begun[hand].push_back(batch);
            }
            while !self.begun[hand].is_empty() {
                self.finish(hand);
            }
        }
    }
}

/// Carries out the steps, then lets all come to rest: everybody has all answers, in order. How many jobs helpers did.
fn run(steps: &[Step]) -> usize {
    let (mut bench, hands) = Bench::helped(HANDS);
    let mut helping = Helping { hands, begun: (0..HANDS).map(|_| VecDeque::new()).collect(), jobs: 0 };
    let mut askers: Vec<Asker> = (0..ASKERS).map(|number| Asker::new(&mut bench, number)).collect();
    let mut ended = [false; ASKERS];
    for step in steps {
        match *step {
            Step::Turn => bench.turn(),
            Step::Ask { client, length } if !ended[client] => askers[client].ask(length),
            Step::AllAsk => {
                let open = askers.iter_mut().zip(&ended).filter(|(_, ended)| !**ended);
                open.for_each(|(asker, _)| asker.ask(10));
            }
            Step::Ask { .. } => {}
            Step::Take { client, most } => askers[client].take(most),
            Step::Leave { client } => {
                // The number of the connection is soon another's, while helpers may have the one that goes.
                askers[client] = Asker::new(&mut bench, client);
                ended[client] = false;
            }
            Step::EndInput { client } if askers[client].unsent.is_empty() && !ended[client] => {
                ended[client] = true;
                askers[client].stream.shutdown(Shutdown::Write).unwrap();
            }
            Step::EndInput { .. } => {}
            Step::Begin { hand } => helping.begin(hand),
            Step::Finish { hand } => helping.finish(hand),
        }
    }
    for _ in 0..10_000 {
        helping.do_all();
        bench.turn();
        for asker in &mut askers {
            asker.send();
            asker.take(1 << 20);
        }
        let is_answered = |asker: &Asker| asker.answered.len() >= asker.expected.len();
        if askers.iter().all(is_answered) && !bench.connections.has_unread() {
            break;
        }
    }
    for asker in &askers {
        assert!(asker.answered == asker.expected, "client {} has its answers, and no others", asker.number);
    }
    // Whoever sent no more is let go, and those that left, too.
    let left = ended.iter().filter(|ended| !**ended).count();
    for _ in 0..10_000 {
        if bench.count() == left {
            break;
        }
        helping.do_all();
        bench.turn();
    }
    assert_eq!(bench.count(), left);
    helping.jobs
}

proptest! {
    #[test]
    fn in_whatever_order_helpers_come_to_it_everybody_gets_their_answers(steps in vec(step(), 1..200)) {
        run(&steps);
    }
}

#[test]
fn helpers_have_their_part_of_what_many_ask_for() {
    let steps = [Step::AllAsk, Step::Turn, Step::AllAsk, Step::Turn];
    assert!(run(&steps) >= ASKERS, "they read or wrote");
}
