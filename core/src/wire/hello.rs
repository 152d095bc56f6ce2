//! What is said on a link before it stands: greetings, proofs, refusals.

use crate::config::Protocol;
use crate::version::OriginId;
use crate::wire::lists::Decision;
use crate::wire::num::{Bytes, put_varint};
use crate::wire::peer::{
    ADDRESS_BYTES_MAX, Clocks, Frame, KIND_GREETING, KIND_PROOF, KIND_REFUSED, NAME_BYTES_MAX, emit, put_clocks,
    put_text, put_u64, put_version,
};
use crate::wire::proof::{NONCE_BYTES, PROOF_BYTES};

/// The versions whose frames are read and written here. A node offers some of them, see [`Protocol`].
const KNOWN: Protocol = Protocol { oldest: 3, newest: 5 };

/// The first version that has messages: whoever speaks an older one is sent none, and sends none.
pub(crate) const MESSAGES_SINCE: u16 = 4;

/// The first version whose greeting says where clients are served.
const CLIENTS_AT_SINCE: u16 = 5;

/// Longest text of a refusal.
const REFUSAL_BYTES_MAX: usize = 200;

/// Secrets that a node may know at once.
const SECRETS_MAX: usize = 2;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting<'a> {
    pub(crate) protocol: Protocol,
    /// What makes this greeting differ from all others, if the sender wants, and gives, a [proof](super::proof).
    pub(crate) nonce: Option<&'a [u8; NONCE_BYTES]>,
    /// The run; its first origin.
    pub(crate) run: OriginId,
    /// Greater for a later run of the same member, as long as its clock did not go back between the two.
    pub(crate) incarnation: u64,
    pub(crate) clocks: Clocks,
    pub(crate) established: bool,
    /// It has a disk: it states apart what of its frontier is there.
    pub(crate) durable: bool,
    /// The name of the cluster that the member belongs to.
    pub(crate) cluster: &'a str,
    pub(crate) name: &'a str,
    pub(crate) advertise: &'a str,
    /// Where clients reach it (`host:port`), if not there; a version that knows nothing of that says nothing.
    pub(crate) clients_at: &'a str,
}

/// That the sender knows the secret of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProofView<'a> {
    /// Of who accepted: whether it lets the other one in. If not, it says why not.
    pub(crate) welcomes: bool,
    /// One for each secret that it knows.
    pub(crate) proofs: &'a [[u8; PROOF_BYTES]],
}

/// Why a greeting is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal<'a> {
    pub(crate) reason: Reason,
    /// Who turns it away.
    pub(crate) run: OriginId,
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
}

/// What a run that is turned away is to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// To try again later.
    Other,
    /// Another run answers at its address: it has taken its place.
    Fenced,
    /// The cluster goes on without it, by the newest decision that it knows of. What it holds may be obsolete.
    Forgotten(Decision),
}

/// Of a greeting all versions begin with the same range, and those that include a known one with the same fields.
pub(super) fn parse_greeting(mut bytes: Bytes<'_>) -> Option<Frame<'_>> {
    let protocol = Protocol { oldest: bytes.u16()?, newest: bytes.u16()? };
    if KNOWN.common(protocol).is_none() {
        return Some(Frame::Foreign(protocol));
    }
    let greeting = Greeting {
        protocol,
        nonce: match bytes.bool()? {
            true => Some(bytes.nonce()?),
            false => None,
        },
        run: bytes.origin()?,
        incarnation: bytes.u64()?,
        clocks: bytes.clocks()?,
        established: bytes.bool()?,
        durable: bytes.bool()?,
        cluster: bytes.text(NAME_BYTES_MAX)?,
        name: bytes.text(NAME_BYTES_MAX)?,
        advertise: bytes.text(ADDRESS_BYTES_MAX)?,
        clients_at: if protocol.newest >= CLIENTS_AT_SINCE { bytes.text(ADDRESS_BYTES_MAX)? } else { "" },
    };
    // A later version may have more to say.
    (bytes.0.is_empty() || protocol.newest > KNOWN.newest).then_some(Frame::Greeting(greeting))
}

pub(super) fn parse_proof<'a>(bytes: &mut Bytes<'a>) -> Option<ProofView<'a>> {
    Some(ProofView { welcomes: bytes.bool()?, proofs: bytes.proofs()? })
}

pub(super) fn parse_refused<'a>(bytes: &mut Bytes<'a>) -> Option<Refusal<'a>> {
    Some(Refusal {
        reason: bytes.reason()?,
        run: bytes.origin()?,
        name: bytes.text(NAME_BYTES_MAX)?,
        text: bytes.text(REFUSAL_BYTES_MAX)?,
    })
}

pub(crate) fn emit_greeting(greeting: &Greeting<'_>, out: &mut Vec<u8>) {
    emit(KIND_GREETING, out, |out| {
        out.extend_from_slice(&greeting.protocol.oldest.to_le_bytes());
        out.extend_from_slice(&greeting.protocol.newest.to_le_bytes());
        out.push(greeting.nonce.is_some().into());
        out.extend_from_slice(greeting.nonce.map_or(&[], |nonce| nonce));
        put_u64(out, greeting.run.0);
        put_u64(out, greeting.incarnation);
        put_clocks(out, greeting.clocks);
        out.push(greeting.established.into());
        out.push(greeting.durable.into());
        put_text(out, greeting.cluster);
        put_text(out, greeting.name);
        put_text(out, greeting.advertise);
        if greeting.protocol.newest >= CLIENTS_AT_SINCE {
            put_text(out, greeting.clients_at);
        }
    });
}

pub(crate) fn emit_proof(welcomes: bool, proofs: &[[u8; PROOF_BYTES]], out: &mut Vec<u8>) {
    emit(KIND_PROOF, out, |out| {
        out.push(welcomes.into());
        put_varint(out, proofs.len() as u64);
        out.extend_from_slice(proofs.as_flattened());
    });
}

pub(crate) fn emit_refused(refusal: &Refusal<'_>, out: &mut Vec<u8>) {
    emit(KIND_REFUSED, out, |out| {
        match refusal.reason {
            Reason::Other => out.push(0),
            Reason::Fenced => out.push(1),
            Reason::Forgotten(decision) => {
                out.push(if decision.about_somebody { 2 } else { 3 });
                put_version(out, decision.version);
            }
        }
        put_u64(out, refusal.run.0);
        put_text(out, refusal.name);
        put_text(out, refusal.text);
    });
}

impl<'a> Bytes<'a> {
    fn nonce(&mut self) -> Option<&'a [u8; NONCE_BYTES]> {
        self.take(NONCE_BYTES)?.first_chunk()
    }

    /// Proofs, with their number before them.
    fn proofs(&mut self) -> Option<&'a [[u8; PROOF_BYTES]]> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| (1..=SECRETS_MAX).contains(count))?;
        Some(self.take(count * PROOF_BYTES)?.as_chunks().0)
    }

    fn reason(&mut self) -> Option<Reason> {
        Some(match self.u8()? {
            0 => Reason::Other,
            1 => Reason::Fenced,
            kind @ (2 | 3) => Reason::Forgotten(Decision { about_somebody: kind == 2, version: self.version()? }),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::next_frame;
    use crate::time::WallMs;
    use crate::version::{Hlc, Version};
    use crate::wire::peer::parse;

    fn body(out: &[u8]) -> &[u8] {
        next_frame(out, 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn a_greeting_comes_back() {
        for nonce in [None, Some(&[7; NONCE_BYTES])] {
            let mut out = Vec::new();
            emit_greeting(&greeting(KNOWN, nonce), &mut out);
            assert_eq!(parse(body(&out)), Some(Frame::Greeting(greeting(KNOWN, nonce))));
            assert_eq!(parse(&[body(&out), &[0]].concat()), None, "there is no more in it");
        }
    }

    #[test]
    fn a_greeting_of_another_version_is_understood_as_far_as_versions_are_shared() {
        let Protocol { oldest, newest } = KNOWN;
        for (theirs, common) in [
            ((oldest, newest + 1), Some(newest)),
            ((oldest - 1, oldest), Some(oldest)),
            ((newest + 1, newest + 5), None),
            ((oldest - 2, oldest - 1), None),
            ((newest + 1, oldest), None),
        ] {
            let theirs = Protocol { oldest: theirs.0, newest: theirs.1 };
            let mut out = Vec::new();
            emit_greeting(&greeting(theirs, None), &mut out);
            let more = [body(&out), b"what a later version says besides"].concat();
            let expected = match common {
                None => Some(Frame::Foreign(theirs)),
                Some(_) if theirs.newest > newest => Some(Frame::Greeting(greeting(theirs, None))),
                Some(_) => None,
            };
            assert_eq!((KNOWN.common(theirs), parse(&more)), (common, expected), "{theirs:?}");
        }
    }

    #[test]
    fn proofs_come_back() {
        for (count, is_read) in [(0, false), (1, true), (SECRETS_MAX, true), (SECRETS_MAX + 1, false)] {
            let proofs: Vec<_> = (0..count).map(|at| [at as u8; PROOF_BYTES]).collect();
            let mut out = Vec::new();
            emit_proof(true, &proofs, &mut out);
            let proof = Frame::Proof(ProofView { welcomes: true, proofs: &proofs });
            assert_eq!(parse(body(&out)), is_read.then_some(proof));
        }
    }

    fn greeting(protocol: Protocol, nonce: Option<&[u8; NONCE_BYTES]>) -> Greeting<'_> {
        Greeting {
            protocol,
            nonce,
            run: OriginId(3),
            incarnation: 4,
            clocks: Clocks { wall: WallMs(5), hlc: Hlc(6) },
            established: true,
            durable: true,
            cluster: "c",
            name: "n1",
            advertise: "n1:8080",
            clients_at: if protocol.newest >= CLIENTS_AT_SINCE { "n1:8081" } else { "" },
        }
    }

    #[test]
    fn a_greeting_of_before_it_said_where_clients_are_served_is_whole_without_it() {
        let (before, since) = (CLIENTS_AT_SINCE - 1, CLIENTS_AT_SINCE);
        for (oldest, newest) in [(before, before), (before, since), (since, since)] {
            let range = Protocol { oldest, newest };
            let mut out = Vec::new();
            emit_greeting(&greeting(range, None), &mut out);
            assert_eq!(parse(body(&out)), Some(Frame::Greeting(greeting(range, None))), "{range:?}");
            assert_eq!(parse(&body(&out)[..body(&out).len() - 1]), None, "{range:?} cut short");
        }
        for (text, is_taken) in [("h:1", true), ("", true), ("h\u{1b}[2J:1", false), (&"h".repeat(260), false)] {
            let mut out = Vec::new();
            emit_greeting(&Greeting { clients_at: text, ..greeting(KNOWN, None) }, &mut out);
            assert_eq!(parse(body(&out)).is_some(), is_taken, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_comes_back_with_its_reason() {
        let version = Version { hlc: Hlc(5), origin: OriginId(6) };
        let forgotten = |about_somebody| Reason::Forgotten(Decision { about_somebody, version });
        for reason in [Reason::Other, Reason::Fenced, forgotten(true), forgotten(false)] {
            let refusal = Refusal { reason, run: OriginId(3), name: "n1", text: "no" };
            let mut out = Vec::new();
            emit_refused(&refusal, &mut out);
            assert_eq!(parse(body(&out)), Some(Frame::Refused(refusal)));
            let mut other = body(&out).to_vec();
            other[1] = 4;
            assert_eq!(parse(&other), None);
        }
    }
}
