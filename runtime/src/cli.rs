//! The command line: `simple-kv [PORT] [PEER,PEER...]` and flags, each of which the environment can give too.

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kv_core::{ABSENCE_S, CLIENTS, DiskConfig, Fsync, Limits, SNAPSHOT_RATIO_PERCENT, VALUE_BYTES};

use crate::access::AccessOptions;
use crate::bench::{self, BenchOptions};
use crate::configuration::{self, Configuration, Sources};
use crate::failure::Failure;
use crate::peers::PeerOptions;
use crate::prompt;
use crate::prompt::cli::CliOptions;
use crate::prompt::demo::DemoOptions;
use crate::prompt::paint::ColorOption;
use crate::prompt::ping::PingOptions;
use crate::prompt::status::StatusOptions;
use crate::server::DrainOptions;
use crate::tls::TlsOptions;

const EXAMPLES: &str = "\
Examples:
  simple-kv                                  one node on port 8080, for telnet localhost 8080
  simple-kv 8081 localhost:8080              a second one that joins the first
  simple-kv 8082 localhost:8080              a third: it finds the second by itself
  simple-kv 0                                any free port; the log says which
  simple-kv --peer-listen 10.0.0.5:7000 --cluster-secret-file FILE 8080 10.0.0.6:7000
                                             across machines, whose nodes know each other by a secret
  simple-kv --listen 10.0.0.5 --allow-unauthenticated 8080 10.0.0.6:8080
                                             across machines of a trusted network
  simple-kv --data-dir /var/lib/simple-kv --fsync always 8080
                                             nothing acknowledged is lost, whatever crashes
  simple-kv --listen 10.0.0.5 --password-file /etc/simple-kv/password 8080
                                             for clients that give a password; see 'redis-cli -a'
  SIMPLE_KV_LOG_FORMAT=json simple-kv 8080   every flag can be set by the environment
  simple-kv --config /etc/simple-kv.toml     and by a file, as in: max-clients = 500

Commands, in place of PORT; 'simple-kv COMMAND --help' explains one:
  check DIR                                  read a data directory, verify every checksum, tell what is damaged
  backup DIR FILE                            put all that it holds into one file, also while its node runs
  restore FILE DIR                           make a new data directory of a backup
  dump DIR [--json]                          print what it holds, a record a line
  secret                                     make a secret for --cluster-secret-file
  bench [HOST:PORT]                          how many requests a server answers, and how long that takes
  ping [HOST:PORT]                           whether a server answers: the exit code says it
  status [HOST:PORT]                         how a cluster is: members, links, lag, clocks, disks
  cli [HOST:PORT] [COMMAND...]               talk to a server, at a prompt with a history and hints
  demo [--keep]                              three nodes, cut from each other and healed, in a few seconds
  completions SHELL, man [DIR]               for a shell, and for a manual

Sizes take B, KiB, MiB, GiB (1024) and kB, MB, GB (1000); K, M and G alone mean KiB, MiB and GiB.
Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage.";

/// An active-active key-value store that a person can telnet into.
#[derive(Clone, Debug, Parser)]
#[command(name = "simple-kv", version, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Port to serve clients and peers on; 0 takes any free one
    #[arg(value_name = "PORT", env = "SIMPLE_KV_PORT", default_value = "8080", value_parser = parse_port)]
    pub(crate) port: u16,

    /// Nodes to join, as host:port; one that runs is enough, the others are found through it
    #[arg(value_name = "PEER,PEER...", env = "SIMPLE_KV_PEERS", default_value = "", hide_default_value = true)]
    #[arg(value_parser = parse_peers)]
    pub(crate) peers: Peers,

    /// Address to listen on [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR", env = "SIMPLE_KV_LISTEN", value_parser = parse_listen)]
    pub(crate) listen: Option<IpAddr>,

    /// Listen on other addresses than loopback although anybody who reaches them can read and write
    #[arg(long, env = "SIMPLE_KV_ALLOW_UNAUTHENTICATED", value_parser = FalseyValueParser::new())]
    pub(crate) allow_unauthenticated: bool,

    #[command(flatten)]
    pub(crate) access: AccessOptions,

    #[command(flatten)]
    pub(crate) peer: PeerOptions,

    /// Where the other nodes reach this one [default: from --peer-listen, or --listen and PORT]
    #[arg(long, value_name = "HOST:PORT", env = "SIMPLE_KV_ADVERTISE", value_parser = parse_advertise)]
    pub(crate) advertise: Option<String>,

    /// Host name by which HTTP clients reach this node, besides localhost, its name, its advertised host and addresses;
    /// may be given again, or several by commas. A request for another host is turned away: a web page may have sent it
    #[arg(long, value_name = "NAME", env = "SIMPLE_KV_HTTP_HOST", value_delimiter = ',')]
    pub(crate) http_host: Vec<String>,

    /// Name of this node, the same at every start and different from all others [default: the advertised address]
    #[arg(long, env = "SIMPLE_KV_NAME", value_parser = parse_name)]
    pub(crate) name: Option<String>,

    /// Name of the cluster, the same on all of its nodes; those of another name are turned away
    #[arg(long, value_name = "NAME", env = "SIMPLE_KV_CLUSTER", default_value = "default", value_parser = parse_name)]
    pub(crate) cluster: String,

    /// Memory for the newest writes; a peer that was away longer than they last is sent all that changed instead
    #[arg(long, value_name = "SIZE", env = "SIMPLE_KV_RING_SIZE", default_value = "64MiB")]
    #[arg(value_parser = parse_ring_size)]
    pub(crate) ring_size: usize,

    /// Client connections at once; one more is told so and closed
    #[arg(long, value_name = "COUNT", env = "SIMPLE_KV_MAX_CLIENTS")]
    #[arg(default_value_t = Limits::default().clients_max, value_parser = parse_clients)]
    pub(crate) max_clients: usize,

    /// Threads that serve clients: one carries out all that they ask for, and the others help it to read and write. Two
    /// answer some 1.7 times as much where many clients wait for each reply, and less the further they send ahead. No
    /// more than there are cores to spare, or they are in each other's way; clients by TLS have the first alone
    #[arg(long, value_name = "COUNT", env = "SIMPLE_KV_THREADS", default_value_t = 1)]
    #[arg(value_parser = parse_threads)]
    pub(crate) threads: usize,

    /// Longest value
    #[arg(long, value_name = "SIZE", env = "SIMPLE_KV_MAX_VALUE_SIZE", default_value = "64MiB")]
    #[arg(value_parser = parse_value_size)]
    pub(crate) max_value_size: usize,

    /// Memory that the data may take; past it writes that may make it grow get an error, while reads, deletes and what
    /// comes from other nodes go on: leave a quarter of the machine's memory free; 0: no limit
    #[arg(long, value_name = "SIZE", env = "SIMPLE_KV_MAXMEMORY", default_value = "0", value_parser = parse_memory)]
    pub(crate) maxmemory: usize,

    /// Absence after which a member is forgotten as by FORGET, so that deletes no longer wait for it; 0: never
    #[arg(long, value_name = "SECONDS", env = "SIMPLE_KV_FORGET_AFTER", default_value_t = 0)]
    #[arg(value_parser = parse_absence)]
    pub(crate) forget_after: u64,

    /// Directory that holds the data across restarts, made if absent; without it all is in memory alone
    #[arg(long, value_name = "DIR", env = "SIMPLE_KV_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// When the disk has what was written. always: before the reply, so that nothing acknowledged is lost, whatever
    /// crashes; everysec: within a second, so that a crash loses what this node alone took in its last one or two; no:
    /// when the system likes, some half a minute
    #[arg(long, value_name = "always|everysec|no", env = "SIMPLE_KV_FSYNC", value_enum, hide_possible_values = true)]
    #[arg(default_value_t = FsyncPolicy::Everysec, requires = "data_dir")]
    pub(crate) fsync: FsyncPolicy,

    /// How far the log may outgrow the data before all data is saved anew: 100 is once as much
    #[arg(long, value_name = "PERCENT", env = "SIMPLE_KV_SNAPSHOT_RATIO", requires = "data_dir")]
    #[arg(default_value_t = DiskConfig::default().snapshot_ratio_percent, value_parser = parse_snapshot_ratio)]
    pub(crate) snapshot_ratio: u32,

    /// Refuse to start if anything in the data directory is damaged, instead of starting with the rest, saying so, and
    /// fetching what is missing from the other nodes
    #[arg(long, env = "SIMPLE_KV_STRICT_RECOVERY", value_parser = FalseyValueParser::new())]
    pub(crate) strict_recovery: bool,

    #[command(flatten)]
    pub(crate) drain: DrainOptions,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Least severe lines to log
    #[arg(long, value_name = "LEVEL", env = "SIMPLE_KV_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,

    /// Log lines for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", env = "SIMPLE_KV_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,

    #[command(flatten)]
    pub(crate) color: ColorOption,

    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// What is asked for on the command line.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To be a node.
    Node(Box<Configuration>),
    /// To look after a data directory, or to load a server.
    Tool(Tool),
}

/// An active-active key-value store: what it is looked after with.
#[derive(Debug, Parser)]
#[command(name = "simple-kv", disable_help_subcommand = true)]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

/// What can be done besides running a node.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum Tool {
    /// Read everything in a data directory, verify every checksum, and tell what is damaged
    ///
    /// Also while its node runs. Exit codes: 0 all is whole, 1 something is damaged or cannot be read, 2 wrong usage.
    Check {
        /// The data directory
        dir: PathBuf,
    },
    /// Put all that a data directory holds into one file
    ///
    /// Also while its node runs: what was acknowledged before the command (with --fsync always) is in it, and nothing
    /// that was not written. Exit code 1 if anything could not be read; the file then has the rest.
    Backup {
        /// The data directory
        dir: PathBuf,
        /// Where to put it; nothing may be there
        file: PathBuf,
    },
    /// Make a new data directory of a backup
    ///
    /// A node that is started on it is a new member: if it names peers, it catches up with them before it takes
    /// writes, and nothing that they did since is taken back. Without peers it begins a cluster of its own.
    Restore {
        /// The backup
        file: PathBuf,
        /// The data directory, which must be empty, or not there
        dir: PathBuf,
    },
    /// Print what a data directory holds, in the order in which its node would read it
    ///
    /// Every record of it, also those that others took the place of.
    Dump {
        /// The data directory
        dir: PathBuf,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print a new secret, for a file that --cluster-secret-file names on every node of a cluster
    Secret,
    /// Load a server with requests, and tell how many it answers and how long that takes
    ///
    /// Any server that speaks the protocol of Redis, lines of text as a node does, or memcached's protocol. It
    /// overwrites keys that are called key:N.
    #[command(after_long_help = bench::DEFAULTS)]
    Bench(Box<BenchOptions>),
    /// Ask a server whether it answers
    ///
    /// Prints one line. Exit codes: 0 it answers, also if it wants a password or loads its data; with --ready only if
    /// clients are to be sent there. 1 it does not. 2 wrong usage.
    Ping(PingOptions),
    /// Show how a cluster is, as its members tell it
    #[command(after_long_help = prompt::status::ABOUT)]
    Status(StatusOptions),
    /// Talk to a server: a prompt, or a command, or many from stdin
    #[command(after_long_help = prompt::cli::ABOUT)]
    Cli(CliOptions),
    /// Show in a few seconds what a cluster does: three nodes, cut from each other and healed
    ///
    /// They run on free ports of loopback and keep what they have in a directory of their own, and both go however it
    /// ends. Exit codes: 0 it was shown, 1 it was not, or was interrupted, 2 wrong usage.
    Demo(DemoOptions),
    /// Print what a shell wants to know to complete the command line
    ///
    /// As in: simple-kv completions bash > /etc/bash_completion.d/simple-kv
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual as a page for man, or put a page of each command into a directory
    Man {
        /// Where to put the pages; it is made if it is not there
        dir: Option<PathBuf>,
    },
}

/// Peers as given, each `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers(pub(crate) Vec<String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FsyncPolicy {
    Always,
    Everysec,
    No,
}

impl FsyncPolicy {
    pub(crate) const fn policy(self) -> Fsync {
        match self {
            Self::Always => Fsync::Always,
            Self::Everysec => Fsync::EverySec,
            Self::No => Fsync::No,
        }
    }
}

impl Options {
    /// What the node is to know of its disk.
    pub(crate) fn disk(&self) -> Option<DiskConfig> {
        self.data_dir.as_ref().map(|_| DiskConfig {
            fsync: self.fsync.policy(),
            snapshot_ratio_percent: self.snapshot_ratio,
            strict: self.strict_recovery,
            ..DiskConfig::default()
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(crate) const fn level(self) -> kv_core::LogLevel {
        match self {
            Self::Off => kv_core::LogLevel::Off,
            Self::Error => kv_core::LogLevel::Error,
            Self::Warn => kv_core::LogLevel::Warn,
            Self::Info => kv_core::LogLevel::Info,
            Self::Debug => kv_core::LogLevel::Debug,
            Self::Trace => kv_core::LogLevel::Trace,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// More of them are likelier a slip of the hand than cores.
const THREADS: RangeInclusive<usize> = 1..=128;
/// The smallest ring that is worth having: below it every hiccup of a link would end in a sweep.
const RING_BYTES_MIN: usize = 64 << 10;
/// 64 GiB: a longer list of writes is likelier a slip of the hand than a wish. Any size where that is past all memory.
const RING_BYTES_MAX: usize = match 1_usize.checked_shl(36) {
    Some(bytes) => bytes,
    None => usize::MAX,
};
/// What a greeting carries of a name; and an advertised address is the name of a node that was given none.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// A host name has at most 253 bytes, a port with its colon 6.
const ADDRESS_BYTES_MAX: usize = 259;

/// Reads the arguments, the environment and the file that one of them names.
pub(crate) fn parse() -> Result<Asked, Failure> {
    asked(std::env::args_os().collect())
}

/// A tool if the first argument names one, whatever the environment says; else a node, whose first is a port.
fn asked(arguments: Vec<OsString>) -> Result<Asked, Failure> {
    let named = |tool: &clap::Command| arguments.get(1).is_some_and(|first| first == tool.get_name());
    if Tools::command().get_subcommands().any(named) {
        return Tools::try_parse_from(arguments).map(|tools| Asked::Tool(tools.tool)).map_err(failure);
    }
    if let Some(error) = arguments.get(1).and_then(|first| mistyped(&first.to_string_lossy())) {
        return Err(failure(error));
    }
    configuration::read(&arguments).map(|configuration| Asked::Node(Box::new(configuration)))
}

/// Prints what was asked for; what went wrong is for the caller to tell.
pub(crate) fn failure(error: clap::Error) -> Failure {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody left to read it, as in `simple-kv --help | head -1`, is no failure.
            let _ = error.print();
            Failure::Told
        }
        _ => Failure::Usage(one_line(&error)),
    }
}

/// What to say of a first argument that is a word, and so neither a port nor a tool.
fn mistyped(word: &str) -> Option<clap::Error> {
    if !word.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let tools = Tools::command();
    let names: Vec<&str> = tools.get_subcommands().map(clap::Command::get_name).collect();
    let edits = |name: &&&str| strsim::damerau_levenshtein(&word.to_ascii_lowercase(), name);
    let near = names.iter().min_by_key(edits).filter(|name| edits(name) <= name.len().div_ceil(3));
    let advice = match near {
        Some(name) => format!("did you mean 'simple-kv {name}'?"),
        None => format!("give a number from 0 to 65535, or one of {}", names.join(", ")),
    };
    let text = format!("'{}' is neither a port nor a command; {advice}", word.escape_debug());
    Some(clap::Error::raw(ErrorKind::InvalidSubcommand, text))
}

/// The whole command line: a node's arguments, and the tools.
pub(crate) fn whole() -> clap::Command {
    let tools: Vec<clap::Command> = Tools::command().get_subcommands().cloned().collect();
    Options::command().subcommands(tools).disable_help_subcommand(true)
}

/// What clap says over several lines, without the usage, as one.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let said: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        // Clap advises to pass an unknown flag as a value, which no argument of ours can be.
        .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"))
        .collect();
    said.join("; ").trim_start_matches("error: ").to_owned()
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "give a number from 0 to 65535".to_owned())
}

fn parse_peers(text: &str) -> Result<Peers, String> {
    if text.is_empty() {
        return Ok(Peers::default());
    }
    text.split(',').map(|peer| parse_host_port(peer.trim())).collect::<Result<_, _>>().map(Peers)
}

/// `host:port` or `[address]:port`, unresolved: names are looked up at each dial.
pub(crate) fn parse_host_port(text: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("'{text}' {what}; write host:port, as in localhost:8080 or [::1]:8080"));
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("has no port") };
    let bare = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(address)) if address.parse::<std::net::Ipv6Addr>().is_ok() => return check_port(text, port),
        Some(_) => return wrong("has no IPv6 address between its brackets"),
        None => host,
    };
    match bare {
        "" => wrong("has no host"),
        _ if bare.contains(':') => wrong("has more than one colon"),
        _ if !bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
            wrong("has a host with bytes that no name has")
        }
        _ if text.len() > ADDRESS_BYTES_MAX => wrong("is too long"),
        _ => check_port(text, port),
    }
}

fn check_port(text: &str, port: &str) -> Result<String, String> {
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!("'{text}' has no port from 1 to 65535; write host:port, as in localhost:8080")),
    }
}

fn parse_listen(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "not an IP address; give one of this machine's, or 0.0.0.0 or :: for all".to_owned())
}

fn parse_advertise(text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("too long, at most {NAME_BYTES_MAX} bytes"));
    }
    parse_host_port(text)
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("a name is 1 to {NAME_BYTES_MAX} visible ASCII characters without spaces"));
    }
    Ok(text.to_owned())
}

fn parse_clients(text: &str) -> Result<usize, String> {
    let wrong = || format!("give a number from {} to {}", CLIENTS.start(), CLIENTS.end());
    text.parse().ok().filter(|count| CLIENTS.contains(count)).ok_or_else(wrong)
}

fn parse_threads(text: &str) -> Result<usize, String> {
    let wrong = || format!("give a number from {} to {}", THREADS.start(), THREADS.end());
    text.parse().ok().filter(|count| THREADS.contains(count)).ok_or_else(wrong)
}

fn parse_absence(text: &str) -> Result<u64, String> {
    let taken = |seconds: &u64| *seconds == 0 || ABSENCE_S.contains(seconds);
    let wrong = || format!("give 0 for never, or {} to {} seconds", ABSENCE_S.start(), ABSENCE_S.end());
    text.parse().ok().filter(taken).ok_or_else(wrong)
}

fn parse_snapshot_ratio(text: &str) -> Result<u32, String> {
    let range = SNAPSHOT_RATIO_PERCENT;
    let wrong = || format!("give a number from {} to {}", range.start(), range.end());
    text.parse().ok().filter(|percent| SNAPSHOT_RATIO_PERCENT.contains(percent)).ok_or_else(wrong)
}

fn parse_ring_size(text: &str) -> Result<usize, String> {
    parse_size(text, RING_BYTES_MIN, RING_BYTES_MAX)
}

fn parse_memory(text: &str) -> Result<usize, String> {
    parse_size(text, 0, usize::MAX)
}

fn parse_value_size(text: &str) -> Result<usize, String> {
    parse_size(text, *VALUE_BYTES.start(), *VALUE_BYTES.end())
}

/// A size in bytes with a unit; see [`EXAMPLES`].
pub(crate) fn parse_size(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("not a size; write a number and a unit, as in 64MiB".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "not a size; write a number and a unit, as in 64MiB".to_owned())?;
    match number.checked_mul(factor) {
        Some(size) if size < min => Err(format!("too small, at least {min} bytes")),
        Some(size) if size <= max => Ok(size),
        _ => Err(format!("too large, at most {max} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use kv_core::Timers;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        let all = std::iter::once("simple-kv").chain(arguments.iter().copied());
        Options::try_parse_from(all).map_err(|error| one_line(&error))
    }

    #[test]
    fn the_command_line_of_the_original_is_taken() {
        let options = parsed(&["8082", "localhost:8080,[::1]:8081"]).unwrap();
        assert_eq!(options.port, 8082);
        assert_eq!(options.peers.0, ["localhost:8080", "[::1]:8081"]);
        assert_eq!(parsed(&[]).unwrap().port, 8080);
        assert_eq!(parsed(&[]).unwrap().peers, Peers::default());
    }

    #[test]
    fn tools_are_named_first() {
        let of = |arguments: &[&str]| {
            let all = std::iter::once("simple-kv").chain(arguments.iter().copied());
            asked(all.map(OsString::from).collect()).map_err(|failure| failure.to_string())
        };
        let (dir, file) = (PathBuf::from("d"), PathBuf::from("f"));
        for (arguments, expected) in [
            (&["check", "d"][..], Tool::Check { dir: dir.clone() }),
            (&["backup", "d", "f"], Tool::Backup { dir: dir.clone(), file: file.clone() }),
            (&["restore", "f", "d"], Tool::Restore { file, dir: dir.clone() }),
            (&["dump", "d", "--json"], Tool::Dump { dir, json: true }),
            (&["secret"], Tool::Secret),
        ] {
            assert!(matches!(of(arguments), Ok(Asked::Tool(tool)) if tool == expected), "{arguments:?}");
        }
        let loads =
            |tool: &Tool| matches!(tool, Tool::Bench(options) if options.server == "h:1" && options.pipeline == 16);
        assert!(matches!(of(&["bench", "h:1", "-P", "16"]), Ok(Asked::Tool(tool)) if loads(&tool)));
        for arguments in [&[][..], &["8082"], &["8082", "check:8080"], &["--name", "check"]] {
            assert!(matches!(of(arguments), Ok(Asked::Node(_))), "{arguments:?}");
        }
        for arguments in
            [&["check"][..], &["check", "d", "e"], &["8080", "check"], &["help"], &["restore", "f"], &["bench", "h"]]
        {
            let said = of(arguments).unwrap_err();
            assert!(!said.contains('\n') && !said.is_empty(), "{arguments:?}: {said}");
        }
    }

    #[test]
    fn a_mistyped_tool_is_told_with_the_one_that_was_meant() {
        for (word, says) in [
            ("stauts", "'stauts' is neither a port nor a command; did you mean 'simple-kv status'?"),
            ("Status", "did you mean 'simple-kv status'?"),
            ("chekc", "did you mean 'simple-kv check'?"),
            ("pnig", "did you mean 'simple-kv ping'?"),
            ("server", "give a number from 0 to 65535, or one of check, backup"),
            ("localhost:8080", "is neither a port nor a command"),
            ("x\u{1b}[2J", r"'x\u{1b}[2J' is neither"),
        ] {
            let said = asked(vec!["simple-kv".into(), word.into()]).unwrap_err().to_string();
            assert!(said.contains(says), "{word}: {said}");
        }
    }

    #[test]
    fn the_whole_command_line_is_well_formed() {
        whole().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_core() {
        let options = parsed(&[]).unwrap();
        assert_eq!(options.ring_size, Limits::default().ring_bytes);
        assert_eq!(options.max_value_size, Limits::default().value_bytes_max);
        assert_eq!(options.max_clients, Limits::default().clients_max);
        assert_eq!(options.maxmemory as u64, Limits::default().memory_bytes_max);
        assert_eq!(options.forget_after * 1_000, Timers::default().absence_ms);
        assert!(options.disk().is_none());
        let disk = parsed(&["--data-dir", "data"]).unwrap().disk().unwrap();
        let default = DiskConfig::default();
        assert_eq!((disk.fsync, disk.snapshot_ratio_percent), (default.fsync, default.snapshot_ratio_percent));
        assert_eq!((disk.segment_bytes, disk.strict), (default.segment_bytes, default.strict));
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("1", 1), ("64MiB", 64 << 20), ("64m", 64 << 20), ("2 KiB", 2048), ("1kB", 1000)] {
            assert_eq!(parse_size(text, 0, usize::MAX), Ok(size), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5M", "1TiB", "99999999999999999999", "99999999999999G"] {
            assert!(parse_size(text, 0, usize::MAX).is_err(), "{text}");
        }
        assert!(parsed(&["--ring-size", "1"]).unwrap_err().contains("at least 65536"));
    }

    #[test]
    fn sizes_and_names_have_ends() {
        let name = "n".repeat(NAME_BYTES_MAX);
        let address = format!("{}:8080", "h".repeat(NAME_BYTES_MAX - 5));
        for (flag, longest, past, says) in [
            ("--ring-size", "64GiB", "68719476737", "at most 68719476736 bytes"),
            ("--max-value-size", "536870911", "512MiB", "at most 536870911 bytes"),
            ("--name", &name, &format!("{name}n"), "1 to 255"),
            ("--cluster", &name, &format!("{name}n"), "1 to 255"),
            ("--advertise", &address, &format!("h{address}"), "at most 255 bytes"),
            ("--forget-after", "3153600000", "3153600001", "5 to 3153600000 seconds"),
            ("--forget-after", "5", "4", "0 for never"),
            ("--snapshot-ratio", "100000", "100001", "10 to 100000"),
            ("--snapshot-ratio", "10", "9", "10 to 100000"),
        ] {
            assert!(parsed(&["--data-dir", "d", flag, longest]).is_ok(), "{flag} {longest}");
            let said = parsed(&["--data-dir", "d", flag, past]).unwrap_err();
            assert!(!said.contains('\n') && said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_wrong_peer_is_told_in_one_line() {
        for peer in
            ["localhost", "localhost:", ":8080", "a:0", "a:65536", "::1:80", "[::1]", "[x]:80", "a b:80", "a:1,,b:2"]
        {
            let said = parsed(&["8080", peer]).unwrap_err();
            assert!(!said.contains('\n') && said.contains("host:port"), "{peer}: {said}");
        }
    }

    #[test]
    fn a_wrong_flag_is_told_in_one_line() {
        for arguments in [
            ["--max-client", "5"],
            ["--log-format", "xml"],
            ["--fsync", "often"],
            ["--fsync", "always"],
            ["--listen", "nowhere"],
            ["--name", "a b"],
        ] {
            let said = parsed(&arguments).unwrap_err();
            assert!(!said.contains('\n') && !said.is_empty(), "{arguments:?}: {said}");
        }
    }
}
