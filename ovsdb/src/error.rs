//! What can go wrong between us and the server, and what the reaction is.

use std::io;
use std::time::Duration;

use crate::replica::ReplicaError;
use crate::rpc::DecodeError;
use crate::schema::SchemaError;

/// The result of this crate's requests.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request failed or a connection ended.
///
/// The [`Driver`](crate::Driver) handles the ones that end a connection itself (it logs them and connects again);
/// callers of a request see the others.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection with a full replica now; the request was not sent.
    #[error("not connected to the database")]
    NotConnected,
    /// The connection ended after the request was handed over; whether it took effect is unknown.
    #[error("the connection ended before the answer came; the outcome is unknown")]
    Disconnected,
    /// The [`Driver`](crate::Driver) was dropped.
    #[error("the driver of this client is gone")]
    Stopped,
    /// The socket could not be opened.
    #[error("cannot connect to {target}")]
    Connect {
        /// The address as given.
        target: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("input or output on the connection failed")]
    Io(#[from] io::Error),
    /// The server closed the connection between two messages.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing usable came within the time allowed.
    #[error("no {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The time allowed.
        after: Duration,
    },
    /// The bytes received are no acceptable JSON.
    #[error("undecodable bytes from the server")]
    Decode(#[from] DecodeError),
    /// The messages received do not follow the protocol.
    #[error("the server broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// The schema cannot be read, or lacks what we need.
    #[error("unusable schema")]
    Schema(#[from] SchemaError),
    /// An update does not fit the replica, which is then thrown away.
    #[error("an update does not fit the replica")]
    Replica(#[from] ReplicaError),
    /// The server ended the monitor, for instance since the schema was converted.
    #[error("the server cancelled the monitor")]
    MonitorCancelled,
    /// The server refused a request as a whole.
    #[error("the server refused {method}: {error}{}", detail(details))]
    Refused {
        /// The JSON-RPC method.
        method: String,
        /// The server's `error` string.
        error: String,
        /// The server's `details`, where it gave some.
        details: Option<String>,
    },
    /// One operation of a transaction failed; nothing took effect.
    #[error("operation {index} failed: {error}{}", detail(details))]
    Operation {
        /// Position in the transaction, from 0.
        index: usize,
        /// The server's `error` string, for instance `timed out` for a `wait`.
        error: String,
        /// The server's `details`, where it gave some.
        details: Option<String>,
    },
    /// All operations succeeded and the commit failed (a constraint, the disk); nothing took effect.
    #[error("commit failed: {error}{}", detail(details))]
    Commit {
        /// The server's `error` string, for instance `referential integrity violation`.
        error: String,
        /// The server's `details`, where it gave some.
        details: Option<String>,
    },
    /// The request is larger than a connection's output may be.
    #[error("a request of {size} bytes exceeds the limit of {limit}")]
    RequestTooLarge {
        /// Units: bytes.
        size: usize,
        /// Units: bytes.
        limit: usize,
    },
    /// No bridge has this name.
    #[error("no bridge named {0:?} in the database")]
    NoBridge(String),
    /// 255 is not a table (OFPTT_ALL); tables are 0 to 254.
    #[error("{0} is not the number of a flow table")]
    TableNumber(u8),
    /// Others kept changing the same column under us.
    #[error("gave up after {attempts} attempts, as others keep changing {what}")]
    Contended {
        /// The table and column.
        what: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
}

/// How a server broke the protocol. Nothing of what it sent is repeated here, only its kind or a short name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message is neither request nor notification nor response.
    #[error("message with {0}")]
    Message(&'static str),
    /// A response to something we never asked.
    #[error("response to an unknown request id")]
    UnknownId,
    /// A notification's parameters have the wrong form.
    #[error("malformed parameters of {0}")]
    Params(&'static str),
    /// An update for a monitor that is not ours, or before its first reply.
    #[error("update for an unknown monitor")]
    UnknownMonitor,
    /// Table updates have the wrong form.
    #[error("malformed table updates: {0}")]
    Updates(&'static str),
    /// A transaction's result list has the wrong form.
    #[error("malformed transaction result: {0}")]
    Results(&'static str),
    /// The server sends requests faster than it reads the answers.
    #[error("more than {limit} bytes of answers wait for the server to read them")]
    OutputOverflow {
        /// Units: bytes.
        limit: usize,
    },
}

fn detail(details: &Option<String>) -> String {
    details.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}
