//! TLS of the tools of the binary that are clients: they connect and shake hands before they do anything else.
//!
//! Whose certificates are good is always told, by `--tls-ca`: a node's is seldom of an authority that the system knows,
//! and where it is, that file can be given.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error};

use super::files;
use crate::client::plain;
use crate::failure::Failure;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct ClientTlsOptions {
    /// Connect by TLS
    #[arg(long, requires = "tls_ca")]
    pub(crate) tls: bool,

    /// Authorities of the server's certificate, in PEM; those of the system are in a file, too, as
    /// /etc/ssl/certs/ca-certificates.crt
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Certificate to show to the server, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its private key in PEM, which other users must not be able to read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Host that the server's certificate is for [default: the one that is connected to]
    #[arg(long, value_name = "HOST", requires = "tls", value_parser = parse_name)]
    pub(crate) tls_name: Option<ServerName<'static>>,
}

/// How servers are reached by TLS.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    /// What their certificates are for, if not for the hosts that they are reached at.
    name: Option<ServerName<'static>>,
}

impl ClientTlsOptions {
    /// How servers are reached; none if not by TLS.
    pub(crate) fn load(&self) -> Result<Option<ClientTls>, Failure> {
        let Some(ca) = self.tls_ca.as_ref().filter(|_| self.tls) else { return Ok(None) };
        let unfit = |error: Error| Failure::System("use TLS", io::Error::other(error));
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_root_certificates(files::authorities(ca)?);
        let config = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let unfit = |error: Error| Failure::File(cert.clone(), "use the certificate", io::Error::other(error));
                builder.with_client_auth_cert(files::chain(cert)?, files::key(key)?).map_err(unfit)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(ClientTls { config: Arc::new(config), name: self.tls_name.clone() }))
    }
}

impl ClientTls {
    /// Shakes hands with `server` (`host:port`) on a socket that blocks, whose time-outs are changed by it.
    pub(crate) fn shake_hands(
        &self,
        server: &str,
        socket: &mut TcpStream,
        within: Duration,
    ) -> io::Result<ClientConnection> {
        let begin = Instant::now();
        let name = self.name.clone().map_or_else(|| super::server_name(server), Ok)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() || connection.wants_write() {
            let left = within.saturating_sub(begin.elapsed());
            // A time-out of 0 would be none.
            if left.is_zero() {
                return Err(unfinished());
            }
            socket.set_read_timeout(Some(left))?;
            socket.set_write_timeout(Some(left))?;
            match step(&mut connection, socket) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(unfinished()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(connection)
    }
}

/// Writes once or reads once, as the handshake wants it.
fn step(connection: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    if connection.wants_write() {
        return connection.write_tls(socket).map(|_| ());
    }
    if connection.read_tls(socket)? == 0 {
        return Err(io::Error::other("it ended the handshake of TLS; see that it speaks TLS, or leave out --tls"));
    }
    if let Err(error) = connection.process_new_packets() {
        // It is told why; if it does not take that, it sees the end.
        let _ = connection.write_tls(socket);
        return Err(explained(&error));
    }
    Ok(())
}

fn unfinished() -> io::Error {
    io::Error::other("it does not finish the handshake of TLS; see that it speaks TLS, or leave out --tls")
}

/// What TLS came to nothing by, and what to do about it.
pub(crate) fn explained(error: &Error) -> io::Error {
    let what = match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                "its certificate is of no authority in --tls-ca; give the file of the one that it is of"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another host; connect to the one that it is for, or give --tls-name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; renew it there, or see that the clock is right here"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; see that the clocks are right"
            }
            _ => "its certificate is of no use; renew it there",
        },
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate; give --tls-cert and --tls-key"
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "it does not take the certificate of --tls-cert; give one of an authority that it knows",
        Error::InvalidMessage(_) => "it does not speak TLS; leave out --tls, or name the port where it does",
        _ => "TLS came to nothing",
    };
    // What a certificate says is its owner's choice.
    io::Error::other(format!("{what} ({})", plain(error.to_string().as_bytes())))
}

fn parse_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| "give the name of a host, or its address".to_owned())
}
