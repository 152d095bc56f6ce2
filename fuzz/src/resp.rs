//! Requests of the Redis protocol, whole and broken: what comes back are whole replies of it.

use arbitrary::Arbitrary;

use crate::line::replies_in;

/// Names and words that commands are made of.
const WORDS: [&[u8]; 64] = [
    b"GET",
    b"SET",
    b"DEL",
    b"MGET",
    b"MSET",
    b"MSETNX",
    b"APPEND",
    b"GETRANGE",
    b"SETRANGE",
    b"STRLEN",
    b"GETEX",
    b"GETDEL",
    b"INCRBY",
    b"INCRBYFLOAT",
    b"DECR",
    b"EXPIRE",
    b"PEXPIREAT",
    b"TTL",
    b"PERSIST",
    b"RENAME",
    b"COPY",
    b"SCAN",
    b"KEYS",
    b"TYPE",
    b"EXISTS",
    b"RANDOMKEY",
    b"MULTI",
    b"EXEC",
    b"DISCARD",
    b"WATCH",
    b"HELLO",
    b"CLIENT",
    b"COMMAND",
    b"CONFIG",
    b"INFO",
    b"OBJECT",
    b"MEMORY",
    b"SUBSCRIBE",
    b"PSUBSCRIBE",
    b"UNSUBSCRIBE",
    b"PUBLISH",
    b"PUBSUB",
    b"RESET",
    b"QUIT",
    b"STATS",
    b"WHY",
    b"PING",
    b"ECHO",
    b"REPLY",
    b"KILL",
    b"PAUSE",
    b"LIST",
    b"DOCS",
    b"HELP",
    b"MATCH",
    b"COUNT",
    b"XX",
    b"NX",
    b"EX",
    b"PX",
    b"KEEPTTL",
    b"3",
    b"*",
    b"k",
];

/// What a client sends, and in which pieces.
#[derive(Arbitrary, Debug)]
pub struct Input {
    sizes: Vec<u8>,
    is_3: bool,
    parts: Vec<Part>,
}

#[derive(Arbitrary, Debug)]
enum Part {
    Request(Vec<Word>),
    /// An inline request, or nothing that is one.
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Word {
    Known(u8),
    Number(i16),
    Any(Vec<u8>),
}

/// Whoever has begun with a request of the protocol is answered in it, whatever follows.
pub fn check(input: &Input) {
    let mut bytes = request(&[b"HELLO", if input.is_3 { b"3" } else { b"2" }]);
    for part in &input.parts {
        match part {
            Part::Request(words) => {
                let words: Vec<Vec<u8>> = words.iter().map(Word::bytes).collect();
                bytes.extend(request(&words.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            }
            Part::Raw(raw) => bytes.extend_from_slice(raw),
        }
    }
    let replies = replies_in(&bytes, &input.sizes).bytes;
    let mut rest = &replies[..];
    while !rest.is_empty() {
        let Some(behind) = value(rest) else { panic!("no reply begins with {}", rest.escape_ascii()) };
        rest = behind;
    }
}

impl Word {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Known(number) => WORDS[usize::from(*number) % WORDS.len()].to_vec(),
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What follows the value that `bytes` begin with.
fn value(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (kind, head, mut rest) = (bytes[0], &bytes[1..end], &bytes[end + 2..]);
    if head.contains(&b'\r') || head.contains(&b'\n') {
        return None;
    }
    let number = || std::str::from_utf8(head).ok()?.parse::<i64>().ok();
    let of = match kind {
        b'+' | b'-' | b',' | b'(' | b'#' | b'_' => return Some(rest),
        b':' => return number().map(|_| rest),
        b'$' | b'=' | b'!' => {
            let Ok(length) = usize::try_from(number()?) else { return Some(rest) };
            return rest.get(length..)?.strip_prefix(b"\r\n");
        }
        b'*' | b'~' | b'>' => number()?,
        b'%' => 2 * number()?,
        _ => return None,
    };
    for _ in 0..of {
        rest = value(rest)?;
    }
    Some(rest)
}
