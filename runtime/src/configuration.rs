//! Options from a file, the environment and the command line: each stands above those before it, and all above the
//! defaults.
//!
//! Nothing here knows an option by its name. A key of the file is the long name of a flag, with `-` or `_`, or the name
//! of what is given without one, as `port`. So an option that is declared for the command line is one of the file. One
//! that is itself a secret is declared with `hide_env_values`: then it is not shown, and wants a file that is private.

mod file;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches};

use crate::cli::{self, Options};
use crate::failure::Failure;
pub(crate) use file::Given;
use file::{Entry, SettingsFile};

/// What a file cannot set: where it is, and what is asked for once.
const NOT_IN_A_FILE: [&str; 5] = ["config", "check_config", "print_config", "help", "version"];

/// Of the options that take one value: those whose value is a list, so that a file may have it as an array.
const LISTS: [&str; 1] = ["peers"];

/// Where options come from besides, and what is to be done with them instead of running a node.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sources {
    /// File of options in TOML: a key is a flag's name without the dashes, or port or peers. The environment and the
    /// command line stand above it
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Check the options, from wherever they come, without starting: prints ok, or what is wrong
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Print the options, each with where it comes from, as a file that --config takes; secrets are left out
    #[arg(long, conflicts_with = "check_config")]
    pub(crate) print_config: bool,
}

/// The options of a node, and where each comes from.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    pub(crate) options: Options,
    /// In the order in which they are declared.
    pub(crate) settings: Vec<Setting>,
}

/// An option as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    /// Its name in a file.
    pub(crate) key: String,
    /// None: it is not given, and has no default.
    pub(crate) value: Option<Given>,
    pub(crate) origin: Origin,
    pub(crate) is_secret: bool,
}

impl Setting {
    /// What it is, as one would type it; nothing if it is not given.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            Some(Given::Flag(is_on)) => if *is_on { "yes" } else { "no" }.to_owned(),
            Some(given) => given.texts().join(","),
            None => String::new(),
        }
    }
}

/// Where an option comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    Default,
    /// Which file, and in which line of it.
    File(PathBuf, usize),
    /// By the variable of that name.
    Environment(String),
    Flag,
}

/// Reads the options of a node from the command line, its environment and the file that one of them names.
pub(crate) fn read(arguments: &[OsString]) -> Result<Configuration, Failure> {
    let (matches, settings) = layered(&Options::command(), arguments)?;
    let options = Options::from_arg_matches(&matches).map_err(cli::failure)?;
    Ok(Configuration { options, settings })
}

/// What `command` makes of the arguments, of the environment, and of what the file sets that is in neither.
fn layered(command: &Command, arguments: &[OsString]) -> Result<(ArgMatches, Vec<Setting>), Failure> {
    // What is wrong with them is told below. Here it is only whether they are there, and where the file is.
    let sketch = command.clone().ignore_errors(true).try_get_matches_from(arguments).map_err(cli::failure)?;
    let path = sketch.get_one::<PathBuf>("config");
    let options: Vec<&Arg> = options_of(command).collect();
    let file = path.map(|path| SettingsFile::read(path, &options)).transpose()?.unwrap_or_default();
    check_values(command, &file)?;

    let mut all: Vec<OsString> = arguments.iter().take(1).cloned().collect();
    let mut laid = command.clone();
    let is_below = |arg: &Arg| {
        let by_flag = sketch.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        !by_flag && arg.get_env().and_then(std::env::var_os).is_none()
    };
    let below: Vec<&Entry> =
        file.entries.iter().filter(|entry| find(&laid, &entry.key).is_some_and(is_below)).collect();
    for entry in &below {
        laid = lay(laid, entry, &mut all);
    }
    all.extend(arguments.iter().skip(1).cloned());
    let matches = laid.try_get_matches_from_mut(all).map_err(|error| match (error.kind(), path) {
        // As if the file had been typed: what it sets may be what wants another option.
        (ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict, Some(path)) => {
            Failure::Usage(format!("{} (with what {} sets)", cli::one_line(&error), path.display()))
        }
        _ => cli::failure(error),
    })?;
    let settings = options_of(command).map(|arg| {
        let entry = below.iter().find(|entry| entry.key == key_of(arg));
        setting(arg, &matches, entry.map(|entry| (path.cloned().unwrap_or_default(), entry.line)))
    });
    let settings = settings.collect();
    Ok((matches, settings))
}

/// Puts what a file sets where the command line would have it: before its first argument. What has no flag becomes the
/// default, which nothing can require.
fn lay(command: Command, entry: &Entry, all: &mut Vec<OsString>) -> Command {
    let Some(arg) = find(&command, &entry.key) else { return command };
    let (id, long) = (arg.get_id().clone(), arg.get_long());
    let Some(long) = long else {
        let text = entry.given.texts().join(",");
        // All are visited, as that leaves them in their order, by which they are told apart.
        return command.mut_args(|arg| if *arg.get_id() == id { arg.default_value(text.clone()) } else { arg });
    };
    match &entry.given {
        Given::Flag(true) => all.push(format!("--{long}").into()),
        Given::Flag(false) => {}
        Given::Text(_) | Given::List(_) if !is_append(arg) => {
            all.push(format!("--{long}={}", entry.given.texts().join(",")).into());
        }
        given => all.extend(given.texts().iter().map(|text| format!("--{long}={text}").into())),
    }
    command
}

/// Each value of the file by itself, so that a wrong one is told with its line, also where something stands above it.
fn check_values(command: &Command, file: &SettingsFile) -> Result<(), Failure> {
    let alone = command.clone().mut_args(|arg| arg.env(Resettable::Reset));
    for entry in &file.entries {
        let mut all = vec![OsString::from(command.get_name())];
        let laid = lay(alone.clone(), entry, &mut all);
        if let Err(error) = laid.try_get_matches_from(all)
            && !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict)
        {
            return Err(file.wrong(entry.line, &cli::one_line(&error)));
        }
    }
    Ok(())
}

/// The options that a file can set.
fn options_of(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !NOT_IN_A_FILE.contains(&arg.get_id().as_str()))
}

/// The option of that key, which is written as [`key_of`] does.
fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    options_of(command).find(|arg| key_of(arg) == key)
}

/// What a file calls an option.
fn key_of(arg: &Arg) -> String {
    arg.get_long().map_or_else(|| arg.get_id().as_str().replace('_', "-"), str::to_owned)
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn is_append(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// How an option stands; `line` is where a file sets it, if it comes from there.
fn setting(arg: &Arg, matches: &ArgMatches, line: Option<(PathBuf, usize)>) -> Setting {
    let id = arg.get_id().as_str();
    let mut texts = matches.get_raw(id).into_iter().flatten().map(|text| text.to_string_lossy().into_owned());
    let value = match () {
        () if is_flag(arg) => Some(Given::Flag(matches.get_flag(id))),
        () if is_append(arg) => Some(Given::List(texts.collect())),
        () => texts.next().map(Given::Text),
    };
    let origin = match (line, matches.value_source(id)) {
        (Some((path, line)), _) => Origin::File(path, line),
        (None, Some(ValueSource::EnvVariable)) => {
            Origin::Environment(arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
        }
        (None, Some(ValueSource::CommandLine)) => Origin::Flag,
        (None, _) => Origin::Default,
    };
    Setting { key: key_of(arg), value, origin, is_secret: arg.is_hide_env_values_set() }
}

#[cfg(test)]
mod tests;
