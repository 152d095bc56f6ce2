//! Clients that wait: for other nodes to hold what they wrote (`WAIT`), or for what was written elsewhere to come here
//! (`WAITFOR`).
//!
//! A connection waits for one thing at a time and is not read meanwhile, so there are no more waiters than clients.
//! They are kept in the order in which they can be served: whoever looks finds those whose time has come first, and
//! pays for the others nothing but a look at the next in line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::boundary::{Action, ConnId, Effects};
use crate::command::Reply;
use crate::execute::Flow;
use crate::repl::{NotLeft, Replication};
use crate::replica::{Exposure, Replica, Unshown};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId, Version};
use crate::wire::token::Token;
use crate::wire::{Answer, Dialect};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// So many other nodes that hold what the connection wrote last; where it wrote nothing, so many linked ones.
    Copies { count: u64, wrote: Option<Version> },
    /// Everything that an origin wrote up to this version.
    Here(Version),
    /// That this node has left its cluster.
    Leave,
    /// What the driver does aside.
    Job,
}

/// The waiting clients.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<ConnId, Waiter>,
    /// When those with a time limit have waited long enough.
    deadlines: BTreeSet<(Mono, ConnId)>,
    /// Those who want copies, by how many, and by where this run's stream has to be held up to.
    copies: BTreeSet<(u64, Hlc, ConnId)>,
    /// Those who want copies of what this run may still write anew under another stamp.
    unstamped: BTreeSet<ConnId>,
    /// Those who want something to be here.
    here: BTreeSet<(OriginId, Hlc, ConnId)>,
    /// Those who had this node leave.
    leaving: BTreeSet<ConnId>,
    /// The greatest stamp that copies were ever wanted of.
    newest: Hlc,
    /// Something that somebody may wait for has happened since [`look`](Self::look) was last called.
    stirred: bool,
}

#[derive(Debug)]
struct Waiter {
    /// None: until it is there.
    deadline: Option<Mono>,
    /// Of the client.
    dialect: Dialect,
    state: State,
}

#[derive(Debug)]
enum State {
    /// `upto` once it is known under which stamp peers come to know the write.
    Copies {
        count: u64,
        wrote: Option<Version>,
        upto: Option<Hlc>,
    },
    Here(Version),
    Leave,
    Job,
    Left(Result<(), NotLeft>),
    /// The reply, or what is left of it.
    Served(Vec<u8>),
}

/// What [`Waiters::fill`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The client does not wait, or has to wait on.
    Nothing,
    /// More of the reply is left.
    Partly,
    /// All of the reply is out: the client waits no more.
    Wholly,
}

impl Waiters {
    /// Whether `conn` waits, or has not been given all of its late reply.
    pub(crate) fn is_waiting(&self, conn: ConnId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&conn)
    }

    /// How many clients wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the first time limit ends.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Lets `conn`, which is not waiting, wait for `wanted`, at most `ms` milliseconds; 0: without limit.
    pub(crate) fn wait(
        &mut self,
        now: Now,
        (conn, dialect): (ConnId, Dialect),
        wanted: Wanted,
        ms: u64,
        replica: &Replica,
    ) {
        let deadline = (ms > 0).then(|| now.mono.plus_ms(ms));
        let state = match wanted {
            Wanted::Copies { count, wrote } => {
                let upto = target(wrote, replica);
                self.index_copies(conn, count, upto);
                State::Copies { count, wrote, upto }
            }
            Wanted::Here(version) => {
                self.here.insert((version.origin, version.hlc, conn));
                State::Here(version)
            }
            Wanted::Leave => {
                self.leaving.insert(conn);
                State::Leave
            }
            Wanted::Job => State::Job,
        };
        self.deadlines.extend(deadline.map(|deadline| (deadline, conn)));
        let before = self.waiting.insert(conn, Waiter { deadline, dialect, state });
        debug_assert!(before.is_none(), "a connection waits for one thing at a time");
        self.stirred = true;
    }

    /// Forgets a connection that has gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(waiter) = self.waiting.remove(&conn) {
            self.unindex(conn, &waiter);
        }
    }

    /// Notes that something has happened that somebody may wait for.
    pub(crate) fn stir(&mut self) {
        self.stirred = true;
    }

    /// Serves those whose wish has come true, and has peers asked for what others wait for.
    pub(crate) fn look(&mut self, replica: &Replica, repl: &mut Replication, effects: &mut Effects) {
        if self.waiting.is_empty() || !std::mem::take(&mut self.stirred) {
            return;
        }
        self.look_here(replica, effects);
        self.look_left(replica, repl, effects);
        self.stamp(replica);
        if self.copies.is_empty() {
            return;
        }
        let held = repl.copies(replica);
        for (count, upto) in (1..).zip(&held) {
            while let Some((_, _, conn)) =
                self.copies.range((count, Hlc::ZERO, ConnId(0))..=(count, *upto, LAST)).next()
            {
                self.serve(*conn, replica, &held, effects);
            }
        }
        if !self.copies.is_empty() {
            repl.ask_statuses(self.newest, replica);
        }
    }

    /// Serves those whose time has run out.
    pub(crate) fn expire(&mut self, now: Now, replica: &Replica, repl: &Replication, effects: &mut Effects) {
        if self.deadline().is_none_or(|deadline| deadline > now.mono) {
            return;
        }
        self.stamp(replica);
        let held = repl.copies(replica);
        while let Some((deadline, conn)) = self.deadlines.first().copied()
            && deadline <= now.mono
        {
            self.serve(conn, replica, &held, effects);
        }
    }

    /// Gives `conn`, which waits for what the driver does aside, its reply.
    pub(crate) fn answer(&mut self, conn: ConnId, text: Vec<u8>, effects: &mut Effects) {
        if let Some(waiter) = self.waiting.get_mut(&conn).filter(|waiter| matches!(waiter.state, State::Job)) {
            waiter.state = State::Served(text);
            effects.actions.push(Action::Wake { conn });
        }
    }

    /// Appends at most `limit` bytes of the late reply to `conn`.
    pub(crate) fn fill(&mut self, conn: ConnId, limit: usize, out: &mut Vec<u8>) -> Filled {
        let Some(Waiter { state: State::Served(reply), .. }) = self.waiting.get_mut(&conn) else {
            return Filled::Nothing;
        };
        out.extend(reply.drain(..limit.min(reply.len())));
        if !reply.is_empty() {
            return Filled::Partly;
        }
        self.waiting.remove(&conn);
        Filled::Wholly
    }

    /// Serves those who had this node leave, once that has come to an end.
    fn look_left(&mut self, replica: &Replica, repl: &Replication, effects: &mut Effects) {
        let Some(outcome) = repl.has_left().filter(|_| !self.leaving.is_empty()) else { return };
        while let Some(conn) = self.leaving.first().copied() {
            if let Some(waiter) = self.waiting.get_mut(&conn) {
                waiter.state = State::Left(outcome);
            }
            self.leaving.remove(&conn);
            self.serve(conn, replica, &[], effects);
        }
    }

    /// Serves those for whom enough is here: one step for each origin that is both known and waited for.
    fn look_here(&mut self, replica: &Replica, effects: &mut Effects) {
        let retired = replica.origins.retired();
        if self.here.len() > replica.origins.len() + retired.len() as usize {
            let accounts = replica.origins.iter().map(|origin| (origin.id, origin.frontier));
            for (origin, hlc) in retired.since(0).map(|entry| (entry.origin, entry.last)).chain(accounts) {
                self.serve_here(origin, hlc, replica, effects);
            }
            return;
        }
        let mut next = self.here.first().copied();
        while let Some((origin, ..)) = next {
            self.serve_here(origin, replica.origins.frontier(origin), replica, effects);
            let behind = (Bound::Excluded((origin, Hlc(u64::MAX), LAST)), Bound::Unbounded);
            next = self.here.range(behind).next().copied();
        }
    }

    fn serve_here(&mut self, origin: OriginId, frontier: Hlc, replica: &Replica, effects: &mut Effects) {
        while let Some((_, _, conn)) =
            self.here.range((origin, Hlc::ZERO, ConnId(0))..=(origin, frontier, LAST)).next().copied()
        {
            self.serve(conn, replica, &[], effects);
        }
    }

    /// Learns the stamps of what was written before anybody could see it, once they are known.
    fn stamp(&mut self, replica: &Replica) {
        while let Some(conn) = self.unstamped.first().copied() {
            let Some(Waiter { state: State::Copies { count, wrote, upto }, .. }) = self.waiting.get_mut(&conn) else {
                debug_assert!(false, "who is unstamped wants copies");
                self.unstamped.remove(&conn);
                continue;
            };
            *upto = target(*wrote, replica);
            let (count, upto) = (*count, *upto);
            if upto.is_none() {
                return;
            }
            self.unstamped.remove(&conn);
            self.index_copies(conn, count, upto);
        }
    }

    /// Gives `conn` its reply as things stand; `held` is how far each linked member has this run's stream.
    fn serve(&mut self, conn: ConnId, replica: &Replica, held: &[Hlc], effects: &mut Effects) {
        let Some(waiter) = self.waiting.remove(&conn) else {
            debug_assert!(false, "who is waiting is known");
            return;
        };
        self.unindex(conn, &waiter);
        let reply = match waiter.state {
            State::Copies { upto, .. } => Reply::Count(count_held(held, upto)),
            State::Here(version) if is_here(version, replica) => Reply::Ok,
            State::Here(_) => Reply::NotHere,
            State::Left(Ok(())) => Reply::Ok,
            State::Left(Err(why)) => Reply::NotLeft(why),
            State::Leave => Reply::NotLeft(NotLeft::NotDrained),
            // It has no time limit, and is answered by `answer`.
            State::Job => Reply::LoginsBusy,
            State::Served(reply) => return drop(self.waiting.insert(conn, served(reply))),
        };
        let mut text = Vec::new();
        waiter.dialect.emit(&reply, &mut text);
        self.waiting.insert(conn, served(text));
        effects.actions.push(Action::Wake { conn });
    }

    fn index_copies(&mut self, conn: ConnId, count: u64, upto: Option<Hlc>) {
        match upto {
            Some(upto) => {
                self.newest = self.newest.max(upto);
                self.copies.insert((count, upto, conn));
            }
            None => {
                self.unstamped.insert(conn);
            }
        }
    }

    fn unindex(&mut self, conn: ConnId, waiter: &Waiter) {
        match waiter.state {
            State::Copies { upto: None, .. } => drop(self.unstamped.remove(&conn)),
            State::Copies { count, upto: Some(upto), .. } => drop(self.copies.remove(&(count, upto, conn))),
            State::Here(version) => drop(self.here.remove(&(version.origin, version.hlc, conn))),
            State::Leave => drop(self.leaving.remove(&conn)),
            State::Job | State::Left(_) | State::Served(_) => {}
        }
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, conn));
        }
    }
}

/// A command about waiting: `WAIT`, `TOKEN` or `WAITFOR`. `ms` 0: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Copies { count: u64, ms: u64 },
    Token,
    Here { token: Token, ms: u64 },
}

/// Who gave such a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) now: Now,
    pub(crate) conn: ConnId,
    /// What the connection wrote last.
    pub(crate) wrote: Option<Version>,
    /// Of the node's own cluster.
    pub(crate) cluster_tag: u32,
}

impl Asker {
    /// Carries out a command: appends the reply to `out`, or lets the client wait.
    pub(crate) fn run(
        &self,
        waiting: Waiting,
        replica: &Replica,
        repl: &Replication,
        waiters: &mut Waiters,
        answer: &mut Answer<'_>,
    ) -> Flow {
        let reply = match waiting {
            Waiting::Copies { count: wanted, ms } => {
                let count = count_held(&repl.copies(replica), target(self.wrote, replica));
                if count < wanted {
                    let wanted = Wanted::Copies { count: wanted, wrote: self.wrote };
                    waiters.wait(self.now, (self.conn, answer.dialect), wanted, ms, replica);
                    return Flow::Blocked;
                }
                Reply::Count(count)
            }
            Waiting::Token => self.token(replica),
            Waiting::Here { token, .. } if token.cluster != self.cluster_tag => Reply::ForeignToken,
            Waiting::Here { token, ms } if !is_here(token.version, replica) => {
                waiters.wait(self.now, (self.conn, answer.dialect), Wanted::Here(token.version), ms, replica);
                return Flow::Blocked;
            }
            Waiting::Here { .. } => Reply::Ok,
        };
        answer.say(&reply);
        Flow::Continue
    }

    fn token(&self, replica: &Replica) -> Reply<'static> {
        replica.note_unsynced_told();
        let version = match self.wrote {
            // Nobody may ever come.
            Some(wrote) if replica.exposure == Exposure::Alone => Ok(Some(wrote)),
            Some(wrote) => replica.shown(wrote).map(Some).ok_or(Unshown),
            None => replica.newest_own(),
        };
        let cluster = self.cluster_tag;
        let is_unsure = |version: Version| {
            version.origin == replica.own() && replica.log.as_ref().is_some_and(|log| log.is_unsure(version.hlc))
        };
        match version {
            Ok(Some(version)) if is_unsure(version) => Reply::NotOnDisk,
            Ok(Some(version)) => Reply::Token(Token { cluster, version }),
            Ok(None) => Reply::Token(Token::of_nothing(cluster)),
            Err(Unshown) => Reply::NotJoined,
        }
    }
}

/// After every other name of a connection.
const LAST: ConnId = ConnId(u32::MAX);

fn served(reply: Vec<u8>) -> Waiter {
    Waiter { deadline: None, dialect: Dialect::default(), state: State::Served(reply) }
}

/// How far others have to hold this run's stream to hold what was written as `wrote`; zero where nothing was. None
/// while that is not known.
pub(crate) fn target(wrote: Option<Version>, replica: &Replica) -> Option<Hlc> {
    wrote.map_or(Some(Hlc::ZERO), |wrote| replica.shown(wrote).map(|shown| shown.hlc))
}

/// How many of `held`, greatest first, reach `upto`; none where that is not known.
pub(crate) fn count_held(held: &[Hlc], upto: Option<Hlc>) -> u64 {
    upto.map_or(0, |upto| held.partition_point(|held| *held >= upto) as u64)
}

/// Whether everything up to `version` of its origin is held.
pub(crate) fn is_here(version: Version, replica: &Replica) -> bool {
    replica.origins.frontier(version.origin) >= version.hlc
}
