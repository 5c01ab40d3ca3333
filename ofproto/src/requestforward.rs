//! What another controller changed.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::message::Message;

/// `ONFT_REQUESTFORWARD` (ONF experimenter message 2350, OVS 2.11): a group or meter mod of another controller.
///
/// Source: ONF EXT-235.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestForward {
    /// The message, encoded, with its header.
    pub message: Bytes,
}

impl RequestForward {
    /// The message inside and its xid.
    ///
    /// Errors: those of decoding it.
    pub fn inner(&self) -> Result<(u32, Message), DecodeError> {
        Message::decode(&self.message)
    }
}
