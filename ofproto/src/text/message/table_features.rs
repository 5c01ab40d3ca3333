//! What tables can do. Source: OVS `lib/ofp-table.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::super::Names;
use super::group::{ACTIONS, write_action_types};
use super::stats::write_ditto;
use crate::multipart::{OxmId, TableFeatures, TableProperty};
use crate::types::{NX, ONF};

/// The experimenter of the fields of network service headers.
const NSH: u32 = 0x005a_d650;

/// Names OVS gives to fields, in the order in which it lists them.
struct Row {
    /// The name, without the number of a family.
    name: &'static str,
    /// The number the family begins with.
    first: u8,
    /// Members of the family, 1 for a single field.
    count: u8,
    /// Bytes of the value; 0 for any.
    bytes: u8,
    /// Class, experimenter and number of its headers (of the first of a family).
    headers: &'static [(u16, u32, u8)],
}

const fn row(
    name: &'static str,
    first: u8,
    count: u8,
    bytes: u8,
    headers: &'static [(u16, u32, u8)],
) -> Row {
    Row { name, first, count, bytes, headers }
}

/// Fields of OVS 3.1, with more of them than a match here has a name for: read off `ovs-ofctl ofp-print`, one header
/// of each class, number and length after the other.
#[rustfmt::skip]
const FIELDS: [Row; 87] = [
    row("dp_hash", 0, 1, 4, &[(0x0001, 0, 35), (0xffff, NX, 0)]),
    row("recirc_id", 0, 1, 4, &[(0x0001, 0, 36)]),
    row("packet_type", 0, 1, 4, &[(0x8000, 0, 44)]),
    row("conj_id", 0, 1, 4, &[(0x0001, 0, 37)]),
    row("tun_id", 0, 1, 8, &[(0x0001, 0, 16), (0x8000, 0, 38)]),
    row("tun_src", 0, 1, 4, &[(0x0001, 0, 31)]),
    row("tun_dst", 0, 1, 4, &[(0x0001, 0, 32)]),
    row("tun_ipv6_src", 0, 1, 16, &[(0x0001, 0, 109)]),
    row("tun_ipv6_dst", 0, 1, 16, &[(0x0001, 0, 110)]),
    row("tun_flags", 0, 1, 2, &[(0x0001, 0, 104)]),
    row("tun_gbp_id", 0, 1, 2, &[(0x0001, 0, 38)]),
    row("tun_gbp_flags", 0, 1, 1, &[(0x0001, 0, 39)]),
    row("tun_erspan_idx", 0, 1, 4, &[(0xffff, NX, 11)]),
    row("tun_erspan_ver", 0, 1, 1, &[(0xffff, NX, 12)]),
    row("tun_erspan_dir", 0, 1, 1, &[(0xffff, NX, 13)]),
    row("tun_erspan_hwid", 0, 1, 1, &[(0xffff, NX, 14)]),
    row("tun_gtpu_flags", 0, 1, 1, &[(0xffff, NX, 15)]),
    row("tun_gtpu_msgtype", 0, 1, 1, &[(0xffff, NX, 16)]),
    row("tun_metadata", 0, 64, 0, &[(0x0001, 0, 40)]),
    row("metadata", 0, 1, 8, &[(0x8000, 0, 2)]),
    row("in_port", 0, 1, 2, &[(0x0000, 0, 0)]),
    row("in_port_oxm", 0, 1, 4, &[(0x8000, 0, 0)]),
    row("actset_output", 0, 1, 4, &[(0x8000, 0, 43), (0xffff, ONF, 43)]),
    row("pkt_mark", 0, 1, 4, &[(0x0001, 0, 33)]),
    row("ct_state", 0, 1, 4, &[(0x0001, 0, 105)]),
    row("ct_zone", 0, 1, 2, &[(0x0001, 0, 106)]),
    row("ct_mark", 0, 1, 4, &[(0x0001, 0, 107)]),
    row("ct_label", 0, 1, 16, &[(0x0001, 0, 108)]),
    row("ct_nw_proto", 0, 1, 1, &[(0x0001, 0, 119)]),
    row("ct_nw_src", 0, 1, 4, &[(0x0001, 0, 120)]),
    row("ct_nw_dst", 0, 1, 4, &[(0x0001, 0, 121)]),
    row("ct_ipv6_src", 0, 1, 16, &[(0x0001, 0, 122)]),
    row("ct_ipv6_dst", 0, 1, 16, &[(0x0001, 0, 123)]),
    row("ct_tp_src", 0, 1, 2, &[(0x0001, 0, 124)]),
    row("ct_tp_dst", 0, 1, 2, &[(0x0001, 0, 125)]),
    row("reg", 0, 16, 4, &[(0x0001, 0, 0)]),
    row("xreg", 0, 8, 8, &[(0x8001, 0, 0)]),
    row("xxreg", 0, 4, 16, &[(0x0001, 0, 111)]),
    row("eth_src", 0, 1, 6, &[(0x0000, 0, 2), (0x8000, 0, 4)]),
    row("eth_dst", 0, 1, 6, &[(0x0000, 0, 1), (0x8000, 0, 3)]),
    row("eth_type", 0, 1, 2, &[(0x0000, 0, 3), (0x8000, 0, 5)]),
    row("vlan_tci", 0, 1, 2, &[(0x0000, 0, 4)]),
    row("vlan_vid", 0, 1, 2, &[(0x8000, 0, 6)]),
    row("vlan_pcp", 0, 1, 1, &[(0x8000, 0, 7)]),
    row("mpls_label", 0, 1, 4, &[(0x8000, 0, 34)]),
    row("mpls_tc", 0, 1, 1, &[(0x8000, 0, 35)]),
    row("mpls_bos", 0, 1, 1, &[(0x8000, 0, 36)]),
    row("mpls_ttl", 0, 1, 1, &[(0x0001, 0, 30)]),
    row("ip_src", 0, 1, 4, &[(0x0000, 0, 7), (0x8000, 0, 11)]),
    row("ip_dst", 0, 1, 4, &[(0x0000, 0, 8), (0x8000, 0, 12)]),
    row("ipv6_src", 0, 1, 16, &[(0x0001, 0, 19), (0x8000, 0, 26)]),
    row("ipv6_dst", 0, 1, 16, &[(0x0001, 0, 20), (0x8000, 0, 27)]),
    row("ipv6_label", 0, 1, 4, &[(0x0001, 0, 27), (0x8000, 0, 28)]),
    row("nw_proto", 0, 1, 1, &[(0x0000, 0, 6), (0x8000, 0, 10)]),
    row("nw_tos", 0, 1, 1, &[(0x0000, 0, 5)]),
    row("ip_dscp", 0, 1, 1, &[(0x8000, 0, 8)]),
    row("nw_ecn", 0, 1, 1, &[(0x0001, 0, 28), (0x8000, 0, 9)]),
    row("nw_ttl", 0, 1, 1, &[(0x0001, 0, 29)]),
    row("ip_frag", 0, 1, 1, &[(0x0001, 0, 26)]),
    row("arp_op", 0, 1, 2, &[(0x0000, 0, 15), (0x8000, 0, 21)]),
    row("arp_spa", 0, 1, 4, &[(0x0000, 0, 16), (0x8000, 0, 22)]),
    row("arp_tpa", 0, 1, 4, &[(0x0000, 0, 17), (0x8000, 0, 23)]),
    row("arp_sha", 0, 1, 6, &[(0x0001, 0, 17), (0x8000, 0, 24)]),
    row("arp_tha", 0, 1, 6, &[(0x0001, 0, 18), (0x8000, 0, 25)]),
    row("tcp_src", 0, 1, 2, &[(0x0000, 0, 9), (0x8000, 0, 13)]),
    row("tcp_dst", 0, 1, 2, &[(0x0000, 0, 10), (0x8000, 0, 14)]),
    row("tcp_flags", 0, 1, 2, &[(0x0001, 0, 34), (0x8000, 0, 42), (0xffff, ONF, 42)]),
    row("udp_src", 0, 1, 2, &[(0x0000, 0, 11), (0x8000, 0, 15)]),
    row("udp_dst", 0, 1, 2, &[(0x0000, 0, 12), (0x8000, 0, 16)]),
    row("sctp_src", 0, 1, 2, &[(0x8000, 0, 17)]),
    row("sctp_dst", 0, 1, 2, &[(0x8000, 0, 18)]),
    row("icmp_type", 0, 1, 1, &[(0x0000, 0, 13), (0x8000, 0, 19)]),
    row("icmp_code", 0, 1, 1, &[(0x0000, 0, 14), (0x8000, 0, 20)]),
    row("icmpv6_type", 0, 1, 1, &[(0x0001, 0, 21), (0x8000, 0, 29)]),
    row("icmpv6_code", 0, 1, 1, &[(0x0001, 0, 22), (0x8000, 0, 30)]),
    row("nd_target", 0, 1, 16, &[(0x0001, 0, 23), (0x8000, 0, 31)]),
    row("nd_sll", 0, 1, 6, &[(0x0001, 0, 24), (0x8000, 0, 32)]),
    row("nd_tll", 0, 1, 6, &[(0x0001, 0, 25), (0x8000, 0, 33)]),
    row("nd_reserved", 0, 1, 4, &[(0x1000, 0, 1)]),
    row("nd_options_type", 0, 1, 1, &[(0x1000, 0, 2)]),
    row("nsh_flags", 0, 1, 1, &[(0xffff, NSH, 1)]),
    row("nsh_mdtype", 0, 1, 1, &[(0xffff, NSH, 2)]),
    row("nsh_np", 0, 1, 1, &[(0xffff, NSH, 3)]),
    row("nsh_spi", 0, 1, 4, &[(0xffff, NSH, 4)]),
    row("nsh_si", 0, 1, 1, &[(0xffff, NSH, 5)]),
    row("nsh_c", 1, 4, 4, &[(0xffff, NSH, 6)]),
    row("nsh_ttl", 0, 1, 1, &[(0xffff, NSH, 10)]),
];

/// A field by its place in [`FIELDS`] and in its family.
type FieldAt = (usize, u8);

/// The field a header means.
fn field_of(id: &OxmId) -> Option<FieldAt> {
    let [high, low, number, length] = id.header.to_be_bytes();
    let class = u16::from_be_bytes([high, low]);
    let length = if id.experimenter.is_some() { length.checked_sub(4)? } else { length };
    let bytes = if number & 1 == 1 { length / 2 } else { length };
    let (experimenter, number) = (id.experimenter.unwrap_or(0), number >> 1);
    FIELDS.iter().enumerate().find_map(|(at, row)| {
        if row.bytes != 0 && row.bytes != bytes {
            return None;
        }
        row.headers.iter().find_map(|header| {
            let (of_class, of_experimenter, of_number) = *header;
            let member = number.checked_sub(of_number)?;
            let same = of_class == class && of_experimenter == experimenter;
            (same && member < row.count).then_some((at, member))
        })
    })
}

fn name_of((at, member): FieldAt) -> String {
    match FIELDS.get(at) {
        Some(row) if row.count > 1 => format!("{}{}", row.name, row.first + member),
        Some(row) => row.name.to_owned(),
        None => String::new(),
    }
}

/// Actions to write or to apply.
#[derive(Default, PartialEq, Eq, Clone)]
struct Actions {
    types: u32,
    fields: BTreeSet<FieldAt>,
}

/// What flows, or the miss of a table, can do.
#[derive(Default, PartialEq, Eq, Clone)]
struct Half {
    tables: BTreeSet<u8>,
    instructions: u32,
    write: Actions,
    apply: Actions,
}

/// The properties of a table put together.
#[derive(Default)]
struct Summary {
    table: u8,
    metadata: (u64, u64),
    max_entries: u32,
    flows: Half,
    miss: Half,
    /// What it can match: whether with a mask.
    matching: BTreeMap<FieldAt, bool>,
    /// What need not be matched.
    wildcards: BTreeSet<FieldAt>,
}

/// Types of instructions in the order OVS shows them.
const INSTRUCTIONS: [(u16, &str); 6] = [
    (6, "meter"),
    (4, "apply_actions"),
    (5, "clear_actions"),
    (3, "write_actions"),
    (2, "write_metadata"),
    (1, "goto_table"),
];

impl Summary {
    fn of(features: &TableFeatures) -> Self {
        let mut all = Self {
            table: features.table,
            metadata: (features.metadata_match, features.metadata_write),
            max_entries: features.max_entries,
            ..Self::default()
        };
        for property in &features.properties {
            all.add(property);
        }
        all
    }

    fn add(&mut self, property: &TableProperty) {
        let bits = |ids: &[crate::multipart::FeatureId], known: &dyn Fn(u16) -> bool| {
            ids.iter()
                .filter(|id| known(id.typ))
                .fold(0_u32, |bits, id| bits | 1_u32.checked_shl(id.typ.into()).unwrap_or(0))
        };
        match property {
            TableProperty::Instructions(typ, ids) => {
                let known = |typ| INSTRUCTIONS.iter().any(|(known, _)| *known == typ);
                self.half(*typ).instructions = bits(ids, &known);
            }
            TableProperty::NextTables(typ, tables) => {
                self.half(*typ).tables = tables.iter().copied().collect();
            }
            TableProperty::Actions(typ, ids) => {
                let known = |typ: u16| ACTIONS.iter().any(|(known, _)| *known == u32::from(typ));
                let types = bits(ids, &known);
                self.actions(*typ, typ & !1 == TableProperty::WRITE_ACTIONS).types = types;
            }
            TableProperty::Fields(TableProperty::MATCH, ids) => {
                for id in ids {
                    if let Some(field) = field_of(id) {
                        *self.matching.entry(field).or_default() |= id.header & 0x100 != 0;
                    }
                }
            }
            TableProperty::Fields(TableProperty::WILDCARDS, ids) => {
                self.wildcards = ids.iter().filter_map(field_of).collect();
            }
            TableProperty::Fields(typ, ids) => {
                let fields = ids.iter().filter_map(field_of).collect();
                self.actions(*typ, typ & !1 == TableProperty::WRITE_SETFIELD).fields = fields;
            }
            TableProperty::Unknown { .. } => {}
        }
    }

    /// Lists with even numbers are of flows, with odd ones of the miss.
    fn half(&mut self, typ: u16) -> &mut Half {
        if typ & 1 == 0 { &mut self.flows } else { &mut self.miss }
    }

    fn actions(&mut self, typ: u16, write: bool) -> &mut Actions {
        let half = self.half(typ);
        if write { &mut half.write } else { &mut half.apply }
    }

    /// Whether two tables can do the same, where each can go to the tables behind it.
    fn same(&self, other: &Self) -> bool {
        self.metadata == other.metadata
            && self.max_entries == other.max_entries
            && self.same_halves(other)
            && self.matching.keys().eq(other.matching.keys())
    }

    fn same_halves(&self, other: &Self) -> bool {
        same_half(&self.flows, self.table, &other.flows, other.table)
            && same_half(&self.miss, self.table, &other.miss, other.table)
    }
}

/// Whether `a` of table `a_table` can do the same as `b` of table `b_table`.
fn same_half(a: &Half, a_table: u8, b: &Half, b_table: u8) -> bool {
    same_tables(&a.tables, a_table, &b.tables, b_table)
        && (a.instructions, &a.write, &a.apply) == (b.instructions, &b.write, &b.apply)
}

/// Whether the next tables are the same; of neighbours the later cannot go to itself, and the earlier can.
fn same_tables(a: &BTreeSet<u8>, a_table: u8, b: &BTreeSet<u8>, b_table: u8) -> bool {
    let follows = |first: u8, then: u8| first.checked_add(1) == Some(then);
    if follows(a_table, b_table) && a.contains(&b_table) && !b.contains(&b_table) {
        return a.iter().filter(|table| **table != b_table).eq(b.iter());
    }
    if follows(b_table, a_table) {
        if b.contains(&a_table) && !a.contains(&a_table) {
            return b.iter().filter(|table| **table != a_table).eq(a.iter());
        }
        return a == b;
    }
    a == b
}

pub(super) fn show(out: &mut String, tables: &[TableFeatures], _: &Names) -> fmt::Result {
    let mut before: Option<Summary> = None;
    let mut ditto = None;
    for features in tables {
        let all = Summary::of(features);
        let named = features.name_bytes.first() != Some(&0);
        let same = before.as_ref().is_some_and(|before| all.same(before));
        if same && !named {
            let table = features.table;
            ditto = Some((ditto.map_or(table, |(first, _)| first), table));
        } else {
            write_ditto(out, &mut ditto)?;
            write!(out, "\n  table {}", features.table)?;
            if named {
                // OVS keeps the last byte for the end of the text.
                let name = features.name_bytes.split_last().map_or(&[][..], |(_, name)| name);
                write!(out, " (\"{}\")", super::lossy(name))?;
            }
            if same {
                out.push_str(": ditto");
            } else {
                out.push_str(":\n");
                write_features(out, &all, before.as_ref())?;
            }
        }
        before = Some(all);
    }
    write_ditto(out, &mut ditto)
}

fn write_features(out: &mut String, all: &Summary, before: Option<&Summary>) -> fmt::Result {
    if all.metadata != (0, 0) {
        out.push_str("    metadata: match=");
        super::super::write_c_hex(out, all.metadata.0.into())?;
        out.push_str(" write=");
        super::super::write_c_hex(out, all.metadata.1.into())?;
        out.push('\n');
    }
    if all.max_entries != 0 {
        writeln!(out, "    max_entries={}", all.max_entries)?;
    }
    let empty = all.flows == Half::default();
    if before.is_some_and(|before| all.same_halves(before)) {
        if !empty {
            out.push_str("    (same instructions)\n");
        }
    } else if !same_half(&all.flows, all.table, &all.miss, all.table) {
        out.push_str("    instructions (other than table miss):\n");
        write_half(out, &all.flows, before.map(|before| &before.flows))?;
        out.push_str("    instructions (table miss):\n");
        write_half(out, &all.miss, before.map(|before| &before.miss))?;
    } else if !empty {
        out.push_str("    instructions (table miss and others):\n");
        write_half(out, &all.flows, before.map(|before| &before.flows))?;
    }
    if all.matching.is_empty() {
        return Ok(());
    }
    if before.is_some_and(|before| all.matching.keys().eq(before.matching.keys())) {
        out.push_str("    (same matching)\n");
        return Ok(());
    }
    out.push_str("    matching:\n");
    let (masked, whole): (Vec<_>, Vec<_>) = all.matching.iter().partition(|(_, mask)| **mask);
    let (free, needed): (Vec<_>, Vec<_>) =
        whole.into_iter().partition(|(field, _)| all.wildcards.contains(*field));
    let kinds = [
        ("arbitrary mask", masked),
        ("exact match or wildcard", free),
        ("must exact match", needed),
    ];
    for (kind, fields) in kinds {
        if !fields.is_empty() {
            let names: Vec<String> = fields.into_iter().map(|(field, _)| name_of(*field)).collect();
            writeln!(out, "      {kind}: {}", compressed(&names, " "))?;
        }
    }
    Ok(())
}

fn write_half(out: &mut String, half: &Half, before: Option<&Half>) -> fmt::Result {
    if !half.tables.is_empty() {
        out.push_str("      next tables: ");
        write_ranges(out, &half.tables)?;
        out.push('\n');
    }
    if half.instructions != 0 {
        if before.is_some_and(|before| before.instructions == half.instructions) {
            out.push_str("      (same instructions)\n");
        } else {
            let has = |typ: &u16| half.instructions >> typ & 1 == 1;
            let names: Vec<&str> =
                INSTRUCTIONS.iter().filter(|(typ, _)| has(typ)).map(|(_, name)| *name).collect();
            writeln!(out, "      instructions: {}", names.join(" "))?;
        }
    }
    let same = |before: &Half| before.write == half.write && before.apply == half.apply;
    if before.is_some_and(same) && !half.write.fields.is_empty() {
        out.push_str("      (same actions)\n");
    } else if half.write != half.apply {
        out.push_str("      Write-Actions features:\n");
        write_actions(out, &half.write)?;
        out.push_str("      Apply-Actions features:\n");
        write_actions(out, &half.apply)?;
    } else if half.write != Actions::default() {
        out.push_str("      Write-Actions and Apply-Actions features:\n");
        write_actions(out, &half.write)?;
    }
    Ok(())
}

fn write_actions(out: &mut String, actions: &Actions) -> fmt::Result {
    if actions.types != 0 {
        out.push_str("        actions: ");
        write_action_types(out, actions.types);
        out.push('\n');
    }
    if actions.fields.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = actions.fields.iter().map(|field| name_of(*field)).collect();
    writeln!(out, "        supported on Set-Field: {}", compressed(&names, " "))
}

/// `1,3-5`.
fn write_ranges(out: &mut String, tables: &BTreeSet<u8>) -> fmt::Result {
    let mut rest = tables.iter().copied().peekable();
    let mut separator = "";
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.peek().copied() == last.checked_add(1) && last != u8::MAX {
            last = rest.next().unwrap_or(last);
        }
        out.push_str(separator);
        separator = ",";
        if first == last { write!(out, "{first}")? } else { write!(out, "{first}-{last}")? }
    }
    Ok(())
}

/// Bytes that two names have in common, up to their last common underscore.
fn common(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    a.get(..same).and_then(|same| same.rfind('_')).map_or(0, |at| at + 1)
}

/// The name without its number, and the number.
fn numbered(name: &str) -> Option<(&str, u32)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((stem, name.get(stem.len()..)?.parse().ok()?))
}

/// Names as OVS shortens them: `reg0...reg15`, `ct_{state,nw_{src,dst}}`.
///
/// What the first two have in common is what it cuts off all the others that begin like the first, even those that
/// have less in common; such a list comes out garbled there, and so it does here.
fn compressed(names: &[String], separator: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = names;
    while let Some((first, others)) = rest.split_first() {
        if let Some((stem, number)) = numbered(first) {
            let follows = |(n, name): (u32, &String)| *name == format!("{stem}{}", number + n);
            let run = (1..).zip(others).take_while(|pair| follows(*pair)).count();
            if let Some(last) = others.get(run.wrapping_sub(1)).filter(|_| run >= 2) {
                parts.push(format!("{first}...{last}"));
                rest = others.get(run..).unwrap_or_default();
                continue;
            }
        }
        let prefix = others.first().map_or(0, |second| common(first, second));
        if prefix == 0 {
            parts.push(first.clone());
            rest = others;
            continue;
        }
        let run = others.iter().take_while(|name| common(first, name) > 0).count();
        let cut = |name: &String| name.get(prefix..).unwrap_or_default().to_owned();
        let inner: Vec<String> = rest.iter().take(run + 1).map(cut).collect();
        let head = first.get(..prefix).unwrap_or_default();
        parts.push(format!("{head}{{{}}}", compressed(&inner, ",")));
        rest = others.get(run..).unwrap_or_default();
    }
    parts.join(separator)
}
