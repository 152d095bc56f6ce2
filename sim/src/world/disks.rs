//! Disks: what processes ask of them and are told, how a run reads its files when it starts, and what goes wrong.

use kv_core::{DiskWork, Event, FileKind, Lane};

use super::process::Cause;
use super::{What, World};
use crate::disk::{Copied, Disk, Failing, Told};
use crate::marks::Mark;
use crate::plan::{Fault, size};
use crate::rng::{delay_us, keyed};
use crate::timeline;

const LANES: [Lane; 2] = [Lane::Log, Lane::Snapshot];

/// Of a file of a plan: without them nothing of it is read.
const BEGINNING_BYTES: u64 = 96;

impl World {
    /// Hands over to its disk what a process asks of it.
    pub(super) fn hand_over(&mut self, index: usize) {
        let node = self.processes[index].host.node;
        let mut work = DiskWork::default();
        for lane in LANES {
            let Some(disk) = &mut self.disks[size(node)] else { return };
            if self.processes[index].host.take_disk(&mut self.judge, lane, &mut work) {
                disk.push(lane, &work, self.now_us);
                self.trace.note(self.now_us, &[50, index as u64, lane as u64, work.ops.len() as u64], || {
                    timeline::What::Turn { run: index as u64, why: format!("asks of its disk: {:?}", work.ops) }
                        .on(node)
                });
                self.trace.bytes(&work.data);
                self.begin_work(node, lane);
            }
        }
    }

    fn begin_work(&mut self, node: u64, lane: Lane) {
        let Some(disk) = &mut self.disks[size(node)] else { return };
        if let Some(misuse) = disk.take_misuse() {
            self.judge.misused(node, &misuse);
        }
        let run = disk.run();
        if let Some(end_us) = disk.begin(lane, self.now_us) {
            self.schedule(end_us, What::Worked { node, run, lane });
        }
    }

    /// An operation of a disk comes to its end, unless its process did before.
    pub(super) fn worked(&mut self, node: u64, run: u64, lane: Lane) {
        let Some(disk) = self.disks[size(node)].as_mut().filter(|disk| disk.run() == run) else { return };
        let is_news = disk.end(lane, self.now_us);
        self.begin_work(node, lane);
        if let Some(process) = self.machines[size(node)].process.filter(|_| is_news) {
            self.hear(process, lane);
        }
    }

    /// A process hears of what its disk has done.
    pub(super) fn hear(&mut self, index: usize, lane: Lane) {
        let process = &mut self.processes[index];
        if process.is_paused {
            return process.late.push(What::Hear { process: index, lane });
        }
        if !process.is_alive {
            return;
        }
        let node = process.host.node;
        while let Some(told) = self.disks[size(node)].as_mut().and_then(|disk| disk.tell(lane)) {
            let event = match told {
                Told::Done(ops) => Event::DiskDone { lane, ops },
                Told::Failed(error) => Event::DiskFailed { lane, error },
            };
            self.turn(index, Cause::Event(event));
        }
    }

    /// A process that has yet to read its files goes on with that.
    pub(super) fn go_on_loading(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if process.is_paused {
            process.late.push(What::Load { process: index });
        } else if process.is_alive {
            self.turn(index, Cause::Load);
        }
    }

    /// Reads one piece of a process's files, or all.
    pub(super) fn load(&mut self, index: usize) {
        let host = &mut self.processes[index].host;
        let (node, load_us) = (host.node, self.judge.plan().setting.load_us);
        while let Some(read) = host.next_read() {
            let Some(disk) = &mut self.disks[size(node)] else { return };
            let bytes = disk.read(read.file, read.at, read.bytes, self.now_us).map(<[u8]>::to_vec);
            let words = [51, index as u64, read.file.kind as u64, read.file.number.into(), read.at];
            self.trace.note(self.now_us, &words, || {
                let what = bytes.as_ref().map_or_else(|error| format!("{error:?}"), |bytes| bytes.len().to_string());
                let why = format!("reads {} at {}: {what}", read.file, read.at);
                timeline::What::Turn { run: index as u64, why }.on(node)
            });
            if bytes.is_err() && !read.is_tried_again() {
                disk.give_up();
                self.judge.damaged(node, false);
            } else if bytes.is_ok() && read.file.kind == FileKind::Snapshot {
                self.judge.marks.saw(Mark::SnapshotLoaded);
            }
            host.loaded(&mut self.judge, bytes.as_deref().map_err(|error| *error), disk.wrong_reads());
            if load_us > 0 {
                let draw = keyed(self.judge.plan().seed, &[0x10ad, index as u64, read.file.number.into(), read.at]);
                let at_us = self.now_us + delay_us(draw, load_us);
                return self.schedule(at_us, What::Load { process: index });
            }
        }
    }

    /// A fault of a disk; none if the node has no disk.
    pub(super) fn disk_fault(&mut self, fault: Fault) {
        let (Fault::DiskFull { node, .. }
        | Fault::DiskFail { node, .. }
        | Fault::DiskSlow { node, .. }
        | Fault::Flip { node, .. }) = fault
        else {
            return;
        };
        let Some(disk) = &mut self.disks[size(node)] else { return };
        let end_us = |ms: u64| self.now_us + 1_000 * ms;
        match fault {
            Fault::DiskFull { ms, .. } => {
                disk.fill(end_us(ms));
                self.judge.troubled(node, end_us(ms));
            }
            Fault::DiskFail { kind, ms, .. } => {
                let what = [Failing::Write, Failing::Sync, Failing::Read][size(kind.min(2))];
                disk.fail(what, end_us(ms));
                self.judge.troubled(node, end_us(ms));
            }
            Fault::DiskSlow { ms, us, .. } => {
                disk.slow(us, end_us(ms));
                // The last may be begun at its end.
                self.judge.troubled(node, end_us(ms) + 2 * us);
            }
            Fault::Flip { bit, .. } => {
                if let Some((file, bit)) = disk.flip(bit) {
                    self.trace.note(self.now_us, &[52, node, file.number.into(), bit], || {
                        timeline::What::Other(format!("bit {} of byte {} of {file} turns", bit % 8, bit / 8)).on(node)
                    });
                    self.judge.damaged(node, bit / 8 < BEGINNING_BYTES);
                }
            }
            _ => {}
        }
    }

    /// The files of a node are copied, both ways. Those of a run that nobody was shown are never put back by hand: it
    /// would be taken for hidden still.
    pub(super) fn back_up(&mut self, node: u64) {
        let is_shown = self.machines[size(node)].process.is_some_and(|process| {
            let state = self.processes[process].host.turn().node();
            state.is_established() && !state.is_hidden(state.origin())
        });
        let Some(disk) = &mut self.disks[size(node)] else { return };
        let (has_backup, bytes) = disk.copy(is_shown);
        self.judge.copied(node);
        self.trace.note(self.now_us, &[53, node, bytes], || {
            let text = if has_backup { format!("a backup of {bytes} bytes") } else { "no backup".to_owned() };
            timeline::What::Other(text).on(node)
        });
    }

    /// The directory of a node gives way to a copy, if there is one, and the node starts on it after `ms`.
    pub(super) fn put_back(&mut self, node: u64, what: Copied, ms: u64) {
        if !self.disks[size(node)].as_ref().is_some_and(|disk| disk.has(what)) {
            return;
        }
        if let Some(process) = self.machines[size(node)].process {
            self.stop(process, false);
        }
        if let Some(disk) = &mut self.disks[size(node)] {
            disk.put_back(what);
        }
        self.machines[size(node)].is_restored |= matches!(what, Copied::Backup);
        self.judge.put_back(node, what);
        self.trace.note(self.now_us, &[54, node, what as u64], || {
            let text = match what {
                Copied::Backup => "its directory is made anew of its backup",
                Copied::Files => "its files of an earlier time are put back",
            };
            timeline::What::Other(text.to_owned()).on(node)
        });
        self.after_ms(ms, What::Restart { node, alone: false });
    }

    /// A process ends, and its machine with it if it is a `crash`.
    pub(super) fn stop_disk(&mut self, node: u64, crash: bool) {
        let Some(disk) = &mut self.disks[size(node)] else { return };
        let (bytes, in_snapshot) = disk.under_way();
        disk.stop(crash);
        if in_snapshot {
            self.judge.marks.saw(Mark::StoppedInSnapshot);
        }
        if crash && bytes > 0 {
            self.judge.marks.saw(Mark::UnsyncedLost);
        }
    }

    /// When the disk of `node` had done all that its log was asked for by `at_us`; `None`: it has yet to. Where syncs
    /// are slow and segments short much may stand before what a client asks, for each segment that ends takes a sync.
    /// (`sim/regressions/a-client-waited-behind-many-segments-on-a-slow-disk`)
    pub(super) fn caught_up_us(&self, node: u64, at_us: u64) -> Option<u64> {
        self.disks[size(node)].as_ref().map_or(Some(0), |disk| disk.caught_up_us(Lane::Log, at_us))
    }

    /// Whether replies of a process may wait for its disk.
    pub(super) fn is_syncing(&self, index: usize) -> bool {
        self.disks[size(self.processes[index].host.node)].as_ref().is_some_and(|disk| !disk.is_idle(Lane::Log))
    }
}

/// The disks of the plan's machines, if they have any.
pub(super) fn disks(plan: &crate::plan::Plan) -> Vec<Option<Disk>> {
    let setting = &plan.setting;
    let disk = |node| setting.fsync().map(|_| Disk::new(plan.seed, node, setting.sync_us_mean));
    (0..setting.nodes).map(disk).collect()
}
