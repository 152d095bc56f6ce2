//! Finding a command by its name: one look, wherever in the list it stands.

use std::sync::LazyLock;

use super::{Manual, manuals};

/// Places for names: several to a name, so that one is seldom in the way of another.
const PLACES: usize = 1024;

/// A name, and the command of that name.
type Entry = (&'static str, &'static Manual);

/// Names and aliases, each at the place of its hash or, where that is taken, at the next one that is free.
static NAMES: LazyLock<Box<[Option<Entry>]>> = LazyLock::new(|| {
    let mut places = vec![None; PLACES];
    for manual in manuals() {
        for name in manual.names() {
            let mut at = place(name.as_bytes());
            while places[at].is_some() {
                at = (at + 1) % PLACES;
            }
            places[at] = Some((name, manual));
        }
    }
    places.into_boxed_slice()
});

/// The command of that name, in any case.
pub(super) fn find(word: &[u8]) -> Option<&'static Manual> {
    let mut at = place(word);
    while let Some((name, manual)) = NAMES[at] {
        // Most write it as it is.
        if word == name.as_bytes() || word.eq_ignore_ascii_case(name.as_bytes()) {
            return Some(manual);
        }
        at = (at + 1) % PLACES;
    }
    None
}

/// Of how long a name is, and of its letters at both ends and in the middle, in any case.
fn place(word: &[u8]) -> usize {
    let [Some(first), Some(last)] = [word.first(), word.last()] else { return 0 };
    let letters = [*first, word[word.len() / 2], word[word.len() / 3], *last].map(|letter| letter | 0x20);
    let mixed = u32::from_le_bytes(letters).wrapping_add(word.len() as u32).wrapping_mul(0x9e37_79b1);
    (mixed >> 22) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_its_place() {
        let (mut names, mut steps) = (0, 0);
        for (at, name) in NAMES.iter().enumerate().filter_map(|(at, place)| place.map(|(name, _)| (at, name))) {
            names += 1;
            steps += (at + PLACES - place(name.as_bytes())) % PLACES;
        }
        assert!(names * 4 < PLACES, "{names} names: there are places enough");
        assert!(steps < names, "{steps} steps besides the first to {names} names");
        assert!(find(b"").is_none() && find(&[b'g'; 1000]).is_none());
    }
}
