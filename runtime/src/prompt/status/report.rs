//! What was seen of a cluster, as tables for people or JSON for programs.

use indicatif::HumanBytes;
use serde_json::json;

use super::super::grouped;
use super::super::paint::Paint;
use super::look::{Asked, Cluster, Disk, Peer, Told};
use crate::client::{json_line, plain};

/// Of more links than these only those are shown that are not as they should be.
const LINKS_SHOWN_MAX: usize = 20;
/// From here on a clock is worth a look.
const SKEW_SHOWN_MS: u64 = 250;

/// A cell: its text, and how it is painted.
type Cell = (String, fn(Paint, &str) -> String);

/// One JSON object, on a line.
pub(super) fn json(cluster: &Cluster) -> String {
    let members: Vec<_> = cluster.members.iter().map(member_json).collect();
    let problems = cluster.problems();
    json_line(&json!({ "well": problems.is_empty(), "problems": problems, "members": members }))
}

fn member_json(member: &Asked) -> serde_json::Value {
    match &member.told {
        Ok(told) => json!({
            "address": member.address, "answers": true, "error": null,
            "ops_per_second": told.ops_a_second, "stats": told.raw,
        }),
        Err(why) => {
            json!({ "address": member.address, "answers": false, "error": why, "ops_per_second": null, "stats": null })
        }
    }
}

/// Tables, and a last line that says whether all is well.
pub(super) fn text(cluster: &Cluster, paint: Paint) -> String {
    let told: Vec<(&Asked, &Told)> =
        cluster.members.iter().filter_map(|member| member.told.as_ref().ok().map(|told| (member, told))).collect();
    let mut text = table(&MEMBER_HEADINGS, &cluster.members.iter().map(member_cells).collect::<Vec<_>>(), paint);
    let links: Vec<(String, &Peer)> =
        told.iter().flat_map(|(member, told)| told.stats.peers.iter().map(|peer| (member.label(), peer))).collect();
    let shown: Vec<_> = links.iter().filter(|(_, peer)| links.len() <= LINKS_SHOWN_MAX || !is_fine(peer)).collect();
    if !shown.is_empty() {
        let rows: Vec<_> = shown.iter().map(|(member, peer)| link_cells(member, peer)).collect();
        text += &format!("\n{}", table(&LINK_HEADINGS, &rows, paint));
    }
    if shown.len() < links.len() {
        text += &format!("{} other links are up, and nobody lacks anything over them.\n", links.len() - shown.len());
    }
    let mut blockers: Vec<String> = told
        .iter()
        .flat_map(|(_, told)| &told.stats.gc_blocked_by)
        .map(|blocker| format!("{} ({})", plain(blocker.node.as_bytes()), plain(blocker.why.as_bytes())))
        .collect();
    blockers.sort();
    blockers.dedup();
    if !blockers.is_empty() {
        text += &format!("\nDeletes are kept because of {}.\n", blockers.join(", "));
    }
    let problems = cluster.problems();
    let (up, all) = (told.len(), cluster.members.len());
    text.push('\n');
    match &problems[..] {
        [] if cluster.is_changing() => {
            text += &paint.good(&format!("All {all} members are up; writes go on, so their data was not compared."));
        }
        [] if all == 1 => text += &paint.good("The one member is up."),
        [] if cluster.agrees() => text += &paint.good(&format!("All {all} members are up and hold the same data.")),
        [] => text += &paint.good(&format!("All {all} members are up.")),
        _ => {
            let wrong = format!("Something is wrong ({up} of {all} members answer): {}.", problems.join("; "));
            text += &paint.bad(&wrong);
        }
    }
    text.push('\n');
    text
}

const MEMBER_HEADINGS: [&str; 11] =
    ["NODE", "STATE", "KEYS", "TOMBSTONES", "MEMORY", "OPS/S", "CLIENTS", "CONFLICTS", "CLOCK", "DISK", "UP FOR"];

fn member_cells(member: &Asked) -> Vec<Cell> {
    let label = (member.label(), Paint::strong as fn(Paint, &str) -> String);
    let Ok(Told { stats, ops_a_second, .. }) = &member.told else {
        let mut cells = vec![label, ("no answer".to_owned(), Paint::bad as fn(Paint, &str) -> String)];
        cells.resize_with(MEMBER_HEADINGS.len(), || ("-".to_owned(), Paint::faint as fn(Paint, &str) -> String));
        return cells;
    };
    vec![
        label,
        ("up".to_owned(), Paint::good),
        as_it_is(grouped(stats.keys)),
        as_it_is(grouped(stats.tombstones)),
        as_it_is(HumanBytes(stats.memory_bytes).to_string()),
        as_it_is(ops_a_second.map_or("-".to_owned(), grouped)),
        as_it_is(grouped(stats.connections)),
        as_it_is(grouped(stats.conflicts)),
        clock(stats.clock_ms_ahead),
        stats.disk.as_ref().map_or(("none".to_owned(), Paint::faint), disk),
        as_it_is(duration(stats.uptime_ms)),
    ]
}

const LINK_HEADINGS: [&str; 6] = ["NODE", "HEARS", "STATE", "WHICH LACKS", "FOR", "ITS CLOCK"];

fn link_cells(member: &str, peer: &Peer) -> Vec<Cell> {
    let lacks: fn(String) -> Cell = if peer.lag_records == 0 { as_it_is } else { warned };
    vec![
        as_it_is(member.to_owned()),
        as_it_is(plain(peer.label().as_bytes())),
        (plain(peer.state.as_bytes()), if peer.state == "up" { Paint::good } else { Paint::bad }),
        lacks(format!("{} writes", grouped(peer.lag_records))),
        lacks(format!("{} ms", grouped(peer.lag_ms))),
        peer.clock_ms_ahead.map_or_else(|| as_it_is("-".to_owned()), clock),
    ]
}

fn is_fine(peer: &Peer) -> bool {
    peer.state == "up" && peer.lag_records == 0
}

fn as_it_is(text: String) -> Cell {
    (text, |_, text| text.to_owned())
}

fn warned(text: String) -> Cell {
    (text, Paint::warn)
}

fn clock(ms: i64) -> Cell {
    let text = if ms == 0 { "0 ms".to_owned() } else { format!("{ms:+} ms") };
    if ms.unsigned_abs() < SKEW_SHOWN_MS { as_it_is(text) } else { warned(text) }
}

fn disk(disk: &Disk) -> Cell {
    let is_well = disk.state == "whole" && !disk.refuses && !disk.withholds && !disk.save_failed;
    let mut text = plain(disk.state.as_bytes());
    if disk.unsynced_bytes > 0 {
        text += &format!(", {} unsynced", HumanBytes(disk.unsynced_bytes));
    }
    let style = match (is_well, disk.damaged_places) {
        (true, 0) => Paint::good,
        (true, _) => {
            text += ", was damaged";
            Paint::warn
        }
        (false, _) => Paint::bad,
    };
    (text, style)
}

/// A time in its two largest units.
fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Columns side by side. All text is printable ASCII, so that a character is a column.
fn table(headings: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| rows.iter().map(|row| row[column].0.len()).fold(heading.len(), usize::max))
        .collect();
    let mut text = String::new();
    let mut line = |cells: Vec<(&str, String)>| {
        let last = cells.len() - 1;
        for (column, (bare, painted)) in cells.into_iter().enumerate() {
            text.push_str(&painted);
            if column < last {
                text.push_str(&" ".repeat(widths[column] - bare.len() + 2));
            }
        }
        text.push('\n');
    };
    line(headings.iter().map(|heading| (*heading, paint.faint(heading))).collect());
    for row in rows {
        line(row.iter().map(|(bare, style)| (bare.as_str(), style(paint, bare))).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::cluster;
    use super::*;

    const PLAIN: Paint = Paint { is_on: false };

    #[test]
    fn tables_tell_who_is_up_and_the_last_line_what_is_wrong() {
        let a = r#"{"node":"a","keys":1200,"tombstones":3,"memory_bytes":1048576,"conflicts":2,"clock_ms_ahead":-7,
            "connections":4,"uptime_ms":3723000,"disk":{"state":"whole"},
            "peers":[{"name":"b","state":"up","lag_records":0,"lag_ms":0,"clock_ms_ahead":300},
                     {"name":"c\u001b[2J","state":"down","lag_records":9,"lag_ms":5000}],
            "gc_blocked_by":[{"node":"c","why":"down","release":"FORGET c"}]}"#;
        let seen = cluster(&[("h:1", Ok(a)), ("h:2", Ok(r#"{"node":"b"}"#)), ("h:3", Err("is gone"))]);
        let expected = "\
NODE  STATE      KEYS   TOMBSTONES  MEMORY    OPS/S  CLIENTS  CONFLICTS  CLOCK  DISK   UP FOR
a     up         1,200  3           1.00 MiB  1,234  4        2          -7 ms  whole  1 h 2 min
b     up         0      0           0 B       1,234  0        0          0 ms   none   0 s
h:3   no answer  -      -           -         -      -        -          -      -      -

NODE  HEARS     STATE  WHICH LACKS  FOR       ITS CLOCK
a     b         up     0 writes     0 ms      +300 ms
a     c\\x1b[2J  down   9 writes     5,000 ms  -

Deletes are kept because of c (down).

Something is wrong (2 of 3 members answer): c\\x1b[2J is down for a; c\\x1b[2J lacks 9 writes of a for 5,000 ms; \
deletes are not forgotten because of c (down); what ends that: FORGET c; h:3 is gone.
";
        assert_eq!(text(&seen, PLAIN), expected);
        let painted = text(&seen, Paint { is_on: true });
        assert!(painted.contains("\x1b[31mno answer\x1b[0m") && !painted.contains("\x1b[2J"), "{painted:?}");
    }

    #[test]
    fn a_cluster_that_is_well_says_so() {
        let seen = cluster(&[("h:1", Ok(r#"{"node":"a"}"#)), ("h:2", Ok(r#"{"node":"b"}"#))]);
        assert!(text(&seen, PLAIN).ends_with("\n\nAll 2 members are up and hold the same data.\n"));
        let told: serde_json::Value = serde_json::from_str(&json(&seen)).unwrap();
        assert_eq!((&told["well"], &told["members"][1]["stats"]["node"]), (&true.into(), &"b".into()));
    }

    #[test]
    fn of_many_links_only_those_are_shown_that_are_not_as_they_should_be() {
        let peers: Vec<String> = (0..21).map(|at| format!(r#"{{"name":"n{at}","state":"up"}}"#)).collect();
        let well = format!(r#"{{"node":"a","peers":[{}]}}"#, peers.join(","));
        let shown = text(&cluster(&[("h:1", Ok(&well))]), PLAIN);
        assert!(shown.contains("21 other links are up") && !shown.contains("n20"), "{shown}");
        let shown = text(&cluster(&[("h:1", Ok(&well.replacen("\"up\"", "\"down\"", 1)))]), PLAIN);
        assert!(shown.contains("20 other links") && shown.contains("n0     down"), "{shown}");
    }

    #[test]
    fn times_have_units() {
        for (ms, text) in [(999, "0 s"), (61_000, "1 min 1 s"), (90_000_000, "1 d 1 h"), (7_200_000, "2 h 0 min")] {
            assert_eq!(duration(ms), text);
        }
    }
}
