//! Properties: the TLVs of the newer messages.
//!
//! type u16, length u16 (header and value, without padding), value, zeros to a multiple of 8. Of each kind of value
//! there is one form that OVS writes; a property in any other form is kept as it came.
//!
//! Source: OVS `lib/ofp-prop.c`.

use bytes::{BufMut, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader, padding};

/// Reads type and value of the next property and passes over its padding.
pub(crate) fn read<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
) -> Result<(u16, Reader<'a>), DecodeError> {
    let offset = reader.offset();
    let typ = reader.u16(what)?;
    let length = usize::from(reader.u16(what)?);
    let Some(rest) = length.checked_sub(4) else {
        return Err(DecodeError::Length { what, offset, length });
    };
    let value = reader.sub(what, rest)?;
    reader.skip(what, padding(length))?;
    Ok((typ, value))
}

/// Writes a property around its value.
pub(crate) fn write(
    out: &mut BytesMut,
    what: &'static str,
    typ: u16,
    value: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let length = Length::open(out, what, 2);
    out.put_u16(typ);
    out.put_u16(0);
    value(out)?;
    length.close(out)?;
    length.pad(out);
    Ok(())
}

/// Passes over the four zeros before a u64 or a nested list; false where something else stands there.
pub(crate) fn zeros(value: &mut Reader<'_>) -> bool {
    let mut ahead = value.clone();
    match ahead.u32("property padding") {
        Ok(0) => {
            *value = ahead;
            true
        }
        _ => false,
    }
}
