//! Groups. Source: OVS `lib/ofp-group.c`.

use std::fmt::{self, Write as _};

use super::super::{Names, Show};
use super::{CHex, write_duration};
use crate::group_mod::{Bucket, GroupMod};
use crate::multipart::{GroupDesc, GroupFeatures, GroupStats};
use crate::types::{GROUP_ALL, GROUP_ANY};

pub(super) fn write_group(out: &mut String, group: u32) -> fmt::Result {
    match group {
        GROUP_ALL => write!(out, "ALL"),
        GROUP_ANY => write!(out, "ANY"),
        group => write!(out, "{group}"),
    }
}

/// A group as ovs-ofctl reads it.
pub(in crate::text) fn write_entry(
    out: &mut String,
    group: u32,
    typ: u8,
    buckets: &[Bucket],
    names: &Names,
) -> fmt::Result {
    let name = match typ {
        0 => "all",
        1 => "select",
        2 => "indirect",
        3 => "ff",
        _ => "(unknown)",
    };
    write!(out, "group_id={group},type={name}")?;
    for bucket in buckets {
        out.push_str(",bucket=");
        if bucket.weight != u16::from(typ == 1) {
            write!(out, "weight:{},", bucket.weight)?;
        }
        if bucket.watch_port != u32::MAX {
            out.push_str("watch_port:");
            names.write_port(out, bucket.watch_port)?;
            out.push(',');
        }
        if bucket.watch_group != u32::MAX {
            write!(out, "watch_group:{},", bucket.watch_group)?;
        }
        out.push_str("actions=");
        write_actions(out, &bucket.actions, names)?;
    }
    Ok(())
}

/// A list of actions outside a flow.
pub(super) fn write_actions(
    out: &mut String,
    actions: &[crate::action::Action],
    names: &Names,
) -> fmt::Result {
    if actions.is_empty() {
        out.push_str("drop");
        return Ok(());
    }
    actions.show(out, names)
}

pub(super) fn group_mod(out: &mut String, group_mod: &GroupMod, names: &Names) -> fmt::Result {
    out.push_str("\n ");
    match group_mod.command {
        GroupMod::ADD => out.push_str("ADD "),
        GroupMod::MODIFY => out.push_str("MOD "),
        GroupMod::DELETE => out.push_str("DEL "),
        GroupMod::ADD_OR_MODIFY => out.push_str("ADD_OR_MOD "),
        other => write!(out, "cmd:{other} ")?,
    }
    write_entry(out, group_mod.group, group_mod.typ, &group_mod.buckets, names)
}

pub(super) fn desc(out: &mut String, desc: &GroupDesc, names: &Names) -> fmt::Result {
    out.push_str("\n ");
    write_entry(out, desc.group, desc.typ, &desc.buckets, names)
}

pub(super) fn stats(out: &mut String, groups: &[GroupStats]) -> fmt::Result {
    for stats in groups {
        write!(out, "\n group_id={},", stats.group)?;
        if stats.duration_sec != u32::MAX {
            out.push_str("duration=");
            write_duration(out, stats.duration_sec, stats.duration_nsec)?;
            out.push(',');
        }
        write!(out, "ref_count={},packet_count={},", stats.ref_count, stats.counters.packets)?;
        write!(out, "byte_count={}", stats.counters.bytes)?;
        for (n, bucket) in stats.buckets.iter().enumerate() {
            if bucket.packets != u64::MAX {
                let (packets, bytes) = (bucket.packets, bucket.bytes);
                write!(out, ",bucket{n}:packet_count={packets},byte_count={bytes}")?;
            }
        }
    }
    Ok(())
}

/// Types of actions by their bit, in the order OVS shows them.
pub(super) const ACTIONS: [(u32, &str); 12] = [
    (0, "output"),
    (22, "group"),
    (25, "set_field"),
    (18, "strip_vlan"),
    (17, "push_vlan"),
    (23, "mod_nw_ttl"),
    (24, "dec_ttl"),
    (15, "set_mpls_ttl"),
    (16, "dec_mpls_ttl"),
    (19, "push_mpls"),
    (20, "pop_mpls"),
    (21, "set_queue"),
];

/// Writes the names of the types of actions in a bit mask.
pub(super) fn write_action_types(out: &mut String, bits: u32) {
    let mut separator = "";
    for (_, name) in ACTIONS.iter().filter(|(bit, _)| bits >> bit & 1 == 1) {
        out.push_str(separator);
        out.push_str(name);
        separator = " ";
    }
    if separator.is_empty() {
        out.push_str("<none>");
    }
}

pub(super) fn features(out: &mut String, features: &GroupFeatures) -> fmt::Result {
    out.push_str("\n Group table:\n");
    writeln!(out, "    Types:  {:#x}", features.types)?;
    writeln!(out, "    Capabilities:  {:#x}", features.capabilities)?;
    let names = ["all", "select", "indirect", "fast failover"];
    let each = names.into_iter().zip(features.max_groups).zip(features.actions).enumerate();
    for (bit, ((name, max), actions)) in each {
        if features.types >> bit & 1 == 0 {
            continue;
        }
        writeln!(out, "    {name} group:\n       max_groups={}", CHex(max))?;
        out.push_str("       actions: ");
        write_action_types(out, actions);
        out.push('\n');
    }
    Ok(())
}
