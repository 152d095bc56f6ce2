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

    /// Whether what this run flushed is gone here, and would be back after a crash. Until then any reply may tell of
    /// it.
    pub(crate) fn is_flush_unsynced(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_always() && log.is_behind() && self.flushed > log.own_synced())
    }

    /// Elements were looked at, none newer than `newest`, as [`note_unsynced_read`](Self::note_unsynced_read).
    pub(crate) fn note_unsynced_elements(&self, newest: Hlc) {
        let Some(log) = self.log.as_ref().filter(|log| log.is_always() && log.is_behind()) else { return };
        if newest > log.own_synced() {
            self.unsynced_read.set(true);
        }
    }

    /// The newest that this run wrote may be told, by a token or a message: nobody is to rely on what is lost.
    pub(crate) fn note_unsynced_told(&self) {
        if self.log.as_ref().is_some_and(|log| log.is_always() && log.is_behind()) {
            self.unsynced_read.set(true);
        }
    }

    /// A record of another's stream came as `bytes`, and was taken or was no news.
    pub(crate) fn log_streamed(&mut self, framed: &Framed<'_>, is_taken: bool, bytes: &[u8]) {
        let Some(log) = &mut self.log else { return };
        if !is_taken {
            // Whoever reads it again would take it, and it may have been deleted since: only how far its stream came is
            // said, by the mark at the end of the turn.
            self.mark_due = true;
            return;
        }
        log.push(bytes);
        let record = &framed.record;
        // What is folded, or announced again, is joined by the ledgers and the frontier of the moment.
        if record.is_counter && (record.version != framed.stamp || !Counter::of(record).folds.is_empty()) {
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
