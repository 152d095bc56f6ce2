//! Adding to counters.

use crate::counter::{Count, Counter, Part};
use crate::origins::Known;
use crate::record::Record;
use crate::replica::{Refused, Replica};
use crate::store::OriginsFull;
use crate::time::Now;
use crate::version::Version;

/// Why nothing was added. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    Refused(Refused),
    /// The value is no integer.
    NoNumber,
    /// The result would be out of the range of 64 bits.
    Overflow,
}

impl Replica {
    /// Adds `amount` to the integer of `key`, an absent one being 0; the sum as this node knows it.
    pub(crate) fn add(&mut self, now: Now, key: &[u8], amount: i64) -> Result<i64, NotAdded> {
        if let Some(refused) = self.refused {
            return Err(NotAdded::Refused(refused));
        }
        let counter = self.store.get(key).as_ref().map(Counter::of).unwrap_or_default();
        let count = match counter.count_at(now.wall) {
            Count::Absent => 0,
            Count::Number(count) => count,
            Count::NoNumber => return Err(NotAdded::NoNumber),
        };
        let sum = count.checked_add(i128::from(amount)).and_then(|sum| i64::try_from(sum).ok());
        let sum = sum.ok_or(NotAdded::Overflow)?;
        self.put_part(now, key, i128::from(amount));
        Ok(sum)
    }

    /// Writes anew what of the counter at `key` peers must not see as it stands. A base that is written anew is newer
    /// than what others have added meanwhile, and resets that.
    pub(crate) fn reissue_counter(&mut self, now: Now, key: &[u8]) {
        let Some(record) = self.store.get(key) else { return };
        // A copy: the entry that the record borrows from is taken out.
        let cell = record.value.map(<[u8]>::to_vec);
        let mut counter = Counter::of(&Record { key, value: cell.as_deref(), ..record });
        // What a cluster that this node returns to knew the beginning of, and has no more, it has reset.
        let was_reset = |part: &Part| self.is_returning() && self.covers(Version { hlc: part.since, ..part.version() });
        let hidden = counter.parts.iter().filter(|part| self.is_to_rewrite(part.version()) && !was_reset(part));
        let amount = hidden.map(|part| part.total).reduce(i128::wrapping_add);
        counter.parts.retain(|part| !self.is_to_rewrite(part.version()));
        let base = counter.base.take_if(|base| self.is_to_rewrite(base.version));
        self.replace_counter(key, &counter);
        if base.is_some() {
            let anew = Counter { base, parts: Vec::new() };
            anew.record(key, &mut Vec::new()).inspect(|record| self.stamp_and_take(now, record));
        }
        if let Some(amount) = amount {
            self.put_part(now, key, amount);
        }
    }

    /// The cluster that this node returns to, and which knows what `claims` say, holds the key as `record` says, and
    /// one of the two is a counter. What the cluster knew and has no more, it has reset. What of a part only this node
    /// knows is kept as this run's, which adds up to the same.
    pub(crate) fn meet_counter(&mut self, now: Now, record: &Record<'_>, claims: &Known) -> Result<(), OriginsFull> {
        let key = record.key;
        let own = self.own();
        let theirs = Counter::of(record);
        let retired = self.origins.retired();
        let is_claimed = |version: Version| claims.covers(version, retired);
        let stands = self.store.get(key);
        let text = stands.as_ref().and_then(|stands| stands.value).map(<[u8]>::to_vec);
        let stands = stands.map(|stands| Record { key, value: text.as_deref(), ..stands });
        let mut counter = stands.as_ref().map(Counter::of).unwrap_or_default();
        let mut surplus: Option<i128> = None;
        counter.parts.retain(|mine| {
            if mine.origin == own {
                return true;
            }
            let since = Version { hlc: mine.since, origin: mine.origin };
            let more = match theirs.parts.iter().find(|part| part.origin == mine.origin) {
                Some(part) if part.hlc >= mine.hlc => None,
                Some(part) if part.since == mine.since => Some(mine.total.wrapping_sub(part.total)),
                Some(_) | None => (!is_claimed(since)).then_some(mine.total),
            };
            surplus = more.map(|more| surplus.unwrap_or(0).wrapping_add(more)).or(surplus);
            false
        });
        let newest = theirs.base.map(|base| base.version);
        counter.base.take_if(|base| newest >= Some(base.version) || is_claimed(base.version));
        for version in theirs.versions() {
            self.hold(now.mono, version)?;
            self.note_home(version, claims);
        }
        counter.join(theirs);
        self.replace_counter(key, &counter);
        if let Some(surplus) = surplus {
            self.put_part(now, key, surplus);
        }
        Ok(())
    }

    /// The cluster knows what `claims` say, and holds the counter in `record`. What it knew of the key and has no more,
    /// it has reset, and forgotten that: lets go of it.
    pub(crate) fn forgo_reset(&mut self, record: &Record<'_>, claims: &Known) {
        let Some(stands) = self.store.get(record.key) else { return };
        let cell = stands.value.map(<[u8]>::to_vec);
        let mut mine = Counter::of(&Record { key: record.key, value: cell.as_deref(), ..stands });
        let theirs = Counter::of(record);
        let is_claimed = |version: Version| claims.covers(version, self.origins.retired());
        let is_reset =
            |part: &Part| is_claimed(part.version()) && theirs.parts.iter().all(|of| of.origin != part.origin);
        let parts = mine.parts.len();
        mine.parts.retain(|part| !is_reset(part));
        let newest = theirs.base.map(|base| base.version);
        let base = mine.base.take_if(|base| is_claimed(base.version) && newest < Some(base.version));
        if base.is_some() || mine.parts.len() < parts {
            self.replace_counter(record.key, &mine);
        }
    }

    /// Leaves out of the counter at `key` what `is_known` to the cluster, which has the key no more.
    pub(crate) fn strip_counter(&mut self, key: &[u8], is_known: impl Fn(Version) -> bool) {
        let Some(stands) = self.store.get(key) else { return };
        let cell = stands.value.map(<[u8]>::to_vec);
        let mut counter = Counter::of(&Record { key, value: cell.as_deref(), ..stands });
        counter.leave_out(&is_known);
        counter.base.take_if(|base| is_known(base.version));
        self.replace_counter(key, &counter);
    }

    /// Puts `counter` in the place of what stands, which a merge would only add to.
    fn replace_counter(&mut self, key: &[u8], counter: &Counter<'_>) {
        self.store.take_out(key);
        if let Some(rest) = counter.record(key, &mut Vec::new()) {
            let merged = self.store.merge(&rest);
            debug_assert!(merged.is_ok(), "its origins were those of an entry");
        }
    }

    /// Adds `amount` to this run's part of a counter.
    fn put_part(&mut self, now: Now, key: &[u8], amount: i128) {
        let Version { hlc, origin } = self.stamp(now);
        let counter = self.store.get(key).as_ref().map(Counter::of).unwrap_or_default();
        let (since, total) = counter.part_at(now.wall, origin).map_or((hlc, 0), |part| (part.since, part.total));
        let part = Part { origin, hlc, since, total: total.wrapping_add(amount) };
        let mut cell = Vec::new();
        let version = part.version();
        let written = Counter { base: counter.base, parts: vec![part] };
        let deadline = written.base.and_then(|base| base.deadline);
        written.put_cell(&mut cell);
        self.take_stamped(now, &Record { key, value: Some(&cell), is_counter: true, deadline, version });
    }
}
