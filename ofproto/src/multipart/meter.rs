//! Meters: what they are, what they have done, what the switch can do with them.

use bytes::{BufMut, BytesMut};

use super::group::Counters;
use crate::error::{DecodeError, EncodeError};
use crate::meter_mod::{MeterBand, decode_bands, encode_bands};
use crate::wire::{Length, Reader};

/// Counters of one meter; 40 bytes and 16 for each band. Source: OpenFlow 1.3, "Meter Statistics".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeterStats {
    /// The meter.
    pub meter: u32,
    /// Flows that go through it.
    pub flow_count: u32,
    /// Packets and bytes that came.
    pub input: Counters,
    /// Whole seconds it has been there.
    pub duration_sec: u32,
    /// Nanoseconds beyond.
    pub duration_nsec: u32,
    /// Packets and bytes each band acted upon.
    pub bands: Vec<Counters>,
}

impl MeterStats {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "meter statistics entry", 4);
        out.put_u32(self.meter);
        out.put_u16(0);
        out.put_bytes(0, 6);
        out.put_u32(self.flow_count);
        self.input.encode(out);
        out.put_u32(self.duration_sec);
        out.put_u32(self.duration_nsec);
        self.bands.iter().for_each(|band| band.encode(out));
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "meter statistics entry";
        let offset = reader.offset();
        let meter = reader.u32("meter")?;
        let length = usize::from(reader.u16("meter entry length")?);
        let Some(rest) = length.checked_sub(6) else {
            return Err(DecodeError::Length { what, offset, length });
        };
        let mut entry = reader.sub(what, rest)?;
        entry.skip("meter padding", 6)?;
        Ok(Self {
            meter,
            flow_count: entry.u32("flows")?,
            input: Counters::decode(&mut entry)?,
            duration_sec: entry.u32("duration")?,
            duration_nsec: entry.u32("duration")?,
            bands: super::list(&mut entry, Counters::decode)?,
        })
    }
}

/// One meter as it is configured. Source: OpenFlow 1.3, "Meter Configuration".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeterConfig {
    /// Bits of [`meter_flags`](crate::meter_flags).
    pub flags: u16,
    /// The meter.
    pub meter: u32,
    /// What happens beyond which rate.
    pub bands: Vec<MeterBand>,
}

impl MeterConfig {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "meter configuration", 0);
        out.put_u16(0);
        out.put_u16(self.flags);
        out.put_u32(self.meter);
        encode_bands(&self.bands, out)?;
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = super::entry(reader, "meter configuration")?;
        let flags = entry.u16("meter flags")?;
        let meter = entry.u32("meter")?;
        Ok(Self { flags, meter, bands: decode_bands(&mut entry)? })
    }
}

/// What the switch can do with meters; 16 bytes. Source: OpenFlow 1.3, "Meter Features".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeterFeatures {
    /// Meters there may be.
    pub max_meter: u32,
    /// A bit for each type of band: 2 drop, 4 dscp remark.
    pub band_types: u32,
    /// Bits of [`meter_flags`](crate::meter_flags) that may be used.
    pub capabilities: u32,
    /// Bands a meter may have.
    pub max_bands: u8,
    /// Colours.
    pub max_color: u8,
}

impl MeterFeatures {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.max_meter);
        out.put_u32(self.band_types);
        out.put_u32(self.capabilities);
        out.put_u8(self.max_bands);
        out.put_u8(self.max_color);
        out.put_u16(0);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let features = Self {
            max_meter: reader.u32("meters")?,
            band_types: reader.u32("band types")?,
            capabilities: reader.u32("meter capabilities")?,
            max_bands: reader.u8("bands")?,
            max_color: reader.u8("colours")?,
        };
        reader.skip("meter features padding", 2)?;
        Ok(features)
    }
}
