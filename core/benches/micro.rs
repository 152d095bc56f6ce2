//! Times each scenario: `cargo bench -p kv-core --bench micro`.

mod scenarios;

use divan::Bencher;
use divan::counter::ItemsCount;

use self::scenarios::{ALL, Scenario, Started};

fn main() {
    divan::main();
}

#[divan::bench(args = ALL)]
fn round(bencher: Bencher<'_, '_>, scenario: Scenario) {
    let Started { supply, mut round } = (scenario.start)();
    bencher.with_inputs(supply).counter(ItemsCount::new(scenario.ops)).bench_local_refs(|input| round(input));
}
