//! A node that starts on a data directory of fuzzed files: raw bytes, and frames with right checksums.

use kv_core::{Backup, Config, ConnId, DiskConfig, DiskWork, Event, FileId, Item, Lane, Scanner, Turn};

use crate::driver::{Outside, START, config, settle};

const CLIENT: ConnId = ConnId(0);

/// A directory is read in so many pieces at the most.
const READS_MAX: u32 = 1_000;

struct Client(Vec<u8>);

impl Outside for Client {
    fn sent(&mut self, _: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn ended(&mut self, _: ConnId) {}

    fn dial(&mut self, _: kv_core::AddrId) -> Option<ConnId> {
        None
    }
}

/// The files that `input` describes: each a kind, a length and so many bytes, for one that is whole split into bodies.
fn files(mut input: &[u8]) -> Vec<(FileId, Vec<u8>)> {
    let mut files: Vec<(FileId, Vec<u8>)> = Vec::new();
    while let [kind, low, high, rest @ ..] = input {
        let bytes = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, rest) = rest.split_at(bytes);
        input = rest;
        let number = 1 + u32::from(kind >> 4);
        let file = match kind & 3 {
            0 => FileId::log(number),
            1 => FileId::part(number),
            _ => FileId::snapshot(number),
        };
        let content = if kind & 3 == 3 { whole(content, kind & 4 != 0) } else { content.to_vec() };
        if files.iter().all(|(of, _)| *of != file) {
            files.push((file, content));
        }
    }
    files
}

/// A file of these bodies, each with its length before it.
fn whole(mut bodies: &[u8], is_log: bool) -> Vec<u8> {
    let mut backup = Backup::new(0x5a17, "default", "a");
    if is_log {
        backup.begin_log();
    }
    while let [length, rest @ ..] = bodies {
        let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bodies = rest;
        if !body.is_empty() {
            backup.push(body);
        }
    }
    backup.finish();
    backup.take()
}

/// The node starts, or says why it does not, and serves.
pub fn check(input: &[u8]) {
    let files = files(input);
    for (_, content) in &files {
        let mut scanner = Scanner::new();
        scanner.push(content);
        scanner.end();
        while !matches!(scanner.next_item(), Item::End | Item::NoFile | Item::Newer(_)) {}
    }
    let disk = Some(DiskConfig { segment_bytes: 1 << 10, ..DiskConfig::default() });
    let mut turn = Turn::new(Config { disk, ..config("a", &[]) }, START);
    let found: Vec<(FileId, u64)> = files.iter().map(|(file, content)| (*file, content.len() as u64)).collect();
    turn.begin_load(&found);
    let mut reads = 0;
    while let Some(read) = turn.node().next_read() {
        reads += 1;
        assert!(reads < READS_MAX, "it is read over and over: {read:?}");
        let content = &files.iter().find(|(file, _)| *file == read.file).expect("it is one of these").1;
        let from = usize::try_from(read.at).expect("within the file").min(content.len());
        turn.loaded(Ok(&content[from..content.len().min(from + read.bytes as usize)]));
    }
    if turn.node().load_failure().is_some() {
        return;
    }
    let mut work = DiskWork::default();
    for commands in ["", "STATS\nSET k v\nGET k\nINCR n\nDEL k\nSAVE\n"] {
        if commands.is_empty() {
            turn.event(Event::Opened { conn: CLIENT });
        } else {
            turn.input(CLIENT, commands.as_bytes());
        }
        for lane in [Lane::Log, Lane::Snapshot] {
            turn.take_disk(lane, &mut work);
            turn.event(Event::DiskDone { lane, ops: work.ops.len() as u32 });
        }
    }
    let mut client = Client(Vec::new());
    settle(&mut turn, START, &mut client);
    assert!(client.0.ends_with(b"OK\n"), "it serves");
}
