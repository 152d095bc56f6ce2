//! The clocks, read once per turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kv_core::{Mono, Now, WallMs};

/// Both clocks; monotonic time counts from the start of the process.
#[derive(Debug)]
pub(crate) struct Clocks {
    start: Instant,
}

impl Clocks {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        // A machine whose clock stands before 1970 is a node at the epoch: behind everybody, which harms nobody.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(mono), wall: WallMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)) }
    }
}
