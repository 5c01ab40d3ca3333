//! Flow mods, removed flows, flow monitors. Source: OVS `lib/ofp-flow.c`, `lib/ofp-monitor.c`.

use std::fmt::{self, Write as _};

use super::super::{Names, Show};
use super::{write_bits, write_duration};
use crate::flow_mod::{FlowCommand, FlowMod, flow_flags};
use crate::flow_removed::FlowRemoved;
use crate::multipart::{
    FlowChange, FlowMonitorRequest, FlowStatsRequest, FlowUpdate, monitor_flags,
};
use crate::oxm::Match;
use crate::types::{DEFAULT_PRIORITY, TABLE_ALL, port};

/// Writes a match behind its priority, which goes without saying when it is the default.
fn write_match(out: &mut String, match_: &Match, priority: u16, names: &Names) -> fmt::Result {
    if priority != DEFAULT_PRIORITY {
        write!(out, "priority={priority}")?;
        if !match_.is_empty() {
            out.push(',');
        }
    }
    match_.show(out, names)
}

pub(super) fn flow_mod(out: &mut String, flow: &FlowMod, names: &Names) -> fmt::Result {
    out.push(' ');
    out.push_str(match flow.command {
        FlowCommand::Add => "ADD",
        FlowCommand::Modify => "MOD",
        FlowCommand::ModifyStrict => "MOD_STRICT",
        FlowCommand::Delete => "DEL",
        FlowCommand::DeleteStrict => "DEL_STRICT",
    });
    if flow.table != 0 {
        out.push_str(" table:");
        names.write_table(out, flow.table)?;
    }
    out.push(' ');
    write_match(out, &flow.match_, flow.priority, names)?;
    if !out.ends_with(' ') {
        out.push(' ');
    }
    // An addition sets its cookie, anything else looks for one.
    if flow.command == FlowCommand::Add {
        if flow.cookie != 0 && flow.cookie != u64::MAX {
            write!(out, "cookie:{:#x} ", flow.cookie)?;
        }
    } else if flow.cookie_mask != 0 {
        write!(out, "cookie:{:#x}/{:#x} ", flow.cookie, flow.cookie_mask)?;
    }
    if flow.idle_timeout != 0 {
        write!(out, "idle:{} ", flow.idle_timeout)?;
    }
    if flow.hard_timeout != 0 {
        write!(out, "hard:{} ", flow.hard_timeout)?;
    }
    if flow.buffer_id != u32::MAX {
        write!(out, "buf:{:#x} ", flow.buffer_id)?;
    }
    if flow.out_port != port::ANY {
        out.push_str("out_port:");
        names.write_port(out, flow.out_port)?;
        out.push(' ');
    }
    for (bit, name) in flow_flags::NAMES.iter().enumerate() {
        if flow.flags >> bit & 1 == 1 {
            write!(out, "{name} ")?;
        }
    }
    out.push_str("actions=");
    flow.instructions.show(out, names)
}

fn reason(reason: u16) -> Option<&'static str> {
    Some(match reason {
        0 => "idle",
        1 => "hard",
        2 => "delete",
        3 => "group_delete",
        4 => "meter_delete",
        5 => "eviction",
        _ => return None,
    })
}

pub(super) fn removed(out: &mut String, removed: &FlowRemoved, names: &Names) -> fmt::Result {
    out.push(' ');
    write_match(out, &removed.match_, removed.priority, names)?;
    out.push_str(" reason=");
    match reason(removed.reason.into()) {
        Some(name) => out.push_str(name),
        None => write!(out, "{}", removed.reason)?,
    }
    if removed.table != TABLE_ALL {
        out.push_str(" table_id=");
        names.write_table(out, removed.table)?;
    }
    if removed.cookie != 0 {
        write!(out, " cookie:{:#x}", removed.cookie)?;
    }
    out.push_str(" duration");
    write_duration(out, removed.duration_sec, removed.duration_nsec)?;
    write!(out, " idle{}", removed.idle_timeout)?;
    if removed.hard_timeout != 0 {
        write!(out, " hard{}", removed.hard_timeout)?;
    }
    writeln!(out, " pkts{} bytes{}", removed.packets, removed.bytes)
}

pub(super) fn stats_request(
    out: &mut String,
    request: &FlowStatsRequest,
    names: &Names,
) -> fmt::Result {
    if request.table != TABLE_ALL {
        out.push_str(" table=");
        names.write_table(out, request.table)?;
    }
    if request.out_port != port::ANY {
        out.push_str(" out_port=");
        names.write_port(out, request.out_port)?;
    }
    out.push(' ');
    request.match_.show(out, names)
}

pub(super) fn monitor_request(
    out: &mut String,
    request: &FlowMonitorRequest,
    names: &Names,
) -> fmt::Result {
    write!(out, "\n id={} flags=", request.id)?;
    let name =
        |bit: u32| monitor_flags::NAMES.get(usize::try_from(bit.trailing_zeros()).ok()?).copied();
    write_bits(out, request.flags.into(), name, ',')?;
    if request.out_port != port::ANY {
        out.push_str(" out_port=");
        names.write_port(out, request.out_port)?;
    }
    if request.table != TABLE_ALL {
        out.push_str(" table=");
        names.write_table(out, request.table)?;
    }
    // The match is cut off where it is empty, with the space before it.
    out.push(' ');
    request.match_.show(out, names)?;
    out.truncate(out.trim_end_matches(' ').len());
    Ok(())
}

pub(super) fn update(out: &mut String, update: &FlowUpdate, names: &Names) -> fmt::Result {
    out.push_str("\n event=");
    let change = match update {
        FlowUpdate::Abbreviated { xid } => return write!(out, "ABBREV xid={:#x}", xid),
        FlowUpdate::Unknown { event, .. } => return write!(out, "{event}"),
        FlowUpdate::Full(change) => change,
    };
    match change.event {
        FlowChange::ADDED => out.push_str("ADDED"),
        FlowChange::REMOVED => {
            out.push_str("DELETED reason=");
            match reason(change.reason) {
                Some(name) => out.push_str(name),
                None => write!(out, "{}", change.reason)?,
            }
        }
        _ => out.push_str("MODIFIED"),
    }
    out.push_str(" table=");
    names.write_table(out, change.table)?;
    if change.idle_timeout != 0 {
        write!(out, " idle_timeout={}", change.idle_timeout)?;
    }
    if change.hard_timeout != 0 {
        write!(out, " hard_timeout={}", change.hard_timeout)?;
    }
    out.push_str(" cookie=");
    super::super::write_c_hex(out, change.cookie.into())?;
    out.push(' ');
    change.match_.show(out, names)?;
    if change.instructions.is_empty() {
        return Ok(());
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out.push_str("actions=");
    change.instructions.show(out, names)
}
