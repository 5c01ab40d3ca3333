//! Which asynchronous messages a connection gets.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::property;
use crate::wire::Reader;

/// `OFPT_SET_ASYNC`, `OFPT_GET_ASYNC_REPLY` and `NXT_SET_ASYNC_CONFIG`: for each kind of message a bit per reason,
/// first for a connection that is primary or equal, then for a secondary one.
///
/// OVS begins with packet-ins of the reasons 0 and 1 for the primary, none for a secondary; all port changes for
/// both; all removed flows for the primary.
///
/// Source: OpenFlow 1.3, "Set Asynchronous Configuration Message".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AsyncConfig {
    /// Reasons of packet-ins: bit 0 no match, 1 action, 2 invalid ttl.
    pub packet_in: [u32; 2],
    /// Reasons of port changes: bit 0 added, 1 deleted, 2 modified.
    pub port_status: [u32; 2],
    /// Reasons of removed flows: bit 0 idle, 1 hard, 2 delete, 3 group delete, 4 meter delete.
    pub flow_removed: [u32; 2],
}

impl AsyncConfig {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        for pair in [self.packet_in, self.port_status, self.flow_removed] {
            pair.iter().for_each(|mask| out.put_u32(*mask));
        }
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut pair = || -> Result<[u32; 2], DecodeError> {
            Ok([reader.u32("asynchronous mask")?, reader.u32("asynchronous mask")?])
        };
        Ok(Self { packet_in: pair()?, port_status: pair()?, flow_removed: pair()? })
    }
}

/// `NXT_SET_ASYNC_CONFIG2` (OVS 2.6): changes single masks and leaves the others alone.
///
/// Source: OVS `lib/ofp-connection.c` (`ofputil_decode_set_async_config`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AsyncConfig2 {
    /// The masks, in the order of the message.
    pub properties: Vec<AsyncProperty>,
}

/// One mask of [`AsyncConfig2`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AsyncProperty {
    /// A bit for each reason.
    Mask {
        /// Even for a secondary, odd for a primary: 0 packet-in, 2 port status, 4 flow removed, 6 role status,
        /// 8 table status, 10 request forward.
        typ: u16,
        /// The reasons.
        mask: u32,
    },
    /// Any other property: type and value.
    Unknown {
        /// Property type.
        typ: u16,
        /// The value, without padding.
        body: Bytes,
    },
}

impl AsyncConfig2 {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.properties.iter().try_for_each(|property| {
            let (AsyncProperty::Mask { typ, .. } | AsyncProperty::Unknown { typ, .. }) = property;
            property::write(out, "asynchronous property", *typ, |out| {
                match property {
                    AsyncProperty::Mask { mask, .. } => out.put_u32(*mask),
                    AsyncProperty::Unknown { body, .. } => out.put_slice(body),
                }
                Ok(())
            })
        })
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut properties = Vec::new();
        while !reader.is_empty() {
            let (typ, mut value) = property::read(reader, "asynchronous property")?;
            properties.push(if value.len() == 4 && typ < 0xfffe {
                AsyncProperty::Mask { typ, mask: value.u32("asynchronous mask")? }
            } else {
                AsyncProperty::Unknown { typ, body: value.bytes() }
            });
        }
        Ok(Self { properties })
    }
}
