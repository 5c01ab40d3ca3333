//! Ports. Source: OVS `lib/ofp-port.c`.

use std::fmt::{self, Write as _};

use super::super::Names;
use super::{write_bits, write_duration};
use crate::multipart::PortStats;
use crate::port_status::{PortDesc, PortMod, PortStatus};
use crate::types::port;

const FEATURES: [&str; 16] = [
    "10MB-HD",
    "10MB-FD",
    "100MB-HD",
    "100MB-FD",
    "1GB-HD",
    "1GB-FD",
    "10GB-FD",
    "40GB-FD",
    "100GB-FD",
    "1TB-FD",
    "OTHER",
    "COPPER",
    "FIBER",
    "AUTO_NEG",
    "AUTO_PAUSE",
    "AUTO_PAUSE_ASYM",
];

fn write_features(out: &mut String, bits: u32) -> fmt::Result {
    // OVS reads 16 bits of them.
    let name = |bit: u32| FEATURES.get(usize::try_from(bit.trailing_zeros()).ok()?).copied();
    write_bits(out, bits & 0xffff, name, ' ')?;
    out.push('\n');
    Ok(())
}

fn write_config(out: &mut String, bits: u32) -> fmt::Result {
    let name = |bit| {
        Some(match bit {
            0x01 => "PORT_DOWN",
            0x04 => "NO_RECV",
            0x20 => "NO_FWD",
            0x40 => "NO_PACKET_IN",
            _ => return None,
        })
    };
    write_bits(out, bits & 0x65, name, ' ')?;
    out.push('\n');
    Ok(())
}

/// What can be printed of a name, up to its first other byte.
fn printable(name: &[u8]) -> String {
    name.iter()
        .take(name.len().saturating_sub(1))
        .take_while(|byte| (0x20..0x7f).contains(*byte))
        .map(|byte| char::from(*byte))
        .collect()
}

pub(super) fn desc(out: &mut String, port: &PortDesc, names: &Names) -> fmt::Result {
    out.push(' ');
    names.write_port(out, port.port)?;
    writeln!(out, "({}): addr:{}", printable(&port.name_bytes), port.hw_addr)?;
    out.push_str("     config:     ");
    write_config(out, port.config)?;
    out.push_str("     state:      ");
    let state = |bit| {
        Some(match bit {
            1 => "LINK_DOWN",
            2 => "BLOCKED",
            4 => "LIVE",
            _ => return None,
        })
    };
    write_bits(out, port.state & 7, state, ' ')?;
    out.push('\n');
    let kinds = ["current:    ", "advertised: ", "supported:  ", "peer:       "];
    for (kind, bits) in kinds.into_iter().zip(port.features) {
        if bits & 0xffff != 0 {
            write!(out, "     {kind}")?;
            write_features(out, bits)?;
        }
    }
    let (now, max) = (port.curr_speed / 1000, port.max_speed / 1000);
    writeln!(out, "     speed: {now} Mbps now, {max} Mbps max")
}

pub(super) fn status(out: &mut String, status: &PortStatus, names: &Names) -> fmt::Result {
    out.push_str(match status.reason {
        0 => " ADD:",
        1 => " DEL:",
        2 => " MOD:",
        _ => "",
    });
    desc(out, &status.port, names)
}

pub(super) fn port_mod(out: &mut String, port_mod: &PortMod, names: &Names) -> fmt::Result {
    out.push_str(" port: ");
    names.write_port(out, port_mod.port)?;
    write!(out, ": addr:{}\n     config: ", port_mod.hw_addr)?;
    write_config(out, port_mod.config & port_mod.mask)?;
    out.push_str("     mask:   ");
    write_config(out, port_mod.mask)?;
    out.push_str("     advertise: ");
    if port_mod.advertise & 0xffff == 0 {
        out.push_str("UNCHANGED\n");
        return Ok(());
    }
    write_features(out, port_mod.advertise)
}

/// Writes a counter, or that the port does not keep it.
fn counter(out: &mut String, name: &str, value: u64, end: &str) -> fmt::Result {
    if value == u64::MAX {
        write!(out, "{name}=?{end}")
    } else {
        write!(out, "{name}={value}{end}")
    }
}

pub(super) fn stats(out: &mut String, ports: &[PortStats], names: &Names) -> fmt::Result {
    writeln!(out, " {} ports", ports.len())?;
    for stats in ports {
        out.push_str("  port ");
        if stats.port < 10 {
            out.push(' ');
        }
        if port::to_u16(stats.port).is_some() {
            names.write_port(out, stats.port)?;
        }
        out.push_str(": rx ");
        counter(out, "pkts", stats.rx_packets, ", ")?;
        counter(out, "bytes", stats.rx_bytes, ", ")?;
        counter(out, "drop", stats.rx_dropped, ", ")?;
        counter(out, "errs", stats.rx_errors, ", ")?;
        counter(out, "frame", stats.rx_frame_err, ", ")?;
        counter(out, "over", stats.rx_over_err, ", ")?;
        counter(out, "crc", stats.rx_crc_err, "\n")?;
        out.push_str("           tx ");
        counter(out, "pkts", stats.tx_packets, ", ")?;
        counter(out, "bytes", stats.tx_bytes, ", ")?;
        counter(out, "drop", stats.tx_dropped, ", ")?;
        counter(out, "errs", stats.tx_errors, ", ")?;
        counter(out, "coll", stats.collisions, "\n")?;
        if stats.duration_sec != u32::MAX {
            out.push_str("           duration=");
            write_duration(out, stats.duration_sec, stats.duration_nsec)?;
            out.push('\n');
        }
    }
    Ok(())
}
