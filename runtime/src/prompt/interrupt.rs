//! Waiting that Ctrl-C, and whoever ends a process, can end.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Tells of the signals that ask a process to end, which then do not end it by themselves.
#[derive(Debug)]
pub(super) struct Interrupt {
    told: Receiver<()>,
    /// Of a wait that nothing ends: nobody tells anything.
    _silent: Option<Sender<()>>,
}

/// The process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interrupted;

impl Interrupt {
    pub(super) fn watch() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (tell, told) = channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                // Fails only when nobody waits any more.
                let _ = tell.send(());
            }
        })?;
        Ok(Self { told, _silent: None })
    }

    /// Signals do what they do anyway, which is to end the process.
    pub(super) fn never() -> Self {
        let (silent, told) = channel();
        Self { told, _silent: Some(silent) }
    }

    /// Lets some time pass.
    pub(super) fn wait(&self, time: Duration) -> Result<(), Interrupted> {
        match self.told.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Interrupted),
        }
    }

    /// Lets time pass without end.
    pub(super) fn wait_for_it(&self) {
        // Either way it is over.
        let _ = self.told.recv();
    }

    /// Looks every `pause` until `look` finds something, at most for `within`.
    pub(super) fn until<T>(
        &self,
        within: Duration,
        pause: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Interrupted> {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(Some(found));
            }
            if begin.elapsed() >= within {
                return Ok(None);
            }
            self.wait(pause)?;
        }
    }
}
