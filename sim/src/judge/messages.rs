//! Messages: who hears one has subscribed, it was said, and it is heard once.

use super::{Judge, SessionId};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{CHANNEL, size, value};

/// How many sessions hear what is said to a node: those that stand, and those that it is about to close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// They hear all of it.
    pub open: u64,
    /// They heard some of it.
    pub closing: u64,
}

impl Judge {
    /// Whether a session was told that it has subscribed.
    #[must_use]
    pub fn listens(&self, session: SessionId) -> bool {
        self.sessions[size(session.0)].listens
    }

    /// Takes a line that no command asked for, if it may be a message.
    pub(super) fn hear(&mut self, session: SessionId, line: &str) -> bool {
        let state = &mut self.sessions[size(session.0)];
        let text = line.strip_prefix("message ").and_then(|rest| rest.strip_prefix(CHANNEL)).map(str::trim_start);
        let Some(text) = text.filter(|_| state.listens) else { return false };
        let home = state.home;
        let token = text.split_once('.').and_then(|(token, _)| token.strip_prefix('t')?.parse().ok());
        let known = token.and_then(|token: u64| Some((token, *self.said.get(&token)?)));
        match known {
            Some((token, (from, pad))) if text == value(token, pad) => {
                if !self.sessions[size(session.0)].heard.insert(token) {
                    self.fail(Oracle::Session, || format!("session {} heard message {token} twice", session.0));
                }
                if from != home {
                    self.marks.saw(Mark::HeardAfar);
                }
            }
            _ => self.fail(Oracle::Session, || format!("session {} heard {line:?}, which nobody said", session.0)),
        }
        true
    }

    /// Whether PUBLISH tells how many were told. `others` are those beside the session that said it.
    pub(super) fn check_said(&mut self, session: SessionId, line: &str, others: Audience) {
        let Audience { open, closing } = others;
        let least = open + u64::from(self.listens(session));
        let told = line.parse().ok();
        if told.is_some_and(|told: u64| told < least || told > least + closing) || told.is_none() {
            let wanted = least..=least + closing;
            self.fail(Oracle::Session, || format!("session {} was told {line:?}, not {wanted:?}", session.0));
        }
    }
}
