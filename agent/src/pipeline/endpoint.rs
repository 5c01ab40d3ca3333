//! The flows of one endpoint address: class of the source, class of the destination.

use std::net::IpAddr;

use rust_openflow::{Action, Field, Match};

use super::cookie::Cookie;
use super::{FlowPair, family, flow, full, load, regs, table};

/// One address of an endpoint.
///
/// `local`: the endpoint runs on this node; `own` are all addresses of the endpoint then.
pub fn flows(address: IpAddr, class: u32, local: bool, own: &[IpAddr]) -> Vec<FlowPair> {
    let here = |m: Match| m.nw_dst(address, full(address));
    let mut out = vec![flow(
        table::SRC_CLASS,
        100,
        family(address).nw_src(address, full(address)),
        Cookie::base(class),
        vec![load(&regs::SRC_CLASS, class)],
        Some(table::DST_CLASS),
    )];
    let mut to = vec![load(&regs::DST_CLASS, class)];
    if local {
        to.push(load(&regs::DST_LOCAL, 1));
    }
    out.push(flow(
        table::DST_CLASS,
        100,
        here(family(address)),
        Cookie::base(class),
        to.clone(),
        Some(table::EGRESS_ADMIN),
    ));
    if local {
        // a workload that reaches itself through a Service (NP-36); what claims to do so from an uplink does not
        to.push(load(&regs::SELF_TRAFFIC, 1));
        for source in own.iter().filter(|a| a.is_ipv4() == address.is_ipv4()) {
            out.push(flow(
                table::DST_CLASS,
                110,
                regs::ORIGIN_HERE.matches(here(family(address)).nw_src(*source, full(*source)), 1),
                Cookie::base(class),
                to.clone(),
                Some(table::EGRESS_ADMIN),
            ));
        }
    }
    out
}

/// The class number that a [`flows`] source flow holds, and its address: how numbers are read back after a restart.
pub fn read_source(
    key: &crate::flow::FlowKey,
    value: &crate::flow::FlowValue,
) -> Option<(IpAddr, u32)> {
    if key.table != table::SRC_CLASS || key.priority != 100 {
        return None;
    }
    let class = Cookie::read(value.cookie)?.id;
    let exact =
        |f: Field| key.match_.field(f).filter(|m| m.mask == f.exact_mask()).map(|m| m.value);
    let address = match exact(Field::Ipv4Src) {
        Some(v) => IpAddr::V4(u32::try_from(v).ok()?.into()),
        None => IpAddr::V6(exact(Field::Ipv6Src)?.into()),
    };
    (class != 0).then_some((address, class))
}

/// IP multicast and broadcast reach only these ports: the node's, the uplinks, and workloads that nothing isolates for
/// ingress. `NORMAL` would flood them into isolated workloads too. Neighbour discovery does not come this way.
pub fn multicast(ports: &[u32]) -> Vec<FlowPair> {
    let group_bit = 0x0100_0000_0000_u128;
    super::families()
        .into_iter()
        .map(|m| {
            let actions =
                ports.iter().map(|p| Action::Output { port: *p, max_len: 0 }).collect::<Vec<_>>();
            flow(
                table::FORWARD,
                190,
                m.with_masked(Field::EthDst, group_bit, group_bit),
                Cookie::base(0),
                actions,
                None,
            )
        })
        .collect()
}
