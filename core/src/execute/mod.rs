//! Carries out commands on the data of a node.

mod elements;
mod fields;
mod hashes;
mod keys;
mod pattern;
mod sets;
mod strings;

use crate::command::{Command, Reply};
use crate::replica::{Live, Replica, Shown};
use crate::time::Now;
use crate::waiters::Waiting;
use crate::wire::Answer;
pub(crate) use pattern::{matches, matches_within};

/// What is left to do after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing: the reply is in `out`.
    Continue,
    /// What is about the node or the connection, and not about the data.
    Node,
    /// What was put off is to be run now.
    Transaction,
    /// To be answered by who knows the other nodes, at once or later.
    Wait(Waiting),
    /// To be run later; until then the connection's next commands wait.
    PutOff,
    /// The reply comes later; until then the connection's next commands wait.
    Blocked,
    /// The reply is in `out`; the connection ends.
    Quit,
}

/// Runs `command` and appends its reply to `answer`.
pub(crate) fn execute(command: &Command<'_>, replica: &mut Replica, now: Now, answer: &mut Answer<'_>) -> Flow {
    if command.string_key().is_some_and(|key| replica.elements(now, key).is_some()) {
        answer.say(&Reply::WrongType);
        return Flow::Continue;
    }
    match *command {
        Command::Get { key } => strings::get(now, key, replica, answer),
        Command::Set(write) => strings::set(now, &write, replica, answer),
        Command::SetNx(write) => strings::set_nx(now, &write, replica, answer),
        Command::GetDel { key } => strings::get_del(now, key, replica, answer),
        Command::GetEx { key, expires } => strings::get_ex(now, key, expires, replica, answer),
        Command::MGet { keys, bytes_max } => strings::mget(now, keys, bytes_max, replica, answer),
        Command::MSet { pairs, if_absent } => strings::mset(now, pairs, if_absent, replica, answer),
        Command::Append { key, value, bytes_max } => strings::append(now, key, (value, bytes_max), replica, answer),
        Command::StrLen { key } => {
            let length = replica.get(now, key).map_or(0, |live| live.value.bytes());
            answer.say(&Reply::Count(length as u64));
        }
        Command::GetRange { key, start, end } => strings::get_range(now, key, (start, end), replica, answer),
        Command::SetRange { key, offset, value } => strings::set_range(now, key, (offset, value), replica, answer),
        Command::Add { key, amount } => {
            let added = replica.add(now, key, amount);
            answer.say(&added.map_or_else(Reply::NotAdded, |sum| Reply::Number(sum.into())));
        }
        Command::AddFloat { key, amount, bytes_max } => {
            strings::add_float(now, key, (amount, bytes_max), replica, answer);
        }
        Command::Del { mut keys } => {
            let mut deleted = 0;
            let outcome = keys.try_for_each(|key| replica.delete(now, key).map(|there| deleted += u64::from(there)));
            answer.say(&outcome.map_or_else(Reply::Refused, |()| Reply::Deleted(deleted)));
        }
        Command::Ttl { key, told } => answer.say(&keys::ttl(now, key, told, replica)),
        Command::Expire { key, expires, on } => answer.say(&keys::expire(now, key, expires, on, replica)),
        Command::Persist { key } => answer.say(&keys::persist(now, key, replica)),
        Command::Exists { keys } => {
            let there = keys.filter(|key| replica.is_there(now, key)).count();
            answer.say(&Reply::Count(there as u64));
        }
        Command::Type { key } => answer.say(&Reply::Status(replica.holds(now, key).name())),
        Command::Hash(of_hash) => hashes::run(now, &of_hash, replica, answer),
        Command::SetOf(of_set) => sets::run(now, &of_set, replica, answer),
        Command::ScanElements { key, scan, kind } => elements::scan(now, key, &scan, kind, replica, answer),
        Command::Rename { key, name, if_absent } => answer.say(&keys::rename(now, (key, name), if_absent, replica)),
        Command::Copy(copy) => answer.say(&keys::copy(now, &copy, replica)),
        Command::Flush { all } => answer.say(&keys::flush(now, all, replica)),
        Command::Keys { pattern } => keys::list(now, pattern, replica, answer),
        Command::Scan(scan) => keys::scan(now, &scan, replica, answer),
        Command::DbSize => answer.say(&Reply::Count(replica.store.keys_in(replica.space))),
        Command::Ping => answer.say(&Reply::Pong),
        Command::Echo { message } => answer.say(&Reply::Value(message)),
        Command::NoScripts => answer.say(&Reply::Ok),
        Command::Object { key, told } => answer.say(&keys::object(now, key, told, replica)),
        Command::MemoryUsage { key } => answer.say(&keys::memory_usage(now, key, replica)),
        Command::Time => tell_time(now, answer),
        Command::Help { topic } => answer.say(&Reply::Help { topic }),
        Command::Wait { copies, ms } => return Flow::Wait(Waiting::Copies { count: copies, ms }),
        Command::Token => return Flow::Wait(Waiting::Token),
        Command::WaitFor { token, ms } => return Flow::Wait(Waiting::Here { token, ms }),
        Command::RandomKey
        | Command::Select { .. }
        | Command::Hello { .. }
        | Command::Auth { .. }
        | Command::Acl(_)
        | Command::Denied(_)
        | Command::Queued
        | Command::Reset
        | Command::Role
        | Command::ScriptsExist { .. }
        | Command::Client(_)
        | Command::Multi
        | Command::Exec
        | Command::Discard
        | Command::Watch { .. }
        | Command::Unwatch
        | Command::Commands(_)
        | Command::ConfigGet { .. }
        | Command::ConfigSet { .. }
        | Command::ResetStat
        | Command::Info { .. }
        | Command::Subscribe { .. }
        | Command::Unsubscribe { .. }
        | Command::Publish { .. }
        | Command::PubSub(_)
        | Command::Stats
        | Command::Peers
        | Command::Save
        | Command::Leave
        | Command::Forget { .. }
        | Command::Why { .. }
        | Command::Conflicts { .. } => return Flow::Node,
        Command::Quit => {
            answer.say(&Reply::Ok);
            return Flow::Quit;
        }
    }
    Flow::Continue
}

fn tell_time(now: Now, answer: &mut Answer<'_>) {
    answer.say(&Reply::Array(2));
    let mut digits = itoa::Buffer::new();
    answer.say(&Reply::Value(digits.format(now.wall.0 / 1_000).as_bytes()));
    answer.say(&Reply::Value(digits.format(now.wall.0 % 1_000 * 1_000).as_bytes()));
}

/// What `GET` answers of what is there.
fn value(live: Live<'_>) -> Reply<'_> {
    match live.value {
        Shown::Bytes(value) => Reply::Value(value),
        Shown::Number(number) => Reply::Sum(number),
    }
}
