//! Records as they arrive on a link, of a stream or of a sweep.

use crate::boundary::{Close, ConnId};
use crate::record::{self, FrameError, Framed, PREFIX_BYTES, Record};
use crate::repl::clocks::is_credible;
use crate::repl::frames::{Stop, body_bytes_max};
use crate::repl::intake::{self, Intake};
use crate::repl::link::{Link, PullStage, Role};
use crate::repl::{Context, Replication};
use crate::replica::Streamed;
use crate::store::{KEY_BYTES_MAX, VALUE_BYTES_MAX, WARM_KEYS};
use crate::time::Now;
use crate::version::Hlc;

/// Records that were read and are taken together, so that what their merges look at is on its way from memory at once.
/// What is read of them changes by none of them.
struct Batch<'b> {
    records: [Option<Framed<'b>>; WARM_KEYS],
    frames: [&'b [u8]; WARM_KEYS],
    keys: [&'b [u8]; WARM_KEYS],
    count: usize,
    /// What comes behind them is nothing that a peer sends.
    is_broken: bool,
}

impl<'b> Batch<'b> {
    fn new() -> Self {
        let nothing: [&[u8]; WARM_KEYS] = [&[]; WARM_KEYS];
        Self { records: [None; WARM_KEYS], frames: nothing, keys: nothing, count: 0, is_broken: false }
    }

    /// Reads the whole records that `bytes` begin with, as many as there is room for.
    #[inline]
    fn read(&mut self, bytes: &'b [u8], bytes_max: usize) {
        let mut rest = bytes;
        self.count = 0;
        while self.count < WARM_KEYS && record::is_record(rest) {
            let body = match record::next_frame(rest, bytes_max) {
                Ok(None) => return,
                Ok(Some(body)) => body,
                Err(FrameError::TooLong | FrameError::Checksum | FrameError::Malformed) => {
                    self.is_broken = true;
                    return;
                }
            };
            let slot = &mut self.records[self.count];
            *slot = record::parse(body);
            let Some(framed) = slot else {
                self.is_broken = true;
                return;
            };
            self.keys[self.count] = framed.record.key;
            (self.frames[self.count], rest) = rest.split_at(PREFIX_BYTES + body.len());
            self.count += 1;
        }
    }
}

impl Replication {
    /// Takes the whole records that `bytes` begin with; how many bytes those are, and what stops the reading.
    pub(super) fn take_records(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        cx: &mut Context<'_>,
    ) -> (usize, Option<Stop>) {
        let Some(mut link) = self.links.get_mut(&conn) else { return (0, Some(Stop::Closed)) };
        let bytes_max = body_bytes_max(link);
        let (mut used, mut batch) = (0, Batch::new());
        loop {
            batch.read(&bytes[used..], bytes_max);
            if batch.count > 1 {
                cx.replica.store.warm(&batch.keys[..batch.count]);
            }
            let records = batch.records.iter().flatten();
            for (framed, frame) in records.zip(&batch.frames[..batch.count]) {
                used += frame.len();
                match link.take_record(now, (framed, frame), &self.intake, cx) {
                    Ok(Streamed::Covered) => {}
                    Ok(Streamed::Taken) => {
                        if link.peer.as_ref().is_some_and(|peer| peer.origin != framed.stamp.origin) {
                            let stands = cx.replica.store.get(framed.record.key);
                            let is_beaten = stands.is_some_and(|stands| stands.version > framed.record.version);
                            self.relayed += 1;
                            self.relayed_beaten += u64::from(is_beaten);
                        }
                    }
                    Ok(Streamed::Gap) => {
                        intake::missed(link, cx.replica, framed.stamp.origin, framed.prev.unwrap_or(Hlc::ZERO));
                        self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
                        let Some(same) = self.links.get_mut(&conn) else { return (used, Some(Stop::Closed)) };
                        link = same;
                    }
                    Err(stop) => return (used, Some(stop)),
                }
            }
            if batch.is_broken {
                return (used, Some(Stop::Close(Close::Malformed)));
            }
            if batch.count < WARM_KEYS {
                return (used, None);
            }
        }
    }
}

impl Link {
    /// Takes a record, whose frame is `bytes`. What a gap is said of is to be asked for now.
    #[inline]
    fn take_record(
        &mut self,
        now: Now,
        (framed, bytes): (&Framed<'_>, &[u8]),
        intake: &Intake,
        cx: &mut Context<'_>,
    ) -> Result<Streamed, Stop> {
        let (Role::Pull(pull), Some(peer)) = (&mut self.role, &self.peer) else {
            return Err(Stop::Close(Close::Malformed));
        };
        if cx.replica.is_disk_behind() && framed.prev.is_some() {
            // It is asked for again once the disk has caught up.
            pull.dropped = true;
            return Ok(Streamed::Covered);
        }
        let newest = framed.stamp.hlc.max(framed.record.version.hlc);
        if !is_credible(peer, newest, cx.config.timers.clock_ahead_ms_max) {
            return Err(Stop::Close(Close::Clock));
        }
        check_lengths(&framed.record)?;
        let full = |_| Stop::Close(Close::Refused);
        let Some(prev) = framed.prev else {
            if let Some(swept) = intake.claims_swept(self.conn) {
                cx.replica.swept(now, &framed.record, swept).map_err(full)?;
            }
            return Ok(Streamed::Covered);
        };
        if pull.stage == PullStage::Held {
            return Ok(Streamed::Covered);
        }
        if intake.drops_streams() || cx.replica.is_returning() {
            pull.dropped = true;
            return Ok(Streamed::Covered);
        }
        match cx.replica.stream(now.mono, framed, prev, bytes).map_err(full)? {
            // Of a stream before the one that was asked for; that one may have what is missing.
            Streamed::Gap if pull.stage != PullStage::Streaming => Ok(Streamed::Covered),
            // While a sweep is under way it may yet close the gap; afterwards the stream is asked for again.
            Streamed::Gap if !intake.is_idle() => {
                pull.dropped = true;
                Ok(Streamed::Covered)
            }
            streamed => Ok(streamed),
        }
    }
}

/// What a peer took from its clients is taken from it: this node's limits for clients are no matter here.
pub(super) fn check_lengths(record: &Record<'_>) -> Result<(), Stop> {
    let too_long = record.value.is_some_and(|value| value.len() > VALUE_BYTES_MAX);
    if record.key.len() > KEY_BYTES_MAX || too_long { Err(Stop::Close(Close::Malformed)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode;
    use crate::time::WallMs;
    use crate::version::{OriginId, Version};

    /// So many records, one behind the other, and how long each is.
    fn records(count: usize) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        for number in 0..count {
            let version = Version { hlc: Hlc(1_000 + number as u64), origin: OriginId(9) };
            let (key, deadline) = ([b'k', number as u8], Some(WallMs(number as u64 % 100)));
            let record = Record { key: &key, value: Some(b"v"), is_counter: false, deadline, version };
            encode(&Framed { stamp: version, prev: None, seen: Hlc::ZERO, record }, &mut bytes);
        }
        let length = bytes.len() / count;
        (bytes, length)
    }

    /// What is read of `bytes`: the last byte of each key, and whether something broken is behind.
    fn read<'b>(batch: &mut Batch<'b>, bytes: &'b [u8]) -> (Vec<u8>, bool) {
        batch.read(bytes, 1 << 10);
        let records = batch.records.iter().flatten().zip(&batch.frames).zip(&batch.keys);
        let mut at = 0;
        let numbers = records.take(batch.count).map(|((framed, frame), key)| {
            assert_eq!((framed.record.key, *frame), (*key, &bytes[at..at + frame.len()]));
            at += frame.len();
            key[1]
        });
        (numbers.collect(), batch.is_broken)
    }

    #[test]
    fn a_batch_is_the_whole_records_before_anything_else_as_far_as_there_is_room() {
        let (bytes, length) = records(WARM_KEYS + 5);
        let (first, rest) = bytes.split_at(WARM_KEYS * length);
        let mut batch = Batch::new();
        let numbers = |range: std::ops::Range<usize>| range.map(|number| number as u8).collect::<Vec<_>>();
        assert_eq!(read(&mut batch, &bytes), (numbers(0..WARM_KEYS), false));
        assert_eq!(read(&mut batch, first), (numbers(0..WARM_KEYS), false));
        assert_eq!(read(&mut batch, rest), (numbers(WARM_KEYS..WARM_KEYS + 5), false));
        assert_eq!(read(&mut batch, &rest[..3 * length - 1]), (numbers(WARM_KEYS..WARM_KEYS + 2), false));
        assert_eq!(read(&mut batch, &rest[..PREFIX_BYTES]), (Vec::new(), false));
        let mut other = bytes[..2 * length].to_vec();
        crate::wire::peer::emit_pull_begin(1, &mut other);
        assert_eq!(read(&mut Batch::new(), &other), (numbers(0..2), false));
    }

    #[test]
    fn what_stands_before_something_broken_is_taken_and_what_stands_behind_is_not() {
        let (whole, length) = records(4);
        let mut wrong_bit = whole.clone();
        wrong_bit[2 * length + PREFIX_BYTES + 3] ^= 1;
        // The checksum holds, and the record is none: of no origin.
        let mut nobody = whole[..2 * length].to_vec();
        let start = record::begin_frame(&mut nobody);
        nobody.extend_from_slice(&whole[PREFIX_BYTES..length]);
        let origin = start + PREFIX_BYTES + 9;
        nobody[origin..origin + 8].fill(0);
        record::end_frame(&mut nobody, start);
        nobody.extend_from_slice(&whole[..length]);
        for bytes in [wrong_bit, nobody] {
            assert_eq!(read(&mut Batch::new(), &bytes), (vec![0, 1], true));
        }
        let mut batch = Batch::new();
        batch.read(&whole, length - PREFIX_BYTES - 1);
        assert_eq!((batch.count, batch.is_broken), (0, true), "longer than it may be");
    }
}
