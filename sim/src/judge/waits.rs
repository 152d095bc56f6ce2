//! Waiting: what clients are told of other nodes is held against what those nodes hold.
//!
//! An answer of `WAIT` is true if so many other nodes hold what the connection wrote last, or something newer of its
//! key. After `WAITFOR`, a node holds everything that the writer held of its own when it gave the token. A node that
//! has stopped counts with what it held: nobody can know of its end at once.

use std::collections::VecDeque;

use kv_core::{Hlc, OriginId, Version};

use super::sessions::{Reply, Session};
use super::versions::Entry;
use super::{Judge, RunId, SessionId, Standing};
use crate::outcome::Oracle;
use crate::plan::{Ask, size};

/// An answer later than this was waited for: no command takes as long from a client to its node.
const LATE_US: u64 = 2_000;

/// What the oracles of waiting know of a session.
#[derive(Debug, Default)]
pub(super) struct Waits {
    wrote: Wrote,
    /// Of the commands that were sent and not answered.
    marks: VecDeque<Mark>,
}

/// What a session wrote last, as it is seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wrote {
    #[default]
    Nothing,
    Known(Need),
    /// It was overwritten before anybody could look.
    Unknown,
}

/// When a command was sent, and for which token it waits: its number in [`Judge::told`].
#[derive(Clone, Copy, Debug)]
struct Mark {
    at_us: u64,
    token: Option<usize>,
}

/// What a node must hold of a key: this version, or something newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    key: u64,
    version: Version,
    /// Nothing is read after it, sooner or later.
    may_go: bool,
}

/// A token that a client was told.
#[derive(Debug)]
pub(super) struct Told {
    client: u64,
    text: String,
    /// What the writer held of its own, up to the token.
    needs: Vec<Need>,
}

impl Waits {
    /// So many commands were refused, whatever they were.
    pub(super) fn skip(&mut self, commands: usize) {
        self.marks.drain(..commands.min(self.marks.len()));
    }
}

impl Judge {
    /// The newest token that `client` was told; if none was, a word that is no token.
    #[must_use]
    pub fn token(&self, client: u64) -> &str {
        self.newest_token(client).map_or("none", |token| &self.told[token].text)
    }

    /// Whether the first command that this session waits to have answered may wait for ever.
    #[must_use]
    pub fn may_wait_for_ever(&self, session: SessionId) -> bool {
        let first = self.sessions[size(session.0)].asked.front();
        // A node that leaves may take a minute.
        matches!(first, Some(Ask::Wait { ms: 0, .. } | Ask::WaitFor { ms: 0, .. } | Ask::Leave))
    }

    /// A node lets this session wait: it must have asked for it.
    pub(crate) fn waits(&mut self, session: SessionId) {
        let first = self.sessions[size(session.0)].asked.front().copied();
        if !matches!(first, Some(Ask::Wait { .. } | Ask::WaitFor { .. } | Ask::Leave)) {
            self.fail(Oracle::Session, || format!("session {} is made to wait with {first:?}", session.0));
        }
    }

    fn newest_token(&self, client: u64) -> Option<usize> {
        self.told.iter().rposition(|told| told.client == client)
    }

    /// A command was put into a connection.
    pub(super) fn mark(&mut self, session: SessionId, ask: Ask) {
        let token = if let Ask::WaitFor { from, .. } = ask { self.newest_token(from) } else { None };
        if ask == Ask::Leave {
            let home = self.sessions[size(session.0)].home;
            self.leaves[size(home)] = true;
        }
        let mark = Mark { at_us: self.at_us, token };
        self.sessions[size(session.0)].waits.marks.push_back(mark);
    }

    /// Looks at what a session was told by a run, which had seen nothing newer than `newest_before` before that.
    pub(super) fn look_at_waits(
        &mut self,
        run: RunId,
        session: SessionId,
        replies: &[Reply],
        newest_before: Option<Version>,
    ) {
        for (at, (ask, line)) in replies.iter().enumerate() {
            let later = &replies[at + 1..];
            let Some(mark) = self.sessions[size(session.0)].waits.marks.pop_front() else { return };
            let right = match *ask {
                Ask::Set { key, .. } | Ask::Del { key } if line == "OK" => {
                    // Of two commands for a key, one of them a delete, it does not show which wrote what is there.
                    let is_twice =
                        is_written(later, key) || matches!(ask, Ask::Del { .. }) && is_written(&replies[..at], key);
                    let wrote = if is_twice { Some(Wrote::Unknown) } else { None };
                    let wrote = wrote.or_else(|| self.written(run, *ask, key, newest_before));
                    let state = &mut self.sessions[size(session.0)].waits.wrote;
                    *state = wrote.unwrap_or(*state);
                    Ok(())
                }
                Ask::Add { .. } | Ask::Start { .. } | Ask::Clear { .. } | Ask::Flush => {
                    self.sessions[size(session.0)].waits.wrote = Wrote::Unknown;
                    Ok(())
                }
                Ask::Wait { copies, ms } => self.check_wait(run, session, line, copies).and_then(|count| {
                    self.see_wait((run, session), (count, copies), self.at_us > mark.at_us + LATE_US);
                    let too_soon = count < copies && (ms == 0 || self.at_us < mark.at_us + 1_000 * ms);
                    if too_soon { Err("no fewer than asked for before the time has passed".to_owned()) } else { Ok(()) }
                }),
                Ask::Token => self.take_token(run, session, line, newest_before),
                Ask::WaitFor { from, ms } => {
                    let Session { client, home, .. } = self.sessions[size(session.0)];
                    if line == "OK" && from == client && home != self.plan.setting.home(client) {
                        self.marks.saw(crate::Mark::MovedWithToken);
                    }
                    if line.starts_with("Error: that write is not here yet") {
                        self.marks.saw(crate::Mark::WaitForTimedOut);
                    } else if line == "OK" && self.at_us > mark.at_us + LATE_US {
                        self.marks.saw(crate::Mark::WaitForHeld);
                    }
                    self.check_wait_for(run, mark, line, ms)
                }
                _ => Ok(()),
            };
            if let Err(wanted) = right {
                self.fail(Oracle::Waiting, || {
                    format!("run {}, session {}: {ask:?} was answered {line:?}: {wanted}", run.0, session.0)
                });
            }
        }
    }

    /// What a command of this step wrote to `key`; none if nothing.
    fn written(&self, run: RunId, ask: Ask, key: u64, newest_before: Option<Version>) -> Option<Wrote> {
        let (token, may_go) = match ask {
            Ask::Set { token, ttl_ms, .. } => (Some(token), ttl_ms > 0),
            _ => (None, true),
        };
        let entry = self.run(run).entries[size(key)];
        let fresh = entry.filter(|entry| self.is_own(run, entry.version) && Some(entry.version) > newest_before);
        match fresh {
            Some(entry) if entry.token == token => Some(Wrote::Known(Need { key, version: entry.version, may_go })),
            // A delete of nothing writes nothing.
            None if token.is_none() => None,
            _ => Some(Wrote::Unknown),
        }
    }

    /// An answer of `WAIT`: so many other nodes.
    fn check_wait(&self, run: RunId, session: SessionId, line: &str, copies: u64) -> Result<u64, String> {
        let count: u64 = line.parse().map_err(|_| "a number".to_owned())?;
        let home = self.run(run).node;
        let holders = match self.sessions[size(session.0)].waits.wrote {
            Wrote::Known(need) => (0..self.plan.setting.nodes)
                .filter(|node| *node != home)
                .filter(|node| self.runs.iter().any(|run| run.node == *node && need.is_met(self, run)))
                .count() as u64,
            Wrote::Nothing | Wrote::Unknown => self.plan.setting.nodes - 1,
        };
        if count > holders {
            let wrote = self.sessions[size(session.0)].waits.wrote;
            return Err(format!("{holders} at the most hold {wrote:?}; {copies} were asked for"));
        }
        Ok(count)
    }

    /// What an answer of `WAIT` rests on: it names `count`, and `copies` were asked for.
    fn see_wait(&mut self, (run, session): (RunId, SessionId), (count, copies): (u64, u64), is_late: bool) {
        if count < copies {
            self.marks.saw(crate::Mark::WaitTimedOut);
        } else if is_late && copies > 0 {
            self.marks.saw(crate::Mark::WaitHeld);
        }
        let Wrote::Known(need) = self.sessions[size(session.0)].waits.wrote else { return };
        let home = self.run(run).node;
        let is_up = |run: &&super::Run| run.node != home && run.standing != Standing::Stopped;
        let holders = self.runs.iter().filter(is_up).filter(|run| need.is_met(self, run)).map(|run| 1_u64 << run.node);
        let holders = holders.fold(0, |nodes, node| nodes | node).count_ones();
        if count > u64::from(holders) {
            self.marks.saw(crate::Mark::WaitCountedTheDead);
        }
    }

    /// An answer of `TOKEN`: it names what this session wrote last, by the run's origin.
    fn take_token(
        &mut self,
        run: RunId,
        session: SessionId,
        line: &str,
        newest_before: Option<Version>,
    ) -> Result<(), String> {
        if line.starts_with("Error: this node has not joined") {
            return Ok(());
        }
        // Nobody is to wait for what a disk that failed did not have.
        if line.starts_with("Error: the disk failed before") && self.run(run).logged.has_failed {
            return Ok(());
        }
        let version = token_version(line).ok_or("a token")?;
        let state = &self.sessions[size(session.0)];
        let (client, wrote) = (state.client, state.waits.wrote);
        let mut needs = self.own_needs(run, version.hlc);
        match wrote {
            Wrote::Known(need) if need.version.origin == version.origin && need.version != version => {
                return Err(format!("the version of {need:?}"));
            }
            Wrote::Known(need) => needs.push(need),
            Wrote::Nothing if version.hlc == Hlc::ZERO && self.has_written(run, newest_before) => {
                return Err("something that this node wrote".to_owned());
            }
            Wrote::Nothing | Wrote::Unknown => {}
        }
        // Who came back, and has written nothing since, names what it wrote before.
        if version.hlc > Hlc::ZERO && self.origins.get(&version.origin) != Some(&run) {
            return Err(format!("the origin {}", self.run(run).origin));
        }
        self.told.push(Told { client, text: line.to_owned(), needs });
        Ok(())
    }

    /// An answer of `WAITFOR`: what the token names is here, or the time has passed.
    fn check_wait_for(&self, run: RunId, mark: Mark, line: &str, ms: u64) -> Result<(), String> {
        let Some(token) = mark.token else {
            return if line.starts_with("Error: that is no token") { Ok(()) } else { Err("an error".to_owned()) };
        };
        if line.starts_with("Error: that write is not here yet") && ms > 0 && self.at_us >= mark.at_us + 1_000 * ms {
            return Ok(());
        }
        if line != "OK" {
            return Err("OK, or an error when the time has passed".to_owned());
        }
        match self.told[token].needs.iter().find(|need| !need.is_met(self, self.run(run))) {
            Some(need) => Err(format!("it has {:?} and not {need:?}", self.run(run).entries[size(need.key)])),
            None => Ok(()),
        }
    }

    /// What a run holds of its origin, up to `last`.
    fn own_needs(&self, run: RunId, last: Hlc) -> Vec<Need> {
        let entries = self.run(run).entries.iter().zip(0..);
        let needs = entries.filter_map(|(entry, key)| {
            let entry = (*entry)?;
            let may_go = entry.token.is_none() || entry.deadline.is_some();
            let is_own = entry.version.origin == self.run(run).origin && entry.version.hlc <= last;
            is_own.then_some(Need { key, version: entry.version, may_go })
        });
        needs.collect()
    }

    /// Whether the run holds something of its own that is no newer than what it held before this step.
    fn has_written(&self, run: RunId, newest_before: Option<Version>) -> bool {
        newest_before.is_some_and(|newest| !self.own_needs(run, newest.hlc).is_empty())
    }

    fn is_own(&self, run: RunId, version: Version) -> bool {
        self.origins.get(&version.origin) == Some(&run)
    }
}

/// Whether one of these commands wrote, or may have written, to `key`.
fn is_written(replies: &[Reply], key: u64) -> bool {
    let writes = |ask: &Ask| match ask {
        Ask::Set { key: of, .. } | Ask::Del { key: of } => *of == key,
        ask => *ask == Ask::Flush,
    };
    replies.iter().any(|(ask, _)| writes(ask))
}

impl Need {
    fn is_met(&self, judge: &Judge, run: &super::Run) -> bool {
        // What is gone was deleted later, by somebody, and that was forgotten; or a memory lost it before others had
        // it.
        let is_forgotten = || judge.is_forgotten(self.key, Some(self.version));
        // A flush is with every key, also where what was written and deleted since is forgotten.
        // (`sim/regressions/a-delete-since-a-flush-was-forgotten-before-a-run-waited-for-it`)
        let is_nothing = |entry: &Entry| judge.flushes.contains(&entry.version) && entry.version < self.version;
        let Some(entry) = run.entries[size(self.key)].filter(|entry| !is_nothing(entry)) else {
            // What all memories have lost of a run that ended is covered once the rest of it is with everybody.
            let is_lost = || judge.is_with_nobody(self.key, self.version);
            return self.may_go || judge.is_rotten(self.key) || is_forgotten() || is_lost();
        };
        // Where it is gone, something older may have taken its place that had never met it: what the others held when
        // a memory lost it, or what a member alone had written when it came back. The latter is not what was deleted:
        // its writer had not seen it, nor had any delete taken its place.
        let is_buried = || judge.runs.iter().any(|run| run.buried.contains(&entry.version));
        entry.version >= self.version || judge.has_rotted(self.key, self.version) || (is_forgotten() && !is_buried())
    }
}

/// The version in a token: its second and third part.
fn token_version(text: &str) -> Option<Version> {
    let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let (_, origin, hlc) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(Version { hlc: Hlc(hlc), origin: OriginId(origin) })
}
