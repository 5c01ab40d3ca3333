//! One connection after another.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{ConnError, Connection, Driver, Event, Options, Target, connect};

/// Pauses between attempts: each twice as long as the one before, up to a limit, and each cut by a random part, so that
/// many clients do not all come back at the same moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A connection that lived this long was a good one: the next attempt is made at once.
    pub stable: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(8),
            stable: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// The pause after `failures` failures in a row: half of it for certain, up to all of it by chance.
    ///
    /// Units: `chance` from 0 to `u64::MAX`.
    fn pause(&self, failures: u32, chance: u64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(factor).min(self.longest);
        let half = whole / 2;
        // Sixteen bits of chance are enough for a pause.
        half + half * u32::from(u16::try_from(chance >> 48).unwrap_or(u16::MAX)) / (1 << 16)
    }
}

/// A switch that is connected to again and again.
///
/// ```no_run
/// # use rust_openflow::conn::{Backoff, Options, Reconnect};
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let target = "unix:/var/run/openvswitch/br-int.mgmt".parse()?;
/// let mut switch = Reconnect::new(target, Options::default(), Backoff::default());
/// loop {
///     let generation = switch.next().await;
///     // What was true of the tables before is not known to be true any more: begin with a dump.
///     let work = async {
///         generation.connection.dump_flows(Default::default()).await?;
///         std::future::pending::<Result<(), Box<dyn std::error::Error>>>().await
///     };
///     tokio::select! {
///         ended = generation.driver => drop(ended),
///         done = work => done?,
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Reconnect {
    target: Target,
    options: Options,
    backoff: Backoff,
    generation: u64,
    /// Attempts that failed since the last connection.
    failed: u32,
    /// Failures and short-lived connections in a row.
    in_a_row: u32,
    /// When the present connection was made.
    connected: Option<Instant>,
}

/// One connection of a [`Reconnect`].
#[derive(Debug)]
pub struct Generation {
    /// 1 for the first connection, then counting up.
    pub number: u64,
    /// Attempts that failed before this one succeeded.
    pub failures: u32,
    /// As from [`connect`].
    pub connection: Connection,
    /// As from [`connect`]; poll it.
    pub driver: Driver,
    /// As from [`connect`].
    pub events: mpsc::Receiver<Event>,
}

impl Reconnect {
    /// Nothing is tried before the first call of [`Reconnect::next`] or [`Reconnect::attempt`].
    pub fn new(target: Target, options: Options, backoff: Backoff) -> Self {
        Self { target, options, backoff, generation: 0, failed: 0, in_a_row: 0, connected: None }
    }

    /// Waits as the back-off wants, and tries once. A call that is dropped counts as none.
    ///
    /// Errors: those of [`connect`].
    pub async fn attempt(&mut self) -> Result<Generation, ConnError> {
        if let Some(at) = self.connected.take() {
            // A connection that ended soon after it was made counts as a failure.
            let short = at.elapsed() < self.backoff.stable;
            self.in_a_row = if short { self.in_a_row.saturating_add(1) } else { 0 };
        }
        let chance = RandomState::new().build_hasher().finish();
        tokio::time::sleep(self.backoff.pause(self.in_a_row, chance)).await;
        match connect(&self.target, self.options.clone()).await {
            Ok((connection, driver, events)) => {
                self.generation += 1;
                self.connected = Some(Instant::now());
                let (number, failures) = (self.generation, std::mem::take(&mut self.failed));
                Ok(Generation { number, failures, connection, driver, events })
            }
            Err(error) => {
                self.failed = self.failed.saturating_add(1);
                self.in_a_row = self.in_a_row.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Tries until it succeeds. What fails is logged once for each power of two.
    pub async fn next(&mut self) -> Generation {
        loop {
            match self.attempt().await {
                Ok(generation) => return generation,
                Err(error) => {
                    if self.failed.is_power_of_two() {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(
                            switch = %self.target, failed = self.failed, error,
                            "no connection; trying again"
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_keep_at_least_half() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(0, u64::MAX), Duration::ZERO);
        for (failures, whole) in
            [(1, 100), (2, 200), (3, 400), (8, 8000), (40, 8000), (u32::MAX, 8000)]
        {
            let whole = Duration::from_millis(whole);
            assert_eq!(backoff.pause(failures, 0), whole / 2);
            let most = backoff.pause(failures, u64::MAX);
            assert!(most <= whole && most > whole - whole / 1000, "{failures}: {most:?}");
        }
    }
}
