//! TLS of the tools of the binary that are clients: they connect and shake hands before they do anything else.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::files;
use crate::failure::Failure;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct ClientTlsOptions {
    /// Connect by TLS
    #[arg(long, requires = "tls_ca")]
    pub(crate) tls: bool,

    /// Authorities of the server's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Certificate to show to the server, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key in PEM, which other users must not be able to read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// How a server is reached by TLS.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTlsOptions {
    /// How `server` (`host:port`), whose certificate is for that host, is reached; none if not by TLS.
    pub(crate) fn load(&self, server: &str) -> Result<Option<ClientTls>, Failure> {
        let Some(ca) = self.tls_ca.as_ref().filter(|_| self.tls) else { return Ok(None) };
        let failed = |error| Failure::Connect(server.to_owned(), error);
        let unfit = |error| failed(io::Error::other::<rustls::Error>(error));
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_root_certificates(files::authorities(ca)?);
        let config = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(files::chain(cert)?, files::key(key)?).map_err(unfit)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(ClientTls { config: Arc::new(config), name: super::server_name(server).map_err(failed)? }))
    }
}

impl ClientTls {
    /// Shakes hands on a socket that blocks, for as long as its time-outs let it.
    pub(crate) fn shake_hands(&self, socket: &mut TcpStream) -> io::Result<ClientConnection> {
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(socket)?;
        }
        Ok(connection)
    }
}
