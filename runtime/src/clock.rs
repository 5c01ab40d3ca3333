//! Time as a parameter.
//!
//! For waiting use tokio's timers, which tests pause; a [`Clock`] is for reading the time.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// What time it is.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Monotonic time, to measure with.
    fn now(&self) -> Instant;
    /// Calendar time, to show.
    fn wall(&self) -> SystemTime;
}

/// The system's time. Its monotonic time is tokio's, and stands still in a test that pauses that.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// To be passed on.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that moves only when told to; clones show the same time.
#[derive(Debug, Clone)]
pub struct TestClock {
    time: Arc<Mutex<(Instant, SystemTime)>>,
}

impl TestClock {
    /// Stands at the start of 1970.
    pub fn new() -> Self {
        Self::at(SystemTime::UNIX_EPOCH)
    }

    /// Stands at `wall`.
    pub fn at(wall: SystemTime) -> Self {
        Self { time: Arc::new(Mutex::new((Instant::now(), wall))) }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.0 += by;
        time.1 += by;
    }

    fn read(&self) -> (Instant, SystemTime) {
        *self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        self.read().0
    }

    fn wall(&self) -> SystemTime {
        self.read().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_clock_moves_when_told_to() {
        let clock = TestClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let before = shared.now();
        assert_eq!(shared.now(), before);
        clock.advance(Duration::from_secs(3));
        assert_eq!(shared.now() - before, Duration::from_secs(3));
        assert_eq!(shared.wall(), SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_paused_time() {
        let before = SystemClock.now();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(SystemClock.now() - before, Duration::from_secs(9));
    }
}
