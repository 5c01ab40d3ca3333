//! Readiness as a set of named gates, so that "why not ready" has an answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};

/// All gates of a program; cheap to clone. Ready means: there is a gate, and all are open.
#[derive(Debug, Clone)]
pub struct Ready {
    clock: Arc<dyn Clock>,
    gates: watch::Sender<BTreeMap<Cow<'static, str>, State>>,
}

#[derive(Debug, Clone)]
struct State {
    open: bool,
    since: Instant,
    since_wall: SystemTime,
    reason: String,
}

/// What is said of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateReport {
    /// The gate's name.
    pub name: Cow<'static, str>,
    /// Whether it is open.
    pub open: bool,
    /// When it last opened or closed.
    pub since: SystemTime,
    /// How long ago that was.
    pub age: Duration,
    /// Why it is closed; empty when it is open.
    pub reason: String,
}

impl Ready {
    /// Without gates, hence not ready.
    pub fn new() -> Self {
        Self::with_clock(SystemClock::shared())
    }

    /// With a clock of the caller's.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock, gates: watch::Sender::new(BTreeMap::new()) }
    }

    /// A new gate, closed with the reason "not yet opened". Whoever can tell keeps it; when it is dropped it closes for
    /// good. Make all gates before the first opens. A name that exists is taken over.
    pub fn gate(&self, name: impl Into<Cow<'static, str>>) -> Gate {
        let gate = Gate { ready: self.clone(), name: name.into() };
        gate.set(false, "not yet opened", true);
        gate
    }

    /// All gates, in the order of their names.
    pub fn report(&self) -> Vec<GateReport> {
        let now = self.clock.now();
        self.gates
            .borrow()
            .iter()
            .map(|(name, state)| GateReport {
                name: name.clone(),
                open: state.open,
                since: state.since_wall,
                age: now.saturating_duration_since(state.since),
                reason: state.reason.clone(),
            })
            .collect()
    }

    /// Whether all gates are open.
    pub fn is_ready(&self) -> bool {
        all_open(&self.gates.borrow())
    }

    /// Waits until all gates are open; at once if they are.
    pub async fn wait_ready(&self) {
        // we hold a sender, so it cannot close
        let _ = self.gates.subscribe().wait_for(all_open).await;
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

fn all_open(gates: &BTreeMap<Cow<'static, str>, State>) -> bool {
    !gates.is_empty() && gates.values().all(|state| state.open)
}

/// One condition of readiness; dropping it closes it.
#[derive(Debug)]
#[must_use = "dropping a gate closes it"]
pub struct Gate {
    ready: Ready,
    name: Cow<'static, str>,
}

impl Gate {
    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The condition holds. Does nothing to an open gate.
    pub fn open(&self) {
        self.set(true, "", false);
    }

    /// The condition does not hold, and why. On a closed gate only the reason changes, not its age.
    pub fn close(&self, reason: &str) {
        self.set(false, reason, false);
    }

    fn set(&self, open: bool, reason: &str, anew: bool) {
        let (since, since_wall) = (self.ready.clock.now(), self.ready.clock.wall());
        self.ready.gates.send_if_modified(|gates| {
            match gates.get_mut(&self.name) {
                Some(state) if state.open == open && !anew => {
                    if state.reason == reason {
                        return false;
                    }
                    reason.clone_into(&mut state.reason);
                }
                _ => {
                    let state = State { open, since, since_wall, reason: reason.to_owned() };
                    gates.insert(self.name.clone(), state);
                }
            }
            true
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close("its owner is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    fn brief(ready: &Ready) -> Vec<(String, bool, u64, String)> {
        ready
            .report()
            .into_iter()
            .map(|gate| (gate.name.into_owned(), gate.open, gate.age.as_secs(), gate.reason))
            .collect()
    }

    #[test]
    fn ready_is_all_gates_and_at_least_one() {
        let ready = Ready::new();
        assert!(!ready.is_ready());
        let (a, b) = (ready.gate("a"), ready.gate("b"));
        a.open();
        assert!(!ready.is_ready());
        b.open();
        assert!(ready.is_ready());
        b.close("lost");
        assert!(!ready.is_ready());
        b.open();
        drop(a);
        assert!(!ready.is_ready());
        assert_eq!(ready.report()[0].reason, "its owner is gone");
    }

    #[test]
    fn the_report_has_reasons_and_ages() {
        let clock = TestClock::new();
        let ready = Ready::with_clock(Arc::new(clock.clone()));
        let switch = ready.gate("switch");
        let ovsdb = ready.gate("ovsdb");
        clock.advance(Duration::from_secs(5));
        ovsdb.open();
        clock.advance(Duration::from_secs(2));
        ovsdb.open();
        switch.close("refused");
        assert_eq!(
            brief(&ready),
            [
                ("ovsdb".to_owned(), true, 2, String::new()),
                ("switch".to_owned(), false, 7, "refused".to_owned()),
            ]
        );
        assert_eq!(ready.report()[0].since, SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_gate() {
        let ready = Ready::new();
        let gate = ready.gate("only");
        let waits = crate::task::spawn("waits", {
            let ready = ready.clone();
            async move { ready.wait_ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        gate.open();
        waits.join().await.unwrap();
        ready.wait_ready().await;
    }
}
