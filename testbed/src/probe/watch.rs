//! Attempts without pause: a new connection every few milliseconds while something changes, and how many got through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{Budget, Request, client};

/// Between two attempts.
const PACE: Duration = Duration::from_millis(5);
/// How long one attempt may take, where nothing is to pass and where nothing is to be dropped: a lost SYN is sent again
/// after a whole second, so what is answered sooner was not dropped.
pub const SHUT: Duration = Duration::from_millis(150);
pub const OPEN: Duration = Duration::from_millis(900);

/// What became of the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    pub tried: u64,
    pub passed: u64,
}

/// Attempts under way. Without [`Watch::finish`] they go on until the engine ends.
pub struct Watch {
    stop: Arc<AtomicBool>,
    tried: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
    runtime: tokio::runtime::Handle,
}

pub(super) fn start(runtime: &Runtime, request: &Request, each: Duration) -> Watch {
    let stop = Arc::new(AtomicBool::new(false));
    let (tried, passed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (ended, begun, request) = (Arc::clone(&stop), Arc::clone(&tried), request.clone());
    let got_through = Arc::clone(&passed);
    let task = runtime.spawn(async move {
        let mut ticker = interval(PACE);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = JoinSet::new();
        while !ended.load(Ordering::Relaxed) {
            ticker.tick().await;
            while running.try_join_next().is_some() {}
            begun.fetch_add(1, Ordering::Relaxed);
            let (request, through) = (request.clone(), Arc::clone(&got_through));
            running.spawn(async move {
                let budget = Budget { again: &[], until: each };
                if client::exchange(&request, budget).await.is_open() {
                    through.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        running.join_all().await;
    });
    Watch { stop, tried, passed, task, runtime: runtime.handle().clone() }
}

impl Watch {
    /// Attempts begun so far.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Waits for the last attempts and counts.
    pub fn finish(self) -> Attempts {
        self.stop.store(true, Ordering::Relaxed);
        let Self { tried, passed, task, runtime, .. } = self;
        if let Err(error) = runtime.block_on(task)
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Attempts { tried: count(&tried), passed: count(&passed) }
    }
}
