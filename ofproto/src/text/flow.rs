//! The text of a whole flow. Source: OVS `lib/ofp-flow.c` (`ofputil_flow_stats_format`).

use std::fmt;

use super::{Names, Show, shown};
use crate::flow_mod::{FlowCommand, FlowMod, flow_flags};
use crate::instruction::Instruction;
use crate::multipart::FlowStats;
use crate::oxm::Match;
use crate::types::{DEFAULT_PRIORITY, GROUP_ANY, TABLE_ALL, port};

/// A flow with its counters, as a line of `ovs-ofctl dump-flows`.
pub fn flow(flow: &FlowStats, names: &Names) -> String {
    shown(flow, names)
}

/// A flow without its counters, as a line of `ovs-ofctl --no-stats dump-flows`.
pub fn flow_without_stats(flow: &FlowStats, names: &Names) -> String {
    let mut text = String::new();
    let line = Line {
        stats: None,
        cookie: flow.cookie,
        cookie_mask: None,
        table: flow.table,
        timeouts: (flow.idle_timeout, flow.hard_timeout),
        flags: flow.flags,
        priority: flow.priority,
        match_: &flow.match_,
    };
    // Writing to a String cannot fail.
    let _ = line.show(&mut text, names);
    let _ = write_actions(&mut text, &flow.instructions, names);
    text
}

/// A flow mod as a line that `ovs-ofctl --bundle add-flows` reads: a flow to add as
/// `ovs-ofctl --no-stats dump-flows` shows it, any other change with its command in front.
pub fn flow_mod(flow_mod: &FlowMod, names: &Names) -> String {
    shown(flow_mod, names)
}

/// Everything before `actions=`.
struct Line<'a> {
    stats: Option<&'a FlowStats>,
    cookie: u64,
    /// Bits of the cookie to look for; none for a flow's own cookie.
    cookie_mask: Option<u64>,
    table: u8,
    timeouts: (u16, u16),
    flags: u16,
    priority: u16,
    match_: &'a Match,
}

impl Line<'_> {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let stats = self.stats;
        let cookie = self.cookie;
        match self.cookie_mask {
            None if stats.is_none() && cookie == 0 => {}
            None => write!(out, "cookie={cookie:#x}, ")?,
            Some(0) => {}
            Some(u64::MAX) => write!(out, "cookie={cookie:#x}/-1, ")?,
            Some(mask) => write!(out, "cookie={cookie:#x}/{mask:#x}, ")?,
        }
        if let Some(flow) = stats {
            out.write_str("duration=")?;
            write_duration(out, flow.duration_sec, flow.duration_nsec)?;
            out.write_str(", ")?;
        }
        if stats.is_some() || self.table != 0 || names.tables.contains_key(&0) {
            out.write_str("table=")?;
            names.write_table(out, self.table)?;
            out.write_str(", ")?;
        }
        if let Some(flow) = stats {
            for (name, count) in [("n_packets", flow.packets), ("n_bytes", flow.bytes)] {
                match count {
                    // The datapath does not count them.
                    u64::MAX => write!(out, "{name}=?, ")?,
                    count => write!(out, "{name}={count}, ")?,
                }
            }
        }
        let (idle, hard) = self.timeouts;
        if idle != 0 {
            write!(out, "idle_timeout={idle}, ")?;
        }
        if hard != 0 {
            write!(out, "hard_timeout={hard}, ")?;
        }
        for (bit, name) in flow_flags::NAMES.iter().enumerate() {
            if self.flags >> bit & 1 == 1 {
                write!(out, "{name} ")?;
            }
        }
        if self.priority != DEFAULT_PRIORITY {
            write!(out, "priority={}", self.priority)?;
            if !self.match_.is_empty() {
                out.write_char(',')?;
            }
        }
        self.match_.show(out, names)?;
        if self.priority != DEFAULT_PRIORITY || !self.match_.is_empty() {
            out.write_char(' ')?;
        }
        Ok(())
    }
}

fn write_actions(
    out: &mut dyn fmt::Write,
    instructions: &[Instruction],
    names: &Names,
) -> fmt::Result {
    out.write_str("actions=")?;
    instructions.show(out, names)
}

/// Seconds; with three decimals if they say all, else as many as it takes, none if there are none.
fn write_duration(out: &mut dyn fmt::Write, sec: u32, nsec: u32) -> fmt::Result {
    match nsec {
        0 => write!(out, "{sec}s"),
        _ if nsec.is_multiple_of(1_000_000) => write!(out, "{sec}.{:03}s", nsec / 1_000_000),
        _ => write!(out, "{sec}.{}s", format!("{nsec:09}").trim_end_matches('0')),
    }
}

impl Show for FlowStats {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let line = Line {
            stats: Some(self),
            cookie: self.cookie,
            cookie_mask: None,
            table: self.table,
            timeouts: (self.idle_timeout, self.hard_timeout),
            flags: self.flags,
            priority: self.priority,
            match_: &self.match_,
        };
        line.show(out, names)?;
        write_actions(out, &self.instructions, names)
    }
}

impl Show for FlowMod {
    fn show(&self, out: &mut dyn fmt::Write, names: &Names) -> fmt::Result {
        let (word, deletes, strict) = match self.command {
            FlowCommand::Add => ("", false, true),
            FlowCommand::Modify => ("modify ", false, false),
            FlowCommand::ModifyStrict => ("modify_strict ", false, true),
            FlowCommand::Delete => ("delete ", true, false),
            FlowCommand::DeleteStrict => ("delete_strict ", true, true),
        };
        out.write_str(word)?;
        let mut line = String::new();
        let adds = self.command == FlowCommand::Add;
        Line {
            stats: None,
            cookie: self.cookie,
            cookie_mask: if adds { None } else { Some(self.cookie_mask) },
            // No table means all of them where a deletion reads it.
            table: if deletes && self.table == TABLE_ALL { 0 } else { self.table },
            timeouts: (self.idle_timeout, self.hard_timeout),
            flags: self.flags,
            priority: if strict { self.priority } else { DEFAULT_PRIORITY },
            match_: &self.match_,
        }
        .show(&mut line, names)?;
        if !deletes {
            out.write_str(&line)?;
            return write_actions(out, &self.instructions, names);
        }
        if self.table == 0 {
            line.insert_str(0, "table=0, ");
        }
        if self.out_port != port::ANY {
            line.push_str(",out_port=");
            names.write_port(&mut line, self.out_port)?;
        }
        if self.out_group != GROUP_ANY {
            line.push_str(&format!(",out_group={}", self.out_group));
        }
        out.write_str(line.trim_end_matches([' ', ',']))
    }
}
