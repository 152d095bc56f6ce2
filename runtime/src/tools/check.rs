//! `simple-kv check`: every file, every checksum.

use std::io::{self, Write};
use std::path::Path;

use indicatif::HumanBytes;
use kv_core::{FileKind, Item, Says};

use crate::failure::Failure;
use crate::tools::source::{self, Source};

/// What a file was found to hold.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    tombstones: u64,
    /// What to tell of it besides, a line each.
    lines: Vec<String>,
    damaged_places: u64,
    damaged_bytes: u64,
    /// A snapshot has its end.
    ended: bool,
}

/// Reads all of the directory and prints what is there; a failure if anything of it is damaged.
pub(super) fn check(dir: &Path) -> Result<(), Failure> {
    let sources = source::open(dir)?;
    let bar = source::bar("checking", &sources);
    let (mut sum, mut bytes) = (Found::default(), 0);
    let mut report = String::new();
    for source in &sources {
        let found = check_file(source, &bar)?;
        let Found { records, tombstones, .. } = found;
        report += &format!(
            "{}  {}, {records} records, {tombstones} of them tombstones\n",
            source.file,
            HumanBytes(source.bytes)
        );
        found.lines.iter().for_each(|line| report += &format!("  {line}\n"));
        sum.add(&found);
        bytes += source.bytes;
    }
    bar.finish_and_clear();
    for file in source::missing(&sources) {
        report += &format!("{file}  missing, and later ones are there\n");
        sum.damaged_places += 1;
    }
    let Found { records, tombstones, damaged_places, damaged_bytes, .. } = sum;
    report += &format!(
        "{} files, {}, {records} records, {tombstones} of them tombstones, {damaged_places} damaged places ({})\n",
        sources.len(),
        HumanBytes(bytes),
        HumanBytes(damaged_bytes)
    );
    // Nobody left to read it is no failure.
    let _ = io::stdout().write_all(report.as_bytes());
    match damaged_places {
        0 => Ok(()),
        _ => Err(Failure::Damaged(format!(
            "{} is damaged; its node starts with what is whole, and gets the rest from its peers if it has any",
            dir.display()
        ))),
    }
}

fn check_file(source: &Source, bar: &indicatif::ProgressBar) -> Result<Found, Failure> {
    let mut found = Found::default();
    let nothing_raw = |_: &[u8]| Ok(());
    source.scan(bar, nothing_raw, |item| {
        match item {
            Item::Frame { says, .. } => found.take(&says),
            Item::Header { is_whole, .. } if !is_whole => found.damage(0, 0, "one copy of its header is"),
            Item::Damage { at, bytes } => found.damage(at, bytes, "nothing that a node has written:"),
            Item::Torn { at, bytes } if source.may_be_torn() => {
                found.lines.push(format!("cut at byte {at}, as a crash leaves it: {bytes} bytes are left out"));
            }
            Item::Torn { at, bytes } => found.damage(at, bytes, "cut off:"),
            Item::NoFile => found.damage(0, source.bytes, "no file of a node:"),
            Item::Newer(format) => found.damage(0, source.bytes, &format!("format {format}, of a newer build:")),
            Item::Header { .. } | Item::Wanted | Item::End => {}
        }
        Ok(())
    })?;
    if source.missing_bytes > 0 {
        found.damage(source.bytes, source.missing_bytes, "cut off, says the next one:");
    }
    if source.counted_bytes < source.bytes {
        let (at, bytes) = (source.counted_bytes, source.bytes - source.counted_bytes);
        found.lines.push(format!("counts up to byte {at}: {bytes} bytes behind it were cut off by a crash"));
    }
    if source.file.kind == FileKind::Snapshot && !found.ended && found.damaged_places == 0 {
        found.damage(source.bytes, 0, "its end is missing:");
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, says: &Says<'_>) {
        match says {
            Says::Record(framed) => {
                self.records += 1;
                self.tombstones += u64::from(framed.record.value.is_none());
            }
            Says::Replaced(_, record) => {
                self.records += 1;
                self.tombstones += u64::from(record.is_none_or(|record| record.value.is_none()));
            }
            Says::End => self.ended = true,
            Says::Standing => {}
        }
    }

    fn damage(&mut self, at: u64, bytes: u64, what: &str) {
        self.lines.push(format!("damaged at byte {at}: {what} {bytes} bytes"));
        self.damaged_places += 1;
        self.damaged_bytes += bytes;
    }

    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.tombstones += other.tombstones;
        self.damaged_places += other.damaged_places;
        self.damaged_bytes += other.damaged_bytes;
    }
}
