//! What is told of a command that its client may not give, in the words of Redis and in those of people.

use crate::acl::Denied;

/// Bytes of a key or channel that are repeated.
const ECHO_BYTES_MAX: usize = 128;

/// Appends the error that Redis clients know, its code included.
pub(super) fn emit_code(denied: &Denied<'_>, out: &mut Vec<u8>) {
    match denied {
        Denied::Stranger => out.extend_from_slice(b"NOAUTH Authentication required."),
        Denied::StrangerHello => out.extend_from_slice(
            b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
              <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
              time",
        ),
        Denied::Command(unit) => {
            out.extend_from_slice(b"NOPERM this user has no permissions to run the '");
            out.extend_from_slice(unit.name().as_bytes());
            out.extend_from_slice(b"' command");
        }
        Denied::Key(_) => {
            out.extend_from_slice(b"NOPERM this user has no permissions to access one of the keys used as arguments")
        }
        Denied::Channel(_) => out
            .extend_from_slice(b"NOPERM this user has no permissions to access one of the channels used as arguments"),
    }
}

/// Appends what `ACL DRYRUN` answers.
pub(crate) fn emit_dry(denied: &Denied<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"This user has no permissions to ");
    match denied {
        Denied::Stranger | Denied::StrangerHello => out.extend_from_slice(b"run anything"),
        Denied::Command(unit) => push_quoted(b"run the '", unit.name().as_bytes(), b"' command", out),
        Denied::Key(key) => push_quoted(b"access the '", key, b"' key", out),
        Denied::Channel(channel) => push_quoted(b"access the '", channel, b"' channel", out),
    }
}

/// Appends a sentence for people.
pub(super) fn emit_sentence(denied: &Denied<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Error: ");
    match denied {
        Denied::Stranger | Denied::StrangerHello => {
            out.extend_from_slice(b"log in first, by AUTH password or AUTH user password");
        }
        Denied::Command(unit) => {
            push_quoted(b"this user may not run ", unit.name().to_ascii_uppercase().as_bytes(), b"", out);
        }
        Denied::Key(key) => push_quoted(b"this user may not do that to the key '", key, b"'", out),
        Denied::Channel(channel) => push_quoted(b"this user may not use the channel '", channel, b"'", out),
    }
    out.extend_from_slice(b"; nothing was changed");
}

fn push_quoted(before: &[u8], word: &[u8], after: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    let shown = word.iter().take(ECHO_BYTES_MAX);
    out.extend(shown.map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }));
    out.extend_from_slice(after);
}
