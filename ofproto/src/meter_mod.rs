//! Changes to meters.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader};

/// Bits of [`MeterMod::flags`].
pub mod meter_flags {
    /// Rates in kbit/s.
    pub const KBPS: u16 = 1;
    /// Rates in packets/s.
    pub const PKTPS: u16 = 2;
    /// Burst sizes count.
    pub const BURST: u16 = 4;
    /// Keeps statistics.
    pub const STATS: u16 = 8;
    /// Names in bit order, lowest first.
    pub const NAMES: [&str; 4] = ["kbps", "pktps", "burst", "stats"];
}

/// Meters with a meaning. Source: OpenFlow 1.3, "Meter Modification Message" (`enum ofp_meter`).
pub mod meter_id {
    /// The largest meter that can be made.
    pub const MAX: u32 = 0xffff_0000;
    /// Packets of the slow path.
    pub const SLOWPATH: u32 = 0xffff_fffd;
    /// Packets to the controller.
    pub const CONTROLLER: u32 = 0xffff_fffe;
    /// Every meter, in requests and deletions.
    pub const ALL: u32 = 0xffff_ffff;
}

/// `OFPT_METER_MOD`. Cannot be bundled.
///
/// Source: OpenFlow 1.3, "Meter Modification Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeterMod {
    /// 0 add, 1 modify, 2 delete.
    pub command: u16,
    /// Bits of [`meter_flags`].
    pub flags: u16,
    /// The meter, or one of [`meter_id`].
    pub meter: u32,
    /// What happens beyond which rate.
    pub bands: Vec<MeterBand>,
}

/// What happens to packets beyond a rate.
///
/// Units: rate in kbit/s or packets/s, burst in kbit or packets, by the flags of the meter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum MeterBand {
    /// They are dropped.
    Drop {
        /// The rate.
        rate: u32,
        /// What may exceed it at once.
        burst: u32,
    },
    /// They get a higher drop precedence.
    DscpRemark {
        /// The rate.
        rate: u32,
        /// What may exceed it at once.
        burst: u32,
        /// How many levels.
        level: u8,
    },
    /// Any other band: type and everything behind the length.
    Unknown {
        /// Band type.
        typ: u16,
        /// The bytes behind type and length.
        body: Bytes,
    },
}

const DROP: u16 = 1;
const DSCP_REMARK: u16 = 2;

impl MeterBand {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "meter band", 2);
        let mut head = |typ, rate, burst| {
            out.put_u16(typ);
            out.put_u16(0);
            out.put_u32(rate);
            out.put_u32(burst);
        };
        match self {
            Self::Drop { rate, burst } => {
                head(DROP, *rate, *burst);
                out.put_u32(0);
            }
            Self::DscpRemark { rate, burst, level } => {
                head(DSCP_REMARK, *rate, *burst);
                out.put_u8(*level);
                out.put_bytes(0, 3);
            }
            Self::Unknown { typ, body } => {
                out.put_u16(*typ);
                out.put_u16(0);
                out.put_slice(body);
            }
        }
        length.close(out)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offset = reader.offset();
        let typ = reader.u16("meter band")?;
        let length = usize::from(reader.u16("meter band length")?);
        let Some(rest) = length.checked_sub(4) else {
            return Err(DecodeError::Length { what: "meter band", offset, length });
        };
        let mut body = reader.sub("meter band", rest)?;
        Ok(match (typ, rest) {
            (DROP, 12) => Self::Drop { rate: body.u32("rate")?, burst: body.u32("burst")? },
            (DSCP_REMARK, 12) => Self::DscpRemark {
                rate: body.u32("rate")?,
                burst: body.u32("burst")?,
                level: body.u8("precedence level")?,
            },
            _ => Self::Unknown { typ, body: body.bytes() },
        })
    }
}

/// Writes bands back to back.
pub(crate) fn encode_bands(bands: &[MeterBand], out: &mut BytesMut) -> Result<(), EncodeError> {
    bands.iter().try_for_each(|band| band.encode(out))
}

/// Reads bands up to the end of `reader`.
pub(crate) fn decode_bands(reader: &mut Reader<'_>) -> Result<Vec<MeterBand>, DecodeError> {
    let mut bands = Vec::new();
    while !reader.is_empty() {
        bands.push(MeterBand::decode(reader)?);
    }
    Ok(bands)
}

impl MeterMod {
    /// Adds the meter.
    pub const ADD: u16 = 0;
    /// Changes the meter.
    pub const MODIFY: u16 = 1;
    /// Removes the meter, and every flow that uses it.
    pub const DELETE: u16 = 2;

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.command);
        out.put_u16(self.flags);
        out.put_u32(self.meter);
        encode_bands(&self.bands, out)
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = reader.u16("meter mod command")?;
        let flags = reader.u16("meter flags")?;
        let meter = reader.u32("meter")?;
        Ok(Self { command, flags, meter, bands: decode_bands(reader)? })
    }
}
