//! The plan's items, and the heal.

use super::net::{End, Packet};
use super::{What, World};
use crate::disk::{Copied, Disk};
use crate::marks::Mark;
use crate::plan::{Fault, Item, size};
use crate::timeline as story;

impl World {
    pub(super) fn item(&mut self, index: usize) {
        let item = self.judge.plan().items[index].1;
        self.trace.note(self.now_us, &[40, index as u64], || {
            story::What::Item { index, text: item.to_string() }.everywhere()
        });
        match item {
            Item::Ask { client, ask } => self.client_asks(client, ask),
            Item::Hangup { client } => self.client_hangs_up(client),
            Item::Deaf { client, ms } => self.client_goes_deaf(client, ms),
            Item::Move { client, node } => {
                self.client_hangs_up(client);
                self.judge.moved(client, node);
            }
            Item::Fault(_) if self.healed => {}
            Item::Fault(fault) => self.fault(fault),
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            // A machine reaches itself whatever else is broken.
            Fault::Cut { from, to, .. }
            | Fault::Stall { from, to, .. }
            | Fault::Slow { from, to, .. }
            | Fault::Thin { from, to, .. }
            | Fault::Garble { from, to }
            | Fault::Reset { from, to }
            | Fault::HalfOpen { from, to }
                if from == to => {}
            Fault::Partition { side, ms } => {
                let nodes = self.judge.plan().setting.nodes;
                let is_in = |node: u64| (side >> node) & 1 == 1;
                for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
                    if is_in(from) != is_in(to) {
                        self.cut(from, to, ms);
                    }
                }
            }
            Fault::Cut { from, to, ms } => self.cut(from, to, ms),
            Fault::Stall { from, to, ms } => {
                self.net.path(from, to).stalls += 1;
                self.after_ms(ms, What::Unstall { from, to });
            }
            Fault::Slow { from, to, ms, factor } => {
                self.net.path(from, to).slow += factor;
                self.after_ms(ms, What::Unslow { from, to, factor });
            }
            Fault::Thin { from, to, ms, us } => {
                self.net.path(from, to).thin += us;
                self.after_ms(ms, What::Unthin { from, to, us });
            }
            Fault::Garble { from, to } => {
                for stream in self.net.streams.iter_mut().flatten() {
                    for side in [0, 1] {
                        stream.ways[side].garbles |= [stream.nodes[1 - side], stream.nodes[side]] == [from, to];
                    }
                }
            }
            Fault::Intrude { node, kind, bytes, ms } => self.intrude(node, kind, bytes, ms),
            Fault::Reset { from, to } => self.reset(from, to),
            Fault::HalfOpen { from, to } => {
                for stream in self.net.streams.iter_mut().flatten() {
                    stream.dark |= stream.nodes == [from, to] || stream.nodes == [to, from];
                }
            }
            Fault::Kill { node, ms, silent, alone } => {
                if let Some(process) = self.machines[size(node)].process {
                    self.stop(process, silent);
                    self.after_ms(ms, What::Restart { node, alone });
                }
            }
            Fault::Pause { node, ms } => {
                if let Some(process) = self.machines[size(node)].process {
                    self.pause(process);
                    self.after_ms(ms, What::Thaw { process });
                }
            }
            Fault::Supersede { node, ms } => {
                if let Some(process) = self.machines[size(node)].process {
                    self.pause(process);
                    // A data directory is its process's: no second one starts.
                    if self.disks[size(node)].is_none() {
                        self.boot(node, false);
                    }
                    self.after_ms(ms, What::Thaw { process });
                }
            }
            Fault::Clock { node, step_ms, drift_ppm } => self.set_clock(node, step_ms, drift_ppm),
            Fault::Crash { node, ms } => {
                if let Some(process) = self.machines[size(node)].process {
                    self.stop(process, true);
                    self.after_ms(ms, What::Restart { node, alone: false });
                }
            }
            Fault::DiskFull { .. } | Fault::DiskFail { .. } | Fault::DiskSlow { .. } | Fault::Flip { .. } => {
                self.disk_fault(fault);
            }
            Fault::Backup { node } => self.back_up(node),
            Fault::Restore { node, ms } => self.put_back(node, Copied::Backup, ms),
            Fault::Rollback { node, ms } => self.put_back(node, Copied::Files, ms),
            Fault::Rot { node, key } => {
                if let Some(process) = self.machines[size(node)].process {
                    self.processes[process].host.rot(&mut self.judge, key);
                    self.tell_held(process);
                }
            }
        }
    }

    fn cut(&mut self, from: u64, to: u64, ms: u64) {
        self.net.path(from, to).cuts += 1;
        self.after_ms(ms, What::Uncut { from, to });
    }

    fn reset(&mut self, from: u64, to: u64) {
        for stream in 0..self.net.streams.len() {
            let Some(state) = self.net.get(stream) else { continue };
            if state.nodes != [from, to] && state.nodes != [to, from] {
                continue;
            }
            for side in [0, 1] {
                if self.net.get(stream).is_some_and(|state| state.ends[side] != End::Gone) {
                    self.send(stream, side, Packet::Fin);
                }
            }
        }
    }

    /// Steps a clock and gives it a drift from now on.
    fn set_clock(&mut self, node: u64, step_ms: i64, drift_ppm: i64) {
        let lead_ms = self.wall(node).0.cast_signed() - self.judge.true_wall_ms().cast_signed();
        if step_ms < 0 && self.machines[size(node)].process.is_some() {
            self.judge.marks.saw(Mark::ClockSteppedBack);
        }
        let machine = &mut self.machines[size(node)];
        machine.offset_ms = lead_ms + step_ms;
        machine.drift_ppm = drift_ppm;
        machine.since_us = self.now_us;
    }

    /// Everything that is broken ends for the survivors; the others stop for ever.
    pub(super) fn heal(&mut self) {
        self.trace.note(self.now_us, &[41], || story::What::Heal.everywhere());
        self.healed = true;
        self.judge.healed();
        self.disks.iter_mut().flatten().for_each(Disk::heal);
        let (nodes, survivors) = (self.judge.plan().setting.nodes, self.judge.plan().setting.survivors);
        self.look_at_heal();
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            *self.net.path(from, to) = super::net::Path::default();
            self.release(from, to);
        }
        for index in 0..self.processes.len() {
            let (node, run) = (self.processes[index].host.node, self.processes[index].host.run);
            let gone = self.judge.is_superseded(run) || self.judge.has_left(run);
            let stays = (survivors >> node) & 1 == 1 && !gone;
            if self.processes[index].is_alive && stays && self.judge.plan().is_outdated(node, run.0) {
                self.stop(index, false);
            }
            if self.processes[index].is_alive && !stays {
                // Half of them with their machines: dials to them are refused or never answered.
                self.stop(index, node % 2 == 0);
            }
        }
        for node in (0..nodes).filter(|node| (survivors >> node) & 1 == 1) {
            let machine = &mut self.machines[size(node)];
            machine.offset_ms = self.judge.plan().skew_ms(node, 1);
            machine.drift_ppm = 0;
            match machine.process {
                Some(process) => self.thaw(process),
                None => self.boot(node, false),
            }
        }
    }

    /// Looks at what there is to be healed.
    fn look_at_heal(&mut self) {
        let setting = &self.judge.plan().setting;
        let (nodes, bound_ms, survivors) = (setting.nodes, setting.clock_ahead_ms_max, setting.survivors);
        let walls = || (0..nodes).map(|node| self.wall(node).0);
        let apart_ms = walls().max().unwrap_or(0) - walls().min().unwrap_or(0);
        if apart_ms > bound_ms {
            self.judge.marks.saw(Mark::ClocksApartAtHeal);
        }
        if u64::from(survivors.count_ones()) < nodes {
            self.judge.marks.saw(Mark::CoreSmaller);
        }
    }
}
