//! Certificates and keys, as they stand in files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::failure::Failure;

/// The bundle of all public authorities has some 200 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What users other than the owner and its group may do with a file.
const MODE_OTHERS: u32 = 0o007;

/// A chain of certificates, the node's own first.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let fails = |error| Failure::File(path.to_owned(), "use the certificate", error);
    certificates(path).map_err(fails)
}

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, Failure> {
    let fails = |error| Failure::File(path.to_owned(), "use the authorities", error);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(fails)? {
        roots.add(certificate).map_err(|error| fails(io::Error::other(error)))?;
    }
    Ok(roots)
}

/// A private key that is the owner's, or its group's.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let read = || {
        let file = File::open(path)?;
        if file.metadata()?.permissions().mode() & MODE_OTHERS != 0 {
            let told = format!("others can read it: take that from them by 'chmod o= {}'", path.display());
            return Err(io::Error::other(told));
        }
        PrivateKeyDer::from_pem_slice(&text(file)?).map_err(|error| unreadable(error, "private key"))
    };
    read().map_err(|error| Failure::File(path.to_owned(), "use the private key", error))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = text(File::open(path)?)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(pem::Error::NoItemsFound, "certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(error, "certificate")),
    }
}

fn text(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is far too long"));
    }
    Ok(text)
}

fn unreadable(error: pem::Error, what: &str) -> io::Error {
    match error {
        pem::Error::NoItemsFound => io::Error::other(format!("there is no {what} in it: give a file in PEM")),
        other => io::Error::other(format!("it is not whole: {other:?}")),
    }
}
