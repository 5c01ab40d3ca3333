//! What the switch is.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// `OFPT_FEATURES_REPLY`. It lists no ports in OpenFlow 1.3.
///
/// Source: OpenFlow 1.3, "Handshake".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FeaturesReply {
    /// The switch.
    pub datapath_id: u64,
    /// Packets it can buffer; OVS has 0.
    pub n_buffers: u32,
    /// Tables; OVS has 254.
    pub n_tables: u8,
    /// Which auxiliary connection this is; 0 for the main one.
    pub auxiliary_id: u8,
    /// Bits of what it can do.
    pub capabilities: u32,
    /// Without meaning.
    pub reserved: u32,
}

impl FeaturesReply {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u64(self.datapath_id);
        out.put_u32(self.n_buffers);
        out.put_u8(self.n_tables);
        out.put_u8(self.auxiliary_id);
        out.put_u16(0);
        out.put_u32(self.capabilities);
        out.put_u32(self.reserved);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let datapath_id = reader.u64("datapath id")?;
        let n_buffers = reader.u32("buffers")?;
        let n_tables = reader.u8("tables")?;
        let auxiliary_id = reader.u8("auxiliary id")?;
        reader.skip("features padding", 2)?;
        let capabilities = reader.u32("capabilities")?;
        let reserved = reader.u32("reserved")?;
        Ok(Self { datapath_id, n_buffers, n_tables, auxiliary_id, capabilities, reserved })
    }
}
