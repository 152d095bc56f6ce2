//! Counting: what clients were told was added is what counters add up to.
//!
//! A part of a counter is the same wherever it is, and its writer's totals grow by what its clients were told; so is a
//! fold of what ended runs had added. In the end a sum is that of the base and of all that was added since by runs that
//! are still up; on top of it may be any part of what was added by runs whose memory was lost. Since the base means:
//! the part that it was added to began after it.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{Base, BaseValue, Count, Counter, Hlc, Node, Now, OriginId, Part, Version, WallMs};

use super::sessions::Reply;
use super::{Judge, RunId, Standing};
use crate::marks::Mark;
use crate::outcome::Oracle;
use crate::plan::{Ask, counter_text, size};

/// What is known of counters.
#[derive(Debug, Default)]
pub(super) struct Counts {
    added: Vec<Added>,
    /// By counter, origin and stamp: the part of that name.
    parts: BTreeMap<(u64, OriginId, Hlc), (Hlc, i128)>,
    /// By run and counter: the newest base that it held or holds.
    bases: BTreeMap<(RunId, u64), Reset>,
    /// By counter, era of the ledger and number in it: what ended runs had added up to there.
    folds: BTreeMap<(u64, u64, u32), i128>,
    /// By run: parts that it has folded.
    folded: BTreeMap<RunId, u64>,
    /// By run and counter: the parts that it holds, and what is folded there.
    held: BTreeMap<(RunId, u64), (Vec<Part>, i128)>,
    /// Members that are coming back, and as what they write.
    returning: BTreeMap<RunId, OriginId>,
    /// By counter: what members that came back may have added once more.
    again: BTreeMap<u64, i128>,
    /// A run began while a member was coming back: nobody can tell what that one was told.
    is_blurred: bool,
}

/// An amount of whose adding a client was told.
#[derive(Clone, Copy, Debug)]
struct Added {
    run: RunId,
    counter: u64,
    amount: i128,
    /// The beginning of the part that it was added to.
    since: Version,
    /// It ended with the base that it was added to: its run has begun anew since.
    ended: bool,
    /// The reply that told of it.
    reply: u64,
    /// A disk has it: the end of the run does not take it back.
    is_kept: bool,
    /// It was reset where it was added, which a disk may have lost again.
    is_over: bool,
}

/// A base, as far as it resets what was added before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reset {
    version: Version,
    deadline: Option<WallMs>,
}

impl Reset {
    fn of(base: &Base<'_>) -> Self {
        Self { version: base.version, deadline: base.deadline }
    }

    /// Whether what began with `since` still counts at `wall`.
    fn leaves(self, since: Version, wall: WallMs) -> bool {
        let ended = self.deadline.filter(|deadline| *deadline <= wall);
        since > self.version && ended.is_none_or(|deadline| since.hlc.ms() >= deadline.0)
    }
}

impl Judge {
    /// A run begins.
    pub(super) fn count_boot(&mut self) {
        self.counts.is_blurred |= !self.counts.returning.is_empty();
    }

    /// A member that comes back adds anew what whoever it asks does not know, though somebody else may know it: of each
    /// part no more than what it has above the one that has least of it.
    pub(super) fn look_at_return(&mut self, run: RunId, node: &Node) {
        if !node.is_returning() {
            self.counts.returning.remove(&run);
            return;
        }
        if self.counts.returning.insert(run, node.origin()) == Some(node.origin()) {
            return;
        }
        let is_up = |other: &RunId| *other != run && self.run(*other).standing != Standing::Stopped;
        let others: Vec<RunId> = (0..self.runs.len() as u64).map(RunId).filter(is_up).collect();
        for counter in 0..self.counters.stored.len() as u64 {
            // Who has just read its files has not been looked at yet.
            let read = || {
                let record = node.peek(&self.counters.stored[size(counter)]);
                Self::held_of(&record.as_ref().map(Counter::of).unwrap_or_default())
            };
            let (parts, folded) = self.counts.held.get(&(run, counter)).cloned().unwrap_or_else(read);
            let known_to = |other: &RunId, mine: &Part| {
                let theirs = self.counts.held.get(&(*other, counter));
                let theirs = theirs.and_then(|(parts, _)| parts.iter().find(|part| part.origin == mine.origin));
                theirs.filter(|part| part.since == mine.since).map_or(0, |part| part.total)
            };
            let least = |mine: &Part| others.iter().map(|other| known_to(other, mine)).min().unwrap_or(0);
            let surplus: i128 = parts.iter().map(|mine| (mine.total - least(mine)).max(0)).sum();
            let more = surplus + folded.max(0);
            *self.counts.again.entry(counter).or_insert(0) += more;
        }
    }

    /// Looks at the counters of a node after a step that gave these replies.
    pub(super) fn look_at_counts(&mut self, run: RunId, node: &Node, now: Now, since: Option<u64>, replies: &[Reply]) {
        let folded = node.parts_folded();
        let newly_folded = folded - self.counts.folded.insert(run, folded).unwrap_or(0);
        self.stats.folded += newly_folded;
        if newly_folded > 0 {
            self.marks.saw(Mark::PartsFolded);
        }
        let since = since.filter(|_| replies.is_empty());
        for counter in self.counters.changed(node, since, std::iter::empty()) {
            let record = node.peek(&self.counters.stored[size(counter)]);
            let over = node.flushed().max(self.cover(node, counter));
            let mut state = record.as_ref().map(Counter::of).unwrap_or_default();
            // The record need not say what stands over it.
            if let Some(version) = over.filter(|over| state.base.as_ref().is_none_or(|base| base.version < *over)) {
                state.base = Some(Base { version, deadline: None, value: BaseValue::Nothing });
            }
            for part in &state.parts {
                let what = (part.since, part.total);
                let first = *self.counts.parts.entry((counter, part.origin, part.hlc)).or_insert(what);
                if first != what {
                    self.fail(Oracle::Counting, || format!("run {}: c{counter}: {part:?} was {first:?}", run.0));
                }
            }
            for fold in &state.folds {
                let (era, number) = fold.name();
                let first = *self.counts.folds.entry((counter, era, number)).or_insert(fold.total);
                if first != fold.total {
                    self.fail(Oracle::Counting, || format!("run {}: c{counter}: {fold:?} was {first}", run.0));
                }
            }
            self.counts.held.insert((run, counter), Self::held_of(&state));
            self.see_counter(run, counter, &state, newly_folded > 0);
            self.look_at_ended(run, counter, &state, now.wall);
            self.look_at_replies(run, counter, state.count_at(now.wall), replies);
            if node.is_alone() {
                self.reset_alone(run, counter, state.base.as_ref(), now.wall);
            } else if let Some(base) = &state.base {
                let newest = self.counts.bases.entry((run, counter)).or_insert_with(|| Reset::of(base));
                *newest = (*newest).max(Reset::of(base));
            }
            self.note_added(run, counter, &state, now.wall, replies);
        }
    }

    /// The parts of a counter, and what is folded in it.
    fn held_of(state: &Counter<'_>) -> (Vec<Part>, i128) {
        let folded = state.folds.iter().map(|fold| fold.total).fold(0, i128::wrapping_add);
        (state.parts.clone(), folded)
    }

    /// A base that has ended is not counted, nor what was added to it.
    fn look_at_ended(&mut self, run: RunId, counter: u64, state: &Counter<'_>, wall: WallMs) {
        let has_ended = |base: &Base<'_>| base.deadline.is_some_and(|deadline| deadline <= wall);
        let Some(base) = state.base.as_ref().filter(|base| has_ended(base) && state.folds.is_empty()) else { return };
        let since = |part: &Part| Version { hlc: part.since, origin: part.origin };
        let rest = state.parts.iter().filter(|part| Reset::of(base).leaves(since(part), wall));
        let sum = rest.map(|part| part.total).reduce(i128::wrapping_add).map_or(Count::Absent, Count::Number);
        if sum != state.count_at(wall) {
            self.fail(Oracle::Counting, || format!("run {}: c{counter} is not {sum:?} at {wall}: {state:?}", run.0));
        }
    }

    /// Who is alone collects its deletes at once: nobody has seen anything. What others wrote before and show it later
    /// did not know of them, nor does it any more.
    fn reset_alone(&mut self, run: RunId, counter: u64, base: Option<&Base<'_>>, wall: WallMs) {
        let Self { counts: Counts { added, bases, .. }, runs, plan, .. } = self;
        let has_disk = plan.setting.durable > 0;
        // What earlier runs have left on its disk goes, too.
        let is_its = |of: RunId| of == run || (has_disk && runs[size(of.0)].node == runs[size(run.0)].node);
        let mut forgo = |leaves: &dyn Fn(Version) -> bool| {
            let is_over = |of: &Added| is_its(of.run) && of.counter == counter && !leaves(of.since);
            added.iter_mut().filter(|of| is_over(of)).for_each(|of| of.is_over = true);
            added.retain(|of| has_disk || !of.is_over);
        };
        match base.map(Reset::of) {
            // With one that has ended goes what was added to it.
            None => {
                bases.remove(&(run, counter)).inspect(|gone| forgo(&|since| gone.leaves(since, wall)));
            }
            Some(reset) => {
                bases.insert((run, counter), reset);
                forgo(&|since| since > reset.version);
            }
        }
    }

    /// Notes what clients were told was added to `counter`, which is now as `state` says.
    fn note_added(&mut self, run: RunId, counter: u64, state: &Counter<'_>, wall: WallMs, replies: &[Reply]) {
        let mut amounts: Vec<(u64, i128)> = Vec::new();
        let mut over: Vec<(u64, i128)> = Vec::new();
        for (reply, (ask, line)) in (self.replies..).zip(replies) {
            match *ask {
                Ask::Add { counter: of, amount } if of == counter && !line.starts_with("Error:") => {
                    self.stats.added += 1;
                    amounts.push((reply, amount.into()));
                }
                // What was added before this is gone.
                Ask::Start { counter: of, .. } | Ask::Clear { counter: of } if of == counter && line == "OK" => {
                    over.append(&mut amounts);
                }
                Ask::Flush if line == "OK" => over.append(&mut amounts),
                Ask::Drop { hash } if self.is_in(counter, hash) && line == "OK" => over.append(&mut amounts),
                _ => {}
            }
        }
        let own = self.run(run).origin;
        let since = Version { hlc: Hlc::ZERO, origin: own };
        let added = Added { run, counter, amount: 0, since, ended: false, reply: 0, is_kept: false, is_over: true };
        if self.plan.setting.durable > 0 {
            self.counts.added.extend(over.into_iter().map(|(reply, amount)| Added { reply, amount, ..added }));
        }
        if amounts.is_empty() {
            return;
        }
        let Some(part) = state.parts.iter().find(|part| part.origin == own) else {
            self.fail(Oracle::Counting, || format!("run {}: c{counter}: {amounts:?} went nowhere: {state:?}", run.0));
            return;
        };
        let since = Version { hlc: part.since, origin: own };
        if let Some(base) = state.base.as_ref().map(Reset::of) {
            let before = |of: &&mut Added| of.run == run && of.counter == counter && of.since.origin == own;
            let begun_before = self.counts.added.iter_mut().filter(before).filter(|of| of.since < since);
            for of in begun_before.filter(|of| !of.ended && !base.leaves(of.since, wall)) {
                of.ended = true;
                self.marks.saw(Mark::EndedUnderAdds);
            }
        }
        let noted = amounts.into_iter().map(|(reply, amount)| Added { reply, amount, since, is_over: false, ..added });
        self.counts.added.extend(noted);
    }

    /// What this reply says was added, a disk has.
    pub(super) fn keep_added(&mut self, reply: u64) {
        let added = self.counts.added.iter_mut().rev().find(|added| added.reply == reply);
        added.into_iter().for_each(|added| added.is_kept = true);
    }

    /// Nothing that a node's disk had counts as kept any more.
    pub(super) fn keep_none(&mut self, node: u64) {
        let runs = &self.runs;
        let its = self.counts.added.iter_mut().filter(|added| runs[size(added.run.0)].node == node);
        its.for_each(|added| added.is_kept = false);
    }

    /// The replies by which a node's disk has what was added.
    pub(super) fn kept(&self, node: u64) -> BTreeSet<u64> {
        let its = self.counts.added.iter().filter(|added| added.is_kept && self.run(added.run).node == node);
        its.map(|added| added.reply).collect()
    }

    /// Of what a node's disk had, it has no more than these.
    pub(super) fn keep_only(&mut self, node: u64, kept: &BTreeSet<u64>) {
        let runs = &self.runs;
        let its = self.counts.added.iter_mut().filter(|added| runs[size(added.run.0)].node == node);
        its.for_each(|added| added.is_kept &= kept.contains(&added.reply));
    }

    /// The last answer of a step is what the counter is after it; those before it are each what the next began with.
    fn look_at_replies(&mut self, run: RunId, counter: u64, count: Count, replies: &[Reply]) {
        let of_hash = self.plan.setting.hash_of(counter);
        let is_clear = |ask: &Ask| match *ask {
            Ask::Flush => true,
            Ask::Clear { counter: of } => of == counter,
            Ask::Drop { hash } => of_hash == Some(hash),
            _ => false,
        };
        let mut known: Option<Option<i128>> = Some(if let Count::Number(count) = count { Some(count) } else { None });
        for (ask, line) in replies.iter().rev() {
            let told: Option<i128> = line.parse().ok();
            let wrong = match *ask {
                Ask::Sum { counter: of } if of == counter => {
                    let wrong = known.is_some_and(|known| known != told);
                    known = Some(told);
                    wrong
                }
                Ask::Add { counter: of, amount } if of == counter && !line.starts_with("Error:") => {
                    let wrong = told.is_none() || known.is_some_and(|known| known != told);
                    // From nothing it comes as from 0.
                    known = told.map(|told| told - i128::from(amount)).filter(|before| *before != 0).map(Some);
                    wrong
                }
                Ask::Start { counter: of, at, ttl_ms } if of == counter && line == "OK" => {
                    let wrong = ttl_ms == 0 && known.is_some_and(|known| known != Some(at.into()));
                    known = None;
                    wrong
                }
                Ask::Clear { .. } | Ask::Flush | Ask::Drop { .. } if is_clear(ask) && line == "OK" => {
                    let wrong = known.is_some_and(|known| known.is_some());
                    known = None;
                    wrong
                }
                _ => false,
            };
            if wrong {
                self.fail(Oracle::Counting, || {
                    format!("run {}: c{counter}: {ask:?} was answered {line:?}, before it became {known:?}", run.0)
                });
            }
        }
    }

    /// What of counters two nodes' digests at `cut` compare. What nobody added to is told by its name, as any value,
    /// and counts until the cut gets to its deadline though it was freed by then.
    /// (`sim/regressions/a-counter-was-freed-that-nobody-had-added-to`)
    pub(super) fn counters_at<'a>(
        &'a self,
        node: &'a Node,
        cut: WallMs,
    ) -> impl Iterator<Item = Option<(Option<Version>, Option<WallMs>, i128, bool)>> + 'a {
        self.counters.stored.iter().map(move |name| {
            let record = node.peek(name)?;
            if !record.is_counter {
                let is_tombstone = record.value.is_none() && record.deadline.is_none();
                let is_live = !is_tombstone && record.deadline.is_none_or(|deadline| deadline > cut);
                return is_live.then_some((Some(record.version), record.deadline, 0, false));
            }
            let state = Counter::of(&record);
            let Count::Number(count) = state.count_at(cut) else { return None };
            Some((state.base_at(cut), state.deadline_at(cut), count, state.is_added_to_at(cut)))
        })
    }

    /// In the end: a counter that nodes do not agree on, or that is not what was added.
    pub(super) fn miscounted(&self, nodes: &[(RunId, &Node)], latest: WallMs) -> Option<String> {
        for (index, stored) in self.counters.stored.iter().enumerate() {
            let name = counter_text(index as u64);
            let states: Vec<_> = nodes
                .iter()
                .map(|(run, node)| (run, node.peek(stored)))
                .map(|(run, record)| (run, record.map(|record| (Counter::of(&record).count_at(latest), record))))
                .collect();
            let count = |record: &Option<(Count, _)>| record.as_ref().map_or(Count::Absent, |(count, _)| *count);
            let (first, rest) = states.split_first()?;
            if let Some(other) = rest.iter().find(|(_, other)| count(other) != count(&first.1)) {
                return Some(format!(
                    "{name}: run {} has {:?}, run {} has {:?}",
                    first.0.0, first.1, other.0.0, other.1
                ));
            }
            let state = first.1.as_ref().map(|(_, record)| Counter::of(record)).unwrap_or_default();
            if let Some(what) = self.miscount(index as u64, &state, nodes, latest) {
                return Some(format!("{name}: {what}; {state:?}"));
            }
        }
        None
    }

    /// In the end: a counter that still has what a run added whose entry of the ledger all members have. A base that
    /// may end keeps it as it is, for longer than is waited here.
    pub(super) fn unfolded(&self, nodes: &[(RunId, &Node)]) -> Option<String> {
        let is_blocked = |node: &Node| {
            let mut is_blocked = !node.is_established() || node.is_returning();
            node.blocked_by(&mut |_| is_blocked = true);
            is_blocked
        };
        for (run, node) in nodes.iter().filter(|(_, node)| !is_blocked(node)) {
            for (counter, stored) in (0..).zip(&self.counters.stored) {
                let (name, record) = (counter_text(counter), node.peek(stored));
                let record = record.filter(|record| record.deadline.is_none());
                let state = record.as_ref().map(Counter::of).unwrap_or_default();
                if let Some(part) = state.parts.iter().find(|part| node.folds(part)) {
                    return Some(format!("run {}: {name}: {part:?} is retired, and not folded: {state:?}", run.0));
                }
            }
        }
        None
    }

    fn miscount(&self, counter: u64, state: &Counter<'_>, nodes: &[(RunId, &Node)], latest: WallMs) -> Option<String> {
        let sum = match state.count_at(latest) {
            Count::Number(sum) => sum,
            Count::Absent => 0,
            Count::NoNumber => return Some("no number".to_owned()),
        };
        // A base that is not there any more was a delete or had ended, and was collected.
        let newest = nodes.iter().filter_map(|(run, _)| self.counts.bases.get(&(*run, counter))).max();
        let leaves = |since| newest.is_none_or(|newest| newest.leaves(since, latest));
        // Those that held a delete and forgot it may all have lost their memory since.
        let gone = self.counts.bases.iter().filter(|((_, of), _)| *of == counter).map(|(_, reset)| reset).max();
        let may_be_reset = |since| gone.is_some_and(|gone| !gone.leaves(since, latest));
        let begin = match state.base.filter(|base| base.deadline.is_none_or(|deadline| deadline > latest)) {
            Some(Base { value: BaseValue::Integer(integer), .. }) => i128::from(integer),
            Some(_) | None => 0,
        };
        let (mut sure, mut least, mut most) = (begin, begin, begin);
        for added in self.counts.added.iter().filter(|added| added.counter == counter) {
            let run = self.run(added.run);
            let stays = run.standing == Standing::Current || (added.is_kept && self.comes_back(run.node));
            // What a run had to write anew it wrote on top of bases that it had not been newer than.
            let anew = run.origin != added.since.origin;
            // Where it was added its base ended, as its client could see, and the part that its run began then takes
            // the place of the one before it wherever they meet: of one origin the later part stands. All have that in
            // the end while the run is there to tell. Another base may be the newest by now, on which the one before
            // would have counted; that was gone by then. A disk may have lost that base, and with it the end.
            // (`sim/regressions/what-was-added-ended-with-its-base-where-it-was-added`)
            if run.standing == Standing::Current && !anew && added.ended {
                continue;
            }
            if stays && !added.ended && leaves(added.since) && !may_be_reset(added.since) && !added.is_over {
                sure += added.amount;
                least += added.amount;
                most += added.amount;
            // And so did the next run of a node with a disk.
            } else if run.standing != Standing::Current || anew || leaves(added.since) || added.is_over || added.ended {
                least += added.amount.min(0);
                most += added.amount.max(0);
            }
        }
        // A member that comes back writes anew what whoever it asked did not know; somebody else may have known it.
        let is_exact = !self.forgotten.contains(&true);
        // Such a one is known to add no more than it lacked; of the first counter, which is never reset.
        let again = self.counts.again.get(&counter).copied().unwrap_or(0);
        let is_bounded = counter == 0 && newest.is_none() && gone.is_none() && !self.counts.is_blurred;
        let wrong = match is_exact {
            true => sum < least || sum > most,
            false => (counter.is_multiple_of(2) && sum < least) || (is_bounded && sum > most + again),
        };
        wrong.then(|| format!("it is {sum}, and {sure} was surely added since its base; {least} to {most} is possible"))
    }
}
