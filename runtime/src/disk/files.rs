//! What one lane does in the data directory: operations as the core asks for them, one after the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use kv_core::{DiskError, DiskOp, DiskWork, FileId, FileKind};
use tracing::error;

/// What is written is for the owner of the data directory alone, whatever that directory allows.
const FILE_MODE: u32 = 0o600;

/// The files that one lane writes.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// The directory itself, to sync its names.
    names: File,
    open: Vec<Open>,
    /// Those that were open when an operation failed. They are not synced again: the system may count as clean what it
    /// could not write.
    lost: Vec<FileId>,
    /// An operation failed: nothing is done before [`DiskOp::Resume`].
    stopped: bool,
    /// What the log said last of a failure, until something was synced since: said once, not at every try.
    told: Option<ErrorKind>,
}

#[derive(Debug)]
struct Open {
    id: FileId,
    file: File,
    /// Appended to since it was synced.
    dirty: bool,
}

/// How far a batch came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Operations carried out before the failure, if there was one.
    pub(super) done_before: u32,
    /// Why the next was not.
    pub(super) failed: Option<DiskError>,
    /// Operations carried out after that, from a [`DiskOp::Resume`] on.
    pub(super) done: u32,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> io::Result<Self> {
        let names = File::open(&directory)?;
        Ok(Self { directory, names, open: Vec::new(), lost: Vec::new(), stopped: false, told: None })
    }

    /// Carries out `work` up to what fails. What is to be appended to one file is written at once, and what syncs it
    /// behind that is done once: those who wait for it share it.
    pub(super) fn carry_out(&mut self, work: &DiskWork) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut ops, mut data) = (&work.ops[..], &work.data[..]);
        while let Some(&first) = ops.first() {
            let (count, bytes) = run(ops);
            let (appended, rest) = data.split_at(bytes);
            let syncs = ops[..count].iter().any(|op| matches!(op, DiskOp::Sync { .. }));
            let step = &ops[..count];
            ops = &ops[count..];
            data = rest;
            if first == DiskOp::Resume {
                self.stopped = false;
            }
            if self.stopped {
                continue;
            }
            match self.step(first, appended, syncs) {
                Ok(()) => outcome.done += count as u32,
                Err((error, written)) => {
                    outcome.done += whole(step, written);
                    debug_assert!(outcome.failed.is_none(), "Resume answers a failure that was told");
                    (outcome.done_before, outcome.failed, outcome.done) = (outcome.done, Some(error), 0);
                    self.lost.extend(self.open.drain(..).map(|open| open.id));
                    self.stopped = true;
                }
            }
        }
        outcome
    }

    /// Syncs what was appended and not synced: the last that is done.
    pub(super) fn finish(&mut self) {
        for open in self.open.drain(..).filter(|open| open.dirty) {
            if let Err(error) = open.file.sync_data() {
                error!(file = %open.id, %error, "what was written last could not be synced");
            }
        }
    }

    /// One operation, or several on one file. With an error comes how much was appended before it.
    fn step(&mut self, op: DiskOp, appended: &[u8], syncs: bool) -> Result<(), (DiskError, usize)> {
        let of_writing = |error| (of_writing(error), 0);
        match op {
            DiskOp::Append { file, .. } | DiskOp::Sync { file } => {
                if matches!(op, DiskOp::Append { .. }) {
                    let mut written = 0;
                    let appends = self.append(file, appended, &mut written);
                    self.tell("write", Some(file), appends).map_err(|error| (of_writing(error).0, written))?;
                }
                if syncs {
                    let synced = self.sync(file);
                    self.tell("sync", Some(file), synced).map_err(|_| (DiskError::Sync, appended.len()))?;
                    self.told = None;
                }
                Ok(())
            }
            DiskOp::SyncDir => {
                let synced = self.names.sync_all();
                self.tell("sync the data directory", None, synced).map_err(|_| (DiskError::Sync, 0))
            }
            DiskOp::Finish { file } => {
                let part = FileId::part(file.number);
                let renamed = fs::rename(self.path(part), self.path(file));
                match file.kind {
                    FileKind::Log => {
                        self.open.iter_mut().filter(|open| open.id == part).for_each(|open| open.id = file)
                    }
                    // Nothing follows.
                    FileKind::Snapshot | FileKind::Part => self.open.retain(|open| open.id != part),
                }
                self.tell("rename", Some(part), renamed).map_err(of_writing)
            }
            DiskOp::Remove { file } => {
                self.open.retain(|open| open.id != file);
                self.lost.retain(|lost| *lost != file);
                let removed = match fs::remove_file(self.path(file)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    removed => removed,
                };
                self.tell("remove", Some(file), removed).map_err(of_writing)
            }
            DiskOp::Resume => Ok(()),
        }
    }

    /// Appends, to a new file if this one was not named before, and counts what was written.
    fn append(&mut self, id: FileId, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        let index = match self.open.iter().position(|open| open.id == id) {
            Some(index) => index,
            None => {
                let mut options = OpenOptions::new();
                let file = options.append(true).create_new(true).mode(FILE_MODE).open(self.path(id))?;
                // Whatever the new one follows is over, once it is synced.
                self.open.retain(|open| open.dirty);
                self.open.push(Open { id, file, dirty: false });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[index];
        open.dirty = true;
        while *written < bytes.len() {
            match open.file.write(&bytes[*written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&mut self, id: FileId) -> io::Result<()> {
        if self.lost.contains(&id) {
            return Err(io::Error::other("writing it failed before"));
        }
        match self.open.iter_mut().find(|open| open.id == id) {
            Some(open) => {
                open.file.sync_data()?;
                open.dirty = false;
                Ok(())
            }
            // What an earlier run wrote, if nobody has removed it.
            None => match File::open(self.path(id)) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                opened => opened?.sync_data(),
            },
        }
    }

    /// Logs a failure, unless it is only that of before.
    fn tell(&mut self, what: &str, file: Option<FileId>, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result
            && self.told != Some(error.kind())
        {
            self.told = Some(error.kind());
            let file = file.map(|file| file.to_string());
            error!(file, %error, "cannot {what}");
        }
        result
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.directory.join(file.to_string())
    }
}

impl Outcome {
    /// Adds what came later. A failure is told before the node resumes, and so before there can be another.
    pub(super) fn add(&mut self, later: Self) {
        if later.failed.is_some() {
            debug_assert!(self.failed.is_none(), "a failure is told before the next");
            *self = Self { done_before: self.done + later.done_before, ..later };
        } else {
            self.done += later.done;
        }
    }
}

/// How many of the first operations are one step, and how much they append: all that append to one file, and what syncs
/// it behind them.
fn run(ops: &[DiskOp]) -> (usize, usize) {
    let of = ops.first().and_then(|op| match *op {
        DiskOp::Append { file, .. } | DiskOp::Sync { file } => Some(file),
        DiskOp::SyncDir | DiskOp::Finish { .. } | DiskOp::Remove { .. } | DiskOp::Resume => None,
    });
    let Some(of) = of else { return (1, 0) };
    let appends = ops.iter().map_while(|op| match *op {
        DiskOp::Append { file, bytes } if file == of => Some(bytes as usize),
        _ => None,
    });
    let (appends, bytes) = appends.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
    let syncs = ops[appends..].iter().take_while(|op| **op == DiskOp::Sync { file: of }).count();
    (appends + syncs, bytes)
}

/// How many of the first operations of a step were done if so much was written and then something failed.
fn whole(step: &[DiskOp], mut written: usize) -> u32 {
    let whole = step.iter().take_while(|op| match **op {
        DiskOp::Append { bytes, .. } if bytes as usize <= written => {
            written -= bytes as usize;
            true
        }
        _ => false,
    });
    whole.count() as u32
}

/// A limit on the size of files (`ulimit -f`) is a small disk.
fn of_writing(error: io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => DiskError::Full,
        _ => DiskError::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::TestDirectory;

    const LOG: FileId = FileId::log(1);
    const NEXT: FileId = FileId::log(2);
    const PART: FileId = FileId::part(3);

    const fn append(file: FileId, bytes: u32) -> DiskOp {
        DiskOp::Append { file, bytes }
    }

    const fn done(done: u32) -> Outcome {
        Outcome { done_before: 0, failed: None, done }
    }

    fn carry_out(files: &mut Files, ops: &[DiskOp], data: &[u8]) -> Outcome {
        files.carry_out(&DiskWork { ops: ops.to_vec(), data: data.to_vec() })
    }

    /// A file of which every write, or every sync, fails.
    fn failing(id: FileId) -> Open {
        Open { id, file: OpenOptions::new().append(true).open("/dev/full").unwrap(), dirty: true }
    }

    #[test]
    fn operations_are_carried_out_in_order() {
        let directory = TestDirectory::new();
        let mut files = Files::new(directory.path().to_owned()).unwrap();
        let ops = [append(LOG, 2), append(LOG, 1), DiskOp::Sync { file: LOG }, append(NEXT, 3), DiskOp::SyncDir];
        assert_eq!(carry_out(&mut files, &ops, b"abcdef"), done(5));
        assert_eq!((directory.read(LOG), directory.read(NEXT)), (b"abc".to_vec(), b"def".to_vec()));
        assert_eq!(files.open.len(), 1, "a file is closed that was synced and that another follows");
        let ops = [append(PART, 1), DiskOp::Finish { file: FileId::snapshot(3) }, DiskOp::Remove { file: LOG }];
        assert_eq!(carry_out(&mut files, &ops, b"p"), done(3));
        assert_eq!(directory.names(), [NEXT.to_string(), FileId::snapshot(3).to_string()]);
        assert_eq!(carry_out(&mut files, &[DiskOp::Remove { file: LOG }], b""), done(1), "it need not be there");
    }

    #[test]
    fn a_segment_that_got_its_name_is_appended_to() {
        let directory = TestDirectory::new();
        let mut files = Files::new(directory.path().to_owned()).unwrap();
        let (part, log) = (FileId::part(7), FileId::log(7));
        let named = [append(part, 1), DiskOp::Sync { file: part }, DiskOp::Finish { file: log }, DiskOp::SyncDir];
        assert_eq!(carry_out(&mut files, &named, b"a"), done(4));
        assert_eq!(carry_out(&mut files, &[append(log, 1), DiskOp::Sync { file: log }], b"b"), done(2));
        assert_eq!((directory.read(log), directory.names()), (b"ab".to_vec(), vec![log.to_string()]));
    }

    #[test]
    fn no_file_of_another_run_is_appended_to() {
        let directory = TestDirectory::new();
        let run = || Files::new(directory.path().to_owned()).unwrap();
        assert_eq!(carry_out(&mut run(), &[append(LOG, 1)], b"a"), done(1));
        let outcome = carry_out(&mut run(), &[append(LOG, 1)], b"b");
        assert_eq!(outcome, Outcome { failed: Some(DiskError::Write), ..Outcome::default() });
        assert_eq!(directory.read(LOG), b"a");
    }

    #[test]
    fn a_failure_stops_everything_until_the_node_has_heard_of_it() {
        let directory = TestDirectory::new();
        let mut files = Files::new(directory.path().to_owned()).unwrap();
        files.open.push(failing(NEXT));
        let ops = [append(LOG, 1), append(NEXT, 1), DiskOp::SyncDir, append(LOG, 1)];
        let outcome = carry_out(&mut files, &ops, b"abc");
        assert_eq!(outcome, Outcome { done_before: 1, failed: Some(DiskError::Full), done: 0 });
        assert_eq!(carry_out(&mut files, &[append(FileId::log(4), 1)], b"x"), Outcome::default());
        let ops = [DiskOp::SyncDir, DiskOp::Resume, append(FileId::log(5), 1)];
        assert_eq!(carry_out(&mut files, &ops, b"y"), done(2));
        assert_eq!(directory.names(), [LOG.to_string(), FileId::log(5).to_string()]);
    }

    #[test]
    fn what_failed_is_never_synced_again() {
        let directory = TestDirectory::new();
        let mut files = Files::new(directory.path().to_owned()).unwrap();
        files.open.push(failing(LOG));
        let sync = DiskOp::Sync { file: LOG };
        assert_eq!(carry_out(&mut files, &[sync], b"").failed, Some(DiskError::Sync));
        assert_eq!((files.open.len(), &files.lost[..]), (0, &[LOG][..]));
        let outcome = carry_out(&mut files, &[DiskOp::Resume, sync], b"");
        assert_eq!(outcome, Outcome { done_before: 1, failed: Some(DiskError::Sync), done: 0 });
    }

    #[test]
    fn what_an_earlier_run_wrote_is_synced() {
        let directory = TestDirectory::new();
        let run = || Files::new(directory.path().to_owned()).unwrap();
        let sync = DiskOp::Sync { file: LOG };
        assert_eq!(carry_out(&mut run(), &[sync], b""), done(1), "it need not be there");
        assert_eq!(carry_out(&mut run(), &[append(LOG, 1)], b"a"), done(1));
        assert_eq!(carry_out(&mut run(), &[sync], b""), done(1));
    }

    #[test]
    fn one_sync_serves_all_who_wait_for_it() {
        let sync = DiskOp::Sync { file: LOG };
        assert_eq!(run(&[append(LOG, 3), append(LOG, 4), sync, sync, append(LOG, 5)]), (4, 7));
        assert_eq!(run(&[append(LOG, 3), append(NEXT, 4), sync]), (1, 3));
        assert_eq!(run(&[sync, sync, append(LOG, 4)]), (2, 0));
        assert_eq!(run(&[sync, DiskOp::SyncDir]), (1, 0));
        assert_eq!(run(&[DiskOp::SyncDir, sync]), (1, 0));
    }

    #[test]
    fn what_was_written_before_a_failure_is_done() {
        let step = [append(LOG, 3), append(LOG, 4), DiskOp::Sync { file: LOG }];
        for (written, done) in [(0, 0), (2, 0), (3, 1), (6, 1), (7, 2)] {
            assert_eq!(whole(&step, written), done, "{written}");
        }
        assert_eq!(whole(&[DiskOp::SyncDir], 0), 0);
    }

    #[test]
    fn outcomes_add_up() {
        let mut outcome = done(2);
        outcome.add(done(3));
        outcome.add(Outcome { done_before: 1, failed: Some(DiskError::Full), done: 0 });
        outcome.add(done(4));
        assert_eq!(outcome, Outcome { done_before: 6, failed: Some(DiskError::Full), done: 4 });
    }
}
