//! Change sets for a task of its own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::client::Observer;
use crate::replica::{Changes, Replica};

/// An observer that hands changes to the [`Feed`] made with it.
///
/// While nobody takes them, changes add up to the difference since the last time; they are never more than the rows of
/// two replicas.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use weir_ovsdb::client::{self, TableRequest};
/// use weir_ovsdb::{Options, Target};
///
/// let target: Target = "unix:/var/run/openvswitch/db.sock".parse()?;
/// let (observer, mut feed) = client::feed();
/// let tables = vec![TableRequest::all_columns("Interface")];
/// let (client, driver) = client::connect(target, Options::default(), tables, observer);
/// let follow = async {
///     // the first set holds the initial rows, one after a reconnection what is different
///     while let Some(changes) = feed.next().await {
///         for (uuid, change) in changes.rows("Interface") {
///             println!("{uuid} {:?}: {:?}", change.kind(), change.after());
///         }
///     }
/// };
/// tokio::join!(driver, follow);
/// # drop(client); Ok(()) }
/// ```
pub fn feed() -> (FeedObserver, Feed) {
    let shared = Arc::new(Shared::default());
    (FeedObserver(Arc::clone(&shared)), Feed(shared))
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Changes,
    /// Something was shown since the last time, be it that nothing differs.
    shown: bool,
    stopped: bool,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Pending) -> T) -> T {
        act(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The driver's end of a [`feed()`].
#[derive(Debug)]
pub struct FeedObserver(Arc<Shared>);

impl FeedObserver {
    fn show(&self, changes: &Changes) {
        self.0.with(|pending| {
            pending.changes.merge(changes.clone());
            pending.shown = true;
        });
        self.0.news.notify_one();
    }
}

impl Observer for FeedObserver {
    fn replaced(&mut self, _: &Replica, changes: &Changes) {
        self.show(changes);
    }

    fn changed(&mut self, _: &Replica, changes: &Changes) {
        self.show(changes);
    }
}

impl Drop for FeedObserver {
    fn drop(&mut self) {
        self.0.with(|pending| pending.stopped = true);
        self.0.news.notify_one();
    }
}

/// The receiving end of a [`feed()`].
#[derive(Debug)]
pub struct Feed(Arc<Shared>);

impl Feed {
    /// All that changed since the last time; empty where it was undone meanwhile, or where a new connection brought the
    /// same rows. `None` when the driver is gone and all was taken.
    ///
    /// Cancel safe: changes stay until they are returned.
    pub async fn next(&mut self) -> Option<Changes> {
        loop {
            let (changes, stopped) = self.0.with(|pending| {
                let shown = std::mem::take(&mut pending.shown);
                (shown.then(|| std::mem::take(&mut pending.changes)), pending.stopped)
            });
            match changes {
                Some(changes) => return Some(changes),
                None if stopped => return None,
                None => self.0.news.notified().await,
            }
        }
    }
}
