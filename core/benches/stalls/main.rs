//! How long a node's turns are while it does something big: `cargo bench -p kv-core --bench stalls`.
//!
//! A machine that is not there for ten milliseconds now and then makes any turn long, and never the same one: a node
//! given the same input makes the same turns. So each part is run several times, each time in a process of its own,
//! and of each turn the least counts that it took in any of them.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program that reads arguments and clocks")]

mod machine;
mod parts;
#[path = "../scenarios/requests.rs"]
#[expect(dead_code, reason = "the others need all of it")]
mod requests;

use std::process::Command;

use self::parts::{ALL, Part, Section, Sizes};

/// What the node has by its release: what it allocates and frees is part of its turns.
#[global_allocator]
static ALLOCATOR: kv_allocator::Allocator = kv_allocator::ALLOCATOR;

/// Runs of each part, unless `--runs=` says otherwise.
const RUNS: usize = 5;

/// What `cargo test` makes do with.
const SMALL_RUNS: usize = 2;

/// Turns that `--slowest` tells of each section.
const SLOWEST: usize = 5;

/// Said to the processes that carry out one part once.
const ALONE: &str = "--alone";
const SMALL: &str = "--small";

/// The same section of all runs.
struct Seen {
    what: String,
    /// By turn: the least of all runs.
    least: Vec<u32>,
    /// The longest of any.
    longest: u32,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|other| other == word);
    // Cargo says so, but not when it tests.
    let is_small = has(SMALL) || !has("--bench");
    let names: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let chosen = || ALL.iter().filter(|part| names.is_empty() || names.contains(&part.name));
    if has(ALONE) {
        let sizes = if has(SMALL) { Sizes::SMALL } else { Sizes::FULL };
        return chosen().for_each(|part| tell(&(part.run)(&sizes)));
    }
    let runs = words.iter().find_map(|word| word.strip_prefix("--runs="));
    let runs = runs.map_or(if is_small { SMALL_RUNS } else { RUNS }, |runs| runs.parse().expect("a number of runs"));
    println!("| milliseconds of a turn while | turns | median | p99.99 | longest | longest of any single run |");
    println!("|---|---|---|---|---|---|");
    for part in chosen() {
        for seen in watch(part, runs, is_small) {
            println!("{}", seen.row());
            if has("--slowest") {
                eprintln!("{}", seen.slowest());
            }
        }
    }
}

/// Tells whoever started this process.
fn tell(sections: &[Section]) {
    for Section { what, turns } in sections {
        println!("= {what}");
        turns.iter().for_each(|nanos| println!("{nanos}"));
    }
}

fn watch(part: &Part, runs: usize, is_small: bool) -> Vec<Seen> {
    assert!(runs > 0, "at least one run");
    let mut all: Vec<Seen> = run_alone(part, is_small).into_iter().map(Seen::new).collect();
    for _ in 1..runs {
        let sections = run_alone(part, is_small);
        assert_eq!(sections.len(), all.len(), "{}: the same input gives the same turns", part.name);
        all.iter_mut().zip(sections).for_each(|(seen, section)| seen.add(&section));
    }
    all
}

fn run_alone(part: &Part, is_small: bool) -> Vec<Section> {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([ALONE, part.name]).args(is_small.then_some(SMALL));
    let output = command.stderr(std::process::Stdio::inherit()).output().expect("this program can be run");
    assert!(output.status.success(), "{} ended with {}", part.name, output.status);
    let mut sections: Vec<Section> = Vec::new();
    for line in String::from_utf8(output.stdout).expect("it tells text").lines() {
        if let Some(what) = line.strip_prefix("= ") {
            sections.push(Section { what: what.to_owned(), turns: Vec::new() });
        } else {
            let section = sections.last_mut().expect("a section has a head");
            section.turns.push(line.parse().expect("a turn is a number"));
        }
    }
    assert!(!sections.is_empty() && sections.iter().all(|section| !section.turns.is_empty()), "turns were made");
    sections
}

impl Seen {
    fn new(Section { what, turns }: Section) -> Self {
        let longest = turns.iter().copied().max().unwrap_or(0);
        Self { what, least: turns, longest }
    }

    fn add(&mut self, Section { what, turns }: &Section) {
        assert_eq!(
            (what, turns.len()),
            (&self.what, self.least.len()),
            "the same input gives the same turns, in each run"
        );
        for (least, nanos) in self.least.iter_mut().zip(turns) {
            *least = (*least).min(*nanos);
            self.longest = self.longest.max(*nanos);
        }
    }

    fn row(&self) -> String {
        let mut sorted = self.least.clone();
        sorted.sort_unstable();
        let of = |share: f64| ms(sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]);
        let (count, longest) = (parts::grouped(sorted.len()), ms(self.longest));
        format!("| {} | {count} | {} | {} | {} | {longest} |", self.what, of(0.5), of(0.9999), of(1.0))
    }

    fn slowest(&self) -> String {
        let mut turns: Vec<(u32, usize)> = self.least.iter().copied().zip(1..).collect();
        turns.sort_unstable_by(|one, other| other.cmp(one));
        let told = turns.iter().take(SLOWEST).map(|(nanos, number)| format!("turn {number}: {}", ms(*nanos)));
        format!("    {}: {}", self.what, told.collect::<Vec<_>>().join(", "))
    }
}

fn ms(nanos: u32) -> String {
    format!("{:.3}", f64::from(nanos) / 1e6)
}
