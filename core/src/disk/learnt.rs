//! What the frames of a data directory say, one after the other.

use crate::disk::frames::{self, FileFrame, Mark};
use crate::disk::keep::Damage;
use crate::disk::records::{has_folds, is_sane, is_sane_record};
use crate::disk::stood::Stood;
use crate::disk::{FileId, FileKind};
use crate::origins::Claims;
use crate::record::{self, Record};
use crate::repl::{Roster, Seat};
use crate::replica::Replica;
use crate::retired::{Entry, Retired};
use crate::store::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::time::Mono;
use crate::version::OriginId;
use crate::wire::peer::{self, Frame};

/// What was learnt so far.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    pub(super) damage: Damage,
    /// From here on marks add nothing to the frontier.
    pub(super) is_damaged: bool,
    /// A disk had failed: what was written anew from then on may be missing, and nobody has seen it, for it is shown
    /// once the next snapshot has it. (`sim/regressions/what-was-hidden-was-written-anew-on-a-full-disk-and-was-lost`)
    pub(super) has_gap: bool,
    pub(super) torn_bytes: u64,
    pub(super) records: u64,
    pub(super) mark: Option<Stood>,
    pub(super) roster: Option<Roster>,
    pub(super) staged_roster: Option<Roster>,
    /// Which member each origin was a run of.
    pub(super) writers: Vec<(OriginId, String)>,
    pub(super) staged_entries: Option<(u32, Vec<Entry>)>,
    pub(super) has_folds: bool,
    pub(super) ended: bool,
    pub(super) is_restored: bool,
}

impl Learnt {
    /// Takes in a frame of `file`; `None` if it is none.
    pub(super) fn take_frame(&mut self, now: Mono, file: FileId, body: &[u8], replica: &mut Replica) -> Option<()> {
        if body.first()? & record::KIND_RECORD != 0 {
            let framed = record::decode(body).ok()?;
            let Record { key, value, .. } = framed.record;
            if key.len() > KEY_BYTES_MAX || value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
                return None;
            }
            if !is_sane(framed.stamp.hlc) || !is_sane_record(&framed.record) {
                return None;
            }
            self.records += 1;
            self.has_folds |= has_folds(&framed.record);
            return match file.kind {
                FileKind::Snapshot | FileKind::Part if !self.ended => replica.put(now, &framed.record),
                // Of a backup the log comes behind the snapshot.
                FileKind::Log | FileKind::Snapshot | FileKind::Part => replica.replay(now, &framed),
            };
        }
        match frames::parse(body) {
            Some(FileFrame::Mark(mark)) => {
                // Once a node has said on it where it stands, it is that node's: a log that was begun says nothing yet.
                // What was hidden in a backup it has not written anew.
                let begins_anew = self.is_restored && file.kind == FileKind::Log;
                self.is_restored &= file.kind != FileKind::Log;
                return self.take_mark(&mark, begins_anew, replica);
            }
            Some(FileFrame::Replaced { key, stands }) => {
                if !stands.as_ref().is_none_or(is_sane_record) {
                    return None;
                }
                self.has_folds |= stands.as_ref().is_some_and(has_folds);
                replica.store.take_out(key);
                return stands.map_or(Some(()), |record| replica.put(now, &record));
            }
            Some(FileFrame::End { .. }) => {
                self.ended = true;
                return Some(());
            }
            Some(FileFrame::Header(_) | FileFrame::Synced { .. }) => return None,
            None => {}
        }
        match peer::parse(body)? {
            Frame::Roster(view) if !view.iter().all(|seat| is_sane(seat.version.hlc)) => None,
            Frame::Roster(view) => {
                let mut roster = Roster::default();
                for seat in view.iter() {
                    roster.merge(seat.name, Seat { version: seat.version, gone: seat.gone, lost: seat.lost });
                }
                self.staged_roster = Some(roster);
                Some(())
            }
            Frame::Writers(view) => {
                self.writers.extend(view.iter().map(|(origin, name)| (origin, name.to_owned())));
                Some(())
            }
            Frame::Retired(view) if !view.iter().all(|entry| is_sane(entry.last)) => None,
            Frame::Retired(view) => {
                let (_, entries) = self.staged_entries.get_or_insert((view.from, Vec::new()));
                entries.extend(view.iter());
                Some(())
            }
            _ => None,
        }
    }

    fn take_mark(&mut self, mark: &Mark<'_>, begins_anew: bool, replica: &mut Replica) -> Option<()> {
        let mut claims = mark.reaped.iter().chain(mark.frontier.iter().flat_map(|frontier| frontier.iter()));
        if !is_sane(mark.ceiling) || !claims.all(|(_, hlc)| is_sane(hlc)) {
            return None;
        }
        let roster = self.staged_roster.take();
        let entries = self.staged_entries.take();
        let is_later = self.mark.as_ref().is_none_or(|stood| stood.number <= mark.number);
        if is_later {
            if let Some((from, entries)) = entries {
                let ledger = replica.origins.retired().extended(from, &entries);
                if ledger.mark() == mark.ledger {
                    replica.origins.restore_ledger(ledger, self.is_damaged);
                }
            } else if mark.ledger.len == 0 && replica.origins.retired().len() > 0 {
                replica.origins.restore_ledger(Retired::default(), self.is_damaged);
            }
            if roster.is_some() {
                self.roster = roster;
            }
            let was_unseen = begins_anew || self.has_gap;
            self.mark = Some(Stood::of(mark, self.mark.take(), was_unseen));
            replica.reaped.retired = mark.reaped_retired;
            mark.reaped.read_into(&mut replica.reaped.claims);
        }
        let Some(frontier) = mark.frontier else { return Some(()) };
        if self.is_damaged {
            let mut claims = Claims::default();
            frontier.read_into(&mut claims);
            replica.origins.lower(&claims);
        } else {
            replica.origins.restore(frontier.iter());
        }
        Some(())
    }
}
