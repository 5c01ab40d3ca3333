//! The task that writes files, so that a slow disk holds up no policy.
//!
//! It keeps a copy of the state and follows the same changes as the reconciler, so that handing over a change costs
//! what the change is, not what the state is. What queues up while a file is written goes into the next one together.
//!
//! A state that cannot be saved takes the one saved before with it: a restart without a controller would go back to that
//! one, and remove from the switch what has come since. Without one it leaves the flows as they are. It is tried again by
//! the clock until it succeeds.

use std::future::pending;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info};
use weir_policy::state::{Change, NodeState};
use weir_runtime::backoff::Backoff;

use super::{Store, StoreError, Stored};
use crate::seam::chain;

/// Orders that may wait for the disk. When it lags further behind, it is given the whole state once it has caught up.
const QUEUE: usize = 256;

/// Pauses between attempts at a disk that takes nothing.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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
    trouble: watch::Receiver<Option<String>>,
}

/// The disk's end.
#[derive(Debug)]
pub struct Disk {
    store: Store,
    orders: mpsc::Receiver<Order>,
    copy: Stored,
    trouble: watch::Sender<Option<String>>,
}

/// The two ends; `loaded` is what [`Store::load`] gave.
pub fn pair(store: Store, loaded: Option<Stored>) -> (Saver, Disk) {
    let (sender, orders) = mpsc::channel(QUEUE);
    let (told, trouble) = watch::channel(None);
    let disk = Disk { store, orders, copy: loaded.unwrap_or_default(), trouble: told };
    (Saver { orders: sender, behind: false, trouble }, disk)
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

    /// Why the state is not on disk, while the disk does not take it.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits until [`Self::trouble`] is another.
    pub async fn trouble_changed(&mut self) {
        if self.trouble.changed().await.is_err() {
            // the disk's task has ended, which is its owner's affair
            pending::<()>().await;
        }
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
        // the state is to be written although no order says so
        let mut due = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let (mut state, mut symbols) = (due.is_some(), None);
            let mut next = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => None,
            };
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
                let state = if state { save(&store, &copy) } else { Ok(()) };
                let symbols = symbols.map_or(Ok(()), |text| store.save_symbols(&text));
                (copy, state, symbols)
            });
            // only a panic, or the end of the runtime, leaves no output
            let Ok((copy, saved, symbols)) = written.await else {
                return;
            };
            self.copy = copy;
            due = saved.is_err().then(|| backoff.pause());
            if saved.is_ok() {
                backoff.reset();
            }
            let trouble = saved.as_ref().err().cloned();
            self.trouble.send_if_modified(|old| std::mem::replace(old, trouble.clone()) != trouble);
            match saved.and_then(|()| symbols.map_err(|error| chain(&error))) {
                Ok(()) if failing => {
                    info!("the state directory can be written again");
                    failing = false;
                }
                Ok(()) => {}
                // once per failure, not per change: a full disk would fill the log as well
                Err(error) if !failing => {
                    error!(error, "the state directory cannot be written");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }
}

/// Saves the state, or removes the one before.
///
/// Errors: what happened, in words.
fn save(store: &Store, stored: &Stored) -> Result<(), String> {
    let Err(error) = store.save(stored) else {
        return Ok(());
    };
    let error = chain(&error);
    Err(match store.remove() {
        Ok(()) => format!("{error}; the state saved before is removed, a restart keeps the flows"),
        Err(StoreError::Io { source, .. }) => {
            format!(
                "{error}; nor can the one saved before be removed ({source}), a restart goes back to it"
            )
        }
        Err(other) => format!("{error}; {other}"),
    })
}
