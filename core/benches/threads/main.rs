//! What a node for each of two cores would give, were slots owned by threads: `cargo bench -p kv-core --bench threads`.
//!
//! One thread with all keys and clients, next to two with half of each, which hand each other what is the other's
//! ([`worker`]). There are no sockets: what the kernel takes for an operation is told by an option, and is taken for
//! the same with two cores. All that is left out would cost two threads more than one: sleeping and waking each other,
//! an order of the writes, a ring and links for each of them, commands of several keys. So what is told is the most
//! that two could give.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program that reads arguments and clocks")]

#[path = "../scenarios/requests.rs"]
#[expect(dead_code, reason = "the others need all of it")]
mod requests;
mod tape;
mod worker;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, Scope};
use std::time::Duration;

use self::tape::{Kind, Tape, shuffled};
use self::worker::{DEPTH_MAX, Job, Link, Outcome, Worker};

/// What the node has by its release.
#[global_allocator]
static ALLOCATOR: kv_allocator::Allocator = kv_allocator::ALLOCATOR;

const KEYS: u32 = 1_000_000;

/// Threads and depths divide them, so that each is asked for.
const SMALL_KEYS: u32 = 25_600;

/// Requests that a client sends ahead, and what the kernel takes for each in microseconds, unless `--kernel=` says
/// otherwise.
const DEPTHS: [(usize, f64); 3] = [(1, 4.5), (16, 0.3), (DEPTH_MAX, 0.1)];

/// Rounds, unless `--rounds=` says otherwise, and how often each key is asked for in one.
const ROUNDS: usize = 9;
const PASSES: usize = 4;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let rounds = option("--rounds=").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let mut depths = DEPTHS;
    if let Some(shares) = option("--kernel=") {
        let shares: Vec<f64> = shares.split(',').map(|share| share.parse().expect("microseconds")).collect();
        assert_eq!(shares.len(), depths.len(), "one for each depth");
        depths.iter_mut().zip(shares).for_each(|((_, share), told)| *share = told);
    }
    // Cargo says so, but not when it tests.
    if words.iter().any(|word| word == "--bench") { measure(&depths, rounds) } else { check() }
}

/// All replies are as they should be, in order, and half of them come from the other thread, if there is one.
fn check() {
    let order = shuffled(SMALL_KEYS);
    let made = (1..).zip(DEPTHS).flat_map(|(generation, (depth, _))| {
        [Kind::Set, Kind::Get].map(|kind| (Tape::new(kind, &order, generation), depth))
    });
    let tapes: Vec<(Tape, usize)> = made.collect();
    thread::scope(|scope| {
        for threads in [1, 2] {
            let crew = Crew::new(scope, threads, SMALL_KEYS);
            for (tape, depth) in &tapes {
                for outcome in crew.run(Job { tape, depth: *depth, passes: 2, checks_all: true }) {
                    assert_eq!(outcome.ops, 2 * SMALL_KEYS as usize / threads, "all are answered");
                    let expected = outcome.ops * (threads - 1) / threads;
                    assert!(outcome.crossed.abs_diff(expected) <= expected / 10, "half of all cross");
                }
            }
        }
    });
}

fn measure(depths: &[(usize, f64)], rounds: usize) {
    let tapes = [Kind::Get, Kind::Set].map(|kind| Tape::new(kind, &shuffled(KEYS), 1));
    println!(
        "|  | one thread, ns | two threads, ns | they wait, ns | the kernel, ns | two cores do so many times as much |"
    );
    println!("|---|---|---|---|---|---|");
    thread::scope(|scope| {
        let crews = [1, 2].map(|threads| Crew::new(scope, threads, KEYS));
        for (depth, kernel_us) in depths {
            for tape in &tapes {
                let job = Job { tape, depth: *depth, passes: PASSES, checks_all: false };
                let (mut seen, mut waits) = ([Vec::new(), Vec::new()], Vec::new());
                // The first is not counted: in it buffers get their sizes.
                for number in 0..=rounds {
                    for which in [number % 2, 1 - number % 2] {
                        let outcomes = crews[which].run(job);
                        seen[which].push(nanos(&outcomes, |outcome| outcome.busy));
                        waits.extend((which == 1).then(|| nanos(&outcomes, |outcome| outcome.waited)));
                    }
                }
                let [ones, twos] = seen.map(|mut all| all.split_off(1));
                let kernel = 1_000.0 * kernel_us;
                let gains = ones.iter().zip(&twos).map(|(one, two)| 2.0 * (kernel + one) / (kernel + two)).collect();
                let [one, two, wait] = [ones, twos, waits.split_off(1)].map(|all| spread(all, 0));
                let name = tape.kind.name();
                println!("| {name}, {depth} deep | {one} | {two} | {wait} | {kernel:.0} | {} |", spread(gains, 2));
            }
        }
    });
}

/// Threads that work as one node would. Each lives on, with the memory that it has taken.
struct Crew<'a> {
    orders: Vec<Sender<Order<'a>>>,
    outcomes: Receiver<Outcome>,
}

struct Order<'a> {
    job: Job<'a>,
    link: Option<Link>,
    start: Arc<Barrier>,
}

impl<'a> Crew<'a> {
    fn new<'s>(scope: &'s Scope<'s, 'a>, threads: usize, keys: u32) -> Self {
        let (tell, outcomes) = channel();
        let start = |number| {
            let (order, orders) = channel::<Order<'a>>();
            let tell = tell.clone();
            let work = move || {
                let mut worker = Worker::new(number, threads, keys);
                for Order { job, link, start } in orders {
                    start.wait();
                    tell.send(worker.run(&job, link)).expect("somebody listens");
                }
            };
            let thread = thread::Builder::new().name(format!("one-of-{threads}"));
            thread.spawn_scoped(scope, work).expect("a thread can be started");
            order
        };
        Self { orders: (0..threads).map(start).collect(), outcomes }
    }

    fn run(&self, job: Job<'a>) -> Vec<Outcome> {
        let start = Arc::new(Barrier::new(self.orders.len()));
        let links = if let [_, _] = *self.orders { Link::pair().map(Some).into() } else { vec![None] };
        for (order, link) in self.orders.iter().zip(links) {
            order.send(Order { job, link, start: Arc::clone(&start) }).expect("the thread is there");
        }
        self.orders.iter().map(|_| self.outcomes.recv().expect("the threads work")).collect()
    }
}

/// Of all threads together, for an operation.
fn nanos(outcomes: &[Outcome], of: impl Fn(&Outcome) -> Duration) -> f64 {
    let ops: usize = outcomes.iter().map(|outcome| outcome.ops).sum();
    outcomes.iter().map(of).sum::<Duration>().as_nanos() as f64 / ops as f64
}

/// The median, and from the least to the most.
fn spread(mut of: Vec<f64>, digits: usize) -> String {
    of.sort_unstable_by(f64::total_cmp);
    let (median, least, most) = (of[of.len() / 2], of[0], of[of.len() - 1]);
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
