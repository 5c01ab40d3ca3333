//! Reading the fields of a match.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Names;
use super::parse::{ParseError, bad, integer, required};
use crate::oxm::{Field, FieldMatch, Format, Match, ct_state, eth_type, ip_proto, tcp_flags};
use crate::types::MacAddr;

/// Words that stand for an EtherType, some with an IP protocol.
const SHORTHANDS: [(&str, u128, Option<u128>); 18] = [
    ("ip", eth_type::IPV4, None),
    ("ipv4", eth_type::IPV4, None),
    ("ipv6", eth_type::IPV6, None),
    ("ip6", eth_type::IPV6, None),
    ("icmp", eth_type::IPV4, Some(ip_proto::ICMP)),
    ("icmp6", eth_type::IPV6, Some(ip_proto::ICMPV6)),
    ("igmp", eth_type::IPV4, Some(ip_proto::IGMP)),
    ("tcp", eth_type::IPV4, Some(ip_proto::TCP)),
    ("tcp6", eth_type::IPV6, Some(ip_proto::TCP)),
    ("udp", eth_type::IPV4, Some(ip_proto::UDP)),
    ("udp6", eth_type::IPV6, Some(ip_proto::UDP)),
    ("sctp", eth_type::IPV4, Some(ip_proto::SCTP)),
    ("sctp6", eth_type::IPV6, Some(ip_proto::SCTP)),
    ("arp", eth_type::ARP, None),
    ("rarp", eth_type::RARP, None),
    ("mpls", eth_type::MPLS, None),
    ("mplsm", eth_type::MPLS_MCAST, None),
    ("mplsu", eth_type::MPLS, None),
];

/// Reads the words of a match.
pub(super) fn parse_fields(
    words: &[(&str, Option<&str>)],
    names: &Names,
) -> Result<Match, ParseError> {
    let mut match_ = Match::new();
    // What a field means may hang on the protocol, wherever in the line that stands.
    for (key, value) in words {
        if let Some((_, kind, proto)) = SHORTHANDS.iter().find(|(name, ..)| name == key) {
            match_ = match_.with(Field::EthType, *kind);
            if let Some(proto) = proto {
                match_ = match_.with(Field::IpProto, *proto);
            }
        } else if matches!(*key, "dl_type" | "eth_type") {
            match_ = set(match_, key, Field::EthType, required(key, *value)?, names)?;
        }
    }
    let arp = matches!(match_.exact(Field::EthType), Some(eth_type::ARP | eth_type::RARP));
    for (key, value) in words {
        if matches!(*key, "nw_proto" | "ip_proto") && !arp {
            match_ = set(match_, key, Field::IpProto, required(key, *value)?, names)?;
        }
    }
    for (key, value) in words {
        let known = SHORTHANDS.iter().any(|(name, ..)| name == key)
            || matches!(*key, "dl_type" | "eth_type")
            || (matches!(*key, "nw_proto" | "ip_proto") && !arp);
        if known {
            continue;
        }
        let text = required(key, *value)?;
        match_ = match *key {
            "dl_vlan" => {
                let vid = integer(text).filter(|v| *v < 0x1000).ok_or_else(|| bad(key, text))?;
                match_.with(Field::VlanVid, vid | 0x1000)
            }
            "dl_vlan_pcp" => {
                let present = match_.field(Field::VlanVid).is_some();
                let match_ = set(match_, key, Field::VlanPcp, text, names)?;
                if present { match_ } else { match_.with_masked(Field::VlanVid, 0x1000, 0x1000) }
            }
            "vlan_tci" => {
                let (value, mask) = masked(text, 0xffff).ok_or_else(|| bad(key, text))?;
                if value > 0xffff || mask > 0xffff {
                    return Err(bad(key, text));
                }
                let match_ = match_.with_masked(Field::VlanVid, value & 0x1fff, mask & 0x1fff);
                if mask >> 13 == 0 {
                    match_
                } else {
                    match_.with_masked(Field::VlanPcp, value >> 13, mask >> 13)
                }
            }
            "nw_tos" => {
                let tos = integer(text).filter(|v| *v <= 0xff && v & 3 == 0);
                match_.with(Field::IpDscp, tos.ok_or_else(|| bad(key, text))? >> 2)
            }
            _ => {
                let field = field_of(key, &match_)?;
                set(match_, key, field, text, names)?
            }
        };
    }
    Ok(match_)
}

/// The field a key means in a match of this protocol.
fn field_of(key: &str, match_: &Match) -> Result<Field, ParseError> {
    let no_protocol = || ParseError::NoProtocol { name: key.to_owned() };
    let kind = match_.exact(Field::EthType);
    let proto = match_.exact(Field::IpProto);
    let arp = matches!(kind, Some(eth_type::ARP | eth_type::RARP));
    let by_proto = |tcp, udp, sctp| match proto {
        Some(ip_proto::TCP) => Ok(tcp),
        Some(ip_proto::UDP) => Ok(udp),
        Some(ip_proto::SCTP) => Ok(sctp),
        _ => Err(no_protocol()),
    };
    match key {
        "tp_src" => by_proto(Field::TcpSrc, Field::UdpSrc, Field::SctpSrc),
        "tp_dst" => by_proto(Field::TcpDst, Field::UdpDst, Field::SctpDst),
        "icmp_type" | "icmp_code" => match (kind, key) {
            (Some(eth_type::IPV6), "icmp_type") => Ok(Field::Icmpv6Type),
            (Some(eth_type::IPV6), _) => Ok(Field::Icmpv6Code),
            (Some(eth_type::IPV4), "icmp_type") => Ok(Field::Icmpv4Type),
            (Some(eth_type::IPV4), _) => Ok(Field::Icmpv4Code),
            _ => Err(no_protocol()),
        },
        "nw_src" | "ip_src" if arp => Ok(Field::ArpSpa),
        "nw_dst" | "ip_dst" if arp => Ok(Field::ArpTpa),
        "nw_proto" | "ip_proto" if arp => Ok(Field::ArpOp),
        "tunnel_id" => Ok(Field::TunId),
        "ct_zone" => Ok(Field::CtZone),
        "ip_frag" => Ok(Field::IpFrag),
        "in_port" => Ok(Field::InPort),
        other => {
            Field::from_name(other).ok_or_else(|| ParseError::UnknownField { name: key.to_owned() })
        }
    }
}

fn set(
    match_: Match,
    key: &str,
    field: Field,
    text: &str,
    names: &Names,
) -> Result<Match, ParseError> {
    let (value, mask) = parse_value(field, text, names).ok_or_else(|| bad(key, text))?;
    let limit = crate::oxm::ones(u16::from(field.bytes()) * 8);
    if value > limit || mask > limit {
        return Err(bad(key, text));
    }
    Ok(match_.with_masked(field, value, mask))
}

/// A value that may have a mask, in the spelling of its field.
fn parse_value(field: Field, text: &str, names: &Names) -> Option<(u128, u128)> {
    let exact = field.exact_mask();
    let format = field.info().map_or(Format::Hex, |info| info.format);
    match format {
        Format::CtState => flags(text, &ct_state::NAMES, 0xff),
        Format::TcpFlags => flags(text, &tcp_flags::NAMES, exact),
        Format::Frag => Some(match text {
            "no" => (0, 3),
            "yes" => (1, 1),
            "first" => (1, 3),
            "later" => (3, 3),
            "not_later" => (0, 2),
            _ => return masked(text, exact),
        }),
        Format::Port => Some((names.read_port(text)?.into(), exact)),
        Format::Mac | Format::Ipv4 | Format::Ipv6 => match text.split_once('/') {
            None => Some((parse_whole(field, text, names)?, exact)),
            Some((value, mask)) => {
                let value = parse_whole(field, value, names)?;
                let mask = match (integer(mask), format) {
                    (Some(bits), Format::Ipv4 | Format::Ipv6) => {
                        let zeros = u128::from(field.bits()).checked_sub(bits)?;
                        exact ^ crate::oxm::ones(u16::try_from(zeros).ok()?)
                    }
                    _ => parse_whole(field, mask, names)?,
                };
                Some((value, mask))
            }
        },
        Format::Decimal | Format::Hex | Format::EthType => masked(text, exact),
    }
}

/// A whole value, as a set_field has it.
pub(super) fn parse_whole(field: Field, text: &str, names: &Names) -> Option<u128> {
    match field.info().map_or(Format::Hex, |info| info.format) {
        Format::Mac => Some(text.parse::<MacAddr>().ok()?.to_u128()),
        Format::Ipv4 => Some(u32::from(text.parse::<Ipv4Addr>().ok()?).into()),
        Format::Ipv6 => Some(text.parse::<Ipv6Addr>().ok()?.into()),
        Format::Port => names.read_port(text).map(u128::from),
        Format::CtState => flags(text, &ct_state::NAMES, 0xff).map(|(value, _)| value),
        Format::TcpFlags => {
            flags(text, &tcp_flags::NAMES, field.exact_mask()).map(|(value, _)| value)
        }
        Format::Decimal | Format::Hex | Format::EthType | Format::Frag => integer(text),
    }
}

/// A whole value as one exact field, for set_field.
pub(super) fn parse_exact(field: Field, text: &str, names: &Names) -> Option<FieldMatch> {
    let value = parse_whole(field, text, names)?;
    let fits = value <= crate::oxm::ones(u16::from(field.bytes()) * 8);
    fits.then(|| FieldMatch::exact(field, value))
}

/// `VALUE` or `VALUE/MASK`.
fn masked(text: &str, exact: u128) -> Option<(u128, u128)> {
    match text.split_once('/') {
        None => Some((integer(text)?, exact)),
        Some((value, mask)) => Some((integer(value)?, integer(mask)?)),
    }
}

/// `+trk-new`, `new|trk`, `0` or `VALUE/MASK`.
fn flags(text: &str, names: &[&str], exact: u128) -> Option<(u128, u128)> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return masked(text, exact);
    }
    if !text.starts_with(['+', '-']) {
        let bits = text.split('|').map(|name| flag(name, names));
        return bits.sum::<Option<u128>>().map(|value| (value, exact));
    }
    let (mut value, mut mask) = (0, 0);
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let tail = rest.get(1..)?;
        let end = tail.find(['+', '-']).unwrap_or(tail.len());
        let (name, next) = tail.split_at(end);
        let bit = flag(name, names)?;
        if mask & bit != 0 {
            return None;
        }
        mask |= bit;
        if sign == '+' {
            value |= bit;
        }
        rest = next;
    }
    Some((value, mask))
}

/// One flag: a name, or `[HEX]` for a bit without one.
fn flag(name: &str, names: &[&str]) -> Option<u128> {
    if let Some(hex) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return integer(&format!("0x{hex}")).filter(|bits| bits.is_power_of_two());
    }
    names.iter().position(|n| *n == name).map(|bit| 1 << bit)
}
