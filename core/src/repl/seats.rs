//! Who gets a seat in the roster and who loses it, and how members tell each other.

use crate::boundary::{Close, ConnId};
use crate::repl::clocks::{is_ahead, is_credible};
use crate::repl::frames::Stop;
use crate::repl::link::{Link, Peer, Role};
use crate::repl::roster::{NO_RUN, Roster, Seat, newest_decision};
use crate::repl::{Context, IDLE_MS_MAX, Replication};
use crate::replica::{Exposure, Refused, Replica};
use crate::time::{Mono, Now};
use crate::version::{OriginId, Version};
use crate::wire::lists::{self, RosterView};

/// Why a member cannot be forgotten. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotForgotten {
    /// No member has this name.
    Unknown,
    /// It is this node itself.
    Own,
    /// It is linked to this node.
    Up,
    /// This node has no say yet: it has not found its cluster.
    NotJoined,
}

impl Replication {
    /// Whether it is for this node to tell `name` that it was forgotten: a newcomer has not heard of everybody yet.
    pub(super) fn has_say(&self, name: &str, cx: &Context<'_>) -> bool {
        cx.replica.exposure == Exposure::Exposed || self.roster.has_lost(name)
    }

    /// Gives a seat to this node and to all whom it is linked with, as far as they have none; and seals the roster when
    /// there is something to collect or to fold.
    pub(super) fn seat_all(&mut self, now: Now, cx: &mut Context<'_>) {
        if cx.replica.exposure != Exposure::Exposed || cx.replica.refused.is_some_and(Refused::is_for_good) {
            return;
        }
        let roster = &self.roster;
        let mut missing: Vec<String> = Vec::new();
        if !roster.has(&cx.config.name) {
            missing.push(cx.config.name.clone());
        }
        for peer in self.links.values_mut().filter_map(|link| link.peer.as_mut()) {
            if peer.seated_under == roster.hash() {
                continue;
            }
            if roster.has(&peer.name) {
                peer.seated_under = roster.hash();
            } else {
                missing.push(peer.name.clone());
            }
        }
        for name in missing {
            // Who has not heard of its new seat takes it for one that does not know what was decided meanwhile.
            self.links.values_mut().for_each(|link| link.status_at = now.mono);
            let seat = Seat::given(cx.replica.stamp(now), self.roster.lost(&name));
            self.roster.merge(&name, seat);
            self.collector.abort();
        }
        if self.seals_at(cx).is_some_and(|at| at <= now.mono) {
            self.links.values_mut().for_each(|link| link.status_at = now.mono);
            self.roster.seal(cx.replica.stamp(now));
            self.collector.abort();
        }
    }

    /// When the roster is to be sealed; none if it is, or if there is nothing to collect under it.
    pub(super) fn seals_at(&self, cx: &Context<'_>) -> Option<Mono> {
        let has_say = cx.replica.exposure == Exposure::Exposed && !cx.replica.refused.is_some_and(Refused::is_for_good);
        if self.roster.is_sealed() || !has_say {
            return None;
        }
        let has_work = cx.replica.store.graves() > 0 || self.collector.may_fold(cx.replica);
        // What was collected by who was alone was collected under no roster.
        if cx.replica.reaped.is_any() { Some(Mono(0)) } else { self.collector.due().filter(|_| has_work) }
    }

    /// Takes `name` off the roster: nobody waits for it any more. Should its run come back, it is told so.
    pub(crate) fn forget_member(&mut self, now: Now, name: &str, cx: &mut Context<'_>) -> Result<(), NotForgotten> {
        if name == cx.config.name {
            return Err(NotForgotten::Own);
        }
        match cx.replica.exposure {
            // Who has left decides nothing for those who stay.
            Exposure::Exposed if self.leave.is_over() => return Err(NotForgotten::NotJoined),
            Exposure::Exposed if self.roster.has(name) => {}
            Exposure::Alone | Exposure::Exposed => return Err(NotForgotten::Unknown),
            Exposure::Hidden | Exposure::Returning(_) => return Err(NotForgotten::NotJoined),
        }
        if self.links.values().any(|link| link.name() == Some(name)) {
            return Err(NotForgotten::Up);
        }
        let run = self.members.run_of(name).unwrap_or(NO_RUN);
        tracing::warn!(member = name, %run, "forgotten: deletes no longer wait for it");
        self.unseat(now, name, run, cx.replica);
        self.members.forget(name);
        self.soon(now.mono);
        Ok(())
    }

    /// Forgets members that have been away for as long as the operator allowed.
    pub(super) fn forget_absent(&mut self, now: Now, cx: &mut Context<'_>) {
        let absence_ms = cx.config.timers.absence_ms;
        if absence_ms == 0 {
            return;
        }
        // Whoever stood still has nobody to blame but itself.
        let looked = std::mem::replace(&mut self.looked_for_absent, now.mono);
        if now.mono.ms_since(looked) >= cx.config.timers.silence_ms.max(IDLE_MS_MAX + 1) {
            self.members.miss_from(now.mono);
        }
        for link in self.links.values() {
            if let Some(name) = link.name() {
                self.members.seen(name, now.mono);
            }
        }
        let gone = |name: &&str| self.members.is_gone(name, absence_ms, now.mono);
        let absent: Vec<String> = self.roster.members().filter(gone).map(str::to_owned).collect();
        for name in absent {
            // Those that cannot be forgotten are not absent.
            let _ = self.forget_member(now, &name, cx);
        }
    }

    /// A peer's roster: takes in what is news.
    pub(super) fn on_roster(
        &mut self,
        now: Now,
        conn: ConnId,
        view: &RosterView<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let Some(peer) = self.links.get(&conn).and_then(|link| link.peer.as_ref()) else {
            return Err(Stop::Close(Close::Malformed));
        };
        let bound_ms = cx.config.timers.clock_ahead_ms_max;
        if is_ahead(peer, bound_ms) {
            // Its stamps would carry our clock along, and through us everybody's. It tells us again once it is read.
            return Ok(());
        }
        if !view.iter().all(|seat| is_credible(peer, seat.version.hlc, bound_ms)) {
            return Err(Stop::Close(Close::Clock));
        }
        let by = peer.name.clone();
        if !self.leads_home(now, Some((&by, view)), cx) {
            // It is not of those whom this node comes back to. It tells again when it is asked for its stream again.
            if let Some(Role::Pull(pull)) = self.links.get_mut(&conn).map(|link| &mut link.role) {
                pull.dropped = true;
            }
            return Ok(());
        }
        if self.roster.is_apart(view.iter()) {
            let mine = newest_decision(self.roster.iter());
            if let Some(theirs) = newest_decision(view.iter()).filter(|theirs| mine < Some(*theirs)) {
                if self.leave.is_over() {
                    return Err(Stop::Close(Close::Refused));
                }
                self.come_back(now, (theirs, &by), cx);
                return Err(Stop::Closed);
            }
            if let Some(mine) = mine {
                return self.turn_away(conn, mine, cx);
            }
        }
        if let Some(peer) = self.links.get_mut(&conn).and_then(|link| link.peer.as_mut()) {
            peer.took_roster = true;
        }
        let own = &cx.config.name;
        let seat_lost = self.roster.lost(own);
        let mut news = false;
        // Of those whom this node took for members, who had lost their seats; the first is enough.
        let mut taken_for_member: Option<Version> = None;
        for seat in view.iter() {
            cx.replica.observe(seat.version);
            let is_news = self.roster.has(seat.name) && seat.lost > self.roster.lost(seat.name);
            let lost = seat.lost.filter(|_| is_news);
            if !self.roster.merge(seat.name, Seat { version: seat.version, gone: seat.gone, lost: seat.lost }) {
                continue;
            }
            news = true;
            taken_for_member = taken_for_member.into_iter().chain(lost).min();
            if let Some(run) = seat.gone
                && self.members.run_of(seat.name) == Some(run)
            {
                self.members.forget(seat.name);
            }
        }
        if !news {
            return Ok(());
        }
        self.collector.abort();
        self.soon(now.mono);
        let established = cx.replica.exposure == Exposure::Exposed;
        let is_forgotten = self.roster.forgotten(own, own, self.run, established).is_some();
        let is_forgotten = is_forgotten || (established && self.roster.lost(own) > seat_lost);
        // A seat that an earlier run was given says nothing of what this one has seen.
        let seated_later = |lost: &Version| self.roster.seated(own).is_some_and(|seated| *lost < seated);
        let reckoned_later = |lost: &Version| seated_later(lost) || lost.hlc <= self.progress.established;
        let comes_back = is_forgotten || taken_for_member.as_ref().is_some_and(reckoned_later);
        if let Some(told) = newest_decision(view.iter()).filter(|_| comes_back && !self.leave.is_over()) {
            self.come_back(now, (told, &by), cx);
            return Err(Stop::Closed);
        }
        self.look_for_home(now, cx);
        let is_forgotten = |peer: &Peer| {
            let Peer { name, run, established, .. } = peer;
            self.roster.has_lost(name) && self.roster.forgotten(own, name, *run, *established).is_some()
        };
        let forgotten = |link: &&Link| link.peer.as_ref().is_some_and(is_forgotten);
        let conns: Vec<ConnId> = self.links.values().filter(forgotten).map(|link| link.conn).collect();
        for gone in &conns {
            self.close(now, *gone, Close::Replaced, cx);
        }
        if conns.contains(&conn) { Err(Stop::Closed) } else { Ok(()) }
    }

    /// Looks whether what members stated is covered by now.
    pub(super) fn settle_vouches(&mut self, replica: &Replica) {
        for peer in self.links.values_mut().filter_map(|link| link.peer.as_mut()) {
            peer.vouch.settle(replica);
        }
    }

    pub(super) fn unseat(&mut self, now: Now, name: &str, run: OriginId, replica: &mut Replica) {
        let version: Version = replica.stamp(now);
        self.roster.merge(name, Seat::lost(version, run));
        self.collector.abort();
    }
}

/// Tells the peer the roster, if it seems to have another one and was not told.
pub(super) fn tell_roster(link: &mut Link, hash: u64, roster: &Roster) {
    let Some(peer) = &mut link.peer else { return };
    if peer.roster != hash && peer.told_roster != hash && !roster.is_empty() {
        peer.told_roster = hash;
        lists::emit_roster(roster.iter(), link.staged.out());
    }
}
