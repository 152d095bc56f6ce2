//! `sim scale`: a table of what clusters of many nodes cost.

use clap::Parser;
use sim::world::scale::{Scale, measure};

/// Measures clusters that stand idle, write, and come together again, with the timers of production.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How many nodes they have.
    #[arg(long, value_delimiter = ',', default_value = "3,5,10,20,30")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=60))]
    nodes: Vec<u64>,
}

/// Prints a line for each; whether all came together.
pub(crate) fn run(args: &Args) -> bool {
    println!(
        "| nodes | links a node | heartbeat | idle, sent by a node | mesh closed after | a write is everywhere after | \
         in agreement after a cut of a minute |\n|---|---|---|---|---|---|---|"
    );
    let mut all = true;
    for nodes in &args.nodes {
        let scale = measure(*nodes);
        all &= [scale.meshed_us, scale.written_us, scale.converged_us].iter().all(Option::is_some);
        println!("{}", row(&scale));
    }
    all
}

fn row(scale: &Scale) -> String {
    let ms = |us: Option<u64>| us.map_or("never".to_owned(), |us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100));
    format!(
        "| {} | {} | {} bytes | {} bytes/s in {} sends | {} | {} | {} |",
        scale.nodes,
        scale.links,
        scale.heartbeat_bytes,
        scale.idle_bytes_per_s,
        scale.idle_writes_per_s,
        ms(scale.meshed_us),
        ms(scale.written_us),
        ms(scale.converged_us),
    )
}
