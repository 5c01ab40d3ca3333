//! The one place that polls: for what another process does and tells nobody.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::interrupt;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks at a condition until it holds.
///
/// Errors: [`Error::Late`] with `what` when it does not within `limit`; an error of the condition at once.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Error::Late { what: what.to_owned(), after: limit });
        }
        pause(INTERVAL);
    }
}

/// The pause between two looks.
#[expect(
    clippy::disallowed_methods,
    reason = "another process's state has no event to wait for; every use has a deadline"
)]
pub(crate) fn pause(interval: Duration) {
    std::thread::sleep(interval);
}
