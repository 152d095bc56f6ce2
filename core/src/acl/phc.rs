//! Hashes of passwords as text, `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`: what they may look like. Nothing here
//! computes one.

/// Memory in KiB, passes and lanes that a hash may ask for: it is the machine of the node that they are spent on.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 8;

/// Longest salt or hash, in base64 without padding, and shortest.
const BASE64_BYTES: std::ops::RangeInclusive<usize> = 11..=86;

/// `text`, if it is such a hash.
pub(super) fn checked(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let mut fields = text.split('$');
    let [Some(""), Some("argon2id"), Some("v=19"), Some(costs), Some(salt), Some(hash), None] =
        std::array::from_fn(|_| fields.next())
    else {
        return None;
    };
    let mut costs = costs.split(',');
    let [memory, passes, lanes] = ["m=", "t=", "p="].map(|name| {
        let digits = costs.next()?.strip_prefix(name)?;
        let is_plain = digits.len() <= 7 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| is_plain)
    });
    let (memory, passes, lanes) = (memory?, passes?, lanes?);
    let is_base64 = |text: &str| {
        BASE64_BYTES.contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
    };
    let is_sane = (8 * lanes.max(1)..=MEMORY_KIB_MAX).contains(&memory)
        && (1..=PASSES_MAX).contains(&passes)
        && (1..=LANES_MAX).contains(&lanes);
    (costs.next().is_none() && is_sane && is_base64(salt) && is_base64(hash)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_verified_at_a_bearable_cost_is_a_hash() {
        let (salt, hash) = ("c29tZXNhbHRzb21lc2FsdA", "RdescudvJCsgt3ub+b4dWRWJTmaaJObG8u1hcmCBp/8");
        let of = |costs: &str| format!("$argon2id$v=19${costs}${salt}${hash}");
        for costs in ["m=19456,t=2,p=1", "m=262144,t=10,p=8", "m=8,t=1,p=1"] {
            assert_eq!(checked(of(costs).as_bytes()), Some(of(costs).as_str()));
        }
        for costs in [
            "m=262145,t=2,p=1",
            "m=19456,t=11,p=1",
            "m=19456,t=2,p=9",
            "m=7,t=1,p=1",
            "m=19456,t=0,p=1",
            "m=19456,t=2,p=0",
            "m=99999999999,t=2,p=1",
            "m=+9456,t=2,p=1",
            "m=19456,t=2",
            "m=19456,t=2,p=1,x=1",
            "t=2,m=19456,p=1",
        ] {
            assert_eq!(checked(of(costs).as_bytes()), None, "{costs}");
        }
        for text in [
            String::new(),
            format!("$argon2i$v=19$m=19456,t=2,p=1${salt}${hash}"),
            format!("$argon2id$v=16$m=19456,t=2,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash} on"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash}$"),
            format!("$argon2id$v=19$m=19456,t=2,p=1$${hash}"),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${}", "A".repeat(87)),
            "a".repeat(64),
        ] {
            assert_eq!(checked(text.as_bytes()), None, "{text}");
        }
    }
}
