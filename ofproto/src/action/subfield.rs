//! A run of bits of a field, and the header that names a field inside a Nicira action.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::oxm::{CLASS_EXPERIMENTER, Field};
use crate::wire::Reader;

/// A run of bits of a field: `NXM_NX_REG0[0..15]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// First bit, 0 = least significant.
    pub offset: u16,
    /// Number of bits.
    pub bits: u16,
}

impl Subfield {
    /// All bits of a field.
    pub fn whole(field: Field) -> Self {
        Self { field, offset: 0, bits: field.bits() }
    }

    /// Whether it is all of its field.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && self.bits == self.field.bits()
    }

    /// Checks that the run lies in its field, has at most `most` bits, and that the field has a header here.
    pub(super) fn check(self, most: u16) -> Result<(), EncodeError> {
        let Self { field, offset, bits } = self;
        check_run(field, offset, bits)?;
        if bits > most {
            return Err(EncodeError::BitRange { field, offset, bits, width: most });
        }
        Ok(())
    }

    /// `offset << 6 | bits - 1`, the form several actions share.
    pub(super) fn offset_bits(self) -> u16 {
        offset_bits(self.offset, self.bits)
    }

    /// The run that [`Subfield::offset_bits`] says, of the field whose header follows.
    pub(super) fn decode_offset_bits(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packed = body.u16("offset and bits")?;
        let field = get_header(body)?;
        Ok(Self { field, offset: packed >> 6, bits: (packed & 0x3f) + 1 })
    }
}

/// Checks that a run of bits lies in its field, and that the field has a header here.
pub(super) fn check_run(field: Field, offset: u16, bits: u16) -> Result<(), EncodeError> {
    if !field.exists() {
        return Err(EncodeError::NoSuchField { field });
    }
    field.check_header()?;
    let width = field.bits();
    if bits == 0 || u32::from(offset) + u32::from(bits) > u32::from(width) {
        return Err(EncodeError::BitRange { field, offset, bits, width });
    }
    Ok(())
}

/// `offset << 6 | bits - 1`; the bits fit six bits for a run of 64 or less, and an offset takes ten.
pub(super) const fn offset_bits(offset: u16, bits: u16) -> u16 {
    (offset << 6) | (bits.saturating_sub(1) & 0x3f)
}

/// Writes the header of a field: four bytes, or eight where an experimenter defines it.
pub(super) fn put_header(out: &mut BytesMut, field: Field) {
    out.put_u32(field.sub_header());
    if let Some(experimenter) = field.sub_experimenter() {
        out.put_u32(experimenter);
    }
}

/// Reads the header of a field.
pub(super) fn get_header(body: &mut Reader<'_>) -> Result<Field, DecodeError> {
    let offset = body.offset();
    let header = body.u32("field header")?;
    let [high, low, number, length] = header.to_be_bytes();
    if u16::from_be_bytes([high, low]) != CLASS_EXPERIMENTER {
        return Ok(Field::of_sub(header));
    }
    let Some(bytes) = length.checked_sub(4) else {
        return Err(DecodeError::Length { what: "field header", offset, length: length.into() });
    };
    Ok(Field::of_sub_experimenter(body.u32("field experimenter")?, number >> 1, bytes))
}
