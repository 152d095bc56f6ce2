//! When requests are due.

/// When the requests of one thread are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As soon as there is room for them.
    Closed,
    /// One each `every_ns` after the first, at `first_ns`.
    Open { first_ns: f64, every_ns: f64 },
}

impl Pace {
    /// That of one of `threads` which ask `rate` times a second together: they take turns.
    pub(crate) fn of(rate: Option<f64>, thread: usize, threads: usize) -> Self {
        let Some(rate) = rate else { return Self::Closed };
        let apart_ns = 1e9 / rate;
        Self::Open { first_ns: apart_ns * thread as f64, every_ns: apart_ns * threads as f64 }
    }

    /// When request number `number` is due, in nanoseconds from the beginning; none: when there is room. Each is
    /// computed by itself, so that nothing adds up, and no request is later because another was.
    pub(crate) fn due_ns(self, number: u64) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Open { first_ns, every_ns } => Some((first_ns + every_ns * number as f64) as u64),
        }
    }

    /// How many requests are due before `end_ns`.
    pub(crate) fn due_before(self, end_ns: u64) -> u64 {
        let Self::Open { first_ns, every_ns } = self else { return 0 };
        let mut count = ((end_ns as f64 - first_ns) / every_ns).max(0.0) as u64;
        // The division may be off by one either way.
        while count > 0 && self.due_ns(count - 1) >= Some(end_ns) {
            count -= 1;
        }
        while self.due_ns(count) < Some(end_ns) {
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns() {
        let due = |thread, number| Pace::of(Some(1_000.0), thread, 2).due_ns(number);
        assert_eq!(
            [due(0, 0), due(1, 0), due(0, 1), due(1, 1)],
            [Some(0), Some(1_000_000), Some(2_000_000), Some(3_000_000)]
        );
        assert_eq!(Pace::of(None, 0, 1).due_ns(7), None);
    }

    #[test]
    fn a_rate_holds_however_long_it_lasts() {
        const DAY_NS: u64 = 86_400_000_000_000;
        for rate in [0.1, 3.0, 20_000.0, 1e8] {
            let pace = Pace::of(Some(rate), 0, 1);
            let expected = (rate * 86_400.0).round() as u64;
            assert!(pace.due_before(DAY_NS).abs_diff(expected) <= 1, "{rate}: {}", pace.due_before(DAY_NS));
        }
    }

    #[test]
    fn what_is_due_before_an_end_is_counted() {
        for (rate, thread, threads) in [(1_000.0, 0, 1), (3.0, 1, 2), (7e6, 0, 3)] {
            let pace = Pace::of(Some(rate), thread, threads);
            for end_ns in [0, 1, 333_333_333, 1_000_000_000, 1_000_000_001] {
                let count = pace.due_before(end_ns);
                assert!(count == 0 || pace.due_ns(count - 1) < Some(end_ns), "{rate} {end_ns}: {count}");
                assert!(pace.due_ns(count) >= Some(end_ns), "{rate} {end_ns}: {count}");
            }
        }
        assert_eq!(Pace::Closed.due_before(1_000_000_000), 0);
    }
}
