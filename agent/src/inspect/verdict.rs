//! What the switch would do with the first packet of a connection: its own flows, dumped now and followed as OVS
//! follows them.
//!
//! The port a packet enters by, and the MAC addresses it bears, are read off the same dump, so that the answer speaks of
//! the switch alone and not of what the agent believes.

use std::collections::HashMap;
use std::net::IpAddr;

use rust_openflow::{Action, Field, FieldMatch, FlowStats, Instruction};
use serde::Serialize;

use crate::flow::{FlowKey, FlowTable, FlowValue};
use crate::interp::{Interpreter, Packet, Tracked};
use crate::pipeline::cookie::{Cookie, Kind};
use crate::pipeline::regs::{self, origin};
use crate::pipeline::table;

/// A connection that is asked about: `verdict SRC DST PROTOCOL PORT`, the protocol as a number, port 0 where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub port: u16,
}

impl Connection {
    /// Reads what follows `verdict`; none if it is no connection.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let connection = Self {
            src: words.next()?.parse().ok()?,
            dst: words.next()?.parse().ok()?,
            protocol: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
        };
        let one_family = connection.src.is_ipv4() == connection.dst.is_ipv4();
        (words.next().is_none() && one_family).then_some(connection)
    }
}

/// The flow that decided in one table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    table: String,
    priority: u16,
    cookie: String,
    /// Units: packets, of the flow and not of this connection.
    packets: u64,
    /// How long the flow has been there. Units: seconds.
    age: u32,
}

/// The answer, as JSON.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The state of the agent, as its controller counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub passes: bool,
    /// Where the packet came in: `workload`, `uplink` or `gateway`.
    origin: &'static str,
    pub path: Vec<Step>,
}

/// Follows the first packet of `connection`; none where the switch has no port that it could come from.
pub fn follow(dump: Vec<FlowStats>, connection: Connection) -> Option<Verdict> {
    let mut numbers = HashMap::new();
    let mut flows = FlowTable::new();
    for flow in dump {
        let key = FlowKey { table: flow.table, priority: flow.priority, match_: flow.match_ };
        numbers.insert(key.clone(), (flow.packets, flow.duration_sec));
        let value = FlowValue { cookie: flow.cookie, instructions: flow.instructions };
        flows.insert(key, value);
    }
    let (origin, packet) = packet(&flows, connection)?;
    let outcome = Interpreter::new(&flows).run(packet, Tracked::NEW);
    let step = |key: &FlowKey| {
        let (packets, age) = numbers.get(key).copied().unwrap_or_default();
        let cookie = flows.get(key).map_or(0, |value| value.cookie);
        Step {
            table: table::name(key.table),
            priority: key.priority,
            cookie: format!("{cookie:#x}"),
            packets,
            age,
        }
    };
    let path = outcome.path.iter().map(step).collect();
    Some(Verdict { revision: None, passes: outcome.passed(), origin, path })
}

/// The first packet of the connection as it would come in.
fn packet(flows: &FlowTable, c: Connection) -> Option<(&'static str, Packet)> {
    let (origin, in_port, eth_src) = entry(flows, c.src)?;
    let mut packet = Packet::new(in_port);
    if let Some(mac) = eth_src {
        packet = packet.with(Field::EthSrc, mac);
    }
    if let Some(mac) = delivery(flows, c.dst) {
        packet = packet.with(Field::EthDst, mac);
    }
    let packet = packet.ip(c.src, c.dst, c.protocol).ports(c.protocol, EPHEMERAL, c.port);
    let packet = match c.protocol {
        1 => packet.with(Field::Icmpv4Type, 8).with(Field::Icmpv4Code, 0),
        58 => packet.with(Field::Icmpv6Type, 128).with(Field::Icmpv6Code, 0),
        _ => packet,
    };
    Some((origin, packet))
}

/// A source port; policy does not look at it.
const EPHEMERAL: u16 = 40_000;

/// The port by which packets of an address enter, and the MAC address that they bear where that is checked.
fn entry(flows: &FlowTable, src: IpAddr) -> Option<(&'static str, u32, Option<u128>)> {
    let in_port = |key: &FlowKey| key.match_.exact(Field::InPort).and_then(|p| p.try_into().ok());
    let from_src = |key: &FlowKey| key.match_.exact(address_field(src, true)) == Some(bits(src));
    let kind = |value: &FlowValue| Cookie::read(value.cookie).map(|c| c.kind);
    let guard = flows.iter().find(|(key, value)| {
        key.table == table::SPOOF_GUARD
            && kind(value) == Some(Kind::SpoofGuard)
            && from_src(key)
            && goes_to(value, table::CONNTRACK)
    });
    if let Some((key, _)) = guard {
        return Some(("workload", in_port(key)?, key.match_.exact(Field::EthSrc)));
    }
    let own = flows.iter().find(|(key, value)| {
        key.table == table::SRC_CLASS && kind(value) == Some(Kind::AlwaysAllowed) && from_src(key)
    });
    if let Some((key, _)) = own {
        return Some(("gateway", in_port(key)?, None));
    }
    let by = |wanted: u32| {
        let classifier = flows.iter().filter(|(key, _)| key.table == table::CLASSIFIER);
        let mut ports = classifier
            .filter(move |(_, value)| loads(value, wanted))
            .filter_map(|(key, _)| in_port(key));
        ports.next()
    };
    let uplink = by(origin::UPLINK).map(|port| ("uplink", port, None));
    uplink.or_else(|| by(origin::GATEWAY).map(|port| ("gateway", port, None)))
}

/// The MAC address under which an address is delivered here.
fn delivery(flows: &FlowTable, dst: IpAddr) -> Option<u128> {
    let here = flows.keys().filter(|key| key.table == table::FORWARD);
    let mut to_dst =
        here.filter(|key| key.match_.exact(address_field(dst, false)) == Some(bits(dst)));
    to_dst.find_map(|key| key.match_.exact(Field::EthDst))
}

fn goes_to(value: &FlowValue, table: u8) -> bool {
    value.instructions.contains(&Instruction::GotoTable(table))
}

/// The flow says that its packets come from `origin`.
fn loads(value: &FlowValue, origin: u32) -> bool {
    let wanted = u128::from(origin);
    value.instructions.iter().any(|i| match i {
        Instruction::ApplyActions(actions) => actions.iter().any(|a| match a {
            Action::RegLoad { dst, offset, value, .. } => {
                *dst == Field::Reg(regs::ORIGIN.reg)
                    && *offset == regs::ORIGIN.offset
                    && u128::from(*value) == wanted
            }
            Action::SetField(FieldMatch { field, value, .. }) => {
                *field == Field::Reg(regs::ORIGIN.reg) && *value == wanted
            }
            _ => false,
        }),
        _ => false,
    })
}

const fn address_field(address: IpAddr, source: bool) -> Field {
    match (address, source) {
        (IpAddr::V4(_), true) => Field::Ipv4Src,
        (IpAddr::V4(_), false) => Field::Ipv4Dst,
        (IpAddr::V6(_), true) => Field::Ipv6Src,
        (IpAddr::V6(_), false) => Field::Ipv6Dst,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}
