//! The data side of a node: the store, the clock that stamps writes, and the tail that peers are fed from.
//!
//! Whatever comes in, from a client, a stream or a sweep, ends in [`Replica::take`]: there is one way to merge.

mod changes;
mod elements;
mod floors;
mod hidden;
mod obsolete;
mod untold;

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::collected::Collected;
use crate::conflicts::Ledger;
use crate::counter::{Base, Count, Counter};
use crate::disk::{DiskError, Durable, Log};
use crate::feed::Feed;
use crate::name::{self, Kind, Name, Stored};
use crate::origins::{Claims, Known, Origins};
use crate::pubsub::Change;
use crate::rand::Rand;
use crate::record::{Framed, Record, encode_at};
use crate::retired::{Mark, Retired};
use crate::retiring::{Reaped, entry_of};
use crate::session::{Standing, Stood};
use crate::store::{Folding, Graves, Merged, OriginsFull, Store, floor_space, key_name, slot_of};
use crate::tail::Tail;
use crate::time::{Mono, Now, WallMs};
use crate::version::{Hlc, HlcClock, OriginId, Version};
pub(crate) use elements::Holds;
pub(crate) use hidden::{Exposure, HOME_MAX, Return, Unshown};
pub(crate) use obsolete::Obsolete;

/// Why a client's write was not taken. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This node's clock is too far ahead of its peers'.
    ClockAhead { ms: u64 },
    /// A newer run of this member has taken its place.
    Fenced,
    /// The member was asked to leave its cluster.
    Left,
    /// The disk takes nothing.
    Disk(DiskError),
    /// As much waits for the disk as may.
    DiskBehind,
    /// It was restored from a backup, and has not caught up.
    Restored,
}

impl Refused {
    /// Whether this run will never take a write again.
    pub(crate) const fn is_for_good(self) -> bool {
        matches!(self, Self::Fenced | Self::Left)
    }
}

/// What a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live<'a> {
    pub(crate) value: Shown<'a>,
    pub(crate) deadline: Option<WallMs>,
}

/// A value as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    Bytes(&'a [u8]),
    /// The sum of a counter, which may be out of the range of those who add.
    Number(i128),
}

impl Shown<'_> {
    /// How many there are to read.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(number) => itoa::Buffer::new().format(number).len(),
        }
    }

    /// As text that does not borrow from the store.
    pub(crate) fn to_text(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Number(number) => itoa::Buffer::new().format(number).as_bytes().to_vec(),
        }
    }
}

/// What a reader at `now` sees of a counter.
fn live_counter<'a>(now: Now, counter: &Counter<'_>) -> Option<Live<'a>> {
    let Count::Number(sum) = counter.count_at(now.wall) else { return None };
    Some(Live { value: Shown::Number(sum), deadline: counter.deadline_at(now.wall) })
}

/// What became of a record of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streamed {
    /// It was the next of its stream.
    Taken,
    /// It was known, or a sweep under way answers for it.
    Covered,
    /// Records before it are missing; it was not merged.
    Gap,
}

/// Folds that a sweep brought and this node's ledger does not have yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strays {
    pub(crate) since: Mono,
    /// Some are of a ledger that is not foretold any more: no sweep settles those, only the walk that lets go of them.
    pub(crate) unforetold: bool,
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) store: Store,
    pub(crate) origins: Origins,
    pub(crate) tail: Tail,
    pub(crate) clock: HlcClock,
    /// The origin of what is written now.
    pub(crate) own: OriginId,
    own_last: Hlc,
    own_first: Option<Hlc>,
    own_records: u64,
    /// The newest write from before the cluster forgot this node and took it in again.
    before: Option<Version>,
    /// Origins of earlier runs of this member that nobody has been shown either: they are as hidden as its own.
    pub(crate) earlier: Vec<OriginId>,
    /// What was written before an established member had a say, hidden until all of it has been written anew.
    pub(crate) reissued: Vec<OriginId>,
    /// Where the stream stood when all of that had been written anew.
    reissued_upto: Hlc,
    /// The least stamp of the hidden records that records of peers took the place of, if any did. Nobody will ever see
    /// those, so who waits for what was hidden waits for what took its place: that is announced.
    superseded: Option<Hlc>,
    pub(crate) exposure: Exposure,
    /// It holds what its cluster held when it became a member; or has none yet, and does not come back to one.
    pub(crate) is_whole: bool,
    /// While it comes back: what the sender of the sweep holds and does not claim, at most
    /// [`hidden::HOME_MAX`]. Others hold it too, and it is announced again instead of written anew.
    home: BTreeSet<Version>,
    /// Set while client writes are refused.
    pub(crate) refused: Option<Refused>,
    /// While a sweep is under way: what will be claimed at its end.
    pub(crate) sweeping: Option<Claims>,
    /// The ledger that its sender has told, if it told any; kept until a sweep is whole, for what it has folded.
    pub(crate) foretold: Option<Retired>,
    /// Folds that only `foretold` tells of, if there may be any.
    pub(crate) strays: Option<Strays>,
    /// How long the sender's ledger is.
    pub(crate) swept_len: u32,
    /// Off until the first peer is known: a node on its own pays nothing for a tail.
    tail_on: bool,
    /// What was taken out, here or by who swept this node.
    pub(crate) reaped: Reaped,
    /// What is remembered of them, by key.
    pub(crate) collected: Collected,
    /// Of a cluster met, the ledger that this node's gave way to: it takes up no lesser one meanwhile.
    pub(crate) bound_for: Mark,
    /// What lost to a write that had not seen it, one of the two being this run's.
    pub(crate) ledger: Ledger,
    /// Where what is taken in is written, if this node has a disk.
    pub(crate) log: Option<Box<Log>>,
    /// What of it a crash cannot take back, as of the last sync; none without a disk, where that is all.
    pub(crate) durable: Option<Durable>,
    /// It was restored from a backup, and has yet to hear what its cluster has changed since.
    pub(crate) is_restored: bool,
    /// Why the disk takes nothing of clients, if so, as of the command that is run.
    disk_refuses: Option<Refused>,
    /// The log is to be told anew where this node stands.
    pub(crate) mark_due: bool,
    /// Peers may see what this run wrote once the log says so: a run that reads what was seen, and takes it for hidden,
    /// would write it anew over what others have written since.
    pub(crate) is_unmarked: bool,
    /// Something of this run was read that is not on the disk, where replies wait for that.
    pub(crate) unsynced_read: Cell<bool>,
    /// When this run flushed last.
    pub(crate) flushed: Hlc,
    /// What has become of keys since it was last asked, if that is told.
    changes: Option<Vec<Change>>,
    /// The newest changes of keys, if somebody watches.
    pub(crate) feed: Feed,
    /// The keyspace of the client whose command is run: where commands and the data meet, keys get their names.
    pub(crate) space: u8,
    /// For elements that are drawn.
    chance: Rand,
    scratch: Vec<u8>,
}

impl Replica {
    pub(crate) fn new(own: OriginId, hash_key: [u64; 2], ring_bytes: usize, exposure: Exposure, now: Mono) -> Self {
        let mut origins = Origins::default();
        origins.open_own(own, now);
        Self {
            store: Store::new(hash_key),
            origins,
            tail: Tail::new(ring_bytes),
            clock: HlcClock::default(),
            own,
            own_last: Hlc::ZERO,
            own_first: None,
            own_records: 0,
            before: None,
            earlier: Vec::new(),
            reissued: Vec::new(),
            reissued_upto: Hlc::ZERO,
            superseded: None,
            exposure,
            is_whole: true,
            home: BTreeSet::new(),
            refused: None,
            sweeping: None,
            foretold: None,
            strays: None,
            swept_len: 0,
            tail_on: false,
            reaped: Reaped::default(),
            collected: Collected::default(),
            bound_for: Mark::default(),
            ledger: Ledger::default(),
            log: None,
            durable: None,
            is_restored: false,
            disk_refuses: None,
            mark_due: false,
            is_unmarked: false,
            unsynced_read: Cell::new(false),
            flushed: Hlc::ZERO,
            changes: None,
            feed: Feed::default(),
            space: 0,
            chance: Rand::new([own.0, hash_key[0], hash_key[1], 0]),
            scratch: Vec::new(),
        }
    }

    /// What the client's `key` is called in the store.
    #[inline]
    pub(crate) fn name<'k>(&self, key: &'k [u8]) -> Stored<'k> {
        Name::key(self.space, key).stored()
    }

    /// What the client calls the key that is stored as `name`; none if it is none of its keyspace.
    pub(crate) fn key_of<'k>(&self, name: &'k [u8]) -> Option<&'k [u8]> {
        let name = Name::parse(name)?;
        (name.kind == Kind::Key && name.space == self.space).then_some(name.key)
    }

    /// The entry of the client's `key`, tombstones, husks and expired ones included.
    #[inline]
    pub(crate) fn entry(&self, key: &[u8]) -> Option<Record<'_>> {
        let name = Name::key(self.space, key);
        if name.is_plain() { self.store.get(key) } else { self.store.get(&name.stored()) }
    }

    /// The value of the client's `key`, unless it is absent, deleted or expired.
    #[inline]
    pub(crate) fn get(&self, now: Now, key: &[u8]) -> Option<Live<'_>> {
        self.entry(key).and_then(|record| self.read(now, &record))
    }

    /// As [`get`](Self::get), of what is stored as `name`.
    pub(crate) fn get_stored(&self, now: Now, name: &[u8]) -> Option<Live<'_>> {
        self.store.get(name).and_then(|record| self.read(now, &record))
    }

    /// What a reader sees of `record`, which stands.
    #[inline]
    pub(crate) fn read<'a>(&self, now: Now, record: &Record<'a>) -> Option<Live<'a>> {
        self.note_unsynced_read(record);
        if record.is_counter {
            return live_counter(now, &Counter::of(record));
        }
        if record.deadline.is_some_and(|deadline| deadline <= now.wall) {
            return None;
        }
        record.value.map(|value| Live { value: Shown::Bytes(value), deadline: record.deadline })
    }

    /// How what is stored as `name` stands, by which a later look tells whether it has changed.
    pub(crate) fn stood(&self, now: Now, name: &[u8]) -> Stood {
        let (floor, newest) = (self.store.floor_over(name), self.store.slot_newest(slot_of(name)));
        Stood { standing: self.standing(now, name), floor, newest }
    }

    /// What stands as `name`, which is that of a key.
    pub(crate) fn standing(&self, now: Now, name: &[u8]) -> Option<Standing> {
        let (record, elements) = (self.store.get(name), self.store.elements(name, now.wall));
        let changed = self.store.elements_changed(name);
        if record.is_none() && changed == 0 {
            return None;
        }
        let live = record.as_ref().and_then(|record| self.read(now, record));
        let sum = live.and_then(|live| if let Shown::Number(sum) = live.value { Some(sum) } else { None });
        Some(Standing {
            version: record.map(|record| record.version),
            is_live: live.is_some() || elements.is_some(),
            sum,
            deadline: live.and_then(|live| live.deadline),
            elements: (changed, elements.map_or(0, |of| of.fields + of.members)),
        })
    }

    /// Whether a reader sees `record`, which stands.
    pub(crate) fn is_live(&self, now: Now, record: &Record<'_>) -> bool {
        self.read(now, record).is_some()
    }

    /// Sets the client's `key`. `deadline` is absolute; none means it never expires.
    pub(crate) fn set(&mut self, now: Now, key: &[u8], value: &[u8], deadline: Option<WallMs>) -> Result<(), Refused> {
        self.replace(now, key, Some(value), deadline)
    }

    /// Deletes the client's `key`; whether there was something to delete. An absent key gets no tombstone: nothing was
    /// seen.
    pub(crate) fn delete(&mut self, now: Now, key: &[u8]) -> Result<bool, Refused> {
        if !self.is_there(now, key) {
            return self.may_write().map(|()| false);
        }
        self.replace(now, key, None, None).map(|()| true)
    }

    /// Whether client writes are taken.
    pub(crate) fn may_write(&self) -> Result<(), Refused> {
        let restored = self.is_restored.then_some(Refused::Restored);
        self.refused.or(self.disk_refuses).or(restored).map_or(Ok(()), Err)
    }

    /// What the data takes, and what is remembered beside it: the ring, the conflicts, what was collected, and what is
    /// to be told to those who watch. O(1).
    pub(crate) fn memory_bytes(&self) -> u64 {
        let Self { tail, ledger, collected, feed, .. } = self;
        let besides = tail.memory_bytes() + ledger.bytes() + collected.memory_bytes() + feed.bytes();
        self.store.memory_bytes() + besides as u64
    }

    /// Looks whether the disk takes what the next command writes: all of it, or nothing.
    pub(crate) fn look_at_disk(&mut self) {
        self.disk_refuses = self.log.as_ref().and_then(|log| log.refusal());
    }

    /// Whether as much waits for the disk as may: what comes from others is not taken now.
    pub(crate) fn is_disk_behind(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_behind_max())
    }

    /// Writes what is stored as `name`.
    pub(crate) fn write(
        &mut self,
        now: Now,
        name: &[u8],
        value: Option<&[u8]>,
        deadline: Option<WallMs>,
    ) -> Result<(), Refused> {
        self.may_write()?;
        let version = Version { hlc: Hlc::ZERO, origin: self.own };
        let record = Record { key: name, value, is_counter: false, deadline, version };
        self.stamp_and_take(now, &record);
        self.note_taken(&record);
        Ok(())
    }

    /// Writes `record` under a new version of this run.
    #[inline]
    pub(crate) fn stamp_and_take(&mut self, now: Now, record: &Record<'_>) {
        let version = self.stamp(now);
        self.take_stamped(now, &Record { version, ..*record }, false);
    }

    /// Writes `record`, whose version is a new stamp of this run; `in_place` of what the log still says of the key.
    pub(crate) fn take_stamped(&mut self, now: Now, record: &Record<'_>, in_place: bool) {
        let stamp = record.version;
        // With a key goes what it had of elements.
        let newest_element = self.store.newest_element(record.key);
        let Ok(Merged::Won { over }) = self.take(now.mono, record, None) else {
            unreachable!("a new stamp is greater than every one seen, and its origin has an account");
        };
        if in_place {
            self.log_replaced(record.key);
        }
        if self.tail_on || self.log.is_some() {
            let seen = over.map_or(Hlc::ZERO, |over| over.hlc).max(newest_element);
            self.scratch.clear();
            encode_at((stamp, Some(self.own_last), seen), record, &mut self.scratch);
        }
        self.append(now.mono, stamp);
    }

    /// Announces the record of `key` again, which nobody is left to stream: an envelope in this run's own stream.
    pub(crate) fn announce(&mut self, now: Now, key: &[u8]) {
        let stamp = Version { hlc: self.clock.tick(now.wall), origin: self.own };
        let Some(record) = self.store.get(key) else { return };
        self.scratch.clear();
        encode_at((stamp, Some(self.own_last), Hlc::ZERO), &record, &mut self.scratch);
        self.append(now.mono, stamp);
    }

    /// A version greater than all that this node has seen, for what is no record.
    pub(crate) fn stamp(&mut self, now: Now) -> Version {
        Version { hlc: self.clock.tick(now.wall), origin: self.own }
    }

    /// What is written next is newer than this.
    pub(crate) fn observe(&mut self, version: Version) {
        self.clock.observe(version.hlc);
    }

    /// Puts what was encoded into `scratch` into this run's own stream at `stamp`.
    #[inline]
    fn append(&mut self, now: Mono, stamp: Version) {
        debug_assert!(stamp.hlc > self.own_last, "a run's stamps strictly increase");
        if self.tail_on {
            self.tail.append(&self.scratch);
        }
        if let Some(log) = &mut self.log {
            log.push_own(stamp.hlc, &self.scratch);
        }
        self.own_last = stamp.hlc;
        self.own_first.get_or_insert(stamp.hlc);
        self.own_records += 1;
        self.origins.claim(self.own, stamp.hlc, now);
        self.raise_sweeping(self.own, stamp.hlc);
    }

    /// The one way in: every record that is merged, whoever brought it, is merged here.
    ///
    /// `seen` is given for a record that comes in its writer's stream: up to where that writer had seen what it wrote
    /// over. Then a conflict with a record of this run's own is noted, which these two writers can know: what loses to
    /// a record of mine and was never here was not known when I wrote mine; what beats mine did not know mine if it
    /// says so.
    #[inline]
    pub(crate) fn take(&mut self, now: Mono, record: &Record<'_>, seen: Option<Hlc>) -> Result<Merged, OriginsFull> {
        let merged = self.merge(now, record, seen)?;
        if matches!(merged, Merged::Won { .. }) {
            self.feed_change(record.key);
        }
        Ok(merged)
    }

    fn merge(&mut self, now: Mono, record: &Record<'_>, seen: Option<Hlc>) -> Result<Merged, OriginsFull> {
        let version = record.version;
        if record.is_counter {
            return self.take_counter(now, record, None);
        }
        // If it was here before, a client may have seen it.
        let may_be_seen = self.hold(now, version)?;
        let Self { store, ledger, own, reissued, .. } = self;
        // What a flush takes was meant to go, whoever wrote it.
        let seen = seen.filter(|_| floor_space(record.key).is_none());
        store.merge_meeting(record, &mut |stands| {
            let Some(seen) = seen else { return };
            let mine = stands.version;
            // What a counter loses to is a reset, and not a loss that was not meant.
            if stands.is_counter {
                return;
            }
            if mine.origin != *own && !reissued.contains(&mine.origin) {
                return;
            }
            if version < mine {
                if !may_be_seen {
                    ledger.note(now, record, stands);
                }
            } else if seen < mine.hlc {
                ledger.note(now, stands, record);
            }
        })
    }

    /// As [`take`](Self::take), for a counter, of which a part may be news and another not. Of what is known nothing is
    /// taken: it was merged before, and what is not here any more of it was deleted and collected since. So it is with
    /// the base, which a run without memory may have added to before it heard of the delete.
    /// (`sim/regressions/a-base-that-was-deleted-and-collected-was-added-to-by-a-run-that-had-yet-to-hear-of-it`)
    ///
    /// `streamed` is news in any case.
    pub(crate) fn take_counter(
        &mut self,
        now: Mono,
        record: &Record<'_>,
        streamed: Option<Version>,
    ) -> Result<Merged, OriginsFull> {
        let mut news = Counter::of(record);
        for version in news.versions() {
            self.hold(now, version)?;
        }
        news.leave_out(|version| Some(version) != streamed && self.covers(version));
        let (name, owner) = (key_name(record.key), name::owner(record.key).map(|owner| key_name(&owner)));
        let may_have_reset = |base: &Base<'_>| {
            let names = [Some(name), owner].into_iter().flatten();
            names.into_iter().any(|name| self.collected.may_have_reset(name, base))
        };
        news.base.take_if(|base| self.covers(base.version) && may_have_reset(base));
        // A fold of entries that nobody has told comes again with the sweep that tells them.
        news.folds.retain(|fold| !self.covers_fold(fold) && self.is_foretold(fold));
        if !news.folds.is_empty() {
            self.strays.get_or_insert(Strays { since: now, unforetold: false });
        }
        let Self { store, origins, foretold, own, reissued, .. } = self;
        // Whatever is foretold, this run is up, and its part is its own.
        let is_own = |origin| origin == *own || reissued.contains(&origin);
        let entry = |origin| entry_of(origins, foretold.as_ref(), origin).filter(|_| !is_own(origin));
        store.merge_counter(record, news, entry)
    }

    /// Whether there is something in `record` that this node's frontier does not cover.
    fn is_news(&self, record: &Record<'_>) -> bool {
        if !record.is_counter {
            return !self.covers(record.version);
        }
        let counter = Counter::of(record);
        let has_news = counter.versions().any(|version| !self.covers(version));
        has_news || counter.folds.iter().any(|fold| !self.covers_fold(fold))
    }

    /// Whether `record`, of which this node holds nothing, was here once or would have been deleted here: a run that
    /// began without memory may have been brought a delete and not what was written before.
    /// (`sim/regressions/both-who-forgot-restarted-and-a-delete-came-back`)
    fn knew(&self, record: &Record<'_>) -> bool {
        let Record { key, version, is_counter, .. } = *record;
        let has_deleted = |key: &[u8]| self.collected.has_deleted(key_name(key), version.hlc);
        let was_deleted = has_deleted(key) || name::owner(key).is_some_and(|owner| has_deleted(&owner));
        !self.is_news(record) || (!is_counter && was_deleted)
    }

    /// Takes a record of a stream, whose encoding is `bytes`.
    pub(crate) fn stream(
        &mut self,
        now: Mono,
        framed: &Framed<'_>,
        prev: Hlc,
        bytes: &[u8],
    ) -> Result<Streamed, OriginsFull> {
        let Version { hlc, origin } = framed.stamp;
        let known = self.known(origin);
        if hlc <= known || self.is_own(origin) {
            return Ok(Streamed::Covered);
        }
        if prev > known {
            return Ok(Streamed::Gap);
        }
        if self.origins.open(origin, now).is_none() {
            return Err(OriginsFull);
        }
        let version = framed.record.version;
        let is_taken = version == framed.stamp || self.is_news(&framed.record);
        if is_taken {
            let hides_any = self.hides_any();
            if hides_any {
                self.note_superseded_elements(&framed.record);
            }
            // What is announced again says nothing of what its writer had seen.
            let merged = self.take(now, &framed.record, (version == framed.stamp).then_some(framed.seen))?;
            if hides_any {
                self.note_superseded(&framed.record, merged);
            }
            if matches!(merged, Merged::Won { .. }) {
                self.note_taken(&framed.record);
            }
        }
        self.clock.observe(hlc);
        if self.tail_on {
            self.tail.append(bytes);
        }
        self.log_streamed(framed, is_taken, bytes);
        if self.sweeping.is_some() {
            self.raise_sweeping(origin, hlc);
            self.origins.hold(origin, hlc, now);
            // Should the sweep be cut, this stays unclaimed, as what the sweep itself brought does.
            self.origins.sweep(origin, hlc);
            self.origins.touch(origin, now);
        } else {
            self.origins.claim(origin, hlc, now);
        }
        Ok(Streamed::Taken)
    }

    /// Takes a record of a sweep that claims `claims`, and may reconcile. It advances nothing until the sweep is whole.
    pub(crate) fn swept(
        &mut self,
        now: Now,
        record: &Record<'_>,
        (claims, reconciles): (&Known, bool),
    ) -> Result<(), OriginsFull> {
        let Version { hlc, origin } = record.version;
        let stands = self.store.get(record.key);
        // A floor is not forgotten, but lifted where a member comes back, which takes that of its cluster though it
        // knew it. (`sim/regressions/who-came-back-deleted-the-flush-itself`)
        let is_floor = floor_space(record.key).is_some();
        // A member that comes back knew it, deleted it and has forgotten that: only it knows of the delete.
        let is_mine_to_delete = !is_floor && !self.store.is_covered(record);
        if self.is_returning() && stands.is_none() && self.knew(record) && is_mine_to_delete {
            self.delete_anew(now, record.key);
            return Ok(());
        }
        if self.is_returning() && (record.is_counter || stands.is_some_and(|stands| stands.is_counter)) {
            return self.meet_counter(now, record, claims);
        }
        if reconciles && record.is_counter {
            self.forgo_reset(record, claims);
        }
        if !is_floor && (!self.is_news(record) || (self.is_own(origin) && !record.is_counter)) {
            return Ok(());
        }
        self.note_superseded_elements(record);
        let merged = self.take(now.mono, record, None)?;
        self.note_superseded(record, merged);
        match merged {
            Merged::Won { .. } => self.log_unstreamed(record),
            Merged::Lost { to } if self.is_untold(record, to, claims) => self.tell_anew(now, record.key),
            Merged::Lost { .. } | Merged::Same => {}
        }
        if self.is_returning() {
            self.note_home(record.version, claims);
        }
        if record.is_counter {
            for version in Counter::of(record).versions() {
                self.origins.sweep(version.origin, version.hlc);
            }
        } else {
            self.origins.sweep(origin, hlc);
        }
        Ok(())
    }

    /// The sweep was cut: what it brought is held, and not claimed.
    pub(crate) fn abort_sweep(&mut self) {
        self.sweeping = None;
    }

    /// Up to where records of `origin` need not be taken from a stream.
    #[inline]
    pub(crate) fn known(&self, origin: OriginId) -> Hlc {
        let claimed = self.origins.frontier(origin);
        self.sweeping.as_ref().map_or(claimed, |claims| claims.of(origin).max(claimed))
    }

    /// From now on a tail is kept: there are peers to feed.
    pub(crate) fn keep_tail(&mut self) {
        self.tail_on = true;
    }

    pub(crate) fn own(&self) -> OriginId {
        self.own
    }

    /// The stamp of the newest record of this run's stream.
    pub(crate) fn own_last(&self) -> Hlc {
        self.own_last
    }

    /// How many records this run's stream has had.
    pub(crate) fn own_records(&self) -> u64 {
        self.own_records
    }

    pub(crate) fn clock(&self) -> Hlc {
        self.clock.last()
    }

    /// Takes out of `slot` what is without a value and `stable` covers; counts it.
    pub(crate) fn collect(&mut self, slot: u16, stable: &Known, count: &mut u64) -> Graves {
        let Self { store, reaped, collected, origins, mark_due, .. } = self;
        let is_stable = |version: Version| stable.covers(version, origins.retired());
        store.collect(slot, is_stable, |record| {
            let version = record.version;
            reaped.note(version, origins.retired());
            collected.note(key_name(record.key), version.hlc, record.is_counter);
            *mark_due = true;
            *count += 1;
        })
    }

    /// Folds what ended runs, of which `stable` says that all members hold everything, added to the counters of `slot`,
    /// while those have `parted` who had when the runs were retired.
    pub(crate) fn fold(&mut self, slot: u16, stable: &Known, parted: u32) -> Folding {
        let Self { store, origins, .. } = self;
        let retired = origins.retired();
        store.fold(slot, |part| {
            let is_stable = part.hlc <= retired.last_within(stable.retired, part.origin);
            let entry = retired.folds_under(parted, part.origin)?;
            (is_stable && entry.number <= stable.retired && part.since > entry.after).then_some(entry)
        })
    }

    pub(crate) fn covers(&self, version: Version) -> bool {
        version.hlc <= self.origins.frontier(version.origin)
    }

    fn raise_sweeping(&mut self, origin: OriginId, hlc: Hlc) {
        if let Some(claims) = &mut self.sweeping {
            claims.raise(origin, hlc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::{Fold, Part};
    use crate::origins::Swept;
    use crate::record::{encode, next_frame};
    use crate::retired::Entry;
    use crate::store::SLOTS;
    use crate::wire::peer::{Frame, emit_sweep_held, parse};

    const NOW: Now = Now { mono: Mono(0), wall: WallMs(1_700_000_000_000) };

    fn replica() -> Replica {
        Replica::new(OriginId(1), [1, 2], 1 << 10, Exposure::Exposed, NOW.mono)
    }

    fn version(origin: u64, hlc: u64) -> Version {
        Version { hlc: Hlc(hlc), origin: OriginId(origin) }
    }

    fn entry(origin: u64, last: u64, parted: u32, after: u64) -> Entry {
        Entry { origin: OriginId(origin), last: Hlc(last), parted, after: Hlc(after) }
    }

    fn text(version: Version) -> Record<'static> {
        Record { key: b"k", value: Some(b"v"), is_counter: false, deadline: None, version }
    }

    fn part(origin: u64, hlc: u64) -> Part {
        Part { origin: OriginId(origin), hlc: Hlc(hlc), since: Hlc(hlc), total: 1 }
    }

    /// Has the node sent `record` by a sweep that claims nothing.
    fn sweep(replica: &mut Replica, record: &Record<'_>, reconciles: bool) {
        assert!(replica.swept(NOW, record, (&Known::default(), reconciles)).is_ok());
    }

    fn parts(replica: &Replica) -> Vec<u64> {
        let stands = replica.store.get(b"k").as_ref().map(Counter::of).unwrap_or_default();
        stands.parts.iter().map(|part| part.origin.0).collect()
    }

    fn counter(parts: &[Part]) -> Counter<'static> {
        Counter { parts: parts.to_vec(), ..Counter::default() }
    }

    /// Takes `record` of the stream of `stamp`.
    fn stream(replica: &mut Replica, stamp: Version, prev: u64, record: Record<'_>) -> Streamed {
        let framed = Framed { stamp, prev: Some(Hlc(prev)), seen: Hlc::ZERO, record };
        let mut bytes = Vec::new();
        encode(&framed, &mut bytes);
        replica.stream(NOW.mono, &framed, Hlc(prev), &bytes).expect("there is room")
    }

    #[test]
    fn what_is_covered_is_taken_neither_from_a_stream_nor_from_a_sweep() {
        let mut replica = replica();
        replica.origins.claim(OriginId(9), Hlc(50), NOW.mono);
        assert_eq!(stream(&mut replica, version(9, 50), 0, text(version(9, 50))), Streamed::Covered);
        sweep(&mut replica, &text(version(9, 50)), false);
        assert!(replica.store.get(b"k").is_none());
        // Nor if it is announced again.
        assert_eq!(stream(&mut replica, version(8, 10), 0, text(version(9, 50))), Streamed::Taken);
        assert!(replica.store.get(b"k").is_none());
        assert_eq!(stream(&mut replica, version(9, 61), 60, text(version(9, 61))), Streamed::Gap);
        assert_eq!(stream(&mut replica, version(9, 51), 50, text(version(9, 51))), Streamed::Taken);
    }

    #[test]
    fn of_a_counter_any_part_may_be_news() {
        let mut replica = replica();
        assert_eq!(replica.add(NOW, b"k", 1), Ok(1));
        let mut cell = Vec::new();
        let theirs = counter(&[part(1, replica.own_last().0), part(6, 60)]);
        sweep(&mut replica, &theirs.record(b"k", &mut cell).unwrap(), false);
        assert_eq!(parts(&replica), [1, 6]);
    }

    #[test]
    fn what_was_deleted_is_deleted_anew_only_where_who_sweeps_it_claims_the_delete() {
        for (claim, is_anew) in [(49, false), (50, true)] {
            let mut replica = replica();
            let tombstone = Record { value: None, ..text(version(9, 50)) };
            assert_eq!(stream(&mut replica, version(9, 50), 0, tombstone), Streamed::Taken);
            let mut claims = Known::default();
            claims.claims.raise(OriginId(9), Hlc(claim));
            assert!(replica.swept(NOW, &text(version(8, 10)), (&claims, false)).is_ok());
            let stands = replica.store.get(b"k").map(|stands| (stands.value, stands.version.origin));
            assert_eq!(stands, Some((None, OriginId(if is_anew { 1 } else { 9 }))));
        }
    }

    #[test]
    fn what_is_deleted_anew_leaves_the_fields_that_were_written_since() {
        let mut replica = replica();
        let tombstone = Record { value: None, ..text(version(9, 50)) };
        assert_eq!(stream(&mut replica, version(9, 50), 0, tombstone), Streamed::Taken);
        let name = Name::field(0, b"k", b"f").stored().into_owned();
        let field = Record { key: &name, ..text(version(9, 60)) };
        assert_eq!(stream(&mut replica, version(9, 60), 50, field), Streamed::Taken);
        assert!(replica.write(NOW, &Name::field(0, b"k", b"g").stored(), Some(b"mine"), None).is_ok());
        assert_eq!(replica.elements(NOW, b"k").map(|found| found.fields), Some(2));
        let mut claims = Known::default();
        claims.claims.raise(OriginId(9), Hlc(60));
        assert!(replica.swept(NOW, &text(version(8, 10)), (&claims, false)).is_ok());
        assert_eq!(replica.elements(NOW, b"k").map(|found| found.fields), Some(2));
    }

    #[test]
    fn a_clock_that_is_ahead_may_come_right() {
        assert!(!Refused::ClockAhead { ms: 1 }.is_for_good() && Refused::Fenced.is_for_good());
    }

    #[test]
    fn what_is_announced_again_is_taken_if_it_is_news() {
        let mut replica = replica();
        assert_eq!(stream(&mut replica, version(9, 50), 0, text(version(8, 40))), Streamed::Taken);
        assert_eq!(replica.store.get(b"k").map(|record| record.version), Some(version(8, 40)));
    }

    #[test]
    fn a_stream_goes_on_beside_a_sweep() {
        let mut replica = replica();
        assert!(replica.begin_sweep(NOW.mono, &Swept::default()).is_ok());
        assert_eq!(stream(&mut replica, version(9, 50), 0, text(version(9, 50))), Streamed::Taken);
        assert_eq!(stream(&mut replica, version(9, 60), 50, text(version(9, 60))), Streamed::Taken);
        assert_eq!((replica.known(OriginId(9)), replica.origins.frontier(OriginId(9))), (Hlc(60), Hlc::ZERO));
    }

    #[test]
    fn a_sweep_lets_go_of_parts_that_are_not_there_only_if_it_reconciles() {
        for (reconciles, stands) in [(false, vec![5, 6]), (true, vec![6])] {
            let mut replica = replica();
            let (mut one, mut other) = (Vec::new(), Vec::new());
            let (five, six) = (counter(&[part(5, 50)]), counter(&[part(6, 60)]));
            assert!(replica.take(NOW.mono, &five.record(b"k", &mut one).unwrap(), None).is_ok());
            let mut claims = Known::default();
            claims.claims.raise(OriginId(5), Hlc(50));
            let record = six.record(b"k", &mut other).unwrap();
            assert!(replica.swept(NOW, &record, (&claims, reconciles)).is_ok());
            assert_eq!(parts(&replica), stands);
        }
    }

    #[test]
    fn who_comes_back_meets_a_counter_where_it_holds_a_text() {
        let mut replica = replica();
        replica.exposure = Exposure::Returning(Return::Unswept);
        assert!(replica.take(NOW.mono, &text(version(5, 50)), None).is_ok());
        let mut cell = Vec::new();
        let theirs = counter(&[part(6, 60)]);
        let mut claims = Known::default();
        claims.claims.raise(OriginId(5), Hlc(50));
        let record = theirs.record(b"k", &mut cell).unwrap();
        assert!(replica.swept(NOW, &record, (&claims, false)).is_ok());
        let stands = replica.store.get(b"k").expect("a counter");
        assert_eq!(Counter::of(&stands).base, None, "they knew the text, and have reset it");
    }

    #[test]
    fn of_what_is_folded_the_parts_go_but_for_this_runs_own() {
        let mut replica = replica();
        let ledger = Retired::default().extended(0, &[entry(1, 9, 7, 0), entry(5, 9, 7, 0)]);
        let era = ledger.folds(OriginId(5)).expect("it is folded").era;
        let fold = Fold { era, number: 2, total: 2, oldest: version(1, 3), newest: version(5, 4) };
        let theirs = Counter { folds: vec![fold], ..Counter::default() };
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let mine = counter(&[part(1, 3), part(5, 4), part(6, 4)]);
        let theirs = theirs.record(b"k", &mut other).unwrap();
        assert!(replica.take(NOW.mono, &mine.record(b"k", &mut one).unwrap(), None).is_ok());
        // Nobody has told of it yet.
        assert!(replica.take(NOW.mono, &theirs, None).is_ok());
        assert_eq!((parts(&replica), replica.strays.is_some()), (vec![1, 5, 6], false));
        replica.foretold = Some(ledger);
        assert!(replica.take(NOW.mono, &theirs, None).is_ok());
        assert_eq!((parts(&replica), replica.strays.is_some()), (vec![1, 6], true));
    }

    #[test]
    fn what_is_stable_of_ended_runs_and_was_begun_late_enough_is_folded() {
        let check = |stable: u32, after: u64, hlc: u64, since: u64, folded: usize| {
            let mut replica = replica();
            assert!(replica.retire(entry(5, 9, 7, after)) && replica.retire(entry(6, 9, 7, after)));
            let mut text = Vec::new();
            let part = Part { origin: OriginId(6), hlc: Hlc(hlc), since: Hlc(since), total: 1 };
            assert!(replica.store.merge(&counter(&[part]).record(b"k", &mut text).unwrap()).is_ok());
            let stable = Known { retired: stable, ..Known::default() };
            let count: usize = (0..SLOTS).map(|slot| replica.fold(slot, &stable, 7).folded).sum();
            assert_eq!(count, folded, "{stable:?}, after {after}, {hlc} since {since}");
        };
        check(2, 2, 9, 3, 1);
        check(1, 2, 9, 3, 0);
        check(2, 3, 9, 3, 0);
        check(2, 2, 10, 3, 0);
    }

    #[test]
    fn what_a_sender_has_let_go_of_is_counted() {
        let mut replica = replica();
        let mut cell = Vec::new();
        let mine = counter(&[part(5, 50)]);
        assert!(replica.take(NOW.mono, &mine.record(b"k", &mut cell).unwrap(), None).is_ok());
        let mut claims = Known::default();
        claims.claims.raise(OriginId(5), Hlc(50));
        let mut held = Vec::new();
        emit_sweep_held(1, (0, SLOTS), &[], &mut held);
        let body = next_frame(&held, 1 << 10).expect("a frame").expect("all of it");
        let Some(Frame::SweepHeld { names, .. }) = parse(body) else { panic!("what a sender holds") };
        let mut obsolete = Obsolete::default();
        replica.feed.keep();
        let at_once: usize = (0..SLOTS).map(|slot| replica.reconcile(slot, &claims, &names, &mut obsolete)).sum();
        assert_eq!((at_once, parts(&replica), replica.feed.len()), (0, vec![5], 0));
        assert_eq!((replica.let_go(obsolete, &claims), parts(&replica), replica.feed.len()), (1, vec![], 1));
    }

    #[test]
    fn what_is_observed_is_older_than_what_is_written_next() {
        let mut replica = replica();
        let ahead = version(9, Hlc::at(NOW.wall.plus_ms(5)).0);
        replica.observe(ahead);
        assert!(replica.stamp(NOW) > ahead);
        let retired = Hlc(ahead.hlc.0 + 5);
        assert!(replica.retire(Entry { origin: OriginId(9), last: retired, parted: 0, after: Hlc::ZERO }));
        assert!(replica.stamp(NOW).hlc > retired);
    }

    #[test]
    fn an_announcement_goes_into_this_runs_stream() {
        let mut replica = replica();
        replica.keep_tail();
        assert!(replica.take(NOW.mono, &text(version(9, 50)), None).is_ok());
        replica.announce(NOW, b"k");
        let head = replica.tail.head(replica.tail.start());
        assert_eq!((head.stamp.origin, head.stamp.hlc), (OriginId(1), replica.own_last()));
    }
}
