//! Answers to what operators ask of this node.
//!
//! Flows are dumped here and not by the reconciler, so that a look at 100,000 flows delays no policy.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use weir_api::v1;

use crate::reconcile::{Ask, Overview};
use crate::seam::{Switch, SwitchError, chain};
use crate::uplink::{Query, UplinkStatus};

/// One part of an answer. Small enough that others get a word in, see [`weir_api::version::MAX_TO_CONTROLLER`].
/// Units: bytes.
const PART: usize = 256 << 10;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    #[error("{0:?} is none of flows, symbols, state")]
    Unknown(String),
    #[error("the agent has no connection to the switch")]
    NotConnected,
    #[error("the flows could not be dumped")]
    Dump(#[from] SwitchError),
    #[error("the agent is stopping")]
    Stopping,
    /// The stream is gone, so nobody waits for the rest.
    #[error("the asker is gone")]
    Gone,
}

/// Answers questions, one after another.
#[derive(Debug)]
pub struct Inspector<S> {
    pub queries: mpsc::Receiver<Query>,
    pub sessions: watch::Receiver<Option<Arc<S>>>,
    pub asks: mpsc::Sender<Ask>,
    pub overview: watch::Receiver<Overview>,
    pub uplink: watch::Receiver<UplinkStatus>,
}

impl<S: Switch> Inspector<S> {
    /// Runs until nobody can ask any more.
    pub async fn run(mut self) {
        while let Some(query) = self.queries.recv().await {
            let mut answer = Answer { query: &query, part: String::new() };
            let outcome = match query.what.as_str() {
                "flows" => self.flows(&mut answer).await,
                "symbols" => self.symbols(&mut answer).await,
                "state" => answer.add(&state_text(&self.overview, &self.uplink)).await,
                other => Err(InspectError::Unknown(other.to_owned())),
            };
            answer.end(outcome).await;
        }
    }

    async fn flows(&self, answer: &mut Answer<'_>) -> Result<(), InspectError> {
        let session = self.sessions.borrow().clone().ok_or(InspectError::NotConnected)?;
        for flow in session.dump().await? {
            // a String takes everything
            let _ = writeln!(answer.part, "{flow}");
            answer.flush_full().await?;
        }
        Ok(())
    }

    async fn symbols(&self, answer: &mut Answer<'_>) -> Result<(), InspectError> {
        let (reply, text) = oneshot::channel();
        self.asks.send(Ask::Symbols(reply)).await.map_err(|_| InspectError::Stopping)?;
        answer.add(&text.await.map_err(|_| InspectError::Stopping)?).await
    }
}

/// The agent's state, as `/debug/state` and the query `state` show it.
pub fn state_text(
    overview: &watch::Receiver<Overview>,
    uplink: &watch::Receiver<UplinkStatus>,
) -> String {
    let mut text = overview.borrow().to_string();
    let uplink = uplink.borrow();
    let how = if uplink.connected { "connected" } else { "away" };
    let _ = writeln!(text, "controller: {} {how}", uplink.controller);
    if let Some(error) = &uplink.last_error {
        let _ = writeln!(text, "controller error: {error}");
    }
    text
}

/// An answer on its way, in parts.
struct Answer<'a> {
    query: &'a Query,
    part: String,
}

impl Answer<'_> {
    /// Adds whole lines, and sends what makes a part.
    async fn add(&mut self, text: &str) -> Result<(), InspectError> {
        for line in text.split_inclusive('\n') {
            self.part.push_str(line);
            self.flush_full().await?;
        }
        Ok(())
    }

    async fn flush_full(&mut self) -> Result<(), InspectError> {
        if self.part.len() < PART {
            return Ok(());
        }
        let answer = self.message(false, String::new());
        self.query.reply.send(answer).await.map_err(|_| InspectError::Gone)
    }

    /// Sends the rest, or why there is none.
    async fn end(mut self, outcome: Result<(), InspectError>) {
        let error = match outcome {
            Ok(()) => String::new(),
            Err(InspectError::Gone) => return,
            Err(error) => chain(&error),
        };
        let answer = self.message(true, error);
        // nobody waits any more: nothing to be told to anyone
        drop(self.query.reply.send(answer).await);
    }

    fn message(&mut self, last: bool, error: String) -> v1::AgentMessage {
        let data = Bytes::from(std::mem::take(&mut self.part));
        let answer = v1::Answer { query: self.query.id, data, last, error };
        v1::AgentMessage { kind: Some(v1::agent_message::Kind::Answer(answer)) }
    }
}

#[cfg(test)]
mod tests;
