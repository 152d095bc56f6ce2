//! The commands of a server, as it tells them itself: `COMMAND DOCS` of a node has the usage of each, that of Redis a
//! tree of arguments, and what is older has names alone.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Connection, Lost, Value, plain};

/// How long a server has to tell them.
const DOCS_WITHIN: Duration = Duration::from_secs(2);
/// What all of them may take: some twenty times what Redis has.
const DOCS_BYTES_MAX: usize = 8 << 20;
/// More than any command takes. What is longer, or grows to be by what is said again in it, is left out.
const USAGE_BYTES_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Docs(BTreeMap<String, Doc>);

/// What is known of a command, or of one of its subcommands; all of it fit for a terminal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doc {
    pub(super) summary: String,
    /// What follows the name.
    pub(super) arguments: String,
    /// By name, in capitals.
    pub(super) subcommands: BTreeMap<String, Self>,
}

impl Docs {
    /// Asks the server; of one that does not know the question, nothing is known.
    pub(super) fn ask(connection: &mut Connection) -> Result<Self, Lost> {
        let before = connection.limit(DOCS_BYTES_MAX);
        let docs = match connection.ask(&["COMMAND", "DOCS"], DOCS_WITHIN)? {
            Value::Error(_) => {
                let answer = connection.ask(&["COMMAND", "LIST"], DOCS_WITHIN)?;
                let names = answer.items().iter().filter_map(Value::bytes).map(name_of);
                Self(names.map(|name| (name, Doc::default())).collect())
            }
            docs => Self::read(&docs),
        };
        connection.limit(before);
        Ok(docs)
    }

    pub(super) fn read(answer: &Value) -> Self {
        let named = answer.pairs().into_iter().filter_map(|(name, doc)| Some((name_of(name.bytes()?), doc)));
        Self(named.map(|(name, doc)| (name.clone(), read_doc(&name, doc))).collect())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The command of that name, in any case.
    pub(super) fn named(&self, name: &str) -> Option<&Doc> {
        self.0.get(&name.to_ascii_uppercase())
    }
}

fn name_of(name: &[u8]) -> String {
    plain(name).to_ascii_uppercase()
}

fn read_doc(name: &str, doc: &Value) -> Doc {
    let text = |field: &str| doc.field(field).and_then(Value::bytes).map(plain);
    let usage = text("usage").filter(|usage| usage.len() <= USAGE_BYTES_MAX);
    let arguments = match &usage {
        Some(usage) => usage.strip_prefix(name).unwrap_or(usage).trim().to_owned(),
        None => {
            let mut shown = String::new();
            doc.field("arguments").map(Value::items).into_iter().flatten().for_each(|one| {
                push_word(&argument(one), &mut shown);
            });
            if shown.len() > USAGE_BYTES_MAX { "...".to_owned() } else { shown }
        }
    };
    let mut subcommands: BTreeMap<String, Doc> = doc
        .field("subcommands")
        .map(Value::pairs)
        .into_iter()
        .flatten()
        .filter_map(|(name, doc)| {
            // Named COMMAND|SUBCOMMAND.
            let name = name_of(name.bytes()?);
            let name = name.rsplit('|').next()?.to_owned();
            Some((name.clone(), read_doc(&name, doc)))
        })
        .collect();
    if subcommands.is_empty() && usage.is_some() {
        subcommands = of_usage(&arguments);
    }
    Doc { summary: text("summary").unwrap_or_default(), arguments, subcommands }
}

/// The subcommands of a usage that is nothing but alternatives which begin with a word in capitals each, as in
/// `ENCODING key | FREQ key`.
fn of_usage(arguments: &str) -> BTreeMap<String, Doc> {
    let inner = arguments.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(arguments);
    let parts = top_level(inner, '|');
    let read = |part: &str| {
        let (name, rest) = part.split_once(' ').unwrap_or((part, ""));
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        is_name.then(|| (name.to_owned(), Doc { arguments: rest.trim().to_owned(), ..Doc::default() }))
    };
    let read: Option<BTreeMap<String, Doc>> = parts.iter().map(|part| read(part.trim())).collect();
    read.filter(|_| parts.len() > 1).unwrap_or_default()
}

/// The parts of a usage between separators that stand in no brackets.
pub(super) fn top_level(usage: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, letter) in usage.char_indices() {
        match letter {
            '[' | '<' => depth += 1,
            ']' | '>' => depth = depth.saturating_sub(1),
            _ if letter == separator && depth == 0 => {
                parts.push(&usage[from..at]);
                from = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&usage[from..]);
    parts
}

/// One argument of Redis' tree, as its documentation writes it. How deep the tree is the connection has bounded.
fn argument(argument: &Value) -> String {
    let text = |field: &str| argument.field(field).and_then(Value::bytes).map(plain);
    let flags = argument.field("flags").map(Value::items).unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|one| one.bytes() == Some(flag.as_bytes()));
    let children = || argument.field("arguments").map(Value::items).unwrap_or_default().iter().map(self::argument);
    let token = text("token").unwrap_or_default();
    let kind = text("type").unwrap_or_default();
    let inner = match kind.as_str() {
        "pure-token" => String::new(),
        "oneof" => {
            let choices = children().collect::<Vec<_>>().join(" | ");
            if has("optional") && token.is_empty() { choices } else { format!("<{choices}>") }
        }
        "block" => children().collect::<Vec<_>>().join(" "),
        _ => text("display_text").or_else(|| text("name")).unwrap_or_default(),
    };
    let mut shown = String::new();
    [&token, &inner].into_iter().filter(|part| !part.is_empty()).for_each(|part| push_word(part, &mut shown));
    if has("multiple") {
        let again = if has("multiple_token") { shown.clone() } else { inner };
        shown += &format!(" [{again} ...]");
    }
    if shown.len() > USAGE_BYTES_MAX {
        return "...".to_owned();
    }
    if has("optional") { format!("[{shown}]") } else { shown }
}

fn push_word(word: &str, text: &mut String) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Blob(text.into())
    }

    fn map(pairs: Vec<(&str, Value)>) -> Value {
        Value::Map(pairs.into_iter().map(|(name, value)| (text(name), value)).collect())
    }

    #[test]
    fn commands_are_read_of_a_node_and_of_redis() {
        let flags = |flags: &[&str]| Value::Set(flags.iter().map(|flag| Value::Simple((*flag).into())).collect());
        let one = |name: &str, kind: &str| map(vec![("name", text(name)), ("type", text(kind))]);
        let token = |name: &str| map(vec![("type", text("pure-token")), ("token", text(name))]);
        let arguments = Value::Array(vec![
            one("key", "key"),
            map(vec![
                ("type", text("oneof")),
                ("flags", flags(&["optional"])),
                ("arguments", Value::Array(vec![token("NX"), token("XX")])),
            ]),
            map(vec![
                ("name", text("pair")),
                ("type", text("block")),
                ("flags", flags(&["multiple"])),
                ("arguments", Value::Array(vec![one("field", "string"), one("value", "string")])),
            ]),
            map(vec![("name", text("n")), ("type", text("integer")), ("token", text("EX"))]),
        ]);
        let sub = map(vec![("config|get", map(vec![("summary", text("Get \x1b[2J"))]))]);
        let docs = Docs::read(&map(vec![
            ("set", map(vec![("summary", text("Set")), ("arguments", arguments)])),
            ("config", map(vec![("subcommands", sub)])),
            ("get", map(vec![("summary", text("Get")), ("usage", text("GET key"))])),
            ("object", map(vec![("usage", text("OBJECT ENCODING key | FREQ key"))])),
        ]));
        assert_eq!(docs.names().collect::<Vec<_>>(), ["CONFIG", "GET", "OBJECT", "SET"]);
        assert_eq!(docs.named("set").unwrap().arguments, "key [NX | XX] field value [field value ...] EX n");
        assert_eq!(docs.named("GET").unwrap().arguments, "key");
        assert_eq!(docs.named("CONFIG").unwrap().subcommands["GET"].summary, r"Get \x1b[2J");
        assert_eq!(docs.named("OBJECT").unwrap().subcommands["FREQ"].arguments, "key");
    }

    #[test]
    fn anything_a_server_says_is_read_without_harm() {
        for answer in [
            Value::Null,
            text("x"),
            Value::Array(vec![text("get")]),
            map(vec![("get", Value::Null), ("set", map(vec![("arguments", Value::Array(vec![Value::Null]))]))]),
        ] {
            Docs::read(&answer);
        }
    }

    #[test]
    fn what_says_itself_again_and_again_stays_short() {
        let multiple = || Value::Set(vec![text("multiple")]);
        let leaf = map(vec![("name", text(&"x".repeat(100))), ("type", text("string"))]);
        let nested = (0..14).fold(leaf, |inner, _| {
            map(vec![("type", text("block")), ("flags", multiple()), ("arguments", Value::Array(vec![inner]))])
        });
        let docs = Docs::read(&map(vec![("get", map(vec![("arguments", Value::Array(vec![nested]))]))]));
        assert!(docs.named("GET").unwrap().arguments.len() <= USAGE_BYTES_MAX);
    }

    #[test]
    fn alternatives_are_subcommands_only_if_all_begin_in_capitals() {
        let names = |usage: &str| of_usage(usage).into_keys().collect::<Vec<_>>();
        assert_eq!(names("[COUNT | LIST | INFO [command | x ...]]"), ["COUNT", "INFO", "LIST"]);
        assert_eq!(names("key value [EX seconds | PX milliseconds]"), Vec::<String>::new());
        assert_eq!(names("USAGE key [SAMPLES count]"), Vec::<String>::new());
    }
}
