//! The frames of peers. Each has the prefix of a record (length, checksum), then a kind byte and its fields; records
//! travel among them as they are. A connection begins with [`PREAMBLE`], then each side's [`Greeting`].

use crate::config::Protocol;
use crate::origins::{Claims, ORIGINS_MAX};
use crate::record::{PREFIX_BYTES, begin_frame, end_frame};
use crate::retired::{Entry, Mark, RETIRED_MAX};
use crate::store::Root;
use crate::time::WallMs;
use crate::version::{Hlc, OriginId, Version};
use crate::wire::hello::{self, Greeting, ProofView, Refusal};
use crate::wire::lists::{MembersView, RosterView, WritersView};
use crate::wire::num::{Bytes, put_varint};
use crate::wire::retired::{EntriesView, put_entries, put_mark};
use crate::wire::said::{self, Said};
use crate::wire::scrub::{self, Scrub};

/// First bytes of a peer's connection. No text client sends 0x93 first, a line end in it betrays a transport that
/// rewrites line ends, and 0x1a a terminal.
pub(crate) const PREAMBLE: [u8; 8] = *b"\x93skv\r\n\x1a\n";

/// Longest member name.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Longest address: a DNS name has 253 bytes, a port 5.
pub(crate) const ADDRESS_BYTES_MAX: usize = 259;

/// Members that a greeting may list; the clusters this is for have thirty.
pub(crate) const MEMBERS_MAX: usize = 256;

/// Seats of a roster: of members, and of some that have gone.
pub(crate) const SEATS_MAX: usize = 2 * MEMBERS_MAX;

/// Of [`Clocks`].
const CLOCKS_BYTES: usize = 16;

pub(super) const KIND_GREETING: u8 = 1;
pub(super) const KIND_REFUSED: u8 = 2;
const KIND_STATUS: u8 = 3;
const KIND_PULL: u8 = 4;
const KIND_SWEEP_ASK: u8 = 5;
const KIND_SWEEP_BEGIN: u8 = 6;
const KIND_SWEEP_STEP: u8 = 7;
const KIND_SWEEP_END: u8 = 8;
pub(super) const KIND_MEMBERS: u8 = 9;
const KIND_PULL_BEGIN: u8 = 10;
pub(super) const KIND_ROSTER: u8 = 11;
const KIND_SWEEP_HELD: u8 = 17;
const KIND_STATUS_ASK: u8 = 13;
pub(super) const KIND_WRITERS: u8 = 18;
const KIND_ALIVE: u8 = 19;
const KIND_RETIRED_ASK: u8 = 20;
const KIND_RETIRED: u8 = 21;
const KIND_SWEEP_RETIRED: u8 = 22;
const KIND_DURABLE: u8 = 23;
pub(super) const KIND_SAID: u8 = 24;
pub(super) const KIND_PROOF: u8 = 25;

/// A frame that is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Greeting(Greeting<'a>),
    /// A greeting of somebody who speaks these versions of the protocol only, none of which is known here.
    Foreign(Protocol),
    Proof(ProofView<'a>),
    Refused(Refusal<'a>),
    Status(Status<'a>),
    Durable(DurableView<'a>),
    /// A heartbeat of a sender that has nothing new to state on this link but its clocks.
    Alive(Clocks),
    Pull(Pull<'a>),
    /// The stream that was asked for under this number begins behind this frame.
    PullBegin {
        id: u32,
    },
    SweepAsk(SweepAsk<'a>),
    /// Some of the retired origins that the sender will claim and the asker does not have; in order, before the
    /// beginning.
    SweepRetired {
        id: u32,
        entries: EntriesView<'a>,
    },
    /// What the sender claims for the sweep: its frontier when the sweep began, and its ledger.
    /// `reconciles` names what the sender has collected that the asker may still hold; 0: nothing.
    SweepBegin {
        id: u32,
        reconciles: u64,
        retired: Mark,
        claims: ClaimsView<'a>,
    },
    /// All keys that the sender holds in some slots, in a sweep that reconciles; their entries came before.
    SweepHeld {
        id: u32,
        slots: (u16, u16),
        names: NamesView<'a>,
    },
    /// Everything before this place has been sent.
    SweepStep {
        id: u32,
        place: Place,
    },
    /// The sweep is whole; the sender's clock then, and what it has collected: by origin, and up to which number of
    /// the ledger.
    SweepEnd {
        id: u32,
        clock: Hlc,
        reaped_retired: u32,
        reaped: ClaimsView<'a>,
    },
    Members(MembersView<'a>),
    /// The sender's whole roster.
    Roster(RosterView<'a>),
    /// From the feeding side: tell at once how far you have come. From the pulling side: the status before this frame
    /// was the answer.
    StatusAsk,
    Writers(WritersView<'a>),
    Scrub(Scrub<'a>),
    /// Asks for what the other side's ledger has behind this one.
    RetiredAsk(Mark),
    /// Some of the sender's ledger: behind what was asked for, or from its beginning if it does not continue that.
    Retired(EntriesView<'a>),
    Said(Said<'a>),
}

impl Frame<'_> {
    /// Whether it may come before the sender was let in.
    pub(crate) const fn introduces(&self) -> bool {
        matches!(self, Self::Greeting(_) | Self::Foreign(_) | Self::Proof(_) | Self::Refused(_))
    }
}

/// What of a sender others compare with theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It was asked to leave its cluster.
    pub(crate) leaves: bool,
    /// It knows that who is told this was asked to leave.
    pub(crate) knows_leaving: bool,
    /// It holds what its cluster held when it became a member.
    pub(crate) whole: bool,
    /// Names its roster.
    pub(crate) roster: u64,
    /// Of its data.
    pub(crate) root: Root,
    /// Of its ledger; what is in that is left out of the frontier.
    pub(crate) retired: Mark,
}

/// What the sender's clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) wall: WallMs,
    pub(crate) hlc: Hlc,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status<'a> {
    pub(crate) clocks: Clocks,
    /// Of what the sender writes now.
    pub(crate) origin: OriginId,
    pub(crate) established: bool,
    /// Everything the link is to carry from the sender's tail went before this frame.
    pub(crate) drained: bool,
    /// The sender was asked to leave its cluster.
    pub(crate) leaves: bool,
    /// The sender knows that the receiver was asked to leave.
    pub(crate) knows_leaving: bool,
    /// The sender holds what its cluster held when it became a member.
    pub(crate) whole: bool,
    /// Of the sender's roster.
    pub(crate) roster: u64,
    /// Of the sender's data.
    pub(crate) root: Root,
    /// Of the sender's ledger; what is in that is left out of the frontier.
    pub(crate) retired: Mark,
    /// Origins that the sender takes for ended, and of which it has announced what its frontier does not cover; and the
    /// newest record of each that it holds.
    pub(crate) settled: ClaimsView<'a>,
    /// Those of them in whose place it has found another run: they are over.
    pub(crate) replaced: ClaimsView<'a>,
    pub(crate) frontier: ClaimsView<'a>,
}

/// What of the sender's statements is on its disk, and so counts for collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurableView<'a> {
    /// The roster under which it is stated.
    pub(crate) roster: u64,
    pub(crate) retired: Mark,
    pub(crate) settled: ClaimsView<'a>,
    pub(crate) frontier: ClaimsView<'a>,
}

/// Asks for the stream, from wherever it continues `known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pull<'a> {
    pub(crate) id: u32,
    /// What the link carried so far may not have been taken: it starts from `known`. Otherwise only the relays change.
    pub(crate) restart: bool,
    /// What the asker holds; nothing that is covered by it need be sent.
    pub(crate) known: ClaimsView<'a>,
    /// Origins wanted besides the sender's own, as claims of zero.
    pub(crate) relays: ClaimsView<'a>,
}

/// Asks for everything that `known` does not cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SweepAsk<'a> {
    pub(crate) id: u32,
    /// The asker holds something, which may have been deleted and forgotten since.
    pub(crate) stored: bool,
    /// A ledger that the asker covers.
    pub(crate) retired: Mark,
    pub(crate) known: ClaimsView<'a>,
    /// Where an earlier sweep of the same run, with the same `known`, was cut.
    pub(crate) resume: Option<Resume<'a>>,
}

/// A sweep that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resume<'a> {
    pub(crate) place: Place,
    /// What its beginning said.
    pub(crate) reconciles: u64,
    pub(crate) retired: Mark,
    pub(crate) claims: ClaimsView<'a>,
}

/// A place in a sweep: a slot, and the last hash done in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: u16,
    pub(crate) after: Option<u32>,
}

/// A vector of claims in a frame, whole and strictly ordered by origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimsView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl ClaimsView<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OriginId, Hlc)> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.version().map(|version| (version.origin, version.hlc)))
    }

    /// Replaces what `claims` holds; its capacity stays.
    pub(crate) fn read_into(&self, claims: &mut Claims) {
        claims.clear();
        for (origin, hlc) in self.iter() {
            claims.raise(origin, hlc);
        }
    }
}

/// A list of [names of keys](crate::store::key_name) in a frame, whole and sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamesView<'a>(&'a [[u8; 8]]);

impl NamesView<'_> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn contains(&self, name: u64) -> bool {
        self.0.binary_search_by_key(&name, |bytes| u64::from_le_bytes(*bytes)).is_ok()
    }
}

/// Reads the body of a frame that is not a record.
pub(crate) fn parse(body: &[u8]) -> Option<Frame<'_>> {
    let mut bytes = Bytes(body);
    let frame = match bytes.u8()? {
        KIND_GREETING => return hello::parse_greeting(bytes),
        KIND_PROOF => Frame::Proof(hello::parse_proof(&mut bytes)?),
        KIND_REFUSED => Frame::Refused(hello::parse_refused(&mut bytes)?),
        KIND_STATUS => Frame::Status(Status {
            clocks: bytes.clocks()?,
            origin: bytes.origin()?,
            established: bytes.bool()?,
            drained: bytes.bool()?,
            leaves: bytes.bool()?,
            knows_leaving: bytes.bool()?,
            whole: bytes.bool()?,
            roster: bytes.u64()?,
            root: Root { sum: bytes.u64()?, cut: WallMs(bytes.u64()?) },
            retired: bytes.mark()?,
            settled: bytes.claims()?,
            replaced: bytes.claims()?,
            frontier: bytes.claims()?,
        }),
        KIND_DURABLE => Frame::Durable(DurableView {
            roster: bytes.u64()?,
            retired: bytes.mark()?,
            settled: bytes.claims()?,
            frontier: bytes.claims()?,
        }),
        KIND_ALIVE => Frame::Alive(bytes.clocks()?),
        KIND_PULL => Frame::Pull(Pull {
            id: bytes.u32()?,
            restart: bytes.bool()?,
            known: bytes.claims()?,
            relays: bytes.claims()?,
        }),
        KIND_SWEEP_ASK => Frame::SweepAsk(SweepAsk {
            id: bytes.u32()?,
            stored: bytes.bool()?,
            retired: bytes.mark()?,
            known: bytes.claims()?,
            resume: match bytes.bool()? {
                true => Some(bytes.resume()?),
                false => None,
            },
        }),
        KIND_SWEEP_RETIRED => Frame::SweepRetired { id: bytes.u32()?, entries: bytes.entries()? },
        KIND_SWEEP_BEGIN => Frame::SweepBegin {
            id: bytes.u32()?,
            reconciles: bytes.u64()?,
            retired: bytes.mark()?,
            claims: bytes.claims()?,
        },
        KIND_SWEEP_STEP => Frame::SweepStep { id: bytes.u32()?, place: bytes.place()? },
        KIND_SWEEP_END => Frame::SweepEnd {
            id: bytes.u32()?,
            clock: Hlc(bytes.u64()?),
            reaped_retired: bytes.u32().filter(|number| *number as usize <= RETIRED_MAX)?,
            reaped: bytes.claims()?,
        },
        KIND_SWEEP_HELD => Frame::SweepHeld { id: bytes.u32()?, slots: bytes.slots()?, names: bytes.names()? },
        KIND_ROSTER => Frame::Roster(bytes.roster()?),
        KIND_MEMBERS => Frame::Members(bytes.members()?),
        KIND_PULL_BEGIN => Frame::PullBegin { id: bytes.u32()? },
        KIND_STATUS_ASK => Frame::StatusAsk,
        KIND_WRITERS => Frame::Writers(bytes.writers()?),
        kind @ scrub::KIND_FIRST..=scrub::KIND_LAST => Frame::Scrub(scrub::parse(kind, &mut bytes)?),
        KIND_RETIRED_ASK => Frame::RetiredAsk(bytes.mark()?),
        KIND_SAID => Frame::Said(said::parse(&mut bytes)?),
        KIND_RETIRED => Frame::Retired(bytes.entries()?),
        _ => return None,
    };
    bytes.0.is_empty().then_some(frame)
}

pub(crate) fn emit_status(
    clocks: Clocks,
    origin: OriginId,
    (established, drained): (bool, bool),
    standing: Standing,
    (settled, replaced): (impl Iterator<Item = (OriginId, Hlc)> + Clone, impl Iterator<Item = (OriginId, Hlc)> + Clone),
    frontier: impl Iterator<Item = (OriginId, Hlc)> + Clone,
    out: &mut Vec<u8>,
) {
    emit(KIND_STATUS, out, |out| {
        put_clocks(out, clocks);
        put_u64(out, origin.0);
        out.push(established.into());
        out.push(drained.into());
        out.push(standing.leaves.into());
        out.push(standing.knows_leaving.into());
        out.push(standing.whole.into());
        put_u64(out, standing.roster);
        put_u64(out, standing.root.sum);
        put_u64(out, standing.root.cut.0);
        put_mark(out, standing.retired);
        put_claims(out, settled);
        put_claims(out, replaced);
        put_claims(out, frontier);
    });
}

pub(crate) fn emit_durable(
    roster: u64,
    retired: Mark,
    settled: impl Iterator<Item = (OriginId, Hlc)> + Clone,
    frontier: impl Iterator<Item = (OriginId, Hlc)> + Clone,
    out: &mut Vec<u8>,
) {
    emit(KIND_DURABLE, out, |out| {
        put_u64(out, roster);
        put_mark(out, retired);
        put_claims(out, settled);
        put_claims(out, frontier);
    });
}

pub(crate) fn emit_alive(clocks: Clocks, out: &mut Vec<u8>) {
    emit(KIND_ALIVE, out, |out| put_clocks(out, clocks));
}

/// What a status states besides the clocks, with which it begins.
pub(crate) fn statement(status: &[u8]) -> &[u8] {
    &status[PREFIX_BYTES + 1 + CLOCKS_BYTES..]
}

pub(crate) fn emit_pull(
    (id, restart): (u32, bool),
    known: impl Iterator<Item = (OriginId, Hlc)> + Clone,
    relays: impl Iterator<Item = OriginId> + Clone,
    out: &mut Vec<u8>,
) {
    emit(KIND_PULL, out, |out| {
        put_u32(out, id);
        out.push(restart.into());
        put_claims(out, known);
        put_claims(out, relays.map(|origin| (origin, Hlc::ZERO)));
    });
}

pub(crate) fn emit_pull_begin(id: u32, out: &mut Vec<u8>) {
    emit(KIND_PULL_BEGIN, out, |out| put_u32(out, id));
}

pub(crate) fn emit_status_ask(out: &mut Vec<u8>) {
    emit(KIND_STATUS_ASK, out, |_| {});
}

pub(crate) fn emit_sweep_ask(
    (id, stored): (u32, bool),
    (retired, known): (Mark, &Claims),
    resume: Option<(Place, u64, Mark, &Claims)>,
    out: &mut Vec<u8>,
) {
    emit(KIND_SWEEP_ASK, out, |out| {
        put_u32(out, id);
        out.push(stored.into());
        put_mark(out, retired);
        put_claims(out, known.iter().copied());
        out.push(resume.is_some().into());
        if let Some((place, reconciles, retired, claims)) = resume {
            put_place(out, place);
            put_u64(out, reconciles);
            put_mark(out, retired);
            put_claims(out, claims.iter().copied());
        }
    });
}

pub(crate) fn emit_sweep_retired(id: u32, from: u32, entries: impl ExactSizeIterator<Item = Entry>, out: &mut Vec<u8>) {
    emit(KIND_SWEEP_RETIRED, out, |out| {
        put_u32(out, id);
        put_entries(out, from, entries);
    });
}

pub(crate) fn emit_sweep_begin(id: u32, reconciles: u64, retired: Mark, claims: &Claims, out: &mut Vec<u8>) {
    emit(KIND_SWEEP_BEGIN, out, |out| {
        put_u32(out, id);
        put_u64(out, reconciles);
        put_mark(out, retired);
        put_claims(out, claims.iter().copied());
    });
}

pub(crate) fn emit_sweep_step(id: u32, place: Place, out: &mut Vec<u8>) {
    emit(KIND_SWEEP_STEP, out, |out| {
        put_u32(out, id);
        put_place(out, place);
    });
}

pub(crate) fn emit_sweep_end(id: u32, clock: Hlc, (reaped_retired, reaped): (u32, &Claims), out: &mut Vec<u8>) {
    emit(KIND_SWEEP_END, out, |out| {
        put_u32(out, id);
        put_u64(out, clock.0);
        put_u32(out, reaped_retired);
        put_claims(out, reaped.iter().copied());
    });
}

/// `slots` are the first and the one behind the last; `names` are sorted.
pub(crate) fn emit_sweep_held(id: u32, slots: (u16, u16), names: &[u64], out: &mut Vec<u8>) {
    debug_assert!(names.is_sorted(), "whoever reads them searches by halving");
    emit(KIND_SWEEP_HELD, out, |out| {
        put_u32(out, id);
        out.extend_from_slice(&slots.0.to_le_bytes());
        out.extend_from_slice(&slots.1.to_le_bytes());
        put_varint(out, names.len() as u64);
        for name in names {
            put_u64(out, *name);
        }
    });
}

pub(crate) fn emit_retired_ask(mark: Mark, out: &mut Vec<u8>) {
    emit(KIND_RETIRED_ASK, out, |out| put_mark(out, mark));
}

pub(crate) fn emit_retired(from: u32, entries: impl ExactSizeIterator<Item = Entry>, out: &mut Vec<u8>) {
    emit(KIND_RETIRED, out, |out| put_entries(out, from, entries));
}

pub(crate) fn emit(kind: u8, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out);
    out.push(kind);
    fields(out);
    end_frame(out, start);
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_clocks(out: &mut Vec<u8>, clocks: Clocks) {
    put_u64(out, clocks.wall.0);
    put_u64(out, clocks.hlc.0);
}

pub(crate) fn put_version(out: &mut Vec<u8>, version: Version) {
    put_u64(out, version.hlc.0);
    put_u64(out, version.origin.0);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend_from_slice(&place.slot.to_le_bytes());
    out.push(place.after.is_some().into());
    put_u32(out, place.after.unwrap_or(0));
}

pub(crate) fn put_claims(out: &mut Vec<u8>, claims: impl Iterator<Item = (OriginId, Hlc)> + Clone) {
    put_varint(out, claims.clone().count() as u64);
    for (origin, hlc) in claims {
        put_u64(out, hlc.0);
        put_u64(out, origin.0);
    }
}

/// Fields that only these frames have.
impl<'a> Bytes<'a> {
    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn origin(&mut self) -> Option<OriginId> {
        self.u64().filter(|id| *id != 0).map(OriginId)
    }

    pub(super) fn clocks(&mut self) -> Option<Clocks> {
        Some(Clocks { wall: WallMs(self.u64()?), hlc: Hlc(self.u64()?) })
    }

    pub(crate) fn text(&mut self, bytes_max: usize) -> Option<&'a str> {
        std::str::from_utf8(self.counted(bytes_max)?).ok().filter(|text| !text.chars().any(char::is_control))
    }

    pub(super) fn slot(&mut self) -> Option<u16> {
        self.u16().filter(|slot| *slot < crate::store::SLOTS)
    }

    /// The first slot, and the one behind the last.
    fn slots(&mut self) -> Option<(u16, u16)> {
        let (from, to) = (self.u16()?, self.u16()?);
        (from < to && to <= crate::store::SLOTS).then_some((from, to))
    }

    /// Sorted names, with their number before them.
    pub(super) fn names(&mut self) -> Option<NamesView<'a>> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= self.0.len() / 8)?;
        let (names, _) = self.take(count * 8)?.as_chunks::<8>();
        names.is_sorted_by_key(|name| u64::from_le_bytes(*name)).then_some(NamesView(names))
    }

    fn place(&mut self) -> Option<Place> {
        let slot = self.slot()?;
        let some = self.bool()?;
        let hash = self.u32()?;
        Some(Place { slot, after: some.then_some(hash) })
    }

    fn resume(&mut self) -> Option<Resume<'a>> {
        Some(Resume { place: self.place()?, reconciles: self.u64()?, retired: self.mark()?, claims: self.claims()? })
    }

    pub(crate) fn claims(&mut self) -> Option<ClaimsView<'a>> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= ORIGINS_MAX)?;
        let view = ClaimsView { count, bytes: self.take(count * 16)? };
        let ordered = view.iter().zip(view.iter().skip(1)).all(|(one, next)| one.0 < next.0);
        let named = view.iter().next().is_none_or(|(origin, _)| origin.0 != 0);
        (ordered && named).then_some(view)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const STANDING: Standing = Standing {
        leaves: true,
        knows_leaving: false,
        whole: true,
        roster: 9,
        root: Root { sum: 7, cut: WallMs(8) },
        retired: Mark { len: 3, hash: 17 },
    };

    use super::*;
    use crate::origins::tests::claims;
    use crate::record::next_frame;

    fn body(out: &[u8]) -> &[u8] {
        next_frame(out, 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn a_status_comes_back_and_states_the_same_at_another_time() {
        let status = |ms: u64, drained| {
            let clocks = Clocks { wall: WallMs(ms), hlc: Hlc(ms << 16) };
            let mut out = Vec::new();
            emit_status(
                clocks,
                OriginId(3),
                (true, drained),
                STANDING,
                ([(OriginId(5), Hlc(6))].into_iter(), std::iter::empty()),
                [(OriginId(3), Hlc(4))].into_iter(),
                &mut out,
            );
            let Some(Frame::Status(status)) = parse(body(&out)) else { panic!("a status") };
            assert_eq!((status.clocks, status.drained, status.roster), (clocks, drained, STANDING.roster));
            assert_eq!((status.root, status.retired), (STANDING.root, STANDING.retired));
            assert_eq!((status.leaves, status.knows_leaving), (STANDING.leaves, STANDING.knows_leaving));
            assert_eq!(status.whole, STANDING.whole);
            assert!(status.frontier.iter().eq([(OriginId(3), Hlc(4))]));
            out
        };
        assert_eq!(statement(&status(1, true)), statement(&status(u64::MAX >> 17, true)));
        assert_ne!(statement(&status(1, true)), statement(&status(1, false)));
    }

    #[test]
    fn a_sign_of_life_comes_back() {
        let clocks = Clocks { wall: WallMs(5), hlc: Hlc(6) };
        let mut out = Vec::new();
        emit_alive(clocks, &mut out);
        assert_eq!(parse(body(&out)), Some(Frame::Alive(clocks)));
    }

    #[test]
    fn a_sweep_request_comes_back() {
        let known = claims(&[(1, 10), (7, 3)]);
        let resumed = claims(&[(1, 12)]);
        let place = Place { slot: 9, after: Some(77) };
        let (mine, theirs) = (Mark { len: 4, hash: 99 }, Mark { len: 6, hash: 98 });
        let mut out = Vec::new();
        emit_sweep_ask((5, true), (mine, &known), Some((place, 8, theirs, &resumed)), &mut out);
        let Some(Frame::SweepAsk(ask)) = parse(body(&out)) else { panic!("a sweep request") };
        let mut read = Claims::default();
        ask.known.read_into(&mut read);
        assert_eq!((ask.id, ask.stored, ask.retired, read), (5, true, mine, known));
        let resume = ask.resume.unwrap();
        let mut read = Claims::default();
        resume.claims.read_into(&mut read);
        assert_eq!((resume.place, resume.reconciles, resume.retired, read), (place, 8, theirs, resumed));
    }

    #[test]
    fn a_status_comes_back_with_its_ledger() {
        let clocks = Clocks { wall: WallMs(5), hlc: Hlc(6) };
        let (settled, frontier) = (claims(&[(4, 9), (9, 7)]), claims(&[(4, 8), (9, 7), (11, 1)]));
        let mut out = Vec::new();
        let replaced = claims(&[(9, 7)]);
        let ended = (settled.iter().copied(), replaced.iter().copied());
        emit_status(clocks, OriginId(2), (true, false), STANDING, ended, frontier.iter().copied(), &mut out);
        let Some(Frame::Status(status)) = parse(body(&out)) else { panic!("a status") };
        let read = |view: ClaimsView<'_>| {
            let mut read = Claims::default();
            view.read_into(&mut read);
            read
        };
        let said = (read(status.settled), read(status.replaced), read(status.frontier));
        assert_eq!(said, (settled, replaced, frontier));
        assert_eq!((status.retired, status.root, status.origin), (STANDING.retired, STANDING.root, OriginId(2)));
    }

    #[test]
    fn what_is_said_of_ledgers_comes_back() {
        let mark = Mark { len: 3, hash: 17 };
        let entry = |origin, last, parted| Entry { origin: OriginId(origin), last: Hlc(last), parted, after: Hlc(1) };
        let entries = [entry(9, 4, 0), entry(2, 5, 7)];
        let mut out = Vec::new();
        emit_retired_ask(mark, &mut out);
        assert_eq!(parse(body(&out)), Some(Frame::RetiredAsk(mark)));
        let mut out = Vec::new();
        emit_retired(7, entries.into_iter(), &mut out);
        let Some(Frame::Retired(view)) = parse(body(&out)) else { panic!("entries") };
        assert_eq!((view.from, view.iter().collect::<Vec<_>>()), (7, entries.to_vec()));
        let mut out = Vec::new();
        emit_sweep_retired(5, 1, entries.into_iter(), &mut out);
        let Some(Frame::SweepRetired { id, entries: view }) = parse(body(&out)) else { panic!("entries") };
        assert_eq!((id, view.from, view.iter().collect::<Vec<_>>()), (5, 1, entries.to_vec()));
        let mut out = Vec::new();
        emit_sweep_begin(5, 6, mark, &Claims::default(), &mut out);
        let begins =
            |frame| matches!(frame, Frame::SweepBegin { id: 5, reconciles: 6, retired, .. } if retired == mark);
        assert!(parse(body(&out)).is_some_and(begins));
        let mut out = Vec::new();
        emit_sweep_end(5, Hlc(6), (7, &Claims::default()), &mut out);
        assert!(matches!(parse(body(&out)), Some(Frame::SweepEnd { id: 5, reaped_retired: 7, .. })));
    }

    #[test]
    fn a_stream_request_comes_back() {
        let known = claims(&[(1, 10), (7, 3)]);
        let mut out = Vec::new();
        emit_pull((5, true), known.iter().copied(), [OriginId(2), OriginId(9)].into_iter(), &mut out);
        let Some(Frame::Pull(pull)) = parse(body(&out)) else { panic!("a stream request") };
        assert_eq!((pull.id, pull.restart), (5, true));
        assert!(pull.known.iter().eq(known.iter().copied()));
        assert!(pull.relays.iter().eq([(OriginId(2), Hlc::ZERO), (OriginId(9), Hlc::ZERO)]));
        let mut out = Vec::new();
        emit_pull_begin(5, &mut out);
        assert_eq!(parse(body(&out)), Some(Frame::PullBegin { id: 5 }));
        let mut out = Vec::new();
        emit_status_ask(&mut out);
        assert_eq!(parse(body(&out)), Some(Frame::StatusAsk));
    }

    #[test]
    fn claims_are_ordered_and_of_somebody() {
        let is_read = |list: &[u64]| {
            let mut out = Vec::new();
            let known = list.iter().map(|origin| (OriginId(*origin), Hlc(1)));
            emit_pull((5, true), known, std::iter::empty(), &mut out);
            parse(body(&out)).is_some()
        };
        let most: Vec<u64> = (1..=ORIGINS_MAX as u64 + 1).collect();
        assert!(is_read(&[]) && is_read(&[1]) && is_read(&[1, 2, u64::MAX]) && is_read(&most[1..]));
        assert!(!is_read(&[0]) && !is_read(&[0, 1]) && !is_read(&[2, 1]) && !is_read(&[1, 2, 2]) && !is_read(&most));
    }

    #[test]
    fn the_pieces_of_a_sweep_come_back() {
        let last = crate::store::SLOTS - 1;
        let step = |place| {
            let mut out = Vec::new();
            emit_sweep_step(5, place, &mut out);
            parse(body(&out)) == Some(Frame::SweepStep { id: 5, place })
        };
        assert!(step(Place { slot: 0, after: None }) && step(Place { slot: last, after: Some(0) }));
        assert!(!step(Place { slot: last + 1, after: None }), "there is no such slot");
        let end = |reaped_retired| {
            let reaped = claims(&[(1, 10)]);
            let mut out = Vec::new();
            emit_sweep_end(5, Hlc(6), (reaped_retired, &reaped), &mut out);
            match parse(body(&out)) {
                Some(Frame::SweepEnd { id: 5, clock: Hlc(6), reaped_retired: read, reaped: view }) => {
                    read == reaped_retired && view.iter().eq(reaped.iter().copied())
                }
                _ => false,
            }
        };
        assert!(end(0) && end(RETIRED_MAX as u32) && !end(RETIRED_MAX as u32 + 1));
    }

    #[test]
    fn names_of_what_is_held_come_back_sorted() {
        let held = |slots: (u16, u16), names: &[u64]| {
            let mut out = Vec::new();
            emit_sweep_held(5, slots, names, &mut out);
            let Some(Frame::SweepHeld { id: 5, slots: read, names: view }) = parse(body(&out)) else { return false };
            assert_eq!((read, view.len()), (slots, names.len()));
            assert!(names.iter().all(|name| view.contains(*name)) && !view.contains(4));
            view.iter().eq(names.iter().copied())
        };
        assert!(held((0, 1), &[]) && held((3, crate::store::SLOTS), &[1, 3, 3, u64::MAX]));
        assert!(!held((3, 3), &[]) && !held((4, 3), &[]) && !held((3, crate::store::SLOTS + 1), &[]));
        let mut out = Vec::new();
        emit_sweep_held(5, (0, 1), &[1, 2], &mut out);
        let whole = body(&out);
        let (names, count) = (whole.len() - 16, whole.len() - 17);
        let mut turned = whole.to_vec();
        turned[names..].rotate_left(8);
        assert_eq!(parse(&turned), None);
        for counted in [1, 3, 255] {
            let mut other = whole.to_vec();
            other[count] = counted;
            assert_eq!(parse(&other), None, "{counted}");
        }
    }

    #[test]
    fn a_frame_is_whole_and_nothing_follows_it() {
        let mut out = Vec::new();
        emit_alive(Clocks { wall: WallMs(5), hlc: Hlc(6) }, &mut out);
        let whole = body(&out);
        assert!(parse(whole).is_some());
        assert!((0..whole.len()).all(|cut| parse(&whole[..cut]).is_none()));
        assert_eq!(parse(&[whole, &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_body_is_taken_calmly_and_claims_are_ordered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(Frame::Pull(pull)) = parse(&bytes) {
                prop_assert!(pull.known.iter().is_sorted_by(|one, next| one.0 < next.0));
            }
        }
    }
}
