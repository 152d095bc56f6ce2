//! What a load is to be like.

use clap::{Args, ValueEnum};

use super::workload::Operation;
use crate::cli::{parse_host_port, parse_size};
use crate::tls::client::ClientTlsOptions;

/// Why the defaults are what they are: the end of `simple-kv bench --help`.
pub(crate) const DEFAULTS: &str = "\
Why these defaults:
  --connections 50, --pipeline 1
      As redis-benchmark has them. Most clients wait for each answer, and pipelining flatters every
      server.
  --keys 1000000, uniform
      More than the processor's caches hold, so that tables are really looked up. Each is set once
      before anything is measured, so that GET finds and SET overwrites.
  --value-size 64
      Most values in caches are small, and large ones measure how memory is copied.
  --seconds 5 after --warm-up 1
      What a server does once and for all at first does not count.
  --reads 90
      Of ten requests of --ops mixed one writes.

What is told:
  Each request is counted once: it succeeded, was refused, was not answered, or was due and not
  sent. The rate is of those that succeeded before the end, over the time that was to be measured;
  later ones are late in --json. The latencies are of all that succeeded, with those that were not
  answered or sent added by how long they waited. A refusal is no success, however fast it comes. A
  GET that finds nothing is one, and is counted besides.
  Without --rate the load is closed: a connection asks again when it is answered. A server that
  stands still is then asked nothing, and its tail looks better than clients would see it. With
  --rate the load is open: requests are due whatever the server does, and each is measured from
  when it was due (corrected for coordinated omission), unless that was in the warm-up; the core that
  asks is then never idle.
  Keys are key:000000000000 and on, of incr counter:000000000000 and on. They are overwritten, and
  left there.

Exit codes: 0 measured, 1 not measured, or some requests were refused or not answered, 2 wrong
usage.

Examples:
  simple-kv bench
      SET, then GET, on localhost:8080
  simple-kv bench --protocol telnet --pipeline 16
      the same in lines of text, sixteen ahead
  simple-kv bench --rate 20000 --ops mixed --distribution zipf
      what clients see at 20,000 requests a second
  simple-kv bench localhost:6379 --requests 100000 --json
      of a redis-server, for a program
  simple-kv bench localhost:11211 --protocol memcached
      of a memcached";

/// What is asked of which server, and how.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct BenchOptions {
    /// The server
    #[arg(value_name = "HOST:PORT", default_value = "localhost:8080", value_parser = parse_host_port)]
    pub(crate) server: String,

    /// What to measure, one after the other: set, get, mixed (gets and sets by --reads), incr, ping
    #[arg(long = "ops", value_name = "OP,OP...", value_enum, value_delimiter = ',', hide_possible_values = true)]
    #[arg(default_value = "set,get")]
    pub(crate) operations: Vec<Operation>,

    /// How to ask: resp, which Redis clients speak; telnet, lines of text; memcached, which a node does not speak
    #[arg(long, value_enum, default_value_t = Protocol::Resp, value_name = "PROTOCOL", hide_possible_values = true)]
    pub(crate) protocol: Protocol,

    #[command(flatten)]
    pub(crate) tls: ClientTlsOptions,

    /// Connections, over all threads
    #[arg(short, long, value_name = "COUNT", default_value_t = 50, value_parser = parse_count)]
    pub(crate) connections: usize,

    /// Requests that a connection has under way at once
    #[arg(short = 'P', long, value_name = "DEPTH", default_value_t = 1, value_parser = parse_count)]
    pub(crate) pipeline: usize,

    /// Threads that ask; one is enough for a server that answers from one core, and you are told if it is not
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = parse_threads)]
    pub(crate) threads: usize,

    /// How long to measure each
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,

    /// How long to ask before that, unmeasured
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = parse_warm_up)]
    pub(crate) warm_up: f64,

    /// Measure that many requests of each, however long they take, and without --warm-up
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with_all = ["seconds", "warm_up"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=REQUESTS_MAX))]
    pub(crate) requests: Option<u64>,

    /// Requests that are due a second, answered or not; latency is then measured from when each was due [default: as
    /// many as are answered, latency from when each was sent]
    #[arg(long, value_name = "PER-SECOND", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,

    /// How many keys there are
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub(crate) keys: u64,

    /// Which of them are asked for: uniform, all alike; zipf, few of them mostly
    #[arg(long, value_enum, default_value_t = Distribution::Uniform, value_name = "NAME", hide_possible_values = true)]
    pub(crate) distribution: Distribution,

    /// How much more the first keys are asked for with --distribution zipf: key n in proportion to 1 / n^EXPONENT
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99, value_parser = parse_exponent)]
    pub(crate) exponent: f64,

    /// Length of values, as 64 or 4KiB
    #[arg(short = 'd', long, value_name = "SIZE", default_value = "64", value_parser = parse_value_size)]
    pub(crate) value_size: usize,

    /// Share of GET in --ops mixed
    #[arg(long, value_name = "PERCENT", default_value_t = 90)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) reads: u32,

    /// Do not set every key once before set, get or mixed are measured
    #[arg(long)]
    pub(crate) no_fill: bool,

    /// What is drawn by chance is drawn from this: the same number, the same requests
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,

    /// One JSON object for each of --ops, a line each, instead of a table; latencies are in microseconds
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Resp,
    Telnet,
    /// Its text protocol, so that it can be measured in the same way.
    Memcached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    Uniform,
    Zipf,
}

impl Protocol {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Resp => "resp",
            Self::Telnet => "telnet",
            Self::Memcached => "memcached",
        }
    }
}

impl Distribution {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// More than one machine has ports for to one server, or memory.
const COUNT_MAX: usize = 50_000;

/// Far more than any machine has cores.
const THREADS_MAX: usize = 1_024;

/// A day.
const SECONDS_MAX: f64 = 86_400.0;

/// What one thread can hardly ask for; the number of a request stays exact as a float at it for years.
const RATE_MAX: f64 = 1e8;

/// At a million a second it takes eleven days.
const REQUESTS_MAX: u64 = 1_000_000_000_000;

/// A key's number has twelve digits.
const KEYS_MAX: u64 = 1_000_000_000_000;

/// Every connection holds its requests, values and all, until they are sent.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// What the requests that are under way at once may take.
const UNDER_WAY_BYTES_MAX: u64 = 1 << 30;

/// What a request takes besides its value, at least.
const REQUEST_BYTES: u64 = 64;

impl BenchOptions {
    /// Says what is wrong if the requests that are under way at once may take more memory than they should.
    pub(crate) fn check_memory(&self) -> Result<(), String> {
        let Self { connections, pipeline, value_size, .. } = self;
        let needed = *connections as u64 * *pipeline as u64 * (*value_size as u64 + REQUEST_BYTES);
        if needed <= UNDER_WAY_BYTES_MAX {
            return Ok(());
        }
        Err(format!(
            "{connections} connections with {pipeline} requests under way on each, with values of {value_size} bytes, \
             may take {} MiB of memory, and 1 GiB is the most; lower --connections, --pipeline or --value-size",
            needed.div_ceil(1 << 20)
        ))
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count));
    count.ok_or_else(|| format!("give a number from 1 to {COUNT_MAX}"))
}

fn parse_threads(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=THREADS_MAX).contains(count));
    count.ok_or_else(|| format!("give a number from 1 to {THREADS_MAX}"))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("give seconds from 0.001 to {SECONDS_MAX}"))
}

fn parse_warm_up(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("give seconds from 0 to {SECONDS_MAX}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("give a number from 0.1 to {RATE_MAX}"))
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    let exponent = text.parse().ok().filter(|exponent| (0.01..=10.0).contains(exponent));
    exponent.ok_or_else(|| "give a number from 0.01 to 10".to_owned())
}

fn parse_value_size(text: &str) -> Result<usize, String> {
    parse_size(text, 1, VALUE_BYTES_MAX)
}
