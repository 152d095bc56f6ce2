//! `simple-kv cli`: one command, many from stdin, and a prompt on a real terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{Node, PATIENCE, binary, eventually, free_port, shared_machine, terminal};

/// What the tool prints when it is given `input` on stdin, and how it ends.
fn run(arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = binary();
    command.arg("cli").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("a child of ours");
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn one_command_is_answered_as_it_is_or_by_json() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let server = node.address.to_string();
    let check = |arguments: &[&str], code: i32, out: &[u8], err: &str| {
        let (got, printed, told) = run(&[&[server.as_str()], arguments].concat(), b"");
        assert_eq!((got, told.as_str()), (Some(code), err), "{arguments:?}");
        assert_eq!(printed, out, "{arguments:?}: {}", printed.escape_ascii());
    };
    check(&["SET", "k", "two words \x1b[2J"], 0, b"OK\n", "");
    check(&["GET", "k"], 0, b"two words \x1b[2J\n", "");
    check(&["--json", "GET", "k"], 0, b"\"two words \\u001b[2J\"\n", "");
    check(&["GET", "none"], 0, b"\n", "");
    check(&["--json", "GET", "none"], 0, b"null\n", "");
    check(&["HSET", "h", "f", "v", "n", "-1"], 0, b"2\n", "");
    check(&["HMGET", "h", "f", "n"], 0, b"v\n-1\n", "");
    check(&["--json", "HGETALL", "h"], 0, b"{\"f\":\"v\",\"n\":\"-1\"}\n", "");
    check(&["INCR", "k"], 1, b"", "(error) ERR value is not an integer or out of range\n");
    check(&["-n", "3", "GET", "k"], 0, b"\n", "");
    check(
        &["-n", "99", "GET", "k"],
        1,
        b"",
        &format!("simple-kv: {server} refuses the connection: ERR DB index is out of range\n"),
    );
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, _, told) = run(&[&nobody, "PING"], b"");
    assert!(code == Some(1) && told.contains("nobody listens there"), "{told}");
}

#[test]
fn stdin_is_run_line_by_line_and_errors_are_told_at_the_end() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let server = node.address.to_string();
    let (code, out, err) = run(&[&server], b"SET a \"x\\ny\"\n\n  GET a\r\nSET b 1\nINCR b\nQUIT\nGET a\n");
    assert_eq!((code, out.as_slice(), err.as_str()), (Some(0), &b"OK\nx\ny\nOK\n2\n"[..], ""));
    let (code, out, err) = run(&[&server], b"INCR a\nGET \"b\nGET b");
    assert_eq!((code, out.as_slice()), (Some(1), &b"2\n"[..]));
    assert_eq!(
        err,
        "(error) ERR value is not an integer or out of range\n(error) a quote is not closed; nothing was asked\n"
    );
    let many: String = (0..2_000).map(|at| format!("SET key:{at} {at}\n")).collect();
    let (code, out, _) = run(&[&server], many.as_bytes());
    assert_eq!((code, out.len()), (Some(0), 2_000 * 3));
}

/// A prompt on a terminal.
struct Prompt {
    child: Child,
    controller: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Up to where it was looked at.
    seen: usize,
}

impl Prompt {
    fn start(server: &str, state: &PathBuf, prepare: impl FnOnce(&mut Command)) -> Self {
        let (controller, terminal) = terminal();
        let mut command = binary();
        let end = || Stdio::from(terminal.try_clone().expect("a terminal"));
        command.args(["cli", server]).env("TERM", "xterm").env("XDG_STATE_HOME", state);
        command.stdin(end()).stdout(end()).stderr(end());
        prepare(&mut command);
        let child = command.spawn().expect("the binary starts");
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (kept, mut from) = (Arc::clone(&shown), controller.try_clone().expect("a terminal"));
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                kept.lock().expect("nobody panics").extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, controller, shown, seen: 0 }
    }

    fn types(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Waits until `text` is shown behind what was waited for before.
    fn sees(&mut self, text: &str) {
        let end = eventually(text, PATIENCE, || {
            let shown = self.shown.lock().expect("nobody panics");
            let rest = &shown[self.seen..];
            let at = rest.windows(text.len()).position(|window| window == text.as_bytes());
            at.map(|at| self.seen + at + text.len())
                .ok_or_else(|| format!("shown is {:?}", String::from_utf8_lossy(rest)))
        });
        self.seen = end;
    }

    fn asks(&mut self, line: &str, answer: &str) {
        self.types(&format!("{line}\r"));
        self.sees(answer);
        self.sees("> ");
    }

    fn ends(&mut self) -> Option<i32> {
        eventually("it ends", PATIENCE, || match self.child.try_wait().expect("a child of ours") {
            Some(status) => Ok(status.code()),
            None => Err("it still runs".to_owned()),
        })
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own, removed in the end.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("simple-kv-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn history(&self) -> String {
        fs::read_to_string(self.0.join("simple-kv/history")).unwrap_or_default()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_prompt_has_hints_completion_and_a_history_without_passwords() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let (server, state) = (node.address.to_string(), State::new("prompt"));
    let mut prompt = Prompt::start(&server, &state.0, |_| {});
    prompt.sees(&format!("{server}> "));
    prompt.asks("SET greeting \"a\\x1b[2J\"", "OK");
    prompt.asks("GET greeting", "\"a\\x1b[2J\"");
    prompt.types("PERSI\t");
    prompt.sees("PERSIST ");
    prompt.sees("key");
    prompt.types("greeting\r");
    prompt.sees("(integer) 0");
    prompt.sees("> ");
    prompt.asks("SELECT 2", "[2]");
    prompt.asks("MULTI", "[2](TX)");
    prompt.asks("DISCARD", "OK");
    prompt.asks("GET \"x", "a quote is not closed");
    prompt.types("AUTH secret-word\r");
    // Whatever it answers, the next prompt is there when pastes are told from keys again.
    prompt.sees("\x1b[?2004h");
    prompt.asks("PING", "PONG");
    prompt.asks("HELP GET", "Usage: GET key");
    // A line that is left, and one that is not waited for any longer.
    prompt.types("GET half\x03");
    prompt.sees("> ");
    prompt.types("WAIT 5 0\r");
    eventually("the server waits", PATIENCE, || {
        let (_, out, _) = run(&[&server, "INFO", "clients"], b"");
        let text = String::from_utf8_lossy(&out).into_owned();
        if text.contains("blocked_clients:1") { Ok(()) } else { Err(text) }
    });
    prompt.interrupts();
    prompt.sees("not waited for");
    prompt.sees("> ");
    prompt.asks("PING", "PONG");
    prompt.types("\x04");
    assert_eq!(prompt.ends(), Some(0));

    let history = state.history();
    assert!(history.contains("GET greeting") && history.contains("WAIT 5 0"), "{history}");
    assert!(!history.contains("secret-word"), "{history}");
    let file = state.0.join("simple-kv/history");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let mut again = Prompt::start(&server, &state.0, |_| {});
    again.sees("> ");
    again.types("\x1b[A");
    again.sees("PING");
    again.types("\r");
    again.sees("PONG");
    let shown = again.shown.lock().unwrap().clone();
    assert!(!String::from_utf8_lossy(&shown).contains("\x1b[2J"));
}

impl Prompt {
    /// As Ctrl-C does at a terminal in its usual mode, which is not the one of this process.
    fn interrupts(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a child of ours");
    }
}

#[test]
fn a_lost_connection_is_made_anew_and_said() {
    let _machine = shared_machine();
    let port = free_port();
    let mut node = Node::join(port, &[], &[]);
    let (server, state) = (node.address.to_string(), State::new("lost"));
    let mut prompt = Prompt::start(&server, &state.0, |_| {});
    prompt.sees("> ");
    prompt.asks("SELECT 1", "OK");
    prompt.asks("MULTI", "OK");
    node.kill();
    prompt.types("GET k\r");
    prompt.sees("not asked: cannot connect to");
    prompt.sees("not connected> ");
    let again = Node::join(port, &[], &[]);
    prompt.asks("SET k v", "(connected again: the last connection was lost; the transaction is gone)");
    prompt.asks("GET k", "\"v\"");
    let (_, out, _) = run(&[&again.address.to_string(), "-n", "1", "GET", "k"], b"");
    assert_eq!(out, b"v\n", "the database is selected again");
}

#[test]
fn messages_are_shown_until_ctrl_c() {
    let _machine = shared_machine();
    let node = Node::start(&["0"]);
    let (server, state) = (node.address.to_string(), State::new("messages"));
    let mut prompt = Prompt::start(&server, &state.0, |_| {});
    prompt.sees("> ");
    prompt.types("SUBSCRIBE news\r");
    prompt.sees("Listening");
    let (code, out, _) = run(&[&server, "PUBLISH", "news", "a\x1b[2Jb"], b"");
    assert_eq!((code, out.as_slice()), (Some(0), &b"1\n"[..]));
    prompt.sees("\"a\\x1b[2Jb\"");
    prompt.interrupts();
    prompt.sees("Not listening any more");
    prompt.sees("> ");
    prompt.asks("PING", "PONG");
}

/// A server that wants a password of a user.
fn locked() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let (mut got, mut buffer, mut taken) = (Vec::new(), [0; 4_096], 0);
                let mut is_in = false;
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    got.extend_from_slice(&buffer[..count]);
                    // The client asks one thing at a time, in one piece.
                    let said = String::from_utf8_lossy(&got[taken..]).into_owned();
                    taken = got.len();
                    let secret = said.contains("\r\nme\r\n") && said.contains("\r\nsecret\r\n");
                    is_in |= secret;
                    let answer = match () {
                        () if said.contains("AUTH") && !secret => "-WRONGPASS invalid password\r\n",
                        () if !is_in => "-NOAUTH Authentication required.\r\n",
                        () if said.contains("HELLO") => "%1\r\n+proto\r\n:3\r\n",
                        () if said.contains("DOCS") => "%0\r\n",
                        () => "+let in\r\n",
                    };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_password_comes_from_the_environment_or_is_asked_for_unseen() {
    let _machine = shared_machine();
    let server = locked().to_string();
    let with = |password: &str, user: &str| {
        let mut command = binary();
        command.args(["cli", &server, "--user", user, "GET", "k"]).env("SIMPLE_KV_CLI_PASSWORD", password);
        let output = command.output().expect("the binary starts");
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(with("secret", "me"), (Some(0), "let in\n".to_owned(), String::new()));
    let (code, _, told) = with("wrong", "me");
    assert!(code == Some(1) && told.contains("WRONGPASS") && !told.contains("wrong\n"), "{told}");
    let (code, out, told) = run(&[&server, "GET", "k"], b"");
    assert!((code, out.len()) == (Some(1), 0) && told.starts_with("(error) NOAUTH"), "{told}");

    // At the prompt, who one is may be said later.
    let state = State::new("password");
    let mut prompt = Prompt::start(&server, &state.0, |_| {});
    prompt.sees("AUTH [user] password");
    prompt.sees("> ");
    prompt.asks("GET k", "NOAUTH");
    prompt.asks("AUTH me secret", "let in");
    prompt.asks("GET k", "let in");
}
