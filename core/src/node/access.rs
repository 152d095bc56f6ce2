//! Users of a node, as its driver sees them.

use super::{NOBODY, Node};
use crate::acl::{Job, JobDone, JobId, STRANGER_BUFFER_BYTES_MAX};
use crate::boundary::{ConnId, Effects};
use crate::time::Now;

impl Node {
    /// Gives the default user a password, by its argon2id hash in the text form, and no other. False: it is no such
    /// hash, or one that asks for too much; nothing has changed.
    pub fn lock(&mut self, hash: &str) -> bool {
        self.acl.lock(hash).is_ok()
    }

    /// Takes the users that an ACL file has in place of those that are there; from now on the node has such a file, and
    /// asks for it to be read and written. Told what is wrong with it, in one line, nothing of it is taken.
    pub fn load_users(&mut self, text: &[u8]) -> Result<(), String> {
        self.acl.load(text)?;
        self.acl.has_file = true;
        Ok(())
    }

    /// Asks for the ACL file to be read again, if there is one.
    pub fn reload_users(&mut self, effects: &mut Effects) {
        if self.acl.has_file {
            self.acl.begin_load(None, effects);
        }
    }

    /// Whether whoever connects is somebody without a password.
    #[must_use]
    pub fn lets_in_strangers(&self) -> bool {
        !self.acl.newcomers().is_stranger()
    }

    /// What the driver is to do aside; none if nobody waits for that any more.
    #[must_use]
    pub fn job(&self, job: JobId) -> Option<Job<'_>> {
        self.acl.job(job)
    }

    /// Takes what came of a job.
    pub fn job_done(&mut self, now: Now, job: JobId, done: &JobDone<'_>, effects: &mut Effects) {
        self.server(now, NOBODY, effects).job_done(job, done);
        self.settle(effects);
    }

    /// Whether more input than may be waits behind the login of `conn`.
    pub(crate) fn is_overfull(&self, conn: ConnId, bytes: usize) -> bool {
        bytes > STRANGER_BUFFER_BYTES_MAX && self.conns.awaits_login(conn)
    }
}
