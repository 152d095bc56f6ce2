//! What a run ends in, the same for both engines.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::marks::Marks;
use crate::timeline::Kept;

/// What a run ended in.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether every oracle held.
    pub verdict: Result<(), Failure>,
    /// Of every event, action and byte: equal for the same plan on the same engine and code, whatever the process.
    pub trace_hash: u128,
    /// What the run was made of.
    pub stats: Stats,
    /// What came about in it.
    pub marks: Marks,
    /// What a survivor holds at the end: by key, the token of its value. Deletes are left out, deadlines not looked at.
    pub data: BTreeMap<u64, u64>,
    /// The newest events as text, if the run was watched.
    pub tail: Vec<String>,
    /// The story, if it was recorded.
    pub story: Option<Box<Kept>>,
}

/// The first oracle that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub oracle: Oracle,
    /// When, in microseconds of simulated time.
    pub at_us: u64,
    /// What was seen and what was expected.
    pub detail: String,
}

/// The statements that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oracle {
    /// Survivors agree within the bound, and go on agreeing.
    Convergence,
    /// What a stream brought can be passed on, whether it won its merge or not.
    Relay,
    /// Digests at one cut are equal exactly when the live data is.
    Digest,
    /// All members' ledgers of retired runs are beginnings of one; what is in them ended where they say.
    Retirement,
    /// A key's version never decreases in a run; one version carries one value; every version was written by someone.
    Lww,
    /// What is listed as a conflict was written so by two runs, and neither had seen the other's write.
    Conflict,
    /// What was acknowledged and not lost with its last holder is still there, and a disk brings back what it must;
    /// what all held as deleted stays so.
    Durability,
    /// What was deleted and then forgotten stays away.
    Resurrection,
    /// Scrubbing finds what memories lost, and nothing else.
    Scrub,
    /// What was added adds up, on every node to the same: nothing is counted twice, nothing is left out.
    Counting,
    /// Own versions increase, and are greater than all that their writer had seen; origins are never reused.
    Hlc,
    /// A value is read exactly until its deadline, by the reader's clock.
    Ttl,
    /// Replies are those of the commands, in order, from the state that the node holds.
    Session,
    /// What a client waited for has come true when it is told so, and its time has passed when it is not.
    Waiting,
    /// No ring, buffer or table grows past its limit.
    Limits,
    /// A running node answers, whatever else is broken.
    Availability,
    /// A node neither spins nor chatters, and its deadline hides nothing.
    Liveness,
    /// A clock too far ahead moves nobody else.
    ClockGuard,
    /// Nobody is a peer who speaks no version of the protocol that this node does; and who does not prove to know the
    /// secret, or is of another cluster, is told no more than who turns it away, and why.
    Admission,
}

/// What a run was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Turns of all nodes.
    pub turns: u64,
    /// Bytes that nodes were handed.
    pub bytes: u64,
    /// Commands answered.
    pub answers: u64,
    /// Writes refused, each for a reason that the plan gave.
    pub refusals: u64,
    /// Runs started.
    pub runs: u64,
    /// Conflicts that runs listed.
    pub conflicts: u64,
    /// Keys whose newest version went down with its last holder.
    pub lost: u64,
    /// Tombstones and husks taken out.
    pub collected: u64,
    /// Amounts added to counters.
    pub added: u64,
    /// Parts of counters that the survivors folded.
    pub folded: u64,
    /// Entries that memories lost.
    pub rotted: u64,
    /// Descents of scrubbing.
    pub descents: u64,
    /// Entries that scrubbing put back.
    pub repaired: u64,
    /// Origins retired, once for each ledger that came up with them.
    pub retired: u64,
    /// Ledgers of clusters that had come up apart and met.
    pub forked: u64,
    /// From the heal until the survivors agreed.
    pub converged_ms: u64,
    /// Simulated time.
    pub simulated_ms: u64,
}

impl Stats {
    /// Adds the numbers of another run; `converged_ms` keeps the longest.
    pub fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.bytes += other.bytes;
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.runs += other.runs;
        self.conflicts += other.conflicts;
        self.lost += other.lost;
        self.collected += other.collected;
        self.added += other.added;
        self.folded += other.folded;
        self.rotted += other.rotted;
        self.descents += other.descents;
        self.repaired += other.repaired;
        self.retired += other.retired;
        self.forked += other.forked;
        self.converged_ms = self.converged_ms.max(other.converged_ms);
        self.simulated_ms += other.simulated_ms;
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "{:?} at {s}.{us:06} s: {}", self.oracle, self.detail)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            turns,
            bytes,
            answers,
            refusals,
            runs,
            conflicts,
            lost,
            collected,
            added,
            folded,
            rotted,
            descents,
            repaired,
            retired,
            forked,
            converged_ms,
            simulated_ms,
        } = self;
        write!(
            f,
            "turns={turns} bytes={bytes} answers={answers} refusals={refusals} runs={runs} conflicts={conflicts} \
             lost={lost} collected={collected} added={added} folded={folded} rotted={rotted} descents={descents} \
             repaired={repaired} retired={retired} forked={forked} converged_ms={converged_ms} \
             simulated_ms={simulated_ms}"
        )
    }
}
