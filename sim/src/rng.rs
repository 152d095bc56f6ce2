//! Chance in integers: the same numbers on every machine and in every profile.

/// A generator for drawing plans; xoshiro256++ seeded through SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A stream of its own for each `(seed, label)`, so that one part drawing more does not change another.
    #[must_use]
    pub fn new(seed: u64, label: u64) -> Self {
        Self([0, 1, 2, 3].map(|word| keyed(seed, &[label, word])))
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        scale(self.next_u64(), bound)
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number in `low..=high`, each doubling as likely as the next: for sizes and times of unknown scale.
    pub fn log_range(&mut self, low: u64, high: u64) -> u64 {
        let low = low.max(1);
        let doublings = u64::from((high.max(low) / low).ilog2());
        let base = low << self.below(doublings + 1);
        self.range(base, (base * 2).min(high.max(base)))
    }

    /// True `times` out of `of`.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("an index")]
    }
}

/// A draw that depends on what it is for and on nothing drawn before, so that a plan with items left out stays the
/// same story: name the thing in `words`.
#[must_use]
pub fn keyed(seed: u64, words: &[u64]) -> u64 {
    keyed_on(mix(seed), words)
}

/// Goes on with a draw: as if `words` had been named after those that `draw` is keyed by.
#[must_use]
pub fn keyed_on(draw: u64, words: &[u64]) -> u64 {
    words.iter().fold(draw, |state, word| mix(state ^ mix(*word)))
}

/// `random`, 64 bits of it, brought into `0..bound`.
#[must_use]
pub fn scale(random: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(bound)) >> 64).expect("below a u64")
}

/// A delay in whole microseconds with the given mean, shaped like an exponential: a few take five times as long.
#[must_use]
pub fn delay_us(random: u64, mean_us: u64) -> u64 {
    /// Sixteenths of -ln(1 - q) at the middle of sixteen equal slices of q.
    const SIXTEENTHS: [u64; 16] = [1, 2, 3, 4, 5, 7, 8, 10, 12, 14, 17, 20, 24, 30, 38, 61];
    let slice = SIXTEENTHS[usize::try_from(random >> 60).expect("four bits")];
    mean_us * slice / 16
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014).
const fn mix(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_range() {
        let mut rng = Rng::new(1, 2);
        for _ in 0..1_000 {
            assert!((3..=9).contains(&rng.range(3, 9)));
            assert!((256..=65_536).contains(&rng.log_range(256, 65_536)));
        }
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_keyed_draw_depends_on_every_word() {
        assert_eq!(keyed(1, &[2, 3]), keyed(1, &[2, 3]));
        assert_eq!(keyed(1, &[2, 3]), keyed_on(keyed(1, &[2]), &[3]));
        assert_ne!(keyed(1, &[2, 3]), keyed(1, &[3, 2]));
        assert_ne!(keyed(1, &[2, 3]), keyed(2, &[2, 3]));
    }

    #[test]
    fn delays_have_about_their_mean() {
        let mut rng = Rng::new(5, 5);
        let sum: u64 = (0..10_000).map(|_| delay_us(rng.next_u64(), 1_000)).sum();
        assert!((900..1_100).contains(&(sum / 10_000)));
    }
}
