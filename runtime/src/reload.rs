//! SIGHUP: options are read again, and what can change does.
//!
//! What the command line and the environment say stands as it did: they are those of this process. After a reload all
//! that can change is as `--print-config` would show it, also what clients have set by `CONFIG SET` meanwhile.
//!
//! So are the secrets in files that options name: the password, and the secret of the cluster, for which there are two
//! at once while nodes change from one to the other.

use kv_core::{Settings, Turn};
use tracing::{info, warn};

use crate::access::AccessWorker;
use crate::cli::Options;
use crate::configuration::{self, Configuration, Setting};
use crate::failure::Failure;
use crate::logging::LogFilter;
use crate::peers::peer_auth;
use crate::start;

/// The options that can change while a node runs, and the names that `CONFIG GET` has for what they are.
const CHANGEABLE: [(&str, &str); 8] = [
    ("forget-after", "forget-after"),
    ("fsync", "appendfsync"),
    ("http-host", "http-host"),
    ("log-level", "loglevel"),
    ("max-clients", "maxclients"),
    ("maxmemory", "maxmemory"),
    ("max-value-size", "proto-max-bulk-len"),
    ("snapshot-ratio", "auto-aof-rewrite-percentage"),
];

/// Options by Redis' names for them, where it has some.
const REDIS_NAMES: [(&str, &str); 2] = [("data-dir", "dir"), ("listen", "bind")];

/// What a node was started with, and what follows its settings.
#[derive(Debug)]
pub(crate) struct Reload {
    /// As they were given at the start: what cannot change is still so.
    settings: Vec<Setting>,
    filter: LogFilter,
}

impl Reload {
    pub(crate) fn new(settings: Vec<Setting>, filter: LogFilter) -> Self {
        Self { settings, filter }
    }

    /// What `CONFIG GET` is to show of what cannot change.
    pub(crate) fn shown(&self) -> Vec<(String, String)> {
        let fixed = self.settings.iter().filter(|setting| !is_changeable(setting) && !setting.is_secret);
        let named = |key: &str| {
            REDIS_NAMES.iter().find(|(own, _)| *own == key).map_or(key.to_owned(), |named| named.1.to_owned())
        };
        fixed.map(|setting| (named(&setting.key), setting.text())).collect()
    }

    /// Reads the options again, and the secrets in files that they name. If anything is wrong with what it reads,
    /// nothing of that changes.
    pub(crate) fn reload(&self, turn: &mut Turn, access: &AccessWorker) {
        let arguments: Vec<_> = std::env::args_os().collect();
        match configuration::read(&arguments) {
            Ok(read) => {
                self.apply(&read, turn);
                self.rotate(&read, turn, access);
            }
            Err(Failure::Told) => {}
            Err(failure) => warn!(why = %failure, "cannot read the options again; nothing was changed"),
        }
    }

    fn apply(&self, read: &Configuration, turn: &mut Turn) {
        turn.reconfigure(&settings(&read.options));
        start::raise_descriptor_limit(read.options.max_clients);
        let stays = read.settings.iter().filter(|setting| !is_changeable(setting));
        let differs =
            |setting: &&Setting| self.settings.iter().any(|old| old.key == setting.key && old.value != setting.value);
        let differing: Vec<&str> = stays.filter(differs).map(|setting| setting.key.as_str()).collect();
        if !differing.is_empty() {
            let options = differing.join(", ");
            warn!(options, "what was changed of these wants a restart; they stay as they were");
        }
        info!("read the options again");
    }

    /// Takes what the files of secrets have now that it was started with.
    fn rotate(&self, read: &Configuration, turn: &mut Turn, access: &AccessWorker) {
        let stands = |key: &str| {
            let of =
                |settings: &[Setting]| settings.iter().find(|one| one.key == key).and_then(|one| one.value.clone());
            of(&self.settings) == of(&read.settings)
        };
        if read.options.peer.cluster_secret_file.is_some() && stands("cluster-secret-file") {
            match peer_auth(&read.options) {
                // The node says whether they are others.
                Ok(secrets) => drop(turn.change_secrets(secrets)),
                Err(failure) => warn!("the secrets of the cluster stay as they were: {failure}"),
            }
        }
        if let Some(path) = read.options.access.password_file.clone().filter(|_| stands("password-file")) {
            access.reload_password(path);
        }
    }

    /// Logs what the node's settings say, which clients may have changed.
    pub(crate) fn follow(&mut self, turn: &Turn) {
        self.filter.set(turn.node().log_level());
    }
}

fn is_changeable(setting: &Setting) -> bool {
    CHANGEABLE.iter().any(|(key, _)| *key == setting.key)
}

/// What of the options can change while a node runs.
pub(crate) fn settings(options: &Options) -> Settings {
    Settings {
        clients_max: options.max_clients,
        value_bytes_max: options.max_value_size,
        memory_bytes_max: options.maxmemory as u64,
        http_hosts: options.http_host.clone(),
        absence_ms: options.forget_after * 1_000,
        fsync: options.fsync.policy(),
        snapshot_ratio_percent: options.snapshot_ratio,
        log_level: options.log_level.level(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read_of(arguments: &[&str]) -> Configuration {
        let all: Vec<OsString> =
            std::iter::once("simple-kv").chain(arguments.iter().copied()).map(Into::into).collect();
        configuration::read(&all).unwrap()
    }

    #[test]
    fn an_option_changes_exactly_if_it_is_said_to() {
        let plain = read_of(&["--data-dir", "d"]);
        assert_eq!(settings(&plain.options), Settings::default());
        for setting in &plain.settings {
            let value = match setting.key.as_str() {
                "port" | "peers" | "data-dir" => continue,
                "listen" => "::1",
                "peer-listen" => "[::1]:77",
                "tls" => "off",
                "tls-client-auth" => "none",
                "color" => "never",
                "advertise" | "advertise-clients" => "h:1",
                "fsync" => "always",
                "log-level" => "debug",
                "log-format" => "json",
                "max-value-size" | "ring-size" => "1MiB",
                _ => "77",
            };
            let flag = match setting.value {
                Some(configuration::Given::Flag(_)) => format!("--{}", setting.key),
                _ => format!("--{}={value}", setting.key),
            };
            let other = read_of(&["--data-dir", "d", &flag]);
            let is_changed = settings(&other.options) != settings(&plain.options);
            assert_eq!(is_changed, is_changeable(setting), "{flag}");
        }
    }

    #[test]
    fn what_is_shown_is_what_cannot_change_and_no_secret() {
        let mut read = read_of(&["1", "a:1", "--data-dir", "d"]);
        read.settings[0].is_secret = true;
        let hidden = read.settings[0].key.clone();
        let shown = Reload::new(read.settings, LogFilter::none()).shown();
        assert!(shown.contains(&("dir".to_owned(), "d".to_owned())), "{shown:?}");
        assert!(shown.contains(&("peers".to_owned(), "a:1".to_owned())), "{shown:?}");
        assert!(shown.contains(&("strict-recovery".to_owned(), "no".to_owned())), "{shown:?}");
        let names = || shown.iter().map(|(name, _)| name.as_str());
        assert!(names().all(|name| CHANGEABLE.iter().all(|(key, redis)| name != *key && name != *redis)), "{shown:?}");
        assert!(names().all(|name| name != hidden), "{shown:?}");
    }
}
