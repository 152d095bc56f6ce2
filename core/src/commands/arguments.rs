//! Arguments that commands have in common.

use super::Verb;
use crate::command::{Bounded, EXPIRES_IN_MS_MAX, Expires, Reply, Scan};
use crate::config::Limits;
use crate::counter;
use crate::name::SPACES;
use crate::store::ELEMENT_BYTES_MAX;
use crate::time::WallMs;
use crate::wire::words::Words;

/// No words.
pub(super) fn nothing<'a>(verb: Verb, mut words: Words<'a>) -> Result<(), Reply<'a>> {
    if words.next().is_some() { Err(Reply::Usage { verb, hint: false }) } else { Ok(()) }
}

/// One key and nothing else.
pub(super) fn only_key<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<&'a [u8], Reply<'a>> {
    let [key] = exactly(verb, words)?;
    check_key(key, limits)?;
    Ok(key)
}

/// At least one key, and nothing else.
pub(super) fn keys<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<Words<'a>, Reply<'a>> {
    if words.into_iter().next().is_none() {
        return Err(Reply::Usage { verb, hint: false });
    }
    // All of them before anything is done with the first.
    words.into_iter().try_for_each(|key| check_key(key, limits))?;
    Ok(words)
}

/// At least one pair of a key and a value, and nothing else.
pub(super) fn pairs<'a>(verb: Verb, words: Words<'a>, limits: &Limits) -> Result<Words<'a>, Reply<'a>> {
    let mut rest = words;
    let mut count = 0;
    while let Some(key) = rest.next() {
        let value = rest.next().ok_or(Reply::Usage { verb, hint: false })?;
        check_key(key, limits)?;
        check_value(value, limits)?;
        count += 1;
    }
    if count == 0 { Err(Reply::Usage { verb, hint: false }) } else { Ok(words) }
}

/// So many words, and no more.
pub(super) fn exactly<'a, const N: usize>(verb: Verb, mut words: Words<'a>) -> Result<[&'a [u8]; N], Reply<'a>> {
    let mut taken = [&[][..]; N];
    for word in &mut taken {
        *word = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    }
    nothing(verb, words)?;
    Ok(taken)
}

pub(super) fn check_key<'a>(key: &[u8], limits: &Limits) -> Result<(), Reply<'a>> {
    check_length(Bounded::Key, key.len(), limits.key_bytes_max)
}

pub(super) fn check_value<'a>(value: &[u8], limits: &Limits) -> Result<(), Reply<'a>> {
    check_length(Bounded::Value, value.len(), limits.value_bytes_max)
}

/// Longest pattern: what it takes to try one is the product of its length and that of a key, and everybody waits.
const PATTERN_BYTES_MAX: usize = 1 << 10;

pub(super) fn check_pattern<'a>(pattern: &[u8]) -> Result<(), Reply<'a>> {
    check_length(Bounded::Pattern, pattern.len(), PATTERN_BYTES_MAX)
}

/// A field or a member of a key.
pub(super) fn check_element<'a>(key: &[u8], element: &[u8]) -> Result<(), Reply<'a>> {
    check_length(Bounded::Element, key.len() + element.len(), ELEMENT_BYTES_MAX)
}

/// Keys that a step of `SCAN` looks at if nobody says how many, and at the most.
const SCAN_COUNT: (u64, u64) = (10, 10_000);

/// A cursor, and what follows it.
pub(super) fn scan_options<'a>(verb: Verb, mut words: Words<'a>, has_type: bool) -> Result<Scan<'a>, Reply<'a>> {
    let cursor = words.next().ok_or(Reply::Usage { verb, hint: false })?;
    let cursor = number(cursor).ok_or(Reply::Error("invalid cursor"))?;
    let mut scan = Scan { cursor, pattern: None, count: SCAN_COUNT.0, kind: None, has_values: true };
    while let Some(option) = words.next() {
        if verb == Verb::HScan && option.eq_ignore_ascii_case(b"NOVALUES") {
            scan.has_values = false;
            continue;
        }
        let value = words.next().ok_or(Reply::Syntax(verb))?;
        if option.eq_ignore_ascii_case(b"MATCH") {
            check_pattern(value)?;
            scan.pattern = Some(value);
        } else if option.eq_ignore_ascii_case(b"COUNT") {
            let count = u64::try_from(integer(verb, value)?).ok().filter(|count| *count > 0);
            scan.count = count.ok_or(Reply::Syntax(verb))?.min(SCAN_COUNT.1);
        } else if option.eq_ignore_ascii_case(b"TYPE") && has_type {
            scan.kind = Some(value);
        } else {
            return Err(Reply::Syntax(verb));
        }
    }
    Ok(scan)
}

pub(super) fn check_length<'a>(what: Bounded, bytes: usize, bytes_max: usize) -> Result<(), Reply<'a>> {
    if bytes > bytes_max { Err(Reply::TooLong { what, bytes_max }) } else { Ok(()) }
}

/// A number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// An integer of 64 bits, as Redis spells it.
pub(super) fn integer<'a>(verb: Verb, word: &[u8]) -> Result<i64, Reply<'a>> {
    counter::integer(word).ok_or(Reply::NotInteger(verb))
}

/// The number of a keyspace.
pub(super) fn keyspace<'a>(verb: Verb, word: &[u8]) -> Result<u8, Reply<'a>> {
    let space = u8::try_from(integer(verb, word)?).ok().filter(|space| *space < SPACES);
    space.ok_or(Reply::Error("DB index is out of range"))
}

/// A unit of time, and where it counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    /// Since 1970.
    AtSeconds,
    AtMillis,
}

impl Unit {
    /// The option of that name, and how it is spelt.
    pub(super) fn named(option: &[u8]) -> Option<(Self, &'static str)> {
        let options =
            [(Self::Seconds, "EX"), (Self::Millis, "PX"), (Self::AtSeconds, "EXAT"), (Self::AtMillis, "PXAT")];
        options.into_iter().find(|(_, name)| option.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The expiry that `word` tells, which stands behind `option`: more than 0, of a point in time also the past.
    pub(super) fn expires<'a>(self, verb: Verb, option: &'static str, word: &[u8]) -> Result<Expires, Reply<'a>> {
        let unit_ms = match self {
            Self::Seconds | Self::AtSeconds => 1_000,
            Self::Millis | Self::AtMillis => 1,
        };
        let number = counter::integer(word);
        let ms = number.and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
        let ms = ms.and_then(|number| number.checked_mul(unit_ms)).filter(|ms| *ms <= EXPIRES_IN_MS_MAX);
        let is_integer = number.is_some();
        let ms = ms.ok_or(Reply::BadExpiry { verb, option, unit_ms, is_integer })?;
        Ok(match self {
            Self::Seconds | Self::Millis => Expires::In { ms },
            Self::AtSeconds | Self::AtMillis => Expires::At(WallMs(ms)),
        })
    }
}
