//! The data directory: made, locked and listed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kv_core::FileId;
use tracing::warn;

use crate::failure::Failure;

/// Whose lock says that a process has the directory. It stays when the process ends; the lock does not.
const LOCK: &str = "lock";
/// Nobody but its owner reads what a node was told.
const DIRECTORY_MODE: u32 = 0o700;

/// A data directory that no other process has.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl DataDirectory {
    /// Takes the directory at `path`, and makes it if it is not there; what it is to lie in must be.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &'static str| move |error| Failure::Directory(path.to_owned(), what, error);
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => sync_parent(path).map_err(failed("sync the directory it lies in"))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create it")(error)),
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join(LOCK)).map_err(failed("open its lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::DirectoryInUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed("lock it")(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A node's files in the directory at `path` with their sizes, in their order. What else lies there is left alone, and
/// named in the log.
pub(crate) fn list(path: &Path) -> Result<Vec<(FileId, u64)>, Failure> {
    let failed = |error| Failure::Directory(path.to_owned(), "list it", error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        match name.to_str().and_then(FileId::parse) {
            Some(file) => files.push((file, entry.metadata().map_err(failed)?.len())),
            None if name == LOCK => {}
            None => warn!(name = ?name, "not a file of a node, left alone in the data directory"),
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Has the name of a new file or directory on the disk.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Reads from `at` until `buffer` is full or the file ends.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory of a test's own, removed with all that is in it.
    pub(crate) struct TestDirectory(PathBuf);

    impl TestDirectory {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("simple-kv-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn read(&self, file: FileId) -> Vec<u8> {
            fs::read(self.0.join(file.to_string())).unwrap()
        }

        pub(crate) fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_is_made_for_its_owner_alone() {
        let parent = TestDirectory::new();
        let path = parent.path().join("data");
        let taken = DataDirectory::open(&path).unwrap();
        assert_eq!(fs::metadata(taken.path()).unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
        assert!(list(&path).unwrap().is_empty(), "the lock is not listed");
        assert!(matches!(DataDirectory::open(&parent.path().join("a/b")), Err(Failure::Directory(..))));
    }

    #[test]
    fn only_one_has_it() {
        let parent = TestDirectory::new();
        let first = DataDirectory::open(parent.path()).unwrap();
        let refused = DataDirectory::open(parent.path());
        assert!(matches!(&refused, Err(Failure::DirectoryInUse(path)) if path == parent.path()));
        drop(first);
        DataDirectory::open(parent.path()).unwrap();
    }

    #[test]
    fn only_files_of_a_node_are_listed() {
        let directory = TestDirectory::new();
        for (name, bytes) in [("0000000002.log", 3), ("0000000001.log", 2), ("0000000002.part", 0), ("notes.txt", 9)] {
            fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        }
        let files = list(directory.path()).unwrap();
        assert_eq!(files, [(FileId::log(1), 2), (FileId::log(2), 3), (FileId::part(2), 0)]);
    }
}
