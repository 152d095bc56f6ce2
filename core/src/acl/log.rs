//! `ACL LOG`: who was turned away, and from what.

use std::collections::VecDeque;

use crate::time::Mono;

/// Entries that are kept, as many as in Redis.
const ENTRIES_MAX: usize = 128;

/// What is like an entry of that age at the most is counted there, so that who knocks all the time fills one.
const ALIKE_MS: u64 = 60_000;

/// Longest object of an entry: a key may have 64 KiB.
pub(super) const OBJECT_BYTES_MAX: usize = 256;

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `auth`, `command`, `key` or `channel`.
    pub(crate) reason: &'static str,
    /// `toplevel` or `multi`.
    pub(crate) context: &'static str,
    pub(crate) object: String,
    pub(crate) user: String,
    /// As `CLIENT LIST` shows it.
    pub(crate) client: String,
}

/// The newest entries, newest first: each with how often it came, and when last.
#[derive(Debug, Default)]
pub(crate) struct Log(VecDeque<(Entry, u64, Mono)>);

impl Log {
    pub(crate) fn note(&mut self, now: Mono, mut entry: Entry) {
        // A terminal would do what they say.
        for text in [&mut entry.object, &mut entry.user] {
            *text = text.replace(char::is_control, "?");
        }
        let is_alike = |(old, _, at): &(Entry, u64, Mono)| {
            let same = (old.reason, old.context) == (entry.reason, entry.context);
            same && old.object == entry.object && old.user == entry.user && now.ms_since(*at) <= ALIKE_MS
        };
        let count = match self.0.iter().position(is_alike).and_then(|at| self.0.remove(at)) {
            Some((_, count, _)) => count + 1,
            None => 1,
        };
        self.0.push_front((entry, count, now));
        self.0.truncate(ENTRIES_MAX);
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &(Entry, u64, Mono)> {
        self.0.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_within_a_minute_is_one_entry_and_no_more_are_kept_than_may_be() {
        let of = |object: &str| Entry {
            reason: "key",
            context: "toplevel",
            object: object.to_owned(),
            user: "ann\x1b[2J".to_owned(),
            client: String::new(),
        };
        let mut log = Log::default();
        for (ms, object) in [(0, "a"), (1, "b"), (60_000, "a"), (120_000, "a"), (180_001, "a")] {
            log.note(Mono(0).plus_ms(ms), of(object));
        }
        let counts: Vec<(&str, u64)> = log.iter().map(|(entry, count, _)| (&*entry.object, *count)).collect();
        assert!(log.iter().all(|(entry, ..)| entry.user == "ann?[2J"));
        assert_eq!(counts, [("a", 1), ("a", 3), ("b", 1)]);
        (0..1_000).for_each(|at| log.note(Mono(0), of(&at.to_string())));
        assert_eq!(log.iter().len(), ENTRIES_MAX);
        log.clear();
        assert_eq!(log.iter().len(), 0);
    }
}
