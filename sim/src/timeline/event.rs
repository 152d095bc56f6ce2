//! What happens in a run, as data and as a line of text.

use std::fmt;

/// Something that happened, and on which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose lane it belongs to; `None`: everybody's.
    pub node: Option<u64>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field is named by its unit or its type; what needs a word has it on its variant")]
pub enum What {
    /// A run starts; older ones of its node that still run are superseded.
    Started {
        run: u64,
    },
    /// A run and its memory are gone.
    Stopped {
        run: u64,
        silent: bool,
    },
    Paused {
        run: u64,
    },
    Thawed {
        run: u64,
    },
    /// A run has a turn, and why. Told as text only.
    Turn {
        run: u64,
        why: String,
    },
    /// A run dials, is connected, closes.
    Link {
        run: u64,
        text: String,
    },
    /// Bytes set out for another node.
    Sent {
        message: u64,
        to: u64,
        text: String,
    },
    /// They are there to be read.
    Arrived {
        message: u64,
        from: u64,
        text: String,
    },
    /// A line that a client sends.
    Command {
        client: u64,
        text: String,
    },
    /// A line that a client reads.
    Reply {
        client: u64,
        text: String,
    },
    /// What a run holds of a key from now on. `version` numbers versions in the order in which they were first held;
    /// `None`: it holds nothing.
    Holds {
        run: u64,
        key: usize,
        version: Option<u64>,
        text: String,
    },
    /// An item of the plan, by its place.
    Item {
        index: usize,
        text: String,
    },
    Heal,
    /// Whether the survivors agree, and what they differ in.
    Agreement(Option<String>),
    Other(String),
}

impl What {
    /// On a node.
    #[must_use]
    pub const fn on(self, node: u64) -> Event {
        Event { node: Some(node), what: self }
    }

    /// On no node in particular.
    #[must_use]
    pub const fn everywhere(self) -> Event {
        Event { node: None, what: self }
    }
}

impl From<String> for Event {
    fn from(text: String) -> Self {
        What::Other(text).everywhere()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            None if matches!(self.what, What::Other(_)) => write!(f, "{}", self.what),
            Some(node) => write!(f, "{:<4}{}", format!("n{node}"), self.what),
            None => write!(f, "--  {}", self.what),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { run } => write!(f, "run {run} starts"),
            Self::Stopped { run, silent: false } => write!(f, "run {run} stops"),
            Self::Stopped { run, silent: true } => write!(f, "run {run} stops, and its machine with it"),
            Self::Paused { run } => write!(f, "run {run} stands still"),
            Self::Thawed { run } => write!(f, "run {run} goes on"),
            Self::Turn { run, why } => write!(f, "run {run} {why}"),
            Self::Link { run, text } => write!(f, "run {run} {text}"),
            Self::Sent { message, to, text } => write!(f, "-> n{to} #{message} {text}"),
            Self::Arrived { message, from, text } => write!(f, "<- n{from} #{message} {text}"),
            Self::Command { client, text } => write!(f, "client {client} says {text}"),
            Self::Reply { client, text } => write!(f, "client {client} reads {text}"),
            Self::Holds { run, text, .. } => write!(f, "run {run} holds {text}"),
            Self::Item { text, .. } => write!(f, "plan: {text}"),
            Self::Heal => write!(f, "heal"),
            Self::Agreement(None) => write!(f, "survivors agree"),
            Self::Agreement(Some(difference)) => write!(f, "survivors differ: {difference}"),
            Self::Other(text) => write!(f, "{text}"),
        }
    }
}

/// At most `chars` characters of a text, and a mark if there were more.
pub(super) fn bounded(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Bytes as printable text, at most `chars` characters of it.
pub(super) fn printable(bytes: &[u8], chars: usize) -> String {
    bounded(&bytes[..bytes.len().min(chars + 1)].escape_ascii().to_string(), chars)
}
