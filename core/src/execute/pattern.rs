//! Patterns of keys, as Redis has them.

/// Whether `pattern` matches all of `text`: `*` stands for anything, `?` for one byte, `[a-c]` for one of some, `[^a]`
/// for one that is none of them, and a backslash takes what is special from the next byte.
///
/// It takes time in proportion to the product of both lengths, whatever they are: of several `*` only the last is ever
/// tried again.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Behind the last `*`, and where its match ends.
    let mut again: Option<(usize, usize)> = None;
    while place < text.len() {
        let next = match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                again = Some((at, place));
                continue;
            }
            Some(_) => matches_one(&pattern[at..], text[place]),
            None => None,
        };
        match (next, &mut again) {
            (Some(length), _) => (at, place) = (at + length, place + 1),
            (None, Some((behind, end))) => {
                *end += 1;
                (at, place) = (*behind, *end);
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The length of what `pattern`, which is not empty, begins with, if that matches `byte`.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (is_in, length) = matches_set(rest, byte);
            is_in.then_some(1 + length)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
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
    use super::matches;

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
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(1_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(2_000).as_bytes()));
    }
}
