//! The feeding side of a link: a cursor into the tail, and a sweep when the peer asked for one.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::counter::Counter;
use crate::name::{Name, SPACES};
use crate::origins::{Claims, Known};
use crate::record::{Framed, Record, encode};
use crate::repl::asks::Asking;
use crate::repl::staged::Staged;
use crate::repl::walk::{STEP_ENTRIES_MAX, STEP_SLOTS_MAX};
use crate::replica::Replica;
use crate::retired::{Entry, Mark};
use crate::store::SLOTS;
use crate::tail::{Head, Pos, Tail};
use crate::version::{Hlc, OriginId};
use crate::wire::peer::{self, Place};
use crate::wire::retired::ENTRIES_MAX;

/// Tail bytes that one call looks through at most: on a fresh link most of them may be for others, and clients wait.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// Sweep bytes staged ahead: a few writes' worth, so that the stream beside it keeps moving.
const SWEEP_STAGED_BYTES: usize = 64 << 10;

/// What a feeding link remembers.
#[derive(Debug)]
pub(crate) struct Feed {
    stream: Stream,
    /// Origins that the peer wants besides our own, ordered.
    relays: Vec<OriginId>,
    /// What the peer holds already, or was sent.
    known: Claims,
    sweep: Option<SweepOut>,
    /// The peer waits to hear that the stream has come to the end of the tail: only then it knows that it lacks
    /// something.
    owes_status: bool,
    /// Where we stand in asking the peer how far it has come.
    pub(super) asking: Asking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// Not asked for yet.
    Off,
    /// The next record to look at.
    At(Pos),
    /// Inside a record: this much of it has still to be sent. Then on, from behind it or from elsewhere.
    Within { at: Pos, left: usize, then: Option<Pos> },
}

/// A sweep under way.
#[derive(Debug)]
struct SweepOut {
    id: u32,
    /// What the peer held when it asked.
    known: Known,
    /// The peer is told of each slot which keys are in it: it may hold what was deleted and forgotten since.
    reconciles: bool,
    /// The keys of slots that were gone through since that was last told, and the first of these slots.
    names: Vec<u64>,
    names_from: u16,
    /// A slot whose newest record is not above this has nothing for the peer.
    threshold: Hlc,
    place: Place,
}

/// The peer fell out of the ring in the middle of a record; the link cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged;

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            stream: Stream::Off,
            relays: Vec::new(),
            known: Claims::default(),
            sweep: None,
            owes_status: false,
            asking: Asking::NEVER,
        }
    }

    /// Starts the stream, or changes its relays: from the oldest record held, less what is known and what was sent.
    pub(crate) fn pull(&mut self, replica: &Replica, pull: &peer::Pull<'_>, staged: &mut Staged) {
        if pull.restart {
            self.known.clear();
        }
        for (origin, hlc) in pull.known.iter() {
            // Only what we know of can be sent; a peer cannot make us remember more.
            if replica.origins.has_heard_of(origin) {
                self.known.raise(origin, hlc);
            }
        }
        self.relays.clear();
        self.relays.extend(pull.relays.iter().map(|(origin, _)| origin));
        self.move_to(replica.tail.start());
        self.owes_status = true;
        peer::emit_pull_begin(pull.id, staged.out());
    }

    /// Looks through the tail again for what the peer was not allowed to see before.
    pub(crate) fn rewind(&mut self, tail: &Tail) {
        if self.is_on() {
            self.move_to(tail.start());
        }
    }

    /// Starts a sweep and says what it will claim: our frontier now, or that of the sweep it continues. The stream
    /// beside it goes on from here, or from wherever it continues that older claim.
    ///
    /// Collection does not wait for who has no seat: what goes while this sweep is under way, before it gets there,
    /// the peer may still hold as it was. So it is always told what there is.
    /// (`sim/regressions/a-delete-was-collected-just-as-a-member-that-was-forgotten-was-swept`)
    pub(crate) fn sweep(&mut self, replica: &Replica, ask: &peer::SweepAsk<'_>, has_seat: bool, staged: &mut Staged) {
        let mut known = Known::default();
        ask.known.read_into(&mut known.claims);
        let mark = replica.mark();
        let continues = |theirs: Mark| theirs.len <= mark.len && replica.origins.retired().continues(theirs);
        if continues(ask.retired) {
            known.retired = ask.retired.len;
        }
        let mut claims = Claims::default();
        claims.raise_all(replica.exposed());
        let mut place = Place { slot: 0, after: None };
        let reconciles = if ask.stored { name_of_reaped(replica, &known, has_seat) } else { 0 };
        // What was said of a slot before the cut says nothing of what was collected in it since.
        let resumed = ask.resume.as_ref().filter(|resume| resume.reconciles == reconciles && continues(resume.retired));
        let covers =
            |(origin, hlc)| hlc <= claims.of(origin).max(replica.origins.retired().last_within(mark.len, origin));
        let mut retired = mark;
        if let Some(resume) = resumed.filter(|resume| resume.claims.iter().all(covers)) {
            place = resume.place;
            retired = resume.retired;
            resume.claims.read_into(&mut claims);
            self.known = known.claims.clone();
            for (origin, hlc) in claims.iter() {
                self.known.raise(*origin, *hlc);
            }
            self.move_to(replica.tail.start());
        }
        tell_retired(ask.id, known.retired, retired, replica, staged);
        if place == (Place { slot: 0, after: None }) {
            self.move_to(replica.tail.end());
        }
        peer::emit_sweep_begin(ask.id, reconciles, retired, &claims, staged.out());
        let reconciles = reconciles != 0;
        let threshold = if reconciles { Hlc::ZERO } else { sweep_threshold(replica, &known) };
        let (names, names_from) = (Vec::new(), place.slot);
        self.sweep = Some(SweepOut { id: ask.id, known, reconciles, names, names_from, threshold, place });
    }

    /// Whether nothing waits to be produced, or can be by now.
    pub(crate) fn is_drained(&self, replica: &Replica) -> bool {
        (self.sweep.is_none() || replica.hides_any()) && self.has_streamed(&replica.tail)
    }

    /// Whether the tail was sent to its end.
    pub(crate) fn has_streamed(&self, tail: &Tail) -> bool {
        match self.stream {
            Stream::Off => false,
            Stream::At(at) => at == tail.end(),
            Stream::Within { .. } => false,
        }
    }

    /// The peer was told of a frontier before all that leads to it was sent.
    pub(crate) fn owe_status(&mut self) {
        self.owes_status = true;
    }

    /// Whether the peer is to be told now, once, that the stream it asked for has reached the end of the tail.
    pub(crate) fn take_owed_status(&mut self, tail: &Tail) -> bool {
        self.has_streamed(tail) && std::mem::take(&mut self.owes_status)
    }

    /// Asks the peer how far it has come, if somebody wants to know and what that is about was sent. True if so.
    pub(super) fn ask(&mut self, replica: &Replica, staged: &mut Staged) -> bool {
        if !self.asking.is_wanted() {
            return false;
        }
        let sent = match self.stream {
            _ if self.has_streamed(&replica.tail) => replica.own_last(),
            Stream::At(_) => self.known.of(replica.own()),
            Stream::Off | Stream::Within { .. } => Hlc::ZERO,
        };
        let asks = self.asking.begin(sent);
        if asks {
            peer::emit_status_ask(staged.out());
        }
        asks
    }

    /// Whether the tail's end is of any interest yet.
    pub(crate) fn is_on(&self) -> bool {
        self.stream != Stream::Off
    }

    /// Finishes the record that is partly sent. Until then nothing else may be.
    pub(crate) fn finish_record(&mut self, tail: &Tail, limit: usize, out: &mut Vec<u8>) -> Result<(), Lagged> {
        let Stream::Within { at, left, then } = self.stream else { return Ok(()) };
        if at < tail.start() {
            return Err(Lagged);
        }
        let count = left.min(limit);
        let behind = tail.copy_out(at, count, out);
        self.stream = if count == left {
            Stream::At(then.unwrap_or(behind))
        } else {
            Stream::Within { at: behind, left: left - count, then }
        };
        Ok(())
    }

    /// Whether a record is partly sent.
    pub(crate) fn is_within_record(&self) -> bool {
        matches!(self.stream, Stream::Within { .. })
    }

    /// Appends what the peer wants of the tail, at most `limit` bytes.
    pub(crate) fn stream(&mut self, replica: &Replica, limit: usize, out: &mut Vec<u8>) {
        let (mut room, mut scan) = (limit, SCAN_BYTES_MAX);
        while let Some((at, head)) = self.next_wanted(replica, &mut scan) {
            // Not cut for want of room: the rest might be dropped from the ring before there is some again.
            if room == 0 || (head.bytes > room && room < limit) {
                return;
            }
            let (count, last) = wanted_from(&replica.tail, (at, head), room);
            self.known.raise(head.stamp.origin, last);
            let sent = count.min(room);
            let behind = replica.tail.copy_out(at, sent, out);
            room -= sent;
            if sent < count {
                self.stream = Stream::Within { at: behind, left: count - sent, then: None };
                return;
            }
            self.stream = Stream::At(behind);
        }
    }

    /// Passes over what the peer does not want of the tail, so that it is not woken for that.
    #[inline]
    pub(crate) fn pass_over(&mut self, replica: &Replica) {
        if self.has_streamed(&replica.tail) {
            return;
        }
        let _ = self.next_wanted(replica, &mut { SCAN_BYTES_MAX });
    }

    /// Moves on to the next record that the peer wants; none at the end, or once `scan` bytes were looked through.
    fn next_wanted(&mut self, replica: &Replica, scan: &mut usize) -> Option<(Pos, Head)> {
        let Stream::At(at) = self.stream else { return None };
        let tail = &replica.tail;
        let mut at = at.max(tail.start());
        let mut wanted = None;
        let run = tail.run();
        let upto = if self.subscribes(replica, run.origin) { tail.end() } else { run.from };
        while at < upto && *scan > 0 {
            let head = tail.head(at);
            if self.wants(replica, head.stamp.origin, head.stamp.hlc) {
                wanted = Some((at, head));
                break;
            }
            *scan = scan.saturating_sub(head.bytes);
            at = Tail::skip(at, head.bytes);
        }
        self.stream = Stream::At(if at < upto { at } else { tail.end() });
        wanted
    }

    /// Stages the next piece of the sweep. What is hidden would be left out, and with it whatever it beat: the peer
    /// would claim that and hold nothing of the key. So a sweep goes on only while nothing is.
    /// (`sim/regressions/swept-by-one-that-hid-what-beat-what-it-claimed`)
    pub(crate) fn step_sweep(&mut self, replica: &Replica, staged: &mut Staged) {
        let Some(sweep) = self.sweep.as_mut().filter(|_| !replica.hides_any()) else { return };
        let (mut slots, mut entries) = (STEP_SLOTS_MAX, STEP_ENTRIES_MAX);
        let begun = sweep.place;
        while sweep.place.slot < SLOTS && slots > 0 && entries > 0 && staged.len() < SWEEP_STAGED_BYTES {
            slots -= 1;
            if !sweep.reconciles && replica.store.slot_newest(sweep.place.slot) <= sweep.threshold {
                sweep.place = Place { slot: sweep.place.slot + 1, after: None };
                continue;
            }
            let last = replica.store.walk(sweep.place.slot, sweep.place.after, entries, &mut |record| {
                entries = entries.saturating_sub(1);
                if record.is_counter {
                    sweep_counter(replica, record, (&sweep.known, sweep.reconciles), staged);
                    return staged.len() < SWEEP_STAGED_BYTES;
                }
                let version = record.version;
                if !sweep.known.covers(version, replica.origins.retired()) {
                    let framed = Framed { stamp: version, prev: None, seen: Hlc::ZERO, record: *record };
                    encode(&framed, staged.out());
                }
                staged.len() < SWEEP_STAGED_BYTES
            });
            sweep.place = match last {
                Some(hash) => Place { slot: sweep.place.slot, after: Some(hash) },
                None => {
                    if sweep.reconciles {
                        replica.store.key_names(sweep.place.slot, &mut sweep.names);
                    }
                    Place { slot: sweep.place.slot + 1, after: None }
                }
            };
        }
        if sweep.reconciles && sweep.names_from < sweep.place.slot {
            sweep.names.sort_unstable();
            peer::emit_sweep_held(sweep.id, (sweep.names_from, sweep.place.slot), &sweep.names, staged.out());
            sweep.names.clear();
            sweep.names_from = sweep.place.slot;
        }
        if sweep.place.slot == SLOTS {
            tell_floors(replica, staged);
            let reaped = (replica.reaped.retired, &replica.reaped.claims);
            peer::emit_sweep_end(sweep.id, replica.clock(), reaped, staged.out());
            self.sweep = None;
        } else if sweep.place != begun {
            peer::emit_sweep_step(sweep.id, sweep.place, staged.out());
        }
    }

    fn wants(&self, replica: &Replica, origin: OriginId, hlc: Hlc) -> bool {
        self.subscribes(replica, origin) && hlc > self.known.of(origin)
    }

    fn subscribes(&self, replica: &Replica, origin: OriginId) -> bool {
        let subscribed = origin == replica.own() || self.relays.binary_search(&origin).is_ok();
        subscribed && !replica.is_hidden(origin)
    }

    /// Goes on from `pos` once the record that is partly sent is whole.
    fn move_to(&mut self, pos: Pos) {
        self.stream = match self.stream {
            Stream::Off | Stream::At(_) => Stream::At(pos),
            Stream::Within { at, left, .. } => Stream::Within { at, left, then: Some(pos) },
        };
    }
}

/// What may be sent in one go of the records from this one on, which is wanted: how many bytes, at most `room` unless
/// it is this one alone, and the stamp of the last of them.
fn wanted_from(tail: &Tail, (at, head): (Pos, Head), room: usize) -> (usize, Hlc) {
    let (run, alone) = (tail.run(), (head.bytes, head.stamp.hlc));
    if at < run.from {
        return alone;
    }
    // All that follows is of the same origin, and newer.
    let left = (tail.end().0 - at.0) as usize;
    if left <= room {
        return (left, run.last);
    }
    tail.within(at, room).map_or(alone, |(count, last)| (count, last.hlc))
}

/// Stages a counter for a peer that holds `known`: whole if it lacks any of it, as a sum says nothing by halves, or if
/// the sweep reconciles, as the peer may hold a base or a part that was reset.
fn sweep_counter(replica: &Replica, record: &Record<'_>, (known, reconciles): (&Known, bool), staged: &mut Staged) {
    let counter = Counter::of(record);
    let lacks = counter.versions().any(|version| !known.covers(version, replica.origins.retired()))
        || counter.folds.iter().any(|fold| !known.covers_fold(fold));
    if (reconciles || lacks)
        && let Some(record) = counter.record(record.key, &mut Vec::new())
    {
        encode(&Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record }, staged.out());
    }
}

/// Stages up to where keyspaces were flushed. A flush under way with the sweep took what the peer is about to claim,
/// and its slot may have been passed by then. (`sim/regressions/a-sweep-claimed-what-a-flush-had-taken-meanwhile`)
fn tell_floors(replica: &Replica, staged: &mut Staged) {
    for record in (0..SPACES).filter_map(|space| replica.store.get(&Name::floor(space).stored())) {
        encode(&Framed { stamp: record.version, prev: None, seen: Hlc::ZERO, record }, staged.out());
    }
}

/// A name for what was collected here and may still be with a peer that holds `known`: the same as long as that is the
/// same, and not 0 unless there is nothing.
fn name_of_reaped(replica: &Replica, known: &Known, has_seat: bool) -> u64 {
    let mut hasher = SipHasher13::new();
    let (mut any, claims) = replica.reaped.lacking(known, replica.origins.retired());
    hasher.write(&u64::from(replica.reaped.retired).to_le_bytes());
    for (origin, hlc) in claims {
        any = true;
        hasher.write(&origin.0.to_le_bytes());
        hasher.write(&hlc.0.to_le_bytes());
    }
    if any || !has_seat { hasher.finish() | 1 } else { 0 }
}

/// Stages the entries of the ledger that `mark` names, behind the first `from`.
fn tell_retired(id: u32, from: u32, mark: Mark, replica: &Replica, staged: &mut Staged) {
    for from in (from..mark.len).step_by(ENTRIES_MAX) {
        let count = (mark.len - from) as usize;
        peer::emit_sweep_retired(id, from, replica.origins.retired().since(from).take(count), staged.out());
    }
}

/// A slot's newest record being at or below this, the peer that holds `known` can lack nothing in it: the least claim
/// of the peer on an origin of which we hold more (PROTOCOL.md rule 8).
fn sweep_threshold(replica: &Replica, known: &Known) -> Hlc {
    let retired = replica.origins.retired();
    let accounts = replica.origins.iter().filter(|origin| !replica.is_hidden(origin.id));
    let accounts = accounts.map(|origin| (known.of(origin.id, retired), origin.held));
    let entries = retired.since(known.retired);
    let entries = entries.map(|Entry { origin, last, .. }| (known.of(origin, retired), last));
    let lacking = accounts.chain(entries).filter(|(known, held)| known < held);
    lacking.map(|(known, _)| known).min().unwrap_or(Hlc(u64::MAX))
}

#[cfg(test)]
mod tests;
