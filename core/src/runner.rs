//! Runs the commands of a client, whatever dialect they came in.

use crate::boundary::{ConnId, Effects};
use crate::command::{Command, Reply};
use crate::config::Config;
use crate::disk::Keeper;
use crate::execute::{Flow, execute};
use crate::repl::Replication;
use crate::replica::Replica;
use crate::server::Server;
use crate::session::Client;
use crate::stats::Counters;
use crate::time::Now;
use crate::version::Version;
use crate::waiters::{Asker, Waiters};
use crate::wire::Answer;

/// A node, and one of its clients.
pub(crate) struct Runner<'a> {
    pub(crate) now: Now,
    pub(crate) conn: ConnId,
    /// How much of the data directory has been read, while it is.
    pub(crate) loading: Option<u64>,
    pub(crate) cluster_tag: u32,
    pub(crate) config: &'a Config,
    pub(crate) replica: &'a mut Replica,
    pub(crate) repl: &'a mut Replication,
    pub(crate) counters: &'a mut Counters,
    pub(crate) waiters: &'a mut Waiters,
    pub(crate) keeper: Option<&'a mut Keeper>,
    pub(crate) effects: &'a mut Effects,
}

impl Runner<'_> {
    /// Carries out a command and appends the whole reply to `out`, or lets the client wait.
    pub(crate) fn run(&mut self, command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>) -> Flow {
        let Self { now, conn, loading, cluster_tag, config, replica, repl, counters, waiters, keeper, effects } = self;
        counters.commands += 1;
        let mut answer = Answer { dialect: client.dialect, out };
        if let Some(percent) = *loading
            && !command.is_run_while_loading()
        {
            answer.say(&Reply::Loading { percent });
            return Flow::Continue;
        }
        let records = replica.own_records();
        if !client.is_inside {
            replica.look_at_disk();
        }
        let flow = execute(command, replica, *now, &mut answer);
        if replica.own_records() != records {
            client.wrote = Some(Version { hlc: replica.own_last(), origin: replica.own() });
        }
        match flow {
            Flow::Node => {
                let disk = keeper.as_deref_mut();
                let node = Server { now: *now, conn: *conn, config, replica, repl, counters, waiters, disk, effects };
                node.run(command, client, answer.out)
            }
            Flow::Wait(waiting) => {
                let asker = Asker { now: *now, conn: *conn, wrote: client.wrote, cluster_tag: *cluster_tag };
                asker.run(waiting, replica, repl, waiters, &mut answer)
            }
            Flow::Continue | Flow::Transaction | Flow::Blocked | Flow::Quit => flow,
        }
    }
}
