//! Short strings as integers: two of one length are the same string if their integers are, and to find that out takes a
//! comparison or three, and no loop.

/// Longest string that [`pack`] packs.
pub(crate) const WORD_BYTES: usize = size_of::<u64>();

/// Longest string that [`pack_long`] packs.
pub(crate) const LONG_BYTES: usize = 3 * WORD_BYTES;

/// The bytes of `text`, which has at most [`WORD_BYTES`]; of a longer one the first so many.
#[inline]
pub(crate) fn pack(text: &[u8]) -> u64 {
    if let Some(whole) = text.first_chunk() {
        return u64::from_le_bytes(*whole);
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    match *text {
        [first] => u64::from(first),
        [first, last] => u64::from(first) | u64::from(last) << 8,
        [first, middle, last] => u64::from(first) | u64::from(middle) << 8 | u64::from(last) << 16,
        _ => 0,
    }
}

/// The bytes of `text`, which has at most [`LONG_BYTES`]; none of a longer one.
#[inline]
pub(crate) fn pack_long(text: &[u8]) -> Option<[u64; 3]> {
    if text.len() > LONG_BYTES {
        return None;
    }
    let Some(last) = text.last_chunk() else { return Some([pack(text), 0, 0]) };
    // Of up to two words the second ends the text, too, and may begin within the first.
    let middle = if text.len() > 2 * WORD_BYTES { pack(&text[WORD_BYTES..]) } else { 0 };
    Some([pack(text), middle, u64::from_le_bytes(*last)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_of_one_length_are_the_same_if_their_integers_are(
            (one, at, to) in prop::collection::vec(any::<u8>(), 1..=LONG_BYTES)
                .prop_flat_map(|one| (Just(one.clone()), 0..one.len(), any::<u8>())),
        ) {
            let mut other = one.clone();
            other[at] = to;
            prop_assert_eq!(pack_long(&one) == pack_long(&other), one == other);
            let (one, other) = (&one[..one.len().min(WORD_BYTES)], &other[..other.len().min(WORD_BYTES)]);
            prop_assert_eq!(pack(one) == pack(other), one == other);
        }
    }

    #[test]
    fn what_is_too_long_is_not_packed() {
        assert_eq!(pack_long(&[1; LONG_BYTES + 1]), None);
        assert_eq!((pack_long(b""), pack(b"")), (Some([0; 3]), 0));
        assert_eq!(pack(b"12345678"), pack(b"123456789"));
    }
}
