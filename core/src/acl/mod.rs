//! Who may in, and what they may do there: users, their rights, logins. This is the manual of it.
//!
//! # Without a password
//!
//! A node that is told nothing has one user, `default`, who is on, needs no password, and may do everything. Everybody
//! is that one. Such a node listens on loopback only, unless it is told `--allow-unauthenticated`.
//!
//! # One password for all
//!
//! `simple-kv --password-file FILE`, or `SIMPLE_KV_PASSWORD` in the environment, gives the default user a password, as
//! `requirepass` does in Redis. No flag takes the password itself: `ps` shows flags to everybody on the machine. From
//! then on a client has to say it before anything else:
//!
//! | dialect | how |
//! |---|---|
//! | a line of text | `AUTH password`, or `AUTH user password` |
//! | the Redis protocol | the same, or `HELLO 3 AUTH user password`; `redis-cli -a password`, `--user name` |
//! | HTTP | `Authorization: Basic`, as a browser and `curl -u user:password` send it, or `Bearer` |
//!
//! Behind `Bearer` stands `user:password`, or the password of the default user alone. By HTTP each request says it.
//! `/healthz` and `/readyz` are open to everybody; the page at `/` has the browser ask.
//!
//! # Users
//!
//! `simple-kv --acl-file FILE` names a file that has a line for each user, as Redis writes them:
//!
//! ```text
//! user ann on #$argon2id$v=19$m=19456,t=2,p=1$... ~cart:* %R~price:* &cart +@all -@dangerous
//! user default off
//! ```
//!
//! A line may give a password as `>password`; `ACL SAVE` then writes its hash. The default user is off unless the
//! file says otherwise. `ACL SETUSER` changes users while the node runs, `ACL SAVE` writes them to the file, whole or
//! not at all, and `ACL LOAD` or SIGHUP reads it again, whole or not at all. The file is of one node and is not
//! replicated: who runs three nodes gives each of them the same file.
//!
//! Rules are applied from left to right:
//!
//! | rule | the user |
//! |---|---|
//! | `on`, `off` | may log in, or not; `off` ends the connections it has |
//! | `>password`, `<password` | has that password too, or no longer (1 to 512 bytes, at most 8 of them) |
//! | `#hash`, `!hash` | the same, of the hash of one |
//! | `nopass`, `resetpass` | needs no password; or has none that is right |
//! | `~pattern`, `%R~pattern`, `%W~pattern` | may use keys that match; only read them; only write them |
//! | `allkeys`, `resetkeys` | may use all keys, as `~*`; or none |
//! | `&pattern`, `allchannels`, `resetchannels` | the same of channels |
//! | `+command`, `-command`, `+command\|subcommand`, `-command\|subcommand` | may give a command, or not |
//! | `+@category`, `-@category` | the same of all in a category; `ACL CAT` shows them |
//! | `allcommands`, `nocommands` | the same of all, as `+@all`, `-@all` |
//! | `reset` | is as a new one: off, without anything |
//!
//! There are no selectors. Patterns are those of `KEYS`; a key against which one would take too long to be held does
//! not match.
//!
//! # What is checked when
//!
//! Rights are looked up once a command, in a set of bits, and its keys and channels are held against the user's
//! patterns; for a user who may do everything that is one branch. A command of a transaction is checked when it is put
//! off, which spoils the transaction, and again when it is run. As in Redis `KEYS`, `SCAN`, `RANDOMKEY` and `DBSIZE`
//! name and count keys that the user may not read, and `FLUSHALL` needs no keys: leave out `@dangerous` and `SCAN` of
//! who is not to know of them. `CONFLICTS` needs all keys. `GET /v1/watch` needs `GET` and a key pattern
//! that ends with its only `*` and covers the prefix.
//!
//! Changes apply to connections at once: they have the new rights with their next command, and end if their user is
//! gone or off (Redis lets those of one that is off go on), or if they have subscribed to what they may hear no more.
//!
//! # Logins
//!
//! Passwords are kept as argon2id hashes with OWASP's least parameters for it, 19 MiB, 2 passes, 1 lane: some 20 ms of
//! one processor, which makes a stolen file costly to guess from. More would make a node easier to keep busy, and all
//! of it is spent in memory that the data could have. They are computed on one thread besides the event loop, so
//! nobody waits for the login of another, and who fails waits longer each time; `Logins` says what bounds them. A
//! password that was right is known again by a keyed hash that never leaves the process, so ten thousand clients that
//! come back at once cost one computation. A name that nobody has costs as much as a wrong password.
//!
//! Who has not logged in may say `AUTH`, `HELLO`, `QUIT` and `RESET`, in 10 words and 16 KiB at the most, for 10
//! seconds.

mod file;
mod log;
mod logins;
mod phc;
mod rights;
mod user;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::boundary::{Action, ConnId, Effects};
use crate::config::Limits;
use crate::time::Mono;
pub(crate) use log::{Entry, Log};
pub(crate) use logins::{Fingerprint, Source, Then};
use logins::{Logins, Tried};
pub(crate) use rights::{Access, Denied};
use user::PASSWORD_BYTES_MAX;
pub(crate) use user::{NAME_BYTES_MAX, RuleError, User};

/// The user that everybody is who has not logged in as another.
pub(crate) const DEFAULT: &str = "default";

/// Users of one node.
const USERS_MAX: usize = 4_096;

/// Words of a request of somebody who has not logged in, ...
pub(crate) const STRANGER_ARGS_MAX: usize = 10;
/// ... its length, ...
const STRANGER_REQUEST_BYTES_MAX: usize = 16 << 10;
/// ... what may be kept of what comes behind it, ...
pub(crate) const STRANGER_BUFFER_BYTES_MAX: usize = 64 << 10;
/// ... and how long it may take until they have.
pub(crate) const STRANGER_MS_MAX: u64 = 10_000;

/// The limits of who has not logged in.
pub(crate) fn stranger_limits(limits: &Limits) -> Limits {
    let bytes_max = STRANGER_REQUEST_BYTES_MAX;
    Limits {
        args_max: STRANGER_ARGS_MAX,
        line_bytes_max: limits.line_bytes_max.min(bytes_max),
        request_bytes_max: limits.request_bytes_max.min(bytes_max),
        value_bytes_max: limits.value_bytes_max.min(bytes_max),
        ..limits.clone()
    }
}

/// Something that a driver is to do for a node besides its turns, and to answer with
/// [`job_done`](crate::Turn::job_done).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u32);

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job<'a> {
    /// Find out whose password it is.
    Verify {
        /// As a client gave it.
        password: &'a [u8],
        /// Argon2id hashes in their text form. None: a hash is to be computed all the same, as that takes as long.
        hashes: &'a [Box<str>],
    },
    /// Hash a password, with a new salt, into the text form.
    Hash {
        /// As a client gave it.
        password: &'a [u8],
    },
    /// Read the ACL file.
    Load,
    /// Put this into the ACL file, whole or not at all.
    Save {
        /// All of the file.
        text: &'a [u8],
    },
}

/// What came of a job.
#[derive(Clone, Copy, Debug)]
pub enum JobDone<'a> {
    /// A bit for each of the hashes of [`Job::Verify`] that the password is of, the first the lowest.
    Verified(u8),
    /// What [`Job::Hash`] asked for.
    Hashed(&'a str),
    /// The file, or why it cannot be read.
    Loaded(Result<&'a [u8], &'a str>),
    /// It is on the disk, or why it is not.
    Saved(Result<(), &'a str>),
}

/// A connection, whatever is called as it is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) conn: ConnId,
    /// Of its seat, which no other one ever has.
    pub(crate) id: u64,
}

/// What `ACL SETUSER` asks for; its passwords are hashed one after the other.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) asker: Asker,
    name: Box<str>,
    rules: Vec<Box<[u8]>>,
    /// The rule whose password is being hashed, and those that it may be of.
    at: usize,
    hashes: Vec<Box<str>>,
}

/// A job that is not about a login.
#[derive(Debug)]
enum Chore {
    Edit(Edit),
    /// Nobody asks for what a signal does.
    Load(Option<Asker>),
    Save(Asker, Vec<u8>),
}

/// A user, and which of its passwords were right before.
#[derive(Debug)]
struct Account {
    user: Arc<User>,
    proofs: Vec<(Box<str>, Fingerprint)>,
}

/// Everything about it.
#[derive(Debug)]
pub(crate) struct Acl {
    accounts: BTreeMap<Box<str>, Account>,
    /// The default user, whom who connects is at once, unless that one has a password or is off.
    newcomers: Access,
    logins: Logins,
    chores: BTreeMap<JobId, Chore>,
    next_job: u32,
    pub(crate) log: Log,
    pub(crate) has_file: bool,
    /// For passwords that are made up here.
    secret: [u64; 2],
    made_up: u64,
}

/// What becomes of an attempt to log in.
#[derive(Debug)]
pub(crate) enum Login {
    In(Access),
    /// Nobody here has a password, and this one needs none.
    Wrong,
    /// It will be known later.
    Waits,
    /// Too many are being computed.
    Busy,
}

/// What came of an attempt, for those who wait for that.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: Box<str>,
    pub(crate) access: Option<Access>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) waiting: Vec<(Asker, Then)>,
}

/// What came of a change of users.
#[derive(Debug)]
pub(crate) enum Changed {
    /// It is done; connections are to know.
    Now,
    /// A password is being hashed.
    Later,
    /// Nothing has changed; which rule is none, and why.
    Wrong(Box<[u8]>, RuleError),
    /// Nothing has changed: there are as many users as may be.
    Full,
}

impl Acl {
    /// One user who may do everything.
    pub(crate) fn new(seed: [u64; 4]) -> Self {
        // None of what else is drawn from the seed tells anything of these.
        let draw = |what: u64| {
            let mut hasher = SipHasher24::new_with_keys(seed[0] ^ seed[2].rotate_left(17), seed[1] ^ seed[3]);
            seed.iter().for_each(|word| hasher.write_u64(*word));
            hasher.write_u64(what);
            let drawn = hasher.finish128();
            [drawn.h1, drawn.h2]
        };
        let mut acl = Self {
            accounts: BTreeMap::new(),
            newcomers: Access::default(),
            logins: Logins::new(draw(1)),
            chores: BTreeMap::new(),
            next_job: 0,
            log: Log::default(),
            has_file: false,
            secret: draw(2),
            made_up: 0,
        };
        acl.put(User::default_user());
        acl
    }

    /// Who somebody is that has just connected, or has said `RESET`.
    pub(crate) const fn newcomers(&self) -> &Access {
        &self.newcomers
    }

    pub(crate) fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        Some(&self.accounts.get(std::str::from_utf8(name).ok()?)?.user)
    }

    pub(crate) fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.accounts.values().map(|account| &account.user)
    }

    /// Whether the default user needs no password to be.
    pub(crate) fn has_open_default(&self) -> bool {
        self.user(DEFAULT.as_bytes()).is_some_and(|user| user.is_open)
    }

    fn put(&mut self, user: User) {
        let user = Arc::new(user);
        let account = self.accounts.entry(user.name.clone());
        let account = account.or_insert_with(|| Account { user: Arc::clone(&user), proofs: Vec::new() });
        account.proofs.retain(|(hash, _)| user.hashes.contains(hash));
        account.user = Arc::clone(&user);
        if *user.name == *DEFAULT {
            self.newcomers = if user.is_on && user.is_open { Access::of(&user) } else { Access::default() };
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| name != DEFAULT && self.accounts.remove(name).is_some())
    }

    /// Takes the users that a file has in place of those that are there.
    pub(crate) fn load(&mut self, text: &[u8]) -> Result<(), String> {
        let users = file::parse(text)?;
        self.accounts.retain(|name, _| users.contains_key(name));
        users.into_values().for_each(|user| self.put(Arc::unwrap_or_clone(user)));
        Ok(())
    }

    /// What a file is to have.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for user in self.users() {
            text.extend_from_slice(&user.line());
            text.push(b'\n');
        }
        text
    }

    /// The default user has this password, which is hashed, and no other.
    pub(crate) fn lock(&mut self, hash: &str) -> Result<(), RuleError> {
        let mut user = User::clone(self.user(DEFAULT.as_bytes()).unwrap_or(&Arc::new(User::default_user())));
        user.apply(b"resetpass")?;
        user.apply(&[b"#", hash.as_bytes()].concat())?;
        self.put(user);
        Ok(())
    }

    fn new_job(&mut self) -> JobId {
        self.next_job = self.next_job.wrapping_add(1);
        JobId(self.next_job)
    }

    pub(crate) fn fingerprint(&self, name: &str, password: &[u8]) -> Fingerprint {
        self.logins.fingerprint(name, password)
    }

    /// Whether that was the password of a user who may log in, and still is.
    pub(crate) fn recall(&self, name: &str, fingerprint: Fingerprint) -> Option<Access> {
        let Account { user, proofs } = self.accounts.get(name)?;
        let is_right = user.is_open || proofs.iter().any(|(_, proof)| *proof == fingerprint);
        (user.is_on && is_right).then(|| Access::of(user))
    }

    /// Tries to log in.
    pub(crate) fn log_in(
        &mut self,
        now: Mono,
        (name, password): (&[u8], &[u8]),
        source: Source,
        (asker, then): (Asker, Then),
        effects: &mut Effects,
    ) -> Login {
        if self.logins.is_full_of(source) {
            return Login::Busy;
        }
        // Nobody is called so, but that is not told any sooner than of others.
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_BYTES_MAX).unwrap_or("");
        let password = &password[..password.len().min(PASSWORD_BYTES_MAX + 1)];
        let fingerprint = self.fingerprint(name, password);
        if let Some(access) = self.recall(name, fingerprint) {
            return Login::In(access);
        }
        if self.users().all(|user| user.hashes.is_empty()) {
            return Login::Wrong;
        }
        let hashes = match self.accounts.get(name) {
            Some(Account { user, .. }) if user.is_on => user.hashes.clone(),
            _ => Vec::new(),
        };
        let job = self.new_job();
        match self.logins.attempt(now, job, (name, password, &hashes), source, (asker, then)) {
            Tried::Begun(job) => effects.actions.push(Action::Job { job }),
            Tried::Delayed | Tried::Joined => {}
            Tried::Full => return Login::Busy,
        }
        Login::Waits
    }

    /// When an attempt is to be begun that had to wait.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.logins.deadline()
    }

    pub(crate) fn tick(&mut self, now: Mono, effects: &mut Effects) {
        while let Some(job) = self.logins.take_due(now) {
            effects.actions.push(Action::Job { job });
        }
    }

    /// What the driver is to do.
    pub(crate) fn job(&self, job: JobId) -> Option<Job<'_>> {
        if let Some(attempt) = self.logins.get(job) {
            return Some(Job::Verify { password: &attempt.password, hashes: &attempt.hashes });
        }
        Some(match self.chores.get(&job)? {
            Chore::Edit(edit) => match *edit.rules[edit.at] {
                [b'<', ref password @ ..] => Job::Verify { password, hashes: &edit.hashes },
                ref rule => Job::Hash { password: rule.get(1..).unwrap_or_default() },
            },
            Chore::Load(_) => Job::Load,
            Chore::Save(_, text) => Job::Save { text },
        })
    }

    /// Ends an attempt to log in; none if `job` is none.
    pub(crate) fn verified(&mut self, now: Mono, job: JobId, matches: u8) -> Option<Verdict> {
        let hashes = &self.logins.get(job)?.hashes;
        let hash = hashes.iter().enumerate().find(|(at, _)| matches >> at & 1 == 1).map(|(_, hash)| hash.clone());
        // It may have been changed meanwhile.
        let account = self.logins.get(job).and_then(|attempt| self.accounts.get_mut(&attempt.name));
        let account = account.filter(|account| account.user.is_on);
        let right = account.zip(hash).filter(|(account, hash)| account.user.hashes.contains(hash));
        let attempt = self.logins.finish(now, job, right.is_some())?;
        let access = right.map(|(account, hash)| {
            account.proofs.retain(|(of, _)| *of != hash);
            account.proofs.push((hash, attempt.fingerprint));
            Access::of(&account.user)
        });
        let logins::Attempt { name, fingerprint, waiting, .. } = attempt;
        Some(Verdict { name, access, fingerprint, waiting })
    }

    /// Changes a user, or makes one.
    pub(crate) fn edit(&mut self, asker: Asker, name: &str, rules: Vec<Box<[u8]>>, effects: &mut Effects) -> Changed {
        self.go_on(Edit { asker, name: name.into(), rules, at: 0, hashes: Vec::new() }, effects)
    }

    /// Applies all rules, or has the next password hashed that one of them has.
    fn go_on(&mut self, mut edit: Edit, effects: &mut Effects) -> Changed {
        let before = self.accounts.get(&edit.name).map(|account| &account.user);
        let mut user = before.map_or_else(|| User::new(&edit.name), |user| User::clone(user));
        if before.is_none() && self.accounts.len() >= USERS_MAX {
            return Changed::Full;
        }
        let mut next = None;
        for (at, rule) in edit.rules.iter().enumerate() {
            let applied = match **rule {
                [b'>' | b'<', ref password @ ..] => {
                    next = next.or_else(|| Some((at, user.hashes.clone())));
                    let is_one = (1..=PASSWORD_BYTES_MAX).contains(&password.len());
                    if is_one { Ok(()) } else { Err(RuleError::BadPassword) }
                }
                _ => user.apply(rule),
            };
            if let Err(why) = applied {
                return Changed::Wrong(rule.clone(), why);
            }
        }
        match next {
            None => {
                self.put(user);
                Changed::Now
            }
            Some((at, hashes)) => {
                (edit.at, edit.hashes) = (at, hashes);
                self.begin(Chore::Edit(edit), effects);
                Changed::Later
            }
        }
    }

    /// Goes on with a change, of which a password is hashed or found; who asked, whom it is of, and what came of it.
    pub(crate) fn edited(
        &mut self,
        job: JobId,
        done: &JobDone<'_>,
        effects: &mut Effects,
    ) -> Option<(Asker, Box<str>, Changed)> {
        let is_edit = matches!(self.chores.get(&job), Some(Chore::Edit(_)));
        let Some(Chore::Edit(mut edit)) = is_edit.then(|| self.chores.remove(&job)).flatten() else { return None };
        let (asker, name, at) = (edit.asker, edit.name.clone(), edit.at);
        let hashed: Vec<Box<[u8]>> = match *done {
            JobDone::Hashed(hash) => vec![[b"#", hash.as_bytes()].concat().into()],
            JobDone::Verified(matches) => {
                let matched = edit.hashes.iter().enumerate().filter(|(at, _)| matches >> at & 1 == 1);
                matched.map(|(_, hash)| [b"!", hash.as_bytes()].concat().into()).collect()
            }
            JobDone::Loaded(_) | JobDone::Saved(_) => Vec::new(),
        };
        if hashed.is_empty() {
            return Some((asker, name, Changed::Wrong(edit.rules.swap_remove(at), RuleError::NoSuchPassword)));
        }
        edit.rules.splice(at..=at, hashed);
        Some((asker, name, self.go_on(edit, effects)))
    }

    /// Has the driver read the file, or write it.
    pub(crate) fn begin_load(&mut self, asker: Option<Asker>, effects: &mut Effects) {
        self.begin(Chore::Load(asker), effects);
    }

    pub(crate) fn begin_save(&mut self, asker: Asker, effects: &mut Effects) {
        let text = self.text();
        self.begin(Chore::Save(asker, text), effects);
    }

    fn begin(&mut self, chore: Chore, effects: &mut Effects) {
        let job = self.new_job();
        self.chores.insert(job, chore);
        effects.actions.push(Action::Job { job });
    }

    /// Ends the reading or the writing of the file; who asked for it, if anybody waits for that. None: `job` is
    /// another.
    pub(crate) fn filed(&mut self, job: JobId) -> Option<Option<Asker>> {
        Some(match self.chores.remove(&job)? {
            Chore::Load(asker) => asker,
            Chore::Save(asker, _) => Some(asker),
            Chore::Edit(edit) => Some(edit.asker),
        })
    }

    /// A password of so many bits that nobody else knows, in hexadecimal digits.
    pub(crate) fn make_up(&mut self, bits: usize) -> String {
        let digits = bits.div_ceil(4);
        let mut text = String::new();
        while text.len() < digits {
            let mut hasher = SipHasher24::new_with_keys(self.secret[0], self.secret[1]);
            hasher.write_u64(self.made_up);
            self.made_up += 1;
            text.push_str(&format!("{:032x}", hasher.finish128().as_u128()));
        }
        text.truncate(digits);
        text
    }
}

/// Whether whoever connects to a node with this ACL file is somebody without a password; or what is wrong with the
/// file, in one line.
pub fn lets_in_strangers(file: &[u8]) -> Result<bool, String> {
    let users = file::parse(file)?;
    Ok(users.get(DEFAULT).is_some_and(|user| user.is_on && user.is_open))
}

/// A name that a user may have.
pub(crate) fn check_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let is_one = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    (is_one && !name.chars().any(|letter| letter.is_whitespace() || letter.is_control())).then_some(name)
}

/// Why words would not be run of that user.
pub(crate) fn would_deny<'a>(
    user: &User,
    verb: crate::commands::Verb,
    command: Option<&crate::command::Command<'a>>,
    words: crate::wire::words::Words<'a>,
) -> Option<Denied<'a>> {
    rights::denies(user, verb, command, words)
}
