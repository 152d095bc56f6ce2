//! What becomes of keys, for those who want to be told.

use super::Replica;
use crate::name::{self, Name};
use crate::pubsub::{Change, Changed};
use crate::record::Record;
use crate::time::WallMs;

impl Replica {
    /// From now on it is noted what becomes of keys, or not.
    pub(crate) fn note_changes(&mut self, is_on: bool) {
        self.changes = is_on.then(|| self.changes.take().unwrap_or_default());
    }

    /// Notes what has become of what is stored as `name`, if that is wanted.
    pub(crate) fn note_change(&mut self, name: &[u8], what: Changed) {
        if let Some(changes) = &mut self.changes {
            changes.push(Change { name: name.into(), what });
        }
    }

    /// Notes what a record that was taken has done, if that is wanted.
    #[inline]
    pub(crate) fn note_taken(&mut self, record: &Record<'_>) {
        if self.changes.is_some() {
            self.note_what(record);
        }
    }

    #[cold]
    fn note_what(&mut self, record: &Record<'_>) {
        let Record { key: name, value, is_counter, deadline, version } = *record;
        let mut what = match value {
            _ if is_counter => Changed::Added,
            Some(_) => Changed::Set { expires: deadline.is_some() },
            None => Changed::Deleted,
        };
        let Some(owner) = name::owner(name) else { return self.note_change(name, what) };
        let (_, cut) = self.store.digest();
        let mut is_told = true;
        if let Some(Name { element, dot: Some(dot), .. }) = Name::parse(name) {
            if value.is_some() && dot != version {
                what = Changed::Expiry { expires: deadline.is_some() };
            } else {
                // One that is in the set by another add was there before, or still is.
                is_told = !self.store.dots(&owner, element, cut).iter().any(|other| other != name);
            }
        }
        if is_told {
            self.note_change(name, what);
        }
        if value.is_none() && self.store.elements(&owner, cut).is_none() {
            self.note_change(&owner, Changed::Deleted);
        }
    }

    /// What has become of keys since this was last called.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A step of letting go of what has expired, so many microseconds after the one before if that left more; true
    /// while more is to be done now.
    pub(crate) fn expire(&mut self, wall: WallMs, turn_us: Option<u64>) -> bool {
        let Self { store, changes, feed, .. } = self;
        if changes.is_none() && !feed.is_kept() {
            return store.expire_telling(wall, turn_us, &mut |_, _| {});
        }
        let what = Changed::Expired;
        // What is told goes to everybody who listens, and takes longer than the step itself: the least at a time.
        let turn_us = turn_us.filter(|_| changes.is_none());
        store.expire_telling(wall, turn_us, &mut |name, is_gone| {
            feed.note_passed(name);
            let changes = changes.iter_mut().filter(|_| is_gone);
            changes.for_each(|changes| changes.push(Change { name: name.into(), what }));
        })
    }

    /// What is stored as `name` may read otherwise from now on, whoever wrote it and however it came here: those who
    /// watch are to hear of it.
    #[inline]
    pub(crate) fn feed_change(&mut self, name: &[u8]) {
        let Self { store, feed, .. } = self;
        if feed.is_kept() {
            feed.note(name, store.get(name).as_ref());
        }
    }
}
