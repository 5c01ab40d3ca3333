//! What can go wrong with a connection.

use crate::error::{DecodeError, EncodeError};
use crate::error_msg::ErrorMsg;
use crate::multipart::ReassemblyError;

/// Why a request had no answer, or a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnError {
    /// The switch could not be reached.
    #[error("cannot connect to {target}")]
    Connect {
        /// Where it should be.
        target: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The switch offers no OpenFlow 1.3.
    #[error("switch speaks no OpenFlow 1.3: {reason}")]
    NoCommonVersion {
        /// What it offers, or what it said.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("connection broken")]
    Io(#[from] std::io::Error),
    /// A length field behind which no message can be found.
    #[error("framing lost")]
    Framing(#[source] DecodeError),
    /// The switch closed the connection.
    #[error("switch closed the connection")]
    Eof,
    /// The switch answers nothing, not even echoes.
    #[error("switch does not answer echoes")]
    Unresponsive,
    /// The connection has ended, and with it this request.
    #[error("connection closed: {reason}")]
    Closed {
        /// Why it ended.
        reason: String,
    },
    /// The switch refused the request.
    #[error("message type {request} (xid {xid:#x}) refused: {error}")]
    Refused {
        /// The xid of the request.
        xid: u32,
        /// The type of the request.
        request: u8,
        /// Why.
        error: ErrorMsg,
    },
    /// No answer in time.
    #[error("no {what} in time")]
    Timeout {
        /// What was awaited.
        what: &'static str,
    },
    /// The parts of a reply were not taken in time, and the connection could not wait any longer.
    #[error("the parts of the reply were not taken in time")]
    NotTaken,
    /// An answer of the wrong type.
    #[error("expected a {expected}, got message type {got}")]
    Unexpected {
        /// What was awaited.
        expected: &'static str,
        /// The type that came.
        got: u8,
    },
    /// A multipart reply of the wrong kind.
    #[error("expected {expected} in the multipart reply")]
    UnexpectedBody {
        /// What was awaited.
        expected: &'static str,
    },
    /// An answer that could not be decoded.
    #[error("malformed reply")]
    Decode(#[from] DecodeError),
    /// A request that has no encoding.
    #[error("request has no encoding")]
    Encode(#[from] EncodeError),
    /// A reply whose parts do not fit together.
    #[error("malformed multipart reply")]
    Reassembly(#[from] ReassemblyError),
}

/// Why a bundle did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A flow mod has no encoding. Nothing was sent.
    #[error("flow mod {index} has no encoding")]
    Encode {
        /// Position in the list given.
        index: usize,
        /// Why.
        source: EncodeError,
    },
    /// The switch refused a flow mod. The bundle was discarded, nothing has changed.
    #[error("flow mod {index} refused: {error}")]
    Refused {
        /// Position in the list given.
        index: usize,
        /// Why.
        error: ErrorMsg,
    },
    /// The switch refused the bundle itself. Nothing has changed.
    #[error("bundle refused: {error}")]
    Failed {
        /// Why.
        error: ErrorMsg,
    },
    /// Before the commit was sent, the connection broke, the time was up, or what the switch said of a flow mod could not
    /// be decoded. Nothing has changed, unless something else than this bundle did it.
    #[error("bundle not committed")]
    NotCommitted(#[from] ConnError),
    /// The commit was sent and its answer did not come: all of the bundle took effect, or none of it.
    ///
    /// Which, only a dump tells. Over the same connection it is answered after the commit; over a new one, OVS may
    /// still be about to read the commit of the old one, so a dump that shows none of the bundle is no proof before
    /// the old connection is gone from the switch.
    #[error("outcome of the bundle is unknown: no answer to its commit")]
    Unknown,
}

impl BundleError {
    /// Whether it is certain that nothing has changed; else ask with a dump, see [`BundleError::Unknown`].
    pub fn unchanged(&self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// The same, of a list that begins `by` positions earlier.
    pub(super) fn shifted(self, by: usize) -> Self {
        match self {
            Self::Encode { index, source } => Self::Encode { index: index + by, source },
            Self::Refused { index, error } => Self::Refused { index: index + by, error },
            other => other,
        }
    }
}

/// Bundles of which some were committed.
#[derive(Debug, thiserror::Error)]
#[error("{committed} flow mods committed, the next {tried} not for certain")]
pub struct ChunkError {
    /// Flow mods, from the beginning of the list, that took effect.
    pub committed: usize,
    /// Flow mods behind them whose bundle failed; those behind were not tried.
    pub tried: usize,
    /// Why. Positions are those in the whole list.
    pub source: BundleError,
}

/// A message the switch refused, of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Position in the list given.
    pub index: usize,
    /// Why.
    pub error: ErrorMsg,
}

/// Why not all messages of a batch took effect, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A flow mod has no encoding. Nothing was sent.
    #[error("flow mod {index} has no encoding")]
    Encode {
        /// Position in the list given.
        index: usize,
        /// Why.
        source: EncodeError,
    },
    /// The switch refused some. All others took effect.
    #[error("{total} flow mods refused")]
    Refused {
        /// The first of them, in the order of the list, up to [`BatchError::MAX_REFUSALS`].
        refused: Vec<Refusal>,
        /// How many were refused.
        total: usize,
    },
    /// The connection broke, the time was up, or an answer could not be decoded: any number of them took effect. A dump
    /// tells which.
    #[error("outcome of the batch is unknown")]
    Unknown(#[from] ConnError),
}

impl BatchError {
    /// Refusals kept, so that a switch that refuses everything costs no more than this.
    pub const MAX_REFUSALS: usize = 256;
}
