//! A node driven as every driver does, without sockets.

use kv_core::{AddrId, Config, ConnId, Job, JobDone, JobId, Limits, Mono, Now, PeerAuth, Turn, WallMs};

/// Small enough that a fuzzer reaches every limit.
pub const LIMITS: Limits = Limits {
    ring_bytes: 2 << 10,
    key_bytes_max: 64,
    value_bytes_max: 256,
    line_bytes_max: 512,
    request_bytes_max: 1 << 10,
    output_bytes_max: 1 << 10,
    // None: what memory is taken is nothing that inputs are compared by.
    memory_bytes_max: 0,
    clients_max: 4,
    args_max: 1 << 10,
    collect_slots_max: 2,
};

/// When every run begins.
pub const START: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

/// What a peer says before anything else.
pub const PREAMBLE: &[u8] = b"\x93skv\r\n\x1a\n";

/// A node at rest has nothing to do; one that is busy for so many turns at one moment will be for ever.
const TURNS_MAX: u32 = 1_000;

/// What a node at `START` is told; the same each time, so that a finding is found again.
pub fn config(name: &str, peers: &[&str]) -> Config {
    Config {
        peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
        peer_auth: PeerAuth::Anybody,
        limits: LIMITS,
        ..Config::new([1, 2, 3, crc32c::crc32c(name.as_bytes()).into()], name, format!("{name}:1"))
    }
}

/// What a node does between two inputs.
pub trait Outside {
    /// It sends these bytes; empty when there are none (left).
    fn sent(&mut self, conn: ConnId, bytes: &[u8]);
    /// It ends a connection.
    fn ended(&mut self, conn: ConnId);
    /// It wants to reach an address; true if a connection stands, and under which name.
    fn dial(&mut self, addr: AddrId) -> Option<ConnId>;
}

/// Takes everything that the node has to say at `now`, through as many turns as that needs.
pub fn settle(turn: &mut Turn, now: Now, outside: &mut impl Outside) {
    for _ in 0..TURNS_MAX {
        turn.begin(now);
        turn.settle();
        while let Some(job) = turn.take_job() {
            carry_out(turn, job);
        }
        while let Some(addr) = turn.take_dial() {
            turn.event(match outside.dial(addr) {
                Some(conn) => kv_core::Event::Dialed { conn, addr },
                None => kv_core::Event::DialFailed { addr },
            });
        }
        while let Some(conn) = turn.next_ready() {
            loop {
                let bytes = turn.output(conn);
                outside.sent(conn, bytes);
                let count = bytes.len();
                if count == 0 {
                    break;
                }
                turn.sent(conn, count);
            }
            if turn.finished(conn).is_some() {
                turn.gone(conn);
                outside.ended(conn);
            }
        }
        if turn.deadline().is_none_or(|deadline| deadline > now.mono) {
            return;
        }
    }
    panic!("the node never comes to rest");
}

/// What a node wants done aside: no password is right, and the hash of each is the same.
fn carry_out(turn: &mut Turn, job: JobId) {
    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG8u1hcmCBp/8";
    let done = match turn.job(job) {
        Some(Job::Verify { .. }) => JobDone::Verified(0),
        Some(Job::Hash { .. }) => JobDone::Hashed(HASH),
        Some(Job::Load) => JobDone::Loaded(Err("there is no file")),
        Some(Job::Save { .. }) => JobDone::Saved(Ok(())),
        None => return,
    };
    turn.job_done(job, &done);
}

/// One client and nobody else: what it was told.
#[derive(Default)]
pub struct Replies {
    pub bytes: Vec<u8>,
    pub ended: bool,
}

impl Outside for Replies {
    fn sent(&mut self, _: ConnId, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn ended(&mut self, _: ConnId) {
        self.ended = true;
    }

    fn dial(&mut self, _: AddrId) -> Option<ConnId> {
        panic!("a node that knows nobody dials nobody")
    }
}
