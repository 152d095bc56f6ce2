//! What a second core would give a node: `cargo bench -p kv-core --bench threads`.
//!
//! One thread with all keys and clients, next to two ways to use two cores: threads that own slots, each with half of
//! all keys and clients, which hand each other what is the other's; and one that has all of it, and a helper that
//! reads and writes half of its sockets ([`worker`]). What is left out would cost threads that own slots more than one:
//! sleeping and waking each other, an order of the writes, a ring and links for each of them, commands of several keys.
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

/// Requests that a client sends ahead.
const DEPTHS: [usize; 3] = [1, 16, DEPTH_MAX];

/// Rounds, unless `--rounds=` says otherwise, and requests in each, by depth: of both threads, if there are two. Twice
/// the depth divides them.
const ROUNDS: usize = 9;
const ROUND_OPS: [usize; 3] = [100_000, 1_024_000, 2_048_000];

/// Ways to use threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    One,
    OwnedSlots,
    HelpedSockets,
}

const WAYS: [Way; 3] = [Way::One, Way::OwnedSlots, Way::HelpedSockets];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.strip_prefix("--rounds="));
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    assert!(rounds > 0, "nothing is told of no rounds");
    // Cargo says so, but not when it tests.
    if words.iter().any(|word| word == "--bench") { measure(rounds) } else { check() }
}

/// All replies are as they should be, in order, and half of them come from the other thread, if slots have owners.
fn check() {
    let order = shuffled(SMALL_KEYS);
    let made = (1..).zip(DEPTHS).flat_map(|(generation, depth)| {
        [Kind::Set, Kind::Get].map(|kind| (Tape::new(kind, &order, generation), depth))
    });
    let tapes: Vec<(Tape, usize)> = made.collect();
    thread::scope(|scope| {
        for way in WAYS {
            let crew = Crew::new(scope, way, SMALL_KEYS);
            for (tape, depth) in &tapes {
                let share = 2 * SMALL_KEYS as usize / way.threads();
                for outcome in crew.run(Job { tape, depth: *depth, ops: share, checks_all: true }) {
                    assert_eq!(outcome.ops, share, "all are answered");
                    let expected = if way == Way::OwnedSlots { share / 2 } else { 0 };
                    assert!(outcome.crossed.abs_diff(expected) <= expected / 10, "half of all cross");
                }
            }
        }
    });
}

fn measure(rounds: usize) {
    let tapes = [Kind::Get, Kind::Set].map(|kind| Tape::new(kind, &shuffled(KEYS), 1));
    println!(
        "|  | one thread, ns | slots owned, ns | with waiting, ns | so many times one | with waiting \
        | sockets helped, ns | so many times one |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    thread::scope(|scope| {
        let crews = WAYS.map(|way| Crew::new(scope, way, KEYS));
        for (depth, ops) in DEPTHS.into_iter().zip(ROUND_OPS) {
            for tape in &tapes {
                let (mut ones, mut owned, mut waiting, mut helped) = <[Vec<f64>; 4]>::default().into();
                // The first is not counted: in it buffers get their sizes.
                for number in 0..=rounds {
                    let mut outcomes = WAYS.map(|_| Vec::new());
                    for at in 0..WAYS.len() {
                        let which = (number + at) % WAYS.len();
                        let ops = ops / WAYS[which].threads();
                        outcomes[which] = crews[which].run(Job { tape, depth, ops, checks_all: false });
                    }
                    if number > 0 {
                        let [one, two, with_helper] = &outcomes;
                        ones.push(nanos(one, |outcome| outcome.took));
                        owned.push(nanos(two, |outcome| outcome.took - outcome.waited));
                        waiting.push(nanos(two, |outcome| outcome.took));
                        helped.push(nanos(with_helper, |outcome| outcome.took));
                    }
                }
                // Both cores are always busy with slots that are owned, and those of a helper are both taken.
                let gain = |cores: f64, of: &[f64]| {
                    spread(ones.iter().zip(of).map(|(one, other)| cores * one / other).collect(), 2)
                };
                let gains = [gain(2.0, &owned), gain(2.0, &waiting), gain(1.0, &helped)];
                let [one, owned, waiting, helped] = [ones, owned, waiting, helped].map(|all| spread(all, 0));
                let [gain, gain_waiting, gain_helped] = gains;
                let name = tape.kind.name();
                println!(
                    "| {name}, {depth} deep | {one} | {owned} | {waiting} | {gain} | {gain_waiting} \
                     | {helped} | {gain_helped} |"
                );
            }
        }
    });
}

impl Way {
    /// Those that have clients.
    const fn threads(self) -> usize {
        match self {
            Self::One | Self::HelpedSockets => 1,
            Self::OwnedSlots => 2,
        }
    }

    /// What its threads are called.
    const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::OwnedSlots => "owned-slots",
            Self::HelpedSockets => "helped-sockets",
        }
    }
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
    fn new<'s>(scope: &'s Scope<'s, 'a>, way: Way, keys: u32) -> Self {
        let threads = way.threads();
        let (tell, outcomes) = channel();
        let start = |number| {
            let (order, orders) = channel::<Order<'a>>();
            let tell = tell.clone();
            let work = move || {
                let mut worker = Worker::new(number, threads, way == Way::HelpedSockets, keys);
                for Order { job, link, start } in orders {
                    start.wait();
                    tell.send(worker.run(&job, link)).expect("somebody listens");
                }
            };
            let thread = thread::Builder::new().name(way.name().to_owned());
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
