//! Users and passwords: where they come from, and the thread that computes what they are held against.
//!
//! Hashes are argon2id with the least parameters that OWASP names for it, 19 MiB, 2 passes, 1 lane: `kv_core`'s manual
//! of users says why no more. One thread computes them one after the other, and reads and writes the ACL file, so that
//! a flood of logins takes one processor and 19 MiB at the most, and the event loop none of it. The node bounds what
//! waits for the thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use clap::Args;
use kv_core::{Job, JobDone, JobId, Turn};
use mio::Waker;
use rustix::rand::{GetRandomFlags, getrandom};
use tracing::{info, warn};

use crate::directory::sync_parent;
use crate::failure::Failure;
use crate::secret::{check_private, read_secret_file};

/// Gives the default user's password itself: the environment of a process is its owner's to read, its flags are
/// everybody's.
const PASSWORD_VARIABLE: &str = "SIMPLE_KV_PASSWORD";

/// Longest file of users.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest password that the core takes.
const PASSWORD_BYTES_MAX: usize = 512;

/// What is hashed into a password, so that the same one twice is not the same hash.
const SALT_BYTES: usize = 16;

/// Who may in.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AccessOptions {
    /// File that holds the password of the default user, which clients then have to give, and which is read again on
    /// SIGHUP; or set SIMPLE_KV_PASSWORD to the password itself
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_PASSWORD_FILE", conflicts_with = "acl_file")]
    pub(crate) password_file: Option<PathBuf>,

    /// File of users and their rights, a line for each as in Redis; the default user is off unless it has one
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_ACL_FILE")]
    pub(crate) acl_file: Option<PathBuf>,
}

/// What the options come to.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody may do everything.
    Open,
    /// The default user has a password, of which this is the hash.
    Locked(String),
    /// There is a file with these users.
    Users(PathBuf, Vec<u8>),
}

impl Access {
    /// Reads what the options and the environment name.
    pub(crate) fn prepare(options: &AccessOptions) -> Result<Self, Failure> {
        let given = std::env::var_os(PASSWORD_VARIABLE).filter(|given| !given.is_empty());
        if let Some(given) = given {
            if options.password_file.is_some() || options.acl_file.is_some() {
                let text = format!("{PASSWORD_VARIABLE} is set beside --password-file or --acl-file; give one of them");
                return Err(Failure::Usage(text));
            }
            return hash_of_password(given.as_encoded_bytes()).map(Self::Locked);
        }
        if let Some(path) = &options.password_file {
            return hash_of_password(&read_secret_file(path)?).map(Self::Locked);
        }
        let Some(path) = &options.acl_file else { return Ok(Self::Open) };
        let failed = |error| Failure::File(path.clone(), "read the ACL file", error);
        let text = read(path).and_then(|text| with_hashes(&text)).map_err(failed)?;
        kv_core::lets_in_strangers(&text).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self::Users(path.clone(), text))
    }

    /// Whether whoever connects may do something without a password.
    pub(crate) fn lets_in_strangers(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Locked(_) => false,
            Self::Users(_, text) => kv_core::lets_in_strangers(text) != Ok(false),
        }
    }

    /// Has a node, before its first turn, let in nobody else.
    pub(crate) fn apply(self, turn: &mut Turn) -> Result<Option<PathBuf>, Failure> {
        match self {
            Self::Open => Ok(None),
            Self::Locked(hash) if turn.lock(&hash) => Ok(None),
            Self::Locked(_) => Err(Failure::System("lock the node", io::Error::other("the hash is none"))),
            Self::Users(path, text) => match turn.load_users(&text) {
                Ok(()) => Ok(Some(path)),
                Err(error) => Err(Failure::File(path, "read the ACL file", io::Error::other(error))),
            },
        }
    }
}

fn hash_of_password(password: &[u8]) -> Result<String, Failure> {
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        let text = format!("the password of the default user has to have 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(Failure::Usage(text));
    }
    hash(password).map_err(|error| Failure::System("hash the password", error))
}

/// Reads a file of users, which is for nobody else.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    check_private(&file, path)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// A file of users in which each `>password` is the hash of it.
fn with_hashes(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut hashed = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let is_user = line.trim_ascii_start().starts_with(b"user");
        for word in line.split_inclusive(u8::is_ascii_whitespace) {
            match word.strip_prefix(b">").map(<[u8]>::trim_ascii_end) {
                Some(password) if is_user && (1..=PASSWORD_BYTES_MAX).contains(&password.len()) => {
                    hashed.push(b'#');
                    hashed.extend_from_slice(hash(password)?.as_bytes());
                    hashed.extend_from_slice(&word[1 + password.len()..]);
                }
                _ => hashed.extend_from_slice(word),
            }
        }
    }
    Ok(hashed)
}

/// Puts `text` where the file is, whole or not at all: what is there until then stays, whatever crashes.
fn save(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    sync_parent(path)
}

fn hash(password: &[u8]) -> io::Result<String> {
    let mut salt = [0; SALT_BYTES];
    let filled = getrandom(&mut salt, GetRandomFlags::empty())?;
    if filled < salt.len() {
        return Err(io::Error::other("the system has no randomness"));
    }
    hash_with(password, &salt)
}

fn hash_with(password: &[u8], salt: &[u8]) -> io::Result<String> {
    let hashed = Argon2::default().hash_password_with_salt(password, salt);
    hashed.map(|hash| hash.to_string()).map_err(|error| io::Error::other(error.to_string()))
}

/// Which of the hashes a password is of, a bit for each. All are tried, so that the time tells nothing; and where there
/// are none as much is computed as for one.
fn verify(password: &[u8], hashes: &[String]) -> u8 {
    if hashes.is_empty() {
        let _ = hash_with(password, &[0; SALT_BYTES]);
    }
    let tried = hashes
        .iter()
        .enumerate()
        .filter(|(_, hash)| Argon2::default().verify_password(password, hash.as_str()).is_ok());
    tried.fold(0, |matches, (at, _)| matches | 1_u8.checked_shl(at as u32).unwrap_or(0))
}

/// A [`Job`] of its own, or the driver's.
#[derive(Debug)]
enum Work {
    /// The password in this file is read again.
    Password(PathBuf),
    Verify(Vec<u8>, Vec<String>),
    Hash(Vec<u8>),
    Load,
    Save(Vec<u8>),
}

/// A [`JobDone`] of its own.
#[derive(Debug)]
enum Done {
    /// The hash of that password.
    Password(Result<String, Failure>),
    Verified(u8),
    Hashed(String),
    Loaded(Result<Vec<u8>, String>),
    Saved(Result<(), String>),
}

/// The thread, as the event loop sees it.
#[derive(Debug)]
pub(crate) struct AccessWorker {
    work: Sender<(Option<JobId>, Work)>,
    done: Receiver<(Option<JobId>, Done)>,
}

impl AccessWorker {
    /// Starts it. `file` is that of the users, if there is one; `waker` is called when something is to be
    /// [told](Self::tell).
    pub(crate) fn start(file: Option<PathBuf>, waker: Arc<Waker>) -> io::Result<Self> {
        let (work, works) = channel::<(Option<JobId>, Work)>();
        let (tells, done) = channel();
        thread::Builder::new().name("access".to_owned()).spawn(move || {
            for (job, work) in works {
                if tells.send((job, carry_out(work, file.as_deref()))).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { work, done })
    }

    /// Hands over what the node wants done.
    pub(crate) fn hand_over(&self, turn: &mut Turn) {
        while let Some(job) = turn.take_job() {
            let work = match turn.job(job) {
                Some(Job::Verify { password, hashes }) => {
                    Work::Verify(password.to_vec(), hashes.iter().map(|hash| hash.to_string()).collect())
                }
                Some(Job::Hash { password }) => Work::Hash(password.to_vec()),
                Some(Job::Load) => Work::Load,
                Some(Job::Save { text }) => Work::Save(text.to_vec()),
                None => continue,
            };
            // It ends with the process.
            let _ = self.work.send((Some(job), work));
        }
    }

    /// Has the password of the default user read again from a file, and taken in the place of the one that it has. Who
    /// is logged in stays. If the file is of no use, nothing changes.
    pub(crate) fn reload_password(&self, path: PathBuf) {
        let _ = self.work.send((None, Work::Password(path)));
    }

    /// Tells the node what was done.
    pub(crate) fn tell(&self, turn: &mut Turn) {
        while let Ok((job, done)) = self.done.try_recv() {
            let done = match &done {
                Done::Password(read) => {
                    take_password(turn, read);
                    continue;
                }
                Done::Verified(matches) => JobDone::Verified(*matches),
                Done::Hashed(hash) => JobDone::Hashed(hash),
                Done::Loaded(read) => JobDone::Loaded(read.as_deref().map_err(String::as_str)),
                Done::Saved(saved) => JobDone::Saved(saved.as_ref().copied().map_err(String::as_str)),
            };
            if let Some(job) = job {
                turn.job_done(job, &done);
            }
        }
    }
}

fn take_password(turn: &mut Turn, read: &Result<String, Failure>) {
    match read {
        Ok(hash) if turn.lock(hash) => info!("read the password again; who logs in from now on has to give it"),
        Ok(_) => warn!("the password stays as it was: its hash is none"),
        Err(failure) => warn!("the password stays as it was: {failure}"),
    }
}

fn carry_out(work: Work, file: Option<&Path>) -> Done {
    let Some(file) = file else {
        return match work {
            Work::Password(path) => {
                Done::Password(read_secret_file(&path).and_then(|password| hash_of_password(&password)))
            }
            Work::Verify(password, hashes) => Done::Verified(verify(&password, &hashes)),
            // What is no hash is refused by the node.
            Work::Hash(password) => Done::Hashed(hash(&password).unwrap_or_default()),
            Work::Load => Done::Loaded(Err("there is no ACL file".to_owned())),
            Work::Save(_) => Done::Saved(Err("there is no ACL file".to_owned())),
        };
    };
    let told = |what: &str, error: io::Error| format!("cannot {what} the ACL file {}: {error}", file.display());
    match work {
        Work::Load => Done::Loaded(read(file).and_then(|text| with_hashes(&text)).map_err(|error| told("read", error))),
        Work::Save(text) => Done::Saved(save(file, &text).map_err(|error| told("write", error))),
        other => carry_out(other, None),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::directory::tests::TestDirectory;

    #[test]
    fn a_password_is_right_for_its_hashes_and_for_no_other() {
        let [one, two] = ["one", "two"].map(|password| hash(password.as_bytes()).unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, hash(b"one").unwrap(), "the salt is another each time");
        let hashes = [one.clone(), two, one, "no hash".to_owned()];
        for (password, matches) in [("one", 0b101), ("two", 0b010), ("three", 0), ("", 0)] {
            assert_eq!(verify(password.as_bytes(), &hashes), matches, "{password}");
        }
        assert_eq!(verify(b"one", &[]), 0);
    }

    #[test]
    fn passwords_in_a_file_are_hashed_where_they_stand() {
        let text = b"# >not this\nuser ann on >secret ~* \t>other\r\n\nuser bob off\n";
        let hashed = String::from_utf8(with_hashes(text).unwrap()).unwrap();
        assert!(!hashed.contains("secret") && !hashed.contains("other"), "{hashed}");
        assert!(hashed.starts_with("# >not this\nuser ann on #$argon2id$"), "{hashed}");
        assert!(hashed.ends_with("\r\n\nuser bob off\n") && hashed.contains(" ~* \t#$argon2id$"), "{hashed}");
        assert_eq!(kv_core::lets_in_strangers(hashed.as_bytes()), Ok(false));
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_for_its_owner_alone() {
        let directory = TestDirectory::new();
        let path = directory.path().join("users");
        for text in ["user ann on\n", ""] {
            save(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(directory.names(), ["users"]);
        }
        let nowhere = directory.path().join("none/users");
        assert!(save(&nowhere, b"x").is_err() && read(&nowhere).is_err());
        save(&path, &vec![b'\n'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("1 MiB"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
