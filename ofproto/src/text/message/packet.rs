//! Packets to and from the controller, and the line that says what is in a packet.
//!
//! Source: OVS `lib/ofp-packet.c`; `lib/flow.c` (`miniflow_extract`, `flow_format`) for the line.

use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::super::matching::write_value;
use super::super::{Names, Show, write_hex};
use super::group::write_actions;
use crate::action;
use crate::error::DecodeError;
use crate::oxm::{Field, Match};
use crate::packet::{PacketIn, PacketOut};
use crate::packet_in2::{NxtPacketIn, PacketIn2};
use crate::property;
use crate::types::MacAddr;
use crate::wire::Reader;

/// What the three forms of packet-ins have in common.
struct Summary<'a> {
    table: u8,
    /// All ones for none.
    cookie: u64,
    total_len: usize,
    metadata: Result<Match, DecodeError>,
    reason: u8,
    buffer_id: u32,
    data: &'a [u8],
}

impl Summary<'_> {
    fn show(&self, out: &mut String, names: &Names) -> fmt::Result {
        if self.table != 0 {
            out.push_str(" table_id=");
            names.write_table(out, self.table)?;
        }
        if self.cookie != u64::MAX {
            write!(out, " cookie={:#x}", self.cookie)?;
        }
        write!(out, " total_len={} ", self.total_len)?;
        match &self.metadata {
            Ok(metadata) => metadata.show(out, names)?,
            Err(error) => write!(out, "***decode error: {error}***")?,
        }
        out.push_str(" (via ");
        match self.reason {
            0 => out.push_str("no_match"),
            1 => out.push_str("action"),
            2 => out.push_str("invalid_ttl"),
            3 => out.push_str("action_set"),
            4 => out.push_str("group"),
            5 => out.push_str("packet_out"),
            6 | 7 => {}
            other => write!(out, "{other}")?,
        }
        let length = self.data.len();
        write!(out, ") data_len={length}")?;
        if self.buffer_id == u32::MAX {
            out.push_str(" (unbuffered)");
            if self.total_len != length {
                out.push_str(" (***total_len != data_len***)");
            }
        } else {
            write!(out, " buffer={:#010x}", self.buffer_id)?;
            if self.total_len < length {
                out.push_str(" (***total_len < data_len***)");
            }
        }
        out.push('\n');
        Ok(())
    }
}

pub(super) fn packet_in(out: &mut String, packet: &PacketIn, names: &Names) -> fmt::Result {
    let summary = Summary {
        table: packet.table,
        cookie: packet.cookie,
        total_len: packet.total_len.into(),
        metadata: Ok(packet.match_.clone()),
        reason: packet.reason,
        buffer_id: packet.buffer_id,
        data: &packet.data,
    };
    summary.show(out, names)?;
    write_packet(out, &packet.data)
}

pub(super) fn nxt_packet_in(out: &mut String, packet: &NxtPacketIn, names: &Names) -> fmt::Result {
    let summary = Summary {
        table: packet.table,
        cookie: packet.cookie,
        total_len: packet.total_len.into(),
        metadata: packet.metadata(),
        reason: packet.reason,
        buffer_id: packet.buffer_id,
        data: &packet.data,
    };
    summary.show(out, names)?;
    write_packet(out, &packet.data)
}

pub(super) fn packet_in2(out: &mut String, packet: &PacketIn2, names: &Names) -> fmt::Result {
    let none = Bytes::new();
    let data = packet.packet().unwrap_or(&none);
    let total_len = match packet.full_len().copied() {
        None | Some(0) => data.len(),
        Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
    };
    let summary = Summary {
        table: packet.table().copied().unwrap_or(0),
        cookie: packet.cookie().copied().unwrap_or(u64::MAX),
        total_len,
        metadata: packet.metadata(),
        reason: packet.reason().copied().unwrap_or(0),
        buffer_id: packet.buffer_id().copied().unwrap_or(u32::MAX),
        data,
    };
    summary.show(out, names)?;
    if let Some(userdata) = packet.userdata().filter(|bytes| !bytes.is_empty()) {
        out.push_str(" userdata=");
        write_hex(out, userdata, ".")?;
        out.push('\n');
    }
    if let Some(continuation) = packet.continuation() {
        write_continuation(out, continuation, names)?;
    }
    write_packet(out, data)
}

/// What a paused packet needs to go on.
#[derive(Default)]
struct Continuation {
    bridge: Option<u128>,
    /// The top first.
    stack: Vec<Bytes>,
    mirrors: u32,
    conntracked: bool,
    /// With table and cookie of the flow they come from.
    actions: Vec<(u8, u64, Vec<action::Action>)>,
    action_set: Vec<action::Action>,
}

impl Continuation {
    /// Reads what it knows; `None` where the properties are none.
    fn read(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (mut all, mut table, mut cookie) = (Self::default(), 0, 0);
        while !reader.is_empty() {
            let (typ, mut value) = property::read(&mut reader, "continuation property").ok()?;
            match typ {
                0x8000 => all.bridge = Some(value.u128("bridge").ok()?),
                0x8001 => all.stack.push(value.bytes()),
                0x8002 => all.mirrors = value.u32("mirrors").ok()?,
                0x8003 => all.conntracked = true,
                0x8004 => table = value.u8("table").ok()?,
                0x8005 => {
                    value.skip("padding", 4).ok()?;
                    cookie = value.u64("cookie").ok()?;
                }
                0x8006 | 0x8007 => {
                    value.skip("padding", 4).ok()?;
                    let actions = action::decode_list(&mut value).ok()?;
                    if typ == 0x8006 {
                        all.actions.push((table, cookie, actions));
                    } else {
                        all.action_set = actions;
                    }
                }
                _ => {}
            }
        }
        Some(all)
    }
}

fn write_continuation(out: &mut String, bytes: &Bytes, names: &Names) -> fmt::Result {
    let Some(all) = Continuation::read(bytes) else {
        out.push_str(" continuation=");
        write_hex(out, bytes, "")?;
        out.push('\n');
        return Ok(());
    };
    if let Some(bridge) = all.bridge.filter(|bridge| *bridge != 0) {
        let hex = format!("{bridge:032x}");
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
        writeln!(out, " continuation.bridge={}", parts.join("-"))?;
    }
    if !all.stack.is_empty() {
        out.push_str(" continuation.stack=(top)");
        for value in &all.stack {
            out.push(' ');
            write_subvalue(out, value)?;
        }
        out.push_str(" (bottom)\n");
    }
    if all.mirrors != 0 {
        writeln!(out, " continuation.mirrors={:#x}", all.mirrors)?;
    }
    if all.conntracked {
        out.push_str(" continuation.conntracked=true\n");
    }
    if !all.actions.is_empty() {
        out.push_str(" continuation.actions=");
        let mut separator = "";
        for (table, cookie, actions) in &all.actions {
            write!(out, "{separator}unroll_xlate(table={table}, cookie={cookie})")?;
            separator = ",";
            if !actions.is_empty() {
                out.push(',');
                write_actions(out, actions, names)?;
            }
        }
        out.push('\n');
    }
    if !all.action_set.is_empty() {
        out.push_str(" continuation.action_set=");
        write_actions(out, &all.action_set, names)?;
        out.push('\n');
    }
    Ok(())
}

/// A number of any length, without zeros before it.
fn write_subvalue(out: &mut String, bytes: &[u8]) -> fmt::Result {
    let Some(first) = bytes.iter().position(|byte| *byte != 0) else {
        return write!(out, "0");
    };
    let mut rest = bytes.iter().skip(first);
    if let Some(byte) = rest.next() {
        write!(out, "{byte:#x}")?;
    }
    rest.try_for_each(|byte| write!(out, "{byte:02x}"))
}

pub(super) fn packet_out(out: &mut String, packet: &PacketOut, names: &Names) -> fmt::Result {
    out.push_str(" in_port=");
    names.write_port(out, packet.in_port)?;
    out.push_str(" actions=");
    write_actions(out, &packet.actions, names)?;
    if packet.buffer_id != u32::MAX {
        return write!(out, " buffer={:#010x}", packet.buffer_id);
    }
    write!(out, " data_len={}", packet.data.len())?;
    if packet.data.is_empty() {
        return Ok(());
    }
    out.push('\n');
    write_packet(out, &packet.data)
}

/// No EtherType: the payload is none that OVS looks into.
const NO_TYPE: u16 = 0x05ff;
/// Labels OVS looks at.
const MAX_LABELS: usize = 3;
/// VLAN tags OVS looks at.
const MAX_TAGS: usize = 2;

/// The fields OVS finds in a packet.
#[derive(Default)]
struct Fields {
    eth_src: MacAddr,
    eth_dst: MacAddr,
    tags: [u16; MAX_TAGS],
    eth_type: u16,
    labels: [u32; MAX_LABELS],
    src: u128,
    dst: u128,
    flabel: u32,
    tos: u8,
    ttl: u8,
    fragment: u8,
    proto: u8,
    tp_src: u16,
    tp_dst: u16,
    tcp_flags: u16,
    sha: MacAddr,
    tha: MacAddr,
    nd_target: u128,
    nd_reserved: u32,
    nd_option: u8,
    igmp_group: u32,
    checksum: Option<(&'static str, u32)>,
}

/// The first fragment of a packet, or the whole of it when the bit is not set.
const FRAGMENT: u8 = 1;
/// Not the first fragment.
const LATER: u8 = 2;

impl Fields {
    /// What there is, as far as the packet goes. A truncated one simply ends the search.
    fn extract(packet: &[u8]) -> Self {
        let mut fields = Self::default();
        // The reader wants shared bytes to slice from; a packet is at most 64 KiB.
        let bytes = Bytes::copy_from_slice(packet);
        let _ = fields.ethernet(&mut Reader::new(&bytes));
        fields
    }

    fn ethernet(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.len() < 14 {
            return Ok(());
        }
        self.eth_dst = MacAddr(reader.array("destination")?);
        self.eth_src = MacAddr(reader.array("source")?);
        for tag in &mut self.tags {
            let mut ahead = reader.clone();
            let tpid = ahead.u16("EtherType")?;
            if !matches!(tpid, 0x8100 | 0x88a8) || reader.len() < 6 {
                break;
            }
            *tag = ahead.u16("tag")? | 0x1000;
            *reader = ahead;
        }
        self.eth_type = self.ethertype(reader)?;
        match self.eth_type {
            0x8847 | 0x8848 => {
                for label in &mut self.labels {
                    *label = reader.u32("label")?;
                    if *label & 0x100 != 0 {
                        break;
                    }
                }
                Ok(())
            }
            0x0800 => self.ipv4(reader),
            0x86dd => self.ipv6(reader),
            0x0806 | 0x8035 => self.arp(reader),
            _ => Ok(()),
        }
    }

    fn ethertype(&self, reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
        let value = reader.u16("EtherType")?;
        if value >= 0x0600 {
            return Ok(value);
        }
        // 802.3 with a length: LLC and SNAP say the type.
        let mut ahead = reader.clone();
        let llc: Result<[u8; 6], _> = ahead.array("LLC");
        match (llc, ahead.u16("SNAP type")) {
            (Ok([0xaa, 0xaa, 0x03, 0, 0, 0]), Ok(typ)) if typ >= 0x0600 => {
                *reader = ahead;
                Ok(typ)
            }
            _ => Ok(NO_TYPE),
        }
    }

    fn arp(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.len() < 28 {
            return Ok(());
        }
        let head: [u8; 6] = reader.array("ARP")?;
        if head != [0, 1, 8, 0, 6, 4] {
            return Ok(());
        }
        let op = reader.u16("ARP operation")?;
        self.proto = u8::try_from(op).unwrap_or(0);
        self.sha = MacAddr(reader.array("ARP sender")?);
        self.src = reader.u32("ARP sender")?.into();
        self.tha = MacAddr(reader.array("ARP target")?);
        self.dst = reader.u32("ARP target")?.into();
        Ok(())
    }

    fn ipv4(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut ip = reader.clone();
        if ip.len() < 20 {
            return Ok(());
        }
        let header = usize::from(ip.u8("version")? & 0x0f) * 4;
        let tos = ip.u8("tos")?;
        let total = usize::from(ip.u16("length")?);
        if header < 20 || reader.len() < header || total > reader.len() || header > total {
            return Ok(());
        }
        ip.skip("identification", 2)?;
        let fragment = ip.u16("fragment")?;
        let (ttl, proto) = (ip.u8("ttl")?, ip.u8("protocol")?);
        ip.skip("checksum", 2)?;
        self.src = ip.u32("source")?.into();
        self.dst = ip.u32("destination")?.into();
        (self.tos, self.ttl, self.proto) = (tos, ttl, proto);
        if fragment & 0x3fff != 0 {
            self.fragment = if fragment & 0x1fff == 0 { FRAGMENT } else { FRAGMENT | LATER };
        }
        let mut packet = reader.sub("packet", total)?;
        packet.skip("header", header)?;
        self.transport(&mut packet)
    }

    fn ipv6(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.len() < 40 {
            return Ok(());
        }
        let mut ip = reader.clone();
        let head = ip.u32("version")?;
        let payload = usize::from(ip.u16("length")?);
        if payload + 40 > reader.len() {
            return Ok(());
        }
        let (mut proto, ttl) = (ip.u8("next header")?, ip.u8("hop limit")?);
        self.src = ip.u128("source")?;
        self.dst = ip.u128("destination")?;
        let mut rest = ip.sub("payload", payload)?;
        let mut fragment = 0;
        while matches!(proto, 0 | 43 | 44 | 51 | 60) {
            if rest.len() < 8 {
                return Ok(());
            }
            let mut ahead = rest.clone();
            let (next, length) = (ahead.u8("next header")?, usize::from(ahead.u8("length")?));
            match proto {
                44 => {
                    let offset = ahead.u16("fragment")?;
                    rest.skip("fragment header", 8)?;
                    proto = next;
                    if offset != 0 {
                        fragment = FRAGMENT;
                        if offset & 0xfff8 != 0 {
                            fragment |= LATER;
                            proto = 44;
                            break;
                        }
                    }
                }
                51 => {
                    rest.skip("authentication header", (length + 2) * 4)?;
                    proto = next;
                }
                _ => {
                    rest.skip("extension header", (length + 1) * 8)?;
                    proto = next;
                }
            }
        }
        self.tos = u8::try_from(head >> 20 & 0xff).unwrap_or(0);
        self.flabel = head & 0xf_ffff;
        (self.ttl, self.proto, self.fragment) = (ttl, proto, fragment);
        self.transport(&mut rest)
    }

    fn transport(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let size = reader.len();
        let at = |skip: usize| {
            let mut ahead = reader.clone();
            ahead.skip("header", skip).and_then(|()| ahead.u16("checksum")).unwrap_or(0)
        };
        self.checksum = match self.proto {
            6 if size >= 20 => Some(("tcp", at(16).into())),
            17 if size >= 8 => Some(("udp", at(6).into())),
            132 if size >= 12 => Some(("sctp", u32::from(at(8)) << 16 | u32::from(at(10)))),
            1 if size >= 8 => Some(("icmp", at(2).into())),
            58 if size >= 4 => Some(("icmp6", at(2).into())),
            _ => None,
        };
        if self.fragment & LATER != 0 {
            return Ok(());
        }
        match self.proto {
            6 if size >= 20 => {
                (self.tp_src, self.tp_dst) = (at(0), at(2));
                self.tcp_flags = at(12) & 0x0fff;
            }
            17 if size >= 8 => (self.tp_src, self.tp_dst) = (at(0), at(2)),
            132 if size >= 12 => (self.tp_src, self.tp_dst) = (at(0), at(2)),
            1 | 2 if size >= 8 => {
                (self.tp_src, self.tp_dst) = (at(0) >> 8, at(0) & 0xff);
                if self.proto == 2 {
                    self.igmp_group = u32::from(at(4)) << 16 | u32::from(at(6));
                }
            }
            58 if size >= 8 => {
                (self.tp_src, self.tp_dst) = (at(0) >> 8, at(0) & 0xff);
                if self.is_nd() {
                    reader.skip("ICMPv6", 4)?;
                    self.neighbour(reader)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_nd(&self) -> bool {
        self.eth_type == 0x86dd
            && self.proto == 58
            && self.tp_dst == 0
            && matches!(self.tp_src, 135 | 136)
    }

    fn neighbour(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.nd_reserved = reader.u32("reserved")?;
        if reader.len() < 16 {
            return Ok(());
        }
        self.nd_target = reader.u128("target")?;
        while reader.len() >= 8 {
            let mut option = reader.clone();
            let (typ, length) = (option.u8("option")?, usize::from(option.u8("length")?) * 8);
            if length == 0 || length > reader.len() {
                return Ok(());
            }
            if let (1 | 2, 8) = (typ, length) {
                let address = MacAddr(option.array("link layer address")?);
                let slot = if typ == 1 { &mut self.sha } else { &mut self.tha };
                if *slot != MacAddr::default() {
                    // The same option twice: OVS forgets what it has found.
                    (self.nd_target, self.sha, self.tha) =
                        (0, MacAddr::default(), MacAddr::default());
                    return Ok(());
                }
                *slot = address;
                if self.nd_option == 0 {
                    self.nd_option = typ;
                }
            }
            reader.skip("option", length)?;
        }
        Ok(())
    }

    /// The name that stands for EtherType and protocol, and whether it says the protocol.
    fn shorthand(&self) -> Option<(&'static str, bool)> {
        Some(match (self.eth_type, self.proto) {
            (0x0800, 1) => ("icmp", true),
            (0x0800, 6) => ("tcp", true),
            (0x0800, 17) => ("udp", true),
            (0x0800, 132) => ("sctp", true),
            (0x0800, _) => ("ip", false),
            (0x86dd, 58) => ("icmp6", true),
            (0x86dd, 6) => ("tcp6", true),
            (0x86dd, 17) => ("udp6", true),
            (0x86dd, 132) => ("sctp6", true),
            (0x86dd, _) => ("ipv6", false),
            (0x0806, _) => ("arp", false),
            (0x8035, _) => ("rarp", false),
            (0x8847, _) => ("mpls", false),
            (0x8848, _) => ("mplsm", false),
            _ => return None,
        })
    }

    fn show(&self, out: &mut String) -> fmt::Result {
        let short = self.shorthand();
        if let Some((name, _)) = short {
            write!(out, "{name},")?;
        }
        for (n, tag) in self.tags.into_iter().enumerate() {
            let n = if n == 0 { String::new() } else { n.to_string() };
            if tag == 0 {
                write!(out, "vlan_tci{n}=0x0000,")?;
                break;
            }
            write!(out, "dl_vlan{n}={},dl_vlan_pcp{n}={},", tag & 0x0fff, tag >> 13)?;
        }
        write!(out, "dl_src={},dl_dst={}", self.eth_src, self.eth_dst)?;
        if short.is_none() {
            write!(out, ",dl_type={:#06x}", self.eth_type)?;
        }
        match self.eth_type {
            0x86dd => {
                out.push_str(",ipv6_src=");
                write_value(out, Field::Ipv6Src, self.src, &Names::default())?;
                out.push_str(",ipv6_dst=");
                write_value(out, Field::Ipv6Dst, self.dst, &Names::default())?;
                write!(out, ",ipv6_label={:#07x}", self.flabel)?;
            }
            0x0800 | 0x0806 | 0x8035 => {
                let names = if self.eth_type == 0x0800 {
                    ["nw_src", "nw_dst"]
                } else {
                    ["arp_spa", "arp_tpa"]
                };
                for (name, value) in names.into_iter().zip([self.src, self.dst]) {
                    write!(out, ",{name}=")?;
                    write_value(out, Field::Ipv4Src, value, &Names::default())?;
                }
            }
            _ => {}
        }
        match (self.eth_type, short) {
            (0x0806 | 0x8035, _) => {
                let (op, sha, tha) = (self.proto, self.sha, self.tha);
                write!(out, ",arp_op={op},arp_sha={sha},arp_tha={tha}")
            }
            (0x0800 | 0x86dd, Some((_, said))) => {
                if !said {
                    write!(out, ",nw_proto={}", self.proto)?;
                }
                self.show_ip(out)
            }
            (0x8847 | 0x8848, _) => self.show_labels(out),
            _ => Ok(()),
        }
    }

    fn show_labels(&self, out: &mut String) -> fmt::Result {
        for (n, label) in self.labels.into_iter().enumerate() {
            if n == 0 {
                let (value, tc) = (label >> 12, label >> 9 & 7);
                write!(out, ",mpls_label={value},mpls_tc={tc}")?;
                write!(out, ",mpls_ttl={},mpls_bos={}", label & 0xff, label >> 8 & 1)?;
            } else {
                write!(out, ",mpls_lse{n}={label}")?;
            }
            if label & 0x100 != 0 {
                break;
            }
        }
        Ok(())
    }

    fn show_ip(&self, out: &mut String) -> fmt::Result {
        let (tos, ecn, ttl) = (self.tos & 0xfc, self.tos & 3, self.ttl);
        write!(out, ",nw_tos={tos},nw_ecn={ecn},nw_ttl={ttl}")?;
        let fragment = match self.fragment {
            0 => "no",
            FRAGMENT => "first",
            _ => "later",
        };
        write!(out, ",nw_frag={fragment}")?;
        if self.fragment & LATER != 0 {
            return Ok(());
        }
        let v6 = self.eth_type == 0x86dd;
        match self.proto {
            6 | 17 | 132 => {
                write!(out, ",tp_src={},tp_dst={}", self.tp_src, self.tp_dst)?;
            }
            1 if !v6 => write!(out, ",icmp_type={},icmp_code={}", self.tp_src, self.tp_dst)?,
            58 if v6 => write!(out, ",icmp_type={},icmp_code={}", self.tp_src, self.tp_dst)?,
            1 | 2 | 58 => write!(out, ",tp_src={},tp_dst={}", self.tp_src, self.tp_dst)?,
            _ => {}
        }
        if self.is_nd() {
            out.push_str(",nd_target=");
            write_value(out, Field::Ipv6Src, self.nd_target, &Names::default())?;
            write!(out, ",nd_sll={},nd_tll={}", self.sha, self.tha)?;
        }
        if self.proto == 6 {
            out.push_str(",tcp_flags=");
            write_value(out, Field::TcpFlags, self.tcp_flags.into(), &Names::default())?;
        }
        Ok(())
    }
}

/// The line that says what is in a packet.
fn write_packet(out: &mut String, packet: &[u8]) -> fmt::Result {
    let fields = Fields::extract(packet);
    fields.show(out)?;
    if let Some((name, value)) = fields.checksum {
        write!(out, " {name}_csum:{value:x}")?;
    }
    out.push('\n');
    Ok(())
}
