//! What a service manager gives to a node, and is told by it, without one: its sockets are the tests' own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::durable::Data;
use crate::harness::{Client, Node, PATIENCE, binary, eventually, free_port, shared_machine};

/// Half of it is how often a node says that it turns its loop.
const WATCHDOG: Duration = Duration::from_millis(200);

/// A manager that is told something.
struct Manager {
    socket: UnixDatagram,
    path: Option<PathBuf>,
    /// What came and was not looked at.
    rest: RefCell<VecDeque<String>>,
}

impl Manager {
    /// One that listens at a path.
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("simple-kv-manager-{}-{}", std::process::id(), free_port()));
        Self { socket: UnixDatagram::bind(&path).expect("a socket"), path: Some(path), rest: RefCell::default() }
    }

    /// The lines of the next datagram.
    fn next(&self) -> Option<Vec<String>> {
        let mut text = [0; 4096];
        match self.socket.recv(&mut text) {
            Ok(count) => Some(String::from_utf8_lossy(&text[..count]).lines().map(str::to_owned).collect()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until a line comes that begins so; it, and those that came before it.
    fn wait_for(&self, start: &str) -> (String, Vec<String>) {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        let (begin, mut before) = (Instant::now(), Vec::new());
        loop {
            let mut rest = self.rest.borrow_mut();
            rest.extend(self.next().unwrap_or_default());
            while let Some(line) = rest.pop_front() {
                if line.starts_with(start) {
                    return (line, before);
                }
                before.push(line);
            }
            assert!(begin.elapsed() < PATIENCE, "no {start}, but {before:?}");
        }
    }

    /// Forgets what has come.
    fn skip(&self) {
        self.socket.set_nonblocking(true).expect("a socket");
        while self.next().is_some() {}
        self.socket.set_nonblocking(false).expect("a socket");
    }

    /// A node that is to tell it.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.args(arguments).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.env("NOTIFY_SOCKET", self.path.as_ref().expect("a path"));
        command
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[test]
fn a_manager_is_told_when_the_node_serves_how_it_is_and_that_it_stops() {
    let _machine = shared_machine();
    let manager = Manager::new();
    let data = Data::new();
    let mut node = Node::spawn(manager.command(&["0", "--data-dir", data.text()]));
    let (_, before) = manager.wait_for("READY=1");
    assert!(before.iter().all(|line| !line.starts_with("STATUS=ready")), "{before:?}");
    assert_eq!(node.client().ask("SET key value"), "OK", "it serves by then");
    manager.wait_for("STATUS=ready");
    manager.wait_for("WATCHDOG=1");
    node.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    let (since_boot, _) = manager.wait_for("MONOTONIC_USEC=");
    assert!(since_boot.split_once('=').is_some_and(|(_, usec)| usec.parse::<u64>().is_ok()), "{since_boot}");
    manager.wait_for("READY=1");
    node.signal(Signal::TERM);
    let (_, before) = manager.wait_for("STOPPING=1");
    assert!(before.iter().all(|line| !line.starts_with("STATUS=not ready")), "{before:?}");
    manager.wait_for("STATUS=not ready: it is being stopped");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn a_manager_notices_a_loop_that_stands_still() {
    let _machine = shared_machine();
    let manager = Manager::new();
    let node = Node::spawn(manager.command(&["0"]));
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    node.stop();
    manager.skip();
    manager.socket.set_read_timeout(Some(2 * WATCHDOG)).expect("a socket");
    assert_eq!(manager.next(), None);
    node.signal(Signal::CONT);
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn nobody_is_told_that_the_loop_turns_who_has_not_asked() {
    let _machine = shared_machine();
    let manager = Manager::new();
    let mut command = manager.command(&["0"]);
    command.env("WATCHDOG_PID", "1");
    let mut node = Node::spawn(command);
    manager.wait_for("STATUS=ready");
    node.signal(Signal::TERM);
    let (_, before) = manager.wait_for("STOPPING=1");
    assert!(!before.contains(&"WATCHDOG=1".to_owned()), "{before:?}");
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
}

#[test]
fn a_socket_without_a_path_is_told_too_and_one_that_is_not_there_stops_nothing() {
    let _machine = shared_machine();
    let name = format!("simple-kv-manager-{}-{}", std::process::id(), free_port());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let manager = Manager { socket, path: None, rest: RefCell::default() };
    let mut command = binary();
    command.arg("0").env("NOTIFY_SOCKET", format!("@{name}"));
    let node = Node::spawn(command);
    manager.wait_for("READY=1");
    drop(node);
    let mut command = binary();
    command.arg("0").env("NOTIFY_SOCKET", "/nobody/is/there");
    assert_eq!(Node::spawn(command).client().ask("PING"), "PONG");
}

/// A node that is handed one socket, or two, as its descriptors 3 and 4.
fn activated(names: &str, sockets: &[&TcpListener], arguments: &[&str]) -> Command {
    const SCRIPT: &str = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; \
                          LISTEN_PID=$$ LISTEN_FDS=$1 LISTEN_FDNAMES=$2; export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; \
                          shift 2; exec \"$@\"";
    let handed = |at: usize| match sockets.get(at) {
        Some(socket) => Stdio::from(OwnedFd::from(socket.try_clone().expect("a socket"))),
        None => Stdio::null(),
    };
    let mut command = Command::new("/bin/sh");
    command.env_clear().args(["-c", SCRIPT, "sh", &sockets.len().to_string(), names]);
    command.arg(env!("CARGO_BIN_EXE_simple-kv")).args(arguments).stdin(handed(0)).stdout(handed(1));
    command
}

fn listener(address: &str) -> TcpListener {
    TcpListener::bind((address, 0)).expect("a socket")
}

#[test]
fn whoever_came_before_the_node_or_while_it_is_restarted_waits_in_the_socket_that_it_is_handed() {
    let _machine = shared_machine();
    let socket = listener("127.0.0.1");
    let address = socket.local_addr().expect("an address");
    let mut early = Client::connect(address);
    early.send(b"SET key value\n");
    // Neither the port nor the address count that it is told.
    let mut node = Node::spawn(activated("simple-kv.socket", &[&socket], &["0", "--listen", "::1"]));
    assert_eq!(node.address, address);
    assert_eq!(early.line(), "OK");
    node.signal(Signal::TERM);
    assert_eq!(node.exit_status(PATIENCE).code(), Some(0));
    let mut meanwhile = Client::connect(address);
    meanwhile.send(b"PING\n");
    let _node = Node::spawn(activated("simple-kv.socket", &[&socket], &["0"]));
    assert_eq!(meanwhile.line(), "PONG");
}

#[test]
fn a_socket_that_is_called_peers_is_for_peers_alone() {
    let _machine = shared_machine();
    let sockets = [listener("127.0.0.1"), listener("127.0.0.1")];
    let [clients, peers] = sockets.each_ref().map(|socket| socket.local_addr().expect("an address"));
    let node = Node::spawn(activated("clients:peers", &[&sockets[0], &sockets[1]], &["0"]));
    assert_eq!((node.address, node.client().ask("SET key value").as_str()), (clients, "OK"));
    let mut stranger = Client::connect(peers);
    assert!(stranger.ask("PING").contains("for the other nodes of the cluster"));
    let other = Node::join(0, &[peers.port()], &[]);
    let mut client = other.client();
    eventually("it joins", PATIENCE, || match client.ask("GET key").as_str() {
        "value" => Ok(()),
        told => Err(told.to_owned()),
    });
}

#[test]
fn what_is_handed_in_has_to_be_a_socket_that_may_be_served() {
    let _machine = shared_machine();
    let refused = |mut command: Command| {
        let output = command.output().expect("the shell starts");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        (output.status.code(), text)
    };
    let open = listener("0.0.0.0");
    let (code, says) = refused(activated("x", &[&open], &["0"]));
    assert!(code == Some(2) && says.contains("--listen 0.0.0.0 would let everybody"), "{says}");
    let closed = listener("127.0.0.1");
    let (code, says) = refused(activated("peers:x", &[&open, &closed], &["0"]));
    assert!(code == Some(2) && says.contains("--peer-listen 0.0.0.0:"), "{says}");
    let mut command = activated("x", &[&closed], &["0"]);
    command.stdin(File::open("/dev/null").expect("it is there"));
    let (code, says) = refused(command);
    assert!(code == Some(1) && says.contains("cannot use a socket that was handed in"), "{says}");
    // One that is meant for another process is left alone.
    let mut command = binary();
    command.arg("0").env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    assert_eq!(Node::spawn(command).client().ask("PING"), "PONG");
}
