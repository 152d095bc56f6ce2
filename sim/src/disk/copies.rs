//! Copies of a simulated data directory, and how they are put back: backups, and all files as they stand.

use kv_core::{Backup, FileId, FileKind, Item, Scanner};

use super::Disk;
use super::file::File;
use crate::rng::keyed;

/// A kind of copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// What `simple-kv backup` takes and `simple-kv restore` puts back.
    Backup,
    /// All files, as whoever copies them by hand finds them and puts them back.
    Files,
}

/// The newest copies of a directory.
#[derive(Debug, Default)]
pub(super) struct Copies {
    backup: Option<Vec<u8>>,
    files: Option<Vec<(FileId, Vec<u8>)>>,
    count: u64,
}

/// What a segment says of the one before it.
struct Before {
    bytes: usize,
    has_gap: bool,
}

impl Disk {
    /// Copies the directory as a backup, and if it is `shown` as it is. Whether there is a backup of what it has now,
    /// and its bytes.
    pub fn copy(&mut self, shown: bool) -> (bool, u64) {
        self.copies.count += 1;
        let names = self.directory.names().map(|(file, inode)| (file, self.files[inode].all().to_vec()));
        let files: Vec<_> = names.collect();
        let salt = keyed(self.seed, &[super::COPY, self.copies.count]).max(1);
        let backup = backup(&files, salt);
        let bytes = backup.as_ref().map_or(0, Vec::len) as u64;
        let has_backup = backup.is_some();
        self.copies.files = Some(files).filter(|_| shown);
        self.copies.backup = backup;
        (has_backup, bytes)
    }

    /// Whether there is such a copy to put back.
    #[must_use]
    pub const fn has(&self, what: Copied) -> bool {
        match what {
            Copied::Backup => self.copies.backup.is_some(),
            Copied::Files => self.copies.files.is_some(),
        }
    }

    /// The directory gives way to a copy. No process may have it open.
    pub fn put_back(&mut self, what: Copied) {
        let files = match what {
            Copied::Backup => self.copies.backup.clone().map(|bytes| vec![(FileId::snapshot(1), bytes)]),
            Copied::Files => self.copies.files.clone(),
        };
        let first = self.files.len();
        let (names, files): (Vec<_>, Vec<_>) = files.unwrap_or_default().into_iter().unzip();
        self.files.extend(files.iter().map(|bytes| File::copy_of(bytes)));
        self.directory.replace(names.into_iter().zip(first..));
    }
}

/// What the tool takes of these files, in the order and up to the lengths that a node reads; none if it finds nothing.
fn backup(files: &[(FileId, Vec<u8>)], salt: u64) -> Option<Vec<u8>> {
    let mut files: Vec<_> = files.iter().filter(|(file, _)| file.kind != FileKind::Part).collect();
    files.sort_by_key(|(file, _)| (file.number, file.kind != FileKind::Snapshot));
    let newest = files.iter().rposition(|(file, _)| file.kind == FileKind::Snapshot);
    files.drain(..newest.unwrap_or(0));
    let mut backup: Option<Backup> = None;
    let mut is_whole = true;
    for (at, (file, bytes)) in files.iter().enumerate() {
        let next = files[at + 1..].iter().find(|(next, _)| next.kind == FileKind::Log && file.kind == FileKind::Log);
        let before = next.and_then(|(_, bytes)| before(bytes));
        let counted = before.as_ref().map_or(bytes.len(), |before| bytes.len().min(before.bytes));
        is_whole &= next.is_none_or(|(next, _)| next.number == file.number + 1);
        is_whole &= before.is_none_or(|before| before.has_gap || before.bytes <= bytes.len());
        let mut scanner = Scanner::new();
        scanner.push(&bytes[..counted]);
        scanner.end();
        loop {
            match scanner.next_item() {
                Item::Header { cluster, name, has_gap, .. } => {
                    is_whole &= !has_gap;
                    backup.get_or_insert_with(|| {
                        let mut begun = Backup::new(salt, cluster, name);
                        if newest.is_none() {
                            begun.begin_log();
                        }
                        begun
                    });
                }
                Item::Frame { body, .. } => backup.as_mut()?.push(body),
                Item::Torn { .. } if next.is_none() && file.kind == FileKind::Log => {}
                Item::Torn { .. } | Item::Damage { .. } | Item::NoFile | Item::Newer(_) => is_whole = false,
                Item::Wanted | Item::End => break,
            }
        }
    }
    let mut backup = backup?;
    if !is_whole {
        backup.lose();
    }
    backup.finish();
    let (mut bytes, beginning) = (backup.take(), backup.beginning());
    bytes[..beginning.len()].copy_from_slice(&beginning);
    Some(bytes)
}

/// What the header of a segment says.
fn before(bytes: &[u8]) -> Option<Before> {
    let mut scanner = Scanner::new();
    scanner.push(bytes);
    scanner.end();
    match scanner.next_item() {
        Item::Header { prev_bytes, has_gap, .. } => {
            Some(Before { bytes: usize::try_from(prev_bytes).unwrap_or(usize::MAX), has_gap })
        }
        _ => None,
    }
}
