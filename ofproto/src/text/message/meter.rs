//! Meters. Source: OVS `lib/ofp-meter.c`.

use std::fmt::{self, Write as _};

use super::{write_bits, write_duration};
use crate::meter_mod::{MeterBand, MeterMod, meter_flags, meter_id};
use crate::multipart::{MeterFeatures, MeterStats};

pub(super) fn write_meter(out: &mut String, meter: u32) -> fmt::Result {
    match meter {
        meter_id::ALL => write!(out, "all"),
        meter_id::CONTROLLER => write!(out, "controller"),
        meter_id::SLOWPATH => write!(out, "slowpath"),
        meter => write!(out, "{meter}"),
    }
}

/// A meter and its bands, as ovs-ofctl reads them.
pub(in crate::text) fn config(
    out: &mut String,
    meter: u32,
    flags: u16,
    bands: &[MeterBand],
) -> fmt::Result {
    out.push_str("meter=");
    write_meter(out, meter)?;
    out.push(' ');
    for (bit, name) in meter_flags::NAMES.iter().enumerate() {
        if flags >> bit & 1 == 1 {
            write!(out, "{name} ")?;
        }
    }
    let unknown = flags & !0xf;
    if unknown != 0 {
        write!(out, "flags:{unknown:#x} ")?;
    }
    out.push_str("bands=");
    for band in bands {
        let (name, rate, burst) = match band {
            MeterBand::Drop { rate, burst } => ("drop", rate, burst),
            MeterBand::DscpRemark { rate, burst, .. } => ("dscp_remark", rate, burst),
            MeterBand::Unknown { typ, .. } => {
                write!(out, "\ntype={typ}")?;
                continue;
            }
        };
        write!(out, "\ntype={name} rate={rate}")?;
        if flags & meter_flags::BURST != 0 {
            write!(out, " burst_size={burst}")?;
        }
        if let MeterBand::DscpRemark { level, .. } = band {
            write!(out, " prec_level={level}")?;
        }
    }
    Ok(())
}

pub(super) fn meter_mod(out: &mut String, meter_mod: &MeterMod) -> fmt::Result {
    match meter_mod.command {
        0 => out.push_str(" ADD "),
        1 => out.push_str(" MOD "),
        2 => out.push_str(" DEL "),
        other => write!(out, " cmd:{other} ")?,
    }
    let deletes = meter_mod.command == 2;
    let (flags, bands) =
        if deletes { (0, &[][..]) } else { (meter_mod.flags, &meter_mod.bands[..]) };
    config(out, meter_mod.meter, flags, bands)?;
    out.push('\n');
    Ok(())
}

pub(super) fn stats(out: &mut String, meters: &[MeterStats]) -> fmt::Result {
    for stats in meters {
        out.push_str("\nmeter:");
        write_meter(out, stats.meter)?;
        write!(out, " flow_count:{} packet_in_count:{}", stats.flow_count, stats.input.packets)?;
        write!(out, " byte_in_count:{} duration:", stats.input.bytes)?;
        write_duration(out, stats.duration_sec, stats.duration_nsec)?;
        out.push_str(" bands:\n");
        for (n, band) in stats.bands.iter().enumerate() {
            writeln!(out, "{n}: packet_count:{} byte_count:{}", band.packets, band.bytes)?;
        }
    }
    Ok(())
}

pub(super) fn features(out: &mut String, features: &MeterFeatures) -> fmt::Result {
    write!(out, "\nmax_meter:{}", features.max_meter)?;
    writeln!(out, " max_bands:{} max_color:{}", features.max_bands, features.max_color)?;
    out.push_str("band_types: ");
    let band = |bit| match bit {
        2 => Some("drop"),
        4 => Some("dscp_remark"),
        _ => None,
    };
    write_bits(out, features.band_types, band, ' ')?;
    out.push_str("\ncapabilities: ");
    let flag =
        |bit: u32| meter_flags::NAMES.get(usize::try_from(bit.trailing_zeros()).ok()?).copied();
    write_bits(out, features.capabilities, flag, ' ')?;
    out.push('\n');
    Ok(())
}
