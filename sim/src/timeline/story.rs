//! Tells what happens as lines, or keeps it for a page.

use std::collections::{BTreeMap, VecDeque};

use kv_core::{Count, Counter, Node, OriginId, Record, Version, WallMs};

use super::event::{Event, What, bounded, printable};
use super::frames::{Frames, value_text};
use crate::judge::EPOCH_MS;
use crate::plan::{Setting, counter_text, key_text};

/// Events, and as many messages, that are kept: with the heartbeats, what a page can show at ease. The oldest are left
/// out first, because what led to a failure is near the end; the starts and stops of runs always stay.
const KEPT_MAX: usize = 80_000;

/// Messages kept that are nothing but heartbeats: there are so many that they would displace all others.
const HEARTBEATS_MAX: usize = 40_000;

/// Lines kept when only the last are wanted: enough to see what led to a failure.
const TAIL_LINES_MAX: usize = 4_096;

/// Characters of a line.
const LINE_CHARS_MAX: usize = 400;

/// Characters of what a client says or reads.
const SAID_CHARS_MAX: usize = 200;

/// What becomes of the story.
#[derive(Debug)]
enum Sink {
    Tail(VecDeque<String>),
    Print,
    Keep(Box<Kept>),
}

/// A story that was kept, each part in order of time.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Starts, stops and standstills of runs.
    pub lives: Vec<(u64, Event)>,
    /// Everything else but messages.
    pub events: VecDeque<(u64, Event)>,
    /// What travelled between nodes, without heartbeats.
    pub messages: VecDeque<Message>,
    /// Messages that carried nothing but heartbeats.
    pub heartbeats: VecDeque<Message>,
    /// Events and messages that were let go, for there were too many.
    pub left_out: u64,
}

/// Bytes that one node sent another at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number, over all messages of a run.
    pub id: u64,
    /// From which node.
    pub from: u64,
    /// To which node.
    pub to: u64,
    /// When it set out.
    pub sent_us: u64,
    /// When it would arrive if nothing held it; `None`: never.
    pub due_us: Option<u64>,
    /// When it was there to be read.
    pub arrived_us: Option<u64>,
    /// What held it.
    pub held: Option<Hold>,
    /// Nobody was there any more to read it.
    pub is_refused: bool,
    /// Its size.
    pub bytes: usize,
    /// The frames that it completed.
    pub frames: Vec<String>,
    /// The keys of the records in it.
    pub keys: Vec<String>,
    /// It carried nothing but heartbeats.
    pub is_heartbeat: bool,
}

/// What holds a message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The path is cut; it is sent again afterwards.
    Cut,
    /// The path stands still.
    Stall,
}

/// A message as it sets out.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The stream, by its serial, and the side that it goes to.
    pub way: (u64, usize),
    /// From which node.
    pub from: u64,
    /// To which node.
    pub to: u64,
    /// `None`: the end of the stream.
    pub bytes: Option<&'a [u8]>,
}

/// The story of a run.
#[derive(Debug)]
pub struct Story {
    sink: Sink,
    /// Keys and counters, and what nodes store them as.
    keys: Vec<String>,
    stored: Vec<Vec<u8>>,
    ways: BTreeMap<(u64, usize), Way>,
    /// By client and direction: what is not a whole line yet.
    lines: BTreeMap<(u64, bool), Vec<u8>>,
    /// By run: its node.
    members: BTreeMap<u64, u64>,
    /// By run: what it held of each key when last looked at.
    held: BTreeMap<u64, Vec<Option<Entry>>>,
    origins: BTreeMap<OriginId, u64>,
    /// Versions in the order in which they were first held.
    versions: BTreeMap<Version, u64>,
    messages: u64,
    agreement: Option<Option<String>>,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Way {
    frames: Frames,
    /// Under way, in order: number and when due.
    queue: VecDeque<(u64, Option<u64>)>,
}

/// What tells two holdings of a key apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    version: Version,
    has_value: bool,
    count: Option<Count>,
}

impl Story {
    fn new(sink: Sink) -> Self {
        Self {
            sink,
            keys: Vec::new(),
            stored: Vec::new(),
            ways: BTreeMap::new(),
            lines: BTreeMap::new(),
            members: BTreeMap::new(),
            held: BTreeMap::new(),
            origins: BTreeMap::new(),
            versions: BTreeMap::new(),
            messages: 0,
            agreement: None,
        }
    }

    /// One of which the last lines stay.
    #[must_use]
    pub fn tail() -> Self {
        Self::new(Sink::Tail(VecDeque::new()))
    }

    /// One that goes to the standard output.
    #[must_use]
    pub fn print() -> Self {
        Self::new(Sink::Print)
    }

    /// One that is kept.
    #[must_use]
    pub fn keep() -> Self {
        Self::new(Sink::Keep(Box::default()))
    }

    /// The last lines, and what was kept.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Option<Box<Kept>>) {
        match self.sink {
            Sink::Tail(lines) => (lines.into(), None),
            Sink::Print => (Vec::new(), None),
            Sink::Keep(kept) => (Vec::new(), Some(kept)),
        }
    }

    /// Learns which keys there are.
    pub fn begin(&mut self, setting: &Setting) {
        self.keys = key_names(setting);
        let counters = (0..setting.counters).map(|counter| setting.counter_name(counter));
        self.stored = (0..setting.keys).map(|key| setting.key_name(key)).chain(counters).collect();
    }

    /// Takes an event.
    pub fn tell(&mut self, at_us: u64, event: Event) {
        match &mut self.sink {
            Sink::Print => println!("{}", line(at_us, &event)),
            Sink::Tail(lines) => {
                if lines.len() == TAIL_LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line(at_us, &event));
            }
            Sink::Keep(kept) => kept.keep(at_us, event),
        }
    }

    /// A message sets out. [`under_way`](Self::under_way) says when it is due.
    pub fn sent(&mut self, at_us: u64, sending: Sending<'_>) {
        let Sending { way, from, to, bytes } = sending;
        let id = self.messages;
        self.messages += 1;
        let mut frames = std::mem::take(&mut self.ways.entry(way).or_default().frames);
        let mut told = frames.take(bytes.unwrap_or_default(), &|version| self.name(version));
        if bytes.is_none() {
            told.frames = vec!["end of stream".to_owned()];
            told.is_heartbeat = false;
        }
        if let Some(state) = self.ways.get_mut(&way) {
            state.frames = frames;
            state.queue.push_back((id, None));
        }
        let len = bytes.map_or(0, <[u8]>::len);
        if let Sink::Keep(kept) = &mut self.sink {
            kept.take_message(Message {
                id,
                from,
                to,
                sent_us: at_us,
                due_us: None,
                arrived_us: None,
                held: None,
                is_refused: false,
                bytes: len,
                frames: told.frames,
                keys: told.keys,
                is_heartbeat: told.is_heartbeat,
            });
            return;
        }
        let text = format!("{len} bytes: {}", told.frames.join("; "));
        self.tell(at_us, What::Sent { message: id, to, text }.on(from));
    }

    /// When the message that set out last on a way is due; `None`: it is lost.
    pub fn under_way(&mut self, way: (u64, usize), due_us: Option<u64>) {
        let Some(queue) = self.ways.get_mut(&way).map(|way| &mut way.queue) else { return };
        let Some((id, due)) = queue.back_mut() else { return };
        *due = due_us;
        if let Sink::Keep(kept) = &mut self.sink
            && let Some(message) = kept.message(*id)
        {
            message.due_us = due_us;
        }
        if due_us.is_none() {
            queue.pop_back();
        }
    }

    /// What was due on a way is held.
    pub fn held(&mut self, at_us: u64, way: (u64, usize), hold: Hold) {
        let Sink::Keep(kept) = &mut self.sink else { return };
        let Some(way) = self.ways.get(&way) else { return };
        for (id, _) in way.queue.iter().take_while(|(_, due_us)| due_us.is_some_and(|due_us| due_us <= at_us)) {
            if let Some(message) = kept.message(*id) {
                message.held = message.held.or(Some(hold));
            }
        }
    }

    /// The next `count` messages of a way, between the nodes `from` and `to`, have arrived.
    pub fn arrived(&mut self, at_us: u64, way: (u64, usize), (from, to): (u64, u64), count: usize, is_refused: bool) {
        for _ in 0..count {
            let Some((id, due_us)) = self.ways.get_mut(&way).and_then(|way| way.queue.pop_front()) else { return };
            if let Sink::Keep(kept) = &mut self.sink {
                if let Some(message) = kept.message(id) {
                    message.arrived_us = Some(at_us);
                    message.is_refused = is_refused;
                }
                continue;
            }
            let late_us = at_us - due_us.unwrap_or(at_us);
            let late = if late_us == 0 { String::new() } else { format!(", held for {} ms", late_us.div_ceil(1_000)) };
            let text = format!("{}{late}", if is_refused { "nobody is there" } else { "arrives" });
            self.tell(at_us, What::Arrived { message: id, from, text }.on(to));
        }
    }

    /// Bytes that a client sends (`replies`: reads) on its `node`.
    pub fn said(&mut self, at_us: u64, (client, node): (u64, u64), replies: bool, bytes: &[u8]) {
        let mut rest = self.lines.remove(&(client, replies)).unwrap_or_default();
        rest.extend_from_slice(bytes);
        let mut lines = rest.split_inclusive(|byte| *byte == b'\n').peekable();
        let mut partial = Vec::new();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() && !line.ends_with(b"\n") {
                partial = line.to_vec();
                break;
            }
            let text = printable(line.trim_ascii_end(), SAID_CHARS_MAX);
            let what = if replies { What::Reply { client, text } } else { What::Command { client, text } };
            self.tell(at_us, what.on(node));
        }
        self.lines.insert((client, replies), partial);
    }

    /// The connection of a client has gone, and what had come of a line with it.
    pub fn hung_up(&mut self, client: u64) {
        self.lines.retain(|(speaker, _), _| *speaker != client);
    }

    /// Looks at what a run holds.
    pub fn look(&mut self, at_us: u64, (run, member): (u64, u64), node: &Node, wall: WallMs) {
        self.origins.insert(node.origin(), run);
        self.members.insert(run, member);
        let mut held = self.held.remove(&run).unwrap_or_default();
        held.resize(self.keys.len(), None);
        for (key, old) in held.iter_mut().enumerate() {
            let record = node.peek(&self.stored[key]);
            let entry = record.as_ref().map(|record| Entry {
                version: record.version,
                has_value: record.value.is_some(),
                count: record.is_counter.then(|| Counter::of(record).count_at(wall)),
            });
            if *old == entry {
                continue;
            }
            let was = std::mem::replace(old, entry);
            let is_same = was.zip(entry).is_some_and(|(was, now)| was.version == now.version && now.count.is_none());
            let text = match (record, entry) {
                (Some(record), Some(entry)) => self.holding(&self.keys[key], &record, entry, is_same),
                _ => format!("nothing of {}", self.keys[key]),
            };
            let next = self.versions.len() as u64;
            let version = entry.map(|entry| *self.versions.entry(entry.version).or_insert(next));
            self.tell(at_us, What::Holds { run, key, version, text }.on(member));
        }
        self.held.insert(run, held);
    }

    /// A sample of whether the survivors agree; told when it changes from agreeing to not or back.
    pub fn sampled(&mut self, at_us: u64, difference: Option<&str>) {
        let is_news = self.agreement.as_ref().is_none_or(|last| last.is_some() != difference.is_some());
        if is_news {
            self.agreement = Some(difference.map(str::to_owned));
            self.tell(at_us, What::Agreement(difference.map(str::to_owned)).everywhere());
        }
    }

    fn holding(&self, key: &str, record: &Record<'_>, entry: Entry, is_same: bool) -> String {
        let name = self.name(record.version);
        match (entry.count, record.value) {
            (Some(Count::Number(sum)), _) => format!("{key}={sum}, counted, {name}"),
            (Some(Count::Absent), _) => format!("{key} counts nothing, {name}"),
            (Some(Count::NoNumber), _) => format!("{key}, no number, {name}"),
            (None, None) if is_same => format!("{key} freed after its deadline, {name}"),
            (None, None) => format!("{key} deleted, {name}"),
            (None, Some(value)) => {
                let ends = record.deadline.map_or_else(String::new, |at| format!(" until {}", time_text(at.0)));
                format!("{key}={}{ends}, {name}", value_text(value))
            }
        }
    }

    /// A version by its time and its writer.
    fn name(&self, version: Version) -> String {
        let (ms, count) = (time_text(version.hlc.ms()), version.hlc.0 & 0xffff);
        match self.origins.get(&version.origin).and_then(|run| Some((run, self.members.get(run)?))) {
            Some((run, node)) => format!("@{ms}.{count} n{node} run {run}"),
            None => format!("@{ms}.{count} {}", version.origin),
        }
    }
}

impl Kept {
    fn keep(&mut self, at_us: u64, event: Event) {
        match event.what {
            What::Turn { .. } | What::Sent { .. } | What::Arrived { .. } => {}
            What::Started { .. } | What::Stopped { .. } | What::Paused { .. } | What::Thawed { .. } => {
                self.lives.push((at_us, event));
            }
            _ => {
                if self.events.len() == KEPT_MAX {
                    self.events.pop_front();
                    self.left_out += 1;
                }
                self.events.push_back((at_us, event));
            }
        }
    }

    fn take_message(&mut self, message: Message) {
        let (messages, most) =
            if message.is_heartbeat { (&mut self.heartbeats, HEARTBEATS_MAX) } else { (&mut self.messages, KEPT_MAX) };
        if messages.len() == most {
            messages.pop_front();
            self.left_out += 1;
        }
        messages.push_back(message);
    }

    fn message(&mut self, id: u64) -> Option<&mut Message> {
        [&mut self.messages, &mut self.heartbeats].into_iter().find_map(|messages| {
            let place = messages.binary_search_by_key(&id, |message| message.id).ok()?;
            messages.get_mut(place)
        })
    }
}

/// The names of the keys and the counters of a plan.
#[must_use]
pub fn key_names(setting: &Setting) -> Vec<String> {
    (0..setting.keys).map(key_text).chain((0..setting.counters).map(counter_text)).collect()
}

fn line(at_us: u64, event: &Event) -> String {
    let text = format!("{:>6}.{:06} {event}", at_us / 1_000_000, at_us % 1_000_000);
    bounded(&text, LINE_CHARS_MAX)
}

/// A wall clock's time in seconds since the run began.
fn time_text(ms: u64) -> String {
    let since_ms = i128::from(ms) - i128::from(EPOCH_MS);
    let sign = if since_ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", since_ms.abs() / 1_000, since_ms.abs() % 1_000)
}
