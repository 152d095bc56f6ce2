//! Who may in: real clients, as they come, against a node that is locked.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{Client, Node, binary, quiet_machine, shared_machine};

/// A directory for the files of a test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("simple-kv-access-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    /// Where a file of that name has this text.
    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        path.to_str().expect("text").to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a program of the system says; none where it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let Output { stdout, stderr, .. } = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&[stdout, stderr].concat()).trim().to_owned())
}

#[test]
fn the_clients_of_redis_and_of_http_log_in_as_they_do_elsewhere() {
    let _machine = shared_machine();
    let files = Files::new();
    let node = Node::start(&["0", "--password-file", &files.put("password", "secret\n")]);
    let (port, url) = (node.port().to_string(), format!("http://127.0.0.1:{}", node.port()));
    for (arguments, says) in [
        (&["GET", "k"][..], "NOAUTH Authentication required."),
        (&["-a", "secret", "--no-auth-warning", "SET", "k", "v"], "OK"),
        (&["-3", "-a", "secret", "--no-auth-warning", "GET", "k"], "\"v\""),
        (&["--user", "default", "--pass", "secret", "--no-auth-warning", "ACL", "WHOAMI"], "default"),
        (&["-a", "wrong", "--no-auth-warning", "GET", "k"], "WRONGPASS"),
    ] {
        let arguments = [&["-p", &port], arguments].concat();
        let Some(said) = run("redis-cli", &arguments) else { break };
        assert!(said.contains(says.trim_matches('"')), "{arguments:?}: {said}");
    }
    let key = format!("{url}/v1/kv/k");
    for (arguments, says) in [
        (&["-i", &key][..], "401 Unauthorized"),
        (&["-u", "default:secret", &key], "v"),
        (&["-H", "Authorization: Bearer secret", &key], "v"),
        (&["-i", "-u", "default:wrong", &key], "401 Unauthorized"),
        (&["-u", "default:secret", "-X", "PUT", "-d", "w", "-i", &key], "204 No Content"),
        (&["-u", "default:secret", "-i", &url], "text/html"),
        (&["-i", &format!("{url}/healthz")], "200 OK"),
    ] {
        let Some(said) = run("curl", &[&["-s"], arguments].concat()) else { break };
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let mut client = node.client();
    client.send(b"GET k\nAUTH secret\nGET k\n");
    let log_in = "Error: log in first, by AUTH password or AUTH user password; nothing was changed";
    assert_eq!([client.line(), client.line()], [log_in, "OK"]);
    assert!(!client.line().starts_with("Error"), "it is known");
}

#[test]
fn users_are_kept_in_a_file() {
    let _machine = shared_machine();
    let files = Files::new();
    let path = files.put("users", "user default on >secret ~* &* +@all\nuser ann on >pw ~a* +@read +@connection\n");
    let node = Node::start(&["0", "--acl-file", &path]);
    let mut admin = node.client();
    for (line, says) in [
        ("AUTH secret", "OK"),
        ("ACL SETUSER bob on >hush ~b* +@all", "OK"),
        ("ACL SAVE", "OK"),
        ("ACL SETUSER eve on nopass", "OK"),
        ("ACL LOAD", "OK"),
        ("ACL GETUSER eve", "(none)"),
    ] {
        admin.send(format!("{line}\n").as_bytes());
        assert_eq!(admin.line(), says, "{line}");
    }
    let saved = fs::read_to_string(&path).expect("the file");
    assert!(!saved.contains("secret") && !saved.contains("hush") && saved.lines().count() == 3, "{saved}");
    fs::write(&path, format!("{saved}user eve on +nope\n")).expect("the file");
    admin.send(b"ACL LOAD\n");
    let told = admin.line();
    assert!(told.contains("line 4: a rule of the user 'eve' is none"), "{told}");
    drop(node);
    let node = Node::start(&["0", "--acl-file", &files.put("users", &saved)]);
    let mut bob = node.client();
    bob.send(b"AUTH bob hush\nSET b 1\nSET a 1\nACL WHOAMI\n");
    assert_eq!([bob.line(), bob.line()], ["OK", "OK"]);
    assert_eq!(bob.line(), "Error: this user may not do that to the key 'a'; nothing was changed");
    assert_eq!(bob.line(), "bob");
}

#[test]
fn nobody_waits_for_the_passwords_of_others() {
    let _machine = quiet_machine();
    let files = Files::new();
    let node = Node::start(&["0", "--password-file", &files.put("password", "secret")]);
    let mut known = node.client();
    known.send(b"AUTH secret\n");
    assert_eq!(known.line(), "OK");
    // As many as are computed for one address, each some milliseconds of a processor.
    let mut guessing: Vec<Client> = (0..16).map(|_| node.client()).collect();
    for (at, client) in guessing.iter_mut().enumerate() {
        client.send(format!("AUTH wrong{at}\n").as_bytes());
    }
    // The last of them is answered behind all others; this one is not.
    let (mut answered, mut last) = (0, guessing.pop().expect("one"));
    last.socket().set_nonblocking(true).expect("a socket");
    while last.socket().peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        known.send(b"SET k v\n");
        assert_eq!(known.line(), "OK");
        answered += 1;
    }
    assert!(answered > 16, "{answered} answers while passwords were tried");
}

#[test]
fn a_node_that_everybody_reaches_is_locked_or_told_not_to_be() {
    let _machine = shared_machine();
    let files = Files::new();
    let (password, nobody) = (files.put("password", "secret"), files.put("users", "user ann on >pw +@all ~*\n"));
    let open = files.put("open", "user default on nopass ~* +@all\n");
    for arguments in [&["--password-file", password.as_str()][..], &["--acl-file", &nobody]] {
        let node = Node::start(&[&["0", "--listen", "0.0.0.0"], arguments].concat());
        let mut client = Client::connect(([127, 0, 0, 1], node.port()).into());
        client.send(b"GET k\n");
        assert!(client.line().starts_with("Error: log in first"));
    }
    for (arguments, says) in [
        (&["--listen", "0.0.0.0"][..], "give --password-file or --acl-file"),
        (&["--listen", "0.0.0.0", "--acl-file", &open], "give --password-file or --acl-file"),
        (&["--password-file", &password, "--acl-file", &open], "cannot be used with"),
        (&["--password-file", "/nowhere/password"], "cannot read the secret in /nowhere/password"),
        (&["--acl-file", &files.put("wrong", "user ann on +nope\n")], "line 1: a rule of the user 'ann' is none"),
    ] {
        let output = binary().arg("0").args(arguments).output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    let mut command = binary();
    command.args(["0"]).env("SIMPLE_KV_PASSWORD", "secret");
    let node = Node::spawn(command);
    let mut client = node.client();
    client.send(b"GET k\nAUTH secret\n");
    assert!(client.line().starts_with("Error: log in first"));
    assert_eq!(client.line(), "OK");
}
