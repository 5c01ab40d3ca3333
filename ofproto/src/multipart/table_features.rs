//! What tables can match and do.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::port_status::text;
use crate::property;
use crate::wire::{Length, Reader};

/// One table and what it can do.
///
/// Source: OpenFlow 1.3, "Table Features".
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TableFeatures {
    /// The table.
    pub table: u8,
    /// Its name, with zeros behind; see [`TableFeatures::name`].
    pub name_bytes: [u8; 32],
    /// Bits of the metadata field it can match.
    pub metadata_match: u64,
    /// Bits of the metadata field it can write.
    pub metadata_write: u64,
    /// Without meaning in OpenFlow 1.3.
    pub config: u32,
    /// Flows there may be.
    pub max_entries: u32,
    /// What it can do.
    pub properties: Vec<TableProperty>,
}

/// What a table can do: the number says in which list it stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TableProperty {
    /// Types of instructions, of flows (0) or of the table's miss (1).
    Instructions(u16, Vec<FeatureId>),
    /// Tables it can go to: of flows (2), of the miss (3).
    NextTables(u16, Bytes),
    /// Types of actions: to write (4, miss 5), to apply (6, miss 7).
    Actions(u16, Vec<FeatureId>),
    /// Fields: to match (8), that may be left out (10), to set by writing (12, miss 13), to set by applying (14,
    /// miss 15).
    Fields(u16, Vec<OxmId>),
    /// Any other property: type and value.
    Unknown {
        /// Property type.
        typ: u16,
        /// The value, without padding.
        body: Bytes,
    },
}

impl TableProperty {
    /// Property types. Source: OpenFlow 1.3, "Table Features" (`enum ofp_table_feature_prop_type`).
    pub const INSTRUCTIONS: u16 = 0;
    /// Tables to go to.
    pub const NEXT_TABLES: u16 = 2;
    /// Actions to write.
    pub const WRITE_ACTIONS: u16 = 4;
    /// Actions to apply.
    pub const APPLY_ACTIONS: u16 = 6;
    /// Fields to match.
    pub const MATCH: u16 = 8;
    /// Fields that may be left out of a match.
    pub const WILDCARDS: u16 = 10;
    /// Fields to set in the action set.
    pub const WRITE_SETFIELD: u16 = 12;
    /// Fields to set at once.
    pub const APPLY_SETFIELD: u16 = 14;
}

/// The type of an instruction or action; what follows it for one of an experimenter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FeatureId {
    /// Its type.
    pub typ: u16,
    /// The bytes behind type and length, none for a standard one.
    pub body: Bytes,
}

/// The header of a match field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OxmId {
    /// Class 16 bits, field 7, mask 1, length 8.
    pub header: u32,
    /// Who defines it, for class 0xffff.
    pub experimenter: Option<u32>,
}

impl FeatureId {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "feature id", 2);
        out.put_u16(self.typ);
        out.put_u16(0);
        out.put_slice(&self.body);
        length.close(out)
    }

    /// Reads a list; `None` where it is none.
    fn decode_list(mut value: Reader<'_>) -> Option<Vec<Self>> {
        let mut list = Vec::new();
        while !value.is_empty() {
            let typ = value.u16("feature id").ok()?;
            let length = usize::from(value.u16("feature id length").ok()?);
            let body = value.sub("feature id", length.checked_sub(4)?).ok()?.bytes();
            list.push(Self { typ, body });
        }
        Some(list)
    }
}

impl OxmId {
    fn decode_list(mut value: Reader<'_>) -> Option<Vec<Self>> {
        let mut list = Vec::new();
        while !value.is_empty() {
            let header = value.u32("OXM header").ok()?;
            let experimenter = match header >> 16 {
                0xffff => Some(value.u32("OXM experimenter").ok()?),
                _ => None,
            };
            list.push(Self { header, experimenter });
        }
        Some(list)
    }
}

impl TableProperty {
    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let (Self::Instructions(typ, _)
        | Self::NextTables(typ, _)
        | Self::Actions(typ, _)
        | Self::Fields(typ, _)
        | Self::Unknown { typ, .. }) = self;
        property::write(out, "table property", *typ, |out| {
            match self {
                Self::Instructions(_, list) | Self::Actions(_, list) => {
                    list.iter().try_for_each(|id| id.encode(out))?;
                }
                Self::Fields(_, list) => {
                    for id in list {
                        out.put_u32(id.header);
                        if let Some(experimenter) = id.experimenter {
                            out.put_u32(experimenter);
                        }
                    }
                }
                Self::NextTables(_, body) | Self::Unknown { body, .. } => out.put_slice(body),
            }
            Ok(())
        })
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (typ, mut value) = property::read(reader, "table property")?;
        let known = match typ {
            0 | 1 => FeatureId::decode_list(value.clone()).map(|l| Self::Instructions(typ, l)),
            2 | 3 => Some(Self::NextTables(typ, value.clone().bytes())),
            4..=7 => FeatureId::decode_list(value.clone()).map(|l| Self::Actions(typ, l)),
            8 | 10 | 12..=15 => OxmId::decode_list(value.clone()).map(|l| Self::Fields(typ, l)),
            _ => None,
        };
        Ok(known.unwrap_or_else(|| Self::Unknown { typ, body: value.bytes() }))
    }
}

impl TableFeatures {
    /// The name up to its first zero byte.
    pub fn name(&self) -> Cow<'_, str> {
        text(&self.name_bytes)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let length = Length::open(out, "table features", 0);
        out.put_u16(0);
        out.put_u8(self.table);
        out.put_bytes(0, 5);
        out.put_slice(&self.name_bytes);
        out.put_u64(self.metadata_match);
        out.put_u64(self.metadata_write);
        out.put_u32(self.config);
        out.put_u32(self.max_entries);
        self.properties.iter().try_for_each(|property| property.encode(out))?;
        length.close(out)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = super::entry(reader, "table features")?;
        let table = entry.u8("table")?;
        entry.skip("table padding", 5)?;
        Ok(Self {
            table,
            name_bytes: entry.array("table name")?,
            metadata_match: entry.u64("metadata match")?,
            metadata_write: entry.u64("metadata write")?,
            config: entry.u32("table config")?,
            max_entries: entry.u32("table entries")?,
            properties: super::list(&mut entry, TableProperty::decode)?,
        })
    }
}
