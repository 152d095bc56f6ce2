//! Bytes in JSON: as a string if they are text, and else in base64 under another name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::Json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Plain(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Text<'a> {
    /// Text with other control characters than those of lines takes six times its length in JSON: that is none.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let is_plain = |text: &&str| !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
        std::str::from_utf8(bytes).ok().filter(is_plain).map_or(Self::Bytes(bytes), Self::Plain)
    }

    /// Appends it under `name`, or under `name` with `_base64` behind it.
    pub(super) fn put(self, name: &str, json: &mut Json<'_>) {
        match self {
            Self::Plain(text) => json.string(name, text),
            Self::Bytes(bytes) => json.string(&format!("{name}_base64"), &STANDARD.encode(bytes)),
        }
    }
}

/// What `put` put; none if both are there, or neither, or it is no base64.
pub(super) fn taken(plain: Option<String>, base64: Option<String>) -> Option<Vec<u8>> {
    match (plain, base64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(text)) => STANDARD.decode(text).ok(),
        _ => None,
    }
}

/// A number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?;
    text.parse().ok()
}
