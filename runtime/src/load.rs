//! Loading what the data directory holds, beside serving those who want to know how far it is.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget};
use kv_core::{DiskError, FileId, Mono, ReadAt, Turn};
use rustix::fs::{Advice, fadvise};
use tracing::{error, info};

use crate::clock::Clocks;
use crate::directory::{self, DataDirectory};
use crate::failure::Failure;
use crate::progress;
use crate::stderr::Stderr;

/// How long the sockets may wait for it in each turn.
const SLICE_MS: u64 = 4;
/// How far the system reads ahead of what is merged.
const AHEAD_BYTES: u64 = 8 << 20;
/// How often a bar is drawn anew.
const BAR_HZ: u8 = 10;
/// Between two lines of progress.
const TELL_MS: u64 = 1_000;

/// A load that is under way.
#[derive(Debug)]
pub(crate) struct Loader {
    directory: PathBuf,
    files: usize,
    open: Option<(FileId, File)>,
    buffer: Vec<u8>,
    began: Mono,
    told: Mono,
    /// On a terminal, instead of lines. Dropped, it is gone from there.
    bar: Option<Bar>,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    terminal: Stderr,
}

/// Whether there is more to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loading {
    More,
    Over,
}

impl Loader {
    /// Tells the node which files there are. On a `terminal` progress is a bar.
    pub(crate) fn start(
        directory: &DataDirectory,
        terminal: Option<Stderr>,
        turn: &mut Turn,
        now: Mono,
    ) -> Result<Self, Failure> {
        let files = directory::list(directory.path())?;
        turn.begin_load(&files);
        let bar = terminal.filter(|_| !files.is_empty()).map(|terminal| {
            terminal.begin_bar();
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), BAR_HZ);
            Bar { bar: progress::bar("loading", 0, target), terminal }
        });
        Ok(Self {
            directory: directory.path().to_owned(),
            files: files.len(),
            open: None,
            buffer: Vec::new(),
            began: now,
            told: now,
            bar,
        })
    }

    /// Reads what the node asks for, for some milliseconds.
    pub(crate) fn go_on(&mut self, turn: &mut Turn, clocks: &Clocks) -> Loading {
        let until = clocks.now().mono.plus_ms(SLICE_MS);
        while let Some(wanted) = turn.node().next_read() {
            let count = self.read(wanted);
            turn.loaded(count.map(|count| &self.buffer[..count]));
            let now = clocks.now().mono;
            if now >= until {
                self.tell(turn, now);
                return Loading::More;
            }
        }
        self.bar = None;
        if turn.node().load_failure().is_none() {
            info!(files = self.files, ms = clocks.now().mono.ms_since(self.began), "loaded");
        }
        Loading::Over
    }

    /// Reads into the buffer; how much there was.
    fn read(&mut self, wanted: ReadAt) -> Result<usize, DiskError> {
        self.buffer.resize(wanted.bytes as usize, 0);
        self.try_read(wanted).map_err(|error| {
            error!(file = %wanted.file, at = wanted.at, %error, "cannot read what was written");
            DiskError::Read
        })
    }

    fn try_read(&mut self, wanted: ReadAt) -> io::Result<usize> {
        let file = match &self.open {
            Some((id, file)) if *id == wanted.file => file,
            _ => {
                let file = File::open(self.directory.join(wanted.file.to_string()))?;
                &self.open.insert((wanted.file, file)).1
            }
        };
        // So that merging seldom waits for the disk. Whether the system takes the hint changes nothing else.
        let _ = fadvise(file, wanted.at, NonZeroU64::new(AHEAD_BYTES), Advice::WillNeed);
        directory::read_at(file, &mut self.buffer, wanted.at)
    }

    fn tell(&mut self, turn: &Turn, now: Mono) {
        let Some((done, all)) = turn.node().load_progress() else { return };
        if let Some(Bar { bar, .. }) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
        } else if now >= self.told.plus_ms(TELL_MS) {
            self.told = now;
            info!(percent = done * 100 / all.max(1), done = %HumanBytes(done), of = %HumanBytes(all), "loading");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.terminal.end_bar();
    }
}
