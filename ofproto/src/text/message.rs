//! The text of messages. Source: OVS `lib/ofp-print.c` and the `ofp-*.c` beside it.

mod flow;
mod group;
mod meter;
mod packet;
mod port;
mod small;
mod stats;
mod table_features;

pub(super) use group::write_entry as write_group_entry;
pub(super) use meter::config as write_meter_entry;

use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::{NUMBERS, Names};
use crate::bundle::BundleAdd;
use crate::error::DecodeError;
use crate::header::Header;
use crate::message::Message;
use crate::multipart::{MultipartBody, MultipartReply, MultipartRequest};
use crate::port_status::PortDesc;
use crate::types::VERSION;

/// A message as `ovs-ofctl --no-names ofp-print` of OVS 3.1 prints it, with the line break that ends it; ports and
/// tables by the names given.
///
/// Messages that OVS does not know are shown as the bytes they are.
pub fn message(xid: u32, message: &Message, names: &Names) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = show(&mut text, xid, message, names);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The text of one whole frame, without names.
///
/// Errors: those of decoding it.
pub fn print(frame: &Bytes) -> Result<String, DecodeError> {
    let (xid, decoded) = Message::decode(frame)?;
    Ok(message(xid, &decoded, &NUMBERS))
}

/// The name OVS gives a kind of message, such as `OFPT_FLOW_MOD` or `OFPST_FLOW request`; none for one it does not
/// know in OpenFlow 1.3.
pub fn message_name(message: &Message) -> Option<&'static str> {
    Some(match message {
        Message::Hello(_) => "OFPT_HELLO",
        Message::Error(_) => "OFPT_ERROR",
        Message::EchoRequest(_) => "OFPT_ECHO_REQUEST",
        Message::EchoReply(_) => "OFPT_ECHO_REPLY",
        Message::FeaturesRequest => "OFPT_FEATURES_REQUEST",
        Message::FeaturesReply(_) => "OFPT_FEATURES_REPLY",
        Message::GetConfigRequest => "OFPT_GET_CONFIG_REQUEST",
        Message::GetConfigReply(_) => "OFPT_GET_CONFIG_REPLY",
        Message::SetConfig(_) => "OFPT_SET_CONFIG",
        Message::PacketIn(_) => "OFPT_PACKET_IN",
        Message::FlowRemoved(_) => "OFPT_FLOW_REMOVED",
        Message::PortStatus(_) => "OFPT_PORT_STATUS",
        Message::PacketOut(_) => "OFPT_PACKET_OUT",
        Message::FlowMod(_) => "OFPT_FLOW_MOD",
        Message::GroupMod(_) => "OFPT_GROUP_MOD",
        Message::PortMod(_) => "OFPT_PORT_MOD",
        Message::TableMod(_) => "OFPT_TABLE_MOD",
        Message::MultipartRequest(request) => match request {
            MultipartRequest::Desc => "OFPST_DESC request",
            MultipartRequest::Flow(_) => "OFPST_FLOW request",
            MultipartRequest::Aggregate(_) => "OFPST_AGGREGATE request",
            MultipartRequest::Table => "OFPST_TABLE request",
            MultipartRequest::Port(_) => "OFPST_PORT request",
            MultipartRequest::Queue { .. } => "OFPST_QUEUE request",
            MultipartRequest::Group(_) => "OFPST_GROUP request",
            MultipartRequest::GroupDesc => "OFPST_GROUP_DESC request",
            MultipartRequest::GroupFeatures => "OFPST_GROUP_FEATURES request",
            MultipartRequest::Meter(_) => "OFPST_METER request",
            MultipartRequest::MeterConfig(_) => "OFPST_METER_CONFIG request",
            MultipartRequest::MeterFeatures => "OFPST_METER_FEATURES request",
            MultipartRequest::TableFeatures { .. } => "OFPST_TABLE_FEATURES request",
            MultipartRequest::PortDesc => "OFPST_PORT_DESC request",
            MultipartRequest::FlowMonitor(_) => "ONFST_FLOW_MONITOR request",
            MultipartRequest::Unknown { .. } => return None,
        },
        Message::MultipartReply(reply) => match reply.body {
            MultipartBody::Desc(_) => "OFPST_DESC reply",
            MultipartBody::Flow(_) => "OFPST_FLOW reply",
            MultipartBody::Aggregate(_) => "OFPST_AGGREGATE reply",
            MultipartBody::Table(_) => "OFPST_TABLE reply",
            MultipartBody::Port(_) => "OFPST_PORT reply",
            MultipartBody::Queue(_) => "OFPST_QUEUE reply",
            MultipartBody::Group(_) => "OFPST_GROUP reply",
            MultipartBody::GroupDesc(_) => "OFPST_GROUP_DESC reply",
            MultipartBody::GroupFeatures(_) => "OFPST_GROUP_FEATURES reply",
            MultipartBody::Meter(_) => "OFPST_METER reply",
            MultipartBody::MeterConfig(_) => "OFPST_METER_CONFIG reply",
            MultipartBody::MeterFeatures(_) => "OFPST_METER_FEATURES reply",
            MultipartBody::TableFeatures(_) => "OFPST_TABLE_FEATURES reply",
            MultipartBody::PortDesc(_) => "OFPST_PORT_DESC reply",
            MultipartBody::FlowMonitor(_) => "ONFST_FLOW_MONITOR reply",
            MultipartBody::Unknown { .. } => return None,
        },
        Message::BarrierRequest => "OFPT_BARRIER_REQUEST",
        Message::BarrierReply => "OFPT_BARRIER_REPLY",
        Message::QueueGetConfigRequest(_) => "OFPT_QUEUE_GET_CONFIG_REQUEST",
        Message::QueueGetConfigReply(_) => "OFPT_QUEUE_GET_CONFIG_REPLY",
        Message::RoleRequest(_) => "OFPT_ROLE_REQUEST",
        Message::RoleReply(_) => "OFPT_ROLE_REPLY",
        Message::GetAsyncRequest => "OFPT_GET_ASYNC_REQUEST",
        Message::GetAsyncReply(_) => "OFPT_GET_ASYNC_REPLY",
        Message::SetAsync(_) => "OFPT_SET_ASYNC",
        Message::MeterMod(_) => "OFPT_METER_MOD",
        Message::SetPacketInFormat(_) => "NXT_SET_PACKET_IN_FORMAT",
        Message::NxtPacketIn(_) => "NXT_PACKET_IN",
        Message::SetAsyncConfig(_) => "NXT_SET_ASYNC_CONFIG",
        Message::SetControllerId(_) => "NXT_SET_CONTROLLER_ID",
        Message::TlvTableMod(_) => "NXT_TLV_TABLE_MOD",
        Message::TlvTableRequest => "NXT_TLV_TABLE_REQUEST",
        Message::TlvTableReply(_) => "NXT_TLV_TABLE_REPLY",
        Message::SetAsyncConfig2(_) => "NXT_SET_ASYNC_CONFIG2",
        Message::Resume(_) => "NXT_RESUME",
        Message::CtFlushZone(_) => "NXT_CT_FLUSH_ZONE",
        Message::PacketIn2(_) => "NXT_PACKET_IN2",
        Message::CtFlush(_) => "NXT_CT_FLUSH",
        Message::FlowMonitorCancel(_) => "ONFT_FLOW_MONITOR_CANCEL",
        Message::FlowMonitorPaused => "ONFT_FLOW_MONITOR_PAUSED",
        Message::FlowMonitorResumed => "ONFT_FLOW_MONITOR_RESUMED",
        Message::RoleStatus(_) => "ONFT_ROLE_STATUS",
        Message::RequestForward(_) => "ONFT_REQUESTFORWARD",
        Message::BundleControl(_) => "ONFT_BUNDLE_CONTROL",
        Message::BundleAdd(_) => "ONFT_BUNDLE_ADD_MESSAGE",
        Message::Experimenter { .. } | Message::Unknown { .. } => return None,
    })
}

fn write_header(out: &mut String, name: &str, version: u8, xid: u32) -> fmt::Result {
    match version {
        1 => write!(out, "{name} (xid={xid:#x}):"),
        2..=6 => write!(out, "{name} (OF1.{}) (xid={xid:#x}):", version - 1),
        _ => write!(out, "{name} (OF {version:#04x}) (xid={xid:#x}):"),
    }
}

fn show(out: &mut String, xid: u32, message: &Message, names: &Names) -> fmt::Result {
    let Some(name) = message_name(message) else {
        let mut bytes = bytes::BytesMut::new();
        // What was decoded encodes; what was made by hand and does not is shown without its bytes.
        let _ = message.encode(xid, &mut bytes);
        let unknown = |experimenter| match experimenter {
            crate::types::NX | crate::types::ONF => "OFPBRC_BAD_SUBTYPE",
            _ => "OFPBRC_BAD_VENDOR",
        };
        let error = match message {
            Message::Experimenter { experimenter, .. } => unknown(*experimenter),
            Message::MultipartRequest(_) | Message::MultipartReply(_) => {
                let experimenter = bytes.get(16..20).and_then(|b| b.try_into().ok());
                match (bytes.get(8..10), experimenter.map(u32::from_be_bytes)) {
                    (Some([0xff, 0xff]), Some(experimenter)) => unknown(experimenter),
                    _ => "OFPBRC_BAD_STAT",
                }
            }
            _ => "OFPBRC_BAD_TYPE",
        };
        writeln!(out, "***decode error: {error}***")?;
        return write_dump(out, &bytes, true);
    };
    let version = match message {
        Message::Hello(hello) => hello.version,
        _ => VERSION,
    };
    write_header(out, name, version, xid)?;
    match message {
        Message::Hello(hello) => small::hello(out, hello),
        Message::Error(error) => small::error(out, error, names),
        Message::EchoRequest(bytes) | Message::EchoReply(bytes) => {
            writeln!(out, " {} bytes of payload", bytes.len())?;
            write_dump(out, bytes, true)
        }
        Message::FeaturesReply(features) => small::features(out, features),
        Message::GetConfigReply(config) | Message::SetConfig(config) => small::config(out, config),
        Message::PacketIn(packet) => packet::packet_in(out, packet, names),
        Message::NxtPacketIn(packet) => packet::nxt_packet_in(out, packet, names),
        Message::PacketIn2(packet) | Message::Resume(packet) => {
            packet::packet_in2(out, packet, names)
        }
        Message::PacketOut(packet) => packet::packet_out(out, packet, names),
        Message::FlowRemoved(removed) => flow::removed(out, removed, names),
        Message::PortStatus(status) => port::status(out, status, names),
        Message::FlowMod(flow_mod) => flow::flow_mod(out, flow_mod, names),
        Message::GroupMod(group_mod) => group::group_mod(out, group_mod, names),
        Message::PortMod(port_mod) => port::port_mod(out, port_mod, names),
        Message::TableMod(table_mod) => small::table_mod(out, table_mod, names),
        Message::MultipartRequest(request) => show_request(out, request, names),
        Message::MultipartReply(reply) => show_reply(out, reply, names),
        Message::QueueGetConfigRequest(port) => {
            out.push_str(" port=");
            names.write_port(out, *port)
        }
        Message::QueueGetConfigReply(reply) => small::queue_config(out, reply, names),
        Message::RoleRequest(role) => {
            small::role(out, role, role.role != 0 && role.generation_id != u64::MAX)
        }
        Message::RoleReply(role) => small::role(out, role, role.generation_id != u64::MAX),
        Message::RoleStatus(status) => small::role_status(out, status),
        Message::GetAsyncReply(config)
        | Message::SetAsync(config)
        | Message::SetAsyncConfig(config) => small::async_config(out, config),
        Message::SetAsyncConfig2(config) => small::async_config2(out, config),
        Message::MeterMod(meter_mod) => meter::meter_mod(out, meter_mod),
        Message::SetPacketInFormat(format) => match format {
            0 => write!(out, " format=standard"),
            1 => write!(out, " format=nxt_packet_in"),
            2 => write!(out, " format=nxt_packet_in2"),
            other => write!(out, " format={other}"),
        },
        Message::SetControllerId(id) => write!(out, " id={id}"),
        Message::CtFlushZone(zone) => write!(out, " zone_id={zone}"),
        Message::CtFlush(flush) => small::ct_flush(out, flush),
        Message::TlvTableMod(table_mod) => small::tlv_table_mod(out, table_mod),
        Message::TlvTableReply(reply) => small::tlv_table_reply(out, reply),
        Message::FlowMonitorCancel(id) => write!(out, " id={id}"),
        Message::RequestForward(forward) => small::requestforward(out, forward, names),
        Message::BundleControl(control) => small::bundle_control(out, control),
        Message::BundleAdd(add) => show_bundle_add(out, add, names),
        Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::BarrierRequest
        | Message::BarrierReply
        | Message::GetAsyncRequest
        | Message::TlvTableRequest
        | Message::FlowMonitorPaused
        | Message::FlowMonitorResumed
        | Message::Experimenter { .. }
        | Message::Unknown { .. } => Ok(()),
    }
}

fn write_multipart_flags(out: &mut String, flags: u16) -> fmt::Result {
    if flags == 0 {
        return Ok(());
    }
    out.push_str(" flags=");
    if flags & 1 != 0 {
        out.push_str("[more]");
    }
    match flags & !1 {
        0 => Ok(()),
        unknown => write!(out, "[***unknown flags {unknown:#06x}***]"),
    }
}

fn show_request(out: &mut String, request: &MultipartRequest, names: &Names) -> fmt::Result {
    match request {
        MultipartRequest::Flow(request) | MultipartRequest::Aggregate(request) => {
            flow::stats_request(out, request, names)
        }
        MultipartRequest::Port(port) => {
            out.push_str(" port_no=");
            names.write_port(out, *port)
        }
        MultipartRequest::Queue { port, queue } => {
            out.push_str(" port=");
            names.write_port(out, *port)?;
            out.push_str(" queue=");
            stats::write_queue(out, *queue)
        }
        MultipartRequest::Group(group) => {
            out.push_str(" group_id=");
            group::write_group(out, *group)
        }
        // Before OpenFlow 1.5 these always ask for all.
        MultipartRequest::GroupDesc => write!(out, " group_id=ALL"),
        MultipartRequest::PortDesc => write!(out, " port=ANY"),
        MultipartRequest::Meter(meter) | MultipartRequest::MeterConfig(meter) => {
            out.push_str(" meter=");
            meter::write_meter(out, *meter)
        }
        MultipartRequest::TableFeatures { flags, tables } => {
            write_multipart_flags(out, *flags)?;
            table_features::show(out, tables, names)
        }
        MultipartRequest::FlowMonitor(requests) => {
            requests.iter().try_for_each(|request| flow::monitor_request(out, request, names))
        }
        MultipartRequest::Desc
        | MultipartRequest::Table
        | MultipartRequest::GroupFeatures
        | MultipartRequest::MeterFeatures
        | MultipartRequest::Unknown { .. } => Ok(()),
    }
}

fn show_reply(out: &mut String, reply: &MultipartReply, names: &Names) -> fmt::Result {
    write_multipart_flags(out, reply.flags)?;
    match &reply.body {
        MultipartBody::Desc(desc) => stats::desc(out, desc),
        MultipartBody::Flow(flows) => {
            flows.iter().try_for_each(|flow| write!(out, "\n {}", super::flow(flow, names)))
        }
        MultipartBody::Aggregate(total) => write!(
            out,
            " packet_count={} byte_count={} flow_count={}",
            total.packets, total.bytes, total.flows
        ),
        MultipartBody::Table(tables) => stats::tables(out, tables, names),
        MultipartBody::Port(ports) => port::stats(out, ports, names),
        MultipartBody::Queue(queues) => stats::queues(out, queues, names),
        MultipartBody::Group(groups) => group::stats(out, groups),
        MultipartBody::GroupDesc(groups) => {
            groups.iter().try_for_each(|desc| group::desc(out, desc, names))
        }
        MultipartBody::GroupFeatures(features) => group::features(out, features),
        MultipartBody::Meter(meters) => meter::stats(out, meters),
        MultipartBody::MeterConfig(meters) => meters.iter().try_for_each(|config| {
            out.push('\n');
            meter::config(out, config.meter, config.flags, &config.bands)?;
            out.push('\n');
            Ok(())
        }),
        MultipartBody::MeterFeatures(features) => meter::features(out, features),
        MultipartBody::TableFeatures(tables) => table_features::show(out, tables, names),
        MultipartBody::PortDesc(ports) => {
            out.push('\n');
            // Sorted by the 16 bits of a port in OVS.
            let mut sorted: Vec<&PortDesc> = ports.iter().collect();
            sorted.sort_by_key(|port| port.port & 0xffff);
            sorted.into_iter().try_for_each(|port| port::desc(out, port, names))
        }
        MultipartBody::FlowMonitor(updates) => {
            updates.iter().try_for_each(|update| flow::update(out, update, names))
        }
        MultipartBody::Unknown { .. } => Ok(()),
    }
}

fn show_bundle_add(out: &mut String, add: &BundleAdd, names: &Names) -> fmt::Result {
    write!(out, "\n bundle_id={}", CHex(add.bundle_id))?;
    out.push_str(" flags=");
    small::bundle_flags(out, add.flags)?;
    out.push('\n');
    inner(out, &add.message, names)
}

/// A message inside another one, as far as there is one.
fn inner(out: &mut String, bytes: &Bytes, names: &Names) -> fmt::Result {
    let Some(head) = bytes.first_chunk::<{ Header::LEN }>() else {
        if bytes.is_empty() {
            return writeln!(out, "OpenFlow message is empty");
        }
        writeln!(out, "OpenFlow packet too short (only {} bytes):", bytes.len())?;
        return write_dump(out, bytes, true);
    };
    let [version, _, l0, l1, x0, x1, x2, x3] = *head;
    let (length, xid) = (u16::from_be_bytes([l0, l1]), u32::from_be_bytes([x0, x1, x2, x3]));
    let had = bytes.len();
    if usize::from(length) > had {
        if let Some(name) = partial_name(bytes) {
            write_header(out, name, version, xid)?;
            out.push('\n');
        }
        writeln!(out, "(***truncated to {had} bytes from {length}***)")?;
        return write_dump(out, bytes, true);
    }
    if usize::from(length) < had {
        writeln!(out, "(***only uses {length} bytes out of {had}***)")?;
        return write_dump(out, bytes, true);
    }
    match Message::decode(bytes) {
        Ok((xid, decoded)) => {
            out.push_str(&message(xid, &decoded, names));
            Ok(())
        }
        Err(error) => {
            if let Some(name) = partial_name(bytes) {
                write_header(out, name, version, xid)?;
                out.push(' ');
            }
            writeln!(out, "***decode error: {error}***")?;
            write_dump(out, bytes, true)
        }
    }
}

/// The name of a message of which only the beginning is there, if that says it.
fn partial_name(bytes: &Bytes) -> Option<&'static str> {
    let byte = |at: usize| bytes.get(at).copied();
    let u32_at = |at: usize| {
        let slice = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(slice.try_into().ok()?))
    };
    if byte(0)? != VERSION {
        return None;
    }
    Some(match byte(1)? {
        0 => "OFPT_HELLO",
        1 => "OFPT_ERROR",
        2 => "OFPT_ECHO_REQUEST",
        3 => "OFPT_ECHO_REPLY",
        4 => match (u32_at(8)?, u32_at(12)?) {
            (crate::types::NX, typ) => match typ {
                16 => "NXT_SET_PACKET_IN_FORMAT",
                17 => "NXT_PACKET_IN",
                19 => "NXT_SET_ASYNC_CONFIG",
                20 => "NXT_SET_CONTROLLER_ID",
                24 => "NXT_TLV_TABLE_MOD",
                25 => "NXT_TLV_TABLE_REQUEST",
                26 => "NXT_TLV_TABLE_REPLY",
                27 => "NXT_SET_ASYNC_CONFIG2",
                28 => "NXT_RESUME",
                29 => "NXT_CT_FLUSH_ZONE",
                30 => "NXT_PACKET_IN2",
                32 => "NXT_CT_FLUSH",
                _ => return None,
            },
            (crate::types::ONF, typ) => match typ {
                1870 => "ONFT_FLOW_MONITOR_CANCEL",
                1871 => "ONFT_FLOW_MONITOR_PAUSED",
                1872 => "ONFT_FLOW_MONITOR_RESUMED",
                1911 => "ONFT_ROLE_STATUS",
                2300 => "ONFT_BUNDLE_CONTROL",
                2301 => "ONFT_BUNDLE_ADD_MESSAGE",
                2350 => "ONFT_REQUESTFORWARD",
                _ => return None,
            },
            _ => return None,
        },
        5 => "OFPT_FEATURES_REQUEST",
        6 => "OFPT_FEATURES_REPLY",
        7 => "OFPT_GET_CONFIG_REQUEST",
        8 => "OFPT_GET_CONFIG_REPLY",
        9 => "OFPT_SET_CONFIG",
        10 => "OFPT_PACKET_IN",
        11 => "OFPT_FLOW_REMOVED",
        12 => "OFPT_PORT_STATUS",
        13 => "OFPT_PACKET_OUT",
        14 => "OFPT_FLOW_MOD",
        15 => "OFPT_GROUP_MOD",
        16 => "OFPT_PORT_MOD",
        17 => "OFPT_TABLE_MOD",
        typ @ (18 | 19) => {
            let names = match (byte(8)?, byte(9)?, byte(15)?) {
                (0, 0, _) => ["OFPST_DESC request", "OFPST_DESC reply"],
                (0, 1, _) => ["OFPST_FLOW request", "OFPST_FLOW reply"],
                (0, 2, _) => ["OFPST_AGGREGATE request", "OFPST_AGGREGATE reply"],
                (0, 3, _) => ["OFPST_TABLE request", "OFPST_TABLE reply"],
                (0, 4, _) => ["OFPST_PORT request", "OFPST_PORT reply"],
                (0, 5, _) => ["OFPST_QUEUE request", "OFPST_QUEUE reply"],
                (0, 6, _) => ["OFPST_GROUP request", "OFPST_GROUP reply"],
                (0, 7, _) => ["OFPST_GROUP_DESC request", "OFPST_GROUP_DESC reply"],
                (0, 8, _) => ["OFPST_GROUP_FEATURES request", "OFPST_GROUP_FEATURES reply"],
                (0, 9, _) => ["OFPST_METER request", "OFPST_METER reply"],
                (0, 10, _) => ["OFPST_METER_CONFIG request", "OFPST_METER_CONFIG reply"],
                (0, 11, _) => ["OFPST_METER_FEATURES request", "OFPST_METER_FEATURES reply"],
                (0, 12, _) => ["OFPST_TABLE_FEATURES request", "OFPST_TABLE_FEATURES reply"],
                (0, 13, _) => ["OFPST_PORT_DESC request", "OFPST_PORT_DESC reply"],
                (0xff, 0xff, _) if u32_at(16)? == crate::types::ONF && u32_at(20)? == 1870 => {
                    ["ONFST_FLOW_MONITOR request", "ONFST_FLOW_MONITOR reply"]
                }
                _ => return None,
            };
            let [request, reply] = names;
            if typ == 18 { request } else { reply }
        }
        20 => "OFPT_BARRIER_REQUEST",
        21 => "OFPT_BARRIER_REPLY",
        22 => "OFPT_QUEUE_GET_CONFIG_REQUEST",
        23 => "OFPT_QUEUE_GET_CONFIG_REPLY",
        24 => "OFPT_ROLE_REQUEST",
        25 => "OFPT_ROLE_REPLY",
        26 => "OFPT_GET_ASYNC_REQUEST",
        27 => "OFPT_GET_ASYNC_REPLY",
        28 => "OFPT_SET_ASYNC",
        29 => "OFPT_METER_MOD",
        _ => return None,
    })
}

/// Bytes sixteen to a line: offset, hex with a dash in the middle, what can be printed of them.
fn write_dump(out: &mut String, bytes: &[u8], ascii: bool) -> fmt::Result {
    for (n, line) in bytes.chunks(16).enumerate() {
        write!(out, "{:08x}  ", n * 16)?;
        for at in 0..16 {
            match line.get(at) {
                Some(byte) => write!(out, "{byte:02x}")?,
                None => out.push_str("  "),
            }
            match at {
                7 if line.len() >= 8 => out.push('-'),
                15 => {}
                _ => out.push(' '),
            }
        }
        if ascii {
            out.push_str(" |");
            for at in 0..16 {
                out.push(match line.get(at) {
                    Some(byte) if (0x20..0x7f).contains(byte) => char::from(*byte),
                    Some(_) => '.',
                    None => ' ',
                });
            }
            out.push('|');
        }
        out.push('\n');
    }
    Ok(())
}

/// Names of bits, `separator` between; those without a name in hex; 0 for none.
fn write_bits(
    out: &mut String,
    bits: u32,
    name: impl Fn(u32) -> Option<&'static str>,
    separator: char,
) -> fmt::Result {
    if bits == 0 {
        out.push('0');
        return Ok(());
    }
    let (mut rest, mut any) = (bits, false);
    for bit in (0..32).map(|n| 1_u32 << n).filter(|bit| bits & bit != 0) {
        if let Some(name) = name(bit) {
            if any {
                out.push(separator);
            }
            any = true;
            out.push_str(name);
            rest &= !bit;
        }
    }
    if rest == 0 {
        return Ok(());
    }
    if any {
        out.push(separator);
    }
    write!(out, "{rest:#x}")
}

/// Seconds: three decimals if they say all, else as many as it takes, none if there are none.
fn write_duration(out: &mut String, sec: u32, nsec: u32) -> fmt::Result {
    match nsec {
        0 => write!(out, "{sec}s"),
        _ if nsec.is_multiple_of(1_000_000) => write!(out, "{sec}.{:03}s", nsec / 1_000_000),
        _ => {
            let digits = format!("{nsec:09}");
            write!(out, "{sec}.{}s", digits.trim_end_matches('0'))
        }
    }
}

/// A number as C's `%#x` does: zero without a prefix.
struct CHex(u32);

impl fmt::Display for CHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

/// Text of a fixed array up to its first zero byte; bytes that are no UTF-8 as they come out lossy.
fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    crate::port_status::text(bytes)
}
