//! stderr behind a thread: a pipe that nobody reads, or a terminal that was stopped with Ctrl-S, holds up that thread
//! and never the event loop.
//!
//! `tracing-appender` does nearly this. But when its queue is full at the end, it prints to stdout, which can block or
//! panic, it does not say in the log how much was lost, and it brings a date library along.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;

/// What may wait to be written, some two thousand lines. The thread holds as much again while it writes.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// How long the last lines may take. Whoever reads at all reads them in a millisecond; whoever does not, delays the
/// exit by this.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// Takes each `write` whole, as one line, or loses it: it neither waits nor fails. How many were lost so far is logged
/// once lines are taken again. Clones write to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Stderr(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<u8>,
    /// The thread has taken bytes that it has not written yet.
    writing: bool,
    /// Lines that found no room.
    lost: u64,
}

impl Stderr {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        // A descriptor of its own: std's would be locked for as long as a write takes, and a panic waits for that lock.
        Self::over(File::from(io::stderr().as_fd().try_clone_to_owned()?))
    }

    fn over(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let queue = Arc::clone(&shared);
        thread::Builder::new().name("log".into()).spawn(move || queue.write_to(sink))?;
        Ok(Self(shared))
    }

    /// Waits until all is written, for a bounded time.
    pub(crate) fn finish(&self) {
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        let _ = self.0.idle.wait_timeout_while(self.0.lock(), FLUSH_MAX, busy);
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        if queue.waiting.len() + line.len() <= WAITING_BYTES_MAX {
            queue.waiting.extend_from_slice(line);
            self.0.arrived.notify_one();
        } else {
            queue.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics between two changes that belong together.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: writes what arrives, until the process ends.
    fn write_to(&self, mut sink: impl Write) {
        let mut bytes = Vec::new();
        let mut lost_told = 0;
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            if queue.waiting.is_empty() {
                self.idle.notify_all();
            }
            queue = self
                .arrived
                .wait_while(queue, |queue| queue.waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut bytes, &mut queue.waiting);
            queue.writing = true;
            drop(queue);
            // Nobody can be told that the log cannot be written.
            let _ = sink.write_all(&bytes);
            bytes.clear();
            let lost = self.lock().lost;
            if lost > lost_told {
                // This line goes through the queue as well; if it is lost too, the count has grown and is told again.
                warn!(lost, "log lines were lost since the start: nobody took them in time");
                lost_told = lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    use super::*;

    /// Passes on what is written, each time after it was let to.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_and_what_is_lost_is_counted() {
        let (open, gate) = channel();
        let (written_in, written) = channel();
        let mut stderr = Stderr::over(Gate(gate, written_in)).unwrap();
        let line = [b'x'; 1_024];
        let lines = 1_000;
        for _ in 0..lines {
            assert_eq!(stderr.write(&line).unwrap(), line.len());
        }
        let lost = stderr.0.lock().lost;
        let begin = Instant::now();
        stderr.finish();
        assert!((FLUSH_MAX..FLUSH_MAX * 10).contains(&begin.elapsed()), "waits, but not for ever");

        for _ in 0..lines {
            open.send(()).unwrap();
        }
        stderr.finish();
        let bytes: usize = written.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(bytes, (lines - lost as usize) * line.len());
        assert!(lost > 0 && bytes <= 2 * WAITING_BYTES_MAX, "{lost} lost, {bytes} bytes written");
    }
}
