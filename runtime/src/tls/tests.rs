//! What tests need of files.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::RootCertStore;

use super::*;

/// A node's files, and those of a client that trusts it.
struct Files {
    folder: PathBuf,
    roots: RootCertStore,
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How a node meets who comes in, and how a client that trusts it connects.
pub(crate) fn door() -> (Door, Arc<ClientConfig>) {
    let files = files();
    let wanted = Wanted {
        cert: &files.folder.join("cert"),
        key: &files.folder.join("key"),
        required: false,
        client_auth: None,
        peer_ca: Some(&files.folder.join("cert")),
    };
    let Configs { door, .. } = Configs::load(&wanted).expect("whole files");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    (door, Arc::new(config.with_root_certificates(files.roots.clone()).with_no_client_auth()))
}

fn files() -> Files {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("simple-kv-tls-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("cert"), made.cert.pem()).expect("a file");
    let key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("key"));
    key.expect("a file").write_all(made.signing_key.serialize_pem().as_bytes()).expect("a file");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    Files { folder, roots }
}
