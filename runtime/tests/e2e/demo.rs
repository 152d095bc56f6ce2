//! `simple-kv demo`, run whole; and that nothing is left of it however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, binary, eventually, shared_machine};

struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    told: String,
    dir: PathBuf,
}

impl Demo {
    fn start(name: &str, flags: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("simple-kv-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let mut command = binary();
        command.arg("demo").args(flags).env("TMPDIR", &dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines, told: String::new(), dir }
    }

    /// Listens until a line has `text`, or to the end.
    fn listen(&mut self, text: Option<&str>) {
        for line in self.lines.by_ref() {
            let line = line.expect("text");
            self.told += &format!("{line}\n");
            if text.is_some_and(|text| line.contains(text)) {
                return;
            }
        }
        assert!(text.is_none(), "{text:?} is not told in {}", self.told);
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("a child of ours");
    }

    /// How it ends: its code, and what it says on stderr.
    fn end(&mut self) -> (Option<i32>, String) {
        self.listen(None);
        let mut told = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().expect("a pipe"), &mut told).expect("text");
        (self.child.wait().expect("a child of ours").code(), told)
    }

    /// Where the nodes listen, as it was told.
    fn addresses(&self) -> Vec<String> {
        let named = self.told.lines().filter(|line| line.contains("is process"));
        named.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect()
    }

    /// No node answers any more, and no file is left.
    fn left_nothing(&self) {
        let addresses = self.addresses();
        assert_eq!(addresses.len(), 3, "{}", self.told);
        for address in addresses {
            eventually("the node is gone", PATIENCE, || match TcpStream::connect(&address) {
                Ok(_) => Err(address.clone()),
                Err(_) => Ok(()),
            });
        }
        assert_eq!(fs::read_dir(&self.dir).expect("the directory").count(), 0);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_demo_tells_what_happens_and_leaves_nothing() {
    let _machine = shared_machine();
    let begin = Instant::now();
    let mut demo = Demo::start("demo", &[]);
    let (code, err) = demo.end();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{}", demo.told);
    for says in [
        "They found each other after",
        "cairo> GET greeting       hello",
        "No node reaches another.",
        "amsterdam> INCRBY visits 5    15",
        "berlin> INCRBY visits 7    17",
        "cairo> INCRBY visits 3    13",
        "amsterdam> GET draft          old",
        "The same data on all three",
        "amsterdam> GET visits         25",
        "amsterdam> GET colour         green",
        "amsterdam> GET draft          (nil)",
        "berlin was killed",
        "is deleted.",
    ] {
        assert!(demo.told.contains(says), "{says:?} is not in {}", demo.told);
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "on a machine that does much else, too");
    demo.left_nothing();
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let _machine = shared_machine();
    let mut demo = Demo::start("demo-cut", &[]);
    demo.listen(Some("No node reaches another."));
    demo.interrupt();
    let (code, err) = demo.end();
    assert_eq!(code, Some(1));
    assert!(err.contains("was interrupted; its nodes are stopped"), "{err}");
    demo.left_nothing();
}

#[test]
fn a_demo_that_is_kept_goes_on_until_ctrl_c() {
    let _machine = shared_machine();
    let mut demo = Demo::start("demo-keep", &["--keep"]);
    demo.listen(Some("Ctrl-C ends it all"));
    let address =
        demo.told.lines().find_map(|line| line.split("simple-kv cli ").nth(1)).expect("an address").to_owned();
    let asked = binary().args(["cli", &address, "GET", "visits"]).output().expect("the binary starts");
    assert_eq!(asked.stdout, b"25\n");
    demo.interrupt();
    assert_eq!(demo.end(), (Some(0), String::new()));
    demo.left_nothing();
}
