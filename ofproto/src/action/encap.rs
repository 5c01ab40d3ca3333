//! New and removed outer headers of packets that may have none: `encap` and `decap`. Source: ovs-actions(7); layouts
//! `struct nx_action_encap` and `nx_action_decap`, OVS `lib/ofp-actions.c`, properties OVS `lib/ofp-ed-props.c`.

use bytes::{BufMut, Bytes, BytesMut};

use super::nicira::{DECAP, ENCAP};
use super::{Action, open_nx};
use crate::error::{DecodeError, EncodeError};
use crate::wire::{Length, Reader, padding};

/// Class of the properties of the Network Service Header.
const CLASS_NSH: u16 = 4;
const NSH_MD_TYPE: u8 = 1;
const NSH_TLV: u8 = 2;

/// Packet types of [`EncapAction`] and `decap`: name space in the upper half, type in the lower.
pub mod packet_type {
    /// Ethernet.
    pub const ETHERNET: u32 = 0x0000_0000;
    /// What is next is to be seen from the packet.
    pub const USE_NEXT_PROTO: u32 = 0x0000_fffe;
    /// The Network Service Header.
    pub const NSH: u32 = 0x0001_894f;
    /// MPLS unicast.
    pub const MPLS: u32 = 0x0001_8847;
    /// MPLS multicast.
    pub const MPLS_MCAST: u32 = 0x0001_8848;
}

/// `encap(HEADER(PROPERTIES))`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EncapAction {
    /// What the new header is; see [`packet_type`].
    pub packet_type: u32,
    /// What is in it.
    pub properties: Vec<EncapProperty>,
}

/// A property of a new header.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum EncapProperty {
    /// The metadata type of a Network Service Header: 1 fixed, 2 TLVs.
    NshMdType(u8),
    /// A TLV of a Network Service Header of metadata type 2.
    NshTlv {
        /// Class.
        class: u16,
        /// Type.
        typ: u8,
        /// Value, at most 124 bytes.
        value: Bytes,
    },
}

impl EncapAction {
    pub(super) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let action = open_nx(out, "encap", ENCAP);
        out.put_u16(0);
        out.put_u32(self.packet_type);
        for property in &self.properties {
            match property {
                EncapProperty::NshMdType(md_type) => {
                    out.put_u16(CLASS_NSH);
                    out.put_u8(NSH_MD_TYPE);
                    out.put_u8(5);
                    out.put_u8(*md_type);
                    out.put_bytes(0, 3);
                }
                EncapProperty::NshTlv { class, typ, value } => {
                    let length = u8::try_from(value.len()).ok().filter(|n| *n <= 124);
                    let length = length.ok_or(EncodeError::TooLong {
                        what: "encap tlv",
                        length: value.len(),
                        limit: 124,
                    })?;
                    let property = Length::open(out, "encap tlv", 2);
                    out.put_u16(CLASS_NSH);
                    out.put_u8(NSH_TLV);
                    // Unlike elsewhere the length counts the padding.
                    out.put_u8(8 + length.next_multiple_of(8));
                    out.put_u16(*class);
                    out.put_u8(*typ);
                    out.put_u8(length);
                    out.put_slice(value);
                    property.pad(out);
                }
            }
        }
        action.close_padded(out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
        if body.u16("encap header size")? != 0 {
            return Ok(None);
        }
        let packet_type = body.u32("packet type")?;
        let mut properties = Vec::new();
        while !body.is_empty() {
            let class = body.u16("encap property")?;
            let (typ, length) = (body.u8("encap property")?, body.u8("encap property length")?);
            let Some(rest) = usize::from(length).checked_sub(4) else { return Ok(None) };
            let mut value = body.sub("encap property", rest)?;
            body.skip("encap property padding", padding(length.into()))?;
            properties.push(match (class, typ) {
                (CLASS_NSH, NSH_MD_TYPE) if rest == 1 => {
                    EncapProperty::NshMdType(value.u8("md type")?)
                }
                (CLASS_NSH, NSH_TLV) => {
                    let (class, typ) = (value.u16("tlv class")?, value.u8("tlv type")?);
                    let length = value.u8("tlv length")?;
                    if usize::from(length).next_multiple_of(8) != value.len() || length > 124 {
                        return Ok(None);
                    }
                    let value = value.sub("tlv value", length.into())?.bytes();
                    EncapProperty::NshTlv { class, typ, value }
                }
                _ => return Ok(None),
            });
        }
        Ok(Some(Action::Encap(Self { packet_type, properties })))
    }
}

/// Writes a decap.
pub(super) fn encode_decap(packet_type: u32, out: &mut BytesMut) -> Result<(), EncodeError> {
    let length = open_nx(out, "decap", DECAP);
    out.put_u16(0);
    out.put_u32(packet_type);
    length.close_padded(out)
}

/// Reads a decap.
pub(super) fn decode_decap(body: &mut Reader<'_>) -> Result<Option<Action>, DecodeError> {
    body.skip("decap padding", 2)?;
    Ok(Some(Action::Decap(body.u32("packet type")?)))
}
