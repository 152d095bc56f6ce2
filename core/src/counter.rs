//! Counters: integers that merge by adding up.
//!
//! A counter is a *base*, the last write that set or deleted its key, and of each origin that has added to it a *part*:
//! the total of what that origin added since. A part is an origin's own total, never an increment, so it may come any
//! number of times in any order, and of two parts of one origin the later stands (a state-based PN-counter: Shapiro et
//! al., "A comprehensive study of convergent and commutative replicated data types", 2011).
//!
//! What resets a counter is the order of versions and nothing else: a part counts if its first increment, `since`, is
//! newer than the base. So whether it is dropped depends on the greatest base alone, and every order of merging ends
//! the same. A `SET` or a `DEL` that did not see an increment resets it all the same if the origin had begun to add
//! before; an origin that sees a newer base begins anew.
//!
//! A base whose deadline has passed is no longer added, and with it end the parts that began before the deadline. Each
//! reader sees that by its own clock; nothing has to be written for it.
//!
//! What runs that ended had added is *folded*, era by era (see [`retired`](crate::retired)), into one total, of all
//! parts whose runs have entries up to some number; so a counter does not grow with restarts. That is done under the
//! condition under which a tombstone is collected (PROTOCOL.md rule 17), for each part as for a tombstone of its
//! version: then whatever base has not come yet is newer than all that is folded, and resets all of it, as each base
//! that had come was older than all of it. So what is folded has one `since`, its oldest, and of two folds of an era
//! the one up to the greater number has what the other has, unless that was reset. A part of a run that is in a fold is
//! in its total, or was reset: it is dropped, whichever of the two comes first.
//!
//! In a record, the value of a counter is its *cell*:
//!
//! ```text
//!  flags    u8      1: has a base, 2: the base is an integer, 4: has folds
//!  [version u64 u64, integer varint (zigzag)]    of the base; its deadline is the record's
//!  [count varint, folds in the order of their eras:
//!     era u32 u64, number u32, oldest u64 u64, newest u64 u64, total varint (zigzag, 128 bits)]
//!  parts, to the end, in the order of their origins:
//!     origin u64, hlc u64, hlc - since varint, total varint (zigzag, 128 bits)
//! ```
//!
//! The record's version is the newest of its parts, folded or not. A stream record carries one part, its writer's, and
//! the base that this was added to, so that no contribution waits for a base; a record of a sweep carries them all.

use crate::record::Record;
use crate::retired::{Folds, Mark, RETIRED_MAX};
use crate::time::WallMs;
use crate::version::{Hlc, OriginId, Version};
use crate::wire::num::{Bytes, put_varint};

const HAS_BASE: u8 = 1;
const IS_INTEGER: u8 = 2;
const HAS_FOLDS: u8 = 4;

/// The least that a fold takes in a cell.
const FOLD_BYTES_MIN: usize = 49;

/// Longest varint of 128 bits.
const VARINT_128_BYTES_MAX: u32 = 19;

/// The write that a counter counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    /// Its name.
    pub version: Version,
    /// From when on it is not added any more.
    pub deadline: Option<WallMs>,
    /// What it holds.
    pub value: BaseValue<'a>,
}

/// What a base holds. Of one version the greater is what is known better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseValue<'a> {
    /// Nothing to add to: deleted, freed after its deadline, or a text that somebody who had not seen it added to.
    Nothing,
    /// What is added to.
    Integer(i64),
    /// The value of a record that is no counter and no integer.
    Text(&'a [u8]),
}

/// What one origin added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Who.
    pub origin: OriginId,
    /// The stamp of the last increment.
    pub hlc: Hlc,
    /// The stamp of the first one.
    pub since: Hlc,
    /// The sum of all between them.
    pub total: i128,
}

/// What runs of one era of the ledger added, up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fold {
    pub(crate) era: Mark,
    /// The greatest number of those that are in it.
    pub(crate) number: u32,
    /// The sum of their parts.
    pub total: i128,
    /// The first increment of all.
    pub(crate) oldest: Version,
    /// The last one.
    pub(crate) newest: Version,
}

/// A counter, or a key that may become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter<'a> {
    /// None as long as nothing was ever set.
    pub base: Option<Base<'a>>,
    /// In the order of their eras, one of each. All count on the base.
    pub folds: Vec<Fold>,
    /// In the order of their origins, one of each. All count on the base, and none is in a fold.
    pub parts: Vec<Part>,
}

/// What a reader sees of a key that may be a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// No key.
    Absent,
    /// The sum.
    Number(i128),
    /// A value that cannot be added to.
    NoNumber,
}

impl Part {
    pub(crate) fn version(&self) -> Version {
        Version { hlc: self.hlc, origin: self.origin }
    }

    /// The first increment.
    pub(crate) fn oldest(&self) -> Version {
        Version { hlc: self.since, origin: self.origin }
    }
}

impl Fold {
    fn new(part: &Part, Folds { era, number, .. }: Folds) -> Self {
        Self { era, number, total: part.total, oldest: part.oldest(), newest: part.version() }
    }

    /// A hash of its era, and the number up to which it goes: of one counter, what is named the same is the same.
    #[must_use]
    pub fn name(&self) -> (u64, u32) {
        (self.era.hash, self.number)
    }

    /// Whether it has `part`, or that was reset; its run has this entry.
    pub(crate) fn has(&self, part: &Part, entry: Folds) -> bool {
        self.era == entry.era && entry.number <= self.number && part.since > entry.after
    }
}

/// Whether what began with `oldest` counts on `base`.
fn counts_on(base: Option<&Base<'_>>, oldest: Version) -> bool {
    base.is_none_or(|base| oldest > base.version)
}

/// Whether what began with `oldest` goes on after a base with this deadline has ended.
fn outlives(deadline: WallMs, oldest: Version) -> bool {
    oldest.hlc >= Hlc::at(deadline)
}

impl Base<'_> {
    fn has_ended(&self, wall: WallMs) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= wall)
    }
}

impl<'a> Counter<'a> {
    /// What `record` says of its key.
    #[must_use]
    pub fn of(record: &Record<'a>) -> Self {
        match record.value {
            Some(cell) if record.is_counter => parse(cell, record.deadline).unwrap_or_default(),
            value => {
                let value = value.map_or(BaseValue::Nothing, |value| match integer(value) {
                    Some(integer) => BaseValue::Integer(integer),
                    None => BaseValue::Text(value),
                });
                let base = Base { version: record.version, deadline: record.deadline, value };
                Self { base: Some(base), ..Self::default() }
            }
        }
    }

    /// What a delete of that version leaves.
    pub(crate) fn below(version: Version) -> Self {
        Self { base: Some(Base { version, deadline: None, value: BaseValue::Nothing }), ..Self::default() }
    }

    /// Whether it is [that](Self::below), and no more.
    pub(crate) fn is_below(&self, version: Version) -> bool {
        *self == Self::below(version)
    }

    /// Takes in what `other` says of the same key, where `entry` tells what the ledger says of an origin: commutative,
    /// associative and idempotent.
    pub(crate) fn join(&mut self, other: Self, entry: impl Fn(OriginId) -> Option<Folds>) {
        self.base = match (self.base, other.base) {
            (Some(mine), Some(theirs)) if mine.version == theirs.version => {
                Some(Base { value: mine.value.max(theirs.value), ..mine })
            }
            (Some(mine), Some(theirs)) if mine.version < theirs.version => Some(theirs),
            (mine, theirs) => mine.or(theirs),
        };
        for part in other.parts {
            self.put(part);
        }
        for fold in other.folds {
            self.put_fold(fold);
        }
        let (base, folds) = (self.base.as_ref(), &mut self.folds);
        folds.retain(|fold| counts_on(base, fold.oldest));
        let is_folded = |part: &Part| {
            !folds.is_empty() && entry(part.origin).is_some_and(|entry| folds.iter().any(|fold| fold.has(part, entry)))
        };
        self.parts.retain(|part| counts_on(base, part.oldest()) && !is_folded(part));
    }

    /// Lets go of what something else of this version took: as a delete does, which is remembered elsewhere.
    pub(crate) fn reset(&mut self, by: Version) {
        let base = Some(Base { version: by, deadline: None, value: BaseValue::Nothing });
        self.join(Self { base, ..Self::default() }, |_| None);
        self.base.take_if(|base| base.version <= by);
    }

    /// Adds up, era by era, the parts that `entry` names an entry of the ledger for; how many those were. None are as
    /// long as the base may still end, and a part with it.
    pub(crate) fn fold(&mut self, entry: impl Fn(&Part) -> Option<Folds>) -> usize {
        if self.holds_ended() {
            return 0;
        }
        let (parts, folds) = (std::mem::take(&mut self.parts), self.folds.clone());
        let before = parts.len();
        for part in parts {
            let Some(entry) = entry(&part).filter(|entry| part.since > entry.after) else {
                self.parts.push(part);
                continue;
            };
            if folds.iter().any(|fold| fold.has(&part, entry)) {
                continue;
            }
            let mut fold = Fold::new(&part, entry);
            if let Ok(at) = self.folds.binary_search_by_key(&fold.era, |fold| fold.era) {
                let with = self.folds.remove(at);
                fold.number = fold.number.max(with.number);
                fold.total = fold.total.wrapping_add(with.total);
                (fold.oldest, fold.newest) = (fold.oldest.min(with.oldest), fold.newest.max(with.newest));
            }
            self.put_fold(fold);
        }
        before - self.parts.len()
    }

    /// Puts `fold` in, unless one of more entries of its era stands.
    fn put_fold(&mut self, fold: Fold) {
        match self.folds.binary_search_by_key(&fold.era, |fold| fold.era) {
            Ok(at) => self.folds[at] = self.folds[at].max(fold),
            Err(at) => self.folds.insert(at, fold),
        }
    }

    /// Puts `part` in, unless a later one of its origin stands.
    pub(crate) fn put(&mut self, part: Part) {
        match self.parts.binary_search_by_key(&part.origin, |part| part.origin) {
            Ok(at) if self.parts[at].hlc < part.hlc => self.parts[at] = part,
            Ok(_) => {}
            Err(at) => self.parts.insert(at, part),
        }
    }

    /// The part of `origin` that a reader at `wall` counts.
    #[must_use]
    pub fn part_at(&self, wall: WallMs, origin: OriginId) -> Option<&Part> {
        self.parts.iter().find(|part| part.origin == origin).filter(|part| self.counts_at(wall, part.oldest()))
    }

    /// Whether a reader at `wall` counts more than the base.
    #[must_use]
    pub fn is_added_to_at(&self, wall: WallMs) -> bool {
        self.totals_at(wall).next().is_some()
    }

    /// What a reader at `wall` sees.
    #[must_use]
    pub fn count_at(&self, wall: WallMs) -> Count {
        let base = self.base.filter(|base| !base.has_ended(wall));
        let mut totals = self.totals_at(wall).peekable();
        let value = base.map_or(BaseValue::Nothing, |base| base.value);
        if totals.peek().is_none() {
            match value {
                BaseValue::Nothing => return Count::Absent,
                BaseValue::Text(_) => return Count::NoNumber,
                BaseValue::Integer(_) => {}
            }
        }
        let begin = if let BaseValue::Integer(integer) = value { i128::from(integer) } else { 0 };
        // Wraps, so that no peer can make this fail: what wraps is far out of every integer's range.
        Count::Number(totals.fold(begin, i128::wrapping_add))
    }

    fn totals_at(&self, wall: WallMs) -> impl Iterator<Item = i128> + '_ {
        let parts = self.parts.iter().map(|part| (part.oldest(), part.total));
        let all = self.folds.iter().map(|fold| (fold.oldest, fold.total)).chain(parts);
        all.filter(move |(oldest, _)| self.counts_at(wall, *oldest)).map(|(_, total)| total)
    }

    /// The deadline, until it has passed.
    #[must_use]
    pub fn deadline_at(&self, wall: WallMs) -> Option<WallMs> {
        self.base.filter(|base| !base.has_ended(wall)).and_then(|base| base.deadline)
    }

    /// The version of the base, if it is added at `wall`.
    #[must_use]
    pub fn base_at(&self, wall: WallMs) -> Option<Version> {
        let base = self.base.filter(|base| !base.has_ended(wall))?;
        matches!(base.value, BaseValue::Integer(_)).then_some(base.version)
    }

    /// Lets go of what ended with the deadline of the base.
    pub(crate) fn end_base(&mut self) {
        let Some(Base { deadline: Some(deadline), value, .. }) = &mut self.base else { return };
        *value = BaseValue::Nothing;
        let deadline = *deadline;
        self.parts.retain(|part| outlives(deadline, part.oldest()));
        self.folds.retain(|fold| outlives(deadline, fold.oldest));
    }

    /// Whether anything goes on once the base has ended.
    pub(crate) fn outlives_base(&self) -> bool {
        let Some(Base { deadline: Some(deadline), .. }) = self.base else { return true };
        let mut oldest = self.parts.iter().map(Part::oldest).chain(self.folds.iter().map(|fold| fold.oldest));
        oldest.any(|oldest| outlives(deadline, oldest))
    }

    /// Whether [`end_base`](Self::end_base) has something to let go.
    pub(crate) fn holds_ended(&self) -> bool {
        let Some(Base { deadline: Some(deadline), value, .. }) = self.base else { return false };
        let mut oldest = self.parts.iter().map(Part::oldest).chain(self.folds.iter().map(|fold| fold.oldest));
        value != BaseValue::Nothing || oldest.any(|oldest| !outlives(deadline, oldest))
    }

    /// Every version that is in here, but for what is folded.
    pub(crate) fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        self.base.iter().map(|base| base.version).chain(self.parts.iter().map(Part::version))
    }

    /// Leaves out the parts that `is_known`. The base stays, known or not: what is new was added to it, and if it has
    /// ended, that ended with it.
    pub(crate) fn leave_out(&mut self, is_known: impl Fn(Version) -> bool) {
        self.parts.retain(|part| !is_known(part.version()));
    }

    /// The record of `key` that says this; its value is written to `text`. `None` if there is nothing to say.
    pub(crate) fn record<'b>(&'b self, key: &'b [u8], text: &'b mut Vec<u8>) -> Option<Record<'b>> {
        text.clear();
        let deadline = self.base.and_then(|base| base.deadline);
        if let Some(version) = self.newest() {
            self.put_cell(text);
            return Some(Record { key, value: Some(text), is_counter: true, deadline, version });
        }
        let base = self.base.as_ref()?;
        let value = match base.value {
            BaseValue::Nothing => None,
            BaseValue::Text(value) => Some(value),
            BaseValue::Integer(integer) => {
                text.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
                Some(&**text)
            }
        };
        Some(Record { key, value, is_counter: false, deadline, version: base.version })
    }

    pub(crate) fn put_cell(&self, out: &mut Vec<u8>) {
        let has_folds = if self.folds.is_empty() { 0 } else { HAS_FOLDS };
        match self.base {
            None => out.push(has_folds),
            Some(Base { version, value, .. }) => {
                let integer = if let BaseValue::Integer(integer) = value { Some(integer) } else { None };
                out.push(HAS_BASE | has_folds | if integer.is_some() { IS_INTEGER } else { 0 });
                put_version(out, version);
                integer.inspect(|integer| put_integer(out, i128::from(*integer)));
            }
        }
        if has_folds != 0 {
            put_varint(out, self.folds.len() as u64);
        }
        for Fold { era, number, total, oldest, newest } in &self.folds {
            out.extend_from_slice(&era.len.to_le_bytes());
            out.extend_from_slice(&era.hash.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            put_version(out, *oldest);
            put_version(out, *newest);
            put_integer(out, *total);
        }
        for Part { origin, hlc, since, total } in &self.parts {
            out.extend_from_slice(&origin.0.to_le_bytes());
            out.extend_from_slice(&hlc.0.to_le_bytes());
            put_varint(out, hlc.0 - since.0);
            put_integer(out, *total);
        }
    }

    /// The last increment of all.
    fn newest(&self) -> Option<Version> {
        self.parts.iter().map(Part::version).chain(self.folds.iter().map(|fold| fold.newest)).max()
    }

    fn counts_at(&self, wall: WallMs, oldest: Version) -> bool {
        let ended = self.base.filter(|base| base.has_ended(wall)).and_then(|base| base.deadline);
        ended.is_none_or(|deadline| outlives(deadline, oldest))
    }
}

/// Whether `cell` is that of a counter whose newest part has this version: what a peer sends is checked once, before it
/// is believed.
pub(crate) fn is_cell(cell: &[u8], deadline: Option<WallMs>, version: Version) -> bool {
    let Some(counter) = parse(cell, deadline) else { return false };
    let base = counter.base.as_ref();
    let is_part = |part: &Part| part.origin.0 != 0 && part.since != Hlc::ZERO && counts_on(base, part.oldest());
    counter.parts.is_sorted_by(|one, other| one.origin < other.origin)
        && counter.folds.is_sorted_by(|one, other| one.era < other.era)
        && counter.newest() == Some(version)
        && counter.parts.iter().all(is_part)
        && counter.folds.iter().all(|fold| is_fold(fold) && counts_on(base, fold.oldest))
        && base.map_or(deadline.is_none(), |base| base.version.origin.0 != 0)
}

fn is_fold(fold: &Fold) -> bool {
    let is_entry = fold.era.len > 0 && fold.era.len <= fold.number && fold.number as usize <= RETIRED_MAX;
    let is_named = fold.oldest.origin.0 != 0 && fold.newest.origin.0 != 0;
    is_entry && fold.era.hash != 0 && is_named && fold.oldest.hlc != Hlc::ZERO && fold.oldest <= fold.newest
}

/// The integer that `text` is the one way of writing.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    // The longest has 20 characters, and most values end the look at their first.
    if text.len() > 20 || !matches!(text, [b'0'..=b'9', ..] | [b'-', b'1'..=b'9', ..]) {
        return None;
    }
    let integer: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(integer).as_bytes() == text).then_some(integer)
}

fn parse(cell: &[u8], deadline: Option<WallMs>) -> Option<Counter<'_>> {
    let mut bytes = Bytes(cell);
    let flags = bytes.u8()?;
    let base = match flags & !HAS_FOLDS {
        0 => None,
        of @ (HAS_BASE | 3) => {
            let version = bytes.version()?;
            let value = match of & IS_INTEGER {
                0 => BaseValue::Nothing,
                _ => BaseValue::Integer(take_integer(&mut bytes)?.try_into().ok()?),
            };
            Some(Base { version, deadline, value })
        }
        _ => return None,
    };
    let mut folds = Vec::new();
    if flags & HAS_FOLDS != 0 {
        let count = usize::try_from(bytes.varint()?).ok()?;
        if count == 0 || count > bytes.0.len() / FOLD_BYTES_MIN {
            return None;
        }
        folds.reserve_exact(count);
        for _ in 0..count {
            let era = Mark { len: bytes.u32()?, hash: bytes.u64()? };
            let (number, oldest, newest) = (bytes.u32()?, bytes.version()?, bytes.version()?);
            folds.push(Fold { era, number, total: take_integer(&mut bytes)?, oldest, newest });
        }
    }
    let mut parts = Vec::with_capacity(bytes.0.len() / 18);
    while !bytes.0.is_empty() {
        let (origin, hlc) = (OriginId(bytes.u64()?), Hlc(bytes.u64()?));
        let since = Hlc(hlc.0.checked_sub(bytes.varint()?)?);
        parts.push(Part { origin, hlc, since, total: take_integer(&mut bytes)? });
    }
    Some(Counter { base, folds, parts })
}

fn put_version(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(&version.hlc.0.to_le_bytes());
    out.extend_from_slice(&version.origin.0.to_le_bytes());
}

fn put_integer(out: &mut Vec<u8>, integer: i128) {
    let mut zigzag = ((integer << 1) ^ (integer >> 127)) as u128;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn take_integer(bytes: &mut Bytes<'_>) -> Option<i128> {
    let mut zigzag = 0_u128;
    for place in 0..VARINT_128_BYTES_MAX {
        let byte = bytes.u8()?;
        let bits = u128::from(byte & 0x7f);
        if place == VARINT_128_BYTES_MAX - 1 && bits > 3 {
            return None;
        }
        zigzag |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
        }
    }
    None
}

#[cfg(test)]
mod tests;
