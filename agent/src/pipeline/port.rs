//! The flows of one workload port whose endpoint is known: classification, spoof guard, delivery guard.

use std::net::{IpAddr, Ipv6Addr};

use rust_openflow::{Field, Match};

use super::base::{ct_state, of_this_link, state};
use super::cookie::{Cookie, Kind, Stage};
use super::{FlowPair, families, family, flow, full, load, mac_value, regs, table};

/// A workload port and the addresses that belong to it.
pub struct PortSpec<'a> {
    pub ofport: u32,
    pub mac: Option<[u8; 6]>,
    pub addresses: &'a [IpAddr],
}

/// A workload port whose endpoint is not known: it sends nothing, as the Classifier does not name it, and unicast to its
/// MAC address, which the bridge may have learned before, stops here (NP-42).
pub fn closed(mac: [u8; 6]) -> FlowPair {
    flow(
        table::FORWARD,
        200,
        Match::new().with(Field::EthDst, mac_value(mac)),
        Cookie::base(0),
        vec![],
        None,
    )
}

/// The link-local address that a MAC address makes (RFC 4291, appendix A).
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// All flows of the port.
pub fn flows(port: &PortSpec<'_>) -> Vec<FlowPair> {
    let mut out = Vec::new();
    let from = |m: Match| {
        let m = m.with(Field::InPort, u128::from(port.ofport));
        match port.mac {
            Some(mac) => m.with(Field::EthSrc, mac_value(mac)),
            None => m,
        }
    };
    let guard = Cookie::encode(Kind::SpoofGuard, Stage::NONE, 0);

    out.push(flow(
        table::CLASSIFIER,
        200,
        Match::new().with(Field::InPort, u128::from(port.ofport)),
        Cookie::base(0),
        vec![load(&regs::ORIGIN, regs::origin::WORKLOAD)],
        Some(table::SPOOF_GUARD),
    ));
    // whatever the port sends that no flow below knows (NP-40); counted apart from policy drops
    out.push(flow(
        table::SPOOF_GUARD,
        100,
        Match::new().with(Field::InPort, u128::from(port.ofport)),
        guard,
        vec![],
        None,
    ));

    let allow = |m: Match, goto: u8| flow(table::SPOOF_GUARD, 200, m, guard, vec![], Some(goto));
    // above what an address of its own may send, and above the drop of all other neighbour discovery
    let discover = |m: Match| flow(table::SPOOF_GUARD, 210, m, guard, vec![], Some(table::OUTPUT));
    for a in port.addresses {
        out.push(allow(from(family(*a)).nw_src(*a, full(*a)), table::CONNTRACK));
        if let IpAddr::V4(v4) = a {
            out.push(allow(arp(from(Match::arp()), u32::from(*v4), port.mac), table::OUTPUT));
        }
    }
    if port.addresses.iter().any(IpAddr::is_ipv4) {
        // duplicate address detection: a request that claims nothing
        let probe = arp(from(Match::arp()), 0, port.mac).with(Field::ArpOp, 1);
        out.push(allow(probe, table::OUTPUT));
    }
    for m in neighbour_discovery(port) {
        out.push(discover(from(m)));
    }
    out.extend(delivery(port));
    out.extend(port.addresses.iter().flat_map(|a| related(port.ofport, *a)));
    out
}

/// ICMP errors that the port may send: about connections that one of its own addresses has an end of (NP-37). Others
/// would be a way around its egress rules, as an error carries what its sender likes.
fn related(ofport: u32, address: IpAddr) -> [FlowPair; 2] {
    let (src, dst) = match address {
        IpAddr::V4(_) => (Field::CtNwSrc, Field::CtNwDst),
        IpAddr::V6(_) => (Field::CtIpv6Src, Field::CtIpv6Dst),
    };
    [src, dst].map(|end| {
        let m = state(family(address), ct_state::REL | ct_state::TRK);
        let m = m.with(Field::InPort, u128::from(ofport)).with(end, address_value(address));
        flow(table::CONNTRACK_STATE, 230, m, Cookie::base(0), vec![], Some(table::FORWARD))
    })
}

fn address_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn arp(m: Match, sender: u32, mac: Option<[u8; 6]>) -> Match {
    let m = m.with(Field::ArpSpa, u128::from(sender));
    match mac {
        Some(mac) => m.with(Field::ArpSha, mac_value(mac)),
        None => m,
    }
}

/// Neighbour discovery and listener reports that the port may send (NP-39, NP-40): solicitations from its own addresses
/// (or none, for duplicate address detection), advertisements of its own addresses, router solicitations, listener
/// reports. Router advertisements and redirects are not among them.
fn neighbour_discovery(port: &PortSpec<'_>) -> Vec<Match> {
    let mut own: Vec<Ipv6Addr> = port
        .addresses
        .iter()
        .filter_map(|a| match a {
            IpAddr::V6(a) => Some(*a),
            IpAddr::V4(_) => None,
        })
        .collect();
    if own.is_empty() {
        return Vec::new();
    }
    let link_local = port.mac.map(link_local);
    own.extend(link_local);
    // the link-layer option names the port's own MAC or is not there (OVS reads a missing one as zero)
    let options: Vec<Option<u128>> = match port.mac {
        Some(mac) => vec![Some(mac_value(mac)), Some(0)],
        None => vec![None],
    };
    let icmp = |kind: u128| of_this_link(kind).with(Field::Icmpv6Code, 0);
    let src = |m: Match, a: Ipv6Addr| m.nw_src(IpAddr::V6(a), 128);
    let with = |m: Match, field: Field, option: Option<u128>| match option {
        Some(value) => m.with(field, value),
        None => m,
    };
    let mut out = Vec::new();
    for a in &own {
        for option in &options {
            out.push(with(src(icmp(135), *a), Field::NdSll, *option));
            let target = src(icmp(136), *a).with(Field::NdTarget, u128::from(*a));
            out.push(with(target, Field::NdTll, *option));
        }
        out.push(src(icmp(133), *a));
    }
    let none = Ipv6Addr::UNSPECIFIED;
    out.push(with(src(icmp(135), none), Field::NdSll, port.mac.map(|_| 0)));
    out.push(src(icmp(133), none));
    for kind in [131, 132, 143] {
        // to the group; addressed to a station it would be a way around the rules
        let group = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
        let report = of_this_link(kind).ipv6_dst(group, 8);
        out.extend(link_local.map(|a| src(report.clone(), a)));
        out.push(src(report, none));
    }
    out
}

/// Packets that carry the port's MAC address must carry one of its IP addresses: otherwise a packet addressed to one
/// workload, and judged by its rules, could be switched to another.
fn delivery(port: &PortSpec<'_>) -> Vec<FlowPair> {
    let Some(mac) = port.mac else {
        return Vec::new();
    };
    let to = |m: Match| m.with(Field::EthDst, mac_value(mac));
    let mut out = Vec::new();
    for a in port.addresses {
        out.push(flow(
            table::FORWARD,
            200,
            to(family(*a)).nw_dst(*a, full(*a)),
            Cookie::base(0),
            vec![],
            Some(table::OUTPUT),
        ));
    }
    for m in families() {
        out.push(flow(
            table::FORWARD,
            150,
            to(m),
            Cookie::encode(Kind::SpoofGuard, Stage::NONE, 0),
            vec![],
            None,
        ));
    }
    out
}
