//! What stands in a file besides records: its header, the marks that say where the node stood, entries that were
//! changed otherwise than by a merge, and a snapshot's end.
//!
//! ```text
//! file    magic (8 bytes), header frame, the same once more, blocks
//! block   salt u64, length u32, check u32 (CRC-32C of salt, length and the block's place in the file), whole frames
//! ```
//!
//! A frame is as on the wire: length with its residue, checksum, kind, fields. The salt is drawn for each file, so that
//! behind damage the next block can be told from whatever clients store.

use crate::disk::FileKind;
use crate::name::Name;
use crate::origins::Claims;
use crate::record::{self, Record};
use crate::retired::Mark as LedgerMark;
use crate::version::{Hlc, OriginId};
use crate::wire::lists::Decision;
use crate::wire::num::{Bytes, put_varint};
use crate::wire::peer::{ClaimsView, NAME_BYTES_MAX, emit, put_claims, put_text, put_u32, put_u64, put_version};
use crate::wire::retired::put_mark;

/// The first bytes of every file of a node: like the preamble of a peer, with another name.
pub(crate) const MAGIC: [u8; 8] = *b"\x93skvd\n\x1a\x01";

/// The format that this build writes, and the only one that it reads.
pub(crate) const FORMAT: u16 = 1;

/// In front of a block's frames.
pub(crate) const BLOCK_HEAD_BYTES: usize = 16;

/// Kinds of frames that only files have.
const KIND_HEADER: u8 = 64;
const KIND_MARK: u8 = 65;
const KIND_REPLACED: u8 = 66;
const KIND_END: u8 = 67;
const KIND_SYNCED: u8 = 68;

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) format: u16,
    pub(crate) kind: FileKind,
    pub(crate) number: u32,
    pub(crate) salt: u64,
    /// Of a segment: the length up to which the one before it counts.
    pub(crate) prev_bytes: u64,
    /// Of a segment: what was to be written between the two was not.
    pub(crate) has_gap: bool,
    /// Of a snapshot: a backup was restored, which is nobody's memory.
    pub(crate) is_restored: bool,
    pub(crate) cluster: &'a str,
    pub(crate) name: &'a str,
}

/// Where a node stood. The roster and what is new of the ledger come in frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark<'a> {
    /// Counts the marks of a directory; of two the later one counts.
    pub(crate) number: u64,
    pub(crate) incarnation: u64,
    /// No version that this node has stamped or seen is above this.
    pub(crate) ceiling: Hlc,
    pub(crate) standing: Standing<'a>,
    /// Its runs of which nobody may see anything, whatever else is seen.
    pub(crate) hidden: ClaimsView<'a>,
    /// It holds what its cluster held when it became a member.
    pub(crate) whole: bool,
    pub(crate) roster: u64,
    pub(crate) ledger: LedgerMark,
    /// What was collected: the newest of each origin, and up to which entry of the ledger.
    pub(crate) reaped_retired: u32,
    pub(crate) reaped: ClaimsView<'a>,
    /// The frontier; none where only the rest is told.
    pub(crate) frontier: Option<ClaimsView<'a>>,
}

/// Who may have seen what a node wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing<'a> {
    /// Nobody has seen what it wrote.
    Unshown,
    /// Its cluster forgot it, or it was `restored`, and it was on its way back; by which decision, and who told it.
    Returning { told: Option<(Decision, &'a str)>, restored: bool },
    /// Everybody may, since its clock read that; and under which origin it was writing anew what is hidden, if it was.
    Shown { established: Hlc, anew: Option<OriginId> },
}

/// A frame of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFrame<'a> {
    Header(Header<'a>),
    Mark(Mark<'a>),
    /// The entry of a key was put in the place of another: what stands now, if anything.
    Replaced {
        key: &'a [u8],
        stands: Option<Record<'a>>,
    },
    /// A snapshot ends: so many records are in it.
    End {
        records: u64,
    },
    /// When this was written, so many bytes of the file were synced.
    Synced {
        bytes: u64,
    },
}

pub(crate) fn emit_header(header: &Header<'_>, out: &mut Vec<u8>) {
    emit(KIND_HEADER, out, |out| {
        out.extend_from_slice(&header.format.to_le_bytes());
        out.push(match header.kind {
            FileKind::Log => 0,
            FileKind::Snapshot | FileKind::Part => 1,
        });
        put_u32(out, header.number);
        put_u64(out, header.salt);
        put_u64(out, header.prev_bytes);
        out.push(header.has_gap.into());
        out.push(header.is_restored.into());
        put_text(out, header.cluster);
        put_text(out, header.name);
    });
}

/// Where a node stands, to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkOf<'a> {
    pub(crate) number: u64,
    pub(crate) incarnation: u64,
    pub(crate) ceiling: Hlc,
    pub(crate) standing: Standing<'a>,
    pub(crate) whole: bool,
    pub(crate) roster: u64,
    pub(crate) ledger: LedgerMark,
    pub(crate) reaped: (u32, &'a Claims),
}

pub(crate) fn emit_mark(
    mark: &MarkOf<'_>,
    hidden: &[OriginId],
    frontier: Option<impl Iterator<Item = (OriginId, Hlc)> + Clone>,
    out: &mut Vec<u8>,
) {
    emit(KIND_MARK, out, |out| {
        put_u64(out, mark.number);
        put_u64(out, mark.incarnation);
        put_u64(out, mark.ceiling.0);
        match mark.standing {
            Standing::Unshown => out.push(0),
            Standing::Returning { told, restored } => {
                out.push(1);
                out.push(restored.into());
                out.push(told.is_some().into());
                if let Some((decision, by)) = told {
                    out.push(decision.about_somebody.into());
                    put_version(out, decision.version);
                    put_text(out, by);
                }
            }
            Standing::Shown { established, anew } => {
                out.push(if anew.is_some() { 3 } else { 2 });
                put_u64(out, established.0);
                anew.inspect(|origin| put_u64(out, origin.0));
            }
        }
        put_claims(out, hidden.iter().map(|origin| (*origin, Hlc::ZERO)));
        out.push(mark.whole.into());
        put_u64(out, mark.roster);
        put_mark(out, mark.ledger);
        put_u32(out, mark.reaped.0);
        put_claims(out, mark.reaped.1.iter().copied());
        out.push(frontier.is_some().into());
        if let Some(frontier) = frontier {
            put_claims(out, frontier);
        }
    });
}

pub(crate) fn emit_replaced(key: &[u8], stands: Option<&Record<'_>>, out: &mut Vec<u8>) {
    emit(KIND_REPLACED, out, |out| {
        put_varint(out, key.len() as u64);
        out.extend_from_slice(key);
        if let Some(record) = stands {
            record::put_plain(record, out);
        }
    });
}

pub(crate) fn emit_end(records: u64, out: &mut Vec<u8>) {
    emit(KIND_END, out, |out| put_u64(out, records));
}

pub(crate) fn emit_synced(bytes: u64, out: &mut Vec<u8>) {
    emit(KIND_SYNCED, out, |out| put_u64(out, bytes));
}

/// Reads the body of a frame that only files have.
pub(crate) fn parse(body: &[u8]) -> Option<FileFrame<'_>> {
    let mut bytes = Bytes(body);
    let frame = match bytes.u8()? {
        KIND_HEADER => FileFrame::Header(Header {
            format: bytes.u16()?,
            kind: match bytes.u8()? {
                0 => FileKind::Log,
                1 => FileKind::Snapshot,
                _ => return None,
            },
            number: bytes.u32()?,
            salt: bytes.u64()?,
            prev_bytes: bytes.u64()?,
            has_gap: bytes.bool()?,
            is_restored: bytes.bool()?,
            cluster: bytes.text(NAME_BYTES_MAX)?,
            name: bytes.text(NAME_BYTES_MAX)?,
        }),
        KIND_MARK => FileFrame::Mark(Mark {
            number: bytes.u64()?,
            incarnation: bytes.u64()?,
            ceiling: Hlc(bytes.u64()?),
            standing: standing(&mut bytes)?,
            hidden: bytes.claims()?,
            whole: bytes.bool()?,
            roster: bytes.u64()?,
            ledger: bytes.mark()?,
            reaped_retired: bytes.u32()?,
            reaped: bytes.claims()?,
            frontier: match bytes.bool()? {
                true => Some(bytes.claims()?),
                false => None,
            },
        }),
        KIND_REPLACED => {
            let key = bytes.counted(crate::store::KEY_BYTES_MAX)?;
            let rest = std::mem::take(&mut bytes.0);
            let stands = match rest.is_empty() {
                true => None,
                false => Some(record::decode(rest).ok()?.record),
            };
            if Name::parse(key).is_none() || stands.is_some_and(|record| record.key != key) {
                return None;
            }
            FileFrame::Replaced { key, stands }
        }
        KIND_END => FileFrame::End { records: bytes.u64()? },
        KIND_SYNCED => FileFrame::Synced { bytes: bytes.u64()? },
        _ => return None,
    };
    bytes.0.is_empty().then_some(frame)
}

fn standing<'a>(bytes: &mut Bytes<'a>) -> Option<Standing<'a>> {
    Some(match bytes.u8()? {
        0 => Standing::Unshown,
        1 => Standing::Returning {
            restored: bytes.bool()?,
            told: match bytes.bool()? {
                true => {
                    let decision = Decision { about_somebody: bytes.bool()?, version: bytes.version()? };
                    Some((decision, bytes.text(NAME_BYTES_MAX)?))
                }
                false => None,
            },
        },
        2 => Standing::Shown { established: Hlc(bytes.u64()?), anew: None },
        3 => Standing::Shown { established: Hlc(bytes.u64()?), anew: Some(OriginId(bytes.u64()?)) },
        _ => return None,
    })
}

/// The head of a block at `place` in a file, of frames of so many bytes.
pub(crate) fn block_head(salt: u64, length: u32, place: u64) -> [u8; BLOCK_HEAD_BYTES] {
    let mut head = [0; BLOCK_HEAD_BYTES];
    head[..8].copy_from_slice(&salt.to_le_bytes());
    head[8..12].copy_from_slice(&length.to_le_bytes());
    let check = crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &place.to_le_bytes());
    head[12..].copy_from_slice(&check.to_le_bytes());
    head
}

/// The length of the frames of the block at `place` that begins with `head`; `None` if no block of the file does.
pub(crate) fn block_bytes(head: &[u8; BLOCK_HEAD_BYTES], salt: u64, place: u64) -> Option<u32> {
    let length = stated_bytes(head);
    (*head == block_head(salt, length, place)).then_some(length)
}

/// The length that a head states, if it is one.
pub(crate) fn stated_bytes(head: &[u8; BLOCK_HEAD_BYTES]) -> u32 {
    let [.., l0, l1, l2, l3, _, _, _, _] = *head;
    u32::from_le_bytes([l0, l1, l2, l3])
}
