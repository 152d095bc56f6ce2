//! Secrets in files: what is in one is nobody's but its owner's.
//!
//! systemd shows a credential that it gives to the user of a service by an access list as one of the mode 0440: what
//! looks like its group's rights are those of that user. So what lies in the directory that it names may be read by its
//! group; nobody else reaches into that directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::failure::Failure;

/// What group and others may do.
const OTHERS: u32 = 0o077;
/// Of that, what they may in the directory of credentials.
const READ_BY_GROUP: u32 = 0o040;
/// Where systemd tells a service that directory.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Far longer than a secret is, so that a wrong path, as `/dev/zero`, does not fill the memory.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The secret in a file, which only its owner may read, without the end of its line.
pub(crate) fn read_secret_file(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path).map_err(|error| Failure::File(path.to_owned(), "read the secret in", error))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    check_private(&file, path)?;
    let mut secret = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut secret)?;
    if secret.ends_with(b"\n") {
        secret.truncate(secret.len() - if secret.ends_with(b"\r\n") { 2 } else { 1 });
    }
    match secret.len() as u64 {
        0 => Err(io::Error::other("there is nothing in it")),
        1..=SECRET_BYTES_MAX => Ok(secret),
        _ => Err(io::Error::other(format!("it is too long, at most {SECRET_BYTES_MAX} bytes"))),
    }
}

/// Fails if others than its owner may read or write the file at `path`.
pub(crate) fn check_private(file: &File, path: &Path) -> io::Result<()> {
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from);
    let allowed = if is_credential(path, credentials.as_deref()) { READ_BY_GROUP } else { 0 };
    match file.metadata()?.mode() & 0o777 {
        mode if mode & OTHERS & !allowed == 0 => Ok(()),
        mode => Err(io::Error::other(format!(
            "it is not its owner's alone (its mode is {mode:o}); take it from others by chmod 600"
        ))),
    }
}

/// Whether `path` leads straight into the directory of credentials.
fn is_credential(path: &Path, directory: Option<&Path>) -> bool {
    let Some(rest) = directory.filter(|directory| directory.is_absolute()).and_then(|at| path.strip_prefix(at).ok())
    else {
        return false;
    };
    rest.components().count() == 1 && matches!(rest.components().next(), Some(Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_and_without_the_end_of_its_line() {
        let path = std::env::temp_dir().join(format!("simple-kv-secret-{}", std::process::id()));
        let read = |bytes: &[u8], mode: u32| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = read_secret_file(&path).map_err(|failure| failure.to_string());
            fs::remove_file(&path).unwrap();
            read
        };
        for mode in [0o600, 0o400, 0o700] {
            assert_eq!(read(b"s e\n\n", mode), Ok(b"s e\n".to_vec()));
        }
        assert_eq!(read(b"s\r\n", 0o600), Ok(b"s".to_vec()));
        assert_eq!(read(&[b'x'; 64 << 10], 0o600), Ok(vec![b'x'; 64 << 10]));
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let said = read(b"s", mode).unwrap_err();
            assert!(said.contains(&format!("{mode:o}")) && said.contains("chmod 600"), "{said}");
        }
        for (bytes, says) in [(&b""[..], "nothing"), (b"\n", "nothing"), (&[b'x'; (64 << 10) + 1], "too long")] {
            let said = read(bytes, 0o600).unwrap_err();
            assert!(said.contains(says) && said.contains("simple-kv-secret-"), "{said}");
        }
        assert!(read_secret_file(&path).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn what_is_in_the_directory_of_credentials_and_nowhere_else_is_a_credential() {
        let directory = Some(Path::new("/run/credentials/simple-kv.service"));
        for (path, expected) in [
            ("/run/credentials/simple-kv.service/password", true),
            ("/run/credentials/simple-kv.service//password", true),
            ("/run/credentials/simple-kv.service", false),
            ("/run/credentials/simple-kv.service/..", false),
            ("/run/credentials/simple-kv.service/../other.service/password", false),
            ("/run/credentials/simple-kv.service/a/password", false),
            ("/run/credentials/simple-kv.service2/password", false),
            ("/etc/password", false),
            ("password", false),
        ] {
            assert_eq!(is_credential(Path::new(path), directory), expected, "{path}");
            assert!(!is_credential(Path::new(path), None));
        }
        assert!(!is_credential(Path::new("password"), Some(Path::new(""))));
    }
}
