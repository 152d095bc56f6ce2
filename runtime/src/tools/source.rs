//! The files of a data directory, opened so that a node may go on writing and removing them meanwhile.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget};
use kv_core::{FileId, FileKind, Item, Scanner};

use crate::directory::{list, read_at};
use crate::failure::Failure;
use crate::progress;

/// What is read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// How often the directory is listed again because a node has removed a file in between. It does so once a snapshot.
const LISTS_MAX: usize = 10;

/// One file of a data directory.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: FileId,
    path: PathBuf,
    handle: File,
    /// How long it was when it was looked at, ...
    pub(super) bytes: u64,
    /// ... and up to where it counts.
    pub(super) counted_bytes: u64,
    /// What the next segment says that this one should have besides.
    pub(super) missing_bytes: u64,
    /// Whether it is a segment that another follows, so that no part of it may be cut off.
    pub(super) is_followed: bool,
}

/// Opens the files in `dir`, in the order in which a node reads them; those that it would not read are first.
pub(super) fn open(dir: &Path) -> Result<Vec<Source>, Failure> {
    let mut lists_left = LISTS_MAX;
    let mut sources = loop {
        let files = list(dir)?.into_iter().map(|(file, _)| file).filter(|file| file.kind != FileKind::Part);
        let opened: Result<Vec<_>, _> = files.map(|file| Source::open(dir, file)).collect();
        match opened {
            Ok(sources) => break sources,
            Err(Failure::File(_, _, error)) if error.kind() == io::ErrorKind::NotFound && lists_left > 0 => {
                lists_left -= 1;
            }
            Err(failure) => return Err(failure),
        }
    };
    if sources.is_empty() {
        return Err(Failure::Usage(format!("{} holds no data of a node", dir.display())));
    }
    // A snapshot comes before the segment of its number, which begins with it.
    sources.sort_by_key(|source| (source.file.number, source.file.kind != FileKind::Snapshot));
    let befores: Vec<_> = sources.iter().map(Source::before).collect::<Result<_, _>>()?;
    // Lengths after all headers: a segment does not grow once the next has its header.
    for source in &mut sources {
        source.bytes = source.handle.metadata().map_err(source_failed(&source.path))?.len();
        source.counted_bytes = source.bytes;
    }
    let logs: Vec<usize> = (0..sources.len()).filter(|at| sources[*at].file.kind == FileKind::Log).collect();
    for pair in logs.windows(2) {
        let (Some(before), follows) = (&befores[pair[1]], sources[pair[0]].file.number + 1) else { continue };
        let is_next = sources[pair[1]].file.number == follows;
        let source = &mut sources[pair[0]];
        source.is_followed = true;
        if is_next {
            source.counted_bytes = source.bytes.min(before.bytes);
            source.missing_bytes = if before.has_gap { 0 } else { before.bytes.saturating_sub(source.bytes) };
        }
    }
    Ok(sources)
}

/// Of these files those that a node reads: the newest snapshot, and the segments from its number on.
pub(super) fn used(mut sources: Vec<Source>) -> Vec<Source> {
    let newest = sources.iter().rposition(|source| source.file.kind == FileKind::Snapshot).unwrap_or(0);
    sources.drain(..newest);
    sources
}

/// The segments that are not there although later ones are, from the newest snapshot on.
pub(super) fn missing(sources: &[Source]) -> Vec<FileId> {
    let snapshot = sources.iter().rfind(|source| source.file.kind == FileKind::Snapshot);
    let numbers = || sources.iter().filter(|source| source.file.kind == FileKind::Log).map(|source| source.file.number);
    let from = snapshot.map(|source| source.file.number).or(numbers().min());
    let (Some(from), Some(to)) = (from, numbers().max()) else { return Vec::new() };
    (from..to).filter(|number| !numbers().any(|there| there == *number)).map(FileId::log).collect()
}

/// What a segment says of the one before it.
struct Before {
    bytes: u64,
    has_gap: bool,
}

impl Source {
    fn open(dir: &Path, file: FileId) -> Result<Self, Failure> {
        let path = dir.join(file.to_string());
        let handle = File::open(&path).map_err(source_failed(&path))?;
        Ok(Self { file, path, handle, bytes: 0, counted_bytes: 0, missing_bytes: 0, is_followed: false })
    }

    /// A file of its own, which is no data directory's.
    pub(super) fn of_backup(path: &Path) -> Result<Self, Failure> {
        let handle = File::open(path).map_err(source_failed(path))?;
        let bytes = handle.metadata().map_err(source_failed(path))?.len();
        let (file, path) = (FileId::snapshot(1), path.to_owned());
        Ok(Self { file, path, handle, bytes, counted_bytes: bytes, missing_bytes: 0, is_followed: false })
    }

    /// Whether its end may be torn without anything being damaged: a crash leaves the newest segment so.
    pub(super) fn may_be_torn(&self) -> bool {
        self.file.kind == FileKind::Log && !self.is_followed
    }

    fn before(&self) -> Result<Option<Before>, Failure> {
        let mut before = None;
        let mut scanner = Scanner::new();
        let mut place = 0;
        let mut chunk = vec![0; 4 << 10];
        loop {
            match scanner.next_item() {
                Item::Header { prev_bytes, has_gap, .. } => {
                    before = Some(Before { bytes: prev_bytes, has_gap });
                    break;
                }
                Item::Wanted => {
                    let count = read_at(&self.handle, &mut chunk, place).map_err(source_failed(&self.path))?;
                    scanner.push(&chunk[..count]);
                    place += count as u64;
                    if count < chunk.len() {
                        scanner.end();
                    }
                }
                _ => break,
            }
        }
        Ok(before)
    }

    /// Reads it up to where it counts. `take` gets all that stands there; `raw` gets the bytes.
    pub(super) fn scan(
        &self,
        bar: &ProgressBar,
        mut raw: impl FnMut(&[u8]) -> Result<(), Failure>,
        mut take: impl FnMut(Item<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut scanner = Scanner::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut place = 0;
        loop {
            match scanner.next_item() {
                Item::Wanted => {
                    let left = usize::try_from(self.counted_bytes - place).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                    let count = read_at(&self.handle, &mut chunk[..left], place).map_err(source_failed(&self.path))?;
                    if count == 0 {
                        scanner.end();
                    }
                    raw(&chunk[..count])?;
                    scanner.push(&chunk[..count]);
                    place += count as u64;
                    bar.inc(count as u64);
                }
                Item::End => return Ok(()),
                item => take(item)?,
            }
        }
    }
}

fn source_failed(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::File(path.to_owned(), "read", error)
}

/// A bar for reading all of `sources`, if somebody watches.
pub(super) fn bar(what: &'static str, sources: &[Source]) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    progress::bar(what, sources.iter().map(|source| source.counted_bytes).sum(), target)
}
