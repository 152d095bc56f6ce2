//! How far something is that takes a while, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of anything else, on stderr.
pub(crate) fn steps(what: &'static str, count: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr()).with_message(what);
    match ProgressStyle::with_template("{msg} {wide_bar} {percent} %") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar of bytes.
pub(crate) fn bar(what: &'static str, bytes: u64, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(bytes), target).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
