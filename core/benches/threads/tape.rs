//! What clients ask for, and whether they are answered.

use super::requests::Dialect::Array;
use super::requests::{KEY_BYTES, key, value};

/// Where the key stands in a request.
const KEY_AT: usize = 18;

/// With what a read ends, and its reply, too: the digits of the key, and the end of the line.
const TAIL_BYTES: usize = 14;

/// What stands before the digits of the key in a value tells of which generation it is.
const NUMBERS: u64 = 1_000_000_000_000;

/// Requests in a batch at the most.
pub(crate) const DEPTH_MAX: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Set,
}

/// A request for each key, one behind the other, made before it is sent. What does not fill a batch of the longest is
/// left out.
pub(crate) struct Tape {
    pub(crate) kind: Kind,
    pub(crate) request_bytes: usize,
    pub(crate) reply_bytes: usize,
    generation: u64,
    bytes: Vec<u8>,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
        }
    }
}

impl Tape {
    /// Writes of values of this generation, or reads of them, in this order of keys.
    pub(crate) fn new(kind: Kind, order: &[u32], generation: u64) -> Self {
        let mut bytes = Vec::new();
        let order = &order[..order.len() / DEPTH_MAX * DEPTH_MAX];
        for number in order {
            put_request(kind, *number, generation, &mut bytes);
        }
        let mut tape = Self { kind, generation, request_bytes: bytes.len() / order.len(), reply_bytes: 0, bytes };
        tape.reply_bytes = tape.answer(order[0]).len();
        tape
    }

    /// A batch of so many requests, which divide the longest. The tape is played again and again.
    pub(crate) fn batch(&self, number: usize, depth: usize) -> &[u8] {
        let batch_bytes = depth * self.request_bytes;
        &self.bytes[number % (self.bytes.len() / batch_bytes) * batch_bytes..][..batch_bytes]
    }

    /// Panics if a batch is not answered as it should be. Unless `all` of the replies are looked at, the last one is.
    pub(crate) fn check(&self, requests: &[u8], replies: &[u8], all: bool) {
        let count = requests.len() / self.request_bytes;
        assert_eq!(replies.len(), count * self.reply_bytes, "each request has its reply");
        let tail = match self.kind {
            Kind::Get => &requests[requests.len() - TAIL_BYTES..],
            Kind::Set => Array.ok(),
        };
        assert!(replies.ends_with(tail), "the last reply is {}", replies.escape_ascii());
        if all {
            let pairs = requests.chunks_exact(self.request_bytes).zip(replies.chunks_exact(self.reply_bytes));
            for (request, reply) in pairs {
                let number = str::from_utf8(&key_of(request)[4..]).ok().and_then(|digits| digits.parse().ok());
                let expected = self.answer(number.expect("a key has a number"));
                assert!(reply == expected, "{} and not {}", reply.escape_ascii(), expected.escape_ascii());
            }
        }
    }

    fn answer(&self, number: u32) -> Vec<u8> {
        let mut answer = Vec::new();
        match self.kind {
            Kind::Get => Array.put_answer(&value_of(number, self.generation), &mut answer),
            Kind::Set => answer.extend_from_slice(Array.ok()),
        }
        answer
    }
}

pub(crate) fn put_request(kind: Kind, number: u32, generation: u64, to: &mut Vec<u8>) {
    let (key, value) = (key(number), value_of(number, generation));
    let words: [&[u8]; 3] = [kind.name().as_bytes(), &key, &value];
    Array.put(if kind == Kind::Set { &words } else { &words[..2] }, to);
}

#[inline]
pub(crate) fn key_of(request: &[u8]) -> &[u8; KEY_BYTES] {
    request[KEY_AT..].first_chunk().expect("a request has a key")
}

/// The thread that owns a key, of two. Nobody chooses keys here, so a product will do.
#[inline]
pub(crate) fn owner(key: &[u8; KEY_BYTES]) -> usize {
    let mixed = u128::from_le_bytes(*key) ^ 0xc4ce_b9fe_1a85_ec53_9e37_79b9_7f4a_7c15;
    let product = u128::from(mixed as u64) * (mixed >> 64);
    ((product ^ product >> 64) as u64 >> 63) as usize
}

pub(crate) fn owner_of(number: u32) -> usize {
    owner(key(number).first_chunk().expect("a key has its length"))
}

fn value_of(number: u32, generation: u64) -> Vec<u8> {
    value(generation * NUMBERS + u64::from(number))
}

/// All numbers below `count`, as by chance but the same each time.
pub(crate) fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    let mut state: u64 = 1;
    for at in (1..numbers.len()).rev() {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(at, ((u128::from(state) * (at as u128 + 1)) >> 64) as usize);
    }
    numbers
}
