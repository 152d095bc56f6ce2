//! The texts of `STATS` and `PEERS`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::Config;
use crate::disk::Keeper;
use crate::json::Json;
use crate::readiness::Overview;
use crate::repl::{Blocked, DialState, Replication, Role, Scrubbed};
use crate::replica::Replica;
use crate::retired::RETIRED_MAX;
use crate::time::{Mono, Now};

/// What a node counts besides its data.
#[derive(Debug)]
pub(crate) struct Counters {
    /// When this run began.
    pub(crate) started: Mono,
    /// Commands run since the start.
    pub(crate) commands: u64,
    /// Connections for which there was no room.
    pub(crate) rejected: u64,
    /// Connections, commands, and those for which there was no room, up to where `INFO` counts from.
    pub(crate) before: (u64, u64, u64),
    /// When commands were last counted, how many there had been, and how many a second came before.
    sample: (Mono, u64, u64),
}

/// How long commands are counted to tell how many come in a second.
const SAMPLE_MS: u64 = 1_000;

impl Counters {
    pub(crate) const fn new(started: Mono) -> Self {
        Self { started, commands: 0, rejected: 0, before: (0, 0, 0), sample: (started, 0, 0) }
    }

    /// Has `INFO` count from now on.
    pub(crate) fn reset(&mut self, accepted: u64) {
        self.before = (accepted, self.commands, self.rejected);
    }

    /// Counts how many commands come in a second; to be called every now and then.
    pub(crate) fn sample(&mut self, now: Mono) {
        let (since, commands, _) = self.sample;
        let ms = now.ms_since(since);
        if ms >= SAMPLE_MS {
            self.sample = (now, self.commands, (self.commands - commands) * 1_000 / ms);
        }
    }

    /// How many commands came in the last second that was looked at.
    pub(crate) const fn commands_a_second(&self) -> u64 {
        self.sample.2
    }
}

/// What is told of one peer.
#[derive(Debug)]
pub(crate) struct PeerRow<'a> {
    address: &'a str,
    /// Where it serves clients, if it says that this is elsewhere.
    clients_at: Option<&'a str>,
    name: Option<&'a str>,
    pub(crate) state: &'static str,
    pub(crate) lag_records: u64,
    pub(crate) lag_ms: u64,
    pub(crate) clock_ms_ahead: Option<i64>,
    /// Why who was dialed there turned this node away last, or was turned away, if that was so.
    turned_away: Option<&'a str>,
    protocol: Option<u16>,
}

impl PeerRow<'_> {
    /// Its name, and while that is not known its address.
    pub(crate) fn label(&self) -> String {
        self.name.unwrap_or(self.address).to_owned()
    }
}

/// Appends one line of JSON.
pub(crate) fn emit_stats(overview: &Overview<'_>, (clients, counters): (usize, &Counters), out: &mut Vec<u8>) {
    let Overview { now, config, replica, repl, keeper, .. } = *overview;
    let store = &replica.store;
    let (digest, digest_at) = store.digest();
    let mut text = String::new();
    let mut json = Json::new(&mut text);
    json.open('{');
    json.string("node", &config.name);
    json.string("origin", &replica.own().to_string());
    json.number("keys", store.keys());
    json.number("tombstones", store.tombstones());
    let oldest = repl.oldest_tombstone().filter(|_| store.tombstones() > 0);
    json.number("oldest_tombstone_ms", oldest.map_or(0, |hlc| now.wall.0.saturating_sub(hlc.ms())));
    json.number("expired", store.husks());
    json.number("collected", repl.collected());
    json.number("folded", repl.parts_folded());
    emit_blockers(config, replica, repl, &mut json);
    json.number("origins", replica.origins.len() as u64);
    json.number("retired", u64::from(replica.origins.retired().len()));
    json.number("retired_max", RETIRED_MAX as u64);
    json.number("memory_bytes", replica.memory_bytes());
    json.number("memory_bytes_max", config.limits.memory_bytes_max);
    json.string("digest", &format!("{digest:032x}"));
    json.number("digest_at", digest_at.0);
    json.key("peers");
    json.open('[');
    for row in rows(now, config, replica, repl) {
        json.item();
        json.open('{');
        json.string("address", row.address);
        json.string_or_null("clients_at", row.clients_at);
        json.string_or_null("name", row.name);
        json.string("state", row.state);
        json.number("lag_records", row.lag_records);
        json.number("lag_ms", row.lag_ms);
        json.literal("clock_ms_ahead", &row.clock_ms_ahead.map_or("null".to_owned(), |ms| ms.to_string()));
        json.string_or_null("turned_away", row.turned_away);
        json.literal("protocol", &row.protocol.map_or("null".to_owned(), |version| version.to_string()));
        json.close('}');
    }
    json.close(']');
    json.number("peers_refused", repl.gate.refused);
    json.string_or_null("peers_refused_last", repl.gate.last);
    json.literal("clock_ms_ahead", &repl.clock_ms_ahead.to_string());
    json.number("connections", clients as u64);
    json.number("commands", counters.commands);
    json.number("conflicts", replica.ledger.found());
    json.number("conflicts_kept", replica.ledger.len() as u64);
    json.number("links", repl.links.len() as u64);
    json.number("uptime_ms", now.mono.ms_since(counters.started));
    json.strings("not_ready", overview.reasons().iter().map(|reason| reason.why.word()));
    emit_scrubbed(repl.scrub.done(), &mut json);
    emit_disk(replica, keeper, &mut json);
    json.close('}');
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// How the disk is, and what is on it.
fn emit_disk(replica: &Replica, keeper: Option<&Keeper>, json: &mut Json<'_>) {
    let (Some(log), Some(keeper)) = (&replica.log, keeper) else { return json.literal("disk", "null") };
    let (appended, synced) = log.positions();
    let (places, bytes) = (keeper.damage.places, keeper.damage.bytes);
    json.key("disk");
    json.open('{');
    json.string("state", log.health().name());
    json.number("unsynced_bytes", appended - synced);
    json.number("waiting_bytes", log.queue().0);
    json.literal("refuses", if log.refusal().is_some() { "true" } else { "false" });
    json.literal("withholds", if keeper.is_withheld { "true" } else { "false" });
    json.number("log_bytes", log.since_snapshot);
    json.number("segment", u64::from(log.segment()));
    json.number("snapshot_bytes", keeper.saver.whole.map_or(0, |(_, bytes)| bytes));
    json.number("snapshots", keeper.saver.saved);
    json.literal("saving", if keeper.saver.is_under_way() { "true" } else { "false" });
    json.literal("save_failed", if keeper.saver.error().is_some() { "true" } else { "false" });
    json.number("damaged_places", places);
    json.number("damaged_bytes", bytes);
    json.close('}');
}

/// What the comparison with peers has found.
fn emit_scrubbed(scrubbed: Scrubbed, json: &mut Json<'_>) {
    let Scrubbed { compared, rounds, found, repaired, unrepairable } = scrubbed;
    json.key("scrub");
    json.open('{');
    json.number("compared", compared);
    json.number("rounds", rounds);
    json.number("found", found);
    json.number("repaired", repaired);
    json.number("unrepairable", unrepairable);
    json.close('}');
}

/// Who keeps what was deleted from being forgotten.
fn emit_blockers(config: &Config, replica: &Replica, repl: &Replication, json: &mut Json<'_>) {
    json.key("gc_blocked_by");
    json.open('[');
    let blockers = repl.blockers(config, replica).filter(|_| replica.store.graves() > 0);
    for (name, blocked) in blockers {
        json.item();
        json.open('{');
        json.string("node", name);
        match blocked {
            Blocked::Away => {
                json.string("why", "down");
                json.string("release", &format!("FORGET {}", quoted_word(name)));
            }
            Blocked::Behind => {
                json.string("why", "catching up");
                json.literal("release", "null");
            }
            Blocked::Unsettled => {
                json.string("why", "may still hear of a run that ended");
                json.literal("release", "null");
            }
        }
        json.close('}');
    }
    let partial = repl.may_return_with_more(replica).filter(|_| replica.store.graves() > 0);
    for name in partial.map(|(_, name)| name).collect::<BTreeSet<_>>() {
        json.item();
        json.open('{');
        json.string("node", name);
        json.string("why", "was forgotten, and only a part of what it wrote is here");
        json.string("release", "start a node of that name");
        json.close('}');
    }
    json.close(']');
}

/// A name as it can be typed: in quotes if it needs some.
fn quoted_word(name: &str) -> String {
    let plain = name.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\'));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Appends one line for each peer, or says that there is none.
pub(crate) fn emit_peers(now: Now, config: &Config, replica: &Replica, repl: &Replication, out: &mut Vec<u8>) {
    let mut text = String::new();
    for row in rows(now, config, replica, repl) {
        let name = row.name.unwrap_or("?");
        let PeerRow { address, state, lag_records, lag_ms, turned_away, .. } = row;
        // Writing to a string cannot fail.
        let _ = write!(text, "{address} {state} name={name} lag_records={lag_records} lag_ms={lag_ms}");
        if let Some(why) = turned_away {
            let _ = write!(text, " turned_away={}", quoted_word(why));
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("No peers\n");
    }
    out.extend_from_slice(text.as_bytes());
}

/// One row for each member, and one for each address that has led to nobody yet.
pub(crate) fn rows<'a>(now: Now, config: &Config, replica: &'a Replica, repl: &'a Replication) -> Vec<PeerRow<'a>> {
    let mut rows: Vec<PeerRow<'a>> = repl
        .members
        .iter()
        .map(|(name, member)| {
            let links = || repl.links.values().filter(|link| link.name() == Some(name));
            let pull = links().find(|link| matches!(link.role, Role::Pull(_)));
            let lag = repl.marks.lag(replica, repl.held_by(name), now.wall);
            let state = match pull.map(|link| (link, link.source())) {
                Some((link, Some(_))) if repl.catches_up_over(link, replica) => "catching up",
                Some((_, Some(_))) => "up",
                Some((link, None)) if repl.is_held_for_clock(link, config.timers.clock_ahead_ms_max) => "clock ahead",
                Some((_, None)) => "greeting",
                None if links().next().is_some() => "unreachable, but reaches this node",
                None => "down",
            };
            PeerRow {
                address: &member.advertise,
                clients_at: member.clients_at.as_deref(),
                name: Some(name),
                state,
                lag_records: lag.records,
                lag_ms: lag.ms,
                clock_ms_ahead: links().find_map(|link| link.peer.as_ref()).map(|peer| peer.ahead_ms),
                turned_away: repl.members.turned_away_by(name),
                protocol: links().find_map(|link| link.peer.as_ref()).map(|peer| peer.protocol),
            }
        })
        .collect();
    let strangers = repl.members.targets().iter().filter(|target| {
        let known = |name: &str| repl.members.iter().any(|(member, _)| member == name);
        target.state != DialState::Own && !target.member.as_deref().is_some_and(known)
    });
    rows.extend(strangers.map(|target| PeerRow {
        address: &target.address,
        clients_at: None,
        name: target.member.as_deref(),
        state: match target.state {
            DialState::Waiting(_) => "down",
            DialState::Dialing => "dialing",
            DialState::Linked(_) | DialState::Own => "greeting",
        },
        lag_records: replica.own_records(),
        lag_ms: 0,
        clock_ms_ahead: None,
        turned_away: target.turned_away.as_deref(),
        protocol: None,
    }));
    rows
}
