//! What is asked for about TLS, and what of it goes together.

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use crate::failure::Failure;

/// As given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct TlsOptions {
    /// Certificate of this node, then those that lead from it to its authority, in PEM: clients may come by TLS. Read
    /// again with the other files of --tls-... on SIGHUP
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key in PEM, which other users must not be able to read
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Whether clients come by TLS; optional: or as plain text, on the same port [default: optional with --tls-cert]
    #[arg(long, value_name = "off|optional|required", env = "SIMPLE_KV_TLS", value_enum, hide_possible_values = true)]
    pub(crate) tls: Option<TlsMode>,

    /// Authorities whose certificates clients show, in PEM
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_TLS_CLIENT_CA")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// Whether clients that come by TLS show a certificate; with --tls required nobody comes in without one [default:
    /// required with --tls-client-ca]
    #[arg(long, value_name = "none|optional|required", env = "SIMPLE_KV_TLS_CLIENT_AUTH", value_enum)]
    #[arg(hide_possible_values = true)]
    pub(crate) tls_client_auth: Option<ClientAuth>,

    /// Reach the other nodes by TLS, showing --tls-cert to them, and take none that does not show one of --tls-peer-ca.
    /// The certificate of a node is for the host that it is reached at, by name or address
    #[arg(long, env = "SIMPLE_KV_TLS_PEERS", value_parser = FalseyValueParser::new())]
    pub(crate) tls_peers: bool,

    /// Authorities whose certificates the other nodes show, in PEM: whoever has one of them is a node
    #[arg(long, value_name = "FILE", env = "SIMPLE_KV_TLS_PEER_CA")]
    pub(crate) tls_peer_ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsMode {
    Off,
    Optional,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuth {
    None,
    Optional,
    Required,
}

/// What was asked for, as far as it is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    /// Nobody may come as plain text.
    pub(crate) required: bool,
    /// Whose certificates clients show, and whether they must.
    pub(crate) client_auth: Option<(&'a Path, bool)>,
    /// Whose certificates nodes show, if their links are by TLS.
    pub(crate) peer_ca: Option<&'a Path>,
}

impl TlsOptions {
    /// What is to be done: none if TLS is off. A failure if something is missing, or would mean nothing.
    pub(crate) fn wanted(&self) -> Result<Option<Wanted<'_>>, Failure> {
        let wrong = |what: &str| Err(Failure::Usage(what.to_owned()));
        let mode = self.tls.unwrap_or(if self.tls_cert.is_some() { TlsMode::Optional } else { TlsMode::Off });
        if mode == TlsMode::Off {
            return match self {
                Self { tls_peers: true, .. } => wrong("--tls-peers needs TLS: give --tls-cert, and not --tls off"),
                // Files that are named for later mean nothing now.
                Self { tls: Some(_), .. } => Ok(None),
                Self { tls_key: Some(_), .. } => wrong("--tls-key is the key of --tls-cert: give that, too"),
                Self { tls_client_ca: Some(_), .. } | Self { tls_client_auth: Some(_), .. } => {
                    wrong("--tls-client-ca and --tls-client-auth need TLS: give --tls-cert")
                }
                Self { tls_peer_ca: Some(_), .. } => wrong("--tls-peer-ca is for --tls-peers: give that, too"),
                _ => Ok(None),
            };
        }
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return wrong("TLS needs a certificate and its key: give --tls-cert and --tls-key");
        };
        let client_auth = match (self.tls_client_auth, &self.tls_client_ca) {
            (None | Some(ClientAuth::Required), Some(ca)) => Some((ca.as_path(), true)),
            (Some(ClientAuth::Optional), Some(ca)) => Some((ca.as_path(), false)),
            (Some(ClientAuth::None), _) | (None, None) => None,
            (Some(_), None) => {
                return wrong("--tls-client-auth needs the authorities of those certificates: give --tls-client-ca");
            }
        };
        let peer_ca = match (self.tls_peers, &self.tls_peer_ca) {
            (true, Some(ca)) => Some(ca.as_path()),
            (false, None) => None,
            (true, None) => {
                return wrong("--tls-peers needs the authorities of nodes' certificates: give --tls-peer-ca");
            }
            (false, Some(_)) => return wrong("--tls-peer-ca is for --tls-peers: give that, too"),
        };
        Ok(Some(Wanted { cert, key, required: mode == TlsMode::Required, client_auth, peer_ca }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        tls: TlsOptions,
    }

    fn parsed(flags: &str) -> TlsOptions {
        Only::try_parse_from(["x"].into_iter().chain(flags.split_whitespace())).expect("flags").tls
    }

    #[test]
    fn without_a_certificate_tls_is_off_and_with_one_optional() {
        assert_eq!(parsed("").wanted().unwrap(), None);
        assert_eq!(parsed("--tls off").wanted().unwrap(), None);
        assert_eq!(parsed("--tls off --tls-cert c --tls-key k --tls-client-ca a").wanted().unwrap(), None);
        let plain =
            Wanted { cert: Path::new("c"), key: Path::new("k"), required: false, client_auth: None, peer_ca: None };
        assert_eq!(parsed("--tls-cert c --tls-key k").wanted().unwrap(), Some(plain));
        let required = parsed("--tls-cert c --tls-key k --tls required");
        assert_eq!(required.wanted().unwrap(), Some(Wanted { required: true, ..plain }));
        let ca = Path::new("a");
        for (flags, client_auth) in [
            ("", Some((ca, true))),
            ("--tls-client-auth required", Some((ca, true))),
            ("--tls-client-auth optional", Some((ca, false))),
            ("--tls-client-auth none", None),
        ] {
            let options = parsed(&format!("--tls-cert c --tls-key k --tls-client-ca a {flags}"));
            assert_eq!(options.wanted().unwrap(), Some(Wanted { client_auth, ..plain }), "{flags}");
        }
        let peers = parsed("--tls-cert c --tls-key k --tls-peers --tls-peer-ca a");
        assert_eq!(peers.wanted().unwrap(), Some(Wanted { peer_ca: Some(ca), ..plain }));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        for (flags, told) in [
            ("--tls-cert c", "--tls-cert and --tls-key"),
            ("--tls-key k", "--tls-cert"),
            ("--tls optional", "--tls-cert and --tls-key"),
            ("--tls required", "--tls-cert and --tls-key"),
            ("--tls-client-ca a", "--tls-cert"),
            ("--tls-client-auth required", "--tls-cert"),
            ("--tls-cert c --tls-key k --tls-client-auth required", "--tls-client-ca"),
            ("--tls-cert c --tls-key k --tls-client-auth optional", "--tls-client-ca"),
            ("--tls-peers", "--tls-cert"),
            ("--tls-peers --tls off --tls-cert c --tls-key k --tls-peer-ca a", "--tls off"),
            ("--tls-cert c --tls-key k --tls-peers", "--tls-peer-ca"),
            ("--tls-cert c --tls-key k --tls-peer-ca a", "--tls-peers"),
            ("--tls-peer-ca a", "--tls-peers"),
        ] {
            let failure = parsed(flags).wanted().expect_err(flags);
            assert!(matches!(&failure, Failure::Usage(said) if said.contains(told)), "{flags}: {failure}");
        }
    }
}
