//! Fragment handling and how much of a packet goes to the controller.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// Fragments pass through the tables like other packets, their ports as 0.
pub const FRAGMENTS_NORMAL: u16 = 0;
/// The same, but a first fragment has its ports. An extension of OVS.
///
/// Source: ovs-ofctl(8), "set-frags"; `OFPC_FRAG_NX_MATCH`.
pub const FRAGMENTS_NX_MATCH: u16 = 3;

/// Body of `OFPT_GET_CONFIG_REPLY` and `OFPT_SET_CONFIG`.
///
/// A service connection of OVS sends no packet-in, port status or flow removed before it was given a
/// `miss_send_len` above 0.
///
/// Source: OpenFlow 1.3, "Switch Configuration".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SwitchConfig {
    /// Low two bits: fragments normal 0, drop 1, reassemble 2, nx-match 3.
    pub flags: u16,
    /// Bytes of a packet that misses; 0xffff the whole.
    pub miss_send_len: u16,
}

impl SwitchConfig {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u16(self.flags);
        out.put_u16(self.miss_send_len);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.u16("config flags")?;
        Ok(Self { flags, miss_send_len: reader.u16("miss_send_len")? })
    }
}
