//! What `--print-config` shows.

use std::fmt;

use toml::Value;

use super::{Configuration, Given, Origin, Setting};

impl fmt::Display for Configuration {
    /// A file of options, each followed by where it comes from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.iter().try_for_each(|setting| writeln!(f, "{setting}"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, origin, is_secret } = self;
        match value {
            None => write!(f, "# {key} is not set"),
            // Read back it would be the secret.
            Some(_) if *is_secret => write!(f, "# {key} = (hidden)  # {origin}"),
            Some(given) => write!(f, "{key} = {given}  # {origin}"),
        }
    }
}

impl fmt::Display for Given {
    /// As TOML has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(is_on) => is_on.fmt(f),
            Self::Text(text) => value_of(text).fmt(f),
            Self::List(texts) => Value::Array(texts.iter().map(|text| value_of(text)).collect()).fmt(f),
        }
    }
}

/// A number if it is written as one is.
fn value_of(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Value::Integer(number),
        _ => Value::String(text.to_owned()),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            // A path may have a line end in it, which would end the comment.
            Self::File(path, line) => write!(f, "file {:?}, line {line}", path.display().to_string()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}
