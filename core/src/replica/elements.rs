//! Hashes and sets, as this node reads and writes them: each field and each member is an entry of its own, so it merges
//! as any key does, and a write to one of them is one small record, however much else its key has.
//!
//! **A field** is a value, or a counter once it was added to.
//!
//! **A member** is in its set as long as there is an entry that says so; each time that it is added it gets one of its
//! own, named by the version that added it, and who removes it deletes those that it sees. So of an add and a remove
//! that did not see each other the add wins (an observed-remove set: Shapiro et al., "A comprehensive study of
//! convergent and commutative replicated data types", 2011).

use crate::counter::{Count, Counter};
use crate::name::{self, Kind, Name};
use crate::record::Record;
use crate::replica::{Exposure, Refused, Replica};
use crate::store::{ELEMENT_BYTES_MAX, Elements};
use crate::time::Now;
use crate::version::{Hlc, Version};

/// What a reader finds under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Nothing,
    /// A value, counted or not.
    String,
    /// Fields. If there are members besides, as two nodes wrote one and the other at once, they are not shown.
    Hash,
    Set,
}

impl Holds {
    /// What a key holds that has these.
    pub(crate) const fn of(elements: &Elements) -> Self {
        if elements.fields > 0 { Self::Hash } else { Self::Set }
    }

    /// As Redis' `TYPE` says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::String => "string",
            Self::Hash => "hash",
            Self::Set => "set",
        }
    }
}

/// The name of the field of a hash; `key` is the plain name of a key. Both together are no longer than
/// [`ELEMENT_BYTES_MAX`].
pub(crate) fn field_name(key: &[u8], field: &[u8]) -> Vec<u8> {
    element_name(Kind::Field, key, field, None)
}

fn element_name(kind: Kind, stored: &[u8], element: &[u8], dot: Option<Version>) -> Vec<u8> {
    debug_assert!(stored.len() + element.len() <= ELEMENT_BYTES_MAX, "who parses a command looks");
    let Name { space, key, .. } = Name::parse(stored).unwrap_or(Name::key(0, stored));
    let mut name = Vec::with_capacity(stored.len() + element.len() + 20);
    Name { space, kind, key, element, dot }.put(&mut name);
    name
}

impl Replica {
    /// What a reader finds under `key`. Elements that are newer than a value are found instead of it.
    pub(crate) fn holds(&self, now: Now, key: &[u8]) -> Holds {
        match self.elements(key) {
            Some(elements) => Holds::of(&elements),
            None if self.get(now, key).is_some() => Holds::String,
            None => Holds::Nothing,
        }
    }

    /// Whether a reader finds anything under `key`.
    pub(crate) fn is_there(&self, now: Now, key: &[u8]) -> bool {
        self.elements(key).is_some() || self.get(now, key).is_some()
    }

    /// Whether a reader finds a key, of which this is what a walk over keys tells.
    pub(crate) fn is_found(&self, now: Now, of: Result<&Record<'_>, Elements>) -> bool {
        match of {
            Ok(record) => self.is_live(now, record),
            Err(elements) => {
                self.note_unsynced_elements(elements.newest);
                true
            }
        }
    }

    /// What `key` has of elements that live, if it has any.
    #[inline]
    pub(crate) fn elements(&self, key: &[u8]) -> Option<Elements> {
        let elements = self.store.elements(key);
        if self.log.is_some() {
            self.note_unsynced_elements(self.store.newest_element(key));
        }
        elements
    }

    /// Whether `member` is in the set of `key`.
    pub(crate) fn has_member(&self, key: &[u8], member: &[u8]) -> bool {
        !self.store.dots(key, member).is_empty()
    }

    /// Adds `member` to the set of `key`; whether it was not there.
    pub(crate) fn add_member(&mut self, now: Now, key: &[u8], member: &[u8]) -> Result<bool, Refused> {
        self.may_write()?;
        let dots = self.store.dots(key, member);
        // Where there is nobody, nobody removes it at the same time.
        if !dots.is_empty() && self.exposure == Exposure::Alone {
            return Ok(false);
        }
        let version = self.stamp(now);
        let name = element_name(Kind::Member, key, member, Some(version));
        let record = Record { key: &name, value: Some(&[]), is_counter: false, deadline: None, version };
        self.take_stamped(now, &record, false);
        // One that is removed elsewhere was seen there; this one was not.
        dots.iter().try_for_each(|dot| self.write(now, dot, None, None))?;
        Ok(dots.is_empty())
    }

    /// Removes `member` from the set of `key`; whether it was there.
    pub(crate) fn remove_member(&mut self, now: Now, key: &[u8], member: &[u8]) -> Result<bool, Refused> {
        self.may_write()?;
        let dots = self.store.dots(key, member);
        dots.iter().try_for_each(|dot| self.write(now, dot, None, None))?;
        Ok(!dots.is_empty())
    }

    /// A field or a member of `key`, by chance.
    pub(crate) fn draw_element(&mut self, key: &[u8], kind: Kind) -> Option<Vec<u8>> {
        let chance = self.chance.next_u64();
        self.store.draw_element(key, kind, chance)
    }

    /// A number by chance, in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// Writes what all of `key` is made of under `name` as well, where nothing is.
    pub(crate) fn copy_elements(&mut self, now: Now, key: &[u8], name: &[u8]) -> Result<(), Refused> {
        self.may_write()?;
        let (fields, members) = (self.fields_of(now, key), self.members_of(key));
        for (field, value) in &fields {
            self.set(now, &field_name(name, field), value, None)?;
        }
        for member in &members {
            self.add_member(now, name, member)?;
        }
        Ok(())
    }

    /// The fields of `key` and their values, as text.
    fn fields_of(&self, now: Now, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = Vec::new();
        self.store.walk_elements(key, Kind::Field, None, usize::MAX, &mut |field, record| {
            let live = self.read(now, record);
            fields.extend(live.map(|live| (field.to_vec(), live.value.to_text())));
        });
        fields
    }

    /// The members of `key`.
    pub(crate) fn members_of(&self, key: &[u8]) -> Vec<Vec<u8>> {
        let mut members = Vec::new();
        self.store.walk_elements(key, Kind::Member, None, usize::MAX, &mut |member, _| members.push(member.to_vec()));
        members
    }

    /// Whether what was written of `key` at `hlc` may have been deleted, and that forgotten, with its key if it is an
    /// element.
    pub(crate) fn may_have_deleted(&self, key: &[u8], hlc: Hlc) -> bool {
        let may_have = |name: &[u8]| self.collected.may_have_deleted(crate::store::key_name(name), hlc);
        may_have(key) || name::owner(key).is_some_and(|owner| may_have(&owner))
    }

    /// Does what puts another version under `key`, not by the will of a client: what of its elements that takes out is
    /// written anew.
    pub(crate) fn keeping_elements(&mut self, now: Now, key: &[u8], act: impl FnOnce(&mut Self)) {
        let mut elements = Vec::new();
        if self.store.elements(key).is_some() {
            for kind in [Kind::Field, Kind::Member] {
                self.store.walk_elements(key, kind, None, usize::MAX, &mut |_, record| {
                    let amount = match Counter::of(record).count_at(now.wall) {
                        Count::Number(sum) if record.is_counter => Some(sum),
                        _ => None,
                    };
                    let value = record.value.filter(|_| !record.is_counter).map(<[u8]>::to_vec);
                    elements.push((record.key.to_vec(), value, amount));
                });
            }
        }
        act(self);
        for (stored, value, amount) in elements {
            if self.store.get(&stored).is_some() {
                continue;
            }
            let version = Version { hlc: Hlc::ZERO, origin: self.own };
            let record = Record { key: &stored, value: value.as_deref(), is_counter: false, deadline: None, version };
            match amount {
                Some(amount) => self.put_part(now, &stored, amount, false),
                None => self.stamp_and_take(now, &record),
            }
        }
    }

    /// Of what nobody may see and `record`, which comes from another node, takes out with its key: the least stamp.
    pub(crate) fn note_superseded_elements(&mut self, record: &Record<'_>) {
        if !self.hides_any() || self.is_returning() {
            return;
        }
        let mut least = self.superseded;
        for (_, stored) in self.store.covered_by(record) {
            let Some(stands) = self.store.get(&stored) else { continue };
            let hidden = Counter::of(&stands).versions().filter(|version| self.is_hidden(version.origin)).min();
            least = hidden.map_or(least, |hidden| Some(least.map_or(hidden.hlc, |least| least.min(hidden.hlc))));
        }
        self.superseded = least;
    }
}
