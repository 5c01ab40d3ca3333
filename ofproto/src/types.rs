//! Reserved numbers by name, and the few value types every module shares.

use std::fmt;
use std::str::FromStr;

/// The wire version of OpenFlow 1.3.
pub const VERSION: u8 = 0x04;

/// Ports with a meaning. Units: host order, 32 bits as in OpenFlow 1.1 and later.
///
/// Source: OpenFlow 1.3, "Port Structures" (`enum ofp_port_no`).
pub mod port {
    /// The port the packet came in by.
    pub const IN_PORT: u32 = 0xffff_fff8;
    /// Submit to the first table (packet-out only).
    pub const TABLE: u32 = 0xffff_fff9;
    /// The switch's own learning bridge.
    pub const NORMAL: u32 = 0xffff_fffa;
    /// All ports of the spanning tree but the ingress port.
    pub const FLOOD: u32 = 0xffff_fffb;
    /// All ports but the ingress port.
    pub const ALL: u32 = 0xffff_fffc;
    /// The controller.
    pub const CONTROLLER: u32 = 0xffff_fffd;
    /// The switch's own network interface.
    pub const LOCAL: u32 = 0xffff_fffe;
    /// No port in a request: any.
    pub const ANY: u32 = 0xffff_ffff;
    /// First reserved number; OVS ports stay below 0xff00.
    pub const MAX: u32 = 0xffff_ff00;
    /// `IN_PORT` in the 16 bits of a Nicira action.
    pub const IN_PORT_16: u16 = 0xfff8;

    /// A port number in the 16 bits of a Nicira action, if it has such a form.
    pub fn to_u16(port: u32) -> Option<u16> {
        match u16::try_from(port) {
            Ok(port) if port < 0xff00 => Some(port),
            _ if port >= MAX => u16::try_from(port & 0xffff).ok(),
            _ => None,
        }
    }

    /// The OpenFlow 1.3 number of a port in the 16 bits of a Nicira action.
    pub fn from_u16(port: u16) -> u32 {
        if port >= 0xff00 { 0xffff_0000 | u32::from(port) } else { u32::from(port) }
    }
}

/// Every table, in requests and deletions.
pub const TABLE_ALL: u8 = 0xff;
/// Every group, in requests and deletions.
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// Every group, as the target of a group deletion.
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// No packet is buffered in the switch.
pub const NO_BUFFER: u32 = 0xffff_ffff;
/// Send the whole packet to the controller.
pub const MAX_LEN_NO_BUFFER: u16 = 0xffff;
/// The priority ovs-ofctl uses, and leaves out of its text, when none is given.
pub const DEFAULT_PRIORITY: u16 = 0x8000;
/// Experimenter number of the Nicira extensions.
pub const NX: u32 = 0x0000_2320;
/// Experimenter number of the Open Networking Foundation's extensions.
pub const ONF: u32 = 0x4f4e_4600;

/// Experimenter number of Ericsson, whose fields of the Network Service Header OVS took over.
pub const ERICSSON: u32 = 0x005a_d650;

/// An Ethernet address, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address as the right-aligned number a [`FieldMatch`](crate::oxm::FieldMatch) holds.
    pub fn to_u128(self) -> u128 {
        self.0.iter().fold(0, |value, byte| (value << 8) | u128::from(*byte))
    }
}

impl From<u128> for MacAddr {
    /// The low 48 bits.
    fn from(value: u128) -> Self {
        let [.., a, b, c, d, e, f] = value.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl From<MacAddr> for u128 {
    fn from(mac: MacAddr) -> Self {
        mac.to_u128()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (six hex bytes, colons between)")]
pub struct MacAddrError(String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || MacAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refuse)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() { Err(refuse()) } else { Ok(Self(bytes)) }
    }
}
