//! The addresses of the flat network that every testbed has, and MAC addresses derived from them.
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | pods | anything in 10.10.0.0/16 outside the next line | fd00:10:10::/64 |
//! | node N, on its bridge | 10.10.240.N | fd00:10:10::f0:N |
//! | the world outside | 203.0.113.10 or what a scenario says | fd00:203:113::10 |
//! | node N and the controller, apart from the bridges | 192.168.77.(10 + N), 192.168.77.1 | |
//!
//! Everyone reaches everyone on the link: no router stands between, so that a missing answer is a policy's doing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Where the controller listens. Units: the port is chosen by the kernel.
pub const CONTROLLER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The one that goes with an address: locally administered, the same each time, so that an address that moves to
    /// another pod leaves no stale neighbour entry behind.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => {
                let [b, c, d, e] = a.octets();
                Self([0x0a, 0x58, b, c, d, e])
            }
            IpAddr::V6(a) => {
                let o = a.octets();
                Self([0x0a, 0x59, o[12], o[13], o[14], o[15]])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The addresses of the `index`-th node on its bridge. Units: counts from 1.
pub fn of_node(index: u8) -> Vec<IpAddr> {
    vec![
        Ipv4Addr::new(10, 10, 240, index).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x10, 0, 0, 0, 0xf0, index.into()).into(),
    ]
}

/// Where the `index`-th node is reached by the controller and by tools.
pub fn of_management(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, index.saturating_add(10))
}

/// The `index`-th pair of pod addresses: 10.10.1.1 and fd00:10:10::1:1 onwards, clear of those that conformance cases use.
pub fn of_pod(index: u16) -> Vec<IpAddr> {
    let [high, low] = index.to_be_bytes();
    let third = high.saturating_add(1);
    vec![
        Ipv4Addr::new(10, 10, third, low).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x10, 0, 0, 0, third.into(), low.into()).into(),
    ]
}

/// The width that an interface is given: everything in the network of pods and nodes is on the link anyway.
pub(crate) const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 16,
        IpAddr::V6(_) => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_follow_addresses() {
        assert_eq!(Mac::of([10, 10, 0, 90].into()).to_string(), "0a:58:0a:0a:00:5a");
        assert_ne!(Mac::of(of_pod(1)[0]), Mac::of(of_node(1)[0]));
    }

    #[test]
    fn pods_and_nodes_share_no_address() {
        let nodes: Vec<_> = (1..=9).flat_map(of_node).collect();
        assert!((1..500).flat_map(of_pod).all(|a| !nodes.contains(&a)));
    }
}
