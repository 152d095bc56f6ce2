//! The line that is typed: history, completion and hints.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use kv_core::typed_words;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::super::paint::Paint;
use super::super::print;
use super::docs::{Doc, Docs, top_level};
use super::session::{Session, is_named};

/// Lines that are kept.
const HISTORY_LINES_MAX: usize = 10_000;

pub(super) struct LineEditor {
    editor: Editor<Typist, DefaultHistory>,
    /// Where lines are kept; none if there is no place for them.
    history: Option<PathBuf>,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Typed(String),
    /// By Ctrl-C.
    Left,
    /// Ctrl-D on an empty one.
    End,
}

impl LineEditor {
    pub(super) fn new(paint: Paint) -> Result<Self, ReadlineError> {
        let config = Config::builder()
            .max_history_size(HISTORY_LINES_MAX)?
            .history_ignore_space(true)
            .auto_add_history(false)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Typist { docs: Docs::default(), paint }));
        let history = history_file();
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    /// Asks the server for its commands.
    pub(super) fn learn(&mut self, session: &mut Session) {
        if let (Some(typist), Some(docs)) = (self.editor.helper_mut(), session.docs()) {
            typist.docs = docs;
        }
    }

    pub(super) fn read(&mut self, prompt: &str) -> Result<Line, ReadlineError> {
        match self.editor.readline(prompt) {
            Ok(line) => {
                if may_be_kept(&line) && self.editor.add_history_entry(&line)? {
                    self.keep();
                }
                Ok(Line::Typed(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Left),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error),
        }
    }

    pub(super) fn clear(&mut self) {
        // A terminal that cannot be cleared is none that matters.
        let _ = self.editor.clear_screen();
    }

    /// Explains a command, if the server does not do that itself.
    pub(super) fn helps(&self, words: &[Vec<u8>]) -> bool {
        let Some(docs) = self.editor.helper().map(|typist| &typist.docs) else { return false };
        if docs.named("HELP").is_some() {
            return false;
        }
        let about: Vec<String> = words[1..].iter().map(|word| String::from_utf8_lossy(word).to_uppercase()).collect();
        let known = about.first().and_then(|name| docs.named(name));
        match (known, about.get(1).and_then(|sub| known?.subcommands.get(sub))) {
            (_, Some(sub)) => print(explained(&about[..2].join(" "), sub)),
            (Some(command), None) => print(explained(&about[0], command)),
            (None, _) => {
                let names: Vec<&str> = docs.names().collect();
                print(format!("HELP COMMAND explains one of: {}\n", names.join(" ")));
            }
        }
        true
    }

    /// Appends to the file, which only its owner may read. That it cannot be written hinders nobody.
    fn keep(&mut self) {
        let Some(file) = &self.history else { return };
        if let Some(dir) = file.parent() {
            let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        }
        let _ = self.editor.append_history(file);
    }
}

fn explained(name: &str, doc: &Doc) -> String {
    let mut text = format!("{name} {}\n{}\n", doc.arguments, doc.summary);
    for (sub, doc) in &doc.subcommands {
        text += &format!("  {name} {sub} {}\n", doc.arguments);
    }
    text
}

/// As XDG has it: `$XDG_STATE_HOME`, or `~/.local/state`.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("simple-kv/history"))
}

/// Not what has a password in it, or might have.
fn may_be_kept(line: &str) -> bool {
    // A quote that is not closed is corrected, and sent, later.
    let words = typed_words(line.as_bytes())
        .unwrap_or_else(|_| line.split_whitespace().map(|word| word.trim_matches(['"', '\'']).into()).collect());
    let has =
        |names: &[&str]| words.iter().any(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())));
    let sets = is_named(&words, &["CONFIG"]) && words.len() > 2 && {
        let named = |word: &Vec<u8>| String::from_utf8_lossy(word).to_ascii_lowercase();
        words[2..]
            .iter()
            .map(named)
            .any(|word| ["pass", "auth", "secret", "user"].iter().any(|part| word.contains(part)))
    };
    !(is_named(&words, &["AUTH", "ACL"]) || has(&["AUTH", "AUTH2"]) || sets)
}

/// Completes and hints what is typed.
struct Typist {
    docs: Docs,
    paint: Paint,
}

impl Helper for Typist {}
impl Validator for Typist {}

impl Completer for Typist {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(candidates(&self.docs, &line[..at]))
    }
}

impl Hinter for Typist {
    type Hint = Arguments;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Arguments> {
        let hint = if at == line.len() { hint(&self.docs, line) } else { String::new() };
        (!hint.is_empty()).then_some(Arguments(hint))
    }
}

impl Highlighter for Typist {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(self.paint.faint(hint))
    }
}

/// What may follow; it is shown, and is no text to take over.
struct Arguments(String);

impl Hint for Arguments {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

/// What the last word of `line` may become, and where it begins.
fn candidates(docs: &Docs, line: &str) -> (usize, Vec<String>) {
    let from = line.rfind([' ', '\t']).map_or(0, |at| at + 1);
    let (before, word) = line.split_at(from);
    let before: Vec<&str> = before.split_whitespace().collect();
    let names: Vec<&str> = match before[..] {
        [] => docs.names().collect(),
        [help] if help.eq_ignore_ascii_case("HELP") => docs.names().collect(),
        [command] => {
            docs.named(command).map(|doc| doc.subcommands.keys().map(String::as_str).collect()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let as_typed = |name: &str| match word.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => name.to_ascii_lowercase(),
        false => name.to_owned(),
    };
    let begins =
        |name: &&str| name.len() >= word.len() && name.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes());
    (from, names.into_iter().filter(begins).map(|name| format!("{} ", as_typed(name))).collect())
}

/// The arguments that are missing behind what is typed.
fn hint(docs: &Docs, line: &str) -> String {
    let mut words = line.split_whitespace();
    let Some(command) = words.next().and_then(|name| docs.named(name)) else { return String::new() };
    let mut typed: Vec<&str> = words.collect();
    let sub = typed.first().and_then(|sub| command.subcommands.get(&sub.to_ascii_uppercase()));
    let arguments = match sub {
        Some(sub) => {
            typed.remove(0);
            &sub.arguments
        }
        None => &command.arguments,
    };
    let all: Vec<&str> = top_level(arguments, ' ').into_iter().filter(|part| !part.is_empty()).collect();
    let wanted = all.iter().take_while(|part| !part.starts_with('[')).count();
    let left = &all[typed.len().min(wanted)..];
    if left.is_empty() {
        return String::new();
    }
    let blank = if line.ends_with([' ', '\t']) { "" } else { " " };
    format!("{blank}{}", left.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Value;

    fn docs() -> Docs {
        let text = |text: &str| Value::Blob(text.into());
        let usages = ["SET key value [EX seconds]", "SETEX key seconds value", "GET key", "OBJECT FREQ key | HELP"];
        let doc = |usage: &str| {
            let name = usage.split(' ').next().unwrap().to_lowercase();
            (text(&name), Value::Map(vec![(text("usage"), text(usage))]))
        };
        Docs::read(&Value::Map(usages.iter().map(|usage| doc(usage)).collect()))
    }

    #[test]
    fn names_and_subcommands_are_completed_as_they_are_typed() {
        for (line, from, expected) in [
            ("se", 0, &["set ", "setex "][..]),
            ("SE", 0, &["SET ", "SETEX "]),
            ("object f", 7, &["freq "]),
            ("help G", 5, &["GET "]),
            ("get k", 4, &[]),
            ("x", 0, &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(candidates(&docs(), line), (from, expected), "{line}");
        }
    }

    #[test]
    fn hints_say_what_is_missing() {
        for (line, expected) in [
            ("", ""),
            ("set", " key value [EX seconds]"),
            ("set ", "key value [EX seconds]"),
            ("set k", " value [EX seconds]"),
            ("set k v ", "[EX seconds]"),
            ("set k v EX 5", " [EX seconds]"),
            ("object freq ", "key"),
            ("get k", ""),
            ("none", ""),
        ] {
            assert_eq!(hint(&docs(), line), expected, "{line}");
        }
    }

    #[test]
    fn lines_with_passwords_are_not_kept() {
        for line in [
            "AUTH secret",
            "auth me secret",
            "HELLO 3 AUTH me secret",
            "\"auth\" secret",
            "AUTH \"secret",
            "ACL SETUSER me on >secret",
            "CONFIG SET requirepass secret",
            "CONFIG SET masterauth x",
            "MIGRATE h 1 k 0 9 AUTH secret",
        ] {
            assert!(!may_be_kept(line), "{line}");
        }
        for line in ["GET auth:1", "SET k v", "CONFIG SET maxmemory 1", "CONFIG GET *", ""] {
            assert!(may_be_kept(line), "{line}");
        }
    }
}
