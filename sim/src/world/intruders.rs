//! Connections of those who are no member and no client. They sit beside the node, as clients do.

use super::net::{End, Packet, StreamId};
use super::{What, World};
use crate::intruder::{self, Intruder};
use crate::plan::size;

impl World {
    /// Somebody connects to `node` and sends what its kind sends, as far as it goes into a window.
    pub(super) fn intrude(&mut self, node: u64, kind: u64, bytes: u64, ms: u64) {
        let Some(process) = self.machines[size(node)].process else { return };
        let setting = &self.judge.plan().setting;
        let count = size(bytes.min(setting.window_bytes));
        let Intruder { bytes, reads } = intruder::draw(self.judge.plan(), kind, count, self.now_us);
        let stream = self.net.open([End::Intruder { reads }, End::Backlog { process }], [node, node], None);
        let serial = self.net.get(stream).map_or(0, |stream| stream.serial);
        self.accept(stream, serial);
        if !bytes.is_empty() {
            self.send(stream, 1, Packet::Bytes(bytes));
        }
        self.after_ms(ms, What::Depart { stream, serial });
    }

    pub(super) fn depart(&mut self, stream: StreamId, serial: u64) {
        let end = self.net.current(stream, serial).map(|stream| stream.ends[0]);
        if matches!(end, Some(End::Intruder { .. })) {
            self.leave(stream, 0, false);
        }
    }
}
