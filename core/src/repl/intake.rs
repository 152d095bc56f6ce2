//! The pulling side of a node: from whom it takes what, so that every gap closes and nothing comes twice for long.
//!
//! Each link streams its feeder's own records. What no link of its own brings (the origin is dead, or cut off from
//! here) is relayed by one peer that has more of it. What no stream can bring any more is brought by a sweep, one at a
//! time.

use crate::boundary::ConnId;
use crate::config::Timers;
use crate::origins::{Claims, Known, ORIGINS_MAX, Swept};
use crate::repl::link::{Link, Peer, Pull, PullStage, Role};
use crate::repl::{Links, Sweeps, link_mut};
use crate::replica::{Exposure, Obsolete, Replica, Return};
use crate::retired::{Mark, RETIRED_MAX};
use crate::retiring::SweepEnd;
use crate::store::SLOTS;
use crate::time::Mono;
use crate::version::{Hlc, OriginId};
use crate::wire::peer::{self, Place};
use crate::wire::retired::EntriesView;

/// The sweep this node takes part in as the one who asked.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    sweep: SweepIn,
    last_id: u32,
    sweeps: Sweeps,
    /// The roster of those from whom a member that comes back may hear what is obsolete; anybody's if there is none.
    pub(super) home: Option<u64>,
}

#[derive(Debug, Default)]
enum SweepIn {
    #[default]
    Idle,
    /// Asked for; until it begins, streams are dropped everywhere: what they bring may be older than what the sender of
    /// the sweep has forgotten, and the sender was told what we held before.
    Asked(Sweep),
    Running(Sweep),
    /// The link broke; it can be taken up again while the sender's run lives.
    Cut(Sweep),
}

#[derive(Debug)]
struct Sweep {
    conn: ConnId,
    id: u32,
    /// The sender.
    run: OriginId,
    asked: Mono,
    /// What we held when we asked: a beginning of our ledger that the sender seemed to have, and what is not in that.
    mark: Mark,
    known: Claims,
    /// What the sender claimed at the beginning, and how far it has come. Empty before it began.
    swept: Swept,
    /// All that in one.
    claims: Known,
    /// What the sender has told of its ledger since it was asked.
    told: Swept,
    /// What it reconciles, as its beginning named it.
    reconciles: u64,
    place: Place,
    /// What it has said to be gone, up to that place.
    obsolete: Obsolete,
}

/// How many times the silence that ends a link the beginning of a sweep may take: it stands behind what is under way,
/// on a slow link a while; but as long as it is awaited, no stream is taken.
const SWEEP_BEGIN_SILENCES: u64 = 10;

const SWEEP_START: Place = Place { slot: 0, after: None };

impl Intake {
    /// How many sweeps there were, and what became of them.
    pub(super) const fn sweeps(&self) -> Sweeps {
        self.sweeps
    }

    /// Whether streams are dropped at the moment.
    pub(crate) fn drops_streams(&self) -> bool {
        matches!(self.sweep, SweepIn::Asked(_))
    }

    /// Who was asked for a sweep and has not begun for so long that nobody should wait any more.
    pub(crate) fn unanswered(&self, timers: &Timers, now: Mono) -> Option<ConnId> {
        match &self.sweep {
            SweepIn::Asked(sweep) if now.ms_since(sweep.asked) >= SWEEP_BEGIN_SILENCES * timers.silence_ms => {
                Some(sweep.conn)
            }
            SweepIn::Idle | SweepIn::Asked(_) | SweepIn::Running(_) | SweepIn::Cut(_) => None,
        }
    }

    /// Whether no sweep is asked for or under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.sweep, SweepIn::Idle | SweepIn::Cut(_))
    }

    /// Whether a sweep over `conn` is asked for or under way.
    pub(crate) fn is_swept_by(&self, conn: ConnId) -> bool {
        matches!(&self.sweep, SweepIn::Asked(sweep) | SweepIn::Running(sweep) if sweep.conn == conn)
    }

    /// What the sweep under way over `conn` claims, if there is one, and whether it reconciles: records without a place
    /// in a stream belong to it.
    pub(crate) fn claims_swept(&self, conn: ConnId) -> Option<(&Known, bool)> {
        match &self.sweep {
            SweepIn::Running(sweep) if sweep.conn == conn => Some((&sweep.claims, sweep.reconciles != 0)),
            SweepIn::Idle | SweepIn::Asked(_) | SweepIn::Running(_) | SweepIn::Cut(_) => None,
        }
    }

    /// The sender begins. False if the claims name more origins than there is room for.
    pub(crate) fn begin(
        &mut self,
        conn: ConnId,
        id: u32,
        (reconciles, retired, claims): (u64, Mark, &peer::ClaimsView<'_>),
        replica: &mut Replica,
        now: Mono,
    ) -> bool {
        match std::mem::take(&mut self.sweep) {
            SweepIn::Asked(mut sweep) if sweep.conn == conn && sweep.id == id => {
                let mut swept = std::mem::take(&mut sweep.told);
                claims.read_into(&mut swept.frontier);
                swept.mark = retired;
                if swept.told.is_empty() {
                    swept.from = retired.len;
                }
                // All of its ledger that we lack, and the rest we have.
                let is_whole = swept.from as usize + swept.told.len() == retired.len as usize;
                if !is_whole || (swept.from > 0 && swept.from != sweep.mark.len) {
                    return false;
                }
                if swept != sweep.swept || sweep.reconciles != reconciles {
                    (sweep.place, sweep.obsolete) = (SWEEP_START, Obsolete::default());
                }
                sweep.reconciles = reconciles;
                if replica.begin_sweep(now, &swept).is_err() {
                    return false;
                }
                self.sweeps.begun += 1;
                self.sweeps.resumed += u64::from(sweep.place != SWEEP_START);
                sweep.claims = swept.known();
                sweep.swept = swept;
                self.sweep = SweepIn::Running(sweep);
            }
            other => self.sweep = other,
        }
        true
    }

    /// The sender tells some of its ledger before it begins. False if it is not the next of it.
    pub(crate) fn foretell(&mut self, conn: ConnId, id: u32, entries: &EntriesView<'_>) -> bool {
        let SweepIn::Asked(sweep) = &mut self.sweep else { return true };
        if sweep.conn != conn || sweep.id != id {
            return true;
        }
        let told = &mut sweep.told;
        if told.told.is_empty() {
            told.from = entries.from;
        }
        let is_next = told.from as usize + told.told.len() == entries.from as usize;
        told.told.extend(entries.iter());
        is_next && told.told.len() <= RETIRED_MAX
    }

    /// What the sender of the sweep that was asked for has told of its ledger.
    pub(crate) fn foretold(&self) -> impl Iterator<Item = (OriginId, Hlc)> + '_ {
        let told = if let SweepIn::Asked(sweep) = &self.sweep { &sweep.told.told[..] } else { &[] };
        told.iter().map(|entry| (entry.origin, entry.last))
    }

    /// The sender has come this far.
    pub(crate) fn step(&mut self, conn: ConnId, id: u32, place: Place) {
        if let SweepIn::Running(sweep) = &mut self.sweep
            && sweep.conn == conn
            && sweep.id == id
        {
            sweep.place = place;
        }
    }

    /// The sender is done; what it had claimed, if it was the sweep under way.
    pub(crate) fn end(
        &mut self,
        conn: ConnId,
        id: u32,
        end: &SweepEnd<'_>,
        replica: &mut Replica,
        now: Mono,
    ) -> Option<Swept> {
        match std::mem::take(&mut self.sweep) {
            SweepIn::Running(mut sweep) if sweep.conn == conn && sweep.id == id => {
                let dropped = replica.let_go(std::mem::take(&mut sweep.obsolete), &sweep.claims);
                self.note_dropped(dropped);
                replica.end_sweep(now, &sweep.swept, end);
                self.sweeps.ended += 1;
                Some(sweep.swept)
            }
            other => {
                self.sweep = other;
                None
            }
        }
    }

    /// The sender holds these keys in some slots, and no others.
    pub(crate) fn reconcile(
        &mut self,
        conn: ConnId,
        id: u32,
        ((from, to), held): ((u16, u16), &peer::NamesView<'_>),
        replica: &mut Replica,
    ) {
        let SweepIn::Running(sweep) = &mut self.sweep else { return };
        if sweep.conn != conn || sweep.id != id {
            return;
        }
        let Sweep { claims, obsolete, .. } = sweep;
        let dropped = (from..to).map(|slot| replica.reconcile(slot, claims, held, obsolete)).sum();
        self.note_dropped(dropped);
    }

    fn note_dropped(&mut self, dropped: usize) {
        self.sweeps.dropped += dropped as u64;
        if dropped > 0 {
            tracing::debug!(dropped, "dropped what was deleted while this node was away");
        }
    }

    /// Forgets the sweep under way: this node begins anew.
    pub(crate) fn reset(&mut self) {
        self.sweeps.cut += u64::from(matches!(self.sweep, SweepIn::Running(_)));
        self.sweep = SweepIn::Idle;
    }

    /// The link is gone; what the sweep over it brought stays, unclaimed.
    pub(crate) fn closed(&mut self, conn: ConnId, replica: &mut Replica) {
        self.sweep = match std::mem::take(&mut self.sweep) {
            SweepIn::Running(sweep) if sweep.conn == conn => {
                replica.abort_sweep();
                self.sweeps.cut += 1;
                SweepIn::Cut(sweep)
            }
            SweepIn::Asked(sweep) if sweep.conn == conn && sweep.place != SWEEP_START => SweepIn::Cut(sweep),
            SweepIn::Asked(sweep) if sweep.conn == conn => SweepIn::Idle,
            other => other,
        };
    }

    /// Looks at what peers have and this node has not, and asks for it. Called whenever that may have changed.
    pub(crate) fn plan(&mut self, links: &mut Links, replica: &Replica, timers: &Timers, now: Mono) {
        // What is asked for before a sweep begins would be dropped, and is asked for once it has.
        if !self.drops_streams() && !replica.is_returning() {
            for link in links.values_mut() {
                restart_behind(link, replica);
            }
        }
        self.plan_relays(links, replica, timers, now);
        if self.is_idle()
            && let Some(conn) = choose_sender(links, replica).or_else(|| choose_home(links, replica, self.home))
        {
            self.ask_sweep(conn, links, replica, now);
        }
    }

    /// After a sweep: asks again for what was dropped meanwhile.
    pub(crate) fn restart_dropped(&self, links: &mut Links, replica: &Replica) {
        for link in links.values_mut() {
            if matches!(&link.role, Role::Pull(pull) if pull.dropped && pull.stage == PullStage::Streaming) {
                ask_stream(link, replica, true);
            }
        }
    }

    fn ask_sweep(&mut self, conn: ConnId, links: &mut Links, replica: &Replica, now: Mono) {
        let Some(link) = link_mut(links, conn) else { return };
        let Some(peer) = &link.peer else { return };
        let (run, theirs) = (peer.run, peer.retired);
        // What this node has deleted and forgotten, and the sender never saw deleted, it must hear of to delete it
        // again; and of each counter, how much of it the cluster knows.
        let shows_all = replica.is_returning();
        self.last_id = self.last_id.wrapping_add(1);
        let mut sweep = match std::mem::take(&mut self.sweep) {
            SweepIn::Cut(sweep) if sweep.run == run => sweep,
            SweepIn::Idle | SweepIn::Cut(_) | SweepIn::Asked(_) | SweepIn::Running(_) => {
                let (mark, known) = if shows_all { Default::default() } else { known_to(replica, theirs) };
                let (swept, told, claims, obsolete) = Default::default();
                Sweep {
                    conn,
                    id: 0,
                    run,
                    asked: now,
                    mark,
                    known,
                    swept,
                    claims,
                    told,
                    reconciles: 0,
                    place: SWEEP_START,
                    obsolete,
                }
            }
        };
        (sweep.conn, sweep.id, sweep.asked, sweep.told) = (conn, self.last_id, now, Swept::default());
        let Sweep { place, reconciles, swept, .. } = &sweep;
        let resume = (*place != SWEEP_START).then_some((*place, *reconciles, swept.mark, &swept.frontier));
        let asks = (sweep.id, !replica.store.is_empty());
        peer::emit_sweep_ask(asks, (sweep.mark, &sweep.known), resume, link.staged.out());
        if let Role::Pull(pull) = &mut link.role {
            pull.gap = false;
        }
        debug_assert!(sweep.place.slot < SLOTS, "a sweep that came to its end is not asked for again");
        self.sweep = SweepIn::Asked(sweep);
    }

    /// Each origin that falls behind is relayed by the one peer furthest ahead in it; none that is supplied by its own.
    fn plan_relays(&self, links: &mut Links, replica: &Replica, timers: &Timers, now: Mono) {
        let mut wanted: Vec<(OriginId, ConnId, (bool, Hlc))> = Vec::new();
        for link in links.values() {
            let Some((pull, peer)) = link.source() else { continue };
            for (origin, hlc) in peer.frontier.iter() {
                let relayed = pull.relays.binary_search(origin).is_ok();
                let behind = *hlc > replica.known(*origin);
                let stuck = behind && is_stuck(replica, *origin, timers, now);
                if *origin == peer.origin || !(relayed || stuck) || has_own_link(links, *origin, replica) {
                    continue;
                }
                // Who relays it already goes on, as long as it comes.
                let merit = (relayed && !stuck, *hlc);
                match wanted.iter_mut().find(|(wanted, ..)| wanted == origin) {
                    Some((_, conn, best)) if merit > *best => (*conn, *best) = (link.conn, merit),
                    Some(_) => {}
                    None => wanted.push((*origin, link.conn, merit)),
                }
            }
        }
        wanted.sort_unstable();
        for link in links.values_mut() {
            let conn = link.conn;
            let Role::Pull(pull) = &mut link.role else { continue };
            if pull.stage == PullStage::Held {
                continue;
            }
            let relays = || wanted.iter().filter(|(_, by, _)| *by == conn).map(|(origin, ..)| *origin);
            if !relays().eq(pull.relays.iter().copied()) {
                pull.relays.clear();
                pull.relays.extend(relays());
                ask_stream(link, replica, false);
            }
        }
    }
}

/// What this node holds, told to one whose ledger was `theirs` when it last stated it: how much of the ledger, as far
/// as the other seems to have it, and claims on the rest. To leave out some of what is held only costs time.
fn known_to(replica: &Replica, theirs: Mark) -> (Mark, Claims) {
    let retired = replica.origins.retired();
    let mark = match retired.continues(theirs) {
        true => theirs,
        false if theirs.len > retired.len() => retired.mark(),
        false => Mark::default(),
    };
    let mut known = Claims::default();
    let accounts = replica.origins.iter().filter(|origin| origin.frontier > Hlc::ZERO);
    let room = ORIGINS_MAX.saturating_sub(replica.origins.len());
    let entries = retired.since(mark.len).take(room).map(|entry| (entry.origin, entry.last));
    known.raise_all(accounts.map(|origin| (origin.id, origin.frontier)).chain(entries));
    (mark, known)
}

/// Whether nothing came of an origin for so long that somebody else should be asked.
fn is_stuck(replica: &Replica, origin: OriginId, timers: &Timers, now: Mono) -> bool {
    replica.origins.find(origin).is_some_and(|known| now.ms_since(known.progress) >= timers.relay_ms)
}

/// A record came over `link` whose predecessor is missing: the stream is asked for again, or a sweep must help.
pub(crate) fn missed(link: &mut Link, replica: &Replica, origin: OriginId, prev: Hlc) {
    let Some(peer) = &mut link.peer else { return };
    if origin == peer.origin {
        peer.frontier.raise(origin, prev);
    }
    let Role::Pull(pull) = &mut link.role else { return };
    if pull.dropped {
        ask_stream(link, replica, true);
    } else {
        pull.gap = true;
    }
}

/// Asks for the stream of a link: again from what is known now, or only with other relays.
pub(crate) fn ask_stream(link: &mut Link, replica: &Replica, restart: bool) {
    let Role::Pull(pull) = &mut link.role else { return };
    pull.last_ask = pull.last_ask.wrapping_add(1);
    let id = pull.last_ask;
    pull.stage = PullStage::Asked(id);
    if restart {
        pull.dropped = false;
    }
    pull.gap = false;
    let known = replica.origins.iter().map(|origin| (origin.id, replica.known(origin.id)));
    let known = known.filter(|(_, hlc)| *hlc > Hlc::ZERO);
    peer::emit_pull((id, restart), known, pull.relays.iter().copied(), link.staged.out());
}

/// Asks again for a stream that is known to lack something it may still bring; else notes that only a sweep will.
fn restart_behind(link: &mut Link, replica: &Replica) {
    let Some(peer) = &link.peer else { return };
    let Role::Pull(pull) = &mut link.role else { return };
    if pull.stage != PullStage::Streaming || !peer.stated {
        return;
    }
    let lacks = |origin: OriginId| peer.frontier.of(origin) > replica.known(origin);
    let lacks_any = || lacks(peer.origin) || pull.relays.iter().any(|origin| lacks(*origin));
    let behind = peer.drained && (lacks_any() || peer.has_retired_more(&replica.origins));
    if !behind {
        return;
    }
    if pull.dropped {
        ask_stream(link, replica, true);
    } else {
        pull.gap = true;
    }
}

/// Whether a link to the origin itself stands and it has been heard to hold no more than we do, or is bringing it.
fn has_own_link(links: &Links, origin: OriginId, replica: &Replica) -> bool {
    let own = |link: &Link| link.source().filter(|(_, peer)| peer.origin == origin).is_some();
    origin == replica.own() || links.values().any(own)
}

/// Whom a member that was forgotten asks what of its own is obsolete: whoever has a say, and this `roster` and all data
/// if one is given, and knows most.
fn choose_home(links: &Links, replica: &Replica, roster: Option<u64>) -> Option<ConnId> {
    if replica.exposure != Exposure::Returning(Return::Unswept) {
        return None;
    }
    let is_home = |peer: &Peer| roster.is_none_or(|roster| peer.whole && peer.roster == roster);
    let established = links.values().filter_map(|link| link.source().map(|(_, peer)| (link, peer)));
    let established = established.filter(|(_, peer)| peer.established && peer.took_roster && is_home(peer));
    established
        .max_by_key(|(link, peer)| {
            let known = peer.frontier.iter().count() + peer.retired.len as usize;
            (known, std::cmp::Reverse(link.conn))
        })
        .map(|(link, _)| link.conn)
}

/// Whether the peer has what its stream will not bring.
pub(crate) fn lacks_sweep(link: &Link, replica: &Replica) -> bool {
    link.source().is_some_and(|(pull, peer)| {
        let has_more = || peer.frontier.iter().any(|(origin, hlc)| *hlc > replica.known(*origin));
        pull.gap && (has_more() || peer.has_retired_more(&replica.origins))
    })
}

/// Whom to ask for a sweep, if one is needed: of those who stream, the one whose frontier is the greatest in most
/// origins, so that one sweep closes most gaps. Who is not established yet hides what it wrote, and could not go on
/// with a sweep before it is. Nobody needs the sweep of such a one to be established, so no two wait for each other.
fn choose_sender(links: &Links, replica: &Replica) -> Option<ConnId> {
    let sources = || links.values().filter_map(|link| link.source().map(|source| (link, source)));
    let sources = || sources().filter(|(_, (_, peer))| peer.established);
    if replica.is_returning() || !sources().any(|(link, _)| lacks_sweep(link, replica)) {
        return None;
    }
    let greatest = |origin: OriginId| sources().map(|(_, (_, peer))| peer.frontier.of(origin)).max();
    let score = |pull: &Pull, peer: &Peer| {
        let ahead = |(origin, hlc): &&(OriginId, Hlc)| *hlc > replica.known(*origin) && Some(*hlc) == greatest(*origin);
        let retired = usize::from(peer.has_retired_more(&replica.origins));
        (peer.frontier.iter().filter(ahead).count() + retired, pull.gap)
    };
    sources()
        .max_by_key(|(link, (pull, peer))| (score(pull, peer), std::cmp::Reverse(link.conn)))
        .map(|(link, _)| link.conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::AddrId;
    use crate::record::{Record, next_frame};
    use crate::repl::collect::Vouch;
    use crate::repl::scrub::Suspicion;
    use crate::retired::{Entry, Retired};
    use crate::time::WallMs;
    use crate::version::Version;
    use crate::wire::peer::{Clocks, Frame, parse};

    const NOW: Mono = Mono(0);
    const PLACE: Place = Place { slot: 5, after: None };

    fn replica() -> Replica {
        Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW)
    }

    fn claims(of: &[(u64, u64)]) -> Claims {
        let mut claims = Claims::default();
        claims.raise_all(of.iter().map(|(origin, hlc)| (OriginId(*origin), Hlc(*hlc))));
        claims
    }

    fn entry(origin: u64) -> Entry {
        Entry { origin: OriginId(origin), last: Hlc(9), parted: 0, after: Hlc::ZERO }
    }

    /// Number 7, over link 1, of the run 9.
    fn sweep() -> Sweep {
        Sweep {
            conn: ConnId(1),
            id: 7,
            run: OriginId(9),
            asked: NOW,
            mark: Mark::default(),
            known: Claims::default(),
            swept: Swept::default(),
            claims: Known::default(),
            told: Swept::default(),
            reconciles: 0,
            place: SWEEP_START,
            obsolete: Obsolete::default(),
        }
    }

    fn with(sweep: SweepIn) -> Intake {
        Intake { sweep, ..Intake::default() }
    }

    /// Reads what `emit` writes.
    fn read<T>(emit: impl FnOnce(&mut Vec<u8>), take: impl FnOnce(Frame<'_>) -> T) -> T {
        let mut out = Vec::new();
        emit(&mut out);
        let body = next_frame(&out, 1 << 20).expect("a frame").expect("all of it");
        take(parse(body).expect("a frame that is read"))
    }

    /// The sender of sweep `id` over `conn` begins; whether that was taken.
    fn begin(intake: &mut Intake, (conn, id): (u32, u32), reconciles: u64, mark: Mark, replica: &mut Replica) -> bool {
        let emit = |out: &mut Vec<u8>| peer::emit_sweep_begin(id, reconciles, mark, &claims(&[(9, 50)]), out);
        read(emit, |frame| {
            let Frame::SweepBegin { id, reconciles, retired, claims } = frame else { panic!("a beginning") };
            intake.begin(ConnId(conn), id, (reconciles, retired, &claims), replica, NOW)
        })
    }

    fn foretell(intake: &mut Intake, (conn, id): (u32, u32), from: u32, entries: &[Entry]) -> bool {
        let emit = |out: &mut Vec<u8>| peer::emit_sweep_retired(id, from, entries.iter().copied(), out);
        read(emit, |frame| {
            let Frame::SweepRetired { id, entries } = frame else { panic!("some of a ledger") };
            intake.foretell(ConnId(conn), id, &entries)
        })
    }

    fn end(intake: &mut Intake, (conn, id): (u32, u32), replica: &mut Replica) -> Option<Swept> {
        let emit = |out: &mut Vec<u8>| peer::emit_sweep_end(id, Hlc(60), (0, &Claims::default()), out);
        read(emit, |frame| {
            let Frame::SweepEnd { id, clock, reaped_retired, reaped } = frame else { panic!("an end") };
            intake.end(ConnId(conn), id, &SweepEnd { clock, reaped_retired, reaped }, replica, NOW)
        })
    }

    fn reconcile(intake: &mut Intake, (conn, id): (u32, u32), replica: &mut Replica) {
        let emit = |out: &mut Vec<u8>| peer::emit_sweep_held(id, (0, SLOTS), &[], out);
        read(emit, |frame| {
            let Frame::SweepHeld { id, slots, names } = frame else { panic!("what the sender holds") };
            intake.reconcile(ConnId(conn), id, (slots, &names), replica);
        });
    }

    /// What stands of the sweep, and where.
    fn stage(intake: &Intake) -> (&'static str, u16) {
        match &intake.sweep {
            SweepIn::Idle => ("idle", 0),
            SweepIn::Asked(sweep) => ("asked", sweep.place.slot),
            SweepIn::Running(sweep) => ("running", sweep.place.slot),
            SweepIn::Cut(sweep) => ("cut", sweep.place.slot),
        }
    }

    #[test]
    fn what_another_link_or_an_earlier_sweep_says_is_not_of_this_one() {
        for other in [(2, 7), (1, 6)] {
            let mut replica = replica();
            let mut intake = with(SweepIn::Asked(sweep()));
            assert!(foretell(&mut intake, other, 0, &[entry(20)]) && intake.foretold().count() == 0);
            assert!(begin(&mut intake, other, 0, Mark::default(), &mut replica));
            assert_eq!(stage(&intake), ("asked", 0), "{other:?}");
            assert!(begin(&mut intake, (1, 7), 0, Mark::default(), &mut replica));
            intake.step(ConnId(other.0), other.1, PLACE);
            assert_eq!((end(&mut intake, other, &mut replica), stage(&intake)), (None, ("running", 0)), "{other:?}");
            let version = Version { hlc: Hlc(40), origin: OriginId(9) };
            let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
            assert!(replica.take(NOW, &record, None).is_ok());
            reconcile(&mut intake, other, &mut replica);
            assert!(replica.store.get(b"k").is_some(), "{other:?}");
            reconcile(&mut intake, (1, 7), &mut replica);
            assert!(replica.store.get(b"k").is_some(), "it goes at the end");
            intake.step(ConnId(1), 7, PLACE);
            assert_eq!(stage(&intake), ("running", 5));
            assert!(end(&mut intake, (1, 7), &mut replica).is_some() && replica.store.get(b"k").is_none());
            let sweeps = Sweeps { begun: 1, ended: 1, dropped: 1, ..Sweeps::default() };
            assert_eq!((intake.sweeps(), stage(&intake)), (sweeps, ("idle", 0)));
        }
    }

    #[test]
    fn only_records_over_its_link_are_of_a_sweep() {
        let intake = with(SweepIn::Running(sweep()));
        assert!(intake.claims_swept(ConnId(2)).is_none() && !intake.is_swept_by(ConnId(2)));
        assert_eq!(intake.claims_swept(ConnId(1)).map(|(_, reconciles)| reconciles), Some(false));
        assert!(intake.is_swept_by(ConnId(1)) && with(SweepIn::Asked(sweep())).is_swept_by(ConnId(1)));
        let intake = with(SweepIn::Running(Sweep { reconciles: 3, ..sweep() }));
        assert_eq!(intake.claims_swept(ConnId(1)).map(|(_, reconciles)| reconciles), Some(true));
        assert!(with(SweepIn::Asked(sweep())).claims_swept(ConnId(1)).is_none());
    }

    #[test]
    fn a_sweep_is_taken_up_again_where_it_was_only_if_it_claims_the_same() {
        let swept = Swept { frontier: claims(&[(9, 50)]), ..Swept::default() };
        let check = |swept: &Swept, reconciles: u64, place: u16| {
            let before = Sweep { place: PLACE, swept: swept.clone(), reconciles: 3, ..sweep() };
            let mut intake = with(SweepIn::Asked(before));
            assert!(begin(&mut intake, (1, 7), reconciles, Mark::default(), &mut replica()));
            assert_eq!(stage(&intake), ("running", place));
            assert_eq!((intake.sweeps().begun, intake.sweeps().resumed), (1, u64::from(place > 0)));
        };
        check(&swept, 3, 5);
        check(&swept, 4, 0);
        check(&Swept::default(), 3, 0);
    }

    #[test]
    fn a_sweep_begins_only_once_all_of_the_ledger_was_told() {
        // How much this node said that it has, what it is told from there on, and how long the ledger is.
        let check = |said: u32, from: u32, told: &[Entry], len: u32| {
            let mark = Mark { len: said, hash: u64::from(said) };
            let mut intake = with(SweepIn::Asked(Sweep { mark, ..sweep() }));
            let mut replica = replica();
            (20..22).for_each(|origin| assert!(replica.retire(entry(origin))));
            assert!(told.is_empty() || foretell(&mut intake, (1, 7), from, told));
            begin(&mut intake, (1, 7), 0, Mark { len, hash: u64::from(len) }, &mut replica)
        };
        let all = [entry(20), entry(21), entry(22)];
        assert!(check(0, 0, &[], 0) && check(0, 0, &all, 3) && check(2, 2, &all[2..], 3) && check(2, 2, &[], 2));
        assert!(check(2, 0, &all, 3), "the ledger that it has is another one");
        assert!(!check(0, 0, &all[..2], 3), "one is missing");
        assert!(!check(0, 0, &[], 2) && !check(1, 2, &all[2..], 3), "the beginning is missing");
    }

    #[test]
    fn a_ledger_is_told_in_order() {
        let mut intake = with(SweepIn::Asked(sweep()));
        assert!(foretell(&mut intake, (1, 7), 2, &[entry(22), entry(23)]));
        assert!(foretell(&mut intake, (1, 7), 4, &[entry(24)]));
        assert_eq!(intake.foretold().map(|(origin, _)| origin.0).collect::<Vec<_>>(), [22, 23, 24]);
        assert!(!foretell(&mut intake, (1, 7), 6, &[entry(26)]));
    }

    #[test]
    fn a_sweep_whose_link_breaks_is_cut_and_no_other() {
        let at = |place| Sweep { place, ..sweep() };
        let check = |sweep: SweepIn, conn: u32, after: (&str, u16), cut: u64| {
            let mut intake = with(sweep);
            intake.closed(ConnId(conn), &mut replica());
            assert_eq!((stage(&intake), intake.sweeps().cut), (after, cut));
        };
        check(SweepIn::Running(at(PLACE)), 1, ("cut", 5), 1);
        check(SweepIn::Running(at(PLACE)), 2, ("running", 5), 0);
        check(SweepIn::Asked(at(PLACE)), 1, ("cut", 5), 0);
        check(SweepIn::Asked(at(PLACE)), 2, ("asked", 5), 0);
        check(SweepIn::Asked(at(SWEEP_START)), 1, ("idle", 0), 0);
        check(SweepIn::Asked(at(SWEEP_START)), 2, ("asked", 0), 0);
        let mut intake = with(SweepIn::Running(sweep()));
        intake.reset();
        assert_eq!((stage(&intake), intake.sweeps().cut), (("idle", 0), 1));
    }

    #[test]
    fn nobody_waits_for_long_for_a_sweep_to_begin() {
        let timers = Timers { silence_ms: 100, ..Timers::default() };
        let intake = with(SweepIn::Asked(sweep()));
        assert_eq!(intake.unanswered(&timers, NOW.plus_ms(999)), None);
        assert_eq!(intake.unanswered(&timers, NOW.plus_ms(1_000)), Some(ConnId(1)));
        assert_eq!(with(SweepIn::Running(sweep())).unanswered(&timers, NOW.plus_ms(1_000)), None);
    }

    #[test]
    fn what_is_held_is_told_as_far_as_the_other_lacks_it() {
        let ledger = |origins: &[u64]| {
            let entries: Vec<_> = origins.iter().map(|origin| entry(*origin)).collect();
            Retired::default().extended(0, &entries).mark()
        };
        let mut replica = replica();
        (20..23).for_each(|origin| assert!(replica.retire(entry(origin))));
        replica.origins.claim(OriginId(5), Hlc(50), NOW);
        assert!(replica.origins.open(OriginId(6), NOW).is_some());
        let whole = [(5, 50), (20, 9), (21, 9), (22, 9)];
        let check = |theirs: Mark, mark: Mark, known: &[(u64, u64)]| {
            assert_eq!(known_to(&replica, theirs), (mark, claims(known)), "{theirs:?}");
        };
        check(Mark::default(), Mark::default(), &whole);
        check(ledger(&[20, 21]), ledger(&[20, 21]), &[(5, 50), (22, 9)]);
        // A longer one may continue this one; another of the same length or less is another.
        check(ledger(&[20, 21, 22, 23]), ledger(&[20, 21, 22]), &[(5, 50)]);
        check(ledger(&[20, 21, 24]), Mark::default(), &whole);
        check(ledger(&[24]), Mark::default(), &whole);
    }

    /// A link to the member whose run is `conn`, which has stated `frontier` and streams.
    fn link(conn: u32, frontier: &[(u64, u64)]) -> Link {
        let pull = Pull {
            addr: AddrId(conn),
            stage: PullStage::Streaming,
            relays: Vec::new(),
            last_ask: 0,
            dropped: false,
            gap: false,
        };
        let now = crate::time::Now { mono: NOW, wall: WallMs(0) };
        let mut link = Link::new(ConnId(conn), Role::Pull(pull), now.mono);
        let run = OriginId(u64::from(conn));
        link.peer = Some(Peer {
            name: conn.to_string(),
            run,
            origin: run,
            established: true,
            clocks: Clocks { wall: now.wall, hlc: Hlc::ZERO },
            ahead_ms: 0,
            frontier: claims(frontier),
            retired: Mark::default(),
            settled: Claims::default(),
            replaced: Claims::default(),
            foretold: None,
            drained: true,
            leaves: false,
            knows_leaving: false,
            whole: true,
            stated: true,
            roster: 4,
            told_roster: 0,
            took_roster: true,
            vouch: Vouch::default(),
            root: None,
            suspicion: Suspicion::default(),
        });
        link
    }

    fn links(of: Vec<Link>) -> Links {
        of.into_iter().map(|link| (link.conn, link)).collect()
    }

    fn peer_of(link: &mut Link) -> &mut Peer {
        link.peer.as_mut().expect("it has greeted")
    }

    fn pull_of(link: &mut Link) -> &mut Pull {
        let Role::Pull(pull) = &mut link.role else { panic!("it was dialed") };
        pull
    }

    /// Whether the stream of `link` was asked for anew.
    fn was_asked(link: &mut Link) -> bool {
        pull_of(link).stage != PullStage::Streaming
    }

    /// Whom the origin 50 is taken from that nobody is linked with, by how much of it the peers 2 and 3 hold.
    fn relayed_by(held: [u64; 2], relayed: Option<u32>, now: Mono) -> Vec<u32> {
        let mut replica = replica();
        replica.origins.claim(OriginId(50), Hlc(30), NOW);
        let mut links = links(vec![link(2, &[(50, held[0])]), link(3, &[(50, held[1])])]);
        for link in links.values_mut().filter(|link| Some(link.conn.0) == relayed) {
            pull_of(link).relays.push(OriginId(50));
        }
        Intake::default().plan_relays(&mut links, &replica, &Timers::default(), now);
        links.values_mut().filter(|link| !link_relays(link).is_empty()).map(|link| link.conn.0).collect()
    }

    fn link_relays(link: &Link) -> &[OriginId] {
        let Role::Pull(pull) = &link.role else { panic!("it was dialed") };
        &pull.relays
    }

    #[test]
    fn what_nobody_brings_is_relayed_by_whoever_has_most_of_it() {
        let (soon, late) = (NOW.plus_ms(10), NOW.plus_ms(Timers::default().relay_ms));
        assert_eq!(relayed_by([40, 50], None, soon), [0_u32; 0], "it may still come");
        assert_eq!(relayed_by([30, 20], None, late), [0_u32; 0], "nobody has more of it");
        assert_eq!(relayed_by([40, 50], None, late), [3]);
        assert_eq!(relayed_by([50, 40], None, late), [2]);
        // Who relays it goes on as long as it comes.
        assert_eq!(relayed_by([40, 50], Some(2), soon), [2]);
        assert_eq!(relayed_by([50, 40], Some(3), soon), [3]);
        assert_eq!(relayed_by([40, 50], Some(2), late), [3]);
    }

    #[test]
    fn what_is_linked_with_is_not_relayed() {
        let late = NOW.plus_ms(Timers::default().relay_ms);
        let mut replica = replica();
        for origin in [2, 3] {
            assert!(replica.origins.open(OriginId(origin), NOW).is_some());
        }
        // What a peer says of this run, of itself, and of another that is linked with.
        let mut links = links(vec![link(2, &[(1, 9), (2, 9), (3, 9)]), link(3, &[(3, 9)])]);
        Intake::default().plan_relays(&mut links, &replica, &Timers::default(), late);
        assert!(links.values().all(|link| link_relays(link).is_empty()));
        links.remove(&ConnId(3));
        Intake::default().plan_relays(&mut links, &replica, &Timers::default(), late);
        assert_eq!(links.values().map(link_relays).collect::<Vec<_>>(), [[OriginId(3)]]);
    }

    #[test]
    fn a_stream_in_which_a_record_is_missing_is_asked_for_again_if_some_of_it_was_dropped() {
        let replica = replica();
        let mut link = link(2, &[(2, 20)]);
        missed(&mut link, &replica, OriginId(50), Hlc(40));
        assert_eq!(peer_of(&mut link).frontier, claims(&[(2, 20)]));
        assert!(pull_of(&mut link).gap && !was_asked(&mut link));
        missed(&mut link, &replica, OriginId(2), Hlc(40));
        assert_eq!(peer_of(&mut link).frontier, claims(&[(2, 40)]), "it has what comes before that, at least");
        pull_of(&mut link).dropped = true;
        missed(&mut link, &replica, OriginId(2), Hlc(40));
        assert!(was_asked(&mut link) && !pull_of(&mut link).gap);
    }

    #[test]
    fn what_a_drained_stream_has_not_brought_takes_a_sweep() {
        // What of 2 and of the relayed 50 the peer holds; what it is like; whether there is a gap then.
        let check = |frontier: &[(u64, u64)], like: &dyn Fn(&mut Link), gap: bool| {
            let mut replica = replica();
            replica.origins.claim(OriginId(2), Hlc(20), NOW);
            let mut link = link(2, frontier);
            pull_of(&mut link).relays.push(OriginId(50));
            like(&mut link);
            restart_behind(&mut link, &replica);
            assert_eq!(pull_of(&mut link).gap, gap, "{frontier:?}");
            was_asked(&mut link)
        };
        assert!(!check(&[(2, 21)], &|_| {}, true));
        assert!(!check(&[(50, 1)], &|_| {}, true));
        assert!(!check(&[(2, 20), (60, 5)], &|_| {}, false));
        assert!(!check(&[(2, 20)], &|link| peer_of(link).foretold = Some((OriginId(60), Hlc(5))), true));
        assert!(!check(&[(2, 21)], &|link| peer_of(link).drained = false, false));
        assert!(!check(&[(2, 21)], &|link| peer_of(link).stated = false, false));
        assert!(check(&[(2, 21)], &|link| pull_of(link).stage = PullStage::Asked(0), false));
        assert!(check(&[(2, 21)], &|link| pull_of(link).dropped = true, false));
    }

    #[test]
    fn a_sweep_is_asked_of_whoever_closes_most_gaps() {
        let choose = |one: &[(u64, u64)], other: &[(u64, u64)], gaps: [bool; 2]| {
            let mut replica = replica();
            replica.origins.claim(OriginId(50), Hlc(30), NOW);
            replica.origins.claim(OriginId(70), Hlc(5), NOW);
            replica.origins.claim(OriginId(71), Hlc(5), NOW);
            let (mut one, mut other) = (link(2, one), link(3, other));
            (pull_of(&mut one).gap, pull_of(&mut other).gap) = (gaps[0], gaps[1]);
            choose_sender(&links(vec![one, other]), &replica).map(|conn| conn.0)
        };
        assert_eq!(choose(&[(50, 40)], &[(50, 30)], [false, false]), None);
        assert_eq!(choose(&[(50, 30)], &[(50, 30)], [true, true]), None);
        assert_eq!(choose(&[(50, 40)], &[(50, 50)], [true, false]), Some(3));
        assert_eq!(choose(&[(50, 50)], &[(50, 40)], [true, true]), Some(2));
        assert_eq!(choose(&[(50, 50)], &[(50, 50)], [false, true]), Some(3));
        assert_eq!(choose(&[(50, 50), (60, 5)], &[(50, 50), (61, 5), (62, 5)], [true, true]), Some(3));
        // What this node covers says nothing for a peer.
        assert_eq!(choose(&[(50, 40)], &[(50, 30), (70, 5), (71, 5)], [true, true]), Some(2));
        assert_eq!(choose(&[(50, 40)], &[(50, 20), (51, 0)], [true, true]), Some(2));
    }

    #[test]
    fn who_comes_back_asks_whoever_has_a_say_and_knows_most() {
        let mut replica = replica();
        let choose = |replica: &Replica, like: &dyn Fn(&mut Link), roster: Option<u64>| {
            let mut other = link(3, &[(50, 1), (51, 1)]);
            like(&mut other);
            choose_home(&links(vec![link(2, &[(50, 1)]), other]), replica, roster).map(|conn| conn.0)
        };
        assert_eq!(choose(&replica, &|_| {}, None), None, "it does not come back");
        replica.exposure = Exposure::Returning(Return::Unswept);
        assert_eq!(choose(&replica, &|_| {}, None), Some(3));
        assert_eq!(choose(&replica, &|_| {}, Some(4)), Some(3));
        assert_eq!(choose(&replica, &|_| {}, Some(5)), None);
        assert_eq!(choose(&replica, &|link| peer_of(link).established = false, None), Some(2));
        assert_eq!(choose(&replica, &|link| peer_of(link).took_roster = false, None), Some(2));
        assert_eq!(choose(&replica, &|link| peer_of(link).whole = false, None), Some(3));
        assert_eq!(choose(&replica, &|link| peer_of(link).whole = false, Some(4)), Some(2));
        assert_eq!(choose(&replica, &|link| peer_of(link).roster = 5, Some(4)), Some(2));
        let knows_less = |link: &mut Link| {
            peer_of(link).frontier.clear();
            peer_of(link).retired = Mark { len: 3, hash: 1 };
        };
        assert_eq!(choose(&replica, &knows_less, None), Some(3));
    }

    #[test]
    fn a_sweep_that_was_cut_is_taken_up_with_the_same_run_only() {
        for (run, place) in [(2, 5), (9, 0)] {
            let cut = Sweep { run: OriginId(run), place: PLACE, ..sweep() };
            let mut intake = with(SweepIn::Cut(cut));
            let mut links = links(vec![link(2, &[(50, 1)])]);
            intake.ask_sweep(ConnId(2), &mut links, &replica(), NOW);
            assert_eq!(stage(&intake), ("asked", place));
        }
    }

    #[test]
    fn what_a_sweep_finds_obsolete_goes_once_it_is_whole_and_stays_if_it_is_cut() {
        for (run, kept) in [(9, false), (2, true)] {
            let mut replica = replica();
            replica.origins.claim(OriginId(9), Hlc(40), NOW);
            let version = Version { hlc: Hlc(40), origin: OriginId(9) };
            let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
            assert!(replica.take(NOW, &record, None).is_ok());
            let mut intake = with(SweepIn::Asked(sweep()));
            assert!(begin(&mut intake, (1, 7), 3, Mark::default(), &mut replica));
            reconcile(&mut intake, (1, 7), &mut replica);
            intake.step(ConnId(1), 7, PLACE);
            intake.closed(ConnId(1), &mut replica);
            assert!(replica.store.get(b"k").is_some(), "all others who know that it was deleted may be gone");
            // The same run goes on where it was, and does not say it again; another begins anew.
            let mut link = link(2, &[(50, 1)]);
            peer_of(&mut link).run = OriginId(run);
            intake.ask_sweep(ConnId(2), &mut links(vec![link]), &replica, NOW);
            assert!(begin(&mut intake, (2, 1), 3, Mark::default(), &mut replica));
            assert!(end(&mut intake, (2, 1), &mut replica).is_some());
            assert_eq!(replica.store.get(b"k").is_some(), kept, "run {run}");
        }
    }

    #[test]
    fn who_asks_for_a_sweep_says_whether_it_holds_anything() {
        let mut replica = replica();
        for stored in [false, true] {
            let mut links = links(vec![link(2, &[(50, 1)])]);
            Intake::default().ask_sweep(ConnId(2), &mut links, &replica, NOW);
            let staged = &mut links.get_mut(&ConnId(2)).expect("a link").staged;
            read(
                |out| staged.drain_to(usize::MAX, out),
                |frame| {
                    let Frame::SweepAsk(ask) = frame else { panic!("a question") };
                    assert_eq!(ask.stored, stored);
                },
            );
            let version = Version { hlc: Hlc(40), origin: OriginId(9) };
            let record = Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version };
            assert!(replica.take(NOW, &record, None).is_ok());
        }
    }

    #[test]
    fn what_a_sweep_had_dropped_is_asked_for_again() {
        let (mut one, other, mut held) = (link(2, &[]), link(3, &[]), link(4, &[]));
        pull_of(&mut one).dropped = true;
        (pull_of(&mut held).dropped, pull_of(&mut held).stage) = (true, PullStage::Held);
        let mut links = links(vec![one, other, held]);
        Intake::default().restart_dropped(&mut links, &replica());
        let stages: Vec<_> = links.values_mut().map(|link| pull_of(link).stage).collect();
        assert_eq!(stages, [PullStage::Asked(1), PullStage::Streaming, PullStage::Held]);
    }
}
