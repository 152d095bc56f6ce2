//! What is asked of a server, of its cluster and of the client's own connection.

use std::fmt::Write as _;

use crate::boundary::{ConnId, Effects};
use crate::command::{AboutClient, AboutCommands, Command, Reply};
use crate::commands::{Manual, manuals};
use crate::config::Config;
use crate::disk::Keeper;
use crate::execute::{Flow, matches};
use crate::repl::{Context, Replication};
use crate::replica::{Replica, Shown};
use crate::session::{Client, Standing, Watched};
use crate::stats::{self, Counters};
use crate::store::SLOTS;
use crate::time::Now;
use crate::waiters::{Waiters, Wanted};
use crate::why;
use crate::wire::words::Words;
use crate::wire::{Answer, Dialect};

/// The Redis version whose commands these are: clients choose by it what they use.
const REDIS_VERSION: &str = "7.0.15";

/// A node and one of its clients, for commands that are not about the data.
pub(crate) struct Server<'a, 'e> {
    pub(crate) now: Now,
    pub(crate) conn: ConnId,
    pub(crate) config: &'a Config,
    pub(crate) replica: &'a mut Replica,
    pub(crate) repl: &'a mut Replication,
    pub(crate) counters: &'a Counters,
    pub(crate) waiters: &'a mut Waiters,
    pub(crate) disk: Option<&'a mut Keeper>,
    pub(crate) effects: &'e mut Effects,
}

impl Server<'_, '_> {
    /// Runs one of these commands; of another nothing is said.
    pub(crate) fn run(mut self, command: &Command<'_>, client: &mut Client, out: &mut Vec<u8>) -> Flow {
        choose_protocol(command, client);
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
            Command::Client(about) => self.about_client(about, client, answer),
            Command::Hello { name, .. } => {
                if let Some(name) = name {
                    client.name = name.into();
                }
                self.hello(answer);
            }
            Command::Multi | Command::Exec | Command::Discard | Command::Unwatch => {
                return self.transaction(command, client, answer);
            }
            Command::Watch { keys } => self.watch(keys, client, answer),
            Command::Reset => {
                (client.name, client.transaction) = (Box::default(), None);
                client.watched = Watched::default();
                answer.say(&Reply::Status("RESET"));
            }
            Command::Commands(about) => tell_commands(about, answer),
            Command::ConfigGet { patterns } => self.tell_settings(patterns.collect(), answer),
            Command::Info { sections } => self.info(sections.collect(), answer),
            Command::RandomKey => self.random_key(answer),
            _ => {}
        }
        Flow::Continue
    }

    fn stats(&self, out: &mut Vec<u8>) {
        let Self { now, config, replica, repl, counters, disk, .. } = self;
        stats::emit_stats(*now, config, replica, repl, counters, disk.as_deref(), out);
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
                let has_changed = watched.has_changed(|key| self.stands(key));
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
            if !client.watched.watch(key, bytes_max, || self.stands(key)) {
                return answer.say(&Reply::Error("too much is watched"));
            }
        }
        answer.say(&Reply::Ok);
    }

    fn stands(&self, key: &[u8]) -> Option<Standing> {
        let elements = self.replica.store.elements_changed(key);
        let Some(record) = self.replica.store.get(key) else {
            return (elements > 0).then_some(Standing { version: None, is_live: false, sum: None, elements });
        };
        let (version, live) = (Some(record.version), self.replica.read(self.now, &record));
        let sum = live.and_then(|live| if let Shown::Number(sum) = live.value { Some(sum) } else { None });
        Some(Standing { version, is_live: live.is_some(), sum, elements })
    }

    fn about_client(&self, about: AboutClient<'_>, client: &mut Client, answer: &mut Answer<'_>) {
        match about {
            AboutClient::Id => answer.say(&Reply::Number(self.client_id().into())),
            AboutClient::GetName if client.name.is_empty() => answer.say(&Reply::NotFound),
            AboutClient::GetName => answer.say(&Reply::Value(&client.name)),
            AboutClient::SetName(name) => {
                client.name = name.into();
                answer.say(&Reply::Ok);
            }
            AboutClient::Noted => answer.say(&Reply::Ok),
        }
    }

    /// A number for the connection; a name may be used again once it has closed.
    fn client_id(&self) -> u64 {
        u64::from(self.conn.0) + 1
    }

    fn hello(&self, answer: &mut Answer<'_>) {
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
        answer.say(&Reply::Number(self.client_id().into()));
        text("mode", "standalone", answer);
        // Every node takes writes.
        text("role", "master", answer);
        answer.say(&Reply::Value(b"modules"));
        answer.say(&Reply::Array(0));
    }

    fn random_key(&self, answer: &mut Answer<'_>) {
        // Commands differ in number; an odd factor spreads that over the slots.
        let first = self.counters.commands.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        let mut found = None;
        for at in 0..SLOTS {
            let slot = (first as u16 + at) % SLOTS;
            self.replica.store.visit_keys(slot, &mut |key, of| {
                if found.is_none() && self.replica.is_found(self.now, of) {
                    found = Some(key.to_vec());
                }
            });
            if found.is_some() {
                break;
            }
        }
        answer.say(&found.as_deref().map_or(Reply::NotFound, Reply::Value));
    }

    fn tell_settings(&self, patterns: Vec<&[u8]>, answer: &mut Answer<'_>) {
        let limits = &self.config.limits;
        let appendonly = if self.disk.is_some() { "yes" } else { "no" };
        let appendfsync = self.config.disk.as_ref().map_or("no", |disk| disk.fsync.name());
        let settings = [
            ("appendfsync", appendfsync.to_owned()),
            ("appendonly", appendonly.to_owned()),
            ("databases", "1".to_owned()),
            ("maxclients", limits.clients_max.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", limits.value_bytes_max.to_string()),
            ("save", String::new()),
            ("timeout", "0".to_owned()),
        ];
        let is_asked = |name: &str| {
            let lower = |pattern: &[u8]| pattern.to_ascii_lowercase();
            patterns.iter().any(|pattern| matches(&lower(pattern), name.as_bytes()))
        };
        let asked: Vec<_> = settings.iter().filter(|(name, _)| is_asked(name)).collect();
        answer.say(&Reply::Map(asked.len()));
        for (name, value) in asked {
            answer.say(&Reply::Value(name.as_bytes()));
            answer.say(&Reply::Value(value.as_bytes()));
        }
    }

    fn info(&self, sections: Vec<&[u8]>, answer: &mut Answer<'_>) {
        let every = [&b"all"[..], b"everything", b"default"];
        let is_asked = |name: &str| {
            let named = |section: &&[u8]| {
                section.eq_ignore_ascii_case(name.as_bytes())
                    || every.iter().any(|every| section.eq_ignore_ascii_case(every))
            };
            sections.is_empty() || sections.iter().any(named)
        };
        let mut text = String::new();
        for (name, lines) in self.sections() {
            if is_asked(name) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                let _ = write!(text, "# {name}\r\n{lines}");
            }
        }
        if answer.dialect == Dialect::Line {
            text = text.replace("\r\n", "\n");
        }
        answer.text(|out| {
            out.extend_from_slice(text.as_bytes());
            // One reply ends with one end of a line, whatever is in it.
            if answer_needs_end(&text) {
                out.push(b'\n');
            }
        });
    }

    /// The sections of `INFO`, each with its lines.
    fn sections(&self) -> [(&'static str, String); 8] {
        let Self { config, replica, counters, disk, .. } = self;
        let (disk_on, loading) =
            (u8::from(disk.is_some()), u8::from(disk.as_ref().is_some_and(|keeper| keeper.recovery.is_some())));
        let memory = replica.store.memory_bytes() + replica.tail.memory_bytes() as u64;
        let run = replica.own().to_string();
        let keys = replica.store.keys();
        let peers = self.repl.members.len();
        [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\nsimple_kv_version:{}\r\nredis_mode:standalone\r\narch_bits:64\r\n\
                     run_id:{run:0>40}\r\nnode:{}\r\nserver_time_usec:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    config.name,
                    self.now.wall.0 * 1_000,
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:0\r\n",
                    counters.clients, config.limits.clients_max
                ),
            ),
            (
                "Memory",
                format!(
                    "used_memory:{memory}\r\nused_memory_human:{:.2}M\r\nmaxmemory:0\r\n\
                     maxmemory_policy:noeviction\r\n",
                    memory as f64 / f64::from(1 << 20)
                ),
            ),
            ("Persistence", format!("loading:{loading}\r\naof_enabled:{disk_on}\r\n")),
            ("Stats", format!("total_commands_processed:{}\r\n", counters.commands)),
            // Every node is one, and none has replicas: see PEERS.
            ("Replication", format!("role:master\r\nconnected_slaves:0\r\nmembers:{peers}\r\n")),
            ("Cluster", "cluster_enabled:0\r\n".to_owned()),
            ("Keyspace", if keys > 0 { format!("db0:keys={keys},expires=0,avg_ttl=0\r\n") } else { String::new() }),
        ]
    }
}

/// Lets the client go on in the version of the Redis protocol that it asks for. Lines of text stay lines.
fn choose_protocol(command: &Command<'_>, client: &mut Client) {
    let is_3 = match command {
        Command::Hello { version: Some(is_3), .. } => *is_3,
        Command::Reset => false,
        _ => return,
    };
    if client.dialect != Dialect::Line {
        client.dialect = Dialect::Resp { is_3 };
    }
}

fn answer_needs_end(text: &str) -> bool {
    !text.ends_with('\n') || text.ends_with("\r\n")
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
    // Categories, tips, how keys are found, subcommands: none are told.
    (0..4).for_each(|_| answer.say(&Reply::Set(0)));
}

fn tell_docs(commands: Vec<(&str, &Manual)>, answer: &mut Answer<'_>) {
    answer.say(&Reply::Map(commands.len()));
    for (name, manual) in commands {
        answer.say(&Reply::Value(name.to_ascii_lowercase().as_bytes()));
        answer.say(&Reply::Map(2));
        answer.say(&Reply::Value(b"summary"));
        answer.say(&Reply::Value(manual.summary.as_bytes()));
        answer.say(&Reply::Value(b"group"));
        answer.say(&Reply::Value(b"generic"));
    }
}
