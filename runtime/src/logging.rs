//! Log lines on stderr. Nothing is logged per command, and nothing waits for a line to be taken.

use std::io::{IsTerminal, stderr};

use kv_core::LogLevel;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use crate::cli::{LogFormat, Options};
use crate::stderr::Stderr;

/// Whether somebody watches the log on a terminal that can show more than lines.
pub(crate) fn is_for_people(options: &Options) -> bool {
    let can_move = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    can_move && options.log_format == LogFormat::Human && options.log_level.level() != LogLevel::Off
}

/// How severe a line must be to be logged.
#[derive(Debug)]
pub(crate) struct LogFilter {
    level: LogLevel,
    /// None: what is logged does not change.
    handle: Option<Handle<LevelFilter, Registry>>,
}

impl LogFilter {
    /// Changes what is logged, if it is not so yet.
    pub(crate) fn set(&mut self, level: LogLevel) {
        if level != self.level {
            self.level = level;
            // It fails if nothing is logged any more.
            let _ = self.handle.as_ref().map(|handle| handle.reload(filter(level)));
        }
    }

    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { level: LogLevel::Off, handle: None }
    }
}

/// Starts logging as the options say.
pub(crate) fn start(options: &Options, log: Stderr) -> LogFilter {
    let level = options.log_level.level();
    let (levels, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(levels);
    // A log line that nobody can take is lost: the alternative of tracing is to panic while saying so.
    let lines = fmt::layer().with_writer(move || log.clone()).log_internal_errors(false);
    match options.log_format {
        LogFormat::Json => registry.with(lines.json()).init(),
        LogFormat::Human => {
            let has_colour = options.color.is_on(stderr().is_terminal());
            registry.with(lines.with_target(false).with_ansi(has_colour)).init();
        }
    }
    LogFilter { level, handle: Some(handle) }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
