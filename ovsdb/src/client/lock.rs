//! Locks: what callers want to hold, and what the session of the moment has asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::error::{Error, Result};

/// How far we are with a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockState {
    /// There is no connection, or another client holds the lock and we wait in the server's queue.
    Waiting,
    /// We hold it.
    Held,
    /// Another client has taken it from us; we wait in the server's queue again.
    Stolen,
    /// The server does not take the request, for instance as the name is no identifier.
    Refused {
        /// The server's `error` string.
        error: String,
        /// The server's `details`, where it gave some.
        details: Option<String>,
    },
}

/// A lock in the server, wanted until this is dropped. Made by [`Client::lock`](crate::client::Client::lock) and
/// [`Client::steal`](crate::client::Client::steal).
///
/// The server frees the locks of a connection that ends. This asks for it again on the next one, so a lock may be lost
/// and come back: **put an [`Operation::Assert`](crate::op::Operation::Assert) into each transaction that relies on
/// it**.
///
/// Source: RFC 7047, sections 4.1.8 to 4.1.10.
#[derive(Debug)]
pub struct Lock {
    name: String,
    generation: u64,
    state: watch::Receiver<LockState>,
    connected: watch::Receiver<bool>,
    locks: Arc<Locks>,
}

impl Lock {
    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far we are now.
    pub fn state(&self) -> LockState {
        self.state.borrow().clone()
    }

    /// The state as it changes.
    pub fn watch(&self) -> watch::Receiver<LockState> {
        self.state.clone()
    }

    /// Waits until we hold it.
    ///
    /// Errors: [`Error::Refused`] by the server, [`Error::Stopped`].
    pub async fn held(&self) -> Result<()> {
        let mut state = self.state.clone();
        let decided =
            |state: &LockState| matches!(state, LockState::Held | LockState::Refused { .. });
        let state = state.wait_for(decided).await.map_err(|_| Error::Stopped)?;
        match &*state {
            LockState::Refused { error, details } => {
                let (method, error, details) = ("lock".to_owned(), error.clone(), details.clone());
                Err(Error::Refused { method, error, details })
            }
            _ => Ok(()),
        }
    }

    /// Gives it back, and returns when the server has said so or the connection has ended. Dropping does the same
    /// without waiting.
    pub async fn release(mut self) {
        let (done, released) = oneshot::channel();
        self.locks.release(&self.name, self.generation, Some(done));
        let lost = self.connected.wait_for(|connected| !connected);
        tokio::select! {
            _ = released => {}
            _ = lost => {}
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.release(&self.name, self.generation, None);
    }
}

/// What the callers want, shared between them and the driver.
#[derive(Debug, Default)]
pub(super) struct Locks {
    wanted: Mutex<Wanted>,
    /// Wakes the driver.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) slots: BTreeMap<String, Slot>,
    /// Handles given up since the driver last looked, with those who wait for it.
    pub(super) released: Vec<(String, u64, Option<oneshot::Sender<()>>)>,
    generations: u64,
    /// The driver is gone.
    stopped: bool,
}

/// A lock that somebody wants.
#[derive(Debug)]
pub(super) struct Slot {
    /// Tells it from earlier handles on the same name.
    pub(super) generation: u64,
    /// To be stolen; until that was done once.
    pub(super) steal: bool,
    pub(super) state: watch::Sender<LockState>,
}

impl Locks {
    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // what a panicking holder leaves is whole: each change is one assignment
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors: [`Error::LockInUse`].
    pub(super) fn want(
        self: &Arc<Self>,
        name: &str,
        steal: bool,
        connected: watch::Receiver<bool>,
    ) -> Result<Lock> {
        let mut wanted = self.wanted();
        if wanted.slots.contains_key(name) {
            return Err(Error::LockInUse(name.to_owned()));
        }
        wanted.generations += 1;
        let generation = wanted.generations;
        let (send, state) = watch::channel(LockState::Waiting);
        if !wanted.stopped {
            wanted.slots.insert(name.to_owned(), Slot { generation, steal, state: send });
        }
        drop(wanted);
        self.changed.notify_one();
        Ok(Lock { name: name.to_owned(), generation, state, connected, locks: Arc::clone(self) })
    }

    fn release(&self, name: &str, generation: u64, done: Option<oneshot::Sender<()>>) {
        let mut wanted = self.wanted();
        if wanted.slots.get(name).is_some_and(|slot| slot.generation == generation) {
            wanted.slots.remove(name);
            wanted.released.push((name.to_owned(), generation, done));
            drop(wanted);
            self.changed.notify_one();
        }
    }

    /// The connection ended: nothing is held, and who waits for a release has it.
    pub(super) fn lost(&self) {
        let mut wanted = self.wanted();
        wanted.released.clear();
        for slot in wanted.slots.values() {
            slot.state.send_if_modified(|state| {
                let news = matches!(state, LockState::Held | LockState::Stolen);
                if news {
                    *state = LockState::Waiting;
                }
                news
            });
        }
    }

    /// The driver is gone: nothing is held and nothing will be.
    pub(super) fn stop(&self) {
        self.lost();
        let mut wanted = self.wanted();
        wanted.stopped = true;
        wanted.slots.clear();
    }

    /// Tells the holder of a lock its state.
    pub(super) fn tell(&self, name: &str, generation: u64, state: LockState) {
        let mut wanted = self.wanted();
        if let Some(slot) = wanted.slots.get_mut(name)
            && slot.generation == generation
        {
            // what was got once is not taken away from others again and again
            slot.steal &= state != LockState::Held;
            slot.state.send_replace(state);
        }
    }
}
