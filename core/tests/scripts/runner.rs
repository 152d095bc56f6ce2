//! Golden scripts: what a client sends and, word for word, what it gets.
//!
//! ```text
//! # A comment. Blank lines separate.
//! @limits key 8 value 16 line 64 output 128
//! > SET k v
//! OK
//! >> PI
//! >> NG\r\n
//! PONG
//! @wait 1500
//! > QUIT
//! OK
//! @closed
//! @reopen
//! ```
//!
//! `>` sends a line and its LF, `>>` bytes as they are; `\n \r \t \0 \\ \xHH` stand for bytes, `\(3 ab)` for `ababab`.
//! Below it stands the output it causes, with the same escapes for bytes: `.` is an empty line, and a line that ends in
//! a lone `\` has no LF.
//! `@limits`, on top, shrinks limits; `@wait` lets milliseconds pass, and what comes then stands below it; `@closed`
//! says that the node ended the connection; `@reopen` opens another one to the same node.

use super::Limits;

/// A node, or what stands for one, with a connection to it.
pub(crate) trait Subject {
    /// Hands in bytes; returns what comes back.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8>;
    fn is_closed(&self) -> bool;
    fn reopen(&mut self);
    /// Lets time pass; returns what comes meanwhile.
    fn wait_ms(&mut self, ms: u64) -> Vec<u8>;
}

/// How the bytes of one step are cut into reads.
const READ_BYTES: [usize; 4] = [usize::MAX, 1, 2, 7];

/// Runs `script` once for each way of cutting its input.
pub(crate) fn check<S: Subject>(name: &str, script: &str, open: fn(&Limits) -> S) {
    for read_bytes in READ_BYTES {
        let mut subject = open(&limits(script));
        let transcript = transcript(script, &mut subject, read_bytes);
        assert!(
            transcript == script,
            "{name}, {read_bytes} bytes a read: {}\n--- what came instead ---\n{transcript}",
            first_difference(script, &transcript)
        );
    }
}

fn limits(script: &str) -> Limits {
    let mut limits = Limits::default();
    let settings = script.lines().find_map(|line| line.strip_prefix("@limits ")).unwrap_or_default();
    let words: Vec<_> = settings.split(' ').collect();
    for pair in words.chunks_exact(2) {
        let bytes = pair[1].parse().expect("a limit is a number of bytes");
        match pair[0] {
            "key" => limits.key_bytes_max = bytes,
            "value" => limits.value_bytes_max = bytes,
            "line" => limits.line_bytes_max = bytes,
            "output" => limits.output_bytes_max = bytes,
            other => panic!("no limit is called {other}"),
        }
    }
    limits
}

/// The script as it turns out: its input, and the output that came.
fn transcript(script: &str, subject: &mut dyn Subject, read_bytes: usize) -> String {
    let mut transcript = String::new();
    for line in script.lines() {
        let is_output = !(line.is_empty() || ["#", ">", "@"].iter().any(|mark| line.starts_with(mark)));
        if is_output || line == "@closed" {
            continue;
        }
        transcript.push_str(line);
        transcript.push('\n');
        if let Some(ms) = line.strip_prefix("@wait ") {
            let output = subject.wait_ms(ms.parse().expect("a wait is a number of milliseconds"));
            push_output(&output, &mut transcript);
        } else if line == "@reopen" {
            subject.reopen();
        }
        let Some(bytes) = input(line) else { continue };
        let was_closed = subject.is_closed();
        let output: Vec<u8> = bytes.chunks(read_bytes).flat_map(|read| subject.send(read)).collect();
        push_output(&output, &mut transcript);
        if subject.is_closed() && !was_closed {
            transcript.push_str("@closed\n");
        }
    }
    transcript
}

fn input(line: &str) -> Option<Vec<u8>> {
    if let Some(text) = line.strip_prefix(">>") {
        return Some(unescape(text.strip_prefix(' ').unwrap_or(text)));
    }
    let text = line.strip_prefix('>')?;
    let mut bytes = unescape(text.strip_prefix(' ').unwrap_or(text));
    bytes.push(b'\n');
    Some(bytes)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let used = match rest {
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two hex digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
                3
            }
            [b'(', repeated @ ..] => {
                let end = repeated.iter().position(|byte| *byte == b')').expect("a repetition is closed");
                let text = std::str::from_utf8(&repeated[..end]).expect("a repetition is text");
                let (times, text) = text.split_once(' ').expect("a number, then what is repeated");
                bytes.extend(text.repeat(times.parse().expect("a number of times")).bytes());
                end + 2
            }
            [letter, ..] => {
                bytes.push(match letter {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'0' => 0,
                    b'\\' => b'\\',
                    other => panic!("no escape is called {}", char::from(*other)),
                });
                1
            }
            [] => panic!("a lone backslash in {text}"),
        };
        rest = &rest[used..];
    }
    bytes
}

fn push_output(output: &[u8], transcript: &mut String) {
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        for (index, byte) in content.iter().enumerate() {
            match byte {
                b'#' | b'>' | b'@' if index == 0 => transcript.push_str(&format!("\\x{byte:02x}")),
                b'.' if content.len() == 1 => transcript.push_str("\\x2e"),
                b'\r' => transcript.push_str("\\r"),
                b'\t' => transcript.push_str("\\t"),
                0 => transcript.push_str("\\0"),
                b'\\' => transcript.push_str("\\\\"),
                b' '..=b'~' => transcript.push(char::from(*byte)),
                _ => transcript.push_str(&format!("\\x{byte:02x}")),
            }
        }
        if line.len() == content.len() {
            transcript.push('\\');
        } else if content.is_empty() {
            transcript.push('.');
        }
        transcript.push('\n');
    }
}

fn first_difference(expected: &str, actual: &str) -> String {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    for number in 1.. {
        let pair = (expected.next(), actual.next());
        if pair.0 != pair.1 || pair.0.is_none() {
            return format!("line {number} should be {:?} and is {:?}", pair.0, pair.1);
        }
    }
    String::new()
}
