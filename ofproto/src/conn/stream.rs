//! Replies part by part.

use tokio::sync::mpsc;

use super::pending::{Body, Part};
use super::{ConnError, Connection};
use crate::multipart::{FlowEntries, FlowStats, MultipartBody};

/// The parts of a multipart reply, as they come.
///
/// A few parts wait here for the caller; when no more fit, nothing further is read from the switch, also no other
/// reply, until one is taken. So take parts without waiting for other answers of the same connection in between.
/// Nobody holds the connection up for longer than [`Options::echo_interval`](super::Options::echo_interval): then the
/// stream ends with [`ConnError::NotTaken`]. Dropping it is fine at any time.
#[derive(Debug)]
pub struct MultipartStream {
    connection: Connection,
    xid: u32,
    parts: mpsc::Receiver<Part>,
    done: bool,
}

impl MultipartStream {
    pub(super) fn new(connection: Connection, xid: u32, parts: mpsc::Receiver<Part>) -> Self {
        Self { connection, xid, parts, done: false }
    }

    /// The next part; `None` behind the last one and behind an error.
    ///
    /// Errors: [`ConnError::Refused`]; [`ConnError::Timeout`] when no part comes for as long as a request may take;
    /// [`ConnError::NotTaken`]; [`ConnError::Closed`]; [`ConnError::Decode`].
    pub async fn next(&mut self) -> Option<Result<MultipartBody, ConnError>> {
        Some(match self.part().await? {
            Ok(Body::Values(part)) => Ok(part.body),
            Ok(Body::Frame(_)) => Err(ConnError::UnexpectedBody { expected: "decoded part" }),
            Err(error) => Err(error),
        })
    }

    async fn part(&mut self) -> Option<Part> {
        if self.done {
            return None;
        }
        let timeout = self.connection.shared.options.request_timeout;
        let part = match tokio::time::timeout(timeout, self.parts.recv()).await {
            Ok(Some(part)) => part,
            Ok(None) if self.connection.shared.ended() => Err(self.connection.shared.closed()),
            Ok(None) => Err(ConnError::NotTaken),
            Err(_) => Err(ConnError::Timeout { what: "next part of the reply" }),
        };
        self.done = !part.as_ref().is_ok_and(Body::more);
        Some(part)
    }
}

impl Drop for MultipartStream {
    fn drop(&mut self) {
        self.connection.shared.forget(self.xid);
    }
}

/// The flows of a dump, part by part: see [`MultipartStream`], which this is.
#[derive(Debug)]
pub struct FlowStream {
    parts: MultipartStream,
}

impl FlowStream {
    pub(super) fn new(parts: MultipartStream) -> Self {
        Self { parts }
    }

    /// The next flows, some 64 KiB of them as they were sent; `None` behind the last ones and behind an error. A part
    /// may be empty.
    ///
    /// Errors: as [`MultipartStream::next`].
    pub async fn next(&mut self) -> Option<Result<Vec<FlowStats>, ConnError>> {
        Some(match self.parts.next().await? {
            Ok(MultipartBody::Flow(flows)) => Ok(flows),
            Ok(_) => {
                self.parts.done = true;
                Err(ConnError::UnexpectedBody { expected: "flow statistics" })
            }
            Err(error) => Err(error),
        })
    }
}

/// The flows of a dump, part by part and not decoded: see [`MultipartStream`], which this is.
#[derive(Debug)]
pub struct FlowEntryStream {
    parts: MultipartStream,
}

impl FlowEntryStream {
    pub(super) fn new(parts: MultipartStream) -> Self {
        Self { parts }
    }

    /// The next flows; `None` behind the last ones and behind an error. A part may be empty.
    ///
    /// Errors: as [`MultipartStream::next`].
    pub async fn next(&mut self) -> Option<Result<FlowEntries, ConnError>> {
        let entries = self.parts.part().await?.and_then(|part| match part {
            Body::Frame(frame) => Ok(FlowEntries::of_reply(&frame)?),
            Body::Values(_) => Err(ConnError::UnexpectedBody { expected: "flow statistics" }),
        });
        self.parts.done |= entries.is_err();
        Some(entries)
    }
}
