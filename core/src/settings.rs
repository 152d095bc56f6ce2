//! What of a node's configuration can change while it runs: by `CONFIG SET`, or as its driver is told to read it again.

use std::ops::RangeInclusive;

use crate::config::{Config, DiskConfig, Limits};
use crate::disk::Fsync;

/// How many clients may be let in at once: far above what one process can have in open files, far below what a
/// connection's number can hold.
pub const CLIENTS: RangeInclusive<usize> = 1..=1_000_000;

/// How long the longest value may be: an entry's header has 29 bits for it.
pub const VALUE_BYTES: RangeInclusive<usize> = 1..=(1 << 29) - 1;

/// After which absence, in seconds, a member may be forgotten, if it is. A shorter one is a restart, or a switch that
/// reboots; a longer one than a hundred years is meant as never.
pub const ABSENCE_S: RangeInclusive<u64> = 5..=100 * 365 * 24 * 3_600;

/// By how many percent the log may outgrow the data: with less a node would do little else than save, and more is a
/// slip of the hand.
pub const SNAPSHOT_RATIO_PERCENT: RangeInclusive<u32> = 10..=100_000;

/// All host names together: what one request of a client may have the node hold on to.
const HTTP_HOSTS_BYTES_MAX: usize = 4 << 10;

/// Least severe lines to log. The driver does the logging, and looks here for what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What an operator wants to know of.
    #[default]
    Info,
    /// What helps to find out why.
    Debug,
    /// All there is.
    Trace,
}

impl LogLevel {
    /// Levels by Redis' names for them, and by names of their kind where Redis has none.
    const NAMES: [(&'static str, Self); 6] = [
        ("debug", Self::Trace),
        ("verbose", Self::Debug),
        ("notice", Self::Info),
        ("warning", Self::Warn),
        ("error", Self::Error),
        ("nothing", Self::Off),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// What can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`Limits::clients_max`]; one of [`CLIENTS`].
    pub clients_max: usize,
    /// See [`Limits::value_bytes_max`]; one of [`VALUE_BYTES`]. A request may be as long as two of them.
    pub value_bytes_max: usize,
    /// See [`Limits::memory_bytes_max`].
    pub memory_bytes_max: u64,
    /// See [`Config::http_hosts`].
    pub http_hosts: Vec<String>,
    /// See [`Timers::absence_ms`](crate::Timers::absence_ms).
    pub absence_ms: u64,
    /// See [`DiskConfig::fsync`]; nothing without a disk.
    pub fsync: Fsync,
    /// See [`DiskConfig::snapshot_ratio_percent`]; nothing without a disk.
    pub snapshot_ratio_percent: u32,
    /// What the driver is to log.
    pub log_level: LogLevel,
}

impl Settings {
    /// As they are in `config`, which does not have the level.
    pub(crate) fn of(config: &Config, log_level: LogLevel) -> Self {
        let disk = config.disk.clone().unwrap_or_default();
        Self {
            clients_max: config.limits.clients_max,
            value_bytes_max: config.limits.value_bytes_max,
            memory_bytes_max: config.limits.memory_bytes_max,
            http_hosts: config.http_hosts.clone(),
            absence_ms: config.timers.absence_ms,
            fsync: disk.fsync,
            snapshot_ratio_percent: disk.snapshot_ratio_percent,
            log_level,
        }
    }

    /// Puts them into `config`; the level is the driver's.
    pub fn apply(&self, config: &mut Config) {
        let limits = &mut config.limits;
        (limits.clients_max, limits.memory_bytes_max) = (self.clients_max, self.memory_bytes_max);
        if limits.value_bytes_max != self.value_bytes_max {
            limits.value_bytes_max = self.value_bytes_max;
            // Also the longest value is not all of a request.
            limits.request_bytes_max = Limits::default().request_bytes_max.max(2 * self.value_bytes_max);
        }
        config.http_hosts.clone_from(&self.http_hosts);
        config.timers.absence_ms = self.absence_ms;
        if let Some(disk) = &mut config.disk {
            (disk.fsync, disk.snapshot_ratio_percent) = (self.fsync, self.snapshot_ratio_percent);
        }
    }

    /// Those that differ in `other`: their names, and what they are here and there.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'static str, String, String)> {
        let texts = CHANGEABLE.iter().map(|each| (each.name, (each.text)(self), (each.text)(other)));
        texts.filter(|(_, here, there)| here != there)
    }
}

impl Default for Settings {
    /// Those of a node that was told nothing else.
    fn default() -> Self {
        let (limits, disk) = (Limits::default(), DiskConfig::default());
        Self {
            clients_max: limits.clients_max,
            value_bytes_max: limits.value_bytes_max,
            memory_bytes_max: limits.memory_bytes_max,
            http_hosts: Vec::new(),
            absence_ms: 0,
            fsync: disk.fsync,
            snapshot_ratio_percent: disk.snapshot_ratio_percent,
            log_level: LogLevel::default(),
        }
    }
}

/// A setting that clients can change.
pub(crate) struct Changeable {
    /// Redis' name, or the option's where Redis has none.
    pub(crate) name: &'static str,
    pub(crate) text: fn(&Settings) -> String,
    /// Takes a value, or says why not, as Redis does.
    pub(crate) take: fn(&mut Settings, &str) -> Result<(), &'static str>,
    /// Means nothing without a disk.
    pub(crate) is_of_disk: bool,
}

pub(crate) static CHANGEABLE: [Changeable; 8] = [
    Changeable {
        name: "appendfsync",
        text: |settings| settings.fsync.name().to_owned(),
        take: |settings, text| {
            let all = [Fsync::EverySec, Fsync::Always, Fsync::No];
            let named = all.into_iter().find(|fsync| text.eq_ignore_ascii_case(fsync.name()));
            settings.fsync = named.ok_or("argument(s) must be one of the following: everysec, always, no")?;
            Ok(())
        },
        is_of_disk: true,
    },
    Changeable {
        name: "auto-aof-rewrite-percentage",
        text: |settings| settings.snapshot_ratio_percent.to_string(),
        take: |settings, text| {
            let why = "argument must be between 10 and 100000 inclusive";
            let percent = u32::try_from(integer(text)?).map_err(|_| why)?;
            settings.snapshot_ratio_percent = within(percent, &SNAPSHOT_RATIO_PERCENT, why)?;
            Ok(())
        },
        is_of_disk: true,
    },
    Changeable {
        name: "forget-after",
        text: |settings| (settings.absence_ms / 1_000).to_string(),
        take: |settings, text| {
            let why = "argument must be 0, or between 5 and 3153600000 inclusive";
            let seconds = u64::try_from(integer(text)?).map_err(|_| why)?;
            let seconds = if seconds == 0 { 0 } else { within(seconds, &ABSENCE_S, why)? };
            settings.absence_ms = seconds * 1_000;
            Ok(())
        },
        is_of_disk: false,
    },
    Changeable {
        name: "http-host",
        text: |settings| settings.http_hosts.join(","),
        take: |settings, text| {
            let is_shown = text.len() <= HTTP_HOSTS_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
            is_shown.then_some(()).ok_or("argument must be host names, with commas between them")?;
            settings.http_hosts = text.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
            Ok(())
        },
        is_of_disk: false,
    },
    Changeable {
        name: "loglevel",
        text: |settings| settings.log_level.name().to_owned(),
        take: |settings, text| {
            let why = "argument(s) must be one of the following: debug, verbose, notice, warning, error, nothing";
            let named = LogLevel::NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
            settings.log_level = named.ok_or(why)?.1;
            Ok(())
        },
        is_of_disk: false,
    },
    Changeable {
        name: "maxclients",
        text: |settings| settings.clients_max.to_string(),
        take: |settings, text| {
            let why = "argument must be between 1 and 1000000 inclusive";
            let clients = usize::try_from(integer(text)?).map_err(|_| why)?;
            settings.clients_max = within(clients, &CLIENTS, why)?;
            Ok(())
        },
        is_of_disk: false,
    },
    Changeable {
        name: "maxmemory",
        text: |settings| settings.memory_bytes_max.to_string(),
        take: |settings, text| {
            settings.memory_bytes_max = memory(text).ok_or("argument must be a memory value")?;
            Ok(())
        },
        is_of_disk: false,
    },
    Changeable {
        name: "proto-max-bulk-len",
        text: |settings| settings.value_bytes_max.to_string(),
        take: |settings, text| {
            let why = "argument must be between 1 and 536870911 inclusive";
            let bytes = usize::try_from(memory(text).ok_or("argument must be a memory value")?).map_err(|_| why)?;
            settings.value_bytes_max = within(bytes, &VALUE_BYTES, why)?;
            Ok(())
        },
        is_of_disk: false,
    },
];

fn within<T: PartialOrd + Copy>(number: T, range: &RangeInclusive<T>, why: &'static str) -> Result<T, &'static str> {
    range.contains(&number).then_some(number).ok_or(why)
}

fn integer(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "argument couldn't be parsed into an integer")
}

/// A size with one of Redis' units: without the `b` they are of 1000, with it of 1024.
fn memory(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    // What is past all bounds is a size nonetheless.
    (digits > 0).then(|| number.parse().map_or(u64::MAX, |number: u64| number.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_setting_says_it_takes() {
        for each in &CHANGEABLE {
            let mut settings = Settings { http_hosts: vec!["a".to_owned(), "b".to_owned()], ..Settings::default() };
            let text = (each.text)(&settings);
            let stood = settings.clone();
            (each.take)(&mut settings, &text).unwrap();
            assert_eq!(settings, stood, "{}", each.name);
            (each.take)(&mut settings, "!\u{7f}").unwrap_err();
            assert_eq!(settings, stood, "{} stays as it is when it is refused", each.name);
        }
        assert!(CHANGEABLE.is_sorted_by_key(|each| each.name));
    }

    #[test]
    fn the_refusals_name_the_bounds() {
        let why = |name: &str, text: &str| {
            let each = CHANGEABLE.iter().find(|each| each.name == name).unwrap();
            (each.take)(&mut Settings::default(), text).unwrap_err()
        };
        for (name, (from, to)) in [
            ("auto-aof-rewrite-percentage", (10, 100_000)),
            ("maxclients", (*CLIENTS.start() as u64, *CLIENTS.end() as u64)),
            ("proto-max-bulk-len", (*VALUE_BYTES.start() as u64, *VALUE_BYTES.end() as u64)),
            ("forget-after", (*ABSENCE_S.start(), *ABSENCE_S.end())),
        ] {
            for text in [(from - 1).to_string(), (to + 1).to_string(), "-1".to_owned()] {
                // No absence at all is never; a size has no sign.
                if (name, text.as_str()) != ("proto-max-bulk-len", "-1") {
                    let said = why(name, &text);
                    assert!(said.contains(&format!("between {from} and {to} inclusive")), "{name} {text}: {said}");
                }
            }
        }
        assert_eq!(SNAPSHOT_RATIO_PERCENT, 10..=100_000);
        assert_eq!(why("maxclients", "many"), "argument couldn't be parsed into an integer");
        assert_eq!(why("proto-max-bulk-len", "-1"), "argument must be a memory value");
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        for (text, bytes) in [("1", 1), ("1k", 1_000), ("1KB", 1_024), ("2mb", 2 << 20), ("1g", 1_000_000_000)] {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        assert_eq!(memory("99999999999999999999"), Some(u64::MAX));
        assert_eq!(memory("99999999999999gb"), Some(u64::MAX));
        for text in ["", "kb", "1x", "1.5mb", "1 mb"] {
            assert_eq!(memory(text), None, "{text}");
        }
    }

    #[test]
    fn a_longer_value_makes_room_for_a_longer_request() {
        let config = |settings: &Settings| {
            let mut config = Config::new([0; 4], "a", "a:1");
            settings.apply(&mut config);
            config
        };
        let default = Limits::default().request_bytes_max;
        for (value_bytes_max, request_bytes_max) in [(1, default), (64 << 20, default), (256 << 20, 512 << 20)] {
            let limits = config(&Settings { value_bytes_max, ..Settings::default() }).limits;
            assert_eq!((limits.value_bytes_max, limits.request_bytes_max), (value_bytes_max, request_bytes_max));
        }
        let log_level = LogLevel::Warn;
        let settings =
            Settings { clients_max: 7, memory_bytes_max: 9, absence_ms: 9_000, log_level, ..Settings::default() };
        assert_eq!(Settings::of(&config(&settings), log_level), settings);
    }
}
