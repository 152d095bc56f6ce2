//! Log lines on stderr. Nothing is logged per command, and nothing waits for a line to be taken.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::fmt;

use crate::cli::{LogFormat, LogLevel, Options};
use crate::stderr::Stderr;

/// Whether somebody watches the log on a terminal that can show more than lines.
pub(crate) fn is_for_people(options: &Options) -> bool {
    let can_move = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    can_move && options.log_format == LogFormat::Human && options.log_level != LogLevel::Off
}

/// Starts logging as the options say.
pub(crate) fn start(options: &Options, log: Stderr) {
    // A log line that nobody can take is lost: the alternative of tracing is to panic while saying so.
    let builder =
        fmt().with_max_level(options.log_level.filter()).with_writer(move || log.clone()).log_internal_errors(false);
    match options.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Human => {
            let has_colour = options.color.is_on(stderr().is_terminal());
            builder.with_target(false).with_ansi(has_colour).init();
        }
    }
}
