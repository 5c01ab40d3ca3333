//! All flows of a dump. The driver reads, the caller decodes; a driver that gets ahead of its caller helps.
//!
//! Open vSwitch makes the whole of a dump before it sends the first part, and then sends faster than one thread decodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::pending::{self, Shared};
use super::{ConnError, Connection};
use crate::message::Message;
use crate::multipart::{
    FlowStats, FlowStatsRequest, MAX_REPLY_BYTES, MultipartBody, MultipartReply, MultipartRequest,
    ReassemblyError, append_flows,
};

/// Parts that wait for the caller before the driver decodes further ones itself.
const BEHIND: usize = 2;

/// What a dump is given.
type Part = Result<Body, ConnError>;

/// One part of the reply.
pub(super) enum Body {
    /// By the driver.
    Values(MultipartReply),
    /// The whole message, for the caller to decode.
    Frame(Bytes),
}

impl Body {
    fn more(&self) -> bool {
        match self {
            Self::Values(part) => part.more(),
            Self::Frame(frame) => pending::more(frame),
        }
    }
}

/// What a part that waits takes beside its bytes, at least.
const OVERHEAD: usize = size_of::<Part>();

pub(super) async fn flows(
    connection: &Connection,
    request: FlowStatsRequest,
) -> Result<Vec<FlowStats>, ConnError> {
    let shared = &connection.shared;
    let xid = shared.allocate(1);
    let mut frame = BytesMut::new();
    Message::MultipartRequest(MultipartRequest::Flow(request)).encode(xid, &mut frame)?;
    let dump = Dump { shared, xid, state: shared.wait_for_dump(xid) };
    connection.write(frame.freeze()).await?;
    tokio::time::timeout(shared.options.request_timeout, dump.collect())
        .await
        .unwrap_or(Err(ConnError::Timeout { what: "reply" }))
}

/// A dump under way; forgets itself when dropped.
struct Dump<'a> {
    shared: &'a Shared,
    xid: u32,
    state: Arc<DumpState>,
}

impl Drop for Dump<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.xid);
    }
}

impl Dump<'_> {
    async fn collect(&self) -> Result<Vec<FlowStats>, ConnError> {
        let (mut flows, mut parts) = (Vec::new(), 0_usize);
        loop {
            let part = self.state.next().await.ok_or_else(|| self.shared.closed())??;
            let more = part.more();
            let decoded = match part {
                Body::Frame(frame) => self.decode(&frame, &mut flows)?,
                Body::Values(MultipartReply { body: MultipartBody::Flow(part), .. }) => {
                    flows.extend(part);
                    true
                }
                Body::Values(_) => false,
            };
            match (decoded, parts) {
                (true, _) => {}
                (false, 0) => {
                    return Err(ConnError::UnexpectedBody { expected: "flow statistics" });
                }
                (false, _) => return Err(ReassemblyError::KindChanged.into()),
            }
            parts += 1;
            if !more {
                return Ok(flows);
            }
            // The driver may share this thread.
            tokio::task::yield_now().await;
        }
    }

    /// Whether it was a part with flows.
    fn decode(&self, frame: &Bytes, flows: &mut Vec<FlowStats>) -> Result<bool, ConnError> {
        let decoded = match append_flows(frame, flows) {
            // Of another kind: what is said of it must not depend on who decodes it.
            Ok(false) => Message::decode(frame).map(|_| false),
            decoded => decoded,
        };
        decoded.map_err(|error| {
            self.shared.count_malformed(frame, &error);
            error.into()
        })
    }
}

/// The parts of one dump that have come and were not taken.
#[derive(Default)]
pub(super) struct DumpState {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    parts: VecDeque<Part>,
    /// Of all parts, also those that were taken.
    bytes: usize,
    ended: bool,
}

impl DumpState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller has enough to do.
    pub(super) fn is_behind(&self) -> bool {
        self.inner().parts.len() >= BEHIND
    }

    /// Takes a part of `bytes` bytes; whether others may follow.
    pub(super) fn push(&self, part: Part, bytes: usize) -> bool {
        let mut inner = self.inner();
        inner.bytes = inner.bytes.saturating_add(bytes).saturating_add(OVERHEAD);
        let part = if inner.bytes > MAX_REPLY_BYTES {
            Err(ReassemblyError::TooLong { limit: MAX_REPLY_BYTES }.into())
        } else {
            part
        };
        let more = part.as_ref().is_ok_and(Body::more);
        inner.parts.push_back(part);
        drop(inner);
        self.changed.notify_one();
        more
    }

    pub(super) fn end(&self) {
        self.inner().ended = true;
        self.changed.notify_one();
    }

    /// The next part; `None` when the connection has ended and none is left.
    async fn next(&self) -> Option<Part> {
        loop {
            {
                let mut inner = self.inner();
                if let Some(part) = inner.parts.pop_front() {
                    return Some(part);
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
