//! One reply from its parts.

use super::{MultipartBody, MultipartReply};

/// The most a reply may take, in bytes on the wire: a dump of a million flows of 96 bytes, with room. A peer that
/// never ends its reply costs this much and no more.
pub const MAX_REPLY_BYTES: usize = 256 << 20;

/// Why parts do not make a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReassemblyError {
    /// Parts of different kinds under one xid.
    #[error("multipart reply changes its kind between parts")]
    KindChanged,
    /// A reply beyond [`MAX_REPLY_BYTES`].
    #[error("multipart reply exceeds {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// Puts the parts of one reply together. Lists are joined; of anything else the first part counts.
#[derive(Debug, Default)]
pub struct Reassembly {
    body: Option<MultipartBody>,
    bytes: usize,
}

impl Reassembly {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one part of `bytes` bytes; gives the whole when it was the last.
    ///
    /// Errors: [`ReassemblyError`]; the reply is then lost.
    pub fn push(
        &mut self,
        part: MultipartReply,
        bytes: usize,
    ) -> Result<Option<MultipartBody>, ReassemblyError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_REPLY_BYTES {
            return Err(ReassemblyError::TooLong { limit: MAX_REPLY_BYTES });
        }
        let more = part.more();
        match (&mut self.body, part.body) {
            (slot @ None, body) => *slot = Some(body),
            (Some(MultipartBody::Flow(all)), MultipartBody::Flow(part)) => all.extend(part),
            (Some(MultipartBody::Table(all)), MultipartBody::Table(part)) => all.extend(part),
            (Some(MultipartBody::PortDesc(all)), MultipartBody::PortDesc(part)) => all.extend(part),
            (
                Some(MultipartBody::Unknown { typ, body }),
                MultipartBody::Unknown { typ: other, body: part },
            ) if *typ == other => {
                *body = [&body[..], &part[..]].concat().into();
            }
            _ => return Err(ReassemblyError::KindChanged),
        }
        Ok(if more { None } else { self.body.take() })
    }
}
