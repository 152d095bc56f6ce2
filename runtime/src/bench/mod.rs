//! `simple-kv bench`: asks a node, or any server that speaks its protocols, as fast as it answers or at a rate that is
//! given, and tells how long answers took.
//!
//! A *closed* load has each connection wait for its answers before it asks again, as most clients do. While the server
//! stands still such a load does, too, and hardly notices: its percentiles are those of requests that were sent, and
//! say nothing of the requests that would have come. An *open* load (`--rate`) asks when it is time to, answered or
//! not, and measures from then on, so that a stall counts for each request that it held up: Gil Tene calls what the
//! other leaves out "coordinated omission" (<https://www.youtube.com/watch?v=lJ8ydIuPFeU>).
//!
//! `options` says what a load is to be like, `workload` makes the requests, `pace` tells when they are due;
//! `connection` has their bytes, `reply` reads the answers, `driver` is the loop around them, and `report` prints.

mod connection;
mod driver;
mod options;
mod pace;
mod reply;
mod report;
mod workload;

use std::io::{self, IsTerminal, Write};
use std::net::ToSocketAddrs;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

pub(crate) use options::{BenchOptions, DEFAULTS};

use self::connection::{Connection, Server};
use self::driver::{Driver, Outcome, Shared, Until};
use self::pace::Pace;
use self::workload::{Operation, Workload};
use crate::failure::Failure;
use crate::{progress, start};

/// Connections that fill the keyspace, and requests under way on each: enough to keep one core of a server busy.
const FILL_CONNECTIONS: usize = 8;
const FILL_PIPELINE: usize = 64;

/// How often a bar is drawn anew.
const LOOK: Duration = Duration::from_millis(100);

/// Runs each operation that was asked for, one after the other, and prints what came of it.
pub(crate) fn run(options: &BenchOptions) -> Result<(), Failure> {
    options.check_memory().map_err(Failure::Usage)?;
    start::raise_descriptor_limit(options.connections);
    let server = reachable(options)?;
    if options.operations.iter().any(|operation| operation.wants_keys()) && !options.no_fill {
        fill(options, &server)?;
    }
    if !options.json {
        print(report::heading(options));
    }
    let mut failed = None;
    for operation in &options.operations {
        let outcome = measure(options, &server, *operation)?;
        match options.json {
            true => print(report::json(options, *operation, &outcome)),
            false => print(report::text(options, *operation, &outcome)),
        }
        failed = failed.or(report::complaint(*operation, &outcome));
    }
    match failed {
        Some(what) => Err(Failure::Server(options.server.clone(), what)),
        None => Ok(()),
    }
}

fn print(text: String) {
    // Nobody left to read it is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The server by the first of its addresses that accepts: a name may have some on which nobody listens.
fn reachable(options: &BenchOptions) -> Result<Server, Failure> {
    let failed = |error| Failure::Connect(options.server.clone(), error);
    let tls = options.tls.load()?.map(|tls| (tls, options.server.clone()));
    let mut refused = io::ErrorKind::NotFound.into();
    for address in options.server.to_socket_addrs().map_err(failed)? {
        let server = Server { address, tls: tls.clone() };
        match Connection::connect(&server, options.protocol) {
            Ok(_) => return Ok(server),
            Err(error) => refused = error,
        }
    }
    Err(failed(refused))
}

/// Sets every key once, so that reads find something.
fn fill(options: &BenchOptions, server: &Server) -> Result<(), Failure> {
    let connections = options.connections.min(FILL_CONNECTIONS);
    let (shared, until) = (Shared::default(), Until::Answered(options.keys));
    let driver = Driver::connect(server, options, connections, Workload::filling(options), until, &shared)
        .map_err(|error| Failure::Connect(options.server.clone(), error))?
        .with_depth(FILL_PIPELINE.min(fitting(options)));
    let outcome =
        run_all(options, vec![driver], &shared, &bar(options, "filling", options.keys), &|_, answered| answered)?;
    match outcome.refused {
        0 => Ok(()),
        _ => {
            let said = outcome.first_refusal.unwrap_or_default();
            Err(Failure::Server(
                options.server.clone(),
                format!("refused to set a key, so nothing was measured: {}", said.escape_debug()),
            ))
        }
    }
}

/// How many values fit into the memory that filling may take on one connection.
fn fitting(options: &BenchOptions) -> usize {
    const FILL_BYTES_MAX: usize = 16 << 20;
    (FILL_BYTES_MAX / options.value_size).max(1)
}

/// Loads the server with one operation, from as many threads as are asked for.
fn measure(options: &BenchOptions, server: &Server, operation: Operation) -> Result<Outcome, Failure> {
    let share =
        |of: u64, thread: usize, threads: usize| of / threads as u64 + u64::from((thread as u64) < of % threads as u64);
    let most = options.requests.unwrap_or(u64::MAX).min(options.connections as u64);
    let threads = options.threads.min(most as usize);
    let shared = Shared::default();
    let mut drivers = Vec::with_capacity(threads);
    for thread in 0..threads {
        let connections = share(options.connections as u64, thread, threads) as usize;
        let until = match options.requests {
            Some(count) => Until::Answered(share(count, thread, threads)),
            None => Until::Passed {
                warm_up: Duration::from_secs_f64(options.warm_up),
                measured: Duration::from_secs_f64(options.seconds),
            },
        };
        let workload = Workload::new(options, operation, thread as u64);
        let driver = Driver::connect(server, options, connections, workload, until, &shared)
            .map_err(|error| Failure::Connect(options.server.clone(), error))?;
        drivers.push(driver.with_pace(Pace::of(options.rate, thread, threads)));
    }
    let milliseconds = ((options.warm_up + options.seconds) * 1e3) as u64;
    let bar = bar(options, operation.name(), options.requests.unwrap_or(milliseconds));
    run_all(options, drivers, &shared, &bar, &|begin, answered| match options.requests {
        Some(_) => answered,
        None => begin.elapsed().as_millis() as u64,
    })
}

/// Runs the drivers, each in a thread, and shows how far they are, which `position` tells by when they began and how
/// much was answered.
fn run_all(
    options: &BenchOptions,
    drivers: Vec<Driver<'_>>,
    shared: &Shared,
    bar: &ProgressBar,
    position: &dyn Fn(Instant, u64) -> u64,
) -> Result<Outcome, Failure> {
    let (tell, ended) = mpsc::channel();
    let begin = Instant::now();
    let mut left = drivers.len();
    let results = thread::scope(|scope| {
        for driver in drivers {
            let tell = tell.clone();
            scope.spawn(move || {
                // Whoever would hear it waits for all.
                let _ = tell.send(driver.run(begin));
            });
        }
        drop(tell);
        let mut results = Vec::new();
        while left > 0 {
            match ended.recv_timeout(LOOK) {
                Ok(result) => {
                    results.push(result);
                    left -= 1;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bar.set_position(position(begin, shared.answered.load(Ordering::Relaxed)));
                }
                // One has panicked, and the scope will.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        results
    });
    bar.finish_and_clear();
    // Whichever thread it was said to.
    let refusal = results.iter().find_map(|result| match result {
        Ok(outcome) => outcome.first_refusal.clone(),
        Err((_, refusal)) => refusal.clone(),
    });
    let outcomes = results.into_iter().collect::<Result<Vec<_>, _>>().map_err(|(broken, _)| {
        let mut what = broken.to_string();
        if let Some(said) = refusal {
            what += &format!("; before that it refused a request: {}", said.escape_debug());
        }
        let answered = shared.answered.load(Ordering::Relaxed);
        what += &format!("; the {answered} answers that had come are not shown");
        Failure::Server(options.server.clone(), what)
    })?;
    Ok(Outcome::all(outcomes))
}

/// On a terminal, and not beside JSON, how far it is.
fn bar(options: &BenchOptions, what: &'static str, length: u64) -> ProgressBar {
    if options.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    progress::steps(what, length)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        options: BenchOptions,
    }

    /// What a command line asks for.
    pub(super) fn options(arguments: &[&str]) -> BenchOptions {
        Whole::try_parse_from(std::iter::once("bench").chain(arguments.iter().copied())).unwrap().options
    }

    #[test]
    fn defaults_are_those_that_are_explained() {
        let BenchOptions { connections, pipeline, keys, value_size, seconds, warm_up, reads, .. } = options(&[]);
        for explained in [
            format!("--connections {connections}, --pipeline {pipeline}\n"),
            format!("--keys {keys}, uniform\n"),
            format!("--value-size {value_size}\n"),
            format!("--seconds {seconds} after --warm-up {warm_up}\n"),
            format!("--reads {reads}\n"),
        ] {
            assert!(DEFAULTS.contains(&explained), "{explained}");
        }
    }
}
