//! How two peers prove to each other that they know the secret of their cluster, and how what they say from then on is
//! kept from being changed on its way.
//!
//! Each greeting has a nonce. A proof is a keyed BLAKE3 hash, under a key made of the secret, of who gives it (the side
//! that dialed or the one that accepted) and of both greetings, byte for byte: so of both nonces, names, addresses and
//! runs, the cluster and the ranges of protocol versions. Nobody can use it on another link, the other way round, or
//! with anything in a greeting changed. The side that dialed gives its proof first: who only comes by is given nothing
//! that it could try passwords on.
//!
//! ```text
//! dialer    greeting ─────────────▶
//!                    ◀───────────── greeting                   accepter
//!           proof    ─────────────▶   of each secret that it knows, two while they change
//!                    ◀───────────── proof                      of the one of them that both know
//!           chunks   ◀────────────▶
//! ```
//!
//! Behind its proof each side sends frames in chunks:
//!
//! ```text
//!  0  length  u16   of the frames, or the piece of one, in it
//!  2  mac     16    of them and of the number of the chunk, under a key of this link and this direction
//! 18  frames
//! ```
//!
//! What is injected, changed, left out, repeated or moved ends the link. Nothing is hidden: that is the business of
//! TLS.

use blake3::{Hash, Hasher};

/// Shortest secret, in bytes. Whoever listens to a proof can try guesses on it, at millions a second.
pub const SECRET_BYTES_MIN: usize = 16;

/// Of a greeting's nonce.
pub(crate) const NONCE_BYTES: usize = 32;

/// Of a proof.
pub(crate) const PROOF_BYTES: usize = 32;

/// In front of every chunk.
pub(crate) const CHUNK_HEAD_BYTES: usize = 2 + MAC_BYTES;

/// What a chunk carries at most: little enough that on a slow link its first records need not wait for long, enough
/// that hashing runs at its full speed.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Nobody can check guesses without the other side, which hangs up at the first: half a hash does.
const MAC_BYTES: usize = 16;

/// A secret that the nodes of a cluster share, and that its peers prove to know. It never leaves a node.
#[derive(Clone)]
pub struct ClusterSecret([u8; 32]);

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(hidden)")
    }
}

impl PartialEq for ClusterSecret {
    fn eq(&self, other: &Self) -> bool {
        // Hashes are compared in constant time.
        Hash::from(self.0) == Hash::from(other.0)
    }
}

impl Eq for ClusterSecret {}

impl ClusterSecret {
    /// None if it is shorter than [`SECRET_BYTES_MIN`].
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        (text.len() >= SECRET_BYTES_MIN).then(|| Self(blake3::derive_key("simple-kv 2026-11 cluster secret", text)))
    }

    /// The proof of `who` about a link.
    pub(crate) fn prove(&self, who: Prover, of: &Transcript) -> [u8; PROOF_BYTES] {
        self.hash(who.label(), of).into()
    }

    /// Whether one of `proofs` is that of `who`. Takes as long whatever is wrong with them.
    pub(crate) fn is_proven(&self, who: Prover, of: &Transcript, proofs: &[[u8; PROOF_BYTES]]) -> bool {
        let proof = self.hash(who.label(), of);
        // The hash is compared in constant time.
        proofs.iter().fold(false, |proven, given| proven | (proof == *given))
    }

    /// What seals the chunks that the side that dialed sends on a link, and what those that the other side sends.
    fn seals(&self, of: &Transcript) -> (Seal, Seal) {
        let seal = |label| Seal { key: self.hash(label, of).into(), count: 0 };
        (seal(LABEL_FROM_DIALER), seal(LABEL_FROM_ACCEPTER))
    }

    fn hash(&self, label: u8, of: &Transcript) -> Hash {
        let mut input = [label; 33];
        input[1..].copy_from_slice(&of.0);
        blake3::keyed_hash(&self.0, &input)
    }
}

/// Who gives a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prover {
    /// The side that dialed.
    Dialer,
    /// The side that accepted; whether the other one is welcome, or will be told why not.
    Accepter { welcomes: bool },
}

const LABEL_FROM_DIALER: u8 = 4;
const LABEL_FROM_ACCEPTER: u8 = 5;

impl Prover {
    const fn label(self) -> u8 {
        match self {
            Self::Dialer => 1,
            Self::Accepter { welcomes: true } => 2,
            Self::Accepter { welcomes: false } => 3,
        }
    }
}

/// Both greetings of a link.
#[derive(Clone, Debug)]
pub(crate) struct Transcript([u8; 32]);

impl Transcript {
    pub(crate) fn new(dialers: &[u8], accepters: &[u8]) -> Self {
        let mut hasher = Hasher::new_derive_key("simple-kv 2026-11 greetings of a link");
        hasher.update(&(dialers.len() as u64).to_le_bytes()).update(dialers).update(accepters);
        Self(hasher.finalize().into())
    }
}

/// Makes nonces: none comes twice, and nobody who does not know the secret can tell the next.
#[derive(Debug)]
pub(crate) struct Nonces {
    secret: ClusterSecret,
    count: u64,
}

impl Nonces {
    /// `seed` is fresh at every start.
    pub(crate) fn new(seed: [u64; 4], secret: &ClusterSecret) -> Self {
        let mut hasher = Hasher::new_keyed(&secret.0);
        seed.iter().for_each(|word| {
            hasher.update(&word.to_le_bytes());
        });
        let key = hasher.finalize();
        Self { secret: ClusterSecret(blake3::derive_key("simple-kv 2026-11 nonces", key.as_bytes())), count: 0 }
    }

    /// `time`: should the memory of this process ever be copied and go on twice, the clocks differ.
    pub(crate) fn draw(&mut self, time: u64) -> [u8; NONCE_BYTES] {
        self.count += 1;
        let mut input = [0; 16];
        input[..8].copy_from_slice(&self.count.to_le_bytes());
        input[8..].copy_from_slice(&time.to_le_bytes());
        blake3::keyed_hash(&self.secret.0, &input).into()
    }
}

/// Seals chunks of one direction of a link, or checks their seals.
#[derive(Debug)]
struct Seal {
    key: [u8; 32],
    /// The number of the next chunk.
    count: u64,
}

impl Seal {
    /// The next chunk's.
    fn next(&mut self, chunk: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = Hasher::new_keyed(&self.key);
        // The number comes behind, as it has always the same length: what is long is hashed fastest from the start.
        hasher.update(chunk).update(&self.count.to_le_bytes());
        self.count += 1;
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
        mac
    }
}

/// Both directions of a link whose sides have proven themselves.
#[derive(Debug)]
pub(crate) struct Channel {
    outgoing: Seal,
    incoming: Seal,
}

/// What a chunk turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened<'a> {
    /// More of it is to come.
    Partly,
    /// Whole, with so many bytes in all, and what is in it.
    Whole(usize, &'a [u8]),
    /// Not what the other side sent next.
    Forged,
}

impl Channel {
    /// `dialed`: this side did.
    pub(crate) fn new(secret: &ClusterSecret, of: &Transcript, dialed: bool) -> Self {
        let (dialers, accepters) = secret.seals(of);
        match dialed {
            true => Self { outgoing: dialers, incoming: accepters },
            false => Self { outgoing: accepters, incoming: dialers },
        }
    }

    /// How many bytes of frames fit into `limit` bytes of chunks.
    pub(crate) const fn room(limit: usize) -> usize {
        let whole = limit / (CHUNK_HEAD_BYTES + CHUNK_BYTES_MAX);
        let rest = limit % (CHUNK_HEAD_BYTES + CHUNK_BYTES_MAX);
        whole * CHUNK_BYTES_MAX + rest.saturating_sub(CHUNK_HEAD_BYTES)
    }

    /// Leaves room for the head of a chunk at the end of `out`, to which frames are appended next.
    pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + CHUNK_HEAD_BYTES, 0);
        start
    }

    /// Makes chunks of what was appended to `out` since it [began](Self::begin) at `start`; none if that is nothing.
    pub(crate) fn seal(&mut self, out: &mut Vec<u8>, start: usize) {
        let begin = start + CHUNK_HEAD_BYTES;
        let total = out.len() - begin;
        if total == 0 {
            return out.truncate(start);
        }
        let count = total.div_ceil(CHUNK_BYTES_MAX);
        out.resize(out.len() + (count - 1) * CHUNK_HEAD_BYTES, 0);
        let length = |at: usize| CHUNK_BYTES_MAX.min(total - at * CHUNK_BYTES_MAX);
        // Each makes room for the heads before it, the last one first.
        for at in (1..count).rev() {
            let from = begin + at * CHUNK_BYTES_MAX;
            out.copy_within(from..from + length(at), from + at * CHUNK_HEAD_BYTES);
        }
        for at in 0..count {
            let chunk = &mut out[start + at * (CHUNK_HEAD_BYTES + CHUNK_BYTES_MAX)..];
            let (head, frames) = chunk.split_at_mut(CHUNK_HEAD_BYTES);
            let frames = &frames[..length(at)];
            // No chunk is longer than what 16 bits hold.
            head[..2].copy_from_slice(&(frames.len() as u16).to_le_bytes());
            head[2..].copy_from_slice(&self.outgoing.next(frames));
        }
    }

    /// Reads the chunk at the front of `bytes`.
    pub(crate) fn open<'a>(&mut self, bytes: &'a [u8]) -> Opened<'a> {
        let Some((length, behind)) = bytes.split_first_chunk::<2>() else { return Opened::Partly };
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 || length > CHUNK_BYTES_MAX {
            return Opened::Forged;
        }
        let Some((mac, behind)) = behind.split_first_chunk::<MAC_BYTES>() else { return Opened::Partly };
        let Some(frames) = behind.get(..length) else { return Opened::Partly };
        match is_same(&self.incoming.next(frames), mac) {
            true => Opened::Whole(CHUNK_HEAD_BYTES + length, frames),
            false => Opened::Forged,
        }
    }
}

/// Compares in constant time, as hashes do.
fn is_same(mac: &[u8; MAC_BYTES], given: &[u8; MAC_BYTES]) -> bool {
    let wide = |mac: &[u8; MAC_BYTES]| {
        let mut wide = [0; 32];
        wide[..MAC_BYTES].copy_from_slice(mac);
        Hash::from_bytes(wide)
    };
    wide(mac) == wide(given)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> ClusterSecret {
        ClusterSecret::new(text.as_bytes()).expect("long enough")
    }

    /// Both ends of one link.
    fn ends(greetings: (&[u8], &[u8]), of: &str) -> (Channel, Channel) {
        let transcript = Transcript::new(greetings.0, greetings.1);
        let end = |dialed| Channel::new(&secret(of), &transcript, dialed);
        (end(true), end(false))
    }

    fn sealed(channel: &mut Channel, frames: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let start = Channel::begin(&mut out);
        out.extend_from_slice(frames);
        channel.seal(&mut out, start);
        out.split_off(start)
    }

    /// What comes out of `bytes`; none once something is wrong.
    fn opened(channel: &mut Channel, mut bytes: &[u8]) -> Option<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            match channel.open(bytes) {
                Opened::Partly => return bytes.is_empty().then_some(frames),
                Opened::Whole(count, chunk) => {
                    frames.extend_from_slice(chunk);
                    bytes = &bytes[count..];
                }
                Opened::Forged => return None,
            }
        }
    }

    #[test]
    fn a_secret_has_sixteen_bytes_and_is_not_shown() {
        assert!(ClusterSecret::new(&[b's'; 15]).is_none());
        let secret = ClusterSecret::new(&[b's'; 16]).expect("long enough");
        assert_eq!(format!("{secret:?}"), "ClusterSecret(hidden)");
    }

    #[test]
    fn a_proof_is_of_one_prover_one_secret_and_two_greetings_in_their_order() {
        let (ours, theirs) = (secret("a secret of cluster 1"), secret("a secret of cluster 2"));
        let of = Transcript::new(b"dialer", b"accepter");
        let provers = [Prover::Dialer, Prover::Accepter { welcomes: true }, Prover::Accepter { welcomes: false }];
        for who in provers {
            let proof = ours.prove(who, &of);
            for other in provers {
                assert_eq!(ours.is_proven(other, &of, &[[0; 32], proof]), who == other);
            }
            assert!(!theirs.is_proven(who, &of, &[proof]) && !ours.is_proven(who, &of, &[]));
            for (dialers, accepters) in [("accepter", "dialer"), ("diale", "raccepter"), ("dialer", "accepters")] {
                let other = Transcript::new(dialers.as_bytes(), accepters.as_bytes());
                assert!(!ours.is_proven(who, &other, &[proof]));
            }
        }
    }

    #[test]
    fn nonces_differ_within_a_run_and_between_runs() {
        let draw = |seed, of: &str| {
            let mut nonces = Nonces::new(seed, &secret(of));
            [nonces.draw(1), nonces.draw(1)]
        };
        let drawn =
            [([1; 4], "a secret of cluster 1"), ([2; 4], "a secret of cluster 1"), ([1; 4], "another secret !")];
        let all: Vec<_> = drawn.into_iter().flat_map(|(seed, of)| draw(seed, of)).collect();
        assert!((0..6).all(|one| (0..one).all(|other| all[one] != all[other])));
        assert_eq!(draw([1; 4], "a secret of cluster 1"), draw([1; 4], "a secret of cluster 1"));
    }

    #[test]
    fn chunks_are_opened_in_their_order_only_and_by_the_other_end_only() {
        let (mut near, mut far) = ends((b"a", b"b"), "a secret of cluster 1");
        let (one, two) = (sealed(&mut near, b"one"), sealed(&mut near, b"two"));
        assert_eq!(one.len(), CHUNK_HEAD_BYTES + 3);
        assert_eq!(opened(&mut far, &[&one[..], &two].concat()).as_deref(), Some(&b"onetwo"[..]));
        // Repeated, left out, sent back to its writer, and brought to another link.
        assert_eq!(opened(&mut far, &one), None);
        assert_eq!(opened(&mut ends((b"a", b"b"), "a secret of cluster 1").1, &two), None);
        assert_eq!(opened(&mut ends((b"a", b"b"), "a secret of cluster 1").0, &one), None);
        assert_eq!(opened(&mut ends((b"a", b"c"), "a secret of cluster 1").1, &one), None);
        assert_eq!(opened(&mut ends((b"a", b"b"), "a secret of cluster 2").1, &one), None);
        assert!(sealed(&mut near, b"").is_empty());
    }

    #[test]
    fn what_is_long_is_cut_into_chunks() {
        for length in [1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 5 * CHUNK_BYTES_MAX + 7] {
            let frames: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            let (mut near, mut far) = ends((b"a", b"b"), "a secret of cluster 1");
            let bytes = sealed(&mut near, &frames);
            assert_eq!(bytes.len(), length + length.div_ceil(CHUNK_BYTES_MAX) * CHUNK_HEAD_BYTES);
            assert_eq!(Channel::room(bytes.len()), length);
            assert!(opened(&mut far, &bytes).is_some_and(|opened| opened == frames));
        }
        assert_eq!([0, 1, CHUNK_HEAD_BYTES, CHUNK_HEAD_BYTES + 1].map(Channel::room), [0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn no_bit_of_a_chunk_can_be_changed(
            frames in proptest::collection::vec(any::<u8>(), 1..80),
            at in any::<usize>(),
        ) {
            let (mut near, mut far) = ends((b"a", b"b"), "a secret of cluster 1");
            let mut bytes = sealed(&mut near, &frames);
            let bit = at % (8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            // A length that has grown waits for what is behind it.
            bytes.resize(bytes.len() + CHUNK_BYTES_MAX, 0);
            prop_assert_eq!(far.open(&bytes), Opened::Forged);
        }
    }
}
