//! A kept story as one HTML file: the data as JSON in a page that shows it.

use serde_json::{Value, json};

use super::event::{Event, What};
use super::story::{Hold, Kept, Message, key_names};
use crate::outcome::Outcome;
use crate::plan::{Item, Plan};

/// The page, with places for its title and its data.
const TEMPLATE: &str = include_str!("page.html");

/// What a page says besides the story.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The command that replays the run.
    pub replay: &'a str,
    /// The key to show first; by default the one of the failure, or the busiest.
    pub key: Option<&'a str>,
}

/// The page of a run that was [recorded](crate::Watch::Record): the same for the same run.
#[must_use]
pub fn page(plan: &Plan, outcome: &Outcome, options: &Options<'_>) -> String {
    let data = data(plan, outcome, options).to_string().replace('<', "\\u003c");
    let title = match &outcome.verdict {
        Ok(()) => format!("Seed {}: passed", plan.seed),
        Err(failure) => format!("Seed {}: {:?} failed", plan.seed, failure.oracle),
    };
    TEMPLATE.replacen("@TITLE@", &title, 1).replacen("@DATA@", &data, 1)
}

/// The key that a failure is about, if its text names one of `keys`.
#[must_use]
pub fn failing_key(detail: &str, keys: &[String]) -> Option<String> {
    let mut words = detail.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.find(|word| keys.iter().any(|key| key == word)).map(str::to_owned)
}

fn data(plan: &Plan, outcome: &Outcome, options: &Options<'_>) -> Value {
    let none = Kept::default();
    let kept = outcome.story.as_deref().unwrap_or(&none);
    let keys = key_names(&plan.setting);
    let failure = outcome.verdict.as_ref().err();
    let failing = failure.and_then(|failure| failing_key(&failure.detail, &keys));
    let key = options.key.map(str::to_owned).or_else(|| failing.clone()).or_else(|| busiest(kept, &keys));
    let mut messages: Vec<&Message> = kept.messages.iter().chain(&kept.heartbeats).collect();
    messages.sort_by_key(|message| message.id);
    let (setting, items): (Vec<_>, Vec<_>) = {
        let text = plan.to_string();
        text.lines().map(str::to_owned).partition(|line| !line.contains('='))
    };
    json!({
        "seed": plan.seed,
        "failure": failure.map(|failure| json!({
            "oracle": format!("{:?}", failure.oracle),
            "at": failure.at_us,
            "detail": failure.detail,
            "key": failing,
        })),
        "hash": format!("{:032x}", outcome.trace_hash),
        "stats": outcome.stats.to_string(),
        "replay": options.replay,
        "setting": setting,
        "plan": items,
        "load": plan.setting.load_ms * 1_000,
        "end": end_us(kept, outcome),
        "nodes": plan.setting.nodes,
        "keys": keys,
        "key": key,
        "runs": runs(kept),
        "faults": faults(plan),
        "events": kept.events.iter().map(|(at_us, event)| event_row(*at_us, event, plan)).collect::<Vec<_>>(),
        "lives": kept.lives.iter().map(|(at_us, event)| event_row(*at_us, event, plan)).collect::<Vec<_>>(),
        "messages": messages.into_iter().map(message_row).collect::<Vec<_>>(),
        "leftOut": kept.left_out,
    })
}

fn end_us(kept: &Kept, outcome: &Outcome) -> u64 {
    let events = kept.events.back().map_or(0, |(at_us, _)| *at_us);
    let failure = outcome.verdict.as_ref().err().map_or(0, |failure| failure.at_us);
    (outcome.stats.simulated_ms * 1_000).max(events).max(failure)
}

/// The key of which the most was held.
fn busiest(kept: &Kept, keys: &[String]) -> Option<String> {
    let mut counts = vec![0_u64; keys.len()];
    for (_, event) in &kept.events {
        if let What::Holds { key, .. } = event.what {
            counts[key] += 1;
        }
    }
    let most = counts.iter().max().copied()?;
    counts.iter().position(|count| *count == most).map(|key| keys[key].clone())
}

/// Runs as `[run, node, start, stop or null, silent, superseded at or null, [[pause, thaw or null], …]]`.
fn runs(kept: &Kept) -> Vec<Value> {
    kept.lives
        .iter()
        .filter_map(|(start_us, event)| match event {
            Event { node: Some(node), what: What::Started { run } } => Some((*run, *node, *start_us)),
            _ => None,
        })
        .map(|(run, node, start_us)| {
            let (mut stop, mut superseded, mut pauses) = ((None, false), None, Vec::<(u64, Option<u64>)>::new());
            for (at_us, event) in &kept.lives {
                match event.what {
                    What::Stopped { run: other, silent } if other == run => stop = (Some(*at_us), silent),
                    What::Paused { run: other } if other == run => pauses.push((*at_us, None)),
                    What::Thawed { run: other } if other == run => {
                        if let Some(pause) = pauses.last_mut() {
                            pause.1 = Some(*at_us);
                        }
                    }
                    What::Started { run: newer } if event.node == Some(node) && newer > run && stop.0.is_none() => {
                        superseded = superseded.or(Some(*at_us));
                    }
                    _ => {}
                }
            }
            json!([run, node, start_us, stop.0, stop.1, superseded, pauses])
        })
        .collect()
}

/// Faults as `[start, end or null, [nodes], text]`. An item says what it is about in its own text, so that a new kind
/// of fault needs nothing here.
fn faults(plan: &Plan) -> Vec<Value> {
    let broken = plan.items.iter().filter(|(_, item)| !matches!(item, Item::Ask { .. }));
    broken
        .map(|(at_us, item)| {
            let text = item.to_string();
            let (nodes, ms) = about(&text, plan);
            let end_us = ms.map(|ms| (at_us + ms * 1_000).min(plan.setting.load_ms * 1_000).max(*at_us));
            json!([at_us, end_us, nodes, text])
        })
        .collect()
}

/// The nodes that an item's text names, and how long it lasts.
fn about(text: &str, plan: &Plan) -> (Vec<u64>, Option<u64>) {
    let (mut nodes, mut lasts_ms) = (Vec::new(), None);
    for (name, number) in text.split(' ').filter_map(|word| word.split_once('=')) {
        let Ok(number) = number.parse::<u64>() else { continue };
        match name {
            "ms" => lasts_ms = Some(number),
            "node" | "from" | "to" => nodes.push(number),
            "client" => nodes.push(plan.setting.home(number)),
            "side" => nodes.extend((0..plan.setting.nodes).filter(|node| (number >> node) & 1 == 1)),
            _ => {}
        }
    }
    nodes.retain(|node| *node < plan.setting.nodes);
    nodes.dedup();
    (nodes, lasts_ms)
}

/// An event as `[at, node or null, kind, text, key or null, run or null, version or null]`.
fn event_row(at_us: u64, event: &Event, plan: &Plan) -> Value {
    let (mut node, mut key, mut run, mut version) = (event.node, Value::Null, None, None);
    let kind = match &event.what {
        What::Started { run: of } | What::Stopped { run: of, .. } => {
            run = Some(*of);
            "run"
        }
        What::Paused { run: of } | What::Thawed { run: of } => {
            run = Some(*of);
            "run"
        }
        What::Turn { run: of, .. } | What::Link { run: of, .. } => {
            run = Some(*of);
            "link"
        }
        What::Holds { run: of, key: index, version: of_key, .. } => {
            (run, version) = (Some(*of), *of_key);
            key = json!(index);
            "version"
        }
        What::Command { .. } | What::Reply { .. } => "client",
        What::Item { index, text } => {
            let (nodes, _) = about(text, plan);
            node = nodes.first().copied();
            if matches!(plan.items.get(*index), Some((_, Item::Ask { .. }))) { "ask" } else { "fault" }
        }
        What::Heal => "heal",
        What::Agreement(_) => "sample",
        What::Sent { .. } | What::Arrived { .. } | What::Other(_) => "other",
    };
    let text = match &event.what {
        What::Item { text, .. } => text.clone(),
        what => what.to_string(),
    };
    json!([at_us, node, kind, text, key, run, version])
}

/// A message: `[id, from, to, sent, due or null, arrived or null, hold, refused, bytes, [frames], [keys], heartbeat]`.
fn message_row(message: &Message) -> Value {
    let Message { id, from, to, sent_us, due_us, arrived_us, held, is_refused, bytes, frames, keys, is_heartbeat } =
        message;
    let held = match held {
        None => "",
        Some(Hold::Cut) => "cut",
        Some(Hold::Stall) => "stalled",
    };
    json!([id, from, to, sent_us, due_us, arrived_us, held, is_refused, bytes, frames, keys, is_heartbeat])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_key_is_the_first_that_the_failure_names() {
        let keys = ["k0", "k1", "c0"].map(str::to_owned);
        assert_eq!(failing_key("run 2: k1 went back to k0", &keys).as_deref(), Some("k1"));
        assert_eq!(failing_key("run 2: k11 is not known", &keys), None);
        assert_eq!(failing_key("c0: 3, not 4", &keys).as_deref(), Some("c0"));
    }

    #[test]
    fn an_item_tells_whom_it_is_about() {
        let plan: Plan = "nodes 4".parse().expect("a plan");
        assert_eq!(about("partition side=5 ms=300", &plan), (vec![0, 2], Some(300)));
        assert_eq!(about("slow from=1 to=3 ms=9 factor=2", &plan), (vec![1, 3], Some(9)));
        assert_eq!(about("hangup client=6", &plan), (vec![2], None));
    }
}
