//! The three things outside the agent that its reconciler acts on: the switch, its database, the controller.
//!
//! What they *say* arrives by channels (sessions, pictures, events); these traits are what is *asked* of them. Tests
//! replace them here and nowhere else.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use rust_openflow::{FlowMod, FlowStats, PacketOut};

use crate::uplink::{Outbox, Report};

/// One connection to the switch. When it is lost it stays lost: what was planned on one connection can never reach the
/// tables of the next, which may be empty.
#[cfg_attr(test, mockall::automock)]
pub trait Switch: Send + Sync + 'static {
    /// All flows of the bridge.
    ///
    /// Errors: [`SwitchError`] when there was no answer.
    fn dump(&self) -> impl Future<Output = Result<Vec<FlowStats>, SwitchError>> + Send;

    /// Makes all changes at once or none, and returns when they are in force.
    ///
    /// Errors: [`CommitError`].
    fn commit(
        &self,
        changes: Arc<Vec<FlowMod>>,
    ) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// Sends packets of our own through the switch, and returns when it has dealt with them.
    ///
    /// Errors: [`SwitchError`] when there was no answer.
    fn inject(
        &self,
        packets: Vec<PacketOut>,
    ) -> impl Future<Output = Result<(), SwitchError>> + Send;
}

/// The switch's database.
#[cfg_attr(test, mockall::automock)]
pub trait Ovsdb: Send + Sync + 'static {
    /// Gives the tables of a bridge their names.
    ///
    /// Errors: those of the database.
    fn name_tables(
        &self,
        bridge: &str,
        names: &BTreeMap<u8, String>,
    ) -> impl Future<Output = Result<(), weir_ovsdb::Error>> + Send;

    /// Sets `fail_mode` of a bridge to `secure`.
    ///
    /// Errors: those of the database.
    fn make_secure(
        &self,
        bridge: &str,
    ) -> impl Future<Output = Result<(), weir_ovsdb::Error>> + Send;
}

/// The way back to the controller.
#[cfg_attr(test, mockall::automock)]
pub trait Uplink: Send + Sync + 'static {
    /// Says what is in force. Never waits: what cannot be sent now is merged with what comes later.
    fn report(&self, report: Report);
}

/// The switch gave no answer: the connection is lost, or as good as lost.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the switch")]
pub struct SwitchError {
    pub source: Box<dyn Error + Send + Sync>,
}

/// Why a change set is not, or may not be, in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing was changed, because of this change.
    #[error("the switch refused change {index}: {reason}")]
    Refused {
        /// Into the change set, from 0.
        index: usize,
        /// The switch's words, for instance `OFPFMFC_TABLE_FULL`.
        reason: String,
    },
    /// Nothing was changed, and no single change is to blame.
    #[error("the switch refused the bundle: {reason}")]
    Rejected { reason: String },
    /// All of it may be in force, or none.
    #[error("nobody knows whether the changes are in force")]
    Unknown(#[from] SwitchError),
}

impl Uplink for Outbox {
    fn report(&self, report: Report) {
        self.push(report);
    }
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // some layers repeat their cause in their own words
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
