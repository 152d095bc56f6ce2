//! Frames of peers in words, for who reads traces.

use std::fmt::Write as _;

use crate::config::Protocol;
use crate::wire::hello::Reason;
use crate::wire::peer::{ClaimsView, Frame, parse};
use crate::wire::scrub::{About, Ask, Scrub};

/// What a frame of a peer says, in a few words, the kind first: of the body that [`next_frame`](crate::next_frame)
/// gave. `None` if it is a record, for [`decode`](crate::decode), or no frame.
#[must_use]
pub fn tell_frame(body: &[u8]) -> Option<String> {
    Some(match parse(body)? {
        Frame::Greeting(greeting) => format!("greeting of {}, run {}", greeting.name, greeting.run),
        Frame::Foreign(Protocol { oldest, newest }) => {
            format!("greeting of a speaker of versions {oldest} to {newest}")
        }
        Frame::Proof(proof) => format!("proof{}", if proof.welcomes { "" } else { ", not welcome" }),
        Frame::Refused(refusal) => match refusal.reason {
            Reason::Forgotten(decision) => {
                format!("refusal by {}: forgotten at {}", refusal.name, decision.version.hlc)
            }
            Reason::Fenced => format!("refusal by {}: fenced", refusal.name),
            Reason::Other => format!("refusal by {}: {}", refusal.name, refusal.text),
        },
        Frame::Status(status) => {
            let mut text = format!("status {:08x}, frontier", status.root.sum >> 32);
            tell_claims(&status.frontier, &mut text);
            let flags = [
                (status.leaves, "leaves"),
                (status.knows_leaving, "knows of the leaving"),
                (!status.established, "not established"),
                (!status.whole, "not whole"),
                (!status.drained, "not drained"),
            ];
            for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
                text.push_str(", ");
                text.push_str(flag);
            }
            text
        }
        Frame::Durable(view) => {
            let mut text = "durable".to_owned();
            tell_claims(&view.frontier, &mut text);
            text
        }
        Frame::Alive(_) => "alive".to_owned(),
        Frame::Pull(pull) => {
            let mut text = format!("pull {}{}, known", pull.id, if pull.restart { " from there" } else { "" });
            tell_claims(&pull.known, &mut text);
            text
        }
        Frame::PullBegin { id } => format!("pull-begin {id}"),
        Frame::SweepAsk(ask) => format!("sweep-ask {}{}", ask.id, if ask.resume.is_some() { " resumed" } else { "" }),
        Frame::SweepRetired { id, entries } => format!("sweep-retired {id}, {} origins", entries.iter().count()),
        Frame::SweepBegin { id, reconciles, .. } => {
            format!("sweep-begin {id}{}", if reconciles == 0 { "" } else { " reconciling" })
        }
        Frame::SweepHeld { id, slots, names } => {
            format!("sweep-held {id}, slots {} to {}, {} keys", slots.0, slots.1, names.len())
        }
        Frame::SweepStep { id, place } => format!("sweep-step {id}, slot {}", place.slot),
        Frame::SweepEnd { id, clock, .. } => format!("sweep-end {id} at {clock}"),
        Frame::Members(members) => format!("members, {}", members.iter().count()),
        Frame::Roster(roster) => {
            let seats =
                roster.iter().map(|seat| format!("{}{}", if seat.gone.is_some() { "-" } else { "" }, seat.name));
            format!("roster {}", seats.collect::<Vec<_>>().join(" "))
        }
        Frame::StatusAsk => "status-ask".to_owned(),
        Frame::Writers(writers) => format!("writers, {}", writers.iter().count()),
        Frame::Scrub(scrub) => tell_scrub(&scrub),
        Frame::RetiredAsk(_) => "retired-ask".to_owned(),
        Frame::Said(said) => format!("said on {}, {} bytes", said.channel.escape_ascii(), said.message.len()),
        Frame::Retired(entries) => format!("retired, {} origins", entries.iter().count()),
    })
}

fn tell_scrub(scrub: &Scrub<'_>) -> String {
    match scrub {
        Scrub::Ask(Ask { id, about, .. }) => {
            let about = match about {
                About::Groups => "groups".to_owned(),
                About::Slots { group } => format!("group {group}"),
                About::List { slot, .. } => format!("list of slot {slot}"),
                About::Records { slot, names } => format!("{} records of slot {slot}", names.len()),
                About::Keys { slot, names } => format!("{} keys of slot {slot}", names.len()),
            };
            format!("scrub-ask {id}, {about}")
        }
        Scrub::Sums { id, .. } => format!("scrub-sums {id}"),
        Scrub::List { id, list, .. } => format!("scrub-list {id}, {} entries", list.iter().count()),
        Scrub::Record { id, .. } => format!("scrub-record {id}"),
        Scrub::Keys { id, keys } => format!("scrub-keys {id}, {}", keys.iter().count()),
        Scrub::End { id } => format!("scrub-end {id}"),
    }
}

/// Adds how many origins are claimed, and the newest reading.
fn tell_claims(claims: &ClaimsView<'_>, text: &mut String) {
    match claims.iter().map(|(_, hlc)| hlc).max() {
        Some(newest) => _ = write!(text, " of {} up to {newest}", claims.iter().count()),
        None => text.push_str(" empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::emit_pull_begin;

    #[test]
    fn a_frame_is_told_by_its_kind_first() {
        let mut bytes = Vec::new();
        emit_pull_begin(7, &mut bytes);
        let body = crate::next_frame(&bytes, 100).expect("a frame").expect("a whole one");
        assert_eq!(tell_frame(body).as_deref(), Some("pull-begin 7"));
        assert_eq!(tell_frame(&body[..1]), None);
        assert_eq!(tell_frame(b"\x80"), None);
    }
}
