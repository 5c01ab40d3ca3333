//! The task that writes files, so that a slow disk holds up no policy.
//!
//! It keeps a copy of the state and follows the same changes as the reconciler, so that handing over a change costs
//! what the change is, not what the state is. What queues up while a file is written goes into the next one together.

use tokio::sync::mpsc;
use tracing::{error, info};
use weir_policy::state::{Change, NodeState};

use super::{Store, Stored};
use crate::seam::chain;

/// Orders that may wait for the disk. When it lags further behind, it is given the whole state once it has caught up.
const QUEUE: usize = 256;

enum Order {
    Replace(Box<Stored>),
    Follow { revision: u64, changes: Vec<Change> },
    Symbols(Vec<u8>),
}

/// The reconciler's end: hands over what is to be written and never waits.
#[derive(Debug)]
pub struct Saver {
    orders: mpsc::Sender<Order>,
    /// An order was dropped, so the copy on the other side is not the state any more.
    behind: bool,
}

/// The disk's end.
#[derive(Debug)]
pub struct Disk {
    store: Store,
    orders: mpsc::Receiver<Order>,
    copy: Stored,
}

/// The two ends; `loaded` is what [`Store::load`] gave.
pub fn pair(store: Store, loaded: Option<Stored>) -> (Saver, Disk) {
    let (sender, orders) = mpsc::channel(QUEUE);
    let disk = Disk { store, orders, copy: loaded.unwrap_or_default() };
    (Saver { orders: sender, behind: false }, disk)
}

impl Saver {
    /// The state is this one now.
    pub fn replace(&mut self, revision: u64, state: &NodeState) {
        let stored = Stored { revision, state: state.clone() };
        self.behind = self.orders.try_send(Order::Replace(Box::new(stored))).is_err();
    }

    /// The state changed; `whole` is what it became.
    pub fn follow(&mut self, revision: u64, changes: Vec<Change>, whole: &NodeState) {
        if self.behind {
            self.replace(revision, whole);
        } else {
            self.behind = self.orders.try_send(Order::Follow { revision, changes }).is_err();
        }
    }

    /// The disk was given less than the state; the next change mends that.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// The symbols are these now. False when the disk lags too far behind to take them.
    pub fn symbols(&self, text: Vec<u8>) -> bool {
        self.orders.try_send(Order::Symbols(text)).is_ok()
    }
}

impl Disk {
    /// Writes until the [`Saver`] is gone and everything it handed over is on disk.
    pub async fn run(mut self) {
        let mut failing = false;
        while let Some(first) = self.orders.recv().await {
            let (mut state, mut symbols) = (false, None);
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Replace(stored) => {
                        self.copy = *stored;
                        state = true;
                    }
                    Order::Follow { revision, changes } => {
                        self.copy.revision = revision;
                        self.copy.state.apply(changes);
                        state = true;
                    }
                    Order::Symbols(text) => symbols = Some(text),
                }
                next = self.orders.try_recv().ok();
            }
            let (store, copy) = (self.store.clone(), std::mem::take(&mut self.copy));
            let written = tokio::task::spawn_blocking(move || {
                let state = if state { store.save(&copy) } else { Ok(()) };
                let symbols = symbols.map_or(Ok(()), |text| store.save_symbols(&text));
                (copy, state.and(symbols))
            });
            // only a panic, or the end of the runtime, leaves no output
            let Ok((copy, outcome)) = written.await else {
                return;
            };
            self.copy = copy;
            match outcome {
                Ok(()) if failing => {
                    info!("the state directory can be written again");
                    failing = false;
                }
                Ok(()) => {}
                // once per failure, not per change: a full disk would fill the log as well
                Err(error) if !failing => {
                    error!(error = chain(&error), "a restart would miss the last changes");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }
}
