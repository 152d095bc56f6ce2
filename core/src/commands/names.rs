//! Finding a command by its name: one look, wherever in the list it stands.

use std::sync::LazyLock;

use super::{Manual, manuals};
use crate::short::{WORD_BYTES, pack};

/// Places for names: several to a name, so that one is seldom in the way of another.
const PLACES: usize = 1024;

/// A name, and the command of that name.
#[derive(Clone, Copy)]
struct Entry {
    folded: u64,
    name: &'static str,
    /// All of it is in `folded`, and it has letters only: what folds to the same is the same in another case.
    is_plain: bool,
    manual: &'static Manual,
}

/// Names and aliases, each at the place of its hash or, where that is taken, at the next one that is free.
static NAMES: LazyLock<Box<[Option<Entry>]>> = LazyLock::new(|| {
    let mut places = vec![None; PLACES];
    for manual in manuals() {
        for name in manual.names() {
            let folded = fold(name.as_bytes());
            let mut at = place(folded, name.len());
            while places[at].is_some() {
                at = (at + 1) % PLACES;
            }
            let is_plain = name.len() <= WORD_BYTES && name.bytes().all(|byte| byte.is_ascii_alphabetic());
            places[at] = Some(Entry { folded, name, is_plain, manual });
        }
    }
    places.into_boxed_slice()
});

/// The command of that name, in any case.
#[inline]
pub(super) fn find(word: &[u8]) -> Option<&'static Manual> {
    let folded = fold(word);
    let mut at = place(folded, word.len());
    while let Some(Entry { folded: of_name, name, is_plain, manual }) = &NAMES[at] {
        if *of_name == folded && name.len() == word.len() && (*is_plain || word.eq_ignore_ascii_case(name.as_bytes())) {
            return Some(manual);
        }
        at = (at + 1) % PLACES;
    }
    None
}

/// The first letters of a name, in small ones. What is no letter turns into something else, but into no letter.
#[inline]
fn fold(word: &[u8]) -> u64 {
    pack(word) | 0x2020_2020_2020_2020
}

#[inline]
fn place(folded: u64, length: usize) -> usize {
    let mixed = (folded ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - PLACES.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_its_place() {
        let (mut names, mut steps) = (0, 0);
        for (at, entry) in NAMES.iter().enumerate().filter_map(|(at, entry)| entry.map(|entry| (at, entry))) {
            names += 1;
            steps += (at + PLACES - place(entry.folded, entry.name.len())) % PLACES;
        }
        assert!(names * 4 < PLACES, "{names} names: there are places enough");
        assert!(steps < names, "{steps} steps besides the first to {names} names");
        assert!(find(b"").is_none() && find(&[b'g'; 1000]).is_none());
    }

    #[test]
    fn only_letters_have_a_case() {
        for (word, is_one) in [
            (&b"get"[..], true),
            (b"gEt", true),
            (b"G\x05T", false),
            (b"GE\x14", false),
            (b"\x47\x45\x54\0", false),
            (b"GET ", false),
            (b"pexpireAT", true),
            (b"PEXPIREA\x14", false),
            (b"PEXPIREAS", false),
        ] {
            assert_eq!(find(word).is_some(), is_one, "{}", word.escape_ascii());
        }
    }
}
