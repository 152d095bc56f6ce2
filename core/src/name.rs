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
//!     of a field: u16 of the key's length, key, field
//!     of a member: the same with the member, and 16 bytes: the version by which it was added
//! ```

use std::borrow::Cow;
use std::ops::Deref;

use crate::version::Version;
use crate::wire::num::Bytes;

/// What the name of anything but a plain key begins with.
const SPELT: u8 = 0xff;

/// Keyspaces, as Redis' `SELECT` numbers them.
pub(crate) const SPACES: u8 = 16;

/// Bytes of a version behind the name of a member.
const DOT_BYTES: usize = 16;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A key.
    Key,
    /// The floor of a keyspace: what was written before it is gone.
    Floor,
    /// A field of a hash.
    Field,
    /// A member of a set, as it was added once.
    Member,
}

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    pub(crate) space: u8,
    pub(crate) kind: Kind,
    /// Empty for a floor.
    pub(crate) key: &'a [u8],
    /// The field or the member; else empty.
    pub(crate) element: &'a [u8],
    /// By which version a member was added.
    pub(crate) dot: Option<Version>,
}

/// A name as it is stored.
#[derive(Clone, Debug)]
pub(crate) enum Stored<'a> {
    /// That of a plain key is the key.
    Key(&'a [u8]),
    /// That of a key of another keyspace: most are short, and a command of one key is not to allocate for its name.
    Short {
        bytes: [u8; SHORT_BYTES],
        len: usize,
    },
    Long(Vec<u8>),
}

/// Names of keys up to this long are spelt out without an allocation.
const SHORT_BYTES: usize = 128;

impl Stored<'_> {
    pub(crate) fn into_owned(self) -> Vec<u8> {
        match self {
            Stored::Long(stored) => stored,
            Stored::Key(_) | Stored::Short { .. } => self.to_vec(),
        }
    }
}

impl AsRef<[u8]> for Stored<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Deref for Stored<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Stored::Key(key) => key,
            Stored::Short { bytes, len } => &bytes[..*len],
            Stored::Long(stored) => stored,
        }
    }
}

impl<'a> Name<'a> {
    /// The name of a key.
    pub(crate) const fn key(space: u8, key: &'a [u8]) -> Self {
        Self { space, kind: Kind::Key, key, element: &[], dot: None }
    }

    /// The name of the floor of a keyspace.
    pub(crate) const fn floor(space: u8) -> Self {
        Self { space, kind: Kind::Floor, key: &[], element: &[], dot: None }
    }

    /// The name of a field of the hash `key`.
    pub(crate) const fn field(space: u8, key: &'a [u8], field: &'a [u8]) -> Self {
        Self { space, kind: Kind::Field, key, element: field, dot: None }
    }

    /// The name of a member of the set `key`, as `dot` added it.
    pub(crate) const fn member(space: u8, key: &'a [u8], member: &'a [u8], dot: Version) -> Self {
        Self { space, kind: Kind::Member, key, element: member, dot: Some(dot) }
    }

    /// Takes `stored` apart; none if nothing is called that.
    pub(crate) fn parse(stored: &'a [u8]) -> Option<Self> {
        let Some(rest) = stored.strip_prefix(&[SPELT]) else { return Some(Self::key(0, stored)) };
        let mut bytes = Bytes(rest);
        let tag = bytes.u8()?;
        let (kind, space) = (Kind::of(tag / SPACES)?, tag % SPACES);
        let mut name = Self { space, kind, key: bytes.0, element: &[], dot: None };
        match kind {
            Kind::Key if space == 0 && name.key.first() != Some(&SPELT) => return None,
            Kind::Floor if !name.key.is_empty() => return None,
            Kind::Key | Kind::Floor => {}
            Kind::Field | Kind::Member => {
                let key_bytes = bytes.u16()?;
                name.key = bytes.take(usize::from(key_bytes))?;
                if kind == Kind::Member {
                    let element_bytes = bytes.0.len().checked_sub(DOT_BYTES)?;
                    name.element = bytes.take(element_bytes)?;
                    name.dot = Some(bytes.version()?);
                } else {
                    name.element = bytes.0;
                }
            }
        }
        Some(name)
    }

    /// The name as it is stored; that of a plain key is the key.
    #[inline]
    pub(crate) fn stored(&self) -> Stored<'a> {
        if self.is_plain() {
            return Stored::Key(self.key);
        }
        let Self { space, kind, key, .. } = *self;
        let len = 2 + key.len();
        if kind == Kind::Key && len <= SHORT_BYTES {
            let mut bytes = [0; SHORT_BYTES];
            [bytes[0], bytes[1]] = [SPELT, kind as u8 * SPACES + space];
            bytes[2..len].copy_from_slice(key);
            return Stored::Short { bytes, len };
        }
        let mut stored = Vec::with_capacity(4 + key.len() + self.element.len() + DOT_BYTES);
        self.put(&mut stored);
        Stored::Long(stored)
    }

    /// Whether it is the key and nothing more.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.space == 0 && self.kind == Kind::Key && self.key.first() != Some(&SPELT)
    }

    /// Appends the name as it is stored. The key of an element is shorter than a stored name may be.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let Self { space, kind, key, element, dot } = *self;
        if self.is_plain() {
            return out.extend_from_slice(key);
        }
        out.extend_from_slice(&[SPELT, kind as u8 * SPACES + space]);
        if matches!(kind, Kind::Field | Kind::Member) {
            debug_assert!(u16::try_from(key.len()).is_ok(), "no longer than a stored name");
            out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        }
        out.extend_from_slice(key);
        out.extend_from_slice(element);
        if let Some(Version { hlc, origin }) = dot {
            out.extend_from_slice(&hlc.0.to_le_bytes());
            out.extend_from_slice(&origin.0.to_le_bytes());
        }
    }
}

impl Kind {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Key,
            1 => Self::Floor,
            2 => Self::Field,
            3 => Self::Member,
            _ => return None,
        })
    }
}

/// The part of a stored name that says where it belongs among all slots: whatever a key is made of is in one.
pub(crate) fn slot_part(stored: &[u8]) -> &[u8] {
    if stored.first() == Some(&SPELT) { Name::parse(stored).map_or(stored, |name| name.key) } else { stored }
}

/// The part of a stored name that says where in its slot it belongs: however often a member was added is in one place.
pub(crate) fn place_part(stored: &[u8]) -> &[u8] {
    match Name::parse(stored) {
        Some(Name { dot: Some(_), .. }) => &stored[..stored.len() - DOT_BYTES],
        _ => stored,
    }
}

/// The keyspace of a stored name; 0 of what is none.
pub(crate) fn space(stored: &[u8]) -> u8 {
    Name::parse(stored).map_or(0, |name| name.space)
}

/// Whether this is the name of a field or a member. What begins so and is cut off is no name at all.
#[inline]
pub(crate) fn is_element(stored: &[u8]) -> bool {
    const FIRST: u8 = Kind::Field as u8 * SPACES;
    const LAST: u8 = Kind::Member as u8 * SPACES + SPACES - 1;
    matches!(stored, [SPELT, FIRST..=LAST, ..])
}

/// The name of the key that a field or a member is of; none of what is neither.
pub(crate) fn owner(stored: &[u8]) -> Option<Stored<'_>> {
    if !is_element(stored) {
        return None;
    }
    let Name { space, key, .. } = Name::parse(stored)?;
    Some(Name::key(space, key).stored())
}

/// The key of a record as a person is shown it: that of a field or a member as `key . field`.
#[must_use]
pub fn shown(stored: &[u8]) -> Cow<'_, [u8]> {
    match Name::parse(stored).filter(|_| is_element(stored)) {
        Some(Name { key, element, .. }) => Cow::Owned([key, b" . ", element].concat()),
        None => Cow::Borrowed(stored),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::{Hlc, OriginId};

    fn names() -> impl Strategy<Value = (u8, u8, Vec<u8>, Vec<u8>)> {
        let bytes = || proptest::collection::vec(prop_oneof![Just(SPELT), any::<u8>()], 0..40);
        (0..SPACES, 0..4_u8, bytes(), bytes())
    }

    proptest! {
        #[test]
        fn what_was_put_is_parsed((space, kind, key, element) in names(), hlc in any::<u64>(), origin in any::<u64>()) {
            let kind = Kind::of(kind).expect("one of them");
            let is_element_of = matches!(kind, Kind::Field | Kind::Member);
            let name = Name {
                space,
                kind,
                key: if kind == Kind::Floor { &[] } else { &key },
                element: if is_element_of { &element } else { &[] },
                dot: (kind == Kind::Member).then_some(Version { hlc: Hlc(hlc), origin: OriginId(origin) }),
            };
            let mut stored = Vec::new();
            name.put(&mut stored);
            prop_assert_eq!(Name::parse(&stored), Some(name));
            prop_assert_eq!(&*name.stored(), &stored[..]);
            prop_assert_eq!(slot_part(&stored), name.key);
            prop_assert_eq!(is_element(&stored), is_element_of);
            let mut owner_name = Vec::new();
            Name::key(space, &key).put(&mut owner_name);
            let owner = owner(&stored);
            prop_assert_eq!(owner.as_deref(), is_element_of.then_some(&owner_name[..]));
            prop_assert!(stored.starts_with(place_part(&stored)));
            prop_assert_eq!(stored.len() - place_part(&stored).len(), if name.dot.is_some() { DOT_BYTES } else { 0 });
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
        for stored in [
            &[SPELT][..],
            &[SPELT, 4 * SPACES],
            &[SPELT, 0, b'k'],
            &[SPELT, SPACES, b'k'],
            &[SPELT, 2 * SPACES, 2, 0, b'k'],
            &[SPELT, 3 * SPACES, 1, 0, b'k', 1, 2, 3],
        ] {
            assert_eq!(Name::parse(stored), None, "{stored:?}");
        }
        assert_eq!(Name::parse(&[SPELT, 1, b'k']), Some(Name::key(1, b"k")));
        assert!(owner(&[SPELT, 2 * SPACES, 2, 0, b'k']).is_none());
    }

    #[test]
    fn an_element_is_shown_behind_its_key() {
        assert_eq!(*shown(&[SPELT, 2 * SPACES, 1, 0, b'k', b'f']), *b"k . f");
        assert_eq!(*shown(b"plain"), *b"plain");
    }
}
