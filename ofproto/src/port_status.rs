//! Ports: their description, and what changes about them.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use crate::error::DecodeError;
use crate::types::MacAddr;
use crate::wire::Reader;

/// A port: number, address, name, state; 64 bytes.
///
/// Source: OpenFlow 1.3, "Port Structures".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PortDesc {
    /// Its number.
    pub port: u32,
    /// Its address.
    pub hw_addr: MacAddr,
    /// Its name, 16 bytes with zeros behind; see [`PortDesc::name`].
    pub name_bytes: [u8; 16],
    /// Bits: 1 down, 4 no receive, 0x20 no forward, 0x40 no packet-in.
    pub config: u32,
    /// Bits: 1 link down, 2 blocked, 4 live.
    pub state: u32,
    /// Bits of link features: current, advertised, supported, by the peer.
    pub features: [u32; 4],
    /// Units: kbit/s.
    pub curr_speed: u32,
    /// Units: kbit/s.
    pub max_speed: u32,
}

impl PortDesc {
    /// The name up to its first zero byte.
    pub fn name(&self) -> Cow<'_, str> {
        text(&self.name_bytes)
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        out.put_u32(0);
        out.put_slice(&self.hw_addr.0);
        out.put_u16(0);
        out.put_slice(&self.name_bytes);
        out.put_u32(self.config);
        out.put_u32(self.state);
        self.features.iter().for_each(|bits| out.put_u32(*bits));
        out.put_u32(self.curr_speed);
        out.put_u32(self.max_speed);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = reader.u32("port number")?;
        reader.skip("port padding", 4)?;
        let hw_addr = MacAddr(reader.array("port address")?);
        reader.skip("port padding", 2)?;
        let name_bytes = reader.array("port name")?;
        let config = reader.u32("port config")?;
        let state = reader.u32("port state")?;
        let mut features = [0; 4];
        for bits in &mut features {
            *bits = reader.u32("port features")?;
        }
        let curr_speed = reader.u32("port speed")?;
        let max_speed = reader.u32("port speed")?;
        Ok(Self { port, hw_addr, name_bytes, config, state, features, curr_speed, max_speed })
    }
}

/// A fixed array of text up to its first zero byte.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes))
}

/// `OFPT_PORT_STATUS`.
///
/// Source: OpenFlow 1.3, "Port Status Message".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PortStatus {
    /// 0 added, 1 deleted, 2 modified.
    pub reason: u8,
    /// The port.
    pub port: PortDesc,
}

impl PortStatus {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u8(self.reason);
        out.put_bytes(0, 7);
        self.port.encode(out);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let reason = reader.u8("port status reason")?;
        reader.skip("port status padding", 7)?;
        Ok(Self { reason, port: PortDesc::decode(reader)? })
    }
}

/// `OFPT_PORT_MOD`.
///
/// Source: OpenFlow 1.3, "Port Modification Message".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortMod {
    /// The port.
    pub port: u32,
    /// Its address, which must be right.
    pub hw_addr: MacAddr,
    /// The wanted bits, as in [`PortDesc::config`].
    pub config: u32,
    /// Which of them to change.
    pub mask: u32,
    /// Link features to advertise; 0 leaves them.
    pub advertise: u32,
}

impl PortMod {
    pub(crate) fn encode_body(&self, out: &mut BytesMut) {
        out.put_u32(self.port);
        out.put_u32(0);
        out.put_slice(&self.hw_addr.0);
        out.put_u16(0);
        out.put_u32(self.config);
        out.put_u32(self.mask);
        out.put_u32(self.advertise);
        out.put_u32(0);
    }

    pub(crate) fn decode_body(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let port = reader.u32("port number")?;
        reader.skip("port mod padding", 4)?;
        let hw_addr = MacAddr(reader.array("port address")?);
        reader.skip("port mod padding", 2)?;
        let config = reader.u32("port config")?;
        let mask = reader.u32("port config mask")?;
        let advertise = reader.u32("advertise")?;
        reader.skip("port mod padding", 4)?;
        Ok(Self { port, hw_addr, config, mask, advertise })
    }
}
