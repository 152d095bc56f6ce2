//! The protocol of Redis, versions 2 and 3, as a client sees it.

/// What a line says that begins an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    Null,
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Boolean(bool),
    Double(&'a [u8]),
    BigNumber(&'a [u8]),
    /// So many bytes follow, and CR LF.
    Blob(usize),
    BlobError(usize),
    Verbatim(usize),
    /// So many answers follow.
    Array(usize),
    Set(usize),
    Push(usize),
    /// So many pairs of answers follow.
    Map(usize),
    /// As many pairs, and then the answer that they are about.
    Attribute(usize),
}

/// Reads a line without its end; none if it begins no answer.
pub(crate) fn head(line: &[u8]) -> Option<Head<'_>> {
    let (kind, rest) = line.split_first()?;
    let count = || number(rest).and_then(|count| usize::try_from(count).ok());
    match kind {
        b'+' => Some(Head::Simple(rest)),
        b'-' => Some(Head::Error(rest)),
        b':' => number(rest).map(Head::Integer),
        b'_' if rest.is_empty() => Some(Head::Null),
        b'#' => match rest {
            b"t" => Some(Head::Boolean(true)),
            b"f" => Some(Head::Boolean(false)),
            _ => None,
        },
        b',' => Some(Head::Double(rest)),
        b'(' => Some(Head::BigNumber(rest)),
        b'$' | b'*' if rest == b"-1" => Some(Head::Null),
        b'$' => count().map(Head::Blob),
        b'!' => count().map(Head::BlobError),
        b'=' => count().map(Head::Verbatim),
        b'*' => count().map(Head::Array),
        b'~' => count().map(Head::Set),
        b'>' => count().map(Head::Push),
        b'%' => count().map(Head::Map),
        b'|' => count().map(Head::Attribute),
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok())
}

/// A node that has too many connections says so before it knows in which protocol it is spoken to.
pub(crate) fn is_crowded(line: &[u8]) -> bool {
    line.starts_with(b"Error: ")
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Boolean(bool),
    /// As it is written.
    Double(Vec<u8>),
    BigNumber(Vec<u8>),
    Blob(Vec<u8>),
    /// Text for people.
    Verbatim(Vec<u8>),
    Array(Vec<Self>),
    Set(Vec<Self>),
    /// Said without having been asked for.
    Push(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// The bytes of a text of any kind.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(bytes) | Self::Blob(bytes) | Self::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of an error.
    pub(crate) fn error(&self) -> Option<&[u8]> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// The answers that this one is a list of.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items,
            _ => &[],
        }
    }

    /// The pairs of a map, also of one that is a flat list, as version 2 has them.
    pub(crate) fn pairs(&self) -> Vec<(&Self, &Self)> {
        match self {
            Self::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
            Self::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
            _ => Vec::new(),
        }
    }

    /// What a map has under a name.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.pairs().into_iter().find(|(key, _)| key.bytes() == Some(name.as_bytes())).map(|(_, value)| value)
    }
}

/// Appends a request.
pub(crate) fn emit<W: AsRef<[u8]>>(words: &[W], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_answers_or_they_do_not() {
        for (line, expected) in [
            (&b"+OK"[..], Head::Simple(b"OK")),
            (b"-ERR no", Head::Error(b"ERR no")),
            (b":-12", Head::Integer(-12)),
            (b"$-1", Head::Null),
            (b"*-1", Head::Null),
            (b"_", Head::Null),
            (b"$0", Head::Blob(0)),
            (b"!3", Head::BlobError(3)),
            (b"=7", Head::Verbatim(7)),
            (b"#t", Head::Boolean(true)),
            (b",inf", Head::Double(b"inf")),
            (b"(12345678901234567890", Head::BigNumber(b"12345678901234567890")),
            (b"%2", Head::Map(2)),
            (b"|1", Head::Attribute(1)),
            (b">3", Head::Push(3)),
            (b"~1", Head::Set(1)),
        ] {
            assert_eq!(head(line), Some(expected), "{}", line.escape_ascii());
        }
        for line in [&b""[..], b"HTTP/1.1 400 Bad Request", b"$", b"$-2", b"$x", b":", b":1.5", b"#x", b"_x", b"$?"] {
            assert_eq!(head(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn requests_are_written_with_any_bytes() {
        let mut out = Vec::new();
        emit(&[&b"GET"[..], b"a\r\n\xff"], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\na\r\n\xff\r\n");
    }
}
