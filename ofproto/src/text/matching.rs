//! The text of a match. Source: OVS `lib/match.c` (`match_format`), whose order is not that of the wire.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::parse_match::needs_ethernet;
use super::{Names, Show, write_c_hex, write_hex};
use crate::oxm::{
    Field, FieldMatch, Format, Match, TunMetadata, WideField, ct_state, eth_type, ip_proto,
    tcp_flags, tun_flags,
};
use crate::types::MacAddr;

/// Fields before the protocol shorthand.
const FIRST: [Field; 16] = [
    Field::PktMark,
    Field::RecircId,
    Field::DpHash,
    Field::ConjId,
    Field::ActsetOutput,
    Field::CtState,
    Field::CtZone,
    Field::CtMark,
    Field::CtLabel,
    Field::CtNwSrc,
    Field::CtIpv6Src,
    Field::CtNwDst,
    Field::CtIpv6Dst,
    Field::CtNwProto,
    Field::CtTpSrc,
    Field::CtTpDst,
];

/// Fields between the registers and the metadata.
const TUNNEL: [Field; 7] = [
    Field::TunId,
    Field::TunIpv4Src,
    Field::TunIpv4Dst,
    Field::TunIpv6Src,
    Field::TunIpv6Dst,
    Field::TunGbpId,
    Field::TunGbpFlags,
];

/// Fields behind the addresses and `arp_op`.
const NSH: [Field; 10] = [
    Field::NshFlags,
    Field::NshTtl,
    Field::NshMdtype,
    Field::NshNp,
    Field::NshSpi,
    Field::NshSi,
    Field::NshC1,
    Field::NshC2,
    Field::NshC3,
    Field::NshC4,
];

/// Fields behind the addresses.
const LAST: [Field; 23] = [
    Field::IpEcn,
    Field::IpTtl,
    Field::MplsLabel,
    Field::MplsTc,
    Field::MplsTtl,
    Field::MplsBos,
    Field::IpFrag,
    Field::Icmpv4Type,
    Field::Icmpv4Code,
    Field::Icmpv6Type,
    Field::Icmpv6Code,
    Field::NdTarget,
    Field::NdSll,
    Field::NdTll,
    Field::NdReserved,
    Field::NdOptionsType,
    Field::TcpSrc,
    Field::TcpDst,
    Field::UdpSrc,
    Field::UdpDst,
    Field::SctpSrc,
    Field::SctpDst,
    Field::TcpFlags,
];

/// The name ovs-ofctl prints where it differs from that of the field: the protocol is in the shorthand.
fn printed_name(field: Field) -> std::borrow::Cow<'static, str> {
    match field {
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => "tp_src".into(),
        Field::TcpDst | Field::UdpDst | Field::SctpDst => "tp_dst".into(),
        Field::Icmpv6Type => "icmp_type".into(),
        Field::Icmpv6Code => "icmp_code".into(),
        other => other.name(),
    }
}

/// The shorthand of a protocol, and whether it says the IP protocol too.
fn shorthand(match_: &Match) -> Option<(&'static str, bool)> {
    let proto = match_.exact(Field::IpProto);
    let named = |names: [(u128, &'static str); 5], other| {
        let found = names.iter().find(|(number, _)| Some(*number) == proto);
        Some(found.map_or((other, false), |(_, name)| (*name, true)))
    };
    match match_.exact(Field::EthType)? {
        eth_type::IPV4 => named(
            [
                (ip_proto::ICMP, "icmp"),
                (ip_proto::IGMP, "igmp"),
                (ip_proto::TCP, "tcp"),
                (ip_proto::UDP, "udp"),
                (ip_proto::SCTP, "sctp"),
            ],
            "ip",
        ),
        eth_type::IPV6 => named(
            [
                (ip_proto::ICMPV6, "icmp6"),
                (ip_proto::TCP, "tcp6"),
                (ip_proto::TCP, "tcp6"),
                (ip_proto::UDP, "udp6"),
                (ip_proto::SCTP, "sctp6"),
            ],
            "ipv6",
        ),
        eth_type::ARP => Some(("arp", false)),
        eth_type::RARP => Some(("rarp", false)),
        eth_type::MPLS => Some(("mpls", false)),
        eth_type::MPLS_MCAST => Some(("mplsm", false)),
        _ => None,
    }
}

impl Show for Match {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let mut list = List { out, names, any: false };
        let mut printed = Printed { match_: self, list: &mut list };
        FIRST.iter().try_for_each(|field| printed.field(*field))?;
        let short = shorthand(self);
        // Only beside recirc_id does OVS say that the packet is Ethernet.
        let typ = self.exact(Field::PacketType);
        let ethernet = self.fields().iter().any(|f| needs_ethernet(f.field));
        if self.field(Field::RecircId).is_some() && (typ == Some(0) || (typ.is_none() && ethernet))
        {
            printed.list.item()?.write_str("eth")?;
        }
        if let Some((name, _)) = short {
            printed.list.item()?.write_str(name)?;
        }
        // Ethernet is what a packet is without a word.
        if self.exact(Field::PacketType).is_some_and(|typ| typ != 0) {
            printed.field(Field::PacketType)?;
        }
        for n in 0..16 {
            printed.field(Field::Reg(n))?;
        }
        for field in self.fields() {
            if matches!(field.field, Field::XReg(_) | Field::XxReg(_)) {
                printed.list.field(field)?;
            }
        }
        TUNNEL.iter().try_for_each(|field| printed.field(*field))?;
        printed.erspan()?;
        let rest = [Field::TunGtpuFlags, Field::TunGtpuMsgtype, Field::TunFlags];
        rest.iter().try_for_each(|field| printed.field(*field))?;
        printed.tun_metadata()?;
        let rest = [Field::Metadata, Field::InPort, Field::NxmInPort];
        rest.iter().try_for_each(|field| printed.field(*field))?;
        printed.vlan()?;
        printed.field(Field::EthSrc)?;
        printed.field(Field::EthDst)?;
        if short.is_none() {
            printed.field(Field::EthType)?;
        }
        let addresses = [Field::Ipv6Src, Field::Ipv6Dst, Field::Ipv6Flabel, Field::ArpSpa];
        addresses.iter().try_for_each(|field| printed.field(*field))?;
        let addresses = [Field::ArpTpa, Field::Ipv4Src, Field::Ipv4Dst];
        addresses.iter().try_for_each(|field| printed.field(*field))?;
        if !short.is_some_and(|(_, proto)| proto) {
            printed.field(Field::IpProto)?;
        }
        let arp = [Field::ArpOp, Field::ArpSha, Field::ArpTha];
        arp.iter().try_for_each(|field| printed.field(*field))?;
        if let Some(dscp) = self.field(Field::IpDscp) {
            // Text shows the whole octet the code point is the upper part of.
            write!(printed.list.item()?, "nw_tos={}", dscp.value << 2)?;
        }
        let context = self.field(Field::NshMdtype).is_some_and(|md_type| md_type.value == 1);
        let nsh = NSH.get(..if context { 10 } else { 6 }).unwrap_or_default();
        nsh.iter().try_for_each(|field| printed.field(*field))?;
        LAST.iter().try_for_each(|field| printed.field(*field))?;
        for field in self.fields() {
            if matches!(field.field, Field::Unknown { .. } | Field::Experimenter { .. }) {
                printed.list.field(field)?;
            }
        }
        for wide in self.wide_fields().iter().filter(|wide| wide.as_tun_metadata().is_none()) {
            write!(list.item()?, "unknown({:#010x},", wide.header)?;
            write_hex(list.out, &wide.payload, "")?;
            list.out.write_char(')')?;
        }
        Ok(())
    }
}

/// Items with commas between.
struct List<'a> {
    out: &'a mut dyn fmt::Write,
    names: &'a Names,
    any: bool,
}

impl List<'_> {
    fn item(&mut self) -> Result<&mut dyn fmt::Write, fmt::Error> {
        if std::mem::replace(&mut self.any, true) {
            self.out.write_char(',')?;
        }
        Ok(&mut *self.out)
    }

    fn field(&mut self, field: &FieldMatch) -> fmt::Result {
        let names = self.names;
        let out = self.item()?;
        write!(out, "{}=", printed_name(field.field))?;
        // A mask OVS does not show.
        let hidden = match field.field {
            Field::TunGbpFlags | Field::TunErspanIdx => true,
            Field::TunMetadata(..) => {
                // Bytes that do not count at all are not there for the text.
                let bits = 128 - field.mask.leading_zeros();
                bits > 0 && bits.is_multiple_of(8) && field.mask.count_ones() == bits
            }
            other => other.has_value_as_mask(),
        };
        if hidden {
            return write_value(out, field.field, field.value, names);
        }
        write_field(out, field, names)
    }
}

struct Printed<'m, 'l, 'a> {
    match_: &'m Match,
    list: &'l mut List<'a>,
}

impl Printed<'_, '_, '_> {
    fn field(&mut self, field: Field) -> fmt::Result {
        match self.match_.field(field) {
            Some(field) => self.list.field(&field),
            None => Ok(()),
        }
    }

    /// Tunnel metadata, of whatever length.
    fn tun_metadata(&mut self) -> fmt::Result {
        let wide = self.match_.wide_fields().iter().filter_map(WideField::as_tun_metadata);
        let mut wide = wide.peekable();
        for field in self.match_.fields() {
            let Field::TunMetadata(n, bytes) = field.field else { continue };
            while let Some(wide) = wide.next_if(|wide| wide.n < n) {
                write_wide(self.list.item()?, wide)?;
            }
            if bytes == 0 {
                self.list.item()?.write_str(&field.field.name())?;
            } else {
                self.list.field(field)?;
            }
        }
        wide.try_for_each(|wide| write_wide(self.list.item()?, wide))
    }

    /// The fields of an ERSPAN header, which depend on its version.
    fn erspan(&mut self) -> fmt::Result {
        self.field(Field::TunErspanVer)?;
        match self.match_.field(Field::TunErspanVer).map(|version| version.value) {
            Some(1) => self.field(Field::TunErspanIdx),
            Some(2) => {
                self.field(Field::TunErspanDir)?;
                self.field(Field::TunErspanHwid)
            }
            _ => Ok(()),
        }
    }

    /// The VLAN tag: `dl_vlan` and `dl_vlan_pcp` where the match is on whole parts of a present tag, else the whole
    /// control word.
    fn vlan(&mut self) -> fmt::Result {
        let vid = self.match_.field(Field::VlanVid);
        let pcp = self.match_.field(Field::VlanPcp);
        let part = |f: Option<FieldMatch>, shift: u32| {
            f.map_or((0, 0), |f| (f.value << shift, (f.mask & 0x1fff) << shift))
        };
        let ((v, vm), (p, pm)) = (part(vid, 0), part(pcp, 13));
        let (tci, mask) = (v | p, vm | pm);
        if mask == 0 {
            return Ok(());
        }
        let (id_mask, pcp_mask) = (mask & 0x0fff, mask & 0xe000);
        let whole = |m, all| m == 0 || m == all;
        let tagged = mask & tci & 0x1000 != 0;
        if tagged
            && whole(id_mask, 0x0fff)
            && whole(pcp_mask, 0xe000)
            && (id_mask != 0 || pcp_mask != 0)
        {
            if id_mask != 0 {
                write!(self.list.item()?, "dl_vlan={}", tci & 0x0fff)?;
            }
            if pcp_mask != 0 {
                write!(self.list.item()?, "dl_vlan_pcp={}", tci >> 13)?;
            }
            return Ok(());
        }
        let out = self.list.item()?;
        match mask {
            0xffff => write!(out, "vlan_tci={tci:#06x}"),
            _ => write!(out, "vlan_tci={tci:#06x}/{mask:#06x}"),
        }
    }
}

/// Writes tunnel metadata of more than 16 bytes in a match.
fn write_wide(out: &mut dyn fmt::Write, wide: TunMetadata<'_>) -> fmt::Result {
    let TunMetadata { n, value, mask } = wide;
    write!(out, "tun_metadata{n}")?;
    let Some(mask) = mask else {
        out.write_char('=')?;
        return write_big(out, value);
    };
    // As with shorter ones: that it is there, and no more; bytes that do not count are not there for the text.
    let counted = mask.iter().position(|byte| *byte != 0);
    let Some(from) = counted else { return Ok(()) };
    out.write_char('=')?;
    write_big(out, value)?;
    if mask.get(from..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0xff)) {
        return Ok(());
    }
    out.write_char('/')?;
    write_big(out, mask)
}

/// Writes a number of many bytes in hexadecimal; zero without a prefix.
pub(super) fn write_big(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    let mut rest = bytes.iter().skip_while(|byte| **byte == 0);
    match rest.next() {
        None => out.write_char('0'),
        Some(first) => {
            write!(out, "{first:#x}")?;
            rest.try_for_each(|byte| write!(out, "{byte:02x}"))
        }
    }
}

/// Writes value and mask of a field in a match.
pub(super) fn write_field(
    out: &mut dyn fmt::Write,
    field: &FieldMatch,
    names: &Names,
) -> fmt::Result {
    let FieldMatch { value, mask, .. } = *field;
    let format = field.field.info().map_or(Format::Hex, |info| info.format);
    match format {
        Format::CtState if mask & 0xff == 0xff => write_flags(out, &ct_state::NAMES, value),
        Format::CtState => write_masked_flags(out, &ct_state::NAMES, value, mask),
        Format::TcpFlags if mask & 0xfff == 0xfff => write_flags(out, &tcp_flags::NAMES, value),
        Format::TcpFlags => write_masked_flags(out, &tcp_flags::NAMES, value, mask),
        Format::TunFlags => write_masked_flags(out, &tun_flags::NAMES, value, mask),
        Format::PacketType => write!(out, "({},{:#x})", value >> 16, value & 0xffff),
        Format::Frag => out.write_str(match (mask & 3, value & 3) {
            (3, 1) => "first",
            (3, 3) | (2, 2 | 3) => "later",
            (3, 0) | (1, 0 | 2) => "no",
            (1, _) => "yes",
            (2, _) => "not_later",
            _ => "<error>",
        }),
        Format::Port => {
            let number = if field.field == Field::NxmInPort {
                u16::try_from(value).map_or(u32::MAX, crate::types::port::from_u16)
            } else {
                u32::try_from(value).unwrap_or(u32::MAX)
            };
            names.write_port(out, number)
        }
        Format::Ipv4 => {
            write_value(out, field.field, value, names)?;
            let (prefix, whole) = prefix(mask, 32);
            match (prefix, whole) {
                (_, true) => Ok(()),
                (Some(bits), _) => write!(out, "/{bits}"),
                (None, _) => write!(out, "/{}", ipv4(mask)),
            }
        }
        Format::Ipv6 => {
            write_value(out, field.field, value, names)?;
            let (prefix, whole) = prefix(mask, 128);
            match (prefix, whole) {
                (_, true) => Ok(()),
                (Some(bits), _) => write!(out, "/{bits}"),
                (None, _) => {
                    out.write_char('/')?;
                    write_ipv6(out, mask)
                }
            }
        }
        Format::Mac => {
            write_value(out, field.field, value, names)?;
            if field.is_exact() { Ok(()) } else { write!(out, "/{}", MacAddr::from(mask)) }
        }
        Format::Decimal if !field.is_exact() && field.field == Field::NshFlags => {
            write!(out, "{value:#04x}/{mask:#04x}")
        }
        Format::Decimal if !field.is_exact() => write!(out, "{value:#x}/{mask:#x}"),
        Format::Hex if is_nsh_word(field.field) => {
            write!(out, "{value:#x}")?;
            if field.is_exact() { Ok(()) } else { write!(out, "/{mask:#x}") }
        }
        Format::Hex if field.field == Field::Ipv6Flabel => {
            write!(out, "{value:#07x}")?;
            if field.is_exact() { Ok(()) } else { write!(out, "/{mask:#07x}") }
        }
        Format::Hex => {
            write_c_hex(out, value)?;
            if field.is_exact() { Ok(()) } else { write!(out, "/{mask:#x}") }
        }
        Format::Decimal | Format::EthType => write_value(out, field.field, value, names),
    }
}

/// Fields whose zero OVS writes `0x0`.
pub(super) const fn is_nsh_word(field: Field) -> bool {
    matches!(field, Field::NshSpi | Field::NshC1 | Field::NshC2 | Field::NshC3 | Field::NshC4)
}

/// Writes a whole value, as a match and a set_field do.
pub(super) fn write_value(
    out: &mut dyn fmt::Write,
    field: Field,
    value: u128,
    names: &Names,
) -> fmt::Result {
    match field.info().map_or(Format::Hex, |info| info.format) {
        Format::Mac => write!(out, "{}", MacAddr::from(value)),
        Format::Ipv4 => write!(out, "{}", ipv4(value)),
        Format::Ipv6 => write_ipv6(out, value),
        Format::EthType => write!(out, "{value:#06x}"),
        Format::Decimal => write!(out, "{value}"),
        Format::Port => names.write_port(out, u32::try_from(value).unwrap_or(u32::MAX)),
        Format::CtState => write_flags(out, &ct_state::NAMES, value),
        Format::TcpFlags => write_flags(out, &tcp_flags::NAMES, value),
        Format::TunFlags => write_flags(out, &tun_flags::NAMES, value),
        Format::PacketType => write!(out, "({},{:#x})", value >> 16, value & 0xffff),
        Format::Frag | Format::Hex => write_c_hex(out, value),
    }
}

fn ipv4(value: u128) -> Ipv4Addr {
    Ipv4Addr::from((value & 0xffff_ffff) as u32)
}

/// Writes an IPv6 address as the C library does, which shows `::1.2.3.4` where Rust shows `::102:304`.
fn write_ipv6(out: &mut dyn fmt::Write, value: u128) -> fmt::Result {
    if value >> 32 == 0 && value >> 16 != 0 {
        return write!(out, "::{}", ipv4(value));
    }
    write!(out, "{}", Ipv6Addr::from(value))
}

/// The length of a mask that is a prefix, and whether it is the whole of `width` bits.
fn prefix(mask: u128, width: u32) -> (Option<u32>, bool) {
    let left = mask << (128 - width);
    let bits = left.leading_ones();
    let contiguous = bits == 128 || left << bits == 0;
    (contiguous.then_some(bits), bits >= width)
}

/// `new|trk`, or `0`.
fn write_flags(out: &mut dyn fmt::Write, names: &[&str], value: u128) -> fmt::Result {
    if value == 0 {
        return out.write_char('0');
    }
    let mut separator = "";
    for bit in bits(value) {
        out.write_str(separator)?;
        separator = "|";
        write_flag(out, names, bit)?;
    }
    Ok(())
}

/// `+trk-new`.
fn write_masked_flags(
    out: &mut dyn fmt::Write,
    names: &[&str],
    value: u128,
    mask: u128,
) -> fmt::Result {
    for bit in bits(mask) {
        out.write_char(if value >> bit & 1 == 1 { '+' } else { '-' })?;
        write_flag(out, names, bit)?;
    }
    Ok(())
}

fn bits(value: u128) -> impl Iterator<Item = usize> {
    (0..128).filter(move |bit| value >> bit & 1 == 1)
}

fn write_flag(out: &mut dyn fmt::Write, names: &[&str], bit: usize) -> fmt::Result {
    match names.get(bit) {
        Some(name) => out.write_str(name),
        None => write!(out, "[{:x}]", 1_u128 << bit),
    }
}
