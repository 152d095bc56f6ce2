//! What peers may not see as it stands, and how it comes to be seen: what a run without memory wrote before an
//! established member had a say, and what a member holds that its cluster forgot and that comes back. *When* that
//! changes is told in [`exposure`](crate::repl).

use super::Replica;
use crate::counter::{Counter, Fold};
use crate::disk::Durable;
use crate::name;
use crate::origins::{Known, Swept};
use crate::record::Record;
use crate::store::{Merged, floor_space};
use crate::time::{Mono, Now};
use crate::version::{Hlc, OriginId, Version};

/// Versions that are remembered of what others hold too: half a megabyte. It is what a run left behind and nobody
/// claims; what comes above that is written anew, as if only this node had it.
///
/// Each of them, and not the newest of an origin: the sender may have deleted one before that had come to it by no
/// stream. (`sim/regressions/a-write-that-was-deleted-unseen-was-announced-by-who-came-back`)
pub(crate) const HOME_MAX: usize = 16_384;

/// Most runs of a member that are kept hidden beside each other: accounts are many, but not without end. A run after so
/// many goes on under the origin of the last, which nobody has seen either.
const EARLIER_MAX: usize = 250;

/// Whether peers may see what this run wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// There is nobody: the run was started without naming a peer, and none has come that it listens to. What it holds
    /// is its own, and all there is. Whoever comes first may be of a cluster that knew this member before, so until
    /// then this is no cluster's either.
    Alone,
    /// Not yet: the run began without memory, and its stamps may be below what the cluster has forgotten.
    Hidden,
    /// Nor may they see anything else that it holds: the cluster went on without this member, and has deleted and
    /// forgotten since. It ends with a sweep from an established member, and then with writing anew what only this
    /// node has.
    Returning(Return),
    Exposed,
}

/// How far a member that was forgotten has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// A sweep has yet to say what the cluster knows.
    Unswept,
    /// What the frontier does not cover is being written anew.
    Reissuing,
}

/// What was written may have to be written anew before peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unshown;

impl Replica {
    /// Versions remembered of what others hold too.
    pub(crate) fn home_len(&self) -> usize {
        self.home.len()
    }

    /// Whether peers must not see records of `origin`.
    pub(crate) fn is_hidden(&self, origin: OriginId) -> bool {
        match self.exposure {
            Exposure::Exposed => self.reissued.contains(&origin) || (self.is_unmarked && self.is_unshown(origin)),
            Exposure::Alone | Exposure::Hidden => self.is_own(origin),
            Exposure::Returning(_) => true,
        }
    }

    /// Whether there is anything that peers must not see. Once there is not, there is not for as long as links stand.
    pub(crate) fn hides_any(&self) -> bool {
        self.exposure != Exposure::Exposed || !self.reissued.is_empty() || self.is_unmarked
    }

    /// Whether streams are dropped, because only what a sweep brings can be told apart from what is obsolete.
    pub(crate) fn is_returning(&self) -> bool {
        matches!(self.exposure, Exposure::Returning(_))
    }

    /// Notes what a member that comes back is brought of by a sweep with these claims.
    pub(crate) fn note_home(&mut self, version: Version, claims: &Known) {
        if self.home.len() < HOME_MAX && !claims.covers(version, self.origins.retired()) {
            self.home.insert(version);
        }
    }

    /// The cluster went on without this run. What it holds stays readable and is shown to nobody until a sweep has told
    /// what of it is obsolete; what it writes from now on it writes as `fresh`.
    pub(crate) fn forgotten(&mut self, now: Mono, fresh: OriginId) {
        self.exposure = Exposure::Returning(Return::Unswept);
        self.lift_floors();
        self.is_unmarked = false;
        self.home.clear();
        self.sweeping = None;
        self.foretold = None;
        self.strays = None;
        self.earlier.clear();
        self.reissued.clear();
        self.superseded = None;
        self.durable = self.durable.take().map(|_| Durable::default());
        self.tail.clear();
        if self.own_last > Hlc::ZERO {
            self.before = Some(Version { hlc: self.own_last, origin: self.own });
        }
        self.write_as(now, fresh);
    }

    /// The sweep that a member which was forgotten waited for is whole: `claims` is what the cluster knows. Everything
    /// else in here only this node has, and is written anew as `fresh`, which nobody has seen.
    pub(crate) fn returned(&mut self, now: Mono, swept: &Swept, fresh: OriginId) {
        self.take_up(now, swept);
        for Version { hlc, origin } in &self.home {
            self.origins.hold(*origin, *hlc, now);
            self.origins.sweep(*origin, *hlc);
        }
        self.before =
            self.before.map(|before| Version { hlc: before.hlc.min(self.origins.frontier(before.origin)), ..before });
        self.before = self.before.filter(|before| before.hlc > Hlc::ZERO);
        self.exposure = Exposure::Returning(Return::Reissuing);
        self.write_as(now, fresh);
    }

    /// What was read from the disk and was written as one of these nobody has seen: it stays hidden.
    pub(crate) fn keep_hidden(&mut self, hidden: impl Iterator<Item = OriginId>, now: Mono) {
        let held = |origin: &OriginId| self.origins.find(*origin).map_or(Hlc::ZERO, |account| account.held);
        let mut written: Vec<_> = hidden.map(|origin| (held(&origin), origin)).collect();
        written.retain(|(held, _)| *held > Hlc::ZERO);
        written.sort_unstable();
        self.own_first = (!written.is_empty()).then_some(Hlc(1));
        if let Some((held, last)) = (written.len() > EARLIER_MAX).then(|| written.pop()).flatten() {
            self.origins.remove(self.own);
            (self.own, self.own_last) = (last, held);
            self.origins.claim(last, held, now);
        }
        // Whatever is missing of them nobody has.
        for (held, origin) in &written {
            self.origins.claim(*origin, *held, now);
        }
        self.earlier = written.into_iter().map(|(_, origin)| origin).collect();
    }

    /// What must not be seen, in order: what a run after this one is to know of.
    pub(crate) fn hidden(&self) -> Vec<OriginId> {
        let mut hidden = self.reissued.clone();
        if matches!(self.exposure, Exposure::Alone | Exposure::Hidden) {
            hidden.extend_from_slice(&self.earlier);
            hidden.push(self.own);
        }
        hidden.sort_unstable();
        hidden
    }

    /// The log says that peers may see what this run wrote, and those before it that nobody was shown.
    pub(crate) fn show(&mut self) {
        self.is_unmarked = false;
        self.earlier.clear();
    }

    /// The frontier as it is stated: what is not on the disk does not count where replies wait for that.
    pub(crate) fn exposed_for_statements(&self) -> impl Iterator<Item = (OriginId, Hlc)> + Clone + '_ {
        let waits = self.log.as_ref().is_some_and(|log| log.is_always());
        let on_disk = move |(origin, hlc): (OriginId, Hlc)| match waits {
            true => (origin, hlc.min(self.durable_frontier(origin))),
            false => (origin, hlc),
        };
        self.exposed().map(on_disk).filter(|(_, hlc)| *hlc > Hlc::ZERO)
    }

    /// Whether more is held of `origin` than is stated, as it is not on the disk.
    pub(crate) fn withholds(&self, origin: OriginId) -> bool {
        let waits = self.log.as_ref().is_some_and(|log| log.is_always());
        waits && self.durable_frontier(origin) < self.origins.frontier(origin)
    }

    fn write_as(&mut self, now: Mono, fresh: OriginId) {
        self.own = fresh;
        self.own_last = Hlc::ZERO;
        self.own_first = None;
        self.origins.open_own(fresh, now);
    }

    /// The frontier as peers may see it.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = (OriginId, Hlc)> + Clone + '_ {
        self.origins.iter().filter(|origin| self.states(origin)).map(|origin| (origin.id, origin.frontier))
    }

    /// An established member's clock reads `theirs`. If something hidden was stamped at or below it, everything hidden
    /// is to be written anew, under `fresh`, an origin that nobody has seen. True if so.
    pub(crate) fn expose(&mut self, now: Mono, theirs: Hlc, fresh: OriginId) -> bool {
        debug_assert!(self.exposure != Exposure::Exposed, "a run is exposed once");
        // Those whom it begins a cluster with have no more to tell.
        self.is_restored = false;
        self.exposure = Exposure::Exposed;
        self.is_unmarked = self.log.is_some();
        self.clock.observe(theirs);
        if self.own_first.is_none_or(|first| first > theirs) {
            return false;
        }
        self.reissued.append(&mut self.earlier);
        self.reissued.push(self.own);
        // Of what was collected nobody else had anything.
        self.reissued.iter().for_each(|hidden| self.reaped.claims.remove(*hidden));
        self.write_as(now, fresh);
        true
    }

    pub(super) fn note_superseded(&mut self, record: &Record<'_>, merged: Merged) {
        if self.is_returning() {
            return;
        }
        let first = match merged {
            // It may have taken the place of anything, and is itself what is announced.
            Merged::Won { .. } if floor_space(record.key).is_some() && self.hides_any() => record.version.hlc,
            Merged::Won { over: Some(over) } if self.is_hidden(over.origin) => over.hlc,
            Merged::Won { .. } | Merged::Lost { .. } | Merged::Same => return,
        };
        self.superseded = Some(self.superseded.map_or(first, |before| before.min(first)));
    }

    /// Whether a record is to be written anew, or may have taken the place of one that was.
    pub(crate) fn is_to_reissue(&self, record: &Record<'_>) -> bool {
        let is_in_its_stead = |version: Version| {
            version.origin != self.own
                && self.superseded.is_some_and(|first| version.hlc >= first)
                && !self.is_returning()
        };
        let is_due = |version| self.is_to_rewrite(version) || is_in_its_stead(version);
        if !record.is_counter {
            return is_due(record.version);
        }
        let counter = Counter::of(record);
        counter.versions().any(is_due) || counter.folds.iter().any(|fold| self.is_to_unfold(fold))
    }

    /// Whether it is of a ledger that the cluster which this node returned to does not have.
    pub(crate) fn is_to_unfold(&self, fold: &Fold) -> bool {
        self.is_returning() && !self.covers_fold(fold)
    }

    /// Whether peers will see what is now `version` under another one only.
    pub(crate) fn is_to_rewrite(&self, version: Version) -> bool {
        match self.is_returning() {
            true => !self.covers(version) && !self.home.contains(&version),
            false => self.reissued.contains(&version.origin),
        }
    }

    /// Writes the record of `key` anew if it is one of those hidden for good, or announces what took its place.
    ///
    /// A key goes before its elements, which are newer than what stands under it and have to stay so; and what of them
    /// has been seen under an older version is then written anew as well.
    pub(crate) fn reissue(&mut self, now: Now, key: &[u8]) {
        let is_rewritten = |replica: &Self, key: &[u8]| {
            let stands = replica.store.get(key);
            stands.is_some_and(|record| Counter::of(&record).versions().any(|version| replica.is_to_rewrite(version)))
        };
        for key in name::owner(key).as_deref().into_iter().chain([key]) {
            if is_rewritten(self, key) {
                self.keeping_elements(now, key, |replica| replica.reissue_one(now, key));
            }
        }
        self.reissue_one(now, key);
    }

    fn reissue_one(&mut self, now: Now, key: &[u8]) {
        let Some(record) = self.store.get(key).filter(|record| self.is_to_reissue(record)) else { return };
        if record.is_counter {
            let counter = Counter::of(&record);
            let has_folds = counter.folds.iter().any(|fold| self.is_to_unfold(fold));
            if has_folds || counter.versions().any(|version| self.is_to_rewrite(version)) {
                return self.reissue_counter(now, key);
            }
            return self.announce(now, key);
        }
        // A floor under another version would be above what was written since.
        if !self.is_to_rewrite(record.version) || floor_space(key).is_some() {
            return self.announce(now, key);
        }
        // A copy: the store overwrites the entry that the record borrows from.
        let (value, deadline) = (record.value.map(<[u8]>::to_vec), record.deadline);
        let version = Version { hlc: Hlc::ZERO, origin: self.own };
        self.stamp_and_take(now, &Record { key, value: value.as_deref(), is_counter: false, deadline, version });
    }

    /// Up to where a peer must hold this run's stream to hold what was stamped `wrote`: up to that stamp or, if it had
    /// to be written anew, up to the last record that was. None while this is not known.
    pub(crate) fn shown(&self, wrote: Version) -> Option<Version> {
        if wrote.origin == self.own {
            return (self.exposure == Exposure::Exposed).then_some(wrote);
        }
        // The cluster may know it by that stamp, from before it forgot this node.
        if !self.is_returning() && self.reissued.is_empty() && wrote.hlc <= self.origins.frontier(wrote.origin) {
            return Some(wrote);
        }
        let anew = Version { hlc: self.reissued_upto, origin: self.own };
        (self.reissued.is_empty() && !self.is_returning()).then_some(anew)
    }

    /// The newest write of this run; none while it may still have to be written anew, which `Err` says.
    pub(crate) fn newest_own(&self) -> Result<Option<Version>, Unshown> {
        let newest = Version { hlc: self.own_last, origin: self.own };
        match self.exposure {
            _ if !self.reissued.is_empty() => Err(Unshown),
            Exposure::Returning(_) => Err(Unshown),
            Exposure::Hidden if self.own_last > Hlc::ZERO => Err(Unshown),
            Exposure::Exposed if self.own_last == Hlc::ZERO => Ok(self.before),
            Exposure::Alone | Exposure::Hidden | Exposure::Exposed => Ok((self.own_last > Hlc::ZERO).then_some(newest)),
        }
    }

    /// Whether there are records to be written anew.
    pub(crate) fn is_reissuing(&self) -> bool {
        !self.reissued.is_empty() || self.exposure == Exposure::Returning(Return::Reissuing)
    }

    /// All of them have been.
    pub(crate) fn end_reissue(&mut self) {
        if self.is_returning() {
            self.exposure = Exposure::Exposed;
            self.is_restored = false;
            self.reissued_upto = self.own_last;
            self.home.clear();
        }
        if self.reissued.is_empty() {
            return;
        }
        self.reissued_upto = self.own_last;
        for hidden in self.reissued.drain(..) {
            self.origins.remove(hidden);
            if let Some(claims) = &mut self.sweeping {
                claims.remove(hidden);
            }
        }
    }

    pub(crate) fn is_own(&self, origin: OriginId) -> bool {
        self.is_unshown(origin) || self.reissued.contains(&origin)
    }

    /// Whether what it wrote is hidden for as long as what this run writes is.
    fn is_unshown(&self, origin: OriginId) -> bool {
        origin == self.own || self.earlier.contains(&origin)
    }
}
