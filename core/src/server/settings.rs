//! `CONFIG`: settings by the names that Redis has for them.

use super::Server;
use crate::command::Reply;
use crate::execute::matches;
use crate::name::SPACES;
use crate::pubsub::Notices;
use crate::wire::Answer;
use crate::wire::words::Words;

/// What Redis does not even set to what it is.
const IMMUTABLE: &str = "databases";

/// Which events of the data are told of.
const NOTICES: &str = "notify-keyspace-events";

impl Server<'_, '_> {
    fn settings(&self) -> [(&'static str, String); 10] {
        let limits = &self.config.limits;
        let appendonly = if self.disk.is_some() { "yes" } else { "no" };
        let appendfsync = self.config.disk.as_ref().map_or("no", |disk| disk.fsync.name());
        [
            ("appendfsync", appendfsync.to_owned()),
            ("appendonly", appendonly.to_owned()),
            ("databases", SPACES.to_string()),
            ("maxclients", limits.clients_max.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            (NOTICES, self.pubsub.notices.text()),
            ("proto-max-bulk-len", limits.value_bytes_max.to_string()),
            ("save", String::new()),
            ("timeout", "0".to_owned()),
        ]
    }

    pub(super) fn tell_settings(&self, patterns: Vec<&[u8]>, answer: &mut Answer<'_>) {
        let settings = self.settings();
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

    /// Sets all that `settings` name to the values that follow them, or nothing.
    pub(super) fn set_all(&mut self, settings: Words<'_>, answer: &mut Answer<'_>) {
        let stands = self.settings();
        let (mut rest, mut seen, mut notices) = (settings, Vec::new(), None);
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            let named = stands.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
            let Some((known, stands)) = named else {
                let before = "Unknown option or number of arguments for CONFIG SET - '";
                return answer.say(&Reply::ErrorAt(before, name, "'"));
            };
            if seen.contains(known) {
                return answer.say(&Reply::NotSettable { name, why: "duplicate parameter" });
            }
            seen.push(known);
            if *known == NOTICES {
                let why = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
                let Some(read) = Notices::parse(value) else { return answer.say(&Reply::NotSettable { name, why }) };
                notices = Some(read);
                continue;
            }
            if value != stands.as_bytes() || *known == IMMUTABLE {
                return answer.say(&Reply::NotSettable { name, why: "can't set immutable config" });
            }
        }
        if let Some(notices) = notices {
            self.pubsub.notices = notices;
            self.replica.note_changes(notices.is_on());
        }
        answer.say(&Reply::Ok);
    }
}
