//! `CONFIG`: settings by the names that Redis has for them.

use super::Server;
use crate::command::Reply;
use crate::execute::matches;
use crate::name::SPACES;
use crate::pubsub::Notices;
use crate::settings::{CHANGEABLE, Changeable, Settings};
use crate::wire::Answer;
use crate::wire::words::Words;

/// What Redis does not even set to what it is.
const IMMUTABLE: &str = "databases";

/// Which events of the data are told of.
const NOTICES: &str = "notify-keyspace-events";

/// Why what is given at the start stays as it is.
const AT_THE_START: &str = "can't set immutable config";

impl Server<'_, '_> {
    /// All by their names, in the order of those.
    fn settings(&self) -> Vec<(&str, String)> {
        let appendonly = if self.disk.is_some() { "yes" } else { "no" };
        let mut all = vec![
            ("appendonly", appendonly.to_owned()),
            ("databases", SPACES.to_string()),
            ("maxmemory-policy", "noeviction".to_owned()),
            (NOTICES, self.pubsub.notices.text()),
            ("save", String::new()),
            ("timeout", "0".to_owned()),
        ];
        let stands = self.changeable();
        all.extend(CHANGEABLE.iter().map(|each| match each.is_of_disk && self.disk.is_none() {
            true if each.name == "appendfsync" => (each.name, "no".to_owned()),
            _ => (each.name, (each.text)(&stands)),
        }));
        for (name, text) in self.options {
            if !all.iter().any(|(known, _)| known == name) {
                all.push((name, text.clone()));
            }
        }
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// What can change, as the commands before this one have left it.
    fn changeable(&self) -> Settings {
        self.changed.clone().unwrap_or_else(|| Settings::of(self.config, self.log_level))
    }

    /// The setting of that name, if it can be changed.
    fn changeable_named(&self, name: &str) -> Option<&'static Changeable> {
        let is_there = |each: &&Changeable| !each.is_of_disk || self.disk.is_some();
        CHANGEABLE.iter().filter(is_there).find(|each| each.name == name)
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
        match self.read_all(settings) {
            Ok((notices, changed)) => {
                if let Some(notices) = notices {
                    self.pubsub.notices = notices;
                    self.replica.note_changes(notices.is_on());
                }
                *self.changed = changed.or(self.changed.take());
                answer.say(&Reply::Ok);
            }
            Err(refusal) => answer.say(&refusal),
        }
    }

    /// What is to be set.
    fn read_all<'a>(&self, settings: Words<'a>) -> Result<(Option<Notices>, Option<Settings>), Reply<'a>> {
        let stands = self.settings();
        let (mut rest, mut seen, mut notices, mut changed) = (settings, Vec::new(), None, None);
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            let named = stands.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
            let Some((known, stands)) = named else {
                let before = "Unknown option or number of arguments for CONFIG SET - '";
                return Err(Reply::ErrorAt(before, name, "'"));
            };
            let refusal = |why| Reply::NotSettable { name, why };
            if seen.contains(known) {
                return Err(refusal("duplicate parameter"));
            }
            seen.push(*known);
            if *known == NOTICES {
                let why = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
                notices = Some(Notices::parse(value).ok_or_else(|| refusal(why))?);
            } else if let Some(each) = self.changeable_named(known) {
                let settings = changed.get_or_insert_with(|| self.changeable());
                // What is no text is no value of any of them, nor is this.
                let text = std::str::from_utf8(value).unwrap_or("\0");
                (each.take)(settings, text).map_err(refusal)?;
            } else if value != stands.as_bytes() || *known == IMMUTABLE {
                return Err(refusal(AT_THE_START));
            }
        }
        Ok((notices, changed))
    }
}
