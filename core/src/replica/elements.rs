//! Hashes and sets, as this node reads and writes them: each field and each member is an entry of its own, so it merges
//! as any key does, and a write to one of them is one small record, however much else its key has.
//!
//! **A field** is a value, or a counter once it was added to.
//!
//! **A member** is in its set as long as there is an entry that says so; each time that it is added it gets one of its
//! own, named by the version that added it, and who removes it deletes those that it sees. So of an add and a remove
//! that did not see each other the add wins (an observed-remove set: Shapiro et al., "A comprehensive study of
//! convergent and commutative replicated data types", 2011).
//!
//! **Expiry.** Each element has a deadline of its own, or none, and merges with it, as a key does. To have a key expire
//! is to write each of its elements anew. It expires with the last of them; what is written to it later ends then, too.

use crate::counter::{Count, Counter};
use crate::name::{self, Kind, Name};
use crate::record::Record;
use crate::replica::{Exposure, Live, Refused, Replica};
use crate::store::{ELEMENT_BYTES_MAX, Elements, key_name};
use crate::time::{Now, WallMs};
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

/// All that is under a key, to be written under another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text(Vec<u8>, Option<WallMs>),
    Elements {
        /// With their values.
        fields: Vec<(Vec<u8>, Vec<u8>, Option<WallMs>)>,
        members: Vec<(Vec<u8>, Option<WallMs>)>,
    },
}

impl Content {
    /// Whether all of it can be under `key`: an element and its key are bounded together.
    pub(crate) fn fits(&self, key: &[u8]) -> bool {
        let longest = match self {
            Self::Text(..) => return true,
            Self::Elements { fields, members } => {
                let fields = fields.iter().map(|(field, ..)| field.len());
                fields.chain(members.iter().map(|(member, _)| member.len())).max().unwrap_or(0)
            }
        };
        key.len() + longest <= ELEMENT_BYTES_MAX
    }
}

impl Replica {
    /// What a field of the client's hash `key` is stored as.
    pub(crate) fn field_name(&self, key: &[u8], field: &[u8]) -> Vec<u8> {
        Name::field(self.space, key, field).stored().into_owned()
    }

    /// What a reader finds under the client's `key`. Elements that are newer than a value are found instead of it.
    pub(crate) fn holds(&self, now: Now, key: &[u8]) -> Holds {
        match self.elements(now, key) {
            Some(elements) => Holds::of(&elements),
            None if self.get(now, key).is_some() => Holds::String,
            None => Holds::Nothing,
        }
    }

    /// Whether a reader finds anything under the client's `key`.
    pub(crate) fn is_there(&self, now: Now, key: &[u8]) -> bool {
        self.elements(now, key).is_some() || self.get(now, key).is_some()
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

    /// What the client's `key` has of elements that live, if it has any.
    #[inline]
    pub(crate) fn elements(&self, now: Now, key: &[u8]) -> Option<Elements> {
        if !self.store.has_elements() {
            return None;
        }
        let name = self.name(key);
        if self.log.is_some() {
            self.note_unsynced_elements(self.store.newest_element(&name));
        }
        self.store.elements(&name, now.wall)
    }

    /// When the client's `key` ends, which is found so; none if it does not.
    pub(crate) fn deadline(&self, now: Now, key: &[u8]) -> Option<WallMs> {
        let elements = self.elements(now, key);
        elements.map_or_else(|| self.get(now, key).and_then(|live| live.deadline), |elements| elements.deadline)
    }

    /// Visits the elements of the client's `key` as [`Store::walk_elements`](crate::store::Store::walk_elements) does.
    pub(crate) fn walk_elements(
        &self,
        (now, key): (Now, &[u8]),
        kind: Kind,
        after: Option<u32>,
        max: usize,
        visit: &mut dyn FnMut(&[u8], &Record<'_>),
    ) -> Option<u32> {
        self.store.walk_elements(&self.name(key), (kind, now.wall), after, max, visit)
    }

    /// Whether `member` is in the client's set `key`.
    pub(crate) fn has_member(&self, now: Now, key: &[u8], member: &[u8]) -> bool {
        self.store.has_elements() && !self.store.dots(&self.name(key), member, now.wall).is_empty()
    }

    /// Adds `member` to the client's set `key`, until the `deadline`; whether it was not there.
    pub(crate) fn add_member(
        &mut self,
        now: Now,
        key: &[u8],
        member: &[u8],
        deadline: Option<WallMs>,
    ) -> Result<bool, Refused> {
        self.may_write()?;
        let dots = self.store.dots(&self.name(key), member, now.wall);
        // Where there is nobody, nobody removes it at the same time.
        if !dots.is_empty() && self.exposure == Exposure::Alone {
            return Ok(false);
        }
        let version = self.stamp(now);
        let name = Name::member(self.space, key, member, version).stored();
        let record = Record { key: &name, value: Some(&[]), is_counter: false, deadline, version };
        self.take_stamped(now, &record, false);
        self.note_taken(&record);
        // One that is removed elsewhere was seen there; this one was not.
        dots.iter().try_for_each(|dot| self.write(now, dot, None, None))?;
        Ok(dots.is_empty())
    }

    /// Removes `member` from the client's set `key`; whether it was there.
    pub(crate) fn remove_member(&mut self, now: Now, key: &[u8], member: &[u8]) -> Result<bool, Refused> {
        self.may_write()?;
        let dots = self.store.dots(&self.name(key), member, now.wall);
        dots.iter().try_for_each(|dot| self.write(now, dot, None, None))?;
        Ok(!dots.is_empty())
    }

    /// A field or a member of the client's `key`, by chance.
    pub(crate) fn draw_element(&mut self, now: Now, key: &[u8], kind: Kind) -> Option<Vec<u8>> {
        let chance = self.chance.next_u64();
        self.store.draw_element(&self.name(key), (kind, now.wall), chance)
    }

    /// A number by chance, in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// All that is under the client's `key`, if anything is.
    pub(crate) fn content(&self, now: Now, key: &[u8]) -> Option<Content> {
        if self.elements(now, key).is_none() {
            return self.get(now, key).map(|live| Content::Text(live.value.to_text(), live.deadline));
        }
        let (mut fields, mut members) = (Vec::new(), Vec::new());
        self.walk_elements((now, key), Kind::Field, None, usize::MAX, &mut |field, record| {
            let live = self.read(now, record);
            fields.extend(live.map(|live| (field.to_vec(), live.value.to_text(), live.deadline)));
        });
        self.walk_elements((now, key), Kind::Member, None, usize::MAX, &mut |member, record| {
            members.push((member.to_vec(), record.deadline));
        });
        Some(Content::Elements { fields, members })
    }

    /// Puts this in the place of what is under the client's `key`.
    pub(crate) fn put_content(&mut self, now: Now, key: &[u8], content: &Content) -> Result<(), Refused> {
        let (fields, members) = match content {
            Content::Text(text, deadline) => return self.set(now, key, text, *deadline),
            Content::Elements { fields, members } => (fields, members),
        };
        self.clear(now, key)?;
        for (field, value, deadline) in fields {
            self.write(now, &self.field_name(key, field), Some(value), *deadline)?;
        }
        for (member, deadline) in members {
            self.add_member(now, key, member, *deadline)?;
        }
        Ok(())
    }

    /// Deletes the client's `key`, in the place of which something is written next: nobody is told of the delete.
    pub(crate) fn clear(&mut self, now: Now, key: &[u8]) -> Result<(), Refused> {
        self.may_write()?;
        if self.is_there(now, key) {
            let version = Version { hlc: Hlc::ZERO, origin: self.own };
            let name = self.name(key);
            let deleted = Record { key: &name, value: None, is_counter: false, deadline: None, version };
            self.replace_untold(now, &deleted);
        }
        Ok(())
    }

    /// Writes `value` in the place of all that is under the client's `key`, or deletes that.
    pub(crate) fn replace(
        &mut self,
        now: Now,
        key: &[u8],
        value: Option<&[u8]>,
        deadline: Option<WallMs>,
    ) -> Result<(), Refused> {
        self.may_write()?;
        let version = Version { hlc: Hlc::ZERO, origin: self.own };
        let record = Record { key: &self.name(key), value, is_counter: false, deadline, version };
        self.replace_untold(now, &record);
        self.note_taken(&record);
        Ok(())
    }

    /// As [`replace`](Self::replace), and nobody is told of it.
    ///
    /// What peers may not see yet is written anew before they do, and would then take what they have written of the key
    /// since. So as long as that is so each element is deleted by itself, behind the value, and nothing is written
    /// under the key where there is no value. That holds for who is alone, too: somebody may come before the delete is
    /// collected. (`sim/regressions/who-was-alone-deleted-a-hash-that-others-wrote-to`)
    #[inline]
    fn replace_untold(&mut self, now: Now, record: &Record<'_>) {
        match self.store.has_elements() && self.is_hidden(self.own) {
            true => self.replace_hidden(now, record),
            false => self.stamp_and_take(now, record),
        }
    }

    fn replace_hidden(&mut self, now: Now, record: &Record<'_>) {
        let mut elements = Vec::new();
        self.store.visit_elements(record.key, now.wall, &mut |element| elements.push(element.key.to_vec()));
        let has_value = || self.store.get(record.key).is_some_and(|stands| stands.value.is_some());
        if elements.is_empty() || record.value.is_some() || has_value() {
            self.stamp_and_take(now, record);
        }
        for element in elements {
            let deleted = Record { key: &element, value: None, deadline: None, ..*record };
            self.stamp_and_take(now, &deleted);
        }
    }

    /// Has all elements of the client's `key` end at the `deadline`, or never: each is written anew.
    pub(crate) fn expire_elements(&mut self, now: Now, key: &[u8], deadline: Option<WallMs>) -> Result<(), Refused> {
        self.may_write()?;
        let mut elements = Vec::new();
        self.store.visit_elements(&self.name(key), now.wall, &mut |record| {
            elements.extend(self.read(now, record).map(|live| (record.key.to_vec(), live.value.to_text())));
        });
        elements.iter().try_for_each(|(name, value)| self.write(now, name, Some(value), deadline))
    }

    /// The members of the client's `key`.
    pub(crate) fn members_of(&self, now: Now, key: &[u8]) -> Vec<Vec<u8>> {
        let mut members = Vec::new();
        self.walk_elements((now, key), Kind::Member, None, usize::MAX, &mut |member, _| members.push(member.to_vec()));
        members
    }

    /// Whether what was written of `key` at `hlc` may have been deleted, and that forgotten, with its key if it is an
    /// element.
    pub(crate) fn may_have_deleted(&self, key: &[u8], hlc: Hlc) -> bool {
        let may_have = |name: &[u8]| self.collected.may_have_deleted(key_name(name), hlc);
        may_have(key) || name::owner(key).is_some_and(|owner| may_have(&owner))
    }

    /// Does what puts another version under `key`, a plain name, not by the will of a client: what of its elements that
    /// takes out is written anew, but for what only others wrote if peers have had a say: they may have deleted it.
    /// (`sim/regressions/a-field-that-was-deleted-elsewhere-was-written-anew`)
    pub(crate) fn keeping_elements(&mut self, now: Now, key: &[u8], act: impl FnOnce(&mut Self)) {
        let mut elements = Vec::new();
        self.store.visit_elements(key, now.wall, &mut |record| {
            let is_due = |version| self.is_to_rewrite(version);
            if !self.is_returning() && !Counter::of(record).versions().any(is_due) {
                return;
            }
            let amount = match Counter::of(record).count_at(now.wall) {
                Count::Number(sum) if record.is_counter => Some(sum),
                _ => None,
            };
            let live = self.read(now, record);
            elements.extend(live.map(|Live { value, deadline }| {
                (record.key.to_vec(), value.to_text(), amount.filter(|_| deadline.is_none()), deadline)
            }));
        });
        act(self);
        for (stored, value, amount, deadline) in elements {
            if self.store.get(&stored).is_some() {
                continue;
            }
            let version = Version { hlc: Hlc::ZERO, origin: self.own };
            match amount {
                Some(amount) => self.put_part(now, &stored, amount, false),
                None => {
                    let (key, value, is_counter) = (&*stored, Some(&*value), false);
                    self.stamp_and_take(now, &Record { key, value, is_counter, deadline, version });
                }
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
