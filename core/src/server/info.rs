//! `INFO`: the node, as Redis clients ask for it.

use std::fmt::Write as _;

use super::{REDIS_VERSION, Server};
use crate::name::SPACES;
use crate::wire::Answer;

impl Server<'_, '_> {
    pub(super) fn info(&self, sections: Vec<&[u8]>, answer: &mut Answer<'_>) {
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
        answer.document(&text);
    }

    /// The sections of `INFO`, each with its lines.
    fn sections(&self) -> [(&'static str, String); 8] {
        let Self { config, replica, conns, counters, disk, .. } = self;
        let (disk_on, loading) =
            (u8::from(disk.is_some()), u8::from(disk.as_ref().is_some_and(|keeper| keeper.recovery.is_some())));
        let uptime = self.now.mono.ms_since(counters.started) / 1_000;
        let memory = replica.memory_bytes();
        let run = replica.own().to_string();
        let store = &replica.store;
        let counts = (0..SPACES).map(|space| (space, store.keys_in(space), store.expiring_in(space)));
        let keys = counts.filter(|(_, keys, _)| *keys > 0);
        let keys =
            keys.map(|(space, keys, expiring)| format!("db{space}:keys={keys},expires={expiring},avg_ttl=0\r\n"));
        let keys = keys.collect();
        let peers = self.repl.members.len();
        [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\nsimple_kv_version:{}\r\nredis_mode:standalone\r\narch_bits:64\r\n\
                     run_id:{run:0>40}\r\nnode:{}\r\nserver_time_usec:{}\r\nuptime_in_seconds:{uptime}\r\n\
                     uptime_in_days:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    config.name,
                    self.now.wall.0 * 1_000,
                    uptime / (24 * 60 * 60),
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:{}\r\n",
                    conns.len(),
                    config.limits.clients_max,
                    self.waiters.len(),
                ),
            ),
            (
                "Memory",
                format!(
                    "used_memory:{memory}\r\nused_memory_human:{:.2}M\r\nmaxmemory:{}\r\n\
                     maxmemory_policy:noeviction\r\n",
                    memory as f64 / f64::from(1 << 20),
                    config.limits.memory_bytes_max,
                ),
            ),
            ("Persistence", format!("loading:{loading}\r\naof_enabled:{disk_on}\r\n")),
            (
                "Stats",
                format!(
                    "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
                     instantaneous_ops_per_sec:{}\r\nrejected_connections:{}\r\n\
                     pubsub_channels:{}\r\npubsub_patterns:{}\r\npubsub_dropped:{}\r\n\
                     pubsub_given_up:{}\r\n",
                    conns.accepted() - counters.before.0,
                    counters.commands - counters.before.1,
                    counters.commands_a_second(),
                    counters.rejected - counters.before.2,
                    self.pubsub.counts().0,
                    self.pubsub.counts().1,
                    self.repl.unsaid(),
                    self.pubsub.given_up,
                ),
            ),
            // Every node is one, and none has replicas: see PEERS.
            ("Replication", format!("role:master\r\nconnected_slaves:0\r\nmembers:{peers}\r\n")),
            ("Cluster", "cluster_enabled:0\r\n".to_owned()),
            ("Keyspace", keys),
        ]
    }
}
