//! The names of a simulated data directory: as a process sees them, and what a crash leaves of the changes.

use std::collections::BTreeMap;

use kv_core::FileId;

use crate::plan::size;
use crate::rng::{keyed, scale};

/// A file, whatever its name.
pub(super) type Inode = usize;

/// Names and changes of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    names: BTreeMap<FileId, Inode>,
    /// As they were when the directory was last synced.
    synced: BTreeMap<FileId, Inode>,
    /// What has been done since.
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Create(FileId, Inode),
    Rename { from: FileId, to: FileId, inode: Inode },
    Remove(FileId),
}

impl Directory {
    pub(super) fn of(&self, file: FileId) -> Option<Inode> {
        self.names.get(&file).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (FileId, Inode)> + '_ {
        self.names.iter().map(|(file, inode)| (*file, *inode))
    }

    pub(super) fn create(&mut self, file: FileId, inode: Inode) {
        self.change(Change::Create(file, inode));
    }

    pub(super) fn rename(&mut self, from: FileId, to: FileId) {
        if let Some(inode) = self.of(from) {
            self.change(Change::Rename { from, to, inode });
        }
    }

    pub(super) fn remove(&mut self, file: FileId) {
        if self.names.contains_key(&file) {
            self.change(Change::Remove(file));
        }
    }

    /// Other files stand there from now on, and no others.
    pub(super) fn replace(&mut self, names: impl Iterator<Item = (FileId, Inode)>) {
        self.names = names.collect();
        self.sync();
    }

    pub(super) fn sync(&mut self) {
        self.changes.clear();
        self.synced.clone_from(&self.names);
    }

    /// The machine loses its power: of what was not synced a beginning is there, or any of it.
    pub(super) fn crash(&mut self, draw: u64) {
        let changes = std::mem::take(&mut self.changes);
        let first = scale(keyed(draw, &[1]), changes.len() as u64 + 1);
        self.names.clone_from(&self.synced);
        for (number, change) in changes.into_iter().enumerate() {
            let is_kept = match draw % 3 {
                0 => false,
                1 => number < size(first),
                _ => keyed(draw, &[2, number as u64]) & 1 == 0,
            };
            if is_kept {
                apply(&mut self.names, change);
            }
        }
        self.synced.clone_from(&self.names);
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change);
        self.changes.push(change);
    }
}

fn apply(names: &mut BTreeMap<FileId, Inode>, change: Change) {
    match change {
        Change::Create(file, inode) => {
            names.insert(file, inode);
        }
        Change::Rename { from, to, inode } => {
            names.remove(&from);
            names.insert(to, inode);
        }
        Change::Remove(file) => {
            names.remove(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: FileId = FileId::log(1);
    const PART: FileId = FileId::part(2);
    const SNAPSHOT: FileId = FileId::snapshot(2);

    /// What a crash leaves of names of which some are synced: each outcome once.
    fn outcomes(directory: &Directory) -> Vec<Vec<FileId>> {
        let mut outcomes: Vec<Vec<FileId>> = (0..500)
            .map(|draw| {
                let mut after = directory.clone();
                after.crash(keyed(draw, &[]));
                after.names().map(|(file, _)| file).collect()
            })
            .collect();
        outcomes.sort();
        outcomes.dedup();
        outcomes
    }

    #[test]
    fn a_name_is_lost_until_the_directory_is_synced() {
        let mut directory = Directory::default();
        directory.create(LOG, 0);
        assert_eq!(outcomes(&directory), [vec![], vec![LOG]]);
        directory.sync();
        assert_eq!(outcomes(&directory), [vec![LOG]]);
    }

    #[test]
    fn a_rename_may_not_be_there_yet_though_what_came_after_it_is() {
        let mut directory = Directory::default();
        directory.create(LOG, 0);
        directory.create(PART, 1);
        directory.sync();
        directory.rename(PART, SNAPSHOT);
        directory.remove(LOG);
        let expected = [vec![LOG, SNAPSHOT], vec![LOG, PART], vec![SNAPSHOT], vec![PART]];
        let outcomes = outcomes(&directory);
        assert!(expected.iter().all(|names| outcomes.contains(names)), "{outcomes:?}");
        assert_eq!(directory.of(SNAPSHOT), Some(1));
        directory.sync();
        assert_eq!(directory.of(PART), None);
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        let mut directory = Directory::default();
        directory.remove(LOG);
        directory.rename(PART, SNAPSHOT);
        assert_eq!(directory.names().count(), 0);
        assert!(directory.changes.is_empty());
    }
}
