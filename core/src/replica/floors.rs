//! Flushing keyspaces, and what becomes of their floors where peers must not see what this node wrote.

use super::{Exposure, Refused, Replica};
use crate::name::{Name, SPACES};
use crate::record::Record;
use crate::time::Now;
use crate::version::{Hlc, Version};

impl Replica {
    /// Whether a flush can be stamped so that it need not be stamped anew: a floor that is would be above what was
    /// written since, and take that, too. Who is alone flushes what it has itself: see
    /// [`lift_floors`](Self::lift_floors).
    pub(crate) const fn may_flush(&self) -> bool {
        matches!(self.exposure, Exposure::Alone | Exposure::Exposed)
    }

    /// Takes everything out of the keyspace `only`, or of all, also of those in which only others have written yet.
    /// Each gets a floor of its own, one record: one for all of them would have each merge look at two.
    pub(crate) fn flush(&mut self, now: Now, only: Option<u8>) -> Result<(), Refused> {
        self.may_write()?;
        for space in 0..SPACES {
            if only.is_none_or(|only| only == space) {
                let name = Name::floor(space).stored();
                let version = Version { hlc: Hlc::ZERO, origin: self.own };
                let floor = Record { key: &name, value: Some(b""), is_counter: false, deadline: None, version };
                self.stamp_and_take(now, &floor);
                self.flushed = self.clock();
            }
        }
        Ok(())
    }

    /// As [`lift_floors`](Self::lift_floors), of a node that has come back from its disk, if its flushes are yet to be
    /// seen.
    pub(crate) fn lift_floors_unless_seen(&mut self) {
        if !self.may_flush() {
            self.lift_floors();
        }
    }

    /// Forgets floors that are nobody else's business: those of a node that was alone, which had flushed what nobody
    /// else has seen; and all of one that comes back, whose cluster tells it of its own. What they took stays gone: of
    /// that, what the cluster has still and this node knew is deleted key by key.
    pub(crate) fn lift_floors(&mut self) {
        for space in 0..SPACES {
            let name = Name::floor(space).stored();
            let Some(floor) = self.store.get(&name) else { continue };
            if self.is_returning() || self.is_own(floor.version.origin) {
                self.store.take_out(&name);
                self.log_replaced(&name);
            }
        }
    }
}
