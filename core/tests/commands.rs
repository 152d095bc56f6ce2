//! `core/COMMANDS.md` says what a node says: a page of each command, made of what `HELP` and `COMMAND` answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use kv_core::{Config, ConnId, Event, Mono, Now, Turn, WallMs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/COMMANDS.md");

/// Has the file written anew instead of compared.
const UPDATE: &str = "UPDATE_COMMANDS";

/// As `COMMAND DOCS` names them, with a heading for each, in the order of the file.
const GROUPS: [(&str, &str); 10] = [
    ("string", "Strings and counters"),
    ("generic", "Keys, and copies of them"),
    ("hash", "Hashes"),
    ("set", "Sets"),
    ("transactions", "Transactions"),
    ("pubsub", "Messages"),
    ("connection", "The connection"),
    ("server", "The node and its cluster"),
    ("cluster", "What clients of Redis Cluster say"),
    ("scripting", "What there is of scripts"),
];

const HEAD: &str = "\
# The commands

What `HELP` says of each, on a line of text and to Redis clients alike; replies are shown as a line of text has them.
What differs from Redis is in [REDIS.md](src/wire/REDIS.md).

This file is made of the command table, [src/commands](src/commands/mod.rs), and not written by hand:
[tests/commands.rs](tests/commands.rs) asks a node and compares, and
`UPDATE_COMMANDS=1 cargo test -p kv-core --test commands` writes it anew.
";

/// What is known of one command.
struct Page {
    names: Vec<String>,
    usage: String,
    summary: String,
    detail: Vec<String>,
    example: String,
}

/// A node, and a client of each dialect.
struct Node {
    turn: Turn,
    now: Now,
}

const LINES: ConnId = ConnId(0);
const REDIS: ConnId = ConnId(1);

impl Node {
    fn new() -> Self {
        let config = Config::new([1, 2, 3, 4], "one", "localhost:8080");
        let now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };
        let mut turn = Turn::new(config, now);
        turn.event(Event::Opened { conn: LINES });
        turn.event(Event::Opened { conn: REDIS });
        Self { turn, now }
    }

    fn ask(&mut self, conn: ConnId, request: &str) -> String {
        self.turn.begin(self.now);
        self.turn.input(conn, request.as_bytes());
        self.turn.settle();
        let mut output = Vec::new();
        while let Some(ready) = self.turn.next_ready() {
            assert_eq!(ready, conn, "nobody else has asked");
            loop {
                let sent = self.turn.output(conn).len();
                if sent == 0 {
                    break;
                }
                output.extend_from_slice(self.turn.output(conn));
                self.turn.sent(conn, sent);
            }
        }
        String::from_utf8(output).expect("what is said of commands is text")
    }

    /// The names of all commands, in the order of the table.
    fn names(&mut self) -> Vec<String> {
        let answer = self.ask(REDIS, "*2\r\n$7\r\nCOMMAND\r\n$4\r\nLIST\r\n");
        let names: Vec<String> = answer
            .split("\r\n")
            .skip(1)
            .filter(|part| !part.is_empty() && !part.starts_with('$'))
            .map(str::to_uppercase)
            .collect();
        assert!(answer.starts_with(&format!("*{}\r\n", names.len())), "{answer}");
        names
    }

    fn group(&mut self, name: &str) -> String {
        let answer = self.ask(REDIS, &format!("*3\r\n$7\r\nCOMMAND\r\n$4\r\nDOCS\r\n${}\r\n{name}\r\n", name.len()));
        let (_, group) = answer.split_once("\r\n$5\r\ngroup\r\n").unwrap_or_else(|| panic!("{name}: {answer}"));
        group.split("\r\n").nth(1).expect("a length, then the group").to_owned()
    }

    fn page(&mut self, name: &str) -> Page {
        let help = self.ask(LINES, &format!("HELP {name}\n"));
        let mut lines: Vec<&str> = help.lines().collect();
        assert!(lines.len() >= 4, "{name}: {help}");
        let usage = lines.remove(0).strip_prefix("Usage: ").expect("first is the usage").to_owned();
        let summary = lines.remove(0).to_owned();
        let example =
            lines.pop().and_then(|line| line.strip_prefix("Example: ")).expect("last is an example").to_owned();
        let detail = lines.into_iter().map(str::to_owned).collect();
        Page { names: vec![name.to_owned()], usage, summary, detail, example }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the file is written when that is asked for, by a test and not by a node"
)]
fn the_pages_of_the_commands_are_what_a_node_says() {
    let pages = pages(&mut Node::new());
    if std::env::var_os(UPDATE).is_some() {
        fs::write(FILE, &pages).expect("the file can be written");
        return;
    }
    let kept = fs::read_to_string(FILE).unwrap_or_default();
    let same = pages.lines().zip(kept.lines()).take_while(|(is, was)| is == was).count();
    let (is, was) = (pages.lines().nth(same), kept.lines().nth(same));
    assert!(
        pages == kept,
        "core/COMMANDS.md is not what a node says of its commands, from line {} on:\n{was:?}, but now\n{is:?}\n\
         {UPDATE}=1 cargo test -p kv-core --test commands    writes it anew; look at what has changed",
        same + 1
    );
}

fn pages(node: &mut Node) -> String {
    let mut groups: BTreeMap<String, Vec<Page>> = BTreeMap::new();
    for name in node.names() {
        let page = node.page(&name);
        let group = groups.entry(node.group(&name)).or_default();
        let is_alias = page.usage.split(' ').next() != Some(&name);
        match group.iter_mut().find(|other| is_alias && other.usage == page.usage) {
            Some(other) => other.names.push(name),
            None => group.push(page),
        }
    }
    for group in groups.keys() {
        assert!(GROUPS.iter().any(|(name, _)| name == group), "{group} wants a heading in {}", file!());
    }
    let mut text = String::from(HEAD);
    text.push('\n');
    for (group, title) in GROUPS {
        let links: Vec<String> = groups[group].iter().map(|page| link(&page.names[0])).collect();
        let _ = writeln!(text, "- **{title}**: {}", links.join(" "));
    }
    for (group, title) in GROUPS {
        let _ = writeln!(text, "\n## {title}");
        groups[group].iter().for_each(|page| write_page(page, &mut text));
    }
    text
}

fn link(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}

fn write_page(page: &Page, text: &mut String) {
    let _ = writeln!(text, "\n### {}\n\n    {}\n\n{}\n", page.names[0], page.usage, escaped(&page.summary));
    // What is indented is a table of words.
    let mut is_table = false;
    for line in &page.detail {
        if line.starts_with("  ") != is_table {
            is_table = !is_table;
            text.push_str(match (is_table, text.ends_with("\n\n")) {
                (true, true) => "```\n",
                (true, false) => "\n```\n",
                (false, _) => "```\n\n",
            });
        }
        let _ = if is_table { writeln!(text, "{line}") } else { writeln!(text, "{}", escaped(line)) };
    }
    if is_table {
        text.push_str("```\n");
    }
    if page.names.len() > 1 {
        let _ = writeln!(text, "\nAlso: {}.", page.names[1..].join(", "));
    }
    let _ = writeln!(text, "\nExample: `{}`", page.example);
}

/// What Markdown would take for more than text stands as it is.
fn escaped(line: &str) -> String {
    let mut is_code = false;
    let mut text = String::with_capacity(line.len());
    for letter in line.chars() {
        is_code ^= letter == '`';
        if !is_code && matches!(letter, '*' | '_' | '<' | '[' | ']' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}
