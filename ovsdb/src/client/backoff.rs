//! Pauses between connections.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from the shortest to the longest pause, each shortened by up to a half at random.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self::seeded(min, max, RandomState::new().hash_one(0))
    }

    fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        // xorshift stays at 0 for ever
        Self { min, max, next: min.min(max), random: seed | 1 }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.min.min(self.max);
    }

    pub(super) fn pause(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.max);
        // xorshift64; Marsaglia, "Xorshift RNGs", 2003
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random >> 48).unwrap_or_default();
        full - full / 2 / 0x1_0000 * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_jitter_up_to_the_longest() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::seeded(min, max, 7);
        for full in [100, 200, 400, 800, 1000, 1000] {
            let full = Duration::from_millis(full);
            let pause = backoff.pause();
            assert!(pause <= full && pause >= full / 2, "{pause:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= min);
        let pauses = |seed| {
            let mut backoff = Backoff::seeded(min, max, seed);
            [backoff.pause(), backoff.pause(), backoff.pause()]
        };
        assert_ne!(pauses(1), pauses(0x1234_5678_9abc));
    }
}
