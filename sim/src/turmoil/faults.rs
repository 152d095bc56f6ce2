//! The plan's items, and the heal, in turmoil's terms.

use std::time::Duration;

use super::net::{Fate, name};
use super::shared::Shared;
use super::{Engine, Later};
use crate::judge::RunId;
use crate::plan::{Ask, Fault, Item, size};

impl Engine<'_> {
    pub(super) fn item(&mut self, index: usize) {
        let item = self.plan.items[index].1;
        self.note(&[40, index as u64], || format!("-- {item}"));
        match item {
            Item::Ask { client, ask } => self.client_asks(client, ask),
            Item::Hangup { client } => self.client_hangs_up(client),
            Item::Deaf { client, ms } => {
                let until_us = self.now_us + ms * 1_000;
                let mut shared = self.shared.borrow_mut();
                let seat = &mut shared.seats[size(client)];
                seat.deaf_until_us = seat.deaf_until_us.max(until_us);
                drop(shared);
                self.after_ms(ms, Later::Hear);
            }
            Item::Move { client, node } => {
                self.client_hangs_up(client);
                self.shared.borrow_mut().judge.moved(client, node);
            }
            Item::Fault(_) if self.healed => {}
            Item::Fault(fault) => self.fault(fault),
        }
    }

    fn client_asks(&self, client: u64, ask: Ask) {
        let shared = &mut *self.shared.borrow_mut();
        let seat = &mut shared.seats[size(client)];
        if let Some(session) = seat.client.ask(&mut shared.judge, self.now_us, ask) {
            seat.session = Some(session);
        }
        shared.wake_crowd();
    }

    pub(super) fn client_hangs_up(&self, client: u64) {
        let mut shared = self.shared.borrow_mut();
        let Shared { seats, judge, .. } = &mut *shared;
        seats[size(client)].lost(judge);
        shared.wake_crowd();
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            // A machine reaches itself whatever else is broken.
            Fault::Cut { from, to, .. }
            | Fault::Stall { from, to, .. }
            | Fault::Slow { from, to, .. }
            | Fault::Garble { from, to }
            | Fault::Reset { from, to }
            | Fault::HalfOpen { from, to }
                if from == to => {}
            Fault::Thin { .. }
            | Fault::Intrude { .. }
            | Fault::DiskFull { .. }
            | Fault::DiskFail { .. }
            | Fault::DiskSlow { .. }
            | Fault::Flip { .. }
            | Fault::Backup { .. }
            | Fault::Restore { .. }
            | Fault::Rollback { .. } => {}
            Fault::Garble { from, to } => self.net.borrow().garble(from, to),
            Fault::Partition { side, ms } => {
                let is_in = |node: u64| (side >> node) & 1 == 1;
                let nodes = self.plan.setting.nodes;
                for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
                    if is_in(from) != is_in(to) {
                        self.net.borrow_mut().cut_more(from, to);
                        self.after_ms(ms, Later::Uncut { from, to });
                    }
                }
                self.tell_net();
            }
            Fault::Cut { from, to, ms } => {
                self.net.borrow_mut().cut_more(from, to);
                self.after_ms(ms, Later::Uncut { from, to });
                self.tell_net();
            }
            Fault::Stall { from, to, ms } => {
                self.net.borrow_mut().stall_more(from, to);
                self.after_ms(ms, Later::Unstall { from, to });
                self.tell_net();
            }
            Fault::Slow { from, to, ms, factor } => {
                self.slow[size(from * self.plan.setting.nodes + to)] += factor;
                self.set_latency(from, to);
                self.after_ms(ms, Later::Unslow { from, to, factor });
            }
            Fault::Reset { from, to } => self.doom(from, to, Fate::Reset),
            Fault::HalfOpen { from, to } => self.doom(from, to, Fate::Dark),
            Fault::Kill { node, ms, silent, alone } => self.kill(node, ms, silent, alone),
            // A machine of turmoil's runs one program: the old run ends where it would have stood still.
            Fault::Supersede { node, .. } => self.kill(node, 0, false, false),
            Fault::Pause { node, ms } => self.pause(node, ms),
            Fault::Clock { node, step_ms, drift_ppm } => {
                let mut shared = self.shared.borrow_mut();
                shared.machines[size(node)].clock.set(self.now_us, step_ms, drift_ppm);
            }
            Fault::Crash { node, ms } => self.kill(node, ms, true, false),
            Fault::Rot { node, key } => {
                let Shared { judge, machines, .. } = &mut *self.shared.borrow_mut();
                if let Some(process) = &mut machines[size(node)].process {
                    process.host.rot(judge, key);
                }
            }
        }
    }

    fn kill(&mut self, node: u64, ms: u64, silent: bool, alone: bool) {
        if self.stop(node, silent) {
            self.after_ms(ms, Later::Restart { node, alone });
        }
    }

    /// Ends the run of a node and its memory, if it has one. `silent`: nobody hears of it.
    fn stop(&mut self, node: u64, silent: bool) -> bool {
        let process = self.shared.borrow_mut().machines[size(node)].process.take();
        let Some(process) = process else { return false };
        let run = process.host.run;
        self.note(&[2, run.0, u64::from(silent)], || {
            format!("n{node} run {} stops{}", run.0, if silent { " silently" } else { "" })
        });
        self.shared.borrow_mut().judge.stopped(run, silent);
        if silent {
            // First: turmoil says farewell for a program that it ends.
            self.net.borrow_mut().set_down(&self.sim, node, true);
        }
        self.sim.crash(name(node));
        true
    }

    pub(super) fn restart(&mut self, node: u64, alone: bool) {
        if self.shared.borrow().machines[size(node)].process.is_some() {
            return;
        }
        self.shared.borrow_mut().boot(node, alone, self.now_us);
        self.net.borrow_mut().set_down(&self.sim, node, false);
        self.sim.bounce(name(node));
    }

    fn pause(&mut self, node: u64, ms: u64) {
        let mut shared = self.shared.borrow_mut();
        let Some(process) = &mut shared.machines[size(node)].process else { return };
        process.is_paused = true;
        let run = process.host.run;
        drop(shared);
        self.note(&[3, run.0], || format!("n{node} run {} stands still", run.0));
        self.after_ms(ms, Later::Thaw { node, run });
    }

    /// Lets the run of a node go on if it stands still; only if it is this `run`, when one is named.
    pub(super) fn thaw(&self, node: u64, run: Option<RunId>) {
        let mut shared = self.shared.borrow_mut();
        let Some(process) = &mut shared.machines[size(node)].process else { return };
        if run.is_none_or(|run| run == process.host.run) && std::mem::take(&mut process.is_paused) {
            process.running_us = self.now_us;
            let run = process.host.run.0;
            shared.trace.note(self.now_us, &[4, run], || format!("n{node} run {run} goes on"));
            shared.wake_pump(node);
        }
    }

    fn doom(&self, from: u64, to: u64, fate: Fate) {
        self.net.borrow().doom(from, to, fate);
        let mut shared = self.shared.borrow_mut();
        shared.wake_pump(from);
        shared.wake_pump(to);
    }

    pub(super) fn tell_net(&self) {
        self.net.borrow_mut().tell(&self.sim);
    }

    /// turmoil's links are as slow in one direction as in the other.
    pub(super) fn set_latency(&self, a: u64, b: u64) {
        let (min, spread) = super::latency_ms(&self.plan.setting);
        let nodes = self.plan.setting.nodes;
        let slow = 1 + self.slow[size(a * nodes + b)] + self.slow[size(b * nodes + a)];
        let most = Duration::from_millis(min + (spread.max(1) * slow).min(super::LATENCY_MS_MAX));
        self.sim.set_link_max_message_latency(name(a), name(b), most);
    }

    /// Everything that is broken ends for the survivors; the others stop for ever.
    pub(super) fn heal(&mut self) {
        self.note(&[41], || "-- heal".to_owned());
        self.healed = true;
        let (nodes, survivors) = (self.plan.setting.nodes, self.plan.setting.survivors);
        self.net.borrow_mut().heal();
        self.tell_net();
        self.slow.fill(0);
        for (a, b) in (0..nodes).flat_map(|b| (0..b).map(move |a| (a, b))) {
            self.set_latency(a, b);
        }
        for node in (0..nodes).filter(|node| (survivors >> node) & 1 == 0) {
            // Half of them with their machines: dials to them are refused or never answered.
            self.stop(node, node % 2 == 0);
        }
        for node in (0..nodes).filter(|node| (survivors >> node) & 1 == 1) {
            let skew_ms = self.plan.skew_ms(node, 1);
            let mut shared = self.shared.borrow_mut();
            let clock = &mut shared.machines[size(node)].clock;
            (clock.offset_ms, clock.drift_ppm) = (skew_ms, 0);
            drop(shared);
            let run = self.shared.borrow().machines[size(node)].process.as_ref().map(|process| process.host.run);
            let has_left = |run| self.shared.borrow().judge.has_left(run);
            if run.is_some_and(|run| has_left(run) || self.plan.is_outdated(node, run.0)) {
                self.stop(node, false);
            }
            self.thaw(node, None);
            self.restart(node, false);
        }
    }
}
