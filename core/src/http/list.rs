//! The keys that begin alike, a page at a time.

use super::Desk;
use super::response::{Fault, JSON, Response};
use super::text::{self, Text};
use crate::command::{Command, Scan};
use crate::commands::Verb;
use crate::json::Json;
use crate::wire::packed::{Packed, parse};

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) prefix: Vec<u8>,
    /// Keys to look at in one step of the walk; so the most that a page has.
    pub(super) limit: u64,
    pub(super) cursor: u64,
}

pub(super) const LIMIT: u64 = 100;
pub(super) const LIMIT_MAX: u64 = 1_000;

/// Longest prefix: as a pattern it may be twice as long.
pub(super) const PREFIX_BYTES_MAX: usize = 512;

/// Keys that are looked at for one page before it is sent as it is: some milliseconds.
const LOOKED_AT_MAX: u64 = 10_000;

/// A step takes about as long as to look at so many keys, however few it looks at.
const STEP_KEYS: u64 = 100;

pub(super) fn list(page: &Page, desk: &mut Desk<'_, '_, '_>, response: &mut Response<'_>) {
    match page.collect(desk) {
        Ok(text) => response.send(200, &[("Cache-Control", "no-cache")], JSON, text.as_bytes()),
        Err(fault) => response.fail(&fault),
    }
}

impl Page {
    fn collect(&self, desk: &mut Desk<'_, '_, '_>) -> Result<String, Fault> {
        let (pattern, mut cursor, mut looked_at) = (self.pattern(), self.cursor, 0);
        let mut text = String::new();
        let mut json = Json::new(&mut text);
        json.open('{');
        json.key("keys");
        json.open('[');
        loop {
            let scan = Scan { cursor, pattern: Some(&pattern), count: self.limit, kind: None, has_values: false };
            desk.ask(Verb::Scan, &Command::Scan(scan))?;
            let mut found = false;
            (cursor, found) = read(desk.packed, |key| {
                found = true;
                json.item();
                json.open('{');
                Text::of(key).put("key", &mut json);
                json.close('}');
            })
            .map_or((0, found), |cursor| (cursor, found));
            looked_at += self.limit.max(STEP_KEYS);
            if cursor == 0 || found || looked_at >= LOOKED_AT_MAX {
                break;
            }
        }
        json.close(']');
        json.string_or_null("cursor", (cursor > 0).then_some(itoa::Buffer::new().format(cursor)));
        json.close('}');
        text.push('\n');
        Ok(text)
    }

    /// What `SCAN` takes for the prefix.
    fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(2 * self.prefix.len() + 1);
        for byte in &self.prefix {
            if b"*?[]\\".contains(byte) {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        pattern.push(b'*');
        pattern
    }
}

/// Gives the keys that `SCAN` answered to `take`; where it goes on.
fn read(mut packed: &[u8], mut take: impl FnMut(&[u8])) -> Option<u64> {
    let mut cursor = None;
    while let Some((one, rest)) = parse(packed) {
        packed = rest;
        match (one, cursor) {
            (Packed::Value(digits), None) => cursor = Some(text::number(digits)?),
            (Packed::Value(key), Some(_)) => take(key),
            _ => {}
        }
    }
    cursor
}
