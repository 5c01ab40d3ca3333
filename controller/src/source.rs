//! Where events come from.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::event::Event;

pub mod dir;
pub mod kube;

/// Batches that may wait for the index. Few: a source that is ahead of the index gains nothing by going on, and while it
/// waits it can put more changes into one batch.
pub const QUEUE: usize = 16;

/// What a source saw at one time: one change of the picture.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When the source saw it; latencies count from here.
    pub at: Instant,
    pub events: Vec<Event>,
}

/// What kind of thing a warning is about. The words are for programs, and stay what they are (`docs/warnings.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A workload claims an address that something else has.
    AddressTaken,
    /// Two objects are one by name or identity; one of them is in force.
    Duplicate,
    /// A part of an object is not in force as written.
    InvalidField,
    /// A kind cannot be listed, or is not served.
    KindUnavailable,
    /// An object is gone, and stays in force, as it may be in what cannot be read.
    Kept,
    /// An object cannot be used at all.
    Rejected,
    /// A policy selects no pod and no workload.
    SelectsNothing,
    /// A file, a directory, or a part of one cannot be read.
    Unreadable,
}

impl Code {
    /// In the order of their words.
    pub const ALL: [Self; 8] = [
        Self::AddressTaken,
        Self::Duplicate,
        Self::InvalidField,
        Self::KindUnavailable,
        Self::Kept,
        Self::Rejected,
        Self::SelectsNothing,
        Self::Unreadable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressTaken => "address-taken",
            Self::Duplicate => "duplicate",
            Self::InvalidField => "invalid-field",
            Self::KindUnavailable => "kind-unavailable",
            Self::Kept => "kept",
            Self::Rejected => "rejected",
            Self::SelectsNothing => "selects-nothing",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Something that does not mean what its author thinks: a bad field, a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    pub code: Code,
    /// `NetworkPolicy shop/db`, or the file.
    pub object: String,
    /// `spec.ingress[0].from[1].ipBlock.cidr`, or the line.
    pub field: String,
    pub message: String,
}

/// All warnings that hold now.
pub type Warnings = Arc<[Warning]>;

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, message, .. } = self;
        let colon = if field.is_empty() { "" } else { ": " };
        write!(f, "{object}: {field}{colon}{message}")
    }
}

/// A source's end of the line.
#[derive(Debug)]
pub struct Feed {
    batches: mpsc::Sender<Batch>,
    warnings: watch::Sender<Warnings>,
    waits_for: watch::Sender<String>,
}

/// The index' end of the line.
#[derive(Debug)]
pub struct Intake {
    pub batches: mpsc::Receiver<Batch>,
    pub warnings: watch::Receiver<Warnings>,
    /// What keeps the source from having told everything; empty when nothing is known to.
    pub waits_for: watch::Receiver<String>,
}

/// The index is gone, and nobody is left to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody takes the events any more")]
pub struct Closed;

/// A line from a source to the index.
pub fn line() -> (Feed, Intake) {
    let (batch_tx, batch_rx) = mpsc::channel(QUEUE);
    let (warning_tx, warning_rx) = watch::channel(Warnings::from([]));
    let (wait_tx, wait_rx) = watch::channel(String::new());
    let feed = Feed { batches: batch_tx, warnings: warning_tx, waits_for: wait_tx };
    (feed, Intake { batches: batch_rx, warnings: warning_rx, waits_for: wait_rx })
}

impl Feed {
    /// Hands over a batch; nothing happens for an empty one.
    ///
    /// Errors: [`Closed`].
    pub async fn send(&self, at: Instant, events: Vec<Event>) -> Result<(), Closed> {
        if events.is_empty() {
            return Ok(());
        }
        self.batches.send(Batch { at, events }).await.map_err(|_| Closed)
    }

    /// Replaces the warnings.
    pub fn warn(&self, warnings: Vec<Warning>) {
        self.warnings.send_if_modified(|old| {
            let changed = **old != *warnings;
            if changed {
                *old = warnings.into();
            }
            changed
        });
    }

    /// Says what keeps the source from having told everything, or by an empty text that nothing does; whether that is
    /// news.
    pub fn waits_for(&self, reason: &str) -> bool {
        self.waits_for.send_if_modified(|old| {
            let changed = old != reason;
            if changed {
                reason.clone_into(old);
            }
            changed
        })
    }
}
