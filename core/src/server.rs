//! What is asked of a server, of its cluster and of the client's own connection.

mod access;
mod clients;
mod info;
mod login;
mod memory;
mod pubsub;
mod settings;

use crate::acl::Acl;
use crate::boundary::{ConnId, Effects};
use crate::command::{AboutClient, AboutCommands, Command, Push, Reply};
use crate::commands::{CATEGORIES, Manual, Verb, categories_of, manuals};
use crate::config::Config;
use crate::connections::Connections;
use crate::disk::Keeper;
use crate::execute::{Flow, execute};
use crate::pause::Pause;
use crate::pubsub::PubSub;
use crate::readiness::Overview;
use crate::repl::{Context, Replication};
use crate::replica::Replica;
use crate::session::{Client, Replies, Watched};
use crate::settings::{LogLevel, Settings};
use crate::stats::{self, Counters};
use crate::store::SLOTS;
use crate::time::Now;
use crate::version::Version;
use crate::waiters::{Asker, Waiters, Waiting, Wanted};
use crate::why;
use crate::wire::words::Words;
use crate::wire::{Answer, Dialect};

pub(crate) use login::Asked;
pub(crate) use pubsub::Audience;

/// The Redis version whose commands these are: clients choose by it what they use.
const REDIS_VERSION: &str = "7.0.15";

/// A node and one of its clients.
pub(crate) struct Server<'a, 'e> {
    pub(crate) now: Now,
    pub(crate) conn: ConnId,
    pub(crate) config: &'a Config,
    /// What its commands have changed, from when they have been run.
    pub(crate) changed: &'a mut Option<Settings>,
    pub(crate) log_level: LogLevel,
    /// What it was started with besides, and what each is.
    pub(crate) options: &'a [(String, String)],
    pub(crate) replica: &'a mut Replica,
    pub(crate) repl: &'a mut Replication,
    pub(crate) conns: &'a mut Connections,
    pub(crate) acl: &'a mut Acl,
    pub(crate) pause: &'a mut Pause,
    pub(crate) pubsub: &'a mut PubSub,
    pub(crate) counters: &'a mut Counters,
    pub(crate) waiters: &'a mut Waiters,
    pub(crate) disk: Option<&'a mut Keeper>,
    /// How much of the data is loaded, in percent, unless all is.
    pub(crate) loading: Option<u64>,
    /// The driver is about to stop.
    pub(crate) is_draining: bool,
    /// Of the node's own cluster.
    pub(crate) cluster_tag: u32,
    pub(crate) effects: &'e mut Effects,
}

impl Server<'_, '_> {
    /// Carries out a command, unless clients are to wait.
    pub(crate) fn run(&mut self, command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>) -> Flow {
        if !client.is_inside && self.pause.puts_off(self.now, || may_write(command, client)) && !ends_pause(command) {
            // Who speaks HTTP is told at once.
            if client.dialect == Dialect::Packed {
                client.dialect.emit(&Reply::Paused, out);
                return Flow::Continue;
            }
            self.pause.hold(self.conn);
            return Flow::PutOff;
        }
        if self.config.limits.memory_bytes_max > 0 && self.is_settled_by_memory(command, client, out) {
            return Flow::Continue;
        }
        self.counters.commands += 1;
        let Self { now, conn, replica, .. } = self;
        let mut answer = Answer { dialect: client.dialect, out };
        if let Some(percent) = self.loading
            && !command.is_run_while_loading()
        {
            answer.say(&Reply::Loading { percent });
            return Flow::Continue;
        }
        if client.dialect == (Dialect::Resp { is_3: false }) && !client.is_inside && self.pubsub.is_subscriber(*conn) {
            let verb = client.verb.unwrap_or(Verb::Ping);
            let instead = match *command {
                Command::Ping => Some(Reply::Push(Push::Pong { message: b"" })),
                Command::Echo { message } if verb == Verb::Ping => Some(Reply::Push(Push::Pong { message })),
                _ => (!pubsub::is_heard(command)).then_some(Reply::HearsOnly(verb)),
            };
            if let Some(reply) = instead {
                answer.say(&reply);
                return Flow::Continue;
            }
        }
        let records = replica.own_records();
        replica.space = client.space;
        if !client.is_inside {
            replica.look_at_disk();
        }
        let flow = execute(command, replica, *now, &mut answer);
        if replica.own_records() != records {
            client.wrote = Some(Version { hlc: replica.own_last(), origin: replica.own() });
            self.notify(client);
        }
        match flow {
            Flow::Node => self.run_here(command, client, answer.out),
            Flow::Wait(waiting) => {
                let Self { now, conn, replica, repl, waiters, cluster_tag, .. } = self;
                // In a transaction nothing waits: it is answered as things stand.
                let waiting = match waiting {
                    Waiting::Copies { ms, .. } if client.is_inside => Waiting::Copies { count: 0, ms },
                    other => other,
                };
                let asker = Asker { now: *now, conn: *conn, wrote: client.wrote, cluster_tag: *cluster_tag };
                asker.run(waiting, replica, repl, waiters, &mut answer)
            }
            Flow::Continue | Flow::Transaction | Flow::PutOff | Flow::Blocked | Flow::Quit => flow,
        }
    }

    /// Runs what is not about the data.
    fn run_here(&mut self, command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>) -> Flow {
        if matches!(command, Command::Reset) {
            client.choose_protocol(false);
        }
        let answer = &mut Answer { dialect: client.dialect, out };
        match *command {
            Command::Stats => answer.text(|out| self.stats(out)),
            Command::Peers => {
                answer.text(|out| stats::emit_peers(self.now, self.config, self.replica, self.repl, out));
            }
            Command::Why { .. } | Command::Conflicts { .. } => {
                why::say(self.now, command, self.replica, self.repl, answer);
            }
            Command::Save => self.save(answer),
            Command::Forget { member } => self.forget(member, answer),
            Command::Leave => return self.leave(answer),
            Command::Client(about) => return self.about_clients(about, client, answer),
            Command::Hello { version, name, login } => return self.greet((version, name), login, client, answer),
            Command::Auth { user, password } => return self.auth(user, password, client, answer),
            Command::Acl(about) => return self.about_users(about, client, answer),
            Command::Denied(denied) => self.deny(denied, client, answer),
            Command::Multi | Command::Exec | Command::Discard | Command::Unwatch => {
                return self.transaction(command, client, answer);
            }
            Command::Watch { keys } => self.watch(keys, client, answer),
            Command::Select { space } => {
                client.space = space;
                answer.say(&Reply::Ok);
            }
            Command::Reset => {
                client.called.set_name(Box::default());
                (client.transaction, client.space) = (None, 0);
                (client.watched, client.replies) = (Watched::default(), Replies::All);
                self.pubsub.forget(self.conn);
                self.forget_login(client);
                answer.say(&Reply::Status("RESET"));
            }
            Command::Commands(about) => tell_commands(about, answer),
            Command::ConfigGet { patterns } => self.tell_settings(patterns.collect(), answer),
            Command::ConfigSet { settings } => self.set_all(settings, answer),
            Command::ResetStat => {
                self.counters.reset(self.conns.accepted());
                answer.say(&Reply::Ok);
            }
            Command::Info { sections } => self.info(sections.collect(), answer),
            Command::RandomKey => self.random_key(answer),
            Command::Role => {
                answer.say(&Reply::Array(3));
                answer.say(&Reply::Value(b"master"));
                answer.say(&Reply::Number(0));
                answer.say(&Reply::Array(0));
            }
            Command::ScriptsExist { count } => {
                answer.say(&Reply::Array(count));
                (0..count).for_each(|_| answer.say(&Reply::Number(0)));
            }
            Command::Subscribe { .. } | Command::Unsubscribe { .. } | Command::Publish { .. } | Command::PubSub(_) => {
                self.messages(command, client, answer);
            }
            _ => {}
        }
        Flow::Continue
    }

    fn stats(&self, out: &mut Vec<u8>) {
        stats::emit_stats(&self.overview(), (self.conns.len(), self.counters), out);
    }

    /// All of the node that says how it is.
    pub(crate) fn overview(&self) -> Overview<'_> {
        let Self { now, config, replica, repl, disk, loading, is_draining, .. } = self;
        let (keeper, loading) = (disk.as_deref(), *loading);
        Overview { now: *now, config, replica, repl, keeper, loading, is_draining: *is_draining }
    }

    fn save(&mut self, answer: &mut Answer<'_>) {
        let reply = match &mut self.disk {
            Some(keeper) => {
                keeper.saver.is_asked = true;
                Reply::Ok
            }
            None => Reply::NoDisk,
        };
        answer.say(&reply);
    }

    fn forget(&mut self, member: &str, answer: &mut Answer<'_>) {
        let Self { now, config, replica, repl, effects, .. } = self;
        let forgotten = repl.forget_member(*now, member, &mut Context { config, replica, effects });
        answer.say(&forgotten.map_or_else(|why| Reply::NotForgotten { member, why }, |()| Reply::Ok));
    }

    fn leave(&mut self, answer: &mut Answer<'_>) -> Flow {
        let Self { now, conn, config, replica, repl, waiters, effects, .. } = self;
        let Err(why) = repl.leave(*now, &mut Context { config, replica, effects }) else {
            waiters.wait(*now, (*conn, answer.dialect), Wanted::Leave, 0, replica);
            return Flow::Blocked;
        };
        answer.say(&Reply::NotLeft(why));
        Flow::Continue
    }

    fn transaction(&self, command: &Command<'_>, client: &mut Client, answer: &mut Answer<'_>) -> Flow {
        let reply = match (command, &client.transaction) {
            (Command::Multi, Some(_)) => Reply::Error("MULTI calls can not be nested"),
            (Command::Multi, None) => {
                client.transaction = Some(Box::default());
                Reply::Ok
            }
            (Command::Exec, None) => Reply::Error("EXEC without MULTI"),
            (Command::Discard, None) => Reply::Error("DISCARD without MULTI"),
            (Command::Exec, Some(transaction)) => {
                let watched = std::mem::take(&mut client.watched);
                let has_changed = watched.has_changed(|name| self.replica.stood(self.now, name));
                if !transaction.is_broken() && !has_changed {
                    return Flow::Transaction;
                }
                let reply = if transaction.is_broken() { Reply::Aborted } else { Reply::NoArray };
                client.transaction = None;
                reply
            }
            _ => {
                if matches!(command, Command::Discard) {
                    client.transaction = None;
                }
                client.watched = Watched::default();
                Reply::Ok
            }
        };
        answer.say(&reply);
        Flow::Continue
    }

    fn watch(&self, keys: Words<'_>, client: &mut Client, answer: &mut Answer<'_>) {
        if client.transaction.is_some() {
            return answer.say(&Reply::Error("WATCH inside MULTI is not allowed"));
        }
        let bytes_max = self.config.limits.request_bytes_max;
        for key in keys {
            let name = self.replica.name(key);
            if !client.watched.watch(&name, bytes_max, || self.replica.stood(self.now, &name)) {
                return answer.say(&Reply::Error("too much is watched"));
            }
        }
        answer.say(&Reply::Ok);
    }

    fn random_key(&self, answer: &mut Answer<'_>) {
        // Commands differ in number; an odd factor spreads that over the slots.
        let first = self.counters.commands.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        let mut found = None;
        for at in 0..SLOTS {
            let slot = (first as u16 + at) % SLOTS;
            self.replica.store.visit_keys((slot, self.now.wall), &mut |name, of| {
                if let Some(key) = self.replica.key_of(name)
                    && found.is_none()
                    && self.replica.is_found(self.now, of)
                {
                    found = Some(key.to_vec());
                }
            });
            if found.is_some() {
                break;
            }
        }
        answer.say(&found.as_deref().map_or(Reply::NotFound, Reply::Value));
    }
}

/// Describes the server, to a client of that number.
fn hello(id: u64, answer: &mut Answer<'_>) {
    let is_3 = answer.dialect == Dialect::Resp { is_3: true };
    answer.say(&Reply::Map(7));
    let text = |name: &str, value: &str, answer: &mut Answer<'_>| {
        answer.say(&Reply::Value(name.as_bytes()));
        answer.say(&Reply::Value(value.as_bytes()));
    };
    text("server", "redis", answer);
    text("version", REDIS_VERSION, answer);
    answer.say(&Reply::Value(b"proto"));
    answer.say(&Reply::Number(if is_3 { 3 } else { 2 }));
    answer.say(&Reply::Value(b"id"));
    answer.say(&Reply::Number(id.into()));
    text("mode", "standalone", answer);
    // Every node takes writes.
    text("role", "master", answer);
    answer.say(&Reply::Value(b"modules"));
    answer.say(&Reply::Array(0));
}

/// Whether a command changes data, or may.
fn may_write(command: &Command<'_>, client: &Client) -> bool {
    let flags = client.verb.map_or(&[][..], |verb| verb.manual().flags);
    matches!(command, Command::Exec) || flags.contains(&"write")
}

/// Whether a command is about the pause itself, which otherwise nobody could end, or about what is put off anyway.
const fn ends_pause(command: &Command<'_>) -> bool {
    matches!(command, Command::Client(AboutClient::Unpause) | Command::Queued)
}

fn tell_commands(about: AboutCommands<'_>, answer: &mut Answer<'_>) {
    let names = || manuals().flat_map(|manual| manual.names().map(move |name| (name, manual)));
    match about {
        AboutCommands::Count => answer.say(&Reply::Number(names().count() as i128)),
        AboutCommands::List => {
            answer.say(&Reply::Array(names().count()));
            names().for_each(|(name, _)| answer.say(&Reply::Value(name.to_ascii_lowercase().as_bytes())));
        }
        AboutCommands::All => {
            answer.say(&Reply::Array(names().count()));
            names().for_each(|(name, manual)| tell_command(name, manual, answer));
        }
        AboutCommands::Info(words) => {
            answer.say(&Reply::Array(words.into_iter().count()));
            for word in words {
                match names().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())) {
                    Some((name, manual)) => tell_command(name, manual, answer),
                    None => answer.say(&Reply::NoArray),
                }
            }
        }
        AboutCommands::Keys(words) => tell_keys(words, answer),
        AboutCommands::AllDocs => tell_docs(names().collect(), answer),
        AboutCommands::Docs(words) => {
            let is_asked = |name: &str| words.into_iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
            tell_docs(names().filter(|(name, _)| is_asked(name)).collect(), answer);
        }
    }
}

/// The ten answers about one command.
fn tell_command(name: &str, manual: &Manual, answer: &mut Answer<'_>) {
    answer.say(&Reply::Array(10));
    answer.say(&Reply::Value(name.to_ascii_lowercase().as_bytes()));
    answer.say(&Reply::Number(manual.arity.into()));
    answer.say(&Reply::Set(manual.flags.len()));
    manual.flags.iter().for_each(|flag| answer.say(&Reply::Status(flag)));
    for place in [manual.keys.first, manual.keys.last, manual.keys.step] {
        answer.say(&Reply::Number(place.into()));
    }
    let categories = categories_of(manual.verb);
    answer.say(&Reply::Set(categories.count_ones() as usize));
    let names = CATEGORIES.iter().enumerate().filter(|(at, _)| categories >> at & 1 == 1);
    names.for_each(|(_, name)| answer.say(&Reply::Status(name)));
    // Tips, how keys are found, subcommands: none are told.
    (0..3).for_each(|_| answer.say(&Reply::Set(0)));
}

fn tell_keys(words: Words<'_>, answer: &mut Answer<'_>) {
    let manual = words.into_iter().next().and_then(Manual::named);
    let Some(manual) = manual else { return answer.say(&Reply::Error("Invalid command specified")) };
    let count = words.into_iter().count();
    let least = usize::from(manual.arity.unsigned_abs());
    if count < least || (manual.arity > 0 && count > least) {
        return answer.say(&Reply::Error("Invalid number of arguments specified for command"));
    }
    let keys: Vec<&[u8]> = manual.keys.of(words).into_iter().flatten().collect();
    if keys.is_empty() {
        return answer.say(&Reply::Error("The command has no key arguments"));
    }
    answer.say(&Reply::Array(keys.len()));
    keys.iter().for_each(|key| answer.say(&Reply::Value(key)));
}

fn tell_docs(commands: Vec<(&str, &Manual)>, answer: &mut Answer<'_>) {
    answer.say(&Reply::Map(commands.len()));
    for (name, manual) in commands {
        answer.say(&Reply::Value(name.to_ascii_lowercase().as_bytes()));
        answer.say(&Reply::Map(3));
        answer.say(&Reply::Value(b"summary"));
        answer.say(&Reply::Value(manual.summary.as_bytes()));
        // Redis has a tree of arguments in its place.
        answer.say(&Reply::Value(b"usage"));
        answer.say(&Reply::Value(manual.usage.as_bytes()));
        answer.say(&Reply::Value(b"group"));
        answer.say(&Reply::Value(manual.verb.group().as_bytes()));
    }
}
