//! Which option of a Geneve tunnel is which `tun_metadata` field (OVS 2.5).
//!
//! Source: OVS `include/openflow/nicira-ext.h` ("Tunnel TLV mapping").

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::wire::Reader;

/// One option and the field it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TlvMap {
    /// Option class.
    pub class: u16,
    /// Option type.
    pub typ: u8,
    /// Bytes of the option, a multiple of 4, at most 124.
    pub length: u8,
    /// n of `tun_metadata` n, 0 to 63.
    pub index: u16,
}

impl TlvMap {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.class);
        out.put_u8(self.typ);
        out.put_u8(self.length);
        out.put_u16(self.index);
        out.put_u16(0);
    }

    fn decode_list(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut maps = Vec::new();
        while !reader.is_empty() {
            let (class, typ) = (reader.u16("option class")?, reader.u8("option type")?);
            let (length, index) = (reader.u8("option length")?, reader.u16("tun_metadata")?);
            reader.skip("option padding", 2)?;
            maps.push(Self { class, typ, length, index });
        }
        Ok(maps)
    }
}

/// `NXT_TLV_TABLE_MOD`. Cannot be bundled.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TlvTableMod {
    /// 0 add, 1 delete, 2 clear.
    pub command: u16,
    /// What to add or delete.
    pub maps: Vec<TlvMap>,
}

impl TlvTableMod {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u16(self.command);
        out.put_bytes(0, 6);
        self.maps.iter().for_each(|map| map.encode(out));
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let command = reader.u16("TLV table command")?;
        reader.skip("TLV table padding", 6)?;
        Ok(Self { command, maps: TlvMap::decode_list(reader)? })
    }
}

/// `NXT_TLV_TABLE_REPLY`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TlvTableReply {
    /// Bytes that all options together may have; OVS has 256.
    pub max_option_space: u32,
    /// Options there may be; OVS has 64.
    pub max_fields: u16,
    /// What is there.
    pub maps: Vec<TlvMap>,
}

impl TlvTableReply {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u32(self.max_option_space);
        out.put_u16(self.max_fields);
        out.put_bytes(0, 10);
        self.maps.iter().for_each(|map| map.encode(out));
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let max_option_space = reader.u32("option space")?;
        let max_fields = reader.u16("option fields")?;
        reader.skip("TLV table padding", 10)?;
        Ok(Self { max_option_space, max_fields, maps: TlvMap::decode_list(reader)? })
    }
}
