//! What is asked: operations on keys that are drawn by chance.

use clap::ValueEnum;
use memchr::memmem;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

use super::options::{BenchOptions, Distribution, Protocol};

/// The number of key 0, with as many digits as all have.
const ZERO: &[u8] = b"000000000000";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    Set,
    Get,
    Mixed,
    Incr,
    Ping,
}

impl Operation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Mixed => "mixed",
            Self::Incr => "incr",
            Self::Ping => "ping",
        }
    }

    /// Whether every key is to be there before it is measured.
    pub(crate) const fn wants_keys(self) -> bool {
        matches!(self, Self::Set | Self::Get | Self::Mixed)
    }
}

/// One request, and which answer it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Set,
    Get,
    Incr,
    Ping,
}

/// A stream of requests. The same options and thread give the same ones.
#[derive(Debug)]
pub(crate) struct Workload {
    operation: Operation,
    reads_percent: u32,
    keys: Keys,
    chance: SmallRng,
    templates: Templates,
}

/// Requests as they are sent, of key 0.
#[derive(Debug)]
struct Templates {
    set: Template,
    get: Template,
    incr: Template,
    ping: Template,
}

#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where the last digit of the key's number is.
    last_digit_at: usize,
}

#[derive(Debug)]
enum Keys {
    /// Each once, from this one on.
    InOrder(u64),
    Uniform(u64),
    Zipf(Zipf<f64>),
}

impl Workload {
    /// That of one of the threads that load a server.
    pub(crate) fn new(options: &BenchOptions, operation: Operation, thread: u64) -> Self {
        let keys = match options.distribution {
            Distribution::Uniform => Keys::Uniform(options.keys),
            Distribution::Zipf => {
                Keys::Zipf(Zipf::new(options.keys as f64, options.exponent).expect("options within their bounds"))
            }
        };
        Self::of(options, operation, keys, thread)
    }

    /// Each key set once.
    pub(crate) fn filling(options: &BenchOptions) -> Self {
        Self::of(options, Operation::Set, Keys::InOrder(0), 0)
    }

    fn of(options: &BenchOptions, operation: Operation, keys: Keys, thread: u64) -> Self {
        Self {
            operation,
            reads_percent: options.reads,
            keys,
            chance: SmallRng::seed_from_u64(options.seed.wrapping_add(thread << 32)),
            templates: Templates::new(options.protocol, &vec![b'x'; options.value_size]),
        }
    }

    /// Appends the next request.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>) -> Request {
        let request = match self.operation {
            Operation::Mixed if self.chance.random_ratio(self.reads_percent, 100) => Request::Get,
            Operation::Set | Operation::Mixed => Request::Set,
            Operation::Get => Request::Get,
            Operation::Incr => Request::Incr,
            Operation::Ping => Request::Ping,
        };
        match request {
            Request::Set => self.templates.set.put(self.keys.draw(&mut self.chance), out),
            Request::Get => self.templates.get.put(self.keys.draw(&mut self.chance), out),
            Request::Incr => self.templates.incr.put(self.keys.draw(&mut self.chance), out),
            Request::Ping => out.extend_from_slice(&self.templates.ping.bytes),
        }
        request
    }
}

impl Keys {
    fn draw(&mut self, chance: &mut SmallRng) -> u64 {
        match self {
            Self::InOrder(next) => {
                *next += 1;
                *next - 1
            }
            Self::Uniform(count) => chance.random_range(0..*count),
            // It draws from 1 on.
            Self::Zipf(zipf) => zipf.sample(chance) as u64 - 1,
        }
    }
}

impl Templates {
    fn new(protocol: Protocol, value: &[u8]) -> Self {
        if protocol == Protocol::Memcached {
            let head = format!("set key:000000000000 0 0 {}\r\n", value.len());
            return Self {
                set: Template::new([head.as_bytes(), value, b"\r\n"].concat()),
                get: Template::new(b"get key:000000000000\r\n".to_vec()),
                incr: Template::new(b"incr counter:000000000000 1\r\n".to_vec()),
                ping: Template::new(b"version\r\n".to_vec()),
            };
        }
        let template = |words: &[&[u8]]| Template::new(encoded(protocol, words));
        Self {
            set: template(&[b"SET", b"key:000000000000", value]),
            get: template(&[b"GET", b"key:000000000000"]),
            incr: template(&[b"INCR", b"counter:000000000000"]),
            ping: template(&[b"PING"]),
        }
    }
}

/// A request of these words.
fn encoded(protocol: Protocol, words: &[&[u8]]) -> Vec<u8> {
    if protocol != Protocol::Resp {
        return [&words.join(&b' ')[..], b"\n"].concat();
    }
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

impl Template {
    /// Of a request of key 0.
    fn new(bytes: Vec<u8>) -> Self {
        let digits_at = memmem::find(&bytes, ZERO).unwrap_or(0);
        Self { bytes, last_digit_at: digits_at + ZERO.len() - 1 }
    }

    /// Appends the request of key `number`, of at most twelve digits.
    fn put(&self, number: u64, out: &mut Vec<u8>) {
        let mut at = out.len() + self.last_digit_at;
        out.extend_from_slice(&self.bytes);
        let mut left = number;
        while left > 0 {
            out[at] = b'0' + (left % 10) as u8;
            left /= 10;
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    /// The first requests, as text.
    fn first(count: usize, workload: &mut Workload) -> Vec<String> {
        let mut requests = Vec::new();
        for _ in 0..count {
            let mut out = Vec::new();
            workload.put(&mut out);
            requests.push(String::from_utf8(out).unwrap());
        }
        requests
    }

    /// How often each of `keys` keys is asked for by `count` requests.
    fn drawn(arguments: &[&str], count: usize) -> Vec<usize> {
        let options = options(arguments);
        let mut workload = Workload::new(&options, Operation::Get, 0);
        let mut times = vec![0; options.keys as usize];
        for request in first(count, &mut workload) {
            let number: usize = request.trim_end().rsplit(':').next().unwrap().parse().unwrap();
            times[number] += 1;
        }
        times
    }

    #[test]
    fn requests_are_those_of_the_protocol() {
        let resp = options(&["--keys", "1", "--value-size", "3"]);
        let telnet = options(&["--protocol", "telnet", "--keys", "1", "--value-size", "3"]);
        let memcached = options(&["--protocol", "memcached", "--keys", "1", "--value-size", "3"]);
        for (options, operation, expected) in [
            (&resp, Operation::Set, "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000000\r\n$3\r\nxxx\r\n"),
            (&resp, Operation::Get, "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n"),
            (&resp, Operation::Incr, "*2\r\n$4\r\nINCR\r\n$20\r\ncounter:000000000000\r\n"),
            (&resp, Operation::Ping, "*1\r\n$4\r\nPING\r\n"),
            (&telnet, Operation::Set, "SET key:000000000000 xxx\n"),
            (&telnet, Operation::Get, "GET key:000000000000\n"),
            (&telnet, Operation::Incr, "INCR counter:000000000000\n"),
            (&telnet, Operation::Ping, "PING\n"),
            (&memcached, Operation::Set, "set key:000000000000 0 0 3\r\nxxx\r\n"),
            (&memcached, Operation::Get, "get key:000000000000\r\n"),
            (&memcached, Operation::Incr, "incr counter:000000000000 1\r\n"),
            (&memcached, Operation::Ping, "version\r\n"),
        ] {
            assert_eq!(first(1, &mut Workload::new(options, operation, 0)), [expected]);
        }
    }

    #[test]
    fn filling_sets_each_key_once() {
        let options = options(&["--protocol", "telnet", "--value-size", "1"]);
        let requests = first(1_002, &mut Workload::filling(&options));
        for (number, request) in requests.iter().enumerate() {
            assert_eq!(*request, format!("SET key:{number:012} x\n"));
        }
        let mut workload = Workload::filling(&options);
        workload.keys = Keys::InOrder(999_999_999_999);
        assert_eq!(first(1, &mut workload), ["SET key:999999999999 x\n"]);
    }

    #[test]
    fn uniform_keys_come_alike() {
        let times = drawn(&["--protocol", "telnet", "--keys", "10"], 10_000);
        assert!(times.iter().all(|times| (850..=1_150).contains(times)), "{times:?}");
    }

    #[test]
    fn zipf_keys_come_by_their_rank() {
        let zipf = ["--protocol", "telnet", "--keys", "100", "--distribution", "zipf", "--exponent", "1"];
        let times = drawn(&zipf, 100_000);
        let harmonic: f64 = (1..=100).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 3, 10, 50, 100] {
            let expected = 100_000.0 / harmonic / rank as f64;
            let got = times[rank - 1] as f64;
            // Five standard deviations; the draws are the same each time.
            assert!((got - expected).abs() < 5.0 * expected.sqrt(), "rank {rank}: {got} of {expected}");
        }
    }

    #[test]
    fn reads_are_mixed_in_by_their_share() {
        let count = |reads: &str| {
            let options = options(&["--protocol", "telnet", "--reads", reads]);
            let requests = first(10_000, &mut Workload::new(&options, Operation::Mixed, 0));
            requests.iter().filter(|request| request.starts_with("GET ")).count()
        };
        assert_eq!([count("0"), count("100")], [0, 10_000]);
        assert!((8_850..=9_150).contains(&count("90")), "{}", count("90"));
    }

    #[test]
    fn chance_is_that_of_the_seed_and_the_thread() {
        let requests = |seed: &str, thread| {
            let options = options(&["--seed", seed]);
            first(10, &mut Workload::new(&options, Operation::Get, thread))
        };
        assert_eq!(requests("1", 0), requests("1", 0));
        assert_ne!(requests("1", 0), requests("2", 0));
        assert_ne!(requests("1", 0), requests("1", 1));
    }
}
