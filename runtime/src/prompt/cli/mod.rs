//! `simple-kv cli`: talks to a node, or to any server that speaks the protocol of Redis.
//!
//! `session` has the connection and gets a new one when it is lost, `show` makes answers text, `docs` knows the
//! commands, as the server tells them, and `editor` is the line that is typed.

mod docs;
mod editor;
mod session;
mod show;

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use kv_core::{WordsError, typed_words};

use self::editor::{Line, LineEditor};
use self::session::{Fault, Session, is_named, subscribes};
use self::show::Format;
use super::paint::ColorOption;
use super::print;
use crate::cli::parse_host_port;
use crate::client::{LoginOptions, Value, plain};
use crate::failure::Failure;
use crate::tls::client::ClientTlsOptions;

const DEFAULT_SERVER: &str = "localhost:8080";
/// An answer that took longer is told how long.
const SLOW: Duration = Duration::from_millis(500);

pub(crate) const ABOUT: &str = "\
Without a COMMAND, on a terminal: a prompt with a history (in the directory for state of XDG; lines with
passwords, and lines that begin with a space, are left out), completion by Tab, and hints. Ctrl-C leaves a
line, ends what is waited for, and ends SUBSCRIBE; Ctrl-D leaves. A connection that is lost is made anew
for the next command, and you are told.

Otherwise commands are read from stdin, one a line, with quotes as at the prompt. What answers them is
printed as it is if stdout is no terminal, and errors on stderr.

The password is taken from SIMPLE_KV_CLI_PASSWORD, or asked for with --user or --ask-password.

Exit codes: 0 all was answered, 1 something was answered by an error, or not at all, 2 wrong usage.

Examples:
  simple-kv cli                                   a prompt, on localhost:8080
  simple-kv cli localhost:6379                    of a redis-server
  simple-kv cli GET greeting                      one command
  simple-kv cli db1:8080 --json HGETALL user:1    for a program
  simple-kv cli --tls --tls-ca ca.pem db1:8080    by TLS
  seq -f 'SET key:%g x' 1000 | simple-kv cli      many";

#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct CliOptions {
    /// The server [default: localhost:8080]
    #[arg(value_name = "HOST:PORT")]
    server: Option<OsString>,

    /// What to ask it; without it, commands are asked for
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    /// Database to use
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 0)]
    db: u32,

    /// Print values as they are, also on a terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    /// Print each answer as a line of JSON; what is no text is {"base64": "..."}
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    login: LoginOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,

    #[command(flatten)]
    color: ColorOption,
}

/// Asks what is to be asked.
pub(crate) fn run(options: &CliOptions) -> Result<(), Failure> {
    let (server, command) = server_and_command(options)?;
    let format = match () {
        () if options.json => Format::Json,
        () if options.raw || !io::stdout().is_terminal() => Format::Raw,
        () => Format::Pretty,
    };
    let is_prompt = command.is_empty() && io::stdin().is_terminal();
    let tls = options.tls.load()?;
    let login = options.login.login()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let mut session = Session::connect((&server, tls), login, options.db, Arc::clone(&interrupted))
        .map_err(|fault| failed(&server, fault))?;
    if is_prompt {
        // At the prompt Ctrl-C ends what is waited for; elsewhere it ends the process, as people expect.
        signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted)
            .map_err(|error| Failure::System("wait for signals", error))?;
    }
    match () {
        () if is_prompt => prompt(&mut session, format, options.color),
        () if command.is_empty() => script(&mut session, format),
        () => one(&mut session, format, &command),
    }
}

fn failed(server: &str, fault: Fault) -> Failure {
    match fault {
        Fault::Connect(error) => Failure::Connect(server.to_owned(), error),
        Fault::Lost(lost) => Failure::Server(server.to_owned(), lost.to_string()),
    }
}

/// The first word is a server if it has a colon, which no command has.
fn server_and_command(options: &CliOptions) -> Result<(String, Vec<Vec<u8>>), Failure> {
    let mut command: Vec<Vec<u8>> = options.command.iter().map(|word| word.clone().into_vec()).collect();
    let Some(first) = &options.server else { return Ok((DEFAULT_SERVER.to_owned(), command)) };
    match first.to_str() {
        Some(server) if server.contains(':') => {
            let server = parse_host_port(server).map_err(Failure::Usage)?;
            Ok((server, command))
        }
        _ => {
            command.insert(0, first.clone().into_vec());
            Ok((DEFAULT_SERVER.to_owned(), command))
        }
    }
}

fn one(session: &mut Session, format: Format, words: &[Vec<u8>]) -> Result<(), Failure> {
    well_if(ask(session, format, words)?)
}

/// Runs what stdin has, line by line. An error is told, and the next line goes on.
fn script(session: &mut Session, format: Format) -> Result<(), Failure> {
    let mut stdin = io::stdin().lock();
    let (mut line, mut is_well) = (Vec::new(), true);
    loop {
        line.clear();
        if stdin.read_until(b'\n', &mut line).map_err(|error| Failure::System("read stdin", error))? == 0 {
            return well_if(is_well);
        }
        match typed_words(line.trim_ascii_end()) {
            Ok(words) if words.is_empty() => {}
            Ok(words) if is_named(&words, &["QUIT", "EXIT"]) => return well_if(is_well),
            Ok(words) => is_well &= ask(session, format, &words)?,
            Err(error) => {
                complain(wrong_words(error));
                is_well = false;
            }
        }
    }
}

/// Errors stand on stderr already.
fn well_if(is_well: bool) -> Result<(), Failure> {
    if is_well { Ok(()) } else { Err(Failure::Shown) }
}

/// Asks, and prints the answer; false if that was an error.
fn ask(session: &mut Session, format: Format, words: &[Vec<u8>]) -> Result<bool, Failure> {
    let answer = session.ask(words).map_err(|fault| failed(session.server(), fault))?;
    let is_well = tell(format, words, &answer);
    if subscribes(words, &answer) {
        loop {
            let said = session.next().map_err(|fault| failed(session.server(), fault))?;
            tell(format, words, &said);
        }
    }
    Ok(is_well)
}

/// Prints an answer; false if it is an error.
fn tell(format: Format, words: &[Vec<u8>], answer: &Value) -> bool {
    match answer {
        Value::Error(text) if format == Format::Raw => complain(&format!("(error) {}", plain(text))),
        _ => print(format.show(words, answer)),
    }
    answer.error().is_none()
}

fn complain(text: &str) {
    // Nobody left to read it is no failure.
    let _ = io::Write::write_all(&mut io::stderr(), format!("{text}\n").as_bytes());
}

const fn wrong_words(error: WordsError) -> &'static str {
    match error {
        WordsError::Unclosed => "(error) a quote is not closed; nothing was asked",
        WordsError::Glued => "(error) a space must follow a closing quote; nothing was asked",
        WordsError::TooMany => "(error) a line has at most 4096 words; nothing was asked",
    }
}

/// Asks what is typed, until whoever types it leaves.
fn prompt(session: &mut Session, format: Format, color: ColorOption) -> Result<(), Failure> {
    let mut editor =
        LineEditor::new(color.paint()).map_err(|error| Failure::System("use the terminal", io::Error::other(error)))?;
    if session.is_locked() {
        complain("The server wants to be told who you are: AUTH [user] password");
    } else {
        editor.learn(session);
    }
    loop {
        let line = match editor.read(&session.prompt()) {
            Ok(Line::Typed(line)) => line,
            Ok(Line::Left) => continue,
            Ok(Line::End) => return Ok(()),
            Err(error) => return Err(Failure::System("read from the terminal", io::Error::other(error))),
        };
        let words = match typed_words(line.as_bytes()) {
            Ok(words) => words,
            Err(error) => {
                complain(wrong_words(error));
                continue;
            }
        };
        match () {
            () if words.is_empty() => {}
            () if is_named(&words, &["QUIT", "EXIT"]) => return Ok(()),
            () if is_named(&words, &["CLEAR"]) && words.len() == 1 => editor.clear(),
            () if is_named(&words, &["MONITOR", "SYNC", "PSYNC"]) => {
                complain("(error) what this streams is not shown here; use redis-cli");
            }
            () if is_named(&words, &["HELP"]) && editor.helps(&words) => {}
            () => {
                let was_locked = session.is_locked();
                prompted(session, format, &words);
                if was_locked && !session.is_locked() {
                    editor.learn(session);
                }
            }
        }
    }
}

/// Asks what was typed, and says what came of it.
fn prompted(session: &mut Session, format: Format, words: &[Vec<u8>]) {
    session.begin();
    let begin = Instant::now();
    let answer = match session.ask(words) {
        Ok(answer) => answer,
        Err(fault) => return complain(&session.explain(&fault)),
    };
    let took = begin.elapsed();
    tell(format, words, &answer);
    if subscribes(words, &answer) {
        complain("Listening. Ctrl-C ends it.");
        loop {
            match session.next() {
                Ok(said) => drop(tell(format, words, &said)),
                Err(fault) if fault.is_interrupt() => {
                    session.leave();
                    return complain("\nNot listening any more.");
                }
                Err(fault) => return complain(&session.explain(&fault)),
            }
        }
    }
    if took >= SLOW && format == Format::Pretty {
        complain(&format!("({:.2} s)", took.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        options: CliOptions,
    }

    #[test]
    fn a_server_has_a_colon_and_a_command_has_none() {
        for (arguments, server, command) in [
            (&[][..], "localhost:8080", &[][..]),
            (&["h:1"], "h:1", &[]),
            (&["h:1", "--raw", "GET", "-1"], "h:1", &["GET", "-1"]),
            (&["GET", "a:1"], "localhost:8080", &["GET", "a:1"]),
            (&["-n", "3", "SET", "k", "-5"], "localhost:8080", &["SET", "k", "-5"]),
        ] {
            let all = std::iter::once("cli").chain(arguments.iter().copied());
            let options = Whole::try_parse_from(all).unwrap().options;
            let words: Vec<Vec<u8>> = command.iter().map(|word: &&str| word.as_bytes().to_vec()).collect();
            assert_eq!(server_and_command(&options).unwrap(), (server.to_owned(), words), "{arguments:?}");
        }
        let wrong = Whole::try_parse_from(["cli", "h:x", "GET"]).unwrap().options;
        assert!(matches!(server_and_command(&wrong), Err(Failure::Usage(_))));
    }
}
