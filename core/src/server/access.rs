//! `ACL`: users and their rights.

use super::Server;
use super::login::shown_rule;
use crate::acl::{Changed, DEFAULT, User, would_deny};
use crate::command::{AboutUsers, Reply};
use crate::commands::{self, category_names, is_misspelt, units};
use crate::execute::Flow;
use crate::session::Client;
use crate::waiters::Wanted;
use crate::wire::words::Words;
use crate::wire::{Answer, denied};

const NO_FILE: &str = "This Redis instance is not configured to use an ACL file. You may want to start it with \
                       --acl-file FILE, and to specify users via the ACL SETUSER command and then issue an ACL SAVE in \
                       order to store users in that file.";

pub(super) const TOO_MANY_USERS: &str = "there are as many users as may be";

impl Server<'_, '_> {
    pub(super) fn about_users(&mut self, about: AboutUsers<'_>, client: &mut Client, answer: &mut Answer<'_>) -> Flow {
        match about {
            AboutUsers::WhoAmI => answer.say(&Reply::Value(client.access.name().as_bytes())),
            AboutUsers::List => {
                answer.say(&Reply::Array(self.acl.users().len()));
                self.acl.users().for_each(|user| answer.say(&Reply::Value(&user.line())));
            }
            AboutUsers::Names => {
                answer.say(&Reply::Array(self.acl.users().len()));
                self.acl.users().for_each(|user| answer.say(&Reply::Value(user.name.as_bytes())));
            }
            AboutUsers::Get { name } => match self.acl.user(name) {
                Some(user) => tell_user(user, answer),
                None => answer.say(&Reply::NoArray),
            },
            AboutUsers::Set { name, rules } => return self.set_user(name, rules, client, answer),
            AboutUsers::Delete { names } => return self.delete_users(names, client, answer),
            AboutUsers::Categories { of } => tell_categories(of, answer),
            AboutUsers::Log { count } => self.tell_log(count, answer),
            AboutUsers::ResetLog => {
                self.acl.log.clear();
                answer.say(&Reply::Ok);
            }
            AboutUsers::Load | AboutUsers::Save if !self.acl.has_file => answer.say(&Reply::Error(NO_FILE)),
            AboutUsers::Load => {
                self.acl.begin_load(Some(self.asker()), self.effects);
                return self.block(answer);
            }
            AboutUsers::Save => {
                self.acl.begin_save(self.asker(), self.effects);
                return self.block(answer);
            }
            AboutUsers::DryRun { name, words } => self.dry_run(name, words, answer),
            AboutUsers::MakeUp { bits } => answer.say(&Reply::Value(self.acl.make_up(bits).as_bytes())),
        }
        Flow::Continue
    }

    /// The client waits for what the driver does aside.
    fn block(&mut self, answer: &Answer<'_>) -> Flow {
        self.waiters.wait(self.now, (self.conn, answer.dialect), Wanted::Job, 0, self.replica);
        Flow::Blocked
    }

    fn set_user(&mut self, name: &str, rules: Words<'_>, client: &mut Client, answer: &mut Answer<'_>) -> Flow {
        let rules = rules.into_iter().map(Box::from).collect();
        match self.acl.edit(self.asker(), name, rules, self.effects) {
            Changed::Now => {
                tracing::info!(user = name, "the rights of a user were changed");
                answer.say(&Reply::Ok);
                return self.refresh(Some(client));
            }
            Changed::Later => return self.block(answer),
            Changed::Wrong(rule, why) => answer.say(&Reply::BadRule { rule: shown_rule(&rule), why }),
            Changed::Full => answer.say(&Reply::Error(TOO_MANY_USERS)),
        }
        Flow::Continue
    }

    fn delete_users(&mut self, names: Words<'_>, client: &mut Client, answer: &mut Answer<'_>) -> Flow {
        if names.into_iter().any(|name| name == DEFAULT.as_bytes()) {
            answer.say(&Reply::Error("The 'default' user cannot be removed"));
            return Flow::Continue;
        }
        let removed = names.into_iter().filter(|name| self.acl.remove(name)).count();
        answer.say(&Reply::Count(removed as u64));
        self.refresh(Some(client))
    }

    fn tell_log(&self, count: usize, answer: &mut Answer<'_>) {
        let entries = self.acl.log.iter();
        answer.say(&Reply::Array(count.min(entries.len())));
        for (entry, times, at) in entries.take(count) {
            answer.say(&Reply::Map(7));
            answer.say(&Reply::Value(b"count"));
            answer.say(&Reply::Number((*times).into()));
            let age = format!("{:.3}", self.now.mono.ms_since(*at) as f64 / 1_000.0);
            for (name, value) in [
                ("reason", entry.reason),
                ("context", entry.context),
                ("object", &entry.object),
                ("username", &entry.user),
                ("age-seconds", &age),
                ("client-info", entry.client.trim_end()),
            ] {
                answer.say(&Reply::Value(name.as_bytes()));
                answer.say(&Reply::Value(value.as_bytes()));
            }
        }
    }

    fn dry_run(&self, name: &[u8], words: Words<'_>, answer: &mut Answer<'_>) {
        let Some(user) = self.acl.user(name) else {
            return answer.say(&Reply::ErrorAt("User '", name, "' not found"));
        };
        let command = words.into_iter().next().unwrap_or_default();
        let Some((Some(verb), parsed)) = commands::parse(words, &self.config.limits) else {
            return answer.say(&Reply::ErrorAt("Command '", command, "' not found"));
        };
        if let Err(reply) = &parsed
            && is_misspelt(reply, words)
        {
            return answer.say(reply);
        }
        match would_deny(user, verb, parsed.as_ref().ok(), words) {
            None => answer.say(&Reply::Ok),
            Some(why) => {
                let mut text = Vec::new();
                denied::emit_dry(&why, &mut text);
                answer.say(&Reply::Value(&text));
            }
        }
    }
}

fn tell_user(user: &User, answer: &mut Answer<'_>) {
    answer.say(&Reply::Map(6));
    answer.say(&Reply::Value(b"flags"));
    answer.say(&Reply::Set(user.flags().count()));
    user.flags().for_each(|flag| answer.say(&Reply::Value(flag.as_bytes())));
    answer.say(&Reply::Value(b"passwords"));
    answer.say(&Reply::Array(user.hashes.len()));
    user.hashes.iter().for_each(|hash| answer.say(&Reply::Value(hash.as_bytes())));
    for (name, value) in
        [("commands", user.commands().into_bytes()), ("keys", user.keys()), ("channels", user.channels())]
    {
        answer.say(&Reply::Value(name.as_bytes()));
        answer.say(&Reply::Value(&value));
    }
    answer.say(&Reply::Value(b"selectors"));
    answer.say(&Reply::Array(0));
}

fn tell_categories(of: Option<u32>, answer: &mut Answer<'_>) {
    let names: Vec<String> = match of {
        None => category_names().map(str::to_owned).collect(),
        Some(category) => {
            units().iter().filter(|unit| unit.categories & category != 0).map(|unit| unit.name()).collect()
        }
    };
    answer.say(&Reply::Array(names.len()));
    names.iter().for_each(|name| answer.say(&Reply::Value(name.as_bytes())));
}
