//! What becomes of keys, for those who want to be told.

use super::Replica;
use crate::pubsub::{Change, Changed};
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

    /// What has become of keys since this was last called.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A step of letting go of what has expired; true while more is to be done now.
    pub(crate) fn expire(&mut self, wall: WallMs) -> bool {
        let Self { store, changes, feed, .. } = self;
        if changes.is_none() && !feed.is_kept() {
            return store.expire(wall);
        }
        let what = Changed::Expired;
        store.expire_telling(wall, &mut |name| {
            feed.note_passed(name);
            changes.iter_mut().for_each(|changes| changes.push(Change { name: name.into(), what }));
        })
    }

    /// What is stored as `name` may read otherwise from now on, whoever wrote it and however it came here: those who
    /// watch are to hear of it.
    pub(crate) fn feed_change(&mut self, name: &[u8]) {
        let Self { store, feed, .. } = self;
        if feed.is_kept() {
            feed.note(name, store.get(name).as_ref());
        }
    }
}

/// What has become of a key that was written.
pub(super) fn changed(is_counter: bool, value: Option<&[u8]>, deadline: Option<WallMs>) -> Changed {
    match value {
        _ if is_counter => Changed::Added,
        Some(_) => Changed::Set { expires: deadline.is_some() },
        None => Changed::Deleted,
    }
}
