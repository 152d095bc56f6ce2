//! The texts of `WHY` and `CONFLICTS`.

use crate::command::{Command, Reply};
use crate::conflicts::Conflict;
use crate::counter::Counter;
use crate::json::Json;
use crate::name;
use crate::repl::{Replication, Writers};
use crate::replica::{Holds, Replica};
use crate::time::{Now, WallMs};
use crate::version::Version;
use crate::wire::Answer;

/// Appends the answer to a `WHY` or a `CONFLICTS`, one line; to another command nothing.
pub(crate) fn say(now: Now, command: &Command<'_>, replica: &Replica, repl: &Replication, answer: &mut Answer<'_>) {
    let mut text = String::new();
    let mut json = Json::new(&mut text);
    match *command {
        Command::Why { key } if replica.elements(now, key).is_some() => {
            write_why_elements(now, key, replica, &mut json);
        }
        Command::Why { key } if replica.entry(key).is_none() => return answer.say(&Reply::NotFound),
        Command::Why { key } => write_why(now, key, replica, repl, &mut json),
        Command::Conflicts { count } => {
            json.open('[');
            let conflicts = replica.ledger.iter().filter_map(|(_, conflict)| {
                let key = replica.key_of(conflict.key)?;
                Some(Conflict { key, ..conflict })
            });
            for conflict in conflicts.take(count) {
                json.item();
                write_conflict(now, &conflict, &repl.writers, &mut json);
            }
            json.close(']');
        }
        _ => return,
    }
    text.push('\n');
    answer.text(|out| out.extend_from_slice(text.as_bytes()));
}

/// Of a hash or a set each element has a version of its own.
fn write_why_elements(now: Now, key: &[u8], replica: &Replica, json: &mut Json<'_>) {
    let Some(elements) = replica.elements(now, key) else { return };
    json.open('{');
    json.bytes("key", key);
    json.string("state", Holds::of(&elements).name());
    json.number("fields", elements.fields);
    json.number("members", elements.members);
    json.string("newest", &WallMs(elements.newest.ms()).iso_8601());
    json.close('}');
}

fn write_why(now: Now, key: &[u8], replica: &Replica, repl: &Replication, json: &mut Json<'_>) {
    let Some(record) = replica.entry(key) else { return };
    let live = replica.get(now, key);
    let state = match live {
        Some(_) if record.is_counter => "counter",
        Some(_) => "value",
        // A value that was freed keeps its deadline; a delete has none.
        None if record.deadline.is_some() => "expired",
        None => "deleted",
    };
    json.open('{');
    json.bytes("key", key);
    json.string("state", state);
    json.number_or_null("value_bytes", live.map(|live| live.value.bytes() as u64));
    write_version(record.version, &repl.writers, json);
    json.number_or_null("ttl_ms", ttl_ms(now, record.deadline));
    let members = || repl.members.iter().map(|(name, _)| name);
    let holds = |name: &&str| {
        let holds = |version| repl.holds(name, version, &replica.origins);
        if !record.is_counter {
            return holds(record.version);
        }
        let counter = Counter::of(&record);
        counter.versions().all(holds) && counter.folds.iter().all(|fold| holds(fold.newest))
    };
    json.strings("held_by", members().filter(holds));
    json.strings("not_yet", members().filter(|name| !holds(name)));
    json.close('}');
}

fn write_conflict(now: Now, conflict: &Conflict<'_>, writers: &Writers, json: &mut Json<'_>) {
    let Conflict { key, lost, value, value_bytes, deadline, won, won_bytes } = *conflict;
    json.open('{');
    json.bytes("key", &name::shown(key));
    json.key("lost");
    json.open('{');
    // A value does not outlive its deadline here either.
    match value.filter(|_| deadline.is_none_or(|deadline| deadline > now.wall)) {
        Some(value) => json.bytes("value", value),
        None => json.literal("value", "null"),
    }
    json.number_or_null("value_bytes", value_bytes.map(|bytes| bytes as u64));
    write_version(lost, writers, json);
    json.number_or_null("ttl_ms", ttl_ms(now, deadline));
    json.close('}');
    json.key("won");
    json.open('{');
    json.number_or_null("value_bytes", won_bytes.map(|bytes| bytes as u64));
    write_version(won, writers, json);
    json.close('}');
    json.close('}');
}

fn write_version(version: Version, writers: &Writers, json: &mut Json<'_>) {
    let Version { hlc, origin } = version;
    json.string_or_null("node", writers.name(origin));
    json.string("origin", &origin.to_string());
    json.string("hlc", &hlc.to_string());
    json.string("time", &WallMs(hlc.ms()).iso_8601());
}

fn ttl_ms(now: Now, deadline: Option<WallMs>) -> Option<u64> {
    deadline.map(|deadline| deadline.0.saturating_sub(now.wall.0))
}
