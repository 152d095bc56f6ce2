//! The one source of chance in the core: a generator seeded from [`Config`](crate::Config).

/// xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021).
/// Small, fast and reproducible on every platform; not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Rand([u64; 4]);

impl Rand {
    /// Any seed will do: SplitMix64 mixes each word first, so that not even all zeros is a bad one.
    pub(crate) fn new(seed: [u64; 4]) -> Self {
        let mut carry = 0_u64;
        Self(seed.map(|word| {
            carry = carry.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = carry;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
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

    /// A number in `0..bound`; 0 when `bound` is 0. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut rand = Rand::new(seed);
            [rand.next_u64(), rand.next_u64(), rand.next_u64()]
        };
        assert_eq!(draw([1, 2, 3, 4]), draw([1, 2, 3, 4]));
        assert_ne!(draw([1, 2, 3, 4]), draw([1, 2, 3, 5]));
        assert_ne!(draw([0; 4]), [0; 3]);
    }

    #[test]
    fn below_stays_below() {
        let mut rand = Rand::new([7; 4]);
        assert!((0..1_000).all(|_| rand.below(10) < 10));
        assert_eq!(rand.below(0), 0);
    }
}
