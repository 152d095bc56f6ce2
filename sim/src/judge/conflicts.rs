//! Conflicts: what runs list as lost to a concurrent write, and what `WHY` tells of a key.

use kv_core::{Conflict, Node, Version};

use super::{Judge, Run, RunId};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{hash_text, key_text, size, token_of, value};

impl Judge {
    /// Looks at what a run lists since it was last looked at.
    pub fn conflicts(&mut self, run: RunId, node: &Node) {
        let (before, mut newest) = (self.run(run).conflicts, None);
        node.conflicts(&mut |number, conflict| {
            let is_new = number > before;
            if is_new {
                newest = newest.max(Some(number));
                self.stats.conflicts += 1;
                self.marks.saw(Mark::ConflictListed);
                if let Err(what) = self.check_conflict(run, conflict) {
                    self.fail(Oracle::Conflict, || format!("run {}: {what}: {conflict:?}", run.0));
                }
            }
            is_new
        });
        let state = self.run_mut(run);
        state.conflicts = newest.unwrap_or(before);
    }

    fn check_conflict(&self, run: RunId, conflict: &Conflict<'_>) -> Result<(), String> {
        let Conflict { key, lost, won, value: bytes, value_bytes, .. } = *conflict;
        if lost >= won {
            return Err("the greater version lost".to_owned());
        }
        let is_hash = (0..self.plan.setting.hashes).any(|hash| hash_text(hash).as_bytes() == key);
        if is_hash || self.counters.stored.iter().any(|name| name == key) {
            return Ok(());
        }
        let writers = [lost, won].map(|version| self.origins.get(&version.origin).copied());
        let [Some(loser), Some(winner)] = writers else { return Err(format!("written by {writers:?}")) };
        // What a member wrote anew after it came back, it had seen; who wrote it first may still send it.
        if [loser, winner].iter().any(|writer| self.forgotten[size(self.run(*writer).node)]) {
            return Ok(());
        }
        // What its earlier runs have left on its disk is its own too, as long as nobody has seen it.
        let is_its = |writer| writer == run || self.is_with_disk(run, writer);
        if loser == winner || !(is_its(loser) || is_its(winner)) {
            return Err(format!("runs {} and {} wrote it", loser.0, winner.0));
        }
        let Some(index) = self.keys.stored.iter().position(|name| name == key) else {
            return Err("of no key of the plan".to_owned());
        };
        for (writer, version) in [(loser, lost), (winner, won)] {
            // What was overwritten in the step in which it was written, nobody saw standing.
            let right = match self.versions.get(&version) {
                Some(written) => written.key == index as u64,
                None => writer != run || self.drops.contains(&version),
            };
            if !right {
                return Err(format!("{version:?} was not written under this key"));
            }
        }
        // Greater than the winner's, the loser's writer cannot have seen it: its own clock would have been beyond it.
        if self.overwritten.get(&won) == Some(&lost) && !self.is_wide(won) {
            return Err("the winner was written over the other".to_owned());
        }
        let written = self.versions.get(&lost);
        match bytes.map(|bytes| (bytes, token_of(bytes))) {
            Some((bytes, token)) => {
                let from = token.and_then(|token| Some((token, *self.tokens.get(&token)?)));
                let right = from.is_some_and(|(token, from)| {
                    from.key == index as u64
                        && from.home == self.run(loser).node
                        && value(token, from.pad).as_bytes() == bytes
                        && written.is_none_or(|written| written.token.is_none_or(|known| known == token))
                });
                if right && value_bytes == Some(bytes.len()) { Ok(()) } else { Err("not what was written".to_owned()) }
            }
            // No plan writes a value that is too long to be kept.
            None if value_bytes.is_some() => Err("a value is left out".to_owned()),
            None => match written.and_then(|written| written.token.filter(|_| written.deadline.is_none())) {
                Some(token) => Err(format!("the value of t{token} is missing")),
                None => Ok(()),
            },
        }
    }

    /// Holds the answer to a `WHY` against what the run holds; what was wanted if it is not right. `state` is what it
    /// must say the key is; `None` where the same step wrote the key, so that its version is not known here.
    pub(super) fn check_why(&self, run: RunId, key: u64, state: Option<&str>, line: &str) -> Result<(), String> {
        let Some(state) = state else {
            let right = line.starts_with('{') || line == "Key not found";
            return if right { Ok(()) } else { Err("a line of JSON".to_owned()) };
        };
        let entry = self.run(run).entries[size(key)].filter(|entry| !self.is_wide(entry.version));
        let Some(entry) = entry else {
            return if line == "Key not found" { Ok(()) } else { Err("Key not found".to_owned()) };
        };
        let Version { hlc, origin } = entry.version;
        let head = format!("{{\"key\":\"{}\",\"state\":\"{state}\",\"value_bytes\":", key_text(key));
        let named = format!("\"origin\":\"{origin}\",\"hlc\":\"{hlc}\",");
        if !line.starts_with(&head) || !line.contains(&named) {
            return Err(format!("{head} and {named}"));
        }
        let writer = self.origins.get(&origin).map(|writer| (*writer, self.run(*writer).node));
        let name = writer.map(|(_, node)| format!("\"node\":\"n{node}\",")).unwrap_or_default();
        // Its own name it knows; another's it may not have heard of, and never mistakes.
        let unheard = writer.is_none_or(|(writer, _)| writer != run) && line.contains("\"node\":null,");
        if !unheard && !line.contains(&name) {
            return Err(name);
        }
        let held_by = line.split_once("\"held_by\":[").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list);
        for node in 0..self.plan.setting.nodes {
            let is_said = held_by.is_some_and(|list| list.contains(&format!("\"n{node}\"")));
            let holds = |held: &Run| {
                held.node == node && held.entries[size(key)].is_some_and(|held| held.version >= entry.version)
            };
            // Who has forgotten a delete has seen it; so did a memory that lost it, and who was swept by that.
            let may_be_gone = self.is_forgotten(key, Some(entry.version)) || self.is_rotten(key);
            if is_said && !may_be_gone && !self.runs.iter().any(holds) {
                return Err(format!("n{node} holds nothing of it"));
            }
        }
        Ok(())
    }
}
