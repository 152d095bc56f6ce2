//! Sessions: what clients asked, what they were told, and what that says about the node's state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kv_core::{Now, Version, WallMs};

use super::messages::Audience;
use super::waits::Waits;
use super::{Judge, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{Ask, CHANNEL, size, value};
use crate::workload::as_of_key;

/// A connection of a client, numbered over all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A command and the line that answered it.
pub type Reply = (Ask, String);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: u64,
    /// The node that it is with.
    pub(super) home: u64,
    /// Sent and not answered yet, in order.
    pub(super) asked: VecDeque<Ask>,
    /// The start of a reply whose end has not come.
    partial: Vec<u8>,
    /// Whole commands that the node was handed, and those it answered.
    received: u64,
    answered: u64,
    pub(super) waits: Waits,
    /// It has subscribed.
    pub(super) listens: bool,
    /// What was said to it.
    pub(super) heard: BTreeSet<u64>,
    /// Of each line that has not left: whether it is a reply, and no message.
    lines: VecDeque<bool>,
    /// Of each reply that has not left: its number, and the version of a key that it tells of.
    pub(super) unsent: VecDeque<(u64, Option<(u64, Version)>)>,
}

/// What a key must look like after the commands of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) token: Option<u64>,
    pub(super) deadline: Option<WallMs>,
    pub(super) write: Write,
}

impl Expected {
    fn is_live(&self, now: Now) -> bool {
        self.token.is_some() && self.deadline.is_none_or(|deadline| now.wall < deadline)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Only read.
    None,
    /// There is a new version.
    Done,
    /// A delete of what was not there: a new tombstone or nothing.
    Perhaps,
}

impl Judge {
    /// A client is about to connect.
    pub fn open_session(&mut self, client: u64) -> SessionId {
        self.sessions.push(Session {
            client,
            home: self.home(client),
            asked: VecDeque::new(),
            partial: Vec::new(),
            received: 0,
            answered: 0,
            waits: Waits::default(),
            listens: false,
            heard: BTreeSet::new(),
            lines: VecDeque::new(),
            unsent: VecDeque::new(),
        });
        SessionId(self.sessions.len() as u64 - 1)
    }

    /// The node that a client speaks to.
    #[must_use]
    pub fn home(&self, client: u64) -> u64 {
        self.homes[size(client)]
    }

    /// The node that a session is with.
    #[must_use]
    pub fn is_with(&self, session: SessionId) -> u64 {
        self.sessions[size(session.0)].home
    }

    /// A client speaks to another node from its next connection on.
    pub fn moved(&mut self, client: u64, node: u64) {
        self.homes[size(client)] = node;
    }

    /// A client puts a command into its connection.
    pub fn asked(&mut self, session: SessionId, ask: Ask) {
        self.session(session).asked.push_back(ask);
        let home = self.session(session).home;
        if let Ask::Set { token, .. } = ask
            && let Some(token) = self.tokens.get_mut(&token)
        {
            token.home = home;
        }
        if let Ask::Publish { token, pad } = ask {
            self.said.insert(token, (home, pad));
        }
        self.mark(session, ask);
    }

    pub(crate) fn session_accepted(&mut self, session: SessionId, run: RunId) {
        let (home, node) = (self.session(session).home, self.run(run).node);
        assert_eq!(home, node, "a client speaks to its own node");
    }

    pub(crate) fn session_received(&mut self, session: SessionId, bytes: &[u8]) {
        self.session(session).received += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// Pairs the lines in `news` with the commands that they answer. `others` hear what is said to the same node.
    pub(crate) fn take_replies(&mut self, session: SessionId, news: &[u8], others: Audience) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut unasked = None;
        let are_fields = self.plan.setting.hashes > 0;
        let state = self.session(session);
        state.partial.extend_from_slice(news);
        let Some(end) = state.partial.iter().rposition(|byte| *byte == b'\n') else { return replies };
        let rest = state.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut state.partial, rest);
        for line in lines[..end].split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
            let is_message = self.hear(session, &line);
            let state = self.session(session);
            state.lines.push_back(!is_message);
            if is_message {
                continue;
            }
            state.answered += 1;
            let Some(ask) = state.asked.pop_front().filter(|_| state.answered <= state.received) else {
                unasked = Some(line);
                continue;
            };
            let line = if are_fields { as_of_key(ask, line) } else { line };
            let is_refused = line.starts_with("Error:");
            match ask {
                Ask::Subscribe => state.listens |= !is_refused,
                Ask::Publish { .. } if !is_refused => self.check_said(session, &line, others),
                _ => {}
            }
            replies.push((ask, line));
        }
        self.stats.answers += replies.len() as u64;
        if let Some(line) = unasked {
            self.fail(Oracle::Session, || format!("session {} was told {line:?} and had not asked", session.0));
        }
        replies
    }

    pub(crate) fn all_answered(&mut self, session: SessionId) {
        let Session { received, answered, .. } = *self.session(session);
        if answered < received {
            self.fail(Oracle::Availability, || {
                format!("session {} has {answered} answers to {received} commands at the end of a turn", session.0)
            });
        }
    }

    /// Who loads takes no commands but those about itself.
    pub(super) fn check_loading(&mut self, run: RunId, session: SessionId, replies: &[Reply]) {
        self.session(session).waits.skip(replies.len());
        self.session(session).unsent.extend(replies.iter().map(|_| (u64::MAX, None)));
        for (ask, line) in replies {
            if line.starts_with("Error:") {
                self.marks.saw(Mark::RefusedWhileLoading);
            }
            let right = line.starts_with("Error:") || matches!(ask, Ask::Ping | Ask::Stats);
            if !right {
                self.fail(Oracle::Session, || format!("run {}: {ask:?} was answered {line:?} while it loads", run.0));
            }
        }
    }

    /// Replays answered commands on what the run held before them; what their keys must look like now.
    pub(super) fn replay(
        &mut self,
        run: RunId,
        session: Option<SessionId>,
        now: Now,
        replies: &[Reply],
    ) -> BTreeMap<u64, Expected> {
        let mut expected = BTreeMap::new();
        let session = session.map_or(0, |session| session.0);
        for (ask, line) in replies {
            let wrong = self.replay_one(run, now, *ask, line, &mut expected);
            if let Err((oracle, wanted)) = wrong {
                self.fail(oracle, || {
                    format!("run {}, session {session}: {ask:?} was answered {line:?}, not {wanted}", run.0)
                });
            }
        }
        expected
    }

    /// A write was refused with `line`.
    fn check_refusal(&mut self, run: RunId, line: &str) -> Result<(), (Oracle, String)> {
        self.stats.refusals += 1;
        if line.starts_with("Error: this node's clock is") {
            self.marks.saw(Mark::WriteRefusedForClock);
        }
        if line.starts_with("Error: the disk does not keep up") {
            self.marks.saw(Mark::WriteRefusedForQueue);
            if !self.run(run).is_disk_behind {
                return Err((Oracle::Availability, "a refusal for a disk that keeps up".to_owned()));
            }
        }
        if self.may_refuse(run) { Ok(()) } else { Err((Oracle::Availability, "a refusal".to_owned())) }
    }

    fn replay_flush(
        &mut self,
        run: RunId,
        line: &str,
        expected: &mut BTreeMap<u64, Expected>,
    ) -> Result<(), (Oracle, String)> {
        match line {
            "OK" => {
                let delete = Expected { token: None, deadline: None, write: Write::Done };
                expected.extend((0..self.plan.setting.keys).map(|key| (key, delete)));
                Ok(())
            }
            // Who has not found its cluster yet flushes nothing.
            _ if line.starts_with("Error: this node has not joined") => Ok(()),
            _ if line.starts_with("Error:") => self.check_refusal(run, line),
            _ => Err((Oracle::Session, "OK".to_owned())),
        }
    }

    fn replay_drop(
        &mut self,
        run: RunId,
        now: Now,
        hash: u64,
        line: &str,
        expected: &mut BTreeMap<u64, Expected>,
    ) -> Result<(), (Oracle, String)> {
        if line.starts_with("Error:") {
            return self.check_refusal(run, line);
        }
        let fields: Vec<_> = (0..self.plan.setting.keys).filter(|key| self.is_in(*key, hash)).collect();
        let lives = |key: &u64| self.expected(run, *key, &mut expected.clone()).is_live(now);
        let any_lives = fields.iter().any(lives);
        for key in fields {
            let state = self.expected(run, key, expected);
            if state.is_live(now) {
                *state = Expected { token: None, deadline: None, write: Write::Done };
            } else if state.write == Write::None {
                // A counter of the hash may be there, and be deleted.
                state.write = Write::Perhaps;
            }
        }
        if line == "OK" || (line == "Key not found" && !any_lives) {
            Ok(())
        } else {
            Err((Oracle::Session, "OK".to_owned()))
        }
    }

    /// What a run must hold of a key by the commands so far: what it held before them, if none was about it.
    fn expected<'a>(&self, run: RunId, key: u64, expected: &'a mut BTreeMap<u64, Expected>) -> &'a mut Expected {
        let entry = self.run(run).entries[size(key)];
        expected.entry(key).or_insert_with(|| Expected {
            token: entry.and_then(|entry| entry.token),
            deadline: entry.and_then(|entry| entry.deadline),
            write: Write::None,
        })
    }

    fn replay_one(
        &mut self,
        run: RunId,
        now: Now,
        ask: Ask,
        line: &str,
        expected: &mut BTreeMap<u64, Expected>,
    ) -> Result<(), (Oracle, String)> {
        let session = |wanted: &str| Err((Oracle::Session, wanted.to_owned()));
        if ask == Ask::Leave {
            return if line == "OK" || line.starts_with("Error:") { Ok(()) } else { session("OK or why not") };
        }
        if let Ask::Forget { node } = ask {
            let is_up = |of: &super::Run| of.node == node && of.standing == Standing::Current;
            if line == "OK" && self.runs.iter().any(is_up) {
                self.marks.saw(Mark::ForgotOneUp);
            }
            self.forgotten[size(node)] |= line == "OK";
            self.gone += u64::from(line == "OK");
            if line == "OK" && !self.is_up(node) {
                self.forget(run, node);
            }
            return if line == "OK" || line.starts_with("Error:") { Ok(()) } else { session("OK or why not") };
        }
        if matches!(ask, Ask::Add { .. } | Ask::Start { .. } | Ask::Clear { .. } | Ask::Sum { .. }) {
            if !line.starts_with("Error:") {
                return Ok(());
            }
            self.stats.refusals += 1;
            return if self.may_refuse(run) { Ok(()) } else { Err((Oracle::Availability, "a refusal".to_owned())) };
        }
        if ask == Ask::Flush {
            return self.replay_flush(run, line, expected);
        }
        if let Ask::Drop { hash } = ask {
            return self.replay_drop(run, now, hash, line, expected);
        }
        let (Ask::Set { key, .. } | Ask::Get { key } | Ask::Del { key } | Ask::Ttl { key } | Ask::Why { key }) = ask
        else {
            let right = match ask {
                Ask::Ping => line == "PONG",
                Ask::Conflicts => line.starts_with('[') && line.ends_with(']'),
                Ask::Stats => line.starts_with('{'),
                Ask::Subscribe => line == format!("subscribe {CHANNEL} 1"),
                // They are looked at once it is known what the run holds now.
                _ => true,
            };
            return if right { Ok(()) } else { session("PONG, a line of JSON or what was subscribed to") };
        };
        if line.starts_with("Error:") && matches!(ask, Ask::Set { .. } | Ask::Del { .. }) {
            return self.check_refusal(run, line);
        }
        let state = self.expected(run, key, expected);
        let live = state.is_live(now);
        match ask {
            Ask::Set { token, ttl_ms, .. } => {
                let deadline = (ttl_ms > 0).then(|| now.wall.plus_ms(ttl_ms));
                *state = Expected { token: Some(token), deadline, write: Write::Done };
                if line == "OK" { Ok(()) } else { session("OK") }
            }
            Ask::Del { .. } if live => {
                *state = Expected { token: None, deadline: None, write: Write::Done };
                if line == "OK" { Ok(()) } else { session("OK") }
            }
            Ask::Del { .. } => {
                // What was not there may be buried again or not; after an earlier write of this step there is one.
                if state.write == Write::None {
                    state.write = Write::Perhaps;
                }
                if line == "OK" || line == "Key not found" { Ok(()) } else { session("OK or Key not found") }
            }
            Ask::Get { .. } => {
                let value = state.token.map(|token| value(token, self.tokens.get(&token).map_or(0, |t| t.pad)));
                let wanted = value.as_deref().filter(|_| live).unwrap_or("Key not found");
                let expired = !live && value.as_deref() == Some(line);
                let oracle = if expired { Oracle::Ttl } else { Oracle::Session };
                if line == wanted { Ok(()) } else { Err((oracle, wanted.to_owned())) }
            }
            Ask::Why { .. } => {
                let now = match (live, state.deadline) {
                    (true, _) => "value",
                    (false, Some(_)) => "expired",
                    (false, None) => "deleted",
                };
                let known = (state.write == Write::None).then_some(now);
                self.check_why(run, key, known, line).map_err(|wanted| (Oracle::Session, wanted))
            }
            _ => {
                // Whole seconds, rounded.
                let left = state.deadline.map(|deadline| (deadline.0.saturating_sub(now.wall.0) + 500) / 1_000);
                let left = left.map_or("-1".to_owned(), |left| left.to_string());
                let wanted = if live { left } else { "Key not found".to_owned() };
                if line == wanted { Ok(()) } else { Err((Oracle::Ttl, wanted)) }
            }
        }
    }

    /// Takes so many lines off those that have not left; how many of them are replies.
    pub(super) fn leave(&mut self, session: SessionId, lines: usize) -> usize {
        let unsent = &mut self.session(session).lines;
        unsent.drain(..lines.min(unsent.len())).filter(|is_reply| *is_reply).count()
    }

    fn session(&mut self, session: SessionId) -> &mut Session {
        &mut self.sessions[size(session.0)]
    }
}
