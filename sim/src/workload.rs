//! Clients: one state machine for both engines, without input and output.
//!
//! A client speaks the line dialect over one connection at a time, sends a command whenever its plan says so without
//! waiting for replies (so commands are pipelined as the network pleases), and gives up on a connection on which
//! nothing was answered for too long.

use crate::judge::{Judge, SessionId};
use crate::plan::{Ask, CHANNEL, Setting, counter_text, hash_text, key_text, value};
use crate::rng::keyed;

/// How a line begins that answers no command.
const MESSAGE: &[u8] = b"message ";

/// One client. The engine opens, feeds and closes its connection.
#[derive(Debug)]
pub struct Client {
    /// Its number in the plan.
    pub number: u64,
    session: Option<SessionId>,
    /// Commands that were sent and not answered.
    waiting: u64,
    /// Bytes to send.
    out: Vec<u8>,
    /// The start of a line whose end has not come, as much of it as says whether it is a message.
    line: Vec<u8>,
    /// When it last had a reply, or began to wait for one.
    since_us: u64,
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number, session: None, waiting: 0, out: Vec::new(), line: Vec::new(), since_us: 0 }
    }

    /// Takes a command of the plan. `Some` when the engine is to open a connection for this session first.
    pub fn ask(&mut self, judge: &mut Judge, at_us: u64, ask: Ask) -> Option<SessionId> {
        let opened = if self.session.is_none() { Some(judge.open_session(self.number)) } else { None };
        self.session = self.session.or(opened);
        if self.waiting == 0 {
            self.since_us = at_us;
        }
        self.waiting += 1;
        if let Some(session) = self.session {
            judge.asked(session, ask);
        }
        let draw = keyed(judge.plan().seed, &[0xa5c, self.number, at_us]);
        self.out.extend_from_slice(command(judge, ask, draw).as_bytes());
        opened
    }

    /// Bytes to send, in order; what was sent is drained by the engine.
    pub const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes bytes that were received.
    pub fn received(&mut self, at_us: u64, bytes: &[u8]) {
        let mut lines = 0;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MESSAGE.len().saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                lines += u64::from(self.line != MESSAGE);
                self.line.clear();
            }
        }
        self.waiting = self.waiting.saturating_sub(lines);
        if lines > 0 {
            self.since_us = at_us;
        }
    }

    /// The connection has gone, or the client ends it: what was under way is forgotten.
    pub fn closed(&mut self, judge: &mut Judge) {
        if let Some(session) = self.session {
            judge.unheard(session, self.waiting);
        }
        self.session = None;
        self.waiting = 0;
        self.line.clear();
        self.out.clear();
    }

    /// Whether it has waited for a reply since this long ago; `None` when it waits for none.
    #[must_use]
    pub fn waits_us(&self, at_us: u64) -> Option<u64> {
        (self.waiting > 0).then(|| at_us - self.since_us)
    }
}

/// A command as a client types it: `draw` says how.
fn command(judge: &Judge, ask: Ask, draw: u64) -> String {
    let mut line = of_field(&judge.plan().setting, ask).unwrap_or_else(|| of_key(judge, ask, draw));
    if draw.is_multiple_of(4) {
        let verb = line.find(' ').unwrap_or(line.len());
        line[..verb].make_ascii_lowercase();
    }
    line.push_str(if draw.is_multiple_of(3) { "\r\n" } else { "\n" });
    line
}

/// A command about a field of a hash, where keys and counters are that. A deadline is not among what it can be given.
fn of_field(setting: &Setting, ask: Ask) -> Option<String> {
    let (number, field) = match ask {
        Ask::Set { key, .. } | Ask::Get { key } | Ask::Del { key } | Ask::Ttl { key } | Ask::Why { key } => {
            (key, key_text(key))
        }
        Ask::Add { counter, .. } | Ask::Start { counter, .. } | Ask::Clear { counter } | Ask::Sum { counter } => {
            (counter, counter_text(counter))
        }
        _ => return None,
    };
    let hash = hash_text(setting.hash_of(number)?);
    Some(match ask {
        Ask::Set { token, pad, .. } => format!("HSET {hash} {field} {}", value(token, pad)),
        Ask::Start { at, .. } => format!("HSET {hash} {field} {at}"),
        Ask::Add { amount, .. } => format!("HINCRBY {hash} {field} {amount}"),
        Ask::Del { .. } | Ask::Clear { .. } => format!("HDEL {hash} {field}"),
        _ => format!("HGET {hash} {field}"),
    })
}

/// The answer to a command about a field, as it is given to one about a key.
#[must_use]
pub fn as_of_key(ask: Ask, line: String) -> String {
    let of_key = match (ask, line.as_str()) {
        (Ask::Set { .. } | Ask::Start { .. }, "0" | "1") | (Ask::Del { .. } | Ask::Clear { .. }, "1") => "OK",
        (Ask::Del { .. } | Ask::Clear { .. }, "0") => "Key not found",
        _ => return line,
    };
    of_key.to_owned()
}

fn of_key(judge: &Judge, ask: Ask, draw: u64) -> String {
    match ask {
        Ask::Set { key, token, pad, ttl_ms: 0 } => format!("SET {} {}", key_text(key), value(token, pad)),
        Ask::Set { key, token, pad, ttl_ms } => format!("SET {} {} PX {ttl_ms}", key_text(key), value(token, pad)),
        Ask::Get { key } => format!("GET {}", key_text(key)),
        Ask::Del { key } => format!("DEL {}", key_text(key)),
        Ask::Ttl { key } => format!("TTL {}", key_text(key)),
        Ask::Wait { copies, ms } => format!("WAIT {copies} {ms}"),
        Ask::Token => "TOKEN".to_owned(),
        Ask::WaitFor { from, ms } => format!("WAITFOR {} {ms}", judge.token(from)),
        Ask::Why { key } => format!("WHY {}", key_text(key)),
        Ask::Conflicts => "CONFLICTS".to_owned(),
        Ask::Add { counter, amount: 1 } if draw.is_multiple_of(2) => format!("INCR {}", counter_text(counter)),
        Ask::Add { counter, amount: -1 } if draw.is_multiple_of(2) => format!("DECR {}", counter_text(counter)),
        Ask::Add { counter, amount } if draw.is_multiple_of(5) => {
            format!("DECRBY {} {}", counter_text(counter), -amount)
        }
        Ask::Add { counter, amount } => format!("INCRBY {} {amount}", counter_text(counter)),
        Ask::Start { counter, at, ttl_ms: 0 } => format!("SET {} {at}", counter_text(counter)),
        Ask::Start { counter, at, ttl_ms } => format!("SET {} {at} PX {ttl_ms}", counter_text(counter)),
        Ask::Clear { counter } => format!("DEL {}", counter_text(counter)),
        Ask::Sum { counter } => format!("GET {}", counter_text(counter)),
        Ask::Flush => "FLUSHDB".to_owned(),
        Ask::Drop { hash } => format!("DEL {}", hash_text(hash)),
        Ask::Ping => "PING".to_owned(),
        Ask::Stats => "STATS".to_owned(),
        Ask::Subscribe => format!("SUBSCRIBE {CHANNEL}"),
        Ask::Publish { token, pad } => format!("PUBLISH {CHANNEL} {}", value(token, pad)),
        Ask::Leave => "LEAVE".to_owned(),
        Ask::Forget { node } => format!("FORGET n{node}"),
    }
}
