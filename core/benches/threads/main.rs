//! What a second core would give a node: `cargo bench -p kv-core --bench threads`.
//!
//! One thread with all keys and clients, next to three ways to use two cores ([`worker`]): threads that share nothing,
//! each with half of all keys, and clients that ask for no others; threads that own half of all keys each, and hand
//! each other what is the other's; and a node most of whose sockets are another thread's, which hands it what it reads.
//! What is left out would cost threads that own keys more than one: sleeping and waking each other, an order of the
//! writes, a ring and links for each of them, commands of several keys.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program that reads arguments and clocks")]

mod link;
#[path = "../scenarios/requests.rs"]
#[expect(dead_code, reason = "the others need all of it")]
mod requests;
mod tape;
mod worker;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, Scope};

use self::link::Link;
use self::tape::{DEPTH_MAX, Kind, Tape, owner_of, shuffled};
use self::worker::{Batches, Job, Outcome, Role, Worker};

/// Of all threads together.
const CLIENTS: usize = 50;

/// What the node has by its release.
#[global_allocator]
static ALLOCATOR: kv_allocator::Allocator = kv_allocator::ALLOCATOR;

const KEYS: u32 = 1_000_000;
const SMALL_KEYS: u32 = 25_600;

/// Requests that a client sends ahead.
const DEPTHS: [usize; 3] = [1, 16, DEPTH_MAX];

/// Rounds, unless `--rounds=` says otherwise, and requests in each, by depth: of both threads, if there are two.
const ROUNDS: usize = 12;
const ROUND_OPS: [usize; 3] = [102_400, 1_024_000, 2_048_000];

/// Ways to use threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    One,
    Apart,
    OwnedKeys,
    Helped,
}

const WAYS: [Way; 4] = [Way::One, Way::Apart, Way::OwnedKeys, Way::Helped];

/// Clients that a node with a helper looks after itself, by depth: what gives the most.
const NODE_CLIENTS: [usize; 3] = [20, 3, 0];

/// Clients that a thread looks after in one turn, where what they ask for crosses: what gives the most.
const HELPED_AT_ONCE: [usize; 3] = [8, 4, 4];
const OWNED_AT_ONCE: [usize; 3] = [CLIENTS, CLIENTS, 8];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.strip_prefix("--rounds="));
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    assert!(
        rounds > 0 && rounds % WAYS.len() == 0,
        "each way is first in as many rounds: give a multiple of {}",
        WAYS.len()
    );
    // Cargo says so, but not when it tests.
    if words.iter().any(|word| word == "--bench") { measure(rounds) } else { check() }
}

/// All replies are as they should be, in order, and half of them come from the other thread, if keys have owners.
fn check() {
    let order = shuffled(SMALL_KEYS);
    let made = (1..).zip(0..DEPTHS.len()).flat_map(|(generation, depth)| {
        [Kind::Set, Kind::Get].map(|kind| (Tapes::new(kind, &order, generation), depth))
    });
    let made: Vec<(Tapes, usize)> = made.collect();
    thread::scope(|scope| {
        for way in WAYS {
            let crew = Crew::new(scope, way, &order);
            for (tapes, depth) in &made {
                let ops = SMALL_KEYS as usize;
                let outcomes = crew.run(tapes, *depth, 0, ops, true);
                let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
                assert_eq!(sum(|outcome| outcome.ops), ops, "all are answered");
                let crossed = sum(|outcome| outcome.crossed);
                match way {
                    Way::One | Way::Apart => assert_eq!(crossed, 0, "there is nobody else"),
                    Way::OwnedKeys => assert!(crossed.abs_diff(ops / 2) < ops / 20, "half of all cross: {crossed}"),
                    Way::Helped => assert!(crossed > 0, "the helper has clients"),
                }
            }
        }
    });
}

fn measure(rounds: usize) {
    let order = shuffled(KEYS);
    let made = [Kind::Get, Kind::Set].map(|kind| Tapes::new(kind, &order, 1));
    println!("|  | one thread, ns | threads apart | keys owned by threads | a helper for the sockets |");
    println!("|---|---|---|---|---|");
    thread::scope(|scope| {
        let crews = WAYS.map(|way| Crew::new(scope, way, &order));
        for (depth, ops) in ROUND_OPS.into_iter().enumerate() {
            for tapes in &made {
                let mut nanos = WAYS.map(|_| Vec::new());
                // The first is not counted: in it buffers get their sizes.
                for number in 0..=rounds {
                    for at in 0..WAYS.len() {
                        let which = (number + at) % WAYS.len();
                        let outcomes = crews[which].run(tapes, depth, number, ops, false);
                        let took = outcomes.iter().map(|outcome| outcome.took).max().expect("there is a thread");
                        if number > 0 {
                            nanos[which].push(took.as_nanos() as f64 / ops as f64);
                        }
                    }
                }
                let [one, others @ ..] = nanos;
                let gains = others.map(|other| spread(one.iter().zip(&other).map(|(one, two)| one / two).collect(), 2));
                println!(
                    "| {}, {} deep | {} | {} |",
                    tapes.all.kind.name(),
                    DEPTHS[depth],
                    spread(one, 0),
                    gains.join(" | ")
                );
            }
        }
    });
}

impl Way {
    const fn roles(self) -> &'static [Role] {
        match self {
            Self::One => &[Role::Node],
            Self::Apart => &[Role::Node, Role::Node],
            Self::OwnedKeys => &[Role::Owner(0), Role::Owner(1)],
            Self::Helped => &[Role::Node, Role::Helper],
        }
    }

    /// Whether a thread's node has this key.
    fn has(self, thread: usize, number: u32) -> bool {
        match self {
            Self::One => true,
            Self::Apart | Self::OwnedKeys => owner_of(number) == thread,
            Self::Helped => thread == 0,
        }
    }

    /// Of all clients, and how many of them it looks after in a turn.
    const fn clients(self, thread: usize, depth: usize) -> (usize, usize) {
        match (self, thread) {
            (Self::One, _) => (CLIENTS, CLIENTS),
            (Self::Apart, _) => (CLIENTS / 2, CLIENTS),
            (Self::OwnedKeys, _) => (CLIENTS / 2, OWNED_AT_ONCE[depth]),
            (Self::Helped, 0) => (NODE_CLIENTS[depth], HELPED_AT_ONCE[depth]),
            (Self::Helped, _) => (CLIENTS - NODE_CLIENTS[depth], HELPED_AT_ONCE[depth]),
        }
    }

    /// What its threads are called.
    const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Apart => "apart",
            Self::OwnedKeys => "owned-keys",
            Self::Helped => "helped",
        }
    }
}

/// Requests for all keys, and for those of either owner.
struct Tapes {
    all: Tape,
    owned: [Tape; 2],
}

impl Tapes {
    fn new(kind: Kind, order: &[u32], generation: u64) -> Self {
        let owned = [0, 1].map(|thread| {
            let order: Vec<u32> = order.iter().copied().filter(|number| owner_of(*number) == thread).collect();
            Tape::new(kind, &order, generation)
        });
        Self { all: Tape::new(kind, order, generation), owned }
    }
}

/// Threads that work as one node would. Each lives on, with the memory that it has taken.
struct Crew<'a> {
    way: Way,
    threads: Vec<(Sender<Order<'a>>, Receiver<Outcome>)>,
}

struct Order<'a> {
    job: Job<'a>,
    start: Arc<Barrier>,
}

impl<'a> Crew<'a> {
    fn new<'s>(scope: &'s Scope<'s, 'a>, way: Way, keys: &[u32]) -> Self {
        let roles = way.roles();
        let links = match way {
            Way::One | Way::Apart => [None, None],
            Way::OwnedKeys | Way::Helped => Link::pair().map(Some),
        };
        let (is_ready, ready) = channel();
        let start = |(number, (role, link)): (usize, (Role, Option<Link>))| {
            let (order, orders) = channel::<Order<'a>>();
            let (tell, outcomes) = channel();
            let is_ready = is_ready.clone();
            let keys: Vec<u32> = keys.iter().copied().filter(|key| way.has(number, *key)).collect();
            let work = move || {
                let mut worker = Worker::new(role, &keys, link);
                is_ready.send(()).expect("somebody waits");
                drop(is_ready);
                for Order { job, start } in orders {
                    let outcome = worker.run(job, || _ = start.wait());
                    tell.send(outcome).expect("somebody listens");
                }
            };
            let thread = thread::Builder::new().name(way.name().to_owned());
            thread.spawn_scoped(scope, work).expect("a thread can be started");
            (order, outcomes)
        };
        let threads: Vec<_> = roles.iter().copied().zip(links).enumerate().map(start).collect();
        drop(is_ready);
        threads.iter().for_each(|_| ready.recv().expect("the threads have their nodes"));
        Self { way, threads }
    }

    /// So many requests, from where as many rounds have left the tape.
    fn run(&self, tapes: &'a Tapes, depth: usize, round: usize, ops: usize, checks_all: bool) -> Vec<Outcome> {
        let start = Arc::new(Barrier::new(self.threads.len()));
        let batches = |parts: usize| {
            let count = ops / parts / DEPTHS[depth];
            Arc::new(Batches::new(round * count, (round + 1) * count))
        };
        let shared = batches(1);
        for (thread, (order, _)) in self.threads.iter().enumerate() {
            let (tape, batches) = match self.way {
                Way::Apart => (&tapes.owned[thread], batches(2)),
                Way::One | Way::OwnedKeys | Way::Helped => (&tapes.all, Arc::clone(&shared)),
            };
            let (clients, at_once) = self.way.clients(thread, depth);
            let job = Job { tape, depth: DEPTHS[depth], clients, at_once, batches, checks_all };
            order.send(Order { job, start: Arc::clone(&start) }).expect("the thread is there");
        }
        self.threads.iter().map(|(_, outcomes)| outcomes.recv().expect("the threads work")).collect()
    }
}

/// The median, and from the least to the most.
fn spread(mut of: Vec<f64>, digits: usize) -> String {
    of.sort_unstable_by(f64::total_cmp);
    let (least, most) = (of[0], of[of.len() - 1]);
    let median = f64::midpoint(of[(of.len() - 1) / 2], of[of.len() / 2]);
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}
