//! Answers to what operators ask of this node.
//!
//! Flows are dumped here and not by the reconciler, so that a look at 100,000 flows delays no policy.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use rust_openflow::FlowStats;
use tokio::sync::{mpsc, oneshot, watch};
use weir_api::v1;

use crate::reconcile::{Ask, Overview};
use crate::seam::{Switch, SwitchError, chain};
use crate::uplink::{Query, UplinkStatus};

pub mod verdict;

use verdict::Connection;

/// One part of an answer. Small enough that others get a word in, see [`weir_api::version::MAX_TO_CONTROLLER`].
/// Units: bytes.
const PART: usize = 256 << 10;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    #[error("{0:?} is none of flows, symbols, state, verdict SRC DST PROTOCOL PORT")]
    Unknown(String),
    #[error("the switch has no port that packets from {0} could come from")]
    NoWayIn(IpAddr),
    #[error("the answer cannot be written")]
    Json(#[from] serde_json::Error),
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
            let connection = query.what.strip_prefix("verdict ").and_then(Connection::parse);
            let outcome = match (query.what.as_str(), connection) {
                (_, Some(connection)) => self.verdict(connection, &mut answer).await,
                ("flows", _) => self.flows(&mut answer).await,
                ("symbols", _) => self.symbols(&mut answer).await,
                ("state", _) => answer.add(&state_text(&self.overview, &self.uplink)).await,
                (other, _) => Err(InspectError::Unknown(other.to_owned())),
            };
            answer.end(outcome).await;
        }
    }

    /// Everything that is installed.
    async fn dump(&self) -> Result<Vec<FlowStats>, InspectError> {
        let session = self.sessions.borrow().clone().ok_or(InspectError::NotConnected)?;
        Ok(session.dump().await?)
    }

    async fn verdict(
        &self,
        connection: Connection,
        answer: &mut Answer<'_>,
    ) -> Result<(), InspectError> {
        // before the dump: a state that is realised meanwhile must not be claimed for it
        let revision = self.overview.borrow().revision;
        let found = verdict::follow(self.dump().await?, connection);
        let mut found = found.ok_or(InspectError::NoWayIn(connection.src))?;
        found.revision = revision;
        answer.add(&serde_json::to_string(&found)?).await
    }

    async fn flows(&self, answer: &mut Answer<'_>) -> Result<(), InspectError> {
        for flow in self.dump().await? {
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
