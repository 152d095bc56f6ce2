//! Nodes as processes, clients as sockets, and waiting for a condition instead of for a while.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by tests that run beside others.
pub(crate) fn shared_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Held by tests that measure times, or that load the machine: they run alone.
pub(crate) fn quiet_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Looks until `check` gives something, or fails with what it complained of last.
pub(crate) fn eventually<T>(what: &str, within: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(complaint) => assert!(begin.elapsed() < within, "{what}: not within {within:?}: {complaint}"),
        }
        look_again();
    }
}

/// Lets a moment pass before the next look at a condition.
pub(crate) fn look_again() {
    thread::sleep(LOOK_AGAIN);
}

/// A port that nobody listens on, never given twice by one process. Below those that the system gives to outgoing
/// connections, so that no client of another test can hold it by the time that a node binds it.
pub(crate) fn free_port() -> u16 {
    const FROM: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that run side by side start far from each other.
        let offset = std::process::id().wrapping_mul(257).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FROM + offset % COUNT).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// By which all nodes of all tests get more threads: `.ci/run` has them run so, too.
const THREADS: &str = "SIMPLE_KV_THREADS";

/// The command that starts a node, without anything else that this process's environment would add.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simple-kv"));
    command.env_clear().envs(env::var_os(THREADS).map(|threads| (THREADS, threads))).stdin(Stdio::null());
    command
}

/// A terminal: the end that sees what is printed, and the one to print on.
pub(crate) fn terminal() -> (File, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).expect("a terminal");
    unlockpt(&controller).expect("a terminal");
    let name = ptsname(&controller, Vec::new()).expect("a terminal").into_string().expect("a name");
    (File::from(controller), OpenOptions::new().read(true).write(true).open(name).expect("a terminal"))
}

/// A node in a process of its own; killed when dropped.
pub(crate) struct Node {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Node {
    /// Starts a node and waits until it listens. Its log is JSON.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a node with `peers` (ports) on a given port, as one does on one machine.
    pub(crate) fn join(port: u16, peers: &[u16], flags: &[&str]) -> Self {
        let peers: Vec<String> = peers.iter().map(|peer| format!("localhost:{peer}")).collect();
        let (port, peers) = (port.to_string(), peers.join(","));
        let mut arguments = vec![port.as_str()];
        if !peers.is_empty() {
            arguments.push(&peers);
        }
        arguments.extend(flags);
        Self::start(&arguments)
    }

    /// Starts what `command` says, which must come to a node that logs to stderr.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.env("SIMPLE_KV_LOG_FORMAT", "json").stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                kept.lock().expect("no reader panics").push(value);
            }
        });
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut node = Self { child, address: unknown, lines };
        let listening = node.logged("listening", PATIENCE);
        node.address = listening["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        node
    }

    /// The fields of the first log line that says `message`.
    pub(crate) fn logged(&self, message: &str, within: Duration) -> Value {
        eventually(message, within, || {
            let lines = self.lines.lock().expect("no writer panics");
            match lines.iter().find(|line| line["fields"]["message"] == message) {
                Some(line) => Ok(line["fields"].clone()),
                None => Err(format!("the log is {lines:?}")),
            }
        })
    }

    /// The first log line in which `part` stands, as it is.
    pub(crate) fn log_line(&self, part: &str) -> Result<String, String> {
        let lines = self.lines.lock().expect("no writer panics");
        let mut lines_as_text = lines.iter().map(Value::to_string);
        lines_as_text.find(|line| line.contains(part)).ok_or_else(|| format!("the log is {lines:?}"))
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.lines.lock().expect("no writer panics").clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Why it says that clients are not to be sent there, in words for programs; an error if it does not answer.
    pub(crate) fn not_ready(&self) -> std::io::Result<Vec<String>> {
        not_ready(self.address)
    }

    /// Waits until it says that clients may be sent there.
    pub(crate) fn wait_until_ready(&self) {
        eventually("the node is ready", PATIENCE, || match self.not_ready() {
            Ok(why) if why.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// Has the process stand still, and waits until it does.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        eventually("the process stands still", PATIENCE, || {
            let stat = self.proc_file("stat");
            let state = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().next()).map(str::to_owned);
            if state.as_deref() == Some("T") { Ok(()) } else { Err(format!("its state is {state:?}")) }
        });
    }

    /// Waits for the process to end by itself.
    pub(crate) fn exit_status(&mut self, within: Duration) -> ExitStatus {
        eventually("the process ends", within, || match self.child.try_wait().expect("a child of ours") {
            Some(status) => Ok(status),
            None => Err("it still runs".to_owned()),
        })
    }

    /// Ends the process as a power failure would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line of memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Processor time used so far, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        // utime and stime are the 14th and 15th field; the first two end with the name's parenthesis.
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    /// Open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the process is there").count()
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the process is there")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `/readyz` of the node at `address` has for reasons.
pub(crate) fn not_ready(address: SocketAddr) -> std::io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let lost = || std::io::Error::other(format!("it answers {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(lost)?;
    let told: Value = serde_json::from_str(body).map_err(|_| lost())?;
    let reasons = told["reasons"].as_array().ok_or_else(lost)?;
    let words = reasons.iter().map(|reason| reason["why"].as_str().expect("a word").to_owned());
    let words: Vec<String> = words.collect();
    assert_eq!(head.starts_with("HTTP/1.1 200 "), words.is_empty(), "{text}");
    Ok(words)
}

/// A connection that speaks the line dialect.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the node accepts"))
    }

    /// Connects if the node is there.
    pub(crate) fn try_connect(address: SocketAddr) -> Result<Self, String> {
        TcpStream::connect(address).map(Self::over).map_err(|error| error.to_string())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the node takes it");
    }

    /// The next line of reply, without its end.
    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("a reply")
    }

    /// The next line of reply without its end, or why there is none.
    pub(crate) fn try_line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("the node closed the connection".to_owned()),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\n").as_bytes());
        self.line()
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.ask(&format!("SET {key} {value}")), "OK");
    }

    pub(crate) fn stats(&mut self) -> Value {
        serde_json::from_str(&self.ask("STATS")).expect("STATS is one line of JSON")
    }

    /// How long one command takes to be answered.
    pub(crate) fn time(&mut self, command: &str) -> Duration {
        let begin = Instant::now();
        self.ask(command);
        begin.elapsed()
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}
