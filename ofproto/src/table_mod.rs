//! How a table treats what it has no flow for.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// `OFPT_TABLE_MOD`. Cannot be bundled.
///
/// Source: OpenFlow 1.3, "Modify Table Configuration Message".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TableMod {
    /// The table; 255 for all.
    pub table: u8,
    /// Without meaning in OpenFlow 1.3. The low two bits were, before: 0 default, 1 controller, 2 continue, 3 drop.
    pub config: u32,
}

impl TableMod {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u8(self.table);
        out.put_bytes(0, 3);
        out.put_u32(self.config);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = reader.u8("table")?;
        reader.skip("table mod padding", 3)?;
        Ok(Self { table, config: reader.u32("table config")? })
    }
}
