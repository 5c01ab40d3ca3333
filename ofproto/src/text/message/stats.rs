//! Statistics of the switch, its tables and queues.

use std::fmt::{self, Write as _};

use super::super::Names;
use super::{lossy, write_duration};
use crate::multipart::{Desc, QueueStats, TableStats};

pub(super) fn desc(out: &mut String, desc: &Desc) -> fmt::Result {
    out.push('\n');
    writeln!(out, "Manufacturer: {}", lossy(&desc.manufacturer_bytes))?;
    writeln!(out, "Hardware: {}", lossy(&desc.hardware_bytes))?;
    writeln!(out, "Software: {}", lossy(&desc.software_bytes))?;
    writeln!(out, "Serial Num: {}", lossy(&desc.serial_bytes))?;
    writeln!(out, "DP Description: {}", lossy(&desc.datapath_bytes))
}

/// Writes `  table N: ditto` or `  tables N...M: ditto` for tables that are like the one before them.
pub(super) fn write_ditto(out: &mut String, ditto: &mut Option<(u8, u8)>) -> fmt::Result {
    match ditto.take() {
        None => Ok(()),
        Some((first, last)) if first == last => writeln!(out, "\n  table {first}: ditto"),
        Some((first, last)) => writeln!(out, "\n  tables {first}...{last}: ditto"),
    }
}

pub(super) fn tables(out: &mut String, tables: &[TableStats], names: &Names) -> fmt::Result {
    let mut before: Option<&TableStats> = None;
    let mut ditto: Option<(u8, u8)> = None;
    for stats in tables {
        let counters = |s: &TableStats| (s.active, s.lookups, s.matched);
        let same = before.is_some_and(|before| counters(before) == counters(stats));
        before = Some(stats);
        if same && !names.tables.contains_key(&stats.table) {
            ditto = Some((ditto.map_or(stats.table, |(first, _)| first), stats.table));
            continue;
        }
        write_ditto(out, &mut ditto)?;
        write!(out, "\n  table {}", stats.table)?;
        if names.tables.contains_key(&stats.table) {
            out.push_str(" (\"");
            names.write_table(out, stats.table)?;
            out.push_str("\")");
        }
        if same {
            out.push_str(": ditto\n");
            continue;
        }
        writeln!(
            out,
            ":\n    active={}, lookup={}, matched={}",
            stats.active, stats.lookups, stats.matched
        )?;
    }
    write_ditto(out, &mut ditto)
}

pub(super) fn write_queue(out: &mut String, queue: u32) -> fmt::Result {
    if queue == u32::MAX { write!(out, "ALL") } else { write!(out, "{queue}") }
}

pub(super) fn queues(out: &mut String, queues: &[QueueStats], names: &Names) -> fmt::Result {
    writeln!(out, " {} queues", queues.len())?;
    for stats in queues {
        out.push_str("  port ");
        names.write_port(out, stats.port)?;
        out.push_str(" queue ");
        write_queue(out, stats.queue)?;
        out.push_str(": ");
        let counters =
            [("bytes", stats.tx_bytes), ("pkts", stats.tx_packets), ("errors", stats.tx_errors)];
        for (name, value) in counters {
            match value {
                u64::MAX => write!(out, "{name}=?, ")?,
                value => write!(out, "{name}={value}, ")?,
            }
        }
        out.push_str("duration=");
        match stats.duration_sec {
            u32::MAX => out.push('?'),
            sec => write_duration(out, sec, stats.duration_nsec)?,
        }
        out.push('\n');
    }
    Ok(())
}
