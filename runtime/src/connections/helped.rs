//! What helpers do for connections: their part of reading and writing, where several clients have something in a turn.
//!
//! A connection that a helper has is left alone until it comes back, but for what edges say. Only plain connections of
//! clients are handed over: links have to be written to first, so that what was acknowledged to a client has left for
//! the peers, and TLS has its state here.

use kv_core::{ConnId, Turn};

use super::{Connection, Connections, ReadSide, Transport};
use crate::helpers::{Batch, Helpers, Job, Outcome, Task};

/// Clients that must have something in a turn. For fewer it takes longer to hand it over than to do it.
const CLIENTS_MIN: usize = 4;
/// What one write may have at the most: it is copied. The loop writes what is more.
const WRITE_BYTES_MAX: usize = 16 << 10;

impl Connections {
    /// Takes what helpers have read and written since the last turn. To be called in each before anything is read.
    pub(crate) fn take_done(&mut self, turn: &mut Turn) {
        let mut clients = 0;
        while let Some(batch) = self.helpers.as_mut().and_then(|helpers| helpers.take_done()) {
            match batch.task {
                Task::Read => clients += self.take_read(turn, &batch),
                Task::Write => self.take_written(turn, &batch),
            }
            if let Some(helpers) = &mut self.helpers {
                helpers.give_back(batch);
            }
        }
        let others = self.reads.iter().filter(|conn| self.is_for_helper(turn, **conn)).take(CLIENTS_MIN);
        self.is_shared = self.helpers.is_some() && clients + others.count() >= CLIENTS_MIN;
    }

    /// Whether a helper may read `conn`.
    fn is_for_helper(&self, turn: &Turn, conn: ConnId) -> bool {
        let suits = |connection: &Connection| {
            matches!(connection.transport, Transport::Plain)
                && !(connection.hung_up || connection.broken || connection.is_for_loop || connection.is_read_by_helper)
        };
        !self.input_closed
            && self.slab.get(conn.0 as usize).is_some_and(suits)
            && turn.wants_read(conn)
            && !turn.is_link(conn)
    }

    /// How many have said something and are not to be read once more in this turn.
    fn take_read(&mut self, turn: &mut Turn, batch: &Batch) -> usize {
        let slab = &self.slab;
        let stands = |job: &Job| slab.get(job.conn.0 as usize).is_some_and(|found| found.serial == job.serial);
        let pieces = || batch.pieces().filter(|(job, bytes)| !bytes.is_empty() && stands(job));
        turn.expect(pieces().map(|(job, bytes)| (job.conn, bytes)));
        pieces().for_each(|(job, bytes)| turn.input(job.conn, bytes));
        let mut clients = 0;
        for job in &batch.jobs {
            let Some(connection) = self.slab.get_mut(job.conn.0 as usize).filter(|found| found.serial == job.serial)
            else {
                continue;
            };
            connection.is_read_by_helper = false;
            match job.outcome {
                // As far as it is drained, that was noted when it was handed over: edges may have come since.
                Outcome::WouldBlock | Outcome::Moved { count: 1.., all: true } => {}
                // Left to helpers again, one that always sends much could keep others out of their room for ever.
                Outcome::NotDone | Outcome::Moved { count: 1.., all: false } => {
                    connection.read = ReadSide::Ready;
                    connection.is_for_loop = true;
                }
                // It ends, which is told again.
                Outcome::Moved { count: 0, .. } => {
                    connection.hung_up = true;
                    connection.read = ReadSide::Ready;
                }
                Outcome::Failed => {
                    self.lose(turn, job.conn);
                    continue;
                }
            }
            if connection.read == ReadSide::Ready {
                self.queue_read(job.conn);
            } else {
                clients += usize::from(job.outcome != Outcome::WouldBlock);
            }
        }
        clients
    }

    fn take_written(&mut self, turn: &mut Turn, batch: &Batch) {
        for job in &batch.jobs {
            let Some(connection) = self.slab.get_mut(job.conn.0 as usize).filter(|found| found.serial == job.serial)
            else {
                continue;
            };
            connection.is_written_by_helper = false;
            match job.outcome {
                Outcome::Moved { count, all } => {
                    // If it did not take all, an edge says when it takes more, or has said so.
                    connection.writable |= all;
                    turn.sent(job.conn, count);
                }
                Outcome::WouldBlock | Outcome::NotDone => {}
                Outcome::Failed => {
                    self.lose(turn, job.conn);
                    continue;
                }
            }
            turn.writable(job.conn);
            if connection.read != ReadSide::Drained || turn.is_closing(job.conn) {
                self.again.push(job.conn);
            }
        }
    }

    /// Leaves it to a helper to read `conn`, if that is for one.
    pub(super) fn leave_reading(&mut self, turn: &Turn, conn: ConnId) -> bool {
        if !self.is_shared || !self.is_for_helper(turn, conn) {
            return false;
        }
        let Some(helpers) = self.helpers.as_mut().filter(|helpers| helpers.have_room()) else { return false };
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return false };
        // An edge that comes meanwhile says otherwise.
        connection.read = ReadSide::Drained;
        connection.is_read_by_helper = true;
        helpers.read(conn, connection.serial, &connection.stream);
        true
    }

    /// Leaves it to a helper to write what `conn` has to send, if that is for one.
    pub(super) fn leave_writing(&mut self, turn: &mut Turn, conn: ConnId) -> bool {
        let Some(helpers) = self.helpers.as_mut().filter(|helpers| self.is_shared && helpers.have_room()) else {
            return false;
        };
        let Some(connection) = self.slab.get_mut(conn.0 as usize) else { return false };
        let is_for_one = matches!(connection.transport, Transport::Plain)
            && connection.writable
            && !connection.broken
            && !turn.is_closing(conn)
            && !turn.is_link(conn);
        if !is_for_one {
            return false;
        }
        let (_, unsent) = turn.held(conn);
        if unsent > WRITE_BYTES_MAX {
            return false;
        }
        let output = turn.output(conn);
        if output.is_empty() {
            return false;
        }
        // Of a client that is told much there may be more by now.
        let output = &output[..output.len().min(WRITE_BYTES_MAX)];
        // An edge that comes meanwhile says otherwise, and so does a write that takes all.
        connection.writable = false;
        connection.is_written_by_helper = true;
        helpers.write(conn, connection.serial, &connection.stream, output);
        true
    }

    /// Hands over what was left to helpers.
    pub(super) fn hand_over(&mut self, task: Task) {
        self.helpers.iter_mut().for_each(|helpers| helpers.hand_over(task));
    }

    /// Whether the loop may sleep: if helpers have anything they may be done in a moment, or else they wake it.
    pub(crate) fn let_sleep(&mut self) -> bool {
        self.helpers.as_mut().is_none_or(Helpers::let_sleep)
    }

    pub(crate) fn is_awake(&self) {
        self.helpers.iter().for_each(Helpers::is_awake);
    }
}
