//! Secrets in files: what is in one is nobody's but its owner's.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::failure::Failure;

/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Far longer than a secret is, so that a wrong path, as `/dev/zero`, does not fill the memory.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The secret in a file, which only its owner may read, without the end of its line.
pub(crate) fn read_secret_file(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path).map_err(|error| Failure::File(path.to_owned(), "read the secret in", error))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    check_private(&file)?;
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

/// Fails if others than its owner may read or write a file.
pub(crate) fn check_private(file: &File) -> io::Result<()> {
    match file.metadata()?.mode() & 0o777 {
        mode if mode & OTHERS == 0 => Ok(()),
        mode => Err(io::Error::other(format!(
            "it is not its owner's alone (its mode is {mode:o}); take it from others by chmod 600"
        ))),
    }
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
}
