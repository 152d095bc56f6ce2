//! Leaving: a member that went on purpose has left nothing behind that only it had.

use super::{Judge, RunId};
use crate::outcome::Oracle;

impl Judge {
    /// A run has left its cluster: whatever it holds, some other run has held too, or has deleted and forgotten since.
    /// That one may have been killed later, with its memory, or its memory has lost it; the one that left cannot know.
    pub(super) fn look_at_heritage(&mut self, run: RunId) {
        let others = || self.runs.iter().enumerate().filter(|(at, _)| *at as u64 != run.0).map(|(_, other)| other);
        let lost = self.run(run).entries.iter().enumerate().find_map(|(key, entry)| {
            let entry = entry.as_ref().filter(|entry| entry.token.is_some())?;
            let held = |other: &super::Run| {
                let lost = other.rotten.get(&(key as u64)).copied();
                other.entries[key].map(|held| held.version).max(lost) >= Some(entry.version)
            };
            let kept = others().any(held) || self.is_forgotten(key as u64, Some(entry.version));
            (!kept).then_some((key, *entry))
        });
        if let Some((key, entry)) = lost {
            self.fail(Oracle::Durability, || format!("run {} has left, and only it had k{key} as {entry:?}", run.0));
        }
    }
}
