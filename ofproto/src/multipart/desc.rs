//! Who made the switch.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::port_status::text;
use crate::wire::Reader;

/// Description of a switch: fixed arrays of text with zeros behind; 1,056 bytes.
///
/// Source: OpenFlow 1.3, "Description".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Desc {
    /// Manufacturer; see [`Desc::manufacturer`].
    pub manufacturer_bytes: [u8; 256],
    /// Hardware; see [`Desc::hardware`].
    pub hardware_bytes: [u8; 256],
    /// Software version; see [`Desc::software`].
    pub software_bytes: [u8; 256],
    /// Serial number; see [`Desc::serial`].
    pub serial_bytes: [u8; 32],
    /// The datapath in words; see [`Desc::datapath`].
    pub datapath_bytes: [u8; 256],
}

impl Desc {
    /// Manufacturer, such as "Nicira, Inc.".
    pub fn manufacturer(&self) -> Cow<'_, str> {
        text(&self.manufacturer_bytes)
    }

    /// Hardware, such as "Open vSwitch".
    pub fn hardware(&self) -> Cow<'_, str> {
        text(&self.hardware_bytes)
    }

    /// Software version, such as "3.1.0".
    pub fn software(&self) -> Cow<'_, str> {
        text(&self.software_bytes)
    }

    /// Serial number.
    pub fn serial(&self) -> Cow<'_, str> {
        text(&self.serial_bytes)
    }

    /// The datapath in words; OVS gives the bridge name.
    pub fn datapath(&self) -> Cow<'_, str> {
        text(&self.datapath_bytes)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.manufacturer_bytes);
        out.put_slice(&self.hardware_bytes);
        out.put_slice(&self.software_bytes);
        out.put_slice(&self.serial_bytes);
        out.put_slice(&self.datapath_bytes);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            manufacturer_bytes: reader.array("manufacturer")?,
            hardware_bytes: reader.array("hardware")?,
            software_bytes: reader.array("software")?,
            serial_bytes: reader.array("serial number")?,
            datapath_bytes: reader.array("datapath description")?,
        })
    }
}
