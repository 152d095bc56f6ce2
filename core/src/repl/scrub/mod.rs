//! Scrub: the comparison of what linked members hold, and the repair of what one of them lacks.
//!
//! Streams and sweeps bring what frontiers say is missing. Scrub is the net below: it looks at the data itself, and so
//! finds what no frontier tells of. Each heartbeat carries the root of the sender's digest tree. While the roots of two
//! members differ, the one who pulls *descends*: it asks for the sums of all groups of slots, then for those of the
//! slots of each group that differs, then for what is in each slot that differs, and last for the entries that it
//! lacks. What those are is told in [`mending`](crate::mending); each side looks for what it lacks itself, and nothing
//! is ever taken out (PROTOCOL.md rule 22).
//!
//! **Under writes** the roots of two healthy members differ at almost any moment, by what is under way. That costs a
//! descent, and finds nothing: what the frontier does not cover is not missing. So a descent begins only after roots
//! have differed for two heartbeats without once being equal, and each that finds nothing makes the next one wait twice
//! as long, up to 32 heartbeats. One looks at no more than 8 groups, 8 slots and 48 answers, and begins where the one
//! before it ended, so that every slot has its turn.
//!
//! **Costs.** The root is 16 bytes of a heartbeat. One differing key among a million takes each of two members two
//! answers of 1 KiB and one of some 61 entries, 1.5 KiB; the record comes on top. A node makes one descent at a time,
//! and so takes at most 512 entries a second; clients never wait for it longer than it takes to look at one cache line
//! a slot.
//!
//! **Not compared** are: cuts that differ or are being moved (it is a matter of moments, or of clocks far apart); nodes
//! that hide what they hold; peers that have yet to hear of what was collected here, whom a sweep has drop what that
//! had deleted (rule 11); slots of more than 16,384 entries, which somebody must have filled on purpose; and records
//! above every frontier, such as those that were announced again in envelopes.
//!
//! A hostile peer can send us on descents that find nothing; it can have us put back what it invents, below our
//! frontier, as it could by its own stream; and it can ask no more of us than a bounded number of small answers a
//! heartbeat.

mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::boundary::{Close, ConnId};
use crate::config::Timers;
use crate::mending::Lack;
use crate::name::shown;
use crate::record;
use crate::repl::frames::Stop;
use crate::repl::link::{Link, Peer, PullStage, Role};
use crate::repl::records::check_lengths;
use crate::repl::{Context, Replication};
use crate::replica::{Refused, Replica};
use crate::store::{FANOUT, Listed, SLOTS, key_name};
use crate::time::{Mono, Now, WallMs};
use crate::version::Version;
use crate::wire::scrub::{self, LIST_ENTRIES_MAX, NAMES_MAX, Scrub};
pub(crate) use serve::Serving;

/// How long roots must have differed before anything is asked: whatever is under way on a good link has come by then.
const DIFFER_HEARTBEATS: u64 = 2;

/// Between two descents, in heartbeats, as long as they find something; the most, when they do not.
const REST_HEARTBEATS_MIN: u64 = 2;
const REST_HEARTBEATS_MAX: u64 = 32;

/// A descent that has heard nothing for this long, in heartbeats, is given up; a value of 64 MiB needs no more at 1 MiB
/// a second.
const ANSWER_HEARTBEATS_MAX: u64 = 128;

/// What one descent looks at: some 20 KiB of answers, and then of records.
const GROUPS_MAX: usize = 8;
const SLOTS_MAX: usize = 8;
const ASKS_MAX: u32 = 48;
const RECORDS_MAX: usize = 512;

/// Unclear entries that are remembered, so that each is counted and named once. Whoever has more has other worries.
pub(crate) const UNCLEAR_MAX: usize = 1_024;

/// Keys that one line of the log names.
const KEYS_NAMED_MAX: usize = 16;

/// What scrubbing has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Roots of peers that were compared with the own one.
    pub compared: u64,
    /// Descents into differences that lasted.
    pub rounds: u64,
    /// Entries that were missing here, or of which that cannot be told.
    pub found: u64,
    /// Of these, the ones that were put back.
    pub repaired: u64,
    /// Of these, the ones that may have been deleted here, or say two things under one version: left alone.
    pub unrepairable: u64,
}

/// Scrubbing, as the one who lacks something sees it.
#[derive(Debug, Default)]
pub(crate) struct Scrubber {
    descent: Option<Descent>,
    last_id: u32,
    /// The slot at which the next descent begins to look.
    next_slot: u16,
    done: Scrubbed,
    /// Entries that were found unclear, by name and version.
    unclear: BTreeSet<(u64, Version)>,
}

/// What a link's roots have shown so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Suspicion {
    /// Since when they have differed without once being equal.
    since: Option<Mono>,
    /// No descent before this, and how many heartbeats that was last time.
    rests_until: Option<Mono>,
    rest_heartbeats: u64,
}

/// A look at where a peer's data differs.
#[derive(Debug)]
struct Descent {
    conn: ConnId,
    cut: WallMs,
    /// The question that was asked last, and when; an answer to it may move that.
    id: u32,
    heard: Mono,
    asks: u32,
    stage: Stage,
    /// Groups and slots that differ and were not looked into yet, the next one last.
    groups: Vec<u8>,
    slots: Vec<u16>,
    /// Behind these slots no other one of their group differs.
    is_group_done: bool,
    /// How many of them may still be added, and how many records be asked for.
    slots_left: usize,
    records_left: usize,
    /// Where the list of the slot in hand goes on; entries of it to ask for, and unclear ones to name, both sorted.
    after: Option<u64>,
    missing: Vec<u64>,
    unclear: Vec<u64>,
    repaired: u64,
}

/// What was asked, and of which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Groups,
    Slots(u8),
    List(u16),
    Records(u16),
    Keys(u16),
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ask,
    /// There is more of it to come.
    Wait,
    GiveUp,
}

impl Scrubber {
    /// Entries that were found unclear.
    pub(crate) fn unclear(&self) -> usize {
        self.unclear.len()
    }

    pub(crate) fn done(&self) -> Scrubbed {
        self.done
    }

    /// The link is gone.
    pub(super) fn closed(&mut self, conn: ConnId) {
        self.descent.take_if(|descent| descent.conn == conn);
    }

    /// Takes the next group, slot, page or record in hand and asks about it. False when there is none.
    fn ask_next(&mut self, link: &mut Link) -> bool {
        let Some(descent) = &mut self.descent else { return false };
        let slot_in_hand = match descent.stage {
            Stage::Groups | Stage::Slots(_) => None,
            Stage::List(slot) | Stage::Records(slot) | Stage::Keys(slot) => Some(slot),
        };
        if descent.asks == ASKS_MAX {
            return false;
        }
        descent.asks += 1;
        self.last_id = self.last_id.wrapping_add(1);
        descent.id = self.last_id;
        let (id, cut, out) = (descent.id, descent.cut, link.staged.out());
        match slot_in_hand {
            Some(slot) if !descent.missing.is_empty() => {
                descent.stage = Stage::Records(slot);
                let names = &descent.missing[..descent.missing.len().min(NAMES_MAX)];
                scrub::emit_names_ask(id, cut, (slot, true), names, out);
            }
            Some(slot) if !descent.unclear.is_empty() => {
                descent.stage = Stage::Keys(slot);
                descent.unclear.sort_unstable();
                descent.unclear.dedup();
                descent.unclear.truncate(KEYS_NAMED_MAX);
                scrub::emit_names_ask(id, cut, (slot, false), &descent.unclear, out);
            }
            Some(slot) if descent.after.is_some() => {
                descent.stage = Stage::List(slot);
                scrub::emit_list_ask(id, cut, (slot, descent.after), out);
            }
            _ => {
                if let Some((slot, behind)) = descent.next_slot() {
                    descent.stage = Stage::List(slot);
                    self.next_slot = behind;
                    scrub::emit_list_ask(id, cut, (slot, None), out);
                } else if let Some(group) = descent.groups.pop().filter(|_| descent.slots_left > 0) {
                    descent.stage = Stage::Slots(group);
                    scrub::emit_slots_ask(id, cut, group, out);
                } else {
                    return false;
                }
            }
        }
        true
    }
}

impl Descent {
    fn new(conn: ConnId, cut: WallMs, now: Mono) -> Self {
        Self {
            conn,
            cut,
            id: 0,
            heard: now,
            asks: 0,
            stage: Stage::Groups,
            groups: Vec::new(),
            slots: Vec::new(),
            is_group_done: false,
            slots_left: SLOTS_MAX,
            records_left: RECORDS_MAX,
            after: None,
            missing: Vec::new(),
            unclear: Vec::new(),
            repaired: 0,
        }
    }

    /// Notes which groups differ: the first ones from that of `next_slot` on.
    fn take_groups(&mut self, mine: &[u64; FANOUT], theirs: impl Iterator<Item = u64>, next_slot: u16) {
        let first = usize::from(next_slot) / FANOUT;
        let differ = |at: &usize, theirs: &[u64]| mine[*at] != theirs[*at];
        let theirs: Vec<u64> = theirs.collect();
        let groups = (first..FANOUT).chain(0..first).filter(|at| differ(at, &theirs)).take(GROUPS_MAX);
        self.groups = groups.map(|group| group as u8).collect();
        self.groups.reverse();
    }

    /// Notes which slots of `group` differ: if it is the one that the last descent ended in, those behind.
    fn take_slots(&mut self, group: u8, mine: &[u64; FANOUT], theirs: impl Iterator<Item = u64>, next_slot: u16) {
        let base = usize::from(group) * FANOUT;
        let first = usize::from(next_slot).checked_sub(base).filter(|first| *first < FANOUT).unwrap_or(0);
        let theirs: Vec<u64> = theirs.collect();
        let differ = |range: std::ops::Range<usize>, max: usize| {
            let slots = range.filter(|at| mine[*at] != theirs[*at]).take(max);
            slots.map(|at| (base + at) as u16).collect::<Vec<u16>>()
        };
        self.slots = differ(first..FANOUT, self.slots_left);
        self.is_group_done = self.slots.len() < self.slots_left;
        if self.slots.is_empty() {
            self.slots = differ(0..first, self.slots_left);
        }
        self.slots_left -= self.slots.len();
        self.slots.reverse();
    }

    /// The next slot to look into, and the one at which the next descent is to begin.
    fn next_slot(&mut self) -> Option<(u16, u16)> {
        let slot = self.slots.pop()?;
        let is_last = self.slots.is_empty() && self.is_group_done;
        let behind = if is_last { (slot / FANOUT as u16 + 1) * FANOUT as u16 } else { slot + 1 };
        Some((slot, behind % SLOTS))
    }
}

impl Replication {
    /// A peer has stated its root: compares it, and descends if it has differed for long enough.
    pub(super) fn compare_roots(&mut self, now: Now, conn: ConnId, cx: &Context<'_>) {
        if !self.is_comparable(cx) {
            return;
        }
        let Some(link) = self.links.get_mut(&conn) else { return };
        let (Role::Pull(pull), Some(peer)) = (&link.role, &mut link.peer) else { return };
        let (mine, Some(theirs)) = (cx.replica.store.root(), peer.root) else { return };
        if pull.stage != PullStage::Streaming || !peer.established || mine.cut != theirs.cut {
            return;
        }
        if !has_heard_of_reaped(peer, cx.replica) {
            peer.suspicion = Suspicion::default();
            return;
        }
        self.scrub.done.compared += 1;
        if mine.sum == theirs.sum {
            peer.suspicion = Suspicion::default();
            return;
        }
        let heartbeats_ms = DIFFER_HEARTBEATS * cx.config.timers.heartbeat_ms;
        let since = *peer.suspicion.since.get_or_insert(now.mono);
        let is_due = since.plus_ms(heartbeats_ms) <= now.mono
            && peer.suspicion.rests_until.is_none_or(|until| until <= now.mono);
        if !is_due || self.scrub.descent.is_some() {
            return;
        }
        self.scrub.last_id = self.scrub.last_id.wrapping_add(1);
        let mut descent = Descent::new(conn, mine.cut, now.mono);
        (descent.id, descent.asks) = (self.scrub.last_id, 1);
        scrub::emit_groups_ask(descent.id, descent.cut, link.staged.out());
        self.scrub.descent = Some(descent);
    }

    /// Gives up a descent whose peer has fallen silent about it.
    pub(super) fn check_scrub(&mut self, now: Now, timers: &Timers) {
        let silence_ms = ANSWER_HEARTBEATS_MAX * timers.heartbeat_ms;
        if self.scrub.descent.as_ref().is_some_and(|descent| descent.heard.plus_ms(silence_ms) <= now.mono) {
            self.end_descent(now, timers);
        }
    }

    /// A frame about scrubbing: a question, or an answer to ours.
    pub(super) fn on_scrub(
        &mut self,
        now: Now,
        conn: ConnId,
        frame: Scrub<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let is_comparable = self.is_comparable(cx);
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let id = match (frame, &link.role) {
            (Scrub::Ask(ask), Role::Feed(_)) => {
                link.serving.take(&ask, cx.replica, &mut link.staged);
                return Ok(());
            }
            (Scrub::Ask(_), Role::Pull(_)) | (_, Role::Feed(_)) => return Err(Stop::Close(Close::Malformed)),
            (Scrub::Sums { id, .. } | Scrub::List { id, .. } | Scrub::Record { id, .. }, Role::Pull(_))
            | (Scrub::Keys { id, .. } | Scrub::End { id }, Role::Pull(_)) => id,
        };
        let descent = self.scrub.descent.as_mut().filter(|descent| descent.conn == conn && descent.id == id);
        // Otherwise it comes after the descent was given up.
        let Some(descent) = descent else { return Ok(()) };
        descent.heard = now.mono;
        let next = match cx.replica.store.settled_cut() {
            Some(cut) if is_comparable && cut == descent.cut => self.scrub.take_answer(now, frame, link, cx.replica)?,
            // What came was of a state that this node is no longer in.
            Some(_) | None => Next::GiveUp,
        };
        let goes_on = match next {
            Next::Wait => true,
            Next::Ask => self.scrub.ask_next(link),
            Next::GiveUp => false,
        };
        if !goes_on {
            self.scrub.done.rounds += u64::from(next == Next::Ask);
            self.end_descent(now, &cx.config.timers);
        }
        Ok(())
    }

    /// Ends the descent under way, says what it did, and lets its link rest.
    fn end_descent(&mut self, now: Now, timers: &Timers) {
        let Some(descent) = self.scrub.descent.take() else { return };
        let Some(link) = self.links.get_mut(&descent.conn) else { return };
        if descent.repaired > 0 {
            let peer = link.name().unwrap_or("?");
            tracing::warn!(peer, entries = descent.repaired, "scrub: entries were missing here, and were put back");
        }
        let Some(peer) = &mut link.peer else { return };
        let suspicion = &mut peer.suspicion;
        let twice = (2 * suspicion.rest_heartbeats).clamp(REST_HEARTBEATS_MIN, REST_HEARTBEATS_MAX);
        suspicion.rest_heartbeats = if descent.repaired > 0 { REST_HEARTBEATS_MIN } else { twice };
        suspicion.rests_until = Some(now.mono.plus_ms(suspicion.rest_heartbeats * timers.heartbeat_ms));
    }

    /// Whether this node's data is what its frontier says.
    fn is_comparable(&self, cx: &Context<'_>) -> bool {
        is_shown(cx.replica)
            && self.intake.is_idle()
            && !cx.replica.is_disk_behind()
            && !cx.replica.refused.is_some_and(Refused::is_for_good)
            && cx.replica.store.settled_cut().is_some()
    }
}

impl Scrubber {
    /// An answer to what the descent under way asked last.
    fn take_answer(&mut self, now: Now, frame: Scrub<'_>, link: &Link, replica: &mut Replica) -> Result<Next, Stop> {
        let Some(descent) = &mut self.descent else { return Ok(Next::GiveUp) };
        match (frame, descent.stage) {
            (Scrub::Sums { sums, .. }, Stage::Groups) => {
                descent.take_groups(&replica.store.group_sums(), sums.iter(), self.next_slot);
            }
            (Scrub::Sums { sums, .. }, Stage::Slots(group)) => {
                descent.take_slots(group, &replica.store.slot_sums(group.into()), sums.iter(), self.next_slot);
            }
            (Scrub::List { more, list, .. }, Stage::List(slot)) => {
                self.take_list(now.wall, (slot, more), list.iter(), replica)
            }
            (Scrub::Record { body, .. }, Stage::Records(_)) => {
                let framed = record::decode(body).map_err(|_| Stop::Close(Close::Malformed))?;
                check_lengths(&framed.record)?;
                self.take_record(now, &framed.record, replica);
                return Ok(Next::Wait);
            }
            (Scrub::Keys { keys, .. }, Stage::Keys(_)) => {
                descent.unclear.clear();
                let peer = link.name().unwrap_or("?");
                let keys: Vec<String> = keys.iter().map(|key| shown(key).escape_ascii().to_string()).collect();
                tracing::warn!(
                    peer,
                    ?keys,
                    "scrub: a peer has what this node has not and may have deleted: SET or DEL it to end the difference"
                );
            }
            (Scrub::End { .. }, Stage::Records(_)) => {
                let asked = descent.missing.len().min(NAMES_MAX);
                descent.missing.drain(..asked);
            }
            (Scrub::End { .. }, Stage::Keys(_)) => descent.unclear.clear(),
            // The slot is too full, or the peer no longer at that cut.
            (Scrub::End { .. }, Stage::List(_)) => descent.after = None,
            (Scrub::End { .. }, Stage::Groups | Stage::Slots(_)) => return Ok(Next::GiveUp),
            (
                Scrub::Sums { .. } | Scrub::List { .. } | Scrub::Record { .. } | Scrub::Keys { .. } | Scrub::Ask(_),
                _,
            ) => {
                return Err(Stop::Close(Close::Malformed));
            }
        }
        Ok(Next::Ask)
    }

    /// A page of what the peer has in `slot`: notes what is missing here, and what is unclear.
    fn take_list(
        &mut self,
        wall: WallMs,
        (slot, more): (u16, bool),
        theirs: impl Iterator<Item = Listed>,
        replica: &Replica,
    ) {
        let Some(descent) = &mut self.descent else { return };
        // All of it: a peer need not cut its list where this node would.
        let Some((mine, _)) = replica.store.list(slot, None, usize::MAX) else { return };
        let mut last = None;
        for theirs in theirs.take(LIST_ENTRIES_MAX) {
            last = Some(theirs.name);
            let own = mine.binary_search_by_key(&theirs.name, |mine| mine.name).ok().map(|at| &mine[at]);
            match replica.lacks(wall, &theirs, own) {
                // What is an element of a key that was deleted since shows by its whole name.
                // (`sim/regressions/what-a-deleted-hash-had-was-no-loss`)
                lack if lack == Lack::Missing || (lack == Lack::Unclear && own.is_none()) => {
                    if descent.missing.len() < descent.records_left {
                        descent.missing.push(theirs.name);
                    }
                }
                Lack::None | Lack::Missing => {}
                Lack::Unclear => {
                    let is_news =
                        self.unclear.len() < UNCLEAR_MAX && self.unclear.insert((theirs.name, theirs.version));
                    if is_news {
                        descent.unclear.push(theirs.name);
                        self.done.found += 1;
                        self.done.unrepairable += 1;
                    }
                }
            }
        }
        descent.missing.dedup();
        descent.records_left -= descent.missing.len();
        descent.after = last.filter(|_| more);
    }

    /// An entry that was asked for.
    fn take_record(&mut self, now: Now, record: &record::Record<'_>, replica: &mut Replica) {
        let Some(descent) = &mut self.descent else { return };
        let name = key_name(record.key);
        let asked = &descent.missing[..descent.missing.len().min(NAMES_MAX)];
        if asked.binary_search(&name).is_err() {
            return;
        }
        match replica.mend(now, record) {
            Lack::None => {}
            Lack::Missing => {
                descent.repaired += 1;
                self.done.found += 1;
                self.done.repaired += 1;
            }
            Lack::Unclear => {
                if self.unclear.len() < UNCLEAR_MAX && self.unclear.insert((name, record.version)) {
                    descent.unclear.push(name);
                    self.done.found += 1;
                    self.done.unrepairable += 1;
                }
            }
        }
    }
}

/// Whether the peer covers all that was taken out here. What it holds besides may be below deletes that it has yet to
/// hear of: a run that has just begun takes a stream before the sweep that has it drop that.
fn has_heard_of_reaped(peer: &Peer, replica: &Replica) -> bool {
    let reaped = &replica.reaped;
    peer.retired.len >= reaped.retired
        && reaped.claims.iter().all(|(origin, hlc)| peer.holds(*origin, &replica.origins) >= *hlc)
}

/// Whether peers may see all that this node holds.
fn is_shown(replica: &Replica) -> bool {
    !replica.hides_any()
}
