//! Counters of tables.

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// Counters of one table; 24 bytes. Source: OpenFlow 1.3, "Table Statistics".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TableStats {
    /// The table.
    pub table: u8,
    /// Flows in it.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that met a flow.
    pub matched: u64,
}

impl TableStats {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.table);
        out.put_bytes(0, 3);
        out.put_u32(self.active);
        out.put_u64(self.lookups);
        out.put_u64(self.matched);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let table = reader.u8("table")?;
        reader.skip("table padding", 3)?;
        let active = reader.u32("active flows")?;
        let lookups = reader.u64("lookups")?;
        let matched = reader.u64("matched")?;
        Ok(Self { table, active, lookups, matched })
    }
}
