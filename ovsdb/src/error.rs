//! What can go wrong between us and the server, and what the reaction is.

use std::io;
use std::time::Duration;

use crate::replica::ReplicaError;
use crate::rpc::DecodeError;
use crate::schema::SchemaError;

/// The server's word for a `wait` whose condition does not hold in time.
pub(crate) const TIMED_OUT: &str = "timed out";

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
    /// This client has or wants the lock already.
    #[error("there is a handle on lock {0} already")]
    LockInUse(String),
    /// The table is not among those monitored.
    #[error("table {0} is not monitored")]
    NotMonitored(String),
    /// The server has `monitor` only, which gives all rows of a table.
    #[error("the server cannot monitor a part of table {0}: it has no monitor_cond")]
    NoConditions(String),
    /// `ssl:` without feature `tls` or without certificates in the options.
    #[error("no TLS settings for {0}")]
    NoTls(String),
    /// No bridge has this name.
    #[error("no bridge named {0:?} in the database")]
    NoBridge(String),
    /// The database has no row in table `Open_vSwitch`.
    #[error("table Open_vSwitch is empty: ovs-vsctl init was never run")]
    NotInitialised,
    /// 255 is not a table (OFPTT_ALL); tables are 0 to 254.
    #[error("{0} is not the number of a flow table")]
    TableNumber(u8),
    /// Others kept changing the same column under us.
    #[error("gave up after {attempts} attempts, as others keep changing {what}")]
    Contended {
        /// The table and column.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
}

impl Error {
    /// Why the server refused a request, a transaction's operation or its commit; `None` for other errors.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Operation { error, .. }
            | Self::Commit { error, .. }
            | Self::Refused { error, .. } => Some(Refusal::of(error)),
            _ => None,
        }
    }
}

/// Why a server refuses: its `error` strings.
///
/// Source: RFC 7047, sections 3.1, 4.1.3 and 5.2; the strings as ovsdb-server writes them, OVS `ovsdb/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// `constraint violation`: too few or too many members, a value outside its range, a name that exists.
    ConstraintViolation,
    /// `referential integrity violation`: a reference to a row that is not there, or the deletion of one that is
    /// referred to.
    ReferentialIntegrity,
    /// `timed out`: the condition of a `wait` does not hold.
    TimedOut,
    /// `not owner`: an `assert` of a lock that we do not hold.
    NotOwner,
    /// `aborted`: by `abort`.
    Aborted,
    /// `duplicate uuid-name`: two inserts under one name.
    DuplicateUuidName,
    /// `domain error`: a division by zero.
    DomainError,
    /// `range error`: a number that overflows.
    RangeError,
    /// `not supported`: for instance a durable commit without a file.
    NotSupported,
    /// `not allowed`: a read-only server, or a column that never changes.
    NotAllowed,
    /// `permission error`: role-based access.
    PermissionError,
    /// `resources exhausted`.
    ResourcesExhausted,
    /// `I/O error`: the disk.
    Io,
    /// `canceled`: by `cancel`.
    Cancelled,
    /// `syntax error`: an unknown table, a value of the wrong type.
    SyntaxError,
    /// `unknown column`.
    UnknownColumn,
    /// `unknown database`.
    UnknownDatabase,
    /// `unknown method`.
    UnknownMethod,
    /// Another one; its words are in the error.
    Other,
}

impl Refusal {
    fn of(error: &str) -> Self {
        match error {
            "constraint violation" => Self::ConstraintViolation,
            "referential integrity violation" => Self::ReferentialIntegrity,
            TIMED_OUT => Self::TimedOut,
            "not owner" => Self::NotOwner,
            "aborted" => Self::Aborted,
            // the document's spelling, and the server's
            "duplicate uuid name" | "duplicate uuid-name" => Self::DuplicateUuidName,
            "domain error" => Self::DomainError,
            "range error" => Self::RangeError,
            "not supported" => Self::NotSupported,
            "not allowed" => Self::NotAllowed,
            "permission error" => Self::PermissionError,
            "resources exhausted" => Self::ResourcesExhausted,
            "I/O error" | "IO error" => Self::Io,
            "canceled" => Self::Cancelled,
            "syntax error" => Self::SyntaxError,
            "unknown column" => Self::UnknownColumn,
            "unknown database" => Self::UnknownDatabase,
            "unknown method" => Self::UnknownMethod,
            _ => Self::Other,
        }
    }
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
