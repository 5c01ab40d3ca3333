//! The header every message begins with.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::types::VERSION;
use crate::wire::{Length, Reader};

/// The header of a message: version u8, type u8, length u16, xid u32.
///
/// Source: OpenFlow 1.3, "OpenFlow Header".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Wire version, 4 for OpenFlow 1.3.
    pub version: u8,
    /// Message type.
    pub typ: u8,
    /// Bytes of the message with its header.
    pub length: u16,
    /// Ties a reply to its request; 0 for what nobody asked for.
    pub xid: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// Reads a header, for framing a stream.
    ///
    /// Errors: [`DecodeError::Length`] for a length below 8, behind which no further message can be found.
    pub fn decode(bytes: [u8; Self::LEN]) -> Result<Self, DecodeError> {
        let [version, typ, l0, l1, x0, x1, x2, x3] = bytes;
        let length = u16::from_be_bytes([l0, l1]);
        if usize::from(length) < Self::LEN {
            let length = length.into();
            return Err(DecodeError::Length { what: "message", offset: 0, length });
        }
        Ok(Self { version, typ, length, xid: u32::from_be_bytes([x0, x1, x2, x3]) })
    }
}

/// Writes a message around `body`. On an error nothing of it stays in `out`.
pub(crate) fn framed(
    out: &mut BytesMut,
    version: u8,
    typ: u8,
    xid: u32,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let length = Length::open(out, "message", 2);
    out.put_u8(version);
    out.put_u8(typ);
    out.put_u16(0);
    out.put_u32(xid);
    let written = body(out).and_then(|()| length.close(out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// As [`framed`], of this crate's own version.
pub(crate) fn message(
    out: &mut BytesMut,
    typ: u8,
    xid: u32,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    framed(out, VERSION, typ, xid, body)
}

/// Reads the header of a frame and bounds a reader to its body.
pub(crate) fn open(frame: &bytes::Bytes) -> Result<(Header, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = Header::decode(reader.array("header")?)?;
    let length = usize::from(header.length);
    if length > frame.len() {
        let (needed, had) = (length, frame.len());
        return Err(DecodeError::Truncated { what: "message", offset: 0, needed, had });
    }
    let body = reader.sub("message", length - Header::LEN)?;
    reader.finish("message")?;
    Ok((header, body))
}
