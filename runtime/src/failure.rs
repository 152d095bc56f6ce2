//! Why the program ends without having served to the end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Each prints as one line that says what happened and what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// `--help` or `--version`: the answer stands on stdout and nothing failed.
    Told,
    /// What is wrong stands on stdout.
    Shown,
    /// The command line or the environment asks for something that cannot be.
    Usage(String),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The data directory cannot be used: what could not be done, and why.
    Directory(PathBuf, &'static str, io::Error),
    /// Another process has the data directory.
    DirectoryInUse(PathBuf),
    /// What stands in the data directory is not to be loaded.
    Load(PathBuf, String),
    /// Files were read, and not all of what they are to hold can be: says what.
    Damaged(String),
    /// A file besides the data directory's cannot be used: what could not be done, and why.
    File(PathBuf, &'static str, io::Error),
    /// A server cannot be connected to.
    Connect(String, io::Error),
    /// A server that was to be measured did this instead of answering all that it was asked.
    Server(String, String),
    /// The operating system refused something else.
    System(&'static str, io::Error),
}

/// Something went wrong at run time.
const EXIT_RUNTIME: u8 = 1;
/// The command line was wrong.
const EXIT_USAGE: u8 = 2;

impl Failure {
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Told => 0,
            Self::Usage(_) => EXIT_USAGE,
            Self::Shown
            | Self::Listen(..)
            | Self::Directory(..)
            | Self::DirectoryInUse(_)
            | Self::Load(..)
            | Self::Damaged(_)
            | Self::File(..)
            | Self::Connect(..)
            | Self::Server(..)
            | Self::System(..) => EXIT_RUNTIME,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told | Self::Shown => Ok(()),
            Self::Usage(message) => write!(f, "{message}; try 'simple-kv --help'"),
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: ")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "the port is in use; stop the process that has it, or choose another, as in 'simple-kv {}'",
                        address.port().checked_add(1).unwrap_or(8080)
                    ),
                    io::ErrorKind::PermissionDenied => write!(f, "not permitted; choose a port above 1023"),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "this machine has no such address; give --listen one that it has")
                    }
                    _ => write!(f, "{error}"),
                }
            }
            Self::Directory(path, what, error) => {
                write!(f, "cannot use the data directory {}: cannot {what}: {error}", path.display())
            }
            Self::DirectoryInUse(path) => write!(
                f,
                "cannot use the data directory {}: another process has it; stop that one, or give this one a directory \
                 of its own with --data-dir",
                path.display()
            ),
            Self::Load(path, why) => write!(f, "cannot load the data directory {}: {why}", path.display()),
            Self::Damaged(what) => f.write_str(what),
            Self::File(path, what, error) => write!(f, "cannot {what} {}: {error}", path.display()),
            Self::Connect(server, error) => {
                write!(f, "cannot connect to {server}: ")?;
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => {
                        write!(f, "nobody listens there; start a server, as in 'simple-kv 8080', or name another")
                    }
                    io::ErrorKind::TimedOut => write!(f, "it does not answer; see that it runs, and can be reached"),
                    _ => write!(f, "{error}"),
                }
            }
            Self::Server(server, what) => write!(f, "{server} {what}"),
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}
