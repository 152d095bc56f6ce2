//! What a server says, fit for a terminal: nothing of it moves the cursor, changes colours or sets a title.

/// In double quotes, with what is not printable ASCII escaped, as `redis-cli` shows values and as a line takes them.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

/// Text as it is, but for what is not printable ASCII, which is escaped.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_reaches_a_terminal_that_could_move_it() {
        let all: Vec<u8> = (0..=255).collect();
        for text in [quoted(&all), plain(&all)] {
            assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
        }
        assert_eq!(quoted(b"\x1b]0;x\x07\n\"\xff"), r#""\x1b]0;x\a\n\"\xff""#);
        assert_eq!(plain(b"a\x1b[2Jb\n"), r"a\x1b[2Jb\x0a");
    }
}
