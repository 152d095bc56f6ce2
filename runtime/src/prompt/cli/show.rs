//! Answers as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::session::is_named;
use crate::client::{Value, json_line, plain, quoted};

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people: kinds are told apart, and no byte of a value moves the terminal.
    Pretty,
    /// As it is.
    Raw,
    /// A line of JSON.
    Json,
}

/// Commands whose answer is a text of lines.
const TEXTS: [&str; 8] = ["INFO", "STATS", "PEERS", "HELP", "WHY", "CONFLICTS", "TOKEN", "LOLWUT"];

impl Format {
    /// The answer to `words`, with the end of its last line.
    pub(super) fn show(self, words: &[Vec<u8>], answer: &Value) -> Vec<u8> {
        match self {
            Self::Raw => {
                let mut out = Vec::new();
                raw(answer, &mut out);
                out.push(b'\n');
                out
            }
            Self::Json => json_line(&json(answer)).into_bytes(),
            Self::Pretty => match answer {
                Value::Verbatim(text) => lines(text),
                Value::Blob(text) if is_text(words) => lines(text),
                _ => {
                    let mut out = String::new();
                    pretty(answer, 0, &mut out);
                    out.push('\n');
                    out
                }
            }
            .into_bytes(),
        }
    }
}

fn is_text(words: &[Vec<u8>]) -> bool {
    let sub = words.get(1);
    is_named(words, &TEXTS)
        || is_named(words, &["CLIENT"]) && sub.is_some_and(|sub| !sub.eq_ignore_ascii_case(b"GETNAME"))
}

/// Lines as lines, with what else could move a terminal escaped.
fn lines(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let shown = text.split(|byte| *byte == b'\n').map(|line| plain(line.strip_suffix(b"\r").unwrap_or(line)));
    shown.map(|line| line + "\n").collect()
}

/// As `redis-cli` shows it, without the end of the last line. Lines of lists within lists are `indent` further in.
fn pretty(answer: &Value, indent: usize, out: &mut String) {
    match answer {
        Value::Null => out.push_str("(nil)"),
        Value::Simple(text) => out.push_str(&plain(text)),
        Value::Error(text) => *out += &format!("(error) {}", plain(text)),
        Value::Integer(number) => *out += &format!("(integer) {number}"),
        Value::Boolean(is_so) => *out += &format!("({is_so})"),
        Value::Double(text) => *out += &format!("(double) {}", plain(text)),
        Value::BigNumber(text) => *out += &format!("(big number) {}", plain(text)),
        Value::Blob(bytes) | Value::Verbatim(bytes) => *out += &quoted(bytes),
        Value::Array(items) => list(items, ')', "(empty array)", indent, out),
        Value::Push(items) => list(items, ')', "(empty push)", indent, out),
        Value::Set(items) => list(items, '~', "(empty set)", indent, out),
        Value::Map(pairs) if pairs.is_empty() => out.push_str("(empty hash)"),
        Value::Map(pairs) => {
            let width = pairs.len().to_string().len();
            for (at, (name, value)) in pairs.iter().enumerate() {
                begin(at, width, '#', indent, out);
                pretty(name, indent + width + 2, out);
                out.push_str(" => ");
                // What has lines of its own begins on one.
                if value.items().len() > 1 || matches!(value, Value::Map(pairs) if pairs.len() > 1) {
                    *out += &format!("\n{}", " ".repeat(indent + width + 2));
                }
                pretty(value, indent + width + 2, out);
            }
        }
    }
}

fn list(items: &[Value], mark: char, empty: &str, indent: usize, out: &mut String) {
    if items.is_empty() {
        out.push_str(empty);
    }
    let width = items.len().to_string().len();
    for (at, item) in items.iter().enumerate() {
        begin(at, width, mark, indent, out);
        pretty(item, indent + width + 2, out);
    }
}

/// The number of an item, on a line of its own but for the first.
fn begin(at: usize, width: usize, mark: char, indent: usize, out: &mut String) {
    if at > 0 {
        *out += &format!("\n{}", " ".repeat(indent));
    }
    *out += &format!("{:>width$}{mark} ", at + 1);
}

/// As it is, each item of a list on a line.
fn raw(answer: &Value, out: &mut Vec<u8>) {
    match answer {
        Value::Null => {}
        Value::Simple(bytes) | Value::Error(bytes) | Value::Double(bytes) => out.extend_from_slice(bytes),
        Value::BigNumber(bytes) | Value::Blob(bytes) | Value::Verbatim(bytes) => out.extend_from_slice(bytes),
        Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Boolean(is_so) => out.extend_from_slice(is_so.to_string().as_bytes()),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            for (at, item) in items.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b"\n" } else { b"" });
                raw(item, out);
            }
        }
        Value::Map(pairs) => {
            for (at, (name, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b"\n" } else { b"" });
                raw(name, out);
                out.push(b'\n');
                raw(value, out);
            }
        }
    }
}

fn json(answer: &Value) -> serde_json::Value {
    match answer {
        Value::Null => serde_json::Value::Null,
        Value::Simple(bytes) | Value::BigNumber(bytes) | Value::Blob(bytes) | Value::Verbatim(bytes) => {
            match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
            }
        }
        Value::Error(text) => json!({ "error": String::from_utf8_lossy(text) }),
        Value::Integer(number) => (*number).into(),
        Value::Boolean(is_so) => (*is_so).into(),
        Value::Double(text) => {
            let text = String::from_utf8_lossy(text);
            text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map_or_else(|| text.into(), Into::into)
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => items.iter().map(json).collect(),
        Value::Map(pairs) => {
            let name = |name: &Value| match name.bytes().map(std::str::from_utf8) {
                Some(Ok(text)) => text.to_owned(),
                Some(Err(_)) => quoted(name.bytes().unwrap_or_default()),
                None => json(name).to_string(),
            };
            serde_json::Value::Object(pairs.iter().map(|(key, value)| (name(key), json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, command: &str, answer: &Value) -> String {
        let words: Vec<Vec<u8>> = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        String::from_utf8(format.show(&words, answer)).unwrap()
    }

    fn blob(text: &str) -> Value {
        Value::Blob(text.into())
    }

    #[test]
    fn people_see_kinds_and_no_escapes() {
        let nested = Value::Array(vec![blob("a"), Value::Array(vec![Value::Integer(1), Value::Null]), blob("c")]);
        let map = Value::Map(vec![(blob("f"), blob("v")), (blob("g"), Value::Set(vec![blob("x"), blob("y")]))]);
        for (answer, text) in [
            (blob("a\x1b[31m\n\"é"), r#""a\x1b[31m\n\"\xc3\xa9""#),
            (Value::Simple(b"OK".to_vec()), "OK"),
            (Value::Simple(b"\x1b]0;title\x07".to_vec()), r"\x1b]0;title\x07"),
            (Value::Error(b"ERR \x1b[2J".to_vec()), r"(error) ERR \x1b[2J"),
            (Value::Integer(-5), "(integer) -5"),
            (Value::Double(b"1.5".to_vec()), "(double) 1.5"),
            (Value::Boolean(true), "(true)"),
            (Value::Null, "(nil)"),
            (Value::Array(Vec::new()), "(empty array)"),
            (nested, "1) \"a\"\n2) 1) (integer) 1\n   2) (nil)\n3) \"c\""),
            (map, "1# \"f\" => \"v\"\n2# \"g\" => \n   1~ \"x\"\n   2~ \"y\""),
            (Value::Array((0..10).map(Value::Integer).collect::<Vec<_>>()[..].to_vec()), " 1) (integer) 0"),
        ] {
            assert!(shown(Format::Pretty, "GET k", &answer).starts_with(text), "{answer:?}");
        }
        assert_eq!(shown(Format::Pretty, "INFO", &blob("# A\r\nb:\x1b[0m\r\n")), "# A\nb:\\x1b[0m\n");
        assert_eq!(shown(Format::Pretty, "x", &Value::Verbatim(b"a\x07\nb".to_vec())), "a\\x07\nb\n");
    }

    #[test]
    fn programs_get_bytes_or_json() {
        let list = Value::Array(vec![blob("a"), Value::Integer(1), Value::Null]);
        assert_eq!(shown(Format::Raw, "x", &list), "a\n1\n\n");
        assert_eq!(Format::Raw.show(&[], &Value::Blob(b"\x1b\xff".to_vec())), b"\x1b\xff\n");
        let map = Value::Map(vec![(blob("f"), Value::Blob(vec![0xff])), (blob("n"), Value::Double(b"1.5".to_vec()))]);
        assert_eq!(shown(Format::Json, "x", &map), "{\"f\":{\"base64\":\"/w==\"},\"n\":1.5}\n");
        assert_eq!(shown(Format::Json, "x", &list), "[\"a\",1,null]\n");
        assert_eq!(shown(Format::Json, "x", &Value::Error(b"ERR no".to_vec())), "{\"error\":\"ERR no\"}\n");
        assert_eq!(shown(Format::Json, "x", &Value::Double(b"inf".to_vec())), "\"inf\"\n");
    }
}
