//! The origins whose records a store holds, each with a short name of 16 bits for the entries' headers.
//!
//! An index that is in the header of some entry cannot be given to another origin. Which are in none tells a walk over
//! all entries, in steps, once the table is nearly full: to count at each write would cost all writes something that
//! years of restarts need once.

use std::collections::BTreeMap;

use super::entry::{Entry, Parts};
use super::{ORIGINS_MAX, OriginsFull, SLOTS, Store};
use crate::record::Record;
use crate::version::{OriginId, Version};

/// Indexes given from which on those that nobody uses any more are looked for.
const GIVEN_MAX: usize = ORIGINS_MAX / 4 * 3;

/// Indexes given since the last look before there is another one.
const NEWS_MIN: usize = ORIGINS_MAX / 16;

/// Slots and entries that one step of the look passes: some 100 microseconds of the clients' time.
const STEP_WORK_MAX: usize = 1_024;

/// The name of no origin.
const NOBODY: OriginId = OriginId(0);

#[derive(Default)]
pub(super) struct Origins {
    /// By index; [`NOBODY`] where the index is free.
    ids: Vec<OriginId>,
    indexes: BTreeMap<OriginId, u16>,
    free: Vec<u16>,
    /// The one asked for last: records of one origin come in runs.
    recent: u16,
    /// How many indexes may be in use before the next look.
    given_max: usize,
    look: Option<Look>,
}

/// A walk over all entries that finds the indexes in use.
struct Look {
    slot: u16,
    after: Option<u32>,
    /// By index: whether an entry that was passed has it, or one was given it since.
    used: Vec<bool>,
}

impl Origins {
    /// The index of `id`, a new one if need be.
    #[inline]
    pub(super) fn intern(&mut self, id: OriginId) -> Result<u16, OriginsFull> {
        if self.ids.get(usize::from(self.recent)) != Some(&id) {
            self.recent = match self.indexes.get(&id) {
                Some(index) => *index,
                None => self.append(id)?,
            };
        }
        if let Some(look) = &mut self.look {
            look.used[usize::from(self.recent)] = true;
        }
        Ok(self.recent)
    }

    /// What `entry` holds, as the rest of the node knows it.
    #[inline]
    pub(super) fn record<'a>(&self, entry: &'a Entry) -> Record<'a> {
        let Parts { hlc, origin, deadline, key, value, is_counter } = entry.parts();
        Record { key, value, is_counter, deadline, version: Version { hlc, origin: self.ids[usize::from(origin)] } }
    }

    #[cold]
    fn append(&mut self, id: OriginId) -> Result<u16, OriginsFull> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.ids.len() >= ORIGINS_MAX => return Err(OriginsFull),
            None => {
                self.ids.push(NOBODY);
                (self.ids.len() - 1) as u16
            }
        };
        self.ids[usize::from(index)] = id;
        self.indexes.insert(id, index);
        Ok(index)
    }

    /// Frees the indexes that were not found in use.
    fn end_look(&mut self, look: &Look) {
        for (index, id) in self.ids.iter_mut().enumerate().filter(|(index, id)| !look.used[*index] && **id != NOBODY) {
            self.indexes.remove(id);
            *id = NOBODY;
            self.free.push(index as u16);
        }
        self.given_max = self.indexes.len() + NEWS_MIN;
    }
}

impl Store {
    /// Of how many origins records are held, or were not long ago.
    pub(crate) fn origins_held(&self) -> usize {
        self.origins.indexes.len()
    }

    /// Whether records of `id` are held, or were not long ago.
    pub(crate) fn has_written(&self, id: OriginId) -> bool {
        self.origins.indexes.contains_key(&id)
    }

    /// Looks for origins of which nothing is held any more, once there are many, and makes room for others; a bounded
    /// step. True while more is to be done now.
    pub(crate) fn free_origins(&mut self) -> bool {
        let Self { slots, origins, .. } = self;
        if origins.look.is_none() && origins.indexes.len() < GIVEN_MAX.max(origins.given_max) {
            return false;
        }
        let fresh = || Look { slot: 0, after: None, used: vec![false; ORIGINS_MAX] };
        let mut look = origins.look.take().unwrap_or_else(fresh);
        let mut work = 0;
        while look.slot < SLOTS && work < STEP_WORK_MAX {
            let table = &slots[usize::from(look.slot)].table;
            let used = &mut look.used;
            look.after = table.walk(look.after, STEP_WORK_MAX, &mut |entry| {
                used[usize::from(entry.parts().origin)] = true;
                work += 1;
                true
            });
            look.slot += u16::from(look.after.is_none());
            work += 1;
        }
        let is_over = look.slot == SLOTS;
        match is_over {
            true => origins.end_look(&look),
            false => origins.look = Some(look),
        }
        !is_over
    }
}
