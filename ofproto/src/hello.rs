//! Version negotiation.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::types::VERSION;
use crate::wire::{Length, Reader, padding};

const VERSION_BITMAP: u16 = 1;

/// `OFPT_HELLO`.
///
/// Without a bitmap it offers its header's version and all below, so this crate always sends one.
///
/// Source: OpenFlow 1.3, "Hello".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hello {
    /// The version in the header: the highest offered.
    pub version: u8,
    /// What it says beyond.
    pub elements: Vec<HelloElement>,
}

/// A part of a HELLO.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HelloElement {
    /// Bit n of word w offers version 32 w + n.
    VersionBitmap(Vec<u32>),
    /// Any other element: type and everything behind the length.
    Unknown {
        /// Element type.
        typ: u16,
        /// The bytes behind type and length, without padding.
        body: Bytes,
    },
}

impl Default for Hello {
    fn default() -> Self {
        let bitmap = HelloElement::VersionBitmap(vec![1 << VERSION]);
        Self { version: VERSION, elements: vec![bitmap] }
    }
}

impl Hello {
    /// Whether a version is offered.
    pub fn offers(&self, version: u8) -> bool {
        let bitmap = self.elements.iter().find_map(|element| match element {
            HelloElement::VersionBitmap(words) => Some(words),
            HelloElement::Unknown { .. } => None,
        });
        match bitmap {
            Some(words) => words
                .get(usize::from(version / 32))
                .is_some_and(|word| (word >> (version % 32)) & 1 == 1),
            None => version <= self.version,
        }
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        for element in &self.elements {
            let length = Length::open(out, "hello element", 2);
            match element {
                HelloElement::VersionBitmap(words) => {
                    out.put_u16(VERSION_BITMAP);
                    out.put_u16(0);
                    words.iter().for_each(|word| out.put_u32(*word));
                }
                HelloElement::Unknown { typ, body } => {
                    out.put_u16(*typ);
                    out.put_u16(0);
                    out.put_slice(body);
                }
            }
            length.close(out)?;
            length.pad(out);
        }
        Ok(())
    }

    pub(crate) fn decode_body(version: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut elements = Vec::new();
        while !reader.is_empty() {
            let offset = reader.offset();
            let typ = reader.u16("hello element")?;
            let length = usize::from(reader.u16("hello element length")?);
            let Some(rest) = length.checked_sub(4) else {
                return Err(DecodeError::Length { what: "hello element", offset, length });
            };
            let mut body = reader.sub("hello element", rest)?;
            // The last element may go without its padding.
            reader.skip("hello padding", padding(length).min(reader.len()))?;
            elements.push(if typ == VERSION_BITMAP && rest % 4 == 0 {
                let mut words = Vec::with_capacity(rest / 4);
                while !body.is_empty() {
                    words.push(body.u32("version bitmap")?);
                }
                HelloElement::VersionBitmap(words)
            } else {
                HelloElement::Unknown { typ, body: body.bytes() }
            });
        }
        Ok(Self { version, elements })
    }
}
