//! What a replica writes to its log: every record that it takes, as it came, and each entry that was changed otherwise
//! than by merging a record that is logged.

use crate::counter::Counter;
use crate::disk::frames::emit_replaced;
use crate::record::{Framed, Record, encode};
use crate::replica::Replica;
use crate::version::{Hlc, Version};

impl Replica {
    /// `record` was read. What this run wrote is not told before it is on the disk, where replies wait for that.
    pub(crate) fn note_unsynced_read(&self, record: &Record<'_>) {
        let Some(log) = self.log.as_ref().filter(|log| log.is_always() && log.is_behind()) else { return };
        let is_unsynced = |version: Version| version.origin == self.own && version.hlc > log.own_synced();
        let reads = match record.is_counter {
            true => Counter::of(record).versions().any(is_unsynced),
            false => is_unsynced(record.version),
        };
        if reads {
            self.unsynced_read.set(true);
        }
    }

    /// A record of another's stream was taken, which came as `bytes`.
    pub(crate) fn log_streamed(&mut self, record: &Record<'_>, bytes: &[u8]) {
        let Some(log) = &mut self.log else { return };
        log.push(bytes);
        // What is folded is joined by the ledgers of the moment.
        if record.is_counter && !Counter::of(record).folds.is_empty() {
            self.log_replaced(record.key);
        }
    }

    /// A record that is part of no stream was taken.
    pub(crate) fn log_unstreamed(&mut self, record: &Record<'_>) {
        let Some(log) = &mut self.log else { return };
        if record.is_counter {
            // Which of its parts are news is a matter of the moment, too.
            return self.log_replaced(record.key);
        }
        log.emit(|out| encode(&Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record: *record }, out));
    }

    /// What stands under `key` was put there otherwise.
    pub(crate) fn log_replaced(&mut self, key: &[u8]) {
        let Self { store, log, .. } = self;
        if let Some(log) = log {
            let stands = store.get(key);
            log.emit(|out| emit_replaced(key, stands.as_ref(), out));
        }
    }
}
