//! Patterns of keys, as Redis has them.

/// Whether `pattern` matches all of `text`: `*` stands for anything, `?` for one byte, `[a-c]` for one of some, `[^a]`
/// for one that is none of them, and a backslash takes what is special from the next byte.
///
/// It takes time in proportion to the product of both lengths, whatever they are: of several `*` only the last is ever
/// tried again.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut steps = u64::MAX;
    matches_within(pattern, text, &mut steps).unwrap_or(false)
}

/// The same, of which each step takes one from `steps`; none if they do not suffice.
pub(crate) fn matches_within(pattern: &[u8], text: &[u8], steps: &mut u64) -> Option<bool> {
    let (mut at, mut place) = (0, 0);
    // Behind the last `*`, and where its match ends.
    let mut again: Option<(usize, usize)> = None;
    while place < text.len() {
        let rest = &pattern[at..];
        if rest.first() == Some(&b'*') {
            at += 1;
            *steps = steps.checked_sub(1)?;
            again = Some((at, place));
            continue;
        }
        let (is_matched, length) = matches_one(rest, text[place]);
        *steps = steps.checked_sub(length.max(1) as u64)?;
        match &mut again {
            _ if is_matched => (at, place) = (at + length, place + 1),
            Some((behind, end)) => {
                *end += 1;
                (at, place) = (*behind, *end);
            }
            None => return Some(false),
        }
    }
    Some(pattern[at..].iter().all(|byte| *byte == b'*'))
}

/// Whether what `pattern` begins with matches `byte`, and how long that is; nothing does if it is empty.
fn matches_one(pattern: &[u8], byte: u8) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', rest @ ..] => {
            let (is_in, length) = matches_set(rest, byte);
            (is_in, 1 + length)
        }
        [b'\\', escaped, ..] => (*escaped == byte, 2),
        [plain, ..] => (*plain == byte, 1),
        [] => (false, 0),
    }
}

/// Whether the set that begins behind a `[` has `byte`, and its length, the `]` included, which may be missing.
fn matches_set(set: &[u8], byte: u8) -> (bool, usize) {
    let (is_not, mut at) = (set.first() == Some(&b'^'), usize::from(set.first() == Some(&b'^')));
    let mut is_in = false;
    loop {
        match set[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                is_in |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                is_in |= plain == byte;
                at += 1;
            }
        }
    }
    (is_in != is_not, at)
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_within};

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: [(&str, &str, bool); 30] = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abcb", false),
            ("*b*", "abc", true),
            ("**c", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("?", "", false),
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("[\\]]", "]", true),
            ("[a-", "a", true),
            ("[abc", "c", true),
            ("[", "a", false),
            ("foo", "foo", true),
            ("foo", "foobar", false),
            ("foo*", "foo", true),
            ("*foo", "barfoo", true),
            ("a*b*c*d", "aXXbYYcZZd", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn steps_are_counted() {
        for (pattern, text, needed) in [("abc", "abc", 3), ("*c", "aac", 4), ("[abcd]", "d", 6), ("*aab", "aaaa", 9)] {
            let whole = matches(pattern.as_bytes(), text.as_bytes());
            let within = |mut steps| matches_within(pattern.as_bytes(), text.as_bytes(), &mut steps);
            assert_eq!((within(needed - 1), within(needed)), (None, Some(whole)), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(1_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2_000).as_bytes()));
    }
}
