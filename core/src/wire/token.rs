//! The word that names one write to a client: `TOKEN` answers it, `WAITFOR` takes it, on any node of the cluster.

use crate::version::{Hlc, OriginId, Version};

/// A write of one cluster. Covered wherever that much of the writer's stream is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// [`cluster_tag`] of the cluster's name.
    pub(crate) cluster: u32,
    pub(crate) version: Version,
}

/// What a token has of the name of its cluster: enough to notice one that was taken elsewhere.
pub(crate) fn cluster_tag(name: &str) -> u32 {
    crc32c::crc32c(name.as_bytes())
}

impl Token {
    /// Names no write: covered everywhere.
    pub(crate) const fn of_nothing(cluster: u32) -> Self {
        Self { cluster, version: Version { hlc: Hlc::ZERO, origin: OriginId(0) } }
    }
}

/// Hex digits of the three parts; a dash stands between two.
const DIGITS: [usize; 3] = [8, 16, 16];

/// Appends the word.
pub(crate) fn emit(token: &Token, out: &mut Vec<u8>) {
    let Version { hlc, origin } = token.version;
    for (at, (number, digits)) in [u64::from(token.cluster), origin.0, hlc.0].into_iter().zip(DIGITS).enumerate() {
        if at > 0 {
            out.push(b'-');
        }
        out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[(number >> (4 * place)) as usize & 0xf]));
    }
}

/// The token that `word` spells.
pub(crate) fn parse(word: &[u8]) -> Option<Token> {
    let mut parts = word.split(|byte| *byte == b'-');
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(DIGITS) {
        *number = parse_hex(parts.next().filter(|part| part.len() == digits)?)?;
    }
    let [cluster, origin, hlc] = numbers;
    let version = Version { hlc: Hlc(hlc), origin: OriginId(origin) };
    parts.next().is_none().then_some(Token { cluster: cluster as u32, version })
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_come_back(cluster in any::<u32>(), origin in any::<u64>(), hlc in any::<u64>()) {
            let token = Token { cluster, version: Version { hlc: Hlc(hlc), origin: OriginId(origin) } };
            let mut word = Vec::new();
            emit(&token, &mut word);
            prop_assert_eq!(parse(&word), Some(token));
            word.make_ascii_uppercase();
            prop_assert_eq!(parse(&word), Some(token));
            word.pop();
            prop_assert_eq!(parse(&word), None);
        }

        #[test]
        fn any_word_is_taken_calmly(word in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&word);
        }
    }

    #[test]
    fn other_words_are_no_tokens() {
        let token = "1a2b3c4d-0123456789abcdef-0000000000000001";
        assert!(parse(token.as_bytes()).is_some());
        for word in ["", "-", "--", &format!("{token}-"), &format!("{token}0"), &token.replace('a', "g")] {
            assert_eq!(parse(word.as_bytes()), None, "{word}");
        }
        assert_eq!(parse(b"1a2b3c4-d0123456789abcdef-0000000000000001"), None);
    }
}
