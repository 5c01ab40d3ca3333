//! Packets between switch and controller.

use bytes::{BufMut, Bytes, BytesMut};

use crate::action::{self, Action};
use crate::error::{DecodeError, EncodeError};
use crate::oxm::Match;
use crate::types::{NO_BUFFER, port};
use crate::wire::Reader;

/// `OFPT_PACKET_IN`.
///
/// Source: OpenFlow 1.3, "Packet-In Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PacketIn {
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
    /// Ingress port, registers, conntrack state.
    pub match_: Match,
    /// The packet.
    pub data: Bytes,
}

/// What a packet-in of either old form begins with.
pub(crate) struct Head {
    pub(crate) buffer_id: u32,
    pub(crate) total_len: u16,
    pub(crate) reason: u8,
    pub(crate) table: u8,
    pub(crate) cookie: u64,
}

impl Head {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.buffer_id);
        out.put_u16(self.total_len);
        out.put_u8(self.reason);
        out.put_u8(self.table);
        out.put_u64(self.cookie);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            buffer_id: reader.u32("buffer id")?,
            total_len: reader.u16("packet length")?,
            reason: reader.u8("packet-in reason")?,
            table: reader.u8("table")?,
            cookie: reader.u64("cookie")?,
        })
    }
}

impl PacketIn {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Self { buffer_id, total_len, reason, table, cookie, .. } = *self;
        Head { buffer_id, total_len, reason, table, cookie }.encode(out);
        self.match_.encode(out)?;
        out.put_u16(0);
        out.put_slice(&self.data);
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Head { buffer_id, total_len, reason, table, cookie } = Head::decode(reader)?;
        let match_ = Match::decode(reader)?;
        reader.skip("packet-in padding", 2)?;
        let data = reader.bytes();
        Ok(Self { buffer_id, total_len, reason, table, cookie, match_, data })
    }
}

/// `OFPT_PACKET_OUT`.
///
/// Source: OpenFlow 1.3, "Packet-Out Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PacketOut {
    /// Buffer in the switch; OVS has none.
    pub buffer_id: u32,
    /// Where the packet is to seem to come from.
    pub in_port: u32,
    /// What happens to it.
    pub actions: Vec<Action>,
    /// The packet.
    pub data: Bytes,
}

impl Default for PacketOut {
    fn default() -> Self {
        Self {
            buffer_id: NO_BUFFER,
            in_port: port::CONTROLLER,
            actions: Vec::new(),
            data: Bytes::new(),
        }
    }
}

impl PacketOut {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.buffer_id);
        out.put_u32(self.in_port);
        let mut actions = BytesMut::new();
        action::encode_list(&self.actions, &mut actions)?;
        let length = actions.len();
        out.put_u16(u16::try_from(length).map_err(|_| EncodeError::TooLong {
            what: "packet-out actions",
            length,
            limit: usize::from(u16::MAX),
        })?);
        out.put_bytes(0, 6);
        out.put_slice(&actions);
        out.put_slice(&self.data);
        Ok(())
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let buffer_id = reader.u32("buffer id")?;
        let in_port = reader.u32("in port")?;
        let length = reader.u16("actions length")?;
        reader.skip("packet-out padding", 6)?;
        let actions = action::decode_list(&mut reader.sub("actions", length.into())?)?;
        Ok(Self { buffer_id, in_port, actions, data: reader.bytes() })
    }
}
