//! What is tried to make a plan smaller. Each pass only ever goes one way, so that all of them together come to an end.

use std::collections::BTreeMap;

use super::Search;
use super::parts::{self, Part, parts};
use crate::plan::{Item, Plan, Setting, size};

/// Most items of a plan whose times are looked at one by one.
const ITEMS_TIMED_MAX: usize = 80;

/// Times are rounded to these, the coarsest that goes.
const GRAINS_US: [u64; 4] = [1_000_000, 100_000, 10_000, 1_000];

/// Values to try in a setting, the best first.
const CALM: [(&str, &[u64]); 16] = [
    ("linger", &[0]),
    ("chunking", &[0]),
    ("skew_ms", &[0]),
    ("topology", &[0]),
    ("bandwidth_bytes_per_s", &[64 << 20]),
    ("window_bytes", &[64 << 10]),
    ("output_bytes_max", &[64 << 10]),
    ("ring_bytes", &[64 << 10]),
    ("latency_us_mean", &[0, 100]),
    ("latency_us_min", &[200]),
    ("durable", &[0]),
    ("load_us", &[0]),
    ("sync_us_mean", &[500]),
    ("segment_bytes", &[1 << 20]),
    ("queue_bytes_max", &[256 << 20]),
    ("snapshot_ratio_percent", &[1_000_000, 100]),
];

impl Search<'_, '_> {
    /// What comes after the failure is not its cause.
    pub(super) fn drop_the_future(&mut self) {
        if let Some(end_us) = self.defect.at_us {
            self.with(|plan| plan.items.retain(|(at_us, _)| *at_us <= end_us));
        }
    }

    /// All resets, all reads, …; the most frequent first.
    pub(super) fn drop_verbs(&mut self) {
        let verb = |item: &Item| item.to_string().split(' ').next().unwrap_or_default().to_owned();
        let mut counts = BTreeMap::new();
        for (_, item) in &self.best.items {
            *counts.entry(verb(item)).or_insert(0) += 1;
        }
        let mut counts: Vec<(i32, String)> = counts.into_iter().map(|(verb, count)| (-count, verb)).collect();
        counts.sort();
        for (_, name) in counts {
            self.with(|plan| plan.items.retain(|(_, item)| verb(item) != name));
        }
    }

    pub(super) fn drop_nodes(&mut self) {
        for node in (0..self.best.setting.nodes).rev() {
            if let Some(plan) = parts::without_node(&self.best, node) {
                self.take(plan);
            }
        }
    }

    /// A cluster that all survive, and a network in which little happens: all at once, or one after the other.
    pub(super) fn calm(&mut self) {
        let everyone = |setting: &Setting| (1 << setting.nodes) - 1;
        self.with(|plan| {
            plan.setting.survivors = everyone(&plan.setting);
            for (name, values) in CALM {
                *number(&mut plan.setting, name) = values[0];
            }
        });
        self.with(|plan| plan.setting.survivors = everyone(&plan.setting));
        for (name, values) in CALM {
            for value in values {
                let is_there = *number(&mut self.best.setting.clone(), name) == *value;
                if is_there || self.with(|plan| *number(&mut plan.setting, name) = *value) {
                    break;
                }
            }
        }
    }

    /// Leaves out runs of items: halves, quarters, … and at last single ones, until none of them can be missed. What
    /// comes late is the likelier to be superfluous.
    pub(super) fn drop_items(&mut self) {
        let mut run = self.best.items.len().div_ceil(2);
        while run > 0 && !self.over {
            let mut end = self.best.items.len();
            let mut helped = false;
            while end > 0 {
                let from = end.saturating_sub(run);
                helped |= self.with(|plan| drop(plan.items.drain(from..end)));
                end = from;
            }
            if run > 1 || !helped {
                run /= 2;
            }
        }
    }

    pub(super) fn name_less(&mut self) {
        let ways =
            [parts::with_fewer_clients, parts::with_fewer_keys, parts::without_last_keys, parts::without_last_counters];
        for fewer in ways {
            let plan = fewer(&self.best);
            self.take(plan);
        }
        if self.best.items.len() > ITEMS_TIMED_MAX {
            return;
        }
        for key in (1..self.best.setting.keys).rev() {
            let _ =
                (0..key).any(|instead| self.take(parts::with_one_for_another(&self.best, Some((key, instead)), None)));
        }
        let nodes = self.best.setting.nodes;
        for client in (nodes..self.best.setting.clients).rev() {
            // Of the same node.
            let mut others = (client % nodes..client).step_by(size(nodes));
            let _ =
                others.any(|instead| self.take(parts::with_one_for_another(&self.best, None, Some((client, instead)))));
        }
    }

    /// Smaller numbers in the items: in all at once, then in one after the other.
    pub(super) fn simplify_items(&mut self) {
        self.with(|plan| {
            for (_, item) in &mut plan.items {
                for part in parts(item) {
                    // How long a fault lasts is what the others hang on.
                    if let Part::Size(size, 0) = part {
                        *size = 0;
                    }
                }
            }
        });
        for index in 0..self.best.items.len() {
            for part in 0..parts(&mut self.best.items[index].1.clone()).len() {
                self.simplify(index, part);
            }
        }
    }

    /// One number of one item.
    fn simplify(&mut self, index: usize, number: usize) {
        loop {
            let mut helped = false;
            for attempt in 0..4 {
                helped = self.with(|plan| {
                    let part = parts(&mut plan.items[index].1).swap_remove(number);
                    match part {
                        Part::Size(size, least) => *size = smaller(*size, attempt).clamp(least.min(*size), *size),
                        Part::Signed(number, least) if *number != least => *number = nearer(*number, least, attempt),
                        Part::Flag(flag) => *flag = false,
                        Part::Signed(..)
                        | Part::Client(_)
                        | Part::Node(_)
                        | Part::Nodes(_)
                        | Part::Key(_)
                        | Part::Counter(_) => {}
                    }
                });
                if helped {
                    break;
                }
            }
            if !helped {
                break;
            }
        }
    }

    /// Shorter pauses between the items, before the first, and before the load ends.
    pub(super) fn close_gaps(&mut self) {
        if self.best.items.len() > ITEMS_TIMED_MAX {
            return;
        }
        // Between none and one there is one more.
        for index in 0..=self.best.items.len() {
            for keep in [0, 8, 2] {
                loop {
                    let load_us = self.best.setting.load_ms * 1_000;
                    let mut times: Vec<u64> = self.best.items.iter().map(|(at_us, _)| *at_us).collect();
                    times.push(load_us);
                    times.sort_unstable();
                    let from_us = times[index];
                    let gap_us = from_us - index.checked_sub(1).map_or(0, |before| times[before]);
                    // In whole milliseconds, for the load ends at one; and one of them stays, so that the order does.
                    let less_us =
                        gap_us.saturating_sub(gap_us.checked_div(keep).unwrap_or(1_000).max(1_000)) / 1_000 * 1_000;
                    if less_us == 0 || !self.with(|plan| move_up(plan, from_us, less_us)) {
                        break;
                    }
                }
            }
        }
    }

    /// Rounds times down: all at once, then one after the other.
    pub(super) fn round_times(&mut self) {
        for grain_us in GRAINS_US {
            if self.with(|plan| (0..plan.items.len()).for_each(|index| round(plan, index, grain_us))) {
                break;
            }
        }
        if self.best.items.len() > ITEMS_TIMED_MAX {
            return;
        }
        for index in 0..self.best.items.len() {
            for grain_us in GRAINS_US {
                if self.with(|plan| round(plan, index, grain_us)) {
                    break;
                }
            }
        }
    }
}

/// A number of the setting by its name.
fn number<'a>(setting: &'a mut Setting, name: &str) -> &'a mut u64 {
    let mut fields = setting.fields().into_iter();
    fields.find(|(field, _)| *field == name).expect("a number of the setting").1
}

/// None; an eighth; a half; the first digit alone.
const fn smaller(number: u64, attempt: u32) -> u64 {
    match attempt {
        0 => 0,
        1 => number / 8,
        2 => number / 2,
        _ => match number.checked_ilog10() {
            Some(digits) => number - number % 10_u64.pow(digits),
            None => 0,
        },
    }
}

/// The same, on both sides of zero; `least` is the simplest.
const fn nearer(number: i64, least: i64, attempt: u32) -> i64 {
    let size = smaller(number.unsigned_abs(), attempt).cast_signed();
    match attempt {
        0 => least,
        _ if number < 0 => -size,
        _ => size,
    }
}

/// Brings what happens from `from_us` on forward, the end of the load included.
fn move_up(plan: &mut Plan, from_us: u64, less_us: u64) {
    if plan.setting.load_ms * 1_000 >= from_us {
        plan.setting.load_ms -= less_us / 1_000;
    }
    for (at_us, _) in plan.items.iter_mut().filter(|(at_us, _)| *at_us >= from_us) {
        *at_us -= less_us;
    }
}

/// Rounds the time of an item down, as far as it stays after the item before it and on its side of the load's end.
fn round(plan: &mut Plan, index: usize, grain_us: u64) {
    let load_us = plan.setting.load_ms * 1_000;
    let before_us = index.checked_sub(1).map_or(0, |before| plan.items[before].0);
    let at_us = plan.items[index].0;
    let rounded_us = at_us / grain_us * grain_us;
    if rounded_us >= before_us && (at_us < load_us || rounded_us >= load_us) {
        plan.items[index].0 = rounded_us;
    }
}
