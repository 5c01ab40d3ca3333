//! A directory of ordinary manifests, followed while it changes.
//!
//! `*.yaml`, `*.yml` and `*.json` at any depth, several documents or a `List` per file; names that start with a dot are
//! not looked at, which is where editors and mounted ConfigMaps keep what is not meant to be read directly.
//!
//! # Never a half-written file
//!
//! A file is read when its own event says that its writer is done: it was closed after writing, or moved here. What is
//! on its way is left alone. A file that is gone gets [`REMOVAL_GRACE`] to come back, because editors save by moving the
//! old file away first, and a policy must not be missing for that moment. A file that cannot be read or parsed keeps the
//! objects it had, and so do objects of a document that cannot be understood, and the files of a directory that cannot
//! be read. Policies of a file that is gone stay while something that cannot be read may have them. Files and directories that cannot be opened are tried again by the clock.
//!
//! # Never half a picture
//!
//! At the start there is nothing that a file had. As long as one cannot be read or understood, [`Event::Synced`] is held
//! back: agents keep the state that they have, in which the policies of that file may be in force, and are not told that
//! there are none. A field that is wrong in a policy that can be read holds up nothing; it narrows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir_runtime::backoff::Backoff;
use weir_runtime::ready::Gate;

use super::{Closed, Code, Feed, Warning};
use crate::event::Event;

mod generation;
mod tree;
mod watch;

use tree::Tree;
use watch::{Follower, Seen};

/// How long a file may be gone before its objects are.
pub const REMOVAL_GRACE: Duration = Duration::from_millis(50);

/// Pauses between looks at what is not there or cannot be read.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Why a directory cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    #[error("{path} cannot be read; create it, or correct --source")]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} cannot be watched for changes")]
    Watch { path: PathBuf, source: io::Error },
    #[error("{path} is gone; its objects stay in force until it is back")]
    Gone { path: PathBuf },
}

impl DirError {
    /// What is wrong with the path, without the path.
    fn reason(&self) -> String {
        match self {
            Self::Open { source, .. } => format!("cannot be read: {source}"),
            Self::Watch { source, .. } => format!("cannot be watched for changes: {source}"),
            Self::Gone { .. } => "is gone".to_owned(),
        }
    }

    fn warning(&self) -> Warning {
        let (path, cause) = match self {
            Self::Open { path, source } | Self::Watch { path, source } => {
                (path, source.to_string())
            }
            Self::Gone { path } => (path, String::new()),
        };
        let colon = if cause.is_empty() { "" } else { ": " };
        Warning {
            code: Code::Unreadable,
            object: path.display().to_string(),
            field: String::new(),
            message: format!("{self}{colon}{cause}"),
        }
    }
}

/// How a directory is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a file may be gone before its objects are. [`REMOVAL_GRACE`].
    pub removal_grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { removal_grace: REMOVAL_GRACE }
    }
}

/// Follows a directory until nobody takes the events any more. One that is not there yet, or vanishes, is waited for.
pub async fn run(root: PathBuf, options: Options, feed: Feed, gate: Gate) {
    let mut source = Source { tree: Tree::new(&root), root, options, feed, synced: false, gate };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let error = match source.follow(&mut backoff).await {
            Ok(Closed) => return,
            Err(error) => error,
        };
        let warning = error.warning();
        if !source.tree.has_problem(&warning) {
            tracing::warn!("{}", warning.message);
        }
        if !source.synced {
            source.gate.close(&warning.message);
            source.feed.waits_for(&warning.message);
        }
        source.tree.set_problem(Some(warning));
        source.feed.warn(source.tree.warnings());
        backoff.wait().await;
    }
}

struct Source {
    root: PathBuf,
    options: Options,
    tree: Tree,
    feed: Feed,
    gate: Gate,
    synced: bool,
}

impl Source {
    /// Scans the directory and follows it until that ends.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<Closed, DirError> {
        let mut follower = Follower::new(&self.root, self.options)?;
        let at = Instant::now();
        let root = self.root.clone();
        self.blocking(&mut follower, move |tree, follower| follower.scan(tree, &root)).await?;
        backoff.reset();
        self.tree.set_problem(None);
        if self.publish(at).await.is_err() {
            return Ok(Closed);
        }
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut due = None;
        loop {
            // what cannot be read gives no event when it can be
            due = if !self.tree.has_unread() {
                retry.reset();
                None
            } else {
                due.or_else(|| Some(Instant::now() + retry.pause()))
            };
            let seen = tokio::select! {
                seen = follower.next() => seen?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    follower.again(&self.tree)
                }
            };
            let at = Instant::now();
            self.blocking(&mut follower, move |tree, follower| act(tree, follower, seen)).await?;
            if self.publish(at).await.is_err() {
                return Ok(Closed);
            }
        }
    }

    async fn publish(&mut self, at: Instant) -> Result<(), Closed> {
        let mut events = self.tree.commit();
        self.feed.warn(self.tree.warnings());
        if self.synced {
            return self.feed.send(at, events).await;
        }
        if let Some(problem) = self.tree.incomplete() {
            // What cannot be read may be a policy that was in force before this program started. Whoever follows keeps
            // what it has, instead of being told that there is no such policy.
            self.wait(&problem.to_string());
            return self.feed.send(at, events).await;
        }
        events.push(Event::Synced);
        self.feed.send(at, events).await?;
        self.synced = true;
        self.gate.open();
        self.feed.waits_for("");
        tracing::info!(directory = %self.root.display(), objects = self.tree.len(), "read");
        Ok(())
    }

    /// Says why there is no whole picture yet.
    fn wait(&self, reason: &str) {
        self.gate.close(reason);
        if self.feed.waits_for(reason) {
            tracing::warn!("nobody is told anything before this is mended or deleted: {reason}");
        }
    }

    /// Reads files on a thread where that may take its time.
    async fn blocking(
        &mut self,
        follower: &mut Follower,
        work: impl FnOnce(&mut Tree, &mut watch::Reader) -> Result<(), DirError> + Send + 'static,
    ) -> Result<(), DirError> {
        let mut tree = std::mem::take(&mut self.tree);
        let mut reader = follower.take_reader();
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut tree, &mut reader);
            (tree, reader, result)
        });
        match done.await {
            Ok((tree, reader, result)) => {
                self.tree = tree;
                follower.put_reader(reader);
                result
            }
            Err(error) => match error.try_into_panic() {
                // the state is lost: let the task's owner see it
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Reads what the events speak of.
fn act(tree: &mut Tree, reader: &mut watch::Reader, seen: Vec<Seen>) -> Result<(), DirError> {
    for seen in seen {
        match seen {
            Seen::Written(path) => reader.read(tree, &path),
            Seen::Missing(path) => reader.drop_if_gone(tree, &path),
            Seen::Directory(path) => reader.scan(tree, &path)?,
            Seen::MissingDirectory(path) => reader.drop_under_if_gone(tree, &path),
        }
    }
    Ok(())
}

/// A name that is read: not hidden, and of a known ending.
fn is_manifest(path: &Path) -> bool {
    !is_hidden(path)
        && path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| ["yaml", "yml", "json"].contains(&e))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}
