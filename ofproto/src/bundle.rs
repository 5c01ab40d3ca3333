//! ONF bundles (extension 230): several changes as one.
//!
//! Source: ONF EXT-230, "Bundle Extension"; OVS `lib/ofp-bundle.c`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::flow_mod::FlowMod;
use crate::header::message;
use crate::message::{Message, kind};
use crate::types::ONF;
use crate::wire::Reader;

/// Experimenter type of bundle control.
pub(crate) const CONTROL: u32 = 2300;
/// Experimenter type of bundle add.
pub(crate) const ADD: u32 = 2301;

/// Port mods are refused, the rest is all or nothing (which OVS is in any case).
pub const ATOMIC: u16 = 1;
/// In the order given (which OVS keeps in any case).
pub const ORDERED: u16 = 2;

/// What a bundle control message asks or confirms.
///
/// Source: ONF EXT-230, `enum onf_bundle_ctrl_type`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BundleControlType(pub u16);

impl BundleControlType {
    /// Begins a bundle.
    pub const OPEN: Self = Self(0);
    /// Begun.
    pub const OPEN_REPLY: Self = Self(1);
    /// No more additions.
    pub const CLOSE: Self = Self(2);
    /// Closed.
    pub const CLOSE_REPLY: Self = Self(3);
    /// Takes effect.
    pub const COMMIT: Self = Self(4);
    /// Took effect.
    pub const COMMIT_REPLY: Self = Self(5);
    /// Forgets the bundle.
    pub const DISCARD: Self = Self(6);
    /// Forgotten.
    pub const DISCARD_REPLY: Self = Self(7);
}

/// `ONFT_BUNDLE_CONTROL`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BundleControl {
    /// The bundle, chosen by the controller.
    pub bundle_id: u32,
    /// What to do, or what was done.
    pub typ: BundleControlType,
    /// [`ATOMIC`], [`ORDERED`]: the same in every message, or OVS destroys the bundle.
    pub flags: u16,
    /// Properties, as they came.
    pub properties: Bytes,
}

impl BundleControl {
    /// A control message without properties.
    pub const fn new(bundle_id: u32, typ: BundleControlType, flags: u16) -> Self {
        Self { bundle_id, typ, flags, properties: Bytes::new() }
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u32(ONF);
        out.put_u32(CONTROL);
        out.put_u32(self.bundle_id);
        out.put_u16(self.typ.0);
        out.put_u16(self.flags);
        out.put_slice(&self.properties);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bundle_id = reader.u32("bundle id")?;
        let typ = BundleControlType(reader.u16("bundle control type")?);
        let flags = reader.u16("bundle flags")?;
        Ok(Self { bundle_id, typ, flags, properties: reader.bytes() })
    }
}

/// `ONFT_BUNDLE_ADD_MESSAGE`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BundleAdd {
    /// The bundle.
    pub bundle_id: u32,
    /// As in the bundle's OPEN.
    pub flags: u16,
    /// The message to add, encoded, its xid equal to the outer one; properties behind it.
    pub message: Bytes,
}

impl BundleAdd {
    /// Adds `inner` under `xid`, which must also be the xid of this message.
    ///
    /// Errors: those of encoding `inner`; it may have 65,511 bytes.
    pub fn new(bundle_id: u32, flags: u16, inner: &Message, xid: u32) -> Result<Self, EncodeError> {
        let mut out = BytesMut::new();
        inner.encode(xid, &mut out)?;
        Ok(Self { bundle_id, flags, message: out.freeze() })
    }

    /// The message inside and its xid.
    ///
    /// Errors: those of decoding it.
    pub fn inner(&self) -> Result<(u32, Message), DecodeError> {
        let mut reader = Reader::new(&self.message);
        let header = crate::Header::decode(reader.array("bundled message")?)?;
        let frame =
            Reader::new(&self.message).sub("bundled message", header.length.into())?.bytes();
        Message::decode(&frame)
    }

    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        encode_prefix(out, self.bundle_id, self.flags);
        out.put_slice(&self.message);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bundle_id = reader.u32("bundle id")?;
        reader.skip("bundle add padding", 2)?;
        let flags = reader.u16("bundle flags")?;
        Ok(Self { bundle_id, flags, message: reader.bytes() })
    }
}

fn encode_prefix(out: &mut BytesMut, bundle_id: u32, flags: u16) {
    out.put_u32(ONF);
    out.put_u32(ADD);
    out.put_u32(bundle_id);
    out.put_u16(0);
    out.put_u16(flags);
}

/// Writes the message that adds a flow mod to a bundle, without a copy in between.
///
/// Errors: those of the flow mod; [`EncodeError::TooLong`] beyond 65,511 bytes of it.
pub fn encode_add(
    bundle_id: u32,
    flags: u16,
    flow_mod: &FlowMod,
    xid: u32,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    message(out, kind::EXPERIMENTER, xid, |out| {
        encode_prefix(out, bundle_id, flags);
        message(out, kind::FLOW_MOD, xid, |out| flow_mod.encode_body(out))
    })
}

/// As [`encode_add`], of any message. OVS takes flow mods, group mods, port mods and packet-outs; anything else it
/// refuses with `OFPBFC_MSG_UNSUP`.
///
/// Errors: those of the message; [`EncodeError::TooLong`] beyond 65,511 bytes of it.
pub fn encode_add_message(
    bundle_id: u32,
    flags: u16,
    inner: &Message,
    xid: u32,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    message(out, kind::EXPERIMENTER, xid, |out| {
        encode_prefix(out, bundle_id, flags);
        inner.encode(xid, out)
    })
}
