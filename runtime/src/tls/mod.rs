//! TLS for clients and for the links between nodes, by rustls. The core sees plain bytes: what is here lies between
//! them and the sockets.
//!
//! A connection that begins with a handshake record is TLS, on the same port as all others; see [`Session`].
//! A node that dials another one by TLS names the protocol [`PEER_ALPN`] in its first message, and is asked for a
//! certificate of `--tls-peer-ca`; everybody else is asked for what `--tls-client-auth` says. So a certificate that
//! makes somebody a client makes nobody a node.

pub(crate) mod client;
mod files;
mod options;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use kv_core::Mono;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};
use tracing::{info, warn};

use crate::failure::Failure;
pub(crate) use options::TlsOptions;
use options::Wanted;
pub(crate) use session::{Broken, Met, Session, Taken};

/// What a node that dials another one calls the protocol that it will speak.
const PEER_ALPN: &[u8] = b"simple-kv-peer";

/// How long a handshake may take. Around the world, with packets lost and sent again, it takes a few seconds.
pub(crate) const HANDSHAKE_MS: u64 = 10_000;

/// What is in force about TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    options: TlsOptions,
    configs: Option<Configs>,
}

/// What stands in the files.
#[derive(Debug)]
struct Configs {
    door: Door,
    dial: Option<Arc<ClientConfig>>,
}

/// How TLS is met in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting<'a> {
    pub(crate) door: &'a Door,
    /// When a handshake that begins now is given up.
    pub(crate) until: Mono,
}

/// How those are met who come in.
#[derive(Debug)]
pub(crate) struct Door {
    clients: Arc<ServerConfig>,
    /// If nodes are to come by TLS.
    peers: Option<Arc<ServerConfig>>,
    required: bool,
}

impl Door {
    /// Whether nobody may come as plain text.
    pub(crate) const fn is_required(&self) -> bool {
        self.required
    }

    /// Whether nodes must come by TLS.
    pub(crate) const fn guards_peers(&self) -> bool {
        self.peers.is_some()
    }
}

impl Tls {
    /// Reads the files that `options` name.
    pub(crate) fn load(options: TlsOptions) -> Result<Self, Failure> {
        let configs = options.wanted()?.map(|wanted| Configs::load(&wanted)).transpose()?;
        Ok(Self { options, configs })
    }

    /// Reads the files again, for connections that are made from now on. If one of them is of no use, nothing changes.
    pub(crate) fn reload(&mut self) {
        let Ok(Some(wanted)) = self.options.wanted() else { return };
        match Configs::load(&wanted) {
            Ok(configs) => {
                self.configs = Some(configs);
                info!(certificate = %wanted.cert.display(), "read the certificates again; new connections have them");
            }
            Err(failure) => warn!("certificates stay as they were: {failure}"),
        }
    }

    /// How those are met who come in; none if TLS is off.
    pub(crate) fn door(&self) -> Option<&Door> {
        self.configs.as_ref().map(|configs| &configs.door)
    }

    /// How those are met who come in at `now`; none if TLS is off.
    pub(crate) fn meeting(&self, now: Mono) -> Option<Meeting<'_>> {
        self.door().map(|door| Meeting { door, until: now.plus_ms(HANDSHAKE_MS) })
    }

    /// How other nodes are reached, if by TLS.
    pub(crate) fn dial(&self) -> Option<&Arc<ClientConfig>> {
        self.configs.as_ref()?.dial.as_ref()
    }
}

impl Configs {
    fn load(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        let chain = files::chain(wanted.cert)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let door = |ca, must| server_config(wanted, &chain, &provider, ca, must);
        let clients = match wanted.client_auth {
            Some((ca, must)) => door(Some(ca), must)?,
            None => door(None, false)?,
        };
        let (mut peers, mut dial) = (None, None);
        if let Some(ca) = wanted.peer_ca {
            let mut config = door(Some(ca), true)?;
            config.alpn_protocols = vec![PEER_ALPN.to_vec()];
            // Links stand for days, and each is to be checked by what is in force when it is made.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            peers = Some(Arc::new(config));
            dial = Some(Arc::new(client_config(wanted, chain, &provider, ca)?));
        }
        Ok(Self { door: Door { clients: Arc::new(clients), peers, required: wanted.required }, dial })
    }
}

/// How those are met who come in, and whose certificate they may, or `must`, show.
fn server_config(
    wanted: &Wanted<'_>,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    ca: Option<&Path>,
    must: bool,
) -> Result<ServerConfig, Failure> {
    let unfit = |error: rustls::Error| unfit(wanted, error);
    let verifier = match ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => {
            let roots = Arc::new(files::authorities(path)?);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let builder = if must { builder } else { builder.allow_unauthenticated() };
            builder
                .build()
                .map_err(|error| Failure::File(path.to_owned(), "use the authorities", io::Error::other(error)))?
        }
    };
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), files::key(wanted.key)?)
        .map_err(unfit)
}

/// How other nodes are reached.
fn client_config(
    wanted: &Wanted<'_>,
    chain: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
    ca: &Path,
) -> Result<ClientConfig, Failure> {
    let unfit = |error: rustls::Error| unfit(wanted, error);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_root_certificates(files::authorities(ca)?)
        .with_client_auth_cert(chain, files::key(wanted.key)?)
        .map_err(unfit)?;
    config.alpn_protocols = vec![PEER_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The host of `host:port`, which the certificate of whoever is there is for.
pub(crate) fn server_name(text: &str) -> io::Result<ServerName<'static>> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| io::Error::other("no certificate can be for such a host"))
}

fn unfit(wanted: &Wanted<'_>, error: rustls::Error) -> Failure {
    let told = match error {
        rustls::Error::InconsistentKeys(_) => {
            io::Error::other(format!("the key in {} is not its key", wanted.key.display()))
        }
        other => io::Error::other(other),
    };
    Failure::File(wanted.cert.to_owned(), "use the certificate", told)
}
