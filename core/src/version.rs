//! Versions: which of two records is newer, the same answer on every node.

use std::fmt;

use crate::time::WallMs;

/// A hybrid logical clock reading: 48 bits of milliseconds, 16 of counter (Kulkarni et al., "Logical physical
/// clocks", 2014). Its order respects causality: a node moves its clock past every reading that it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Before every reading ever issued.
    pub const ZERO: Self = Self(0);

    /// The first reading of a millisecond.
    #[must_use]
    pub const fn at(wall: WallMs) -> Self {
        Self(wall.0 << 16)
    }

    /// The milliseconds part.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.0 & 0xffff)
    }
}

/// One run of a node: a fresh random id at every start, never reused. 0 is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u64);

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The name of one write. The greater version wins a merge; no two writes share one, so the order is strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When, by the writer's hybrid logical clock. Compared first.
    pub hlc: Hlc,
    /// By whom. Breaks ties in the same way everywhere.
    pub origin: OriginId,
}

/// The clock that stamps a run's writes.
#[derive(Debug, Default)]
pub(crate) struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A reading greater than every earlier and every observed one. The counter carries into the milliseconds.
    pub(crate) fn tick(&mut self, wall: WallMs) -> Hlc {
        self.last = Hlc(self.last.0 + 1).max(Hlc::at(wall));
        self.last
    }

    /// Moves the clock to at least `seen`, so that what is written next is newer than what was seen.
    pub(crate) fn observe(&mut self, seen: Hlc) {
        self.last = self.last.max(seen);
    }

    /// The greatest reading issued or observed.
    pub(crate) fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_only_goes_forward() {
        let mut clock = HlcClock::default();
        let first = clock.tick(WallMs(1_000));
        assert_eq!(first, Hlc::at(WallMs(1_000)));
        let back = clock.tick(WallMs(5));
        assert!(back > first);
        clock.observe(Hlc::at(WallMs(9_000)));
        assert!(clock.tick(WallMs(1_001)) > Hlc::at(WallMs(9_000)));
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc((7 << 16) | 0xffff));
        assert_eq!(clock.tick(WallMs(7)).ms(), 8);
    }

    #[test]
    fn equal_clocks_are_told_apart_by_the_origin() {
        let version = |hlc, origin| Version { hlc: Hlc(hlc), origin: OriginId(origin) };
        assert!(version(2, 1) > version(1, 9));
        assert!(version(2, 2) > version(2, 1));
    }
}
