//! One run of a node as an engine drives it: a [`Turn`] whose every step the [`Judge`] sees.
//!
//! An engine calls the same things in the same order as `runtime`: [`begin`](Host::begin), [`input`](Host::input) and
//! events, [`settle`](Host::settle), [`take_dial`](Host::take_dial), then for each [`next_ready`](Host::next_ready)
//! [`output`](Host::output) and [`sent`](Host::sent), [`finished`](Host::finished) and [`gone`](Host::gone), and at the
//! end of the turn [`end`](Host::end).

use kv_core::{AddrId, Close, ConnId, DiskError, DiskWork, Event, FileId, Lane, Mono, Now, ReadAt, Turn};

use crate::judge::{Audience, Judge, RunId, SessionId};
use crate::outcome::Oracle;

/// One run of a node.
#[derive(Debug)]
pub struct Host {
    /// Its name to the judge.
    pub run: RunId,
    /// Which node it is a run of.
    pub node: u64,
    turn: Turn,
    now: Now,
    /// Client connections, by number.
    taps: Vec<Option<Tap>>,
    /// Something was done since the judge last looked.
    is_stale: bool,
    /// It has yet to read its files, or to begin its log; and how many bits of what it read have turned.
    is_loading: bool,
    wrong: u64,
}

/// Where the judge stands in what a client connection is told.
#[derive(Clone, Copy, Debug)]
struct Tap {
    session: SessionId,
    /// Bytes of the unsent output that were judged.
    judged: usize,
}

impl Host {
    /// Starts a run. `alone`: without peers on its command line. `files` are what its disk has, if it has one.
    #[must_use]
    pub fn boot(judge: &mut Judge, node: u64, alone: bool, now: Now, files: Option<&[(FileId, u64)]>) -> Self {
        let run = judge.next_run();
        let mut config = judge.plan().config(node, run.0, alone);
        config.disk = config.disk.filter(|_| files.is_some());
        let mut turn = Turn::new(config, now);
        if let Some(files) = files {
            turn.begin_load(files);
        }
        let is_loading = turn.node().load_progress().is_some();
        judge.booted(run, node, (turn.node(), is_loading), now);
        Self { run, node, turn, now, taps: Vec::new(), is_stale: false, is_loading, wrong: 0 }
    }

    /// Looks whether the node has loaded.
    fn look(&mut self, judge: &mut Judge) {
        if self.is_loading && self.turn.node().load_progress().is_none() {
            self.is_loading = false;
            judge.loaded(self.run, self.turn.node(), self.now, (self.wrong, self.turn.node().damage()));
        }
    }

    /// What the run wants to read of its files next; none once it has loaded.
    #[must_use]
    pub fn next_read(&self) -> Option<ReadAt> {
        self.turn.node().next_read()
    }

    /// Hands in what was read. `wrong`: how many bits of it and of all before it have turned.
    pub fn loaded(&mut self, judge: &mut Judge, read: Result<&[u8], DiskError>, wrong: u64) {
        self.turn.loaded(read);
        self.is_stale = true;
        if let Some(failure) = self.turn.node().load_failure() {
            judge.fail(Oracle::Durability, || format!("run {} does not start: {failure}", self.run.0));
        }
        self.wrong = wrong;
        self.look(judge);
    }

    /// Swaps the work of a lane of the disk out; true if there is some.
    pub fn take_disk(&mut self, judge: &mut Judge, lane: Lane, work: &mut DiskWork) -> bool {
        self.show(judge);
        let takes = self.turn.take_disk(lane, work);
        if takes {
            judge.handed(self.run, lane, work);
        }
        takes
    }

    /// Starts a turn.
    pub fn begin(&mut self, now: Now) {
        self.now = now;
        self.is_stale = true;
        self.turn.begin(now);
    }

    /// A connection was accepted; of a client if it has a session.
    pub fn opened(&mut self, judge: &mut Judge, conn: ConnId, session: Option<SessionId>) {
        let index = conn.0 as usize;
        if self.taps.len() <= index {
            self.taps.resize(index + 1, None);
        }
        self.taps[index] = session.map(|session| Tap { session, judged: 0 });
        if let Some(session) = session {
            judge.session_accepted(session, self.run);
        }
        self.event(judge, Event::Opened { conn });
    }

    /// Tells the node what else happened.
    pub fn event(&mut self, judge: &mut Judge, event: Event) {
        match event {
            Event::Dialed { conn, .. } | Event::Closed { conn } => self.untap(conn),
            Event::DiskDone { lane, ops } => judge.carried_out(self.run, lane, ops),
            Event::DiskFailed { lane, .. } => judge.disk_failed(self.run, lane),
            Event::Opened { .. } | Event::DialFailed { .. } | Event::Tick => {}
        }
        self.turn.event(event);
        self.is_stale = true;
        self.look(judge);
        self.show(judge);
    }

    /// Its memory loses what it holds of a key, and the node does not notice.
    pub fn rot(&mut self, judge: &mut Judge, key: u64) {
        if self.is_loading {
            // It is about to read that key, or has just done so: the judge has yet to look at what it holds.
            return;
        }
        let name = judge.plan().setting.key_name(key);
        self.turn.rot(&name, None);
        judge.rotted(self.run, key);
    }

    /// Hands in bytes that were read from `conn`.
    pub fn input(&mut self, judge: &mut Judge, conn: ConnId, bytes: &[u8]) {
        if let Some(tap) = self.tap(conn) {
            judge.session_received(tap.session, bytes);
        }
        // Twice: of a single piece nothing is made.
        self.turn.expect([(conn, bytes); 2].into_iter());
        self.turn.input(conn, bytes);
        self.is_stale = true;
        self.listen(judge, conn);
        self.show(judge);
    }

    /// Ticks the node if its deadline has passed.
    pub fn settle(&mut self, judge: &mut Judge) {
        self.is_stale |= self.turn.settle();
        self.show(judge);
    }

    /// The next address to dial, and its text.
    pub fn take_dial(&mut self) -> Option<(AddrId, String)> {
        let addr = self.turn.take_dial()?;
        Some((addr, self.turn.node().address(addr).unwrap_or_default().to_owned()))
    }

    /// The next connection with something to send or to end.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        self.turn.next_ready()
    }

    /// What is to be written to `conn` now.
    pub fn output(&mut self, judge: &mut Judge, conn: ConnId) -> &[u8] {
        // A late reply may let the next command be taken, whose reply is late and there at once, too.
        while self.listen(judge, conn) {}
        self.turn.output(conn)
    }

    /// Notes that the first `count` bytes of the output were written.
    pub fn sent(&mut self, judge: &mut Judge, conn: ConnId, count: usize) {
        if let Some(tap) = self.taps.get_mut(conn.0 as usize).and_then(Option::as_mut) {
            tap.judged = tap.judged.saturating_sub(count);
            let sent = self.turn.unsent(conn).get(..count).unwrap_or_default();
            judge.told(self.run, tap.session, sent.iter().filter(|byte| **byte == b'\n').count());
        }
        self.turn.sent(conn, count);
        self.is_stale = true;
        self.listen(judge, conn);
    }

    /// The socket of `conn` takes bytes once more.
    pub fn writable(&mut self, conn: ConnId) {
        self.turn.writable(conn);
    }

    /// Whether `conn` is a client's.
    #[must_use]
    pub fn is_client(&self, conn: ConnId) -> bool {
        self.tap(conn).is_some()
    }

    /// Whether `conn` should be read.
    #[must_use]
    pub fn wants_read(&self, conn: ConnId) -> bool {
        self.turn.wants_read(conn)
    }

    /// Whether `conn` is to be closed now; then the engine closes it and calls [`gone`](Self::gone).
    #[must_use]
    pub fn finished(&self, conn: ConnId) -> Option<Close> {
        self.turn.finished(conn)
    }

    /// Forgets a connection that the engine has closed.
    pub fn gone(&mut self, conn: ConnId) {
        self.untap(conn);
        self.turn.gone(conn);
    }

    /// Ends a turn: limits, and whether everybody who asked was answered. `open` are the connections that stand.
    pub fn end(&mut self, judge: &mut Judge, open: impl Iterator<Item = ConnId>) {
        self.show(judge);
        judge.gauges(self.run, &self.turn.node().gauges());
        judge.look_at_activity(self.run, self.turn.node());
        judge.look_at_peers(self.run, self.turn.node());
        judge.conflicts(self.run, self.turn.node());
        judge.scrubbed(self.run, self.turn.node().scrubbed());
        for conn in open {
            let tap = self.tap(conn);
            judge.held(self.run, tap.is_some(), self.turn.held(conn));
            let waits = self.turn.node().is_waiting(conn) || self.turn.is_closing(conn);
            judge.look_at_rest(tap.is_some(), self.turn.held(conn).0, (self.turn.wants_read(conn), waits));
            if let Some(tap) = tap
                && self.turn.wants_read(conn)
            {
                judge.all_answered(tap.session);
            }
            if let Some(tap) = tap
                && self.turn.node().is_waiting(conn)
                && self.turn.held(conn).1 == tap.judged
            {
                judge.waits(tap.session);
            }
        }
    }

    /// When the next turn must begin at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.turn.deadline()
    }

    /// The turn inside, to look at.
    #[must_use]
    pub const fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Shows the judge the replies that came up since it last looked. True if there were some.
    fn listen(&mut self, judge: &mut Judge, conn: ConnId) -> bool {
        let Some(tap) = self.taps.get_mut(conn.0 as usize).and_then(Option::as_mut) else { return false };
        // Late replies come with it.
        self.turn.output(conn);
        // With what is held back: it is judged by the state that it was given from.
        let (from, end) = (tap.judged, self.turn.unsent(conn).len());
        if end <= from {
            return false;
        }
        tap.judged = end;
        let session = tap.session;
        let others = audience(&self.taps, &self.turn, judge, session);
        let news = judge.take_replies(session, &self.turn.unsent(conn)[from..], others);
        self.is_stale = false;
        judge.observe(self.run, self.turn.node(), self.now, Some((session, news)));
        true
    }

    /// Shows the judge the node, if it has not seen it as it is.
    fn show(&mut self, judge: &mut Judge) {
        if std::mem::take(&mut self.is_stale) {
            judge.observe(self.run, self.turn.node(), self.now, None);
        }
    }

    fn tap(&self, conn: ConnId) -> Option<Tap> {
        self.taps.get(conn.0 as usize).copied().flatten()
    }

    fn untap(&mut self, conn: ConnId) {
        if let Some(tap) = self.taps.get_mut(conn.0 as usize) {
            *tap = None;
        }
    }
}

/// Who hears what `session` says, beside itself.
fn audience(taps: &[Option<Tap>], turn: &Turn, judge: &Judge, session: SessionId) -> Audience {
    let mut audience = Audience::default();
    for (conn, tap) in (0..).zip(taps) {
        match tap {
            Some(tap) if tap.session != session && judge.listens(tap.session) => match turn.finished(ConnId(conn)) {
                None => audience.open += 1,
                Some(_) => audience.closing += 1,
            },
            Some(_) | None => {}
        }
    }
    audience
}
