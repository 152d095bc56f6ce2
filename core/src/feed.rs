//! The newest changes of keys, for those who watch: a bounded ring that watchers are places in.
//!
//! It is kept while somebody watches and for a while after, so that who comes back hears of what came meanwhile. A node
//! that nobody watches notes nothing.

use std::collections::VecDeque;

use crate::name::{Kind, Name};
use crate::record::Record;
use crate::time::WallMs;
use crate::version::Version;

/// Changes that are kept: what comes in a second of a busy node, and more than a reconnection takes.
pub(crate) const CHANGES_MAX: usize = 65_536;

/// What they may take, with their keys.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// The newest changes of the keys of keyspace 0, as this node merged them.
///
/// Each has a number, which no other one of this run has.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    is_kept: bool,
    /// The number of the oldest that is kept.
    first: u64,
    ring: VecDeque<Noted>,
    bytes: usize,
    /// Something was noted since this was last asked.
    has_news: bool,
}

/// A change.
#[derive(Debug)]
pub(crate) struct Noted {
    /// What the key is stored as; empty if it is none.
    pub(crate) name: Box<[u8]>,
    pub(crate) what: What,
}

/// What has become of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It has the value of this version.
    Put { version: Version, deadline: Option<WallMs> },
    /// It has none; the version of the delete, if that is known here.
    Deleted { version: Option<Version> },
    /// How it stands now tells: a counter is a sum, a hash or a set has other elements, and time brings about what
    /// nobody writes.
    Unread,
    /// All that was written before is gone.
    Flushed,
}

impl Feed {
    /// Whether changes are to be noted.
    pub(crate) const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Notes changes from now on. What came while none were noted counts as one that is not kept any more.
    pub(crate) fn keep(&mut self) {
        if !self.is_kept {
            self.is_kept = true;
            self.first += 1;
        }
    }

    /// Nobody watches: what was noted goes.
    pub(crate) fn drop_all(&mut self) {
        *self = Self { first: self.next(), ..Self::default() };
    }

    /// Notes that what is stored as `name` is now what `stands`.
    #[inline(never)]
    pub(crate) fn note(&mut self, name: &[u8], stands: Option<&Record<'_>>) {
        if !self.is_kept {
            return;
        }
        let Some(Name { space: 0, kind, key, .. }) = Name::parse(name) else { return };
        match kind {
            Kind::Floor => self.push(&[], What::Flushed),
            Kind::Key => self.push(name, What::of(stands)),
            Kind::Field | Kind::Member => self.push(&Name::key(0, key).stored(), What::Unread),
        }
    }

    /// Notes that time may have taken what is stored as `name`.
    pub(crate) fn note_passed(&mut self, name: &[u8]) {
        if matches!(Name::parse(name), Some(Name { space: 0, kind: Kind::Key, .. })) {
            self.push(name, What::Unread);
        }
    }

    fn push(&mut self, name: &[u8], what: What) {
        if !self.is_kept {
            return;
        }
        self.bytes += bytes_of(name);
        self.ring.push_back(Noted { name: name.into(), what });
        while self.ring.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.bytes -= bytes_of(&oldest.name);
            self.first += 1;
        }
        self.has_news = true;
    }

    /// The number of the oldest change that is kept.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next change gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Noted> {
        let at = number.checked_sub(self.first)?;
        self.ring.get(usize::try_from(at).ok()?)
    }

    /// Whether something was noted since this was last called.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// What they take.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl What {
    fn of(stands: Option<&Record<'_>>) -> Self {
        match stands {
            Some(Record { value: Some(_), is_counter: false, version, deadline, .. }) => {
                Self::Put { version: *version, deadline: *deadline }
            }
            Some(Record { value: None, is_counter: false, version, deadline: None, .. }) => {
                Self::Deleted { version: Some(*version) }
            }
            // A counter, or a value that was freed after its deadline.
            Some(_) => Self::Unread,
            None => Self::Deleted { version: None },
        }
    }
}

/// What a change takes.
fn bytes_of(name: &[u8]) -> usize {
    size_of::<Noted>() + name.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Hlc, OriginId};

    fn noted(feed: &Feed) -> Vec<(u64, &[u8])> {
        (feed.first()..feed.next()).filter_map(|number| Some((number, &*feed.get(number)?.name))).collect()
    }

    #[test]
    fn nothing_is_noted_before_somebody_watches_and_numbers_never_come_again() {
        let mut feed = Feed::default();
        feed.note(b"before", None);
        assert_eq!((feed.len(), feed.bytes(), feed.ring.capacity(), feed.take_news()), (0, 0, 0, false));
        feed.keep();
        let first = feed.next();
        feed.note(b"a", None);
        feed.keep();
        feed.note_passed(b"b");
        assert_eq!(noted(&feed), [(first, &b"a"[..]), (first + 1, b"b")]);
        assert!(feed.take_news() && !feed.take_news());
        let seen = feed.next();
        feed.drop_all();
        assert_eq!((feed.len(), feed.bytes(), feed.is_kept()), (0, 0, false));
        feed.note(b"unseen", None);
        feed.keep();
        assert!(feed.first() > seen, "who has seen all before cannot know that nothing came");
    }

    #[test]
    fn the_ring_is_bounded_by_count_and_by_bytes() {
        let mut feed = Feed::default();
        feed.keep();
        for _ in 0..CHANGES_MAX + 10 {
            feed.note(b"k", None);
        }
        assert_eq!((feed.len(), feed.get(feed.first() - 1).is_none()), (CHANGES_MAX, true));
        let long = vec![b'k'; 60_000];
        for _ in 0..1_000 {
            feed.note(&long, None);
        }
        assert!(feed.bytes() <= BYTES_MAX && feed.bytes() > BYTES_MAX - 70_000);
        assert_eq!(feed.bytes(), feed.len() * bytes_of(&long));
        assert_eq!(feed.next() - feed.first(), feed.len() as u64);
    }

    #[test]
    fn what_stands_tells_what_has_become_of_a_key_and_other_keyspaces_nothing() {
        let mut feed = Feed::default();
        feed.keep();
        let version = Version { hlc: Hlc(5), origin: OriginId(7) };
        let deadline = Some(WallMs(9));
        let record = |value, is_counter, deadline| Record { key: b"k", value, is_counter, deadline, version };
        for (stands, what) in [
            (record(Some(&b"v"[..]), false, None), What::Put { version, deadline: None }),
            (record(Some(b"v"), false, deadline), What::Put { version, deadline }),
            (record(Some(b"v"), true, None), What::Unread),
            (record(None, false, deadline), What::Unread),
            (record(None, false, None), What::Deleted { version: Some(version) }),
        ] {
            feed.note(b"k", Some(&stands));
            assert_eq!(feed.get(feed.next() - 1).map(|noted| noted.what), Some(what));
        }
        let before = feed.next();
        for name in [Name::key(1, b"k").stored(), Name::floor(1).stored()] {
            feed.note(&name, None);
            feed.note_passed(&name);
        }
        assert_eq!(feed.next(), before);
        feed.note(&Name::floor(0).stored(), None);
        assert_eq!(feed.get(before).map(|noted| noted.what), Some(What::Flushed));
    }
}
