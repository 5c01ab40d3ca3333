//! Pauses between attempts: doubling, with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses that double from the shortest to the longest. Each is shortened by up to a half at random, so that many
/// programs do not come back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Pauses from `min` to `max`, randomly seeded.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self::seeded(min, max, RandomState::new().hash_one(0_u8))
    }

    /// The same pauses for the same seed.
    pub fn seeded(min: Duration, max: Duration, seed: u64) -> Self {
        // neighbouring seeds give different pauses from the first on, and no seed gives 0, where the generator would
        // stay (a multiplication by 2^64 / golden ratio)
        let random = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { min, max, next: min.min(max), random }
    }

    /// The next pause is the shortest again.
    pub fn reset(&mut self) {
        self.next = self.min.min(self.max);
    }

    /// The pause to make now.
    pub fn pause(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.max);
        // xorshift64; Marsaglia, "Xorshift RNGs", 2003
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random >> 48).unwrap_or_default();
        full - full / 2 / 0x1_0000 * share
    }

    /// Makes the pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn doubles_up_to_the_longest_within_the_jitter() {
        for seed in 0..100 {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            for full in [100, 200, 400, 800, 1000, 1000] {
                let full = Duration::from_millis(full);
                let pause = backoff.pause();
                assert!(pause <= full && pause >= full / 2, "seed {seed}: {pause:?} of {full:?}");
            }
            backoff.reset();
            assert!(backoff.pause() <= MIN);
        }
    }

    #[test]
    fn a_seed_fixes_the_pauses() {
        let pauses = |seed| {
            let mut backoff = Backoff::seeded(MIN, MAX, seed);
            [backoff.pause(), backoff.pause(), backoff.pause()]
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
        assert_ne!(pauses(0), pauses(u64::MAX));
    }

    #[test]
    fn a_longest_pause_below_the_shortest_wins() {
        let mut backoff = Backoff::seeded(MAX, MIN, 1);
        assert!(backoff.pause() <= MIN);
        assert!(backoff.pause() <= MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn wait_sleeps() {
        let before = tokio::time::Instant::now();
        Backoff::seeded(MIN, MAX, 3).wait().await;
        assert!(before.elapsed() >= MIN / 2);
    }
}
