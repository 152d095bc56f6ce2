//! A node with a disk of our own: files as bytes, of which a crash may take what was not synced.

use std::collections::BTreeMap;

use kv_core::{
    Config, ConnId, DiskConfig, DiskError, DiskOp, DiskWork, Event, FileId, FileKind, Fsync, Lane, Mono, Now, PeerAuth,
    Turn, WallMs,
};

const CLIENT: ConnId = ConnId(0);

/// What may wait for the disk.
pub(crate) const QUEUE_BYTES_MAX: usize = 40_000;

/// The files of one data directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<FileId, File>);

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) synced: usize,
}

pub(crate) struct Machine {
    pub(crate) turn: Turn,
    pub(crate) files: Files,
    pub(crate) ms: u64,
    pub(crate) fsync: Fsync,
    /// Operations that are not carried out yet, by lane.
    queued: [Vec<(DiskOp, Vec<u8>)>; 2],
    /// What every operation of the log comes to.
    pub(crate) fails: Option<DiskError>,
    /// What every operation of the snapshot's lane comes to, or those that remove something.
    pub(crate) fails_snapshot: Option<DiskError>,
    pub(crate) fails_removing: bool,
    failed: [bool; 2],
    seed: u64,
    /// The driver waits with carrying operations out: all of them, or those of one lane.
    pub(crate) holds: bool,
    pub(crate) holds_lane: Option<Lane>,
    /// How often something failed.
    pub(crate) failures: u32,
    /// How often a segment was synced.
    pub(crate) syncs: u32,
    /// Names do not get to the disk, of what the lane of snapshots does.
    pub(crate) fails_names: bool,
}

impl Machine {
    pub(crate) fn new(fsync: Fsync) -> Self {
        Self::start(fsync, Files::default(), 1, 1_000)
    }

    /// Starts a node on `files`.
    pub(crate) fn start(fsync: Fsync, files: Files, seed: u64, ms: u64) -> Self {
        Self::start_failing(fsync, files, seed, ms, None)
    }

    fn start_failing(fsync: Fsync, files: Files, seed: u64, ms: u64, fails: Option<DiskError>) -> Self {
        let disk = DiskConfig {
            fsync,
            segment_bytes: 2_000,
            snapshot_bytes_min: 2_000,
            queue_bytes_max: QUEUE_BYTES_MAX as u64,
            ..DiskConfig::default()
        };
        let config = Config { seed: [seed, 2, 3, 4], disk: Some(disk), ..config("a") };
        let turn = Turn::new(config, at(ms));
        let queued = [Vec::new(), Vec::new()];
        let mut machine = Self {
            turn,
            files,
            ms,
            fsync,
            queued,
            fails,
            fails_snapshot: None,
            fails_removing: false,
            failed: [false; 2],
            seed,
            holds: false,
            holds_lane: None,
            failures: 0,
            syncs: 0,
            fails_names: false,
        };
        machine.load();
        if machine.turn.node().load_failure().is_none() {
            machine.turn.event(Event::Opened { conn: CLIENT });
            machine.end_turn();
        }
        machine
    }

    fn load(&mut self) {
        let found: Vec<(FileId, u64)> =
            self.files.0.iter().map(|(file, content)| (*file, content.bytes.len() as u64)).collect();
        self.turn.begin(at(self.ms));
        self.turn.begin_load(&found);
        while let Some(read) = self.turn.node().next_read() {
            let bytes = &self.files.0[&read.file].bytes;
            let from = (read.at as usize).min(bytes.len());
            let to = (from + read.bytes as usize).min(bytes.len());
            self.turn.loaded(Ok(&bytes[from..to]));
        }
    }

    /// The same node, started again on what is in its files.
    pub(crate) fn restarted(mut self) -> Self {
        self.end_turn();
        Self::start(self.fsync, self.files, self.seed + 1, self.ms + 10)
    }

    /// The same node, started again on what is in its files, while the disk fails.
    pub(crate) fn restarted_failing(mut self, error: DiskError) -> Self {
        self.end_turn();
        Self::start_failing(self.fsync, self.files, self.seed + 1, self.ms + 10, Some(error))
    }

    /// The same node, started again after the machine lost what was not synced.
    pub(crate) fn crashed(self) -> Self {
        let mut files = self.files;
        files.0.values_mut().for_each(|file| file.bytes.truncate(file.synced));
        Self::start(self.fsync, files, self.seed + 1, self.ms + 10)
    }

    /// The client comes again, after its connection was ended.
    pub(crate) fn reconnect(&mut self) {
        assert!(self.turn.finished(CLIENT).is_some(), "it was ended");
        self.turn.gone(CLIENT);
        self.turn.event(Event::Opened { conn: CLIENT });
    }

    /// Lets time pass, and turns as the node wants.
    pub(crate) fn wait(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.ms += 10;
            self.turn.begin(at(self.ms));
            self.end_turn();
        }
    }

    /// Sends `text`; what has been answered by the end of the turn.
    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.ms += 1;
        self.turn.begin(at(self.ms));
        self.turn.input(CLIENT, text.as_bytes());
        self.end_turn();
        self.answers()
    }

    pub(crate) fn answers(&mut self) -> String {
        let mut text = Vec::new();
        loop {
            let out = self.turn.output(CLIENT).to_vec();
            if out.is_empty() {
                return String::from_utf8(text).expect("it is text");
            }
            self.turn.sent(CLIENT, out.len());
            text.extend(out);
        }
    }

    pub(crate) fn end_turn(&mut self) {
        self.turn.settle();
        for _ in 0..100 {
            let mut any = false;
            for (index, lane) in [Lane::Log, Lane::Snapshot].into_iter().enumerate() {
                let mut work = DiskWork::default();
                if self.turn.take_disk(lane, &mut work) {
                    any = true;
                    let mut data = &work.data[..];
                    for op in work.ops {
                        let count = if let DiskOp::Append { bytes, .. } = op { bytes as usize } else { 0 };
                        let (front, rest) = data.split_at(count);
                        data = rest;
                        self.queued[index].push((op, front.to_vec()));
                    }
                    assert!(data.is_empty(), "all bytes belong to an operation");
                }
                if !self.holds && self.holds_lane != Some(lane) {
                    self.carry_out(index, lane);
                }
            }
            if !any {
                break;
            }
        }
    }

    fn carry_out(&mut self, index: usize, lane: Lane) {
        let mut done = 0;
        for (op, bytes) in std::mem::take(&mut self.queued[index]) {
            if op == DiskOp::Resume {
                self.failed[index] = false;
            } else if self.failed[index] {
                continue;
            }
            let removes = matches!(op, DiskOp::Remove { .. }) && self.fails_removing;
            let removes = removes || (op == DiskOp::SyncDir && self.fails_names);
            self.syncs += u32::from(lane == Lane::Log && matches!(op, DiskOp::Sync { .. }));
            let fails = match lane {
                Lane::Log => self.fails,
                Lane::Snapshot => self.fails_snapshot.or(removes.then_some(DiskError::Write)),
            };
            if let Some(error) = fails.filter(|_| op != DiskOp::Resume) {
                self.failures += 1;
                if done > 0 {
                    self.turn.event(Event::DiskDone { lane, ops: std::mem::take(&mut done) });
                }
                self.failed[index] = true;
                self.turn.event(Event::DiskFailed { lane, error });
                continue;
            }
            self.files.carry_out(op, &bytes);
            done += 1;
        }
        if done > 0 {
            self.turn.event(Event::DiskDone { lane, ops: done });
        }
    }
}

impl Files {
    fn carry_out(&mut self, op: DiskOp, bytes: &[u8]) {
        match op {
            DiskOp::Append { file, .. } => self.0.entry(file).or_default().bytes.extend_from_slice(bytes),
            DiskOp::Sync { file } => {
                let file = self.0.get_mut(&file).expect("what is synced is there");
                file.synced = file.bytes.len();
            }
            DiskOp::SyncDir | DiskOp::Resume => {}
            DiskOp::Finish { file } => {
                let part = self.0.remove(&FileId::part(file.number)).expect("what is finished is there");
                self.0.insert(file, part);
            }
            DiskOp::Remove { file } => {
                self.0.remove(&file);
            }
        }
    }

    pub(crate) fn count(&self, kind: FileKind) -> usize {
        self.0.keys().filter(|file| file.kind == kind).count()
    }
}

fn config(name: &str) -> Config {
    Config { peer_auth: PeerAuth::Anybody, ..Config::new([1, 2, 3, 4], name, format!("{name}:1")) }
}

pub(crate) fn at(ms: u64) -> Now {
    Now { mono: Mono(0).plus_ms(ms), wall: WallMs(1_700_000_000_000 + ms) }
}

/// A node without a disk, which dials the other.
pub(crate) struct Peer {
    turn: Turn,
    ms: u64,
    link: Option<()>,
    /// It can be dialed, too, and has been.
    pub(crate) is_found: bool,
    back: Option<()>,
    /// Its wall clock is so many milliseconds ahead.
    pub(crate) ahead_ms: u64,
}

/// The other end of the link, at either.
const LINK: ConnId = ConnId(1);
const BACK: ConnId = ConnId(2);

impl Peer {
    pub(crate) fn new(other: &Machine) -> Self {
        let config = Config { seed: [9, 2, 3, 4], peers: vec!["a:1".to_owned()], disk: None, ..config("b") };
        let mut turn = Turn::new(config, at(other.ms));
        turn.event(Event::Opened { conn: CLIENT });
        Self { turn, ms: other.ms, link: None, is_found: false, back: None, ahead_ms: 0 }
    }

    /// Lets time pass at both, which hear each other.
    pub(crate) fn meet(&mut self, other: &mut Machine, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            other.wait(10);
            self.ms = other.ms;
            self.turn.begin(self.now());
            self.turn.settle();
            while let Some(addr) = self.turn.take_dial() {
                assert_eq!(self.link.replace(()), None, "one link is enough");
                other.turn.event(Event::Opened { conn: LINK });
                self.turn.event(Event::Dialed { conn: LINK, addr });
            }
            while let Some(addr) = other.turn.take_dial() {
                if self.is_found && self.back.replace(()).is_none() {
                    self.turn.event(Event::Opened { conn: BACK });
                    other.turn.event(Event::Dialed { conn: BACK, addr });
                } else {
                    other.turn.event(Event::DialFailed { addr });
                }
            }
            for _ in 0..10 {
                hand_over(&mut self.turn, &mut other.turn);
                hand_over(&mut other.turn, &mut self.turn);
            }
            if other.turn.finished(LINK).is_some() {
                other.turn.gone(LINK);
                self.link = None;
                self.turn.event(Event::Closed { conn: LINK });
            }
            other.end_turn();
        }
    }

    fn now(&self) -> Now {
        let now = at(self.ms);
        Now { wall: WallMs(now.wall.0 + self.ahead_ms), ..now }
    }

    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.turn.begin(self.now());
        self.turn.input(CLIENT, text.as_bytes());
        let out = self.turn.output(CLIENT).to_vec();
        self.turn.sent(CLIENT, out.len());
        String::from_utf8(out).expect("it is text")
    }
}

/// What one says to the other on their links is heard.
fn hand_over(one: &mut Turn, other: &mut Turn) {
    for link in [LINK, BACK] {
        loop {
            let out = one.output(link).to_vec();
            if out.is_empty() {
                break;
            }
            one.sent(link, out.len());
            other.input(link, &out);
        }
    }
}
