//! The file: TOML without tables, and where in it each key stands.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Arg;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{LISTS, is_append, is_flag, key_of};
use crate::failure::Failure;
use crate::secret::check_private;

/// Far longer than a file of options is.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How unlike a key the name may be that is suggested instead, from 0 to 1.
const UNLIKE_MAX: f64 = 0.3;

/// A file that was read; without one, nothing is in it.
#[derive(Debug, Default)]
pub(super) struct SettingsFile {
    path: PathBuf,
    /// In the order in which they stand there.
    pub(super) entries: Vec<Entry>,
}

/// What the file says of one option.
#[derive(Debug)]
pub(super) struct Entry {
    /// With `-`, however it was written.
    pub(super) key: String,
    pub(super) given: Given,
    pub(super) line: usize,
}

/// What an option is given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    Flag(bool),
    Text(String),
    List(Vec<String>),
}

impl Given {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::Flag(_) => &[],
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(texts) => texts,
        }
    }
}

impl SettingsFile {
    /// Reads the file; `options` are what it can set.
    pub(super) fn read(path: &Path, options: &[&Arg]) -> Result<Self, Failure> {
        let failed = |error| Failure::File(path.to_owned(), "read the options in", error);
        let file = File::open(path).map_err(failed)?;
        let mut text = String::new();
        (&file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(io::Error::other(format!("it is too long, at most {FILE_BYTES_MAX} bytes"))));
        }
        let this = Self::parse(path, &text, options)?;
        let is_secret =
            |entry: &Entry| options.iter().any(|arg| key_of(arg) == entry.key && arg.is_hide_env_values_set());
        if this.entries.iter().any(is_secret) {
            check_private(&file, path).map_err(failed)?;
        }
        Ok(this)
    }

    fn parse(path: &Path, text: &str, options: &[&Arg]) -> Result<Self, Failure> {
        let mut this = Self { path: path.to_owned(), entries: Vec::new() };
        let line_of = |span: Range<usize>| 1 + text[..span.start.min(text.len())].matches('\n').count();
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, line_of);
            this.wrong(line, &error.message().lines().collect::<Vec<_>>().join("; "))
        })?;
        let mut keys: Vec<_> = table.get_ref().iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        for (name, value) in keys {
            let line = line_of(name.span());
            let key = name.get_ref().replace('_', "-");
            let Some(arg) = options.iter().find(|arg| key_of(arg) == key) else {
                return Err(this.wrong(line, &unknown(name.get_ref(), &key, options)));
            };
            if let Some(before) = this.entries.iter().find(|entry| entry.key == key) {
                return Err(
                    this.wrong(line, &format!("{name} is set in line {} already", before.line, name = name.get_ref()))
                );
            }
            let given = given(arg, value).map_err(|what| this.wrong(line, &format!("{key} {what}")))?;
            this.entries.push(Entry { key, given, line });
        }
        Ok(this)
    }

    /// What is wrong in a line of it.
    pub(super) fn wrong(&self, line: usize, what: &str) -> Failure {
        Failure::Usage(format!("{}, line {line}: {what}", self.path.display()))
    }
}

/// Says that there is no such option, and which one may be meant.
fn unknown(name: &str, key: &str, options: &[&Arg]) -> String {
    let distance = |arg: &&Arg| 1.0 - strsim::jaro_winkler(&key_of(arg), key);
    let nearest = options.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    match nearest.filter(|arg| distance(arg) <= UNLIKE_MAX) {
        Some(arg) => format!("there is no option '{name}'; did you mean '{}'?", key_of(arg)),
        None => format!("there is no option '{name}'"),
    }
}

fn given(arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Given, String> {
    let takes_list = is_append(arg) || LISTS.contains(&arg.get_id().as_str());
    match value.get_ref() {
        DeValue::Boolean(is_on) if is_flag(arg) => Ok(Given::Flag(*is_on)),
        _ if is_flag(arg) => Err("is true or false".to_owned()),
        DeValue::Array(values) if takes_list => {
            let texts = values.iter().map(|value| scalar(value.get_ref()));
            texts.collect::<Result<_, _>>().map(Given::List)
        }
        DeValue::Array(_) => Err("takes one value, not an array".to_owned()),
        value if is_append(arg) => scalar(value).map(|text| Given::List(vec![text])),
        value => scalar(value).map(Given::Text),
    }
}

/// What would be typed for a value.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.contains('\0') => Err("cannot have a NUL in it".to_owned()),
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) => Ok(match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.to_string(),
        }),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(is_on) => Ok(is_on.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!("cannot be of the type {}; there are no tables here", value.type_str()))
        }
    }
}
