//! Connections on real sockets, and handshakes against a clock that tests turn.

mod helped;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use clap::Parser;
use kv_core::{Event, Mono, Now, Turn, WallMs};
use mio::{Events, Interest, Poll, Token, Waker};

use super::*;
use crate::cli::Options;
use crate::helpers::Hands;
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
        Self::with_waker().0
    }

    /// With so many helpers, and what they would work with.
    fn helped(count: usize) -> (Self, Vec<Hands>) {
        let (mut bench, waker) = Self::with_waker();
        let (helpers, hands) = Helpers::by_hand(count, bench.poll.registry().try_clone().unwrap(), &waker);
        bench.connections.let_help(helpers);
        (bench, hands)
    }

    fn with_waker() -> (Self, Arc<Waker>) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let now = Mono(1_000_000);
        let options = Options::try_parse_from(["simple-kv"]).unwrap();
        let config = start::config(options, "127.0.0.1:8080".parse().unwrap()).unwrap();
        let bench = Self {
            poll,
            turn: Turn::new(config, Now { mono: now, wall: WallMs(1_700_000_000_000) }),
            connections: Connections::new(0),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            door: door().0,
            now,
        };
        (bench, waker)
    }

    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        // What it sends is there at once, also where the node did not answer before.
        client.set_nodelay(true).unwrap();
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
