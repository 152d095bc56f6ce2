//! The daemon: a `mio` event loop around the pure core, and the only crate that touches the operating system.
//!
//! `cli` turns arguments into [`Options`](cli::Options), `start` turns those into a node's `Config` and bound
//! listeners, `server` turns the loop. The rest are its parts: `listen` accepts, `connections` moves bytes, `dial`
//! connects. What a turn does in which order is `kv_core::Turn`'s business and not decided here.

mod access;
mod activation;
mod bench;
mod cli;
mod client;
mod clock;
mod configuration;
mod connections;
mod dial;
mod directory;
mod disk;
mod failure;
mod helpers;
mod listen;
mod load;
mod logging;
mod notify;
mod peers;
mod progress;
mod prompt;
mod reload;
mod secret;
mod server;
mod start;
mod stderr;
mod tls;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use crate::activation::Inherited;
use crate::cli::Asked;
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::reload::Reload;
use crate::stderr::Stderr;

/// jemalloc, because an entry is one small allocation, and its size classes are the narrowest.
#[global_allocator]
static ALLOCATOR: kv_allocator::Allocator = kv_allocator::ALLOCATOR;

fn main() -> ExitCode {
    let inherited = Inherited::take();
    let mut log = match Stderr::start() {
        Ok(log) => log,
        Err(error) => return told(&mut std::io::stderr(), &Failure::System("start the log", error)),
    };
    let outcome = cli::parse().and_then(|asked| match asked {
        Asked::Node(configuration) => run_node(*configuration, inherited?, &log),
        Asked::Tool(tool) => tools::run(&tool),
    });
    let exit_code = match outcome {
        Ok(()) | Err(Failure::Told) => ExitCode::SUCCESS,
        Err(failure @ Failure::Shown) => ExitCode::from(failure.exit_code()),
        Err(failure) => told(&mut log, &failure),
    };
    log.finish();
    exit_code
}

/// Runs a node until it is told to stop; or tells what it would be, if that is asked for.
fn run_node(configuration: Configuration, inherited: Inherited, log: &Stderr) -> Result<(), Failure> {
    let sources = &configuration.options.sources;
    if sources.check_config || sources.print_config {
        let told = if sources.print_config { configuration.to_string() } else { "ok\n".to_owned() };
        start::check_all(&configuration.options)?;
        // Nobody left to read it is no failure.
        let _ = std::io::stdout().write_all(told.as_bytes());
        return Ok(());
    }
    let filter = logging::start(&configuration.options, log.clone());
    let reload = Reload::new(configuration.settings, filter);
    start::start(configuration.options, inherited, reload, log)?.run()
}

/// Says why the program ends, and with which code.
fn told(stderr: &mut impl Write, failure: &Failure) -> ExitCode {
    // In one piece, and not by `eprintln!`, which panics when nobody holds the other end of stderr.
    let _ = stderr.write_all(format!("simple-kv: {failure}\n").as_bytes());
    ExitCode::from(failure.exit_code())
}
