//! What a service manager is told that waits for it: that the node serves, how it is, that it still turns its loop, and
//! that it stops (`sd_notify(3)`).
//!
//! Each is a datagram of lines to the socket that the manager named. Sending never blocks: no client waits for a
//! manager that is busy, and what it did not take is said again with the next look. (That is why it is done here: the
//! crates for it block.) The variables stay in the environment, as a node starts no process that could take them for
//! its own.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use kv_core::{Mono, Now, Turn};
use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

use crate::client::plain;

/// Between two looks at what is to be told.
const LOOK_MS: u64 = 1_000;
/// While data is loaded, and while the node stops, the manager is asked at each look to be patient for so long.
const PATIENCE_US: u64 = 30_000_000;

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub(crate) struct Notifier(Option<Manager>);

/// A service manager that wants to be told.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it is to hear that the loop turns, in milliseconds, and when it is next.
    watchdog: Option<(u64, Mono)>,
    stage: Stage,
    /// What it was told last of how the node is.
    status: String,
    look: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits to hear that the node serves.
    Starting,
    Serving,
    Stopping,
}

impl Notifier {
    /// For the manager that the environment names.
    pub(crate) fn from_env() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog_ms = watchdog_ms(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        match Manager::new(&path, watchdog_ms) {
            Ok(manager) => Self(Some(manager)),
            Err(error) => {
                warn!(socket = ?path, %error, "the service manager cannot be told anything");
                Self(None)
            }
        }
    }

    /// When [`turned`](Self::turned) is to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let Manager { watchdog, look, .. } = self.0.as_ref()?;
        Some(watchdog.map_or(*look, |(_, next)| next.min(*look)))
    }

    /// The loop has turned.
    pub(crate) fn turned(&mut self, now: Now, turn: &Turn) {
        if let Some(manager) = &mut self.0 {
            manager.turned(now, turn);
        }
    }

    /// The options are about to be read again.
    pub(crate) fn reloading(&self) {
        if let Some(manager) = &self.0 {
            let now = clock_gettime(ClockId::Monotonic);
            // What the manager compares with its own clock, which is this one.
            manager.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}{:06}", now.tv_sec, now.tv_nsec / 1_000));
        }
    }

    /// They were.
    pub(crate) fn reloaded(&self) {
        if let Some(manager) = self.0.as_ref().filter(|manager| manager.stage == Stage::Serving) {
            manager.tell("READY=1");
        }
    }

    /// The node is about to stop.
    pub(crate) fn stopping(&mut self) {
        if let Some(manager) = &mut self.0 {
            manager.stage = Stage::Stopping;
            manager.look = Mono(0);
            manager.tell("STOPPING=1");
        }
    }
}

impl Manager {
    fn new(path: &OsStr, watchdog_ms: Option<u64>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let watchdog = watchdog_ms.map(|ms| (ms, Mono(0)));
        let (address, status) = (address(path)?, String::new());
        Ok(Self { socket, address, watchdog, stage: Stage::Starting, status, look: Mono(0) })
    }

    fn turned(&mut self, now: Now, turn: &Turn) {
        if let Some((ms, next)) = &mut self.watchdog
            && *next <= now.mono
        {
            *next = now.mono.plus_ms(*ms);
            self.tell("WATCHDOG=1");
        }
        let node = turn.node();
        let serves = node.load_progress().is_none() && node.load_failure().is_none();
        if self.stage == Stage::Starting && serves && self.tell("READY=1") {
            self.stage = Stage::Serving;
            self.look = now.mono;
        }
        if self.look > now.mono {
            return;
        }
        self.look = now.mono.plus_ms(LOOK_MS);
        if self.stage != Stage::Serving {
            self.tell(&format!("EXTEND_TIMEOUT_USEC={PATIENCE_US}"));
        }
        let reasons: Vec<String> = node.not_ready(now).iter().map(|reason| plain(reason.text.as_bytes())).collect();
        let status = if reasons.is_empty() { "ready".to_owned() } else { format!("not ready: {}", reasons.join("; ")) };
        if status != self.status && self.tell(&format!("STATUS={status}")) {
            self.status = status;
        }
    }

    /// Whether it was taken.
    fn tell(&self, text: &str) -> bool {
        let told = self.socket.send_to_addr(format!("{text}\n").as_bytes(), &self.address);
        if let Err(error) = &told {
            debug!(%error, text, "the service manager was not told");
        }
        told.is_ok()
    }
}

/// A path, or behind an `@` the name of what has none.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => SocketAddr::from_pathname(path),
    }
}

/// Half of the time after which the manager takes a process for dead that it hears nothing of, in milliseconds; if it
/// is this process that it asks.
fn watchdog_ms(usec: Option<String>, pid: Option<String>) -> Option<u64> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0 && is_ours)?;
    Some((usec / 2_000).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_who_is_asked() {
        let pid = || Some(std::process::id().to_string());
        let ms = |usec: &str, pid| watchdog_ms(Some(usec.to_owned()), pid);
        assert_eq!((ms("30000000", pid()), ms("30000000", None)), (Some(15_000), Some(15_000)));
        assert_eq!((ms("1", pid()), ms("0", pid()), ms("soon", pid())), (Some(1), None, None));
        assert_eq!((ms("30000000", Some("0".to_owned())), watchdog_ms(None, pid())), (None, None));
    }

    #[test]
    fn a_manager_that_takes_nothing_holds_nothing_up() {
        let path = std::env::temp_dir().join(format!("simple-kv-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::new(path.as_os_str(), None).unwrap();
        let taken = (0..100_000).take_while(|_| manager.tell("STATUS=ready")).count();
        assert!(taken > 0 && taken < 100_000, "the queue of a socket is bounded");
        drop(socket);
        assert!(!manager.tell("STATUS=ready"), "nobody is there");
        std::fs::remove_file(path).unwrap();
    }
}
