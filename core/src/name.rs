//! Names: what entries of the store are called, on every node, in the log and on the wire.
//!
//! A key of keyspace 0 is its own name. Whatever else there is has a name that begins with a byte which text does not
//! begin with; a key that does begin with it is spelt out, too, so that each name means one thing:
//!
//! ```text
//! at  field
//!  0  0xff
//!  1  kind and keyspace: the kind's number, times 16, and the keyspace
//!  2  of a key: the key
//! ```

use std::borrow::Cow;

/// What the name of anything but a plain key begins with.
const SPELT: u8 = 0xff;

/// Keyspaces, as Redis' `SELECT` numbers them.
pub(crate) const SPACES: u8 = 16;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A key.
    Key,
    /// The floor of a keyspace: what was written before it is gone.
    Floor,
}

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) space: u8,
    pub(crate) kind: Kind,
    /// Empty for a floor.
    pub(crate) key: &'a [u8],
}

impl<'a> Name<'a> {
    /// The name of a key.
    pub(crate) const fn key(space: u8, key: &'a [u8]) -> Self {
        Self { space, kind: Kind::Key, key }
    }

    /// The name of the floor of a keyspace.
    pub(crate) const fn floor(space: u8) -> Self {
        Self { space, kind: Kind::Floor, key: &[] }
    }

    /// Takes `stored` apart; none if nothing is called that.
    pub(crate) fn parse(stored: &'a [u8]) -> Option<Self> {
        let Some(rest) = stored.strip_prefix(&[SPELT]) else { return Some(Self::key(0, stored)) };
        let (tag, key) = rest.split_first()?;
        let (kind, space) = (Kind::of(tag / SPACES)?, tag % SPACES);
        match kind {
            Kind::Key if space == 0 && key.first() != Some(&SPELT) => None,
            Kind::Floor if !key.is_empty() => None,
            Kind::Key | Kind::Floor => Some(Self { space, kind, key }),
        }
    }

    /// The name as it is stored; that of a plain key is the key.
    pub(crate) fn stored(&self) -> Cow<'a, [u8]> {
        if self.space == 0 && self.kind == Kind::Key && self.key.first() != Some(&SPELT) {
            return Cow::Borrowed(self.key);
        }
        let mut stored = Vec::new();
        self.put(&mut stored);
        Cow::Owned(stored)
    }

    /// Appends the name as it is stored.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let Self { space, kind, key } = *self;
        if space > 0 || kind == Kind::Floor || key.first() == Some(&SPELT) {
            out.extend_from_slice(&[SPELT, kind as u8 * SPACES + space]);
        }
        out.extend_from_slice(key);
    }
}

impl Kind {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Key,
            1 => Self::Floor,
            _ => return None,
        })
    }
}

/// The part of a stored name that says in which slot it belongs: keys that are called the same are in one, whatever
/// their keyspace.
pub(crate) fn slot_part(stored: &[u8]) -> &[u8] {
    if stored.first() == Some(&SPELT) { Name::parse(stored).map_or(stored, |name| name.key) } else { stored }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(SPELT), any::<u8>()], 0..40)
    }

    proptest! {
        #[test]
        fn what_was_put_is_parsed(space in 0..SPACES, is_floor in any::<bool>(), key in bytes()) {
            let name = if is_floor { Name::floor(space) } else { Name::key(space, &key) };
            let mut stored = Vec::new();
            name.put(&mut stored);
            prop_assert_eq!(Name::parse(&stored), Some(name));
            prop_assert_eq!(&*name.stored(), &stored[..]);
            prop_assert_eq!(slot_part(&stored), name.key);
        }

        #[test]
        fn a_name_is_spelt_in_one_way(stored in proptest::collection::vec(prop_oneof![Just(SPELT), 0..90_u8], 0..40)) {
            if let Some(name) = Name::parse(&stored) {
                let mut again = Vec::new();
                name.put(&mut again);
                prop_assert_eq!(again, stored);
            }
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for stored in [&[SPELT][..], &[SPELT, 2 * SPACES], &[SPELT, 0, b'k'], &[SPELT, SPACES, b'k']] {
            assert_eq!(Name::parse(stored), None, "{stored:?}");
        }
        assert_eq!(Name::parse(&[SPELT, 1, b'k']), Some(Name::key(1, b"k")));
    }
}
