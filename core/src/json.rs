//! JSON on one line, as `STATS`, `WHY` and `CONFLICTS` answer it.

use std::fmt::Write as _;

/// Appends JSON to a text.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    text: &'a mut String,
    first: bool,
}

impl<'a> Json<'a> {
    pub(crate) fn new(text: &'a mut String) -> Self {
        Self { text, first: true }
    }

    pub(crate) fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.first = true;
    }

    pub(crate) fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.first = false;
    }

    pub(crate) fn item(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.text.push(',');
        }
    }

    pub(crate) fn key(&mut self, key: &str) {
        self.item();
        self.quoted(key);
        self.text.push(':');
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        self.quoted(value);
    }

    pub(crate) fn string_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.string(key, value),
            None => self.literal(key, "null"),
        }
    }

    pub(crate) fn strings<'s>(&mut self, key: &str, values: impl Iterator<Item = &'s str>) {
        self.key(key);
        self.open('[');
        for value in values {
            self.item();
            self.quoted(value);
        }
        self.close(']');
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.literal(key, &value.to_string());
    }

    pub(crate) fn number_or_null(&mut self, key: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(key, value),
            None => self.literal(key, "null"),
        }
    }

    pub(crate) fn literal(&mut self, key: &str, value: &str) {
        self.key(key);
        self.text.push_str(value);
    }

    /// Bytes of any kind, as a string that is what stands between the double quotes of a word in the line dialect
    /// ([`words`](crate::wire::words)): text stays as it is; a quote and a backslash have a backslash before them,
    /// and bytes that are a control character or no UTF-8 are `\n`, `\r`, `\t` or `\xHH`. So nothing is lost, and
    /// what a client has decoded it can send back in a `SET`.
    pub(crate) fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.text.push('"');
        for chunk in value.utf8_chunks() {
            self.text_of_word(chunk.valid());
            chunk.invalid().iter().for_each(|byte| self.hex(*byte));
        }
        self.text.push('"');
    }

    fn text_of_word(&mut self, text: &str) {
        let mut from = 0;
        for (at, special) in text.match_indices(|c: char| c == '"' || c == '\\' || c.is_control()) {
            self.text.push_str(&text[from..at]);
            from = at + special.len();
            // Each backslash of the word is doubled for JSON, and so is one before a quote.
            match special {
                "\"" => self.text.push_str(r#"\\\""#),
                "\\" => self.text.push_str(r"\\\\"),
                "\n" => self.text.push_str(r"\\n"),
                "\r" => self.text.push_str(r"\\r"),
                "\t" => self.text.push_str(r"\\t"),
                control => control.bytes().for_each(|byte| self.hex(byte)),
            }
        }
        self.text.push_str(&text[from..]);
    }

    fn hex(&mut self, byte: u8) {
        const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
        self.text.push_str(r"\\x");
        self.text.push(high);
        self.text.push(low);
    }

    fn quoted(&mut self, value: &str) {
        self.text.push('"');
        for character in value.chars() {
            match character {
                '"' | '\\' => self.text.extend(['\\', character]),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                // Writing to a string cannot fail.
                control if control.is_control() => drop(write!(self.text, "\\u{:04x}", u32::from(control))),
                plain => self.text.push(plain),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::words::Unquoted;

    fn bytes(value: &[u8]) -> String {
        let mut text = String::new();
        Json::new(&mut text).bytes("v", value);
        text
    }

    /// What a JSON string without `\u` stands for.
    fn decoded(text: &str) -> String {
        let inner = text.strip_prefix("\"v\":\"").and_then(|rest| rest.strip_suffix('"')).expect("a JSON string");
        let mut decoded = String::new();
        let mut rest = inner.chars();
        while let Some(character) = rest.next() {
            assert!(character != '"' && !character.is_control(), "{inner}");
            decoded.push(if character == '\\' { rest.next().expect("an escape is whole") } else { character });
        }
        decoded
    }

    #[test]
    fn text_stays_readable_and_the_rest_is_escaped() {
        for (value, text) in [
            (&b"hello world"[..], "hello world"),
            ("Gr\u{fc}\u{df}e \u{1f980}".as_bytes(), "Gr\u{fc}\u{df}e \u{1f980}"),
            (b"{\"a\":1}", r#"{\\\"a\\\":1}"#),
            (b"a\\b\n\r\t", r"a\\\\b\\n\\r\\t"),
            (b"\0\x1b[2J\x7f\xff\xc3", r"\\x00\\x1b[2J\\x7f\\xff\\xc3"),
            ("\u{85}".as_bytes(), r"\\xc2\\x85"),
            (b"", ""),
        ] {
            assert_eq!(bytes(value), format!("\"v\":\"{text}\""));
        }
    }

    #[test]
    fn names_are_escaped_as_json_wants_it() {
        let mut text = String::new();
        let mut json = Json::new(&mut text);
        json.open('{');
        json.strings("names", ["a\"b", "c\n\x01"].into_iter());
        json.string_or_null("none", None);
        json.number_or_null("one", Some(1));
        json.close('}');
        assert_eq!(text, "{\"names\":[\"a\\\"b\",\"c\\n\\u0001\"],\"none\":null,\"one\":1}");
    }

    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        let text = "[a\"\\\\\n\u{7f}\u{85}\u{fc}\u{1f980}x0]{0,12}".prop_map(String::into_bytes);
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), text]
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_through_a_line(value in any_value()) {
            let line = format!("\"{}\"", decoded(&bytes(&value)));
            let mut unquoted = Unquoted::default();
            let read: Vec<_> = unquoted.words(line.as_bytes()).unwrap().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, vec![value]);
        }
    }
}
