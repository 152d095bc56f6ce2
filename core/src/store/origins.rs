//! The origins whose records a store holds, each with a short name of 16 bits for the entries' headers.

use std::collections::BTreeMap;

use super::entry::{Entry, Parts};
use super::{ORIGINS_MAX, OriginsFull};
use crate::record::Record;
use crate::version::{OriginId, Version};

/// Append-only: an index, once given, is in the headers of entries.
#[derive(Default)]
pub(super) struct Origins {
    ids: Vec<OriginId>,
    indexes: BTreeMap<OriginId, u16>,
    /// The one asked for last: records of one origin come in runs.
    recent: u16,
}

impl Origins {
    /// The index of `id`, a new one if need be.
    pub(super) fn intern(&mut self, id: OriginId) -> Result<u16, OriginsFull> {
        if self.ids.get(usize::from(self.recent)) != Some(&id) {
            self.recent = match self.indexes.get(&id) {
                Some(index) => *index,
                None => self.append(id)?,
            };
        }
        Ok(self.recent)
    }

    /// What `entry` holds, as the rest of the node knows it.
    pub(super) fn record<'a>(&self, entry: &'a Entry) -> Record<'a> {
        let Parts { hlc, origin, deadline, key, value, is_counter } = entry.parts();
        Record { key, value, is_counter, deadline, version: Version { hlc, origin: self.ids[usize::from(origin)] } }
    }

    #[cold]
    fn append(&mut self, id: OriginId) -> Result<u16, OriginsFull> {
        if self.ids.len() >= ORIGINS_MAX {
            return Err(OriginsFull);
        }
        let index = self.ids.len() as u16;
        self.ids.push(id);
        self.indexes.insert(id, index);
        Ok(index)
    }
}
