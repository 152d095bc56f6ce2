//! What a crash cannot take back: where a member with a disk stands as of its last sync is stated apart from what it
//! holds, and only that counts for forgetting deletes (PROTOCOL.md rules 17, 18). And how a run begins that has its
//! old memory.

use crate::boundary::Close;
use crate::origins::{Claims, Known};
use crate::repl::exposure::Reissue;
use crate::repl::frames::Stop;
use crate::repl::link::{Link, Peer};
use crate::repl::retire::{Retirement, is_settled};
use crate::repl::roster::Roster;
use crate::repl::{Context, Replication, clocks, emit_status};
use crate::replica::Replica;
use crate::retired::Mark;
use crate::time::Now;
use crate::version::{Hlc, OriginId};
use crate::wire::lists::Decision;
use crate::wire::peer::{self, DurableView};

/// Where a member stands, as it counts for collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) roster: u64,
    pub(crate) known: Known,
    pub(crate) retired: Mark,
    pub(crate) settled: Claims,
}

/// What a run that has its old memory knows of itself.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) incarnation: u64,
    pub(crate) roster: Roster,
    /// The clock when peers were first let see what this member writes; zero if they were not.
    pub(crate) established: Hlc,
    /// The decision by which it was on its way back, and who told it.
    pub(crate) told: Option<(Decision, String)>,
    /// Which member each origin was a run of.
    pub(crate) writers: Vec<(OriginId, String)>,
}

impl Replication {
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn established(&self) -> Hlc {
        self.progress.established
    }

    /// Where this node stands now.
    pub(crate) fn stated(&self, replica: &Replica) -> Stated {
        let mut known = Known { claims: Claims::default(), retired: replica.mark().len };
        known.claims.raise_all(replica.origins.iter().map(|origin| (origin.id, origin.frontier)));
        let mut settled = Claims::default();
        let ended = self.retirement.settled().iter().filter(|origin| is_settled(**origin, replica));
        let ended = ended.filter_map(|origin| replica.origins.find(*origin));
        settled.raise_all(ended.map(|account| (account.id, account.held)));
        Stated { roster: self.roster.hash(), known, retired: replica.mark(), settled }
    }

    /// All of that is on the disk: peers are told with the next heartbeat.
    pub(crate) fn state_durable(&mut self, now: Now, stated: Stated) {
        if self.durable.as_ref().is_none_or(|(_, last)| *last != stated) {
            let number = self.durable.as_ref().map_or(0, |(number, _)| *number) + 1;
            self.durable = Some((number, stated));
            self.soon(now.mono);
        }
    }

    /// What was written last is on the disk: those hear of it who asked how far this node has come.
    pub(crate) fn answer_asked(&mut self, now: Now, cx: &mut Context<'_>) {
        let hash = self.roster.hash();
        for link in self.links.values_mut().filter(|link| link.asked) {
            link.asked = false;
            answer(now, link, (hash, &self.retirement), cx.replica);
        }
        self.wake_staged(cx.effects);
    }

    /// The disk takes again what others write: they are asked for what was not taken meanwhile.
    pub(crate) fn take_again(&mut self, now: Now, replica: &Replica) {
        if !self.intake.drops_streams() && !replica.is_returning() {
            self.intake.restart_dropped(&mut self.links, replica);
        }
        self.soon(now.mono);
    }

    /// Begins as the run of a member that has its old memory.
    pub(crate) fn recover(&mut self, now: Now, recovered: Recovered, replica: &Replica) {
        let Recovered { incarnation, roster, established, told, writers } = recovered;
        self.incarnation = now.wall.0.max(incarnation + 1);
        self.roster = roster;
        self.progress.recover(now.mono, established, told);
        self.reissue = Reissue::default();
        self.writers.learn(writers.iter().map(|(origin, name)| (*origin, name.as_str())), |_| true);
        let name = self.own_name.clone();
        self.writers.learn(std::iter::once((replica.own(), name.as_str())), |_| true);
    }
}

/// Says on `link` how far this node has come, and that this is the answer.
fn answer(now: Now, link: &mut Link, said: (u64, &Retirement), replica: &Replica) {
    emit_status(link, clocks(now, replica), said, replica);
    peer::emit_status_ask(link.staged.out());
}

/// Tells the peer what of this node counts for collection, if it was not told that.
pub(super) fn tell_durable(link: &mut Link, durable: Option<&(u64, Stated)>, replica: &Replica) {
    let news = durable.filter(|(number, _)| link.told_durable < *number && !replica.is_returning());
    let Some((number, stated)) = news else { return };
    // What is hidden is not stated, nor what has been written anew since: no peer would ever cover it.
    let claims = stated.known.claims.iter();
    let claims = claims.map(|(origin, hlc)| (*origin, replica.origins.frontier(*origin).min(*hlc)));
    let claims = claims.filter(|(origin, hlc)| *hlc > Hlc::ZERO && !replica.is_hidden(*origin));
    peer::emit_durable(stated.roster, stated.retired, stated.settled.iter().copied(), claims, link.staged.out());
    link.told_durable = *number;
}

impl Link {
    /// The peer states what of its frontier is on its disk.
    pub(super) fn on_durable(&mut self, view: &DurableView<'_>) -> Result<(), Stop> {
        let peer = self.peer.as_mut().filter(|peer| peer.is_durable);
        peer.map(|peer| peer.update_durable(view)).ok_or(Stop::Close(Close::Malformed))
    }

    /// The peer asks how far this node has come. Where replies wait for the disk, so does the answer.
    pub(super) fn on_status_ask(&mut self, now: Now, said: (u64, &Retirement), replica: &Replica) {
        if replica.log.as_ref().is_some_and(|log| log.is_always() && log.is_behind()) {
            self.asked = true;
        } else {
            answer(now, self, said, replica);
        }
    }
}

impl Peer {
    /// Takes in what of its statements counts for collection.
    fn update_durable(&mut self, view: &DurableView<'_>) {
        let mut stated = Stated { roster: view.roster, retired: view.retired, ..Stated::default() };
        view.frontier.read_into(&mut stated.known.claims);
        view.settled.read_into(&mut stated.settled);
        self.durable = Some(stated);
        self.vouch_again();
    }

    /// Has what it stated last count once this node covers it.
    pub(super) fn vouch_again(&mut self) {
        match (&self.durable, self.is_durable) {
            (Some(stated), _) => {
                self.vouch.state(stated.roster, &stated.known.claims, stated.retired, &stated.settled);
            }
            (None, true) => {}
            (None, false) => self.vouch.state(self.roster, &self.frontier, self.retired, &self.settled),
        }
    }
}
