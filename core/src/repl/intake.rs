//! The pulling side of a node: from whom it takes what, so that every gap closes and nothing comes twice for long.
//!
//! Each link streams its feeder's own records. What no link of its own brings (the origin is dead, or cut off from
//! here) is relayed by one peer that has more of it. What no stream can bring any more is brought by a sweep, one at a
//! time.

use crate::boundary::ConnId;
use crate::config::Timers;
use crate::origins::{Claims, Known, ORIGINS_MAX, Origin, Swept};
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

    /// Who was asked for a sweep and has not begun for so long that nobody should wait any more. If it was to go on
    /// with one, that is given up too: whoever never begins is not asked first again.
    pub(crate) fn give_up_unanswered(&mut self, timers: &Timers, now: Mono) -> Option<ConnId> {
        match &mut self.sweep {
            SweepIn::Asked(sweep) if now.ms_since(sweep.asked) >= SWEEP_BEGIN_SILENCES * timers.silence_ms => {
                (sweep.place, sweep.obsolete) = (SWEEP_START, Obsolete::default());
                Some(sweep.conn)
            }
            SweepIn::Idle | SweepIn::Asked(_) | SweepIn::Running(_) | SweepIn::Cut(_) => None,
        }
    }

    /// Whether no sweep is asked for or under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.sweep, SweepIn::Idle | SweepIn::Cut(_))
    }

    /// Whose sweep was cut, if one was.
    fn cut_run(&self) -> Option<OriginId> {
        match &self.sweep {
            SweepIn::Cut(sweep) => Some(sweep.run),
            SweepIn::Idle | SweepIn::Asked(_) | SweepIn::Running(_) => None,
        }
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

    /// What a sweep over `link` brings is not taken now: it is cut here, and asked for again later.
    pub(crate) fn cut(&mut self, link: &mut Link, replica: &mut Replica) {
        if self.claims_swept(link.conn).is_some() {
            self.closed(link.conn, replica);
            if let Role::Pull(pull) = &mut link.role {
                pull.gap = true;
            }
        }
    }

    /// Looks at what peers have and this node has not, and asks for it. Called whenever that may have changed.
    pub(crate) fn plan(&mut self, links: &mut Links, replica: &Replica, timers: &Timers, now: Mono) {
        // It could not be taken now.
        if replica.is_disk_behind() {
            return;
        }
        // What is asked for before a sweep begins would be dropped, and is asked for once it has.
        if !self.drops_streams() && !replica.is_returning() {
            for link in links.values_mut() {
                restart_behind(link, replica);
            }
        }
        self.plan_relays(links, replica, timers, now);
        if self.is_idle()
            && let Some(conn) =
                choose_sender(links, replica, self.cut_run()).or_else(|| choose_home(links, replica, self.home))
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
            for ((origin, hlc), account) in replica.origins.beside(&peer.frontier) {
                if *origin == peer.origin {
                    continue;
                }
                let relayed = pull.relays.binary_search(origin).is_ok();
                let covered = account.is_some_and(|account| *hlc <= account.frontier);
                let behind = !covered && *hlc > replica.known(*origin);
                let idle = account.is_some_and(|account| is_stuck(account, timers, now));
                if !(relayed || (behind && idle)) || has_own_link(links, *origin, replica) {
                    continue;
                }
                // Who relays it already goes on, as long as it comes: one that has no more than this node keeps nobody
                // else from bringing it.
                // (`sim/regressions/who-relayed-and-had-no-more-kept-others-from-bringing-it`)
                let merit = (relayed && !idle, *hlc);
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
fn is_stuck(account: &Origin, timers: &Timers, now: Mono) -> bool {
    now.ms_since(account.progress) >= timers.relay_ms
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
#[inline]
pub(crate) fn lacks_sweep(link: &Link, replica: &Replica) -> bool {
    // Said of most links and asked of all, all the time.
    if !matches!(&link.role, Role::Pull(pull) if pull.gap) {
        return false;
    }
    link.source().is_some_and(|(_, peer)| has_more(peer, replica))
}

fn has_more(peer: &Peer, replica: &Replica) -> bool {
    let is_more = |(origin, hlc): &(OriginId, Hlc)| *hlc > replica.known(*origin);
    peer.frontier.iter().any(is_more) || peer.has_retired_more(&replica.origins)
}

/// Whom to ask for a sweep, if one is needed: of those who stream, the one whose frontier is the greatest in most
/// origins, so that one sweep closes most gaps. Who is not established yet hides what it wrote, and could not go on
/// with a sweep before it is. Nobody needs the sweep of such a one to be established, so no two wait for each other.
///
/// A sweep that was `cut` is gone on with first: two who take turns would begin anew each time.
/// (`sim/regressions/two-sweeps-took-turns-in-being-cut`)
fn choose_sender(links: &Links, replica: &Replica, cut: Option<OriginId>) -> Option<ConnId> {
    let sources = || links.values().filter_map(|link| link.source().map(|source| (link, source)));
    let sources = || sources().filter(|(_, (_, peer))| peer.established);
    if replica.is_returning() || !sources().any(|(link, _)| lacks_sweep(link, replica)) {
        return None;
    }
    let goes_on = |(_, (_, peer)): &(&Link, (&Pull, &Peer))| Some(peer.run) == cut && has_more(peer, replica);
    if let Some((link, _)) = sources().find(goes_on) {
        return Some(link.conn);
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
mod tests;
