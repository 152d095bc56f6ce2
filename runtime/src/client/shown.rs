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

/// A value on a line, with its end. JSON escapes control characters below a space; here the others are, too, of which
/// one begins what moves a terminal.
pub(crate) fn json_line(value: &serde_json::Value) -> String {
    let mut line = String::new();
    for letter in value.to_string().chars() {
        match letter {
            _ if letter.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => line.push(letter),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = serde_json::json!({ "é\u{9b}2J": ["\u{7f}\u{1b}"] });
        let line = json_line(&value);
        assert_eq!(line, "{\"é\\u009b2J\":[\"\\u007f\\u001b\"]}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

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
