//! Deletes that some member claims and was never told of.

use super::{Exposure, Replica};
use crate::name;
use crate::origins::Known;
use crate::record::Record;
use crate::time::Now;
use crate::version::{Hlc, Version};

/// Bytes of a key that the log shows.
const SHOWN_MAX: usize = 200;

impl Replica {
    /// Whether who claims all of `claims` and sweeps `record` was never told of the delete that it loses `to` here,
    /// which nobody will be told of again: it had been collected where the other heard of it, by who was alone, or by
    /// who had yet to hear of the other, whose memory had lost that what it wrote was for nobody to see.
    /// (`sim/regressions/who-claimed-a-delete-without-*`)
    pub(super) fn is_untold(&self, record: &Record<'_>, to: Version, claims: &Known) -> bool {
        let is_deleted = match self.store.get(record.key) {
            // A new delete would take what the key has of elements since, from everybody.
            Some(stands) => stands.value.is_none() && self.store.newest_element(record.key) <= to.hlc,
            None => self.store.is_covered(record),
        };
        let is_value = record.value.is_some() && !record.is_counter && self.exposure == Exposure::Exposed;
        is_value && is_deleted && self.may_write().is_ok() && claims.covers(to, self.origins.retired())
    }

    /// Deletes anew what a peer was never told to be deleted.
    pub(super) fn tell_anew(&mut self, now: Now, key: &[u8]) {
        let mut shown = name::shown(key).escape_ascii().to_string();
        shown.truncate(SHOWN_MAX);
        tracing::warn!(key = shown, "a peer holds what was deleted, and knows nothing of that: it is deleted anew");
        self.delete_anew(now, key);
    }

    /// Deletes a key that a client deleted, and others hold again.
    pub(super) fn delete_anew(&mut self, now: Now, key: &[u8]) {
        let version = Version { hlc: Hlc::ZERO, origin: self.own };
        let deleted = Record { key, value: None, is_counter: false, deadline: None, version };
        self.keeping_elements(now, key, |replica| replica.stamp_and_take(now, &deleted));
    }
}
