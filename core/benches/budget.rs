//! What `.ci/budget.py` counts the instructions of. Without arguments it tells what there is to count: of each scenario
//! its name, and the operations in the rounds that it carries out when it is given that name.

mod scenarios;

use std::hint::black_box;

use self::scenarios::{ALL, Round, Scenario, Started};

/// Rounds that are not counted, in which buffers get their sizes.
const WARM_ROUNDS: u32 = 2;

/// Operations that are counted, at the least.
const OPS_MIN: u32 = 10_000;

fn main() {
    #[expect(clippy::disallowed_methods, reason = "this is a program, with arguments of its own")]
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [] => ALL.iter().for_each(|scenario| println!("{scenario} {}", rounds(scenario) * scenario.ops)),
        [name] => run(ALL.iter().find(|scenario| scenario.name == name).expect("the name of a scenario")),
        _ => panic!("to be given the name of a scenario, or nothing"),
    }
}

fn rounds(scenario: &Scenario) -> u32 {
    OPS_MIN.div_ceil(scenario.ops)
}

fn run(scenario: &Scenario) {
    let Started { mut supply, mut round } = (scenario.start)();
    (0..WARM_ROUNDS).for_each(|_| round(&supply()));
    for _ in 0..rounds(scenario) {
        let input = supply();
        counted_round(&mut *round, &input);
    }
}

/// All that is counted: callgrind knows it by its name.
#[inline(never)]
fn counted_round(round: &mut Round, input: &[u8]) {
    black_box(round)(black_box(input));
}
