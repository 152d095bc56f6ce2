//! The network: directed paths between machines that can be cut, held or slowed, and byte streams over them.
//!
//! A stream is TCP as an application sees it: bytes arrive in order and once, late if the path is cut (they are sent
//! again after the cut), never if an end has gone. A sender holds at most a window of bytes that the other side has not
//! read. A path that is cut hides closes and resets too, so either end may outlive the other.

use std::collections::VecDeque;

use kv_core::ConnId;

use crate::judge::{Hearsay, SessionId};
use crate::plan::{Setting, size};
use crate::rng::{delay_us, keyed, keyed_on, scale};

/// A stream, by its place in [`Net::streams`].
pub(super) type StreamId = usize;

/// One of the two ends of a stream: 0 dialed, 1 accepted.
pub(super) type Side = usize;

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A process, by its place among the processes, and its name for the connection.
    Process {
        process: usize,
        conn: ConnId,
    },
    /// Accepted by the system for a process that stands still.
    Backlog {
        process: usize,
    },
    /// The dialer's, until it hears that the stream stands.
    Dialing,
    Client {
        client: u64,
    },
    /// Somebody's who reads what comes and heeds none of it, or does not even read.
    Intruder {
        reads: bool,
    },
    /// Closed by its holder, or its holder has stopped.
    Gone,
}

/// What travels.
#[derive(Debug)]
pub(super) enum Packet {
    Bytes(Vec<u8>),
    /// The sender closed its end.
    Fin,
}

#[derive(Debug)]
pub(super) struct Stream {
    /// Over all streams ever: random draws are keyed by it.
    pub(super) serial: u64,
    pub(super) ends: [End; 2],
    /// Whose command line it carries, if it is a client's; known for as long as the stream, whoever has left.
    pub(super) session: Option<SessionId>,
    /// The machines of the two ends; a client is on its node's.
    pub(super) nodes: [u64; 2],
    /// By receiving side.
    pub(super) ways: [Way; 2],
    /// Nothing passes any more, and nobody hears of it.
    pub(super) dark: bool,
    /// A bit of what it carried was turned over.
    pub(super) is_garbled: bool,
    /// What the dialer is told, if that began as a peer does, and is none.
    pub(super) hearsay: Option<Hearsay>,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Under way, in order, with the time of arrival.
    pub(super) packets: VecDeque<(u64, Packet)>,
    /// Arrived and not read.
    pub(super) unread: VecDeque<u8>,
    /// Bytes under way or unread.
    pub(super) open: usize,
    /// The sender met a full window and waits for room.
    pub(super) full: bool,
    /// There is room again, and the sender is about to hear of it.
    pub(super) freed: bool,
    /// A read is in the heap.
    pub(super) reading: bool,
    /// The close has arrived, and is heard once all is read.
    pub(super) ended: bool,
    /// A bit of what is sent next arrives wrong.
    pub(super) garbles: bool,
    /// Packets and reads so far.
    sends: u64,
    pub(super) reads: u64,
    free_us: u64,
    last_us: u64,
}

/// State of the path from one machine to another. Counters, because faults overlap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    pub(super) cuts: u64,
    pub(super) stalls: u64,
    pub(super) slow: u64,
    /// Microseconds on top for a KiB.
    pub(super) thin: u64,
}

#[derive(Debug)]
pub(super) struct Net {
    seed: u64,
    setting: Setting,
    pub(super) streams: Vec<Option<Stream>>,
    free: Vec<StreamId>,
    /// Buffers that nobody uses at the moment, empty.
    spare: Vec<Vec<u8>>,
    serials: u64,
    paths: Vec<Path>,
}

impl Net {
    pub(super) fn new(seed: u64, setting: &Setting) -> Self {
        let nodes = size(setting.nodes);
        Self {
            seed,
            setting: setting.clone(),
            streams: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            serials: 0,
            paths: vec![Path::default(); nodes * nodes],
        }
    }

    pub(super) fn open(&mut self, ends: [End; 2], nodes: [u64; 2], session: Option<SessionId>) -> StreamId {
        let stream = Stream {
            serial: self.serials,
            ends,
            session,
            nodes,
            ways: Default::default(),
            dark: false,
            is_garbled: false,
            hearsay: None,
        };
        self.serials += 1;
        if let Some(id) = self.free.pop() {
            self.streams[id] = Some(stream);
            return id;
        }
        self.streams.push(Some(stream));
        self.streams.len() - 1
    }

    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(id)?.as_mut()
    }

    /// The stream, if it is still the one with this serial: events in the heap outlive what they are about.
    pub(super) fn current(&mut self, id: StreamId, serial: u64) -> Option<&mut Stream> {
        self.get(id).filter(|stream| stream.serial == serial)
    }

    /// Forgets a stream that both ends have left.
    pub(super) fn reap(&mut self, id: StreamId) {
        if self.streams[id].as_ref().is_some_and(|stream| stream.ends == [End::Gone, End::Gone]) {
            self.streams[id] = None;
            self.free.push(id);
        }
    }

    /// An empty buffer.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(super) fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }

    /// Moves what has come to the end of its way by now to where it is read; how many packets, and whether bytes among
    /// them met nobody.
    pub(super) fn land(&mut self, now_us: u64, id: StreamId, side: Side) -> (usize, bool) {
        let Self { streams, spare, .. } = self;
        let Some(stream) = streams.get_mut(id).and_then(Option::as_mut) else { return (0, false) };
        let is_gone = stream.ends[side] == End::Gone;
        let way = &mut stream.ways[side];
        let (mut refused, mut count) = (false, 0);
        while let Some((_, packet)) = way.packets.pop_front_if(|(at_us, _)| *at_us <= now_us) {
            count += 1;
            match packet {
                Packet::Bytes(_) if is_gone => refused = true,
                Packet::Bytes(mut bytes) => {
                    way.unread.extend(&bytes);
                    bytes.clear();
                    spare.push(bytes);
                }
                Packet::Fin => way.ended = true,
            }
        }
        (count, refused)
    }

    pub(super) fn path(&mut self, from: u64, to: u64) -> &mut Path {
        &mut self.paths[size(from * self.setting.nodes + to)]
    }

    /// Whether what `from` sends to `to` stands still now.
    pub(super) fn is_held(&mut self, from: u64, to: u64) -> bool {
        let path = self.path(from, to);
        path.cuts + path.stalls > 0
    }

    /// The time that one packet takes; `what` names it.
    pub(super) fn latency_us(&mut self, from: u64, to: u64, what: &[u64]) -> u64 {
        let draw = keyed_on(keyed(self.seed, &[0x1a7, from, to]), what);
        let setting = &self.setting;
        let us = if from == to { 20 } else { setting.latency_us_min }
            + delay_us(draw, if from == to { 50 } else { setting.latency_us_mean });
        us * (1 + self.path(from, to).slow)
    }

    /// Sends a packet towards `side`; its time of arrival, if nothing holds it.
    pub(super) fn send(&mut self, now_us: u64, id: StreamId, side: Side, mut packet: Packet) -> Option<u64> {
        let bandwidth = self.setting.bandwidth_bytes_per_s;
        let (serial, nodes, sends) = {
            let stream = self.get(id)?;
            (stream.serial, stream.nodes, stream.ways[side].sends)
        };
        let (from, to) = (nodes[1 - side], nodes[side]);
        let latency = self.latency_us(from, to, &[serial, side as u64, sends]);
        let (slow, thin) = (1 + self.path(from, to).slow, self.path(from, to).thin);
        let seed = self.seed;
        let stream = self.get(id)?;
        let way = &mut stream.ways[side];
        way.sends += 1;
        let len = if let Packet::Bytes(bytes) = &packet { bytes.len() } else { 0 };
        way.open += len;
        if stream.dark {
            return None;
        }
        if let Packet::Bytes(bytes) = &mut packet
            && std::mem::take(&mut way.garbles)
        {
            flip_bit(bytes, keyed(seed, &[0xb17, serial, side as u64, way.sends]));
            stream.is_garbled = true;
        }
        let carry_us =
            if from == to { 0 } else { (len as u64 * 1_000_000 * slow) / bandwidth.max(1) + len as u64 * thin / 1_024 };
        way.free_us = way.free_us.max(now_us) + carry_us;
        way.last_us = way.last_us.max(way.free_us + latency);
        way.packets.push_back((way.last_us, packet));
        Some(way.last_us)
    }

    /// How many bytes the sender towards `side` may still hand over.
    pub(super) fn room(&mut self, id: StreamId, side: Side) -> usize {
        let window = size(self.setting.window_bytes);
        self.get(id).map_or(0, |stream| window - stream.ways[side].open.min(window))
    }

    /// How many of the unread bytes the receiver at `side` takes at once.
    pub(super) fn chunk(&mut self, id: StreamId, side: Side) -> usize {
        /// Bytes at the start of a stream that come one by one; after them reads are short, so that a sweep byte by
        /// byte does not take a thousand turns.
        const SINGLE_READS: u64 = 96;
        let (seed, chunking) = (self.seed, self.setting.chunking);
        let Some(stream) = self.get(id) else { return 0 };
        let serial = stream.serial;
        let way = &mut stream.ways[side];
        way.reads += 1;
        let len = way.unread.len();
        let draw = keyed(seed, &[0xc4, serial, side as u64, way.reads]);
        match chunking {
            0 => len,
            2 if way.reads <= SINGLE_READS => len.min(1),
            _ if draw.is_multiple_of(3) => len,
            _ => len.min(1 + size(scale(draw, 64))),
        }
    }
}

/// Turns a bit over, as `draw` says which.
fn flip_bit(bytes: &mut [u8], draw: u64) {
    let bit = size(scale(draw, 8 * bytes.len() as u64));
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}
