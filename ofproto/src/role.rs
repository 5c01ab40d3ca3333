//! Which of several controllers may change the switch.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// `OFPT_ROLE_REQUEST` and `OFPT_ROLE_REPLY`.
///
/// Source: OpenFlow 1.3, "Role Request Message".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Role {
    /// 0 no change, 1 equal, 2 primary, 3 secondary.
    pub role: u32,
    /// Grows with every election; a smaller one is refused as stale. All ones in a reply that knows of none.
    pub generation_id: u64,
}

impl Role {
    /// Only asks for the role.
    pub const NO_CHANGE: u32 = 0;
    /// May read and write, as others may.
    pub const EQUAL: u32 = 1;
    /// The one that writes; OpenFlow 1.3 calls it master.
    pub const PRIMARY: u32 = 2;
    /// Reads only; OpenFlow 1.3 calls it slave.
    pub const SECONDARY: u32 = 3;

    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u32(self.role);
        out.put_u32(0);
        out.put_u64(self.generation_id);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let role = reader.u32("role")?;
        reader.skip("role padding", 4)?;
        Ok(Self { role, generation_id: reader.u64("generation id")? })
    }
}

/// `ONFT_ROLE_STATUS` (ONF experimenter message 1911, OVS 2.10): the switch changed this connection's role.
///
/// Source: ONF EXT-191; layout OVS `include/openflow/openflow-1.4.h` (`struct ofp14_role_status`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RoleStatus {
    /// The role now, as in [`Role::role`].
    pub role: u32,
    /// 0 another controller became primary, 1 configuration, 2 an experimenter's.
    pub reason: u8,
    /// The generation this came with.
    pub generation_id: u64,
}

impl RoleStatus {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u32(self.role);
        out.put_u8(self.reason);
        out.put_bytes(0, 3);
        out.put_u64(self.generation_id);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let role = reader.u32("role")?;
        let reason = reader.u8("role status reason")?;
        reader.skip("role status padding", 3)?;
        Ok(Self { role, reason, generation_id: reader.u64("generation id")? })
    }
}
