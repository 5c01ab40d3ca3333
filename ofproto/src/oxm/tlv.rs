//! One field with value and mask, and its bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::table::{CLASS_EXPERIMENTER, Field, ones};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Reader, put_uint};

/// The mask bit of an OXM header.
const HAS_MASK: u32 = 0x100;
/// The longest value a [`FieldMatch`] holds; longer ones are a [`WideField`].
const MAX_VALUE: u8 = 16;

/// One field of a match: value and mask, right-aligned, as wide as [`Field::bits`].
///
/// A mask of [`Field::exact_mask`] is an exact match and goes without mask on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FieldMatch {
    /// The field.
    pub field: Field,
    /// Its value. Bits outside the mask are zero.
    pub value: u128,
    /// Ones where the value counts.
    pub mask: u128,
}

impl FieldMatch {
    /// A match on the whole field.
    pub fn exact(field: Field, value: u128) -> Self {
        Self { field, value, mask: field.exact_mask() }
    }

    /// A match on the bits of `mask`; bits of `value` outside are cleared.
    pub fn masked(field: Field, value: u128, mask: u128) -> Self {
        Self { field, value: value & mask, mask }
    }

    /// Whether the whole field counts.
    pub fn is_exact(&self) -> bool {
        if self.field.is_masked_always() {
            return self.mask == ones(u16::from(self.field.bytes()) * 8);
        }
        self.mask == self.field.exact_mask()
    }

    /// Bytes of the TLV.
    pub(crate) fn encoded_len(&self) -> usize {
        let value = usize::from(self.field.bytes());
        let experimenter = if self.field.experimenter().is_some() { 4 } else { 0 };
        4 + experimenter + if self.is_exact() { value } else { 2 * value }
    }

    /// Writes the TLV.
    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let field = self.field;
        if !field.exists() {
            return Err(EncodeError::NoSuchField { field });
        }
        let bytes = field.bytes();
        field.check_header()?;
        if bytes > MAX_VALUE {
            let (value, limit) = (bytes.into(), MAX_VALUE.into());
            return Err(EncodeError::TooLarge { what: "field length", value, limit });
        }
        let limit = ones(u16::from(bytes) * 8);
        for number in [self.value, self.mask] {
            if number > limit {
                return Err(EncodeError::TooLarge { what: "match field", value: number, limit });
            }
        }
        let header = field.header();
        if bytes == 0 {
            // That the field is there is all that is matched: OVS writes it with a mask of no bits.
            out.put_u32(header | HAS_MASK);
        } else if self.is_exact() {
            out.put_u32(header);
        } else {
            out.put_u32((header | HAS_MASK) + u32::from(bytes));
        }
        if let Some(experimenter) = field.experimenter() {
            out.put_u32(experimenter);
        }
        put_uint(out, self.value, bytes.into());
        if !self.is_exact() {
            put_uint(out, self.mask, bytes.into());
        }
        Ok(())
    }
}

/// A TLV whose value does not fit a [`FieldMatch`] (tunnel metadata, unknown fields of more than 16 bytes): its
/// header as it came, and the bytes behind it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WideField {
    /// The whole header: class 16 bits, field 7, mask 1, length 8.
    pub header: u32,
    /// The payload: experimenter number if the class has one, value, mask.
    pub payload: Bytes,
}

/// A TLV of a match.
pub(super) enum Tlv {
    Field(FieldMatch),
    Wide(WideField),
}

impl Tlv {
    /// Reads one TLV of a match.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = reader.u32("OXM header")?;
        let [high, low, number, length] = header.to_be_bytes();
        let class = u16::from_be_bytes([high, low]);
        let mut payload = reader.sub("OXM value", length.into())?;
        let whole = payload.clone();
        let wide = |mut payload: Reader<'_>| {
            Ok(Self::Wide(WideField { header, payload: payload.bytes() }))
        };
        let experimenter = if class == CLASS_EXPERIMENTER {
            if payload.len() < 4 {
                return wide(whole);
            }
            payload.u32("OXM experimenter")?
        } else {
            0
        };
        let masked = header & HAS_MASK != 0;
        let bytes = if masked { payload.len() / 2 } else { payload.len() };
        let odd = masked && !payload.len().is_multiple_of(2);
        let Some(width) = u8::try_from(bytes).ok().filter(|n| *n <= MAX_VALUE && !odd) else {
            return wide(whole);
        };
        let field = Field::of_match(class, experimenter, number >> 1, width);
        let value = payload.uint("OXM value", bytes)?;
        if masked {
            let mask = payload.uint("OXM mask", bytes)?;
            Ok(Self::Field(FieldMatch::masked(field, value, mask)))
        } else {
            Ok(Self::Field(FieldMatch::exact(field, value)))
        }
    }
}

/// Writes the exact TLV a set_field carries.
pub(crate) fn encode_exact(field: &FieldMatch, out: &mut BytesMut) -> Result<(), EncodeError> {
    if field.is_exact() {
        field.encode(out)
    } else {
        Err(EncodeError::MaskedSetField { field: field.field, mask: field.mask })
    }
}

/// Reads the exact TLV a set_field carries; `None` for one that is masked or too wide for a [`FieldMatch`].
pub(crate) fn decode_exact(reader: &mut Reader<'_>) -> Result<Option<FieldMatch>, DecodeError> {
    match Tlv::decode(reader)? {
        Tlv::Field(field) if field.is_exact() => Ok(Some(field)),
        _ => Ok(None),
    }
}

/// Reads the TLV of a reg_load2, exact or masked; `None` for one that is too wide for a [`FieldMatch`].
pub(crate) fn decode_any(reader: &mut Reader<'_>) -> Result<Option<FieldMatch>, DecodeError> {
    match Tlv::decode(reader)? {
        Tlv::Field(field) => Ok(Some(field)),
        Tlv::Wide(_) => Ok(None),
    }
}

/// Reads the header of a field as it stands in a match, without a value; `None` for one with a mask.
pub(crate) fn decode_header(reader: &mut Reader<'_>) -> Result<Option<Field>, DecodeError> {
    let header = reader.u32("OXM header")?;
    let [high, low, number, length] = header.to_be_bytes();
    let class = u16::from_be_bytes([high, low]);
    if header & HAS_MASK != 0 {
        return Ok(None);
    }
    if class != CLASS_EXPERIMENTER {
        return Ok(Some(Field::of_match(class, 0, number >> 1, length)));
    }
    let experimenter = reader.u32("OXM experimenter")?;
    Ok(length.checked_sub(4).map(|bytes| Field::of_match(class, experimenter, number >> 1, bytes)))
}
