use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::value_parser;

use super::*;

/// A file of options while a test runs.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("simple-kv-{}-{}.toml", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Self(path)
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Variables that stand in the environment of every test; a test must not set any.
const SET: &str = "CARGO_PKG_NAME";
const SET_TO: &str = "simple-kv";
const UNSET: &str = "SIMPLE_KV_TESTS_SET_NO_SUCH_VARIABLE";

/// One option of each kind, below and beside the environment.
fn command() -> Command {
    let option = |id: &'static str| Arg::new(id).long(id).default_value("default");
    Command::new("simple-kv")
        .arg(Arg::new("port").default_value("8080").value_parser(value_parser!(u16)))
        .arg(Arg::new("peers").default_value(""))
        .arg(Arg::new("config").long("config").value_parser(value_parser!(PathBuf)))
        .arg(option("unset").env(UNSET))
        .arg(option("set").env(SET))
        .arg(option("two-words").value_parser(["default", "one", "two"]))
        .arg(Arg::new("leaning").long("leaning").requires("leant_on"))
        .arg(Arg::new("leant_on").long("leant-on"))
        .arg(Arg::new("flag").long("flag").action(ArgAction::SetTrue))
        .arg(Arg::new("many").long("many").action(ArgAction::Append).value_delimiter(','))
        .arg(Arg::new("secret").long("secret").hide_env_values(true))
}

fn layered_of(arguments: &[&str]) -> Result<Vec<Setting>, String> {
    let all: Vec<OsString> = std::iter::once("simple-kv").chain(arguments.iter().copied()).map(Into::into).collect();
    layered(&command(), &all).map(|(_, settings)| settings).map_err(|failure| failure.to_string())
}

fn with_file(text: &str, arguments: &[&str]) -> Result<Vec<Setting>, String> {
    let file = Written::new(text);
    layered_of(&[&["--config", file.as_str()], arguments].concat()).map_err(|said| said.replace(file.as_str(), "FILE"))
}

/// The line that `--print-config` has for an option.
fn line(settings: &[Setting], key: &str) -> String {
    let found = settings.iter().find(|setting| setting.key == key);
    let line = found.map(ToString::to_string).unwrap_or_default();
    // A file has another name in every test.
    match line.split_once("file \"") {
        Some((before, after)) => format!("{before}file{}", after.split_once('"').unwrap().1),
        None => line,
    }
}

#[test]
fn each_source_stands_above_those_before_it() {
    let (unset, set) = ("--unset=typed", "--set=typed");
    let of_the_environment = format!("set = \"{SET_TO}\"  # environment {SET}");
    let both = "unset = 'filed'\nset = 'filed'";
    for (text, arguments, key, expected) in [
        ("", &[][..], "unset", "unset = \"default\"  # default"),
        ("unset = 'filed'", &[], "unset", "unset = \"filed\"  # file, line 1"),
        ("", &[], "set", &of_the_environment),
        ("", &[unset], "unset", "unset = \"typed\"  # command line"),
        (both, &[], "set", &of_the_environment),
        (both, &[unset], "unset", "unset = \"typed\"  # command line"),
        ("", &[set], "set", "set = \"typed\"  # command line"),
        (both, &[set], "set", "set = \"typed\"  # command line"),
        ("\nport = 1", &[], "port", "port = 1  # file, line 2"),
        ("port = 1", &["2"], "port", "port = 2  # command line"),
        ("peers = ['a:1', 'b:2']", &["2"], "peers", "peers = \"a:1,b:2\"  # file, line 1"),
        ("peers = 'a:1,b:2'", &["2"], "port", "port = 2  # command line"),
        ("peers = 'a:1'", &["2", "c:3"], "peers", "peers = \"c:3\"  # command line"),
        ("peers = 'a:1'\nport = 1", &[], "port", "port = 1  # file, line 2"),
        ("flag = true", &[], "flag", "flag = true  # file, line 1"),
        ("flag = false", &[], "flag", "flag = false  # file, line 1"),
        ("flag = false", &["--flag"], "flag", "flag = true  # command line"),
        ("flag = true", &["--flag"], "flag", "flag = true  # command line"),
        ("many = ['a', 'b']", &[], "many", "many = [\"a\", \"b\"]  # file, line 1"),
        ("many = 'a,b'", &[], "many", "many = [\"a\", \"b\"]  # file, line 1"),
        ("many = 'a'", &["--many", "b", "--many", "c"], "many", "many = [\"b\", \"c\"]  # command line"),
        ("two_words = 'one'", &[], "two-words", "two-words = \"one\"  # file, line 1"),
        ("unset = 0x10", &[], "unset", "unset = 16  # file, line 1"),
        ("unset = -1", &[], "unset", "unset = -1  # file, line 1"),
        ("unset = '007'", &[], "unset", "unset = \"007\"  # file, line 1"),
        ("unset = '--flag'", &[], "unset", "unset = \"--flag\"  # file, line 1"),
    ] {
        let settings = with_file(text, arguments).unwrap();
        assert_eq!(line(&settings, key), expected, "{text:?} {arguments:?}");
        assert_eq!(settings.len(), command().get_arguments().count() - 1, "the file cannot name another");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    for (text, says) in [
        ("\nport = 65536", "FILE, line 2: invalid value '65536' for '[port]'"),
        ("two-words = 'three'", "FILE, line 1: invalid value 'three' for '--two-words"),
        ("two-words = ['one']", "FILE, line 1: two-words takes one value, not an array"),
        ("flag = 'true'", "FILE, line 1: flag is true or false"),
        ("flag = 1", "FILE, line 1: flag is true or false"),
        ("unset = {a = 1}", "FILE, line 1: unset cannot be of the type table"),
        ("many = [['a']]", "FILE, line 1: many cannot be of the type array"),
        ("unset = 1979-05-27", "FILE, line 1: unset cannot be of the type datetime"),
        ("unset = 'a\\u0000b'", "FILE, line 1: "),
        ("unset = \"a\\u0000b\"", "FILE, line 1: unset cannot have a NUL in it"),
        ("two_word = 'one'", "FILE, line 1: there is no option 'two_word'; did you mean 'two-words'?"),
        ("[many]\nx = 1", "FILE, line 1: many cannot be of the type table"),
        ("zzzzzzzz = 1", "FILE, line 1: there is no option 'zzzzzzzz'"),
        ("config = 'other.toml'", "FILE, line 1: there is no option 'config'"),
        ("help = true", "FILE, line 1: there is no option 'help'"),
        ("two-words = 'one'\ntwo_words = 'two'", "FILE, line 2: two_words is set in line 1 already"),
        ("port = 1\nport = 2", "FILE, line 2: duplicate key"),
        ("port = 1\nunset = ", "FILE, line 2: "),
        ("port 1", "FILE, line 1: "),
    ] {
        let wrong = with_file(text, &[]);
        match says {
            // A literal string has no escapes.
            "FILE, line 1: " if text.contains('\'') => assert!(wrong.is_ok(), "{wrong:?}"),
            _ => {
                let said = wrong.unwrap_err();
                assert!(said.starts_with(says) && !said.contains('\n'), "{text:?}: {said}");
            }
        }
    }
    assert!(!with_file("zzzzzzzz = 1", &[]).unwrap_err().contains("did you mean"));
    // Also where the command line stands above it, so that it is not found out by a later start.
    assert!(with_file("two-words = 'three'", &["--two-words", "one"]).unwrap_err().contains("FILE, line 1"));
    assert!(with_file("", &["--two-words", "three"]).unwrap_err().starts_with("invalid value 'three'"));
    assert!(layered_of(&["--config", "/nonexistent/x"]).unwrap_err().contains("/nonexistent/x"));
    assert!(layered_of(&["--config"]).unwrap_err().contains("--config"));
    let long = with_file(&"#".repeat((1 << 20) + 1), &[]).unwrap_err();
    assert!(long.contains("too long"), "{long}");
}

#[test]
fn options_of_a_file_can_lean_on_each_other_as_typed_ones_can() {
    let leans = "leaning = 'a'\n";
    let said = with_file(leans, &[]).unwrap_err();
    assert!(said.contains("--leant-on") && said.contains("FILE"), "{said}");
    assert!(with_file("leant-on = 'b'\nleaning = 'a'", &[]).is_ok());
    assert!(with_file(leans, &["--leant-on", "b"]).is_ok());
    assert!(with_file("leant-on = 'b'", &["--leaning", "a"]).is_ok());
    assert!(with_file("", &["--leaning", "a"]).is_err());
}

#[test]
fn a_secret_is_not_shown_and_wants_a_private_file() {
    let file = Written::new("secret = 'hush'");
    let arguments = ["--config", file.as_str()];
    let said = layered_of(&arguments).unwrap_err();
    assert!(said.contains("chmod 600") && !said.contains("hush"), "{said}");
    fs::set_permissions(&file.0, Permissions::from_mode(0o600)).unwrap();
    let settings = layered_of(&arguments).unwrap();
    assert_eq!(line(&settings, "secret"), "# secret = (hidden)  # file, line 1");
    assert_eq!(line(&layered_of(&[]).unwrap(), "secret"), "# secret is not set");
}

fn read_of(arguments: &[&str]) -> Configuration {
    let all: Vec<OsString> = std::iter::once("simple-kv").chain(arguments.iter().copied()).map(Into::into).collect();
    read(&all).unwrap()
}

#[test]
fn what_is_printed_is_read_back_as_the_same() {
    let configuration = read_of(&[
        "8081",
        "a:1,[::1]:2",
        "--http-host",
        "x,y",
        "--data-dir",
        "a \"b\"\n\u{7f}#c",
        "--fsync",
        "always",
        "--ring-size",
        "1MiB",
        "--max-clients",
        "5",
        "--strict-recovery",
        "--name",
        "007",
    ]);
    let printed = configuration.to_string();
    let file = Written::new(&printed);
    let again = read_of(&["--config", file.as_str()]);
    let values = |of: &Configuration| of.settings.iter().map(|setting| setting.value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&configuration), "{printed}");
    assert_eq!(again.options.data_dir.as_deref(), Some(Path::new("a \"b\"\n\u{7f}#c")));
    assert_eq!(again.options.peers, configuration.options.peers);
    assert!(printed.contains("max-clients = 5  # command line\n"), "{printed}");
    assert!(printed.contains("# listen is not set\n"), "{printed}");
    // Each option that can be given is there, and no other.
    let command = Options::command();
    for arg in command.get_arguments().filter(|arg| !NOT_IN_A_FILE.contains(&arg.get_id().as_str())) {
        assert!(printed.contains(&format!("{} ", key_of(arg))), "{arg}");
    }
    assert!(!printed.contains("print-config"));
}

#[test]
fn every_option_can_be_given_by_the_environment() {
    let command = Options::command();
    for arg in options_of(&command) {
        let expected = format!("SIMPLE_KV_{}", key_of(arg).replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "{arg}");
    }
}
