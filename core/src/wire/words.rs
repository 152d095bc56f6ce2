//! The words of a line, with Redis's quoting, so that any byte can be typed.
//!
//! Blanks (spaces and tabs) separate words. A word that starts with a quote runs to the closing one, which a blank or
//! the end of the line must follow. In double quotes `\n \r \t \b \a` and `\xHH` stand for the bytes they name and a
//! backslash before anything else for that byte itself; in single quotes `\'` and `\\` stand for the second byte. A
//! quote inside a word is an ordinary byte: `it's`, `{"a":1}`.

use memchr::{memchr2, memchr2_iter};

/// Why a line cannot be cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordsError {
    /// The line ends within quotes.
    Unclosed,
    /// A closing quote is followed by another byte than a blank.
    Glued,
    /// It has more than 4,096.
    TooMany,
}

/// Most words in one line. Nobody else is served while a line is run, and a `DEL` takes a quarter of a microsecond for
/// each key: this many take about a millisecond.
pub(crate) const WORDS_MAX: usize = 4_096;

/// The words that are left of a line, or of another list of words; an iterator over them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Words<'a> {
    /// Text in which no quote opens a word.
    InPlace(&'a [u8]),
    /// Words side by side, and the length of each.
    Unquoted { text: &'a [u8], lengths: &'a [usize] },
    /// Words somewhere in these bytes.
    Spans { bytes: &'a [u8], spans: &'a [Span] },
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: usize,
    /// Where it ends.
    pub(crate) to: usize,
}

impl<'a> Words<'a> {
    /// The first `count` of them, or all there are, and the rest.
    pub(crate) fn split(self, count: usize) -> (Self, Self) {
        match self {
            Self::InPlace(text) => {
                let mut rest = self;
                rest.by_ref().take(count).for_each(drop);
                let left = if let Self::InPlace(left) = rest { left.len() } else { 0 };
                let (first, rest) = text.split_at(text.len() - left);
                (Self::InPlace(first), Self::InPlace(rest))
            }
            Self::Unquoted { text, lengths } => {
                let (first, rest) = lengths.split_at(count.min(lengths.len()));
                let (before, behind) = text.split_at(first.iter().sum());
                (Self::Unquoted { text: before, lengths: first }, Self::Unquoted { text: behind, lengths: rest })
            }
            Self::Spans { bytes, spans } => {
                let (first, rest) = spans.split_at(count.min(spans.len()));
                (Self::Spans { bytes, spans: first }, Self::Spans { bytes, spans: rest })
            }
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::InPlace(text) => {
                let start = text.iter().position(|byte| !is_blank(*byte))?;
                let (word, rest) = split_word(&text[start..]);
                *text = rest;
                Some(word)
            }
            Self::Unquoted { text, lengths } => {
                let (length, rest) = lengths.split_first()?;
                let (word, after) = text.split_at(*length);
                (*text, *lengths) = (after, rest);
                Some(word)
            }
            Self::Spans { bytes, spans } => {
                let (span, rest) = spans.split_first()?;
                *spans = rest;
                Some(&bytes[span.from..span.to])
            }
        }
    }
}

/// The words of a line as a node takes them from whoever types it.
///
/// # Errors
/// Says why the line cannot be cut.
pub fn typed_words(line: &[u8]) -> Result<Vec<Vec<u8>>, WordsError> {
    Unquoted::default().words(line).map(|words| words.map(<[u8]>::to_vec).collect())
}

/// Room for the words of a line with quotes, used again and again. Nothing before the first such line.
#[derive(Debug, Default)]
pub(crate) struct Unquoted(Option<Box<Room>>);

#[derive(Debug, Default)]
struct Room {
    text: Vec<u8>,
    lengths: Vec<usize>,
}

/// Capacity in bytes that is kept between lines: more than people type, and 10,000 connections that all once used
/// quotes hold some 80 MB at the most.
const KEPT_BYTES: usize = 4 << 10;

impl Unquoted {
    /// The words of `line`, at most [`WORDS_MAX`], in place if there is nothing to unquote. A line with more is read no
    /// further than to the first one too many.
    pub(crate) fn words<'a>(&'a mut self, line: &'a [u8]) -> Result<Words<'a>, WordsError> {
        if !opens_quote(line) {
            let words = Words::InPlace(line);
            // A word and the blank behind it take two bytes, so that a line of the usual length need not be counted.
            let is_short = line.len() < 2 * WORDS_MAX;
            let has_too_many = !is_short && words.into_iter().nth(WORDS_MAX).is_some();
            return if has_too_many { Err(WordsError::TooMany) } else { Ok(words) };
        }
        self.0.get_or_insert_default().words(line)
    }

    /// Gives back what an unusually long line made it grow to.
    pub(crate) fn trim(&mut self) {
        if let Some(room) = &mut self.0 {
            trim(&mut room.text);
            trim(&mut room.lengths);
        }
    }
}

impl Room {
    fn words<'a>(&'a mut self, line: &'a [u8]) -> Result<Words<'a>, WordsError> {
        self.text.clear();
        self.lengths.clear();
        let mut rest = line;
        while let Some(start) = rest.iter().position(|byte| !is_blank(*byte)) {
            if self.lengths.len() == WORDS_MAX {
                return Err(WordsError::TooMany);
            }
            let before = self.text.len();
            rest = match rest[start] {
                b'"' => self.take_double_quoted(&rest[start + 1..])?,
                b'\'' => self.take_single_quoted(&rest[start + 1..])?,
                _ => {
                    let (word, rest) = split_word(&rest[start..]);
                    self.text.extend_from_slice(word);
                    rest
                }
            };
            self.lengths.push(self.text.len() - before);
        }
        Ok(Words::Unquoted { text: &self.text, lengths: &self.lengths })
    }

    /// Takes a word up to its closing quote; answers what follows.
    fn take_double_quoted<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], WordsError> {
        loop {
            let at = memchr2(b'"', b'\\', rest).ok_or(WordsError::Unclosed)?;
            self.text.extend_from_slice(&rest[..at]);
            if rest[at] == b'"' {
                return after_quote(&rest[at + 1..]);
            }
            let (byte, used) = match rest[at + 1..] {
                [] => return Err(WordsError::Unclosed),
                [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    (hex_value(high) << 4 | hex_value(low), 3)
                }
                [b'n', ..] => (b'\n', 1),
                [b'r', ..] => (b'\r', 1),
                [b't', ..] => (b'\t', 1),
                [b'b', ..] => (0x08, 1),
                [b'a', ..] => (0x07, 1),
                [other, ..] => (other, 1),
            };
            self.text.push(byte);
            rest = &rest[at + 1 + used..];
        }
    }

    /// Takes a word up to its closing quote; answers what follows.
    fn take_single_quoted<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], WordsError> {
        loop {
            let at = memchr2(b'\'', b'\\', rest).ok_or(WordsError::Unclosed)?;
            self.text.extend_from_slice(&rest[..at]);
            if rest[at] == b'\'' {
                return after_quote(&rest[at + 1..]);
            }
            let (byte, used) = match rest.get(at + 1) {
                Some(escaped @ (b'\'' | b'\\')) => (*escaped, 2),
                _ => (b'\\', 1),
            };
            self.text.push(byte);
            rest = &rest[at + used..];
        }
    }
}

/// Gives back the room of an empty or used up buffer if it is more than is kept between lines.
pub(crate) fn trim<T>(buffer: &mut Vec<T>) {
    if buffer.capacity() * size_of::<T>() > KEPT_BYTES {
        *buffer = Vec::new();
    }
}

/// Whether a word of `line` starts with a quote.
fn opens_quote(line: &[u8]) -> bool {
    memchr2_iter(b'"', b'\'', line).any(|at| at == 0 || is_blank(line[at - 1]))
}

fn after_quote(rest: &[u8]) -> Result<&[u8], WordsError> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(WordsError::Glued),
        _ => Ok(rest),
    }
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(memchr2(b' ', b'\t', text).unwrap_or(text.len()))
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &[u8], expected: Result<&[&[u8]], WordsError>) {
        let words = typed_words(line);
        let expected = expected.map(|words| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>());
        assert_eq!(words, expected, "{}", line.escape_ascii());
    }

    #[test]
    fn lines_are_cut_into_words() {
        check(b"", Ok(&[]));
        check(b" \t ", Ok(&[]));
        check(b"GET key", Ok(&[b"GET", b"key"]));
        check(b"\t GET \t key  ", Ok(&[b"GET", b"key"]));
        check(br#"a "b c" d"#, Ok(&[b"a", b"b c", b"d"]));
        check(br#""a"	'b'"#, Ok(&[b"a", b"b"]));
        check(br#""" ''"#, Ok(&[b"", b""]));
        check(br#"it's {"a":1} x""#, Ok(&[b"it's", br#"{"a":1}"#, b"x\""]));
        check(br#""\n\r\t\b\a\\\"\x00\xFf\xfF""#, Ok(&[b"\n\r\t\x08\x07\\\"\x00\xff\xff"]));
        check(br#""\q\xg0\x0""#, Ok(&[b"qxg0x0"]));
        check(br#"'\n\'\\"'"#, Ok(&[b"\\n'\\\""]));
        check(br"a\nb", Ok(&[br"a\nb"]));
    }

    #[test]
    fn bad_quotes_are_told() {
        for line in [r#"""#, "'", r#"a "b"#, r#""\"#, r#""\""#, r#"'a\'"#, r#"a 'b""#] {
            check(line.as_bytes(), Err(WordsError::Unclosed));
        }
        for line in [r#""a"b"#, "'a'b", r#"x "a""b""#, "'a'\"b\""] {
            check(line.as_bytes(), Err(WordsError::Glued));
        }
    }

    #[test]
    fn words_are_counted() {
        for word in ["a", "'a'", "'' a", "aaaa", "  a"] {
            let words_each = word.split_ascii_whitespace().count();
            for count in [WORDS_MAX - words_each, WORDS_MAX, WORDS_MAX + words_each, 100_000] {
                let line = [word].repeat(count / words_each).join(" ");
                let read = Unquoted::default().words(line.as_bytes()).map(Iterator::count);
                let expected = if count > WORDS_MAX { Err(WordsError::TooMany) } else { Ok(count) };
                assert_eq!(read, expected, "{count} words, as in {word}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_quoted(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
            let mut line = Vec::new();
            for word in &words {
                line.extend_from_slice(b" \"");
                line.extend(word.iter().flat_map(|byte| format!("\\x{byte:02x}").into_bytes()));
                line.push(b'"');
            }
            let mut unquoted = Unquoted::default();
            let read: Vec<_> = unquoted.words(&line).unwrap().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, words);
        }
    }

    #[test]
    fn buffers_up_to_a_size_are_kept_between_lines() {
        for (capacity, is_kept) in [(1, true), (KEPT_BYTES / 8, true), (KEPT_BYTES / 8 + 1, false)] {
            let mut buffer: Vec<u64> = Vec::with_capacity(capacity);
            trim(&mut buffer);
            assert_eq!(buffer.capacity() > 0, is_kept, "{capacity}");
        }
    }
}
