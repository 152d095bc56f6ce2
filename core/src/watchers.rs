//! Those who watch keys by HTTP: where in the feed each stands, and what it is told next.
//!
//! A watcher is a place in the [feed](crate::feed), not a queue: who reads slowly costs nothing, and who falls out of
//! the ring is told so, by a `reset`.

use std::collections::BTreeMap;

use crate::boundary::{Action, ConnId, Effects};
use crate::feed::Feed;
use crate::http::events::{self, Why};
use crate::replica::Replica;
use crate::session::Pushed;
use crate::time::{Mono, Now};
use crate::version::OriginId;

/// Watchers at once: each looks at every change.
pub(crate) const WATCHERS_MAX: usize = 1_000;

/// A watcher who is told nothing for so long is told that: what lies between may take a silent connection for dead.
pub(crate) const BEAT_MS: u64 = 15_000;

/// Beats after the last watcher left until the feed is dropped: at least a minute.
const BEATS_KEPT: u32 = 5;

/// Changes that are looked at for one watcher before the others have their turn: some 100 us.
const STEP_CHANGES: usize = 4_096;

/// A chunk is sent once it is so long; the last event in it may be longer.
const CHUNK_BYTES: usize = 16 << 10;

/// All who watch.
#[derive(Debug)]
pub(crate) struct Watchers {
    /// Says of which run a number of the feed is.
    run: OriginId,
    by_conn: BTreeMap<ConnId, Watcher>,
    /// While there are some, and until the feed is dropped.
    beat: Option<Mono>,
    /// Beats without a watcher.
    idle_beats: u32,
    /// How often a watcher was told to begin anew.
    pub(crate) resets: u64,
}

/// What a watcher wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What the keys begin with.
    pub(crate) prefix: Vec<u8>,
    pub(crate) with_values: bool,
    /// The client knows chunks.
    pub(crate) is_chunked: bool,
}

/// One who watches.
#[derive(Debug)]
struct Watcher {
    wish: Wish,
    /// The number of the change that is looked at next.
    next: u64,
    /// It has been woken, and has not been told all since.
    is_woken: bool,
    /// It is to be told something.
    is_beat_due: bool,
    pending: Pushed,
}

impl Watchers {
    pub(crate) const fn new(run: OriginId) -> Self {
        Self { run, by_conn: BTreeMap::new(), beat: None, idle_beats: 0, resets: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_conn.len()
    }

    pub(crate) fn is_watcher(&self, conn: ConnId) -> bool {
        !self.by_conn.is_empty() && self.by_conn.contains_key(&conn)
    }

    /// Has `conn` told from now on, or from behind the event of which it has the id, if all that came since is kept;
    /// false if there is no room.
    pub(crate) fn watch(
        &mut self,
        now: Mono,
        conn: ConnId,
        wish: Wish,
        last_id: Option<&[u8]>,
        (feed, effects): (&mut Feed, &mut Effects),
    ) -> bool {
        if self.by_conn.len() >= WATCHERS_MAX {
            return false;
        }
        feed.keep();
        self.beat.get_or_insert(now.plus_ms(BEAT_MS));
        self.idle_beats = 0;
        let (first, next) = (feed.first(), feed.next());
        let resumed = match last_id.map(|id| events::number_of(id, self.run)) {
            None => Ok(next),
            Some(None) => Err(Why::Unknown),
            Some(Some(number)) if number >= next => Err(Why::Unknown),
            Some(Some(number)) if number + 1 < first => Err(Why::Behind),
            Some(Some(number)) => Ok(number + 1),
        };
        let mut watcher = Watcher {
            wish,
            next: resumed.unwrap_or(next),
            is_woken: true,
            is_beat_due: false,
            pending: Pushed::default(),
        };
        let mut text = events::opening(self.run, watcher.next - 1);
        if let Err(why) = resumed {
            self.resets += 1;
            events::put_reset(why, self.run, watcher.next - 1, &mut text);
        }
        watcher.push(&text);
        self.by_conn.insert(conn, watcher);
        effects.actions.push(Action::Wake { conn });
        true
    }

    /// A connection that has gone watches nothing.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.by_conn.remove(&conn);
    }

    /// There are changes: wakes who has been told all before.
    pub(crate) fn wake(&mut self, effects: &mut Effects) {
        for (conn, watcher) in &mut self.by_conn {
            watcher.wake(*conn, effects);
        }
    }

    /// When [`tick`](Self::tick) is wanted.
    pub(crate) const fn deadline(&self) -> Option<Mono> {
        self.beat
    }

    /// Has those told something who have heard nothing for long, and drops a feed that nobody has needed for long.
    pub(crate) fn tick(&mut self, now: Mono, feed: &mut Feed, effects: &mut Effects) {
        if self.beat.is_none_or(|beat| beat > now) {
            return;
        }
        self.beat = Some(now.plus_ms(BEAT_MS));
        for (conn, watcher) in &mut self.by_conn {
            watcher.is_beat_due = true;
            watcher.wake(*conn, effects);
        }
        self.idle_beats = if self.by_conn.is_empty() { self.idle_beats + 1 } else { 0 };
        if self.idle_beats >= BEATS_KEPT {
            feed.drop_all();
            self.beat = None;
        }
    }

    /// Appends at most `limit` bytes of what `conn` is to be told; true while there is more. None if it watches
    /// nothing.
    pub(crate) fn fill(
        &mut self,
        now: Now,
        conn: ConnId,
        limit: usize,
        replica: &Replica,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        let watcher = self.by_conn.get_mut(&conn)?;
        let (from, end) = (out.len(), out.len() + limit);
        let mut left = STEP_CHANGES;
        loop {
            watcher.pending.send(end - out.len(), out);
            if out.len() >= end || !watcher.pending.is_empty() {
                break;
            }
            self.resets += u64::from(watcher.next < replica.feed.first());
            if !watcher.tell(now, self.run, replica, &mut left) {
                break;
            }
        }
        if out.len() > from {
            replica.note_unsynced_told();
        }
        watcher.is_woken = !watcher.pending.is_empty() || watcher.next < replica.feed.next();
        Some(watcher.is_woken)
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self::new(OriginId(0))
    }
}

impl Watcher {
    fn wake(&mut self, conn: ConnId, effects: &mut Effects) {
        if !std::mem::replace(&mut self.is_woken, true) {
            effects.actions.push(Action::Wake { conn });
        }
    }

    /// Puts what comes next into `pending`, looking at no more than `left` changes; false if there was nothing.
    fn tell(&mut self, now: Now, run: OriginId, replica: &Replica, left: &mut usize) -> bool {
        let (feed, mut text) = (&replica.feed, String::new());
        if self.next < feed.first() {
            self.next = feed.next();
            events::put_reset(Why::Behind, run, self.next - 1, &mut text);
        }
        while let Some(noted) = feed.get(self.next)
            && *left > 0
            && text.len() < CHUNK_BYTES
        {
            events::put(now, noted, (run, self.next), &self.wish, replica, &mut text);
            self.next += 1;
            *left -= 1;
        }
        let is_through = self.next == feed.next();
        if text.is_empty() && is_through && self.is_beat_due {
            events::put_beat(run, self.next - 1, &mut text);
        }
        self.is_beat_due &= text.is_empty();
        self.push(&text);
        !text.is_empty()
    }

    fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let out = self.pending.end();
        if self.wish.is_chunked {
            out.extend_from_slice(format!("{:x}\r\n", text.len()).as_bytes());
        }
        out.extend_from_slice(text.as_bytes());
        if self.wish.is_chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}
