//! Data that outlives the process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::harness::{Node, PATIENCE, binary, shared_machine};

/// A data directory of a test's own, removed with it.
struct Data(PathBuf);

impl Data {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("durable-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("a path that is text")
    }

    /// Starts the node of this directory.
    fn start(&self, flags: &[&str]) -> Node {
        Node::start(&[&["0", "--name", "n", "--data-dir", self.text()], flags].concat())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a node says that does not start in `path`.
fn refused(path: &str, mentions: &[&str]) {
    let output = binary().args(["0", "--name", "n", "--data-dir", path]).output().expect("the binary starts");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap_or_default();
    for mention in mentions {
        assert!(last.contains(mention), "{last:?} does not mention {mention:?}");
    }
}

#[test]
fn the_directory_is_made_for_its_owner_and_kept_by_one_process() {
    let _machine = shared_machine();
    let data = Data::new();
    let mut node = data.start(&[]);
    assert_eq!(fs::metadata(&data.0).unwrap().permissions().mode() & 0o777, 0o700);
    refused(data.text(), &[data.text(), "another process has it", "--data-dir"]);
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    drop(data.start(&[]));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let _machine = shared_machine();
    let data = Data::new();
    refused(&format!("{}/deep", data.text()), &[data.text(), "cannot create it", "No such file"]);
    fs::write(&data.0, "not a directory").unwrap();
    refused(data.text(), &[data.text(), "Not a directory"]);
    fs::remove_file(&data.0).unwrap();
}
