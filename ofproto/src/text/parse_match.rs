//! Reading the fields of a match.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Names;
use super::parse::{ParseError, bad, integer, required};
use super::parse_action::subfield;
use crate::oxm::{
    Field, Format, Match, Prerequisite, WideField, ct_state, eth_type, ip_proto, tcp_flags,
    tun_flags,
};
use crate::types::MacAddr;

/// Words that stand for an EtherType, some with an IP protocol.
const SHORTHANDS: [(&str, u128, Option<u128>); 18] = [
    ("ip", eth_type::IPV4, None),
    ("ip4", eth_type::IPV4, None),
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
];

/// Words of the match grammar that stand for themselves in the first pass over a line.
fn is_protocol(key: &str) -> bool {
    SHORTHANDS.iter().any(|(name, ..)| *name == key)
        || matches!(key, "eth" | "dl_type" | "eth_type" | "packet_type")
}

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
        } else if *key == "eth" {
            match_ = match_.with(Field::PacketType, 0);
        } else if *key == "packet_type" {
            match_ = set(match_, key, Field::PacketType, required(key, *value)?, names)?;
        } else if matches!(*key, "dl_type" | "eth_type") {
            match_ = set(match_, key, Field::EthType, required(key, *value)?, names)?;
        }
    }
    let kind = Kind::of(&match_);
    for (key, value) in words {
        if matches!(*key, "nw_proto" | "ip_proto") && kind != Kind::Arp {
            match_ = set(match_, key, Field::IpProto, required(key, *value)?, names)?;
        }
    }
    for (key, value) in words {
        if is_protocol(key) || (matches!(*key, "nw_proto" | "ip_proto") && kind != Kind::Arp) {
            continue;
        }
        match_ = parse_word(match_, key, *value, kind, names)?;
    }
    // What only Ethernet has says already that the packet is Ethernet.
    if match_.exact(Field::PacketType) == Some(0)
        && match_.fields().iter().any(|f| needs_ethernet(f.field))
    {
        match_ = match_.without(Field::PacketType);
    }
    Ok(match_)
}

/// Whether a field is one of Ethernet, so that a match on it says what the packet is.
pub(super) fn needs_ethernet(field: Field) -> bool {
    let l2 = matches!(field, Field::EthSrc | Field::EthDst | Field::EthType | Field::VlanVid);
    let prerequisite = field.info().map_or(Prerequisite::None, |info| info.prerequisite);
    l2 || !matches!(prerequisite, Prerequisite::None | Prerequisite::Conntrack | Prerequisite::Nsh)
}

fn parse_word(
    match_: Match,
    key: &str,
    value: Option<&str>,
    kind: Kind,
    names: &Names,
) -> Result<Match, ParseError> {
    if let (Some(n), None) = (key.strip_prefix("tun_metadata"), value) {
        // That there is such an option, whatever it says.
        let n = n.parse().ok().filter(|n| *n < 64);
        let n = n.ok_or_else(|| ParseError::UnknownField { name: key.to_owned() })?;
        return once(match_, key, n).map(|match_| match_.with_present(Field::TunMetadata(n, 0)));
    }
    let text = required(key, value)?;
    let refuse = || bad(key, text);
    Ok(match key {
        "dl_vlan" => match integer(text) {
            Some(0xffff) => match_.with(Field::VlanVid, 0).without(Field::VlanPcp),
            Some(vid) if vid < 0x1000 => {
                let old = match_.field(Field::VlanVid).map_or((0, 0), |f| (f.value, f.mask));
                let vid = (old.0 & !0x1fff) | vid | 0x1000;
                match_.with_masked(Field::VlanVid, vid, old.1 | 0x1fff)
            }
            _ => return Err(refuse()),
        },
        "dl_vlan_pcp" | "vlan_pcp" => {
            let (pcp, mask) = masked(text, 7).ok_or_else(refuse)?;
            if pcp > 7 || mask != 7 {
                return Err(refuse());
            }
            let (vid, vid_mask) =
                match_.field(Field::VlanVid).map_or((0, 0), |f| (f.value, f.mask));
            match_.with(Field::VlanPcp, pcp).with_masked(
                Field::VlanVid,
                vid | 0x1000,
                vid_mask | 0x1000,
            )
        }
        "vlan_tci" => {
            let (value, mask) = masked(text, 0xffff).ok_or_else(refuse)?;
            if value > 0xffff || mask > 0xffff {
                return Err(refuse());
            }
            let value = value & mask;
            let match_ = match_.without(Field::VlanVid).without(Field::VlanPcp);
            // No tag is one question, whatever the rest of the word says.
            if mask == 0xffff && value == 0 {
                return Ok(match_.with(Field::VlanVid, 0).without(Field::VlanPcp));
            }
            let match_ = match_.with_masked(Field::VlanVid, value & 0x1fff, mask & 0x1fff);
            match_.with_masked(Field::VlanPcp, value >> 13, mask >> 13)
        }
        "nw_tos" => {
            let tos = integer(text).filter(|v| *v <= 0xff).ok_or_else(refuse)?;
            match_.with(Field::IpDscp, tos >> 2)
        }
        _ => {
            if let Some(run) = subfield(key).filter(|_| key.contains('[')) {
                // Tunnel metadata has no length of its own to count bits in.
                if matches!(run.field, Field::TunMetadata(..)) {
                    return Err(refuse());
                }
                let (value, mask) = masked(text, crate::oxm::ones(run.bits)).ok_or_else(refuse)?;
                if value > crate::oxm::ones(run.bits) || mask > crate::oxm::ones(run.bits) {
                    return Err(refuse());
                }
                return Ok(merge(match_, run.field, value << run.offset, mask << run.offset));
            }
            let field = field_of(key, &match_, kind)?;
            set(match_, key, field, text, names)?
        }
    })
}

/// Adds bits of a field to those a match has already.
fn merge(match_: Match, field: Field, value: u128, mask: u128) -> Match {
    let registers = match field {
        Field::XReg(n) => Some((n * 2, 2)),
        Field::XxReg(n) => Some((n * 4, 4)),
        _ => None,
    };
    if let Some((first, count)) = registers {
        return (0..count).fold(match_, |match_, n| {
            let shift = 32 * u32::from(count - 1 - n);
            let part = |number: u128| (number >> shift) & 0xffff_ffff;
            if part(mask) == 0 {
                return match_;
            }
            merge(match_, Field::Reg(first + n), part(value), part(mask))
        });
    }
    let (old, old_mask) = match_.field(field).map_or((0, 0), |f| (f.value, f.mask));
    match_.with_masked(field, (old & !mask) | (value & mask), old_mask | mask)
}

/// What a packet of a match is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Arp,
    Other,
}

impl Kind {
    fn of(match_: &Match) -> Self {
        match match_.exact(Field::EthType) {
            Some(eth_type::ARP | eth_type::RARP) => Self::Arp,
            _ => Self::Other,
        }
    }
}

/// The field a key means in a match of this protocol.
fn field_of(key: &str, match_: &Match, kind: Kind) -> Result<Field, ParseError> {
    let no_protocol = || ParseError::NoProtocol { name: key.to_owned() };
    let eth = match_.exact(Field::EthType);
    let proto = match_.exact(Field::IpProto);
    let arp = kind == Kind::Arp;
    match key {
        "tp_src" | "tp_dst" => {
            let source = key == "tp_src";
            let choose = |src, dst| Ok(if source { src } else { dst });
            match (proto, eth) {
                (Some(ip_proto::TCP), _) => choose(Field::TcpSrc, Field::TcpDst),
                (Some(ip_proto::UDP), _) => choose(Field::UdpSrc, Field::UdpDst),
                (Some(ip_proto::SCTP), _) => choose(Field::SctpSrc, Field::SctpDst),
                (Some(ip_proto::ICMP), Some(eth_type::IPV4)) => {
                    choose(Field::Icmpv4Type, Field::Icmpv4Code)
                }
                (Some(ip_proto::ICMPV6), Some(eth_type::IPV6)) => {
                    choose(Field::Icmpv6Type, Field::Icmpv6Code)
                }
                _ => Err(no_protocol()),
            }
        }
        "icmp_type" | "icmp_code" => match (eth, key) {
            (Some(eth_type::IPV6), "icmp_type") => Ok(Field::Icmpv6Type),
            (Some(eth_type::IPV6), _) => Ok(Field::Icmpv6Code),
            (Some(eth_type::IPV4), "icmp_type") => Ok(Field::Icmpv4Type),
            (Some(eth_type::IPV4), _) => Ok(Field::Icmpv4Code),
            _ => Err(no_protocol()),
        },
        "nw_src" | "ip_src" if arp => Ok(Field::ArpSpa),
        "nw_dst" | "ip_dst" if arp => Ok(Field::ArpTpa),
        "nw_proto" | "ip_proto" if arp => Ok(Field::ArpOp),
        "ip_frag" => Ok(Field::IpFrag),
        "in_port" => Ok(Field::InPort),
        other => Field::from_name(other)
            // Names of the wire stand with brackets only.
            .filter(|_| !other.starts_with(|c: char| c.is_ascii_uppercase()))
            .ok_or_else(|| ParseError::UnknownField { name: key.to_owned() }),
    }
}

/// Of tunnel metadata, ovs-ofctl takes only one word for each option.
fn once(match_: Match, key: &str, n: u8) -> Result<Match, ParseError> {
    if match_.has_tun_metadata(n) {
        return Err(ParseError::Twice { name: key.to_owned() });
    }
    Ok(match_)
}

fn set(
    match_: Match,
    key: &str,
    field: Field,
    text: &str,
    names: &Names,
) -> Result<Match, ParseError> {
    if let Field::TunMetadata(n, _) = field
        && let Some(wide) = wide_metadata(n, text)
    {
        return once(match_, key, n).map(|match_| match_.with_wide(wide));
    }
    let (field, value, mask) = parse_masked(field, text, names).ok_or_else(|| bad(key, text))?;
    let limit = field.exact_mask();
    let maskable = field.info().is_none_or(|info| info.maskable);
    if value > limit || mask > limit || (mask != limit && mask != 0 && !maskable) {
        return Err(bad(key, text));
    }
    if let Field::TunMetadata(n, _) = field {
        let match_ = once(match_, key, n)?;
        return Ok(match_.with_present_masked(field, value, mask));
    }
    if field.has_value_as_mask() {
        // So nothing is left of a zero, and the flow would match whatever the field says.
        let value = value & mask;
        if value == 0 {
            return Err(bad(key, text));
        }
        return Ok(match_.with_masked(field, value, value));
    }
    Ok(match_.with_masked(field, value, mask))
}

/// Bytes of tunnel metadata, at most.
const LONGEST_METADATA: usize = 124;

/// Tunnel metadata of more than 16 bytes, with or without a mask, or of a zero, which has none; `None` for any other
/// text.
pub(super) fn wide_metadata(n: u8, text: &str) -> Option<WideField> {
    let (value, mask) = match text.split_once('/') {
        None => (big_endian(text)?, None),
        Some((value, mask)) => (big_endian(value)?, Some(big_endian(mask)?)),
    };
    let bytes = value.len().max(mask.as_ref().map_or(0, Vec::len));
    let padded = |number: Vec<u8>| [vec![0; bytes.saturating_sub(number.len())], number].concat();
    let (value, mask) = (padded(value), mask.map(padded));
    // Only a mask that covers the longest option whole is none.
    let mask =
        mask.filter(|mask| bytes < LONGEST_METADATA || mask.iter().any(|byte| *byte != 0xff));
    WideField::tun_metadata(n, &value, mask.as_deref()).ok()
}

/// The bytes of a number, without zeros before it, at most as many as tunnel metadata has.
fn big_endian(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let Some(hex) = hex.filter(|hex| !hex.is_empty()) else {
        let bytes = integer(text)?.to_be_bytes();
        return Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect());
    };
    let digits = hex.trim_start_matches('0');
    if digits.len() > 2 * LONGEST_METADATA {
        return None;
    }
    let digits = digits.chars().rev().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()));
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let byte = |pair: &[u8]| pair.iter().rev().fold(0, |byte, digit| byte << 4 | digit);
    let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    bytes.reverse();
    Some(bytes)
}

/// Tunnel metadata of as many bytes as hold a number.
pub(super) fn tun_metadata(n: u8, number: u128) -> Field {
    let bits = 128 - number.leading_zeros();
    Field::TunMetadata(n, bits.div_ceil(8).try_into().unwrap_or(16))
}

/// A value that may have a mask, with the field it is of: that of tunnel metadata gets its length.
pub(super) fn parse_masked(field: Field, text: &str, names: &Names) -> Option<(Field, u128, u128)> {
    if let Field::TunMetadata(n, _) = field {
        let (value, mask) = match text.split_once('/') {
            None => (integer(text)?, None),
            Some((value, mask)) => (integer(value)?, Some(integer(mask)?)),
        };
        let field = tun_metadata(n, value | mask.unwrap_or(0));
        let mask = mask.unwrap_or_else(|| field.exact_mask());
        return Some((field, value & mask, mask));
    }
    let (value, mask) = parse_prefixed(field, text, names)?;
    Some((field, value, mask))
}

/// A value that may have a mask, in the spelling of its field.
pub(super) fn parse_prefixed(field: Field, text: &str, names: &Names) -> Option<(u128, u128)> {
    let exact = field.exact_mask();
    let format = field.info().map_or(Format::Hex, |info| info.format);
    match format {
        Format::CtState => flags(text, &ct_state::NAMES, 0xff, 0xff),
        Format::TcpFlags => flags(text, &tcp_flags::NAMES, 0xfff, exact),
        Format::TunFlags => flags(text, &tun_flags::NAMES, 1, 1),
        Format::PacketType => {
            let inner = text.strip_prefix('(')?.strip_suffix(')')?;
            let (space, typ) = inner.split_once(',')?;
            let half = |text: &str| integer(text.trim()).filter(|n| *n <= 0xffff);
            Some((half(space)? << 16 | half(typ)?, exact))
        }
        Format::Frag => Some(match text.to_ascii_lowercase().as_str() {
            "no" => (0, 3),
            "yes" => (1, 1),
            "first" => (1, 3),
            "later" => (3, 3),
            "not_later" => (0, 2),
            _ => return None,
        }),
        Format::Port => Some((port_value(field, text, names)?, exact)),
        Format::Mac | Format::Ipv4 | Format::Ipv6 => match text.split_once('/') {
            None => Some((parse_whole(field, text, names)?, exact)),
            Some((value, mask)) => {
                let value = parse_whole(field, value, names)?;
                let mask = match (mask.parse::<u128>().ok(), format) {
                    (Some(bits), Format::Ipv4 | Format::Ipv6) => {
                        let zeros = u128::from(field.bits()).checked_sub(bits)?;
                        exact ^ crate::oxm::ones(u16::try_from(zeros).ok()?)
                    }
                    _ => parse_whole(field, mask, names)?,
                };
                Some((value & mask, mask))
            }
        },
        Format::Decimal | Format::Hex | Format::EthType => masked(text, exact),
    }
}

fn port_value(field: Field, text: &str, names: &Names) -> Option<u128> {
    let number = names.read_port(text)?;
    if field == Field::NxmInPort {
        return crate::types::port::to_u16(number).map(u128::from);
    }
    Some(number.into())
}

/// A whole value, without a mask.
fn parse_whole(field: Field, text: &str, names: &Names) -> Option<u128> {
    match field.info().map_or(Format::Hex, |info| info.format) {
        Format::Mac => Some(text.parse::<MacAddr>().ok()?.to_u128()),
        Format::Ipv4 => Some(u32::from(text.parse::<Ipv4Addr>().ok()?).into()),
        Format::Ipv6 => Some(text.parse::<Ipv6Addr>().ok()?.into()),
        _ => parse_prefixed(field, text, names).map(|(value, _)| value),
    }
}

/// `VALUE` or `VALUE/MASK`.
fn masked(text: &str, exact: u128) -> Option<(u128, u128)> {
    match text.split_once('/') {
        None => Some((integer(text)?, exact)),
        Some((value, mask)) => Some((integer(value)?, integer(mask)?)),
    }
}

/// `+trk-new`, `new|trk`, `0` or `VALUE/MASK`, of the flags in `all`; without a mask all bits of `exact` count.
fn flags(text: &str, names: &[&str], all: u128, exact: u128) -> Option<(u128, u128)> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let (value, mask) = masked(text, exact)?;
        let known = mask == exact || mask & !all == 0;
        return Some((value, mask)).filter(|_| known && value & !all == 0);
    }
    let flag = |name: &str, names: &[&str]| flag(name, names).filter(|bit| bit & !all == 0);
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
