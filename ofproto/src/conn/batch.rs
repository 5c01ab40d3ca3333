//! Many messages without answers, and one barrier behind them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::{BatchError, CHUNK, ConnError, Connection, Refusal};
use crate::error_msg::ErrorMsg;
use crate::flow_mod::FlowMod;
use crate::header::message;
use crate::message::{Message, kind};

pub(super) async fn run(connection: &Connection, mods: &[FlowMod]) -> Result<(), BatchError> {
    if mods.is_empty() {
        return Ok(());
    }
    let shared = &connection.shared;
    let n = super::xids(mods.len()).map_err(ConnError::from)?;
    let first = shared.allocate(n + 1);
    let chunks = encode(first, n, mods).await?;
    let batch = Batch { connection, first, state: shared.wait_for_batch(first, n) };
    let send_and_wait = async {
        for chunk in chunks {
            connection.write(chunk).await?;
        }
        batch.state.finished().await.unwrap_or_else(|| Err(shared.closed()))
    };
    let (refused, total) = tokio::time::timeout(shared.options.bundle_timeout, send_and_wait)
        .await
        .unwrap_or(Err(ConnError::Timeout { what: "barrier reply" }))?;
    if total == 0 { Ok(()) } else { Err(BatchError::Refused { refused, total }) }
}

/// Encodes everything before any of it is sent: what has no encoding costs the switch nothing.
async fn encode(first: u32, n: u32, mods: &[FlowMod]) -> Result<Vec<Bytes>, BatchError> {
    let mut chunks = Vec::new();
    let mut out = BytesMut::with_capacity(2 * CHUNK);
    for ((index, flow_mod), xid) in mods.iter().enumerate().zip(first..) {
        message(&mut out, kind::FLOW_MOD, xid, |out| flow_mod.encode_body(out))
            .map_err(|source| BatchError::Encode { index, source })?;
        if out.len() >= CHUNK {
            chunks.push(out.split().freeze());
            // Other tasks have their turn in between.
            tokio::task::yield_now().await;
        }
    }
    Message::BarrierRequest.encode(first + n, &mut out).map_err(ConnError::from)?;
    chunks.push(out.freeze());
    Ok(chunks)
}

/// Forgets itself when dropped.
struct Batch<'a> {
    connection: &'a Connection,
    first: u32,
    state: std::sync::Arc<BatchState>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.connection.shared.forget(self.first);
    }
}

/// What has come back for one batch.
pub(super) struct BatchState {
    first: u32,
    n: u32,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    refused: BTreeMap<usize, ErrorMsg>,
    total: usize,
    /// A message for it that could not be decoded.
    malformed: Option<ConnError>,
    finished: bool,
    ended: bool,
}

impl BatchState {
    /// `n` messages from `first` on, and the barrier behind them.
    pub(super) fn new(first: u32, n: u32) -> Self {
        Self { first, n, inner: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn xids(&self) -> u32 {
        self.n.saturating_add(1)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message `offset` behind the first xid; back if a batch does not expect its kind.
    pub(super) fn deliver(&self, offset: u32, message: Message) -> Option<Message> {
        let mut inner = self.inner();
        match message {
            Message::Error(error) if offset < self.n => {
                inner.total += 1;
                inner.refused.entry(offset as usize).or_insert(error);
                if inner.refused.len() > BatchError::MAX_REFUSALS {
                    inner.refused.pop_last();
                }
            }
            Message::BarrierReply if offset == self.n => {
                inner.finished = true;
                drop(inner);
                self.changed.notify_one();
            }
            other => return Some(other),
        }
        None
    }

    /// What was refused cannot be told any more.
    pub(super) fn fail(&self, error: ConnError) {
        let mut inner = self.inner();
        inner.malformed.get_or_insert(error);
        // The malformed message may have been the barrier's.
        drop(inner);
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        self.inner().ended = true;
        self.changed.notify_one();
    }

    /// Waits for the barrier; what was refused before it. `None` when the connection has ended.
    async fn finished(&self) -> Option<Result<(Vec<Refusal>, usize), ConnError>> {
        loop {
            {
                let mut inner = self.inner();
                if let Some(error) = inner.malformed.take() {
                    return Some(Err(error));
                }
                if inner.finished {
                    let refused = std::mem::take(&mut inner.refused);
                    let refused = refused.into_iter();
                    let refused = refused.map(|(index, error)| Refusal { index, error }).collect();
                    return Some(Ok((refused, inner.total)));
                }
                if inner.ended {
                    return None;
                }
            }
            // One waiter only, and `notify_one` keeps its permit: no change is missed.
            self.changed.notified().await;
        }
    }
}

impl std::fmt::Debug for BatchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchState").field("first", &self.first).finish_non_exhaustive()
    }
}
