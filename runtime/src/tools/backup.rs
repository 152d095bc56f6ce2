//! `simple-kv backup` and `simple-kv restore`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use kv_core::{Backup, FileId, FileKind, Item, Says};

use crate::directory::{DataDirectory, list, sync_parent};
use crate::failure::Failure;
use crate::start::fresh_seed;
use crate::tools::source::{self, Source};

/// Writes all that `dir` holds to `path`.
pub(super) fn backup(dir: &Path, path: &Path) -> Result<(), Failure> {
    let sources = source::used(source::open(dir)?);
    let mut damaged = source::missing(&sources).len();
    let out = Output::create(path, path)?;
    let bar = source::bar("reading", &sources);
    let mut writer = Writer { backup: None, out, records: 0, has_snapshot: false };
    writer.has_snapshot = sources.iter().any(|source| source.file.kind == FileKind::Snapshot);
    for source in &sources {
        damaged += usize::from(source.missing_bytes > 0);
        source.scan(
            &bar,
            |_| Ok(()),
            |item| {
                match item {
                    Item::Header { cluster, name, has_gap, .. } => {
                        writer.begin(cluster, name)?;
                        has_gap.then(|| writer.lose());
                    }
                    Item::Frame { body, says } => writer.push(body, &says)?,
                    Item::Torn { .. } if source.may_be_torn() => {}
                    Item::Torn { .. } | Item::Damage { .. } | Item::NoFile | Item::Newer(_) => damaged += 1,
                    Item::Wanted | Item::End => {}
                }
                Ok(())
            },
        )?;
    }
    bar.finish_and_clear();
    if damaged > 0 {
        writer.lose();
    }
    let (records, bytes) = writer.finish(path)?;
    told(&format!("{}: {records} records, {}\n", path.display(), HumanBytes(bytes)));
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::Damaged(format!(
            "{} is damaged in {damaged} places, and what stood there is not in the backup",
            dir.display()
        ))),
    }
}

/// Makes a data directory at `dir` of the backup at `path`.
pub(super) fn restore(path: &Path, dir: &Path) -> Result<(), Failure> {
    let source = Source::of_backup(path)?;
    let directory = DataDirectory::open(dir)?;
    if !list(dir)?.is_empty() {
        return Err(Failure::Usage(format!("{} has data in it; give a directory that has none", dir.display())));
    }
    let sources = [source];
    let [source] = &sources;
    let bar = source::bar("restoring", &sources);
    let snapshot = dir.join(FileId::snapshot(1).to_string());
    let part = dir.join(FileId::part(1).to_string());
    let out = std::cell::RefCell::new(Output::create(&part, &snapshot)?);
    let (mut records, mut ended, mut wrong) = (0_u64, false, None);
    source.scan(
        &bar,
        |bytes| out.borrow_mut().write(bytes),
        |item| {
            match item {
                Item::Header { is_backup: true, is_whole: true, .. } => {}
                Item::Frame { says: Says::End, .. } => ended = true,
                Item::Frame { says, .. } => records += u64::from(!matches!(says, Says::Standing)),
                Item::Damage { at, .. } | Item::Torn { at, .. } => {
                    _ = wrong.get_or_insert(format!("is damaged at byte {at}"))
                }
                Item::Newer(format) => wrong = Some(format!("has format {format}, which only a newer build reads")),
                Item::Header { .. } | Item::NoFile => wrong = Some("is no whole backup".to_owned()),
                Item::Wanted | Item::End => {}
            }
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    if let Some(wrong) = wrong.or((!ended).then(|| "is cut off".to_owned())) {
        return Err(Failure::Damaged(format!("{} {wrong}; nothing was restored", path.display())));
    }
    out.into_inner().finish()?;
    told(&format!("{}: {records} records; start a node with --data-dir {0}\n", dir.display()));
    drop(directory);
    Ok(())
}

/// Nobody left to read it is no failure.
fn told(line: &str) {
    let _ = io::stdout().write_all(line.as_bytes());
}

/// A backup that is being written.
struct Writer {
    backup: Option<Backup>,
    out: Output,
    records: u64,
    has_snapshot: bool,
}

impl Writer {
    /// The first file says whose all are.
    fn begin(&mut self, cluster: &str, name: &str) -> Result<(), Failure> {
        if self.backup.is_none() {
            let seed = fresh_seed().map_err(|error| Failure::System("read random bytes", error))?;
            let mut backup = Backup::new(seed[0].max(1), cluster, name);
            if !self.has_snapshot {
                backup.begin_log();
            }
            self.backup = Some(backup);
        }
        Ok(())
    }

    /// Something is not in it that was to be.
    fn lose(&mut self) {
        if let Some(backup) = &mut self.backup {
            backup.lose();
        }
    }

    fn push(&mut self, body: &[u8], says: &Says<'_>) -> Result<(), Failure> {
        let Some(backup) = &mut self.backup else { return Ok(()) };
        backup.push(body);
        self.records += u64::from(matches!(says, Says::Record(_) | Says::Replaced(..)));
        self.out.write(&backup.take())
    }

    fn finish(mut self, path: &Path) -> Result<(u64, u64), Failure> {
        let Some(mut backup) = self.backup else {
            return Err(Failure::Damaged(format!("nothing can be read; {} was not written", path.display())));
        };
        backup.finish();
        self.out.write(&backup.take())?;
        self.out.write_over(&backup.beginning())?;
        Ok((self.records, self.out.finish()?))
    }
}

/// A file that has its name once it is whole and on the disk. Dropped before, it is gone.
struct Output {
    part: PathBuf,
    whole: PathBuf,
    file: File,
    bytes: u64,
}

impl Output {
    /// Begins the file `whole`, under another name if `part` is the same.
    fn create(part: &Path, whole: &Path) -> Result<Self, Failure> {
        let mut part = part.to_owned();
        if part == whole {
            part.as_mut_os_string().push(".part");
        }
        if whole.exists() {
            let error = io::ErrorKind::AlreadyExists.into();
            return Err(Failure::File(whole.to_owned(), "write", error));
        }
        // What was left of an attempt that was killed is of no use.
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = opened.map_err(|error| Failure::File(part.clone(), "write", error))?;
        Ok(Self { part, whole: whole.to_owned(), file, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| Failure::File(self.part.clone(), "write", error))
    }

    /// Writes what the file begins with once more.
    fn write_over(&mut self, beginning: &[u8]) -> Result<(), Failure> {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(beginning));
        written.map_err(|error| Failure::File(self.part.clone(), "write", error))
    }

    /// Its length.
    fn finish(self) -> Result<u64, Failure> {
        let failed = |error| Failure::File(self.whole.clone(), "write", error);
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.part, &self.whole).map_err(failed)?;
        sync_parent(&self.whole).map_err(failed)?;
        Ok(self.bytes)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Of one that is whole there is nothing under this name.
        let _ = fs::remove_file(&self.part);
    }
}
