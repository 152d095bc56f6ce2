//! Helpers whose hands tests move, on real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::helpers::{Batch, Hands, Task};

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
    fn new(hands: Vec<Hands>) -> Self {
        let begun = hands.iter().map(|_| VecDeque::new()).collect();
        Self { hands, begun, jobs: 0 }
    }

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
    let mut helping = Helping::new(hands);
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

/// Turns after which an answer is not waited for any longer: what is written to loopback may take a few to be seen.
const TURNS_MAX: usize = 1_000;

/// Waits until something of each of so many is there to be read, so that all are seen in one turn.
fn until_arrived(bench: &Bench, count: usize) {
    let is_here = |connection: &&Connection| matches!(connection.stream.peek(&mut [0]), Ok(1));
    while bench.connections.slab.iter().map(|(_, connection)| connection).filter(is_here).count() < count {
        thread::yield_now();
    }
}

/// A line that `client` is answered, while helpers do what is theirs.
fn answer(bench: &mut Bench, helping: &mut Helping, client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    for _ in 0..TURNS_MAX {
        bench.turn();
        helping.do_all();
        let mut byte = [0];
        while let Ok(1) = client.read(&mut byte) {
            match byte {
                [b'\n'] => return String::from_utf8(answer).unwrap(),
                _ => answer.extend(byte),
            }
        }
    }
    panic!("within {TURNS_MAX} turns no more than {answer:?}");
}

/// The next bytes that `client` is answered, at least so many, likewise.
fn answers(bench: &mut Bench, helping: &mut Helping, client: &mut TcpStream, count: usize) -> Vec<u8> {
    let (mut answers, mut room) = (Vec::new(), vec![0; count]);
    for _ in 0..TURNS_MAX {
        bench.turn();
        helping.do_all();
        while let Ok(read @ 1..) = client.read(&mut room) {
            answers.extend_from_slice(&room[..read]);
        }
        if answers.len() >= count {
            return answers;
        }
    }
    panic!("within {TURNS_MAX} turns no more than {} of {count} bytes", answers.len());
}

/// Clients that have had an answer each, so that it is known that they speak no TLS.
fn acquainted<const N: usize>(bench: &mut Bench, helping: &mut Helping) -> [TcpStream; N] {
    [(); N].map(|()| {
        let mut client = bench.connect();
        client.set_nonblocking(true).unwrap();
        client.write_all(b"PING\n").unwrap();
        assert_eq!(answer(bench, helping, &mut client), "PONG");
        client
    })
}

/// Three clients ask in each turn, after one that sends so many KiB in each, or as much of it as the node takes. Over
/// once they have had ten answers each.
fn after_an_upload(kib_a_turn: usize) {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let [mut uploader, mut others @ ..]: [_; 4] = acquainted(&mut bench, &mut helping);
    uploader.write_all(b"CLIENT REPLY OFF\n").unwrap();
    let (piece, mut taken, mut answered) = (format!("SET k {:01$}\n", 0, 1_017).repeat(kib_a_turn), 0, [0; 3]);
    for _ in 0..TURNS_MAX {
        taken += uploader.write(&piece.as_bytes()[taken % piece.len()..]).unwrap_or(0);
        others.iter_mut().for_each(|other| other.write_all(b"PING\n").unwrap());
        bench.turn();
        helping.do_all();
        assert_eq!(bench.count(), 4);
        for (other, answered) in others.iter_mut().zip(&mut answered) {
            *answered += other.read(&mut [0; 1 << 10]).unwrap_or(0);
        }
        if answered.iter().all(|answered| *answered >= 10 * b"PONG\n".len()) {
            return;
        }
    }
    panic!("within {TURNS_MAX} turns they had {answered:?} bytes of answers");
}

#[test]
fn who_sends_much_in_each_turn_keeps_helpers_from_nobody() {
    // So much that a batch has no room for more.
    [14, 60, 1 << 10].into_iter().for_each(after_an_upload);
}

#[test]
fn who_sends_more_than_helpers_have_room_for_is_read_by_the_loop() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let [mut uploader, mut others @ ..]: [_; 4] = acquainted(&mut bench, &mut helping);
    // What the buffers of sockets have room for from the beginning, and a batch has not, and what is read before it.
    others.iter_mut().for_each(|other| other.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 3);
    uploader.write_all(&[b'v'; 40 << 10]).unwrap();
    until_arrived(&bench, 4);
    bench.turn();
    helping.do_all();
    others.iter_mut().for_each(|other| other.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 4);
    bench.turn();
    let mut unread = bench.connections.slab.iter().map(|(_, connection)| connection.stream.peek(&mut [0]));
    assert!(unread.all(|unread| unread.is_err()), "nobody has anything that waits for a helper");
}

#[test]
fn what_a_helper_is_to_read_the_loop_leaves_alone() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let mut clients: [_; 4] = acquainted(&mut bench, &mut helping);
    clients.iter_mut().for_each(|client| client.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 4);
    // Connections that are gone have left entries, and others have their numbers.
    let conns: Vec<ConnId> = bench.connections.clients(&bench.turn).map(|(conn, _)| conn).collect();
    bench.connections.reads.extend(conns);
    bench.turn();
    for (_, connection) in &bench.connections.slab {
        assert_eq!(connection.stream.peek(&mut [0; 5]).unwrap(), 5);
    }
    clients.iter_mut().for_each(|client| assert_eq!(answer(&mut bench, &mut helping, client), "PONG"));
}

#[test]
fn what_befalls_a_closed_socket_that_a_helper_has_does_not_befall_who_got_its_number() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let [mut killer, mut killed, mut others @ ..]: [_; 5] = acquainted(&mut bench, &mut helping);
    killed.write_all(b"CLIENT ID\n").unwrap();
    let id = answer(&mut bench, &mut helping, &mut killed);
    // A helper is to read it when it is closed.
    killed.write_all(b"PING\n").unwrap();
    others.iter_mut().for_each(|other| other.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 4);
    bench.turn();
    assert!(bench.connections.has_unread());
    killer.write_all(format!("CLIENT KILL ID {id}\n").as_bytes()).unwrap();
    for _ in 0..TURNS_MAX {
        bench.turn();
        if bench.count() < 5 {
            break;
        }
    }
    assert_eq!(bench.count(), 4);
    let mut next = bench.connect();
    next.set_nonblocking(true).unwrap();
    assert_eq!(bench.count(), 5);
    // Both directions of it have ended.
    drop(killed);
    bench.turn();
    let (value, times) = ("v".repeat(500_000), 20);
    let mut asked: &[u8] = &format!("SET k {value}\n{}", "GET k\n".repeat(times)).into_bytes();
    for _ in 0..TURNS_MAX {
        asked = &asked[next.write(asked).unwrap_or(0)..];
        bench.turn();
    }
    assert!(asked.is_empty());
    next.shutdown(Shutdown::Write).unwrap();
    let expected = format!("OK\n{}", format!("{value}\n").repeat(times)).into_bytes();
    assert!(answers(&mut bench, &mut helping, &mut next, expected.len()) == expected, "all of it");
}

#[test]
fn a_few_that_never_wait_are_not_taken_for_many() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let mut clients: [_; 4] = acquainted(&mut bench, &mut helping);
    // All have something at once, and then two of them in each turn.
    clients.iter_mut().for_each(|client| client.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 4);
    clients.iter_mut().for_each(|client| assert_eq!(answer(&mut bench, &mut helping, client), "PONG"));
    let before = helping.jobs;
    assert!(before >= clients.len());
    for _ in 0..100 {
        clients[..2].iter_mut().for_each(|client| client.write_all(b"PING\n").unwrap());
        bench.turn();
        helping.do_all();
    }
    assert_eq!(helping.jobs, before);
}

#[test]
fn those_that_helpers_do_not_read_are_not_counted() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let [mut client]: [_; 1] = acquainted(&mut bench, &mut helping);
    // Of these it is not known yet whether they speak TLS.
    let mut strangers = [(); 5].map(|()| bench.connect());
    strangers.iter_mut().chain([&mut client]).for_each(|client| client.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 6);
    bench.turn();
    assert!(!bench.connections.has_unread(), "the loop has read all");
}

#[test]
fn helpers_are_given_little_at_once_to_write_whatever_a_client_is_told() {
    let (mut bench, hands) = Bench::helped(1);
    let mut helping = Helping::new(hands);
    let [mut publisher, mut subscriber, mut others @ ..]: [_; 6] = acquainted(&mut bench, &mut helping);
    subscriber.write_all(b"SUBSCRIBE news\n").unwrap();
    assert!(answer(&mut bench, &mut helping, &mut subscriber).contains("news"));
    let message = "v".repeat(200_000);
    publisher.set_nonblocking(false).unwrap();
    publisher.write_all(format!("PUBLISH news {message}").as_bytes()).unwrap();
    for _ in 0..TURNS_MAX {
        bench.turn();
    }
    publisher.write_all(b"\n").unwrap();
    others.iter_mut().for_each(|other| other.write_all(b"PING\n").unwrap());
    until_arrived(&bench, 5);
    let (mut told, mut written) = (Vec::new(), Vec::new());
    for _ in 0..TURNS_MAX {
        bench.turn();
        (0..ASKERS).for_each(|_| helping.begin(0));
        let begun = helping.begun[0].iter().filter(|batch| batch.task == Task::Write);
        written.extend(begun.flat_map(|batch| batch.pieces().map(|(_, bytes)| bytes.len())));
        helping.do_all();
        let _ = subscriber.read_to_end(&mut told);
    }
    assert_eq!(written.iter().max(), Some(&(16 << 10)), "{written:?}");
    assert!(String::from_utf8(told).unwrap().contains(&message));
}
