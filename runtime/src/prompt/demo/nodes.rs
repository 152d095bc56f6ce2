//! The processes of a demo, and the directory that they live in. Both go with the [`Stage`], however that goes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::status::{Manner, Stats, ask};
use super::proxy::Proxy;
use crate::client::{Connection, Value};

/// How long a node has for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Directories that are tried before there is none to be had.
const DIRECTORIES_MAX: u32 = 100;
/// How much of a log is shown.
const LOG_BYTES_MAX: usize = 2_000;

/// All that a demo has. Its fields go in this order: first the processes, then what they keep.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) nodes: Vec<Node>,
    pub(super) proxies: Vec<Proxy>,
    dir: TemporaryDirectory,
}

/// A node in a process of its own, which ends with it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: &'static str,
    child: Child,
    address: Option<SocketAddr>,
    log: PathBuf,
}

#[derive(Debug)]
struct TemporaryDirectory(PathBuf);

impl Stage {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { nodes: Vec::new(), proxies: Vec::new(), dir: TemporaryDirectory::make()? })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// Starts the next node. It is reached at its proxy's address, and told of the others'.
    pub(super) fn start(&mut self, name: &'static str) -> io::Result<()> {
        let node = self.spawn(name, self.nodes.len())?;
        self.nodes.push(node);
        Ok(())
    }

    /// Kills a node as a power failure would, and starts it again on what it kept.
    pub(super) fn restart(&mut self, at: usize) -> io::Result<()> {
        self.nodes[at].kill();
        self.nodes[at] = self.spawn(self.nodes[at].name, at)?;
        Ok(())
    }

    fn spawn(&self, name: &'static str, at: usize) -> io::Result<Node> {
        let others = self.proxies.iter().enumerate().filter(|(other, _)| *other != at);
        let peers: Vec<String> = others.map(|(_, proxy)| proxy.address.to_string()).collect();
        let log = self.dir().join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        // What the environment says of a node is not meant for these.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"SIMPLE")) {
            command.env_remove(variable);
        }
        command
            .args(["0", &peers.join(","), "--name", name, "--cluster", "demo", "--log-format", "json"])
            .args(["--advertise", &self.proxies[at].address.to_string(), "--data-dir"])
            .arg(self.dir().join(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            // Ctrl-C at the terminal is for the demo, which ends them in order.
            .process_group(0);
        Ok(Node { name, child: command.spawn()?, address: None, log })
    }
}

impl Node {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// Where it listens, if its log says so by now.
    pub(super) fn look_for_address(&mut self) -> Option<SocketAddr> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut listening = lines.filter(|line| line["fields"]["message"] == "listening");
        self.address = listening.find_map(|line| line["fields"]["address"].as_str()?.parse().ok());
        self.address
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        crate::client::plain(&log[log.len().saturating_sub(LOG_BYTES_MAX)..])
    }

    pub(super) fn ask(&self, words: &[&str]) -> Result<Value, String> {
        let mut connection = Connection::connect(&self.address(), None, ANSWER_WITHIN)
            .map_err(|error| format!("cannot be connected to: {error}"))?;
        connection.greet(None, ANSWER_WITHIN).map_err(|lost| lost.to_string())?;
        connection.ask(words, ANSWER_WITHIN).map_err(|lost| lost.to_string())
    }

    pub(super) fn stats(&self) -> Result<Stats, String> {
        let manner = Manner { login: None, tls: None, within: ANSWER_WITHIN };
        ask(&self.address(), &manner).map(|told| told.stats).map_err(|what| format!("{} {what}", self.name))
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl TemporaryDirectory {
    /// Makes one that only its owner may enter, where nothing was before.
    fn make() -> io::Result<Self> {
        let mut last = io::ErrorKind::AlreadyExists.into();
        for number in 0..DIRECTORIES_MAX {
            let name = format!("simple-kv-demo-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Nobody is there any more to be told.
        let _ = fs::remove_dir_all(&self.0);
    }
}
