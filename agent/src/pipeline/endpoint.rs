//! The flows of one endpoint address: class of the source, class of the destination.

use std::net::IpAddr;

use rust_openflow::{Field, Instruction, Match};

use super::cookie::Cookie;
use super::{FlowPair, family, flow, full, load, regs, table};
use crate::flow::{FlowKey, FlowTable, FlowValue};

/// One address of an endpoint.
///
/// `local`: the endpoint runs on this node; `own` are all addresses of the endpoint then.
pub fn flows(address: IpAddr, class: u32, local: bool, own: &[IpAddr]) -> Vec<FlowPair> {
    let here = |m: Match| m.nw_dst(address, full(address));
    let mut from = vec![load(&regs::SRC_CLASS, class)];
    if local {
        from.push(load(&regs::SRC_LOCAL, 1));
    }
    let mut out = vec![flow(
        table::SRC_CLASS,
        100,
        family(address).nw_src(address, full(address)),
        Cookie::base(class),
        from,
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

/// What the flows of an address say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub class: u32,
    /// A workload of this node has it.
    pub local: bool,
}

/// Looks an address up among [`flows`]; none if no workload has it.
pub fn look_up(flows: &FlowTable, address: IpAddr) -> Option<Found> {
    let match_ = family(address).nw_src(address, full(address));
    let value = flows.get(&FlowKey { table: table::SRC_CLASS, priority: 100, match_ })?;
    let here = load(&regs::SRC_LOCAL, 1);
    let local = value.instructions.iter().any(|i| match i {
        Instruction::ApplyActions(actions) => actions.contains(&here),
        _ => false,
    });
    Some(Found { class: Cookie::read(value.cookie)?.id, local })
}

/// Both are addresses of one workload of this node.
pub fn is_self(flows: &FlowTable, src: IpAddr, dst: IpAddr) -> bool {
    let m = family(dst).nw_dst(dst, full(dst)).nw_src(src, full(src));
    let match_ = regs::ORIGIN_HERE.matches(m, 1);
    src.is_ipv4() == dst.is_ipv4()
        && flows.contains_key(&FlowKey { table: table::DST_CLASS, priority: 110, match_ })
}

/// The class number that a [`flows`] source flow holds, and its address: how numbers are read back after a restart.
pub fn read_source(key: &FlowKey, value: &FlowValue) -> Option<(IpAddr, u32)> {
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
