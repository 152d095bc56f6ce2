//! Replication: links to the other members, and what is taken from and given to each.
//!
//! Each node dials every member it knows and pulls from it; the accepted side feeds. So two nodes share two
//! connections, one for each direction in which records flow, and no two dials can cross.

mod activity;
mod arrival;
mod asks;
mod auth;
mod clocks;
mod collect;
mod durable;
mod exposure;
mod feed;
mod frames;
mod intake;
mod lag;
mod leave;
mod link;
mod links;
mod members;
mod orphans;
mod records;
mod retire;
mod roster;
mod say;
mod scrub;
mod seats;
mod staged;
mod walk;
mod writers;

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::boundary::{Action, AddrId, Close, ConnId, Effects};
use crate::config::Config;
use crate::connections::Ends;
use crate::origins::{Claims, Origins};
use crate::rand::Rand;
use crate::record::PREFIX_BYTES;
use crate::replica::{Exposure, Refused, Replica};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId, Version};
use crate::wire::hello::{self, Greeting};
use crate::wire::lists;
use crate::wire::peer::{self, Clocks, PREAMBLE, Standing};
use crate::wire::proof::Channel;
pub use activity::{Activity, Sweeps};
use arrival::Arrival;
pub(crate) use arrival::Awaited;
use auth::Auth;
pub(crate) use auth::{CLIENTS_ONLY, Gate, TLS_ONLY};
pub(crate) use collect::Blocked;
use collect::Collector;
pub(crate) use durable::{Recovered, Stated};
use feed::Feed;
pub(crate) use frames::STAGED_BYTES_MAX;
use intake::Intake;
pub(crate) use lag::MARKS_MAX;
use leave::Leave;
pub(crate) use leave::NotLeft;
pub(crate) use link::{Link, Role};
use link::{Pull, PullStage};
pub(crate) use links::Links;
pub(crate) use members::{DialState, ENDED_MAX, Members};
use orphans::Orphans;
use retire::{Retirement, is_settled};
pub(crate) use roster::{Roster, Seat};
pub use scrub::Scrubbed;
pub(crate) use scrub::{Scrubber, UNCLEAR_MAX};
pub(crate) use seats::NotForgotten;
use seats::tell_roster;
use walk::Walk;
pub(crate) use writers::Writers;

/// Links at once, both ways: thirty members have 58, and a few more while old ones are replaced.
pub(crate) const LINKS_MAX: usize = 128;

/// Background steps (a walk over the store in pieces) come this often while there is something to do; but for those of
/// what has expired, which is counted and held until then, and comes as fast as clients write: they come in each turn.
const STEP_MS: u64 = 1;

/// The longest sleep: wall clocks may step, so what depends on them is looked at this often.
const IDLE_MS_MAX: u64 = 1_000;

/// The replication of one node.
#[derive(Debug)]
pub(crate) struct Replication {
    pub(crate) links: Links,
    pub(crate) members: Members,
    pub(crate) gate: Gate,
    intake: Intake,
    /// Records taken from a stream of another than their writer, and those of them that lost.
    relayed: u64,
    relayed_beaten: u64,
    orphans: Orphans,
    reissue: exposure::Reissue,
    /// This run, as it names itself; its first origin.
    run: OriginId,
    incarnation: u64,
    rand: Rand,
    /// How far this node's clock is ahead of the median of its peers', in milliseconds; negative when behind.
    pub(crate) clock_ms_ahead: i64,
    pub(crate) marks: lag::Marks,
    /// How much of this run's own stream each member was last heard to hold.
    held: BTreeMap<String, Version>,
    pub(crate) writers: Writers,
    progress: exposure::Progress,
    arrival: Arrival,
    roster: Roster,
    /// Where this node stands as of the last sync, numbered; none without a disk.
    durable: Option<(u64, Stated)>,
    own_name: String,
    /// When members were last looked for that are away for too long.
    looked_for_absent: Mono,
    collector: Collector,
    /// How far letting go of stray folds has come.
    strays: Option<Walk>,
    /// When the last step of letting go of what has expired was made, if it left more.
    expiring: Option<Mono>,
    leave: Leave,
    /// Why this node did not leave when it was last asked to.
    stays: NotLeft,
    /// What was here when this node was asked to leave.
    held_at_leave: Claims,
    pub(crate) scrub: Scrubber,
    retirement: Retirement,
    said: say::Said,
    /// Where this node serves clients, if not where its peers reach it.
    pub(crate) clients_at: String,
    deadline: Mono,
}

impl Replication {
    pub(crate) fn new(config: &Config, run: OriginId, rand: Rand, now: Now) -> Self {
        let mut writers = Writers::default();
        writers.learn(std::iter::once((run, config.name.as_str())), |_| true);
        Self {
            links: Links::default(),
            members: Members::new(&config.peers, now.mono),
            gate: Gate::new(config),
            intake: Intake::default(),
            relayed: 0,
            relayed_beaten: 0,
            orphans: Orphans::default(),
            reissue: exposure::Reissue::default(),
            run,
            incarnation: now.wall.0,
            rand,
            clock_ms_ahead: 0,
            marks: lag::Marks::new(run),
            held: BTreeMap::new(),
            writers,
            progress: exposure::Progress::default(),
            arrival: Arrival::default(),
            roster: Roster::default(),
            durable: None,
            own_name: config.name.clone(),
            looked_for_absent: now.mono,
            collector: Collector::new(now.mono),
            strays: None,
            expiring: None,
            leave: Leave::default(),
            stays: NotLeft::NotDrained,
            held_at_leave: Claims::default(),
            scrub: Scrubber::default(),
            retirement: Retirement::new(now.mono),
            said: say::Said::default(),
            clients_at: String::new(),
            deadline: now.mono,
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub(crate) fn deadline(&self) -> Mono {
        self.deadline
    }

    /// A dial succeeded: greets.
    pub(crate) fn dialed(&mut self, now: Now, conn: ConnId, addr: AddrId, cx: &mut Context<'_>) {
        if self.links.len() >= LINKS_MAX || !self.members.dialed(addr, conn) {
            self.members.lost(addr, &cx.config.timers, &mut self.rand, now.mono);
            cx.close(conn, Close::Replaced);
            return;
        }
        let pull = Pull { addr, stage: PullStage::Held, relays: Vec::new(), last_ask: 0, dropped: false, gap: false };
        let mut link = Link::new(conn, Role::Pull(pull), now.mono);
        link.auth = self.gate.auth();
        self.greet(now, &mut link, cx);
        link.status_at = now.mono.plus_ms(cx.config.timers.heartbeat_ms);
        self.links.insert(conn, link);
        self.wake(conn, cx.effects);
        self.soon(now.mono);
    }

    /// A dial failed.
    pub(crate) fn dial_failed(&mut self, now: Now, addr: AddrId, cx: &Context<'_>) {
        self.members.lost(addr, &cx.config.timers, &mut self.rand, now.mono);
        self.soon(now.mono);
    }

    /// An accepted connection between these `ends` has sent the preamble of a peer. False if there is no room for it.
    pub(crate) fn accepted(&mut self, now: Now, (conn, ends): (ConnId, Option<Ends>), cx: &Context<'_>) -> bool {
        if self.links.len() >= LINKS_MAX {
            return false;
        }
        let mut link = Link::new(conn, Role::Feed(Feed::new()), now.mono);
        (link.auth, link.ends) = (self.gate.auth(), ends);
        link.status_at = now.mono.plus_ms(cx.config.timers.heartbeat_ms);
        self.links.insert(conn, link);
        self.soon(now.mono);
        true
    }

    /// The other side of a link, or the system, ended it.
    pub(crate) fn closed(&mut self, now: Now, conn: ConnId, cx: &mut Context<'_>) {
        self.forget(now, conn, cx);
        self.soon(now.mono);
    }

    /// Ends a link.
    fn close(&mut self, now: Now, conn: ConnId, why: Close, cx: &mut Context<'_>) {
        if let Some(name) = self.links.get(&conn).map(|link| link.name().unwrap_or("?")) {
            tracing::debug!(peer = name, ?why, "link closed");
        }
        self.forget(now, conn, cx);
        cx.close(conn, why);
        self.soon(now.mono);
    }

    fn forget(&mut self, now: Now, conn: ConnId, cx: &mut Context<'_>) {
        let Some(link) = self.links.remove(&conn) else { return };
        self.intake.closed(conn, cx.replica);
        self.scrub.closed(conn);
        if let Role::Pull(pull) = &link.role {
            self.members.lost(pull.addr, &cx.config.timers, &mut self.rand, now.mono);
            if link.peer.as_ref().is_some_and(|peer| peer.stated) {
                tracing::info!(peer = link.name().unwrap_or("?"), "peer lost");
            }
        }
        self.note_departed(now, conn, cx);
    }

    /// Appends at most `limit` bytes of what waits for a link; true while more remains.
    pub(crate) fn fill(
        &mut self,
        now: Now,
        conn: ConnId,
        limit: usize,
        out: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(link) = self.links.get_mut(&conn) else { return false };
        let full = out.len() + limit;
        link.opening.drain_to(limit, out);
        let limit = full - out.len();
        if !link.is_proven() {
            return self.fill_frames(now, conn, limit, out, cx);
        }
        let room = Channel::room(limit);
        if room == 0 {
            return true;
        }
        let start = Channel::begin(out);
        let more = self.fill_frames(now, conn, room, out, cx);
        match self.links.get_mut(&conn).and_then(Link::channel) {
            Some(channel) => channel.seal(out, start),
            None => out.truncate(start),
        }
        more
    }

    fn fill_frames(&mut self, now: Now, conn: ConnId, limit: usize, out: &mut Vec<u8>, cx: &mut Context<'_>) -> bool {
        let Some(link) = self.links.get_mut(&conn) else { return false };
        let full = out.len() + limit;
        if let Role::Feed(feed) = &mut link.role {
            if feed.finish_record(&cx.replica.tail, limit, out).is_err() {
                self.close(now, conn, Close::Lagged, cx);
                return false;
            }
            if feed.is_within_record() {
                return true;
            }
            if link.staged.is_empty() && (!link.messages.had_share() || feed.has_streamed(&cx.replica.tail)) {
                link.messages.stage(&mut link.staged);
            }
            feed.step_sweep(cx.replica, &mut link.staged);
            link.serving.step(cx.replica, &mut link.staged);
        }
        link.staged.drain_to(full - out.len(), out);
        if !link.staged.is_empty() {
            return true;
        }
        if let Role::Feed(feed) = &mut link.role {
            if out.len() < full {
                link.messages.end_share();
            }
            feed.stream(cx.replica, full - out.len(), out);
            if feed.take_owed_status(&cx.replica.tail) {
                let said = (self.roster.hash(), &self.retirement);
                emit_status(link, clocks(now, cx.replica), said, cx.replica);
                link.staged.drain_to(full - out.len(), out);
            }
        }
        if let Role::Feed(feed) = &mut link.role
            && feed.ask(cx.replica, &mut link.staged)
        {
            link.staged.drain_to(full - out.len(), out);
        }
        link.asleep = !link.has_frames() && !link.has_more_to_feed(cx.replica);
        !link.asleep
    }

    /// Does what is due: dials, heartbeats, the end of silent links, and a step of whatever walks the store.
    pub(crate) fn tick(&mut self, now: Now, cx: &mut Context<'_>) {
        self.close_silent(now, cx);
        self.guard_clocks(now, cx);
        cx.replica.ledger.age(now.mono);
        self.dial_due(now, cx);
        self.look_for_home(now, cx);
        self.look_for_lacks(now, cx);
        self.check_exposure(now, cx);
        self.seat_all(now, cx);
        self.forget_absent(now, cx);
        self.step_leave(now, cx);
        self.step_retirement(now, cx);
        self.intake.plan(&mut self.links, cx.replica, &cx.config.timers, now.mono);
        let step_ms = self.step_walks(now, cx);
        self.check_arrival(now, cx);
        self.check_scrub(now, &cx.config.timers);
        self.send_statuses(now, cx);
        self.wake_staged(cx.effects);
        self.plan_deadline(now, step_ms, cx);
    }

    /// Wakes the links that have something to send now that the tail may have grown.
    pub(crate) fn wake_fed(&mut self, cx: &mut Context<'_>) {
        for link in self.links.values_mut().filter(|link| link.asleep) {
            if let Role::Feed(feed) = &mut link.role {
                feed.pass_over(cx.replica);
                // With that, all that a question is to go behind may have been sent.
                feed.ask(cx.replica, &mut link.staged);
            }
            if link.has_more_to_feed(cx.replica) || link.has_frames() {
                link.asleep = false;
                cx.effects.actions.push(Action::Wake { conn: link.conn });
            }
        }
    }

    /// Whether this node is being sent over `link` what it lacks, or has to be.
    pub(crate) fn catches_up_over(&self, link: &Link, replica: &Replica) -> bool {
        self.intake.is_swept_by(link.conn) || intake::lacks_sweep(link, replica)
    }

    /// Whether it does over any.
    pub(crate) fn catches_up(&self, replica: &Replica) -> bool {
        self.links.values().any(|link| self.catches_up_over(link, replica))
    }

    /// How much of this run's own stream `name` was last heard to hold.
    pub(crate) fn held_by(&self, name: &str) -> Hlc {
        self.held.get(name).filter(|held| held.origin == self.marks.origin()).map_or(Hlc::ZERO, |held| held.hlc)
    }

    /// Whether `name` holds everything up to `version` of that origin, as it last stated.
    pub(crate) fn holds(&self, name: &str, version: Version, origins: &Origins) -> bool {
        let mut peers = self.links.values().filter_map(|link| link.peer.as_ref()).filter(|peer| peer.name == name);
        peers.any(|peer| peer.holds(version.origin, origins) >= version.hlc)
    }

    /// Of how many members it is remembered how much of this run's stream they hold.
    pub(crate) fn holders(&self) -> usize {
        self.held.len()
    }

    /// Seats of the roster.
    pub(crate) fn seats(&self) -> usize {
        self.roster.len()
    }

    /// Bytes staged for the link that has most of them.
    pub(crate) fn staged_bytes(&self) -> usize {
        self.links.values().map(Link::staged_bytes).max().unwrap_or(0)
    }

    fn close_silent(&mut self, now: Now, cx: &mut Context<'_>) {
        let timers = &cx.config.timers;
        let unanswered = self.intake.give_up_unanswered(timers, now.mono);
        let silent = |link: &&Link| link.expires(timers) <= now.mono;
        let silent = self.links.values().filter(silent).map(|link| link.conn);
        let conns: Vec<ConnId> = silent.chain(unanswered).collect();
        for conn in conns {
            self.close(now, conn, Close::Silent, cx);
        }
    }

    fn dial_due(&mut self, now: Now, cx: &mut Context<'_>) {
        if self.is_out(cx) {
            return;
        }
        let links = &self.links;
        while let Some(addr) = self.members.next_dial(now.mono, |name| pulls_from(links, name)) {
            cx.effects.actions.push(Action::Dial { addr });
        }
    }

    fn send_statuses(&mut self, now: Now, cx: &Context<'_>) {
        self.marks.mark(cx.replica);
        let clocks = clocks(now, cx.replica);
        let hash = self.roster.hash();
        for link in self.links.values_mut() {
            if link.status_at > now.mono || link.peer.is_none() {
                continue;
            }
            link.status_at = now.mono.plus_ms(cx.config.timers.heartbeat_ms);
            link.serving.refill();
            tell_roster(link, hash, &self.roster);
            emit_status(link, clocks, (hash, &self.retirement), cx.replica);
            durable::tell_durable(link, self.durable.as_ref(), cx.replica);
            if link.named < self.writers.newest() {
                lists::emit_writers(self.writers.since(link.named), link.staged.out());
                link.named = self.writers.newest();
            }
        }
    }

    /// A step of each walk that has something to do; in how many milliseconds the next is due, if any has more.
    fn step_walks(&mut self, now: Now, cx: &mut Context<'_>) -> Option<u64> {
        // What writes by itself has time.
        let writes = !cx.replica.is_disk_behind();
        let reissuing = writes && self.step_reissue(now, cx);
        let announcing = writes && self.orphans.step(now, &self.links, &self.members, &self.intake, cx);
        let dropping = writes && self.step_strays(now, cx);
        let expiring = match cx.replica.refused {
            // Who leaves is a member meanwhile, and may have to stay.
            // (`sim/regressions/who-is-leaving-went-on-counting-what-had-expired`)
            None | Some(Refused::Left | Refused::Disk(_) | Refused::DiskBehind | Refused::Restored) => {
                cx.replica.expire(now.wall, self.expiring.map(|last| now.mono.us_since(last)))
            }
            // A clock that is too far ahead would expire what the others still serve.
            Some(Refused::ClockAhead { .. } | Refused::Fenced) => false,
        };
        self.expiring = expiring.then_some(now.mono);
        let freeing = cx.replica.store.free_origins() | cx.replica.store.free_dead();
        self.settle_vouches(cx.replica);
        self.settle_returned(cx);
        let collecting = self.collector.step(now, (&self.roster, &self.links, self.retirement.settled()), cx);
        let walking = reissuing | announcing | dropping | freeing | collecting;
        if expiring { Some(0) } else { walking.then_some(STEP_MS) }
    }

    fn plan_deadline(&mut self, now: Now, step_ms: Option<u64>, cx: &Context<'_>) {
        let links = &self.links;
        let timers = &cx.config.timers;
        let mut deadline = now.mono.plus_ms(step_ms.unwrap_or(IDLE_MS_MAX));
        for link in links.values() {
            deadline = deadline.min(link.expires(timers));
            if link.peer.is_some() {
                deadline = deadline.min(link.status_at);
            }
        }
        if let Some(seals) = self.seals_at(cx) {
            deadline = deadline.min(seals);
        }
        // What is due by now waits for something else than time.
        let expiry_ms = cx.replica.store.next_expiry().0.saturating_sub(now.wall.0);
        if expiry_ms > 0 {
            deadline = deadline.min(now.mono.plus_ms(expiry_ms));
        }
        if !self.is_out(cx)
            && let Some(dial) = self.members.deadline(|name| pulls_from(links, name))
        {
            deadline = deadline.min(dial);
        }
        self.deadline = deadline;
    }

    /// Ticks as soon as the driver can.
    fn soon(&mut self, now: Mono) {
        self.deadline = self.deadline.min(now);
    }

    fn greet(&mut self, now: Now, link: &mut Link, cx: &Context<'_>) {
        let nonce = self.gate.nonce(now);
        let out = link.out();
        out.extend_from_slice(&PREAMBLE);
        let start = out.len();
        let greeting = Greeting {
            protocol: cx.config.protocol,
            nonce: nonce.as_ref(),
            run: self.run,
            incarnation: self.incarnation,
            clocks: clocks(now, cx.replica),
            established: cx.replica.exposure == Exposure::Exposed,
            durable: cx.replica.log.is_some(),
            cluster: &cx.config.cluster,
            name: &cx.config.name,
            advertise: &cx.config.advertise,
            clients_at: &self.clients_at,
        };
        hello::emit_greeting(&greeting, out);
        let body = out[start + PREFIX_BYTES..].to_vec();
        if let Auth::Greeting { ours } = &mut link.auth {
            *ours = body;
        }
    }

    /// Names the members. Only to who was let in: a stranger learns of nobody but the node it reached.
    fn name_members(&self, link: &mut Link) {
        let members = self.members.iter().map(|(name, member)| (name, member.advertise.as_str()));
        lists::emit_members(members, link.staged.out());
        lists::emit_writers(self.writers.since(0), link.staged.out());
        link.named = self.writers.newest();
    }

    fn wake(&mut self, conn: ConnId, effects: &mut Effects) {
        if let Some(link) = self.links.get_mut(&conn)
            && link.asleep
        {
            link.asleep = false;
            effects.actions.push(Action::Wake { conn });
        }
    }

    fn wake_staged(&mut self, effects: &mut Effects) {
        for link in self.links.values_mut() {
            if link.asleep && link.has_frames() {
                link.asleep = false;
                effects.actions.push(Action::Wake { conn: link.conn });
            }
        }
    }
}

/// What replication works on besides itself.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) replica: &'a mut Replica,
    pub(crate) effects: &'a mut Effects,
}

impl Context<'_> {
    fn close(&mut self, conn: ConnId, why: Close) {
        self.effects.actions.push(Action::Close { conn, why });
    }
}

fn link_mut(links: &mut Links, conn: ConnId) -> Option<&mut Link> {
    links.get_mut(&conn)
}

/// Whether a link on which this node pulls from `name` stands.
fn pulls_from(links: &Links, name: &str) -> bool {
    links.values().any(|link| matches!(link.role, Role::Pull(_)) && link.name() == Some(name))
}

fn clocks(now: Now, replica: &Replica) -> Clocks {
    Clocks { wall: now.wall, hlc: replica.clock() }
}

fn emit_status(link: &mut Link, clocks: Clocks, (roster, retirement): (u64, &Retirement), replica: &Replica) {
    let established = replica.exposure == Exposure::Exposed;
    let drained = match &link.role {
        Role::Feed(feed) => feed.has_streamed(&replica.tail) && link.staged.is_empty(),
        Role::Pull(_) => false,
    };
    let out = link.staged.out();
    let says = |origin: OriginId| is_settled(origin, replica) && !replica.withholds(origin);
    let settled = retirement.settled().iter().filter(|origin| says(**origin));
    let settled = settled.filter_map(|origin| replica.origins.find(*origin)).map(|account| (account.id, account.held));
    let replaced = settled.clone().filter(|(origin, _)| retirement.replaced().contains(origin));
    let leaves = replica.refused == Some(Refused::Left);
    let (root, retired) = (replica.store.root(), replica.mark());
    let knows_leaving = link.peer.as_ref().is_some_and(|peer| peer.leaves);
    let standing = Standing { leaves, knows_leaving, whole: replica.is_whole, roster, root, retired };
    let start = out.len();
    peer::emit_status(
        clocks,
        replica.own(),
        (established, drained),
        standing,
        (settled, replaced),
        replica.exposed_for_statements(),
        out,
    );
    // An idle cluster does not tell itself over and over how far everybody has come.
    let mut hasher = SipHasher13::new();
    hasher.write(peer::statement(&out[start..]));
    let stated = hasher.finish() | 1;
    if std::mem::replace(&mut link.stated, stated) == stated {
        out.truncate(start);
        peer::emit_alive(clocks, out);
    }
    if let Role::Feed(feed) = &mut link.role
        && !drained
    {
        feed.owe_status();
    }
}
