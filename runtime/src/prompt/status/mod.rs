//! `simple-kv status`: how a cluster is, as its members tell it.
//!
//! `look` asks every member that any of them knows, all at once, and `report` judges and shows what they say.

mod look;
mod report;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;

use self::look::Cluster;
pub(super) use self::look::{Manner, Stats, ask};
use super::interrupt::Interrupt;
use super::paint::ColorOption;
use super::ping::parse_timeout;
use super::print;
use crate::cli::parse_host_port;
use crate::client::LoginOptions;
use crate::failure::Failure;
use crate::tls::client::ClientTlsOptions;

pub(crate) const ABOUT: &str = "\
What is wrong, and so exit code 1: a member that does not answer, or to which another has no link; writes that a
member has lacked for a second or more; clocks that are a second or more apart; deletes that cannot be forgotten
before somebody does something; a disk that fails; and members at rest whose data differs.

The password, if there is one, is given to every member that the others name; with --tls only to those whose
certificate is of --tls-ca and for the host that they are said to be reached at. Members whose peers have an address
of their own, by --peer-listen, are asked where the others say that their clients reach them.

Exit codes: 0 all members are up and nothing is wrong, 1 something is, as the last line says, 2 wrong usage.

Examples:
  simple-kv status                     the cluster of the node on localhost:8080
  simple-kv status db1:8080 --watch    every two seconds anew
  simple-kv status --json | jq .problems";

/// Between two looks at data that differs: longer than a write takes to be everywhere.
const SETTLE: Duration = Duration::from_millis(300);
/// Looks at data that differs.
const LOOKS_MAX: usize = 4;
/// Moves the cursor home; what is behind the text that follows is cleared.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct StatusOptions {
    /// A member; the others are found through it
    #[arg(value_name = "HOST:PORT", default_value = "localhost:8080", value_parser = parse_host_port)]
    server: String,

    /// Show it anew every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = parse_timeout)]
    watch: Option<Duration>,

    /// One JSON object, and with --watch one a line
    #[arg(long)]
    json: bool,

    /// How long each member has for its answer
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_timeout)]
    timeout: Duration,

    #[command(flatten)]
    login: LoginOptions,

    #[command(flatten)]
    tls: ClientTlsOptions,

    #[command(flatten)]
    color: ColorOption,
}

/// Looks once, or again and again, and shows what was seen.
pub(crate) fn run(options: &StatusOptions) -> Result<(), Failure> {
    let tls = options.tls.load()?;
    let manner = Manner { login: options.login.login()?, tls, within: options.timeout };
    let interrupt = match options.watch {
        Some(_) => Interrupt::watch().map_err(|error| Failure::System("wait for signals", error))?,
        None => Interrupt::never(),
    };
    let look = || {
        let mut cluster = Cluster::look(&options.server, &manner);
        let mut before = None;
        // What is being written is on its way: data differs only if it does while nothing changes.
        for _ in 1..LOOKS_MAX {
            if !cluster.seems_to_differ() || interrupt.wait(SETTLE).is_err() {
                break;
            }
            let again = Cluster::look(&options.server, &manner);
            before = Some(std::mem::replace(&mut cluster, again));
        }
        cluster.differ_at_rest(before.as_ref());
        cluster
    };
    let Some(every) = options.watch else {
        let cluster = look();
        print(shown(options, &cluster));
        return if cluster.problems().is_empty() { Ok(()) } else { Err(Failure::Shown) };
    };
    let redraws = io::stdout().is_terminal() && !options.json;
    if redraws {
        print(format!("{HOME}{CLEAR_BELOW}"));
    }
    loop {
        let cluster = look();
        let text = shown(options, &cluster);
        match redraws {
            true => print(format!("{HOME}{}{CLEAR_BELOW}", text.replace('\n', &format!("{CLEAR_LINE}\n")))),
            false if options.json => print(&text),
            false => print(format!("{text}\n")),
        }
        if interrupt.wait(every).is_err() {
            return if cluster.problems().is_empty() { Ok(()) } else { Err(Failure::Shown) };
        }
    }
}

fn shown(options: &StatusOptions, cluster: &Cluster) -> String {
    match options.json {
        true => report::json(cluster),
        false => report::text(cluster, options.color.paint()),
    }
}
