//! What arrives on a link: frames, and what each does.

use crate::boundary::{Close, ConnId};
use crate::record::{self, FrameError, PREFIX_BYTES};
use crate::repl::clocks::{is_ahead, is_credible};
use crate::repl::collect::Vouch;
use crate::repl::leave::Leave;
use crate::repl::link::{Link, Peer, Reading, Role};
use crate::repl::members::{Admission, Member};
use crate::repl::retire::{ask_retired, tell_retired};
use crate::repl::scrub::Suspicion;
use crate::repl::seats::tell_roster;
use crate::repl::{Context, Replication, Roster, clocks, emit_status};
use crate::replica::Refused;
use crate::retired::Mark;
use crate::retiring::SweepEnd;
use crate::store::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::time::Now;
use crate::version::{Hlc, Version};
use crate::wire::hello::{self, Greeting, Reason, Refusal};
use crate::wire::lists::{Decision, MembersView};
use crate::wire::peer::{self, ClaimsView, Clocks, Frame, MEMBERS_MAX, PREAMBLE, Status};
use crate::wire::proof::Opened;

/// Longest frame before the other side has greeted: a greeting with its three names has some 850 bytes at the most.
const STRANGER_BODY_BYTES_MAX: usize = 1 << 10;

/// What a record's or a status's fields add to a key and a value at most: a full frontier, twice, is 128 KiB.
const FIELDS_BYTES_MAX: usize = 256 << 10;

/// Staged frames besides a record. A good peer asks one thing at a time; a dozen full frontiers fit.
const STAGED_FRAMES_BYTES_MAX: usize = 1 << 20;

/// Room that a link keeps for what comes out of chunks in pieces.
const UNSEALED_CAPACITY_BYTES: usize = 128 << 10;

/// What a run is told that is over.
const FENCED: &str = "a newer run has taken this one's place";

/// What a member is told that has lost its seat.
const FORGOTTEN: &str = "the cluster was told to forget this member: it comes back as a new run";

/// What stops the reading of a link.
pub(super) enum Stop {
    /// The link is over.
    Close(Close),
    /// The link is over, once the other side has been told why.
    Refuse,
    /// It is over already, and closed.
    Closed,
}

impl Replication {
    /// Takes every whole frame or chunk in `bytes`; returns how many bytes that were. What must still be said on a link
    /// that ends goes to `reply`.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> usize {
        if let Some(link) = self.links.get_mut(&conn) {
            // Any byte is a sign of life: a large record may take longer than silence is borne.
            link.heard = now.mono;
        }
        let was_proven = self.links.get(&conn).is_some_and(Link::is_proven);
        let mut used = if was_proven { 0 } else { self.take_frames(now, conn, bytes, reply, cx) };
        while let Some(link) = self.links.get_mut(&conn) {
            let Some(channel) = link.channel() else { break };
            let (count, frames) = match channel.open(&bytes[used..]) {
                Opened::Partly => break,
                Opened::Whole(count, frames) => (count, frames),
                Opened::Forged => {
                    tracing::warn!(peer = link.name().unwrap_or("?"), "what came on a link is not what was sent");
                    self.close(now, conn, Close::Malformed, cx);
                    return bytes.len();
                }
            };
            used += count;
            if link.unsealed.is_empty() {
                let taken = self.take_frames(now, conn, frames, reply, cx);
                self.keep_unsealed(conn, |unsealed| unsealed.extend_from_slice(&frames[taken..]));
            } else {
                let mut held = std::mem::take(&mut link.unsealed);
                held.extend_from_slice(frames);
                let taken = self.take_frames(now, conn, &held, reply, cx);
                held.drain(..taken);
                self.keep_unsealed(conn, |unsealed| *unsealed = held);
            }
        }
        self.wake_staged(cx.effects);
        if self.links.get(&conn).is_none() { bytes.len() } else { used }
    }

    /// Keeps what came out of chunks and is no whole frame yet; and no more room for it than that it is often needed.
    fn keep_unsealed(&mut self, conn: ConnId, keep: impl FnOnce(&mut Vec<u8>)) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        keep(&mut link.unsealed);
        if link.unsealed.is_empty() && link.unsealed.capacity() > UNSEALED_CAPACITY_BYTES {
            link.unsealed = Vec::new();
        }
    }

    /// Takes every whole frame in `bytes`, up to one with which the sides have proven themselves: chunks follow it.
    fn take_frames(
        &mut self,
        now: Now,
        conn: ConnId,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> usize {
        let mut used = 0;
        let proven = self.links.get(&conn).is_some_and(Link::is_proven);
        while let Some(link) = self.links.get(&conn).filter(|link| link.is_proven() == proven) {
            let rest = &bytes[used..];
            if link.staged.len() > STAGED_BYTES_MAX {
                // Whoever asks this much without reading the answers is no peer of ours.
                self.close(now, conn, Close::Malformed, cx);
                return bytes.len();
            }
            if link.peer.is_none() && rest.starts_with(&PREAMBLE[..1]) {
                if rest.len() < PREAMBLE.len() {
                    break;
                }
                if !rest.starts_with(&PREAMBLE) {
                    self.close(now, conn, Close::Malformed, cx);
                    return bytes.len();
                }
                used += PREAMBLE.len();
                continue;
            }
            let (count, stop) = match record::is_record(rest) {
                true => self.take_records(now, conn, rest, cx),
                false => match record::next_frame(rest, body_bytes_max(link)) {
                    Ok(None) => break,
                    Ok(Some(body)) => (PREFIX_BYTES + body.len(), self.on_frame(now, conn, body, cx).err()),
                    Err(FrameError::TooLong | FrameError::Checksum | FrameError::Malformed) => {
                        (0, Some(Stop::Close(Close::Malformed)))
                    }
                },
            };
            used += count;
            match stop {
                None if count == 0 => break,
                None => {}
                Some(Stop::Closed) => return bytes.len(),
                Some(Stop::Refuse) => {
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.part(reply);
                    }
                    self.close(now, conn, Close::Refused, cx);
                    return bytes.len();
                }
                Some(Stop::Close(why)) => {
                    if self.links.get(&conn).is_some_and(|link| link.peer.is_some()) {
                        tracing::warn!(?conn, ?why, "a peer's connection is closed");
                    }
                    self.close(now, conn, why, cx);
                    return bytes.len();
                }
            }
        }
        used
    }

    fn on_frame(&mut self, now: Now, conn: ConnId, body: &[u8], cx: &mut Context<'_>) -> Result<(), Stop> {
        let malformed = Stop::Close(Close::Malformed);
        let parsed = peer::parse(body).ok_or(malformed)?;
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        if link.peer.is_none() && !parsed.introduces() {
            return Err(Stop::Close(Close::Malformed));
        }
        match (parsed, &mut link.role) {
            (Frame::Greeting(greeting), _) => self.on_hello(now, conn, (&greeting, body), cx),
            (Frame::Foreign(theirs), _) => self.on_foreign(now, conn, theirs, cx),
            (Frame::Proof(proof), _) => self.on_proof(now, conn, &proof, cx),
            (Frame::Refused(refusal), _) => self.on_refused(now, conn, &refusal, cx),
            (Frame::Status(status), _) => self.on_status(now, conn, &status, cx),
            (Frame::Durable(view), _) => link.on_durable(&view),
            (Frame::Alive(clocks), _) => self.on_alive(now, conn, clocks, cx),
            (Frame::Members(view), _) => self.on_members(now, &view, cx),
            (Frame::Writers(view), _) => {
                self.writers.learn(view.iter(), |origin| cx.replica.uses(origin));
                Ok(())
            }
            (Frame::Scrub(scrub), _) => self.on_scrub(now, conn, scrub, cx),
            (Frame::Pull(pull), Role::Feed(feed)) => {
                feed.pull(cx.replica, &pull, &mut link.staged);
                link.stated = 0;
                if let Some(peer) = link.peer.as_mut().filter(|_| pull.restart) {
                    // As long as it held this node's clock for bad, it did not listen to what it was told.
                    peer.told_roster = 0;
                }
                Ok(())
            }
            (Frame::SweepAsk(ask), Role::Feed(feed)) => {
                feed.sweep(cx.replica, &ask, has_seat(link.peer.as_ref(), &self.roster), &mut link.staged);
                Ok(())
            }
            (Frame::PullBegin { id }, Role::Pull(_)) => {
                link.begin_pull(id);
                Ok(())
            }
            (Frame::RetiredAsk(mark), Role::Feed(_)) => {
                tell_retired(mark, cx.replica, &mut link.staged);
                Ok(())
            }
            (Frame::Retired(entries), Role::Pull(_)) => self.on_retired(now, conn, &entries, cx),
            (Frame::SweepRetired { id, entries }, Role::Pull(_)) => {
                self.intake.foretell(conn, id, &entries).then_some(()).ok_or(Stop::Close(Close::Malformed))
            }
            (Frame::SweepBegin { id, reconciles, retired, claims }, Role::Pull(_)) => {
                self.on_sweep_begin(now, conn, id, (reconciles, retired, &claims), cx)
            }
            (Frame::SweepHeld { id, slots, names }, Role::Pull(_)) => {
                self.intake.reconcile(conn, id, (slots, &names), cx.replica);
                Ok(())
            }
            (Frame::Said(said), _) => self.hear(conn, said),
            (Frame::Roster(view), _) => self.on_roster(now, conn, &view, cx),
            (Frame::SweepStep { id, place }, Role::Pull(_)) => {
                self.intake.step(conn, id, place);
                // Never within a step: what is asked for again begins behind the last whole one.
                if cx.replica.is_disk_behind() {
                    self.intake.cut(link, cx.replica);
                }
                Ok(())
            }
            (Frame::SweepEnd { id, clock, reaped_retired, reaped }, Role::Pull(_)) => {
                self.on_sweep_end(now, conn, id, &SweepEnd { clock, reaped_retired, reaped }, cx)
            }
            (Frame::StatusAsk, Role::Pull(_)) => {
                link.on_status_ask(now, (self.roster.hash(), &self.retirement), cx.replica);
                Ok(())
            }
            (Frame::StatusAsk, Role::Feed(feed)) => {
                feed.asking.end().then_some(()).ok_or(Stop::Close(Close::Malformed))
            }
            (
                Frame::Pull(_)
                | Frame::SweepAsk(_)
                | Frame::PullBegin { .. }
                | Frame::SweepBegin { .. }
                | Frame::SweepStep { .. }
                | Frame::SweepHeld { .. }
                | Frame::SweepRetired { .. }
                | Frame::RetiredAsk(_)
                | Frame::Retired(_)
                | Frame::SweepEnd { .. },
                Role::Feed(_) | Role::Pull(_),
            ) => Err(Stop::Close(Close::Malformed)),
        }
    }

    fn on_members(&mut self, now: Now, view: &MembersView<'_>, cx: &Context<'_>) -> Result<(), Stop> {
        for (name, address) in view.iter().filter(|(name, _)| *name != cx.config.name) {
            self.members.learn(name, address, now.mono);
        }
        self.soon(now.mono);
        Ok(())
    }

    /// Lets in who greets, or says why not.
    pub(super) fn on_greeting(
        &mut self,
        now: Now,
        conn: ConnId,
        greeting: &Greeting<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let Some(mut link) = self.links.remove(&conn) else { return Err(Stop::Closed) };
        if link.peer.is_some() {
            self.links.insert(conn, link);
            return Err(Stop::Close(Close::Malformed));
        }
        let accepted = matches!(link.role, Role::Feed(_));
        let refusal = self.refusal(now, &link, greeting, cx);
        let forgotten = refusal.as_ref().is_some_and(|(reason, _)| matches!(reason, Reason::Forgotten(_)));
        let has_greeted = link.prove_back(!forgotten) || link.is_proven();
        if accepted && !forgotten && !has_greeted {
            self.greet(now, &mut link, cx);
        }
        if let Some((reason, text)) = refusal {
            if let Role::Pull(pull) = &link.role {
                self.members.turned_away(pull.addr, text);
            }
            let out = link.out();
            if accepted && forgotten && !has_greeted {
                // Said before anything else: two who were told to forget each other would both hang up at a greeting.
                out.extend_from_slice(&PREAMBLE);
            }
            hello::emit_refused(&Refusal { reason, run: self.run, name: &cx.config.name, text }, out);
            self.links.insert(conn, link);
            // It may know of a later decision, and this node may know no way to it: it is heard before it hangs up.
            return if accepted && forgotten { Ok(()) } else { Err(Stop::Refuse) };
        }
        self.writers.learn(std::iter::once((greeting.run, greeting.name)), |origin| cx.replica.uses(origin));
        let mut peer = Peer {
            name: greeting.name.to_owned(),
            protocol: cx.config.protocol.common(greeting.protocol).unwrap_or(cx.config.protocol.oldest),
            run: greeting.run,
            origin: greeting.run,
            established: greeting.established,
            clocks: greeting.clocks,
            ahead_ms: 0,
            quickest: Reading { wall: greeting.clocks.wall, at: now.mono },
            frontier: crate::origins::Claims::default(),
            retired: Mark::default(),
            settled: crate::origins::Claims::default(),
            replaced: crate::origins::Claims::default(),
            foretold: None,
            drained: false,
            leaves: false,
            knows_leaving: false,
            whole: false,
            stated: false,
            roster: 0,
            told_roster: 0,
            seated_under: 0,
            took_roster: false,
            is_durable: greeting.durable,
            durable: None,
            vouch: Vouch::default(),
            root: None,
            suspicion: Suspicion::default(),
        };
        peer.set_clocks(now, greeting.clocks);
        if let Role::Pull(pull) = &link.role {
            self.members.greeted(pull.addr, greeting.name, now.mono);
        }
        self.replace_links(now, &link, greeting, cx);
        link.peer = Some(peer);
        link.status_at = now.mono.plus_ms(cx.config.timers.heartbeat_ms);
        self.name_members(&mut link);
        self.links.insert(conn, link);
        // Before anything is served to it, it is one of those who must have seen every delete.
        self.seat_all(now, cx);
        let hash = self.roster.hash();
        if let Some(link) = self.links.get_mut(&conn) {
            tell_roster(link, hash, &self.roster);
            emit_status(link, clocks(now, cx.replica), (hash, &self.retirement), cx.replica);
        }
        cx.replica.keep_tail();
        self.soon(now.mono);
        Ok(())
    }

    /// Why a greeting is turned away, if it is.
    fn refusal(
        &mut self,
        now: Now,
        link: &Link,
        greeting: &Greeting<'_>,
        cx: &mut Context<'_>,
    ) -> Option<(Reason, &'static str)> {
        let refused = |text| Some((Reason::Other, text));
        let dialed = match &link.role {
            Role::Pull(pull) => Some(pull.addr),
            Role::Feed(_) => None,
        };
        if self.leave == Leave::Done {
            return refused("this node has left the cluster");
        }
        let Greeting { cluster, name, run, .. } = *greeting;
        if run == self.run {
            if let Some(addr) = dialed {
                self.members.is_own(addr);
            }
            return refused("this is the node itself");
        }
        if cluster != cx.config.cluster {
            tracing::error!(
                peer = name,
                address = greeting.advertise,
                theirs = cluster,
                ours = cx.config.cluster,
                "another cluster: give both nodes the same --cluster, or do not name one as a peer of the other"
            );
            return refused("another cluster: give both nodes the same --cluster, or do not name one as a peer");
        }
        if name == cx.config.name {
            tracing::error!(name, "another node has this node's name: give each its own --name");
            return refused("this name is the other node's: give each node its own --name");
        }
        let has_say = self.has_say(name, cx);
        let forgotten = self.roster.forgotten(&cx.config.name, name, run, greeting.established);
        if let Some(decision) = forgotten.filter(|_| has_say) {
            return Some((Reason::Forgotten(decision), FORGOTTEN));
        }
        if name.is_empty() || greeting.advertise.is_empty() {
            return refused("a name and an address are needed");
        }
        let advertise = greeting.advertise.to_owned();
        let clients_at = Some(greeting.clients_at.to_owned()).filter(|address| !address.is_empty());
        let member = Member { run, incarnation: greeting.incarnation, advertise, clients_at, met: now.mono };
        let rival = self.links.values().find(|other| pulls_from_another_run(other, greeting)).map(|other| other.conn);
        match self.members.admit(name, member, dialed, rival.is_some(), now.mono) {
            Admission::Admitted => None,
            Admission::Rivalled { later } => {
                tracing::warn!(peer = name, "two runs of this member are up, or two nodes have this name");
                if let Some(rival) = rival.filter(|_| later) {
                    // Dialed again, the address tells which of them it belongs to.
                    self.close(now, rival, Close::Replaced, cx);
                }
                refused("another run of this member is linked: it may have ended and not been missed yet")
            }
            Admission::Fenced => Some((Reason::Fenced, FENCED)),
            Admission::Full => refused("the cluster has no room for another member"),
        }
    }

    /// A member has one link each way: a newer one takes the older's place, and a newer run its predecessor's links.
    fn replace_links(&mut self, now: Now, link: &Link, greeting: &Greeting<'_>, cx: &mut Context<'_>) {
        let pulls = matches!(link.role, Role::Pull(_));
        let replaced = |old: &&Link| {
            old.peer.as_ref().is_some_and(|peer| {
                let same_way = matches!(old.role, Role::Pull(_)) == pulls;
                peer.name == greeting.name && (same_way || peer.run != greeting.run)
            })
        };
        let conns: Vec<ConnId> = self.links.values().filter(replaced).map(|old| old.conn).collect();
        for old in conns {
            self.close(now, old, Close::Replaced, cx);
        }
        if pulls {
            tracing::info!(peer = greeting.name, address = greeting.advertise, "peer found");
        }
    }

    fn on_refused(&mut self, now: Now, conn: ConnId, refusal: &Refusal<'_>, cx: &mut Context<'_>) -> Result<(), Stop> {
        let name = refusal.name;
        let Some(link) = self.links.get(&conn) else { return Err(Stop::Closed) };
        // What may be anybody's word changes nothing but the log.
        let reason = if link.is_trusted(&cx.config.peer_auth) { refusal.reason } else { Reason::Other };
        let is_news = match &link.role {
            Role::Pull(pull) => self.members.turned_away(pull.addr, refusal.text),
            // The log is not for strangers to fill.
            Role::Feed(_) => link.is_trusted(&cx.config.peer_auth),
        };
        let has_say = self.has_say(name, cx);
        match reason {
            Reason::Other if is_news => tracing::warn!(peer = name, reason = refusal.text, "turned away"),
            Reason::Other => tracing::debug!(peer = name, reason = refusal.text, "turned away"),
            Reason::Fenced if cx.replica.refused == Some(Refused::Fenced) => {}
            Reason::Fenced => {
                tracing::error!(
                    peer = name,
                    "a newer run of this member has taken its place: client writes are refused"
                );
                cx.replica.refused = Some(Refused::Fenced);
            }
            Reason::Forgotten(_) if self.leave.is_over() => {}
            Reason::Forgotten(decision) => {
                // Where each side was told to forget the other, the one that knows of the newer decision stands.
                let own = cx.config.name.as_str();
                let theirs = self.roster.forgotten(own, name, refusal.run, true);
                if theirs.is_none_or(|theirs| (theirs, name) < (decision, own)) {
                    self.come_back(now, (decision, name), cx);
                    return Err(Stop::Closed);
                }
                // Who turned this node away may have no address of it, and hear of the later decision here only.
                let pulls = self.links.get(&conn).is_some_and(|link| matches!(link.role, Role::Pull(_)));
                if let Some(later) = theirs.filter(|_| has_say && pulls) {
                    return self.turn_away(conn, later, cx);
                }
            }
        }
        Err(Stop::Close(Close::Refused))
    }

    /// Tells a peer that it is to come back, by this decision.
    pub(super) fn turn_away(&mut self, conn: ConnId, decision: Decision, cx: &Context<'_>) -> Result<(), Stop> {
        if let Some(link) = self.links.get_mut(&conn) {
            let (reason, name) = (Reason::Forgotten(decision), cx.config.name.as_str());
            let refusal = Refusal { reason, run: self.run, name, text: FORGOTTEN };
            hello::emit_refused(&refusal, link.out());
        }
        Err(Stop::Refuse)
    }

    fn on_status(&mut self, now: Now, conn: ConnId, status: &Status<'_>, cx: &mut Context<'_>) -> Result<(), Stop> {
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let Some(peer) = &mut link.peer else { return Err(Stop::Close(Close::Malformed)) };
        let left = peer.leaves;
        peer.update(now, status);
        if peer.leaves && !left {
            // It waits to hear that this is known.
            link.status_at = now.mono;
        }
        self.writers.learn(std::iter::once((status.origin, peer.name.as_str())), |origin| cx.replica.uses(origin));
        self.members.writes_as(peer.run, status.origin);
        self.check_over(conn, cx)?;
        let Some(peer) = self.links.get(&conn).and_then(|link| link.peer.as_ref()) else { return Err(Stop::Closed) };
        let own = cx.replica.own();
        // Who was forgotten to make room may still be linked.
        if self.members.run_of(&peer.name).is_some() {
            if self.held.len() >= MEMBERS_MAX && !self.held.contains_key(&peer.name) {
                self.held.retain(|name, _| self.members.run_of(name).is_some());
            }
            self.held.insert(peer.name.clone(), Version { hlc: peer.holds(own, &cx.replica.origins), origin: own });
        }
        // Who merely dialed us is not asked for anything, and fills no table.
        let pulls = self.links.get(&conn).is_some_and(|link| matches!(link.role, Role::Pull(_)));
        let sources = pulls.then_some([&peer.frontier, &peer.settled]);
        for (origin, hlc) in sources.into_iter().flatten().flat_map(|claims| claims.iter()) {
            if *hlc > cx.replica.origins.frontier(*origin) && cx.replica.origins.open(*origin, now.mono).is_none() {
                return Err(Stop::Close(Close::Refused));
            }
        }
        self.on_stated(now, conn, cx);
        Ok(())
    }

    /// Tells a peer that its run is over, if what that had added is folded: nobody would tell from that what it adds to
    /// it.
    fn check_over(&mut self, conn: ConnId, cx: &Context<'_>) -> Result<(), Stop> {
        let Some(link) = self.links.get_mut(&conn) else { return Err(Stop::Closed) };
        let is_over = |peer: &Peer| cx.replica.origins.retired().folds(peer.origin).is_some();
        if cx.replica.is_returning() || !link.peer.as_ref().is_some_and(is_over) {
            return Ok(());
        }
        let (reason, name) = (Reason::Fenced, cx.config.name.as_str());
        hello::emit_refused(&Refusal { reason, run: self.run, name, text: FENCED }, link.out());
        Err(Stop::Refuse)
    }

    /// A heartbeat that states nothing new.
    fn on_alive(&mut self, now: Now, conn: ConnId, clocks: Clocks, cx: &mut Context<'_>) -> Result<(), Stop> {
        let peer = self.links.get_mut(&conn).and_then(|link| link.peer.as_mut()).filter(|peer| peer.stated);
        peer.ok_or(Stop::Close(Close::Malformed))?.stands_by(now, clocks);
        self.check_over(conn, cx)?;
        self.on_stated(now, conn, cx);
        Ok(())
    }

    /// What a peer states, or stands by, may be what this node waited for.
    fn on_stated(&mut self, now: Now, conn: ConnId, cx: &mut Context<'_>) {
        let hash = self.roster.hash();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Some(peer) = &mut link.peer else { return };
        // It need not be told what is known here from others.
        peer.took_roster |= peer.roster == hash;
        let (established, hlc, took_roster) = (peer.established, peer.clocks.hlc, peer.took_roster);
        if !is_ahead(peer, cx.config.timers.clock_ahead_ms_max) {
            ask_retired(link, cx.replica);
            self.meet(now, (established && took_roster).then_some(hlc), cx);
        }
        self.guard_clocks(now, cx);
        self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
        self.note_arrived(now, conn, cx);
        self.compare_roots(now, conn, cx);
    }

    fn on_sweep_begin(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        (reconciles, retired, claims): (u64, Mark, &ClaimsView<'_>),
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let Some(peer) = self.links.get(&conn).and_then(|link| link.peer.as_ref()) else { return Err(Stop::Closed) };
        let bound_ms = cx.config.timers.clock_ahead_ms_max;
        let credible = |(_, hlc): (_, Hlc)| is_credible(peer, hlc, bound_ms);
        if !claims.iter().chain(self.intake.foretold()).all(credible) {
            return Err(Stop::Close(Close::Clock));
        }
        let taken = self.intake.begin(conn, id, (reconciles, retired, claims), cx.replica, now.mono);
        if taken { Ok(()) } else { Err(Stop::Close(Close::Refused)) }
    }

    fn on_sweep_end(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u32,
        end: &SweepEnd<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Stop> {
        let credible = self
            .links
            .get(&conn)
            .and_then(|link| link.peer.as_ref())
            .is_some_and(|peer| is_credible(peer, end.clock, cx.config.timers.clock_ahead_ms_max));
        if !credible {
            return Err(Stop::Close(Close::Clock));
        }
        if let Some(swept) = self.intake.end(conn, id, end, cx.replica, now.mono) {
            if cx.replica.is_returning() {
                self.on_home_swept(now, &swept, cx);
            }
            self.intake.restart_dropped(&mut self.links, cx.replica);
            // Somebody may be waiting for this node to have come so far.
            for link in self.links.values_mut() {
                link.status_at = now.mono;
            }
            self.soon(now.mono);
            self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
        }
        Ok(())
    }
}

fn has_seat(peer: Option<&Peer>, roster: &Roster) -> bool {
    peer.is_some_and(|peer| roster.has(&peer.name))
}

/// Whether this node pulls from another run of the member that greets.
fn pulls_from_another_run(link: &Link, greeting: &Greeting<'_>) -> bool {
    let other = |peer: &Peer| peer.name == greeting.name && peer.run != greeting.run;
    matches!(link.role, Role::Pull(_)) && link.peer.as_ref().is_some_and(other)
}

/// What a link may have staged: a record of a sweep, and besides it a greeting with its member list, frontiers, and a
/// sweep's steps.
pub(crate) const STAGED_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + STAGED_FRAMES_BYTES_MAX;

/// Longest frame that is read on `link`.
pub(super) fn body_bytes_max(link: &Link) -> usize {
    match link.peer {
        None => STRANGER_BODY_BYTES_MAX,
        Some(_) => KEY_BYTES_MAX + VALUE_BYTES_MAX + FIELDS_BYTES_MAX,
    }
}
