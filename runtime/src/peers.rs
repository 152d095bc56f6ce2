//! How the other nodes of the cluster get in: the secret that they share, and the address that is theirs alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use kv_core::{ClusterSecret, PeerAuth, SECRET_BYTES_MIN};

use crate::cli::{Options, parse_host_port};
use crate::failure::Failure;
use crate::secret::read_secret_file;
use crate::start::fresh_seed;

/// Secrets at once: the one that all nodes are to have, and the one that some still have.
const SECRETS_MAX: usize = 2;

/// The options about peers.
#[derive(Args, Clone, Debug)]
pub(crate) struct PeerOptions {
    /// Secret that the nodes of the cluster prove to each other to know, at least 16 bytes on a line of a file that
    /// only its owner may read; 'simple-kv secret' makes one. Two lines while it changes: both are taken. Read again on
    /// SIGHUP. Without it, and without --tls-peers, peers must be on this machine
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_CLUSTER_SECRET_FILE")]
    pub(crate) cluster_secret_file: Option<PathBuf>,

    /// The same, not in a file. For the environment: who shares the machine can read a command line
    #[arg(long, value_name = "SECRET", env = "SIMPLE_KV_CLUSTER_SECRET", hide_env_values = true)]
    #[arg(conflicts_with = "cluster_secret_file", value_parser = parse_hidden)]
    pub(crate) cluster_secret: Option<Hidden>,

    /// Address and port for the other nodes alone; PORT then serves clients only [default: PORT serves both]
    #[arg(long, value_name = "ADDR:PORT", env = "SIMPLE_KV_PEER_LISTEN", value_parser = parse_peer_listen)]
    pub(crate) peer_listen: Option<SocketAddr>,

    /// Where clients reach this node; the other nodes tell it to 'simple-kv status' [default: as --advertise; with
    /// --peer-listen the address of --listen, or the host of --advertise, with PORT]
    #[arg(long, value_name = "HOST:PORT", env = "SIMPLE_KV_ADVERTISE_CLIENTS", value_parser = parse_host_port)]
    pub(crate) advertise_clients: Option<String>,
}

/// What is not shown when options are.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where clients reach a node that serves them at `bound`, and is reached by its peers at `advertise`; none if that is
/// the same.
pub(crate) fn clients_at(options: &PeerOptions, bound: SocketAddr, advertise: &str) -> Option<String> {
    if options.advertise_clients.is_some() || options.peer_listen.is_none() {
        return options.advertise_clients.clone();
    }
    match advertise.rsplit_once(':') {
        Some((host, _)) if bound.ip().is_unspecified() => Some(format!("{host}:{}", bound.port())),
        _ => Some(bound.to_string()),
    }
}

/// Never fails: an error would show it.
#[expect(clippy::unnecessary_wraps, reason = "it is what clap calls")]
fn parse_hidden(text: &str) -> Result<Hidden, String> {
    Ok(Hidden(text.to_owned()))
}

fn parse_peer_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an IP address of this machine and a port, as in 10.0.0.5:7000 or [::1]:7000".to_owned())
}

/// Whom the node is to take for a peer. Fails if it is to have peers on other machines, and nothing tells them from
/// strangers.
pub(crate) fn peer_auth(options: &Options) -> Result<PeerAuth, Failure> {
    let PeerOptions { cluster_secret_file, cluster_secret, .. } = &options.peer;
    if let Some(path) = cluster_secret_file {
        let failed = |what| Failure::File(path.clone(), "use the cluster secret in", io::Error::other(what));
        return secrets(&read_secret_file(path)?).map_err(failed);
    }
    if let Some(Hidden(text)) = cluster_secret {
        return secrets(text.as_bytes()).map_err(|what| Failure::Usage(format!("SIMPLE_KV_CLUSTER_SECRET: {what}")));
    }
    // Who shows a certificate of the cluster's authority is no stranger, either.
    if options.allow_unauthenticated || options.tls.tls_peers {
        return Ok(PeerAuth::Anybody);
    }
    let afar = |what: &str, where_: &str| {
        Failure::Usage(format!(
            "{what} {where_} is not on this machine, and there is no cluster secret that would tell peers from \
             strangers; give all nodes the same --cluster-secret-file, or --tls-peers, or add --allow-unauthenticated \
             if their network is trusted"
        ))
    };
    if let Some(address) = options.peer.peer_listen.filter(|address| !address.ip().to_canonical().is_loopback()) {
        return Err(afar("--peer-listen", &address.to_string()));
    }
    let advertise = options.advertise.iter().map(|address| ("--advertise", address));
    let peers = options.peers.0.iter().map(|address| ("peer", address));
    match peers.chain(advertise).find(|(_, address)| !is_here(address)) {
        Some((what, address)) => Err(afar(what, address)),
        None => Ok(PeerAuth::Loopback),
    }
}

/// Whether `address` (`host:port`) can only be this machine.
fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// One secret a line.
fn secrets(text: &[u8]) -> Result<PeerAuth, String> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let mut next = || match lines.next() {
        None => Ok(None),
        Some(line) => match ClusterSecret::new(line) {
            Some(secret) => Ok(Some(secret)),
            None => Err(format!("a secret has at least {SECRET_BYTES_MIN} bytes; 'simple-kv secret' makes one")),
        },
    };
    let first = next()?.ok_or("there is no secret; 'simple-kv secret' makes one")?;
    let second = next()?;
    match lines.next() {
        None => Ok(PeerAuth::Secret { first, second }),
        Some(_) => Err(format!("more than {SECRETS_MAX} secrets; take out those that no node has any more")),
    }
}

/// A secret that nobody can guess, as a line of text.
pub(crate) fn fresh_secret() -> io::Result<String> {
    Ok(fresh_seed()?.map(|word| format!("{word:016x}")).concat())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;

    const LONG: &str = "sixteen bytes...";

    fn auth(arguments: &[&str]) -> Result<PeerAuth, String> {
        let options = Options::try_parse_from(std::iter::once("simple-kv").chain(arguments.iter().copied()));
        peer_auth(&options.map_err(|error| error.to_string())?).map_err(|failure| failure.to_string())
    }

    #[test]
    fn secrets_are_lines_of_sixteen_bytes_and_two_at_most() {
        for (text, count) in
            [(LONG, 1), ("\n  sixteen bytes...\r\n\n", 1), ("sixteen bytes...\nsixteen more too.\n", 2)]
        {
            let counted = match secrets(text.as_bytes()) {
                Ok(PeerAuth::Secret { second, .. }) => 1 + usize::from(second.is_some()),
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(counted, count, "{text}");
        }
        for (text, says) in [
            ("", "there is no secret"),
            ("\n \n", "there is no secret"),
            ("fifteen bytes..", "at least 16 bytes"),
            ("sixteen bytes...\nshort", "at least 16 bytes"),
            ("sixteen bytes...\nsixteen more too.\nand yet another one", "more than 2"),
        ] {
            let said = secrets(text.as_bytes()).unwrap_err();
            assert!(said.contains(says) && !said.contains("bytes...") && !said.contains("short"), "{said}");
        }
        assert!(secrets(fresh_secret().unwrap().as_bytes()).is_ok());
        assert_ne!(fresh_secret().unwrap(), fresh_secret().unwrap());
    }

    #[test]
    fn a_file_of_secrets_is_its_owners_alone() {
        let path = std::env::temp_dir().join(format!("simple-kv-cluster-secret-{}", std::process::id()));
        let flag = format!("--cluster-secret-file={}", path.display());
        assert!(auth(&[&flag]).unwrap_err().contains("No such file"));
        for (mode, text, says) in [
            (0o600, LONG, None),
            (0o400, LONG, None),
            (0o640, LONG, Some("chmod 600")),
            (0o604, LONG, Some("mode is 604")),
            (0o600, "short", Some("at least 16 bytes")),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = auth(&[&flag]);
            fs::remove_file(&path).unwrap();
            match says {
                None => assert!(matches!(read, Ok(PeerAuth::Secret { .. })), "{read:?}"),
                Some(says) => assert!(read.as_ref().is_err_and(|said| said.contains(says)), "{read:?}"),
            }
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let options = Options::try_parse_from(["simple-kv", "--cluster-secret", LONG]).unwrap();
        assert!(matches!(peer_auth(&options), Ok(PeerAuth::Secret { .. })));
        assert!(!format!("{options:?}{:?}", peer_auth(&options)).contains("sixteen"));
        let said = auth(&["--cluster-secret", "too short"]).unwrap_err();
        assert!(!said.contains("too short"), "{said}");
    }

    #[test]
    fn clients_are_served_where_it_is_said_and_else_where_the_node_listens() {
        for (arguments, bound, expected) in [
            (&[][..], "0.0.0.0:8080", None),
            (&["--peer-listen", "10.0.0.5:7000"], "10.0.0.5:8080", Some("10.0.0.5:8080")),
            (&["--peer-listen", "10.0.0.5:7000"], "0.0.0.0:8080", Some("db1:8080")),
            (&["--peer-listen", "10.0.0.5:7000"], "[::]:8080", Some("db1:8080")),
            (&["--peer-listen", "10.0.0.5:7000", "--advertise-clients", "kv:80"], "[::]:8080", Some("kv:80")),
            (&["--advertise-clients", "kv:80"], "0.0.0.0:8080", Some("kv:80")),
        ] {
            let options = Options::try_parse_from(["simple-kv"].iter().chain(arguments)).unwrap();
            let told = clients_at(&options.peer, bound.parse().unwrap(), "db1:7000");
            assert_eq!(told.as_deref(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn without_a_secret_peers_are_on_this_machine() {
        for arguments in [
            &[][..],
            &["8081", "localhost:8080,127.0.0.1:1,[::1]:2,127.1.2.3:9"],
            &["--peer-listen", "127.0.0.1:7000", "--advertise", "localhost:7000"],
        ] {
            assert!(matches!(auth(arguments), Ok(PeerAuth::Loopback)), "{arguments:?}");
        }
        for (arguments, what) in [
            (&["8081", "localhost:8080,10.0.0.6:8080"][..], "10.0.0.6:8080"),
            (&["8081", "localhost.example:8080"], "localhost.example:8080"),
            (&["--peer-listen", "0.0.0.0:7000"], "--peer-listen 0.0.0.0:7000"),
            (&["--peer-listen", "[::]:7000"], "--peer-listen [::]:7000"),
            (&["--advertise", "db1:8080"], "--advertise db1:8080"),
        ] {
            let said = auth(arguments).unwrap_err();
            assert!(said.contains(what) && said.contains("--cluster-secret-file"), "{said}");
            let with = |more: &[&'static str]| auth(&[arguments, more].concat());
            assert!(matches!(with(&["--allow-unauthenticated"]), Ok(PeerAuth::Anybody)));
            assert!(matches!(with(&["--cluster-secret", LONG]), Ok(PeerAuth::Secret { .. })));
        }
    }
}
