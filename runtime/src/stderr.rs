//! stderr behind a thread: a pipe that nobody reads, or a terminal that was stopped with Ctrl-S, holds up that thread
//! and never the event loop.
//!
//! `tracing-appender` does nearly this. But when its queue is full at the end, it prints to stdout, which can block or
//! panic, it does not say in the log how much was lost, and it brings a date library along.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::TermLike;
use tracing::warn;

/// What may wait to be written, some two thousand lines. The thread holds as much again while it writes.
const WAITING_BYTES_MAX: usize = 256 << 10;
/// How long the last lines may take. Whoever reads at all reads them in a millisecond; whoever does not, delays the
/// exit by this.
const FLUSH_MAX: Duration = Duration::from_millis(500);
/// What takes a progress bar out of the way of a line. The bar is drawn again below it.
const CLEAR_LINE: &[u8] = b"\r\x1b[2K";
/// How wide a progress bar may be. Terminals are seldom narrower.
const BAR_COLUMNS: u16 = 80;

/// Takes each `write` whole, as one line, or loses it: it neither waits nor fails. How many were lost so far is logged
/// once lines are taken again. Clones write to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct Stderr(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    idle: Condvar,
    /// The last line of the terminal is a progress bar.
    bar: AtomicBool,
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

    /// From now on the last line is a progress bar, which is drawn by way of this as well.
    pub(crate) fn begin_bar(&self) {
        self.0.bar.store(true, Ordering::Relaxed);
    }

    /// The last line is no progress bar any more.
    pub(crate) fn end_bar(&self) {
        self.0.bar.store(false, Ordering::Relaxed);
    }

    /// Queues the parts together, or loses them.
    fn push(&self, parts: [&[u8]; 2]) {
        let mut queue = self.0.lock();
        if queue.waiting.len() + parts[0].len() + parts[1].len() <= WAITING_BYTES_MAX {
            parts.into_iter().for_each(|part| queue.waiting.extend_from_slice(part));
            self.0.arrived.notify_one();
        } else {
            queue.lost += 1;
        }
    }

    /// Waits until all is written, for a bounded time.
    pub(crate) fn finish(&self) {
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        let _ = self.0.idle.wait_timeout_while(self.0.lock(), FLUSH_MAX, busy);
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let clear = if self.0.bar.load(Ordering::Relaxed) { CLEAR_LINE } else { b"" };
        self.push([clear, line]);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal for progress bars that waits as little as the log does.
impl TermLike for Stderr {
    fn width(&self) -> u16 {
        BAR_COLUMNS
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.moved(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.moved(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.moved(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.moved(columns, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.push([line.as_bytes(), b"\n"]);
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.push([text.as_bytes(), b""]);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.push([CLEAR_LINE, b""]);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Stderr {
    /// A step of the cursor; none, if it is of nothing, which terminals take for one.
    fn moved(&self, by: usize, direction: char) -> io::Result<()> {
        if by > 0 {
            self.push([format!("\x1b[{by}{direction}").as_bytes(), b""]);
        }
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
