//! Who tries to log in, from where, and what is being computed for it.
//!
//! A password costs some 20 ms of a processor to try, on a thread of its own, one after the other. So there is a bound
//! on what waits for that thread, and a share of it for each address that attempts come from. Who has failed three
//! times waits before the next attempt is even begun, twice as long each time, also over new connections: failures are
//! counted by address, and forgotten after a minute without one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::{Asker, JobId};
use crate::time::Mono;

/// Attempts that wait to be computed or to be begun: some three seconds of the thread.
const ATTEMPTS_MAX: usize = 128;

/// Of these, from one address. What is tried again meanwhile, from wherever, is the same attempt.
const ATTEMPTS_OF_ONE_MAX: u32 = 16;

/// Clients that wait for one attempt, also those that have gone since: as many as a node may have, and some.
const WAITING_MAX: usize = 1 << 15;

/// Failures before the next attempt waits.
const FAILURES_FREE: u32 = 3;

/// What it waits then, which doubles up to so much.
const DELAY_MS_MIN: u64 = 200;
const DELAY_MS_MAX: u64 = 5_000;

/// Without a failure for so long, those before are forgotten.
const FORGIVE_MS: u64 = 60_000;

/// Addresses that are kept in mind; of more, those that were quiet for longest are forgotten.
const SOURCES_MAX: usize = 1_024;

/// What stands for a password that was right, under a key of this process that leaves it nowhere.
pub(crate) type Fingerprint = u128;

/// Where attempts come from: an address, or of the many that one machine has by IPv6 the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Unknown,
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Source {
    pub(crate) fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Knocks {
    failures: u32,
    /// When the last of them was, or the last attempt was begun.
    last: Mono,
    /// Attempts that are not over.
    open: u32,
}

/// An attempt to log in, and who waits for what comes of it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) name: Box<str>,
    pub(super) password: Box<[u8]>,
    /// One of these, if the password is right; none if nobody is called so, or may log in: then as much is computed.
    pub(super) hashes: Vec<Box<str>>,
    pub(super) fingerprint: Fingerprint,
    source: Source,
    pub(super) waiting: Vec<(Asker, Then)>,
}

/// What follows when somebody is who they say.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Auth,
    Hello {
        is_3: Option<bool>,
        name: Option<Box<[u8]>>,
    },
    /// A request of HTTP is carried out.
    Request,
}

/// What is said at once to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Begun(JobId),
    Delayed,
    Joined,
    /// Too much of that already.
    Full,
}

/// Everything about it.
#[derive(Debug)]
pub(super) struct Logins {
    attempts: BTreeMap<JobId, Attempt>,
    /// Those that are not begun yet, by when they will be.
    delayed: BTreeSet<(Mono, JobId)>,
    sources: BTreeMap<Source, Knocks>,
    key: [u64; 2],
}

impl Logins {
    pub(super) fn new(key: [u64; 2]) -> Self {
        Self { attempts: BTreeMap::new(), delayed: BTreeSet::new(), sources: BTreeMap::new(), key }
    }

    pub(super) fn fingerprint(&self, name: &str, password: &[u8]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_keys(self.key[0], self.key[1]);
        // No name has that byte.
        hasher.write(name.as_bytes());
        hasher.write(&[0xff]);
        hasher.write(password);
        hasher.finish128().as_u128()
    }

    /// Whether as much as may be is being computed for one address: then not even what costs nothing is tried, which
    /// would tell a right guess from the others at once.
    pub(super) fn is_full_of(&self, source: Source) -> bool {
        self.sources.get(&source).is_some_and(|knocks| knocks.open >= ATTEMPTS_OF_ONE_MAX)
    }

    /// Begins an attempt as `job`, now or later, or joins one that is the same.
    pub(super) fn attempt(
        &mut self,
        now: Mono,
        job: JobId,
        (name, password, hashes): (&str, &[u8], &[Box<str>]),
        source: Source,
        waits: (Asker, Then),
    ) -> Tried {
        let fingerprint = self.fingerprint(name, password);
        let same = |attempt: &&mut Attempt| attempt.fingerprint == fingerprint && attempt.hashes == hashes;
        if let Some(attempt) = self.attempts.values_mut().find(same) {
            if attempt.waiting.len() >= WAITING_MAX {
                return Tried::Full;
            }
            attempt.waiting.push(waits);
            return Tried::Joined;
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            return Tried::Full;
        }
        let knocks = self.knocks(now, source);
        (knocks.open, knocks.last) = (knocks.open + 1, now);
        let delay_ms = delay_ms(knocks.failures);
        let (name, password, hashes, waiting) = (name.into(), password.into(), hashes.to_vec(), vec![waits]);
        self.attempts.insert(job, Attempt { name, password, hashes, fingerprint, source, waiting });
        if delay_ms > 0 {
            self.delayed.insert((now.plus_ms(delay_ms), job));
            return Tried::Delayed;
        }
        Tried::Begun(job)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// The next attempt whose time has come.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<JobId> {
        let (at, job) = self.delayed.first().copied()?;
        (at <= now).then(|| {
            self.delayed.pop_first();
            job
        })
    }

    pub(super) fn get(&self, job: JobId) -> Option<&Attempt> {
        self.attempts.get(&job)
    }

    /// Ends an attempt.
    pub(super) fn finish(&mut self, now: Mono, job: JobId, is_right: bool) -> Option<Attempt> {
        let attempt = self.attempts.remove(&job)?;
        let knocks = self.knocks(now, attempt.source);
        knocks.open = knocks.open.saturating_sub(1);
        if !is_right {
            (knocks.failures, knocks.last) = (knocks.failures.saturating_add(1), now);
        }
        Some(attempt)
    }

    /// What is known of an address; it is kept in mind from now on.
    fn knocks(&mut self, now: Mono, source: Source) -> &mut Knocks {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            // Of those with an attempt there are fewer.
            let quiet = self.sources.iter().filter(|(_, knocks)| knocks.open == 0);
            if let Some(oldest) = quiet.min_by_key(|(_, knocks)| knocks.last).map(|(source, _)| *source) {
                self.sources.remove(&oldest);
            }
        }
        let knocks = self.sources.entry(source).or_insert(Knocks { failures: 0, last: now, open: 0 });
        if knocks.open == 0 && now.ms_since(knocks.last) >= FORGIVE_MS {
            knocks.failures = 0;
        }
        knocks
    }
}

fn delay_ms(failures: u32) -> u64 {
    match failures.checked_sub(FAILURES_FREE) {
        None => 0,
        Some(more) => DELAY_MS_MIN.checked_shl(more).unwrap_or(DELAY_MS_MAX).clamp(DELAY_MS_MIN, DELAY_MS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::ConnId;

    const HOME: Source = Source::V4([127, 0, 0, 1]);

    fn at(ms: u64) -> Mono {
        Mono(0).plus_ms(ms)
    }

    fn attempt(logins: &mut Logins, now: Mono, job: u32, password: &str, source: Source) -> Tried {
        let waits = (Asker { conn: ConnId(job), id: job.into() }, Then::Auth);
        logins.attempt(now, JobId(job), ("ann", password.as_bytes(), &[]), source, waits)
    }

    #[test]
    fn who_fails_waits_longer_each_time_and_is_forgiven() {
        let (mut logins, mut job, mut now, mut waits) = (Logins::new([1, 2]), 0, 0, Vec::new());
        for _ in 0..12 {
            job += 1;
            let tried = attempt(&mut logins, at(now), job, &job.to_string(), HOME);
            assert_eq!(tried == Tried::Delayed, logins.deadline().is_some());
            let begins = logins.deadline().unwrap_or(at(now));
            waits.push(begins.ms_since(at(now)));
            now += begins.ms_since(at(now));
            if tried == Tried::Delayed {
                assert_eq!(logins.take_due(at(now - 1)), None);
                assert_eq!(logins.take_due(at(now)), Some(JobId(job)));
            }
            assert!(logins.finish(at(now), JobId(job), false).is_some());
        }
        assert_eq!(waits, [0, 0, 0, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000]);
        let other = Source::of(Some("::1".parse().unwrap()));
        assert_eq!(attempt(&mut logins, at(now), 100, "x", other), Tried::Begun(JobId(100)), "nobody else waits");
        assert_eq!(attempt(&mut logins, at(now + 59_999), 101, "y", HOME), Tried::Delayed);
        logins.finish(at(now + 59_999), JobId(101), true);
        assert_eq!(attempt(&mut logins, at(now + 120_000), 102, "z", HOME), Tried::Begun(JobId(102)));
    }

    #[test]
    fn what_is_computed_at_once_has_bounds_and_the_same_is_computed_once() {
        let mut logins = Logins::new([1, 2]);
        assert_eq!(attempt(&mut logins, at(0), 0, "same", HOME), Tried::Begun(JobId(0)));
        (1..=10_000).for_each(|job| assert_eq!(attempt(&mut logins, at(0), job, "same", HOME), Tried::Joined));
        assert_eq!(logins.finish(at(0), JobId(0), true).map(|attempt| attempt.waiting.len()), Some(10_001));
        let mut begun = 0;
        for job in 20_000..30_000_u32 {
            let source = Source::V4((job / 1_000).to_be_bytes());
            if !logins.is_full_of(source) && attempt(&mut logins, at(0), job, &job.to_string(), source) != Tried::Full {
                begun += 1;
            }
        }
        assert_eq!((begun, logins.attempts.len()), (ATTEMPTS_MAX, ATTEMPTS_MAX));
        for source in 0..10_000_u32 {
            logins.knocks(at(source.into()), Source::V4(source.to_be_bytes()));
        }
        assert!(logins.sources.len() <= SOURCES_MAX);
        assert_eq!(logins.sources.values().map(|knocks| knocks.open).sum::<u32>() as usize, ATTEMPTS_MAX);
    }

    #[test]
    fn a_fingerprint_is_of_name_and_password() {
        let logins = Logins::new([1, 2]);
        assert_ne!(logins.fingerprint("ann", b"b"), logins.fingerprint("an", b"nb"));
        assert_ne!(logins.fingerprint("ann", b"b"), logins.fingerprint("ann", b"c"));
        assert_ne!(logins.fingerprint("ann", b"b"), Logins::new([2, 1]).fingerprint("ann", b"b"));
        assert_eq!(logins.fingerprint("ann", b"b"), logins.fingerprint("ann", b"b"));
    }
}
