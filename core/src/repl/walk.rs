//! A walk over the store in bounded steps, for work that must not hold up clients.

use crate::record::Record;
use crate::store::{SLOTS, Store};

/// Slots that one step passes, and entries that it looks at: some 100 microseconds of the clients' time.
pub(super) const STEP_SLOTS_MAX: usize = 1_024;
pub(super) const STEP_ENTRIES_MAX: usize = 1_024;

/// Bytes of entries that one step picks, but for the last of them: what is written anew goes to the disk and to peers.
const STEP_BYTES_MAX: usize = 32 << 10;

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    slot: u16,
    after: Option<u32>,
}

impl Walk {
    /// The keys of the next entries that `picks`, passing slots that `skips` without a look.
    pub(super) fn step(
        &mut self,
        store: &Store,
        skips: impl Fn(u16) -> bool,
        picks: impl Fn(&Record<'_>) -> bool,
    ) -> Vec<Vec<u8>> {
        let mut picked: Vec<Vec<u8>> = Vec::new();
        let (mut slots, mut entries, mut bytes) = (STEP_SLOTS_MAX, STEP_ENTRIES_MAX, STEP_BYTES_MAX);
        while !self.is_done() && slots > 0 && entries > 0 {
            slots -= 1;
            let last = match skips(self.slot) {
                true => None,
                false => store.walk(self.slot, self.after, entries, &mut |record| {
                    entries = entries.saturating_sub(1);
                    if picks(record) {
                        picked.push(record.key.to_vec());
                        bytes = bytes.saturating_sub(record.key.len() + record.value.map_or(0, <[u8]>::len));
                    }
                    if bytes == 0 {
                        entries = 0;
                    }
                    bytes > 0
                }),
            };
            *self = match last {
                Some(hash) => Self { slot: self.slot, after: Some(hash) },
                None => Self { slot: self.slot + 1, after: None },
            };
        }
        picked
    }

    /// Whether every slot was passed.
    pub(super) fn is_done(&self) -> bool {
        self.slot == SLOTS
    }
}
