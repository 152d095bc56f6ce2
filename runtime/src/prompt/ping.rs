//! `simple-kv ping`: whether a server answers. For health checks of containers, and for scripts that wait.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;

use super::print;
use crate::cli::parse_host_port;
use crate::client::{Connection, Lost, Value, get, plain};
use crate::failure::Failure;
use crate::tls::client::{ClientTls, ClientTlsOptions};

/// What a server may say to a ping.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Args, Clone, Debug, PartialEq)]
pub(crate) struct PingOptions {
    /// The server
    #[arg(value_name = "HOST:PORT", default_value = "localhost:8080", value_parser = parse_host_port)]
    server: String,

    /// Ask whether clients are to be sent there, too: /readyz has to say so
    #[arg(long)]
    ready: bool,

    /// How long it has for all of it
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_timeout)]
    timeout: Duration,

    #[command(flatten)]
    tls: ClientTlsOptions,
}

/// Asks once, and prints one line.
pub(crate) fn run(options: &PingOptions) -> Result<(), Failure> {
    let tls = options.tls.load()?;
    let begin = Instant::now();
    let said = if options.ready { ready(options, tls.as_ref())? } else { ping(options, tls.as_ref())? };
    print(format!("{} {said} after {:.1} ms\n", options.server, begin.elapsed().as_secs_f64() * 1e3));
    Ok(())
}

fn ping(options: &PingOptions, tls: Option<&ClientTls>) -> Result<&'static str, Failure> {
    let begin = Instant::now();
    let failed = |lost: Lost| Failure::Server(options.server.clone(), lost.to_string());
    let mut connection = Connection::connect(&options.server, tls, options.timeout)
        .map_err(|error| Failure::Connect(options.server.clone(), error))?
        .with_bytes_max(ANSWER_BYTES_MAX);
    let left = options.timeout.saturating_sub(begin.elapsed());
    match connection.ask(&["PING"], left).map_err(failed)? {
        Value::Simple(text) if text == b"PONG" => Ok("answers"),
        // Whoever says so runs, and will answer those who may ask.
        Value::Error(text) if text.starts_with(b"NOAUTH") => Ok("answers, and wants a password,"),
        Value::Error(text) if text.starts_with(b"LOADING") => Ok("answers, and loads its data,"),
        Value::Error(text) => Err(failed(Lost::Refused(plain(&text)))),
        _ => Err(failed(Lost::Garbage("something else than PONG".to_owned()))),
    }
}

fn ready(options: &PingOptions, tls: Option<&ClientTls>) -> Result<&'static str, Failure> {
    let server = || options.server.clone();
    let (status, body) = get(&options.server, tls, "/readyz", options.timeout).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::Server(server(), format!("is not asked: {error}")),
        _ => Failure::Connect(server(), error),
    })?;
    match status {
        200 => Ok("is ready"),
        _ => Err(Failure::Server(server(), format!("is not ready: {}", reasons(&body)))),
    }
}

/// What `/readyz` says why.
fn reasons(body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let reasons = said.as_ref().and_then(|said| said["reasons"].as_array());
    let reasons: Vec<String> = reasons
        .map(|all| all.iter().filter_map(|one| one["text"].as_str()).map(|text| plain(text.as_bytes())).collect())
        .unwrap_or_default();
    if reasons.is_empty() { "it does not say why".to_owned() } else { reasons.join("; ") }
}

/// A time limit.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "give a number of seconds from 0.01 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_says_why() {
        let body = br#"{"ready":false,"reasons":[{"why":"loading","text":"it \u001bloads"},{"text":"b"}]}"#;
        assert_eq!(reasons(body), r"it \x1bloads; b");
        for body in [&b""[..], b"{}", b"<html>", br#"{"reasons":[1]}"#, br#"{"reasons":[{"text":1}]}"#] {
            assert_eq!(reasons(body), "it does not say why");
        }
    }

    #[test]
    fn timeouts_have_ends() {
        assert_eq!(parse_timeout("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "2s"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
