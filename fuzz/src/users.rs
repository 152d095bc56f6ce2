//! Files of users, and rules of one: whatever is taken is shown such that it can be taken again.

use kv_core::{ConnId, Event, Turn};

use crate::driver::{LIMITS, Replies, START, config, settle};

const CLIENT: ConnId = ConnId(0);

/// `input` is a file; and each line of it a list of rules.
pub fn check(input: &[u8]) {
    let _ = kv_core::lets_in_strangers(input);
    let mut turn = Turn::new(config("a", &[]), START);
    turn.begin(START);
    turn.event(Event::Opened { conn: CLIENT });
    for rules in input.split(|byte| *byte == b'\n') {
        let rules = rules.split(|byte| *byte == b' ').filter(|rule| !rule.is_empty());
        let words: Vec<&[u8]> = [&b"ACL"[..], b"SETUSER", b"ann"].into_iter().chain(rules).collect();
        let said = ask(&mut turn, &words);
        let is_refusal = said.starts_with(b"-ERR Error in ACL SETUSER modifier");
        assert!(said.is_empty() || said == b"+OK\r\n" || is_refusal, "{}", said.escape_ascii());
    }
    let mut file = Vec::new();
    let said = ask(&mut turn, &[b"ACL", b"LIST"]);
    let mut rest = &said[said.iter().position(|byte| *byte == b'\n').expect("the number of users") + 1..];
    while let Some(head) = rest.strip_prefix(b"$") {
        let end = head.iter().position(|byte| *byte == b'\r').expect("the end of a length");
        let length: usize = std::str::from_utf8(&head[..end]).expect("text").parse().expect("a length");
        let (line, behind) = head[end + 2..].split_at(length);
        file.extend_from_slice(line);
        file.push(b'\n');
        rest = &behind[2..];
    }
    assert!(rest.is_empty() && !file.is_empty(), "{}", said.escape_ascii());
    assert_eq!(kv_core::lets_in_strangers(&file), Ok(true), "{}", file.escape_ascii());
}

/// What is answered to a request of these words; nothing if it is too long to be asked.
fn ask(turn: &mut Turn, words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    if request.len() > LIMITS.request_bytes_max || longest > LIMITS.value_bytes_max || words.len() > LIMITS.args_max {
        return Vec::new();
    }
    let mut replies = Replies::default();
    turn.begin(START);
    turn.input(CLIENT, &request);
    settle(turn, START, &mut replies);
    replies.bytes
}
