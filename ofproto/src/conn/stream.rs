//! Replies part by part.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::pending::{Part, more};
use super::{ConnError, Connection};
use crate::message::Message;
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
        let part = self.part().await?.and_then(|frame| self.decode(&frame));
        self.done |= part.is_err();
        Some(part)
    }

    fn decode(&self, frame: &Bytes) -> Result<MultipartBody, ConnError> {
        match Message::decode(frame) {
            Ok((_, Message::MultipartReply(part))) => Ok(part.body),
            Ok((_, other)) => Err(super::unexpected("multipart reply", &other)),
            Err(error) => {
                self.connection.shared.count_malformed(frame, &error);
                Err(error.into())
            }
        }
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
        self.done = !part.as_ref().is_ok_and(more);
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
        let entries = self.parts.part().await?;
        let entries = entries.and_then(|frame| Ok(FlowEntries::of_reply(&frame)?));
        self.parts.done |= entries.is_err();
        Some(entries)
    }
}
