//! Match fields (OXM and NXM): identity as data, one field with value and mask, and the whole match.
//!
//! A field has two headers in OVS: the one it has inside a match or a set_field (the newest that the OpenFlow
//! version knows, mostly OXM) and the one it has as a sub-field of a Nicira action (the oldest, mostly NXM). The
//! decoder gives a [`Field`] its name only where it reads the header OVS itself would write there; any other header
//! stays [`Field::Unknown`] and encodes to the bytes it came from.

mod matching;
mod table;
mod tlv;

pub use matching::Match;
pub(crate) use table::{CLASS_EXPERIMENTER, ones};
pub use table::{Field, FieldInfo, Format, Prerequisite};
pub(crate) use tlv::{Carried, decode_any, decode_exact, decode_header, encode_exact, encode_wide};
pub use tlv::{FieldMatch, TunMetadata, WideField};

/// Bits of `ct_state`. Source: ovs-fields(7), "Connection Tracking Fields".
pub mod ct_state {
    /// A connection that is not committed yet.
    pub const NEW: u32 = 0x01;
    /// Part of a committed connection.
    pub const EST: u32 = 0x02;
    /// Related to a committed connection.
    pub const REL: u32 = 0x04;
    /// In reply direction.
    pub const RPL: u32 = 0x08;
    /// The tracker could not make sense of the packet.
    pub const INV: u32 = 0x10;
    /// The packet has been through the tracker.
    pub const TRK: u32 = 0x20;
    /// The source address was translated.
    pub const SNAT: u32 = 0x40;
    /// The destination address was translated.
    pub const DNAT: u32 = 0x80;
    /// Names in bit order, lowest first.
    pub const NAMES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
}

/// Bits of `tun_flags`. Source: ovs-fields(7), `tun_flags`.
pub mod tun_flags {
    /// Names in bit order, lowest first.
    pub const NAMES: [&str; 1] = ["oam"];
}

/// Bits of `tcp_flags`. Source: ovs-fields(7), `tcp_flags`.
pub mod tcp_flags {
    /// Names in bit order, lowest first; the bits above have none.
    pub const NAMES: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
}

/// EtherTypes the shorthands of a match speak of.
pub mod eth_type {
    /// IPv4.
    pub const IPV4: u128 = 0x0800;
    /// ARP.
    pub const ARP: u128 = 0x0806;
    /// Reverse ARP.
    pub const RARP: u128 = 0x8035;
    /// IPv6.
    pub const IPV6: u128 = 0x86dd;
    /// MPLS unicast.
    pub const MPLS: u128 = 0x8847;
    /// MPLS multicast.
    pub const MPLS_MCAST: u128 = 0x8848;
    /// Network Service Header.
    pub const NSH: u128 = 0x894f;
}

/// IP protocol numbers the shorthands of a match speak of.
pub mod ip_proto {
    /// ICMP.
    pub const ICMP: u128 = 1;
    /// IGMP.
    pub const IGMP: u128 = 2;
    /// TCP.
    pub const TCP: u128 = 6;
    /// UDP.
    pub const UDP: u128 = 17;
    /// ICMPv6.
    pub const ICMPV6: u128 = 58;
    /// SCTP.
    pub const SCTP: u128 = 132;
}
