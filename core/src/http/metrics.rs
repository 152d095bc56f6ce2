//! `/metrics`: what a node counts, in the text format of Prometheus.
//!
//! Each request gathers the figures as they are; nothing is kept for it in between. No label has more values than there
//! are members and addresses in the configuration: never keys, never clients.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Desk;
use super::response::Response;
use crate::gauges;
use crate::readiness::NotReady;
use crate::server::Server;
use crate::stats;
use crate::watchers::WATCHERS_MAX;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const PREFIX: &str = "simplekv";

/// The value of a label, and the figure.
type Row = (String, f64);

/// A metric: what it is called, what it means, and its figures.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    figures: Figures,
}

#[derive(Debug)]
enum Figures {
    One(f64),
    /// Told apart by a label.
    By(&'static str, Vec<Row>),
}

#[derive(Debug, Default)]
struct Metrics(Vec<Metric>);

impl Metrics {
    fn gauge(&mut self, name: &'static str, help: &'static str, figure: u64) {
        self.one(MetricType::Gauge, name, help, figure as f64);
    }

    /// The name ends with `_total` in the text.
    fn counter(&mut self, name: &'static str, help: &'static str, figure: u64) {
        self.one(MetricType::Counter, name, help, figure as f64);
    }

    fn one(&mut self, kind: MetricType, name: &'static str, help: &'static str, figure: f64) {
        self.0.push(Metric { name, help, kind, figures: Figures::One(figure) });
    }

    fn by(&mut self, label: &'static str, name: &'static str, help: &'static str, rows: impl Iterator<Item = Row>) {
        let figures = Figures::By(label, rows.collect());
        self.0.push(Metric { name, help, kind: MetricType::Gauge, figures });
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { name, help, kind, figures } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            match figures {
                Figures::One(figure) => encode(*kind, *figure, metric)?,
                Figures::By(label, rows) => rows.iter().try_for_each(|(value, figure)| {
                    encode(*kind, *figure, metric.encode_family(&[(*label, value.as_str())])?)
                })?,
            }
        }
        Ok(())
    }
}

fn encode(kind: MetricType, figure: f64, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match kind {
        MetricType::Counter => ConstCounter::new(figure).encode(encoder),
        _ => ConstGauge::new(figure).encode(encoder),
    }
}

/// What a scraper asks every some seconds.
pub(super) fn metrics(desk: &Desk<'_, '_, '_>, response: &mut Response<'_>) {
    let mut metrics = Metrics::default();
    ready(desk.server, &mut metrics);
    node(desk.server, &mut metrics);
    peers(desk.server, &mut metrics);
    disk(desk.server, &mut metrics);
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(metrics));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    response.send(200, &[("Cache-Control", "no-store")], TEXT, text.as_bytes());
}

fn ready(server: &Server<'_, '_>, metrics: &mut Metrics) {
    let reasons = server.overview().reasons();
    metrics.gauge("ready", "Whether clients are to be sent here", u64::from(reasons.is_empty()));
    let holds = |why: NotReady| f64::from(u8::from(reasons.iter().any(|reason| reason.why == why)));
    let rows = NotReady::ALL.into_iter().map(|why| (why.word().to_owned(), holds(why)));
    metrics.by("reason", "not_ready", "Whether that is why they are not", rows);
}

fn node(server: &Server<'_, '_>, metrics: &mut Metrics) {
    let Server { now, config, replica, repl, conns, counters, pubsub, waiters, .. } = server;
    let store = &replica.store;
    let version = std::iter::once((env!("CARGO_PKG_VERSION").to_owned(), 1.0));
    metrics.by("version", "build_info", "The build; always 1", version);
    metrics.gauge("uptime_seconds", "Time since the process began", now.mono.ms_since(counters.started) / 1_000);
    metrics.gauge("loading", "Whether data is still read from the disk", u64::from(server.loading.is_some()));
    metrics.gauge("keys", "Keys that live", store.keys());
    metrics.gauge("tombstones", "Deletes that are remembered until every member has them", store.tombstones());
    let oldest = repl.oldest_tombstone().filter(|_| store.tombstones() > 0);
    let oldest_ms = oldest.map_or(0, |hlc| now.wall.0.saturating_sub(hlc.ms()));
    let help = "Age of the oldest delete that is remembered";
    metrics.one(MetricType::Gauge, "oldest_tombstone_seconds", help, seconds(oldest_ms));
    metrics.gauge("expired_entries", "Expired values that are remembered until every member has them", store.husks());
    metrics.counter("collected", "Deletes and expired values that were forgotten", repl.collected());
    metrics.counter("conflicts", "Writes that lost to one that had not seen them", replica.ledger.found());
    metrics.counter("commands", "Commands that were run", counters.commands);
    metrics.gauge("clients", "Connections of clients", conns.len() as u64);
    metrics.counter("clients_accepted", "Connections of clients there ever were", conns.accepted());
    metrics.counter("clients_rejected", "Connections for which there was no room", counters.rejected);
    metrics.gauge("clients_waiting", "Clients that wait for other nodes", waiters.len() as u64);
    metrics.gauge("pubsub_channels", "Channels that somebody has subscribed to", pubsub.counts().0 as u64);
    metrics.gauge("pubsub_patterns", "Patterns that somebody has subscribed to", pubsub.counts().1 as u64);
    metrics.gauge("watchers", "Clients that watch keys", pubsub.watchers.len() as u64);
    metrics.counter("watch_resets", "How often one of them was told to read anew", pubsub.watchers.resets);
    metrics.counter("pubsub_dropped", "Messages that a peer was not sent, as it was behind", repl.unsaid());
    let classes = [
        ("store", store.memory_bytes()),
        ("ring", replica.tail.memory_bytes() as u64),
        ("conflicts", replica.ledger.bytes() as u64),
        ("collected", replica.collected.memory_bytes() as u64),
        ("watch", replica.feed.bytes() as u64),
    ];
    let rows = classes.map(|(class, bytes)| (class.to_owned(), bytes as f64));
    metrics.by("class", "memory_bytes", "Memory, by what it holds", rows.into_iter());
    let below = gauges::of(config, replica, repl).named();
    // Those of connections are not below them.
    let clients = ("clients", (conns.len(), config.limits.clients_max));
    let watchers = ("watchers", (pubsub.watchers.len(), WATCHERS_MAX));
    let memory = ("memory_bytes", (replica.memory_bytes() as usize, config.limits.memory_bytes_max as usize));
    let all = below.into_iter().chain([clients, watchers, memory]);
    let sizes: Vec<_> = all.filter(|(_, size)| size.1 > 0).collect();
    let rows = |figure: fn((usize, usize)) -> usize| {
        sizes.iter().map(move |(name, size)| ((*name).to_owned(), figure(*size) as f64))
    };
    metrics.by("of", "bounded", "How much there is of what is bounded", rows(|size| size.0));
    metrics.by("of", "bound", "How much there may be", rows(|size| size.1));
    let scrubbed = repl.scrub.done();
    metrics.counter("scrub_compared", "Digests that were compared with peers", scrubbed.compared);
    metrics.counter("scrub_found", "Entries that differed though both had heard of all", scrubbed.found);
    metrics.counter("scrub_repaired", "Entries that were put back", scrubbed.repaired);
    metrics.counter("scrub_unrepairable", "Entries of which nobody could tell what is right", scrubbed.unrepairable);
    let skew = repl.clock_ms_ahead as f64 / 1_000.0;
    metrics.one(MetricType::Gauge, "clock_ahead_seconds", "How far this clock is ahead of the members' median", skew);
}

fn peers(server: &Server<'_, '_>, metrics: &mut Metrics) {
    let Server { now, config, replica, repl, .. } = server;
    let rows = stats::rows(*now, config, replica, repl);
    let mut by_peer = |name, help, figure: &dyn Fn(&stats::PeerRow<'_>) -> Option<f64>| {
        let of = |row| Some((stats::PeerRow::label(row), figure(row)?));
        metrics.by("peer", name, help, rows.iter().filter_map(of));
    };
    by_peer("peer_up", "Whether what the peer writes comes here", &|row| Some(f64::from(u8::from(row.state == "up"))));
    by_peer("replication_lag_ops", "Writes of this node that the peer has not", &|row| Some(row.lag_records as f64));
    by_peer("replication_lag_seconds", "For how long it has not", &|row| Some(seconds(row.lag_ms)));
    by_peer("clock_skew_seconds", "How far the peer's clock is ahead", &|row| {
        row.clock_ms_ahead.map(|ms| ms as f64 / 1_000.0)
    });
    let blockers = repl.blockers(config, replica).filter(|_| replica.store.graves() > 0);
    let rows = blockers.map(|(name, _)| (name.to_owned(), 1.0));
    metrics.by("peer", "gc_blocked_by", "Members for whom deletes are remembered; always 1", rows);
}

fn disk(server: &Server<'_, '_>, metrics: &mut Metrics) {
    let (Some(log), Some(keeper)) = (&server.replica.log, &server.disk) else { return };
    let (appended, synced) = log.positions();
    let state = std::iter::once((log.health().name().to_owned(), 1.0));
    metrics.by("state", "disk_state", "How the disk is; always 1", state);
    metrics.gauge("log_bytes", "Log that a start would read behind the snapshot", log.since_snapshot);
    metrics.gauge("unsynced_bytes", "Log that the machine's power would take with it", appended - synced);
    metrics.gauge("disk_queue_bytes", "What waits to be written", log.queue().0);
    let snapshot_bytes = keeper.saver.whole.map_or(0, |(_, bytes)| bytes);
    metrics.gauge("snapshot_bytes", "Length of the newest whole snapshot", snapshot_bytes);
    metrics.counter("snapshots", "Snapshots that were written", keeper.saver.saved);
    metrics.gauge("damaged_places", "Places of the data directory that could not be read", keeper.damage.places);
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
