//! What can be done besides running a node. A data directory is read by the core's [`Scanner`](kv_core::Scanner), as a
//! node would read it, and nothing in it is changed.

mod backup;
mod check;
mod dump;
mod source;

use std::io::Write;

use crate::bench;
use crate::cli::Tool;
use crate::failure::Failure;
use crate::peers::fresh_secret;
use crate::prompt::{cli, demo, pages, ping, status};

/// Does what was asked for.
pub(crate) fn run(tool: &Tool) -> Result<(), Failure> {
    match tool {
        Tool::Check { dir } => check::check(dir),
        Tool::Backup { dir, file } => backup::backup(dir, file),
        Tool::Restore { file, dir } => backup::restore(file, dir),
        Tool::Dump { dir, json } => dump::dump(dir, *json),
        Tool::Secret => {
            let secret = fresh_secret().map_err(|error| Failure::System("read random bytes", error))?;
            let written = writeln!(std::io::stdout(), "{secret}");
            written.map_err(|error| Failure::System("print a secret", error))
        }
        Tool::Bench(options) => bench::run(options),
        Tool::Ping(options) => ping::run(options),
        Tool::Status(options) => status::run(options),
        Tool::Cli(options) => cli::run(options),
        Tool::Demo(options) => demo::run(options),
        Tool::Completions { shell } => pages::completions(*shell),
        Tool::Man { dir } => pages::man(dir.as_deref()),
    }
}
