//! Forgets connections: of a zone, or of a tuple.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::property;
use crate::wire::Reader;

/// `NXT_CT_FLUSH` (OVS 3.1): forgets the connections that all properties fit.
///
/// Source: OVS `lib/ofp-ct.c`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtFlush {
    /// IP protocol; 0 any.
    pub ip_proto: u8,
    /// What else is known of them.
    pub properties: Vec<CtFlushProperty>,
}

/// What is known of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CtFlushProperty {
    /// The tuple of its original direction.
    Original(Vec<CtTupleProperty>),
    /// The tuple of its reply direction.
    Reply(Vec<CtTupleProperty>),
    /// Its zone.
    Zone(u16),
    /// Its mark (OVS 3.3).
    Mark(u32),
    /// Which bits of the mark count (OVS 3.3).
    MarkMask(u32),
    /// Its label (OVS 3.3).
    Labels(u128),
    /// Which bits of the label count (OVS 3.3).
    LabelsMask(u128),
    /// Any other property: type and value.
    Unknown {
        /// Property type.
        typ: u16,
        /// The value, without padding.
        body: Bytes,
    },
}

/// A part of a tuple.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CtTupleProperty {
    /// Source; an IPv4 address as `::ffff:a.b.c.d`.
    Src(Ipv6Addr),
    /// Destination; an IPv4 address as `::ffff:a.b.c.d`.
    Dst(Ipv6Addr),
    /// Source port.
    SrcPort(u16),
    /// Destination port.
    DstPort(u16),
    /// ICMP identifier.
    IcmpId(u16),
    /// ICMP type.
    IcmpType(u8),
    /// ICMP code.
    IcmpCode(u8),
    /// Any other property: type and value.
    Unknown {
        /// Property type.
        typ: u16,
        /// The value, without padding.
        body: Bytes,
    },
}

/// A u16 as OVS writes it, with two zero bytes; `None` for any other form.
fn short(value: &Reader<'_>) -> Option<u16> {
    let mut ahead = value.clone();
    let number = ahead.u16("property").ok()?;
    let zeros = ahead.u16("property padding").ok()?;
    (zeros == 0 && ahead.is_empty()).then_some(number)
}

impl CtTupleProperty {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let typ = match self {
            Self::Src(_) => 0,
            Self::Dst(_) => 1,
            Self::SrcPort(_) => 2,
            Self::DstPort(_) => 3,
            Self::IcmpId(_) => 4,
            Self::IcmpType(_) => 5,
            Self::IcmpCode(_) => 6,
            Self::Unknown { typ, .. } => *typ,
        };
        property::write(out, "tuple property", typ, |out| {
            match self {
                Self::Src(address) | Self::Dst(address) => out.put_slice(&address.octets()),
                Self::SrcPort(n) | Self::DstPort(n) | Self::IcmpId(n) => {
                    out.put_u16(*n);
                    out.put_u16(0);
                }
                Self::IcmpType(n) | Self::IcmpCode(n) => out.put_u8(*n),
                Self::Unknown { body, .. } => out.put_slice(body),
            }
            Ok(())
        })
    }

    fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut list = Vec::new();
        while !reader.is_empty() {
            let (typ, mut value) = property::read(reader, "tuple property")?;
            list.push(match (typ, value.len(), short(&value)) {
                (0, 16, _) => Self::Src(value.u128("tuple source")?.into()),
                (1, 16, _) => Self::Dst(value.u128("tuple destination")?.into()),
                (2, _, Some(n)) => Self::SrcPort(n),
                (3, _, Some(n)) => Self::DstPort(n),
                (4, _, Some(n)) => Self::IcmpId(n),
                (5, 1, _) => Self::IcmpType(value.u8("ICMP type")?),
                (6, 1, _) => Self::IcmpCode(value.u8("ICMP code")?),
                _ => Self::Unknown { typ, body: value.bytes() },
            });
        }
        Ok(list)
    }
}

impl CtFlushProperty {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let typ = match self {
            Self::Original(_) => 0,
            Self::Reply(_) => 1,
            Self::Zone(_) => 2,
            Self::Mark(_) => 3,
            Self::MarkMask(_) => 4,
            Self::Labels(_) => 5,
            Self::LabelsMask(_) => 6,
            Self::Unknown { typ, .. } => *typ,
        };
        property::write(out, "flush property", typ, |out| {
            match self {
                Self::Original(tuple) | Self::Reply(tuple) => {
                    out.put_u32(0);
                    tuple.iter().try_for_each(|part| part.encode(out))?;
                }
                Self::Zone(zone) => {
                    out.put_u16(*zone);
                    out.put_u16(0);
                }
                Self::Mark(n) | Self::MarkMask(n) => out.put_u32(*n),
                Self::Labels(n) | Self::LabelsMask(n) => out.put_u128(*n),
                Self::Unknown { body, .. } => out.put_slice(body),
            }
            Ok(())
        })
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (typ, mut value) = property::read(reader, "flush property")?;
        if typ < 2 && property::zeros(&mut value) {
            let tuple = CtTupleProperty::decode_list(&mut value)?;
            return Ok(if typ == 0 { Self::Original(tuple) } else { Self::Reply(tuple) });
        }
        Ok(match (typ, value.len(), short(&value)) {
            (2, _, Some(zone)) => Self::Zone(zone),
            (3, 4, _) => Self::Mark(value.u32("mark")?),
            (4, 4, _) => Self::MarkMask(value.u32("mark mask")?),
            (5, 16, _) => Self::Labels(value.u128("label")?),
            (6, 16, _) => Self::LabelsMask(value.u128("label mask")?),
            _ => Self::Unknown { typ, body: value.bytes() },
        })
    }
}

impl CtFlush {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(self.ip_proto);
        out.put_bytes(0, 7);
        self.properties.iter().try_for_each(|property| property.encode(out))
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip_proto = reader.u8("IP protocol")?;
        reader.skip("flush padding", 7)?;
        let mut properties = Vec::new();
        while !reader.is_empty() {
            properties.push(CtFlushProperty::decode(reader)?);
        }
        Ok(Self { ip_proto, properties })
    }
}
