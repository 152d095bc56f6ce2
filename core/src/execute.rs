//! Carries out commands on the data of a node.
use crate::command::{Command, Reply};
use crate::replica::{Replica, Shown};
use crate::time::Now;
use crate::waiters::Waiting;
use crate::wire::line;

/// What is left to do after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing: the reply is in `out`.
    Continue,
    /// The text of `STATS`, which is not about the data alone.
    Stats,
    /// The text of `PEERS`.
    Peers,
    /// `FORGET`, which is about the cluster.
    Forget,
    /// `SAVE`, which takes a while.
    Save,
    /// `LEAVE`, which takes a while.
    Leave,
    /// To be answered by who knows the other nodes, at once or later.
    Wait(Waiting),
    /// The reply comes later; until then the connection's next commands wait.
    Blocked,
    /// The text of `WHY`, which tells of peers too.
    Why,
    /// The text of `CONFLICTS`, which names the writers.
    Conflicts,
    /// The reply is in `out`; the connection ends.
    Quit,
}

/// Runs `command` and appends its reply to `out`.
pub(crate) fn execute(command: &Command<'_>, replica: &mut Replica, now: Now, out: &mut Vec<u8>) -> Flow {
    let reply = match *command {
        Command::Get { key } => replica.get(now, key).map_or(Reply::NotFound, |live| match live.value {
            Shown::Bytes(value) => Reply::Value(value),
            Shown::Number(number) => Reply::Number(number),
        }),
        Command::Add { key, amount } => {
            replica.add(now, key, amount).map_or_else(Reply::NotAdded, |sum| Reply::Number(sum.into()))
        }
        Command::Set { key, value, expires_in_ms } => {
            let deadline = expires_in_ms.map(|ms| now.wall.plus_ms(ms));
            replica.set(now, key, value, deadline).map_or_else(Reply::Refused, |()| Reply::Ok)
        }
        Command::Del { mut keys } => keys
            .try_for_each(|key| replica.delete(now, key).map(|_existed| ()))
            .map_or_else(Reply::Refused, |()| Reply::Ok),
        Command::Ttl { key } => replica.get(now, key).map_or(Reply::NotFound, |live| Reply::Ttl {
            left_ms: live.deadline.map(|deadline| deadline.0.saturating_sub(now.wall.0)),
        }),
        Command::Ping => Reply::Pong,
        Command::Help { topic } => Reply::Help { topic },
        Command::Wait { copies, ms } => return Flow::Wait(Waiting::Copies { count: copies, ms }),
        Command::Token => return Flow::Wait(Waiting::Token),
        Command::WaitFor { token, ms } => return Flow::Wait(Waiting::Here { token, ms }),
        Command::Stats => return Flow::Stats,
        Command::Peers => return Flow::Peers,
        Command::Forget { .. } => return Flow::Forget,
        Command::Leave => return Flow::Leave,
        Command::Save => return Flow::Save,
        Command::Why { .. } => return Flow::Why,
        Command::Conflicts { .. } => return Flow::Conflicts,
        Command::Quit => {
            line::emit(&Reply::Ok, out);
            return Flow::Quit;
        }
    };
    line::emit(&reply, out);
    Flow::Continue
}
