//! The trace: what happened, as a hash always and as a [story](crate::timeline) on demand.

use crate::timeline::{Event, Kept, Story};

/// How much of a trace becomes a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the hash only. For volume.
    Hash,
    /// The last few thousand events are kept as text.
    Tail,
    /// Every event goes to the standard output as it happens.
    Print,
    /// Events are kept as data, for a page.
    Record,
}

/// A rolling hash over every event, and what is told of them.
#[derive(Debug)]
pub struct Trace {
    hash: [u64; 2],
    story: Option<Box<Story>>,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        let story = match watch {
            Watch::Hash => None,
            Watch::Tail => Some(Story::tail()),
            Watch::Print => Some(Story::print()),
            Watch::Record => Some(Story::keep()),
        };
        Self { hash: [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f], story: story.map(Box::new) }
    }

    /// Notes an event: what names it, and how to tell it.
    pub fn note<E: Into<Event>>(&mut self, at_us: u64, words: &[u64], event: impl FnOnce() -> E) {
        self.hash_words(at_us, words);
        if let Some(story) = &mut self.story {
            story.tell(at_us, event().into());
        }
    }

    /// Notes an event for the hash alone: what it was is told otherwise.
    pub fn hash_words(&mut self, at_us: u64, words: &[u64]) {
        self.word(at_us);
        for word in words {
            self.word(*word);
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

    /// The story, for what is told without being part of the hash; `None` when nothing is told.
    pub fn story(&mut self) -> Option<&mut Story> {
        self.story.as_deref_mut()
    }

    /// The hash of all that was noted so far.
    #[must_use]
    pub fn hash(&self) -> u128 {
        (u128::from(self.hash[0]) << 64) | u128::from(self.hash[1])
    }

    /// The newest events as text, oldest first, if [watched](Watch::Tail); and the story, if [kept](Watch::Record).
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Option<Box<Kept>>) {
        self.story.map_or((Vec::new(), None), |story| story.into_parts())
    }

    const fn word(&mut self, word: u64) {
        // Two lanes of multiply and rotate with different constants: not for enemies, only for differences.
        self.hash[0] = (self.hash[0] ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        self.hash[1] = (self.hash[1].rotate_left(23) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ self.hash[0];
    }
}
