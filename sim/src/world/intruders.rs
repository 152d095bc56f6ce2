//! Connections of those who are no member and no client. They sit beside the node, as clients do.

use super::net::{End, Packet, Side, StreamId};
use super::{What, World};
use crate::intruder::{self, Intruder, KINDS};
use crate::judge::Hearsay;
use crate::plan::size;

impl World {
    /// Somebody connects to `node` and sends what its kind sends, as far as it goes into a window.
    pub(super) fn intrude(&mut self, node: u64, kind: u64, bytes: u64, ms: u64) {
        let Some(process) = self.machines[size(node)].process else { return };
        let setting = &self.judge.plan().setting;
        let count = size(bytes.min(setting.window_bytes));
        let Intruder { bytes, reads } = intruder::draw(self.judge.plan(), kind, count, self.now_us);
        let stream = self.net.open([End::Intruder { reads }, End::Backlog { process }], [node, node], None);
        // Where there is nothing to prove, some of them are members.
        let is_stranger = kind < KINDS || self.judge.plan().setting.secrets > 0;
        let Some(state) = self.net.get(stream) else { return };
        state.hearsay = Hearsay::of(&bytes).filter(|_| is_stranger);
        let serial = state.serial;
        self.accept(stream, serial);
        if !bytes.is_empty() {
            self.send(stream, 1, Packet::Bytes(bytes));
        }
        self.after_ms(ms, What::Depart { stream, serial });
    }

    /// Looks at what goes towards `side`, if an intruder is there.
    pub(super) fn overhear(&mut self, stream: StreamId, side: Side, packet: &Packet) {
        let Some(state) = self.net.get(stream).filter(|_| side == 0) else { return };
        if let (Some(hearsay), Packet::Bytes(bytes)) = (&mut state.hearsay, packet) {
            self.judge.tells_stranger(state.nodes[1], hearsay, bytes);
        }
    }

    pub(super) fn depart(&mut self, stream: StreamId, serial: u64) {
        let end = self.net.current(stream, serial).map(|stream| stream.ends[0]);
        if matches!(end, Some(End::Intruder { .. })) {
            self.leave(stream, 0, false);
        }
    }
}
