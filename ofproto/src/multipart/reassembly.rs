//! One reply from its parts.

use bytes::BytesMut;

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
        match &mut self.body {
            None => self.body = Some(part.body),
            Some(whole) => append(whole, part.body)?,
        }
        Ok(if more { None } else { self.body.take() })
    }
}

/// Appends a part of the same kind.
fn append(whole: &mut MultipartBody, part: MultipartBody) -> Result<(), ReassemblyError> {
    macro_rules! lists {
        ($($kind:ident)*) => {
            match (whole, part) {
                $((MultipartBody::$kind(all), MultipartBody::$kind(part)) => all.extend(part),)*
                (
                    MultipartBody::Unknown { typ, body },
                    MultipartBody::Unknown { typ: other, body: part },
                ) if *typ == other => {
                    // Every part of an experimenter's kind begins with its numbers.
                    let numbers = if *typ == super::kind::EXPERIMENTER { 8 } else { 0 };
                    let again = body.get(..numbers) == part.get(..numbers);
                    let rest = part.get(if again { numbers } else { 0 }..).unwrap_or_default();
                    let whole = std::mem::take(body).try_into_mut();
                    let mut whole = whole.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                    whole.extend_from_slice(rest);
                    *body = whole.freeze();
                }
                _ => return Err(ReassemblyError::KindChanged),
            }
        };
    }
    lists! {
        Flow Table Port Queue Group GroupDesc Meter MeterConfig TableFeatures PortDesc FlowMonitor
    }
    Ok(())
}
