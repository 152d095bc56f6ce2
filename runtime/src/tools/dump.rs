//! `simple-kv dump`: what stands in a data directory, a line each.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use kv_core::{Count, Counter, FileId, Framed, Item, Record, Says, Version, WallMs, shown_name};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::tools::source;

/// Prints what `dir` holds in the order in which a node reads it.
pub(super) fn dump(dir: &Path, json: bool) -> Result<(), Failure> {
    let sources = source::used(source::open(dir)?);
    let mut out = BufWriter::new(io::stdout().lock());
    let bar = indicatif::ProgressBar::hidden();
    let mut damaged = source::missing(&sources).len();
    let mut print = |file: FileId, item: Item<'_>| -> Result<(), Failure> {
        let line = if json { in_json(file, &item).map(|value| value.to_string()) } else { in_words(file, &item) };
        let written = line.map_or(Ok(()), |line| writeln!(out, "{line}"));
        // Nobody left to read it, as in `dump DIR | head`, is no failure.
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Told,
            _ => Failure::System("write to stdout", error),
        })
    };
    for source in &sources {
        source.scan(
            &bar,
            |_| Ok(()),
            |item| {
                let is_damage = matches!(item, Item::Damage { .. } | Item::NoFile | Item::Newer(_));
                damaged += usize::from(is_damage || matches!(item, Item::Torn { .. }) && !source.may_be_torn());
                print(source.file, item)
            },
        )?;
    }
    out.flush().map_err(|error| Failure::System("write to stdout", error))?;
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::Damaged(format!("{} is damaged in {damaged} places", dir.display()))),
    }
}

fn in_words(file: FileId, item: &Item<'_>) -> Option<String> {
    Some(match item {
        Item::Frame { says: Says::Record(framed), .. } => format!("{file}  {}", record_in_words(&framed.record)),
        Item::Frame { says: Says::Replaced(key, None), .. } => {
            format!("{file}  drop \"{}\"", shown_name(key).escape_ascii())
        }
        Item::Frame { says: Says::Replaced(_, Some(record)), .. } => {
            format!("{file}  put back: {}", record_in_words(record))
        }
        Item::Damage { at, bytes } => format!("{file}  damaged at byte {at}: {bytes} bytes"),
        Item::Torn { at, bytes } => format!("{file}  cut at byte {at}: {bytes} bytes are left out"),
        Item::NoFile => format!("{file}  no file of a node"),
        Item::Newer(format) => format!("{file}  format {format}, of a newer build"),
        Item::Header { .. } | Item::Frame { .. } | Item::Wanted | Item::End => return None,
    })
}

fn record_in_words(record: &Record<'_>) -> String {
    let Version { hlc, origin } = record.version;
    let key = shown_name(record.key);
    let key = key.escape_ascii();
    let mut line = match (record.value, count(record)) {
        (None, _) => format!("delete \"{key}\""),
        (Some(_), Some(count)) => format!("count \"{key}\" {count}"),
        (Some(value), None) => format!("set \"{key}\" \"{}\"", value.escape_ascii()),
    };
    line += &format!("  at {hlc} by {origin}");
    if let Some(deadline) = record.deadline {
        line += &format!(" until {deadline}");
    }
    line
}

/// What a counter stood at, its deadline aside.
fn count(record: &Record<'_>) -> Option<i128> {
    if !record.is_counter {
        return None;
    }
    match Counter::of(record).count_at(WallMs(0)) {
        Count::Number(number) => Some(number),
        Count::Absent | Count::NoNumber => None,
    }
}

fn in_json(file: FileId, item: &Item<'_>) -> Option<Value> {
    let mut line = match item {
        Item::Frame { says: Says::Record(framed), .. } => record_in_json("record", framed),
        Item::Frame { says: Says::Replaced(key, None), .. } => {
            let mut line = told("dropped");
            put_bytes(&mut line, "key", key);
            line
        }
        Item::Frame { says: Says::Replaced(_, Some(record)), .. } => {
            let framed = Framed { stamp: record.version, prev: None, seen: kv_core::Hlc(0), record: *record };
            record_in_json("replaced", &framed)
        }
        Item::Damage { at, bytes } => place_in_json("damage", *at, *bytes),
        Item::Torn { at, bytes } => place_in_json("torn", *at, *bytes),
        Item::NoFile => told("no_file"),
        Item::Newer(format) => {
            let mut line = told("newer");
            line.insert("format".to_owned(), json!(format));
            line
        }
        Item::Header { .. } | Item::Frame { .. } | Item::Wanted | Item::End => return None,
    };
    line.insert("file".to_owned(), json!(file.to_string()));
    Some(Value::Object(line))
}

fn told(what: &str) -> Map<String, Value> {
    Map::from_iter([("what".to_owned(), json!(what))])
}

fn place_in_json(what: &str, at: u64, bytes: u64) -> Map<String, Value> {
    let mut line = told(what);
    line.insert("at".to_owned(), json!(at));
    line.insert("bytes".to_owned(), json!(bytes));
    line
}

fn record_in_json(what: &str, framed: &Framed<'_>) -> Map<String, Value> {
    let record = &framed.record;
    let mut line = told(what);
    put_bytes(&mut line, "key", record.key);
    match (record.value, count(record)) {
        (None, _) => _ = line.insert("value".to_owned(), Value::Null),
        // As text: JSON readers make floating point of long numbers.
        (Some(_), Some(count)) => _ = line.insert("count".to_owned(), json!(count.to_string())),
        (Some(value), None) => put_bytes(&mut line, "value", value),
    }
    if let Some(deadline) = record.deadline {
        line.insert("deadline_ms".to_owned(), json!(deadline.0));
    }
    line.insert("hlc".to_owned(), json!(record.version.hlc.to_string()));
    line.insert("origin".to_owned(), json!(record.version.origin.to_string()));
    line
}

/// Text as text; other bytes in hexadecimal, under a name that says so.
fn put_bytes(line: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => _ = line.insert(name.to_owned(), json!(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            line.insert(format!("{name}_hex"), json!(hex));
        }
    }
}
