//! The trace: what happened, as a hash always and as text on demand.

use std::collections::VecDeque;

/// Events kept as text when a run is watched: enough to see what led to a failure.
const TAIL_EVENTS_MAX: usize = 4_096;

/// How much of a trace becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// None: the hash only. For volume.
    Hash,
    /// The last few thousand events are kept.
    Tail,
    /// Every event goes to the standard output as it happens.
    Print,
}

/// A rolling hash over every event, and the newest events as text.
#[derive(Debug)]
pub struct Trace {
    watch: Watch,
    hash: [u64; 2],
    tail: VecDeque<String>,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub const fn new(watch: Watch) -> Self {
        Self { watch, hash: [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f], tail: VecDeque::new() }
    }

    /// Notes an event: what names it, and how to tell it.
    pub fn note(&mut self, at_us: u64, words: &[u64], text: impl FnOnce() -> String) {
        self.word(at_us);
        for word in words {
            self.word(*word);
        }
        if self.watch != Watch::Hash {
            self.tell(at_us, &text());
        }
    }

    /// Adds bytes that were carried to the hash.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last));
    }

    /// The hash of all that was noted so far.
    #[must_use]
    pub fn hash(&self) -> u128 {
        (u128::from(self.hash[0]) << 64) | u128::from(self.hash[1])
    }

    /// The newest events, oldest first; empty unless [watched](Watch::Tail).
    #[must_use]
    pub fn into_tail(self) -> Vec<String> {
        self.tail.into()
    }

    const fn word(&mut self, word: u64) {
        // Two lanes of multiply and rotate with different constants: not for enemies, only for differences.
        self.hash[0] = (self.hash[0] ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        self.hash[1] = (self.hash[1].rotate_left(23) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ self.hash[0];
    }

    fn tell(&mut self, at_us: u64, text: &str) {
        let line = format!("{:>6}.{:06} {text}", at_us / 1_000_000, at_us % 1_000_000);
        if self.watch == Watch::Print {
            println!("{line}");
            return;
        }
        if self.tail.len() == TAIL_EVENTS_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}
