//! Colour, where there is a terminal that has some and nobody minds.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};

/// When to use colour.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColorOption {
    /// When to use colour: auto, on a terminal unless NO_COLOR is set; always; never
    #[arg(long, value_name = "WHEN", env = "SIMPLE_KV_COLOR", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    pub(super) is_on: bool,
}

impl ColorOption {
    /// For what is printed on stdout.
    pub(crate) fn paint(self) -> Paint {
        Paint { is_on: self.is_on(io::stdout().is_terminal()) }
    }

    /// Whether to use colour for what is printed on a terminal, or on something else.
    pub(crate) fn is_on(self, is_terminal: bool) -> bool {
        let variable = |name| std::env::var_os(name);
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && wanted(variable("NO_COLOR").as_deref(), variable("TERM").as_deref()),
        }
    }
}

/// Whether the environment has nothing against colour (<https://no-color.org>).
fn wanted(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

impl Paint {
    pub(super) fn good(self, text: &str) -> String {
        self.styled(text, AnsiColor::Green.on_default())
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.styled(text, AnsiColor::Yellow.on_default())
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.styled(text, AnsiColor::Red.on_default())
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.styled(text, Style::new().bold())
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.styled(text, Style::new().dimmed())
    }

    fn styled(self, text: &str, style: Style) -> String {
        if self.is_on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        assert_eq!(Paint { is_on: false }.bad("text"), "text");
        assert_eq!(Paint { is_on: true }.bad("text"), "\x1b[31mtext\x1b[0m");
        for (no_color, term, expected) in [
            (None, Some("xterm"), true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (None, Some("dumb"), false),
            (None, None, true),
        ] {
            assert_eq!(wanted(no_color.map(OsStr::new), term.map(OsStr::new)), expected, "{no_color:?} {term:?}");
        }
    }
}
