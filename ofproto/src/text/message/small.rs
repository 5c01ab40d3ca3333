//! Messages with a line or two of text.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use super::super::Names;
use super::{CHex, inner, write_bits};
use crate::async_config::{AsyncConfig, AsyncConfig2, AsyncProperty};
use crate::bundle::{self, BundleControl};
use crate::config::SwitchConfig;
use crate::ct_flush::{CtFlush, CtFlushProperty, CtTupleProperty};
use crate::error_msg::ErrorMsg;
use crate::features::FeaturesReply;
use crate::hello::Hello;
use crate::message::Message;
use crate::queue::{QueueConfigReply, QueueProperty};
use crate::requestforward::RequestForward;
use crate::role::{Role, RoleStatus};
use crate::table_mod::TableMod;
use crate::tlv_table::{TlvMap, TlvTableMod, TlvTableReply};

pub(super) fn hello(out: &mut String, hello: &Hello) -> fmt::Result {
    out.push_str("\n version bitmap: ");
    let mut separator = "";
    for version in (1..=31).filter(|version| hello.offers(*version)) {
        write!(out, "{separator}{version:#04x}")?;
        separator = ", ";
    }
    Ok(())
}

pub(super) fn error(out: &mut String, error: &ErrorMsg, names: &Names) -> fmt::Result {
    let Some(name) = error.name() else {
        out.push_str("***decode error***");
        let mut body = bytes::BytesMut::new();
        error.encode_body(&mut body);
        return super::write_dump(out, &body, true);
    };
    writeln!(out, " {name}")?;
    if error.typ != 0 {
        return inner(out, &error.data, names);
    }
    // A peer that speaks no common version says why in words.
    for byte in &error.data {
        match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(*byte))?,
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => write!(out, "\\{byte:03o}")?,
        }
    }
    Ok(())
}

pub(super) fn features(out: &mut String, features: &FeaturesReply) -> fmt::Result {
    writeln!(out, " dpid:{:016x}", features.datapath_id)?;
    write!(out, "n_tables:{}, n_buffers:{}", features.n_tables, features.n_buffers)?;
    if features.auxiliary_id != 0 {
        write!(out, ", auxiliary_id:{}", features.auxiliary_id)?;
    }
    out.push_str("\ncapabilities: ");
    let name = |bit| {
        Some(match bit {
            0x001 => "FLOW_STATS",
            0x002 => "TABLE_STATS",
            0x004 => "PORT_STATS",
            0x008 => "GROUP_STATS",
            0x020 => "IP_REASM",
            0x040 => "QUEUE_STATS",
            0x100 => "PORT_BLOCKED",
            _ => return None,
        })
    };
    // Bits that OpenFlow 1.3 does not define are not shown.
    write_bits(out, features.capabilities & 0x16f, name, ' ')?;
    out.push('\n');
    Ok(())
}

pub(super) fn config(out: &mut String, config: &SwitchConfig) -> fmt::Result {
    let fragments = match config.flags & 3 {
        0 => "normal",
        1 => "drop",
        2 => "reassemble",
        _ => "nx-match",
    };
    writeln!(out, " frags={fragments} miss_send_len={}", config.miss_send_len)
}

pub(super) fn table_mod(out: &mut String, table_mod: &TableMod, names: &Names) -> fmt::Result {
    if table_mod.table == 0xff {
        out.push_str(" table_id: ALL_TABLES");
        return Ok(());
    }
    out.push_str(" table_id=");
    names.write_table(out, table_mod.table)
}

pub(super) fn queue_config(
    out: &mut String,
    reply: &QueueConfigReply,
    names: &Names,
) -> fmt::Result {
    let mut queues: Vec<_> = reply.queues.iter().collect();
    queues.sort_by_key(|queue| queue.queue);
    for (n, queue) in queues.into_iter().enumerate() {
        // OVS names the port when it changes, and begins with 0.
        if n == 0 {
            out.push(' ');
            if reply.port != 0 {
                out.push_str("port=");
                names.write_port(out, reply.port)?;
                out.push('\n');
            }
        }
        write!(out, "queue {}:", queue.queue)?;
        let rate = |wanted: fn(&QueueProperty) -> Option<u16>| {
            queue.properties.iter().filter_map(wanted).next_back()
        };
        let min = rate(|p| if let QueueProperty::MinRate(r) = p { Some(*r) } else { None });
        let max = rate(|p| if let QueueProperty::MaxRate(r) = p { Some(*r) } else { None });
        for (name, rate) in [("min_rate", min), ("max_rate", max)] {
            match rate.unwrap_or(u16::MAX) {
                u16::MAX => {}
                rate if rate <= 1000 => write!(out, " {name}:{}.{}%", rate / 10, rate % 10)?,
                _ => write!(out, " {name}:(disabled)")?,
            }
        }
        out.push('\n');
    }
    Ok(())
}

fn role_name(role: u32) -> &'static str {
    match role {
        0 => "nochange",
        1 => "equal",
        2 => "primary",
        3 => "secondary",
        _ => "(unknown)",
    }
}

pub(super) fn role(out: &mut String, role: &Role, generation: bool) -> fmt::Result {
    write!(out, " role={}", role_name(role.role))?;
    if generation { write!(out, " generation_id={}", role.generation_id) } else { Ok(()) }
}

pub(super) fn role_status(out: &mut String, status: &RoleStatus) -> fmt::Result {
    let reason = match status.reason {
        0 => "primary_request",
        1 => "configuration_changed",
        2 => "experimenter_data_changed",
        _ => "(unknown)",
    };
    let role = role_name(status.role);
    write!(out, " role={role} generation_id={} reason={reason}", status.generation_id)
}

/// Kinds of asynchronous messages, with the names of their reasons.
const KINDS: [(&str, &[&str]); 6] = [
    ("PACKET_IN", &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"]),
    ("PORT_STATUS", &["add", "delete", "modify"]),
    ("FLOW_REMOVED", &["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"]),
    ("ROLE_STATUS", &["primary_request", "configuration_changed", "experimenter_data_changed"]),
    ("TABLE_STATUS", &["", "", "", "vacancy_down", "vacancy_up"]),
    ("REQUESTFORWARD", &["group_mod_request", "meter_mod_request"]),
];

/// Masks by kind, for a primary and for a secondary.
fn write_masks(out: &mut String, masks: [[u32; 6]; 2]) -> fmt::Result {
    for (role, masks) in ["primary", "secondary"].into_iter().zip(masks) {
        write!(out, "\n {role}:\n")?;
        for ((kind, reasons), mask) in KINDS.into_iter().zip(masks) {
            write!(out, "{kind:>16}:")?;
            for bit in (0..32_usize).filter(|bit| mask >> bit & 1 == 1) {
                match reasons.get(bit) {
                    Some(reason) if !reason.is_empty() => write!(out, " {reason}")?,
                    _ if kind == "PACKET_IN" && bit > 5 => out.push(' '),
                    _ => write!(out, " {bit}")?,
                }
            }
            if mask == 0 {
                out.push_str(" (off)");
            }
            out.push('\n');
        }
    }
    Ok(())
}

pub(super) fn async_config(out: &mut String, config: &AsyncConfig) -> fmt::Result {
    let [packet_in, port, removed] = [config.packet_in, config.port_status, config.flow_removed];
    // Bits without a meaning in OpenFlow 1.3 are not shown.
    let masks =
        |n: fn([u32; 2]) -> u32| [n(packet_in) & 0x07, n(port) & 0x07, n(removed) & 0x3f, 0, 0, 0];
    write_masks(out, [masks(|[primary, _]| primary), masks(|[_, secondary]| secondary)])
}

pub(super) fn async_config2(out: &mut String, config: &AsyncConfig2) -> fmt::Result {
    let mut masks = [[0; 6]; 2];
    for property in &config.properties {
        if let AsyncProperty::Mask { typ, mask } = property {
            let role = usize::from(typ % 2 == 0);
            let slot = masks.get_mut(role).and_then(|masks| masks.get_mut(usize::from(typ / 2)));
            if let Some(slot) = slot {
                *slot = *mask;
            }
        }
    }
    write_masks(out, masks)
}

fn write_address(out: &mut String, address: Ipv6Addr) -> fmt::Result {
    match address.to_ipv4_mapped() {
        Some(v4) => write!(out, "{v4}"),
        None => super::super::matching::write_value(
            out,
            crate::oxm::Field::Ipv6Src,
            address.into(),
            &Names::default(),
        ),
    }
}

fn write_tuple(out: &mut String, tuple: &[CtTupleProperty], proto: u8, v4: bool) -> fmt::Result {
    use CtTupleProperty as T;
    let (mut src, mut dst) = (Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let (mut ports, mut icmp) = ((0, 0), (0, 0, 0));
    for property in tuple {
        match property {
            T::Src(address) => src = *address,
            T::Dst(address) => dst = *address,
            T::SrcPort(n) => ports.0 = *n,
            T::DstPort(n) => ports.1 = *n,
            T::IcmpId(n) => icmp.0 = *n,
            T::IcmpType(n) => icmp.1 = *n,
            T::IcmpCode(n) => icmp.2 = *n,
            T::Unknown { .. } => {}
        }
    }
    let family = if v4 { "ct_nw" } else { "ct_ipv6" };
    write!(out, "{family}_src=")?;
    write_address(out, src)?;
    write!(out, ",{family}_dst=")?;
    write_address(out, dst)?;
    if proto == 1 || proto == 58 {
        write!(out, ",icmp_id={},icmp_type={},icmp_code={}", icmp.0, icmp.1, icmp.2)
    } else {
        write!(out, ",ct_tp_src={},ct_tp_dst={}", ports.0, ports.1)
    }
}

pub(super) fn ct_flush(out: &mut String, flush: &CtFlush) -> fmt::Result {
    let (mut original, mut reply, mut zone) = (&[][..], &[][..], 0);
    let mut family = None;
    for property in &flush.properties {
        match property {
            CtFlushProperty::Original(tuple) => original = tuple,
            CtFlushProperty::Reply(tuple) => reply = tuple,
            CtFlushProperty::Zone(n) => zone = *n,
            _ => {}
        }
        if let CtFlushProperty::Original(tuple) | CtFlushProperty::Reply(tuple) = property {
            for part in tuple {
                if let CtTupleProperty::Src(a) | CtTupleProperty::Dst(a) = part {
                    // The last address says the family, an unspecified one says none.
                    family = (!a.is_unspecified()).then(|| a.to_ipv4_mapped().is_some());
                }
            }
        }
    }
    let v4 = family.unwrap_or(false);
    write!(out, " zone={zone} '")?;
    write_tuple(out, original, flush.ip_proto, v4)?;
    write!(out, ",ct_nw_proto={}' '", flush.ip_proto)?;
    write_tuple(out, reply, flush.ip_proto, v4)?;
    out.push('\'');
    Ok(())
}

fn write_maps(out: &mut String, maps: &[TlvMap]) -> fmt::Result {
    out.push_str(" mapping table:\n");
    out.push_str("  class  type  length  match field\n");
    out.push_str(" ------  ----  ------  --------------");
    for map in maps {
        let TlvMap { class, typ, length, index } = map;
        let (class, typ) = (CHex(u32::from(*class)).to_string(), CHex(u32::from(*typ)).to_string());
        write!(out, "\n {class:>6}  {typ:>4}  {length:>6}  tun_metadata{index}")?;
    }
    Ok(())
}

pub(super) fn tlv_table_mod(out: &mut String, table_mod: &TlvTableMod) -> fmt::Result {
    out.push_str(match table_mod.command {
        0 => "\n ADD",
        1 => "\n DEL",
        2 => "\n CLEAR",
        _ => "\n UNKNOWN",
    });
    if table_mod.command == 2 { Ok(()) } else { write_maps(out, &table_mod.maps) }
}

pub(super) fn tlv_table_reply(out: &mut String, reply: &TlvTableReply) -> fmt::Result {
    let allocated: u32 = reply.maps.iter().map(|map| u32::from(map.length)).sum();
    write!(out, "\n max option space={}", reply.max_option_space)?;
    write!(out, " max fields={}", reply.max_fields)?;
    write!(out, "\n allocated option space={allocated}\n\n")?;
    write_maps(out, &reply.maps)
}

pub(super) fn requestforward(
    out: &mut String,
    forward: &RequestForward,
    names: &Names,
) -> fmt::Result {
    match forward.inner() {
        Ok((_, Message::GroupMod(group_mod))) => {
            out.push_str(" reason=group_mod");
            super::group::group_mod(out, &group_mod, names)
        }
        Ok((_, Message::MeterMod(meter_mod))) => {
            out.push_str(" reason=meter_mod");
            super::meter::meter_mod(out, &meter_mod)
        }
        _ => {
            out.push('\n');
            inner(out, &forward.message, names)
        }
    }
}

pub(super) fn bundle_flags(out: &mut String, flags: u16) -> fmt::Result {
    let name = |bit| match u16::try_from(bit) {
        Ok(bundle::ATOMIC) => Some("atomic"),
        Ok(bundle::ORDERED) => Some("ordered"),
        _ => None,
    };
    write_bits(out, flags.into(), name, ' ')
}

pub(super) fn bundle_control(out: &mut String, control: &BundleControl) -> fmt::Result {
    write!(out, "\n bundle_id={} type=", CHex(control.bundle_id))?;
    out.push_str(match control.typ.0 {
        0 => "OPEN_REQUEST",
        1 => "OPEN_REPLY",
        2 => "CLOSE_REQUEST",
        3 => "CLOSE_REPLY",
        4 => "COMMIT_REQUEST",
        5 => "COMMIT_REPLY",
        6 => "DISCARD_REQUEST",
        7 => "DISCARD_REPLY",
        _ => "",
    });
    out.push_str(" flags=");
    bundle_flags(out, control.flags)
}
