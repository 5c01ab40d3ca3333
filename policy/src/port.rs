//! Protocols, ports and the value/mask pairs that cover a range.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Str;

/// The protocols that a ports item can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The one of this IP protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Upper case, as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Lower case, as tools and OVS write it.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.lower())
    }
}

/// Any case is taken.
impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|p| p.lower().eq_ignore_ascii_case(s))
            .ok_or_else(|| format!("protocol {s:?} is none of TCP, UDP, SCTP"))
    }
}

/// The port side of one ports item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortMatch {
    /// Every port of the protocol.
    Any,
    /// `first..=last`, `first <= last`.
    Range { first: u16, last: u16 },
    /// Resolved on the destination pod, pod by pod (NP-24).
    Named(Str),
}

/// One ports item: protocol and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    pub protocol: Protocol,
    pub port: PortMatch,
}

impl Service {
    pub const fn port(protocol: Protocol, port: u16) -> Self {
        Self { protocol, port: PortMatch::Range { first: port, last: port } }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        match &self.port {
            PortMatch::Any => Ok(()),
            PortMatch::Range { first, last } if first == last => write!(f, "/{first}"),
            PortMatch::Range { first, last } => write!(f, "/{first}-{last}"),
            PortMatch::Named(name) => write!(f, "/{name}"),
        }
    }
}

/// A named container port as a pod declares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamedPort {
    pub name: Str,
    pub protocol: Protocol,
    pub number: u16,
}

/// The value/mask pairs that cover exactly `first..=last` (E12), lowest first. Empty if `first > last`.
pub fn range_masks(first: u16, last: u16) -> Vec<(u16, u16)> {
    let mut out = Vec::new();
    let (mut at, last) = (u32::from(first), u32::from(last));
    while at <= last {
        // the largest block that starts here, is aligned, and ends within the range
        let mut size = if at == 0 { 1 << 16 } else { at & at.wrapping_neg() };
        while at + size - 1 > last {
            size >>= 1;
        }
        let mask = u16::MAX - u16::try_from(size - 1).unwrap_or(u16::MAX);
        out.push((u16::try_from(at).unwrap_or(u16::MAX), mask));
        at += size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_masks_e12() {
        assert_eq!(range_masks(80, 80), [(80, 0xffff)]);
        assert_eq!(range_masks(80, 83), [(80, 0xfffc)]);
        assert_eq!(range_masks(8000, 8010), [(8000, 0xfff8), (8008, 0xfffe), (8010, 0xffff)]);
        assert_eq!(range_masks(65534, 65535), [(65534, 0xfffe)]);
        let all: Vec<(u16, u16)> = (0..16).map(|n| (1 << n, u16::MAX << n)).collect();
        assert_eq!(range_masks(1, 65535), all);
        assert_eq!(range_masks(0, 65535), [(0, 0)]);
        assert_eq!(range_masks(0, 0), [(0, 0xffff)]);
        assert!(range_masks(81, 80).is_empty());
    }

    /// Every range of the low ports, and ranges that end or begin at the edges, against counting.
    #[test]
    fn range_masks_are_exact() {
        let edges = (0..130u16).chain(65_400..=65_535).collect::<Vec<_>>();
        for &first in edges.iter().step_by(3) {
            for &last in edges.iter().step_by(5) {
                let masks = range_masks(first, last);
                assert!(masks.len() <= 30);
                let mut next = u32::from(first);
                for (value, mask) in &masks {
                    // blocks follow each other without gap or overlap
                    assert_eq!(u32::from(*value), next);
                    assert_eq!(value & mask, *value);
                    next += u32::from(!mask) + 1;
                }
                if first <= last {
                    assert_eq!(next, u32::from(last) + 1, "{first}-{last}");
                }
            }
        }
    }
}
