//! Asking the members of a cluster, and what is wrong with what they say.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::super::grouped;
use crate::client::{Connection, Greeting, Login, Lost, Value, plain};
use crate::tls::client::ClientTls;

/// What a member may say: more than `STATS` has with as many peers as a node takes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most members that are asked, and how many of them at once.
const MEMBERS_MAX: usize = 256;
const ASKED_AT_ONCE: usize = 32;
/// What a member has lacked for so long is no write that is just on its way.
const LAG_MS_MAX: u64 = 1_000;
/// Clocks that are synchronised at all are nearer to each other.
const SKEW_MS_MAX: u64 = 1_000;

/// How each member is asked.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) login: Option<Login>,
    pub(crate) tls: Option<ClientTls>,
    /// How long it has for its answer.
    pub(crate) within: Duration,
}

/// What was seen of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Who was asked, the one that was named first.
    pub(super) members: Vec<Asked>,
    differ: Differ,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    No,
    /// It does, while writes go on.
    Changing,
    /// It does, and nothing changes.
    AtRest,
}

/// One that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) address: String,
    /// As the others call it, if they do.
    name: Option<String>,
    /// What it says, or what it does instead.
    pub(super) told: Result<Told, String>,
}

/// What a member told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) stats: Stats,
    /// The whole of it.
    pub(super) raw: serde_json::Value,
    pub(super) ops_a_second: Option<u64>,
}

/// What matters of `STATS`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(super) node: String,
    pub(super) keys: u64,
    pub(super) tombstones: u64,
    pub(super) gc_blocked_by: Vec<Blocker>,
    pub(super) memory_bytes: u64,
    pub(crate) digest: String,
    pub(super) digest_at: u64,
    pub(crate) peers: Vec<Peer>,
    pub(super) clock_ms_ahead: i64,
    pub(super) not_ready: Vec<String>,
    pub(super) connections: u64,
    pub(super) conflicts: u64,
    pub(super) uptime_ms: u64,
    pub(super) disk: Option<Disk>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Blocker {
    pub(super) node: String,
    pub(super) why: String,
    pub(super) release: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(super) address: String,
    /// Where it serves clients, if that is elsewhere.
    clients_at: Option<String>,
    pub(super) name: Option<String>,
    pub(crate) state: String,
    pub(super) lag_records: u64,
    pub(super) lag_ms: u64,
    pub(super) clock_ms_ahead: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) state: String,
    pub(super) unsynced_bytes: u64,
    pub(super) refuses: bool,
    pub(super) withholds: bool,
    pub(super) save_failed: bool,
    pub(super) damaged_places: u64,
}

impl Peer {
    /// Its name, and while that is not known its address.
    pub(super) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

impl Asked {
    /// What to call it.
    pub(super) fn label(&self) -> String {
        let name = self.told.as_ref().map(|told| &told.stats.node).ok().or(self.name.as_ref());
        plain(name.unwrap_or(&self.address).as_bytes())
    }
}

impl Cluster {
    /// Asks the server, then whomever it names, and whom they name.
    pub(super) fn look(server: &str, manner: &Manner) -> Self {
        let mut members: Vec<Asked> = Vec::new();
        let mut next = vec![(server.to_owned(), None)];
        // Two may say that they are at one address: each is asked for there.
        let mut seen = BTreeSet::from([(server.to_owned(), None)]);
        while !next.is_empty() {
            for some in next.chunks(ASKED_AT_ONCE) {
                members.extend(ask_all(some, manner));
            }
            next.clear();
            let answered: BTreeSet<&str> = told(&members).map(|(_, told)| told.stats.node.as_str()).collect();
            for peer in told(&members).flat_map(|(_, told)| &told.stats.peers) {
                let is_known = peer.name.as_deref().is_some_and(|name| answered.contains(name));
                let has_room = members.len() + next.len() < MEMBERS_MAX;
                let address = peer.clients_at.as_ref().unwrap_or(&peer.address);
                let whom = (address.clone(), peer.name.clone());
                if !is_known && has_room && seen.insert(whom.clone()) {
                    next.push(whom);
                }
            }
        }
        Self { members: each_once(members), differ: Differ::No }
    }

    /// Whether members that can be compared say that they hold other data.
    pub(super) fn seems_to_differ(&self) -> bool {
        let digests = self.digests();
        // At the same time equal data has equal digests; of other times nothing is known unless they are equal.
        digests.iter().any(|one| digests.iter().any(|other| one.1 == other.1 && one.2 != other.2))
    }

    /// Whether all who answer hold the same data, as far as can be told.
    pub(super) fn agrees(&self) -> bool {
        self.digests().windows(2).all(|pair| pair[0].2 == pair[1].2)
    }

    /// Takes it for a difference of data only if no member's has changed since `before`.
    pub(super) fn differ_at_rest(&mut self, before: Option<&Self>) {
        let same = |before: &Self| {
            let (then, now) = (before.digests(), self.digests());
            then.len() == now.len() && then.iter().zip(&now).all(|(then, now)| (then.0, then.2) == (now.0, now.2))
        };
        self.differ = match (self.seems_to_differ(), before) {
            (false, _) => Differ::No,
            (true, Some(before)) if same(before) => Differ::AtRest,
            (true, _) => Differ::Changing,
        };
    }

    fn digests(&self) -> Vec<(&str, u64, &str)> {
        told(&self.members)
            .map(|(_, told)| (told.stats.node.as_str(), told.stats.digest_at, told.stats.digest.as_str()))
            .collect()
    }

    pub(super) fn is_changing(&self) -> bool {
        self.differ == Differ::Changing
    }

    /// What is wrong, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for member in &self.members {
            let label = member.label();
            match &member.told {
                Err(why) => problems.push(format!("{label} {why}")),
                Ok(told) => problems_of(&label, &told.stats, &mut problems),
            }
        }
        if self.differ == Differ::AtRest {
            problems.push("the members are at rest, and their data differs".to_owned());
        }
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        problems
    }
}

fn problems_of(label: &str, stats: &Stats, problems: &mut Vec<String>) {
    for peer in &stats.peers {
        let other = plain(peer.label().as_bytes());
        if peer.state != "up" {
            problems.push(format!("{other} is {} for {label}", plain(peer.state.as_bytes())));
        }
        if peer.lag_records > 0 && peer.lag_ms >= LAG_MS_MAX {
            let (records, ms) = (grouped(peer.lag_records), grouped(peer.lag_ms));
            problems.push(format!("{other} lacks {records} writes of {label} for {ms} ms"));
        }
    }
    if !stats.not_ready.is_empty() {
        problems.push(format!("{label} is not ready ({})", plain(stats.not_ready.join(", ").as_bytes())));
    }
    if stats.clock_ms_ahead.unsigned_abs() >= SKEW_MS_MAX {
        problems.push(format!("the clock of {label} is {} ms from the others'", stats.clock_ms_ahead));
    }
    for blocker in &stats.gc_blocked_by {
        if let Some(release) = &blocker.release {
            let [node, why, release] = [&blocker.node, &blocker.why, release].map(|text| plain(text.as_bytes()));
            problems.push(format!("deletes are not forgotten because of {node} ({why}); what ends that: {release}"));
        }
    }
    if let Some(disk) = &stats.disk {
        let faults = [
            (disk.state != "whole", format!("is {}", plain(disk.state.as_bytes()))),
            (disk.refuses, "takes no writes".to_owned()),
            (disk.withholds, "may lack what was written".to_owned()),
            (disk.save_failed, "could not take a snapshot".to_owned()),
        ];
        let faults = faults.into_iter().filter(|(is_so, _)| *is_so);
        problems.extend(faults.map(|(_, what)| format!("the disk of {label} {what}")));
    }
}

impl Told {
    /// What was told at an address, if by the member of that `name`: one that serves clients on its own machine alone
    /// may be said to be where another one is here.
    fn of(self, name: Option<&str>, address: &str) -> Result<Self, String> {
        let answers = &self.stats.node;
        match name {
            Some(name) if name != answers => {
                let answers = plain(answers.as_bytes());
                Err(format!("cannot be asked from here: at {} {answers} answers", plain(address.as_bytes())))
            }
            _ => Ok(self),
        }
    }
}

fn told(members: &[Asked]) -> impl Iterator<Item = (&Asked, &Told)> {
    members.iter().filter_map(|member| member.told.as_ref().ok().map(|told| (member, told)))
}

/// Leaves out who was asked more than once, and addresses of which nobody answers but whose member does at another.
fn each_once(members: Vec<Asked>) -> Vec<Asked> {
    let answered: BTreeSet<String> = told(&members).map(|(_, told)| told.stats.node.clone()).collect();
    let named = members.iter().filter(|member| member.name.is_some() || member.told.is_ok());
    let known: BTreeSet<String> = named.map(|member| member.address.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut first = true;
    members
        .into_iter()
        .filter(|member| match (&member.told, &member.name, std::mem::take(&mut first)) {
            (Ok(told), _, _) => seen.insert(told.stats.node.clone()),
            (Err(_), _, true) => true,
            (Err(_), Some(name), false) => !answered.contains(name) && seen.insert(name.clone()),
            (Err(_), None, false) => !known.contains(&member.address),
        })
        .collect()
}

fn ask_all(addresses: &[(String, Option<String>)], manner: &Manner) -> Vec<Asked> {
    thread::scope(|scope| {
        let asking: Vec<_> = addresses.iter().map(|(address, _)| scope.spawn(move || ask(address, manner))).collect();
        let asked = asking.into_iter().zip(addresses);
        asked
            .map(|(thread, (address, name))| {
                let told = thread.join().unwrap_or_else(|_| Err("could not be asked".to_owned()));
                let told = told.and_then(|told| told.of(name.as_deref(), address));
                Asked { address: address.clone(), name: name.clone(), told }
            })
            .collect()
    })
}

/// Asks one member, or says what it does instead of answering.
pub(crate) fn ask(address: &str, manner: &Manner) -> Result<Told, String> {
    let begin = Instant::now();
    let left = || manner.within.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
    let mut connection = Connection::connect(address, manner.tls.as_ref(), manner.within)
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Lost::Silent(manner.within).to_string(),
            _ => format!("cannot be connected to: {error}"),
        })?
        .with_bytes_max(ANSWER_BYTES_MAX);
    let failed = |lost: Lost| lost.to_string();
    if connection.greet(manner.login.as_ref(), left()).map_err(failed)? == Greeting::Locked {
        return Err("wants a password; give --user or --ask-password".to_owned());
    }
    let text = text(connection.ask(&["STATS"], left()).map_err(failed)?)?;
    let raw: serde_json::Value =
        serde_json::from_slice(&text).map_err(|_| "answers STATS, but not by JSON".to_owned())?;
    let stats = Stats::deserialize(&raw).map_err(|_| "answers STATS, but not as a node does".to_owned())?;
    // Not every user may ask it, and nothing hangs on it.
    let info = connection.ask(&["INFO", "stats"], left()).ok();
    Ok(Told { stats, raw, ops_a_second: info.as_ref().and_then(Value::bytes).and_then(ops_a_second) })
}

fn text(answer: Value) -> Result<Vec<u8>, String> {
    match answer {
        Value::Error(error) => Err(format!("answers: {}", plain(&error))),
        other => other.bytes().map(<[u8]>::to_vec).ok_or_else(|| "answers STATS, but not by text".to_owned()),
    }
}

fn ops_a_second(info: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(info);
    text.lines().find_map(|line| line.strip_prefix("instantaneous_ops_per_sec:")?.trim().parse().ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A cluster of members that say this, or do not answer.
    pub(in super::super) fn cluster(told: &[(&str, Result<&str, &str>)]) -> Cluster {
        let members = told.iter().map(|(address, said)| Asked {
            address: (*address).to_owned(),
            name: None,
            told: said.map_err(str::to_owned).map(|json| {
                let raw: serde_json::Value = serde_json::from_str(json).unwrap();
                Told { stats: Stats::deserialize(&raw).unwrap(), raw, ops_a_second: Some(1_234) }
            }),
        });
        Cluster { members: each_once(members.collect()), differ: Differ::No }
    }

    #[test]
    fn a_cluster_that_is_well_has_no_problems_and_each_fault_is_one() {
        let problems = |stats: &str| cluster(&[("a:1", Ok(stats))]).problems();
        for well in [
            r#"{"node":"a"}"#,
            r#"{"node":"a","peers":[{"name":"b","state":"up","lag_records":5,"lag_ms":999}],"clock_ms_ahead":-999}"#,
            r#"{"node":"a","gc_blocked_by":[{"node":"b","why":"catching up","release":null}]}"#,
            r#"{"node":"a","disk":{"state":"whole","damaged_places":1}}"#,
        ] {
            assert_eq!(problems(well), Vec::<String>::new(), "{well}");
        }
        for (stats, problem) in [
            (r#"{"node":"a","peers":[{"name":"b","state":"down"}]}"#, "b is down for a"),
            (r#"{"node":"a","peers":[{"address":"h:1","name":null,"state":"dialing"}]}"#, "h:1 is dialing for a"),
            (
                r#"{"node":"a","peers":[{"name":"b","state":"up","lag_records":1200,"lag_ms":1000}]}"#,
                "b lacks 1,200 writes of a for 1,000 ms",
            ),
            (r#"{"node":"a","not_ready":["joining","disk\u001b"]}"#, r"a is not ready (joining, disk\x1b)"),
            (r#"{"node":"a","clock_ms_ahead":-1000}"#, "the clock of a is -1000 ms from the others'"),
            (
                r#"{"node":"a","gc_blocked_by":[{"node":"b\u001b","why":"down","release":"FORGET b"}]}"#,
                r"deletes are not forgotten because of b\x1b (down); what ends that: FORGET b",
            ),
            (r#"{"node":"a","disk":{"state":"full"}}"#, "the disk of a is full"),
            (r#"{"node":"a","disk":{"state":"whole","refuses":true}}"#, "the disk of a takes no writes"),
        ] {
            assert_eq!(problems(stats), [problem], "{stats}");
        }
        assert_eq!(cluster(&[("a:1", Err("is gone"))]).problems(), ["a:1 is gone"]);
    }

    #[test]
    fn data_differs_only_at_one_time_and_at_rest() {
        let of = |a: &str, b: &str| {
            let [a, b] = [(a, "a"), (b, "b")].map(|(digest, node)| {
                let (digest, at) = digest.split_once('@').unwrap();
                format!(r#"{{"node":"{node}","digest":"{digest}","digest_at":{at}}}"#)
            });
            cluster(&[("a:1", Ok(&a)), ("b:1", Ok(&b))])
        };
        assert!(!of("x@1", "x@1").seems_to_differ() && !of("x@1", "y@2").seems_to_differ());
        let mut now = of("x@1", "y@1");
        assert!(now.seems_to_differ() && !now.agrees() && of("x@1", "x@2").agrees());
        now.differ_at_rest(None);
        assert!(now.is_changing() && now.problems().is_empty());
        now.differ_at_rest(Some(&of("w@0", "y@0")));
        assert!(now.is_changing());
        now.differ_at_rest(Some(&of("x@0", "y@0")));
        assert_eq!(now.problems(), ["the members are at rest, and their data differs"]);
    }

    #[test]
    fn a_member_is_shown_once() {
        let labels = |told: &[(&str, Result<&str, &str>)]| -> Vec<String> {
            cluster(told).members.iter().map(Asked::label).collect()
        };
        let (a, b) = (r#"{"node":"a"}"#, r#"{"node":"b"}"#);
        assert_eq!(labels(&[("h:1", Ok(a)), ("h:2", Ok(b)), ("h:3", Ok(a)), ("h:4", Err("no"))]), ["a", "b", "h:4"]);
    }

    #[test]
    fn operations_a_second_are_read_from_info() {
        assert_eq!(ops_a_second(b"# Stats\r\ninstantaneous_ops_per_sec:12\r\nx:1\r\n"), Some(12));
        assert_eq!(ops_a_second(b"instantaneous_ops_per_sec:many\r\n"), None);
    }
}
