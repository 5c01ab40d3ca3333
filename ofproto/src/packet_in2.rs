//! Packets to the controller with everything that is needed to send them on (OVS 2.6).

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::oxm::Match;
use crate::packet::Head;
use crate::property;
use crate::types::port;
use crate::wire::{Reader, padding};

/// `NXT_PACKET_IN2`, and `NXT_RESUME`, which gives such a packet back to the switch.
///
/// Of a packet that was paused by `controller(pause)`, the table is 0 and the cookie may be missing; know your own
/// packets by their userdata.
///
/// Source: OVS `lib/ofp-packet.c` (`decode_nx_packet_in2`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PacketIn2 {
    /// What it says, in the order of the message.
    pub properties: Vec<PacketInProperty>,
}

/// A part of [`PacketIn2`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PacketInProperty {
    /// The packet.
    Packet(Bytes),
    /// Bytes the packet had, if more than are here.
    FullLen(u32),
    /// Buffer in the switch; OVS has none.
    BufferId(u32),
    /// The table that sent it.
    Table(u8),
    /// Cookie of the flow that sent it.
    Cookie(u64),
    /// Why: 0 no match, 1 action, 2 invalid ttl.
    Reason(u8),
    /// Ingress port, registers, conntrack state: OXM TLVs without the header of a match; see [`PacketIn2::metadata`].
    Metadata(Bytes),
    /// What the controller action gave along.
    UserData(Bytes),
    /// What a paused packet needs to go on. Only the switch may look into it.
    Continuation(Bytes),
    /// Any other property: type and value.
    Unknown {
        /// Property type.
        typ: u16,
        /// The value, without padding.
        body: Bytes,
    },
}

impl PacketInProperty {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let typ = match self {
            Self::Packet(_) => 0,
            Self::FullLen(_) => 1,
            Self::BufferId(_) => 2,
            Self::Table(_) => 3,
            Self::Cookie(_) => 4,
            Self::Reason(_) => 5,
            Self::Metadata(_) => 6,
            Self::UserData(_) => 7,
            Self::Continuation(_) => 8,
            Self::Unknown { typ, .. } => *typ,
        };
        property::write(out, "packet-in property", typ, |out| {
            match self {
                Self::FullLen(n) | Self::BufferId(n) => out.put_u32(*n),
                Self::Table(n) | Self::Reason(n) => out.put_u8(*n),
                Self::Cookie(cookie) => {
                    out.put_u32(0);
                    out.put_u64(*cookie);
                }
                Self::Continuation(bytes) => {
                    out.put_u32(0);
                    out.put_slice(bytes);
                }
                Self::Packet(bytes)
                | Self::Metadata(bytes)
                | Self::UserData(bytes)
                | Self::Unknown { body: bytes, .. } => out.put_slice(bytes),
            }
            Ok(())
        })
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (typ, mut value) = property::read(reader, "packet-in property")?;
        let body = value.clone().bytes();
        Ok(match (typ, value.len()) {
            (0, _) => Self::Packet(body),
            (1, 4) => Self::FullLen(value.u32("packet length")?),
            (2, 4) => Self::BufferId(value.u32("buffer id")?),
            (3, 1) => Self::Table(value.u8("table")?),
            (4, 12) if property::zeros(&mut value) => Self::Cookie(value.u64("cookie")?),
            (5, 1) => Self::Reason(value.u8("packet-in reason")?),
            (6, _) => Self::Metadata(body),
            (7, _) => Self::UserData(body),
            (8, _) if property::zeros(&mut value) => Self::Continuation(value.bytes()),
            _ => Self::Unknown { typ, body },
        })
    }
}

macro_rules! last {
    ($(#[$doc:meta])* $name:ident $variant:ident $type:ty) => {
        $(#[$doc])*
        pub fn $name(&self) -> Option<&$type> {
            self.properties.iter().rev().find_map(|property| match property {
                PacketInProperty::$variant(value) => Some(value),
                _ => None,
            })
        }
    };
}

impl PacketIn2 {
    last! {
        /// The packet.
        packet Packet Bytes
    }
    last! {
        /// Bytes the packet had, where it was cut.
        full_len FullLen u32
    }
    last! {
        /// Buffer in the switch.
        buffer_id BufferId u32
    }
    last! {
        /// The table that sent it.
        table Table u8
    }
    last! {
        /// Cookie of the flow that sent it.
        cookie Cookie u64
    }
    last! {
        /// Why it was sent.
        reason Reason u8
    }
    last! {
        /// What the controller action gave along.
        userdata UserData Bytes
    }
    last! {
        /// What a paused packet needs to go on.
        continuation Continuation Bytes
    }

    /// Ingress port, registers, conntrack state, where the message has any.
    ///
    /// Errors: those of decoding a match.
    pub fn metadata(&self) -> Result<Match, DecodeError> {
        let metadata = self.properties.iter().rev().find_map(|property| match property {
            PacketInProperty::Metadata(bytes) => Some(bytes),
            _ => None,
        });
        metadata.map_or_else(|| Ok(Match::new()), decode_tlvs)
    }

    /// The message that lets a paused packet go on: the same without userdata, which the switch does not take back.
    #[must_use]
    pub fn to_resume(&self) -> Self {
        let kept = |p: &&PacketInProperty| !matches!(p, PacketInProperty::UserData(_));
        Self { properties: self.properties.iter().filter(kept).cloned().collect() }
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.properties.iter().try_for_each(|property| property.encode(out))
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut properties = Vec::new();
        while !reader.is_empty() {
            properties.push(PacketInProperty::decode(reader)?);
        }
        Ok(Self { properties })
    }
}

/// `NXT_PACKET_IN`: a packet with its metadata in the older notation.
///
/// Source: OVS `include/openflow/nicira-ext.h` (`struct nx_packet_in`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NxtPacketIn {
    /// Buffer in the switch; OVS has none.
    pub buffer_id: u32,
    /// Bytes of the packet, which may be more than `data` holds.
    pub total_len: u16,
    /// 0 no match, 1 action, 2 invalid ttl.
    pub reason: u8,
    /// The table that sent it.
    pub table: u8,
    /// Cookie of the flow that sent it; all ones for none.
    pub cookie: u64,
    /// TLVs without the header of a match; see [`NxtPacketIn::metadata`].
    pub metadata: Bytes,
    /// The packet.
    pub data: Bytes,
}

impl NxtPacketIn {
    /// Ingress port, registers, conntrack state.
    ///
    /// Errors: those of decoding a match.
    pub fn metadata(&self) -> Result<Match, DecodeError> {
        decode_tlvs(&self.metadata)
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = self.metadata.len();
        let match_len = u16::try_from(length).map_err(|_| EncodeError::TooLong {
            what: "packet-in metadata",
            length,
            limit: usize::from(u16::MAX),
        })?;
        let Self { buffer_id, total_len, reason, table, cookie, .. } = *self;
        Head { buffer_id, total_len, reason, table, cookie }.encode(out);
        out.put_u16(match_len);
        out.put_bytes(0, 6);
        out.put_slice(&self.metadata);
        out.put_bytes(0, padding(length) + 2);
        out.put_slice(&self.data);
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Head { buffer_id, total_len, reason, table, cookie } = Head::decode(reader)?;
        let length = usize::from(reader.u16("metadata length")?);
        reader.skip("packet-in padding", 6)?;
        let metadata = reader.sub("packet-in metadata", length)?.bytes();
        reader.skip("packet-in padding", padding(length) + 2)?;
        let data = reader.bytes();
        Ok(Self { buffer_id, total_len, reason, table, cookie, metadata, data })
    }
}

/// `NXM_OF_IN_PORT`, 16 bits, which a packet-in may have instead of the 32 of OXM.
const NXM_OF_IN_PORT: u32 = 0x0000_0002;
/// `NXM_NX_TUN_ID`, which has the same bits as `OXM_OF_TUNNEL_ID`.
const NXM_NX_TUN_ID: u32 = 0x0001_2008;

/// A match from its TLVs alone. The two fields that packet-ins show in the older class become those of OXM.
fn decode_tlvs(tlvs: &Bytes) -> Result<Match, DecodeError> {
    let mut reader = Reader::new(tlvs);
    let mut out = BytesMut::with_capacity(tlvs.len() + 12);
    let mut length: u16 = 4;
    out.put_u16(1);
    out.put_u16(0);
    while !reader.is_empty() {
        let header = reader.u32("OXM header")?;
        match header {
            NXM_OF_IN_PORT => {
                out.put_u32(0x8000_0004);
                out.put_u32(port::from_u16(reader.u16("in port")?));
            }
            NXM_NX_TUN_ID => {
                out.put_u32(0x8000_4c08);
                out.put_u64(reader.u64("tunnel id")?);
            }
            _ => {
                let value = reader.take("OXM value", usize::from(header.to_be_bytes()[3]))?;
                out.put_u32(header);
                out.put_slice(value);
            }
        }
        length = u16::try_from(out.len()).map_err(|_| DecodeError::Length {
            what: "packet-in metadata",
            offset: 0,
            length: out.len(),
        })?;
    }
    if let Some(slot) = out.get_mut(2..4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
    out.put_bytes(0, padding(usize::from(length)));
    Match::decode(&mut Reader::new(&out.freeze()))
}
