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
        if bytes == 0 && matches!(field, Field::TunMetadata(..)) {
            // That the option is there is all that is matched: OVS writes it with a mask of no bits.
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

/// A TLV that is no [`FieldMatch`], as its header came, and the bytes behind it: tunnel metadata and unknown fields of
/// more than 16 bytes, tunnel metadata of no bytes whose value is asked for, other fields of no bytes with a mask.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WideField {
    /// The whole header: class 16 bits, field 7, mask 1, length 8.
    pub header: u32,
    /// The payload: experimenter number if the class has one, value, mask.
    pub payload: Bytes,
}

/// What a [`WideField`] says of tunnel metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunMetadata<'a> {
    /// Which option, 0 to 63.
    pub n: u8,
    /// Its value, as many bytes as it has.
    pub value: &'a [u8],
    /// Ones where the value counts, as many bytes; `None` where all do.
    pub mask: Option<&'a [u8]>,
}

impl WideField {
    /// Tunnel metadata of more than 16 bytes, or of none and without a mask. Value and mask are as long as the field; the
    /// mask is left out where all bits count and nothing else is said.
    ///
    /// Errors: [`EncodeError::NoSuchField`] for `n` above 63, for a value of 1 to 16 bytes, which is a [`FieldMatch`],
    /// and for one of more than 124; [`EncodeError::TooLong`] for a mask of another length.
    pub fn tun_metadata(n: u8, value: &[u8], mask: Option<&[u8]>) -> Result<Self, EncodeError> {
        let bytes = u8::try_from(value.len()).unwrap_or(u8::MAX);
        let field = Field::TunMetadata(n, bytes);
        let short = if mask.is_some() { 0..=MAX_VALUE } else { 1..=MAX_VALUE };
        if !field.exists() || short.contains(&bytes) {
            return Err(EncodeError::NoSuchField { field });
        }
        let (header, length) = (field.header() & !0xff, u32::from(bytes));
        let Some(mask) = mask else {
            return Ok(Self { header: header | length, payload: Bytes::copy_from_slice(value) });
        };
        if mask.len() != value.len() {
            let (length, limit) = (mask.len(), value.len());
            return Err(EncodeError::TooLong { what: "mask of tunnel metadata", length, limit });
        }
        let value = value.iter().zip(mask).map(|(value, mask)| value & mask);
        let payload = value.chain(mask.iter().copied()).collect();
        Ok(Self { header: header | HAS_MASK | (2 * length), payload })
    }

    /// The field, as the header says; its length is that of the value.
    pub fn field(&self) -> Field {
        let [high, low, number, _] = self.header.to_be_bytes();
        let class = u16::from_be_bytes([high, low]);
        let (experimenter, value) = match self.payload.split_first_chunk() {
            Some((head, rest)) if class == CLASS_EXPERIMENTER => {
                (u32::from_be_bytes(*head), rest.len())
            }
            _ => (0, self.payload.len()),
        };
        let bytes = if self.is_masked() { value / 2 } else { value };
        let bytes = u8::try_from(bytes).unwrap_or(u8::MAX);
        Field::of_match(class, experimenter, number >> 1, bytes)
    }

    /// Value and mask of tunnel metadata; `None` of any other field, and where value and mask are not of one length.
    pub fn as_tun_metadata(&self) -> Option<TunMetadata<'_>> {
        let Field::TunMetadata(n, bytes) = self.field() else { return None };
        let (value, mask) = self.payload.split_at_checked(bytes.into())?;
        if !self.is_masked() {
            return mask.is_empty().then_some(TunMetadata { n, value, mask: None });
        }
        let mask = Some(mask).filter(|mask| mask.len() == value.len());
        mask.map(|mask| TunMetadata { n, value, mask: Some(mask) })
    }

    const fn is_masked(&self) -> bool {
        self.header & HAS_MASK != 0
    }

    /// Writes the TLV.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let [.., stated] = self.header.to_be_bytes();
        if usize::from(stated) != self.payload.len() {
            let (length, limit) = (self.payload.len(), stated.into());
            return Err(EncodeError::TooLong { what: "OXM value", length, limit });
        }
        out.put_u32(self.header);
        out.put_slice(&self.payload);
        Ok(())
    }
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
        // Of no bytes, tunnel metadata is a field with a mask, and anything else one without.
        if width == 0 && masked != matches!(field, Field::TunMetadata(..)) {
            return wide(whole);
        }
        let value = payload.uint("OXM value", bytes)?;
        if masked {
            let mask = payload.uint("OXM mask", bytes)?;
            // Ones in every byte are no mask to OVS, also where the field has fewer bits.
            if mask == ones(u16::from(width) * 8) && !field.is_masked_always() {
                return Ok(Self::Field(FieldMatch::exact(field, value)));
            }
            Ok(Self::Field(FieldMatch::masked(field, value, mask)))
        } else if field.is_masked_always() {
            let mask = ones(u16::from(width) * 8);
            Ok(Self::Field(FieldMatch { field, value, mask }))
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

/// Writes tunnel metadata of more than 16 bytes, which a set_field carries without a mask.
pub(crate) fn encode_wide(
    wide: &WideField,
    may_mask: bool,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let field = wide.field();
    match wide.as_tun_metadata() {
        Some(TunMetadata { mask: Some(mask), .. }) if !may_mask => {
            let mask = mask.iter().fold(0, |mask, byte| mask << 8 | u128::from(*byte));
            Err(EncodeError::MaskedSetField { field, mask })
        }
        Some(_) => wide.encode(out),
        None => Err(EncodeError::NoSuchField { field }),
    }
}

/// The one TLV that an action carries.
pub(crate) enum Carried {
    /// One that fits.
    Field(FieldMatch),
    /// Tunnel metadata of more than 16 bytes.
    Wide(WideField),
}

/// Reads the exact TLV a set_field carries; `None` for a masked one, and for one that is too wide and no tunnel metadata.
pub(crate) fn decode_exact(reader: &mut Reader<'_>) -> Result<Option<Carried>, DecodeError> {
    Ok(decode_any(reader)?.filter(|carried| match carried {
        Carried::Field(field) => field.is_exact(),
        Carried::Wide(wide) => !wide.is_masked(),
    }))
}

/// Reads the TLV of a reg_load2, exact or masked; `None` for one that is too wide and no tunnel metadata.
pub(crate) fn decode_any(reader: &mut Reader<'_>) -> Result<Option<Carried>, DecodeError> {
    Ok(match Tlv::decode(reader)? {
        Tlv::Field(field) => Some(Carried::Field(field)),
        Tlv::Wide(wide) => wide.as_tun_metadata().is_some().then_some(Carried::Wide(wide)),
    })
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
